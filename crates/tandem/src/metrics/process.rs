//! What the kernel says of a process: time on the processor, memory, threads, open files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::text::Exposition;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Time on the processor, in the program and in the kernel for it.
    pub cpu: Duration,
    /// Memory that is in use, in bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Files and sockets; `None`: another user's, which only root may count.
    pub open_files: Option<u64>,
    /// When it began, after 1970.
    pub started: Duration,
}

impl ProcessFigures {
    /// Looks at a process; `None`: there is none, or it is hidden.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let uptime = uptime.split(' ').next()?.parse::<f64>().ok().map(Duration::try_from_secs_f64)?.ok()?;
        let booted = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(uptime);
        let open_files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|files| files.count() as u64);
        let ticks = rustix::param::clock_ticks_per_second();
        Self::read(&stat, ticks, rustix::param::page_size() as u64, booted, open_files)
    }

    /// Reads proc_pid_stat(5). The program's name, in brackets, may hold anything.
    fn read(
        stat: &str,
        ticks_per_second: u64,
        page_bytes: u64,
        booted: Duration,
        open_files: Option<u64>,
    ) -> Option<Self> {
        // The fields behind the name begin with the third one.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let time = |ticks: u64| {
            let per_second = ticks_per_second.max(1);
            Duration::from_secs(ticks / per_second)
                + Duration::from_nanos(ticks % per_second * 1_000_000_000 / per_second)
        };
        Some(Self {
            cpu: time(field(14)?.saturating_add(field(15)?)),
            resident_bytes: field(24)?.saturating_mul(page_bytes),
            threads: field(20)?,
            open_files,
            started: booted + time(field(22)?),
        })
    }
}

/// Writes the families.
pub fn write(processes: &[(&'static str, ProcessFigures)], out: &mut Exposition) {
    let mut cpu = out.counter(
        "tandem_process_cpu_seconds_total",
        "Time that a process of this node has spent on the processor, in the kernel included.",
    );
    for (name, process) in processes {
        cpu.sample(&[("process", name)], process.cpu.as_secs_f64());
    }
    let mut memory = out.gauge("tandem_process_resident_memory_bytes", "Memory of a process that is in use.");
    for (name, process) in processes {
        memory.sample(&[("process", name)], process.resident_bytes);
    }
    let mut threads = out.gauge("tandem_process_threads", "Threads of a process.");
    for (name, process) in processes {
        threads.sample(&[("process", name)], process.threads);
    }
    let mut files = out.gauge(
        "tandem_process_open_fds",
        "Open files and sockets of a process; absent where they can not be counted.",
    );
    for (name, process) in processes {
        if let Some(open) = process.open_files {
            files.sample(&[("process", name)], open);
        }
    }
    let mut started =
        out.gauge("tandem_process_start_time_seconds", "When a process began, in seconds since 1970.");
    for (name, process) in processes {
        // Parts of a second differ from scrape to scrape, because two clocks are read.
        started.sample(&[("process", name)], (process.started + Duration::from_millis(500)).as_secs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_a_name_that_holds_brackets() {
        let stat = "77 (a) S 9 (b) S 1 2 3 4 5 6 7 8 9 10 250 130 13 14 20 0 5 0 4000 99 25 26";

        let figures = ProcessFigures::read(stat, 100, 4096, Duration::from_secs(1_000), Some(3));

        assert_eq!(
            figures,
            Some(ProcessFigures {
                cpu: Duration::from_millis(3_800),
                resident_bytes: 25 * 4096,
                threads: 5,
                open_files: Some(3),
                started: Duration::from_secs(1_040),
            })
        );
        assert_eq!(ProcessFigures::read("77 (a) S 9", 100, 4096, Duration::ZERO, None), None);
    }

    #[test]
    fn this_process_has_memory_and_has_begun_before_now() {
        let figures = ProcessFigures::of(std::process::id()).expect("it is there");

        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("this century");
        assert!(figures.resident_bytes > 0 && figures.threads > 0 && figures.open_files.is_some());
        assert!(figures.started <= now, "{figures:?}");
    }
}

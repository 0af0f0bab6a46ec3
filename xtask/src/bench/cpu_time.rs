//! The processor time and the memory of a process, its threads and its descendants, as the kernel counts them.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `utime` and `stime` of all living processes of the tree. The kernel shows them in steps of
/// 10 ms; what stands behind them is exact.
pub fn of_tree(root: u32) -> Result<Duration> {
    let all = processes()?;
    let ticks: u64 =
        all.iter().filter(|(id, _)| is_below(**id, root, &all)).map(|(_, process)| process.ticks).sum();
    let a_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// Bytes of memory of all processes of the tree, but for those that a file backs; what several share counts once.
pub fn memory_of_tree(root: u32) -> Result<u64> {
    let all = processes()?;
    let mut kilobytes = 0;
    for id in all.keys().filter(|id| is_below(**id, root, &all)) {
        let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        kilobytes += read_memory(&text);
    }
    Ok(kilobytes * 1024)
}

/// Kilobytes in `smaps_rollup`: each process's part of what it has, anonymous or shared.
fn read_memory(text: &str) -> u64 {
    let of = |line: &str| {
        let rest = line.strip_prefix("Pss_Anon:").or_else(|| line.strip_prefix("Pss_Shmem:"))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(of).sum()
}

/// All that live.
fn processes() -> Result<BTreeMap<u32, Process>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        all.insert(id, read_stat(&text).with_context(|| format!("/proc/{id}/stat: {text}"))?);
    }
    Ok(all)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: u32,
    ticks: u64,
}

/// Reads `/proc/ID/stat`. The name in brackets may have spaces and brackets in it.
fn read_stat(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Process { parent, ticks: user + system })
}

fn is_below(mut id: u32, root: u32, all: &BTreeMap<u32, Process>) -> bool {
    while id != root {
        match all.get(&id) {
            Some(process) if process.parent != 0 => id = process.parent,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1 2 3";

    #[test]
    fn parent_and_times_are_found_behind_a_strange_name() {
        assert_eq!(read_stat(STAT), Some(Process { parent: 7, ticks: 200 }));
    }

    #[test]
    fn memory_is_what_no_file_backs() {
        let text = "Rss: 90 kB\nPss_Anon: 10 kB\nPss_File: 50 kB\nPss_Shmem: 7 kB\nShared_Clean: 3 kB\n";

        assert_eq!(read_memory(text), 17);
    }

    #[test]
    fn only_descendants_are_below() {
        let process = |parent| Process { parent, ticks: 0 };
        let all = BTreeMap::from([(1, process(0)), (5, process(1)), (6, process(5)), (7, process(1))]);

        let below: Vec<u32> = all.keys().copied().filter(|id| is_below(*id, 5, &all)).collect();

        assert_eq!(below, [5, 6]);
    }

    #[test]
    fn our_own_time_grows_with_work() {
        let before = of_tree(std::process::id()).expect("/proc is there");
        let mut sum = 0u64;
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(1));
        }

        assert!(of_tree(std::process::id()).expect("/proc is there") > before);
    }
}

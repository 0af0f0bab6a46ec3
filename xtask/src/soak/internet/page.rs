//! What a soak has shown: the verdict, and the page that is kept.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::minute::{Minute, Record};
use super::said;

/// Memory may grow by so much in an hour and be called flat: a few per cent of what a server with 500
/// phones takes, and less than what an allocator moves about.
const GROWTH_KIB_AN_HOUR_MAX: f64 = 2048.0;
/// So many open files more at the end than after the first quarter are the connections of a flood.
const FILES_GROWTH_MAX: f64 = 20.0;
/// A shorter life of a server says nothing about its memory.
const LIFE_MINUTES_MIN: usize = 20;
/// The table has a line for so many minutes.
const MINUTES_OF_LINE: usize = 10;

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    calls_hurt: u64,
    registrations_hurt: u64,
    /// Of each life that was long enough: its number, KiB an hour, and files an hour.
    growths: Vec<(u64, f64, f64)>,
}

impl Verdict {
    /// Judges all minutes.
    pub fn of(minutes: &[Minute]) -> Verdict {
        let mut lives: Vec<u64> = minutes.iter().map(|minute| minute.life).collect();
        lives.dedup();
        let growths = lives.into_iter().filter_map(|life| {
            let minutes: Vec<&Minute> = minutes.iter().filter(|minute| minute.life == life).collect();
            // The caches fill at first: the first quarter does not count.
            let counted = minutes.get(minutes.len() / 4..)?;
            let growth = |value: fn(&Minute) -> u64| {
                let points: Vec<f64> = counted.iter().map(|minute| value(minute) as f64).collect();
                slope(&points) * 60.0
            };
            let files = growth(|minute| minute.fds);
            (minutes.len() >= LIFE_MINUTES_MIN).then(|| (life, growth(|minute| minute.rss_kib), files))
        });
        Verdict {
            calls_hurt: minutes.iter().map(|minute| minute.hurt).sum(),
            registrations_hurt: minutes.iter().map(|minute| minute.register_hurt).sum(),
            growths: growths.collect(),
        }
    }

    /// Whether nobody was hurt and memory is flat.
    pub fn is_good(&self) -> bool {
        let flat = |(_, memory, files): &(u64, f64, f64)| {
            *memory <= GROWTH_KIB_AN_HOUR_MAX && *files <= FILES_GROWTH_MAX
        };
        self.calls_hurt == 0 && self.registrations_hurt == 0 && self.growths.iter().all(flat)
    }
}

/// The least-squares slope of values at equal distances.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean_x = (count - 1.0) / 2.0;
    let mean_y = values.iter().sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        let x = x as f64 - mean_x;
        above += x * (y - mean_y);
        below += x * x;
    }
    if below == 0.0 { 0.0 } else { above / below }
}

/// The whole page.
pub fn page(record: &Record, verdict: &Verdict, binary: &Path) -> Result<String> {
    let minutes = record.minutes();
    let sum = |value: fn(&Minute) -> u64| minutes.iter().chain([record.rest()]).map(value).sum::<u64>();
    let mut page = String::from(
        "# Hours on a hostile network\n\nWritten by `cargo xtask soak internet`. The real server with 500 phones \
         (UDP and TCP, IPv4 and IPv6)\nthat register, refresh and call each other ten times a second; beside them \
         a scanner that never\nrests and floods in pulses, all from addresses that change. A call is hurt if it \
         does not go as its\nscript says, message for message.\n\n",
    );
    writeln!(
        page,
        "**{}**\n",
        if verdict.is_good() { "Nobody was hurt, memory is flat." } else { "Failed." }
    )?;
    writeln!(page, "| | |\n|---|---|")?;
    for (what, value) in [
        ("date", said(Command::new("date").args(["-u", "+%Y-%m-%d"]))),
        ("program", said(Command::new(binary).arg("--version"))),
        ("cores", std::thread::available_parallelism()?.get().to_string()),
        ("kernel", said(Command::new("uname").arg("-r"))),
        ("minutes", minutes.len().to_string()),
        ("calls begun, ended as scripted, hurt", {
            format!("{}, {}, {}", sum(|m| m.begun), sum(|m| m.ended), sum(|m| m.hurt))
        }),
        ("registrations, hurt", format!("{}, {}", sum(|m| m.registered), sum(|m| m.register_hurt))),
        ("datagrams and connections of floods", sum(|m| m.flood).to_string()),
        ("requests of scanners", sum(|m| m.scans).to_string()),
    ] {
        writeln!(page, "| {what} | {value} |")?;
    }
    for (life, memory, files) in &verdict.growths {
        let life = if verdict.growths.len() > 1 { format!(", life {life}") } else { String::new() };
        writeln!(
            page,
            "| growth an hour over the last three quarters{life} | {memory:.0} KiB, {files:.1} open files |"
        )?;
    }
    page.push_str("\nEach line is the last of ten minutes; the sums are those of all ten.\n\n");
    page.push_str(&table(minutes)?);
    let counters = record.read_counters();
    if !counters.is_empty() {
        writeln!(page, "\nWhat the server counted in its last life:\n\n```\n{}\n```", counters.trim_end())?;
    }
    Ok(page)
}

fn table(minutes: &[Minute]) -> Result<String> {
    let mut table = String::from(
        "| minute | calls | hurt | registrations | flood | scans | memory | open files | 99 of 100 ring within |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for some in minutes.chunks(MINUTES_OF_LINE) {
        let Some(last) = some.last() else { continue };
        let sum = |value: fn(&Minute) -> u64| some.iter().map(value).sum::<u64>();
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {:.1} MiB | {} | {} ms |",
            last.number,
            sum(|m| m.begun),
            sum(|m| m.hurt),
            sum(|m| m.registered),
            sum(|m| m.flood),
            sum(|m| m.scans),
            last.rss_kib as f64 / 1024.0,
            last.fds,
            some.iter().map(|minute| minute.ring_p99_ms).max().unwrap_or(0)
        )?;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_is_not_flat_and_the_first_quarter_does_not_count() {
        let grows: Vec<_> = (0..40).map(|number| minute(1, 30_000 + 100 * number)).collect();
        let settles: Vec<_> = (0..40).map(|number| minute(1, 30_000 + 500 * number.min(9))).collect();

        assert!(!Verdict::of(&grows).is_good());
        assert!(Verdict::of(&settles).is_good());
    }

    #[test]
    fn a_restart_is_no_growth_and_a_short_life_is_not_judged() {
        let two = (0..60).map(|number| minute(1 + number / 30, 30_000 + 10_000 * (number / 30)));
        let short: Vec<_> = (0..10).map(|number| minute(1, 1_000 * number)).collect();

        assert!(Verdict::of(&two.collect::<Vec<_>>()).is_good());
        assert!(Verdict::of(&short).is_good());
    }

    #[test]
    fn one_hurt_call_is_a_failure() {
        let hurt = Minute { hurt: 1, ..minute(1, 30_000) };

        assert!(!Verdict::of(&[hurt]).is_good());
    }

    fn minute(life: u64, rss_kib: u64) -> Minute {
        Minute { life, number: 1, rss_kib, ..Minute::default() }
    }
}

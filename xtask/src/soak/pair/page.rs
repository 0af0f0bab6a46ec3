//! What the soak has shown: the verdict, and the page that is kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::record::{Kill, Record, Victim};
use crate::bench::machine;

/// After so many faults the page is written.
pub const WRITTEN_EVERY: u64 = 25;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    lost: u64,
    hurt: u64,
    failures: usize,
}

impl Verdict {
    /// Judges all faults.
    pub fn of(record: &Record) -> Verdict {
        let sum = |value: fn(&Kill) -> u64| record.kills().iter().map(value).sum::<u64>();
        Verdict {
            lost: sum(|kill| kill.lost),
            hurt: sum(|kill| kill.hurt),
            failures: record.failures().len(),
        }
    }

    /// Whether nothing that was acknowledged was lost, and nobody was refused.
    pub fn is_good(&self) -> bool {
        *self == Verdict { lost: 0, hurt: 0, failures: 0 }
    }
}

/// The whole page.
pub fn page(record: &Record, binary: &Path) -> Result<String> {
    let (kills, verdict) = (record.kills(), Verdict::of(record));
    let sum = |value: fn(&Kill) -> u64| kills.iter().map(value).sum::<u64>();
    let mut page = String::from(
        "# A pair under faults\n\nWritten by `cargo xtask soak pair`. Two nodes and a witness in network namespaces; 100,000 \
         phones are registered\nby digest and register, refresh and leave 500 times a second, each with the next count of its \
         first nonce.\nThen something happens at a moment that is drawn, nine times of ten to the active node. After each \
         fault the node\nthat serves must have every binding that was acknowledged, and none whose end was: those of the \
         last seconds\nand 200 others are compared each time, all of them each tenth time.\n\n",
    );
    let word = if verdict.is_good() { "Nothing acknowledged was lost." } else { "Failed." };
    writeln!(
        page,
        "**{word}** {} faults, {} acknowledged bindings lost, {} phones hurt (refused, asked for\na password again, without an answer), {} \
         times the pair did not become whole again.\n",
        kills.len(),
        verdict.lost,
        verdict.hurt,
        verdict.failures
    )?;
    writeln!(page, "| | |\n|---|---|")?;
    for (what, value) in [
        ("REGISTERs accepted", sum(|kill| kill.accepted)),
        ("promises compared", sum(|kill| kill.compared)),
        ("of them in comparisons of all bindings", {
            kills.iter().filter(|kill| kill.is_full).map(|kill| kill.compared).sum()
        }),
        ("degraded while the other node was well", sum(|kill| kill.degraded_when_whole)),
        ("of them lost with the node: they were not promised to outlive it", sum(|kill| kill.lost_degraded)),
        (
            "faults in which a node that was not hurt lost the lease as well, as no majority voted in time (a busy machine)",
            { kills.iter().filter(|kill| kill.lapses > 0).count() as u64 },
        ),
        ("phones asked for a password again in these: not among the hurt ones", sum(|kill| kill.asked_again)),
    ] {
        writeln!(page, "| {what} | {value} |")?;
    }
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (cause, count) in kills.iter().flat_map(|kill| &kill.degraded) {
        *causes.entry(cause).or_default() += count;
    }
    for (cause, count) in causes {
        writeln!(page, "| degraded: {} | {count} |", cause.replace('_', " "))?;
    }
    page.push_str(
        "\nThe longest time without a 200 to a REGISTER, and from the fault until both nodes were well again: the median, in \
         brackets\nthe least and the most.\n\n| fault | of the | times | without an answer, ms | whole again, s | lost |\n\
         |---|---|---|---|---|---|\n",
    );
    let mut kinds: BTreeMap<_, Vec<&Kill>> = BTreeMap::new();
    for kill in kills {
        kinds.entry((kill.victim, kill.fault)).or_default().push(kill);
    }
    for ((victim, fault), kills) in kinds {
        writeln!(page, "{}", row(victim, fault.name(), &kills))?;
    }
    for failure in record.failures() {
        writeln!(page, "\nNot whole again: {failure}")?;
    }
    page.push_str("\n| | |\n|---|---|\n");
    for (what, value) in machine(binary, "cargo xtask soak pair")?.into_iter().filter(|it| it.0 != "Kamailio")
    {
        writeln!(page, "| {what} | {value} |")?;
    }
    Ok(page)
}

fn row(victim: Victim, fault: &str, kills: &[&Kill]) -> String {
    let gaps = spread(kills.iter().map(|kill| kill.gap).collect(), |time| time.as_millis().to_string());
    let backs =
        spread(kills.iter().map(|kill| kill.back).collect(), |time| format!("{:.1}", time.as_secs_f64()));
    let lost: u64 = kills.iter().map(|kill| kill.lost).sum();
    format!("| {fault} | {} | {} | {gaps} | {backs} | {lost} |", victim.name(), kills.len())
}

fn spread(mut times: Vec<Duration>, text: impl Fn(Duration) -> String) -> String {
    times.sort_unstable();
    let (Some(&least), Some(&most)) = (times.first(), times.last()) else { return "–".to_owned() };
    format!("{} ({} – {})", text(times[times.len() / 2]), text(least), text(most))
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::kill;
    use super::*;

    #[test]
    fn a_kind_of_fault_has_a_line_with_the_median_and_the_spread() {
        let kills = [kill(3), kill(1), kill(2)];

        assert_eq!(
            row(Victim::Active, "engine killed", &kills.iter().collect::<Vec<_>>()),
            "| engine killed | active | 3 | 102 (101 – 103) | 2.0 (2.0 – 2.0) | 0 |"
        );
    }

    #[test]
    fn one_lost_binding_or_one_hurt_phone_is_a_failure() {
        let good = Verdict { lost: 0, hurt: 0, failures: 0 };

        assert!(good.is_good());
        assert!(!Verdict { lost: 1, ..good }.is_good());
        assert!(!Verdict { hurt: 1, ..good }.is_good());
        assert!(!Verdict { failures: 1, ..good }.is_good());
    }
}

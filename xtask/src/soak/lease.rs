//! The lease for hours: many seeds of the pair in a hostile world, and the large exhaustive searches.
//!
//! What was done is in a file, so that it can be stopped and goes on; the page is written after each part.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::{process, workspace};

/// The lease's proofs; what follows goes to `cargo`.
pub const TESTS: &[&str] = &[
    "test",
    "-q",
    "-p",
    "cluster",
    "--release",
    "--features",
    "test-faults,test-model",
    "--test",
    "safety",
    "--test",
    "row",
    "--test",
    "model",
];

const SEEDS: u64 = 100_000;
/// How many seeds are run before the progress is written down.
const SEEDS_AT_ONCE: u64 = 1_000;
/// Where the result is written.
const PAGE: &str = "bench/SOAK-LEASE.md";

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Progress {
    seeds: u64,
    /// How often each thing happened.
    counts: BTreeMap<String, u64>,
    /// A line for each search.
    models: BTreeMap<String, String>,
}

/// Runs what is left, first the seeds and then the searches. What fails ends it, and is run again next time.
pub fn run() -> Result<ExitCode> {
    let place = place();
    let mut progress = Progress::read(&fs::read_to_string(&place).unwrap_or_default());
    let keep = |progress: &Progress| -> Result<()> {
        fs::create_dir_all(workspace::target())?;
        fs::write(&place, progress.text())?;
        fs::write(workspace::root().join(PAGE), progress.page())?;
        Ok(())
    };
    println!(
        "{} of {SEEDS} seeds and {} searches are done: {}",
        progress.seeds,
        progress.models.len(),
        place.display()
    );
    while progress.seeds < SEEDS {
        let count = SEEDS_AT_ONCE.min(SEEDS - progress.seeds);
        let first = progress.seeds + 1;
        let mut command = tests(&["no_seed"]);
        command.env("FIRST_SEED", first.to_string()).env("SEEDS", count.to_string());
        let said = process::output(&mut command).with_context(|| format!("a seed from {first} on failed"))?;
        progress.add_seeds(count, &said);
        keep(&progress)?;
        println!("{} of {SEEDS} seeds passed", progress.seeds);
    }
    for name in LARGE.iter().filter(|name| !progress.models.contains_key(**name)).collect::<Vec<_>>() {
        println!("searching: {name}");
        let mut command = tests(&["in_the_large", "--ignored"]);
        let said =
            process::output(command.env("MODEL", name)).with_context(|| format!("search {name:?} failed"))?;
        progress.add_models(&said);
        ensure!(progress.models.contains_key(*name), "crates/cluster/tests/model has no search {name:?}");
        keep(&progress)?;
    }
    keep(&progress)?;
    println!("{}\nwritten to {PAGE}", progress.page());
    Ok(ExitCode::SUCCESS)
}

/// The searches, by the names that `crates/cluster/tests/model/settings.rs` gives them.
const LARGE: &[&str] = &[
    "crash",
    "slow disk or gate",
    "freeze",
    "doubled message",
    "two ticks a lease",
    "two messages",
    "hand-over and surrender",
    "hand-over and back",
    "hand-over, crash",
    "hand-over, slow disk or gate",
    "hand-over, freeze",
    "a seat changes",
    "the witness is replaced",
    "three epochs",
    "two crashes",
    "three messages",
];

fn tests(words: &[&str]) -> Command {
    workspace::cargo(&[TESTS, &["--", "--nocapture"], words].concat())
}

fn place() -> PathBuf {
    workspace::target().join("soak-lease.txt")
}

impl Progress {
    /// Lines of `seeds N`, `count N what` and `model: …`; what is none of these is left out.
    fn read(text: &str) -> Progress {
        let mut progress = Progress::default();
        for line in text.lines() {
            if let Some(seeds) = line.strip_prefix("seeds ") {
                progress.seeds = seeds.parse().unwrap_or_default();
            } else if let Some(count) = line.strip_prefix("count ") {
                progress.add_count(count);
            }
        }
        progress.add_models(text);
        progress
    }

    fn text(&self) -> String {
        let mut text = format!("seeds {}\n", self.seeds);
        for (what, count) in &self.counts {
            text.push_str(&format!("count {count} {what}\n"));
        }
        for line in self.models.values() {
            text.push_str(&format!("{line}\n"));
        }
        text
    }

    fn add_seeds(&mut self, count: u64, said: &str) {
        self.seeds += count;
        said.lines().for_each(|line| self.add_count(line));
    }

    fn add_count(&mut self, line: &str) {
        // The first one may stand behind the name of the test.
        let line = line.rsplit("... ").next().unwrap_or(line).trim();
        if let Some((count, what)) = line.split_once(' ')
            && let Ok(count) = count.parse::<u64>()
        {
            *self.counts.entry(what.trim().to_owned()).or_default() += count;
        }
    }

    fn add_models(&mut self, said: &str) {
        for line in said.lines().filter_map(|line| line.split_once("model: ").map(|(_, line)| line)) {
            let name = line.split(" | ").next().unwrap_or_default();
            self.models.insert(name.to_owned(), format!("model: {line}"));
        }
    }

    fn page(&self) -> String {
        let mut page = String::from(
            "# The lease for hours\n\nWritten by `cargo xtask soak lease`. Two nodes, a witness and another one that may \
             take its place, with drifting\nclocks, lost, late and doubled messages, one-way cuts, freezes, crashes and \
             slow disks; then all heals. No seed\nmay open two gates or let two hold one epoch, and after each one \
             somebody must be active.\n\n",
        );
        let _ = writeln!(
            page,
            "**{} seeds passed.** What happened in them:\n\n| times | what |\n|---|---|",
            self.seeds
        );
        for (what, count) in &self.counts {
            let _ = writeln!(page, "| {count} | {what} |");
        }
        if !self.models.is_empty() {
            page.push_str(
                "\n## Exhaustive searches\n\n[docs/lease-model.md](../docs/lease-model.md) says what they are. None found \
                 two holders, or a state from which\nnobody became active.\n\n| world | states | steps | looked at | tried to \
                 the end | time |\n|---|---|---|---|---|---|\n",
            );
        }
        for line in self.models.values() {
            let _ = writeln!(page, "| {} |", line.trim_start_matches("model: "));
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soak_goes_on_where_it_was_stopped() {
        let mut progress = Progress::default();
        progress.add_seeds(1_000, "test a ...        12  crash\n       3  list: settled\nok\n");
        progress.add_seeds(500, "      1  crash\n");
        progress.add_models("model: crash | 12 | 30 | all | 4 | 1 s\n");

        assert_eq!(progress.seeds, 1_500);
        assert_eq!(progress.counts["crash"], 13);
        assert_eq!(Progress::read(&progress.text()), progress);
        assert_eq!(Progress::read("broken"), Progress::default());
    }

    #[test]
    fn the_page_has_a_line_for_each_search() {
        let mut progress = Progress::default();
        progress.add_models("test in_the_large ... model: crash | 12 | 30 | all | 4 | 1 s\n");

        assert!(progress.page().contains("| crash | 12 | 30 | all | 4 | 1 s |"));
    }
}

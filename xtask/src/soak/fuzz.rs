//! `cargo xtask soak fuzz`, and the step of the test command that does the same for a minute: hostile input for the
//! parsers, the framing and whole engines, with stable Rust.
//!
//! The soak gives each target an hour in pieces of a minute, each with a seed of its own. After each piece the file of
//! progress says how far every target is, so what was stopped goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{self, Running};
use crate::workspace;

/// Pieces of a whole soak of one target.
const PIECES: u64 = 60;
/// How long a piece is, and how long the test command tries each target.
const PIECE: Duration = Duration::from_secs(60);
/// A run that is not over so long after its time hangs.
const LATE: Duration = Duration::from_secs(120);

/// Tries every target for a minute, all at once: what they find is the same on a machine with fewer cores, only later.
pub fn once() -> Result<()> {
    let fuzzer = Fuzzer::build()?;
    let dir = workspace::target().join("fuzz-logs");
    fs::create_dir_all(&dir)?;
    let targets = fuzzer.targets()?;
    ensure!(!targets.is_empty(), "there is no target");
    let running = targets.iter().map(|target| fuzzer.start(target, 1, &dir)).collect::<Result<Vec<_>>>()?;
    let mut findings = Vec::new();
    for (target, run) in targets.iter().zip(running) {
        if let Err(finding) = finish(target, run) {
            findings.push(format!("{finding:#}"));
        }
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

/// Gives each target its hour, `at_once` of them at a time (as many as there are cores by default). The first finding
/// ends it.
pub fn run(at_once: Option<usize>) -> Result<ExitCode> {
    let fuzzer = Fuzzer::build()?;
    let targets = fuzzer.targets()?;
    let dir = workspace::target().join("soak-fuzz");
    fs::create_dir_all(&dir)?;
    let place = dir.join("progress.txt");
    let mut done = read_progress(&fs::read_to_string(&place).unwrap_or_default());
    let cores = std::thread::available_parallelism()?.get();
    let at_once = at_once.unwrap_or(cores);
    println!("{} targets, {PIECES} minutes each, {at_once} at a time on {cores} cores", targets.len());
    loop {
        let of = |target: &str| done.get(target).copied().unwrap_or(0);
        let mut left: Vec<&String> = targets.iter().filter(|target| of(target) < PIECES).collect();
        if left.is_empty() {
            println!("all targets had their hour; {} says so, remove it to begin again", place.display());
            return Ok(ExitCode::SUCCESS);
        }
        // Those that are behind come first, so that all end together.
        left.sort_by_key(|target| of(target));
        left.truncate(at_once);
        let pieces = left.iter().map(|target| fuzzer.start(target, of(target) + 1, &dir));
        let pieces = pieces.collect::<Result<Vec<_>>>()?;
        let targets: Vec<String> = left.into_iter().cloned().collect();
        for (target, piece) in targets.iter().zip(pieces) {
            println!("{}", finish(target, piece)?);
            *done.entry(target.clone()).or_default() += 1;
        }
        fs::write(&place, write_progress(&done))?;
        let sum: u64 = done.values().sum();
        println!("{sum} of {} minutes are done", PIECES * fuzzer.targets()?.len() as u64);
    }
}

/// The program that tries the targets.
struct Fuzzer(PathBuf);

impl Fuzzer {
    fn build() -> Result<Fuzzer> {
        crate::checked::build()?;
        Ok(Fuzzer(crate::checked::program("fuzz")))
    }

    fn targets(&self) -> Result<Vec<String>> {
        let text = process::output(Command::new(&self.0).arg("--list"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn start(&self, target: &str, seed: u64, dir: &Path) -> Result<Running> {
        let log = dir.join(format!("{target}.log"));
        if log.exists() {
            fs::remove_file(&log)?;
        }
        let mut command = Command::new(&self.0);
        command.args(["--target", target, "--seed", &seed.to_string()]);
        command.args(["--seconds", &PIECE.as_secs().to_string()]);
        Running::start(&mut command, &log)
    }
}

/// What a run has tried; a finding is an error.
fn finish(target: &str, mut run: Running) -> Result<String> {
    let status = run.wait(PIECE + LATE).with_context(|| target.to_owned())?;
    if !status.success() {
        bail!("{target}: {}", run.log().trim());
    }
    let log = run.log();
    Ok(log.lines().find(|line| line.contains("changed inputs")).unwrap_or_default().to_owned())
}

/// A target and its pieces in each line; what is no such line is passed over.
fn read_progress(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(target, pieces)| Some((target.to_owned(), pieces.parse().ok()?))).collect()
}

fn write_progress(done: &BTreeMap<String, u64>) -> String {
    done.iter().map(|(target, pieces)| format!("{target} {pieces}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_that_is_written_can_be_read() {
        let done = BTreeMap::from([("engine".to_owned(), 7), ("uri".to_owned(), 60)]);

        assert_eq!(read_progress(&write_progress(&done)), done);
        assert_eq!(read_progress("engine 7\nuri"), BTreeMap::from([("engine".to_owned(), 7)]));
    }
}

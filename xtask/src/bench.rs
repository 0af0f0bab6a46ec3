//! `cargo xtask bench sip`: processor time per registration and per call, Tandem beside Kamailio and a floor in C.
//!
//! All serve the same load in turn, several times in one run, on one core, with the load on another. What
//! counts is the processor time of the server's processes, kernel included, so neither the speed of the load nor idle
//! time has a part in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod contestant;
mod cpu_time;
pub mod failover;
mod flames;
mod load;
pub mod pair;
pub mod relay;
mod report;
mod row;

use contestant::{Contestant, Kind, Programs};
use report::Measured;
pub use report::{explanation, machine, rtpengine_version};
use row::{ACCOUNTS, Row, SESSIONS, Session};

/// How often each server does each work, if nothing else is said.
const RUNS: usize = 5;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whether packages may be installed.
    pub consent: Consent,
    /// How often each server does each work.
    pub runs: usize,
    /// Only rows whose name contains it.
    pub filter: String,
    /// Only servers whose name contains it.
    pub server: String,
}

impl Options {
    /// Reads what stands behind `bench sip`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options =
            Options { consent: Consent::Ask, runs: RUNS, filter: String::new(), server: String::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--yes" => options.consent = Consent::Given,
                "--runs" => options.runs = words.next().context("--runs wants a number")?.parse()?,
                "--server" => {
                    options.server = (*words.next().context("--server wants a name")?).to_owned();
                }
                word if !word.starts_with("--") && options.filter.is_empty() => {
                    options.filter = word.to_owned();
                }
                other => bail!("no such option of the bench: {other}"),
            }
        }
        ensure!(options.runs > 0, "--runs wants at least 1");
        Ok(options)
    }

    /// All rows and all servers: only then the results are written.
    fn is_whole(&self) -> bool {
        self.filter.is_empty() && self.server.is_empty()
    }
}

/// Builds the programs, and measures in namespaces of its own.
pub fn run(options: &Options) -> Result<ExitCode> {
    packages::ensure_installed(packages::FOR_BENCH, &[], options.consent)?;
    alone(&["bench-here", &options.runs.to_string(), &options.filter, &options.server])
}

/// Builds the programs, and draws where the time goes.
pub fn run_flames(consent: Consent) -> Result<ExitCode> {
    packages::ensure_installed(packages::FOR_FLAMES, &[], consent)?;
    alone(&["flames-here"])
}

/// Runs this program once more, in namespaces of its own, with everything built.
fn alone(words: &[&str]) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "this needs two cores, one for the server and one for the load");
    let dir = workspace::target().join("bench");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    build(&dir)?;
    let mut command = lab::alone();
    command.arg(std::env::current_exe()?).args(words).arg(&dir);
    process::loudly(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

fn programs(dir: &Path) -> Programs {
    let release = workspace::target().join("release");
    Programs {
        tandem: release.join("tandem"),
        load: release.join("examples/load"),
        floor: dir.join("floor"),
        accounts: dir.join("accounts.sqlite"),
        dir: dir.to_path_buf(),
    }
}

fn build(dir: &Path) -> Result<()> {
    let programs = programs(dir);
    process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
    process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "net", "--example", "load"]))?;
    process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "store", "--example", "accounts"]))?;
    let source = workspace::root().join("bench/floor/floor.c");
    process::loudly(Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&programs.floor).arg(source))?;
    println!("{ACCOUNTS} accounts");
    let accounts: PathBuf = workspace::target().join("release/examples/accounts");
    let mut command = Command::new(accounts);
    command.arg(&programs.accounts).args([load::SERVER, &ACCOUNTS.to_string()]);
    process::loudly(&mut command)
}

/// Draws; the process is alone in its namespaces.
pub fn run_flames_here(dir: &Path) -> Result<ExitCode> {
    prepare()?;
    flames::draw(&programs(dir))?;
    Ok(ExitCode::SUCCESS)
}

/// Measures; the process is alone in its namespaces.
pub fn run_here(runs: &str, filter: &str, server: &str, dir: &Path) -> Result<ExitCode> {
    prepare()?;
    let options = Options {
        consent: Consent::Ask,
        runs: runs.parse()?,
        filter: filter.to_owned(),
        server: server.to_owned(),
    };
    let programs = programs(dir);
    let mut measured = Measured::new();
    let mut failures = Vec::new();
    for run in 1..=options.runs {
        for session in SESSIONS {
            for &kind in session.kinds.iter().filter(|kind| kind.name().contains(&options.server)) {
                let rows = rows(&session, &options, run);
                if rows.is_empty() {
                    continue;
                }
                // One that fails spoils no other: the page says so.
                if let Err(error) = measure(run, kind, &session, &rows, &programs, &mut measured) {
                    let failure = format!("run {run}, {}: {error:#}", kind.name());
                    println!("{failure}");
                    failures.push(failure);
                }
            }
        }
    }
    let mut command = format!("cargo xtask bench sip --runs {}", options.runs);
    if options.runs == RUNS {
        command = "cargo xtask bench sip".to_owned();
    }
    let page = report::page(&measured, &failures, options.runs, &programs.tandem, &command)?;
    println!("\n{page}");
    if options.is_whole() {
        let place = workspace::root().join("bench/RESULTS.md");
        let old = fs::read_to_string(&place).unwrap_or_default();
        let page = format!("{page}\n{}", report::explanation(&old));
        fs::write(&place, page).with_context(|| place.display().to_string())?;
        println!("written to {}", place.display());
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rows of a session that are wanted, with those that put the bindings in place for them.
fn rows(session: &Session, options: &Options, run: usize) -> Vec<Row> {
    let is_wanted = |row: &Row| row.name().contains(&options.filter) && run <= row.repeats_max();
    if !session.rows.iter().any(is_wanted) {
        return Vec::new();
    }
    session.rows.iter().filter(|row| is_wanted(row) || row.makes_bindings()).copied().collect()
}

fn prepare() -> Result<()> {
    ensure!(std::process::id() == 1, "a benchmark must be the first process of its namespaces");
    for line in [
        "mount -t tmpfs tmpfs /run",
        "ip link set lo up",
        "ip addr add 10.0.0.1/32 dev lo",
        "ip addr add 10.0.1.0/24 dev lo",
        "ip addr add 10.0.2.0/24 dev lo",
    ] {
        let mut words = line.split(' ');
        let Some(program) = words.next() else { bail!("an empty command") };
        process::quietly(Command::new(program).args(words))?;
    }
    Ok(())
}

fn measure(
    run: usize,
    kind: Kind,
    session: &Session,
    rows: &[Row],
    programs: &Programs,
    measured: &mut Measured,
) -> Result<()> {
    let contestant = Contestant::start(kind, session.floor, programs)?;
    for &row in rows {
        let cost = row.load().run(&contestant, programs, row.settles(kind)).with_context(|| row.name())?;
        println!(
            "run {run}: {}, {}: {:.1} µs, {:.0}/s, {:.0} bytes",
            row.name(),
            kind.name(),
            cost.microseconds,
            cost.a_second,
            cost.bytes
        );
        measured.entry((row, kind)).or_default().push(cost);
    }
    contestant.stop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filtered_row_brings_the_one_that_makes_its_bindings() {
        let options = Options::parse(&["nonce reused", "--runs", "1"]).expect("good words");

        assert_eq!(rows(&SESSIONS[3], &options, 1), [Row::First, Row::Reuse]);
        assert!(rows(&SESSIONS[0], &options, 1).is_empty());
    }

    #[test]
    fn a_million_bindings_are_not_made_in_every_run() {
        let options = Options::parse(&[]).expect("good words");

        assert!(!rows(&SESSIONS[6], &options, 3).is_empty());
        assert!(rows(&SESSIONS[6], &options, 4).is_empty());
    }
}

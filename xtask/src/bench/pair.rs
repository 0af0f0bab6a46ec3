//! `cargo xtask bench pair`: what it costs to hold every binding at two nodes, and that a takeover costs the same with any
//! number of them. `cargo xtask bench calls`: the same cost of calls. `cargo xtask bench reconnect`: how soon phones on TCP are
//! back after their node was lost. `cargo xtask bench relay`: see [`super::relay`]. `cargo xtask bench database`: what a database
//! costs.
//!
//! Each piece of work has a lab of its own and is kept at once, so an interrupted run goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod calls;
mod calls_page;
mod cost;
pub(super) mod database;
mod database_page;
pub(super) mod kept;
pub(super) mod load;
pub(super) mod page;
mod reconnect;
mod reconnect_page;
mod takeover;
pub(super) mod work;

use kept::Kept;
use work::Work;

/// How often each work is done, if nothing else is said.
const RUNS: usize = 3;

/// What is held by two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Bindings: `bench pair`.
    Bindings,
    /// Calls: `bench calls`.
    Calls,
    /// Where the phones with connections are: `bench reconnect`.
    Connections,
    /// Nothing: media pass one node: `bench relay`.
    Media,
    /// Bindings, and a database has them too: `bench database`.
    Database,
}

impl Subject {
    fn work(self) -> &'static [Work] {
        match self {
            Subject::Bindings => &Work::OF_PAIR,
            Subject::Calls => &Work::OF_CALLS,
            Subject::Connections => &Work::OF_RECONNECT,
            Subject::Media => &Work::OF_RELAY,
            Subject::Database => &Work::OF_DATABASE,
        }
    }

    /// Where the result is written.
    fn place(self) -> PathBuf {
        workspace::root().join(match self {
            Subject::Bindings => "bench/PAIR.md",
            Subject::Calls => "bench/CALLS.md",
            Subject::Connections => "bench/RECONNECT.md",
            Subject::Media => "bench/RELAY.md",
            Subject::Database => "bench/DATABASE.md",
        })
    }

    fn page(self, kept: &Kept, failures: &[String], runs: usize, binary: &Path) -> Result<String> {
        match self {
            Subject::Bindings => page::page(kept, failures, runs, binary),
            Subject::Calls => calls_page::page(kept, failures, runs, binary),
            Subject::Connections => reconnect_page::page(kept, failures, runs, binary),
            Subject::Media => super::relay::page(kept, failures, runs, binary),
            Subject::Database => database_page::page(kept, failures, runs, binary),
        }
    }
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    consent: Consent,
    runs: usize,
    program: Option<PathBuf>,
    filter: String,
}

impl Options {
    /// Reads what stands behind `bench pair`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options { consent: Consent::Ask, runs: RUNS, program: None, filter: String::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--yes" => options.consent = Consent::Given,
                "--runs" => options.runs = words.next().context("--runs wants a number")?.parse()?,
                "--program" => {
                    let path = words.next().context("--program wants a path")?;
                    options.program = Some(std::path::absolute(path)?);
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

    /// What is to be done, run by run, so that what changes on the machine hits all alike.
    fn work(&self, subject: Subject) -> Vec<(usize, Work)> {
        let of_run = |run| {
            subject
                .work()
                .iter()
                .copied()
                .filter(move |work| run <= work.runs_max())
                .map(move |work| (run, work))
        };
        (1..=self.runs).flat_map(of_run).filter(|(_, work)| work.word().contains(&self.filter)).collect()
    }
}

/// Does what is not done yet, and writes the page.
pub fn run(subject: Subject, options: &Options) -> Result<ExitCode> {
    let work = options.work(subject);
    ensure!(!work.is_empty(), "nothing has {:?} in its name", options.filter);
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "this needs two cores, one for the active node and one for the rest");
    let needed = match subject {
        Subject::Media => packages::FOR_BENCH,
        Subject::Database => packages::FOR_BENCH_DATABASE,
        _ => packages::FOR_FAILOVER,
    };
    packages::ensure_installed(needed, &[], options.consent)?;
    let binary = match &options.program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    if matches!(subject, Subject::Bindings | Subject::Calls | Subject::Database) {
        process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "net", "--example", "load"]))?;
    }
    let dir = workspace::target().join("bench-pair");
    fs::create_dir_all(&dir)?;
    if subject == Subject::Media {
        super::relay::build(&dir)?;
    }
    let mut kept = Kept::open(&dir.join("figures.jsonl"), &binary)?;
    let (start, whole) = (Instant::now(), work.len());
    let mut failures = Vec::new();
    for (done, (run, work)) in work.into_iter().enumerate() {
        if kept.has(run, work) {
            continue;
        }
        println!("[{:>4} s] {} of {whole}: run {run}, {}", start.elapsed().as_secs(), done + 1, work.name());
        match isolated(run, work, &dir, &binary) {
            Ok(figures) => {
                println!("  {figures}");
                kept.keep(run, work, figures)?;
            }
            // One that fails spoils no other: the page says so.
            Err(error) => {
                let failure = format!("run {run}, {}: {error:#}", work.name());
                println!("  FAILED: {failure}");
                failures.push(failure);
            }
        }
    }
    let page = subject.page(&kept, &failures, options.runs, &binary)?;
    println!("\n{page}");
    if options.filter.is_empty() {
        let place = subject.place();
        let old = fs::read_to_string(&place).unwrap_or_default();
        let explanation = super::report::explanation(&old);
        fs::write(&place, format!("{page}\n{explanation}")).with_context(|| place.display().to_string())?;
        println!("written to {}", place.display());
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does one work as process 1 of its own namespaces.
fn isolated(run: usize, work: Work, dir: &Path, binary: &Path) -> Result<serde_json::Value> {
    let dir: PathBuf = dir.join(format!("{}-{run}", work.word()));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut command = match work {
        Work::Relay(_) => super::relay::beside_kernel_threads(),
        _ => lab::alone(),
    };
    command.arg(std::env::current_exe()?).args(["pair-here", work.word()]).arg(&dir).arg(binary);
    process::loudly(&mut command).with_context(|| format!("logs in {}", dir.display()))?;
    let text = fs::read_to_string(dir.join(FIGURES))?;
    let figures = serde_json::from_str(&text).with_context(|| format!("no figures: {text}"))?;
    fs::remove_dir_all(&dir)?;
    Ok(figures)
}

/// Where a work leaves what it has measured.
const FIGURES: &str = "figures.json";

/// Does one work; the process is alone in its namespaces.
pub fn run_here(words: &[&str]) -> Result<ExitCode> {
    let [work, dir, binary] = words else { bail!("three words are wanted") };
    let work = Work::named(work).context("no such work")?;
    let (dir, binary) = (Path::new(dir), Path::new(binary));
    let lab = || lab::Lab::new(dir, binary);
    let figures = match work {
        Work::Cost(setup) => cost::measure(&lab()?, setup)?,
        Work::Calls(setup) => calls::measure(&lab()?, setup)?,
        Work::Takeover(bindings) => takeover::measure(&lab()?, bindings)?,
        Work::Reconnect(loss) => reconnect::measure(&lab()?, loss)?,
        Work::Relay(kind) => super::relay::measure(kind, dir, binary)?,
        Work::Database(kind) => database::measure(&lab()?, kind)?,
    };
    fs::write(dir.join(FIGURES), figures.to_string())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_a_work_and_a_million_is_not_done_in_every_run() {
        let options = Options::parse(&["takeover-1000000", "--runs", "2"]).expect("good words");

        assert_eq!(options.work(Subject::Bindings).len(), 1);
        assert!(Options::parse(&["--runs", "0"]).is_err());
    }
}

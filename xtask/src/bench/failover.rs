//! `cargo xtask bench failover`: how long nobody answers for the virtual address, and how long two do, for each fault.
//!
//! Each figure is measured in a lab of its own (see `lab::pair`): a phone beside the nodes and one behind their router ask
//! by OPTIONS every 5 ms, an observer on the switch writes down who speaks for the address, and then something happens to
//! the active node. Every figure is kept at once, so an interrupted run goes on where it was.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::process::{self, Running};
use crate::{lab, workspace};

mod contestant;
mod fault;
mod figures;
mod measure;
mod page;

use contestant::Contestant;
use fault::Fault;
use figures::{Figure, Figures, Outcome};

/// How often each figure is measured, if nothing else is said.
const REPEATS: usize = 10;
/// How many labs there are at once: most of the time each of them waits.
const AT_ONCE: usize = 3;
/// No figure takes longer; what does is measured again.
const TIME_MAX: Duration = Duration::from_secs(60);
/// A figure that fails so often is told as failed.
const TRIES_MAX: usize = 3;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    consent: Consent,
    repeats: usize,
    filter: String,
}

impl Options {
    /// Reads what stands behind `bench failover`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options { consent: Consent::Ask, repeats: REPEATS, filter: String::new() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--yes" => options.consent = Consent::Given,
                "--repeats" => options.repeats = words.next().context("--repeats wants a number")?.parse()?,
                word if !word.starts_with("--") && options.filter.is_empty() => {
                    options.filter = word.to_owned();
                }
                other => bail!("no such option of the bench: {other}"),
            }
        }
        ensure!(options.repeats > 0, "--repeats wants at least 1");
        Ok(options)
    }

    /// What is to be measured, repeat by repeat, so that what changes on the machine hits all alike.
    fn work(&self) -> Vec<(usize, Contestant, Fault)> {
        let mut work = Vec::new();
        for repeat in 1..=self.repeats {
            for contestant in Contestant::ALL {
                for fault in Fault::ALL {
                    let name = format!("{} {}", contestant.word(), fault.word());
                    if name.contains(&self.filter) {
                        work.push((repeat, contestant, fault));
                    }
                }
            }
        }
        work
    }
}

/// Measures what is not measured yet, and writes the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    ensure!(!options.work().is_empty(), "nothing has {:?} in its name", options.filter);
    packages::ensure_installed(packages::FOR_FAILOVER, &[], options.consent)?;
    process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
    let binary = workspace::target().join("release/tandem");
    let dir = workspace::target().join("failover");
    fs::create_dir_all(&dir)?;
    let figures = Mutex::new(Figures::open(&dir.join("figures.jsonl"), &binary)?);
    let mut work: VecDeque<_> = options.work().into();
    let whole = work.len();
    work.retain(|(repeat, contestant, fault)| !lock(&figures).has(*repeat, *contestant, *fault));
    println!("{} of {whole} figures are there already", whole - work.len());
    let failures = measure_all(work, whole, &figures, &dir, &binary);
    let figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
    let page = page::page(&figures, &failures, options.repeats, &binary)?;
    println!("\n{page}");
    if options.filter.is_empty() {
        let place = workspace::root().join("bench/FAILOVER.md");
        let old = fs::read_to_string(&place).unwrap_or_default();
        let explanation = super::report::explanation(&old);
        fs::write(&place, format!("{page}\n{explanation}")).with_context(|| place.display().to_string())?;
        println!("written to {}", place.display());
        if failures.is_empty() {
            figures.close()?;
        }
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure_all(
    work: VecDeque<(usize, Contestant, Fault)>,
    whole: usize,
    figures: &Mutex<Figures>,
    dir: &Path,
    binary: &Path,
) -> Vec<String> {
    let start = Instant::now();
    let done = Mutex::new(whole - work.len());
    let (work, failures) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((repeat, contestant, fault)) = next(&work) {
                    let end = tried(repeat, contestant, fault, dir, binary).and_then(|outcome| {
                        lock(figures).keep(Figure { repeat, contestant, fault, outcome })?;
                        Ok(outcome.text())
                    });
                    let text = end.unwrap_or_else(|error| {
                        let text = format!("{}, {}: {error:#}", contestant.name(), fault.name());
                        lock(&failures).push(text.clone());
                        format!("FAILED: {text}")
                    });
                    let mut done = lock(&done);
                    *done += 1;
                    let time = start.elapsed().as_secs();
                    let (who, what) = (contestant.name(), fault.name());
                    println!("[{time:>4} s] {done} of {whole}: repeat {repeat}, {who}, {what}: {text}");
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go of the lock at once, so that the others can take theirs.
fn next(work: &Mutex<VecDeque<(usize, Contestant, Fault)>>) -> Option<(usize, Contestant, Fault)> {
    lock(work).pop_front()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tried(repeat: usize, contestant: Contestant, fault: Fault, dir: &Path, binary: &Path) -> Result<Outcome> {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        match isolated(repeat, contestant, fault, dir, binary) {
            Ok(outcome) => return Ok(outcome),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no try was made")?)
}

/// Measures one figure as process 1 of its own namespaces.
fn isolated(
    repeat: usize,
    contestant: Contestant,
    fault: Fault,
    dir: &Path,
    binary: &Path,
) -> Result<Outcome> {
    let dir: PathBuf = dir.join(format!("{}-{}-{repeat}", contestant.word(), fault.word()));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut command = lab::alone();
    command.arg(std::env::current_exe()?).arg("failover-here").args([contestant.word(), fault.word()]);
    command.arg(repeat.to_string()).arg(&dir).arg(binary);
    let log = dir.join("measure.log");
    let mut running = Running::start(&mut command, &log)?;
    let status = running.wait(TIME_MAX)?;
    let said = running.log();
    ensure!(status.success(), "{}; logs in {}", process::tail(&said, 5), dir.display());
    let outcome = Outcome::read(said.lines().last().unwrap_or_default())?;
    // Frames and logs are of use only after a failure.
    fs::remove_dir_all(&dir)?;
    Ok(outcome)
}

/// Measures; the process is alone in its namespaces. The last line that it prints is the outcome.
pub fn run_here(words: &[&str]) -> Result<ExitCode> {
    let [contestant, fault, repeat, dir, binary] = words else { bail!("five words are wanted") };
    let contestant = Contestant::named(contestant).context("no such contestant")?;
    let fault = Fault::named(fault).context("no such fault")?;
    let lab = lab::Lab::new(Path::new(dir), Path::new(binary))?;
    let outcome = measure::measure(&lab, contestant, fault, repeat.parse()?)?;
    println!("{}", outcome.json());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_a_contestant_or_a_fault() {
        let options = Options::parse(&["frozen", "--repeats", "2"]).expect("good words");

        assert_eq!(options.work().len(), 2 * Contestant::ALL.len());
        assert!(Options::parse(&["--repeats", "0"]).is_err());
    }
}

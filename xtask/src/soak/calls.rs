//! `cargo xtask soak calls`: fifty of each fault and as many switchovers, under a hundred calls a second, ours and Kamailio
//! with keepalived in turn; how many calls were hurt.
//!
//! Each trial has calls of its own (see [`crate::calls`]), so that what was hurt is known to be its doing: they begin, then
//! it happens to the node that serves, some seconds later it is mended, and the calls go on to their ends. Our pair lives
//! through a whole round of trials; the other one, which some faults leave broken, is fresh for each. What was done is in a
//! file, so that it can be stopped and goes on. While a file named `pause` stands beside it nothing happens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::pair::left;
use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod contestant;
mod page;
mod record;
mod trial;

use contestant::Contestant;
use record::{Done, Record};
use trial::{Event, Trials};

/// How often each thing happens, unless told otherwise.
const ROUNDS: u64 = 50;
/// Calls that begin in each second, unless told otherwise.
const A_SECOND: u32 = 100;
/// While this file is there, nothing happens.
const PAUSE: &str = "pause";
/// Where the result is written.
const PAGE: &str = "bench/SOAK-CALLS.md";
/// After so many lives that have failed somebody must look.
const FAILURES_MAX: usize = 20;

/// So many of a failure's reasons are kept; all of them were shown.
const WHY_MAX: usize = 2;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    rounds: u64,
    a_second: u32,
    dir: PathBuf,
    program: Option<PathBuf>,
    only: String,
    consent: Consent,
}

impl Options {
    /// Reads the words after `calls`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            rounds: ROUNDS,
            a_second: A_SECOND,
            dir: workspace::target().join("soak-calls"),
            program: None,
            only: String::new(),
            consent: Consent::Ask,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--rounds" => options.rounds = value()?.parse().context("--rounds wants a number")?,
                "--rate" => options.a_second = value()?.parse().context("--rate wants a number")?,
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--yes" => options.consent = Consent::Given,
                filter if !filter.starts_with('-') && options.only.is_empty() => {
                    filter.clone_into(&mut options.only)
                }
                unknown => bail!("{unknown} is not known"),
            }
        }
        ensure!(options.a_second >= 10, "--rate wants at least 10: each kind of call is a part of them");
        Ok(options)
    }

    fn page(&self, record: &Record, binary: &Path) -> Result<String> {
        page::page(record, &format!("cargo xtask soak calls --rounds {}", self.rounds), self.a_second, binary)
    }

    /// All trials, round by round, so that what changes on the machine hits all alike.
    fn trials(&self) -> Vec<(u64, Contestant, Event)> {
        let of = |round| {
            let each = Contestant::ALL.into_iter();
            each.flat_map(move |who| Event::ALL.into_iter().map(move |event| (round, who, event)))
        };
        let is_meant =
            |who: Contestant, event: Event| format!("{} {}", who.word(), event.name()).contains(&self.only);
        (1..=self.rounds).flat_map(of).filter(|(_, who, event)| is_meant(*who, *event)).collect()
    }

    /// The next trials of one life, if any are left.
    fn next(&self, record: &Record) -> Option<(u64, Contestant, Vec<Event>)> {
        let left: Vec<_> = self.trials().into_iter().filter(|trial| !record.has(*trial)).collect();
        let (round, who, first) = *left.first()?;
        if who.is_fresh_each_time() {
            return Some((round, who, vec![first]));
        }
        let same = left.into_iter().filter(|(its_round, its, _)| (*its_round, *its) == (round, who));
        Some((round, who, same.map(|(.., event)| event).collect()))
    }
}

/// Does the trials that are left, each life of a pair in namespaces of its own, and writes the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { dir, program, consent, a_second, .. } = options;
    packages::ensure_installed(packages::FOR_CALLS, &[], *consent)?;
    let binary = match program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    let (start, whole) = (Instant::now(), options.trials().len());
    ensure!(whole > 0, "nothing has {:?} in its name", options.only);
    println!(
        "{} of {whole} trials are done. To pause: touch {}. To stop: Ctrl-C; the same command goes on.",
        Record::open(dir)?.done().len(),
        dir.join(PAUSE).display()
    );
    loop {
        let record = Record::open(dir)?;
        let Some((round, who, events)) = options.next(&record) else {
            println!("{} says that all is done; remove it to begin again.", record.path().display());
            break;
        };
        if record.failures().len() >= FAILURES_MAX {
            println!("{FAILURES_MAX} lives of a pair have failed.");
            break;
        }
        let todo = whole.saturating_sub(record.done().len());
        let begun = Instant::now();
        let mut command = lab::alone();
        command.arg(std::env::current_exe()?).arg("soak-calls-here").arg(dir).arg(&binary);
        command.args([who.word(), &round.to_string(), &a_second.to_string()]);
        command.args(events.iter().map(|event| event.name()));
        process::loudly(&mut command)?;
        let after = Record::open(dir)?;
        if options.only.is_empty() {
            write_page(&options.page(&after, &binary)?)?;
        }
        let more = after.done().len() - record.done().len();
        if more > 0 {
            let each = begun.elapsed() / more as u32;
            let time = left(each * todo.saturating_sub(more) as u32);
            println!("[{} s] {} of {whole} trials are left; {time}", start.elapsed().as_secs(), todo - more);
        }
    }
    let record = Record::open(dir)?;
    let page = options.page(&record, &binary)?;
    println!("\n{page}");
    if options.only.is_empty() {
        write_page(&page)?;
        println!("written to {PAGE}");
    }
    Ok(if page::is_good(&record) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Also what was stopped has a page.
fn write_page(page: &str) -> Result<()> {
    let place = workspace::root().join(PAGE);
    let old = std::fs::read_to_string(&place).unwrap_or_default();
    let explanation = crate::bench::explanation(&old);
    std::fs::write(&place, format!("{page}\n{explanation}")).with_context(|| place.display().to_string())
}

/// One life of a pair; the process is alone in its namespaces. What is wrong with it is written down, and another life goes on.
pub fn run_here(words: &[&str]) -> Result<ExitCode> {
    let [dir, binary, who, round, a_second, events @ ..] = words else { bail!("six words are wanted") };
    let (dir, binary) = (Path::new(dir), Path::new(binary));
    let who = Contestant::named(who).context("no such pair")?;
    let (round, a_second) = (round.parse()?, a_second.parse()?);
    let events = events.iter().map(|name| Event::named(name).with_context(|| format!("no event {name}")));
    let events = events.collect::<Result<Vec<_>>>()?;
    let mut record = Record::open(dir)?;
    if let Err(error) = live(dir, binary, (who, round, a_second), &events, &mut record) {
        println!("{} round {round}: {error:#}", who.name());
        // What is behind these is command lines and logs, which were shown.
        let why: Vec<String> = error.chain().take(WHY_MAX).map(ToString::to_string).collect();
        let why = why.join(": ");
        record.fail(&format!("{}, round {round}: {why}", who.name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn live(
    dir: &Path,
    binary: &Path,
    (who, round, a_second): (Contestant, u64, u32),
    events: &[Event],
    record: &mut Record,
) -> Result<()> {
    // What a life that has failed left behind tells why; the next one is beside it.
    let place =
        dir.join(format!("{}-{round}-{}-{}", who.word(), record.done().len(), record.failures().len()));
    std::fs::create_dir_all(&place)?;
    let lab = lab::Lab::new(&place, binary)?;
    let mut trials = Trials::begin(&lab, who, a_second)?;
    let mut is_good = true;
    for event in events {
        while dir.join(PAUSE).exists() {
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        let books = trials.run(*event, round).with_context(|| event.name())?;
        println!("{} round {round}, {}: {books}", who.name(), event.name());
        for complaint in books.complaints() {
            record.complain(&format!("{} round {round}, {}: {complaint}", who.name(), event.name()))?;
        }
        is_good &= books.hurt() == 0;
        record.append(Done { round, who, event: *event, books })?;
    }
    drop(trials);
    // The logs are of use only where a call was hurt.
    if is_good {
        std::fs::remove_dir_all(&place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--rounds", "2", "--rate", "20", "switchover"]).expect("known words");

        assert_eq!(options.trials().len(), 2 * Contestant::ALL.len());
        assert!(Options::parse(&["--rounds"]).is_err());
        assert!(Options::parse(&["--rate", "1"]).is_err());
        assert!(Options::parse(&["--minutes", "2"]).is_err());
    }
}

//! Trials of pairs: each thing that can happen to a node, again and again, ours and Kamailio with keepalived in turn.
//!
//! Our pair lives through a whole round of trials; the other one, which some faults leave broken, is fresh for each. What was
//! done is in a file, so that it can be stopped and goes on. While a file named `pause` stands beside it nothing happens.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::pair::left;
use crate::lab::Lab;
use crate::lab::pair::Pair;
use crate::packages::{self, Consent, Needed};
use crate::{lab, process, workspace};

pub mod event;
pub mod pairs;
pub mod record;

use event::Event;
use pairs::{Contestant, Servers};
use record::{Done, Record};

/// How often each thing happens, unless told otherwise.
const ROUNDS: u64 = 50;
/// While this file is there, nothing happens.
const PAUSE: &str = "pause";
/// After so many lives that have failed somebody must look.
const FAILURES_MAX: usize = 20;
/// So many of a failure's reasons are kept; all of them were shown.
const WHY_MAX: usize = 2;

/// What is looked at while things happen.
pub trait Subject {
    /// What became of it in one trial.
    type Outcome: Outcome;

    /// Behind `soak` on the command line.
    const WORD: &'static str;
    /// Where the result is written.
    const PAGE: &'static str;
    /// What it needs.
    const PACKAGES: &'static [Needed];
    /// What happens.
    const EVENTS: &'static [Event];
    /// How much of it there is.
    const SIZE: Size;

    /// Starts a pair, with all phones registered.
    fn start(lab: &Lab, pair: &Pair, who: Contestant) -> Result<Servers>;

    /// Lets it happen under what is looked at. The pair is whole before, and waited for after.
    fn run(trial: &mut Trial<'_>) -> Result<Self::Outcome>;

    /// The whole page but for what a person wrote.
    fn page(record: &Record<Self::Outcome>, command: &str, size: u32, binary: &Path) -> Result<String>;
}

/// What became of calls in one trial.
pub trait Outcome: Display + Sized {
    /// How many calls were hurt.
    fn hurt(&self) -> u64;
    /// Why.
    fn complaints(&self) -> &[String];
    /// For a file.
    fn json(&self) -> Value;
    /// From a file, without the complaints.
    fn read(value: &Value) -> Option<Self>;
}

/// A number on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Its option.
    pub word: &'static str,
    /// Unless told otherwise.
    pub usual: u32,
    /// Fewer say nothing.
    pub least: u32,
}

/// One thing that happens to a pair.
#[derive(Debug)]
pub struct Trial<'t> {
    /// Where.
    pub lab: &'t Lab,
    /// The hosts.
    pub pair: &'t Pair,
    /// What runs on them.
    pub servers: &'t mut Servers,
    /// How much is under way.
    pub size: u32,
    /// What happens.
    pub event: Event,
    /// Which time it is, from 1.
    pub round: u64,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    rounds: u64,
    size: u32,
    dir: PathBuf,
    program: Option<PathBuf>,
    only: String,
    consent: Consent,
}

impl Options {
    fn parse<S: Subject>(words: &[&str]) -> Result<Options> {
        let mut options = Options {
            rounds: ROUNDS,
            size: S::SIZE.usual,
            dir: workspace::target().join(format!("soak-{}", S::WORD)),
            program: None,
            only: String::new(),
            consent: Consent::Ask,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--rounds" => options.rounds = value()?.parse().context("--rounds wants a number")?,
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--yes" => options.consent = Consent::Given,
                size if size == S::SIZE.word => {
                    options.size = value()?.parse().with_context(|| format!("{size} wants a number"))?;
                }
                filter if !filter.starts_with('-') && options.only.is_empty() => {
                    filter.clone_into(&mut options.only)
                }
                unknown => bail!("{unknown} is not known"),
            }
        }
        let Size { word, least, .. } = S::SIZE;
        ensure!(options.size >= least, "{word} wants at least {least}");
        Ok(options)
    }

    fn page<S: Subject>(&self, record: &Record<S::Outcome>, binary: &Path) -> Result<String> {
        let command = format!("cargo xtask soak {} --rounds {}", S::WORD, self.rounds);
        S::page(record, &command, self.size, binary)
    }

    /// All trials, round by round, so that what changes on the machine hits all alike.
    fn trials<S: Subject>(&self) -> Vec<(u64, Contestant, Event)> {
        let of = |round| {
            let each = Contestant::ALL.into_iter();
            each.flat_map(move |who| S::EVENTS.iter().map(move |event| (round, who, *event)))
        };
        let is_meant =
            |who: Contestant, event: Event| format!("{} {}", who.word(), event.name()).contains(&self.only);
        (1..=self.rounds).flat_map(of).filter(|(_, who, event)| is_meant(*who, *event)).collect()
    }

    /// The next trials of one life, if any are left.
    fn next<S: Subject>(&self, record: &Record<S::Outcome>) -> Option<(u64, Contestant, Vec<Event>)> {
        let left: Vec<_> = self.trials::<S>().into_iter().filter(|trial| !record.has(*trial)).collect();
        let (round, who, first) = *left.first()?;
        if who.is_fresh_each_time() {
            return Some((round, who, vec![first]));
        }
        let same = left.into_iter().filter(|(its_round, its, _)| (*its_round, *its) == (round, who));
        Some((round, who, same.map(|(.., event)| event).collect()))
    }
}

/// Does the trials that are left, each life of a pair in namespaces of its own, and writes the page. `words` stand behind the
/// subject's on the command line.
pub fn run<S: Subject>(words: &[&str]) -> Result<ExitCode> {
    let options = Options::parse::<S>(words)?;
    let Options { dir, program, consent, size, .. } = &options;
    packages::ensure_installed(S::PACKAGES, &[], *consent)?;
    let binary = match program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    let (start, whole) = (Instant::now(), options.trials::<S>().len());
    ensure!(whole > 0, "nothing has {:?} in its name", options.only);
    println!(
        "{} of {whole} trials are done. To pause: touch {}. To stop: Ctrl-C; the same command goes on.",
        Record::<S::Outcome>::open(dir)?.done().len(),
        dir.join(PAUSE).display()
    );
    loop {
        let record = Record::open(dir)?;
        let Some((round, who, events)) = options.next::<S>(&record) else {
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
        command.arg(std::env::current_exe()?).args(["soak-trials-here", S::WORD]).arg(dir).arg(&binary);
        command.args([who.word(), &round.to_string(), &size.to_string()]);
        command.args(events.iter().map(|event| event.name()));
        process::loudly(&mut command)?;
        let after = Record::open(dir)?;
        if options.only.is_empty() {
            write_page::<S>(&options.page::<S>(&after, &binary)?)?;
        }
        let more = after.done().len() - record.done().len();
        if more > 0 {
            let each = begun.elapsed() / more as u32;
            let time = left(each * todo.saturating_sub(more) as u32);
            println!("[{} s] {} of {whole} trials are left; {time}", start.elapsed().as_secs(), todo - more);
        }
    }
    let record = Record::open(dir)?;
    let page = options.page::<S>(&record, &binary)?;
    println!("\n{page}");
    if options.only.is_empty() {
        write_page::<S>(&page)?;
        println!("written to {}", S::PAGE);
    }
    Ok(if is_good(&record) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Also what was stopped has a page.
fn write_page<S: Subject>(page: &str) -> Result<()> {
    let place = workspace::root().join(S::PAGE);
    let old = std::fs::read_to_string(&place).unwrap_or_default();
    let explanation = crate::bench::explanation(&old);
    std::fs::write(&place, format!("{page}\n{explanation}")).with_context(|| place.display().to_string())
}

/// Whether ours has hurt no call, and has been whole after each trial.
pub fn is_good<O: Outcome>(record: &Record<O>) -> bool {
    let is_ours = |failure: &String| failure.starts_with(Contestant::Tandem.name());
    !record.failures().iter().any(is_ours)
        && !record.of(Contestant::Tandem).is_empty()
        && record.of(Contestant::Tandem).iter().all(|done| done.outcome.hurt() == 0)
}

/// One life of a pair; the process is alone in its namespaces. What is wrong with it is written down, and another life goes on.
pub fn run_here<S: Subject>(words: &[&str]) -> Result<ExitCode> {
    let [dir, binary, who, round, size, events @ ..] = words else { bail!("six words are wanted") };
    let (dir, binary) = (Path::new(dir), Path::new(binary));
    let who = Contestant::named(who).context("no such pair")?;
    let (round, size) = (round.parse()?, size.parse()?);
    let events = events.iter().map(|name| Event::named(name).with_context(|| format!("no event {name}")));
    let events = events.collect::<Result<Vec<_>>>()?;
    let mut record = Record::open(dir)?;
    if let Err(error) = live::<S>(dir, binary, (who, round, size), &events, &mut record) {
        println!("{} round {round}: {error:#}", who.name());
        // What is behind these is command lines and logs, which were shown.
        let why: Vec<String> = error.chain().take(WHY_MAX).map(ToString::to_string).collect();
        let why = why.join(": ");
        record.fail(&format!("{}, round {round}: {why}", who.name()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn live<S: Subject>(
    dir: &Path,
    binary: &Path,
    (who, round, size): (Contestant, u64, u32),
    events: &[Event],
    record: &mut Record<S::Outcome>,
) -> Result<()> {
    // What a life that has failed left behind tells why; the next one is beside it.
    let place =
        dir.join(format!("{}-{round}-{}-{}", who.word(), record.done().len(), record.failures().len()));
    std::fs::create_dir_all(&place)?;
    let lab = Lab::new(&place, binary)?;
    let pair = Pair::new(&lab)?;
    let mut servers = S::start(&lab, &pair, who)?;
    let mut is_good = true;
    for event in events {
        while dir.join(PAUSE).exists() {
            std::thread::sleep(Duration::from_secs(1));
        }
        servers.wait_until_whole()?;
        let mut trial = Trial { lab: &lab, pair: &pair, servers: &mut servers, size, event: *event, round };
        let outcome = S::run(&mut trial).with_context(|| event.name())?;
        servers.wait_until_whole()?;
        println!("{} round {round}, {}: {outcome}", who.name(), event.name());
        for complaint in outcome.complaints() {
            record.complain(&format!("{} round {round}, {}: {complaint}", who.name(), event.name()))?;
        }
        is_good &= outcome.hurt() == 0;
        record.append(Done { round, who, event: *event, outcome })?;
    }
    drop(servers);
    // The logs are of use only where a call was hurt.
    if is_good {
        std::fs::remove_dir_all(&place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::calls::UnderCalls;

    #[test]
    fn words_become_options() {
        let options = |words: &[&str]| Options::parse::<UnderCalls>(words);
        let switchovers = options(&["--rounds", "2", "--rate", "20", "switchover"]).expect("known words");

        assert_eq!(switchovers.trials::<UnderCalls>().len(), 2 * Contestant::ALL.len());
        assert!(options(&["--rounds"]).is_err());
        assert!(options(&["--rate", "1"]).is_err());
        assert!(options(&["--minutes", "2"]).is_err());
    }
}

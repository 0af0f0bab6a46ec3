//! `cargo xtask soak pair`: a thousand faults of a pair that 100,000 phones are registered at, at moments that are drawn.
//!
//! After each fault the node that serves must have every binding that was acknowledged: those of the last seconds and a
//! few others are compared each time, all of them each tenth time. What was done is in a file, so that it can be stopped
//! and goes on with a fresh pair. While a file named `pause` stands beside it nothing happens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod page;
mod record;
mod trial;

use record::Record;
use trial::Trial;
pub use trial::degraded;

/// How many faults, unless told otherwise.
const KILLS: u64 = 1_000;
/// How many phones, unless told otherwise.
const PHONES: u32 = 100_000;
/// While this file is there, nothing happens.
const PAUSE: &str = "pause";
/// Where the result is written.
const PAGE: &str = "bench/SOAK-PAIR.md";
/// After so many lives that have failed somebody must look.
const FAILURES_MAX: usize = 20;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    kills: u64,
    phones: u32,
    dir: PathBuf,
    program: Option<PathBuf>,
    consent: Consent,
}

impl Options {
    /// Reads the words after `pair`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let dir = workspace::target().join("soak-pair");
        let mut options = Options { kills: KILLS, phones: PHONES, dir, program: None, consent: Consent::Ask };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--kills" => options.kills = value()?.parse().context("--kills wants a number")?,
                "--phones" => options.phones = value()?.parse().context("--phones wants a number")?,
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--yes" => options.consent = Consent::Given,
                unknown => bail!("{unknown} is not known"),
            }
        }
        Ok(options)
    }
}

/// Does the faults that are left, each life of the pair in namespaces of its own, and writes the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { kills, phones, dir, program, consent } = options;
    packages::ensure_installed(packages::FOR_FAILOVER, &[], *consent)?;
    let binary = match program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    println!(
        "{} of {kills} faults are done. To pause: touch {}. To stop: Ctrl-C; the same command goes on.",
        Record::open(dir)?.kills().len(),
        dir.join(PAUSE).display()
    );
    loop {
        let record = Record::open(dir)?;
        if record.kills().len() as u64 >= *kills {
            println!("{} says that all is done; remove it to begin again.", record.path().display());
            break;
        }
        if record.failures().len() >= FAILURES_MAX {
            println!("{FAILURES_MAX} lives of the pair have failed.");
            break;
        }
        let mut command = lab::alone();
        command.arg(std::env::current_exe()?).arg("soak-pair-here").arg(dir).arg(&binary);
        command.args([kills.to_string(), phones.to_string()]);
        process::loudly(&mut command)?;
    }
    let page = page::page(&Record::open(dir)?, &binary)?;
    println!("\n{page}");
    if *phones == PHONES {
        write_page(&page)?;
        println!("written to {PAGE}");
    }
    let is_good = page::Verdict::of(&Record::open(dir)?).is_good();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One life of the pair; the process is alone in its namespaces. What is wrong with it is written down, and the next life
/// goes on.
pub fn run_here(words: &[&str]) -> Result<ExitCode> {
    let [dir, binary, kills, phones] = words else { bail!("four words are wanted") };
    let (dir, binary) = (Path::new(dir), Path::new(binary));
    let (kills, phones) = (kills.parse()?, phones.parse()?);
    let mut record = Record::open(dir)?;
    let life = record.kills().last().map_or(0, |kill| kill.life) + record.failures().len() as u64 + 1;
    if let Err(error) = live(dir, binary, (life, phones), kills, &mut record) {
        let number = record.kills().len() + 1;
        println!("life {life} of the pair ended before fault {number}: {error:#}");
        keep_logs(dir, life);
        record.fail(&format!("fault {number}: {error:#}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn live(
    dir: &Path,
    binary: &Path,
    (life, phones): (u64, u32),
    kills: u64,
    record: &mut Record,
) -> Result<()> {
    let lab = lab::Lab::new(dir, binary)?;
    let mut trial = Trial::begin(&lab, phones, life)?;
    let (start, done_before) = (Instant::now(), record.kills().len() as u64);
    while (record.kills().len() as u64) < kills {
        if dir.join(PAUSE).exists() {
            println!("paused until {} is removed", dir.join(PAUSE).display());
            trial.rest_while(|| dir.join(PAUSE).exists())?;
            println!("going on");
        }
        let number = record.kills().len() as u64 + 1;
        let (kill, complaints) = trial.kill(number)?;
        for complaint in &complaints {
            record.complain(number, complaint)?;
        }
        let line = kill.line();
        record.append(kill)?;
        let each = start.elapsed() / (number - done_before) as u32;
        println!("{number} of {kills}: {line}; {} left", left(each * (kills - number) as u32));
        if number.is_multiple_of(page::WRITTEN_EVERY) && phones == PHONES {
            write_page(&page::page(record, binary)?)?;
        }
    }
    Ok(())
}

/// Also what was stopped has a page; one with fewer phones has none.
fn write_page(page: &str) -> Result<()> {
    let place = workspace::root().join(PAGE);
    std::fs::write(&place, page).with_context(|| place.display().to_string())
}

/// The next life writes its own.
fn keep_logs(dir: &Path, life: u64) {
    for name in ["a", "b", "witness"] {
        // A log that is not there is not missed.
        let _ = std::fs::copy(dir.join(format!("{name}.log")), dir.join(format!("{name}-life-{life}.log")));
    }
}

/// How long it will take, for people.
pub fn left(time: Duration) -> String {
    let minutes = time.as_secs().div_ceil(60);
    if minutes >= 60 { format!("{} h {} min", minutes / 60, minutes % 60) } else { format!("{minutes} min") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--kills", "5", "--dir", "/tmp/soak"]).expect("known words");

        assert_eq!((options.kills, options.dir), (5, PathBuf::from("/tmp/soak")));
        assert!(Options::parse(&["--kills"]).is_err());
        assert!(Options::parse(&["--minutes", "2"]).is_err());
    }

    #[test]
    fn the_time_left_is_told_in_minutes_and_hours() {
        assert_eq!(left(Duration::from_secs(90)), "2 min");
        assert_eq!(left(Duration::from_secs(3700)), "1 h 2 min");
    }
}

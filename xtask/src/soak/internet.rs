//! `cargo xtask soak internet`: calls, registrations, scans and floods together against the real server, for hours.
//!
//! It runs minute by minute. After each minute its figures are appended to a file, and what was stopped goes on
//! with the next minute and a fresh server; memory is judged within each life of a server. While a file named
//! `pause` stands beside the figures nothing runs: the phones hang up and the server sleeps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod attack;
mod minute;
mod page;
mod sockets;
pub mod trial;

use minute::{Minute, Record};
use trial::{Scale, Trial};

/// How long it takes, unless told otherwise.
const MINUTES: u64 = 120;
/// While this file is there, nothing runs.
const PAUSE: &str = "pause";
/// Where the result is written.
const PAGE: &str = "bench/SOAK.md";

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    minutes: u64,
    dir: PathBuf,
    program: Option<PathBuf>,
    consent: Consent,
}

impl Options {
    /// Reads the words after `internet`.
    pub fn parse(words: &[&str]) -> Result<Options> {
        let dir = workspace::target().join("soak-internet");
        let mut options = Options { minutes: MINUTES, dir, program: None, consent: Consent::Ask };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match *word {
                "--minutes" => options.minutes = value()?.parse().context("--minutes wants a number")?,
                "--dir" => options.dir = std::path::absolute(value()?)?,
                "--program" => options.program = Some(std::path::absolute(value()?)?),
                "--yes" => options.consent = Consent::Given,
                unknown => bail!("{unknown} is not known"),
            }
        }
        Ok(options)
    }
}

/// Runs the minutes that are left, in namespaces of their own, and writes the page.
pub fn run(options: &Options) -> Result<ExitCode> {
    let Options { minutes, dir, program, consent } = options;
    packages::ensure_installed(packages::FOR_TESTS, packages::WISHED_FOR_TESTS, *consent)?;
    let binary = match program {
        Some(path) => path.clone(),
        None => {
            process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
            workspace::target().join("release/tandem")
        }
    };
    fs::create_dir_all(dir)?;
    let record = Record::open(dir)?;
    if record.minutes().len() as u64 >= *minutes {
        println!("{} says that all is done; remove it to begin again.", record.path().display());
    } else {
        println!(
            "{} of {minutes} minutes are done. To pause: touch {}. To stop: Ctrl-C; the same command goes on.",
            record.minutes().len(),
            dir.join(PAUSE).display()
        );
        let mut command = lab::alone();
        command.arg(std::env::current_exe()?).arg("soak-here").arg(dir).arg(&binary);
        command.arg(minutes.to_string());
        process::loudly(&mut command)?;
    }
    let record = Record::open(dir)?;
    let verdict = page::Verdict::of(record.minutes());
    let page = page::page(&record, &verdict, &binary)?;
    let place = workspace::root().join(PAGE);
    fs::write(&place, &page).with_context(|| place.display().to_string())?;
    println!("\n{page}\nwritten to {}", place.display());
    Ok(if verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the minutes that are left; the process is alone in its namespaces.
pub fn run_here(dir: &Path, binary: &Path, minutes: &str) -> Result<ExitCode> {
    let minutes: usize = minutes.parse()?;
    let mut record = Record::open(dir)?;
    let life = record.minutes().last().map_or(1, |minute| minute.life + 1);
    let lab = lab::Lab::new(dir, binary)?;
    let log = dir.join("server.log");
    if log.exists() {
        fs::rename(&log, dir.join("server.log.before"))?;
    }
    let mut trial = Trial::begin(&lab, Scale::FULL)?;
    while record.minutes().len() < minutes {
        if dir.join(PAUSE).exists() {
            println!("paused until {} is removed", dir.join(PAUSE).display());
            trial.pause_while(|| dir.join(PAUSE).exists())?;
            println!("going on");
        }
        let figures = trial.minute(trial::MINUTE)?;
        for complaint in &figures.complaints {
            record.complain(complaint)?;
        }
        let minute = Minute { life, number: record.minutes().len() as u64 + 1, ..figures.minute };
        println!("{} of {minutes}", minute.line());
        record.append(minute)?;
    }
    let rest = trial.end()?;
    for complaint in &rest.complaints {
        record.complain(complaint)?;
    }
    record.append_rest(rest.minute)?;
    record.counters(&rest.counters)?;
    Ok(ExitCode::SUCCESS)
}

/// A short form of it: the same crowd, scans and floods at a smaller scale, in which nobody may be hurt.
pub fn short(lab: &lab::Lab) -> Result<()> {
    let mut trial = Trial::begin(lab, Scale::SHORT)?;
    let figures = trial.minute(trial::SHORT_MINUTE)?;
    let rest = trial.end()?;
    let complaints = [figures.complaints, rest.complaints].concat();
    let (minute, rest) = (figures.minute, rest.minute);
    ensure!(complaints.is_empty(), "somebody was hurt: {}", complaints.join("\n"));
    ensure!(minute.begun > 0 && minute.begun == minute.ended + rest.ended, "{minute:?} {rest:?}");
    ensure!(minute.registered > 0 && minute.flood > 0 && minute.scans > 0, "{minute:?}");
    Ok(())
}

/// What a command says, for the page; nothing when it can not be run.
fn said(command: &mut Command) -> String {
    let text = process::output(command).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_options() {
        let options = Options::parse(&["--minutes", "5", "--dir", "/tmp/soak"]).expect("known words");

        assert_eq!((options.minutes, options.dir), (5, PathBuf::from("/tmp/soak")));
        assert!(Options::parse(&["--minutes"]).is_err());
        assert!(Options::parse(&["--hours", "2"]).is_err());
    }
}

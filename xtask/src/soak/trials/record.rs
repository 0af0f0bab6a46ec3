//! What was done, kept in a file line by line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Outcome;
use super::event::Event;
use super::pairs::Contestant;
use crate::process;

/// One trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Done<O> {
    /// Which time it was, from 1.
    pub round: u64,
    /// To whom it happened.
    pub who: Contestant,
    /// What happened.
    pub event: Event,
    /// What became of the calls.
    pub outcome: O,
}

impl<O: Outcome> Done<O> {
    fn json(&self) -> Value {
        let mut line = self.outcome.json();
        line["round"] = self.round.into();
        line["who"] = self.who.word().into();
        line["event"] = self.event.name().into();
        line
    }

    /// A line that was cut off is none.
    fn read(line: &str) -> Option<Done<O>> {
        let value: Value = serde_json::from_str(line).ok()?;
        Some(Done {
            round: value["round"].as_u64()?,
            who: Contestant::named(value["who"].as_str()?)?,
            event: Event::named(value["event"].as_str()?)?,
            outcome: O::read(&value)?,
        })
    }
}

/// The files of a soak.
#[derive(Debug)]
pub struct Record<O> {
    dir: PathBuf,
    done: Vec<Done<O>>,
    failures: Vec<String>,
}

impl<O: Outcome> Record<O> {
    /// Reads what is there.
    pub fn open(dir: &Path) -> Result<Record<O>> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let lines = |name: &str| process::read_lossy(&dir.join(name));
        let done = lines("trials.jsonl").lines().filter_map(Done::read).collect();
        let failures = lines("failures.txt").lines().map(str::to_owned).collect();
        Ok(Record { dir: dir.to_path_buf(), done, failures })
    }

    /// What was done.
    pub fn done(&self) -> &[Done<O>] {
        &self.done
    }

    /// What was done to one of them.
    pub fn of(&self, who: Contestant) -> Vec<&Done<O>> {
        self.done.iter().filter(|done| done.who == who).collect()
    }

    /// Whether a trial was.
    pub fn has(&self, (round, who, event): (u64, Contestant, Event)) -> bool {
        self.done.iter().any(|done| (done.round, done.who, done.event) == (round, who, event))
    }

    /// Lives of a pair that did not come to their end.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The file with the trials.
    pub fn path(&self) -> PathBuf {
        self.dir.join("trials.jsonl")
    }

    /// One more.
    pub fn append(&mut self, done: Done<O>) -> Result<()> {
        self.write("trials.jsonl", &done.json().to_string())?;
        self.done.push(done);
        Ok(())
    }

    /// Why a call was hurt.
    pub fn complain(&self, complaint: &str) -> Result<()> {
        self.write("complaints.txt", complaint)
    }

    /// A life of a pair has failed.
    pub fn fail(&mut self, failure: &str) -> Result<()> {
        let line = failure.replace('\n', " ");
        self.write("failures.txt", &line)?;
        self.failures.push(line);
        Ok(())
    }

    fn write(&self, name: &str, line: &str) -> Result<()> {
        let path = self.dir.join(name);
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| path.display().to_string())?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::books::Books;
    use serde_json::json;

    #[test]
    fn a_trial_that_is_written_can_be_read_and_one_that_was_cut_off_is_none() {
        let book = json!({ "calls": 5, "hurt": 1, "sent_again": 7 });
        let books = json!({ "ringing": book, "talking": book, "cancelled": book, "forked": book });
        let books = Books::read(&books).expect("books");
        let done = Done { round: 3, who: Contestant::Kamailio, event: Event::Switchover, outcome: books };
        let text = done.json().to_string();

        assert_eq!(Done::read(&text), Some(done));
        assert_eq!(Done::<Books>::read(&text[..text.len() / 2]), None);
    }
}

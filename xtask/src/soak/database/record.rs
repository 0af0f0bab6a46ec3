//! What each life of the soak brought, and the file that keeps it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::trouble::Trouble;

/// One trouble.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// What happened.
    pub trouble: Trouble,
    /// For how long.
    pub outage: Duration,
    /// The most bindings that were owed.
    pub bindings: u64,
    /// The most records that were owed.
    pub calls: u64,
    /// From its end until everything was written.
    pub written_after: Duration,
    /// How often the server ended itself because of it.
    pub ended_itself: u64,
}

/// One life.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// From 1.
    pub number: u64,
    /// From the first trouble until everything was written after the last one.
    pub took: Duration,
    /// REGISTERs that were answered with 200 in that time.
    pub registers: u64,
    /// Calls that were begun in that time.
    pub calls: u64,
    /// Calls that did not go as scripted.
    pub hurt: u64,
    /// Rows of bindings at the end.
    pub bindings: u64,
    /// Rows of calls at the end.
    pub records: u64,
    /// Calls without a record at any node.
    pub unrecorded: Vec<String>,
    /// The troubles.
    pub outages: Vec<Outage>,
    /// Each row that is wrong.
    pub faults: Vec<String>,
}

impl Outage {
    /// What is shown while it runs.
    pub fn line(&self) -> String {
        format!(
            "the database was {} for {:.1} s, meanwhile: {}; {} bindings and {} records were owed at most; all written after {:.1} s",
            self.trouble.name(),
            self.outage.as_secs_f64(),
            self.trouble.change().name(),
            self.bindings,
            self.calls,
            self.written_after.as_secs_f64()
        )
    }

    fn json(&self) -> Value {
        json!({
            "trouble": self.trouble.name(),
            "outage_ms": self.outage.as_millis() as u64,
            "bindings": self.bindings,
            "calls": self.calls,
            "written_after_ms": self.written_after.as_millis() as u64,
            "ended_itself": self.ended_itself,
        })
    }

    fn read(value: &Value) -> Option<Outage> {
        let number = |name: &str| value[name].as_u64();
        Some(Outage {
            trouble: Trouble::named(value["trouble"].as_str()?)?,
            outage: Duration::from_millis(number("outage_ms")?),
            bindings: number("bindings")?,
            calls: number("calls")?,
            written_after: Duration::from_millis(number("written_after_ms")?),
            ended_itself: number("ended_itself")?,
        })
    }
}

impl Life {
    /// What is shown at its end.
    pub fn verdict(&self) -> String {
        let word = if self.faults.is_empty() { "each row is there once" } else { "FAILED" };
        format!(
            "{word}: {} REGISTERs and {} calls ({} hurt), {} rows of bindings and {} of calls\n{}",
            self.registers,
            self.calls,
            self.hurt,
            self.bindings,
            self.records,
            self.faults.join("\n")
        )
    }

    fn json(&self) -> Value {
        json!({
            "number": self.number,
            "took_ms": self.took.as_millis() as u64,
            "registers": self.registers,
            "calls": self.calls,
            "hurt": self.hurt,
            "bindings": self.bindings,
            "records": self.records,
            "unrecorded": self.unrecorded,
            "outages": self.outages.iter().map(Outage::json).collect::<Vec<_>>(),
            "faults": self.faults,
        })
    }

    fn read(line: &str) -> Option<Life> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value[name].as_u64();
        let texts = |name: &str| -> Option<Vec<String>> {
            value[name].as_array()?.iter().map(|it| it.as_str().map(str::to_owned)).collect()
        };
        Some(Life {
            number: number("number")?,
            took: Duration::from_millis(number("took_ms")?),
            registers: number("registers")?,
            calls: number("calls")?,
            hurt: number("hurt")?,
            bindings: number("bindings")?,
            records: number("records")?,
            unrecorded: texts("unrecorded")?,
            outages: value["outages"].as_array()?.iter().map(Outage::read).collect::<Option<_>>()?,
            faults: texts("faults")?,
        })
    }
}

/// The files of a soak.
#[derive(Debug)]
pub struct Record {
    dir: PathBuf,
    lives: Vec<Life>,
    failures: Vec<String>,
}

impl Record {
    /// Reads what is there, if it is of the same command. A line that was cut off is passed over.
    pub fn open(dir: &Path, command: &str) -> Result<Record> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let lines = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let of = lines("command.txt");
        if of.is_empty() {
            fs::write(dir.join("command.txt"), command)?;
        }
        ensure!(
            of.is_empty() || of == command,
            "{} has what `{of}` did: remove it, or name another folder with --dir",
            dir.display()
        );
        let lives = lines("lives.jsonl").lines().filter_map(Life::read).collect();
        let failures = lines("failures.txt").lines().map(str::to_owned).collect();
        Ok(Record { dir: dir.to_path_buf(), lives, failures })
    }

    /// The lives that came to their end.
    pub fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// Lives that did not.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The file with the lives.
    pub fn path(&self) -> PathBuf {
        self.dir.join("lives.jsonl")
    }

    /// One more.
    pub fn append(&mut self, life: Life) -> Result<()> {
        self.write("lives.jsonl", &life.json().to_string())?;
        self.lives.push(life);
        Ok(())
    }

    /// A life did not come to its end.
    pub fn fail(&mut self, failure: &str) -> Result<()> {
        let line = failure.replace('\n', " ");
        self.write("failures.txt", &line)?;
        self.failures.push(line);
        Ok(())
    }

    fn write(&self, name: &str, line: &str) -> Result<()> {
        let path = self.dir.join(name);
        let file = File::options().create(true).append(true).open(&path);
        let mut file = file.with_context(|| path.display().to_string())?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn a_life_that_is_written_can_be_read_and_one_that_was_cut_off_is_none() {
        let life = life();
        let text = life.json().to_string();

        assert_eq!(Life::read(&text), Some(life));
        assert_eq!(Life::read(&text[..text.len() / 2]), None);
    }

    /// One in which nothing was lost.
    pub fn life() -> Life {
        Life {
            number: 1,
            took: Duration::from_secs(300),
            registers: 30_000,
            calls: 9_000,
            hurt: 0,
            bindings: 4_000,
            records: 9_100,
            unrecorded: Vec::new(),
            outages: vec![Outage {
                trouble: Trouble::Slow,
                outage: Duration::from_secs(50),
                bindings: 4_000,
                calls: 1_500,
                written_after: Duration::from_millis(2_500),
                ended_itself: 0,
            }],
            faults: Vec::new(),
        }
    }
}

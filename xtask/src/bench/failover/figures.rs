//! What was measured, kept in a file line by line.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::contestant::Contestant;
use super::fault::Fault;
use crate::process;

/// What one fault did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The time that is measured of this fault.
    pub time: Duration,
    /// Whether it was not over when the measurement ended.
    pub is_open: bool,
    /// How long both spoke for the address.
    pub both: Duration,
}

impl Outcome {
    /// One line.
    pub fn json(&self) -> Value {
        json!({ "us": self.time.as_micros() as u64, "open": self.is_open, "both_us": self.both.as_micros() as u64 })
    }

    /// Reads it.
    pub fn read(line: &str) -> Result<Outcome> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("no outcome: {line}"))?;
        Outcome::from_json(&value).with_context(|| format!("no outcome: {line}"))
    }

    fn from_json(value: &Value) -> Option<Outcome> {
        Some(Outcome {
            time: Duration::from_micros(value["us"].as_u64()?),
            is_open: value["open"].as_bool()?,
            both: Duration::from_micros(value["both_us"].as_u64()?),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let open = if self.is_open { "at least " } else { "" };
        let time = self.time.as_secs_f64() * 1000.0;
        match self.both.is_zero() {
            true => format!("{open}{time:.1} ms"),
            false => format!("{open}{time:.1} ms; both spoke for {:.1} ms", self.both.as_secs_f64() * 1000.0),
        }
    }
}

/// One of them, and of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Which time it was.
    pub repeat: usize,
    /// Who.
    pub contestant: Contestant,
    /// What happened.
    pub fault: Fault,
    /// What it did.
    pub outcome: Outcome,
}

/// All of them.
#[derive(Debug)]
pub struct Figures {
    path: PathBuf,
    file: File,
    ours: String,
    peer: String,
    kept: Vec<Figure>,
}

impl Figures {
    /// Reads those that are there, of these very programs.
    pub fn open(path: &Path, binary: &Path) -> Result<Figures> {
        let program = fs::read(binary).with_context(|| binary.display().to_string())?;
        let ours = Sha256::digest(&program).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let versions = [version("keepalived", "--version"), version("kamailio", "-v")];
        let mut figures = Figures {
            path: path.to_path_buf(),
            file: File::options().create(true).append(true).open(path)?,
            ours,
            peer: versions.join("; "),
            kept: Vec::new(),
        };
        let text = process::read_lossy(path);
        figures.kept = text.lines().filter_map(|line| figures.read(line)).collect();
        Ok(figures)
    }

    /// Whether a figure is there.
    pub fn has(&self, repeat: usize, contestant: Contestant, fault: Fault) -> bool {
        let is_it = |one: &&Figure| (one.repeat, one.contestant, one.fault) == (repeat, contestant, fault);
        self.kept.iter().any(|one| is_it(&one))
    }

    /// Writes a figure down.
    pub fn keep(&mut self, figure: Figure) -> Result<()> {
        let mut line = figure.outcome.json();
        line["repeat"] = json!(figure.repeat);
        line["contestant"] = json!(figure.contestant.word());
        line["fault"] = json!(figure.fault.word());
        line["program"] = json!(self.program(figure.contestant));
        writeln!(self.file, "{line}")?;
        self.kept.push(figure);
        Ok(())
    }

    /// The outcomes of one kind.
    pub fn outcomes(&self, contestant: Contestant, fault: Fault) -> Vec<Outcome> {
        let is_it = |one: &&Figure| (one.contestant, one.fault) == (contestant, fault);
        self.kept.iter().filter(is_it).map(|one| one.outcome).collect()
    }

    /// The versions of what is compared with.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Puts the file aside: the next run measures all anew.
    pub fn close(self) -> Result<()> {
        fs::rename(&self.path, self.path.with_extension("whole.jsonl"))?;
        Ok(())
    }

    fn program(&self, contestant: Contestant) -> &str {
        if contestant.lease().is_some() { &self.ours } else { &self.peer }
    }

    /// A line that was cut off by an interruption, or is of another program, is none.
    fn read(&self, line: &str) -> Option<Figure> {
        let value: Value = serde_json::from_str(line).ok()?;
        let contestant = Contestant::named(value["contestant"].as_str()?)?;
        let figure = Figure {
            repeat: value["repeat"].as_u64()? as usize,
            contestant,
            fault: Fault::named(value["fault"].as_str()?)?,
            outcome: Outcome::from_json(&value)?,
        };
        (value["program"].as_str()? == self.program(contestant)).then_some(figure)
    }
}

/// The first line of what a program says of itself, wherever it says that.
fn version(program: &str, option: &str) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    let said = command.arg(option).env("PATH", format!("{path}:/usr/sbin:/sbin")).output();
    let text = said.map_or_else(|_| Vec::new(), |said| [said.stdout, said.stderr].concat());
    String::from_utf8_lossy(&text).lines().next().unwrap_or(program).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_there_again_but_not_for_another_program() {
        let dir = std::env::temp_dir().join(format!("xtask-figures-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("made");
        let (path, binary) = (dir.join("figures.jsonl"), dir.join("binary"));
        fs::write(&binary, "one").expect("written");
        let outcome = Outcome { time: Duration::from_micros(1500), is_open: false, both: Duration::ZERO };
        let (contestant, fault) = (Contestant::TandemDefault, Fault::Frozen);

        let mut figures = Figures::open(&path, &binary).expect("a file");
        figures.keep(Figure { repeat: 3, contestant, fault, outcome }).expect("kept");
        fs::write(&path, format!("{}{{\"repeat\": 4", process::read_lossy(&path))).expect("written");

        let again = Figures::open(&path, &binary).expect("a file");
        assert!(again.has(3, contestant, fault) && !again.has(4, contestant, fault));
        assert_eq!(again.outcomes(contestant, fault), [outcome]);
        fs::write(&binary, "another").expect("written");
        assert!(!Figures::open(&path, &binary).expect("a file").has(3, contestant, fault));
        fs::remove_dir_all(&dir).expect("removed");
    }
}

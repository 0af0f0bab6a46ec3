//! What each fault of the soak brought, and the file that keeps it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cluster::fault::Fault;

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Kill {
    /// Which fault, from 1.
    pub number: u64,
    /// Which life of the pair, from 1.
    pub life: u64,
    /// What happened.
    pub fault: Fault,
    /// To whom.
    pub victim: Victim,
    /// The longest time without a 200 to a REGISTER.
    pub gap: Duration,
    /// From the fault until both nodes were well again.
    pub back: Duration,
    /// REGISTERs that were accepted since the fault before.
    pub accepted: u64,
    /// Promises that were compared.
    pub compared: u64,
    /// Promises that were not kept.
    pub lost: u64,
    /// The same, but as many as had just been degraded: those were not promised to outlive the node.
    pub lost_degraded: u64,
    /// Whether all bindings were compared.
    pub is_full: bool,
    /// Refusals, REGISTERs without an answer, and wrong answers; and 401s to a nonce that was good before.
    pub hurt: u64,
    /// How many epochs it took.
    pub epochs: u64,
    /// How often a node lost the lease because no majority voted, without having been hurt.
    pub lapses: u64,
    /// 401s to a nonce that was good before, after such a lapse.
    pub asked_again: u64,
    /// REGISTERs that went on although the other node may not have held them, by cause.
    pub degraded: BTreeMap<String, u64>,
    /// How many of them while the other node was well.
    pub degraded_when_whole: u64,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The node that serves.
    Active,
    /// The other one.
    Standby,
}

impl Victim {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Victim::Active => "active",
            Victim::Standby => "standby",
        }
    }

    fn named(name: &str) -> Option<Victim> {
        [Victim::Active, Victim::Standby].into_iter().find(|victim| victim.name() == name)
    }
}

impl Kill {
    /// What is shown while it runs.
    pub fn line(&self) -> String {
        let degraded: u64 = self.degraded.values().sum();
        let full = if self.is_full { ", all of them" } else { "" };
        format!(
            "{} ({}): {} ms without an answer, whole again after {:.1} s; {} accepted, {degraded} degraded; {} \
             compared{full}: {} lost and {} degraded ones, {} hurt",
            self.fault.name(),
            self.victim.name(),
            self.gap.as_millis(),
            self.back.as_secs_f64(),
            self.accepted,
            self.compared,
            self.lost,
            self.lost_degraded,
            self.hurt
        )
    }

    fn json(&self) -> Value {
        json!({
            "number": self.number,
            "life": self.life,
            "fault": self.fault.name(),
            "victim": self.victim.name(),
            "gap_ms": self.gap.as_millis() as u64,
            "back_ms": self.back.as_millis() as u64,
            "accepted": self.accepted,
            "compared": self.compared,
            "lost": self.lost,
            "lost_degraded": self.lost_degraded,
            "is_full": self.is_full,
            "hurt": self.hurt,
            "epochs": self.epochs,
            "lapses": self.lapses,
            "asked_again": self.asked_again,
            "degraded": self.degraded,
            "degraded_when_whole": self.degraded_when_whole,
        })
    }

    fn read(line: &str) -> Option<Kill> {
        let value: Value = serde_json::from_str(line).ok()?;
        let number = |name: &str| value[name].as_u64();
        let degraded = value["degraded"].as_object()?.iter();
        Some(Kill {
            number: number("number")?,
            life: number("life")?,
            fault: Fault::named(value["fault"].as_str()?)?,
            victim: Victim::named(value["victim"].as_str()?)?,
            gap: Duration::from_millis(number("gap_ms")?),
            back: Duration::from_millis(number("back_ms")?),
            accepted: number("accepted")?,
            compared: number("compared")?,
            lost: number("lost")?,
            lost_degraded: number("lost_degraded")?,
            is_full: value["is_full"].as_bool()?,
            hurt: number("hurt")?,
            epochs: number("epochs")?,
            lapses: number("lapses")?,
            asked_again: number("asked_again")?,
            degraded: degraded.map(|(cause, count)| (cause.clone(), count.as_u64().unwrap_or(0))).collect(),
            degraded_when_whole: number("degraded_when_whole")?,
        })
    }
}

/// The files of a soak.
#[derive(Debug)]
pub struct Record {
    dir: PathBuf,
    kills: Vec<Kill>,
    failures: Vec<String>,
}

impl Record {
    /// Reads what is there. A line that was cut off is passed over.
    pub fn open(dir: &Path) -> Result<Record> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let lines = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let kills = lines("kills.jsonl").lines().filter_map(Kill::read).collect();
        let failures = lines("failures.txt").lines().map(str::to_owned).collect();
        Ok(Record { dir: dir.to_path_buf(), kills, failures })
    }

    /// The faults that were done.
    pub fn kills(&self) -> &[Kill] {
        &self.kills
    }

    /// Lives of the pair that ended with something else than a whole pair.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The file with the faults.
    pub fn path(&self) -> PathBuf {
        self.dir.join("kills.jsonl")
    }

    /// One more.
    pub fn append(&mut self, kill: Kill) -> Result<()> {
        self.write("kills.jsonl", &kill.json().to_string())?;
        self.kills.push(kill);
        Ok(())
    }

    /// What was not kept, in words.
    pub fn complain(&self, number: u64, complaint: &str) -> Result<()> {
        self.write("complaints.txt", &format!("{number}: {complaint}"))
    }

    /// A life of the pair has failed.
    pub fn fail(&mut self, failure: &str) -> Result<()> {
        let line = failure.replace('\n', " ");
        self.write("failures.txt", &line)?;
        self.failures.push(line);
        Ok(())
    }

    fn write(&self, name: &str, line: &str) -> Result<()> {
        let path = self.dir.join(name);
        let mut file = File::options().create(true).append(true).open(&path);
        let file = file.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        file.write_all(format!("{line}\n").as_bytes()).with_context(|| path.display().to_string())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_written_can_be_read_and_one_that_was_cut_off_is_none() {
        let kill = kill(7);
        let text = kill.json().to_string();

        assert_eq!(Kill::read(&text), Some(kill));
        assert_eq!(Kill::read(&text[..text.len() / 2]), None);
    }

    /// A fault in which nothing was lost.
    pub fn kill(number: u64) -> Kill {
        Kill {
            number,
            life: 1,
            fault: Fault::EngineKilled,
            victim: Victim::Active,
            gap: Duration::from_millis(100 + number),
            back: Duration::from_secs(2),
            accepted: 1000,
            compared: 2000,
            lost: 0,
            lost_degraded: 0,
            is_full: false,
            hurt: 0,
            epochs: 1,
            lapses: 0,
            asked_again: 0,
            degraded: BTreeMap::from([("no_peer".to_owned(), 3)]),
            degraded_when_whole: 0,
        }
    }
}

//! What two nodes have written down of the calls that went by them: one record for each, whatever happened in between.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::calls::{Books, Kind};
use crate::cluster;
use crate::lab::pair::Side;
use crate::process;
use crate::scenario::MEASURED;

/// What makes both nodes write.
pub const TOML: &str = "[records]\nfiles = true\n";

/// The records of both nodes, by their ids.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<String, Value>);

impl Records {
    /// Reads the files of both nodes; of lines with the same id one is taken, and they must say the same of how it ended.
    pub fn read() -> Result<Records> {
        let mut records = Records::default();
        for side in Side::BOTH {
            let directory = Path::new(&cluster::state_directory(side.name())).join("records");
            let files = fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
            for file in files {
                let path = file?.path();
                for line in fs::read_to_string(&path)?.lines() {
                    records.add(line).with_context(|| format!("{}: {line:?}", path.display()))?;
                }
            }
        }
        Ok(records)
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn add(&mut self, line: &str) -> Result<()> {
        let record: Value = serde_json::from_str(line)?;
        let id = record["id"].as_str().context("no id")?.to_owned();
        if let Some(other) = self.0.insert(id, record.clone()) {
            let differs = ["code", "call_id", "callee"].iter().any(|field| other[*field] != record[*field]);
            ensure!(!differs, "another node says: {other}");
        }
        Ok(())
    }

    /// So many of a kind have ended as they should.
    fn of(&self, kind: Kind) -> u64 {
        let wanted = if kind == Kind::Cancelled { (487, "caller") } else { (200, "caller") };
        let is_of_kind =
            |record: &&Value| record["callee"].as_str().is_some_and(|callee| callee.contains(kind.name()));
        let is_right =
            |record: &&Value| (&record["code"], &record["ended_by"]) == (&wanted.0.into(), &wanted.1.into());
        self.0.values().filter(is_of_kind).filter(is_right).count() as u64
    }
}

/// Waits until each call has its record.
///
/// One may be missing for each of `killed`: the node that died between telling the other one of a call's end and its own
/// thread's writing (docs/records.md).
pub fn check(books: &Books, killed: u64) -> Result<()> {
    let mut last = String::new();
    let found = process::wait_until("record of each call", cluster::TIME_MAX, || {
        // A line may be read while it is written.
        let records = match Records::read() {
            Ok(records) => records,
            Err(error) => {
                last = format!("{error:#}");
                return Ok(None);
            }
        };
        let counts: Vec<_> = Kind::ALL.map(|kind| (kind, records.of(kind), books.of(kind).calls)).into();
        last = format!("{counts:?} of {} records", records.0.len());
        let missing: u64 = counts.iter().map(|(_, found, wanted)| wanted.saturating_sub(*found)).sum();
        Ok((missing <= killed).then_some((records, counts)))
    });
    let Ok((records, counts)) = found else { bail!("kind, found, wanted: {last}") };
    let all: u64 = counts.iter().map(|(.., wanted)| wanted).sum();
    ensure!(records.0.len() as u64 <= all, "more records than {all} calls: {last}");
    println!("{MEASURED}{} records of {all} calls at two nodes", records.0.len());
    Ok(())
}

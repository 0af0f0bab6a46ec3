//! What phones and callers were told, against the rows of the database: each binding and each call once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::calls;
use crate::control::Contact;
use crate::database_server::DatabaseServer;
use crate::lab::observer::now;
use crate::lab::pair::VIP;
use crate::registrants::ledger::{Comparison, Verdict};
use crate::registrants::{Counts, Registrants};
use crate::scenario::cluster::records::Records;

/// So many rows of a kind are named; all are counted.
const NAMED_MAX: usize = 200;

/// What was compared, and what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// What became of REGISTERs.
    pub registers: Counts,
    /// What became of calls, for their parties.
    pub calls: calls::Books,
    /// Rows of bindings.
    pub bindings: u64,
    /// Rows of calls.
    pub records: u64,
    /// Rows that are missing, are there twice or are of nothing, by their names.
    pub wrong: Vec<String>,
    /// Calls of which no node has a record, by their Call-IDs.
    pub unrecorded: Vec<String>,
    /// What phones complained about.
    pub complaints: Vec<String>,
}

impl Books {
    /// What is wrong with the rows. Nodes that were killed may each have taken a record with them (docs/records.md), and a call that
    /// did not go on as it should may have none.
    pub fn faults(&self, killed: u64) -> Vec<String> {
        let mut faults = self.wrong.clone();
        if self.unrecorded.len() as u64 > killed + self.calls.hurt() {
            faults.extend(self.unrecorded.iter().map(|id| format!("the call {id} has no record at all")));
        }
        faults
    }

    /// REGISTERs that were refused, not answered or answered wrongly.
    pub fn refused(&self) -> u64 {
        self.registers.refused + self.registers.unanswered + self.registers.wrong
    }

    fn named(&mut self, what: &str, names: impl IntoIterator<Item = String>) {
        let mut names = names.into_iter();
        self.wrong.extend(names.by_ref().take(NAMED_MAX).map(|name| format!("{what}: {name}")));
        let more = names.count();
        if more > 0 {
            self.wrong.push(format!("{what}: {more} more"));
        }
    }
}

/// Compares the table `location` with what the phones were promised, when none of them registers any more.
pub fn compare_bindings(
    books: &mut Books,
    database: &DatabaseServer,
    registrants: &Registrants,
) -> Result<()> {
    let (entries, begun) = (registrants.entries(), now());
    let text = database.sql("SELECT username, contact, expires FROM location")?;
    let (mut of_phones, mut others) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let row: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [user, contact, expires] = row[..] else { anyhow::bail!("a row {line:?}") };
        let at = Duration::from_secs(expires.parse().with_context(|| line.to_owned())?);
        books.bindings += 1;
        if user.starts_with("user") {
            of_phones.push(Contact {
                aor: format!("{user}@{VIP}"),
                contact: contact.to_owned(),
                received: String::new(),
                expires: at.saturating_sub(begun),
            });
        } else {
            others.push(contact.to_owned());
        }
    }
    let comparison = Comparison { before: &entries, after: &entries, read: (begun, now()) };
    let Verdict { told, victims, .. } = comparison.judge(0..registrants.plan().phones, &of_phones);
    books.named("location", told);
    if !victims.is_empty() {
        books.named("location, wrong for", victims.iter().map(|phone| format!("user{phone}")));
    }
    let unique: BTreeSet<&String> = others.iter().collect();
    if others.len() != calls::registered() || unique.len() != calls::registered() {
        books.named("location, of phones that are called, which are 60", [format!("{others:?}")]);
    }
    Ok(())
}

/// Compares the tables of calls with the calls that were begun and with what both nodes have in their files.
pub fn compare_calls(books: &mut Books, database: &DatabaseServer, begun: &BTreeSet<String>) -> Result<()> {
    let files = Records::read()?;
    let text = database.sql(
        "SELECT id, call_id, CASE WHEN answer_time IS NULL THEN 'missed' ELSE 'answered' END FROM tandem_cdr",
    )?;
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split('\t').map(str::trim).collect()).collect();
    books.records = rows.len() as u64;
    let ids: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    let in_files: BTreeSet<&str> = files.ids().collect();
    let owned = |ids: Vec<&&str>| ids.into_iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    books.named("tandem_cdr lacks the record", owned(in_files.difference(&ids).collect()));
    books.named("tandem_cdr has a record of no file", owned(ids.difference(&in_files).collect()));
    let mut of_call: BTreeMap<&str, u64> = BTreeMap::new();
    for row in &rows {
        *of_call.entry(row[1]).or_default() += 1;
    }
    let doubled = of_call.iter().filter(|(_, rows)| **rows > 1).map(|(id, _)| (*id).to_owned());
    books.named("tandem_cdr has two rows of the call", doubled);
    let strange = of_call.keys().filter(|id| !begun.contains(**id)).map(|id| (*id).to_owned());
    books.named("tandem_cdr has a call that nobody made", strange);
    books.unrecorded = begun.iter().filter(|id| !of_call.contains_key(id.as_str())).cloned().collect();
    for (table, kind) in [("acc", "answered"), ("missed_calls", "missed")] {
        let mut left: BTreeMap<&str, i64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row[2] == kind) {
            *left.entry(row[1]).or_default() += 1;
        }
        let found = database.sql(&format!("SELECT callid FROM {table}"))?;
        for id in found.lines().map(str::trim) {
            *left.entry(id).or_default() -= 1;
        }
        let odd = left.into_iter().filter(|(_, left)| *left != 0);
        books.named(
            &format!("{table} has not one row for each call of tandem_cdr"),
            odd.map(|(id, left)| {
                format!("{id}, {} too {}", left.abs(), if left > 0 { "few" } else { "many" })
            }),
        );
    }
    Ok(())
}

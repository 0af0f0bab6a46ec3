//! The thread that writes to the disk, so that a slow one keeps nobody waiting.
//!
//! What the voter must not forget comes first: of several records that wait only the last is written, and the answer to it
//! stands for all before it. Reports and learnt voters follow.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::JoinHandle;

use cluster::{MemberId, Record, VoterId, WriteNumber};

use super::inbox::{Inward, Sender};
use super::memory::{MEMBERS, RECORD, members_text, replace};
use crate::outbox::{self, NotTaken, Outbox, Taking};

/// Orders that wait for the disk. A voter has a handful under way; more wait only when the disk does not move at all.
const WAITING_MAX: usize = 64;

/// Where reports of takeovers are kept.
pub const REPORTS: &str = "reports.jsonl";

/// Bytes of reports: a thousand of them. The older half goes when they are more.
const REPORTS_BYTES_MAX: u64 = 1 << 20;

#[expect(clippy::large_enum_variant, reason = "a few of them wait, in a queue that is made once")]
#[derive(Debug)]
enum Order {
    Keep(WriteNumber, Record),
    Members(BTreeMap<MemberId, VoterId>),
    Report(String),
}

/// The thread, as its orders are given.
#[derive(Debug)]
pub struct Keeper {
    orders: Outbox<Order>,
    thread: JoinHandle<()>,
}

/// The disk does not move: the order was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

impl Keeper {
    /// Starts the thread, which writes what a voter must remember into `directory`, reports into `reports`, and answers to
    /// this inbox.
    pub fn start(directory: &Path, reports: &Path, inbox: Sender) -> io::Result<Self> {
        let (directory, reports) = (directory.to_owned(), reports.join(REPORTS));
        let run = move |waiting| run(&directory, &reports, &waiting, &inbox);
        let (orders, thread) = outbox::start("keeper", WAITING_MAX, run)?;
        Ok(Self { orders, thread })
    }

    /// Writes the voter's record; the inbox is told of it.
    pub fn keep(&self, number: WriteNumber, record: Record) -> Result<(), Stuck> {
        self.order(Order::Keep(number, record))
    }

    /// Writes which voters were heard.
    pub fn learn(&self, members: &BTreeMap<MemberId, VoterId>) -> Result<(), Stuck> {
        self.order(Order::Members(members.clone()))
    }

    /// Appends a report, one line without its end.
    pub fn report(&self, line: String) -> Result<(), Stuck> {
        self.order(Order::Report(line))
    }

    /// Waits until everything is written. Nobody may wait for the caller any more.
    pub fn finish(self) {
        drop(self.orders);
        // One that panicked has nothing to write.
        let _ = self.thread.join();
    }

    fn order(&self, order: Order) -> Result<(), Stuck> {
        self.orders.give(order).map_err(|NotTaken| Stuck)
    }
}

fn run(directory: &Path, reports: &Path, waiting: &Taking<Order>, inbox: &Sender) {
    while let Ok(first) = waiting.next() {
        let others = std::iter::from_fn(|| waiting.next_now().ok().flatten());
        let orders: Vec<Order> = std::iter::once(first).chain(others.take(WAITING_MAX)).collect();
        let last_record = orders.iter().rev().find_map(|order| match order {
            Order::Keep(number, record) => Some((*number, *record)),
            _ => None,
        });
        if let Some((number, record)) = last_record {
            let result = replace(&directory.join(RECORD), &record.to_bytes());
            if let Err(error) = &result {
                tracing::error!(%error, directory = %directory.display(), "the voter's record can not be written: it does not vote any more");
            }
            // Without a guardian there is no voter to be told.
            let _ = inbox.send(Inward::Kept(number, result.is_ok()));
        }
        let last_members = orders.iter().rev().find_map(|order| match order {
            Order::Members(members) => Some(members),
            _ => None,
        });
        if let Some(members) = last_members
            && let Err(error) = replace(&directory.join(MEMBERS), members_text(members).as_bytes())
        {
            tracing::error!(%error, directory = %directory.display(), "the voters of other members can not be remembered");
        }
        for order in &orders {
            if let Order::Report(line) = order
                && let Err(error) = append(reports, line)
            {
                tracing::warn!(%error, file = %reports.display(), "a report can not be written");
            }
        }
    }
}

/// Appends a line; the older half of a file that has become too long goes.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if length + line.len() as u64 > REPORTS_BYTES_MAX {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let mut kept: String = lines[lines.len() / 2..].join("\n");
        kept.push('\n');
        replace(path, kept.as_bytes())?;
    }
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use cluster::Epoch;
    use rustix::event::{PollFd, PollFlags, poll};

    use super::super::inbox::{Inbox, inbox};
    use super::*;

    #[test]
    fn a_record_is_on_disk_when_the_inbox_says_so() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let keeper = Keeper::start(place.path(), place.path(), sender).expect("a thread can be started");

        for epoch in 1..=3 {
            keeper.keep(WriteNumber(epoch), record(epoch)).expect("there is room");
        }

        let mut last = None;
        while last != Some((3, true)) {
            last = next(&inbox);
        }
        let bytes = std::fs::read(place.path().join(RECORD)).expect("it is there");
        assert_eq!(Record::from_bytes(&bytes), Ok(record(3)));
        keeper.finish();
    }

    #[test]
    fn a_disk_that_fails_is_told_of() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let absent = place.path().join("not there");
        let keeper = Keeper::start(&absent, place.path(), sender).expect("a thread can be started");

        keeper.keep(WriteNumber(1), record(1)).expect("there is room");

        assert_eq!(next(&inbox), Some((1, false)));
    }

    #[test]
    fn reports_are_where_they_are_looked_for_wherever_the_record_is() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let (sender, _inbox) = inbox().expect("a descriptor is left");
        let record = place.path().join("external");
        std::fs::create_dir(&record).expect("it can be made");
        let keeper = Keeper::start(&record, place.path(), sender).expect("a thread can be started");

        keeper.report("{}".to_owned()).expect("there is room");
        keeper.finish();

        let text = std::fs::read_to_string(place.path().join(REPORTS)).expect("it is there");
        assert_eq!(text, "{}\n");
    }

    #[test]
    fn reports_are_bounded_and_the_last_ones_stay() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let path = place.path().join(REPORTS);
        let line = "x".repeat(100_000);
        for number in 0..30 {
            append(&path, &format!("{number} {line}")).expect("it can be written");
        }

        let text = std::fs::read_to_string(&path).expect("it is there");
        assert!(text.len() as u64 <= REPORTS_BYTES_MAX);
        assert!(text.lines().last().is_some_and(|last| last.starts_with("29 ")));
        assert!(text.lines().all(|line| line.len() > 100_000), "no line is torn");
    }

    fn record(epoch: u64) -> Record {
        Record { epoch: Epoch(epoch), ..Record::first(VoterId(1)) }
    }

    fn next(inbox: &Inbox) -> Option<(u64, bool)> {
        poll(&mut [PollFd::new(inbox, PollFlags::IN)], None).expect("it can be polled");
        let mut taken = Vec::new();
        inbox.take(1, &mut taken);
        match taken.pop() {
            Some(Inward::Kept(WriteNumber(number), is_kept)) => Some((number, is_kept)),
            _ => None,
        }
    }
}

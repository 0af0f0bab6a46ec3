//! Calls all the time, by SIPp, and what became of each.
//!
//! Half of them ring for some seconds and are answered, three tenths are answered at once and talk, a tenth is cancelled, and
//! a tenth rings at three phones of which one answers. All send again over UDP as RFC 3261 says. A call is hurt when it did
//! not go on as scripted at its caller or at one of its phones; the only thing that may be missing or come twice is a 100
//! or 180, which nobody repeats.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::pair::VIP;
use crate::lab::{Host, Lab};
use crate::process::{self, Running};
use crate::sipp;

pub mod books;
mod counts;

use books::Book;
pub use books::Books;
use counts::Counts;

/// How long the slowest call may take to end: one whose messages nobody answers is given up after 32 s.
const END_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a start may take on a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Accounts of each kind, called in turn.
const USERS: usize = 10;
/// The first ports of those who are called, and of those who call.
const PHONES_PORT: u16 = 5_061;
const CALLERS_PORT: u16 = 5_081;
/// SIPp binds some ports for sound that nobody uses; each gets its own.
const SOUND_PORT: u16 = 6_000;
const SOUND_PORTS: u16 = 20;

/// So many at once, which is more than there are: SIPp begins no more while there are too many.
const CALLS_MAX: &str = "15000";

/// What a call is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Rings for some seconds, is answered and hung up.
    Ringing,
    /// Is answered at once, and hung up some seconds later.
    Talking,
    /// Rings until its caller cancels it.
    Cancelled,
    /// Rings at three phones; one answers, the others are cancelled.
    Forked,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 4] = [Kind::Ringing, Kind::Talking, Kind::Cancelled, Kind::Forked];

    /// Its name, and that of its accounts.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ringing => "ringing",
            Kind::Talking => "talking",
            Kind::Cancelled => "cancelled",
            Kind::Forked => "forked",
        }
    }

    /// So many of ten calls.
    fn tenths(self) -> u32 {
        match self {
            Kind::Ringing => 5,
            Kind::Talking => 3,
            Kind::Cancelled | Kind::Forked => 1,
        }
    }

    /// The flow of its caller, and how many milliseconds that one waits before it hangs up or cancels.
    fn caller(self) -> (&'static str, u32) {
        match self {
            Kind::Ringing | Kind::Forked => ("load_caller", 500),
            Kind::Talking => ("load_caller", 2_500),
            Kind::Cancelled => ("load_caller_cancels", 1_500),
        }
    }

    /// The flows of its phones, and how long each rings.
    fn phones(self) -> &'static [(&'static str, u32)] {
        match self {
            Kind::Ringing => &[("load_callee", 2_500)],
            Kind::Talking => &[("load_callee", 0)],
            Kind::Cancelled => &[("load_callee_is_cancelled", 0)],
            Kind::Forked => {
                &[("load_callee", 1_500), ("load_callee_is_cancelled", 0), ("load_callee_is_cancelled", 0)]
            }
        }
    }

    /// Its accounts, as SIPp reads them.
    fn lines(self) -> String {
        let users = (0..USERS).map(|number| format!("{}{number}\n", self.name()));
        std::iter::once("SEQUENTIAL\n".to_owned()).chain(users).collect()
    }
}

/// The accounts of all kinds.
pub fn users() -> impl Iterator<Item = String> {
    Kind::ALL.into_iter().flat_map(|kind| (0..USERS).map(move |number| format!("{}{number}", kind.name())))
}

/// How many bindings [`register`] makes.
pub fn registered() -> usize {
    phones().count() * USERS
}

/// Registers all phones of a host at a registrar that asks for no password; the domain is the virtual address.
pub fn register(lab: &Lab, host: &Host, registrar: Ipv4Addr) -> Result<()> {
    let file = |kind: Kind| lab.dir.join(format!("{}.csv", kind.name()));
    for kind in Kind::ALL {
        fs::write(file(kind), kind.lines())?;
    }
    let mut running = Vec::new();
    for (number, (kind, _)) in phones().enumerate() {
        let mut command = command(host, "load_register", PHONES_PORT + number as u16);
        command.arg("-inf").arg(file(kind)).args(["-m", &USERS.to_string(), "-r", "100", "-timeout", "15"]);
        command.args(["-timeout_error", &format!("{registrar}:5060")]);
        running.push(Running::start(&mut command, &lab.dir.join(format!("register-{number}.log")))?);
    }
    for mut one in running {
        let status = one.wait(START_TIME_MAX)?;
        ensure!(status.success(), "registration ended with {status}: {}", process::tail(&one.log(), 20));
    }
    Ok(())
}

/// Calls that are under way.
#[derive(Debug)]
pub struct Calls {
    callers: Vec<Party>,
    phones: Vec<Party>,
}

/// One SIPp of them.
#[derive(Debug)]
struct Party {
    kind: Kind,
    running: Running,
    host: Ipv4Addr,
    counts: PathBuf,
    errors: PathBuf,
}

impl Calls {
    /// Begins so many calls in each second, from one host to another one by the virtual address; `name` is that of the folder
    /// in which they leave what they count.
    pub fn begin(lab: &Lab, from: &Host, to: &Host, a_second: u32, name: &str) -> Result<Calls> {
        let dir = lab.dir.join(name);
        fs::create_dir_all(&dir)?;
        let party = |host: &Host, kind: Kind, flow: &str, wait: u32, port: u16, more: &[&str]| {
            let mut command = command(host, flow, port);
            command.args(["-d", &wait.to_string(), "-l", CALLS_MAX]).args(more);
            let file = |what: &str| dir.join(format!("{}-{port}-{what}", kind.name()));
            let (counts, errors) = (file("counts.csv"), file("errors.log"));
            command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&counts);
            command.args(["-trace_err", "-error_file"]).arg(&errors);
            command.arg(format!("{VIP}:5060"));
            let running = Running::start(&mut command, &file("sipp.log"))?;
            Ok::<_, anyhow::Error>(Party { kind, running, host: host.v4, counts, errors })
        };
        let mut calls = Calls { callers: Vec::new(), phones: Vec::new() };
        for (number, (kind, (flow, rings))) in phones().enumerate() {
            calls.phones.push(party(to, kind, flow, rings, PHONES_PORT + number as u16, &[])?);
        }
        process::wait_until("sign of all phones", START_TIME_MAX, || {
            Ok(calls.phones.iter().all(|phone| phone.counts().is_ok()).then_some(()))
        })?;
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            let (flow, wait) = kind.caller();
            let users = dir.join(format!("{}.csv", kind.name()));
            fs::write(&users, kind.lines())?;
            let rate = (a_second * kind.tenths() / 10).max(1).to_string();
            let users = users.display().to_string();
            let more = ["-inf", users.as_str(), "-r", rate.as_str()];
            calls.callers.push(party(from, kind, flow, wait, CALLERS_PORT + number as u16, &more)?);
        }
        Ok(calls)
    }

    /// How many were begun so far.
    pub fn begun(&self) -> u64 {
        self.callers.iter().filter_map(|caller| caller.counts().ok()).map(|counts| counts.created).sum()
    }

    /// Waits until so many more were begun.
    pub fn wait_for(&mut self, more: u64) -> Result<()> {
        let wanted = self.begun() + more;
        process::wait_until("calls that begin", END_TIME_MAX, || {
            for party in self.callers.iter_mut().chain(&mut self.phones) {
                let runs = party.running.is_running()?;
                ensure!(runs, "SIPp has ended: {}", process::tail(&party.running.log(), 5));
            }
            Ok((self.begun() >= wanted).then_some(()))
        })
    }

    /// Begins no more, waits until all have ended, and says what became of them.
    pub fn end(self) -> Result<Books> {
        self.end_with_ids().map(|(books, _)| books)
    }

    /// As [`Calls::end`], with the Call-ID of each.
    pub fn end_with_ids(mut self) -> Result<(Books, BTreeSet<String>)> {
        let (mut books, mut ids) = (Books::default(), BTreeSet::new());
        for parties in [&mut self.callers, &mut self.phones] {
            for party in &*parties {
                // It ends by itself when its last call has ended.
                party.running.signal(Signal::USR1)?;
            }
            for party in parties {
                // A trial that does not end is one of those that count: its open calls are hurt.
                if let Err(error) = party.running.wait(END_TIME_MAX) {
                    books.complain(format!("{} does not end: {error:#}", party.name()));
                }
            }
        }
        for caller in &self.callers {
            let of_kind = self.phones.iter().filter(|phone| phone.kind == caller.kind);
            let phones = of_kind.map(Party::counts).collect::<Result<Vec<_>>>()?;
            let counts = caller.counts()?;
            // So SIPp makes them.
            let (process, host) = (caller.running.id(), caller.host);
            ids.extend((1..=counts.created).map(|number| format!("{number}-{process}@{host}")));
            books.add(caller.kind, Book::of(&counts, &phones));
        }
        for party in self.callers.iter().chain(&self.phones) {
            let counts = party.counts()?;
            if counts.succeeded != counts.created {
                books.complain(format!("{}: {}", party.name(), counts.failures.join(", ")));
                books.complain(process::read_lossy(&party.errors).chars().take(1_500).collect());
            }
        }
        Ok((books, ids))
    }
}

impl Party {
    fn counts(&self) -> Result<Counts> {
        let text = process::read_lossy(&self.counts);
        Counts::read(&text).with_context(|| format!("{} has counted nothing", self.name()))
    }

    fn name(&self) -> String {
        self.counts.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The phones of all kinds, in the order of their ports.
fn phones() -> impl Iterator<Item = (Kind, (&'static str, u32))> {
    Kind::ALL.into_iter().flat_map(|kind| kind.phones().iter().map(move |phone| (kind, *phone)))
}

fn command(host: &Host, flow: &str, port: u16) -> std::process::Command {
    let mut command = host.command("sipp");
    command.arg("-sf").arg(sipp::flows().join(format!("{flow}.xml"))).args(["-nostdin", "-t", "u1"]);
    command.args(["-i", &host.v4.to_string(), "-p", &port.to_string(), "-key", "domain", &VIP.to_string()]);
    command.args(["-mp", &(SOUND_PORT + (port - PHONES_PORT) * SOUND_PORTS).to_string()]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_are_all_calls() {
        let tenths: u32 = Kind::ALL.into_iter().map(Kind::tenths).sum();

        assert_eq!(tenths, 10);
        assert_eq!(phones().count(), 6);
    }
}

//! `tandem row-witness`: speaks to the server that has the witness's row. The guardian starts it, and nobody else.
//!
//! It is a process of its own, without rights, so that whatever a name server, a handshake or a library does, and for how long,
//! costs a vote at the most and never the lease. What decides is [`RowVoter`]; here is what it asks for, one operation at a
//! time, each with a deadline. To its guardian it speaks by datagrams: messages as they cross the link, and how it is.

mod database;
mod etcd;
mod http;
mod password;
mod probe;
mod server;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use ::host::{RowInheritance, Signals};
use anyhow::{Context, Result};
use cluster::row::{Output, RowVoter, Seen, Unseen, Written};
use cluster::wire::{self, MESSAGE_BYTES_MAX};
use cluster::{Message, ServiceId};
use serde::{Deserialize, Serialize};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::guardian::poll::now;
use crate::logs::Logs;

pub use database::settings;
pub use probe::{Probed, probe};
use server::{Server, Trouble};

/// What a datagram is, by its first byte.
pub const MESSAGE: u8 = b'm';
/// It is a [`RowReport`] in JSON.
pub const REPORT: u8 = b'r';

/// A datagram between guardian and this process: a message or a report.
pub const DATAGRAM_BYTES_MAX: usize = 4_096;

/// How long a read may take that has to connect before: names, handshakes, a login.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// A text of an error is cut here.
const TROUBLE_CHARS_MAX: usize = 300;

/// How the server is, for who looks after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowReport {
    /// What kind of server it is.
    pub kind: String,
    /// Which one answers, or was tried last.
    pub server: String,
    /// How long the last operation took that was answered, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_us: Option<u64>,
    /// What is wrong, if it does not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
}

/// Speaks for the guardian until that kills it or is dead.
pub fn run(config_file: &Path, name: &str) -> Result<()> {
    // Before anything else is opened: the descriptors have the numbers that come first.
    let RowInheritance { guardian } = RowInheritance::take()
        .context("the witness's process of a cluster's node is started by `tandem run`, and not by hand")?;
    // Whoever stops a node signals all of its processes, and it is the guardian who ends this one.
    let _unread = Signals::take().context("signals can not be set aside")?;
    let config = Config::load(Some(config_file))?;
    let _logs = Logs::start(config.log);
    let cluster = config.cluster.context("[cluster] is gone from the file")?;
    let row = cluster.row.context("cluster.witness names no server that has a row")?;
    let server = Server::new(&row, name, cluster.lease)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        guardian.set_nonblocking(true)?;
        let guardian = UnixDatagram::from_std(guardian)?;
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let voter = RowVoter::new(now().instant, ServiceId(0), u64::from_ne_bytes(chance));
        let deadline = RowVoter::deadline(cluster.lease);
        let report = RowReport { kind: row.name().to_owned(), ..RowReport::default() };
        let speaker = Speaker { voter, guardian, deadline, report, out: Vec::new(), message: Vec::new() };
        speaker.run(server).await.context("the guardian can not be spoken to")
    })
}

/// An operation under way has the server, and gives it back.
type Operation = Pin<Box<dyn Future<Output = (Server, Outcome)>>>;

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time; a box would be an allocation for each operation"
)]
enum Outcome {
    Seen(Result<(Seen, Duration), Trouble>),
    Written(Result<(Written, Duration), Trouble>),
}

struct Speaker {
    voter: RowVoter,
    guardian: UnixDatagram,
    deadline: Duration,
    report: RowReport,
    out: Vec<Output>,
    message: Vec<u8>,
}

impl Speaker {
    async fn run(mut self, server: Server) -> io::Result<()> {
        let mut idle = Some(server);
        let mut operation: Option<Operation> = None;
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        loop {
            let due = self.voter.poll_timeout().map_or(CONNECT_MAX, |due| due - now().instant);
            tokio::select! {
                biased;
                (server, outcome) = ended(&mut operation), if operation.is_some() => {
                    operation = None;
                    self.report.server = server.address();
                    idle = Some(server);
                    self.ended(outcome);
                }
                received = self.guardian.recv(&mut datagram) => {
                    let length = received?;
                    self.told(&datagram[..length]);
                }
                () = sleep(due), if operation.is_none() => self.voter.handle_timeout(now().instant, &mut self.out),
            }
            for output in std::mem::take(&mut self.out) {
                match (output, idle.take()) {
                    (Output::Say(message), server) => {
                        idle = server;
                        self.say(&message);
                    }
                    (Output::Read, Some(server)) => operation = Some(Box::pin(read(server, self.deadline))),
                    (Output::Write(change), Some(server)) => {
                        operation = Some(Box::pin(write(server, change, self.deadline)));
                    }
                    (Output::Read | Output::Write(_), None) => {
                        unreachable!("a row voter has one operation under way at a time")
                    }
                }
            }
        }
    }

    fn told(&mut self, datagram: &[u8]) {
        let Some((&MESSAGE, bytes)) = datagram.split_first() else { return };
        let Ok(message) = wire::read(bytes) else { return };
        if matches!(message, Message::Hello(_)) {
            self.say_how_it_is();
        }
        self.voter.handle_message(now().instant, message, &mut self.out);
    }

    fn ended(&mut self, outcome: Outcome) {
        // The clock is read when the answer is here: a watch begins then.
        let at = now().instant;
        match outcome {
            Outcome::Seen(seen) => {
                let seen = self.noted(seen).map_err(|Unnoted| Unseen);
                self.voter.handle_seen(at, seen, &mut self.out);
            }
            Outcome::Written(written) => {
                let written = self.noted(written).unwrap_or(Written::Unknown);
                self.voter.handle_written(at, written, &mut self.out);
            }
        }
    }

    fn noted<T>(&mut self, result: Result<(T, Duration), Trouble>) -> Result<T, Unnoted> {
        let was_in_trouble = self.report.trouble.is_some();
        match result {
            Ok((value, latency)) => {
                if was_in_trouble {
                    tracing::info!(server = self.report.server, "the witness's server answers");
                }
                self.report.trouble = None;
                self.report.latency_us = u64::try_from(latency.as_micros()).ok();
                Ok(value)
            }
            Err(Trouble(text)) => {
                let text: String = text.chars().take(TROUBLE_CHARS_MAX).collect();
                if !was_in_trouble {
                    tracing::warn!(server = self.report.server, "the witness's server: {text}");
                }
                self.report.trouble = Some(text);
                Err(Unnoted)
            }
        }
    }

    fn say(&mut self, message: &Message) {
        self.message.clear();
        self.message.push(MESSAGE);
        wire::write(message, &mut self.message);
        debug_assert!(self.message.len() <= MESSAGE_BYTES_MAX + 1, "a message has its limit");
        // A guardian that does not read it is one that does not turn, and its question is open for a moment only.
        let _ = self.guardian.try_send(&self.message);
    }

    fn say_how_it_is(&self) {
        let mut bytes = vec![REPORT];
        if serde_json::to_writer(&mut bytes, &self.report).is_ok() && bytes.len() <= DATAGRAM_BYTES_MAX {
            let _ = self.guardian.try_send(&bytes);
        }
    }
}

/// It was an error, and the report has it.
struct Unnoted;

async fn ended(operation: &mut Option<Operation>) -> (Server, Outcome) {
    match operation {
        Some(operation) => operation.await,
        None => std::future::pending().await,
    }
}

async fn read(mut server: Server, deadline: Duration) -> (Server, Outcome) {
    let deadline = if server.is_connected() { deadline } else { deadline.max(CONNECT_MAX) };
    let begun = Instant::now();
    let seen = timeout(deadline, server.read()).await.unwrap_or_else(|_| Err(Trouble::silent(deadline)));
    let seen = seen.map(|seen| (seen, begun.elapsed()));
    if seen.is_err() {
        server.disconnect();
    }
    (server, Outcome::Seen(seen))
}

async fn write(mut server: Server, change: cluster::row::Change, deadline: Duration) -> (Server, Outcome) {
    let begun = Instant::now();
    let written = timeout(deadline, server.write(&change)).await;
    let written = written.unwrap_or_else(|_| Err(Trouble::silent(deadline)));
    let written = written.map(|written| (written, begun.elapsed()));
    if written.is_err() {
        server.disconnect();
    }
    (server, Outcome::Written(written))
}

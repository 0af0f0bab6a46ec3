//! The process that speaks to the server of the witness's row: started, watched, started again, and spoken to.
//!
//! The guardian's thread sends it what it would send to a witness on a host, by datagrams that never wait, and takes what comes
//! back. Starting and waiting for ends is done by a thread beside it. The pair of sockets outlives the child: what is in it when
//! one ends is an answer that comes late, or a question that the next one answers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::host::child::{Child, Start, User};
use cluster::Message;
use cluster::wire::{self, MESSAGE_BYTES_MAX};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::view::WITNESS_SILENCE_MAX_MS;
use crate::row_witness::{DATAGRAM_BYTES_MAX, MESSAGE, REPORT, RowReport};
use crate::small_thread::spawn;

/// The pause before the second start of a child that died young, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A child that lived so long died of something else than its start.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// The configuration, which it reads itself.
    pub config_file: PathBuf,
    /// What tells the row of this cluster from others.
    pub name: String,
    /// As whom it runs.
    pub user: Option<User>,
}

/// The guardian's end.
#[derive(Debug)]
pub struct RowWitness {
    way: UnixDatagram,
    message: Vec<u8>,
    report: Option<RowReport>,
    /// When that came; at first when the thread was started.
    heard: Instant,
    process: RowProcess,
}

/// The thread that has the child.
#[derive(Debug)]
struct RowProcess {
    /// Signalled when the child is to end.
    signal: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl RowWitness {
    /// Starts the thread, and that the child.
    pub fn start(recipe: Recipe) -> io::Result<Self> {
        let (way, theirs) = UnixDatagram::pair()?;
        way.set_nonblocking(true)?;
        let signal = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let told = Arc::clone(&signal);
        let thread = spawn("row-witness", move || keep(&recipe, &theirs, &told))?;
        let process = RowProcess { signal, thread: Some(thread) };
        let message = Vec::with_capacity(MESSAGE_BYTES_MAX + 1);
        Ok(Self { way, message, report: None, heard: Instant::now(), process })
    }

    /// Says something to the witness.
    pub fn send(&mut self, message: &Message) {
        self.message.clear();
        self.message.push(MESSAGE);
        wire::write(message, &mut self.message);
        // What a child does not read is like a datagram that was lost.
        let _ = self.way.send(&self.message);
    }

    /// What the witness says; `None`: nothing more. A report is kept.
    pub fn receive(&mut self) -> Option<Option<Message>> {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        let length = self.way.recv(&mut datagram).ok()?;
        match datagram[..length].split_first() {
            Some((&MESSAGE, bytes)) => Some(wire::read(bytes).ok()),
            Some((&REPORT, bytes)) => {
                if let Ok(report) = serde_json::from_slice(bytes) {
                    self.report = Some(report);
                    self.heard = Instant::now();
                }
                Some(None)
            }
            _ => Some(None),
        }
    }

    /// How the server is, as was said last.
    pub fn report(&self) -> Option<&RowReport> {
        self.report.as_ref()
    }

    /// Whether the process says nothing, which it does each second: it has died, hangs, or could not be started.
    pub fn is_silent(&self) -> bool {
        self.heard.elapsed() > Duration::from_millis(WITNESS_SILENCE_MAX_MS)
    }

    /// Ends the child.
    pub fn finish(mut self) {
        self.process.end();
    }
}

impl AsFd for RowWitness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.way.as_fd()
    }
}

impl RowProcess {
    fn end(&mut self) {
        // It is full only when it was signalled and not looked at.
        let _ = rustix::io::write(&self.signal, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // One that panicked has no child: it ends with the thread.
            let _ = thread.join();
        }
    }
}

/// Starts a child again and again, until it is told to end.
fn keep(recipe: &Recipe, theirs: &UnixDatagram, told: &OwnedFd) {
    let mut deaths = 0;
    loop {
        let begun = Instant::now();
        match child(recipe, theirs) {
            Ok(child) => {
                tracing::info!(pid = child.pid, "the witness's process runs");
                if wait(told, Some(&child), None) {
                    // It may have ended by itself.
                    let _ = pidfd_send_signal(child.descriptor.as_fd(), Signal::KILL);
                    reap(&child);
                    return;
                }
                reap(&child);
                tracing::warn!("the witness's process has ended; it is started again");
            }
            Err(error) => tracing::error!(%error, "the witness's process can not be started"),
        }
        deaths = if begun.elapsed() >= FORGIVEN_AFTER { 0 } else { deaths + 1 };
        if wait(told, None, Some(pause(deaths))) {
            return;
        }
    }
}

fn pause(deaths: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << deaths.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

fn child(recipe: &Recipe, theirs: &UnixDatagram) -> io::Result<Child> {
    let Recipe { program, config_file, name, user } = recipe.clone();
    let arguments =
        vec!["row-witness".into(), "--config".into(), config_file.into(), "--name".into(), name.into()];
    Start { program, arguments, descriptors: vec![theirs.try_clone()?.into()], user }.spawn()
}

/// Waits for the end of the child or of the pause. Says whether it was told to end.
fn wait(told: &OwnedFd, child: Option<&Child>, pause: Option<Duration>) -> bool {
    let until = pause.map(|pause| Instant::now() + pause);
    loop {
        let mut wanted = vec![PollFd::new(told, PollFlags::IN)];
        wanted.extend(child.map(|child| PollFd::new(&child.descriptor, PollFlags::IN)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut wanted, left.as_ref()) {
            Ok(_) => return !wanted[0].revents().is_empty(),
            Err(rustix::io::Errno::INTR) => {}
            // A kernel that can not poll leaves nothing to be kept.
            Err(_) => return true,
        }
    }
}

fn reap(child: &Child) {
    // Whoever ignores the ends of its children is told of none.
    let _ = waitid(WaitId::PidFd(child.descriptor.as_fd()), WaitIdOptions::EXITED);
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use cluster::ServiceId;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_child_that_ends_is_started_again_and_none_is_left_at_the_end() {
        let place = TempDir::new().expect("there is a place for it");
        let program = place.path().join("child");
        std::fs::write(
            &program,
            "#!/bin/sh\n[ -e \"${0%/*}/began\" ] && echo $$ >> \"${0%/*}/began\" && exec sleep 600\n\
             echo $$ >> \"${0%/*}/began\"\n",
        )
        .expect("it can be written");
        std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("it is ours");
        let recipe = Recipe { program, config_file: "none".into(), name: "x".to_owned(), user: None };

        let row = RowWitness::start(recipe).expect("a thread can be started");
        let starts = || {
            let began = std::fs::read_to_string(place.path().join("began")).unwrap_or_default();
            began.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while starts().len() < 2 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        row.finish();

        let pids = starts();
        assert_eq!(pids.len(), 2, "it was started again");
        for pid in pids {
            assert!(!std::fs::exists(format!("/proc/{pid}")).expect("it can be looked for"), "{pid} is left");
        }
    }

    #[test]
    fn a_child_that_dies_young_again_and_again_is_started_ever_later() {
        let pauses: Vec<u128> = (1..8).map(|deaths| pause(deaths).as_millis()).collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn what_nobody_reads_costs_no_waiting_and_what_is_no_message_is_nothing() {
        let recipe = Recipe {
            program: "/nowhere".into(),
            config_file: "none".into(),
            name: "x".to_owned(),
            user: None,
        };
        let mut row = RowWitness::start(recipe).expect("a thread can be started");
        for _ in 0..10_000 {
            row.send(&Message::Hello(ServiceId(0)));
        }
        let (way, theirs) = UnixDatagram::pair().expect("a pair");
        way.set_nonblocking(true).expect("it can be");
        row.way = way;
        for bad in [&b""[..], b"m", b"mxyz", b"r{", b"?"] {
            theirs.send(bad).expect("there is room");
            assert_eq!(row.receive(), Some(None));
        }
        assert_eq!(row.receive(), None);
        row.finish();
    }
}

//! The engine's process: started, watched, started again.
//!
//! It is started by a thread of its own, because the kernel copies this process's memory for it and then waits until the
//! copy runs the program; that thread lives as long as this process, since the engine dies with it. The guardian sees the
//! engine's end by a descriptor, and that it hangs by heartbeats in the page that both share.
//!
//! An engine that died is started again at once; one that dies again and again, after a pause that doubles.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use ::host::child::{Child, Start, User};
use ::host::{
    GuardianEnd, KEY_BYTES, Order, PairError, Report, SegmentEnd, SharedPage, key_pipe, pair, reason_pipe,
};
use clock::Instant;
use cluster::guardian::Engine;
use lease::LeaseMirror;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::inbox::{Inward, Sender};
use super::poll::{Poll, Source};
use super::starvation::Doubt;
use crate::page_lease;
use crate::small_thread::spawn;

/// The pause before the second start of an engine that died young.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An engine that lived so long died of something else than its start.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How long an engine may take until it serves: it reads the database of a large site.
const START_MAX: Duration = Duration::from_secs(60);

/// How long an engine may take to end when it is told to: longer than it takes to write what it has.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A guardian that was itself not run for so long says nothing about its engine's silence.
const BLIND_AFTER: Duration = Duration::from_millis(100);

/// How many times longer an engine may be silent that would run if the host let it.
const STARVED_FACTOR: u32 = 10;

/// How an engine is started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// As whom it runs.
    pub user: Option<User>,
    /// The root of its keys.
    pub key: [u8; KEY_BYTES],
    /// What engines inherit to learn with which numbers connections begin.
    pub segments: Arc<SegmentEnd>,
    /// The map of streams that the kernel sends on, or why it sends on none.
    pub relay: Result<Arc<OwnedFd>, String>,
    /// An engine that shows no sign of life for so long hangs.
    pub silence_max: Duration,
}

/// The engine's process.
#[derive(Debug)]
pub struct EngineProcess {
    recipe: Recipe,
    starts: SyncSender<Start>,
    state: State,
    /// Deaths in a row, each soon after the start.
    deaths: u32,
    /// The last look.
    looked: Instant,
    /// Silence before this time is not the engine's fault.
    watched_since: Instant,
    lease: Option<LeaseMirror>,
    is_stopping: bool,
    record: Record,
    /// Since the engine has been silent for half of what it may be.
    doubt: Option<Doubt>,
}

/// What has become of engines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// How often one was started again.
    pub restarts: u64,
    /// How often one hung.
    pub hung: u64,
    /// Why the last one ended.
    pub last_end: Option<String>,
}

#[derive(Debug)]
enum State {
    /// There is none until this time.
    Down(Instant),
    /// The kernel was asked for one.
    Asked(Way),
    /// It runs.
    Up { child: Child, way: Way, since: Instant, stage: Stage },
}

/// What joins guardian and engine. Each start has its own.
#[derive(Debug)]
struct Way {
    page: SharedPage,
    pair: GuardianEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It restores what it had.
    Starting,
    /// It can serve.
    Serving,
    /// It was told to end, until this time.
    Stopping(Instant),
    /// It was killed and its end will be seen.
    Killed,
}

/// What an engine has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in another state.
    Is(Engine),
    /// It has said something.
    Said(Report),
}

impl EngineProcess {
    /// Nothing is started yet: [`Self::handle_timeout`] does it.
    pub fn new(now: Instant, recipe: Recipe, inbox: Sender) -> io::Result<Self> {
        let (starts, waiting) = sync_channel::<Start>(1);
        spawn("engine-starter", move || {
            while let Ok(start) = waiting.recv() {
                if inbox.send(Inward::Started(start.spawn())).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            recipe,
            starts,
            state: State::Down(now),
            deaths: 0,
            looked: now,
            watched_since: now,
            lease: None,
            is_stopping: false,
            record: Record::default(),
            doubt: None,
        })
    }

    /// The engine may act by this lease.
    pub fn set_lease(&mut self, lease: LeaseMirror) {
        self.lease = Some(lease);
        if let Some(way) = self.state.way() {
            way.page.set_lease(page_lease::shared(lease));
        }
    }

    /// The engine may not act.
    pub fn clear_lease(&mut self) {
        self.lease = None;
        if let Some(way) = self.state.way() {
            way.page.clear_lease();
        }
    }

    /// Tells it something. Says whether there is somebody to be told.
    pub fn order(&mut self, order: Order) -> bool {
        let State::Up { way, stage: Stage::Serving, .. } = &mut self.state else { return false };
        match way.pair.send(order) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, ?order, "the engine is not told");
                false
            }
        }
    }

    /// The process was started, or could not be.
    pub fn started(&mut self, now: Instant, result: io::Result<Child>, poll: &Poll, out: &mut Vec<Change>) {
        let State::Asked(way) = std::mem::replace(&mut self.state, State::Down(now)) else { return };
        let registered = result.and_then(|child| {
            poll.add(&child.descriptor, Source::EngineEnd)?;
            poll.add(&way.pair, Source::Engine)?;
            Ok(child)
        });
        match registered {
            Ok(child) => {
                tracing::info!(pid = child.pid, "the engine was started");
                self.watched_since = now;
                self.state = State::Up { child, way, since: now, stage: Stage::Starting };
                if self.is_stopping {
                    self.stop(now);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the engine can not be started");
                self.died(now, now, out);
            }
        }
    }

    /// Its descriptor is readable.
    pub fn handle_end(&mut self, now: Instant, out: &mut Vec<Change>) {
        let State::Up { child, since, .. } = &self.state else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let end = match waitid(WaitId::PidFd(child.descriptor.as_fd()), options) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("it has ended with status {code}"),
                (None, Some(signal)) => format!("it was killed by signal {signal}"),
                (None, None) => "it has ended".to_owned(),
            },
            Ok(None) => return,
            // Its descriptor would be readable for ever. Whoever ignores the ends of its children is told of none.
            Err(error) => format!("it has ended, and how is not known: {error}"),
        };
        let (pid, lived) = (child.pid, now.since(*since));
        if self.is_stopping {
            tracing::info!(pid, "the engine has ended");
        } else {
            tracing::error!(pid, ?lived, "the engine is gone: {end}");
        }
        self.record.last_end = Some(end);
        let since = *since;
        self.died(now, since, out);
    }

    /// Its pair is readable.
    pub fn handle_reports(&mut self, now: Instant, poll: &Poll, out: &mut Vec<Change>) {
        for _ in 0..REPORTS_MAX {
            let State::Up { way, stage, .. } = &mut self.state else { return };
            match way.pair.receive() {
                Ok(Some(report)) => {
                    if report == Report::Serving && *stage == Stage::Starting {
                        *stage = Stage::Serving;
                        self.watched_since = now;
                        out.push(Change::Is(Engine::Ready));
                    }
                    out.push(Change::Said(report));
                }
                Ok(None) => return,
                Err(PairError::Ended) if matches!(stage, Stage::Stopping(_) | Stage::Killed) => {
                    // Its end follows, and its descriptor tells it.
                    poll.remove(&way.pair);
                    return;
                }
                Err(PairError::Ended) => {
                    poll.remove(&way.pair);
                    // The kernel has closed it, and takes its time to put away the rest; or the engine is of no use.
                    out.push(Change::Is(Engine::Dead));
                    self.kill("it has closed the way to its guardian");
                    return;
                }
                Err(error) => tracing::warn!(%error, "the engine says what can not be read"),
            }
        }
    }

    /// Starts it, or sees that it hangs.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Change>) {
        if now.since(self.looked) >= BLIND_AFTER {
            self.watched_since = now;
        }
        self.looked = now;
        match &mut self.state {
            State::Down(at) if *at <= now && !self.is_stopping => self.ask(now, out),
            State::Down(_) | State::Asked(_) => {}
            State::Up { since, stage: Stage::Starting, .. } => {
                if now.since(*since) >= START_MAX {
                    self.record.hung += 1;
                    out.push(Change::Is(Engine::Hung));
                    self.kill("it has not begun to serve");
                }
            }
            State::Up { way, child, stage: Stage::Serving, .. } => {
                let beat = way.page.oldest_beat().map(|beat| Instant::from_nanos(beat.as_nanos() as u64));
                let seen = beat.unwrap_or(Instant::START).max(self.watched_since);
                let (silence, silence_max) = (now.since(seen), self.recipe.silence_max);
                if silence < silence_max / 2 {
                    self.doubt = None;
                    return;
                }
                let doubt = *self.doubt.get_or_insert_with(|| Doubt::begin(now, child.pid));
                let is_late = silence >= silence_max;
                let is_excused =
                    is_late && silence < silence_max * STARVED_FACTOR && doubt.is_starved(now, child.pid);
                if is_late && !is_excused {
                    self.doubt = None;
                    self.record.hung += 1;
                    out.push(Change::Is(Engine::Hung));
                    self.kill("it shows no sign of life");
                }
            }
            State::Up { stage: Stage::Stopping(until), .. } => {
                if *until <= now {
                    self.kill("it does not end");
                }
            }
            State::Up { stage: Stage::Killed, .. } => {}
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        match &self.state {
            State::Down(_) if self.is_stopping => Instant::FAR,
            State::Down(at) => *at,
            State::Asked(_) | State::Up { stage: Stage::Killed, .. } => Instant::FAR,
            State::Up { since, stage: Stage::Starting, .. } => *since + START_MAX,
            State::Up { stage: Stage::Stopping(until), .. } => *until,
            // Several looks in each silence.
            State::Up { .. } => self.looked + self.recipe.silence_max / 5,
        }
    }

    /// It is to end, and not to be started again.
    pub fn stop(&mut self, now: Instant) {
        self.is_stopping = true;
        if let State::Up { way, stage, child, .. } = &mut self.state
            && matches!(stage, Stage::Starting | Stage::Serving)
        {
            *stage = Stage::Stopping(now + STOP_MAX);
            if way.pair.send(Order::Stop).is_err() {
                // It has ended, or does not read.
                let _ = pidfd_send_signal(&child.descriptor, Signal::TERM);
            }
        }
    }

    /// Whether there is no process.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down(_))
    }

    /// Other settings, of which the next look and the next start take notice.
    pub fn reload(&mut self, silence_max: Duration) {
        self.recipe.silence_max = silence_max;
    }

    /// What has become of engines.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The number of its process.
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Up { child, .. } => Some(child.pid),
            _ => None,
        }
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<Change>) {
        self.record.restarts += u64::from(self.deaths > 0);
        match self.prepared() {
            Ok((start, way)) => match self.starts.try_send(start) {
                Ok(()) => {
                    self.state = State::Asked(way);
                    out.push(Change::Is(Engine::Starting));
                }
                // The thread has something under way, or has panicked.
                Err(_) => self.died(now, now, out),
            },
            Err(error) => {
                tracing::error!(%error, "the engine can not be started");
                self.died(now, now, out);
            }
        }
    }

    fn prepared(&self) -> io::Result<(Start, Way)> {
        let (mut page, page_descriptor) = SharedPage::create()?;
        if let Some(lease) = self.lease {
            page.set_lease(page_lease::shared(lease));
        }
        let (pair, pair_descriptor) = pair()?;
        let segments = self.recipe.segments.for_child()?;
        let relay = match &self.recipe.relay {
            Ok(map) => map.try_clone()?,
            Err(reason) => reason_pipe(reason)?,
        };
        let descriptors =
            vec![pair_descriptor, page_descriptor, key_pipe(&self.recipe.key)?, segments, relay];
        let Recipe { program, arguments, user, .. } = self.recipe.clone();
        Ok((Start { program, arguments, descriptors, user }, Way { page, pair }))
    }

    fn died(&mut self, now: Instant, since: Instant, out: &mut Vec<Change>) {
        if now.since(since) >= FORGIVEN_AFTER {
            self.deaths = 0;
        }
        let pause = pause(self.deaths);
        self.deaths = self.deaths.saturating_add(1);
        self.state = State::Down(now + pause);
        out.push(Change::Is(Engine::Dead));
    }

    fn kill(&mut self, reason: &str) {
        let State::Up { child, stage, .. } = &mut self.state else { return };
        if *stage == Stage::Killed {
            return;
        }
        tracing::error!(pid = child.pid, reason, "the engine is killed");
        *stage = Stage::Killed;
        // One that has ended needs no signal.
        let _ = pidfd_send_signal(&child.descriptor, Signal::KILL);
    }
}

/// Reports that are read in one turn.
const REPORTS_MAX: usize = 16;

/// How long is waited after so many deaths in a row.
fn pause(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        more => (PAUSE_MIN * 2_u32.saturating_pow(more - 1)).min(PAUSE_MAX),
    }
}

impl State {
    fn way(&mut self) -> Option<&mut Way> {
        match self {
            Self::Down(_) => None,
            Self::Asked(way) | Self::Up { way, .. } => Some(way),
        }
    }
}

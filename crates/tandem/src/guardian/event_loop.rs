//! The guardian's one thread: what comes in, what the pure guardian makes of it, and what is done then.
//!
//! Each turn takes a bounded part of what has come by each way: datagrams of members, what other threads say, what the
//! engine says, signals, ARP; then lets time pass. So a flood on one way delays the others by a turn and no more. The clock
//! is read after each datagram has arrived and before it is handled (a voter's time must not be older than the question).
//!
//! Invariant: nothing here waits but [`Poll::wait`].

mod carry;
mod picture;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use ::host::{Order, Reloaded, Report as Said, Seen, Signal, Signals, Watch};
use clock::{Instant, Now};
use cluster::guardian::{Engine, Guardian, Input, Output, Wish};
use cluster::health::{AT_ONCE, Check};
use cluster::peer::PathId;
use cluster::{MemberId, Message, VoterId};

use super::engine_process::{Change, EngineProcess};
use super::hands::{Deed, Hands};
use super::hooks::Hooks;
use super::inbox::{Inbox, Inward};
use super::keeper::Keeper;
use super::links::{Heard, Links};
use super::notify::Notifier;
use super::poll::{Poll, Source, now};
use super::question::Reply;
use super::reload::{Reload, Reloading};
use super::report::{Phase, Reporter};
use super::row_witness::RowWitness;
use super::standing::Standing;
use super::vigil::Vigil;
use crate::degraded;

pub use picture::About;
use picture::Remembered;

/// Datagrams of one socket in one turn. A member sends about forty a second.
const DATAGRAMS_PER_TURN: usize = 32;

/// What is taken from the inbox in one turn.
const INWARD_PER_TURN: usize = 32;

/// Frames of ARP that are looked at in one turn.
const FRAMES_PER_TURN: usize = 64;

/// How long an engine may take to bring to its end what it has begun, before a hand-over goes on without that.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// How long a supervisor waits to hear that the node serves; a guardian whose engine does not start still votes.
const READY_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// What the loop is made of.
pub struct Parts {
    /// Who decides.
    pub guardian: Guardian,
    /// Voters that were learnt.
    pub known: BTreeMap<MemberId, VoterId>,
    /// The sockets.
    pub links: Links,
    /// The witness, if it is a row on a server.
    pub row: Option<RowWitness>,
    /// Gate and addresses.
    pub hands: Box<dyn Hands>,
    /// The engine.
    pub engine: EngineProcess,
    /// The disk.
    pub keeper: Keeper,
    /// What is waited for; the sockets of the links are in it.
    pub poll: Poll,
    /// What other threads say.
    pub inbox: Inbox,
    /// Signals; a test has none.
    pub signals: Option<Signals>,
    /// ARP of the interface.
    pub watch: Option<Watch>,
    /// The operator's commands at changes.
    pub hooks: Hooks,
    /// What threads that check know of the node.
    pub standing: Arc<Standing>,
    /// Who reads the configuration again.
    pub reload: Reload,
    /// What does not change.
    pub about: About,
    /// The supervisor.
    pub notifier: Notifier,
}

/// The loop.
pub struct EventLoop {
    parts: Parts,
    out: Vec<Output>,
    /// What follows from outputs that were done at once.
    next: VecDeque<Input>,
    changes: Vec<Change>,
    reporter: Reporter,
    /// Whom the outcome of what an operator has wished is told.
    waiting: Option<Reply>,
    /// Until when the engine is waited for in a hand-over.
    draining: Option<Instant>,
    /// Whom the outcome of a reload is told.
    reloads: Vec<Reply>,
    remembered: Remembered,
    stage: Stage,
    vigil: Vigil,
    end: End,
}

/// Why the loop has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// This machine may have stood still, and the guardian must start anew.
    StoodStill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The supervisor was told nothing yet.
    Starting,
    Running,
    /// The service is given back, and the engine ends.
    Ending,
}

impl EventLoop {
    /// A loop that has not turned yet.
    pub fn new(parts: Parts) -> io::Result<Self> {
        parts.poll.add(&parts.inbox, Source::Inbox)?;
        if let Some(signals) = &parts.signals {
            parts.poll.add(signals, Source::Signals)?;
        }
        if let Some(row) = &parts.row {
            parts.poll.add(row, Source::Row)?;
        }
        if let Some(watch) = &parts.watch {
            parts.poll.add(watch, Source::Watch)?;
        }
        Ok(Self {
            parts,
            out: Vec::new(),
            next: VecDeque::new(),
            changes: Vec::new(),
            reporter: Reporter::default(),
            waiting: None,
            draining: None,
            reloads: Vec::new(),
            remembered: Remembered::new(now().instant),
            stage: Stage::Starting,
            vigil: Vigil::begin(),
            end: End::Stopped,
        })
    }

    /// Turns until the node has ended, and gives back what is to be put away.
    pub fn run(mut self) -> io::Result<(Parts, End)> {
        let mut ready = Vec::new();
        loop {
            let until = self.poll_timeout();
            self.parts.poll.wait(until, &mut ready)?;
            // Before anything is said to others by a clock that may be wrong.
            self.look_for_standstill();
            for source in &ready {
                self.take(*source);
            }
            if self.time_passes().is_break() {
                return Ok((self.parts, self.end));
            }
        }
    }

    fn take(&mut self, source: Source) {
        match source {
            Source::Timer => {}
            Source::Link(place) => {
                for _ in 0..DATAGRAMS_PER_TURN {
                    match self.parts.links.receive(place) {
                        Heard::Message(now, member, path, message) => {
                            self.handle(now, Input::Message(member, path, message));
                        }
                        Heard::Other => {}
                        Heard::Nothing => return,
                    }
                }
            }
            Source::Row => self.hear_row(),
            Source::Inbox => {
                let mut inward = Vec::new();
                self.parts.inbox.take(INWARD_PER_TURN, &mut inward);
                for inward in inward {
                    self.hear(inward);
                }
            }
            Source::Signals => {
                while let Some(signal) = self.parts.signals.as_ref().and_then(Signals::next) {
                    match signal {
                        Signal::End => self.stop(),
                        Signal::Reload => self.reload(),
                    }
                }
            }
            Source::Watch => self.watch(),
            Source::EngineEnd => {
                self.parts.engine.handle_end(now().instant, &mut self.changes);
                self.engine_changed();
            }
            Source::Engine => {
                let Parts { engine, poll, .. } = &mut self.parts;
                engine.handle_reports(now().instant, poll, &mut self.changes);
                self.engine_changed();
            }
        }
    }

    fn hear_row(&mut self) {
        for _ in 0..DATAGRAMS_PER_TURN {
            let witness = self.witness();
            let Some(heard) = self.parts.row.as_mut().and_then(RowWitness::receive) else { return };
            if let Some(message) = heard {
                self.handle(now(), Input::Message(witness, PathId(0), message));
            }
        }
    }

    /// The member after the last node.
    fn witness(&self) -> MemberId {
        MemberId(self.parts.about.cluster.nodes.len() as u8)
    }

    fn hear(&mut self, inward: Inward) {
        match inward {
            Inward::Cluster(input @ Input::Checked(..)) => self.checked(input),
            Inward::Cluster(input) => self.handle(now(), input),
            Inward::Kept(write, is_kept) => self.handle(now(), Input::Kept(write, is_kept)),
            Inward::Question(question, reply) => self.answer(question, reply),
            Inward::Done(deed, at) => self.done(&deed, at),
            Inward::Started(result) => {
                let Parts { engine, poll, .. } = &mut self.parts;
                engine.started(now().instant, result, poll, &mut self.changes);
                self.engine_changed();
            }
            Inward::Reloaded(result) => self.reloaded(result),
            Inward::Hook(result) => {
                self.remembered.hooks.insert(result.occasion, (now().instant, result));
            }
        }
    }

    /// A node that was well and is not any more is a fault.
    fn checked(&mut self, input: Input) {
        let was_well = self.parts.guardian.health().ailment() == 0;
        self.handle(now(), input);
        let first = self.parts.guardian.health().failing().next();
        let fault = first.map(|(check, _, reason)| format!("{check}: {reason}"));
        if let Some(fault) = fault.filter(|_| was_well) {
            tracing::warn!("{fault}");
            self.fault(fault);
        }
    }

    fn look_for_standstill(&mut self) {
        let Some(what) = self.vigil.look().filter(|_| self.end == End::Stopped) else { return };
        tracing::error!("{what}; the service is given away, and the guardian starts anew");
        self.end = End::StoodStill;
        self.fault(what);
        self.handle(now(), Input::StoodStill);
    }

    fn done(&mut self, deed: &Deed, at: Instant) {
        self.parts.hands.done(deed);
        match deed {
            Deed::GateOpened => self.reporter.ended(at, Phase::Gate),
            Deed::Held => {
                self.remembered.holds_addresses = true;
                self.reporter.ended(at, Phase::Address);
                self.handle(now(), Input::Admitted);
            }
            Deed::Announced => self.reporter.ended(at, Phase::Announced),
            Deed::GateClosed => self.handle(now(), Input::GateClosed),
            Deed::Dropped => self.remembered.holds_addresses = false,
            Deed::Failed(hand, reason) => {
                self.fault(format!("{hand}: {reason}"));
                self.handle(now(), Input::Admitted);
            }
            Deed::Mended(_) => {}
        }
    }

    fn watch(&mut self) {
        for _ in 0..FRAMES_PER_TURN {
            match self.parts.watch.as_ref().and_then(Watch::next) {
                Some(Seen::Claim(address, mac)) => {
                    tracing::debug!(%address, ?mac, "another host claims a virtual address");
                    self.handle(now(), Input::Conflict);
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn stop(&mut self) {
        tracing::info!("stopping");
        self.parts.notifier.tell("STOPPING=1");
        self.handle(now(), Input::Wish(Wish::Stop));
    }

    fn engine_changed(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Is(engine) => self.engine_is(engine),
                Change::Said(Said::Serving) => {}
                Change::Said(Said::Ready(percent)) => self.handle(now(), Input::Ready(percent)),
                Change::Said(Said::Drained) => self.drained(),
                Change::Said(Said::Answered { epoch, at }) => {
                    let lease = self.parts.guardian.lease(now().instant);
                    if lease.is_some_and(|(held, _)| held.0 == epoch) {
                        let at = Instant::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
                        self.reporter.ended(at, Phase::FirstAnswer);
                    }
                }
                Change::Said(Said::Bindings(number)) => self.remembered.bindings = Some(number),
                Change::Said(Said::Degraded { cause, count }) => self.degraded(cause, count),
                Change::Said(Said::Reloaded(Reloaded::Taken)) => {
                    tracing::info!("the engine has the new settings")
                }
                Change::Said(Said::Reloaded(Reloaded::Refused)) => {
                    tracing::error!("the engine refuses the new settings: its log says why");
                }
            }
        }
    }

    /// An engine counts from its own start.
    fn degraded(&mut self, cause: u8, count: u64) {
        let Some(name) = degraded::cause(cause) else { return };
        let before = self.remembered.degraded.insert(cause, count).unwrap_or(0);
        self.reporter.degraded(name, count.saturating_sub(before));
    }

    fn engine_is(&mut self, engine: Engine) {
        let result = match engine {
            Engine::Ready => Some(Ok(())),
            Engine::Dead => Some(Err("it has ended".into())),
            Engine::Hung => Some(Err("it shows no sign of life".into())),
            Engine::Starting => None,
        };
        let at = now();
        self.parts.standing.engine_ready(engine == Engine::Ready);
        if engine == Engine::Starting {
            // What the one before it held is not what this one holds; it says so itself.
            self.handle(at, Input::Ready(0));
        }
        self.handle(at, Input::Engine(engine));
        if let Some(result) = result {
            self.handle(at, Input::Checked(Check::Engine, AT_ONCE, result));
        }
        match engine {
            Engine::Ready => {
                let order = match self.parts.guardian.lease(at.instant) {
                    Some((epoch, _)) => Order::Active(epoch.0),
                    None => Order::Standby,
                };
                self.parts.engine.order(order);
                self.is_ready("serving");
            }
            Engine::Dead | Engine::Hung => {
                self.drained();
                // One that hangs is killed, and then it has ended: that is one fault.
                let was_up = !matches!(self.remembered.engine, Engine::Dead | Engine::Hung);
                if self.stage == Stage::Running && was_up {
                    self.fault("the engine has ended or hangs".to_owned());
                }
            }
            Engine::Starting => {}
        }
        if engine == Engine::Dead {
            self.remembered.bindings = None;
            self.remembered.degraded.clear();
        }
        self.remembered.engine = engine;
    }

    fn is_ready(&mut self, status: &str) {
        if self.stage == Stage::Starting {
            self.stage = Stage::Running;
            self.parts.notifier.tell(&format!("READY=1\nSTATUS={status}"));
            tracing::info!(status, "ready");
        }
    }

    /// The engine has nothing under way, or nobody waits for it any more.
    fn drained(&mut self) {
        if self.draining.take().is_some() {
            self.handle(now(), Input::Drained);
        }
    }

    /// Whatever is due.
    fn time_passes(&mut self) -> ControlFlow<()> {
        let at = now();
        self.parts.links.handle_timeout(at.instant, &self.parts.poll);
        if self.draining.is_some_and(|until| until <= at.instant) {
            tracing::warn!(
                "the engine has not brought everything to its end; the hand-over goes on without that"
            );
            self.drained();
        }
        self.parts.engine.handle_timeout(at.instant, &mut self.changes);
        self.engine_changed();
        if self.parts.guardian.poll_timeout() <= at.instant {
            self.parts.guardian.handle_timeout(at, &mut self.out);
            self.carry_all(at);
        }
        if let Some(report) = self.reporter.finished(at.instant) {
            self.report(&report);
        }
        if self.stage == Stage::Starting && at.instant.since(self.remembered.started) >= READY_MAX {
            self.is_ready("the engine does not serve yet");
        }
        self.parts.notifier.turn(at.instant);
        match self.stage {
            Stage::Ending if self.parts.engine.is_down() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn poll_timeout(&self) -> Instant {
        let Parts { guardian, links, engine, .. } = &self.parts;
        let always = [guardian.poll_timeout(), links.poll_timeout(), engine.poll_timeout()];
        let some = [self.draining, self.reporter.poll_timeout()];
        always.into_iter().chain(some.into_iter().flatten()).min().unwrap_or(Instant::FAR)
    }

    fn handle(&mut self, at: Now, input: Input) {
        if !matches!(input, Input::Message(_, _, Message::Heartbeat(_))) {
            tracing::trace!(?input);
        }
        self.parts.guardian.handle(at, input, &mut self.out);
        self.carry_all(at);
    }

    fn reload(&mut self) {
        if let Err(error) = self.parts.reload.begin() {
            self.tell_of_reload(&Err(format!("it can not be read: {error}")));
        }
    }

    fn reloaded(&mut self, result: Result<Reloading, String>) {
        let result = result.map(|reloading| {
            for remark in &reloading.remarks {
                tracing::warn!("{remark}");
            }
            self.parts.guardian.reload(reloading.settings);
            self.parts.engine.reload(reloading.engine_silence);
            self.parts.engine.order(Order::Reload);
            tracing::info!("the guardian has the new settings");
            serde_json::json!(reloading.remarks)
        });
        match self.parts.reload.ended() {
            Ok(true) => self.tell_of_reload(&result),
            // Who asked last may mean a file that was not read yet: all hear of the reading that has just begun.
            Ok(false) => {}
            Err(error) => self.tell_of_reload(&Err(format!("it can not be read: {error}"))),
        }
    }

    fn tell_of_reload(&mut self, result: &Result<serde_json::Value, String>) {
        if let Err(error) = result {
            tracing::error!("the configuration is not taken: {error}");
        }
        for reply in self.reloads.drain(..) {
            // Who asked may be gone.
            let _ = reply.try_send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests;

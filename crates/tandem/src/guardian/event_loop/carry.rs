//! What the pure guardian wants is done, in its order.

use std::time::Duration;

use ::host::Order;
use clock::{Instant, Now};
use cluster::guardian::{Alarm, Input, Output, Reason};
use cluster::{Cause, Epoch, HardwareAddress, MemberId, Message};

use super::super::hands::Closing;
use super::super::hooks::{Event, Occasion};
use super::super::memory::voter_text;
use super::super::poll::now;
use super::super::report::{Kept, Phase, Report};
use super::super::wording::{Names, alarm_text, cause_name, reason_name};
use super::{DRAIN_MAX, EventLoop, Stage};

/// How long a node lets in what another one passes on, before it is active; it is asked again five times in each lease.
const ADMIT_FOR: Duration = Duration::from_secs(11);

/// How long a node passes on what still comes to it. By then the addresses have been announced ten times, and a neighbour that
/// heeds no announcement has asked again itself.
const PASS_ON_FOR: Duration = Duration::from_secs(60);

impl EventLoop {
    /// Does all that is wanted, and what follows from it.
    pub(super) fn carry_all(&mut self, at: Now) {
        loop {
            let outputs = std::mem::take(&mut self.out);
            for output in outputs {
                self.carry(at, output);
            }
            // When all is begun that was wanted: a report begins when the gate was opened.
            let mut done = Vec::new();
            self.parts.hands.done_at_once(&mut done);
            for (deed, at) in done {
                self.done(&deed, at);
            }
            let Some(input) = self.next.pop_front() else { break };
            self.parts.guardian.handle(now(), input, &mut self.out);
        }
        self.look_for_active(at.instant);
    }

    fn carry(&mut self, at: Now, output: Output) {
        if !matches!(output, Output::Send(_, Message::Heartbeat(_))) {
            tracing::trace!(?output);
        }
        match output {
            Output::Send(to, message) => {
                if matches!(message, Message::HandoverAsk(_)) {
                    self.reporter.asks_handover(at.instant);
                }
                let is_row = to == self.witness();
                match self.parts.row.as_mut().filter(|_| is_row) {
                    Some(row) => row.send(&message),
                    None => self.parts.links.send(at.instant, to, &message),
                }
            }
            Output::Keep(number, record) => {
                if self.parts.keeper.keep(number, record).is_err() {
                    self.next.push_back(Input::Kept(number, false));
                }
            }
            Output::Learn(member, voter) => self.learn(member, voter),
            Output::OpenGate(epoch, until) => {
                self.parts.hands.open_gate(epoch, until);
            }
            Output::CloseGate(epoch) => match self.parts.hands.close_gate(epoch) {
                Closing::Done => self.next.push_back(Input::GateClosed),
                Closing::UnderWay => {}
            },
            Output::Admit => self.parts.hands.admit(at.instant + ADMIT_FOR),
            Output::TurnAway => self.parts.hands.turn_away(),
            Output::HoldAddresses => self.parts.hands.hold_addresses(),
            Output::DropAddresses => self.parts.hands.drop_addresses(),
            Output::Announce => self.parts.hands.announce(),
            Output::Lease(lease) => {
                self.parts.engine.set_lease(lease);
                self.parts.standing.active_until(Duration::from_nanos(lease.deadline().as_nanos()));
            }
            Output::NoLease => {
                self.parts.engine.clear_lease();
                self.parts.standing.active_until(Duration::ZERO);
                self.draining = None;
            }
            Output::Drain(heir) => self.drain(at.instant, heir),
            Output::BecameActive(epoch, reason) => self.became_active(at, epoch, reason),
            Output::BecameStandby(epoch, cause) => self.became_standby(at, epoch, cause),
            Output::Switched(result) | Output::ListChanged(result) => self.settled(result),
            Output::MayEnd => {
                self.stage = Stage::Ending;
                self.parts.engine.stop(at.instant);
            }
            Output::Alarm(alarm) => self.alarm(&alarm),
        }
    }

    /// What comes from here on goes to the heir, so that the engine can come to an end.
    fn drain(&mut self, at: Instant, heir: Option<HardwareAddress>) {
        match heir {
            Some(heir) => self.parts.hands.pass_on(heir, at + PASS_ON_FOR),
            None => tracing::warn!(
                "what comes in the moment of the hand-over can not be passed on: both gates must be programs in the kernel"
            ),
        }
        match self.parts.engine.order(Order::Drain) {
            true => self.draining = Some(at + DRAIN_MAX),
            false => self.next.push_back(Input::Drained),
        }
    }

    fn became_active(&mut self, at: Now, epoch: Epoch, reason: Reason) {
        self.parts.engine.order(Order::Active(epoch.0));
        let ready = self.parts.guardian.ready();
        self.reporter.became_active(at, epoch, reason, Kept { bindings: self.remembered.bindings, ready });
        self.reporter.ended(now().instant, Phase::EngineTold);
        self.tell(Occasion::Active, epoch.0, reason_name(reason).to_owned());
        self.remembered.since = at.instant;
        self.remembered.cause = Some(reason_name(reason));
        *self.remembered.takeovers.entry(reason_name(reason)).or_default() += 1;
        tracing::info!(epoch = epoch.0, ?reason, "this node is active");
    }

    fn became_standby(&mut self, at: Now, epoch: Epoch, cause: Cause) {
        self.parts.engine.order(Order::Standby);
        for report in self.reporter.became_standby(at, epoch, cause) {
            self.report(&report);
        }
        self.tell(Occasion::Standby, epoch.0, cause_name(cause).to_owned());
        self.remembered.since = at.instant;
        self.remembered.cause = Some(cause_name(cause));
        *self.remembered.losses.entry(cause_name(cause)).or_default() += 1;
        tracing::info!(epoch = epoch.0, ?cause, "this node is active no more");
    }

    /// When the active node was last heard is known while it is silent, and not after.
    fn look_for_active(&mut self, at: Instant) {
        match self.parts.guardian.nobody_active(at) {
            Some(silence) => {
                let silence = u64::try_from(silence.as_nanos()).unwrap_or(u64::MAX);
                self.reporter.nobody_active(at, Instant::from_nanos(at.as_nanos().saturating_sub(silence)));
            }
            None => self.reporter.somebody_active(),
        }
    }

    fn learn(&mut self, member: MemberId, voter: cluster::VoterId) {
        tracing::info!(member = member.0, voter = voter_text(voter), "a voter was heard for the first time");
        self.parts.known.insert(member, voter);
        if self.parts.keeper.learn(&self.parts.known).is_err() {
            tracing::error!("the voter can not be remembered: the disk does not move");
        }
    }

    pub(super) fn report(&self, report: &Report) {
        tracing::info!(epoch = report.epoch, event = ?report.event, after_ms = report.phases_text(), "report");
        let line = serde_json::to_string(report).unwrap_or_default();
        if self.parts.keeper.report(line).is_err() {
            tracing::warn!("a report is not kept: the disk does not move");
        }
    }

    /// Something is wrong with this node.
    pub(super) fn fault(&self, reason: String) {
        self.tell(Occasion::Fault, self.parts.guardian.highest().0, reason);
    }

    /// Tells the hooks.
    pub(super) fn tell(&self, occasion: Occasion, epoch: u64, reason: String) {
        self.parts.hooks.tell(Event { occasion, epoch, reason });
    }

    fn alarm(&mut self, alarm: &Alarm) {
        let text = alarm_text(alarm, &Names(&self.parts.about.cluster));
        tracing::error!("{text}");
        self.fault(text.clone());
        // What goes on, or can be seen at any time, is in the view itself.
        if matches!(alarm, Alarm::DiskFailed | Alarm::Cloned(_) | Alarm::Conflict) {
            let alarms = &mut self.remembered.alarms;
            alarms.retain(|known| *known != text);
            alarms.push(text);
        }
    }
}

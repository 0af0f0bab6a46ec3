//! What phones say goes into the books, and the books are compared with the server.

use std::time::Duration;

use bytes::Bytes;
use sip::Aor;
use transport::Transport;

use crate::cast::who;
use crate::events::Event;
use crate::ledger::Bound;
use crate::phone::{Behaviour, Fact, Role};

use super::World;

/// A phone hears of its time later than it began: the way there and back, twice held back.
const SLACK: Duration = Duration::from_secs(2);

impl World {
    /// Takes what a phone says.
    pub(super) fn fact(&mut self, phone: usize, fact: Fact) {
        self.trace.add(self.now, format_args!("phone {phone}: {fact:?}"), b"");
        if let Some(tap) = &mut self.tap {
            tap.facts.push((self.now, phone, fact.clone()));
        }
        if let Some(call) = fact.call() {
            self.count_call(phone, &fact);
            return self.calls.note(self.now, phone, call, fact);
        }
        match fact {
            Fact::Registered { contact, sent, expires } => self.told(phone, contact, sent + expires),
            Fact::Unregistered => {
                self.events.add(Event::Unregistered);
                self.bindings.excuse(phone);
            }
            Fact::RegisterRefused(401) if phone == who::MALLORY => self.events.add(Event::WrongPassword),
            Fact::RegisterRefused(403) => self.events.add(Event::ForeignRegister),
            Fact::Challenged { stale, in_dialog, method, .. } => {
                if stale {
                    self.events.add(Event::Stale);
                }
                if in_dialog {
                    self.watch.breach(
                        self.now,
                        "nothing in a dialog is challenged",
                        format!("{method} of phone {phone}"),
                    );
                }
            }
            Fact::NonceReused => self.events.add(Event::NonceReused),
            Fact::KeepaliveAnswered => self.events.add(Event::KeepaliveAnswered),
            Fact::Ponged => self.events.add(Event::Ponged),
            Fact::Mapped(address) => self.mapped(phone, address),
            Fact::Unexpected(seen) => {
                self.watch.breach(self.now, "a phone sees only what a correct server does", seen)
            }
            _ => {}
        }
    }

    fn told(&mut self, phone: usize, contact: String, until: clock::Instant) {
        let first = !self.bindings.is_bound(phone, self.now);
        self.events.add(if first { Event::Registered } else { Event::Refreshed });
        let aor = self.residents[phone].phone.aor();
        self.bindings.told(phone, Bound { contact: Bytes::from(contact), aor, until, told: self.now });
    }

    fn mapped(&mut self, phone: usize, address: std::net::SocketAddr) {
        self.events.add(Event::StunAnswered);
        let resident = &self.residents[phone];
        let expected = resident.nat.map_or(resident.phone.setup().local.ip(), |nat| self.nats[nat].outside());
        if address.is_ipv4() && address.ip() != expected {
            self.watch.breach(self.now, "STUN tells the address that the world sees", address.to_string());
        }
    }

    fn count_call(&mut self, phone: usize, fact: &Fact) {
        let event = match fact {
            Fact::Established { call, role: Role::Callee } => {
                self.count_crossings(phone, *call);
                Event::Established
            }
            Fact::Ringing { bytes, .. } if *bytes >= 1_500 => {
                match (self.residents[phone].phone.setup().transport, self.residents[phone].listens) {
                    (Transport::Tcp, _) => return,
                    (Transport::Udp, _) if phone != who::ZOE => Event::LongInviteOverUdp,
                    (Transport::Udp, super::Listens::UdpOnly) => Event::FellBackToUdp,
                    (Transport::Udp, super::Listens::Both) => return,
                }
            }
            Fact::Surplus { crossed_cancel: true, .. } => Event::CancelCrossed,
            Fact::Surplus { crossed_cancel: false, .. } => Event::ForkBoth,
            Fact::Failed { status: 486, .. } => Event::Busy,
            Fact::Failed { status: 603, .. } => Event::Declined,
            Fact::Failed { status: 487, .. } => Event::Cancelled,
            Fact::Failed { status: 480, .. } => Event::NotRegistered,
            Fact::Failed { status: 404, .. } => Event::NotFound,
            Fact::Failed { status: 482, .. } => Event::Looped,
            Fact::Redirected { .. } => Event::Redirected,
            Fact::Reinvited { status: 200, .. } => Event::Reinvited,
            Fact::HungUp { role, status: 200, .. } => {
                if self.residents[phone].phone.setup().strict {
                    self.events.add(Event::StrictRoute);
                }
                match role {
                    Role::Caller => Event::CallerHungUp,
                    Role::Callee => Event::CalleeHungUp,
                }
            }
            _ => return,
        };
        self.events.add(event);
    }

    fn count_crossings(&mut self, callee: usize, call: u32) {
        let Some(caller) = self.calls.of(call).map(|record| record.caller) else { return };
        let (one, other) = (self.residents[caller].phone.setup(), self.residents[callee].phone.setup());
        let (transports, families) =
            (one.transport != other.transport, one.local.is_ipv4() != other.local.is_ipv4());
        let target = self.calls.of(call).map(|record| record.order.target.clone()).unwrap_or_default();
        if transports {
            self.events.add(Event::TransportCrossed);
        }
        if families {
            self.events.add(Event::FamilyCrossed);
        }
        if target.contains(crate::neighbour::SPIRAL_PREFIX) {
            self.events.add(Event::Spiral);
        }
    }

    /// Every binding that a phone was told of is known to the server.
    pub(super) fn audit(&mut self) {
        if self.is_down {
            return;
        }
        let now = self.clocks();
        let missing: Vec<_> = self
            .bindings
            .all(self.now + SLACK)
            .filter(|(_, bound)| {
                let known =
                    Aor::parse(&bound.aor).map(|aor| self.node.contacts(now, &aor)).unwrap_or_default();
                !known.contains(&bound.contact)
            })
            .map(|(phone, bound)| (phone, bound.clone()))
            .collect();
        for (phone, bound) in missing {
            self.bindings.excuse(phone);
            // A phone that answers no keepalive is dropped; where nothing is lost each one answers.
            let dead = self.node.counts().of(routing::Count::BindingDead);
            let may_be_dead = self.disturbances.touch(bound.told, self.now, &[phone]);
            if may_be_dead && dead > self.excused_dead {
                self.excused_dead += 1;
            } else {
                self.watch.breach(
                    self.now,
                    "an acknowledged binding is known until it ends",
                    format!("{bound:?}"),
                );
            }
        }
    }

    /// Adds what this start of the server has counted.
    pub(super) fn count_node(&mut self) {
        self.events.add_server(&self.node.counts());
        let bans = self.node.ban_counts();
        self.events.add_many(Event::Banned, bans.banned());
        self.events.add_many(Event::Restrained, bans.restrained());
        self.events.add_many(Event::DroppedBanned, self.node.dropped().banned);
    }

    /// Counts what can be told only when all is over, and compares all calls with their scripts.
    pub(crate) fn close_books(&mut self) {
        self.count_node();
        let records: Vec<_> = self.calls.iter().cloned().collect();
        let ring_timeout = self.settings.proxy.ring_timeout;
        for record in records {
            self.count_fork(&record);
            let hurt = self.disturbances.touch(record.began, record.last() + SLACK, &record.phones());
            let verdict = if hurt { record.judge_end() } else { record.judge(ring_timeout) };
            if let Err(problem) = verdict {
                let rule = if hurt { "every call ends" } else { "every call goes as its script says" };
                let number = record.order.number;
                let facts: Vec<_> = record
                    .facts
                    .iter()
                    .map(|(at, who, fact)| format!("{at} phone {who}: {fact:?}"))
                    .collect();
                let seen = format!(
                    "call {number} of phone {} at {}: {problem}\n{:?}\n{:?}\n{}",
                    record.caller,
                    record.began,
                    record.order,
                    record.expected,
                    facts.join("\n")
                );
                self.watch.breach(self.now, rule, seen);
            }
        }
    }

    fn count_fork(&mut self, record: &crate::ledger::CallRecord) {
        if let crate::ledger::Expected::InTurn(answers) = &record.expected {
            let rang = |phone: &usize| {
                record.facts.iter().any(|(_, who, fact)| who == phone && matches!(fact, Fact::Ringing { .. }))
            };
            if answers.iter().filter(|(phone, _)| rang(phone)).count() > 1 {
                self.events.add(Event::SerialFork);
            }
        }
        let crate::ledger::Expected::Answers(answers) = &record.expected else { return };
        let answered = record.said(|fact| matches!(fact, Fact::Answered { .. }));
        if answers.len() > 1 && answered {
            self.events.add(Event::ForkWon);
        }
        for (_, phone, fact) in &record.facts {
            let Fact::Cancelled { .. } = fact else { continue };
            let behaviour =
                answers.iter().find(|(who, _)| who == phone).map(|(_, answering)| &answering.behaviour);
            match behaviour {
                _ if record.order.cancel_after.is_some() => {}
                _ if answered => self.events.add(Event::ForkCancelled),
                Some(Behaviour::Try) => self.events.add(Event::TimerC),
                Some(Behaviour::Ring) => self.events.add(Event::RingTimeout),
                _ => {}
            }
        }
        if record.outcome() == Some(408) && answers.iter().any(|(_, one)| one.behaviour == Behaviour::Silence)
        {
            self.events.add(Event::Unanswered);
        }
    }

    /// Nothing is left of what has ended long ago.
    pub(crate) fn audit_rest(&mut self) {
        let held = self.node.held();
        if held != crate::node::Held::default() {
            self.watch.breach(self.now, "nothing is left of what has ended", format!("{held:?}"));
        }
        for number in 0..self.residents.len() {
            let left = self.residents[number].phone.left();
            if left != (0, 0) {
                self.watch.breach(self.now, "no phone waits for ever", format!("phone {number}: {left:?}"));
            }
        }
    }
}

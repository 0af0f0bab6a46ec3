//! What a script can do to a world.

use std::time::Duration;

use crate::cast::{self, who};
use crate::dns::Resolver;
use crate::events::Event;
use crate::ledger::{CallRecord, Expected};
use crate::network::Conditions;
use crate::node::Node;
use crate::phone::CallOrder;
use crate::store::Condition;

use super::{Happening, Host, World};

/// One act.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// A phone registers, or registers anew.
    Register(usize),
    /// A phone ends its binding.
    Unregister(usize),
    /// A phone tries to register for somebody else.
    RegisterAs(usize, String),
    /// A phone calls.
    Call {
        /// Who.
        caller: usize,
        /// Whom and how.
        order: CallOrder,
        /// Who rings, and what they do.
        expected: Expected,
    },
    /// Somebody hangs a call up.
    HangUp(usize, u32),
    /// A phone asks for its address, or pings its connection.
    Ping(usize),
    /// A phone asks the server for OPTIONS.
    Options(usize),
    /// A router forgets everything.
    Rebind(usize),
    /// A phone's connection is closed.
    CloseConnection(usize),
    /// A phone's connection is forgotten by its router.
    BreakConnection(usize),
    /// A phone loses its power.
    PowerOff(usize),
    /// The server ends cleanly, and is back after this time.
    Restart(Duration),
    /// The server is killed, and is back after this time.
    Kill(Duration),
    /// The server is back.
    Start,
    /// The server takes back what it has registered at carriers, and registers nothing more.
    LeaveCarriers,
    /// The database is so.
    Store(Condition),
    /// The resolver is so.
    Resolver(Resolver),
    /// The network is so.
    Network(Conditions),
    /// The server hears a phone no more, or the phone the server.
    Cut {
        /// Whom.
        phone: usize,
        /// Whether it is the phone's messages that are lost.
        from_phone: bool,
    },
    /// Everything that was cut is whole again.
    Mend,
    /// A stranger sends something.
    Attack,
    /// A stranger connects and sends something.
    AttackStream,
}

impl World {
    /// Does it, at once.
    pub(crate) fn act(&mut self, action: Action) {
        if let Action::Unregister(phone)
        | Action::RegisterAs(phone, _)
        | Action::Call { caller: phone, .. }
        | Action::HangUp(phone, _)
        | Action::Ping(phone)
        | Action::Options(phone)
        | Action::CloseConnection(phone) = action
            && !self.residents[phone].phone.is_powered()
        {
            return;
        }
        self.trace.add(self.now, format_args!("{action:?}"), b"");
        let (now, mut out) = (self.now, Vec::new());
        match action {
            Action::Register(phone) => {
                self.residents[phone].phone.register(now, &mut out);
                self.carry_phone(phone, out);
            }
            Action::Unregister(phone) => {
                self.bindings.excuse(phone);
                self.residents[phone].phone.unregister(now, &mut out);
                self.carry_phone(phone, out);
            }
            Action::RegisterAs(phone, aor) => {
                self.residents[phone].phone.register_as(now, aor, &mut out);
                self.carry_phone(phone, out);
            }
            Action::Call { caller, order, expected } => self.call(caller, order, expected),
            Action::HangUp(phone, call) => {
                self.residents[phone].phone.hang_up(now, call, &mut out);
                self.carry_phone(phone, out);
            }
            Action::Ping(phone) => {
                self.residents[phone].phone.ping(&mut out);
                self.carry_phone(phone, out);
            }
            Action::Options(phone) => {
                self.residents[phone].phone.ask_options(now, &mut out);
                self.carry_phone(phone, out);
            }
            Action::Rebind(nat) => self.rebind(nat),
            Action::CloseConnection(phone) => {
                self.note_connection(phone);
                self.residents[phone].phone.close_connection(now, &mut out);
                self.carry_phone(phone, out);
            }
            Action::BreakConnection(phone) => {
                self.note_connection(phone);
                let host = self.residents[phone].phone.setup().local.ip();
                self.streams.break_of(host);
            }
            Action::PowerOff(phone) => {
                self.events.add(Event::PowerLost);
                self.bindings.excuse(phone);
                let host = self.residents[phone].phone.setup().local.ip();
                self.residents[phone].phone.lose_power();
                self.calls.forget_caller(now, phone);
                self.streams.break_of(host);
            }
            Action::Restart(lasts) => self.restart(lasts),
            Action::Kill(lasts) => self.kill(lasts),
            Action::Start => self.start(),
            Action::LeaveCarriers => {
                let (now, mut out) = (self.clocks(), Vec::new());
                self.node.leave_carriers(now, &mut out);
                self.carry_node(out);
            }
            Action::Store(condition) => {
                for (partition, aor) in self.store.set_condition(condition) {
                    let happening = Happening::Account { boot: self.boot, partition, aor };
                    self.later(now, happening);
                }
            }
            Action::Resolver(resolver) => self.resolver = resolver,
            Action::Network(conditions) => self.network.set_conditions(conditions),
            Action::Cut { phone, from_phone } => self.cut(phone, from_phone),
            Action::Mend => self.network.mend_all(),
            Action::Attack => {
                self.events.add(Event::StrangerSent);
                let (to, bytes) = self.stranger.attack(now);
                self.transmit(cast::STRANGER, to, bytes);
            }
            Action::AttackStream => {
                self.events.add(Event::StrangerSent);
                let bytes = self.stranger.attack_stream(now);
                self.opened = self.opened.wrapping_add(1);
                let from = std::net::SocketAddr::new(cast::STRANGER.ip(), 40_000 + self.opened % 20_000);
                let id = self.open((from, from, cast::FIRST), [Host::Stranger, Host::Node]);
                let end = crate::stream::End::Opener;
                self.stream(|streams, network, now, out| streams.write(now, network, (id, end), &bytes, out));
            }
        }
    }

    /// A call with what is expected of it; the phones that ring are told their parts.
    fn call(&mut self, caller: usize, order: CallOrder, expected: Expected) {
        if let Expected::Answers(answers) | Expected::InTurn(answers) = &expected {
            for (phone, answering) in answers {
                self.residents[*phone].phone.prepare(order.number, answering.clone());
            }
        }
        let expected = self.corrected(caller, expected);
        let record =
            CallRecord { order: order.clone(), caller, began: self.now, expected, facts: Vec::new() };
        self.calls.begin(record);
        let (now, mut out) = (self.now, Vec::new());
        self.residents[caller].phone.call(now, order, &mut out);
        self.carry_phone(caller, out);
    }

    /// Only who is registered rings, and only his NAT is kept open; who is not sure to be makes the outcome
    /// open.
    fn corrected(&self, caller: usize, expected: Expected) -> Expected {
        let Expected::Answers(answers) = &expected else { return expected };
        let registers = |phone: usize| who::REGISTERED.contains(&phone);
        let mut phones = answers.iter().map(|(phone, _)| *phone).chain([caller]);
        let sure = phones.all(|phone| !registers(phone) || self.bindings.is_bound(phone, self.now));
        if sure { expected } else { Expected::End }
    }

    fn rebind(&mut self, nat: usize) {
        for number in 0..self.residents.len() {
            if self.residents[number].nat == Some(nat) {
                if self.residents[number].phone.is_in_call() {
                    self.events.add(Event::NatRebound);
                }
                self.bindings.excuse(number);
                let host = self.residents[number].phone.setup().local.ip();
                self.streams.break_of(host);
            }
        }
        self.nats[nat].forget();
    }

    fn note_connection(&mut self, phone: usize) {
        if self.residents[phone].phone.is_in_call() {
            self.events.add(Event::TcpClosedInCall);
        }
        self.bindings.excuse(phone);
    }

    fn restart(&mut self, lasts: Duration) {
        if self.is_down {
            return;
        }
        self.events.add(Event::Restarted);
        if self.residents.iter().any(|resident| resident.phone.is_in_call()) {
            self.events.add(Event::RestartedInCall);
        }
        let now = self.clocks();
        let nonces = self.node.nonces(now);
        self.store.flush(nonces);
        self.stop(lasts);
    }

    fn kill(&mut self, lasts: Duration) {
        if self.is_down {
            return;
        }
        self.events.add(Event::Killed);
        let lost = self.store.kill(self.now);
        self.bindings.excuse_contacts(self.now, &lost);
        self.stranger.forget();
        self.stop(lasts);
    }

    fn stop(&mut self, lasts: Duration) {
        self.count_node();
        for stream in self.node.streams() {
            self.close(stream, Host::Node);
        }
        self.is_down = true;
        self.excused_dead = 0;
        self.later(self.now + lasts, Happening::Act(Action::Start));
    }

    fn start(&mut self) {
        self.boot += 1;
        self.is_down = false;
        let now = self.clocks();
        self.node = Node::start(now, self.settings.clone(), &self.root, self.boot);
        self.node.restore(now, self.store.bindings(), self.store.nonces());
        self.watch.forget();
    }

    /// The server's and the phone's addresses as the network sees them.
    fn cut(&mut self, phone: usize, from_phone: bool) {
        let setup = self.residents[phone].phone.setup();
        let server = setup.server.ip();
        let nat = self.residents[phone].nat;
        let seen = nat.map_or(setup.local.ip(), |nat| self.nats[nat].outside());
        let (from, to) = if from_phone { (seen, server) } else { (server, seen) };
        // Without packets a mapping ends, and only a phone that registers again is reached again.
        for number in (0..self.residents.len()).filter(|_| nat.is_some()) {
            if self.residents[number].nat == nat {
                self.bindings.excuse(number);
            }
        }
        self.network.cut(from, to);
    }
}

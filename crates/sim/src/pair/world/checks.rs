//! What must hold, whatever happens.

use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;
use replica::Cause;
use sip::{Message, Method, Name, Status};

use super::{Event, NODES, Resident, World};
use crate::cast::public_of;
use crate::node::Truth;
use crate::pair::books::{self, Asking};
use crate::pair::cast;
use crate::pair::clock::SKEW_MAX;

/// A call that nothing disturbs rings by then.
const RINGS_WITHIN: Duration = Duration::from_secs(4);
/// And its 200 is with the caller after this time, also if it must be sent twice again.
const UP_WITHIN: Duration = Duration::from_secs(2);
/// The clocks of nodes go slower or faster by a tenth, and turns are spread.
const KEPT_ALIVE_WITHIN: Duration = Duration::from_secs(cast::KEEPALIVE.as_secs() * 2 + 5);
/// No phone says the same again before.
const AGAIN_AFTER: Duration = Duration::from_millis(400);
/// A REGISTER that is answered by nobody is given up after this time, and was sent before it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(33);
/// Two nodes need not agree to the moment about what runs out.
const ABOUT_TO_END: Duration = Duration::from_secs(15);

impl World {
    /// An engine hears a datagram.
    pub(super) fn heard(&mut self, host: usize, from: SocketAddr, local: SocketAddr, bytes: &[u8]) {
        let Ok(message) = Message::parse(bytes) else { return };
        let is_active =
            self.hosts[host].engine.as_ref().is_some_and(|it| it.node.is_active(self.clocks(host)));
        if is_active {
            self.books.hear(self.now, host, (from, local), &message);
        }
    }

    /// An engine has worked out a message: whether a 200 to a REGISTER may be told.
    pub(super) fn produced(&mut self, host: usize, settling: Option<Option<Cause>>, bytes: &[u8]) {
        let Some((asking, granted)) = acceptance(&self.books, bytes) else { return };
        let is_again = self.books.of(&asking).is_some_and(|entry| entry.by == host || entry.is_answered);
        let is_repeated = is_again || self.books.is_overtaken(&asking);
        if is_repeated && settling.is_none() {
            return;
        }
        let peer = 1 - host;
        let mut holders = [false; NODES];
        holders[host] = true;
        match settling {
            Some(Some(cause)) => {
                if self.is_quiet() {
                    let seen = format!("{cause:?} for {asking:?} at node {host}");
                    self.breach("nothing is degraded while the peer is well and near", seen);
                }
            }
            Some(None) | None if self.is_lying() => {}
            Some(None) | None => {
                holders[peer] = true;
                self.books.decide(self.now, &asking, host, granted, holders);
                self.check_peer_has(peer, &asking);
                return;
            }
        }
        self.books.decide(self.now, &asking, host, granted, holders);
    }

    /// What an answer stands for is with the other node before it leaves.
    fn check_peer_has(&mut self, peer: usize, asking: &Asking) {
        let Some(asked) = self.books.asked(asking).cloned() else { return };
        let now = self.clocks(peer);
        let truth =
            self.hosts[peer].engine.as_ref().map(|it| it.node.truth(now, std::slice::from_ref(&asked.aor)));
        let stored = truth
            .as_ref()
            .and_then(|truth| truth.get(&(asked.aor.as_str().to_owned(), asked.contact.clone())));
        let is_there = match (asked.is_end, stored) {
            (_, Some(stored)) if stored.cseq > asking.1 => true,
            (true, stored) => truth.is_some() && stored.is_none_or(|stored| stored.cseq > asking.1),
            (false, stored) => stored.is_some_and(|stored| stored.cseq >= asking.1),
        };
        if !is_there {
            let seen = format!("{asked:?} {asking:?}: {stored:?}");
            self.breach("a 200 that is not counted degraded stands for what both nodes have", seen);
        }
    }

    /// A datagram of an engine has passed the gate.
    pub(super) fn sent(&mut self, host: usize, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some((asking, _)) = acceptance(&self.books, bytes) {
            let first = self.books.of(&asking).is_some_and(|entry| !entry.is_answered);
            self.books.answer(&asking);
            if let Some(entry) = self.books.of(&asking)
                && first
            {
                let event = match (entry.holders == [true; NODES], entry.until) {
                    (true, Some(_)) => Event::AnsweredHeld,
                    (true, None) => Event::EndedHeld,
                    (false, _) => Event::AnsweredDegraded,
                };
                let by_other = entry.asked.heard[1 - host].is_some();
                self.events.add(event);
                if by_other {
                    self.count(Event::RepeatedAtTheOther);
                }
            }
            self.note_nonce_use(host, &asking);
        }
        let Ok(message) = Message::parse(bytes) else { return };
        self.check_asked(host, &message);
        if message.is_request() {
            return self.check_listener(host, from, to, &message);
        }
        let Some(value) = message.header(Name::WwwAuthenticate) else { return };
        let value = String::from_utf8_lossy(value).into_owned();
        let Some((nonce, _)) = books::nonce(&value) else { return };
        if value.contains("stale=true") {
            self.check_stale(host, &message);
        }
        self.nonces.entry(nonce).or_insert((self.now, host));
    }

    /// What is told of a REGISTER is told of one that was heard: what is not is in no book, and would be checked by nobody.
    fn check_asked(&mut self, host: usize, message: &Message<'_>) {
        let is_answer = message.status() == Some(Status::OK)
            && message.cseq().is_ok_and(|cseq| cseq.method == Method::Register);
        let asking = books::asking(message).filter(|_| is_answer);
        if let Some(asking) = asking.filter(|asking| self.books.asked(asking).is_none()) {
            self.breach("a 200 answers a REGISTER that was heard", format!("node {host}: {asking:?}"));
        }
    }

    /// A nonce that either node made is good as long as it says.
    fn check_stale(&mut self, host: usize, response: &Message<'_>) {
        let Some(asking) = books::asking(response) else { return };
        let Some(asked) = self.books.asked(&asking) else { return };
        let Some((nonce, count)) = asked.nonce.clone() else { return };
        // It was heard here before, and its answer did not leave: its count is used.
        if asked.heard[host].is_some_and(|heard| heard + AGAIN_AFTER < self.now) {
            return;
        }
        let Some(&(made, by)) = self.nonces.get(&nonce) else { return };
        let least = cast::NONCE_LIFETIME.saturating_sub(SKEW_MAX * 2 + Duration::from_secs(1));
        if self.now.since(made) < least && !self.used.contains(&(nonce, count)) {
            let seen = format!("made by node {by} at {made}, refused by node {host}: {asking:?}");
            self.breach("a nonce of either node is good at both", seen);
        }
    }

    fn note_nonce_use(&mut self, host: usize, asking: &Asking) {
        let Some((nonce, count)) = self.books.asked(asking).and_then(|asked| asked.nonce.clone()) else {
            return;
        };
        if self.nonces.get(&nonce).is_some_and(|(_, by)| *by != host) {
            self.count(Event::NonceOfTheOther);
        }
        self.used.insert((nonce, count));
    }

    /// A phone hears the server from where it registered.
    fn check_listener(&mut self, host: usize, from: SocketAddr, to: SocketAddr, request: &Message<'_>) {
        let known: Vec<SocketAddr> = self.books.at(to).map(|entry| entry.asked.listener).collect();
        if request.method() == Some(Method::Register) || known.is_empty() || known.contains(&from) {
            return;
        }
        let seen = format!("node {host} sends from {} to {to}", public_of(from));
        self.breach("a phone is reached from the listener it registered at", seen);
    }

    /// An engine becomes active: what was acknowledged is there.
    pub(super) fn takes_over(&mut self, host: usize) {
        let now = self.clocks(host);
        let Some(truth) = self.truth(host) else { return };
        let found = self.books.take_over(self.now, now.wall, host, &truth);
        self.events.add_many(Event::KeptOverTakeover, found.kept);
        self.events.add_many(Event::EndKeptOverTakeover, found.ends_kept);
        self.events.add_many(Event::LostWithBoth, found.lost);
        for problem in found.problems {
            self.breach(
                "what was acknowledged survives the loss of a node",
                format!("node {host}: {problem}"),
            );
        }
    }

    /// What a node has again from its own disk.
    pub(super) fn found_on_disk(&mut self, host: usize) {
        let now = self.clocks(host);
        if let Some(truth) = self.truth(host) {
            self.books.find(self.now, now.wall, host, &truth);
        }
    }

    /// The active node was told that the other one has everything.
    pub(super) fn agreed(&mut self, host: usize) {
        self.count(Event::Agreed);
        let peer = 1 - host;
        let (now, lag) =
            (self.clocks(host), self.hosts[host].engine.as_ref().map(|it| it.node.lag(self.clocks(host))));
        if self.is_lying()
            || lag != Some(0)
            || self.hosts[host].engine.as_ref().is_none_or(|it| it.node.ready(now) < 100)
        {
            return;
        }
        if let Some(truth) = self.truth(peer) {
            let wall = self.clocks(peer).wall;
            self.books.find(self.now, wall, peer, &truth);
        }
        if let Err(seen) = self.are_equal() {
            self.breach("nodes that agree have the same", seen);
        }
    }

    /// Whether both nodes have the same bindings.
    fn are_equal(&self) -> Result<(), String> {
        let [one, other] = [self.truth(0).unwrap_or_default(), self.truth(1).unwrap_or_default()];
        let walls = [self.clocks(0).wall, self.clocks(1).wall];
        for (key, stored) in &one {
            match other.get(key) {
                Some(there) if (there.cseq, there.received) == (stored.cseq, stored.received) => {}
                Some(there) => return Err(format!("{stored:?} and {there:?}")),
                None if stored.left(walls[0]) < ABOUT_TO_END => {}
                None => return Err(format!("only at node 0: {stored:?}")),
            }
        }
        for (key, stored) in &other {
            if !one.contains_key(key) && stored.left(walls[1]) >= ABOUT_TO_END {
                return Err(format!("only at node 1: {stored:?}"));
            }
        }
        Ok(())
    }

    fn truth(&self, host: usize) -> Option<Truth> {
        let engine = self.hosts[host].engine.as_ref()?;
        Some(engine.node.truth(self.clocks(host), &self.aors))
    }

    /// Whether a call to this phone must ring, with nothing to disturb it.
    pub(super) fn must_ring(&self, callee: usize) -> bool {
        let Some(host) = self.active().filter(|_| self.is_quiet()) else { return false };
        if !self.phones[callee].phone.is_powered() {
            return false;
        }
        let local = self.phones[callee].phone.setup().local;
        let is_of = |entry: &&books::Entry| entry.asked.contact.ends_with(local.to_string().as_bytes());
        self.books.entries().filter(is_of).any(|entry| {
            let lasts = entry.until.is_some_and(|until| until > self.now + RINGS_WITHIN);
            lasts && entry.is_answered && entry.holders[host] && entry.is_undisputed()
        })
    }

    pub(super) fn rang(&mut self, phone: usize, call: u32) {
        let Some(probe) = self.probes.get_mut(&call).filter(|probe| probe.callee == phone) else { return };
        if std::mem::replace(&mut probe.rang, true) {
            return;
        }
        self.count(Event::Rang);
        if self.phones[phone].nat.is_some() {
            self.count(Event::RangBehindNat);
        }
        if self.is_by_the_other(phone) {
            self.count(Event::RangByTheOther);
        }
    }

    pub(super) fn kept_alive(&mut self, phone: usize) {
        self.phones[phone].kept_alive = Some(self.now);
        if self.is_by_the_other(phone) {
            self.count(Event::KeptAliveByTheOther);
        }
    }

    /// Whether another node is active than the one that has answered the phone's last REGISTER.
    fn is_by_the_other(&self, phone: usize) -> bool {
        let local = self.phones[phone].phone.setup().local.to_string();
        let mut entries = self.books.entries();
        let entry = entries.find(|entry| entry.asked.contact.ends_with(local.as_bytes()));
        entry.is_some_and(|entry| self.active().is_some_and(|active| active != entry.by))
    }

    /// A REGISTER was answered by nobody.
    pub(super) fn unanswered(&mut self, phone: usize) {
        if self.is_quiet() && self.quiet_from + ANSWERED_WITHIN < self.now {
            self.breach("a REGISTER is answered, if need be when it comes again", format!("phone {phone}"));
        }
    }

    /// Calls that should have rung by now.
    pub(super) fn judge_calls(&mut self) {
        let now = self.now;
        let is_due = |_: &u32, probe: &mut super::Probe| probe.began + RINGS_WITHIN <= now;
        let due: Vec<(u32, super::Probe)> = self.probes.extract_if(.., is_due).collect();
        for (number, probe) in due {
            if probe.counts && self.is_quiet() && self.quiet_from <= probe.began {
                let seen = || format!("call {number} of {} to phone {}", probe.began, probe.callee);
                if !probe.rang {
                    self.breach("a phone that is registered rings when it is called", seen());
                } else if probe.answered.is_some_and(|at| at + UP_WITHIN <= now) && !probe.is_up {
                    self.breach("who calls a phone that answers gets its 200", seen());
                }
            }
            for resident in &mut self.phones {
                resident.phone.forget_call(number);
            }
        }
    }

    /// All has healed, some time has passed: the service is there, and both nodes have the same.
    pub(in crate::pair) fn judge_rest(&mut self, calm: Duration) {
        self.judge_calls();
        let Some(active) = self.active() else {
            return self.breach("somebody is active when all has healed", format!("{:?}", self.views()));
        };
        let wall = self.clocks(active).wall;
        let Some(truth) = self.truth(active) else {
            return self.breach("the active node serves when all has healed", format!("node {active}"));
        };
        for problem in self.books.audit(self.now, wall, active, &truth) {
            self.breach("what was acknowledged is at the active node", problem);
        }
        let ready = [0, 1].map(|host| {
            let now = self.clocks(host);
            self.hosts[host].engine.as_ref().map_or(0, |engine| engine.node.ready(now))
        });
        if ready != [100, 100] {
            return self.breach(
                "the standby becomes ready when all has healed",
                format!("{ready:?}, active {active}"),
            );
        }
        let lag = self.hosts[active].engine.as_ref().map_or(0, |it| it.node.lag(self.clocks(active)));
        let digests = [0, 1].map(|host| self.hosts[host].engine.as_ref().map(|it| it.node.digests()));
        if lag == 0 && digests[0] != digests[1] {
            self.breach("digests are equal when all has healed", format!("{digests:?}"));
        }
        if lag == 0
            && let Err(seen) = self.are_equal()
        {
            self.breach("both nodes have the same when all has healed", seen);
        }
        if calm >= KEPT_ALIVE_WITHIN + Duration::from_secs(20) {
            self.judge_keepalives(active);
        }
    }

    /// Phones behind NAT heard of the server, whoever it is.
    fn judge_keepalives(&mut self, active: usize) {
        for number in 0..self.phones.len() {
            let Resident { phone, nat: Some(_), kept_alive, .. } = &self.phones[number] else { continue };
            let local = phone.setup().local.to_string();
            let since = self.now.since(Instant::START + KEPT_ALIVE_WITHIN);
            let is_old = |entry: &&books::Entry| {
                let is_of = entry.asked.contact.ends_with(local.as_bytes());
                let heard = entry.asked.heard.iter().flatten().min();
                let lasts = entry.until.is_some_and(|until| until > self.now);
                is_of
                    && lasts
                    && entry.is_answered
                    && entry.holders[active]
                    && heard.is_some_and(|heard| heard.since(Instant::START) < since)
            };
            let is_due = self.books.entries().filter(is_old).any(|entry| entry.is_undisputed());
            let is_kept = kept_alive.is_some_and(|at| at.since(Instant::START) >= since);
            if is_due && !is_kept {
                let seen = format!("phone {number}, last at {kept_alive:?}");
                self.breach("a phone behind NAT is kept alive by whoever is active", seen);
            }
        }
    }

    fn views(&self) -> Vec<String> {
        let view = |host: usize| {
            let guardian = self.hosts[host].guardian.as_ref()?;
            let view = guardian.view(self.clocks(host).instant);
            Some(format!(
                "node {host}: {:?} {:?} {:?} votes {:?}",
                view.role, view.stance, view.engine, view.votes
            ))
        };
        (0..NODES).map(|host| view(host).unwrap_or_else(|| format!("node {host} is off"))).collect()
    }

    /// Counts what can be told only at the end.
    pub(in crate::pair) fn close_books(&mut self) {
        use crate::events::Event as Sip;
        let disturbed = [Sip::Lost, Sip::Doubled, Sip::Reordered].map(|event| self.scratch.of(event));
        self.events.add_many(Event::SipDisturbed, disturbed.iter().sum());
        (0..NODES).for_each(|host| self.count_expired(host));
    }

    /// Counts what ran out under an engine.
    pub(super) fn count_expired(&mut self, host: usize) {
        let counts = self.hosts[host].engine.as_ref().map(|engine| engine.node.counts());
        let expired = counts.map_or(0, |counts| counts.of(routing::Count::BindingExpired));
        self.events.add_many(Event::Expired, expired);
    }
}

/// What a 200 to a REGISTER answers, and for how long it grants it.
fn acceptance(books: &books::Books, bytes: &[u8]) -> Option<(Asking, Option<Duration>)> {
    if !bytes.starts_with(b"SIP/2.0 200 ") {
        return None;
    }
    let message = Message::parse(bytes).ok()?;
    if message.cseq().ok()?.method != Method::Register {
        return None;
    }
    let asking = books::asking(&message)?;
    let contact = &books.asked(&asking)?.contact;
    let listed = message.values(Name::Contact).map(|value| String::from_utf8_lossy(value).into_owned());
    let contact = String::from_utf8_lossy(contact).into_owned();
    let granted = listed.filter(|value| value.contains(&contact)).find_map(|value| {
        let (_, rest) = value.split_once(";expires=")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().map(Duration::from_secs)
    });
    Some((asking, granted))
}

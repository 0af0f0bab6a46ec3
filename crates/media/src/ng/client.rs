//! Who asks rtpengines, and hears of each question what became of it.
//!
//! - **One question of a session at a time.** What comes behind it waits, so that a repeated offer never overtakes the `delete`
//!   behind it.
//! - **The same cookie.** A question is said three times in 1.2 s; rtpengine gives the same answer to each.
//! - **Who is silent is gone**, unless something else was heard of it meanwhile. It is pinged, and gets no calls until it
//!   answers.
//! - **The end of a call** is said again later if its rtpengine was silent, for as long as that may have the call still; it is
//!   never refused for want of room before questions are.
//! - **Another one.** A session that may move is offered to another one, once; what the first one may have taken for it is
//!   deleted if its answer comes late.
//!
//! Invariant: each [`Ask`] for which somebody waits gets one [`Answer`], unless the node stands by.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::{Deadlines, Instant};
use lease::ActiveLease;

use super::command::Command;
use super::node::{Known, NODES_MAX, Node, NodeView, PING_EVERY_DOWN, PING_EVERY_UP, PING_TIME_MAX};
use super::reply::Reply;
use owed::OwedEnds;

/// After which times without an answer a question is said again; after the last one it is given up.
const WAITS: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(400), Duration::from_millis(600)];
/// Questions under way and behind them: the calls that some thousand messages in a second begin.
const ASKS_MAX: usize = 16_384;
/// The ends of these calls come on top: nobody waits for them, and ports would stay in use.
const ENDS_MAX: usize = 16_384;
/// Ends of calls that were not heard, and are said again, at a time.
const OWED_AT_ONCE_MAX: usize = 64;
/// Offers that were given up, and whose answers may come late.
const LATE_MAX: usize = 4_096;

/// A question. `W` says who waits for the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask<W> {
    /// Who waits; `None`: nobody.
    pub waiter: Option<W>,
    /// The session; it also says which rtpengine has it, where that is free.
    pub session: u64,
    /// Which one has the session; `None`: it is new.
    pub node: Option<SocketAddr>,
    /// Whether another one may have it, if that one is gone.
    pub may_move: bool,
    /// What.
    pub command: Command,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<W> {
    /// Who waits.
    pub waiter: W,
    /// Which one was asked last; `None`: none.
    pub node: Option<SocketAddr>,
    /// What it says.
    pub result: Result<Reply, Failure>,
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// All are gone, or have no room.
    NoNode,
    /// The one that has the session is silent.
    Silent,
    /// Too much is asked already.
    Busy,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<W> {
    /// Send a datagram.
    Send {
        /// To whom.
        to: SocketAddr,
        /// What.
        datagram: Bytes,
    },
    /// Tell who waits.
    Answer(Answer<W>),
    /// Tell the operator that one is there again, or gone.
    Changed {
        /// Which.
        node: SocketAddr,
        /// Whether it is there.
        is_up: bool,
    },
}

/// A question under way.
#[derive(Clone, Debug)]
struct Flight<W> {
    ask: Ask<W>,
    number: u64,
    /// Whom it goes to, by its place.
    at: usize,
    sent_at: Instant,
    tries: usize,
    next_at: Instant,
    /// Those that have been tried before.
    tried: Vec<usize>,
    behind: VecDeque<Ask<W>>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Client<W> {
    /// Makes the cookies of this start differ from all others.
    seed: u64,
    asked: u64,
    nodes: Vec<Known>,
    flights: BTreeMap<u64, Flight<W>>,
    waiting: usize,
    by_number: BTreeMap<u64, u64>,
    deadlines: Deadlines<u64>,
    /// Offers given up, by their number: whom they went to, and what undoes them.
    late: BTreeMap<u64, (usize, Command)>,
    owed: OwedEnds<W>,
}

impl<W> Client<W> {
    /// Who knows nobody. `seed` is another one at each start of each node: rtpengine remembers cookies for a while.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            asked: 0,
            nodes: Vec::new(),
            flights: BTreeMap::new(),
            waiting: 0,
            by_number: BTreeMap::new(),
            deadlines: Deadlines::default(),
            late: BTreeMap::new(),
            owed: OwedEnds::new(),
        }
    }

    /// Has these from here on. One that is not among them any more keeps the calls that it has, as long as there are no
    /// more than [`NODES_MAX`].
    pub fn reload(&mut self, now: Instant, nodes: &[Node]) {
        for known in &mut self.nodes {
            let same = nodes.iter().find(|node| node.address == known.node.address);
            known.is_leaving = same.is_none();
            known.node.weight = same.map_or(0, |node| node.weight);
        }
        for node in nodes {
            if self.place(node.address).is_none() && self.nodes.len() < NODES_MAX {
                self.nodes.push(Known::new(now, *node));
            }
        }
    }

    /// Where datagrams may go to and come from.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.nodes.iter().map(|known| known.node.address)
    }

    /// How those do that are configured.
    pub fn view(&self) -> Vec<NodeView> {
        self.nodes.iter().filter(|known| !known.is_leaving).map(Known::view).collect()
    }

    /// Another node may be active: what is under way is forgotten, and so is who is gone.
    pub fn stand_by(&mut self, now: Instant) {
        self.flights.clear();
        self.by_number.clear();
        self.late.clear();
        self.owed = OwedEnds::new();
        self.waiting = 0;
        for known in &mut self.nodes {
            (known.is_up, known.ping, known.heard_at, known.ping_at) = (true, None, None, now);
        }
    }

    /// Asks something.
    pub fn handle_ask(
        &mut self,
        now: Instant,
        lease: &ActiveLease<'_>,
        ask: Ask<W>,
        out: &mut Vec<Output<W>>,
    ) {
        let room = if ask.waiter.is_some() { ASKS_MAX } else { ASKS_MAX + ENDS_MAX };
        if self.waiting >= room {
            if let Some(node) = ask.node.filter(|_| ask.waiter.is_none()) {
                self.note_unsaid(node, 1);
            }
            return answer(ask, None, Err(Failure::Busy), out);
        }
        self.waiting += 1;
        match self.flights.get_mut(&ask.session) {
            Some(flight) => flight.behind.push_back(ask),
            None => self.begin(now, lease, ask, VecDeque::new(), out),
        }
    }

    /// Takes a datagram.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        lease: &ActiveLease<'_>,
        from: SocketAddr,
        datagram: &[u8],
        out: &mut Vec<Output<W>>,
    ) {
        let Some(at) = self.place(from) else { return };
        let read = Reply::read(datagram).ok();
        let Some((number, reply)) = read.and_then(|(cookie, reply)| Some((self.number_of(cookie)?, reply)))
        else {
            self.nodes[at].counts.malformed += 1;
            return;
        };
        self.heard(now, at, out);
        if self.nodes[at].ping.is_some_and(|(ping, _)| ping == number) {
            self.nodes[at].ping = None;
            return;
        }
        let session = self.by_number.get(&number).copied();
        let is_of_flight = |flight: &&Flight<W>| flight.number == number && flight.at == at;
        match session.filter(|session| self.flights.get(session).as_ref().is_some_and(is_of_flight)) {
            Some(session) => self.take_reply(now, lease, session, reply, out),
            None => {
                self.nodes[at].counts.late += 1;
                if self.late.get(&number).is_some_and(|(whom, _)| *whom == at)
                    && let Some((_, undo)) = self.late.remove(&number)
                    && matches!(reply, Reply::Done { .. })
                {
                    self.asked += 1;
                    out.push(Output::Send { to: from, datagram: undo.datagram(&self.cookie(self.asked)) });
                }
            }
        }
    }

    /// The network or the host says that nobody listens there.
    pub fn handle_unreachable(
        &mut self,
        now: Instant,
        lease: &ActiveLease<'_>,
        node: SocketAddr,
        out: &mut Vec<Output<W>>,
    ) {
        let Some(at) = self.place(node) else { return };
        self.lose(now, at, out);
        // Each has sent something to it, and none will be answered.
        let there: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.at == at).map(|(session, _)| *session).collect();
        for session in there {
            self.give_up(now, lease, session, out);
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, lease: &ActiveLease<'_>, out: &mut Vec<Output<W>>) {
        while let Some((at, session)) = self.deadlines.pop_due(now) {
            let Some(flight) = self.flights.get_mut(&session).filter(|flight| flight.next_at == at) else {
                continue;
            };
            if flight.tries < WAITS.len() {
                flight.next_at = now + WAITS[flight.tries];
                flight.tries += 1;
                let (next_at, number, to) = (flight.next_at, flight.number, flight.at);
                let datagram = flight.ask.command.datagram(&cookie(self.seed, number));
                self.deadlines.push(next_at, session);
                self.nodes[to].counts.repeated += 1;
                out.push(Output::Send { to: self.nodes[to].node.address, datagram });
                continue;
            }
            let (to, sent_at) = (flight.at, flight.sent_at);
            self.nodes[to].counts.silent += 1;
            if self.nodes[to].heard_at.is_none_or(|heard_at| heard_at < sent_at) {
                self.lose(now, to, out);
            }
            self.give_up(now, lease, session, out);
        }
        self.say_owed(now, lease, out);
        for at in 0..self.nodes.len() {
            self.ping(now, at, out);
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pings = self.nodes.iter().filter(|known| !known.is_leaving).map(|known| known.ping_at);
        pings.chain(self.deadlines.next()).chain(self.owed.next()).min()
    }

    /// An rtpengine is not told the ends of so many calls.
    pub fn note_unsaid(&mut self, node: SocketAddr, number: u64) {
        if let Some(at) = self.place(node) {
            self.nodes[at].counts.unsaid += number;
        }
    }

    /// The end of a call was not heard.
    fn owe(&mut self, now: Instant, ask: Ask<W>) {
        if let Some(Ask { node: Some(node), .. }) = self.owed.owe(now, ask) {
            self.note_unsaid(node, 1);
        }
    }

    /// Says again what was not heard, where somebody is there to hear it.
    fn say_owed(&mut self, now: Instant, lease: &ActiveLease<'_>, out: &mut Vec<Output<W>>) {
        for _ in 0..OWED_AT_ONCE_MAX {
            let Some(ask) = self.owed.pop_due(now) else { return };
            let at = ask.node.and_then(|node| self.place(node));
            // What stands behind a question goes where that one went.
            let is_alone = !self.flights.contains_key(&ask.session);
            match at.is_some_and(|at| self.nodes[at].is_up) && is_alone && self.waiting < ASKS_MAX {
                true => self.handle_ask(now, lease, ask, out),
                false => self.owe(now, ask),
            }
        }
    }

    /// Begins a question, or says at once that it is in vain.
    fn begin(
        &mut self,
        now: Instant,
        _lease: &ActiveLease<'_>,
        ask: Ask<W>,
        behind: VecDeque<Ask<W>>,
        out: &mut Vec<Output<W>>,
    ) {
        let mut next = Some((ask, behind));
        while let Some((ask, mut behind)) = next.take() {
            match self.choose(&ask, &[]) {
                Some(at) => self.send(now, Flight::new(ask, behind, at, Vec::new()), out),
                None => {
                    self.waiting -= 1;
                    answer(ask, None, Err(Failure::NoNode), out);
                    next = behind.pop_front().map(|ask| (ask, behind));
                }
            }
        }
    }

    fn send(&mut self, now: Instant, mut flight: Flight<W>, out: &mut Vec<Output<W>>) {
        self.asked += 1;
        let session = flight.ask.session;
        (flight.number, flight.sent_at, flight.tries) = (self.asked, now, 1);
        flight.next_at = now + WAITS[0];
        self.by_number.insert(flight.number, session);
        self.deadlines.push(flight.next_at, session);
        let known = &mut self.nodes[flight.at];
        self.owed.forgive(&flight.ask.command, known.node.address);
        known.counts.asked += 1;
        let datagram = flight.ask.command.datagram(&cookie(self.seed, flight.number));
        out.push(Output::Send { to: known.node.address, datagram });
        self.flights.insert(session, flight);
    }

    fn take_reply(
        &mut self,
        now: Instant,
        lease: &ActiveLease<'_>,
        session: u64,
        reply: Reply,
        out: &mut Vec<Output<W>>,
    ) {
        let Some(flight) = self.flights.get(&session) else { return };
        let counts = &mut self.nodes[flight.at].counts;
        counts.answered += 1;
        if matches!(reply, Reply::Error(_) | Reply::LoadLimit) {
            counts.refused += 1;
        }
        if reply == Reply::LoadLimit && flight.ask.may_move && self.try_another(now, session, out) {
            return;
        }
        let Some(flight) = self.take_flight(session) else { return };
        let node = self.nodes[flight.at].node.address;
        let result = match reply {
            Reply::LoadLimit => Err(Failure::NoNode),
            reply => Ok(reply),
        };
        self.finish(now, lease, flight, Some(node), result, out);
    }

    /// The one that was asked is silent.
    fn give_up(&mut self, now: Instant, lease: &ActiveLease<'_>, session: u64, out: &mut Vec<Output<W>>) {
        let Some(flight) = self.flights.get(&session) else { return };
        let (at, number, undo) = (flight.at, flight.number, flight.ask.command.undo());
        let was_there = flight.ask.node == Some(self.nodes[at].node.address);
        let has_moved = flight.ask.may_move && self.try_another(now, session, out);
        // A call that stays where it was is not deleted for one offer of it, unless that was a branch of its own.
        let is_of_branch = matches!(undo, Some(Command::Delete { branch: Some(_), .. }));
        if let Some(undo) = undo.filter(|_| has_moved || !was_there || is_of_branch) {
            self.late.insert(number, (at, undo));
            if self.late.len() > LATE_MAX {
                self.late.pop_first();
            }
        }
        if has_moved {
            return;
        }
        let Some(flight) = self.take_flight(session) else { return };
        let node = self.nodes[flight.at].node.address;
        self.finish(now, lease, flight, Some(node), Err(Failure::Silent), out);
    }

    /// Asks one that was not asked yet; whether there is one. It is not asked a third one: a caller waits.
    fn try_another(&mut self, now: Instant, session: u64, out: &mut Vec<Output<W>>) -> bool {
        let Some(flight) = self.flights.get(&session).filter(|flight| flight.tried.is_empty()) else {
            return false;
        };
        let tried = vec![flight.at];
        let Some(at) = self.choose_open(session, &tried) else { return false };
        let Some(flight) = self.take_flight(session) else { return false };
        self.send(now, Flight::new(flight.ask, flight.behind, at, tried), out);
        true
    }

    fn take_flight(&mut self, session: u64) -> Option<Flight<W>> {
        let flight = self.flights.remove(&session)?;
        self.by_number.remove(&flight.number);
        Some(flight)
    }

    fn finish(
        &mut self,
        now: Instant,
        lease: &ActiveLease<'_>,
        flight: Flight<W>,
        node: Option<SocketAddr>,
        result: Result<Reply, Failure>,
        out: &mut Vec<Output<W>>,
    ) {
        self.waiting -= 1;
        let Flight { ask, mut behind, .. } = flight;
        if result.is_ok() && !matches!(ask.command, Command::Delete { .. }) {
            // Who asked did not know yet where the session would be.
            behind.iter_mut().for_each(|next| next.node = node);
        }
        match (ask.waiter.is_some(), &result) {
            (true, _) => answer(ask, node, result, out),
            (false, Err(Failure::Silent)) => self.owe(now, Ask { node, ..ask }),
            (false, _) => self.owed.heard(ask.session),
        }
        if let Some(next) = behind.pop_front() {
            self.begin(now, lease, next, behind, out);
        }
    }

    /// Which one a question goes to.
    fn choose(&self, ask: &Ask<W>, tried: &[usize]) -> Option<usize> {
        let own = ask.node.and_then(|node| self.place(node));
        match own {
            // One that is thought to be gone is asked all the same if no other one can know.
            Some(at) if self.nodes[at].is_up || !ask.may_move => Some(at),
            Some(at) => self.choose_open(ask.session, tried).or(Some(at)),
            None if ask.may_move => self.choose_open(ask.session, tried),
            None => None,
        }
    }

    /// One for a session, by weight.
    fn choose_open(&self, session: u64, tried: &[usize]) -> Option<usize> {
        let open = || {
            let all = self.nodes.iter().enumerate();
            all.filter(|(at, known)| known.is_open() && !tried.contains(at))
        };
        let sum: u64 = open().map(|(_, known)| u64::from(known.node.weight)).sum();
        let mut left = session.checked_rem(sum)?;
        for (at, known) in open() {
            let weight = u64::from(known.node.weight);
            if left < weight {
                return Some(at);
            }
            left -= weight;
        }
        None
    }

    fn heard(&mut self, now: Instant, at: usize, out: &mut Vec<Output<W>>) {
        let known = &mut self.nodes[at];
        known.heard_at = Some(now);
        if !std::mem::replace(&mut known.is_up, true) {
            out.push(Output::Changed { node: known.node.address, is_up: true });
        }
    }

    fn lose(&mut self, now: Instant, at: usize, out: &mut Vec<Output<W>>) {
        let known = &mut self.nodes[at];
        known.ping = None;
        if std::mem::replace(&mut known.is_up, false) {
            known.ping_at = now + PING_EVERY_DOWN;
            out.push(Output::Changed { node: known.node.address, is_up: false });
        }
    }

    fn ping(&mut self, now: Instant, at: usize, out: &mut Vec<Output<W>>) {
        let known = &self.nodes[at];
        if known.is_leaving || known.ping_at > now {
            return;
        }
        // A call that was answered tells as much.
        if let Some(heard_at) = known.heard_at.filter(|_| known.is_up && known.ping.is_none())
            && now < heard_at + PING_EVERY_UP
        {
            self.nodes[at].ping_at = heard_at + PING_EVERY_UP;
            return;
        }
        let since = known.ping.map(|(_, since)| since);
        if since.is_some_and(|since| now >= since + PING_TIME_MAX) {
            self.nodes[at].counts.silent += 1;
            self.lose(now, at, out);
        }
        let number = match self.nodes[at].ping {
            Some((number, _)) => number,
            None => {
                self.asked += 1;
                self.asked
            }
        };
        let datagram = Command::Ping.datagram(&self.cookie(number));
        let known = &mut self.nodes[at];
        known.ping = Some(known.ping.unwrap_or((number, now)));
        known.ping_at = now + PING_EVERY_DOWN;
        out.push(Output::Send { to: known.node.address, datagram });
    }

    fn place(&self, address: SocketAddr) -> Option<usize> {
        self.nodes.iter().position(|known| known.node.address == address)
    }

    fn cookie(&self, number: u64) -> String {
        cookie(self.seed, number)
    }

    fn number_of(&self, cookie: &str) -> Option<u64> {
        let (seed, number) = cookie.split_once('_')?;
        let is_ours = u64::from_str_radix(seed, 16) == Ok(self.seed);
        number.parse().ok().filter(|_| is_ours)
    }
}

impl<W> Flight<W> {
    fn new(ask: Ask<W>, behind: VecDeque<Ask<W>>, at: usize, tried: Vec<usize>) -> Self {
        let never = Instant::FAR;
        Self { ask, number: 0, at, sent_at: never, tries: 0, next_at: never, tried, behind }
    }
}

fn cookie(seed: u64, number: u64) -> String {
    format!("{seed:016x}_{number}")
}

fn answer<W>(
    ask: Ask<W>,
    node: Option<SocketAddr>,
    result: Result<Reply, Failure>,
    out: &mut Vec<Output<W>>,
) {
    if let Some(waiter) = ask.waiter {
        out.push(Output::Answer(Answer { waiter, node, result }));
    }
}

mod owed;
#[cfg(test)]
mod tests;

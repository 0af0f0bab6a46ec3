//! The table of stream connections: how many there may be, which one is reused, which one is closed.
//!
//! It holds no socket. The edge asks before it keeps a connection that it has accepted, tells what
//! comes and goes, and closes what the table says. A connection is closed by the table when it
//!
//! - was not established in time,
//! - has begun a message and does not end it (a slow sender), or has brought nothing at all,
//! - has carried nothing for long and no binding depends on it.
//!
//! Invariant: a connection has at most one alarm; it may ring too early, never too late.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use clock::Instant;

use crate::{ConnectionId, ListenerId, RemoteAddr};

/// How many connections there may be, and how long they may do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// All connections together.
    pub connections_max: usize,
    /// Accepted ones from one source: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections_per_source_max: usize,
    /// How long a connection without a binding may carry nothing.
    pub idle_timeout: Duration,
    /// How long a message may take from its first byte to its last, a peer to send its first message,
    /// and a connection to be established.
    pub message_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_source_max: 1_000,
            idle_timeout: Duration::from_secs(3_600),
            message_timeout: Duration::from_secs(10),
        }
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    TooMany,
    /// There are as many from this source as there may be.
    TooManyFromSource,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It was not established in time.
    NotEstablished,
    /// The peer has not ended a message in time, or has sent none.
    SlowSender,
    /// It has carried nothing for long.
    Idle,
}

/// What the table wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Close the connection. The table has forgotten it.
    Close(ConnectionId, CloseReason),
}

/// What a connection has brought, as its [`Framer`](crate::Framer) saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Whole messages or pings, and no part of another one.
    Complete,
    /// A part of a message, since then. Whole messages may have come before it.
    Partial(Instant),
}

impl Progress {
    /// The progress of a connection whose framer says so by
    /// [`partial_since`](crate::Framer::partial_since).
    pub fn of(partial_since: Option<Instant>) -> Self {
        partial_since.map_or(Self::Complete, Self::Partial)
    }
}

/// How often what has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections opened by us.
    pub opened: u64,
    /// Connections refused because there were too many.
    pub refused: u64,
    /// Connections refused because there were too many from their source.
    pub refused_by_source: u64,
    /// Connections closed because they were not established in time.
    pub not_established: u64,
    /// Connections closed because of a slow sender.
    pub slow: u64,
    /// Connections closed because they carried nothing.
    pub idle: u64,
}

/// All stream connections of a node.
#[derive(Debug)]
pub struct Connections {
    node: u8,
    boot: u32,
    limits: ConnectionLimits,
    last_number: u64,
    connections: BTreeMap<u64, Connection>,
    reusable: BTreeMap<(ListenerId, RemoteAddr), u64>,
    by_source: BTreeMap<IpAddr, usize>,
    alarms: BTreeSet<(Instant, u64)>,
    counters: ConnectionCounters,
}

#[derive(Debug)]
struct Connection {
    listener: ListenerId,
    remote: RemoteAddr,
    /// Counted in `by_source`; `None` for one that we have opened.
    source: Option<IpAddr>,
    state: State,
    bindings: u32,
    alarm: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// We have asked for it.
    Opening { since: Instant },
    /// It was accepted and has brought nothing.
    Silent { since: Instant },
    /// It has brought a part of a message.
    Receiving { since: Instant },
    /// It has carried something, and no message is unfinished.
    Quiet { since: Instant },
}

impl Connections {
    /// No connections yet. `boot` is a number that no other start of this node had.
    pub fn new(node: u8, boot: u32, limits: ConnectionLimits) -> Self {
        Self {
            node,
            boot,
            limits,
            last_number: 0,
            connections: BTreeMap::new(),
            reusable: BTreeMap::new(),
            by_source: BTreeMap::new(),
            alarms: BTreeSet::new(),
            counters: ConnectionCounters::default(),
        }
    }

    /// Takes other limits. Connections beyond them stay until they end.
    pub fn reload(&mut self, limits: ConnectionLimits) {
        self.limits = limits;
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            self.arm(number);
        }
    }

    /// A peer has connected. Close the socket if it is refused.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn accepted(
        &mut self,
        now: Instant,
        listener: ListenerId,
        remote: RemoteAddr,
    ) -> Result<ConnectionId, Refused> {
        let source = source_of(remote);
        if self.by_source.get(&source).copied().unwrap_or(0) >= self.limits.connections_per_source_max {
            self.counters.refused_by_source += 1;
            return Err(Refused::TooManyFromSource);
        }
        let id = self.insert(listener, remote, Some(source), State::Silent { since: now })?;
        *self.by_source.entry(source).or_insert(0) += 1;
        self.counters.accepted += 1;
        Ok(id)
    }

    /// We open a connection. From here on it is found for reuse; the edge keeps what is to be sent until
    /// it is [`Connections::established`].
    ///
    /// # Errors
    ///
    /// [`Refused::TooMany`].
    pub fn opened(
        &mut self,
        now: Instant,
        listener: ListenerId,
        remote: RemoteAddr,
    ) -> Result<ConnectionId, Refused> {
        let id = self.insert(listener, remote, None, State::Opening { since: now })?;
        self.counters.opened += 1;
        Ok(id)
    }

    /// A connection that we opened is there.
    pub fn established(&mut self, now: Instant, id: ConnectionId) {
        self.change(id, |state| {
            if matches!(state, State::Opening { .. }) {
                *state = State::Quiet { since: now };
            }
        });
    }

    /// A connection has brought something.
    pub fn received(&mut self, now: Instant, id: ConnectionId, progress: Progress) {
        self.change(id, |state| {
            *state = match progress {
                Progress::Complete => State::Quiet { since: now },
                Progress::Partial(since) => State::Receiving { since },
            }
        });
    }

    /// Something was sent by a connection.
    pub fn sent(&mut self, now: Instant, id: ConnectionId) {
        self.change(id, |state| {
            if let State::Quiet { since } = state {
                *since = now;
            }
        });
    }

    /// A binding depends on a connection: it may be idle.
    pub fn bound(&mut self, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.bindings = connection.bindings.saturating_add(1);
        }
    }

    /// A binding depends on a connection no more: from now on it may be idle for one `idle_timeout`.
    pub fn unbound(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.find(id) {
            connection.bindings = connection.bindings.saturating_sub(1);
        }
        self.sent(now, id);
    }

    /// A connection is gone. Whom it was with, if the table still knew it.
    pub fn closed(&mut self, id: ConnectionId) -> Option<RemoteAddr> {
        self.find(id)?;
        self.remove(id.number).map(|connection| connection.remote)
    }

    /// RFC 3261 §18: a connection of this listener to this remote address, to be used again.
    pub fn reuse(&self, listener: ListenerId, remote: RemoteAddr) -> Option<ConnectionId> {
        self.reusable.get(&(listener, remote)).map(|&number| self.id(listener, number))
    }

    /// Whom a connection is with; `None` if it is gone or was never this node's.
    pub fn remote(&self, id: ConnectionId) -> Option<RemoteAddr> {
        self.get(id).map(|connection| connection.remote)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(&(at, number)) = self.alarms.first() {
            if at > now {
                return;
            }
            self.alarms.pop_first();
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            connection.alarm = None;
            match connection.overdue(now, &self.limits) {
                None => self.arm(number),
                Some(reason) => {
                    let listener = connection.listener;
                    out.push(Output::Close(self.id(listener, number), reason));
                    self.count(reason);
                    self.remove(number);
                }
            }
        }
    }

    /// When [`Connections::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }
}

impl Connections {
    fn insert(
        &mut self,
        listener: ListenerId,
        remote: RemoteAddr,
        source: Option<IpAddr>,
        state: State,
    ) -> Result<ConnectionId, Refused> {
        if self.connections.len() >= self.limits.connections_max {
            self.counters.refused += 1;
            return Err(Refused::TooMany);
        }
        self.last_number += 1;
        let number = self.last_number;
        self.connections
            .insert(number, Connection { listener, remote, source, state, bindings: 0, alarm: None });
        // Two connections to one address: the later one is the one that the peer knows of.
        self.reusable.insert((listener, remote), number);
        self.arm(number);
        Ok(self.id(listener, number))
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(at) = connection.alarm {
            self.alarms.remove(&(at, number));
        }
        let way = (connection.listener, connection.remote);
        if self.reusable.get(&way) == Some(&number) {
            self.reusable.remove(&way);
        }
        if let Some(source) = connection.source
            && let Some(count) = self.by_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&source);
            }
        }
        Some(connection)
    }

    fn change(&mut self, id: ConnectionId, change: impl FnOnce(&mut State)) {
        if let Some(connection) = self.find(id) {
            change(&mut connection.state);
            self.arm(id.number);
        }
    }

    /// Sets the alarm, if there is none that rings in time. Nearly all alarms are put off for ever, so
    /// one that rings too early is cheaper than one that is moved with each message.
    fn arm(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let Some(deadline) = connection.deadline(&self.limits) else { return };
        match connection.alarm {
            Some(at) if at <= deadline => return,
            Some(at) => drop(self.alarms.remove(&(at, number))),
            None => {}
        }
        connection.alarm = Some(deadline);
        self.alarms.insert((deadline, number));
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let connection = self.connections.get(&id.number)?;
        (self.id(connection.listener, id.number) == id).then_some(connection)
    }

    fn find(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.get(id)?;
        self.connections.get_mut(&id.number)
    }

    fn id(&self, listener: ListenerId, number: u64) -> ConnectionId {
        ConnectionId { node: self.node, boot: self.boot, listener, number }
    }

    fn count(&mut self, reason: CloseReason) {
        match reason {
            CloseReason::NotEstablished => self.counters.not_established += 1,
            CloseReason::SlowSender => self.counters.slow += 1,
            CloseReason::Idle => self.counters.idle += 1,
        }
    }
}

impl Connection {
    fn deadline(&self, limits: &ConnectionLimits) -> Option<Instant> {
        match self.state {
            State::Opening { since } | State::Silent { since } | State::Receiving { since } => {
                Some(since + limits.message_timeout)
            }
            State::Quiet { .. } if self.bindings > 0 => None,
            State::Quiet { since } => Some(since + limits.idle_timeout),
        }
    }

    fn overdue(&self, now: Instant, limits: &ConnectionLimits) -> Option<CloseReason> {
        let is_overdue = self.deadline(limits).is_some_and(|deadline| deadline <= now);
        is_overdue.then_some(match self.state {
            State::Opening { .. } => CloseReason::NotEstablished,
            State::Silent { .. } | State::Receiving { .. } => CloseReason::SlowSender,
            State::Quiet { .. } => CloseReason::Idle,
        })
    }
}

/// Who counts as one source: behind an IPv6 network of 64 bits is one customer, with as many
/// addresses as he likes.
fn source_of(remote: RemoteAddr) -> IpAddr {
    match remote.0.ip().to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_have_one_id() {
        let mut table = table();
        let first = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        table.closed(first);

        let second = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        let other_boot = Connections::new(0, 8, LIMITS).accepted(at(0), LISTENER, remote("192.0.2.1:1000"));

        assert_ne!(first, second);
        assert_ne!(Ok(first), other_boot);
    }

    #[test]
    fn there_are_no_more_connections_than_allowed() {
        let mut table = table();
        for host in 1..=4 {
            assert!(table.accepted(at(0), LISTENER, remote(&format!("192.0.2.{host}:1000"))).is_ok());
        }

        assert_eq!(table.accepted(at(0), LISTENER, remote("192.0.2.9:1000")), Err(Refused::TooMany));
        assert_eq!(table.opened(at(0), LISTENER, remote("192.0.2.9:5060")), Err(Refused::TooMany));
        assert_eq!((table.len(), table.counters().refused), (4, 2));

        let first = table.reuse(LISTENER, remote("192.0.2.1:1000")).unwrap();
        assert_eq!(table.closed(first), Some(remote("192.0.2.1:1000")));
        assert!(table.opened(at(0), LISTENER, remote("192.0.2.9:5060")).is_ok());
    }

    #[test]
    fn one_source_can_not_take_all_connections() {
        for (first, second, third, elsewhere) in [
            ("192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1"),
            ("[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8:0:0:ffff::]:1", "[2001:db8:0:1::1]:1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.1:2", "192.0.2.1:3", "[::ffff:192.0.2.2]:1"),
        ] {
            let mut table = table();
            let id = table.accepted(at(0), LISTENER, remote(first)).unwrap();
            assert!(table.accepted(at(0), LISTENER, remote(second)).is_ok());

            let refused = table.accepted(at(0), LISTENER, remote(third));
            assert_eq!(refused, Err(Refused::TooManyFromSource), "{third}");
            assert!(table.accepted(at(0), LISTENER, remote(elsewhere)).is_ok(), "{elsewhere}");

            table.closed(id);
            assert!(table.accepted(at(0), LISTENER, remote(third)).is_ok(), "{third}");
            assert_eq!(table.counters().refused_by_source, 1);
        }
    }

    #[test]
    fn a_connection_that_we_open_is_no_ones_attack() {
        let mut table = table();
        for port in 1..=4 {
            assert!(table.opened(at(0), LISTENER, remote(&format!("192.0.2.1:{port}"))).is_ok());
        }
    }

    /// RFC 3261 §18: by listener and remote address, whoever opened it, also while it is being opened.
    #[test]
    fn a_connection_is_found_for_reuse() {
        let mut table = table();
        let accepted = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        let opened = table.opened(at(0), LISTENER, remote("192.0.2.2:5060")).unwrap();

        assert_eq!(table.reuse(LISTENER, remote("192.0.2.1:1000")), Some(accepted));
        assert_eq!(table.reuse(LISTENER, remote("192.0.2.2:5060")), Some(opened));
        assert_eq!(table.reuse(LISTENER, remote("192.0.2.2:5061")), None);
        assert_eq!(table.reuse(ListenerId(9), remote("192.0.2.2:5060")), None);

        table.closed(opened);
        assert_eq!(table.reuse(LISTENER, remote("192.0.2.2:5060")), None);
    }

    #[test]
    fn the_end_of_an_older_connection_does_not_hide_the_newer_one() {
        let mut table = table();
        let older = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        let newer = table.accepted(at(1), LISTENER, remote("192.0.2.1:1000")).unwrap();

        table.closed(older);

        assert_eq!(table.reuse(LISTENER, remote("192.0.2.1:1000")), Some(newer));
    }

    #[test]
    fn a_connection_of_another_boot_is_not_mistaken_for_one_of_ours() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        for stranger in [
            ConnectionId { boot: 8, ..id },
            ConnectionId { node: 1, ..id },
            ConnectionId { listener: ListenerId(9), ..id },
            ConnectionId { number: 9, ..id },
        ] {
            assert_eq!(table.remote(stranger), None);
            assert_eq!(table.closed(stranger), None);
            table.bound(stranger);
        }
        assert_eq!(table.remote(id), Some(remote("192.0.2.1:1000")));
    }

    #[test]
    fn a_peer_that_says_nothing_is_closed() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();

        assert_eq!(closed_until(&mut table, 9), []);
        assert_eq!(closed_until(&mut table, 10), [(10, Output::Close(id, CloseReason::SlowSender))]);
        assert_eq!((table.len(), table.poll_timeout(), table.counters().slow), (0, None, 1));
        assert_eq!(table.closed(id), None, "the table has forgotten it");
    }

    #[test]
    fn a_peer_that_does_not_end_its_message_is_closed() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        table.received(at(5), id, Progress::Complete);

        // A byte each second does not help.
        for second in 100..110 {
            assert_eq!(closed_until(&mut table, second), []);
            table.received(at(second), id, Progress::of(Some(at(100))));
        }

        assert_eq!(closed_until(&mut table, 200), [(110, Output::Close(id, CloseReason::SlowSender))]);
    }

    #[test]
    fn a_peer_that_ends_its_message_in_time_stays() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        table.received(at(9), id, Progress::Partial(at(9)));
        table.received(at(18), id, Progress::of(None));

        assert_eq!(closed_until(&mut table, 3_617), []);
        assert_eq!(closed_until(&mut table, 3_618), [(3_618, Output::Close(id, CloseReason::Idle))]);
        assert_eq!(table.counters().idle, 1);
    }

    #[test]
    fn what_is_sent_counts_against_idleness_but_not_for_a_slow_sender() {
        let mut table = table();
        let quiet = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        let slow = table.accepted(at(0), LISTENER, remote("192.0.2.2:1000")).unwrap();
        table.received(at(0), quiet, Progress::Complete);
        table.received(at(0), slow, Progress::Partial(at(0)));

        table.sent(at(9), slow);
        table.sent(at(3_000), quiet);

        let expected = [
            (10, Output::Close(slow, CloseReason::SlowSender)),
            (6_600, Output::Close(quiet, CloseReason::Idle)),
        ];
        assert_eq!(closed_until(&mut table, 10_000), expected);
    }

    #[test]
    fn a_connection_with_a_binding_may_be_idle() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        table.received(at(0), id, Progress::Complete);
        table.bound(id);
        table.bound(id);

        assert_eq!(closed_until(&mut table, 100_000), []);
        table.unbound(at(100_000), id);
        assert_eq!(closed_until(&mut table, 200_000), [], "one binding is left");

        table.unbound(at(200_000), id);
        assert_eq!(closed_until(&mut table, 300_000), [(203_600, Output::Close(id, CloseReason::Idle))]);
    }

    #[test]
    fn a_connection_that_does_not_come_about_is_given_up() {
        let mut table = table();
        let lost = table.opened(at(0), LISTENER, remote("192.0.2.1:5060")).unwrap();
        let fine = table.opened(at(0), LISTENER, remote("192.0.2.2:5060")).unwrap();
        table.established(at(3), fine);

        let expected = [
            (10, Output::Close(lost, CloseReason::NotEstablished)),
            (3_603, Output::Close(fine, CloseReason::Idle)),
        ];
        assert_eq!(closed_until(&mut table, 10_000), expected);
        assert_eq!(table.counters().not_established, 1);
    }

    #[test]
    fn shorter_limits_are_for_the_connections_that_are_there_too() {
        let mut table = table();
        let id = table.accepted(at(0), LISTENER, remote("192.0.2.1:1000")).unwrap();
        table.received(at(0), id, Progress::Complete);

        table.reload(ConnectionLimits {
            idle_timeout: Duration::from_secs(60),
            connections_max: 1,
            ..LIMITS
        });

        assert_eq!(table.accepted(at(0), LISTENER, remote("192.0.2.2:1000")), Err(Refused::TooMany));
        assert_eq!(closed_until(&mut table, 100), [(60, Output::Close(id, CloseReason::Idle))]);
    }

    #[test]
    fn alarms_and_sources_do_not_pile_up() {
        let mut table = table();
        for second in 0..5_000 {
            let id = table
                .accepted(at(second), LISTENER, remote(&format!("[2001:db8:0:{second:x}::1]:9")))
                .unwrap();
            table.received(at(second), id, Progress::Complete);
            table.received(at(second), id, Progress::Partial(at(second)));
            table.closed(id);
        }

        assert!(table.alarms.is_empty() && table.by_source.is_empty() && table.reusable.is_empty());
    }

    const LISTENER: ListenerId = ListenerId(3);

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections_max: 4,
        connections_per_source_max: 2,
        idle_timeout: Duration::from_secs(3_600),
        message_timeout: Duration::from_secs(10),
    };

    fn table() -> Connections {
        Connections::new(0, 7, LIMITS)
    }

    /// Lets time pass and wakes the table exactly when it wants to be woken.
    fn closed_until(table: &mut Connections, second: u64) -> Vec<(u64, Output)> {
        let (mut closed, mut out) = (Vec::new(), Vec::new());
        while let Some(due) = table.poll_timeout().filter(|&due| due <= at(second)) {
            table.handle_timeout(due, &mut out);
            closed.extend(out.drain(..).map(|output| (due.as_nanos() / 1_000_000_000, output)));
            assert!(table.poll_timeout().is_none_or(|next| next > due), "each call makes progress");
        }
        closed
    }

    fn remote(address: &str) -> RemoteAddr {
        RemoteAddr(address.parse().unwrap())
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}

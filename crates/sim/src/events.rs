//! What is worth counting in a world. A simulation in which something never happened tested nothing of it,
//! so a zero in this table fails the run.

use std::collections::BTreeMap;

/// Declares the events of one kind of world with their names, in the table's order.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// One kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Event { $($(#[$doc])* $variant,)* }

        impl Event {
            /// All, in the table's order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the table.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }

        impl $crate::events::Named for Event {
            const ALL: &'static [Self] = Event::ALL;

            fn name(self) -> &'static str {
                Event::name(self)
            }
        }
    };
}

pub(crate) use events;

events! {
    /// A datagram was lost.
    Lost "lost",
    /// A datagram arrived twice.
    Doubled "doubled",
    /// A datagram was held back.
    Reordered "reordered",
    /// A datagram met a one-way cut.
    CutOff "cut_off",
    /// A NAT let nothing in.
    NatDropped "nat_dropped",
    /// A NAT gave a phone another port while it had a call.
    NatRebound "nat_rebound",
    /// The server ended cleanly and started again.
    Restarted "restarted",
    /// It did so while a call was up.
    RestartedInCall "restarted_in_call",
    /// The server was killed.
    Killed "killed",
    /// The database did not answer.
    StoreOutage "store_outage",
    /// The database answered late.
    StoreHung "store_hung",
    /// A call was cancelled while its account look-up hung.
    SuspendedCancelled "suspended_cancelled",
    /// A name was resolved.
    DnsResolved "dns_resolved",
    /// A name was not there.
    DnsNoSuchName "dns_no_such_name",
    /// A look-up failed.
    DnsFailed "dns_failed",
    /// A phone registered.
    Registered "registered",
    /// A phone made its binding anew.
    Refreshed "refreshed",
    /// A phone ended its binding.
    Unregistered "unregistered",
    /// A wrong password was refused.
    WrongPassword "wrong_password",
    /// A REGISTER for another's address of record was refused.
    ForeignRegister "foreign_register",
    /// Credentials with a nonce used before were accepted.
    NonceReused "nonce_reused",
    /// A nonce count came after a higher one.
    NonceCountReordered "nc_reordered",
    /// A challenge said that only the nonce was too old.
    Stale "stale",
    /// A datagram that came again was answered or swallowed without a new transaction.
    RetransmissionAbsorbed "retransmission_absorbed",
    /// A call was set up.
    Established "established",
    /// One phone of several answered.
    ForkWon "fork_won",
    /// A phone rang after another one of the same user had failed.
    SerialFork "serial_fork",
    /// A ringing phone was cancelled because another one answered.
    ForkCancelled "fork_cancelled",
    /// Two phones answered at once and the caller hung one up.
    ForkBoth "fork_both",
    /// The caller gave up while it rang.
    Cancelled "cancelled",
    /// A 200 crossed a CANCEL.
    CancelCrossed "cancel_crossed",
    /// A callee was busy.
    Busy "busy",
    /// A callee declined for all its phones.
    Declined "declined",
    /// A callee sent the caller elsewhere, and it called there.
    Redirected "redirected",
    /// Nobody was registered.
    NotRegistered "not_registered",
    /// Nobody has that name.
    NotFound "not_found",
    /// A branch rang too long.
    RingTimeout "ring_timeout",
    /// A branch never rang, and timer C ended it.
    TimerC "timer_c",
    /// A branch never answered at all.
    Unanswered "unanswered",
    /// A session was changed in mid-call.
    Reinvited "reinvited",
    /// The caller hung up.
    CallerHungUp "caller_hung_up",
    /// The callee hung up.
    CalleeHungUp "callee_hung_up",
    /// A call between UDP and TCP.
    TransportCrossed "transport_crossed",
    /// A call between IPv4 and IPv6.
    FamilyCrossed "family_crossed",
    /// A request of 1,500 bytes or more went to a binding over UDP.
    LongInviteOverUdp "long_invite_over_udp",
    /// A large request to a hop that takes no connection went over UDP after all.
    FellBackToUdp "fell_back_to_udp",
    /// A connection was closed while its phone had a call.
    TcpClosedInCall "tcp_closed_in_call",
    /// The server opened a connection.
    ConnectionOpened "connection_opened",
    /// A phone asked for its address.
    StunAnswered "stun_answered",
    /// A phone's ping on a connection was answered.
    Ponged "ponged",
    /// A phone answered a keepalive.
    KeepaliveAnswered "keepalive_answered_by_phone",
    /// A phone lost its power and said no farewell.
    PowerLost "power_lost",
    /// A dialog went through a strict router.
    StrictRoute "strict_route",
    /// A request came by the server again with another target.
    Spiral "spiral",
    /// A request came by the server again with the same target.
    Looped "looped",
    /// The registrar behind the edge reached a phone by its Path.
    PathFollowed "path_followed",
    /// A stranger sent something.
    StrangerSent "stranger_sent",
    /// A stranger got an answer.
    StrangerAnswered "stranger_answered",
    /// A source was banned.
    Banned "banned",
    /// A source from which phones are registered was restrained in place of a ban.
    Restrained "restrained",
    /// Something of a banned source was not heard.
    DroppedBanned "dropped_banned",
}

/// What a server counts only beside another node. The server of these worlds has none; `crates/engine/tests/epochs.rs` and
/// `crates/net/tests` have one that comes and goes, `calls` takes calls over.
const OF_A_PAIR: [&str; 4] = ["answered_as_standby", "taken_over", "not_taken_over", "orphan_forwarded"];

/// What a server counts only on a host that has too much to do. Work takes no time in these worlds;
/// `crates/routing/src/overload/scenarios.rs` and `crates/net/tests` have queues that stand.
const OF_A_BUSY_HOST: [&str; 4] = [
    "overload_refused_other",
    "overload_refused_new_registration",
    "overload_refused_known_registration",
    "overload_refused_call",
];

/// What a server counts only where phones use session timers, or calls are so long that it looks after them, which is not so in
/// these worlds; `session` and `upkeep` in `crates/routing/src/call/tests` have such.
const OF_LONG_CALLS: [&str; 2] = ["session_expired", "call_dead"];

/// What a server counts only where media go by it. These worlds carry none; `crates/engine/tests/media.rs` has calls with media.
const OF_A_RELAY: [&str; 2] = ["call_silent", "media_refused"];

/// The events of one kind of world, by their names in its table.
pub(crate) trait Named: Copy + Ord + 'static {
    /// All, in the table's order.
    const ALL: &'static [Self];

    /// The name in the table.
    fn name(self) -> &'static str;
}

/// How often each event of a world happened.
#[derive(Clone, Debug)]
pub(crate) struct Happened<E>(BTreeMap<E, u64>);

impl<E> Default for Happened<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<E: Named> Happened<E> {
    /// Counts one more.
    pub(crate) fn add(&mut self, event: E) {
        self.add_many(event, 1);
    }

    /// Counts what happened `times` more.
    pub(crate) fn add_many(&mut self, event: E, times: u64) {
        *self.0.entry(event).or_default() += times;
    }

    /// All figures.
    pub(crate) fn table(&self) -> Table {
        let row = |event: &E| (event.name().to_owned(), self.0.get(event).copied().unwrap_or(0));
        Table::new(E::ALL.iter().map(row))
    }
}

/// All names with their figures, zeros included, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<(String, u64)>);

impl Table {
    /// A table with these rows.
    pub(crate) fn new(rows: impl Iterator<Item = (String, u64)>) -> Self {
        Self(rows.collect())
    }

    /// Adds the figures of another world of the same kind.
    pub fn merge(&mut self, other: &Self) {
        for (name, times) in &other.0 {
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += times,
                None => self.0.push((name.clone(), *times)),
            }
        }
    }

    /// The rows.
    pub fn rows(&self) -> &[(String, u64)] {
        &self.0
    }
}

/// How often each event happened, in a world and in its servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    world: BTreeMap<Event, u64>,
    server: BTreeMap<&'static str, u64>,
}

impl Events {
    /// Counts one more.
    pub(crate) fn add(&mut self, event: Event) {
        self.add_many(event, 1);
    }

    /// Counts what happened `times` more.
    pub(crate) fn add_many(&mut self, event: Event, times: u64) {
        *self.world.entry(event).or_default() += times;
    }

    /// How often it happened.
    pub(crate) fn of(&self, event: Event) -> u64 {
        self.world.get(&event).copied().unwrap_or(0)
    }

    /// Adds what a server counted.
    pub(crate) fn add_server(&mut self, counts: &routing::Counts) {
        for (name, times) in counts.iter() {
            *self.server.entry(name).or_default() += times;
        }
    }

    /// How often a server counted what has this name.
    pub(crate) fn of_server(&self, name: &str) -> u64 {
        self.server.get(name).copied().unwrap_or(0)
    }

    /// First the world's figures, then the server's (`server.name`).
    pub(crate) fn table(&self) -> Table {
        let world = Event::ALL.iter().map(|&event| (event.name().to_owned(), self.of(event)));
        let none = routing::Counts::default();
        let server = none.iter().filter(|(name, _)| {
            let elsewhere = [&OF_A_PAIR[..], &OF_A_BUSY_HOST, &OF_LONG_CALLS, &OF_A_RELAY];
            !elsewhere.iter().any(|names| names.contains(name))
        });
        let server = server.map(|(name, _)| (format!("server.{name}"), self.of_server(name)));
        Table::new(world.chain(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_never_happened_stands_in_the_table_with_zero() {
        let mut events = Events::default();
        events.add(Event::Busy);

        let mut table = events.table();
        table.merge(&events.table());

        assert!(table.rows().contains(&("busy".to_owned(), 2)));
        assert!(table.rows().contains(&("declined".to_owned(), 0)));
        assert!(table.rows().iter().any(|(name, _)| name.starts_with("server.")));
    }

    #[test]
    fn no_two_events_share_a_name() {
        let mut names: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), Event::ALL.len());
    }
}

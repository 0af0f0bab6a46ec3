//! What the edge itself counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// One thing that the edge counts. The order is the order of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Tally {
    /// Datagrams received, of every kind.
    DatagramReceived,
    /// Datagrams sent.
    DatagramSent,
    /// Datagrams that found the socket's buffer full.
    DatagramDropped,
    /// Datagrams that the kernel refused: no route, no such address here, too large.
    DatagramRefused,
    /// Datagrams that came back: nobody is where they went.
    DatagramUnreachable,
    /// Datagrams that are neither SIP nor STUN nor a keepalive.
    Garbage,
    /// Datagrams and lines that only keep a NAT's mapping open.
    KeepaliveReceived,
    /// STUN requests answered.
    StunAnswered,
    /// Messages for a listener that is gone.
    ListenerGone,
    /// Datagrams and messages of sources that are banned.
    DroppedBanned,
    /// Messages of sources whose rate is used up.
    DroppedSlowed,
    /// Connections of sources that are banned.
    ConnectionBanned,
    /// What came by a virtual address, or was to be done, while this node was not active.
    Inactive,
    /// Datagrams among them that were handled when the node became active a moment later.
    Early,
    /// Messages of a virtual address that were ready when the lease was over, and did not leave.
    Withheld,
    /// Answers that left when the other node held what they stand for.
    Replicated,
    /// Answers that left though it may not: there was none.
    DegradedNoPeer,
    /// It was too far behind to be sent anything.
    DegradedStale,
    /// It had not said so in time.
    DegradedLate,
    /// The connection to it was lost.
    DegradedLost,
    /// It could not take it.
    DegradedRefused,
    /// It was not equal yet, and the answer stood for something that was there before.
    DegradedNotEqual,
    /// It does not know such things.
    DegradedUnknownKind,
    /// It was too long to be sent.
    DegradedTooLong,
    /// Too many waited.
    DegradedTooMany,
    /// What another node sent while this one was active.
    CapsuleWhileActive,
    /// What the active node sent and this one could not read.
    CapsuleUnreadable,
    /// Segments sent to end connections of the node that was active before.
    Tickled,
    /// How often the other node said that it was active under a higher epoch.
    Superseded,
    /// Connections that could not be opened.
    ConnectionFailed,
    /// Connections closed because what came was no SIP.
    ConnectionBroken,
    /// Messages for a connection whose peer reads too slowly.
    StreamFull,
    /// Messages for a connection that is gone.
    ConnectionGone,
    /// Questions that the DNS answered, from the resolver's cache or not.
    Resolved,
    /// Questions that it did not answer.
    ResolveFailed,
    /// Questions that were not asked because too many are under way.
    ResolveRefused,
    /// Packets of media that came.
    RelayReceived,
    /// Packets of media that were sent on.
    RelaySent,
    /// Those of both that the kernel has sent on by itself.
    RelayInKernel,
    /// Those that came from elsewhere than the call's phones.
    RelayStranger,
    /// Those that are nothing that media go by.
    RelayNoise,
    /// Those whose receiver wants nothing, or has not shown where it is.
    RelayNoTarget,
    /// Those that came to a port before its call has answered, or after its end.
    RelayEarly,
    /// Those that found no room, or that the kernel refused.
    RelayDropped,
    /// Those that came to a virtual address, or were to leave by it, while this node was not active.
    RelayInactive,
    /// Ports of media that could not be bound.
    RelayNotBound,
    /// What a relay's worker was to do and had no room for.
    RelayOrderLost,
}

const NAMES: [&str; Tally::RelayOrderLost as usize + 1] = [
    "datagram_received",
    "datagram_sent",
    "datagram_dropped",
    "datagram_refused",
    "datagram_unreachable",
    "garbage",
    "keepalive_received",
    "stun_answered",
    "listener_gone",
    "dropped_banned",
    "dropped_slowed",
    "connection_banned",
    "inactive",
    "early",
    "withheld_without_lease",
    "replicated",
    "degraded_no_peer",
    "degraded_stale",
    "degraded_late",
    "degraded_lost",
    "degraded_refused",
    "degraded_not_equal",
    "degraded_unknown_kind",
    "degraded_too_long",
    "degraded_too_many",
    "capsule_while_active",
    "capsule_unreadable",
    "connection_tickled",
    "superseded",
    "connection_failed",
    "connection_broken",
    "stream_full",
    "connection_gone",
    "resolved",
    "resolve_failed",
    "resolve_refused",
    "relay_received",
    "relay_sent",
    "relay_in_kernel",
    "relay_stranger",
    "relay_noise",
    "relay_no_target",
    "relay_early",
    "relay_dropped",
    "relay_inactive",
    "relay_not_bound",
    "relay_order_lost",
];

/// The names of what counts answers that left though no other node held what they stand for, one for each cause.
pub const DEGRADED: &[&str] =
    NAMES.split_at(Tally::DegradedTooMany as usize + 1).0.split_at(Tally::DegradedNoPeer as usize).1;

/// How often each thing happened since the start.
#[derive(Debug)]
pub(crate) struct Tallies([AtomicU64; NAMES.len()]);

impl Default for Tallies {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Tallies {
    pub(crate) fn add(&self, tally: Tally) {
        self.add_many(tally, 1);
    }

    pub(crate) fn add_many(&self, tally: Tally, times: usize) {
        self.0[tally as usize].fetch_add(times as u64, Ordering::Relaxed);
    }

    /// All names with their figures.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        NAMES.into_iter().zip(self.0.iter().map(|figure| figure.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_of_a_degraded_answer_is_among_them() {
        let named: Vec<&str> = NAMES.into_iter().filter(|name| name.starts_with("degraded_")).collect();

        assert_eq!(named, DEGRADED);
    }
}

//! Packets that came to a port before its streams were there, in a change of the active node.
//!
//! In a planned hand-over the old node passes on what still comes to it, and the new one may have it before it has the
//! lease; and behind the lease a moment goes by until the shards have told of their streams. What comes in that time is
//! kept and goes on in its order when it is known where to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;

/// How long one is kept: longer than a hand-over takes. Phones play nothing that is later.
pub(super) const EARLY_FOR: Duration = Duration::from_secs(1);
/// Packets that one worker keeps: what thousands of calls send in the time that a hand-over takes.
const EARLY_MAX: usize = 8_192;
/// The same in bytes.
const EARLY_BYTES_MAX: usize = 4 << 20;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EarlyPacket {
    pub(super) came: Instant,
    /// The port that it came to.
    pub(super) local: SocketAddr,
    pub(super) source: SocketAddr,
    pub(super) bytes: Box<[u8]>,
}

/// Those of one worker, oldest first.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: VecDeque<EarlyPacket>,
    bytes: usize,
}

impl Early {
    /// Keeps one. The oldest make room.
    pub(super) fn keep(&mut self, came: Instant, local: SocketAddr, source: SocketAddr, packet: &[u8]) {
        self.forget_old(came);
        self.bytes += packet.len();
        self.kept.push_back(EarlyPacket { came, local, source, bytes: packet.into() });
        while self.kept.len() > EARLY_MAX || self.bytes > EARLY_BYTES_MAX {
            self.forget_first();
        }
    }

    /// Takes those whose port is served by now, in their order. Those that are too old are forgotten.
    pub(super) fn take(&mut self, now: Instant, is_served: impl Fn(SocketAddr) -> bool) -> Vec<EarlyPacket> {
        self.forget_old(now);
        let (taken, left): (Vec<_>, Vec<_>) = self.kept.drain(..).partition(|packet| is_served(packet.local));
        self.bytes -= taken.iter().map(|packet| packet.bytes.len()).sum::<usize>();
        self.kept = left.into();
        taken
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn forget_old(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|first| now.since(first.came) > EARLY_FOR) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(gone) = self.kept.pop_front() {
            self.bytes -= gone.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_taken_in_its_order_by_port_and_only_while_it_is_young() {
        let mut early = Early::default();
        for (ms, port, byte) in [(0, 30_000, 0), (500, 30_000, 1), (600, 30_002, 2), (700, 30_000, 3)] {
            early.keep(at(ms), local(port), local(4_000), &[byte]);
        }
        let mut taken = |now, port| -> Vec<u8> {
            early.take(at(now), |place| place == local(port)).iter().map(|it| it.bytes[0]).collect()
        };

        assert_eq!(taken(1_200, 30_000), [1, 3]);
        assert_eq!(taken(1_200, 30_000), []);
        assert_eq!(taken(2_000, 30_002), [], "it is too old");
        assert_eq!((early.is_empty(), early.bytes), (true, 0));
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut early = Early::default();
        for number in 0..EARLY_MAX as u64 + 5 {
            early.keep(at(0), local(30_000), local(4_000), &number.to_be_bytes());
        }
        assert_eq!((early.kept.len(), &early.kept[0].bytes[..]), (EARLY_MAX, &5_u64.to_be_bytes()[..]));

        for _ in 0..100 {
            early.keep(at(0), local(30_000), local(4_000), &vec![0; 65_000]);
        }
        assert!(early.bytes <= EARLY_BYTES_MAX && early.kept.len() == EARLY_BYTES_MAX / 65_000);
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn at(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }
}

//! Datagrams of a virtual address that came before the lease did.
//!
//! In a planned hand-over the old node passes on what still comes to it, and neighbours may believe an announcement before
//! the engine has heard of the lease. What came so is kept for a moment, and is handled first when the node becomes active.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use transport::ListenerId;

/// How long one is kept: longer than a hand-over takes, and no longer than whoever sent it waits for an answer.
pub(super) const EARLY_FOR: Duration = Duration::from_secs(2);
/// Datagrams that one loop keeps: what a saturated node receives in the time that a hand-over takes.
const EARLY_MAX: usize = 4_096;
/// The same in bytes.
const EARLY_BYTES_MAX: usize = 4 << 20;

/// One of them.
#[derive(Debug)]
pub(super) struct EarlyDatagram {
    came: Instant,
    pub(super) listener: ListenerId,
    pub(super) remote: SocketAddr,
    pub(super) bytes: Bytes,
}

/// Those of one loop, oldest first.
#[derive(Debug, Default)]
pub(super) struct Early {
    kept: VecDeque<EarlyDatagram>,
    bytes: usize,
}

impl Early {
    /// Keeps one. The oldest make room.
    pub(super) fn keep(&mut self, came: Instant, listener: ListenerId, remote: SocketAddr, datagram: &[u8]) {
        self.kept.push_back(EarlyDatagram {
            came,
            listener,
            remote,
            bytes: Bytes::copy_from_slice(datagram),
        });
        self.bytes += datagram.len();
        while self.kept.len() > EARLY_MAX || self.bytes > EARLY_BYTES_MAX {
            self.forget_first();
        }
    }

    /// Forgets those that are too old.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|first| now.since(first.came) > EARLY_FOR) {
            self.forget_first();
        }
    }

    /// Takes the first ones, at most `count`, that came by one listener.
    pub(super) fn take(&mut self, count: usize) -> Vec<EarlyDatagram> {
        let listener = self.kept.front().map(|first| first.listener);
        let same = self.kept.iter().take_while(|it| Some(it.listener) == listener).count();
        let taken: Vec<_> = self.kept.drain(..same.min(count)).collect();
        self.bytes -= taken.iter().map(|it| it.bytes.len()).sum::<usize>();
        taken
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
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
    fn what_came_is_taken_in_its_order_by_listener_and_only_while_it_is_young() {
        let mut early = Early::default();
        for (number, listener) in [(0, 1), (1, 1), (2, 2), (3, 1)] {
            keep(&mut early, number * 1_000, listener, &[number as u8]);
        }

        early.forget_old(at(2_500));

        let mut taken = || early.take(8).iter().map(|it| (it.listener.0, it.bytes[0])).collect::<Vec<_>>();
        assert_eq!(taken(), [(1, 1)]);
        assert_eq!(taken(), [(2, 2)]);
        assert_eq!(taken(), [(1, 3)]);
        assert_eq!(taken(), []);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut early = Early::default();
        for number in 0..EARLY_MAX as u64 + 5 {
            keep(&mut early, 0, 1, &number.to_be_bytes());
        }
        assert_eq!(early.kept.len(), EARLY_MAX);
        assert_eq!(early.take(1)[0].bytes[..], 5_u64.to_be_bytes());

        for _ in 0..100 {
            keep(&mut early, 0, 1, &vec![0; 65_000]);
        }
        assert!(early.bytes <= EARLY_BYTES_MAX && early.kept.len() == EARLY_BYTES_MAX / 65_000);
    }

    fn keep(early: &mut Early, ms: u64, listener: u16, bytes: &[u8]) {
        early.keep(at(ms), ListenerId(listener), SocketAddr::from(([192, 0, 2, 1], 5060)), bytes);
    }

    fn at(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }
}

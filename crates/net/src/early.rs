//! Datagrams of a virtual address that came before they could be handled, in a change of the active node.
//!
//! In a planned hand-over the old node passes on what still comes to it, and neighbours may believe an announcement before
//! the engine has heard of the lease; and behind the lease a moment goes by until the shards have told of their streams. What
//! comes in that time is kept for a moment, and is handled in its order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;

/// The same for all who keep some, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// One of them.
#[derive(Debug)]
pub(crate) struct EarlyDatagram<P> {
    pub(crate) came: Instant,
    /// Where it came to.
    pub(crate) place: P,
    pub(crate) remote: SocketAddr,
    pub(crate) bytes: Bytes,
}

/// Those of one thread, oldest first.
#[derive(Debug)]
pub(crate) struct Early<P> {
    kept: VecDeque<EarlyDatagram<P>>,
    bytes: usize,
    time_max: Duration,
    count_max: usize,
}

impl<P: Copy + PartialEq> Early<P> {
    /// Each is kept for so long, and so many at once.
    pub(crate) fn new(time_max: Duration, count_max: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, time_max, count_max }
    }

    /// Keeps one. The oldest make room.
    pub(crate) fn keep(&mut self, came: Instant, place: P, remote: SocketAddr, datagram: &[u8]) {
        self.forget_old(came);
        self.bytes += datagram.len();
        self.kept.push_back(EarlyDatagram { came, place, remote, bytes: Bytes::copy_from_slice(datagram) });
        while self.kept.len() > self.count_max || self.bytes > BYTES_MAX {
            self.forget_first();
        }
    }

    /// Forgets those that are too old.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|first| now.since(first.came) > self.time_max) {
            self.forget_first();
        }
    }

    /// Takes the first ones, at most `count`, that came to one place.
    pub(crate) fn take_first(&mut self, count: usize) -> Vec<EarlyDatagram<P>> {
        let place = self.kept.front().map(|first| first.place);
        let same = self.kept.iter().take_while(|it| Some(it.place) == place).count();
        let taken: Vec<_> = self.kept.drain(..same.min(count)).collect();
        self.count_out(&taken);
        taken
    }

    /// Takes those whose place is served by now, in their order.
    pub(crate) fn take_served(&mut self, is_served: impl Fn(P) -> bool) -> Vec<EarlyDatagram<P>> {
        if !self.kept.iter().any(|it| is_served(it.place)) {
            return Vec::new();
        }
        let (taken, left): (Vec<_>, Vec<_>) = self.kept.drain(..).partition(|it| is_served(it.place));
        self.kept = left.into();
        self.count_out(&taken);
        taken
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn count_out(&mut self, taken: &[EarlyDatagram<P>]) {
        self.bytes -= taken.iter().map(|it| it.bytes.len()).sum::<usize>();
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

    const TIME_MAX: Duration = Duration::from_secs(2);
    const COUNT_MAX: usize = 4_096;

    #[test]
    fn what_came_is_taken_in_its_order_by_place_and_only_while_it_is_young() {
        let mut early = filled();

        early.forget_old(at(2_500));

        let mut taken = || bytes(&early.take_first(8));
        assert_eq!(taken(), [1]);
        assert_eq!(taken(), [2]);
        assert_eq!(taken(), [3]);
        assert_eq!(taken(), []);
        assert_eq!(early.bytes, 0);
    }

    #[test]
    fn what_came_to_a_place_that_is_served_is_taken_before_others() {
        let mut early = filled();

        early.forget_old(at(2_500));

        assert_eq!(bytes(&early.take_served(|place| place == 1)), [1, 3]);
        assert_eq!(bytes(&early.take_served(|place| place == 1)), []);
        early.forget_old(at(4_500));
        assert_eq!((early.is_empty(), early.bytes), (true, 0), "what nobody serves goes in time");
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut early = Early::new(TIME_MAX, COUNT_MAX);
        for number in 0..COUNT_MAX as u64 + 5 {
            keep(&mut early, 0, 1, &number.to_be_bytes());
        }
        assert_eq!(early.kept.len(), COUNT_MAX);
        assert_eq!(early.take_first(1)[0].bytes[..], 5_u64.to_be_bytes());

        for _ in 0..100 {
            keep(&mut early, 0, 1, &vec![0; 65_000]);
        }
        assert!(early.bytes <= BYTES_MAX && early.kept.len() == BYTES_MAX / 65_000);
    }

    /// 0, 1, 2 and 3 at the places 1, 1, 2 and 1; the first is a second older than the others.
    fn filled() -> Early<u16> {
        let mut early = Early::new(TIME_MAX, COUNT_MAX);
        for (number, ms, place) in [(0, 0, 1), (1, 1_000, 1), (2, 1_000, 2), (3, 1_000, 1)] {
            keep(&mut early, ms, place, &[number]);
        }
        early
    }

    fn bytes(taken: &[EarlyDatagram<u16>]) -> Vec<u8> {
        taken.iter().map(|it| it.bytes[0]).collect()
    }

    fn keep(early: &mut Early<u16>, ms: u64, place: u16, bytes: &[u8]) {
        early.keep(at(ms), place, SocketAddr::from(([192, 0, 2, 1], 5060)), bytes);
    }

    fn at(ms: u64) -> Instant {
        Instant::START + Duration::from_millis(ms)
    }
}

//! The network between hosts: it delays, loses, doubles, reorders and cuts one way at a time.
//!
//! It knows nothing of what it carries and of no size: a datagram of any length arrives whole or not.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use clock::Instant;

use crate::events::{Event, Events};
use crate::rng::Rng;

/// How bad the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// The shortest way.
    pub(crate) delay_min: Duration,
    /// The longest way of a datagram that is not held back.
    pub(crate) delay_max: Duration,
    /// Lost, in a thousand.
    pub(crate) loss: u32,
    /// Arriving twice, in a thousand.
    pub(crate) doubled: u32,
    /// Held back so that later ones overtake it, in a thousand.
    pub(crate) held_back: u32,
}

impl Conditions {
    /// A network that loses nothing and keeps the order.
    pub(crate) const PERFECT: Self = Self {
        delay_min: Duration::from_millis(5),
        delay_max: Duration::from_millis(5),
        loss: 0,
        doubled: 0,
        held_back: 0,
    };
    /// A network that loses nothing, but reorders by its different delays.
    pub(crate) const GOOD: Self = Self {
        delay_min: Duration::from_millis(2),
        delay_max: Duration::from_millis(30),
        loss: 0,
        doubled: 0,
        held_back: 0,
    };
    /// A network of a bad day.
    pub(crate) const BAD: Self = Self {
        delay_min: Duration::from_millis(2),
        delay_max: Duration::from_millis(120),
        loss: 60,
        doubled: 30,
        held_back: 30,
    };

    /// Whether every datagram arrives, once.
    pub(crate) fn is_lossless(&self) -> bool {
        self.loss == 0
    }
}

/// A datagram that is held back comes so much later than it would.
const HELD_BACK: Duration = Duration::from_millis(700);

/// The way from any address to any other.
#[derive(Debug)]
pub(crate) struct Network {
    rng: Rng,
    conditions: Conditions,
    cut: BTreeSet<(IpAddr, IpAddr)>,
}

impl Network {
    /// A network with nothing cut.
    pub(crate) fn new(rng: Rng, conditions: Conditions) -> Self {
        Self { rng, conditions, cut: BTreeSet::new() }
    }

    /// Lets nothing pass from `from` to `to`; the other way stays open.
    pub(crate) fn cut(&mut self, from: IpAddr, to: IpAddr) {
        self.cut.insert((from, to));
    }

    /// Opens all that was cut.
    pub(crate) fn mend_all(&mut self) {
        self.cut.clear();
    }

    /// Whether something is cut.
    pub(crate) fn is_cut(&self, from: IpAddr, to: IpAddr) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Is good from here on.
    pub(crate) fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// When a datagram that is sent now arrives: never, once or twice.
    pub(crate) fn carry(
        &mut self,
        now: Instant,
        from: IpAddr,
        to: IpAddr,
        events: &mut Events,
    ) -> Vec<Instant> {
        if self.is_cut(from, to) {
            events.add(Event::CutOff);
            return Vec::new();
        }
        if self.rng.chance(self.conditions.loss) {
            events.add(Event::Lost);
            return Vec::new();
        }
        let mut arrivals = vec![now + self.delay(events)];
        if self.rng.chance(self.conditions.doubled) {
            events.add(Event::Doubled);
            arrivals.push(now + self.delay(events));
        }
        arrivals
    }

    /// How long a segment of a stream takes: what is lost there is only late.
    pub(crate) fn stream_delay(&mut self) -> Duration {
        let late =
            if self.rng.chance(self.conditions.loss) { Duration::from_millis(300) } else { Duration::ZERO };
        late + self.rng.between(self.conditions.delay_min, self.conditions.delay_max)
    }

    fn delay(&mut self, events: &mut Events) -> Duration {
        let delay = self.rng.between(self.conditions.delay_min, self.conditions.delay_max);
        if self.rng.chance(self.conditions.held_back) {
            events.add(Event::Reordered);
            delay + HELD_BACK
        } else {
            delay
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_cut_works_one_way_only() {
        let mut network = Network::new(Rng::new(1), Conditions::PERFECT);
        let mut events = Events::default();
        network.cut(A, B);

        assert_eq!(network.carry(Instant::START, A, B, &mut events), []);
        assert_eq!(network.carry(Instant::START, B, A, &mut events).len(), 1);
        network.mend_all();
        assert_eq!(network.carry(Instant::START, A, B, &mut events).len(), 1);
    }

    #[test]
    fn a_good_network_loses_and_doubles_nothing() {
        let mut network = Network::new(Rng::new(1), Conditions::GOOD);

        assert!((0..1_000).all(|_| network.carry(Instant::START, A, B, &mut Events::default()).len() == 1));
    }

    #[test]
    fn a_bad_network_loses_and_doubles_about_as_much_as_it_says() {
        let mut network = Network::new(Rng::new(1), Conditions::BAD);
        let mut arrivals = [0u32; 3];
        for _ in 0..10_000 {
            arrivals[network.carry(Instant::START, A, B, &mut Events::default()).len()] += 1;
        }

        assert!((500..700).contains(&arrivals[0]), "{arrivals:?}");
        assert!((200..400).contains(&arrivals[2]), "{arrivals:?}");
    }

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
}

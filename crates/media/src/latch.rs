//! Where one side's packets come from, and so where packets for it go (RFC 7362).
//!
//! A description tells where a side wants its packets; behind a NAT that is wrong, and only its own packets show the
//! right place. Each message of the signalling that says something about media opens a *window*. In it the first packet
//! from an address that the side may have is latched on to, once; after that the latch does not move until the
//! signalling speaks again. What comes from elsewhere is a stranger's, is not relayed, and moves nothing.
//!
//! A side that moves tells so by signalling, while packets from its old place are still on their way. So an old latch
//! stays good in the new window until the first packet from a new place moves it: one that names the same source, or comes
//! after the description has another address, or after the old place has been quiet.
//!
//! Who moves may be heard at the new place before the signalling is through. What is still under way from the old place
//! does not take the latch back, and the signalling that follows means this move and no other.
//!
//! Invariant: outside of a window no packet changes the state but for the time when the latched side was last heard.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clock::Instant;

/// An old place that was quiet for so long is one that its side has left; and no packet is under way for so long.
const QUIET: Duration = Duration::from_secs(1);

/// How a latch is set, for all sides of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long packets may set the latch after a message of the signalling.
    pub window: Duration,
    /// From where they may come.
    pub sources: Sources,
    /// Where packets for the side go.
    pub aim: Aim,
}

/// From where packets may come that set a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sources {
    /// From the address in the description, or from the one that the signalling comes from; the port is free.
    // RFC 7362 §5: who is not there could be anybody.
    Known,
    /// From anywhere, as long as nothing came from a known one: carriers that send from another address than they name.
    Any,
}

/// Where packets for a side go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Where its own come from (RFC 4961 §3).
    Latched,
    /// Where the description says, for devices that send from another port than they receive on.
    Signalled,
}

impl Default for Policy {
    fn default() -> Self {
        Self { window: Duration::from_secs(30), sources: Sources::Known, aim: Aim::Latched }
    }
}

/// Where a side wants its packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Nowhere: it is on hold, or has not spoken yet.
    #[default]
    Nowhere,
    /// It has no address that a packet could be sent to; what it sends will show the place.
    Unknown,
    /// Here.
    At(SocketAddr),
}

impl Wanted {
    fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Nowhere | Self::Unknown => None,
        }
    }
}

/// What the signalling says of a side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// What its description says.
    pub wanted: Wanted,
    /// Where its signalling comes from.
    pub signalling: Option<IpAddr>,
    /// Whether it sits behind a NAT, so that its description's address leads nowhere.
    pub is_behind_nat: bool,
}

impl Expected {
    fn knows(&self, source: IpAddr) -> bool {
        let described = matches!(self.wanted, Wanted::At(address) if address.ip() == source);
        described || self.signalling == Some(source)
    }
}

/// The place that packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latched {
    /// The address.
    pub source: SocketAddr,
    /// The source of the last packet that named one.
    pub ssrc: Option<u32>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It comes from where it should.
    Expected,
    /// It does, and it has just shown where that is.
    Latched,
    /// It comes from elsewhere and goes nowhere.
    Stranger,
}

/// What another node has to know of a latch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLatch {
    /// The place, if there is one.
    pub latched: Option<Latched>,
    /// What is left of the window.
    pub window_left: Duration,
}

/// One side's latch, for one of its ports.
#[derive(Clone, Debug)]
pub struct Latch {
    policy: Policy,
    expected: Expected,
    /// The last address of a description, which outlasts a hold.
    described: Option<SocketAddr>,
    signalled_at: Instant,
    window_until: Instant,
    hold: Hold,
    latched: Option<Latched>,
    /// The place that it was on before, and when it moved.
    left: Option<(SocketAddr, Instant)>,
    heard_at: Instant,
}

/// How firmly a latch holds within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// It was set in this window.
    Firm,
    /// It is of an earlier window and may be right.
    Kept,
    /// It is of an earlier window, and the description has another address.
    Stale,
}

impl Latch {
    /// A latch that nothing was said to.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            expected: Expected::default(),
            described: None,
            signalled_at: Instant::START,
            window_until: Instant::START,
            hold: Hold::Kept,
            latched: None,
            left: None,
            heard_at: Instant::START,
        }
    }

    /// The signalling has spoken: a window begins.
    pub fn handle_signalled(&mut self, now: Instant, expected: Expected) {
        let described = expected.wanted.address();
        let has_moved = self.described.is_some() && described.is_some() && self.described != described;
        // Its packets were faster than the signalling.
        let has_moved = has_moved && self.left.is_none_or(|(_, at)| now.since(at) >= QUIET);
        self.described = described.or(self.described);
        self.hold = match self.hold {
            Hold::Stale => Hold::Stale,
            Hold::Firm | Hold::Kept if has_moved => Hold::Stale,
            Hold::Firm | Hold::Kept => Hold::Kept,
        };
        self.expected = expected;
        self.signalled_at = now;
        self.window_until = now + self.policy.window;
    }

    /// Judges a packet by where it comes from.
    pub fn handle_packet(&mut self, now: Instant, source: SocketAddr, ssrc: Option<u32>) -> Arrival {
        if let Some(latched) = self.latched.as_mut().filter(|latched| latched.source == source) {
            latched.ssrc = ssrc.or(latched.ssrc);
            self.heard_at = now;
            // Nothing is under way for so long: it sends from there still.
            if self.hold == Hold::Stale && now.since(self.signalled_at) >= QUIET {
                self.hold = Hold::Kept;
            }
            return Arrival::Expected;
        }
        if now >= self.window_until || !self.may_move(now, source, ssrc) {
            return Arrival::Stranger;
        }
        self.left = self.latched.map(|latched| (latched.source, now));
        self.latched = Some(Latched { source, ssrc });
        self.hold = Hold::Firm;
        self.heard_at = now;
        Arrival::Latched
    }

    /// Another forwarder has heard the latched side: when, and by which source.
    pub fn handle_heard(&mut self, at: Instant, ssrc: Option<u32>) {
        if let Some(latched) = &mut self.latched {
            latched.ssrc = ssrc.or(latched.ssrc);
            self.heard_at = self.heard_at.max(at);
        }
    }

    /// Whether a packet from elsewhere may take an old latch, which depends on when its side was heard last.
    pub fn may_be_left(&self, now: Instant) -> bool {
        now < self.window_until && self.hold != Hold::Firm
    }

    /// Where packets for this side go; `None` while nobody knows, or it wants none.
    pub fn target(&self) -> Option<SocketAddr> {
        let described = match self.expected.wanted {
            Wanted::Nowhere => return None,
            Wanted::Unknown => None,
            Wanted::At(address) => Some(address),
        };
        let latched = self.latched.map(|latched| latched.source);
        match (self.policy.aim, self.expected.is_behind_nat) {
            (Aim::Signalled, _) => described,
            (Aim::Latched, true) => latched,
            // It said that it is elsewhere now, and that leads there.
            (Aim::Latched, false) if self.hold == Hold::Stale => described.or(latched),
            (Aim::Latched, false) => latched.or(described),
        }
    }

    /// Whether its side says that it moves, and is not heard from elsewhere yet: what comes next decides where it is.
    pub fn is_in_doubt(&self) -> bool {
        self.hold == Hold::Stale
    }

    /// The place that it is latched on to.
    pub fn latched(&self) -> Option<Latched> {
        self.latched
    }

    /// The place that it is latched on to, if no packet of another one can move it until the signalling speaks again.
    pub fn settled(&self, now: Instant) -> Option<SocketAddr> {
        let source = self.latched?.source;
        let is_settled = match self.hold {
            Hold::Firm => now >= self.window_until || self.expected.knows(source.ip()),
            Hold::Kept | Hold::Stale => now >= self.window_until,
        };
        is_settled.then_some(source)
    }

    /// What another node has to know.
    pub fn stored(&self, now: Instant) -> StoredLatch {
        StoredLatch { latched: self.latched, window_left: self.window_until.since(now) }
    }

    /// Goes on where another node was; `expected` is what was last signalled.
    pub fn restore(policy: Policy, now: Instant, expected: Expected, stored: StoredLatch) -> Self {
        let window_left = stored.window_left.min(policy.window);
        Self {
            policy,
            described: expected.wanted.address(),
            expected,
            signalled_at: now,
            window_until: now + window_left,
            hold: Hold::Kept,
            latched: stored.latched,
            left: None,
            heard_at: now,
        }
    }

    fn may_move(&self, now: Instant, source: SocketAddr, ssrc: Option<u32>) -> bool {
        let is_known = self.expected.knows(source.ip());
        let Some(latched) = self.latched else { return is_known || self.policy.sources == Sources::Any };
        if self.left.is_some_and(|(place, at)| place == source && now.since(at) < QUIET) {
            return false;
        }
        // A known place takes the latch from an unknown one at any time of the window.
        let is_better = is_known && !self.expected.knows(latched.source.ip());
        let has_gone = match self.hold {
            Hold::Firm => false,
            Hold::Stale => true,
            Hold::Kept => (ssrc.is_some() && latched.ssrc == ssrc) || now.since(self.heard_at) >= QUIET,
        };
        is_better || (has_gone && (is_known || self.policy.sources == Sources::Any))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
    const WINDOW: Duration = Duration::from_secs(30);

    #[test]
    fn nothing_is_latched_before_the_signalling_has_spoken() {
        let mut latch = Latch::new(Policy::default());

        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1)), Arrival::Stranger);
        assert_eq!(latch.target(), None);
    }

    #[test]
    fn a_side_behind_nat_gets_nothing_until_it_is_heard_and_then_where_it_is() {
        let mut latch = behind_nat();
        assert_eq!(latch.target(), None);

        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1)), Arrival::Latched);
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(2)), Arrival::Expected);
        assert_eq!(latch.target(), Some(at("203.0.113.7:4000")));
    }

    #[test]
    fn a_side_that_can_be_reached_gets_packets_at_once() {
        let mut latch = Latch::new(Policy::default());
        latch.handle_signalled(NOW, described("203.0.113.7:4000"));
        assert_eq!(latch.target(), Some(at("203.0.113.7:4000")));

        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4002"), Some(1)), Arrival::Latched);
        assert_eq!(latch.target(), Some(at("203.0.113.7:4002")));
    }

    #[test]
    fn a_stranger_moves_nothing() {
        let mut latch = behind_nat();
        assert_eq!(latch.handle_packet(NOW, at("198.51.100.66:4000"), Some(1)), Arrival::Stranger);
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));

        // Not even from the same NAT, with the same source.
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:5000"), Some(1)), Arrival::Stranger);
        assert_eq!(latch.handle_packet(NOW, at("198.51.100.66:4000"), Some(1)), Arrival::Stranger);
        assert_eq!(latch.target(), Some(at("203.0.113.7:4000")));
    }

    #[test]
    fn a_latch_is_set_only_in_the_window() {
        let mut latch = behind_nat();

        assert_eq!(latch.handle_packet(NOW + WINDOW, at("203.0.113.7:4000"), Some(1)), Arrival::Stranger);
        latch.handle_signalled(NOW + WINDOW, nat());
        assert_eq!(latch.handle_packet(NOW + WINDOW, at("203.0.113.7:4000"), Some(1)), Arrival::Latched);
    }

    #[test]
    fn a_latch_moves_only_after_the_signalling_has_spoken() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        let later = NOW + WINDOW * 2;
        assert_eq!(latch.handle_packet(later, at("203.0.113.7:5000"), Some(1)), Arrival::Stranger);

        latch.handle_signalled(later, nat());
        // Another source while the old place is heard is no proof that it has moved.
        latch.handle_packet(later, at("203.0.113.7:4000"), Some(1));
        assert_eq!(latch.handle_packet(later, at("203.0.113.7:5000"), Some(2)), Arrival::Stranger);
        assert_eq!(latch.handle_packet(later, at("203.0.113.7:5000"), Some(1)), Arrival::Latched);
        // Once.
        assert_eq!(latch.handle_packet(later, at("203.0.113.7:4000"), Some(1)), Arrival::Stranger);
    }

    #[test]
    fn a_latch_is_settled_when_only_the_signalling_can_move_it() {
        let mut latch = behind_nat();
        assert_eq!(latch.settled(NOW + WINDOW), None);
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        assert_eq!(latch.settled(NOW), Some(at("203.0.113.7:4000")));
        latch.handle_signalled(NOW, nat());
        assert_eq!(latch.settled(NOW), None);
        assert_eq!(latch.settled(NOW + WINDOW), Some(at("203.0.113.7:4000")));

        let mut latch = Latch::new(Policy { sources: Sources::Any, ..Policy::default() });
        latch.handle_signalled(NOW, nat());
        latch.handle_packet(NOW, at("198.51.100.66:4000"), Some(1));
        assert_eq!(latch.settled(NOW), None, "a known place would take it");
        assert_eq!(latch.settled(NOW + WINDOW), Some(at("198.51.100.66:4000")));
    }

    #[test]
    fn a_place_that_another_forwarder_hears_is_not_quiet() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        assert!(!latch.may_be_left(NOW), "it was set in this window");
        latch.handle_signalled(NOW, nat());
        assert!(latch.may_be_left(NOW));

        latch.handle_heard(NOW + QUIET, Some(3));

        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:5000"), Some(2)), Arrival::Stranger);
        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:5000"), Some(3)), Arrival::Latched);
        assert!(!latch.may_be_left(NOW + WINDOW));
    }

    #[test]
    fn a_quiet_place_is_left_for_another_source() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        latch.handle_signalled(NOW, nat());

        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:5000"), Some(2)), Arrival::Latched);
    }

    #[test]
    fn packets_on_their_way_do_not_keep_a_side_from_moving() {
        let mut latch = Latch::new(Policy::default());
        latch.handle_signalled(NOW, described("203.0.113.7:4000"));
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));

        latch.handle_signalled(NOW, described("203.0.113.9:5000"));
        assert_eq!(latch.target(), Some(at("203.0.113.9:5000")));
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1)), Arrival::Expected);
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.9:5000"), Some(2)), Arrival::Latched);
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1)), Arrival::Stranger);
    }

    #[test]
    fn a_move_that_was_faster_than_its_signalling_is_one_move() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        latch.handle_signalled(NOW + QUIET, nat());
        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:5000"), Some(1)), Arrival::Latched);

        let moved = Expected { wanted: Wanted::At(at("192.168.1.7:7080")), ..nat() };
        latch.handle_signalled(NOW + QUIET, moved);

        // Neither what was still under way nor somebody behind the same router takes it.
        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:4000"), Some(1)), Arrival::Stranger);
        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:6000"), Some(2)), Arrival::Stranger);
        assert_eq!(latch.target(), Some(at("203.0.113.7:5000")));
    }

    #[test]
    fn who_says_that_it_moves_and_stays_is_not_moved_by_another_one() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        latch.handle_signalled(NOW, Expected { wanted: Wanted::At(at("192.168.1.7:7080")), ..nat() });

        latch.handle_packet(NOW + QUIET, at("203.0.113.7:4000"), Some(1));

        assert_eq!(latch.handle_packet(NOW + QUIET, at("203.0.113.7:6000"), Some(2)), Arrival::Stranger);
    }

    #[test]
    fn a_side_on_hold_is_sent_nothing() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        latch.handle_signalled(NOW, Expected { wanted: Wanted::Nowhere, ..nat() });
        assert_eq!(latch.target(), None);

        latch.handle_signalled(NOW, nat());
        assert_eq!(latch.target(), Some(at("203.0.113.7:4000")));

        let moved = Expected { wanted: Wanted::At(at("192.168.1.7:9000")), ..nat() };
        latch.handle_signalled(NOW, Expected { wanted: Wanted::Nowhere, ..nat() });
        latch.handle_signalled(NOW, moved);
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:5000"), Some(2)), Arrival::Latched);
    }

    #[test]
    fn any_source_is_taken_where_that_is_wanted_until_a_known_one_comes() {
        let mut latch = Latch::new(Policy { sources: Sources::Any, ..Policy::default() });
        latch.handle_signalled(NOW, described("203.0.113.7:4000"));

        assert_eq!(latch.handle_packet(NOW, at("198.51.100.66:4000"), Some(1)), Arrival::Latched);
        assert_eq!(latch.handle_packet(NOW, at("198.51.100.67:4000"), Some(1)), Arrival::Stranger);
        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(2)), Arrival::Latched);
        assert_eq!(latch.handle_packet(NOW, at("198.51.100.66:4000"), Some(1)), Arrival::Stranger);
    }

    #[test]
    fn a_device_that_sends_from_elsewhere_is_sent_where_it_says() {
        let mut latch = Latch::new(Policy { aim: Aim::Signalled, ..Policy::default() });
        latch.handle_signalled(NOW, described("203.0.113.7:4000"));

        assert_eq!(latch.handle_packet(NOW, at("203.0.113.7:6000"), Some(1)), Arrival::Latched);
        assert_eq!(latch.target(), Some(at("203.0.113.7:4000")));
    }

    #[test]
    fn another_node_goes_on_with_the_same_place_and_what_is_left_of_the_window() {
        let mut latch = behind_nat();
        latch.handle_packet(NOW, at("203.0.113.7:4000"), Some(1));
        let stored = latch.stored(NOW + WINDOW);
        assert_eq!(stored.window_left, Duration::ZERO);

        let mut restored = Latch::restore(Policy::default(), NOW, nat(), stored);
        assert_eq!(restored.target(), Some(at("203.0.113.7:4000")));
        assert_eq!(restored.handle_packet(NOW, at("203.0.113.7:5000"), Some(1)), Arrival::Stranger);
        let lie = StoredLatch { latched: None, window_left: Duration::MAX };
        let mut restored = Latch::restore(Policy::default(), NOW, nat(), lie);
        assert_eq!(restored.handle_packet(NOW + WINDOW, at("203.0.113.7:5000"), Some(1)), Arrival::Stranger);
    }

    fn behind_nat() -> Latch {
        let mut latch = Latch::new(Policy::default());
        latch.handle_signalled(NOW, nat());
        latch
    }

    fn nat() -> Expected {
        Expected {
            wanted: Wanted::At(at("192.168.1.7:7078")),
            signalling: Some("203.0.113.7".parse().unwrap()),
            is_behind_nat: true,
        }
    }

    fn described(address: &str) -> Expected {
        Expected { wanted: Wanted::At(at(address)), ..Expected::default() }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }
}

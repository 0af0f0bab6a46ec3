//! The detector: what is known of another node, and whether it is heard.

use std::time::Duration;

use clock::Instant;

use crate::heartbeat::{HEARTBEAT_EVERY, Heartbeat, Stance};
use crate::{Holder, NodeId};

/// Heartbeats in a row that may be lost. Over two paths, and on a loaded host, one late heartbeat is no news.
const MISSED_MAX: u32 = 3;

/// Paths over which a peer may be heard: a LAN and an Internet side, twice.
pub const PATHS_MAX: usize = 8;

/// So long a clock must be apart before that is told: heartbeats that waited while this node stood still look old at once.
const APART_FOR: Duration = Duration::from_secs(1);

/// One way to a peer, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// Another node as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    node: NodeId,
    last: Option<(Instant, Heartbeat)>,
    calendar: Calendar,
}

/// How a node's calendar is, beside this one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Calendar {
    Near,
    ApartSince(Instant),
    ToldApart,
}

impl Peer {
    /// A node that was not heard yet.
    pub fn new(node: NodeId) -> Self {
        Self { node, last: None, calendar: Calendar::Near }
    }

    /// Which node it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// It was heard. What came last counts, of whichever start: the link lets nothing through of an earlier one.
    pub fn heard(&mut self, now: Instant, heartbeat: Heartbeat) {
        self.last = Some((now, heartbeat));
    }

    /// Its calendar was compared with this node's. Says whether it is to be told that they are apart: once, each time that
    /// they begin to be.
    pub fn compared(&mut self, now: Instant, is_apart: bool) -> bool {
        let was = self.calendar;
        self.calendar = match was {
            _ if !is_apart => Calendar::Near,
            Calendar::Near => Calendar::ApartSince(now),
            Calendar::ApartSince(since) if now.since(since) >= APART_FOR => Calendar::ToldApart,
            Calendar::ApartSince(_) | Calendar::ToldApart => was,
        };
        self.calendar == Calendar::ToldApart && was != Calendar::ToldApart
    }

    /// It has said that it is active no more: nobody need wait for its silence.
    pub fn released(&mut self, holder: Holder) {
        if let Some((_, last)) = &mut self.last
            && last.from == holder
            && last.stance == Stance::Active
        {
            last.stance = Stance::Standby;
        }
    }

    /// Whether it was heard just now, over any path.
    pub fn is_heard(&self, now: Instant) -> bool {
        self.silent_for(now).is_some_and(|silence| silence <= Self::silence_max())
    }

    /// How long ago it was heard; `None`: never.
    pub fn silent_for(&self, now: Instant) -> Option<Duration> {
        self.last.as_ref().map(|(at, _)| now.since(*at))
    }

    /// When it counts as silent unless it is heard again.
    pub fn silent_at(&self) -> Option<Instant> {
        self.last.as_ref().map(|(at, _)| *at + Self::silence_max() + Duration::from_nanos(1))
    }

    /// What it last said, if it is heard.
    pub fn says(&self, now: Instant) -> Option<&Heartbeat> {
        self.last.as_ref().filter(|_| self.is_heard(now)).map(|(_, heartbeat)| heartbeat)
    }

    /// What it last said, however long ago.
    pub fn last_said(&self) -> Option<&Heartbeat> {
        self.last.as_ref().map(|(_, heartbeat)| heartbeat)
    }

    /// Whether it is heard and active.
    pub fn is_active(&self, now: Instant) -> bool {
        self.says(now).is_some_and(|heartbeat| heartbeat.stance == Stance::Active)
    }

    /// The longest silence of a node that is well.
    pub fn silence_max() -> Duration {
        HEARTBEAT_EVERY * MISSED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_that_waited_while_this_node_stood_still_show_no_wrong_clock() {
        let mut peer = Peer::new(NodeId(1));
        let ms = |ms| Instant::START + Duration::from_millis(ms);
        assert!(!peer.compared(ms(0), false));

        // It stood for ten seconds, and reads what came meanwhile.
        for late in 10_000..10_100 {
            assert!(!peer.compared(ms(late), true));
        }
        assert!(!peer.compared(ms(10_100), false));

        assert!(!peer.compared(ms(12_000), true));
        assert!(peer.compared(ms(13_000), true), "that is a clock");
        assert!(!peer.compared(ms(14_000), true), "it is told once");
    }
}

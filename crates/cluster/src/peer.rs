//! The detector: what is known of another node, and whether it is heard.

use std::time::Duration;

use clock::Instant;

use crate::heartbeat::{HEARTBEAT_EVERY, Heartbeat, Stance};
use crate::{Holder, NodeId};

/// Heartbeats in a row that may be lost. Over two paths, and on a loaded host, one late heartbeat is no news.
const MISSED_MAX: u32 = 3;

/// Paths over which a peer may be heard: a LAN and an Internet side, twice.
pub const PATHS_MAX: usize = 8;

/// One way to a peer, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// Another node as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    node: NodeId,
    paths: [Option<Instant>; PATHS_MAX],
    last: Option<(Instant, Heartbeat)>,
    /// When a start of it was seen that differs from the one before.
    restarted: Option<Instant>,
}

impl Peer {
    /// A node that was not heard yet.
    pub fn new(node: NodeId) -> Self {
        Self { node, paths: [None; PATHS_MAX], last: None, restarted: None }
    }

    /// Which node it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// It was heard. An older start of it than the one that was heard last does not count.
    pub fn heard(&mut self, now: Instant, path: PathId, heartbeat: Heartbeat) {
        if let Some(at) = self.paths.get_mut(usize::from(path.0)) {
            *at = Some(now);
        }
        let is_new_start = self.last.as_ref().is_some_and(|(_, last)| last.from != heartbeat.from);
        if is_new_start {
            self.restarted = Some(now);
        }
        self.last = Some((now, heartbeat));
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

    /// How long each path is silent, in the order of the paths; `None`: never heard there.
    pub fn path_silence(&self, now: Instant, path: PathId) -> Option<Duration> {
        self.paths.get(usize::from(path.0)).copied().flatten().map(|at| now.since(at))
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

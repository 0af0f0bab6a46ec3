//! One rtpengine: whether it is there, and what it has done.

use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;

/// How many there may be, those included that a reload has taken away.
pub const NODES_MAX: usize = 64;

/// How often one that is silent is asked whether it is there again.
pub(super) const PING_EVERY_DOWN: Duration = Duration::from_secs(1);
/// How often one is asked of which nothing was heard: nobody called.
pub(super) const PING_EVERY_UP: Duration = Duration::from_secs(5);
/// A ping without an answer for so long says that it is gone.
pub(super) const PING_TIME_MAX: Duration = Duration::from_millis(2_500);

/// One that calls may go by, as it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it listens for commands.
    pub address: SocketAddr,
    /// Its share of new calls; with 0 it gets none, and keeps those that it has.
    pub weight: u16,
}

/// What has happened with one, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Commands.
    pub asked: u64,
    /// Those of them that were said again, each time.
    pub repeated: u64,
    /// Answers that were waited for.
    pub answered: u64,
    /// Those of them that said no.
    pub refused: u64,
    /// Commands that got no answer.
    pub silent: u64,
    /// Answers that came when nobody waited any more.
    pub late: u64,
    /// Ends of calls that it was not told: it was silent for too long, or there was no room for them.
    pub unsaid: u64,
    /// Datagrams that are no answers.
    pub malformed: u64,
}

/// How one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// As it is configured.
    pub node: Node,
    /// Whether it answers, as far as is known.
    pub is_up: bool,
    /// What has happened.
    pub counts: NodeCounts,
}

/// One as the client knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) node: Node,
    /// Whether a reload has taken it away: its calls are ended there, and no others begin.
    pub(super) is_leaving: bool,
    pub(super) is_up: bool,
    /// When something was heard of it.
    pub(super) heard_at: Option<Instant>,
    /// The number of a ping without an answer, and when it was first sent.
    pub(super) ping: Option<(u64, Instant)>,
    /// When it is to be asked next.
    pub(super) ping_at: Instant,
    pub(super) counts: NodeCounts,
}

impl Known {
    pub(super) fn new(now: Instant, node: Node) -> Self {
        Self {
            node,
            is_leaving: false,
            is_up: true,
            heard_at: None,
            ping: None,
            ping_at: now,
            counts: NodeCounts::default(),
        }
    }

    pub(super) fn view(&self) -> NodeView {
        NodeView { node: self.node, is_up: self.is_up, counts: self.counts }
    }

    /// Whether new calls may go by it.
    pub(super) fn is_open(&self) -> bool {
        self.is_up && !self.is_leaving && self.node.weight > 0
    }
}

//! What the operator sees of a running server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use engine::{PeerView, Publication, SlowedName, StoreState, Traffic};
use media::ng::NodeView;
use media::stream::StreamFigures;
use routing::CallView;
use routing::bans::Ban;
use transport::{Advertise, ListenerId, LocalAddr, Transport};

use crate::latency::Latency;

/// A running server at one moment. The parts are read one after the other, so they may differ by what
/// happened in between.
#[derive(Clone, Debug)]
pub struct Status {
    /// All listeners in the order of the configuration.
    pub listeners: Vec<ListenerStatus>,
    /// What was counted since the start, by name: by the shards and partitions, and by the edge itself.
    pub counters: BTreeMap<&'static str, u64>,
    /// Requests and answers by method.
    pub traffic: Traffic,
    /// How long requests waited here.
    pub latencies: Vec<Latency>,
    /// Server transactions alive.
    pub server_transactions: usize,
    /// Client transactions alive.
    pub client_transactions: usize,
    /// Requests that wait for the store or the resolver.
    pub suspended: usize,
    /// Requests that are being proxied.
    pub contexts: usize,
    /// Calls, ringing ones included.
    pub calls: usize,
    /// On a standby: INVITEs under way and calls that are up on the other node, to go on with.
    pub inherited: usize,
    /// Calls whose media the relay has; on a standby the other node's.
    pub media_sessions: usize,
    /// Pairs of ports that they have; none on a standby.
    pub media_pairs_used: usize,
    /// The rtpengines, in the order of the configuration.
    pub rtpengines: Vec<NodeView>,
    /// Connections of this node that the other one knows.
    pub connections_told: usize,
    /// Connections of the node that is, or was, active that this one knows.
    pub connections_known: usize,
    /// Bindings of all addresses of record.
    pub bindings: usize,
    /// Accounts in the cache.
    pub accounts: usize,
    /// Stream connections that are open.
    pub connections: usize,
    /// Sources that are banned or restrained.
    pub held: usize,
    /// The overload, while there is one.
    pub overload: Option<OverloadStatus>,
    /// The database.
    pub store: StoreState,
    /// The table that servers beside this one read, if bindings are published.
    pub publication: Option<Publication>,
    /// The other node, if there is one.
    pub peer: Option<PeerView>,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStatus {
    /// Who talks with whom.
    pub view: CallView,
    /// How its media do that pass the relay.
    pub streams: Vec<StreamFigures>,
    /// The rtpengine that has its media, if one has.
    pub rtpengine: Option<SocketAddr>,
}

/// More comes than can be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverloadStatus {
    /// For how long that has been so.
    pub lasts: Duration,
    /// How much is refused by the queue that refuses most: of other requests, of new registrations, of those of known
    /// phones, of calls.
    pub refused_percent: [u8; 4],
}

/// Who is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Sources, by their address.
    pub sources: Vec<Ban>,
    /// Names whose passwords are not checked for some sources, by these.
    pub names: Vec<SlowedName>,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerStatus {
    /// Its number.
    pub id: ListenerId,
    /// How messages travel here.
    pub transport: Transport,
    /// The address that is bound; with the port that the kernel chose, if the configuration said 0.
    pub local: LocalAddr,
    /// What others are told instead of it.
    pub advertise: Option<Advertise>,
    /// Whether requests must be authenticated by digest.
    pub digest: bool,
    /// Datagrams that the kernel dropped because nobody read them in time.
    pub dropped_by_kernel: u64,
}

//! How the command line speaks to a running server: lines of JSON over a socket in the state
//! directory, which its owner alone can open.
//!
//! A [`Request`] is one line. The reply is any number of lines `{"item":…}` and one last line,
//! `{"done":…}` or `{"failed":…}`. Then the next request may follow. Everything is bounded: the
//! length of a request, the time of a reply, the number of connections.

pub mod client;
mod import;
mod media;
pub mod server;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::import::{HeldView, ImportItem, ImportView, ImportWish};
pub use self::media::{CallView, RelayView, RtpengineView, StreamView, VoiceView};
use crate::replica::ReplicaView;

/// Bytes of a request: one with the most names that a subscriber may have fits.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// How long either side waits for the other's next bytes.
pub const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What the command line wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the server is: done with a status.
    Status {},
    /// All that is measured: done with a [`MetricsView`].
    Metrics {},
    /// The bindings: an item for each.
    Contacts {
        /// Only of this address of record.
        aor: Option<String>,
    },
    /// The calls: an item for each; done with how many there are.
    Calls {
        /// Items at most.
        count_max: usize,
    },
    /// Our own registrations at carriers: an item for each.
    Registrations {},
    /// The gateways: an item for each.
    Gateways {},
    /// Take a gateway out of service, or put it back.
    GatewayService {
        /// Its name.
        name: String,
        /// Whether it gets calls.
        in_service: bool,
    },
    /// Read the configuration again: done with a list of remarks.
    Reload {},
    /// Who is banned or slowed down: an item for each.
    Bans {},
    /// Ban a source: done with its item.
    BanAdd {
        /// Its address.
        address: IpAddr,
        /// For how long.
        seconds: u64,
    },
    /// Lift what holds a source: an item for each that was held.
    BanRemove {
        /// The source as it is listed, or an address of it; all without one.
        address: Option<String>,
    },
    /// The realm of all domains: done with a text, or null for the domain of the request.
    Realm {},
    /// Add an account.
    SubscriberAdd {
        /// Its address of record.
        aor: String,
        /// What is kept of its password.
        hashes: Hashes,
        /// Other names of it.
        #[serde(default)]
        aliases: Vec<String>,
        /// Addresses of record of others that it may use.
        #[serde(default)]
        may_use: Vec<String>,
    },
    /// Give an account another password.
    SubscriberPassword {
        /// Its address of record.
        aor: String,
        /// What is kept of its password.
        hashes: Hashes,
    },
    /// Give an account one more name: done with a list of remarks.
    AliasAdd {
        /// Its address of record.
        aor: String,
        /// The name.
        alias: String,
    },
    /// Take a name away: done with the address of record of the account that had it.
    AliasRemove {
        /// The name.
        alias: String,
    },
    /// Change how many calls an account may make at a time.
    SubscriberLimit {
        /// Its address of record.
        aor: String,
        /// Null: as the configuration says.
        limit: Option<u32>,
    },
    /// Change whether the media of an account's calls pass the relay.
    SubscriberRelay {
        /// Its address of record.
        aor: String,
        /// Null: as the configuration says.
        rule: Option<RelayRule>,
    },
    /// Change where the calls of an account are forwarded.
    SubscriberForward {
        /// Its address of record.
        aor: String,
        /// What is to be changed.
        change: ForwardChange,
    },
    /// Take an account away.
    SubscriberRemove {
        /// Its address of record.
        aor: String,
    },
    /// Take over the bindings that another server left in the table `location`: an [`ImportItem`] for each step and each row
    /// that is left out; done with an [`ImportView`].
    Import(ImportWish),
    /// The accounts: an item for each.
    SubscriberList {
        /// Only of this domain.
        domain: Option<String>,
    },
}

/// The hashes of a password. The password itself never crosses the socket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hashes {
    /// The realm that is in them.
    pub realm: String,
    /// By MD5, in hex.
    pub md5: String,
    /// By SHA-256, in hex.
    pub sha256: String,
    /// By SHA-512/256, in hex.
    pub sha512_256: String,
}

/// Prints nothing that would let somebody log in.
impl std::fmt::Debug for Hashes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Hashes {{ realm: {:?}, .. }}", self.realm)
    }
}

/// Where calls are to be forwarded. A target that is not named stays as it is; `off` takes it away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForwardChange {
    /// Takes everything away first.
    pub clear: bool,
    /// Every call.
    pub always: Option<String>,
    /// Calls that are refused as busy or declined.
    pub busy: Option<String>,
    /// Calls that nobody takes in time.
    pub no_answer: Option<String>,
    /// What "in time" means, in milliseconds.
    pub after_ms: Option<u64>,
    /// Calls while no phone is registered or can be reached.
    pub not_registered: Option<String>,
}

/// Where calls are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForwardsView {
    /// Every call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always: Option<String>,
    /// Calls that are refused as busy or declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<String>,
    /// Calls that nobody takes in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_answer: Option<String>,
    /// What "in time" means, in milliseconds; without it what the configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// Calls while no phone is registered or can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_registered: Option<String>,
}

/// One line of a reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// One of several.
    Item(Value),
    /// The end.
    Done(Value),
    /// The end: it was not done, and why.
    Failed(String),
}

/// The answer to [`Request::Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// `running`.
    pub state: String,
    /// The node's name.
    pub node: String,
    /// The program's version.
    pub version: String,
    /// The server's process.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Where SIP is served.
    pub listeners: Vec<ListenerView>,
    /// Domains besides the listeners' addresses.
    pub domains: Vec<String>,
    /// Domains whose registrar stands behind this server, each with its URI.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, String>,
    /// Bindings.
    pub bindings: usize,
    /// Accounts in the cache.
    pub accounts_cached: usize,
    /// Transactions alive.
    pub transactions: TransactionsView,
    /// Requests that wait for the database or the resolver.
    pub suspended: usize,
    /// Requests that are being forwarded and have no final answer.
    pub forwarding: usize,
    /// Calls that ring or are up.
    #[serde(default)]
    pub calls: usize,
    /// INVITEs under way and calls of the other node that this one would go on with, or has still to.
    #[serde(default)]
    pub calls_known: usize,
    /// The media relay, if calls go by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayView>,
    /// The rtpengines that relay in the place of this server, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtpengines: Vec<RtpengineView>,
    /// TCP connections.
    pub connections: usize,
    /// TCP connections of this node that the other one would end if this one died.
    #[serde(default)]
    pub connections_told: usize,
    /// TCP connections of the other node that this one would end, or is ending.
    #[serde(default)]
    pub connections_known: usize,
    /// Sources that are banned or restrained.
    pub held: usize,
    /// The overload, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<OverloadView>,
    /// What was counted since the start.
    pub counters: BTreeMap<String, u64>,
    /// The database.
    pub store: StoreView,
    /// The table that servers beside this one read, if bindings are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<PublicationView>,
    /// The tables of domains, peers and gateways, if any are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<TablesView>,
    /// The records of calls, if any are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<RecordsView>,
    /// The other node of a pair.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replica: Option<ReplicaView>,
}

/// The answer to [`Request::Metrics`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricsView {
    /// How the server is.
    pub status: StatusView,
    /// Requests that came, by method.
    pub requests: BTreeMap<String, u64>,
    /// Final responses to them.
    pub answers: Vec<AnswersView>,
    /// How long requests waited.
    pub latencies: Vec<LatencyView>,
    /// Datagrams that the kernel dropped, by listener.
    pub kernel_drops: BTreeMap<String, u64>,
    /// The gateways.
    pub gateways: Vec<GatewayRow>,
    /// Our own registrations at carriers.
    pub registrations: Vec<RegistrationView>,
}

/// How many requests of one method were answered by one class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswersView {
    /// Of the requests.
    pub method: String,
    /// 2 to 6.
    pub class: u8,
    /// How many.
    pub count: u64,
}

/// How long requests of one kind waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyView {
    /// `INVITE`, `REGISTER` or `other`.
    pub method: String,
    /// `answered` or `forwarded`.
    pub outcome: String,
    /// How many waited up to each bound in seconds and longer than the one before; the last one has no bound.
    pub buckets: Vec<(Option<f64>, u64)>,
    /// The sum of all waits in seconds.
    pub sum_s: f64,
}

/// More comes than can be handled. How much of each kind of request is refused, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverloadView {
    /// For how many seconds that has been so.
    pub lasts_s: u64,
    /// Of what begins neither a call nor a registration.
    pub other: u8,
    /// Of registrations from where nobody was registered.
    pub new_registrations: u8,
    /// Of those of known phones.
    pub known_registrations: u8,
    /// Of calls.
    pub calls: u8,
}

/// Transactions alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionsView {
    /// Of requests to us.
    pub server: usize,
    /// Of requests that we sent.
    pub client: usize,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// `udp:192.0.2.5:5060`.
    pub listener: String,
    /// What others are told instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub advertise: Option<String>,
    /// Whether requests must prove who sends them.
    pub digest: bool,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// `ok` or `failing`.
    pub state: String,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Changes that are not yet written.
    pub owed: usize,
    /// Changes that will never be.
    pub dropped: u64,
    /// The copy of a server's accounts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copy: Option<CopyView>,
}

/// Tables of the database that name domains, peers and gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesView {
    /// Their names, versions, and rows that can be used.
    pub tables: Vec<(String, u32, usize)>,
    /// Whose they are.
    pub dialect: String,
    /// How long ago they said so last, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_s: Option<u64>,
    /// Why they can not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// What of them can not be used.
    pub remarks: Vec<String>,
}

/// The copy that a node has of the accounts of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyView {
    /// Accounts in it.
    pub accounts: usize,
    /// How long ago all of it was the same as on the server, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age_s: Option<u64>,
    /// Whether accounts are read from it, because the server can not be asked.
    pub serving: bool,
}

/// The table `location`, which servers beside this one read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationView {
    /// `standby`, `comparing` or `writing`.
    pub state: String,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// For how long it could not be written by now.
    pub away_s: u64,
    /// Bindings that have changed and are not written.
    pub owed: usize,
    /// Rows that were written since the start.
    pub written: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// How often the table could not take a binding.
    pub refused: u64,
    /// How often the table was compared with the bindings.
    pub comparisons: u64,
    /// The last comparison.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<ComparisonView>,
}

/// How the table was found when it was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparisonView {
    /// How long ago that ended.
    pub ago_s: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Rows that were there.
    pub rows: u64,
    /// Bindings whose row was missing or differed.
    pub differing: u64,
    /// Rows that belonged to no binding.
    pub strange: u64,
}

/// The records of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsView {
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// Those that were written since the start.
    pub written: u64,
    /// Those that are not yet written.
    pub waiting: usize,
    /// Those that will never be.
    pub lost: u64,
    /// How it goes with the database, if they are written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<RecordsDatabaseView>,
}

/// The records of calls on their way to the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsDatabaseView {
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// For how long it has been, in seconds.
    pub away_s: u64,
    /// Those that this node has and the database has not.
    pub owed: u64,
    /// How long ago the oldest of these ended, in seconds.
    pub oldest_s: u64,
    /// Those that were written since the start.
    pub written: u64,
    /// Those of which something did not fit into its column.
    pub cut: u64,
    /// Those that the database did not take.
    pub aside: u64,
    /// Those that the other node did not owe too, because they were too many.
    #[serde(default)]
    pub alone: u64,
}

/// One binding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContactView {
    /// Its address of record.
    pub aor: String,
    /// The URI that was registered.
    pub contact: String,
    /// Where the phone was seen: `udp:192.0.2.9:5060`.
    pub received: String,
    /// The listener it registered on.
    pub listener: String,
    /// Whether that listener, or the connection, is there.
    pub reachable: bool,
    /// Seconds left.
    pub expires_s: u64,
    /// Preference from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub q: Option<f64>,
    /// RFC 5626 `+sip.instance`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<String>,
    /// RFC 5626 `reg-id`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reg_id: Option<u32>,
    /// RFC 3327 Path.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub path: Vec<String>,
    /// `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_agent: Option<String>,
    /// Whether the phone sits behind NAT.
    pub nat: bool,
}

/// One registration of ours at a carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationView {
    /// What the configuration calls it.
    pub name: String,
    /// The URI that is registered.
    pub address: String,
    /// Where.
    pub registrar: String,
    /// `registering`, `registered`, `failing`, `unreachable` or `refused`.
    pub state: String,
    /// Seconds for which it still lasts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub granted_s: Option<u64>,
    /// What the carrier said last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_answer: Option<String>,
    /// When that was, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_answer_at: Option<u64>,
    /// Seconds until the next REGISTER; absent while one is under way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_s: Option<u64>,
    /// Attempts in a row that failed.
    pub failures: u32,
}

/// Who is banned or slowed down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanView {
    /// An address, or the /64 of an IPv6 address.
    pub source: String,
    /// The account that is slowed down for this source; the whole source without one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub account: Option<String>,
    /// `banned`, `restrained` or `slowed`.
    pub measure: String,
    /// Why.
    pub cause: String,
    /// Seconds left.
    pub left_s: u64,
    /// The how many-th ban of the source it is, or how many wrong passwords there were.
    pub count: u32,
}

/// One gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRow {
    /// Its name.
    pub name: String,
    /// The group that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// Where it is.
    pub uri: String,
    /// Those with the lowest are tried first.
    pub priority: u16,
    /// Its share among equals.
    pub weight: u16,
    /// How many calls it has, if their number is limited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls: Option<usize>,
    /// How many it may have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub calls_max: Option<u32>,
    /// `up`, `down`, `unknown`, `busy` or `out`.
    pub state: String,
    /// Why, where the state does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Seconds since when it is up, down or unknown.
    pub since_s: u64,
    /// How often it is probed, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe_interval_s: Option<u64>,
    /// Seconds since the last probe that has an end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probed_s: Option<u64>,
    /// What that brought: a status, or words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub probe_answer: Option<String>,
    /// Requests that were sent to it since the start.
    pub tried: u64,
    /// Those that failed because of it.
    pub failed: u64,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberView {
    /// Its address of record.
    pub aor: String,
    /// The realm of its hashes.
    pub realm: String,
    /// Other names of it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Addresses of record of others that it may use.
    #[serde(default)]
    pub may_use: Vec<String>,
    /// Where its calls are forwarded.
    #[serde(default)]
    pub forwards: ForwardsView,
    /// How many calls it may make at a time, if the configuration does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Whether the media of its calls pass the relay, if the configuration does not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub relay: Option<RelayRule>,
}

/// Whether media pass the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayRule {
    /// They do not.
    Never,
    /// They do if one of the phones sits behind a NAT.
    Nat,
    /// They do.
    Always,
}

impl From<routing::Anchoring> for RelayRule {
    fn from(rule: routing::Anchoring) -> Self {
        match rule {
            routing::Anchoring::Never => Self::Never,
            routing::Anchoring::Nat => Self::Nat,
            routing::Anchoring::Always => Self::Always,
        }
    }
}

impl From<RelayRule> for routing::Anchoring {
    fn from(rule: RelayRule) -> Self {
        match rule {
            RelayRule::Never => Self::Never,
            RelayRule::Nat => Self::Nat,
            RelayRule::Always => Self::Always,
        }
    }
}

impl std::fmt::Display for RelayRule {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Never => "never",
            Self::Nat => "nat",
            Self::Always => "always",
        })
    }
}

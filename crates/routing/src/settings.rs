//! What the operator set, compiled and never changed: a reload makes another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sip::{Host, SipUri};
use transaction::Timers;
use transport::{ListenerId, Listeners};

use crate::bans::{Admission, Enforcement};
use crate::{DialPlan, RelayRules, Trunk};

/// All settings of one start or reload. A transaction ends with the settings it began with.
///
/// By default they are those of a server that serves nowhere.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where SIP is served.
    pub listeners: Arc<Listeners>,
    /// Domains besides every listener's own and advertised address; lower case.
    pub domains: BTreeSet<String>,
    /// The `Server` header field's value; `None` sends none.
    pub server: Option<String>,
    /// RFC 3261 §17 timers.
    pub timers: Timers,
    /// Proxy rules.
    pub proxy: Proxy,
    /// Registrar rules.
    pub registrar: Registrar,
    /// Digest rules.
    pub digest: Digest,
    /// NAT rules.
    pub nat: Nat,
    /// Which calls' media pass the relay.
    pub relay: RelayRules,
    /// Peers that need no digest.
    pub trusted: Vec<TrustedPeer>,
    /// Domains whose registrar stands behind this server.
    pub edges: Vec<Edge>,
    /// Whether servers beside this one find its phones in a table, and send to them by the Path that stands there.
    pub is_location_published: bool,
    /// Servers beside this one, whose phones are found in the table that all of them write, and are called by way of them.
    pub location_peers: BTreeSet<IpAddr>,
    /// Our own accounts at carriers, each with a name of its own.
    pub trunks: Vec<Arc<Trunk>>,
    /// Who is slowed down and who is not heard.
    pub admission: Admission,
    /// Gateways, and the routes to them.
    pub dial_plan: DialPlan,
}

/// Rules of RFC 3261 §16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// RFC 3261 §16.6 item 11: restarts on each 101-199; more than 3 minutes.
    pub timer_c: Duration,
    /// How long one branch may ring, counted from its first 101-199; then it is cancelled.
    pub ring_timeout: Duration,
    /// The same where other phones are tried after this one, counted from the sending of the request.
    pub serial_ring_timeout: Duration,
    /// Calls that an account may make at a time, unless it has a limit of its own; `None`: any number.
    pub calls_per_account: Option<u32>,
    /// A call whose end nobody told is taken to have ended after this time.
    pub longest_call: Duration,
    /// After how long both sides of a call without a session timer are asked whether they are there, and how often then;
    /// `None`: never.
    pub long_call_check: Option<Duration>,
    /// Session timers.
    pub session: SessionTimers,
    /// RFC 5393 §5.3: how many branches a request may have at once, all proxies together.
    pub max_breadth: u32,
}

/// Rules of RFC 4028 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimers {
    /// After how long a session is over that nobody has refreshed; a larger wish is lowered to this. `None`: this server asks
    /// for no timers, and follows those that both sides want.
    pub expires: Option<Duration>,
    /// Smaller wishes are refused or raised; 90 seconds at least.
    pub min: Duration,
}

/// Rules of RFC 3261 §10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// Shorter wishes get 423.
    pub min_expires: Duration,
    /// Longer wishes are cut.
    pub max_expires: Duration,
    /// For requests that wish nothing.
    pub default_expires: Duration,
    /// A phone is granted up to so many hundredths less than it asks for, so that those that came in one moment do not
    /// all come back in one; 0: as much as it asks for.
    pub expires_spread_percent: u8,
    /// Contacts of one address of record.
    pub contacts_max: usize,
    /// Who is told to send requests by this server (RFC 3608).
    pub service_route: ServiceRoute,
}

/// Which phones are told by Service-Route that their requests are to come by this server (RFC 3608 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceRoute {
    /// None.
    Off,
    /// Those that register through another proxy, which has put a Path into their REGISTER.
    WithPath,
    /// All.
    Always,
}

/// A digest algorithm (RFC 7616 §3.2, RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// MD5, which most phones know only.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512/256.
    Sha512_256,
}

/// Rules of RFC 7616.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Offered in this order.
    pub algorithms: Vec<Algorithm>,
    /// How `User-Agent` begins in clients that fail when anything but MD5 is offered; in any case of letters.
    pub md5_only_agents: Vec<String>,
    /// The realm of all domains; `None`: the domain of the request.
    pub realm: Option<String>,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
}

/// What keeps a NAT's mapping open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// An OPTIONS request, whose answer also shows that the phone is alive.
    Options,
    /// An empty line; no answer is expected over UDP.
    Crlf,
    /// Nothing.
    Off,
}

/// Rules of NAT traversal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// What is sent to bindings behind NAT.
    pub keepalive: Keepalive,
    /// How often.
    pub interval: Duration,
    /// After so many OPTIONS in a row without an answer a binding is dropped; 0 drops none.
    pub failures: u32,
}

/// A peer that is believed by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedPeer {
    /// Its addresses.
    pub network: IpNet,
    /// For logs.
    pub name: String,
}

/// A domain that this server is the edge of: its phones register through here at a registrar behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The domain: a name in lower case, or an address as it stands in a URI.
    pub domain: String,
    /// The registrar, as a SIP URI.
    pub to: String,
    /// This server's address that the registrar sees; `None`: the one that the phone has reached.
    pub from: Option<IpAddr>,
    /// How the registrar is told the way to a phone.
    pub contact: EdgeContact,
}

/// How the registrar behind an edge is told the way to a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeContact {
    /// By Path (RFC 3327); the Contact is the phone's own.
    Keep,
    /// By a Contact that leads to this server, for registrars that do not know Path.
    Rewrite,
}

impl Edge {
    /// The registrar's address, if its URI names one.
    pub fn address(&self) -> Option<IpAddr> {
        let uri = SipUri::parse(self.to.as_bytes()).ok()?;
        Some(uri.host.ip()?.to_canonical())
    }

    /// The listener that the registrar sees, if one is set; it may be of another transport.
    pub fn listener(&self, listeners: &Listeners) -> Option<ListenerId> {
        let from = self.from?.to_canonical();
        listeners.iter().find(|it| it.local.0.ip().to_canonical() == from).map(|listener| listener.id)
    }

    /// Whether this is the host of the domain.
    pub fn has_domain(&self, host: &Host<'_>) -> bool {
        let same_name = match host {
            Host::Name(name) => {
                let bare = name.strip_suffix(b".").unwrap_or(name);
                bare.eq_ignore_ascii_case(self.domain.as_bytes())
            }
            Host::V4(_) | Host::V6(_) => false,
        };
        same_name || Host::parse(self.domain.as_bytes()).is_ok_and(|domain| domain == *host)
    }
}

impl Settings {
    /// The edge of this domain.
    pub fn edge(&self, host: &Host<'_>) -> Option<&Edge> {
        self.edges.iter().find(|edge| edge.has_domain(host))
    }

    /// Whether the registrar of an edge has this address.
    pub fn is_registrar(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.edges.iter().any(|edge| edge.address() == Some(address))
    }

    /// Whether what comes from this address is believed, and what goes there is told what this server knows: a trusted
    /// peer, or the registrar of an edge. Only the former may send requests to anywhere.
    pub fn is_peer(&self, address: IpAddr) -> bool {
        self.trusted_peer(address).is_some() || self.is_registrar(address)
    }

    /// Whether `host` is a domain that this server is responsible for (RFC 3261 §16.5).
    pub fn is_own_domain(&self, host: &Host<'_>) -> bool {
        let named = match host {
            Host::Name(name) => str::from_utf8(name).is_ok_and(|name| {
                self.domains.contains(name.trim_end_matches('.').to_ascii_lowercase().as_str())
            }),
            Host::V4(_) | Host::V6(_) => false,
        };
        named || self.listeners.has_host(host)
    }

    /// Our own account of this name.
    pub fn trunk(&self, name: &str) -> Option<&Arc<Trunk>> {
        self.trunks.iter().find(|trunk| &*trunk.name == name)
    }

    /// Whether somebody at this address believes what this server sends: a peer, or a gateway.
    pub fn is_believing(&self, address: IpAddr) -> bool {
        self.is_peer(address) || self.dial_plan.has_address(address)
    }

    /// The trusted peer that has this address.
    pub fn trusted_peer(&self, address: IpAddr) -> Option<&TrustedPeer> {
        let address = address.to_canonical();
        self.trusted.iter().find(|peer| peer.network.contains(&address))
    }

    /// Whether whoever has this address is never slowed or banned.
    pub fn is_never_held(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.admission.enforcement == Enforcement::Off
            || self.admission.is_named_never(address)
            || self.is_peer(address)
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            timer_c: Duration::from_secs(190),
            ring_timeout: Duration::from_secs(120),
            serial_ring_timeout: Duration::from_secs(30),
            calls_per_account: None,
            longest_call: Duration::from_secs(12 * 3_600),
            long_call_check: None,
            session: SessionTimers { expires: None, min: Duration::from_secs(90) },
            max_breadth: 60,
        }
    }
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            min_expires: Duration::from_secs(60),
            max_expires: Duration::from_secs(3_600),
            default_expires: Duration::from_secs(3_600),
            expires_spread_percent: 10,
            contacts_max: 10,
            service_route: ServiceRoute::Off,
        }
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            md5_only_agents: ["baresip v0", "baresip v1", "sipp", "sipsak"].map(str::to_owned).into(),
            realm: None,
            nonce_lifetime: Duration::from_secs(300),
        }
    }
}

impl Default for Nat {
    fn default() -> Self {
        Self { keepalive: Keepalive::Options, interval: Duration::from_secs(25), failures: 3 }
    }
}

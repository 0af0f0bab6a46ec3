//! Who is around the engine, where it listens, and what the operator set.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use routing::{Account, Algorithm, Digest, Keepalive, Nat, Proxy, SessionTimers, Settings, TrustedPeer};
use sip::Aor;
use transaction::Timers;
use transport::{Advertise, Listener, ListenerId, Listeners, LocalAddr, Transport};

use super::digest;

/// The domain that is served.
pub(super) const DOMAIN: &str = "example.org";

/// Users with an account. The password of each is its name twice.
pub(super) const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// Another name of bob.
pub(super) const ALIAS: &str = "robert";

/// A peer, and the listener that it speaks with.
pub(super) struct Peer {
    pub(super) remote: &'static str,
    pub(super) listener: ListenerId,
    /// What it believes to be its own address.
    pub(super) own: &'static str,
}

pub(super) const UDP: ListenerId = ListenerId(0);
pub(super) const TCP: ListenerId = ListenerId(1);
pub(super) const UDP_SIX: ListenerId = ListenerId(2);
pub(super) const INSIDE: ListenerId = ListenerId(3);
pub(super) const OPEN: ListenerId = ListenerId(4);

/// The peers by their number in a program.
pub(super) const PEERS: [Peer; 8] = [
    Peer { remote: "192.0.2.101:5060", listener: UDP, own: "192.0.2.101:5060" },
    Peer { remote: "192.0.2.102:5060", listener: UDP, own: "192.0.2.102:5060" },
    Peer { remote: "198.51.100.7:31000", listener: UDP, own: "10.9.9.9:5060" },
    Peer { remote: "[2001:db8::15]:5060", listener: UDP_SIX, own: "[2001:db8::15]:5060" },
    Peer { remote: "198.51.100.200:5060", listener: UDP, own: "198.51.100.200:5060" },
    Peer { remote: "203.0.113.66:5060", listener: UDP, own: "203.0.113.66:5060" },
    Peer { remote: "10.0.0.9:5060", listener: OPEN, own: "10.0.0.9:5060" },
    Peer { remote: "192.0.2.104:5070", listener: INSIDE, own: "192.0.2.104:5070" },
];

/// The peer that has no account, hears no challenge of others and is not trusted.
pub(super) const STRANGER: usize = 5;

/// How many kinds of settings there are.
pub(super) const SETTINGS: u8 = 5;

/// Where the names of other domains lead.
pub(super) const ELSEWHERE: [&str; 3] = ["198.51.100.250:5060", "198.51.100.251:5080", "[2001:db8::50]:5060"];

pub(super) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address of this crate")
}

/// The settings of a number: the first are those of the start.
pub(super) fn settings(number: u8) -> Arc<Settings> {
    let mut settings = base();
    match number % SETTINGS {
        1 => {
            settings.nat = Nat { keepalive: Keepalive::Crlf, interval: Duration::from_secs(10), failures: 1 };
            settings.digest.algorithms = vec![Algorithm::Md5];
            settings.server = None;
        }
        2 => {
            settings.listeners = Arc::new(Listeners::new(listeners().into_iter().take(2).collect()));
            settings.digest.realm = Some("realm of all".to_owned());
            settings.trusted.clear();
        }
        3 => {
            settings.proxy = Proxy {
                timer_c: Duration::from_secs(185),
                ring_timeout: Duration::from_secs(5),
                serial_ring_timeout: Duration::from_secs(3),
                calls_per_account: Some(1),
                longest_call: Duration::from_secs(60),
                long_call_check: Some(Duration::from_secs(20)),
                session: SessionTimers {
                    expires: Some(Duration::from_secs(120)),
                    min: Duration::from_secs(90),
                },
                max_breadth: 2,
            };
            settings.timers = Timers { t1: Duration::from_millis(50), ..Timers::default() };
            settings.registrar.contacts_max = 1;
            settings.digest.nonce_lifetime = Duration::from_secs(20);
        }
        4 => {
            settings.proxy.max_breadth = 0;
            settings.nat.keepalive = Keepalive::Off;
            // The shortest that make sense; what is under way takes them too.
            let (t1, t2) = (Duration::from_millis(10), Duration::from_millis(200));
            settings.timers = Timers { t1, t2, t4: t1 };
            settings.domains.clear();
        }
        _ => {}
    }
    Arc::new(settings)
}

/// What the store knows of an address of record.
pub(super) fn account(aor: &Aor) -> Option<Arc<Account>> {
    let user = if aor.user() == ALIAS { "bob" } else { aor.user() };
    if aor.domain() != DOMAIN || !USERS.contains(&user) {
        return None;
    }
    let named = |user: &str| Aor::parse(&format!("{user}@{DOMAIN}"));
    let ha1 = |algorithm| (algorithm, digest::ha1(algorithm, user, DOMAIN).into_boxed_str());
    Some(Arc::new(Account {
        aor: named(user)?,
        ha1: vec![ha1(Algorithm::Md5), ha1(Algorithm::Sha256)],
        aliases: if user == "bob" { named(ALIAS).into_iter().collect() } else { Vec::new() },
        may_use: if user == "erin" { named("dave").into_iter().collect() } else { Vec::new() },
        calls: Default::default(),
    }))
}

fn base() -> Settings {
    Settings {
        listeners: Arc::new(Listeners::new(listeners())),
        domains: BTreeSet::from([DOMAIN.to_owned()]),
        server: Some("Tandem".to_owned()),
        digest: Digest { algorithms: vec![Algorithm::Sha256, Algorithm::Md5], ..Digest::default() },
        trusted: vec![TrustedPeer {
            network: "198.51.100.200/32".parse().expect("a network"),
            name: "carrier".to_owned(),
        }],
        ..Settings::default()
    }
}

fn listeners() -> Vec<Listener> {
    let listener = |id, transport, local, digest| Listener {
        id,
        transport,
        local: LocalAddr(address(local)),
        advertise: None,
        digest,
    };
    let advertise = Some(Advertise { host: "203.0.113.10".to_owned(), port: None });
    vec![
        listener(UDP, Transport::Udp, "192.0.2.1:5060", true),
        listener(TCP, Transport::Tcp, "192.0.2.1:5060", true),
        listener(UDP_SIX, Transport::Udp, "[2001:db8::1]:5060", true),
        Listener { advertise, ..listener(INSIDE, Transport::Udp, "10.0.0.5:5060", true) },
        listener(OPEN, Transport::Udp, "10.0.0.5:5080", false),
    ]
}

//! Who lives in a world, and where: the server's listeners, the phones, their routers, the neighbours.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::WallTime;
use ipnet::IpNet;
use routing::dial_plan::{
    CallerRules, DialPlan, Fits, Gateway, Goal, HeaderEdits, Pattern, Rewrite, Route, Watch,
};
use routing::{
    AtStop, Digest, Edge, EdgeContact, Keepalive, Login, Nat as NatRules, Password, Proxy, Registrar,
    Registration, Settings, StoredBinding, Trunk, TrustedPeer,
};
use sip::{Aor, Status};
use transport::{Advertise, Listener, ListenerId, Listeners, LocalAddr, Transport};

use crate::nat::{Dependence, Nat, Refresh};
use crate::neighbour::Neighbour;
use crate::phone::{Algorithm, Setup, TIMERS};
use crate::rng::Rng;

/// The domain that the server serves.
pub(crate) const DOMAIN: &str = "example.org";
/// The name of a domain that is elsewhere.
pub(crate) const FOREIGN_DOMAIN: &str = "foreign.example";
/// The server's first address, for UDP and TCP.
pub(crate) const FIRST: SocketAddr = v4(203, 0, 113, 10, 5060);
/// Its second address, for UDP only.
pub(crate) const SECOND: SocketAddr = v4(203, 0, 113, 20, 5080);
/// Its address for IPv6, for UDP and TCP.
pub(crate) const SIXTH: SocketAddr = v6(0x10, 5060);
/// Its address behind a 1:1 NAT, as the world sees it.
pub(crate) const ADVERTISED: SocketAddr = v4(203, 0, 113, 30, 5060);
/// The same address, as the server's host sees it.
pub(crate) const BEHIND_ADVERTISED: SocketAddr = v4(10, 9, 0, 5, 5060);
/// The trusted neighbour.
pub(crate) const NEIGHBOUR: SocketAddr = v4(192, 0, 2, 200, 5060);
/// The phone of the foreign domain.
pub(crate) const FOREIGNER: SocketAddr = v4(198, 51, 100, 200, 5060);
/// A server of the foreign domain that is dead. The DNS names it first.
pub(crate) const DEAD_SERVER: SocketAddr = v4(198, 51, 100, 201, 5060);
/// A domain whose registrar stands behind the server.
pub(crate) const EDGE_DOMAIN: &str = "edge.example";
/// That registrar.
pub(crate) const REGISTRAR: SocketAddr = v4(192, 0, 2, 210, 5060);
/// A carrier at which the server has an account.
pub(crate) const CARRIER: SocketAddr = v4(192, 0, 2, 220, 5060);
/// The account's name and password.
pub(crate) const CARRIER_LOGIN: (&str, &str) = ("trunk", "secret of the trunk");
/// A gateway that answers no calls. The next one of its route is a phone of the cast.
pub(crate) const FAILING_GATEWAY: SocketAddr = v4(198, 51, 100, 202, 5060);
/// The gateway that does.
const GATEWAY: SocketAddr = v4(198, 51, 100, 23, 5060);
/// A user whose calls all go to Alice.
pub(crate) const FORWARDED: &str = "forwarded";
/// From where strangers send.
pub(crate) const STRANGER: SocketAddr = v4(198, 18, 0, 66, 5066);
/// Whom strangers want to reach through the server.
pub(crate) const VICTIM: SocketAddr = v4(198, 18, 0, 99, 5060);

/// One phone of the cast.
pub(crate) struct Member {
    /// What it is.
    pub(crate) setup: Setup,
    /// The router that it sits behind.
    pub(crate) nat: Option<usize>,
    /// Whether it has an account and registers.
    pub(crate) registers: bool,
}

/// Who lives in a world.
pub(crate) struct Cast {
    /// The phones.
    pub(crate) members: Vec<Member>,
    /// The routers.
    pub(crate) nats: Vec<Nat>,
    /// The trusted proxy.
    pub(crate) neighbour: Neighbour,
}

/// The phones by their place in the cast.
pub(crate) mod who {
    /// Open to the world, UDP.
    pub(crate) const ALICE: usize = 0;
    /// Behind the first router, UDP.
    pub(crate) const BOB: usize = 1;
    /// Bob's second phone: open, TCP.
    pub(crate) const BOB_TCP: usize = 2;
    /// Bob's third phone: IPv6, UDP.
    pub(crate) const BOB_SIX: usize = 3;
    /// Behind the second router, TCP, with an instance.
    pub(crate) const CAROL: usize = 4;
    /// IPv6, UDP.
    pub(crate) const DAVE: usize = 5;
    /// Open, UDP, at the server's second address.
    pub(crate) const ERIN: usize = 6;
    /// Behind the first router, UDP, at the advertised address.
    pub(crate) const FRANK: usize = 7;
    /// IPv6, TCP.
    pub(crate) const GRACE: usize = 8;
    /// Behind the second router, UDP.
    pub(crate) const HENRY: usize = 9;
    /// Does not register; belongs to the foreign domain.
    pub(crate) const ZOE: usize = 10;
    /// Has an account but not its password.
    pub(crate) const MALLORY: usize = 11;
    /// Does not register: it is behind a gateway, with all numbers.
    pub(crate) const GATEWAY: usize = 12;
    /// Registers through the server at the registrar behind it.
    pub(crate) const IVAN: usize = 13;
    /// All that register at the server itself.
    pub(crate) const REGISTERED: [usize; 10] =
        [ALICE, BOB, BOB_TCP, BOB_SIX, CAROL, DAVE, ERIN, FRANK, GRACE, HENRY];
}

/// Users with an account.
const USERS: [&str; 14] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "henry", "mallory", "nobody", "loop",
    "to-alice", "to-bob", FORWARDED,
];

/// The users with an account, with their passwords.
pub(crate) fn accounts() -> impl Iterator<Item = (&'static str, String)> {
    USERS.into_iter().map(|user| (user, password_of(user)))
}

/// The password of a user.
pub(crate) fn password_of(user: &str) -> String {
    format!("secret of {user}")
}

/// The cast of a seed: the same people, with other habits and other routers.
pub(crate) fn cast(rng: &mut Rng, settings: &Settings) -> Cast {
    let likings = [vec![Algorithm::Md5], vec![Algorithm::Sha256], vec![Algorithm::Sha256, Algorithm::Md5]];
    let mut member = |user: &str, local, server, transport, nat: Option<usize>| {
        let liked = likings[rng.index(likings.len())].clone();
        let setup = Setup {
            user: user.to_owned(),
            domain: DOMAIN.to_owned(),
            password: password_of(user),
            local,
            server,
            transport,
            liked,
            instance: transport == Transport::Tcp && rng.chance(600),
            strict: rng.chance(100),
            q: None,
            preloads: rng.chance(200),
            expires: Duration::from_secs(rng.pick(&[30, 90, 300, 3_600])),
        };
        Member { setup, nat, registers: true }
    };
    use Transport::{Tcp, Udp};
    let mut members = vec![
        member("alice", v4(198, 51, 100, 11, 5060), FIRST, Udp, None),
        member("bob", v4(10, 1, 0, 12, 5060), FIRST, Udp, Some(0)),
        member("bob", v4(198, 51, 100, 13, 5060), FIRST, Tcp, None),
        member("bob", v6(0x1013, 5060), SIXTH, Udp, None),
        member("carol", v4(10, 2, 0, 14, 5060), FIRST, Tcp, Some(1)),
        member("dave", v6(0x1015, 5062), SIXTH, Udp, None),
        member("erin", v4(198, 51, 100, 16, 5070), SECOND, Udp, None),
        member("frank", v4(10, 1, 0, 17, 5060), ADVERTISED, Udp, Some(0)),
        member("grace", v6(0x1018, 5060), SIXTH, Tcp, None),
        member("henry", v4(10, 2, 0, 19, 5061), FIRST, Udp, Some(1)),
        member("zoe", FOREIGNER, FIRST, Udp, None),
        member("mallory", v4(198, 51, 100, 21, 5060), FIRST, Udp, None),
        member("gateway", GATEWAY, FIRST, Udp, None),
        member("ivan", v4(198, 51, 100, 24, 5060), FIRST, Udp, None),
    ];
    members[who::ZOE].setup.domain = FOREIGN_DOMAIN.to_owned();
    members[who::ZOE].registers = false;
    members[who::MALLORY].setup.password = "guessed".to_owned();
    members[who::MALLORY].registers = false;
    members[who::GATEWAY].registers = false;
    members[who::IVAN].setup.domain = EDGE_DOMAIN.to_owned();
    members[who::IVAN].setup.liked = vec![Algorithm::Md5];
    // An empty line gets no answer: it keeps only a mapping that packets from outside keep.
    let refresh = match settings.nat.keepalive {
        Keepalive::Options => Refresh::FromInside,
        Keepalive::Crlf | Keepalive::Off => Refresh::FromBothSides,
    };
    let mut nat = |host| {
        // More than two keepalives apart, so that one may be missed while the server starts.
        let timeout = rng.between(Duration::from_secs(60), Duration::from_secs(180));
        let kinds = (rng.pick(&Dependence::ALL), rng.pick(&Dependence::ALL));
        Nat::new(v4(192, 0, 2, host, 0).ip(), kinds, refresh, timeout)
    };
    let nats = vec![nat(1), nat(2)];
    let neighbour = Neighbour { address: NEIGHBOUR, server: FIRST, records: rng.chance(500) };
    if rng.chance(300) {
        members[who::BOB].setup.q = Some("1.0");
        members[who::BOB_TCP].setup.q = Some("0.5");
        members[who::BOB_SIX].setup.q = Some(rng.pick(&["0.5", "0.25"]));
    }
    Cast { members, nats, neighbour }
}

/// A guesser moves to where phones of ours are: behind the first router.
pub(crate) fn guess_from_the_office(cast: &mut Cast) {
    let mallory = &mut cast.members[who::MALLORY];
    mallory.setup.local = v4(10, 1, 0, 21, 5060);
    mallory.nat = Some(0);
}

/// The settings of a seed.
pub(crate) fn settings(rng: &mut Rng) -> Settings {
    let mut settings = defaults();
    settings.nat.keepalive = if rng.chance(800) { Keepalive::Options } else { Keepalive::Crlf };
    settings.digest.nonce_lifetime = Duration::from_secs(rng.pick(&[60, 300]));
    settings.proxy.ring_timeout = Duration::from_secs(rng.pick(&[30, 120]));
    settings.admission.calls_per_minute = 60;
    // A guesser that tries once in a quarter of a minute is banned within the story.
    settings.admission.failures_max = 8;
    with_elsewhere(settings)
}

/// The same settings, with the servers of others and the ways to them.
pub(crate) fn with_elsewhere(settings: Settings) -> Settings {
    Settings { edges: vec![edge()], trunks: vec![Arc::new(trunk())], dial_plan: dial_plan(), ..settings }
}

fn edge() -> Edge {
    let to = format!("sip:{REGISTRAR}");
    Edge { domain: EDGE_DOMAIN.to_owned(), to, from: None, contact: EdgeContact::Keep }
}

fn trunk() -> Trunk {
    let (user, password) = CARRIER_LOGIN;
    Trunk {
        name: "carrier".into(),
        login: Login { username: user.to_owned(), password: Password::new(password), realm: None },
        registration: Some(Registration {
            registrar: format!("sip:{CARRIER}"),
            address: format!("sip:{user}@{CARRIER}"),
            contact_user: user.to_owned(),
            expires: Duration::from_secs(600),
            listener: Some((Transport::Udp, LocalAddr(FIRST))),
            proxy: None,
            at_stop: AtStop::Remove,
        }),
        called: None,
    }
}

/// Numbers that begin with 0 go to a gateway that takes no calls now, to one that fails and then to one that does not; some
/// go nowhere.
fn dial_plan() -> DialPlan {
    let full = gateway("full", FAILING_GATEWAY, Some(0), None);
    let failing = gateway("failing", FAILING_GATEWAY, None, Some(Duration::from_secs(30)));
    let working = gateway("working", GATEWAY, None, None);
    let mut plan = numbers_by(vec![full, failing, working]);
    plan.routes.insert(0, route("expensive", "0900.", Goal::Reject(Status::FORBIDDEN)));
    plan
}

/// Numbers that begin with 0 go to the first of these gateways that takes the call.
pub(crate) fn numbers_by(gateways: Vec<Arc<Gateway>>) -> DialPlan {
    let goal = Goal::Gateways(gateways.iter().map(|gateway| vec![Arc::clone(gateway)]).collect());
    DialPlan { gateways, routes: vec![route("numbers", "0.", goal)] }
}

/// A gateway by its address, which may be looked after and take so many calls.
pub(crate) fn gateway(
    name: &str,
    address: SocketAddr,
    calls_max: Option<u32>,
    probed: Option<Duration>,
) -> Arc<Gateway> {
    Arc::new(Gateway {
        name: name.into(),
        group: None,
        uri: Bytes::from(format!("sip:{address}")),
        registration: None,
        via: None,
        priority: 0,
        weight: 1,
        calls_max,
        watch: Watch {
            interval: probed,
            failures: 3,
            successes: 2,
            refusals: BTreeSet::from([Status::REQUEST_TIMEOUT, Status::SERVICE_UNAVAILABLE]),
        },
        answer_timeout: Duration::from_secs(4),
        sources: Vec::new(),
        rewrite: Rewrite::default(),
        caller: CallerRules::default(),
        headers: HeaderEdits::default(),
        relay: None,
    })
}

fn route(name: &str, number: &str, goal: Goal) -> Arc<Route> {
    Arc::new(Route {
        name: name.into(),
        fits: Fits { numbers: Pattern::parse(number).into_iter().collect(), ..Fits::default() },
        rewrite: Rewrite::default(),
        caller: None,
        headers: HeaderEdits::default(),
        goal,
    })
}

/// The defaults, with these listeners and names.
pub(crate) fn defaults() -> Settings {
    let listener = |number, transport, local: SocketAddr, advertise: Option<SocketAddr>| Listener {
        id: ListenerId(number),
        transport,
        local: LocalAddr(local),
        advertise: advertise
            .map(|address| Advertise { host: address.ip().to_string(), port: Some(address.port()) }),
        digest: true,
    };
    let listeners = vec![
        listener(0, Transport::Udp, FIRST, None),
        listener(1, Transport::Tcp, FIRST, None),
        listener(2, Transport::Udp, SECOND, None),
        listener(3, Transport::Udp, SIXTH, None),
        listener(4, Transport::Tcp, SIXTH, None),
        listener(5, Transport::Udp, BEHIND_ADVERTISED, Some(ADVERTISED)),
    ];
    let trusted = TrustedPeer { network: IpNet::from(NEIGHBOUR.ip()), name: "neighbour".to_owned() };
    Settings {
        listeners: Arc::new(Listeners::new(listeners)),
        domains: BTreeSet::from([DOMAIN.to_owned()]),
        server: Some("Tandem".to_owned()),
        relay: routing::RelayRules::default(),
        timers: TIMERS,
        proxy: Proxy::default(),
        registrar: Registrar::default(),
        digest: Digest::default(),
        nat: NatRules::default(),
        edges: Vec::new(),
        is_location_published: false,
        location_peers: Default::default(),
        trunks: Vec::new(),
        trusted: vec![trusted],
        admission: Default::default(),
        dial_plan: routing::DialPlan::default(),
    }
}

/// Bindings that were there before the world began: users whose calls the neighbour sends back.
pub(crate) fn bindings_of_old(far: WallTime) -> Vec<StoredBinding> {
    ["loop", "to-alice", "to-bob"]
        .into_iter()
        .filter_map(|user| {
            Some(StoredBinding {
                aor: Aor::parse(&format!("{user}@{DOMAIN}"))?,
                contact: Bytes::from(format!("sip:{user}@{NEIGHBOUR}")),
                listener: (Transport::Udp, LocalAddr(FIRST)),
                received: NEIGHBOUR,
                path: Vec::new(),
                instance: None,
                reg_id: None,
                q: None,
                call_id: Bytes::from_static(b"of old"),
                cseq: 1,
                user_agent: None,
                nat: false,
                response_hash: 0,
                expires_at: far,
            })
        })
        .collect()
}

/// The world's address of a server's own one.
pub(crate) fn public_of(local: SocketAddr) -> SocketAddr {
    if local == BEHIND_ADVERTISED { ADVERTISED } else { local }
}

/// The server's own address of the one that the world sees; `None`: it is not the server's.
pub(crate) fn local_of(public: SocketAddr) -> Option<SocketAddr> {
    match public {
        ADVERTISED => Some(BEHIND_ADVERTISED),
        FIRST | SECOND | SIXTH => Some(public),
        _ => None,
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

const fn v6(host: u16, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)), port)
}

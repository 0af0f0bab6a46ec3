//! Who lives in the world of a pair: phones in the open and behind routers, and users that were there before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::WallTime;
use routing::{Keepalive, Settings, StoredBinding};
use sip::Aor;
use transport::{LocalAddr, Transport};

use crate::cast::{DOMAIN, FIRST, NEIGHBOUR, SECOND, password_of};
use crate::nat::{Dependence, Nat, Refresh};
use crate::phone::{Algorithm, Setup, TIMERS};
use crate::rng::Rng;

/// Who calls the others and is not called.
pub(super) const CALLER: usize = 6;
/// A phone of the world, by its place.
const PHONES: [(&str, SocketAddr, SocketAddr, Option<usize>); 7] = [
    ("alice", at(198, 51, 100, 11, 5060), FIRST, None),
    ("bob", at(10, 1, 0, 12, 5060), FIRST, Some(0)),
    ("carol", at(10, 2, 0, 14, 5060), SECOND, Some(1)),
    ("dave", at(198, 51, 100, 15, 5062), SECOND, None),
    ("erin", at(10, 1, 0, 16, 5070), SECOND, Some(0)),
    ("frank", at(10, 2, 0, 17, 5060), FIRST, Some(1)),
    ("henry", at(198, 51, 100, 19, 5061), FIRST, None),
];
/// How long a nonce is good.
pub(super) const NONCE_LIFETIME: Duration = Duration::from_secs(300);
/// How often a phone behind NAT hears of the server.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(25);

/// What every phone of a seed is, with its router.
pub(super) fn phones(rng: &mut Rng) -> Vec<(Setup, Option<usize>)> {
    let likings = [vec![Algorithm::Md5], vec![Algorithm::Sha256, Algorithm::Md5]];
    let mut phone = |(user, local, server, nat): (&str, SocketAddr, SocketAddr, Option<usize>)| {
        let setup = Setup {
            user: user.to_owned(),
            domain: DOMAIN.to_owned(),
            password: password_of(user),
            local,
            server,
            transport: Transport::Udp,
            liked: likings[rng.index(likings.len())].clone(),
            instance: rng.chance(300),
            strict: false,
            q: None,
            preloads: false,
            expires: Duration::from_secs(rng.pick(&[30, 60, 300, 3_600])),
        };
        (setup, nat)
    };
    PHONES.map(&mut phone).into()
}

/// The routers. Only what comes from inside keeps a mapping, and no cut of a storm is as long as one lasts.
pub(super) fn nats(rng: &mut Rng) -> Vec<Nat> {
    let mut nat = |host| {
        let timeout = rng.between(Duration::from_secs(100), Duration::from_secs(180));
        let kinds = (rng.pick(&Dependence::ALL), rng.pick(&Dependence::ALL));
        Nat::new(at(192, 0, 2, host, 0).ip(), kinds, Refresh::FromInside, timeout)
    };
    vec![nat(1), nat(2)]
}

/// What both nodes are set to.
pub(super) fn settings() -> Settings {
    let mut settings = crate::cast::defaults();
    settings.timers = TIMERS;
    settings.nat.keepalive = Keepalive::Options;
    settings.nat.interval = KEEPALIVE;
    settings.registrar.min_expires = Duration::from_secs(30);
    settings.digest.nonce_lifetime = NONCE_LIFETIME;
    settings
}

/// The settings, to be shared.
pub(super) fn shared_settings() -> Arc<Settings> {
    Arc::new(settings())
}

/// Bindings that are there from the beginning, and have nothing to do but to be carried over.
pub(super) fn old_bindings(count: u64, far: WallTime) -> Vec<StoredBinding> {
    let binding = |number| {
        Some(StoredBinding {
            aor: Aor::parse(&format!("old{number}@{DOMAIN}"))?,
            contact: Bytes::from(format!("sip:old{number}@{NEIGHBOUR}")),
            listener: (Transport::Udp, LocalAddr(FIRST)),
            received: NEIGHBOUR,
            path: Vec::new(),
            instance: None,
            reg_id: None,
            q: None,
            call_id: Bytes::from(format!("of old {number}")),
            cseq: 1,
            user_agent: Some(Bytes::from_static(b"a phone of long ago")),
            nat: false,
            response_hash: number,
            expires_at: far,
        })
    };
    (0..count).filter_map(binding).collect()
}

const fn at(a: u8, b: u8, c: u8, d: u8, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

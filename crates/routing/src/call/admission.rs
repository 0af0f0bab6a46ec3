//! Who sent a request: challenges, the credentials that answer them, and who needs none.
//!
//! The offer depends on the domain alone, never on the user: a stranger learns from it neither which
//! users there are nor what is stored of them.

use std::fmt::Write as _;

use bytes::Bytes;
use clock::WallTime;
use sip::{
    Aor, AuthValue, Challenge, Credentials, Freshness, Host, Message, Method, Name, NameAddr, SipUri, Status,
    Uri,
};
use transport::Source;

use super::edge;
use super::inbound::Sender;
use super::nonce::{self, Verdict};
use super::reply::Reply;
use crate::bans::Evidence;
use crate::gruu::{self, Gruu};
use crate::{Algorithm, Authenticate, Keyring, Quality, Settings};

/// Credentials of our realms that are looked at in one request. A phone sends one for each algorithm at most.
const CREDENTIALS_MAX: usize = 8;

// RFC 3323 §4.1.1.3: the domain of a caller that does not tell who it is.
const ANONYMOUS_DOMAIN: &[u8] = b"anonymous.invalid";

/// By what right a request needs no digest.
pub(super) fn without_digest(settings: &Settings, source: &Source) -> Option<Sender> {
    if settings.trusted_peer(source.flow.remote().0.ip()).is_some() {
        return Some(Sender::Trusted);
    }
    by_open_listener(settings, source)
}

/// Whether the listener that a request came in on asks nobody for digest.
pub(super) fn by_open_listener(settings: &Settings, source: &Source) -> Option<Sender> {
    match settings.listeners.get(source.flow.listener()) {
        Some(listener) if !listener.digest => Some(Sender::Open),
        _ => None,
    }
}

/// What a sender has to prove, and in whose name it is asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Realm {
    /// As it stands in the challenge.
    pub(super) text: String,
    /// The domain of the accounts.
    pub(super) domain: String,
}

/// The realm for a request: that of the domain it speaks for, else of the domain it is meant for.
pub(super) fn realm(settings: &Settings, source: &Source, request: &Message<'_>) -> Realm {
    let identity = if request.method() == Some(Method::Register) { request.to() } else { request.from() };
    let identity = identity.ok().map(|address| address.uri);
    let domain = [identity, request.request_uri()]
        .into_iter()
        .flatten()
        .filter_map(|uri| SipUri::parse(uri).ok())
        .find(|uri| settings.is_own_domain(&uri.host))
        .map_or_else(|| listener_host(settings, source), |uri| domain_text(&uri.host));
    Realm { text: settings.digest.realm.clone().unwrap_or_else(|| domain.clone()), domain }
}

/// What the credentials of a request are worth before the account is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// There are none that could be right.
    None,
    /// Their nonce is ours, but too old.
    Stale,
    /// The account has to judge them.
    Offered(Box<Authenticate>),
}

/// Finds the credentials of `realm`. `owns` is the address of record that they must be good for; without one it is
/// the account's own.
pub(super) fn proof(
    settings: &Settings,
    keyring: &Keyring,
    now: WallTime,
    source: &Source,
    request: &Message<'_>,
    realm: &Realm,
    owns: Option<&Aor>,
) -> Proof {
    let mut best = Proof::None;
    let lines = request.lines(credentials_name(request)).filter_map(|line| Credentials::parse(line).ok());
    for credentials in lines.take(CREDENTIALS_MAX) {
        let is_ours = credentials.realm.is_some_and(|value| value.is_ignoring_case(realm.text.as_bytes()));
        let Some(nonce) = credentials.nonce.filter(|_| is_ours && credentials.is_digest()) else { continue };
        let lifetime = settings.digest.nonce_lifetime;
        let text = realm.text.as_bytes();
        match nonce::judge(&keyring.nonce, text, &source.flow, now, lifetime, nonce.as_bytes()) {
            Verdict::Foreign => {}
            Verdict::Stale => best = Proof::Stale,
            Verdict::Good(nonce_left, evidence) => {
                if let Some(question) = question(settings, source, request, realm, &credentials, owns) {
                    return Proof::Offered(Box::new(Authenticate { nonce_left, evidence, ..question }));
                }
            }
        }
    }
    best
}

/// The refusal that asks for credentials.
pub(super) fn challenge(
    settings: &Settings,
    nonce: &[u8],
    request: &Message<'_>,
    realm: &Realm,
    freshness: Freshness,
) -> Reply {
    // RFC 3261 §22.1: a registrar is the end of its request and answers 401, a proxy 407.
    let (status, name) = match request.method() {
        Some(Method::Register) => (Status::UNAUTHORIZED, Name::WwwAuthenticate),
        _ => (Status::PROXY_AUTHENTICATION_REQUIRED, Name::ProxyAuthenticate),
    };
    // RFC 8760 §2.4: one header field for each algorithm, the preferred one first.
    offer(settings, request).iter().fold(Reply::new(status), |reply, algorithm| {
        let mut value = Vec::with_capacity(160);
        let algorithm = algorithm.name().as_bytes();
        Challenge { realm: realm.text.as_bytes(), nonce, algorithm, freshness }.write(&mut value);
        reply.with(name, value)
    })
}

/// The algorithms that a client is offered.
// Deviation: RFC 8760 §2.4 offers all. The baresip of Debian 12, SIPp and sipsak give up at a challenge that names an
// algorithm which they do not know, even beside one that they do.
fn offer<'s>(settings: &'s Settings, request: &Message<'_>) -> &'s [Algorithm] {
    let algorithms = &settings.digest.algorithms;
    let md5 = algorithms.iter().position(|algorithm| *algorithm == Algorithm::Md5);
    let agent = request.header(Name::UserAgent).unwrap_or_default();
    let is_md5_only = settings.digest.md5_only_agents.iter().any(|known| {
        agent.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
    });
    match md5 {
        Some(place) if is_md5_only => &algorithms[place..=place],
        _ => algorithms,
    }
}

/// The address of record that the sender of a request must own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// This one.
    Of(Aor),
    /// None: the caller does not tell, so that any account may.
    Anonymous,
    /// It names none that anybody could own.
    Nobody,
}

/// Who a request says that it is from: To of a REGISTER, From of all else.
pub(super) fn identity(keyring: &Keyring, request: &Message<'_>) -> Identity {
    let address = if request.method() == Some(Method::Register) { request.to() } else { request.from() };
    match address.as_ref().map(NameAddr::uri) {
        Ok(Ok(Uri::Sip(uri))) if uri.host == Host::Name(ANONYMOUS_DOMAIN) => Identity::Anonymous,
        // RFC 5627 §4.4: a phone may call from its GRUU, and of a temporary one only this server knows whose it is.
        Ok(Ok(Uri::Sip(uri))) => match gruu::read(&keyring.gruu, &uri) {
            Some(Gruu::Of(aor, _)) => Identity::Of(aor),
            Some(Gruu::Invalid) | None => Aor::of(&uri).map_or(Identity::Nobody, Identity::Of),
        },
        _ => Identity::Nobody,
    }
}

/// Whether a line holds credentials for one of our realms, which are nobody else's business.
pub(super) fn is_own_credentials(settings: &Settings, value: &[u8]) -> bool {
    let Ok(Credentials { realm: Some(realm), .. }) = Credentials::parse(value) else { return false };
    let configured = settings.digest.realm.as_ref().is_some_and(|own| realm.is_ignoring_case(own.as_bytes()));
    let is_ours = |host: Host<'_>| settings.is_own_domain(&host) && !edge::is_domain(settings, &host);
    configured || Host::parse(realm.as_bytes()).is_ok_and(is_ours)
}

/// The header field that the credentials for this server stand in.
fn credentials_name(request: &Message<'_>) -> Name {
    match request.method() {
        Some(Method::Register) => Name::Authorization,
        _ => Name::ProxyAuthorization,
    }
}

fn question(
    settings: &Settings,
    source: &Source,
    request: &Message<'_>,
    realm: &Realm,
    credentials: &Credentials<'_>,
    owns: Option<&Aor>,
) -> Option<Authenticate> {
    let mut username = Vec::with_capacity(64);
    credentials.username?.unquote_into(&mut username);
    let account = account(&username, realm)?;
    let algorithm = match credentials.algorithm {
        // RFC 7616 §3.4: MD5 where nothing is said.
        None => Algorithm::Md5,
        Some(name) => settings
            .digest
            .algorithms
            .iter()
            .copied()
            .find(|algorithm| name.is_ignoring_case(algorithm.name().as_bytes()))?,
    };
    if !settings.digest.algorithms.contains(&algorithm)
        || credentials.userhash.is_some_and(|it| it.is(b"true"))
    {
        return None;
    }
    Some(Authenticate {
        source: *source,
        evidence: Evidence::of(&source.flow),
        owns: owns.cloned().unwrap_or_else(|| account.clone()),
        account,
        username: Bytes::from(username),
        method: Bytes::copy_from_slice(request.method()?.as_bytes()),
        uri: bytes(credentials.uri?),
        algorithm,
        nonce: bytes(credentials.nonce?),
        nonce_left: std::time::Duration::ZERO,
        quality: quality(request, credentials, algorithm)?,
        response: bytes(credentials.response?),
        call: None,
    })
}

/// `None` for a protection that is not understood, `Some(None)` for none.
fn quality(
    request: &Message<'_>,
    credentials: &Credentials<'_>,
    algorithm: Algorithm,
) -> Option<Option<Quality>> {
    let Some(qop) = credentials.qop else { return Some(None) };
    let body_hash = if qop.is_ignoring_case(b"auth") {
        None
    } else if qop.is_ignoring_case(b"auth-int") {
        Some(body_hash(request.body(), algorithm))
    } else {
        return None;
    };
    Some(Some(Quality {
        qop: bytes(qop),
        nc: bytes(credentials.nc?),
        count: credentials.nonce_count()?,
        cnonce: bytes(credentials.cnonce?),
        body_hash,
    }))
}

/// The account that a username names: within the realm's domain, or by its whole address.
fn account(username: &[u8], realm: &Realm) -> Option<Aor> {
    let username = str::from_utf8(username).ok()?;
    if username.contains('@') {
        Aor::parse(username)
    } else {
        Aor::parse(&format!("{username}@{}", realm.domain))
    }
}

fn body_hash(body: &[u8], algorithm: Algorithm) -> Bytes {
    Bytes::copy_from_slice(algorithm.hash(&[body]).as_bytes())
}

fn bytes(value: AuthValue<'_>) -> Bytes {
    Bytes::copy_from_slice(value.as_bytes())
}

fn domain_text(host: &Host<'_>) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    let _ = write!(text, "{host}");
    text.make_ascii_lowercase();
    let bare = text.trim_end_matches('.').len();
    text.truncate(bare);
    text
}

fn listener_host(settings: &Settings, source: &Source) -> String {
    match settings.listeners.get(source.flow.listener()) {
        Some(listener) => match &listener.advertise {
            Some(advertise) => advertise.host.to_ascii_lowercase(),
            None => domain_text(&Host::from(listener.local.0.ip())),
        },
        None => "sip".to_owned(),
    }
}

//! Servers of others: the registrar behind our edge, a carrier at which we have an account, and a gateway that fails.
//!
//! They keep no state: what they say follows from the message that they get, so that one that comes again gets the same
//! answer. Digest is checked here with the phones' own code, so that the server is not its own judge.

use std::net::SocketAddr;

use clock::Instant;
use sip::{Message, Method, Name};

use crate::cast::{CARRIER, CARRIER_LOGIN, EDGE_DOMAIN, FAILING_GATEWAY, REGISTRAR, password_of};
use crate::phone::{Algorithm, Challenge, answer};
use crate::script::HEALED;

/// What the carrier grants at most, in seconds.
const CARRIER_GRANTS_MAX: u32 = 120;
/// What the registrar grants at least.
const REGISTRAR_GRANTS_MIN: u32 = 60;
/// The carrier's realm.
const CARRIER_REALM: &str = "carrier";

/// Whether one of them is at this address.
pub(crate) fn is_at(address: SocketAddr) -> bool {
    matches!(address, REGISTRAR | CARRIER | FAILING_GATEWAY)
}

/// What one of them sends back for a datagram.
pub(crate) fn hear(now: Instant, own: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
    let Ok(request) = Message::parse(bytes) else { return Vec::new() };
    let Some(method) = request.method() else { return Vec::new() };
    match (own, method) {
        (REGISTRAR, Method::Register) => registrar(&request),
        (CARRIER, Method::Register) => carrier(&request, now < HEALED),
        // It answers probes and fails at calls.
        (FAILING_GATEWAY, Method::Options) => vec![answer(&request, 200, "gateway", "", "")],
        (FAILING_GATEWAY, Method::Invite) if mark(&request).is_multiple_of(2) => {
            vec![answer(&request, 503, "gateway", "", "")]
        }
        _ => Vec::new(),
    }
}

/// Registers who proves himself, and asks by the Path that it was told whether he is there.
fn registrar(request: &Message<'_>) -> Vec<Vec<u8>> {
    let user = request.to().ok().and_then(|to| match to.uri().ok()? {
        sip::Uri::Sip(uri) => uri.user.map(|user| String::from_utf8_lossy(user).into_owned()),
        _ => None,
    });
    let user = user.unwrap_or_default();
    if request.header(Name::Authorization).is_none() {
        return vec![challenge(request, EDGE_DOMAIN)];
    }
    if !proves(request, &user, &password_of(&user), EDGE_DOMAIN) {
        return vec![answer(request, 403, "registrar", "", "")];
    }
    let granted = request.expires().unwrap_or(3_600);
    let mut sent = vec![accepted(request, if granted == 0 { 0 } else { granted.max(REGISTRAR_GRANTS_MIN) })];
    let path = request.header(Name::Path).map(String::from_utf8_lossy);
    if let (Some(path), Some(contact)) = (path, contacts(request).first())
        && granted > 0
    {
        let number = mark(request);
        let uri = contact.trim_start_matches('<').split('>').next().unwrap_or_default();
        sent.push(
            format!(
                "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {REGISTRAR};rport;branch=z9hG4bK-e-{number:016x}\r\n\
                 Route: {path}\r\nMax-Forwards: 70\r\nFrom: <sip:{EDGE_DOMAIN}>;tag=e\r\nTo: <{uri}>\r\n\
                 Call-ID: edge-{number:016x}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            )
            .into_bytes(),
        );
    }
    sent
}

/// Registers who proves himself, if it is in the mood.
fn carrier(request: &Message<'_>, is_moody: bool) -> Vec<Vec<u8>> {
    if request.header(Name::Authorization).is_none() {
        return vec![challenge(request, CARRIER_REALM)];
    }
    let (user, password) = CARRIER_LOGIN;
    if !proves(request, user, password, CARRIER_REALM) {
        return vec![answer(request, 403, "carrier", "", "")];
    }
    match mark(request) % 12 {
        0 if is_moody => Vec::new(),
        1 if is_moody => vec![answer(request, 503, "carrier", "", "")],
        // As if the password were wrong: the nonce is not said to be stale.
        2 if is_moody => vec![challenge(request, CARRIER_REALM)],
        _ => vec![accepted(request, request.expires().unwrap_or(3_600).min(CARRIER_GRANTS_MAX))],
    }
}

fn challenge(request: &Message<'_>, realm: &str) -> Vec<u8> {
    let nonce = mark(request);
    let line = format!(
        "WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce:016x}\", algorithm=MD5, qop=\"auth\"\r\n"
    );
    answer(request, 401, "elsewhere", &line, "")
}

/// The 200 to a REGISTER; 0 seconds: nothing is bound any more.
fn accepted(request: &Message<'_>, seconds: u32) -> Vec<u8> {
    let lines: String = match seconds {
        0 => String::new(),
        _ => contacts(request)
            .iter()
            .map(|contact| format!("Contact: {contact};expires={seconds}\r\n"))
            .collect(),
    };
    answer(request, 200, "elsewhere", &lines, "")
}

fn contacts(request: &Message<'_>) -> Vec<String> {
    request.values(Name::Contact).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

// RFC 7616 §3.4.1, with qop=auth.
fn proves(request: &Message<'_>, user: &str, password: &str, realm: &str) -> bool {
    let value = request.header(Name::Authorization).map(String::from_utf8_lossy);
    let Some(credentials) = value.and_then(|value| Challenge::parse(&value)) else { return false };
    let part = |name| credentials.part(name).unwrap_or_default().to_owned();
    let hash = |text: String| Algorithm::Md5.hash(&text);
    let ha1 = hash(format!("{user}:{realm}:{password}"));
    let ha2 = hash(format!("REGISTER:{}", part("uri")));
    let all = [ha1, part("nonce"), part("nc"), part("cnonce"), part("qop"), ha2].join(":");
    part("realm") == realm && part("response") == hash(all)
}

/// A number that is the same for a request that comes again.
fn mark(request: &Message<'_>) -> u64 {
    let via = request.top_via().ok();
    let branch = via.as_ref().and_then(|via| via.branch()).unwrap_or_default();
    let hash = branch.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The low bits of the product say little of the letters before the last one.
    hash ^ (hash >> 32)
}

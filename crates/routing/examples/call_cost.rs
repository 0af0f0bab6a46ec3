//! What one call costs in the transaction user: `cargo run --release -p routing --example call_cost`.
//!
//! A trusted peer calls a phone: INVITE, 100, 180, 200, ACK, BYE, 200. Time in the layers below and in
//! the account partition is not counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant as Clock;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use lease::LeaseMirror;
use routing::call::Output;
use routing::{Answer, Keyring, Located, Settings, Target, TransactionUser, TrustedPeer};
use sip::{Aor, Message};
use transaction::{ClientKey, ServerEvent, ServerKey};
use transport::{Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport};

const CALLS: u32 = 20_000;

fn main() {
    let keyring = Keyring::derive(&keys::RootKey::new([7; 32]));
    let mut user = TransactionUser::new(Arc::new(settings()), keyring.clone(), 0, 1);
    let started = Clock::now();
    for number in 0..CALLS {
        call(&mut user, &keyring, number);
    }
    let each = started.elapsed() / CALLS;
    println!("{each:?} for each call, {} contexts left", user.contexts());
}

fn call(user: &mut TransactionUser, keyring: &Keyring, number: u32) {
    let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
    let mirror = LeaseMirror::permanent();
    let Some(lease) = mirror.active(now.instant) else { return };
    let caller = source("198.51.100.200:5060");
    let callee = source("198.51.100.7:31000");
    let mut out = Vec::new();

    let invite = request("INVITE", "sip:bob@example.org", "", "", number);
    let key = server_key(keyring, &invite);
    user.handle_request(now, &lease, key, caller, invite, &mut out);
    let token = out.iter().find_map(|output| match output {
        Output::Ask { token, .. } => Some(*token),
        _ => None,
    });
    let Some(token) = token else { return println!("no question: {out:?}") };
    out.clear();
    user.handle_answer(now, &lease, token, Answer::Located(Located::Targets(vec![target()])), &mut out);
    let Some(Output::Forward { key: client, request: forwarded, .. }) = out.pop() else { return };
    let mut routes = String::new();
    for status in [100, 180, 200] {
        let response = response(&forwarded, status, &mut routes);
        answer(user, keyring, now, &lease, callee, &response, client, &mut out);
    }
    for method in ["ACK", "BYE"] {
        let route = format!("Route: {routes}\r\n");
        let request = request(method, "sip:bob@10.9.9.9:5060", ";tag=callee", &route, number);
        out.clear();
        if method == "ACK" {
            user.handle_ack(now, &lease, caller, request, &mut out);
        } else {
            let key = server_key(keyring, &request);
            user.handle_request(now, &lease, key, caller, request, &mut out);
        }
        if let Some(Output::Ask { token, .. }) = out.pop() {
            let located = Located::Targets(vec![target()]);
            user.handle_answer(now, &lease, token, Answer::Located(located), &mut out);
        }
    }
    let Some(Output::Forward { key: client, request: bye, .. }) = out.pop() else {
        return println!("no BYE");
    };
    let response = response(&bye, 200, &mut routes);
    out.clear();
    answer(user, keyring, now, &lease, callee, &response, client, &mut out);
    for output in out.clone() {
        if let Output::Respond { key: bye, .. } = output {
            user.handle_server_event(now, bye, ServerEvent::Terminated, &mut out);
        }
    }
    user.handle_server_event(now, key, ServerEvent::Terminated, &mut out);
}

#[expect(clippy::too_many_arguments, reason = "they are one response")]
fn answer(
    user: &mut TransactionUser,
    keyring: &Keyring,
    now: Now,
    lease: &lease::ActiveLease<'_>,
    from: Source,
    bytes: &[u8],
    client: ClientKey,
    out: &mut Vec<Output>,
) {
    let Ok(message) = Message::parse(bytes) else { return };
    debug_assert_eq!(ClientKey::of_response(&keyring.transaction, &message), Ok(client));
    user.handle_response(now, lease, client, from, &message, out);
}

fn request(method: &str, uri: &str, to_tag: &str, route: &str, number: u32) -> Bytes {
    Bytes::from(format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 198.51.100.200:5060;branch=z9hG4bK{method}{number}\r\n\
         {route}Max-Forwards: 70\r\n\
         From: \"Caller\" <sip:+49301234567@carrier.example>;tag=from-{number}\r\n\
         To: <sip:bob@example.org>{to_tag}\r\n\
         Call-ID: {number}-0123456789abcdef@carrier.example\r\n\
         CSeq: 1 {method}\r\n\
         Contact: <sip:carrier@198.51.100.200:5060>\r\n\
         User-Agent: Carrier/1.0\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY, REFER\r\n\
         Supported: timer, replaces, 100rel\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: 120\r\n\r\n\
         v=0\r\no=- 1 1 IN IP4 198.51.100.200\r\ns=-\r\nc=IN IP4 198.51.100.200\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8 0 \
         101\r\na=rtpmap:8 PCMA/8000\r\n"
    ))
}

fn response(request: &[u8], status: u16, routes: &mut String) -> Vec<u8> {
    let mut out = Vec::new();
    let Ok(message) = Message::parse(request) else { return out };
    let text =
        |name| message.values(name).map(|it| String::from_utf8_lossy(it).into_owned()).collect::<Vec<_>>();
    if routes.is_empty() {
        *routes = text(sip::Name::RecordRoute).join(", ");
    }
    let mut builder = sip::ResponseBuilder::new(&message, sip::Status(status));
    builder.to_tag(b"callee").copy(sip::Name::RecordRoute);
    builder.header(sip::Name::Contact, b"<sip:bob@10.9.9.9:5060>").write(&mut out);
    out
}

fn server_key(keyring: &Keyring, bytes: &[u8]) -> ServerKey {
    let message = Message::parse(bytes).expect("the request made above");
    ServerKey::of(&keyring.transaction, &message).expect("the request made above")
}

fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().expect("an address"));
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

fn target() -> Target {
    Target {
        aor: Aor::parse("bob@example.org").expect("an address of record"),
        contact: Bytes::from_static(b"sip:bob@10.9.9.9:5060"),
        path: Vec::new(),
        flow: Some(source("198.51.100.7:31000").flow),
        listener: Some(ListenerId(0)),
        nat: true,
        q: 1_000,
        instance: None,
        reg_id: None,
    }
}

fn settings() -> Settings {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr("192.0.2.5:5060".parse().expect("an address")),
        advertise: None,
        digest: true,
    };
    Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        server: Some("Tandem".to_owned()),
        trusted: vec![TrustedPeer {
            network: "198.51.100.200/32".parse().expect("a network"),
            name: "c".to_owned(),
        }],
        ..Settings::default()
    }
}

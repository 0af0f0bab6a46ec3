//! A call of two parties as text, and a shard that lets the caller in.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use bytes::Bytes;
use engine::Shard;
use keys::RootKey;
use routing::{Anchoring, Keyring, RelayRules, Settings, TrustedPeer};
use sip::Message;
use transport::{Destination, Flow, ListenerId, RemoteAddr, Source, Transport};

pub type Sent = (Destination, Bytes);

pub const CALLER: &str = "198.51.100.66:5060";
pub const CALLEE: &str = "198.51.100.7:5060";

pub const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 198.51.100.66\r\ns=-\r\nc=IN IP4 198.51.100.66\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub const ANSWER: &str = "v=0\r\no=- 2 2 IN IP4 198.51.100.7\r\ns=-\r\nc=IN IP4 198.51.100.7\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

pub fn without_100(sent: Vec<Sent>) -> Vec<Sent> {
    sent.into_iter().filter(|(_, message)| !message.starts_with(b"SIP/2.0 100")).collect()
}

pub fn sole(sent: Vec<Sent>) -> Bytes {
    let [(_, message)] = &sent[..] else { unreachable!("{sent:?}") };
    message.clone()
}

pub fn body_of(message: &Bytes) -> &str {
    let text = str::from_utf8(message).expect("it is text");
    text.split_once("\r\n\r\n").expect("a body").1
}

pub fn length_of(message: &Bytes) -> usize {
    let message = Message::parse(message).expect("a message");
    let length = message.header(sip::Name::ContentLength).expect("its length");
    str::from_utf8(length).expect("text").parse().expect("a number")
}

pub fn address_of(message: &Bytes) -> String {
    let line = body_of(message).lines().find_map(|line| line.strip_prefix("c=IN IP4 "));
    line.expect("an address").to_owned()
}

pub fn port_of(message: &Bytes) -> String {
    let line = body_of(message).lines().find_map(|line| line.strip_prefix("m=audio "));
    line.expect("a line").split(' ').next().expect("a port").to_owned()
}

pub fn to(remote: &str) -> Destination {
    Destination::Flow(source(remote).flow)
}

pub fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().expect("an address"));
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

pub fn length(body: &str) -> String {
    format!("Content-Length: {}", body.len())
}

pub fn typed(body: &str) -> String {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!("{kind}{}\r\n\r\n{body}", length(body))
}

pub fn invite(call_id: &str) -> String {
    format!(
        "INVITE sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bKcall1\r\n\
         From: <sip:peer@{CALLER}>;tag=f\r\nTo: <sip:bob@{CALLEE}>\r\nCall-ID: {call_id}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:peer@{CALLER}>\r\nMax-Forwards: 70\r\n{}",
        typed(OFFER)
    )
}

/// What the caller sends in the dialog.
pub fn within(method: &str, cseq: u32, forwarded: &Bytes, body: &str) -> String {
    let text = str::from_utf8(forwarded).expect("it is text");
    let routes = text.lines().filter_map(|line| line.strip_prefix("Record-Route:"));
    let routes: String = routes.map(|value| format!("Route:{value}\r\n")).collect();
    format!(
        "{method} sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bK{method}{cseq}\r\n\
         From: <sip:peer@{CALLER}>;tag=f\r\nTo: <sip:bob@{CALLEE}>;tag=b\r\nCall-ID: call-1\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:peer@{CALLER}>\r\n{routes}Max-Forwards: 70\r\n{}",
        typed(body)
    )
}

/// What the callee says to what it got.
pub fn response(request: &Bytes, status: &str, tag: &str, body: &str) -> String {
    let text = str::from_utf8(request).expect("it is text");
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
    let lines = text.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: String = lines
        .map(|line| match line.starts_with("To:") && !tag.is_empty() {
            true => format!("{line};tag={tag}\r\n"),
            false => format!("{line}\r\n"),
        })
        .collect();
    format!("SIP/2.0 {status}\r\n{lines}Contact: <sip:bob@{CALLEE}>\r\n{}", typed(body))
}

pub fn shard(anchoring: Anchoring) -> Shard {
    shard_with_number(anchoring, 0)
}

pub fn shard_with_number(anchoring: Anchoring, number: u16) -> Shard {
    let trusted =
        TrustedPeer { network: "198.51.100.66/32".parse().expect("a network"), name: "peer".to_owned() };
    let relay = RelayRules { default: anchoring, ..RelayRules::default() };
    let settings = Settings { trusted: vec![trusted], relay, ..super::testbed::settings() };
    Shard::new(Arc::new(settings), Keyring::derive(&RootKey::new([5; 32])), number, 1)
}

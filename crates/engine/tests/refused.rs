//! What an ICMP error does: it ends the one request that it quotes, and whoever makes one up ends none.

use transport::{Flow, Source};

use self::engine::{Engine, datagram};

#[allow(dead_code, reason = "the torture tests use the rest of it")]
#[path = "torture/engine.rs"]
mod engine;

const PEER: &str = "198.51.100.9:5060";
const NEXT: &str = "203.0.113.50:5060";

/// What can not be sent is as a 503, which goes upstream as a 500.
#[test]
fn a_request_that_an_error_quotes_is_over_at_once() {
    let (mut engine, request) = forwarded();

    engine.refuse(next(), &request[..500.min(request.len())]);

    assert_eq!(engine.statuses(&peer()), [500]);
}

#[test]
fn an_error_that_quotes_no_more_than_it_must_says_nothing() {
    let (mut engine, request) = forwarded();

    engine.refuse(next(), &request[..8]);

    assert!(engine.sent.is_empty());
}

#[test]
fn an_error_about_another_destination_is_not_believed() {
    let (mut engine, request) = forwarded();
    let elsewhere = datagram("203.0.113.51:5060".parse().expect("an address")).flow;

    engine.refuse(elsewhere, &request);

    assert!(engine.sent.is_empty());
}

#[test]
fn an_error_with_a_branch_that_is_made_up_is_not_believed() {
    let (mut engine, request) = forwarded();
    let text = String::from_utf8(request.to_vec()).expect("text");
    let branch = text.split_once("branch=").and_then(|(_, rest)| rest.get(..20)).expect("a branch");

    engine.refuse(next(), text.replacen(branch, "z9hG4bKaaaaaaaaaaaaa", 1).as_bytes());

    assert!(engine.sent.is_empty());
}

#[test]
fn an_error_about_a_request_that_was_answered_changes_nothing() {
    let (mut engine, request) = forwarded();
    let text = String::from_utf8(request.to_vec()).expect("text");
    let head: Vec<_> = text.lines().skip(1).filter(|line| is_copied(line)).collect();
    let ringing = format!("SIP/2.0 180 Ringing\r\n{}\r\nContent-Length: 0\r\n\r\n", head.join("\r\n"));
    engine.receive(datagram(NEXT.parse().expect("an address")), ringing.as_bytes());
    assert_eq!(engine.statuses(&peer()), [180]);

    engine.refuse(next(), &request);

    assert!(engine.sent.is_empty());
}

/// An INVITE of a trusted peer, as it went on.
fn forwarded() -> (Engine, bytes::Bytes) {
    let mut engine = Engine::new(Some(peer().flow.remote().0.ip()), &["example.org"]);
    let invite = format!(
        "INVITE sip:bob@{NEXT} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK-1\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:bob@{NEXT}>\r\nCall-ID: refused\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@{PEER}>\r\nContent-Length: 0\r\n\r\n"
    );
    engine.receive(peer(), invite.as_bytes());
    let request = engine.forwarded().pop().expect("it goes on");
    (engine, request)
}

fn is_copied(line: &str) -> bool {
    ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name))
}

fn peer() -> Source {
    datagram(PEER.parse().expect("an address"))
}

fn next() -> Flow {
    datagram(NEXT.parse().expect("an address")).flow
}

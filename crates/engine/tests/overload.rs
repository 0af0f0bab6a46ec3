//! What a shard makes of requests that are to be turned away because more comes than can be handled.

use routing::overload::{Class, Rejection};
use transport::Source;

use self::engine::{Engine, datagram};

#[allow(dead_code, reason = "the torture tests use the rest of it")]
#[path = "torture/engine.rs"]
mod engine;

const PEER: &str = "198.51.100.9:5060";
const NEXT: &str = "203.0.113.50:5060";

#[test]
fn a_request_is_refused_without_state_and_its_ack_ends_here() {
    let mut engine = engine();

    engine.turn_away(peer(), invite().as_bytes(), rejection(Some(17)));

    let answer = the_answer(&engine);
    assert!(answer.starts_with("SIP/2.0 503 Overloaded\r\n"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: 17\r\n"), "{answer}");
    assert_eq!(engine.held().servers, 0);
    assert!(engine.forwarded().is_empty());
    let to = answer.lines().find(|line| line.starts_with("To:")).expect("it has one");
    let ack = invite().replace("INVITE", "ACK").replace(&format!("To: <sip:bob@{NEXT}>"), to);
    engine.receive(peer(), ack.as_bytes());
    assert!(engine.forwarded().is_empty(), "an ACK to our own refusal goes nowhere");
}

#[test]
fn whoever_is_not_told_when_to_come_back_gets_no_such_header() {
    let mut engine = engine();

    engine.turn_away(peer(), invite().as_bytes(), rejection(None));

    let answer = the_answer(&engine);
    assert!(answer.starts_with("SIP/2.0 503 ") && !answer.contains("Retry-After"), "{answer}");
}

#[test]
fn a_copy_of_a_request_that_was_let_in_is_not_refused() {
    let mut engine = engine();
    engine.receive(peer(), invite().as_bytes());
    assert_eq!(engine.forwarded().len(), 1);

    engine.turn_away(peer(), invite().as_bytes(), rejection(Some(17)));

    assert_eq!(engine.statuses(&peer()), [0; 0], "nothing but the 100 again");
    assert!(engine.forwarded().is_empty());
}

#[test]
fn what_is_no_good_request_is_answered_as_ever() {
    let mut engine = engine();
    let bad = invite().replace("CSeq: 1 INVITE", "CSeq: 1 BYE");

    engine.turn_away(peer(), bad.as_bytes(), rejection(Some(17)));

    assert_eq!(engine.statuses(&peer()), [400]);
}

fn the_answer(engine: &Engine) -> String {
    let [(_, answer)] = &engine.sent[..] else { unreachable!("{:?} was sent", engine.sent) };
    String::from_utf8(answer.to_vec()).expect("text")
}

fn engine() -> Engine {
    Engine::new(Some(peer().flow.remote().0.ip()), &["example.org"])
}

fn rejection(retry_after: Option<u32>) -> Rejection {
    Rejection { class: Class::Call, retry_after }
}

fn invite() -> String {
    format!(
        "INVITE sip:bob@{NEXT} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bK-1\r\nMax-Forwards: 70\r\n\
         From: <sip:a@example.com>;tag=1\r\nTo: <sip:bob@{NEXT}>\r\nCall-ID: refused\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:a@{PEER}>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn peer() -> Source {
    datagram(PEER.parse().expect("an address"))
}

//! What a stranger's request costs: one answer, and nothing that stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::{Output, Shard};
use keys::RootKey;
use lease::LeaseMirror;
use routing::Keyring;
use routing::bans::{Deed, Evidence};
use sip::{Message, Name};
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

#[path = "testbed/settings.rs"]
mod testbed;

/// And each retransmission gets the same one: its To tag is derived.
#[test]
fn an_unproven_request_of_any_method_costs_one_answer_and_leaves_nothing() {
    let mut shard = shard();
    for method in ["INVITE", "REGISTER", "OPTIONS", "SUBSCRIBE", "MESSAGE", "PUBLISH", "FROBNICATE"] {
        let request = request(method, "alice", 1);
        let first = answer(&mut shard, &request);
        let again = answer(&mut shard, &request);

        let status = if method == "REGISTER" { 401 } else { 407 };
        assert_eq!(status_of(&first), status, "{method}");
        assert_eq!(to_tag(&first), to_tag(&again), "{method}");
    }
    for number in 0..10_000 {
        answer(&mut shard, &request("INVITE", "alice", number));
    }

    let counts = shard.counts();
    assert_eq!((counts.servers, counts.clients, counts.suspended, counts.contexts), (0, 0, 0, 0));
    assert_eq!(shard.poll_timeout(), None, "nothing waits for its time to pass");
}

#[test]
fn a_broken_request_costs_one_answer_and_leaves_nothing() {
    let mut shard = shard();

    let refused = answer(&mut shard, &request("OPTIONS", "alice", 1).replace("CSeq: 1 ", "CSeq: one "));

    assert_eq!(status_of(&refused), 400);
    assert_eq!(shard.counts().servers, 0);
    assert_eq!(shard.poll_timeout(), None);
}

/// What svwar looks for: an extension that is there is answered like one that is not, and nobody is asked for it.
#[test]
fn who_enumerates_users_learns_nothing() {
    let mut shard = shard();
    for method in ["INVITE", "REGISTER", "OPTIONS"] {
        let shapes: BTreeSet<String> = ["alice", "nobody", "100", "1000000"]
            .into_iter()
            .map(|user| shape(&answer(&mut shard, &request(method, user, 1)), user))
            .collect();

        assert_eq!(shapes.len(), 1, "{method}: {shapes:#?}");
    }
}

/// The one answer to a message; there must be no other output but what the bans are told.
fn answer(shard: &mut Shard, text: &str) -> Bytes {
    let mirror = LeaseMirror::permanent();
    let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
    let lease = mirror.active(now.instant).expect("a permanent lease");
    let remote = RemoteAddr("198.51.100.66:5060".parse().expect("an address"));
    let flow = Flow::Datagram { listener: ListenerId(0), remote };
    let mut out = Vec::new();
    shard.handle_message(now, &lease, Source { flow, transport: Transport::Udp }, text.as_bytes(), &mut out);
    let mut answers = Vec::new();
    let mut reports = Vec::new();
    for output in out {
        match output {
            Output::Send { message, of: None, .. } => answers.push(message),
            Output::Report(report) => reports.push((report.flow, report.evidence, report.deed)),
            Output::Settled(_) => {}
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!(answers.len(), 1);
    assert!(
        matches!(reports[..], [(from, Evidence::Claimed, Deed::Unproven | Deed::Malformed)] if from == flow),
        "{reports:?}"
    );
    answers.remove(0)
}

fn request(method: &str, user: &str, number: u32) -> String {
    let uri =
        if method == "REGISTER" { "sip:example.org".to_owned() } else { format!("sip:{user}@example.org") };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.66;rport;branch=z9hG4bK{number}\r\n\
         From: <sip:{user}@example.org>;tag=f\r\nTo: <sip:{user}@example.org>\r\nCall-ID: c{number}\r\n\
         CSeq: 1 {method}\r\nContact: <sip:x@198.51.100.66>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// An answer without what differs by itself: the user that was asked for, the nonce, the tag.
fn shape(answer: &Bytes, user: &str) -> String {
    let text =
        String::from_utf8(answer.to_vec()).expect("text").replace(&format!("sip:{user}@"), "sip:USER@");
    let message = Message::parse(answer).expect("a response");
    let tag = String::from_utf8_lossy(message.to_tag().expect("a tag")).into_owned();
    let mut text = text.replace(&tag, "TAG");
    while let Some((before, after)) = text.clone().split_once("nonce=\"") {
        let after = after.split_once('"').expect("quoted").1;
        text = format!("{before}nonce {after}");
    }
    text
}

fn status_of(answer: &Bytes) -> u16 {
    Message::parse(answer).expect("a response").status().expect("a response").0
}

fn to_tag(answer: &Bytes) -> Vec<u8> {
    let message = Message::parse(answer).expect("a response");
    assert!(message.header(Name::To).is_some());
    message.to_tag().expect("a tag").to_vec()
}

fn shard() -> Shard {
    Shard::new(Arc::new(testbed::settings()), Keyring::derive(&RootKey::new([5; 32])), 0, 1)
}

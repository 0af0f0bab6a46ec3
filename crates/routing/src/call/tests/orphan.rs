//! Responses that come to another node than the one that has sent their request.

use std::time::Duration;

use sip::{Message, Name};
use transport::Destination;

use super::scene::*;
use crate::Count;
use crate::call::Output;

const LONG_AFTER: Duration = Duration::from_secs(33);

#[test]
fn a_response_goes_to_who_has_asked_the_node_before() {
    let answer = answered("MESSAGE", 200);
    let mut there = Scene::new();
    there.took_over();

    let out = there.stray(BOB, &answer);

    let [Output::SendStateless { to, message }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*to, Destination::Flow(datagram(UDP, ALICE)));
    assert_eq!(values(message, Name::Via).len(), 1, "ours is gone");
    assert_eq!(status(message), 200);
    assert_eq!(there.counts().of(Count::OrphanForwarded), 1);
    assert_eq!(there.counts().of(Count::StrayResponse), 0);
}

#[test]
fn a_response_that_is_aimed_elsewhere_is_not_sent_on() {
    let answer = String::from_utf8(answered("MESSAGE", 200)).expect("the test's response");
    let second = answer.match_indices("Via: ").nth(1).expect("two of them").0;
    let (head, tail) = answer.split_at(second);
    let aimed = [
        tail.replacen(";received=192.0.2.101", ";received=203.0.113.66", 1),
        tail.replacen(";rport=5060", ";rport=7", 1),
        tail.replacen(";received=192.0.2.101", "", 1),
        tail.replacen("MESSAGE\r\n", "INFO\r\n", 1),
    ];
    for tail in aimed {
        let mut there = Scene::new();
        there.took_over();

        let out = there.stray(BOB, format!("{head}{tail}").as_bytes());

        assert_eq!(out, [], "{tail}");
        assert_eq!(there.counts().of(Count::StrayResponse), 1, "{tail}");
    }
}

#[test]
fn a_response_is_sent_on_only_for_a_while_after_a_takeover() {
    let answer = answered("MESSAGE", 200);
    let mut there = Scene::new();
    assert_eq!(there.stray(BOB, &answer), [], "nobody has handed over");

    there.took_over();
    there.pass(LONG_AFTER);

    assert_eq!(there.stray(BOB, &answer), []);
}

/// What Bob's phone answers to a request of Alice's that one node has sent on.
fn answered(method: &'static str, status: u16) -> Vec<u8> {
    let mut here = Scene::new();
    let asked =
        request(method, "sip:bob@example.org").via("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKa;rport");
    let left = only_left(&here.call_as_account(ALICE, &asked, vec![bob()]));
    let answer = response(&left.request, status, "");
    Message::parse(&answer).expect("the test's response").validate().expect("the test's response");
    answer
}

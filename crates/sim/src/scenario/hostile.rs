//! Strangers: nothing of theirs goes anywhere.

use super::*;
use crate::cast::{FIRST, STRANGER, VICTIM};

/// A stranger's request, of which only these parts are of interest.
fn strange(method: &str, uri: &str, lines: &str, to_tag: &str) -> Vec<u8> {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER};rport;branch=z9hG4bK-stranger-1\r\n{lines}\
         Max-Forwards: 70\r\nFrom: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <{uri}>{to_tag}\r\nCall-ID: stranger\r\n\
         CSeq: 1 {method}\r\nContact: <sip:stranger@{STRANGER}>\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// What the server does with it: the statuses of its answers. Nobody else gets anything.
fn answers_to(world: &mut World, bytes: Vec<u8>) -> Vec<u16> {
    look_away(world);
    world.transmit(STRANGER, FIRST, bytes);
    world.run_for(secs(1));
    let tap = world.tap.as_ref().unwrap();
    let relayed: Vec<_> =
        tap.datagrams.iter().filter(|(from, to, _)| *from != STRANGER && *to != STRANGER).collect();
    assert!(relayed.is_empty(), "{relayed:?}");
    assert_eq!(world.watch.broken(), []);
    statuses_to(world, STRANGER)
}

#[test]
fn a_route_to_us_with_a_foreign_request_uri_is_challenged() {
    let mut world = registered(&[who::ALICE]);
    let route = format!("Route: <sip:{FIRST};lr>\r\n");

    let statuses = answers_to(&mut world, strange("INVITE", &format!("sip:victim@{VICTIM}"), &route, ""));

    assert_eq!(statuses, [407]);
}

#[test]
fn a_route_to_us_with_a_foreign_request_uri_and_a_to_tag_is_481() {
    let mut world = registered(&[who::ALICE]);
    for route in [
        format!("Route: <sip:{FIRST};lr>\r\n"),
        format!(
            "Route: <sip:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@{FIRST};lr>\r\n"
        ),
        format!("Route: <sip:{FIRST};lr>, <sip:{VICTIM};lr>\r\n"),
    ] {
        let statuses =
            answers_to(&mut world, strange("BYE", &format!("sip:victim@{VICTIM}"), &route, ";tag=2"));

        assert_eq!(statuses, [481], "{route}");
    }
}

#[test]
fn a_token_of_one_call_opens_no_other() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    call(&mut world, who::ALICE, long_call("dave"), &[(who::DAVE, answer(1))], secs(3));
    let alice = world.phone(who::ALICE).setup().local;
    let answer = sent_to(&world, alice, "SIP/2.0 200").pop().unwrap();
    let answer = Message::parse(&answer).unwrap();
    let routes: Vec<_> =
        answer.values(Name::RecordRoute).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    assert_eq!(routes.len(), 2);
    let routes = format!("Route: {}, {}\r\n", routes[1], routes[0]);

    let statuses = answers_to(&mut world, strange("BYE", &format!("sip:victim@{VICTIM}"), &routes, ";tag=2"));

    assert_eq!(statuses, [481]);
}

#[test]
fn an_ack_of_a_stranger_is_dropped_without_a_word() {
    let mut world = registered(&[who::ALICE]);
    let route = format!("Route: <sip:{FIRST};lr>\r\n");

    for to_tag in ["", ";tag=2"] {
        let statuses =
            answers_to(&mut world, strange("ACK", &format!("sip:victim@{VICTIM}"), &route, to_tag));

        assert!(statuses.is_empty(), "{statuses:?}");
    }
}

#[test]
fn a_strangers_call_to_our_user_is_challenged_and_nobody_rings() {
    let mut world = registered(&[who::ALICE]);

    let statuses = answers_to(&mut world, strange("INVITE", &format!("sip:alice@{DOMAIN}"), "", ""));

    assert_eq!(statuses, [407]);
    assert_eq!(said(&world, who::ALICE, |fact| matches!(fact, Fact::Ringing { .. })), 0);
}

#[test]
fn a_strangers_cancel_ends_nobody_elses_call() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, answer(5))], secs(2));
    let cancel = strange("CANCEL", &format!("sip:dave@{DOMAIN}"), "", "");
    let cancel =
        String::from_utf8_lossy(&cancel).replace("Call-ID: stranger", "Call-ID: alice-1@198.51.100.11");

    let tap_before = world.tap.take();
    world.tap = Some(Tap::default());
    world.transmit(STRANGER, FIRST, cancel.into_bytes());
    world.run_for(secs(1));

    assert_eq!(statuses_to(&world, STRANGER), [481]);
    world.tap = tap_before;
    world.run_for(secs(20));
    assert_eq!(outcome(&world), Some(200));
    assert_good(world);
}

#[test]
fn a_response_that_nobody_asked_for_goes_nowhere() {
    let mut world = registered(&[who::ALICE]);
    let response = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {FIRST};branch=z9hG4bKguess\r\nVia: SIP/2.0/UDP {VICTIM};branch=z9hG4bK-1\r\n\
         From: <sip:a@{DOMAIN}>;tag=1\r\nTo: <sip:b@{DOMAIN}>;tag=2\r\nCall-ID: stranger\r\nCSeq: 1 INVITE\r\n\
         Content-Length: 0\r\n\r\n"
    );

    let statuses = answers_to(&mut world, response.into_bytes());

    assert!(statuses.is_empty());
    assert_eq!(count(&world, Count::StrayResponse), 1);
}

#[test]
fn an_answer_goes_to_who_asked_and_not_where_the_via_points() {
    let mut world = registered(&[]);
    let text = String::from_utf8_lossy(&strange("OPTIONS", &format!("sip:{DOMAIN}"), "", "")).into_owned();
    let reflected = text
        .replace(&format!("UDP {STRANGER};rport"), &format!("UDP {VICTIM};rport;received={}", VICTIM.ip()));

    let statuses = answers_to(&mut world, reflected.into_bytes());

    assert_eq!(statuses, [200]);
}

#[test]
fn the_challenge_of_a_known_and_an_unknown_user_differ_in_nothing_but_the_nonce() {
    let mut world = registered(&[who::ALICE]);
    let mut shapes = Vec::new();
    for user in ["alice", "nemo"] {
        let text = String::from_utf8_lossy(&strange("INVITE", "sip:dave@example.org", "", "")).into_owned();
        answers_to(&mut world, text.replace("sip:alice@", &format!("sip:{user}@")).into_bytes());
        let answer = sent_to(&world, STRANGER, "SIP/2.0 407").pop().unwrap();
        let message = Message::parse(&answer).unwrap();
        let names: Vec<_> = message.headers().map(|header| header.raw_name.to_vec()).collect();
        shapes.push((names, answer.len() - user.len()));
    }

    assert_eq!(shapes[0], shapes[1]);
}

#[test]
fn a_broken_request_is_400_and_a_broken_ack_nothing() {
    let mut world = registered(&[]);
    let broken = |method| {
        let text = String::from_utf8_lossy(&strange(method, &format!("sip:{DOMAIN}"), "", "")).into_owned();
        text.replace(&format!("CSeq: 1 {method}"), "CSeq: one").into_bytes()
    };

    assert_eq!(answers_to(&mut world, broken("OPTIONS")), [400]);
    assert!(answers_to(&mut world, broken("ACK")).is_empty());
}

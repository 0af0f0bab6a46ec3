//! Rounds: who is tried after whom (RFC 3261 §16.6), and what ends the search (RFC 3261 §16.7).

use std::time::Duration;

use sip::Name;
use transaction::ClientEvent;

use super::scene::*;
use crate::call::Output;
use crate::{Count, Target};

const DESK: &str = "192.0.2.110:5060";

/// RFC 3261 §16.6: bindings of one q at once, a lower q after them.
#[test]
fn phones_of_a_lower_q_begin_when_those_of_a_higher_one_have_failed() {
    let mut scene = Scene::new();
    let targets = vec![with_q(desk(), 300), with_q(bob(), 700), with_q(carol(), 700)];
    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), targets);
    let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
    assert_eq!(request_uri(&bob.request), "sip:bob@192.0.2.102:5060");
    assert_eq!(request_uri(&carol.request), "sip:carol@10.9.9.9:5060");

    assert_eq!(scene.reply(bob, 486, ""), []);
    let out = scene.reply(carol, 404, "");

    assert_eq!(statuses(&out), []);
    let desk = only_left(&out);
    assert_eq!(request_uri(&desk.request), "sip:desk@192.0.2.110:5060");
    // RFC 3261 §16.7 item 6: the best of all rounds.
    assert_eq!(statuses(&scene.reply(&desk, 480, "")), [486]);
}

#[test]
fn an_answer_in_a_later_round_goes_on() {
    let mut scene = Scene::new();
    let (first, _) = serial(&mut scene);
    let second = only_left(&scene.reply(&first, 486, ""));

    assert_eq!(statuses(&scene.reply(&second, 180, "")), [180]);
    assert_eq!(statuses(&scene.reply(&second, 200, "")), [200]);
}

/// RFC 3261 §16.7 item 5: a 6xx is the last word. A redirection and a CANCEL are too.
#[test]
fn no_round_begins_after_a_6xx_a_3xx_or_a_cancel() {
    for status in [600, 603, 302] {
        let mut scene = Scene::new();
        let (first, _) = serial(&mut scene);

        let out = scene.reply(&first, status, "");

        assert_eq!((statuses(&out), left(&out).len()), (vec![status], 0));
    }
    let mut scene = Scene::new();
    let (first, cancel) = serial(&mut scene);
    scene.reply(&first, 180, "");
    scene.receive(ALICE, &cancel.text());

    let out = scene.reply(&first, 487, "");

    assert_eq!((statuses(&out), left(&out).len()), (vec![487], 0));
}

#[test]
fn a_phone_that_rings_out_is_cancelled_and_the_next_begins_at_once() {
    let mut scene = Scene::new();
    let (first, _) = serial(&mut scene);
    scene.pass(Duration::from_secs(10));
    scene.reply(&first, 180, "");

    assert_eq!(scene.pass(Duration::from_millis(19_999)), []);
    let out = scene.pass(Duration::from_millis(1));

    let [cancel, second] = &left(&out)[..] else { panic!("{out:?}") };
    assert_eq!((method(&cancel.request), cancel.to), ("CANCEL".to_owned(), first.to));
    assert_eq!(method(&second.request), "INVITE");
    assert_eq!(scene.counts().of(Count::RingTimeout), 1);
    // Nothing comes after the last one: it rings as long as any phone, counted from its ringing.
    assert_eq!(scene.reply(&first, 487, ""), []);
    scene.pass(Duration::from_secs(20));
    scene.reply(second, 180, "");
    assert_eq!(scene.pass(Duration::from_millis(119_999)), []);
    assert_eq!(method(&only_left(&scene.pass(Duration::from_millis(1))).request), "CANCEL");
    assert_eq!(statuses(&scene.reply(second, 487, "")), [408]);
}

/// Whoever is silent costs the caller no more than whoever rings.
#[test]
fn a_silent_phone_makes_room_for_the_next_and_is_cancelled_when_it_speaks() {
    let mut scene = Scene::new();
    let (first, _) = serial(&mut scene);

    let second = only_left(&scene.pass(Duration::from_secs(30)));
    assert_eq!(method(&second.request), "INVITE");
    assert_eq!(method(&only_left(&scene.reply(&first, 180, "")).request), "CANCEL");
    scene.reply(&second, 486, "");

    assert_eq!(statuses(&scene.reply(&first, 487, "")), [486]);
}

#[test]
fn a_phone_that_answers_as_it_is_given_up_still_gets_the_call() {
    let mut scene = Scene::new();
    let (first, _) = serial(&mut scene);
    scene.reply(&first, 180, "");
    let out = scene.pass(Duration::from_secs(30));
    let second = left(&out).pop().unwrap();
    scene.reply(&second, 180, "");

    let out = scene.reply(&first, 200, "");

    assert_eq!(statuses(&out), [200]);
    let cancel = only_left(&out);
    assert_eq!((method(&cancel.request), cancel.to), ("CANCEL".to_owned(), second.to));
}

#[test]
fn a_round_that_can_not_be_sent_is_passed_over_at_once() {
    let gone = Target { nat: true, flow: None, ..carol() };
    let mut scene = Scene::new();
    let targets = vec![gone.clone(), with_q(gone, 500), with_q(bob(), 100)];

    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), targets);

    assert_eq!(request_uri(&only_left(&out).request), "sip:bob@192.0.2.102:5060");
}

#[test]
fn a_phone_that_can_not_be_reached_makes_room_for_the_next() {
    let mut scene = Scene::new();
    let (first, _) = serial(&mut scene);

    let out = scene.client_event(first.key, ClientEvent::Unreachable);

    assert_eq!(request_uri(&only_left(&out).request), "sip:desk@192.0.2.110:5060");
}

/// The same target twice, in two rounds, is two branches: else the peer would take the second for a retransmission.
#[test]
fn a_target_that_is_tried_again_gets_another_branch() {
    let mut scene = Scene::new();
    let targets = vec![bob(), with_q(bob(), 500)];
    let first = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), targets));

    let second = only_left(&scene.reply(&first, 486, ""));

    assert_ne!(values(&first.request, Name::Via)[0], values(&second.request, Name::Via)[0]);
}

/// RFC 5393 §5.3.3: with a breadth of one a round waits until the one before has ended, not only rung out.
#[test]
fn a_round_keeps_to_the_breadth_that_is_left() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Max-Breadth: 1");
    let targets = vec![bob(), with_q(desk(), 500)];
    let first = only_left(&scene.call_as_account(ALICE, &request, targets));
    scene.reply(&first, 180, "");
    let cancel = only_left(&scene.pass(Duration::from_secs(30)));
    assert_eq!(method(&cancel.request), "CANCEL");

    let second = only_left(&scene.reply(&first, 487, ""));

    assert_eq!(header(&second.request, Name::MaxBreadth).unwrap(), "1");
}

/// RFC 4320 §4.2: the client of any other request than INVITE has given up when a phone has been silent for so long.
#[test]
fn another_request_goes_to_the_next_round_after_a_refusal_but_not_after_silence() {
    let message = request("MESSAGE", "sip:bob@example.org");
    let targets = || vec![bob(), with_q(desk(), 500)];
    let mut scene = Scene::new();
    let first = only_left(&scene.call_as_account(ALICE, &message, targets()));
    let second = only_left(&scene.reply(&first, 480, ""));
    assert_eq!(statuses(&scene.reply(&second, 200, "")), [200]);

    let mut scene = Scene::new();
    let first = only_left(&scene.call_as_account(ALICE, &message, targets()));
    let out = scene.client_event(first.key, ClientEvent::TimedOut);
    assert!(matches!(out[..], [Output::Drop { .. }]), "{out:?}");
}

/// RFC 5626 §7: the flows of one phone are one aim, in the place of its preferred one.
#[test]
fn flows_of_one_phone_are_in_one_round() {
    let mut scene = Scene::new();
    let flow = |reg_id, q, remote| Target {
        instance: Some("phone".into()),
        nat: true,
        reg_id: Some(reg_id),
        ..with_q(target("sip:bob@192.0.2.102:5060", UDP, remote), q)
    };
    let targets = vec![flow(2, 100, DESK), flow(1, 900, BOB), with_q(carol(), 500)];
    let first = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), targets));

    let spare = only_left(&scene.reply(&first, 430, ""));
    assert_eq!(spare.to.remote().0.to_string(), DESK);
    let last = only_left(&scene.reply(&spare, 486, ""));
    assert_eq!(request_uri(&last.request), "sip:carol@10.9.9.9:5060");
}

/// RFC 5626 §5.3.1: the Contact of a flow leads by the very connection that failed, or to nobody.
#[test]
fn a_flow_that_failed_is_not_tried_again_by_its_contact() {
    let mut scene = Scene::new();
    let flow = |reg_id, remote| Target {
        instance: Some("phone".into()),
        reg_id: Some(reg_id),
        ..target(&format!("sip:bob@{remote}"), UDP, remote)
    };
    let targets = vec![flow(2, DESK), flow(1, BOB)];
    let first = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), targets));
    assert_eq!(first.to.remote().0.to_string(), DESK);

    let second = only_left(&scene.reply(&first, 430, ""));

    assert_eq!(second.to.remote().0.to_string(), BOB);
}

/// RFC 5626 §7: a caller is told that nobody is there, and not which flow failed.
#[test]
fn a_phone_whose_every_flow_failed_is_unavailable() {
    let mut scene = Scene::new();
    let first = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    assert_eq!(statuses(&scene.reply(&first, 430, "")), [480]);

    let mut scene = Scene::new();
    let abroad = invite("sip:x@198.51.100.99:5070");
    let first = only_left(&scene.send_as_account(ALICE, &abroad));
    assert_eq!(statuses(&scene.reply(&first, 430, "")), [430], "another proxy has other flows");
}

fn desk() -> Target {
    target("sip:desk@192.0.2.110:5060", UDP, DESK)
}

fn with_q(target: Target, q: u16) -> Target {
    Target { q, ..target }
}

/// Two phones, one after the other; and the CANCEL of the call.
fn serial(scene: &mut Scene) -> (Left, Request) {
    let invite = invite("sip:bob@example.org");
    let first = only_left(&scene.call_as_account(ALICE, &invite, vec![bob(), with_q(desk(), 500)]));
    (first, Request { method: "CANCEL", headers: Vec::new(), ..invite.again() })
}

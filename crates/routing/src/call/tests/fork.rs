//! Several branches: which response goes upstream, and when a branch is cancelled (RFC 3261 §16.7, RFC 3261 §16.8).

use std::time::Duration;

use sip::{Message, Name};
use transaction::ClientEvent;

use super::scene::*;
use crate::Count;
use crate::call::Output;

#[test]
fn all_phones_ring_at_once() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);

    assert_eq!(request_uri(&bob.request), "sip:bob@192.0.2.102:5060");
    assert_eq!(request_uri(&carol.request), "sip:carol@10.9.9.9:5060");
    assert_ne!(values(&bob.request, Name::Via)[0], values(&carol.request, Name::Via)[0]);
}

/// RFC 3261 §16.7 item 5: a 100 stays here, other provisional responses go on at once.
#[test]
fn provisional_responses_go_on_but_a_100_does_not() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);

    assert_eq!(scene.reply(&bob, 100, ""), []);
    assert_eq!(statuses(&scene.reply(&bob, 180, "")), [180]);
    assert_eq!(statuses(&scene.reply(&carol, 183, "")), [183]);
    assert_eq!(statuses(&scene.reply(&bob, 180, "")), [180]);
}

/// RFC 3261 §16.7 item 10, RFC 3326 §3.1: the others are cancelled, and are told why.
#[test]
fn a_2xx_goes_on_and_the_other_branches_are_cancelled() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&bob, 180, "");
    scene.reply(&carol, 180, "");

    let out = scene.reply(&bob, 200, "");

    assert_eq!(statuses(&out), [200]);
    let cancel = only_left(&out);
    assert_eq!(method(&cancel.request), "CANCEL");
    assert_eq!(cancel.to, carol.to);
    assert_eq!(values(&cancel.request, Name::Via), values(&carol.request, Name::Via)[..1]);
    assert_eq!(request_uri(&cancel.request), request_uri(&carol.request));
    assert!(header(&cancel.request, Name::Reason).unwrap().contains("cause=200"));
    assert_eq!(scene.counts().of(Count::BranchCancelled), 1);
    // What the cancelled branch says then is nobody's business.
    assert_eq!(scene.reply(&cancel, 200, ""), []);
    assert_eq!(scene.reply(&carol, 487, ""), []);
}

/// RFC 3261 §16.7 item 5: a second 2xx goes on too; the caller has to end one of the calls.
#[test]
fn a_2xx_that_crosses_the_cancel_goes_on_too() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&carol, 180, "");
    scene.reply(&bob, 200, "");

    assert_eq!(statuses(&scene.reply(&carol, 200, "")), [200]);
    assert_eq!(statuses(&scene.reply(&bob, 200, "")), [200]);
}

/// RFC 3261 §9.1: a CANCEL waits for a provisional response.
#[test]
fn a_branch_that_has_not_answered_is_cancelled_when_it_does() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    assert_eq!(left(&scene.reply(&bob, 200, "")).len(), 0);

    let out = scene.reply(&carol, 100, "");

    assert_eq!(method(&only_left(&out).request), "CANCEL");
    assert_eq!(left(&scene.reply(&carol, 180, "")).len(), 0, "once");
}

/// RFC 3261 §16.7 item 6: the lowest class, when all have answered.
#[test]
fn the_best_response_goes_on_when_all_branches_have_ended() {
    for (first, second, best) in [
        (486, 302, 302),
        (500, 486, 486),
        (404, 407, 407),
        (408, 486, 486),
        (480, 603, 603),
        (487, 404, 404),
        (486, 404, 486),
    ] {
        let mut scene = Scene::new();
        let (bob, carol) = fork(&mut scene);
        let challenge = "Proxy-Authenticate: Digest realm=\"example.net\", nonce=\"1\"";

        assert_eq!(statuses(&scene.reply(&bob, first, "")), []);
        let out = scene.reply(&carol, second, if second == 407 { challenge } else { "" });

        assert_eq!(statuses(&out), [best], "{first} {second}");
    }
}

/// RFC 3261 §16.7 item 7: the client answers all challenges at once.
#[test]
fn challenges_of_all_branches_go_on_together() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&bob, 401, "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\"");

    let response = only_response(&scene.reply(
        &carol,
        407,
        "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\", qop=\"auth\"",
    ));

    assert_eq!(status(&response), 401);
    let message = Message::parse(&response).unwrap();
    assert_eq!(message.header(Name::WwwAuthenticate).unwrap(), b"Digest realm=\"one\", nonce=\"1\"");
    assert_eq!(
        message.header(Name::ProxyAuthenticate).unwrap(),
        b"Digest realm=\"two\", nonce=\"2\", qop=\"auth\""
    );
    assert_eq!(message.count(Name::WwwAuthenticate), 1);
}

/// RFC 3261 §16.7 item 5: a 6xx ends the search, and a 2xx may still come before it goes on.
#[test]
fn a_6xx_cancels_the_others_and_waits_for_them() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&carol, 180, "");

    let out = scene.reply(&bob, 603, "");
    assert_eq!(statuses(&out), []);
    assert_eq!(method(&only_left(&out).request), "CANCEL");
    assert_eq!(statuses(&scene.reply(&carol, 487, "")), [603]);

    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&carol, 180, "");
    scene.reply(&bob, 603, "");
    assert_eq!(statuses(&scene.reply(&carol, 200, "")), [200]);
}

/// RFC 3261 §16.7 item 5: after a 6xx no branch begins.
#[test]
fn a_6xx_ends_the_search_for_those_that_wait_too() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Max-Breadth: 1");
    let first = only_left(&scene.call_as_account(ALICE, &request, vec![bob(), carol()]));

    let out = scene.reply(&first, 603, "");

    assert_eq!(left(&out).len(), 0);
    assert_eq!(statuses(&out), [603]);
}

/// RFC 3261 §16.7 item 6: a 503 is about the server behind, not about this one.
#[test]
fn a_503_goes_on_as_a_500() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&bob, 503, "Retry-After: 99");

    let response = only_response(&scene.reply(&carol, 503, ""));

    assert_eq!(status(&response), 500);
    assert_eq!(header(&response, Name::RetryAfter), None);
}

#[test]
fn silence_of_all_phones_is_a_408() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);

    assert_eq!(statuses(&scene.client_event(bob.key, ClientEvent::TimedOut)), []);
    assert_eq!(statuses(&scene.client_event(carol.key, ClientEvent::TimedOut)), [408]);
}

/// RFC 4320 §4.2: no 408 to a request that is no INVITE.
#[test]
fn silence_to_another_request_is_answered_by_silence() {
    let mut scene = Scene::new();
    let out = scene.call_as_account(ALICE, &request("MESSAGE", "sip:bob@example.org"), vec![bob(), carol()]);
    let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
    scene.client_event(bob.key, ClientEvent::TimedOut);

    let out = scene.reply(carol, 408, "");

    assert!(matches!(out[..], [Output::Drop { .. }]), "{out:?}");
    assert_eq!(scene.user.contexts(), 0);
}

#[test]
fn another_request_is_answered_once_and_never_cancelled() {
    let mut scene = Scene::new();
    let out = scene.call_as_account(ALICE, &request("MESSAGE", "sip:bob@example.org"), vec![bob(), carol()]);
    let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };

    let out = scene.reply(bob, 202, "");
    assert_eq!(statuses(&out), [202]);
    assert_eq!(left(&out).len(), 0);
    assert_eq!(scene.reply(carol, 200, ""), []);
}

#[test]
fn a_phone_rings_for_the_ring_time_out_and_then_counts_as_silent() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.pass(Duration::from_secs(5));
    scene.reply(&there, 180, "");
    scene.pass(Duration::from_secs(60));
    scene.reply(&there, 180, "");

    assert_eq!(scene.pass(Duration::from_secs(59)), []);
    let cancel = only_left(&scene.pass(Duration::from_secs(1)));
    assert_eq!(method(&cancel.request), "CANCEL");
    assert_eq!(scene.counts().of(Count::RingTimeout), 1);
    assert_eq!(statuses(&scene.reply(&there, 487, "")), [408]);
}

/// RFC 3261 §16.8: timer C ends what answered by a 100 alone, RFC 3261 §16.7 item 2: each 101-199 restarts it.
#[test]
fn timer_c_ends_a_branch_that_says_nothing_more() {
    let mut scene = Scene::with(|settings| settings.proxy.ring_timeout = Duration::from_secs(10_000));
    let (bob, carol) = fork(&mut scene);
    scene.reply(&bob, 100, "");
    scene.reply(&carol, 100, "");
    scene.pass(Duration::from_secs(100));
    scene.reply(&bob, 100, "");
    scene.reply(&carol, 180, "");

    let out = scene.pass(Duration::from_secs(90));
    assert_eq!(only_left(&out).to, bob.to);
    let out = scene.pass(Duration::from_secs(100));
    assert_eq!(method(&left(&out)[0].request), "CANCEL");
    assert_eq!(left(&out)[0].to, carol.to);
}

#[test]
fn a_cancelled_branch_that_never_answers_is_freed() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&there, 180, "");
    scene.pass(Duration::from_secs(120));

    let out = scene.pass(Duration::from_secs(32));

    assert_eq!(out.first(), Some(&Output::Abandon { key: there.key }));
    assert_eq!(statuses(&out), [408]);
    assert_eq!(scene.reply(&there, 200, ""), []);
    assert_eq!(scene.counts().of(Count::StrayResponse), 1);
}

#[test]
fn a_context_ends_with_its_server_transaction() {
    let mut scene = Scene::new();
    let (bob, carol) = fork(&mut scene);
    scene.reply(&carol, 180, "");
    let out = scene.reply(&bob, 200, "");
    let Some(Output::Respond { key, .. }) = out.first() else { panic!("{out:?}") };

    let ended = scene.server_ended(*key);

    assert_eq!(scene.user.contexts(), 0);
    assert_eq!(ended, [Output::Abandon { key: carol.key }]);
    assert_eq!(scene.reply(&bob, 200, ""), []);
}

#[test]
fn reminders_do_not_pile_up_however_often_a_phone_says_that_it_rings() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    let before = scene.user.deadlines.len();

    for _ in 0..1_000 {
        scene.pass(Duration::from_millis(10));
        scene.reply(&there, 180, "");
    }

    assert!(scene.user.deadlines.len() <= before + 2);
}

fn fork(scene: &mut Scene) -> (Left, Left) {
    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), carol()]);
    let left = left(&out);
    assert_eq!(left.len(), 2);
    (left[0].clone(), left[1].clone())
}

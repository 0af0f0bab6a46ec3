//! CANCEL, whatever the INVITE is waiting for (RFC 3261 §9.2, RFC 3261 §16.10).

use sip::Name;
use transaction::ClientEvent;
use transport::selection::Records;

use super::scene::*;
use crate::call::Output;
use crate::{Answer, Authenticated, Count, Located};

#[test]
fn an_invite_that_waits_for_its_account_is_cancelled() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let invite = request.clone().header(&credentials(&request, &refusal)).again();
    let (token, _) = only_ask(&scene.receive(ALICE, &invite.text()));

    let out = scene.receive(ALICE, &cancel_of(&invite).text());

    assert_eq!(statuses(&out), [200, 487]);
    assert_eq!(header(&responses(&out)[0], Name::To), header(&responses(&out)[1], Name::To));
    // The answer comes too late.
    assert_eq!(scene.answer(token, Answer::Authenticated(Authenticated::Yes)), []);
    assert_eq!(scene.counts().of(Count::UnknownToken), 1);
    assert_eq!(scene.user.suspended(), 0);
}

#[test]
fn an_invite_that_waits_for_its_target_is_cancelled() {
    let mut scene = Scene::new();
    let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:bob@example.org")));

    let out = scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    assert_eq!(statuses(&out), [200, 487]);
    assert_eq!(scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))), []);
}

#[test]
fn an_invite_that_waits_for_a_name_is_cancelled() {
    let mut scene = Scene::new();
    let out = scene.send_as_account(ALICE, &invite("sip:x@elsewhere.example"));
    let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };

    let out = scene.receive(ALICE, &cancel_of(&invite("sip:x@elsewhere.example").again()).text());

    assert_eq!(statuses(&out), [200, 487]);
    assert_eq!(scene.resolved(*token, Records::None), []);
    assert_eq!(scene.counts().of(Count::UnknownToken), 1);
}

/// RFC 3261 §16.10: what rings is cancelled, and its 487 goes on.
#[test]
fn an_invite_that_rings_is_cancelled_on_every_branch() {
    let mut scene = Scene::new();
    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), carol()]);
    let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
    scene.reply(bob, 180, "");
    scene.reply(carol, 180, "");

    let out = scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    assert_eq!(statuses(&out), [200]);
    let cancels = left(&out);
    assert_eq!(cancels.len(), 2);
    assert!(cancels.iter().all(|cancel| method(&cancel.request) == "CANCEL"));
    assert_eq!(header(&cancels[0].request, Name::Reason), None);
    assert_eq!(statuses(&scene.reply(bob, 487, "")), []);
    assert_eq!(statuses(&scene.reply(carol, 487, "")), [487]);
}

#[test]
fn a_phone_that_is_silent_is_cancelled_when_it_speaks() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));

    let out = scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());
    assert_eq!(statuses(&out), [200]);
    assert_eq!(left(&out).len(), 0);

    assert_eq!(method(&only_left(&scene.reply(&there, 180, "")).request), "CANCEL");
}

#[test]
fn a_phone_that_stays_silent_after_a_cancel_gives_a_487() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    assert_eq!(statuses(&scene.client_event(there.key, ClientEvent::TimedOut)), [487]);
}

#[test]
fn a_2xx_that_crosses_the_callers_cancel_goes_on() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&there, 180, "");
    scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    assert_eq!(statuses(&scene.reply(&there, 200, "")), [200]);
}

/// RFC 3261 §9.2: who cancels waits for a 487, whatever the phones said before or say then.
#[test]
fn a_caller_that_cancels_hears_a_487_whatever_the_phones_say() {
    for (before, after) in [(486, 487), (404, 486), (603, 487), (302, 603), (407, 480), (603, 200)] {
        let mut scene = Scene::new();
        let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), carol()]);
        let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
        scene.reply(carol, 180, "");
        scene.reply(bob, before, "");

        scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());
        let out = scene.reply(carol, after, "");

        let expected = if after == 200 { 200 } else { 487 };
        assert_eq!(statuses(&out), [expected], "{before} {after}");
    }
}

/// The tag of the phone's dialog is the one that the caller knows.
#[test]
fn the_487_of_a_phone_goes_before_our_own() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&there, 180, "");
    scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    let response = only_response(&scene.reply(&there, 487, ""));

    assert!(header(&response, Name::To).unwrap().ends_with(";tag=callee-tag"));
}

/// RFC 3261 §9.2: a CANCEL after the final response changes nothing.
#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&there, 200, "");

    let out = scene.receive(ALICE, &cancel_of(&invite("sip:bob@example.org").again()).text());

    assert_eq!(statuses(&out), [200]);
    assert_eq!(left(&out).len(), 0);
}

#[test]
fn a_repeated_cancel_of_ours_is_not_sent() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&there, 180, "");
    let cancel = cancel_of(&invite("sip:bob@example.org").again());
    scene.receive(ALICE, &cancel.text());

    assert_eq!(left(&scene.receive(ALICE, &cancel.text())).len(), 0);
}

/// RFC 3261 §9.2: 481 for what is not there.
#[test]
fn a_cancel_of_nothing_is_refused() {
    let mut scene = Scene::new();
    scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]);
    let other = invite("sip:bob@example.org").via("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-guessed");

    let out = scene.receive(ALICE, &cancel_of(&other).text());

    assert_eq!(statuses(&out), [481]);
    assert!(is_stateless(&out));
}

pub(super) fn cancel_of(invite: &Request) -> Request {
    Request { method: "CANCEL", headers: Vec::new(), ..invite.clone() }
}

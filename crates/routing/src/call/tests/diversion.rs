//! Calls that a user forwards: always, when no phone is registered, and when none of them takes the call.

use std::sync::Arc;
use std::time::Duration;

use sip::{Aor, Name};
use transaction::ClientEvent;

use super::scene::*;
use crate::call::Output;
use crate::{Account, Answer, CallRules, Count, ForwardTarget, Forwards, Located, Question, Target, Token};

const MAIL: &str = "sip:mail@203.0.113.5:5080";

#[test]
fn a_call_to_a_user_that_wants_none_goes_elsewhere_and_no_phone_rings() {
    let mut scene = Scene::new();

    let out = call(&mut scene, vec![bob()], Forwards { always: to(MAIL), ..Forwards::default() });

    let mail = only_left(&out);
    assert_eq!(request_uri(&mail.request), MAIL);
    assert_eq!(mail.to.remote().0.to_string(), "203.0.113.5:5080");
    assert_eq!(header(&mail.request, Name::To).unwrap(), "<sip:bob@example.org>");
    assert_eq!(diversions(&mail), ["<sip:bob@example.org>;reason=unconditional;counter=1"]);
    assert_eq!(scene.counts().of(Count::Diverted), 1);
}

#[test]
fn a_call_to_a_user_without_a_phone_goes_elsewhere() {
    for forwards in [
        Forwards { not_registered: to(MAIL), ..Forwards::default() },
        Forwards { no_answer: to(MAIL), ..Forwards::default() },
    ] {
        let mut scene = Scene::new();
        let out = call(&mut scene, Vec::new(), forwards);
        assert_eq!(diversions(&only_left(&out)), ["<sip:bob@example.org>;reason=unavailable;counter=1"]);
    }
    let mut scene = Scene::new();
    let out = call(&mut scene, Vec::new(), Forwards { busy: to(MAIL), ..Forwards::default() });
    assert_eq!(statuses(&out), [480]);
}

/// A user who declines says "busy" to the caller; RFC 3261 §16.7 item 5 would end the search.
#[test]
fn a_call_that_is_refused_as_busy_goes_elsewhere() {
    for status in [486, 600, 603] {
        let mut scene = Scene::new();
        let forwards = Forwards { busy: to(MAIL), ..Forwards::default() };
        let out = call(&mut scene, vec![bob(), carol()], forwards);
        let [bob, carol] = &left(&out)[..] else { panic!("{out:?}") };
        scene.reply(carol, 180, "");

        let refused = scene.reply(bob, status, "");
        let out = match status {
            486 => scene.reply(carol, 486, ""),
            _ => {
                assert_eq!(method(&only_left(&refused).request), "CANCEL");
                scene.reply(carol, 487, "")
            }
        };

        let mail = only_left(&out);
        assert_eq!(statuses(&out), [], "{status}");
        assert_eq!(request_uri(&mail.request), MAIL);
        assert_eq!(diversions(&mail), ["<sip:bob@example.org>;reason=user-busy;counter=1"]);
        assert_eq!(statuses(&scene.reply(&mail, 200, "")), [200]);
    }
}

#[test]
fn a_call_that_nobody_takes_in_time_goes_elsewhere_at_once() {
    let mut scene = Scene::new();
    let after = Some(Duration::from_secs(20));
    let forwards = Forwards { no_answer: to(MAIL), no_answer_after: after, ..Forwards::default() };
    let phone = only_left(&call(&mut scene, vec![bob()], forwards));
    scene.reply(&phone, 180, "");

    assert_eq!(scene.pass(Duration::from_millis(19_999)), []);
    let out = scene.pass(Duration::from_millis(1));

    let [cancel, mail] = &left(&out)[..] else { panic!("{out:?}") };
    assert_eq!((method(&cancel.request), cancel.to), ("CANCEL".to_owned(), phone.to));
    assert_eq!(diversions(mail), ["<sip:bob@example.org>;reason=no-answer;counter=1"]);
    assert_eq!(scene.reply(&phone, 487, ""), []);
    assert_eq!(statuses(&scene.reply(mail, 200, "")), [200]);
}

#[test]
fn a_phone_that_answers_as_the_call_goes_elsewhere_wins() {
    let mut scene = Scene::new();
    let forwards = Forwards { no_answer: to("carol@example.org"), ..Forwards::default() };
    let phone = only_left(&call(&mut scene, vec![bob()], forwards));
    scene.reply(&phone, 180, "");
    let (token, _) = only_ask(&scene.pass(Duration::from_secs(30)));

    assert_eq!(statuses(&scene.reply(&phone, 200, "")), [200]);
    assert_eq!(scene.answer(token, Answer::Located(Located::Targets(vec![carol()]))), []);
}

/// What the phones have said is kept where the other place does not take the call either.
#[test]
fn a_call_that_is_not_taken_elsewhere_ends_with_the_best_response_of_all() {
    let mut scene = Scene::new();
    let phone = only_left(&call(&mut scene, vec![bob()], Forwards { busy: to(MAIL), ..Forwards::default() }));
    let mail = only_left(&scene.reply(&phone, 486, ""));

    assert_eq!(statuses(&scene.client_event(mail.key, ClientEvent::TimedOut)), [486]);
}

#[test]
fn a_refusal_that_is_not_meant_goes_to_the_caller() {
    for status in [404, 302, 488] {
        let mut scene = Scene::new();
        let forwards = Forwards { busy: to(MAIL), no_answer: to(MAIL), ..Forwards::default() };
        let phone = only_left(&call(&mut scene, vec![bob()], forwards));

        let out = scene.reply(&phone, status, "");

        assert_eq!((statuses(&out), left(&out).len()), (vec![status], 0));
    }
}

#[test]
fn a_user_that_calls_are_forwarded_to_is_located_and_may_forward_them_again() {
    let mut scene = Scene::new();
    let forwards = Forwards { busy: to("carol@example.org"), ..Forwards::default() };
    let phone = only_left(&call(&mut scene, vec![bob()], forwards));
    let out = scene.reply(&phone, 486, "");
    let carols = Forwards { no_answer: to(MAIL), ..Forwards::default() };
    let out = scene.answer(asked_for(&out, "carol@example.org"), ruled("carol", vec![carol()], carols));
    let carol = only_left(&out);
    assert_eq!(request_uri(&carol.request), "sip:carol@10.9.9.9:5060");
    assert_eq!(diversions(&carol).len(), 1);
    scene.reply(&carol, 180, "");

    let out = scene.pass(Duration::from_secs(30));

    assert_eq!(
        diversions(left(&out).last().unwrap()),
        [
            "<sip:carol@example.org>;reason=no-answer;counter=1",
            "<sip:bob@example.org>;reason=user-busy;counter=1"
        ]
    );
}

#[test]
fn two_users_that_forward_to_each_other_end_with_a_refusal() {
    let mut scene = Scene::new();
    let to_carol = || Forwards { always: to("carol@example.org"), ..Forwards::default() };
    let to_bob = Forwards { always: to("bob@example.org"), ..Forwards::default() };
    let out = call(&mut scene, vec![bob()], to_carol());
    let out = scene.answer(asked_for(&out, "carol@example.org"), ruled("carol", vec![carol()], to_bob));

    let out = scene.answer(asked_for(&out, "bob@example.org"), ruled("bob", vec![bob()], to_carol()));

    assert_eq!(statuses(&out), [482]);
    assert_eq!(scene.counts().of(Count::Loop), 1);
}

/// Those of other servers count too: theirs may forward to ours again.
#[test]
fn a_call_that_was_forwarded_too_often_is_not_forwarded_again() {
    for (before, expected) in [(4, 1), (5, 0)] {
        let mut scene = Scene::new();
        let value = "<sip:x@elsewhere.example>;reason=unconditional";
        let request =
            invite("sip:bob@example.org").header(&format!("Diversion: {}", vec![value; before].join(", ")));
        let asked = scene.send_as_account(ALICE, &request);
        let forwards = Forwards { always: to(MAIL), ..Forwards::default() };

        let out = scene.answer(asked_for(&asked, "bob@example.org"), ruled("bob", vec![bob()], forwards));

        assert_eq!(left(&out).len(), expected);
    }
}

#[test]
fn a_caller_that_gives_up_while_the_other_place_is_looked_for_hears_a_487() {
    let mut scene = Scene::new();
    let forwards = Forwards { busy: to("carol@example.org"), ..Forwards::default() };
    let phone = only_left(&call(&mut scene, vec![bob()], forwards));
    let token = asked_for(&scene.reply(&phone, 486, ""), "carol@example.org");
    let cancel = Request { method: "CANCEL", ..invite("sip:bob@example.org").again() };

    assert_eq!(statuses(&scene.receive(ALICE, &cancel.text())), [200, 487]);
    assert_eq!(scene.answer(token, Answer::Located(Located::Targets(vec![carol()]))), []);
    assert_eq!(scene.counts().of(Count::UnknownToken), 1);
}

#[test]
fn a_place_that_can_not_be_found_leaves_the_refusal_of_the_phones() {
    for found in [Located::UnknownAor, Located::Targets(Vec::new()), Located::Unavailable] {
        let mut scene = Scene::new();
        let forwards = Forwards { busy: to("carol@example.org"), ..Forwards::default() };
        let phone = only_left(&call(&mut scene, vec![bob()], forwards));
        let token = asked_for(&scene.reply(&phone, 486, ""), "carol@example.org");

        assert_eq!(statuses(&scene.answer(token, Answer::Located(found))), [486]);
    }
}

/// A stranger in the own network may not call elsewhere, but a user may have its calls go there.
#[test]
fn a_call_from_an_open_listener_is_forwarded_elsewhere_in_the_name_of_the_user() {
    let mut scene = Scene::new();
    let asked = scene.receive_by(udp(OPEN, "10.1.0.9:5060"), &invite("sip:bob@example.org").text());
    let forwards = Forwards { always: to(MAIL), ..Forwards::default() };

    let out = scene.answer(asked_for(&asked, "bob@example.org"), ruled("bob", vec![bob()], forwards));

    assert_eq!(request_uri(&only_left(&out).request), MAIL);
}

#[test]
fn only_calls_are_forwarded() {
    let mut scene = Scene::new();

    let (_, question) = only_ask(&scene.send_as_account(ALICE, &request("MESSAGE", "sip:bob@example.org")));

    assert!(matches!(question, Question::Locate(_)));
}

/// RFC 5393 §5.3.3: with a breadth of one the call goes elsewhere when the phone has let go of it.
#[test]
fn a_forwarded_call_keeps_to_the_breadth_that_is_left() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Max-Breadth: 1");
    let asked = scene.send_as_account(ALICE, &request);
    let forwards = Forwards { no_answer: to(MAIL), ..Forwards::default() };
    let out = scene.answer(asked_for(&asked, "bob@example.org"), ruled("bob", vec![bob()], forwards));
    let phone = only_left(&out);
    scene.reply(&phone, 180, "");
    assert_eq!(method(&only_left(&scene.pass(Duration::from_secs(30))).request), "CANCEL");

    assert_eq!(request_uri(&only_left(&scene.reply(&phone, 487, "")).request), MAIL);
}

fn call(scene: &mut Scene, targets: Vec<Target>, forwards: Forwards) -> Vec<Output> {
    let asked = scene.send_as_account(ALICE, &invite("sip:bob@example.org"));
    scene.answer(asked_for(&asked, "bob@example.org"), ruled("bob", targets, forwards))
}

fn asked_for(out: &[Output], aor: &str) -> Token {
    let (token, question) = only_ask(out);
    assert_eq!(question, Question::Call(Aor::parse(aor).unwrap()));
    token
}

fn ruled(user: &str, targets: Vec<Target>, forwards: Forwards) -> Answer {
    let aor = Aor::parse(&format!("{user}@example.org")).unwrap();
    let calls = CallRules { forwards, ..CallRules::default() };
    let account = Account { aor, ha1: Vec::new(), aliases: Vec::new(), may_use: Vec::new(), calls };
    Answer::Located(Located::Ruled(targets, Arc::new(account)))
}

fn to(target: &str) -> Option<ForwardTarget> {
    Some(ForwardTarget::parse(target, "example.org").unwrap())
}

fn diversions(left: &Left) -> Vec<String> {
    values(&left.request, Name::Diversion)
}

//! Requests that wait: bounded in number and in time.

use std::time::Duration;

use transport::selection::Records;

use super::scene::*;
use crate::call::Output;
use crate::call::suspended::SUSPENDED_MAX;
use crate::{Answer, Authenticated, Count, Located, Token};

#[test]
fn an_account_that_is_not_looked_up_in_time_gives_a_500_without_state() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let (token, _) = only_ask(
        &scene.receive(ALICE, &request.clone().header(&credentials(&request, &refusal)).again().text()),
    );

    assert_eq!(scene.pass(Duration::from_millis(9_999)), []);
    let out = scene.pass(Duration::from_millis(1));

    assert_eq!(statuses(&out), [500]);
    assert!(is_stateless(&out));
    assert!(header(&only_response(&out), sip::Name::RetryAfter).is_some());
    assert_eq!(scene.counts().of(Count::SuspendedTooLong), 1);
    assert_eq!(scene.answer(token, Answer::Authenticated(Authenticated::Yes)), []);
}

#[test]
fn a_target_that_is_not_found_in_time_gives_a_500() {
    let mut scene = Scene::new();
    scene.send_as_account(ALICE, &invite("sip:bob@example.org"));

    let out = scene.pass(Duration::from_secs(10));

    assert_eq!(statuses(&out), [500]);
    assert!(!is_stateless(&out));
}

#[test]
fn a_registration_that_is_not_decided_in_time_gives_a_500() {
    let mut scene = Scene::new();
    scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &register().text());

    assert_eq!(statuses(&scene.pass(Duration::from_secs(10))), [500]);
}

#[test]
fn a_name_that_does_not_resolve_in_time_gives_a_500() {
    let mut scene = Scene::new();
    scene.send_as_account(ALICE, &invite("sip:x@elsewhere.example"));

    assert_eq!(statuses(&scene.pass(Duration::from_secs(10))), [500]);
}

#[test]
fn an_answer_that_nobody_waits_for_is_counted() {
    let mut scene = Scene::new();

    assert_eq!(scene.answer(Token(77), Answer::Located(Located::UnknownAor)), []);
    assert_eq!(scene.resolved(Token(77), Records::Failed), []);
    assert_eq!(scene.counts().of(Count::UnknownToken), 2);
}

#[test]
fn an_answer_to_another_question_is_no_answer() {
    let mut scene = Scene::new();
    let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:bob@example.org")));

    let out = scene.answer(token, Answer::Authenticated(Authenticated::Yes));

    assert_eq!(statuses(&out), [500]);
    assert_eq!(left(&out).len(), 0);
}

#[test]
fn tokens_of_shards_and_starts_differ() {
    let first = |shard, boot| {
        let settings = std::sync::Arc::new(settings());
        let keyring = crate::Keyring::derive(&keys::RootKey::new([7; 32]));
        let mut scene = Scene::new();
        scene.user = crate::TransactionUser::new(settings, keyring, shard, boot);
        only_ask(&scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &register().text())).0
    };

    assert_ne!(first(0, 1), first(1, 1));
    assert_ne!(first(0, 1), first(0, 2));
}

#[test]
fn more_than_can_wait_are_refused_and_hear_when_to_come_again() {
    let mut scene = Scene::new();
    let source = udp(OPEN, "10.1.0.77:5060");
    for number in 0..SUSPENDED_MAX {
        let via = format!("SIP/2.0/UDP 10.1.0.77;branch=z9hG4bK-{number}");
        assert!(matches!(scene.receive_by(source, &register().via(&via).text())[..], [Output::Ask { .. }]));
    }

    let out = scene.receive_by(source, &register().via("SIP/2.0/UDP 10.1.0.77;branch=z9hG4bK-more").text());

    assert_eq!(statuses(&out), [503]);
    assert!(header(&only_response(&out), sip::Name::RetryAfter).is_some());
    assert_eq!(scene.user.suspended(), SUSPENDED_MAX);
    assert_eq!(scene.counts().of(Count::Full), 1);
}

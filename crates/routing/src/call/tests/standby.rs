//! What a node says by an address of its own while another one is active.

use std::time::Duration;

use sip::Name;

use super::scene::{ALICE, Scene, bob, header, invite, only_ask, only_left, register, request, status};
use crate::call::{Output, Readiness};
use crate::{Answer, Count, Located};

#[test]
fn a_standby_answers_options_to_itself_by_whether_it_is_ready() {
    let mut scene = Scene::new();
    let options = request("OPTIONS", "sip:192.0.2.5");

    let ready = only(&scene.standby(ALICE, &options.text(), Readiness::Ready));
    let unready = only(&scene.standby(ALICE, &options.text(), Readiness::NotReady));

    assert_eq!((status(&ready), status(&unready)), (200, 503));
    assert_eq!(header(&unready, Name::RetryAfter).as_deref(), Some("5"));
}

/// RFC 3261 §21.5.4.
#[test]
fn a_standby_refuses_all_other_requests_and_says_when_to_come_again() {
    let mut scene = Scene::new();
    let requests = [
        invite("sip:bob@example.org"),
        register(),
        request("OPTIONS", "sip:bob@example.org"),
        request("BYE", "sip:bob@192.0.2.102"),
        request("CANCEL", "sip:bob@example.org"),
        request("OPTIONS", "sips:192.0.2.5"),
    ];

    for request in requests {
        let answer = only(&scene.standby(ALICE, &request.text(), Readiness::Ready));
        assert_eq!(status(&answer), 503, "{}", request.text());
        assert_eq!(header(&answer, Name::RetryAfter).as_deref(), Some("5"));
    }
    assert_eq!(scene.counts().of(Count::AnsweredAsStandby), 6);
}

#[test]
fn a_standby_does_not_answer_an_ack_or_a_scanner() {
    let mut scene = Scene::new();
    let ack = request("ACK", "sip:192.0.2.5");
    let scan = request("OPTIONS", "sip:192.0.2.5").header("User-Agent: friendly-scanner");

    assert_eq!(scene.standby(ALICE, &ack.text(), Readiness::Ready), []);
    assert_eq!(scene.standby(ALICE, &scan.text(), Readiness::Ready), []);
}

#[test]
fn who_stood_by_knows_nothing_of_a_call_that_was_ringing() {
    let mut scene = Scene::new();
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&phone, 180, "");
    assert_eq!((scene.user.contexts(), scene.user.calls()), (1, 1));

    scene.stand_by();

    assert_eq!((scene.user.contexts(), scene.user.calls(), scene.user.poll_timeout()), (0, 0, None));
    assert_eq!(scene.pass(Duration::from_secs(300)), []);
    assert_eq!(scene.reply(&phone, 200, ""), []);
}

#[test]
fn an_answer_for_a_request_of_before_finds_nothing_and_no_later_request() {
    let mut scene = Scene::new();
    let asked = scene.send_as_account(ALICE, &invite("sip:bob@example.org"));
    let (token, _) = only_ask(&asked);

    scene.stand_by();
    let again = scene.send_as_account(ALICE, &invite("sip:bob@example.org").again());

    assert_ne!(only_ask(&again).0, token);
    assert_eq!(scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))), []);
}

fn only(out: &[Output]) -> bytes::Bytes {
    match out {
        [Output::SendStateless { message, .. }] => message.clone(),
        other => panic!("{other:?}"),
    }
}

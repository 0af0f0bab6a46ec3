//! Calls that count for the limit of the account that makes them, and when they end.

use std::time::Duration;

use sip::Name;

use super::scene::*;
use crate::call::Output;
use crate::{Answer, Authenticated, CallName, Located, Question};

#[test]
fn a_call_counts_until_its_final_response() {
    for status in [404, 486, 603] {
        let mut scene = Scene::new();
        let (phone, call) = counted(&mut scene);
        assert_eq!(ended(&scene.reply(&phone, 180, "")), []);
        assert_eq!(scene.user.calls(), 1);

        assert_eq!(ended(&scene.reply(&phone, status, "")), [call]);
        assert_eq!(scene.user.calls(), 0);
    }
}

#[test]
fn a_call_that_was_answered_counts_until_either_side_hangs_up() {
    for is_callee in [false, true] {
        let mut scene = Scene::new();
        let (phone, call) = counted(&mut scene);
        let answered = scene.reply(&phone, 200, "");
        assert_eq!(ended(&answered), []);
        let Some(Output::Respond { key, .. }) = answered.first() else { panic!("{answered:?}") };
        let out = scene.server_ended(*key);
        assert_eq!((ended(&out), scene.user.calls()), (vec![], 1));

        let out = hang_up(&mut scene, &phone, "callee-tag", is_callee);

        assert_eq!((ended(&out), scene.user.calls()), (vec![call], 0));
    }
}

/// Two phones that answered at once: the caller hangs one of them up.
#[test]
fn a_call_with_two_dialogs_counts_until_both_have_ended() {
    let mut scene = Scene::new();
    let (phone, call) = counted(&mut scene);
    scene.reply(&phone, 200, "");
    let bytes = response(&phone.request, 200, "");
    let other = String::from_utf8(bytes).unwrap().replace("callee-tag", "other-tag");
    scene.response(phone.key, &sip::Message::parse(other.as_bytes()).unwrap());

    assert_eq!(ended(&hang_up(&mut scene, &phone, "other-tag", false)), []);
    assert_eq!(ended(&hang_up(&mut scene, &phone, "callee-tag", false)), [call]);
}

#[test]
fn a_call_whose_target_is_not_found_counts_no_more() {
    let mut scene = Scene::new();
    let (token, call) = admitted(&mut scene);

    let out = scene.answer(token, Answer::Located(Located::UnknownAor));

    assert_eq!((statuses(&out), ended(&out)), (vec![404], vec![call]));
}

#[test]
fn a_call_that_is_cancelled_counts_no_more() {
    let mut scene = Scene::new();
    let (phone, call) = counted(&mut scene);
    scene.reply(&phone, 180, "");
    let cancel = Request { method: "CANCEL", ..invite("sip:bob@example.org").again() };
    scene.receive(ALICE, &cancel.text());

    assert_eq!(ended(&scene.reply(&phone, 487, "")), [call]);
}

/// It counts from the moment that the account said so, whoever hears it.
#[test]
fn a_call_that_was_cancelled_before_it_was_counted_counts_no_more() {
    let mut scene = Scene::new();
    let (token, call) = asked(&mut scene);
    let cancel = Request { method: "CANCEL", ..invite("sip:bob@example.org").again() };
    assert_eq!(statuses(&scene.receive(ALICE, &cancel.text())), [200, 487]);

    assert_eq!(ended(&scene.answer(token, Answer::Authenticated(yes(call)))), [call]);
}

#[test]
fn a_call_whose_end_nobody_tells_ends_at_its_deadline() {
    let mut scene = Scene::with(|settings| settings.proxy.longest_call = Duration::from_secs(3_600));
    let (phone, call) = counted(&mut scene);
    scene.reply(&phone, 200, "");

    assert_eq!(ended(&scene.pass(Duration::from_secs(3_599))), []);
    assert_eq!(ended(&scene.pass(Duration::from_secs(1))), [call]);
}

#[test]
fn a_call_beyond_the_limit_is_refused_without_state() {
    let mut scene = Scene::new();
    let (token, _) = asked(&mut scene);

    let out = scene.answer(token, Answer::Authenticated(Authenticated::TooManyCalls));

    assert_eq!(statuses(&out), [403]);
    assert!(is_stateless(&out));
    assert_eq!(scene.user.calls(), 0);
}

#[test]
fn calls_that_count_for_nobody_are_known_too_and_other_requests_are_no_calls() {
    let mut scene = Scene::new();
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    assert_eq!(scene.user.calls(), 1);
    assert_eq!(ended(&scene.reply(&phone, 486, "")), []);
    assert_eq!(scene.user.calls(), 0);

    let message = request("MESSAGE", "sip:bob@example.org");
    scene.call_as_account(ALICE, &message.again(), vec![bob()]);
    assert_eq!(scene.user.calls(), 0);
}

/// A call under way that counts, and its name.
fn counted(scene: &mut Scene) -> (Left, CallName) {
    let (token, call) = admitted(scene);
    (only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()])))), call)
}

/// The same while the callee is looked for.
fn admitted(scene: &mut Scene) -> (crate::Token, CallName) {
    let (token, call) = asked(scene);
    let verdict = yes(call);
    let (token, _) = only_ask(&scene.answer(token, Answer::Authenticated(verdict)));
    (token, call)
}

fn yes(call: CallName) -> Authenticated {
    let account = sip::Aor::parse("alice@example.org").unwrap();
    Authenticated::Counted { verdict: Box::new(Authenticated::Yes), account, call }
}

/// The same while the account judges it.
fn asked(scene: &mut Scene) -> (crate::Token, CallName) {
    let request = invite("sip:bob@example.org");
    let refused = scene.receive(ALICE, &request.text());
    let with = request.clone().header(&credentials(&request, &only_response(&refused)));
    let (token, question) = only_ask(&scene.receive(ALICE, &with.again().text()));
    let Question::Authenticate(question) = question else { panic!("{question:?}") };
    (token, question.call.unwrap())
}

fn hang_up(scene: &mut Scene, phone: &Left, callee_tag: &str, is_callee: bool) -> Vec<Output> {
    let route = format!("Route: {}", values(&phone.request, Name::RecordRoute).join(", "));
    let (alice, bob) = (
        "<sip:alice@example.org>;tag=alice-tag".to_owned(),
        format!("<sip:bob@example.org>;tag={callee_tag}"),
    );
    let bye = match is_callee {
        false => request("BYE", "sip:bob@192.0.2.102:5060").from(&alice).to(&bob).header(&route),
        true => request("BYE", "sip:alice@192.0.2.101:5060")
            .from(&bob)
            .to(&alice)
            .via("SIP/2.0/UDP 192.0.2.102:5060;branch=z9hG4bK-bob-bye;rport")
            .header(&route),
    };
    let bye = Request { cseq: 9, via: bye.via.replace("bK", &format!("bK{callee_tag}")), ..bye };
    let mut out = scene.receive(if is_callee { BOB } else { ALICE }, &bye.text());
    let located = out.iter().find_map(|output| match output {
        Output::Ask { token, question: Question::Locate(_), .. } => Some(*token),
        _ => None,
    });
    if let Some(token) = located {
        out.extend(scene.answer(token, Answer::Located(Located::Targets(vec![self::bob()]))));
    }
    out
}

fn ended(out: &[Output]) -> Vec<CallName> {
    out.iter()
        .filter_map(|output| match output {
            Output::Ask { question: Question::CallEnded(_, call), .. } => Some(*call),
            _ => None,
        })
        .collect()
}

//! Calls that were answered: what ends them, what is known of them, and what another node makes of them.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use sip::{Aor, Name};

use super::scene::*;
use crate::call::{CallState, Output, StoredDialog};
use crate::{Answer, Authenticated, CallName, Located, Question, Token};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.102:5060>";

#[test]
fn who_hears_that_the_other_side_knows_no_such_call_has_no_call_any_more() {
    for (method, status, calls) in
        [("INVITE", 481, 0), ("UPDATE", 481, 0), ("INVITE", 408, 0), ("INVITE", 488, 1), ("INFO", 481, 1)]
    {
        let mut scene = Scene::new();
        let phone = up(&mut scene, 1);

        let request = within(&phone, method);
        let phone = only_left(&scene.receive(ALICE, &request.text()));
        scene.reply(&phone, status, "");

        assert_eq!(scene.user.calls(), calls, "{status} to {method}");
    }
}

#[test]
fn a_phone_that_does_not_answer_within_a_call_ends_it() {
    let mut scene = Scene::new();
    let phone = up(&mut scene, 1);
    let phone = only_left(&scene.receive(ALICE, &within(&phone, "UPDATE").text()));

    scene.client_event(phone.key, transaction::ClientEvent::TimedOut);

    assert_eq!(scene.user.calls(), 0);
}

#[test]
fn the_last_numbers_and_the_present_contacts_of_a_call_are_known() {
    let mut scene = Scene::new();
    let phone = up(&mut scene, 1);
    let moved = within(&phone, "INVITE").contact("<sip:alice@192.0.2.101:7777>");
    let moved = Request { cseq: 41, ..moved };
    let again = only_left(&scene.receive(ALICE, &moved.text()));
    scene.reply(&again, 200, "Contact: <sip:bob@192.0.2.102:8888>");

    let text = format!("{:?}", scene.user.stored_dialog(scene.now, name_of(&scene)));

    for part in ["cseq: Some(41)", "sip:alice@192.0.2.101:7777", "sip:bob@192.0.2.102:8888"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn those_who_look_see_who_calls_whom_and_since_when() {
    let mut scene = Scene::new();
    let phone = ringing(&mut scene, 1);
    assert_eq!(scene.user.call_views(scene.now.wall, 5)[0].state, CallState::Ringing);
    scene.pass(Duration::from_secs(5));
    scene.reply(&phone, 200, CONTACT);
    scene.pass(Duration::from_secs(60));
    ringing(&mut scene, 2);

    let views = scene.user.call_views(scene.now.wall, 5);

    let [first, second] = &views[..] else { panic!("{views:?}") };
    assert_eq!(
        (first.caller.as_str(), first.callee.as_str()),
        ("sip:alice@example.org", "sip:bob@example.org")
    );
    let seconds = Duration::from_secs;
    assert_eq!((first.age, first.state), (seconds(65), CallState::Up(seconds(60))));
    assert_eq!(first.account.as_deref(), Some("alice@example.org"));
    assert_eq!(second.state, CallState::Ringing);
    assert_eq!(scene.user.call_views(scene.now.wall, 1).len(), 1);
}

/// Of 300 calls, so that what else comes is not held up by them.
#[test]
fn the_partitions_of_the_other_node_are_told_of_all_calls_bit_by_bit() {
    let (mut here, mut there) = (Scene::new(), Scene::new());
    for number in 0..300 {
        up(&mut here, number);
    }
    inherit(&here, &mut there);
    assert_eq!((there.user.calls(), there.user.untold_calls()), (300, 300));

    let mut told = Vec::new();
    let mut steps = 0;
    while there.user.untold_calls() > 0 {
        assert_eq!(there.user.poll_timeout(), Some(clock::Instant::START), "there is more to tell");
        let out = there.once();
        assert!(out.len() <= 128, "{}", out.len());
        told.extend(going_on(&out));
        steps += 1;
    }

    told.sort_unstable();
    assert_eq!((told, steps), (here.user.answered_calls(), 3));
}

#[test]
fn a_call_that_ends_before_its_partition_was_told_is_not_told_any_more() {
    let (mut here, mut there) = (Scene::new(), Scene::new());
    let phone = up(&mut here, 1);
    inherit(&here, &mut there);

    there.receive(ALICE, &within(&phone, "BYE").text());

    assert_eq!((there.user.calls(), there.user.untold_calls()), (0, 0));
    assert_eq!(going_on(&there.once()), []);
}

#[test]
fn a_node_that_stands_by_keeps_the_calls_that_were_answered_and_tells_of_them_when_it_comes_back() {
    let mut scene = Scene::new();
    up(&mut scene, 1);
    let name = name_of(&scene);
    ringing(&mut scene, 2);

    scene.stand_by();

    assert_eq!(scene.user.answered_calls(), [name]);
    assert_eq!((scene.user.calls(), going_on(&scene.once())), (1, vec![name]));
}

#[test]
fn a_call_ends_on_the_other_node_when_it_would_have_ended_here() {
    let (mut here, mut there) = (Scene::new(), Scene::new());
    up(&mut here, 1);
    here.pass(Duration::from_secs(11 * 3_600));
    inherit(&here, &mut there);

    there.pass(Duration::from_secs(3_599));
    assert_eq!(there.user.calls(), 1);
    there.pass(Duration::from_secs(1));
    assert_eq!(there.user.calls(), 0);
}

#[test]
fn a_call_under_another_name_is_refused() {
    let (mut here, mut there) = (Scene::new(), Scene::new());
    up(&mut here, 1);
    let stored = here.user.stored_dialog(here.now, name_of(&here)).unwrap();

    assert!(!there.user.inherit_dialog(there.now, CallName::from_u64(7), &stored));

    assert_eq!(there.user.calls(), 0);
}

/// A link between two nodes carries 50,000 of them in a moment.
#[test]
fn a_call_is_told_in_less_than_a_kilobyte() {
    let mut scene = Scene::new();
    up(&mut scene, 1);

    let bytes = scene.user.stored_dialog(scene.now, name_of(&scene)).unwrap().to_bytes();

    println!("{} bytes", bytes.len());
    assert!(bytes.len() < 1_024, "{}", bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_the_reader_of_answered_calls_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = StoredDialog::from_bytes(bytes.into());
    }

    #[test]
    fn changed_bytes_are_refused_or_are_an_answered_call(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut here, mut there) = (Scene::new(), Scene::new());
        let phone = up(&mut here, 1);
        let name = name_of(&here);
        let mut bytes = here.user.stored_dialog(here.now, name).unwrap().to_bytes().to_vec();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        if let Ok(stored) = StoredDialog::from_bytes(Bytes::from(bytes)) {
            there.user.inherit_dialog(there.now, name, &stored);
            there.once();
            there.receive(ALICE, &within(&phone, "INFO").text());
            there.receive(ALICE, &within(&phone, "BYE").again().text());
        }
    }
}

/// What one step of time brings.
trait Once {
    fn once(&mut self) -> Vec<Output>;
}

impl Once for Scene {
    fn once(&mut self) -> Vec<Output> {
        let mirror = lease::LeaseMirror::permanent();
        let lease = mirror.active(self.now.instant).unwrap();
        let mut out = Vec::new();
        self.user.handle_timeout(self.now, &lease, &mut out);
        out
    }
}

fn inherit(here: &Scene, there: &mut Scene) {
    for name in here.user.answered_calls() {
        let stored = here.user.stored_dialog(here.now, name).expect("it was answered");
        let stored = StoredDialog::from_bytes(stored.to_bytes()).expect("it was just written");
        assert!(there.user.inherit_dialog(there.now, name, &stored));
    }
}

fn name_of(scene: &Scene) -> CallName {
    let names = scene.user.answered_calls();
    assert_eq!(names.len(), 1);
    names[0]
}

fn going_on(out: &[Output]) -> Vec<CallName> {
    out.iter()
        .filter_map(|output| match output {
            Output::Ask { question: Question::CallGoesOn(account, call), .. } => {
                assert_eq!(account.as_str(), "alice@example.org");
                Some(*call)
            }
            _ => None,
        })
        .collect()
}

/// A call that was answered, of which only the call is left; gives the INVITE as it left.
fn up(scene: &mut Scene, number: usize) -> Left {
    let phone = ringing(scene, number);
    let answered = scene.reply(&phone, 200, CONTACT);
    let Some(Output::Respond { key, .. }) = answered.first() else { panic!("{answered:?}") };
    scene.client_event(phone.key, transaction::ClientEvent::Terminated);
    scene.server_ended(*key);
    phone
}

fn ringing(scene: &mut Scene, number: usize) -> Left {
    let request = Request {
        call_id: format!("call-{number}@192.0.2.101"),
        via: format!("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-alice-{number};rport"),
        ..invite("sip:bob@example.org")
    };
    let refused = scene.receive(ALICE, &request.text());
    let with = request.clone().header(&credentials(&request, &only_response(&refused)));
    let (token, question) = only_ask(&scene.receive(ALICE, &with.again().text()));
    let Question::Authenticate(question) = question else { panic!("{question:?}") };
    let account = Aor::parse("alice@example.org").unwrap();
    let call = question.call.unwrap();
    let verdict = Authenticated::Counted { verdict: Box::new(Authenticated::Yes), account, call };
    let (token, _): (Token, _) = only_ask(&scene.answer(token, Answer::Authenticated(verdict)));
    let phone = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    scene.reply(&phone, 180, "");
    phone
}

/// What the caller sends within the call.
fn within(phone: &Left, method: &'static str) -> Request {
    let route = format!("Route: {}", values(&phone.request, Name::RecordRoute).join(", "));
    let call_id = header(&phone.request, Name::CallId).unwrap();
    let request = request(method, "sip:bob@192.0.2.102:5060").to("<sip:bob@example.org>;tag=callee-tag");
    let via = format!("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-{method};rport");
    Request { call_id, cseq: 9, ..request.via(&via).header(&route) }
}

//! Calls that are looked after: both sides are asked, and one that is alone is told so.

use std::time::Duration;

use sip::Name;
use transaction::ClientEvent;

use super::scene::*;
use crate::call::{Output, StoredDialog};
use crate::{Count, Settings, Target};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.102:5060>";

#[test]
fn both_sides_of_a_long_call_are_asked_in_the_name_of_the_other_one() {
    let mut scene = Scene::with(hourly);
    up(&mut scene, bob(), CONTACT);
    assert_eq!(left(&scene.pass(Duration::from_secs(3_599))).len(), 0);

    let out = scene.pass(Duration::from_secs(901));

    let [caller, callee] = [0, 1].map(|index| left(&out)[index].clone());
    assert_eq!(left(&out).len(), 2, "{out:?}");
    assert_eq!(request_uri(&caller.request), "sip:alice@192.0.2.101:5060");
    assert_eq!(caller.to.remote().0.to_string(), ALICE);
    assert_eq!(header(&caller.request, Name::From).unwrap(), "<sip:bob@example.org>;tag=callee-tag");
    assert_eq!(header(&caller.request, Name::To).unwrap(), "\"Alice\" <sip:alice@example.org>;tag=alice-tag");
    assert_eq!(header(&caller.request, Name::CSeq).unwrap(), "0 OPTIONS", "it has sent nothing yet");
    assert_eq!(request_uri(&callee.request), "sip:bob@192.0.2.102:5060");
    assert_eq!(callee.to.remote().0.to_string(), BOB);
    assert_eq!(
        header(&callee.request, Name::From).unwrap(),
        "\"Alice\" <sip:alice@example.org>;tag=alice-tag"
    );
    assert_eq!(header(&callee.request, Name::CSeq).unwrap(), "2 OPTIONS", "the number of the INVITE");
    for left in [caller, callee] {
        assert_eq!(values(&left.request, Name::Via).len(), 1);
        assert_eq!(values(&left.request, Name::Route), [] as [String; 0]);
        assert_eq!(header(&left.request, Name::CallId).unwrap(), "call-1@192.0.2.101");
    }
}

/// A refusal too shows that somebody is there.
#[test]
fn a_call_whose_sides_answer_goes_on_and_is_asked_again() {
    for status in [200, 405, 486, 500] {
        let mut scene = Scene::with(hourly);
        up(&mut scene, bob(), CONTACT);
        for left in asked(&mut scene) {
            let out = scene.reply(&left, status, "");
            assert!(responses(&out).is_empty(), "nobody waits for it: {out:?}");
        }
        assert_eq!((scene.user.calls(), scene.user.contexts()), (1, 0));

        asked(&mut scene);
    }
}

#[test]
fn who_is_alone_in_a_call_is_told_that_it_is_over() {
    // Whether it is the caller that is gone.
    for is_caller in [true, false] {
        for is_silent in [true, false] {
            let mut scene = Scene::with(hourly);
            up(&mut scene, bob(), CONTACT);
            let [caller, callee] = asked(&mut scene);
            let (gone, there) = if is_caller { (caller, callee) } else { (callee, caller) };
            scene.reply(&there, 200, "");

            let out = match is_silent {
                true => scene.client_event(gone.key, ClientEvent::TimedOut),
                false => scene.reply(&gone, 481, ""),
            };

            let bye = only_left(&out);
            assert_eq!((method(&bye.request), bye.to), ("BYE".to_owned(), there.to));
            let number = if is_caller { "3 BYE" } else { "1 BYE" };
            assert_eq!(header(&bye.request, Name::CSeq).unwrap(), number);
            assert_eq!((scene.user.calls(), scene.counts().of(Count::CallDead)), (0, 1));
            assert_eq!(scene.reply(&bye, 200, ""), []);
            assert_eq!(scene.user.contexts(), 0);
        }
    }
}

#[test]
fn a_call_that_ends_meanwhile_is_not_ended_again() {
    let mut scene = Scene::with(hourly);
    let phone = up(&mut scene, bob(), CONTACT);
    let [caller, callee] = asked(&mut scene);
    let route = format!("Route: {}", values(&phone.request, Name::RecordRoute).join(", "));
    let bye = request("BYE", "sip:bob@192.0.2.102:5060").to("<sip:bob@example.org>;tag=callee-tag");
    scene.receive(ALICE, &Request { cseq: 9, ..bye.header(&route) }.again().text());
    assert_eq!(scene.user.calls(), 0);

    for left in [caller, callee] {
        assert_eq!(scene.reply(&left, 481, ""), []);
    }
}

#[test]
fn a_call_with_a_session_timer_or_of_which_too_little_is_known_is_not_asked() {
    for extra in [&format!("{CONTACT}\nSession-Expires: 90000")[..], ""] {
        let mut scene = Scene::with(hourly);
        up(&mut scene, bob(), extra);

        assert_eq!(left(&scene.pass(Duration::from_secs(10_000))).len(), 0);

        assert_eq!(scene.user.calls(), 1);
    }
}

#[test]
fn nobody_is_asked_where_that_is_not_wanted() {
    let mut scene = Scene::new();
    up(&mut scene, bob(), CONTACT);

    assert_eq!(left(&scene.pass(Duration::from_secs(40_000))).len(), 0);
}

#[test]
fn a_phone_behind_nat_is_asked_by_its_flow() {
    let mut scene = Scene::with(hourly);
    up(&mut scene, carol(), "Contact: <sip:carol@10.9.9.9:5060>");

    let out = scene.pass(Duration::from_secs(4_600));

    // Nobody has said where it is at present: the token is the best that is known.
    let ways: Vec<String> = left(&out).iter().map(|left| left.to.remote().0.to_string()).collect();
    assert_eq!(ways, [ALICE, CAROL]);
}

#[test]
fn the_other_node_looks_after_the_call() {
    let (mut here, mut there) = (Scene::with(hourly), Scene::with(hourly));
    up(&mut here, bob(), CONTACT);
    let name = here.user.answered_calls()[0];
    let stored = here.user.stored_dialog(here.now, name).unwrap().to_bytes();
    there.user.inherit_dialog(there.now, name, &StoredDialog::from_bytes(stored).unwrap());

    let [_, callee] = asked(&mut there);

    assert_eq!(method(&only_left(&there.reply(&callee, 481, "")).request), "BYE");
}

/// One that calls may be told by many Record-Routes, of which none is ours.
#[test]
fn a_call_whose_way_does_not_lead_by_this_server_is_not_asked() {
    let mut scene = Scene::with(hourly);
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    let answer = response(&phone.request, 200, CONTACT);
    let text = String::from_utf8(answer).unwrap();
    let text: String = text
        .split_inclusive("\r\n")
        .map(|line| match line.starts_with("Record-Route:") {
            true => "Record-Route: <sip:203.0.113.66;lr>\r\n",
            false => line,
        })
        .collect();
    scene.response(phone.key, &sip::Message::parse(text.as_bytes()).unwrap());
    assert_eq!(scene.user.answered_calls().len(), 1);

    assert_eq!(left(&scene.pass(Duration::from_secs(10_000))).len(), 0);
}

/// Lets time pass until both are asked: the caller, the callee.
fn asked(scene: &mut Scene) -> [Left; 2] {
    let out = scene.pass(Duration::from_secs(4_600));
    let left = left(&out);
    let is_options = |left: &Left| method(&left.request) == "OPTIONS";
    assert!(left.len() == 2 && left.iter().all(is_options), "{out:?}");
    let [caller, callee] = [0, 1].map(|index| left[index].clone());
    [caller, callee]
}

fn up(scene: &mut Scene, callee: Target, extra: &str) -> Left {
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![callee]));
    let answered = scene.reply(&phone, 200, extra);
    let Some(Output::Respond { key, .. }) = answered.first() else { panic!("{answered:?}") };
    scene.client_event(phone.key, ClientEvent::Terminated);
    scene.server_ended(*key);
    phone
}

fn hourly(settings: &mut Settings) {
    settings.proxy.long_call_check = Some(Duration::from_secs(3_600));
}

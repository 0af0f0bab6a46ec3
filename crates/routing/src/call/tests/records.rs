//! What is left of calls: one record of each that was admitted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use transaction::ClientEvent;

use super::scene::*;
use crate::call::{Output, StoredCall, StoredDialog};
use crate::dial_plan::Goal;
use crate::dial_plan::samples::{gateway, route};
use crate::{Answer, CallEnding, CallRecord, Gateway, Located, Party, Right};

const CONTACT: &str = "Contact: <sip:bob@192.0.2.102:5060>";

#[test]
fn a_call_leaves_a_record_when_either_side_hangs_up() {
    for (from, by) in [(ALICE, Party::Caller), (BOB, Party::Callee)] {
        let mut scene = Scene::new();
        let began = scene.now.wall;
        let phone = ringing(&mut scene);
        scene.pass(Duration::from_secs(4));
        scene.reply(&phone, 200, CONTACT);
        scene.pass(Duration::from_millis(60_250));
        assert_eq!(scene.records, []);

        hang_up(&mut scene, &phone, from);
        scene.pass(Duration::from_secs(120));

        let record = only(&scene);
        assert_eq!((record.ending, record.status.0, &*record.reason), (CallEnding::HungUp(by), 200, "OK"));
        assert_eq!(record.started, began);
        assert_eq!(record.answered_after, Some(Duration::from_secs(4)));
        assert_eq!(record.talk(), Duration::from_millis(60_250));
        assert_eq!((&*record.caller, &*record.callee), ("sip:alice@example.org", "sip:bob@example.org"));
        assert_eq!((record.right, record.account.as_deref()), (Right::Digest, Some("alice@example.org")));
        assert_eq!((&*record.from_tag, &*record.to_tag), ("alice-tag", "callee-tag"));
        assert_eq!(record.source, format!("udp:{ALICE}"));
    }
}

#[test]
fn a_call_that_nobody_answers_leaves_a_record_with_its_response() {
    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.pass(Duration::from_secs(3));
    scene.reply(&phone, 486, "");
    let record = only(&scene);
    assert_eq!((record.ending, record.status.0, &*record.reason), (CallEnding::Refused, 486, "Reason"));
    assert_eq!((record.answered_after, record.ended_after), (None, Duration::from_secs(3)));

    let mut scene = Scene::new();
    let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:nobody@example.org")));
    scene.answer(token, Answer::Located(Located::UnknownAor));
    assert_eq!((only(&scene).ending, only(&scene).status.0), (CallEnding::Turned, 404));

    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    let cancel = Request { method: "CANCEL", ..invite("sip:bob@example.org").again() };
    scene.receive(ALICE, &cancel.text());
    scene.reply(&phone, 487, "");
    assert_eq!((only(&scene).ending, only(&scene).status.0), (CallEnding::Cancelled, 487));

    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.client_event(phone.key, ClientEvent::TimedOut);
    assert_eq!((only(&scene).ending, only(&scene).status.0), (CallEnding::NoAnswer, 408));
}

#[test]
fn what_ends_a_call_without_a_bye_is_told() {
    let timer = format!("{CONTACT}\nSession-Expires: 100;refresher=uas");
    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.reply(&phone, 200, &timer);
    scene.pass(Duration::from_secs(100));
    assert_eq!((only(&scene).ending, only(&scene).talk().as_secs()), (CallEnding::SessionExpired, 100));

    let mut scene = Scene::with(|settings| settings.proxy.longest_call = Duration::from_secs(600));
    let phone = ringing(&mut scene);
    scene.reply(&phone, 200, CONTACT);
    scene.pass(Duration::from_secs(600));
    assert_eq!((only(&scene).ending, only(&scene).status.0), (CallEnding::TooLong, 200));

    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.reply(&phone, 200, CONTACT);
    let again = only_left(&scene.receive(ALICE, &within(&phone, "UPDATE", ALICE).text()));
    scene.reply(&again, 481, "");
    assert_eq!(only(&scene).ending, CallEnding::Lost);
}

#[test]
fn a_stranger_and_a_challenge_leave_no_record() {
    let mut scene = Scene::new();
    scene.receive(STRANGER, &invite("sip:bob@example.org").text());
    scene.pass(Duration::from_secs(60));
    assert_eq!(scene.records, []);

    let phone = ringing(&mut scene);
    scene.reply(&phone, 407, "Proxy-Authenticate: Digest realm=\"elsewhere\", nonce=\"1\"");
    assert_eq!(scene.records, []);
}

/// Two phones answer at once, and the first one hangs up last.
#[test]
fn a_call_that_two_have_answered_leaves_one_record() {
    let mut scene = Scene::new();
    let phone = ringing(&mut scene);
    scene.reply(&phone, 200, CONTACT);
    let other = String::from_utf8(response(&phone.request, 200, CONTACT)).unwrap();
    let other = other.replace("callee-tag", "other-tag");
    scene.response(phone.key, &sip::Message::parse(other.as_bytes()).unwrap());

    let bye = within(&phone, "BYE", ALICE).to("<sip:bob@example.org>;tag=other-tag");
    let bye = bye.via("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-other;rport");
    scene.receive(ALICE, &bye.text());
    assert_eq!(scene.records, []);
    hang_up(&mut scene, &phone, ALICE);

    assert_eq!(only(&scene).to_tag, "callee-tag");
}

#[test]
fn a_record_names_the_gateways() {
    let mut scene = Scene::with(|settings| {
        let gateways: Vec<Arc<Gateway>> = [("first", "71"), ("second", "72")]
            .map(|(name, host)| {
                let uri = Bytes::from(format!("sip:198.51.100.{host}:5060"));
                Arc::new(Gateway { uri, ..gateway(name) })
            })
            .into();
        settings.dial_plan.gateways = gateways.clone();
        let groups = gateways.into_iter().map(|gateway| vec![gateway]).collect();
        settings.dial_plan.routes = vec![Arc::new(route("out", &["110"], Goal::Gateways(groups)))];
    });
    let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:110@example.org")));
    let phone = only_left(&scene.answer(token, Answer::Located(Located::UnknownAor)));
    let second = only_left(&scene.reply(&phone, 503, ""));
    scene.reply(&second, 200, CONTACT);
    scene.receive(ALICE, &within(&second, "BYE", ALICE).text());

    assert_eq!(only(&scene).gateway_out.as_deref(), Some("second"));
}

/// The other node's clock is its own, and was begun later than the call.
#[test]
fn the_other_node_writes_the_whole_record_of_a_call_that_ends_there() {
    let mut here = Scene::new();
    let phone = ringing(&mut here);
    here.pass(Duration::from_secs(5));
    let (key, rings) = capsule(&here);
    here.reply(&phone, 200, CONTACT);
    here.pass(Duration::from_secs(1_000));
    let name = here.user.answered_calls()[0];
    let up = here.user.stored_dialog(here.now, name).expect("it is up").to_bytes();

    let mut there = Scene::new();
    there.now = Now::new(Instant::START + Duration::from_secs(7), WallTime::from_millis(1_800_000_000_000));
    let stored = StoredDialog::from_bytes(up).expect("it is one");
    assert!(there.user.inherit_dialog(there.now, name, &stored));
    there.pass(Duration::from_secs(60));
    hang_up(&mut there, &phone, BOB);

    let record = only(&there);
    assert_eq!(
        (record.answered_after, record.talk()),
        (Some(Duration::from_secs(5)), Duration::from_secs(1_060))
    );
    assert_eq!(record.ended(), there.now.wall);
    assert_eq!(record.account.as_deref(), Some("alice@example.org"));

    hang_up(&mut here, &phone, BOB);
    assert_eq!(only(&here).id, record.id, "a record of both nodes is found to be one");

    let mut ringing_there = Scene::new();
    let mut out = Vec::new();
    let stored = StoredCall::from_bytes(rings).expect("it is one");
    ringing_there.user.restore_call(ringing_there.now, Duration::from_secs(2), key, stored, &mut out);
    ringing_there.reply(&phone, 486, "");
    let failed = only(&ringing_there);
    assert_eq!((failed.id, failed.ended_after), (record.id, Duration::from_secs(7)));
}

#[test]
fn a_call_that_can_not_go_on_at_the_other_node_leaves_its_record() {
    let mut here = Scene::new();
    let phone =
        only_left(&here.call_as_account_by(tcp(1, ALICE), &invite("sip:bob@example.org"), vec![bob()]));
    here.reply(&phone, 180, "");
    let (key, rings) = capsule(&here);
    let there = Scene::new();
    let mut out = Vec::new();

    let stored = StoredCall::from_bytes(rings).expect("it is one");
    there.user.call_lost(there.now, Duration::from_secs(2), key, &stored, &mut out);

    let [Output::Record(_, record)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((record.ending, &*record.callee), (CallEnding::NodeLost, "sip:bob@example.org"));
}

fn only<const TAKEN_OVER: bool>(scene: &SceneOf<TAKEN_OVER>) -> CallRecord {
    let [record] = &scene.records[..] else { panic!("{:?}", scene.records) };
    record.clone()
}

fn capsule<const TAKEN_OVER: bool>(scene: &SceneOf<TAKEN_OVER>) -> (transaction::ServerKey, Bytes) {
    let key = scene.user.calls_under_way().next().expect("a call is under way");
    (key, scene.user.stored_call(scene.now, key).expect("it was admitted").to_bytes())
}

fn ringing<const TAKEN_OVER: bool>(scene: &mut SceneOf<TAKEN_OVER>) -> Left {
    let phone = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    scene.reply(&phone, 180, "");
    phone
}

fn hang_up<const TAKEN_OVER: bool>(scene: &mut SceneOf<TAKEN_OVER>, phone: &Left, from: &str) {
    scene.receive(from, &within(phone, "BYE", from).text());
}

/// What one of the two sends within the call.
fn within(phone: &Left, method: &'static str, from: &str) -> Request {
    let route = format!("Route: {}", values(&phone.request, sip::Name::RecordRoute).join(", "));
    let via = format!("SIP/2.0/UDP {from};branch=z9hG4bK-{method};rport");
    let request = match from {
        ALICE => request(method, "sip:bob@192.0.2.102:5060").to("<sip:bob@example.org>;tag=callee-tag"),
        _ => request(method, "sip:alice@192.0.2.101:5060")
            .from("<sip:bob@example.org>;tag=callee-tag")
            .to("<sip:alice@example.org>;tag=alice-tag"),
    };
    Request { cseq: 9, ..request.via(&via).header(&route) }
}

//! Calls whose media pass an rtpengine: what it is asked, what waits for it, and what another node goes on with.

use std::time::Duration;

use engine::copies::{self, MEDIA};
use media::ng::{Command, Failure, Reply};
use media::offer_answer::Broken;
use replica::{Capsule, Kind};

#[path = "testbed/call.rs"]
mod call;
#[path = "testbed/rtpengines.rs"]
mod rtpengines;
#[path = "testbed/settings.rs"]
mod testbed;

use call::*;
use rtpengines::*;

#[test]
fn a_message_waits_for_the_rtpengine_and_leaves_with_its_description() {
    let mut world = World::new(Broken::PassOn);
    assert!(world.receive(CALLER, &invite("call-1")).is_empty(), "it waits");
    let offer = world.sole_question();
    let described = described(&offer);
    assert!(matches!(offer.command, Command::Offer(_)) && offer.node.is_none() && offer.may_move);
    assert_eq!((&described.call_id[..], &described.from_tag[..]), (&b"call-1"[..], &b"f"[..]));
    assert!(described.to_tag.is_none() && described.branch.is_some() && described.sdp == OFFER);

    let forwarded = sole(world.answer(&offer, ONE, done(4_000)));
    assert_eq!((address_of(&forwarded).as_str(), port_of(&forwarded).as_str()), ("203.0.113.77", "4000"));
    assert_eq!(length_of(&forwarded), body_of(&forwarded).len());
    assert!(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)).is_empty());
    let answer = world.sole_question();
    let said = self::described(&answer);
    assert!(matches!(answer.command, Command::Answer(_)) && answer.node == Some(ONE) && !answer.may_move);
    assert_eq!((&said.from_tag[..], said.to_tag.as_deref()), (&b"f"[..], Some(&b"b"[..])));
    assert_eq!(said.branch, described.branch);
    let answered = sole(world.answer(&answer, ONE, done(4_002)));
    assert!(answered.starts_with(b"SIP/2.0 200") && port_of(&answered) == "4002");
}

#[test]
fn messages_of_a_call_keep_their_order_while_they_wait() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.begin();
    world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
    let early = world.sole_question();

    assert!(world.receive(CALLEE, &response(&forwarded, "180 Ringing", "b", "")).is_empty());
    assert!(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)).is_empty());
    assert!(world.questions().is_empty(), "one at a time");

    let sent = world.answer(&early, ONE, done(4_002));
    assert_eq!(sent.len(), 2, "the 180 needs no question");
    assert!(sent[0].1.starts_with(b"SIP/2.0 183") && sent[1].1.starts_with(b"SIP/2.0 180"));
    let last = world.sole_question();
    assert!(sole(world.answer(&last, ONE, done(4_002))).starts_with(b"SIP/2.0 200"));
}

#[test]
fn the_end_of_a_call_is_told_once() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.established();

    world.receive(CALLER, &within("BYE", 2, &forwarded, ""));

    let delete = world.sole_question();
    assert!(matches!(&delete.command, Command::Delete { call_id, branch: None, .. } if call_id == "call-1"));
    assert_eq!((delete.node, delete.waiter), (Some(ONE), None));
    assert_eq!(world.shard().counts().media.sessions, 0);
    world.pass(Duration::from_secs(33));
    assert!(world.questions().is_empty());
}

#[test]
fn a_refused_call_is_deleted_at_once() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.begin();

    world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b", ""));

    assert!(matches!(world.sole_question().command, Command::Delete { .. }));
}

#[test]
fn without_a_relay_an_invite_goes_on_as_it_is_and_so_does_its_answer() {
    let mut world = World::new(Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();

    let forwarded = sole(world.reply(&offer, None, Err(Failure::NoNode)));
    let answered = sole(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)));

    assert_eq!((body_of(&forwarded), body_of(&answered)), (OFFER, ANSWER));
    assert!(world.questions().iter().all(|question| matches!(question.command, Command::Delete { .. })));
    assert_eq!(world.shard().counts().media.relay_unanswered, 1);
}

#[test]
fn without_a_relay_an_invite_is_refused_where_that_is_wanted() {
    for (result, status) in [
        (Err(Failure::NoNode), "SIP/2.0 503"),
        (Ok(Reply::Error("Failed to parse SDP".to_owned())), "SIP/2.0 488"),
    ] {
        let mut world = World::new(Broken::Refuse);
        world.receive(CALLER, &invite("call-1"));
        let offer = world.sole_question();

        let refused = sole(world.reply(&offer, Some(ONE), result));

        assert!(refused.starts_with(status.as_bytes()), "{}", refused.escape_ascii());
        assert_eq!(world.shard().counts().suspended, 0);
    }
}

#[test]
fn a_later_offer_may_go_to_another_rtpengine_and_its_answer_follows() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.established();
    world.receive(CALLER, &within("INVITE", 2, &forwarded, OFFER));
    let offer = world.sole_question();
    assert!(matches!(offer.command, Command::Offer(_)) && offer.node == Some(ONE) && offer.may_move);

    let again = sole(world.answer(&offer, TWO, done(6_000)));
    world.receive(CALLEE, &response(&again, "200 OK", "", ANSWER));

    let answer = world.sole_question();
    assert!(matches!(answer.command, Command::Answer(_)) && answer.node == Some(TWO));
    assert_eq!(world.shard().counts().media.relay_moved, 1);
}

#[test]
fn a_reply_that_nobody_waits_for_does_nothing() {
    let mut world = World::new(Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();
    assert_eq!(world.answer(&offer, ONE, done(4_000)).len(), 1);

    assert!(world.answer(&offer, ONE, done(4_002)).is_empty());
}

#[test]
fn another_node_goes_on_with_the_same_rtpengine() {
    let mut world = World::pair();
    world.established();
    let forwarded = world.last_invite.clone();

    world.fail_over();

    assert!(world.questions().is_empty(), "a takeover asks nothing");
    world.receive(CALLER, &within("INVITE", 2, &forwarded, OFFER));
    let offer = world.sole_question();
    assert_eq!((offer.node, &described(&offer).call_id[..]), (Some(ONE), &b"call-1"[..]));
    assert_eq!(described(&offer).to_tag.as_deref(), Some(&b"b"[..]));
    world.answer(&offer, ONE, done(4_000));
    world.receive(CALLER, &within("BYE", 3, &forwarded, ""));
    let delete = world.questions().pop().expect("the end is told");
    assert!(matches!(delete.command, Command::Delete { branch: None, .. }) && delete.node == Some(ONE));
    assert_eq!(world.shard().counts().media.sessions, 0);
}

#[test]
fn a_standby_asks_nothing() {
    let mut world = World::pair();
    world.established();
    world.copy_to_standby();
    let standby = &mut world.nodes[1].0;
    for (key, place) in &world.told.places {
        let kind = Kind(key.0);
        copies::remove_call(standby, kind, *place);
    }

    let mut questions = Vec::new();
    standby.take_relay_questions(&mut questions);
    assert!(questions.is_empty(), "{questions:?}");
}

#[test]
fn a_call_of_which_nothing_comes_is_ended_towards_both_sides() {
    let mut world = World::new(Broken::PassOn);
    world.established();
    let looks: Vec<_> = (0..8).map(|look| world.look(counted(100 * look))).collect();
    assert!(looks.iter().all(Vec::is_empty), "something comes");

    let looks: Vec<_> = (0..4).map(|_| world.look(counted(700))).collect();

    assert!(looks[..3].iter().all(Vec::is_empty), "not for long enough");
    assert_eq!(looks[3].len(), 2, "{:?}", looks[3]);
    assert!(looks[3].iter().all(|(_, message)| message.starts_with(b"BYE")));
    assert_eq!(world.shard().counts().media.silent, 1);
    let delete = world.questions().pop().expect("the end is told");
    assert!(matches!(delete.command, Command::Delete { branch: None, .. }));
}

#[test]
fn a_call_that_its_rtpengine_has_forgotten_is_silent_and_one_that_says_nothing_is_not() {
    let unknown = || Ok(Reply::Error("Unknown call-id".to_owned()));
    let mut forgotten = World::new(Broken::PassOn);
    forgotten.established();
    let ended = (0..5).any(|_| !forgotten.look(unknown()).is_empty());
    assert!(ended);

    let mut silent = World::new(Broken::PassOn);
    silent.established();
    let ended = (0..20).any(|_| !silent.look(Err(Failure::Silent)).is_empty());
    assert!(!ended);
}

#[test]
fn a_call_on_hold_is_not_asked_about() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.established();
    let held = |body: &str| format!("{body}a=inactive\r\n");
    world.receive(CALLER, &within("INVITE", 2, &forwarded, &held(OFFER)));
    let offer = world.sole_question();
    let again = sole(world.answer(&offer, ONE, done(4_000)));
    world.receive(CALLEE, &response(&again, "200 OK", "", &held(ANSWER)));
    let answer = world.sole_question();
    world.answer(&answer, ONE, done(4_002));

    for _ in 0..10 {
        world.pass(SILENCE / 4);
        assert!(world.questions().is_empty());
    }
}

#[test]
fn a_session_with_a_wrong_rtpengine_in_it_is_refused() {
    let mut world = World::pair();
    world.established();
    let capsule =
        world.told.capsules.values().find(|capsule| capsule.kind == MEDIA).expect("it was told").clone();
    assert!(copies::read(world.now, capsule.clone()).is_ok());

    let text = ONE.to_string();
    let at =
        capsule.bytes.windows(text.len()).position(|window| window == text.as_bytes()).expect("its name");
    let mut bytes = capsule.bytes.to_vec();
    bytes[at] = b'x';

    assert!(copies::read(world.now, Capsule { bytes: bytes.into(), ..capsule }).is_err());
}

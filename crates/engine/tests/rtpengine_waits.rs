//! Messages that wait for an rtpengine: how long, how many, and what ends the wait.

use std::time::Duration;

use media::ng::{Command, Failure};
use media::offer_answer::Broken;

#[path = "testbed/call.rs"]
mod call;
#[path = "testbed/rtpengines.rs"]
mod rtpengines;
#[path = "testbed/settings.rs"]
mod testbed;

use call::*;
use rtpengines::*;

/// Longer than any answer is waited for.
const LONG: Duration = Duration::from_secs(9);

#[test]
fn a_message_whose_answer_is_lost_goes_on_as_it_is() {
    let mut world = World::new(Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();
    let until = world.shard().poll_timeout().expect("there is a time to wait for");
    assert!(until <= world.now.instant + LONG);

    let forwarded = sole(world.pass(LONG));

    assert_eq!(body_of(&forwarded), OFFER);
    assert_eq!(world.shard().counts().media.relay_unanswered, 1);
    assert!(world.answer(&offer, ONE, done(4_000)).is_empty(), "it comes too late");
}

#[test]
fn what_stands_behind_a_lost_answer_goes_on() {
    let mut world = World::new(Broken::PassOn);
    let forwarded = world.begin();
    world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
    world.sole_question();
    assert!(world.receive(CALLEE, &response(&forwarded, "180 Ringing", "b", "")).is_empty());

    let sent = world.pass(LONG);

    let is = |number: usize, status: &str| sent[number].1.starts_with(status.as_bytes());
    assert!(sent.len() == 2 && is(0, "SIP/2.0 183") && is(1, "SIP/2.0 180"), "{sent:?}");
    assert_eq!(world.shard().counts().suspended, 0);
}

#[test]
fn an_answer_ends_the_wait_for_it() {
    let mut world = World::new(Broken::PassOn);
    world.begin();

    world.pass(LONG);

    assert_eq!(world.shard().counts().media.relay_unanswered, 0);
}

#[test]
fn a_cancelled_invite_that_waits_does_not_leave() {
    let mut world = World::new(Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();

    let sent = world.receive(CALLER, &cancel("call-1"));

    let statuses: Vec<&[u8]> = sent.iter().map(|(_, message)| &message[..11]).collect();
    assert_eq!(statuses, [b"SIP/2.0 200", b"SIP/2.0 487"]);
    assert!(world.answer(&offer, ONE, done(4_000)).is_empty());
    let last = world.questions().pop().expect("it is told that the call has ended");
    assert!(matches!(last.command, Command::Delete { branch: None, .. }));
    assert_eq!((world.shard().counts().media.sessions, world.shard().counts().suspended), (0, 0));
}

#[test]
fn a_cancel_stops_the_branch_that_waits_and_cancels_the_one_that_rings() {
    let mut world = World::new(Broken::PassOn);
    let first = world.fork();
    world.receive(CALLEE, &response(&first, "180 Ringing", "b", ""));
    let waiting = world.sole_question();

    let sent = world.receive(CALLER, &cancel("call-1"));

    assert!(sent.iter().any(|(to, message)| *to == call::to(CALLEE) && message.starts_with(b"CANCEL")));
    assert!(!sent.iter().any(|(_, message)| message.starts_with(b"SIP/2.0 487")), "the phone says it");
    let sent = world.answer(&waiting, ONE, done(4_010));
    assert!(!sent.iter().any(|(_, message)| message.starts_with(b"INVITE")), "{sent:?}");
    let sent = world.receive(CALLEE, &response(&first, "487 Request Terminated", "b", ""));
    assert!(sent.iter().any(|(_, message)| message.starts_with(b"SIP/2.0 487")), "{sent:?}");
}

#[test]
fn a_phone_is_not_called_when_another_has_answered() {
    let mut world = World::new(Broken::PassOn);
    let first = world.fork();
    let second = world.sole_question();

    world.receive(CALLEE, &response(&first, "200 OK", "b", ANSWER));
    let sent = world.answer(&second, ONE, done(4_010));

    assert!(!sent.iter().any(|(_, message)| message.starts_with(b"INVITE")), "{sent:?}");
    let answer = world.questions().into_iter().find(|asked| matches!(asked.command, Command::Answer(_)));
    let answered = sole(world.answer(&answer.expect("the answer's turn"), ONE, done(4_002)));
    assert!(answered.starts_with(b"SIP/2.0 200"));
}

#[test]
fn what_an_rtpengine_has_for_a_failed_branch_is_deleted() {
    let mut world = World::new(Broken::PassOn);
    let first = world.fork();
    let offer = world.sole_question();
    let of_second = described(&offer).branch.clone();
    let second = sole(world.answer(&offer, ONE, done(4_010)));

    world.receive(OTHER_CALLEE, &response(&second, "486 Busy Here", "c", ""));

    let delete = world.sole_question();
    assert!(matches!(&delete.command, Command::Delete { branch, .. } if *branch == of_second));
    assert_eq!((delete.node, delete.waiter), (Some(ONE), None));
    world.receive(CALLEE, &response(&first, "200 OK", "b", ANSWER));
    assert!(matches!(world.sole_question().command, Command::Answer(_)), "the other one goes on");
}

#[test]
fn what_names_ports_of_an_rtpengine_leaves_when_the_other_node_knows_of_it() {
    let mut world = World::pair();

    let forwarded = world.begin();
    assert!(world.held.contains(&forwarded), "an INVITE");

    world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
    let answer = world.sole_question();
    let early = sole(world.answer(&answer, ONE, done(4_002)));
    assert!(early.starts_with(b"SIP/2.0 183") && world.held.contains(&early), "a 183");
}

#[test]
fn a_node_that_has_stood_by_forgets_what_waited() {
    let mut world = World::new(Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();

    world.stand_by_and_return();

    assert_eq!(world.shard().counts().suspended, 0);
    assert!(world.answer(&offer, ONE, done(4_000)).is_empty());
    // The same call, which its caller begins once more, is not behind anything.
    world.receive(CALLER, &invite("call-1"));
    let offer = world.sole_question();
    assert_eq!(world.answer(&offer, ONE, done(4_000)).len(), 1);
}

#[test]
fn an_invite_that_waited_leaves_from_the_other_node() {
    let mut world = World::pair();
    world.receive(CALLER, &invite("call-1"));
    world.sole_question();

    assert!(world.fail_over().is_empty(), "nobody is told of a failure");

    let offer = world.sole_question();
    assert!(matches!(offer.command, Command::Offer(_)) && described(&offer).sdp == OFFER);
    let forwarded = sole(world.answer(&offer, TWO, done(6_000)));
    assert_eq!(port_of(&forwarded), "6000");
    world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER));
    let answer = world.sole_question();
    assert_eq!(answer.node, Some(TWO));
    let answered = sole(world.answer(&answer, TWO, done(6_002)));
    assert!(answered.starts_with(b"SIP/2.0 200") && port_of(&answered) == "6002");
}

#[test]
fn a_cancel_reaches_an_invite_that_waits_at_the_other_node() {
    let mut world = World::pair();
    world.receive(CALLER, &invite("call-1"));
    world.fail_over();
    world.questions();

    let sent = world.receive(CALLER, &cancel("call-1"));

    assert!(sent.iter().any(|(_, message)| message.starts_with(b"SIP/2.0 487")), "{sent:?}");
}

#[test]
fn an_answer_that_waited_is_taken_when_it_comes_again_at_the_other_node() {
    let mut world = World::pair();
    let forwarded = world.begin();
    let answer = response(&forwarded, "200 OK", "b", ANSWER);
    world.receive(CALLEE, &answer);
    world.sole_question();

    world.fail_over();

    world.receive(CALLEE, &answer);
    let asked = world.sole_question();
    let answered = sole(world.answer(&asked, ONE, done(4_002)));
    assert!(answered.starts_with(b"SIP/2.0 200") && port_of(&answered) == "4002");
}

#[test]
fn no_more_messages_wait_than_there_is_room_for() {
    const WAITING_MAX: usize = 8_192;
    let mut world = World::new(Broken::PassOn);
    let calls = WAITING_MAX / PROVISIONAL_MAX;
    let all: Vec<_> =
        (0..calls).map(|number| world.flood(&format!("call-{number}"), PROVISIONAL_MAX)).collect();
    assert_eq!(world.shard().counts().suspended, WAITING_MAX);

    let sent = world.receive(CALLER, &invite("one-more"));

    assert_eq!(body_of(&sole(sent)), OFFER, "it goes on without a relay");
    assert!(world.questions().iter().all(|asked| matches!(asked.command, Command::Delete { .. })));
    assert_eq!(world.shard().counts().suspended, WAITING_MAX);
    world.reply(&all[0].1, None, Err(Failure::NoNode));
    assert!(world.receive(CALLER, &invite("another")).is_empty(), "there is room again");
}

#[test]
fn a_callee_that_floods_takes_no_room_of_other_calls_and_its_answer_keeps_its_turn() {
    let mut world = World::new(Broken::PassOn);
    let (forwarded, first) = world.flood("call-1", 9_000);
    let counts = world.shard().counts();
    assert_eq!(
        (counts.suspended, counts.media.relay_dropped),
        (PROVISIONAL_MAX, 9_000 - PROVISIONAL_MAX as u64)
    );
    assert!(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)).is_empty(), "it waits");

    world.receive(CALLER, &invite("another"));
    let offer = world.sole_question();
    assert_eq!(port_of(&sole(world.answer(&offer, ONE, done(4_010)))), "4010");

    let sent = world.answer(&first, ONE, done(4_002));
    assert_eq!(sent.len(), PROVISIONAL_MAX);
    assert!(sent[0].1.starts_with(b"SIP/2.0 183") && sent[1].1.starts_with(b"SIP/2.0 180"));
    let answer = world.sole_question();
    let answered = sole(world.answer(&answer, ONE, done(4_002)));
    assert!(answered.starts_with(b"SIP/2.0 200") && port_of(&answered) == "4002");
}

#[test]
fn a_request_for_which_there_is_no_room_behind_its_session_goes_on_as_the_operator_wants_it() {
    for (broken, answered) in [(Broken::PassOn, &b"UPDATE "[..]), (Broken::Refuse, b"SIP/2.0 503")] {
        let mut world = World::new(broken);
        let forwarded = world.established();
        for cseq in 2..66 {
            let update = within("UPDATE", cseq, &forwarded, OFFER);
            assert!(world.receive(CALLER, &update).is_empty(), "{cseq}");
        }
        assert_eq!(world.questions().len(), 1);

        let sent = sole(world.receive(CALLER, &within("UPDATE", 66, &forwarded, OFFER)));

        assert!(sent.starts_with(answered), "{}", String::from_utf8_lossy(&sent));
        assert_eq!(world.shard().counts().media.relay_unanswered, 1);
        assert!(world.questions().is_empty());
        let refresh = sole(world.receive(CALLER, &within("UPDATE", 67, &forwarded, "")));
        assert!(refresh.starts_with(b"UPDATE "), "it describes no media");
    }
}

/// Messages of one session that wait before its provisional responses do not any more.
const PROVISIONAL_MAX: usize = 32;

const OTHER_CALLEE: &str = "198.51.100.8:5060";

impl World {
    /// A call whose callee says 183 with media, and 180 until it has said so much; gives its INVITE and what is asked for the
    /// 183.
    fn flood(&mut self, call_id: &str, times: usize) -> (bytes::Bytes, Asked) {
        self.receive(CALLER, &invite(call_id));
        let offer = self.sole_question();
        let forwarded = sole(self.answer(&offer, ONE, done(4_000)));
        self.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
        let first = self.sole_question();
        let ringing = response(&forwarded, "180 Ringing", "b", "");
        for _ in 1..times {
            assert!(self.receive(CALLEE, &ringing).is_empty());
        }
        (forwarded, first)
    }

    /// A call to two phones; the INVITE to the first has left, and the other one waits.
    fn fork(&mut self) -> bytes::Bytes {
        let invite =
            invite("call-1").replace(&format!("INVITE sip:bob@{CALLEE}"), "INVITE sip:bob@example.org");
        self.receive(CALLER, &invite);
        let first = format!("sip:bob@{CALLEE}");
        assert!(self.locate(&[&first, &format!("sip:bob@{OTHER_CALLEE}")]).is_empty());
        let offer = self.sole_question();
        sole(self.answer(&offer, ONE, done(4_000)))
    }
}

fn cancel(call_id: &str) -> String {
    let cancel = invite(call_id).replace("INVITE sip", "CANCEL sip").replace("1 INVITE", "1 CANCEL");
    let head = cancel.split("\r\nContent-Type").next().expect("a head");
    format!("{head}\r\nContent-Length: 0\r\n\r\n")
}

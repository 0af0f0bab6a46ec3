//! The six ways of RFC 6337 §2.2, and what may come between.

use super::*;

#[test]
fn an_offer_in_the_invite_is_answered_by_the_200() {
    let mut relayed = Relayed::new();

    let (role, to_callee) = relayed.first_invite(&sdp(&[5_000]));
    assert_eq!(role, Role::Offer);
    assert!(relayed.call.streams().is_empty(), "nothing flows before the answer");
    assert_eq!(relayed.out.iter().filter(|output| matches!(output, Output::Bind(..))).count(), 2);
    let (role, to_caller) = relayed.response(OK, &sdp(&[6_000]));
    assert_eq!(role, Role::Answer);
    assert_ne!(to_callee, to_caller);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));

    let [Output::Start(_, plan)] = &relayed.out[..] else { panic!("{:?}", relayed.out) };
    assert_eq!(plan.caller.local, format!("192.0.2.1:{}", to_caller[0]).parse().unwrap());
    assert_eq!(plan.callee.local, format!("[2001:db8::1]:{}", to_callee[0]).parse().unwrap());
    assert!(plan.caller.media.is_behind_nat && !plan.callee.media.is_behind_nat);
    assert_eq!(plan.callee.rtcp.wanted, at(6_001));
}

#[test]
fn a_late_offer_is_answered_by_the_ack() {
    let mut relayed = Relayed::new();
    assert_eq!(relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, ""), Verdict::NoDescription);

    let (role, to_caller) = relayed.response(OK, &sdp(&[6_000]));
    assert_eq!(role, Role::Offer);
    assert_eq!(
        relayed.response(OK, &sdp(&[6_000])),
        (Role::Neither, to_caller.clone()),
        "the 200 comes again"
    );
    let (role, to_callee) = relayed.caller(Kind::Ack, 1, &sdp(&[5_000]));
    assert_eq!(role, Role::Answer);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
    assert_eq!(
        relayed.caller(Kind::Ack, 1, &sdp(&[5_000])),
        (Role::Neither, to_callee),
        "the ACK comes again"
    );
    assert_eq!(relayed.out, [], "and nothing begins anew");
    assert_eq!(relayed.response(OK, &sdp(&[6_000])), (Role::Neither, to_caller));
}

#[test]
fn an_offer_in_a_reliable_response_is_answered_by_the_prack() {
    let mut relayed = Relayed::new();
    relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, "");

    assert_eq!(relayed.response(RELIABLE, &sdp(&[6_000])).0, Role::Offer);
    assert_eq!(relayed.caller(PRACK, 2, &sdp(&[5_000])).0, Role::Answer);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
    assert_eq!(relayed.response(OK, &sdp(&[6_000])).0, Role::Neither);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
}

#[test]
fn a_reliable_response_answers_and_the_prack_may_offer_anew() {
    let mut relayed = Relayed::new();
    let (_, to_callee) = relayed.first_invite(&sdp(&[5_000]));
    let (role, to_caller) = relayed.response(RELIABLE, &sdp(&[6_000]));
    assert_eq!(role, Role::Answer);

    assert_eq!(relayed.caller(PRACK, 2, &sdp(&[5_100])), (Role::Offer, to_callee));
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))), "an offer alone changes nothing");
    assert_eq!(relayed.callee(Kind::Accepted(Method::Prack), 2, &sdp(&[6_100])), (Role::Answer, to_caller));
    assert_eq!(relayed.wanted(TAG), Some((at(5_100), at(6_100))));
    // The 200 to the INVITE says what the 183 said, which is old by then.
    assert_eq!(relayed.response(OK, &sdp(&[6_000])).0, Role::Neither);
    assert_eq!(relayed.wanted(TAG), Some((at(5_100), at(6_100))));
}

#[test]
fn an_update_goes_both_ways() {
    let mut relayed = Relayed::new();
    let (to_callee, to_caller) = relayed.established();

    assert_eq!(relayed.callee(UPDATE, 1, &sdp(&[6_200])), (Role::Offer, to_caller.clone()));
    assert_eq!(
        relayed.caller(Kind::Accepted(Method::Update), 1, &sdp(&[5_200])),
        (Role::Answer, to_callee.clone())
    );
    assert_eq!(relayed.wanted(TAG), Some((at(5_200), at(6_200))));
    assert_eq!(relayed.caller(UPDATE, 2, &sdp(&[5_300])), (Role::Offer, to_callee));
    assert_eq!(relayed.callee(Kind::Accepted(Method::Update), 2, &sdp(&[6_300])), (Role::Answer, to_caller));
    assert_eq!(relayed.wanted(TAG), Some((at(5_300), at(6_300))));
}

#[test]
fn an_early_answer_counts_until_the_final_one() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000]));

    let (role, to_caller) = relayed.response(EARLY, &sdp(&[6_000]));
    assert_eq!(role, Role::Answer);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
    // A gateway's announcement comes from one place, the phone from another.
    assert_eq!(relayed.response(OK, &sdp(&[6_500])), (Role::Answer, to_caller));
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_500))));
    assert!(matches!(relayed.out[..], [Output::Change(..)]));
}

#[test]
fn a_200_without_an_answer_leaves_the_early_one() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000]));
    relayed.response(EARLY, &sdp(&[6_000]));

    relayed.tell(Side::Callee, Within::Fork(BRANCH, TAG), OK, 1, "");
    relayed.call.handle_branch_ended(NOW, BRANCH, &mut relayed.pool, &mut relayed.out);

    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
}

#[test]
fn the_same_answer_again_opens_the_windows_anew_only_when_it_is_final() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000]));
    relayed.response(EARLY, &sdp(&[6_000]));

    relayed.response(OK, &sdp(&[6_000]));
    assert!(matches!(relayed.out[..], [Output::Change(..)]));
    relayed.response(OK, &sdp(&[6_000]));
    assert_eq!(relayed.out, []);
}

#[test]
fn each_message_that_comes_again_names_the_same_ports() {
    let mut relayed = Relayed::new();
    let first = relayed.first_invite(&sdp(&[5_000, 5_002]));
    assert_eq!(relayed.first_invite(&sdp(&[5_000, 5_002])), first);
    let (_, answer) = relayed.response(OK, &sdp(&[6_000, 6_002]));
    assert_eq!(relayed.response(OK, &sdp(&[6_000, 6_002])).1, answer);

    let (_, offer) = relayed.caller(INVITE, 2, &sdp(&[5_000, 5_002]));
    assert_eq!(relayed.caller(INVITE, 2, &sdp(&[5_000, 5_002])).1, offer);
    assert_eq!(offer, first.1);
    assert_eq!(relayed.callee(OK, 2, &sdp(&[6_000, 6_002])).1, answer);
    // It comes again after the exchange is over.
    assert_eq!(relayed.caller(INVITE, 2, &sdp(&[5_000, 5_002])), (Role::Neither, offer));
}

#[test]
fn hold_and_back_keeps_the_ports() {
    let mut relayed = Relayed::new();
    let (to_callee, to_caller) = relayed.established();
    let old_hold = sdp(&[5_000]).replace("c=IN IP4 10.0.0.9", "c=IN IP4 0.0.0.0");

    assert_eq!(relayed.caller(INVITE, 2, &old_hold).1, to_callee);
    assert_eq!(relayed.callee(OK, 2, &sdp(&[6_000])).1, to_caller);
    assert_eq!(relayed.wanted(TAG), Some((Wanted::Nowhere, at(6_000))));
    assert_eq!(relayed.caller(INVITE, 3, &sdp(&[5_000])).1, to_callee);
    assert_eq!(relayed.callee(OK, 3, &sdp(&[6_000])).1, to_caller);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
}

#[test]
fn a_rejected_line_gives_its_ports_back_and_may_come_again() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000, 5_002]));
    assert_eq!(relayed.used(), 4);
    let (_, to_caller) = relayed.response(OK, &sdp(&[6_000, 0]));
    assert_eq!(to_caller[1], 0);
    relayed.call.handle_branch_ended(NOW, BRANCH, &mut relayed.pool, &mut relayed.out);
    assert_eq!(relayed.used(), 2);

    relayed.caller(INVITE, 2, &sdp(&[5_000, 5_002]));
    assert_eq!(relayed.used(), 4);
    relayed.callee(OK, 2, &sdp(&[6_000, 6_002]));
    assert_eq!(relayed.call.streams().len(), 2);
}

#[test]
fn a_line_with_several_ports_has_as_many_streams() {
    let several = |port: u16| sdp(&[port]).replace(&format!("{port} RTP"), &format!("{port}/2 RTP"));
    let mut relayed = Relayed::new();
    let (_, to_callee) = relayed.first_invite(&several(5_000));
    relayed.response(OK, &several(6_000));

    let streams = relayed.call.streams();
    let second = &streams[&StreamId { dialog: TAG, line: 0, pair: 1 }];
    assert_eq!(streams.len(), 2);
    assert_eq!(second.callee.local.port(), to_callee[0] + 2);
    assert_eq!(second.callee.media.wanted, at(6_002));
    assert_eq!(second.callee.rtcp.wanted, at(6_003));
}

#[test]
fn rtcp_is_on_one_port_only_if_both_say_so() {
    let muxed = |port| sdp(&[port]) + "a=rtcp-mux\r\n";
    let is_muxed = |offer: &str, answer: &str| {
        let mut relayed = Relayed::new();
        relayed.first_invite(offer);
        relayed.response(OK, answer);
        relayed.call.streams().values().next().unwrap().is_muxed
    };

    assert!(is_muxed(&muxed(5_000), &muxed(6_000)));
    assert!(!is_muxed(&muxed(5_000), &sdp(&[6_000])));
    assert!(!is_muxed(&sdp(&[5_000]), &muxed(6_000)));
}

#[test]
fn the_end_gives_all_ports_back() {
    let mut relayed = Relayed::new();
    relayed.established();
    relayed.out.clear();

    relayed.call.handle_dialog_ended(NOW, TAG, &mut relayed.pool, &mut relayed.out);

    assert!(matches!(relayed.out[..], [Output::End(_), Output::Unbind(..), Output::Unbind(..)]));
    assert!(relayed.call.is_over());
    assert_eq!(relayed.used(), 0);
    // They rest before somebody else gets them.
    assert!(relayed.pool.allocate(NOW + Duration::from_secs(1), 1).is_ok());
}

#[test]
fn a_latch_stays_with_its_stream() {
    let mut relayed = Relayed::new();
    relayed.established();
    let stream = StreamId { dialog: TAG, line: 0, pair: 0 };
    let latched = Latched { source: "198.51.100.10:4444".parse().unwrap(), ssrc: Some(1) };
    relayed.call.handle_latched(stream, Side::Caller, latched);
    relayed.call.handle_latched(StreamId { pair: 9, ..stream }, Side::Caller, latched);

    assert_eq!(relayed.call.streams()[&stream].caller.latched, Some(latched));
    assert_eq!(relayed.call.latches.len(), 1);
    relayed.call.handle_dialog_ended(NOW, TAG, &mut relayed.pool, &mut relayed.out);
    assert!(relayed.call.latches.is_empty());
}

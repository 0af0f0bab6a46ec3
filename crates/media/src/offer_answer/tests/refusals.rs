//! What is refused, crosses, or can not be relayed.

use super::*;

#[test]
fn a_refused_offer_is_as_if_it_had_not_been() {
    let mut relayed = Relayed::new();
    relayed.established();
    let before = relayed.call.streams();

    relayed.caller(INVITE, 2, &sdp(&[5_500, 5_502]));
    relayed.callee(EARLY, 2, &sdp(&[6_500, 6_502]));
    assert_eq!(relayed.wanted(TAG), Some((at(5_500), at(6_500))));
    relayed.tell(Side::Callee, Within::Dialog(TAG), Kind::Refused(Method::Invite), 2, "");

    assert_eq!(relayed.call.streams(), before);
    assert_eq!(relayed.used(), 2, "the line that did not come gives its ports back");
}

#[test]
fn crossing_offers_are_both_refused_and_change_nothing() {
    let mut relayed = Relayed::new();
    let (to_callee, to_caller) = relayed.established();

    assert_eq!(relayed.caller(INVITE, 2, &sdp(&[5_500])), (Role::Offer, to_callee));
    assert_eq!(relayed.callee(INVITE, 7, &sdp(&[6_500])), (Role::Offer, to_caller));
    // 491.
    relayed.tell(Side::Callee, Within::Dialog(TAG), Kind::Refused(Method::Invite), 2, "");
    relayed.tell(Side::Caller, Within::Dialog(TAG), Kind::Refused(Method::Invite), 7, "");
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));

    relayed.callee(INVITE, 8, &sdp(&[6_600]));
    relayed.caller(OK, 8, &sdp(&[5_600]));
    assert_eq!(relayed.wanted(TAG), Some((at(5_600), at(6_600))));
}

#[test]
fn a_description_in_a_refusal_is_left_alone() {
    let mut relayed = Relayed::new();
    relayed.established();
    relayed.caller(INVITE, 2, &sdp(&[5_500]));

    let refusal = Kind::Refused(Method::Invite);
    let verdict = relayed.tell(Side::Callee, Within::Dialog(TAG), refusal, 2, &sdp(&[6_500]));

    assert_eq!(verdict, Verdict::NoDescription);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
    assert!(relayed.call.dialogs[&TAG].open.is_empty());
}

#[test]
fn a_broken_offer_is_passed_on_and_so_is_its_answer() {
    let mut relayed = Relayed::new();
    let broken = sdp(&[5_000]).replace("m=audio", "m audio");

    let verdict = relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, &broken);
    assert!(matches!(verdict, Verdict::PassedOn(Unanchored::Description(_))));
    let answer = relayed.tell(Side::Callee, Within::Fork(BRANCH, TAG), OK, 1, &sdp(&[6_000]));
    assert_eq!(answer, Verdict::PassedOn(Unanchored::Offer));
    let again = relayed.tell(Side::Callee, Within::Fork(BRANCH, TAG), OK, 1, &sdp(&[6_000]));
    assert_eq!(again, Verdict::PassedOn(Unanchored::Offer));
    assert_eq!(relayed.used(), 0);
    assert_eq!(relayed.call.counts().passed_on, 3);

    // A later exchange comes through the relay.
    assert_eq!(relayed.caller(INVITE, 2, &sdp(&[5_000])).0, Role::Offer);
    assert_eq!(relayed.callee(OK, 2, &sdp(&[6_000])).0, Role::Answer);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
}

#[test]
fn a_broken_request_is_refused_where_that_is_wanted_and_leaves_nothing() {
    let mut relayed = Relayed::new().refusing();
    let broken = sdp(&[5_000]).replace("m=audio", "m audio");

    let verdict = relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, &broken);
    assert!(matches!(verdict, Verdict::Refused(Unanchored::Description(_))));
    assert!(relayed.call.is_over());
    relayed.established();
    let verdict = relayed.tell(Side::Caller, Within::Dialog(TAG), INVITE, 2, &broken);
    assert!(matches!(verdict, Verdict::Refused(_)));
    assert!(relayed.call.dialogs[&TAG].open.is_empty());
    assert_eq!(relayed.call.counts(), Counts { rewritten: 2, refused: 2, ..Counts::default() });
}

#[test]
fn a_broken_answer_can_not_be_refused() {
    let mut relayed = Relayed::new().refusing();
    relayed.first_invite(&sdp(&[5_000]));

    let verdict = relayed.tell(Side::Callee, Within::Fork(BRANCH, TAG), OK, 1, "v=0\r\nnonsense");

    assert!(matches!(verdict, Verdict::PassedOn(Unanchored::Description(_))));
    assert!(relayed.call.streams().is_empty());
}

#[test]
fn without_ports_a_request_is_refused_whole() {
    let mut relayed = Relayed::with_ports(30_000, 30_007);

    let verdict = relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, &sdp(&[5_000, 5_002, 5_004]));
    assert_eq!(verdict, Verdict::Refused(Unanchored::Ports(NoPorts::Exhausted)));
    assert_eq!(relayed.used(), 0);
    assert!(relayed.call.is_over());
    assert_eq!(relayed.call.counts().no_ports, 1);
}

#[test]
fn a_line_that_wants_more_ports_in_mid_call_is_refused_and_changes_nothing() {
    let mut relayed = Relayed::new();
    relayed.established();
    let before = relayed.call.streams();
    let more = sdp(&[5_000]).replace("5000 ", "5000/2 ");

    let verdict = relayed.tell(Side::Caller, Within::Dialog(TAG), INVITE, 2, &more);

    assert_eq!(verdict, Verdict::Refused(Unanchored::Ports(NoPorts::TooMany)));
    assert_eq!(relayed.call.streams(), before);
    assert!(relayed.call.dialogs[&TAG].open.is_empty());
}

#[test]
fn what_belongs_to_no_known_dialog_is_passed_on() {
    let mut relayed = Relayed::new().refusing();

    let verdict = relayed.tell(Side::Caller, Within::Dialog(TAG), INVITE, 2, &sdp(&[5_000]));

    assert_eq!(verdict, Verdict::PassedOn(Unanchored::Dialog));
}

#[test]
fn open_offers_are_bounded() {
    let mut relayed = Relayed::new();
    relayed.established();
    for cseq in 0..OPEN_MAX as u32 {
        relayed.caller(UPDATE, 10 + cseq, &sdp(&[5_000]));
    }

    let more = relayed.tell(Side::Caller, Within::Dialog(TAG), UPDATE, 99, &sdp(&[5_000]));

    assert_eq!(more, Verdict::PassedOn(Unanchored::TooMany));
}

#[test]
fn an_ack_with_media_that_nobody_asked_for_changes_nothing() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000]));
    relayed.response(OK, &sdp(&[6_000]));

    assert_eq!(relayed.caller(Kind::Ack, 1, &sdp(&[9_000])).0, Role::Neither);
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))));
}

//! One INVITE with several answers.

use super::*;

#[test]
fn each_branch_names_ports_of_its_own() {
    let mut relayed = Relayed::new();
    let (_, one) = relayed.told(Side::Caller, Within::Branch(Branch(1)), INVITE, 1, &sdp(&[5_000]));
    let (_, two) = relayed.told(Side::Caller, Within::Branch(Branch(2)), INVITE, 1, &sdp(&[5_000]));
    assert_ne!(one, two);

    let (_, from_one) = relayed.told(Side::Callee, Within::Fork(Branch(1), Tag(1)), EARLY, 1, &sdp(&[6_000]));
    let (_, from_two) = relayed.told(Side::Callee, Within::Fork(Branch(2), Tag(2)), EARLY, 1, &sdp(&[7_000]));
    assert_ne!(from_one, from_two);
    assert_eq!(relayed.wanted(Tag(1)), Some((at(5_000), at(6_000))));
    assert_eq!(relayed.wanted(Tag(2)), Some((at(5_000), at(7_000))));
}

#[test]
fn two_dialogs_of_one_branch_have_streams_of_their_own() {
    let mut relayed = Relayed::new();
    let (_, to_callee) = relayed.first_invite(&sdp(&[5_000]));
    let (_, one) = relayed.told(Side::Callee, Within::Fork(BRANCH, Tag(1)), EARLY, 1, &sdp(&[6_000]));
    let (_, two) = relayed.told(Side::Callee, Within::Fork(BRANCH, Tag(2)), EARLY, 1, &sdp(&[7_000]));
    assert_ne!(one, two);

    let streams = relayed.call.streams();
    let callee_ports: BTreeSet<u16> = streams.values().map(|plan| plan.callee.local.port()).collect();
    assert_eq!(streams.len(), 2);
    assert_eq!(callee_ports, to_callee.into_iter().collect(), "both callees were told the same port");
    assert_eq!(relayed.used(), 3);
}

#[test]
fn the_one_that_is_accepted_stays_and_the_others_go() {
    let mut relayed = Relayed::new();
    relayed.told(Side::Caller, Within::Branch(Branch(1)), INVITE, 1, &sdp(&[5_000]));
    relayed.told(Side::Caller, Within::Branch(Branch(2)), INVITE, 1, &sdp(&[5_000]));
    relayed.told(Side::Callee, Within::Fork(Branch(1), Tag(1)), EARLY, 1, &sdp(&[6_000]));
    relayed.told(Side::Callee, Within::Fork(Branch(2), Tag(2)), OK, 1, &sdp(&[7_000]));

    relayed.tell(Side::Callee, Within::Fork(Branch(1), Tag(1)), Kind::Refused(Method::Invite), 1, "");
    assert!(matches!(relayed.out[..], [Output::End(_), Output::Unbind(..), Output::Unbind(..)]));
    relayed.call.handle_branch_ended(NOW, Branch(2), &mut relayed.pool, &mut relayed.out);

    assert_eq!(relayed.wanted(Tag(1)), None);
    assert_eq!(relayed.wanted(Tag(2)), Some((at(5_000), at(7_000))));
    assert_eq!(relayed.used(), 2);
}

#[test]
fn a_challenged_invite_leaves_nothing() {
    let mut relayed = Relayed::new();
    relayed.first_invite(&sdp(&[5_000]));

    relayed.tell(Side::Callee, Within::Branch(BRANCH), Kind::Refused(Method::Invite), 1, "");

    assert!(relayed.call.is_over());
    assert_eq!(relayed.used(), 0);
}

#[test]
fn a_further_dialog_without_ports_is_passed_on() {
    let mut relayed = Relayed::with_ports(30_000, 30_003);
    relayed.first_invite(&sdp(&[5_000]));
    relayed.response(EARLY, &sdp(&[6_000]));

    let verdict = relayed.tell(Side::Callee, Within::Fork(BRANCH, Tag(2)), EARLY, 1, &sdp(&[7_000]));

    assert_eq!(verdict, Verdict::PassedOn(Unanchored::Ports(NoPorts::Exhausted)));
    assert_eq!(relayed.wanted(TAG), Some((at(5_000), at(6_000))), "the first one is not hurt");
}

#[test]
fn forks_and_dialogs_are_bounded() {
    let mut relayed = Relayed::with_ports(2, u16::MAX);
    for number in 0..FORKS_MAX as u64 {
        relayed.told(Side::Caller, Within::Branch(Branch(number)), INVITE, 1, &sdp(&[5_000]));
    }
    let more = relayed.tell(Side::Caller, Within::Branch(Branch(999)), INVITE, 1, &sdp(&[5_000]));
    assert_eq!(more, Verdict::PassedOn(Unanchored::TooMany));

    for number in 0..DIALOGS_MAX as u64 {
        relayed.told(Side::Callee, Within::Fork(Branch(0), Tag(number)), EARLY, 1, &sdp(&[6_000]));
    }
    let more = relayed.tell(Side::Callee, Within::Fork(Branch(0), Tag(999)), EARLY, 1, &sdp(&[6_000]));
    assert_eq!(more, Verdict::PassedOn(Unanchored::TooMany));
}

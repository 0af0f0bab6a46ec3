//! Calls whose media another relay carries: what each description is to be told as.

use super::*;

/// Tells the call a description, and says whether another relay is told an offer.
fn is_offer(relayed: &mut Relayed, from: Side, within: Within, kind: Kind, cseq: u32, body: &str) -> bool {
    assert!(matches!(relayed.tell(from, within, kind, cseq, body), Verdict::Rewritten { .. }));
    relayed.call.proposes(&plain(from, within, kind, cseq))
}

/// A message whose body does not matter.
fn plain(from: Side, within: Within, kind: Kind, cseq: u32) -> Message<'static> {
    let source = "198.51.100.10".parse().unwrap();
    Message { kind, from, within, cseq, body: Body::default(), source, is_behind_nat: false }
}

fn elsewhere() -> Relayed {
    Relayed { pool: Pool::elsewhere(), ..Relayed::new() }
}

const FORK: Within = Within::Fork(BRANCH, TAG);
const DIALOG: Within = Within::Dialog(TAG);

#[test]
fn an_answer_that_comes_again_is_an_answer_again() {
    let mut relayed = elsewhere();
    let (offer, answer) = (sdp(&[5_000]), sdp(&[6_000]));

    assert!(is_offer(&mut relayed, Side::Caller, Within::Branch(BRANCH), INVITE, 1, &offer));
    assert!(!is_offer(&mut relayed, Side::Callee, FORK, EARLY, 1, &answer));
    for _ in 0..2 {
        assert!(!is_offer(&mut relayed, Side::Callee, FORK, OK, 1, &answer));
    }
}

#[test]
fn a_late_offer_that_comes_again_is_an_offer_again() {
    let mut relayed = elsewhere();
    relayed.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, "");

    assert!(is_offer(&mut relayed, Side::Callee, FORK, OK, 1, &sdp(&[6_000])));
    assert!(is_offer(&mut relayed, Side::Callee, FORK, OK, 1, &sdp(&[6_000])));
    assert!(!is_offer(&mut relayed, Side::Caller, DIALOG, Kind::Ack, 1, &sdp(&[5_000])));
    assert!(is_offer(&mut relayed, Side::Callee, FORK, OK, 1, &sdp(&[6_000])));
    assert!(!is_offer(&mut relayed, Side::Caller, DIALOG, Kind::Ack, 1, &sdp(&[5_000])));
}

#[test]
fn a_prack_answers_what_was_offered_early_and_else_proposes() {
    let mut late = elsewhere();
    late.tell(Side::Caller, Within::Branch(BRANCH), INVITE, 1, "");
    assert!(is_offer(&mut late, Side::Callee, FORK, RELIABLE, 1, &sdp(&[6_000])));
    assert!(!is_offer(&mut late, Side::Caller, DIALOG, PRACK, 2, &sdp(&[5_000])));

    let mut usual = elsewhere();
    is_offer(&mut usual, Side::Caller, Within::Branch(BRANCH), INVITE, 1, &sdp(&[5_000]));
    is_offer(&mut usual, Side::Callee, FORK, RELIABLE, 1, &sdp(&[6_000]));
    assert!(is_offer(&mut usual, Side::Caller, DIALOG, PRACK, 2, &sdp(&[5_100])));
    assert!(!is_offer(&mut usual, Side::Callee, DIALOG, Kind::Accepted(Method::Prack), 2, &sdp(&[6_100])));
}

#[test]
fn a_later_invite_of_either_side_proposes() {
    let mut relayed = elsewhere();
    relayed.established();

    assert!(is_offer(&mut relayed, Side::Callee, DIALOG, INVITE, 7, &sdp(&[6_002])));
    assert!(!is_offer(&mut relayed, Side::Caller, DIALOG, OK, 7, &sdp(&[5_002])));
}

#[test]
fn what_answers_an_offer_that_went_on_as_it_was_goes_on_as_it_is() {
    let mut relayed = elsewhere();
    relayed.established();
    assert!(is_offer(&mut relayed, Side::Caller, DIALOG, INVITE, 2, &sdp(&[5_002])));

    relayed.call.pass_on(&plain(Side::Caller, DIALOG, INVITE, 2));

    let verdict = relayed.tell(Side::Callee, DIALOG, OK, 2, &sdp(&[6_002]));
    assert_eq!(verdict, Verdict::PassedOn(Unanchored::Offer));
}

#[test]
fn a_branch_is_in_use_until_it_is_refused() {
    let mut relayed = elsewhere();
    relayed.established();
    assert!(relayed.call.has_branch(BRANCH), "somebody has accepted there");

    relayed.told(Side::Caller, Within::Branch(Branch(2)), INVITE, 1, &sdp(&[5_000]));
    assert!(relayed.call.has_branch(Branch(2)));
    relayed.tell(Side::Callee, Within::Fork(Branch(2), Tag(2)), Kind::Refused(Method::Invite), 1, "");
    assert!(!relayed.call.has_branch(Branch(2)));
}

#[test]
fn placeholders_never_come_to_an_end_and_are_claimed_by_nobody() {
    let mut relayed = elsewhere();
    for number in 0..20 {
        relayed.told(Side::Caller, Within::Branch(Branch(number)), INVITE, 1, &sdp(&[5_000, 5_002]));
    }
    assert_eq!(relayed.used(), 0);
}

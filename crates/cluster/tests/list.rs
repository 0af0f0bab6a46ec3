//! The list of voters of a pair changes. Each test also fails when two gates are open at once.

#[allow(dead_code, reason = "two tests share this world, and neither needs all of it")]
#[path = "pair/world.rs"]
mod world;

use std::time::Duration;

use cluster::guardian::{Output, Refused, Wish};
use cluster::{MemberId, VoterId};
use world::Pair;

const LEASE: Duration = Duration::from_millis(500);
const WITNESS: usize = 2;
const SOLO: Wish = Wish::Solo { on: true, force: false };
const SOLO_BY_FORCE: Wish = Wish::Solo { on: true, force: true };
const SOLO_NO_MORE: Wish = Wish::Solo { on: false, force: false };

#[test]
fn solo_without_a_witness_serves_on_while_the_other_node_is_off() {
    let (mut pair, active) = without_witness();
    assert_eq!(wish(&mut pair, active, SOLO), Ok(()));

    pair.kill(1 - active);
    pair.run(Duration::from_secs(10));

    assert_eq!(pair.active(), Some(active));
    assert_eq!(seated(&pair, active), [MemberId(active as u8)]);
}

#[test]
fn the_node_that_was_taken_out_does_not_become_active_until_solo_ends() {
    let (mut pair, active) = without_witness();
    assert_eq!(wish(&mut pair, active, SOLO), Ok(()));
    pair.kill(1 - active);
    pair.run(Duration::from_secs(1));
    pair.start(1 - active);
    pair.run(Duration::from_secs(1));
    assert_eq!(seated(&pair, 1 - active), [MemberId(active as u8)], "it was told");
    pair.kill(active);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.active(), None);

    pair.start(active);
    pair.until(Duration::from_secs(3), |pair| pair.active() == Some(active)).expect("alone");
    assert_eq!(wish(&mut pair, active, SOLO_NO_MORE), Ok(()));
    pair.wish(active, Wish::Switchover { force: false });
    let took = pair.until(Duration::from_secs(1), |pair| pair.active() == Some(1 - active));

    assert!(took.is_some());
    assert_eq!(seated(&pair, 1 - active).len(), 2);
}

#[test]
fn solo_does_not_end_while_the_other_node_is_off() {
    let (mut pair, active) = without_witness();
    assert_eq!(wish(&mut pair, active, SOLO), Ok(()));
    pair.kill(1 - active);
    pair.run(Duration::from_secs(5));

    let refused = Refused::VoterUnknown(MemberId(1 - active as u8));
    assert_eq!(wish(&mut pair, active, SOLO_NO_MORE), Err(refused));
    pair.run(Duration::from_secs(5));

    assert_eq!(pair.active(), Some(active));
}

#[test]
fn solo_is_refused_where_the_voters_that_are_left_are_silent_and_costs_nothing() {
    let (mut pair, active) = Pair::settled(1, LEASE);
    pair.kill(WITNESS);

    assert_eq!(wish(&mut pair, active, SOLO), Err(Refused::NoMajority));

    assert_eq!(pair.active(), Some(active));
    assert_eq!(seated(&pair, active).len(), 3);
    assert_eq!(wish(&mut pair, active, SOLO_BY_FORCE), Ok(()));
    pair.kill(1 - active);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.active(), Some(active), "alone");
}

#[test]
fn solo_is_for_the_active_node_unless_the_operator_knows_that_the_others_are_off() {
    let (mut pair, active) = without_witness();
    assert_eq!(wish(&mut pair, 1 - active, SOLO), Err(Refused::NotActive));

    pair.kill(active);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.active(), None, "one of two is no majority");
    assert_eq!(wish(&mut pair, 1 - active, SOLO_BY_FORCE), Ok(()));

    assert_eq!(pair.active(), Some(1 - active));
    pair.start(active);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.active(), Some(1 - active));
    assert_eq!(seated(&pair, active), [MemberId(1 - active as u8)]);
}

#[test]
fn with_a_witness_solo_needs_it_and_ends_again() {
    let (mut pair, active) = Pair::settled(2, LEASE);
    assert_eq!(wish(&mut pair, active, SOLO), Ok(()));
    assert_eq!(seated(&pair, active), [MemberId(active as u8), MemberId(2)]);

    pair.kill(1 - active);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.active(), Some(active));
    pair.start(1 - active);
    pair.run(Duration::from_secs(1));
    assert_eq!(wish(&mut pair, active, SOLO_NO_MORE), Ok(()));
    pair.kill(active);

    let took = pair.until(Duration::from_secs(2), |pair| pair.active() == Some(1 - active));
    assert!(took.is_some());
}

#[test]
fn a_witness_that_was_replaced_votes_once_it_is_accepted() {
    let (mut pair, active) = Pair::settled(3, LEASE);
    pair.kill(WITNESS);
    pair.replace_voter(WITNESS, 99);
    pair.start(WITNESS);
    pair.run(Duration::from_secs(2));

    assert_eq!(wish(&mut pair, active, Wish::Accept(MemberId(2))), Ok(()));

    for at in 0..2 {
        let view = pair.guardian(at).expect("it is on").view(pair.clock().instant);
        assert_eq!(view.members[WITNESS].voter, Some(VoterId(99)), "as node {at} sees it");
    }
    pair.kill(active);
    let took = pair.until(Duration::from_secs(2), |pair| pair.active() == Some(1 - active));
    assert!(took.is_some());
}

#[test]
fn nothing_is_accepted_where_nobody_else_speaks() {
    let (mut pair, active) = Pair::settled(3, LEASE);

    assert_eq!(wish(&mut pair, active, Wish::Accept(MemberId(2))), Err(Refused::VoterUnknown(MemberId(2))));
}

#[test]
fn a_node_whose_disk_was_emptied_counts_its_own_vote_only_when_it_is_accepted() {
    let (mut pair, active) = Pair::settled(4, LEASE);
    let emptied = 1 - active;
    pair.kill(emptied);
    pair.replace_voter(emptied, 77);
    pair.start(emptied);
    pair.run(Duration::from_secs(2));
    pair.kill(active);
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.active(), None, "what it has granted is forgotten");

    pair.start(active);
    pair.until(Duration::from_secs(3), |pair| pair.active() == Some(active)).expect("with the witness");
    pair.run(Duration::from_secs(1));
    assert_eq!(wish(&mut pair, active, Wish::Accept(MemberId(emptied as u8))), Ok(()));
    pair.kill(active);

    let took = pair.until(Duration::from_secs(2), |pair| pair.active() == Some(emptied));
    assert!(took.is_some());
}

#[test]
fn a_list_that_changed_is_in_force_after_all_have_restarted() {
    let (mut pair, active) = Pair::settled(5, LEASE);
    assert_eq!(wish(&mut pair, active, SOLO), Ok(()));
    for at in 0..3 {
        pair.kill(at);
    }
    for at in 0..3 {
        pair.start(at);
    }
    pair.run(Duration::from_secs(3));

    assert_eq!(pair.active(), Some(active), "the other one has no seat");
    assert_eq!(seated(&pair, active), [MemberId(active as u8), MemberId(2)]);
}

fn without_witness() -> (Pair, usize) {
    let mut pair = Pair::without_witness(6, LEASE);
    pair.run(Duration::from_secs(3));
    let active = pair.active().expect("somebody is active after three seconds");
    (pair, active)
}

/// What came of an operator's wish.
fn wish(pair: &mut Pair, at: usize, wish: Wish) -> Result<(), Refused> {
    let before = pair.said.len();
    pair.wish(at, wish);
    let answer = |pair: &Pair| {
        pair.said[before..].iter().find_map(|(_, who, output)| match output {
            Output::ListChanged(result) if *who == at => Some(*result),
            _ => None,
        })
    };
    pair.until(Duration::from_secs(30), |pair| answer(pair).is_some()).expect("an answer");
    pair.run(Duration::from_millis(500));
    answer(pair).expect("an answer")
}

/// The members that have a seat, as a node sees it.
fn seated(pair: &Pair, at: usize) -> Vec<MemberId> {
    let view = pair.guardian(at).expect("it is on").view(pair.clock().instant);
    view.members.iter().filter(|member| member.is_seated).map(|member| member.member).collect()
}

//! Calls to several phones of one user.

use super::*;

const BOBS: [usize; 3] = [who::BOB, who::BOB_TCP, who::BOB_SIX];

fn bobs_and_alice() -> World {
    registered(&[who::ALICE, who::BOB, who::BOB_TCP, who::BOB_SIX])
}

// RFC 3261 §16.7 item 10: a 2xx ends the other branches.
#[test]
fn one_answer_cancels_all_others() {
    let mut world = bobs_and_alice();

    call(
        &mut world,
        who::ALICE,
        to("bob"),
        &[(who::BOB, answer(9)), (who::BOB_TCP, answer(3)), (who::BOB_SIX, answer(9))],
        secs(60),
    );

    assert!(is_up(&world, who::BOB_TCP));
    for phone in [who::BOB, who::BOB_SIX] {
        assert_eq!(said(&world, phone, |fact| matches!(fact, Fact::Cancelled { .. })), 1, "phone {phone}");
    }
    assert_eq!(world.node().held(), Default::default());
    assert_good(world);
}

// RFC 3261 §16.7 item 5: a 6xx ends the other branches.
#[test]
fn one_decline_ends_it_for_all() {
    let mut world = bobs_and_alice();
    let decline = Answering::of(Behaviour::Refuse { status: 603, after: secs(2) });

    call(
        &mut world,
        who::ALICE,
        to("bob"),
        &[(who::BOB, answer(9)), (who::BOB_TCP, decline), (who::BOB_SIX, answer(9))],
        secs(60),
    );

    assert_eq!(outcome(&world), Some(603));
    assert_eq!(said(&world, who::BOB, |fact| matches!(fact, Fact::Cancelled { .. })), 1);
    assert_good(world);
}

#[test]
fn one_busy_phone_does_not_end_it_for_the_others() {
    let mut world = bobs_and_alice();
    let busy = Answering::of(Behaviour::Refuse { status: 486, after: secs(1) });

    call(
        &mut world,
        who::ALICE,
        to("bob"),
        &[(who::BOB, busy.clone()), (who::BOB_TCP, busy), (who::BOB_SIX, answer(4))],
        secs(60),
    );

    assert_eq!(outcome(&world), Some(200));
    assert!(is_up(&world, who::BOB_SIX));
    assert_good(world);
}

// RFC 3261 §16.7 item 5: every 2xx goes upstream, and the caller ends what it does not want.
#[test]
fn two_answers_at_one_moment_both_arrive_and_the_caller_keeps_the_first() {
    let mut world = bobs_and_alice();

    call(&mut world, who::ALICE, to("bob"), &BOBS.map(|phone| (phone, answer(3))), secs(60));

    assert_eq!(
        said(&world, who::ALICE, |fact| matches!(fact, Fact::Established { role: Role::Caller, .. })),
        1
    );
    let ended = |phone: usize| {
        said(&world, phone, |fact| matches!(fact, Fact::HeardHangUp { .. } | Fact::Cancelled { .. })) == 1
    };
    assert!(BOBS.into_iter().all(ended));
    assert_good(world);
}

#[test]
fn a_caller_that_gives_up_stops_all_phones() {
    let mut world = bobs_and_alice();
    let order = CallOrder { cancel_after: Some(secs(3)), ..to("bob") };

    call(&mut world, who::ALICE, order, &BOBS.map(|phone| (phone, answer(9))), secs(60));

    assert_eq!(outcome(&world), Some(487));
    for phone in BOBS {
        assert_eq!(said(&world, phone, |fact| matches!(fact, Fact::Cancelled { .. })), 1, "phone {phone}");
    }
    assert_good(world);
}

#[test]
fn a_silent_phone_of_a_fork_leaves_nothing_behind() {
    let mut world = bobs_and_alice();
    let silent = Answering::of(Behaviour::Silence);

    call(
        &mut world,
        who::ALICE,
        to("bob"),
        &[(who::BOB, silent), (who::BOB_TCP, answer(2)), (who::BOB_SIX, answer(8))],
        secs(120),
    );

    assert_eq!(outcome(&world), Some(200));
    assert_eq!(world.node().held(), Default::default());
    assert_good(world);
}

// RFC 3261 §16.6: phones of a lower q begin when those of a higher one have failed.
#[test]
fn a_phone_of_a_lower_q_rings_after_the_preferred_one_refused() {
    let mut world = in_order();
    let busy = Answering::of(Behaviour::Refuse { status: 486, after: secs(2) });

    call_in_order(&mut world, [busy.clone(), busy, answer(3)], secs(60));

    assert_eq!(outcome(&world), Some(200));
    assert!(is_up(&world, who::BOB_SIX));
    assert_eq!(world.node().held(), Default::default());
    assert_good(world);
}

#[test]
fn a_preferred_phone_that_rings_out_is_cancelled_and_the_next_one_rings() {
    let mut world = in_order();
    let rings = Answering::of(Behaviour::Ring);

    call_in_order(&mut world, [rings, Answering::of(Behaviour::Silence), answer(3)], secs(61));
    assert_eq!(said(&world, who::BOB_SIX, |fact| matches!(fact, Fact::Ringing { .. })), 1);
    world.run_for(secs(100));

    assert!(is_up(&world, who::BOB_SIX));
    assert_eq!(said(&world, who::BOB, |fact| matches!(fact, Fact::Cancelled { .. })), 1);
    assert_eq!(count(&world, Count::RingTimeout), 2);
    assert_eq!(world.node().held(), Default::default());
    assert_good(world);
}

#[test]
fn a_phone_of_a_lower_q_is_left_alone_after_an_answer_a_decline_or_a_cancel() {
    let decline = Answering::of(Behaviour::Refuse { status: 603, after: secs(2) });
    for (first, status) in [(answer(2), 200), (decline, 603), (Answering::of(Behaviour::Ring), 487)] {
        let mut world = in_order();
        let order = CallOrder { cancel_after: (status == 487).then_some(secs(3)), ..to("bob") };
        let answers = vec![(who::BOB, first)];

        world.act(Action::Call { caller: who::ALICE, order, expected: Expected::Answers(answers) });
        world.run_for(secs(60));

        assert_eq!(outcome(&world), Some(status));
        for phone in [who::BOB_TCP, who::BOB_SIX] {
            assert_eq!(said(&world, phone, |fact| matches!(fact, Fact::Ringing { .. })), 0, "phone {phone}");
        }
        assert_good(world);
    }
}

/// Bob's phones have three preferences.
fn in_order() -> World {
    let cast = |cast: &mut cast::Cast| {
        for (phone, q) in BOBS.into_iter().zip(["1", "0.5", "0.1"]) {
            cast.members[phone].setup.q = Some(q);
        }
    };
    let world = scene_with(cast::defaults(), cast);
    with_registered(world, &[who::ALICE, who::BOB, who::BOB_TCP, who::BOB_SIX])
}

/// Calls Bob, whose phones do this when it is their turn.
fn call_in_order(world: &mut World, behaviours: [Answering; 3], lasts: Duration) {
    let answers = BOBS.into_iter().zip(behaviours).collect();
    world.act(Action::Call { caller: who::ALICE, order: to("bob"), expected: Expected::InTurn(answers) });
    world.run_for(lasts);
}

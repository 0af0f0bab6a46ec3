//! Requests that wait for the database or for a name.

use super::*;
use crate::cast::{FIRST, FOREIGN_DOMAIN};
use crate::dns::Resolver;
use crate::phone::Patience;
use crate::store::Condition;

/// Alice has a nonce, but the server knows no account any more and the database hangs.
fn hanging() -> World {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    world.act(Action::Restart(Duration::from_millis(100)));
    world.act(Action::Store(Condition::Hanging));
    world.run_for(secs(1));
    look_away(&mut world);
    world
}

#[test]
fn a_cancel_while_the_account_look_up_hangs_is_200_and_the_invite_487() {
    let mut world = hanging();
    let order = CallOrder { cancel_after: Some(secs(1)), patience: Patience::None, ..to("dave") };

    world.act(Action::Call { caller: who::ALICE, order, expected: Expected::End });
    world.run_for(secs(2));

    let alice = world.phone(who::ALICE).setup().local;
    assert_eq!(statuses_to(&world, alice), [200, 487]);
    assert_eq!(outcome(&world), Some(487));
    world.act(Action::Store(Condition::Up));
    world.run_for(secs(40));
    assert_eq!(said(&world, who::DAVE, |fact| matches!(fact, Fact::Ringing { .. })), 0);
    assert_eq!(count(&world, Count::UnknownToken), 1, "the late answer is counted");
    assert_eq!(world.node().held(), Default::default());
}

#[test]
fn retransmissions_while_the_account_look_up_hangs_ask_once_and_ring_once() {
    let mut world = hanging();

    world.act(Action::Call { caller: who::ALICE, order: to("dave"), expected: Expected::End });
    world.run_for(secs(2));
    assert!(sent_to(&world, FIRST, "INVITE").len() > 1);
    world.act(Action::Store(Condition::Up));
    world.run_for(secs(3));

    assert_eq!(outcome(&world), Some(200));
    assert_eq!(said(&world, who::DAVE, |fact| matches!(fact, Fact::Ringing { .. })), 1);
}

#[test]
fn a_request_that_waits_too_long_is_answered_and_leaves_nothing() {
    let mut world = hanging();

    world.act(Action::Call { caller: who::ALICE, order: to("dave"), expected: Expected::End });
    world.run_for(secs(31));

    assert!(matches!(outcome(&world), Some(500 | 503)), "{:?}", outcome(&world));
    assert_eq!(world.node().held().suspended, 0);
}

#[test]
fn known_users_go_on_while_the_database_is_away() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, answer(1))], secs(20));
    world.act(Action::Store(Condition::Away));
    look_away(&mut world);

    world.act(Action::Register(who::DAVE));
    let order = CallOrder { number: 2, ..to("dave") };
    world.act(Action::Call {
        caller: who::ALICE,
        order,
        expected: Expected::Answers(vec![(who::DAVE, answer(1))]),
    });
    world.run_for(secs(20));

    assert_eq!(said(&world, who::DAVE, |fact| matches!(fact, Fact::Registered { .. })), 1);
    assert!(is_up(&world, who::DAVE));
    assert_good(world);
}

#[test]
fn an_unknown_user_while_the_database_is_away_is_not_told_that_he_does_not_exist() {
    let mut world = scene();
    world.act(Action::Store(Condition::Away));

    world.act(Action::Register(who::ALICE));
    world.run_for(secs(5));

    let refused = said(&world, who::ALICE, |fact| matches!(fact, Fact::RegisterRefused(500 | 503)));
    assert_eq!(refused, 1);
    assert_eq!(contacts(&world, "alice"), 0);
}

#[test]
fn a_name_that_is_not_there_and_a_resolver_that_fails_both_end_the_call() {
    for (resolver, host) in [(Resolver::Up, "nowhere.example"), (Resolver::Failing, FOREIGN_DOMAIN)] {
        let mut world = registered(&[who::ALICE]);
        world.act(Action::Resolver(resolver));

        let order = CallOrder::new(1, format!("sip:zoe@{host}"));
        world.act(Action::Call { caller: who::ALICE, order, expected: Expected::End });
        world.run_for(secs(20));

        assert!(outcome(&world).is_some_and(|status| status >= 400), "{host}: {:?}", outcome(&world));
        world.run_for(secs(40));
        assert_eq!(world.node().held(), Default::default());
        assert_good(world);
    }
}

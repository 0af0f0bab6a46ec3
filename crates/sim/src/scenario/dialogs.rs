//! Calls that are up, while the world changes under them.

use super::*;
use crate::cast::SIXTH;

/// A call of the first to the second that is up, and hung up by nobody.
fn up(world: &mut World, caller: usize, callee: usize) {
    let user = world.phone(callee).setup().user.clone();
    call(world, caller, long_call(&user), &[(callee, answer(1))], secs(3));
    assert!(is_up(world, caller) && is_up(world, callee), "{caller} to {callee}");
}

fn assert_hangs_up(mut world: World, phone: usize, other: usize) {
    world.act(Action::HangUp(phone, 1));
    world.run_for(secs(40));
    assert_eq!(hung_up_with(&world, phone), Some(200), "phone {phone} hung up");
    assert!(heard_hang_up(&world, other), "phone {other} heard nothing of it");
    assert_eq!(said(&world, phone, |fact| matches!(fact, Fact::Challenged { in_dialog: true, .. })), 0);
    assert_eq!(world.watch.broken(), []);
}

#[test]
fn a_nat_port_that_changed_in_mid_call_does_no_harm_to_who_sits_behind_it() {
    for (caller, callee) in [(who::HENRY, who::ALICE), (who::ALICE, who::HENRY)] {
        let mut world = registered(&[who::ALICE, who::HENRY]);
        up(&mut world, caller, callee);

        world.act(Action::Rebind(1));

        assert_hangs_up(world, who::HENRY, who::ALICE);
    }
}

#[test]
fn a_nat_port_that_changed_in_mid_call_does_no_harm_to_the_other_side_once_the_phone_has_registered() {
    for (caller, callee) in [(who::HENRY, who::ALICE), (who::ALICE, who::HENRY)] {
        let mut world = registered(&[who::ALICE, who::HENRY]);
        up(&mut world, caller, callee);

        world.act(Action::Rebind(1));
        world.act(Action::Register(who::HENRY));
        world.run_for(secs(1));

        assert_hangs_up(world, who::ALICE, who::HENRY);
    }
}

#[test]
fn a_restart_in_mid_call_does_no_harm_and_nobody_is_challenged() {
    for (phone, other) in [(who::ALICE, who::HENRY), (who::HENRY, who::ALICE)] {
        let mut world = registered(&[who::ALICE, who::HENRY]);
        up(&mut world, who::ALICE, who::HENRY);

        world.act(Action::Restart(secs(1)));
        world.run_for(secs(2));

        assert_hangs_up(world, phone, other);
    }
}

#[test]
fn a_kill_in_mid_call_does_no_harm() {
    for (phone, other) in [(who::ALICE, who::HENRY), (who::HENRY, who::ALICE)] {
        let mut world = registered(&[who::ALICE, who::HENRY]);
        up(&mut world, who::HENRY, who::ALICE);

        world.act(Action::Kill(secs(1)));
        world.run_for(secs(2));

        assert_hangs_up(world, phone, other);
    }
}

#[test]
fn a_connection_that_is_closed_in_mid_call_is_replaced_by_the_phones_next_one() {
    for instance in [true, false] {
        for (phone, other) in [(who::CAROL, who::ALICE), (who::ALICE, who::CAROL)] {
            let world =
                scene_with(cast::defaults(), |cast| cast.members[who::CAROL].setup.instance = instance);
            let mut world = with_registered(world, &[who::ALICE, who::CAROL]);
            up(&mut world, who::ALICE, who::CAROL);

            world.act(Action::CloseConnection(who::CAROL));
            world.run_for(secs(5));

            assert_hangs_up(world, phone, other);
        }
    }
}

#[test]
fn a_restart_closes_connections_and_the_calls_over_them_go_on() {
    let mut world = registered(&[who::ALICE, who::CAROL]);
    up(&mut world, who::CAROL, who::ALICE);

    world.act(Action::Restart(secs(1)));
    world.run_for(secs(8));

    assert_hangs_up(world, who::ALICE, who::CAROL);
}

// RFC 5658 §4: where the two sides are on different listeners the server stands twice in the route set.
#[test]
fn two_listeners_make_a_double_record_route_and_both_ways_work() {
    for (phone, other) in [(who::ALICE, who::DAVE), (who::DAVE, who::ALICE)] {
        let mut world = registered(&[who::ALICE, who::DAVE]);
        up(&mut world, who::ALICE, who::DAVE);

        let dave = world.phone(who::DAVE).setup().local;
        let invite = sent_to(&world, dave, "INVITE").pop().unwrap();
        let message = Message::parse(&invite).unwrap();
        assert_eq!(message.values(Name::RecordRoute).count(), 2);
        let top = String::from_utf8_lossy(message.values(Name::RecordRoute).next().unwrap()).into_owned();
        assert!(top.contains(&SIXTH.ip().to_string()), "{top}");

        assert_hangs_up(world, phone, other);
    }
}

#[test]
fn one_listener_makes_one_record_route() {
    let mut world = registered(&[who::ALICE, who::HENRY]);
    up(&mut world, who::HENRY, who::ALICE);

    let alice = world.phone(who::ALICE).setup().local;
    let invite = sent_to(&world, alice, "INVITE").pop().unwrap();

    assert_eq!(Message::parse(&invite).unwrap().values(Name::RecordRoute).count(), 1);
}

// RFC 3261 §16.4: a strict router puts our own Record-Route URI into the Request-URI.
#[test]
fn a_phone_that_knows_strict_routing_only_ends_its_call() {
    for callee in [who::HENRY, who::DAVE, who::GRACE] {
        let world = scene_with(cast::defaults(), |cast| cast.members[who::ALICE].setup.strict = true);
        let mut world = with_registered(world, &[who::ALICE, callee]);
        up(&mut world, who::ALICE, callee);

        assert_hangs_up(world, who::ALICE, callee);
    }
}

// RFC 5393 §4.2, RFC 3261 §16.3 item 4: another target is a spiral, the same one is a loop.
#[test]
fn a_call_that_comes_by_again_with_another_target_is_no_loop() {
    for records in [true, false] {
        for hang_up_after in [None, Some(secs(2))] {
            let world = scene_with(cast::defaults(), |cast| cast.neighbour.records = records);
            let mut world = with_registered(world, &[who::ALICE, who::DAVE]);
            let answering = Answering { hang_up_after, ..answer(1) };

            call(&mut world, who::DAVE, to("to-alice"), &[(who::ALICE, answering)], secs(30));

            assert_eq!(outcome(&world), Some(200), "records: {records}");
            assert_good(world);
        }
    }
}

#[test]
fn a_call_that_comes_by_again_with_the_same_target_is_482() {
    let mut world = registered(&[who::ALICE]);

    world.act(Action::Call { caller: who::ALICE, order: to("loop"), expected: Expected::Status(vec![482]) });
    world.run_for(secs(2));

    assert_eq!(count(&world, Count::Loop), 1);
    assert_good(world);
}

#[test]
fn a_session_is_changed_in_mid_call_over_two_listeners() {
    let mut world = registered(&[who::ERIN, who::GRACE]);
    let order = CallOrder { reinvite_after: Some(secs(2)), ..to("grace") };

    call(&mut world, who::ERIN, order, &[(who::GRACE, answer(1))], secs(20));

    assert_eq!(said(&world, who::ERIN, |fact| matches!(fact, Fact::Reinvited { status: 200, .. })), 1);
    assert_good(world);
}

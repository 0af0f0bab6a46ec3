//! Calls to one phone: answered, refused, given up, forgotten.

use super::*;
use crate::cast::{FIRST, FOREIGN_DOMAIN};

#[test]
fn a_call_is_set_up_and_ended_by_either_side() {
    for hang_up_after in [None, Some(secs(2))] {
        let mut world = registered(&[who::ALICE, who::DAVE]);
        let answering = Answering { hang_up_after, ..answer(1) };

        call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, answering)], secs(20));

        assert_eq!(outcome(&world), Some(200));
        let other = if hang_up_after.is_some() { who::ALICE } else { who::DAVE };
        assert!(heard_hang_up(&world, other));
        assert_good(world);
    }
}

#[test]
fn every_phone_reaches_every_other_one_over_all_transports_families_and_routers() {
    for caller in who::REGISTERED {
        for callee in [who::ALICE, who::CAROL, who::DAVE, who::ERIN, who::FRANK, who::GRACE, who::HENRY] {
            if caller == callee {
                continue;
            }
            let mut world = registered(&[caller, callee]);
            let user = world.phone(callee).setup().user.clone();
            let answering = Answering { hang_up_after: Some(secs(3)), ..answer(1) };
            let mut order = to(&user);
            order.reinvite_after = Some(secs(1));

            call(&mut world, caller, order, &[(callee, answering)], secs(30));

            assert_eq!(outcome(&world), Some(200), "{caller} to {callee}");
            assert_good(world);
        }
    }
}

#[test]
fn a_busy_callee_ends_the_call_with_486() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    let busy = Answering::of(Behaviour::Refuse { status: 486, after: secs(1) });

    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, busy)], secs(60));

    assert_eq!(outcome(&world), Some(486));
    assert_eq!(world.node().held(), Default::default());
    assert_good(world);
}

// RFC 3261 §16.10: the CANCEL reaches who rings, and the caller hears 487.
#[test]
fn a_caller_that_gives_up_hears_487_and_the_phone_stops_ringing() {
    let mut world = registered(&[who::ALICE, who::HENRY]);
    let order = CallOrder { cancel_after: Some(secs(3)), ..to("henry") };

    call(&mut world, who::ALICE, order, &[(who::HENRY, answer(20))], secs(60));

    assert_eq!(outcome(&world), Some(487));
    assert_eq!(said(&world, who::HENRY, |fact| matches!(fact, Fact::Cancelled { .. })), 1);
    assert_good(world);
}

#[test]
fn a_user_without_a_binding_is_480_and_an_unknown_one_404() {
    for (user, status) in [("nobody", 480), ("nemo", 404)] {
        let mut world = registered(&[who::ALICE]);

        world.act(Action::Call {
            caller: who::ALICE,
            order: to(user),
            expected: Expected::Status(vec![status]),
        });
        world.run_for(secs(2));

        assert_good(world);
    }
}

#[test]
fn a_branch_rings_no_longer_than_the_ring_timeout() {
    let mut settings = cast::defaults();
    settings.proxy.ring_timeout = secs(30);
    let mut world = with_registered(scene_with(settings, |_| {}), &[who::ALICE, who::DAVE]);

    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, Answering::of(Behaviour::Ring))], secs(29));
    assert_eq!(outcome(&world), None);
    world.run_for(secs(3));

    assert_eq!(outcome(&world), Some(408));
    assert_eq!(said(&world, who::DAVE, |fact| matches!(fact, Fact::Cancelled { .. })), 1);
    assert_good(world);
}

// RFC 3261 §16.6 item 11, RFC 3261 §16.8: a branch that is tried and never rings ends with timer C.
#[test]
fn timer_c_ends_a_branch_that_never_rings() {
    let mut world = registered(&[who::ALICE, who::DAVE]);

    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, Answering::of(Behaviour::Try))], secs(189));
    assert_eq!(outcome(&world), None);
    world.run_for(secs(4));

    assert_eq!(outcome(&world), Some(408));
    assert_good(world);
}

// RFC 3261 §16.7 item 1, RFC 3261 §17.1.1.2: timer B makes it a 408.
#[test]
fn a_phone_that_says_nothing_makes_the_call_408_after_timer_b() {
    let mut world = registered(&[who::ALICE, who::DAVE]);

    call(&mut world, who::ALICE, to("dave"), &[(who::DAVE, Answering::of(Behaviour::Silence))], secs(31));
    assert_eq!(outcome(&world), None);
    world.run_for(secs(2));

    assert_eq!(outcome(&world), Some(408));
}

#[test]
fn a_redirected_caller_calls_where_it_is_sent() {
    let mut world = registered(&[who::ALICE, who::DAVE, who::ERIN]);
    let redirect = Answering::of(Behaviour::Redirect(format!("sip:dave@{DOMAIN}")));

    call(&mut world, who::ERIN, to("alice"), &[(who::ALICE, redirect), (who::DAVE, answer(1))], secs(20));

    assert!(is_up(&world, who::DAVE));
    assert_good(world);
}

// RFC 3261 §17.2.1, RFC 3261 §8.2.7: a challenge keeps no state, and its ACK must not be routed.
#[test]
fn the_ack_to_our_407_is_absorbed() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    world.act(Action::PowerOff(who::ALICE));
    world.act(Action::Register(who::ERIN));
    world.run_for(secs(1));
    look_away(&mut world);
    let order = CallOrder { cancel_after: None, ..to("dave") };
    // Henry has no nonce yet, so he is challenged.
    world.act(Action::Call { caller: who::HENRY, order, expected: Expected::End });
    world.run_for(secs(4));

    assert_eq!(said(&world, who::HENRY, |fact| matches!(fact, Fact::Challenged { method: "INVITE", .. })), 1);
    assert_eq!(sent_to(&world, FIRST, "ACK").len(), 2, "one for the 407, one for the 200");
    assert_eq!(count(&world, Count::AckAbsorbed), 1);
    let dave = world.phone(who::DAVE).setup().local;
    assert_eq!(sent_to(&world, dave, "ACK").len(), 1);
}

#[test]
fn a_request_of_1500_bytes_to_a_binding_over_udp_stays_on_udp() {
    let mut world = registered(&[who::ALICE, who::HENRY]);
    let order = CallOrder { bytes_min: 1_500, ..to("henry") };

    call(&mut world, who::ALICE, order, &[(who::HENRY, answer(1))], secs(20));

    let long = said(&world, who::HENRY, |fact| matches!(fact, Fact::Ringing { bytes, .. } if *bytes > 1_500));
    assert_eq!(long, 1);
    assert_eq!(world.events.of(crate::events::Event::ConnectionOpened), 0);
    assert_good(world);
}

// RFC 3263 §4.3: the DNS names a dead server before the one that lives.
#[test]
fn a_call_to_another_domain_goes_to_the_first_server_that_lives() {
    let mut world = registered(&[who::ALICE]);
    let order = CallOrder::new(1, format!("sip:zoe@{FOREIGN_DOMAIN}"));
    let answering = Answering { hang_up_after: Some(secs(2)), ..answer(1) };

    call(&mut world, who::ALICE, order, &[(who::ZOE, answering)], secs(20));

    assert!(is_up(&world, who::ZOE));
    assert!(heard_hang_up(&world, who::ALICE));
    assert_eq!(count(&world, Count::ServerPassedOver), 1);
    assert_good(world);
}

// RFC 3261 §18.1.1: a large request goes over TCP to a hop that no flow binds, and over UDP if that is refused.
#[test]
fn a_large_request_to_another_domain_tries_tcp_and_falls_back_to_udp() {
    let mut world = registered(&[who::ALICE]);
    let order = CallOrder { bytes_min: 1_500, ..CallOrder::new(1, format!("sip:zoe@{FOREIGN_DOMAIN}")) };
    world.refuses_connections(who::ZOE);

    call(&mut world, who::ALICE, order, &[(who::ZOE, answer(1))], secs(20));

    // Both the dead server and the one that lives were asked first by TCP.
    assert_eq!(world.events.of(crate::events::Event::ConnectionOpened), 2);
    assert!(is_up(&world, who::ZOE));
    assert_good(world);
}

#[test]
fn a_retransmitted_invite_is_forwarded_once() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    call(&mut world, who::ALICE, long_call("dave"), &[(who::DAVE, answer(10))], secs(1));
    let alice = world.phone(who::ALICE).setup().local;
    let dave = world.phone(who::DAVE).setup().local;
    let invite = sent_to(&world, FIRST, "INVITE").pop().unwrap();

    for _ in 0..5 {
        world.transmit(alice, FIRST, invite.clone());
        world.run_for(Duration::from_millis(300));
    }

    assert_eq!(sent_to(&world, dave, "INVITE").len(), 1);
}

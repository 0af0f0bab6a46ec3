//! Bindings: made, kept, ended, and never anybody else's.

use super::*;
use crate::cast::{FIRST, STRANGER};

#[test]
fn a_repeated_register_gets_the_same_200_and_changes_nothing() {
    let mut world = registered(&[who::ALICE]);
    let alice = world.phone(who::ALICE).setup().local;
    let register = sent_to(&world, FIRST, "REGISTER").pop().unwrap();
    let answer = sent_to(&world, alice, "SIP/2.0 200").pop().unwrap();
    look_away(&mut world);

    world.transmit(alice, FIRST, register);
    world.run_for(secs(1));

    assert_eq!(sent_to(&world, alice, "SIP/2.0"), [answer]);
    assert_eq!(contacts(&world, "alice"), 1);
    assert_eq!(count(&world, Count::BindingRefreshed), 0);
}

// RFC 7616 §3.4: a count is good once; UDP reorders, so it need not be higher than the last one.
#[test]
fn nonce_count_three_may_come_before_nonce_count_two() {
    let mut world = registered(&[who::ALICE, who::DAVE]);
    let alice = world.phone(who::ALICE).setup().local;
    world.tap.as_mut().unwrap().holds = Some(alice);
    for number in [1, 2] {
        let order = CallOrder { number, ..to("dave") };
        world.act(Action::Call { caller: who::ALICE, order, expected: Expected::End });
    }
    let held: Vec<_> = sent_to(&world, FIRST, "INVITE");
    assert_eq!(held.len(), 2);
    assert!(String::from_utf8_lossy(&held[1]).contains("nc=00000003"));
    look_away(&mut world);

    for bytes in held.into_iter().rev() {
        world.transmit(alice, FIRST, bytes);
        world.run_for(Duration::from_millis(1));
    }
    world.run_for(secs(3));

    assert!(!statuses_to(&world, alice).contains(&407));
    assert_eq!(said(&world, who::DAVE, |fact| matches!(fact, Fact::Ringing { .. })), 2);
}

#[test]
fn a_used_nonce_count_is_challenged_as_stale() {
    let mut world = registered(&[who::ALICE]);
    let register = sent_to(&world, FIRST, "REGISTER").pop().unwrap();
    world.run_for(secs(40));
    look_away(&mut world);

    world.transmit(STRANGER, FIRST, register);
    world.run_for(secs(1));

    // The response goes where the Via's port and the packet's address say.
    let tap = world.tap.as_ref().unwrap();
    let (_, _, answer) = tap.datagrams.last().unwrap();
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("SIP/2.0 401 "), "{text}");
    assert!(text.contains("stale=true"), "{text}");
}

#[test]
fn a_binding_that_answers_three_keepalives_in_a_row_not_is_dead() {
    let mut world = registered(&[who::ALICE, who::HENRY]);
    world.act(Action::PowerOff(who::HENRY));

    world.run_for(secs(60));
    assert_eq!(contacts(&world, "henry"), 1);
    world.run_for(secs(65));

    assert_eq!(contacts(&world, "henry"), 0);
    assert_eq!(count(&world, Count::BindingDead), 1);
    world.act(Action::Call { caller: who::ALICE, order: to("henry"), expected: Expected::Status(vec![480]) });
    world.run_for(secs(2));
    assert_good(world);
}

#[test]
fn a_binding_that_answers_its_keepalives_lives_to_its_end() {
    let world = scene_with(cast::defaults(), |cast| cast.members[who::HENRY].setup.expires = secs(3_600));
    let mut world = with_registered(world, &[who::HENRY]);

    world.run_for(secs(900));

    assert_eq!(contacts(&world, "henry"), 1);
    assert!(said(&world, who::HENRY, |fact| *fact == Fact::KeepaliveAnswered) >= 34);
    assert_eq!(count(&world, Count::BindingDead), 0);
    assert_good(world);
}

// RFC 3261 §10.3 step 3 and 4: who registers must be who he says, and have the right to.
#[test]
fn a_register_for_anothers_address_of_record_is_403_and_changes_nothing() {
    let mut world = registered(&[who::ALICE, who::BOB]);

    world.act(Action::RegisterAs(who::ALICE, format!("bob@{DOMAIN}")));
    world.run_for(secs(2));

    assert_eq!(said(&world, who::ALICE, |fact| *fact == Fact::RegisterRefused(403)), 1);
    assert_eq!(contacts(&world, "bob"), 1);
    assert_eq!(count(&world, Count::NotOwner), 1);
}

#[test]
fn a_wrong_password_is_401_and_binds_nothing() {
    let mut world = scene();

    world.act(Action::Register(who::MALLORY));
    world.run_for(secs(2));

    assert_eq!(said(&world, who::MALLORY, |fact| *fact == Fact::RegisterRefused(401)), 1);
    assert_eq!(contacts(&world, "mallory"), 0);
    assert_eq!(count(&world, Count::WrongCredentials), 1);
}

#[test]
fn a_clean_restart_loses_no_binding_and_asks_for_no_new_credentials() {
    let mut world = registered(&who::REGISTERED);
    world.act(Action::Restart(secs(1)));
    world.run_for(secs(2));
    look_away(&mut world);

    for phone in who::REGISTERED {
        assert!(contacts(&world, &world.phone(phone).setup().user.clone()) > 0);
        world.act(Action::Register(phone));
    }
    world.run_for(secs(8));

    for phone in who::REGISTERED {
        assert_eq!(said(&world, phone, |fact| matches!(fact, Fact::Challenged { .. })), 0, "phone {phone}");
        assert!(said(&world, phone, |fact| matches!(fact, Fact::Registered { .. })) > 0, "phone {phone}");
    }
    assert_eq!(contacts(&world, "bob"), 3);
    assert_good(world);
}

#[test]
fn a_kill_loses_no_binding_that_is_older_than_a_tenth_of_a_second() {
    let mut world = registered(&[who::ALICE, who::HENRY]);
    world.run_for(Duration::from_millis(200));

    world.act(Action::Kill(secs(1)));
    world.run_for(secs(3));

    assert_eq!(contacts(&world, "alice"), 1);
    assert_eq!(contacts(&world, "henry"), 1);
    assert_good(world);
}

#[test]
fn a_phone_that_says_goodbye_is_gone_at_once() {
    let mut world = registered(&[who::ALICE, who::DAVE]);

    world.act(Action::Unregister(who::DAVE));
    world.run_for(secs(1));

    assert_eq!(contacts(&world, "dave"), 0);
    world.act(Action::Call { caller: who::ALICE, order: to("dave"), expected: Expected::Status(vec![480]) });
    world.run_for(secs(2));
    assert_good(world);
}

#[test]
fn a_wish_that_is_too_brief_is_423_and_the_phone_asks_for_more() {
    let world = scene_with(cast::defaults(), |cast| cast.members[who::ALICE].setup.expires = secs(5));

    let world = with_registered(world, &[who::ALICE]);

    let alice = world.phone(who::ALICE).setup().local;
    assert!(statuses_to(&world, alice).contains(&423));
}

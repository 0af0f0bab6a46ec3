//! The node stands by, and becomes active again.

use super::*;
use crate::Count;

const INTERVAL: Duration = Duration::from_secs(25);

#[test]
fn nothing_expires_and_nothing_is_sent_while_another_node_is_active() {
    let mut world = World::new();
    world.register(behind_nat("bob")).unwrap();
    world.take();

    world.partition.stand_by();
    world.pass(Duration::from_secs(7_200));

    assert_eq!(world.partition.poll_timeout(), None);
    assert_eq!(world.take(), []);
    assert_eq!(world.partition.binding_count(), 1);
}

#[test]
fn what_is_past_its_time_ends_at_once_when_the_node_is_active_again() {
    let mut world = World::new();
    world.register(behind_nat("bob")).unwrap();
    world.partition.stand_by();
    world.stand_still(Duration::from_secs(7_200));
    world.take();

    world.become_active(5);

    assert!(matches!(world.take_saved()[..], [Change::Remove(_)]));
    assert_eq!(world.partition.counts().of(Count::BindingExpired), 1);
}

#[test]
fn turns_that_were_another_node_s_are_made_good_within_a_tenth_of_the_interval_and_spread() {
    let mut world = World::new();
    for number in 0..100 {
        world.register(behind_nat(&format!("user{number}"))).unwrap();
    }
    world.partition.stand_by();
    // Each turn is late by less than what is left out on a node that stands still.
    world.stand_still(INTERVAL / 3);
    world.take();

    world.become_active(5);

    assert_eq!(world.take(), [], "not all at once");
    let sent: Vec<usize> = (0..25)
        .map(|_| {
            world.pass(INTERVAL / 250);
            world.take().len()
        })
        .collect();
    assert!(sent.iter().sum::<usize>() >= 33, "{sent:?}");
    assert!(sent.iter().all(|&at_once| at_once <= 15), "{sent:?}");
}

#[test]
fn a_phone_that_answered_another_node_is_not_taken_for_dead() {
    let mut world = World::new();
    world.register(behind_nat("bob")).unwrap();
    // As many as a phone may leave out, but for one.
    world.pass(INTERVAL * 2);
    world.partition.stand_by();
    world.stand_still(INTERVAL * 10);
    world.become_active(5);

    world.pass(INTERVAL * 2);

    assert_eq!(world.partition.binding_count(), 1);
}

#[test]
fn another_epoch_lets_go_of_what_waits_though_nobody_said_that_the_lease_was_over() {
    let mut world = World::new();
    world.mirror = LeaseMirror::until(Instant::FAR, Epoch(3));
    assert_eq!(world.ask(Question::Locate(aor("bob"))), None, "it waits for the store");

    world.become_active(5);
    world.take();
    world.loaded("bob", super::super::Loaded::NotFound);

    assert_eq!(world.take(), [], "who asked has forgotten it");
}

#[test]
fn a_connection_that_is_lost_meanwhile_leaves_its_binding_without_a_way() {
    let mut world = World::new();
    let source = tcp_from("192.0.2.7:40000", 1);
    world.register(Register { source, ..behind_nat("bob") }).unwrap();
    let Flow::Connection { id, .. } = source.flow else { panic!("it is one") };
    world.take();
    world.partition.stand_by();

    world.partition.lose_connection(id);

    assert_eq!(world.take(), [], "nothing is removed from the store");
    assert_eq!(world.partition.binding_count(), 1);
    assert_eq!(world.partition.bound_connections(), []);
}

fn behind_nat(user: &str) -> Register {
    Register { nat: true, ..a_register(user, 1, &[contact("sip:x@10.9.9.9")]) }
}

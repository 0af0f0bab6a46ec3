//! Bindings that another node has made, and what is told of our own.

use super::*;
use crate::account::BindingKey;

#[test]
fn a_copy_by_way_of_its_capsule_is_the_binding() {
    let saved = registered();
    let mut standby = World::new();

    let id = standby.partition.restore(standby.now, by_capsule(&standby, &saved)).unwrap();

    assert_eq!(standby.partition.number_of(&BindingKey::of(&saved)), Some(id));
    assert_eq!(standby.partition.stored(standby.now, id), Some(saved));
    standby.partition.check();
}

#[test]
fn a_copy_takes_the_place_of_the_one_with_its_key_and_of_no_other() {
    let saved = registered();
    let other =
        StoredBinding { contact: Bytes::from_static(b"sip:bob@192.0.2.99"), reg_id: None, ..saved.clone() };
    let mut standby = World::new();
    let first = standby.partition.restore(standby.now, saved.clone()).unwrap();
    standby.partition.restore(standby.now, other.clone()).unwrap();

    let later = StoredBinding { cseq: saved.cseq + 1, ..saved.clone() };
    let second = standby.partition.restore(standby.now, later.clone()).unwrap();

    assert_eq!(standby.partition.stored(standby.now, first), None);
    assert_eq!(standby.partition.stored(standby.now, second), Some(later));
    assert_eq!(standby.partition.binding_count(), 2);
    let flow = Some((Bytes::from_static(b"another"), 1));
    assert_eq!(standby.partition.number_of(&BindingKey { flow, ..BindingKey::of(&saved) }), None);
    standby.partition.check();
}

#[test]
fn a_copy_that_the_active_node_withdraws_is_gone_from_the_store_too() {
    let saved = registered();
    let mut standby = World::new();
    let id = standby.partition.restore(standby.now, saved.clone()).unwrap();
    let mut out = Vec::new();

    standby.partition.withdraw(id, &mut out);
    standby.partition.withdraw(id, &mut out);

    assert_eq!(out, [Output::Save(Change::Remove(BindingKey::of(&saved)))]);
    assert_eq!(standby.partition.binding_count(), 0);
    standby.partition.check();
}

#[test]
fn a_standby_ends_nothing_because_of_the_time_and_tells_of_nothing_that_has_ended() {
    let saved = registered();
    let mut standby = World::new();
    let id = standby.partition.restore(standby.now, saved.clone()).unwrap();
    let left = saved.left(standby.now.wall);
    standby.now = Now::new(standby.now.instant + left, standby.now.wall + left);

    assert_eq!(standby.partition.stored(standby.now, id), None);
    assert_eq!(standby.partition.number_of(&BindingKey::of(&saved)), Some(id));
}

/// A phone's flow, as it was saved.
fn registered() -> StoredBinding {
    let mut active = World::new();
    let contact = flow_contact("sip:bob@10.9.9.9", super::register::PHONE, 2);
    active.register(super::register::outbound("bob", 9, contact)).unwrap();
    put(&active.take_saved()[0]).clone()
}

fn by_capsule(world: &World, saved: &StoredBinding) -> StoredBinding {
    let left = saved.left(world.now.wall);
    StoredBinding::from_capsule(world.now, left, saved.to_capsule()).unwrap()
}

//! What is granted is spread: RFC 3261 §10.3.

use std::collections::BTreeSet;

use super::*;
use crate::Phone;

const BOB: &str = "sip:bob@192.0.2.7";

#[test]
fn what_is_granted_lies_below_the_wish_and_differs_between_phones_and_refreshes() {
    let mut world = spreading(10);
    let mut granted = BTreeSet::new();
    for number in 0..300 {
        granted.insert(world.grant(wish(&format!("user{number}"), 1, 3_600)));
    }
    for cseq in 1..300 {
        granted.insert(world.grant(wish("bob", cseq, 3_600)));
    }

    assert!(granted.iter().all(|seconds| (3_240..3_600).contains(seconds)), "{granted:?}");
    assert!(granted.len() > 200, "of 360 possible values 599 draws leave few out: {}", granted.len());
}

#[test]
fn one_request_is_granted_the_same_on_either_node() {
    let register = wish("bob", 7, 3_600);

    assert_eq!(spreading(10).grant(register.clone()), spreading(10).grant(register));
}

#[test]
fn a_retransmission_is_told_the_same() {
    let mut world = spreading(10);
    let register = wish("bob", 7, 3_600);

    let granted = world.grant(register.clone());

    assert_eq!(world.grant(register), granted);
}

#[test]
fn nothing_is_granted_below_the_minimum_and_all_of_it_if_spreading_is_off() {
    let mut world = spreading(50);
    for (cseq, wished) in (1..).zip([60, 61, 62, 80, 100]) {
        let granted = world.grant(wish("bob", cseq, wished));
        assert!((60..=wished).contains(&granted), "{granted} of {wished}");
    }

    assert_eq!(spreading(0).grant(wish("bob", 1, 3_600)), 3_600);
}

/// Else it would ask for less each time, until it registers every minute.
#[test]
fn a_phone_that_asks_for_what_it_was_granted_gets_it() {
    let mut world = spreading(10);
    let first = world.grant(wish("bob", 1, 3_600));
    assert!(first < 3_600);

    for cseq in 2..20 {
        assert_eq!(world.grant(wish("bob", cseq, first)), first);
    }
    assert_ne!(
        world.grant(wish("bob", 20, 3_600)),
        3_600,
        "whoever asks for the whole again is spread again"
    );
}

#[test]
fn what_a_registrar_behind_this_edge_grants_is_left_alone() {
    let mut world = spreading(10);

    let noted = Register { authority: Authority::Elsewhere, ..wish("bob", 1, 3_600) };

    assert_eq!(world.grant(noted), 3_600);
}

/// RFC 5627 §6.1: the newest Contact of a phone counts, also if it was granted less than the one before.
#[test]
fn the_newest_contact_is_the_one_that_was_registered_last_not_the_one_that_ends_last() {
    for number in 0..50 {
        let mut world = spreading(50);
        let user = format!("user{number}");
        let at = |host: &str| contact_of(&format!("sip:{user}@{host}"), 3_600);
        world.register(a_register(&user, 1, &[at("192.0.2.7")])).expect("in order");
        world.pass(Duration::from_secs(1));
        world.register(a_register(&user, 2, &[at("192.0.2.8")])).expect("in order");

        let phone = Phone::Instance(Bytes::from_static(b"urn:uuid:1"));
        let found = match world.ask(Question::LocatePhone(aor(&user), phone)) {
            Some(Answer::Located(Located::Targets(targets))) => targets,
            other => panic!("{other:?}"),
        };

        let contacts: Vec<_> = found.iter().map(|target| target.contact.clone()).collect();
        assert_eq!(contacts, [format!("sip:{user}@192.0.2.8")]);
    }
}

fn spreading(percent: u8) -> World {
    let mut settings = settings();
    settings.registrar.expires_spread_percent = percent;
    World::with(settings)
}

fn wish(user: &str, cseq: u32, seconds: u32) -> Register {
    let contact = contact_of(&BOB.replace("bob", user), seconds);
    Register { response_hash: 1, ..a_register(user, cseq, &[contact]) }
}

fn contact_of(uri: &str, seconds: u32) -> ContactUpdate {
    let instance = Some(Bytes::from_static(b"<urn:uuid:1>"));
    ContactUpdate { expires: Some(seconds), instance, ..contact(uri) }
}

impl World {
    fn grant(&mut self, register: Register) -> u32 {
        let registered = self.register(register).expect("in order");
        assert_eq!(registered.contacts.len(), 1);
        registered.contacts[0].expires
    }
}

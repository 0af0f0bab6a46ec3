//! Which phones a GRUU finds: RFC 5627 §3.2, RFC 5627 §5 and RFC 5627 §6.1.

use super::*;
use crate::{Gruus, Phone};

const ONE: &str = "<urn:uuid:1>";
const TWO: &str = "<urn:uuid:2>";

#[test]
fn gruus_are_made_for_phones_that_have_an_instance_and_ask() {
    let mut world = World::new();
    let asks = |gruu| Register { gruu, ..phone("bob", 1, "sip:a", ONE) };

    let told = world.register(asks(true)).unwrap();
    let untold = world.register(Register { cseq: 2, ..asks(false) }).unwrap();
    let nameless = Register { gruu: true, ..a_register("carol", 1, &[contact("sip:c@192.0.2.1")]) };

    let gruus = told.contacts[0].gruus.clone().expect("it asked");
    assert_eq!(gruus.public, "sip:bob@example.org;gr=urn:uuid:1");
    assert_eq!(untold.contacts[0].gruus, None);
    assert_eq!(world.register(nameless).unwrap().contacts[0].gruus, None);
}

#[test]
fn a_public_gruu_finds_its_phone_alone() {
    let mut world = World::new();
    world.register(phone("bob", 1, "sip:a", ONE)).unwrap();
    world.register(phone("bob", 1, "sip:b", TWO)).unwrap();

    assert_eq!(world.find(&public("urn:uuid:2")), ["sip:b@192.0.2.7"]);
    assert_eq!(world.find(&public("URN:uuid:1")), ["sip:a@192.0.2.7"]);
    assert_eq!(world.find(&public("urn:uuid:3")), [""; 0], "the account is there, the phone is not: 480");

    world.pass(Duration::from_secs(601));
    assert_eq!(
        world.ask_phone(&public("urn:uuid:1")),
        None,
        "the store is asked whether there is such an account"
    );
}

/// RFC 5627 §3.2: all of one series are good while the phone is registered in it; another Call-ID ends them.
#[test]
fn a_temporary_gruu_is_good_for_its_series_of_registrations() {
    let mut world = World::new();
    let first = world.gruus(phone("bob", 1, "sip:a", ONE));
    let second = world.gruus(phone("bob", 2, "sip:a", ONE));
    assert_ne!(first.temporary, second.temporary);
    assert_eq!(first.public, second.public);
    for gruus in [&first, &second] {
        assert_eq!(world.find(&temporary(gruus)), ["sip:a@192.0.2.7"]);
    }

    let other = Register { call_id: Bytes::from_static(b"other"), ..phone("bob", 1, "sip:a", ONE) };
    let third = world.gruus(other);
    for gruus in [&first, &second] {
        assert_eq!(world.ask_phone(&temporary(gruus)), Some(Located::UnknownAor));
    }
    assert_eq!(world.find(&temporary(&third)), ["sip:a@192.0.2.7"]);

    world.pass(Duration::from_secs(601));
    assert_eq!(
        world.ask_phone(&temporary(&third)),
        Some(Located::UnknownAor),
        "it ends with the registration"
    );
}

/// Of two Contacts of one phone the last one counts; of several flows all do, the newest first.
#[test]
fn the_newest_contact_of_a_phone_comes_first() {
    let mut world = World::new();
    world.register(phone("bob", 1, "sip:old", ONE)).unwrap();
    world.pass(Duration::from_secs(1));
    world.register(phone("bob", 2, "sip:new", ONE)).unwrap();
    assert_eq!(world.find(&public("urn:uuid:1")), ["sip:new@192.0.2.7"]);

    let flow = |cseq, user, reg_id| {
        let register = phone("bob", cseq, user, TWO);
        let Contacts::Update(mut updates) = register.contacts.clone() else { unreachable!("it has one") };
        updates[0].reg_id = Some(reg_id);
        Register { outbound: true, contacts: Contacts::Update(updates), ..register }
    };
    world.register(flow(1, "sip:x", 1)).unwrap();
    world.pass(Duration::from_secs(1));
    world.register(flow(2, "sip:y", 2)).unwrap();
    assert_eq!(world.find(&public("urn:uuid:2")), ["sip:y@192.0.2.7", "sip:x@192.0.2.7"]);
    world.pass(Duration::from_secs(1));
    world.register(flow(3, "sip:x", 1)).unwrap();
    assert_eq!(world.find(&public("urn:uuid:2")), ["sip:x@192.0.2.7", "sip:y@192.0.2.7"]);
}

impl World {
    fn ask_phone(&mut self, phone: &Phone) -> Option<Located> {
        match self.ask(Question::LocatePhone(aor("bob"), phone.clone())) {
            Some(Answer::Located(located)) => Some(located),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn find(&mut self, phone: &Phone) -> Vec<String> {
        match self.ask_phone(phone) {
            Some(Located::Targets(targets)) => targets.iter().map(|target| text(&target.contact)).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn gruus(&mut self, register: Register) -> Gruus {
        let registered = self.register(Register { gruu: true, ..register }).unwrap();
        registered.contacts[0].gruus.clone().expect("it has an instance")
    }
}

fn phone(user: &str, cseq: u32, uri: &str, instance: &str) -> Register {
    let update = ContactUpdate {
        instance: Some(Bytes::copy_from_slice(instance.as_bytes())),
        ..contact(&format!("{uri}@192.0.2.7"))
    };
    Register { call_id: Bytes::from(format!("of {instance}")), ..a_register(user, cseq, &[update]) }
}

fn public(urn: &str) -> Phone {
    Phone::Instance(Bytes::copy_from_slice(urn.as_bytes()))
}

fn temporary(gruus: &Gruus) -> Phone {
    let uri = sip::SipUri::parse(&gruus.temporary).unwrap();
    match crate::gruu::read(&keyring().gruu, &uri) {
        Some(crate::gruu::Gruu::Of(_, phone)) => phone,
        other => panic!("{other:?}"),
    }
}

use super::*;
use crate::account::Imported;

#[test]
fn a_binding_of_another_registrar_is_written_down_and_found_like_any_other() {
    let mut world = World::new();

    assert_eq!(world.import(of_another("sip:a@10.0.0.9")), Imported::Taken);

    let [Output::Save(Change::Put(saved))] = &world.out[..] else { panic!("{:?}", world.out) };
    assert_eq!(**saved, of_another("sip:a@10.0.0.9"));
    world.out.clear();
    let Some(Answer::Located(Located::Targets(targets))) = world.ask(Question::Locate(alice())) else {
        panic!("it is known")
    };
    assert_eq!(targets.len(), 1);
    world.partition.check();
}

#[test]
fn what_is_taken_over_twice_is_there_once() {
    let mut world = World::new();
    world.import(of_another("sip:a@10.0.0.9"));
    world.out.clear();

    assert_eq!(world.import(of_another("sip:a@10.0.0.9")), Imported::Known);

    assert_eq!((world.out.len(), world.partition.binding_count()), (0, 1));
}

#[test]
fn a_phone_that_has_come_here_meanwhile_is_not_what_it_was_there() {
    let mut world = World::new();
    let instance = Some(Bytes::from_static(b"<urn:uuid:1>"));
    let here = StoredBinding { instance: instance.clone(), cseq: 7, ..of_another("sip:new@10.0.0.9") };
    world.import(here);
    world.out.clear();

    for contact in ["sip:new@10.0.0.9", "sip:old@10.0.0.9"] {
        let there =
            StoredBinding { instance: Some(Bytes::from_static(b"<URN:UUID:1>")), ..of_another(contact) };
        assert_eq!(world.import(there), Imported::Known, "{contact}");
    }

    let flow = |reg_id| StoredBinding {
        instance: instance.clone(),
        reg_id: Some(reg_id),
        ..of_another("sip:f@10.0.0.9")
    };
    assert_eq!(world.import(flow(1)), Imported::Known, "the phone is here without flows");
    assert_eq!(world.out, []);
}

#[test]
fn each_flow_of_a_phone_is_taken_over() {
    let mut world = World::new();
    let instance = Some(Bytes::from_static(b"<urn:uuid:1>"));
    let flow = |reg_id| StoredBinding {
        instance: instance.clone(),
        reg_id: Some(reg_id),
        ..of_another("sip:f@10.0.0.9")
    };

    assert_eq!(
        [1, 2, 1].map(|reg_id| world.import(flow(reg_id))),
        [Imported::Taken, Imported::Taken, Imported::Known]
    );
}

#[test]
fn no_address_of_record_gets_more_than_it_may_have_and_none_what_is_over() {
    let mut world = World::new();
    let max = world.partition.settings.registrar.contacts_max;
    for number in 0..max {
        assert_eq!(world.import(of_another(&format!("sip:{number}@10.0.0.9"))), Imported::Taken);
    }

    assert_eq!(world.import(of_another("sip:more@10.0.0.9")), Imported::TooMany);
    let ended = StoredBinding { expires_at: world.now.wall, ..of_another("sip:0@10.0.0.9") };
    assert_eq!(world.import(ended), Imported::Ended);
    let long =
        StoredBinding { aor: Aor::parse("bob@example.org").unwrap(), ..of_another(&"x".repeat(3_000)) };
    assert_eq!(world.import(long), Imported::Full);
    world.partition.check();
}

impl World {
    fn import(&mut self, stored: StoredBinding) -> Imported {
        let mirror = self.mirror;
        let lease = mirror.active(self.now.instant).unwrap();
        self.partition.import(self.now, &lease, stored, &mut self.out)
    }
}

fn alice() -> Aor {
    Aor::parse("alice@example.org").unwrap()
}

fn of_another(contact: &str) -> StoredBinding {
    StoredBinding {
        aor: alice(),
        contact: Bytes::copy_from_slice(contact.as_bytes()),
        listener: (Transport::Udp, LocalAddr("192.0.2.5:5060".parse().unwrap())),
        received: "198.51.100.9:40000".parse().unwrap(),
        path: Vec::new(),
        instance: None,
        reg_id: None,
        q: Some(300),
        call_id: Bytes::from_static(b"call-1"),
        cseq: 1,
        user_agent: Some(Bytes::from_static(b"Phone 1")),
        nat: true,
        response_hash: 0,
        expires_at: WallTime::from_millis(1_800_000_600_000),
    }
}

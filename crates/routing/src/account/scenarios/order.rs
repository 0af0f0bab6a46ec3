//! The order of a sender's requests, and those that come twice: RFC 3261 §10.3.

use super::*;

const BOB: &str = "sip:bob@192.0.2.7";
const HASH: u64 = 4_711;

#[test]
/// RFC 3261 §10.3: step 7: a CSeq that is not higher within one Call-ID is out of order.
fn a_lower_cseq_of_the_same_call_id_is_refused() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.take();

    assert_eq!(world.register(proven(4)), Err(RegisterRefusal::OutOfOrder));
    assert_eq!(world.register(removal(4)), Err(RegisterRefusal::OutOfOrder));
    assert_eq!(world.register(remove_all("bob", 4)), Err(RegisterRefusal::OutOfOrder));
    assert_eq!(world.take(), []);
    assert_eq!(world.query("bob").len(), 1);
}

#[test]
fn another_call_id_begins_anew() {
    let mut world = World::new();
    world.register(proven(500)).unwrap();

    let restarted = Register { call_id: Bytes::from_static(b"new"), ..proven(1) };

    assert_eq!(world.contacts(restarted), [(BOB.to_owned(), 600)]);
    assert_eq!(world.register(proven(1)).map(|it| it.contacts.len()), Ok(1));
}

#[test]
/// RFC 3261 §10.3: step 7; a retransmission is no other request, so it is answered as the first one was.
fn a_retransmission_gets_the_bindings_as_they_are() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.take();
    world.pass(Duration::from_secs(10));

    assert_eq!(world.contacts(proven(5)), [(BOB.to_owned(), 590)]);
    assert_eq!(world.take(), []);
}

#[test]
/// RFC 7616 §5.5: a proof that was used before is good for the very request that it was made for, and for no other: whoever
/// has seen it could send it.
fn what_is_proved_by_an_old_proof_is_answered_if_it_was_carried_out_and_else_changes_nothing() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.take();
    let repeated = || Register { right: RegisterRight::Repeats, ..proven(5) };

    assert_eq!(world.contacts(repeated()), [(BOB.to_owned(), 600)]);
    let elsewhere = |uri| Contacts::Update(vec![contact(uri)]);
    for other in [
        Register { cseq: 6, ..repeated() },
        Register { cseq: 4, ..repeated() },
        Register { call_id: Bytes::from_static(b"new"), ..repeated() },
        Register { response_hash: HASH + 1, ..repeated() },
        Register { contacts: elsewhere("sip:bob@192.0.2.66"), ..repeated() },
        Register {
            contacts: Contacts::Update(vec![contact(BOB), contact("sip:b@192.0.2.66")]),
            ..repeated()
        },
        Register { contacts: Contacts::Update(vec![]), ..repeated() },
        Register { contacts: Contacts::Query, ..repeated() },
        Register { right: RegisterRight::Repeats, ..removal(5) },
        Register { right: RegisterRight::Repeats, ..remove_all("bob", 6) },
        Register { aor: aor("carol"), ..repeated() },
        Register { source: udp_from("192.0.2.66:5060"), ..repeated() },
        Register { source: udp_from("192.0.2.7:5066"), ..repeated() },
    ] {
        assert_eq!(world.register(other.clone()), Err(RegisterRefusal::NotRepeated), "{other:?}");
    }
    assert_eq!(world.take(), []);
    assert_eq!(world.query("bob"), [(BOB.to_owned(), 600)]);
}

#[test]
fn a_binding_that_has_run_out_is_not_brought_back_by_an_old_proof() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.take();
    // Nobody has looked yet.
    world.stand_still(Duration::from_secs(600));

    let refused = world.register(Register { right: RegisterRight::Repeats, ..proven(5) });

    assert_eq!(refused, Err(RegisterRefusal::NotRepeated));
    assert_eq!(world.query("bob"), []);
}

#[test]
fn a_binding_without_a_proof_is_not_repeated_by_an_old_one() {
    let mut world = World::new();
    let unproved = Register { response_hash: 0, ..proven(5) };
    world.register(unproved.clone()).unwrap();

    let refused = world.register(Register { right: RegisterRight::Repeats, ..unproved });

    assert_eq!(refused, Err(RegisterRefusal::NotRepeated));
}

#[test]
fn an_equal_cseq_that_says_something_else_is_refused() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.take();
    let update = |update| Register { contacts: Contacts::Update(vec![update]), ..proven(5) };
    let differing = [
        Register { response_hash: HASH + 1, ..proven(5) },
        removal(5),
        update(contact("sip:bob@192.0.2.7;x=y")),
        update(ContactUpdate { q: Some(1), ..contact(BOB) }),
        Register {
            contacts: Contacts::Update(vec![contact(BOB), contact("sip:bob@192.0.2.9")]),
            ..proven(5)
        },
        remove_all("bob", 5),
    ];

    for (number, register) in differing.into_iter().enumerate() {
        assert_eq!(world.register(register), Err(RegisterRefusal::OutOfOrder), "{number}");
    }
    assert_eq!(world.take(), []);
    assert_eq!(world.query("bob"), [(BOB.to_owned(), 600)]);
}

#[test]
fn the_retransmission_of_a_move_is_a_retransmission() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    let moved = || Register {
        contacts: Contacts::Update(vec![removed(BOB), contact("sip:bob@192.0.2.9")]),
        ..proven(6)
    };
    let first = world.contacts(moved());
    world.take();

    assert_eq!(world.contacts(moved()), first);
    assert_eq!(world.take(), []);
}

#[test]
fn the_retransmission_of_a_flow_is_one_of_a_flow() {
    let mut world = World::new();
    let flow = || super::register::outbound("bob", 1, flow_contact(BOB, super::register::PHONE, 1));
    world.register(flow()).unwrap();
    world.take();

    assert!(world.register(flow()).unwrap().is_outbound);
    assert_eq!(world.take(), []);
    assert_eq!(world.register(a_register("bob", 1, &[contact(BOB)])), Err(RegisterRefusal::OutOfOrder));
}

#[test]
/// RFC 3261 §10.3: step 7: all or nothing.
fn one_contact_out_of_order_stops_the_whole_request() {
    let mut world = World::new();
    let other = "sip:bob@192.0.2.9";
    world.register(proven(5)).unwrap();
    world
        .register(Register { call_id: Bytes::from_static(b"b"), ..a_register("bob", 9, &[contact(other)]) })
        .unwrap();
    world.take();

    let mixed = a_register("bob", 6, &[contact(BOB), contact(other), contact("sip:bob@192.0.2.10")]);
    let late = Register { call_id: Bytes::from_static(b"b"), ..mixed.clone() };

    assert_eq!(world.register(late), Err(RegisterRefusal::OutOfOrder));
    assert_eq!(world.take(), []);
    assert_eq!(world.contacts(mixed).len(), 3);
}

#[test]
/// RFC 3261 §10.3: step 6: `*` is out of order for a binding of the same Call-ID alone.
fn a_star_of_another_call_id_removes_whatever_the_cseq() {
    let mut world = World::new();
    world.register(proven(500)).unwrap();

    let star = Register { call_id: Bytes::from_static(b"new"), ..remove_all("bob", 1) };

    assert_eq!(world.contacts(star), []);
}

#[test]
fn what_was_removed_may_come_back_with_any_cseq() {
    let mut world = World::new();
    world.register(proven(5)).unwrap();
    world.register(removal(6)).unwrap();

    assert_eq!(world.contacts(proven(1)), [(BOB.to_owned(), 600)]);
}

fn proven(cseq: u32) -> Register {
    Register { response_hash: HASH, ..a_register("bob", cseq, &[contact(BOB)]) }
}

fn removal(cseq: u32) -> Register {
    Register { response_hash: HASH, ..a_register("bob", cseq, &[removed(BOB)]) }
}

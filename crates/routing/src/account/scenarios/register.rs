//! What a REGISTER makes of the bindings: RFC 3261 §10.3, RFC 5626 §6, RFC 3327 §5.3.

use super::*;
use crate::Count;
use crate::account::BindingKey;

const BOB: &str = "sip:bob@192.0.2.7:5060";

#[test]
/// RFC 3261 §10.3: step 8: the 200 lists all bindings with the time that each has left.
fn a_contact_is_bound_saved_and_listed_with_its_time() {
    let mut world = World::new();

    assert_eq!(world.contacts(a_register("bob", 1, &[contact(BOB)])), [(BOB.to_owned(), 600)]);
    let saved = world.take_saved();
    assert_eq!(saved.len(), 1);
    assert_eq!(put(&saved[0]).contact, BOB);
    assert_eq!(put(&saved[0]).received, address("192.0.2.7:5060"));
    assert_eq!(put(&saved[0]).listener, (Transport::Udp, LocalAddr(address("10.0.0.1:5060"))));
    assert_eq!(put(&saved[0]).expires_at, world.now.wall + Duration::from_secs(600));

    world.pass(Duration::from_millis(99_500));
    assert_eq!(world.query("bob"), [(BOB.to_owned(), 501)]);
    assert_eq!(world.take_saved(), []);
}

#[test]
fn the_change_is_saved_before_the_answer_goes_out() {
    let mut world = World::new();
    let mirror = LeaseMirror::permanent();
    let lease = mirror.active(world.now.instant).unwrap();
    let asker = Asker { shard: 7, token: Token(9) };
    let question = Question::Register(Box::new(a_register("bob", 1, &[contact(BOB)])));

    world.partition.handle_question(world.now, &lease, asker, question, &mut world.out);

    assert!(matches!(world.out[..], [Output::Save(_), Output::Answer { asker: to, .. }] if to == asker));
}

#[test]
fn a_refresh_keeps_the_number_and_the_place_of_a_binding() {
    let mut world = World::new();
    let first = world.register(a_register("bob", 1, &[contact(BOB), contact("sip:bob@192.0.2.8")])).unwrap();
    world.pass(Duration::from_secs(100));

    let second = world.register(a_register("bob", 2, &[contact(BOB)])).unwrap();

    let numbers = |it: &Registered| it.contacts.iter().map(|it| it.binding).collect::<Vec<_>>();
    assert_eq!(numbers(&first), numbers(&second));
    assert_eq!(second.contacts.iter().map(|it| it.expires).collect::<Vec<_>>(), [600, 500]);
    assert_eq!(world.partition.counts().of(Count::BindingAdded), 2);
    assert_eq!(world.partition.counts().of(Count::BindingRefreshed), 1);
}

#[test]
fn a_query_of_somebody_who_is_nowhere_lists_nothing() {
    let mut world = World::new();

    assert_eq!(world.query("bob"), []);
    assert_eq!(world.take(), []);
}

#[test]
/// RFC 3261 §10.3: step 7: the parameter counts, then the header field, then the default; all are cut.
fn the_time_of_a_binding_comes_from_the_nearest_wish() {
    let mut world = World::new();
    let wish = |expires, header| Register {
        expires: header,
        ..a_register("bob", 1, &[ContactUpdate { expires, ..contact(BOB) }])
    };
    let times = [
        (Some(100), Some(200), 100),
        (None, Some(200), 200),
        (None, None, 3_600),
        (Some(3_601), None, 3_600),
        (None, Some(u32::MAX), 3_600),
    ];
    for (number, (parameter, header, granted)) in times.into_iter().enumerate() {
        let register = Register { cseq: number as u32 + 1, ..wish(parameter, header) };
        assert_eq!(world.contacts(register), [(BOB.to_owned(), granted)]);
    }
}

#[test]
/// RFC 3261 §10.3: step 7: 423 with Min-Expires.
fn a_wish_below_the_minimum_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let brief = ContactUpdate { expires: Some(59), ..contact(BOB) };
    let other = contact("sip:bob@192.0.2.8");

    let refused = world.register(a_register("bob", 1, &[other, brief]));

    assert_eq!(refused, Err(RegisterRefusal::IntervalTooBrief { min: 60 }));
    assert_eq!(world.take(), []);
    assert_eq!(world.query("bob"), []);
    assert_eq!(
        world.contacts(a_register("bob", 2, &[ContactUpdate { expires: Some(60), ..contact(BOB) }])).len(),
        1
    );
}

#[test]
/// RFC 3261 §10.3: step 7: an interval of an hour is never too brief.
fn an_hour_is_accepted_however_long_the_minimum_is() {
    let mut settings = settings();
    settings.registrar.min_expires = Duration::from_secs(7_200);
    settings.registrar.max_expires = Duration::from_secs(7_200);
    let mut world = World::with(settings);
    let wish =
        |cseq, expires| a_register("bob", cseq, &[ContactUpdate { expires: Some(expires), ..contact(BOB) }]);

    assert_eq!(world.register(wish(1, 3_599)), Err(RegisterRefusal::IntervalTooBrief { min: 7_200 }));
    assert_eq!(world.contacts(wish(1, 3_600)), [(BOB.to_owned(), 3_600)]);
}

#[test]
fn a_default_below_the_minimum_is_granted_to_who_wishes_nothing() {
    let mut settings = settings();
    settings.registrar.default_expires = Duration::from_secs(30);
    let mut world = World::with(settings);

    let granted = world.contacts(a_register("bob", 1, &[ContactUpdate { expires: None, ..contact(BOB) }]));

    assert_eq!(granted, [(BOB.to_owned(), 30)]);
}

#[test]
/// RFC 3261 §10.2.2: an interval of zero removes the binding.
fn zero_seconds_remove_one_binding_and_leave_the_others() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB), contact("sip:bob@192.0.2.8")])).unwrap();
    world.take();

    let left = world.contacts(a_register("bob", 2, &[removed(BOB)]));

    assert_eq!(left, [("sip:bob@192.0.2.8".to_owned(), 600)]);
    assert_eq!(world.take_saved(), [Change::Remove(key("bob", BOB))]);
    assert_eq!(world.partition.counts().of(Count::BindingRemoved), 1);
}

#[test]
fn removing_what_is_not_there_is_no_mistake() {
    let mut world = World::new();

    assert_eq!(world.contacts(a_register("bob", 1, &[removed(BOB)])), []);
    assert_eq!(world.take(), []);
}

#[test]
/// RFC 3261 §10.3: step 6: `*` removes all.
fn a_star_removes_all_bindings() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB), contact("sip:bob@192.0.2.8")])).unwrap();
    world.register(a_register("carol", 1, &[contact("sip:carol@192.0.2.9")])).unwrap();
    world.take();

    assert_eq!(world.contacts(remove_all("bob", 2)), []);
    assert_eq!(
        world.take_saved(),
        [Change::Remove(key("bob", BOB)), Change::Remove(key("bob", "sip:bob@192.0.2.8"))]
    );
    assert_eq!(world.query("carol").len(), 1);
    assert_eq!(world.contacts(remove_all("bob", 2)), []);
}

#[test]
/// RFC 3261 §10.3: step 6: `*` goes with `Expires: 0` only.
fn a_star_without_zero_is_refused() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();

    for expires in [None, Some(1), Some(3_600)] {
        let register = Register { expires, ..remove_all("bob", 2) };
        assert_eq!(world.register(register), Err(RegisterRefusal::Malformed));
    }
    assert_eq!(world.query("bob").len(), 1);
}

#[test]
/// RFC 3261 §19.1.4: a port that is written is another URI than one that is left out; case of the host is none.
fn contacts_are_compared_as_uris_and_not_as_text() {
    let mut world = World::new();
    let same = ["sip:bob@Phone.example.org;transport=udp", "sip:%62ob@phone.EXAMPLE.org;transport=UDP"];
    let other = ["sip:Bob@phone.example.org;transport=udp", "sip:bob@phone.example.org:5060;transport=udp"];

    world.register(a_register("bob", 1, &[contact(same[0])])).unwrap();
    let registered = world.register(a_register("bob", 2, &[contact(same[1])])).unwrap();
    assert_eq!(uris(&registered.contacts), [same[1]]);

    for (number, uri) in other.into_iter().enumerate() {
        let registered = world.register(a_register("bob", 3 + number as u32, &[contact(uri)])).unwrap();
        assert_eq!(registered.contacts.len(), 2 + number);
    }
}

#[test]
fn a_contact_that_is_written_otherwise_takes_the_place_of_the_stored_one() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact("sip:bob@PHONE")])).unwrap();
    world.take();

    world.register(a_register("bob", 2, &[contact("sip:bob@phone")])).unwrap();

    let saved = world.take_saved();
    assert_eq!(saved.len(), 2);
    assert_eq!(saved[0], Change::Remove(key("bob", "sip:bob@PHONE")));
    assert_eq!(put(&saved[1]).contact, "sip:bob@phone");
}

#[test]
fn of_two_values_for_one_contact_the_last_counts() {
    let mut world = World::new();

    let kept = world.contacts(a_register("bob", 1, &[removed(BOB), contact(BOB)]));
    assert_eq!(kept, [(BOB.to_owned(), 600)]);
    let gone = world.contacts(a_register("bob", 2, &[contact(BOB), removed(BOB)]));
    assert_eq!(gone, []);
}

#[test]
fn a_phone_that_moves_replaces_its_contact_in_one_request_at_the_limit() {
    let mut settings = settings();
    settings.registrar.contacts_max = 1;
    let mut world = World::with(settings);
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();

    let moved = world.contacts(a_register("bob", 2, &[removed(BOB), contact("sip:bob@192.0.2.8")]));

    assert_eq!(moved, [("sip:bob@192.0.2.8".to_owned(), 600)]);
}

#[test]
fn one_contact_too_many_is_refused_and_none_of_the_request_is_bound() {
    let mut settings = settings();
    settings.registrar.contacts_max = 2;
    let mut world = World::with(settings);
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();
    world.take();

    let refused =
        world.register(a_register("bob", 2, &[contact("sip:b@192.0.2.8"), contact("sip:b@192.0.2.9")]));

    assert_eq!(refused, Err(RegisterRefusal::TooManyContacts));
    assert_eq!(world.take(), []);
    assert_eq!(world.query("bob"), [(BOB.to_owned(), 600)]);
    assert_eq!(world.contacts(a_register("bob", 2, &[contact("sip:b@192.0.2.8")])).len(), 2);
}

#[test]
fn a_limit_that_was_lowered_stops_new_contacts_and_no_refresh() {
    let mut world = World::new();
    let contacts = [contact(BOB), contact("sip:b@192.0.2.8"), contact("sip:b@192.0.2.9")];
    world.register(a_register("bob", 1, &contacts)).unwrap();
    let mut lower = settings();
    lower.registrar.contacts_max = 1;
    world.partition.reload(Arc::new(lower));

    assert_eq!(world.contacts(a_register("bob", 2, &contacts)).len(), 3);
    let another = world.register(a_register("bob", 3, &[contact("sip:b@192.0.2.10")]));
    assert_eq!(another, Err(RegisterRefusal::TooManyContacts));
}

#[test]
fn a_request_with_a_flood_of_contacts_is_refused() {
    let mut world = World::new();
    let many: Vec<_> = (0..1_000).map(|number| removed(&format!("sip:bob@host{number}"))).collect();

    assert_eq!(world.register(a_register("bob", 1, &many)), Err(RegisterRefusal::TooManyContacts));
}

#[test]
fn a_contact_that_is_no_uri_or_too_long_is_refused_whole() {
    let long = format!("sip:{}@192.0.2.7", "b".repeat(5_000));
    for uri in ["", "bob", "sip:", "sip:bob@192.0.2.7\r\nVia: x", "sip:bob @192.0.2.7", &long] {
        let mut world = World::new();
        let refused = world.register(a_register("bob", 1, &[contact(BOB), contact(uri)]));
        assert_eq!(refused, Err(RegisterRefusal::Malformed), "{uri}");
        assert_eq!(world.query("bob"), []);
        assert_eq!(world.take(), []);
    }
}

#[test]
fn an_address_of_record_that_is_endless_is_refused() {
    let mut world = World::new();

    let refused = world.register(a_register(&"b".repeat(600), 1, &[contact(BOB)]));

    assert_eq!(refused, Err(RegisterRefusal::Malformed));
}

#[test]
fn a_binding_ends_at_its_time_and_is_removed_from_the_store() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();
    world.take();

    world.pass(Duration::from_millis(599_999));
    assert_eq!(world.take_saved(), []);
    world.pass(Duration::from_millis(1));

    assert_eq!(world.take_saved(), [Change::Remove(key("bob", BOB))]);
    assert_eq!(world.partition.binding_count(), 0);
    assert_eq!(world.partition.poll_timeout(), None);
    assert_eq!(world.partition.counts().of(Count::BindingExpired), 1);
}

#[test]
fn a_binding_that_has_run_out_unnoticed_is_neither_shown_nor_mixed_up_with_the_next() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();
    world.take();
    world.stand_still(Duration::from_secs(600));

    assert_eq!(world.partition.bindings(None, world.now), []);
    assert_eq!(world.contacts(a_register("bob", 2, &[contact(BOB)])), [(BOB.to_owned(), 600)]);

    let saved = world.take_saved();
    assert_eq!(saved[0], Change::Remove(key("bob", BOB)));
    assert_eq!(put(&saved[1]).contact, BOB);
    world.timeout();
    assert_eq!(world.take_saved(), []);
    assert_eq!(world.partition.binding_count(), 1);
}

#[test]
fn a_refresh_moves_the_end() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();
    world.pass(Duration::from_secs(500));
    world.register(a_register("bob", 2, &[contact(BOB)])).unwrap();
    world.pass(Duration::from_secs(599));
    assert_eq!(world.query("bob").len(), 1);
    world.register(a_register("bob", 3, &[ContactUpdate { expires: Some(60), ..contact(BOB) }])).unwrap();
    world.take();

    world.pass(Duration::from_secs(60));

    assert_eq!(world.take_saved(), [Change::Remove(key("bob", BOB))]);
}

#[test]
/// RFC 5626 §6: a flow is replaced by its instance and reg-id, not by its URI.
fn a_phone_that_restarted_replaces_its_flow_under_another_uri_and_call_id() {
    let mut world = World::new();
    let first = outbound("bob", 7, flow_contact("sip:bob@192.0.2.7:40000", PHONE, 1));
    let number = world.register(first).unwrap().contacts[0].binding;
    world.take();

    let second = Register {
        call_id: Bytes::from_static(b"another"),
        source: udp_from("192.0.2.7:40001"),
        ..outbound("bob", 1, flow_contact("sip:bob@192.0.2.7:40001", PHONE, 1))
    };
    let registered = world.register(second).unwrap();

    assert_eq!(uris(&registered.contacts), ["sip:bob@192.0.2.7:40001"]);
    assert_eq!(registered.contacts[0].binding, number);
    assert!(registered.is_outbound);
    let saved = world.take_saved();
    let flow = Some((Bytes::from_static(PHONE.as_bytes()), 1));
    assert_eq!(saved[0], Change::Remove(BindingKey { flow, ..key("bob", "sip:bob@192.0.2.7:40000") }));
    assert_eq!(put(&saved[1]).reg_id, Some(1));
    assert_eq!(world.targets("bob")[0].flow, Some(udp_from("192.0.2.7:40001").flow));
}

#[test]
/// RFC 5626 §4.2: one instance registers several flows, each with its own reg-id.
fn an_instance_has_several_flows_also_under_one_uri() {
    let mut world = World::new();
    let uri = "sip:bob@192.0.2.7";
    for reg_id in [1, 2] {
        world.register(outbound("bob", reg_id, flow_contact(uri, PHONE, reg_id))).unwrap();
    }
    let other = "<urn:uuid:22222222-0000-1000-8000-000A95A0E128>";
    let registered = world.register(outbound("bob", 3, flow_contact(uri, other, 1))).unwrap();

    assert_eq!(
        registered.contacts.iter().map(|it| it.reg_id).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(1)]
    );
    let keys: BTreeSet<_> = world.take_saved().iter().map(|saved| BindingKey::of(put(saved))).collect();
    assert_eq!(keys.len(), 3);

    let removal = ContactUpdate { expires: Some(0), ..flow_contact(uri, PHONE, 2) };
    let left = world.register(outbound("bob", 4, removal)).unwrap();
    assert_eq!(left.contacts.len(), 2);
    assert!(!left.is_outbound);
}

#[test]
fn the_case_of_an_instance_makes_no_difference() {
    let mut world = World::new();
    let upper = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";
    let lower = "<urn:uuid:00000000-0000-1000-8000-000a95a0e128>";

    world.register(outbound("bob", 1, flow_contact("sip:bob@192.0.2.7", upper, 1))).unwrap();
    let registered = world.register(outbound("bob", 2, flow_contact("sip:bob@192.0.2.8", lower, 1))).unwrap();

    assert_eq!(uris(&registered.contacts), ["sip:bob@192.0.2.8"]);
}

#[test]
/// RFC 5626 §6: reg-id counts only with an instance, and only where outbound is in force.
fn without_outbound_a_reg_id_is_ignored() {
    let no_instance = ContactUpdate { instance: None, ..flow_contact(BOB, PHONE, 1) };
    let no_number = flow_contact(BOB, PHONE, 0);
    for register in [
        a_register("bob", 1, &[flow_contact(BOB, PHONE, 1)]),
        outbound("bob", 1, no_instance),
        outbound("bob", 1, no_number),
    ] {
        let mut world = World::new();
        let registered = world.register(register).unwrap();
        assert!(!registered.is_outbound);
        assert_eq!(registered.contacts[0].reg_id, None);

        world.register(a_register("bob", 2, &[flow_contact("sip:bob@192.0.2.8", PHONE, 1)])).unwrap();
        assert_eq!(world.query("bob").len(), 2);
    }
}

#[test]
/// RFC 5626 §6: a request that registers a flow may end others but registers nothing else.
fn two_contacts_one_of_them_a_flow_are_refused() {
    let mut world = World::new();
    let flow = flow_contact(BOB, PHONE, 1);
    let both = |second| Register { outbound: true, ..a_register("bob", 1, &[flow.clone(), second]) };

    assert_eq!(world.register(both(contact("sip:bob@192.0.2.8"))), Err(RegisterRefusal::Malformed));
    assert_eq!(world.register(both(removed("sip:bob@192.0.2.8"))).map(|it| it.contacts.len()), Ok(1));
}

#[test]
fn a_phone_that_learns_outbound_is_not_bound_twice() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact(BOB)])).unwrap();
    let learnt = world.register(outbound("bob", 2, flow_contact(BOB, PHONE, 1))).unwrap();
    assert_eq!(learnt.contacts.len(), 1);
    assert_eq!(learnt.contacts[0].reg_id, Some(1));

    let forgot = world.register(a_register("bob", 3, &[contact(BOB)])).unwrap();
    assert_eq!(forgot.contacts.len(), 1);
    assert_eq!(forgot.contacts[0].reg_id, None);
}

#[test]
/// RFC 3327 §5.3: the Path is kept with the binding.
fn path_and_what_else_was_said_are_kept() {
    let mut world = World::new();
    let path = vec![Bytes::from_static(b"<sip:edge1;lr;ob>"), Bytes::from_static(b"<sip:edge2;lr>")];
    let register = Register {
        path: path.clone(),
        user_agent: Some(Bytes::from_static(b"phone/1.0")),
        nat: true,
        response_hash: 77,
        ..a_register("bob", 5, &[ContactUpdate { q: Some(500), ..contact(BOB) }])
    };

    world.register(register).unwrap();

    let saved = world.take_saved();
    let stored = put(&saved[0]);
    assert_eq!((&stored.path, stored.q, stored.nat, stored.response_hash), (&path, Some(500), true, 77));
    assert_eq!((stored.call_id.as_ref(), stored.cseq), (b"bob@phone".as_slice(), 5));
    assert_eq!(stored.user_agent, Some(Bytes::from_static(b"phone/1.0")));
    assert_eq!(world.targets("bob")[0].path, path);
}

#[test]
fn a_listener_that_went_while_the_request_was_on_its_way_is_unavailable() {
    let mut world = World::new();
    let mut without = settings();
    without.listeners = Arc::new(Listeners::new(vec![tcp_listener()]));
    world.partition.reload(Arc::new(without));

    let refused = world.register(a_register("bob", 1, &[contact(BOB)]));

    assert_eq!(refused, Err(RegisterRefusal::Unavailable));
    assert_eq!(world.query("bob"), []);
}

pub(super) const PHONE: &str = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>";

/// What the registrar behind an edge has accepted is noted, whatever this one's own rules are.
#[test]
fn what_another_registrar_accepted_is_noted_as_it_was_accepted() {
    let mut world = World::new();
    let noted = |number: u32, expires: u32| Register {
        authority: Authority::Elsewhere,
        call_id: Bytes::from(format!("{number}")),
        ..a_register(
            "bob",
            1,
            &[ContactUpdate { expires: Some(expires), ..contact(&format!("sip:bob@10.0.0.{number}")) }],
        )
    };

    let brief = world.register(noted(1, 1)).expect("briefer than min_expires");
    let long = world.register(noted(2, 30 * 24 * 3_600)).expect("longer than max_expires");
    assert_eq!((brief.contacts[0].expires, long.contacts[1].expires), (1, 7 * 24 * 3_600));

    for number in 3..=100 {
        world.register(noted(number, 60)).expect("more than contacts_max");
    }
    assert_eq!(world.register(noted(101, 60)), Err(RegisterRefusal::TooManyContacts));
}

pub(super) fn outbound(user: &str, cseq: u32, contact: ContactUpdate) -> Register {
    Register { outbound: true, ..a_register(user, cseq, &[contact]) }
}

pub(super) fn key(user: &str, contact: &str) -> BindingKey {
    BindingKey { aor: aor(user), contact: Bytes::copy_from_slice(contact.as_bytes()), flow: None }
}

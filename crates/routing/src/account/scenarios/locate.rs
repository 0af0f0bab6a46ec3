//! Where somebody can be reached.

use super::*;
use crate::account::Loaded;
use crate::{CallRules, ForwardTarget, Forwards};

#[test]
fn who_is_registered_is_found_without_the_store() {
    let mut world = World::new();
    world.register(Register { nat: true, ..a_register("bob", 1, &[contact("sip:bob@10.9.9.9")]) }).unwrap();
    world.take();

    let targets = world.targets("bob");

    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].contact, "sip:bob@10.9.9.9");
    assert_eq!(targets[0].flow, Some(udp_from("192.0.2.7:5060").flow));
    assert_eq!((targets[0].listener, targets[0].nat, targets[0].q), (Some(UDP), true, 1_000));
    assert_eq!(world.take(), []);
}

#[test]
/// RFC 3261 §16.6: targets are tried by their q; those of one q stay in the order of their registration.
fn the_best_q_comes_first() {
    let mut world = World::new();
    let with_q = |uri: &str, q| ContactUpdate { q, ..contact(uri) };
    let contacts = [
        with_q("sip:bob@a", Some(100)),
        with_q("sip:bob@b", None),
        with_q("sip:bob@c", Some(0)),
        with_q("sip:bob@d", Some(1_000)),
    ];
    world.register(a_register("bob", 1, &contacts)).unwrap();

    let order: Vec<_> = world.targets("bob").iter().map(|target| text(&target.contact)).collect();

    assert_eq!(order, ["sip:bob@b", "sip:bob@d", "sip:bob@a", "sip:bob@c"]);
}

/// RFC 5626 §7: of the flows of one phone the one that was heard of last.
#[test]
fn the_flow_that_was_refreshed_last_comes_first_and_no_other_phone_moves() {
    let mut world = World::new();
    let register = |world: &mut World, cseq, contact| {
        world.register(Register { outbound: true, ..a_register("bob", cseq, &[contact]) }).unwrap();
        world.pass(Duration::from_secs(1));
    };
    let flow =
        |uri: &str, reg_id| flow_contact(uri, "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>", reg_id);
    register(&mut world, 1, flow("sip:bob@first", 1));
    register(&mut world, 2, contact("sip:bob@another-phone"));
    register(&mut world, 3, flow("sip:bob@second", 2));
    let order = |world: &mut World| -> Vec<String> {
        world.targets("bob").iter().map(|target| text(&target.contact).to_owned()).collect()
    };
    assert_eq!(order(&mut world), ["sip:bob@second", "sip:bob@another-phone", "sip:bob@first"]);

    register(&mut world, 4, flow("sip:bob@first", 1));

    assert_eq!(order(&mut world), ["sip:bob@first", "sip:bob@another-phone", "sip:bob@second"]);
}

#[test]
fn a_user_who_is_known_but_nowhere_is_not_unknown() {
    let mut world = World::new();
    world.loaded("bob", Loaded::Found(Arc::new(account("bob"))));

    assert_eq!(world.targets("bob"), []);
}

#[test]
fn whether_a_user_exists_is_asked_of_the_store() {
    let mut world = World::new();
    for (user, loaded, located) in [
        ("bob", Loaded::Found(Arc::new(account("bob"))), Located::Targets(vec![])),
        ("nobody", Loaded::NotFound, Located::UnknownAor),
        ("somebody", Loaded::Unavailable, Located::Unavailable),
    ] {
        assert_eq!(world.ask(Question::Locate(aor(user))), None);
        assert_eq!(world.take(), [Output::LoadAccount(aor(user))]);
        world.loaded(user, loaded);
        let outputs = world.take();
        assert!(
            matches!(&outputs[..], [Output::Answer { answer: Answer::Located(it), .. }] if *it == located),
            "{outputs:?}"
        );
    }
}

#[test]
fn who_registers_while_the_store_is_asked_is_found() {
    let mut world = World::new();
    world.ask(Question::Locate(aor("bob")));
    world.register(a_register("bob", 1, &[contact("sip:bob@192.0.2.7")])).unwrap();
    world.take();

    world.loaded("bob", Loaded::NotFound);

    let outputs = world.take();
    let [Output::Answer { answer: Answer::Located(Located::Targets(targets)), .. }] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(targets.len(), 1);
}

#[test]
fn another_name_leads_to_the_account() {
    let mut world = World::new();
    let account = Account { aliases: vec![aor("2001")], ..account("alice") };
    world.loaded("2001", Loaded::Found(Arc::new(account)));

    let located = world.ask(Question::Locate(aor("2001")));

    assert_eq!(located, Some(Answer::Located(Located::Alias(aor("alice")))));
}

#[test]
fn a_call_is_told_the_rules_of_the_account_and_other_requests_are_not() {
    let mut world = World::new();
    let account = Arc::new(Account { calls: rules(), ..account("bob") });
    world.loaded("bob", Loaded::Found(Arc::clone(&account)));

    let located = world.ask(Question::Call(aor("bob")));
    assert_eq!(located, Some(Answer::Located(Located::Ruled(vec![], Arc::clone(&account)))));
    assert_eq!(world.targets("bob"), []);
    world.register(a_register("bob", 1, &[contact("sip:bob@192.0.2.7")])).unwrap();
    world.take();

    let located = world.ask(Question::Call(aor("bob")));
    assert!(matches!(located, Some(Answer::Located(Located::Ruled(targets, _))) if targets.len() == 1));
}

#[test]
fn a_call_is_told_of_an_account_that_has_a_rule_for_the_relay_alone() {
    let mut world = World::new();
    let calls = CallRules { relay: Some(crate::Anchoring::Never), ..CallRules::default() };
    world.loaded("bob", Loaded::Found(Arc::new(Account { calls, ..account("bob") })));

    let located = world.ask(Question::Call(aor("bob")));

    assert!(matches!(located, Some(Answer::Located(Located::Ruled(..)))));
}

#[test]
fn a_call_waits_for_the_rules_of_the_account_be_it_registered_or_not() {
    for is_registered in [false, true] {
        let mut world = World::new();
        if is_registered {
            world.register(a_register("bob", 1, &[contact("sip:bob@192.0.2.7")])).unwrap();
            world.take();
        }
        assert_eq!(world.ask(Question::Call(aor("bob"))), None);
        assert_eq!(world.take(), [Output::LoadAccount(aor("bob"))]);

        world.loaded("bob", Loaded::Found(Arc::new(Account { calls: rules(), ..account("bob") })));

        let outputs = world.take();
        let [Output::Answer { answer: Answer::Located(Located::Ruled(targets, _)), .. }] = &outputs[..]
        else {
            panic!("{outputs:?}")
        };
        assert_eq!(!targets.is_empty(), is_registered);
    }
}

/// While the database hangs or fails, registered phones ring.
#[test]
fn a_call_to_a_registered_phone_waits_a_second_for_the_database_at_most() {
    let mut world = World::new();
    world.register(a_register("bob", 1, &[contact("sip:bob@192.0.2.7")])).unwrap();
    world.take();
    let rings = |outputs: &[Output]| matches!(outputs, [Output::Answer { answer: Answer::Located(Located::Targets(it)), .. }] if it.len() == 1);

    world.ask(Question::Call(aor("bob")));
    world.take();
    world.pass(Duration::from_millis(999));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_millis(1));
    assert!(rings(&world.take()));

    world.ask(Question::Call(aor("bob")));
    world.loaded("bob", Loaded::Unavailable);
    assert!(rings(&world.take()));
}

fn rules() -> CallRules {
    let to = ForwardTarget::parse("*98", "example.org");
    CallRules { forwards: Forwards { busy: to, ..Forwards::default() }, ..CallRules::default() }
}

#[test]
fn who_is_unknown_stays_unknown_for_ten_seconds_without_the_store() {
    let mut world = World::new();
    world.loaded("nobody", Loaded::NotFound);
    world.pass(Duration::from_secs(9));

    assert_eq!(world.ask(Question::Locate(aor("nobody"))), Some(Answer::Located(Located::UnknownAor)));
    assert_eq!(world.take(), []);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.ask(Question::Locate(aor("nobody"))), None);
    assert_eq!(world.take(), [Output::LoadAccount(aor("nobody"))]);
}

#[test]
fn a_phone_on_a_connection_is_reached_by_it_while_it_is_open() {
    let mut world = World::new();
    let register = |nat| Register {
        source: tcp_from("192.0.2.7:40000", 1),
        nat,
        ..a_register("bob", 1, &[contact("sip:bob@192.0.2.7:5060;transport=tcp")])
    };
    world.register(register(false)).unwrap();
    assert_eq!(world.targets("bob")[0].flow, Some(tcp_from("192.0.2.7:40000", 1).flow));
    world.take();

    close(&mut world, 2);
    assert!(world.targets("bob")[0].flow.is_some());
    close(&mut world, 1);

    let target = &world.targets("bob")[0];
    assert_eq!((target.flow, target.listener), (None, Some(TCP)));
    assert_eq!(world.take(), []);
}

#[test]
fn a_phone_behind_nat_is_gone_with_its_connection() {
    let mut world = World::new();
    let register = |user: &str, number, nat| Register {
        source: tcp_from("192.0.2.7:40000", number),
        nat,
        ..a_register(user, 1, &[contact("sip:x@10.9.9.9;transport=tcp")])
    };
    world.register(register("bob", 1, true)).unwrap();
    world.register(register("carol", 1, true)).unwrap();
    world.register(register("dave", 2, true)).unwrap();
    world.take();

    close(&mut world, 1);

    let users: Vec<_> = world.partition.bindings(None, world.now).iter().map(|it| it.aor.clone()).collect();
    assert_eq!(users, [aor("dave")]);
    assert_eq!(world.take_saved().len(), 2);
    assert_eq!(world.partition.counts().of(crate::Count::BindingDead), 2);
}

#[test]
/// RFC 5626 §3.2: the binding is the flow.
fn a_flow_is_gone_with_its_connection_unless_it_is_a_proxy_s() {
    let mut world = World::new();
    let register = |user, path: &[Bytes]| Register {
        source: tcp_from("192.0.2.7:40000", 1),
        path: path.to_vec(),
        ..super::register::outbound(user, 1, flow_contact("sip:x@192.0.2.7", super::register::PHONE, 1))
    };
    world.register(register("bob", &[])).unwrap();
    world.register(register("carol", &[Bytes::from_static(b"<sip:edge;lr;ob>")])).unwrap();

    close(&mut world, 1);

    assert_eq!(world.query("bob"), []);
    assert_eq!(world.query("carol").len(), 1);
}

#[test]
fn the_old_connection_of_a_phone_that_came_back_over_another_means_nothing() {
    let mut world = World::new();
    let register = |cseq, number| Register {
        source: tcp_from("192.0.2.7:40000", number),
        nat: true,
        ..a_register("bob", cseq, &[contact("sip:bob@10.9.9.9;transport=tcp")])
    };
    world.register(register(1, 1)).unwrap();
    world.register(register(2, 2)).unwrap();

    close(&mut world, 1);

    assert_eq!(world.targets("bob")[0].flow, Some(tcp_from("192.0.2.7:40000", 2).flow));
}

fn close(world: &mut World, number: u64) {
    let mirror = LeaseMirror::permanent();
    let lease = mirror.active(world.now.instant).unwrap();
    world.partition.handle_connection_closed(world.now, &lease, connection(number), &mut world.out);
}

//! Bindings from the store: a restart, a reload, a calendar that jumped.

use super::*;

#[test]
fn bindings_come_back_with_the_time_they_have_left() {
    let stored = stored();
    let mut world = World::new();
    world.now.wall = world.now.wall + Duration::from_secs(100);

    world.partition.restore(world.now, stored);

    assert_eq!(world.query("bob"), [("sip:bob@192.0.2.7".to_owned(), 500)]);
    assert_eq!(world.targets("bob")[0].flow, Some(udp_from("192.0.2.7:5060").flow));
    assert_eq!(world.take(), []);
}

#[test]
fn what_is_restored_is_what_was_stored() {
    let mut before = World::new();
    let path = vec![Bytes::from_static(b"<sip:edge;lr>")];
    let flow = ContactUpdate { q: Some(300), ..flow_contact("sip:bob@10.9.9.9", super::register::PHONE, 2) };
    let register = Register {
        path,
        user_agent: Some(Bytes::from_static(b"phone")),
        nat: true,
        response_hash: 5,
        ..super::register::outbound("bob", 9, flow)
    };
    before.register(register.clone()).unwrap();
    let saved = before.take_saved();
    let mut after = World::new();

    after.partition.restore(after.now, put(&saved[0]).clone());

    let view = |world: &World| world.partition.bindings(Some(&aor("bob")), world.now);
    assert_eq!(view(&after), view(&before));
    assert_eq!(after.register(register.clone()).map(|it| it.contacts.len()), Ok(1));
    assert_eq!(after.take(), [], "the request that was answered before the restart is a retransmission");
    after.register(Register { cseq: 10, ..register }).unwrap();
    let again = after.take_saved();
    assert_eq!(StoredBinding { cseq: 9, ..put(&again[0]).clone() }, *put(&saved[0]));
}

#[test]
fn the_order_of_a_phone_s_requests_holds_over_a_restart() {
    let mut world = World::new();
    world.partition.restore(world.now, stored());
    let register = |cseq| a_register("bob", cseq, &[contact("sip:bob@192.0.2.7")]);

    assert_eq!(world.register(register(4)), Err(RegisterRefusal::OutOfOrder));
    assert_eq!(world.register(register(6)).map(|it| it.contacts.len()), Ok(1));
}

#[test]
fn nat_mappings_are_kept_alive_soon_after_a_restart() {
    let mut world = World::new();
    for number in 0..100 {
        let contact = Bytes::from(format!("sip:bob@10.9.9.{number}"));
        let aor = aor(&format!("user{number}"));
        world.partition.restore(world.now, StoredBinding { aor, contact, nat: true, ..stored() });
    }

    let mut reached = |time| {
        world.pass(time);
        let sent = world.take().into_iter().filter_map(|output| match output {
            Output::Send { message, .. } => {
                Some(message.split(|&byte| byte == b'\r').next().map(<[u8]>::to_vec))
            }
            _ => None,
        });
        sent.collect::<std::collections::BTreeSet<_>>()
    };
    let first = reached(Duration::from_millis(1_250));
    let second = reached(Duration::from_millis(1_250));

    assert!((25..75).contains(&first.len()), "they are spread: {} of 100 in the first half", first.len());
    assert_eq!(first.union(&second).count(), 100, "all within a tenth of the interval");
}

#[test]
fn a_connection_of_before_is_no_way_any_more() {
    let mut world = World::new();
    let listener = (Transport::Tcp, LocalAddr(address("10.0.0.1:5060")));

    world.partition.restore(world.now, StoredBinding { listener, nat: true, ..stored() });
    world.pass(Duration::from_secs(100));

    let target = &world.targets("bob")[0];
    assert_eq!((target.flow, target.listener), (None, Some(TCP)));
    assert!(!world.partition.bindings(None, world.now)[0].is_reachable);
    assert_eq!(world.take(), []);
}

#[test]
fn a_binding_of_a_listener_that_is_absent_is_kept_until_it_appears() {
    let mut without = settings();
    without.listeners = Arc::new(Listeners::new(vec![tcp_listener()]));
    let mut world = World::with(without);
    world.partition.restore(world.now, stored());
    assert_eq!((world.targets("bob")[0].flow, world.targets("bob")[0].listener), (None, None));

    world.partition.reload(Arc::new(settings()));

    assert_eq!(world.targets("bob")[0].flow, Some(udp_from("192.0.2.7:5060").flow));
}

#[test]
fn what_ended_during_the_stop_is_removed_from_the_store() {
    let mut world = World::new();
    world.now.wall = world.now.wall + Duration::from_secs(700);
    world.partition.restore(world.now, stored());
    assert_eq!(world.query_without_end("bob"), 0);

    world.timeout();

    assert_eq!(world.take_saved(), [Change::Remove(super::register::key("bob", "sip:bob@192.0.2.7"))]);
}

#[test]
fn a_calendar_that_was_set_back_makes_no_binding_eternal() {
    let mut world = World::new();
    world.now.wall = WallTime::from_millis(0);
    world.partition.restore(world.now, stored());

    world.pass(Duration::from_secs(24 * 3_600));

    assert_eq!(world.partition.binding_count(), 0);
}

#[test]
fn a_lowered_maximum_does_not_cut_what_was_promised() {
    let mut lower = settings();
    lower.registrar.max_expires = Duration::from_secs(60);
    let mut world = World::with(lower);

    world.partition.restore(world.now, stored());

    assert_eq!(world.query("bob"), [("sip:bob@192.0.2.7".to_owned(), 600)]);
}

#[test]
fn one_row_restored_twice_is_one_binding() {
    let mut world = World::new();
    world.partition.restore(world.now, stored());
    world.partition.restore(world.now, StoredBinding { cseq: 6, ..stored() });

    assert_eq!(world.partition.binding_count(), 1);
}

#[test]
fn a_row_that_is_too_long_is_left_out() {
    let mut world = World::new();
    let contact = Bytes::from(format!("sip:{}@192.0.2.7", "b".repeat(5_000)));

    world.partition.restore(world.now, StoredBinding { contact, ..stored() });

    assert_eq!(world.partition.binding_count(), 0);
    assert_eq!(world.partition.counts().of(crate::Count::Full), 1);
}

/// What a REGISTER at the start of every world leaves in the store.
fn stored() -> StoredBinding {
    let mut world = World::new();
    world.register(a_register("bob", 5, &[contact("sip:bob@192.0.2.7")])).unwrap();
    put(&world.take_saved()[0]).clone()
}

impl World {
    /// How many bindings are shown, without a request that would end what is overdue.
    fn query_without_end(&self, user: &str) -> usize {
        self.partition.bindings(Some(&aor(user)), self.now).len()
    }
}

//! Any sequence of requests, whatever they say, leaves the bindings in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::account::BindingKey;

const CONTACTS_MAX: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Register(Box<Register>),
    Pass(u64),
    StandStill(u64),
    Close(u64),
    Reload,
}

proptest! {
    #[test]
    fn no_sequence_of_registers_breaks_an_invariant(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::with(small());
        let mut store = BTreeMap::new();
        for step in &steps {
            let outputs = take(&mut world, step);
            keep(&mut store, &outputs);
            check(&world, &store);
        }
        world.pass(Duration::from_secs(4_000));
        let rest = world.take();
        keep(&mut store, &rest);
        prop_assert_eq!(world.partition.binding_count(), 0);
        prop_assert!(store.is_empty());
        prop_assert_eq!(world.partition.poll_timeout(), None);
    }

    #[test]
    fn the_same_requests_give_the_same_outputs(steps in prop::collection::vec(step(), 1..30)) {
        let run = || {
            let mut world = World::with(small());
            steps.iter().map(|step| take(&mut world, step)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn a_refused_request_leaves_no_trace(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::with(small());
        for step in &steps {
            world.timeout();
            let before = world.partition.bindings(None, world.now);
            world.take();
            if let Step::Register(register) = step {
                if world.register(Register::clone(register)).is_err() {
                    prop_assert_eq!(world.take(), vec![]);
                    prop_assert_eq!(world.partition.bindings(None, world.now), before);
                }
            } else {
                take(&mut world, step);
            }
        }
    }

    #[test]
    fn a_request_that_came_twice_changes_nothing_more(
        steps in prop::collection::vec(step(), 0..20),
        register in register(),
    ) {
        let mut world = World::with(small());
        for step in &steps {
            take(&mut world, step);
        }
        let first = world.register(register.clone());
        world.take();
        let second = world.register(register);
        prop_assert_eq!(first, second);
        prop_assert_eq!(world.take(), vec![]);
    }
}

fn take(world: &mut World, step: &Step) -> Vec<Output> {
    match step {
        Step::Register(register) => {
            let _ = world.register(Register::clone(register));
        }
        Step::Pass(seconds) => world.pass(Duration::from_secs(*seconds)),
        Step::StandStill(seconds) => world.stand_still(Duration::from_secs(*seconds)),
        Step::Close(number) => {
            let mirror = LeaseMirror::permanent();
            let lease = mirror.active(world.now.instant).unwrap();
            world.partition.handle_connection_closed(world.now, &lease, connection(*number), &mut world.out);
        }
        Step::Reload => world.partition.reload(Arc::new(small())),
    }
    world.take()
}

fn keep(store: &mut BTreeMap<BindingKey, StoredBinding>, outputs: &[Output]) {
    for output in outputs {
        match output {
            Output::Save(Change::Put(binding)) => {
                store.insert(BindingKey::of(binding), (**binding).clone());
            }
            Output::Save(Change::Remove(key)) => {
                assert!(store.remove(key).is_some(), "removed what was not stored: {key:?}");
            }
            _ => {}
        }
    }
}

fn check(world: &World, store: &BTreeMap<BindingKey, StoredBinding>) {
    world.partition.check();
    let shown = world.partition.bindings(None, world.now);
    let mut targets = BTreeSet::new();
    for user in USERS {
        let live: Vec<_> = shown.iter().filter(|view| view.aor == aor(user)).collect();
        assert!(live.len() <= CONTACTS_MAX);
        for (place, view) in live.iter().enumerate() {
            for other in &live[place + 1..] {
                assert!(view.reg_id.is_some() || other.reg_id.is_some() || view.contact != other.contact);
                assert!(
                    view.reg_id.is_none() || (&view.instance, view.reg_id) != (&other.instance, other.reg_id)
                );
            }
        }
        for target in world.partition.targets(world.now, &aor(user)) {
            let binding = (target.aor, target.contact, target.instance, target.reg_id);
            assert!(!targets.contains(&binding), "{binding:?} was given twice");
            targets.insert(binding);
        }
    }
    assert_eq!(targets.len(), shown.len());
    // The store has what is live, and what has run out but was not looked at yet.
    assert_eq!(store.len(), world.partition.binding_count());
    let live = store.values().filter(|binding| binding.expires_at > world.now.wall).count();
    assert_eq!(live, shown.len());
}

const USERS: [&str; 2] = ["alice", "bob"];

fn small() -> Settings {
    let mut settings = settings();
    settings.registrar.contacts_max = CONTACTS_MAX;
    settings
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => register().prop_map(|register| Step::Register(Box::new(register))),
        2 => (0..400_u64).prop_map(Step::Pass),
        1 => (0..400_u64).prop_map(Step::StandStill),
        1 => (0..3_u64).prop_map(Step::Close),
        1 => Just(Step::Reload),
    ]
}

fn register() -> impl Strategy<Value = Register> {
    let who = (prop::sample::select(&USERS[..]), 0..4_u32, prop::sample::select(&["1", "2"][..]));
    let way = (any::<bool>(), any::<bool>(), 0..3_u64, 0..2_u64);
    let contacts = prop_oneof![
        1 => Just(Contacts::Query),
        1 => Just(Contacts::RemoveAll),
        8 => prop::collection::vec(update(), 0..4).prop_map(Contacts::Update),
    ];
    let expires = prop::option::of(prop::sample::select(&[0_u32, 30, 100, 10_000][..]));
    (who, way, contacts, expires).prop_map(
        |((user, cseq, call_id), (outbound, nat, number, hash), contacts, expires)| {
            let source =
                if number == 0 { udp_from("192.0.2.7:5060") } else { tcp_from("192.0.2.7:4000", number) };
            Register {
                contacts,
                source,
                expires,
                outbound,
                nat,
                call_id: Bytes::from_static(call_id.as_bytes()),
                response_hash: hash,
                ..a_register(user, cseq, &[])
            }
        },
    )
}

fn update() -> impl Strategy<Value = ContactUpdate> {
    let uris = [
        "sip:x@192.0.2.7",
        "sip:x@192.0.2.7:5060",
        "sip:x@192.0.2.7;transport=udp",
        "sip:x@192.0.2.7;a=1",
        "sip:x@192.0.2.7;b=1",
        "sip:X@192.0.2.7",
        "sip:%78@192.0.2.7",
        "tel:+49301234",
        "nonsense",
    ];
    let instances = ["<urn:a>", "<URN:A>", "<urn:b>"];
    (
        prop::sample::select(uris.to_vec()),
        prop::option::of(prop::sample::select(&[0_u32, 60, 200, 30][..])),
        prop::option::of(prop::sample::select(instances.to_vec())),
        prop::option::of(0..3_u32),
        prop::option::of(0..=1_000_u16),
    )
        .prop_map(|(uri, expires, instance, reg_id, q)| ContactUpdate {
            uri: Bytes::from_static(uri.as_bytes()),
            q,
            expires,
            instance: instance.map(|instance: &'static str| Bytes::from_static(instance.as_bytes())),
            reg_id,
        })
}

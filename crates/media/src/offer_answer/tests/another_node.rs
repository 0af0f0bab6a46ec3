//! What goes on with a call on another node: nobody can tell the two apart.

use proptest::prelude::*;

use super::*;

#[test]
fn a_call_goes_on_with_its_ports_and_latches() {
    let mut relayed = Relayed::new();
    let (to_callee, _) = relayed.established();
    let stream = StreamId { dialog: TAG, line: 0, pair: 0 };
    let latched = Latched { source: "198.51.100.10:4444".parse().unwrap(), ssrc: Some(1) };
    relayed.call.handle_latched(stream, Side::Caller, latched);
    let there = Instant::from_nanos(77_000_000_000);

    let told = relayed.call.to_bytes(NOW + Duration::from_secs(5));
    assert!(told.len() < 350, "{} bytes", told.len());
    let call = Call::from_bytes(there, told).unwrap();
    let mut pool = Pool::new(30_000, 30_999, 99);
    call.claim(there, &mut pool).unwrap();
    let mut out = Vec::new();
    call.handle_takeover(&mut out);

    let [Output::Bind(..), Output::Bind(..), Output::Start(started, plan)] = &out[..] else {
        panic!("{out:?}")
    };
    assert_eq!(*started, stream);
    assert_eq!(plan.caller.latched, Some(latched));
    assert_eq!(plan.callee.local.port(), to_callee[0]);
    assert_eq!(there.since(plan.signalled_at), Duration::from_secs(5));
    assert_eq!(call.claim(there, &mut pool), Err(crate::ports::Taken), "nobody else has them");
    let mut other = Relayed { call, pool, now: there, out: Vec::new() };
    assert_eq!(other.caller(INVITE, 2, &sdp(&[5_000])).1, to_callee);
}

#[test]
fn what_can_not_be_claimed_takes_nothing() {
    let mut relayed = Relayed::new();
    relayed.established();
    let mut elsewhere = Pool::new(40_000, 40_999, 1);

    assert!(relayed.call.claim(NOW, &mut elsewhere).is_err());
    assert_eq!(elsewhere.held(), 0);
}

#[test]
fn a_latch_without_a_stream_is_refused() {
    let mut relayed = Relayed::new();
    relayed.established();
    let stream = StreamId { dialog: TAG, line: 0, pair: 0 };
    let latched = Latched { source: "198.51.100.10:4444".parse().unwrap(), ssrc: None };
    relayed.call.latches.insert((StreamId { pair: 3, ..stream }, Side::Caller), latched);

    assert!(Call::from_bytes(NOW, relayed.call.to_bytes(NOW)).is_err());
}

proptest! {
    #[test]
    fn after_any_messages_two_nodes_are_alike_and_no_port_is_lost(steps in prop::collection::vec(step(), 0..40)) {
        let mut here = Relayed::with_ports(30_000, 30_040);
        let mut bound: BTreeSet<(Side, Ports)> = BTreeSet::new();
        let mut streams: BTreeMap<StreamId, Plan> = BTreeMap::new();
        for step in steps {
            let there = Call::from_bytes(here.now, here.call.to_bytes(here.now)).unwrap();
            let mut there = Relayed { call: there, pool: here.pool.copy(), now: here.now, out: Vec::new() };
            there.call.counts = here.call.counts;
            prop_assert_eq!(&there.call, &here.call);
            prop_assert_eq!(step.tell(&mut there), step.tell(&mut here));
            prop_assert_eq!(&there.out, &here.out);
            for output in &here.out {
                match output.clone() {
                    Output::Bind(side, ports) => prop_assert!(bound.insert((side, ports)), "it is bound twice"),
                    Output::Unbind(side, ports) => prop_assert!(bound.remove(&(side, ports)), "it is not bound"),
                    Output::Start(stream, plan) => prop_assert!(streams.insert(stream, plan).is_none()),
                    Output::Change(stream, plan) => prop_assert!(streams.insert(stream, plan).is_some()),
                    Output::End(stream) => prop_assert!(streams.remove(&stream).is_some()),
                }
            }
            prop_assert_eq!(&bound, &here.call.ports());
            prop_assert_eq!(&streams, &here.call.streams());
            let pairs: usize = bound.iter().map(|(_, ports)| usize::from(ports.pairs())).sum();
            prop_assert_eq!(here.used(), pairs);
            here.now += Duration::from_millis(100);
        }
        here.out.clear();
        let (now, mut out) = (here.now, Vec::new());
        here.call.handle_ended(now, &mut here.pool, &mut out);
        prop_assert_eq!(here.used(), 0);
    }

    #[test]
    fn any_bytes_are_a_call_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte: u8) {
        let _ = Call::from_bytes(NOW, bytes.into());
        let mut relayed = Relayed::new();
        relayed.established();
        let mut told = relayed.call.to_bytes(NOW).to_vec();
        let at = at.index(told.len());
        told[at] = byte;
        if let Ok(call) = Call::from_bytes(NOW, told.into()) {
            prop_assert_eq!(Call::from_bytes(NOW, call.to_bytes(NOW)), Ok(call));
        }
    }
}

#[derive(Clone, Debug)]
enum Told {
    Message(Side, Within, Kind, u32, String),
    BranchEnded(Branch),
    DialogEnded(Tag),
}

impl Told {
    fn tell(&self, relayed: &mut Relayed) -> Option<Verdict> {
        relayed.out.clear();
        let Relayed { call, pool, now, out } = relayed;
        match self {
            Self::Message(from, within, kind, cseq, body) => {
                return Some(relayed.tell(*from, *within, *kind, *cseq, body));
            }
            Self::BranchEnded(branch) => call.handle_branch_ended(*now, *branch, pool, out),
            Self::DialogEnded(tag) => call.handle_dialog_ended(*now, *tag, pool, out),
        }
        None
    }
}

/// Messages as they may come, and as nobody should send them.
fn step() -> impl Strategy<Value = Told> {
    let number = 0u64..2;
    let side = prop::sample::select(vec![Side::Caller, Side::Callee]);
    let within = prop_oneof![
        number.clone().prop_map(|branch| Within::Branch(Branch(branch))),
        (number.clone(), number.clone()).prop_map(|(branch, tag)| Within::Fork(Branch(branch), Tag(tag))),
        number.clone().prop_map(|tag| Within::Dialog(Tag(tag))),
    ];
    let kinds = vec![
        INVITE,
        INVITE,
        UPDATE,
        PRACK,
        Kind::Ack,
        EARLY,
        RELIABLE,
        OK,
        OK,
        Kind::Accepted(Method::Update),
        Kind::Accepted(Method::Prack),
        Kind::Refused(Method::Invite),
        Kind::Refused(Method::Update),
    ];
    let port = prop::sample::select(vec![0u16, 5_000, 6_000]);
    let body = prop_oneof![
        1 => Just(String::new()),
        1 => Just("v=0\r\nm=\r\n".to_owned()),
        6 => prop::collection::vec(port, 0..3).prop_map(|ports| sdp(&ports)),
        1 => Just(sdp(&[7_000]).replace("7000 ", "7000/3 ")),
    ];
    let message = (side, within, prop::sample::select(kinds), 1u32..3, body)
        .prop_map(|(side, within, kind, cseq, body)| Told::Message(side, within, kind, cseq, body));
    prop_oneof![
        20 => message,
        1 => number.clone().prop_map(|branch| Told::BranchEnded(Branch(branch))),
        1 => number.prop_map(|tag| Told::DialogEnded(Tag(tag))),
    ]
}

//! Calls whose media pass the relay: which bodies leave, which ports are bound, and what another node goes on with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::copies::{self, CALL, Entry, MEDIA, Replica};
use engine::{
    CallHolding, EndedMedia, Output, RecordNews, RelayEvent, RelayOrder, RelayReport, RelaySettings, Shard,
};
use lease::{Epoch, LeaseMirror};
use media::offer_answer::{Broken, Face, Output as MediaOutput};
use media::ports::PortRange;
use media::sdp::Origin;
use media::stream::StreamFigures;
use replica::{Capsule, Kind, Place, Posted, Ticket};
use routing::Anchoring;

#[path = "testbed/call.rs"]
mod call;
#[path = "testbed/settings.rs"]
mod testbed;

use call::*;

#[test]
fn a_call_that_is_relayed_leaves_with_the_relays_address_in_offer_and_answer() {
    let mut world = World::new(Anchoring::Always);

    let forwarded = sole(world.receive(CALLER, &invite("call-1")));
    assert_eq!(address_of(&forwarded), "203.0.113.9", "the callee is told the address outside");
    assert_eq!(length_of(&forwarded), body_of(&forwarded).len());
    assert_eq!(world.bound().len(), 2, "one pair for each side");

    let answered = sole(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)));
    assert_eq!(address_of(&answered), "203.0.113.9");
    assert_ne!(port_of(&answered), port_of(&forwarded));
    assert!(world.streams() == 1 && world.bound().len() == 2);

    let bye = sole(world.receive(CALLER, &within("BYE", 2, &forwarded, "")));
    assert!(bye.starts_with(b"BYE"));
    assert_eq!(world.streams(), 0);
    world.pass(Duration::from_secs(33));
    assert_eq!(world.bound().len(), 0, "a repeated 2xx comes no more");
    assert_eq!(world.shard().counts().media.sessions, 0);
}

#[test]
fn a_call_that_is_not_relayed_is_untouched() {
    for anchoring in [Anchoring::Never, Anchoring::Nat] {
        let mut world = World::new(anchoring);

        let forwarded = sole(world.receive(CALLER, &invite("call-1")));
        let answered = sole(world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)));

        assert_eq!((body_of(&forwarded), body_of(&answered)), (OFFER, ANSWER), "{anchoring:?}");
        assert_eq!((world.bound().len(), world.shard().counts().media.sessions), (0, 0));
    }
}

#[test]
fn a_caller_behind_nat_is_relayed_where_nat_asks_for_it() {
    let mut world = World::new(Anchoring::Nat);
    let private = OFFER.replace("198.51.100.66", "10.0.0.2");

    let forwarded = sole(world.receive(CALLER, &invite("call-1").replace(&typed(OFFER), &typed(&private))));

    assert_eq!(address_of(&forwarded), "203.0.113.9");
}

#[test]
fn a_later_offer_in_the_dialog_keeps_the_ports() {
    let mut world = World::new(Anchoring::Always);
    let forwarded = world.answered();
    let bound = world.bound();

    let again = sole(world.receive(CALLER, &within("INVITE", 2, &forwarded, OFFER)));

    assert_eq!((address_of(&again), port_of(&again)), (address_of(&forwarded), port_of(&forwarded)));
    let answered = sole(world.receive(CALLEE, &response(&again, "200 OK", "", ANSWER)));
    assert_eq!(address_of(&answered), "203.0.113.9");
    assert_eq!(world.bound(), bound);
}

#[test]
fn two_that_answer_early_have_ports_of_their_own_towards_the_caller() {
    let mut world = World::new(Anchoring::Always);
    let forwarded = sole(world.receive(CALLER, &invite("call-1")));

    let first = sole(world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER)));
    let second = sole(world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "c", ANSWER)));

    assert_ne!(port_of(&first), port_of(&second));
    assert_eq!((world.streams(), world.bound().len()), (2, 3));
}

#[test]
fn a_call_that_fails_gives_its_ports_back() {
    let mut world = World::new(Anchoring::Always);
    let forwarded = sole(world.receive(CALLER, &invite("call-1")));
    world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));

    let sent = world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b", ""));

    assert!(sent.iter().any(|(_, message)| message.starts_with(b"SIP/2.0 486")));
    assert_eq!((world.streams(), world.bound().len()), (0, 0));
    assert_eq!(world.shard().counts().media.sessions, 0);
}

#[test]
fn a_call_that_is_cancelled_gives_its_ports_back() {
    let mut world = World::new(Anchoring::Always);
    let forwarded = sole(world.receive(CALLER, &invite("call-1")));
    world.receive(CALLEE, &response(&forwarded, "180 Ringing", "b", ""));

    world.receive(
        CALLER,
        &invite("call-1")
            .replace("INVITE", "CANCEL")
            .replace(OFFER, "")
            .replace(&length(OFFER), "Content-Length: 0"),
    );
    world.receive(CALLEE, &response(&forwarded, "487 Request Terminated", "b", ""));

    assert_eq!((world.bound().len(), world.shard().counts().media.sessions), (0, 0));
}

#[test]
fn without_ports_a_call_is_refused_and_nothing_is_kept() {
    let mut world = World::new(Anchoring::Always);
    world.set_relay((30_000, 30_001), Broken::PassOn);

    let refused = sole(world.receive(CALLER, &invite("call-1")));

    let text = String::from_utf8_lossy(&refused).into_owned();
    assert!(text.starts_with("SIP/2.0 503 ") && !text.contains("Retry-After"), "{text}");
    assert_eq!((world.bound().len(), world.shard().counts().media.sessions), (0, 0));
}

#[test]
fn what_can_not_be_relayed_is_refused_only_where_that_is_wanted() {
    let unreadable = invite("call-1").replace("v=0", "v=9");
    let mut world = World::new(Anchoring::Always);
    let passed = sole(world.receive(CALLER, &unreadable));
    assert_eq!(body_of(&passed), OFFER.replace("v=0", "v=9"));

    world.set_relay((30_000, 39_999), Broken::Refuse);
    let refused =
        sole(world.receive(CALLER, &unreadable.replace("call-1", "call-2").replace("call1", "call2")));
    let text = String::from_utf8_lossy(&refused).into_owned();
    assert!(text.starts_with("SIP/2.0 488 ") && text.contains("Warning: 305 "), "{text}");
}

#[test]
fn a_dialog_without_a_packet_is_ended_towards_both_sides() {
    let mut world = World::new(Anchoring::Always);
    world.answered();
    let (session, stream) = world.stream();

    let sent = world.step(|shard, now, lease, out| {
        shard.handle_relay_event(
            now,
            lease,
            RelayEvent { session, stream, report: RelayReport::Silent },
            out,
        );
    });

    let byes: Vec<_> =
        sent.iter().filter(|(_, message)| message.starts_with(b"BYE")).map(|(to, _)| *to).collect();
    assert!(byes.contains(&to(CALLER)) && byes.contains(&to(CALLEE)) && byes.len() == 2, "{byes:?}");
    assert_eq!((world.streams(), world.shard().counts().calls), (0, 0));
}

#[test]
fn what_names_ports_waits_until_the_other_node_has_them() {
    let mut world = World::pair(Anchoring::Always);

    assert_eq!(world.receive(CALLER, &invite("call-1")), [] as [Sent; 0]);
    assert_eq!(world.told.of(MEDIA).count(), 1);
    let sent = world.settle();
    let forwarded =
        sent.iter().find(|(_, message)| message.starts_with(b"INVITE")).expect("it leaves").1.clone();

    world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
    world.settle();
    let first = world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER));
    assert_eq!(first.len(), 1, "it names what was named before");
    assert_eq!(
        world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "c", ANSWER)),
        [] as [Sent; 0]
    );
    assert_ne!(port_of(&sole(world.settle())), port_of(&first[0].1));
}

#[test]
fn a_call_goes_on_on_the_other_node_with_its_ports() {
    let mut world = World::pair(Anchoring::Always);
    world.receive(CALLER, &invite("call-1"));
    let sent = world.settle();
    let forwarded =
        sent.iter().find(|(_, message)| message.starts_with(b"INVITE")).expect("it leaves").1.clone();
    let early = sole(world.receive(CALLEE, &response(&forwarded, "183 Session Progress", "b", ANSWER)));
    let bound = world.bound();

    world.fail_over();
    assert_eq!((world.bound(), world.streams()), (bound.clone(), 1), "the other node has bound the same");

    world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER));
    let answered = sole(world.settle());
    assert_eq!(port_of(&answered), port_of(&early));

    world.fail_over();
    let again = sole(world.receive(CALLER, &within("INVITE", 2, &forwarded, OFFER)));
    assert_eq!((address_of(&again), port_of(&again)), (address_of(&forwarded), port_of(&forwarded)));
    assert_eq!(world.bound(), bound);

    world.receive(CALLER, &within("BYE", 3, &forwarded, ""));
    world.pass(Duration::from_secs(40));
    assert!(world.bound().is_empty() && world.told.of(MEDIA).count() == 0);
}

#[test]
fn a_shard_that_is_active_first_gives_no_port_that_another_one_goes_on_with() {
    let mut world = World::pair(Anchoring::Always);
    world.set_relay((30_000, 30_007), Broken::PassOn);
    world.receive(CALLER, &invite("call-1"));
    world.settle();
    world.tell_standby();
    let mut neighbour = shard_with_number(Anchoring::Always, 1);
    neighbour.set_relay(world.now.instant, world.settings[1].clone());
    let mirror = LeaseMirror::until(Instant::FAR, Epoch(world.epoch + 2));
    let lease = mirror.active(world.now.instant).expect("it is far from its end");
    let mut answers = |call: &str| {
        let mut out = Vec::new();
        neighbour.handle_message(world.now, &lease, source(CALLER), invite(call).as_bytes(), &mut out);
        let sent = out.iter().filter_map(|output| match output {
            Output::Send { message, .. } => Some(String::from_utf8_lossy(&message[..11]).into_owned()),
            _ => None,
        });
        sent.collect::<Vec<_>>()
    };

    assert!(answers("call-2").contains(&"INVITE sip:".to_owned()), "there are ports for two calls");
    assert!(answers("call-3").contains(&"SIP/2.0 503".to_owned()), "and not for a third one");
    world.fail_over();
    assert_eq!(world.bound().len(), 2);
}

#[test]
fn a_session_that_can_not_be_read_is_refused() {
    let mut world = World::pair(Anchoring::Always);
    world.receive(CALLER, &invite("call-1"));
    let capsule = world.told.of(MEDIA).next().expect("it was told").clone();

    assert!(copies::read(world.now, capsule.clone()).is_ok());
    let short = Capsule { bytes: capsule.bytes.slice(..capsule.bytes.len() - 3), ..capsule.clone() };
    assert!(copies::read(world.now, short).is_err());
    let keyless = Capsule { key: Bytes::from_static(b"short"), ..capsule };
    assert!(copies::read(world.now, keyless).is_err());
}

type BoundPorts = BTreeMap<(u64, String), usize>;

#[test]
fn a_record_says_how_media_went_as_soon_as_that_is_told() {
    let mut world = World::new(Anchoring::Always);
    world.nodes[0].0.keep_records();
    let forwarded = world.answered();
    world.receive(CALLER, &within("BYE", 2, &forwarded, ""));

    let [RecordNews::Ended(record, EndedMedia::Awaited)] = &world.records[..] else {
        panic!("it leaves at once: {:?}", world.records)
    };
    let id = record.id;
    world.records.clear();
    world.tell_figures(100);
    let [RecordNews::Media(of, Some(media))] = &world.records[..] else { panic!("{:?}", world.records) };
    assert_eq!((*of, media.counted_after), (id, Duration::ZERO));
    assert_eq!((media.figures.caller.packets, media.figures.callee.packets), (100, 0));
    world.tell_figures(7);
    assert_eq!(world.records.len(), 1, "it is told once");
}

#[test]
fn a_record_without_media_here_waits_for_none() {
    let mut world = World::new(Anchoring::Never);
    world.nodes[0].0.keep_records();
    let forwarded = world.answered();
    world.receive(CALLER, &within("BYE", 2, &forwarded, ""));

    assert!(
        matches!(&world.records[..], [RecordNews::Ended(_, EndedMedia::Told(None))]),
        "{:?}",
        world.records
    );
}

#[test]
fn a_record_after_a_takeover_says_when_the_counting_began() {
    let mut world = World::pair(Anchoring::Always);
    world.nodes.iter_mut().for_each(|(shard, _)| shard.keep_records());
    world.receive(CALLER, &invite("call-1"));
    let sent = world.settle();
    let forwarded =
        sent.iter().find(|(_, message)| message.starts_with(b"INVITE")).expect("it leaves").1.clone();
    world.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER));
    world.settle();
    world.pass(Duration::from_secs(20));
    world.fail_over();
    world.pass(Duration::from_secs(5));
    world.receive(CALLER, &within("BYE", 2, &forwarded, ""));
    world.tell_figures(250);

    let [RecordNews::Ended(record, EndedMedia::Awaited), RecordNews::Media(_, Some(media))] =
        &world.records[..]
    else {
        panic!("{:?}", world.records)
    };
    assert_eq!(record.ended_after - media.counted_after, Duration::from_secs(5));
    assert_eq!(media.figures.caller.packets, 250);
}

struct World {
    now: Now,
    epoch: u64,
    nodes: Vec<(Shard, CallHolding)>,
    acts: usize,
    is_pair: bool,
    told: Told,
    waiting: Vec<Ticket>,
    /// What those who forward packets were told, by the node.
    orders: Vec<Vec<RelayOrder>>,
    settings: [Option<Arc<RelaySettings>>; 2],
    records: Vec<RecordNews>,
}

#[derive(Default)]
struct Told {
    capsules: BTreeMap<(u8, Bytes), Capsule>,
    places: BTreeMap<(u8, Bytes), Place>,
    removed: Vec<(Kind, Place)>,
}

impl Told {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Capsule> {
        self.capsules.values().filter(move |capsule| capsule.kind == kind)
    }
}

impl Replica for &mut Told {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        let key = (capsule.kind.0, capsule.key.clone());
        self.places.insert(key.clone(), place);
        self.capsules.insert(key, capsule);
        Posted::nowhere()
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        let key = (kind.0, Bytes::copy_from_slice(key));
        assert!(self.capsules.remove(&key).is_some(), "it was told");
        self.removed.extend(self.places.remove(&key).map(|place| (kind, place)));
        Posted::nowhere()
    }

    fn everything(&mut self) -> Posted {
        Posted::nowhere()
    }
}

impl World {
    fn new(anchoring: Anchoring) -> Self {
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        let mut world = Self {
            now,
            epoch: 3,
            nodes: (0..2).map(|_| (shard(anchoring), CallHolding::new(0))).collect(),
            acts: 0,
            is_pair: false,
            told: Told::default(),
            waiting: Vec::new(),
            orders: vec![Vec::new(), Vec::new()],
            settings: [None, None],
            records: Vec::new(),
        };
        world.set_relay((30_000, 39_999), Broken::PassOn);
        world
    }

    fn pair(anchoring: Anchoring) -> Self {
        let mut world = Self { is_pair: true, ..Self::new(anchoring) };
        for (shard, _) in &mut world.nodes {
            shard.note_changes();
            shard.stand_by(world.now);
        }
        world
    }

    fn set_relay(&mut self, ports: (u16, u16), broken: Broken) {
        let face = Face {
            local: "192.0.2.1".parse().expect("an address"),
            named: "203.0.113.9".parse().expect("an address"),
        };
        for (number, (shard, _)) in self.nodes.iter_mut().enumerate() {
            let settings = Arc::new(RelaySettings {
                ports: PortRange::new(ports.0, ports.1),
                faces: vec![face],
                broken,
                origin: Origin::Kept,
                is_elsewhere: false,
                silence: None,
            });
            shard.set_relay(self.now.instant, Some(Arc::clone(&settings)));
            self.settings[number] = Some(settings);
        }
    }

    fn shard(&self) -> &Shard {
        &self.nodes[self.acts].0
    }

    /// A call that was answered; gives the INVITE as it left.
    fn answered(&mut self) -> Bytes {
        let forwarded = sole(self.receive(CALLER, &invite("call-1")));
        sole(self.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER)));
        forwarded
    }

    fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.step(|shard, now, lease, out| {
            shard.handle_message(now, lease, source(from), text.as_bytes(), out)
        })
    }

    /// What leaves, but for 100.
    fn step(
        &mut self,
        act: impl FnOnce(&mut Shard, Now, &lease::ActiveLease<'_>, &mut Vec<Output>),
    ) -> Vec<Sent> {
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(self.epoch));
        let lease = mirror.active(self.now.instant).expect("it is far from its end");
        let (shard, holding) = &mut self.nodes[self.acts];
        let (mut out, mut waits) = (Vec::new(), Vec::new());
        act(shard, self.now, &lease, &mut out);
        self.records.extend(engine::take_records(&mut out));
        if self.is_pair {
            copies::post_calls(self.now, shard, holding, &mut &mut self.told, &mut out, &mut waits);
        }
        self.waiting.extend(waits.into_iter().map(|(ticket, _)| ticket));
        let mut orders = Vec::new();
        shard.take_relay_orders(&mut orders);
        self.orders[self.acts].extend(orders);
        let mut sent = Vec::new();
        for output in out {
            if let Output::Send { to, message, .. } = output {
                sent.push((to, message));
            }
        }
        without_100(sent)
    }

    /// Who forwards packets tells of each stream that has ended that so many came from the caller.
    fn tell_figures(&mut self, packets: u64) {
        let mut figures = StreamFigures::default();
        figures.caller.received.packets = packets;
        let ended = self.orders[self.acts].iter().filter_map(|order| match order.output {
            MediaOutput::End(stream) => Some((order.session, stream)),
            _ => None,
        });
        for (session, stream) in ended.collect::<Vec<_>>() {
            let event = RelayEvent { session, stream, report: RelayReport::Figures(figures) };
            self.step(|shard, now, lease, out| shard.handle_relay_event(now, lease, event, out));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now::new(self.now.instant + time, self.now.wall + time);
        self.step(|shard, now, lease, out| shard.handle_timeout(now, lease, out));
    }

    /// The other node holds all; gives what waited for that.
    fn settle(&mut self) -> Vec<Sent> {
        let holding = &mut self.nodes[self.acts].1;
        let let_go: Vec<_> = self.waiting.drain(..).map(|ticket| holding.handle_settled(ticket)).collect();
        without_100(
            let_go
                .into_iter()
                .flat_map(|(messages, _)| messages)
                .map(|(to, message, _)| (to, message))
                .collect(),
        )
    }

    /// The standby takes what it was told.
    fn tell_standby(&mut self) {
        let standby = 1 - self.acts;
        let shard = &mut self.nodes[standby].0;
        for (kind, place) in self.told.removed.drain(..) {
            copies::remove_call(shard, kind, place);
        }
        for (key, capsule) in &self.told.capsules {
            let place = match copies::read(self.now, capsule.clone()).expect("it can be read") {
                Entry::Call(call) => copies::apply_call(self.now, shard, 0, call),
                Entry::Dialog(dialog) => copies::apply_dialog(self.now, shard, 0, &dialog),
                Entry::Media(media) => copies::apply_media(self.now, shard, 0, &media),
                _ => unreachable!("it is of a call"),
            };
            assert_eq!(place, Some(self.told.places[key]));
        }
        shard.take_relay_orders(&mut self.orders[standby]);
        assert!(
            self.orders[standby].iter().all(|it| !matches!(it.output, MediaOutput::Start(..))),
            "it stands by"
        );
    }

    /// The active node dies, and the other one takes over.
    fn fail_over(&mut self) {
        self.tell_standby();
        let standby = 1 - self.acts;
        let (dead, holding) = &mut self.nodes[self.acts];
        dead.stand_by(self.now);
        holding.stand_by();
        self.orders[self.acts]
            .retain(|order| matches!(order.output, MediaOutput::Bind(..) | MediaOutput::Unbind(..)));
        dead.take_relay_orders(&mut self.orders[self.acts]);
        self.waiting.clear();
        self.acts = standby;
        self.epoch += 2;
        self.pass(Duration::from_millis(1));
        self.settle();
        assert_eq!(self.shard().counts().media.not_taken_over, 0);
        assert!(self.told.of(CALL).count() <= 1);
    }

    /// The ports that are bound where the node is active.
    fn bound(&self) -> BoundPorts {
        let mut bound = BoundPorts::new();
        for order in &self.orders[self.acts] {
            match &order.output {
                MediaOutput::Bind(side, ports) => {
                    bound.insert((order.session.as_u64(), format!("{side:?} {ports:?}")), 1);
                }
                MediaOutput::Unbind(side, ports) => {
                    let gone = bound.remove(&(order.session.as_u64(), format!("{side:?} {ports:?}")));
                    assert!(gone.is_some(), "it was bound");
                }
                _ => {}
            }
        }
        bound
    }

    /// How many streams there are.
    fn streams(&self) -> usize {
        let mut streams = BTreeMap::new();
        for order in &self.orders[self.acts] {
            match &order.output {
                MediaOutput::Start(stream, _) => drop(streams.insert(*stream, ())),
                MediaOutput::End(stream) => drop(streams.remove(stream)),
                _ => {}
            }
        }
        streams.len()
    }

    fn stream(&self) -> (engine::SessionName, media::offer_answer::StreamId) {
        let started = self.orders[self.acts].iter().rev().find_map(|order| match &order.output {
            MediaOutput::Start(stream, _) => Some((order.session, *stream)),
            _ => None,
        });
        started.expect("there is one")
    }
}

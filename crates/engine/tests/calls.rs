//! Two nodes with one shard each: a call that begins on one of them and goes on on the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::copies::{self, CALL, DIALOG, Entry, OwnerOf, Replica};
use engine::{CallHolding, Output, Shard, owner_of_shard};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use replica::{Capsule, Kind, Place, Posted, Ticket};
use routing::{CallName, CallState, Keyring, Settings, TrustedPeer};
use sip::Message;
use transaction::{Progress, ServerKey};
use transport::{Destination, Flow, ListenerId, RemoteAddr, Source, Transport};

#[path = "testbed/settings.rs"]
mod testbed;

#[test]
fn the_100_waits_for_the_other_node_and_the_forwarded_invite_does_not() {
    let mut world = World::new();

    let sent = world.receive(CALLER, &invite());

    assert_eq!(first_words(&sent), ["INVITE"]);
    assert_eq!(first_words(&world.settle()), ["SIP/2.0 100"]);
    assert_eq!(world.told.capsules.len(), 1);
}

#[test]
fn what_comes_while_the_100_waits_leaves_behind_it() {
    let mut world = World::new();
    let forwarded = sole(world.receive(CALLER, &invite()));

    assert_eq!(world.receive(CALLEE, &response(&forwarded, "180 Ringing", "b")), [] as [Sent; 0]);

    assert_eq!(first_words(&world.settle()), ["SIP/2.0 100", "SIP/2.0 180"]);
    let again = world.receive(CALLEE, &response(&forwarded, "180 Ringing", "b"));
    assert_eq!(first_words(&again), ["SIP/2.0 180"], "nothing waits any more");
}

#[test]
fn final_answers_and_the_ack_to_a_failure_wait() {
    let mut world = World::new();
    let forwarded = world.ring();

    let at_once = world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b"));
    assert_eq!(at_once, [] as [Sent; 0]);
    assert_eq!(first_words(&world.settle()), ["ACK", "SIP/2.0 486"]);

    let again = world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b"));
    assert_eq!(first_words(&again), ["ACK"], "a repeated one goes at once");
}

#[test]
fn the_200_to_a_cancel_waits_and_the_cancel_to_the_phone_does_not() {
    let mut world = World::new();
    let forwarded = world.ring();

    let at_once = world.receive(CALLER, &cancel());

    assert_eq!(first_words(&at_once), ["CANCEL"]);
    assert_eq!(first_words(&world.settle()), ["SIP/2.0 200"]);
    world.receive(CALLEE, &response(&forwarded, "487 Request Terminated", "b"));
    assert_eq!(first_words(&world.settle()), ["ACK", "SIP/2.0 487"]);
}

/// How long it took to answer is measured until then.
#[test]
fn a_request_whose_answer_waits_is_settled_when_that_leaves() {
    let mut world = World::new();
    world.ring();

    world.receive(CALLER, &cancel());
    let waiting = world.answered;
    world.settle();

    assert_eq!((waiting, world.answered), (0, 1));
}

#[test]
fn a_ringing_call_is_answered_on_the_other_node() {
    let mut world = World::new();
    let forwarded = world.ring();

    world.fail_over();

    assert_eq!(world.receive(CALLEE, &response(&forwarded, "200 OK", "b")), [] as [Sent; 0]);
    let sent = world.settle();
    assert_eq!(first_words(&sent), ["SIP/2.0 200"]);
    assert_eq!(sent[0].0, to(CALLER));
}

#[test]
fn a_ringing_call_is_cancelled_on_the_other_node() {
    let mut world = World::new();
    let forwarded = world.ring();
    world.fail_over();

    let at_once = world.receive(CALLER, &cancel());

    assert_eq!(first_words(&at_once), ["CANCEL"]);
    assert_eq!(at_once[0].0, to(CALLEE));
    assert_eq!(branch(&at_once[0].1), branch(&forwarded), "it is the INVITE's");
    assert_eq!(first_words(&world.settle()), ["SIP/2.0 200"]);
}

#[test]
fn a_failure_that_nobody_acknowledged_is_repeated_by_the_other_node_until_somebody_does() {
    let mut world = World::new();
    let forwarded = world.ring();
    world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b"));
    world.settle();

    world.fail_over();

    let repeated = world.pass(Duration::from_millis(500));
    assert_eq!(first_words(&repeated), ["SIP/2.0 486"]);
    let ack = world.receive(CALLEE, &response(&forwarded, "486 Busy Here", "b"));
    assert_eq!(first_words(&ack), ["ACK"]);
    world.receive(CALLER, &invite().replace("INVITE", "ACK"));
    assert_eq!(world.pass(Duration::from_secs(4)), [] as [Sent; 0]);
}

#[test]
fn a_cancel_that_was_lost_is_repeated_by_the_other_node() {
    let mut world = World::new();
    world.ring();
    world.receive(CALLER, &cancel());
    world.settle();

    world.fail_over();

    assert_eq!(first_words(&world.pass(Duration::from_millis(500))), ["CANCEL"]);
}

#[test]
fn an_invite_that_nobody_answers_times_out_on_the_other_node_when_it_would_have_here() {
    let mut world = World::new();
    world.receive(CALLER, &invite());
    world.settle();
    world.pass(Duration::from_secs(10));

    world.fail_over();

    world.pass(Duration::from_secs(20));
    assert_eq!(world.settle(), [] as [Sent; 0]);
    world.pass(Duration::from_millis(2_100));
    assert_eq!(first_words(&world.settle()), ["SIP/2.0 408"]);
}

/// The clock stands still, so that what did not change has the same bytes.
#[test]
fn the_other_node_has_each_call_as_it_is_after_each_step() {
    for end in ["200 OK", "486 Busy Here", "302 Moved", "603 Decline", "cancel"] {
        let mut world = World::new();
        let forwarded = sole(world.receive(CALLER, &invite()));
        world.check_told();
        world.settle();
        for status in ["100 Trying", "180 Ringing", "183 Session Progress"] {
            world.receive(CALLEE, &response(&forwarded, status, "b"));
            world.check_told();
        }
        let end = match end {
            "cancel" => {
                let cancel = sole(world.receive(CALLER, &cancel()));
                world.check_told();
                world.receive(CALLEE, &response(&cancel, "200 OK", "b"));
                world.check_told();
                "487 Request Terminated"
            }
            end => end,
        };
        world.receive(CALLEE, &response(&forwarded, end, "b"));
        world.check_told();
        world.receive(CALLEE, &response(&forwarded, end, "b"));
        world.check_told();
        world.settle();
        world.receive(CALLER, &invite().replace("INVITE", "ACK"));
        world.check_told();

        for _ in 0..400 {
            world.pass(Duration::from_millis(500));
            world.settle();
        }
        assert_eq!(world.told.of(CALL).count(), 0, "{end}: the INVITE has ended");
        assert_eq!(
            world.told.of(DIALOG).count(),
            usize::from(end == "200 OK"),
            "{end}: the call is up or not"
        );
        let counts = world.active().shard.counts();
        assert_eq!((counts.servers, counts.clients, counts.contexts), (0, 0, 0));
    }
}

#[test]
fn a_node_that_comes_back_has_the_calls_that_it_had_and_those_of_the_other_one() {
    let mut world = World::new();
    let forwarded = world.ring();

    world.fail_over();
    world.fail_over();

    world.receive(CALLEE, &response(&forwarded, "200 OK", "b"));
    assert_eq!(first_words(&world.settle()), ["SIP/2.0 200"]);
}

#[test]
fn a_takeover_goes_on_with_some_calls_at_a_time_and_at_once_with_one_that_a_message_is_of() {
    let mut world = World::new();
    let forwarded: Vec<Bytes> = (1..=200).map(|number| world.ring_as(number)).collect();
    world.settle();

    world.fail_over();

    let waiting = |world: &World| world.active().shard.counts().inherited;
    let rest = waiting(&world);
    assert!((100..200).contains(&rest), "{rest} wait");
    assert_eq!(world.active().shard.counts().contexts, 200 - rest);
    assert_eq!(world.active().shard.poll_timeout(), Some(Instant::START), "it does not wait for the others");
    for forwarded in &forwarded {
        assert_eq!(world.receive(CALLEE, &response(forwarded, "486 Busy Here", "b")), [] as [Sent; 0]);
    }
    assert_eq!((waiting(&world), world.settle().len()), (0, 400), "an ACK and a 486 of each");
}

#[test]
fn all_calls_are_gone_on_with_though_no_message_comes() {
    let mut world = World::new();
    for number in 1..=200 {
        world.ring_as(number);
    }
    world.settle();

    world.fail_over();
    for _ in 0..3 {
        world.pass(Duration::ZERO);
    }

    let counts = world.active().shard.counts();
    assert_eq!((counts.inherited, counts.contexts), (0, 200));
    assert_ne!(world.active().shard.poll_timeout(), Some(Instant::START));
}

/// A batch of messages is one step for who tells the other node.
#[test]
fn a_call_that_has_changed_in_a_step_is_told_though_another_one_is_gone_on_with_in_it() {
    let mut world = World::new();
    let forwarded: Vec<Bytes> = (1..=200).map(|number| world.ring_as(number)).collect();
    world.settle();
    world.fail_over();
    let mut told = world.told.capsules.clone();

    world.step(|shard, now, lease, out| {
        for forwarded in &forwarded {
            let busy = response(forwarded, "486 Busy Here", "b");
            shard.handle_message(now, lease, source(CALLEE), busy.as_bytes(), out);
        }
    });

    told.retain(|key, capsule| world.told.capsules.get(key) == Some(capsule));
    assert_eq!(told.len(), 0, "so many were forgotten");
    world.check_told();
}

#[test]
fn a_call_that_waits_to_be_gone_on_with_can_be_fetched_by_the_other_node() {
    let mut world = World::new();
    for number in 1..=200 {
        world.ring_as(number);
    }
    world.settle();
    world.fail_over();
    let places: Vec<Place> = world.told.places.values().copied().collect();

    let now = world.now;
    let shard = &mut world.nodes[world.acts].shard;
    let missing = places.into_iter().filter(|place| shard.fetch(now, place.number).is_none());

    assert_eq!(missing.count(), 0);
}

#[test]
fn a_standby_sends_nothing_and_has_no_deadline() {
    let mut world = World::new();
    world.ring();
    world.tell();
    let standby = &world.nodes[1 - world.acts];

    assert_eq!((standby.shard.counts().inherited, standby.shard.poll_timeout()), (1, None));
    assert_eq!(standby.shard.counts().contexts, 0);
}

#[test]
fn a_call_that_ends_is_taken_from_the_other_node() {
    let mut world = World::new();
    let forwarded = world.ring();
    world.receive(CALLEE, &response(&forwarded, "200 OK", "b"));
    world.settle();
    world.pass(Duration::from_secs(70));
    world.tell();

    assert_eq!(
        world.nodes[1 - world.acts].shard.counts().inherited,
        1,
        "the INVITE has ended, and the call is up"
    );
    world.receive(CALLEE, &bye(&forwarded));
    world.pass(Duration::from_secs(70));
    world.tell();

    assert_eq!(world.nodes[1 - world.acts].shard.counts().inherited, 0);
}

#[test]
fn an_answered_call_is_up_on_the_other_node_until_somebody_hangs_up_there() {
    for has_come_back in [false, true] {
        let mut world = World::new();
        let forwarded = world.ring();
        world.receive(CALLEE, &response(&forwarded, "200 OK", "b"));
        world.settle();
        world.pass(Duration::from_secs(70));
        assert_eq!(world.told.of(CALL).count(), 0, "of the INVITE nothing is left");

        world.fail_over();
        if has_come_back {
            world.fail_over();
        }

        let views = world.active().shard.call_views(world.now, 9);
        let [view] = &views[..] else { unreachable!("{views:?}") };
        assert!(matches!(view.state, CallState::Up(_)), "{view:?}");
        assert_eq!(view.caller, format!("sip:peer@{CALLER}"));
        assert_eq!(world.active().shard.counts().calls, 1);
        let bye = world.receive(CALLEE, &bye(&forwarded));
        assert_eq!(first_words(&bye), ["BYE"]);
        assert_eq!((world.active().shard.counts().calls, world.told.of(DIALOG).count()), (0, 0));
    }
}

/// Whoever hung up repeats the BYE until it is answered, and the other node must not take the call for one that is up.
#[test]
fn the_answer_to_a_bye_waits_for_the_other_node_and_the_bye_does_not() {
    let mut world = World::new();
    let forwarded = world.ring();
    world.receive(CALLEE, &response(&forwarded, "200 OK", "b"));
    world.settle();

    let bye = sole(world.receive(CALLEE, &bye(&forwarded)));
    assert_eq!(world.receive(CALLER, &response(&bye, "200 OK", "")), [] as [Sent; 0]);

    assert_eq!(first_words(&world.settle()), ["SIP/2.0 200"]);
}

#[test]
fn what_is_challenged_or_no_call_is_not_told() {
    let mut world = World::new();

    world.receive("203.0.113.9:5060", &invite().replace(CALLER, "203.0.113.9:5060"));
    world.receive(CALLER, &invite().replace("INVITE", "OPTIONS"));

    assert_eq!(world.told.capsules.len(), 0);
    assert_eq!(world.waiting.len(), 0);
}

#[test]
fn without_another_node_nothing_waits() {
    let mut world = World::new();
    world.nodes[0].shard = shard();

    assert_eq!(first_words(&world.receive(CALLER, &invite())), ["SIP/2.0 100", "INVITE"]);
}

#[test]
fn what_is_no_call_is_not_taken() {
    let mut world = World::new();
    world.ring();
    let capsule = world.told.capsules.values().next().expect("it was told").clone();
    let read = |capsule| copies::read(world.now, capsule);

    assert!(read(capsule.clone()).is_ok());
    for length in 0..capsule.bytes.len() {
        let cut = Capsule { bytes: capsule.bytes.slice(..length), ..capsule.clone() };
        // Some are whole without their last field; none may make it panic.
        let _ = read(cut);
    }
    assert!(read(Capsule { key: Bytes::from_static(b"short"), ..capsule.clone() }).is_err());
    assert!(read(Capsule { bytes: Bytes::new(), ..capsule.clone() }).is_err());
    assert!(read(Capsule { bytes: Bytes::from_static(b"\xff\xff"), ..capsule }).is_err());
}

/// What has two copies would soon have more: a call's capsule goes to the other node with each of its steps.
#[test]
fn an_invite_is_told_once_and_repeated_by_the_other_node_as_it_left() {
    let mut world = World::new();
    let body = "a=mark\r\n".repeat(100);
    let invite = invite().replace("Content-Length: 0\r\n\r\n", "Content-Length: 800\r\n\r\n") + &body;
    let forwarded = sole(world.receive(CALLER, &invite));
    world.settle();

    let capsule = world.told.capsules.values().next().expect("it was told").bytes.clone();
    println!("an INVITE of {} bytes makes a capsule of {}", invite.len(), capsule.len());
    assert_eq!(capsule.windows(6).filter(|bytes| *bytes == b"a=mark").count(), 100);

    world.fail_over();
    assert_eq!(sole(world.pass(Duration::from_millis(500))), forwarded);
}

const CALLER: &str = "198.51.100.66:5060";
const CALLEE: &str = "198.51.100.77:5060";
const NUMBER: u16 = 0;

type Sent = (Destination, Bytes);

struct Node {
    shard: Shard,
    holding: CallHolding,
}

struct World {
    now: Now,
    epoch: u64,
    nodes: [Node; 2],
    /// Which of them is active.
    acts: usize,
    told: Told,
    waiting: Vec<Ticket>,
    /// Requests whose answers have left.
    answered: usize,
}

/// What the other node was told.
#[derive(Default)]
struct Told {
    capsules: BTreeMap<Bytes, Capsule>,
    places: BTreeMap<Bytes, Place>,
    removed: Vec<(Kind, Place)>,
}

impl Told {
    fn of(&self, kind: Kind) -> impl Iterator<Item = (&Bytes, &Capsule)> {
        self.capsules.iter().filter(move |(_, capsule)| capsule.kind == kind)
    }
}

impl Replica for &mut Told {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        self.places.insert(capsule.key.clone(), place);
        self.capsules.insert(capsule.key.clone(), capsule);
        Posted::nowhere()
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        let removed = self.capsules.remove(key);
        assert_eq!(removed.map(|capsule| capsule.kind), Some(kind), "it was told");
        self.removed.extend(self.places.remove(key).map(|place| (kind, place)));
        Posted::nowhere()
    }

    fn everything(&mut self) -> Posted {
        Posted::nowhere()
    }
}

impl World {
    fn new() -> Self {
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        let mut nodes = [(), ()].map(|()| Node { shard: shard(), holding: CallHolding::new(NUMBER) });
        for node in &mut nodes {
            node.shard.note_changes();
            node.shard.stand_by(now);
        }
        Self { now, epoch: 3, nodes, acts: 0, told: Told::default(), waiting: Vec::new(), answered: 0 }
    }

    fn active(&self) -> &Node {
        &self.nodes[self.acts]
    }

    /// A call rings; gives the INVITE as it left.
    fn ring(&mut self) -> Bytes {
        let forwarded = sole(self.receive(CALLER, &invite()));
        self.settle();
        let ringing = self.receive(CALLEE, &response(&forwarded, "180 Ringing", "b"));
        assert_eq!(first_words(&ringing), ["SIP/2.0 180"]);
        forwarded
    }

    /// The same with another call.
    fn ring_as(&mut self, number: u32) -> Bytes {
        let forwarded = sole(self.receive(CALLER, &invite().replace("call-1", &format!("call-{number}"))));
        self.receive(CALLEE, &response(&forwarded, "180 Ringing", "b"));
        forwarded
    }

    /// Gives what leaves at once.
    fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.step(|shard, now, lease, out| {
            shard.handle_message(now, lease, source(from), text.as_bytes(), out)
        })
    }

    fn pass(&mut self, time: Duration) -> Vec<Sent> {
        self.now = Now::new(self.now.instant + time, self.now.wall + time);
        self.step(|shard, now, lease, out| shard.handle_timeout(now, lease, out))
    }

    fn step(
        &mut self,
        act: impl FnOnce(&mut Shard, Now, &lease::ActiveLease<'_>, &mut Vec<Output>),
    ) -> Vec<Sent> {
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(self.epoch));
        let lease = mirror.active(self.now.instant).expect("it is far from its end");
        let Node { shard, holding } = &mut self.nodes[self.acts];
        let (mut out, mut waits) = (Vec::new(), Vec::new());
        act(shard, self.now, &lease, &mut out);
        copies::post_calls(self.now, shard, holding, &mut &mut self.told, &mut out, &mut waits);
        self.waiting.extend(waits.into_iter().map(|(ticket, _)| ticket));
        self.answered += out
            .iter()
            .filter(|output| matches!(output, Output::Settled(it) if it.by == Progress::Answered))
            .count();
        let message = |output| match output {
            Output::Send { to, message, .. } => Some((to, message)),
            Output::SendWhenHeld { .. } => unreachable!("{output:?} was not looked at"),
            _ => None,
        };
        out.into_iter().filter_map(message).collect()
    }

    /// The other node holds all; gives what waited for that.
    fn settle(&mut self) -> Vec<Sent> {
        let holding = &mut self.nodes[self.acts].holding;
        let let_go: Vec<_> = self.waiting.drain(..).map(|ticket| holding.handle_settled(ticket)).collect();
        self.answered += let_go.iter().map(|(_, settled)| settled.len()).sum::<usize>();
        let_go.into_iter().flat_map(|(messages, _)| messages).map(|(to, message, _)| (to, message)).collect()
    }

    /// The standby has what it was told, and nothing else.
    fn tell(&mut self) {
        let standby = &mut self.nodes[1 - self.acts];
        for (kind, place) in self.told.removed.drain(..) {
            copies::remove_call(&mut standby.shard, kind, place);
        }
        for (key, capsule) in &self.told.capsules {
            let entry = copies::read(self.now, capsule.clone()).expect("it is a call");
            assert!(matches!(entry.owner(), OwnerOf::Shard(call_id) if call_id.starts_with(b"call-")));
            let place = match entry {
                Entry::Call(call) => copies::apply_call(self.now, &mut standby.shard, NUMBER, call),
                Entry::Dialog(dialog) => copies::apply_dialog(self.now, &mut standby.shard, NUMBER, &dialog),
                _ => unreachable!("it is a call"),
            };
            assert_eq!(place, Some(self.told.places[key]));
            assert_eq!(self.told.places[key].owner, owner_of_shard(NUMBER));
        }
    }

    /// The active node dies, and the other one takes over.
    fn fail_over(&mut self) {
        self.tell();
        let dead = &mut self.nodes[self.acts];
        dead.shard.stand_by(self.now);
        dead.holding.stand_by();
        self.waiting.clear();
        self.acts = 1 - self.acts;
        self.epoch += 2;
        self.pass(Duration::ZERO);
    }

    fn check_told(&self) {
        for (key, capsule) in self.told.of(DIALOG) {
            let name = CallName::from_u64(u64::from_be_bytes(key[..].try_into().expect("a name")));
            let dialog = self.active().shard.stored_dialog(self.now, name);
            assert_eq!(dialog.map(|dialog| dialog.to_bytes()).as_ref(), Some(&capsule.bytes));
        }
        assert_eq!(self.told.of(DIALOG).count(), self.active().shard.answered_calls().len());
        for (key, capsule) in self.told.of(CALL) {
            let key = u128::from_be_bytes(key[..].try_into().expect("a key"));
            let call = self.active().shard.call_capsule(self.now, ServerKey::from_u128(key));
            assert_eq!(call.map(|call| call.bytes).as_ref(), Some(&capsule.bytes));
        }
    }
}

fn sole(sent: Vec<Sent>) -> Bytes {
    let [(_, message)] = &sent[..] else { unreachable!("{sent:?}") };
    message.clone()
}

fn first_words(sent: &[Sent]) -> Vec<String> {
    let first = |(_, message): &Sent| {
        let line = String::from_utf8_lossy(message).lines().next().unwrap_or_default().to_owned();
        let words = if line.starts_with("SIP/") { 2 } else { 1 };
        line.split(' ').take(words).collect::<Vec<_>>().join(" ")
    };
    sent.iter().map(first).collect()
}

fn branch(message: &[u8]) -> Vec<u8> {
    let message = Message::parse(message).expect("a message");
    message.top_via().expect("a Via").branch().expect("a branch").to_vec()
}

fn to(remote: &str) -> Destination {
    Destination::Flow(source(remote).flow)
}

fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().expect("an address"));
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

fn invite() -> String {
    format!(
        "INVITE sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bKcall1\r\n\
         From: <sip:peer@{CALLER}>;tag=f\r\nTo: <sip:bob@{CALLEE}>\r\nCall-ID: call-1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:peer@{CALLER}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

fn cancel() -> String {
    invite().replace("INVITE", "CANCEL")
}

/// The callee hangs up.
fn bye(forwarded: &Bytes) -> String {
    let text = String::from_utf8(forwarded.to_vec()).expect("it is text");
    let routes = text.lines().filter_map(|line| line.strip_prefix("Record-Route:"));
    let routes: String = routes.map(|value| format!("Route:{value}\r\n")).collect();
    format!(
        "BYE sip:peer@{CALLER} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLEE};rport;branch=z9hG4bKbye\r\n\
         From: <sip:bob@{CALLEE}>;tag=b\r\nTo: <sip:peer@{CALLER}>;tag=f\r\nCall-ID: call-1\r\nCSeq: 7 BYE\r\n\
         {routes}Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// What the callee says to what it got.
fn response(request: &Bytes, status: &str, tag: &str) -> String {
    let text = String::from_utf8(request.to_vec()).expect("it is text");
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
    let lines = text.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: Vec<String> = lines
        .map(|line| match line.starts_with("To:") {
            true => format!("{line};tag={tag}\r\n"),
            false => format!("{line}\r\n"),
        })
        .collect();
    format!("SIP/2.0 {status}\r\n{}Contact: <sip:bob@{CALLEE}>\r\nContent-Length: 0\r\n\r\n", lines.concat())
}

fn shard() -> Shard {
    let trusted =
        TrustedPeer { network: "198.51.100.66/32".parse().expect("a network"), name: "peer".to_owned() };
    let settings = Settings { trusted: vec![trusted], ..testbed::settings() };
    Shard::new(Arc::new(settings), Keyring::derive(&RootKey::new([5; 32])), NUMBER, 1)
}

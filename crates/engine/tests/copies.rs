//! Two nodes with one partition each, and the replica's machines between them: the whole way of a binding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::copies::{self, Replica};
use engine::{Asker, Holding, Partition, PartitionOutput};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use replica::{
    Capsule, ConnectionNumber, Deframer, DigestKey, Fetched, Holdings, Kind, Origin, Place, Posted, Receiver,
    ReceiverOutput, Sender, SenderOutput, Ticket,
};
use routing::account::Change;
use routing::{
    Answer, Authority, ContactUpdate, Contacts, Keyring, Question, Register, RegisterRight, Token,
};
use sip::Aor;
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

use self::testbed::settings;

#[path = "testbed/settings.rs"]
mod testbed;

#[test]
fn the_answer_leaves_when_the_other_node_holds_the_binding_and_not_before() {
    let mut world = World::equal();

    let answers = world.ask(register("bob", 1, 600));
    assert_eq!(answers, []);
    world.talk();

    let [answer] = &world.take_answers()[..] else { panic!("one answer") };
    assert!(matches!(answer, Answer::Registered(Ok(_))), "{answer:?}");
    assert_eq!(world.standby_contacts("bob"), [CONTACT]);
    assert_eq!(world.sender.counts().degraded, 0);
}

#[test]
fn without_an_acknowledgement_it_leaves_after_the_longest_wait_and_is_counted() {
    let mut world = World::equal();
    world.ask(register("bob", 1, 600));

    world.pass(replica::WAIT_MAX);

    assert_eq!(world.take_answers().len(), 1);
    assert_eq!(world.sender.counts().degraded, 1);
}

#[test]
fn a_binding_that_ends_is_gone_on_both_nodes_and_in_both_stores() {
    let mut world = World::equal();
    world.ask(register("bob", 1, 600));
    world.talk();
    let taken = world.standby_saves();
    assert!(matches!(&taken[..], [Change::Put(_)]), "{taken:?}");

    world.ask(register("bob", 2, 0));
    world.talk();

    assert_eq!(world.standby_contacts("bob"), [] as [Bytes; 0]);
    let taken = world.standby_saves();
    assert!(matches!(&taken[..], [Change::Remove(_)]), "{taken:?}");
    assert_eq!(world.take_answers().len(), 2);
}

#[test]
fn a_binding_that_moves_to_another_contact_and_back_within_one_step_is_there_once() {
    let mut world = World::equal();
    let with_contact = |cseq, contact: &'static str| {
        let wish = ContactUpdate { reg_id: Some(1), instance: Some(INSTANCE), ..wish(contact, 600) };
        let Question::Register(asked) = register("bob", cseq, 600) else { unreachable!("it is one") };
        let contacts = Contacts::Update(vec![wish]);
        Question::Register(Box::new(Register { contacts, outbound: true, ..*asked }))
    };
    let (one, other) = ("sip:bob@192.0.2.77", "sip:bob@192.0.2.78");
    world.ask_all([with_contact(1, one), with_contact(2, other), with_contact(3, one)]);
    world.talk();

    assert_eq!(world.take_answers().len(), 3);
    assert_eq!(world.standby_contacts("bob"), [one]);
    assert_eq!((world.sender.holdings().count(copies::BINDING), world.is_equal()), (1, true));
}

#[test]
fn what_was_there_before_the_standby_came_is_fetched_from_the_partition() {
    let mut world = World::new();
    for number in 0..50 {
        world.ask(register(&format!("user{number}"), 1, 600));
    }
    // Nobody was there to hold them.
    assert_eq!(world.take_answers().len(), 50);

    world.connect();
    world.talk();

    assert_eq!(world.sender.ready(), 100);
    assert_eq!(world.standby_contacts("user49"), [CONTACT]);
    assert_eq!(world.standby.partition.binding_count(), 50);
}

#[test]
fn who_takes_over_has_the_binding_with_the_time_left_and_says_200_to_the_same_request() {
    let mut world = World::equal();
    world.ask(register("bob", 7, 600));
    world.talk();
    let promised = world.take_answers();
    world.pass(Duration::from_secs(100));

    let repeated = world.standby.ask(world.now, [register("bob", 7, 600)]);
    assert_eq!(repeated.len(), 1);
    let (Answer::Registered(Ok(before)), Answer::Registered(Ok(after))) = (&promised[0], &repeated[0]) else {
        panic!("{promised:?} {repeated:?}")
    };
    // What is granted is spread, and so may be less than what was asked for.
    let granted = before.contacts[0].expires;
    assert!((500..=600).contains(&granted), "{granted}");
    assert_eq!(after.contacts[0].expires, granted - 100);

    world.pass(Duration::from_secs(u64::from(granted) - 101));
    assert_eq!(world.standby.let_time_pass(world.now), 0);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.standby.let_time_pass(world.now), 1, "it ends when it was to end");
}

#[test]
fn a_standby_lets_nothing_end_by_itself() {
    let mut world = World::equal();
    world.ask(register("bob", 7, 60));
    world.talk();
    world.pass(Duration::from_secs(1_000));

    assert_eq!(world.standby.partition.poll_timeout(), None);
    assert_eq!(world.standby.partition.binding_count(), 1);
}

#[test]
fn a_capsule_under_another_key_and_one_that_is_no_binding_are_not_taken() {
    let mut world = World::new();
    world.ask(register("bob", 1, 600));
    let stored = world.active.partition.bindings(None, world.now);
    assert_eq!(stored.len(), 1);
    let Some(capsule) = world.posted.first().cloned() else { panic!("it was told") };

    let other = Capsule { key: Bytes::from_static(b"another"), ..capsule.clone() };
    let nonsense = Capsule { bytes: Bytes::from_static(b"\xff\xff"), ..capsule.clone() };
    let unknown = Capsule { kind: Kind(200), ..capsule.clone() };

    assert!(copies::read(world.now, capsule).is_ok());
    for wrong in [other, nonsense, unknown] {
        assert!(copies::read(world.now, wrong.clone()).is_err(), "{wrong:?}");
    }
}

const CONTACT: &str = "sip:phone@192.0.2.77:5062";
const INSTANCE: Bytes = Bytes::from_static(b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>");
const LINK: ConnectionNumber = ConnectionNumber(1);
const NUMBER: u16 = 3;
const KEY: DigestKey = DigestKey::new([9; 16]);

struct Node {
    partition: Partition,
    mirror: LeaseMirror,
    saved: Vec<Change>,
}

struct World {
    now: Now,
    active: Node,
    standby: Node,
    holding: Holding,
    sender: Sender,
    receiver: Receiver,
    to_standby: Deframer,
    to_active: Deframer,
    from_sender: Vec<SenderOutput>,
    answers: Vec<Answer>,
    posted: Vec<Capsule>,
}

/// A sender is all that `post` needs.
struct Telling<'a> {
    now: Instant,
    sender: &'a mut Sender,
    out: &'a mut Vec<SenderOutput>,
    posted: &'a mut Vec<Capsule>,
}

impl Replica for Telling<'_> {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        self.posted.push(capsule.clone());
        self.sender.put(self.now, capsule, place, self.out)
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        self.sender.remove(self.now, kind, key, self.out)
    }

    fn everything(&mut self) -> Posted {
        self.sender.everything()
    }
}

impl Node {
    fn new(epoch: u64) -> Self {
        let partition = Partition::new(Arc::new(settings()), Keyring::derive(&RootKey::new([5; 32])), NUMBER);
        Self { partition, mirror: LeaseMirror::until(Instant::FAR, Epoch(epoch)), saved: Vec::new() }
    }

    fn step(&mut self, now: Now, questions: impl IntoIterator<Item = Question>) -> Vec<PartitionOutput> {
        let lease = self.mirror.active(now.instant).expect("it is far from its end");
        let mut out = Vec::new();
        for (question, number) in questions.into_iter().zip(1..) {
            let asker = Asker { shard: 0, token: Token(number) };
            self.partition.handle_question(now, &lease, asker, question, &mut out);
        }
        out
    }

    /// Asks without a replica.
    fn ask(&mut self, now: Now, questions: impl IntoIterator<Item = Question>) -> Vec<Answer> {
        answers_of(self.step(now, questions))
    }

    /// How many bindings end.
    fn let_time_pass(&mut self, now: Now) -> usize {
        let lease = self.mirror.active(now.instant).expect("it is far from its end");
        let mut out = Vec::new();
        self.partition.handle_timeout(now, &lease, &mut out);
        out.iter().filter(|output| matches!(output, PartitionOutput::Save(Change::Remove(_)))).count()
    }
}

impl World {
    fn new() -> Self {
        let [active, standby] = [0, 1].map(|node| Origin { node, incarnation: 100 });
        let mut standing_by = Node::new(9);
        standing_by.partition.stand_by();
        Self {
            now: Now::new(Instant::START, WallTime::from_millis(1_800_000_000_000)),
            active: Node::new(7),
            standby: standing_by,
            holding: Holding::new(NUMBER),
            sender: Sender::new(active, Epoch(7), KEY, Holdings::new()),
            receiver: Receiver::new(standby, KEY, &copies::KNOWN, Epoch(0), Holdings::new()),
            to_standby: Deframer::new(),
            to_active: Deframer::new(),
            from_sender: Vec::new(),
            answers: Vec::new(),
            posted: Vec::new(),
        }
    }

    /// Both are connected, and the standby has all that there is.
    fn equal() -> Self {
        let mut world = Self::new();
        world.connect();
        world.talk();
        assert_eq!(world.sender.ready(), 100);
        world
    }

    fn connect(&mut self) {
        self.sender.connected(self.now.instant, &mut self.from_sender);
    }

    /// Asks the active node; gives what is answered at once.
    fn ask(&mut self, question: Question) -> Vec<Answer> {
        self.ask_all([question])
    }

    fn ask_all(&mut self, questions: impl IntoIterator<Item = Question>) -> Vec<Answer> {
        let mut outputs = self.active.step(self.now, questions);
        let mut waits: Vec<(Ticket, Posted)> = Vec::new();
        let mut telling = Telling {
            now: self.now.instant,
            sender: &mut self.sender,
            out: &mut self.from_sender,
            posted: &mut self.posted,
        };
        copies::post(
            self.now,
            &self.active.partition,
            &mut self.holding,
            &mut telling,
            &mut outputs,
            &mut waits,
        );
        for (ticket, posted) in waits {
            self.sender.wait(self.now.instant, ticket, posted, &mut self.from_sender);
        }
        self.sort();
        answers_of(outputs)
    }

    /// Does what the sender wants, but for what owners are asked.
    fn sort(&mut self) {
        for output in std::mem::take(&mut self.from_sender) {
            match output {
                SenderOutput::Send(bytes) => self.to_standby.push(&bytes),
                SenderOutput::Held(ticket) | SenderOutput::Degraded(ticket, _) => {
                    let (_, answer) = self.holding.handle_settled(ticket).expect("it is held once");
                    self.answers.push(answer);
                }
                SenderOutput::Fetch(wanted) => {
                    let fetch = |wanted| copies::fetch(self.now, &self.active.partition, wanted);
                    let fetched: Vec<Fetched> = wanted.into_iter().map(fetch).collect();
                    self.sender.fetched(self.now.instant, fetched, &mut self.from_sender);
                }
                // When nobody speaks for long.
                SenderOutput::Close(_) => {}
                SenderOutput::Superseded(_) => unreachable!("{output:?}"),
            }
        }
    }

    /// Carries frames until nothing more comes.
    fn talk(&mut self) {
        for _ in 0..500 {
            self.sort();
            let mut out = Vec::new();
            while let Some(frame) = self.to_standby.next_frame().expect("it is whole") {
                self.receiver.handle_frame(self.now.instant, LINK, frame, &mut out);
                for output in std::mem::take(&mut out) {
                    self.carry_out(output);
                }
            }
            self.receiver.acknowledge(&mut out);
            for output in out {
                self.carry_out(output);
            }
            while let Some(frame) = self.to_active.next_frame().expect("it is whole") {
                self.sender.handle_frame(self.now.instant, frame, &mut self.from_sender);
            }
            self.sender.handle_timeout(self.now.instant, &mut self.from_sender);
        }
        self.sort();
    }

    fn carry_out(&mut self, output: ReceiverOutput) {
        let mut saved = Vec::new();
        match output {
            ReceiverOutput::Send(LINK, bytes) => self.to_active.push(&bytes),
            ReceiverOutput::Apply(apply) => {
                let entry = copies::read(self.now, apply.capsule).expect("it is a binding");
                let place = copies::apply(self.now, &mut self.standby.partition, NUMBER, entry, &mut saved);
                self.receiver.placed(apply.name, place.expect("there is room"));
            }
            ReceiverOutput::Remove(kind, place) => {
                copies::remove(&mut self.standby.partition, kind, place, &mut saved);
            }
            ReceiverOutput::Send(..) | ReceiverOutput::Close(..) => unreachable!("{output:?}"),
        }
        for output in saved {
            let PartitionOutput::Save(change) = output else {
                unreachable!("a standby sends nothing: {output:?}")
            };
            self.standby.saved.push(change);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now::new(self.now.instant + time, self.now.wall + time);
        self.sender.handle_timeout(self.now.instant, &mut self.from_sender);
        self.sort();
    }

    fn is_equal(&mut self) -> bool {
        self.pass(Duration::from_secs(2));
        self.talk();
        self.sender.counts().differed == 0 && self.sender.ready() == 100
    }

    fn take_answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.answers)
    }

    fn standby_saves(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.standby.saved)
    }

    fn standby_contacts(&self, user: &str) -> Vec<Bytes> {
        let bindings = self.standby.partition.bindings(Some(&aor(user)), self.now);
        bindings.into_iter().map(|binding| binding.contact).collect()
    }
}

fn answers_of(outputs: Vec<PartitionOutput>) -> Vec<Answer> {
    let answer = |output| match output {
        PartitionOutput::Answer { answer, .. } => Some(answer),
        _ => None,
    };
    outputs.into_iter().filter_map(answer).collect()
}

fn register(user: &str, cseq: u32, expires: u32) -> Question {
    let remote = RemoteAddr("192.0.2.77:5062".parse().expect("an address"));
    Question::Register(Box::new(Register {
        authority: Authority::Here,
        aor: aor(user),
        source: Source {
            flow: Flow::Datagram { listener: ListenerId(0), remote },
            transport: Transport::Udp,
        },
        contacts: Contacts::Update(vec![wish(CONTACT, expires)]),
        expires: None,
        path: Vec::new(),
        call_id: Bytes::from_static(b"register"),
        cseq,
        user_agent: None,
        nat: true,
        outbound: false,
        gruu: false,
        response_hash: u64::from(cseq),
        right: RegisterRight::Proved,
    }))
}

fn wish(contact: &'static str, expires: u32) -> ContactUpdate {
    let uri = Bytes::from_static(contact.as_bytes());
    ContactUpdate { uri, q: None, expires: Some(expires), instance: None, reg_id: None }
}

fn aor(user: &str) -> Aor {
    Aor::parse(&format!("{user}@example.org")).expect("an address of record")
}

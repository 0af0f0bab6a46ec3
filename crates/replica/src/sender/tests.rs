use bytes::Bytes;

use super::*;
use crate::frame::{FRAME_BYTES_MAX, KindVerdict, List};
use crate::framing::Deframer;
use crate::greeting::{Refusal, welcome};

const ME: Origin = Origin { node: 0, incarnation: 1 };
const PEER: Origin = Origin { node: 1, incarnation: 2 };
const KEY: DigestKey = DigestKey::new([3; 16]);
const KIND: Kind = Kind(1);

#[test]
fn without_a_peer_nobody_waits() {
    let mut scene = Scene::alone();

    let posted = scene.put("a", 10);

    assert_eq!(scene.wait(1, posted), [Output::Degraded(Ticket(1), Cause::NoPeer)]);
    assert_eq!(scene.wait_for_everything(2), [Output::Degraded(Ticket(2), Cause::NoPeer)]);
    assert_eq!(scene.sender.poll_timeout(), None);
}

#[test]
fn who_waits_is_told_when_the_peer_has_it_and_not_before() {
    let mut scene = Scene::equal();
    let posted = scene.put("a", 10);
    let number = scene.sender.stream.last();

    assert_eq!(scene.wait(1, posted), []);
    assert_eq!(scene.ack(number - 1, &[]), []);
    assert_eq!(scene.ack(number, &[]), [Output::Held(Ticket(1))]);
    assert_eq!(scene.wait(2, posted), [Output::Held(Ticket(2))]);
}

#[test]
fn a_wait_ends_after_five_milliseconds() {
    let mut scene = Scene::equal();
    let posted = scene.put("a", 10);
    scene.wait(1, posted);

    assert_eq!(scene.sender.poll_timeout(), Some(scene.now + WAIT_MAX));
    assert_eq!(scene.pass(WAIT_MAX), [Output::Degraded(Ticket(1), Cause::Late)]);
    assert_eq!(scene.ack(scene.sender.stream.last(), &[]), []);
}

#[test]
fn a_peer_that_is_slow_already_is_not_waited_for() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);
    scene.pass(SLOW_AFTER + WAIT_MAX);
    let posted = scene.put("b", 10);

    assert_eq!(scene.wait(1, posted), [Output::Degraded(Ticket(1), Cause::Late)]);
}

#[test]
fn what_the_peer_refused_is_not_held_whoever_asks_first() {
    let mut scene = Scene::equal();
    let (one, other) = (scene.put("a", 10), scene.put("b", 10));
    let number = scene.sender.stream.last();
    let both = one.and(other);

    assert_eq!(scene.wait(1, both), []);
    assert_eq!(scene.ack(number, &[number - 1]), [Output::Degraded(Ticket(1), Cause::Refused)]);
    assert_eq!(scene.wait(2, both), [Output::Degraded(Ticket(2), Cause::Refused)]);
    assert_eq!(scene.wait(3, other), [Output::Held(Ticket(3))]);
    assert_eq!(scene.wait_for_everything(4), [Output::Degraded(Ticket(4), Cause::NotEqual)]);
}

#[test]
fn what_was_sent_over_a_lost_connection_is_not_held_by_the_next_one() {
    let mut scene = Scene::equal();
    let posted = scene.put("a", 10);
    assert_eq!(scene.wait(1, posted), []);

    let lost = scene.act(|sender, _, out| sender.disconnected(out));
    scene.connect();
    scene.agree();

    assert_eq!(lost, [Output::Degraded(Ticket(1), Cause::Lost)]);
    assert_eq!(scene.wait(2, posted), [Output::Degraded(Ticket(2), Cause::Lost)]);
    assert_eq!(scene.wait_for_everything(3), [Output::Held(Ticket(3))]);
}

#[test]
fn a_standstill_costs_the_window_and_no_more() {
    let mut scene = Scene::equal();
    let mut sent = 0;
    for number in 0..200 {
        let mut out = Vec::new();
        let capsule = capsule(&format!("key {number}"), 100_000);
        let _ = scene.sender.put(scene.now, capsule, PLACE, &mut out);
        sent += bytes_of(&out);
    }
    let posted = scene.put("last", 1);

    assert!((3 << 20..(4 << 20) + FRAME_BYTES_MAX).contains(&sent), "{sent}");
    assert_eq!(scene.wait(1, posted), [Output::Degraded(Ticket(1), Cause::Stale)]);
    assert_eq!((scene.sender.counts().stale, scene.sender.ready()), (1, 0));
}

#[test]
fn a_stale_peer_is_compared_with_as_soon_as_it_has_caught_up() {
    let mut scene = Scene::equal();
    for number in 0..200 {
        let _ = scene.put(&format!("key {number}"), 100_000);
    }
    let last = scene.sender.stream.last();

    assert_eq!(scene.ack(last - 1, &[]), []);
    let out = scene.ack(last, &[]);

    assert!(matches!(bodies(&out)[..], [Body::Check(_)]), "{out:?}");
    let posted = scene.put("a", 1);
    assert_eq!(scene.wait(1, posted), []);
}

#[test]
fn only_what_differs_is_fetched_and_sent() {
    let mut scene = Scene::equal();
    for number in 0..300 {
        let _ = scene.put(&format!("key {number}"), 10);
    }
    let changed = scene.name("key 7");
    let bucket = crate::digest::bucket_of(changed.hash);
    scene.pass(CHECK_EVERY);

    let out = scene.verdict(&[bucket as u32]);
    let [Body::Ask(ask)] = &bodies(&out)[..] else { panic!("{out:?}") };
    let theirs: Vec<(u64, u64)> = scene
        .sender
        .holdings
        .range(KIND, ask.first, ask.last)
        .map(|(hash, entry)| (hash, if hash == changed.hash { 1 } else { entry.stamp }))
        .chain([(ask.last, 5)])
        .collect();
    let out = scene.list(ask.first, ask.last, &theirs);

    let Some(Output::Fetch(wanted)) = out.last() else { panic!("{out:?}") };
    assert_eq!(wanted.iter().map(|wanted| wanted.name).collect::<Vec<_>>(), [changed]);
    let [Body::Remove(remove)] = &bodies(&out)[..] else { panic!("{out:?}") };
    assert_eq!(remove.hash, ask.last);
    let out = scene.fetched(wanted[0], Some(capsule("key 7", 10)));
    // It looks at once whether that was all.
    assert!(matches!(bodies(&out)[..], [Body::Put(_), Body::Check(_)]), "{out:?}");
}

#[test]
fn a_piece_that_has_changed_while_it_was_fetched_is_not_sent() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);
    scene.pass(CHECK_EVERY);
    let out = scene.differ_in("a");
    let Some(Output::Fetch(wanted)) = out.last() else { panic!("{out:?}") };
    let wanted = wanted[0];

    let _ = scene.put("a", 20);
    let out = scene.fetched(wanted, Some(capsule("a", 10)));

    assert!(!bodies(&out).iter().any(|body| matches!(body, Body::Put(_))), "{out:?}");
    assert_eq!(scene.sender.counts().outdated, 1);
}

#[test]
fn an_entry_that_its_owner_does_not_have_is_removed_there_too() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);
    scene.pass(CHECK_EVERY);
    let out = scene.differ_in("a");
    let Some(Output::Fetch(wanted)) = out.last() else { panic!("{out:?}") };

    let out = scene.fetched(wanted[0], None);

    assert!(matches!(bodies(&out)[..], [Body::Remove(_), Body::Check(_)]), "{out:?}");
    assert_eq!(scene.sender.holdings().count(KIND), 0);
}

#[test]
fn lies_end_the_connection() {
    let last = |scene: &Scene| scene.sender.stream.last();
    let ack = |through, refused: &[u64]| Body::Ack(Ack { through, refused: refused.to_vec() });
    let verdict = |number, kinds| Body::Verdict(Verdict { number, kinds, skipped: 0 });
    let judged = |kind, differing: &[u32]| KindVerdict { kind, count: 0, differing: differing.to_vec() };
    type Lie<'a> = (CloseCause, Box<dyn Fn(&Scene) -> Body + 'a>);
    let round = |scene: &Scene| scene.sender.round;
    let lies: Vec<Lie<'_>> = vec![
        (CloseCause::WrongSequence, Box::new(|scene| ack(last(scene) + 1, &[]))),
        (CloseCause::WrongSequence, Box::new(|_| ack(0, &[]))),
        (CloseCause::WrongSequence, Box::new(|scene| ack(last(scene), &[last(scene) + 1]))),
        (CloseCause::WrongSequence, Box::new(|scene| ack(last(scene), &[last(scene), last(scene)]))),
        (CloseCause::Malformed, Box::new(|scene| verdict(round(scene), vec![]))),
        (CloseCause::Malformed, Box::new(|scene| verdict(round(scene), vec![judged(2, &[])]))),
        (CloseCause::Malformed, Box::new(|scene| verdict(round(scene), vec![judged(1, &[1024])]))),
        (CloseCause::Malformed, Box::new(|scene| verdict(round(scene), vec![judged(1, &[5, 5])]))),
        (CloseCause::Malformed, Box::new(|_| Body::Welcome(Welcome::default()))),
        (CloseCause::Malformed, Box::new(|_| Body::Put(Put::default()))),
    ];
    for (number, (cause, lie)) in lies.iter().enumerate() {
        let mut scene = Scene::equal();
        let _ = scene.put("a", 10);
        scene.pass(CHECK_EVERY);
        let lie = lie(&scene);
        let out = scene.hear(0, lie);

        assert_eq!(out.first(), Some(&Output::Close(*cause)), "lie {number}");
        assert_eq!(scene.sender.ready(), 0);
    }
}

#[test]
fn a_list_that_is_no_answer_ends_the_connection() {
    let lies: [fn(&mut List); 6] = [
        |list| list.first += 1,
        |list| list.kind = 2,
        |list| list.through = u64::MAX,
        |list| (list.hashes, list.stamps) = (vec![list.through, list.first], vec![1, 1]),
        |list| list.hashes = vec![list.first],
        |list| list.through = list.first.wrapping_sub(1),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let mut scene = Scene::equal();
        let _ = scene.put("a", 10);
        scene.pass(CHECK_EVERY);
        let out = scene.verdict(&[1]);
        let [Body::Ask(ask)] = &bodies(&out)[..] else { panic!("{out:?}") };
        let mut list = List { kind: 1, first: ask.first, through: ask.last, ..List::default() };
        lie(&mut list);

        assert_eq!(scene.hear(0, Body::List(list)), [Output::Close(CloseCause::Malformed)], "lie {number}");
    }
}

#[test]
fn a_peer_that_never_agrees_costs_less_and_less() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);
    let (mut checks, begun_at) = (0, scene.now);
    while scene.now.since(begun_at) < Duration::from_secs(600) {
        scene.acknowledge_all();
        let due = scene.sender.poll_timeout().unwrap();
        let mut out = scene.pass(due.since(scene.now));
        while let Some(body) = bodies(&out).into_iter().next_back() {
            match body {
                Body::Check(_) => {
                    checks += 1;
                    out = scene.verdict(&[0]);
                }
                Body::Ask(ask) => out = scene.list(ask.first, ask.last, &[]),
                _ => break,
            }
        }
    }

    assert!((5..30).contains(&checks), "{checks} comparisons in ten minutes");
}

#[test]
fn a_raised_epoch_is_told_and_ends_no_wait_and_greets_the_next_peer() {
    let mut scene = Scene::equal();
    let posted = scene.put("a", 10);
    let number = scene.sender.stream.last();
    assert_eq!(scene.wait(1, posted), []);

    let out = scene.act(|sender, now, out| sender.raise(now, Epoch(7), out));
    assert!(matches!(&bodies(&out)[..], [Body::Raise(raise)] if raise.epoch == 7), "{out:?}");

    assert_eq!(scene.ack(number, &[]), [Output::Held(Ticket(1))]);
    let _ = scene.put("b", 10);
    let stamp = scene.sender.holdings.entry(scene.name("b")).map(|entry| entry.stamp);
    assert_eq!(
        stamp,
        Some(KEY.stamp(3, 2, &capsule("b", 10))),
        "as the peer marks it, which knows of no other epoch"
    );
    let out = scene.act(|sender, now, out| sender.connected(now, out));
    assert!(matches!(&bodies(&out)[..], [Body::Hello(hello)] if hello.epoch == 7), "{out:?}");
}

#[test]
fn an_epoch_that_is_raised_before_the_peer_lets_the_node_in_is_told_then() {
    let mut scene = Scene::alone();
    scene.act(|sender, now, out| sender.connected(now, out));
    assert_eq!(scene.act(|sender, now, out| sender.raise(now, Epoch(7), out)), []);

    let out = scene.hear_frame(welcome(PEER, Epoch(3), None, vec![1]));

    let told = bodies(&out);
    assert!(matches!(told.first(), Some(Body::Raise(raise)) if raise.epoch == 7), "{told:?}");
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);

    assert_eq!(scene.pass(SILENCE_MAX), [Output::Close(CloseCause::Silent)]);
    assert_eq!(scene.sender.view(scene.now).peer, None);
}

#[test]
fn a_peer_that_knows_a_higher_epoch_ends_it() {
    let mut scene = Scene::alone();
    scene.act(|sender, now, out| sender.connected(now, out));

    let out = scene.hear_frame(welcome(PEER, Epoch(9), Some(Refusal::OldEpoch), vec![]));

    assert_eq!(out, [Output::Superseded(Epoch(9)), Output::Close(CloseCause::Refused(Refusal::OldEpoch))]);
}

#[test]
fn a_capsule_that_is_too_long_is_not_sent_and_takes_the_earlier_one_away() {
    let mut scene = Scene::equal();
    let _ = scene.put("a", 10);
    let mut out = Vec::new();

    let posted = scene.sender.put(scene.now, capsule("a", CAPSULE_BYTES_MAX), PLACE, &mut out);

    assert!(matches!(bodies(&out)[..], [Body::Remove(_)]), "{out:?}");
    assert_eq!(scene.wait(1, posted), [Output::Degraded(Ticket(1), Cause::TooLong)]);
}

#[test]
fn the_longest_capsule_fits_into_a_frame() {
    let mut scene = Scene::equal();
    let mut out = Vec::new();

    let _ = scene.sender.put(scene.now, capsule("", CAPSULE_BYTES_MAX), PLACE, &mut out);

    let [Output::Send(bytes)] = &out[..] else { panic!("{} outputs", out.len()) };
    assert!(bytes.len() <= CAPSULE_BYTES_MAX + HEAD_BYTES_MAX);
}

#[test]
fn a_frame_of_a_later_version_is_skipped() {
    let mut scene = Scene::equal();

    assert_eq!(scene.hear_frame(Frame { sequence: 0, body: None }), []);
    assert_eq!(scene.sender.counts().skipped, 1);
}

const PLACE: Place = Place { owner: 0, number: 1 };

struct Scene {
    sender: Sender,
    now: Instant,
}

impl Scene {
    fn alone() -> Self {
        let sender = Sender::new(ME, Epoch(3), KEY, Holdings::new());
        Self { sender, now: Instant::START + Duration::from_secs(100) }
    }

    /// The peer is there and has the same.
    fn equal() -> Self {
        let mut scene = Self::alone();
        scene.connect();
        scene.agree();
        assert_eq!(scene.sender.ready(), 100);
        scene
    }

    fn connect(&mut self) {
        self.act(|sender, now, out| sender.connected(now, out));
        self.hear_frame(welcome(PEER, Epoch(3), None, vec![1]));
    }

    fn agree(&mut self) {
        self.verdict(&[]);
        self.acknowledge_all();
    }

    fn put(&mut self, key: &str, length: usize) -> Posted {
        self.sender.put(self.now, capsule(key, length), PLACE, &mut Vec::new())
    }

    fn name(&self, key: &str) -> Name {
        self.sender.name(&capsule(key, 0))
    }

    fn wait(&mut self, ticket: u64, posted: Posted) -> Vec<Output> {
        self.act(|sender, now, out| sender.wait(now, Ticket(ticket), posted, out))
    }

    fn wait_for_everything(&mut self, ticket: u64) -> Vec<Output> {
        let everything = self.sender.everything();
        self.wait(ticket, everything)
    }

    fn ack(&mut self, through: u64, refused: &[u64]) -> Vec<Output> {
        self.hear(0, Body::Ack(Ack { through, refused: refused.to_vec() }))
    }

    fn acknowledge_all(&mut self) -> Vec<Output> {
        self.ack(self.sender.stream.last(), &[])
    }

    fn verdict(&mut self, differing: &[u32]) -> Vec<Output> {
        let kinds = vec![KindVerdict { kind: 1, count: 1, differing: differing.to_vec() }];
        self.hear(0, Body::Verdict(Verdict { number: self.sender.round, kinds, skipped: 0 }))
    }

    fn list(&mut self, first: u64, through: u64, entries: &[(u64, u64)]) -> Vec<Output> {
        let (hashes, stamps) = entries.iter().copied().unzip();
        self.hear(0, Body::List(List { kind: 1, first, through, hashes, stamps }))
    }

    /// The peer has nothing in the bucket of this key.
    fn differ_in(&mut self, key: &str) -> Vec<Output> {
        let bucket = crate::digest::bucket_of(self.name(key).hash);
        let out = self.verdict(&[bucket as u32]);
        let [Body::Ask(ask)] = &bodies(&out)[..] else { panic!("{out:?}") };
        self.list(ask.first, ask.last, &[])
    }

    fn fetched(&mut self, wanted: Wanted, capsule: Option<Capsule>) -> Vec<Output> {
        self.act(|sender, now, out| sender.fetched(now, vec![Fetched { wanted, capsule }], out))
    }

    fn hear(&mut self, sequence: u64, body: Body) -> Vec<Output> {
        self.hear_frame(Frame { sequence, body: Some(body) })
    }

    fn hear_frame(&mut self, frame: Frame) -> Vec<Output> {
        self.act(|sender, now, out| sender.handle_frame(now, frame, out))
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.act(|sender, now, out| sender.handle_timeout(now, out))
    }

    fn act(&mut self, act: impl FnOnce(&mut Sender, Instant, &mut Vec<Output>)) -> Vec<Output> {
        let mut out = Vec::new();
        act(&mut self.sender, self.now, &mut out);
        out
    }
}

fn capsule(key: &str, length: usize) -> Capsule {
    Capsule {
        kind: KIND,
        format: 1,
        key: Bytes::copy_from_slice(key.as_bytes()),
        bytes: vec![b'x'; length].into(),
        left: Duration::from_secs(60),
    }
}

fn bodies(out: &[Output]) -> Vec<Body> {
    let mut deframer = Deframer::new();
    let mut bodies = Vec::new();
    for output in out {
        let Output::Send(bytes) = output else { continue };
        deframer.push(bytes);
        while let Some(frame) = deframer.next_frame().unwrap() {
            bodies.extend(frame.body);
        }
    }
    bodies
}

fn bytes_of(out: &[Output]) -> usize {
    let sent = |output: &Output| match output {
        Output::Send(bytes) => bytes.len(),
        _ => 0,
    };
    out.iter().map(sent).sum()
}

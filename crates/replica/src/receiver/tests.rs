use super::*;
use crate::frame::{KindSums, Raise};
use crate::framing::Deframer;
use crate::greeting::hello;

const ME: Origin = Origin { node: 1, incarnation: 2 };
const ACTIVE: Origin = Origin { node: 0, incarnation: 1 };
const KEY: DigestKey = DigestKey::new([3; 16]);
const KIND: Kind = Kind(1);
const CONNECTION: ConnectionNumber = ConnectionNumber(1);

#[test]
fn what_is_applied_is_acknowledged_after_it() {
    let mut scene = Scene::open();

    let out = scene.hear(1, put("a", 1, 1));
    let [Output::Apply(apply)] = &out[..] else { panic!("{out:?}") };
    assert_eq!((&apply.capsule.key[..], apply.capsule.left), (&b"a"[..], Duration::from_millis(1_500)));
    assert_eq!(apply.before, None);
    scene.receiver.placed(apply.name, PLACE);

    assert_eq!(scene.acknowledge(), [Body::Ack(Ack { through: 1, refused: vec![] })]);
    assert_eq!(scene.acknowledge(), []);
}

#[test]
fn an_owner_is_told_where_the_earlier_version_is_and_what_is_to_be_removed() {
    let mut scene = Scene::open();
    scene.put_and_place(1, "a");

    let out = scene.hear(2, put("a", 2, 1));
    let [Output::Apply(apply)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(apply.before, Some(PLACE));
    let other = Place { owner: 1, number: 9 };
    scene.receiver.placed(apply.name, other);

    assert_eq!(scene.hear(3, removal("a")), [Output::Remove(KIND, other)]);
    assert_eq!(scene.hear(4, removal("a")), []);
}

#[test]
fn what_an_owner_refuses_is_told_and_differs() {
    let mut scene = Scene::open();
    scene.put_and_place(1, "a");
    let sum = scene.receiver.holdings().sum(KIND);
    let out = scene.hear(2, put("a", 2, 1));
    let [Output::Apply(apply)] = &out[..] else { panic!("{out:?}") };
    scene.receiver.refused(apply.name);

    assert_eq!(scene.acknowledge(), [Body::Ack(Ack { through: 2, refused: vec![2] })]);
    assert_ne!(scene.receiver.holdings().sum(KIND), sum);
    // The owner still has the earlier one, and it can be removed.
    assert_eq!(scene.hear(3, removal("a")), [Output::Remove(KIND, PLACE)]);
}

#[test]
fn what_an_owner_changes_by_itself_differs_and_can_be_removed() {
    let mut scene = Scene::open();
    scene.put_and_place(1, "a");
    scene.put_and_place(2, "b");
    let (sum, other) = (scene.receiver.holdings().sum(KIND), Place { owner: 1, number: 9 });

    scene.receiver.diverged(KIND, b"a", Some(other));
    assert_ne!(scene.receiver.holdings().sum(KIND), sum);
    assert_eq!(scene.hear(3, removal("a")), [Output::Remove(KIND, other)]);

    scene.receiver.diverged(KIND, b"b", None);
    assert_eq!(scene.receiver.holdings().count(KIND), 0);
    assert_eq!(scene.hear(4, removal("b")), []);
}

#[test]
fn an_active_node_that_counts_beyond_all_numbers_is_not_equal_and_hurts_nobody() {
    let mut scene = Scene::open();
    let sums = |kind| KindSums { kind, count: u64::MAX, sums: vec![1; BUCKETS] };
    let check = Check { number: 1, kinds: vec![sums(1), sums(2)] };

    let out = scene.hear(1, Body::Check(check));

    assert!(matches!(&bodies(&out)[..], [Body::Verdict(_)]), "{out:?}");
    assert_eq!(scene.receiver.ready(scene.now), 0);
}

#[test]
fn a_gap_in_the_stream_ends_the_connection() {
    for wrong in [0, 1, 3, u64::MAX] {
        let mut scene = Scene::open();
        scene.put_and_place(1, "a");

        let out = scene.hear(wrong, put("b", 2, 1));

        assert_eq!(out, [Output::Close(CONNECTION, CloseCause::WrongSequence)]);
        assert_eq!(scene.receiver.holdings().count(KIND), 1);
    }
}

#[test]
fn a_node_with_a_lower_epoch_is_turned_away_and_told_the_higher_one() {
    let mut scene = Scene::open();
    let other = ConnectionNumber(2);

    let out = scene.greet(other, Origin { node: 0, incarnation: 8 }, 4);

    assert_eq!(out.last(), Some(&Output::Close(other, CloseCause::Refused(Refusal::OldEpoch))));
    let [Body::Welcome(welcome)] = &bodies(&out)[..] else { panic!("{out:?}") };
    assert_eq!(welcome.epoch, 5);
    // The one that is heard is not disturbed.
    scene.put_and_place(1, "a");
}

#[test]
fn another_node_with_the_same_epoch_is_turned_away() {
    let mut scene = Scene::open();
    let other = ConnectionNumber(2);

    let out = scene.greet(other, Origin { node: 2, incarnation: 8 }, 5);

    assert_eq!(out.last(), Some(&Output::Close(other, CloseCause::Refused(Refusal::OtherHolder))));
}

#[test]
fn another_start_of_the_same_node_is_heard_under_the_same_epoch() {
    let mut scene = Scene::open();
    let (other, again) = (ConnectionNumber(2), Origin { node: 0, incarnation: 8 });

    let out = scene.greet(other, again, 5);

    assert_eq!(out.last(), Some(&Output::Close(CONNECTION, CloseCause::Silent)));
    assert_eq!(scene.receiver.view(scene.now).active, Some(again));
    let applied = scene.hear_by(other, 1, put("a", 1, 1));
    assert!(matches!(&applied[..], [Output::Apply(_)]), "{applied:?}");
}

#[test]
fn the_same_node_comes_again_by_another_connection() {
    let mut scene = Scene::open();
    let other = ConnectionNumber(2);

    let out = scene.greet(other, ACTIVE, 5);

    assert_eq!(out.last(), Some(&Output::Close(CONNECTION, CloseCause::Silent)));
    let out = scene.hear_by(CONNECTION, 1, put("a", 1, 1));
    assert_eq!(out, [Output::Close(CONNECTION, CloseCause::Malformed)]);
    assert!(matches!(scene.hear_by(other, 1, put("a", 1, 1))[..], [Output::Apply(_)]));
}

#[test]
fn an_epoch_that_the_active_node_raises_turns_away_whoever_speaks_under_one_between() {
    let mut scene = Scene::open();

    assert_eq!(scene.hear(1, Body::Raise(Raise { epoch: 7 })), []);

    let other = ConnectionNumber(3);
    let out = scene.greet(other, ACTIVE, 6);
    assert_eq!(out.last(), Some(&Output::Close(other, CloseCause::Refused(Refusal::OldEpoch))));
    // What it says is marked as before.
    let out = scene.hear(2, put("a", 1, 1));
    let [Output::Apply(apply)] = &out[..] else { panic!("{out:?}") };
    let stamp = scene.receiver.holdings.entry(apply.name).map(|entry| entry.stamp);
    assert_eq!(stamp, Some(KEY.stamp(5, 1, &apply.capsule)));
}

#[test]
fn who_does_not_say_who_it_is_is_not_heard() {
    let mut scene = Scene::open();
    let stranger = ConnectionNumber(7);

    let out = scene.hear_by(stranger, 1, put("a", 1, 1));

    assert_eq!(out, [Output::Close(stranger, CloseCause::Malformed)]);
    scene.put_and_place(1, "a");
}

#[test]
fn an_unknown_kind_is_skipped_and_an_unknown_format_keeps_ready_below_a_hundred() {
    let mut scene = Scene::open();
    scene.put_and_place(1, "a");

    assert_eq!(scene.hear(2, Body::Put(Put { kind: 77, ..Put::default() })), []);
    // The version that was understood is not true any more.
    assert_eq!(scene.hear(3, put("a", 2, 99)), [Output::Remove(KIND, PLACE)]);
    assert_eq!(scene.hear_frame(Frame { sequence: 4, body: None }), []);

    let counts = *scene.receiver.counts();
    assert_eq!((counts.unknown, counts.skipped), (2, 1));
    let sums = scene.receiver.holdings().sums(KIND);
    let out = scene.hear(5, check(1, sums));
    let [Body::Verdict(verdict)] = &bodies(&out)[..] else { panic!("{out:?}") };
    assert_eq!((verdict.skipped, &verdict.kinds[0].differing[..]), (1, &[][..]));
    assert_eq!(scene.receiver.ready(scene.now), 99);
}

#[test]
fn a_verdict_names_what_differs() {
    let mut scene = Scene::open();
    scene.put_and_place(1, "a");
    let bucket = crate::digest::bucket_of(KEY.name(KIND, b"a"));
    let mut sums = scene.receiver.holdings().sums(KIND);
    scene.hear(2, check(1, sums.clone()));
    assert_eq!(scene.receiver.ready(scene.now), 100);
    sums[bucket] ^= 1;

    let out = scene.hear(3, check(2, sums));

    let [Body::Verdict(verdict)] = &bodies(&out)[..] else { panic!("{out:?}") };
    assert_eq!((verdict.number, &verdict.kinds[0].differing[..]), (2, &[bucket as u32][..]));
    assert!(scene.receiver.ready(scene.now) < 100);
}

#[test]
fn what_was_compared_long_ago_is_not_ready() {
    let mut scene = Scene::open();
    let sums = scene.receiver.holdings().sums(KIND);
    scene.hear(1, check(1, sums));
    scene.receiver.disconnected(CONNECTION);

    assert_eq!(scene.receiver.ready(scene.now), 100);
    assert_eq!(scene.receiver.ready(scene.now + COMPARED_MAX), 0);
}

#[test]
fn what_was_missed_while_away_is_not_ready_before_it_is_compared() {
    let mut scene = Scene::open();
    let sums = scene.receiver.holdings().sums(KIND);
    scene.hear(1, check(1, sums.clone()));
    scene.receiver.disconnected(CONNECTION);
    let again = ConnectionNumber(2);

    scene.greet(again, ACTIVE, 5);
    assert_eq!(scene.receiver.ready(scene.now), 0);

    scene.hear_by(again, 1, check(2, sums));
    assert_eq!(scene.receiver.ready(scene.now), 100);
}

#[test]
fn a_long_list_comes_in_parts_that_join() {
    let mut scene = Scene::open();
    for hash in 0..LIST_MAX as u64 + 10 {
        scene
            .receiver
            .holdings
            .put(Name { kind: KIND, hash: hash * 2 }, Entry { stamp: hash, place: Some(PLACE) });
    }
    let mut found = Vec::new();
    let (mut first, mut sequence) = (0, 1);
    loop {
        let out = scene.hear(sequence, Body::Ask(Ask { kind: 1, first, last: 1 << 50, ready: 5 }));
        let [Body::List(list)] = &bodies(&out)[..] else { panic!("{out:?}") };
        found.extend(list.hashes.iter().copied());
        if list.through == 1 << 50 {
            break;
        }
        (first, sequence) = (list.through + 1, sequence + 1);
    }

    assert_eq!((found.len(), found.is_sorted(), sequence), (LIST_MAX + 10, true, 2));
}

#[test]
fn nonsense_ends_the_connection() {
    let lies = [
        Body::Put(Put { kind: 256, ..Put::default() }),
        Body::Remove(Remove { kind: 256, hash: 1 }),
        Body::Ask(Ask { kind: 1, first: 2, last: 1, ready: 0 }),
        check(1, vec![0; BUCKETS - 1]),
        Body::Check(Check { number: 1, kinds: vec![KindSums::default(); KINDS_MAX + 1] }),
        Body::Ack(Ack::default()),
        Body::Hello(Hello::default()),
    ];
    for lie in lies {
        let mut scene = Scene::open();

        let out = scene.hear(1, lie.clone());

        assert_eq!(out, [Output::Close(CONNECTION, CloseCause::Malformed)], "{lie:?}");
    }
}

#[test]
fn many_frames_are_acknowledged_before_the_batch_ends() {
    let mut scene = Scene::open();
    let mut acknowledged = 0;
    for sequence in 1..=2 * UNACKNOWLEDGED_MAX + 2 {
        let out = scene.hear(sequence, removal("a"));
        acknowledged += bodies(&out).len();
    }

    assert_eq!(acknowledged, 2);
}

#[test]
fn a_silent_active_node_is_given_up() {
    let mut scene = Scene::open();
    let mut out = Vec::new();

    scene.receiver.handle_timeout(scene.now + SILENCE_MAX, &mut out);

    assert_eq!(out, [Output::Close(CONNECTION, CloseCause::Silent)]);
    assert_eq!(scene.receiver.poll_timeout(), None);
}

const PLACE: Place = Place { owner: 1, number: 5 };

struct Scene {
    receiver: Receiver,
    now: Instant,
}

impl Scene {
    fn open() -> Self {
        let known = [Known { kind: KIND, format_max: 1 }];
        let receiver = Receiver::new(ME, KEY, &known, Epoch(0), Holdings::new());
        let mut scene = Self { receiver, now: Instant::START + Duration::from_secs(100) };
        let out = scene.greet(CONNECTION, ACTIVE, 5);
        let [Body::Welcome(welcome)] = &bodies(&out)[..] else { panic!("{out:?}") };
        assert_eq!((welcome.refusal, &welcome.kinds[..]), (0, &[1][..]));
        scene
    }

    fn greet(&mut self, connection: ConnectionNumber, from: Origin, epoch: u64) -> Vec<Output> {
        let mut out = Vec::new();
        let hello = hello(from, Epoch(epoch), &KEY, 1);
        self.receiver.handle_frame(self.now, connection, hello, &mut out);
        out
    }

    fn put_and_place(&mut self, sequence: u64, key: &str) {
        let out = self.hear(sequence, put(key, 1, 1));
        let [Output::Apply(apply)] = &out[..] else { panic!("{out:?}") };
        self.receiver.placed(apply.name, PLACE);
    }

    fn hear(&mut self, sequence: u64, body: Body) -> Vec<Output> {
        self.hear_by(CONNECTION, sequence, body)
    }

    fn hear_by(&mut self, connection: ConnectionNumber, sequence: u64, body: Body) -> Vec<Output> {
        let mut out = Vec::new();
        let frame = Frame { sequence, body: Some(body) };
        self.receiver.handle_frame(self.now, connection, frame, &mut out);
        out
    }

    fn hear_frame(&mut self, frame: Frame) -> Vec<Output> {
        let mut out = Vec::new();
        self.receiver.handle_frame(self.now, CONNECTION, frame, &mut out);
        out
    }

    fn acknowledge(&mut self) -> Vec<Body> {
        let mut out = Vec::new();
        self.receiver.acknowledge(&mut out);
        bodies(&out)
    }
}

fn put(key: &str, version: u64, format: u32) -> Body {
    let (key, bytes) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::from_static(b"content"));
    Body::Put(Put { kind: 1, format, key, version, bytes, left_ms: 1_500 })
}

fn removal(key: &str) -> Body {
    Body::Remove(Remove { kind: 1, hash: KEY.name(KIND, key.as_bytes()) })
}

fn check(number: u64, sums: Vec<u64>) -> Body {
    Body::Check(Check { number, kinds: vec![KindSums { kind: 1, count: 1, sums }] })
}

fn bodies(out: &[Output]) -> Vec<Body> {
    let mut deframer = Deframer::new();
    let mut bodies = Vec::new();
    for output in out {
        let Output::Send(_, bytes) = output else { continue };
        deframer.push(bytes);
        while let Some(frame) = deframer.next_frame().unwrap() {
            bodies.extend(frame.body);
        }
    }
    bodies
}

use std::collections::BTreeMap;

use engine::PeerView;
use engine::copies::read_record;
use lease::Epoch;
use replica::{Capsule, Kind, Place, Posted, Ticket};

use super::super::tests::record;
use super::*;

#[test]
fn what_is_owed_is_with_the_other_node_until_it_is_in_the_database() {
    let (held, there) = active();
    let lines: Vec<Line> = (1..=3).map(line).collect();
    for line in &lines {
        owe(&held, line);
    }
    assert_eq!(there.ids(), [1, 2, 3]);

    held.written(&[&lines[0], &lines[2]]);

    assert_eq!(there.ids(), [2]);
    assert!(held.fetch(number(2)).is_some() && held.fetch(number(1)).is_none());
}

#[test]
fn a_node_that_becomes_active_writes_what_it_held_once_and_takes_it_back_when_it_is_written() {
    let there = Arc::new(There::default());
    let held = Held::default();
    held.attach(there.clone());
    assert!(held.hold(1, bytes(&line(1))) && held.hold(2, bytes(&line(2))));
    held.let_go(number(2));
    let _posted = there.put(record_capsule(1, bytes(&line(1))), place_of_record(1));

    assert_eq!(held.became_active(), [bytes(&line(1))]);
    assert_eq!(held.became_active(), [] as [Bytes; 0], "they are in its files");
    held.written(&[&line(1)]);

    assert_eq!(there.ids(), [] as [u128; 0]);
}

#[test]
fn a_standby_that_has_written_its_own_leaves_it_to_the_active_node_to_say_so() {
    let (held, there) = active();
    owe(&held, &line(1));
    held.stood_by();
    held.written(&[&line(1)]);
    assert_eq!(there.ids(), [1], "the active node owes it still");

    held.became_active();

    assert_eq!(there.ids(), [] as [u128; 0]);
}

#[test]
fn what_stood_in_the_files_at_the_start_is_told_when_the_node_is_active() {
    let there = Arc::new(There::default());
    let held = Held::default();
    held.attach(there.clone());
    let lines = [line(1), line(2)];
    held.adopt(&lines.each_ref());
    assert_eq!(there.ids(), [] as [u128; 0], "it stands by");

    assert_eq!(held.became_active(), [] as [Bytes; 0], "they are in its files");

    assert_eq!(there.ids(), [1, 2]);
}

#[test]
fn what_is_too_much_is_owed_by_one_node_alone_and_counted() {
    let (held, there) = active();
    let bytes = bytes(&line(1));
    for id in 0..TOLD_MAX as u128 + 2 {
        held.owe(id, bytes.clone());
    }

    assert_eq!((held.beyond(), there.ids().len()), (2, TOLD_MAX));
}

/// The other node.
#[derive(Default)]
struct There(Mutex<BTreeMap<u128, Bytes>>);

impl There {
    fn ids(&self) -> Vec<u128> {
        self.0.lock().expect("no test panics inside").keys().copied().collect()
    }
}

impl Peer for There {
    fn put(&self, capsule: Capsule, _place: Place) -> Posted {
        let (id, line) = read_record(capsule).expect("it is one");
        self.0.lock().expect("no test panics inside").insert(id, line);
        Posted::nowhere()
    }

    fn remove(&self, _kind: Kind, key: &[u8]) -> Posted {
        let id = u128::from_be_bytes(key.try_into().expect("it has 16 bytes"));
        assert!(self.0.lock().expect("no test panics inside").remove(&id).is_some(), "it was told");
        Posted::nowhere()
    }

    fn everything(&self) -> Posted {
        Posted::nowhere()
    }

    fn wait(&self, _waits: &[(Ticket, Posted)]) {}

    fn become_active(&self, _epoch: Epoch) {}

    fn raise(&self, _epoch: Epoch) {}

    fn become_standby(&self, _highest: Epoch) {}

    fn ready(&self) -> u8 {
        100
    }

    fn on_the_way(&self) -> usize {
        0
    }

    fn view(&self) -> PeerView {
        unreachable!("nobody looks at it")
    }
}

fn active() -> (Held, Arc<There>) {
    let there = Arc::new(There::default());
    let held = Held::default();
    held.attach(there.clone());
    held.became_active();
    (held, there)
}

fn owe(held: &Held, line: &Line) {
    held.owe(id_of(line).expect("it has one"), bytes(line));
}

fn line(id: u128) -> Line {
    Line::of(&record(id), None, "a", Epoch(1))
}

fn bytes(line: &Line) -> Bytes {
    let mut bytes = Vec::new();
    line.write(&mut bytes);
    Bytes::from(bytes)
}

use std::fs;

use super::*;
use crate::records::tests::record;

#[test]
fn lines_are_offered_from_the_cursor_on_over_files_and_restarts() {
    let place = Place::new();
    place.write("calls-2026-11-27.001.jsonl", &lines(1..=3));
    place.write("calls-2026-11-27.002.jsonl", &lines(4..=5));
    let mut owed = place.open();

    let first = owed.next(2).expect("it can be read");
    assert_eq!(ids(&first), [1, 2]);
    owed.advance(first[1].end, 2).expect("there is room");
    assert_eq!(owed.count().expect("it can be read"), 3);

    let mut again = place.open();
    assert_eq!(again.count().expect("it can be read"), 3);
    let second = again.next(200).expect("it can be read");
    assert_eq!(ids(&second), [3]);
    again.advance(second[0].end, 1).expect("there is room");
    let third = again.next(200).expect("it can be read");
    assert_eq!(ids(&third), [4, 5]);
    again.advance(third[1].end, 2).expect("there is room");
    assert_eq!(
        (again.next(200).expect("it can be read"), again.count().expect("it can be read")),
        (Vec::new(), 0)
    );
}

#[test]
fn what_is_not_whole_or_may_be_taken_back_is_not_offered() {
    let place = Place::new();
    let (name, all) = ("calls-2026-11-27.001.jsonl", lines(1..=2));
    place.write(name, &all[..all.len() - 1]);
    let owed = place.open();
    assert_eq!(ids(&owed.next(200).expect("it can be read")), [1]);

    place.write(name, &all);
    owed.bounds.written_to(Name::read(name.as_ref()).expect("it is one"), lines(1..=1).len() as u64);
    assert_eq!(ids(&owed.next(200).expect("it can be read")), [1]);

    owed.bounds.written_to(Name::read(name.as_ref()).expect("it is one"), all.len() as u64);
    assert_eq!(ids(&owed.next(200).expect("it can be read")), [1, 2]);
}

#[test]
fn a_file_that_was_made_anew_is_read_from_its_beginning() {
    let place = Place::new();
    let name = "calls-2026-11-27.001.jsonl";
    place.write(name, &lines(1..=1));
    let mut owed = place.open();
    let entries = owed.next(200).expect("it can be read");
    owed.advance(entries[0].end, 1).expect("there is room");

    place.write(name, &lines(2..=3));

    assert_eq!(ids(&owed.next(200).expect("it can be read")), [2, 3]);
}

#[test]
fn a_file_that_lost_its_end_is_offered_again_with_what_was_written_in_its_place() {
    let place = Place::new();
    let name = "calls-2026-11-27.001.jsonl";
    place.write(name, &lines(1..=4));
    let mut owed = place.open();
    let read = owed.next(10).expect("it is there");
    owed.advance(read[3].end, 4).expect("there is room");
    drop(owed);
    place.write(name, &lines(1..=2));

    let owed = place.open();
    place.write(name, &[lines(1..=2), lines(5..=9)].concat());

    assert_eq!(ids(&owed.next(10).expect("it is there")), [1, 2, 5, 6, 7, 8, 9]);
}

#[test]
fn a_file_that_somebody_took_away_holds_up_nothing() {
    let place = Place::new();
    place.write("calls-2026-11-27.001.jsonl", &lines(1..=2));
    let mut owed = place.open();
    let entries = owed.next(1).expect("it can be read");
    owed.advance(entries[0].end, 1).expect("there is room");

    fs::remove_file(place.directory.path().join("calls-2026-11-27.001.jsonl")).expect("it is there");

    assert_eq!(owed.before_cursor(1 << 20).expect("it is no error"), None);
    assert_eq!(owed.next(200).expect("it can be read"), []);
    place.write("calls-2026-11-28.001.jsonl", &lines(3..=3));
    assert_eq!(ids(&owed.next(200).expect("it can be read")), [3]);
}

#[test]
fn without_a_cursor_that_can_be_read_everything_is_offered_again() {
    let place = Place::new();
    place.write("calls-2026-11-27.001.jsonl", &lines(1..=2));
    let mut owed = place.open();
    let entries = owed.next(200).expect("it can be read");
    owed.advance(entries[1].end, 2).expect("there is room");

    for damaged in ["", "{}", "{\"file\":\"/etc/passwd\",\"offset\":0,\"head\":\"0\"}", "\u{0}\u{0}"] {
        fs::write(place.cursor(), damaged).expect("there is room");
        assert_eq!(ids(&place.open().next(200).expect("it can be read")), [1, 2], "{damaged:?}");
    }
}

#[test]
fn what_is_no_record_is_told_apart_and_what_follows_it_is_offered() {
    let place = Place::new();
    place.write(
        "calls-2026-11-27.001.jsonl",
        &[b"{\"half\n".as_slice(), &lines(1..=1), b"\xff\xfe no end"].concat(),
    );
    place.write("calls-2026-11-27.002.jsonl", &lines(2..=2));
    let mut owed = place.open();

    let entries = owed.next(200).expect("it can be read");

    assert_eq!(
        entries.iter().map(|entry| matches!(entry.said, Said::Record(_))).collect::<Vec<_>>(),
        [false, true, false]
    );
    owed.advance(entries[2].end, 3).expect("there is room");
    assert_eq!(ids(&owed.next(200).expect("it can be read")), [2]);
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("there is a place for it") }
    }

    fn cursor(&self) -> PathBuf {
        self.directory.path().join("cursor")
    }

    fn open(&self) -> Owed {
        Owed::open(self.directory.path(), &self.cursor(), Arc::new(Bounds::with_reader()))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.path().join(name), bytes).expect("there is room");
    }
}

fn lines(numbers: std::ops::RangeInclusive<u128>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        Line::of(&record(number), None, "a", lease::Epoch(1)).write(&mut bytes);
    }
    bytes
}

fn ids(entries: &[Entry]) -> Vec<u128> {
    let id = |entry: &Entry| match &entry.said {
        Said::Record(line) => u128::from_str_radix(&line.id, 16).expect("it is a number"),
        Said::Nothing(bytes) => panic!("{bytes:?}"),
    };
    entries.iter().map(id).collect()
}

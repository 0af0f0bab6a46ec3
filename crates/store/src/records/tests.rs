use std::fs;
use std::path::Path;

use clock::WallTime;
use routing::{CallEnding, Party, Right};
use sip::Status;

use super::journal::{Journal, names_in};
use super::*;

const DAY_MS: u64 = 86_400_000;
/// 2026-11-27.
const NOON: WallTime = WallTime::from_millis(1_795_780_800_000);

#[test]
fn records_are_lines_in_the_order_in_which_they_came() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let files = RecordFiles::start(settings(directory.path())).expect("it can be written");

    for number in 1..=3_000 {
        files.write(Epoch(7), ended(record(number)));
    }
    files.stop().expect("all is written");

    let lines = lines_in(directory.path());
    assert_eq!(
        lines.iter().map(|line| line.id.clone()).collect::<Vec<_>>(),
        (1..=3_000).map(id).collect::<Vec<_>>()
    );
    assert_eq!(files.state(), RecordState { written: 3_000, ..RecordState::default() });
    let line = &lines[0];
    assert_eq!(
        (&*line.start, line.answer.as_deref(), &*line.end),
        ("2026-11-27T12:00:00.000Z", Some("2026-11-27T12:00:02.500Z"), "2026-11-27T12:01:02.500Z")
    );
    assert_eq!((line.setup_ms, line.talk_ms, line.epoch, &*line.node), (2_500, 60_000, 7, "a"));
    assert_eq!((&*line.ended_by, &*line.why, line.code, &*line.reason), ("callee", "bye", 200, "OK"));
}

#[test]
fn what_a_peer_wrote_stays_within_its_line() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let files = RecordFiles::start(settings(directory.path())).expect("it can be written");

    let caller = "sip:\"a\"\\\u{1}\n{\u{fffd}".to_owned();
    files.write(Epoch(1), ended(CallRecord { caller, ..record(1) }));
    files.write(Epoch(1), ended(record(2)));
    files.stop().expect("all is written");

    let lines = lines_in(directory.path());
    assert_eq!(lines[0].caller, "sip:\"a\"\\\u{1}\n{\u{fffd}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_record_has_the_figures_that_come_behind_it_and_keeps_its_place() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let files = RecordFiles::start(settings(directory.path())).expect("it can be written");
    let mut media = CallMedia { counted_after: Duration::from_secs(20), figures: Default::default() };
    media.figures.caller.packets = 290;
    media.figures.caller.lost = 10;

    files.write(Epoch(1), RecordNews::Ended(Box::new(record(1)), EndedMedia::Awaited));
    files.write(Epoch(1), ended(record(2)));
    files.write(Epoch(1), RecordNews::Media(1, Some(media)));
    files.write(Epoch(1), RecordNews::Media(2, Some(media)));
    files.stop().expect("all is written");

    let lines = lines_in(directory.path());
    assert_eq!(lines.iter().map(|line| line.id.clone()).collect::<Vec<_>>(), [id(1), id(2)]);
    let LineMedia { media_after_ms, caller_packets, caller_lost, caller_mos, .. } = lines[0].media;
    assert_eq!((media_after_ms, caller_packets, caller_lost), (Some(20_000), Some(290), Some(10)));
    assert_eq!(caller_mos, None, "nothing is known of it");
    assert_eq!(lines[1].media, LineMedia::default(), "nobody waited for these");
}

#[test]
fn a_record_whose_figures_never_come_is_written_without_them() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let files = RecordFiles::start(settings(directory.path())).expect("it can be written");

    files.write(Epoch(1), RecordNews::Ended(Box::new(record(1)), EndedMedia::Awaited));
    files.stop().expect("all is written");

    let lines = lines_in(directory.path());
    assert_eq!(lines.iter().map(|line| &line.media).collect::<Vec<_>>(), [&LineMedia::default()]);
    let without = r#","media_after_ms":null"#;
    assert!(texts_in(directory.path())[0].1.contains(without));
}

#[test]
fn a_file_begins_with_each_day_and_when_one_is_full_and_old_ones_go() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let settings = RecordSettings { file_bytes_max: 10, files_max: 3, ..settings(directory.path()) };
    let mut journal = Journal::new(settings, unread());

    for (days, line) in [(0, "one\n"), (0, "two, long\n"), (0, "three\n"), (1, "four\n"), (0, "five\n")] {
        let now = WallTime::from_millis(NOON.as_millis() + days * DAY_MS);
        journal.append(now, line.as_bytes()).expect("it can be written");
    }

    assert_eq!(
        texts_in(directory.path()),
        [
            ("calls-2026-11-27.001.jsonl".to_owned(), "one\ntwo, long\n".to_owned()),
            ("calls-2026-11-27.002.jsonl".to_owned(), "three\n".to_owned()),
            ("calls-2026-11-28.001.jsonl".to_owned(), "four\nfive\n".to_owned()),
        ]
    );
    journal.append(NOON, b"a line that fills the file\n").expect("it can be written");
    journal.append(NOON, b"six\n").expect("it can be written");
    let names: Vec<String> = texts_in(directory.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["calls-2026-11-28.001.jsonl", "calls-2026-11-28.002.jsonl", "calls-2026-11-28.003.jsonl"]
    );
}

#[test]
fn a_line_that_a_loss_of_power_cut_off_hurts_no_other() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    fs::write(directory.path().join("calls-2026-11-27.001.jsonl"), "{}\n{\"half").expect("it can be written");
    let mut journal = Journal::new(settings(directory.path()), unread());

    journal.append(NOON, b"{\"whole\":1}\n").expect("it can be written");

    assert_eq!(texts_in(directory.path())[0].1, "{}\n{\"half\n{\"whole\":1}\n");
}

#[test]
fn a_file_that_somebody_took_away_is_made_anew() {
    let directory = tempfile::tempdir().expect("there is a place for it");
    let mut journal = Journal::new(settings(directory.path()), unread());
    journal.append(NOON, b"1\n").expect("it can be written");
    let first = directory.path().join("calls-2026-11-27.001.jsonl");
    fs::rename(&first, directory.path().join("taken")).expect("it can be moved");

    journal.append(NOON, b"2\n").expect("it can be written");

    assert_eq!(fs::read_to_string(&first).expect("it is there"), "2\n");
}

/// As on a full disk: nothing can be made where the directory was.
#[test]
fn what_can_not_be_written_waits_and_is_written_when_there_is_room() {
    let place = tempfile::tempdir().expect("there is a place for it");
    let directory = place.path().join("records");
    let files = RecordFiles::start(settings(&directory)).expect("it can be made");
    fs::remove_dir(&directory).expect("it is empty");
    fs::write(&directory, "in the way").expect("it can be written");

    files.write(Epoch(1), ended(record(1)));
    until(|| files.state().failing.is_some());
    files.write(Epoch(1), ended(record(2)));
    let state = files.state();
    assert_eq!((state.written, state.waiting, state.lost), (0, 2, 0));

    fs::remove_file(&directory).expect("it is there");
    fs::create_dir(&directory).expect("there is room");
    until(|| files.state().waiting == 0);
    files.stop().expect("all is written");

    assert_eq!(lines_in(&directory).iter().map(|it| it.id.clone()).collect::<Vec<_>>(), [id(1), id(2)]);
    assert_eq!(files.state().failing, None);
}

#[test]
fn what_finds_no_room_is_lost_and_counted() {
    let place = tempfile::tempdir().expect("there is a place for it");
    let directory = place.path().join("records");
    let files = RecordFiles::start(settings(&directory)).expect("it can be made");
    fs::remove_dir(&directory).expect("it is empty");
    fs::write(&directory, "in the way").expect("it can be written");

    for number in 0..WAITING_MAX as u128 + 2_000 {
        files.write(Epoch(1), ended(record(number)));
    }

    let state = files.state();
    assert!(state.lost > 0, "{state:?}");
    assert_eq!(state.lost + state.waiting as u64, WAITING_MAX as u64 + 2_000);
    files.shared.queue().stops = Some(Instant::now());
}

fn until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come to be so");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn settings(directory: &Path) -> RecordSettings {
    RecordSettings {
        directory: directory.to_owned(),
        file_bytes_max: 64 << 20,
        files_max: 10,
        sync: Sync::Second,
        node: "a".to_owned(),
        database: None,
    }
}

fn unread() -> Arc<Bounds> {
    Arc::new(Bounds::without_reader())
}

pub fn record(id: u128) -> CallRecord {
    CallRecord {
        id,
        call_id: "a84b4c76e66710@pc33".to_owned(),
        from_tag: "1928301774".to_owned(),
        to_tag: "a6c85cf".to_owned(),
        caller: "sip:alice@example.org".to_owned(),
        callee: "sip:bob@example.org".to_owned(),
        request_uri: "sip:bob@example.org".to_owned(),
        right: Right::Digest,
        account: Some("alice@example.org".to_owned()),
        source: "udp:192.0.2.1:5060".to_owned(),
        gateway_in: None,
        gateway_out: None,
        started: NOON,
        answered_after: Some(Duration::from_millis(2_500)),
        ended_after: Duration::from_millis(62_500),
        ending: CallEnding::HungUp(Party::Callee),
        status: Status::OK,
        reason: "OK".to_owned(),
    }
}

fn ended(record: CallRecord) -> RecordNews {
    RecordNews::Ended(Box::new(record), EndedMedia::Told(None))
}

fn id(number: u128) -> String {
    format!("{number:032x}")
}

fn texts_in(directory: &Path) -> Vec<(String, String)> {
    let names = names_in(directory).expect("it is there");
    let text = |name: String| fs::read_to_string(directory.join(&name)).map(|text| (name, text));
    names.into_iter().map(|name| text(name.to_string()).expect("it can be read")).collect()
}

fn lines_in(directory: &Path) -> Vec<Line> {
    let texts = texts_in(directory);
    let lines = texts.iter().flat_map(|(_, text)| text.lines());
    lines.map(|line| serde_json::from_str(line).expect("it is a record")).collect()
}

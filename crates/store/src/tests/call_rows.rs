//! Records of calls on a database server: each call once, whatever becomes of the server and of who writes.

use std::fs;

use engine::{CallMedia, EndedMedia, RecordNews, Records, SideSums};
use lease::Epoch;
use routing::{CallEnding, CallRecord, Party, Right};
use sip::Status;

use super::databases::wait_for;
use super::engines::{Engine, KINDS, Kind};
use super::*;
use crate::server::records::field::Field;
use crate::server::session::reach;
use crate::{CallDatabaseState, inspect_calls};

#[test]
fn each_call_is_in_tandems_table_and_in_acc_or_missed_calls_once() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        let files = place.start();

        files.write(&[answered(1), missed(2), answered(3)]);
        files.wait_for_all();
        // What was written is offered again, by another writer with the same files and no cursor.
        drop(files);
        fs::remove_file(place.cursor()).expect("it was written");
        let files = place.start();
        files.write(&[missed(4)]);
        files.wait_for_all();

        assert_eq!(place.rows("tandem_cdr", "id"), [1, 2, 3, 4].map(id));
        assert_eq!(place.rows("acc", "sip_code, callid, duration"), ["200 call-1 60", "200 call-3 60"]);
        assert_eq!(
            place.rows("missed_calls", "sip_code, callid, setuptime"),
            ["486 call-2 62", "486 call-4 62"]
        );
        assert_eq!(
            place.rows("tandem_cdr", "start_time, answer_time, end_time, talk_ms, ended_by, account, node")
                [..2],
            [
                "2026-11-27 12:00:00 2026-11-27 12:00:02.5 2026-11-27 12:01:02.5 60000 callee alice@example.org a",
                "2026-11-27 12:00:00 - 2026-11-27 12:01:02.5 0 callee alice@example.org a",
            ]
        );
        assert_eq!(place.rows("acc", "time, created")[0], "2026-11-27 12:00:02 2026-11-27 12:00:00");
    }
}

#[test]
fn a_table_of_an_earlier_version_goes_on_without_figures_until_its_columns_are_added() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        let drops = ["caller_packets", "callee_mos", "media_after_ms"].map(|it| format!("DROP COLUMN {it}"));
        engine.script(&place.settings, &format!("ALTER TABLE tandem_cdr {};", drops.join(", ")));
        let notes = inspect_calls(&place.database()).expect("it goes on").notes;
        assert!(notes.iter().any(|note| note.contains("`tandem database init` adds them")), "{notes:?}");
        let files = place.start();
        files.write_with_media(1);
        files.wait_for_all();
        assert_eq!(place.rows("tandem_cdr", "caller_octets, callee_packets"), ["49880 0"]);

        let made = crate::init_server(&place.settings).expect("columns are missing");
        assert_eq!(made, ["tandem_cdr (columns of media figures)"]);
        crate::init_server(&place.settings).expect_err("nothing is missing");
        let files = place.beside().start();
        files.write_with_media(2);
        files.wait_for_all();
        assert_eq!(
            place
                .rows("tandem_cdr", "media_after_ms, caller_packets, caller_octets, caller_lost, caller_mos"),
            ["- - 49880 10 -", "0 290 49880 10 -"]
        );
        assert!(inspect_calls(&place.database()).expect("it is whole").notes.is_empty());
    }
}

#[test]
fn two_nodes_that_write_the_same_calls_at_once_write_each_of_them_once() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        let nodes = [place.start(), place.beside().start()];
        let all: Vec<CallRecord> = (0..2_000).map(answered).collect();

        std::thread::scope(|scope| {
            for files in &nodes {
                scope.spawn(|| {
                    files.write(&all);
                    files.wait_for_all();
                });
            }
        });

        assert_eq!(place.count("tandem_cdr"), 2_000);
        assert_eq!(place.count("acc"), 2_000);
        let state = nodes.each_ref().map(Files::state);
        assert_eq!(state.each_ref().map(|state| state.aside), [0, 0]);
        assert_eq!(state.iter().map(|state| state.written).sum::<u64>(), 2_000);
    }
}

#[test]
fn a_server_that_is_killed_again_and_again_gets_each_call_once() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        let files = place.start();

        for round in 0..3 {
            let calls: Vec<CallRecord> = (0..1_500).map(|number| answered(round * 1_500 + number)).collect();
            let written = files.state().written;
            files.write(&calls);
            wait_for(|| files.state().written > written);
            engine.kill();
            files.write(&[missed(100_000 + round)]);
            wait_for(|| files.is_failing_with(1));
            engine.start_again();
        }
        files.wait_for_all();

        assert_eq!((place.count("tandem_cdr"), place.count("acc")), (4_503, 4_500));
        assert_eq!(place.count("missed_calls"), 3);
        assert_eq!(place.rows("(SELECT DISTINCT callid FROM acc) AS calls", "COUNT(*)"), ["4500"]);
    }
}

#[test]
fn what_is_owed_outlives_the_process_and_is_written_by_the_next_one() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        engine.kill();
        let files = place.start();
        files.write(&[answered(1), answered(2)]);
        wait_for(|| files.is_failing_with(2));
        files.files.stop().expect("the files have them");
        drop(files);
        engine.start_again();

        let files = place.start();
        files.wait_for_all();

        assert_eq!(place.rows("tandem_cdr", "id"), [1, 2].map(id));
        assert_eq!(files.state().failing, None);
    }
}

#[test]
fn a_call_that_no_table_takes_is_put_aside_and_holds_up_nobody() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        engine.script(&place.settings, "ALTER TABLE acc ADD CONSTRAINT no_evil CHECK (callid <> 'call-7')");
        let mut all: Vec<CallRecord> = (0..300).map(answered).collect();
        all[20].caller = "sip:\u{1f980}\0'\"\\@example.org".to_owned();
        all[21].call_id = "x".repeat(2_000);
        fs::create_dir(place.records()).expect("there is room");
        fs::write(place.records().join("calls-2026-11-01.001.jsonl"), "this is no record")
            .expect("there is room");
        let files = place.start();

        files.write(&all);
        files.write(&[missed(1_000)]);
        files.wait_for_all();

        let state = files.state();
        assert_eq!((state.written, state.aside, state.cut), (301, 2, 2));
        assert_eq!((place.count("tandem_cdr"), place.count("acc")), (301, 299));
        let aside = fs::read_to_string(place.records().join("not-in-database.jsonl")).expect("it is there");
        assert!(aside.contains("call-7\"") && aside.contains("this is no record"), "{aside}");
        assert_eq!(place.rows("tandem_cdr", "caller")[20], "sip:\u{1f980}?'\"\\@example.org");
    }
}

/// As `scripts/mysql/acc-create.sql` and its like of OpenSIPS 3.4 shape them.
const OPENSIPS: &str = "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 8), ('location', 1013), ('acc', 7), ('missed_calls', 5);
CREATE TABLE acc (ID, method CHAR(16) DEFAULT '' NOT NULL, from_tag CHAR(64) DEFAULT '' NOT NULL, to_tag CHAR(64) DEFAULT '' NOT NULL, callid CHAR(64) DEFAULT '' NOT NULL, sip_code CHAR(3) DEFAULT '' NOT NULL, sip_reason CHAR(32) DEFAULT '' NOT NULL, time TIME NOT NULL, duration INTEGER DEFAULT 0 NOT NULL, ms_duration INTEGER DEFAULT 0 NOT NULL, setuptime INTEGER DEFAULT 0 NOT NULL, created TIME DEFAULT NULL, caller_id VARCHAR(64) DEFAULT '' NOT NULL, callee_domain VARCHAR(64) NOT NULL);
CREATE TABLE missed_calls (ID, method CHAR(16) DEFAULT '' NOT NULL, from_tag CHAR(64) DEFAULT '' NOT NULL, to_tag CHAR(64) DEFAULT '' NOT NULL, callid CHAR(64) DEFAULT '' NOT NULL, sip_code CHAR(3) DEFAULT '' NOT NULL, sip_reason CHAR(32) DEFAULT '' NOT NULL, time TIME NOT NULL, setuptime INTEGER DEFAULT 0 NOT NULL, created TIME DEFAULT NULL);
";
/// As `utils/kamctl/mysql/acc-create.sql` and its like of Kamailio 5.8 shape them.
const KAMAILIO: &str = "CREATE TABLE version (ID, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 7), ('location', 9), ('acc', 5), ('missed_calls', 4), ('acc_cdrs', 2);
CREATE TABLE acc (ID, method VARCHAR(16) DEFAULT '' NOT NULL, from_tag VARCHAR(128) DEFAULT '' NOT NULL, to_tag VARCHAR(128) DEFAULT '' NOT NULL, callid VARCHAR(255) DEFAULT '' NOT NULL, sip_code VARCHAR(3) DEFAULT '' NOT NULL, sip_reason VARCHAR(128) DEFAULT '' NOT NULL, time TIME NOT NULL, caller_id VARCHAR(64) DEFAULT '' NOT NULL, callee_domain VARCHAR(64) NOT NULL);
CREATE TABLE missed_calls (ID, method VARCHAR(16) DEFAULT '' NOT NULL, from_tag VARCHAR(128) DEFAULT '' NOT NULL, to_tag VARCHAR(128) DEFAULT '' NOT NULL, callid VARCHAR(255) DEFAULT '' NOT NULL, sip_code VARCHAR(3) DEFAULT '' NOT NULL, sip_reason VARCHAR(128) DEFAULT '' NOT NULL, time TIME NOT NULL);
CREATE TABLE acc_cdrs (ID, start_time TIME DEFAULT '2000-01-01 00:00:00' NOT NULL, end_time TIME DEFAULT '2000-01-01 00:00:00' NOT NULL, duration FRACTION DEFAULT 0 NOT NULL);
";

#[test]
fn the_tables_of_opensips_and_kamailio_get_their_rows_and_further_columns() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for (script, dialect) in [(OPENSIPS, "OpenSIPS"), (KAMAILIO, "Kamailio")] {
            let place = Place::with(&engine, script);
            assert_eq!(
                crate::init_server(&place.settings),
                Ok(vec![
                    "tandem_may_use",
                    "tandem_forward",
                    "tandem_relay",
                    "tandem_epoch",
                    "tandem_cdr",
                    "tandem_lease"
                ])
            );
            let mut place = place;
            place.extra = vec![
                ("caller_id".to_owned(), Field::CallerUser),
                ("CALLEE_DOMAIN".to_owned(), Field::CalleeDomain),
            ];
            let seen = inspect_calls(&place.database()).expect("it is right");
            assert_eq!((seen.dialect.as_str(), seen.notes.len()), (dialect, 0), "{seen:?}");
            assert_eq!(place.count("tandem_cdr") + place.count("acc") + place.count("missed_calls"), 0);
            let files = place.start();

            let long = CallRecord { call_id: "y".repeat(300), ..answered(2) };
            files.write(&[answered(1), long, missed(3)]);
            files.wait_for_all();

            assert_eq!(
                place.rows("acc", "method, callid, caller_id, callee_domain")[0],
                "INVITE call-1 alice example.org"
            );
            let width = if dialect == "OpenSIPS" { 64 } else { 255 };
            assert_eq!(place.rows("acc", "callid")[1], "y".repeat(width));
            assert_eq!(place.rows("missed_calls", "sip_reason, time"), ["Busy Here 2026-11-27 12:01:02"]);
            if dialect == "Kamailio" {
                assert_eq!(
                    place.rows("acc_cdrs", "start_time, end_time, duration")[0],
                    "2026-11-27 12:00:02 2026-11-27 12:01:02 60"
                );
            }
        }
    }
}

#[test]
fn what_keeps_calls_from_being_written_is_told_with_the_mend() {
    let cases: [(String, &str); 6] = [
        (OPENSIPS.replace("'acc', 7", "'acc', 6"), "has version 6, and version 7 can be written"),
        (OPENSIPS.to_owned(), "no default, and nothing says what stands there"),
        (OPENSIPS.replace("'missed_calls', 5", "'missed', 5"), "no row for missed_calls"),
        (OPENSIPS.replace(" callid", " call_identity"), "the table acc has no column callid"),
        (OPENSIPS.replace("setuptime INTEGER", "setuptime DATE"), "of a type that can not hold"),
        (OPENSIPS.replace("caller_id VARCHAR(64) DEFAULT '' NOT NULL, ", ""), "has the column caller_id"),
    ];
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for (script, words) in &cases {
            let script = script.replace("setuptime DATE DEFAULT 0 NOT NULL", "setuptime DATE");
            let mut place = Place::with(&engine, &script);
            let told = inspect_calls(&place.database()).expect_err("tandem_cdr is missing").to_string();
            assert!(told.contains("no table tandem_cdr") && told.contains("tandem database init"), "{told}");
            crate::init_server(&place.settings).expect("it is missing");
            place.extra = vec![("caller_id".to_owned(), Field::Caller)];

            let told = inspect_calls(&place.database()).expect_err("it can not be written").to_string();

            assert!(told.contains(words), "{words}: {told}");
        }
    }
}

#[test]
fn files_that_are_only_the_way_to_the_database_go_when_they_are_written_and_not_before() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let mut place = Place::with_own_tables(&engine);
        place.written = WrittenFiles::Go;
        place.file_bytes_max = 1;
        engine.kill();
        let files = place.start();
        for number in 0..6 {
            files.write(&[answered(number)]);
            wait_for(|| files.files.state().written == u64::try_from(number).expect("it is small") + 1);
        }
        let names = || files_in(&place.records());
        assert_eq!(names().len(), 6);

        engine.start_again();
        files.wait_for_all();

        wait_for(|| names().len() == 2);
        assert_eq!(place.count("acc"), 6);
    }
}

/// As after a failover to a replica that had not got the last transaction.
#[test]
fn what_a_server_has_forgotten_is_written_again_after_the_next_connecting() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let place = Place::with_own_tables(&engine);
        let files = place.start();
        let now = crate::writer::wall_now();
        let recent = |number| CallRecord { started: now, ..answered(number) };
        files.write(&[recent(1), recent(2), answered(3)]);
        files.wait_for_all();
        engine.script(
            &place.settings,
            "DELETE FROM acc WHERE callid <> 'call-1';\nDELETE FROM tandem_cdr WHERE call_id <> 'call-1'",
        );
        engine.kill();
        engine.start_again();

        files.write(&[recent(4)]);
        files.wait_for_all();

        wait_for(|| place.count("acc") == 3);
        // What ended long ago may have been taken away on purpose.
        assert_eq!(place.rows("acc", "callid"), ["call-1", "call-2", "call-4"]);
    }
}

/// A node with its files, and the database that it writes to.
struct Place {
    directory: Arc<TempDir>,
    node: &'static str,
    settings: ServerSettings,
    extra: Vec<(String, Field)>,
    written: WrittenFiles,
    file_bytes_max: u64,
}

struct Files {
    files: RecordFiles,
    records: PathBuf,
    cursor: PathBuf,
}

impl Place {
    fn with_own_tables(engine: &Engine) -> Self {
        let place = Self::with(engine, "");
        crate::init_server(&place.settings).expect("it is empty");
        place
    }

    fn with(engine: &Engine, script: &str) -> Self {
        let settings = engine.database();
        let (id, time, fraction) = match engine.kind() {
            Kind::Postgres => ("id SERIAL PRIMARY KEY", "TIMESTAMP WITHOUT TIME ZONE", "REAL"),
            Kind::MariaDb => {
                ("id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL", "DATETIME", "FLOAT(13,6)")
            }
        };
        let script = script.replace("ID,", &format!("{id},")).replace(" TIME ", &format!(" {time} "));
        engine.script(&settings, &script.replace("FRACTION", fraction));
        Self {
            directory: Arc::new(TempDir::new().expect("there is a place for it")),
            node: "a",
            settings,
            extra: Vec::new(),
            written: WrittenFiles::Stay,
            file_bytes_max: 1 << 20,
        }
    }

    /// Another node with the same database.
    fn beside(&self) -> Self {
        Self {
            directory: Arc::clone(&self.directory),
            node: "b",
            settings: self.settings.clone(),
            extra: self.extra.clone(),
            ..*self
        }
    }

    fn records(&self) -> PathBuf {
        self.directory.path().join(self.node)
    }

    fn cursor(&self) -> PathBuf {
        self.directory.path().join(format!("{}.cursor", self.node))
    }

    fn database(&self) -> CallDatabase {
        CallDatabase {
            server: self.settings.clone(),
            others: OtherCallTables::Written,
            extra: self.extra.clone(),
            cursor: self.cursor(),
            files: self.written,
        }
    }

    fn start(&self) -> Files {
        let settings = RecordSettings {
            directory: self.records(),
            file_bytes_max: self.file_bytes_max,
            files_max: 2,
            sync: Sync::Never,
            node: self.node.to_owned(),
            database: Some(self.database()),
        };
        let files = RecordFiles::start(settings).expect("there is room");
        Files { files, records: self.records(), cursor: self.cursor() }
    }

    /// The rows of a table, in the order in which they came there.
    fn rows(&self, table: &str, columns: &str) -> Vec<String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
        let rows = runtime.block_on(async {
            let mut link = reach(&self.settings).await.expect("it is there").link;
            let texts: Vec<String> = columns.split(", ").map(|column| link.product().text(column)).collect();
            let order =
                if table.starts_with('(') || columns.starts_with("COUNT") { "" } else { " ORDER BY id" };
            let rows = link.rows(&format!("SELECT {} FROM {table}{order}", texts.join(", ")), &[]).await;
            rows.expect("it can be read")
        });
        let text = |row: &crate::server::link::Row| {
            let words: Vec<String> =
                (0..columns.split(", ").count()).map(|column| plain(row.text(column))).collect();
            words.join(" ")
        };
        rows.iter().map(text).collect()
    }

    fn count(&self, table: &str) -> usize {
        self.rows(table, "COUNT(*)")[0].parse().expect("it is a number")
    }
}

impl Files {
    fn write(&self, records: &[CallRecord]) {
        for record in records {
            self.files.write(Epoch(7), RecordNews::Ended(Box::new(record.clone()), EndedMedia::Told(None)));
        }
    }

    fn write_with_media(&self, number: u128) {
        let mut media = CallMedia { counted_after: Duration::ZERO, figures: Default::default() };
        media.figures.caller = SideSums { packets: 290, octets: 49_880, lost: 10, ..SideSums::default() };
        let news = RecordNews::Ended(Box::new(answered(number)), EndedMedia::Told(Some(media)));
        self.files.write(Epoch(7), news);
    }

    fn state(&self) -> CallDatabaseState {
        self.files.state().database.expect("it has one")
    }

    fn is_failing_with(&self, owed: u64) -> bool {
        let state = self.state();
        state.failing.is_some() && state.owed >= owed && state.away > Duration::ZERO
    }

    /// Until the cursor stands at the end of the last file.
    fn wait_for_all(&self) {
        wait_for(|| {
            let Some(last) = files_in(&self.records).pop() else { return false };
            let length = fs::metadata(self.records.join(&last)).map_or(0, |found| found.len());
            let wanted = format!("\"file\":\"{last}\",\"offset\":{length},");
            self.files.state().waiting == 0
                && fs::read_to_string(&self.cursor).is_ok_and(|it| it.contains(&wanted))
        });
    }
}

fn files_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("calls-")).collect();
    names.sort();
    names
}

/// Numbers and times as short as they can be written: products differ in that.
fn plain(text: &str) -> String {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b".:- ".contains(&byte));
    match text.is_empty() {
        true => "-".to_owned(),
        false if is_number && text.contains('.') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        false => text.to_owned(),
    }
}

fn id(number: u128) -> String {
    format!("{number:032x}")
}

fn answered(number: u128) -> CallRecord {
    CallRecord {
        id: number,
        call_id: format!("call-{number}"),
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
        started: WallTime::from_millis(1_795_780_800_000),
        answered_after: Some(Duration::from_millis(2_500)),
        ended_after: Duration::from_millis(62_500),
        ending: CallEnding::HungUp(Party::Callee),
        status: Status::OK,
        reason: "OK".to_owned(),
    }
}

fn missed(number: u128) -> CallRecord {
    CallRecord {
        answered_after: None,
        ending: CallEnding::Refused,
        status: Status(486),
        reason: "Busy Here".to_owned(),
        ..answered(number)
    }
}

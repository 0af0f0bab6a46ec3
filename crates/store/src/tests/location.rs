//! The table `location` on a server: what is registered is in it, once, whatever dies meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use engine::{Page, Publication, PublicationWork, Published};
use lease::Epoch;
use replica::Place;
use routing::PublishedBinding;

use super::elsewhere::Way;
use super::engines::{Engine, KINDS, Kind};
use super::*;
use crate::server::epoch::{Writer, enter};
use crate::server::inspect::inspect;
use crate::server::session::Session;

/// A table that some release made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Tandem,
    OpenSips,
    Kamailio,
    /// With `expires_type` 1.
    KamailioNumbers,
}

pub(super) const MADE: [Made; 4] = [Made::Tandem, Made::OpenSips, Made::Kamailio, Made::KamailioNumbers];

/// The bindings of a node. Every place is a number of the map.
#[derive(Default)]
pub(super) struct Node {
    bindings: Mutex<BTreeMap<BindingKey, (u64, StoredBinding)>>,
    /// 0: it stands by.
    pub(super) epoch: AtomicU64,
    next: AtomicU64,
}

/// A node with its store.
pub(super) struct Running {
    node: Arc<Node>,
    store: ServerStore,
    _place: Temporary,
}

#[test]
fn what_is_registered_is_in_the_table_of_any_dialect_and_goes_when_it_ends() {
    for (engine, made) in all() {
        let settings = made.database(&engine);
        let running = Running::begin(&settings, 3);
        let (alice, bob) =
            (whole("alice@example.org", "sip:a@10.0.0.7"), binding("bob@example.org", "sip:b"));
        running.put(&alice);
        running.put(&bob);
        running.wait_for_all();

        assert_eq!(contacts(&engine, &settings), ["sip:a@10.0.0.7", "sip:b"], "{made:?}");
        let row = engine
            .rows(&settings, &format!("SELECT {} FROM location WHERE username = 'alice'", columns(&engine)));
        let path = "<sip:token@192.0.2.5;lr>,<sip:edge.example.org;lr>";
        assert_eq!(
            row[0],
            ["alice", "example.org", "sip:198.51.100.9:40000", path, "call-1", "1", "udp:192.0.2.5:5060"],
            "{made:?}"
        );
        running.put(&StoredBinding { cseq: 2, ..alice.clone() });
        running.end(&bob);
        running.wait_for_all();
        assert_eq!(contacts(&engine, &settings), ["sip:a@10.0.0.7"], "{made:?}");
        let row = engine.rows(&settings, &format!("SELECT {} FROM location", columns(&engine)));
        assert_eq!(row[0][5], "2", "{made:?}");
    }
}

#[test]
fn a_node_that_lost_its_power_in_the_middle_of_a_transaction_keeps_the_next_one_out_for_seconds_only() {
    for engine in KINDS.into_iter().filter_map(Engine::shared) {
        let mut settings = Made::Tandem.database(&engine);
        settings.deadline = Duration::from_secs(2);
        let first = Running::begin(&settings, 3);
        first.wait_for_all();
        first.stand_by();
        let (by_way, way) = Way::to_server(&engine, &settings);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
        let dead = runtime.block_on(async {
            let mut session = Session::open(&by_way).await.expect("it is well");
            session.begin().await.expect("it is well");
            enter(&mut session, Writer::Location, Epoch(3)).await.expect("nobody else is active");
            session
        });
        way.stall(true);

        let second = Running::begin(&settings, 4);
        second.put(&binding("alice@example.org", "sip:a"));
        second.wait_for_all();

        assert_eq!(contacts(&engine, &settings), ["sip:a"], "{:?}", engine.kind());
        drop(dead);
    }
}

#[test]
fn a_node_that_becomes_active_mends_what_differs_and_touches_nothing_else() {
    for (engine, made) in all() {
        let settings = made.database(&engine);
        let first = Running::begin(&settings, 3);
        let all: Vec<StoredBinding> = (0..1_300)
            .map(|number| whole(&format!("u{number}@example.org"), &format!("sip:{number}")))
            .collect();
        for binding in &all {
            first.put(binding);
        }
        first.wait_for_all();
        first.node.epoch.store(0, Ordering::Relaxed);
        wait_for(|| first.publication().work == PublicationWork::None);
        engine.script(
            &settings,
            "DELETE FROM location WHERE username = 'u7';\nUPDATE location SET path = '' WHERE username = 'u8';\n",
        );
        made.insert_stranger(&engine, &settings);

        // What ended and what began where the second node alone knows it.
        let second = Running::standing_by(&settings);
        for binding in &all[1..] {
            second.node.put(binding);
        }
        second.node.put(&whole("new@example.org", "sip:new"));
        second.node.epoch.store(4, Ordering::Relaxed);
        second.wait_for_all();

        let last = second.publication().last.expect("it was compared");
        assert_eq!((last.rows, last.differing, last.strange), (1_300, 3, 2), "{made:?}");
        let mut wanted: Vec<String> = (1..1_300).map(|number| format!("sip:{number}")).collect();
        wanted.push("sip:new".to_owned());
        wanted.sort();
        assert_eq!(contacts(&engine, &settings), wanted, "{made:?}");
    }
}

#[test]
fn a_database_that_was_away_has_each_binding_once_when_it_is_back() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let settings = Made::Kamailio.database(&engine);
        let running = Running::begin(&settings, 3);
        let (stays, ends) =
            (binding("alice@example.org", "sip:stays"), binding("alice@example.org", "sip:ends"));
        running.put(&stays);
        running.put(&ends);
        running.wait_for_all();

        engine.kill();
        running.end(&ends);
        running.put(&binding("bob@example.org", "sip:new"));
        wait_for(|| running.publication().failing.is_some());
        let seen = running.publication();
        assert!(seen.owed == 2 && seen.work == PublicationWork::Comparing, "{seen:?}");
        let short_lived = binding("bob@example.org", "sip:short");
        running.put(&short_lived);
        running.end(&short_lived);
        // The node dies and the other one goes on: what the first one owed is known from memory.
        running.node.epoch.store(0, Ordering::Relaxed);
        let second = Running::standing_by(&settings);
        second.node.take_all(&running.node);
        second.node.epoch.store(4, Ordering::Relaxed);
        wait_for(|| second.publication().failing.is_some());
        second.put(&binding("carol@example.org", "sip:later"));
        engine.start_again();

        second.wait_for_all();
        assert_eq!(contacts(&engine, &settings), ["sip:later", "sip:new", "sip:stays"]);
    }
}

#[test]
fn a_node_that_others_have_overtaken_writes_nothing() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = Made::OpenSips.database(&engine);
        let new = Running::begin(&settings, 4);
        new.put(&binding("alice@example.org", "sip:a"));
        new.wait_for_all();

        let old = Running::begin(&settings, 3);
        old.put(&binding("bob@example.org", "sip:b"));

        wait_for(|| old.publication().failing.is_some());
        let (error, _) = old.publication().failing.expect("it was just there");
        assert!(error.reason.contains("epoch 4") && error.reason.contains("under 3"), "{error}");
        assert_eq!(contacts(&engine, &settings), ["sip:a"]);
        assert_eq!(old.publication().written, 0);
        // It is the active one again.
        old.node.epoch.store(5, Ordering::Relaxed);
        old.wait_for_all();
        assert_eq!(contacts(&engine, &settings), ["sip:b"]);
        assert_eq!(
            engine.rows(
                &settings,
                &format!("SELECT {} FROM tandem_epoch WHERE writer = 'location'", text(&engine, "epoch"))
            ),
            [["5"]]
        );
    }
}

#[test]
fn a_node_that_found_nothing_to_write_has_overtaken_the_one_before() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = Made::OpenSips.database(&engine);
        let old = Running::begin(&settings, 3);
        old.wait_for_all();
        let new = Running::begin(&settings, 4);
        new.wait_for_all();

        old.put(&binding("bob@example.org", "sip:b"));

        wait_for(|| old.publication().failing.is_some());
        assert_eq!(contacts(&engine, &settings), Vec::<String>::new());
    }
}

#[test]
fn what_the_table_has_no_place_for_is_left_out_and_counted_and_the_rest_is_written() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = Made::Kamailio.database(&engine);
        let rule = "ALTER TABLE location ADD CONSTRAINT odd CHECK (contact <> 'sip:odd')";
        engine.script(&settings, rule);
        let running = Running::begin(&settings, 3);
        let long = format!("sip:{}@10.0.0.1", "a".repeat(600));
        for contact in ["sip:1", &long, "sip:2", "sip:odd", "sip:\0", "sip:3"] {
            running.put(&binding("alice@example.org", contact));
        }
        let talkative = StoredBinding {
            user_agent: Some(Bytes::from("b".repeat(400))),
            ..binding("alice@example.org", "sip:4")
        };
        running.put(&talkative);

        running.wait_for_all();
        assert_eq!(contacts(&engine, &settings), ["sip:1", "sip:2", "sip:3", "sip:4"]);
        // Again for each time that the table is compared.
        assert!(running.publication().refused >= 3, "{kind:?}");
        assert_eq!(running.publication().failing, None);
    }
}

#[test]
fn dates_are_those_of_the_named_zone_on_both_sides_of_a_change_of_clocks() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let mut settings = Made::Kamailio.database(&engine);
        settings.location =
            Some(LocationSettings { time_zone: Some("Europe/Berlin".to_owned()), is_shared: false });
        let running = Running::begin(&settings, 3);
        // Clocks went forward at 2031-03-30T01:00:00Z and back at 2031-10-26T01:00:00Z.
        for (contact, seconds) in [
            ("sip:1", 1_932_598_799),
            ("sip:2", 1_932_598_800),
            ("sip:3", 1_950_742_799),
            ("sip:4", 1_950_742_800),
        ] {
            let expires_at = WallTime::from_millis(seconds * 1_000);
            running.put(&StoredBinding { expires_at, ..binding("alice@example.org", contact) });
        }
        running.wait_for_all();

        let sql = format!("SELECT {} FROM location ORDER BY contact", text(&engine, "expires"));
        let rows = engine.rows(&settings, &sql).concat();
        assert_eq!(
            rows,
            ["2031-03-30 01:59:59", "2031-03-30 03:00:00", "2031-10-26 02:59:59", "2031-10-26 02:00:00"]
        );
        settings.location =
            Some(LocationSettings { time_zone: Some("Mars/Olympus".to_owned()), is_shared: false });
        let seen = inspect(&settings).expect("it is well");
        assert!(seen.obstacles[0].contains("database.time_zone"), "{seen:?}");
    }
}

#[test]
fn what_keeps_a_table_from_being_written_is_told_with_the_mend() {
    for (engine, made) in all() {
        let settings = made.database(&engine);
        let seen = inspect(&settings).expect("it is well");
        assert_eq!((seen.obstacles, seen.rows_of_others), (Vec::new(), 0), "{made:?}");
        made.insert_stranger(&engine, &settings);
        assert_eq!(inspect(&settings).expect("it is well").rows_of_others, 1);
    }
    let cases = [
        ("DROP TABLE tandem_epoch", "no table tandem_epoch"),
        ("UPDATE version SET table_version = 5 WHERE table_name = 'location'", "has version 5"),
        ("ALTER TABLE location DROP COLUMN path", "no column path"),
        ("INDEX", "no unique index over ruid"),
        ("READER", "lacks INSERT"),
    ];
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for (sql, word) in cases {
            let mut settings = Made::Kamailio.database(&engine);
            match (sql, kind) {
                ("INDEX", Kind::Postgres) => {
                    engine.script(&settings, "ALTER TABLE location DROP CONSTRAINT location_ruid_idx");
                }
                ("INDEX", Kind::MariaDb) => {
                    engine.script(&settings, "ALTER TABLE location DROP INDEX location_ruid_idx");
                }
                ("READER", Kind::Postgres) => {
                    settings.url.user = engine.reader(&settings);
                }
                ("READER", Kind::MariaDb) => continue,
                (sql, _) => engine.script(&settings, sql),
            }

            let seen = inspect(&settings).expect("accounts can be read");

            assert!(seen.obstacles.iter().any(|it| it.contains(word)), "{sql}: {seen:?}");
        }
    }
}

impl Made {
    pub(super) fn database(self, engine: &Engine) -> ServerSettings {
        let mut settings = engine.database();
        let (id, time, real, partition) = match engine.kind() {
            Kind::Postgres => {
                ("SERIAL PRIMARY KEY NOT NULL", "TIMESTAMP WITHOUT TIME ZONE", "REAL", "partition")
            }
            Kind::MariaDb => (
                "INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL",
                "DATETIME",
                "FLOAT(10,2)",
                "`partition`",
            ),
        };
        let script = match self {
            Self::Tandem => {
                crate::init_server(&settings).expect("it is empty");
                String::new()
            }
            Self::OpenSips => OPENSIPS.to_owned(),
            Self::Kamailio => KAMAILIO.replace("{EXPIRES}", "{TIME} DEFAULT '2030-05-28 21:32:15' NOT NULL"),
            Self::KamailioNumbers => KAMAILIO.replace("{EXPIRES}", "BIGINT DEFAULT 0 NOT NULL"),
        };
        let script = script.replace("{ID}", id).replace("{TIME}", time).replace("{REAL}", real);
        let script = script.replace("{PARTITION}", partition);
        engine.script(&settings, &script);
        settings.location = Some(LocationSettings { time_zone: None, is_shared: false });
        settings
    }

    fn insert_stranger(self, engine: &Engine, settings: &ServerSettings) {
        let sql = match self {
            Self::Tandem | Self::OpenSips => {
                "INSERT INTO location (contact_id, username, contact, expires, last_modified) VALUES (7, 'x', 'sip:x', 4000000000, '2020-01-01 00:00:00')"
            }
            Self::Kamailio => {
                "INSERT INTO location (ruid, username, contact, expires) VALUES ('uloc-1-2-3', 'x', 'sip:x', '2038-01-01 00:00:00')"
            }
            Self::KamailioNumbers => {
                "INSERT INTO location (ruid, username, contact, expires) VALUES ('uloc-1-2-3', 'x', 'sip:x', 4000000000)"
            }
        };
        engine.script(settings, sql);
    }
}

/// As `scripts/postgres/usrloc-create.sql` and `scripts/mysql/usrloc-create.sql` of OpenSIPS 2.4 to 4.0 shape it.
const OPENSIPS: &str = "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 8), ('location', 1013);
CREATE TABLE subscriber (id INTEGER PRIMARY KEY, username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL);
CREATE TABLE location (contact_id BIGINT PRIMARY KEY NOT NULL, username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT NULL, contact TEXT NOT NULL, received CHAR(255) DEFAULT NULL, path CHAR(255) DEFAULT NULL, expires BIGINT NOT NULL, q {REAL} DEFAULT 1.0 NOT NULL, callid CHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INTEGER DEFAULT 13 NOT NULL, last_modified {TIME} DEFAULT '1900-01-01 00:00:01' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL, cflags CHAR(255) DEFAULT NULL, user_agent CHAR(255) DEFAULT '' NOT NULL, socket CHAR(64) DEFAULT NULL, methods INTEGER DEFAULT NULL, sip_instance CHAR(255) DEFAULT NULL, kv_store TEXT DEFAULT NULL, attr CHAR(255) DEFAULT NULL);
CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0);
";
/// As `utils/kamctl/postgres/usrloc-create.sql` and `utils/kamctl/mysql/usrloc-create.sql` of Kamailio 5.6 to 6.1 shape it.
const KAMAILIO: &str = "CREATE TABLE version (id {ID}, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 7), ('location', 9);
CREATE TABLE subscriber (id {ID}, username VARCHAR(64) DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT '' NOT NULL, ha1 VARCHAR(128) DEFAULT '' NOT NULL);
CREATE TABLE location (id {ID}, ruid VARCHAR(64) DEFAULT '' NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT NULL, contact VARCHAR(512) DEFAULT '' NOT NULL, received VARCHAR(128) DEFAULT NULL, path VARCHAR(512) DEFAULT NULL, expires {EXPIRES}, q {REAL} DEFAULT 1.0 NOT NULL, callid VARCHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INTEGER DEFAULT 1 NOT NULL, last_modified {TIME} DEFAULT '2000-01-01 00:00:01' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL, cflags INTEGER DEFAULT 0 NOT NULL, user_agent VARCHAR(255) DEFAULT '' NOT NULL, socket VARCHAR(64) DEFAULT NULL, methods INTEGER DEFAULT NULL, instance VARCHAR(255) DEFAULT NULL, reg_id INTEGER DEFAULT 0 NOT NULL, server_id INTEGER DEFAULT 0 NOT NULL, connection_id INTEGER DEFAULT 0 NOT NULL, keepalive INTEGER DEFAULT 0 NOT NULL, {PARTITION} INTEGER DEFAULT 0 NOT NULL, CONSTRAINT location_ruid_idx UNIQUE (ruid));
CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0);
";

impl Node {
    pub(super) fn put(&self, binding: &StoredBinding) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.bindings().insert(BindingKey::of(binding), (number, binding.clone()));
    }

    pub(super) fn take_all(&self, other: &Self) {
        *self.bindings() = other.bindings().clone();
    }

    pub(super) fn bindings(&self) -> MutexGuard<'_, BTreeMap<BindingKey, (u64, StoredBinding)>> {
        self.bindings.lock().expect("no test panics inside")
    }
}

pub(super) fn published(binding: &StoredBinding) -> PublishedBinding {
    PublishedBinding { stored: binding.clone(), path: Bytes::from_static(b"<sip:token@192.0.2.5;lr>") }
}

impl Published for Node {
    fn epoch(&self) -> Option<Epoch> {
        Some(Epoch(self.epoch.load(Ordering::Relaxed))).filter(|epoch| epoch.0 > 0)
    }

    fn with_keys(&self, keys: &[BindingKey]) -> Vec<Option<(Place, PublishedBinding)>> {
        let bindings = self.bindings();
        let find = |key| {
            let (number, binding) = bindings.get(key)?;
            Some((Place { owner: 0, number: *number }, published(binding)))
        };
        keys.iter().map(find).collect()
    }

    fn listeners(&self) -> Vec<(Transport, LocalAddr)> {
        vec![binding("a@b", "").listener]
    }

    fn at(&self, places: &[Place]) -> Vec<Option<PublishedBinding>> {
        let bindings = self.bindings();
        let of = |place: &Place| {
            bindings
                .values()
                .find(|(number, _)| *number == place.number)
                .map(|(_, binding)| published(binding))
        };
        places.iter().map(of).collect()
    }

    /// Pages of a hundred.
    fn page(&self, behind: Option<Page>) -> (Vec<(Place, PublishedBinding)>, Option<Page>) {
        let first = behind.map_or(0, |page| page.row);
        let bindings = self.bindings();
        let page = bindings.values().skip(first as usize).take(100);
        let found: Vec<_> =
            page.map(|(number, binding)| (Place { owner: 0, number: *number }, published(binding))).collect();
        let next = first + 100;
        (found, ((next as usize) < bindings.len()).then_some(Page { partition: 0, row: next }))
    }
}

impl Running {
    pub(super) fn begin(settings: &ServerSettings, epoch: u64) -> Self {
        let running = Self::standing_by(settings);
        running.node.epoch.store(epoch, Ordering::Relaxed);
        wait_for(|| running.publication().work != PublicationWork::None);
        running
    }

    fn standing_by(settings: &ServerSettings) -> Self {
        let place = Temporary::new();
        let store = ServerStore::open(settings.clone(), &place.file).expect("the disk is good");
        let node = Arc::new(Node::default());
        store.attach(Arc::clone(&node) as Arc<dyn Published>);
        Self { node, store, _place: place }
    }

    pub(super) fn put(&self, binding: &StoredBinding) {
        self.node.put(binding);
        self.store.save(put(binding));
    }

    fn end(&self, binding: &StoredBinding) {
        let key = BindingKey::of(binding);
        self.node.bindings().remove(&key);
        self.store.save(Change::Remove(key));
    }

    pub(super) fn elsewhere(&self, of: &str) -> Vec<String> {
        let (sender, receiver) = mpsc::channel();
        self.store
            .find_elsewhere(aor(of), Box::new(move |found| sender.send(found).expect("it is waited for")));
        let found = receiver.recv_timeout(Duration::from_secs(30)).expect("each is answered");
        found.into_iter().map(|(_, address)| address.to_string()).collect()
    }

    pub(super) fn stand_by(&self) {
        self.node.epoch.store(0, Ordering::Relaxed);
        wait_for(|| self.publication().work == PublicationWork::None);
    }

    pub(super) fn publication(&self) -> Publication {
        self.store.publication().expect("it publishes")
    }

    /// Until nothing is owed and the table was compared.
    pub(super) fn wait_for_all(&self) {
        wait_for(|| {
            let seen = self.publication();
            seen.work == PublicationWork::Writing && seen.owed == 0 && seen.failing.is_none()
        });
    }
}

/// Each table with each server that is installed.
fn all() -> Vec<(Arc<Engine>, Made)> {
    let engines: Vec<_> = KINDS.into_iter().filter_map(Engine::shared).collect();
    let with = |made: Made| engines.iter().map(move |engine| (Arc::clone(engine), made)).collect::<Vec<_>>();
    MADE.into_iter().flat_map(with).collect()
}

fn whole(of: &str, contact: &str) -> StoredBinding {
    StoredBinding {
        path: vec![Bytes::from_static(b"<sip:edge.example.org;lr>")],
        instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
        reg_id: Some(1),
        q: Some(300),
        user_agent: Some(Bytes::from("Phone 1.0 \u{fc}")),
        nat: true,
        ..binding(of, contact)
    }
}

pub(super) fn contacts(engine: &Engine, settings: &ServerSettings) -> Vec<String> {
    let mut contacts =
        engine.rows(settings, &format!("SELECT {} FROM location", text(engine, "contact"))).concat();
    contacts.sort();
    contacts
}

fn columns(engine: &Engine) -> String {
    let columns = ["username", "domain", "received", "path", "callid", "cseq", "socket"];
    columns.map(|column| text(engine, column)).join(", ")
}

fn text(engine: &Engine, column: &str) -> String {
    match engine.kind() {
        Kind::Postgres => format!("{column}::text"),
        Kind::MariaDb => format!("CAST({column} AS CHAR)"),
    }
}

/// Something that another thread does.
#[track_caller]
pub(super) fn wait_for(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

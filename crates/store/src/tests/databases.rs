//! What must be so whatever the database is: SQLite, PostgreSQL, MariaDB.

use std::sync::atomic::{AtomicBool, Ordering};

use super::engines::{Engine, KINDS};
use routing::Anchoring;

use super::*;
use crate::server::inspect::inspect;

/// A database with Tandem's own tables, of any kind.
enum Base {
    File(Temporary),
    Server { settings: Box<ServerSettings>, place: Temporary, _engine: Arc<Engine> },
}

#[test]
fn subscribers_are_added_changed_listed_and_removed() {
    for base in Base::all() {
        let mut subscribers = base.subscribers();
        subscribers.add(&alice()).expect("she is new");
        let bob = aor("bob@example.com");
        subscribers.add(&new_subscriber("bob@example.com")).expect("it is new");

        for taken in ["alice@example.org", "ali@example.org"] {
            let refused = subscribers.add(&new_subscriber(taken));
            assert_eq!(refused, Err(SubscriberError::Exists(aor(taken))));
        }
        assert_eq!(list(&subscribers, None), ["bob@example.com", "alice@example.org"]);
        assert_eq!(list(&subscribers, Some("example.org")), ["alice@example.org"]);
        assert_eq!(subscribers.count(), Ok(2));
        assert_eq!(
            subscribers.names(&aor("alice@example.org")),
            Ok(vec![aor("alice@example.org"), aor("ali@example.org")])
        );

        let other = Credentials::of(&bob, "office", "other");
        assert_eq!(subscribers.set_credentials(&bob, &other), Ok(()));
        assert_eq!(subscribers.count_of_other_realms(None), Ok(1));
        assert_eq!(subscribers.count_of_other_realms(Some("office")), Ok(1));
        assert_eq!(subscribers.set_limit(&bob, Some(3)), Ok(()));
        assert_eq!(subscribers.set_relay(&bob, Some(Anchoring::Nat)), Ok(()));
        assert_eq!(subscribers.set_relay(&bob, Some(Anchoring::Always)), Ok(()));
        let store = base.store();
        let found_bob = found(load(&*store, "bob@example.com"));
        assert_eq!(found_bob.calls.relay, Some(Anchoring::Always));
        assert_eq!(relay_of(&subscribers, "bob@example.com"), Some(Anchoring::Always));
        assert_eq!(subscribers.set_relay(&bob, None), Ok(()));
        assert_eq!(relay_of(&subscribers, "bob@example.com"), None);
        assert_eq!((&*found_bob.ha1[0].1, found_bob.calls.limit), (other.md5.as_str(), Some(3)));

        assert_eq!(subscribers.remove(&aor("alice@example.org")), Ok(vec![aor("ali@example.org")]));
        assert_eq!(load(&*store, "ali@example.org"), Loaded::NotFound);
        let unknown = SubscriberError::Unknown(aor("alice@example.org"));
        assert_eq!(subscribers.remove(&aor("alice@example.org")), Err(unknown.clone()));
        assert_eq!(subscribers.set_credentials(&aor("alice@example.org"), &other), Err(unknown.clone()));
        assert_eq!(subscribers.set_relay(&aor("alice@example.org"), None), Err(unknown.clone()));
        assert_eq!(subscribers.set_limit(&aor("alice@example.org"), None), Err(unknown));
    }
}

#[test]
fn an_account_is_found_by_its_name_and_by_its_alias_with_all_hashes() {
    for base in Base::all() {
        base.subscribers().add(&alice()).expect("she is new");
        let store = base.store();

        for name in ["alice@example.org", "ali@example.org"] {
            let account = found(load(&*store, name));
            assert_eq!(account.aor, aor("alice@example.org"), "{name}");
            let algorithms: Vec<_> = account.ha1.iter().map(|(algorithm, _)| *algorithm).collect();
            assert_eq!(algorithms, [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]);
            assert_eq!(account.aliases, [aor("ali@example.org")]);
            assert_eq!(account.may_use, [aor("sales@example.org")]);
        }
        for nobody in ["bob@example.org", "alice@example.com", "Alice@example.org"] {
            assert_eq!(load(&*store, nobody), Loaded::NotFound, "{nobody}");
        }
    }
}

#[test]
fn forwards_are_loaded_with_the_account_and_go_with_it() {
    for base in Base::all() {
        let mut subscribers = base.subscribers();
        subscribers.add(&alice()).expect("she is new");
        let alice = aor("alice@example.org");
        let mut wanted = routing::Forwards {
            busy: routing::ForwardTarget::parse("*98", "example.org"),
            no_answer: routing::ForwardTarget::parse("tel:+4930123", "example.org"),
            no_answer_after: Some(Duration::from_secs(20)),
            ..routing::Forwards::default()
        };
        subscribers.change_forwards(&alice, |forwards| *forwards = wanted.clone()).expect("she is there");
        let store = base.store();

        assert_eq!(found(load(&*store, "alice@example.org")).calls.forwards, wanted);
        wanted.busy = None;
        subscribers.change_forwards(&alice, |forwards| forwards.busy = None).expect("she is there");
        assert_eq!(found(load(&*store, "alice@example.org")).calls.forwards, wanted);
        let mut listed = Vec::new();
        let take = |found: Subscriber| {
            listed.push(found.forwards);
            true
        };
        subscribers.list(None, take).expect("it can be read");
        assert_eq!(listed, [wanted]);

        let nobody = aor("nobody@example.org");
        let refused = subscribers.change_forwards(&nobody, |_| {});
        assert_eq!(refused, Err(SubscriberError::Unknown(nobody)));
        subscribers.remove(&alice).expect("she is there");
        subscribers.add(&new_subscriber("alice@example.org")).expect("she is gone");
        assert!(found(load(&*store, "alice@example.org")).calls.forwards.is_empty());
    }
}

#[test]
fn a_name_is_added_and_taken_away_and_is_never_that_of_two() {
    for base in Base::all() {
        let (alice_aor, number) = (aor("alice@example.org"), aor("2001@example.com"));
        let mut subscribers = base.subscribers();
        subscribers.add(&alice()).expect("she is new");
        let store = base.store();

        subscribers.add_alias(&alice_aor, &number).expect("it is free");

        assert_eq!(found(load(&*store, "2001@example.com")).aor, alice_aor);
        for taken in [&number, &alice_aor] {
            let refused = subscribers.add_alias(&alice_aor, taken);
            assert_eq!(refused, Err(SubscriberError::Exists(taken.clone())), "{taken}");
        }
        let nobody = aor("nobody@example.org");
        assert_eq!(
            subscribers.add_alias(&nobody, &aor("2002@example.com")),
            Err(SubscriberError::Unknown(nobody.clone()))
        );
        assert_eq!(subscribers.remove_alias(&number), Ok(alice_aor));
        assert_eq!(load(&*store, "2001@example.com"), Loaded::NotFound);
        assert_eq!(subscribers.remove_alias(&number), Err(SubscriberError::NoAlias(number)));
    }
}

#[test]
fn a_list_longer_than_a_page_is_whole_and_in_order() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        let rows: Vec<String> = (0..1_200).map(|number| format!("('u{number:04}', 'example.org')")).collect();
        let sql = format!("INSERT INTO subscriber (username, domain) VALUES {}", rows.join(", "));
        engine.script(&settings, &sql);

        let names = list(&Subscribers::on_server(settings).expect("it is right"), None);

        let wanted: Vec<String> = (0..1_200).map(|number| format!("u{number:04}@example.org")).collect();
        assert_eq!(names, wanted);
    }
}

/// As `scripts/postgres/auth_db-create.sql` and `scripts/mysql/auth_db-create.sql` of OpenSIPS 3.4 shape them.
pub const OPENSIPS: &str = "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version (table_name, table_version) VALUES ('subscriber', 8), ('location', 1013), ('dbaliases', 2);
CREATE TABLE subscriber (id INTEGER PRIMARY KEY, username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL, password CHAR(25) DEFAULT '' NOT NULL, ha1 CHAR(64) DEFAULT '' NOT NULL, ha1_sha256 CHAR(64) DEFAULT '' NOT NULL, ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL, CONSTRAINT subscriber_account_idx UNIQUE (username, domain));
CREATE TABLE dbaliases (id INTEGER PRIMARY KEY, alias_username CHAR(64) DEFAULT '' NOT NULL, alias_domain CHAR(64) DEFAULT '' NOT NULL, username CHAR(64) DEFAULT '' NOT NULL, domain CHAR(64) DEFAULT '' NOT NULL);
INSERT INTO subscriber VALUES (1, 'alice', 'example.org', '', 'MD5A', 'SHA256A', 'SHA512A');
INSERT INTO subscriber VALUES (2, 'bob', 'example.org', 'secret', '', '', '');
INSERT INTO dbaliases VALUES (1, '2001', 'example.org', 'alice', 'example.org');
";
/// As `utils/kamctl/postgres/auth_db-create.sql` and `utils/kamctl/mysql/auth_db-create.sql` of Kamailio 5.8 shape them.
pub const KAMAILIO: &str = "CREATE TABLE version (id INTEGER PRIMARY KEY, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES (1, 'subscriber', 7), (2, 'location', 9), (3, 'dbaliases', 1);
CREATE TABLE subscriber (id INTEGER PRIMARY KEY, username VARCHAR(64) DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT '' NOT NULL, password VARCHAR(64) DEFAULT '' NOT NULL, ha1 VARCHAR(128) DEFAULT '' NOT NULL, ha1b VARCHAR(128) DEFAULT '' NOT NULL, CONSTRAINT subscriber_account_idx UNIQUE (username, domain));
CREATE TABLE dbaliases (id INTEGER PRIMARY KEY, alias_username VARCHAR(64) DEFAULT '' NOT NULL, alias_domain VARCHAR(64) DEFAULT '' NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT '' NOT NULL);
INSERT INTO subscriber VALUES (1, 'alice', 'example.org', '', 'MD5A', 'MD5B');
INSERT INTO subscriber VALUES (2, 'bob', 'example.org', 'secret', '', '');
INSERT INTO dbaliases VALUES (1, '2001', 'example.org', 'alice', 'example.org');
";

#[test]
fn the_tables_of_opensips_and_kamailio_are_read() {
    let hashes = Credentials::of(&aor("alice@example.org"), "example.org", "secret");
    let of_whole_name = "ab".repeat(16);
    for (engine, (script, name)) in with_engines([(OPENSIPS, "OpenSIPS"), (KAMAILIO, "Kamailio")]) {
        let settings = engine.database();
        let filled = script
            .replace("MD5A", &hashes.md5)
            .replace("MD5B", &of_whole_name)
            .replace("SHA256A", &hashes.sha256)
            .replace("SHA512A", &hashes.sha512_256);
        engine.script(&settings, &filled);
        let place = Temporary::new();
        let store = ServerStore::open(settings.clone(), &place.file).expect("the disk is good");

        let alice = found(load(&store, "2001@example.org"));
        let bob = found(load(&store, "bob@example.org"));

        assert_eq!((alice.aor, alice.aliases), (aor("alice@example.org"), vec![aor("2001@example.org")]));
        let texts: Vec<&str> = alice.ha1.iter().map(|(_, hash)| &**hash).collect();
        match name {
            "OpenSIPS" => assert_eq!(texts, [&hashes.md5, &hashes.sha256, &hashes.sha512_256]),
            _ => assert_eq!(texts, [&hashes.md5, &of_whole_name]),
        }
        let readable = Credentials::of(&aor("bob@example.org"), "example.org", "secret");
        assert_eq!(&*bob.ha1[0].1, readable.md5);
        // MariaDB itself takes one case of letters for the other.
        for nobody in ["carol@example.org", "Bob@example.org"] {
            assert_eq!(load(&store, nobody), Loaded::NotFound, "{nobody}");
        }
        let seen = inspect(&settings).expect("it is well");
        assert!(seen.dialect.contains(name) && seen.wanting.len() == 4, "{seen:?}");

        let mut subscribers = Subscribers::on_server(settings).expect("it is right");
        let other = Credentials::of(&aor("bob@example.org"), "example.org", "other");
        subscribers.set_credentials(&aor("bob@example.org"), &other).expect("he is there");
        assert_eq!(&*found(load(&store, "bob@example.org")).ha1[0].1, other.md5);
        let refused = subscribers.set_limit(&aor("bob@example.org"), Some(1)).expect_err("no column");
        assert!(refused.to_string().contains("calls_max"), "{refused}");
    }
}

#[test]
fn what_can_not_be_used_is_told_with_the_mend() {
    let cases = [
        ("", "tandem database init"),
        ("CREATE TABLE version (table_name CHAR(32), table_version INTEGER)", "no table subscriber"),
        (&OPENSIPS.replace("'subscriber', 8", "'subscriber', 5"), "has version 5, and version 7 or 8"),
        (&OPENSIPS.replace("ha1 CHAR", "hash CHAR"), "no column ha1"),
        (&KAMAILIO.replace("'subscriber', 7", "'subscribers', 7"), "no row for subscriber"),
    ];
    for (engine, (script, word)) in with_engines(cases) {
        let settings = engine.database();
        engine.script(&settings, script);

        let error = inspect(&settings).expect_err("it can not be used").to_string();

        assert!(error.contains(word), "{error}");
    }
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let right = engine.database();
        let wrong = |change: fn(&mut ServerSettings)| {
            let mut settings = right.clone();
            change(&mut settings);
            inspect(&settings).expect_err("it is wrong").to_string()
        };
        let error = wrong(|it| it.password = Some("other".to_owned()));
        assert!(error.contains("password is wrong"), "{error}");
        let error = wrong(|it| it.url.database = "elsewhere".to_owned());
        assert!(error.contains("make the database"), "{error}");
        let error =
            wrong(|it| it.url.hosts = vec![crate::server::address::HostPlace::Socket("/nowhere".into())]);
        assert!(error.contains("start the server"), "{error}");
    }
}

#[test]
fn tables_are_made_in_an_empty_database_and_never_over_others() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = engine.database();

        crate::init_server(&settings).expect("it is empty");

        assert_eq!(inspect(&settings).map(|seen| seen.wanting), Ok(Vec::new()));
        let error = crate::init_server(&settings).expect_err("it is not empty").to_string();
        assert!(error.contains("subscriber") && error.contains("nothing was changed"), "{error}");
    }
}

#[test]
fn the_witness_has_its_table_in_the_same_database_whichever_is_made_first() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (first, second) = (engine.database(), engine.database());

        assert_eq!(crate::init_lease(&first), Ok(vec!["tandem_lease"]));
        let made = crate::init_server(&first).expect("that table is in nobody's way");
        assert!(made.contains(&"subscriber") && !made.contains(&"tandem_lease"), "{made:?}");
        let made = crate::init_server(&second).expect("it is empty");
        assert!(made.contains(&"tandem_lease"), "{made:?}");
        assert_eq!(crate::init_lease(&second), Ok(Vec::new()));

        for settings in [first, second] {
            assert_eq!(inspect(&settings).map(|seen| seen.wanting), Ok(Vec::new()));
        }
    }
}

#[test]
fn a_renewal_is_not_answered_by_a_primary_whose_synchronous_replica_is_silent() {
    let Some(engine) = Engine::start(engines::Kind::Postgres) else { return };
    let settings = engine.database();
    crate::init_lease(&settings).expect("it is empty");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
    let mut row = LeaseRow::new(settings.clone(), "cluster", Duration::from_secs(60));
    let change = |history, before, after, durability| RowChange { before, history, after, durability };
    let history = runtime.block_on(row.read()).expect("it is well").history;
    let first = runtime.block_on(row.write(change(history, None, "a", Durability::Durable)));
    assert_eq!(first, Ok(Outcome::Done));
    let reload = "SELECT pg_reload_conf()";
    engine.script(&settings, &format!("ALTER SYSTEM SET synchronous_standby_names = 'silent';\n{reload}"));

    // Until the server has heard of it renewals are answered.
    let is_enough = Arc::new(AtomicBool::new(false));
    let is_over = Arc::clone(&is_enough);
    let renewing = std::thread::spawn(move || {
        runtime.block_on(async {
            while !is_over.load(Ordering::Relaxed) {
                for (before, after) in [("a", "b"), ("b", "a")] {
                    let renewed = row.write(change(history, Some(before), after, Durability::Renewal)).await;
                    assert_eq!(renewed, Ok(Outcome::Done));
                }
            }
        });
    });

    let waiting = "SELECT '1' FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    wait_for(|| !engine.rows(&settings, waiting).is_empty());
    is_enough.store(true, Ordering::Relaxed);
    engine.script(&settings, &format!("ALTER SYSTEM RESET synchronous_standby_names;\n{reload}"));
    renewing.join().expect("each was written");
}

#[test]
fn a_server_that_can_only_be_read_serves_and_refuses_changes() {
    let Some(engine) = Engine::shared(engines::Kind::Postgres) else { return };
    let settings = engine.database();
    crate::init_server(&settings).expect("it is empty");
    let mut subscribers = Subscribers::on_server(settings.clone()).expect("it is right");
    subscribers.add(&alice()).expect("she is new");
    let name = &settings.url.database;
    engine.script(&settings, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));

    let refused = subscribers.remove(&aor("alice@example.org")).expect_err("it can not be written");

    assert!(refused.to_string().contains("name the primary"), "{refused}");
    let place = Temporary::new();
    let store = ServerStore::open(settings, &place.file).expect("the disk is good");
    assert_eq!(found(load(&store, "alice@example.org")).aor, aor("alice@example.org"));
}

#[test]
fn a_server_that_goes_away_fails_the_state_and_is_used_again_when_it_is_back() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        Subscribers::on_server(settings.clone()).expect("it is right").add(&alice()).expect("she is new");
        let place = Temporary::new();
        let store = ServerStore::open(settings, &place.file).expect("the disk is good");
        assert_eq!(found(load(&store, "alice@example.org")).aor, aor("alice@example.org"));

        engine.kill();

        wait_for(|| matches!(load(&store, "alice@example.org"), Loaded::Kept(_)));
        assert_eq!(load(&store, "bob@example.org"), Loaded::Unavailable);
        wait_for(|| store.state().failing.is_some());
        let kept = binding("alice@example.org", "sip:a");
        save(&store, &[put(&kept)]);
        assert_eq!(store.bindings(), Ok(vec![kept]));
        engine.start_again();
        wait_for(|| store.state().failing.is_none());
        assert_eq!(found(load(&store, "alice@example.org")).aor, aor("alice@example.org"));
    }
}

fn relay_of(subscribers: &Subscribers, name: &str) -> Option<Anchoring> {
    let mut found = None;
    let take = |it: crate::Subscriber| {
        if it.aor == aor(name) {
            found = it.relay;
        }
        true
    };
    subscribers.list(None, take).expect("it can be read");
    found
}

impl Base {
    /// One of each kind that is installed.
    fn all() -> Vec<Self> {
        let servers = KINDS.into_iter().filter_map(|kind| {
            let engine = Engine::shared(kind)?;
            let settings = engine.database();
            crate::init_server(&settings).expect("it is empty");
            Some(Self::Server { settings: Box::new(settings), place: Temporary::new(), _engine: engine })
        });
        std::iter::once(Self::File(Temporary::new())).chain(servers).collect()
    }

    fn subscribers(&self) -> Subscribers {
        match self {
            Self::File(place) => Subscribers::open(&place.file).expect("it can be opened"),
            Self::Server { settings, .. } => {
                Subscribers::on_server((**settings).clone()).expect("it is right")
            }
        }
    }

    fn store(&self) -> Box<dyn Store> {
        match self {
            Self::File(place) => Box::new(place.open()),
            Self::Server { settings, place, .. } => {
                Box::new(ServerStore::open((**settings).clone(), &place.file).expect("the disk is good"))
            }
        }
    }
}

/// Each case with each server that is installed.
pub fn with_engines<T: Clone>(cases: impl IntoIterator<Item = T>) -> Vec<(Arc<Engine>, T)> {
    let engines: Vec<_> = KINDS.into_iter().filter_map(Engine::shared).collect();
    let pair =
        |case: T| engines.iter().map(move |engine| (Arc::clone(engine), case.clone())).collect::<Vec<_>>();
    cases.into_iter().flat_map(pair).collect()
}

pub fn alice() -> NewSubscriber {
    NewSubscriber {
        aliases: vec![aor("ali@example.org")],
        may_use: vec![aor("sales@example.org")],
        ..new_subscriber("alice@example.org")
    }
}

/// Something that another thread does.
#[track_caller]
pub fn wait_for(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

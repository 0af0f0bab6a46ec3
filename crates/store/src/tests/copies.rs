//! Accounts of a server while it is away, and changes that others make in its tables.

use std::sync::Mutex;

use super::databases::{OPENSIPS, alice, wait_for, with_engines};
use super::engines::{Engine, KINDS};
use super::*;

#[test]
fn an_account_that_was_used_serves_after_a_restart_without_the_server() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        let mut subscribers = Subscribers::on_server(settings.clone()).expect("it is right");
        subscribers.add(&alice()).expect("she is new");
        subscribers.add(&new_subscriber("bob@example.org")).expect("he is new");
        let set = |forwards: &mut routing::Forwards| {
            forwards.busy = routing::ForwardTarget::parse("*98", "example.org");
        };
        subscribers.change_forwards(&aor("alice@example.org"), set).expect("she is there");
        let place = Temporary::new();
        let store = open(&settings, &place);
        let known = found(load(&store, "alice@example.org"));
        drop(store);
        engine.kill();

        let store = open(&settings, &place);

        wait_for(|| store.state().failing.is_some());
        for name in ["alice@example.org", "ali@example.org"] {
            assert_eq!(kept(load(&store, name)), known, "{name}");
        }
        assert!(known.calls.forwards.busy.is_some() && known.ha1.len() == 3, "{known:?}");
        assert_eq!(load(&store, "bob@example.org"), Loaded::Unavailable);
        let copy = store.state().copy.expect("it has one");
        assert!(copy.is_serving && copy.accounts == 1, "{copy:?}");
    }
}

#[test]
fn what_was_changed_while_nobody_looked_is_right_as_soon_as_the_server_is_back() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        let mut subscribers = Subscribers::on_server(settings.clone()).expect("it is right");
        for name in ["alice@example.org", "bob@example.org", "carol@example.org"] {
            subscribers.add(&new_subscriber(name)).expect("it is new");
        }
        let place = Temporary::new();
        let store = open(&settings, &place);
        for name in ["alice@example.org", "bob@example.org", "carol@example.org"] {
            found(load(&store, name));
        }
        drop(store);
        let (alice, bob) = (aor("alice@example.org"), aor("bob@example.org"));
        let other = Credentials::of(&alice, "example.org", "other");
        subscribers.set_credentials(&alice, &other).expect("she is there");
        subscribers.remove(&bob).expect("he is there");
        engine.kill();
        let store = open(&settings, &place);
        let news = watched(&store);
        wait_for(|| store.state().failing.is_some());
        assert_ne!(&*kept(load(&store, "alice@example.org")).ha1[0].1, other.md5);
        kept(load(&store, "bob@example.org"));

        engine.start_again();

        wait_for(|| news.of(&alice).is_some() && news.of(&bob).is_some());
        assert_eq!(&*found(news.of(&alice).expect("told")).ha1[0].1, other.md5);
        assert_eq!(news.of(&bob), Some(Loaded::NotFound));
        assert_eq!(news.of(&aor("carol@example.org")), None);
        wait_for(|| store.state().copy.is_some_and(|copy| copy.accounts == 2 && !copy.is_serving));
        drop(store);
        engine.kill();
        let store = open(&settings, &place);
        wait_for(|| store.state().failing.is_some());
        assert_eq!(&*kept(load(&store, "alice@example.org")).ha1[0].1, other.md5);
        assert_eq!(load(&store, "bob@example.org"), Loaded::Unavailable);
    }
}

#[test]
fn what_others_change_in_the_tables_is_told_without_being_asked_for() {
    for (engine, ()) in with_engines([()]) {
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        let mut subscribers = Subscribers::on_server(settings.clone()).expect("it is right");
        subscribers.add(&alice()).expect("she is new");
        subscribers.add(&new_subscriber("bob@example.org")).expect("he is new");
        let place = Temporary::new();
        let store = open(&settings, &place);
        let news = watched(&store);
        let before = found(load(&store, "alice@example.org"));
        found(load(&store, "bob@example.org"));

        let hash = "c".repeat(32);
        let changes = [
            format!("UPDATE subscriber SET ha1 = '{hash}' WHERE username = 'alice'"),
            "INSERT INTO tandem_forward VALUES ('alice', 'example.org', 'always', 'sip:x@example.com', NULL)"
                .to_owned(),
            "UPDATE dbaliases SET username = 'bob' WHERE alias_username = 'ali'".to_owned(),
            "INSERT INTO tandem_relay VALUES ('alice', 'example.org', 'always')".to_owned(),
        ];
        engine.script(&settings, &changes.join(";\n"));

        let (alice, ali, bob) = (aor("alice@example.org"), aor("ali@example.org"), aor("bob@example.org"));
        let of = |name| match news.of(name) {
            Some(Loaded::Found(account)) => Some(account),
            _ => None,
        };
        wait_for(|| of(&ali).is_some_and(|account| account.aor == bob));
        wait_for(|| of(&alice).is_some_and(|account| account.aliases.is_empty()));
        let after = of(&alice).expect("told");
        assert_eq!(&*after.ha1[0].1, hash);
        assert_eq!(after.calls.relay, Some(routing::Anchoring::Always));
        assert!(before.calls.forwards.always.is_none() && after.calls.forwards.always.is_some());
        assert_eq!(of(&bob).map(|account| account.aliases.clone()), Some(vec![ali.clone()]));

        engine.script(&settings, "DELETE FROM subscriber WHERE username = 'bob'");
        wait_for(|| news.of(&bob) == Some(Loaded::NotFound));
        assert_eq!(news.of(&ali), Some(Loaded::NotFound));
    }
}

#[test]
fn the_account_of_a_phone_that_the_other_node_registered_is_remembered() {
    for kind in KINDS {
        let Some(engine) = Engine::start(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        Subscribers::on_server(settings.clone()).expect("it is right").add(&alice()).expect("she is new");
        let place = Temporary::new();
        let store = open(&settings, &place);

        store.save(put(&binding("ali@example.org", "sip:a")));

        wait_for(|| store.state().copy.is_some_and(|copy| copy.accounts == 1));
        engine.kill();
        wait_for(|| store.state().failing.is_some());
        assert_eq!(kept(load(&store, "alice@example.org")).aor, aor("alice@example.org"));
    }
}

#[test]
fn no_password_that_a_server_keeps_readable_is_in_the_copy() {
    for (engine, script) in with_engines([OPENSIPS]) {
        let settings = engine.database();
        engine.script(&settings, script);
        let place = Temporary::new();
        let store = open(&settings, &place);
        assert_eq!(found(load(&store, "bob@example.org")).ha1.len(), 3);
        drop(store);

        for entry in std::fs::read_dir(place.directory.path()).expect("it is there") {
            let bytes = std::fs::read(entry.expect("it can be read").path()).expect("it can be read");
            assert!(!bytes.windows(6).any(|window| window == b"secret"));
        }
        let beside = Connection::open(&place.file).expect("it can be opened");
        let copies: i64 = beside
            .query_row("SELECT count(*) FROM account_copy", [], |row| row.get(0))
            .expect("it can be read");
        assert_eq!(copies, 1);
    }
}

/// What was told last of each name.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<(Aor, Loaded)>>>);

impl Heard {
    fn of(&self, name: &Aor) -> Option<Loaded> {
        let heard = self.0.lock().expect("no test panics inside");
        heard.iter().rev().find(|(it, _)| it == name).map(|(_, loaded)| loaded.clone())
    }
}

fn watched(store: &ServerStore) -> Heard {
    let heard = Heard::default();
    let hears = heard.clone();
    store.watch(Arc::new(move |name, loaded| {
        hears.0.lock().expect("no test panics inside").push((name, loaded));
    }));
    heard
}

fn open(settings: &ServerSettings, place: &Temporary) -> ServerStore {
    ServerStore::open(settings.clone(), &place.file).expect("the disk is good")
}

fn kept(loaded: Loaded) -> Account {
    match loaded {
        Loaded::Kept(account) => Account::clone(&account),
        other => panic!("{other:?}"),
    }
}

//! What is wrong with a server that answers.

use routing::Anchoring;

use super::databases::KAMAILIO;
use super::engines::{Engine, KINDS, Kind};
use super::*;
use crate::server::inspect::inspect;
use crate::server::session::Session;
use crate::server::shortcomings::shortcomings;

#[test]
fn a_character_set_that_can_not_hold_every_name_is_told_with_the_mend() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let cases = match kind {
            Kind::Postgres => [
                ("TEMPLATE template0 ENCODING 'UTF8'", None),
                (
                    "TEMPLATE template0 ENCODING 'LATIN1'",
                    Some("is LATIN1, which can not hold every name; make one"),
                ),
                ("TEMPLATE template0 ENCODING 'SQL_ASCII'", Some("is SQL_ASCII, which takes any bytes")),
            ],
            Kind::MariaDb => [
                ("CHARACTER SET utf8mb4", None),
                (
                    "CHARACTER SET latin1",
                    Some("latin1 of dbaliases, subscriber can not hold every name: ALTER TABLE"),
                ),
                ("CHARACTER SET ascii", Some("ascii of dbaliases, subscriber can not hold every name")),
            ],
        };
        for (options, word) in cases {
            let settings = engine.database_with(options);
            engine.script(&settings, KAMAILIO);

            let told = inspect(&settings).expect("its accounts can be read").shortcomings;

            assert_eq!(told.len(), usize::from(word.is_some()), "{options}: {told:?}");
            assert!(word.is_none_or(|word| told[0].contains(word)), "{options}: {told:?}");
        }
    }
}

#[test]
fn a_clock_of_the_server_that_is_far_from_this_hosts_is_told() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it is small");
        let told = |now: fn() -> WallTime| {
            runtime.block_on(async {
                let mut session = Session::open(&settings).await.expect("it is well");
                shortcomings(&mut session, now).await.expect("it is well")
            })
        };

        assert_eq!(told(wall_now), Vec::<String>::new());
        let behind = told(|| WallTime::from_millis(wall_now().as_millis() + 600_500));
        assert!(behind[0].contains(" s behind this host's") && behind[0].contains("NTP"), "{behind:?}");
        let ahead = told(|| WallTime::from_millis(wall_now().as_millis() - 600_500));
        assert!(ahead[0].contains("600 s ahead of this host's"), "{ahead:?}");
    }
}

#[test]
fn rules_for_the_relay_are_counted_wherever_accounts_are() {
    let place = Temporary::new();
    assert_eq!(crate::relay_rules(&place.file), None, "there is no file, and none is made");
    assert!(!place.file.exists());
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = engine.database();
        crate::init_server(&settings).expect("it is empty");
        add_with_rules(Subscribers::on_server(settings.clone()).expect("it is right"));
        assert_eq!(inspect(&settings).expect("it is well").relay_rules, 2);
    }
    add_with_rules(Subscribers::open(&place.file).expect("there is room"));
    assert_eq!(crate::relay_rules(&place.file), Some(2));
}

fn add_with_rules(mut subscribers: Subscribers) {
    let rules = [None, Some(Anchoring::Never), Some(Anchoring::Nat), Some(Anchoring::Always)];
    for (number, rule) in (0..).zip(rules) {
        let new = new_subscriber(&format!("{number}@example.org"));
        subscribers.add(&new).expect("it is new");
        subscribers.set_relay(&new.aor, rule).expect("it is there");
    }
}

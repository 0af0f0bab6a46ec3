//! What another server left in the table `location` is read as it was meant, and is not removed before that was decided.

use engine::StoreError;
use lease::Epoch;

use super::engines::{Engine, KINDS, Kind};
use super::location::{MADE, Made, Running, contacts, wait_for};
use super::*;

/// Where and as whom the tests read.
fn read(settings: &ServerSettings, domain: Option<&str>) -> Vec<FoundRow> {
    read_pages(settings, domain, &zone()).expect("it is well")
}

fn read_pages(
    settings: &ServerSettings,
    domain: Option<&str>,
    location: &LocationSettings,
) -> Result<Vec<FoundRow>, StoreError> {
    let listeners = [
        (Transport::Udp, LocalAddr("192.0.2.5:5060".parse().expect("an address"))),
        (Transport::Tcp, LocalAddr("192.0.2.5:5060".parse().expect("an address"))),
    ];
    let serves = |aor: &Aor| aor.domain() == "example.org";
    let home = Home { listeners: &listeners, serves: &serves, domain, is_shared: location.is_shared };
    let mut table = LocationTable::open(settings, location)?;
    let count = table.count()?;
    let mut all = Vec::new();
    loop {
        let page = table.page(&home)?;
        if page.is_empty() {
            assert_eq!(all.len() as u64, count);
            return Ok(all);
        }
        all.extend(page);
    }
}

fn shared() -> LocationSettings {
    LocationSettings { is_shared: true, ..zone() }
}

fn zone() -> LocationSettings {
    LocationSettings { time_zone: Some("Europe/Berlin".to_owned()), is_shared: false }
}

#[test]
fn a_row_of_any_dialect_is_the_binding_that_it_was() {
    for (engine, made) in all() {
        let settings = made.database(&engine);
        engine.script(&settings, &made.row(&[]));

        let found = read(&settings, None);

        let [FoundRow { name, contact, binding: Ok(found) }] = &found[..] else {
            panic!("{made:?}: {found:?}")
        };
        assert_eq!((name.as_str(), contact.as_str()), ("alice@example.org", "sip:alice@10.0.0.7:5062"));
        let wanted = StoredBinding {
            contact: Bytes::from_static(b"sip:alice@10.0.0.7:5062"),
            received: "198.51.100.9:40000".parse().expect("an address"),
            path: vec![
                Bytes::from_static(b"<sip:a,b@192.0.2.77;lr>"),
                Bytes::from_static(b"<sip:edge.example.org;lr>"),
            ],
            instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
            reg_id: made.has_reg_id().then_some(3),
            q: Some(500),
            call_id: Bytes::from_static(b"call-9"),
            cseq: 77,
            user_agent: Some(Bytes::from_static(b"Phone 1.0")),
            nat: true,
            response_hash: 0,
            // 2031-07-01 14:00:00 of Berlin.
            expires_at: WallTime::from_millis(1_940_673_600_000),
            ..binding("alice@example.org", "")
        };
        assert_eq!(*found, wanted, "{made:?}");
    }
}

#[test]
fn dates_of_an_old_opensips_are_read_though_they_are_not_written() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        let settings = Made::OpenSips.database(&engine);
        let time = engine.time();
        engine.script(
            &settings,
            &format!(
                "UPDATE version SET table_version = 1005 WHERE table_name = 'location';\n\
                 DROP TABLE location;\n\
                 CREATE TABLE location (id INTEGER PRIMARY KEY, username CHAR(64) NOT NULL, domain CHAR(64), \
                 contact CHAR(255) NOT NULL, received CHAR(128), path CHAR(128), expires {time} NOT NULL, q FLOAT, \
                 callid CHAR(255), cseq INTEGER, last_modified {time}, flags INTEGER, cflags INTEGER, \
                 user_agent CHAR(255), socket CHAR(64), methods INTEGER);\n\
                 INSERT INTO location (id, username, domain, contact, expires, q, callid, cseq, socket) VALUES \
                 (1, 'alice', 'example.org', 'sip:a@192.0.2.9', '2031-07-01 14:00:00', 1.0, 'c', 5, 'udp:192.0.2.5:5060');\n"
            ),
        );

        let found = read(&settings, None);

        let [FoundRow { binding: Ok(found), .. }] = &found[..] else { panic!("{kind:?}: {found:?}") };
        assert_eq!(found.expires_at, WallTime::from_millis(1_940_673_600_000));
        assert_eq!((found.nat, found.received), (false, "192.0.2.9:5060".parse().expect("an address")));
    }
}

#[test]
fn what_can_not_be_taken_over_is_told_with_the_reason() {
    let cases: [(&[(&str, &str)], LeftOut); 20] = [
        (&[("expires", "'EXPIRED'")], LeftOut::Expired),
        (&[("path", "'<sip:token@192.0.2.5;lr>'")], LeftOut::Own),
        (&[("domain", "NULL")], LeftOut::NoDomain),
        (&[("username", "''")], LeftOut::BrokenName),
        (&[("domain", "'example.net'")], LeftOut::UnknownDomain("example.net".to_owned())),
        (&[("contact", "'<>;x'")], LeftOut::BrokenContact),
        (&[("contact", "'sips:a@10.0.0.7'")], LeftOut::BrokenContact),
        (&[("path", "'sip:a'")], LeftOut::BrokenPath),
        (&[("path", "'<sip:a@192.0.2.77;lr>,\"'")], LeftOut::BrokenPath),
        (&[("path", "'<sip:a@192.0.2.77;lr>\r\nX: y'")], LeftOut::BrokenPath),
        (&[("path", "'X: y\r\n <sip:a@192.0.2.77;lr>'")], LeftOut::BrokenPath),
        (&[("path", "'<sip:a@192.0.2.77;lr>, <sip:b@192.0.2.78;lr> X'")], LeftOut::BrokenPath),
        (&[("callid", "'call\r\nX: y'")], LeftOut::BrokenText("callid")),
        (&[("user_agent", "'Phone\nX: y'")], LeftOut::BrokenText("user_agent")),
        (&[("contact", "'sip:a@10.0.0.7\r\nX: y'")], LeftOut::BrokenText("contact")),
        (&[("received", "'sip:name.example.org:5060'")], LeftOut::BrokenReceived),
        (
            &[("received", "NULL"), ("path", "NULL"), ("contact", "'sip:a@phone.example.org'")],
            LeftOut::NoAddress,
        ),
        (&[("socket", "'udp:192.0.2.6:5060'")], LeftOut::UnknownSocket("udp:192.0.2.6:5060".to_owned())),
        (&[("socket", "'tls:192.0.2.5:5061'")], LeftOut::UnknownSocket("tls:192.0.2.5:5061".to_owned())),
        (&[("socket", "NULL"), ("contact", "'sip:a@10.0.0.7;transport=ws'")], LeftOut::NoSocket),
    ];
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for made in [Made::OpenSips, Made::Kamailio] {
            let settings = made.database(&engine);
            for (changes, wanted) in &cases {
                engine.script(&settings, &format!("DELETE FROM location;\n{}", made.row(changes)));

                let found = read(&settings, None);

                assert_eq!(found[0].binding, Err(wanted.clone()), "{made:?}: {changes:?}");
            }
        }
        let settings = Made::KamailioNumbers.database(&engine);
        for (expires, wanted) in [("0", LeftOut::Permanent), ("-5", LeftOut::BrokenExpires)] {
            engine.script(
                &settings,
                &format!("DELETE FROM location;\n{}", Made::KamailioNumbers.row(&[("expires", expires)])),
            );
            assert_eq!(read(&settings, None)[0].binding, Err(wanted));
        }
    }
}

#[test]
fn a_row_without_a_domain_is_of_the_domain_that_is_told_and_one_without_a_socket_of_the_only_one() {
    let Some(engine) = KINDS.into_iter().find_map(Engine::shared) else { return };
    let settings = Made::OpenSips.database(&engine);
    engine.script(&settings, &Made::OpenSips.row(&[("domain", "''"), ("socket", "NULL")]));

    let found = read(&settings, Some("example.org"));

    let FoundRow { name, binding: Ok(found), .. } = &found[0] else { panic!("{found:?}") };
    assert_eq!((name.as_str(), found.aor.as_str()), ("alice", "alice@example.org"));
    assert_eq!(found.listener.0, Transport::Udp);
}

#[test]
fn a_row_without_a_socket_in_a_shared_table_is_not_taken_over() {
    let Some(engine) = KINDS.into_iter().find_map(Engine::shared) else { return };
    let settings = Made::OpenSips.database(&engine);
    engine.script(&settings, &Made::OpenSips.row(&[("socket", "NULL")]));

    let found = read_pages(&settings, None, &shared()).expect("it is well");

    assert_eq!(found[0].binding, Err(LeftOut::NoSocket));
    assert!(read(&settings, None)[0].binding.is_ok());
}

#[test]
fn a_row_whose_number_can_not_be_read_is_told_and_the_reading_ends() {
    let Some(engine) = Engine::shared(Kind::MariaDb) else { return };
    let mut settings = Made::OpenSips.database(&engine);
    settings.location = Some(zone());
    let id = "18446744073709551615";
    engine.script(&settings, "ALTER TABLE location MODIFY contact_id BIGINT UNSIGNED NOT NULL");
    engine.script(&settings, &Made::OpenSips.row(&[]));
    engine.script(&settings, &Made::OpenSips.row(&[("contact_id", id)]));

    let error = read_pages(&settings, None, &zone()).expect_err("it has no such number");

    assert!(error.reason.contains(id) && error.reason.contains("contact_id"), "{error}");
    let error = crate::inspect(&settings).expect_err("it can not count them").reason;
    assert!(error.contains(id), "{error}");
}

#[test]
fn rows_of_others_are_neither_removed_nor_written_beside_before_it_was_decided() {
    for (engine, made) in all() {
        let mut settings = made.database(&engine);
        settings.location = Some(zone());
        engine.script(&settings, &made.row(&[]));
        assert_eq!(crate::inspect(&settings).expect("it is well").rows_of_others, 1, "{made:?}");
        let running = Running::begin(&settings, 3);
        running.put(&binding("bob@example.org", "sip:bob"));

        wait_for(|| running.publication().failing.is_some());
        let (error, _) = running.publication().failing.expect("it was just there");
        assert!(error.reason.contains("1 rows") && error.reason.contains("tandem import"), "{error}");
        assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062"], "{made:?}");

        // The operator takes it over, and the node has it from then on.
        let FoundRow { binding: Ok(taken), .. } = &read(&settings, None)[0] else { panic!("it is well") };
        running.put(taken);
        let mut table = LocationTable::open(&settings, &zone()).expect("it is well");
        assert_eq!(table.is_decided(), Ok(false));
        table.decide(Epoch(3)).expect("it can be written");
        assert_eq!(table.is_decided(), Ok(true));

        running.wait_for_all();
        assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062", "sip:bob"], "{made:?}");
        let again = read(&settings, None);
        assert!(again.iter().all(|row| row.binding == Err(LeftOut::Own)), "{made:?}: {again:?}");
    }
}

#[test]
fn in_a_shared_table_rows_of_others_stay_and_say_where_a_phone_is_while_own_ones_that_nobody_knows_go() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for made in [Made::OpenSips, Made::Kamailio] {
            let mut settings = made.database(&engine);
            settings.location = Some(shared());
            engine.script(&settings, &made.row(&[("socket", "'udp:192.0.2.30:5060'")]));
            let running = Running::begin(&settings, 3);
            running.put(&binding("bob@example.org", "sip:bob"));
            running.wait_for_all();
            assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062", "sip:bob"], "{made:?}");

            assert_eq!(running.elsewhere("alice@example.org"), ["192.0.2.30:5060"], "{made:?}");
            assert_eq!(running.elsewhere("nobody@example.org"), [""; 0], "{made:?}");

            // A binding that ended while this node stood by.
            running.stand_by();
            let next = Running::begin(&settings, 4);
            next.wait_for_all();
            assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062"], "{made:?}");
            // What the other server has let go is known a second later.
            engine.script(
                &settings,
                &format!(
                    "DELETE FROM location;\n{}",
                    made.row(&[("expires", "'EXPIRED'"), ("socket", "'udp:192.0.2.30:5060'")])
                ),
            );
            wait_for(|| running.elsewhere("alice@example.org").is_empty());
        }
    }
}

#[test]
fn in_a_shared_table_what_another_server_left_on_our_own_socket_waits_for_the_operator() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for socket in ["'udp:192.0.2.5:5060'", "'UDP:192.0.2.5:5060'", "'  udp:192.0.2.5:5060'"] {
            let mut settings = Made::OpenSips.database(&engine);
            settings.location = Some(shared());
            engine.script(&settings, &Made::OpenSips.row(&[("socket", socket)]));

            let running = Running::begin(&settings, 3);

            wait_for(|| {
                let seen = running.publication();
                assert_eq!(seen.removed, 0, "{socket}");
                seen.failing.is_some()
            });
            assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062"]);
            let mut table = LocationTable::open(&settings, &shared()).expect("it is well");
            table.decide(Epoch(3)).expect("it can be written");
            running.wait_for_all();
            assert_eq!(contacts(&engine, &settings), [""; 0]);
        }
    }
}

#[test]
fn rows_of_others_in_a_table_that_was_shared_stay_until_it_was_decided_that_all_of_it_is_tandems() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for made in [Made::OpenSips, Made::Kamailio] {
            let mut settings = made.database(&engine);
            settings.location = Some(shared());
            engine.script(&settings, &made.row(&[("socket", "'udp:192.0.2.30:5060'")]));
            let running = Running::begin(&settings, 3);
            running.wait_for_all();
            running.stand_by();

            settings.location = Some(zone());
            let own = Running::begin(&settings, 4);

            wait_for(|| {
                assert_eq!(own.publication().removed, 0, "{made:?}");
                own.publication().failing.is_some()
            });
            assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062"], "{made:?}");
            assert_eq!(crate::inspect(&settings).expect("it is well").rows_of_others, 1, "{made:?}");
            let mut table = LocationTable::open(&settings, &zone()).expect("it is well");
            assert_eq!(table.is_decided(), Ok(false));
            table.decide(Epoch(4)).expect("it can be written");
            own.wait_for_all();
            assert_eq!(contacts(&engine, &settings), [""; 0], "{made:?}");
            own.stand_by();

            // When others have written it again, it has to be decided again.
            settings.location = Some(shared());
            Running::begin(&settings, 5).wait_for_all();
            assert_eq!(table.is_decided(), Ok(false), "{made:?}");
        }
    }
}

#[test]
fn of_a_phone_with_many_rows_that_have_expired_the_one_that_has_not_is_found() {
    for kind in KINDS {
        let Some(engine) = Engine::shared(kind) else { continue };
        for (made, id) in [(Made::OpenSips, "contact_id"), (Made::Kamailio, "ruid")] {
            let mut settings = made.database(&engine);
            settings.location = Some(shared());
            let row = |number: u32, expires: &str, address: &str| {
                made.row(&[
                    (id, &format!("'{number}'")),
                    ("expires", expires),
                    ("socket", &format!("'udp:{address}:5060'")),
                ])
            };
            let live = if made == Made::OpenSips { "1940673600" } else { "'2031-07-01 14:00:00'" };
            let expired = |number| row(number, "'EXPIRED'", "192.0.2.31");
            let mut script: String = (1..=40).map(expired).collect();
            script.push_str(&row(41, live, "192.0.2.30"));
            if made == Made::OpenSips {
                script.push_str(&row(42, "0", "192.0.2.32"));
            }
            engine.script(&settings, &script);

            let found = Running::begin(&settings, 3).elsewhere("alice@example.org");

            let wanted: &[&str] = match made {
                Made::OpenSips => &["192.0.2.30:5060", "192.0.2.32:5060"],
                _ => &["192.0.2.30:5060"],
            };
            assert_eq!(found, wanted, "{made:?}");
        }
    }
}

/// Each table with each server that is installed.
fn all() -> Vec<(Arc<Engine>, Made)> {
    let engines: Vec<_> = KINDS.into_iter().filter_map(Engine::shared).collect();
    let with = |made: Made| engines.iter().map(move |engine| (Arc::clone(engine), made)).collect::<Vec<_>>();
    MADE.into_iter().flat_map(with).collect()
}

impl Made {
    fn has_reg_id(self) -> bool {
        self != Self::OpenSips
    }

    /// A row as that server writes it, with some columns changed.
    pub(super) fn row(self, changes: &[(&str, &str)]) -> String {
        let (is_date, expired) = match self {
            Self::Kamailio => (true, "2020-01-01 00:00:00"),
            _ => (false, "1577836800"),
        };
        let mut columns = vec![
            ("username", "'alice'"),
            ("domain", "'example.org'"),
            ("contact", "'sip:alice@10.0.0.7:5062'"),
            ("received", "'sip:198.51.100.9:40000'"),
            ("path", "'<sip:a,b@192.0.2.77;lr>,<sip:edge.example.org;lr>'"),
            ("expires", if is_date { "'2031-07-01 14:00:00'" } else { "1940673600" }),
            ("q", "0.5"),
            ("callid", "'call-9'"),
            ("cseq", "77"),
            ("user_agent", "'Phone 1.0'"),
            ("socket", "'udp:192.0.2.5:5060'"),
            ("methods", "6015"),
            ("last_modified", "'2026-07-01 14:00:00'"),
        ];
        columns.extend(match self {
            Self::OpenSips | Self::Tandem => {
                vec![("contact_id", "4611686018427387905"), ("sip_instance", "'<urn:uuid:1>'")]
            }
            Self::Kamailio | Self::KamailioNumbers => {
                vec![("ruid", "'uloc-1-2-3'"), ("instance", "'\"<urn:uuid:1>\"'")]
            }
        });
        if self.has_reg_id() {
            columns.push(("reg_id", "3"));
        }
        for (column, value) in &mut columns {
            if let Some((_, other)) = changes.iter().find(|(changed, _)| changed == column) {
                *value = other;
            }
        }
        let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let sql = format!("INSERT INTO location ({}) VALUES ({});\n", names.join(", "), values.join(", "));
        sql.replace("EXPIRED", expired)
    }
}

//! What another server left in the table `location` is read as it was meant, and is not removed before that was decided.

use lease::Epoch;

use super::engines::{Engine, KINDS};
use super::location::{MADE, Made, Running, contacts, wait_for};
use super::*;

/// Where and as whom the tests read.
fn read(settings: &ServerSettings, domain: Option<&str>) -> Vec<FoundRow> {
    let listeners = [
        (Transport::Udp, LocalAddr("192.0.2.5:5060".parse().expect("an address"))),
        (Transport::Tcp, LocalAddr("192.0.2.5:5060".parse().expect("an address"))),
    ];
    let serves = |aor: &Aor| aor.domain() == "example.org";
    let home = Home { listeners: &listeners, serves: &serves, domain };
    let mut table = LocationTable::open(settings, &zone()).expect("it is well");
    let count = table.count().expect("it is well");
    let mut all = Vec::new();
    loop {
        let page = table.page(&home).expect("it is well");
        if page.is_empty() {
            assert_eq!(all.len() as u64, count);
            return all;
        }
        all.extend(page);
    }
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
    let cases: [(&[(&str, &str)], LeftOut); 14] = [
        (&[("expires", "'EXPIRED'")], LeftOut::Expired),
        (&[("path", "'<sip:token@192.0.2.5;lr>'")], LeftOut::Own),
        (&[("domain", "NULL")], LeftOut::NoDomain),
        (&[("username", "''")], LeftOut::BrokenName),
        (&[("domain", "'example.net'")], LeftOut::UnknownDomain("example.net".to_owned())),
        (&[("contact", "'<>;x'")], LeftOut::BrokenContact),
        (&[("contact", "'sips:a@10.0.0.7'")], LeftOut::BrokenContact),
        (&[("path", "'sip:a'")], LeftOut::BrokenPath),
        (&[("path", "'<sip:a@192.0.2.77;lr>,\"'")], LeftOut::BrokenPath),
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
            settings.location = Some(LocationSettings { is_shared: true, ..zone() });
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
    let Some(engine) = KINDS.into_iter().find_map(Engine::shared) else { return };
    let mut settings = Made::OpenSips.database(&engine);
    settings.location = Some(LocationSettings { is_shared: true, ..zone() });
    engine.script(&settings, &Made::OpenSips.row(&[]));

    let running = Running::begin(&settings, 3);

    wait_for(|| running.publication().failing.is_some());
    assert_eq!(contacts(&engine, &settings), ["sip:alice@10.0.0.7:5062"]);
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
    fn row(self, changes: &[(&str, &str)]) -> String {
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

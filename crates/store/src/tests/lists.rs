//! The tables `domain`, `address` and `trusted` of both dialects.

use super::databases::with_engines;
use super::engines::Engine;
use super::*;

/// As OpenSIPS 3.4 shapes them: `domain-create.sql`, `permissions-create.sql`.
const OPENSIPS: &str = "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES ('domain', 3), ('address', 5), ('location', 1013);
CREATE TABLE domain (id INTEGER PRIMARY KEY, domain CHAR(64) DEFAULT '' NOT NULL, attrs CHAR(255) DEFAULT NULL, last_modified CHAR(30) DEFAULT '1900-01-01 00:00:01' NOT NULL);
CREATE TABLE address (id INTEGER PRIMARY KEY, grp SMALLINT DEFAULT 0 NOT NULL, ip CHAR(50) NOT NULL, mask SMALLINT DEFAULT 32 NOT NULL, port INTEGER DEFAULT 0 NOT NULL, proto CHAR(4) DEFAULT 'any' NOT NULL, pattern CHAR(64) DEFAULT NULL, context_info CHAR(32) DEFAULT NULL);
INSERT INTO domain (id, domain) VALUES (1, 'Example.ORG'), (2, '192.0.2.5'), (3, 'no name');
INSERT INTO address VALUES (1, 1, '198.51.100.7', 32, 0, 'any', NULL, 'carrier'), (2, 0, '203.0.113.0', 24, 0, 'any', NULL, NULL), (3, 2, '198.51.100.9', 32, 0, 'any', NULL, NULL), (4, 1, '198.51.100.10', 32, 5060, 'any', NULL, NULL), (5, 1, '198.51.100.11', 32, 0, 'udp', NULL, NULL), (6, 1, '198.51.100.12', 32, 0, 'any', '^sip:1', NULL), (7, 1, 'pbx.example', 32, 0, 'any', NULL, NULL), (8, 1, '0.0.0.0', 0, 0, 'any', NULL, NULL);
";
/// As Kamailio 5.8 shapes them.
const KAMAILIO: &str = "CREATE TABLE version (id INTEGER PRIMARY KEY, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES (1, 'domain', 2), (2, 'address', 6), (3, 'trusted', 6), (4, 'location', 9);
CREATE TABLE domain (id INTEGER PRIMARY KEY, domain VARCHAR(64) NOT NULL, did VARCHAR(64) DEFAULT NULL, last_modified VARCHAR(30) DEFAULT '2000-01-01 00:00:01' NOT NULL);
CREATE TABLE address (id INTEGER PRIMARY KEY, grp INTEGER DEFAULT 1 NOT NULL, ip_addr VARCHAR(50) NOT NULL, mask INTEGER DEFAULT 32 NOT NULL, port SMALLINT DEFAULT 0 NOT NULL, tag VARCHAR(64));
CREATE TABLE trusted (id INTEGER PRIMARY KEY, src_ip VARCHAR(50) NOT NULL, proto VARCHAR(4) NOT NULL, from_pattern VARCHAR(64) DEFAULT NULL, ruri_pattern VARCHAR(64) DEFAULT NULL, tag VARCHAR(64), priority INTEGER DEFAULT 0 NOT NULL);
INSERT INTO domain (id, domain) VALUES (1, 'example.org'), (2, 'example.com');
INSERT INTO address VALUES (1, 1, '2001:db8::', 48, 0, 'pbx'), (2, 7, '198.51.100.9', 32, 0, NULL);
INSERT INTO trusted VALUES (1, '198.51.100.7', 'any', NULL, NULL, 'carrier', 0), (2, '198.51.100.8', 'any', '^sip:x', NULL, NULL, 0), (3, '198.51.100.9', 'none', NULL, NULL, NULL, 0);
";

#[test]
fn domains_and_peers_of_opensips_are_read_and_what_can_not_be_followed_is_told() {
    for (engine, script) in with_engines([OPENSIPS]) {
        let settings = engine.database();
        engine.script(&settings, script);
        let wanted =
            WantedLists { domains: true, groups: [1].into(), trusted: false, ..WantedLists::default() };

        let lists = read_lists(&settings, &wanted).expect("they can be read");

        assert_eq!(Vec::from_iter(&lists.domains), ["example.org"]);
        assert_eq!(peers(&lists), ["198.51.100.7/32 carrier", "203.0.113.0/24 address 2"]);
        assert_eq!(lists.tables, [("domain".to_owned(), 3, 1), ("address".to_owned(), 5, 2)]);
        let told = lists.remarks.join("\n");
        for part in [
            "table domain, row 2: domain `192.0.2.5` is an address",
            "table domain, row 3: domain `no name` is no name",
            "table address, row 4: 198.51.100.10 is trusted at port 5060 alone",
            "table address, row 5: proto `udp` of 198.51.100.11 can not be followed: write `any`",
            "table address, row 6: pattern `^sip:1` of 198.51.100.12",
            "table address, row 7: `pbx.example` is no IP address",
            "table address, row 8: mask `0` of 0.0.0.0 is not from 1 to 32",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        assert_eq!(lists.remarks.len(), 7, "{told}");
    }
}

#[test]
fn domains_and_peers_of_kamailio_are_read() {
    for (engine, script) in with_engines([KAMAILIO]) {
        let settings = engine.database();
        engine.script(&settings, script);
        let wanted =
            WantedLists { domains: true, groups: [1].into(), trusted: true, ..WantedLists::default() };

        let lists = read_lists(&settings, &wanted).expect("they can be read");

        assert_eq!(Vec::from_iter(&lists.domains), ["example.com", "example.org"]);
        assert_eq!(peers(&lists), ["198.51.100.7/32 carrier", "2001:db8::/48 pbx"]);
        assert_eq!(lists.remarks.len(), 1, "{:?}", lists.remarks);
        assert!(lists.remarks[0].contains("table trusted, row 2: from_pattern"), "{:?}", lists.remarks);
    }
}

#[test]
fn a_table_of_domains_or_peers_that_is_missing_or_of_another_version_is_told_with_the_mend() {
    let wanted = WantedLists { domains: true, groups: [1].into(), trusted: false, ..WantedLists::default() };
    let trusted = WantedLists { trusted: true, ..WantedLists::default() };
    let older = OPENSIPS.replace("'domain', 3", "'domain', 1");
    let other = OPENSIPS.replace("ip CHAR(50)", "addr CHAR(50)");
    let cases = [
        (
            older.as_str(),
            &wanted,
            "the table domain has version 1 in the table `version`, and version 3 or 4",
        ),
        (other.as_str(), &wanted, "the table address has no column ip"),
        (OPENSIPS, &trusted, "there is no table trusted"),
    ];
    for (engine, (script, wanted, word)) in with_engines(cases) {
        let settings = engine.database();
        engine.script(&settings, script);

        let error = read_lists(&settings, wanted).expect_err("it can not be used").to_string();

        assert!(error.contains(word), "{error}");
    }
}

fn peers(lists: &Lists) -> Vec<String> {
    lists.peers.iter().map(|peer| format!("{}/{} {}", peer.address, peer.prefix, peer.name)).collect()
}

/// As OpenSIPS 3.4 shapes it, and as it leaves its rows.
const OPENSIPS_DISPATCHER: &str = "CREATE TABLE version (table_name CHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES ('dispatcher', 9), ('location', 1013);
CREATE TABLE dispatcher (id INTEGER PRIMARY KEY, setid INTEGER DEFAULT 0 NOT NULL, destination CHAR(192) DEFAULT '' NOT NULL, socket CHAR(128) DEFAULT NULL, state INTEGER DEFAULT 0 NOT NULL, probe_mode INTEGER DEFAULT 0 NOT NULL, weight CHAR(64) DEFAULT '1' NOT NULL, priority INTEGER DEFAULT 0 NOT NULL, attrs CHAR(128) DEFAULT NULL, description CHAR(64) DEFAULT NULL);
INSERT INTO dispatcher (id, setid, destination, socket, state, weight, priority) VALUES (1, 1, 'sip:198.51.100.1:5070', 'udp:192.0.2.5:5060', 0, '30', 0), (2, 1, 'sip:sbc.carrier.example;transport=tcp', NULL, 2, '70', 5), (3, 1, 'sip:198.51.100.3', NULL, 1, '1', 0), (4, 2, 'sip:198.51.100.4', NULL, 0, 'fs://:pw@198.51.100.4', 0), (5, 2, 'sip:198.51.100.5;transport=tls', NULL, 0, '1', 0), (6, 2, 'sip:198.51.100.6', NULL, 7, '1', 0), (7, 2, 'sip:bob@198.51.100.7', NULL, 0, '1', 0), (8, 2, 'sips:198.51.100.8', NULL, 0, '1', 0), (9, 2, 'sip:198.51.100.9', NULL, 0, 'much', 0);
";
/// As Kamailio 5.6 of Debian shapes it.
const KAMAILIO_DISPATCHER: &str = "CREATE TABLE version (id INTEGER PRIMARY KEY, table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL);
INSERT INTO version VALUES (1, 'dispatcher', 4);
CREATE TABLE dispatcher (id INTEGER PRIMARY KEY, setid INTEGER DEFAULT 0 NOT NULL, destination VARCHAR(192) DEFAULT '' NOT NULL, flags INTEGER DEFAULT 0 NOT NULL, priority INTEGER DEFAULT 0 NOT NULL, attrs VARCHAR(128) DEFAULT '' NOT NULL, description VARCHAR(64) DEFAULT '' NOT NULL);
INSERT INTO dispatcher (id, setid, destination, flags, priority, attrs) VALUES (1, 1, 'sip:198.51.100.1:5070', 8, 10, 'duid=left;weight=60;maxload=30;socket=udp:192.0.2.5:5060'), (2, 1, '198.51.100.2', 9, -1, 'duid=no name;rweight=7;my=own'), (3, 1, 'sip:198.51.100.3', 4, 0, ''), (4, 1, 'sip:198.51.100.4', 1, 0, ''), (5, 1, 'sip:198.51.100.5', 64, 0, ''), (6, 1, 'sip:198.51.100.6', 0, 0, 'sockname=lan'), (7, 2, 'sip:[2001:db8::7]', 32, 0, 'weight=\"0\";obproxy=sip:10.0.0.1'), (8, 2, 'sip:a b', 0, 0, ''), (9, 2, '', 0, 0, '');
";

#[test]
fn destinations_of_opensips_are_read_and_rows_that_would_lead_elsewhere_are_told() {
    for (engine, script) in with_engines([OPENSIPS_DISPATCHER]) {
        let lists = read_destinations(&engine, script);

        assert_eq!(
            told(&lists),
            [
                "1: set 1 sip:198.51.100.1:5070 priority 0 weight 30 on udp:192.0.2.5:5060",
                "2: set 1 sip:sbc.carrier.example;transport=tcp priority 5 weight 70",
                "4: set 2 sip:198.51.100.4 priority 0 weight 1",
                "9: set 2 sip:198.51.100.9 priority 0 weight 0",
            ]
        );
        assert_eq!(lists.tables, [("dispatcher".to_owned(), 9, 4)]);
        assert_eq!(Vec::from_iter(lists.wrong), [5, 6, 7, 8]);
        expect_remarks(
            &lists.remarks,
            &[
                "row 4: the load of a FreeSWITCH is not asked for",
                "row 5: destination `sip:198.51.100.5;transport=tls` asks for what this version does not speak",
                "row 6: state `7` is not known",
                "row 7: destination `sip:bob@198.51.100.7` has more than a place",
                "row 8: destination `sips:198.51.100.8` asks for what",
                "row 9: weight `much` counts as 0",
            ],
        );
    }
}

#[test]
fn destinations_of_kamailio_are_read_with_their_attributes() {
    for (engine, script) in with_engines([KAMAILIO_DISPATCHER]) {
        let lists = read_destinations(&engine, script);

        assert_eq!(
            told(&lists),
            [
                "1: set 1 sip:198.51.100.1:5070 priority 10 weight 60 on udp:192.0.2.5:5060, left, 30 calls",
                "2: set 1 sip:198.51.100.2 priority -1 weight 7",
                "7: set 2 sip:[2001:db8::7] priority 0 weight 0, not probed",
            ]
        );
        assert_eq!(Vec::from_iter(lists.wrong), [5, 6, 8, 9]);
        expect_remarks(
            &lists.remarks,
            &[
                "row 2: duid `no name` can be no name",
                "row 5: flags 64 have 64, whose meaning is not known here: write 0",
                "row 6: sockname `lan` is a name in the configuration of your Kamailio",
                "row 7: weight `0` counts as 0",
                "row 7: obproxy is not followed",
                "row 8: destination `sip:a b` is no SIP URI",
                "row 9: destination `` is no SIP URI",
            ],
        );
    }
}

#[test]
fn a_destination_whose_row_becomes_wrong_stays_as_it_was() {
    for (engine, script) in with_engines([KAMAILIO_DISPATCHER]) {
        let settings = engine.database();
        engine.script(&settings, script);
        let mend = "UPDATE dispatcher SET destination = 'sip:198.51.100.8', flags = 0 WHERE id IN (3, 8)";
        engine.script(&settings, mend);
        let wanted = WantedLists { dispatcher: true, ..WantedLists::default() };
        let before = read_lists(&settings, &wanted).expect("they can be read");
        engine.script(&settings, "UPDATE dispatcher SET destination = 'sip:a b' WHERE id = 8");
        engine.script(&settings, "UPDATE dispatcher SET flags = 4 WHERE id = 3");
        let mut lists = read_lists(&settings, &wanted).expect("they can be read");

        lists.keep_good(&before);

        let rows: Vec<u64> = lists.destinations.iter().map(|it| it.row).collect();
        assert_eq!(rows, [1, 2, 7, 8], "3 was switched off, 5 was never right");
        assert!(lists.remarks.iter().any(|it| it.contains("row 8 stays as it was")), "{:?}", lists.remarks);
    }
}

fn read_destinations(engine: &Engine, script: &str) -> Lists {
    let settings = engine.database();
    engine.script(&settings, script);
    let wanted = WantedLists { dispatcher: true, ..WantedLists::default() };
    read_lists(&settings, &wanted).expect("they can be read")
}

fn told(lists: &Lists) -> Vec<String> {
    let line = |it: &Destination| {
        let weight = it.weight.map_or_else(|| "-".to_owned(), |weight| weight.to_string());
        let mut line =
            format!("{}: set {} {} priority {} weight {weight}", it.row, it.set, it.uri, it.priority);
        line.extend(it.socket.iter().map(|socket| format!(" on {socket}")));
        line.extend(it.name.iter().map(|name| format!(", {name}")));
        line.extend(it.calls_max.iter().map(|calls| format!(", {calls} calls")));
        line.push_str(if it.probes == Probes::Forbidden { ", not probed" } else { "" });
        line
    };
    lists.destinations.iter().map(line).collect()
}

fn expect_remarks(remarks: &[String], parts: &[&str]) {
    for (remark, part) in remarks.iter().zip(parts) {
        assert!(remark.starts_with("table dispatcher, ") && remark.contains(part), "{part}\n{remark}");
    }
    assert_eq!(remarks.len(), parts.len(), "{remarks:?}");
}

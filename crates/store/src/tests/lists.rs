//! The tables `domain`, `address` and `trusted` of both dialects.

use super::databases::with_engines;
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
        let wanted = WantedLists { domains: true, groups: [1].into(), trusted: false };

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
        let wanted = WantedLists { domains: true, groups: [1].into(), trusted: true };

        let lists = read_lists(&settings, &wanted).expect("they can be read");

        assert_eq!(Vec::from_iter(&lists.domains), ["example.com", "example.org"]);
        assert_eq!(peers(&lists), ["198.51.100.7/32 carrier", "2001:db8::/48 pbx"]);
        assert_eq!(lists.remarks.len(), 1, "{:?}", lists.remarks);
        assert!(lists.remarks[0].contains("table trusted, row 2: from_pattern"), "{:?}", lists.remarks);
    }
}

#[test]
fn a_table_of_domains_or_peers_that_is_missing_or_of_another_version_is_told_with_the_mend() {
    let wanted = WantedLists { domains: true, groups: [1].into(), trusted: false };
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

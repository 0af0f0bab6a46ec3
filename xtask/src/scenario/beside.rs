//! A Kamailio's tables: beside one on the same database, which finds our phones in the table and reaches them by way of us,
//! and its domains and peers, which are ours too.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::database_server::{DatabaseServer, Product};
use crate::kamailio::{Kamailio, Role};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::phone::call;
use crate::phone::message::Message;
use crate::process;
use crate::server::{PASSWORD, Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_kamailio_on_the_same_postgresql_reaches_a_phone_behind_nat_by_us", run: postgres },
    Scenario { name: "a_kamailio_on_the_same_mariadb_reaches_a_phone_behind_nat_by_us", run: mariadb },
    Scenario {
        name: "a_phone_at_a_kamailio_on_the_same_postgresql_is_called_through_us_and_calls_ours",
        run: |lab| shared(lab, Product::Postgres),
    },
    Scenario {
        name: "a_phone_at_a_kamailio_on_the_same_mariadb_is_called_through_us_and_calls_ours",
        run: |lab| shared(lab, Product::MariaDb),
    },
    Scenario {
        name: "phones_of_a_kamailio_are_taken_over_from_postgresql_and_are_called_without_registering_again",
        run: |lab| taken_over(lab, Product::Postgres),
    },
    Scenario {
        name: "phones_of_a_kamailio_are_taken_over_from_mariadb_and_are_called_without_registering_again",
        run: |lab| taken_over(lab, Product::MariaDb),
    },
    Scenario {
        name: "domains_and_peers_in_postgresql_count_within_seconds_and_without_it",
        run: |lab| domains_and_peers(lab, Product::Postgres),
    },
    Scenario {
        name: "domains_and_peers_in_mariadb_count_within_seconds_and_without_it",
        run: |lab| domains_and_peers(lab, Product::MariaDb),
    },
];

fn postgres(lab: &Lab) -> Result<()> {
    calls(lab, Product::Postgres)
}

fn mariadb(lab: &Lab) -> Result<()> {
    calls(lab, Product::MariaDb)
}

/// The tables are those that Kamailio's own files make.
fn calls(lab: &Lab, product: Product) -> Result<()> {
    let database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    for file in ["standard", "auth_db", "usrloc"] {
        database.kamailio_file(file)?;
    }
    database.sql(
        "CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0)",
    )?;
    database.sql(&format!(
        "INSERT INTO subscriber (username, domain, password) VALUES ('alice', '203.0.113.10', '{PASSWORD}')"
    ))?;
    let host = lab.host("beside", 41)?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\nlocation = \"own\"\n[[trusted]]\naddress = \"{}\"\n",
        database.url(),
        host.v4
    );
    let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
    let told = process::output(server.host().command(&lab.binary).arg("check").arg(server.config()))?;
    ensure!(told.contains("location 9") && !told.contains("can not be published"), "{told}");
    server.start_again()?;
    let kamailio = Kamailio::start(lab, &host, Role::OnDatabase(&database.url()))?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    alice.register()?;
    process::wait_until("alice in the table", Duration::from_secs(20), || {
        let rows = database.sql("SELECT socket FROM location WHERE username = 'alice'")?;
        Ok((rows.trim() == "udp:203.0.113.10:5060").then_some(()))
    })?;

    let far = lab.host("dave", 22)?;
    let domain = server.domain(Family::V4)?;
    let mut dave = Phone::at_service(&far, "dave", &domain, kamailio.address())?;
    let (mut of_dave, _) = call::establish(&mut dave, &mut alice)?;
    call::hang_up(&mut dave, &mut of_dave, &mut alice)?;
    let (_, mut of_alice) = call::establish(&mut dave, &mut alice)?;
    call::hang_up(&mut alice, &mut of_alice, &mut dave)?;

    // Who is not trusted gets to nobody by the same Path.
    let path = database.sql("SELECT path FROM location WHERE username = 'alice'")?;
    let mut mallory = Phone::udp(&lab.host("mallory", 66)?, "mallory", &server)?;
    let copied = mallory.request("INVITE", &alice.contact()).with("Route", path.trim().to_owned());
    mallory.send(&copied)?;
    mallory.expect_status(&copied, 403)?;

    let end = alice.register_request(0);
    let end = alice.with_credentials(end);
    alice.send(&end)?;
    alice.expect_status(&end, 200)?;
    process::wait_until("a table without alice", Duration::from_secs(20), || {
        Ok(database.sql("SELECT contact FROM location")?.trim().is_empty().then_some(()))
    })
}

/// Both write one table, each its own phones.
fn shared(lab: &Lab, product: Product) -> Result<()> {
    let database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    for file in ["standard", "auth_db", "usrloc"] {
        database.kamailio_file(file)?;
    }
    database.sql(
        "CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0)",
    )?;
    for user in ["alice", "carol", "bob"] {
        database.sql(&format!(
            "INSERT INTO subscriber (username, domain, password) VALUES ('{user}', '203.0.113.10', '{PASSWORD}')"
        ))?;
    }
    let host = lab.host("beside", 41)?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\nlocation = \"shared\"\nlocation_peers = [\"{1}\"]\n\
         [[trusted]]\naddress = \"{1}\"\n",
        database.url(),
        host.v4
    );
    let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
    let kamailio = Kamailio::start(lab, &host, Role::OnDatabase(&database.url()))?;
    let domain = server.domain(Family::V4)?;
    let mut carol = Phone::at_service(&lab.host("carol", 22)?, "carol", &domain, kamailio.address())?;
    carol.register()?;
    // Rows of this server's own that nobody knows, and one of a stranger.
    let row = "INSERT INTO location (ruid, username, domain, contact, expires, socket) VALUES";
    database.sql(&format!("{row} ('tandem-0000000000000001', 'bob', '{domain}', 'sip:b@192.0.2.9', '2036-01-01 00:00:00', 'udp:{domain}:5060')"))?;
    database.sql(&format!("{row} ('uloc-9', 'bob', '{domain}', 'sip:b@192.0.2.9', '2036-01-01 00:00:00', 'udp:203.0.113.66:5060')"))?;
    server.start_again()?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    alice.register()?;
    process::wait_until("the rows of both", Duration::from_secs(20), || {
        let rows = database.sql("SELECT username FROM location ORDER BY username")?;
        Ok((rows.split_whitespace().eq(["alice", "bob", "carol"])).then_some(()))
    })?;

    let (mut of_alice, _) = call::establish(&mut alice, &mut carol)?;
    call::hang_up(&mut alice, &mut of_alice, &mut carol)?;
    let (_, mut of_carol) = call::establish(&mut alice, &mut carol)?;
    call::hang_up(&mut carol, &mut of_carol, &mut alice)?;
    let (mut of_carol, _) = call::establish(&mut carol, &mut alice)?;
    call::hang_up(&mut carol, &mut of_carol, &mut alice)?;

    // A stranger's row leads nowhere, and what comes from there does not go back.
    let to_bob = alice.request("INVITE", &format!("sip:bob@{domain}"));
    let to_bob = alice.with_credentials(to_bob);
    alice.send(&to_bob)?;
    alice.expect_status(&to_bob, 480)?;
    let mut peer = Phone::at_service(&host, "peer", &domain, (server.host().v4, 5060).into())?;
    let back = peer.request("OPTIONS", &carol.aor());
    peer.send(&back)?;
    peer.expect_status(&back, 480)?;

    kamailio.stop()?;
    database.sql("DELETE FROM location WHERE username = 'carol'")?;
    // What was found is believed for a second.
    process::wait_until("a phone that is nowhere", Duration::from_secs(20), || {
        let gone = alice.request("OPTIONS", &carol.aor());
        let gone = alice.with_credentials(gone);
        alice.send(&gone)?;
        Ok(alice.expect_status(&gone, 480).is_ok().then_some(()))
    })
}

/// Tandem takes the place of a Kamailio, at its address.
fn taken_over(lab: &Lab, product: Product) -> Result<()> {
    let database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    for file in ["standard", "auth_db", "usrloc"] {
        database.kamailio_file(file)?;
    }
    database.sql(
        "CREATE TABLE tandem_epoch (writer VARCHAR(32) NOT NULL PRIMARY KEY, epoch BIGINT NOT NULL DEFAULT 0)",
    )?;
    for user in ["alice", "bob"] {
        database.sql(&format!(
            "INSERT INTO subscriber (username, domain, password) VALUES ('{user}', '203.0.113.10', '{PASSWORD}')"
        ))?;
    }
    let toml = format!("[database]\nurl = \"{}\"\ntls = \"off\"\nlocation = \"own\"\n", database.url());
    let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
    let kamailio = Kamailio::start(lab, server.host(), Role::OnDatabase(&database.url()))?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    kamailio.stop()?;
    let others = "INSERT INTO location (ruid, username, domain, contact, expires, socket) VALUES";
    database.sql(&format!("{others} ('uloc-1', 'old', '203.0.113.10', 'sip:o@192.0.2.9', '2020-01-01 00:00:00', 'udp:203.0.113.10:5060')"))?;
    database.sql(&format!("{others} ('uloc-2', 'far', '203.0.113.10', 'sip:f@192.0.2.9', '2036-01-01 00:00:00', 'udp:192.0.2.1:5060')"))?;
    let count = || Ok::<_, anyhow::Error>(database.sql("SELECT ruid FROM location")?.lines().count());

    let told = process::output(server.host().command(&lab.binary).arg("check").arg(server.config()))?;
    ensure!(told.contains("4 rows") && told.contains("tandem import"), "{told}");
    server.start_again()?;
    process::wait_until("word that nothing is written", Duration::from_secs(20), || {
        let error = server.json(&["status"])?["publication"]["error"].as_str().unwrap_or_default().to_owned();
        Ok(error.contains("tandem import").then_some(()))
    })?;
    let looked = server.json(&["import", "--dry-run"])?;
    let outcome = &looked["outcome"];
    ensure!(outcome["taken"] == 2 && outcome["left_out"]["expired"] == 1 && count()? == 4, "{looked}");
    ensure!(looked["rows_left_out"][0]["left_out"]["name"] == "far@203.0.113.10", "{looked}");
    server.wait_for_bindings(0)?;

    let taken = server.json(&["import"])?;
    let outcome = &taken["outcome"];
    ensure!(outcome["taken"] == 2 && outcome["decided"] == false && count()? == 4, "{taken}");
    let again = server.json(&["import"])?;
    ensure!(again["outcome"]["taken"] == 0 && again["outcome"]["known"] == 2, "{again}");
    let (mut of_bob, _) = call::establish(&mut bob, &mut alice)?;
    call::hang_up(&mut bob, &mut of_bob, &mut alice)?;

    let told = process::output(&mut server.command(&["import", "--nothing"]))?;
    ensure!(told.contains("is Tandem's"), "{told}");
    process::wait_until("a table of Tandem's", Duration::from_secs(20), || {
        let rows = database.sql("SELECT ruid FROM location")?;
        Ok((rows.lines().count() == 2 && rows.lines().all(|it| it.starts_with("tandem-"))).then_some(()))
    })?;
    server.kill()?;
    server.start_again()?;
    server.wait_for_bindings(2)?;
    let (mut of_bob, _) = call::establish(&mut bob, &mut alice)?;
    call::hang_up(&mut bob, &mut of_bob, &mut alice)
}

fn domains_and_peers(lab: &Lab, product: Product) -> Result<()> {
    let mut database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    for file in ["standard", "auth_db", "domain", "permissions"] {
        database.kamailio_file(file)?;
    }
    for (user, domain) in [("alice", "203.0.113.10"), ("bob", "example.com"), ("carol", "example.net")] {
        database.sql(&format!(
            "INSERT INTO subscriber (username, domain, password) VALUES ('{user}', '{domain}', '{PASSWORD}')"
        ))?;
    }
    let peer = lab.host("peer", 41)?;
    database.sql("INSERT INTO domain (domain) VALUES ('Example.COM')")?;
    database.sql(&format!("INSERT INTO address (grp, ip_addr, mask) VALUES (3, '{}', 32)", peer.v4))?;
    database.sql("INSERT INTO address (grp, ip_addr, mask, port) VALUES (3, '203.0.113.42', 32, 5060)")?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\ntimeout = \"1s\"\ndomain = true\naddress_groups = [3]\n",
        database.url()
    );
    let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
    let told = process::output(server.host().command(&lab.binary).arg("check").arg(server.config()))?;
    for part in ["domain 2 of Kamailio", "address 6 of Kamailio", "write port 0"] {
        ensure!(told.contains(part), "`tandem check` does not say {part:?}: {told}");
    }
    server.start_again()?;
    let at = (server.host().v4, 5060).into();
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::at_service(&lab.host("bob", 22)?, "bob", "example.com", at)?;
    let mut carol = Phone::at_service(&lab.host("carol", 23)?, "carol", "example.net", at)?;
    let mut peer = Phone::udp(&peer, "peer", &server)?;
    alice.register()?;
    bob.register()?;
    ask_without_password(&mut peer, &alice)?;
    alice.expect_request("OPTIONS")?;

    database.sql("INSERT INTO domain (domain) VALUES ('example.net')")?;
    database.sql("DELETE FROM address WHERE port = 0")?;
    process::wait_until("the changes in the tables", Duration::from_secs(30), || {
        let status = server.json(&["status"])?;
        Ok((names_domain(&status, "example.net") && status["tables"]["tables"][1][2] == 0).then_some(()))
    })?;
    carol.register()?;
    let asked = ask_without_password(&mut peer, &alice)?;
    peer.expect_status(&asked, 407)?;

    database.kill()?;
    server.kill()?;
    server.start_again()?;
    // It has tried, and says what became of that.
    let status =
        process::wait_until("a look at the tables without the database", Duration::from_secs(30), || {
            let status = server.json(&["status"])?;
            let error = status["tables"]["error"].as_str().unwrap_or_default();
            Ok(error.contains("start the server").then_some(status))
        })?;
    ensure!(names_domain(&status, "example.net"), "the domains are {}", status["domains"]);
    bob.register()?;
    database.start_again()?;
    process::wait_until("tables that can be read again", Duration::from_secs(30), || {
        Ok(server.json(&["status"])?["tables"]["error"].is_null().then_some(()))
    })
}

fn names_domain(status: &Value, domain: &str) -> bool {
    status["domains"].as_array().is_some_and(|domains| domains.iter().any(|it| it == domain))
}

/// A request that goes through for a peer alone.
fn ask_without_password(peer: &mut Phone, to: &Phone) -> Result<Message> {
    let request = peer.request("OPTIONS", &to.aor());
    peer.send(&request)?;
    Ok(request)
}

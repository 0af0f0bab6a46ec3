//! The table `location` of a database server says what is registered at the pair, once, whatever dies meanwhile.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use sip::Aor;
use store::Credentials;

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX};
use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::phone::{Phone, call};
use crate::process;
use crate::scenario::Scenario;
use crate::server::PASSWORD;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the_table_in_postgresql_is_right_after_a_cut_and_a_killed_node", run: postgres },
    Scenario { name: "the_table_in_mariadb_is_right_after_a_cut_and_a_killed_node", run: mariadb },
    Scenario { name: "both_nodes_have_what_was_taken_over_before_the_command_says_so", run: taken_over },
];

/// How long a mended database may be waited for on a busy machine: tries are five seconds apart.
const PATIENCE: Duration = Duration::from_secs(60);

fn postgres(lab: &Lab) -> Result<()> {
    cut_and_killed(lab, Product::Postgres)
}

fn mariadb(lab: &Lab) -> Result<()> {
    cut_and_killed(lab, Product::MariaDb)
}

fn cut_and_killed(lab: &Lab, product: Product) -> Result<()> {
    let mut database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\ntimeout = \"1s\"\nlocation = \"own\"\n",
        database.url()
    );
    let mut stage = Stage::prepare(lab, &Settings { toml, ..Settings::default() })?;
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, &["database", "init"]))?;
    add_accounts(&database, &["alice", "bob", "carol"])?;
    stage.start()?;
    let mut alice = phone(&stage, "alice", At::Near)?;
    let mut bob = phone(&stage, "bob", At::Far)?;
    let mut carol = phone(&stage, "carol", At::Near)?;
    for phone in [&mut alice, &mut bob, &mut carol] {
        phone.register()?;
    }
    wait_for_table(&database, &[&alice, &bob, &carol])?;
    register_for(&mut carol, 0)?;
    wait_for_table(&database, &[&alice, &bob])?;
    stage.wait_for_engine(Side::B, "the accounts of the phones", TIME_MAX, |status| {
        status["store"]["copy"]["accounts"].as_u64() >= Some(3)
    })?;

    database.cut_off()?;
    register_for(&mut bob, 0)?;
    register_for(&mut carol, 600)?;
    wait_for_publication(&stage, Side::A, "a table that can not be written", |it| {
        it["error"].is_string() && it["owed"].as_u64() >= Some(1)
    })?;
    stage.wait_for(Side::A, "a standby that has the same", |status| {
        let replica = &status["server"]["replica"];
        replica["ready"] == 100 && replica["kinds"]["bindings"]["there"] == 2
    })?;
    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;
    ensure!(contacts(&database)? == sorted(&[&alice, &bob]), "it was cut off");
    database.kill()?;
    database.mend()?;
    database.start_again()?;

    wait_for_table(&database, &[&alice, &carol])?;
    // What the new node is told by phones follows.
    register_for(&mut alice, 0)?;
    wait_for_table(&database, &[&carol])?;
    wait_for_publication(&stage, Side::B, "a table that is right", |it| {
        it["state"] == "writing" && it["error"].is_null() && it["owed"] == 0
    })?;
    let epoch = stage.epoch(Side::B)?;
    let found = database.sql("SELECT epoch FROM tandem_epoch WHERE writer = 'location'")?;
    ensure!(found.trim() == epoch.to_string(), "the row says {found}, and the node {epoch}");
    stage.end(&["a", "b"])
}

fn taken_over(lab: &Lab) -> Result<()> {
    let database = DatabaseServer::start(lab, &lab.host("database", 40)?, Product::Postgres)?;
    let toml = format!("[database]\nurl = \"{}\"\ntls = \"off\"\nlocation = \"own\"\n", database.url());
    let mut stage = Stage::prepare(lab, &Settings { toml, ..Settings::default() })?;
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, &["database", "init"]))?;
    add_accounts(&database, &["alice", "bob"])?;
    let mut alice = phone(&stage, "alice", At::Near)?;
    let mut bob = phone(&stage, "bob", At::Far)?;
    // As OpenSIPS writes it.
    database.sql(&format!(
        "INSERT INTO location (contact_id, username, domain, contact, expires, q, callid, cseq, last_modified, socket) \
         VALUES (4611686018427387905, 'alice', '{VIP}', '{}', 2147483647, -1, 'before', 7, '2026-01-01 00:00:00', 'udp:{VIP}:5060')",
        alice.contact()
    ))?;
    stage.start()?;
    wait_for_publication(&stage, Side::A, "a table that waits for its operator", |it| {
        it["error"].as_str().is_some_and(|error| error.contains("tandem import"))
    })?;
    // A standby takes nothing.
    let mut refused = stage.cluster.command(&stage.pair, Side::B, &["import"]);
    ensure!(process::output(&mut refused).is_err(), "a standby has taken something over");

    let told = process::output(&mut stage.cluster.command(&stage.pair, Side::A, &["import"]))?;
    ensure!(told.contains("1 were taken over") && told.contains("Both nodes have them"), "{told}");
    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    let (mut of_bob, _) = call::establish(&mut bob, &mut alice)?;
    call::hang_up(&mut bob, &mut of_bob, &mut alice)?;
    wait_for_table(&database, &[&alice])?;
    stage.end(&["a", "b"])
}

/// Where a phone is.
pub enum At {
    /// Beside the nodes.
    Near,
    /// Behind the router.
    Far,
}

/// A phone that has not registered yet.
pub fn phone(stage: &Stage<'_>, user: &str, at: At) -> Result<Phone> {
    let host = match at {
        At::Near => &stage.pair.phone,
        At::Far => &stage.pair.far,
    };
    Phone::at_service(host, user, &VIP.to_string(), (VIP, 5060).into())
}

/// Registers a phone that has proved itself before; for no seconds, it is gone.
pub fn register_for(phone: &mut Phone, seconds: u32) -> Result<()> {
    let request = phone.register_request(seconds);
    let request = phone.with_credentials(request);
    phone.send(&request)?;
    phone.expect_status(&request, 200).map(drop)
}

/// Adds accounts by SQL.
pub fn add_accounts(database: &DatabaseServer, users: &[&str]) -> Result<()> {
    let domain = VIP.to_string();
    for user in users {
        let aor = Aor::parse(&format!("{user}@{domain}")).expect("it is one");
        let Credentials { md5, sha256, .. } = Credentials::of(&aor, &domain, PASSWORD);
        database.sql(&format!(
            "INSERT INTO subscriber (username, domain, realm, ha1, ha1_sha256) \
             VALUES ('{user}', '{domain}', '{domain}', '{md5}', '{sha256}')"
        ))?;
    }
    Ok(())
}

/// Waits until the table has the contacts of exactly these phones, each once.
pub fn wait_for_table(database: &DatabaseServer, phones: &[&Phone]) -> Result<()> {
    let wanted = sorted(phones);
    let mut last = Vec::new();
    let waited = process::wait_until("the right table", PATIENCE, || {
        last = contacts(database)?;
        Ok((last == wanted).then_some(()))
    });
    ensure!(waited.is_ok(), "the table has {last:?}, and not {wanted:?}");
    Ok(())
}

fn contacts(database: &DatabaseServer) -> Result<Vec<String>> {
    let text = database.sql("SELECT contact FROM location")?;
    let mut contacts: Vec<String> = text.lines().map(str::to_owned).collect();
    contacts.sort();
    Ok(contacts)
}

fn sorted(phones: &[&Phone]) -> Vec<String> {
    let mut contacts: Vec<String> = phones.iter().map(|phone| phone.contact()).collect();
    contacts.sort();
    contacts
}

/// Waits until a node says so of its table.
pub fn wait_for_publication(
    stage: &Stage<'_>,
    side: Side,
    what: &str,
    is_so: impl Fn(&Value) -> bool,
) -> Result<()> {
    stage.wait_for_engine(side, what, TIME_MAX, |status| is_so(&status["publication"]))
}

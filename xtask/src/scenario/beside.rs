//! A Kamailio beside our server, on one database: it finds our phones in the table and reaches them by way of us.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Scenario;
use crate::database_server::{DatabaseServer, Product};
use crate::kamailio::{Kamailio, Role};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::phone::call;
use crate::process;
use crate::server::{PASSWORD, Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_kamailio_on_the_same_postgresql_reaches_a_phone_behind_nat_by_us", run: postgres },
    Scenario { name: "a_kamailio_on_the_same_mariadb_reaches_a_phone_behind_nat_by_us", run: mariadb },
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

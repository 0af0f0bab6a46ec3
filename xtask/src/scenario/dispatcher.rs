//! Gateways from the table `dispatcher` that Kamailio's own files make.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::database_server::{DatabaseServer, Product};
use crate::lab::{Family, Host, Lab};
use crate::phone::{Phone, call};
use crate::process;
use crate::server::{PASSWORD, Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_gateway_that_a_table_in_postgresql_moves_gets_the_next_call_and_its_last_one_goes_on",
        run: |lab| moved(lab, Product::Postgres),
    },
    Scenario {
        name: "a_gateway_that_a_table_in_mariadb_moves_gets_the_next_call_and_its_last_one_goes_on",
        run: |lab| moved(lab, Product::MariaDb),
    },
];

/// How long the server may take to notice something, on a busy machine.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(30);

const GATEWAYS: &str = r#"
[auth]
algorithms = ["MD5"]

[[gateway]]
name = "carriers"
uri = "dispatcher:1"
probe = "off"
strip = 1

[[route]]
number = ["0110"]
to = ["carriers"]
"#;

fn moved(lab: &Lab, product: Product) -> Result<()> {
    let mut database = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    for file in ["standard", "auth_db", "dispatcher"] {
        database.kamailio_file(file)?;
    }
    let row = "INSERT INTO dispatcher (setid, destination, flags, priority, attrs) VALUES";
    for values in [
        "(1, 'sip:203.0.113.71:5060', 8, 5, 'duid=main;maxload=30')",
        "(1, 'sip:203.0.113.71:5061;transport=tls', 0, 9, '')",
        "(1, 'sip:203.0.113.75', 4, 7, '')",
        "(2, 'sip:203.0.113.75', 0, 7, '')",
    ] {
        database.sql(&format!("{row} {values}"))?;
    }
    database.sql(&format!(
        "INSERT INTO subscriber (username, domain, password) VALUES ('alice', '203.0.113.10', '{PASSWORD}')"
    ))?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\ntimeout = \"1s\"\ndispatcher = true\n{GATEWAYS}",
        database.url()
    );
    let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
    let told = process::output(server.host().command(&lab.binary).arg("check").arg(server.config()))?;
    let gateway = "carriers/main: sip:203.0.113.71:5060, priority 0, weight 1";
    for part in
        ["dispatcher 4 of Kamailio is read: 2 rows", gateway, "transport=tls` asks for what this version"]
    {
        ensure!(told.contains(part), "`tandem check` does not say {part:?}: {told}");
    }
    server.start_again()?;
    let mut first = Phone::at_port(&lab.host("first", 71)?, "first", &server, 5060)?;
    let second = lab.host("second", 72)?;
    let caller = lab.host("caller", 24)?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let invite = call::invite(&mut alice, &format!("sip:0110@{}", server.domain(Family::V4)?))?;
    let arrived = first.expect_request("INVITE").context("at the gateway of the table")?;
    ensure!(arrived.uri() == Some("sip:110@203.0.113.71:5060"), "{}", arrived.start);
    let answer = first.reply(&arrived, 200, "OK")?;
    let answered = alice.expect_status(&invite, 200)?;
    let mut of_alice = call::Dialog::of_caller(&invite, &answered)?;
    let mut of_first = call::Dialog::of_callee(&arrived, &answer)?;
    let ack = of_alice.ack(&mut alice);
    alice.send(&ack)?;
    first.expect_request("ACK")?;
    wait_for(&server, "a call that counts", |row, _| row["calls"] == 1 && row["calls_max"] == 30)?;

    database
        .sql("UPDATE dispatcher SET destination = 'sip:203.0.113.72:5060' WHERE attrs LIKE 'duid=main%'")?;
    wait_for(&server, "the gateway at its new place", |row, _| row["uri"] == "sip:203.0.113.72:5060")?;
    call_by_sipp(lab, &server, &second, &caller)?;
    call::hang_up(&mut first, &mut of_first, &mut alice).context("of the gateway that was moved")?;
    wait_for(&server, "an end that counts", |row, _| row["calls"] == 0)?;

    database.sql("UPDATE dispatcher SET destination = 'sip:a b' WHERE attrs LIKE 'duid=main%'")?;
    wait_for(&server, "word of the wrong row", |row, status| {
        let remarks = status["tables"]["remarks"].to_string();
        remarks.contains("stays as it was") && row["uri"] == "sip:203.0.113.72:5060"
    })?;
    database.kill()?;
    server.kill()?;
    server.start_again()?;
    wait_for(&server, "a look at the tables without the database", |_, status| {
        status["tables"]["error"].as_str().is_some_and(|error| error.contains("start the server"))
    })?;
    // A number of our own domain could be an account that the server has not met, and only the database knows.
    let mut second = Phone::at_port(&second, "second", &server, 5060)?;
    call::invite(&mut alice, "tel:0110")?;
    let arrived = second.expect_request("INVITE").context("without the database")?;
    ensure!(arrived.uri() == Some("sip:110@203.0.113.72:5060"), "{}", arrived.start);
    Ok(())
}

/// What is asked of the one gateway, and of the status.
fn wait_for(server: &Server, what: &str, is_so: impl Fn(&Value, &Value) -> bool) -> Result<()> {
    process::wait_until(what, NOTICE_TIME_MAX, || {
        let rows = server.json(&["gateways"])?;
        ensure!(
            rows.as_array().is_some_and(|rows| rows.len() == 1) && rows[0]["name"] == "carriers/main",
            "{rows}"
        );
        Ok(is_so(&rows[0], &server.json(&["status"])?).then_some(()))
    })
}

fn call_by_sipp(lab: &Lab, server: &Server, gateway: &Host, caller: &Host) -> Result<()> {
    let answers = Sipp::start(lab, gateway, server, Flow::udp("callee_short", "second", ""))?;
    Sipp::run(lab, caller, server, Flow::udp("caller_short", "alice", "0110"))?;
    answers.succeed()
}

//! What a node owed to the database when it was lost for good: the other one owes it too.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::records::Records;
use super::stage::Stage;
use crate::calls::{self, Calls};
use crate::cluster::fault::Fault;
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::process;
use crate::scenario::{MEASURED, Scenario};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "what_a_lost_node_owed_to_the_database_the_other_one_writes", run: lost_for_good }];

/// Calls that begin in each second.
const A_SECOND: u32 = 20;
/// So many end while the database is away.
const SOME: u64 = 100;

fn lost_for_good(lab: &Lab) -> Result<()> {
    let mut server = DatabaseServer::start(lab, &lab.host("database", 40)?, Product::Postgres)?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\ntimeout = \"10s\"\n[records]\nfiles = true\ndatabase = true\n",
        server.url()
    );
    let settings = Settings { digest: Digest::Off, log_level: "info", toml, ..Settings::default() };
    let mut stage = Stage::prepare(lab, &settings)?;
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, &["database", "init"]))?;
    stage.start()?;
    calls::register(lab, &stage.pair.far, VIP)?;
    let active = stage.cluster.wait_until_whole(TIME_MAX)?;
    stage
        .wait_for(active, "a connection to the database", |status| in_database(status)["error"].is_null())?;

    server.kill()?;
    let mut calls = Calls::begin(lab, &stage.pair.phone, &stage.pair.far, A_SECOND, "calls")?;
    calls.wait_for(SOME)?;
    let books = calls.end()?;
    ensure!(books.hurt() == 0, "{books}: {}", books.complaints().join("\n"));
    ensure!(
        stage.cluster.wait_until_whole(TIME_MAX)? == active,
        "the lease has moved: it was to be the one node's calls"
    );
    // Nobody asks its disk for anything after this.
    let wanted: BTreeSet<String> = Records::read()?.ids().map(str::to_owned).collect();
    let there = server_rows(&stage, active.other());
    ensure!(wanted.len() as u64 >= SOME, "{} calls have ended", wanted.len());
    let _lost = stage.cluster.hurt(lab, &stage.pair, active, Fault::AllKilled)?;
    stage.cluster.wait_until_active(active.other(), TIME_MAX)?;

    server.start_again()?;
    let rows = process::wait_until("row of each call", TIME_MAX, || {
        let Ok(asked) = server.sql("SELECT id, node FROM tandem_cdr") else { return Ok(None) };
        Ok((asked.lines().count() >= wanted.len()).then_some(asked))
    });
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            let found = server.sql("SELECT COUNT(*) FROM tandem_cdr").unwrap_or_default();
            return Err(error.context(format!("{} of {} calls are there", found.trim(), wanted.len())));
        }
    };
    let found: Vec<&str> = rows.lines().filter_map(|row| row.split('\t').next()).collect();
    let ids: BTreeSet<String> = found.iter().map(|id| (*id).to_owned()).collect();
    ensure!(found.len() == ids.len() && ids == wanted, "{} rows, {} calls", found.len(), wanted.len());
    stage.wait_for(active.other(), "nothing owed", |status| in_database(status)["owed"] == 0)?;
    println!(
        "{MEASURED}{} calls that a lost node owed, each once; {there} were held by the other one",
        ids.len()
    );
    Ok(())
}

/// How many records the standby holds for the active node.
fn server_rows(stage: &Stage<'_>, side: Side) -> u64 {
    let status = stage.cluster.status(&stage.pair, side).unwrap_or_default();
    status["server"]["replica"]["kinds"]["records"]["here"].as_u64().unwrap_or_default()
}

fn in_database(status: &Value) -> &Value {
    &status["server"]["records"]["database"]
}

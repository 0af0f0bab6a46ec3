//! Records of calls in the database of both nodes: each call once, while the database and the nodes are killed.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::records::{self, Records};
use super::stage::Stage;
use crate::calls::{self, Calls, Kind};
use crate::cluster::fault::Fault;
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::database_server::{DatabaseServer, Product};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::process;
use crate::scenario::{MEASURED, Scenario};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "each_call_is_once_in_postgresql_whatever_was_killed_meanwhile",
        run: |lab| each_call_is_there_once(lab, Product::Postgres),
    },
    Scenario {
        name: "each_call_is_once_in_mariadb_whatever_was_killed_meanwhile",
        run: |lab| each_call_is_there_once(lab, Product::MariaDb),
    },
];

/// Calls that begin in each second.
const A_SECOND: u32 = 20;
/// So many between what happens: some of each kind ring, talk and have ended.
const SOME: u64 = 60;
/// Nodes that are killed.
const KILLED: u64 = 1;

fn each_call_is_there_once(lab: &Lab, product: Product) -> Result<()> {
    let mut server = DatabaseServer::start(lab, &lab.host("database", 40)?, product)?;
    let toml = format!(
        "[database]\nurl = \"{}\"\ntls = \"off\"\ntimeout = \"10s\"\n[records]\nfiles = true\ndatabase = true\n",
        server.url()
    );
    let settings = Settings { digest: Digest::Off, log_level: "info", toml, ..Settings::default() };
    let mut stage = Stage::prepare(lab, &settings)?;
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, &["database", "init"]))?;
    let mut check = stage.pair.a.command(&lab.binary);
    let told = process::output(check.arg("check").arg(lab.dir.join("a-tandem.toml")))?;
    ensure!(
        told.contains("tandem_cdr, acc 7 of Tandem, missed_calls 5 of Tandem; a call was written"),
        "{told}"
    );
    stage.start()?;
    calls::register(lab, &stage.pair.far, VIP)?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    let mut calls = Calls::begin(lab, &stage.pair.phone, &stage.pair.far, A_SECOND, "calls")?;
    calls.wait_for(SOME)?;
    wait_for_either(&stage, "records in the database", |status| number(status, "written") > 0)?;

    server.kill()?;
    calls.wait_for(SOME)?;
    wait_for_either(&stage, "records that are owed", |status| {
        number(status, "owed") > 0 && in_database(status)["error"].is_string()
    })?;

    // What the dead node owes waits on its disk; the other one goes on with its calls.
    let active = stage.cluster.wait_until_whole(TIME_MAX)?;
    let wound = stage.cluster.hurt(lab, &stage.pair, active, Fault::AllKilled)?;
    stage.cluster.wait_until_active(active.other(), TIME_MAX)?;
    calls.wait_for(SOME)?;
    server.start_again()?;
    stage.cluster.heal(lab, &stage.pair, wound)?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    calls.wait_for(SOME)?;

    let books = calls.end()?;
    for kind in Kind::ALL {
        ensure!(books.of(kind).calls > 0, "there was no call of the kind {}", kind.name());
    }
    ensure!(books.hurt() == 0, "{books}: {}", books.complaints().join("\n"));
    records::check(&books, KILLED)?;
    for side in Side::BOTH {
        stage.wait_for(side, "nothing owed", |status| {
            number(status, "owed") == 0 && in_database(status)["error"].is_null()
        })?;
    }
    compare(&server, &Records::read()?)
}

/// A busy machine may move the lease meanwhile, so that either node has the calls.
fn wait_for_either(stage: &Stage<'_>, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
    process::wait_until(what, TIME_MAX, || {
        let statuses = Side::BOTH.map(|side| stage.cluster.status(&stage.pair, side));
        Ok(statuses.iter().flatten().any(&is_so).then_some(()))
    })
}

/// The database has what the files have, each call once.
fn compare(server: &DatabaseServer, records: &Records) -> Result<()> {
    let asked = server.sql(
        "SELECT id, call_id, CASE WHEN answer_time IS NULL THEN 'missed' ELSE 'answered' END FROM tandem_cdr",
    )?;
    let rows: Vec<Vec<&str>> = asked.lines().map(|row| row.split('\t').collect()).collect();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    let in_files: BTreeSet<&str> = records.ids().collect();
    ensure!(ids == in_files, "{} calls in the database, {} in files", ids.len(), in_files.len());
    for (table, kind) in [("acc", "answered"), ("missed_calls", "missed")] {
        let mut wanted: Vec<&str> = rows.iter().filter(|row| row[2] == kind).map(|row| row[1]).collect();
        let found = server.sql(&format!("SELECT callid FROM {table}"))?;
        let mut found: Vec<&str> = found.lines().collect();
        wanted.sort_unstable();
        found.sort_unstable();
        ensure!(!wanted.is_empty(), "there was no call for {table}");
        ensure!(wanted == found, "{table} has {} rows for {} calls", found.len(), wanted.len());
        println!("{MEASURED}{} calls, each once in {table}", found.len());
    }
    Ok(())
}

fn in_database(status: &Value) -> &Value {
    &status["server"]["records"]["database"]
}

fn number(status: &Value, name: &str) -> u64 {
    in_database(status)[name].as_u64().unwrap_or_default()
}

//! The database becomes slow, and later its primary dies and another host takes over: phones do not notice, and nothing is
//! missing from it afterwards.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::location::{At, add_accounts, phone, register_for, wait_for_publication, wait_for_table};
use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX};
use crate::database_server::{DatabaseServer, Product};
use crate::delay::Delay;
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::phone::{Phone, call};
use crate::process;
use crate::scenario::Scenario;
use crate::server::PASSWORD;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "nothing_is_missing_after_a_slow_database_and_a_primary_that_moved",
    run: slow_and_moved,
}];

/// So long each answer takes: far longer than is waited for.
const SLOW: Duration = Duration::from_secs(5);

fn slow_and_moved(lab: &Lab) -> Result<()> {
    let mut primary = DatabaseServer::start(lab, &lab.host("database", 40)?, Product::Postgres)?;
    let standby = primary.replica(lab, &lab.host("replica", 41)?)?;
    let way = Delay::start(&lab.host("way", 42)?, 5432, primary.address())?;
    let toml = format!(
        "[database]\nurl = \"postgres://tandem:{PASSWORD}@{},{}/tandem\"\ntls = \"off\"\ntimeout = \"1s\"\n\
         location = \"own\"\n[records]\ndatabase = true\n",
        way.address(),
        standby.address().ip()
    );
    let mut stage = Stage::prepare(lab, &Settings { toml, ..Settings::default() })?;
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, &["database", "init"]))?;
    add_accounts(&primary, &["alice", "bob", "carol"])?;
    stage.start()?;
    let mut alice = phone(&stage, "alice", At::Near)?;
    let mut bob = phone(&stage, "bob", At::Far)?;
    let mut carol = phone(&stage, "carol", At::Near)?;
    for phone in [&mut alice, &mut bob, &mut carol] {
        phone.register()?;
    }
    wait_for_table(&primary, &[&alice, &bob, &carol])?;
    talk(&mut alice, &mut bob)?;
    wait_for_calls(&primary, 1)?;

    way.set(SLOW);
    register_for(&mut bob, 0)?;
    talk(&mut alice, &mut carol)?;
    wait_for_publication(&stage, Side::A, "a table that is too slow", |it| {
        it["error"].is_string() && it["owed"].as_u64() >= Some(1)
    })?;
    way.set(Duration::ZERO);
    wait_for_table(&primary, &[&alice, &carol])?;
    wait_for_calls(&primary, 2)?;

    primary.kill()?;
    register_for(&mut alice, 0)?;
    talk(&mut alice, &mut carol)?;
    wait_for_publication(&stage, Side::A, "a table that can not be written", |it| {
        it["error"].is_string() && it["owed"].as_u64() >= Some(1)
    })?;
    standby.promote()?;
    wait_for_table(&standby, &[&carol])?;
    wait_for_calls(&standby, 3)?;
    stage.end(&["a"])
}

fn talk(caller: &mut Phone, callee: &mut Phone) -> Result<()> {
    let (mut dialog, _) = call::establish(caller, callee)?;
    call::hang_up(caller, &mut dialog, callee)
}

/// Waits until each call has its one row.
fn wait_for_calls(database: &DatabaseServer, calls: usize) -> Result<()> {
    let mut last = String::new();
    let waited = process::wait_until("rows of all calls", 4 * TIME_MAX, || {
        last = database.sql("SELECT call_id FROM tandem_cdr")?;
        Ok((last.lines().count() >= calls).then_some(()))
    });
    ensure!(waited.is_ok() && last.lines().count() == calls, "for {calls} calls there are {last:?}");
    Ok(())
}

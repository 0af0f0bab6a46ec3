//! Starts: both at once, and one whose engine can not.

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX, is_active, state_directory};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "one_of_two_that_start_at_once_is_active", run: at_once },
    Scenario {
        name: "a_node_whose_engine_will_not_start_takes_nothing_and_is_given_nothing",
        run: no_engine,
    },
];

fn at_once(lab: &Lab) -> Result<()> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    stage.cluster.start_witness(&stage.pair)?;
    for side in Side::BOTH {
        stage.cluster.start(&stage.pair, side)?;
    }

    let active = process::wait_until("active node", TIME_MAX, || {
        let is_it = |side: &Side| stage.cluster.status(&stage.pair, *side).is_some_and(|it| is_active(&it));
        Ok(Side::BOTH.into_iter().find(is_it))
    })?;
    stage.wait_until_ready(active.other())?;
    stage.wait_until_served_by(active)?;
    stage.end(&[active.name()])
}

/// Its database is no database.
fn no_engine(lab: &Lab) -> Result<()> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    let database = format!("{}/tandem.sqlite", state_directory(Side::A.name()));
    std::fs::write(&database, "this is no database, and never was one\n".repeat(100))?;
    stage.cluster.start_witness(&stage.pair)?;
    stage.cluster.start(&stage.pair, Side::A)?;
    stage.wait_for(Side::A, "an engine that ends again and again", |status| {
        status["cluster"]["engine"]["restarts"].as_u64() >= Some(2)
    })?;
    ensure!(stage.spoken().is_empty(), "a node without an engine spoke");

    stage.cluster.start(&stage.pair, Side::B)?;
    stage.wait_until_served_by(Side::B)?;
    let refused = process::output(&mut stage.cluster.command(&stage.pair, Side::B, &["switchover"]));
    ensure!(refused.is_err(), "the service was given to a node without an engine");
    // It is mended, and takes part.
    std::fs::remove_file(&database)?;
    stage.wait_until_ready(Side::A).context("with a good database")?;
    stage.wait_for_service()?;
    stage.end(&["b"])
}

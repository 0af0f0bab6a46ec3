//! kill -9 of the engine, of the guardian, and of both.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::stage::Stage;
use crate::cluster::Settings;
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process::tree;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the_standby_takes_over_when_the_engine_is_killed", run: engine },
    Scenario { name: "the_standby_takes_over_when_the_guardian_is_killed", run: guardian },
    Scenario {
        name: "the_standby_takes_over_when_both_are_killed_and_keeps_the_service_when_they_return",
        run: both,
    },
    Scenario { name: "the_service_goes_on_when_everything_of_the_standby_is_killed", run: standby },
];

fn engine(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let engine = stage.cluster.engine(Side::A)?;

    tree::signal([engine], Signal::KILL)?;

    stage.wait_until_served_by(Side::B)?;
    stage.wait_until_ready(Side::A).context("the engine is started again")?;
    ensure!(stage.cluster.engine(Side::A)? != engine, "the dead engine is still there");
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

fn guardian(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    let engine = stage.cluster.engine(Side::A)?;

    stage.cluster.signal(Side::A, Signal::KILL)?;

    stage.wait_until_served_by(Side::B)?;
    stage.cluster.wait_for_end(Side::A)?;
    ensure!(!tree::is_alive(engine), "the engine outlived its guardian");
    stage.end(&["a", "b"])
}

fn both(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;

    stage.cluster.kill(Side::A)?;

    stage.wait_until_served_by(Side::B)?;
    stage.cluster.start(&stage.pair, Side::A)?;
    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    // And the other way round, so that the node that came back is one that can be relied on.
    stage.cluster.kill(Side::B)?;
    stage.wait_until_served_by(Side::A)?;
    stage.end(&["a", "b", "a"])
}

fn standby(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    let epoch = stage.epoch(Side::A)?;

    stage.cluster.kill(Side::B)?;

    stage
        .wait_for(Side::A, "a silent peer", |status| crate::cluster::peer_stance(status) == Some("silent"))?;
    stage.wait_for_service()?;
    stage.cluster.start(&stage.pair, Side::B)?;
    stage.wait_until_ready(Side::B)?;
    ensure!(stage.epoch(Side::A)? == epoch, "the active node has acquired the service anew");
    stage.end(&["a"])
}

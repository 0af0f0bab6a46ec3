//! SIGSTOP of the engine, of the guardian and of both, and SIGCONT when the other node has the service.

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::stage::Stage;
use crate::cluster::{Settings, role};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process::tree;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_frozen_engine_loses_the_service_and_thaws_silently", run: engine },
    Scenario { name: "a_frozen_guardian_loses_the_service_and_thaws_silently", run: guardian },
    Scenario { name: "a_frozen_node_loses_the_service_and_thaws_silently", run: both },
    Scenario { name: "the_service_goes_on_while_the_standby_is_frozen", run: standby },
];

fn engine(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let engine = stage.cluster.engine(Side::A)?;
    thaws_silently(stage, &[engine])
}

fn guardian(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let guardian = stage.cluster.guardian(Side::A)?;
    thaws_silently(stage, &[guardian])
}

fn both(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let all = stage.cluster.processes(Side::A)?;
    ensure!(all.len() >= 2, "guardian and engine are two processes, not {all:?}");
    thaws_silently(stage, &all)
}

fn thaws_silently(stage: Stage<'_>, ids: &[u32]) -> Result<()> {
    tree::signal(ids.iter().copied(), Signal::STOP)?;
    stage.wait_until_served_by(Side::B)?;

    tree::signal(ids.iter().copied(), Signal::CONT)?;
    // A hung engine may have been killed and started again by now.
    stage.wait_until_ready(Side::A).context("after it thawed")?;
    stage.wait_for_service()?;
    stage.wait_for(Side::A, "having no address", |status| status["cluster"]["holds_addresses"] == false)?;
    stage.end(&["a", "b"])
}

fn standby(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let all = stage.cluster.processes(Side::B)?;

    tree::signal(all.iter().copied(), Signal::STOP)?;
    stage.wait_for(Side::A, "a silent peer", is_alone)?;
    stage.wait_for_service()?;
    tree::signal(all.iter().copied(), Signal::CONT)?;

    stage.wait_until_ready(Side::B)?;
    stage.wait_for_service()?;
    stage.end(&["a"])
}

fn is_alone(status: &Value) -> bool {
    role(status) == Some("active") && crate::cluster::peer_stance(status) == Some("silent")
}

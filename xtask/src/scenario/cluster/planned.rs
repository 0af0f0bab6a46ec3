//! The operator moves the service, or stops the node that has it.

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::cluster::Settings;
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_planned_switchover_moves_the_service_there_and_back", run: there_and_back },
    Scenario { name: "a_node_that_is_stopped_hands_the_service_over", run: stopped },
    Scenario { name: "a_switchover_without_a_standby_is_refused_with_the_reason", run: refused },
];

fn there_and_back(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    stage.cluster.switch_over(&stage.pair, Side::A)?;
    stage.wait_until_served_by(Side::B)?;
    stage.wait_until_ready(Side::A)?;
    // It may be said at either node.
    stage.cluster.switch_over(&stage.pair, Side::B)?;
    stage.wait_until_served_by(Side::A)?;
    stage.wait_until_ready(Side::B)?;

    stage.end(&["a", "b", "a"])
}

fn stopped(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;

    stage.cluster.terminate(Side::A)?;

    stage.wait_until_served_by(Side::B)?;
    for address in super::stage::ADDRESSES {
        ensure!(!stage.pair.a.has_address(address)?, "the stopped node still has {address}");
    }
    stage.cluster.start(&stage.pair, Side::A)?;
    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

fn refused(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    stage.cluster.kill(Side::B)?;
    stage
        .wait_for(Side::A, "a silent peer", |status| crate::cluster::peer_stance(status) == Some("silent"))?;

    let answer = process::output(&mut stage.cluster.command(&stage.pair, Side::A, &["switchover"]));

    let Err(error) = answer else { anyhow::bail!("a switchover to nobody was taken") };
    let text = format!("{error:#}");
    ensure!(text.contains("other node"), "the refusal does not say why: {text}");
    stage.wait_for_service().context("after the refusal")?;
    stage.end(&["a"])
}

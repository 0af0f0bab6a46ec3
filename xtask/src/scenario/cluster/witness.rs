//! The witness goes, comes back, and is missed.

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX, is_active, peer_stance};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the_service_goes_on_without_the_witness", run: gone },
    Scenario { name: "nobody_takes_over_without_a_majority_and_the_status_says_why", run: majority_gone },
    Scenario {
        name: "the_service_goes_on_when_the_witness_restarts_while_the_standby_is_down",
        run: restarted,
    },
];

fn gone(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    let epoch = stage.epoch(Side::A)?;
    let said = process::output(&mut stage.cluster.witness_command(&stage.pair, &["status"]))?;
    ensure!(said.contains("its vote is a's"), "the witness does not say whose its vote is:\n{said}");

    stage.cluster.kill_witness()?;
    stage.wait_for(Side::A, "a witness that does not vote", |status| {
        status["cluster"]["witness"]["votes"] == false
    })?;
    for _ in 0..5 {
        stage.wait_for_service()?;
    }
    stage.cluster.start_witness(&stage.pair)?;
    stage
        .wait_for(Side::A, "a witness that votes", |status| status["cluster"]["witness"]["votes"] == true)?;

    ensure!(stage.epoch(Side::A)? == epoch, "the active node has acquired the service anew");
    stage.wait_for_service()?;
    stage.end(&["a"])
}

fn majority_gone(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    stage.cluster.kill_witness()?;
    stage.wait_for(Side::A, "a witness that does not vote", |status| {
        status["cluster"]["witness"]["votes"] == false
    })?;

    stage.cluster.kill(Side::A)?;

    stage.wait_for(Side::B, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    stage.wait_for(Side::B, "too few votes", |status| {
        let of = |key: &str| status["cluster"][key].as_u64().unwrap_or(0);
        of("votes") < of("votes_needed")
    })?;
    // The gate of the dead node has closed after this.
    process::wait_until("silence", TIME_MAX, || Ok(stage.ensure_silence(2).ok()))?;
    stage.ensure_silence(4)?;
    let picture = process::output(&mut stage.cluster.command(&stage.pair, Side::B, &["status"]))?;
    let says_why = picture.contains("votes are needed");
    ensure!(says_why, "the status does not say why nobody is active:\n{picture}");
    ensure!(stage.spoken() == ["a"], "without a majority {:?} spoke", stage.spoken());

    stage.cluster.start_witness(&stage.pair)?;
    stage.wait_until_served_by(Side::B).context("when the witness is back")?;
    stage.end(&["a", "b"])
}

fn restarted(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    let epoch = stage.epoch(Side::A)?;
    stage.cluster.kill(Side::B)?;
    stage.wait_for(Side::A, "a silent peer", |status| peer_stance(status) == Some("silent"))?;

    stage.cluster.kill_witness()?;
    stage.cluster.start_witness(&stage.pair)?;

    stage.wait_for(Side::A, "a witness that votes", |status| {
        is_active(status) && status["cluster"]["witness"]["votes"] == true
    })?;
    stage.wait_for_service()?;
    ensure!(stage.epoch(Side::A)? >= epoch, "an epoch was used again");
    stage.cluster.start(&stage.pair, Side::B)?;
    stage.wait_until_ready(Side::B)?;
    stage.wait_for_service()?;
    stage.end(&["a"])
}

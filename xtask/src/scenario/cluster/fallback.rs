//! The gate by nftables, where no program can be loaded into the kernel.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::stage::Stage;
use crate::cluster::{Rights, Settings};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process::{self, tree};
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "nftables_is_the_gate_where_no_program_can_be_loaded", run: nftables }];

fn nftables(lab: &Lab) -> Result<()> {
    let settings = Settings { rights: Rights::NoProgramInTheKernel, ..Settings::default() };
    let mut stage = Stage::begin(lab, &settings)?;
    let is_said = |status: &serde_json::Value| status["cluster"]["gate"]["kind"] == "nftables";
    stage.wait_for(Side::A, "a gate by nftables", is_said)?;

    let guardian = stage.cluster.guardian(Side::A)?;
    tree::signal([guardian], Signal::STOP)?;
    stage.wait_until_served_by(Side::B)?;
    tree::signal([guardian], Signal::CONT)?;
    stage.wait_until_ready(Side::A)?;

    stage.cluster.terminate(Side::A)?;
    let rules = process::output(stage.pair.a.command("nft").args(["list", "ruleset"]))?;
    ensure!(!rules.contains("tandem"), "the gate outlives a clean stop:\n{rules}");
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

//! Cables that are pulled, and cuts that nobody is told of.

use anyhow::{Result, ensure};

use super::stage::Stage;
use crate::cluster::{Paths, Settings, is_peer_ready, peer_stance, role};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "the_standby_takes_over_when_the_cable_of_the_active_node_is_out", run: active_cable },
    Scenario { name: "an_active_node_whose_cable_is_out_gives_way_over_the_second_path", run: second_path },
    Scenario { name: "the_service_goes_on_when_the_cable_of_the_standby_is_out", run: standby_cable },
    Scenario { name: "the_standby_takes_over_when_the_active_node_is_silently_cut_off", run: cut_off },
    Scenario { name: "one_node_answers_while_both_reach_the_phones_but_not_each_other", run: split },
    Scenario { name: "one_node_answers_while_the_standby_does_not_hear_it", run: standby_is_deaf },
    Scenario { name: "one_node_answers_while_it_does_not_hear_the_standby", run: active_is_deaf },
    Scenario { name: "a_node_that_nobody_hears_falls_silent_before_the_other_one_speaks", run: muted },
    Scenario { name: "a_node_that_hears_nobody_falls_silent_before_the_other_one_speaks", run: deafened },
];

fn active_cable(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    out_and_in(stage)
}

/// The votes still come over the second path: what decides is that the node is not well.
fn second_path(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings { paths: Paths::Two, ..Settings::default() })?;
    out_and_in(stage)
}

fn out_and_in(stage: Stage<'_>) -> Result<()> {
    let cable = stage.cable(Side::A);

    stage.lab.pull(&cable)?;
    stage.wait_until_served_by(Side::B)?;
    stage.lab.plug(&cable)?;

    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

fn standby_cable(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let cable = stage.cable(Side::B);

    stage.lab.pull(&cable)?;
    stage.wait_for(Side::A, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    stage.wait_for_service()?;
    stage.lab.plug(&cable)?;

    stage.wait_until_ready(Side::B)?;
    stage.wait_for_service()?;
    stage.end(&["a"])
}

fn cut_off(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.cut_off(&stage.cable(Side::A))?;
    stage.wait_until_served_by(Side::B)?;
    lab.heal()?;

    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

fn split(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.cut_between(&stage.cable(Side::A), &stage.cable(Side::B))?;
    for side in Side::BOTH {
        stage.wait_for(side, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    }
    // Both ask the witness for many leases, and the phones reach both.
    for _ in 0..10 {
        stage.wait_for_service()?;
    }
    ensure!(stage.spoken() == ["a"], "during the cut {:?} spoke", stage.spoken());
    lab.heal()?;

    stage.wait_until_ready(Side::B)?;
    stage.wait_for_service()?;
    stage.end(&["a"])
}

fn standby_is_deaf(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.cut(&stage.cable(Side::A), &stage.cable(Side::B))?;
    stage.wait_for(Side::B, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    goes_on(stage)
}

fn active_is_deaf(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.cut(&stage.cable(Side::B), &stage.cable(Side::A))?;
    stage.wait_for(Side::A, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    goes_on(stage)
}

fn goes_on(stage: Stage<'_>) -> Result<()> {
    for _ in 0..5 {
        stage.wait_for_service()?;
    }
    stage.wait_for(Side::A, "being active", |status| role(status) == Some("active"))?;
    stage.lab.heal()?;
    stage.wait_for(Side::A, "a ready standby", is_peer_ready)?;
    stage.wait_for_service()?;
    stage.end(&["a"])
}

/// It hears all questions, and its answers come as far as the switch, where the observer is.
fn muted(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.mute(&stage.cable(Side::A))?;
    stage.wait_until_served_by(Side::B)?;
    lab.heal()?;

    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

/// Its announcements are heard by all.
fn deafened(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;

    lab.deafen(&stage.cable(Side::A))?;
    stage.wait_until_served_by(Side::B)?;
    lab.heal()?;

    stage.wait_until_ready(Side::A)?;
    stage.wait_for_service()?;
    stage.end(&["a", "b"])
}

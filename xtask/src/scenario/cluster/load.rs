//! Calls under load, of all kinds, while nodes are lost and the service is moved: no call is hurt.

use anyhow::{Context, Result, ensure};

use super::records;
use super::stage::Stage;
use crate::calls::{self, Calls, Kind};
use crate::cluster::fault::Fault;
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "fifty_calls_a_second_outlive_killed_nodes", run: killed },
    Scenario { name: "fifty_calls_a_second_outlive_frozen_nodes", run: frozen },
    Scenario { name: "fifty_calls_a_second_outlive_cut_cables", run: cables },
    Scenario { name: "fifty_calls_a_second_outlive_nodes_that_hear_or_speak_alone", run: one_way },
    Scenario { name: "fifty_calls_a_second_outlive_a_service_that_is_moved_and_stopped", run: moved },
];

/// Calls that begin in each second.
const A_SECOND: u32 = 50;
/// So many begin before each fault: those that ring, and those that talk, are then as many as they will be.
const BEFORE: u64 = 175;
/// And so many while the fault lasts and a node is alone.
const AFTER: u64 = 50;

fn killed(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    for fault in [Fault::EngineKilled, Fault::GuardianKilled, Fault::AllKilled] {
        scene.lose(fault)?;
    }
    scene.close()
}

fn frozen(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    for fault in [Fault::EngineFrozen, Fault::GuardianFrozen, Fault::AllFrozen] {
        scene.lose(fault)?;
    }
    scene.close()
}

fn cables(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    for fault in [Fault::CableOut, Fault::CutOff] {
        scene.lose(fault)?;
    }
    scene.close()
}

fn one_way(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    for fault in [Fault::Muted, Fault::Deafened] {
        scene.lose(fault)?;
    }
    scene.close()
}

fn moved(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    scene.calls.wait_for(BEFORE)?;
    let active = scene.stage.cluster.wait_until_whole(TIME_MAX)?;
    scene.stage.cluster.switch_over(&scene.stage.pair, active)?;
    scene.stage.wait_for_service().context("after a switchover")?;

    scene.calls.wait_for(BEFORE)?;
    let active = scene.stage.cluster.wait_until_whole(TIME_MAX)?;
    scene.stage.cluster.terminate(active)?;
    scene.stage.cluster.wait_until_active(active.other(), TIME_MAX).context("after a SIGTERM")?;
    scene.calls.wait_for(AFTER)?;
    scene.stage.cluster.start(&scene.stage.pair, active)?;
    scene.stage.cluster.wait_until_whole(TIME_MAX)?;
    scene.close()
}

/// A pair with calls.
struct Scene<'l> {
    stage: Stage<'l>,
    calls: Calls,
    /// Faults that a node does not outlive.
    killed: u64,
}

impl<'l> Scene<'l> {
    fn open(lab: &'l Lab) -> Result<Scene<'l>> {
        let settings = Settings {
            digest: Digest::Off,
            log_level: "info",
            toml: records::TOML.to_owned(),
            ..Settings::default()
        };
        let stage = Stage::begin(lab, &settings)?;
        let (from, to) = (&stage.pair.phone, &stage.pair.far);
        calls::register(lab, to, VIP)?;
        stage.cluster.wait_until_whole(TIME_MAX)?;
        let calls = Calls::begin(lab, from, to, A_SECOND, "calls")?;
        Ok(Scene { stage, calls, killed: 0 })
    }

    /// Something happens to the node that serves, whichever that is: a machine that stands still lets the lease move by itself.
    fn lose(&mut self, fault: Fault) -> Result<()> {
        self.killed += 1;
        self.calls.wait_for(BEFORE)?;
        let side = self.stage.cluster.wait_until_whole(TIME_MAX)?;
        self.lose_side(side, fault).with_context(|| format!("{}: {}", side.name(), fault.name()))
    }

    fn lose_side(&mut self, side: Side, fault: Fault) -> Result<()> {
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        let wound = cluster.hurt(lab, pair, side, fault)?;
        cluster.wait_until_active(side.other(), TIME_MAX)?;
        self.stage.wait_for_service()?;
        self.calls.wait_for(AFTER)?;
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        cluster.heal(lab, pair, wound)?;
        cluster.wait_until_whole(TIME_MAX)?;
        Ok(())
    }

    /// Every call has gone as scripted, and never have two nodes spoken for an address.
    fn close(self) -> Result<()> {
        let books = self.calls.end()?;
        println!("{books}");
        for kind in Kind::ALL {
            ensure!(books.of(kind).calls > 0, "there was no call of the kind {}", kind.name());
        }
        ensure!(books.hurt() == 0, "{books}: {}", books.complaints().join("\n"));
        records::check(&books, self.killed)?;
        let spoken = self.stage.spoken();
        self.stage.end(&spoken)
    }
}

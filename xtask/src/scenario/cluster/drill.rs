//! The operator's own drill: it breaks a real pair, tells what came of it, and leaves it as it was.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::process::{self, Running, tree};
use crate::scenario::Scenario;
use crate::server::PASSWORD;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_drill_tells_what_a_switchover_and_a_killed_engine_cost", run: told },
    Scenario { name: "a_drill_that_is_broken_off_lets_a_frozen_node_go_on", run: broken_off },
];

const PHONES: u32 = 4;

/// A drill waits for what is repeated, and its nodes are started again.
const DRILL_TIME_MAX: Duration = Duration::from_secs(75);

fn told(lab: &Lab) -> Result<()> {
    let stage = begin(lab)?;
    let page = lab.dir.join("drill.html");

    let mut command = drill(&stage, &["switchover", "kill-engine", "--yes"])?;
    command.arg("--html").arg(&page);
    let mut running = Running::start(&mut command, &lab.dir.join("drill.log"))?;
    let status = running.wait(DRILL_TIME_MAX)?;

    let said = running.log();
    let (first, second) = said.split_once("\n2. ").with_context(|| said.clone())?;
    for (trial, title, why) in [
        (first, "a planned switchover from a", "b reports      ACTIVE: a planned switchover"),
        (second, "kill -9 of the engine of b", "a reports      ACTIVE: the active node gave the service up"),
    ] {
        for line in [
            title,
            why,
            "registered         4 kept   0 lost",
            "talking            2 kept   0 lost",
            "whole again",
        ] {
            ensure!(trial.contains(line), "no {line:?} in:\n{said}");
        }
    }
    // What it tells is what its status says, whatever the nodes can keep.
    let is_lossless = said.contains("Nothing was lost by 2 faults");
    ensure!(is_lossless != said.contains(" were lost by 2 faults"), "{said}");
    ensure!(status.code() == Some(if is_lossless { 0 } else { 1 }), "it ended with {status}:\n{said}");
    let html = process::read_lossy(&page);
    ensure!(html.matches("<svg").count() >= 4, "{} does not draw both faults", page.display());
    ensure_nothing_stays(&stage)?;
    stage.end(&["a", "b", "a"])
}

fn broken_off(lab: &Lab) -> Result<()> {
    let stage = begin(lab)?;
    let processes = stage.cluster.processes(Side::A)?;

    let refused = process::output(&mut drill(&stage, &["kill-node", "--yes"])?);
    ensure!(
        refused.is_err_and(|why| format!("{why:#}").contains("--restart")),
        "nobody would start it again"
    );
    let mut command = drill(&stage, &["freeze-node=60s", "--yes"])?;
    let mut running = Running::start(&mut command, &lab.dir.join("drill.log"))?;
    process::wait_until("frozen node", DRILL_TIME_MAX, || {
        Ok(processes.iter().all(|process| state_of(*process) == Some('T')).then_some(()))
    })?;
    running.signal(Signal::TERM)?;
    let status = running.wait(DRILL_TIME_MAX)?;

    ensure!(status.code() == Some(2), "it ended with {status}:\n{}", running.log());
    process::wait_until("node that goes on", TIME_MAX, || {
        Ok((!processes.iter().any(|process| state_of(*process) == Some('T'))).then_some(()))
    })?;
    stage.wait_until_ready(Side::A).context("after the drill")?;
    ensure_nothing_stays(&stage)
}

/// A pair with accounts that nobody else uses.
fn begin(lab: &Lab) -> Result<Stage<'_>> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    stage.cluster.prepare_accounts(PHONES, &[])?;
    stage.start()?;
    Ok(stage)
}

/// The drill on the host of a phone, with a hand on each node.
fn drill(stage: &Stage<'_>, words: &[&str]) -> Result<Command> {
    let mut command = stage.pair.phone.command(&stage.lab.binary);
    command.arg("drill").args(words).arg("--password-file").arg(password_file(stage)?);
    for number in 0..PHONES {
        command.arg("--phone").arg(format!("user{number}@{VIP}"));
    }
    for side in Side::BOTH {
        let hand = stage.cluster.command(&stage.pair, side, &["drill-hand"]);
        command.arg("--hand").arg(process::words(&hand));
    }
    command.stdin(Stdio::null());
    Ok(command)
}

fn password_file(stage: &Stage<'_>) -> Result<PathBuf> {
    let file = stage.lab.dir.join("password");
    fs::write(&file, format!("{PASSWORD}\n"))?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    Ok(file)
}

/// No phone of the drill is registered, and none of its hands is there.
fn ensure_nothing_stays(stage: &Stage<'_>) -> Result<()> {
    for side in Side::BOTH {
        let text = process::output(&mut stage.cluster.command(&stage.pair, side, &["contacts", "--json"]))?;
        ensure!(!text.contains("user"), "{} still has {text}", side.name());
    }
    for entry in fs::read_dir("/proc")? {
        let words = process::read_lossy(&entry?.path().join("cmdline"));
        ensure!(!words.contains("drill-hand"), "it has left {}", words.replace('\0', " "));
    }
    Ok(())
}

/// As the kernel has it: `T` stands still. One that has ended has none.
fn state_of(process: u32) -> Option<char> {
    if !tree::is_alive(process) {
        return None;
    }
    let stat = process::read_lossy(format!("/proc/{process}/stat").as_ref());
    stat.rsplit(") ").next()?.chars().next()
}

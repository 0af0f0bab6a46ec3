//! The first thing that a newcomer is shown: what breaks in it must be seen here before.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use super::first_run::{can_change_user, start_as_nobody};
use crate::lab::Lab;
use crate::process::{self, Running};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "the_demo_shows_five_takeovers_that_no_phone_has_to_register_for_and_leaves_nothing",
    run: five_takeovers,
}];

/// On a busy machine.
const DEMO_TIME_MAX: Duration = Duration::from_secs(80);

fn five_takeovers(lab: &Lab) -> Result<()> {
    let host = lab.host("server", 10)?;
    let words = ["demo", "--auto"];
    let mut running = if can_change_user() {
        start_as_nobody(lab, &host, Path::new("/run/home"), "demo", &words)?
    } else {
        // The kernel gives no namespace to a root that has no rights, and there is nobody else here.
        Running::start(host.command(&lab.binary).args(words), &lab.dir.join("demo.log"))?
    };
    let status = running.wait(DEMO_TIME_MAX).with_context(|| running.log())?;

    let said = running.log();
    ensure!(status.success(), "it ended with {status}:\n{said}");
    let mut last = 0;
    for (number, what) in
        ["the engine of", "everything on", "stands still", "the cable of", "a planned switchover"]
            .iter()
            .enumerate()
    {
        let step = said.split(&format!("\n {}. ", number + 1)).nth(1).with_context(|| said.clone())?;
        let step = step.split(&format!("\n {}. ", number + 2)).next().unwrap_or_default();
        ensure!(
            step.lines().next().is_some_and(|title| title.contains(what)),
            "{what} is missed in:\n{step}"
        );
        let epoch = step.split(", epoch ").nth(1).context("nobody took over")?;
        let epoch: u32 =
            epoch.split(':').next().unwrap_or_default().parse().with_context(|| step.to_owned())?;
        ensure!(epoch > last, "epoch {epoch} after {last}:\n{said}");
        // Lines end wherever the figures have filled them.
        let told = step.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(told.contains("first answer"), "no report of the takeover in:\n{step}");
        ensure!(told.contains("REGISTERs since: none"), "somebody had to register again:\n{step}");
        ensure!(told.contains(" went on; calls since: 4 of 4 reached"), "a call was lost:\n{step}");
        last = epoch;
    }
    ensure!(said.contains("5 takeovers, and none cost"), "{said}");
    ensure_nothing_runs()
}

/// No program of the demo has outlived it.
fn ensure_nothing_runs() -> Result<()> {
    for entry in std::fs::read_dir("/proc")? {
        let words = process::read_lossy(&entry?.path().join("cmdline"));
        ensure!(!words.starts_with("/proc/self/exe\0"), "it has left {}", words.replace('\0', " "));
    }
    Ok(())
}

//! The operator moves the service, or stops the node that has it.

use anyhow::{Context, Result, ensure};

use serde_json::Value;

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX};
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
    check_report(&stage, Side::B).context("of the switchover to b")?;
    check_report(&stage, Side::A).context("of the switchover back")?;

    stage.end(&["a", "b", "a"])
}

/// The phases of a takeover that phones have noticed.
const PHASES: [&str; 7] =
    ["detected", "majority", "gate", "address", "announced", "engine_told", "first_answer"];

/// The last switchover to a node is told with all of its phases and with what was kept, also as a page.
fn check_report(stage: &Stage<'_>, side: Side) -> Result<()> {
    let mut last = None;
    let wait = process::wait_until("whole report", TIME_MAX, || {
        let reports = stage.cluster.reports(&stage.pair, side)?;
        last = reports.into_iter().rfind(|report| report["event"] == "switchover");
        let is_whole = |report: &Value| {
            let phases: Vec<&str> = report["phases"]
                .as_array()
                .map(|phases| phases.iter().filter_map(|end| end["phase"].as_str()).collect())
                .unwrap_or_default();
            PHASES.iter().all(|phase| phases.contains(phase))
                && report["kept"]["ready"].is_u64()
                && report["kept"]["bindings"].is_u64()
                && report["degraded"].is_object()
        };
        Ok(last.as_ref().is_some_and(is_whole).then_some(()))
    });
    wait.with_context(|| format!("the last one: {}", last.unwrap_or_default()))?;
    let file = stage.lab.dir.join(format!("takeovers-{}.html", side.name()));
    let name = file.display().to_string();
    process::quietly(&mut stage.cluster.command(&stage.pair, side, &["report", "--html", &name]))?;
    let page = process::read_lossy(&file);
    for phase in PHASES.map(|phase| phase.replace('_', " ")) {
        ensure!(page.contains(&format!(">{phase}</text>")), "{name} does not draw {phase}");
    }
    Ok(())
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

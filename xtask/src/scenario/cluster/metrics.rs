//! What a monitor is told of a pair: by both nodes, before a takeover and after it, whatever has died.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::Side;
use crate::process::{self, tree};
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "metrics_tell_which_node_is_active_and_why_it_changed", run: told }];

/// Where each node serves its own.
const PORT: u16 = 9760;

fn told(lab: &Lab) -> Result<()> {
    let toml = format!("[metrics]\nlisten = \"127.0.0.1:{PORT}\"\n");
    let stage = Stage::begin(lab, &Settings { toml, ..Settings::default() })?;
    for (side, lines) in [
        (
            Side::A,
            ["tandem_active 1", "tandem_cluster_takeovers_total{reason=\"start\"} 1", "tandem_engine_up 1"],
        ),
        (Side::B, ["tandem_active 0", "tandem_cluster_role{role=\"standby\"} 1", "tandem_engine_up 1"]),
    ] {
        for line in lines {
            wait_for_line(&stage, side, line)?;
        }
    }

    let exporter = exporter(&stage, Side::A)?;
    tree::signal([exporter], Signal::KILL)?;
    wait_for_line(&stage, Side::A, "tandem_active 1").context("the exporter is started again")?;
    ensure!(!tree::is_alive(exporter), "the killed exporter is still there");
    tree::signal([stage.cluster.engine(Side::A)?], Signal::KILL)?;

    stage.wait_until_served_by(Side::B)?;
    wait_for_line(&stage, Side::A, "tandem_cluster_losses_total{cause=\"given_up\"} 1")?;
    wait_for_line(&stage, Side::A, "tandem_engine_restarts_total 1")?;
    wait_for_line(&stage, Side::B, "tandem_cluster_takeovers_total{reason=\"peer_released\"} 1")?;
    wait_for_line(&stage, Side::B, "tandem_active 1")?;
    stage.wait_until_ready(Side::A)?;
    stage.end(&["a", "b"])
}

/// Waits until a scrape of a node has the line. A scrape may find the exporter just started.
fn wait_for_line(stage: &Stage<'_>, side: Side, line: &str) -> Result<()> {
    let mut last = String::new();
    let wait = process::wait_until(&format!("`{line}` at {}", side.name()), TIME_MAX, || {
        last = stage.pair.node(side).enter(scrape)?.unwrap_or_default();
        Ok(last.lines().any(|it| it == line).then_some(()))
    });
    wait.with_context(|| format!("the last scrape: {last}"))
}

fn scrape() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
    stream.set_read_timeout(Some(TIME_MAX))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn exporter(stage: &Stage<'_>, side: Side) -> Result<u32> {
    let children = tree::children(stage.cluster.guardian(side)?)?;
    let is_exporter = |child: &u32| {
        let words = process::read_lossy(format!("/proc/{child}/cmdline").as_ref());
        words.split('\0').any(|word| word == "exporter")
    };
    children.into_iter().find(is_exporter).context("the guardian has no exporter")
}

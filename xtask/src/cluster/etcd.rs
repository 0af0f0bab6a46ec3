//! etcd on a host of the lab: one member, whose data outlive it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::{WITNESS, state_directory};
use crate::lab::Host;
use crate::process::Running;

/// Where it serves clients.
pub const PORT: u16 = 2379;

/// How long its start may take.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// Starts it, and waits until it serves.
pub fn start(host: &Host, logs: &Path) -> Result<Running> {
    let clients = format!("http://{}:{PORT}", host.v4);
    let peers = format!("http://{}:2380", host.v4);
    let mut command = host.command("etcd");
    command
        .args(["--name", "one", "--data-dir"])
        .arg(format!("{}/etcd", state_directory(WITNESS)))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("one={peers}")])
        .args(["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1m"]);
    let mut running = Running::start(&mut command, &logs.join("etcd.log"))?;
    running.wait_for("ready to serve", START_TIME_MAX)?;
    Ok(running)
}

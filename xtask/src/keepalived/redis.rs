//! rtpengine beside Kamailio on both nodes, and one Redis where each writes its calls and reads those of the other one.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::lab::pair::{Pair, Side, VIP, WITNESS_V4};
use crate::process::Running;

const PORT: u16 = 6_379;
const START_TIME_MAX: Duration = Duration::from_secs(15);

/// Starts Redis on the witness's host, in memory alone.
pub fn start(lab: &Lab, pair: &Pair) -> Result<Running> {
    let mut command = pair.witness.command("redis-server");
    command.args(["--port", &PORT.to_string(), "--bind", &WITNESS_V4.to_string(), "--protected-mode", "no"]);
    command.args(["--save", "", "--appendonly", "no", "--notify-keyspace-events", "KEA"]);
    command.arg("--dir").arg(&lab.dir);
    let mut running = Running::start(&mut command, &lab.dir.join("redis.log"))?;
    running.wait_for("Ready to accept connections", START_TIME_MAX).context("Redis")?;
    Ok(running)
}

/// Starts the relay of a node. It has its sockets at the virtual address whether that is there or not.
pub(super) fn relay(lab: &Lab, pair: &Pair, side: Side) -> Result<Running> {
    let database = |side: Side| side as usize + 1;
    let host = pair.node(side);
    let mut command = host.command("rtpengine");
    command.args(["--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--log-level=6"]);
    command.arg(format!("--interface={VIP}"));
    command.arg("--listen-ng=127.0.0.1:2223");
    command.arg(format!("--redis={WITNESS_V4}:{PORT}/{}", database(side)));
    command.arg(format!("--subscribe-keyspace={}", database(side.other())));
    // A call whose packets come here is this one's from then on.
    command.arg("--active-switchover");
    let mut running = Running::start(&mut command, &lab.dir.join(format!("{}-rtpengine.log", host.name)))?;
    running.wait_for("Startup complete", START_TIME_MAX).context("rtpengine")?;
    Ok(running)
}

//! Registrations as fast as they are answered, from the phone of the lab; and who else works on the machine.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::load::OUTSTANDING;
use crate::lab::pair::{Pair, VIP};
use crate::workspace;

/// Where the active node runs.
pub const ACTIVE_CORE: &str = "0";
/// Where all others do.
pub const OTHER_CORE: &str = "1";
/// How long the machine is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// Registers `users` addresses of record, `count` times all together; says how many a second, and calls `begun` when it is
/// about to begin.
pub fn register(pair: &Pair, users: u64, count: u64, begun: impl FnOnce() -> Result<()>) -> Result<f64> {
    run(pair, "register", "none", users, count, begun)
}

/// The same with a challenge each time, for the accounts `user0`, `user1` ….
pub fn register_with_challenge(
    pair: &Pair,
    users: u64,
    count: u64,
    begun: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    run(pair, "register", "challenge", users, count, begun)
}

/// The same with calls, from INVITE to the 200 to BYE.
pub fn call(pair: &Pair, users: u64, count: u64, begun: impl FnOnce() -> Result<()>) -> Result<f64> {
    run(pair, "call", "none", users, count, begun)
}

fn run(
    pair: &Pair,
    kind: &str,
    digest: &str,
    users: u64,
    count: u64,
    begun: impl FnOnce() -> Result<()>,
) -> Result<f64> {
    let mut command = pair.phone.command("taskset");
    command.args(["-c", OTHER_CORE]).arg(workspace::target().join("release/examples/load"));
    let phone = pair.phone.v4.to_string();
    command.args([kind, "--server", &format!("{VIP}:5060"), "--phones", &phone, "--callers", &phone]);
    command.args(["--users", &users.to_string(), "--count", &count.to_string()]);
    command.args(["--outstanding", &OUTSTANDING.min(users).to_string(), "--digest", digest]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
    let mut said = BufReader::new(child.stdout.take().context("its output is a pipe")?).lines();
    ensure!(said.next().transpose()?.as_deref() == Some("ready"), "the load failed before it began");
    begun()?;
    child.stdin.take().context("its input is a pipe")?.write_all(b"\n")?;
    let line = said.next().transpose()?;
    ensure!(child.wait()?.success(), "the load failed");
    let figures: Value = serde_json::from_str(&line.context("the load said nothing")?)?;
    Ok(count as f64 / figures["seconds"].as_f64().context("no time")?)
}

/// How busy the machine is, in percent of all its processors, watched for a while in which we do nothing.
pub fn others() -> Result<f64> {
    let before = ticks()?;
    std::thread::sleep(WATCHED);
    let after = ticks()?;
    let (all, idle) = (after.0 - before.0, after.1 - before.1);
    Ok(100.0 * (all - idle) as f64 / all.max(1) as f64)
}

/// All ticks of all processors, and the idle ones.
fn ticks() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    ensure!(ticks.len() >= 5, "/proc/stat begins with {line:?}");
    Ok((ticks.iter().take(8).sum(), ticks[3] + ticks[4]))
}

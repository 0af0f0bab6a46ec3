//! How long a takeover takes with so many bindings, and how long an empty standby needs to hold them all.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::cost::{Link, settings};
use super::load;
use crate::cluster::fault::Fault;
use crate::cluster::{Cluster, state_directory};
use crate::lab::Lab;
use crate::lab::asker::Asker;
use crate::lab::observer::now;
use crate::lab::pair::{Pair, Side, VIP};
use crate::process;

/// How often a phone asks.
const EVERY: Duration = Duration::from_millis(5);
/// The service is there when so many requests were answered. The longest gap among them counts.
const ANSWERS: usize = 100;
/// What a phone sent up to here may still be answered by what has just been killed.
const AFTERGLOW: Duration = Duration::from_millis(30);
/// So many takeovers of each kind.
const TAKEOVERS: usize = 4;
/// A start with a million bindings takes long, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// The length of the progress bar.
const BAR: usize = 40;

/// Measures it with so many bindings.
pub fn measure(lab: &Lab, bindings: u64) -> Result<Value> {
    let busy = load::others()?;
    let pair = Pair::new(lab)?;
    let mut cluster = Cluster::prepare(lab, &pair, &settings())?;
    cluster.start_all(&pair)?;
    cluster.wait_until_whole(LIMIT)?;
    let a_second = load::register(&pair, bindings, bindings, || Ok(()))?;
    let mut gaps = [Vec::new(), Vec::new()];
    for turn in 0..TAKEOVERS {
        for (gaps, fault) in gaps.iter_mut().zip([Fault::EngineKilled, Fault::AllKilled]) {
            let active = cluster.wait_until_whole(LIMIT)?;
            // The timers are not to be hit always at the same place.
            std::thread::sleep(Duration::from_millis(200 + turn as u64 * 370 % 1000));
            let gap = gap(lab, &pair, &mut cluster, active, fault)?;
            println!("  {} at {}: {:.1} ms", fault.name(), active.name(), milliseconds(gap));
            gaps.push(milliseconds(gap));
            let held = cluster.control(active.other())?.status()?["bindings"].as_u64();
            ensure!(held == Some(bindings), "{held:?} of {bindings} bindings are there after the takeover");
        }
    }
    let mut figures = sync(lab, &pair, &mut cluster, bindings)?;
    let [engine, all] = gaps;
    figures["busy"] = json!(busy);
    figures["first_a_second"] = json!(a_second);
    figures["engine_killed_ms"] = json!(engine);
    figures["all_killed_ms"] = json!(all);
    Ok(figures)
}

/// The longest time without an answer at the worse of two phones.
fn gap(lab: &Lab, pair: &Pair, cluster: &mut Cluster, active: Side, fault: Fault) -> Result<Duration> {
    let vip = IpAddr::V4(VIP);
    let phones = [Asker::start(&pair.phone, vip, EVERY)?, Asker::start(&pair.far, vip, EVERY)?];
    let begun = now();
    for phone in &phones {
        phone.wait_for(ANSWERS, begun, LIMIT).context("before the fault")?;
    }
    let start = now();
    let wound = cluster.hurt(lab, pair, active, fault)?;
    let from = now() + AFTERGLOW;
    let mut gap = Duration::ZERO;
    for phone in &phones {
        let end = phone.wait_for(ANSWERS, from, LIMIT).context("after the fault")?;
        gap = gap.max(phone.longest_gap(start, end));
    }
    cluster.wait_until_active(active.other(), LIMIT)?;
    cluster.heal(lab, pair, wound)?;
    Ok(gap)
}

/// The standby starts without a database, and gets everything from the active node.
fn sync(lab: &Lab, pair: &Pair, cluster: &mut Cluster, bindings: u64) -> Result<Value> {
    let active = cluster.wait_until_whole(LIMIT)?;
    let standby = active.other();
    cluster.terminate(standby)?;
    for name in ["tandem.sqlite", "tandem.sqlite-wal", "tandem.sqlite-shm"] {
        let file = Path::new(&state_directory(standby.name())).join(name);
        if file.exists() {
            fs::remove_file(&file)?;
        }
    }
    // The active node believes its last word for a moment: that it has all.
    let is_missed = || cluster.view(active).is_some_and(|view| readiness(&view).is_none());
    process::wait_until("active node that misses its standby", LIMIT, || Ok(is_missed().then_some(())))?;
    let link = Link::watch(pair)?;
    let start = Instant::now();
    cluster.start(pair, standby)?;
    let mut seen = None;
    let mut shown = 101;
    loop {
        let ready = cluster.view(active).and_then(|view| readiness(&view)).unwrap_or(0);
        if ready != shown {
            shown = ready;
            draw(ready, start.elapsed());
        }
        // What an operator sees in the middle of it.
        if seen.is_none() && (20..100).contains(&ready) {
            seen = Some(process::output(&mut cluster.command(pair, active, &["status"]))?);
        }
        if ready == 100 && cluster.active() == Some(active) {
            break;
        }
        ensure!(start.elapsed() < LIMIT, "the standby is not ready within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!();
    let took = start.elapsed();
    let held = cluster.control(standby)?.status()?["bindings"].as_u64();
    ensure!(held == Some(bindings), "the standby says that it is ready with {held:?} of {bindings} bindings");
    let (to_b, from_b) = link.bytes()?;
    let seen = seen.map(|text| strip(&text, lab));
    Ok(json!({ "sync_s": took.as_secs_f64(), "sync_bytes": to_b.max(from_b), "seen": seen }))
}

/// How much of the state the other node holds, as a node says.
fn readiness(view: &Value) -> Option<u64> {
    let nodes = view["cluster"]["nodes"].as_array()?;
    let other = nodes.iter().find(|node| node["is_this"] == false)?;
    (other["stance"] == "standby").then(|| other["ready"].as_u64()).flatten()
}

fn draw(percent: u64, time: Duration) {
    let full = BAR * percent as usize / 100;
    print!(
        "\r  [{}{}] {percent:>3} % of the standby, {:.1} s",
        "#".repeat(full),
        "-".repeat(BAR - full),
        time.as_secs_f64()
    );
    // A terminal that is gone misses nothing.
    let _ = std::io::stdout().flush();
}

/// The part about the cluster, without paths of this machine.
fn strip(text: &str, lab: &Lab) -> String {
    let text = text.split("\n\nTandem ").next().unwrap_or(text);
    text.replace(&lab.dir.display().to_string(), "/etc/tandem")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

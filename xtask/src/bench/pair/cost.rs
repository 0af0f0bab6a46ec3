//! Processor time of the active engine for each REGISTER, and bytes on the link.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::load::{self, ACTIVE_CORE, OTHER_CORE};
use super::work::Setup;
use crate::bench::cpu_time;
use crate::cluster::{self, Cluster, Digest};
use crate::lab::pair::{Pair, Side, VIP, write_for};
use crate::lab::{Host, Lab};
use crate::process::{self, Running, tree};
use crate::soak::pair::degraded;

/// Bindings that are made and then refreshed.
const BINDINGS: u64 = 100_000;
/// All must be ready within this time.
const LIMIT: Duration = Duration::from_secs(60);
/// Work that a server has put off belongs to what it did before.
const REST: Duration = Duration::from_millis(400);
/// It must be done within this time.
const REST_MAX: Duration = Duration::from_secs(30);

/// Measures one setup.
pub fn measure(lab: &Lab, setup: Setup) -> Result<Value> {
    let busy = load::others()?;
    let pair = Pair::new(lab)?;
    let server = Server::start(lab, &pair, setup)?;
    let link = Link::watch(&pair)?;
    let first = one(&pair, &server, &link).context("new bindings")?;
    let again = one(&pair, &server, &link).context("refreshes")?;
    Ok(json!({
        "busy": busy,
        "first_us": first.microseconds, "first_a_second": first.a_second, "first_link": first.link,
        "first_back": first.back,
        "refresh_us": again.microseconds, "refresh_a_second": again.a_second, "refresh_link": again.link,
        "refresh_back": again.back,
        "refresh_degraded": again.degraded,
    }))
}

/// What each of [`BINDINGS`] registrations cost.
struct Cost {
    microseconds: f64,
    a_second: f64,
    /// Bytes to the other node, and from there.
    link: f64,
    back: f64,
    /// How many went on without the other node.
    degraded: u64,
}

fn one(pair: &Pair, server: &Server, link: &Link<'_>) -> Result<Cost> {
    let mut before = (Duration::ZERO, (0, 0), 0);
    let a_second = load::register(pair, BINDINGS, BINDINGS, || {
        before = (server.rested()?, link.bytes()?, server.degraded()?);
        Ok(())
    })?;
    let (used, bytes) = (server.rested()? - before.0, link.bytes()?);
    let each = |bytes: u64| bytes as f64 / BINDINGS as f64;
    Ok(Cost {
        microseconds: used.as_secs_f64() * 1e6 / BINDINGS as f64,
        a_second,
        link: each(bytes.0 - before.1.0),
        back: each(bytes.1 - before.1.1),
        degraded: server.degraded()? - before.2,
    })
}

/// Who answers for the virtual address.
pub enum Server {
    /// Without `[cluster]`.
    Single(Running),
    /// One that runs on the first node.
    Cluster(Cluster),
}

impl Server {
    /// Starts it, with the active node on a core of its own.
    pub fn start(lab: &Lab, pair: &Pair, setup: Setup) -> Result<Server> {
        if setup == Setup::Single {
            return Server::single(lab, pair);
        }
        let mut cluster = Cluster::prepare(lab, pair, &settings())?;
        if setup == Setup::Pair {
            cluster.start_all(pair)?;
            cluster.wait_until_whole(LIMIT)?;
            pin(&cluster.processes(Side::B)?, OTHER_CORE)?;
        } else {
            cluster.start_witness(pair)?;
            cluster.start(pair, Side::A)?;
            cluster.wait_until_active(Side::A, LIMIT)?;
        }
        pin(&cluster.processes(Side::A)?, ACTIVE_CORE)?;
        Ok(Server::Cluster(cluster))
    }

    /// A server that has the address for ever.
    fn single(lab: &Lab, pair: &Pair) -> Result<Server> {
        pair.a.ip(&["addr", "add", &format!("{VIP}/32"), "dev", "eth0"])?;
        let state = cluster::state_directory("single");
        fs::create_dir_all(&state)?;
        let text = format!(
            "[node]\nstate_directory = \"{state}\"\nthreads = 1\n[log]\nlevel = \"warn\"\n\
             [sip]\nlisten = [\"udp://{VIP}:5060 digest off\"]\n[admission]\nnever = [\"203.0.113.0/24\"]\n"
        );
        let config = write_for(lab, &pair.a, "tandem.toml", &text)?;
        let mut command = pair.a.command(&lab.binary);
        command.arg("run").arg("--config").arg(config);
        let running = Running::start(&mut command, &lab.dir.join("single.log"))?;
        let socket = format!("{state}/control.sock");
        process::wait_until("server", LIMIT, || Ok(fs::exists(&socket)?.then_some(())))?;
        pin(&[running.id()], ACTIVE_CORE)?;
        Ok(Server::Single(running))
    }

    /// The process that serves.
    pub fn engine(&self) -> Result<u32> {
        match self {
            Server::Single(running) => Ok(running.id()),
            Server::Cluster(cluster) => cluster.engine(Side::A),
        }
    }

    /// Processor time of the engine, all its threads, when all that was put off is done.
    pub fn rested(&self) -> Result<Duration> {
        let (start, engine) = (Instant::now(), self.engine()?);
        let mut before = cpu_time::of_tree(engine)?;
        loop {
            std::thread::sleep(REST);
            let after = cpu_time::of_tree(engine)?;
            // Heartbeats and timers still cost a tick now and then.
            if after.saturating_sub(before) <= Duration::from_millis(20) {
                return Ok(after);
            }
            ensure!(start.elapsed() < REST_MAX, "the engine does not come to rest");
            before = after;
        }
    }

    /// How often it has not waited for the other node.
    pub fn degraded(&self) -> Result<u64> {
        match self {
            Server::Single(_) => Ok(0),
            Server::Cluster(cluster) => Ok(degraded(&cluster.control(Side::A)?.status()?).values().sum()),
        }
    }
}

/// The nodes of a pair that is measured.
pub fn settings() -> cluster::Settings {
    cluster::Settings {
        log_level: "warn",
        node: "threads = 1\n".to_owned(),
        digest: Digest::Off,
        ..cluster::Settings::default()
    }
}

/// All threads of these processes run on one core from here on, and those that they will have.
pub fn pin(ids: &[u32], core: &str) -> Result<()> {
    for id in ids {
        for process in tree::of(*id)?.into_keys() {
            process::quietly(Command::new("taskset").args(["-a", "-c", "-p", core, &process.to_string()]))?;
        }
    }
    Ok(())
}

/// What goes over TCP between the nodes, counted by the kernel of the first one: nothing else of theirs is TCP.
pub struct Link<'p> {
    a: &'p Host,
}

impl Link<'_> {
    /// Counts from here on.
    pub fn watch(pair: &Pair) -> Result<Link<'_>> {
        let other = pair.b.v4;
        let rules = format!(
            "add table ip link\n\
             add chain ip link out {{ type filter hook output priority 0; policy accept; }}\n\
             add chain ip link in {{ type filter hook input priority 0; policy accept; }}\n\
             add rule ip link out ip daddr {other} ip protocol tcp counter\n\
             add rule ip link in ip saddr {other} ip protocol tcp counter\n"
        );
        process::quietly_with_input(pair.a.command("nft").args(["-f", "-"]), &rules)?;
        Ok(Link { a: &pair.a })
    }

    /// Bytes of all packets so far, headers and all: to the other node, and from there.
    pub fn bytes(&self) -> Result<(u64, u64)> {
        let of = |chain| -> Result<u64> {
            let text = process::output(self.a.command("nft").args(["list", "chain", "ip", "link", chain]))?;
            let (_, rest) = text.split_once(" bytes ").context("no counter")?;
            Ok(rest.split_whitespace().next().unwrap_or_default().parse()?)
        };
        Ok((of("out")?, of("in")?))
    }
}

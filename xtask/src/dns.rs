//! A name server of the lab: dnsmasq on a host of its own, which every other host asks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::lab::{Host, Lab};
use crate::process::{self, Running};

/// How long its start may take.
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// The name server at 203.0.113.53. It knows `example` whole, so that what is not there does not exist.
#[derive(Debug)]
pub struct Dns {
    running: Running,
}

impl Dns {
    /// Starts it with these records, each an option of dnsmasq without its dashes, and makes it the resolver of all
    /// programs of the scenario that start after this.
    pub fn start(lab: &Lab, records: &[String]) -> Result<Dns> {
        let host = lab.host("dns", 53)?;
        point_resolver_to(lab, &host)?;
        let mut command = host.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args([
            "--user=root",
            "--pid-file=",
            "--log-facility=-",
            "--log-queries",
            "--local=/example/",
        ]);
        command.arg(format!("--listen-address={}", host.v4)).arg("--bind-interfaces");
        command.args(records.iter().map(|record| format!("--{record}")));
        let mut running = Running::start(&mut command, &lab.dir.join("dns.log"))?;
        running.wait_for("started", START_TIME_MAX)?;
        Ok(Dns { running })
    }

    /// It hears and does not answer any more, until it wakes.
    pub fn fall_silent(&self) -> Result<()> {
        self.running.signal(Signal::STOP)
    }

    /// It answers again.
    pub fn wake(&self) -> Result<()> {
        self.running.signal(Signal::CONT)
    }

    /// What it was asked.
    pub fn log(&self) -> String {
        self.running.log()
    }
}

/// The mounts of a scenario are its own, so the machine's file stays as it is.
fn point_resolver_to(lab: &Lab, host: &Host) -> Result<()> {
    let file = lab.dir.join("resolv.conf");
    std::fs::write(&file, format!("nameserver {}\n", host.v4))?;
    bind(&file, Path::new("/etc/resolv.conf"))
}

fn bind(file: &Path, over: &Path) -> Result<()> {
    process::quietly(Command::new("mount").arg("--bind").arg(file).arg(over))
}

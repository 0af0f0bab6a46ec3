//! SIPp runs with the message flows in `xtask/sipp`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::{Family, Host, Lab};
use crate::phone::wire::Transport;
use crate::process::{self, Running};
use crate::server::{PASSWORD, Server};

/// A run that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(30);
/// The same for many at once, also on a machine that has other work.
const MANY_TIME_MAX: Duration = Duration::from_secs(60);

/// The folder of the message flows.
pub fn flows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sipp")
}

/// One SIPp process: one call with one flow.
#[derive(Debug)]
pub struct Sipp {
    running: Running,
    name: String,
    errors: PathBuf,
}

/// Which flow, by whom, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Flow<'a> {
    /// The file in `xtask/sipp`, without `.xml`.
    pub name: &'a str,
    /// The account that acts.
    pub user: &'a str,
    /// The account that is called, where the flow calls.
    pub callee: &'a str,
    /// The port on the phone's host.
    pub port: u16,
    /// The transport to the server.
    pub transport: Transport,
}

impl Flow<'_> {
    /// A flow over UDP from port 5060.
    pub fn udp<'a>(name: &'a str, user: &'a str, callee: &'a str) -> Flow<'a> {
        Flow { name, user, callee, port: 5060, transport: Transport::Udp }
    }
}

/// Many calls or registrations of one SIPp, each with a line of its own.
#[derive(Clone, Copy, Debug)]
pub struct Many<'a> {
    /// The file in `xtask/sipp`, without `.xml`.
    pub name: &'a str,
    /// The account that calls.
    pub user: &'a str,
    /// The domain of all accounts, which is the address of their server too.
    pub domain: &'a str,
    /// The port on the phones' host.
    pub port: u16,
    /// What `[field0]` and so on are, separated by semicolons, for each call.
    pub lines: &'a [String],
    /// How many are begun in a second.
    pub a_second: u32,
}

impl Sipp {
    /// Starts a flow for each of many.
    pub fn start_many(lab: &Lab, host: &Host, many: Many<'_>) -> Result<Sipp> {
        let Many { name, user, domain, port, lines, a_second } = many;
        let file = lab.dir.join(format!("sipp-{name}-{}.csv", host.name));
        std::fs::write(&file, format!("SEQUENTIAL\n{}\n", lines.join("\n")))?;
        let (mut command, errors) = in_domain(lab, host, name, domain, port);
        command.arg("-inf").arg(file).args(["-m", &lines.len().to_string(), "-r", &a_second.to_string()]);
        command.args(["-timeout", &MANY_TIME_MAX.as_secs().to_string(), "-timeout_error"]);
        command.args(["-au", user, "-ap", PASSWORD, "-key", "user", user]);
        Sipp::run_in_domain(lab, host, name, domain, command, errors)
    }

    /// Answers whoever calls or asks the phones of a host, until it is dropped.
    pub fn answer_many(lab: &Lab, host: &Host, domain: &str, port: u16) -> Result<Sipp> {
        let name = "callee_many";
        let (command, errors) = in_domain(lab, host, name, domain, port);
        Sipp::run_in_domain(lab, host, name, domain, command, errors)
    }

    fn run_in_domain(
        lab: &Lab,
        host: &Host,
        name: &str,
        domain: &str,
        mut command: std::process::Command,
        errors: PathBuf,
    ) -> Result<Sipp> {
        command.arg(format!("{domain}:5060"));
        let log = lab.dir.join(format!("sipp-{name}-{}.log", host.name));
        let running = Running::start(&mut command, &log)?;
        Ok(Sipp { running, name: format!("{name} on {}", host.name), errors })
    }

    /// Starts a flow on a host against the server's IPv4 address.
    pub fn start(lab: &Lab, host: &Host, server: &Server, flow: Flow<'_>) -> Result<Sipp> {
        let Flow { name, user, callee, port, transport } = flow;
        let remote = SocketAddr::new(server.host().address(Family::V4)?, 5060);
        let file = flows().join(format!("{name}.xml"));
        let errors = lab.dir.join(format!("sipp-{name}-{}-errors.log", host.name));
        let mut command = host.command("sipp");
        command.arg("-sf").arg(file).args(["-m", "1", "-nostdin", "-timeout_error"]);
        command.args(["-timeout", &TIME_MAX.as_secs().to_string()]);
        command.args(["-i", &host.v4.to_string(), "-p", &port.to_string()]);
        command.args(["-t", if transport == Transport::Udp { "u1" } else { "t1" }]);
        command.args(["-au", user, "-ap", PASSWORD, "-key", "user", user, "-s", callee]);
        command.args(["-key", "domain", &server.domain(Family::V4)?]);
        command.args(["-trace_err", "-error_file"]).arg(&errors);
        command.arg(remote.to_string());
        let log = lab.dir.join(format!("sipp-{name}-{}.log", host.name));
        let running = Running::start(&mut command, &log)?;
        Ok(Sipp { running, name: format!("{name} on {}", host.name), errors })
    }

    /// Waits for its end: every message must have come as the flow says.
    pub fn succeed(mut self) -> Result<()> {
        let status = self.running.wait(MANY_TIME_MAX + Duration::from_secs(5))?;
        let errors = process::read_lossy(&self.errors);
        ensure!(status.success(), "SIPp flow {} ended with {status}: {errors}", self.name);
        Ok(())
    }

    /// Starts a flow and waits for its end.
    pub fn run(lab: &Lab, host: &Host, server: &Server, flow: Flow<'_>) -> Result<()> {
        Sipp::start(lab, host, server, flow)?.succeed()
    }
}

/// What all flows of many have in common, and where their errors go.
fn in_domain(
    lab: &Lab,
    host: &Host,
    name: &str,
    domain: &str,
    port: u16,
) -> (std::process::Command, PathBuf) {
    let errors = lab.dir.join(format!("sipp-{name}-{}-errors.log", host.name));
    let mut command = host.command("sipp");
    command.arg("-sf").arg(flows().join(format!("{name}.xml"))).args(["-nostdin", "-t", "u1"]);
    command.args(["-i", &host.v4.to_string(), "-p", &port.to_string(), "-key", "domain", domain]);
    command.args(["-trace_err", "-error_file"]).arg(&errors);
    (command, errors)
}

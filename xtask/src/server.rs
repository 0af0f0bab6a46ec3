//! The server under test: `tandem run` on a host of the lab, and its command line.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::lab::{Family, Host, Lab};
use crate::process::{self, Running};

/// The password of every account.
pub const PASSWORD: &str = "secret";
/// How long a start may take: on a debug build of a busy machine.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// The state directory: in the lab's private `/run`, as the path of a Unix socket must be short.
pub const STATE: &str = "/run/tandem";

/// What the configuration of a scenario says besides the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Lines of the configuration file, after `[node]`.
    pub toml: String,
    /// Environment variables.
    pub environment: Vec<(&'static str, String)>,
}

impl Settings {
    /// The defaults of the program.
    pub fn defaults() -> Settings {
        Settings { toml: String::new(), environment: Vec::new() }
    }

    /// For SIPp, which knows MD5 only, and whose scripts name no User-Agent.
    pub fn md5() -> Settings {
        Settings { toml: "[auth]\nalgorithms = [\"MD5\"]\n".to_owned(), ..Settings::defaults() }
    }
}

/// A server with its accounts; it runs or is stopped.
#[derive(Debug)]
pub struct Server {
    host: Host,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
    running: Option<Running>,
}

impl Server {
    /// Starts a server on the host `server` (203.0.113.10) with these accounts.
    pub fn start(lab: &Lab, settings: &Settings, users: &[&str]) -> Result<Server> {
        let mut server = Server::prepare(lab, settings)?;
        for user in users {
            server.add_account(user)?;
        }
        server.start_again()?;
        Ok(server)
    }

    /// Makes the host and the configuration, and starts nothing.
    pub fn prepare(lab: &Lab, settings: &Settings) -> Result<Server> {
        let host = lab.host("server", 10)?;
        let config = lab.dir.join("tandem.toml");
        let node = format!("[node]\nstate_directory = \"{STATE}\"\n");
        let is_said = settings.toml.contains("[log]");
        let log_level = if is_said { "" } else { "[log]\nlevel = \"debug\"\n" };
        std::fs::write(&config, format!("{node}\n{}\n{log_level}", settings.toml))?;
        std::fs::create_dir_all(STATE)?;
        Ok(Server {
            host,
            binary: lab.binary.clone(),
            config,
            log: lab.dir.join("server.log"),
            environment: settings.environment.clone(),
            running: None,
        })
    }

    /// The host it runs on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its address of a family as a domain.
    pub fn domain(&self, family: Family) -> Result<String> {
        let address = self.host.address(family)?;
        Ok(if address.is_ipv6() { format!("[{address}]") } else { address.to_string() })
    }

    /// Adds an account `user` with [`PASSWORD`] to the domains of both its addresses.
    pub fn add_account(&self, user: &str) -> Result<()> {
        self.add_account_at(user, Family::V4)?;
        self.add_account_at(user, Family::V6)
    }

    /// Adds an account `user` with [`PASSWORD`] to the domain of one of its addresses.
    pub fn add_account_at(&self, user: &str, family: Family) -> Result<()> {
        let aor = format!("{user}@{}", self.domain(family)?);
        let mut command = self.command(&["subscriber", "add", &aor, "--password-stdin"]);
        process::quietly_with_input(&mut command, &format!("{PASSWORD}\n"))
    }

    /// The id of its process.
    pub fn id(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("the server does not run")?.id())
    }

    /// Starts it after a stop, with the same state directory.
    pub fn start_again(&mut self) -> Result<()> {
        let mut command = self.host.command(&self.binary);
        command.arg("run").arg("--config").arg(&self.config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let ready = |log: &str| log.lines().filter(|line| line.contains(": ready")).count();
        let before = ready(&self.log());
        let mut running = Running::start(&mut command, &self.log)?;
        running.wait_until("word that it is ready", START_TIME_MAX, |log| ready(log) > before)?;
        self.running = Some(running);
        Ok(())
    }

    /// SIGTERM; it must end by itself and with success.
    pub fn terminate(&mut self) -> Result<()> {
        let status = self.take_running()?.terminate()?;
        ensure!(status.success(), "the server ended with {status} after SIGTERM");
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.take_running()?.kill()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.running.as_ref().context("the server does not run")?.signal(signal)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        process::read_lossy(&self.log)
    }

    /// The configuration file.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    /// `tandem WORDS --config FILE` on the server's host.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&self.binary);
        command.args(words).arg("--config").arg(&self.config);
        command
    }

    /// The answer of a command with `--json`.
    pub fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        let text = process::output(&mut self.command(&[words, &["--json"]].concat()))?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// Waits until so many bindings are there.
    pub fn wait_for_bindings(&self, count: u64) -> Result<()> {
        process::wait_until(&format!("{count} bindings"), Duration::from_secs(10), || {
            let there = self.json(&["status"])?["bindings"].as_u64();
            Ok((there == Some(count)).then_some(()))
        })
    }

    fn take_running(&mut self) -> Result<Running> {
        self.running.take().context("the server does not run")
    }
}

//! The servers that are compared, each on the first core.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::load::{ACCOUNTS, account};
use crate::process::{self, Running};
use crate::server::PASSWORD;
use crate::workspace;

/// Where a server runs.
const CORE: &str = "0";
/// How long a start may take.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Tandem's state directory.
const STATE: &str = "/run/tandem";

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Kamailio of Debian with its fast allocator.
    Kamailio,
    /// Ours.
    Tandem,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Kind; 2] = [Kind::Kamailio, Kind::Tandem];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kamailio => "Kamailio",
            Kind::Tandem => "Tandem",
        }
    }
}

/// A server that runs, without any binding.
#[derive(Debug)]
pub struct Contestant {
    running: Running,
}

impl Contestant {
    /// Starts it and waits until it can be used.
    pub fn start(kind: Kind, dir: &Path, binary: &Path) -> Result<Contestant> {
        let log = dir.join(format!("{}.log", kind.name()));
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]);
        let running = match kind {
            Kind::Kamailio => {
                let config = workspace::root().join("bench/kamailio.cfg");
                // -x fm: its default allocator takes half its time. -DD: do not go to background.
                command.arg("kamailio").arg("-f").arg(config);
                command.args(["-x", "fm", "-X", "fm", "-m", "512", "-M", "32", "-DD", "-E"]);
                command.args(["-Y", "/run"]);
                let running = Running::start(&mut command, &log)?;
                wait_for_port()?;
                running
            }
            Kind::Tandem => {
                let config = tandem_config(dir, binary)?;
                command.arg(binary).arg("run").arg("--config").arg(config);
                let running = Running::start(&mut command, &log)?;
                wait_for_port()?;
                running
            }
        };
        Ok(Contestant { running })
    }

    /// The process under which all others of it are.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Ends it; it must not have ended before.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.running.is_running()?, "the server has ended: {}", self.running.log());
        self.running.terminate().map(drop)
    }
}

/// Writes the configuration and makes the accounts, all anew.
fn tandem_config(dir: &Path, binary: &Path) -> Result<PathBuf> {
    if Path::new(STATE).exists() {
        std::fs::remove_dir_all(STATE)?;
    }
    std::fs::create_dir_all(STATE)?;
    let mut text = format!("[node]\nstate_directory = \"{STATE}\"\n");
    text.push_str("[sip]\nlisten = [\"udp://10.0.0.1:5060\"]\n");
    text.push_str("[auth]\nalgorithms = [\"MD5\"]\n");
    // Requests but REGISTER need no digest from here, as in Kamailio's script.
    writeln!(text, "[[trusted]]\naddress = \"{}\"\nname = \"load\"", super::load::CALLER)?;
    let config = dir.join("tandem.toml");
    std::fs::write(&config, text)?;
    for number in 0..ACCOUNTS {
        let aor = format!("{}@10.0.0.1", account(number));
        let mut command = Command::new(binary);
        command.args(["subscriber", "add", &aor, "--password-stdin", "--config"]).arg(&config);
        process::quietly_with_input(&mut command, &format!("{PASSWORD}\n"))?;
    }
    Ok(config)
}

/// Both show that they serve by having the port.
fn wait_for_port() -> Result<()> {
    // 10.0.0.1:5060 as the kernel writes it.
    let port = "0100000A:13C4";
    process::wait_until("server on 10.0.0.1:5060", START_TIME_MAX, || {
        let sockets = std::fs::read_to_string("/proc/net/udp")?;
        Ok(sockets.contains(port).then_some(()))
    })?;
    // The workers of Kamailio start after the socket is there.
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

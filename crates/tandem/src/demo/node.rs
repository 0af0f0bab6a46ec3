//! The programs: two nodes and a witness, each the real one on a host of its own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use host::lab::HostNetwork;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use sip::Aor;
use store::{Credentials, NewSubscriber, Subscribers};

use super::town::{CALLER, NODES, PHONES, SERVICE, SIP_PORT, WITNESS};
use super::watch::Watch;
use crate::cluster_key;
use crate::state_directory::StateDirectory;

/// The domain of all accounts.
pub const DOMAIN: &str = "demo.example";

/// The password of all accounts: nobody else can reach them.
pub const PASSWORD: &str = "a password for the demo";

/// What was done to a node and not undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plight {
    /// Nothing.
    None,
    /// All its processes were killed.
    Killed,
    /// All its processes stand still.
    Frozen,
    /// Its cable is drawn.
    Unplugged,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// What was done to it.
    pub plight: Plight,
    /// What its guardian says.
    pub watch: Watch,
    program: Program,
    state: StateDirectory,
}

/// A program on a host.
#[derive(Debug)]
pub struct Program {
    host: HostNetwork,
    word: &'static str,
    config: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet, with all that it needs on disk.
    pub fn prepare(place: &Path, number: usize, host: &HostNetwork) -> Result<Self> {
        let (name, _) = NODES[number];
        let directory = place.join(name);
        let state = StateDirectory::at(&directory);
        state.create()?;
        add_accounts(&state)?;
        let program = Program::prepare(place, name, "run", host)?;
        let watch = Watch::start(state.guardian_socket())?;
        Ok(Self { name, plight: Plight::None, watch, program, state })
    }

    /// Where its state is.
    pub fn state(&self) -> &StateDirectory {
        &self.state
    }

    /// What it has logged.
    pub fn log(&self) -> &Path {
        &self.program.log
    }

    /// Starts it. It ends with the calling thread.
    pub fn start(&mut self) -> Result<()> {
        self.program.start()
    }

    /// kill -9 of its engine.
    pub fn kill_engine(&self) -> Result<()> {
        let view = self.watch.latest().context("its guardian says nothing")?;
        let pid = view.engine.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        Ok(kill_process(pid.context("it has no engine")?, Signal::KILL)?)
    }

    /// kill -9 of all its processes.
    pub fn kill(&mut self) -> Result<()> {
        self.plight = Plight::Killed;
        self.program.kill()
    }

    /// Lets all its processes stand still.
    pub fn freeze(&mut self) -> Result<()> {
        self.plight = Plight::Frozen;
        self.program.signal(Signal::STOP)
    }

    /// Undoes what was done to its processes.
    pub fn bring_back(&mut self) -> Result<()> {
        match self.plight {
            Plight::Killed => self.program.start()?,
            Plight::Frozen => self.program.signal(Signal::CONT)?,
            Plight::None | Plight::Unplugged => {}
        }
        self.plight = Plight::None;
        Ok(())
    }

    /// Whether its program ended by itself; the words say how.
    pub fn has_ended(&mut self) -> Option<String> {
        self.program.has_ended()
    }
}

impl Program {
    /// A program with its configuration, which does not run yet.
    pub fn prepare(place: &Path, name: &str, word: &'static str, host: &HostNetwork) -> Result<Self> {
        let config = place.join(format!("{name}.toml"));
        fs::write(&config, configuration(name, &place.join(name), &key_file(place)))?;
        let log = place.join(format!("{name}.log"));
        Ok(Self { host: host.clone(), word, config, log, child: None })
    }

    /// Starts it. It ends with the calling thread.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        // This very program, also if its file was replaced.
        let mut command = self.host.command("/proc/self/exe");
        command.arg(self.word).arg("--config").arg(&self.config).stdin(Stdio::null());
        // Where nft is, which the path of an ordinary user lacks on Debian.
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        self.child = Some(child.context("this program can not be started once more")?);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let leader =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no number of a process")?;
        // The engine is in its guardian's group.
        Ok(kill_process_group(leader, signal)?)
    }

    /// Whether it ended by itself; the words say how.
    pub fn has_ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        Some(status.to_string())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // What it leaves dies with this process.
        let _ = self.kill();
    }
}

/// Makes the key of the cluster.
pub fn write_key(place: &Path) -> Result<()> {
    let file = key_file(place);
    fs::write(&file, cluster_key::drawn()?.as_bytes())?;
    Ok(fs::set_permissions(&file, Permissions::from_mode(0o600))?)
}

fn key_file(place: &Path) -> PathBuf {
    place.join("cluster.key")
}

fn add_accounts(state: &StateDirectory) -> Result<()> {
    let mut subscribers = Subscribers::open(&state.database())?;
    for (user, _) in PHONES.into_iter().chain([CALLER]) {
        let aor = Aor::parse(&format!("{user}@{DOMAIN}")).context("no name of an account")?;
        let credentials = Credentials::of(&aor, DOMAIN, PASSWORD);
        let new = NewSubscriber { aor, credentials, aliases: Vec::new(), may_use: Vec::new() };
        subscribers.add(&new)?;
    }
    Ok(())
}

/// The file of a node or the witness, as an operator would write it.
fn configuration(name: &str, state: &Path, key: &Path) -> String {
    let nodes: String = NODES
        .iter()
        .map(|(name, address)| format!("\n[[cluster.node]]\nname = \"{name}\"\npaths = [\"{address}\"]\n"))
        .collect();
    format!(
        "[node]\nname = \"{name}\"\nstate_directory = \"{}\"\n\n\
         [sip]\nlisten = [\"udp://{SERVICE}:{SIP_PORT}\"]\ndomains = [\"{DOMAIN}\"]\n\n\
         # Phones here ask ten times a second whether somebody answers.\n\
         [admission]\nnever = [\"192.0.2.0/24\"]\n\n\
         [nat]\nkeepalive_interval = \"5s\"\n\n\
         [cluster]\nkey = \"{}\"\naddresses = [\"{SERVICE}\"]\nwitness = [\"tandem://{WITNESS}:7950\"]\n\
         # All of it is one machine, which may be a busy one.\nengine_silence = \"1s\"\n{nodes}",
        state.display(),
        key.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_file_of_each_node_is_right() {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        write_key(place.path()).expect("it can be written");
        for (name, _) in NODES {
            let text = configuration(name, &place.path().join(name), &key_file(place.path()));

            let config = Config::parse(&place.path().join("tandem.toml"), &text).expect("it is right");

            let cluster = config.cluster.expect("it has one");
            assert_eq!((cluster.nodes.len(), cluster.witness.len()), (2, 1));
        }
    }
}

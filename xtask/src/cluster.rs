//! A pair under test: two `tandem run` with `[cluster]` and a `tandem witness` on hosts of the lab.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::lab::pair::{Pair, SECOND_VIP, Side, VIP, VIP_V6, write_for};
use crate::lab::{Host, Lab};
use crate::process::{self, Running, tree};

/// How long a start, and everything that is waited for, may take on a busy machine.
pub const TIME_MAX: Duration = Duration::from_secs(15);

/// What a scenario says besides the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lease.
    pub lease: &'static str,
    /// More lines of `[cluster]`.
    pub cluster: String,
    /// More lines of the file.
    pub toml: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { lease: "500ms", cluster: String::new(), toml: String::new() }
    }
}

/// The pair with its witness; each part runs or is stopped.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    logs: PathBuf,
    configs: BTreeMap<&'static str, PathBuf>,
    running: BTreeMap<&'static str, Running>,
}

/// The name of the witness's host.
pub const WITNESS: &str = "witness";

impl Cluster {
    /// Writes key and configuration for all, and starts nothing.
    pub fn prepare(lab: &Lab, pair: &Pair, settings: &Settings) -> Result<Cluster> {
        let key = lab.dir.join("cluster.key");
        let text = process::output(Command::new(&lab.binary).args(["cluster", "key"]))?;
        fs::write(&key, text)?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        let mut configs = BTreeMap::new();
        for host in [&pair.a, &pair.b, &pair.witness] {
            let text = configuration(pair, host, settings, &key.display().to_string());
            let name = known_name(host)?;
            fs::create_dir_all(state_directory(name))?;
            configs.insert(name, write_for(lab, host, "tandem.toml", &text)?);
        }
        let (binary, logs) = (lab.binary.clone(), lab.dir.clone());
        Ok(Cluster { binary, logs, configs, running: BTreeMap::new() })
    }

    /// Starts all, so that the first node is active and the second one ready.
    pub fn start_all(&mut self, pair: &Pair) -> Result<()> {
        self.start_witness(pair)?;
        self.start(pair, Side::A)?;
        self.wait_for(pair, Side::A, "that it is active", |status| role(status) == Some("active"))?;
        self.start(pair, Side::B)?;
        self.wait_for(pair, Side::A, "a ready standby", is_peer_ready)
    }

    /// Starts the witness.
    pub fn start_witness(&mut self, pair: &Pair) -> Result<()> {
        self.run(&pair.witness, "witness")
    }

    /// Starts a node, and waits for nothing.
    pub fn start(&mut self, pair: &Pair, side: Side) -> Result<()> {
        self.run(pair.node(side), "run")
    }

    fn run(&mut self, host: &Host, word: &str) -> Result<()> {
        let name = known_name(host)?;
        ensure!(!self.running.contains_key(name), "{name} runs already");
        let mut command = host.command(&self.binary);
        command.arg(word).arg("--config").arg(&self.configs[name]);
        let running = Running::start(&mut command, &self.logs.join(format!("{name}.log")))?;
        self.running.insert(name, running);
        Ok(())
    }

    /// The guardian of a node.
    pub fn guardian(&self, side: Side) -> Result<u32> {
        let running = self.running.get(side.name());
        running.map(Running::id).with_context(|| format!("{} does not run", side.name()))
    }

    /// The engine of a node.
    pub fn engine(&self, side: Side) -> Result<u32> {
        let guardian = self.guardian(side)?;
        for child in tree::children(guardian)? {
            let words = process::read_lossy(format!("/proc/{child}/cmdline").as_ref());
            if words.split('\0').any(|word| word == "engine") {
                return Ok(child);
            }
        }
        bail!("the guardian of {} has no engine", side.name())
    }

    /// All processes of a node.
    pub fn processes(&self, side: Side) -> Result<Vec<u32>> {
        Ok(tree::of(self.guardian(side)?)?.into_keys().collect())
    }

    /// `tandem WORDS --config FILE` on a node.
    pub fn command(&self, pair: &Pair, side: Side, words: &[&str]) -> Command {
        let mut command = pair.node(side).command(&self.binary);
        command.args(words).arg("--config").arg(&self.configs[side.name()]);
        command
    }

    /// What `tandem status --json` says on a node; nothing while it does not answer.
    pub fn status(&self, pair: &Pair, side: Side) -> Option<Value> {
        let text = process::output(&mut self.command(pair, side, &["status", "--json"])).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Waits until the status of a node is as wanted.
    pub fn wait_for(
        &self,
        pair: &Pair,
        side: Side,
        what: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let mut last = None;
        let wait = process::wait_until(&format!("sign of {what} at {}", side.name()), TIME_MAX, || {
            last = self.status(pair, side);
            Ok(last.as_ref().is_some_and(&is_so).then_some(()))
        });
        wait.with_context(|| format!("the last status: {}", last.unwrap_or_default()))
    }

    /// `tandem switchover` on a node.
    pub fn switch_over(&self, pair: &Pair, side: Side) -> Result<()> {
        process::quietly(&mut self.command(pair, side, &["switchover"]))
    }
}

/// Where the state of a node or the witness is: the path of a Unix socket must be short.
pub fn state_directory(name: &str) -> String {
    format!("/run/tandem-{name}")
}

fn known_name(host: &Host) -> Result<&'static str> {
    [Side::A.name(), Side::B.name(), WITNESS]
        .into_iter()
        .find(|name| *name == host.name)
        .context("a stranger")
}

fn configuration(pair: &Pair, host: &Host, settings: &Settings, key: &str) -> String {
    let Settings { lease, cluster, toml } = settings;
    let name = &host.name;
    let mut text = format!(
        "[node]\nname = \"{name}\"\nstate_directory = \"{}\"\n\n\
         [log]\nlevel = \"debug\"\n\n\
         [sip]\nlisten = [\"udp://{VIP}:5060\", \"tcp://{VIP}:5060\", \"udp://{SECOND_VIP}:5060\", \"udp://[{VIP_V6}]:5060\"]\n\n\
         [admission]\nnever = [\"203.0.113.0/24\", \"198.51.100.0/24\", \"2001:db8:113::/64\"]\n\n\
         [cluster]\nkey = \"{key}\"\naddresses = [\"{VIP}\", \"{SECOND_VIP}\", \"{VIP_V6}\"]\n\
         lease = \"{lease}\"\nwitness = [\"tandem://{}:7950\"]\n{cluster}\n",
        state_directory(name),
        pair.witness.v4,
    );
    for side in Side::BOTH {
        let own = pair.node(side).v4;
        text += &format!("[[cluster.node]]\nname = \"{}\"\npaths = [\"{own}\"]\n", side.name());
    }
    text + toml
}

/// What a node is, as it says.
pub fn role(status: &Value) -> Option<&str> {
    status["cluster"]["role"].as_str()
}

/// Whether a node says that the other one could take over.
pub fn is_peer_ready(status: &Value) -> bool {
    let peers = status["cluster"]["peers"].as_array();
    peers.is_some_and(|peers| peers.iter().any(|peer| peer["ready"].as_u64() == Some(100)))
}

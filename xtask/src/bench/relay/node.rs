//! Ours as a node of a cluster: the program in the kernel hangs behind the gate, and a gate has who holds a lease.
//!
//! The other node is away, and the third vote is with the phones.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::cable::{self, Cable, PHONES_CORE, RELAY_CORE};
use super::talk::Programs;
use super::write;
use crate::cluster::{is_active, state_directory, write_key};
use crate::lab::pair::VIP;
use crate::process::{self, Running};

/// Where nobody is.
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
const ACTIVE_TIME_MAX: Duration = Duration::from_secs(20);

/// What is beside a node.
pub struct Node {
    _witness: Running,
    status: Command,
}

impl Node {
    /// Starts the witness and gives the command that starts the node.
    pub fn prepare(cable: &Cable, programs: &Programs, sip: &str) -> Result<(Node, Command)> {
        let key = programs.dir.join("cluster.key");
        write_key(&programs.tandem, &key)?;
        let [node, witness] = [&cable.relay, &cable.phones].map(|host| {
            fs::create_dir_all(state_directory(&host.name))?;
            let (relay, third) = (cable.relay.v4, cable.phones.v4);
            let text = configuration(&host.name, [relay, third], &key, sip);
            write(programs, &format!("{}.toml", host.name), &text)
        });
        let (node, witness) = (node?, witness?);
        let tandem = |host, core, words: &[&str], config: &PathBuf| {
            let mut command = cable::command(host, core, &programs.tandem);
            command.args(words).arg("--config").arg(config);
            command
        };
        let mut third = tandem(&cable.phones, PHONES_CORE, &["witness"], &witness);
        let witness = Running::start(&mut third, &programs.dir.join("witness.log"))?;
        let status = tandem(&cable.relay, PHONES_CORE, &["status", "--json"], &node);
        Ok((Node { _witness: witness, status }, tandem(&cable.relay, RELAY_CORE, &["run"], &node)))
    }

    fn status(&mut self) -> Result<Value> {
        Ok(serde_json::from_str(&process::output(&mut self.status)?)?)
    }

    /// Waits until the node has the lease and its engine serves.
    pub fn wait_until_active(&mut self) -> Result<()> {
        process::wait_until("the lease", ACTIVE_TIME_MAX, || {
            // Until it is up it does not answer.
            let status = self.status().unwrap_or_default();
            Ok((is_active(&status) && status["server"]["relay"].is_object()).then_some(()))
        })?;
        let status = self.status()?;
        let why_not = &status["server"]["relay"]["no_fast_path"];
        ensure!(why_not.is_null(), "there is no path in the kernel: {why_not}");
        Ok(())
    }

    /// How many directions of talk the kernel has.
    pub fn in_kernel(&mut self) -> Result<u64> {
        let status = self.status()?;
        status["server"]["relay"]["in_kernel"]
            .as_u64()
            .with_context(|| format!("no figure: {}", status["server"]["relay"]))
    }
}

fn configuration(name: &str, [relay, witness]: [Ipv4Addr; 2], key: &Path, sip: &str) -> String {
    format!(
        "[node]\nname = \"{name}\"\nstate_directory = \"{}\"\nthreads = 1\n{sip}\
         [cluster]\nkey = \"{}\"\naddresses = [\"{VIP}\"]\nwitness = [\"tandem://{witness}:7950\"]\n\
         [[cluster.node]]\nname = \"relay\"\npaths = [\"{relay}\"]\n\
         [[cluster.node]]\nname = \"other\"\npaths = [\"{OTHER_ADDRESS}\"]\n",
        state_directory(name),
        key.display()
    )
}

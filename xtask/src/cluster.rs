//! A pair under test: two `tandem run` with `[cluster]` and a `tandem witness` on hosts of the lab.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::database_server::{DatabaseServer, Product};
use crate::lab::pair::{Pair, SECOND_VIP, Side, VIP, VIP_V6, write_for};
use crate::lab::{Host, Lab};
use crate::process::{self, Running, tree};

mod accounts;
mod database;
mod etcd;
pub mod fault;
mod roles;

use database::Witness;

/// How long a start, and everything that is waited for, may take on a busy machine.
pub const TIME_MAX: Duration = Duration::from_secs(15);

/// So many reports of a node are read: more than it can have written in the time that is asked about.
const REPORTS: &str = "100";

/// What a scenario says besides the defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The lease.
    pub lease: &'static str,
    /// How long an engine may show no sign of life.
    pub engine_silence: &'static str,
    /// `error` to `trace`.
    pub log_level: &'static str,
    /// More lines of `[node]`.
    pub node: String,
    /// Whether phones must prove who they are.
    pub digest: Digest,
    /// More lines of `[sip]`.
    pub sip: String,
    /// Sources that are never slowed or banned.
    pub never: &'static [&'static str],
    /// More lines of `[cluster]`.
    pub cluster: String,
    /// More lines of the file.
    pub toml: String,
    /// Whether the nodes have a second path; the lab must have made it.
    pub paths: Paths,
    /// What the third vote is.
    pub witness: WitnessKind,
    /// What the programs may do.
    pub rights: Rights,
}

/// What the third vote is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WitnessKind {
    /// `tandem witness`.
    Host,
    /// A key of etcd, on the same host.
    Etcd,
    /// A row of a database there: PostgreSQL has the accounts too, MariaDB is for the witness alone.
    Database(Product),
}

/// What root may do on the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// All that it may outside.
    All,
    /// It can not load a program into the kernel, as in many containers.
    NoProgramInTheKernel,
}

/// Whether phones must prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Everybody is asked.
    On,
    /// Nobody is.
    Off,
}

/// By how many ways the nodes hear each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// By the switch where the phones are too.
    One,
    /// And by a cable of their own.
    Two,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease: "500ms",
            // An engine is an ordinary process: on a busy machine it is not run for longer than the default.
            engine_silence: "1s",
            log_level: "debug",
            node: String::new(),
            digest: Digest::On,
            sip: String::new(),
            never: &["203.0.113.0/24", "198.51.100.0/24", "2001:db8:113::/64"],
            cluster: String::new(),
            toml: String::new(),
            paths: Paths::One,
            witness: WitnessKind::Host,
            rights: Rights::All,
        }
    }
}

/// The pair with its witness; each part runs or is stopped.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    logs: PathBuf,
    configs: BTreeMap<&'static str, PathBuf>,
    running: BTreeMap<&'static str, Running>,
    rights: Rights,
    witness: WitnessKind,
    database: Option<Box<DatabaseServer>>,
}

/// The name of the witness's host.
pub const WITNESS: &str = "witness";

impl Cluster {
    /// Writes key and configuration for all, and starts nothing.
    pub fn prepare(lab: &Lab, pair: &Pair, settings: &Settings) -> Result<Cluster> {
        let key = lab.dir.join("cluster.key");
        write_key(&lab.binary, &key)?;
        let database = match settings.witness {
            WitnessKind::Database(product) => {
                Some(Box::new(DatabaseServer::start(lab, &pair.witness, product)?))
            }
            WitnessKind::Host | WitnessKind::Etcd => None,
        };
        let witness = database::witness(lab, pair, settings.witness, database.as_deref())?;
        let mut configs = BTreeMap::new();
        for host in [&pair.a, &pair.b, &pair.witness] {
            let text = configuration(pair, host, settings, &key.display().to_string(), &witness);
            let name = known_name(host)?;
            fs::create_dir_all(state_directory(name))?;
            configs.insert(name, write_for(lab, host, "tandem.toml", &text)?);
        }
        let (binary, logs) = (lab.binary.clone(), lab.dir.clone());
        let cluster = Cluster {
            binary,
            logs,
            configs,
            running: BTreeMap::new(),
            rights: settings.rights,
            witness: settings.witness,
            database,
        };
        if cluster.database.is_some() {
            process::quietly(&mut cluster.command(pair, Side::A, &["database", "init"]))?;
        }
        Ok(cluster)
    }

    /// Starts all, so that the first node is active and the second one ready.
    pub fn start_all(&mut self, pair: &Pair) -> Result<()> {
        self.start_witness(pair)?;
        self.start(pair, Side::A)?;
        self.wait_for(pair, Side::A, "being active", is_active)?;
        self.start(pair, Side::B)?;
        self.wait_for(pair, Side::A, "a ready standby", is_peer_ready)
    }

    /// Another key for one host from its next start on.
    pub fn change_key(&mut self, side: Side) -> Result<()> {
        let config = &self.configs[side.name()];
        let key = config.with_extension("key");
        write_key(&self.binary, &key)?;
        let text = process::read_lossy(config);
        let line = text.lines().find(|line| line.starts_with("key = ")).context("no key is configured")?;
        let changed = text.replace(line, &format!("key = \"{}\"", key.display()));
        fs::write(config, changed)?;
        Ok(())
    }

    /// Starts the witness.
    pub fn start_witness(&mut self, pair: &Pair) -> Result<()> {
        match self.witness {
            WitnessKind::Host => self.run(&pair.witness, "witness"),
            WitnessKind::Etcd => {
                let running = etcd::start(&pair.witness, &self.logs)?;
                self.running.insert(WITNESS, running);
                Ok(())
            }
            WitnessKind::Database(_) => {
                let database = self.database.as_mut().context("there is no database")?;
                if database.is_running() { Ok(()) } else { database.start_again() }
            }
        }
    }

    /// The witness hears and does not answer any more, or answers again.
    pub fn signal_witness(&self, signal: Signal) -> Result<()> {
        if let Some(database) = &self.database {
            return database.signal(signal);
        }
        self.running.get(WITNESS).context("the witness does not run")?.signal(signal)
    }

    /// Starts a node, and waits for nothing.
    pub fn start(&mut self, pair: &Pair, side: Side) -> Result<()> {
        self.run(pair.node(side), "run")
    }

    fn run(&mut self, host: &Host, word: &str) -> Result<()> {
        let name = known_name(host)?;
        ensure!(!self.running.contains_key(name), "{name} runs already");
        let mut command = match self.rights {
            Rights::All => host.command(&self.binary),
            Rights::NoProgramInTheKernel => {
                let mut command = host.command("setpriv");
                command.args(["--bounding-set", "-bpf,-perfmon,-sys_admin", "--"]).arg(&self.binary);
                command
            }
        };
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

    /// Sends a signal to the guardian of a node.
    pub fn signal(&self, side: Side, signal: Signal) -> Result<()> {
        tree::signal([self.guardian(side)?], signal)
    }

    /// kill -9 of everything of a node; it can be started again.
    pub fn kill(&mut self, side: Side) -> Result<()> {
        let all = self.processes(side)?;
        tree::signal(all, Signal::KILL)?;
        self.forget(side.name())
    }

    /// kill -9 of the witness.
    pub fn kill_witness(&mut self) -> Result<()> {
        if let Some(database) = &mut self.database {
            return database.kill();
        }
        let witness = self.running.get(WITNESS).context("the witness does not run")?;
        witness.signal(Signal::KILL)?;
        self.forget(WITNESS)
    }

    /// SIGTERM to a node, which must end by itself and with success.
    pub fn terminate(&mut self, side: Side) -> Result<()> {
        let running = self.running.remove(side.name()).context("it does not run")?;
        let status = running.terminate()?;
        ensure!(status.success(), "{} ended with {status} after SIGTERM", side.name());
        Ok(())
    }

    /// Waits until a node's guardian has ended by itself.
    pub fn wait_for_end(&mut self, side: Side) -> Result<()> {
        self.forget(side.name())
    }

    fn forget(&mut self, name: &str) -> Result<()> {
        if let Some(mut running) = self.running.remove(name) {
            running.wait(TIME_MAX)?;
        }
        Ok(())
    }

    /// `tandem WORDS --config FILE` on a node.
    pub fn command(&self, pair: &Pair, side: Side, words: &[&str]) -> Command {
        self.command_on(pair.node(side), side.name(), words)
    }

    /// As [`Cluster::command`], on the witness's host.
    pub fn witness_command(&self, pair: &Pair, words: &[&str]) -> Command {
        self.command_on(&pair.witness, WITNESS, words)
    }

    fn command_on(&self, host: &Host, name: &str, words: &[&str]) -> Command {
        let mut command = host.command(&self.binary);
        command.args(words).arg("--config").arg(&self.configs[name]);
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
        wait.with_context(|| {
            let other = self.status(pair, side.other()).unwrap_or_default();
            format!("the last status: {}\nand of the other node: {other}", last.unwrap_or_default())
        })
    }

    /// What `tandem report` tells of a node, the last one last.
    pub fn reports(&self, pair: &Pair, side: Side) -> Result<Vec<Value>> {
        let text = process::output(&mut self.command(pair, side, &["report", REPORTS, "--json"]))?;
        serde_json::from_str(&text).with_context(|| format!("the reports of {}", side.name()))
    }

    /// How often a node lost the lease in that time because no majority voted.
    pub fn lapses(&self, pair: &Pair, side: Side, time: Range<Duration>) -> Result<u64> {
        Ok(self.reports(pair, side)?.iter().filter(|report| is_lapse(report, &time)).count() as u64)
    }

    /// `tandem switchover` on a node.
    pub fn switch_over(&self, pair: &Pair, side: Side) -> Result<()> {
        process::quietly(&mut self.command(pair, side, &["switchover"]))
    }
}

/// A new key of a cluster.
pub fn write_key(binary: &Path, file: &Path) -> Result<()> {
    let text = process::output(Command::new(binary).args(["cluster", "key"]))?;
    fs::write(file, text)?;
    fs::set_permissions(file, Permissions::from_mode(0o600))?;
    Ok(())
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

fn configuration(pair: &Pair, host: &Host, settings: &Settings, key: &str, witness: &Witness) -> String {
    let Settings { lease, engine_silence, log_level, node, digest, sip, never, cluster, toml, paths, .. } =
        settings;
    let Witness { lines: witness, toml: more } = witness;
    let name = &host.name;
    let digest = if *digest == Digest::On { "" } else { " digest off" };
    let mut text = format!(
        "[node]\nname = \"{name}\"\nstate_directory = \"{}\"\n{node}\n\
         [log]\nlevel = \"{log_level}\"\n\n\
         [sip]\nlisten = [\"udp://{VIP}:5060{digest}\", \"tcp://{VIP}:5060{digest}\", \"udp://{SECOND_VIP}:5060\", \"udp://[{VIP_V6}]:5060\", \"tcp://[{VIP_V6}]:5060{digest}\"]\n{sip}\n\
         [admission]\nnever = {never:?}\ncalls_per_minute_per_account = 0\n\n\
         [cluster]\nkey = \"{key}\"\naddresses = [\"{VIP}\", \"{SECOND_VIP}\", \"{VIP_V6}\"]\n\
         lease = \"{lease}\"\nengine_silence = \"{engine_silence}\"\n{witness}\n{cluster}\n",
        state_directory(name),
    );
    for (side, number) in [(Side::A, 1), (Side::B, 2)] {
        let second = match paths {
            Paths::One => String::new(),
            Paths::Two => format!(", \"10.9.0.{number}\""),
        };
        let own = pair.node(side).v4;
        text += &format!("[[cluster.node]]\nname = \"{}\"\npaths = [\"{own}\"{second}]\n", side.name());
    }
    text + toml + more
}

/// What a node is, as it says.
pub fn role(status: &Value) -> Option<&str> {
    status["cluster"]["role"].as_str()
}

/// Whether a node is active.
pub fn is_active(status: &Value) -> bool {
    role(status) == Some("active")
}

/// Whether a node is standby, and could be active.
pub fn is_ready_standby(status: &Value) -> bool {
    let own = node(status, |node| node["is_this"] == true);
    role(status) == Some("standby") && own.is_some_and(|own| own["stance"] == "standby")
}

/// Whether a node says that the other one could take over.
pub fn is_peer_ready(status: &Value) -> bool {
    let peer = node(status, |node| node["is_this"] == false);
    peer.is_some_and(|peer| peer["stance"] == "standby" && peer["ready"] == 100 && peer["ailment"] == 0)
}

/// What a node says of the other one.
pub fn peer_stance(status: &Value) -> Option<&str> {
    node(status, |node| node["is_this"] == false)?["stance"].as_str()
}

/// Whether one of a node's alarms has these words.
pub fn has_alarm(status: &Value, words: &str) -> bool {
    let alarms = status["cluster"]["alarms"].as_array();
    alarms
        .is_some_and(|alarms| alarms.iter().any(|alarm| alarm.as_str().is_some_and(|it| it.contains(words))))
}

/// Whether a report tells that no majority voted, and that it was then.
fn is_lapse(report: &Value, time: &Range<Duration>) -> bool {
    let at = report["at_ms"].as_u64().map(Duration::from_millis);
    report["event"] == "expired" && at.is_some_and(|at| time.contains(&at))
}

fn node(status: &Value, is_meant: impl Fn(&&Value) -> bool) -> Option<&Value> {
    status["cluster"]["nodes"].as_array()?.iter().find(is_meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lapse_is_the_end_of_a_lease_that_nobody_renewed() {
        let report = |event: &str| serde_json::json!({ "at_ms": 1_500, "epoch": 3, "event": event });
        let time = |from, to| Duration::from_millis(from)..Duration::from_millis(to);

        assert!(is_lapse(&report("expired"), &time(1_000, 2_000)));
        assert!(!is_lapse(&report("expired"), &time(1_600, 2_000)));
        assert!(!is_lapse(&report("expired"), &time(1_000, 1_500)));
        assert!(!is_lapse(&report("gave_up"), &time(1_000, 2_000)));
    }
}

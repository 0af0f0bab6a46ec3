//! The servers that are compared, each on the first core, and the floors beside them.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{cpu_time, load};
use crate::process::{self, Running};
use crate::workspace;

/// Where a server runs.
const CORE: &str = "0";
/// How long a start may take: one with a million bindings in its database reads them first.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Where Tandem's state is during a run. A file system in memory: the disk of this host is no part of the comparison.
const STATE: &str = "/run/tandem";
/// Work that a server has put off, such as writing to its database, belongs to what it did before.
const REST: Duration = Duration::from_millis(400);
/// It must be done within this time.
const REST_MAX: Duration = Duration::from_secs(30);

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program in C that receives and sends the same datagrams and does nothing else.
    Floor,
    /// Kamailio of Debian with one of its allocators.
    KamailioFm,
    /// Kamailio of Debian with another one.
    KamailioTlsf,
    /// Ours.
    Tandem,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Kind; 4] = [Kind::Floor, Kind::KamailioFm, Kind::KamailioTlsf, Kind::Tandem];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor in C",
            Kind::KamailioFm => "Kamailio -x fm",
            Kind::KamailioTlsf => "Kamailio -x tlsf",
            Kind::Tandem => "Tandem",
        }
    }
}

/// Which of the floor's two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloorKind {
    /// Answers each request.
    Answer,
    /// Passes each message on.
    Forward,
}

/// What was built for the bench.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The server.
    pub tandem: PathBuf,
    /// The load generator.
    pub load: PathBuf,
    /// The floor.
    pub floor: PathBuf,
    /// A database with the accounts.
    pub accounts: PathBuf,
    /// Where logs go.
    pub dir: PathBuf,
}

/// A server that runs.
#[derive(Debug)]
pub struct Contestant {
    running: Running,
}

impl Contestant {
    /// Starts it without any binding, and waits until it can be used.
    pub fn start(kind: Kind, floor: FloorKind, programs: &Programs) -> Result<Contestant> {
        let log = programs.dir.join(format!("{}.log", kind.name().replace(' ', "_")));
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]);
        match kind {
            Kind::Floor => {
                command.arg(&programs.floor);
                let port = load::OPEN_PORT.to_string();
                match floor {
                    FloorKind::Answer => command.args(["answer", load::SERVER, &port]),
                    FloorKind::Forward => {
                        command.args(["forward", load::SERVER, &port, "5070", load::PHONES, "5071"])
                    }
                };
            }
            Kind::KamailioFm => kamailio(&mut command, "fm"),
            Kind::KamailioTlsf => kamailio(&mut command, "tlsf"),
            Kind::Tandem => {
                let config = tandem_config(programs)?;
                command.arg(&programs.tandem).arg("run").arg("--config").arg(config);
            }
        }
        let running = Running::start(&mut command, &log)?;
        wait_for_port()?;
        Ok(Contestant { running })
    }

    /// The process that serves: `taskset` has become it.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Microseconds of processor time so far, when all that was put off is done.
    pub fn rested(&self) -> Result<Duration> {
        let start = std::time::Instant::now();
        let mut before = cpu_time::of_tree(self.running.id())?;
        loop {
            std::thread::sleep(REST);
            let after = cpu_time::of_tree(self.running.id())?;
            // A timer or a heartbeat still costs a tick now and then.
            if after.saturating_sub(before) <= Duration::from_millis(10) {
                return Ok(after);
            }
            ensure!(start.elapsed() < REST_MAX, "the server does not come to rest");
            before = after;
        }
    }

    /// Bytes of memory that it really has, shared memory counted once.
    pub fn memory(&self) -> Result<u64> {
        cpu_time::memory_of_tree(self.running.id())
    }

    /// Ends it; it must not have ended before.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.running.is_running()?, "the server has ended: {}", self.running.log());
        self.running.end().map(drop)
    }
}

/// Also after a failure: a Kamailio that is killed leaves its workers behind, and they have the port.
impl Drop for Contestant {
    fn drop(&mut self) {
        if self.running.is_running().is_ok_and(|is_running| is_running) {
            // It is ended by force if it does not end by itself.
            let _ = self.running.end();
        }
    }
}

fn kamailio(command: &mut Command, allocator: &str) {
    let config = workspace::root().join("bench/kamailio.cfg");
    // Its default allocator takes half its time. -DD: do not go to background.
    command.arg("kamailio").arg("-f").arg(config);
    command.args(["-x", allocator, "-X", allocator, "-m", "2048", "-M", "64", "-DD", "-E"]);
    command.args(["-Y", "/run"]);
}

/// Writes the configuration and puts the database with the accounts, and nothing else, in place.
fn tandem_config(programs: &Programs) -> Result<PathBuf> {
    if Path::new(STATE).exists() {
        fs::remove_dir_all(STATE)?;
    }
    fs::create_dir_all(STATE)?;
    fs::copy(&programs.accounts, Path::new(STATE).join("tandem.sqlite"))
        .with_context(|| programs.accounts.display().to_string())?;
    let mut text = format!("[node]\nstate_directory = \"{STATE}\"\n");
    // The core count of the host says 2, but it has one of them. Admission is on, but no phone is as fast as this load:
    // its addresses are never held.
    text.push_str("threads = 1\n");
    writeln!(
        text,
        "[sip]\nlisten = [\"udp://{0}:{1}\", \"udp://{0}:{2} digest off\"]\n\
         [auth]\nalgorithms = [\"MD5\"]\n[admission]\nnever = [\"10.0.1.0/24\", \"10.0.2.0/24\"]\n\
         calls_per_minute_per_account = 0",
        load::SERVER,
        load::DIGEST_PORT,
        load::OPEN_PORT
    )?;
    let config = programs.dir.join("tandem.toml");
    fs::write(&config, text)?;
    Ok(config)
}

/// All show that they serve by having the port.
fn wait_for_port() -> Result<()> {
    // 10.0.0.1:5062 as the kernel writes it.
    let port = "0100000A:13C6";
    process::wait_until("server on 10.0.0.1:5062", START_TIME_MAX, || {
        let sockets = fs::read_to_string("/proc/net/udp")?;
        Ok(sockets.contains(port).then_some(()))
    })?;
    // The workers of Kamailio start after the socket is there.
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

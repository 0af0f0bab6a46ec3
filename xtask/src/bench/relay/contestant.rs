//! The relays that are compared, and their sessions.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::cable::{self, Cable, MEDIA, RELAY_CORE};
use super::ng::Ng;
use super::node::Node;
use super::talk::Programs;
use super::write;
use crate::lab::Family;
use crate::lab::pair::VIP;
use crate::phone::Phone;
use crate::process::Running;
use crate::sessions::{Callers, Session};

/// More are not tried: each has four ports at the relay, and each of them is a descriptor of some twenty thousand.
pub const SESSIONS_MAX: usize = 4_500;
/// The first port of any relay.
const FIRST_PORT: u16 = 10_000;
/// Where rtpengine takes commands.
const NG_PORT: u16 = 9_222;
const START_TIME_MAX: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_millis(1_500);
const WARM_UP_OF_KERNEL: Duration = Duration::from_secs(6);

/// A relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A program in C that receives and sends and does nothing else.
    Floor,
    /// The same, with sockets that are connected to their phones.
    FloorConnected,
    /// rtpengine of Debian, without its module for the kernel.
    Rtpengine,
    /// Ours, in its workers.
    Tandem,
    /// Ours, as a node of a cluster, whose gate's program sends on what has latched.
    TandemKernel,
}

impl Kind {
    /// In the order of the table.
    pub const ALL: [Kind; 5] =
        [Kind::Floor, Kind::FloorConnected, Kind::Rtpengine, Kind::Tandem, Kind::TandemKernel];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Floor => "floor in C",
            Kind::FloorConnected => "floor in C, connected sockets",
            Kind::Rtpengine => "rtpengine in user space",
            Kind::Tandem => "Tandem in user space",
            Kind::TandemKernel => "Tandem in the kernel",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Floor => "relay-floor",
            Kind::FloorConnected => "relay-connected",
            Kind::Rtpengine => "relay-rtpengine",
            Kind::Tandem => "relay-tandem",
            Kind::TandemKernel => "relay-kernel",
        }
    }
}

/// A relay that runs.
pub struct Contestant {
    running: Running,
    node: Option<Node>,
    address: IpAddr,
    signalling: Signalling,
    sessions: Vec<Session>,
}

/// How it is told of sessions.
enum Signalling {
    /// It has them all from its start.
    Fixed,
    /// By the protocol that SIP proxies speak with rtpengine.
    Ng(Ng),
    /// By calls.
    Sip(Box<Callers>),
}

impl Contestant {
    /// Starts it without a session.
    pub fn start(kind: Kind, cable: &Cable, programs: &Programs) -> Result<Contestant> {
        let address = match kind {
            Kind::TandemKernel => VIP.into(),
            _ => cable.relay.address(Family::V4)?,
        };
        // The floor and rtpengine take what they are given; it passes from us to them.
        let limit = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?;
        let start = |program: &Path| cable::command(&cable.relay, RELAY_CORE, program);
        let mut node = None;
        let (mut command, ready) = match kind {
            Kind::Floor | Kind::FloorConnected => {
                let mode = if kind == Kind::Floor { "plain" } else { "connected" };
                let legs = (2 * SESSIONS_MAX).to_string();
                let (port, here, phones) = (FIRST_PORT.to_string(), address.to_string(), MEDIA.to_string());
                let mut command = start(&programs.floor);
                command.args([mode, &here, &port, &phones, &port, &legs]);
                (command, "ready")
            }
            Kind::Rtpengine => {
                let mut command = start(Path::new("rtpengine"));
                command.args(["--config-file=none", "--foreground", "--log-stderr"]);
                command.args(["--log-level=6", "--table=-1", "--num-threads=1", "--port-max=65000"]);
                command.args([
                    format!("--port-min={FIRST_PORT}"),
                    format!("--interface={address}"),
                    format!("--listen-ng={address}:{NG_PORT}"),
                ]);
                // It latches on to the first packet, and not to what has come last within some seconds.
                command.arg("--endpoint-learning=immediate");
                (command, "Startup complete")
            }
            Kind::Tandem => {
                let node = "[node]\nstate_directory = \"/run/tandem\"\nthreads = 1\n";
                let config = write(programs, "tandem.toml", &format!("{node}{}", sip(address)))?;
                let mut command = start(&programs.tandem);
                command.arg("run").arg("--config").arg(config);
                (command, "serves SIP")
            }
            Kind::TandemKernel => {
                let (prepared, command) = Node::prepare(cable, programs, &sip(address))?;
                node = Some(prepared);
                (command, "")
            }
        };
        let mut running = Running::start(&mut command, &programs.dir.join("relay.log"))?;
        running.wait_for(ready, START_TIME_MAX)?;
        node.as_mut().map_or(Ok(()), Node::wait_until_active)?;
        let (signalling, sessions) = match kind {
            Kind::Floor | Kind::FloorConnected => (Signalling::Fixed, fixed()),
            Kind::Rtpengine => (Signalling::Ng(Ng::open(&cable.relay, (address, NG_PORT))?), Vec::new()),
            Kind::Tandem | Kind::TandemKernel => {
                let phone = |user| {
                    Phone::at_service(&cable.phones, user, &address.to_string(), (address, 5060).into())
                };
                let callers = Callers::new(phone("alice")?, phone("bob")?, [MEDIA; 2])?;
                (Signalling::Sip(Box::new(callers)), Vec::new())
            }
        };
        Ok(Contestant { running, node, address, signalling, sessions })
    }

    /// The process that relays.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// Where the phones send to.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many directions of talk the kernel has; nothing where it has none by its kind.
    pub fn in_kernel(&mut self) -> Result<Option<u64>> {
        self.node.as_mut().map(Node::in_kernel).transpose()
    }

    /// How long it is given before its time counts: sides are latched on to, caches fill, and the kernel takes over what has settled.
    pub fn warm_up(&self) -> Duration {
        if self.node.is_some() { WARM_UP_OF_KERNEL } else { WARM_UP }
    }

    /// Sees to it that there are so many sessions.
    pub fn grow(&mut self, count: usize) -> Result<()> {
        while self.sessions.len() < count {
            let number = self.sessions.len();
            let session = match &mut self.signalling {
                Signalling::Fixed => None,
                Signalling::Ng(ng) => Some(ng.session(number)?),
                Signalling::Sip(callers) => Some(callers.session(number)?),
            };
            let session = session.with_context(|| format!("there are {number} sessions only"))?;
            self.sessions.push(session);
        }
        Ok(())
    }

    /// The first `count` sessions, as `media_load` wants them.
    pub fn table(&self, count: usize) -> String {
        self.sessions.iter().take(count).fold(String::new(), |mut table, it| {
            let Session { caller, towards_caller, callee, towards_callee } = it;
            // Writing to a text can not fail.
            let _ = writeln!(table, "{caller} {towards_caller} {callee} {towards_callee}");
            table
        })
    }

    /// Ends it; it must not have ended before.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.running.is_running()?, "the relay has ended: {}", self.running.log());
        self.running.end().map(drop)
    }
}

/// The sessions of the floor: the same ports on both sides.
fn fixed() -> Vec<Session> {
    (0..SESSIONS_MAX).map(|number| Session::of_phones(number).with_relay_at_same_ports()).collect()
}

/// What all of ours have in their file.
fn sip(address: IpAddr) -> String {
    format!(
        "[log]\nlevel = \"warn\"\n\
         [sip]\nlisten = [\"udp://{address}:5060 digest off\"]\n\
         [admission]\nnever = [\"203.0.113.0/24\"]\ncalls_per_minute_per_account = 0\n\
         [relay]\nrelay = \"always\"\nports = \"{FIRST_PORT}-59999\"\n"
    )
}

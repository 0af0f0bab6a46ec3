//! The pairs that are compared.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::cluster::{self, Cluster};
use crate::keepalived::{self, Adverts, Script};
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side};
use crate::process::tree;

/// A pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// Ours as it comes.
    TandemDefault,
    /// Ours with a lease of 200 ms.
    TandemBrief,
    /// Kamailio and keepalived as they come.
    KeepalivedSecond,
    /// Kamailio and keepalived with adverts each tenth of a second.
    KeepalivedTenth,
}

impl Contestant {
    /// In the order of the table.
    pub const ALL: [Contestant; 4] = [
        Contestant::TandemDefault,
        Contestant::TandemBrief,
        Contestant::KeepalivedSecond,
        Contestant::KeepalivedTenth,
    ];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::TandemDefault => "Tandem",
            Contestant::TandemBrief => "Tandem, lease 200 ms",
            Contestant::KeepalivedSecond => "Kamailio + keepalived, adverts 1 s",
            Contestant::KeepalivedTenth => "Kamailio + keepalived, adverts 0.1 s",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Contestant::TandemDefault => "tandem-500ms",
            Contestant::TandemBrief => "tandem-200ms",
            Contestant::KeepalivedSecond => "keepalived-1s",
            Contestant::KeepalivedTenth => "keepalived-0.1s",
        }
    }

    /// From the command line.
    pub fn named(word: &str) -> Option<Contestant> {
        Contestant::ALL.into_iter().find(|contestant| contestant.word() == word)
    }

    /// Ours: how long its lease is.
    pub fn lease(self) -> Option<Duration> {
        match self {
            Contestant::TandemDefault => Some(Duration::from_millis(500)),
            Contestant::TandemBrief => Some(Duration::from_millis(200)),
            Contestant::KeepalivedSecond | Contestant::KeepalivedTenth => None,
        }
    }
}

/// A pair that runs; the first node is active, and the second one is ready to be.
#[derive(Debug)]
pub enum Servers {
    /// Ours.
    Tandem(Cluster),
    /// The others.
    Keepalived(Box<[keepalived::Node; 2]>),
}

impl Servers {
    /// Starts them.
    pub fn start(lab: &Lab, pair: &Pair, contestant: Contestant) -> Result<Servers> {
        let adverts = match contestant {
            Contestant::KeepalivedSecond => Adverts::Second,
            Contestant::KeepalivedTenth => Adverts::Tenth,
            Contestant::TandemDefault | Contestant::TandemBrief => {
                let mut settings =
                    cluster::Settings { engine_silence: "250ms", ..cluster::Settings::default() };
                if contestant == Contestant::TandemBrief {
                    settings.lease = "200ms";
                }
                let mut cluster = Cluster::prepare(lab, pair, &settings)?;
                cluster.start_all(pair)?;
                return Ok(Servers::Tandem(cluster));
            }
        };
        let mut a = keepalived::Node::start(lab, pair, Side::A, adverts, Script::Answers)?;
        a.wait_for_role("MASTER")?;
        let mut b = keepalived::Node::start(lab, pair, Side::B, adverts, Script::Answers)?;
        b.wait_for_role("BACKUP")?;
        Ok(Servers::Keepalived(Box::new([a, b])))
    }

    /// The ids of all that serves SIP on a node.
    pub fn engine(&self, side: Side) -> Result<Vec<u32>> {
        let ids = match self {
            Servers::Tandem(cluster) => vec![cluster.engine(side)?],
            Servers::Keepalived(nodes) => nodes[side as usize].engine()?,
        };
        ensure!(!ids.is_empty(), "no engine runs on {}", side.name());
        Ok(ids)
    }

    /// The ids of all processes of a node.
    pub fn all(&self, side: Side) -> Result<Vec<u32>> {
        match self {
            Servers::Tandem(cluster) => cluster.processes(side),
            Servers::Keepalived(nodes) => nodes[side as usize].all(),
        }
    }

    /// Makes the other node active.
    pub fn switch_over(&self, pair: &Pair, from: Side) -> Result<()> {
        match self {
            Servers::Tandem(cluster) => cluster.switch_over(pair, from),
            Servers::Keepalived(nodes) => nodes[from as usize].hand_over(),
        }
    }
}

/// kill -9 of these.
pub fn kill(ids: &[u32]) -> Result<()> {
    tree::signal(ids.iter().copied(), Signal::KILL)
}

/// SIGSTOP of these.
pub fn freeze(ids: &[u32]) -> Result<()> {
    tree::signal(ids.iter().copied(), Signal::STOP)
}

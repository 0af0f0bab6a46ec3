//! The pairs that are compared, and what happens to them.

use anyhow::Result;
use rustix::process::Signal;

use super::event::Event;
use crate::cluster::fault::{Fault, Wound};
use crate::cluster::{Cluster, Settings, TIME_MAX};
use crate::keepalived::{Adverts, Node, Script, redis};
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side};
use crate::process::{Running, tree};

/// A pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// Ours.
    Tandem,
    /// Kamailio and keepalived, with an advert each tenth of a second.
    Kamailio,
}

impl Contestant {
    /// In the order of the table.
    pub const ALL: [Contestant; 2] = [Contestant::Tandem, Contestant::Kamailio];

    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Tandem => "Tandem",
            Contestant::Kamailio => "Kamailio + keepalived",
        }
    }

    /// The name on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Contestant::Tandem => "tandem",
            Contestant::Kamailio => "kamailio",
        }
    }

    /// By that.
    pub fn named(word: &str) -> Option<Contestant> {
        Contestant::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Some faults leave the other one broken for good.
    pub fn is_fresh_each_time(self) -> bool {
        self == Contestant::Kamailio
    }
}

/// A pair that runs, with all phones registered.
#[derive(Debug)]
pub enum Servers {
    /// Ours.
    Tandem(Cluster),
    /// The others.
    Kamailio(Box<Others>),
}

/// Nodes of others, and what they share.
#[derive(Debug)]
pub struct Others {
    nodes: [Node; 2],
    _redis: Option<Running>,
}

/// What has happened to a node and is to be mended.
#[derive(Debug)]
pub enum Harm {
    /// Ours knows.
    Tandem(Option<Wound>),
    /// To the others.
    Kamailio(Side, Option<Fault>, Vec<u32>),
}

impl Servers {
    /// Starts them, ours with these settings, and the others with this script. Whoever is registered at one of the others is not
    /// at the other one.
    pub fn start(
        lab: &Lab,
        pair: &Pair,
        who: Contestant,
        settings: &Settings,
        script: Script,
    ) -> Result<Servers> {
        if who == Contestant::Tandem {
            let mut cluster = Cluster::prepare(lab, pair, settings)?;
            cluster.start_all(pair)?;
            return Ok(Servers::Tandem(cluster));
        }
        let redis = (script == Script::Talk).then(|| redis::start(lab, pair)).transpose()?;
        let mut a = Node::start(lab, pair, Side::A, Adverts::Tenth, script)?;
        a.wait_for_role("MASTER")?;
        let mut b = Node::start(lab, pair, Side::B, Adverts::Tenth, script)?;
        b.wait_for_role("BACKUP")?;
        Ok(Servers::Kamailio(Box::new(Others { nodes: [a, b], _redis: redis })))
    }

    /// Lets it happen to the node that serves.
    pub fn hurt(&mut self, lab: &Lab, pair: &Pair, event: Event) -> Result<Harm> {
        match (self, event) {
            (Servers::Tandem(cluster), Event::Switchover) => {
                let active = cluster.wait_until_whole(TIME_MAX)?;
                cluster.switch_over(pair, active)?;
                Ok(Harm::Tandem(None))
            }
            (Servers::Tandem(cluster), Event::Fault(fault)) => {
                let active = cluster.wait_until_whole(TIME_MAX)?;
                let wound = cluster.hurt(lab, pair, active, fault)?;
                cluster.wait_until_active(active.other(), TIME_MAX)?;
                Ok(Harm::Tandem(Some(wound)))
            }
            // It is fresh, so the first one serves.
            (Servers::Kamailio(others), Event::Switchover) => {
                others.nodes[0].hand_over()?;
                Ok(Harm::Kamailio(Side::A, None, Vec::new()))
            }
            (Servers::Kamailio(others), Event::Fault(fault)) => {
                let (engine, all) = (others.nodes[0].engine()?, others.nodes[0].all()?);
                let guardian: Vec<u32> = all.iter().copied().filter(|id| !engine.contains(id)).collect();
                let cable = pair.node(Side::A).cable();
                let (ids, signal) = match fault {
                    Fault::EngineKilled => (engine, Signal::KILL),
                    Fault::GuardianKilled => (guardian, Signal::KILL),
                    Fault::AllKilled => {
                        // Nobody may say good-bye: keepalived would, when its parent dies a moment before it.
                        tree::signal(all.iter().copied(), Signal::STOP)?;
                        (all, Signal::KILL)
                    }
                    Fault::EngineFrozen => (engine, Signal::STOP),
                    Fault::GuardianFrozen => (guardian, Signal::STOP),
                    Fault::AllFrozen => (all, Signal::STOP),
                    Fault::CableOut => {
                        lab.pull(&cable)?;
                        (Vec::new(), Signal::CONT)
                    }
                    Fault::CutOff => {
                        lab.cut_off(&cable)?;
                        (Vec::new(), Signal::CONT)
                    }
                    Fault::Muted => {
                        lab.mute(&cable)?;
                        (Vec::new(), Signal::CONT)
                    }
                    Fault::Deafened => {
                        lab.deafen(&cable)?;
                        (Vec::new(), Signal::CONT)
                    }
                };
                tree::signal(ids.iter().copied(), signal)?;
                Ok(Harm::Kamailio(Side::A, Some(fault), ids))
            }
        }
    }

    /// Ends it, as an operator or systemd would.
    pub fn mend(&mut self, lab: &Lab, pair: &Pair, harm: Harm) -> Result<()> {
        match (self, harm) {
            (Servers::Tandem(cluster), Harm::Tandem(Some(wound))) => cluster.heal(lab, pair, wound),
            (Servers::Kamailio(others), Harm::Kamailio(side, fault, ids)) => match fault {
                Some(Fault::EngineFrozen | Fault::GuardianFrozen | Fault::AllFrozen) => {
                    tree::signal(ids, Signal::CONT)
                }
                Some(Fault::CableOut) => lab.plug(&pair.node(side).cable()),
                Some(Fault::CutOff | Fault::Muted | Fault::Deafened) => lab.heal(),
                Some(Fault::EngineKilled | Fault::GuardianKilled | Fault::AllKilled) | None => {
                    others.nodes[side as usize].mend(lab, pair, side)
                }
            },
            (Servers::Tandem(_), _) | (Servers::Kamailio(_), Harm::Tandem(_)) => Ok(()),
        }
    }

    /// Waits until it can be hurt again.
    pub fn wait_until_whole(&self) -> Result<()> {
        match self {
            Servers::Tandem(cluster) => cluster.wait_until_whole(TIME_MAX).map(drop),
            Servers::Kamailio(_) => Ok(()),
        }
    }
}

//! The gate: frames that carry a virtual address pass only while the lease lasts.
//!
//! Two kinds do the same. The program in the kernel ([`GateKind::Program`]) compares the kernel's clock with an absolute
//! deadline, so that a guardian that froze between reading the clock and setting the gate opens nothing. Where it can not be
//! loaded, sets of nftables with timed elements do ([`GateKind::Nftables`]): their time is counted from when they are
//! written, so that a frozen guardian may open the gate late by as long as it was frozen. `status` says which is in force.

mod nftables;
mod program;

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nftables::Nftables;
pub use nftables::run as run_nft;
use program::Program;

use crate::interface::Interface;

/// What the gate is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// A tc eBPF program with an absolute deadline.
    Program,
    /// Sets of nftables with timed elements.
    Nftables,
    /// Nothing: whoever is frozen may answer beside the new holder.
    None,
}

/// How many frames of the virtual addresses came to a gate, by what became of them. As `struct counts` in gate.c.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// It let them pass.
    pub passed: u64,
    /// It dropped them.
    pub dropped: u64,
    /// It sent them on to the node that has taken over.
    pub passed_on: u64,
}

/// The gate could not be made or moved.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The program could not be loaded or attached.
    #[error("the gate's program can not be used on {interface}: {reason}")]
    Program {
        /// Where.
        interface: String,
        /// What the kernel said.
        reason: String,
    },
    /// nftables refused.
    #[error("nftables can not be the gate on {interface}: {reason}")]
    Nftables {
        /// Where.
        interface: String,
        /// What it said.
        reason: String,
    },
}

/// The gate of one service on one interface. It begins closed.
pub struct Gate {
    inner: Inner,
}

enum Inner {
    Program(Box<Program>),
    Nftables(Nftables),
    None,
}

impl Gate {
    /// Makes the best gate that this host can have, and says why a better one can not be had. What a dead predecessor
    /// left is removed, and as late as can be.
    pub fn new(interface: &Interface, addresses: &[IpAddr]) -> (Self, Vec<GateError>) {
        let mut refusals = Vec::new();
        match Program::load(interface, addresses) {
            Ok(program) => {
                nftables::remove();
                return (Self { inner: Inner::Program(Box::new(program)) }, refusals);
            }
            Err(error) => refusals.push(error),
        }
        let made = Nftables::new(interface, addresses);
        // That of a dead predecessor, which could load it, is closed and would stay so. It goes when the table is there.
        program::detach(&interface.name);
        match made {
            Ok(nftables) => (Self { inner: Inner::Nftables(nftables) }, refusals),
            Err(error) => {
                refusals.push(error);
                (Self { inner: Inner::None }, refusals)
            }
        }
    }

    /// What it is made of.
    pub fn kind(&self) -> GateKind {
        match self.inner {
            Inner::Program(_) => GateKind::Program,
            Inner::Nftables(_) => GateKind::Nftables,
            Inner::None => GateKind::None,
        }
    }

    /// Opens it for an epoch, or moves its deadline, which is a time of `CLOCK_BOOTTIME`.
    pub fn open(&mut self, epoch: u64, deadline: Duration) -> Result<(), GateError> {
        match &mut self.inner {
            Inner::Program(program) => program.open(epoch, deadline),
            Inner::Nftables(nftables) => nftables.open(deadline),
            Inner::None => Ok(()),
        }
    }

    /// Closes it for an epoch and all lower ones, for good.
    pub fn close(&mut self, epoch: u64) -> Result<(), GateError> {
        match &mut self.inner {
            Inner::Program(program) => program.close(epoch),
            Inner::Nftables(nftables) => nftables.close(),
            Inner::None => Ok(()),
        }
    }

    /// Lets frames come in until this time of `CLOCK_BOOTTIME`, and none go out: what another node passes on waits here for
    /// the lease. Says whether this gate can do that.
    pub fn admit(&mut self, until: Duration) -> Result<bool, GateError> {
        match &mut self.inner {
            Inner::Program(program) => program.admit(until).map(|()| true),
            Inner::Nftables(_) | Inner::None => Ok(false),
        }
    }

    /// Ends [`Self::admit`]: what comes goes on to where it went before.
    pub fn turn_away(&mut self) -> Result<(), GateError> {
        match &mut self.inner {
            Inner::Program(program) => program.turn_away(),
            Inner::Nftables(_) | Inner::None => Ok(()),
        }
    }

    /// Sends what comes for the virtual addresses on to another node's hardware address, until this time or until the gate is
    /// opened for a higher epoch. Says whether this gate can do that.
    pub fn pass_on(&mut self, heir: [u8; 6], until: Duration) -> Result<bool, GateError> {
        match &mut self.inner {
            Inner::Program(program) => program.pass_on(heir, until).map(|()| true),
            Inner::Nftables(_) | Inner::None => Ok(false),
        }
    }

    /// How many frames came, where that is counted.
    pub fn counts(&self) -> Option<Counts> {
        match &self.inner {
            Inner::Program(program) => program.counts(),
            Inner::Nftables(_) | Inner::None => None,
        }
    }

    /// The map by which an engine says which streams of media the kernel sends on, for [`KernelRelay`](crate::KernelRelay); or
    /// why the kernel sends on none.
    pub fn relay_map(&self) -> Result<OwnedFd, String> {
        match &self.inner {
            Inner::Program(program) => program.relay_map(),
            Inner::Nftables(_) => {
                Err("the gate is made of nftables, not of a program in the kernel".to_owned())
            }
            Inner::None => Err("there is no gate".to_owned()),
        }
    }

    /// Takes the gate away: at a clean stop, when the addresses are gone.
    pub fn remove(self) {
        match self.inner {
            Inner::Program(program) => program.remove(),
            Inner::Nftables(_) => nftables::remove(),
            Inner::None => {}
        }
    }
}

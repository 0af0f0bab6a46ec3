//! The guardian's hands: the gate, the virtual addresses, their announcements.
//!
//! The gate's program in the kernel is moved at once, by the guardian's own thread: that is one system call which waits for
//! nobody. Addresses and announcements, and a gate of nftables, wait for locks that the whole host shares, so a thread does
//! them. It has one place for each wish, where a later one replaces an earlier one: it may be late, and is never behind.
//!
//! Invariant: the gate is closed before [`Closing::Done`] is said, or the inbox is told so. A host that has no gate has the
//! addresses removed before.

mod admission;
mod streams;
mod worker;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ::host::{Addresses, Announcer, Counts, Gate, GateError, GateKind, Interface};
use clock::Instant;
use cluster::{Epoch, HardwareAddress};

use super::inbox::Sender;
use super::poll::now;
use admission::Admission;
use streams::Streams;
use worker::{Addressed, GateWish, Worker};

/// What hands do. Another kind of them is enough to try a guardian without a kernel's help.
pub trait Hands {
    /// Opens the gate, or moves its deadline.
    fn open_gate(&mut self, epoch: Epoch, until: Instant);
    /// Closes the gate for an epoch and all lower ones.
    fn close_gate(&mut self, epoch: Epoch) -> Closing;
    /// Adds the addresses, and lets frames in until then as soon as they are there, but none out.
    fn admit(&mut self, until: Instant);
    /// Lets nothing in, and takes the addresses away: what comes goes on to where it went before.
    fn turn_away(&mut self);
    /// Sends what comes for the addresses on to another node, until then or until the gate is opened for a higher epoch.
    fn pass_on(&mut self, heir: HardwareAddress, until: Instant);
    /// Where [`Self::admit`] lets in; `None`: it can not.
    fn admits_at(&self) -> Option<HardwareAddress>;
    /// Adds the addresses, or gives them another span of life.
    fn hold_addresses(&mut self);
    /// Takes the addresses away.
    fn drop_addresses(&mut self);
    /// Announces the addresses once.
    fn announce(&mut self);
    /// What was done since the last call, or has failed, without the inbox being told.
    fn done_at_once(&mut self, into: &mut Vec<(Deed, Instant)>);
    /// The event loop has heard of this, from here or by the inbox.
    fn done(&mut self, deed: &Deed);
    /// By which map an engine says what the kernel sends on by itself, or why there is none.
    fn relay_map(&self) -> Result<Arc<OwnedFd>, String> {
        Err("there is no gate".to_owned())
    }
    /// How they are.
    fn view(&self) -> HandsView;
    /// At a clean end: the addresses go, then the gate.
    fn finish(self: Box<Self>);
}

/// How hands are.
#[derive(Clone, Debug, Default)]
pub struct HandsView {
    /// What the gate is made of; `None`: there are none.
    pub gate: Option<GateKind>,
    /// Why it is not made of something better.
    pub refusals: Vec<String>,
    /// What became of frames of the virtual addresses, where that is counted.
    pub counts: Option<Counts>,
    /// What could not be done, and was not done since.
    pub troubles: Vec<(Hand, String)>,
}

/// Whether the gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It is.
    Done,
    /// The inbox will be told.
    UnderWay,
}

/// What a hand has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The gate is open.
    GateOpened,
    /// The gate is closed, and [`Closing::UnderWay`] was said.
    GateClosed,
    /// The addresses are there.
    Held,
    /// The addresses are gone.
    Dropped,
    /// The addresses were announced.
    Announced,
    /// It could not be done.
    Failed(Hand, String),
    /// What had failed is done.
    Mended(Hand),
}

/// Which hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hand {
    /// The gate.
    Gate,
    /// The addresses.
    Addresses,
    /// The announcements.
    Announcements,
}

impl std::fmt::Display for Hand {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gate => "the gate",
            Self::Addresses => "the virtual addresses",
            Self::Announcements => "the announcements",
        })
    }
}

/// The hands of a node whose addresses others move, and which has no gate: what the engine may send is all that is ruled.
#[derive(Clone, Copy, Debug)]
pub struct NoHands;

impl Hands for NoHands {
    fn open_gate(&mut self, _: Epoch, _: Instant) {}

    fn close_gate(&mut self, _: Epoch) -> Closing {
        Closing::Done
    }

    fn admit(&mut self, _: Instant) {}

    fn turn_away(&mut self) {}

    fn pass_on(&mut self, _: HardwareAddress, _: Instant) {}

    fn admits_at(&self) -> Option<HardwareAddress> {
        None
    }

    fn hold_addresses(&mut self) {}

    fn drop_addresses(&mut self) {}

    fn announce(&mut self) {}

    fn done_at_once(&mut self, _: &mut Vec<(Deed, Instant)>) {}

    fn done(&mut self, _: &Deed) {}

    fn view(&self) -> HandsView {
        HandsView::default()
    }

    fn finish(self: Box<Self>) {}
}

/// The hands that move this host's kernel.
pub struct KernelHands {
    /// `None`: the worker has it.
    gate: Option<Gate>,
    kind: GateKind,
    mac: HardwareAddress,
    adds_addresses: bool,
    refusals: Vec<GateError>,
    relay_map: Result<Arc<OwnedFd>, String>,
    worker: Worker,
    troubles: BTreeMap<Hand, String>,
    admission: Admission,
    /// What this thread has done itself, and the event loop has not heard of.
    untold: Vec<(Deed, Instant)>,
}

impl KernelHands {
    /// Takes the interface for these addresses. What a dead predecessor left is gone when this returns: the gate is closed
    /// and the addresses are not there.
    pub fn take(interface: &Interface, addresses: &[IpAddr], inbox: Sender) -> anyhow::Result<Self> {
        Self::start(interface, addresses, addresses, inbox)
    }

    /// Takes the interface for a gate alone: others add the addresses, and take them away.
    pub fn guard(interface: &Interface, addresses: &[IpAddr], inbox: Sender) -> anyhow::Result<Self> {
        Self::start(interface, addresses, &[], inbox)
    }

    fn start(
        interface: &Interface,
        guarded: &[IpAddr],
        addresses: &[IpAddr],
        inbox: Sender,
    ) -> anyhow::Result<Self> {
        // First what a dead predecessor left: without its addresses nothing answers while one gate takes the other's place.
        let mut held = Addresses::new(interface.clone(), addresses.to_vec())?;
        held.drop_all()?;
        let (gate, refusals) = Gate::new(interface, guarded);
        let announcer = Announcer::open(interface.clone())?;
        let kind = gate.kind();
        let relay_map = gate.relay_map().map(Arc::new);
        let (own, lent) = match kind {
            GateKind::Program => (Some(gate), None),
            GateKind::Nftables | GateKind::None => (None, Some(gate)),
        };
        let streams = Streams::new(guarded.to_vec());
        let addressed = Addressed { held, announcer, addresses: addresses.to_vec(), streams };
        let worker = Worker::start(addressed, lent, inbox)?;
        let (mac, adds_addresses) = (HardwareAddress(interface.mac), !addresses.is_empty());
        Ok(Self {
            gate: own,
            kind,
            mac,
            adds_addresses,
            refusals,
            relay_map,
            worker,
            troubles: BTreeMap::new(),
            admission: Admission::default(),
            untold: Vec::new(),
        })
    }

    /// Says whether the gate has moved.
    fn moved(&mut self, result: Result<(), GateError>) -> bool {
        match result {
            Ok(()) => {
                if self.troubles.remove(&Hand::Gate).is_some() {
                    tracing::info!("{}: it can be done again", Hand::Gate);
                    self.untold.push((Deed::Mended(Hand::Gate), now().instant));
                }
                true
            }
            // What goes on failing is tried many times a second, and told once.
            Err(error) => {
                let reason = error.to_string();
                if self.troubles.insert(Hand::Gate, reason.clone()).is_none() {
                    tracing::error!("{}: {reason}", Hand::Gate);
                    self.untold.push((Deed::Failed(Hand::Gate, reason), now().instant));
                }
                false
            }
        }
    }
}

impl Hands for KernelHands {
    fn open_gate(&mut self, epoch: Epoch, until: Instant) {
        let until = Duration::from_nanos(until.as_nanos());
        self.admission.forget();
        match &mut self.gate {
            Some(gate) => {
                let result = gate.open(epoch.0, until);
                let opened = now().instant;
                if self.moved(result) {
                    self.untold.push((Deed::GateOpened, opened));
                }
            }
            None => self.worker.wish_gate(GateWish::Open(epoch, until)),
        }
    }

    fn close_gate(&mut self, epoch: Epoch) -> Closing {
        let Some(gate) = &mut self.gate else {
            self.worker.wish_gate(GateWish::Close(epoch));
            return Closing::UnderWay;
        };
        let result = gate.close(epoch.0);
        if self.moved(result) {
            return Closing::Done;
        }
        // A gate that does not move is none: the addresses must be gone before anything is released.
        self.worker.wish_gate(GateWish::Close(epoch));
        Closing::UnderWay
    }

    fn admit(&mut self, until: Instant) {
        self.admission.want(Duration::from_nanos(until.as_nanos()));
        self.worker.hold_addresses();
    }

    fn turn_away(&mut self) {
        self.admission.forget();
        if let Some(gate) = &mut self.gate {
            let result = gate.turn_away();
            self.moved(result);
        }
        self.worker.drop_addresses();
    }

    fn pass_on(&mut self, heir: HardwareAddress, until: Instant) {
        let Some(gate) = &mut self.gate else { return };
        let result = gate.pass_on(heir.0, Duration::from_nanos(until.as_nanos()));
        self.moved(result.map(drop));
    }

    fn admits_at(&self) -> Option<HardwareAddress> {
        // Where hooks move the addresses they are not here before the lease is.
        (self.kind == GateKind::Program && self.adds_addresses).then_some(self.mac)
    }

    fn hold_addresses(&mut self) {
        self.worker.hold_addresses();
    }

    fn drop_addresses(&mut self) {
        self.worker.drop_addresses();
    }

    fn announce(&mut self) {
        self.worker.announce();
    }

    fn done_at_once(&mut self, into: &mut Vec<(Deed, Instant)>) {
        into.append(&mut self.untold);
    }

    fn done(&mut self, deed: &Deed) {
        if let Some(until) = self.admission.follow(deed)
            && let Some(gate) = &mut self.gate
        {
            let result = gate.admit(until);
            self.moved(result.map(drop));
        }
        match deed {
            Deed::Failed(hand, reason) => {
                self.troubles.insert(*hand, reason.clone());
            }
            Deed::Mended(hand) => {
                self.troubles.remove(hand);
            }
            _ => {}
        }
    }

    fn finish(self: Box<Self>) {
        let lent = self.worker.finish();
        if let Some(gate) = self.gate.or(lent) {
            gate.remove();
        }
    }

    fn relay_map(&self) -> Result<Arc<OwnedFd>, String> {
        self.relay_map.clone()
    }

    fn view(&self) -> HandsView {
        HandsView {
            gate: Some(self.kind),
            refusals: self.refusals.iter().map(GateError::to_string).collect(),
            counts: self.gate.as_ref().and_then(Gate::counts),
            troubles: self.troubles.iter().map(|(hand, reason)| (*hand, reason.clone())).collect(),
        }
    }
}

//! A host of the pair: its kernel's gate, its disk, and the two processes of a node.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clock::Instant;
use cluster::{Guardian, MemberId, Record, VoterId};
use lease::{Epoch, LeaseMirror};

use super::clock::HostClock;
use crate::node::Node;
use crate::store::Store;

/// What the kernel has: it obeys the deadline whatever the processes do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate {
    /// This epoch and all lower ones are over.
    pub(super) closed: u64,
    /// The epoch that is open until `until`, in true time.
    pub(super) epoch: u64,
    pub(super) until: Instant,
    /// Frames come in, and none go out.
    pub(super) admits: bool,
    /// What comes goes on to the other node: under which epoch that began.
    pub(super) passes_on: Option<u64>,
}

impl Gate {
    /// Until when the virtual address passes, in true time.
    pub(super) fn open_until(&self) -> Instant {
        if self.epoch > self.closed { self.until } else { Instant::START }
    }
}

/// The engine of a node, from one start to its end.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) node: Node,
    pub(super) boot: u64,
    /// Under which epoch it acts.
    pub(super) acting: Option<Epoch>,
    /// A connection to the peer is being opened.
    pub(super) is_calling: bool,
    /// No connection is opened before.
    pub(super) rests_until: Instant,
    /// It was ordered to bring this epoch to its end, and by when it does so whatever is left.
    pub(super) draining: Option<(Epoch, Instant)>,
    /// What came before the lease: from whom, to which of our addresses.
    pub(super) early: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// It has done so: under this epoch nothing is sent any more.
    pub(super) ended: Option<Epoch>,
}

/// One host with its node.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) clock: HostClock,
    pub(super) is_up: bool,
    pub(super) guardian: Option<Box<Guardian>>,
    /// Counts the starts of the guardian.
    pub(super) boot: u64,
    pub(super) guardian_frozen: Instant,
    pub(super) engine: Option<Engine>,
    /// Counts the starts of the engine.
    pub(super) engine_boot: u64,
    pub(super) engine_frozen: Instant,
    /// The page that both processes share.
    pub(super) page: LeaseMirror,
    pub(super) gate: Gate,
    pub(super) disk: Record,
    /// Writes of the disk are done in order.
    pub(super) disk_free: Instant,
    pub(super) writes_under_way: u32,
    pub(super) known: BTreeMap<MemberId, VoterId>,
    pub(super) store: Store,
}

impl Host {
    /// A host that was never switched on.
    pub(super) fn new(number: usize, clock: HostClock, store: Store) -> Self {
        Self {
            clock,
            is_up: false,
            guardian: None,
            boot: 0,
            guardian_frozen: Instant::START,
            engine: None,
            engine_boot: 0,
            engine_frozen: Instant::START,
            page: LeaseMirror::none(),
            gate: Gate { closed: 0, epoch: 0, until: Instant::START, admits: false, passes_on: None },
            disk: Record::first(VoterId(number as u64 + 1)),
            disk_free: Instant::START,
            writes_under_way: 0,
            known: BTreeMap::new(),
            store,
        }
    }

    /// The lease as the engine may use it: not under an epoch that it has brought to its end.
    pub(super) fn mandate(&self) -> LeaseMirror {
        let ended = self.engine.as_ref().and_then(|engine| engine.ended);
        if ended.is_some_and(|ended| self.page.epoch() <= ended) { LeaseMirror::none() } else { self.page }
    }

    /// When a machine of the guardian's wants to be called, in true time.
    pub(super) fn guardian_due(&self) -> Option<Instant> {
        let due = self.guardian.as_ref()?.poll_timeout();
        Some(self.clock.true_at(due).max(self.guardian_frozen))
    }

    /// When the engine wants to be called, in true time.
    pub(super) fn engine_due(&self) -> Option<Instant> {
        let due = self.engine.as_ref()?.node.poll_timeout()?;
        Some(self.clock.true_at(due).max(self.engine_frozen))
    }
}

//! The thread that does what waits for the kernel's own locks.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ::host::{Addresses, Announcer, Gate};
use cluster::Epoch;

use super::super::inbox::{Inward, Sender};
use super::super::poll::now;
use super::streams::Streams;
use super::{Deed, Hand};
use crate::small_thread;

/// What the worker moves.
pub(super) struct Addressed {
    pub(super) held: Addresses,
    pub(super) announcer: Announcer,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) streams: Streams,
}

/// What is wanted of a gate that the worker has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GateWish {
    Open(Epoch, Duration),
    Close(Epoch),
}

/// What is wanted of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressWish {
    Hold,
    Drop,
}

/// One place for each wish.
#[derive(Debug, Default)]
struct Wishes {
    gate: Option<GateWish>,
    addresses: Option<AddressWish>,
    announce: bool,
    end: bool,
}

/// The thread, as its wishes are given.
pub(super) struct Worker {
    shared: Arc<Shared>,
    thread: JoinHandle<Option<Gate>>,
}

struct Shared {
    wishes: Mutex<Wishes>,
    wanted: Condvar,
}

impl Worker {
    pub(super) fn start(addressed: Addressed, gate: Option<Gate>, inbox: Sender) -> io::Result<Self> {
        let shared = Arc::new(Shared { wishes: Mutex::default(), wanted: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = small_thread::spawn("hands", move || {
            // A takeover waits for this thread as for the guardian's own. What could not be had is said there.
            let _ = ::host::be_real_time();
            Work { addressed, gate, inbox, failing: BTreeMap::new() }.run(&theirs)
        })?;
        Ok(Self { shared, thread })
    }

    pub(super) fn wish_gate(&self, wish: GateWish) {
        self.wish(|wishes| wishes.gate = Some(wish));
    }

    pub(super) fn hold_addresses(&self) {
        self.wish(|wishes| wishes.addresses = Some(AddressWish::Hold));
    }

    pub(super) fn drop_addresses(&self) {
        self.wish(|wishes| {
            wishes.addresses = Some(AddressWish::Drop);
            wishes.announce = false;
        });
    }

    pub(super) fn announce(&self) {
        self.wish(|wishes| wishes.announce = true);
    }

    /// Waits until the addresses are gone, and gives the gate back.
    pub(super) fn finish(self) -> Option<Gate> {
        self.wish(|wishes| {
            *wishes = Wishes { addresses: Some(AddressWish::Drop), end: true, ..Wishes::default() };
        });
        self.thread.join().ok().flatten()
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut lock(&self.shared.wishes));
        self.shared.wanted.notify_one();
    }
}

/// Both sides hold the lock for a few instructions, at the same priority.
fn lock(wishes: &Mutex<Wishes>) -> MutexGuard<'_, Wishes> {
    wishes.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Work {
    addressed: Addressed,
    gate: Option<Gate>,
    inbox: Sender,
    /// Which hands have failed since they last did something, and why.
    failing: BTreeMap<Hand, String>,
}

impl Work {
    fn run(mut self, shared: &Shared) -> Option<Gate> {
        loop {
            let is_idle = |wishes: &mut Wishes| {
                wishes.gate.is_none() && wishes.addresses.is_none() && !wishes.announce && !wishes.end
            };
            let waited = shared.wanted.wait_while(lock(&shared.wishes), is_idle);
            let wishes = std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner));
            self.grant(&wishes);
            if wishes.end {
                return self.gate;
            }
        }
    }

    fn grant(&mut self, wishes: &Wishes) {
        if let Some(wish) = wishes.gate {
            self.move_gate(wish);
        }
        match wishes.addresses {
            Some(AddressWish::Hold) => {
                self.addressed.streams.spare();
                let result = self.addressed.held.hold().map_err(|error| error.to_string());
                if self.note(Hand::Addresses, result) {
                    self.tell(Deed::Held);
                }
            }
            Some(AddressWish::Drop) => {
                self.drop_addresses();
            }
            None => {}
        }
        if wishes.announce {
            let Addressed { announcer, addresses, .. } = &self.addressed;
            let mut result = Ok(());
            for address in addresses {
                // One that fails keeps no other from being announced.
                if let Err(error) = announcer.announce(*address) {
                    result = Err(error.to_string());
                }
            }
            if self.note(Hand::Announcements, result) {
                self.tell(Deed::Announced);
            }
        }
    }

    fn move_gate(&mut self, wish: GateWish) {
        let result = match (&mut self.gate, wish) {
            (Some(gate), GateWish::Open(epoch, until)) => gate.open(epoch.0, until),
            (Some(gate), GateWish::Close(epoch)) => gate.close(epoch.0),
            (None, _) => Ok(()),
        };
        let is_moved = self.note(Hand::Gate, result.map_err(|error| error.to_string()));
        let is_gate = self.gate.as_ref().is_some_and(|gate| gate.kind() != ::host::GateKind::None);
        match wish {
            GateWish::Open(..) if is_moved => self.tell(Deed::GateOpened),
            GateWish::Open(..) => {}
            // Without a gate nobody may take over before the addresses are gone; the kernel removes them in the end.
            GateWish::Close(_) => {
                let is_closed = is_gate && is_moved;
                while !is_closed && !self.drop_addresses() {
                    std::thread::sleep(DROP_AGAIN_AFTER);
                }
                self.tell(Deed::GateClosed);
            }
        }
    }

    fn drop_addresses(&mut self) -> bool {
        let result = self.addressed.held.drop_all().map_err(|error| error.to_string());
        let is_done = self.note(Hand::Addresses, result);
        if is_done {
            self.addressed.streams.destroy();
            self.tell(Deed::Dropped);
        }
        is_done
    }

    fn note(&mut self, hand: Hand, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                if self.failing.remove(&hand).is_some() {
                    tracing::info!("{hand}: it can be done again");
                    self.tell(Deed::Mended(hand));
                }
                true
            }
            // What goes on failing is tried many times a second, and told once.
            Err(reason) => {
                if self.failing.get(&hand) != Some(&reason) {
                    tracing::error!("{hand}: {reason}");
                    self.failing.insert(hand, reason.clone());
                    self.tell(Deed::Failed(hand, reason));
                }
                false
            }
        }
    }

    fn tell(&self, deed: Deed) {
        // A guardian that has ended needs to know nothing.
        let _ = self.inbox.send(Inward::Done(deed, now().instant));
    }
}

/// How long the kernel is given before it is asked again to remove an address.
const DROP_AGAIN_AFTER: Duration = Duration::from_millis(20);

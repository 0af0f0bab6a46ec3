//! The connections of the virtual addresses, which end when the addresses leave.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::host::destroy_streams;

use crate::small_thread::spawn;

/// Destroys them on a thread of ordinary priority: there may be many, and nobody waits for it.
#[derive(Debug)]
pub(super) struct Streams {
    addresses: Vec<IpAddr>,
    /// Grows whenever the addresses come or go: what was begun before is not wanted any more.
    turn: Arc<AtomicU64>,
}

impl Streams {
    pub(super) fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, turn: Arc::default() }
    }

    /// The addresses are here: what comes now is not to be destroyed.
    pub(super) fn spare(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The addresses are gone and the gate is closed.
    pub(super) fn destroy(&self) {
        let mine = self.turn.fetch_add(1, Ordering::Relaxed) + 1;
        let (turn, addresses) = (Arc::clone(&self.turn), self.addresses.clone());
        let spawned = spawn("streams", move || {
            match destroy_streams(&addresses, || turn.load(Ordering::Relaxed) == mine) {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "connections of the virtual addresses are ended"),
                Err(error) => tracing::warn!("{error}"),
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "connections of the virtual addresses are not ended");
        }
    }
}

//! What has to be done from time to time, by one task: closing slow and idle connections, telling which
//! connections carry bindings, writing down which nonces are in use, telling the other node of nonces and bans.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clock::Instant;
use tokio::time::{MissedTickBehavior, interval};

use crate::clocks;
use crate::edge::Edge;

/// How late a slow or idle connection may be closed. It is also the heartbeat of tokio's threads.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How often it is asked which connections carry bindings, at most: it costs time for each of them.
const BOUND_EVERY: Duration = Duration::from_secs(1);
/// How much of the nonce counts a killed server may forget: used counts could then be used once more.
const NONCES_EVERY: Duration = Duration::from_secs(30);

/// Shows that tokio's threads run.
#[derive(Debug)]
pub(crate) struct Pulse(AtomicU64);

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self(AtomicU64::new(now.as_nanos()))
    }

    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.since(Instant::from_nanos(self.0.load(Ordering::Relaxed)))
    }

    fn beat(&self, now: Instant) {
        self.0.store(now.as_nanos(), Ordering::Relaxed);
    }
}

/// Shows the guardian that tokio's threads run; `lane` is theirs. Runs for ever.
pub(crate) async fn beat(edge: Arc<Edge>, lane: usize, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        edge.mandate.beat(lane, clocks::instant());
    }
}

/// Runs for ever.
pub(crate) async fn run(edge: Arc<Edge>, pulse: Arc<Pulse>) {
    let mut ticks = interval(SWEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = clocks::instant();
    let (mut bound_at, mut nonces_at) = (start, start + NONCES_EVERY);
    loop {
        ticks.tick().await;
        let now = clocks::instant();
        pulse.beat(now);
        // Only when a connection may be idle: then it counts whether a binding depends on it.
        if bound_at <= now && edge.streams.is_due(now) {
            bound_at = now + BOUND_EVERY;
            keep_bound(&edge, now);
        }
        edge.streams.sweep(now);
        edge.machines.bans.sweep(now);
        if let Some(copies) = edge.copies.get() {
            copies.tell_of_the_rest(&edge.machines);
            edge.streams.stranding.tell(copies);
        }
        edge.overloads.look_at_connections(now, &edge.runtime);
        if nonces_at <= now {
            nonces_at = now + NONCES_EVERY;
            // A standby without a peer has those of long ago.
            if edge.copies.get().is_some() || edge.mandate.epoch(now).is_some() {
                save_nonces(&edge);
            }
        }
    }
}

fn keep_bound(edge: &Edge, now: Instant) {
    let mut bound = BTreeSet::new();
    for partition in &edge.machines.partitions {
        partition.read(|owner| bound.extend(owner.partition.bound_connections()));
    }
    edge.streams.keep_bound(now, bound);
}

/// Hands all nonces that are in use to the store.
pub(crate) fn save_nonces(edge: &Edge) {
    let now = clocks::now();
    let mut nonces = Vec::new();
    for partition in &edge.machines.partitions {
        nonces.extend(partition.read(|owner| owner.partition.stored_nonces(now)));
    }
    edge.store.save_nonces(nonces);
}

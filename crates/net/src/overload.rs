//! The overload of all queues: that of each event loop, which the loop keeps itself, and the one of the connections.
//!
//! What is seen from outside is here: the log says once when the first queue is overloaded and once when the last one is not
//! any more, and `status` asks how much is refused. While no queue is overloaded this costs an event loop nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::Instant;
use routing::Keyring;
use routing::bans::Bans;
use routing::overload::{Change, Overload, Queue, Verdict};
use tokio::runtime::Handle;
use tracing::{info, warn};
use transport::Flow;

use crate::status::OverloadStatus;

/// Connections that wait for a thread of tokio, beside those that stand in a thread's own queue: as many as one of these
/// gives away when it is full.
const WAITING_CONNECTIONS_MAX: usize = 128;
/// How often it is looked how many they are, at most.
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Overloads {
    /// How much each queue refuses, four percentages in one number. The last one is that of the connections.
    refused: Box<[AtomicU32]>,
    connections: Mutex<Overload>,
    looked_at: AtomicU64,
    standing: Mutex<Standing>,
}

/// How many queues are overloaded, and since when any is.
#[derive(Debug)]
struct Standing {
    queues: usize,
    since: Instant,
}

impl Overloads {
    pub(crate) fn new(now: Instant, keyring: &Keyring, loops: usize) -> Self {
        Self {
            refused: std::iter::repeat_with(AtomicU32::default).take(loops + 1).collect(),
            connections: Mutex::new(Overload::new(now, keyring)),
            looked_at: AtomicU64::new(now.as_nanos()),
            standing: Mutex::new(Standing { queues: 0, since: now }),
        }
    }

    /// Takes what an event loop has found.
    pub(crate) fn note(&self, now: Instant, lane: usize, overload: &Overload, changes: &mut Vec<Change>) {
        self.refused[lane].store(u32::from_be_bytes(overload.refused_percent()), Ordering::Relaxed);
        for change in changes.drain(..) {
            let mut standing = locked(&self.standing);
            match change {
                Change::Begun => {
                    standing.queues += 1;
                    if standing.queues == 1 {
                        standing.since = now;
                        warn!(
                            "overloaded: more comes than can be handled; new requests are refused with 503, the least \
                             important first, until it is over"
                        );
                    }
                }
                Change::Ended => {
                    standing.queues = standing.queues.saturating_sub(1);
                    if standing.queues == 0 {
                        let seconds = now.since(standing.since).as_secs();
                        info!(seconds, "the overload is over; `tandem status` counts what was refused");
                    }
                }
            }
        }
    }

    /// This node has become active.
    pub(crate) fn note_takeover(&self, now: Instant) {
        locked(&self.connections).handle_takeover(now);
    }

    /// Looks how many connections wait for a thread, if nobody has a moment ago.
    pub(crate) fn look_at_connections(&self, now: Instant, runtime: &Handle) {
        let before = self.looked_at.load(Ordering::Relaxed);
        let is_due = now.since(Instant::from_nanos(before)) >= LOOK_EVERY;
        // Whoever comes second leaves it to the first.
        if !is_due
            || self
                .looked_at
                .compare_exchange(before, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let is_long = runtime.metrics().global_queue_depth() > WAITING_CONNECTIONS_MAX;
        let mut changes = Vec::new();
        let mut overload = locked(&self.connections);
        overload.handle_queue(now, if is_long { Queue::Standing } else { Queue::Drained }, &mut changes);
        self.note(now, self.refused.len() - 1, &overload, &mut changes);
    }

    /// Judges a message of a connection.
    pub(crate) fn judge_of_connection(
        &self,
        now: Instant,
        bans: &Bans,
        flow: &Flow,
        message: &[u8],
    ) -> Verdict {
        locked(&self.connections).judge(now, bans, flow, message)
    }

    /// Whether nothing that comes by a connection is refused.
    pub(crate) fn are_connections_quiet(&self) -> bool {
        self.refused[self.refused.len() - 1].load(Ordering::Relaxed) == 0
    }

    /// What the operator sees; `None` while there is no overload.
    pub(crate) fn status(&self, now: Instant) -> Option<OverloadStatus> {
        let standing = locked(&self.standing);
        (standing.queues > 0).then(|| {
            let mut refused_percent = [0; 4];
            for queue in &self.refused {
                let of_queue = queue.load(Ordering::Relaxed).to_be_bytes();
                refused_percent = std::array::from_fn(|rank| of_queue[rank].max(refused_percent[rank]));
            }
            OverloadStatus { lasts: now.since(standing.since), refused_percent }
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

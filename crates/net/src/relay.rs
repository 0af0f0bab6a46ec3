//! The media relay's edge: who forwards packets of calls, without a shard in their way.
//!
//! Each *worker* is a thread that has the sockets and streams of some calls. A shard's orders come to it by a bounded inbox; what it
//! finds out goes back as events to that shard's event loop, and figures to a board that the operator looks at. A call is
//! with one worker for all its time, so its orders are carried out in their order.
//!
//! Packets leave a virtual address under the lease alone (`mandate`), looked at before each send. Who is not active any more ends its streams and
//! keeps the ports: the other node tells which calls there are, and a takeover then binds nothing.

mod inbox;
mod kernel;
mod sockets;
mod streams;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::BTreeMap;
use std::io;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use clock::Instant;
use engine::{RelayEvent, RelayOrder, RelaySettings, SessionName, Shard};
use lease::Epoch;
use media::latch::Policy;
use media::offer_answer::{StreamId, Tag};
use media::stream::StreamFigures;
use tracing::warn;

use self::inbox::{Given, Inbox};
use self::kernel::Kernel;
pub use self::kernel::{KernelPath, KernelWay, PacketEnds};
use self::worker::Worker;
use crate::clocks;
use crate::mandate::Mandate;
use crate::tally::{Tallies, Tally};

/// How media are relayed, as far as packets are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayRules {
    /// What shards go by; `None`: no call that begins is relayed.
    pub settings: Option<Arc<RelaySettings>>,
    /// How a side's place is found.
    pub policy: Policy,
    /// A stream of which nothing has come for so long is told as silent.
    pub silence: Duration,
    /// The class of packets, from 0 to 63 (RFC 2474); 46 is expedited forwarding.
    pub dscp: u8,
    /// The rtpengines that calls go by in the place of this relay, if its settings say so.
    pub rtpengines: Vec<media::ng::Node>,
    /// Whether the kernel is to send on what it can.
    pub fast_path: bool,
}

impl Default for RelayRules {
    fn default() -> Self {
        Self {
            settings: None,
            policy: Policy::default(),
            silence: Duration::from_secs(60),
            dscp: 46,
            rtpengines: Vec::new(),
            fast_path: true,
        }
    }
}

/// How each stream does, as it was told last.
pub(crate) type Board = BTreeMap<(SessionName, StreamId), StreamFigures>;

/// The streams of one session, in the order of its description's lines.
pub(crate) fn of_session(board: &Board, session: SessionName) -> impl Iterator<Item = StreamFigures> + '_ {
    let named = |dialog, number| (session, StreamId { dialog: Tag(dialog), line: number, pair: number });
    board.range(named(0, 0)..=named(u64::MAX, u16::MAX)).map(|(_, figures)| *figures)
}

/// Takes an event to the shard with this number.
pub(crate) type Tell = Arc<dyn Fn(u16, RelayEvent) + Send + Sync>;

/// All workers. They end when this is stopped.
pub(crate) struct Relay {
    desks: Vec<Arc<Desk>>,
    tallies: Arc<Tallies>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Why the kernel can not send on anything, if it can not.
    no_kernel: Option<String>,
    is_on: AtomicBool,
    in_kernel: Arc<AtomicUsize>,
}

/// Who sends packets on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayPath {
    /// Streams that the kernel sends on, each direction apart.
    pub in_kernel: usize,
    /// Why the kernel sends on none; `None`: it does what it can.
    pub why_not: Option<String>,
}

/// What one worker shares with the other threads.
pub(crate) struct Desk {
    inbox: Inbox,
    board: Mutex<Board>,
}

impl Relay {
    /// Starts `count` workers.
    pub(crate) fn start(
        count: usize,
        rules: &RelayRules,
        mandate: &Arc<Mandate>,
        tallies: &Arc<Tallies>,
        tell: &Tell,
        kernel: Result<Arc<dyn KernelPath>, String>,
    ) -> io::Result<Self> {
        let in_kernel = Arc::new(AtomicUsize::new(0));
        let no_kernel = kernel.as_ref().err().cloned();
        let path = kernel.ok();
        let (mut desks, mut threads) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for number in 0..count {
            let desk = Arc::new(Desk { inbox: Inbox::new(clocks::instant())?, board: Mutex::default() });
            let worker = Worker::new(
                Arc::clone(&desk),
                rules.clone(),
                Arc::clone(mandate),
                Arc::clone(tallies),
                Arc::clone(tell),
                Kernel::new(path.clone(), rules.fast_path, Arc::clone(tallies), Arc::clone(&in_kernel)),
            )?;
            let builder = std::thread::Builder::new().name(format!("net-relay-{number}"));
            threads.push(builder.spawn(move || worker.run())?);
            desks.push(desk);
        }
        Ok(Self {
            desks,
            tallies: Arc::clone(tallies),
            threads: Mutex::new(threads),
            no_kernel,
            is_on: AtomicBool::new(rules.fast_path),
            in_kernel,
        })
    }

    /// Hands an order of a shard over. `since` is the epoch under which the node became active that gave it; `None`: it
    /// stands by.
    pub(crate) fn order(&self, shard: u16, since: Option<Epoch>, order: RelayOrder) {
        let desk = &self.desks[order.session.as_u64() as usize % self.desks.len()];
        if desk.inbox.put(Given::Order { shard, since, order: Box::new(order) }).is_err() {
            self.tallies.add(Tally::RelayOrderLost);
        }
    }

    /// Hands over what a shard orders, see [`Self::order`]. To be called with its lock.
    pub(crate) fn take_orders(&self, number: u16, since: Option<Epoch>, shard: &mut Shard) {
        let mut orders = Vec::new();
        shard.take_relay_orders(&mut orders);
        for order in orders {
            self.order(number, since, order);
        }
    }

    /// Has these rules for what begins from now on.
    pub(crate) fn reload(&self, rules: &RelayRules) {
        self.is_on.store(rules.fast_path, Ordering::Relaxed);
        for desk in &self.desks {
            if desk.inbox.put(Given::Rules(rules.clone())).is_err() {
                warn!("a worker of the media relay has too much to do for other rules; reload once more");
            }
        }
    }

    /// The lease may be another.
    pub(crate) fn look_at_lease(&self) {
        self.desks.iter().for_each(|desk| desk.inbox.wake());
    }

    /// Waits until each worker has sent on what was in its sockets.
    pub(crate) fn let_workers_turn(&self, deadline: Instant) {
        let (done, is_done) = mpsc::sync_channel(self.desks.len());
        for desk in &self.desks {
            if desk.inbox.put(Given::Drain(done.clone())).is_err() {
                warn!(
                    "a worker of the media relay has too much to do to empty its sockets for the hand-over"
                );
            }
        }
        drop(done);
        for _ in &self.desks {
            if let Err(mpsc::RecvTimeoutError::Timeout) =
                is_done.recv_timeout(deadline.since(clocks::instant()))
            {
                warn!("a worker of the media relay did not empty its sockets before the hand-over");
                break;
            }
        }
    }

    /// How each stream does.
    pub(crate) fn figures(&self) -> Board {
        let mut all = Board::new();
        for desk in &self.desks {
            all.extend(desk.board().iter());
        }
        all
    }

    /// Who sends packets on.
    pub(crate) fn path(&self) -> RelayPath {
        let is_off = !self.is_on.load(Ordering::Relaxed);
        let why_not = is_off.then(|| "it is off in the configuration".to_owned());
        RelayPath {
            in_kernel: self.in_kernel.load(Ordering::Relaxed),
            why_not: why_not.or_else(|| self.no_kernel.clone()),
        }
    }

    /// How long the worker was silent that was silent longest.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        self.desks.iter().map(|desk| desk.inbox.silent_for(now)).max().unwrap_or_default()
    }

    /// Ends all workers and closes their sockets.
    pub(crate) fn stop(&self) {
        self.desks.iter().for_each(|desk| desk.inbox.stop());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                warn!("a worker of the media relay had panicked");
            }
        }
    }
}

impl Desk {
    fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

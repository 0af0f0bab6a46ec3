//! How other threads reach a worker of the relay.
//!
//! Invariant: what ends something finds room always. There is never more of it than was begun, and what begins something
//! finds room only below a limit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clock::Instant;
use engine::RelayOrder;
use lease::Epoch;
use media::offer_answer::Output;
use rustix::event::{EventfdFlags, eventfd};

use super::RelayRules;

/// What waits for one worker: a takeover of some thousand calls at once.
const WAITING_MAX: usize = 100_000;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Given {
    /// A shard wants something.
    Order {
        /// Which.
        shard: u16,
        /// Under which epoch the node became active that wants it.
        since: Option<Epoch>,
        /// What; apart, because a stream's plan is long.
        order: Box<RelayOrder>,
    },
    /// Other rules.
    Rules(RelayRules),
    /// Somebody waits until the sockets are empty.
    Drain(SyncSender<()>),
}

/// There is too much already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Inbox {
    event: OwnedFd,
    waiting: Mutex<Vec<Given>>,
    is_to_stop: AtomicBool,
    heartbeat: AtomicU64,
}

impl Inbox {
    pub(super) fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            waiting: Mutex::default(),
            is_to_stop: AtomicBool::new(false),
            heartbeat: AtomicU64::new(now.as_nanos()),
        })
    }

    /// Leaves something and wakes the worker.
    pub(super) fn put(&self, given: Given) -> Result<(), Full> {
        let was_empty = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX && !given.ends_something() {
                return Err(Full);
            }
            waiting.push(given);
            waiting.len() == 1
        };
        if was_empty {
            self.wake();
        }
        Ok(())
    }

    /// Takes all that was left, oldest first.
    pub(super) fn take(&self, into: &mut Vec<Given>) {
        let mut counter = [0; 8];
        // It fails only if the counter is zero, which is what is wanted.
        let _ = rustix::io::read(&self.event, &mut counter);
        into.append(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn stop(&self) {
        self.is_to_stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn is_to_stop(&self) -> bool {
        self.is_to_stop.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        // It fails only if the counter is full, and then the worker is woken anyway.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// What the worker waits for together with its sockets.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// The worker is awake.
    pub(super) fn beat(&self, now: Instant) {
        self.heartbeat.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.since(Instant::from_nanos(self.heartbeat.load(Ordering::Relaxed)))
    }
}

impl Given {
    fn ends_something(&self) -> bool {
        matches!(self, Self::Order { order, .. } if matches!(order.output, Output::End(_) | Output::Unbind(..)))
    }
}

#[cfg(test)]
mod tests {
    use media::offer_answer::{Face, Faces, Side};
    use media::ports::Ports;

    use super::*;

    #[test]
    fn an_end_finds_room_where_a_beginning_finds_none() {
        let inbox = Inbox::new(Instant::START).expect("a descriptor");
        let ports = Ports::new(30_000, 1).expect("a pair");
        for _ in 0..WAITING_MAX {
            inbox.put(order(Output::Bind(Side::Caller, ports))).expect("there is room");
        }

        assert_eq!(inbox.put(order(Output::Bind(Side::Caller, ports))), Err(Full));
        assert_eq!(inbox.put(order(Output::Unbind(Side::Caller, ports))), Ok(()));
        let mut taken = Vec::new();
        inbox.take(&mut taken);
        assert_eq!(taken.len(), WAITING_MAX + 1);
    }

    fn order(output: Output) -> Given {
        let address = std::net::Ipv4Addr::LOCALHOST.into();
        let face = Face { local: address, named: address };
        let faces = Faces { caller: face, callee: face };
        let session = engine::SessionName::from_u64(1);
        Given::Order { shard: 0, since: None, order: Box::new(RelayOrder { session, faces, output }) }
    }
}

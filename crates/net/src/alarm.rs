//! How other threads reach an event loop: they wake it, and leave events in its inbox.
//!
//! A loop sleeps until the first deadline of the machines that it owns. Another thread that uses one of them
//! may bring an earlier deadline. It wakes the loop only if the loop would sleep past it: both sides write
//! first and read then, the loop `asleep_until` and the machine's deadline, the other thread the
//! deadline and `asleep_until`, so at least one of the two sees the other's value.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use engine::{Loaded, RelayEvent};
use media::ng::Answer;
use replica::Ticket;
use routing::{Answer as RoutingAnswer, Token};
use rustix::event::{EventfdFlags, eventfd};
use sip::Aor;
use transaction::ClientKey;
use transport::selection::Records;
use transport::{ConnectionId, Flow};

use crate::resolver::Waiter as ResolverWaiter;
use crate::rtpengine::Waiter;

/// What other threads tell an event loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// The store answered.
    Loaded { partition: u16, aor: Aor, loaded: Loaded },
    /// The resolver answered.
    Resolved { waiter: ResolverWaiter, records: Records },
    /// A message that was taken over could not be sent.
    SendFailed { shard: u16, key: ClientKey },
    /// A datagram was refused, which began like this.
    Refused { shard: u16, flow: Flow, quote: Bytes },
    /// A worker of the media relay has seen something.
    Relayed { shard: u16, event: RelayEvent },
    /// An rtpengine has answered what a shard has asked, or none has.
    RelayAnswered(Box<Answer<Waiter>>),
    /// The answer to what a shard has asked, from another thread.
    Answered { shard: u16, token: Token, answer: Box<RoutingAnswer> },
    /// A connection is gone.
    ConnectionClosed { partition: u16, id: ConnectionId },
    /// The other node holds what answers wait for, or may not; all are of partitions of this loop.
    Settled(Vec<Ticket>),
    /// The sockets are others.
    ListenersChanged,
    /// The lease may be another.
    Look,
    /// Say so when what is in hand is done.
    Drain(SyncSender<Turned>),
    /// End.
    Stop,
}

/// What a loop has found in the sockets of the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Nothing, since it turned last.
    Empty,
    /// Something, which it has begun.
    Received,
}

/// One event loop as the other threads see it.
///
/// The inbox needs no limit of its own: each event answers something that is bounded (look-ups, queries,
/// transactions, connections, answers that are held, streams), or is the operator's, or says what a store has read of
/// accounts that it knows, some hundreds at a time.
#[derive(Debug)]
pub(crate) struct Alarm {
    event: OwnedFd,
    asleep_until: AtomicU64,
    heartbeat: AtomicU64,
    inbox: Mutex<Vec<Event>>,
}

impl Alarm {
    pub(crate) fn new(now: Instant) -> io::Result<Self> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            asleep_until: AtomicU64::new(AWAKE),
            heartbeat: AtomicU64::new(now.as_nanos()),
            inbox: Mutex::new(Vec::new()),
        })
    }

    /// What the loop waits for together with its sockets.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Leaves an event and wakes the loop.
    pub(crate) fn deliver(&self, event: Event) {
        let was_empty = {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            inbox.push(event);
            inbox.len() == 1
        };
        // Who finds the inbox filled knows that its first filler has woken the loop.
        if was_empty {
            self.wake();
        }
    }

    /// Takes all events, oldest first.
    pub(crate) fn take(&self, into: &mut Vec<Event>) {
        into.append(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes the loop if it would sleep past `due`. The deadline must be published before.
    pub(crate) fn remind(&self, due: Instant) {
        if due.as_nanos() < self.asleep_until.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// The loop is about to sleep until `until`. After this it must read its deadlines once more.
    pub(crate) fn fall_asleep(&self, until: Instant) {
        self.asleep_until.store(until.as_nanos(), Ordering::SeqCst);
    }

    /// The loop is awake and will read its deadlines before it sleeps again.
    pub(crate) fn awake(&self, now: Instant) {
        self.asleep_until.store(AWAKE, Ordering::SeqCst);
        self.heartbeat.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Empties the event counter, so that the next [`Alarm::wake`] is seen.
    pub(crate) fn silence(&self) {
        let mut counter = [0; 8];
        // It fails only if the counter is zero, which is what is wanted.
        let _ = rustix::io::read(&self.event, &mut counter);
    }

    /// How long ago the loop was last seen awake.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.since(Instant::from_nanos(self.heartbeat.load(Ordering::Relaxed)))
    }

    fn wake(&self) {
        // It fails only if the counter is full, and then the loop is woken anyway.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

/// No deadline is before it, so an awake loop is not woken.
const AWAKE: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_woken_only_if_it_would_sleep_too_long() {
        let alarm = Alarm::new(Instant::START).expect("a descriptor");

        alarm.remind(at(5));
        assert!(!is_woken(&alarm), "it is awake");

        alarm.fall_asleep(at(10));
        alarm.remind(at(10));
        assert!(!is_woken(&alarm), "it wakes in time by itself");

        alarm.remind(at(5));
        assert!(is_woken(&alarm));
    }

    #[test]
    fn events_arrive_in_order_and_wake_once() {
        let alarm = Alarm::new(Instant::START).expect("a descriptor");

        alarm.deliver(Event::ListenersChanged);
        assert!(is_woken(&alarm));
        alarm.deliver(Event::Stop);
        assert!(!is_woken(&alarm), "the inbox was not empty");

        let mut events = Vec::new();
        alarm.take(&mut events);
        assert!(matches!(events[..], [Event::ListenersChanged, Event::Stop]));
    }

    #[test]
    fn a_loop_that_stays_away_is_noticed() {
        let alarm = Alarm::new(at(1)).expect("a descriptor");
        alarm.awake(at(2));

        assert_eq!(alarm.silent_for(at(9)), Duration::from_secs(7));
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }

    fn is_woken(alarm: &Alarm) -> bool {
        let mut counter = [0; 8];
        rustix::io::read(alarm.descriptor(), &mut counter).is_ok()
    }
}

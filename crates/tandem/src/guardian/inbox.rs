//! What other threads tell the guardian's: a bounded queue that wakes an epoll loop.
//!
//! Senders wait while it is full; the receiver never waits. It does not even take the lock while another thread has it: a
//! thread of ordinary priority may be put aside by the kernel with the lock in its hand, and one of real-time priority that
//! waited for it would wait as long. Whoever has had the lock signals after that, so nothing is missed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use ::host::child::Child;
use clock::Instant;
use cluster::WriteNumber;
use cluster::guardian::Input;
use rustix::event::{EventfdFlags, eventfd};

use super::hands::Deed;
use super::hooks::HookResult;
use super::question::{Question, Reply};
use super::reload::Reloading;

/// What waits at the most: each thread has at most one thing under way, and there are a few dozen threads.
const WAITING_MAX: usize = 256;

/// How long who waits for room trusts in being woken.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What other threads have to say.
#[derive(Debug)]
pub enum Inward {
    /// An input of the pure guardian: a check's outcome, a wish, readiness.
    Cluster(Input),
    /// An operator's question.
    Question(Question, Reply),
    /// A write of the voter's record is on disk, or has failed.
    Kept(WriteNumber, bool),
    /// A hook has run.
    Hook(HookResult),
    /// A hand has done something, at this time.
    Done(Deed, Instant),
    /// The engine's process was started, or could not be.
    Started(io::Result<Child>),
    /// The configuration was read again, or has mistakes.
    Reloaded(Result<Reloading, String>),
}

/// The receiving end.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

/// The sending end; each thread has its own.
#[derive(Clone, Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The guardian's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    has_room: Condvar,
    signal: OwnedFd,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Inward>,
    has_ended: bool,
}

/// Both ends.
pub fn inbox() -> io::Result<(Sender, Inbox)> {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue { waiting: VecDeque::with_capacity(WAITING_MAX), has_ended: false }),
        has_room: Condvar::new(),
        signal: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
    });
    Ok((Sender { shared: Arc::clone(&shared) }, Inbox { shared }))
}

impl Sender {
    /// Puts something in, and waits while there is no room. Never to be called by the guardian's own thread.
    pub fn send(&self, inward: Inward) -> Result<(), Ended> {
        loop {
            let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.has_ended {
                return Err(Ended);
            }
            if queue.waiting.len() < WAITING_MAX {
                queue.waiting.push_back(inward);
                drop(queue);
                self.shared.signal();
                return Ok(());
            }
            let waited = self.shared.has_room.wait_timeout(queue, LOOK_AGAIN_AFTER);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            // The receiver may have found the lock in this hand, and nothing else will wake it.
            self.shared.signal();
        }
    }
}

impl Inbox {
    /// Takes up to `count` of what waits. If more is there, or could not be looked at, the descriptor is readable again.
    pub fn take(&self, count: usize, into: &mut Vec<Inward>) {
        // Nothing to read is what another call has read.
        let _ = rustix::io::read(&self.shared.signal, &mut [0; 8]);
        let mut queue = match self.shared.queue.try_lock() {
            Ok(queue) => queue,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Who has the lock signals when it has let go.
            Err(TryLockError::WouldBlock) => return,
        };
        let taken = count.min(queue.waiting.len());
        into.extend(queue.waiting.drain(..taken));
        let is_more = !queue.waiting.is_empty();
        drop(queue);
        if taken > 0 {
            self.shared.has_room.notify_all();
        }
        if is_more {
            self.shared.signal();
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.signal.as_fd()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.has_ended = true;
        queue.waiting.clear();
        drop(queue);
        self.shared.has_room.notify_all();
    }
}

impl Shared {
    fn signal(&self) {
        // It fails only when it is at its highest count, and then it is readable.
        let _ = rustix::io::write(&self.signal, &1_u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_order_and_wakes_the_loop() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        assert!(!is_readable(&inbox));

        for number in 0..3 {
            sender.send(kept(number)).expect("the inbox is there");
        }
        assert!(is_readable(&inbox));

        assert_eq!(numbers(&inbox, 10), [0, 1, 2]);
        assert!(!is_readable(&inbox));
    }

    #[test]
    fn a_turn_takes_no_more_than_it_wants_and_the_rest_wakes_the_loop_again() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        for number in 0..3 {
            sender.send(kept(number)).expect("the inbox is there");
        }

        assert_eq!(numbers(&inbox, 2), [0, 1]);
        assert!(is_readable(&inbox));
        assert_eq!(numbers(&inbox, 2), [2]);
    }

    #[test]
    fn a_full_inbox_makes_senders_wait_and_loses_nothing() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        let count = 3 * WAITING_MAX as u64;
        let sending = std::thread::spawn(move || {
            (0..count).try_for_each(|number| sender.send(kept(number))).expect("the inbox is there");
        });

        let mut taken = Vec::new();
        while taken.len() < count as usize {
            wait_until_readable(&inbox);
            taken.extend(numbers(&inbox, 100));
        }

        assert!(taken.into_iter().eq(0..count));
        sending.join().expect("it does not panic");
    }

    #[test]
    fn who_waits_for_room_is_told_of_the_end() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        for number in 0..WAITING_MAX as u64 {
            sender.send(kept(number)).expect("the inbox is there");
        }
        let waiting = std::thread::spawn(move || sender.send(kept(0)));

        drop(inbox);

        assert_eq!(waiting.join().expect("it does not panic"), Err(Ended));
    }

    #[test]
    fn a_lock_in_the_hand_of_a_sender_holds_nobody_up() {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        sender.send(kept(1)).expect("the inbox is there");

        let in_hand = sender.shared.queue.lock().expect("nobody panicked");
        assert_eq!(numbers(&inbox, 10), [] as [u64; 0]);
        drop(in_hand);
        sender.send(kept(2)).expect("the inbox is there");

        assert!(is_readable(&inbox));
        assert_eq!(numbers(&inbox, 10), [1, 2]);
    }

    fn kept(number: u64) -> Inward {
        Inward::Kept(WriteNumber(number), true)
    }

    fn numbers(inbox: &Inbox, count: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        inbox.take(count, &mut taken);
        taken
            .into_iter()
            .map(|inward| match inward {
                Inward::Kept(WriteNumber(number), true) => number,
                other => unreachable!("{other:?} was not put in"),
            })
            .collect()
    }

    fn is_readable(inbox: &Inbox) -> bool {
        let mut wanted = [PollFd::new(inbox, PollFlags::IN)];
        poll(&mut wanted, Some(&Timespec::default())).expect("it can be polled") > 0
    }

    fn wait_until_readable(inbox: &Inbox) {
        poll(&mut [PollFd::new(inbox, PollFlags::IN)], None).expect("it can be polled");
    }
}

//! What a thread that waits for nobody gives to another one: a bounded queue, and the thread that takes from it.
//!
//! The guardian's thread has real-time priority, and a lock in the hand of an ordinary thread could hold it up for as long
//! as the host is busy. A channel of the standard library locks nothing but the list of those who wait in it, and so nobody
//! waits in it: who takes sleeps by itself, and is woken. What is in the queue is counted beside it, so that it always has
//! a free place and nobody waits for one to become free.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{JoinHandle, Thread};

use crate::small_thread;

/// The giving end. When the last one is dropped the other end is told.
#[derive(Debug)]
pub struct Outbox<T> {
    /// Before `taker`: who is woken finds that nobody gives any more.
    things: SyncSender<T>,
    taker: Taker,
    count: Arc<AtomicUsize>,
    max: usize,
}

/// The taking end, for one thread.
#[derive(Debug)]
pub struct Taking<T> {
    things: Receiver<T>,
    count: Arc<AtomicUsize>,
}

/// There is no room, or nobody takes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTaken;

/// Nobody gives any more, and everything was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

/// Starts a thread that is given things, of which `max` may wait.
pub fn start<T: Send + 'static>(
    name: &str,
    max: usize,
    run: impl FnOnce(Taking<T>) + Send + 'static,
) -> io::Result<(Outbox<T>, JoinHandle<()>)> {
    let (giving, things) = sync_channel(max.saturating_add(1));
    let count = Arc::new(AtomicUsize::new(0));
    let taking = Taking { things, count: Arc::clone(&count) };
    let thread = small_thread::spawn(name, move || run(taking))?;
    Ok((Outbox { things: giving, taker: Taker(thread.thread().clone()), count, max }, thread))
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        let Self { things, taker, count, max } = self;
        Self { things: things.clone(), taker: taker.clone(), count: Arc::clone(count), max: *max }
    }
}

impl<T> Outbox<T> {
    /// Gives something. It never waits.
    pub fn give(&self, thing: T) -> Result<(), NotTaken> {
        if self.count.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return Err(NotTaken);
        }
        // It fails only when nobody takes any more.
        self.things.try_send(thing).map_err(|_| NotTaken)?;
        self.taker.wake();
        Ok(())
    }
}

impl<T> Taking<T> {
    /// The next thing, which is waited for.
    pub fn next(&self) -> Result<T, Ended> {
        loop {
            if let Some(thing) = self.next_now()? {
                return Ok(thing);
            }
            // What was given since the look has woken this thread already, and then it does not sleep.
            std::thread::park();
        }
    }

    /// The next thing, if one waits.
    pub fn next_now(&self) -> Result<Option<T>, Ended> {
        match self.things.try_recv() {
            Ok(thing) => {
                self.count.fetch_sub(1, Ordering::AcqRel);
                Ok(Some(thing))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Ended),
        }
    }
}

/// The thread that takes. It is woken when this is dropped too.
#[derive(Clone, Debug)]
struct Taker(Thread);

impl Taker {
    fn wake(&self) {
        self.0.unpark();
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_given_is_taken_in_order_until_nobody_gives_any_more() {
        let (results, taken) = channel();
        let (outbox, thread) = start("taker", 8, move |taking: Taking<u32>| {
            while let Ok(number) = taking.next() {
                results.send(number).expect("the test listens");
            }
        })
        .expect("a thread can be started");

        let other = outbox.clone();
        for number in 0..100 {
            // One after the other, so that the thread has gone to sleep before many of them.
            outbox.give(number).expect("there is room");
            assert_eq!(taken.recv(), Ok(number));
        }
        drop(outbox);
        other.give(100).expect("there is room");
        drop(other);

        assert_eq!(taken.recv(), Ok(100));
        thread.join().expect("it ends");
    }

    #[test]
    fn who_does_not_take_holds_nobody_up_and_has_what_there_was_room_for() {
        let (go, gone) = channel::<()>();
        let (results, taken) = channel();
        let (outbox, thread) = start("taker", 3, move |taking: Taking<u32>| {
            let _ = gone.recv();
            while let Ok(number) = taking.next() {
                results.send(number).expect("the test listens");
            }
        })
        .expect("a thread can be started");

        let given: Vec<bool> = (0..5).map(|number| outbox.give(number).is_ok()).collect();
        assert_eq!(given, [true, true, true, false, false]);
        drop(go);
        assert_eq!(taken.iter().take(3).collect::<Vec<u32>>(), [0, 1, 2]);
        // The last one is taken when it is told, and its place is free.
        while outbox.give(5).is_err() {
            std::thread::yield_now();
        }
        assert_eq!(taken.recv(), Ok(5));
        drop(outbox);
        thread.join().expect("it ends");
    }

    #[test]
    fn a_thread_that_has_ended_takes_nothing() {
        let (outbox, thread) = start("taker", 3, |taking: Taking<u32>| drop(taking)).expect("it starts");
        thread.join().expect("it ends");

        assert_eq!(outbox.give(1), Err(NotTaken));
    }

    #[test]
    fn many_who_give_at_once_lose_nothing() {
        let (results, taken) = channel();
        let (outbox, thread) = start("taker", 4, move |taking: Taking<u32>| {
            let mut count = 0;
            while taking.next().is_ok() {
                count += 1;
            }
            results.send(count).expect("the test listens");
        })
        .expect("a thread can be started");

        let givers: Vec<JoinHandle<u32>> = (0..4)
            .map(|_| {
                let outbox = outbox.clone();
                std::thread::spawn(move || {
                    (0..1_000).filter(|number| outbox.give(*number).is_ok()).count() as u32
                })
            })
            .collect();
        let given: u32 = givers.into_iter().map(|giver| giver.join().expect("it ends")).sum();
        drop(outbox);
        thread.join().expect("it ends");

        assert_eq!(taken.recv(), Ok(given));
    }
}

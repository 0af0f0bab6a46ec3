//! What waits to be written to one connection.
//!
//! A peer that reads too slowly fills its own queue and nobody else's: a full queue refuses, and who sent the
//! message is told. Nothing that sends ever waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::carrier::Sender;

/// Messages that wait for one peer: more than a proxy or a trunk leaves unread while it lives.
const MESSAGES_MAX: usize = 1_024;
/// Bytes that wait for one peer; as many again may be in the kernel.
const BYTES_MAX: usize = 1 << 20;

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unqueued {
    /// The peer reads too slowly.
    Full,
    /// The connection ends.
    Closed,
}

#[derive(Debug, Default)]
pub(super) struct SendQueue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    cut: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<(Bytes, Option<Sender>)>,
    bytes: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// What waits is still written, and nothing is added.
    Finishing,
    /// What waits is still written and then its end, and nothing is added. The connection stays until it is cut.
    HandingOver,
    /// The end is written.
    HandedOver,
    /// Nothing is written.
    Closed,
    /// The connection goes without a word to its peer.
    Cut,
}

impl SendQueue {
    pub(super) fn push(&self, message: Bytes, of: Option<Sender>) -> Result<(), Unqueued> {
        let mut waiting = self.lock();
        if waiting.phase != Phase::Open {
            return Err(Unqueued::Closed);
        }
        if waiting.messages.len() >= MESSAGES_MAX || waiting.bytes + message.len() > BYTES_MAX {
            return Err(Unqueued::Full);
        }
        waiting.bytes += message.len();
        waiting.messages.push_back((message, of));
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest message, as soon as there is one; `None` when the connection is to end. It stays in the queue until
    /// [`SendQueue::written`], so that its sender is told if it could not be written.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let waiting = self.lock();
                match (waiting.phase, waiting.messages.front()) {
                    (Phase::Closed | Phase::Cut | Phase::HandedOver, _)
                    | (Phase::Finishing | Phase::HandingOver, None) => return None,
                    (_, Some((message, _))) => return Some(message.clone()),
                    (Phase::Open, None) => {}
                }
            }
            self.changed.notified().await;
        }
    }

    /// The oldest message is written.
    pub(super) fn written(&self) {
        let mut waiting = self.lock();
        if let Some((message, _)) = waiting.messages.pop_front() {
            waiting.bytes -= message.len();
        }
    }

    /// Takes nothing more; what waits is still written.
    pub(super) fn finish(&self) {
        let mut waiting = self.lock();
        if waiting.phase == Phase::Open {
            waiting.phase = Phase::Finishing;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Takes nothing more; what waits is still written, then the peer is told that nothing follows, and the connection stays
    /// until [`Self::cut`].
    pub(super) fn hand_over(&self) {
        let mut waiting = self.lock();
        if waiting.phase == Phase::Open {
            waiting.phase = Phase::HandingOver;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// The peer was told that nothing follows. Whether the connection stays until it is cut.
    pub(super) fn ended(&self) -> bool {
        let mut waiting = self.lock();
        if waiting.phase == Phase::HandingOver {
            waiting.phase = Phase::HandedOver;
        }
        waiting.phase == Phase::HandedOver
    }

    /// Whether [`Self::hand_over`] has still something to write.
    pub(super) fn is_handing_over(&self) -> bool {
        self.lock().phase == Phase::HandingOver
    }

    /// Takes nothing more and writes nothing more.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        if waiting.phase != Phase::Cut {
            waiting.phase = Phase::Closed;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// As [`Self::close`], and the peer is not told. Returns how many messages will not be written.
    pub(super) fn cut(&self) -> usize {
        let mut waiting = self.lock();
        let before = std::mem::replace(&mut waiting.phase, Phase::Cut);
        let count = if before == Phase::Cut { 0 } else { waiting.messages.len() };
        drop(waiting);
        self.changed.notify_one();
        self.cut.notify_one();
        count
    }

    /// Waits for [`Self::cut`].
    pub(super) async fn is_cut(&self) {
        while self.lock().phase != Phase::Cut {
            self.cut.notified().await;
        }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    /// Closes the queue for good. Returns who wants to know that their message was not written.
    pub(super) fn abandon(&self) -> Vec<Sender> {
        let mut waiting = self.lock();
        if waiting.phase != Phase::Cut {
            waiting.phase = Phase::Closed;
        }
        waiting.bytes = 0;
        waiting.messages.drain(..).filter_map(|(_, of)| of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_leave_in_their_order() {
        let queue = SendQueue::default();
        queue.push(Bytes::from_static(b"one"), None).expect("room");
        queue.push(Bytes::from_static(b"two"), None).expect("room");

        assert_eq!(next(&queue).as_deref(), Some(&b"one"[..]));
        queue.written();
        assert_eq!(next(&queue).as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn a_full_queue_refuses_by_number() {
        let queue = SendQueue::default();
        for _ in 0..MESSAGES_MAX {
            queue.push(Bytes::from_static(b"x"), None).expect("room");
        }

        assert_eq!(queue.push(Bytes::from_static(b"x"), None), Err(Unqueued::Full));
        queue.written();
        assert_eq!(queue.push(Bytes::from_static(b"x"), None), Ok(()));
    }

    #[test]
    fn a_full_queue_refuses_by_size() {
        let queue = SendQueue::default();
        queue.push(Bytes::from(vec![0; BYTES_MAX]), None).expect("room");

        assert_eq!(queue.push(Bytes::from_static(b"x"), None), Err(Unqueued::Full));
        queue.written();
        assert_eq!(queue.push(Bytes::from_static(b"x"), None), Ok(()));
    }

    #[test]
    fn a_finishing_queue_writes_what_waits_and_then_ends() {
        let queue = SendQueue::default();
        queue.push(Bytes::from_static(b"last"), None).expect("room");
        queue.finish();

        assert_eq!(queue.push(Bytes::from_static(b"late"), None), Err(Unqueued::Closed));
        assert_eq!(next(&queue).as_deref(), Some(&b"last"[..]));
        queue.written();
        assert_eq!(next(&queue), None);
    }

    #[test]
    fn a_queue_that_is_handed_over_writes_what_waits_and_then_its_end() {
        let queue = SendQueue::default();
        queue.push(Bytes::from_static(b"last"), None).expect("room");
        queue.hand_over();

        assert_eq!(queue.push(Bytes::from_static(b"late"), None), Err(Unqueued::Closed));
        assert_eq!(next(&queue).as_deref(), Some(&b"last"[..]));
        queue.written();
        assert_eq!(next(&queue), None);
        assert!(queue.is_handing_over(), "its end is not written");
        assert!(queue.ended() && !queue.is_handing_over());
        queue.cut();
        assert!(!queue.ended(), "it does not stay");
    }

    #[test]
    fn a_closed_queue_writes_nothing() {
        let queue = SendQueue::default();
        queue.push(Bytes::from_static(b"never"), None).expect("room");
        queue.close();

        assert_eq!(next(&queue), None);
    }

    #[test]
    fn a_queue_that_is_cut_writes_nothing_and_says_once_what_was_lost() {
        let queue = SendQueue::default();
        queue.push(Bytes::from_static(b"never"), None).expect("room");
        queue.finish();

        assert_eq!((queue.cut(), queue.cut()), (1, 0));
        queue.close();

        assert_eq!(next(&queue), None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(queue.is_cut());
        assert_eq!(queue.push(Bytes::from_static(b"late"), None), Err(Unqueued::Closed));
    }

    fn next(queue: &SendQueue) -> Option<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(queue.next())
    }
}

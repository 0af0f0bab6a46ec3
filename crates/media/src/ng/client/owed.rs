//! The ends of calls that their rtpengines have not heard, and which are said again.
//!
//! Invariant: an end is owed to the rtpengine that it was said to. Once a call is offered there again its end is not owed any
//! more: it would end the call that goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;

use super::Ask;
use crate::ng::command::Command;

/// Ends that are owed: the calls of one rtpengine that was away for seconds.
const OWED_MAX: usize = 16_384;
/// How long after it was not heard the end of a call is said again.
const OWED_EVERY: Duration = Duration::from_secs(5);
/// For so long it is said again. By default rtpengine lets a call go itself after a minute without packets.
const OWED_TIME_MAX: Duration = Duration::from_secs(60);

/// All that are owed.
#[derive(Clone, Debug)]
pub(super) struct OwedEnds<W> {
    next: u64,
    /// By their numbers, and so by when they are said again.
    ends: BTreeMap<u64, (Instant, Ask<W>)>,
    /// Those that end all of a call.
    by_call: BTreeMap<Bytes, Vec<u64>>,
    /// Until when those of a session are said again; also of one that is just being said.
    until: BTreeMap<u64, Instant>,
}

impl<W> OwedEnds<W> {
    /// Nothing is owed.
    pub(super) fn new() -> Self {
        Self { next: 0, ends: BTreeMap::new(), by_call: BTreeMap::new(), until: BTreeMap::new() }
    }

    /// Notes one that was not heard; gives it back if it is not said any more.
    pub(super) fn owe(&mut self, now: Instant, ask: Ask<W>) -> Option<Ask<W>> {
        let until = *self.until.entry(ask.session).or_insert(now + OWED_TIME_MAX);
        if now >= until || self.ends.len() >= OWED_MAX {
            self.until.remove(&ask.session);
            return Some(ask);
        }
        self.next += 1;
        if let Some(call_id) = ask.command.ended_call() {
            self.by_call.entry(call_id.clone()).or_default().push(self.next);
        }
        self.ends.insert(self.next, (now + OWED_EVERY, ask));
        None
    }

    /// Takes the next one that is to be said again.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Ask<W>> {
        let first = self.ends.first_entry().filter(|first| first.get().0 <= now)?;
        let (number, (_, ask)) = first.remove_entry();
        if let Some(call_id) = ask.command.ended_call()
            && let Some(numbers) = self.by_call.get_mut(call_id)
        {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.by_call.remove(call_id);
            }
        }
        Some(ask)
    }

    /// The end of a session was heard.
    pub(super) fn heard(&mut self, session: u64) {
        self.until.remove(&session);
    }

    /// A call is offered to this rtpengine, and lives there.
    pub(super) fn forgive(&mut self, offer: &Command, node: SocketAddr) {
        let Command::Offer(described) = offer else { return };
        let Some(numbers) = self.by_call.get_mut(&described.call_id) else { return };
        let Self { ends, until, .. } = self;
        numbers.retain(|number| {
            let is_elsewhere = ends.get(number).is_some_and(|(_, ask)| ask.node != Some(node));
            if !is_elsewhere && let Some((_, ask)) = ends.remove(number) {
                until.remove(&ask.session);
            }
            is_elsewhere
        });
        if numbers.is_empty() {
            self.by_call.remove(&described.call_id);
        }
    }

    /// When the next one is said again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.first_key_value().map(|(_, (at, _))| *at)
    }

    /// How many are owed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether nothing is kept.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.by_call.is_empty() && self.until.is_empty()
    }
}

//! Making the standby equal: bucket by bucket, what it has is compared with what this node has.
//!
//! Its memory is bounded by the list of one part of one bucket and one piece of entries; the entries themselves are asked
//! of their owners. What changes meanwhile is sent by the stream as it happens, and a list that is older than such a change
//! costs at most that an entry is sent twice.

use std::collections::VecDeque;

use clock::Instant;

use super::{Fetched, Wanted};
use crate::capsule::{Kind, Name};
use crate::digest::span_of;
use crate::fault::{self, Fault};
use crate::frame::{Ask, LIST_MAX, List};
use crate::holdings::Holdings;

/// Entries that are asked of their owners at a time: what leaves at once stays far below a millisecond of the link.
const PIECE_MAX: usize = 64;

/// Some hashes of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    kind: Kind,
    first: u64,
    last: u64,
    /// Our entries in it when it was found to differ.
    entries: u64,
}

/// One way through all buckets that differ.
#[derive(Debug)]
pub(super) struct Repair {
    spans: VecDeque<Span>,
    remaining: u64,
    stage: Stage,
    round: u64,
    /// When it last came on.
    pub(super) moved_at: Instant,
}

#[derive(Debug)]
enum Stage {
    /// The next span is to be asked for.
    Next,
    /// The peer is to say what it has.
    Asked(Span),
    /// Its list is compared with ours.
    Walking(Walk),
}

#[derive(Debug)]
struct Walk {
    span: Span,
    /// The list tells all up to here.
    through: u64,
    /// Our entries from here on are still to be compared; `None`: none.
    next: Option<u64>,
    theirs: VecDeque<(u64, u64)>,
    fetching: usize,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Step {
    /// Wait for the peer or for an owner.
    Wait,
    /// Ask the peer.
    Ask(Ask),
    /// The peer should not have the one, and lacks the other.
    Send { extra: Vec<Name>, wanted: Vec<Wanted> },
    /// Everything was sent.
    Done,
}

/// A list that can not be an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongList;

impl Repair {
    /// Goes through these buckets.
    pub(super) fn new(
        now: Instant,
        round: u64,
        holdings: &Holdings,
        buckets: impl Iterator<Item = (Kind, usize)>,
    ) -> Self {
        let span = |(kind, bucket)| {
            let (first, last) = span_of(bucket);
            Span { kind, first, last, entries: holdings.bucket_count(kind, bucket) }
        };
        let spans: VecDeque<Span> = buckets.map(span).collect();
        let remaining = spans.iter().map(|span| span.entries).sum();
        Self { spans, remaining, stage: Stage::Next, round, moved_at: now }
    }

    /// Entries in the buckets that are still to come.
    pub(super) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// What is to be done, as far as the peer has room.
    pub(super) fn next(&mut self, holdings: &Holdings, ready: u32) -> Step {
        loop {
            match &mut self.stage {
                Stage::Next => {
                    let Some(span) = self.spans.pop_front() else { return Step::Done };
                    return self.ask(span, ready);
                }
                Stage::Asked(_) => return Step::Wait,
                Stage::Walking(walk) if walk.fetching > 0 => return Step::Wait,
                Stage::Walking(walk) => {
                    let (extra, wanted) = walk.piece(holdings, self.round);
                    walk.fetching = wanted.len();
                    if !extra.is_empty() || !wanted.is_empty() {
                        return Step::Send { extra, wanted };
                    }
                    let Walk { span, through, .. } = *walk;
                    if through < span.last {
                        return self.ask(Span { first: through + 1, ..span }, ready);
                    }
                    self.remaining -= span.entries;
                    self.stage = Stage::Next;
                }
            }
        }
    }

    /// The peer says what it has.
    pub(super) fn handle_list(&mut self, now: Instant, list: List) -> Result<(), WrongList> {
        let Stage::Asked(span) = self.stage else { return Err(WrongList) };
        let is_answer = list.kind == u32::from(span.kind.0) && list.first == span.first;
        let is_sorted = list.hashes.is_sorted_by(|one, other| one < other);
        let is_within = list.hashes.iter().all(|hash| (list.first..=list.through).contains(hash));
        let is_whole = list.hashes.len() == list.stamps.len() && list.hashes.len() <= LIST_MAX;
        let comes_on = (span.first..=span.last).contains(&list.through);
        if !(is_answer && is_sorted && is_within && is_whole && comes_on) {
            return Err(WrongList);
        }
        self.moved_at = now;
        self.stage = Stage::Walking(Walk {
            span,
            through: list.through,
            next: Some(span.first),
            theirs: list.hashes.into_iter().zip(list.stamps).collect(),
            fetching: 0,
        });
        Ok(())
    }

    /// An owner answers; `false` if it is not waited for.
    pub(super) fn take(&mut self, now: Instant, fetched: &Fetched) -> bool {
        match &mut self.stage {
            Stage::Walking(walk) if fetched.wanted.round == self.round && walk.fetching > 0 => {
                walk.fetching -= 1;
                self.moved_at = now;
                true
            }
            _ => false,
        }
    }

    fn ask(&mut self, span: Span, ready: u32) -> Step {
        self.stage = Stage::Asked(span);
        Step::Ask(Ask { kind: span.kind.0.into(), first: span.first, last: span.last, ready })
    }
}

impl Walk {
    /// The next entries in which both differ: what the peer should not have, and what it lacks.
    fn piece(&mut self, holdings: &Holdings, round: u64) -> (Vec<Name>, Vec<Wanted>) {
        let (mut extra, mut wanted) = (Vec::new(), Vec::new());
        let name = |hash| Name { kind: self.span.kind, hash };
        let Some(next) = self.next else { return (extra, wanted) };
        let mut own = holdings.range(self.span.kind, next, self.through).peekable();
        while extra.len() < PIECE_MAX && wanted.len() < PIECE_MAX {
            let theirs = self.theirs.front().copied();
            let is_extra = match (own.peek(), theirs) {
                (None, None) => {
                    self.next = None;
                    return (extra, wanted);
                }
                (Some((hash, _)), Some((their_hash, _))) => their_hash < *hash,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if is_extra {
                self.theirs.pop_front();
                if let Some((hash, _)) = theirs.filter(|_| !fault::is_planted(Fault::ExtraKept)) {
                    extra.push(name(hash));
                }
                continue;
            }
            let Some((hash, entry)) = own.next() else { continue };
            let stamp = theirs.filter(|(their_hash, _)| *their_hash == hash).map(|(_, stamp)| stamp);
            if stamp.is_some() {
                self.theirs.pop_front();
            }
            if stamp == Some(entry.stamp) {
                continue;
            }
            match entry.place {
                Some(place) => wanted.push(Wanted { name: name(hash), place, stamp: entry.stamp, round }),
                // Nobody here has it: it must not stay with the peer either.
                None => extra.push(name(hash)),
            }
        }
        self.next =
            own.peek().map(|&(hash, _)| hash).or(Some(self.through).filter(|_| !self.theirs.is_empty()));
        (extra, wanted)
    }
}

//! How the media of calls went, for their records.
//!
//! A stream's figures come from whoever forwarded its packets a moment after the order to end it. They are added up here for
//! each call. A record does not wait for them: it leaves with what is known, or with the word that the rest follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use clock::Instant;
use media::call_figures::CallFigures;
use media::offer_answer::StreamId;
use media::stream::StreamFigures;
use routing::{CallName, CallRecord, SessionName};

use crate::records::{CallMedia, EndedMedia, RecordNews};

/// How long a stream's figures are expected. Whoever writes a record waits less.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// The figures of a shard's calls.
#[derive(Debug, Default)]
pub(super) struct MediaFigures {
    is_kept: bool,
    calls: BTreeMap<CallName, Counted>,
    /// Streams that have ended and of which nobody has told; how often each, because one may begin again.
    awaited: BTreeMap<(SessionName, StreamId), (CallName, u32)>,
    /// The same in the order in which they are given up.
    given_up: VecDeque<(Instant, (SessionName, StreamId))>,
    /// Calls of which something has ended in this step.
    touched: BTreeSet<CallName>,
    ended: Vec<(CallName, Box<CallRecord>)>,
    news: Vec<RecordNews>,
}

/// What is known of a call's media.
#[derive(Debug, Default)]
struct Counted {
    figures: Option<CallFigures>,
    /// Streams that have ended and of which nobody has told.
    awaited: u32,
    /// Whether one of them was never told of.
    has_gap: bool,
    /// When this node took the call over.
    taken_over: Option<Instant>,
    /// The record that has left, with how long after its beginning the counting began.
    record: Option<(u128, Duration)>,
}

impl MediaFigures {
    /// From here on figures are kept.
    pub(super) fn keep(&mut self) {
        self.is_kept = true;
    }

    /// This node has taken a call over that has media here: it is counted from now on.
    pub(super) fn taken_over(&mut self, now: Instant, call: CallName) {
        if self.is_kept {
            self.calls.entry(call).or_default().taken_over = Some(now);
        }
    }

    /// A session of a call has ended.
    pub(super) fn session_ended(&mut self, call: CallName) {
        if self.is_kept {
            self.touched.insert(call);
        }
    }

    /// A stream is to end: its figures will be told.
    pub(super) fn stream_ended(&mut self, now: Instant, call: CallName, name: (SessionName, StreamId)) {
        if !self.is_kept {
            return;
        }
        while let Some(&(_, name)) = self.given_up.front().filter(|(at, _)| *at <= now) {
            self.given_up.pop_front();
            self.told(name, None);
        }
        self.calls.entry(call).or_default().awaited += 1;
        self.awaited.entry(name).or_insert((call, 0)).1 += 1;
        self.given_up.push_back((now + TOLD_WITHIN, name));
    }

    /// How a stream went that has ended; `None`: nobody has said it for too long.
    pub(super) fn told(&mut self, name: (SessionName, StreamId), figures: Option<&StreamFigures>) {
        let Some((call, times)) = self.awaited.get_mut(&name) else { return };
        let call = *call;
        *times -= 1;
        if *times == 0 {
            self.awaited.remove(&name);
        }
        let Some(counted) = self.calls.get_mut(&call) else { return };
        counted.awaited = counted.awaited.saturating_sub(1);
        match figures {
            Some(figures) => counted.figures.get_or_insert_default().add(figures),
            None => counted.has_gap = true,
        }
        if counted.awaited == 0
            && let Some((id, counted_after)) = counted.record.take()
        {
            self.news.push(RecordNews::Media(id, counted.take(counted_after)));
        }
        self.touched.insert(call);
    }

    /// A call has ended; in the same step its streams do.
    pub(super) fn call_ended(&mut self, call: CallName, record: Box<CallRecord>) {
        self.ended.push((call, record));
    }

    /// A step is done: what is to be written down. `has_media` says of which calls there are sessions.
    pub(super) fn after_step(
        &mut self,
        now: Instant,
        has_media: impl Fn(CallName) -> bool,
    ) -> std::vec::Drain<'_, RecordNews> {
        for (call, record) in self.ended.drain(..) {
            let media = match self.calls.get_mut(&call) {
                None => EndedMedia::Told(None),
                Some(counted) => {
                    let since = counted.taken_over.map(|at| now.since(at));
                    let after =
                        since.map_or(Duration::ZERO, |since| record.ended_after.saturating_sub(since));
                    match counted.awaited {
                        0 => EndedMedia::Told(counted.take(after)),
                        _ => {
                            counted.record = Some((record.id, after));
                            EndedMedia::Awaited
                        }
                    }
                }
            };
            self.news.push(RecordNews::Ended(record, media));
        }
        for call in std::mem::take(&mut self.touched) {
            if self.calls.get(&call).is_some_and(|counted| counted.awaited == 0) && !has_media(call) {
                self.calls.remove(&call);
            }
        }
        self.news.drain(..)
    }

    /// The node is not active any more: what was counted goes on nowhere.
    pub(super) fn stand_by(&mut self) {
        *self = Self { is_kept: self.is_kept, ..Self::default() };
    }
}

impl Counted {
    /// What has come until now, once; `None` if nothing is known, or not all.
    fn take(&mut self, counted_after: Duration) -> Option<CallMedia> {
        let figures = self.figures.take();
        let is_whole = !std::mem::take(&mut self.has_gap);
        figures.filter(|_| is_whole).map(|figures| CallMedia { counted_after, figures })
    }
}

//! Overload: what is refused while more comes than can be handled, and when that is so.
//!
//! The edge tells of each round of an event loop whether its queue was emptied ([`Queue`]). A burst is none: a queue that is
//! long and gets empty does its work. Only one that *stands*, that was not empty once for [`PATIENCE`] however much was
//! taken from it, shows that more comes than goes. Then the least important requests are refused, and as long as the
//! queue stands more of them: the share grows through the [classes](Class) from the least important one on. When the queue is
//! empty again it shrinks, slowly, because what was refused comes back.
//!
//! A refusal is one answer from the request alone, which costs a fraction of the request. What it says is drawn from a MAC of
//! the request: whether it is refused, so that the copies of one request get one answer, and when its sender may come
//! back, so that those who were refused together do not come back together. The next request of the same phone is drawn anew.
//!
//! Invariants: while no queue stands nothing is refused. Requests inside a dialog, what ends one or belongs to a request that
//! was let in, responses and emergency calls are never refused.

mod class;
#[cfg(test)]
mod scenarios;

use std::time::Duration;

use clock::Instant;
use keys::Key;
use sip::Message;
use transport::Flow;

pub use class::Class;

use crate::Keyring;
use crate::bans::{Bans, Enforcement};

/// A queue that was not empty for so long stands. Shorter than the 500 ms after which phones repeat their requests, which
/// would be more load still; longer than a full buffer of short requests takes.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same while many are expected: for so long after a takeover phones whose connections were lost come all at once.
const ALERT_PATIENCE: Duration = Duration::from_millis(40);
const ALERT: Duration = Duration::from_secs(30);
/// As long as it goes on standing the share grows so often.
const STEP_EVERY: Duration = Duration::from_millis(20);
/// One round counts for no more: a process that was not scheduled has not worked in vain.
const ROUND_MAX: Duration = Duration::from_millis(10);

/// The share that refuses all of one class.
const WHOLE: u32 = 256;
const SHARE_MAX: u32 = WHOLE * Class::REFUSABLE;
/// By how much it grows: through all classes in half a second.
const STEP: u32 = 40;
/// While the queue gets empty it shrinks by one so often: a class in two seconds.
const EASE_EVERY: Duration = Duration::from_millis(8);
/// When nothing was refused for so long it is over: a load at the limit is told of once.
const CALM: Duration = Duration::from_secs(5);

/// When those who were refused may come back, in seconds: long enough for the queue to get empty, and spread over a time
/// in which a node registers hundreds of thousands of phones.
const RETRY_AFTER_MIN: u64 = 5;
const RETRY_AFTER_SPREAD: u64 = 26;

/// What became of a queue in one round of its event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// It was emptied, or was empty.
    Drained,
    /// More was there than the round took.
    Standing,
}

/// Tells that the state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Requests are refused from here on.
    Begun,
    /// It is over.
    Ended,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is handled.
    Admit,
    /// It is refused, unless it repeats one that is in hand.
    Refuse(Rejection),
}

/// How a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For which class.
    pub class: Class,
    /// After how many seconds the sender may come back.
    pub retry_after: Option<u32>,
}

/// The overload of one queue.
#[derive(Debug)]
pub struct Overload {
    key: Key,
    share: u32,
    /// For how long the queue has been standing, since the share grew last.
    stood: Duration,
    /// For how long it has been empty, since the share shrank last.
    eased: Duration,
    looked_at: Instant,
    /// What was found then.
    found: Queue,
    alert_until: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Calm,
    /// It lasts until nothing was refused for a while after this.
    Overloaded {
        refused_until: Instant,
    },
}

impl Overload {
    /// Of an empty queue.
    pub fn new(now: Instant, keyring: &Keyring) -> Self {
        Self {
            key: keyring.overload,
            share: 0,
            stood: Duration::ZERO,
            eased: Duration::ZERO,
            looked_at: now,
            found: Queue::Drained,
            alert_until: Instant::START,
            phase: Phase::Calm,
        }
    }

    /// This node has become active.
    pub fn handle_takeover(&mut self, now: Instant) {
        self.alert_until = now + ALERT;
    }

    /// Learns what became of the queue in this round; a queue in which nothing happens is told of all the same.
    pub fn handle_queue(&mut self, now: Instant, queue: Queue, out: &mut Vec<Change>) {
        let passed = now.since(self.looked_at);
        self.looked_at = now;
        match (std::mem::replace(&mut self.found, queue), queue) {
            (Queue::Standing, Queue::Standing) => self.press(now, passed),
            // It was empty in between: what came is a burst until it is seen again.
            (Queue::Drained, Queue::Standing) => {}
            (_, Queue::Drained) => self.ease(passed),
        }
        let is_refusing = self.share > 0;
        match self.phase {
            Phase::Calm if is_refusing => {
                self.phase = Phase::Overloaded { refused_until: now };
                out.push(Change::Begun);
            }
            Phase::Overloaded { .. } if is_refusing => {
                self.phase = Phase::Overloaded { refused_until: now };
            }
            Phase::Overloaded { refused_until } if now.since(refused_until) >= CALM => {
                self.phase = Phase::Calm;
                out.push(Change::Ended);
            }
            Phase::Calm | Phase::Overloaded { .. } => {}
        }
    }

    /// Whether nothing is refused, so that nothing need be judged.
    pub fn is_quiet(&self) -> bool {
        self.share == 0
    }

    /// How much of each class is refused, in percent, the least important one first.
    pub fn refused_percent(&self) -> [u8; Class::REFUSABLE as usize] {
        std::array::from_fn(|rank| (self.refused_of(rank as u32) * 100).div_ceil(WHOLE) as u8)
    }

    /// Judges a message.
    pub fn judge(&self, now: Instant, bans: &Bans, flow: &Flow, bytes: &[u8]) -> Verdict {
        if self.is_quiet()
            || class::is_spared_at_sight(bytes)
            || bans.settings().admission.overload == Enforcement::Off
        {
            return Verdict::Admit;
        }
        // What can not be read is answered, or not, as ever: that is cheap, too.
        let Ok(request) = Message::parse(bytes) else { return Verdict::Admit };
        let class = Class::of(now, bans, flow, &request);
        let Some(rank) = class.rank() else { return Verdict::Admit };
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let draw = self.key.mac(&[request.call_id().unwrap_or_default(), &number]).short();
        if draw % u64::from(WHOLE) >= u64::from(self.refused_of(rank)) {
            return Verdict::Admit;
        }
        // RFC 3261 §21.5.4: whoever is told when to come back sends nothing else until then. That would silence all
        // calls of a carrier, so a peer is told of this one request alone.
        let is_peer = bans.settings().is_believing(flow.remote().0.ip());
        let seconds = RETRY_AFTER_MIN + draw / u64::from(WHOLE) % RETRY_AFTER_SPREAD;
        Verdict::Refuse(Rejection { class, retry_after: (!is_peer).then_some(seconds as u32) })
    }

    fn press(&mut self, now: Instant, passed: Duration) {
        self.eased = Duration::ZERO;
        self.stood += passed.min(ROUND_MAX);
        let patience = if self.share > 0 {
            STEP_EVERY
        } else if now < self.alert_until {
            ALERT_PATIENCE
        } else {
            PATIENCE
        };
        if self.stood >= patience {
            self.stood = Duration::ZERO;
            self.share = (self.share + STEP).min(SHARE_MAX);
        }
    }

    fn ease(&mut self, passed: Duration) {
        self.stood = Duration::ZERO;
        // What is over in a second is over, however long nobody looked.
        self.eased += passed.min(EASE_EVERY * SHARE_MAX);
        let steps = self.eased.as_nanos() / EASE_EVERY.as_nanos();
        self.eased -= EASE_EVERY * steps as u32;
        self.share = self.share.saturating_sub(steps as u32);
    }

    /// How much of the class with this rank is refused, of [`WHOLE`].
    fn refused_of(&self, rank: u32) -> u32 {
        self.share.saturating_sub(rank * WHOLE).min(WHOLE)
    }
}

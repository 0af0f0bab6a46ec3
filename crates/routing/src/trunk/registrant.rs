//! One registration of ours at a carrier (RFC 3261 §10.2): when a REGISTER leaves, and what its outcome means.
//!
//! It is made anew well before it ends. What fails for the moment is tried again after a time that doubles, up to
//! [`RETRY_MAX`]; what the carrier refuses for good (a wrong password, an unknown account) is tried again
//! seldom, because each attempt looks like an attack to it, and said loudly.
//!
//! All REGISTERs of an account have one Call-ID, also after a restart. So the numbers of CSeq come from the
//! calendar, with room between two of them for the answers to challenges.
//!
//! Invariant: one REGISTER is under way at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use keys::Key;
use sip::{Contacts, Message, Name, SipUri, Status};

use super::register::{self, Register};
use super::{Registration, RegistrationState, RegistrationView, Trunk};

/// The first wait after a failure; it doubles with each one that follows.
const RETRY_MIN: Duration = Duration::from_secs(8);
/// The longest wait after failures. A carrier that was away for a night is found again within this time.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// The same after refusals: carriers ban clients that go on and on.
const REFUSED_MIN: Duration = Duration::from_secs(300);
const REFUSED_MAX: Duration = Duration::from_secs(3_600);
/// A carrier's `Retry-After` is honoured up to this; a slip of its must not take us off for a day.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// A registration that is granted for longer is made anew after this time all the same.
const GRANTED_MAX: Duration = Duration::from_secs(86_400);
/// `423` in a row: a carrier that raises its wish again and again is not to be followed for ever.
const BRIEF_MAX: u8 = 3;
/// CSeq numbers of one REGISTER: itself, and one for each challenge that it answers.
const CSEQ_STRIDE: u32 = 8;
/// 2020-01-01. RFC 3261 §8.1.1.5: CSeq is less than 2^31; counted from 1970, seconds reach that in 2038.
const CSEQ_EPOCH: u64 = 1_577_836_800;

/// What became of a REGISTER.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'m, 'a> {
    /// A final response, after all challenges that could be answered.
    Answered(&'m Message<'a>),
    /// The response that silence, or a carrier that could not be reached, counts as.
    Failed(Status),
}

/// What an outcome means to everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The carrier will send calls.
    Registered,
    /// Nothing has changed.
    AsBefore,
    /// The carrier has nothing to do with us.
    Refused,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Registrant {
    trunk: Arc<Trunk>,
    registration: Registration,
    call_id: String,
    tag: String,
    /// Seconds; the carrier may have raised it.
    wish: u32,
    cseq: u32,
    turn: Turn,
    granted_until: Option<Instant>,
    is_refused: bool,
    last_answer: Option<(WallTime, String)>,
    failures: u32,
    briefs: u8,
}

/// Whether a REGISTER is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The next one leaves then.
    At(Instant),
    /// One is under way.
    UnderWay,
    /// One is under way with settings that are not in force any more.
    Outdated,
    /// It is over: the server stops.
    Over,
}

impl Registrant {
    /// One that is to register at once; `None` for an account that is not registered.
    pub(super) fn new(key: &Key, trunk: &Arc<Trunk>) -> Option<Self> {
        let registration = trunk.registration.clone()?;
        let (call_id, tag) = register::names(key, trunk, &registration);
        Some(Self {
            trunk: Arc::clone(trunk),
            wish: seconds(registration.expires),
            registration,
            call_id,
            tag,
            cseq: 0,
            turn: Turn::At(Instant::START),
            granted_until: None,
            is_refused: false,
            last_answer: None,
            failures: 0,
            briefs: 0,
        })
    }

    /// Whether it is registered by these settings.
    pub(super) fn is_of(&self, trunk: &Trunk) -> bool {
        *self.trunk == *trunk
    }

    /// The account.
    pub(super) fn trunk(&self) -> &Arc<Trunk> {
        &self.trunk
    }

    /// All its REGISTERs have it.
    pub(super) fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Goes on with what an earlier one with other settings had begun.
    pub(super) fn succeed(&mut self, before: &Self) {
        self.cseq = before.cseq;
        if matches!(before.turn, Turn::UnderWay | Turn::Outdated) {
            self.turn = Turn::Outdated;
        }
    }

    /// It is to register at once when time passes again.
    pub(super) fn stand_by(&mut self) {
        if self.turn != Turn::Over {
            self.turn = Turn::At(Instant::START);
        }
    }

    /// The REGISTER that is due.
    pub(super) fn handle_timeout(&mut self, now: Now, key: &Key) -> Option<Bytes> {
        let Turn::At(at) = self.turn else { return None };
        if at > now.instant {
            return None;
        }
        self.turn = Turn::UnderWay;
        Some(self.register(now, key, self.wish))
    }

    /// When [`Self::handle_timeout`] has something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.turn {
            Turn::At(at) => Some(at),
            Turn::UnderWay | Turn::Outdated | Turn::Over => None,
        }
    }

    /// The REGISTER that takes the registration back, if there is one.
    pub(super) fn handle_stop(&mut self, now: Now, key: &Key) -> Option<Bytes> {
        self.turn = Turn::Over;
        self.granted_until.take().map(|_| self.register(now, key, 0))
    }

    /// Takes the outcome of the REGISTER that is under way. `is_ours` tells our own Contact from others.
    pub(super) fn handle_outcome(
        &mut self,
        now: Now,
        key: &Key,
        outcome: Outcome<'_, '_>,
        is_ours: impl Fn(&SipUri<'_>) -> bool,
    ) -> Standing {
        match self.turn {
            Turn::UnderWay => {}
            Turn::Outdated => {
                self.turn = Turn::At(now.instant);
                return Standing::AsBefore;
            }
            Turn::At(_) | Turn::Over => return Standing::AsBefore,
        }
        let (status, response) = match outcome {
            Outcome::Answered(response) => (response.status().unwrap_or(Status::OK), Some(response)),
            Outcome::Failed(status) => (status, None),
        };
        self.last_answer = Some((now.wall, said(status, response)));
        match (status, response) {
            (status, Some(response)) if status.is_success() => self.registered(now, key, response, is_ours),
            (Status::INTERVAL_TOO_BRIEF, Some(response)) if self.raise_wish(response) => {
                self.turn = Turn::At(now.instant);
                Standing::AsBefore
            }
            (status, Some(_)) if is_refusal(status) => self.refused(now, key, response),
            _ => self.failed(now, key, response),
        }
    }

    /// What the operator sees.
    pub(super) fn view(&self, now: Instant) -> RegistrationView {
        let granted_for = self.granted_until.filter(|until| *until > now).map(|until| until.since(now));
        let state = match granted_for {
            _ if self.is_refused => RegistrationState::Refused,
            Some(_) if self.failures > 0 => RegistrationState::Failing,
            Some(_) => RegistrationState::Registered,
            None if self.failures > 0 => RegistrationState::Unreachable,
            None => RegistrationState::Registering,
        };
        RegistrationView {
            name: self.trunk.name.to_string(),
            address: self.registration.address.clone(),
            registrar: self.registration.registrar.clone(),
            state,
            granted_for,
            last_answer: self.last_answer.clone(),
            next_in: self.poll_timeout().map(|at| at.since(now)),
            failures: self.failures,
        }
    }

    fn register(&mut self, now: Now, key: &Key, expires: u32) -> Bytes {
        let calendar = u32::try_from(now.wall.as_secs().saturating_sub(CSEQ_EPOCH)).unwrap_or(u32::MAX / 2);
        self.cseq = self.cseq.saturating_add(CSEQ_STRIDE).max(calendar.min(u32::MAX / 2 - CSEQ_STRIDE));
        let Self { registration, call_id, tag, cseq, .. } = &*self;
        Register { registration, call_id, tag, cseq: *cseq, expires }.write(key)
    }

    fn registered(
        &mut self,
        now: Now,
        key: &Key,
        response: &Message<'_>,
        is_ours: impl Fn(&SipUri<'_>) -> bool,
    ) -> Standing {
        let granted = Duration::from_secs(u64::from(granted(response, is_ours).unwrap_or(self.wish)));
        if granted.is_zero() {
            return self.failed(now, key, None);
        }
        let granted = granted.min(GRANTED_MAX);
        if self.granted_until.is_none() || self.failures > 0 {
            let (registration, seconds) = (&self.trunk.name, granted.as_secs());
            tracing::info!(%registration, seconds, "registered at the carrier");
        }
        self.granted_until = Some(now.instant + granted);
        self.is_refused = false;
        (self.failures, self.briefs) = (0, 0);
        // Between 70 and 85 of 100: far enough from the end for several attempts, and no two accounts in step.
        self.turn = Turn::At(now.instant + granted * (700 + self.chance(key, 150)) / 1_000);
        Standing::Registered
    }

    fn failed(&mut self, now: Now, key: &Key, response: Option<&Message<'_>>) -> Standing {
        self.wait(now, key, RETRY_MIN, RETRY_MAX, response);
        let (registration, answer) = (&self.trunk.name, self.answer());
        match self.failures {
            1 => tracing::warn!(%registration, answer, "the carrier does not register us; trying again"),
            _ => tracing::debug!(%registration, answer, "the carrier does not register us; trying again"),
        }
        Standing::AsBefore
    }

    fn refused(&mut self, now: Now, key: &Key, response: Option<&Message<'_>>) -> Standing {
        self.wait(now, key, REFUSED_MIN, REFUSED_MAX, response);
        self.is_refused = true;
        self.granted_until = None;
        let (registration, answer, failures) = (&self.trunk.name, self.answer(), self.failures);
        tracing::warn!(%registration, answer, failures, "the carrier refuses our registration");
        Standing::Refused
    }

    /// Sets the time of the next attempt.
    // RFC 5626 §4.5: the upper bound doubles with each failure; the wait is between its half and all of it.
    fn wait(&mut self, now: Now, key: &Key, min: Duration, max: Duration, response: Option<&Message<'_>>) {
        let bound = min.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures = self.failures.saturating_add(1);
        let own = bound * (500 + self.chance(key, 500)) / 1_000;
        let wanted = response.and_then(retry_after).unwrap_or_default().min(RETRY_AFTER_MAX);
        self.turn = Turn::At(now.instant + own.max(wanted));
    }

    /// RFC 3261 §10.2.8: a registrar that wants more than was wished.
    fn raise_wish(&mut self, response: &Message<'_>) -> bool {
        let min = response.header(Name::MinExpires).and_then(number);
        match min {
            Some(min)
                if min > self.wish && u64::from(min) <= GRANTED_MAX.as_secs() && self.briefs < BRIEF_MAX =>
            {
                self.briefs += 1;
                self.wish = min;
                true
            }
            _ => false,
        }
    }

    fn answer(&self) -> &str {
        self.last_answer.as_ref().map_or("", |(_, answer)| answer)
    }

    /// A number below `limit` that differs from one REGISTER to the next.
    fn chance(&self, key: &Key, limit: u32) -> u32 {
        let mac = key.mac(&[b"chance", self.call_id.as_bytes(), &self.cseq.to_be_bytes()]);
        (mac.short() % u64::from(limit.max(1))) as u32
    }
}

/// Whether a status says that the same request will not do better soon. Challenges get here only when they can not be
/// answered, or the answer was wrong.
fn is_refusal(status: Status) -> bool {
    match status {
        Status::REQUEST_TIMEOUT | Status::TEMPORARILY_UNAVAILABLE | Status::REQUEST_PENDING => false,
        status => matches!(status.class(), 3 | 4 | 6),
    }
}

/// How long the registrar grants our Contact.
// RFC 3261 §10.2.4: each Contact of the response says for how long; what stands in Expires is for those that do not.
fn granted(response: &Message<'_>, is_ours: impl Fn(&SipUri<'_>) -> bool) -> Option<u32> {
    let mut found = None;
    if let Ok(Contacts::List(contacts)) = response.contacts() {
        for contact in contacts {
            if contact.uri().is_ok_and(|uri| uri.as_sip().is_some_and(&is_ours)) {
                found = found.max(contact.expires());
            }
        }
    }
    found.or(response.expires())
}

// RFC 3261 §20.33: seconds, perhaps with a comment or a parameter behind them.
fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let value = response.header(Name::RetryAfter)?;
    number(value.split(|byte| !byte.is_ascii_digit()).next()?)
        .map(|seconds| Duration::from_secs(seconds.into()))
}

fn number(text: &[u8]) -> Option<u32> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// An answer in words: the status with the usual phrase, because the carrier's own could say anything.
fn said(status: Status, response: Option<&Message<'_>>) -> String {
    match response {
        Some(_) => format!("{} {}", status.0, status.reason_phrase()),
        None if status == Status::REQUEST_TIMEOUT => "no answer".to_owned(),
        None => "not reachable".to_owned(),
    }
}

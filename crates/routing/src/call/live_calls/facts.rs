//! What the record of a call needs beside what the call is kept for.
//!
//! It is found out when the INVITE is admitted, so that a node that knows of the call alone can write the whole record. What
//! is told to another node is how much time has passed, and that time goes on there.

use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use sip::limits::TAG_BYTES_MAX;
use sip::{Aor, Message, NameAddr, Status};
use transaction::ServerKey;

use super::super::Output;
use super::super::inbound::{Inbound, Sender};
use super::super::response_context::ResponseContext;
use super::super::user::TransactionUser;
use super::LiveCall;
use crate::account::Unreadable;
use crate::{CallEnding, CallName, CallRecord, Right};

/// The longest text that is kept for a record; what is longer is cut.
const TEXT_BYTES_MAX: usize = 512;
/// Such a time is a mistake, and must not overflow a clock.
const PASSED_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What is known of a call since its INVITE came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Facts {
    id: u128,
    age: Age,
    from_tag: Box<[u8]>,
    call_id: Box<[u8]>,
    caller: Box<[u8]>,
    callee: Box<[u8]>,
    request_uri: Box<[u8]>,
    right: Right,
    account: Option<Box<[u8]>>,
    source: Box<[u8]>,
    gateway_in: Option<Box<[u8]>>,
    answer: Option<Answer>,
}

/// The first 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    after: Duration,
    tag: Box<[u8]>,
    status: Status,
    gateway: Option<Box<[u8]>>,
}

/// How old a call is, by a clock that nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Age {
    /// Of that so much had passed already...
    before: Duration,
    /// ...at this time.
    at: Instant,
}

/// The final response to an INVITE that nobody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Failed {
    pub(in crate::call) ending: CallEnding,
    pub(in crate::call) status: Status,
    /// `None`: the usual one.
    pub(in crate::call) reason: Option<String>,
    /// The gateway that was tried last.
    pub(in crate::call) gateway: Option<String>,
}

/// The same as another node is told of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(in crate::call) struct StoredFacts {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    /// Milliseconds since the INVITE came.
    #[prost(uint64, tag = "2")]
    passed: u64,
    #[prost(bytes = "bytes", tag = "3")]
    from_tag: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    call_id: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    caller: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    callee: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    request_uri: Bytes,
    #[prost(uint32, tag = "8")]
    right: u32,
    #[prost(bytes = "bytes", optional, tag = "9")]
    account: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "10")]
    source: Bytes,
    #[prost(bytes = "bytes", optional, tag = "11")]
    gateway_in: Option<Bytes>,
    #[prost(message, optional, tag = "12")]
    answer: Option<StoredAnswer>,
}

/// The first 2xx.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredAnswer {
    /// Milliseconds after the INVITE.
    #[prost(uint64, tag = "1")]
    after: u64,
    #[prost(bytes = "bytes", tag = "2")]
    tag: Bytes,
    #[prost(uint32, tag = "3")]
    status: u32,
    #[prost(bytes = "bytes", optional, tag = "4")]
    gateway: Option<Bytes>,
}

impl Age {
    fn of(self, now: Instant) -> Duration {
        self.before + now.since(self.at)
    }
}

impl Failed {
    /// By a response of this server's own.
    pub(in crate::call) fn here(status: Status, reason: Option<String>) -> Self {
        let ending = match status {
            Status::REQUEST_TERMINATED => CallEnding::Cancelled,
            Status::REQUEST_TIMEOUT => CallEnding::NoAnswer,
            _ => CallEnding::Turned,
        };
        Self { ending, status, reason, gateway: None }
    }

    /// The gateway that a request was sent to last.
    pub(in crate::call) fn gateway_of(context: &ResponseContext) -> Option<String> {
        let leg = context.branches.iter().rev().find_map(|branch| branch.aim.leg.as_ref());
        leg.map(|leg| leg.gateway.name.to_string())
    }
}

impl Facts {
    /// Those of an INVITE that was admitted; `None` of what is no call of others.
    pub(in crate::call) fn of(
        now: Now,
        invite: ServerKey,
        request: &Message<'_>,
        inbound: &Inbound,
    ) -> Option<Self> {
        let peer = || inbound.settings.trusted_peer(inbound.source.flow.remote().0.ip());
        let (right, account) = match inbound.sender.as_ref()? {
            Sender::Account { account, .. } => (Right::Digest, Some(account.as_str().to_owned())),
            Sender::Trusted => (Right::Trusted, peer().map(|peer| peer.name.clone())),
            Sender::Open => (Right::Open, None),
            Sender::ToRegistrar => (Right::Registrar, None),
            Sender::ByFlow => (Right::Flow, None),
            Sender::Carrier(trunk) => (Right::Carrier, Some(trunk.name.to_string())),
            Sender::Dialog | Sender::Ourselves(_) | Sender::ForAnEnd => return None,
        };
        let source = inbound.source;
        let gateway = inbound.settings.dial_plan.gateway_at(source.flow.remote().0.ip());
        let party = |address: Option<&[u8]>| address.map(party).unwrap_or_default();
        Some(Self {
            id: invite.as_u128(),
            age: Age { before: Duration::ZERO, at: now.instant },
            from_tag: request.from_tag().unwrap_or_default().into(),
            call_id: request.call_id().unwrap_or_default().into(),
            caller: party(request.header(sip::Name::From)),
            callee: party(request.header(sip::Name::To)),
            request_uri: cut(request.request_uri().unwrap_or_default()),
            right,
            account: account.filter(|name| !name.is_empty()).map(|name| cut(name.as_bytes())),
            source: format!("{}:{}", source.transport, source.flow.remote().0).into_bytes().into(),
            gateway_in: gateway.map(|gateway| cut(gateway.name.as_bytes())),
            answer: None,
        })
    }

    /// Whether this INVITE is a later one, which begins the call anew; not when somebody has answered.
    pub(super) fn may_begin_again(&self, invite: ServerKey) -> bool {
        self.answer.is_none() && self.id != invite.as_u128()
    }

    /// A later INVITE begins the call anew.
    pub(super) fn begin_again(&mut self, facts: Self) {
        *self = Self { age: self.age, ..facts };
    }

    /// Somebody has answered. The first one counts.
    pub(super) fn answered(&mut self, now: Now, tag: &[u8], status: Status, gateway: Option<&str>) {
        if self.answer.is_none() {
            let gateway = gateway.map(|name| cut(name.as_bytes()));
            self.answer = Some(Answer { after: self.age.of(now.instant), tag: tag.into(), status, gateway });
        }
    }

    /// When it began, by the calendar of this node.
    pub(in crate::call) fn began(&self, now: Now) -> WallTime {
        let age = u64::try_from(self.age.of(now.instant).as_millis()).unwrap_or(u64::MAX);
        WallTime::from_millis(now.wall.as_millis().saturating_sub(age))
    }

    /// Of two that are known of one call the one that knows more.
    pub(super) fn either(one: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        match (one, other) {
            (Some(one), Some(other)) => Some(if one.answer.is_some() { one } else { other }),
            (one, other) => one.or(other),
        }
    }

    fn record(
        self,
        now: Now,
        began: WallTime,
        ending: CallEnding,
        (status, reason): (Status, Option<String>),
        gateway: Option<String>,
    ) -> CallRecord {
        let Self { id, age, answer, right, .. } = self;
        CallRecord {
            id,
            call_id: text(&self.call_id),
            from_tag: text(&self.from_tag),
            to_tag: answer.as_ref().map(|answer| text(&answer.tag)).unwrap_or_default(),
            caller: text(&self.caller),
            callee: text(&self.callee),
            request_uri: text(&self.request_uri),
            right,
            account: self.account.as_deref().map(text),
            source: text(&self.source),
            gateway_in: self.gateway_in.as_deref().map(text),
            gateway_out: match &answer {
                Some(answer) => answer.gateway.as_deref().map(text),
                None => gateway,
            },
            started: began,
            answered_after: answer.as_ref().map(|answer| answer.after),
            ended_after: age.of(now.instant),
            ending,
            status,
            reason: reason.unwrap_or_else(|| status.reason_phrase().to_owned()),
        }
    }
}

impl StoredFacts {
    pub(in crate::call) fn of(now: Instant, facts: &Facts) -> Self {
        Self {
            id: Bytes::copy_from_slice(&facts.id.to_be_bytes()),
            passed: millis(facts.age.of(now)),
            from_tag: bytes(&facts.from_tag),
            call_id: bytes(&facts.call_id),
            caller: bytes(&facts.caller),
            callee: bytes(&facts.callee),
            request_uri: bytes(&facts.request_uri),
            right: Right::ALL.iter().position(|right| *right == facts.right).unwrap_or_default() as u32,
            account: facts.account.as_deref().map(bytes),
            source: bytes(&facts.source),
            gateway_in: facts.gateway_in.as_deref().map(bytes),
            answer: facts.answer.as_ref().map(|answer| StoredAnswer {
                after: millis(answer.after),
                tag: bytes(&answer.tag),
                status: answer.status.0.into(),
                gateway: answer.gateway.as_deref().map(bytes),
            }),
        }
    }

    /// `since` is how long ago it was told.
    pub(in crate::call) fn read(&self, now: Instant, since: Duration) -> Result<Facts, Unreadable> {
        let id = <[u8; 16]>::try_from(&self.id[..]).map_err(|_| Unreadable::Malformed)?;
        let right = usize::try_from(self.right).ok().and_then(|number| Right::ALL.get(number));
        let answer = self.answer.as_ref().map(|answer| {
            Ok(Answer {
                after: duration(answer.after),
                tag: bounded(&answer.tag, TAG_BYTES_MAX)?,
                status: u16::try_from(answer.status)
                    .ok()
                    .map(Status)
                    .filter(|it| it.is_success())
                    .ok_or(Unreadable::Malformed)?,
                gateway: answer.gateway.as_ref().map(kept).transpose()?,
            })
        });
        Ok(Facts {
            id: u128::from_be_bytes(id),
            age: Age { before: duration(self.passed) + since, at: now },
            from_tag: bounded(&self.from_tag, TAG_BYTES_MAX)?,
            call_id: bounded(&self.call_id, sip::limits::CALL_ID_BYTES_MAX)?,
            caller: kept(&self.caller)?,
            callee: kept(&self.callee)?,
            request_uri: kept(&self.request_uri)?,
            right: *right.ok_or(Unreadable::Malformed)?,
            account: self.account.as_ref().map(kept).transpose()?,
            source: kept(&self.source)?,
            gateway_in: self.gateway_in.as_ref().map(kept).transpose()?,
            answer: answer.transpose()?,
        })
    }
}

impl TransactionUser {
    /// From here on calls leave an [`Output::Record`] at their end. Those that have begun leave none.
    pub fn keep_records(&mut self) {
        self.keeps_records = true;
    }

    /// Tells what is left of a call that was answered, or that the INVITE of it failed.
    pub(in crate::call) fn record(
        &self,
        now: Now,
        (name, call): (CallName, &mut LiveCall),
        ending: CallEnding,
        failed: Option<Failed>,
        out: &mut Vec<Output>,
    ) {
        let Some(facts) = call.facts.take() else { return };
        let record = match (&facts.answer, failed) {
            (Some(answer), _) => {
                let final_response = (answer.status, None);
                facts.record(now, call.began, ending, final_response, None)
            }
            (None, Some(Failed { ending, status, reason, gateway })) => {
                // A challenge ends no call: it comes again with the answer. And whom nobody but the registrar knows has
                // not been let in yet.
                let is_challenge =
                    matches!(status, Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED);
                if is_challenge || facts.right == Right::Registrar {
                    return;
                }
                facts.record(now, call.began, ending, (status, reason), gateway)
            }
            // At its deadline, or lost with its node: nobody was told anything.
            (None, None) => facts.record(now, call.began, ending, (Status::REQUEST_TIMEOUT, None), None),
        };
        out.push(Output::Record(name, Box::new(record)));
    }
}

/// The address of record in From or To, else its URI.
fn party(address: &[u8]) -> Box<[u8]> {
    let Ok(address) = NameAddr::parse(address) else { return cut(address) };
    let aor = address.uri().ok().and_then(|uri| uri.as_sip().and_then(Aor::of));
    match aor {
        Some(aor) => cut(format!("sip:{aor}").as_bytes()),
        None => cut(address.uri),
    }
}

fn cut(text: &[u8]) -> Box<[u8]> {
    text[..text.len().min(TEXT_BYTES_MAX)].into()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn bytes(text: &[u8]) -> Bytes {
    Bytes::copy_from_slice(text)
}

fn kept(text: &Bytes) -> Result<Box<[u8]>, Unreadable> {
    bounded(text, TEXT_BYTES_MAX)
}

fn bounded(text: &[u8], bytes_max: usize) -> Result<Box<[u8]>, Unreadable> {
    if text.len() <= bytes_max { Ok(text.into()) } else { Err(Unreadable::Malformed) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn duration(millis: u64) -> Duration {
    Duration::from_millis(millis).min(PASSED_MAX)
}

//! A call that was answered as another node is told of it, so that it counts there, and its dialogs can be sent to.
//!
//! It has nothing that is of one node: parties and routes are told as they stand in messages, accounts and gateways by
//! name, times as what is left or has passed. A number of a field is never given another meaning; what a later version
//! adds is skipped.

use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use prost::Message as _;
use sip::Aor;
use sip::limits::{CALL_ID_BYTES_MAX, TAG_BYTES_MAX};

use super::dialog::{End, Ends, LiveDialog};
use super::facts::StoredFacts;
use super::parties::{Parties, TEXT_BYTES_MAX};
use super::{DIALOGS_MAX, LiveCall};
use crate::account::Unreadable;
use crate::{CallName, Keyring};

/// Larger capsules are not read. A call with one dialog has 1 KB.
const BYTES_MAX: usize = 128 << 10;

/// Such a time is a mistake, and must not overflow a clock.
const LEFT_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Gateways that count one call: each is there once for every branch.
const GATEWAYS_MAX: usize = 64;

/// The longest name of an account or a gateway that is taken.
const NAME_BYTES_MAX: usize = 1_024;

/// A call that was answered, as another node can go on with it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDialog {
    parts: Parts,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(bytes = "bytes", tag = "1")]
    call_id: Bytes,
    /// From and To as the caller wrote them.
    #[prost(bytes = "bytes", tag = "2")]
    from: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    to: Bytes,
    #[prost(string, optional, tag = "4")]
    account: Option<String>,
    #[prost(string, repeated, tag = "5")]
    gateways: Vec<String>,
    /// Milliseconds until it is taken to have ended, and since it began.
    #[prost(uint64, tag = "6")]
    left: u64,
    #[prost(uint64, tag = "7")]
    passed: u64,
    #[prost(message, repeated, tag = "8")]
    dialogs: Vec<StoredPart>,
    /// What its record needs.
    #[prost(message, optional, tag = "9")]
    facts: Option<StoredFacts>,
}

/// One dialog.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredPart {
    #[prost(bytes = "bytes", tag = "1")]
    tag: Bytes,
    /// Milliseconds since it was answered.
    #[prost(uint64, tag = "2")]
    passed: u64,
    #[prost(string, optional, tag = "3")]
    gateway: Option<String>,
    #[prost(message, optional, tag = "4")]
    caller: Option<StoredEnd>,
    #[prost(message, optional, tag = "5")]
    callee: Option<StoredEnd>,
    #[prost(bytes = "bytes", tag = "6")]
    record_route: Bytes,
    /// Milliseconds until the session is over unless it is refreshed.
    #[prost(uint64, optional, tag = "7")]
    session_left: Option<u64>,
}

/// One end of a dialog. What stands on the other side in the same words is not told twice.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredEnd {
    #[prost(bytes = "bytes", tag = "1")]
    from: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    to: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    target: Bytes,
    #[prost(uint32, optional, tag = "4")]
    cseq: Option<u32>,
}

impl StoredDialog {
    /// The version of the encoding.
    pub const FORMAT: u32 = 1;

    /// `None` if the call was not answered, or if it is not known who calls.
    pub(super) fn of(now: Now, call: &LiveCall) -> Option<Self> {
        let parties = call.parties.as_ref().filter(|_| !call.dialogs.is_empty())?;
        Some(Self {
            parts: Parts {
                call_id: bytes(&parties.call_id),
                from: bytes(&parties.from),
                to: bytes(&parties.to),
                account: call.account.as_ref().map(|it| it.as_str().to_owned()),
                gateways: call.gateways.iter().map(|it| it.as_str().to_owned()).collect(),
                left: millis(call.ends_at.since(now.instant)),
                passed: millis(now.wall.since(call.began)),
                dialogs: call.dialogs.iter().map(|dialog| StoredPart::of(now, dialog)).collect(),
                facts: call.facts.as_deref().map(|facts| StoredFacts::of(now.instant, facts)),
            },
        })
    }

    /// Its bytes for the other node.
    pub fn to_bytes(&self) -> Bytes {
        self.parts.encode_to_vec().into()
    }

    /// Reads what [`StoredDialog::to_bytes`] wrote on the other node.
    ///
    /// # Errors
    ///
    /// The bytes are no call that this version understands.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::Malformed);
        }
        let stored = Self { parts: Parts::decode(bytes).map_err(|_| Unreadable::Malformed)? };
        stored.read(Now::new(Instant::START, WallTime::from_millis(0))).map(|_| stored)
    }

    /// The Call-ID: it tells the shard.
    pub fn call_id(&self) -> &[u8] {
        &self.parts.call_id
    }

    /// How long until the call is taken to have ended.
    pub fn left(&self) -> Duration {
        duration(self.parts.left)
    }

    /// Its name on every node with this keyring; none if the caller has no tag.
    pub fn name(&self, keyring: &Keyring) -> Option<CallName> {
        let tag = sip::NameAddr::parse(&self.parts.from).ok()?.tag()?;
        Some(CallName::of(&keyring.transaction, self.call_id(), tag))
    }

    pub(super) fn read(&self, now: Now) -> Result<LiveCall, Unreadable> {
        let Parts { call_id, from, to, account, gateways, left, passed, dialogs, facts } = &self.parts;
        if call_id.is_empty()
            || dialogs.is_empty()
            || dialogs.len() > DIALOGS_MAX
            || gateways.len() > GATEWAYS_MAX
        {
            return Err(Unreadable::Malformed);
        }
        bounded(call_id, CALL_ID_BYTES_MAX)?;
        let parties = Parties { call_id: call_id[..].into(), from: value(from)?, to: value(to)? };
        let facts = facts.as_ref().map(|it| it.read(now.instant, Duration::ZERO)).transpose()?;
        // By the clock that nobody sets, where it is told.
        let began = facts.as_ref().map_or_else(|| before(now.wall, *passed), |facts| facts.began(now));
        Ok(LiveCall {
            account: account.as_deref().map(aor).transpose()?,
            gateways: gateways.iter().map(|it| aor(it)).collect::<Result<_, _>>()?,
            dialogs: dialogs.iter().map(|it| it.read(now)).collect::<Result<_, _>>()?,
            invite: None,
            parties: Some(Box::new(parties)),
            facts: facts.map(Box::new),
            began,
            ends_at: now.instant + duration(*left),
        })
    }
}

impl StoredPart {
    fn of(now: Now, dialog: &LiveDialog) -> Self {
        let LiveDialog { tag, answered, gateway, expires_at, ends, .. } = dialog;
        let ends = ends.as_deref();
        let callee = ends.map(|Ends { caller, callee, .. }| StoredEnd {
            from: unless_same(&callee.from, &caller.to),
            to: unless_same(&callee.to, &caller.from),
            ..StoredEnd::of(callee)
        });
        Self {
            tag: bytes(tag),
            passed: millis(now.wall.since(*answered)),
            gateway: gateway.as_ref().map(|it| it.to_string()),
            caller: ends.map(|ends| StoredEnd::of(&ends.caller)),
            callee,
            record_route: ends.map(|ends| bytes(&ends.record_route)).unwrap_or_default(),
            session_left: expires_at.map(|at| millis(at.since(now.instant))),
        }
    }

    fn read(&self, now: Now) -> Result<LiveDialog, Unreadable> {
        bounded(&self.tag, TAG_BYTES_MAX)?;
        let ends = match (&self.caller, &self.callee) {
            (Some(caller), Some(callee)) => {
                let callee = StoredEnd {
                    from: if callee.from.is_empty() { caller.to.clone() } else { callee.from.clone() },
                    to: if callee.to.is_empty() { caller.from.clone() } else { callee.to.clone() },
                    ..callee.clone()
                };
                let (caller, callee) = (caller.read()?, callee.read()?);
                Some(Box::new(Ends { caller, callee, record_route: value(&self.record_route)? }))
            }
            (None, None) => None,
            _ => return Err(Unreadable::Malformed),
        };
        let gateway = self
            .gateway
            .as_deref()
            .map(|name| bounded(name.as_bytes(), NAME_BYTES_MAX).map(|()| name.into()));
        let answered = before(now.wall, self.passed);
        let expires_at = self.session_left.map(|left| now.instant + duration(left));
        Ok(LiveDialog {
            tag: self.tag[..].into(),
            answered,
            gateway: gateway.transpose()?,
            expires_at,
            // The node that takes it in says when.
            check_at: None,
            ends,
        })
    }
}

impl StoredEnd {
    fn of(end: &End) -> Self {
        let End { from, to, target, cseq } = end;
        Self { from: bytes(from), to: bytes(to), target: bytes(target), cseq: *cseq }
    }

    fn read(&self) -> Result<End, Unreadable> {
        let Self { from, to, target, cseq } = self;
        Ok(End { from: value(from)?, to: value(to)?, target: value(target)?, cseq: *cseq })
    }
}

fn unless_same(text: &[u8], other: &[u8]) -> Bytes {
    if text == other { Bytes::new() } else { bytes(text) }
}

fn bytes(text: &[u8]) -> Bytes {
    Bytes::copy_from_slice(text)
}

/// What can stand behind the name of a header field.
fn value(text: &Bytes) -> Result<Box<[u8]>, Unreadable> {
    bounded(text, TEXT_BYTES_MAX)?;
    match text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        true => Err(Unreadable::Malformed),
        false => Ok(text[..].into()),
    }
}

fn bounded(text: &[u8], bytes_max: usize) -> Result<(), Unreadable> {
    if text.len() <= bytes_max { Ok(()) } else { Err(Unreadable::Malformed) }
}

fn aor(text: &str) -> Result<Aor, Unreadable> {
    bounded(text.as_bytes(), NAME_BYTES_MAX)?;
    Aor::parse(text).filter(|aor| aor.as_str() == text).ok_or(Unreadable::Malformed)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn duration(millis: u64) -> Duration {
    Duration::from_millis(millis).min(LEFT_MAX)
}

fn before(now: WallTime, passed: u64) -> WallTime {
    WallTime::from_millis(now.as_millis().saturating_sub(passed))
}

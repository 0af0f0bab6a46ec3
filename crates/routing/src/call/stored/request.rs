//! The request itself, who sent it, and where it was to go.

use std::sync::Arc;

use bytes::Bytes;
use sip::{Message, Name, Uri};
use transaction::Kind;

use super::super::inbound::{Inbound, Sender};
use super::super::lead::{DIVERSIONS_MAX, Diversion};
use super::super::route;
use super::super::suspended::{Located as Look, Sought};
use super::super::validation::Checked;
use super::places::{Reader, StoredFlow, Writer, aor, number_of, one_of, text, write_aor};
use super::{at_most, bounded};
use crate::account::Unreadable;
use crate::{Anchoring, ForwardReason, Keyring, Settings};

/// Bytes of a URI, of a name, of a header value. Longer ones do not fit in a message beside all else.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// The reasons by their numbers, which stay.
const REASONS: [ForwardReason; 4] = [
    ForwardReason::Unconditional,
    ForwardReason::UserBusy,
    ForwardReason::NoAnswer,
    ForwardReason::Unavailable,
];

/// The ways to look by their numbers, which stay.
const LOOKS: [Look; 3] = [Look::ByName, Look::ByAlias, Look::Routed];

/// A request as it came, and what was found out of it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) bytes: Bytes,
    #[prost(message, optional, tag = "2")]
    source: Option<StoredFlow>,
    #[prost(message, optional, tag = "3")]
    sender: Option<StoredSender>,
    #[prost(message, repeated, tag = "4")]
    diversions: Vec<StoredDiversion>,
    #[prost(fixed64, tag = "5")]
    loop_hash: u64,
    #[prost(uint32, tag = "6")]
    breadth: u32,
    #[prost(uint32, optional, tag = "7")]
    max_forwards: Option<u32>,
    /// The Request-URI to go on with.
    #[prost(bytes = "bytes", tag = "8")]
    request_uri: Bytes,
    /// Whether that is a GRUU of ours, if it is one at all.
    #[prost(bool, tag = "9")]
    is_gruu: bool,
    /// What its sender's account says of media: 0 nothing, 1 never, 2 nat, 3 always.
    #[prost(uint32, tag = "10")]
    relay: u32,
}

/// By what right a request was admitted.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredSender {
    /// 0 account, 1 trusted, 2 open, 3 dialog, 4 to a registrar, 5 by a flow, 6 carrier.
    #[prost(uint32, tag = "1")]
    right: u32,
    /// The account, or the name of our own one at the carrier.
    #[prost(bytes = "bytes", tag = "2")]
    account: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    home: Bytes,
}

/// One forwarding.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredDiversion {
    #[prost(bytes = "bytes", tag = "1")]
    by: Bytes,
    #[prost(uint32, tag = "2")]
    reason: u32,
}

/// Whom the location was asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredSought {
    #[prost(bytes = "bytes", tag = "1")]
    aor: Bytes,
    #[prost(uint32, tag = "2")]
    look: u32,
}

impl StoredRequest {
    pub(super) fn of(inbound: &Inbound, writer: Writer<'_>) -> Self {
        let diversion = |Diversion { by, reason }: &Diversion| StoredDiversion {
            by: write_aor(by),
            reason: number_of(&REASONS, reason),
        };
        Self {
            bytes: inbound.bytes.clone(),
            source: Some(writer.flow(inbound.source.flow)),
            sender: inbound.sender.as_ref().and_then(StoredSender::of),
            diversions: inbound.diversions.iter().map(diversion).collect(),
            loop_hash: inbound.checked.loop_hash,
            breadth: inbound.checked.breadth,
            max_forwards: inbound.checked.max_forwards,
            request_uri: inbound.routed.request_uri.clone(),
            is_gruu: inbound.routed.gruu.is_some(),
            relay: rule_number(inbound.relay),
        }
    }

    /// Whether all that does not ask for settings can be read.
    pub(super) fn check(&self, reader: Reader<'_>) -> Result<(), Unreadable> {
        self.found(reader).map(|_| ())
    }

    /// `None` if nothing here reaches its sender.
    pub(super) fn read(
        &self,
        reader: Reader<'_>,
        settings: &Arc<Settings>,
        keyring: &Keyring,
        message: &Message<'_>,
    ) -> Result<Option<Inbound>, Unreadable> {
        let Found { sender, diversions } = self.found(reader)?;
        let source = self.source.as_ref().ok_or(Unreadable::Malformed)?;
        let Some(source) = reader.source(source)? else { return Ok(None) };
        let mut routed = route::read(settings, keyring, &self.bytes, message);
        routed.request_uri = self.request_uri.clone();
        routed.gruu = routed.gruu.filter(|_| self.is_gruu);
        let Self { loop_hash, breadth, max_forwards, .. } = *self;
        Ok(Some(Inbound {
            bytes: self.bytes.clone(),
            kind: Kind::Invite,
            source,
            settings: Arc::clone(settings),
            checked: Checked { loop_hash, breadth, max_forwards },
            routed,
            sender: Some(sender),
            diversions,
            diversions_before: message.values(Name::Diversion).count(),
            relay: read_rule(self.relay),
        }))
    }

    fn found(&self, reader: Reader<'_>) -> Result<Found, Unreadable> {
        at_most(&self.diversions, DIVERSIONS_MAX)?;
        uri(&self.request_uri)?;
        reader.flow(self.source.as_ref().ok_or(Unreadable::Malformed)?)?;
        let diversion = |stored: &StoredDiversion| {
            Ok(Diversion { by: aor(&stored.by)?, reason: one_of(&REASONS, stored.reason)? })
        };
        Ok(Found {
            sender: self.sender.as_ref().ok_or(Unreadable::Malformed)?.read(reader)?,
            diversions: self.diversions.iter().map(diversion).collect::<Result<_, Unreadable>>()?,
        })
    }
}

/// What was read of a request.
struct Found {
    sender: Sender,
    diversions: Vec<Diversion>,
}

impl StoredSender {
    /// `None` for this server's own requests, which are no calls.
    fn of(sender: &Sender) -> Option<Self> {
        let right = |right| Self { right, account: Bytes::new(), home: Bytes::new() };
        Some(match sender {
            Sender::Account { account, home } => {
                Self { right: 0, account: write_aor(account), home: write_aor(home) }
            }
            Sender::Trusted => right(1),
            Sender::Open => right(2),
            Sender::Dialog => right(3),
            Sender::ToRegistrar => right(4),
            Sender::ByFlow => right(5),
            Sender::Carrier(trunk) => {
                Self { account: Bytes::copy_from_slice(trunk.name.as_bytes()), ..right(6) }
            }
            Sender::Ourselves(_) | Sender::ForAnEnd => return None,
        })
    }

    fn read(&self, reader: Reader<'_>) -> Result<Sender, Unreadable> {
        Ok(match self.right {
            0 => Sender::Account { account: aor(&self.account)?, home: aor(&self.home)? },
            1 => Sender::Trusted,
            2 => Sender::Open,
            3 => Sender::Dialog,
            4 => Sender::ToRegistrar,
            5 => Sender::ByFlow,
            6 => {
                let name = text(&self.account)?;
                let trunk = reader.settings.and_then(|settings| settings.trunk(name));
                // Nobody knows any more whose word it was: it is as good as anybody's.
                trunk.map_or(Sender::Open, |trunk| Sender::Carrier(Arc::clone(trunk)))
            }
            _ => return Err(Unreadable::Malformed),
        })
    }
}

impl StoredSought {
    pub(super) fn of(sought: &Sought) -> Self {
        Self { aor: write_aor(&sought.aor), look: number_of(&LOOKS, &sought.look) }
    }

    pub(super) fn read(&self) -> Result<Sought, Unreadable> {
        Ok(Sought { aor: aor(&self.aor)?, look: one_of(&LOOKS, self.look)? })
    }
}

/// The rules for media by their numbers, which stay.
const RULES: [Option<Anchoring>; 4] =
    [None, Some(Anchoring::Never), Some(Anchoring::Nat), Some(Anchoring::Always)];

pub(super) fn rule_number(rule: Option<Anchoring>) -> u32 {
    number_of(&RULES, &rule)
}

/// A rule that this node does not know counts as none: a call goes on without it.
pub(super) fn read_rule(number: u32) -> Option<Anchoring> {
    one_of(&RULES, number).ok().flatten()
}

/// A URI that can stand in a request line.
pub(super) fn uri(bytes: &[u8]) -> Result<(), Unreadable> {
    bounded(bytes, TEXT_BYTES_MAX)?;
    let is_one_line = !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    match Uri::parse(bytes) {
        Ok(_) if is_one_line => Ok(()),
        _ => Err(Unreadable::Malformed),
    }
}

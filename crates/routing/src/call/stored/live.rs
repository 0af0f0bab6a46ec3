//! The call that an INVITE has begun, for limits and for those who look at the calls.

use bytes::Bytes;
use clock::WallTime;
use sip::Aor;
use sip::limits::TAG_BYTES_MAX;
use transaction::ServerKey;

use super::super::live_calls::{DIALOGS_MAX, LiveCall, LiveDialog, StoredFacts};
use super::places::{Reader, Writer, aor, write_aor};
use super::{at_most, bounded};
use crate::account::Unreadable;

/// Gateways that count one call: each is there once for every branch.
const GATEWAYS_MAX: usize = 64;

/// That the INVITE began a call and has no final response yet.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredBegun {
    /// The call, if no later INVITE of it has it.
    #[prost(message, optional, tag = "1")]
    call: Option<StoredLiveCall>,
}

/// One call.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredLiveCall {
    #[prost(bytes = "bytes", optional, tag = "1")]
    account: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    gateways: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    dialogs: Vec<Bytes>,
    #[prost(uint64, tag = "4")]
    left: u64,
    /// What its record needs.
    #[prost(message, optional, tag = "5")]
    facts: Option<StoredFacts>,
}

impl StoredBegun {
    pub(super) fn of(call: Option<&LiveCall>, writer: Writer<'_>) -> Self {
        let call = call.map(|call| StoredLiveCall {
            account: call.account.as_ref().map(write_aor),
            gateways: call.gateways.iter().map(write_aor).collect(),
            dialogs: call.dialogs.iter().map(|dialog| Bytes::copy_from_slice(&dialog.tag)).collect(),
            left: writer.left(call.ends_at),
            facts: call.facts.as_deref().map(|facts| StoredFacts::of(writer.now, facts)),
        });
        Self { call }
    }

    pub(super) fn read(&self, reader: Reader<'_>, invite: ServerKey) -> Result<Option<LiveCall>, Unreadable> {
        let Some(call) = &self.call else { return Ok(None) };
        at_most(&call.gateways, GATEWAYS_MAX)?;
        at_most(&call.dialogs, DIALOGS_MAX)?;
        call.dialogs.iter().try_for_each(|tag| bounded(tag, TAG_BYTES_MAX))?;
        // The request and the settings tell more.
        let began = WallTime::from_millis(0);
        Ok(Some(LiveCall {
            account: call.account.as_ref().map(|account| aor(account)).transpose()?,
            gateways: call.gateways.iter().map(|it| aor(it)).collect::<Result<Vec<Aor>, _>>()?,
            dialogs: call.dialogs.iter().map(|tag| LiveDialog::bare(tag, began)).collect(),
            invite: Some(invite),
            parties: None,
            facts: call
                .facts
                .as_ref()
                .map(|facts| facts.read(reader.now, reader.since).map(Box::new))
                .transpose()?,
            began,
            ends_at: reader.at(call.left),
        }))
    }
}

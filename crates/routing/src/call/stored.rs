//! A call under way as another node is told of it, so that it can go on with the call.
//!
//! A call has a capsule from the moment that its INVITE is admitted, which is when the caller gets a 100, until nothing
//! of its response context is left. The capsule has all that can not be found out again: the request, who sent it, and
//! each branch with its request as it left. What follows from the request's own bytes is read from them again.
//!
//! Times are told as the time left. Listeners are named by transport and address, gateways, routes and our accounts at
//! carriers by name, all of them looked up in the settings in force where the call goes on: what is not there leads
//! nowhere, but a request that has left is waited for as before. What waited for the location, the DNS or a gateway's
//! place asks again. A number of a field is never given another meaning; what a later version adds is skipped.
//!
//! Invariant: nothing is sent by taking a call over that the node before would not have sent at that time.

mod aim;
mod branch;
mod changes;
mod context;
mod delta;
mod live;
mod places;
mod request;
mod restore;

use bytes::Bytes;
use prost::Message as _;
use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Message, Method};
use transaction::ClientKey;

pub(super) use changes::Changes;

use crate::account::Unreadable;

/// Larger capsules are not read, nor would the link between two nodes carry them. A fork of three has 3 KB.
const BYTES_MAX: usize = 160 << 10;

/// Such a time is a mistake, and must not overflow a clock.
const LEFT_MAX: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3_600);

/// A call as another node can go on with it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCall {
    parts: Parts,
    call_id: Bytes,
}

/// All that is told of a call.
#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(message, optional, tag = "1")]
    request: Option<request::StoredRequest>,
    /// What the request waits for, if it was not forwarded yet.
    #[prost(message, optional, tag = "2")]
    sought: Option<request::StoredSought>,
    /// Whether it waits for the present place of its dialog's other side.
    #[prost(bool, tag = "3")]
    seeks_side: bool,
    #[prost(message, optional, tag = "4")]
    context: Option<context::StoredContext>,
    #[prost(message, optional, tag = "5")]
    begun: Option<live::StoredBegun>,
}

impl StoredCall {
    /// The version of the encoding.
    pub const FORMAT: u32 = 1;

    /// `None` if its request has no Call-ID.
    fn of(parts: Parts) -> Option<Self> {
        let bytes = &parts.request.as_ref()?.bytes;
        let call_id = bytes.slice_ref(Message::parse(bytes).ok()?.call_id().ok()?);
        Some(Self { parts, call_id })
    }

    /// Its bytes for the other node.
    pub fn to_bytes(&self) -> Bytes {
        self.parts.encode_to_vec().into()
    }

    /// Reads what [`StoredCall::to_bytes`] wrote on the other node.
    ///
    /// # Errors
    ///
    /// The bytes are no call that this version can go on with.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::Malformed);
        }
        let parts = Parts::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        let call = Self::of(parts).ok_or(Unreadable::Malformed)?;
        call.check_request()?;
        restore::check(&call.parts)?;
        Ok(call)
    }

    /// The Call-ID: it tells the shard.
    pub fn call_id(&self) -> &[u8] {
        &self.call_id
    }

    /// The request of one of its [`StoredCall::clients`] that lives, as it left; `None` for a CANCEL.
    pub fn request_of(&self, client: ClientKey) -> Option<Bytes> {
        let Parts { request, context, .. } = &self.parts;
        context.as_ref()?.request_of(&request.as_ref()?.bytes, client)
    }

    /// The client transactions that belong to it, some of which may have ended.
    pub fn clients(&self) -> impl Iterator<Item = ClientKey> {
        self.parts.context.iter().flat_map(context::StoredContext::clients)
    }

    /// Whether the request is one that could have been received.
    fn check_request(&self) -> Result<(), Unreadable> {
        let bytes = self.parts.request.as_ref().map(|request| &request.bytes);
        let is_fine = bytes.is_some_and(|bytes| {
            let is_invite =
                |message: Message<'_>| message.method() == Some(Method::Invite) && message.validate().is_ok();
            bytes.len() <= MESSAGE_BYTES_MAX && Message::parse(bytes).is_ok_and(is_invite)
        });
        if is_fine { Ok(()) } else { Err(Unreadable::Malformed) }
    }
}

/// Refuses a text that is too long to have been told by a node of ours.
fn bounded(text: &[u8], bytes_max: usize) -> Result<(), Unreadable> {
    if text.len() <= bytes_max { Ok(()) } else { Err(Unreadable::Malformed) }
}

/// Refuses more of something than one call has.
fn at_most<T>(list: &[T], max: usize) -> Result<(), Unreadable> {
    if list.len() <= max { Ok(()) } else { Err(Unreadable::Malformed) }
}

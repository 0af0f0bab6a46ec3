//! A request on its way through the stages.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use clock::Now;
use sip::{Aor, Message, Method};
use transaction::{Kind, ServerKey};
use transport::{Flow, Source};

use super::lead::Diversion;
use super::route::Routed;
use super::validation::Checked;
use crate::{Anchoring, Settings, Trunk};

/// A request and what the stages have found out of it. It is read again from its bytes by each stage.
#[derive(Clone, Debug)]
pub(super) struct Inbound {
    /// As it was stamped.
    pub(super) bytes: Bytes,
    /// Whether it is an INVITE.
    pub(super) kind: Kind,
    /// Where it came from.
    pub(super) source: Source,
    /// The settings that it ends with.
    pub(super) settings: Arc<Settings>,
    /// What the checks found.
    pub(super) checked: Checked,
    /// Its way.
    pub(super) routed: Routed,
    /// Who sent it; `None` until it is admitted.
    pub(super) sender: Option<Sender>,
    /// The users of this server that have forwarded it, the last one last.
    pub(super) diversions: Vec<Diversion>,
    /// How often others say that it was forwarded before it came.
    pub(super) diversions_before: usize,
    /// What its sender's account says of media.
    pub(super) relay: Option<Anchoring>,
}

/// What every stage is given of the request that it works on: when, whose answer it gets, and its framed form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn<'m, 'a> {
    /// The time of the input.
    pub(super) now: Now,
    /// The server transaction.
    pub(super) key: ServerKey,
    /// The request.
    pub(super) request: &'m Message<'a>,
    /// The way that it came.
    pub(super) flow: Flow,
}

/// By what right a request was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Digest.
    Account {
        /// Whose credentials they were.
        account: Aor,
        /// The address of record that its phone is registered under, as far as can be told.
        home: Aor,
    },
    /// The address of a trusted peer.
    Trusted,
    /// It came in on a listener without digest.
    Open,
    /// The token of its dialog.
    Dialog,
    /// Anybody: it goes to the registrar behind this edge, which judges it.
    ToRegistrar,
    /// The registrar behind this edge, or a trusted peer, with the token of a flow.
    ByFlow,
    /// The address of a carrier at which this account of ours is registered.
    Carrier(Arc<Trunk>),
    /// This server itself, on behalf of an account of its own.
    Ourselves(Arc<Trunk>),
    /// This server itself, in the place of one end of a dialog.
    ForAnEnd,
}

impl Inbound {
    /// The request, framed. It was framed before: bytes that are not a message do not get here.
    pub(super) fn message(&self) -> Option<Message<'_>> {
        Message::parse(&self.bytes).ok()
    }

    /// For logs.
    pub(super) fn call_id<'a>(message: &Message<'a>) -> Cow<'a, str> {
        String::from_utf8_lossy(message.call_id().unwrap_or_default())
    }

    /// Whether it came from a peer whose word is good, be it trusted or a carrier of ours.
    pub(super) fn is_trusted(&self) -> bool {
        matches!(self.sender, Some(Sender::Carrier(_)))
            || self.settings.is_peer(self.source.flow.remote().0.ip())
    }
}

// RFC 3261 §12.1, RFC 6665 §4.3: the requests that make a dialog, and NOTIFY, which makes one where it overtakes
// the response to its SUBSCRIBE.
pub(super) fn makes_dialog(method: Method<'_>) -> bool {
    matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify)
}

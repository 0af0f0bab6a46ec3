//! How important a request is.

use clock::Instant;
use sip::{Message, Method, Name, Uri};
use transport::Flow;

use crate::Count;
use crate::bans::Bans;
use crate::dial_plan::Dialled;

/// What a request is worth under overload, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// OPTIONS, SUBSCRIBE, PUBLISH, MESSAGE and whatever else begins something.
    Other,
    /// A REGISTER from where nobody is registered.
    NewRegistration,
    /// A REGISTER from where a phone is registered, or one that answers a challenge.
    KnownRegistration,
    /// An INVITE that begins a call; all that a peer asks.
    Call,
    /// What is never refused.
    Spared,
}

impl Class {
    /// How many classes can be refused.
    pub const REFUSABLE: u32 = 4;

    /// Their number, from the least important one on; `None` for what is never refused.
    pub fn rank(self) -> Option<u32> {
        match self {
            Self::Other => Some(0),
            Self::NewRegistration => Some(1),
            Self::KnownRegistration => Some(2),
            Self::Call => Some(3),
            Self::Spared => None,
        }
    }

    /// By what its refusals are counted.
    pub(crate) fn count(self) -> Count {
        match self {
            Self::Other | Self::Spared => Count::OverloadOther,
            Self::NewRegistration => Count::OverloadNewRegistration,
            Self::KnownRegistration => Count::OverloadKnownRegistration,
            Self::Call => Count::OverloadCall,
        }
    }

    pub(super) fn of(now: Instant, bans: &Bans, flow: &Flow, message: &Message<'_>) -> Self {
        let Some(method) = message.method() else { return Self::Spared };
        if is_spared(method) || message.to_tag().is_some() || is_emergency(bans, message) {
            return Self::Spared;
        }
        let address = flow.remote().0.ip();
        let settings = bans.settings();
        match method {
            Method::Invite => Self::Call,
            // A peer whose OPTIONS is refused takes this server for dead and sends no calls.
            _ if settings.is_believing(address) || settings.admission.is_named_never(address) => Self::Call,
            // What was let in once is brought to its end.
            Method::Register if message.has(Name::Authorization) || bans.is_acquainted(now, flow) => {
                Self::KnownRegistration
            }
            Method::Register => Self::NewRegistration,
            _ => Self::Other,
        }
    }
}

/// Whether a message is never refused, from its first bytes: most of what comes while calls are up.
pub(super) fn is_spared_at_sight(bytes: &[u8]) -> bool {
    [&b"SIP/2.0 "[..], b"ACK ", b"BYE ", b"CANCEL ", b"PRACK "].iter().any(|start| bytes.starts_with(start))
}

/// Methods that belong to something that is under way.
fn is_spared(method: Method<'_>) -> bool {
    matches!(
        method,
        Method::Ack | Method::Bye | Method::Cancel | Method::Prack | Method::Update | Method::Info
    )
}

// RFC 5031 §4.2: `urn:service:sos`, and what stands behind a dot after it.
fn is_emergency(bans: &Bans, request: &Message<'_>) -> bool {
    const SOS: &[u8] = b"urn:service:sos";
    let bytes = request.request_uri().unwrap_or_default();
    if bytes.get(..SOS.len()).is_some_and(|start| start.eq_ignore_ascii_case(SOS)) {
        return matches!(bytes.get(SOS.len()), None | Some(b'.'));
    }
    let numbers = &bans.settings().admission.emergency;
    let dialled = || Dialled::of(&Uri::parse(bytes).ok()?);
    !numbers.is_empty() && dialled().is_some_and(|dialled| numbers.contains(&dialled.number))
}

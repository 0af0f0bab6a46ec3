//! What RFC 3261 §16.3 has a proxy check before it looks where a request goes.

use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Malformed, Message, Method, Name, Status, Uri};

use super::branch;
use super::reply::Reply;
use crate::{Count, Keyring, Settings};

/// What is told by the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// What would be the same if the request came back ([`branch::loop_hash`]).
    pub(super) loop_hash: u64,
    /// How many branches the request may have.
    pub(super) breadth: u32,
    /// Max-Forwards as it came.
    pub(super) max_forwards: Option<u32>,
}

/// A request that is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// What it is answered.
    pub(super) reply: Reply,
    /// What is counted.
    pub(super) count: Option<Count>,
}

impl From<Reply> for Refused {
    fn from(reply: Reply) -> Self {
        Self { reply, count: None }
    }
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self {
            reply: Reply::new(malformed.status()).because(malformed.reason()),
            count: Some(Count::Malformed),
        }
    }
}

/// The checks that do not ask where the request goes.
pub(super) fn check(
    settings: &Settings,
    keyring: &Keyring,
    request: &Message<'_>,
) -> Result<Checked, Refused> {
    let uri = Uri::parse(request.request_uri().unwrap_or_default())?;
    // RFC 3261 §16.3 item 2: a scheme that is not understood. `sips` needs TLS on every hop.
    match uri {
        Uri::Sip(uri) if !uri.secure => {}
        Uri::Tel(_) => {}
        Uri::Sip(_) | Uri::Other { .. } => return Err(Reply::new(Status::UNSUPPORTED_URI_SCHEME).into()),
    }
    let max_forwards = request.max_forwards()?;
    let loop_hash = branch::loop_hash(&keyring.branch, request);
    if branch::is_loop(&keyring.branch, request, loop_hash) {
        return Err(Refused { reply: Reply::new(Status::LOOP_DETECTED), count: Some(Count::Loop) });
    }
    Ok(Checked { loop_hash, breadth: breadth(settings, request)?, max_forwards })
}

/// What a forwarded request may get besides its own bytes: a Via, and two Record-Route with a token each.
const ADDED_BYTES_MAX: usize = 1_024;

/// The checks of a request that this server does not answer itself.
pub(super) fn check_forwarding(request: &Message<'_>, checked: &Checked) -> Result<(), Reply> {
    // RFC 3261 §21.5.14: what would leave larger than a message may be can go nowhere.
    if request.bytes().len() > MESSAGE_BYTES_MAX - ADDED_BYTES_MAX {
        return Err(Reply::new(Status::MESSAGE_TOO_LARGE));
    }
    // RFC 3261 §16.3 item 3: a request that may go no further.
    if checked.max_forwards == Some(0) {
        return Err(Reply::new(Status::TOO_MANY_HOPS));
    }
    // RFC 3261 §16.3 item 5: no extension needs this proxy's help. RFC 3261 §20.29: CANCEL and ACK have no such header.
    if request.method() != Some(Method::Ack)
        && let Some(unsupported) = unsupported(request, Name::ProxyRequire, &[])
    {
        return Err(Reply::new(Status::BAD_EXTENSION).with(Name::Unsupported, unsupported));
    }
    // RFC 5393 §5.3.3.1: without breadth there is no branch. An ACK goes one way, whatever it says.
    if checked.breadth == 0 && request.method() != Some(Method::Ack) {
        return Err(Reply::new(Status::MAX_BREADTH_EXCEEDED));
    }
    Ok(())
}

/// The option tags of a header field that are not among `known`, as the value of Unsupported.
pub(super) fn unsupported(request: &Message<'_>, name: Name, known: &[&[u8]]) -> Option<Vec<u8>> {
    let unknown: Vec<&[u8]> = request
        .values(name)
        .filter(|tag| !known.iter().any(|known| tag.eq_ignore_ascii_case(known)))
        .collect();
    (!unknown.is_empty()).then(|| unknown.join(&b", "[..]))
}

// RFC 5393 §5.3.2: a request without Max-Breadth gets the default of 60; a larger wish is cut to what is set here.
fn breadth(settings: &Settings, request: &Message<'_>) -> Result<u32, Malformed> {
    match request.header(Name::MaxBreadth) {
        None => Ok(settings.proxy.max_breadth),
        Some(value) => str::from_utf8(value)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|text| text.parse().unwrap_or(u32::MAX).min(settings.proxy.max_breadth))
            .ok_or(Malformed::Header(Name::MaxBreadth)),
    }
}

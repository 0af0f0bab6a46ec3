//! Session timers (RFC 4028): when a session is over that nobody has refreshed.
//!
//! What both sides agree on is followed always: the 2xx to an INVITE or UPDATE says for how long the session is good, and
//! then this server forgets it. A BYE it does not send: the sides do that themselves. Where the operator wants timers
//! this server asks for them, and refuses intervals that are too small.
//!
//! What it has asked for is not kept. It follows from the request and the settings, so that another node that goes on
//! with the call finds the same.

use std::time::Duration;

use sip::{Editor, Message, Method, Name, Status};

use super::inbound::Inbound;
use super::reply::Reply;
use crate::SessionTimers;

/// Lines that a request gets at most.
pub(super) const ADDED_LINES_MAX: usize = 2;

/// RFC 4028 §5: no smaller interval is allowed, and one that is not said is this.
const MIN_SE_USUAL: u32 = 90;

/// What a request leaves with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    /// The interval in seconds.
    expires: u32,
    /// The smallest interval, if it is to be told.
    min: Option<u32>,
}

/// Refuses a request whose interval is too small for this server.
pub(super) fn check(timers: &SessionTimers, request: &Message<'_>) -> Result<(), Reply> {
    let Some(expires) = expires(request).filter(|_| timers.expires.is_some() && is_refresh(request)) else {
        return Ok(());
    };
    let min = seconds(timers.min);
    // RFC 4028 §8.1: only a client that supports timers can do something about it.
    if expires < min && supports_timer(request) {
        return Err(Reply::new(Status::SESSION_INTERVAL_TOO_SMALL).with(Name::MinSe, min.to_string()));
    }
    Ok(())
}

/// Asks for a session timer in a request that is sent on.
pub(super) fn edit_request(editor: &mut Editor<'_, '_>, request: &Message<'_>, inbound: &Inbound) {
    let Some(Asked { expires, min }) = asked(&inbound.settings.proxy.session, request) else { return };
    if let Some(min) = min {
        editor.set(Name::MinSe, min.to_string().as_bytes());
    }
    if self::expires(request) != Some(expires) {
        // RFC 4028 §8.1: who refreshes is not for a proxy to say.
        let value = request.header(Name::SessionExpires).unwrap_or_default();
        let rest = value.iter().position(|byte| *byte == b';').map_or(&b""[..], |at| &value[at..]);
        editor.set(Name::SessionExpires, &[expires.to_string().as_bytes(), rest].concat());
    }
}

/// Tells a client that it has to refresh the session, if whoever answered does not know how.
pub(super) fn edit_response(editor: &mut Editor<'_, '_>, inbound: &Inbound, response: &Message<'_>) {
    let is_unaware = response.status().is_some_and(Status::is_success)
        && response.header(Name::SessionExpires).is_none()
        && inbound.settings.proxy.session.expires.is_some();
    let Some(request) = inbound.message().filter(|request| is_unaware && supports_timer(request)) else {
        return;
    };
    let Some(Asked { expires, .. }) = asked(&inbound.settings.proxy.session, &request) else { return };
    // RFC 4028 §8.2: the first proxy that knows of timers says so in the place of the server.
    editor.append(Name::SessionExpires, format!("{expires};refresher=uac").as_bytes());
    if !has_tag(response, Name::Require) {
        editor.append(Name::Require, b"timer");
    }
}

/// How long a session is good that a 2xx to an INVITE or UPDATE begins or refreshes, as it goes upstream; `None`: for
/// ever.
pub(super) fn interval(response: &Message<'_>) -> Option<Duration> {
    // RFC 4028 §5: a smaller one is a mistake, by which no session is to be lost.
    expires(response).map(|expires| Duration::from_secs(expires.max(MIN_SE_USUAL).into()))
}

/// What a request leaves with; `None`: as it came.
fn asked(timers: &SessionTimers, request: &Message<'_>) -> Option<Asked> {
    let min = seconds(timers.min);
    let ours = seconds(timers.expires.filter(|_| is_refresh(request))?).max(min);
    let told_min = request.header(Name::MinSe).and_then(delta);
    let lower = told_min.unwrap_or(MIN_SE_USUAL).max(MIN_SE_USUAL);
    Some(match expires(request) {
        // RFC 4028 §8.1: the client can not raise it, so it is raised for it.
        Some(expires) if expires < min => {
            let min = min.max(lower);
            Asked { expires: min, min: Some(min) }
        }
        // RFC 4028 §8.1: it may be lowered, never below Min-SE, and not raised.
        Some(expires) => Asked { expires: expires.min(ours.max(lower)), min: None },
        // An UPDATE without one may be about something else before the call is answered.
        None if request.method() == Some(Method::Invite) => Asked { expires: ours.max(lower), min: None },
        None => return None,
    })
}

/// Whether a request can refresh a session.
fn is_refresh(request: &Message<'_>) -> bool {
    matches!(request.method(), Some(Method::Invite | Method::Update))
}

fn supports_timer(request: &Message<'_>) -> bool {
    has_tag(request, Name::Supported) || has_tag(request, Name::Require)
}

fn has_tag(message: &Message<'_>, name: Name) -> bool {
    message.values(name).any(|tag| tag.eq_ignore_ascii_case(b"timer"))
}

fn expires(message: &Message<'_>) -> Option<u32> {
    delta(message.header(Name::SessionExpires)?)
}

/// The seconds in front of the parameters.
fn delta(value: &[u8]) -> Option<u32> {
    let digits = value.split(|byte| *byte == b';').next()?.trim_ascii();
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    // One that is too large for a number is as good as for ever.
    is_number.then(|| str::from_utf8(digits).ok()?.parse().ok().or(Some(u32::MAX))).flatten()
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

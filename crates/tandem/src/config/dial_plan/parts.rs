//! Values that gateways and routes have in common.

use std::net::IpAddr;

use routing::dial_plan::{HeaderEdits, ListenerName};

use crate::config::fields::line_of_text;
use crate::config::listen::{DigestRule, Listen, Place};
use crate::config::problem::Wrong;
use crate::config::value::{Value, Wrongs};

/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// Characters that a prefix may have: a number has 15 digits, and some carriers want a code before it.
const DIGITS_MAX: usize = 32;

/// Header fields that this server writes itself: one that is wrong breaks the call.
const OWN_HEADERS: &[&str] = &[
    "allow",
    "authorization",
    "call-id",
    "contact",
    "content-encoding",
    "content-length",
    "content-type",
    "cseq",
    "from",
    "max-breadth",
    "max-forwards",
    "p-asserted-identity",
    "p-preferred-identity",
    "path",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-require",
    "rack",
    "record-route",
    "remote-party-id",
    "require",
    "route",
    "rseq",
    "session-expires",
    "supported",
    "to",
    "via",
    "www-authenticate",
    // RFC 3261 §7.3.3: compact forms.
    "c",
    "e",
    "f",
    "i",
    "k",
    "l",
    "m",
    "t",
    "v",
    "x",
];

/// A name that commands can take.
pub fn name(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    let is_good = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
    if text.is_empty() || text.len() > NAME_CHARS_MAX || !text.chars().all(is_good) {
        let mend = format!("write at most {NAME_CHARS_MAX} letters, digits, - and _: \"carrier-a\"");
        return Err(value.wrong("is no name", mend));
    }
    Ok(text.to_owned())
}

/// Digits to put before a number, or a whole number; may be empty.
pub fn digits(value: &Value<'_>) -> Result<String, Wrong> {
    let text = value.text()?;
    let is_good = |sign: char| sign.is_ascii_digit() || "+*#".contains(sign);
    if text.len() > DIGITS_MAX || !text.chars().all(is_good) {
        let mend = format!("write at most {DIGITS_MAX} digits, such as \"+49\"");
        return Err(value.wrong("is no part of a number", mend));
    }
    Ok(text.to_owned())
}

/// How many digits go.
pub fn strip(value: &Value<'_>) -> Result<usize, Wrong> {
    Ok(value.number(0..=DIGITS_MAX as u64)? as usize)
}

/// A listener, as `sip.listen` names it, but for what stands after its address.
pub fn listener(value: &Value<'_>) -> Result<ListenerName, Wrong> {
    let listen = Listen::read(value)?;
    if listen.advertise.is_some() || listen.digest == DigestRule::Off {
        return Err(
            value.wrong("says more than an address", "write the address alone: \"udp://10.0.0.5:5060\"")
        );
    }
    let (address, port): (Option<IpAddr>, u16) = match listen.place {
        Place::EveryAddress { port } => (None, port),
        Place::At(local) => (Some(local.ip()), local.port()),
    };
    Ok(ListenerName { transport: listen.transport, address, port })
}

/// Lines `Name: value`.
pub fn set_headers(value: &Value<'_>, headers: &mut HeaderEdits) -> Result<(), Wrongs> {
    headers.set = value.list(|entry| {
        let line = line_of_text(entry)?;
        let Some((name, text)) = line.split_once(':') else {
            return Err(
                entry.wrong("is no header field", "write its name, a colon and its value: \"X-Trunk: 7\"")
            );
        };
        header_name(entry, name)?;
        Ok((name.into(), text.trim().into()))
    })?;
    Ok(())
}

/// Names of header fields.
pub fn remove_headers(value: &Value<'_>, headers: &mut HeaderEdits) -> Result<(), Wrongs> {
    headers.removed = value.list(|entry| {
        let name = entry.text()?;
        header_name(entry, name)?;
        Ok(name.to_ascii_lowercase().into())
    })?;
    Ok(())
}

fn header_name(value: &Value<'_>, name: &str) -> Result<(), Wrong> {
    // RFC 3261 §25.1: `token`.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(value.wrong("has no name of a header field", "write one such as \"X-Trunk\""));
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        let what = format!("names {name}, which this server writes itself");
        return Err(value.wrong(what, "leave it out; the caller's number is set by the caller_ keys"));
    }
    Ok(())
}

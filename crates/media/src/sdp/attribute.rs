//! The attributes that say something about where media goes.

use std::ops::Range;

use super::address::{self, Place};
use super::line::words;

/// Which way media flows, as its sender sees it (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// It sends and receives.
    #[default]
    SendRecv,
    /// It sends only.
    SendOnly,
    /// It receives only.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether who says so sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
}

/// One attribute that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Direction(Direction),
    /// RFC 3605 §2.1: another port for RTCP than the next one, and perhaps another address.
    Rtcp {
        port: u16,
        port_span: Range<usize>,
        place: Option<Place>,
    },
    /// RFC 5761 §5.1.1: RTCP on the port of RTP.
    RtcpMux,
    /// The clock rate of a payload type (RFC 8866 §6.6).
    ClockRate {
        payload: u8,
        rate: u32,
    },
    /// It would lead media past the relay.
    Detour(Detour),
}

/// What leads media past a relay, so that it has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detour {
    /// ICE would find a direct way (RFC 8839 §5).
    Ice,
    /// The beginning of ICE: who has it speaks ICE.
    IceUsername,
    /// Several media lines on one port, while each has a port of its own at the relay (RFC 9143 §7).
    Bundle,
    /// An older way to offer several addresses, or a receiver that wants packets of one source alone.
    Other,
}

/// Names of attributes that lead past a relay.
// RFC 8839 §5; RFC 8840 (trickle); RFC 6947 §4 and its forerunner; RFC 4570 §3.
const DETOURS: [(&[u8], Detour); 13] = [
    (b"candidate", Detour::Ice),
    (b"remote-candidates", Detour::Ice),
    (b"end-of-candidates", Detour::Ice),
    (b"ice-ufrag", Detour::IceUsername),
    (b"ice-pwd", Detour::Ice),
    (b"ice-options", Detour::Ice),
    (b"ice-lite", Detour::Ice),
    (b"ice-mismatch", Detour::Ice),
    (b"ice-pacing", Detour::Ice),
    (b"bundle-only", Detour::Bundle),
    (b"altc", Detour::Other),
    (b"alt", Detour::Other),
    (b"source-filter", Detour::Other),
];

/// What the value of an `a=` says; `Err` if it is one that matters and can not be read.
pub(super) fn read(bytes: &[u8], value: Range<usize>) -> Result<Option<Attribute>, ()> {
    let colon = bytes[value.clone()].iter().position(|byte| *byte == b':').map(|at| value.start + at);
    let name = &bytes[value.start..colon.unwrap_or(value.end)];
    let rest = colon.map_or(value.end..value.end, |colon| colon + 1..value.end);
    let name = name.trim_ascii();
    Ok(Some(match name {
        b"sendrecv" => Attribute::Direction(Direction::SendRecv),
        b"sendonly" => Attribute::Direction(Direction::SendOnly),
        b"recvonly" => Attribute::Direction(Direction::RecvOnly),
        b"inactive" => Attribute::Direction(Direction::Inactive),
        b"rtcp-mux" => Attribute::RtcpMux,
        b"rtcp" => rtcp(bytes, rest)?,
        b"rtpmap" => return Ok(clock_rate(&bytes[rest])),
        b"group" if is_bundle(bytes, rest.clone()) => Attribute::Detour(Detour::Bundle),
        _ => {
            let known = DETOURS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
            return Ok(known.map(|(_, detour)| Attribute::Detour(*detour)));
        }
    }))
}

fn rtcp(bytes: &[u8], rest: Range<usize>) -> Result<Attribute, ()> {
    let port_span = words(bytes, rest.clone()).next().ok_or(())?;
    let port = number(&bytes[port_span.clone()]).ok_or(())?;
    let behind = port_span.end..rest.end;
    let place = match words(bytes, behind.clone()).next() {
        Some(_) => Some(address::read(bytes, behind).map_err(|_| ())?),
        None => None,
    };
    Ok(Attribute::Rtcp { port, port_span, place })
}

/// What can not be read is no reason to refuse: it only serves to measure.
fn clock_rate(value: &[u8]) -> Option<Attribute> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let payload = number(value[..space].trim_ascii())?;
    let rate = value[space..].split(|byte| *byte == b'/').nth(1)?;
    let payload = u8::try_from(payload).ok().filter(|payload| *payload < 128)?;
    let rate = std::str::from_utf8(rate.trim_ascii()).ok()?.parse().ok().filter(|rate| *rate > 0)?;
    Some(Attribute::ClockRate { payload, rate })
}

fn is_bundle(bytes: &[u8], rest: Range<usize>) -> bool {
    let semantics = words(bytes, rest).next();
    semantics.is_some_and(|semantics| bytes[semantics].eq_ignore_ascii_case(b"BUNDLE"))
}

/// Digits alone, as a port: `+5` is none.
pub(super) fn number(text: &[u8]) -> Option<u16> {
    let is_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_digits)?.parse().ok()
}

//! Planted faults: the absence of one rule each of what waits for the other node and of what goes to it, to see that calls are
//! lost by it.
//!
//! Without the feature `test-faults` nothing can be planted and the checks cost nothing.

use bytes::Bytes;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The 100 leaves before the other node has the call.
    TryingNotHeld,
    /// A final response leaves before the other node knows that it was chosen.
    FinalNotHeld,
    /// The same of our ACK to a refusal.
    AckNotHeld,
    /// The same of the 200 to a CANCEL.
    CancelAnswerNotHeld,
    /// The other node is not told when branches have rung long enough.
    TimersLost,
    /// The other node is not told of the last branch.
    BranchForgotten,
}

/// All faults.
pub const ALL: [Fault; 6] = [
    Fault::TryingNotHeld,
    Fault::FinalNotHeld,
    Fault::AckNotHeld,
    Fault::CancelAnswerNotHeld,
    Fault::TimersLost,
    Fault::BranchForgotten,
];

/// Whether a planted fault lets this message leave at once.
pub(crate) fn lets_pass(message: &[u8]) -> bool {
    let fault = match message {
        [b'A', b'C', b'K', ..] => Fault::AckNotHeld,
        [b'S', b'I', b'P', b'/', _, _, _, _, b'1', ..] => Fault::TryingNotHeld,
        _ if message.windows(7).any(|it| it == b" CANCEL") => Fault::CancelAnswerNotHeld,
        _ => Fault::FinalNotHeld,
    };
    is_planted(fault)
}

/// A call as the other node is told of it where a fault is planted.
// The numbers are those of the fields in the encodings of a call, of its context, a branch and what was sent by it.
pub(crate) fn spoil(capsule: Bytes) -> Bytes {
    if is_planted(Fault::BranchForgotten) {
        // With its client transaction, which can not be read without it.
        return without(&without(&capsule, &[2, 4], &[1], true), &[], &[4], true).into();
    }
    if is_planted(Fault::TimersLost) {
        return without(&capsule, &[2, 4, 1, 9], &[7, 8, 9, 10], false).into();
    }
    capsule
}

/// A message without these fields of what lies at this path; only without the last one of them if `is_last`.
fn without(message: &[u8], path: &[u64], fields: &[u64], is_last: bool) -> Vec<u8> {
    let parts = parts(message);
    let last = parts.iter().rposition(|part| fields.contains(&part.number));
    let mut out = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        let goes = path.is_empty() && fields.contains(&part.number) && (!is_last || last == Some(place));
        match path.split_first() {
            Some((&first, rest)) if first == part.number => {
                let inner = without(part.inner, rest, fields, is_last);
                out.extend(varint_of(first << 3 | 2));
                out.extend(varint_of(inner.len() as u64));
                out.extend(inner);
            }
            _ if goes => {}
            _ => out.extend_from_slice(part.whole),
        }
    }
    out
}

/// A field of an encoded message.
struct Part<'a> {
    number: u64,
    whole: &'a [u8],
    inner: &'a [u8],
}

fn parts(message: &[u8]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = message;
    while let Some((key, after)) = varint(rest) {
        let Some((inner, next)) = (match key & 7 {
            0 => varint(after).map(|(_, next)| (&after[..0], next)),
            1 => after.get(8..).map(|next| (&after[..0], next)),
            2 => varint(after).and_then(|(length, after)| after.split_at_checked(length as usize)),
            5 => after.get(4..).map(|next| (&after[..0], next)),
            _ => None,
        }) else {
            break;
        };
        let whole = &rest[..rest.len() - next.len()];
        parts.push(Part { number: key >> 3, whole, inner });
        rest = next;
    }
    parts
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (value, rest) = bytes.split_at(length);
    let value = value.iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}

fn varint_of(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(feature = "test-faults")]
mod planted {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ALL, Fault};

    /// The planted one's place in [`ALL`], or one past the end.
    static PLANTED: AtomicUsize = AtomicUsize::new(ALL.len());

    /// Plants a fault in all worlds of this process, or takes it out again.
    pub fn plant(fault: Option<Fault>) {
        let place = fault.and_then(|fault| ALL.iter().position(|other| *other == fault));
        PLANTED.store(place.unwrap_or(ALL.len()), Ordering::Relaxed);
    }

    /// Whether a fault is planted.
    pub fn is_planted(fault: Fault) -> bool {
        ALL.get(PLANTED.load(Ordering::Relaxed)) == Some(&fault)
    }
}

#[cfg(feature = "test-faults")]
pub use planted::{is_planted, plant};

/// Whether a fault is planted: never without the feature.
#[cfg(not(feature = "test-faults"))]
pub(crate) const fn is_planted(_fault: Fault) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_at_the_path_go() {
        let inner = [8, 1, 18, 1, 7, 18, 1, 9];
        let message = [&[8, 0x96, 1, 18, 8][..], &inner, &[18, 1, 3]].concat();

        assert_eq!(without(&message, &[], &[9], false), message);
        assert_eq!(without(&message, &[], &[2], true), [&[8, 0x96, 1, 18, 8][..], &inner].concat());
        assert_eq!(without(&message[..13], &[2], &[2], true), [8, 0x96, 1, 18, 5, 8, 1, 18, 1, 7]);
        assert_eq!(without(&message[..13], &[2], &[1, 2], false), [8, 0x96, 1, 18, 0]);
    }
}

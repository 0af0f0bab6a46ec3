//! The Binding request and its answers.

use std::net::{IpAddr, SocketAddr};

use crate::attribute::{
    Attributes, ERROR_CODE, FINGERPRINT, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS, is_understood,
};
use crate::{HEADER_BYTES, MAGIC_COOKIE, is_stun};

const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const BINDING_SUCCESS: [u8; 2] = [0x01, 0x01];
const BINDING_ERROR: [u8; 2] = [0x01, 0x11];

/// Bytes of a request that is answered. Clients stay below a path's MTU (RFC 8489 §6.1).
const REQUEST_BYTES_MAX: usize = 1500;

/// Unknown attributes that an answer names; a client that sends more learns of the others afterwards.
const UNKNOWN_MAX: usize = 16;

/// What FINGERPRINT's check sum is mixed with, so that it differs from one of an inner protocol.
const FINGERPRINT_MASK: u32 = 0x5354_554E;

/// Appends the answer to a Binding request that came from `source`: its address, or 420 when it has attributes that
/// must be understood and are not. False, and nothing appended, for all that gets no answer: other messages, broken
/// ones, a wrong FINGERPRINT.
pub fn answer(request: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> bool {
    let Some(request) = Request::parse(request) else { return false };
    let start = out.len();
    out.extend_from_slice(if request.unknown.is_empty() { &BINDING_SUCCESS } else { &BINDING_ERROR });
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE);
    out.extend_from_slice(request.transaction_id);
    if request.unknown.is_empty() {
        write_xor_mapped_address(source, request.transaction_id, out);
    } else {
        write_unknown_attributes(request.unknown.kinds(), out);
    }
    match request.ending {
        Ending::Fingerprint => write_fingerprint(start, out),
        Ending::Plain => set_length(start, 0, out),
    }
    true
}

/// What of a request the answer is made from.
struct Request<'a> {
    transaction_id: &'a [u8],
    unknown: Unknown,
    ending: Ending,
}

/// Whether the request had a FINGERPRINT, which its answer then has too.
enum Ending {
    Fingerprint,
    Plain,
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let is_request = is_stun(bytes)
            && bytes.len() <= REQUEST_BYTES_MAX
            && bytes[..2] == BINDING_REQUEST
            && usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) == bytes.len() - HEADER_BYTES;
        if !is_request {
            return None;
        }
        let mut request = Self {
            transaction_id: &bytes[8..HEADER_BYTES],
            unknown: Unknown::default(),
            ending: Ending::Plain,
        };
        let mut is_protected = false;
        for attribute in Attributes::new(&bytes[HEADER_BYTES..]) {
            let attribute = attribute.ok()?;
            match attribute.kind {
                FINGERPRINT => {
                    // RFC 8489 §14.7: it is the last one, and its check sum is over all before it.
                    let covered = &bytes[..HEADER_BYTES + attribute.offset];
                    let is_right = attribute.value == fingerprint(covered).to_be_bytes();
                    let is_last = HEADER_BYTES + attribute.offset + 8 == bytes.len();
                    if !(is_right && is_last) {
                        return None;
                    }
                    request.ending = Ending::Fingerprint;
                }
                MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256 => is_protected = true,
                // RFC 8489 §14.5: what follows the integrity is not read.
                _ if is_protected => {}
                kind if !is_understood(kind) => request.unknown.note(kind),
                _ => {}
            }
        }
        Some(request)
    }
}

/// The attributes of a request that are not understood, each once.
#[derive(Default)]
struct Unknown {
    kinds: [u16; UNKNOWN_MAX],
    len: usize,
}

impl Unknown {
    fn note(&mut self, kind: u16) {
        if self.len < UNKNOWN_MAX && !self.kinds().contains(&kind) {
            self.kinds[self.len] = kind;
            self.len += 1;
        }
    }

    fn kinds(&self) -> &[u16] {
        &self.kinds[..self.len]
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}

// RFC 8489 §14.2: the port and the address are mixed with the cookie and the transaction id, because some NATs
// rewrite what looks like an address of theirs.
fn write_xor_mapped_address(source: SocketAddr, transaction_id: &[u8], out: &mut Vec<u8>) {
    let mask = MAGIC_COOKIE.iter().chain(transaction_id);
    let port = source.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    // A socket of both families shows IPv4 sources as mapped IPv6 addresses; the client knows nothing of that.
    match source.ip().to_canonical() {
        IpAddr::V4(address) => {
            write_head(XOR_MAPPED_ADDRESS, 8, out);
            out.extend_from_slice(&[0, 1]);
            out.extend_from_slice(&port.to_be_bytes());
            out.extend(address.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
        IpAddr::V6(address) => {
            write_head(XOR_MAPPED_ADDRESS, 20, out);
            out.extend_from_slice(&[0, 2]);
            out.extend_from_slice(&port.to_be_bytes());
            out.extend(address.octets().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        }
    }
}

// RFC 8489 §6.3.1: 420 names what was not understood.
fn write_unknown_attributes(kinds: &[u16], out: &mut Vec<u8>) {
    let reason = b"Unknown Attribute";
    write_head(ERROR_CODE, 4 + reason.len() as u16, out);
    out.extend_from_slice(&[0, 0, 4, 20]);
    out.extend_from_slice(reason);
    pad(4 + reason.len(), out);
    write_head(UNKNOWN_ATTRIBUTES, 2 * kinds.len() as u16, out);
    for kind in kinds {
        out.extend_from_slice(&kind.to_be_bytes());
    }
    pad(2 * kinds.len(), out);
}

/// Appends FINGERPRINT to the message that begins at `start`; the length it covers counts itself.
fn write_fingerprint(start: usize, out: &mut Vec<u8>) {
    set_length(start, 8, out);
    let sum = fingerprint(&out[start..]);
    write_head(FINGERPRINT, 4, out);
    out.extend_from_slice(&sum.to_be_bytes());
}

fn fingerprint(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ FINGERPRINT_MASK
}

fn write_head(kind: u16, len: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

fn pad(len: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + (len.next_multiple_of(4) - len), 0);
}

/// Writes the length of the message that begins at `start` and to which `more` bytes will be added.
fn set_length(start: usize, more: usize, out: &mut [u8]) {
    let len = out.len() - start - HEADER_BYTES + more;
    // An answer has at most 20 + 4 + 24 + 4 + 2 * UNKNOWN_MAX + 8 bytes.
    out[start + 2..start + 4].copy_from_slice(&(len as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8489 §14.2: the answer is the source's address, mixed with cookie and transaction id.
    #[test]
    fn the_answer_is_the_address_of_the_source() {
        assert_eq!(answered(REQUEST, "192.0.2.1:32853"), Some(ANSWER_V4.to_vec()));
        assert_eq!(
            answered(REQUEST, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
            Some(ANSWER_V6.to_vec())
        );
    }

    #[test]
    fn a_mapped_ipv4_source_is_answered_as_ipv4() {
        assert_eq!(answered(REQUEST, "[::ffff:192.0.2.1]:32853"), Some(ANSWER_V4.to_vec()));
    }

    /// RFC 8489 §7.3: a request with FINGERPRINT is answered with one.
    #[test]
    fn a_fingerprint_is_answered_with_a_fingerprint() {
        let answer = answered(REQUEST_WITH_FINGERPRINT, "192.0.2.1:32853");
        assert_eq!(answer, Some(ANSWER_V4_WITH_FINGERPRINT.to_vec()));
    }

    #[test]
    fn a_wrong_or_early_fingerprint_gets_no_answer() {
        for at in HEADER_BYTES..REQUEST_WITH_FINGERPRINT.len() {
            let mut request = REQUEST_WITH_FINGERPRINT.to_vec();
            request[at] ^= 0x01;
            // The changed byte may be the type of FINGERPRINT: then it is another attribute and there is none.
            let is_type =
                at == REQUEST_WITH_FINGERPRINT.len() - 8 || at == REQUEST_WITH_FINGERPRINT.len() - 7;
            assert!(is_type || answered(&request, "192.0.2.1:1").is_none(), "{at}");
        }
        let mut early = REQUEST_WITH_FINGERPRINT.to_vec();
        early.extend_from_slice(&[0x80, 0x22, 0, 0]);
        early[3] += 4;
        assert_eq!(answered(&early, "192.0.2.1:1"), None);
    }

    /// RFC 8489 §6.3.1: attributes that must be understood and are not are named in a 420, each once.
    #[test]
    fn unknown_attributes_that_must_be_understood_are_refused() {
        assert_eq!(answered(REQUEST_UNKNOWN, "192.0.2.1:1"), Some(ANSWER_UNKNOWN.to_vec()));
    }

    #[test]
    fn the_list_of_unknown_attributes_is_bounded() {
        let attributes: Vec<u8> =
            (0x0100..0x0180u16).flat_map(|kind| [kind.to_be_bytes(), [0, 0]].concat()).collect();

        let answer = answered(&request(&attributes), "192.0.2.1:1").unwrap();

        assert_eq!(answer.len(), HEADER_BYTES + 4 + 24 + 4 + 2 * UNKNOWN_MAX);
    }

    /// RFC 8489 §14.5: what follows the integrity is not read.
    #[test]
    fn credentials_are_passed_over_with_what_follows_them() {
        let attributes =
            [&[0, 6, 0, 1, b'u', 0, 0, 0][..], &[0, 8, 0, 20], &[9; 20], &[0, 0x24, 0, 0]].concat();
        assert_eq!(answered(&request(&attributes), "192.0.2.1:32853"), Some(ANSWER_V4.to_vec()));
    }

    #[test]
    fn what_is_no_binding_request_gets_no_answer() {
        let changed = |at: usize, byte: u8| {
            let mut request = REQUEST.to_vec();
            request[at] = byte;
            request
        };
        for bytes in [
            changed(0, 0x01),                 // a success
            changed(1, 0x11),                 // an indication
            changed(1, 0x03),                 // another method
            changed(3, 4),                    // longer than it is
            request(&[0, 6, 0, 9]),           // a cut attribute
            request(&[0, 6, 0]),              // a cut attribute head
            request(&[0; REQUEST_BYTES_MAX]), // too long
            ANSWER_V4.to_vec(),
            Vec::new(),
        ] {
            assert_eq!(answered(&bytes, "192.0.2.1:1"), None, "{bytes:x?}");
        }
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        for vector in [REQUEST, REQUEST_WITH_FINGERPRINT, REQUEST_UNKNOWN, ANSWER_V6] {
            for at in 0..vector.len() {
                let _ = answered(&vector[..at], "192.0.2.1:1");
                for byte in 0..=255 {
                    let mut changed = vector.to_vec();
                    changed[at] = byte;
                    let _ = answered(&changed, "[::1]:1");
                }
            }
        }
    }

    #[test]
    fn an_answer_is_appended_behind_what_is_there() {
        let mut out = b"before".to_vec();

        assert!(answer(REQUEST_WITH_FINGERPRINT, "192.0.2.1:32853".parse().unwrap(), &mut out));
        assert!(!answer(&REQUEST[..19], "192.0.2.1:32853".parse().unwrap(), &mut out));

        assert_eq!(out, [b"before", ANSWER_V4_WITH_FINGERPRINT].concat());
    }

    fn answered(request: &[u8], source: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let is_answered = answer(request, source.parse().unwrap(), &mut out);
        assert_eq!(is_answered, !out.is_empty());
        is_answered.then_some(out)
    }

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut request = [REQUEST, attributes].concat();
        request[2..4].copy_from_slice(&(attributes.len() as u16).to_be_bytes());
        request
    }

    // The vectors were computed apart from this code, in the manner of RFC 5769.

    const REQUEST: &[u8] = &[
        0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b,
    ];
    const REQUEST_WITH_FINGERPRINT: &[u8] = &[
        0x00, 0x01, 0x00, 0x1c, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20,
        0x63, 0x6c, 0x69, 0x65, 0x6e, 0x74, 0x80, 0x28, 0x00, 0x04, 0xa3, 0x8a, 0x61, 0xae,
    ];
    const ANSWER_V4: &[u8] = &[
        0x01, 0x01, 0x00, 0x0c, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43,
    ];
    const ANSWER_V4_WITH_FINGERPRINT: &[u8] = &[
        0x01, 0x01, 0x00, 0x14, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x80, 0x28,
        0x00, 0x04, 0x4f, 0x82, 0x8d, 0xf6,
    ];
    const ANSWER_V6: &[u8] = &[
        0x01, 0x01, 0x00, 0x18, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0x02, 0x25,
        0x44, 0x6b, 0x14, 0x04, 0x34, 0x24, 0x5c, 0x4c, 0x7c, 0x6c,
    ];
    const REQUEST_UNKNOWN: &[u8] = &[
        0x00, 0x01, 0x00, 0x2c, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x31, 0x32,
        0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x00, 0x06, 0x00, 0x24, 0x00,
        0x04, 0x2e, 0x2e, 0x2e, 0x2e, 0x80, 0x28, 0x00, 0x04, 0x9e, 0x25, 0x84, 0xa6,
    ];
    const ANSWER_UNKNOWN: &[u8] = &[
        0x01, 0x11, 0x00, 0x2c, 0x21, 0x12, 0xa4, 0x42, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x19, 0x1a, 0x1b, 0x00, 0x09, 0x00, 0x15, 0x00, 0x00, 0x04, 0x14, 0x55, 0x6e, 0x6b, 0x6e, 0x6f, 0x77,
        0x6e, 0x20, 0x41, 0x74, 0x74, 0x72, 0x69, 0x62, 0x75, 0x74, 0x65, 0x00, 0x00, 0x00, 0x00, 0x0a, 0x00,
        0x04, 0x00, 0x24, 0x00, 0x03, 0x80, 0x28, 0x00, 0x04, 0x74, 0x8d, 0x15, 0x44,
    ];
}

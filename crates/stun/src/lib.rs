//! STUN Binding on the SIP port (RFC 8489, RFC 5626 §8): tells a client which address its packets come from.
//!
//! It answers a Binding request and nothing else, keeps no state, asks for no credentials, and never answers with
//! more bytes than the request had but for the address itself, so that it is of no use to who forges sources.
//! A datagram is STUN when its first two bits are zero and the magic cookie is in place; SIP begins with a letter.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod attribute;
mod binding;

pub use binding::answer;

/// Bytes of the header: type, length, cookie, transaction id.
const HEADER_BYTES: usize = 20;

/// What every message of RFC 8489 has behind its length.
const MAGIC_COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();

/// Whether a datagram is STUN; nothing but the start of its header is checked.
// RFC 8489 §5: the first two bits are zero and the cookie follows, which tells STUN from what shares its port.
pub fn is_stun(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES && bytes[0] & 0xC0 == 0 && bytes[4..8] == MAGIC_COOKIE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_is_told_from_sip_and_from_scraps() {
        let mut request = vec![0, 1, 0, 0];
        request.extend_from_slice(&MAGIC_COOKIE);
        request.extend_from_slice(&[7; 12]);

        assert!(is_stun(&request));
        assert!(!is_stun(&request[..19]));
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0\r\n"));
        assert!(!is_stun(b"\r\n\r\n"));
        assert!(!is_stun(b""));
        request[4] ^= 1;
        assert!(!is_stun(&request));
    }
}

//! What a datagram on a SIP port is.

use memchr::memmem;

/// What a datagram is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classified {
    /// It looks like a SIP message; whether it is one the parser says.
    Message,
    /// It only keeps a NAT's mapping alive: there is nothing to answer.
    Keepalive,
    /// STUN: a Binding request is answered on the same port (RFC 5626 §4.4.2).
    Stun,
    /// Nothing that is spoken here.
    Garbage,
}

/// Keepalives in use are one to four zero bytes, one or two line ends, a few blanks, or `jaK`.
const KEEPALIVE_BYTES_MAX: usize = 8;

/// The version must come within the first line. A longer request line is refused by the parser in a
/// stream as well.
const START_LINE_BYTES_MAX: usize = sip::limits::START_LINE_BYTES_MAX;

/// Says what a datagram is. Costs nothing to speak of for what is no SIP.
pub fn classify(datagram: &[u8]) -> Classified {
    if stun::is_stun(datagram) {
        return Classified::Stun;
    }
    // RFC 3261 §7.5: line ends before the start line are ignored.
    let Some(start) = datagram.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Classified::Keepalive;
    };
    let message = &datagram[start..];
    if datagram.len() <= KEEPALIVE_BYTES_MAX {
        return Classified::Keepalive;
    }
    if message.iter().all(|byte| matches!(byte, 0 | b' ' | b'\r' | b'\n')) {
        return Classified::Keepalive;
    }
    let line = &message[..message.len().min(START_LINE_BYTES_MAX)];
    let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
    // RFC 3261 §7.1: both start lines name the version, a response at its start, a request at its end.
    let is_sip = line[0].is_ascii_graphic() && has_version(line);
    if is_sip { Classified::Message } else { Classified::Garbage }
}

/// RFC 3261 §7.1: the version is compared without case. Upper case is what nearly all write.
pub(crate) fn has_version(line: &[u8]) -> bool {
    memmem::find(line, b"SIP/").is_some()
        || line.windows(4).any(|window| window.eq_ignore_ascii_case(b"SIP/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_responses_are_messages() {
        for datagram in [
            "OPTIONS sip:a@b SIP/2.0\r\n\r\n",
            "SIP/2.0 200 OK\r\n\r\n",
            "\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\n\r\n",
            "OPTIONS sip:a@b sip/2.0\n\n",
            "OPTIONS sip:a@b SIP/7.0\r\n\r\n",
            "!interesting-Method0123456789_*+`.%indeed'~ sip:a@b SIP/2.0\r\n",
        ] {
            assert_eq!(classify(datagram.as_bytes()), Classified::Message, "{datagram:?}");
        }
    }

    #[test]
    fn small_change_is_a_keepalive() {
        for datagram in
            [&b""[..], b"\0", b"\0\0\0\0", b"\r\n", b"\r\n\r\n", b"jaK", b" ", b"\r\n\r\n\r\n\r\n\r\n\r\n"]
        {
            assert_eq!(classify(datagram), Classified::Keepalive, "{datagram:?}");
        }
        assert_eq!(classify(&[b'\r', b'\n'].repeat(30_000)), Classified::Keepalive);
        assert_eq!(classify(&[0; 1_000]), Classified::Keepalive);
    }

    #[test]
    fn a_binding_request_is_stun() {
        let mut request = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        request.extend_from_slice(b"transaction.");

        assert_eq!(classify(&request), Classified::Stun);
    }

    #[test]
    fn what_names_no_version_in_its_first_line_is_garbage() {
        for datagram in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\0\0\0\0SIP/2.0 200 OK\r\n\r\n",
            b"\x80\x00\x12\x34\x00\x00\x00\x00\x00\x00\x00\x00rtp",
            b"GET / HTTP/1.1\r\nX: SIP/2.0\r\n\r\n",
            b" OPTIONS sip:a@b SIP/2.0\r\n\r\n",
        ] {
            assert_eq!(classify(datagram), Classified::Garbage, "{}", datagram.escape_ascii());
        }
        assert_eq!(classify(&[b'A'; 65_535]), Classified::Garbage);
    }
}

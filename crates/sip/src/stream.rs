//! Where messages begin and end on a stream (RFC 3261 §18.3, RFC 5626 §3.5.1).

use memchr::memchr;

use crate::Malformed;
use crate::Name;
use crate::grammar::is_token_byte;
use crate::limits::{HEADERS_MAX, MESSAGE_BYTES_MAX, START_LINE_BYTES_MAX};
use crate::lines::{Lines, Step};
use crate::message::{ContentLength, parse_start_line};

/// What stands at the start of a stream's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framed {
    /// No verdict before more bytes come. A lone CRLF is that too, it may be half of a ping: see [`is_idle`].
    NeedMore,
    /// Empty lines before the next message.
    Keepalive {
        /// Bytes to skip: 4 is a ping (CRLF CRLF) and wants a pong, less is a pong or padding.
        len: usize,
    },
    /// A whole message.
    Message {
        /// Its bytes.
        len: usize,
    },
    /// What comes next cannot be found: answer if there is something to answer, and close.
    Broken(Malformed),
}

/// Finds the first message of a stream's bytes. The verdict of a prefix stays when more bytes come, but `NeedMore`.
///
/// Each call reads the header section anew; call it when bytes have come, not for each byte.
pub fn frame_stream(bytes: &[u8]) -> Framed {
    match bytes {
        // RFC 5626 §3.5.1: a ping is two CRLFs, its pong is one.
        [b'\r', b'\n', b'\r', b'\n', ..] => return Framed::Keepalive { len: 4 },
        [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Framed::NeedMore,
        [b'\r', b'\n', ..] => return Framed::Keepalive { len: 2 },
        [b'\n', ..] => return Framed::Keepalive { len: 1 },
        [first, ..] if !is_token_byte(*first) => return Framed::Broken(Malformed::StartLine),
        _ => {}
    }
    let window = &bytes[..bytes.len().min(START_LINE_BYTES_MAX)];
    let Some(line_feed) = memchr(b'\n', window) else {
        return match window.len() {
            START_LINE_BYTES_MAX => Framed::Broken(Malformed::StartLine),
            _ => Framed::NeedMore,
        };
    };
    let line = window[..line_feed].strip_suffix(b"\r").unwrap_or(&window[..line_feed]);
    match parse_start_line(line) {
        Ok(_) => frame_headers(bytes, line_feed + 1),
        Err(malformed) => Framed::Broken(malformed),
    }
}

/// Whether the bytes that wait on a stream are no more than empty lines: no message has begun.
pub fn is_idle(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

fn frame_headers(bytes: &[u8], headers_start: usize) -> Framed {
    let window = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
    let mut lines = Lines::new(window, headers_start);
    let mut length = ContentLength::Absent;
    let mut count = 0;
    let body = loop {
        match lines.step() {
            Step::Line(_) if count == HEADERS_MAX => return Framed::Broken(Malformed::TooManyHeaders),
            Step::Line(line) => {
                count += 1;
                if line.is_header
                    && Name::from_bytes(&window[line.start..line.name_end]) == Name::ContentLength
                {
                    length.read(&window[line.value_start..line.value_end]);
                }
            }
            Step::End { body, .. } => break body,
            Step::Unterminated => return more_or_too_large(window),
        }
    };
    // RFC 3261 §18.3: on a stream the length is the only way to find the next message.
    match length.of_body() {
        Err(malformed) => Framed::Broken(malformed),
        Ok(None) => Framed::Broken(Malformed::Missing(Name::ContentLength)),
        Ok(Some(len)) if len > MESSAGE_BYTES_MAX - body => Framed::Broken(Malformed::TooLarge),
        Ok(Some(len)) if len > bytes.len() - body => Framed::NeedMore,
        Ok(Some(len)) => Framed::Message { len: body + len },
    }
}

fn more_or_too_large(window: &[u8]) -> Framed {
    match window.len() {
        MESSAGE_BYTES_MAX => Framed::Broken(Malformed::TooLarge),
        _ => Framed::NeedMore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYE: &[u8] = b"BYE sip:a@b SIP/2.0\r\nContent-Length: 4\r\n\r\nbodyNEXT";

    #[test]
    fn a_message_ends_where_its_content_length_says() {
        assert_eq!(frame_stream(BYE), Framed::Message { len: BYE.len() - 4 });
        assert_eq!(frame_stream(b"BYE sip:a@b SIP/2.0\nl:\n 0\n\n"), Framed::Message { len: 27 });
    }

    #[test]
    fn each_prefix_of_a_message_needs_more() {
        for len in 0..BYE.len() - 4 {
            assert_eq!(frame_stream(&BYE[..len]), Framed::NeedMore, "{len}");
        }
    }

    #[test]
    fn a_ping_is_told_from_a_pong() {
        assert_eq!(frame_stream(b"\r\n\r\nBYE"), Framed::Keepalive { len: 4 });
        assert_eq!(frame_stream(b"\r\nBYE"), Framed::Keepalive { len: 2 });
        assert_eq!(frame_stream(b"\r\n"), Framed::NeedMore);
        assert_eq!(frame_stream(b"\nBYE"), Framed::Keepalive { len: 1 });
        assert!(is_idle(b"\r\n\r") && !is_idle(b"\r\nB"));
    }

    #[test]
    fn a_length_that_cannot_be_believed_breaks_the_stream() {
        for (headers, malformed) in [
            (&b"Content-Length: -999"[..], Malformed::ContentLength),
            (b"Content-Length:", Malformed::ContentLength),
            (b"Content-Length: 5\r\nl: 13", Malformed::Repeated(Name::ContentLength)),
            (b"Content-Length: 65535", Malformed::TooLarge),
            (b"Content-Length: 99999999999999999999999", Malformed::TooLarge),
            (b"To: x", Malformed::Missing(Name::ContentLength)),
        ] {
            let bytes = [b"BYE sip:a@b SIP/2.0\r\n", headers, b"\r\n\r\n"].concat();
            assert_eq!(frame_stream(&bytes), Framed::Broken(malformed));
        }
        assert_eq!(frame_stream(b"BYE sip:a@b SIP/2.0\r\nl: 0\r\nl: 0\r\n\r\n"), Framed::Message { len: 35 });
    }

    #[test]
    fn what_is_not_sip_breaks_the_stream_at_once() {
        for bytes in
            [&b"\x16\x03\x01"[..], b" INVITE", b"GET / HTTP/1.1\r\n", b"\0", b"hello\r\n", b"\r\n\x16"]
        {
            let bytes = match frame_stream(bytes) {
                Framed::Keepalive { len } => &bytes[len..],
                _ => bytes,
            };
            assert_eq!(frame_stream(bytes), Framed::Broken(Malformed::StartLine), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn endless_lines_and_headers_are_cut_off() {
        assert_eq!(frame_stream(&[b'A'; START_LINE_BYTES_MAX]), Framed::Broken(Malformed::StartLine));
        let start = b"BYE sip:a@b SIP/2.0\r\n";
        let mut long = start.to_vec();
        long.resize(MESSAGE_BYTES_MAX - 1, b'A');
        assert_eq!(frame_stream(&long), Framed::NeedMore);
        long.push(b'A');
        assert_eq!(frame_stream(&long), Framed::Broken(Malformed::TooLarge));
        let many = [&start[..], &b"a:\r\n".repeat(HEADERS_MAX + 1), b"\r\n"].concat();
        assert_eq!(frame_stream(&many), Framed::Broken(Malformed::TooManyHeaders));
    }
}

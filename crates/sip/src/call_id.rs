//! The Call-ID of a message that is not framed yet: it picks the shard.

use memchr::memchr;

use crate::Name;
use crate::lines::{Lines, Step};

/// The value of the first Call-ID line of a datagram, or `None` when there is none. The same bytes as
/// [`Message::header`](crate::Message::header) gives for it; nothing else is checked.
pub fn find_call_id(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    let bytes = &bytes[start..];
    let mut lines = Lines::new(bytes, memchr(b'\n', bytes)? + 1);
    loop {
        match lines.step() {
            Step::Line(line) if line.is_header => {
                if Name::from_bytes(&bytes[line.start..line.name_end]) == Name::CallId {
                    return Some(&bytes[line.value_start..line.value_end]);
                }
            }
            Step::Line(_) => {}
            Step::End { .. } | Step::Unterminated => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_in_every_form() {
        assert_eq!(
            find_call_id(b"\r\nBYE sip:a SIP/2.0\r\nVia: x\r\nCALL-id :\r\n a@b\r\n\r\n"),
            Some(&b"a@b"[..])
        );
        assert_eq!(find_call_id(b"BYE sip:a SIP/2.0\ni:a@b\n\n"), Some(&b"a@b"[..]));
        assert_eq!(find_call_id(b"BYE sip:a SIP/2.0\r\nCall-ID: cut"), Some(&b"cut"[..]));
    }

    #[test]
    fn it_is_not_looked_for_in_the_body_or_in_a_fold() {
        assert_eq!(find_call_id(b"BYE sip:a SIP/2.0\r\nVia: x\r\n\r\nCall-ID: a@b\r\n"), None);
        assert_eq!(find_call_id(b"BYE sip:a SIP/2.0\r\nSubject: x\r\n Call-ID: a@b\r\n\r\n"), None);
        assert_eq!(find_call_id(b"Call-ID: a@b\r\n\r\n"), None);
        assert_eq!(find_call_id(b"\r\n\r\n"), None);
        assert_eq!(find_call_id(b""), None);
    }
}

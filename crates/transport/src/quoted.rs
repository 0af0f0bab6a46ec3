//! What an ICMP error quotes of a request that this server has sent.
//!
//! A host or router that refuses a datagram sends the beginning of it back: 8 bytes at least, of most systems some
//! hundred. Anybody can make such an error up, so it counts only for the one transaction whose branch it quotes, and
//! a branch can not be guessed.

use sip::{Method, Via};

/// The beginning of a request of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// Its method.
    pub method: Method<'a>,
    /// The branch of its top Via, whole.
    pub branch: &'a [u8],
}

impl<'a> Quoted<'a> {
    /// Reads the beginning of a datagram; `None` if it is no request, or ends before the Via does. Our Via stands above
    /// all others, but not above all other header fields.
    pub fn read(quote: &'a [u8]) -> Option<Self> {
        let (start, mut rest) = line(quote)?;
        let (method, uri) = start.split_at(start.iter().position(|&byte| byte == b' ')?);
        if !uri.ends_with(b" SIP/2.0") {
            return None;
        }
        loop {
            let (header, after) = line(rest)?;
            if let Some(via) = header.strip_prefix(b"Via: ") {
                let branch = Via::parse(via).ok()?.branch()?;
                return Some(Self { method: Method::from_bytes(method), branch });
            }
            rest = after;
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"INVITE sip:bob@192.0.2.9 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK-ours\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-theirs\r\n";

    #[test]
    fn the_top_branch_of_a_quoted_request_is_read() {
        let quoted = Quoted::read(REQUEST).unwrap();

        assert_eq!((quoted.method, quoted.branch), (Method::Invite, &b"z9hG4bK-ours"[..]));
    }

    #[test]
    fn our_via_need_not_be_the_first_header_field() {
        let request = b"BYE sip:bob@192.0.2.9 SIP/2.0\r\nMax-Forwards: 69\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK-ours\r\n";

        assert_eq!(Quoted::read(request).unwrap().branch, b"z9hG4bK-ours");
    }

    #[test]
    fn a_quote_that_ends_within_the_via_says_nothing() {
        let line = b"z9hG4bK-ours\r\n";
        let end = REQUEST.windows(line.len()).position(|bytes| bytes == line).unwrap() + line.len();

        for length in 0..=REQUEST.len() {
            assert_eq!(Quoted::read(&REQUEST[..length]).is_some(), length >= end, "{length}");
        }
    }

    #[test]
    fn what_is_no_request_of_ours_says_nothing() {
        for bytes in [
            &b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-x\r\n"[..],
            b"INVITE sip:bob@192.0.2.9\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-x\r\n",
            b"INVITE sip:bob@192.0.2.9 SIP/2.0\r\nTo: bob\r\n",
            b"INVITE sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\n",
            b"\0\0\r\n\r\n",
            b"",
        ] {
            assert_eq!(Quoted::read(bytes), None);
        }
    }
}

//! `sip:` and `sips:` URIs (RFC 3261 §19.1).

use memchr::memchr;

use super::is_no_uri_byte;
use crate::grammar::{decimal, decimal_u16, escaped_byte};
use crate::{Host, Malformed, Params};

/// A `sip` or `sips` URI.
#[derive(Clone, Copy, Debug)]
pub struct SipUri<'a> {
    /// Whether the scheme is `sips`.
    pub secure: bool,
    /// The user, escapes left in.
    pub user: Option<&'a [u8]>,
    /// The password, escapes left in.
    pub password: Option<&'a [u8]>,
    /// The host.
    pub host: Host<'a>,
    /// The port, if one stands there.
    pub port: Option<u16>,
    /// The parameters, escapes left in.
    pub params: Params<'a>,
    /// What follows the question mark.
    pub headers: Option<&'a [u8]>,
    bytes: &'a [u8],
}

impl<'a> SipUri<'a> {
    /// Reads a `sip` or `sips` URI.
    pub fn parse(bytes: &'a [u8]) -> Result<SipUri<'a>, Malformed> {
        match super::Uri::parse(bytes)? {
            super::Uri::Sip(uri) => Ok(uri),
            _ => Err(Malformed::Uri),
        }
    }

    pub(super) fn parse_after_scheme(
        bytes: &'a [u8],
        secure: bool,
        rest: &'a [u8],
    ) -> Result<Self, Malformed> {
        let marks = Marks::find(rest).ok_or(Malformed::Uri)?;
        let (user, password, rest) = match marks.at {
            Some(at) => match marks.colon {
                Some(colon) => (Some(&rest[..colon]), Some(&rest[colon + 1..at]), &rest[at + 1..]),
                None => (Some(&rest[..at]), None, &rest[at + 1..]),
            },
            None => (None, None, rest),
        };
        if user.is_some_and(<[u8]>::is_empty) {
            return Err(Malformed::Uri);
        }
        let (rest, headers) = match marks.question {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let (host_port, params) = rest.split_at(marks.semicolon.unwrap_or(rest.len()));
        let (host, port) = split_host_port(host_port)?;
        Ok(Self { secure, user, password, host, port, params: Params::new(params), headers, bytes })
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes without the headers and their question mark.
    pub fn without_headers(&self) -> &'a [u8] {
        let headers = self.headers.map_or(0, |headers| headers.len() + 1);
        &self.bytes[..self.bytes.len() - headers]
    }

    /// A parameter as [`Params::find`] has it, found also where its name is written with escapes.
    pub fn param(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.params.find(name).or_else(|| {
            // RFC 3261 §19.1.2: a name written with escapes is the same name.
            memchr(b'%', self.params.as_bytes())?;
            self.params.iter().find(|(found, _)| is_escaped_form(found, name)).map(|(_, value)| value)
        })
    }

    /// The `transport` parameter.
    pub fn transport(&self) -> Option<&'a [u8]> {
        self.param(b"transport").flatten()
    }

    /// The `maddr` parameter. `None` also if it is no host.
    pub fn maddr(&self) -> Option<Host<'a>> {
        self.param(b"maddr").flatten().and_then(|value| Host::parse(value).ok())
    }

    /// Whether the `lr` parameter is there, with or without a value (`lr=on` is in use).
    pub fn lr(&self) -> bool {
        self.param(b"lr").is_some()
    }

    /// The `ttl` parameter.
    pub fn ttl(&self) -> Option<u8> {
        self.param(b"ttl").flatten().and_then(decimal).and_then(|number| u8::try_from(number).ok())
    }

    /// The `method` parameter.
    pub fn method(&self) -> Option<&'a [u8]> {
        self.param(b"method").flatten()
    }

    /// The `user` parameter (`phone`, `ip`).
    pub fn user_param(&self) -> Option<&'a [u8]> {
        self.param(b"user").flatten()
    }
}

/// Where the parts of a URI behind its scheme meet, found in one pass.
#[derive(Default)]
struct Marks {
    /// The at sign.
    at: Option<usize>,
    /// The first colon before the at sign.
    colon: Option<usize>,
    /// The first question mark, counted from behind the at sign.
    question: Option<usize>,
    /// The first semicolon before that, counted likewise.
    semicolon: Option<usize>,
}

impl Marks {
    /// `None` if a byte stands there that may stand in no URI.
    fn find(bytes: &[u8]) -> Option<Self> {
        let mut marks = Self::default();
        let mut host_start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            if !IS_MARK[byte as usize] {
                continue;
            }
            match byte {
                // RFC 3261 §19.1.1: all before the at sign is the user's, whatever it looks like.
                b'@' if marks.at.is_none() => {
                    marks = Self { at: Some(at), colon: marks.colon, ..Self::default() };
                    host_start = at + 1;
                }
                b'@' => {}
                b':' if marks.at.is_none() && marks.colon.is_none() => marks.colon = Some(at),
                b':' => {}
                b'?' => marks.question = marks.question.or(Some(at - host_start)),
                b';' if marks.question.is_none() => {
                    marks.semicolon = marks.semicolon.or(Some(at - host_start))
                }
                b';' => {}
                _ => return None,
            }
        }
        Some(marks)
    }
}

/// The bytes that part a URI, and those that may stand in none.
const IS_MARK: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_no_uri_byte(byte as u8) || matches!(byte as u8, b'@' | b':' | b'?' | b';');
        byte += 1;
    }
    table
};

/// Splits `host[:port]`; the colons of an IPv6 reference are inside its brackets.
fn split_host_port(bytes: &[u8]) -> Result<(Host<'_>, Option<u16>), Malformed> {
    let host_len = match bytes.first() {
        Some(b'[') => memchr(b']', bytes).ok_or(Malformed::Host)? + 1,
        _ => memchr(b':', bytes).unwrap_or(bytes.len()),
    };
    let (host, port) = bytes.split_at(host_len);
    let port = match port {
        [] => None,
        [b':', digits @ ..] => Some(decimal_u16(digits).ok_or(Malformed::Uri)?),
        _ => return Err(Malformed::Uri),
    };
    Ok((Host::parse(host)?, port))
}

/// Whether `escaped` is `name` once its escapes are undone, without case.
fn is_escaped_form(mut escaped: &[u8], name: &[u8]) -> bool {
    for &wanted in name {
        let (byte, len) = match escaped_byte(escaped) {
            Some(byte) => (byte, 3),
            None => match escaped.first() {
                Some(&byte) => (byte, 1),
                None => return false,
            },
        };
        if !byte.eq_ignore_ascii_case(&wanted) {
            return false;
        }
        escaped = &escaped[len..];
    }
    escaped.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_found() {
        let uri =
            SipUri::parse(b"SIPS:alice:secret@[2001:db8::1]:5071;transport=tcp;lr?subject=x&y=z").unwrap();

        assert!(uri.secure);
        assert_eq!(uri.user, Some(&b"alice"[..]));
        assert_eq!(uri.password, Some(&b"secret"[..]));
        assert_eq!(uri.host, Host::V6("2001:db8::1".parse().unwrap()));
        assert_eq!(uri.port, Some(5071));
        assert_eq!(uri.transport(), Some(&b"tcp"[..]));
        assert!(uri.lr());
        assert_eq!(uri.headers, Some(&b"subject=x&y=z"[..]));
    }

    /// RFC 4475 §3.1.1.9: semicolons before the at sign belong to the user.
    #[test]
    fn semicolons_and_question_marks_may_stand_in_the_user() {
        let uri = SipUri::parse(b"sip:user;par=u%40example.net?x@example.com").unwrap();

        assert_eq!(uri.user, Some(&b"user;par=u%40example.net?x"[..]));
        assert!(uri.params.is_empty());
        assert_eq!(uri.headers, None);
    }

    /// RFC 4475 §3.1.1.3: an escaped at sign does not end the user.
    #[test]
    fn escapes_are_not_undone_before_the_parts_are_split() {
        let uri = SipUri::parse(b"sip:sips%3Auser%40example.com@example.net").unwrap();

        assert!(!uri.secure);
        assert_eq!(uri.user, Some(&b"sips%3Auser%40example.com"[..]));
        assert_eq!(uri.host, Host::Name(b"example.net"));
    }

    #[test]
    fn a_parameter_is_found_when_its_name_is_escaped() {
        let uri = SipUri::parse(b"sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31").unwrap();

        assert!(uri.lr());
        assert_eq!(uri.param(b"name"), Some(Some(&b"v%61lue%25%34%31"[..])));
        assert_eq!(uri.param(b"nam"), None);
        assert_eq!(uri.param(b"names"), None);
    }

    /// RFC 5118 §4.2 and RFC 5118 §4.3: without brackets it is no URI; inside of them there is no port.
    #[test]
    fn an_ipv6_reference_needs_its_brackets() {
        assert!(SipUri::parse(b"sip:2001:db8::10").is_err());
        assert_eq!(SipUri::parse(b"sip:[2001:db8::10:5070]").unwrap().port, None);
        assert_eq!(SipUri::parse(b"sip:[2001:db8::10]:5070").unwrap().port, Some(5070));
    }

    #[test]
    fn what_is_no_sip_uri_is_refused() {
        for bytes in [
            &b"sip:@host"[..],
            b"sip:a@",
            b"sip:a@b@c",
            b"sip:a@host:",
            b"sip:a@host:70000",
            b"sip:a@host:5060x",
            b"sip:a@[::1]5060",
            b"sip:a@[::1",
            b"sip:;lr",
            b"tel:123",
        ] {
            assert!(SipUri::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}

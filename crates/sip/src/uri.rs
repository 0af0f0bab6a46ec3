//! URIs: `sip` and `sips` with all their parts, `tel`, and any other scheme as it came.

mod compare;
mod sip_uri;
mod tel;

pub use sip_uri::SipUri;
pub use tel::TelUri;

use crate::Malformed;

/// A URI, as it stands in a Request-URI or between angle brackets.
#[derive(Clone, Copy, Debug)]
pub enum Uri<'a> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'a>),
    /// `tel:`.
    Tel(TelUri<'a>),
    /// Any other scheme; nothing but the scheme is read.
    Other {
        /// The scheme, as it came.
        scheme: &'a [u8],
        /// The whole URI.
        bytes: &'a [u8],
    },
}

impl<'a> Uri<'a> {
    /// Reads a URI. White space, controls, quotes and angle brackets are refused in any scheme.
    pub fn parse(bytes: &'a [u8]) -> Result<Uri<'a>, Malformed> {
        if let Some(rest) = bytes.strip_prefix(b"sip:") {
            return SipUri::parse_after_scheme(bytes, false, rest).map(Uri::Sip);
        }
        if bytes.iter().any(|&byte| is_no_uri_byte(byte)) {
            return Err(Malformed::Uri);
        }
        let colon = memchr::memchr(b':', bytes).ok_or(Malformed::Uri)?;
        let (scheme, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        if scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips") {
            SipUri::parse_after_scheme(bytes, scheme.len() == 4, rest).map(Uri::Sip)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            TelUri::parse_after_scheme(bytes, rest).map(Uri::Tel)
        } else if is_scheme(scheme) && !rest.is_empty() {
            Ok(Uri::Other { scheme, bytes })
        } else {
            Err(Malformed::Uri)
        }
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &'a [u8] {
        match self {
            Uri::Sip(uri) => uri.as_bytes(),
            Uri::Tel(uri) => uri.as_bytes(),
            Uri::Other { bytes, .. } => bytes,
        }
    }

    /// The URI if it is `sip` or `sips`.
    pub fn as_sip(&self) -> Option<&SipUri<'a>> {
        match self {
            Uri::Sip(uri) => Some(uri),
            _ => None,
        }
    }

    /// Whether both mean the same resource: RFC 3261 §19.1.4 for `sip` and `sips`, RFC 3966 §4 for `tel`; other
    /// schemes must have the same bytes but for the scheme's case.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        match (self, other) {
            (Uri::Sip(a), Uri::Sip(b)) => compare::sip_equivalent(a, b),
            (Uri::Tel(a), Uri::Tel(b)) => compare::tel_equivalent(a, b),
            (Uri::Other { scheme: a, bytes: a_bytes }, Uri::Other { scheme: b, bytes: b_bytes }) => {
                a.eq_ignore_ascii_case(b) && a_bytes[a.len()..] == b_bytes[b.len()..]
            }
            _ => false,
        }
    }
}

/// White space, controls, quotes and angle brackets.
const fn is_no_uri_byte(byte: u8) -> bool {
    matches!(byte, 0..=b' ' | b'"' | b'<' | b'>' | 0x7f)
}

fn is_scheme(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|&it| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_is_kept_whole() {
        let uri = Uri::parse(b"soap.beep://192.0.2.103:3002").unwrap();

        assert!(matches!(uri, Uri::Other { scheme: b"soap.beep", .. }));
        assert_eq!(uri.as_bytes(), b"soap.beep://192.0.2.103:3002");
        assert!(uri.as_sip().is_none());
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for bytes in [
            &b""[..],
            b"sip",
            b"sip:",
            b":x",
            b"1a:x",
            b"<sip:a@b>",
            b"sip:a@b c",
            b"sip:a@b\r\n",
            b"x:",
            b"sip:a\0@b",
        ] {
            assert!(Uri::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn other_schemes_are_equivalent_by_their_bytes() {
        let uri = |text: &'static str| Uri::parse(text.as_bytes()).unwrap();

        assert!(uri("urn:service:sos").equivalent(&uri("URN:service:sos")));
        assert!(!uri("urn:service:sos").equivalent(&uri("urn:service:SOS")));
        assert!(!uri("urn:service:sos").equivalent(&uri("sip:service@sos")));
    }
}

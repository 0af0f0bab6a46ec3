//! The number that a Request-URI means, in the one form that patterns are compared with.

use sip::{Aor, SipUri, Uri};

/// What was dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// The number without what is there for the eye only, or the user's name.
    pub number: String,
    /// The domain, in lower case; `None` in a `tel` URI.
    pub domain: Option<String>,
}

impl Dialled {
    /// Reads a URI; `None` if it names nobody.
    pub fn of(uri: &Uri<'_>) -> Option<Self> {
        match uri {
            Uri::Sip(uri) => Self::of_sip(uri),
            Uri::Tel(uri) => Some(Self { number: uri.digits().map(char::from).collect(), domain: None }),
            _ => None,
        }
    }

    // RFC 3261 §19.1.6: parameters of a number stand in the user part, after a semicolon; they say nothing of the
    // number itself.
    fn of_sip(uri: &SipUri<'_>) -> Option<Self> {
        let aor = Aor::of(uri)?;
        let user = aor.user().split(';').next().unwrap_or_default();
        // A plus that was escaped is a plus.
        let user = user.replace("%2B", "+").replace("%23", "#");
        let bare: String = user.chars().filter(|sign| !matches!(sign, '-' | '.' | '(' | ')')).collect();
        // RFC 3966 §5.1.1: the separators of a number; in a user's name they are letters like others.
        let is_number = bare.strip_prefix('+').unwrap_or(&bare).bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_number && !bare.is_empty() { bare } else { user };
        Some(Self { number, domain: Some(aor.domain().to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for (uri, number, domain) in [
            ("tel:+49-(30)-123.456", "+4930123456", None),
            ("tel:7042;phone-context=example.org", "7042", None),
            ("sip:+49-30-123456@Example.ORG;user=phone", "+4930123456", Some("example.org")),
            ("sip:%2B4930123@example.org", "+4930123", Some("example.org")),
            ("sip:+4930123;npdi;rn=+4930999@example.org", "+4930123", Some("example.org")),
            ("sip:030123@192.0.2.5:5070", "030123", Some("192.0.2.5")),
            ("sip:*21%23@example.org", "*21#", Some("example.org")),
            ("sip:john.doe@example.org", "john.doe", Some("example.org")),
            ("sip:first-floor@example.org", "first-floor", Some("example.org")),
        ] {
            let dialled = Dialled::of(&Uri::parse(uri.as_bytes()).unwrap());
            let wanted = Dialled { number: number.to_owned(), domain: domain.map(str::to_owned) };
            assert_eq!(dialled, Some(wanted), "{uri}");
        }
    }

    #[test]
    fn a_uri_without_a_user_has_no_number() {
        assert_eq!(Dialled::of(&Uri::parse(b"sip:example.org").unwrap()), None);
        assert_eq!(Dialled::of(&Uri::parse(b"mailto:a@example.org").unwrap()), None);
    }
}

//! When two URIs mean the same: RFC 3261 §19.1.4 and RFC 3966 §4.

use super::tel::is_separator;
use super::{SipUri, TelUri};
use crate::Params;
use crate::grammar::escaped_byte;
use crate::limits::URI_PARTS_COMPARED_MAX;

/// Parameters that never match their absence.
// RFC 3261 §19.1.4: user, ttl, method and maddr are named by the rules, transport by the examples.
const NEVER_IGNORED: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];

pub(super) fn sip_equivalent(a: &SipUri<'_>, b: &SipUri<'_>) -> bool {
    a.as_bytes() == b.as_bytes()
        || a.secure == b.secure
            && a.host == b.host
            && a.port == b.port
            && optional(a.user, b.user, |a, b| unescaped(a).eq(unescaped(b)))
            && optional(a.password, b.password, |a, b| unescaped(a).eq(unescaped(b)))
            && sip_params(&a.params, &b.params)
            && sip_headers(a.headers.unwrap_or_default(), b.headers.unwrap_or_default())
}

fn optional(a: Option<&[u8]>, b: Option<&[u8]>, same: impl Fn(&[u8], &[u8]) -> bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// A parameter in both must match; one in only one of them is ignored unless it is never ignored.
fn sip_params(a: &Params<'_>, b: &Params<'_>) -> bool {
    has_few(a.iter()) && has_few(b.iter()) && params_match_one_way(a, b) && params_match_one_way(b, a)
}

fn params_match_one_way(a: &Params<'_>, b: &Params<'_>) -> bool {
    a.iter().all(|(name, value)| match b.iter().find(|(other, _)| same_without_case(name, other)) {
        Some((_, other)) => optional(value, other, same_without_case),
        None => !NEVER_IGNORED.iter().any(|never| same_without_case(never, name)),
    })
}

/// Headers must all be in both, in any order.
fn sip_headers(a: &[u8], b: &[u8]) -> bool {
    a == b
        || has_few(headers(a))
            && headers(a).count() == headers(b).count()
            && headers(a).all(|header| headers(b).any(|other| same_header(header, other)))
            && headers(b).all(|header| headers(a).any(|other| same_header(header, other)))
}

fn headers(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'&').filter(|header| !header.is_empty())
}

fn same_header(a: &[u8], b: &[u8]) -> bool {
    let split = |header| match memchr::memchr(b'=', header) {
        Some(at) => header.split_at(at),
        None => (header, &b""[..]),
    };
    let ((a_name, a_value), (b_name, b_value)) = (split(a), split(b));
    same_without_case(a_name, b_name) && unescaped(a_value).eq(unescaped(b_value))
}

// RFC 3966 §4: numbers match by their digits without case, and both must have the same parameters in any order.
pub(super) fn tel_equivalent(a: &TelUri<'_>, b: &TelUri<'_>) -> bool {
    a.as_bytes() == b.as_bytes()
        || a.digits().map(lower).eq(b.digits().map(lower))
            && has_few(a.params.iter())
            && a.params.iter().count() == b.params.iter().count()
            && tel_params_match_one_way(&a.params, &b.params)
            && tel_params_match_one_way(&b.params, &a.params)
}

fn tel_params_match_one_way(a: &Params<'_>, b: &Params<'_>) -> bool {
    a.iter().all(|(name, value)| {
        let other = b.iter().find(|(other, _)| same_without_case(name, other));
        other.is_some_and(|(_, other)| optional(value, other, |a, b| same_tel_value(name, a, b)))
    })
}

fn same_tel_value(name: &[u8], a: &[u8], b: &[u8]) -> bool {
    let is_number = name.eq_ignore_ascii_case(b"ext")
        || name.eq_ignore_ascii_case(b"phone-context") && a.starts_with(b"+") && b.starts_with(b"+");
    if is_number {
        return without_separators(a).eq(without_separators(b));
    }
    same_without_case(a, b)
}

fn without_separators(value: &[u8]) -> impl Iterator<Item = &u8> {
    value.iter().filter(|&&byte| !is_separator(byte))
}

/// A byte that stands for itself, or a reserved one that was escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unescaped {
    Plain(u8),
    EscapedReserved(u8),
}

/// The bytes with escapes undone.
// RFC 3261 §19.1.4: a character outside of the reserved set is equivalent to its escape; a reserved one is not.
fn unescaped(mut bytes: &[u8]) -> impl Iterator<Item = Unescaped> {
    std::iter::from_fn(move || {
        if let Some(byte) = escaped_byte(bytes) {
            bytes = &bytes[3..];
            return Some(if is_reserved(byte) {
                Unescaped::EscapedReserved(byte)
            } else {
                Unescaped::Plain(byte)
            });
        }
        let (first, rest) = bytes.split_first()?;
        bytes = rest;
        Some(Unescaped::Plain(*first))
    })
}

/// The `reserved` of RFC 3261 §25.1, and the percent sign: `%25` is no percent sign that begins an escape.
pub(crate) fn is_reserved(byte: u8) -> bool {
    matches!(byte, b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',' | b'%')
}

fn same_without_case(a: &[u8], b: &[u8]) -> bool {
    let lower = |it| match it {
        Unescaped::Plain(byte) => Unescaped::Plain(lower(byte)),
        reserved => reserved,
    };
    a == b || unescaped(a).map(lower).eq(unescaped(b).map(lower))
}

fn lower(byte: u8) -> u8 {
    byte.to_ascii_lowercase()
}

fn has_few<T>(mut parts: impl Iterator<Item = T>) -> bool {
    parts.nth(URI_PARTS_COMPARED_MAX).is_none()
}

#[cfg(test)]
mod tests {
    use crate::Uri;

    fn equivalent(a: &str, b: &str) -> bool {
        let (a, b) = (Uri::parse(a.as_bytes()).unwrap(), Uri::parse(b.as_bytes()).unwrap());
        assert_eq!(a.equivalent(&b), b.equivalent(&a), "equivalence has one direction");
        a.equivalent(&b)
    }

    /// RFC 3261 §19.1.4: the pairs of its examples that are equivalent.
    #[test]
    fn the_equivalent_examples_are_equivalent() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(equivalent(a, b), "{a} {b}");
        }
    }

    /// RFC 3261 §19.1.4: the pairs of its examples that are not equivalent.
    #[test]
    fn the_different_examples_are_different() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:a@b", "sips:a@b"),
            ("sip:a@b", "sip:b"),
            ("sip:a@b", "sip:a:@b"),
            ("sip:a@b;maddr=c", "sip:a@b"),
            ("sip:a@b;user=phone", "sip:a@b"),
            ("sip:a@b;ttl=1", "sip:a@b"),
        ] {
            assert!(!equivalent(a, b), "{a} {b}");
        }
    }

    /// RFC 3261 §19.1.4: a reserved character is not equivalent to its escape.
    #[test]
    fn an_escaped_reserved_character_is_another() {
        assert!(!equivalent("sip:a%3Bb@c", "sip:a;b@c"));
        assert!(equivalent("sip:a%3Bb@c", "sip:a%3bb@c"));
        assert!(!equivalent("sip:%00@c", "sip:%00%00@c"));
        assert!(!equivalent("sip:a%2561@c", "sip:a%61@c"));
    }

    /// RFC 3966 §4: separators and case do not count, parameters do.
    #[test]
    fn telephone_numbers_are_compared_by_their_digits() {
        assert!(equivalent("tel:+1-201-555-0123", "tel:+1(201)5550123"));
        assert!(equivalent("tel:7042;phone-context=Example.com", "tel:7042;phone-context=example.com"));
        assert!(equivalent("tel:+1;ext=1-2", "tel:+1;ext=12"));
        assert!(!equivalent("tel:+12015550123", "tel:2015550123"));
        assert!(!equivalent("tel:7042;phone-context=a.com", "tel:7042;phone-context=b.com"));
        assert!(!equivalent("tel:+1;ext=1", "tel:+1"));
    }

    #[test]
    fn uris_with_too_many_parameters_are_equivalent_only_to_themselves() {
        let many: String = (0..10_000).map(|number| format!(";p{number}")).collect();
        let (a, b) = (format!("sip:a@b{many}"), format!("sip:A@b{many}"));

        assert!(equivalent(&a, &a));
        assert!(!equivalent(&a, &b));
    }
}

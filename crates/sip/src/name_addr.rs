//! `name-addr` and `addr-spec` with header parameters: From, To, Contact, Route and their kin (RFC 3261 §20.10).

use memchr::memchr;

use crate::grammar::{decimal_u32, is_lws, quoted_len, trim, trim_end, trim_start};
use crate::params::Form;
use crate::{Malformed, Params, Uri};

/// A display name, a URI, and the parameters of the header. The URI is read only when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'a> {
    /// The display name as it came, quotes and escapes included. `None` if there is none.
    pub display: Option<&'a [u8]>,
    /// The URI, without angle brackets.
    pub uri: &'a [u8],
    /// The parameters behind the URI.
    pub params: Params<'a>,
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value.
    ///
    /// Deviation: a display name without quotes may have any characters but separators and controls, because phones
    /// send names in UTF-8 that way; places without a parameter (`;;`) are skipped.
    pub fn parse(value: &'a [u8]) -> Result<NameAddr<'a>, Malformed> {
        let value = trim(value);
        let (display, rest) = split_display(value).ok_or(Malformed::NameAddr)?;
        match rest.strip_prefix(b"<") {
            Some(rest) => bracketed(display, rest),
            None => bare(value),
        }
        .ok_or(Malformed::NameAddr)
    }

    /// The URI, read.
    pub fn uri(&self) -> Result<Uri<'a>, Malformed> {
        Uri::parse(self.uri)
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }

    /// The `q` parameter in thousandths, 0 to 1000. `None` also if it is malformed.
    pub fn q(&self) -> Option<u16> {
        self.params.value(b"q").and_then(thousandths)
    }

    /// The `expires` parameter, kept at the largest number when it is larger. `None` also if it is no number.
    pub fn expires(&self) -> Option<u32> {
        self.params.value(b"expires").and_then(decimal_u32)
    }
}

/// Splits off the display name of a value that has angle brackets; of any other the display name is `None`.
fn split_display(value: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    if value.first() == Some(&b'"') {
        let (display, rest) = value.split_at(quoted_len(value)?);
        let rest = trim_start(rest);
        return (rest.first() == Some(&b'<')).then_some((Some(display), rest));
    }
    if value.first() == Some(&b'<') {
        return Some((None, value));
    }
    let Some(bracket) = memchr(b'<', value) else { return Some((None, value)) };
    let display = trim_end(&value[..bracket]);
    if display.iter().any(|&byte| matches!(byte, b';' | b'=')) {
        // A bracket in a parameter of an `addr-spec`.
        return Some((None, value));
    }
    let is_display =
        display.iter().all(|&byte| is_lws(byte) || !matches!(byte, 0..0x20 | 0x7f | b'"' | b',' | b'>'));
    is_display.then_some(((!display.is_empty()).then_some(display), &value[bracket..]))
}

fn bracketed<'a>(display: Option<&'a [u8]>, rest: &'a [u8]) -> Option<NameAddr<'a>> {
    let (uri, rest) = rest.split_at(memchr(b'>', rest)?);
    // RFC 4475 §3.1.2.14: white space has no place inside of the brackets.
    let has_white_space =
        uri.first().is_none_or(|&byte| is_lws(byte)) || uri.last().is_none_or(|&byte| is_lws(byte));
    let params = trim_start(&rest[1..]);
    let is_end = params.is_empty() || params.starts_with(b";");
    if has_white_space || !is_end { None } else { with_params(display, uri, params) }
}

fn bare(value: &[u8]) -> Option<NameAddr<'_>> {
    let (uri, params) = value.split_at(memchr(b';', value).unwrap_or(value.len()));
    let uri = trim_end(uri);
    // RFC 3261 §20.10: a URI with a comma, a question mark or a semicolon must be in brackets; the semicolon is
    // taken for the header's.
    let is_addr_spec = !uri.is_empty()
        && uri.iter().all(|&byte| !is_lws(byte) && !matches!(byte, b'?' | b',' | b'"' | b'<' | b'>'));
    if is_addr_spec { with_params(None, uri, params) } else { None }
}

/// The address with these parameters. `None` if one has no name that is a token, or an open quoted string, or a comma.
fn with_params<'a>(display: Option<&'a [u8]>, uri: &'a [u8], params: &'a [u8]) -> Option<NameAddr<'a>> {
    let params = Params::new(params);
    let mut tag = None;
    for place in params.places() {
        if place.form == Form::Irregular {
            return None;
        }
        if tag.is_none() && place.name.eq_ignore_ascii_case(b"tag") {
            tag = Some(place.value);
        }
    }
    Some(NameAddr { display, uri, params, tag: tag.flatten() })
}

// RFC 3261 §25.1: a qvalue is 0 or 1 with up to three decimals; more decimals are cut, `.5` is read as 0.5.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match memchr(b'.', value) {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    let whole = match whole {
        b"0" => 0,
        b"" if !decimals.is_empty() => 0,
        b"1" => 1000,
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut number = whole;
    for (decimal, weight) in decimals.iter().zip([100, 10, 1]) {
        number += u16::from(decimal - b'0') * weight;
    }
    (number <= 1000).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &[u8]) -> NameAddr<'_> {
        NameAddr::parse(value).unwrap_or_else(|_| panic!("{}", value.escape_ascii()))
    }

    #[test]
    fn brackets_separate_the_parameters_of_the_uri_from_those_of_the_header() {
        let inside = parse(b"<sip:a@b;x=1>;tag=2");
        let outside = parse(b"sip:a@b;x=1;tag=2");

        assert_eq!((inside.uri, inside.tag()), (&b"sip:a@b;x=1"[..], Some(&b"2"[..])));
        assert_eq!((outside.uri, outside.params.value(b"x")), (&b"sip:a@b"[..], Some(&b"1"[..])));
    }

    #[test]
    fn display_names_are_found_in_all_their_forms() {
        for (value, display) in [
            (
                &b"\"J Rosenberg \\\\\\\"\"       <sip:a@b>\r\n  ;\r\n  tag = 98asjd8"[..],
                Some(&b"\"J Rosenberg \\\\\\\"\""[..]),
            ),
            (b"caller<sip:a@b>;tag=98asjd8", Some(b"caller")),
            (b"A. Bell <sip:a@b>;tag=98asjd8", Some(b"A. Bell")),
            (b"J\xc3\xb6rg (home) <sip:a@b>;tag=98asjd8", Some(b"J\xc3\xb6rg (home)")),
            (b"J\xf6rg <sip:a@b>;tag=98asjd8", Some(b"J\xf6rg")),
            (b"\"<sip:x@y>\" <sip:a@b>;tag=98asjd8", Some(b"\"<sip:x@y>\"")),
            (b"<sip:a@b>;tag=98asjd8", None),
        ] {
            let address = parse(value);
            assert_eq!(
                (address.display, address.uri, address.tag()),
                (display, &b"sip:a@b"[..], Some(&b"98asjd8"[..]))
            );
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for value in [
            &b""[..],
            b"\"Mr. J. User <sip:j.user@example.com>",
            b"\"Mr. J. User\"",
            b"\"Mr. J. User\" sip:j.user@example.com",
            b"Bell, Alexander <sip:a.g.bell@example.com>;tag=43",
            b"\"Watson\" < sip:t.watson@example.org >",
            b"<sip:a@b",
            b"<>",
            b"<sip:a@b> tag=1",
            b"<sip:a@b>x;tag=1",
            b"sip:a@b?Route=%3Csip:c%3E",
            b"sip:a@b c",
            b"sip:a@b>",
            b"<sip:a@b>;tag=\"1",
            b"<sip:a@b>;t g=1",
            b"<sip:a@b>;tag=1,<sip:c@d>",
        ] {
            assert!(NameAddr::parse(value).is_err(), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn places_without_a_parameter_are_skipped() {
        assert_eq!(parse(b"<sip:a@b>;;tag=1;").tag(), Some(&b"1"[..]));
    }

    #[test]
    fn q_is_read_in_thousandths() {
        for (value, q) in [
            (&b"0.33"[..], Some(330)),
            (b"1", Some(1000)),
            (b"1.000", Some(1000)),
            (b"0", Some(0)),
            (b".5", Some(500)),
            (b"0.12345", Some(123)),
            (b"1.001", None),
            (b"2", None),
            (b"-1", None),
            (b"", None),
            (b".", None),
            (b"0.x", None),
        ] {
            assert_eq!(thousandths(value), q, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn expires_is_kept_at_the_largest_number() {
        assert_eq!(parse(b"<sip:a@b>;expires=280297596632815").expires(), Some(u32::MAX));
        assert_eq!(parse(b"<sip:a@b>;expires=soon").expires(), None);
        assert_eq!(parse(b"<sip:a@b>").expires(), None);
    }
}

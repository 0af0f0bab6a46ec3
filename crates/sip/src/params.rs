//! Parameters: `;name=value;name`, of headers and of URIs, read where they stand.

use memchr::memchr;

use crate::grammar::{is_lws, is_token, is_token_byte, prefix_len, quoted_len, trim};

/// A list of parameters that begins with its first semicolon, or is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a> {
    bytes: &'a [u8],
}

impl<'a> Params<'a> {
    /// The parameters in `bytes`, which begins with a semicolon or is empty. Nothing is checked.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The bytes, first semicolon included.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Names and values in order; a value keeps its quotes; empty places (`;;`) are skipped.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.places().filter(|place| place.form != Form::Empty).map(|place| (place.name, place.value))
    }

    /// `None`: not there. `Some(None)`: there without a value. The name is compared without case; the first one counts.
    pub fn find(&self, name: &[u8]) -> Option<Option<&'a [u8]>> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value, quotes kept.
    pub fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.find(name).flatten()
    }

    /// Whether the parameter is there, with or without a value.
    pub fn has(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    /// What stands between the semicolons, with what is wrong about it.
    pub(crate) fn places(&self) -> Places<'a> {
        Places { rest: self.bytes }
    }
}

/// What stands between two semicolons.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) form: Form,
}

/// Whether a place follows the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A name that is a token, and if there is a value a token, a host or one quoted string.
    Regular,
    /// A name that is a token, and a value that has something else in it, but neither quotes, commas nor line ends.
    LooseValue,
    /// Nothing but white space.
    Empty,
    /// Anything else.
    Irregular,
}

/// Reads place by place.
#[derive(Clone, Debug)]
pub(crate) struct Places<'a> {
    /// Empty, or begins with a semicolon.
    rest: &'a [u8],
}

impl<'a> Places<'a> {
    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Places<'a> {
    type Item = Place<'a>;

    #[inline]
    fn next(&mut self) -> Option<Place<'a>> {
        let rest = self.rest.strip_prefix(b";")?;
        let (place, len) = read_regular(rest).unwrap_or_else(|| read_any(rest));
        self.rest = &rest[len..];
        Some(place)
    }
}

/// Reads a regular place in one pass, and how many bytes it takes. `None` if it has anything else than a name and a
/// value that is a token, a host or a quoted string.
#[inline]
fn read_regular(bytes: &[u8]) -> Option<(Place<'_>, usize)> {
    let start = skip_lws(bytes, 0);
    let mut at = start + prefix_len(&bytes[start..], is_token_byte);
    let name = &bytes[start..at];
    at = skip_lws(bytes, at);
    let value = if bytes.get(at) == Some(&b'=') {
        let start = skip_lws(bytes, at + 1);
        at = start;
        if bytes.get(at) == Some(&b'"') {
            at += quoted_len(&bytes[at..])?;
        } else {
            at += prefix_len(&bytes[at..], |byte| VALUE[byte as usize]);
        }
        let value = &bytes[start..at];
        at = skip_lws(bytes, at);
        Some(value)
    } else {
        None
    };
    let is_end = at == bytes.len() || bytes[at] == b';';
    (is_end && !name.is_empty()).then_some((Place { name, value, form: Form::Regular }, at))
}

/// Reads whatever stands before the next semicolon that is not in quotes.
#[cold]
fn read_any(bytes: &[u8]) -> (Place<'_>, usize) {
    let mut len = 0;
    while let Some(&byte) = bytes.get(len) {
        match byte {
            b';' => break,
            b'"' => len += quoted_len(&bytes[len..]).unwrap_or(bytes.len() - len),
            _ => len += 1,
        }
    }
    let piece = trim(&bytes[..len]);
    let (name, value) = match memchr(b'=', piece) {
        Some(at) => (trim(&piece[..at]), Some(trim(&piece[at + 1..]))),
        None => (piece, None),
    };
    let is_loose = |value: &[u8]| !value.iter().any(|&byte| matches!(byte, b'"' | b',' | b'\r' | b'\n'));
    let form = if piece.is_empty() {
        Form::Empty
    } else if is_token(name) && value.is_none_or(is_loose) {
        Form::LooseValue
    } else {
        Form::Irregular
    };
    (Place { name, value, form }, len)
}

/// What may stand in a value without quotes: all but controls, white space and separators of lists.
const VALUE: [bool; 256] = {
    let mut table = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        if matches!(byte as u8, 0..=b' ' | b'"' | b',' | b';' | b'<' | b'>' | 0x7f) {
            table[byte] = false;
        }
        byte += 1;
    }
    table
};

fn skip_lws(bytes: &[u8], at: usize) -> usize {
    at + prefix_len(&bytes[at..], is_lws)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_without_case_and_values_keep_quotes() {
        let params = Params::new(b";Tag = 98 ; lr;x=\"a;b=\\\"c\";empty=");

        assert_eq!(params.value(b"tag"), Some(&b"98"[..]));
        assert_eq!(params.find(b"LR"), Some(None));
        assert_eq!(params.value(b"x"), Some(&b"\"a;b=\\\"c\""[..]));
        assert_eq!(params.value(b"empty"), Some(&b""[..]));
        assert_eq!(params.find(b"b"), None);
        assert!(!params.has(b"absent"));
    }

    #[test]
    fn each_place_is_judged() {
        for (bytes, form) in [
            (&b";a"[..], Form::Regular),
            (b"; a = b ", Form::Regular),
            (b";a=", Form::Regular),
            (b";a=\"\\\"; ,\"", Form::Regular),
            (b";a=[2001:db8::1]", Form::Regular),
            (b";a=b c", Form::LooseValue),
            (b";a=<b>", Form::LooseValue),
            (b";", Form::Empty),
            (b"; \r\n ", Form::Empty),
            (b";a b=c", Form::Irregular),
            (b";=c", Form::Irregular),
            (b";a=\"b", Form::Irregular),
            (b";a=\"b\"c", Form::Irregular),
            (b";a=b,c", Form::Irregular),
            (b";a=b\r\n c", Form::Irregular),
            (b";\"a\"", Form::Irregular),
        ] {
            let places: Vec<Form> = Params::new(bytes).places().map(|place| place.form).collect();
            assert_eq!(places, [form], "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn empty_places_are_skipped() {
        assert!(Params::new(b";;;").is_empty());
        assert_eq!(Params::new(b";;a;;b;").iter().count(), 2);
        assert_eq!(Params::new(b"").places().count(), 0);
    }
}

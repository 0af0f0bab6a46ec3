//! Parameters: `;name=value;name`, of headers and of URIs, read where they stand.

use crate::grammar::{is_token_byte, quoted_len, trim};

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
        Pieces { bytes: self.bytes }.filter(|piece| !trim(piece).is_empty()).map(split)
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

    /// Whether every place between semicolons has a name that is a token, and white space stands only where it may.
    // RFC 4475 §3.1.2.1: separators with nothing between them are an error.
    pub(crate) fn is_well_formed(&self) -> bool {
        Pieces { bytes: self.bytes }.all(|piece| {
            let (name, value) = split(piece);
            !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte)) && value.is_none_or(is_value)
        })
    }
}

/// A token, a host, or one whole quoted string.
fn is_value(value: &[u8]) -> bool {
    match value.first() {
        Some(b'"') => quoted_len(value) == Some(value.len()),
        _ => value.iter().all(|&byte| !matches!(byte, 0..=b' ' | b'"' | b',' | b'<' | b'>' | 0x7f)),
    }
}

fn split(piece: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', piece) {
        Some(at) => (trim(&piece[..at]), Some(trim(&piece[at + 1..]))),
        None => (trim(piece), None),
    }
}

/// What stands between the semicolons.
struct Pieces<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.strip_prefix(b";")?;
        let mut at = 0;
        while let Some(&byte) = rest.get(at) {
            match byte {
                b';' => break,
                b'"' => at += quoted_len(&rest[at..]).unwrap_or(rest.len() - at),
                _ => at += 1,
            }
        }
        let (piece, rest) = rest.split_at(at);
        self.bytes = rest;
        Some(piece)
    }
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
    fn empty_places_are_skipped_but_not_well_formed() {
        assert!(Params::new(b";;;").is_empty());
        assert!(!Params::new(b";;a").is_well_formed());
        assert!(!Params::new(b";a;").is_well_formed());
        assert!(!Params::new(b";a b=c").is_well_formed());
        assert!(!Params::new(b";a=b c").is_well_formed());
        assert!(!Params::new(b";a=\"b").is_well_formed());
        assert!(Params::new(b";a; b = c ;d=\"\\\"\"").is_well_formed());
        assert!(Params::new(b"").is_well_formed());
    }
}

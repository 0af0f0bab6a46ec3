//! `tel:` URIs (RFC 3966).

use crate::{Malformed, Params};

/// A `tel` URI.
#[derive(Clone, Copy, Debug)]
pub struct TelUri<'a> {
    /// The number as it came, visual separators included.
    pub number: &'a [u8],
    /// The parameters.
    pub params: Params<'a>,
    bytes: &'a [u8],
}

impl<'a> TelUri<'a> {
    pub(super) fn parse_after_scheme(bytes: &'a [u8], rest: &'a [u8]) -> Result<Self, Malformed> {
        let (number, params) = rest.split_at(memchr::memchr(b';', rest).unwrap_or(rest.len()));
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        // RFC 3966 §3: a number has digits (local ones also `*`, `#` and letters of hexadecimal) and separators.
        let is_number = digits.iter().all(|&byte| is_separator(byte) || is_local_digit(byte))
            && digits.iter().any(|&byte| is_local_digit(byte));
        if !is_number {
            return Err(Malformed::Uri);
        }
        Ok(Self { number, params: Params::new(params), bytes })
    }

    /// The bytes that were read.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether the number begins with `+` and so means the same everywhere.
    pub fn is_global(&self) -> bool {
        self.number.starts_with(b"+")
    }

    /// The number without visual separators.
    pub fn digits(&self) -> impl Iterator<Item = u8> + use<'a> {
        self.number.iter().copied().filter(|&byte| !is_separator(byte))
    }
}

/// Whether `byte` is there for the eye only.
pub(super) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

fn is_local_digit(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'*' | b'#')
}

#[cfg(test)]
mod tests {
    use crate::Uri;

    #[test]
    fn a_number_is_read_without_its_separators() {
        let Ok(Uri::Tel(uri)) = Uri::parse(b"tel:+1-(201).555-0123;isub=1") else { panic!("no tel URI") };

        assert!(uri.is_global());
        assert_eq!(uri.digits().collect::<Vec<u8>>(), b"+12015550123");
        assert_eq!(uri.params.value(b"isub"), Some(&b"1"[..]));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bytes in [&b"tel:"[..], b"tel:+", b"tel:;phone-context=x", b"tel:alice@example.com", b"tel:-.-"] {
            assert!(Uri::parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}

//! The characters and the small scanners of RFC 3261 §25 that every other file is made of.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric()
            || matches!(it, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

/// Whether `byte` may stand in a `token`.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether `bytes` is a `token`.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` is white space of a header value; the line ends of folds count.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How many bytes at the start belong.
#[inline]
pub(crate) fn prefix_len(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len())
}

/// `bytes` without white space before and after.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// `bytes` without white space before.
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    bytes
}

/// `bytes` without white space after.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Eight bytes at once: each byte of the result has its highest bit set if the byte of `word` is below `limit`; exact
/// up to the first such byte from the lowest on, and in whether there is one.
const fn bytes_below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(u64::from_le_bytes([limit; 8])) & !word & HIGH_BITS
}

const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);

/// How long the header name at the start of `bytes` is, if a colon follows at once and no control or space stands
/// before it. `None` when that cannot be told quickly.
pub(crate) fn plain_name_len(bytes: &[u8]) -> Option<usize> {
    const COLONS: u64 = u64::from_le_bytes([b':'; 8]);
    let words = bytes.get(..24)?.as_chunks::<8>().0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = bytes_below(word, b'!') | bytes_below(word ^ COLONS, 1);
        if found != 0 {
            let len = index * 8 + found.trailing_zeros() as usize / 8;
            return (bytes[len] == b':' && len > 0).then_some(len);
        }
    }
    None
}

/// Whether a carriage return or a line feed stands in `bytes`.
pub(crate) fn has_line_end(bytes: &[u8]) -> bool {
    has_below(bytes, b'\r' + 1) && memchr2(b'\r', b'\n', bytes).is_some()
}

/// Whether a byte below `limit`, which is 128 at most, stands in `bytes`.
pub(crate) fn has_below(bytes: &[u8], limit: u8) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.iter().any(|&byte| byte < limit) };
    let below = |word: &[u8; 8]| bytes_below(u64::from_le_bytes(*word), limit);
    // The last eight bytes overlap the words before, so that no byte is looked at alone.
    bytes.as_chunks::<8>().0.iter().fold(below(last), |found, word| found | below(word)) != 0
}

/// How many bytes the quoted string at the start of `bytes` takes, both quotes counted. `None` if it is not closed.
pub(crate) fn quoted_len(bytes: &[u8]) -> Option<usize> {
    debug_assert_eq!(bytes.first(), Some(&b'"'));
    let mut at = 1;
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[found] == b'"' {
            return Some(found + 1);
        }
        // RFC 3261 §25.1: a quoted-pair takes the next byte with it, so `\"` does not close the string.
        at = found + 2;
    }
}

/// The number of `1*DIGIT`, kept at the largest 64-bit number when it is larger. `None` if it is no number.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
    }
    Some(number)
}

/// The same as [`decimal`], kept at the largest 32-bit number when it is larger.
pub(crate) fn decimal_u32(bytes: &[u8]) -> Option<u32> {
    decimal(bytes).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// A port or another number that must fit in 16 bits.
pub(crate) fn decimal_u16(bytes: &[u8]) -> Option<u16> {
    decimal(bytes).and_then(|number| u16::try_from(number).ok())
}

/// Appends `number` in decimal.
pub(crate) fn write_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(decimal_digits(number, &mut [0; DECIMAL_DIGITS_MAX]));
}

/// The most digits that a 64-bit number has.
pub(crate) const DECIMAL_DIGITS_MAX: usize = 20;

/// `number` in decimal, written into `digits`.
pub(crate) fn decimal_digits(number: u64, digits: &mut [u8; DECIMAL_DIGITS_MAX]) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    &digits[at..]
}

/// Splits a header value at the commas that are outside of quoted strings and angle brackets. Yields trimmed ranges
/// that are not empty. Parentheses are plain characters: no header that is a list has comments, and URIs may have them.
#[derive(Clone, Debug)]
pub(crate) struct ValueRanges<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ValueRanges<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Iterator for ValueRanges<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while self.at < self.bytes.len() {
            let start = self.at;
            let end = start + value_len(&self.bytes[start..]);
            self.at = end + 1;
            let piece = &self.bytes[start..end];
            let trimmed = trim_start(piece);
            if !trimmed.is_empty() {
                let start = end - trimmed.len();
                return Some(start..start + trim_end(trimmed).len());
            }
        }
        None
    }
}

/// How many bytes come before the first comma that separates values.
fn value_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr3(b',', b'"', b'<', &bytes[at..]) {
        at += found;
        let len = match bytes[at] {
            b',' => return at,
            b'"' => quoted_len(&bytes[at..]),
            _ => memchr(b'>', &bytes[at..]).map(|len| len + 1),
        };
        match len {
            Some(len) => at += len,
            None => break,
        }
    }
    bytes.len()
}

/// A hexadecimal digit's number.
pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// The byte that the `%XX` at the start of `bytes` stands for.
pub(crate) fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [b'%', high, low, ..] => Some(hex_digit(*high)? << 4 | hex_digit(*low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_separate_values() {
        let bytes = br#" "a, \", b" <sip:x,y@z> ;p="1,2" , , <sip:c> "#;

        let values: Vec<&[u8]> = ValueRanges::new(bytes).map(|range| &bytes[range]).collect();

        assert_eq!(values, [&br#""a, \", b" <sip:x,y@z> ;p="1,2""#[..], b"<sip:c>"]);
    }

    #[test]
    fn an_open_quote_or_bracket_takes_the_rest_of_the_value() {
        for bytes in [&b"\"a, b"[..], b"<a, b", b"\"a, b\\"] {
            let values: Vec<&[u8]> = ValueRanges::new(bytes).map(|range| &bytes[range]).collect();
            assert_eq!(values, [bytes]);
        }
    }

    #[test]
    fn a_plain_name_ends_at_its_colon() {
        let rest = " 0123456789 0123456789 0123456789";
        for (line, len) in [
            ("Via:", Some(3)),
            ("l:0", Some(1)),
            ("Content-Length:", Some(14)),
            ("seventeen-letters:", Some(17)),
            ("J\u{f6}rg:", Some(5)),
            ("Via :", None),
            (":x", None),
            ("no-colon\r\nVia:", None),
            ("\u{7f}\u{1}:", None),
            ("a-name-longer-than-three-words:", None),
        ] {
            assert_eq!(plain_name_len(format!("{line}{rest}").as_bytes()), len, "{line}");
        }
        assert_eq!(plain_name_len(b"Via: x"), None);
    }

    #[test]
    fn line_ends_are_found_wherever_they_stand() {
        for len in 0..40 {
            let mut bytes = vec![b'\t'; len];
            assert!(!has_line_end(&bytes));
            for at in 0..len {
                for line_end in [b'\r', b'\n'] {
                    bytes[at] = line_end;
                    assert!(has_line_end(&bytes), "{at} of {len}");
                }
                bytes[at] = 0xff;
            }
            assert!(!has_line_end(&bytes));
        }
    }

    #[test]
    fn a_number_too_large_is_kept_at_the_largest() {
        assert_eq!(decimal_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(decimal_u32(b"36893488147419103232"), Some(u32::MAX));
        assert_eq!(decimal_u16(b"65536"), None);
        assert_eq!(decimal(b""), None);
        assert_eq!(decimal(b"-1"), None);
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 7, 10, 65_535, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(number, &mut out);
            assert_eq!(decimal(&out), Some(number));
        }
    }
}

//! A pattern of numbers, as dial plans are written: anchored at both ends, one sign for one digit.
//!
//! `X` is a digit, `Z` one from 1 to 9, `N` one from 2 to 9, `[2-57]` one of these. At the end `.` is
//! one or more signs of any kind, and `!` none or more. Everything else stands for itself, so that `+49.`
//! is every number of Germany and `sales` the user of that name.

use std::fmt;

/// Signs of a pattern: a number has 15 digits (E.164), a user's name may be longer.
const SIGNS_MAX: usize = 64;

/// The signs that stand for themselves, besides letters and digits.
const LITERALS: &[u8] = b"+*#-_";

/// A pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// One set for each sign; each bit is an ASCII character.
    signs: Box<[u128]>,
    /// Whether anything may follow.
    is_open: bool,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// It is empty.
    Empty,
    /// It has more signs than a number may have.
    TooLong,
    /// `.` or `!` before the end.
    NotAtEnd(char),
    /// A `[` without its `]`, or with nothing in between.
    Set,
    /// A character that stands for nothing.
    Sign(char),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut signs = Vec::with_capacity(text.len());
        let mut is_open = false;
        let mut rest = text;
        while let Some(sign) = rest.chars().next() {
            rest = &rest[sign.len_utf8()..];
            match sign {
                '.' | '!' if !rest.is_empty() => return Err(PatternError::NotAtEnd(sign)),
                '.' => {
                    signs.push(u128::MAX);
                    is_open = true;
                }
                '!' => is_open = true,
                'X' => signs.push(digits(b'0', b'9')),
                'Z' => signs.push(digits(b'1', b'9')),
                'N' => signs.push(digits(b'2', b'9')),
                '[' => {
                    let (set, after) = rest.split_once(']').ok_or(PatternError::Set)?;
                    signs.push(read_set(set)?);
                    rest = after;
                }
                sign if is_literal(sign) => signs.push(bit(sign as u8)),
                sign => return Err(PatternError::Sign(sign)),
            }
        }
        match signs.len() {
            0 if !is_open => Err(PatternError::Empty),
            0..=SIGNS_MAX => Ok(Self { text: text.into(), signs: signs.into(), is_open }),
            _ => Err(PatternError::TooLong),
        }
    }

    /// Whether the whole number is so.
    pub fn matches(&self, number: &str) -> bool {
        let has_length = match self.is_open {
            true => number.len() >= self.signs.len(),
            false => number.len() == self.signs.len(),
        };
        // A character that is not ASCII is none but of `.` and `!`.
        let fits = |(set, byte): (&u128, u8)| *set == u128::MAX || byte < 128 && *set & bit(byte) != 0;
        has_length && self.signs.iter().zip(number.bytes()).all(fits)
    }

    /// Whether this pattern has every number that the other one has.
    pub fn covers(&self, other: &Self) -> bool {
        let has_length = match (self.is_open, other.is_open) {
            (false, true) => false,
            (false, false) => self.signs.len() == other.signs.len(),
            (true, _) => self.signs.len() <= other.signs.len(),
        };
        has_length && self.signs.iter().zip(&other.signs).all(|(mine, theirs)| theirs & !mine == 0)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

const fn bit(byte: u8) -> u128 {
    1 << (byte & 127)
}

fn digits(first: u8, last: u8) -> u128 {
    (first..=last).fold(0, |set, digit| set | bit(digit))
}

fn is_literal(sign: char) -> bool {
    sign.is_ascii() && (sign.is_ascii_alphanumeric() || LITERALS.contains(&(sign as u8)))
}

/// `13-58` between the brackets.
fn read_set(text: &str) -> Result<u128, PatternError> {
    let signs = text.as_bytes();
    let mut set = 0;
    let mut at = 0;
    while let Some(&first) = signs.get(at) {
        if !is_literal(char::from(first)) || first == b'-' {
            return Err(PatternError::Set);
        }
        match (signs.get(at + 1), signs.get(at + 2)) {
            (Some(b'-'), Some(&last)) if first <= last && is_literal(char::from(last)) => {
                set |= digits(first, last);
                at += 3;
            }
            (Some(b'-'), _) => return Err(PatternError::Set),
            _ => {
                set |= bit(first);
                at += 1;
            }
        }
    }
    if set == 0 { Err(PatternError::Set) } else { Ok(set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_anchored_at_both_ends() {
        for (pattern, yes, no) in [
            ("110", &["110"][..], &["1100", "0110", "11", ""][..]),
            ("+49.", &["+491", "+4930123456"], &["+49", "0049301", "+48301"]),
            ("00!", &["00", "0049"], &["0", "049"]),
            ("XX", &["00", "99"], &["0", "100", "1a", "+1"]),
            ("0Z.", &["030", "0300"], &["003", "03"]),
            ("N11", &["911", "211"], &["111", "011"]),
            ("1[13-5]X", &["110", "139", "150"], &["120", "160", "11"]),
            ("*21*.", &["*21*5"], &["21*5", "*21*"]),
            ("sales", &["sales"], &["sale", "Sales"]),
            (".", &["1", "alice", "ü"], &[""]),
            ("!", &["", "1"], &[]),
        ] {
            let pattern = Pattern::parse(pattern).unwrap();
            for number in yes {
                assert!(pattern.matches(number), "{pattern} {number}");
            }
            for number in no {
                assert!(!pattern.matches(number), "{pattern} {number}");
            }
        }
    }

    #[test]
    fn a_text_that_is_no_pattern_is_refused() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("0.1", PatternError::NotAtEnd('.')),
            ("0!1", PatternError::NotAtEnd('!')),
            ("[12", PatternError::Set),
            ("[]", PatternError::Set),
            ("[5-1]", PatternError::Set),
            ("[1-]", PatternError::Set),
            ("[-1]", PatternError::Set),
            ("1 2", PatternError::Sign(' ')),
            ("^00", PatternError::Sign('^')),
            ("ü", PatternError::Sign('ü')),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(Pattern::parse(&"1".repeat(65)), Err(PatternError::TooLong));
    }

    #[test]
    fn a_pattern_covers_another_only_if_it_has_all_its_numbers() {
        for (wide, narrow) in [
            (".", "110"),
            (".", "+49."),
            ("!", "."),
            ("0.", "00."),
            ("0!", "0."),
            ("XXX", "110"),
            ("1XX", "1[1-3]Z"),
            ("00X.", "0049."),
        ] {
            let (wide, narrow) = (Pattern::parse(wide).unwrap(), Pattern::parse(narrow).unwrap());
            assert!(wide.covers(&narrow), "{wide} {narrow}");
            assert!(!narrow.covers(&wide), "{narrow} {wide}");
        }
        let (one, other) = (Pattern::parse("0.").unwrap(), Pattern::parse("1.").unwrap());
        assert!(!one.covers(&other) && !other.covers(&one) && one.covers(&one.clone()));
        // `.` is one sign at least, and `0X!` begins with a digit after it.
        assert!(!Pattern::parse("0X!").unwrap().covers(&Pattern::parse("0.").unwrap()));
    }
}

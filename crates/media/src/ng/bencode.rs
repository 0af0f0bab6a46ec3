//! Bencode: the values in which an rtpengine is spoken to.
//!
//! A value is a string of bytes, an integer, a list, or a dictionary whose keys are strings. What is read may come from
//! anybody: it is bounded in depth and number, and nothing is kept of what can not be read to its very end.

use std::collections::BTreeMap;

/// Values within values; rtpengine's longest answer has eight.
const DEPTH_MAX: usize = 24;
/// Values in one message.
const VALUES_MAX: usize = 20_000;
/// The digits of the largest integer, with its sign.
const DIGITS_MAX: usize = 20;

/// A value; strings are as they stand in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `4:spam`.
    Text(&'a [u8]),
    /// `i42e`.
    Integer(i64),
    /// `l…e`.
    List(Vec<Value<'a>>),
    /// `d…e`, in the order of its keys.
    Dictionary(BTreeMap<&'a [u8], Value<'a>>),
}

/// Not a value, or more of one than anybody sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl<'a> Value<'a> {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// The bytes are no value, or more than one; a dictionary has a key twice; it is too deep or has too many parts.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { rest: bytes, values: 0 };
        let value = reader.value(DEPTH_MAX)?;
        if reader.rest.is_empty() { Ok(value) } else { Err(Malformed) }
    }

    /// Appends the value's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_text(text, out),
            Self::Integer(number) => out.extend(format!("i{number}e").as_bytes()),
            Self::List(values) => {
                out.push(b'l');
                values.iter().for_each(|value| value.write(out));
                out.push(b'e');
            }
            Self::Dictionary(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    write_text(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }

    /// The entry of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Dictionary(entries) => entries.get(key.as_bytes()),
            _ => None,
        }
    }

    /// The bytes of a string.
    pub fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number of an integer.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }
}

fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("{}:", text.len()).as_bytes());
    out.extend(text);
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value<'a>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(Malformed);
        }
        match self.rest.first() {
            Some(b'0'..=b'9') => self.string().map(Value::Text),
            Some(b'i') => {
                self.rest = &self.rest[1..];
                let digits = self.up_to(b'e')?;
                std::str::from_utf8(digits).ok().and_then(integer).map(Value::Integer).ok_or(Malformed)
            }
            Some(b'l') => {
                self.rest = &self.rest[1..];
                let mut values = Vec::new();
                while !self.ends() {
                    values.push(self.value(depth)?);
                }
                Ok(Value::List(values))
            }
            Some(b'd') => {
                self.rest = &self.rest[1..];
                let mut entries = BTreeMap::new();
                while !self.ends() {
                    let key = self.string()?;
                    if entries.insert(key, self.value(depth)?).is_some() {
                        return Err(Malformed);
                    }
                }
                Ok(Value::Dictionary(entries))
            }
            _ => Err(Malformed),
        }
    }

    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let digits = self.up_to(b':')?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<usize>().ok());
        let length = length.filter(|length| *length <= self.rest.len()).ok_or(Malformed)?;
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(text)
    }

    /// What stands before the next `end`, which is taken too.
    fn up_to(&mut self, end: u8) -> Result<&'a [u8], Malformed> {
        let looked_at = &self.rest[..self.rest.len().min(DIGITS_MAX + 1)];
        let at = looked_at.iter().position(|byte| *byte == end).ok_or(Malformed)?;
        let before = &self.rest[..at];
        self.rest = &self.rest[at + 1..];
        Ok(before)
    }

    /// Takes the end of a list or dictionary, if it is there.
    fn ends(&mut self) -> bool {
        let ends = self.rest.first() == Some(&b'e');
        if ends {
            self.rest = &self.rest[1..];
        }
        ends
    }
}

/// Digits with a minus before them or none; no plus.
fn integer(digits: &str) -> Option<i64> {
    if digits.starts_with('+') { None } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reply_of_an_rtpengine_is_read() {
        let bytes = b"d7:createdi-5e6:result2:ok4:tagsd2:ftd6:mediasl3:RTPi7eeeee";

        let value = Value::read(bytes).unwrap();

        assert_eq!(value.get("result").and_then(Value::text), Some(&b"ok"[..]));
        assert_eq!(value.get("created").and_then(Value::integer), Some(-5));
        let medias = value.get("tags").and_then(|tags| tags.get("ft")).and_then(|tag| tag.get("medias"));
        assert_eq!(medias, Some(&Value::List(vec![Value::Text(b"RTP"), Value::Integer(7)])));
        let mut written = Vec::new();
        value.write(&mut written);
        assert_eq!(written, bytes);
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let long = [&b"i"[..], &[b'1'; 40], b"e"].concat();
        for bytes in [
            &b""[..],
            b"e",
            b"i",
            b"ie",
            b"i1",
            b"i1.5e",
            b"i+1e",
            b"i9223372036854775808e",
            b"4:spa",
            b"-1:",
            b"+1:a",
            b"l",
            b"li1e",
            b"d",
            b"d1:ae",
            b"di1ei2ee",
            b"d1:ai1e1:ai2ee",
            b"i1ei2e",
            b"99999999999999999999:",
            &long,
        ] {
            assert_eq!(Value::read(bytes), Err(Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_value_that_is_too_deep_or_has_too_many_parts_is_refused() {
        let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
        assert!(Value::read(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(Value::read(&nested(DEPTH_MAX + 1)), Err(Malformed));
        assert_eq!(Value::read(&nested(1_000_000)), Err(Malformed));

        let many = [&b"l"[..], &b"0:".repeat(VALUES_MAX), b"e"].concat();
        assert_eq!(Value::read(&many), Err(Malformed));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Value::read(&bytes);
        }

        #[test]
        fn what_looks_like_a_value_is_read_or_refused(text in "[ilde0-9:x-]{0,60}") {
            let _ = Value::read(text.as_bytes());
        }

        #[test]
        fn what_was_written_is_read_again_and_no_part_of_it_is(value in owned(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            value.borrow().write(&mut bytes);

            prop_assert_eq!(Value::read(&bytes), Ok(value.borrow()));
            prop_assert_eq!(Value::read(&bytes[..cut.index(bytes.len())]), Err(Malformed));
        }

        #[test]
        fn one_wrong_byte_harms_nobody(value in owned(), at in any::<prop::sample::Index>(), wrong in any::<u8>()) {
            let mut bytes = Vec::new();
            value.borrow().write(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = wrong;

            if let Ok(value) = Value::read(&bytes) {
                let mut again = Vec::new();
                value.write(&mut again);
                prop_assert_eq!(Value::read(&again), Ok(value));
            }
        }
    }

    /// A value that has its own bytes.
    #[derive(Clone, Debug)]
    enum Owned {
        Text(Vec<u8>),
        Integer(i64),
        List(Vec<Owned>),
        Dictionary(BTreeMap<Vec<u8>, Owned>),
    }

    impl Owned {
        fn borrow(&self) -> Value<'_> {
            match self {
                Self::Text(text) => Value::Text(text),
                Self::Integer(number) => Value::Integer(*number),
                Self::List(values) => Value::List(values.iter().map(Self::borrow).collect()),
                Self::Dictionary(entries) => Value::Dictionary(
                    entries.iter().map(|(key, value)| (key.as_slice(), value.borrow())).collect(),
                ),
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..12);
        let leaf = prop_oneof![bytes().prop_map(Owned::Text), any::<i64>().prop_map(Owned::Integer)];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Owned::List),
                proptest::collection::btree_map(bytes(), inner, 0..6).prop_map(Owned::Dictionary),
            ]
        })
    }
}

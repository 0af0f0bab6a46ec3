//! A binding as a row of `location`.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use bytes::Bytes;
use clock::WallTime;
use routing::account::BindingKey;
use routing::{PublishedBinding, StoredBinding};
use sip::Aor;

use super::super::link::Row;
use super::super::tables::{Column, Content};
use super::shape::{Field, RowId, Shape};
use crate::{bindings, row};

/// Milliseconds of a second: the table has seconds.
const SECOND_MS: u64 = 1_000;

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// There is none.
    Nothing,
    /// A number.
    Number(i64),
    /// Letters.
    Word(String),
}

/// What a row says, in a few bytes.
pub type Fingerprint = u64;

/// A row that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRow {
    /// What tells it from all others.
    pub id: RowId,
    /// In the order of the table's columns.
    pub values: Vec<Text>,
}

/// The table has no place for a binding: it is longer than the column, or no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPlace(pub Field);

/// The row of a binding.
pub fn own_row(shape: &Shape, published: &PublishedBinding, now: WallTime) -> Result<OwnRow, NoPlace> {
    let id = id_of(shape, &BindingKey::of(&published.stored));
    let values = shape
        .fields()
        .map(|(field, column)| fitted(field, column, value(shape, field, column, id, published, now)?))
        .collect::<Result<_, NoPlace>>()?;
    Ok(OwnRow { id, values })
}

/// What tells the row of the binding with this key.
pub fn id_of(shape: &Shape, key: &BindingKey) -> RowId {
    shape.id(bindings::contact_id(key).cast_unsigned(), (aor_hash(&key.aor) & 0xffff) as u16)
}

/// What a row says that is to be written, but for when it was.
pub fn fingerprint(shape: &Shape, hasher: &RandomState, row: &OwnRow) -> Fingerprint {
    let mut state = hasher.build_hasher();
    for ((field, column), value) in shape.fields().zip(&row.values) {
        match value {
            Text::Nothing => hash(&mut state, field, column, ""),
            Text::Number(number) => hash(&mut state, field, column, &number.to_string()),
            Text::Word(word) => hash(&mut state, field, column, word),
        }
    }
    state.finish()
}

/// The same of a row as [`Shape::page_query`] gives it.
pub fn fingerprint_of_found(shape: &Shape, hasher: &RandomState, row: &Row) -> Fingerprint {
    let mut state = hasher.build_hasher();
    for ((field, column), place) in shape.fields().zip(1..) {
        hash(&mut state, field, column, row.text(place));
    }
    state.finish()
}

/// Products write one value in several ways: spaces that fill, parts of seconds, zeros of fractions.
fn hash(state: &mut impl Hasher, field: Field, column: Column, text: &str) {
    if field == Field::LastModified {
        return;
    }
    let text = text.trim();
    match column.content {
        Content::Fraction => {
            let hundredths = text.parse::<f64>().map(|number| (number * 100.0).round() as i64);
            hundredths.ok().hash(state);
        }
        Content::Time => text.get(..19).unwrap_or(text).hash(state),
        Content::Number | Content::Text => text.hash(state),
    }
}

fn value(
    shape: &Shape,
    field: Field,
    column: Column,
    id: RowId,
    published: &PublishedBinding,
    now: WallTime,
) -> Result<Text, NoPlace> {
    let stored = &published.stored;
    let word = |bytes: &[u8]| text(bytes).map(Text::Word).ok_or(NoPlace(field));
    let seconds = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Ok(match field {
        Field::Id => id.text(),
        Field::Username => Text::Word(stored.aor.user().to_owned()),
        Field::Domain => Text::Word(stored.aor.domain().to_owned()),
        Field::Contact => word(&stored.contact)?,
        Field::Received => Text::Word(received(stored)),
        Field::Path => word(&path(published))?,
        Field::Expires => {
            shape.time(column.content, seconds(stored.expires_at.as_millis().div_ceil(SECOND_MS)))
        }
        // Kamailio takes -1 for none, as OpenSIPS does.
        Field::Q => stored
            .q
            .map_or(Text::Word("-1".to_owned()), |q| Text::Word(format!("{:.2}", f64::from(q) / 1_000.0))),
        Field::CallId => word(&stored.call_id)?,
        Field::Cseq => Text::Number(stored.cseq.into()),
        Field::LastModified => shape.time(column.content, seconds(now.as_secs())),
        Field::UserAgent => Text::Word(
            stored
                .user_agent
                .as_deref()
                .map(|it| String::from_utf8_lossy(it).replace('\0', ""))
                .unwrap_or_default(),
        ),
        Field::Socket => Text::Word(row::write_socket(stored.listener)),
        Field::Instance => match &stored.instance {
            // As the phone wrote it.
            Some(instance) => word(&[b"\"", &instance[..], b"\""].concat())?,
            None => Text::Nothing,
        },
        Field::RegId => Text::Number(stored.reg_id.unwrap_or_default().into()),
        Field::ConnectionId => Text::Number(-1),
    })
}

/// The value as the column can take it. What only describes a binding is cut off; what leads to it must be whole.
fn fitted(field: Field, column: Column, value: Text) -> Result<Text, NoPlace> {
    let (Text::Word(word), Some(length), Content::Text) = (&value, column.length, column.content) else {
        let is_none = column.content == Content::Number && matches!(value, Text::Word(_));
        return if is_none { Err(NoPlace(field)) } else { Ok(value) };
    };
    match (word.chars().count() > length, field) {
        (false, _) => Ok(value),
        (true, Field::UserAgent | Field::CallId) => Ok(Text::Word(word.chars().take(length).collect())),
        (true, _) => Err(NoPlace(field)),
    }
}

/// The way by this server first, then what the phone's own proxies have written.
fn path(published: &PublishedBinding) -> Vec<u8> {
    let all = std::iter::once(&published.path).chain(&published.stored.path);
    let all: Vec<&[u8]> = all.map(|value: &Bytes| &value[..]).collect();
    all.join(&b',')
}

fn received(stored: &StoredBinding) -> String {
    let transport = stored.listener.0;
    let address = row::write_received(stored.received);
    if transport.is_reliable() { format!("{address};transport={}", transport.uri_name()) } else { address }
}

/// Bytes that a text column can have.
fn text(bytes: &[u8]) -> Option<String> {
    let text = str::from_utf8(bytes).ok()?;
    // A line break within a value is a fold, which means no more than a space.
    (!text.contains('\0')).then(|| text.replace(['\r', '\n'], " "))
}

/// The hash of an address of record that OpenSIPS has: four letters at a time, what is left over by itself, each added
/// with a part of itself.
fn aor_hash(aor: &Aor) -> u32 {
    // Its letters are signed numbers.
    let word = |letters: &[u8]| {
        letters.iter().fold(0u32, |word, letter| {
            (word << 8).wrapping_add(i32::from(letter.cast_signed()).cast_unsigned())
        })
    };
    let text = aor.as_str().as_bytes();
    let (fours, rest) = text.as_chunks::<4>();
    let words = fours.iter().map(|four| word(four)).chain([word(rest)]);
    let sum = words.fold(0u32, |sum, word| sum.wrapping_add(word ^ (word >> 3)));
    sum.wrapping_add(sum >> 11).wrapping_add((sum >> 13).wrapping_add(sum >> 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_an_address_of_record_is_that_of_opensips() {
        for (text, wanted) in [
            ("alice@example.org", 65_400),
            ("bob@example.org", 3_951),
            ("j\u{fc}rgen@example.org", 37_125),
            ("a@b", 31_110),
        ] {
            let aor = Aor::parse(text).expect("an address of record");
            assert_eq!(aor_hash(&aor) & 0xffff, wanted, "{text}");
        }
    }
}

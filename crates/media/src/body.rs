//! The session description in a message's body.
//!
//! The body is one, or has parts of which one is (RFC 5621 §3.1); then the others stay byte for byte, and so do the
//! delimiters. Only the part that is for the session counts: one for early media of another session, or one that is only
//! to be shown, is left alone. More than one that counts is [`Unreadable::Ambiguous`], because a phone might take the
//! other one.

mod content_type;
mod multipart;

use std::ops::Range;

use content_type::ContentType;
use multipart::Part;

/// Bodies within bodies; nobody sends more than two.
const DEPTH_MAX: usize = 4;

/// A message's body and the header fields that say what it is. Values are as they stand in the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Body<'a> {
    /// `Content-Type`; without it there is no body that could be known.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Disposition`.
    pub disposition: Option<&'a [u8]>,
    /// `Content-Encoding`, or the part's `Content-Transfer-Encoding`.
    pub encoding: Option<&'a [u8]>,
    /// The body.
    pub bytes: &'a [u8],
}

/// What can not be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is compressed, or in base64 or quoted-printable.
    Encoded,
    /// Its parts can not be told from each other: no boundary, none found, or the last one is not closed.
    Parts,
    /// It has more parts, or parts within parts, than anybody sends.
    TooManyParts,
    /// Several of its parts are a description for the session.
    Ambiguous,
}

impl<'a> Body<'a> {
    /// Where the session description stands, if there is one.
    ///
    /// # Errors
    ///
    /// The body has or may have a description that can not be got at.
    pub fn find_description(&self) -> Result<Option<Range<usize>>, Unreadable> {
        let mut found = None;
        let within = 0..self.bytes.len();
        look_into(self, within, DEPTH_MAX, &mut found)?;
        Ok(found)
    }

    /// The body with another description in the place of the one that was found.
    pub fn with_description(&self, place: Range<usize>, description: &[u8]) -> Vec<u8> {
        [&self.bytes[..place.start], description, &self.bytes[place.end..]].concat()
    }

    fn is_encoded(&self) -> bool {
        let plain: [&[u8]; 4] = [b"identity", b"7bit", b"8bit", b"binary"];
        self.encoding.map(<[u8]>::trim_ascii).is_some_and(|encoding| {
            !encoding.is_empty() && !plain.iter().any(|known| encoding.eq_ignore_ascii_case(known))
        })
    }

    /// Whether a description in it is for the session.
    // RFC 3261 §20.11: that is what it is for if nothing is said. RFC 3959 §4 has one for early media alone.
    fn is_for_session(&self) -> bool {
        let Some(disposition) = self.disposition else { return true };
        let kind = disposition.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        kind.is_empty() || kind.eq_ignore_ascii_case(b"session")
    }
}

/// `body` has its header fields, `within` is its place in the whole.
fn look_into(
    body: &Body<'_>,
    within: Range<usize>,
    depth: usize,
    found: &mut Option<Range<usize>>,
) -> Result<(), Unreadable> {
    let Some(kind) = body.content_type.and_then(ContentType::read) else { return Ok(()) };
    if within.is_empty() || !body.is_for_session() {
        return Ok(());
    }
    if kind.is(b"application", b"sdp") {
        if body.is_encoded() {
            return Err(Unreadable::Encoded);
        }
        return match found.replace(within) {
            None => Ok(()),
            Some(_) => Err(Unreadable::Ambiguous),
        };
    }
    if !kind.is_of(b"multipart") {
        return Ok(());
    }
    if body.is_encoded() {
        return Err(Unreadable::Encoded);
    }
    let depth = depth.checked_sub(1).ok_or(Unreadable::TooManyParts)?;
    let boundary = kind.parameter(b"boundary").ok_or(Unreadable::Parts)?;
    for Part { header, content } in multipart::split(body.bytes, within, &boundary)? {
        let fields = multipart::fields(&body.bytes[header]);
        let part = Body {
            content_type: fields.content_type,
            disposition: fields.disposition,
            encoding: fields.encoding,
            bytes: body.bytes,
        };
        look_into(&part, content, depth, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! The parts of a body (RFC 2046 §5.1).

use std::ops::Range;

use super::Unreadable;

/// More parts than any body of a call has.
const PARTS_MAX: usize = 32;

/// RFC 2046 §5.1.1: a boundary has 1 to 70 characters.
const BOUNDARY_BYTES_MAX: usize = 70;

/// One part, as places in the whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) header: Range<usize>,
    pub(super) content: Range<usize>,
}

/// The header fields of a part that say what it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) content_type: Option<&'a [u8]>,
    pub(super) disposition: Option<&'a [u8]>,
    pub(super) encoding: Option<&'a [u8]>,
}

/// Cuts what is within into its parts.
pub(super) fn split(bytes: &[u8], within: Range<usize>, boundary: &[u8]) -> Result<Vec<Part>, Unreadable> {
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
        return Err(Unreadable::Parts);
    }
    let mut parts = Vec::new();
    // Where the part begins whose end is looked for.
    let mut begun: Option<usize> = None;
    let mut at = within.start;
    while at < within.end {
        let feed = bytes[at..within.end].iter().position(|byte| *byte == b'\n').map(|found| at + found);
        let next = feed.map_or(within.end, |feed| feed + 1);
        if let Some(delimiter) = delimiter(&bytes[at..next], boundary) {
            if let Some(start) = begun {
                if parts.len() == PARTS_MAX {
                    return Err(Unreadable::TooManyParts);
                }
                parts.push(part(bytes, start..before_line_end(bytes, start, at)));
            }
            if delimiter == Delimiter::Last {
                return Ok(parts);
            }
            begun = Some(next);
        }
        at = next;
    }
    // What is cut off may lack the part that matters, or its end.
    Err(Unreadable::Parts)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    Next,
    Last,
}

/// Whether a line parts two parts.
// RFC 2046 §5.1.1: two hyphens, the boundary, perhaps two more, and white space of the transport.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<Delimiter> {
    let rest = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let (rest, delimiter) = match rest.strip_prefix(b"--") {
        Some(rest) => (rest, Delimiter::Last),
        None => (rest, Delimiter::Next),
    };
    rest.trim_ascii().is_empty().then_some(delimiter)
}

/// The line end before a delimiter belongs to the delimiter.
fn before_line_end(bytes: &[u8], start: usize, delimiter: usize) -> usize {
    let content = &bytes[start..delimiter];
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    start + content.strip_suffix(b"\r").unwrap_or(content).len()
}

/// Header fields, an empty line, content; without an empty line it has no content.
fn part(bytes: &[u8], within: Range<usize>) -> Part {
    let mut at = within.start;
    while at < within.end {
        let feed = bytes[at..within.end].iter().position(|byte| *byte == b'\n').map(|found| at + found);
        let next = feed.map_or(within.end, |feed| feed + 1);
        if matches!(&bytes[at..next], b"\r\n" | b"\n") {
            return Part { header: within.start..at, content: next..within.end };
        }
        at = next;
    }
    Part { header: within.clone(), content: within.end..within.end }
}

/// What stands in a part's header; of a field that is there twice the first counts.
pub(super) fn fields(header: &[u8]) -> Fields<'_> {
    let mut fields = Fields::default();
    let mut rest = header;
    while !rest.is_empty() {
        let (field, behind) = rest.split_at(field_end(rest));
        rest = behind;
        let Some(colon) = field.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (field[..colon].trim_ascii(), field[colon + 1..].trim_ascii());
        let place = match name.to_ascii_lowercase().as_slice() {
            b"content-type" | b"c" => &mut fields.content_type,
            b"content-disposition" => &mut fields.disposition,
            b"content-transfer-encoding" | b"content-encoding" | b"e" => &mut fields.encoding,
            _ => continue,
        };
        place.get_or_insert(value);
    }
    fields
}

/// Where a field ends: at a line end that no white space follows.
fn field_end(bytes: &[u8]) -> usize {
    let is_end = |at: &usize| bytes[*at] == b'\n' && !matches!(bytes.get(at + 1), Some(b' ' | b'\t'));
    (0..bytes.len()).find(is_end).map_or(bytes.len(), |at| at + 1)
}

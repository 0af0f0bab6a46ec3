//! The lines of a session description, as places in its bytes.

use std::ops::Range;

use super::Malformed;

/// More is no session description: a browser's offer with video has some 300.
pub const LINES_MAX: usize = 4_096;

/// One line `x=value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The letter before the `=`; `None` for a line that has nothing in it.
    pub(super) kind: Option<u8>,
    /// Where it begins.
    pub(super) start: usize,
    /// Where its line end begins.
    pub(super) end: usize,
    /// Where the next line begins.
    pub(super) next: usize,
}

impl Line {
    /// What stands behind the `=`.
    pub(super) fn value(&self) -> Range<usize> {
        self.start + 2..self.end
    }
}

/// Cuts a description into its lines.
// RFC 8866 §5: lines end with CRLF, and a bare LF is to be accepted too.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Line>, Malformed> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let feed = bytes[start..].iter().position(|byte| *byte == b'\n').map(|at| start + at);
        let next = feed.map_or(bytes.len(), |feed| feed + 1);
        let end = match feed {
            Some(feed) if feed > start && bytes[feed - 1] == b'\r' => feed - 1,
            Some(feed) => feed,
            None => bytes.len(),
        };
        if lines.len() == LINES_MAX {
            return Err(Malformed::TooManyLines);
        }
        let kind = kind(&bytes[start..end]).ok_or(Malformed::Line(lines.len() + 1))?;
        lines.push(Line { kind, start, end, next });
        start = next;
    }
    Ok(lines)
}

/// `Some(None)` for an empty line: some devices end a description with one, or with a NUL.
fn kind(line: &[u8]) -> Option<Option<u8>> {
    if line.iter().all(|byte| matches!(byte, 0 | b' ' | b'\t' | b'\r')) {
        return Some(None);
    }
    // A line end that only some readers see would hide a media line from the others.
    let is_one_line = !line.iter().any(|byte| matches!(byte, 0 | b'\r'));
    match line {
        [kind, b'=', ..] if kind.is_ascii_alphabetic() && is_one_line => Some(Some(*kind)),
        _ => None,
    }
}

/// The words of a value, which single spaces should part.
pub(super) fn words(bytes: &[u8], within: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let mut at = within.start;
    std::iter::from_fn(move || {
        let start = at + bytes[at..within.end].iter().position(|byte| !is_space(byte))?;
        let length = bytes[start..within.end].iter().position(is_space);
        at = length.map_or(within.end, |length| start + length);
        Some(start..at)
    })
}

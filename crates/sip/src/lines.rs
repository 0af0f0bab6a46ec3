//! Header lines: where each begins and ends, folds included. The one reader of the header section; framing of
//! datagrams, framing of streams and the search for a Call-ID all use it, so they agree about every byte.

use memchr::memchr;

use crate::grammar::{is_lws, is_token_byte};

/// Offsets of one header line with its folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) start: usize,
    pub(crate) name_end: usize,
    pub(crate) value_start: usize,
    pub(crate) value_end: usize,
    /// Whether it has a name and a colon, and no carriage return inside.
    pub(crate) is_header: bool,
}

/// What comes next in the header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Line(Line),
    /// The empty line begins at `at`, the body behind it.
    End {
        at: usize,
        body: usize,
    },
    /// The bytes end before the empty line.
    Unterminated,
}

/// Reads the header section line by line.
#[derive(Clone, Debug)]
pub(crate) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    /// `at` is where the first header line begins.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next line begins.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn step(&mut self) -> Step {
        let start = self.at;
        match self.bytes[start..] {
            [b'\n', ..] => return Step::End { at: start, body: start + 1 },
            [b'\r', b'\n', ..] => return Step::End { at: start, body: start + 2 },
            [] | [b'\r'] => return Step::Unterminated,
            _ => {}
        }
        let content_end = self.skip_line();
        Step::Line(read_line(self.bytes, start, content_end))
    }

    /// Moves behind the line and the lines that are folded into it; gives where its content ends.
    fn skip_line(&mut self) -> usize {
        let mut from = self.at;
        loop {
            let Some(len) = memchr(b'\n', &self.bytes[from..]) else {
                self.at = self.bytes.len();
                return self.at;
            };
            let line_feed = from + len;
            from = line_feed + 1;
            // RFC 3261 §7.3.1: a line that begins with white space goes on with the value of the line before.
            if !matches!(self.bytes.get(from), Some(b' ' | b'\t')) {
                self.at = from;
                let has_return = line_feed > 0 && self.bytes[line_feed - 1] == b'\r';
                return line_feed - usize::from(has_return);
            }
        }
    }
}

fn read_line(bytes: &[u8], start: usize, content_end: usize) -> Line {
    let mut name_end = start;
    while name_end < content_end && is_token_byte(bytes[name_end]) {
        name_end += 1;
    }
    let mut colon = name_end;
    while colon < content_end && matches!(bytes[colon], b' ' | b'\t') {
        colon += 1;
    }
    let is_named = name_end > start && colon < content_end && bytes[colon] == b':';
    let mut value_start = if is_named { colon + 1 } else { name_end };
    let mut value_end = content_end;
    let is_header = is_named && !has_stray_return(&bytes[value_start..value_end]);
    while value_start < value_end && is_lws(bytes[value_start]) {
        value_start += 1;
    }
    while value_start < value_end && is_lws(bytes[value_end - 1]) {
        value_end -= 1;
    }
    Line { start, name_end, value_start, value_end, is_header }
}

/// Whether a carriage return stands elsewhere than before a line feed. The next hop might take it for a line end and
/// read a header that nobody here has seen.
fn has_stray_return(value: &[u8]) -> bool {
    let mut rest = value;
    while let Some(at) = memchr(b'\r', rest) {
        rest = &rest[at + 1..];
        if rest.first() != Some(&b'\n') {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(bytes: &[u8]) -> (Vec<(&[u8], &[u8], bool)>, Step) {
        let mut lines = Lines::new(bytes, 0);
        let mut found = Vec::new();
        loop {
            match lines.step() {
                Step::Line(line) => found.push((
                    &bytes[line.start..line.name_end],
                    &bytes[line.value_start..line.value_end],
                    line.is_header,
                )),
                end => return (found, end),
            }
        }
    }

    #[test]
    fn folds_and_both_line_ends_are_read() {
        let (lines, end) = values(b"TO :\r\n sip:a@b ;\r\n\ttag=1\r\ns :\r\nx:y\n\r\nbody");

        assert_eq!(
            lines,
            [(&b"TO"[..], &b"sip:a@b ;\r\n\ttag=1"[..], true), (b"s", b"", true), (b"x", b"y", true)]
        );
        assert_eq!(end, Step::End { at: 35, body: 37 });
    }

    #[test]
    fn a_carriage_return_inside_of_a_value_is_an_error() {
        let (lines, _) = values(b"a: b\rP-Asserted-Identity: c\r\nd: e\r\r\n\r\n");

        assert_eq!(lines.iter().map(|line| line.2).collect::<Vec<bool>>(), [false, false]);
    }

    #[test]
    fn lines_without_name_or_colon_are_errors() {
        let (lines, _) = values(b"nocolon\r\n: x\r\nna me: x\r\n folded\r\nn@me: x\r\n\r\n");

        assert!(lines.iter().all(|line| !line.2), "{lines:?}");
    }

    #[test]
    fn a_section_without_an_empty_line_is_unterminated() {
        for bytes in [&b""[..], b"a: b", b"a: b\r\n", b"a: b\r\n\r", b"a: b\r\n c"] {
            assert_eq!(values(bytes).1, Step::Unterminated);
        }
    }
}

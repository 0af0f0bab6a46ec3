//! Header lines: where each begins and ends, folds included. The one reader of the header section; framing of
//! datagrams, framing of streams and the search for a Call-ID all use it, so they agree about every byte.

use memchr::memchr2;

use crate::grammar::{is_lws, is_token_byte, plain_name_len, prefix_len};

/// Offsets of one header line with its folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) start: usize,
    pub(crate) name_end: usize,
    pub(crate) value_start: usize,
    pub(crate) value_end: usize,
    /// Whether it has a name and a colon, and no carriage return inside. The name has no white space and no control;
    /// whether it is a token is for who reads names that are not known.
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

    #[inline]
    pub(crate) fn step(&mut self) -> Step {
        let start = self.at;
        match self.bytes[start..] {
            [b'\n', ..] => return Step::End { at: start, body: start + 1 },
            [b'\r', b'\n', ..] => return Step::End { at: start, body: start + 2 },
            [] | [b'\r'] => return Step::Unterminated,
            _ => {}
        }
        Step::Line(self.read_line(start))
    }

    /// Reads the line that begins at `start`, with the lines that are folded into it, and moves behind them.
    fn read_line(&mut self, start: usize) -> Line {
        let bytes = self.bytes;
        let (name_end, colon, is_named) = match plain_name_len(&bytes[start..]) {
            Some(len) => (start + len, start + len, true),
            None => {
                let name_end = start + prefix_len(&bytes[start..], is_token_byte);
                let colon = name_end + prefix_len(&bytes[name_end..], is_blank);
                (name_end, colon, name_end > start && bytes.get(colon) == Some(&b':'))
            }
        };
        let mut value_start = if is_named { colon + 1 } else { name_end };
        let ending = find_line_end(bytes, value_start);
        self.at = ending.next;
        let mut value_end = ending.content_end;
        while value_start < value_end && is_lws(bytes[value_start]) {
            value_start += 1;
        }
        while value_start < value_end && is_lws(bytes[value_end - 1]) {
            value_end -= 1;
        }
        Line { start, name_end, value_start, value_end, is_header: is_named && !ending.has_stray_return }
    }
}

/// Where a line with its folds ends, and where the next one begins.
struct LineEnd {
    content_end: usize,
    next: usize,
    /// Whether a carriage return stands elsewhere than before a line feed. The next hop might take it for a line end
    /// and read a header that nobody here has seen.
    has_stray_return: bool,
}

fn find_line_end(bytes: &[u8], from: usize) -> LineEnd {
    let mut from = from;
    let mut has_stray_return = false;
    while let Some(found) = memchr2(b'\r', b'\n', &bytes[from..]) {
        let content_end = from + found;
        let next = match bytes[content_end..] {
            [b'\n', ..] => content_end + 1,
            [_, b'\n', ..] => content_end + 2,
            _ => {
                has_stray_return = true;
                from = content_end + 1;
                continue;
            }
        };
        // RFC 3261 §7.3.1: a line that begins with white space goes on with the value of the line before.
        if !bytes.get(next).is_some_and(|&byte| is_blank(byte)) {
            return LineEnd { content_end, next, has_stray_return };
        }
        from = next;
    }
    LineEnd { content_end: bytes.len(), next: bytes.len(), has_stray_return }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, value, and whether it is a header.
    type Read<'a> = (&'a [u8], &'a [u8], bool);

    fn values(bytes: &[u8]) -> (Vec<Read<'_>>, Step) {
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

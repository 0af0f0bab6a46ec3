//! Lines of a header section, written.

use std::ops::Range;

use smallvec::SmallVec;

use crate::Name;
use crate::grammar::{has_line_end, is_lws};

/// Text that is kept without allocation: a few short lines.
const TEXT_INLINE: usize = 512;

/// Lines to write, kept in the order they came. Names and values are copied.
#[derive(Debug, Default)]
pub(crate) struct NewLines {
    text: SmallVec<[u8; TEXT_INLINE]>,
    /// Where the name and the value stand in the text.
    lines: SmallVec<[(Range<usize>, Range<usize>); 8]>,
}

impl NewLines {
    pub(crate) fn add(&mut self, name: Name, value: &[u8]) {
        self.add_named(name.canonical(), value);
    }

    pub(crate) fn add_named(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.lines.push((start..middle, middle..self.text.len()));
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.lines {
            write_line(&self.text[name.clone()], &self.text[value.clone()], out);
        }
    }
}

/// Appends `name: value` and a line end.
pub(crate) fn write_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    write_value(value, out);
    end_line(out);
}

/// Appends a value; line ends in it, with the white space around them, become one space, so that no value can begin
/// another line.
// RFC 3261 §7.3.1: a fold is the same as one space.
#[inline]
pub(crate) fn write_value(value: &[u8], out: &mut Vec<u8>) {
    match has_line_end(value) {
        false => out.extend_from_slice(value),
        true => write_unfolded(value, out),
    }
}

#[cold]
fn write_unfolded(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|&byte| matches!(byte, b'\r' | b'\n')).map(crate::grammar::trim);
    let mut is_first = true;
    for word in words.filter(|word| !word.is_empty()) {
        if !is_first && !out.last().is_some_and(|&byte| is_lws(byte)) {
            out.push(b' ');
        }
        out.extend_from_slice(word);
        is_first = false;
    }
}

pub(crate) fn end_line(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_begin_another_line() {
        let mut out = Vec::new();
        write_line(b"Reason", b"a\r\nVia: b\n\n c\r", &mut out);
        assert_eq!(out, b"Reason: a Via: b c\r\n");
    }
}

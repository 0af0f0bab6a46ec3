//! A message framed in place: one buffer, a start line, and where each header line stands.
//!
//! Framing reads each byte of the header section once, finds each header's name, and copies nothing. It is lenient:
//! a value is read when it is asked for, by the function that knows its grammar, and [`Message::validate`] asks for
//! all that every message needs. What nobody asks for may be anything, and is forwarded as it came.
//!
//! Invariant: offsets of spans lie in `bytes`, in order, and `bytes` has at most
//! [`MESSAGE_BYTES_MAX`](crate::limits::MESSAGE_BYTES_MAX) bytes.

mod parse;
mod typed;
mod validate;

pub(crate) use parse::{ContentLength, parse_start_line};
pub use typed::{ContactList, Contacts};

use smallvec::SmallVec;

use crate::grammar::ValueRanges;
use crate::{Method, Name, Status};

/// Spans that are kept without allocation; calls through a few proxies have about 25 header lines.
const SPANS_INLINE: usize = 32;

/// One SIP message, borrowed from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// From the start line to the end of the body.
    bytes: &'a [u8],
    start_line: StartLine<'a>,
    spans: SmallVec<[HeaderSpan; SPANS_INLINE]>,
    /// The names of all lines, a bit for each, so that what is not there costs no search.
    names: u128,
    /// Where the first header line begins.
    headers_start: u16,
    /// Where the empty line begins.
    headers_end: u16,
    /// Where the body begins.
    body_start: u16,
}

/// Where one header line stands. The line ends where the next one begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderSpan {
    pub(crate) start: u16,
    pub(crate) name_end: u16,
    pub(crate) value_start: u16,
    pub(crate) value_end: u16,
    pub(crate) name: Name,
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Of a request.
    Request(RequestLine<'a>),
    /// Of a response.
    Response(StatusLine<'a>),
}

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// The method.
    pub method: Method<'a>,
    /// The Request-URI, not checked.
    pub uri: &'a [u8],
    /// Whether the version is SIP/2.0.
    pub version_ok: bool,
}

/// The first line of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine<'a> {
    /// The status.
    pub status: Status,
    /// The reason phrase, any bytes.
    pub reason: &'a [u8],
    /// Whether the version is SIP/2.0.
    pub version_ok: bool,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// What the name means.
    pub name: Name,
    /// The name as it came.
    pub raw_name: &'a [u8],
    /// The value, trimmed, folds left in.
    pub value: &'a [u8],
}

impl<'a> Message<'a> {
    /// From the start line to the end of the body; empty lines before and bytes behind are no part of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The first line.
    pub fn start_line(&self) -> StartLine<'a> {
        self.start_line
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start_line, StartLine::Request(_))
    }

    /// The method of a request.
    pub fn method(&self) -> Option<Method<'a>> {
        match self.start_line {
            StartLine::Request(line) => Some(line.method),
            StartLine::Response(_) => None,
        }
    }

    /// The Request-URI of a request, not checked unless the message was validated.
    pub fn request_uri(&self) -> Option<&'a [u8]> {
        match self.start_line {
            StartLine::Request(line) => Some(line.uri),
            StartLine::Response(_) => None,
        }
    }

    /// The status of a response.
    pub fn status(&self) -> Option<Status> {
        match self.start_line {
            StartLine::Request(_) => None,
            StartLine::Response(line) => Some(line.status),
        }
    }

    /// All header lines in order.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> {
        self.spans.iter().map(|span| Header {
            name: span.name,
            raw_name: &self.bytes[span.start as usize..span.name_end as usize],
            value: self.value_of(span),
        })
    }

    /// The values of the lines with this name, each line whole: for headers whose commas do not separate values
    /// (credentials, challenges, Date).
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        let spans = if self.has(name) { &self.spans[..] } else { &[] };
        spans.iter().filter(move |span| span.name == name).map(|span| self.value_of(span))
    }

    /// The value of the first line with this name.
    pub fn header(&self, name: Name) -> Option<&'a [u8]> {
        self.lines(name).next()
    }

    /// Whether a line has this name.
    pub fn has(&self, name: Name) -> bool {
        self.names & name.bit() != 0
    }

    /// How many lines have this name.
    pub fn count(&self, name: Name) -> usize {
        self.lines(name).count()
    }

    /// The values of all lines with this name, split at commas outside of quotes and brackets, in order; empty ones
    /// are skipped.
    // RFC 3261 §7.3.1: one line with commas and many lines mean the same.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        self.lines(name).flat_map(|line| ValueRanges::new(line).map(|range| &line[range]))
    }

    /// The value of the first line with this name, compared without case; compact forms count.
    pub fn header_by_name(&self, name: &[u8]) -> Option<&'a [u8]> {
        match Name::from_bytes(name) {
            Name::Other => self
                .headers()
                .find(|header| header.name == Name::Other && header.raw_name.eq_ignore_ascii_case(name))
                .map(|header| header.value),
            known => self.header(known),
        }
    }

    /// The body, cut at Content-Length.
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.body_start as usize..]
    }

    pub(crate) fn spans(&self) -> &[HeaderSpan] {
        &self.spans
    }

    pub(crate) fn value_of(&self, span: &HeaderSpan) -> &'a [u8] {
        &self.bytes[span.value_start as usize..span.value_end as usize]
    }

    /// Where the line with this index begins; behind the last one, where the header section ends.
    pub(crate) fn line_start(&self, index: usize) -> usize {
        self.spans.get(index).map_or(self.headers_end, |span| span.start) as usize
    }

    /// Where the first header line begins.
    pub(crate) fn headers_start(&self) -> usize {
        self.headers_start as usize
    }

    /// Where the empty line begins.
    pub(crate) fn headers_end(&self) -> usize {
        self.headers_end as usize
    }
}

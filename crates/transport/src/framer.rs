//! The messages of a stream: where one ends and the next begins.
//!
//! A [`Framer`] belongs to one connection. What the socket brings is pushed in, in pieces of any
//! size, and frames are taken out until there is none; the frames do not depend on the pieces.
//! Between messages a peer may send line ends: two of them are a ping, one answers ours
//! (RFC 5626 §3.5.1).
//!
//! A peer pays for what it costs: each byte is looked at once for the end of the header section,
//! however small the pieces are; the buffer holds one message and one read at most, and nothing
//! while the connection is silent. After an error the stream has no frames any more.

use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use memchr::memchr_iter;
use sip::limits::{MESSAGE_BYTES_MAX, START_LINE_BYTES_MAX};
use sip::{Framed, Malformed, Message, Name, frame_stream};

use crate::classify::has_version;

/// What asks a peer whether it is there.
// RFC 5626 §3.5.1: a double line end.
pub const PING: &[u8] = b"\r\n\r\n";

/// What answers a ping.
// RFC 5626 §3.5.1: a single line end.
pub const PONG: &[u8] = b"\r\n";

/// Bytes that may wait: a message that lacks its last byte, and one read of the edge behind it.
const BUFFERED_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX + 1;

/// A silent connection keeps no larger buffer than this.
const KEPT_BYTES_MAX: usize = 4_096;

/// The second half of a ping comes at once or with a retransmission of TCP. A line end that is older was
/// something else: pongs to pings of which the framer was not told come each keepalive interval.
const HALF_PING_MAX: Duration = Duration::from_secs(5);

/// What a stream has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One whole message.
    Message(Bytes),
    /// The peer asks whether we are there: answer [`PONG`]. Several in a row that came together are one.
    Ping,
    /// The answer to our ping.
    Pong,
}

/// Why a stream is given up: where the next message begins can not be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// The peer speaks something else.
    NotSip,
    /// There is no end of the header section within [`MESSAGE_BYTES_MAX`].
    HeadTooLarge,
    /// The length can not be known or is too large. If `head` is a request it can be answered with the
    /// problem's status before the connection is closed.
    Unframable {
        /// Start line and header section, with the empty line.
        head: Bytes,
        /// What is wrong.
        problem: Malformed,
    },
    /// More was pushed than the buffer takes; the edge reads in smaller pieces.
    Overrun,
}

/// The framing of one connection.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    stage: Stage,
    /// When the last bytes came.
    pushed: Instant,
    /// When the first byte of the unfinished message came.
    since: Option<Instant>,
    /// When a line end came that may be half a ping.
    half_ping: Option<Instant>,
    awaits_pong: bool,
    failed: Option<FramingError>,
}

/// How much is known of the message at `start`. Offsets count from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No line end in the first `searched` bytes.
    StartLine { searched: usize },
    /// No empty line in the first `searched` bytes.
    Head { searched: usize },
    /// The header section has `head` bytes, and the message will have `message`.
    Body { head: usize, message: usize },
    /// It is all there and has this many bytes.
    Whole { message: usize },
}

const BEGINNING: Stage = Stage::StartLine { searched: 0 };

impl Default for Framer {
    fn default() -> Self {
        Self::new()
    }
}

impl Framer {
    /// The framing of a connection that has brought nothing.
    pub fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            stage: BEGINNING,
            pushed: Instant::START,
            since: None,
            half_ping: None,
            awaits_pong: false,
            failed: None,
        }
    }

    /// Takes what the stream has brought: [`MESSAGE_BYTES_MAX`] at most at a time, and all frames must
    /// have been taken before.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) {
        if self.failed.is_some() || bytes.is_empty() {
            return;
        }
        self.pushed = now;
        if self.waiting() + bytes.len() > BUFFERED_BYTES_MAX {
            self.fail(FramingError::Overrun);
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// The stream can not be framed any more. Close it.
    #[expect(clippy::should_implement_trait, reason = "it fails once and for all, which an iterator can not")]
    pub fn next(&mut self) -> Result<Option<Frame>, FramingError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.stage == BEGINNING {
            if let Some(frame) = self.take_line_ends() {
                return Ok(Some(frame));
            }
            if !self.has_message_begun() {
                self.settle();
                return Ok(None);
            }
        }
        match self.take_message() {
            Ok(message) => {
                self.settle();
                Ok(message.map(Frame::Message))
            }
            Err(error) => {
                self.fail(error.clone());
                Err(error)
            }
        }
    }

    /// Since when a message is unfinished: the deadline of a slow sender counts from here.
    pub fn partial_since(&self) -> Option<Instant> {
        self.since
    }

    /// Is told that we have sent a [`PING`]: the next line end is its answer.
    pub fn expect_pong(&mut self) {
        self.awaits_pong = true;
    }

    /// Whether our last ping is not answered yet.
    pub fn is_pong_missing(&self) -> bool {
        self.awaits_pong
    }

    /// Takes line ends before a start line. A single one that answers nothing is ignored.
    fn take_line_ends(&mut self) -> Option<Frame> {
        let mut has_ping = false;
        loop {
            match &self.buffer[self.start..] {
                [b'\r', b'\n', ..] if self.awaits_pong => {
                    self.start += 2;
                    self.awaits_pong = false;
                    return Some(Frame::Pong);
                }
                [b'\r', b'\n', ..] => {
                    self.start += 2;
                    let half = self.half_ping.take();
                    if half.is_some_and(|since| self.pushed.since(since) <= HALF_PING_MAX) {
                        has_ping = true;
                    } else {
                        self.half_ping = Some(self.pushed);
                    }
                }
                [] | [b'\r'] => break,
                // RFC 3261 §7.5: line ends before the start line are ignored, also bare ones.
                [b'\r' | b'\n', ..] => self.start += 1,
                _ => {
                    self.half_ping = None;
                    break;
                }
            }
        }
        has_ping.then_some(Frame::Ping)
    }

    /// Whether what waits at the beginning is more than half a line end.
    fn has_message_begun(&self) -> bool {
        !matches!(self.buffer[self.start..], [] | [b'\r'])
    }

    fn take_message(&mut self) -> Result<Option<Bytes>, FramingError> {
        loop {
            let bytes = &self.buffer[self.start..];
            match self.stage {
                Stage::StartLine { searched } => match next_line_end(bytes, searched) {
                    Some(end) => {
                        check_start_line(&bytes[..end])?;
                        self.stage = Stage::Head { searched: end };
                    }
                    None => {
                        check_beginning(bytes)?;
                        self.stage = Stage::StartLine { searched: bytes.len() };
                        return Ok(None);
                    }
                },
                Stage::Head { searched } => match head_end(bytes, searched) {
                    Some(head) if head > MESSAGE_BYTES_MAX => return Err(FramingError::HeadTooLarge),
                    Some(head) => self.stage = measure(bytes, head)?,
                    None if bytes.len() >= MESSAGE_BYTES_MAX => return Err(FramingError::HeadTooLarge),
                    None => {
                        // The last two bytes may be the beginning of an empty line.
                        self.stage = Stage::Head { searched: bytes.len().saturating_sub(2).max(searched) };
                        return Ok(None);
                    }
                },
                Stage::Body { head, message } if bytes.len() < message => {
                    debug_assert!(head <= message);
                    return Ok(None);
                }
                Stage::Body { head, .. } => match frame_stream(bytes) {
                    Framed::Message { len } => self.stage = Stage::Whole { message: len },
                    Framed::Broken(problem) => return Err(unframable(&bytes[..head], problem)),
                    Framed::NeedMore | Framed::Keepalive { .. } => {
                        return Err(unframable(&bytes[..head], Malformed::ContentLength));
                    }
                },
                Stage::Whole { message } => {
                    let Some(message) = bytes.get(..message) else { return Ok(None) };
                    // A copy of its own size: a message that is kept must not keep the whole buffer.
                    let message = Bytes::copy_from_slice(message);
                    self.start += message.len();
                    self.stage = BEGINNING;
                    self.since = None;
                    return Ok(Some(message));
                }
            }
        }
    }

    fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// After a step: since when the rest waits, and whether the buffer is still needed.
    fn settle(&mut self) {
        // Line ends before a start line are no part of a message.
        let is_between = matches!(self.buffer[self.start..], [] | [b'\r' | b'\n', ..]);
        if self.since.is_none() && !(self.stage == BEGINNING && is_between) {
            // What is left came with the last piece at the latest.
            self.since = Some(self.pushed);
        }
        if self.waiting() == 0 {
            self.start = 0;
            self.buffer.clear();
            if self.buffer.capacity() > KEPT_BYTES_MAX {
                self.buffer = Vec::new();
            }
        }
    }

    fn fail(&mut self, error: FramingError) {
        self.buffer = Vec::new();
        self.start = 0;
        self.since = None;
        self.failed = Some(error);
    }
}

/// The offset of the first line feed at or after `from`.
fn next_line_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr(b'\n', bytes.get(from..)?).map(|at| from + at)
}

/// The length of the header section with its empty line. `from` is at or before the line feed that
/// comes before the empty line.
fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr_iter(b'\n', bytes.get(from..)?).find_map(|at| match &bytes[from + at + 1..] {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    })
}

/// A stream that does not speak SIP shows it in its first line.
fn check_start_line(line: &[u8]) -> Result<(), FramingError> {
    check_beginning(line)?;
    if has_version(line) { Ok(()) } else { Err(FramingError::NotSip) }
}

fn check_beginning(line: &[u8]) -> Result<(), FramingError> {
    let is_text = line.first().is_none_or(|&byte| byte.is_ascii_graphic() || byte == b'\r');
    if is_text && line.len() <= START_LINE_BYTES_MAX { Ok(()) } else { Err(FramingError::NotSip) }
}

/// How long the message with this header section is.
fn measure(bytes: &[u8], head: usize) -> Result<Stage, FramingError> {
    // RFC 3261 §18.3: in a stream the length is the only thing that says where the next message begins, so a
    // message that is not taken is the end of the stream.
    match frame_stream(bytes) {
        Framed::Message { len } if len <= MESSAGE_BYTES_MAX => Ok(Stage::Whole { message: len }),
        Framed::Message { .. } => Err(unframable(&bytes[..head], Malformed::TooLarge)),
        Framed::NeedMore => {
            let body = content_length(&bytes[..head]).filter(|&body| body <= MESSAGE_BYTES_MAX - head);
            let body = body.ok_or_else(|| unframable(&bytes[..head], Malformed::ContentLength))?;
            Ok(Stage::Body { head, message: head + body })
        }
        Framed::Keepalive { .. } => Err(FramingError::NotSip),
        Framed::Broken(problem) => Err(unframable(&bytes[..head], problem)),
    }
}

fn unframable(head: &[u8], problem: Malformed) -> FramingError {
    FramingError::Unframable { head: Bytes::copy_from_slice(head), problem }
}

/// The Content-Length of a header section whose body is not all there.
fn content_length(head: &[u8]) -> Option<usize> {
    let (message, _) = Message::parse_lenient(head).ok()?;
    let value = message.header(Name::ContentLength)?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;

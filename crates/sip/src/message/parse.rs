//! From bytes to a framed message (RFC 3261 §7, RFC 3261 §18.3).

use memchr::{memchr, memchr3};
use smallvec::SmallVec;

use super::{HeaderSpan, Message, RequestLine, StartLine, StatusLine};
use crate::grammar::{decimal, is_token, is_token_byte, trim_end};
use crate::limits::{HEADERS_MAX, MESSAGE_BYTES_MAX, METHOD_BYTES_MAX};
use crate::lines::{Lines, Step};
use crate::{Malformed, Method, Name, NotSip, Status};

impl<'a> Message<'a> {
    /// Frames a datagram, or exactly one message of a stream. Empty lines before the message and bytes behind its
    /// Content-Length are dropped.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let mut message = Message::of(bytes);
        match message.frame()? {
            None => Ok(message),
            Some(problem) => Err(problem),
        }
    }

    /// The same, but keeps what could be read and gives the first problem beside it, so that a request can be
    /// answered. A message with a problem may be answered or dropped, but not forwarded.
    pub fn parse_lenient(bytes: &'a [u8]) -> Result<(Message<'a>, Option<Malformed>), NotSip> {
        let mut message = Message::of(bytes);
        let problem = message.frame().map_err(|_| NotSip)?;
        Ok((message, problem))
    }

    /// Nothing is found yet.
    fn of(bytes: &'a [u8]) -> Self {
        let line = StatusLine { status: Status::OK, reason: b"", version_ok: false };
        Self {
            bytes,
            start_line: StartLine::Response(line),
            spans: SmallVec::new(),
            names: 0,
            headers_start: 0,
            headers_end: 0,
            body_start: 0,
        }
    }

    /// Finds all that framing finds, in place. The error is a start line from which nothing can be made.
    fn frame(&mut self) -> Result<Option<Malformed>, Malformed> {
        let bytes = self.bytes;
        let mut problem = Problem(None);
        // RFC 3261 §7.5: empty lines before the start line are ignored.
        let blank = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
        let mut bytes = &bytes[blank..];
        if bytes.len() > MESSAGE_BYTES_MAX {
            bytes = &bytes[..MESSAGE_BYTES_MAX];
            problem.note(Malformed::TooLarge);
        }
        let headers_start = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (start_line, start_problem) = parse_start_line(without_line_end(&bytes[..headers_start]))?;
        problem.0 = problem.0.or(start_problem);

        let mut lines = Lines::new(bytes, headers_start);
        let mut length = ContentLength::Absent;
        let (headers_end, body_start) = loop {
            match lines.step() {
                Step::Line(_) if self.spans.len() == HEADERS_MAX => {
                    problem.note(Malformed::TooManyHeaders);
                    break (lines.position(), lines.position());
                }
                Step::Line(line) => {
                    let raw_name = &bytes[line.start..line.name_end];
                    let name = if line.is_header { Name::from_bytes(raw_name) } else { Name::Other };
                    // A name that is known is a token.
                    if !line.is_header || name == Name::Other && !is_token(raw_name) {
                        problem.note(Malformed::HeaderLine);
                    }
                    if name == Name::ContentLength {
                        length.read(&bytes[line.value_start..line.value_end]);
                    }
                    self.names |= name.bit();
                    // Offsets fit: `bytes` was cut at MESSAGE_BYTES_MAX, which is the largest u16.
                    self.spans.push(HeaderSpan {
                        start: line.start as u16,
                        name_end: line.name_end as u16,
                        value_start: line.value_start as u16,
                        value_end: line.value_end as u16,
                        name,
                    });
                }
                Step::End { at, body } => break (at, body),
                Step::Unterminated => {
                    problem.note(Malformed::HeadersUnterminated);
                    break (bytes.len(), bytes.len());
                }
            }
        };
        let end = match length.of_body() {
            // RFC 3261 §18.3: without Content-Length the body of a datagram goes to its end; bytes behind it are dropped.
            Ok(None) => bytes.len(),
            Ok(Some(len)) if len <= bytes.len() - body_start => body_start + len,
            Ok(Some(_)) => {
                problem.note(Malformed::BodyShort);
                bytes.len()
            }
            Err(malformed) => {
                problem.note(malformed);
                bytes.len()
            }
        };
        self.bytes = &bytes[..end];
        self.start_line = start_line;
        self.headers_start = headers_start as u16;
        self.headers_end = headers_end as u16;
        self.body_start = body_start as u16;
        Ok(problem.0)
    }
}

/// The first problem of a message.
struct Problem(Option<Malformed>);

impl Problem {
    fn note(&mut self, malformed: Malformed) {
        self.0.get_or_insert(malformed);
    }
}

/// What the Content-Length lines that were read so far say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ContentLength {
    Absent,
    Bytes(u64),
    Wrong(Malformed),
}

impl ContentLength {
    pub(crate) fn read(&mut self, value: &[u8]) {
        *self = match (*self, decimal(value)) {
            (ContentLength::Wrong(malformed), _) => ContentLength::Wrong(malformed),
            (_, None) => ContentLength::Wrong(Malformed::ContentLength),
            // RFC 4475 §3.3.9: two lengths that differ cannot both be believed; equal ones do no harm.
            (ContentLength::Bytes(known), Some(number)) if known != number => {
                ContentLength::Wrong(Malformed::Repeated(Name::ContentLength))
            }
            (_, Some(number)) => ContentLength::Bytes(number),
        };
    }

    /// `None` if there was none.
    pub(crate) fn of_body(self) -> Result<Option<usize>, Malformed> {
        match self {
            ContentLength::Absent => Ok(None),
            ContentLength::Bytes(number) => Ok(Some(usize::try_from(number).unwrap_or(usize::MAX))),
            ContentLength::Wrong(malformed) => Err(malformed),
        }
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Reads a start line. The problem beside it is white space, or a method too long: readable, but not to be forwarded.
pub(crate) fn parse_start_line(line: &[u8]) -> Result<(StartLine<'_>, Option<Malformed>), Malformed> {
    if let Some(line) = plain_request_line(line) {
        return Ok((StartLine::Request(line), None));
    }
    match line.get(..4) {
        Some(start) if start.eq_ignore_ascii_case(b"SIP/") => status_line(line).map(|line| (line, None)),
        _ => request_line(line),
    }
}

/// A request line in the form that nearly all have; the general reader gives the same for it.
fn plain_request_line(line: &[u8]) -> Option<RequestLine<'_>> {
    let rest = line.strip_suffix(b" SIP/2.0")?;
    let space = rest.iter().position(|&byte| !is_token_byte(byte))?;
    let (method, uri) = (&rest[..space], rest.get(space + 1..)?);
    let is_plain = rest[space] == b' '
        && (1..=METHOD_BYTES_MAX).contains(&method.len())
        && !uri.is_empty()
        && memchr3(b' ', b'\t', b'\r', uri).is_none();
    is_plain.then(|| RequestLine { method: Method::from_bytes(method), uri, version_ok: true })
}

// RFC 3261 §7.2: version, one space, three digits, one space, any text. The last space is missing in some old stacks.
fn status_line(line: &[u8]) -> Result<StartLine<'_>, Malformed> {
    let space = memchr(b' ', line).ok_or(Malformed::StartLine)?;
    let (version, rest) = (&line[..space], &line[space + 1..]);
    let code_len = memchr(b' ', rest).unwrap_or(rest.len());
    let (code, reason) = rest.split_at(code_len);
    if !is_version(version) {
        return Err(Malformed::StartLine);
    }
    let status = match (code.len(), decimal(code)) {
        (3, Some(number @ 100..=699)) => Status(number as u16),
        _ => return Err(Malformed::StatusCode),
    };
    if memchr(b'\r', reason).is_some() {
        return Err(Malformed::StartLine);
    }
    let reason = reason.strip_prefix(b" ").unwrap_or(reason);
    Ok(StartLine::Response(StatusLine { status, reason, version_ok: is_version_two(version) }))
}

// RFC 3261 §7.1: method, URI and version with exactly one space between, and none elsewhere.
fn request_line(line: &[u8]) -> Result<(StartLine<'_>, Option<Malformed>), Malformed> {
    let method_len = line.iter().position(|&byte| !is_token_byte(byte)).ok_or(Malformed::StartLine)?;
    let (method, rest) = line.split_at(method_len);
    let trimmed = trim_end(rest);
    let last_space = trimmed.iter().rposition(|&byte| is_blank(byte)).ok_or(Malformed::StartLine)?;
    let version = &trimmed[last_space + 1..];
    if method.is_empty() || !is_blank(rest[0]) || !is_version(version) {
        return Err(Malformed::StartLine);
    }
    let between = trimmed.get(1..last_space).unwrap_or_default();
    let uri_start = between.iter().position(|&byte| !is_blank(byte)).unwrap_or(between.len());
    let uri_end = between.iter().rposition(|&byte| !is_blank(byte)).map_or(uri_start, |last| last + 1);
    let uri = &between[uri_start..uri_end];
    let has_single_spaces = trimmed.len() == rest.len()
        && uri.len() == between.len()
        && !uri.is_empty()
        && !uri.iter().any(|&byte| is_blank(byte) || byte == b'\r');
    let problem = if !has_single_spaces {
        Some(Malformed::StartLine)
    } else if method.len() > METHOD_BYTES_MAX {
        Some(Malformed::MethodTooLong)
    } else {
        None
    };
    let line = RequestLine { method: Method::from_bytes(method), uri, version_ok: is_version_two(version) };
    Ok((StartLine::Request(line), problem))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn is_version(bytes: &[u8]) -> bool {
    let Some((start, numbers)) = bytes.split_at_checked(4) else { return false };
    if !start.eq_ignore_ascii_case(b"SIP/") {
        return false;
    }
    let Some(dot) = memchr(b'.', numbers) else { return false };
    decimal(&numbers[..dot]).is_some() && decimal(&numbers[dot + 1..]).is_some()
}

// RFC 3261 §7.1: the version is compared without case.
fn is_version_two(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(b"SIP/2.0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> Option<Malformed> {
        Message::parse(bytes).err()
    }

    #[test]
    fn empty_lines_before_the_message_are_no_part_of_it() {
        let message = Message::parse(b"\r\n\n\r\nBYE sip:a SIP/2.0\r\n\r\n").unwrap();
        assert_eq!(message.bytes(), b"BYE sip:a SIP/2.0\r\n\r\n");
    }

    #[test]
    fn a_request_line_has_single_spaces() {
        for line in [
            "BYE  sip:a SIP/2.0",
            "BYE sip:a  SIP/2.0",
            "BYE sip:a SIP/2.0 ",
            "BYE sip:a;x y SIP/2.0",
            "BYE\tsip:a SIP/2.0 x",
        ] {
            let bytes = format!("{line}\r\n\r\n");
            assert_eq!(problem(bytes.as_bytes()), Some(Malformed::StartLine), "{line}");
        }
        let (message, problem) = Message::parse_lenient(b"BYE   sip:a; lr  SIP/2.0  \r\n\r\n").unwrap();
        assert_eq!((message.request_uri(), problem), (Some(&b"sip:a; lr"[..]), Some(Malformed::StartLine)));
        let (message, problem) = Message::parse_lenient(b"BYE SIP/2.0\r\n\r\n").unwrap();
        assert_eq!((message.request_uri(), problem), (Some(&b""[..]), Some(Malformed::StartLine)));
    }

    #[test]
    fn what_has_no_start_line_of_sip_cannot_be_answered() {
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"hello",
            b"GET / HTTP/1.1\r\n\r\n",
            b"BYE sip:a SIP/2\r\n\r\n",
            b" BYE sip:a SIP/2.0\r\n\r\n",
            b"SIP/2.0\r\n\r\n",
            b"SIP/2.0 99 x\r\n\r\n",
            b"SIP/2.0 700 x\r\n\r\n",
            b"SIP/2.0 0200 x\r\n\r\n",
            b"SIP/2.0 200 x\ry\r\n\r\n",
            b"\xff\xff",
        ] {
            assert!(matches!(Message::parse_lenient(bytes), Err(NotSip)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn versions_are_read_without_case() {
        let message = Message::parse(b"BYE sip:a sip/2.0\r\n\r\n").unwrap();
        assert!(matches!(message.start_line(), StartLine::Request(RequestLine { version_ok: true, .. })));
        let message = Message::parse(b"sIP/2.1 200\r\n\r\n").unwrap();
        assert_eq!(
            message.start_line(),
            StartLine::Response(StatusLine { status: Status::OK, reason: b"", version_ok: false })
        );
    }

    /// RFC 3261 §18.3: a datagram's body ends at Content-Length, without one at the datagram's end.
    #[test]
    fn a_body_ends_where_content_length_says() {
        let body = |headers: &str| {
            let bytes = format!("BYE sip:a SIP/2.0\r\n{headers}\r\nbody");
            Message::parse(bytes.as_bytes()).map(|message| message.body().len())
        };
        assert_eq!(body(""), Ok(4));
        assert_eq!(body("l:\r\n 3\r\n"), Ok(3));
        assert_eq!(body("Content-Length: 5\r\n"), Err(Malformed::BodyShort));
        assert_eq!(body("Content-Length: 99999999999999999999999\r\n"), Err(Malformed::BodyShort));
        assert_eq!(body("Content-Length: +3\r\n"), Err(Malformed::ContentLength));
        assert_eq!(body("Content-Length: 3\r\nl: 4\r\n"), Err(Malformed::Repeated(Name::ContentLength)));
    }

    #[test]
    fn what_is_too_much_is_refused_and_can_be_answered() {
        let many = [b"BYE sip:a SIP/2.0\r\nVia: x\r\n", &b"a:\r\n".repeat(HEADERS_MAX)[..], b"\r\n"].concat();
        let (message, problem) = Message::parse_lenient(&many).unwrap();
        assert_eq!((message.count(Name::Via), problem), (1, Some(Malformed::TooManyHeaders)));

        let mut large = b"BYE sip:a SIP/2.0\r\nVia: x\r\n\r\n".to_vec();
        large.resize(MESSAGE_BYTES_MAX, 0);
        assert!(Message::parse(&large).is_ok());
        large.push(0);
        let (message, problem) = Message::parse_lenient(&large).unwrap();
        assert_eq!((message.count(Name::Via), problem), (1, Some(Malformed::TooLarge)));
    }

    #[test]
    fn a_broken_line_does_not_hide_the_lines_behind_it() {
        let bytes = b"BYE sip:a SIP/2.0\r\n folded into nothing\r\nbroken\r\nVia: x\r\n\r\n";
        let (message, problem) = Message::parse_lenient(bytes).unwrap();
        assert_eq!((message.header(Name::Via), problem), (Some(&b"x"[..]), Some(Malformed::HeaderLine)));
        assert_eq!(message.headers().len(), 3);
    }

    #[test]
    fn a_name_that_is_no_token_is_a_broken_line() {
        for line in ["J\u{f6}rg: x", "na@me: x", "\"Via\": x", "a,b: x"] {
            for padding in ["", &" ".repeat(30)] {
                let bytes = format!("BYE sip:a SIP/2.0\r\n{line}{padding}\r\n\r\n");
                assert_eq!(problem(bytes.as_bytes()), Some(Malformed::HeaderLine), "{line}");
            }
        }
    }

    #[test]
    fn extension_headers_are_found_by_name_and_known_ones_in_both_forms() {
        let message = Message::parse(b"BYE sip:a SIP/2.0\r\nX-\x46oo: 1\r\nk: 2\r\n\r\n").unwrap();
        assert_eq!(message.header_by_name(b"x-foo"), Some(&b"1"[..]));
        assert_eq!(message.header_by_name(b"SUPPORTED"), Some(&b"2"[..]));
        assert_eq!(message.header_by_name(b"x-bar"), None);
    }
}

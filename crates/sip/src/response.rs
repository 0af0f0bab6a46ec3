//! Makes a response from its request (RFC 3261 §8.2.6).

use smallvec::SmallVec;

use crate::grammar::write_decimal;
use crate::write::{NewLines, end_line, write_line, write_value};
use crate::{Message, Name, NameAddr, Status};

/// A response to a request, also to a malformed one: what is there is copied. Values given to it are copied too,
/// but not the reason and the body.
#[derive(Debug)]
pub struct ResponseBuilder<'m, 'a> {
    request: &'m Message<'a>,
    status: Status,
    reason: &'m str,
    to_tag: SmallVec<[u8; 40]>,
    copied: SmallVec<[Name; 4]>,
    lines: NewLines,
    body: &'m [u8],
}

/// Lines of one name that are copied as lines. RFC 3261 §7.3.1: more of them share the last one, so that the response to a
/// request of the most lines has not more than a message may have.
const LINES_COPIED_MAX: usize = 128;

impl<'m, 'a> ResponseBuilder<'m, 'a> {
    /// Begins a response with the usual reason phrase, no To tag of ours, and no body.
    pub fn new(request: &'m Message<'a>, status: Status) -> Self {
        Self {
            request,
            status,
            reason: status.reason_phrase(),
            to_tag: SmallVec::new(),
            copied: SmallVec::new(),
            lines: NewLines::default(),
            body: b"",
        }
    }

    /// Another reason phrase.
    pub fn reason(&mut self, reason: &'m str) -> &mut Self {
        self.reason = reason;
        self
    }

    /// The tag that To gets if it has none.
    pub fn to_tag(&mut self, tag: &[u8]) -> &mut Self {
        self.to_tag = SmallVec::from_slice(tag);
        self
    }

    /// Adds a line.
    pub fn header(&mut self, name: Name, value: &[u8]) -> &mut Self {
        self.lines.add(name, value);
        self
    }

    /// Adds a line of an extension.
    pub fn header_named(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        self.lines.add_named(name, value);
        self
    }

    /// Copies all lines of that name from the request, in order: Record-Route.
    pub fn copy(&mut self, name: Name) -> &mut Self {
        self.copied.push(name);
        self
    }

    /// Adds a body with its type.
    pub fn body(&mut self, content_type: &[u8], body: &'m [u8]) -> &mut Self {
        self.lines.add(Name::ContentType, content_type);
        self.body = body;
        self
    }

    /// Appends the response to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SIP/2.0 ");
        write_decimal(u64::from(self.status.0), out);
        out.push(b' ');
        write_value(self.reason.as_bytes(), out);
        end_line(out);
        // RFC 3261 §8.2.6.2: Via (all, in order), From, To, Call-ID and CSeq are those of the request.
        self.copy_lines(Name::Via, out);
        self.copy_first(Name::From, out);
        self.write_to(out);
        self.copy_first(Name::CallId, out);
        self.copy_first(Name::CSeq, out);
        if self.status == Status::TRYING {
            // RFC 3261 §8.2.6.1: a 100 carries the Timestamp of its request.
            self.copy_first(Name::Timestamp, out);
        }
        for &name in &self.copied {
            self.copy_lines(name, out);
        }
        self.lines.write(out);
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(self.body.len() as u64, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body);
    }

    fn write_to(&self, out: &mut Vec<u8>) {
        let Some(value) = self.request.header(Name::To) else { return };
        out.extend_from_slice(b"To: ");
        write_value(value, out);
        let has_tag = NameAddr::parse(value).is_ok_and(|to| to.params.has(b"tag"));
        if !has_tag && !self.to_tag.is_empty() {
            out.extend_from_slice(b";tag=");
            write_value(&self.to_tag, out);
        }
        end_line(out);
    }

    fn copy_first(&self, name: Name, out: &mut Vec<u8>) {
        if let Some(value) = self.request.header(name) {
            write_line(name.canonical(), value, out);
        }
    }

    fn copy_lines(&self, name: Name, out: &mut Vec<u8>) {
        for (number, value) in self.request.lines(name).enumerate() {
            if number < LINES_COPIED_MAX {
                write_line(name.canonical(), value, out);
                continue;
            }
            out.truncate(out.len() - b"\r\n".len());
            out.extend_from_slice(b", ");
            write_value(value, out);
            end_line(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] =
        b"INVITE sip:b SIP/2.0\r\nv: SIP/2.0/UDP a, SIP/2.0/UDP\r\n b\r\nVia: SIP/2.0/UDP c\r\n\
        f: <sip:a>;tag=1\r\nt: <sip:b>\r\ni: x@y\r\nCSeq: 1  INVITE\r\nTimestamp: 54\r\n\
        Record-Route: <sip:p1>\r\nRecord-Route: <sip:p2>, <sip:p3>\r\nSubject: s\r\nl: 0\r\n\r\n";

    fn written(request: &[u8], status: Status, build: impl FnOnce(&mut ResponseBuilder<'_, '_>)) -> String {
        let (request, _) = Message::parse_lenient(request).unwrap();
        let mut builder = ResponseBuilder::new(&request, status);
        build(&mut builder);
        let mut out = Vec::new();
        builder.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_response_to_the_most_vias_is_a_message_with_all_of_them() {
        let vias = "Via: SIP/2.0/UDP a\r\n".repeat(crate::limits::HEADERS_MAX - 4);
        let request = format!(
            "BYE sip:b SIP/2.0\r\n{vias}From: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n"
        );
        let request = Message::parse(request.as_bytes()).unwrap();
        let mut out = Vec::new();
        let mut builder = ResponseBuilder::new(&request, Status::OK);
        builder.header(Name::Server, b"s");

        builder.write(&mut out);

        let response = Message::parse(&out).unwrap();
        assert_eq!(response.values(Name::Via).count(), crate::limits::HEADERS_MAX - 4);
        assert_eq!(response.validate(), Ok(()));
    }

    /// RFC 3261 §8.2.6.2: what a response copies, and in which order Vias stand.
    #[test]
    fn a_response_copies_what_names_its_request() {
        let response = written(INVITE, Status::RINGING, |builder| {
            builder
                .to_tag(b"2")
                .header(Name::Server, b"t")
                .header_named(b"X-A", b"1")
                .copy(Name::RecordRoute);
        });

        assert_eq!(
            response,
            "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP a, SIP/2.0/UDP b\r\nVia: SIP/2.0/UDP c\r\n\
             From: <sip:a>;tag=1\r\nTo: <sip:b>;tag=2\r\nCall-ID: x@y\r\nCSeq: 1  INVITE\r\n\
             Record-Route: <sip:p1>\r\nRecord-Route: <sip:p2>, <sip:p3>\r\nServer: t\r\nX-A: 1\r\n\
             Content-Length: 0\r\n\r\n"
        );
    }

    /// RFC 3261 §8.2.6.1: Timestamp goes into a 100 and into no other.
    #[test]
    fn only_a_100_carries_the_timestamp() {
        assert!(written(INVITE, Status::TRYING, |_| ()).contains("\r\nTimestamp: 54\r\n"));
        assert!(!written(INVITE, Status::OK, |_| ()).contains("Timestamp"));
    }

    #[test]
    fn a_to_tag_that_is_there_stays() {
        let request = b"BYE sip:b SIP/2.0\r\nTo: sip:b;Tag=9\r\n\r\n";
        let response = written(request, Status::OK, |builder| {
            builder.to_tag(b"2");
        });
        assert!(response.contains("To: sip:b;Tag=9\r\n"), "{response}");
    }

    #[test]
    fn a_malformed_request_is_answered_with_what_is_there() {
        let request = b"BYE sip:b  SIP/2.0\r\nVia: ;;\r\nTo: \"open\r\nnonsense";
        let response = written(request, Status::BAD_REQUEST, |builder| {
            builder.reason("Bad\r\nLine").to_tag(b"2");
        });
        let expected = "SIP/2.0 400 Bad Line\r\nVia: ;;\r\nTo: \"open;tag=2\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(response, expected);
    }

    #[test]
    fn a_body_brings_its_length_and_type() {
        let response = written(INVITE, Status::OK, |builder| {
            builder.body(b"text/plain", b"hello");
        });
        assert!(
            response.ends_with("Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"),
            "{response}"
        );
    }
}

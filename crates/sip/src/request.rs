//! Makes requests: from nothing, and the ACK and CANCEL that belong to an INVITE.

use crate::grammar::write_decimal;
use crate::write::{NewLines, end_line, write_line, write_value};
use crate::{Message, Method, Name};

/// Hops that a request of ours may take (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: &[u8] = b"70";

/// A new request. Header values are copied.
#[derive(Debug)]
pub struct RequestBuilder<'m> {
    method: Method<'m>,
    uri: &'m [u8],
    lines: NewLines,
    body: &'m [u8],
}

impl<'m> RequestBuilder<'m> {
    /// Begins a request that has a request line and Content-Length.
    pub fn new(method: Method<'m>, uri: &'m [u8]) -> Self {
        Self { method, uri, lines: NewLines::default(), body: b"" }
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

    /// Adds a body with its type.
    pub fn body(&mut self, content_type: &[u8], body: &'m [u8]) -> &mut Self {
        self.lines.add(Name::ContentType, content_type);
        self.body = body;
        self
    }

    /// Appends the request to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_request_line(self.method, self.uri, out);
        self.lines.write(out);
        out.extend_from_slice(b"Content-Length: ");
        write_decimal(self.body.len() as u64, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.body);
    }
}

/// Appends the ACK to a 300-699 response; `invite` is the INVITE as it was sent. Appends nothing if that is no
/// well-formed request.
// RFC 3261 §17.1.1.3: all but To is the INVITE's: Request-URI, top Via, From, Call-ID, CSeq's number and Route.
pub fn ack_for(invite: &Message<'_>, response: &Message<'_>, out: &mut Vec<u8>) {
    let to = response.header(Name::To).or_else(|| invite.header(Name::To));
    write_companion(Method::Ack, invite, to, None, out);
}

/// Appends the CANCEL of a request; `request` is the request as it was sent. Appends nothing if that is no
/// well-formed request.
// RFC 3261 §9.1: Request-URI, Call-ID, To, From, CSeq's number, top Via and Route are those of the request.
pub fn cancel_for(request: &Message<'_>, out: &mut Vec<u8>) {
    write_companion(Method::Cancel, request, request.header(Name::To), None, out);
}

/// The same with the value of a Reason line: `SIP;cause=200;text="Call completed elsewhere"` (RFC 3326).
pub fn cancel_with_reason(request: &Message<'_>, reason: &[u8], out: &mut Vec<u8>) {
    write_companion(Method::Cancel, request, request.header(Name::To), Some(reason), out);
}

fn write_companion(
    method: Method<'_>,
    request: &Message<'_>,
    to: Option<&[u8]>,
    reason: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    let (Some(uri), Some(via), Some(to)) = (request.request_uri(), request.values(Name::Via).next(), to)
    else {
        return;
    };
    let (Some(from), Ok(call_id), Ok(cseq)) = (request.header(Name::From), request.call_id(), request.cseq())
    else {
        return;
    };
    write_request_line(method, uri, out);
    write_line(Name::Via.canonical(), via, out);
    for route in request.lines(Name::Route) {
        write_line(Name::Route.canonical(), route, out);
    }
    write_line(Name::MaxForwards.canonical(), MAX_FORWARDS, out);
    write_line(Name::From.canonical(), from, out);
    write_line(Name::To.canonical(), to, out);
    write_line(Name::CallId.canonical(), call_id, out);
    out.extend_from_slice(b"CSeq: ");
    write_decimal(u64::from(cseq.number), out);
    out.push(b' ');
    out.extend_from_slice(method.as_bytes());
    end_line(out);
    if let Some(reason) = reason {
        write_line(Name::Reason.canonical(), reason, out);
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

fn write_request_line(method: Method<'_>, uri: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    write_value(uri, out);
    out.extend_from_slice(b" SIP/2.0\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &[u8] = b"INVITE sip:b@h;x SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\n\
        Via: SIP/2.0/UDP a;branch=z9hG4bKa\r\nRoute: <sip:r1;lr>\r\nRoute: <sip:r2;lr>\r\nMax-Forwards: 12\r\n\
        From: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: x@y\r\nCSeq: 0007 INVITE\r\nSubject: s\r\n\
        Content-Length: 0\r\n\r\n";

    /// RFC 3261 §17.1.1.3: To is that of the response, with its tag; one Via; Route as in the INVITE.
    #[test]
    fn an_ack_is_the_invites_but_for_to() {
        let invite = Message::parse(INVITE).unwrap();
        let response = Message::parse(b"SIP/2.0 486 Busy Here\r\nTo: <sip:b>;tag=9\r\n\r\n").unwrap();
        let mut out = Vec::new();

        ack_for(&invite, &response, &mut out);

        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ACK sip:b@h;x SIP/2.0\r\nVia: SIP/2.0/UDP p;branch=z9hG4bKp\r\nRoute: <sip:r1;lr>\r\n\
             Route: <sip:r2;lr>\r\nMax-Forwards: 70\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>;tag=9\r\n\
             Call-ID: x@y\r\nCSeq: 7 ACK\r\nContent-Length: 0\r\n\r\n"
        );
    }

    /// RFC 3261 §9.1: To is that of the request, without a tag.
    #[test]
    fn a_cancel_is_the_requests_with_another_method() {
        let invite = Message::parse(INVITE).unwrap();
        let (mut plain, mut reasoned) = (Vec::new(), Vec::new());

        cancel_for(&invite, &mut plain);
        cancel_with_reason(&invite, b"SIP;cause=200", &mut reasoned);

        let cancel = Message::parse(&plain).unwrap();
        cancel.validate().unwrap();
        assert_eq!(cancel.method(), Some(Method::Cancel));
        assert_eq!(cancel.request_uri(), invite.request_uri());
        assert_eq!(cancel.count(Name::Via), 1);
        assert_eq!(cancel.header(Name::Via), invite.header(Name::Via));
        assert_eq!(cancel.to_tag(), None);
        assert_eq!(cancel.cseq().unwrap().number, 7);
        assert_eq!(cancel.routes().count(), 2);
        assert_eq!(Message::parse(&reasoned).unwrap().header(Name::Reason), Some(&b"SIP;cause=200"[..]));
    }

    #[test]
    fn nothing_is_made_from_what_is_no_request() {
        let response = Message::parse(b"SIP/2.0 200 OK\r\nTo: x\r\n\r\n").unwrap();
        let mut out = Vec::new();

        ack_for(&response, &response, &mut out);
        cancel_for(&response, &mut out);

        assert!(out.is_empty());
    }

    #[test]
    fn a_built_request_can_be_read() {
        let mut out = Vec::new();
        RequestBuilder::new(Method::Message, b"sip:b")
            .header(Name::Via, b"SIP/2.0/UDP a;branch=z9hG4bK1")
            .header_named(b"X-A", b"1\r\n2")
            .body(b"text/plain", b"hi")
            .write(&mut out);

        let message = Message::parse(&out).unwrap();
        assert_eq!(message.header_by_name(b"x-a"), Some(&b"1 2"[..]));
        assert_eq!(
            (message.header(Name::ContentType), message.body()),
            (Some(&b"text/plain"[..]), &b"hi"[..])
        );
    }
}

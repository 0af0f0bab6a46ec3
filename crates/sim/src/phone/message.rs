//! The requests and responses that a phone writes.

use std::fmt::Write as _;

use sip::{Message, Name};

/// A header that no server knows: it must arrive byte for byte, spaces, case and order of parameters kept.
pub(crate) const ODD_HEADER: &str = "x-ODD:  a ,b;C=\"\\\"\";  \u{e9} =d";

/// A request that a phone sends, perhaps again with credentials.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// INVITE, REGISTER, ...
    pub(crate) method: &'static str,
    /// The Request-URI.
    pub(crate) uri: String,
    /// The values of Route.
    pub(crate) routes: Vec<String>,
    /// The whole value of From.
    pub(crate) from: String,
    /// The whole value of To.
    pub(crate) to: String,
    /// Call-ID.
    pub(crate) call_id: String,
    /// The number of CSeq.
    pub(crate) cseq: u32,
    /// More header lines, each with its line end.
    pub(crate) lines: String,
    /// The credentials' line, if there are any.
    pub(crate) credentials: String,
    /// An SDP body, or nothing.
    pub(crate) body: String,
}

impl Outgoing {
    /// The bytes, with this top Via.
    pub(crate) fn render(&self, via: &str) -> Vec<u8> {
        let mut text = format!("{} {} SIP/2.0\r\nVia: {via}\r\n", self.method, self.uri);
        for route in &self.routes {
            // Writing to a string can not fail.
            let _ = write!(text, "Route: {route}\r\n");
        }
        let _ = write!(
            text,
            "Max-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\n{}{}",
            self.from, self.to, self.call_id, self.cseq, self.method, self.lines, self.credentials,
        );
        if !self.body.is_empty() {
            text += "Content-Type: application/sdp\r\n";
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        text.into_bytes()
    }
}

/// A response to `request`.
// RFC 3261 §8.2.6: what a response copies from its request; RFC 3261 §12.1.1: and Record-Route where a dialog begins.
pub(crate) fn answer(request: &Message<'_>, status: u16, to_tag: &str, lines: &str, body: &str) -> Vec<u8> {
    let reason = sip::Status(status).reason_phrase();
    let mut bytes = format!("SIP/2.0 {status} {reason}\r\n").into_bytes();
    for header in request.headers() {
        if matches!(
            header.name,
            Name::Via | Name::From | Name::To | Name::CallId | Name::CSeq | Name::RecordRoute
        ) {
            bytes.extend_from_slice(header.name.canonical());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(header.value);
            if header.name == Name::To && request.to_tag().is_none() && !to_tag.is_empty() {
                bytes.extend_from_slice(b";tag=");
                bytes.extend_from_slice(to_tag.as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(lines.as_bytes());
    if !body.is_empty() {
        bytes.extend_from_slice(b"Content-Type: application/sdp\r\n");
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    bytes
}

/// The CANCEL of an INVITE that was sent with `via`.
// RFC 3261 §9.1: the same Request-URI, Call-ID, To, From, Route and top Via.
pub(crate) fn cancel(invite: &Outgoing, via: &str) -> Vec<u8> {
    let cancel = Outgoing {
        method: "CANCEL",
        lines: String::new(),
        credentials: String::new(),
        body: String::new(),
        ..invite.clone()
    };
    cancel.render(via)
}

/// An SDP body from this address.
pub(crate) fn session(address: std::net::IpAddr) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 8\r\n"
    )
}

/// The value of a header as text.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

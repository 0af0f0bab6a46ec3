//! What can be wrong with a peer's bytes, and what to answer.

use crate::{Name, Status};

/// What is wrong with a message or with one of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The start line is neither a request line nor a status line, or has white space where none belongs.
    StartLine,
    /// The version is not SIP/2.0.
    Version,
    /// The status code is not 100 to 699.
    StatusCode,
    /// The method is longer than [`crate::limits::METHOD_BYTES_MAX`].
    MethodTooLong,
    /// The message is larger than [`crate::limits::MESSAGE_BYTES_MAX`].
    TooLarge,
    /// There are more header lines than [`crate::limits::HEADERS_MAX`].
    TooManyHeaders,
    /// A line of the header section has no name and colon, or has a carriage return inside.
    HeaderLine,
    /// The empty line that ends the header section is missing.
    HeadersUnterminated,
    /// Content-Length is no number.
    ContentLength,
    /// The body is shorter than Content-Length says.
    BodyShort,
    /// A header that every message needs is missing.
    Missing(Name),
    /// A header that may stand once stands there with different values.
    Repeated(Name),
    /// A header's value does not follow its grammar.
    Header(Name),
    /// A header's value is longer than its limit.
    TooLong(Name),
    /// The method of CSeq is not that of the request.
    CSeqMethod,
    /// The top Via's branch is the magic cookie and nothing more.
    Branch,
    /// The Request-URI does not follow its grammar, or has what may not stand there.
    RequestUri,
    /// A URI does not follow its grammar.
    Uri,
    /// A host is neither a name, nor an IPv4 address, nor an IPv6 reference.
    Host,
    /// A `name-addr` or `addr-spec` does not follow its grammar.
    NameAddr,
    /// A Via value does not follow its grammar.
    Via,
    /// Credentials do not follow their grammar, or name a parameter twice.
    Credentials,
}

impl Malformed {
    /// The status to answer a request with.
    pub fn status(&self) -> Status {
        match self {
            Malformed::Version => Status::VERSION_NOT_SUPPORTED,
            Malformed::TooLarge | Malformed::TooManyHeaders => Status::MESSAGE_TOO_LARGE,
            _ => Status::BAD_REQUEST,
        }
    }

    /// The reason phrase to answer with: short, and it names the fault.
    // RFC 3261 §21.4.1: the reason phrase should identify the syntax problem in more detail.
    pub fn reason(&self) -> &'static str {
        match self {
            Malformed::StartLine => "Bad Request Line",
            Malformed::Version => "Version Not Supported",
            Malformed::StatusCode => "Bad Status Code",
            Malformed::MethodTooLong => "Method Too Long",
            Malformed::TooLarge => "Message Too Large",
            Malformed::TooManyHeaders => "Too Many Header Fields",
            Malformed::HeaderLine => "Bad Header Line",
            Malformed::HeadersUnterminated => "Unterminated Header Fields",
            Malformed::ContentLength => "Bad Content-Length",
            Malformed::BodyShort => "Body Shorter Than Content-Length",
            Malformed::CSeqMethod => "CSeq Method Mismatch",
            Malformed::Branch => "Empty Via Branch",
            Malformed::RequestUri => "Bad Request-URI",
            Malformed::Uri => "Bad URI",
            Malformed::Host => "Bad Host",
            Malformed::NameAddr => "Bad Address",
            Malformed::Via => "Bad Via",
            Malformed::Credentials => "Bad Credentials",
            Malformed::Missing(name) => match name {
                Name::Via => "Missing Via",
                Name::From => "Missing From",
                Name::To => "Missing To",
                Name::CallId => "Missing Call-ID",
                Name::CSeq => "Missing CSeq",
                Name::ContentLength => "Missing Content-Length",
                _ => "Missing Header Field",
            },
            Malformed::Repeated(name) => match name {
                Name::From => "Repeated From",
                Name::To => "Repeated To",
                Name::CallId => "Repeated Call-ID",
                Name::CSeq => "Repeated CSeq",
                Name::MaxForwards => "Repeated Max-Forwards",
                Name::ContentLength => "Repeated Content-Length",
                Name::ContentType => "Repeated Content-Type",
                _ => "Repeated Header Field",
            },
            Malformed::Header(name) => match name {
                Name::Via => "Bad Via",
                Name::From => "Bad From",
                Name::To => "Bad To",
                Name::CallId => "Bad Call-ID",
                Name::CSeq => "Bad CSeq",
                Name::Contact => "Bad Contact",
                Name::MaxForwards => "Bad Max-Forwards",
                Name::Route => "Bad Route",
                Name::RecordRoute => "Bad Record-Route",
                Name::Path => "Bad Path",
                _ => "Bad Header Field",
            },
            Malformed::TooLong(name) => match name {
                Name::Via => "Via Branch Too Long",
                Name::From => "From Tag Too Long",
                Name::To => "To Tag Too Long",
                Name::CallId => "Call-ID Too Long",
                _ => "Header Field Too Long",
            },
        }
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Malformed {}

/// The bytes have no start line of SIP: nothing can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSip;

impl std::fmt::Display for NotSip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no SIP start line")
    }
}

impl std::error::Error for NotSip {}

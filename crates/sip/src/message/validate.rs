//! What every message must have (RFC 3261 §8.1.1, RFC 3261 §16.3).

use super::{Message, StartLine};
use crate::limits::{BRANCH_BYTES_MAX, CALL_ID_BYTES_MAX, TAG_BYTES_MAX};
use crate::{Malformed, Method, Name, Uri};

/// Headers that stand once; a second line must say the same.
const SINGLE: [Name; 6] =
    [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards, Name::ContentType];

impl Message<'_> {
    /// Whether all that RFC 3261 asks of every message is there, once, and well formed. Headers that a proxy or
    /// registrar does not read may be anything; so may Contact, but in a REGISTER.
    ///
    /// A From without a tag and a message without Max-Forwards pass: RFC 2543 has neither.
    pub fn validate(&self) -> Result<(), Malformed> {
        self.validate_start_line()?;
        self.validate_counts()?;
        let via = self.top_via()?;
        if via.has_empty_branch() {
            // RFC 4475 §3.2.1: the cookie without an identifier names no transaction.
            return Err(Malformed::Branch);
        }
        limited(via.branch(), BRANCH_BYTES_MAX, Name::Via)?;
        limited(self.from()?.tag(), TAG_BYTES_MAX, Name::From)?;
        limited(self.to()?.tag(), TAG_BYTES_MAX, Name::To)?;
        limited(Some(self.call_id()?), CALL_ID_BYTES_MAX, Name::CallId)?;
        let cseq = self.cseq()?;
        if self.method().is_some_and(|method| method != cseq.method) {
            // RFC 3261 §8.1.1.5: the method of CSeq is that of the request.
            return Err(Malformed::CSeqMethod);
        }
        self.max_forwards()?;
        if self.method() == Some(Method::Register) {
            self.contacts()?;
        }
        Ok(())
    }

    fn validate_start_line(&self) -> Result<(), Malformed> {
        match self.start_line {
            StartLine::Request(line) if !line.version_ok => Err(Malformed::Version),
            StartLine::Request(line) => validate_request_uri(line.uri),
            StartLine::Response(line) if !line.version_ok => Err(Malformed::Version),
            StartLine::Response(_) => Ok(()),
        }
    }

    /// One pass over the names, so that many lines cost no more than their number.
    fn validate_counts(&self) -> Result<(), Malformed> {
        let mut seen = 0u128;
        let mut repeated = 0u128;
        for span in &self.spans {
            repeated |= seen & span.name.bit();
            seen |= span.name.bit();
        }
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            if seen & name.bit() == 0 {
                return Err(Malformed::Missing(name));
            }
        }
        // RFC 4475 §3.3.8: a header that stands once but comes with different values is refused.
        for name in SINGLE {
            if repeated & name.bit() != 0 {
                let first = self.header(name);
                if self.lines(name).any(|value| Some(value) != first) {
                    return Err(Malformed::Repeated(name));
                }
            }
        }
        Ok(())
    }
}

// RFC 3261 §19.1.1: headers may not stand in a Request-URI; what is not `sip` or `sips` is the proxy's to refuse.
fn validate_request_uri(uri: &[u8]) -> Result<(), Malformed> {
    match Uri::parse(uri) {
        Ok(Uri::Sip(uri)) if uri.headers.is_some() => Err(Malformed::RequestUri),
        Ok(_) => Ok(()),
        Err(_) => Err(Malformed::RequestUri),
    }
}

fn limited(value: Option<&[u8]>, max: usize, name: Name) -> Result<(), Malformed> {
    match value {
        Some(value) if value.len() > max => Err(Malformed::TooLong(name)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "OPTIONS sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\n\
        To: <sip:b>\r\nCall-ID: x@y\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\r\n";

    fn validated(from: &str, to: &str) -> Result<(), Malformed> {
        assert_eq!(OPTIONS.matches(from).count(), 1, "{from}");
        Message::parse(OPTIONS.replacen(from, to, 1).as_bytes())?.validate()
    }

    /// RFC 3261 §8.1.1: the five headers without which no message can be matched; Max-Forwards came with RFC 3261.
    #[test]
    fn what_every_message_needs_must_be_there() {
        for (line, name) in [
            ("Via: SIP/2.0/UDP a;branch=z9hG4bK1\r\n", Name::Via),
            ("From: <sip:a>;tag=1\r\n", Name::From),
            ("To: <sip:b>\r\n", Name::To),
            ("Call-ID: x@y\r\n", Name::CallId),
            ("CSeq: 1 OPTIONS\r\n", Name::CSeq),
        ] {
            assert_eq!(validated(line, ""), Err(Malformed::Missing(name)));
        }
        assert_eq!(validated("Max-Forwards: 70\r\n", ""), Ok(()));
        assert_eq!(validated(";tag=1", ""), Ok(()));
    }

    /// RFC 4475 §3.3.8: the same value twice does no harm, two different ones do.
    #[test]
    fn a_single_header_may_be_repeated_only_with_its_value() {
        assert_eq!(validated("To: <sip:b>\r\n", "To: <sip:b>\r\nt: <sip:b>\r\n"), Ok(()));
        let repeated = Err(Malformed::Repeated(Name::To));
        assert_eq!(validated("To: <sip:b>\r\n", "To: <sip:b>\r\nt: <sip:c>\r\n"), repeated);
        let lengths = validated("\r\n\r\n", "\r\nl: 0\r\nContent-Length: 00\r\n\r\n");
        assert_eq!(lengths, Ok(()));
    }

    #[test]
    fn each_malformed_value_is_named() {
        for (from, to, problem) in [
            ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia", Malformed::Version),
            ("sip:b@h", "sip:b@h?Route=x", Malformed::RequestUri),
            ("sip:b@h", "b", Malformed::RequestUri),
            ("/UDP a", "/UDP", Malformed::Via),
            ("z9hG4bK1", "z9hG4bK", Malformed::Branch),
            ("<sip:a>", "<sip:a", Malformed::Header(Name::From)),
            ("To: <sip:b>", "To:", Malformed::Header(Name::To)),
            ("x@y", "x y", Malformed::Header(Name::CallId)),
            ("x@y", "", Malformed::Header(Name::CallId)),
            ("1 OPTIONS", "1 INVITE", Malformed::CSeqMethod),
            ("1 OPTIONS", "x OPTIONS", Malformed::Header(Name::CSeq)),
            (": 70", ": -1", Malformed::Header(Name::MaxForwards)),
            ("Max-Forwards: 70", "no header", Malformed::HeaderLine),
            ("OPTIONS sip", "OPTIONS  sip", Malformed::StartLine),
            ("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia", Malformed::StartLine),
        ] {
            assert_eq!(validated(from, to), Err(problem), "{to}");
        }
    }

    #[test]
    fn what_others_keep_is_limited() {
        let long = "x".repeat(CALL_ID_BYTES_MAX + 1);
        assert_eq!(validated("x@y", &long), Err(Malformed::TooLong(Name::CallId)));
        assert_eq!(validated("x@y", &long[1..]), Ok(()));
        assert_eq!(validated("tag=1", &format!("tag={long}")), Err(Malformed::TooLong(Name::From)));
        assert_eq!(validated("z9hG4bK1", &format!("z9hG4bK{long}")), Err(Malformed::TooLong(Name::Via)));
        assert_eq!(validated("OPTIONS sip", &format!("{long} sip")), Err(Malformed::MethodTooLong));
    }

    #[test]
    fn contact_is_read_only_in_a_register() {
        let bad = "Max-Forwards: 70\r\nContact: *, <sip:a>";
        assert_eq!(validated("Max-Forwards: 70", bad), Ok(()));
        let register = OPTIONS.replace("OPTIONS", "REGISTER").replace("Max-Forwards: 70", bad);
        let message = Message::parse(register.as_bytes()).unwrap();
        assert_eq!(message.validate(), Err(Malformed::Header(Name::Contact)));
    }

    #[test]
    fn a_request_of_another_scheme_is_well_formed() {
        assert_eq!(validated("sip:b@h", "tel:+1-201-555-0123"), Ok(()));
        assert_eq!(validated("sip:b@h", "urn:service:sos"), Ok(()));
    }
}

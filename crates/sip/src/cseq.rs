//! CSeq (RFC 3261 §20.16).

use crate::grammar::{decimal, is_lws, is_token, trim};
use crate::{Malformed, Method, Name};

/// The number of a request in its dialog, and its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// The number.
    pub number: u32,
    /// The method.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Reads the value; a number beyond 32 bits is refused.
    // RFC 4475 §3.1.2.4: a sequence number out of range cannot be answered with the same number, so 400.
    pub fn parse(value: &'a [u8]) -> Result<CSeq<'a>, Malformed> {
        let value = trim(value);
        let digits = value.iter().position(|&byte| is_lws(byte)).unwrap_or(value.len());
        let number = decimal(&value[..digits]).and_then(|number| u32::try_from(number).ok());
        let method = trim(&value[digits..]);
        match number {
            Some(number) if is_token(method) => Ok(Self { number, method: Method::from_bytes(method) }),
            _ => Err(Malformed::Header(Name::CSeq)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_before_and_a_fold_between_are_read_over() {
        assert_eq!(CSeq::parse(b"0009\r\n  INVITE"), Ok(CSeq { number: 9, method: Method::Invite }));
        assert_eq!(CSeq::parse(b"4294967295 X"), Ok(CSeq { number: u32::MAX, method: Method::Other(b"X") }));
    }

    #[test]
    fn what_is_no_cseq_is_refused() {
        for value in [
            &b""[..],
            b"1",
            b"INVITE",
            b"INVITE 1",
            b"-1 INVITE",
            b"4294967296 INVITE",
            b"1 INVITE x",
            b"1INVITE",
        ] {
            assert!(CSeq::parse(value).is_err(), "{}", value.escape_ascii());
        }
    }
}

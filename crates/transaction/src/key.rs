//! By what a message finds its transaction.
//!
//! A key is a keyed hash of 128 bits over what RFC 3261 §17.1.3 and RFC 3261 §17.2.3 compare. A peer chooses
//! all of that, but not the hash: it can not aim at another's transaction or at one bucket of the
//! table.

use keys::Key;
use sip::{Host, Malformed, Message, Method, Via};

/// Finds a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey(u128);

/// Finds a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(u128);

impl ServerKey {
    /// The transaction that `request` belongs to; that of an ACK is its INVITE's.
    ///
    /// # Errors
    ///
    /// What is compared (RFC 3261 §17.2.3) is missing or can not be read.
    pub fn of(key: &Key, request: &Message<'_>) -> Result<Self, Malformed> {
        match request.method().ok_or(Malformed::StartLine)? {
            Method::Invite | Method::Ack => Self::with_method(key, request, Method::Invite),
            method => Self::with_method(key, request, method),
        }
    }

    /// RFC 3261 §9.2: the INVITE transaction that `cancel` names.
    ///
    /// # Errors
    ///
    /// As [`ServerKey::of`].
    pub fn of_cancelled(key: &Key, cancel: &Message<'_>) -> Result<Self, Malformed> {
        Self::with_method(key, cancel, Method::Invite)
    }

    /// The key as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The key that was this number, here or on another node with the same secret.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }

    fn with_method(key: &Key, request: &Message<'_>, method: Method<'_>) -> Result<Self, Malformed> {
        let via = request.top_via()?;
        let call_id = request.call_id()?;
        let sent_by = SentBy::of(&via);
        let [host, host_rest, port] = sent_by.parts();
        match via.branch() {
            // RFC 3261 §17.2.3: branch, sent-by and method. The Call-ID is added: it is the same in all that
            // belongs to one transaction, and keeps apart clients that repeat their branches.
            Some(branch) if via.has_magic_cookie() => {
                let parts: &[&[u8]] = &[b"3261", branch, host, host_rest, port, method.as_bytes(), call_id];
                Ok(Self(key.mac(parts).as_u128()))
            }
            // RFC 3261 §17.2.3: a client of RFC 2543 need not make its branch unique.
            branch => {
                let cseq = request.cseq()?.number.to_be_bytes();
                // The To tag of the ACK is that of our response, which the INVITE could not know. An ACK to a 2xx
                // that is found by this key meets a transaction in Accepted, and passes.
                let to_tag = if method == Method::Invite { None } else { request.to_tag() };
                let parts: &[&[u8]] = &[
                    b"2543",
                    branch.unwrap_or_default(),
                    host,
                    host_rest,
                    port,
                    method.as_bytes(),
                    call_id,
                    &cseq,
                    request.from_tag().unwrap_or_default(),
                    to_tag.unwrap_or_default(),
                    request.request_uri().unwrap_or_default(),
                ];
                Ok(Self(key.mac(parts).as_u128()))
            }
        }
    }
}

impl ClientKey {
    /// RFC 3261 §17.1.3: the transaction of a request that was sent with this branch. A CANCEL shares
    /// its INVITE's branch, and has its own method.
    pub fn of(key: &Key, branch: &[u8], method: Method<'_>) -> Self {
        Self(key.mac(&[b"client", branch, method.as_bytes()]).as_u128())
    }

    /// The transaction that `response` belongs to.
    ///
    /// # Errors
    ///
    /// The top Via, its branch or CSeq is missing or can not be read.
    pub fn of_response(key: &Key, response: &Message<'_>) -> Result<Self, Malformed> {
        let via = response.top_via()?;
        let branch = via.branch().ok_or(Malformed::Branch)?;
        Ok(Self::of(key, branch, response.cseq()?.method))
    }

    /// The key as a number.
    pub const fn as_u128(self) -> u128 {
        self.0
    }

    /// The key that was this number, here or on another node with the same secret.
    pub const fn from_u128(number: u128) -> Self {
        Self(number)
    }
}

/// A host name of DNS has at most 255 bytes; of a longer one only the beginning ignores case.
const HOST_BYTES_FOLDED_MAX: usize = 255;

/// The sent-by of a Via in the form in which two of them are equal.
struct SentBy<'a> {
    folded: [u8; HOST_BYTES_FOLDED_MAX],
    length: usize,
    rest: &'a [u8],
    port: [u8; 3],
}

impl<'a> SentBy<'a> {
    fn of(via: &Via<'a>) -> Self {
        let mut sent_by = Self { folded: [0; HOST_BYTES_FOLDED_MAX], length: 0, rest: &[], port: [0; 3] };
        match &via.host {
            Host::Name(name) => {
                let (start, rest) = name.split_at(name.len().min(HOST_BYTES_FOLDED_MAX));
                sent_by.fill(start);
                sent_by.folded.make_ascii_lowercase();
                sent_by.rest = rest;
            }
            Host::V4(address) => sent_by.fill(&address.octets()),
            Host::V6(address) => sent_by.fill(&address.octets()),
        }
        // RFC 3261 §20.42: an absent port is not compared with the default one, both sides repeat what they wrote.
        if let Some(port) = via.port {
            let [high, low] = port.to_be_bytes();
            sent_by.port = [1, high, low];
        }
        sent_by
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.length = bytes.len();
        self.folded[..bytes.len()].copy_from_slice(bytes);
    }

    fn parts(&self) -> [&[u8]; 3] {
        [&self.folded[..self.length], self.rest, &self.port]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::secret;

    const INVITE: &str = "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKx1\r\n\
        From: <sip:alice@a>;tag=1\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 4 INVITE\r\n\r\n";

    /// RFC 3261 §17.2.3: the method of an ACK counts as INVITE.
    #[test]
    fn the_ack_to_a_300_699_finds_its_invite() {
        let ack = with_method(INVITE, "ACK").replace("To: <sip:bob@b>", "To: <sip:bob@b>;tag=9");

        assert_eq!(server(&ack), server(INVITE));
    }

    /// RFC 3261 §9.2: a CANCEL has a transaction of its own, and names the INVITE's.
    #[test]
    fn a_cancel_is_its_own_transaction_and_names_the_invite() {
        let cancel = with_method(INVITE, "CANCEL");

        assert_ne!(server(&cancel), server(INVITE));
        assert_eq!(cancelled(&cancel), server(INVITE));
    }

    /// RFC 3261 §17.2.3: branch, sent-by and method.
    #[test]
    fn another_branch_sent_by_or_method_is_another_transaction() {
        for (old, new) in [
            ("z9hG4bKx1", "z9hG4bKx2"),
            ("192.0.2.1:5070", "192.0.2.1:5071"),
            ("192.0.2.1:5070", "192.0.2.1"),
            ("192.0.2.1:5070", "192.0.2.2:5070"),
            // These differ in the bit by which lower-case letters differ from upper-case ones.
            ("192.0.2.1:5070", "192.0.2.33:5070"),
            ("192.0.2.1:5070", "phone.example:5070"),
            ("192.0.2.1:5070", "[2001:db8::1]:5070"),
            ("Call-ID: c", "Call-ID: C"),
        ] {
            assert_ne!(server(&INVITE.replace(old, new)), server(INVITE), "{new}");
        }
        let first = INVITE.replace("192.0.2.1", "65.0.2.1");
        assert_ne!(server(&first), server(&first.replace("65.0.2.1", "97.0.2.1")), "octets are no letters");
        assert_ne!(server(&with_method(INVITE, "UPDATE")), server(&with_method(INVITE, "PRACK")));
    }

    /// RFC 3261 §20.42: host names have no case, IPv6 addresses many forms.
    #[test]
    fn the_same_sent_by_written_differently_is_the_same_transaction() {
        let named = |host: &str| server(&INVITE.replace("192.0.2.1:5070", host));

        assert_eq!(named("Phone.Example:5070"), named("pHONE.eXAMPLE:5070"));
        assert_eq!(named("[2001:DB8:0::1]:5070"), named("[2001:db8::1]:5070"));
        let long = "a".repeat(400);
        assert_ne!(named(&long), named(&long[..399]));
    }

    /// The marks that a server adds to the top Via are no part of the key.
    #[test]
    fn a_stamped_request_has_the_key_that_it_had_before() {
        for request in [INVITE.to_owned(), without_cookie(INVITE)] {
            let stamped = request.replace(";branch", ";received=198.51.100.1;rport=9;branch");

            assert_eq!(server(&stamped), server(&request));
        }
    }

    /// RFC 3261 §17.2.3: without the cookie the branch alone says nothing.
    #[test]
    fn a_client_of_rfc_2543_is_told_by_tags_call_id_cseq_and_uri() {
        let invite = without_cookie(INVITE);
        for (old, new) in [
            ("sip:bob@b SIP", "sip:carol@b SIP"),
            ("tag=1", "tag=2"),
            ("CSeq: 4", "CSeq: 5"),
            ("Call-ID: c", "Call-ID: d"),
            ("192.0.2.1", "192.0.2.2"),
            ("branch=x1", "branch=x2"),
        ] {
            assert_ne!(server(&invite.replace(old, new)), server(&invite), "{new}");
        }
        assert_eq!(server(&invite), server(&invite.clone()));
        assert_ne!(server(&invite), server(INVITE));
    }

    /// RFC 3261 §17.2.3: the ACK carries the To tag of the response, the CANCEL that of the INVITE.
    #[test]
    fn ack_and_cancel_of_a_client_of_rfc_2543_find_the_invite() {
        let no_branch = INVITE.replace(";branch=z9hG4bKx1", "");
        for invite in [without_cookie(INVITE), no_branch] {
            let ack = with_method(&invite, "ACK").replace("To: <sip:bob@b>", "To: <sip:bob@b>;tag=9");
            let cancel = with_method(&invite, "CANCEL");

            assert_eq!(server(&ack), server(&invite));
            assert_eq!(cancelled(&cancel), server(&invite));
            assert_ne!(server(&cancel), server(&invite));
        }
    }

    /// RFC 3261 §17.2.3: within a dialog the To tag tells requests apart that are alike otherwise.
    #[test]
    fn the_to_tag_counts_for_other_requests_of_rfc_2543() {
        let bye = with_method(&without_cookie(INVITE), "BYE");

        assert_ne!(server(&bye.replace("To: <sip:bob@b>", "To: <sip:bob@b>;tag=9")), server(&bye));
    }

    /// RFC 3261 §17.1.3: branch of the top Via and method of CSeq.
    #[test]
    fn a_response_finds_the_request_with_its_branch_and_method() {
        let response = INVITE.replace("INVITE sip:bob@b SIP/2.0", "SIP/2.0 200 OK");
        let of_response =
            |text: &str| ClientKey::of_response(&secret(), &Message::parse(text.as_bytes()).unwrap());

        assert_eq!(of_response(&response), Ok(ClientKey::of(&secret(), b"z9hG4bKx1", Method::Invite)));
        let to_cancel = response.replace("4 INVITE", "4 CANCEL");
        assert_eq!(of_response(&to_cancel), Ok(ClientKey::of(&secret(), b"z9hG4bKx1", Method::Cancel)));
        assert_ne!(of_response(&to_cancel), of_response(&response));
        assert_eq!(of_response(&response.replace(";branch=z9hG4bKx1", "")), Err(Malformed::Branch));
    }

    #[test]
    fn what_can_not_be_compared_is_malformed() {
        for line in ["Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKx1\r\n", "Call-ID: c\r\n"] {
            let request = INVITE.replace(line, "");
            let message = Message::parse(request.as_bytes()).unwrap();

            assert!(ServerKey::of(&secret(), &message).is_err(), "without {line}");
            assert!(ServerKey::of_cancelled(&secret(), &message).is_err(), "without {line}");
        }
        let response = Message::parse(b"SIP/2.0 200 OK\r\n\r\n").unwrap();
        assert!(ServerKey::of(&secret(), &response).is_err(), "a response has no server transaction");
        assert!(ClientKey::of_response(&secret(), &response).is_err());
    }

    #[test]
    fn a_stranger_without_the_secret_can_not_foresee_a_key() {
        let other = keys::RootKey::new([8; 32]).subkey("transaction", 0);
        let message = Message::parse(INVITE.as_bytes()).unwrap();

        assert_ne!(ServerKey::of(&other, &message), ServerKey::of(&secret(), &message));
    }

    fn server(request: &str) -> ServerKey {
        ServerKey::of(&secret(), &Message::parse(request.as_bytes()).unwrap()).unwrap()
    }

    fn cancelled(cancel: &str) -> ServerKey {
        ServerKey::of_cancelled(&secret(), &Message::parse(cancel.as_bytes()).unwrap()).unwrap()
    }

    fn with_method(request: &str, method: &str) -> String {
        request.replace("INVITE sip", &format!("{method} sip")).replace("4 INVITE", &format!("4 {method}"))
    }

    fn without_cookie(request: &str) -> String {
        request.replace("z9hG4bK", "")
    }
}

//! The token that leads a registrar behind this edge to the flow of a phone (RFC 5626 §5.1).
//!
//! It stands as the user of our Path URI, or of the Contact that a registrar without Path is told. It names the
//! edge that it is good for, the flow, and the address of record of the phone. In a Contact it also has the phone's
//! own Contact, so that the Request-URI can be restored. Nothing is remembered: whoever has the key can follow it.
//!
//! Invariant: a token opens a way only for the registrar of its edge or a trusted peer; all others may know it.

use bytes::Bytes;

use super::dialog_token::Side;
use super::layout::Reader;
use super::seal;
use crate::{Edge, Keyring};

/// Bytes of a Contact URI that a token holds. With it the user part has 500 letters, which is near to what registrars
/// keep of a Contact.
pub(super) const CONTACT_BYTES_MAX: usize = 255;

/// Before what is sealed: no other text of ours in base32 begins so, and of what others write hardly anything.
const KIND: u8 = 0xf7;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FlowToken {
    /// Which edge it was made for.
    pub(super) edge: EdgeMark,
    /// The phone and its flow.
    pub(super) phone: Side,
    /// The Contact URI of the phone, where the registrar has ours instead.
    pub(super) contact: Option<Bytes>,
}

/// A keyed hash of an edge's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EdgeMark(u32);

impl EdgeMark {
    /// The mark of an edge.
    pub(super) fn of(keyring: &Keyring, edge: &Edge) -> Self {
        let mac = keyring.flow.mac(&[b"edge", edge.domain.as_bytes()]);
        Self((mac.short() >> 32) as u32)
    }

    /// The mark of this server's own location, for servers beside it.
    pub(super) fn beside(keyring: &Keyring) -> Self {
        Self((keyring.flow.mac(&[b"beside"]).short() >> 32) as u32)
    }
}

impl FlowToken {
    /// Appends the token as text that can stand as the user of a URI.
    pub(super) fn write(&self, keyring: &Keyring, out: &mut Vec<u8>) {
        let mut plain = Vec::with_capacity(96);
        plain.extend_from_slice(&self.edge.0.to_be_bytes());
        self.phone.write(&mut plain);
        let contact = self.contact.as_ref().filter(|contact| contact.len() <= CONTACT_BYTES_MAX);
        if let Some(contact) = contact {
            plain.push(contact.len() as u8);
            plain.extend_from_slice(contact);
        }
        let mut sealed = Vec::with_capacity(plain.len() + 16);
        sealed.push(KIND);
        seal::seal(&keyring.flow, b"", &plain, &mut sealed);
        keys::base32(&sealed, out);
    }

    /// Reads a token of this server's; `None` for everything else.
    pub(super) fn read(keyring: &Keyring, text: &[u8]) -> Option<Self> {
        let mut sealed = Vec::with_capacity(text.len());
        if !keys::base32_decode(text, &mut sealed) {
            return None;
        }
        let (&KIND, sealed) = sealed.split_first()? else { return None };
        let plain = seal::open(&keyring.flow, b"", sealed)?;
        let mut reader = Reader(&plain);
        let edge = EdgeMark(u32::from_be_bytes(reader.array()?));
        let phone = Side::read(&mut reader)?;
        let contact = match reader.byte() {
            None => None,
            Some(length) => Some(Bytes::copy_from_slice(reader.slice(usize::from(length))?)),
        };
        reader.is_empty().then_some(Self { edge, phone, contact })
    }
}

#[cfg(test)]
mod tests {
    use sip::Aor;
    use transport::RemoteAddr;

    use super::super::dialog_token::{BindingName, Standing, Way};
    use super::super::listener_mark::ListenerMark;
    use super::*;
    use crate::EdgeContact;

    #[test]
    fn a_token_comes_back_whole_and_can_stand_in_a_uri() {
        let keyring = keyring(1);
        for contact in [None, Some(Bytes::from_static(b"sip:alice@10.9.9.9:5060;transport=tcp"))] {
            let token = FlowToken { contact, ..token(&keyring) };
            let mut text = Vec::new();
            token.write(&keyring, &mut text);

            assert_eq!(FlowToken::read(&keyring, &text), Some(token));
            assert!(text.iter().all(|&byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
    }

    #[test]
    fn a_token_is_worth_nothing_with_another_key_or_a_changed_letter() {
        let keyring = keyring(1);
        let mut text = Vec::new();
        token(&keyring).write(&keyring, &mut text);

        assert_eq!(FlowToken::read(&self::keyring(2), &text), None);
        for place in 0..text.len() {
            let mut changed = text.clone();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            assert_eq!(FlowToken::read(&keyring, &changed), None, "letter {place}");
        }
        for other in [&b""[..], b"alice", b"777777"] {
            assert_eq!(FlowToken::read(&keyring, other), None);
        }
    }

    fn keyring(seed: u8) -> Keyring {
        Keyring::derive(&keys::RootKey::new([seed; 32]))
    }

    fn token(keyring: &Keyring) -> FlowToken {
        let edge = Edge {
            domain: "example.com".to_owned(),
            to: "sip:10.0.0.20".to_owned(),
            from: None,
            contact: EdgeContact::Keep,
        };
        FlowToken {
            edge: EdgeMark::of(keyring, &edge),
            phone: Side {
                account: None,
                listener: ListenerMark(7),
                way: Way::Datagram(RemoteAddr("198.51.100.7:31000".parse().unwrap())),
                standing: Standing::BehindNat,
                binding: Some(BindingName {
                    aor: Aor::parse("alice@example.com").unwrap(),
                    instance: Some(9),
                }),
            },
            contact: None,
        }
    }
}

//! The token in our Record-Route: what this server must know of a dialog, kept by the dialog itself.
//!
//! It names both sides: the listener each is reached by, and the flow of a side that only its flow
//! reaches (a connection, a phone behind NAT). For a binding it names the address of record too, so
//! that a flow that has changed since is replaced by the present one. The seal is good for one
//! Call-ID; direction is told by the From tag of the caller.
//!
//! It survives a restart: listeners are named by what they are, and the key lies on disk.

use sip::Aor;
use transport::{Flow, RemoteAddr};

use super::layout::{Reader, write_address};
use super::listener_mark::ListenerMark;
use super::mask::Mask;
use super::seal;
use crate::Keyring;
use crate::session_name::Anchor;

/// An address of record that is longer is left out: the URI would grow beyond what phones keep.
const AOR_BYTES_MAX: usize = 96;

const HAS_BINDING: u8 = 0x80;
const BEHIND_NAT: u8 = 0x40;
const PEER: u8 = 0x20;
const HAS_ACCOUNT: u8 = 0x10;
const WAY: u8 = 0x0f;

/// Stands before the number of a media session, where a URI of a mask would have its length.
const ANCHORED: u8 = 0;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DialogToken {
    /// Who sent the request that began the dialog.
    pub(super) caller: Side,
    /// Who it was sent to.
    pub(super) callee: Side,
    /// A hash of the caller's From tag.
    pub(super) caller_tag: u32,
    /// The media session, if media pass the relay.
    pub(super) anchor: Option<Anchor>,
    /// The caller's URI on either side, where it is not the same.
    pub(super) mask: Option<Mask>,
}

/// One side of a dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// The listener by which it is reached.
    pub(super) listener: ListenerMark,
    /// Its flow, or none.
    pub(super) way: Way,
    /// Where it stands.
    pub(super) standing: Standing,
    /// The binding that it is.
    pub(super) binding: Option<BindingName>,
    /// Our account there, if it is a carrier.
    pub(super) account: Option<AccountName>,
}

/// One of our accounts at carriers, and what its challenges have done to the dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AccountName {
    /// A hash of its name.
    pub(super) name: u32,
    /// How much higher the numbers in CSeq are on that side, of the requests that go there.
    pub(super) cseq_shift: u8,
}

/// Where a side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// At an address of its own.
    Plain,
    /// Behind NAT: its URI can not be reached.
    BehindNat,
    /// It is a trusted peer. Only a dialog with one leads to one: a token must not open a way to a gateway that
    /// believes all that this server sends.
    Peer,
}

/// How a side is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By Request-URI and Route.
    Uri,
    /// By a datagram to this address.
    Datagram(RemoteAddr),
    /// By this connection.
    Connection {
        /// The node that has it.
        node: u8,
        /// The start of that node.
        boot: u32,
        /// Its number.
        number: u64,
        /// The peer's side.
        remote: RemoteAddr,
    },
}

/// A binding by what stays the same when the phone registers again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BindingName {
    /// Whose it is.
    pub(super) aor: Aor,
    /// A hash of `+sip.instance`; `None` for a phone that has none: its Contact tells.
    pub(super) instance: Option<u32>,
}

/// Which side a request within the dialog goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the caller to the callee.
    ToCallee,
    /// From the callee to the caller.
    ToCaller,
}

impl Direction {
    /// The other one.
    pub(super) fn back(self) -> Self {
        match self {
            Self::ToCallee => Self::ToCaller,
            Self::ToCaller => Self::ToCallee,
        }
    }
}

impl DialogToken {
    /// Appends the token as text that can stand as the user of a URI.
    pub(super) fn write(&self, keyring: &Keyring, call_id: &[u8], out: &mut Vec<u8>) {
        let mut plain = Vec::with_capacity(96);
        plain.extend_from_slice(&self.caller_tag.to_be_bytes());
        self.caller.write(&mut plain);
        self.callee.write(&mut plain);
        if let Some(Anchor(number)) = self.anchor {
            plain.push(ANCHORED);
            plain.extend_from_slice(&number.to_be_bytes());
        }
        if let Some(mask) = &self.mask {
            for uri in [&mask.original, &mask.presented] {
                plain.push(uri.len() as u8);
                plain.extend_from_slice(uri);
            }
        }
        let mut sealed = Vec::with_capacity(plain.len() + 16);
        sealed.push(keyring.token_number);
        seal::seal(&keyring.token, call_id, &plain, &mut sealed);
        keys::base32(&sealed, out);
    }

    /// Reads a token of this server's for this Call-ID; `None` for everything else.
    pub(super) fn read(keyring: &Keyring, call_id: &[u8], text: &[u8]) -> Option<Self> {
        let mut sealed = Vec::with_capacity(text.len());
        if !keys::base32_decode(text, &mut sealed) {
            return None;
        }
        let (&number, sealed) = sealed.split_first()?;
        let key = match &keyring.token_previous {
            _ if number == keyring.token_number => &keyring.token,
            Some((previous, key)) if number == *previous => key,
            _ => return None,
        };
        let plain = seal::open(key, call_id, sealed)?;
        let mut reader = Reader(&plain);
        let token = Self {
            caller_tag: u32::from_be_bytes(reader.array()?),
            caller: Side::read(&mut reader)?,
            callee: Side::read(&mut reader)?,
            anchor: read_anchor(&mut reader)?,
            mask: match reader.is_empty() {
                true => None,
                false => Some(read_mask(&mut reader)?),
            },
        };
        reader.is_empty().then_some(token)
    }

    /// Which way a request with these tags goes; `None` if neither is the caller's, so that it is of another dialog.
    /// The caller may have moved to another address since.
    pub(super) fn direction(&self, keyring: &Keyring, from_tag: &[u8], to_tag: &[u8]) -> Option<Direction> {
        if tag_hash(keyring, from_tag) == self.caller_tag {
            Some(Direction::ToCallee)
        } else if tag_hash(keyring, to_tag) == self.caller_tag {
            Some(Direction::ToCaller)
        } else {
            None
        }
    }

    /// Whether a request comes from where its sender was when the token was made, as far as that matters: towards a side
    /// that has a flow only that flow can be reached, but one without leads to any Request-URI, and the one who was
    /// called knows the token and the tags as well as the caller does.
    pub(super) fn confirms(&self, direction: Direction, flow: &Flow) -> bool {
        let (Direction::ToCallee, Way::Uri) = (direction, &self.callee.way) else { return true };
        match self.caller.way {
            Way::Datagram(remote) => remote.0.ip() == flow.remote().0.ip(),
            // A client that connects again has another number, and the token does not have its address.
            Way::Uri | Way::Connection { .. } => true,
        }
    }

    /// The side that a direction leads to.
    pub(super) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::ToCallee => &self.callee,
            Direction::ToCaller => &self.caller,
        }
    }
}

/// `None` if what stands there is none and nothing else.
fn read_anchor(reader: &mut Reader<'_>) -> Option<Option<Anchor>> {
    if reader.0.first() != Some(&ANCHORED) {
        return Some(None);
    }
    reader.byte()?;
    Some(Some(Anchor(u32::from_be_bytes(reader.array()?))))
}

fn read_mask(reader: &mut Reader<'_>) -> Option<Mask> {
    let mut uri = || {
        let length = usize::from(reader.byte()?);
        reader.slice(length)
    };
    Mask::new(uri()?, uri()?)
}

/// The hash of a From tag in a token. It stays the same when the token's key changes.
pub(super) fn tag_hash(keyring: &Keyring, from_tag: &[u8]) -> u32 {
    (keyring.tag.mac(&[b"from tag", from_tag]).short() >> 32) as u32
}

/// The hash of the name of one of our accounts in a token. It stays the same when the token's key changes.
pub(super) fn account_hash(keyring: &Keyring, name: &str) -> u32 {
    (keyring.tag.mac(&[b"account", name.as_bytes()]).short() >> 32) as u32
}

/// The hash of a phone's instance in a token. It stays the same when the token's key changes. The
/// `reg-id` is no part of it: any flow of the phone will do.
pub(super) fn instance_hash(keyring: &Keyring, instance: &[u8]) -> u32 {
    (keyring.tag.mac(&[b"instance", instance]).short() >> 32) as u32
}

impl Side {
    /// Appends the layout that [`Self::read`] reads.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let way = match &self.way {
            Way::Uri => 0,
            Way::Datagram(remote) => 1 + u8::from(remote.0.is_ipv6()),
            Way::Connection { remote, .. } => 3 + u8::from(remote.0.is_ipv6()),
        };
        let binding = self.binding.as_ref().filter(|binding| binding.aor.as_str().len() <= AOR_BYTES_MAX);
        let standing = match self.standing {
            Standing::Plain => 0,
            Standing::BehindNat => BEHIND_NAT,
            Standing::Peer => PEER,
        };
        let named = if binding.is_some() { HAS_BINDING } else { 0 };
        let accounted = if self.account.is_some() { HAS_ACCOUNT } else { 0 };
        out.push(way | standing | named | accounted);
        out.extend_from_slice(&self.listener.0.to_be_bytes());
        match &self.way {
            Way::Uri => {}
            Way::Datagram(remote) => write_address(remote.0, out),
            Way::Connection { node, boot, number, remote } => {
                out.push(*node);
                out.extend_from_slice(&boot.to_be_bytes());
                out.extend_from_slice(&number.to_be_bytes());
                write_address(remote.0, out);
            }
        }
        if let Some(BindingName { aor, instance }) = binding {
            out.push(aor.as_str().len() as u8);
            out.extend_from_slice(aor.as_str().as_bytes());
            out.push(u8::from(instance.is_some()));
            if let Some(instance) = instance {
                out.extend_from_slice(&instance.to_be_bytes());
            }
        }
        if let Some(AccountName { name, cseq_shift }) = self.account {
            out.extend_from_slice(&name.to_be_bytes());
            out.push(cseq_shift);
        }
    }

    /// Takes a side off the front.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.byte()?;
        let listener = ListenerMark(u32::from_be_bytes(reader.array()?));
        let way = match flags & WAY {
            0 => Way::Uri,
            1 => Way::Datagram(RemoteAddr(reader.address_v4()?)),
            2 => Way::Datagram(RemoteAddr(reader.address_v6()?)),
            kind @ (3 | 4) => Way::Connection {
                node: reader.byte()?,
                boot: u32::from_be_bytes(reader.array()?),
                number: u64::from_be_bytes(reader.array()?),
                remote: RemoteAddr(if kind == 3 { reader.address_v4()? } else { reader.address_v6()? }),
            },
            _ => return None,
        };
        let binding = if flags & HAS_BINDING != 0 { Some(BindingName::read(reader)?) } else { None };
        let standing = match flags & (BEHIND_NAT | PEER) {
            0 => Standing::Plain,
            BEHIND_NAT => Standing::BehindNat,
            PEER => Standing::Peer,
            _ => return None,
        };
        let account = if flags & HAS_ACCOUNT != 0 {
            let name = u32::from_be_bytes(reader.array()?);
            Some(AccountName { name, cseq_shift: reader.byte()? })
        } else {
            None
        };
        Some(Self { listener, way, standing, binding, account })
    }
}

impl BindingName {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let length = usize::from(reader.byte()?);
        let aor = Aor::parse(str::from_utf8(reader.slice(length)?).ok()?)?;
        let instance = match reader.byte()? {
            0 => None,
            _ => Some(u32::from_be_bytes(reader.array()?)),
        };
        Some(Self { aor, instance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whole() {
        let keyring = keyring(1);
        for token in tokens() {
            let mut text = Vec::new();
            token.write(&keyring, b"call-1", &mut text);

            assert_eq!(DialogToken::read(&keyring, b"call-1", &text), Some(token));
            assert!(text.iter().all(|&byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
    }

    #[test]
    fn a_token_is_worth_nothing_with_another_call_id_or_key_or_a_changed_letter() {
        let keyring = keyring(1);
        let mut text = Vec::new();
        tokens()[0].write(&keyring, b"call-1", &mut text);

        assert_eq!(DialogToken::read(&keyring, b"call-2", &text), None);
        assert_eq!(DialogToken::read(&self::keyring(2), b"call-1", &text), None);
        for place in 0..text.len() {
            let mut changed = text.clone();
            changed[place] = if changed[place] == b'a' { b'b' } else { b'a' };
            assert_eq!(DialogToken::read(&keyring, b"call-1", &changed), None, "letter {place}");
        }
        assert_eq!(DialogToken::read(&keyring, b"call-1", b""), None);
        assert_eq!(DialogToken::read(&keyring, b"call-1", b"alice"), None);
    }

    #[test]
    fn a_token_of_the_previous_key_is_good_and_of_the_one_before_is_not() {
        let old = keyring(1);
        let mut text = Vec::new();
        tokens()[0].write(&old, b"call-1", &mut text);
        let mut renewed = keyring(2);
        renewed.token_number = 1;
        renewed.token_previous = Some((0, old.token));

        assert!(DialogToken::read(&renewed, b"call-1", &text).is_some());

        renewed.token_previous = None;
        assert!(DialogToken::read(&renewed, b"call-1", &text).is_none());
    }

    #[test]
    fn the_from_tag_tells_the_direction() {
        let keyring = keyring(1);
        let mut token = tokens().remove(0);
        token.caller_tag = tag_hash(&keyring, b"alice-tag");

        let direction = |from: &[u8], to: &[u8]| token.direction(&keyring, from, to);
        assert_eq!(direction(b"alice-tag", b"bob-tag"), Some(Direction::ToCallee));
        assert_eq!(direction(b"bob-tag", b"alice-tag"), Some(Direction::ToCaller));
        assert_eq!(direction(b"", b"alice-tag"), Some(Direction::ToCaller));
        assert_eq!(direction(b"mallory-tag", b"bob-tag"), None);
    }

    fn keyring(seed: u8) -> Keyring {
        Keyring::derive(&keys::RootKey::new([seed; 32]))
    }

    fn tokens() -> Vec<DialogToken> {
        let v4 = RemoteAddr("192.0.2.9:5062".parse().unwrap());
        let v6 = RemoteAddr("[2001:db8::9]:5062".parse().unwrap());
        let side = |way, binding, standing| Side {
            listener: ListenerMark(77),
            way,
            standing,
            binding,
            account: None,
        };
        let named = |instance| Some(BindingName { aor: Aor::parse("alice@example.org").unwrap(), instance });
        let connection = |remote| Way::Connection { node: 1, boot: 2, number: 3, remote };
        let (plain, nat, peer) = (Standing::Plain, Standing::BehindNat, Standing::Peer);
        let account = Some(AccountName { name: 7, cseq_shift: 1 });
        vec![
            DialogToken {
                caller: side(Way::Uri, None, plain),
                callee: side(Way::Datagram(v4), named(None), nat),
                caller_tag: 1,
                anchor: Some(Anchor(7)),
                mask: None,
            },
            DialogToken {
                caller: side(connection(v4), named(Some(9)), nat),
                callee: side(connection(v6), None, peer),
                caller_tag: u32::MAX,
                anchor: Some(Anchor(u32::MAX)),
                mask: Mask::new(b"sip:alice@example.org", b"sip:+4930123@192.0.2.5"),
            },
            DialogToken {
                caller: side(Way::Datagram(v6), None, nat),
                callee: Side { account, ..side(Way::Uri, None, peer) },
                caller_tag: 0,
                anchor: None,
                mask: None,
            },
        ]
    }
}

//! A binding as it goes to the other node, which is what the store has of it but for its end: that is told as the time left.
//!
//! A field is added and never given another meaning. What a later version adds is skipped; a transport that this version
//! does not know makes the binding one that it can not take.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clock::{Now, WallTime};
use prost::Message;
use transport::LocalAddr;

use super::{AOR_BYTES_MAX, BindingKey};
use crate::{StoredBinding, capsule};

/// The version of the encoding.
pub const FORMAT: u32 = 1;

/// A capsule can not be a binding here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Its bytes are no binding.
    Malformed,
    /// It names a transport that this version does not have.
    UnknownTransport,
}

#[derive(Clone, PartialEq, Message)]
struct Capsule {
    #[prost(bytes = "bytes", tag = "1")]
    aor: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    contact: Bytes,
    #[prost(uint32, tag = "3")]
    transport: u32,
    #[prost(message, optional, tag = "4")]
    listener: Option<Address>,
    #[prost(message, optional, tag = "5")]
    received: Option<Address>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    path: Vec<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    instance: Option<Bytes>,
    #[prost(uint32, optional, tag = "8")]
    reg_id: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    q: Option<u32>,
    #[prost(bytes = "bytes", tag = "10")]
    call_id: Bytes,
    #[prost(uint32, tag = "11")]
    cseq: u32,
    #[prost(bytes = "bytes", optional, tag = "12")]
    user_agent: Option<Bytes>,
    #[prost(bool, tag = "13")]
    nat: bool,
    #[prost(fixed64, tag = "14")]
    response_hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    /// 4 or 16 of them.
    #[prost(bytes = "bytes", tag = "1")]
    ip: Bytes,
    #[prost(uint32, tag = "2")]
    port: u32,
}

impl StoredBinding {
    /// Its bytes for the other node.
    pub fn to_capsule(&self) -> Bytes {
        let capsule = Capsule {
            aor: Bytes::copy_from_slice(self.aor.as_str().as_bytes()),
            contact: self.contact.clone(),
            transport: capsule::transport_number(self.listener.0),
            listener: Some(address(self.listener.1.0)),
            received: Some(address(self.received)),
            path: self.path.clone(),
            instance: self.instance.clone(),
            reg_id: self.reg_id,
            q: self.q.map(u32::from),
            call_id: self.call_id.clone(),
            cseq: self.cseq,
            user_agent: self.user_agent.clone(),
            nat: self.nat,
            response_hash: self.response_hash,
        };
        capsule.encode_to_vec().into()
    }

    /// Reads what [`StoredBinding::to_capsule`] wrote on the other node; `left` is how long it still lasts.
    pub fn from_capsule(now: Now, left: Duration, bytes: Bytes) -> Result<Self, Unreadable> {
        let read = Capsule::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        let transport = capsule::transport(read.transport)?;
        let q = match read.q {
            Some(q) => Some(u16::try_from(q).ok().filter(|q| *q <= 1_000).ok_or(Unreadable::Malformed)?),
            None => None,
        };
        if read.contact.is_empty() || (read.reg_id.is_some() && read.instance.is_none()) {
            return Err(Unreadable::Malformed);
        }
        Ok(Self {
            aor: capsule::aor(&read.aor, AOR_BYTES_MAX)?,
            contact: read.contact,
            listener: (transport, LocalAddr(socket(read.listener)?)),
            received: socket(read.received)?,
            path: read.path,
            instance: read.instance,
            reg_id: read.reg_id,
            q,
            call_id: read.call_id,
            cseq: read.cseq,
            user_agent: read.user_agent,
            nat: read.nat,
            response_hash: read.response_hash,
            expires_at: now.wall + left.min(LEFT_MAX),
        })
    }

    /// How long it still lasts.
    pub fn left(&self, now: WallTime) -> Duration {
        self.expires_at.since(now)
    }
}

/// A time so long is a mistake, and must not overflow a clock.
const LEFT_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

impl BindingKey {
    /// What tells the binding's capsule from all others.
    pub fn to_bytes(&self) -> Bytes {
        let (instance, reg_id) = match &self.flow {
            Some((instance, reg_id)) => (&instance[..], Some(*reg_id)),
            None => (&[][..], None),
        };
        let mut bytes = BytesMut::new();
        for part in [self.aor.as_str().as_bytes(), &self.contact, instance] {
            // Behind its length, so that no two keys give the same bytes.
            bytes.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            bytes.put_slice(part);
        }
        if let Some(reg_id) = reg_id {
            bytes.put_u32(reg_id);
        }
        bytes.freeze()
    }
}

fn address(socket: SocketAddr) -> Address {
    let ip = match socket.ip() {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    Address { ip, port: socket.port().into() }
}

fn socket(address: Option<Address>) -> Result<SocketAddr, Unreadable> {
    let Address { ip, port } = address.ok_or(Unreadable::Malformed)?;
    let four = <[u8; 4]>::try_from(&ip[..]).map(IpAddr::from);
    let sixteen = <[u8; 16]>::try_from(&ip[..]).map(IpAddr::from);
    let ip = four.or(sixteen).map_err(|_| Unreadable::Malformed)?;
    Ok(SocketAddr::new(ip, u16::try_from(port).map_err(|_| Unreadable::Malformed)?))
}

#[cfg(test)]
mod tests {
    use clock::Instant;
    use proptest::prelude::*;
    use sip::Aor;
    use transport::Transport;

    use super::*;

    #[test]
    fn a_binding_comes_back_with_all_it_has_and_the_time_left() {
        for binding in [whole(), bare()] {
            let left = binding.left(NOW.wall);
            // The other node's calendar is another one.
            let there = Now::new(NOW.instant, NOW.wall + Duration::from_secs(3_000));

            let back = StoredBinding::from_capsule(there, left, binding.to_capsule());

            assert_eq!(back, Ok(StoredBinding { expires_at: there.wall + left, ..binding }));
        }
    }

    #[test]
    fn the_time_left_is_not_in_the_bytes() {
        let later = StoredBinding { expires_at: NOW.wall + Duration::from_secs(9), ..whole() };

        assert_eq!(later.to_capsule(), whole().to_capsule());
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        let mut bytes = whole().to_capsule().to_vec();
        // Field 60, a text.
        bytes.extend_from_slice(&[0xe2, 0x03, 3, b'n', b'e', b'w']);

        assert!(StoredBinding::from_capsule(NOW, LEFT, bytes.into()).is_ok());
    }

    #[test]
    fn a_transport_of_a_later_version_is_told_from_nonsense() {
        let read = |change: fn(&mut Capsule)| {
            let mut capsule = Capsule::decode(whole().to_capsule()).unwrap();
            change(&mut capsule);
            StoredBinding::from_capsule(NOW, LEFT, capsule.encode_to_vec().into())
        };

        assert_eq!(read(|it| it.transport = 7), Err(Unreadable::UnknownTransport));
        for nonsense in [
            (|it| it.aor = Bytes::from_static(b"no address")) as fn(&mut Capsule),
            |it| it.aor = Bytes::from_static(b"Bob@EXAMPLE.org"),
            |it| it.aor = Bytes::from_static(b"\xff@example.org"),
            |it| it.contact = Bytes::new(),
            |it| it.q = Some(1_001),
            |it| it.instance = None,
            |it| it.received = None,
            |it| it.listener = Some(Address { ip: Bytes::from_static(&[1, 2, 3]), port: 5060 }),
            |it| it.received = Some(Address { ip: Bytes::from_static(&[1, 2, 3, 4]), port: 70_000 }),
        ] {
            assert_eq!(read(nonsense), Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn no_two_bindings_have_one_key() {
        let key = |aor: &str, contact: &'static str, flow: Option<(&'static str, u32)>| {
            let flow = flow.map(|(instance, reg_id)| (Bytes::from_static(instance.as_bytes()), reg_id));
            let contact = Bytes::from_static(contact.as_bytes());
            BindingKey { aor: Aor::parse(aor).unwrap(), contact, flow }.to_bytes()
        };
        let keys = [
            key("bob@example.org", "sip:a", None),
            key("bob@example.orgs", "ip:a", None),
            key("bob@example.org", "sip:a", Some(("", 0))),
            key("bob@example.org", "sip:a", Some(("x", 0))),
            key("bob@example.org", "sip:a", Some(("x", 1))),
        ];

        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{place}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = StoredBinding::from_capsule(NOW, Duration::MAX, bytes.into());
        }

        #[test]
        fn changed_bytes_are_read_or_refused(at in 0usize..150, byte in any::<u8>()) {
            let mut bytes = whole().to_capsule().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = StoredBinding::from_capsule(NOW, LEFT, bytes.into());
        }
    }

    const NOW: Now = Now::new(Instant::from_nanos(5_000_000_000), WallTime::from_millis(1_700_000_000_000));
    const LEFT: Duration = Duration::from_secs(600);

    fn whole() -> StoredBinding {
        StoredBinding {
            aor: Aor::parse("bob@example.org").unwrap(),
            contact: Bytes::from_static(b"sip:bob@192.0.2.7:5062;transport=tcp"),
            listener: (Transport::Tcp, LocalAddr("[2001:db8::10]:5060".parse().unwrap())),
            received: "[2001:db8::7]:40000".parse().unwrap(),
            path: vec![Bytes::from_static(b"<sip:edge;lr>"), Bytes::from_static(b"<sip:inner;lr>")],
            instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
            reg_id: Some(2),
            q: Some(700),
            call_id: Bytes::from_static(b"call"),
            cseq: 77,
            user_agent: Some(Bytes::from_static(b"a phone")),
            nat: true,
            response_hash: u64::MAX - 3,
            expires_at: NOW.wall + LEFT,
        }
    }

    fn bare() -> StoredBinding {
        StoredBinding {
            listener: (Transport::Udp, LocalAddr("192.0.2.10:5060".parse().unwrap())),
            received: "192.0.2.7:5060".parse().unwrap(),
            path: vec![],
            instance: None,
            reg_id: None,
            q: None,
            user_agent: None,
            nat: false,
            response_hash: 0,
            ..whole()
        }
    }
}

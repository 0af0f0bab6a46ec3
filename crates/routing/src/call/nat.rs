//! Whether a client sits behind NAT: what it believes of its own address, against what the packet says.

use std::net::IpAddr;

use sip::{Contacts, Message, Name, Uri};
use transport::Source;

/// How many lines of a body are searched for `c=`: session descriptions have it among the first.
const SDP_LINES_SEARCHED_MAX: usize = 64;

/// Whether the sender of a stamped request can be reached by its flow alone.
///
/// Its Via tells first. Contact and SDP are the client's own only if no proxy stands between.
pub(super) fn is_behind_nat(message: &Message<'_>, source: &Source) -> bool {
    let seen = source.flow.remote().0.ip().to_canonical();
    let via_differs =
        message.top_via().is_ok_and(|via| via.host.ip().is_some_and(|claimed| differs(claimed, seen)));
    if via_differs {
        return true;
    }
    let is_first_hop = message.values(Name::Via).nth(1).is_none();
    is_first_hop && (contact_differs(message, seen) || sdp_is_unreachable(message, seen))
}

fn contact_differs(message: &Message<'_>, seen: IpAddr) -> bool {
    let Ok(Contacts::List(mut contacts)) = message.contacts() else { return false };
    let Some(contact) = contacts.next() else { return false };
    match contact.uri() {
        Ok(Uri::Sip(uri)) => uri.host.ip().is_some_and(|claimed| differs(claimed, seen)),
        _ => false,
    }
}

/// Whether the sender of a response names a private address for its media and speaks from a public one.
pub(super) fn names_unreachable_media(response: &Message<'_>, seen: IpAddr) -> bool {
    sdp_is_unreachable(response, seen.to_canonical())
}

/// Media may rightly go to another host, so that only a private address that a public one speaks of counts.
fn sdp_is_unreachable(message: &Message<'_>, seen: IpAddr) -> bool {
    let body = message.body();
    if is_private(seen) || !body.starts_with(b"v=0") {
        return false;
    }
    body.split(|&byte| byte == b'\n')
        .take(SDP_LINES_SEARCHED_MAX)
        .find_map(connection_address)
        .is_some_and(is_private)
}

fn connection_address(line: &[u8]) -> Option<IpAddr> {
    let line = line.strip_prefix(b"c=IN IP")?;
    let address = line.get(2..)?.split(|&byte| byte == b'/').next()?;
    str::from_utf8(address).ok()?.trim_end().parse().ok()
}

fn differs(claimed: IpAddr, seen: IpAddr) -> bool {
    claimed.to_canonical() != seen
}

/// Addresses that mean something within one network only.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // RFC 6598 §7: 100.64.0.0/10 is what a provider's own NAT uses.
            let is_shared = first == 100 && (64..128).contains(&second);
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use transport::{Flow, ListenerId, RemoteAddr, Transport};

    use super::*;

    #[test]
    fn a_session_description_tells_of_nat_where_a_public_sender_names_a_private_address() {
        for (from, address, is_nat) in [
            ("203.0.113.7:5060", "192.168.1.2", true),
            ("203.0.113.7:5060", "100.64.0.1", true),
            ("203.0.113.7:5060", "203.0.113.200", false),
            ("203.0.113.7:5060", "100.128.0.1", false),
            ("192.168.1.9:5060", "192.168.1.2", false),
        ] {
            let body = format!("v=0\r\no=- 1 1 IN IP4 x\r\nc=IN IP4 {address}/127\r\n");
            assert_eq!(is_nat_from(from, "phone.example", &body), is_nat, "{from} {address}");
        }
        assert!(!is_nat_from(
            "203.0.113.7:5060",
            "phone.example",
            "not a description\r\nc=IN IP4 10.0.0.1\r\n"
        ));
        assert!(is_nat_from("[2001:db8::7]:5060", "phone.example", "v=0\nc=IN IP6 fd00::1\n"));
        assert!(!is_nat_from("203.0.113.7:5060", "phone.example", "v=0\r\nc=IN IP\r\nc=IN IP4 \r\n"));
    }

    #[test]
    fn a_via_that_names_another_address_tells_of_nat() {
        assert!(is_nat_from("203.0.113.7:5060", "192.168.1.2", ""));
        assert!(is_nat_from("203.0.113.7:5060", "203.0.113.8", ""));
        assert!(!is_nat_from("203.0.113.7:31000", "203.0.113.7", ""));
        assert!(!is_nat_from("[::ffff:203.0.113.7]:31000", "203.0.113.7", ""));
    }

    fn is_nat_from(from: &str, sent_by: &str, body: &str) -> bool {
        let text = format!(
            "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP {sent_by};branch=z9hG4bK1\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let flow = Flow::Datagram { listener: ListenerId(0), remote: RemoteAddr(from.parse().unwrap()) };
        let message = Message::parse(text.as_bytes()).unwrap();
        is_behind_nat(&message, &Source { flow, transport: Transport::Udp })
    }
}

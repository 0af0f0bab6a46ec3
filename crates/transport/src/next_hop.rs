//! Where a request goes that has no flow, as far as its URI says: to an address, or to a server that the DNS
//! knows ([`Selection`](crate::selection::Selection)).

use std::net::{IpAddr, SocketAddr};

use sip::{Host, SipUri};

use crate::selection::Wanted;
use crate::{RemoteAddr, Transport};

/// Where a request goes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// To this address.
    Address {
        /// Whom.
        remote: RemoteAddr,
        /// How.
        transport: Transport,
    },
    /// To a server of a name.
    Select(Wanted),
}

/// Why a URI leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// `sips`, or TLS: it must not go by less.
    Secure,
    /// A transport that this server does not speak.
    Transport,
    /// A `maddr` that is no host, or port 0.
    Address,
}

/// Where a request for this URI goes next.
///
/// # Errors
///
/// [`Unsupported`]: it leads nowhere that this server can go.
pub fn next_hop(uri: &SipUri<'_>) -> Result<NextHop, Unsupported> {
    // RFC 3261 §26.2.2: what a sips URI asks for is not given up for reachability.
    if uri.secure {
        return Err(Unsupported::Secure);
    }
    let transport = match uri.transport() {
        None => None,
        Some(name) if name.eq_ignore_ascii_case(b"tls") => return Err(Unsupported::Secure),
        Some(name) => Some(Transport::of_name(name).ok_or(Unsupported::Transport)?),
    };
    if uri.port == Some(0) {
        return Err(Unsupported::Address);
    }
    // RFC 3263 §4: the target is the value of maddr if there is one, else the host.
    let host = match uri.params.value(b"maddr") {
        Some(maddr) => host_of_maddr(maddr).ok_or(Unsupported::Address)?,
        None => uri.host,
    };
    let address = match host {
        Host::Name(name) => {
            let name = String::from_utf8_lossy(name);
            let name = name.trim_end_matches('.').to_ascii_lowercase().into_boxed_str();
            return Ok(NextHop::Select(Wanted { name, port: uri.port, transport }));
        }
        Host::V4(address) => IpAddr::V4(address),
        Host::V6(address) => IpAddr::V6(address),
    };
    // RFC 3263 §4.1: UDP to an address in a sip URI where nothing is said.
    let transport = transport.unwrap_or(Transport::Udp);
    let port = uri.port.unwrap_or(transport.default_port());
    Ok(NextHop::Address { remote: RemoteAddr(SocketAddr::new(address, port)), transport })
}

/// RFC 5118 §4.5: an IPv6 address may stand in a parameter without its brackets.
fn host_of_maddr(maddr: &[u8]) -> Option<Host<'_>> {
    Host::parse(maddr).ok().or_else(|| std::str::from_utf8(maddr).ok()?.parse().ok().map(Host::V6))
}

/// Bytes of the largest request that may go by UDP to a server of which nothing is known.
// RFC 3261 §18.1.1: 1300 bytes where the path's MTU is unknown.
pub const DATAGRAM_REQUEST_BYTES_MAX: usize = 1_300;

/// By which transport a request goes, by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizedTransport {
    /// What is tried first. If it is another one than was chosen, the Via must name it.
    pub transport: Transport,
    /// What is tried if that is refused or not answered.
    pub fallback: Option<Transport>,
}

/// By which transport a request of this size goes to a next hop that was found by its name or
/// address. Never ask this for a flow: a flow's transport is never changed.
// RFC 3261 §18.1.1: a request that is too large for a datagram goes by TCP, and by UDP after all if the server
// refuses TCP (ICMP, or a reset).
pub const fn transport_for_size(chosen: Transport, request_bytes: usize) -> SizedTransport {
    match chosen {
        Transport::Udp if request_bytes > DATAGRAM_REQUEST_BYTES_MAX => {
            SizedTransport { transport: Transport::Tcp, fallback: Some(Transport::Udp) }
        }
        _ => SizedTransport { transport: chosen, fallback: None },
    }
}

#[cfg(test)]
mod tests {
    use sip::Uri;

    use super::*;

    /// RFC 3263 §4.2: an address needs no look-up, and a port that is named is kept.
    #[test]
    fn an_address_is_followed_as_it_is() {
        for (uri, remote, transport) in [
            ("sip:bob@192.0.2.9", "192.0.2.9:5060", Transport::Udp),
            ("sip:bob@192.0.2.9:5070;transport=tcp", "192.0.2.9:5070", Transport::Tcp),
            ("sip:bob@[2001:db8::9];transport=UDP", "[2001:db8::9]:5060", Transport::Udp),
            ("sip:bob@example.org;maddr=192.0.2.9", "192.0.2.9:5060", Transport::Udp),
            ("sip:bob@192.0.2.1:5070;maddr=[2001:db8::9]", "[2001:db8::9]:5070", Transport::Udp),
            ("sip:bob@192.0.2.1;maddr=2001:db8::9", "[2001:db8::9]:5060", Transport::Udp),
        ] {
            let remote = RemoteAddr(remote.parse().unwrap());
            assert_eq!(hop(uri), Ok(NextHop::Address { remote, transport }), "{uri}");
        }
    }

    /// RFC 3263 §4.1: port and transport decide what is asked, so what is not said is left open.
    #[test]
    fn a_name_is_left_to_the_dns_with_what_the_uri_says() {
        for (uri, name, port, transport) in [
            ("sip:bob@Example.ORG.", "example.org", None, None),
            ("sip:bob@example.org:5070;transport=Tcp", "example.org", Some(5070), Some(Transport::Tcp)),
            ("sip:bob@192.0.2.9;maddr=sbc.example.org", "sbc.example.org", None, None),
        ] {
            let expected = NextHop::Select(Wanted { name: name.into(), port, transport });
            assert_eq!(hop(uri), Ok(expected), "{uri}");
        }
    }

    /// RFC 3261 §26.2.2: never by less than was asked for.
    #[test]
    fn what_must_be_secure_does_not_go_by_less() {
        assert_eq!(hop("sips:bob@192.0.2.9"), Err(Unsupported::Secure));
        assert_eq!(hop("sips:bob@192.0.2.9;transport=tcp"), Err(Unsupported::Secure));
        assert_eq!(hop("sip:bob@192.0.2.9;transport=tls"), Err(Unsupported::Secure));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        for transport in ["ws", "wss", "sctp", "", "u dp"] {
            let uri = format!("sip:bob@192.0.2.9;transport={transport}");
            if let Ok(parsed) = Uri::parse(uri.as_bytes()) {
                let hop = next_hop(parsed.as_sip().unwrap());
                assert_eq!(hop, Err(Unsupported::Transport), "{uri}");
            }
        }
        assert_eq!(hop("sip:bob@192.0.2.9:0"), Err(Unsupported::Address));
        assert_eq!(hop("sip:bob@192.0.2.9;maddr=a_%41*"), Err(Unsupported::Address));
    }

    /// RFC 3261 §18.1.1: TCP above 1300 bytes, and UDP again if TCP is refused.
    #[test]
    fn a_large_request_goes_by_tcp_first() {
        let small = transport_for_size(Transport::Udp, DATAGRAM_REQUEST_BYTES_MAX);
        assert_eq!(small, SizedTransport { transport: Transport::Udp, fallback: None });

        let large = transport_for_size(Transport::Udp, DATAGRAM_REQUEST_BYTES_MAX + 1);
        assert_eq!(large, SizedTransport { transport: Transport::Tcp, fallback: Some(Transport::Udp) });

        let stream = transport_for_size(Transport::Tcp, 60_000);
        assert_eq!(stream, SizedTransport { transport: Transport::Tcp, fallback: None });
    }

    fn hop(uri: &str) -> Result<NextHop, Unsupported> {
        next_hop(Uri::parse(uri.as_bytes()).unwrap().as_sip().unwrap())
    }
}

//! Which server a request goes to that has no flow: RFC 3263 §4, as far as addresses go.
//!
//! A URI that names an address is followed as it is. One that names a host is looked up for A and
//! AAAA with the port it names, or the default one.

use std::net::{IpAddr, SocketAddr};

use sip::{Host, SipUri};

use crate::{RemoteAddr, Transport};

/// Where a request goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop<'a> {
    /// To this address.
    Address {
        /// Whom.
        remote: RemoteAddr,
        /// How.
        transport: Transport,
    },
    /// To an address that the name has to be resolved to.
    Lookup {
        /// The name.
        host: &'a [u8],
        /// The port at each of its addresses.
        port: u16,
        /// How.
        transport: Transport,
    },
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
pub fn next_hop<'a>(uri: &SipUri<'a>) -> Result<NextHop<'a>, Unsupported> {
    // RFC 3261 §26.2.2: what a sips URI asks for is not given up for reachability.
    if uri.secure {
        return Err(Unsupported::Secure);
    }
    let transport = match uri.transport() {
        // RFC 3263 §4.1: UDP for a sip URI where nothing is said, unless the DNS says more.
        None => Transport::Udp,
        Some(name) if name.eq_ignore_ascii_case(b"tls") => return Err(Unsupported::Secure),
        Some(name) => Transport::of_name(name).ok_or(Unsupported::Transport)?,
    };
    let port = uri.port.unwrap_or(transport.default_port());
    if port == 0 {
        return Err(Unsupported::Address);
    }
    // RFC 3263 §4: the target is the value of maddr if there is one, else the host.
    let host = match uri.params.value(b"maddr") {
        Some(maddr) => host_of_maddr(maddr).ok_or(Unsupported::Address)?,
        None => uri.host,
    };
    let address = match host {
        Host::Name(name) => return Ok(NextHop::Lookup { host: name, port, transport }),
        Host::V4(address) => IpAddr::V4(address),
        Host::V6(address) => IpAddr::V6(address),
    };
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

    #[test]
    fn a_name_is_looked_up_with_its_port_and_transport() {
        for (uri, host, port, transport) in [
            ("sip:bob@example.org", "example.org", 5060, Transport::Udp),
            ("sip:bob@example.org:5070;transport=Tcp", "example.org", 5070, Transport::Tcp),
            ("sip:bob@192.0.2.9;maddr=sbc.example.org", "sbc.example.org", 5060, Transport::Udp),
        ] {
            let expected = NextHop::Lookup { host: host.as_bytes(), port, transport };
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

    fn hop(uri: &str) -> Result<NextHop<'_>, Unsupported> {
        next_hop(Uri::parse(uri.as_bytes()).unwrap().as_sip().unwrap())
    }
}

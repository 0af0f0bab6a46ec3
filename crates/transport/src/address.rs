//! Addresses that can not be mistaken for each other, and the transports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How SIP messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams.
    Udp,
    /// A stream.
    Tcp,
}

impl Transport {
    /// Whether the transport itself repeats what is lost.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Udp)
    }

    /// The name in a Via header field: `UDP`.
    pub const fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The value of a URI's `transport` parameter, also the scheme of a listener: `udp`.
    pub const fn uri_name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// The transport of this name, in any case; `None` for one that this server does not speak.
    pub fn of_name(name: &[u8]) -> Option<Self> {
        [Self::Udp, Self::Tcp]
            .into_iter()
            .find(|transport| name.eq_ignore_ascii_case(transport.uri_name().as_bytes()))
    }

    /// The port that is meant where none is written.
    pub const fn default_port(self) -> u16 {
        5060
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.uri_name())
    }
}

/// An address and port of this server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalAddr(pub SocketAddr);

/// An address and port of somebody else's, as seen in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteAddr(pub SocketAddr);

impl RemoteAddr {
    /// Whether one host could be there: a broadcast, a multicast group, the unspecified address and port 0 are none.
    pub fn is_host(&self) -> bool {
        let address = self.0.ip().to_canonical();
        let is_all = address == IpAddr::V4(Ipv4Addr::BROADCAST);
        !(is_all || address.is_multicast() || address.is_unspecified() || self.0.port() == 0)
    }
}

impl fmt::Display for LocalAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for RemoteAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What others are told instead of a listener's own address, behind a 1:1 NAT or in a cloud.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Advertise {
    /// A name or an address as it stands in a SIP URI (IPv6 in brackets).
    pub host: String,
    /// The port; the listener's own if absent.
    pub port: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_nobody_are_no_hosts() {
        let is_host = |text: &str| RemoteAddr(text.parse().unwrap()).is_host();

        assert!(
            ["192.0.2.1:5060", "127.0.0.1:1", "[2001:db8::1]:5060", "[fe80::1]:5060"]
                .into_iter()
                .all(is_host)
        );
        for nobody in [
            "255.255.255.255:5060",
            "224.0.0.1:5060",
            "0.0.0.0:5060",
            "[::]:1",
            "[ff02::1]:5060",
            "192.0.2.1:0",
        ] {
            assert!(!is_host(nobody), "{nobody}");
        }
        assert!(!is_host("[::ffff:255.255.255.255]:5060"));
    }
}

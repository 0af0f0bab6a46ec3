//! One media line and what belongs to it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::address::{Address, Place};
use super::attribute::{Direction, number};
use super::line::words;

/// More ports in one line are layers of multicast video, which nobody sends by unicast.
const PORTS_MAX: u16 = 8;

/// What carries the media, as far as a relay is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// RTP, with RTCP beside it.
    Rtp,
    /// SRTP: the same, but what RTCP says can not be read.
    SecureRtp,
    /// Other datagrams, on one port: T.38 by UDPTL, BFCP, a data channel.
    Datagrams,
    /// TCP, or a protocol that is not known: such a line is left as it is.
    Foreign,
}

impl Carriage {
    // RFC 8866 §5.14, RFC 5764 §8 (DTLS), RFC 4145 §3 (TCP).
    fn of(protocol: &[u8]) -> Self {
        let protocol = protocol.to_ascii_uppercase();
        let parts: Vec<&[u8]> = protocol.split(|byte| *byte == b'/').collect();
        let has = |wanted: &[u8]| parts.contains(&wanted);
        match parts[0] {
            b"TCP" => Self::Foreign,
            b"RTP" | b"UDP" if has(b"SAVP") || has(b"SAVPF") => Self::SecureRtp,
            b"RTP" | b"UDP" if has(b"AVP") || has(b"AVPF") => Self::Rtp,
            b"UDP" | b"UDPTL" => Self::Datagrams,
            b"DTLS" if has(b"SCTP") => Self::Datagrams,
            _ => Self::Foreign,
        }
    }

    /// Whether RTCP goes beside it.
    pub const fn has_rtcp(self) -> bool {
        matches!(self, Self::Rtp | Self::SecureRtp)
    }
}

/// Another place for RTCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtcpPort {
    pub(super) port: u16,
    pub(super) port_span: Range<usize>,
    pub(super) place: Option<Place>,
}

/// A media line with what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// Its index among the lines.
    pub(super) line: usize,
    pub(super) port: u16,
    pub(super) port_span: Range<usize>,
    /// How many ports, where it says `5000/2`.
    pub(super) ports: u16,
    pub(super) carriage: Carriage,
    pub(super) connection: Option<Place>,
    /// Where it is wanted: its own `c=` or the session's.
    pub(super) address: Address,
    pub(super) direction: Option<Direction>,
    pub(super) rtcp: Option<RtcpPort>,
    pub(super) is_muxed: bool,
    pub(super) speaks_ice: bool,
    pub(super) clock_rates: Vec<(u8, u32)>,
    pub(super) detours: Vec<usize>,
}

impl Media {
    /// Reads `audio 5000/2 RTP/AVP 0 8`.
    pub(super) fn read(bytes: &[u8], value: Range<usize>, line: usize) -> Option<Self> {
        let mut words = words(bytes, value);
        let (_, ports, protocol) = (words.next()?, words.next()?, words.next()?);
        let slash = bytes[ports.clone()].iter().position(|byte| *byte == b'/').map(|at| ports.start + at);
        let port_span = ports.start..slash.unwrap_or(ports.end);
        let count = match slash {
            Some(slash) => number(&bytes[slash + 1..ports.end])?,
            None => 1,
        };
        if !(1..=PORTS_MAX).contains(&count) {
            return None;
        }
        Some(Self {
            line,
            port: number(&bytes[port_span.clone()])?,
            port_span,
            ports: count,
            carriage: Carriage::of(&bytes[protocol]),
            connection: None,
            address: Address::Nowhere,
            direction: None,
            rtcp: None,
            is_muxed: false,
            speaks_ice: false,
            clock_rates: Vec::new(),
            detours: Vec::new(),
        })
    }

    /// The port of media; 0 is a line that is not wanted.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many ports in a row, or pairs of ports where there is RTCP: 1 for nearly everybody.
    pub fn ports(&self) -> u16 {
        self.ports
    }

    /// What carries it.
    pub fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// Whether a relay is to carry it: it is wanted, and can be carried.
    pub fn is_relayed(&self) -> bool {
        self.port != 0 && self.carriage != Carriage::Foreign
    }

    /// The address where it is wanted.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Which way it flows.
    pub fn direction(&self) -> Direction {
        self.direction.unwrap_or_default()
    }

    /// Whether its sender takes RTCP on the port of RTP, or would.
    pub fn is_muxed(&self) -> bool {
        self.is_muxed
    }

    /// Where media is to be sent; `None` on hold, where nobody wants it, and where only a name is given.
    pub fn media_address(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Ip(ip) if self.port != 0 => Some(SocketAddr::new(ip, self.port)),
            _ => None,
        }
    }

    /// Where RTCP is to be sent, if it has a port of its own.
    // RFC 3605 §2.1: as `a=rtcp` says; else RFC 3550 §11: the next port.
    pub fn rtcp_address(&self) -> Option<SocketAddr> {
        if !self.carriage.has_rtcp() {
            return None;
        }
        let media = self.media_address()?;
        let next = media.port().checked_add(1).map(|port| SocketAddr::new(media.ip(), port));
        match &self.rtcp {
            None => next,
            Some(RtcpPort { port, place, .. }) => {
                let ip: IpAddr = match place.as_ref().map(|place| place.address) {
                    None => media.ip(),
                    Some(Address::Ip(ip)) => ip,
                    Some(Address::Nowhere | Address::Name) => return None,
                };
                (*port != 0).then(|| SocketAddr::new(ip, *port))
            }
        }
    }

    /// Payload types and their clock rates, as far as `a=rtpmap` says.
    pub fn clock_rates(&self) -> &[(u8, u32)] {
        &self.clock_rates
    }
}

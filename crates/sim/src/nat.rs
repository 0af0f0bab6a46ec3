//! A NAT router: which outside port an inside address gets, who may send to it, and for how long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clock::Instant;

/// What an outside port, or the right to send to it, depends on.
// RFC 4787 §4.1: the three kinds of mapping; RFC 4787 §5: the same three of filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dependence {
    /// The inside address alone.
    EndpointIndependent,
    /// Also the outside host.
    AddressDependent,
    /// Also the outside host's port.
    AddressAndPortDependent,
}

impl Dependence {
    /// All kinds.
    pub(crate) const ALL: [Self; 3] =
        [Self::EndpointIndependent, Self::AddressDependent, Self::AddressAndPortDependent];

    fn part(self, remote: SocketAddr) -> (Option<IpAddr>, Option<u16>) {
        match self {
            Self::EndpointIndependent => (None, None),
            Self::AddressDependent => (Some(remote.ip()), None),
            Self::AddressAndPortDependent => (Some(remote.ip()), Some(remote.port())),
        }
    }
}

/// The part of a remote address that a kind of dependence looks at.
type Part = (Option<IpAddr>, Option<u16>);

/// Whether packets from outside keep a mapping.
// RFC 4787 §4.3: they may; those from inside must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// Only packets from inside do.
    FromInside,
    /// All do.
    FromBothSides,
}

/// One router.
#[derive(Debug)]
pub(crate) struct Nat {
    outside: IpAddr,
    mapping: Dependence,
    filtering: Dependence,
    refresh: Refresh,
    timeout: Duration,
    next_port: u16,
    mappings: BTreeMap<(SocketAddr, Part), Mapping>,
}

#[derive(Debug)]
struct Mapping {
    port: u16,
    until: Instant,
    allowed: BTreeMap<Part, Instant>,
}

/// The first outside port: those below belong to services.
const PORT_MIN: u16 = 20_000;

impl Nat {
    /// A router with one outside address. A mapping ends after `timeout` without a packet that keeps it.
    pub(crate) fn new(
        outside: IpAddr,
        (mapping, filtering): (Dependence, Dependence),
        refresh: Refresh,
        timeout: Duration,
    ) -> Self {
        Self { outside, mapping, filtering, refresh, timeout, next_port: PORT_MIN, mappings: BTreeMap::new() }
    }

    /// The address that the world sees.
    pub(crate) fn outside(&self) -> IpAddr {
        self.outside
    }

    /// The source that a packet from inside to `remote` has outside.
    pub(crate) fn outbound(&mut self, now: Instant, inside: SocketAddr, remote: SocketAddr) -> SocketAddr {
        let key = (inside, self.mapping.part(remote));
        let alive = self.mappings.get(&key).is_some_and(|mapping| now < mapping.until);
        if !alive {
            let port = self.next_port;
            self.next_port = self.next_port.checked_add(1).unwrap_or(PORT_MIN);
            self.mappings.insert(key, Mapping { port, until: now, allowed: BTreeMap::new() });
        }
        let until = now + self.timeout;
        let port = self.mappings.get_mut(&key).map_or(0, |mapping| {
            mapping.until = until;
            mapping.allowed.insert(self.filtering.part(remote), until);
            mapping.port
        });
        SocketAddr::new(self.outside, port)
    }

    /// The inside address that a packet from `remote` to the outside `port` reaches; `None`: it is dropped.
    pub(crate) fn inbound(&mut self, now: Instant, port: u16, remote: SocketAddr) -> Option<SocketAddr> {
        let part = self.filtering.part(remote);
        let until = now + self.timeout;
        let ((inside, _), mapping) =
            self.mappings.iter_mut().find(|(_, mapping)| mapping.port == port && now < mapping.until)?;
        let allowed = mapping.allowed.get_mut(&part).filter(|allowed| now < **allowed)?;
        if self.refresh == Refresh::FromBothSides {
            *allowed = until;
            mapping.until = until;
        }
        Some(*inside)
    }

    /// Forgets everything, as at a restart of the router: the next packets get other ports.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4787 §4.1: an endpoint-independent mapping is the same towards every remote side.
    #[test]
    fn the_outside_port_depends_on_the_remote_side_as_the_kind_says() {
        for (kind, same_host, other_host) in [
            (Dependence::EndpointIndependent, true, true),
            (Dependence::AddressDependent, true, false),
            (Dependence::AddressAndPortDependent, false, false),
        ] {
            let mut nat = nat(kind, Dependence::EndpointIndependent);

            let first = nat.outbound(at(0), inside(), remote("198.51.100.1:1"));

            assert_eq!(
                nat.outbound(at(0), inside(), remote("198.51.100.1:2")) == first,
                same_host,
                "{kind:?}"
            );
            assert_eq!(
                nat.outbound(at(0), inside(), remote("198.51.100.2:1")) == first,
                other_host,
                "{kind:?}"
            );
            assert_eq!(nat.outbound(at(0), inside(), remote("198.51.100.1:1")), first);
        }
    }

    // RFC 4787 §5: who may send in.
    #[test]
    fn a_remote_side_gets_in_as_the_kind_of_filtering_says() {
        for (kind, same_host, other_host) in [
            (Dependence::EndpointIndependent, true, true),
            (Dependence::AddressDependent, true, false),
            (Dependence::AddressAndPortDependent, false, false),
        ] {
            let mut nat = nat(Dependence::EndpointIndependent, kind);
            let port = nat.outbound(at(0), inside(), remote("198.51.100.1:1")).port();

            assert_eq!(nat.inbound(at(1), port, remote("198.51.100.1:1")), Some(inside()));
            assert_eq!(nat.inbound(at(1), port, remote("198.51.100.1:2")).is_some(), same_host, "{kind:?}");
            assert_eq!(nat.inbound(at(1), port, remote("198.51.100.2:1")).is_some(), other_host, "{kind:?}");
        }
    }

    #[test]
    fn a_mapping_ends_without_packets_from_inside_and_gets_another_port_then() {
        let mut nat = nat(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
        let first = nat.outbound(at(0), inside(), remote("198.51.100.1:1"));

        assert_eq!(nat.outbound(at(29), inside(), remote("198.51.100.1:1")), first);
        assert!(nat.inbound(at(58), first.port(), remote("198.51.100.1:1")).is_some());
        assert!(nat.inbound(at(59), first.port(), remote("198.51.100.1:1")).is_none());
        assert_ne!(nat.outbound(at(59), inside(), remote("198.51.100.1:1")), first);
    }

    #[test]
    fn a_packet_from_outside_keeps_a_mapping_only_where_the_router_lets_it() {
        for (refresh, alive) in [(Refresh::FromInside, false), (Refresh::FromBothSides, true)] {
            let kinds = (Dependence::EndpointIndependent, Dependence::AddressDependent);
            let mut nat = Nat::new("192.0.2.1".parse().unwrap(), kinds, refresh, Duration::from_secs(30));
            let port = nat.outbound(at(0), inside(), remote("198.51.100.1:1")).port();
            nat.inbound(at(20), port, remote("198.51.100.1:1"));

            assert_eq!(nat.inbound(at(40), port, remote("198.51.100.1:1")).is_some(), alive, "{refresh:?}");
        }
    }

    #[test]
    fn a_router_that_forgot_lets_nothing_in() {
        let mut nat = nat(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
        let first = nat.outbound(at(0), inside(), remote("198.51.100.1:1"));
        nat.forget();

        assert!(nat.inbound(at(1), first.port(), remote("198.51.100.1:1")).is_none());
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
        let outside = "192.0.2.1".parse().unwrap();
        Nat::new(outside, (mapping, filtering), Refresh::FromInside, Duration::from_secs(30))
    }

    fn inside() -> SocketAddr {
        remote("10.0.0.2:5060")
    }

    fn remote(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}

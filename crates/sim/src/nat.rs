//! A NAT router: which outside port an inside address gets, who may send to it, and for how long.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clock::Instant;

/// What an outside port, or the right to send to it, depends on.
// RFC 4787 §4.1: the three kinds of mapping; §5: the same three of filtering.
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

/// One router.
#[derive(Debug)]
pub(crate) struct Nat {
    outside: IpAddr,
    mapping: Dependence,
    filtering: Dependence,
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
    /// A router with one outside address. A mapping ends after `timeout` without a packet from inside.
    pub(crate) fn new(outside: IpAddr, mapping: Dependence, filtering: Dependence, timeout: Duration) -> Self {
        Self { outside, mapping, filtering, timeout, next_port: PORT_MIN, mappings: BTreeMap::new() }
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
    // RFC 4787 §4.3: packets from outside do not have to refresh a mapping; here they do not.
    pub(crate) fn inbound(&self, now: Instant, port: u16, remote: SocketAddr) -> Option<SocketAddr> {
        self.mappings
            .iter()
            .find(|(_, mapping)| mapping.port == port && now < mapping.until)
            .filter(|(_, mapping)| mapping.allowed.get(&self.filtering.part(remote)).is_some_and(|&until| now < until))
            .map(|((inside, _), _)| *inside)
    }

    /// Forgets everything, as at a restart of the router: the next packets get other ports.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }

    /// Forgets what it holds for one inside address.
    pub(crate) fn forget_inside(&mut self, inside: SocketAddr) {
        self.mappings.retain(|(address, _), _| *address != inside);
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

            assert_eq!(nat.outbound(at(0), inside(), remote("198.51.100.1:2")) == first, same_host, "{kind:?}");
            assert_eq!(nat.outbound(at(0), inside(), remote("198.51.100.2:1")) == first, other_host, "{kind:?}");
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
    fn a_router_that_forgot_lets_nothing_in() {
        let mut nat = nat(Dependence::EndpointIndependent, Dependence::EndpointIndependent);
        let first = nat.outbound(at(0), inside(), remote("198.51.100.1:1"));
        nat.forget();

        assert!(nat.inbound(at(1), first.port(), remote("198.51.100.1:1")).is_none());
    }

    fn nat(mapping: Dependence, filtering: Dependence) -> Nat {
        Nat::new("192.0.2.1".parse().unwrap(), mapping, filtering, Duration::from_secs(30))
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

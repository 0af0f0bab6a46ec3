//! From what the operator wrote to what the engine takes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use routing::{Admission, Settings, TrustedPeer};
use transaction::Timers;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

use super::{Config, DigestRule, Listen, Place};
use crate::database::Location;
use crate::destinations;

/// Listeners of one server: each of its threads has a socket for each of them.
pub const LISTENERS_MAX: usize = 256;

/// The configuration is right, but this host can not serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileError {
    /// More listeners than [`LISTENERS_MAX`].
    TooManyListeners {
        /// How many.
        wanted: usize,
    },
    /// `*` on a host without addresses.
    NoAddress,
}

impl Config {
    /// Compiles the settings for a host that has `addresses`. Listeners are numbered in their order; the
    /// server gives them numbers that last over reloads. The virtual addresses count as its own, whether it
    /// has them now or not.
    pub fn compile(&self, addresses: &[IpAddr]) -> Result<Settings, CompileError> {
        let virtual_addresses = self.cluster.iter().flat_map(|cluster| &cluster.addresses);
        let addresses: BTreeSet<IpAddr> = addresses.iter().chain(virtual_addresses).copied().collect();
        let spread = spread(&self.sip.listen, &addresses);
        if spread.is_empty() {
            return Err(CompileError::NoAddress);
        }
        if spread.len() > LISTENERS_MAX {
            return Err(CompileError::TooManyListeners { wanted: spread.len() });
        }
        let listeners: Vec<Listener> = spread
            .into_iter()
            .zip(0..)
            .map(|((listen, local), number)| Listener {
                id: ListenerId(number),
                transport: listen.transport,
                local: LocalAddr(local),
                advertise: listen.advertise.clone(),
                digest: listen.digest == DigestRule::On,
            })
            .collect();
        let listeners = Arc::new(Listeners::new(listeners));
        Ok(Settings {
            // Destinations of a table come later, where it was read.
            dial_plan: destinations::fill(&self.dial_plan, &[], &listeners).plan,
            listeners,
            domains: self.sip.domains.iter().cloned().collect(),
            server: self.sip.server.clone(),
            timers: Timers { t1: self.sip.timer_t1, t2: self.sip.timer_t2, t4: self.sip.timer_t4 },
            proxy: self.sip.proxy.clone(),
            registrar: self.registrar.clone(),
            digest: self.digest.clone(),
            nat: self.nat.clone(),
            trusted: self.trusted.iter().cloned().chain(self.gateway_peers()).collect(),
            edges: self.edges.clone(),
            is_location_published: self.database.url.is_some() && self.database.location != Location::Off,
            location_peers: match self.database.location {
                Location::Shared => self.database.location_peers.clone(),
                Location::Off | Location::Own => Default::default(),
            },
            trunks: self.trunks.clone(),
            relay: routing::RelayRules {
                default: self.relay.anchoring,
                named: self.relay.named,
                ..Default::default()
            },
            admission: self.admission(),
        })
    }

    /// Gateways that send calls are trusted peers.
    fn gateway_peers(&self) -> impl Iterator<Item = TrustedPeer> + '_ {
        self.dial_plan.gateways.iter().flat_map(|gateway| {
            let name = gateway.name.to_string();
            gateway.sources.iter().map(move |network| TrustedPeer { network: *network, name: name.clone() })
        })
    }

    /// The rules with the addresses by which the host speaks to itself, which are never held.
    fn admission(&self) -> Admission {
        let mut admission = self.admission.clone();
        admission.never.extend(LOOPBACK);
        admission
    }
}

const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

/// Puts every address of the host where `*` stands. An address that an entry names itself is left to
/// that entry, because it says more about it.
fn spread<'a>(entries: &'a [Listen], addresses: &BTreeSet<IpAddr>) -> Vec<(&'a Listen, SocketAddr)> {
    let mut seen: BTreeSet<(Transport, SocketAddr)> = entries
        .iter()
        .filter_map(|listen| match listen.place {
            Place::At(local) => Some((listen.transport, local)),
            Place::EveryAddress { .. } => None,
        })
        .collect();
    let mut listeners = Vec::new();
    for listen in entries {
        match listen.place {
            Place::At(local) => listeners.push((listen, local)),
            Place::EveryAddress { port } => {
                let everywhere = addresses.iter().map(|address| SocketAddr::new(*address, port));
                listeners.extend(
                    everywhere
                        .filter(|local| seen.insert((listen.transport, *local)))
                        .map(|local| (listen, local)),
                );
            }
        }
    }
    listeners
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooManyListeners { wanted } => write!(
                formatter,
                "sip.listen means {wanted} listeners on this host, and at most {LISTENERS_MAX} are served: name the \
                 addresses instead of `*`"
            ),
            Self::NoAddress => formatter.write_str(
                "sip.listen says `*`, but this host has no address: name one, it may be an address that comes later",
            ),
        }
    }
}

impl std::error::Error for CompileError {}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_star_is_every_address_but_those_that_are_named() {
        let settings =
            compile("[sip]\nlisten = [\"udp://*:5060\", \"udp://10.0.0.5:5060 advertise 203.0.113.10\"]")
                .expect("it is right");

        let listeners: Vec<_> = settings
            .listeners
            .iter()
            .map(|listener| (listener.local.to_string(), listener.advertise.is_some()))
            .collect();
        assert_eq!(
            listeners,
            [
                ("127.0.0.1:5060".to_owned(), false),
                ("[2001:db8::5]:5060".to_owned(), false),
                ("10.0.0.5:5060".to_owned(), true),
            ]
        );
    }

    #[test]
    fn a_star_is_the_virtual_addresses_too_whether_the_host_has_them_or_not() {
        let cluster = "[cluster]\naddresses = ['192.0.2.10', '10.0.0.5']\n\
                       [[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n\
                       [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n[sip]\nlisten = ['udp://*:5060']";

        let settings = compile(cluster).expect("it is right");

        let listeners: Vec<_> =
            settings.listeners.iter().map(|listener| listener.local.to_string()).collect();
        assert_eq!(listeners, ["10.0.0.5:5060", "127.0.0.1:5060", "192.0.2.10:5060", "[2001:db8::5]:5060"]);
    }

    #[test]
    fn too_many_listeners_are_refused() {
        let many: Vec<_> = (0..300).map(|port| format!("'udp://10.0.0.5:{}'", 6000 + port)).collect();

        let error = compile(&format!("[sip]\nlisten = [{}]", many.join(",")));

        assert_eq!(error.err(), Some(CompileError::TooManyListeners { wanted: 300 }));
    }

    #[test]
    fn the_host_itself_is_never_held_whatever_the_file_says() {
        let settings = compile("[admission]\nnever = ['198.51.100.0/24']").expect("it is right");

        for (address, is_never) in
            [("127.0.0.1", true), ("::1", true), ("198.51.100.7", true), ("10.0.0.5", false)]
        {
            assert_eq!(settings.is_never_held(address.parse().expect("an address")), is_never, "{address}");
        }
    }

    #[test]
    fn a_star_on_a_host_without_addresses_is_refused() {
        let error = Config::default().compile(&[]);

        assert_eq!(error.err(), Some(CompileError::NoAddress));
    }

    fn compile(text: &str) -> Result<Settings, CompileError> {
        let addresses =
            ["127.0.0.1", "10.0.0.5", "2001:db8::5"].map(|text| text.parse().expect("an address"));
        Config::parse(Path::new("tandem.toml"), text).expect("it is right").compile(&addresses)
    }
}

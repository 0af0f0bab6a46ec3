//! Whether the interface has its carrier, and whether the gateways behind it answer.
//!
//! The kernel tells of a carrier that is lost, and so does this, at once. Gateways are asked every second, by ARP or
//! neighbour discovery: the active node asks with the virtual address as sender, which tells the gateway once more where
//! that is; a standby asks with an address of its own or with none (RFC 5227 §2.1), because the gateway would learn that the
//! virtual address is here.
//!
//! A gateway that is found by the default route and loses it is still asked, until another one is found: that its route
//! is gone says nothing of the gateway.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::host::{Announcer, Changes, Interface, InterfaceError, Network as HostNetwork, Seen, Watch};
use cluster::health::{AT_ONCE, Check, Patience};

use super::{Plan, Told};
use crate::config::cluster::GatewayCheck;
use crate::guardian::standing::Standing;

/// Between two questions to one gateway.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// One lost question is no lost gateway.
const PATIENCE: Patience = Patience { failures: 3, successes: 2 };

/// How often it is looked whether the check is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Gateways that are asked: a host has one or two.
const GATEWAYS_MAX: usize = 8;

/// Answers that are read before others have their turn.
const ANSWERS_MAX: usize = 256;

/// The check of one interface.
pub(super) struct Network {
    name: String,
    addresses: Vec<IpAddr>,
    wanted: Vec<GatewayCheck>,
    standing: Arc<Standing>,
    /// What is asked with; `None`: the interface is not there, or this process may not.
    line: Option<Line>,
    gateways: Gateways,
    has_warned: bool,
}

struct Line {
    interface: Interface,
    announcer: Announcer,
    watch: Watch,
}

impl Network {
    pub(super) fn new(name: &str, plan: &Plan, standing: Arc<Standing>) -> Self {
        Self {
            name: name.to_owned(),
            addresses: plan.addresses.clone(),
            wanted: plan.gateways.clone(),
            standing,
            line: None,
            gateways: Gateways::default(),
            has_warned: false,
        }
    }

    pub(super) fn run(mut self, told: &Told) {
        let mut changes = match Changes::open() {
            Ok(changes) => changes,
            Err(error) => {
                tracing::warn!(%error, interface = self.name, "the carrier and the gateways can not be checked");
                return;
            }
        };
        self.look(told);
        let mut asked = Instant::now();
        self.ask();
        while !told.halt.is_set() {
            let left = (asked + ASKED_EVERY).saturating_duration_since(Instant::now()).min(LOOK_EVERY);
            let mut descriptors = vec![changes.as_fd()];
            descriptors.extend(self.line.as_ref().map(|line| line.watch.as_fd()));
            if let Err(error) = ::host::wait_readable(&descriptors, left) {
                tracing::warn!(%error, "the network can not be watched");
                return;
            }
            // What can not be read may have been a change.
            if changes.take().map_or(true, |changed| changed.is_any()) {
                self.look(told);
            }
            self.hear();
            if asked.elapsed() >= ASKED_EVERY {
                asked = Instant::now();
                self.judge(told);
                self.ask();
            }
        }
    }

    /// Looks at the interface and for gateways.
    fn look(&mut self, told: &Told) {
        let carrier = Check::Carrier(self.name.as_str().into());
        let interface = match Interface::find(&self.name) {
            Ok(interface) => interface,
            Err(error) => {
                self.line = None;
                // That the kernel does not answer says nothing of the interface.
                if !matches!(error, InterfaceError::Kernel(_)) {
                    told.result(carrier, AT_ONCE, Err(error.to_string()));
                }
                return;
            }
        };
        let result = match interface.has_carrier {
            true => Ok(()),
            false => Err(format!("{} has no carrier: the cable, or the other end of it", self.name)),
        };
        told.result(carrier, AT_ONCE, result);
        self.connect(&interface);
        let found = match self.wanted.contains(&GatewayCheck::Default) {
            true => ::host::default_gateways(&interface).unwrap_or_default(),
            false => Vec::new(),
        };
        let named = self.wanted.iter().filter_map(|wanted| match wanted {
            GatewayCheck::At(address) => Some(*address),
            GatewayCheck::Default => None,
        });
        let families = |address: &IpAddr| self.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
        for gone in self.gateways.renew(named, found.into_iter().filter(families)) {
            told.unchecked(check_of(gone));
        }
    }

    /// Opens the sockets anew if the interface is another one than before.
    fn connect(&mut self, interface: &Interface) {
        let is_same =
            |line: &Line| (line.interface.index, line.interface.mac) == (interface.index, interface.mac);
        if self.wanted.is_empty() || self.line.as_ref().is_some_and(is_same) {
            return;
        }
        let open = || -> std::io::Result<Line> {
            Ok(Line {
                interface: interface.clone(),
                announcer: Announcer::open(interface.clone())?,
                watch: Watch::open(interface.clone(), self.addresses.clone())?,
            })
        };
        match open() {
            Ok(line) => self.line = Some(line),
            Err(error) => {
                self.line = None;
                if !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(%error, interface = self.name, "gateways can not be asked: it needs CAP_NET_RAW");
                }
            }
        }
    }

    fn ask(&mut self) {
        let Some(line) = &self.line else { return };
        let is_active = self.standing.is_active();
        let networks = if is_active { Vec::new() } else { ::host::networks().unwrap_or_default() };
        for gateway in self.gateways.ask() {
            let sender = match is_active {
                true => self.addresses.iter().copied().find(|own| own.is_ipv4() == gateway.is_ipv4()),
                false => own_address(&networks, line.interface.index, &self.addresses, gateway),
            };
            // One that could not be sent is one that is not answered.
            let _ = line.announcer.ask(sender, gateway);
        }
    }

    fn hear(&mut self) {
        let Some(line) = &self.line else { return };
        for _ in 0..ANSWERS_MAX {
            match line.watch.next() {
                Some(Seen::Neighbour(address)) => self.gateways.heard(address),
                Some(Seen::Claim(..)) => {}
                None => return,
            }
        }
    }

    fn judge(&mut self, told: &Told) {
        // Who could not ask knows nothing; that the interface is not there is told by the carrier.
        if self.line.is_none() {
            return;
        }
        for (gateway, is_answered) in self.gateways.results() {
            let protocol = if gateway.is_ipv4() { "ARP" } else { "neighbour discovery" };
            let result = match is_answered {
                true => Ok(()),
                false => Err(format!("no answer by {protocol} on {}", self.name)),
            };
            told.result(check_of(gateway), PATIENCE, result);
        }
    }
}

fn check_of(gateway: IpAddr) -> Check {
    Check::Gateway(gateway.to_string().into())
}

/// An address of the interface itself to ask with: of the gateway's network if there is one, which it answers for sure.
fn own_address(
    networks: &[HostNetwork],
    index: u32,
    virtual_addresses: &[IpAddr],
    gateway: IpAddr,
) -> Option<IpAddr> {
    let own = || {
        networks.iter().filter(|network| {
            network.index == index
                && network.address.is_ipv4() == gateway.is_ipv4()
                && !virtual_addresses.contains(&network.address)
        })
    };
    let is_near = |network: &&HostNetwork| {
        let net = ipnet::IpNet::new(network.address, network.prefix);
        net.is_ok_and(|net| net.contains(&gateway))
    };
    own().find(is_near).or_else(|| own().next()).map(|network| network.address)
}

/// The gateways that are asked.
#[derive(Debug, Default)]
struct Gateways {
    known: BTreeMap<IpAddr, Gateway>,
}

#[derive(Clone, Copy, Debug)]
struct Gateway {
    /// Whether it is asked because a default route names it.
    is_found: bool,
    is_asked: bool,
    is_answered: bool,
}

impl Gateways {
    /// Takes those that are named and those that were found; gives those that are not asked any more.
    fn renew(
        &mut self,
        named: impl Iterator<Item = IpAddr>,
        found: impl Iterator<Item = IpAddr>,
    ) -> Vec<IpAddr> {
        let mut wanted: BTreeMap<IpAddr, bool> = named.map(|address| (address, false)).collect();
        let found: Vec<IpAddr> = found.collect();
        for is_ipv4 in [true, false] {
            let family: Vec<IpAddr> =
                found.iter().copied().filter(|address| address.is_ipv4() == is_ipv4).collect();
            let kept = self.known.iter().filter(|(address, gateway)| {
                gateway.is_found && address.is_ipv4() == is_ipv4 && family.is_empty()
            });
            let kept: Vec<IpAddr> = kept.map(|(address, _)| *address).collect();
            for address in family.into_iter().chain(kept) {
                wanted.entry(address).or_insert(true);
            }
        }
        while wanted.len() > GATEWAYS_MAX {
            wanted.pop_last();
        }
        let gone: Vec<IpAddr> =
            self.known.keys().copied().filter(|address| !wanted.contains_key(address)).collect();
        self.known.retain(|address, _| wanted.contains_key(address));
        for (address, is_found) in wanted {
            let fresh = Gateway { is_found, is_asked: false, is_answered: false };
            self.known.entry(address).or_insert(fresh).is_found = is_found;
        }
        gone
    }

    /// Each is asked now.
    fn ask(&mut self) -> Vec<IpAddr> {
        for gateway in self.known.values_mut() {
            gateway.is_asked = true;
            gateway.is_answered = false;
        }
        self.known.keys().copied().collect()
    }

    fn heard(&mut self, address: IpAddr) {
        if let Some(gateway) = self.known.get_mut(&address) {
            gateway.is_answered = true;
        }
    }

    /// Whether each that was asked has answered.
    fn results(&self) -> impl Iterator<Item = (IpAddr, bool)> {
        self.known
            .iter()
            .filter(|(_, gateway)| gateway.is_asked)
            .map(|(address, gateway)| (*address, gateway.is_answered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_does_not_answer_fails_and_one_that_does_passes() {
        let mut gateways = Gateways::default();
        gateways.renew([at("192.0.2.1")].into_iter(), [at("fe80::1")].into_iter());
        assert_eq!(gateways.results().count(), 0, "who was not asked needs not answer");

        gateways.ask();
        gateways.heard(at("fe80::1"));
        gateways.heard(at("192.0.2.77"));

        assert_eq!(gateways.results().collect::<Vec<_>>(), [(at("192.0.2.1"), false), (at("fe80::1"), true)]);
        gateways.ask();
        assert!(gateways.results().all(|(_, is_answered)| !is_answered), "an answer counts once");
    }

    #[test]
    fn another_default_route_replaces_the_gateway_and_none_keeps_it() {
        let mut gateways = Gateways::default();
        let named = || [at("192.0.2.99")].into_iter();
        gateways.renew(named(), [at("192.0.2.1"), at("fe80::1")].into_iter());

        assert!(gateways.renew(named(), [at("fe80::1")].into_iter()).is_empty());
        assert_eq!(gateways.ask(), [at("192.0.2.1"), at("192.0.2.99"), at("fe80::1")]);
        let gone = gateways.renew(named(), [at("192.0.2.2"), at("fe80::1")].into_iter());

        assert_eq!(gone, [at("192.0.2.1")]);
        assert_eq!(gateways.ask(), [at("192.0.2.2"), at("192.0.2.99"), at("fe80::1")]);
    }

    #[test]
    fn more_gateways_than_a_host_has_are_not_asked() {
        let mut gateways = Gateways::default();

        gateways.renew((0..100).map(|last| IpAddr::from([10, 0, 0, last])), std::iter::empty());

        assert_eq!(gateways.ask().len(), GATEWAYS_MAX);
    }

    #[test]
    fn a_standby_asks_with_an_address_of_its_own_and_never_with_the_virtual_one() {
        let vips = [at("192.0.2.9"), at("2001:db8::9")];
        let networks = [
            network(2, "192.0.2.9", 24),
            network(2, "10.0.0.7", 24),
            network(2, "192.0.2.7", 24),
            network(2, "2001:db8::9", 128),
            network(2, "fe80::7", 64),
            network(3, "198.51.100.7", 24),
        ];
        let own = |gateway: &str| own_address(&networks, 2, &vips, at(gateway));

        assert_eq!(own("192.0.2.1"), Some(at("192.0.2.7")));
        assert_eq!(own("198.51.100.1"), Some(at("10.0.0.7")), "of no network of the interface");
        assert_eq!(own("fe80::1"), Some(at("fe80::7")));
        assert_eq!(own_address(&networks[..1], 2, &vips, at("192.0.2.1")), None);
    }

    fn network(index: u32, address: &str, prefix: u8) -> HostNetwork {
        let interface = format!("eth{index}");
        HostNetwork { index, interface, is_loopback: false, address: at(address), prefix }
    }

    fn at(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}

//! Routes of the kernel: those of the main table by one interface, and a table of our own with a rule that leads there.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::Netlink;

/// The number of our table, and of the rules' place: that of the link's port, which nobody else is likely to have chosen.
pub(super) const TABLE: u32 = 7950;

/// Marks what is ours: none of the numbers that routing daemons have.
const OURS: RouteProtocol = RouteProtocol::Other(195);

/// The kernel's main table.
const MAIN: u32 = 254;

/// The two families of addresses.
pub(super) const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A route by one interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Route {
    /// `None`: a network on the interface itself. In order before those that have one, which need it.
    pub gateway: Option<IpAddr>,
    /// Whether the gateway is reached though it is in no network of the interface.
    pub is_on_link: bool,
    pub network: IpAddr,
    pub prefix: u8,
    pub metric: u32,
}

impl Route {
    pub(super) fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

/// The kernel's routes.
pub(super) struct Table {
    netlink: Netlink,
}

impl Table {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open_strict()? })
    }

    /// The main table's routes by an interface, in order.
    pub(super) fn main_by(&mut self, interface: u32) -> io::Result<Vec<Route>> {
        self.list(MAIN, Some(interface))
    }

    /// The interface and the metric of the main table's best default route of a family.
    pub(super) fn best_default(&mut self, family: AddressFamily) -> io::Result<Option<u32>> {
        let mut best: Option<(u32, u32)> = None;
        for message in self.messages(family, MAIN, None)? {
            if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
                continue;
            }
            let metric = metric_of(&message);
            if let Some(interface) = interface_of(&message)
                && best.is_none_or(|(known, _)| metric < known)
            {
                best = Some((metric, interface));
            }
        }
        Ok(best.map(|(_, interface)| interface))
    }

    /// Makes our table hold just these routes by an interface. What is there already is not touched.
    pub(super) fn fill(&mut self, interface: u32, wanted: &[Route]) -> io::Result<()> {
        let mut there = Vec::new();
        for family in FAMILIES {
            there.extend(self.messages(family, TABLE, None)?);
        }
        let known: Vec<Option<Route>> = there.iter().map(|message| route_of(message, interface)).collect();
        let is_known = |route: &Route| known.iter().any(|known| known.as_ref() == Some(route));
        for route in wanted.iter().filter(|route| !is_known(route)) {
            let message = RouteNetlinkMessage::NewRoute(message(interface, route));
            match self.netlink.change(message, NLM_F_CREATE | NLM_F_REPLACE) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => other?,
            }
        }
        for (message, route) in there.into_iter().zip(known) {
            if !route.is_some_and(|route| wanted.contains(&route)) {
                self.remove(message)?;
            }
        }
        Ok(())
    }

    /// Empties our table.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        for family in FAMILIES {
            for there in self.messages(family, TABLE, None)? {
                self.remove(there)?;
            }
        }
        Ok(())
    }

    /// Leads what is sent from an address to our table.
    pub(super) fn add_rule(&mut self, address: IpAddr) -> io::Result<()> {
        match self.netlink.change(RouteNetlinkMessage::NewRule(rule(address)), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes our rules, also those of a guardian that died.
    pub(super) fn remove_rules(&mut self) -> io::Result<()> {
        for family in FAMILIES {
            for rule in self.rules(family)? {
                let is_ours = rule.attributes.contains(&RuleAttribute::Table(TABLE))
                    && rule.attributes.contains(&RuleAttribute::Protocol(OURS));
                if is_ours {
                    gone(self.netlink.change(RouteNetlinkMessage::DelRule(rule), 0))?;
                }
            }
        }
        Ok(())
    }

    /// Whether some rule, ours or the operator's, is for what is sent from this address.
    pub(super) fn has_rule_for(&mut self, address: IpAddr) -> io::Result<bool> {
        let rules = self.rules(family_of(address))?;
        Ok(rules.iter().any(|rule| {
            rule.header.src_len > 0
                && rule.attributes.iter().any(|attribute| match attribute {
                    RuleAttribute::Source(network) => is_within(address, *network, rule.header.src_len),
                    _ => false,
                })
        }))
    }

    fn rules(&mut self, family: AddressFamily) -> io::Result<Vec<RuleMessage>> {
        let mut question = RuleMessage::default();
        question.header.family = family;
        let listed = match self.netlink.list(RouteNetlinkMessage::GetRule(question)) {
            // A kernel without IPv6, or without rules at all.
            Err(error) if is_no_such(&error) => Vec::new(),
            other => other?,
        };
        Ok(listed
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRule(rule) => Some(rule),
                _ => None,
            })
            .collect())
    }

    fn list(&mut self, table: u32, interface: Option<u32>) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in FAMILIES {
            let messages = self.messages(family, table, interface)?;
            routes.extend(messages.iter().filter_map(|message| route_of(message, interface?)));
        }
        routes.sort();
        routes.dedup();
        Ok(routes)
    }

    fn messages(
        &mut self,
        family: AddressFamily,
        table: u32,
        interface: Option<u32>,
    ) -> io::Result<Vec<RouteMessage>> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.attributes.push(RouteAttribute::Table(table));
        question.attributes.extend(interface.map(RouteAttribute::Oif));
        let listed = match self.netlink.list(RouteNetlinkMessage::GetRoute(question)) {
            // A table that has never held a route is not there; nor is a family that the kernel lacks.
            Err(error) if is_no_such(&error) => Vec::new(),
            other => other?,
        };
        Ok(listed
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) if table_of(&route) == table => Some(route),
                _ => None,
            })
            .collect())
    }

    fn remove(&mut self, route: RouteMessage) -> io::Result<()> {
        let mut named = RouteMessage::default();
        named.header = RouteHeader { flags: RouteFlags::empty(), ..route.header };
        named.attributes = route
            .attributes
            .into_iter()
            .filter(|attribute| {
                matches!(
                    attribute,
                    RouteAttribute::Destination(_)
                        | RouteAttribute::Gateway(_)
                        | RouteAttribute::Oif(_)
                        | RouteAttribute::Priority(_)
                        | RouteAttribute::Table(_)
                )
            })
            .collect();
        gone(self.netlink.change(RouteNetlinkMessage::DelRoute(named), 0))
    }
}

/// The route that a message tells of, if it is one of the plain kind by this interface.
fn route_of(message: &RouteMessage, interface: u32) -> Option<Route> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut route = Route {
        gateway: None,
        is_on_link: message.header.flags.contains(RouteFlags::Onlink),
        network: unspecified,
        prefix: message.header.destination_prefix_length,
        metric: metric_of(message),
    };
    let mut is_by_interface = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => is_by_interface |= *index == interface,
            RouteAttribute::Gateway(gateway) => route.gateway = address_of(gateway),
            RouteAttribute::Destination(network) => route.network = address_of(network)?,
            // Of several ways the one by this interface.
            RouteAttribute::MultiPath(hops) => {
                let hop = hops.iter().find(|hop| hop.interface_index == interface)?;
                is_by_interface = true;
                route.gateway = hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(gateway) => address_of(gateway),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    is_by_interface.then_some(route)
}

fn message(interface: u32, route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(route.network);
    message.header.destination_prefix_length = route.prefix;
    message.header.protocol = OURS;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (route.gateway, route.network) {
        (None, IpAddr::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if route.is_on_link {
        message.header.flags = RouteFlags::Onlink;
    }
    message.attributes = vec![RouteAttribute::Table(TABLE), RouteAttribute::Oif(interface)];
    if !route.is_default() {
        message.attributes.push(RouteAttribute::Destination(route.network.into()));
    }
    message.attributes.extend(route.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

fn rule(address: IpAddr) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family_of(address);
    message.header.src_len = if address.is_ipv4() { 32 } else { 128 };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Source(address),
        RuleAttribute::Priority(TABLE),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Protocol(OURS),
    ];
    message
}

fn table_of(message: &RouteMessage) -> u32 {
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    named.unwrap_or(u32::from(message.header.table))
}

fn metric_of(message: &RouteMessage) -> u32 {
    let named = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    named.unwrap_or_default()
}

fn interface_of(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
        _ => None,
    })
}

fn address_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

pub(super) fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Whether an address lies in a network.
pub(super) fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

fn is_no_such(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
}

/// What is to be removed and is not there is no error: it went with its interface.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH | libc::ENODEV)) => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_shares_its_prefix() {
        let holds = |address: &str, network: &str, prefix| {
            is_within(address.parse().expect("an address"), network.parse().expect("an address"), prefix)
        };

        assert!(holds("192.0.2.9", "192.0.2.0", 24) && !holds("192.0.3.9", "192.0.2.0", 24));
        assert!(holds("192.0.2.9", "0.0.0.0", 0) && holds("192.0.2.9", "192.0.2.9", 32));
        assert!(holds("2001:db8::9", "2001:db8::", 64) && !holds("2001:db8:0:1::9", "2001:db8::", 64));
        assert!(!holds("192.0.2.9", "::", 0));
    }

    #[test]
    fn networks_of_the_interface_come_before_the_gateways_in_them() {
        let gateway = Some("192.0.2.1".parse().expect("an address"));
        let zero = IpAddr::from([0; 4]);
        let network = IpAddr::from([192, 0, 2, 0]);
        let on = |gateway, network, prefix| Route { gateway, is_on_link: false, network, prefix, metric: 0 };
        let mut routes = [on(gateway, zero, 0), on(None, network, 24)];

        routes.sort();

        assert_eq!(routes.map(|route| route.prefix), [24, 0]);
    }
}

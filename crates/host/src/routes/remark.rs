//! What is wrong on a host whose routes the guardian does not manage.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;

use super::setting::Setting;
use super::table::{Route, TABLE, Table, family_of};
use super::{ARP_SETTINGS, neighbours_of, wanted};
use crate::interface::{Interface, networks};

/// Something on the host that stands in the way, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// What is wrong, and what comes of it.
    pub what: String,
    /// The command that mends it, or the line of the configuration.
    pub mend: String,
}

/// What of the host's routes and settings would let a virtual address be spoken for past its interface, or not at all.
/// `gateways` are those of the configuration, for hosts without a default route by the interface.
pub fn remarks(interface: &Interface, addresses: &[IpAddr], gateways: &[IpAddr]) -> io::Result<Vec<Remark>> {
    let mut found = Vec::new();
    let networks = networks()?;
    let others = neighbours_of(interface, addresses, &networks);
    if addresses.iter().any(IpAddr::is_ipv4) {
        found.extend(arp_remarks(interface, &others));
    }
    let mut table = Table::open()?;
    let wanted = wanted(&mut table, interface, addresses, gateways)?;
    for family in families_of(addresses) {
        let there: Vec<IpAddr> =
            addresses.iter().copied().filter(|address| family_of(*address) == family).collect();
        let leads_elsewhere = table.best_default(family)?.is_some_and(|by| by != interface.index);
        let mut lacking = Vec::new();
        for address in &there {
            if leads_elsewhere && !table.has_rule_for(*address)? {
                lacking.push(*address);
            }
        }
        if !lacking.is_empty() {
            let routes: Vec<&Route> =
                wanted.iter().filter(|route| family_of(route.network) == family).collect();
            found.push(route_remark(interface, family, &lacking, &routes));
        }
    }
    if addresses.iter().any(IpAddr::is_ipv6)
        && Setting::new("ipv6", &interface.name, "disable_ipv6").read() == Some(1)
    {
        let name = Setting::new("ipv6", &interface.name, "disable_ipv6").name();
        found.push(Remark {
            what: format!("IPv6 is off on {}: no IPv6 address can be added there", interface.name),
            mend: format!("sysctl -w {name}=0"),
        });
    }
    Ok(found)
}

fn families_of(addresses: &[IpAddr]) -> impl Iterator<Item = AddressFamily> {
    super::table::FAMILIES
        .into_iter()
        .filter(|family| addresses.iter().any(|address| family_of(*address) == *family))
}

fn arp_remarks(interface: &Interface, others: &BTreeSet<&str>) -> Vec<Remark> {
    let mut found = Vec::new();
    for (name, value) in ARP_SETTINGS {
        let all = Setting::new("ipv4", "all", name);
        // The kernel takes the larger of the two.
        let in_force = |other: &str| all.read().max(Setting::new("ipv4", other, name).read());
        let wrong: Vec<&str> =
            others.iter().copied().filter(|other| in_force(other).is_some_and(|it| it < value)).collect();
        if wrong.is_empty() {
            continue;
        }
        let wrong = wrong.join(", ");
        let what = match name {
            "arp_ignore" => format!(
                "{wrong} is in the same network as {} and answers ARP for its virtual addresses, past the gate",
                interface.name
            ),
            _ => format!(
                "{wrong} is in the same network as {} and may ask by ARP with a virtual address, past the gate",
                interface.name
            ),
        };
        found.push(Remark { what, mend: format!("sysctl -w {}={value}", all.name()) });
    }
    found
}

fn route_remark(
    interface: &Interface,
    family: AddressFamily,
    addresses: &[IpAddr],
    routes: &[&Route],
) -> Remark {
    let device = &interface.name;
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    let mut what = format!("what is sent from {names} leaves by the default route and not by {device}");
    // The kernel takes the larger of the two; 1 is strict.
    let rp_filter = ["all", device].map(|at| Setting::new("ipv4", at, "rp_filter").read());
    if family == AddressFamily::Inet && rp_filter.into_iter().flatten().max() == Some(1) {
        what.push_str("; and what comes to it from beyond is dropped (rp_filter = 1)");
    }
    if !routes.iter().any(|route| route.is_default()) {
        let mend = format!(
            "write the gateway of {device} into cluster.gateways and set manage_routes = true, or add routes and a rule \
             `from {names}` by hand"
        );
        return Remark { what, mend };
    }
    let ip = if family == AddressFamily::Inet { "ip" } else { "ip -6" };
    let mut commands: Vec<String> = routes
        .iter()
        .map(|route| {
            let network = match route.is_default() {
                true => "default".to_owned(),
                false => format!("{}/{}", route.network, route.prefix),
            };
            let via = route.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            let on_link = if route.is_on_link { " onlink" } else { "" };
            format!("{ip} route replace {network}{via} dev {device} table {TABLE}{on_link}")
        })
        .collect();
    commands.extend(
        addresses.iter().map(|address| format!("{ip} rule add from {address} lookup {TABLE} pref {TABLE}")),
    );
    Remark { what, mend: commands.join(" && ") }
}

//! What a host needs so that the virtual addresses are spoken for by their own interface alone.
//!
//! Two things go wrong on a host with several interfaces. What is sent from a virtual address follows the default route,
//! which may lead elsewhere: past the gate, and to a router that drops it. And Linux answers ARP for each of its addresses
//! on every interface: a neighbour that can be reached by two learns the wrong hardware address, past the gate again.
//!
//! [`Routes`] mends both: a table of its own holds the main table's routes by the interface, a rule leads there what is sent
//! from a virtual address, and `arp_ignore` and `arp_announce` are raised where another interface is in the same network.
//! [`remarks`] tells what is wrong instead, with the command that mends it.
//!
//! Nothing of the operator's is changed but those settings, and they are restored at a clean stop, or by the next guardian
//! after a crash: what they were is on disk first. Virtual addresses are /32 and /128, networks of their own, so that
//! `promote_secondaries` is of no concern.

mod remark;
mod setting;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::interface::{Interface, Network, networks};
use setting::{Changed, Setting};
use table::{Route, Table, family_of, is_within};

pub use remark::{Remark, remarks};

/// Routes by one interface that are copied: those of a host, not those of the Internet.
const ROUTES_MAX: usize = 1_000;

/// The routes could not be set.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The kernel's tables.
    #[error("the routes of the virtual addresses can not be set: {0}")]
    Table(io::Error),
    /// One setting.
    #[error("{name} can not be set to {value}: {reason}")]
    Setting {
        /// Which.
        name: String,
        /// To what.
        value: u8,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The file that keeps what was before.
    #[error("{}: what the kernel's settings were before can not be kept: {reason}", file.display())]
    Kept {
        /// Which.
        file: PathBuf,
        /// What went wrong.
        reason: io::Error,
    },
}

/// The rules, the table and the settings that are in force for the virtual addresses.
pub struct Routes {
    table: Table,
    interface: Interface,
    addresses: Vec<IpAddr>,
    gateways: Vec<IpAddr>,
    kept: PathBuf,
    changed: Vec<Changed>,
}

impl Routes {
    /// Sets all of it. `gateways` are used where the main table has no default route by the interface. `kept` is the file
    /// that remembers what was before; what a dead guardian has left there still counts as that.
    pub fn set(
        interface: Interface,
        addresses: Vec<IpAddr>,
        gateways: Vec<IpAddr>,
        kept: &Path,
    ) -> Result<Self, RoutesError> {
        let changed = read_kept(kept)?;
        let mut this = Self {
            table: Table::open().map_err(RoutesError::Table)?,
            interface,
            addresses,
            gateways,
            kept: kept.to_owned(),
            changed,
        };
        this.table.remove_rules().map_err(RoutesError::Table)?;
        this.fill().map_err(RoutesError::Table)?;
        for address in this.addresses.clone() {
            this.table.add_rule(address).map_err(RoutesError::Table)?;
        }
        this.raise_settings()?;
        Ok(this)
    }

    /// Takes up what has changed in the main table and among the interfaces.
    pub fn refresh(&mut self) -> Result<(), RoutesError> {
        self.fill().map_err(RoutesError::Table)?;
        self.raise_settings()
    }

    /// Takes everything away and restores the settings.
    pub fn restore(mut self) -> Result<(), RoutesError> {
        remove(&mut self.table, &self.kept, &self.changed)
    }

    /// Takes away what a guardian has left that died while it managed the routes.
    pub fn clean(kept: &Path) -> Result<(), RoutesError> {
        let mut table = Table::open().map_err(RoutesError::Table)?;
        remove(&mut table, kept, &read_kept(kept)?)
    }

    fn fill(&mut self) -> io::Result<()> {
        let wanted = wanted(&mut self.table, &self.interface, &self.addresses, &self.gateways)?;
        self.table.fill(self.interface.index, &wanted)
    }

    fn raise_settings(&mut self) -> Result<(), RoutesError> {
        let networks = networks().map_err(RoutesError::Table)?;
        if neighbours_of(&self.interface, &self.addresses, &networks).is_empty() {
            return Ok(());
        }
        for (name, ours) in ARP_SETTINGS {
            let setting = Setting::new("ipv4", "all", name);
            let Some(before) = setting.read().filter(|before| *before < ours) else { continue };
            // Raised once more after the operator has lowered it: what was before is still what was before.
            if !self.changed.iter().any(|known| known.setting == setting) {
                self.changed.push(Changed { setting: setting.clone(), before, ours });
                setting::keep(&self.kept, &self.changed)
                    .map_err(|reason| RoutesError::Kept { file: self.kept.clone(), reason })?;
            }
            setting.write(ours).map_err(|reason| RoutesError::Setting {
                name: setting.name(),
                value: ours,
                reason,
            })?;
        }
        Ok(())
    }
}

/// The gateways of the main table's default routes by an interface: what hosts beyond its networks are reached through.
pub fn default_gateways(interface: &Interface) -> io::Result<Vec<IpAddr>> {
    let routes = Table::open()?.main_by(interface.index)?;
    let gateways: BTreeSet<IpAddr> =
        routes.iter().filter(|route| route.is_default()).filter_map(|route| route.gateway).collect();
    Ok(gateways.into_iter().collect())
}

/// With 1 an interface answers ARP only for the addresses that it has itself; with 2 it asks with such a one only.
const ARP_SETTINGS: [(&str, u8); 2] = [("arp_ignore", 1), ("arp_announce", 2)];

/// The routes that what is sent from the virtual addresses should follow.
fn wanted(
    table: &mut Table,
    interface: &Interface,
    addresses: &[IpAddr],
    gateways: &[IpAddr],
) -> io::Result<Vec<Route>> {
    let mut routes = table.main_by(interface.index)?;
    // IPv6 has a route to the address itself among the others; it comes and goes with it.
    routes.retain(|route| {
        !addresses.contains(&route.network)
            && addresses.iter().any(|address| family_of(*address) == family_of(route.network))
    });
    routes.truncate(ROUTES_MAX);
    for gateway in gateways {
        let family = family_of(*gateway);
        let has_one = routes.iter().any(|route| route.is_default() && family_of(route.network) == family);
        if !has_one && addresses.iter().any(|address| family_of(*address) == family) {
            // IPv6 has no metric of zero: the kernel makes 1024 of it.
            let (network, metric) = match gateway {
                IpAddr::V4(_) => (IpAddr::from([0; 4]), 0),
                IpAddr::V6(_) => (IpAddr::from([0; 16]), 1024),
            };
            // It is said to be on the link, whatever the interface's networks are.
            let is_on_link = !routes
                .iter()
                .any(|route| route.gateway.is_none() && is_within(*gateway, route.network, route.prefix));
            routes.push(Route { gateway: Some(*gateway), is_on_link, network, prefix: 0, metric });
        }
    }
    Ok(routes)
}

/// The other interfaces that are in a network of this one, or of a virtual address.
fn neighbours_of<'a>(
    interface: &Interface,
    addresses: &[IpAddr],
    networks: &'a [Network],
) -> BTreeSet<&'a str> {
    let is_ours = |network: &Network| network.index == interface.index;
    let shared = |theirs: &Network| {
        let holds = |address| is_within(address, theirs.address, theirs.prefix);
        addresses.iter().any(|address| holds(*address))
            || networks
                .iter()
                .filter(|network| is_ours(network))
                .any(|ours| holds(ours.address) || is_within(theirs.address, ours.address, ours.prefix))
    };
    networks
        .iter()
        .filter(|network| {
            !is_ours(network) && !network.is_loopback && network.address.is_ipv4() && shared(network)
        })
        .map(|network| &*network.interface)
        .collect()
}

fn read_kept(kept: &Path) -> Result<Vec<Changed>, RoutesError> {
    setting::read_kept(kept).map_err(|reason| RoutesError::Kept { file: kept.to_owned(), reason })
}

fn remove(table: &mut Table, kept: &Path, changed: &[Changed]) -> Result<(), RoutesError> {
    table.remove_rules().map_err(RoutesError::Table)?;
    table.empty().map_err(RoutesError::Table)?;
    for changed in changed {
        changed.restore().map_err(|reason| RoutesError::Setting {
            name: changed.setting.name(),
            value: changed.before,
            reason,
        })?;
    }
    setting::keep(kept, &[]).map_err(|reason| RoutesError::Kept { file: kept.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_in_the_same_network_is_a_neighbour_and_another_is_not() {
        let networks = [
            network(2, "eth0", "192.0.2.7", 24),
            network(3, "eth1", "192.0.2.8", 24),
            network(4, "eth2", "10.9.0.1", 24),
            network(5, "eth3", "2001:db8::7", 64),
            Network { is_loopback: true, ..network(1, "lo", "192.0.2.77", 32) },
        ];
        let find = |addresses: &[IpAddr]| neighbours_of(&interface(), addresses, &networks);

        assert_eq!(find(&[]), BTreeSet::from(["eth1"]));
        assert_eq!(find(&["10.9.0.200".parse().expect("an address")]), BTreeSet::from(["eth1", "eth2"]));
    }

    fn network(index: u32, interface: &str, address: &str, prefix: u8) -> Network {
        let address = address.parse().expect("an address");
        Network { index, interface: interface.to_owned(), is_loopback: false, address, prefix }
    }

    fn interface() -> Interface {
        Interface { name: "eth0".to_owned(), index: 2, mac: [0; 6], has_carrier: true }
    }
}

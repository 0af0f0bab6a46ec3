//! Where everybody of the demo is, and the cables between them.
//!
//! ```text
//!   a   b   witness   anna   ben   cleo   kim        home router ── dora
//!   └───┴──────┴───────┴──────┴─────┴─────┴───────────────┘          └─ 192.168.1.2
//!                        the switch, 192.0.2.0/24
//! ```

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use host::lab::{Cables, HostNetwork};

use super::home_router::HomeRouter;

/// The virtual address.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// Both ends of each conversation have this port.
pub const SIP_PORT: u16 = 5060;

/// The nodes and where they are.
pub const NODES: [(&str, Ipv4Addr); 2] =
    [("a", Ipv4Addr::new(192, 0, 2, 11)), ("b", Ipv4Addr::new(192, 0, 2, 12))];

/// Where the witness is.
pub const WITNESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 13);

/// The phones and where they are, as they think.
pub const PHONES: [(&str, Ipv4Addr); 4] = [
    ("anna", Ipv4Addr::new(192, 0, 2, 21)),
    ("ben", Ipv4Addr::new(192, 0, 2, 22)),
    ("cleo", Ipv4Addr::new(192, 0, 2, 23)),
    ("dora", Ipv4Addr::new(192, 168, 1, 2)),
];

/// Who calls them.
pub const CALLER: (&str, Ipv4Addr) = ("kim", Ipv4Addr::new(192, 0, 2, 31));

const SWITCH: &str = "switch";
const ROUTER_OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 41);
const ROUTER_INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

/// All hosts.
pub struct Town {
    /// The nodes, in the order of [`NODES`].
    pub nodes: [HostNetwork; 2],
    /// The witness's host.
    pub witness: HostNetwork,
    /// Those of the phones, in the order of [`PHONES`].
    pub phones: Vec<HostNetwork>,
    /// The caller's host.
    pub caller: HostNetwork,
    _router: HomeRouter,
    cables: Cables,
}

/// The address of the service.
pub fn server() -> SocketAddr {
    (SERVICE, SIP_PORT).into()
}

impl Town {
    /// Builds it in the network of the calling thread, which must be empty.
    pub fn build() -> Result<Self> {
        let mut cables = Cables::open().context("the kernel's network can not be asked")?;
        cables.add_switch(SWITCH).context("no switch can be made (kernel module bridge)")?;
        let mut host = |name: &str, address| {
            let cable = format!("c-{name}");
            on_cable(&mut cables, &cable, address).and_then(|host| {
                cables.connect(&cable, SWITCH)?;
                Ok(host)
            })
        };
        let [one, other] = NODES;
        let nodes = [host(one.0, one.1)?, host(other.0, other.1)?];
        let witness = host("witness", WITNESS)?;
        let caller = host(CALLER.0, CALLER.1)?;
        let router = host("router", ROUTER_OUTSIDE)?;
        let mut phones = Vec::new();
        for (name, address) in PHONES.into_iter().filter(|(_, address)| !address.is_private()) {
            phones.push(host(name, address)?);
        }
        for (name, address) in PHONES.into_iter().filter(|(_, address)| address.is_private()) {
            phones.push(behind(&router, name, address)?);
        }
        let _router = HomeRouter::start(&router, ROUTER_OUTSIDE).context("no NAT can be made")?;
        Ok(Self { nodes, witness, phones, caller, _router, cables })
    }

    /// Draws the cable of a node.
    pub fn unplug(&mut self, node: usize) -> Result<()> {
        Ok(self.cables.unplug(&cable_of(node))?)
    }

    /// Puts it in again.
    pub fn plug(&mut self, node: usize) -> Result<()> {
        Ok(self.cables.plug(&cable_of(node))?)
    }
}

fn cable_of(node: usize) -> String {
    format!("c-{}", NODES[node].0)
}

/// A host behind the home router.
fn behind(router: &HostNetwork, name: &str, address: Ipv4Addr) -> Result<HostNetwork> {
    let host = router.enter(|| -> Result<HostNetwork> {
        let mut cables = Cables::open()?;
        let host = on_cable(&mut cables, name, address)?;
        cables.add_address(name, ROUTER_INSIDE, 24)?;
        Ok(host)
    })??;
    host.enter(|| Cables::open()?.add_gateway(ROUTER_INSIDE))??;
    Ok(host)
}

/// A host with an address at the other end of a new cable.
fn on_cable(cables: &mut Cables, cable: &str, address: Ipv4Addr) -> Result<HostNetwork> {
    let host = HostNetwork::new().context("no network can be made for a host")?;
    cables.add_cable(cable, &host, "eth0").context("no cable can be made (kernel module veth)")?;
    cables.plug(cable)?;
    host.enter(|| {
        let mut own = Cables::open()?;
        own.plug("lo")?;
        own.plug("eth0")?;
        own.add_address("eth0", address, 24)
    })??;
    Ok(host)
}

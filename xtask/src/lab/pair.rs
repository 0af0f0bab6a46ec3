//! The lab of a pair: two nodes that share a virtual address, and everybody around them.
//!
//! ```text
//!   a  b  witness  phone  prober     router ── far
//!   └──┴─────┴───────┴──────┴───────────┘       └─ 198.51.100.2, asks through the router
//!           the switch, an observer on it
//! ```
//!
//! The phone and the router believe of the virtual address what they have heard, as phones and routers do. The prober
//! alone asks for it all the time, so that whoever would answer is seen to answer, also while nobody else asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result};

use super::observer::Mac;
use super::{Host, Lab, run};
use crate::process;

/// The virtual address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);
/// Another one, which moves with it.
pub const SECOND_VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 101);
/// And one of IPv6.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x100);

/// Where the third opinion lives.
pub const WITNESS_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 13);

/// Which of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first in the configuration.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::A, Side::B];

    /// The name of its host.
    pub fn name(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }

    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// All hosts.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The first node.
    pub a: Host,
    /// The second node.
    pub b: Host,
    /// Where a third opinion lives.
    pub witness: Host,
    /// A phone beside the nodes.
    pub phone: Host,
    /// The gateway of the nodes.
    pub router: Host,
    /// A phone behind the gateway.
    pub far: Host,
    /// Who asks all the time who has the virtual addresses.
    pub prober: Host,
}

impl Pair {
    /// Makes them all.
    pub fn new(lab: &Lab) -> Result<Pair> {
        lab.prepare_cuts()?;
        let router = lab.host("router", 1)?;
        let pair = Pair {
            a: lab.host("a", 11)?,
            b: lab.host("b", 12)?,
            witness: lab.host("witness", WITNESS_V4.octets()[3])?,
            phone: lab.host("phone", 21)?,
            prober: lab.host("prober", 31)?,
            far: far(&router)?,
            router,
        };
        for node in [&pair.a, &pair.b] {
            node.ip(&["route", "add", "default", "via", &pair.router.v4.to_string()])?;
        }
        Ok(pair)
    }

    /// One of the nodes.
    pub fn node(&self, side: Side) -> &Host {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Whose hardware address it is.
    pub fn owner(&self, mac: Mac) -> Result<Option<Side>> {
        for side in Side::BOTH {
            if self.node(side).mac()? == mac {
                return Ok(Some(side));
            }
        }
        Ok(None)
    }
}

/// A host behind the router.
fn far(router: &Host) -> Result<Host> {
    Host::namespace("far")?;
    let peer = ["type", "veth", "peer", "name", "eth0", "netns", "far"];
    run("ip", &[&["-n", &router.name, "link", "add", "far"][..], &peer[..]].concat())?;
    router.ip(&["link", "set", "far", "up"])?;
    router.ip(&["addr", "add", "198.51.100.1/24", "dev", "far"])?;
    process::quietly(router.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]))?;
    let far = Host { name: "far".to_owned(), v4: Ipv4Addr::new(198, 51, 100, 2), v6: None };
    far.ip(&["link", "set", "eth0", "up"])?;
    far.ip(&["addr", "add", "198.51.100.2/24", "dev", "eth0"])?;
    far.ip(&["route", "add", "default", "via", "198.51.100.1"])?;
    Ok(far)
}

impl Host {
    /// The hardware address of its `eth0`.
    pub fn mac(&self) -> Result<Mac> {
        let mut command = self.command("ip");
        let text = process::output(command.args(["-json", "link", "show", "dev", "eth0"]))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let address = links[0]["address"].as_str().context("eth0 has no hardware address")?;
        address.parse()
    }

    /// Whether it has an address, deprecated or not.
    pub fn has_address(&self, address: IpAddr) -> Result<bool> {
        let mut command = self.command("ip");
        let text = process::output(command.args(["-o", "addr", "show", "dev", "eth0"]))?;
        Ok(text.split_whitespace().any(|word| word.split('/').next() == Some(&address.to_string())))
    }

    /// Sets a parameter of its kernel.
    pub fn sysctl(&self, assignment: &str) -> Result<()> {
        process::quietly(self.command("sysctl").args(["-q", "-w", assignment]))
    }
}

/// A file for a program of one node.
pub fn write_for(lab: &Lab, host: &Host, name: &str, text: &str) -> Result<std::path::PathBuf> {
    let path = Path::new(&lab.dir).join(format!("{}-{name}", host.name));
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

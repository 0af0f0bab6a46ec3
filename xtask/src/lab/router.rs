//! A NAT router, as at home: a public address outside, 192.168.1.0/24 inside.
//!
//! It translates by address and port, and lets in only what answers something that went out. It
//! can be told to forget, after which a phone's next packet leaves from another port.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Host, Lab, run};
use crate::process;

/// The public ports of a router before and after [`Router::change_ports`].
const PORTS: [(u16, u16); 2] = [(20_000, 29_999), (30_000, 39_999)];

/// A router with one public address.
#[derive(Debug)]
pub struct Router {
    outside: Host,
}

impl Router {
    /// Adds a router with the public address 203.0.113.`number`.
    pub fn new(lab: &Lab, name: &str, number: u8) -> Result<Router> {
        let outside = lab.host(name, number)?;
        // A bridge without an address of its own takes that of a cable, and another one when a host is added: what is
        // sent to the address that the other hosts still remember would be lost.
        let address = ["address", "02:00:00:00:01:01"];
        let bridge = ["link", "add", "lan", "type", "bridge", "mcast_snooping", "0"];
        outside.ip(&[&bridge[..3], &address[..], &bridge[3..]].concat())?;
        outside.ip(&["link", "set", "lan", "up"])?;
        outside.ip(&["addr", "add", "192.168.1.1/24", "dev", "lan"])?;
        process::quietly(outside.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]))?;
        let router = Router { outside };
        router.translate(PORTS[0], "")?;
        Ok(router)
    }

    /// Adds a host behind the router: 192.168.1.`number`, IPv4 only.
    pub fn host(&self, name: &str, number: u8) -> Result<Host> {
        Host::namespace(name)?;
        let cable = format!("l-{name}");
        let outside = self.outside.name.as_str();
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", name];
        run("ip", &[&["-n", outside, "link", "add", &cable][..], &peer[..]].concat())?;
        self.outside.ip(&["link", "set", &cable, "master", "lan", "up"])?;
        let host = Host { name: name.to_owned(), v4: Ipv4Addr::new(192, 168, 1, number), v6: None };
        host.ip(&["link", "set", "eth0", "up"])?;
        host.ip(&["addr", "add", &format!("{}/24", host.v4), "dev", "eth0"])?;
        host.ip(&["route", "add", "default", "via", "192.168.1.1"])?;
        Ok(host)
    }

    /// The public address.
    pub fn address(&self) -> Ipv4Addr {
        self.outside.v4
    }

    /// Forgets every translation and uses other public ports from here on.
    pub fn change_ports(&self) -> Result<()> {
        self.translate(PORTS[1], "")?;
        process::quietly(self.outside.command("conntrack").arg("-F"))
            .context("the router could not forget its translations")
    }

    /// From here on each flow that goes out gets a random port, and is forgotten after this time without a packet.
    pub fn be_forgetful(&self, after: Duration) -> Result<()> {
        self.translate(PORTS[0], " fully-random")?;
        for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
            let setting = format!("net.netfilter.{name}={}", after.as_secs());
            process::quietly(self.outside.command("sysctl").args(["-q", "-w", &setting]))?;
        }
        Ok(())
    }

    /// Forgets the flows of UDP to this port outside, as if nothing had passed for long.
    pub fn forget_flows_to(&self, port: u16) -> Result<()> {
        let port = port.to_string();
        process::quietly(self.outside.command("conntrack").args([
            "-D",
            "-p",
            "udp",
            "--orig-port-dst",
            &port,
        ]))
        .context("the router could not forget a flow")
    }

    fn translate(&self, (first, last): (u16, u16), how: &str) -> Result<()> {
        let rules = format!(
            "add table ip nat\n\
             flush table ip nat\n\
             add chain ip nat out {{ type nat hook postrouting priority 100; }}\n\
             add rule ip nat out oifname eth0 meta l4proto {{ tcp, udp }} masquerade to :{first}-{last}{how}\n\
             add rule ip nat out oifname eth0 masquerade\n\
             add table ip wall\n\
             flush table ip wall\n\
             add chain ip wall in {{ type filter hook forward priority 0; policy drop; }}\n\
             add rule ip wall in ct state established,related accept\n\
             add rule ip wall in iifname lan accept\n"
        );
        process::quietly_with_input(self.outside.command("nft").args(["-f", "-"]), &rules)
    }
}

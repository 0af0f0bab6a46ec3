//! The switch as a saboteur: cables that are pulled, and frames that silently do not arrive.
//!
//! A pulled cable is seen by the host at its other end: its interface has no carrier. A cut is seen by nobody: both ends
//! keep their carrier, and the frames are gone.

use anyhow::Result;

use super::{Host, Lab, run};
use crate::process;

/// The chain through which each frame goes on its way from one cable to another.
const CHAIN: &str = "bridge switch forward";

/// One end of a cable, at the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cable(pub(super) String);

impl Host {
    /// Its cable to the internet.
    pub fn cable(&self) -> Cable {
        Cable(format!("c-{}", self.name))
    }

    /// Its cable to the second switch.
    pub fn second_cable(&self) -> Cable {
        Cable(format!("s-{}", self.name))
    }
}

impl Lab {
    /// Lets cables be cut; to be called once.
    pub fn prepare_cuts(&self) -> Result<()> {
        nft(&format!(
            "add table bridge switch\nadd chain {CHAIN} {{ type filter hook forward priority 0; policy accept; }}\n"
        ))
    }

    /// Pulls a cable.
    pub fn pull(&self, cable: &Cable) -> Result<()> {
        run("ip", &["link", "set", &cable.0, "down"])
    }

    /// Plugs it in again.
    pub fn plug(&self, cable: &Cable) -> Result<()> {
        run("ip", &["link", "set", &cable.0, "up"])
    }

    /// What comes in by the one cable does not leave by the other: one way only.
    pub fn cut(&self, from: &Cable, to: &Cable) -> Result<()> {
        nft(&format!("add rule {CHAIN} iifname {} oifname {} drop\n", from.0, to.0))
    }

    /// Neither of two hears the other.
    pub fn cut_between(&self, one: &Cable, other: &Cable) -> Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// Nothing comes in by the cable, and nothing leaves by it.
    pub fn cut_off(&self, cable: &Cable) -> Result<()> {
        self.mute(cable)?;
        self.deafen(cable)
    }

    /// Nobody hears who is behind the cable; who is there hears everybody.
    pub fn mute(&self, cable: &Cable) -> Result<()> {
        nft(&format!("add rule {CHAIN} iifname {} drop\n", cable.0))
    }

    /// Who is behind the cable hears nobody, and is heard.
    pub fn deafen(&self, cable: &Cable) -> Result<()> {
        nft(&format!("add rule {CHAIN} oifname {} drop\n", cable.0))
    }

    /// Ends all cuts.
    pub fn heal(&self) -> Result<()> {
        nft(&format!("flush chain {CHAIN}\n"))
    }

    /// Makes a second switch and gives these hosts a cable to it: 10.9.0.`number` on `eth1`.
    pub fn second_path(&self, hosts: &[(&Host, u8)]) -> Result<()> {
        run("ip", &["link", "add", "second", "type", "bridge", "mcast_snooping", "0"])?;
        run("ip", &["link", "set", "second", "up"])?;
        for (host, number) in hosts {
            let Cable(cable) = host.second_cable();
            let peer = ["type", "veth", "peer", "name", "eth1", "netns", &host.name];
            run("ip", &[&["link", "add", &cable][..], &peer[..]].concat())?;
            run("ip", &["link", "set", &cable, "master", "second", "up"])?;
            host.ip(&["link", "set", "eth1", "up"])?;
            host.ip(&["addr", "add", &format!("10.9.0.{number}/24"), "dev", "eth1"])?;
        }
        Ok(())
    }
}

fn nft(rules: &str) -> Result<()> {
    process::quietly_with_input(std::process::Command::new("nft").args(["-f", "-"]), rules)
}

//! The cable between the relay and the phones: two virtual network cards, each of which has a thread for what arrives at it.
//!
//! Such a card hands what arrives to a softirq of whoever sends, so that the sender would pay for the receiver. With NAPI in a thread
//! (GRO puts it on) the receiver's part has a place and a time of its own. Segmentation is off: a card that offers it hands single packets over
//! past NAPI. The threads have real-time priority, since a softirq would not wait for its turn either.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::cpu_time;
use crate::lab::{Family, Host};
use crate::process;

/// Where the relay runs, and what arrives for it.
pub const RELAY_CORE: &str = "0";
/// Where all else does.
pub const PHONES_CORE: &str = "1";
/// Where phones have their media. No host has this address, so no kernel answers what comes there.
pub const MEDIA: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 30));
/// The hardware addresses.
pub const RELAY_MAC: &str = "02:00:00:00:00:0a";
pub const PHONES_MAC: &str = "02:00:00:00:00:14";
const RELAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const PHONES_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 20);
const START_TIME_MAX: Duration = Duration::from_secs(5);

/// Two hosts with a cable.
#[derive(Debug)]
pub struct Cable {
    /// Where the relay is.
    pub relay: Host,
    /// Where the phones are.
    pub phones: Host,
    /// The phones' card.
    pub phones_card: String,
    receiver: u32,
}

impl Cable {
    /// Makes both hosts.
    pub fn new() -> Result<Cable> {
        for line in ["mount -t tmpfs tmpfs /run", "mkdir /run/netns"] {
            let words: Vec<&str> = line.split(' ').collect();
            process::quietly(Command::new(words[0]).args(&words[1..]))?;
        }
        let relay = Host::without_cable("relay", RELAY_ADDRESS)?;
        let phones = Host::without_cable("phones", PHONES_ADDRESS)?;
        // The thread bears the name of its card, and is found by it among those of the whole machine.
        let number = std::process::id();
        let (relay_card, phones_card) = (format!("rr{number}"), format!("rp{number}"));
        let mut command = Command::new("ip");
        command.args(["link", "add", &relay_card, "address", RELAY_MAC, "netns", "relay", "type", "veth"]);
        command.args(["peer", "name", &phones_card, "address", PHONES_MAC, "netns", "phones"]);
        process::quietly(&mut command)?;
        for (host, card) in [(&relay, &relay_card), (&phones, &phones_card)] {
            process::quietly(host.command("ethtool").args(["-K", card, "tso", "off", "gro", "on"]))?;
            host.ip(&["link", "set", card, "up"])?;
            host.ip(&["addr", "add", &format!("{}/24", host.address(Family::V4)?), "dev", card])?;
            // `ip` shows the namespace's own /sys, where this card is.
            let threaded = format!("echo 1 > /sys/class/net/{card}/threaded");
            let mut command = Command::new("ip");
            process::quietly(command.args(["netns", "exec", &host.name, "sh", "-c", &threaded]))?;
        }
        let media = MEDIA.to_string();
        relay.ip(&["neigh", "add", &media, "lladdr", PHONES_MAC, "dev", &relay_card, "nud", "permanent"])?;
        let receiver = pin(&relay_card, RELAY_CORE)?;
        pin(&phones_card, PHONES_CORE)?;
        Ok(Cable { relay, phones, phones_card, receiver })
    }

    /// Processor time of what arrives at the relay's card, up to the sockets.
    pub fn receive_time(&self) -> Result<Duration> {
        cpu_time::of_tree(self.receiver)
    }
}

/// A command on a host and a core, before all else that runs there; it ends when we do.
pub fn command(host: &Host, core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = host.command("setpriv");
    command.args(["--pdeathsig", "KILL", "nice", "-n", "-20", "taskset", "-c", core]).arg(program);
    command
}

/// Puts the thread of a card on a core and gives its id.
fn pin(card: &str, core: &str) -> Result<u32> {
    let id =
        process::wait_until(&format!("thread for what arrives at {card}"), START_TIME_MAX, || thread(card))
            .context("this must run where the kernel's threads are seen, not in a container")?;
    let id_text = id.to_string();
    process::quietly(Command::new("taskset").args(["-p", "-c", core, &id_text]))?;
    process::quietly(Command::new("chrt").args(["--fifo", "--pid", "1", &id_text]))?;
    Ok(id)
}

fn thread(card: &str) -> Result<Option<u32>> {
    let start = format!("napi/{card}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Who has ended in between is not the one.
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        if name.starts_with(&start) {
            found.push(id);
        }
    }
    match found[..] {
        [] => Ok(None),
        [id] => Ok(Some(id)),
        _ => bail!("{card} has several threads: {found:?}"),
    }
}

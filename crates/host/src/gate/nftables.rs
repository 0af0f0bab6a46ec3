//! The gate as sets of nftables whose elements time out, in a table of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use elements::Elements;

use super::GateError;
use crate::clock::boot_time;
use crate::interface::Interface;

mod elements;

const TABLE: &str = "netdev tandem_gate";
const NAME: &str = "tandem_gate";
const SETS: [&str; 3] = ["open4", "open6", "discovery"];

/// A timed element ends at the next tick of the kernel after its time.
const JIFFY: Duration = Duration::from_millis(10);

/// Whoever needs longer to write than this was stopped meanwhile, and what was written may be too late.
const WRITE_MAX: Duration = Duration::from_millis(20);

pub(super) struct Nftables {
    interface: String,
    addresses: Vec<IpAddr>,
    elements: Elements,
}

impl Nftables {
    /// Makes the table, closed.
    pub(super) fn new(interface: &Interface, addresses: &[IpAddr]) -> Result<Self, GateError> {
        let device = &interface.name;
        let refused = |reason| GateError::Nftables { interface: device.clone(), reason };
        let elements = Elements::open().map_err(|error| refused(error.to_string()))?;
        let mut script = format!("table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n");
        script.push_str(
            " set open4 { type ipv4_addr; flags timeout; }\n set open6 { type ipv6_addr; flags timeout; }\n \
              set discovery { type ether_type; flags timeout; }\n",
        );
        let _ = writeln!(
            script,
            " chain out {{ type filter hook egress device \"{device}\" priority -500; policy accept;"
        );
        for address in addresses {
            match address {
                IpAddr::V4(it) => {
                    let _ = writeln!(script, "  ip saddr {it} ip saddr != @open4 drop");
                    let _ = writeln!(script, "  arp saddr ip {it} arp saddr ip != @open4 drop");
                }
                IpAddr::V6(it) => {
                    let _ = writeln!(script, "  ip6 saddr {it} ip6 saddr != @open6 drop");
                    let rule = discovery("nd-neighbor-advert", *it);
                    let _ = writeln!(script, "  {rule}");
                }
            }
        }
        let _ = writeln!(
            script,
            " }}\n chain in {{ type filter hook ingress device \"{device}\" priority -500; policy accept;"
        );
        for address in addresses {
            match address {
                IpAddr::V4(it) => {
                    let _ = writeln!(script, "  ip daddr {it} ip daddr != @open4 drop");
                    let _ = writeln!(script, "  arp daddr ip {it} arp daddr ip != @open4 drop");
                }
                IpAddr::V6(it) => {
                    let _ = writeln!(script, "  ip6 daddr {it} ip6 daddr != @open6 drop");
                    let rule = discovery("nd-neighbor-solicit", *it);
                    let _ = writeln!(script, "  {rule}");
                }
            }
        }
        script.push_str(" }\n}\n");
        run(&script).map_err(refused)?;
        Ok(Self { interface: device.clone(), addresses: addresses.to_vec(), elements })
    }

    pub(super) fn open(&mut self, deadline: Duration) -> Result<(), GateError> {
        let before = boot_time();
        let left = deadline.saturating_sub(before).saturating_sub(JIFFY);
        if left.is_zero() {
            return self.close();
        }
        let mut batch = self.elements.batch(NAME);
        // The old elements go in the same transaction in which others come.
        SETS.iter().for_each(|set| batch.flush(set));
        for address in &self.addresses {
            match address {
                IpAddr::V4(it) => batch.add("open4", &it.octets(), left),
                IpAddr::V6(it) => batch.add("open6", &it.octets(), left),
            }
        }
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            batch.add("discovery", &libc::ETH_P_IPV6.cast_unsigned().to_be_bytes()[2..], left);
        }
        self.elements.write(batch).map_err(|error| self.refused(&error))?;
        match boot_time().saturating_sub(before) > WRITE_MAX {
            true => self.close(),
            false => Ok(()),
        }
    }

    pub(super) fn close(&mut self) -> Result<(), GateError> {
        let mut batch = self.elements.batch(NAME);
        SETS.iter().for_each(|set| batch.flush(set));
        self.elements.write(batch).map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &std::io::Error) -> GateError {
        GateError::Nftables { interface: self.interface.clone(), reason: error.to_string() }
    }
}

/// Drops a message of neighbour discovery about an address. nftables knows its target by a name (`icmpv6 taddr`) only from
/// 1.0.7 on, and compares what it knows by its place alone with no set of addresses; so a set of its own says whether the
/// addresses, which are open all at once, are open.
fn discovery(kind: &str, target: Ipv6Addr) -> String {
    let bits = u128::from(target);
    format!("icmpv6 type {kind} @th,64,128 {bits:#034x} meta protocol != @discovery drop")
}

/// Takes the table away, if it is there.
pub(super) fn remove() {
    // Nothing there is what is wanted; where there is no nft there is no table.
    let _ = run(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"));
}

/// Lets `nft` carry out a script, whole or not at all. Else the reason.
pub fn run(script: &str) -> Result<(), String> {
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| format!("`nft` can not be run: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_by_all_its_digits() {
        let rule = discovery("nd-neighbor-advert", "::9".parse().expect("an address"));

        assert!(rule.contains("@th,64,128 0x00000000000000000000000000000009 meta"), "{rule}");
    }
}

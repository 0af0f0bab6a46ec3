//! The virtual addresses on their interface.
//!
//! They are /32 and /128, so that nobody chooses them as a source by accident, without duplicate address detection, which
//! would keep an IPv6 address from being used for a second, and with a short life of their own: a kernel whose guardian is
//! dead takes them away.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::interface::{Interface, address_of};
use crate::netlink::Netlink;

/// How long the kernel keeps an address that nobody refreshes.
const LIFE: Duration = Duration::from_secs(3);

/// How long is waited for the kernel's worker, which makes an IPv6 address receive some time after it was added.
const PLACED_WITHIN: Duration = Duration::from_millis(200);
const PLACED_LOOK_EVERY: Duration = Duration::from_micros(200);
/// The kernel's word for a route to itself (`RTF_LOCAL` of linux/ipv6_route.h).
const LOCAL_ROUTE: u32 = 0x8000_0000;

/// The virtual addresses of one service on one interface.
pub struct Addresses {
    netlink: Netlink,
    interface: Interface,
    addresses: Vec<IpAddr>,
    /// Whether all were seen to receive since they were added.
    are_placed: bool,
}

/// An address could not be added or removed.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The kernel refused.
    #[error("{doing} {address} on {interface}: {reason}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// Which address.
        address: IpAddr,
        /// On which interface.
        interface: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// The kernel did not answer.
    #[error("the kernel's address table can not be reached: {0}")]
    Kernel(#[from] io::Error),
}

impl Addresses {
    /// The addresses, which are not touched yet.
    pub fn new(interface: Interface, addresses: Vec<IpAddr>) -> Result<Self, AddressError> {
        Ok(Self { netlink: Netlink::open()?, interface, addresses, are_placed: false })
    }

    /// Adds all addresses, or gives them another span of life. When it returns what comes for them is received.
    pub fn hold(&mut self) -> Result<(), AddressError> {
        for address in self.addresses.clone() {
            let message = RouteNetlinkMessage::NewAddress(self.message(address));
            self.change("adding", address, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        }
        if !self.are_placed {
            self.wait_until_placed();
            self.are_placed = true;
        }
        Ok(())
    }

    /// The kernel answers before an IPv6 address has its local route, which a worker of its makes: until then what comes for it
    /// is for nobody here. Who waits in vain goes on: the address is there, and will receive.
    fn wait_until_placed(&self) {
        let wanted: Vec<_> = self.addresses.iter().filter(|address| address.is_ipv6()).collect();
        let since = std::time::Instant::now();
        while !wanted.is_empty() && since.elapsed() < PLACED_WITHIN {
            // Of this thread, which may have a network of its own.
            let Ok(routes) = std::fs::read_to_string("/proc/thread-self/net/ipv6_route") else { return };
            if wanted.iter().all(|address| has_local_route(&routes, **address)) {
                return;
            }
            std::thread::sleep(PLACED_LOOK_EVERY);
        }
    }

    /// Removes all addresses that are there; that one is not there is no error.
    pub fn drop_all(&mut self) -> Result<(), AddressError> {
        self.are_placed = false;
        for address in self.addresses.clone() {
            let message = RouteNetlinkMessage::DelAddress(self.message(address));
            match self.change("removing", address, message, 0) {
                Err(AddressError::Refused { reason, .. })
                    if reason.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Which of the addresses are on the interface.
    pub fn held(&mut self) -> Result<Vec<IpAddr>, AddressError> {
        let listed = self.netlink.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let mut held = Vec::new();
        for message in listed {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            if message.header.index != self.interface.index {
                continue;
            }
            let address = address_of(&message);
            held.extend(address.filter(|address| self.addresses.contains(address)));
        }
        Ok(held)
    }

    fn change(
        &mut self,
        doing: &'static str,
        address: IpAddr,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), AddressError> {
        let interface = &self.interface.name;
        self.netlink.change(message, flags).map_err(|reason| AddressError::Refused {
            doing,
            address,
            interface: interface.clone(),
            reason,
        })
    }

    fn message(&self, address: IpAddr) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = self.interface.index;
        message.header.scope = AddressScope::Universe;
        let life = LIFE.as_secs() as u32;
        let mut cache = CacheInfo::default();
        cache.ifa_valid = life;
        // IPv6: not preferred, so that nothing is sent from it but by who has bound it.
        cache.ifa_preferred = if address.is_ipv6() { 0 } else { life };
        (message.header.family, message.header.prefix_len) = match address {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.attributes = vec![
            AddressAttribute::Local(address),
            AddressAttribute::Address(address),
            AddressAttribute::CacheInfo(cache),
        ];
        if address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        message
    }
}

/// Whether the kernel's table of IPv6 routes has one of its own to this address: destination and length first, flags behind.
fn has_local_route(routes: &str, address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return true };
    let wanted = format!("{:032x}", address.to_bits());
    routes.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = words.get(8).and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0);
        words.first() == Some(&wanted.as_str()) && words.get(1) == Some(&"80") && flags & LOCAL_ROUTE != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_receives_when_the_kernel_has_a_route_to_itself() {
        let route = |address: &str, flags: &str| {
            format!(
                "{address} 80 00000000000000000000000000000000 00 {:032x} 00000000 00000002 00000000 {flags}     lo",
                0
            )
        };
        let address = "20010db8000000000000000000000009";
        let is_there = |routes: &str| has_local_route(routes, "2001:db8::9".parse().expect("an address"));

        assert!(is_there(&route(address, "80200001")));
        assert!(!is_there(&route(address, "00000001")), "it leads elsewhere");
        assert!(!is_there(&route("20010db8000000000000000000000008", "80200001")), "another one");
        assert!(!is_there(""));
    }
}

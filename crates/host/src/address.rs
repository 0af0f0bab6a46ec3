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

/// The virtual addresses of one service on one interface.
pub struct Addresses {
    netlink: Netlink,
    interface: Interface,
    addresses: Vec<IpAddr>,
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
        Ok(Self { netlink: Netlink::open()?, interface, addresses })
    }

    /// Adds all addresses, or gives them another span of life.
    pub fn hold(&mut self) -> Result<(), AddressError> {
        for address in self.addresses.clone() {
            let message = RouteNetlinkMessage::NewAddress(self.message(address));
            self.change("adding", address, message, NLM_F_CREATE | NLM_F_REPLACE)?;
        }
        Ok(())
    }

    /// Removes all addresses that are there; that one is not there is no error.
    pub fn drop_all(&mut self) -> Result<(), AddressError> {
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

//! An interface of this host.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::netlink::Netlink;

/// An interface, as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Whether a cable is in and the other side is there.
    pub has_carrier: bool,
}

/// An interface could not be found out about.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// There is none of this name.
    #[error("there is no interface {0}: `ip link` lists those that there are")]
    Unknown(String),
    /// It has no Ethernet address, so that nothing can be announced from it.
    #[error("interface {0} has no Ethernet address; a virtual address needs one that has")]
    NotEthernet(String),
    /// The kernel did not answer.
    #[error("the kernel does not list its interfaces: {0}")]
    Kernel(#[from] io::Error),
}

impl Interface {
    /// Finds an interface by its name.
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let mut netlink = Netlink::open()?;
        let links = netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let mut found = links.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let link = found
            .find(|link| link.attributes.iter().any(|it| *it == LinkAttribute::IfName(name.to_owned())))
            .ok_or_else(|| InterfaceError::Unknown(name.to_owned()))?;
        let mac = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(&bytes[..]).ok(),
            _ => None,
        });
        let mac = mac.ok_or_else(|| InterfaceError::NotEthernet(name.to_owned()))?;
        let has_carrier = link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
        Ok(Self { name: name.to_owned(), index: link.header.index, mac, has_carrier })
    }
}

/// An address of an interface, with its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The interface's number.
    pub index: u32,
    /// The interface's name.
    pub interface: String,
    /// Whether it is the loopback.
    pub is_loopback: bool,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it are the network's.
    pub prefix: u8,
}

/// All addresses of all interfaces that are up.
pub fn networks() -> io::Result<Vec<Network>> {
    let mut netlink = Netlink::open()?;
    let links = netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let addresses = netlink.list(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let link_of = |index: u32| {
        links.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) if link.header.index == index => Some(link),
            _ => None,
        })
    };
    let mut networks = Vec::new();
    for message in addresses {
        let RouteNetlinkMessage::NewAddress(message) = message else { continue };
        let Some(link) = link_of(message.header.index) else { continue };
        let name = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        });
        let (Some(interface), Some(address)) = (name, address_of(&message)) else { continue };
        if !link.header.flags.contains(LinkFlags::Up) {
            continue;
        }
        networks.push(Network {
            index: message.header.index,
            interface,
            is_loopback: link.header.flags.contains(LinkFlags::Loopback),
            address,
            prefix: message.header.prefix_len,
        });
    }
    Ok(networks)
}

/// The address that a message is about; of a tunnel its own end.
pub(crate) fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

//! An interface of this host.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
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

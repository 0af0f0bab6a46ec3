//! Switches, cables, addresses and routes of the network that the calling thread is in.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, AsRawFd as _};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::HostNetwork;
use crate::netlink::Netlink;

/// What connects hosts.
pub struct Cables {
    netlink: Netlink,
}

impl Cables {
    /// Of the network that the calling thread is in.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// Adds a switch, which is up.
    pub fn add_switch(&mut self, name: &str) -> io::Result<()> {
        self.add(name, LinkInfo::Kind(InfoKind::Bridge), None)?;
        self.plug(name)
    }

    /// Adds a cable whose one end is here and whose other end is on a host, under a name of its own. Both ends are down.
    pub fn add_cable(&mut self, here: &str, there: &HostNetwork, name_there: &str) -> io::Result<()> {
        let mut far = LinkMessage::default();
        far.attributes = vec![
            LinkAttribute::IfName(name_there.to_owned()),
            LinkAttribute::NetNsFd(there.as_fd().as_raw_fd()),
        ];
        let ends = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far)));
        self.add(here, LinkInfo::Kind(InfoKind::Veth), Some(ends))
    }

    /// Puts the end of a cable into a switch.
    pub fn connect(&mut self, cable: &str, switch: &str) -> io::Result<()> {
        let controller = self.index(switch)?;
        self.set(cable, |message| message.attributes.push(LinkAttribute::Controller(controller)))
    }

    /// Lets frames pass by an interface.
    pub fn plug(&mut self, name: &str) -> io::Result<()> {
        self.set(name, |message| {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        })
    }

    /// Lets none pass. The other end of the cable sees that it has no carrier.
    pub fn unplug(&mut self, name: &str) -> io::Result<()> {
        self.set(name, |message| message.header.change_mask = LinkFlags::Up)
    }

    /// Gives an interface an address in a network.
    pub fn add_address(&mut self, name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.index = self.index(name)?;
        message.header.prefix_len = prefix;
        let all_ones = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        message.attributes = vec![
            AddressAttribute::Local(address.into()),
            AddressAttribute::Address(address.into()),
            AddressAttribute::Broadcast(Ipv4Addr::from_bits(address.to_bits() | all_ones)),
        ];
        self.netlink.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Sends what is for no network of this host to a gateway.
    pub fn add_gateway(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Gateway(std::net::IpAddr::V4(gateway).into())];
        self.netlink.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn add(&mut self, name: &str, kind: LinkInfo, more: Option<LinkInfo>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        let what = [kind].into_iter().chain(more).collect();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(what)];
        self.netlink.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set(&mut self, name: &str, change: impl FnOnce(&mut LinkMessage)) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        change(&mut message);
        self.netlink.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    fn index(&mut self, name: &str) -> io::Result<u32> {
        let wanted = LinkAttribute::IfName(name.to_owned());
        let links = self.netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        let found = links.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) if link.attributes.contains(&wanted) => {
                Some(link.header.index)
            }
            _ => None,
        });
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name}")))
    }
}

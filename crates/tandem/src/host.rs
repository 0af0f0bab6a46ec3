//! What the program asks of its host: addresses and name.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

/// Every address that a phone could be told, in order; link-local ones have no meaning beyond one
/// interface and are left out.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let all: BTreeSet<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .map(|interface| interface.ip())
        .filter(|address| match address {
            IpAddr::V4(address) => !address.is_link_local() && !address.is_unspecified(),
            IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_unspecified(),
        })
        .collect();
    Ok(all.into_iter().collect())
}

/// Each interface with the networks that it is in.
pub fn interfaces() -> io::Result<Vec<(String, IpNet)>> {
    let network = |interface: &if_addrs::Interface| match &interface.addr {
        if_addrs::IfAddr::V4(address) => IpNet::with_netmask(address.ip.into(), address.netmask.into()),
        if_addrs::IfAddr::V6(address) => IpNet::with_netmask(address.ip.into(), address.netmask.into()),
    };
    let all = if_addrs::get_if_addrs()?;
    Ok(all.iter().filter_map(|interface| Some((interface.name.clone(), network(interface).ok()?))).collect())
}

/// The host's name.
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// How well an address serves as an example for a newcomer: the smaller, the better.
pub fn strangeness(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) if address.is_loopback() => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(address) if address.is_loopback() => 3,
        IpAddr::V6(_) => 1,
    }
}

//! Who has a port: found in /proc, for the message that the port is in use.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use net::BindError;
use transport::Transport;

/// TCP's state in /proc/net/tcp for a socket that listens.
const TCP_LISTEN: &str = "0A";

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (pid {})", self.name, self.pid)
    }
}

/// Why a listener's socket could not be made, who is in its way, and what to do.
pub fn explain(error: &BindError) -> String {
    match error {
        BindError::AddressInUse { transport, local } => {
            let owners = port_owners(*transport, local.0);
            if owners.is_empty() {
                let port = local.0.port();
                return format!(
                    "{transport}:{local} is in use by a process of another user; `sudo ss -lnp 'sport = :{port}'` \
                     shows which. Stop it, or serve another port: listen = [\"{transport}://*:5070\"]"
                );
            }
            let names: Vec<String> = owners.iter().map(ToString::to_string).collect();
            format!(
                "{transport}:{local} is in use by {}. Stop it, or serve another port: listen = \
                 [\"{transport}://*:5070\"]",
                names.join(", ")
            )
        }
        BindError::NotPermitted { transport, local } => format!(
            "{transport}:{local} needs a right that this user lacks: ports below 1024 need root or \
             CAP_NET_BIND_SERVICE; serve port 5060, or use the unit file"
        ),
        BindError::Refused { .. } => error.to_string(),
    }
}

/// Why metrics can not be served there, who is in the way, and what to do.
pub fn explain_metrics(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let owners: Vec<String> =
                port_owners(Transport::Tcp, address).iter().map(ToString::to_string).collect();
            match owners.as_slice() {
                [] => "it is in use by a process of another user".to_owned(),
                owners => format!("it is in use by {}", owners.join(", ")),
            }
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
        _ => error.to_string(),
    };
    format!("metrics.listen: {address} can not be had: {why}; write another one")
}

/// The processes that have the port, as far as this user may see them.
pub fn port_owners(transport: Transport, local: SocketAddr) -> Vec<PortOwner> {
    let tables: &[&str] = match transport {
        Transport::Udp => &["/proc/net/udp", "/proc/net/udp6"],
        Transport::Tcp => &["/proc/net/tcp", "/proc/net/tcp6"],
    };
    let inodes: Vec<u64> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table.lines().filter_map(|line| inode_of(line, transport, local)).collect::<Vec<_>>()
        })
        .collect();
    if inodes.is_empty() { Vec::new() } else { owners_of(&inodes) }
}

/// The inode of the socket in a line of the table, if it is in the way of `local`.
fn inode_of(line: &str, transport: Transport, local: SocketAddr) -> Option<u64> {
    let mut columns = line.split_ascii_whitespace().skip(1);
    let (address, port) = columns.next()?.split_once(':')?;
    let state = columns.nth(1)?;
    let inode = columns.nth(5)?.parse().ok()?;
    let address = read_address(address)?;
    let is_in_the_way = u16::from_str_radix(port, 16).ok()? == local.port()
        && (address.is_unspecified() || address.to_canonical() == local.ip().to_canonical())
        && (transport == Transport::Udp || state == TCP_LISTEN);
    is_in_the_way.then_some(inode)
}

/// Reads an address as the kernel prints it: words of 32 bits in the host's order.
fn read_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (part, at) in octets.chunks_exact_mut(4).zip((0..32).step_by(8)) {
                part.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

fn owners_of(inodes: &[u64]) -> Vec<PortOwner> {
    let wanted: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let has_one = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|descriptors| {
            descriptors.flatten().any(|descriptor| {
                fs::read_link(descriptor.path())
                    .is_ok_and(|target| wanted.iter().any(|wanted| target.as_os_str() == wanted.as_str()))
            })
        })
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let mut owners: Vec<PortOwner> = processes
        .flatten()
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .filter(|pid| has_one(*pid))
        .map(|pid| PortOwner { pid, name: name_of(pid) })
        .collect();
    owners.sort_by_key(|owner| owner.pid);
    owners
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    match name.trim() {
        "" => "a process".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_process_that_has_a_port_is_found() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        let tcp = TcpListener::bind("[::]:0").expect("there is a port");
        let udp_local = udp.local_addr().expect("it is bound");
        let tcp_local =
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), tcp.local_addr().expect("it is bound").port());

        for (transport, local) in [(Transport::Udp, udp_local), (Transport::Tcp, tcp_local)] {
            let owners = port_owners(transport, local);
            assert_eq!(
                owners.iter().map(|owner| owner.pid).collect::<Vec<_>>(),
                [std::process::id()],
                "{local}"
            );
            assert!(!owners[0].name.is_empty());
        }
    }

    #[test]
    fn a_port_that_nobody_has_has_no_owner() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("there is a port");
        let local = udp.local_addr().expect("it is bound");
        let other = SocketAddr::new("127.0.0.2".parse().expect("an address"), local.port());

        assert_eq!(port_owners(Transport::Udp, other), []);
        assert_eq!(port_owners(Transport::Tcp, local), []);
    }

    #[test]
    fn lines_that_are_no_sockets_are_passed_over() {
        let local = "127.0.0.1:5060".parse().expect("an address");
        let header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        for line in ["", header, "0: zz:13C4 0:0 07 a b c d e 7", "0: 0100007F:13C4", "0: 0100007f"] {
            assert_eq!(inode_of(line, Transport::Udp, local), None, "{line}");
        }
    }
}

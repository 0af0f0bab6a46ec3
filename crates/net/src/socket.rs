//! Making sockets: the options that every SIP socket has.
//!
//! All are bound with `IP_FREEBIND`, so an address that the host does not hold yet is no error. IPv6
//! sockets carry IPv6 alone. UDP sockets never set DF, so that a large request to a phone is sent in
//! fragments and not refused. A UDP listener has one socket for each event loop, all on one address; the
//! kernel keeps each pair of addresses on one of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;
use tracing::warn;
use transport::{LocalAddr, Transport};

use crate::option;
use crate::udp::want_refusals;

/// What the kernel may keep for one UDP socket: some seconds of a storm of REGISTER after an outage. Without
/// the right to force it the kernel cuts it to `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// What one batch of answers may need at once.
const SEND_BUFFER_BYTES: usize = 2 << 20;
/// Connections that the kernel completes before they are accepted; it cuts this to `net.core.somaxconn`.
const ACCEPT_QUEUE_MAX: i32 = 4_096;

/// A listener's socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another socket has the port.
    #[error("{transport}:{local} is in use by another process")]
    AddressInUse {
        /// The listener's transport.
        transport: Transport,
        /// The listener's address.
        local: LocalAddr,
    },
    /// Ports below 1024 need a right.
    #[error("{transport}:{local} may not be bound without CAP_NET_BIND_SERVICE")]
    NotPermitted {
        /// The listener's transport.
        transport: Transport,
        /// The listener's address.
        local: LocalAddr,
    },
    /// The kernel refused it for another reason.
    #[error("{transport}:{local} can not be bound: {reason}")]
    Refused {
        /// The listener's transport.
        transport: Transport,
        /// The listener's address.
        local: LocalAddr,
        /// What the kernel said.
        reason: io::Error,
    },
}

impl BindError {
    fn of(transport: Transport, local: LocalAddr, reason: io::Error) -> Self {
        match reason.kind() {
            io::ErrorKind::AddrInUse => Self::AddressInUse { transport, local },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { transport, local },
            _ => Self::Refused { transport, local, reason },
        }
    }
}

/// Lets this process have as many descriptors as it may: each connection is one, and the usual limit of 1024 is there for
/// programs that use `select`.
pub(crate) fn allow_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        warn!(%error, "the limit of open files stays as it is");
    }
}

/// Opens the sockets of one UDP listener, one for each of `count` event loops.
pub(crate) fn open_udp(local: LocalAddr, count: usize) -> Result<Vec<UdpSocket>, BindError> {
    open_udp_group(local.0, count).map_err(|reason| BindError::of(Transport::Udp, local, reason))
}

fn open_udp_group(local: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(count);
    // The first is bound alone: with SO_REUSEPORT it would silently join the group of another process
    // of the same user that has the port, and each would get a part of the packets.
    let first = new_udp(local)?;
    first.bind(&local.into())?;
    first.set_reuse_port(true)?;
    // Port 0 is a choice of the kernel's; all others of the group join it.
    let bound = first.local_addr()?;
    sockets.push(first.into());
    for _ in 1..count {
        let next = new_udp(local)?;
        next.set_reuse_port(true)?;
        next.bind(&bound)?;
        sockets.push(next.into());
    }
    Ok(sockets)
}

fn new_udp(local: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    set_address_options(&socket, local)?;
    want_refusals(&socket, local)?;
    if local.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    } else {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
    }
    if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES).is_err() {
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    }
    Ok(socket)
}

/// Opens the socket of one port of media. `traffic_class` is the byte that routers look at, DSCP in its upper six bits.
pub(crate) fn open_media(local: SocketAddr, traffic_class: u8) -> io::Result<UdpSocket> {
    let socket =
        Socket::new(Domain::for_address(local), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    set_address_options(&socket, local)?;
    if local.is_ipv4() {
        sockopt::set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
        sockopt::set_ip_tos(&socket, traffic_class)?;
    } else {
        sockopt::set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
        sockopt::set_ipv6_tclass(&socket, u32::from(traffic_class))?;
    }
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Opens a TCP listener.
pub(crate) fn open_tcp(local: LocalAddr) -> Result<std::net::TcpListener, BindError> {
    open_tcp_listener(local.0).map_err(|reason| BindError::of(Transport::Tcp, local, reason))
}

fn open_tcp_listener(local: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = new_tcp(local)?;
    // Connections of an earlier start may still be in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.listen(ACCEPT_QUEUE_MAX)?;
    Ok(socket.into())
}

/// A socket for a connection from a listener's address, from any port.
pub(crate) fn open_tcp_from(local: LocalAddr) -> io::Result<TcpSocket> {
    let socket = new_tcp(local.0)?;
    socket.set_reuse_address(true)?;
    // The kernel picks the port at the connect, so that two connections to different peers may share one.
    option::set_bind_address_no_port(&socket)?;
    socket.bind(&SocketAddr::new(local.0.ip(), 0).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn new_tcp(local: SocketAddr) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(local), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    set_address_options(&socket, local)?;
    Ok(socket)
}

fn set_address_options(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() {
        sockopt::set_ip_freebind(socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(socket, true)?;
        socket.set_only_v6(true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_the_host_does_not_hold_is_no_error() {
        // TEST-NET-3 and the documentation prefix are nobody's addresses.
        for absent in ["203.0.113.77:5060", "[2001:db8::77]:5060"] {
            let absent = LocalAddr(absent.parse().expect("an address"));

            assert_eq!(open_udp(absent, 2).expect("freebind").len(), 2);
            open_tcp(absent).expect("freebind");
        }
    }

    #[test]
    fn a_udp_port_that_another_socket_has_is_refused_even_if_that_one_would_share_it() {
        let theirs = open_udp(any_port(), 2).expect("a free port");
        let taken = LocalAddr(theirs[0].local_addr().expect("bound"));

        let refused = open_udp(taken, 2);

        assert!(
            matches!(refused, Err(BindError::AddressInUse { transport: Transport::Udp, local }) if local == taken)
        );
    }

    #[test]
    fn a_tcp_port_that_another_socket_has_is_refused() {
        let theirs = open_tcp(any_port()).expect("a free port");
        let taken = LocalAddr(theirs.local_addr().expect("bound"));

        let refused = open_tcp(taken);

        assert!(matches!(refused, Err(BindError::AddressInUse { transport: Transport::Tcp, .. })));
    }

    #[test]
    fn all_sockets_of_a_udp_listener_share_one_address() {
        let sockets = open_udp(any_port(), 3).expect("a free port");

        let bound: Vec<_> = sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect();

        assert_eq!(bound, [bound[0]; 3]);
    }

    #[test]
    fn a_udp_socket_lets_the_network_fragment() {
        let v4 = open_udp(any_port(), 1).expect("a free port");
        let v6 = open_udp(LocalAddr("[::1]:0".parse().expect("an address")), 1).expect("a free port");

        assert_eq!(sockopt::ip_mtu_discover(&v4[0]).expect("an option"), Ipv4PathMtuDiscovery::DONT);
        assert_eq!(sockopt::ipv6_mtu_discover(&v6[0]).expect("an option"), Ipv6PathMtuDiscovery::DONT);
    }

    #[test]
    fn an_ipv6_listener_leaves_the_same_port_of_ipv4_free() {
        let v6 = open_tcp(LocalAddr("[::]:0".parse().expect("an address"))).expect("a free port");
        let port = v6.local_addr().expect("bound").port();

        let v4 = open_tcp(LocalAddr(SocketAddr::new("127.0.0.1".parse().expect("an address"), port)));

        assert!(v4.is_ok());
    }

    fn any_port() -> LocalAddr {
        LocalAddr("127.0.0.1:0".parse().expect("an address"))
    }
}

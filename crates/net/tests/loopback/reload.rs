//! Listeners that come and go while the server runs.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use net::{BindError, ConnectionLimits, ReloadError, Server};
use transport::Transport;

use crate::testbed::{TcpPhone, UdpPhone, eventually, options, own_host, settings, start};

#[test]
fn an_added_listener_serves_and_the_others_are_not_touched() {
    let host = own_host();
    let [first, second] = [5060, 5070].map(|port| SocketAddr::new(host, port));
    let server = start(&[(Transport::Udp, first), (Transport::Tcp, first)]);
    let mut stays = TcpPhone::connect(first);
    stays.send(b"\r\n\r\n");
    stays.receive_bytes(2);
    let before = server.settings();

    reload(
        &server,
        &[
            (Transport::Udp, second),
            (Transport::Tcp, second),
            (Transport::Udp, first),
            (Transport::Tcp, first),
        ],
    )
    .expect("a free port");

    assert_answers_udp(second, host);
    assert_answers_udp(first, host);
    stays.send(b"\r\n\r\n");
    assert_eq!(stays.receive_bytes(2), b"\r\n", "a connection of a listener that stays");
    TcpPhone::connect(second).send(b"\r\n\r\n");
    let after = server.settings();
    for listener in before.listeners.iter() {
        assert_eq!(after.listeners.find(listener.transport, listener.local), Some(listener.id));
    }
    server.stop().expect("a clean end");
}

#[test]
fn a_removed_listener_is_closed_with_its_connections() {
    let host = own_host();
    let [stays, goes] = [5060, 5070].map(|port| SocketAddr::new(host, port));
    let server = start(&[(Transport::Udp, stays), (Transport::Udp, goes), (Transport::Tcp, goes)]);
    let mut connected = TcpPhone::connect(goes);
    connected.send(b"\r\n\r\n");
    connected.receive_bytes(2);

    reload(&server, &[(Transport::Udp, stays)]).expect("nothing to open");

    connected.expect_end();
    eventually("the UDP port is free", || UdpSocket::bind(goes).is_ok());
    eventually("the TCP port is closed", || TcpStream::connect(goes).is_err());
    assert_answers_udp(stays, host);
    server.stop().expect("a clean end");
}

#[test]
fn a_listener_that_comes_back_serves_again() {
    let host = own_host();
    let [stays, moves] = [5060, 5070].map(|port| SocketAddr::new(host, port));
    let both = [(Transport::Udp, stays), (Transport::Udp, moves)];
    let server = start(&both);
    reload(&server, &both[..1]).expect("nothing to open");
    eventually("the port is free", || UdpSocket::bind(moves).is_ok());

    reload(&server, &both).expect("a free port");

    assert_answers_udp(moves, host);
    server.stop().expect("a clean end");
}

#[test]
fn a_reload_whose_listener_can_not_be_opened_changes_nothing() {
    let host = own_host();
    let [first, added, taken] = [5060, 5070, 5080].map(|port| SocketAddr::new(host, port));
    let server = start(&[(Transport::Udp, first)]);
    let _theirs = UdpSocket::bind(taken).expect("a free port");

    let refused = reload(&server, &[(Transport::Udp, added), (Transport::Udp, taken)]);

    assert!(matches!(
        refused,
        Err(ReloadError::Bind(BindError::AddressInUse { transport: Transport::Udp, local })) if local.0 == taken
    ));
    assert_answers_udp(first, host);
    assert_eq!(server.settings().listeners.len(), 1);
    UdpSocket::bind(added).expect("what was opened is closed again");
    server.stop().expect("a clean end");
}

fn reload(server: &Server, listeners: &[(Transport, SocketAddr)]) -> Result<(), ReloadError> {
    server.reload(&settings(listeners), ConnectionLimits::default(), net::RelayRules::default())
}

fn assert_answers_udp(server_address: SocketAddr, host: IpAddr) {
    let phone = UdpPhone::new(host);
    let call_id = format!("after-reload-{}", phone.address().port());
    let request = options(&format!("sip:{server_address}"), "UDP", phone.address(), &call_id);
    phone.send(server_address, request.as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
}

//! UDP: requests, STUN, keepalives and garbage.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use transport::Transport;

use crate::testbed::{UdpPhone, counted, eventually, free_port, options, own_host, start};

#[test]
fn a_request_to_the_server_itself_is_answered_over_ipv4() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let phone = UdpPhone::new(host);

    phone.send(
        server_address,
        options(&format!("sip:{server_address}"), "UDP", phone.address(), "a").as_bytes(),
    );

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn a_request_to_the_server_itself_is_answered_over_ipv6() {
    let host = IpAddr::from(Ipv6Addr::LOCALHOST);
    let server_address = free_port(host);
    let server = start(&[(Transport::Udp, server_address)]);
    let phone = UdpPhone::new(host);

    phone.send(
        server_address,
        options(&format!("sip:{server_address}"), "UDP", phone.address(), "a").as_bytes(),
    );

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn every_request_of_a_burst_is_answered_whichever_shard_it_belongs_to() {
    const BURST: usize = 200;
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let phone = UdpPhone::new(host);
    let uri = format!("sip:{server_address}");

    for number in 0..BURST {
        let request = options(&uri, "UDP", phone.address(), &format!("burst-{number}"));
        phone.send(server_address, request.as_bytes());
    }
    let mut answered: Vec<String> = (0..BURST).map(|_| call_id(&phone.receive_text())).collect();

    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), BURST);
    server.stop().expect("a clean end");
}

/// RFC 5626 §4.4.2: STUN is answered on the SIP port.
#[test]
fn a_stun_binding_request_is_answered_on_the_sip_port() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let phone = UdpPhone::new(host);
    let request = *b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.";

    phone.send(server_address, &request);
    let answer = phone.receive();

    assert_eq!(&answer[..2], [0x01, 0x01], "a success response");
    assert_eq!(&answer[4..20], &request[4..20], "of this transaction");
    server.stop().expect("a clean end");
}

#[test]
fn keepalives_and_garbage_are_counted_and_not_answered() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let phone = UdpPhone::new(host);

    phone.send(server_address, b"\r\n\r\n");
    phone.send(server_address, b"\0\0\0\0");
    phone.send(server_address, b"GET / HTTP/1.1\r\n\r\n");
    phone.send(
        server_address,
        options(&format!("sip:{server_address}"), "UDP", phone.address(), "a").as_bytes(),
    );

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "), "the first answer is that of the request");
    assert_eq!(counted(&server, "keepalive_received"), 2);
    assert_eq!(counted(&server, "garbage"), 1);
    eventually("four datagrams counted", || counted(&server, "datagram_received") == 4);
    server.stop().expect("a clean end");
}

fn call_id(message: &str) -> String {
    message.lines().find_map(|line| line.strip_prefix("Call-ID: ")).expect("a Call-ID").to_owned()
}

//! TCP: framing, keepalives, and peers that are slow, many, or no SIP at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{ConnectionLimits, Server};
use transport::Transport;

use crate::testbed::{TcpPhone, counted, eventually, options, own_host, register, start, start_with};

#[test]
fn a_request_to_the_server_itself_is_answered_over_its_connection() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    let request = probe(server_address, &phone, "a");
    phone.send(request.as_bytes());

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn requests_that_come_together_are_all_answered() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    let both = probe(server_address, &phone, "first") + &probe(server_address, &phone, "second");
    phone.send(both.as_bytes());
    let answers = [phone.receive_text(), phone.receive_text()];

    assert!(answers.iter().any(|answer| answer.contains("Call-ID: first")));
    assert!(answers.iter().any(|answer| answer.contains("Call-ID: second")));
    server.stop().expect("a clean end");
}

#[test]
fn a_request_that_comes_in_pieces_is_answered() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    let request = probe(server_address, &phone, "pieces");
    for piece in request.as_bytes().chunks(40) {
        phone.send(piece);
    }

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

/// RFC 5626 §4.4.1: a double line end is a ping, a single one its pong.
#[test]
fn a_ping_gets_its_pong() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    phone.send(b"\r\n\r\n");

    assert_eq!(phone.receive_bytes(2), b"\r\n");
    server.stop().expect("a clean end");
}

#[test]
fn what_was_asked_before_the_peer_ended_its_side_is_still_answered() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    let request = probe(server_address, &phone, "half-closed");
    phone.send(request.as_bytes());
    phone.0.shutdown(std::net::Shutdown::Write).expect("the connection is there");

    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    phone.expect_end();
    server.stop().expect("a clean end");
}

#[test]
fn a_sender_that_does_not_end_its_message_is_closed() {
    let limits = ConnectionLimits { message_timeout: Duration::from_millis(100), ..Default::default() };
    let (server, server_address) = serve_with(limits);
    let mut phone = TcpPhone::connect(server_address);

    phone.send(b"OPTIONS sip:a@b SIP/2.0\r\nVia: ");

    phone.expect_end();
    assert_eq!(counted(&server, "connection_slow"), 1);
    eventually("the connection is forgotten", || server.status().connections == 0);
    server.stop().expect("a clean end");
}

#[test]
fn a_peer_that_speaks_no_sip_is_closed() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    phone.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    phone.expect_end();
    assert_eq!(counted(&server, "connection_broken"), 1);
    server.stop().expect("a clean end");
}

/// RFC 3261 §18.3: over a stream nothing but Content-Length says where the message ends.
#[test]
fn a_request_of_unknown_length_is_refused_and_its_connection_closed() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);

    let request = probe(server_address, &phone, "no-length").replace("Content-Length: 0\r\n", "");
    phone.send(request.as_bytes());

    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 4"), "{answer}");
    phone.expect_end();
    server.stop().expect("a clean end");
}

#[test]
fn one_connection_too_many_from_a_source_is_closed_and_the_others_stay() {
    let limits = ConnectionLimits { connections_per_source_max: 1, ..Default::default() };
    let (server, server_address) = serve_with(limits);
    let mut first = TcpPhone::connect(server_address);
    let request = probe(server_address, &first, "before");
    first.send(request.as_bytes());
    first.receive_text();

    TcpPhone::connect(server_address).expect_end();

    assert_eq!(counted(&server, "connection_refused_by_source"), 1);
    let request = probe(server_address, &first, "after");
    first.send(request.as_bytes());
    assert!(first.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn a_connection_that_ends_makes_room_for_another() {
    let limits = ConnectionLimits { connections_max: 1, ..Default::default() };
    let (server, server_address) = serve_with(limits);
    let mut first = TcpPhone::connect(server_address);
    first.send(b"\r\n\r\n");
    first.receive_bytes(2);
    TcpPhone::connect(server_address).expect_end();

    drop(first);
    eventually("the connection is forgotten", || server.status().connections == 0);

    let mut second = TcpPhone::connect(server_address);
    second.send(b"\r\n\r\n");
    assert_eq!(second.receive_bytes(2), b"\r\n");
    server.stop().expect("a clean end");
}

#[test]
fn an_idle_connection_is_closed_unless_a_binding_depends_on_it() {
    let limits = ConnectionLimits { idle_timeout: Duration::from_millis(300), ..Default::default() };
    let (server, server_address) = serve_with(limits);
    let mut bound = TcpPhone::connect(server_address);
    bound.send(register("alice", "TCP", bound.address(), 1, "").as_bytes());
    assert!(bound.receive_text().starts_with("SIP/2.0 200 "));
    let mut idle = TcpPhone::connect(server_address);
    idle.send(b"\r\n\r\n");

    idle.expect_end();

    bound.send(b"\r\n\r\n");
    assert_eq!(bound.receive_bytes(2), b"\r\n", "it was idle for longer, but a phone is reached by it");
    server.stop().expect("a clean end");
}

#[test]
fn a_binding_loses_its_way_when_its_connection_ends() {
    let (server, server_address) = serve();
    let mut phone = TcpPhone::connect(server_address);
    phone.send(register("alice", "TCP", phone.address(), 1, "").as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    assert!(server.contacts(None).iter().all(|binding| binding.is_reachable));

    drop(phone);

    eventually("the binding is not reachable", || {
        !server.contacts(None).iter().any(|binding| binding.is_reachable)
    });
    server.stop().expect("a clean end");
}

fn serve() -> (Server, SocketAddr) {
    let server_address = SocketAddr::new(own_host(), 5060);
    (start(&[(Transport::Tcp, server_address)]), server_address)
}

fn serve_with(limits: ConnectionLimits) -> (Server, SocketAddr) {
    let server_address = SocketAddr::new(own_host(), 5060);
    let server = start_with(&[(Transport::Tcp, server_address)], limits, Arc::default()).expect("a server");
    (server, server_address)
}

fn probe(server_address: SocketAddr, phone: &TcpPhone, call_id: &str) -> String {
    options(&format!("sip:{server_address};transport=tcp"), "TCP", phone.address(), call_id)
}

//! What the server sends on its own account: to next hops over UDP and over connections that it opens.

use std::net::{SocketAddr, TcpListener};

use sip::MethodName;
use transaction::Progress;
use transport::Transport;

use crate::testbed::{UdpPhone, accept, counted, eventually, options, own_host, start};

#[test]
fn a_request_for_a_tcp_hop_opens_a_connection_from_the_listeners_address() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address), (Transport::Tcp, server_address)]);
    let hop = TcpListener::bind((host, 0)).expect("a free port");
    let hop_address = hop.local_addr().expect("bound");
    let phone = UdpPhone::new(host);

    let uri = format!("sip:bob@{hop_address};transport=tcp");
    phone.send(server_address, options(&uri, "UDP", phone.address(), "first").as_bytes());
    let (mut callee, from) = accept(&hop);
    let request = callee.receive_text();
    callee.send(ok(&request).as_bytes());

    assert_eq!(from.ip(), host);
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));

    phone.send(server_address, options(&uri, "UDP", phone.address(), "second").as_bytes());
    let request = callee.receive_text();
    assert!(request.contains("Call-ID: second"), "the connection is used again");
    callee.send(ok(&request).as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    assert_eq!(counted(&server, "connection_opened"), 1);
    server.stop().expect("a clean end");
}

#[test]
fn a_tcp_hop_that_refuses_is_reported_long_before_the_transaction_times_out() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address), (Transport::Tcp, server_address)]);
    let nobody = SocketAddr::new(host, 9);
    let phone = UdpPhone::new(host);

    let uri = format!("sip:bob@{nobody};transport=tcp");
    phone.send(server_address, options(&uri, "UDP", phone.address(), "refused").as_bytes());

    // PATIENCE is less than the 32 s of the transaction.
    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 5") || answer.starts_with("SIP/2.0 4"), "{answer}");
    assert_eq!(counted(&server, "connection_failed"), 1);
    server.stop().expect("a clean end");
}

/// RFC 3261 §18.4: an ICMP error ends the transaction of the request that it quotes, and no other one.
#[test]
fn a_udp_hop_that_refuses_is_reported_long_before_the_transaction_times_out() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let nobody = SocketAddr::new(host, 9);
    let callee = UdpPhone::new(host);
    let phone = UdpPhone::new(host);

    let waits = format!("sip:bob@{}", callee.address());
    phone.send(server_address, options(&waits, "UDP", phone.address(), "waits").as_bytes());
    let request = callee.receive_text();
    let uri = format!("sip:bob@{nobody}");
    phone.send(server_address, options(&uri, "UDP", phone.address(), "refused").as_bytes());

    // PATIENCE is less than the 32 s of the transaction.
    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 5"), "{answer}");
    assert!(answer.contains("Call-ID: refused"), "{answer}");
    assert_eq!(counted(&server, "datagram_unreachable"), 1);
    callee.send(server_address, ok(&request).as_bytes());
    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("Call-ID: waits"), "{answer}");
    server.stop().expect("a clean end");
}

#[test]
fn a_name_is_resolved_on_the_way() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let callee = UdpPhone::new("127.0.0.1".parse().expect("an address"));
    let phone = UdpPhone::new(host);

    let uri = format!("sip:bob@localhost:{}", callee.address().port());
    phone.send(server_address, options(&uri, "UDP", phone.address(), "by-name").as_bytes());
    let request = callee.receive_text();
    callee.send(server_address, ok(&request).as_bytes());

    assert!(request.starts_with(&format!("OPTIONS {uri} SIP/2.0\r\n")));
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn what_came_and_how_it_was_settled_is_counted_once_for_each_request() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let server = start(&[(Transport::Udp, server_address)]);
    let (phone, callee) = (UdpPhone::new(host), UdpPhone::new(host));
    let own = options(&format!("sip:{server_address}"), "UDP", phone.address(), "own");
    phone.send(server_address, own.as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    let uri = format!("sip:bob@{}", callee.address());
    let forwarded = options(&uri, "UDP", phone.address(), "forwarded");

    phone.send(server_address, forwarded.as_bytes());
    let request = callee.receive_text();
    callee.send(server_address, ok(&request).as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    phone.send(server_address, forwarded.as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "), "the answer is repeated");

    let settled = || {
        let latencies = server.status().latencies;
        let of = |by| {
            let mut same = latencies.iter().filter(|it| it.method == MethodName::Other && it.by == by);
            same.next().map_or(0, |it| it.buckets.iter().map(|(_, figure)| figure).sum::<u64>())
        };
        (of(Progress::Answered), of(Progress::Forwarded))
    };
    // It is noted after the answer has left.
    eventually("both are noted", || settled() == (1, 1));
    let traffic = server.status().traffic;
    let requests: Vec<_> = traffic.requests().filter(|(_, figure)| *figure > 0).collect();
    assert_eq!(requests, [(MethodName::Options, 2)]);
    let answers: Vec<_> = traffic.answers().filter(|(.., figure)| *figure > 0).collect();
    assert_eq!(answers, [(MethodName::Options, 2, 2)]);
    server.stop().expect("a clean end");
}

/// The 200 to a request without a body.
pub(crate) fn ok(request: &str) -> String {
    let mut response = "SIP/2.0 200 OK\r\n".to_owned();
    for line in request.lines() {
        let is_copied =
            ["Via:", "From:", "To:", "Call-ID:", "CSeq:"].iter().any(|name| line.starts_with(name));
        if is_copied {
            let tag = if line.starts_with("To:") { ";tag=callee" } else { "" };
            response.push_str(&format!("{line}{tag}\r\n"));
        }
    }
    response + "Content-Length: 0\r\n\r\n"
}

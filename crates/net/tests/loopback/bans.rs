//! Who is not heard: over UDP and TCP, for the operator and by the operator.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use net::{Cause, ConnectionLimits, Measure, Server, SourceNetwork, Start};
use routing::Settings;
use routing::bans::Rate;
use transport::{Listener, Listeners, Transport};

use crate::testbed::{
    MemoryStore, TcpPhone, UdpPhone, counted, eventually, options, own_host, register, root_key, settings,
};

#[test]
fn a_scanner_over_tcp_is_banned_cut_off_and_refused_and_others_are_heard() {
    let (server, address) = serve(|_| {});
    let (scanner, other) = (own_host(), own_host());
    let mut connection = connect(scanner, address);
    let mut idle = connect(scanner, address);
    let mut neighbour = connect(other, address);
    // The connection is known to the server when it has answered.
    for phone in [&mut idle, &mut neighbour] {
        phone.send(b"\r\n\r\n");
        phone.receive_bytes(2);
    }

    connection.send(scan(address, connection.address(), "TCP").as_bytes());

    connection.expect_end();
    idle.expect_end();
    let held = server.held().sources;
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].source, held[0].measure, held[0].cause),
        (SourceNetwork::of(scanner), Measure::Banned, Cause::Scanner)
    );
    connect(scanner, address).expect_end();
    assert_eq!(counted(&server, "connection_banned"), 1);
    neighbour.send(options(&format!("sip:{address}"), "TCP", neighbour.address(), "a").as_bytes());
    assert!(neighbour.receive_text().starts_with("SIP/2.0 200 "));

    // Nor is it heard over UDP, until the operator lifts it.
    let datagrams = UdpPhone::new(scanner);
    let probe = options(&format!("sip:{address}"), "UDP", datagrams.address(), "b");
    datagrams.send(address, probe.as_bytes());
    eventually("it is dropped", || counted(&server, "dropped_banned") == 1);
    assert_eq!(server.lift(Some(SourceNetwork::of(scanner))).sources.len(), 1);
    datagrams.send(address, probe.as_bytes());
    assert!(datagrams.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn a_scanner_over_udp_gets_no_answer_and_bans_nobody() {
    let (server, address) = serve(|_| {});
    let phone = UdpPhone::new(own_host());

    phone.send(address, scan(address, phone.address(), "UDP").as_bytes());
    phone.send(address, options(&format!("sip:{address}"), "UDP", phone.address(), "good").as_bytes());

    assert!(phone.receive_text().contains("Call-ID: good"));
    assert_eq!(counted(&server, "scanner"), 1);
    assert_eq!(server.held().sources, []);
    server.stop().expect("a clean end");
}

#[test]
fn a_flood_without_proof_is_answered_at_its_rate_and_another_source_at_once() {
    let rate = Rate { every: Duration::from_secs(60), burst: 10 };
    let (server, address) = serve(|settings| settings.admission.unproven = rate);
    let (flooder, phone) = (UdpPhone::new(own_host()), UdpPhone::new(own_host()));

    let flood = |number| {
        flooder.send(address, register("alice", "UDP", flooder.address(), number, "").as_bytes());
    };
    (0..500).for_each(flood);
    // All of these may have come before the first was answered, and only answers count.
    eventually("it is slowed", || {
        flood(500);
        counted(&server, "dropped_slowed") > 0
    });
    phone.send(address, register("bob", "UDP", phone.address(), 1, "").as_bytes());

    assert!(phone.receive_text().starts_with("SIP/2.0 401 "));
    let held = server.held().sources;
    assert!(
        held.iter().all(|ban| ban.measure == Measure::Slowed && ban.source == network(&flooder)),
        "{held:?}"
    );
    server.stop().expect("a clean end");
}

#[test]
fn the_operator_bans_a_source_for_a_time() {
    let (server, address) = serve(|_| {});
    let phone = UdpPhone::new(own_host());
    let probe = options(&format!("sip:{address}"), "UDP", phone.address(), "a");

    let ban = server.ban(phone.address().ip(), Duration::from_secs(3_600)).expect("it is not excepted");
    phone.send(address, probe.as_bytes());
    eventually("it is dropped", || counted(&server, "dropped_banned") == 1);

    assert_eq!((ban.source, ban.cause), (network(&phone), Cause::Operator));
    assert_eq!((counted(&server, "banned_by_operator"), server.status().held), (1, 1));
    assert_eq!(server.lift(None).sources.len(), 1);
    phone.send(address, probe.as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.stop().expect("a clean end");
}

#[test]
fn a_reload_takes_other_rules() {
    let (server, address) = serve(|_| {});
    let phone = UdpPhone::new(own_host());
    server.ban(phone.address().ip(), Duration::from_secs(3_600)).expect("it is not excepted");

    let mut settings = Settings::clone(&server.settings());
    settings.admission.never = vec![phone.address().ip().into()];
    server.reload(&settings, ConnectionLimits::default(), net::RelayRules::default()).expect("it is right");

    phone.send(address, options(&format!("sip:{address}"), "UDP", phone.address(), "a").as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    server.ban(phone.address().ip(), Duration::from_secs(1)).expect_err("it is excepted");
    server.stop().expect("a clean end");
}

/// A server that asks everybody for digest and trusts nobody, over UDP and TCP.
fn serve(change: impl FnOnce(&mut Settings)) -> (Server, SocketAddr) {
    let address = SocketAddr::new(own_host(), 5060);
    let mut settings = settings(&[(Transport::Udp, address), (Transport::Tcp, address)]);
    let listeners = settings.listeners.iter().map(|listener| Listener { digest: true, ..listener.clone() });
    settings.listeners = Arc::new(Listeners::new(listeners.collect()));
    settings.trusted.clear();
    change(&mut settings);
    let server = Server::start(Start {
        settings: Arc::new(settings),
        connection_limits: ConnectionLimits::default(),
        root_key: root_key(),
        node: 0,
        boot: 1,
        threads: 2,
        store: Arc::new(MemoryStore::default()),
        lease: Arc::new(net::Permanent),
        virtual_addresses: Default::default(),
        peer: None,
        tickler: None,
        relay: net::RelayRules::default(),
        kernel_path: Err("there is none".to_owned()),
        records: None,
    });
    (server.expect("a server"), address)
}

fn connect(from: IpAddr, to: SocketAddr) -> TcpPhone {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a descriptor");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("loopback");
    socket.connect(&to.into()).expect("it listens");
    TcpPhone::of(socket.into())
}

fn scan(to: SocketAddr, from: SocketAddr, transport: &str) -> String {
    let probe = options(&format!("sip:{to}"), transport, from, "scan");
    probe.replace("Max-Forwards", "User-Agent: friendly-scanner\r\nMax-Forwards")
}

fn network(phone: &UdpPhone) -> SourceNetwork {
    SourceNetwork::of(phone.address().ip())
}

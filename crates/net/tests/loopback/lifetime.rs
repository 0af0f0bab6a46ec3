//! Start and end: taken ports, absent addresses, what is restored and what is written down.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use clock::WallTime;
use net::{BindError, ConnectionLimits, StartError};
use routing::StoredBinding;
use sip::Aor;
use transport::{LocalAddr, Transport};

use crate::testbed::{MemoryStore, own_host, start, start_with};

#[test]
fn a_taken_port_is_named_with_its_transport() {
    let address = SocketAddr::new(own_host(), 5060);
    let _theirs = TcpListener::bind(address).expect("a free port");

    let refused = start_with(
        &[(Transport::Udp, address), (Transport::Tcp, address)],
        ConnectionLimits::default(),
        Arc::default(),
    );

    assert!(matches!(
        refused.err(),
        Some(StartError::Bind(BindError::AddressInUse { transport: Transport::Tcp, local })) if local.0 == address
    ));
    UdpSocket::bind(address).expect("what was opened is closed again");
}

#[test]
fn a_second_server_on_the_same_port_is_refused() {
    let address = SocketAddr::new(own_host(), 5060);
    let server = start(&[(Transport::Udp, address)]);

    let second = start_with(&[(Transport::Udp, address)], ConnectionLimits::default(), Arc::default());

    assert!(matches!(second.err(), Some(StartError::Bind(BindError::AddressInUse { .. }))));
    server.stop().expect("a clean end");
}

#[test]
fn an_address_that_the_host_does_not_hold_is_no_error() {
    let absent = "203.0.113.77:5060".parse().expect("an address");

    let server = start(&[(Transport::Udp, absent), (Transport::Tcp, absent)]);

    assert_eq!(server.status().listeners.len(), 2);
    server.stop().expect("a clean end");
}

#[test]
fn a_running_server_is_alive_and_a_stopped_one_has_written_all_and_freed_its_ports() {
    let address = SocketAddr::new(own_host(), 5060);
    let store = Arc::new(MemoryStore::default());
    let listeners = [(Transport::Udp, address), (Transport::Tcp, address)];
    let server = start_with(&listeners, ConnectionLimits::default(), Arc::clone(&store)).expect("a server");
    assert!(server.is_alive());

    server.stop().expect("a clean end");

    assert!(store.is_flushed.load(Ordering::Relaxed));
    UdpSocket::bind(address).expect("the port is free");
    server.stop().expect("a second time is no error");
}

#[test]
fn bindings_that_were_written_down_are_there_at_once() {
    let host = own_host();
    let address = SocketAddr::new(host, 5060);
    let aor = Aor::parse("alice@example.org").expect("an address of record");
    let store = MemoryStore::default();
    store.bindings.lock().expect("no test panics inside").push(stored(&aor, address));

    let server = start_with(&[(Transport::Udp, address)], ConnectionLimits::default(), Arc::new(store))
        .expect("a server");

    for contacts in [server.contacts(Some(&aor)), server.contacts(None)] {
        let contacts: Vec<_> = contacts.iter().map(|binding| binding.contact.as_ref()).collect();
        assert_eq!(contacts, [b"sip:alice@192.0.2.9"]);
    }
    assert_eq!(server.status().bindings, 1);
    server.stop().expect("a clean end");
}

pub(crate) fn stored(aor: &Aor, listener: SocketAddr) -> StoredBinding {
    const YEAR_2100: u64 = 4_102_444_800_000;
    StoredBinding {
        aor: aor.clone(),
        contact: Bytes::from_static(b"sip:alice@192.0.2.9"),
        listener: (Transport::Udp, LocalAddr(listener)),
        received: "192.0.2.9:5060".parse().expect("an address"),
        path: Vec::new(),
        instance: None,
        reg_id: None,
        q: None,
        call_id: Bytes::from_static(b"register"),
        cseq: 1,
        user_agent: None,
        nat: false,
        response_hash: 0,
        expires_at: WallTime::from_millis(YEAR_2100),
    }
}

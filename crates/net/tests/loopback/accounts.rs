//! The way of a question: from a shard to a partition, to the store, and back.

use std::net::SocketAddr;
use std::sync::Arc;

use engine::Change;
use net::{ConnectionLimits, Server, Start};
use transport::{Listener, Listeners, Transport};

use crate::testbed::{MemoryStore, UdpPhone, own_host, register, root_key, settings, start_with};

#[test]
fn a_registration_is_listed_and_written_down() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let store = Arc::new(MemoryStore::default());
    let server =
        start_with(&[(Transport::Udp, server_address)], ConnectionLimits::default(), Arc::clone(&store))
            .expect("a server");
    let phone = UdpPhone::new(host);

    phone.send(server_address, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    let answer = phone.receive_text();

    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let listed: Vec<_> = server.contacts(None).into_iter().map(|binding| binding.received).collect();
    assert_eq!(listed, [phone.address()]);
    let changes = store.changes.lock().expect("no test panics inside");
    assert!(matches!(&changes[..], [Change::Put(binding)] if binding.received == phone.address()));
    server.stop().expect("a clean end");
}

#[test]
fn credentials_are_checked_with_the_account_from_the_store_which_is_asked_once() {
    let host = own_host();
    let server_address = SocketAddr::new(host, 5060);
    let store = Arc::new(MemoryStore::default());
    let server = start_with_digest(server_address, Arc::clone(&store));
    let phone = UdpPhone::new(host);
    phone.send(server_address, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    let challenge = phone.receive_text();
    assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
    assert!(store.looked_up.lock().expect("no test panics inside").is_empty(), "nobody has shown who asks");

    for cseq in [2, 3] {
        let credentials = wrong_credentials(&challenge, cseq);
        let request = register("alice", "UDP", phone.address(), cseq, &credentials);
        phone.send(server_address, request.as_bytes());
        assert!(phone.receive_text().starts_with("SIP/2.0 401 "));
    }

    assert_eq!(store.looked_up.lock().expect("no test panics inside").len(), 1);
    assert_eq!(server.status().accounts, 1);

    server.account_changed(sip::Aor::parse("alice@example.org").expect("an address of record"));
    let request = register("alice", "UDP", phone.address(), 4, &wrong_credentials(&challenge, 4));
    phone.send(server_address, request.as_bytes());
    phone.receive_text();

    assert_eq!(
        store.looked_up.lock().expect("no test panics inside").len(),
        2,
        "a changed account is asked for"
    );
    server.stop().expect("a clean end");
}

fn start_with_digest(server_address: SocketAddr, store: Arc<MemoryStore>) -> Server {
    let mut settings = settings(&[(Transport::Udp, server_address)]);
    let listeners = settings.listeners.iter().map(|listener| Listener { digest: true, ..listener.clone() });
    settings.listeners = Arc::new(Listeners::new(listeners.collect()));
    settings.trusted.clear();
    Server::start(Start {
        settings: Arc::new(settings),
        connection_limits: ConnectionLimits::default(),
        root_key: root_key(),
        node: 0,
        boot: 1,
        threads: 2,
        store,
        lease: Arc::new(net::Permanent),
        virtual_addresses: Default::default(),
        peer: None,
        tickler: None,
        relay: net::RelayRules::default(),
        kernel_path: Err("there is none".to_owned()),
        records: None,
    })
    .expect("a server")
}

/// Credentials for the first challenge of an answer, with a response that no password gives.
fn wrong_credentials(answer: &str, count: u32) -> String {
    let challenge = answer.lines().find(|line| line.starts_with("WWW-Authenticate:")).expect("a challenge");
    let value = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\"")).expect("a parameter of every challenge");
        rest.split_once('"').expect("a quoted value").0.to_owned()
    };
    let algorithm = challenge.split_once("algorithm=").expect("an algorithm").1;
    let algorithm = algorithm.split(',').next().expect("a value").trim();
    let response = "0".repeat(if algorithm == "MD5" { 32 } else { 64 });
    format!(
        "Authorization: Digest username=\"alice\", realm=\"{}\", nonce=\"{}\", uri=\"sip:example.org\", \
         algorithm={algorithm}, qop=auth, nc={count:08x}, cnonce=\"c\", response=\"{response}\"\r\n",
        value("realm"),
        value("nonce"),
    )
}

//! Settings for tests.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::Settings;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

/// Default settings with these listeners, written `udp:192.0.2.1:5060`.
pub(crate) fn settings(listeners: &[&str]) -> Settings {
    let listener = |(number, text): (usize, &&str)| {
        let (transport, local) = text.split_once(':').expect("transport and address");
        Listener {
            id: ListenerId(number as u16),
            transport: Transport::of_name(transport.as_bytes()).expect("a transport"),
            local: LocalAddr(local.parse().expect("an address")),
            advertise: None,
            digest: true,
        }
    };
    Settings {
        listeners: Arc::new(Listeners::new(listeners.iter().enumerate().map(listener).collect())),
        domains: BTreeSet::from(["example.org".to_owned()]),
        server: Some("net-test".to_owned()),
        timers: transaction::Timers::default(),
        proxy: routing::Proxy::default(),
        registrar: routing::Registrar::default(),
        digest: routing::Digest::default(),
        nat: routing::Nat::default(),
        relay: Default::default(),
        edges: Vec::new(),
        is_location_published: false,
        location_peers: Default::default(),
        trunks: Vec::new(),
        trusted: Vec::new(),
        admission: Default::default(),
        dial_plan: routing::DialPlan::default(),
    }
}

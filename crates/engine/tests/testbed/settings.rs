//! What the tests of one shard or partition share.

use std::collections::BTreeSet;
use std::sync::Arc;

use routing::Settings;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

/// One listener, and the domain `example.org`.
pub(crate) fn settings() -> Settings {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr("192.0.2.1:5060".parse().expect("an address")),
        advertise: None,
        digest: true,
    };
    Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        ..Settings::default()
    }
}

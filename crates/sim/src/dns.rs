//! The domain name system as the server sees it.

use std::time::Duration;

use routing::call::Resolved;
use transport::RemoteAddr;

use crate::cast::{FOREIGN_DOMAIN, FOREIGNER};
use crate::events::{Event, Events};

/// How the resolver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// It answers.
    Up,
    /// It fails.
    Failing,
}

/// What the server is told of a name, and when: a look-up takes a while.
pub(crate) fn resolve(
    resolver: Resolver,
    host: &str,
    port: u16,
    events: &mut Events,
) -> (Duration, Resolved) {
    match (resolver, host) {
        (Resolver::Failing, _) => {
            events.add(Event::DnsFailed);
            (Duration::from_secs(5), Resolved::Failed)
        }
        (Resolver::Up, FOREIGN_DOMAIN) => {
            events.add(Event::DnsResolved);
            let remote = RemoteAddr(std::net::SocketAddr::new(FOREIGNER.ip(), port));
            (Duration::from_millis(40), Resolved::Addresses(vec![remote]))
        }
        (Resolver::Up, _) => {
            events.add(Event::DnsNoSuchName);
            (Duration::from_millis(40), Resolved::NoSuchName)
        }
    }
}

//! The domain name system as the server sees it.

use std::time::Duration;

use transport::selection::{Query, Records, SrvRecord};

use crate::cast::{DEAD_SERVER, FOREIGN_DOMAIN, FOREIGNER};
use crate::events::{Event, Events};

/// How the resolver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// It answers.
    Up,
    /// It fails.
    Failing,
}

/// What the server is told, and when: a look-up takes a while.
pub(crate) fn resolve(resolver: Resolver, query: &Query, events: &mut Events) -> (Duration, Records) {
    if resolver == Resolver::Failing {
        events.add(Event::DnsFailed);
        return (Duration::from_secs(5), Records::Failed);
    }
    let records = records(query);
    events.add(if records == Records::None { Event::DnsNoSuchName } else { Event::DnsResolved });
    (Duration::from_millis(40), records)
}

/// What the foreign domain publishes: by UDP a server that is dead, then one that lives. Nothing else is there.
fn records(query: &Query) -> Records {
    let name = query.name();
    match query {
        Query::Srv(_) if name.strip_prefix("_sip._udp.") == Some(FOREIGN_DOMAIN) => Records::Srv(vec![
            SrvRecord { priority: 10, weight: 0, port: DEAD_SERVER.port(), target: DEAD_NAME.into() },
            SrvRecord { priority: 20, weight: 0, port: FOREIGNER.port(), target: FOREIGN_DOMAIN.into() },
        ]),
        Query::Addresses(_) if name == DEAD_NAME => Records::Addresses(vec![DEAD_SERVER.ip()]),
        Query::Addresses(_) if name == FOREIGN_DOMAIN => Records::Addresses(vec![FOREIGNER.ip()]),
        Query::Naptr(_) | Query::Srv(_) | Query::Addresses(_) => Records::None,
    }
}

const DEAD_NAME: &str = "dead.foreign.example";

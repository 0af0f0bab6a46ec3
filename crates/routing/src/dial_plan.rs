//! Where numbers go that are no user of ours: gateways, and the routes that lead to them.
//!
//! A plan is compiled from the configuration and never changes. [`DialPlan::find`] takes what is known of a
//! request and gives the first [`Route`] that fits; the route names its [`Goal`]. Which of several gateways
//! is tried first is said by [`order`], from priority, weight, the Call-ID and the verdicts of
//! [`Prober`](crate::gateway::Prober).
//!
//! Invariant: a route to a gateway fits a user of ours who proved who it is. Somebody who is believed without
//! a password (a trusted peer, a gateway, a listener without digest) gets out only by a route that names where
//! it comes from.

mod address;
mod dialled;
mod order;
mod pattern;
mod rewrite;
mod route;
#[cfg(test)]
pub(crate) mod samples;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ipnet::IpNet;
use sip::{Aor, Host, SipUri, Status};

pub use address::write_user;
pub use dialled::Dialled;
pub use order::{listed, order};
pub use pattern::{Pattern, PatternError};
pub use rewrite::{CallerPlace, CallerRules, HeaderEdits, Rewrite, is_number};
pub use route::{Call, CallerName, Fits, Goal, ListenerName, Misfit, Origin, Route};

use crate::Anchoring;

/// All gateways and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialPlan {
    /// In the order of the configuration.
    pub gateways: Vec<Arc<Gateway>>,
    /// In the order in which they are tried.
    pub routes: Vec<Arc<Route>>,
}

/// Another server that takes calls, and perhaps sends some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// What routes, logs and commands call it.
    pub name: Box<str>,
    /// The group that routes may name instead.
    pub group: Option<Box<str>>,
    /// Where it is: a SIP URI without a user.
    pub uri: Bytes,
    /// Our account there, by name: it answers when the gateway asks for digest.
    pub registration: Option<Box<str>>,
    /// The listener that sends to it; `None`: the one that the request came in on, if that can.
    pub via: Option<ListenerName>,
    /// Those with the lowest are tried first.
    pub priority: u16,
    /// Its share of the calls among those of equal priority.
    pub weight: u16,
    /// How many calls it may have from this server at a time; `None`: as many as come.
    pub calls_max: Option<u32>,
    /// How it is watched.
    pub watch: Watch,
    /// How long it may be silent after an INVITE before the next gateway is tried.
    pub answer_timeout: Duration,
    /// Addresses that its calls come from: they are trusted.
    pub sources: Vec<IpNet>,
    /// What happens to the number, after the route's own rewriting.
    pub rewrite: Rewrite,
    /// How it is told who calls.
    pub caller: CallerRules,
    /// Header fields.
    pub headers: HeaderEdits,
    /// Whether media of calls to it pass the relay; `None`: as the listeners say.
    pub relay: Option<Anchoring>,
}

/// How a gateway is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How often it is sent an OPTIONS; `None`: never, so that only calls tell.
    pub interval: Option<Duration>,
    /// After so many failures in a row it is down.
    pub failures: u32,
    /// After so many answers in a row it is up again.
    pub successes: u32,
    /// Answers that count as failures. Every other final response shows that somebody is there.
    pub refusals: BTreeSet<Status>,
}

impl Gateway {
    /// The key under which its calls are counted, by the partition of this address, which is nobody's.
    // RFC 6761 §6.4: no domain is called so.
    pub fn calls_key(&self) -> Option<Aor> {
        Aor::parse(&format!("{}@gateway.invalid", self.name))
    }
}

impl DialPlan {
    /// The gateway of this name.
    pub fn gateway(&self, name: &str) -> Option<&Arc<Gateway>> {
        self.gateways.iter().find(|gateway| *gateway.name == *name)
    }

    /// The gateway whose calls come from this address.
    pub fn gateway_at(&self, address: IpAddr) -> Option<&Arc<Gateway>> {
        let address = address.to_canonical();
        let is_source = |gateway: &&Arc<Gateway>| gateway.sources.iter().any(|net| net.contains(&address));
        self.gateways.iter().find(is_source)
    }

    /// Whether a gateway is at this address, as far as the configuration tells.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_at = |gateway: &Arc<Gateway>| {
            let host = SipUri::parse(&gateway.uri).ok().and_then(|uri| uri.host.ip());
            host.is_some_and(|host| host.to_canonical() == address)
        };
        self.gateways.iter().any(is_at) || self.gateway_at(address).is_some()
    }

    /// Whether this host is one of the gateways, as far as the configuration tells.
    pub fn is_gateway(&self, host: &Host<'_>) -> bool {
        let is_named =
            |gateway: &Arc<Gateway>| SipUri::parse(&gateway.uri).is_ok_and(|uri| uri.host == *host);
        match host.ip() {
            Some(address) => self.has_address(address),
            None => self.gateways.iter().any(is_named),
        }
    }

    /// The first route that fits.
    pub fn find(&self, call: &Call<'_>) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.fits(call))
    }
}

//! Hosts to addresses: A and AAAA, from the hosts file or the host's name servers.
//!
//! RFC 3263 asks for an answer in time more than for one at all: a look-up has a deadline, the number of
//! look-ups is bounded, and a name that failed is not asked for again at once.

mod names;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use clock::Instant;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use routing::Token;
use routing::call::Resolved;
use tokio::runtime::Handle;
use tracing::{debug, warn};
use transport::RemoteAddr;

use self::names::{Asked, Failure, Names};
use crate::clocks;

/// A look-up that takes longer has failed. A caller waits no longer for a first ring either.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);
/// One question to one server. Two tries fit into the look-up's time.
const QUERY_TIME_MAX: Duration = Duration::from_secs(2);
const QUERIES_MAX: usize = 2;
/// Addresses of one name that are tried at most.
const ADDRESSES_MAX: usize = 8;
/// The shortest time for which the resolver keeps a "no such name", also from servers that send no SOA record.
const NEGATIVE_TTL_MIN: Duration = Duration::from_secs(30);

/// What a look-up came to at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// No name server is needed.
    Known(Resolved),
    /// The waiter hears of it later.
    UnderWay,
    /// Too many are under way.
    Refused,
}

/// Who waits for a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) shard: u16,
    pub(crate) token: Token,
    pub(crate) port: u16,
}

/// What a name has.
type Found = Result<Vec<IpAddr>, Failure>;

pub(crate) struct Resolver {
    dns: ArcSwapOption<TokioResolver>,
    names: Mutex<Names<Waiter>>,
}

impl Resolver {
    /// A resolver by the host's own settings. Without readable settings it knows literals and `localhost` only.
    pub(crate) fn new() -> Self {
        Self { dns: ArcSwapOption::from(system_resolver()), names: Mutex::default() }
    }

    /// Reads the host's settings again.
    pub(crate) fn reload(&self) {
        self.dns.store(system_resolver());
        self.names.lock().unwrap_or_else(PoisonError::into_inner).forget_failures();
    }

    /// Looks `host` up. If that takes time, `answer` is called for each who waits, from a task of `runtime`.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        runtime: &Handle,
        now: Instant,
        host: &str,
        waiter: Waiter,
        answer: impl Fn(Waiter, Resolved) + Send + 'static,
    ) -> Lookup {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(addresses) = without_dns(&name) {
            return Lookup::Known(resolved(&Ok(addresses), waiter.port));
        }
        match self.names.lock().unwrap_or_else(PoisonError::into_inner).ask(now, &name, waiter) {
            Asked::Failed(failure) => Lookup::Known(resolved(&Err(failure), waiter.port)),
            Asked::Refused => Lookup::Refused,
            Asked::Joined => Lookup::UnderWay,
            Asked::Begin => {
                let resolver = Arc::clone(self);
                runtime.spawn(async move {
                    let found = resolver.ask_servers(&name).await;
                    resolver.finish(&name, &found, answer);
                });
                Lookup::UnderWay
            }
        }
    }

    fn finish(&self, name: &str, found: &Found, answer: impl Fn(Waiter, Resolved)) {
        let failure = found.as_ref().err().copied();
        let waiters = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.finish(clocks::now().instant, name, failure)
        };
        for waiter in waiters {
            answer(waiter, resolved(found, waiter.port));
        }
    }

    async fn ask_servers(&self, name: &str) -> Found {
        let Some(dns) = self.dns.load_full() else { return Err(Failure::Failed) };
        // A name of several labels is whole; only a bare one is tried in the host's search domains.
        let question = if name.contains('.') { format!("{name}.") } else { name.to_owned() };
        match tokio::time::timeout(LOOKUP_TIME_MAX, dns.lookup_ip(question)).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<_> = found.iter().filter(is_somebodys).collect();
                // Stable: within a family the servers' order stays.
                addresses.sort_by_key(IpAddr::is_ipv6);
                addresses.truncate(ADDRESSES_MAX);
                if addresses.is_empty() { Err(Failure::NoSuchName) } else { Ok(addresses) }
            }
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Err(Failure::NoSuchName),
            Ok(Err(error)) => {
                debug!(name, %error, "name not resolved");
                Err(Failure::Failed)
            }
            Err(_elapsed) => {
                debug!(name, "name not resolved in time");
                Err(Failure::Failed)
            }
        }
    }
}

fn system_resolver() -> Option<Arc<TokioResolver>> {
    let build = || {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = QUERY_TIME_MAX;
        options.attempts = QUERIES_MAX;
        options.negative_min_ttl = Some(NEGATIVE_TTL_MIN);
        options.try_tcp_on_error = true;
        builder.build()
    };
    build()
        .map(Arc::new)
        .inspect_err(
            |error| warn!(%error, "the host's resolver settings can not be read: names are not resolved"),
        )
        .ok()
}

/// Addresses that are written out, and the host's own name.
fn without_dns(name: &str) -> Option<Vec<IpAddr>> {
    let literal = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<IpAddr>() {
        Ok(address) => Some(vec![address]),
        // RFC 6761 §6.3: this name and all below it mean the host itself, whatever a server says.
        Err(_) if name == "localhost" || name.ends_with(".localhost") => {
            Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
        }
        Err(_) => None,
    }
}

/// Not "this host" and not a group: a domain must not make us talk to ourselves by 0.0.0.0.
fn is_somebodys(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

fn resolved(found: &Found, port: u16) -> Resolved {
    match found {
        Ok(addresses) => {
            let remotes = addresses.iter().map(|address| RemoteAddr(SocketAddr::new(*address, port)));
            Resolved::Addresses(remotes.collect())
        }
        Err(Failure::NoSuchName) => Resolved::NoSuchName,
        Err(Failure::Failed) => Resolved::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_no_server() {
        assert_eq!(without_dns("192.0.2.1"), Some(vec!["192.0.2.1".parse().expect("an address")]));
        assert_eq!(without_dns("[2001:db8::1]"), Some(vec!["2001:db8::1".parse().expect("an address")]));
        assert_eq!(without_dns("192.0.2.1.example"), None);
    }

    /// RFC 6761 §6.3: the name is never asked of a server.
    #[test]
    fn localhost_is_this_host_in_both_families() {
        let both: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];

        assert_eq!(without_dns("localhost"), Some(both.clone()));
        assert_eq!(without_dns("sip.localhost"), Some(both));
        assert_eq!(without_dns("notlocalhost"), None);
    }

    #[test]
    fn each_address_gets_the_port_of_who_asked() {
        let found = Ok(vec!["192.0.2.1".parse().expect("an address")]);

        assert_eq!(
            resolved(&found, 5070),
            Resolved::Addresses(vec![RemoteAddr("192.0.2.1:5070".parse().expect("an address"))])
        );
    }

    #[test]
    fn nobody_is_reached_by_an_unspecified_or_a_group_address() {
        for refused in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert!(!is_somebodys(&refused.parse().expect("an address")));
        }
        assert!(is_somebodys(&"192.0.2.1".parse().expect("an address")));
    }
}

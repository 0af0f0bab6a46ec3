//! The DNS: NAPTR, SRV, A and AAAA, from the hosts file or the host's name servers.
//!
//! RFC 3263 asks for an answer in time more than for one at all: a question has a deadline, the number of
//! questions is bounded, and one that failed is not asked again at once.

mod questions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use clock::Instant;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::op::Query as DnsQuery;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use routing::Token;
use routing::gateway::GatewayMark;
use tokio::runtime::Handle;
use tracing::{debug, warn};
use transport::selection::{NaptrRecord, Query, Records, SrvRecord};

use self::questions::{Asked, Failure, Questions};
use crate::clocks;

/// A question that takes longer has failed. A request asks several, one after the other, and a caller waits no
/// longer for a first ring than for three of them.
const QUESTION_TIME_MAX: Duration = Duration::from_millis(2_500);
/// One try at one server. Two of them fit into the question's time.
const TRY_TIME_MAX: Duration = Duration::from_millis(1_200);
const TRIES_MAX: usize = 2;
/// Addresses of one name that are taken at most.
const ADDRESSES_MAX: usize = 8;
/// NAPTR or SRV records of one answer that are taken at most.
const RECORDS_MAX: usize = 64;
/// The shortest time for which the resolver keeps a "no such name", also from servers that send no SOA record.
const NEGATIVE_TTL_MIN: Duration = Duration::from_secs(30);

/// What a question came to at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// No name server is needed.
    Known(Records),
    /// The waiter hears of it later.
    UnderWay,
    /// Too many are under way.
    Refused,
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// A request of this shard.
    Shard(u16, Token),
    /// The prober, for this gateway.
    Prober(GatewayMark),
}

pub(crate) struct Resolver {
    dns: ArcSwapOption<Dns>,
    questions: Mutex<Questions<Waiter>>,
}

/// The host's settings, as they were when they were read.
struct Dns {
    servers: TokioResolver,
    hosts: Hosts,
}

impl Resolver {
    /// A resolver by the host's own settings. Without readable settings it knows literals and `localhost` only.
    pub(crate) fn new() -> Self {
        Self { dns: ArcSwapOption::from(Dns::of_system()), questions: Mutex::default() }
    }

    /// Reads the host's settings again.
    pub(crate) fn reload(&self) {
        self.dns.store(Dns::of_system());
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).forget_failures();
    }

    /// Asks. If that takes time, `answer` is called for each who waits, from a task of `runtime`.
    pub(crate) fn resolve(
        self: &Arc<Self>,
        runtime: &Handle,
        now: Instant,
        query: Query,
        waiter: Waiter,
        answer: impl Fn(Waiter, Records) + Send + 'static,
    ) -> Lookup {
        if let Some(known) = without_dns(&query) {
            return Lookup::Known(known);
        }
        match self.questions.lock().unwrap_or_else(PoisonError::into_inner).ask(now, &query, waiter) {
            Asked::Failed(failure) => Lookup::Known(failure.into()),
            Asked::Refused => Lookup::Refused,
            Asked::Joined => Lookup::UnderWay,
            Asked::Begin => {
                let resolver = Arc::clone(self);
                runtime.spawn(async move {
                    let dns = resolver.dns.load_full();
                    let found = match dns {
                        Some(dns) => dns.ask(&query).await,
                        None => Records::Failed,
                    };
                    resolver.finish(&query, &found, answer);
                });
                Lookup::UnderWay
            }
        }
    }

    fn finish(&self, query: &Query, found: &Records, answer: impl Fn(Waiter, Records)) {
        let failure = match found {
            Records::None => Some(Failure::NoSuchName),
            Records::Failed => Some(Failure::Failed),
            Records::Naptr(_) | Records::Srv(_) | Records::Addresses(_) => None,
        };
        let waiters = {
            let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
            questions.finish(clocks::instant(), query, failure)
        };
        for waiter in waiters {
            answer(waiter, found.clone());
        }
    }
}

impl Dns {
    fn of_system() -> Option<Arc<Self>> {
        let build = || {
            let mut builder = TokioResolver::builder_tokio()?;
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.timeout = TRY_TIME_MAX;
            options.attempts = TRIES_MAX;
            options.negative_min_ttl = Some(NEGATIVE_TTL_MIN);
            options.try_tcp_on_error = true;
            builder.build()
        };
        let servers = build()
            .inspect_err(
                |error| warn!(%error, "the host's resolver settings can not be read: names are not resolved"),
            )
            .ok()?;
        Some(Arc::new(Self { servers, hosts: Hosts::from_system().unwrap_or_default() }))
    }

    async fn ask(&self, query: &Query) -> Records {
        // A name of several labels is whole; only a bare one is tried in the host's search domains.
        let text = query.name();
        let question = if text.contains('.') { format!("{text}.") } else { text.to_owned() };
        // What is no name in the DNS has nothing there.
        let Ok(name) = Name::from_ascii(question) else { return Records::None };
        if !matches!(query, Query::Addresses(_)) && self.is_in_hosts_file(text) {
            return Records::None;
        }
        let asking = async {
            match query {
                Query::Addresses(_) => {
                    self.servers.lookup_ip(name).await.map(|found| addresses(found.iter().collect()))
                }
                Query::Naptr(_) => {
                    let found = self.servers.lookup(name, RecordType::NAPTR).await;
                    found.map(|found| naptr(found.answers().iter().map(|record| &record.data)))
                }
                Query::Srv(_) => {
                    let found = self.servers.lookup(name, RecordType::SRV).await;
                    found.map(|found| srv(found.answers().iter().map(|record| &record.data)))
                }
            }
        };
        match tokio::time::timeout(QUESTION_TIME_MAX, asking).await {
            Ok(Ok(records)) => records,
            Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => Records::None,
            Ok(Err(error)) => {
                debug!(?query, %error, "the DNS failed");
                Records::Failed
            }
            Err(_elapsed) => {
                debug!(?query, "the DNS did not answer in time");
                Records::Failed
            }
        }
    }

    /// Whether a host, or the host of a service, stands in the hosts file: then that is all that is known of it.
    fn is_in_hosts_file(&self, name: &str) -> bool {
        let host = match name.strip_prefix("_sip.").and_then(|rest| rest.split_once('.')) {
            Some((_transport, host)) => host,
            None => name,
        };
        let Ok(host) = Name::from_ascii(host) else { return false };
        [RecordType::A, RecordType::AAAA]
            .into_iter()
            .any(|family| self.hosts.lookup_static_host(&DnsQuery::query(host.clone(), family)).is_some())
    }
}

/// Addresses that are written out, and the host's own name.
fn without_dns(query: &Query) -> Option<Records> {
    let name = query.name();
    // RFC 6761 §6.3: this name and all below it mean the host itself, whatever a server says.
    let is_localhost = name == "localhost" || name.ends_with(".localhost");
    match query {
        Query::Naptr(_) | Query::Srv(_) => is_localhost.then_some(Records::None),
        Query::Addresses(_) if is_localhost => {
            Some(Records::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]))
        }
        Query::Addresses(_) => {
            let literal = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
            literal.parse::<IpAddr>().ok().map(|address| addresses(vec![address]))
        }
    }
}

fn addresses(found: Vec<IpAddr>) -> Records {
    let mut addresses: Vec<_> = found.into_iter().filter(is_somebodys).collect();
    // Stable: within a family the servers' order stays.
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.truncate(ADDRESSES_MAX);
    if addresses.is_empty() { Records::None } else { Records::Addresses(addresses) }
}

/// Not "this host" and not a group: a domain must not make us talk to ourselves by 0.0.0.0.
fn is_somebodys(address: &IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

fn naptr<'a>(answers: impl Iterator<Item = &'a RData>) -> Records {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    let records: Vec<_> = answers
        .filter_map(|data| match data {
            RData::NAPTR(record) => Some(NaptrRecord {
                order: record.order,
                preference: record.preference,
                flags: text(&record.flags),
                service: text(&record.services),
                has_regexp: !record.regexp.is_empty(),
                replacement: plain(&record.replacement),
            }),
            _ => None,
        })
        .take(RECORDS_MAX)
        .collect();
    if records.is_empty() { Records::None } else { Records::Naptr(records) }
}

fn srv<'a>(answers: impl Iterator<Item = &'a RData>) -> Records {
    let records: Vec<_> = answers
        .filter_map(|data| match data {
            RData::SRV(record) => Some(SrvRecord {
                priority: record.priority,
                weight: record.weight,
                port: record.port,
                target: plain(&record.target),
            }),
            _ => None,
        })
        .take(RECORDS_MAX)
        .collect();
    if records.is_empty() { Records::None } else { Records::Srv(records) }
}

/// A name as the machines know it: lower case, without a final dot. The root stays a dot.
fn plain(name: &Name) -> Box<str> {
    if name.is_root() {
        return ".".into();
    }
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase().into()
}

impl From<Failure> for Records {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchName => Self::None,
            Failure::Failed => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};

    use super::*;

    #[test]
    fn an_address_needs_no_server() {
        let known = |name: &str| without_dns(&Query::Addresses(name.into()));

        assert_eq!(known("192.0.2.1"), Some(Records::Addresses(vec![address("192.0.2.1")])));
        assert_eq!(known("[2001:db8::1]"), Some(Records::Addresses(vec![address("2001:db8::1")])));
        assert_eq!(known("192.0.2.1.example"), None);
    }

    /// RFC 6761 §6.3: the name is never asked of a server, for no kind of record.
    #[test]
    fn localhost_is_this_host_in_both_families() {
        let both = Records::Addresses(vec![address("127.0.0.1"), address("::1")]);

        assert_eq!(without_dns(&Query::Addresses("localhost".into())), Some(both.clone()));
        assert_eq!(without_dns(&Query::Addresses("sip.localhost".into())), Some(both));
        assert_eq!(without_dns(&Query::Addresses("notlocalhost".into())), None);
        assert_eq!(without_dns(&Query::Naptr("localhost".into())), Some(Records::None));
        assert_eq!(without_dns(&Query::Srv("_sip._udp.localhost".into())), Some(Records::None));
        assert_eq!(without_dns(&Query::Srv("_sip._udp.example.org".into())), None);
    }

    #[test]
    fn nobody_is_reached_by_an_unspecified_or_a_group_address() {
        for refused in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert_eq!(addresses(vec![address(refused)]), Records::None);
        }
        assert_eq!(addresses(vec![address("192.0.2.1")]), Records::Addresses(vec![address("192.0.2.1")]));
    }

    #[test]
    fn addresses_of_the_fourth_version_come_first() {
        let found = addresses(vec![address("2001:db8::1"), address("192.0.2.2"), address("192.0.2.1")]);

        let expected = ["192.0.2.2", "192.0.2.1", "2001:db8::1"].map(address);
        assert_eq!(found, Records::Addresses(expected.to_vec()));
    }

    #[test]
    fn names_in_records_are_lower_case_without_a_final_dot() {
        let target = Name::from_ascii("SIP.Example.org.").expect("a name");
        let records = [RData::SRV(SRV::new(1, 2, 5060, target)), RData::SRV(SRV::new(0, 0, 0, Name::root()))];

        let Records::Srv(found) = srv(records.iter()) else { panic!("no SRV") };

        let targets: Vec<_> = found.iter().map(|record| &*record.target).collect();
        assert_eq!(targets, ["sip.example.org", "."]);
        assert_eq!((found[0].priority, found[0].weight, found[0].port), (1, 2, 5060));
    }

    #[test]
    fn a_naptr_record_is_taken_with_all_its_fields() {
        let replacement = Name::from_ascii("_sip._udp.example.org.").expect("a name");
        let record = NAPTR::new(10, 20, (*b"s").into(), (*b"SIP+D2U").into(), [].into(), replacement);

        let Records::Naptr(found) = naptr([RData::NAPTR(record)].iter()) else { panic!("no NAPTR") };

        let expected = NaptrRecord {
            order: 10,
            preference: 20,
            flags: "s".into(),
            service: "SIP+D2U".into(),
            has_regexp: false,
            replacement: "_sip._udp.example.org".into(),
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn what_stands_in_the_hosts_file_has_no_services() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.9 pbx.example pbx\n"[..]).expect("a line");
        let dns = Dns { servers: Dns::of_system().expect("settings").servers.clone(), hosts };

        assert!(dns.is_in_hosts_file("pbx.example"));
        assert!(dns.is_in_hosts_file("pbx"));
        assert!(dns.is_in_hosts_file("_sip._tcp.pbx.example"));
        assert!(!dns.is_in_hosts_file("_sip._tcp.example"));
        assert!(!dns.is_in_hosts_file("example"));
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}

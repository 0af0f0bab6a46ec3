//! Which server comes next: RFC 3263 §4 as a machine that asks the DNS by its steps.
//!
//! [`Selection::step`] says what to do: ask the DNS a [`Query`], try a [`Server`], or give up. Names are
//! resolved one by one, when the servers before them have failed, so that a request whose first server
//! answers costs no more queries than it needs. Nothing is drawn: weights are decided by a seed, so that all
//! requests with one seed find the servers in one order.
//!
//! Invariant: at most [`QUERIES_MAX`] questions are asked and [`SERVERS_MAX`] servers are named, none of them twice.

mod avoided;
mod records;
mod remainder;

use std::collections::VecDeque;
use std::net::SocketAddr;

pub use avoided::Avoided;
pub use records::{NaptrRecord, Query, Records, SrvRecord};
pub use remainder::{Remainder, RemainingHost};

use crate::{RemoteAddr, Transport};

/// Questions for one request. Two transports, a handful of servers: more is an attack on a resolver.
pub const QUERIES_MAX: usize = 16;

/// Servers for one request. Each of them may cost some seconds of silence.
pub const SERVERS_MAX: usize = 8;

/// Addresses of one name that are tried, so that a name with many leaves room for the next server.
const ADDRESSES_MAX: usize = 4;

/// A server to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Server {
    /// Its address and port.
    pub remote: RemoteAddr,
    /// What to speak.
    pub transport: Transport,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the DNS, and give the answer to [`Selection::handle_records`].
    Ask(Query),
    /// Send the request there; if that fails, take the next step.
    Try(Server),
    /// No server is left.
    Exhausted(Outcome),
}

/// What a search that is over has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There were servers.
    Tried,
    /// The name leads nowhere.
    NoSuchName,
    /// A question stayed without an answer: trying again later may help.
    DnsFailed,
}

/// The next hop as its URI names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The domain or host name, lower case.
    pub name: Box<str>,
    /// The URI's port.
    pub port: Option<u16>,
    /// The URI's `transport`.
    pub transport: Option<Transport>,
}

/// The search for the servers of one next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    wanted: Wanted,
    supported: Vec<Transport>,
    seed: u64,
    stage: Stage,
    fall_back: FallBack,
    /// SRV names that were not asked yet.
    services: VecDeque<(Box<str>, Transport)>,
    /// Hosts whose addresses were not asked yet.
    hosts: VecDeque<Host>,
    ready: VecDeque<Server>,
    named: Vec<Server>,
    queries: usize,
    dns_failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// NAPTR comes first.
    Start,
    AwaitsNaptr,
    AwaitsSrv(Transport),
    AwaitsAddresses(Host),
    /// Nothing is awaited; services, hosts and servers are taken in turn.
    Walking,
}

/// RFC 3263 §4.2: the name's own addresses are tried if it has no SRV record at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FallBack {
    Left,
    No,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    name: Box<str>,
    port: u16,
    transport: Transport,
}

impl Selection {
    /// Begins the search. `supported` are the transports that can be spoken, best first; `seed` decides between
    /// servers of one priority.
    pub fn new(wanted: Wanted, supported: Vec<Transport>, seed: u64) -> Self {
        let mut selection = Self {
            supported,
            seed,
            stage: Stage::Start,
            fall_back: FallBack::Left,
            services: VecDeque::new(),
            hosts: VecDeque::new(),
            ready: VecDeque::new(),
            named: Vec::new(),
            queries: 0,
            dns_failed: false,
            wanted,
        };
        if let Some(port) = selection.wanted.port {
            // RFC 3263 §4.1, RFC 3263 §4.2: a port in the URI leaves only the addresses open.
            let transport = selection.wanted.transport.unwrap_or(Transport::Udp);
            selection.hosts.push_back(Host { name: selection.wanted.name.clone(), port, transport });
            selection.stage = Stage::Walking;
            selection.fall_back = FallBack::No;
        } else if let Some(transport) = selection.wanted.transport {
            // RFC 3263 §4.1: a transport in the URI leaves no choice to NAPTR.
            selection.services.push_back((service_name(&selection.wanted.name, transport), transport));
            selection.stage = Stage::Walking;
        }
        selection
    }

    /// What to do next. After a [`Step::Ask`] the same step comes again until the answer is there.
    pub fn step(&mut self) -> Step {
        match &self.stage {
            Stage::Start => {
                self.stage = Stage::AwaitsNaptr;
                self.ask(Query::Naptr(self.wanted.name.clone()))
            }
            Stage::AwaitsNaptr => Step::Ask(Query::Naptr(self.wanted.name.clone())),
            Stage::AwaitsSrv(_) => match self.services.front() {
                Some((name, _)) => Step::Ask(Query::Srv(name.clone())),
                None => self.exhausted(),
            },
            Stage::AwaitsAddresses(host) => Step::Ask(Query::Addresses(host.name.clone())),
            Stage::Walking => self.walk(),
        }
    }

    /// Takes the answer to the last [`Step::Ask`]; one that does not fit the question is as none.
    pub fn handle_records(&mut self, records: Records) {
        let failed = records == Records::Failed;
        match std::mem::replace(&mut self.stage, Stage::Walking) {
            Stage::AwaitsNaptr => self.take_naptr(records),
            Stage::AwaitsSrv(transport) => self.take_srv(transport, records),
            Stage::AwaitsAddresses(host) => self.take_addresses(&host, records),
            stage @ (Stage::Start | Stage::Walking) => {
                self.stage = stage;
                return;
            }
        }
        self.dns_failed |= failed;
    }

    /// What is sought.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Whether another server may follow. Its name may turn out to lead nowhere.
    pub fn has_more(&self) -> bool {
        let is_under_way = self.stage != Stage::Walking;
        let has_names = self.queries < QUERIES_MAX && !(self.hosts.is_empty() && self.services.is_empty());
        self.named.len() < SERVERS_MAX && (is_under_way || has_names || !self.ready.is_empty())
    }

    fn walk(&mut self) -> Step {
        while self.named.len() < SERVERS_MAX {
            let Some(server) = self.ready.pop_front() else { break };
            if !self.named.contains(&server) {
                self.named.push(server);
                return Step::Try(server);
            }
        }
        if self.queries == QUERIES_MAX || self.named.len() == SERVERS_MAX {
            return self.exhausted();
        }
        if let Some(host) = self.hosts.pop_front() {
            let query = Query::Addresses(host.name.clone());
            self.stage = Stage::AwaitsAddresses(host);
            return self.ask(query);
        }
        if let Some((name, transport)) = self.services.front() {
            let query = Query::Srv(name.clone());
            self.stage = Stage::AwaitsSrv(*transport);
            return self.ask(query);
        }
        match std::mem::replace(&mut self.fall_back, FallBack::No) {
            FallBack::Left => {
                let transport = self.wanted.transport.unwrap_or_else(|| self.best());
                let name = self.wanted.name.clone();
                self.hosts.push_back(Host { name, port: transport.default_port(), transport });
                self.walk()
            }
            FallBack::No => self.exhausted(),
        }
    }

    fn take_naptr(&mut self, records: Records) {
        let found = match records {
            Records::Naptr(records) => records::services(records, &self.supported),
            _ => Vec::new(),
        };
        // RFC 3263 §4.1: without a usable NAPTR record every transport's SRV is asked, in our own order.
        self.services = match found.is_empty() {
            true => self.supported.iter().map(|&it| (service_name(&self.wanted.name, it), it)).collect(),
            false => found.into(),
        };
    }

    fn take_srv(&mut self, transport: Transport, records: Records) {
        self.services.pop_front();
        let ordered = match records {
            Records::Srv(records) => records::ordered(records, self.seed),
            _ => Vec::new(),
        };
        // RFC 3263 §4.2: once there was an SRV record the name's own addresses are no substitute for its servers.
        if !ordered.is_empty() {
            self.fall_back = FallBack::No;
        }
        // RFC 2782: a target of "." says that the service is decidedly not there.
        let usable = ordered.into_iter().filter(|record| {
            let is_denied = matches!(&*record.target, "." | "");
            !is_denied && record.port != 0
        });
        self.hosts.extend(usable.map(|record| Host { name: record.target, port: record.port, transport }));
    }

    fn take_addresses(&mut self, host: &Host, records: Records) {
        let Records::Addresses(addresses) = records else { return };
        let servers = addresses.into_iter().take(ADDRESSES_MAX).map(|ip| Server {
            remote: RemoteAddr(SocketAddr::new(ip, host.port)),
            transport: host.transport,
        });
        self.ready.extend(servers);
    }

    /// RFC 3263 §4.1: UDP for a sip URI, where this server can speak it.
    fn best(&self) -> Transport {
        self.supported.first().copied().unwrap_or(Transport::Udp)
    }

    fn ask(&mut self, query: Query) -> Step {
        self.queries += 1;
        Step::Ask(query)
    }

    fn exhausted(&self) -> Step {
        Step::Exhausted(match (self.named.is_empty(), self.dns_failed) {
            (false, _) => Outcome::Tried,
            (true, true) => Outcome::DnsFailed,
            (true, false) => Outcome::NoSuchName,
        })
    }
}

fn service_name(domain: &str, transport: Transport) -> Box<str> {
    format!("_sip._{}.{domain}", transport.uri_name()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    /// RFC 3263 §4.2: an explicit port rules NAPTR and SRV out.
    #[test]
    fn a_port_in_the_uri_leaves_only_addresses_to_ask() {
        let mut selection = begin(Some(5070), None);

        assert_eq!(selection.step(), ask_addresses("example.org"));
        selection.handle_records(addresses(["192.0.2.1", "192.0.2.2"]));

        assert_eq!(selection.step(), attempt("192.0.2.1:5070", Transport::Udp));
        assert!(selection.has_more());
        assert_eq!(selection.step(), attempt("192.0.2.2:5070", Transport::Udp));
        assert!(!selection.has_more());
        assert_eq!(selection.step(), Step::Exhausted(Outcome::Tried));
    }

    /// RFC 3263 §4.1: an explicit transport rules NAPTR out, but not SRV.
    #[test]
    fn a_transport_in_the_uri_is_kept() {
        let mut selection = begin(None, Some(Transport::Tcp));

        assert_eq!(selection.step(), ask_srv("_sip._tcp.example.org"));
        selection.handle_records(Records::Srv(vec![srv(0, 0, 5080, "one.example.org")]));
        assert_eq!(selection.step(), ask_addresses("one.example.org"));
        selection.handle_records(addresses(["192.0.2.1"]));

        assert_eq!(selection.step(), attempt("192.0.2.1:5080", Transport::Tcp));
    }

    /// RFC 3263 §4.2: a transport that is named keeps the default port where there is no SRV record.
    #[test]
    fn a_transport_in_the_uri_is_kept_without_srv_too() {
        let mut selection = begin(None, Some(Transport::Tcp));
        selection.step();
        selection.handle_records(Records::None);

        assert_eq!(selection.step(), ask_addresses("example.org"));
        selection.handle_records(addresses(["192.0.2.1"]));

        assert_eq!(selection.step(), attempt("192.0.2.1:5060", Transport::Tcp));
    }

    /// RFC 3263 §4.1: by order, then preference; what this server does not speak is left out.
    #[test]
    fn naptr_decides_the_transport_by_order_and_preference() {
        let mut selection = begin(None, None);
        assert_eq!(selection.step(), Step::Ask(Query::Naptr("example.org".into())));

        selection.handle_records(Records::Naptr(vec![
            naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.org"),
            naptr(90, 60, "SIP+D2U", "_sip._udp.example.org"),
            naptr(90, 50, "sip+d2t", "_sip._tcp.example.org"),
        ]));

        assert_eq!(selection.step(), ask_srv("_sip._tcp.example.org"));
        selection.handle_records(Records::None);
        assert_eq!(selection.step(), ask_srv("_sip._udp.example.org"));
    }

    #[test]
    fn without_naptr_and_srv_the_name_itself_is_tried() {
        let mut selection = begin(None, None);
        selection.step();
        selection.handle_records(Records::None);

        assert_eq!(selection.step(), ask_srv("_sip._udp.example.org"));
        selection.handle_records(Records::None);
        assert_eq!(selection.step(), ask_srv("_sip._tcp.example.org"));
        selection.handle_records(Records::None);

        assert_eq!(selection.step(), ask_addresses("example.org"));
        selection.handle_records(addresses(["2001:db8::1"]));
        assert_eq!(selection.step(), attempt("[2001:db8::1]:5060", Transport::Udp));
    }

    #[test]
    fn only_transports_that_are_served_are_asked_for() {
        let wanted = Wanted { name: "example.org".into(), port: None, transport: None };
        let mut selection = Selection::new(wanted, vec![Transport::Tcp], 7);
        selection.step();
        selection.handle_records(Records::None);

        assert_eq!(selection.step(), ask_srv("_sip._tcp.example.org"));
        selection.handle_records(Records::None);
        assert_eq!(selection.step(), ask_addresses("example.org"));
        selection.handle_records(addresses(["192.0.2.1"]));
        assert_eq!(selection.step(), attempt("192.0.2.1:5060", Transport::Tcp));
    }

    #[test]
    fn the_next_server_is_asked_for_only_when_the_first_has_failed() {
        let mut selection = begin(None, Some(Transport::Udp));
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(20, 0, 5060, "late"), srv(10, 0, 5060, "early")]));

        assert_eq!(selection.step(), ask_addresses("early"));
        selection.handle_records(addresses(["192.0.2.1"]));
        assert_eq!(selection.step(), attempt("192.0.2.1:5060", Transport::Udp));
        assert!(selection.has_more());
        assert_eq!(selection.step(), ask_addresses("late"));
    }

    #[test]
    fn a_server_that_two_records_name_is_tried_once() {
        let mut selection = begin(None, Some(Transport::Udp));
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(1, 0, 5060, "one"), srv(2, 0, 5060, "same")]));
        selection.step();
        selection.handle_records(addresses(["192.0.2.1"]));
        selection.step();
        selection.step();
        selection.handle_records(addresses(["192.0.2.1"]));

        assert_eq!(selection.step(), Step::Exhausted(Outcome::Tried));
    }

    /// RFC 2782: the target "." denies the service; the name's own addresses are not a substitute.
    #[test]
    fn a_denied_service_leads_nowhere() {
        let mut selection = begin(None, Some(Transport::Udp));
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(0, 0, 0, ".")]));

        assert_eq!(selection.step(), Step::Exhausted(Outcome::NoSuchName));
    }

    /// RFC 2782: one service that is denied speaks for the domain: it has SRV records.
    #[test]
    fn a_denied_service_among_missing_ones_leads_nowhere_either() {
        let mut selection = begin(None, None);
        selection.step();
        selection.handle_records(Records::None);
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(0, 0, 0, ".")]));
        selection.step();
        selection.handle_records(Records::None);

        assert_eq!(selection.step(), Step::Exhausted(Outcome::NoSuchName));
    }

    #[test]
    fn a_silent_dns_is_told_from_a_name_that_is_not_there() {
        let mut selection = begin(Some(5060), None);
        selection.step();
        selection.handle_records(Records::Failed);

        assert_eq!(selection.step(), Step::Exhausted(Outcome::DnsFailed));
    }

    #[test]
    fn a_hostile_zone_costs_a_bounded_number_of_queries() {
        let mut selection = begin(None, Some(Transport::Udp));
        let mut queries = 0;
        while let Step::Ask(query) = selection.step() {
            queries += 1;
            selection.handle_records(match query {
                Query::Srv(_) => Records::Srv((0..9_999).map(|number| srv(number, 0, 5060, "x")).collect()),
                _ => Records::None,
            });
        }
        assert_eq!(queries, QUERIES_MAX);
        assert!(!selection.has_more());
    }

    #[test]
    fn a_hostile_zone_names_a_bounded_number_of_servers() {
        let mut selection = begin(None, Some(Transport::Udp));
        let (mut servers, mut asked) = (0, 0u8);
        loop {
            match selection.step() {
                Step::Ask(Query::Srv(_)) => selection
                    .handle_records(Records::Srv((1..99).map(|number| srv(number, 0, 5060, "x")).collect())),
                Step::Ask(_) => {
                    asked += 1;
                    let address = |last| std::net::IpAddr::from([192, 0, asked, last]);
                    selection.handle_records(Records::Addresses((1..200).map(address).collect()));
                }
                Step::Try(_) => servers += 1,
                Step::Exhausted(outcome) => break assert_eq!(outcome, Outcome::Tried),
            }
        }
        assert_eq!((servers, asked), (SERVERS_MAX, 2));
    }

    #[test]
    fn a_question_is_repeated_until_it_is_answered() {
        let mut selection = begin(None, Some(Transport::Udp));

        assert_eq!(selection.step(), selection.step());
    }

    #[test]
    fn an_answer_to_another_question_is_as_none() {
        let mut selection = begin(Some(5060), None);
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(0, 0, 5060, "x")]));

        assert_eq!(selection.step(), Step::Exhausted(Outcome::NoSuchName));
    }

    fn begin(port: Option<u16>, transport: Option<Transport>) -> Selection {
        Selection::new(Wanted { name: "example.org".into(), port, transport }, BOTH.to_vec(), 7)
    }

    fn ask_addresses(name: &str) -> Step {
        Step::Ask(Query::Addresses(name.into()))
    }

    fn ask_srv(name: &str) -> Step {
        Step::Ask(Query::Srv(name.into()))
    }

    fn attempt(remote: &str, transport: Transport) -> Step {
        Step::Try(Server { remote: RemoteAddr(remote.parse().unwrap()), transport })
    }

    fn addresses<const N: usize>(list: [&str; N]) -> Records {
        Records::Addresses(list.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.into() }
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> NaptrRecord {
        NaptrRecord {
            order,
            preference,
            flags: "s".into(),
            service: service.into(),
            has_regexp: false,
            replacement: replacement.into(),
        }
    }
}

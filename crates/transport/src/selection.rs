//! Which server comes next: RFC 3263 §4 as a machine that asks the DNS by its steps.
//!
//! [`Selection::step`] says what to do: ask the DNS a [`Query`], try a [`Candidate`], or give up. Names are
//! resolved one by one, when the candidates before them have failed, so that a request whose first
//! server answers costs no more queries than it needs. Nothing is drawn: weights are decided by a seed.
//!
//! Invariant: at most [`QUERIES_MAX`] questions are asked and [`CANDIDATES_MAX`] candidates are named.

mod servers;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

pub use servers::{NaptrRecord, SrvRecord};

use crate::{RemoteAddr, Transport};

/// Questions for one request. Two transports, a handful of servers: more is an attack on a resolver.
pub const QUERIES_MAX: usize = 20;

/// Candidates for one request. Each may cost 64·T1 of silence.
pub const CANDIDATES_MAX: usize = 16;

/// Asked of the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Which transports the domain offers.
    Naptr(Box<str>),
    /// Which servers offer a transport.
    Srv(Box<str>),
    /// A and AAAA.
    Addresses(Box<str>),
}

/// What the DNS said to the last [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// To [`Query::Naptr`].
    Naptr(Vec<NaptrRecord>),
    /// To [`Query::Srv`].
    Srv(Vec<SrvRecord>),
    /// To [`Query::Addresses`], in the order of preference.
    Addresses(Vec<IpAddr>),
    /// There is no such record.
    None,
    /// It could not be found out.
    Failed,
}

/// A server to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate {
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
    Try(Candidate),
    /// No server is left. `found_any` is false if the name leads nowhere at all; `dns_failed` tells that a
    /// question stayed without an answer, so that trying again later may help.
    Exhausted {
        /// Whether there was a candidate.
        found_any: bool,
        /// Whether the DNS did not answer.
        dns_failed: bool,
    },
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
#[derive(Clone, Debug)]
pub struct Selection {
    wanted: Wanted,
    supported: Vec<Transport>,
    seed: u64,
    stage: Stage,
    /// SRV names that were not asked yet.
    services: VecDeque<(Box<str>, Transport)>,
    /// Servers whose addresses were not asked yet.
    servers: VecDeque<Server>,
    ready: VecDeque<Candidate>,
    queries: usize,
    candidates: usize,
    dns_failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// NAPTR comes first.
    Start,
    AwaitsNaptr,
    AwaitsSrv(Transport),
    AwaitsAddresses(Server),
    /// Nothing is awaited; services, servers and candidates are taken in turn.
    Walking {
        /// RFC 3263 §4.2: the name's own addresses are tried if there is no SRV record at all.
        fall_back: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
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
            services: VecDeque::new(),
            servers: VecDeque::new(),
            ready: VecDeque::new(),
            queries: 0,
            candidates: 0,
            dns_failed: false,
            wanted,
        };
        if let Some(port) = selection.wanted.port {
            // RFC 3263 §4.1, RFC 3263 §4.2: a port in the URI leaves only the addresses open.
            let transport = selection.wanted.transport.unwrap_or(Transport::Udp);
            selection.servers.push_back(Server { name: selection.wanted.name.clone(), port, transport });
            selection.stage = Stage::Walking { fall_back: false };
        } else if let Some(transport) = selection.wanted.transport {
            // RFC 3263 §4.1: a transport in the URI leaves no choice to NAPTR.
            selection.services.push_back((service_name(&selection.wanted.name, transport), transport));
            selection.stage = Stage::Walking { fall_back: true };
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
            Stage::AwaitsAddresses(server) => Step::Ask(Query::Addresses(server.name.clone())),
            Stage::Walking { .. } => self.walk(),
        }
    }

    /// Takes the answer to the last [`Step::Ask`]; one that does not fit the question is as none.
    pub fn handle_records(&mut self, records: Records) {
        self.dns_failed |= records == Records::Failed;
        match std::mem::replace(&mut self.stage, Stage::Walking { fall_back: false }) {
            Stage::AwaitsNaptr => self.take_naptr(records),
            Stage::AwaitsSrv(transport) => self.take_srv(transport, records),
            Stage::AwaitsAddresses(server) => self.take_addresses(&server, records),
            stage @ (Stage::Start | Stage::Walking { .. }) => self.stage = stage,
        }
    }

    fn walk(&mut self) -> Step {
        let Stage::Walking { fall_back } = self.stage else { return self.exhausted() };
        if self.candidates == CANDIDATES_MAX {
            return self.exhausted();
        }
        if let Some(candidate) = self.ready.pop_front() {
            self.candidates += 1;
            return Step::Try(candidate);
        }
        if self.queries == QUERIES_MAX {
            return self.exhausted();
        }
        if let Some(server) = self.servers.pop_front() {
            let query = Query::Addresses(server.name.clone());
            self.stage = Stage::AwaitsAddresses(server);
            return self.ask(query);
        }
        if let Some((name, transport)) = self.services.front() {
            let query = Query::Srv(name.clone());
            self.stage = Stage::AwaitsSrv(*transport);
            return self.ask(query);
        }
        if fall_back {
            self.stage = Stage::Walking { fall_back: false };
            let transport = self.wanted.transport.unwrap_or(Transport::Udp);
            let name = self.wanted.name.clone();
            self.servers.push_back(Server { name, port: transport.default_port(), transport });
            return self.walk();
        }
        self.exhausted()
    }

    fn take_naptr(&mut self, records: Records) {
        let found = match records {
            Records::Naptr(records) => servers::services(records, &self.supported),
            _ => Vec::new(),
        };
        // RFC 3263 §4.1: without a usable NAPTR record every transport's SRV is asked, in our own order.
        self.services = match found.is_empty() {
            true => self.supported.iter().map(|&it| (service_name(&self.wanted.name, it), it)).collect(),
            false => found.into(),
        };
        self.stage = Stage::Walking { fall_back: true };
    }

    fn take_srv(&mut self, transport: Transport, records: Records) {
        self.services.pop_front();
        let ordered = match records {
            Records::Srv(records) => servers::ordered(records, self.seed),
            _ => Vec::new(),
        };
        let has_any = !ordered.is_empty();
        // RFC 2782: a target of "." says that the service is decidedly not there.
        let usable = ordered.into_iter().filter(|record| &*record.target != "." && !record.target.is_empty());
        self.servers.extend(usable.map(|record| Server {
            name: record.target,
            port: record.port,
            transport,
        }));
        let fall_back = !has_any && !self.has_srv();
        self.stage = Stage::Walking { fall_back };
    }

    fn take_addresses(&mut self, server: &Server, records: Records) {
        let Records::Addresses(addresses) = records else { return };
        let remotes = addresses.into_iter().take(CANDIDATES_MAX).map(|ip| Candidate {
            remote: RemoteAddr(SocketAddr::new(ip, server.port)),
            transport: server.transport,
        });
        self.ready.extend(remotes);
    }

    /// Whether an SRV record was seen before: then the name's own addresses are not used.
    fn has_srv(&self) -> bool {
        self.candidates > 0 || !self.ready.is_empty() || !self.servers.is_empty()
    }

    fn ask(&mut self, query: Query) -> Step {
        self.queries += 1;
        Step::Ask(query)
    }

    fn exhausted(&self) -> Step {
        Step::Exhausted { found_any: self.candidates > 0, dns_failed: self.dns_failed }
    }
}

fn service_name(domain: &str, transport: Transport) -> Box<str> {
    format!("_sip._{}.{domain}", transport.uri_name()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    // RFC 3263 §4.2: an explicit port rules NAPTR and SRV out.
    #[test]
    fn a_port_in_the_uri_leaves_only_addresses_to_ask() {
        let mut selection = begin(Some(5070), None);

        assert_eq!(selection.step(), ask_addresses("example.org"));
        selection.handle_records(addresses(["192.0.2.1", "192.0.2.2"]));

        assert_eq!(selection.step(), attempt("192.0.2.1:5070", Transport::Udp));
        assert_eq!(selection.step(), attempt("192.0.2.2:5070", Transport::Udp));
        assert_eq!(selection.step(), Step::Exhausted { found_any: true, dns_failed: false });
    }

    // RFC 3263 §4.1: an explicit transport rules NAPTR out, but not SRV.
    #[test]
    fn a_transport_in_the_uri_is_kept() {
        let mut selection = begin(None, Some(Transport::Tcp));

        assert_eq!(selection.step(), ask_srv("_sip._tcp.example.org"));
        selection.handle_records(Records::Srv(vec![srv(0, 0, 5080, "one.example.org")]));
        assert_eq!(selection.step(), ask_addresses("one.example.org"));
        selection.handle_records(addresses(["192.0.2.1"]));

        assert_eq!(selection.step(), attempt("192.0.2.1:5080", Transport::Tcp));
    }

    #[test]
    fn naptr_decides_the_transport_by_order_and_preference() {
        let mut selection = begin(None, None);
        assert_eq!(selection.step(), Step::Ask(Query::Naptr("example.org".into())));

        selection.handle_records(Records::Naptr(vec![
            naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.org"),
            naptr(90, 60, "SIP+D2U", "_sip._udp.example.org"),
            naptr(90, 50, "SIP+D2T", "_sip._tcp.example.org"),
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
    fn the_next_server_is_asked_only_when_the_first_has_failed() {
        let mut selection = begin(None, Some(Transport::Udp));
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(20, 0, 5060, "late"), srv(10, 0, 5060, "early")]));

        assert_eq!(selection.step(), ask_addresses("early"));
        selection.handle_records(addresses(["192.0.2.1"]));
        assert_eq!(selection.step(), attempt("192.0.2.1:5060", Transport::Udp));
        assert_eq!(selection.step(), ask_addresses("late"));
    }

    // RFC 2782: the target "." denies the service; the name's own addresses are not a substitute.
    #[test]
    fn a_denied_service_leads_nowhere() {
        let mut selection = begin(None, Some(Transport::Udp));
        selection.step();
        selection.handle_records(Records::Srv(vec![srv(0, 0, 0, ".")]));

        assert_eq!(selection.step(), Step::Exhausted { found_any: false, dns_failed: false });
    }

    #[test]
    fn a_silent_dns_is_told_from_a_name_that_is_not_there() {
        let mut selection = begin(Some(5060), None);
        selection.step();
        selection.handle_records(Records::Failed);

        assert_eq!(selection.step(), Step::Exhausted { found_any: false, dns_failed: true });
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
    }

    #[test]
    fn a_question_is_repeated_until_it_is_answered() {
        let mut selection = begin(None, Some(Transport::Udp));

        assert_eq!(selection.step(), selection.step());
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
        Step::Try(Candidate { remote: RemoteAddr(remote.parse().unwrap()), transport })
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

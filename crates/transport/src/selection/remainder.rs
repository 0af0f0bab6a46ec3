//! What is left of a search, as plain data: another node goes on with it.
//!
//! A question that was asked and not answered counts as not asked: it comes again.

use super::{FallBack, Host, QUERIES_MAX, SERVERS_MAX, Selection, Server, Stage, Wanted};
use crate::Transport;

/// How far a search is, but for what it seeks and with which transports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remainder {
    /// Whether NAPTR is still to be asked.
    pub is_at_start: bool,
    /// Whether the name's own addresses are to be tried if nothing else is found.
    pub falls_back: bool,
    /// SRV names that were not answered yet.
    pub services: Vec<(Box<str>, Transport)>,
    /// Hosts whose addresses were not answered yet.
    pub hosts: Vec<RemainingHost>,
    /// Servers that are to be tried next.
    pub ready: Vec<Server>,
    /// Servers that were tried.
    pub named: Vec<Server>,
    /// Questions that were answered.
    pub queries: usize,
    /// Whether a question stayed without an answer.
    pub dns_failed: bool,
}

/// A host that a search has still to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemainingHost {
    /// Its name.
    pub name: Box<str>,
    /// The port there.
    pub port: u16,
    /// What to speak there.
    pub transport: Transport,
}

impl Selection {
    /// How far it is.
    pub fn remainder(&self) -> Remainder {
        let awaited = match &self.stage {
            Stage::AwaitsAddresses(host) => Some(host),
            Stage::Start | Stage::AwaitsNaptr | Stage::AwaitsSrv(_) | Stage::Walking => None,
        };
        let is_awaiting = !matches!(self.stage, Stage::Start | Stage::Walking);
        Remainder {
            is_at_start: matches!(self.stage, Stage::Start | Stage::AwaitsNaptr),
            falls_back: self.fall_back == FallBack::Left,
            services: self.services.iter().cloned().collect(),
            hosts: awaited.into_iter().chain(&self.hosts).map(RemainingHost::of).collect(),
            ready: self.ready.iter().copied().collect(),
            named: self.named.clone(),
            queries: self.queries - usize::from(is_awaiting),
            dns_failed: self.dns_failed,
        }
    }

    /// Goes on with a search. What is more than a search may have is left out.
    pub fn resume(wanted: Wanted, supported: Vec<Transport>, seed: u64, remainder: Remainder) -> Self {
        let Remainder { is_at_start, falls_back, services, hosts, ready, mut named, queries, dns_failed } =
            remainder;
        named.truncate(SERVERS_MAX);
        Self {
            stage: if is_at_start { Stage::Start } else { Stage::Walking },
            fall_back: if falls_back { FallBack::Left } else { FallBack::No },
            services: services.into(),
            hosts: hosts.into_iter().map(RemainingHost::into_host).collect(),
            ready: ready.into(),
            named,
            queries: queries.min(QUERIES_MAX),
            dns_failed,
            wanted,
            supported,
            seed,
        }
    }
}

impl RemainingHost {
    fn of(host: &Host) -> Self {
        Self { name: host.name.clone(), port: host.port, transport: host.transport }
    }

    fn into_host(self) -> Host {
        Host { name: self.name, port: self.port, transport: self.transport }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Query, Records, SrvRecord, Step};
    use super::*;
    use crate::RemoteAddr;

    const BOTH: [Transport; 2] = [Transport::Udp, Transport::Tcp];

    /// After each step another machine goes on, and the servers are the same.
    #[test]
    fn a_search_that_goes_on_elsewhere_finds_the_same_servers_with_the_same_questions() {
        let (mut here, mut there) = (begin(), begin());
        let mut servers = 0;
        loop {
            there = Selection::resume(wanted(), BOTH.to_vec(), 7, there.remainder());
            assert_eq!(there.has_more(), here.has_more());
            let step = here.step();
            assert_eq!(there.step(), step);
            there = Selection::resume(wanted(), BOTH.to_vec(), 7, there.remainder());
            match step {
                Step::Ask(query) => {
                    assert_eq!(there.step(), Step::Ask(query.clone()), "it is asked again");
                    here.handle_records(answer(&query));
                    there.handle_records(answer(&query));
                }
                Step::Try(_) => servers += 1,
                Step::Exhausted(_) => break,
            }
        }
        assert_eq!(servers, 4);
    }

    #[test]
    fn a_remainder_with_too_much_in_it_is_bounded() {
        let server = |last: u8| Server {
            remote: RemoteAddr(([192, 0, 2, last], 5060).into()),
            transport: Transport::Udp,
        };
        let remainder = Remainder {
            named: (0..200).map(server).collect(),
            ready: (0..200).map(server).collect(),
            queries: usize::MAX,
            ..Remainder::default()
        };

        let mut selection = Selection::resume(wanted(), BOTH.to_vec(), 7, remainder);

        assert!(!selection.has_more());
        assert!(matches!(selection.step(), Step::Exhausted(_)));
    }

    fn answer(query: &Query) -> Records {
        match query {
            Query::Naptr(_) => Records::None,
            Query::Srv(name) if name.contains("_udp") => {
                let srv = |priority, target: &str| SrvRecord {
                    priority,
                    weight: 0,
                    port: 5060,
                    target: target.into(),
                };
                Records::Srv(vec![srv(1, "one"), srv(2, "two")])
            }
            Query::Srv(_) => Records::Failed,
            Query::Addresses(name) => {
                let last = name.len() as u8 + u8::from(&**name == "two");
                Records::Addresses(vec![[192, 0, 2, last].into(), [192, 0, 2, last + 10].into()])
            }
        }
    }

    fn wanted() -> Wanted {
        Wanted { name: "example.org".into(), port: None, transport: None }
    }

    fn begin() -> Selection {
        Selection::new(wanted(), BOTH.to_vec(), 7)
    }
}

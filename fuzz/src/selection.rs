//! What the DNS may answer: records of any content, in any order, to any question.
//!
//! What must hold: the search ends, asks and names no more than its limits, names no server twice, and does the same
//! for the same answers.

use transport::Transport;
use transport::selection::{
    NaptrRecord, QUERIES_MAX, Query, Records, SERVERS_MAX, Selection, Server, SrvRecord, Step, Wanted,
};

/// Steps of one search, more than its limits allow.
const STEPS_MAX: usize = 4 * (QUERIES_MAX + SERVERS_MAX);

/// Begins a search as the first bytes say, and answers its questions with the others.
pub fn run(data: &[u8]) {
    assert_eq!(servers(data), servers(data), "the same answers lead to other servers");
}

fn servers(data: &[u8]) -> Vec<Server> {
    let mut letters = Letters(data);
    let wanted = Wanted {
        name: letters.name(),
        port: letters.choose(3).eq(&0).then(|| u16::from(letters.byte())),
        transport: letters.transport(),
    };
    let supported = match letters.choose(3) {
        0 => vec![Transport::Udp],
        1 => vec![Transport::Tcp, Transport::Udp],
        _ => vec![Transport::Udp, Transport::Tcp],
    };
    let mut selection = Selection::new(wanted, supported, u64::from(letters.byte()));
    let (mut named, mut asked) = (Vec::new(), 0);
    for _ in 0..STEPS_MAX {
        match selection.step() {
            Step::Ask(query) => {
                asked += 1;
                assert!(asked <= QUERIES_MAX, "too many questions");
                assert!(!query.name().is_empty(), "a question without a name");
                selection.handle_records(letters.records(&query));
            }
            Step::Try(server) => {
                assert!(!named.contains(&server), "a server twice");
                named.push(server);
                assert!(named.len() <= SERVERS_MAX, "too many servers");
            }
            Step::Exhausted(_) => {
                assert!(!selection.has_more(), "more may follow what is over");
                return named;
            }
        }
    }
    panic!("the search does not end");
}

/// The bytes as choices; when they are used up all choices are the first one.
struct Letters<'a>(&'a [u8]);

impl Letters<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn choose(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    fn number(&mut self) -> u16 {
        [0, 1, 10, 5060, u16::MAX, u16::from(self.0.first().copied().unwrap_or(0))]
            [usize::from(self.choose(6))]
    }

    fn transport(&mut self) -> Option<Transport> {
        [None, Some(Transport::Udp), Some(Transport::Tcp)][usize::from(self.choose(3))]
    }

    /// A few names, so that they meet again, and odd ones.
    fn name(&mut self) -> Box<str> {
        match self.choose(8) {
            0 => "example.org".into(),
            1 => "_sip._udp.example.org".into(),
            2 => "_sip._tcp.example.org".into(),
            3 => ".".into(),
            4 => "a".repeat(300).into(),
            _ => format!("host{}.example.org", self.byte() % 4).into(),
        }
    }

    fn records(&mut self, query: &Query) -> Records {
        let count = usize::from(self.choose(12));
        match (self.choose(6), query) {
            (0, _) => Records::Failed,
            (1, _) | (_, Query::Naptr(_)) => Records::Naptr((0..count).map(|_| self.naptr()).collect()),
            (2, _) | (_, Query::Srv(_)) => Records::Srv((0..count).map(|_| self.srv()).collect()),
            _ => Records::Addresses((0..count).map(|_| self.address()).collect()),
        }
    }

    fn naptr(&mut self) -> NaptrRecord {
        let flags = ["s", "S", "a", "u", "", "sa"][usize::from(self.choose(6))];
        let service = ["SIP+D2U", "sip+d2t", "SIPS+D2T", "SIP+D2S", "", "SIP+"][usize::from(self.choose(6))];
        NaptrRecord {
            order: self.number(),
            preference: self.number(),
            flags: flags.into(),
            service: service.into(),
            has_regexp: self.choose(4) == 0,
            replacement: self.name(),
        }
    }

    fn srv(&mut self) -> SrvRecord {
        SrvRecord { priority: self.number(), weight: self.number(), port: self.number(), target: self.name() }
    }

    fn address(&mut self) -> std::net::IpAddr {
        match self.choose(3) {
            0 => [0; 4].into(),
            1 => [192, 0, 2, self.byte()].into(),
            _ => [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(self.byte())].into(),
        }
    }
}

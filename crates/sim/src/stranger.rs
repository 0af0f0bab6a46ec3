//! A hostile sender without any account: everything that a proxy in the open gets on a common day, and worse.
//!
//! Whatever it makes itself carries a mark, so that a relayed piece of it is known anywhere.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;

use crate::cast::{ADVERTISED, DOMAIN, EDGE_DOMAIN, FIRST, SECOND, STRANGER, VICTIM};
use crate::rng::Rng;

/// Stands in every message of a stranger.
const MARK: &str = "stranger";
/// So many messages of others are remembered.
const REMEMBERED_MAX: usize = 200;
/// Older messages belong to transactions that have ended.
const REPLAYED_AFTER: Duration = Duration::from_secs(40);

/// Whether bytes are, or hold, a stranger's message.
pub(crate) fn is_marked(bytes: &[u8]) -> bool {
    bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

/// A hostile sender.
#[derive(Debug)]
pub(crate) struct Stranger {
    rng: Rng,
    made: u32,
    overheard: VecDeque<(Instant, Vec<u8>)>,
    routes: VecDeque<String>,
    flows: VecDeque<String>,
}

impl Stranger {
    /// A sender that has heard nothing.
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, made: 0, overheard: VecDeque::new(), routes: VecDeque::new(), flows: VecDeque::new() }
    }

    /// Forgets what it heard: a server that was killed has forgotten which nonce counts were used.
    pub(crate) fn forget(&mut self) {
        self.overheard.clear();
    }

    /// Hears what a phone sends. It repeats only what asks for something new: who can hear the tokens of a
    /// dialog or the branch of a call can end them, by the design of SIP.
    pub(crate) fn overhear(&mut self, now: Instant, bytes: &[u8]) {
        let repeatable = [b"INVITE sip:".as_slice(), b"REGISTER sip:".as_slice()]
            .iter()
            .any(|start| bytes.starts_with(start));
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(1_200)]);
        let in_dialog = head.lines().any(|line| line.starts_with("To:") && line.contains(";tag="));
        for line in head.lines().filter(|line| line.starts_with("Route: ")) {
            // What the registrar behind the edge was told as Path leads to the flow of a phone.
            let routes = if line.contains(";ob>") { &mut self.flows } else { &mut self.routes };
            routes.push_back(line.to_owned());
            if routes.len() > REMEMBERED_MAX {
                routes.pop_front();
            }
        }
        // What is for the registrar behind the edge is judged there and passes here: a copy of it too.
        let is_judged_here = !head.contains(EDGE_DOMAIN);
        if repeatable && is_judged_here && !in_dialog && head.contains("uthorization:") {
            self.overheard.push_back((now, bytes.to_vec()));
            if self.overheard.len() > REMEMBERED_MAX {
                self.overheard.pop_front();
            }
        }
    }

    /// The next hostile datagram, and where it goes.
    pub(crate) fn attack(&mut self, now: Instant) -> (std::net::SocketAddr, Vec<u8>) {
        self.made += 1;
        let to = self.rng.pick(&[FIRST, SECOND, ADVERTISED]);
        let bytes = match self.rng.below(17) {
            0 => self.garbage(),
            1 | 2 => self.mutated(now),
            3 => self.request("INVITE", &format!("sip:alice@{DOMAIN}"), "", ""),
            4 => self.request(
                "INVITE",
                &format!("sip:alice@{DOMAIN}"),
                &format!("Route: <sip:{VICTIM};lr>\r\n"),
                "",
            ),
            5 => self.request("INVITE", &format!("sip:victim@{VICTIM}"), "", ""),
            6 => self.request(
                "INVITE",
                &format!("sip:victim@{VICTIM}"),
                &format!("Route: <sip:{to};lr>\r\n"),
                "",
            ),
            7 => {
                // The token of somebody else's call, or one that is no token at all.
                let route = match self.routes.len() {
                    0 => format!("Route: <sip:t0ken_{}@{to};lr>, <sip:{to};lr>\r\n", self.made),
                    routes => format!("{}\r\n", self.routes[self.rng.index(routes)]),
                };
                let method = self.rng.pick(&["BYE", "INVITE", "ACK", "MESSAGE"]);
                self.request(method, &format!("sip:victim@{VICTIM}"), &route, ";tag=guessed")
            }
            8 => self.register(),
            9 => self.response(),
            10 => self.replay(now),
            11 => self.request("CANCEL", &format!("sip:bob@{DOMAIN}"), "", ""),
            12 => self.request(
                "ACK",
                &format!("sip:victim@{VICTIM}"),
                &format!("Route: <sip:{to};lr>\r\n"),
                ";tag=guessed",
            ),
            13 => {
                let agent = self.rng.pick(&["", "User-Agent: friendly-scanner\r\n"]);
                self.request("OPTIONS", &format!("sip:{DOMAIN}"), agent, "")
            }
            14 => self.request("MESSAGE", &format!("sip:bob@{DOMAIN};maddr={}", VICTIM.ip()), "", ""),
            15 if !self.flows.is_empty() => {
                let flow = format!("{}\r\n", self.flows[self.rng.index(self.flows.len())]);
                let method = self.rng.pick(&["INVITE", "OPTIONS", "MESSAGE"]);
                self.request(method, &format!("sip:ivan@{EDGE_DOMAIN}"), &flow, "")
            }
            _ => self.reflected(),
        };
        (to, bytes)
    }

    /// What a stranger writes to a connection.
    pub(crate) fn attack_stream(&mut self, now: Instant) -> Vec<u8> {
        match self.rng.below(4) {
            0 => self.garbage(),
            1 => self.mutated(now),
            2 => b"INVITE sip:alice@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 198.18.0.66;branch=z9hG4bK-stranger\r\nContent-Length: 99999999\r\n".to_vec(),
            _ => b"\r\n\r\nOPTIONS sip:example.org SIP/2.0\r\nVia: SIP/2.0/TCP 198.18.0.66;branch=z9hG4bK-str".to_vec(),
        }
    }

    fn request(&mut self, method: &str, uri: &str, lines: &str, to_tag: &str) -> Vec<u8> {
        let number = self.made;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER};branch=z9hG4bK-{MARK}-{number}\r\n{lines}\
             Max-Forwards: 70\r\nFrom: <sip:alice@{DOMAIN}>;tag={MARK}\r\nTo: <{uri}>{to_tag}\r\n\
             Call-ID: {MARK}-{number}\r\nCSeq: 1 {method}\r\nContact: <sip:{MARK}@{STRANGER}>\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    fn register(&mut self) -> Vec<u8> {
        let number = self.made;
        let credentials = if self.rng.chance(500) {
            format!(
                "Authorization: Digest username=\"alice\", realm=\"{DOMAIN}\", nonce=\"{MARK}{number}\", \
                 uri=\"sip:{DOMAIN}\", response=\"d41d8cd98f00b204e9800998ecf8427e\", algorithm=MD5, qop=auth, \
                 nc=00000001, cnonce=\"x\"\r\n"
            )
        } else {
            String::new()
        };
        format!(
            "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER};branch=z9hG4bK-{MARK}-{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:alice@{DOMAIN}>;tag={MARK}\r\nTo: <sip:alice@{DOMAIN}>\r\n\
             Call-ID: {MARK}-{number}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{MARK}@{STRANGER}>\r\n{credentials}\
             Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// A response that nobody asked for.
    fn response(&mut self) -> Vec<u8> {
        let number = self.made;
        let status = self.rng.pick(&["180 Ringing", "200 OK", "401 Unauthorized", "603 Decline"]);
        format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP {FIRST};branch=z9hG4bK{MARK}{number}\r\n\
             Via: SIP/2.0/UDP {VICTIM};branch=z9hG4bK-{MARK}\r\nFrom: <sip:a@{DOMAIN}>;tag=1\r\n\
             To: <sip:b@{DOMAIN}>;tag=2\r\nCall-ID: {MARK}-{number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:{MARK}@{STRANGER}>\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// A request that wants its answer sent to somebody else.
    fn reflected(&mut self) -> Vec<u8> {
        let text =
            String::from_utf8_lossy(&self.request("OPTIONS", &format!("sip:{DOMAIN}"), "", "")).into_owned();
        let via = format!("SIP/2.0/UDP {STRANGER};");
        let forged = format!(
            "SIP/2.0/UDP {VICTIM};received={};rport={};maddr={};",
            VICTIM.ip(),
            VICTIM.port(),
            VICTIM.ip()
        );
        text.replace(&via, &forged).into_bytes()
    }

    /// A request of somebody else, byte for byte, credentials and all.
    fn replay(&mut self, now: Instant) -> Vec<u8> {
        let old = self.overheard.iter().filter(|(at, _)| *at + REPLAYED_AFTER < now).count();
        if old == 0 {
            return self.garbage();
        }
        let number = self.rng.index(old);
        self.overheard[number].1.clone()
    }

    /// A message with some bytes changed, doubled, cut out or cut off.
    fn mutated(&mut self, now: Instant) -> Vec<u8> {
        let mut bytes = match self.rng.below(3) {
            0 => self.request("INVITE", &format!("sip:bob@{DOMAIN}"), "Record-Route: <sip:x;lr>\r\n", ""),
            1 => self.register(),
            _ => {
                let old = self.overheard.iter().filter(|(at, _)| *at + REPLAYED_AFTER < now).count();
                if old == 0 { self.response() } else { self.overheard[self.rng.index(old)].1.clone() }
            }
        };
        for _ in 0..=self.rng.below(6) {
            if bytes.is_empty() {
                break;
            }
            let at = self.rng.index(bytes.len());
            match self.rng.below(5) {
                0 => bytes[at] = self.rng.next() as u8,
                1 => bytes.truncate(at),
                2 => {
                    bytes.remove(at);
                }
                3 => {
                    let piece = bytes[at..(at + 40).min(bytes.len())].to_vec();
                    bytes.extend_from_slice(&piece);
                }
                _ => {
                    let odd = self.rng.pick(&[
                        b"\0".as_slice(),
                        b"\r\n",
                        b"\"",
                        b"<",
                        b";",
                        b"\xff",
                        b",",
                        b"99999999999",
                    ]);
                    bytes.splice(at..at, odd.iter().copied());
                }
            }
        }
        bytes
    }

    fn garbage(&mut self) -> Vec<u8> {
        let length = 1 + self.rng.index(600);
        (0..length).map(|_| self.rng.next() as u8).collect()
    }
}

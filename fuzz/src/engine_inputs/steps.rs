//! The records of a program, one after the other.

use std::net::IpAddr;
use std::time::Duration;

use engine::Loaded;
use sip::{Message, Method};
use transport::selection::{NaptrRecord, Query, Records, SrvRecord};
use transport::{Flow, RemoteAddr, Source, Transport};

use super::checks::Sender;
use super::letters::{self, Wish};
use super::peers::{self, DOMAIN, ELSEWHERE, INSIDE, OPEN, PEERS, STRANGER, UDP, UDP_SIX, USERS};
use super::world::{World, loaded};

/// What is left of a program.
pub(super) struct Steps<'a> {
    rest: &'a [u8],
    time_left: Duration,
}

/// Time of one program before its end. Phones behind NAT get a keepalive each few seconds of it.
const TIME_MAX: Duration = Duration::from_secs(2 * 3_600);

/// Time that passes at once, in milliseconds.
const PAUSES: [u64; 16] = [
    0, 1, 10, 499, 500, 501, 1_000, 3_500, 4_000, 5_000, 10_000, 32_000, 60_000, 180_000, 600_000, 3_600_000,
];

impl<'a> Steps<'a> {
    /// All of a program.
    pub(super) fn new(program: &'a [u8]) -> Self {
        Self { rest: program, time_left: TIME_MAX }
    }

    /// Carries one record out; `false` at the end.
    pub(super) fn step(&mut self, world: &mut World) -> bool {
        let Some((&[what, how @ ..], rest)) = self.rest.split_first_chunk::<8>() else { return false };
        self.rest = rest;
        match what % 16 {
            0..=3 => self.request(world, how),
            4 | 5 => self.response(world, how),
            6 => self.in_dialog(world, how),
            7 => self.companion(world, how),
            8 => self.raw(world, how),
            9 => reply_of_store(world, how),
            10 => reply_of_names(world, how),
            11 => self.pause(world, how),
            12 => self.connection(world, how),
            13 => failure(world, how),
            14 => operator(world, how),
            _ => world.mislead(
                u16::from(how[0] & 1),
                u64::from_be_bytes([how[1], how[2], 0, 0, 0, 0, how[3], how[4]]),
            ),
        }
        true
    }

    fn request(&mut self, world: &mut World, [peer, method, target, identity, way, ids, extras]: [u8; 7]) {
        // Strangers hear nothing of others, and have no nonce of their own.
        let number = usize::from(peer) % PEERS.len();
        let is_stranger = number == STRANGER;
        let connection = if peer >= 0xc0 && !is_stranger { world.connection(peer) } else { None };
        let heard = if is_stranger { None } else { world.requests.front().or(world.responses.front()) };
        let heard = heard.and_then(|heard| Message::parse(&heard.bytes).ok());
        let wish = Wish {
            method,
            target,
            identity,
            way,
            ids,
            extras,
            peer: &PEERS[number],
            transport: if connection.is_some() { "TCP" } else { "UDP" },
            heard_contact: heard.as_ref().and_then(letters::first_contact),
            heard_routes: heard
                .iter()
                .flat_map(|heard| heard.values(sip::Name::RecordRoute))
                .map(text)
                .collect(),
            mark: if is_stranger { "stranger" } else { "" },
        };
        let chosen = usize::from(ids >> 5) % world.nonces.len().max(1);
        let nonce = if is_stranger { None } else { world.nonces.get_mut(chosen) };
        let mut bytes = letters::request(&wish, nonce);
        self.patch(&mut bytes, extras >> 7);
        match connection {
            Some((id, _)) => world.receive_stream(id, &bytes),
            None if is_stranger => world.receive_datagram(source(number), &bytes, Sender::Stranger),
            None => world.receive_datagram(source(number), &bytes, Sender::Anybody),
        }
    }

    fn response(&mut self, world: &mut World, [which, status, form, patches, from, ..]: [u8; 7]) {
        let Some(heard) = nth(&world.requests, which) else { return };
        let Ok(request) = Message::parse(&heard.bytes) else { return };
        let own = if from & 2 == 0 { heard.by.flow.remote().to_string() } else { "10.9.9.9:5060".to_owned() };
        let mut bytes = letters::response(&request, status, form, &own);
        self.patch(&mut bytes, patches & 1);
        // Who answers may be somebody else, or the same phone behind another port of its NAT.
        let by = if from & 1 == 0 { heard.by } else { source(usize::from(from >> 2)) };
        send(world, by, &bytes);
    }

    fn in_dialog(&mut self, world: &mut World, [which, method, number, patches, from, ..]: [u8; 7]) {
        let heard =
            if which & 0x80 == 0 { nth(&world.responses, which) } else { nth(&world.requests, which & 0x7f) };
        let Some(heard) = heard else { return };
        let Ok(message) = Message::parse(&heard.bytes) else { return };
        let by = if from & 1 == 0 { heard.by } else { source(usize::from(from >> 1)) };
        let own = by.flow.remote().to_string();
        let transport = by.transport.via_name();
        let Some(mut bytes) = letters::in_dialog(&message, method, number, (transport, &own)) else { return };
        self.patch(&mut bytes, patches & 1);
        send(world, by, &bytes);
    }

    /// What was said before is said again, acknowledged or cancelled.
    fn companion(&mut self, world: &mut World, [which, kind, patches, from, ..]: [u8; 7]) {
        let Some(said) = nth(&world.said, which) else { return };
        let Ok((message, _)) = Message::parse_lenient(&said.bytes) else { return };
        let mut bytes = Vec::new();
        match kind % 4 {
            0 => bytes.extend_from_slice(&said.bytes),
            1 if message.method() == Some(Method::Invite) => {
                let Some(response) = world.responses.front() else { return };
                let Ok(response) = Message::parse(&response.bytes) else { return };
                sip::ack_for(&message, &response, &mut bytes);
            }
            _ => sip::cancel_for(&message, &mut bytes),
        }
        if bytes.is_empty() {
            return;
        }
        self.patch(&mut bytes, patches & 1);
        let by = if from & 7 != 7 { said.by } else { source(usize::from(from >> 3)) };
        send(world, by, &bytes);
    }

    /// Any bytes as a datagram.
    fn raw(&mut self, world: &mut World, [peer, high, low, ..]: [u8; 7]) {
        let bytes = self.take(high, low);
        let number = usize::from(peer) % PEERS.len();
        let sender = if number == STRANGER { Sender::Stranger } else { Sender::Anybody };
        world.receive_datagram(source(number), bytes, sender);
    }

    fn connection(&mut self, world: &mut World, [what, which, high, low, ..]: [u8; 7]) {
        match what % 4 {
            0 => {
                let peer = &PEERS[usize::from(which) % PEERS.len()];
                let mut remote = peers::address(peer.remote);
                remote.set_port(40_000 + u16::from(high));
                world.open(remote);
            }
            1 => {
                if let Some((id, _)) = world.connection(which) {
                    world.close(id);
                }
            }
            _ => {
                let bytes = self.take(high, low);
                if let Some((id, _)) = world.connection(which) {
                    world.receive_stream(id, bytes);
                }
            }
        }
    }

    fn pause(&mut self, world: &mut World, [which, more, ..]: [u8; 7]) {
        let pause = Duration::from_millis(PAUSES[usize::from(which % 16)] + u64::from(more));
        let pause = pause.min(self.time_left);
        self.time_left -= pause;
        world.pass(pause);
    }

    fn take(&mut self, high: u8, low: u8) -> &'a [u8] {
        let length = usize::from(u16::from_be_bytes([high, low])).min(self.rest.len());
        let (bytes, rest) = self.rest.split_at(length);
        self.rest = rest;
        bytes
    }

    /// Changes a message at some places, if it is to be changed: the next byte says at how many.
    fn patch(&mut self, bytes: &mut Vec<u8>, is_wanted: u8) {
        if is_wanted == 0 {
            return;
        }
        let Some((&count, rest)) = self.rest.split_first() else { return };
        self.rest = rest;
        for _ in 0..1 + count % 4 {
            let Some((&patch, rest)) = self.rest.split_first_chunk::<4>() else { return };
            self.rest = rest;
            letters::patch(bytes, patch);
            bytes.truncate(sip::limits::MESSAGE_BYTES_MAX);
        }
    }
}

/// By a connection through its framing, else as a datagram.
fn send(world: &mut World, by: Source, bytes: &[u8]) {
    match by.flow {
        Flow::Connection { id, .. } => world.receive_stream(id, bytes),
        Flow::Datagram { .. } => world.receive_datagram(by, bytes, Sender::Anybody),
    }
}

fn reply_of_store(world: &mut World, [which, kind, ..]: [u8; 7]) {
    if kind & 0x10 != 0 {
        world.has_store = !world.has_store;
    }
    let index = usize::from(which) % world.loads.len().max(1);
    // A reply may come twice.
    let asked = if kind & 0x20 != 0 { world.loads.get(index).cloned() } else { world.loads.remove(index) };
    let Some((partition, aor)) = asked else { return };
    let loaded = match kind & 7 {
        6 => Loaded::NotFound,
        7 => Loaded::Unavailable,
        _ => loaded(&aor),
    };
    world.load(partition, &aor, loaded);
}

fn reply_of_names(world: &mut World, [which, kind, ..]: [u8; 7]) {
    if kind & 0x10 != 0 {
        world.has_names = !world.has_names;
    }
    let index = usize::from(which) % world.lookups.len().max(1);
    let asked =
        if kind & 0x20 != 0 { world.lookups.get(index).cloned() } else { world.lookups.remove(index) };
    let Some((shard, token, query)) = asked else { return };
    let records = match kind & 7 {
        5 => Records::Failed,
        6 => Records::None,
        // An answer to another question than was asked, or more of one than anybody wants.
        7 => Records::Addresses(addresses(20)),
        count => match query {
            // The name of somebody else leads to this server itself.
            Query::Addresses(_) if count == 4 => {
                Records::Addresses(vec![peers::address("192.0.2.1:5060").ip()])
            }
            Query::Addresses(_) => Records::Addresses(addresses(usize::from(count))),
            Query::Srv(_) => {
                Records::Srv((0..u16::from(count)).map(|number| service(which, number)).collect())
            }
            Query::Naptr(_) => {
                Records::Naptr((0..u16::from(count)).map(|number| naptr(which, number)).collect())
            }
        },
    };
    world.resolve(shard, token, records);
}

fn addresses(count: usize) -> Vec<IpAddr> {
    ELSEWHERE.iter().map(|text| peers::address(text).ip()).cycle().take(count).collect()
}

/// A server of a zone that nobody checked: any priority, weight and port, no target.
fn service(which: u8, number: u16) -> SrvRecord {
    let target = [".", "", "one.example", "two.example"][usize::from(which.wrapping_add(number as u8) % 4)];
    SrvRecord {
        priority: number % 2,
        weight: u16::from(which).wrapping_mul(number),
        port: if which & 8 == 0 { 5060 } else { number },
        target: target.into(),
    }
}

fn naptr(which: u8, number: u16) -> NaptrRecord {
    let service =
        ["SIP+D2U", "sip+d2t", "SIPS+D2T", "E2U+sip"][usize::from(which.wrapping_add(number as u8) % 4)];
    NaptrRecord {
        order: number,
        preference: u16::from(which),
        flags: if which & 8 == 0 { "s" } else { "u" }.into(),
        service: service.into(),
        has_regexp: which & 16 != 0,
        replacement: "_sip._udp.one.example".into(),
    }
}

fn failure(world: &mut World, [which, kind, ..]: [u8; 7]) {
    if kind & 1 != 0 {
        world.is_accepting = !world.is_accepting;
    }
    if let Some((shard, key)) = nth(&world.sent, which) {
        world.fail(shard, key);
    }
}

fn operator(world: &mut World, [what, how, more, ..]: [u8; 7]) {
    match what % 5 {
        0 => world.reload(how),
        1 => {
            let user = USERS[usize::from(how) % USERS.len()];
            let aor = sip::Aor::parse(&format!("{user}@{DOMAIN}")).expect("an address of record");
            world.change_account(&aor);
        }
        2 => world.set_calendar(i64::from(i16::from_be_bytes([how, more]))),
        3 => world.restart(),
        _ => {}
    }
}

fn nth<T: Clone>(all: &std::collections::VecDeque<T>, number: u8) -> Option<T> {
    all.get(usize::from(number) % all.len().max(1)).cloned()
}

fn source(number: usize) -> Source {
    let peer = &PEERS[number % PEERS.len()];
    debug_assert!([UDP, UDP_SIX, INSIDE, OPEN].contains(&peer.listener));
    let flow = Flow::Datagram { listener: peer.listener, remote: RemoteAddr(peers::address(peer.remote)) };
    Source { flow, transport: Transport::Udp }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

//! Registrations: one REGISTER and its 200, or with a 401 and a second REGISTER in between.

use std::error::Error;
use std::net::SocketAddr;

use md5::{Digest as _, Md5};

use crate::sockets::{Outbox, Sockets};
use crate::text::{after, decimal, hex, place, shown, status};
use crate::{Options, Step, Work, address, first_number, first_round};

/// The port that phones register from.
pub const PORT: u16 = 5071;
/// The password of every account.
const PASSWORD: &[u8] = b"secret";
const CNONCE: &[u8] = b"0a4f113b";
const BRANCH: &[u8] = b"branch=z9hG4bK";

/// How a REGISTER proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Not at all.
    None,
    /// It is challenged each time.
    Challenge,
    /// It uses the nonce of the last challenge again, with a count that grows.
    Reuse,
}

impl Digest {
    /// Reads its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "challenge" => Some(Self::Challenge),
            "reuse" => Some(Self::Reuse),
            _ => None,
        }
    }
}

/// What a phone remembers.
#[derive(Clone, Debug, Default)]
struct Phone {
    cseq: u32,
    nonce: Vec<u8>,
    count: u32,
    /// Of user, realm and password: it never changes.
    secret: Option<[u8; 32]>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    round: u32,
    user: u64,
    last: Vec<u8>,
}

/// Registrations of many phones.
#[derive(Debug)]
pub struct Registrations {
    server: SocketAddr,
    host: String,
    digest: Digest,
    addresses: Vec<SocketAddr>,
    phones: Vec<Phone>,
    slots: Vec<Slot>,
    next_user: u64,
}

impl Registrations {
    /// Opens the phones' sockets.
    pub fn new(options: &Options, sockets: &mut Sockets) -> Result<Self, Box<dyn Error>> {
        let mut addresses = Vec::new();
        for number in 0..options.sources {
            let address = address(options.phones, number, PORT);
            sockets.open(address)?;
            addresses.push(address);
        }
        let users = usize::try_from(options.users)?;
        if users < options.outstanding {
            return Err("fewer users than exchanges under way".into());
        }
        Ok(Self {
            server: options.server,
            host: options.server.ip().to_string(),
            digest: options.digest,
            addresses,
            // What an earlier load has sent must be older than what this one sends.
            phones: vec![Phone { cseq: first_number() * 16, ..Phone::default() }; users],
            slots: vec![Slot { round: first_round(), ..Slot::default() }; options.outstanding],
            next_user: 0,
        })
    }

    fn send(&mut self, slot: usize, out: &mut Outbox) {
        let round = self.slots[slot].round.wrapping_add(1);
        self.slots[slot].round = round;
        let user = self.slots[slot].user;
        let socket = (user % self.addresses.len() as u64) as usize;
        let phone = &mut self.phones[user as usize];
        phone.cseq += 1;
        let (host, from) = (self.host.as_bytes(), self.addresses[socket]);
        let sent = out.push(socket, self.server, |text| {
            write(slot, round, user, phone, host, from, text);
        });
        let last = &mut self.slots[slot].last;
        last.clear();
        last.extend_from_slice(sent);
    }
}

impl Work for Registrations {
    fn begin(&mut self, slot: usize, _number: u64, out: &mut Outbox) {
        let user = self.next_user;
        self.next_user = (user + 1) % self.phones.len() as u64;
        self.slots[slot].user = user;
        if self.digest == Digest::Challenge {
            self.phones[user as usize].nonce.clear();
        }
        self.send(slot, out);
    }

    fn take(&mut self, _socket: usize, message: &[u8], out: &mut Outbox) -> Result<Step, String> {
        let Some((slot, round)) = place(message, BRANCH) else { return Err(shown(message)) };
        let here = self.slots.get(slot).ok_or_else(|| shown(message))?;
        if here.round != round {
            return Ok(Step::Stray);
        }
        let phone = &mut self.phones[here.user as usize];
        match status(message) {
            Some(100) => Ok(Step::Goes(slot)),
            Some(200) => {
                let is_proven = self.digest == Digest::None || !phone.nonce.is_empty();
                if is_proven { Ok(self.end(slot)) } else { Err(shown(message)) }
            }
            Some(401) if self.digest != Digest::None && phone.nonce.is_empty() => {
                let nonce = after(message, b"nonce=\"", b"\"").ok_or_else(|| shown(message))?;
                phone.nonce = nonce.to_vec();
                phone.count = 0;
                self.send(slot, out);
                Ok(Step::Goes(slot))
            }
            _ => Err(shown(message)),
        }
    }

    fn again(&mut self, slot: usize, out: &mut Outbox) {
        let Slot { user, last, .. } = &self.slots[slot];
        let socket = (user % self.addresses.len() as u64) as usize;
        out.push(socket, self.server, |text| text.extend_from_slice(last));
    }
}

impl Registrations {
    fn end(&mut self, slot: usize) -> Step {
        // A later answer to this round is late.
        self.slots[slot].round = self.slots[slot].round.wrapping_add(1);
        Step::Ended(slot)
    }
}

fn write(
    slot: usize,
    round: u32,
    user: u64,
    phone: &mut Phone,
    host: &[u8],
    from: SocketAddr,
    text: &mut Vec<u8>,
) {
    let from = from.to_string();
    text.extend_from_slice(b"REGISTER sip:");
    text.extend_from_slice(host);
    text.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/UDP ");
    text.extend_from_slice(from.as_bytes());
    text.extend_from_slice(b";rport;branch=z9hG4bK");
    hex(slot as u64, 4, text);
    hex(round.into(), 8, text);
    text.extend_from_slice(b"\r\nMax-Forwards: 70\r\nFrom: <sip:user");
    decimal(user, text);
    text.push(b'@');
    text.extend_from_slice(host);
    text.extend_from_slice(b">;tag=r");
    hex(round.into(), 8, text);
    text.extend_from_slice(b"\r\nTo: <sip:user");
    decimal(user, text);
    text.push(b'@');
    text.extend_from_slice(host);
    text.extend_from_slice(b">\r\nCall-ID: 5f2c8a90e1");
    hex(user, 8, text);
    text.extend_from_slice(b"@phone\r\nCSeq: ");
    decimal(phone.cseq.into(), text);
    text.extend_from_slice(b" REGISTER\r\nContact: <sip:user");
    decimal(user, text);
    text.push(b'@');
    text.extend_from_slice(from.as_bytes());
    text.extend_from_slice(b">\r\nExpires: 3600\r\n");
    if !phone.nonce.is_empty() {
        authorize(user, phone, host, text);
    }
    text.extend_from_slice(b"User-Agent: load\r\nContent-Length: 0\r\n\r\n");
}

fn authorize(user: u64, phone: &mut Phone, host: &[u8], text: &mut Vec<u8>) {
    phone.count += 1;
    let secret = *phone.secret.get_or_insert_with(|| {
        let mut name = b"user".to_vec();
        decimal(user, &mut name);
        hash(&[&name, host, PASSWORD])
    });
    let mut uri = b"sip:".to_vec();
    uri.extend_from_slice(host);
    let request = hash(&[b"REGISTER", &uri]);
    let mut count = Vec::new();
    hex(phone.count.into(), 8, &mut count);
    let response = hash(&[&secret, &phone.nonce, &count, CNONCE, b"auth", &request]);
    text.extend_from_slice(b"Authorization: Digest username=\"user");
    decimal(user, text);
    text.extend_from_slice(b"\", realm=\"");
    text.extend_from_slice(host);
    text.extend_from_slice(b"\", nonce=\"");
    text.extend_from_slice(&phone.nonce);
    text.extend_from_slice(b"\", uri=\"");
    text.extend_from_slice(&uri);
    text.extend_from_slice(b"\", response=\"");
    text.extend_from_slice(&response);
    text.extend_from_slice(b"\", algorithm=MD5, cnonce=\"");
    text.extend_from_slice(CNONCE);
    text.extend_from_slice(b"\", qop=auth, nc=");
    text.extend_from_slice(&count);
    text.extend_from_slice(b"\r\n");
}

/// MD5 of the parts with colons between them, in hexadecimal.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut md5 = Md5::new();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            md5.update(b":");
        }
        md5.update(part);
    }
    let mut text = Vec::with_capacity(32);
    for byte in md5.finalize() {
        hex(byte.into(), 2, &mut text);
    }
    text.try_into().expect("16 bytes are 32 digits")
}

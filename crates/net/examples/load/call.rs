//! Calls: INVITE, 180, 200, ACK, BYE and 200 through Record-Route, this end being caller and callee.
//!
//! Of the 13 datagrams of a call 7 come here: 100, INVITE, 180, 200, ACK, BYE and 200. A call has ended when all of them
//! have come.

use std::error::Error;
use std::net::SocketAddr;

use crate::register::PORT;
use crate::sockets::{Outbox, Sockets};
use crate::text::{decimal, hex, lines, place, shown, status};
use crate::{Options, Step, Work, address, first_round};

/// The port that calls come from.
pub const CALLER_PORT: u16 = 5070;
const CALL_ID: &[u8] = b"Call-ID: call";
const OFFER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\n\
    m=audio 40000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=ptime:20\r\na=sendrecv\r\n";
const ANSWER: &[u8] = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\n\
    m=audio 40002 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\n";

/// What must have come before a call has ended, each of it one bit.
const TRYING: u8 = 1;
const INVITE: u8 = 2;
const RINGING: u8 = 4;
const ANSWERED: u8 = 8;
const ACK: u8 = 16;
const BYE: u8 = 32;
const BYE_ANSWERED: u8 = 64;
const ALL: u8 = 127;

#[derive(Clone, Debug, Default)]
struct Slot {
    round: u32,
    user: u64,
    came: u8,
    last: Vec<u8>,
}

/// Many calls.
#[derive(Debug)]
pub struct Calls {
    server: SocketAddr,
    host: String,
    callers: Vec<SocketAddr>,
    phones: Vec<SocketAddr>,
    users: u64,
    next_user: u64,
    slots: Vec<Slot>,
}

impl Calls {
    /// Opens the sockets of the callers, then those of the phones.
    pub fn new(options: &Options, sockets: &mut Sockets) -> Result<Self, Box<dyn Error>> {
        let mut open = |first, port| {
            (0..options.sources)
                .map(|number| {
                    let address = address(first, number, port);
                    sockets.open(address).map(|_| address)
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let callers = open(options.callers, CALLER_PORT)?;
        let phones = open(options.phones, PORT)?;
        Ok(Self {
            server: options.server,
            host: options.server.ip().to_string(),
            callers,
            phones,
            users: options.users,
            next_user: 0,
            slots: vec![Slot { round: first_round(), ..Slot::default() }; options.outstanding],
        })
    }

    /// Where a call comes from: its socket.
    fn caller(&self, slot: usize) -> usize {
        slot % self.callers.len()
    }

    fn send(&mut self, slot: usize, method: &[u8], cseq: u64, routes: &[u8], out: &mut Outbox) {
        let socket = self.caller(slot);
        let (host, from) = (self.host.as_bytes(), self.callers[socket].to_string());
        let Slot { round, user, last, .. } = &mut self.slots[slot];
        let phone = self.phones[(*user % self.phones.len() as u64) as usize];
        let is_invite = method == b"INVITE";
        let sent = out.push(socket, self.server, |text| {
            text.extend_from_slice(method);
            text.extend_from_slice(b" sip:user");
            decimal(*user, text);
            text.push(b'@');
            if is_invite {
                text.extend_from_slice(host);
            } else {
                text.extend_from_slice(phone.to_string().as_bytes());
            }
            text.extend_from_slice(b" SIP/2.0\r\nVia: SIP/2.0/UDP ");
            text.extend_from_slice(from.as_bytes());
            text.extend_from_slice(b";branch=z9hG4bK");
            text.push(method[0]);
            hex(slot as u64, 4, text);
            hex(u64::from(*round), 8, text);
            text.extend_from_slice(b";rport\r\nMax-Forwards: 70\r\n");
            text.extend_from_slice(routes);
            text.extend_from_slice(b"From: <sip:caller@");
            text.extend_from_slice(host);
            text.extend_from_slice(b">;tag=c");
            hex(u64::from(*round), 8, text);
            text.extend_from_slice(b"\r\nTo: <sip:user");
            decimal(*user, text);
            text.push(b'@');
            text.extend_from_slice(host);
            text.push(b'>');
            if !is_invite {
                text.extend_from_slice(b";tag=s1");
            }
            text.extend_from_slice(b"\r\n");
            text.extend_from_slice(CALL_ID);
            hex(slot as u64, 4, text);
            hex(u64::from(*round), 8, text);
            text.extend_from_slice(b"@10.0.0.2\r\nCSeq: ");
            decimal(cseq, text);
            text.push(b' ');
            text.extend_from_slice(method);
            text.extend_from_slice(b"\r\n");
            if is_invite {
                text.extend_from_slice(b"Contact: <sip:caller@");
                text.extend_from_slice(from.as_bytes());
                text.extend_from_slice(
                    b">\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n\
                      Supported: timer, replaces\r\nUser-Agent: load\r\nContent-Type: application/sdp\r\n",
                );
            }
            end(if is_invite { OFFER } else { b"" }, text);
        });
        last.clear();
        last.extend_from_slice(sent);
    }

    /// A response of the callee.
    fn answer(&self, socket: usize, request: &[u8], status: &[u8], body: &[u8], out: &mut Outbox) {
        let phone = self.phones[socket - self.callers.len()].to_string();
        let is_invite = request.starts_with(b"INVITE");
        out.push(socket, self.server, |text| {
            text.extend_from_slice(b"SIP/2.0 ");
            text.extend_from_slice(status);
            text.extend_from_slice(b"\r\n");
            for line in lines(request).skip(1) {
                let is_to = line.starts_with(b"To:");
                let is_kept = line.starts_with(b"Via:")
                    || (is_invite && line.starts_with(b"Record-Route:"))
                    || line.starts_with(b"From:")
                    || is_to
                    || line.starts_with(b"Call-ID:")
                    || line.starts_with(b"CSeq:");
                if is_kept {
                    text.extend_from_slice(line);
                    if is_to && is_invite {
                        text.extend_from_slice(b";tag=s1");
                    }
                    text.extend_from_slice(b"\r\n");
                }
            }
            if is_invite {
                text.extend_from_slice(b"Contact: <sip:callee@");
                text.extend_from_slice(phone.as_bytes());
                text.extend_from_slice(b">\r\n");
            }
            if !body.is_empty() {
                text.extend_from_slice(b"Content-Type: application/sdp\r\n");
            }
            end(body, text);
        });
    }

    fn take_request(&mut self, socket: usize, slot: usize, request: &[u8], out: &mut Outbox) -> Option<u8> {
        if socket < self.callers.len() {
            return None;
        }
        if request.starts_with(b"INVITE ") {
            self.answer(socket, request, b"180 Ringing", b"", out);
            self.answer(socket, request, b"200 OK", ANSWER, out);
            Some(INVITE)
        } else if request.starts_with(b"ACK ") {
            Some(ACK)
        } else if request.starts_with(b"BYE ") && self.slots[slot].came & ANSWERED != 0 {
            self.answer(socket, request, b"200 OK", b"", out);
            Some(BYE)
        } else {
            None
        }
    }

    fn take_response(&mut self, slot: usize, status: u16, response: &[u8], out: &mut Outbox) -> Option<u8> {
        let method = lines(response).find_map(|line| line.strip_prefix(b"CSeq: "))?;
        match (status, method) {
            (100, b"1 INVITE") => Some(TRYING),
            (180, b"1 INVITE") => Some(RINGING),
            (200, b"1 INVITE") => {
                if self.slots[slot].came & ANSWERED == 0 {
                    let routes = route_set(response);
                    self.send(slot, b"ACK", 1, &routes, out);
                    self.send(slot, b"BYE", 2, &routes, out);
                }
                Some(ANSWERED)
            }
            (200, b"2 BYE") => Some(BYE_ANSWERED),
            _ => None,
        }
    }
}

impl Work for Calls {
    fn begin(&mut self, slot: usize, _number: u64, out: &mut Outbox) {
        let user = self.next_user;
        self.next_user = (user + 1) % self.users;
        let here = &mut self.slots[slot];
        here.round = here.round.wrapping_add(1);
        here.user = user;
        here.came = 0;
        self.send(slot, b"INVITE", 1, b"", out);
    }

    fn take(&mut self, socket: usize, message: &[u8], out: &mut Outbox) -> Result<Step, String> {
        let Some((slot, round)) = place(message, CALL_ID) else { return Err(shown(message)) };
        let here = self.slots.get(slot).ok_or_else(|| shown(message))?;
        if here.round != round || here.came == ALL {
            return Ok(Step::Stray);
        }
        let news = match status(message) {
            Some(status) => self.take_response(slot, status, message, out),
            None => self.take_request(socket, slot, message, out),
        };
        let here = &mut self.slots[slot];
        here.came |= news.ok_or_else(|| shown(message))?;
        Ok(if here.came == ALL { Step::Ended(slot) } else { Step::Goes(slot) })
    }

    fn again(&mut self, slot: usize, out: &mut Outbox) {
        let socket = self.caller(slot);
        let last = &self.slots[slot].last;
        out.push(socket, self.server, |text| text.extend_from_slice(last));
    }
}

fn end(body: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"Content-Length: ");
    decimal(body.len() as u64, text);
    text.extend_from_slice(b"\r\n\r\n");
    text.extend_from_slice(body);
}

/// The Route lines of the caller: the Record-Route of the answer, last first.
fn route_set(response: &[u8]) -> Vec<u8> {
    let mut values: Vec<&[u8]> =
        lines(response).filter_map(|line| line.strip_prefix(b"Record-Route: ")).collect();
    values.reverse();
    let mut routes = Vec::new();
    for value in values {
        routes.extend_from_slice(b"Route: ");
        routes.extend_from_slice(value);
        routes.extend_from_slice(b"\r\n");
    }
    routes
}

//! The phones of the simulation on the sockets of a real host: a crowd that registers and calls for hours.
//!
//! The crowd is a machine as each of its phones is: whoever drives it has the sockets and the clock. Every call
//! has a script, and what the phones say of it is compared with that as in the simulation. A call that does
//! not go as its script says is *hurt*. What has ended is forgotten, so the crowd does not grow with time.

mod script;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;
use transport::Transport;

use crate::ledger::{CallRecord, Expected};
use crate::phone::{Algorithm, Fact, Output, Phone, Setup};
use crate::rng::Rng;
use crate::stream::StreamId;

/// So long after the end that its script names a call may still be under way: 64*T1 of a lost BYE, and more.
const LATE: Duration = Duration::from_secs(45);
/// The default of the server; no call of a crowd waits for it.
const RING_TIMEOUT: Duration = Duration::from_secs(120);
/// How many phones the users have, in turn.
const PHONES_OF_USERS: [usize; 4] = [1, 2, 4, 3];
/// So many complaints are kept until they are taken.
const COMPLAINTS_MAX: usize = 50;

/// Where a phone is, and how it talks to the server.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The phone's own address.
    pub local: SocketAddr,
    /// The server's address.
    pub server: SocketAddr,
    /// The phone's transport.
    pub transport: Transport,
}

/// What all phones have in common, and how they call.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The domain of their accounts.
    pub domain: String,
    /// The password of their accounts.
    pub password: String,
    /// How long a registration lasts.
    pub expires: Duration,
    /// No call is talked longer.
    pub talk_max: Duration,
    /// Where chance begins.
    pub seed: u64,
}

/// What a crowd asks of its host. Streams have numbers that the crowd gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram from a phone's socket.
    Send {
        /// The phone.
        phone: usize,
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Open a connection.
    Open {
        /// The phone.
        phone: usize,
        /// The connection's number.
        stream: u64,
        /// Where to.
        to: SocketAddr,
    },
    /// Write to a connection.
    Write {
        /// The connection's number.
        stream: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close a connection.
    Close {
        /// The connection's number.
        stream: u64,
    },
}

/// What happened since the figures were last taken.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Calls that began.
    pub begun: u64,
    /// Calls that went as their scripts say.
    pub ended: u64,
    /// Calls that did not.
    pub hurt: u64,
    /// REGISTERs that were accepted.
    pub registered: u64,
    /// REGISTERs that were refused or not answered.
    pub register_hurt: u64,
    /// From each INVITE to the first sign of ringing, a challenge included.
    pub answer_times: Vec<Duration>,
    /// What was wrong, in words.
    pub complaints: Vec<String>,
}

/// A call and the time by which it must have ended.
#[derive(Debug)]
struct Call {
    record: CallRecord,
    scripted_end: Instant,
}

/// A crowd of phones.
#[derive(Debug)]
pub struct Crowd {
    phones: Vec<Phone>,
    users: Vec<Vec<usize>>,
    registered: Vec<bool>,
    domain: String,
    talk_max: Duration,
    rng: Rng,
    calls: BTreeMap<u32, Call>,
    made: u32,
    streams: u64,
    figures: Figures,
    said: Vec<Output>,
}

impl Crowd {
    /// One phone for each seat; the users share them.
    pub fn new(seats: &[Seat], habits: &Habits) -> Self {
        let mut rng = Rng::new(habits.seed);
        let mut users: Vec<Vec<usize>> = Vec::new();
        let mut numbers = 0..seats.len();
        for count in PHONES_OF_USERS.iter().cycle() {
            let user: Vec<usize> = numbers.by_ref().take(*count).collect();
            if user.is_empty() {
                break;
            }
            users.push(user);
        }
        let owners = users.iter().enumerate().flat_map(|(user, phones)| phones.iter().map(move |_| user));
        let phones: Vec<Phone> =
            owners.zip(seats).map(|(user, seat)| Phone::new(setup(user, seat, habits, &mut rng))).collect();
        Self {
            registered: vec![false; phones.len()],
            phones,
            users,
            domain: habits.domain.clone(),
            talk_max: habits.talk_max,
            rng,
            calls: BTreeMap::new(),
            made: 0,
            streams: 0,
            figures: Figures::default(),
            said: Vec::new(),
        }
    }

    /// The accounts that the server must have.
    pub fn accounts(&self) -> Vec<String> {
        (0..self.users.len()).map(account).collect()
    }

    /// A phone registers, and refreshes from then on.
    pub fn register(&mut self, now: Instant, phone: usize, out: &mut Vec<Effect>) {
        self.registered[phone] = false;
        self.phones[phone].register(now, &mut self.said);
        self.settle(now, phone, out);
    }

    /// Whether all phones are registered.
    pub fn is_registered(&self) -> bool {
        self.registered.iter().all(|registered| *registered)
    }

    /// How many calls have not been judged.
    pub fn calls_left(&self) -> usize {
        self.calls.len()
    }

    /// Somebody calls somebody.
    pub fn begin_call(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.made += 1;
        let part = script::write(&mut self.rng, self.made, &self.users, self.talk_max, &self.domain);
        for (phone, answering) in &part.answers {
            self.phones[*phone].prepare(self.made, answering.clone());
        }
        let record = CallRecord {
            order: part.order.clone(),
            caller: part.caller,
            began: now,
            expected: Expected::Answers(part.answers),
            facts: Vec::new(),
        };
        self.calls.insert(self.made, Call { record, scripted_end: now + part.lasts });
        self.figures.begun += 1;
        self.phones[part.caller].call(now, part.order, &mut self.said);
        self.settle(now, part.caller, out);
    }

    /// A phone takes a datagram.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        phone: usize,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Effect>,
    ) {
        self.phones[phone].handle_datagram(now, from, bytes, &mut self.said);
        self.settle(now, phone, out);
    }

    /// A connection that a phone opened is up.
    pub fn handle_opened(&mut self, now: Instant, phone: usize, stream: u64, out: &mut Vec<Effect>) {
        self.phones[phone].handle_opened(StreamId(stream), &mut self.said);
        self.settle(now, phone, out);
    }

    /// A phone takes bytes of its connection.
    pub fn handle_bytes(
        &mut self,
        now: Instant,
        phone: usize,
        stream: u64,
        bytes: &[u8],
        out: &mut Vec<Effect>,
    ) {
        self.phones[phone].handle_bytes(now, StreamId(stream), bytes, &mut self.said);
        self.settle(now, phone, out);
    }

    /// A phone's connection is gone, or was refused.
    pub fn handle_closed(&mut self, now: Instant, phone: usize, stream: u64) {
        self.phones[phone].handle_closed(now, StreamId(stream));
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Effect>) {
        for phone in 0..self.phones.len() {
            if self.phones[phone].poll_timeout().is_some_and(|at| at <= now) {
                self.phones[phone].handle_timeout(now, &mut self.said);
                self.settle(now, phone, out);
            }
        }
    }

    /// When [`Crowd::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.phones.iter().filter_map(Phone::poll_timeout).min()
    }

    /// Compares the calls whose scripts are over with what the phones said, and forgets them.
    pub fn judge(&mut self, now: Instant) {
        let due: Vec<u32> = self
            .calls
            .iter()
            .filter(|(_, call)| call.scripted_end <= now)
            .map(|(&number, _)| number)
            .collect();
        for number in due {
            let Some(call) = self.calls.get(&number) else { continue };
            match call.record.judge(RING_TIMEOUT) {
                Ok(()) => self.figures.ended += 1,
                Err(_) if now < call.scripted_end + LATE => continue,
                Err(problem) => {
                    let complaint = format!("call {number}: {problem}: {:?}", call.record);
                    self.figures.hurt += 1;
                    self.complain(complaint);
                }
            }
            self.forget(number);
        }
    }

    /// Gives the figures and begins them anew.
    pub fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    fn forget(&mut self, number: u32) {
        let Some(call) = self.calls.remove(&number) else { return };
        for phone in call.record.phones() {
            self.phones[phone].forget_call(number);
        }
    }

    /// Carries out what a phone said.
    fn settle(&mut self, now: Instant, phone: usize, out: &mut Vec<Effect>) {
        for output in std::mem::take(&mut self.said) {
            match output {
                Output::Datagram { to, bytes } => out.push(Effect::Send { phone, to, bytes }),
                Output::Open { to } => {
                    self.streams += 1;
                    self.phones[phone].handle_opening(StreamId(self.streams));
                    out.push(Effect::Open { phone, stream: self.streams, to });
                }
                Output::Write { stream, bytes } => out.push(Effect::Write { stream: stream.0, bytes }),
                Output::Close { stream } => out.push(Effect::Close { stream: stream.0 }),
                Output::Fact(fact) => self.note(now, phone, fact),
            }
        }
    }

    fn note(&mut self, now: Instant, phone: usize, fact: Fact) {
        if let Some(number) = fact.call() {
            return self.note_call(now, phone, number, fact);
        }
        match fact {
            Fact::Registered { .. } => {
                self.registered[phone] = true;
                self.figures.registered += 1;
            }
            Fact::RegisterRefused(_) | Fact::RegisterTimedOut => {
                self.figures.register_hurt += 1;
                self.complain(format!("registration of phone {phone}: {fact:?}"));
            }
            Fact::Unexpected(text) => {
                self.figures.hurt += 1;
                self.complain(format!("phone {phone}: {text}"));
            }
            _ => {}
        }
    }

    fn note_call(&mut self, now: Instant, phone: usize, number: u32, fact: Fact) {
        let Some(call) = self.calls.get_mut(&number) else {
            // What is said of a call that was judged is of no interest; a call that none of ours made is.
            if number == 0 && matches!(fact, Fact::Ringing { .. }) {
                self.figures.hurt += 1;
                self.complain(format!("phone {phone} rang for a stranger"));
            }
            return;
        };
        let rings = matches!(fact, Fact::Progress { .. });
        if rings && !call.record.said(|fact| matches!(fact, Fact::Progress { .. })) {
            self.figures.answer_times.push(now.since(call.record.began));
        }
        call.record.facts.push((now, phone, fact));
    }

    fn complain(&mut self, complaint: String) {
        if self.figures.complaints.len() < COMPLAINTS_MAX {
            self.figures.complaints.push(complaint);
        }
    }
}

fn account(user: usize) -> String {
    format!("u{user}")
}

fn setup(user: usize, seat: &Seat, habits: &Habits, rng: &mut Rng) -> Setup {
    let likings = [vec![Algorithm::Md5], vec![Algorithm::Sha256, Algorithm::Md5]];
    Setup {
        user: account(user),
        domain: habits.domain.clone(),
        password: habits.password.clone(),
        local: seat.local,
        server: seat.server,
        transport: seat.transport,
        liked: likings[rng.index(likings.len())].clone(),
        instance: false,
        strict: false,
        q: None,
        preloads: rng.chance(200),
        expires: habits.expires,
    }
}

//! Many phones that register all the time, on a few sockets, and remember what they were promised.
//!
//! They come round one after the other at a set pace. Each refreshes its binding with the next count of the nonce that it
//! got first; some end their registration and come back later. A REGISTER without an answer is sent again as RFC 3261
//! wants it, byte for byte. They answer what they are asked, so that it can be seen who is reached.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::chance::Chance;
use crate::lab::Host;
use crate::lab::observer::now;
use crate::phone::message::Message;
use crate::process;

mod audit;
mod device;
pub mod ledger;

use device::{Again, Device, Heard, Line, Wish};
use ledger::{Entry, Promise};

/// The first port of the phones.
const FIRST_PORT: u16 = 5070;
/// So many phones share a socket.
const PHONES_OF_SOCKET: usize = 10_000;
/// The longest datagram that is looked at.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// The kernel keeps so much for a socket while this process does not run.
const BUFFER_BYTES: usize = 8 << 20;
/// How long a turn waits for news.
const TURN: Duration = Duration::from_millis(2);
/// Phones that were kept from registering make up for no more than this in a burst.
const BURST: Duration = Duration::from_millis(20);
/// So many complaints are kept.
const COMPLAINTS_MAX: usize = 20;

/// Who registers, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The phones are `user0` to one below this.
    pub phones: u32,
    /// Their domain.
    pub domain: String,
    /// Where they send.
    pub registrar: SocketAddr,
    /// For how long they register.
    pub expires: Duration,
    /// One of so many REGISTERs ends a registration; 0: none.
    pub removal_one_in: u64,
    /// What the removals are drawn from.
    pub seed: u64,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// 200s to registrations and refreshes.
    pub registered: u64,
    /// 200s to ends of registrations.
    pub removed: u64,
    /// Messages that were sent again.
    pub sent_again: u64,
    /// 401s to a nonce that was taken before.
    pub challenged_again: u64,
    /// Other refusals.
    pub refused: u64,
    /// REGISTERs without a final answer.
    pub unanswered: u64,
    /// 200s that do not say what they should.
    pub wrong: u64,
}

/// The phones, registering.
#[derive(Debug)]
pub struct Registrants {
    plan: Plan,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// REGISTERs that are begun in a second.
    pace: AtomicU32,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: Vec<Entry>,
    /// Whose REGISTER has no final answer yet.
    under_way: BTreeSet<u32>,
    counts: Counts,
    complaints: Vec<String>,
    last_answer: Duration,
    longest_gap: Duration,
}

impl Registrants {
    /// Takes its sockets on a host; nobody registers before there is a pace.
    pub fn start(host: &Host, plan: &Plan) -> Result<Registrants> {
        ensure!(plan.phones > 0, "no phones");
        let count = (plan.phones as usize).div_ceil(PHONES_OF_SOCKET);
        let mut sockets = Vec::new();
        for number in 0..count {
            let local = SocketAddr::from((host.v4, FIRST_PORT + number as u16));
            let socket = host.enter(|| UdpSocket::bind(local))??;
            socket.set_nonblocking(true)?;
            // Without the right to more the kernel's own limit is what there is.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES);
            sockets.push((socket, local));
        }
        let phones = plan.phones as usize;
        let shared = Arc::new(Shared {
            pace: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            state: Mutex::new(State {
                entries: vec![Entry::default(); phones],
                under_way: BTreeSet::new(),
                counts: Counts::default(),
                complaints: Vec::new(),
                last_answer: now(),
                longest_gap: Duration::ZERO,
            }),
        });
        let switchboard = Switchboard {
            plan: plan.clone(),
            sockets,
            devices: vec![Device::default(); phones],
            shared: shared.clone(),
            waiting: BTreeSet::new(),
            next: 0,
            chance: Chance(plan.seed),
        };
        let thread = std::thread::Builder::new().name("registrants".to_owned());
        let thread = Some(thread.spawn(move || switchboard.work())?);
        Ok(Registrants { plan: plan.clone(), shared, thread })
    }

    /// How many REGISTERs are begun in a second from here on.
    pub fn set_pace(&self, a_second: u32) {
        self.shared.pace.store(a_second, Ordering::Relaxed);
    }

    /// What each phone was promised.
    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Who registers, and where.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What went wrong since this was asked last.
    pub fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.state().complaints)
    }

    /// The longest time without a 200 is measured from here on.
    pub fn begin_gap(&self) {
        let mut state = self.state();
        state.last_answer = now();
        state.longest_gap = Duration::ZERO;
    }

    /// The longest time without a 200 since [`Registrants::begin_gap`].
    pub fn longest_gap(&self) -> Duration {
        self.state().longest_gap
    }

    /// Registers all of them at a pace.
    pub fn register_all(&self, a_second: u32, limit: Duration) -> Result<()> {
        self.set_pace(a_second);
        let all = process::wait_until("registration of all phones", limit, || {
            let is_new = |entry: &Entry| entry.promise == Promise::Nothing;
            Ok((!self.state().entries.iter().any(is_new)).then_some(()))
        });
        self.set_pace(0);
        all
    }

    /// Waits until each REGISTER that is under way has its answer or was given up, while others may begin.
    pub fn wait_for_answers(&self, limit: Duration) -> Result<()> {
        let mut open = self.state().under_way.clone();
        process::wait_until("answer to every REGISTER", limit, || {
            let state = self.state();
            open.retain(|phone| state.under_way.contains(phone));
            Ok(open.is_empty().then_some(()))
        })
    }

    /// Waits for so many 200s to REGISTERs that were first sent from here on.
    pub fn wait_for_service(&self, count: usize, limit: Duration) -> Result<()> {
        let start = now();
        process::wait_until(&format!("{count} answers to REGISTERs"), limit, || {
            let is_fresh = |entry: &&Entry| match entry.promise {
                Promise::Bound { from, .. } | Promise::Gone { from } => from > start,
                Promise::Nothing => false,
            };
            Ok((self.state().entries.iter().filter(is_fresh).count() >= count).then_some(()))
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared)
    }
}

impl Drop for Registrants {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that has the sockets.
struct Switchboard {
    plan: Plan,
    sockets: Vec<(UdpSocket, SocketAddr)>,
    devices: Vec<Device>,
    shared: Arc<Shared>,
    /// Who sends again, and when.
    waiting: BTreeSet<(Instant, u32)>,
    next: u32,
    chance: Chance,
}

impl Switchboard {
    fn work(mut self) {
        let mut begun_at = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let pace = self.shared.pace.load(Ordering::Relaxed);
            if pace == 0 {
                begun_at = Instant::now();
            } else {
                let each = Duration::from_secs(1) / pace;
                begun_at = begun_at.max(Instant::now().checked_sub(BURST).unwrap_or(begun_at));
                while begun_at <= Instant::now() {
                    begun_at += each;
                    self.begin_next();
                }
            }
            self.send_again();
            self.wait();
            for socket in 0..self.sockets.len() {
                self.receive(socket);
            }
        }
    }

    /// The next phone whose turn it is and that is not busy.
    fn begin_next(&mut self) {
        for _ in 0..self.plan.phones {
            let phone = self.next;
            self.next = (phone + 1) % self.plan.phones;
            if self.devices[phone as usize].is_busy() {
                continue;
            }
            let is_bound =
                matches!(lock(&self.shared).entries[phone as usize].promise, Promise::Bound { .. });
            let leaves = self.plan.removal_one_in > 0 && self.chance.below(self.plan.removal_one_in) == 0;
            self.begin(phone, if is_bound && leaves { Wish::End } else { Wish::Binding });
            return;
        }
    }

    fn begin(&mut self, phone: u32, wish: Wish) {
        {
            // Before it leaves: what it brings about can be seen at once.
            let mut state = lock(&self.shared);
            state.under_way.insert(phone);
            let entry = &mut state.entries[phone as usize];
            match wish {
                Wish::Binding => (entry.registers, entry.is_registering) = (entry.registers + 1, true),
                Wish::End => (entry.removals, entry.is_leaving) = (entry.removals + 1, true),
            }
        }
        let line = line(&self.plan, &self.sockets, phone);
        let (bytes, again) = self.devices[phone as usize].begin(line, wish, now());
        // What can not be sent now is sent again like what was lost.
        let _ = self.sockets[socket_of(phone)].0.send_to(bytes, self.plan.registrar);
        self.waiting.insert((again, phone));
    }

    fn send_again(&mut self) {
        let now = Instant::now();
        while let Some(&(at, phone)) = self.waiting.first()
            && at <= now
        {
            self.waiting.pop_first();
            match self.devices[phone as usize].again(at) {
                Again::Settled => {}
                Again::GivenUp => {
                    let mut state = lock(&self.shared);
                    state.counts.unanswered += 1;
                    state.under_way.remove(&phone);
                    complain(&mut state, format!("user{phone}: no answer to its REGISTER"));
                }
                Again::Send(bytes, next) => {
                    lock(&self.shared).counts.sent_again += 1;
                    let _ = self.sockets[socket_of(phone)].0.send_to(bytes, self.plan.registrar);
                    self.waiting.insert((next, phone));
                }
            }
        }
    }

    fn wait(&self) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: TURN.subsec_nanos().into() };
        let mut set: Vec<_> =
            self.sockets.iter().map(|(socket, _)| PollFd::new(socket, PollFlags::IN)).collect();
        // It ends early by a signal or an error; the next turn looks again.
        let _ = poll(&mut set, Some(&timeout));
    }

    fn receive(&mut self, socket: usize) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        while let Ok((length, from)) = self.sockets[socket].0.recv_from(&mut buffer) {
            let Ok(text) = str::from_utf8(&buffer[..length]) else { continue };
            if !text.starts_with("SIP/2.0 ") {
                self.answer(socket, from, text);
                continue;
            }
            let phone = device::answered(text).filter(|phone| *phone < self.plan.phones);
            if let Some(phone) = phone.filter(|_| from == self.plan.registrar) {
                self.take(phone, text);
            }
        }
    }

    fn take(&mut self, phone: u32, text: &str) {
        let line = line(&self.plan, &self.sockets, phone);
        let (heard, wish) = self.devices[phone as usize].take(line, text);
        let first_line = text.lines().next().unwrap_or_default();
        let mut state = lock(&self.shared);
        match heard {
            Heard::Nothing => {}
            Heard::Granted(from, granted) => state.keep(phone, Promise::Bound { from, granted }),
            Heard::Ended(from) => state.keep(phone, Promise::Gone { from }),
            Heard::Wrong => {
                state.counts.wrong += 1;
                complain(&mut state, format!("user{phone}: a 200 that is wrong: {text}"));
            }
            Heard::Refused(_) => {
                state.counts.refused += 1;
                complain(&mut state, format!("user{phone}: {first_line}"));
            }
            Heard::ChallengedAgain => {
                state.counts.challenged_again += 1;
                complain(&mut state, format!("user{phone}: its nonce is refused: {text}"));
            }
            Heard::Challenged => {}
        }
        match (heard, wish) {
            (Heard::Nothing, _) => {}
            (Heard::Challenged | Heard::ChallengedAgain, Some(wish)) => {
                drop(state);
                self.begin(phone, wish);
            }
            _ => {
                state.under_way.remove(&phone);
            }
        }
    }

    /// A phone answers whoever asks it something.
    fn answer(&mut self, socket: usize, from: SocketAddr, text: &str) {
        let Some(request) = Message::parse(text.as_bytes()) else { return };
        if request.method() == Some("ACK") {
            return;
        }
        let user = request.uri().and_then(|uri| ledger::number(uri.strip_prefix("sip:")?));
        let Some(phone) = user.filter(|phone| *phone < self.plan.phones && socket_of(*phone) == socket)
        else {
            return;
        };
        let response = Message::response(&request, 200, "OK").with_to_tag(&format!("user{phone}"));
        // A lost answer is asked for again.
        let _ = self.sockets[socket].0.send_to(&response.to_bytes(), from);
    }
}

impl State {
    fn keep(&mut self, phone: u32, promise: Promise) {
        let at = now();
        self.longest_gap = self.longest_gap.max(at.saturating_sub(self.last_answer));
        self.last_answer = at;
        let entry = &mut self.entries[phone as usize];
        *entry = Entry { promise, at, is_registering: false, is_leaving: false, ..*entry };
        match promise {
            Promise::Gone { .. } => self.counts.removed += 1,
            _ => self.counts.registered += 1,
        }
    }
}

fn complain(state: &mut State, text: String) {
    if state.complaints.len() < COMPLAINTS_MAX {
        state.complaints.push(text);
    }
}

fn socket_of(phone: u32) -> usize {
    phone as usize / PHONES_OF_SOCKET
}

fn line<'p>(plan: &'p Plan, sockets: &[(UdpSocket, SocketAddr)], phone: u32) -> Line<'p> {
    let local = sockets[socket_of(phone)].1;
    Line { number: phone, domain: &plan.domain, local, expires: plan.expires }
}

//! The media of many calls: each side of each says a packet every 20 ms and notes what it hears.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::lab::Host;
use crate::lab::observer::now;
use crate::process;
use crate::sessions::Session;
use crate::talker::packet_of;

/// What a packet of a phone has.
const EVERY: Duration = Duration::from_millis(20);
/// Who sends and who hears look at their work so often; the legs' packets are spread over it.
const TURN: Duration = Duration::from_millis(1);
const LISTEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// One side of a call.
#[derive(Debug)]
struct Leg {
    socket: UdpSocket,
    to: SocketAddr,
    /// Its source (SSRC): no other leg has it.
    source: u32,
    /// When each packet was said, since 1970; the first has the number 1.
    said: Mutex<Vec<Duration>>,
    heard: Mutex<Vec<Word>>,
}

/// A packet that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// When, since 1970.
    pub at: Duration,
    /// Its number, from 1.
    pub number: u16,
    /// Who said it.
    pub source: u32,
}

/// What one side has heard.
#[derive(Clone, Debug)]
pub struct Side {
    /// In the order in which it came.
    pub heard: Vec<Word>,
    /// The source of the other side.
    pub other: u32,
    /// When the other side has said its packets, since 1970; the first has the number 1.
    pub said: Vec<Duration>,
}

/// All sides of all calls.
#[derive(Debug)]
pub struct Crowd {
    /// The two sides of a call are neighbours.
    legs: Arc<Vec<Leg>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Has these sessions talk from these hosts by the relay at this address, until it is ended.
    pub fn talk(hosts: [&Host; 2], relay: IpAddr, sessions: &[Session]) -> Result<Crowd> {
        let open = |host: &Host, ports: fn(&Session) -> [u16; 2]| -> Result<Vec<Leg>> {
            host.enter(|| sessions.iter().map(|it| Leg::open(host, relay, ports(it))).collect())?
        };
        let callers = open(hosts[0], |it| [it.caller, it.towards_caller]);
        let callees = open(hosts[1], |it| [it.callee, it.towards_callee]);
        let legs = callers?.into_iter().zip(callees?).flat_map(|(caller, callee)| [caller, callee]);
        let (legs, is_over) = (Arc::new(legs.collect::<Vec<_>>()), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for act in [say, listen] {
            let (legs, is_over) = (legs.clone(), is_over.clone());
            threads.push(std::thread::spawn(move || act(&legs, &is_over)));
        }
        Ok(Crowd { legs, is_over, threads })
    }

    /// Waits until everybody has heard something.
    pub fn wait_until_all_hear(&self, limit: Duration) -> Result<()> {
        process::wait_until("sound at both sides of all calls", limit, || {
            Ok(self.legs.iter().all(|leg| !leg.heard().is_empty()).then_some(()))
        })
    }

    /// Everybody falls silent.
    pub fn end(mut self) -> Vec<Side> {
        self.fall_silent();
        let pairs = self.legs.chunks_exact(2).flat_map(|call| [(&call[0], &call[1]), (&call[1], &call[0])]);
        pairs
            .map(|(leg, other)| Side {
                heard: leg.heard().clone(),
                other: other.source,
                said: other.said().clone(),
            })
            .collect()
    }

    fn fall_silent(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.fall_silent();
    }
}

impl Leg {
    fn open(host: &Host, relay: IpAddr, [own, towards]: [u16; 2]) -> Result<Leg> {
        let socket = UdpSocket::bind((host.v4, own))?;
        socket.set_nonblocking(true)?;
        let to = SocketAddr::new(relay, towards);
        Ok(Leg { socket, to, source: own.into(), said: Mutex::default(), heard: Mutex::default() })
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Word>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn say(legs: &[Leg], is_over: &AtomicBool) {
    let turns = (EVERY.as_millis() / TURN.as_millis()) as usize;
    let mut next = Instant::now();
    for turn in (0..turns).cycle() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        for leg in legs.iter().skip(turn).step_by(turns) {
            let mut said = leg.said();
            said.push(now());
            // No route, a full queue: it is not heard, which is what is looked for.
            let _ = leg.socket.send_to(&packet_of(leg.source, said.len() as u16), leg.to);
        }
        next += TURN;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn listen(legs: &[Leg], is_over: &AtomicBool) {
    let mut buffer = [0; 2048];
    let mut polled: Vec<PollFd<'_>> =
        legs.iter().map(|leg| PollFd::new(&leg.socket, PollFlags::IN)).collect();
    while !is_over.load(Ordering::Relaxed) {
        // What fails is looked at again.
        let _ = poll(&mut polled, Some(&LISTEN));
        let at = now();
        for (leg, polled) in legs.iter().zip(&mut polled) {
            if polled.revents().is_empty() {
                continue;
            }
            polled.clear_revents();
            let mut heard = leg.heard();
            loop {
                match leg.socket.recv_from(&mut buffer) {
                    Ok((length, _)) if length >= 12 => {
                        let number = u16::from_be_bytes([buffer[2], buffer[3]]);
                        let source = u32::from_be_bytes([buffer[8], buffer[9], buffer[10], buffer[11]]);
                        heard.push(Word { at, number, source });
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // A node that is gone may have its neighbours say so, once for each packet.
                    Err(_) => {}
                }
            }
        }
        // Else each packet wakes it up.
        std::thread::sleep(TURN);
    }
}

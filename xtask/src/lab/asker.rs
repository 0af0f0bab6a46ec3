//! A phone that asks the virtual address by OPTIONS all the time, and remembers when it was answered.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Host;
use super::observer::now;
use crate::process;

/// The longest answer that is looked at.
const ANSWER_BYTES_MAX: usize = 2048;
/// So many requests are remembered: more than half an hour of one every 5 ms.
const ASKED_MAX: usize = 400_000;

/// A request that got a 200; times since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it was sent.
    pub sent: Duration,
    /// When the answer came.
    pub at: Duration,
}

/// The phone, asking.
#[derive(Debug)]
pub struct Asker {
    name: String,
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Answer>>>,
    sent: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Asks port 5060 of an address from a host, every so often, over UDP.
    pub fn start(host: &Host, address: IpAddr, every: Duration) -> Result<Asker> {
        let own =
            if address.is_ipv4() { IpAddr::V4(host.v4) } else { IpAddr::V6(host.v6.context("no IPv6")?) };
        let socket = host.enter(|| UdpSocket::bind((own, 0)))??;
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(Mutex::new(Vec::new()));
        let (to, sent) = (SocketAddr::from((address, 5060)), Arc::new(Mutex::new(Vec::new())));
        let ear = Ear { socket, to, sent: sent.clone(), answers: answers.clone() };
        let (until, name) = (stop.clone(), host.name.clone());
        let thread = std::thread::Builder::new()
            .name(format!("asker-{name}"))
            .spawn(move || ear.ask(every, &until))?;
        Ok(Asker { name: format!("{name} to {address}"), stop, answers, sent, thread: Some(thread) })
    }

    /// All that was answered, in the order in which the answers came.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests that were sent after a time are answered; gives when the last of them was.
    pub fn wait_for(&self, count: usize, after: Duration, limit: Duration) -> Result<Duration> {
        process::wait_until(&format!("{count} answers at {}", self.name), limit, || {
            let answers = self.answers();
            let first = answers.partition_point(|answer| answer.at <= after);
            Ok(answers[first..]
                .iter()
                .filter(|answer| answer.sent > after)
                .nth(count - 1)
                .map(|answer| answer.at))
        })
    }

    /// When those requests were sent, of all between two moments, that have got no answer. Each is asked once and not repeated.
    pub fn unanswered(&self, from: Duration, to: Duration) -> Vec<Duration> {
        let answered: BTreeSet<Duration> = self.answers().iter().map(|answer| answer.sent).collect();
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = sent.iter().filter(|at| (from..=to).contains(*at));
        asked.filter(|at| !answered.contains(*at)).copied().collect()
    }

    /// Whom it asks, from where.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The longest time without an answer between two moments.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        longest_gap(&self.answers(), from, to)
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn longest_gap(answers: &[Answer], from: Duration, to: Duration) -> Duration {
    let times = answers.iter().map(|answer| answer.at);
    let before = times.clone().filter(|at| *at <= from).max().unwrap_or(from);
    let mut gap = Duration::ZERO;
    let mut last = before;
    for at in times.filter(|at| *at > from && *at <= to).chain([to]) {
        gap = gap.max(at.saturating_sub(last));
        last = at;
    }
    gap
}

/// The socket and what was sent by it.
struct Ear {
    socket: UdpSocket,
    to: SocketAddr,
    sent: Arc<Mutex<Vec<Duration>>>,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Ear {
    fn ask(mut self, every: Duration, until: &AtomicBool) {
        let mut next = Instant::now();
        while !until.load(Ordering::Relaxed) && self.asked() < ASKED_MAX {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.send();
                // A phone that was kept from asking does not make up for it in a burst.
                next = (next + every).max(Instant::now());
                continue;
            }
            let timeout = Timespec { tv_sec: 0, tv_nsec: left.min(every).subsec_nanos().into() };
            let mut set = [PollFd::new(&self.socket, PollFlags::IN)];
            // It ends early by a signal or an error; the next turn looks again.
            let _ = poll(&mut set, Some(&timeout));
            self.receive();
        }
    }

    fn asked(&self) -> usize {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn send(&mut self) {
        let (number, to) = (self.asked(), self.to);
        let local = self.socket.local_addr().map_or_else(|_| String::new(), |local| local.to_string());
        let text = format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKlab{number};rport\r\n\
             From: <sip:asker@example.org>;tag={number}\r\nTo: <sip:{to}>\r\nCall-ID: {number}@{local}\r\n\
             CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(now());
        // No route, no neighbour, a full queue: it is not answered, which is what is measured.
        let _ = self.socket.send_to(text.as_bytes(), to);
    }

    fn receive(&mut self) {
        let mut buffer = [0; ANSWER_BYTES_MAX];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            let at = now();
            let sent = number(&buffer[..length]).and_then(|number| {
                self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(number).copied()
            });
            if let Some(sent) = sent.filter(|_| from == self.to) {
                self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(Answer { sent, at });
            }
        }
    }
}

/// The number of the request that this is a 200 to.
fn number(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?.strip_prefix("SIP/2.0 200 ")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Call-ID: "))?;
    line.split_once('@')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_gap_lies_between_two_answers_or_before_the_end() {
        let answers = [5, 10, 15, 60, 65].map(|at| Answer { sent: MS * at, at: MS * at });

        assert_eq!(longest_gap(&answers, MS * 12, MS * 65), MS * 45);
        assert_eq!(longest_gap(&answers, MS * 12, MS * 30), MS * 15);
        assert_eq!(longest_gap(&answers, MS * 62, MS * 200), MS * 135);
    }

    #[test]
    fn only_a_200_to_a_request_of_ours_is_an_answer() {
        assert_eq!(number(b"SIP/2.0 200 OK\r\nCall-ID: 42@203.0.113.21:4000\r\n\r\n"), Some(42));
        assert_eq!(number(b"SIP/2.0 503 No\r\nCall-ID: 42@203.0.113.21:4000\r\n\r\n"), None);
        assert_eq!(number(b"SIP/2.0 200 OK\r\nCall-ID: x@203.0.113.21:4000\r\n\r\n"), None);
    }
}

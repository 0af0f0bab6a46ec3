//! A tap on a phone's cable: what comes to it from one address and goes there, packet by packet.
//!
//! It says what a phone would not: by which ports media came, how long none came, and how many INVITEs there were.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use super::Host;
use super::observer::now;

/// What `socket` wants for IPv4 alone would not show what leaves.
const EVERYTHING: u16 = 3;
/// An INVITE is told by its first bytes.
const FRAME_BYTES_MAX: usize = 256;
/// How long a read waits, so that the end is seen.
const WAIT: Duration = Duration::from_millis(20);

/// A running tap.
#[derive(Debug)]
pub struct Tap {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What passed.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// When media came, since 1970, by the port that they came from.
    media: BTreeMap<u16, Vec<Duration>>,
    invites: usize,
}

impl Tap {
    /// Listens on a host to what it and this address send each other.
    pub fn start(host: &Host, peer: Ipv4Addr) -> Result<Tap> {
        let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
        let socket = host.enter(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol)))?;
        let socket = socket.context("a packet socket")?;
        socket.set_read_timeout(Some(WAIT))?;
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (book, until) = (seen.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name(format!("tap-{}", host.name))
            .spawn(move || listen(&socket, peer, &book, &until))?;
        Ok(Tap { seen, stop, thread: Some(thread) })
    }

    /// The ports of the other side that media came from.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.seen().media.keys().copied().collect()
    }

    /// How many INVITEs have passed, either way.
    pub fn invites(&self) -> usize {
        self.seen().invites
    }

    /// The longest time without media between two moments.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let seen = self.seen();
        let mut times: Vec<Duration> = seen.media.values().flatten().copied().collect();
        times.sort_unstable();
        times.retain(|at| (from..=to).contains(at));
        longest_gap(from, &times, to)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

/// The longest time between two of these moments, which are in order.
pub fn longest_gap(from: Duration, times: &[Duration], to: Duration) -> Duration {
    let starts = std::iter::once(&from).chain(times);
    let ends = times.iter().chain(std::iter::once(&to));
    starts.zip(ends).map(|(start, end)| end.saturating_sub(*start)).max().unwrap_or_default()
}

fn listen(socket: &Socket, peer: Ipv4Addr, seen: &Mutex<Seen>, until: &AtomicBool) {
    let mut buffer = [0; FRAME_BYTES_MAX];
    while !until.load(Ordering::Relaxed) {
        let mut socket = socket;
        match socket.read(&mut buffer) {
            Ok(length) => note(&buffer[..length], peer, seen),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
}

fn note(frame: &[u8], peer: Ipv4Addr, seen: &Mutex<Seen>) {
    let Some((from, to, port, payload)) = datagram(frame) else { return };
    if from != peer && to != peer {
        return;
    }
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if payload.starts_with(b"INVITE ") {
        seen.invites += 1;
    } else if from == peer && is_media(payload) {
        seen.media.entry(port).or_default().push(now());
    }
}

/// A UDP datagram of IPv4: from where to where, its source port, and what is in it.
fn datagram(frame: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr, u16, &[u8])> {
    let packet = frame.get(14..)?;
    let is_udp = frame.get(12..14)? == [0x08, 0x00] && packet.get(9)? == &17;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let udp = packet.get(header..)?;
    let port = u16::from_be_bytes(udp.get(..2)?.try_into().ok()?);
    is_udp.then_some((address(12)?, address(16)?, port, udp.get(8..)?))
}

/// RTP and not RTCP (RFC 5761 §4).
fn is_media(payload: &[u8]) -> bool {
    payload.len() >= 12 && payload[0] >> 6 == 2 && !(192..=223).contains(&payload[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);
    const PHONE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 21);

    #[test]
    fn media_are_noted_by_their_port_and_invites_of_either_way() {
        let seen = Mutex::new(Seen::default());
        let rtp = [0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];
        let rtcp = [0x80, 200, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7];

        note(&frame(PEER, PHONE, 30_000, &rtp), PEER, &seen);
        note(&frame(PEER, PHONE, 30_001, &rtcp), PEER, &seen);
        note(&frame(PHONE, PEER, 7_078, &rtp), PEER, &seen);
        note(&frame(PHONE, PEER, 5_060, b"INVITE sip:bob@example.org SIP/2.0\r\n"), PEER, &seen);
        note(&frame(PEER, PHONE, 5_060, b"INVITE sip:alice@192.168.1.21 SIP/2.0\r\n"), PEER, &seen);

        let seen = seen.into_inner().expect("no test panics inside");
        assert_eq!((seen.media.keys().copied().collect::<Vec<_>>(), seen.invites), (vec![30_000], 2));
    }

    #[test]
    fn a_gap_lies_between_two_packets_or_at_an_end() {
        let times = [10, 30, 50, 90].map(|at| MS * at);

        assert_eq!(longest_gap(MS * 5, &times, MS * 100), MS * 40);
        assert_eq!(longest_gap(MS * 5, &times, MS * 200), MS * 110);
        assert_eq!(longest_gap(MS * 5, &[], MS * 20), MS * 15);
    }

    fn frame(from: Ipv4Addr, to: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(from.octets());
        frame.extend(to.octets());
        frame.extend(port.to_be_bytes());
        frame.extend([0; 6]);
        frame.extend(payload);
        frame
    }
}

//! The media of one of our own phones: it sends numbered RTP packets and notes which of the other side's arrive.
//!
//! A real phone says whether it hears; this one says which packet it did not hear.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::lab::Host;
use crate::lab::observer::now;
use crate::process;

/// The time in a packet of G.711: far less than phones take, so that some fall into every moment of a hand-over.
const EVERY: Duration = Duration::from_millis(1);
/// The samples of that time.
const SAMPLES: usize = 8;
/// The port of its media.
const PORT: u16 = 40_000;

/// A packet that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its number, from 1.
    pub number: u16,
    /// When it came, since 1970.
    pub at: Duration,
    /// Where it came from.
    pub from: SocketAddr,
}

/// A phone's media.
#[derive(Debug)]
pub struct Talker {
    name: String,
    socket: UdpSocket,
    local: SocketAddr,
    sent: Arc<AtomicU16>,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Talker {
    /// Opens its port on a host and says nothing yet.
    pub fn open(host: &Host) -> Result<Talker> {
        let local = SocketAddr::new(IpAddr::V4(host.v4), PORT);
        let socket = host.enter(|| UdpSocket::bind(local))?.with_context(|| local.to_string())?;
        socket.set_read_timeout(Some(EVERY))?;
        Ok(Talker {
            name: host.name.clone(),
            socket,
            local,
            sent: Arc::default(),
            heard: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        })
    }

    /// Its media are at another port from here on, where it says nothing yet.
    pub fn move_to(&mut self, host: &Host, port: u16) -> Result<()> {
        self.fall_silent();
        self.stop.store(false, Ordering::Relaxed);
        self.local.set_port(port);
        self.socket = host.enter(|| UdpSocket::bind(self.local))?.with_context(|| self.local.to_string())?;
        self.socket.set_read_timeout(Some(EVERY))?;
        Ok(())
    }

    /// The description of its media.
    pub fn description(&self) -> String {
        let (address, port) = (self.local.ip(), self.local.port());
        format!(
            "v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0\r\n"
        )
    }

    /// Talks to whom the other side's description names, and listens, until it is dropped.
    pub fn talk_to(&mut self, description: &str) -> Result<()> {
        let to = described(description).with_context(|| format!("no place for media in {description:?}"))?;
        let (socket, sent, until) = (self.socket.try_clone()?, self.sent.clone(), self.stop.clone());
        let source = std::thread::Builder::new().name(format!("says-{}", self.name));
        self.threads.push(source.spawn(move || talk(&socket, to, &sent, &until))?);
        let (socket, heard, until) = (self.socket.try_clone()?, self.heard.clone(), self.stop.clone());
        let ear = std::thread::Builder::new().name(format!("hears-{}", self.name));
        self.threads.push(ear.spawn(move || listen(&socket, &heard, &until))?);
        Ok(())
    }

    /// Talks to somebody else from here on.
    pub fn turn_to(&mut self, description: &str) -> Result<()> {
        self.fall_silent();
        self.stop.store(false, Ordering::Relaxed);
        self.talk_to(description)
    }

    /// Says nothing more, and hears nothing.
    pub fn fall_silent(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }

    /// The number of the last packet that was sent.
    pub fn sent(&self) -> u16 {
        self.sent.load(Ordering::Relaxed)
    }

    /// All that was heard, in the order in which it came.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a packet is heard that was sent by the other one after this call; gives its number.
    pub fn wait_for_next_of(&self, other: &Talker, limit: Duration) -> Result<u16> {
        let after = other.sent();
        process::wait_until(&format!("packet of {} at {}", other.name, self.name), limit, || {
            Ok(self.heard().iter().map(|heard| heard.number).find(|number| *number > after))
        })
    }

    /// Which packets of those behind `first` and up to `last` did not come.
    pub fn missed(&self, first: u16, last: u16) -> Vec<u16> {
        let heard: std::collections::BTreeSet<u16> = self.heard().iter().map(|heard| heard.number).collect();
        (first + 1..=last).filter(|number| !heard.contains(number)).collect()
    }

    /// Fails unless all that was heard came from one place.
    pub fn check_one_source(&self) -> Result<()> {
        let places: std::collections::BTreeSet<SocketAddr> =
            self.heard().iter().map(|heard| heard.from).collect();
        ensure!(places.len() == 1, "{} heard media from {places:?}", self.name);
        Ok(())
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.fall_silent();
    }
}

/// Where a description wants its first media.
pub fn described(description: &str) -> Option<SocketAddr> {
    let line = |start: &str| description.lines().find_map(|line| line.strip_prefix(start));
    let address = line("c=IN IP4 ").or_else(|| line("c=IN IP6 "))?.trim().parse().ok()?;
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

fn talk(socket: &UdpSocket, to: SocketAddr, sent: &AtomicU16, until: &AtomicBool) {
    let mut next = Instant::now();
    while !until.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed) + 1;
        // It is counted before it is gone, so that nobody takes one on its way for one that is not sent yet.
        sent.store(number, Ordering::Relaxed);
        // No route, a full queue: it is not heard, which is what is looked for.
        let _ = socket.send_to(&packet(number), to);
        // Who was kept from talking does not make up for it in a burst.
        next = (next + EVERY).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A packet of a phone that has the source 7.
pub fn packet(number: u16) -> Vec<u8> {
    packet_of(7, number)
}

/// A packet with a source and a number: PCMU of silence (RFC 3550 §5.1).
pub fn packet_of(source: u32, number: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(number.to_be_bytes());
    packet.extend((u32::from(number) * SAMPLES as u32).to_be_bytes());
    packet.extend(source.to_be_bytes());
    packet.resize(12 + SAMPLES, 0xff);
    packet
}

fn listen(socket: &UdpSocket, heard: &Mutex<Vec<Heard>>, until: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !until.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if length >= 12 => {
                let number = u16::from_be_bytes([buffer[2], buffer[3]]);
                let heard = &mut *heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(Heard { number, at: now(), from });
            }
            Ok(_) => {}
            // A node that is gone may have its neighbours say so.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_says_where_media_are_wanted() {
        let text = "v=0\r\nc=IN IP4 203.0.113.100\r\nt=0 0\r\nm=audio 30002 RTP/AVP 0\r\n";

        assert_eq!(described(text), Some("203.0.113.100:30002".parse().expect("good")));
        assert_eq!(described("v=0\r\n"), None);
    }

    #[test]
    fn a_packet_has_its_number_and_the_time_of_its_first_sample() {
        let packet = packet(0x0102);

        assert_eq!((packet.len(), &packet[2..4], &packet[4..8]), (20, &[1, 2][..], &[0, 0, 0x08, 0x10][..]));
    }
}

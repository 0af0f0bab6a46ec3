//! What strangers send, while two phones talk: each message gets the answer that the RFC wants or none, and a counter
//! tells of it; memory stays what it was, and the call is not hurt.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::{Family, Host, Lab};
use crate::phone::call::{self, Dialog};
use crate::phone::message::Message;
use crate::phone::{Phone, call::SDP};
use crate::process;
use crate::server::{Server, Settings};

pub mod datagrams;
pub mod order;
pub mod registrations;
pub mod streams;
pub mod torture;

/// The last octets of the strangers' addresses.
const STRANGERS: std::ops::RangeInclusive<u8> = 100..=199;
/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// All that is held for strangers, once they are gone, may take so much.
const MEMORY_KIB_MAX: u64 = 24 * 1024;

/// A server in the open with two phones that talk.
struct Siege {
    server: Server,
    alice: Phone,
    bob: Phone,
    call: Dialog,
    strangers: Host,
    memory_kib: u64,
    made: u32,
}

impl Siege {
    /// Starts the server with these lines in its configuration, and the call.
    fn begin(lab: &Lab, toml: &str) -> Result<Siege> {
        // Each stranger has a socket.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        let settings = Settings { toml: toml.to_owned(), ..Settings::defaults() };
        let server = Server::start(lab, &settings, &["alice", "bob"])?;
        let strangers = lab.host("strangers", *STRANGERS.start())?;
        for number in STRANGERS.skip(1) {
            strangers.add_address(number)?;
        }
        let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
        let mut bob = Phone::tcp(&lab.host("bob", 22)?, "bob", &server)?;
        alice.register()?;
        bob.register()?;
        let (call, _) = call::establish(&mut alice, &mut bob)?;
        let memory_kib = process::memory_kib(server.id()?)?;
        Ok(Siege { server, alice, bob, call, strangers, memory_kib, made: 0 })
    }

    /// The server's address.
    fn target(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.server.host().address(Family::V4)?, 5060))
    }

    /// The address of the next stranger: no two in a row are one.
    fn stranger(&mut self) -> IpAddr {
        let count = u32::from(STRANGERS.end() - STRANGERS.start()) + 1;
        self.made += 1;
        IpAddr::V4(Ipv4Addr::new(203, 0, 113, STRANGERS.start() + (self.made % count) as u8))
    }

    /// The call goes on in both directions.
    fn is_unhurt(&mut self) -> Result<()> {
        let info = self.call.request(&mut self.alice, "INFO");
        self.alice.send(&info)?;
        let arrived = self.bob.expect_request("INFO").context("in the call")?;
        self.bob.reply(&arrived, 200, "OK")?;
        self.alice.expect_status(&info, 200).context("in the call")?;
        Ok(())
    }

    /// A counter of `tandem status`.
    fn counter(&self, name: &str) -> Result<u64> {
        let status = self.server.json(&["status"])?;
        let figure = status["counters"][name].as_u64();
        figure.with_context(|| format!("status has no counter {name}"))
    }

    /// The call ends as it should, and nothing is left of the strangers.
    fn end(self) -> Result<()> {
        self.end_within(MEMORY_KIB_MAX)
    }

    /// The same, where a scenario has its own measure for memory.
    fn end_within(mut self, memory_kib_max: u64) -> Result<()> {
        self.is_unhurt()?;
        call::hang_up(&mut self.alice, &mut self.call, &mut self.bob)?;
        let grown = process::memory_kib(self.server.id()?)?.saturating_sub(self.memory_kib);
        ensure!(grown <= memory_kib_max, "the server's memory has grown by {grown} KiB");
        self.server.terminate()
    }

    /// Sends a datagram from a fresh address and port, and gives all that comes back.
    ///
    /// A request behind it tells when that is: its answer comes when the batch of both is done, or is nearly done,
    /// as each shard has its turn; the answer to a second one comes from a later batch.
    fn exchange(&mut self, port: u16, bytes: &[u8]) -> Result<Vec<Message>> {
        let target = self.target()?;
        let local = SocketAddr::new(self.stranger(), port);
        let socket = self.strangers.enter(|| UdpSocket::bind(local))?.context(local)?;
        let local = socket.local_addr()?;
        socket.send_to(bytes, target)?;
        let mut came = Vec::new();
        for turn in 0..2 {
            let after = after(local, target, 2 * self.made + turn);
            socket.send_to(&after.to_bytes(), target)?;
            receive_until(&socket, &after, &mut came)?;
        }
        Ok(came)
    }
}

/// Receives until a request is answered, and keeps all else.
fn receive_until(socket: &UdpSocket, after: &Message, came: &mut Vec<Message>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut buffer = vec![0; 65_535];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "the server does not answer any more");
        socket.set_read_timeout(Some(left))?;
        let Ok(length) = socket.recv(&mut buffer) else { bail!("the server does not answer any more") };
        match Message::parse(&buffer[..length]) {
            Some(message) if message.answers(after) => return Ok(()),
            Some(message) => came.push(message),
            None => bail!("what came back is no SIP: {}", buffer[..length].escape_ascii()),
        }
    }
}

/// A request that is always answered.
fn after(local: SocketAddr, target: SocketAddr, number: u32) -> Message {
    Message::request("OPTIONS", &format!("sip:{}", target.ip()))
        .with("Via", format!("SIP/2.0/UDP {local};branch=z9hG4bK-after-{number};rport"))
        .with("Max-Forwards", "70")
        .with("From", "<sip:after@after.example>;tag=1")
        .with("To", format!("<sip:{}>", target.ip()))
        .with("Call-ID", format!("after-{number}"))
        .with("CSeq", "1 OPTIONS")
}

/// A request of a stranger, as a text that ends before the empty line.
fn head(method: &str, number: u32, transport: &str) -> String {
    format!(
        "{method} sip:bob@203.0.113.10 SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 192.0.2.66;branch=z9hG4bK-stranger-{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@203.0.113.10>;tag=s{number}\r\nTo: <sip:bob@203.0.113.10>\r\n\
         Call-ID: stranger-{number}\r\nCSeq: 1 {method}\r\nContact: <sip:alice@192.0.2.66>\r\n"
    )
}

/// What is said about a response in a failure.
fn starts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.start.as_str()).collect()
}

//! Many phones that register by TCP and stay connected, as one thread for each host.
//!
//! Each has a flow of RFC 5626. When its connection ends it connects again at once and registers by the new one, and it
//! remembers when it heard of the end and when it was registered again. It answers each request with 200.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::lab::Host;
use crate::lab::observer::now;
use crate::phone::message::Message;
use crate::process;

/// So many phones connect for the first time in a second: a start that no server takes for a flood.
const FIRST_A_SECOND: f64 = 2_000.0;
/// Whoever was refused tries again so soon.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a turn waits for news.
const TURN: Duration = Duration::from_millis(5);
/// For how long they register, in seconds.
const EXPIRES: u32 = 3_600;
/// What of the end of a connection counts as its peer's word.
const ENDED: epoll::EventFlags = epoll::EventFlags::HUP.union(epoll::EventFlags::ERR);

/// What has become of a phone since [`StreamPhones::begin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When its connection ended.
    pub told: Option<Duration>,
    /// When it was registered by another one.
    pub back: Option<Duration>,
    /// Whether it is registered by a connection that is there.
    pub is_registered: bool,
}

/// The phones of all hosts: `user0`, `user1` … host by host.
#[derive(Debug)]
pub struct StreamPhones {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    fates: Mutex<Vec<Fate>>,
}

impl StreamPhones {
    /// Starts so many phones on each host; they begin to register at once.
    pub fn start(hosts: &[(&Host, u32)], registrar: SocketAddr) -> Result<StreamPhones> {
        let (mut groups, mut first) = (Vec::new(), 0);
        for (host, count) in hosts {
            let fates = vec![Fate::default(); *count as usize];
            let shared = Arc::new(Shared { stop: AtomicBool::new(false), fates: Mutex::new(fates) });
            let crowd = Crowd::new(first, *count, registrar, shared.clone())?;
            let (host, name) = ((*host).clone(), format!("phones-{}", host.name));
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                if let Err(error) = host.enter(move || crowd.work()).and_then(|worked| worked) {
                    eprintln!("the phones of {} have ended: {error:#}", host.name);
                }
            })?;
            groups.push(Group { shared, thread: Some(thread) });
            first += count;
        }
        Ok(StreamPhones { groups })
    }

    /// Waits until so many are registered.
    pub fn wait_for(&self, count: usize, limit: Duration) -> Result<()> {
        process::wait_until(&format!("registration of {count} phones"), limit, || {
            Ok((self.registered() >= count).then_some(()))
        })
        .with_context(|| format!("{} are registered", self.registered()))
    }

    /// How many are registered.
    pub fn registered(&self) -> usize {
        self.fates().iter().filter(|fate| fate.is_registered).count()
    }

    /// What happens from here on counts.
    pub fn begin(&self) {
        for group in &self.groups {
            for fate in group.fates().iter_mut() {
                (fate.told, fate.back) = (None, None);
            }
        }
    }

    /// What has become of each.
    pub fn fates(&self) -> Vec<Fate> {
        self.groups.iter().flat_map(|group| group.fates().clone()).collect()
    }
}

impl Drop for StreamPhones {
    fn drop(&mut self) {
        for group in &mut self.groups {
            group.shared.stop.store(true, Ordering::Relaxed);
            group.thread.take().map(JoinHandle::join);
        }
    }
}

impl Group {
    fn fates(&self) -> MutexGuard<'_, Vec<Fate>> {
        self.shared.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The phones of one host.
struct Crowd {
    first: u32,
    registrar: SocketAddr,
    poll: OwnedFd,
    phones: Vec<Phone>,
    shared: Arc<Shared>,
    began: Duration,
}

#[derive(Debug, Default)]
struct Phone {
    stream: Option<TcpStream>,
    is_connected: bool,
    received: Vec<u8>,
    cseq: u32,
    again_at: Duration,
}

impl Crowd {
    fn new(first: u32, count: u32, registrar: SocketAddr, shared: Arc<Shared>) -> Result<Crowd> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let began = now();
        let phone = |number: u32| Phone {
            again_at: began + Duration::from_secs_f64(f64::from(number) / FIRST_A_SECOND),
            ..Phone::default()
        };
        Ok(Crowd { first, registrar, poll, phones: (0..count).map(phone).collect(), shared, began })
    }

    fn work(mut self) -> Result<()> {
        let turn = Timespec::try_from(TURN)?;
        let mut looked_at = self.began;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let mut room = [MaybeUninit::<epoll::Event>::uninit(); 256];
            let events = match epoll::wait(&self.poll, &mut room, Some(&turn)) {
                Ok((events, _)) => events.to_vec(),
                Err(rustix::io::Errno::INTR) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            for event in events {
                let flags = event.flags;
                self.take(event.data.u64() as usize, flags);
            }
            if now() >= looked_at + TURN {
                looked_at = now();
                for place in 0..self.phones.len() {
                    let phone = &self.phones[place];
                    if phone.stream.is_none() && phone.again_at <= looked_at {
                        self.connect(place)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self, place: usize) -> Result<()> {
        let family = if self.registrar.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &self.registrar) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(_) => {
                self.phones[place].again_at = now() + AGAIN_AFTER;
                return Ok(());
            }
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.poll, socket.as_fd(), epoll::EventData::new_u64(place as u64), flags)?;
        let phone = &mut self.phones[place];
        phone.stream = Some(socket.into());
        phone.is_connected = false;
        phone.received.clear();
        Ok(())
    }

    fn take(&mut self, place: usize, flags: epoll::EventFlags) {
        let number = self.first + place as u32;
        let phone = &mut self.phones[place];
        let Some(stream) = &mut phone.stream else { return };
        if !phone.is_connected && flags.contains(epoll::EventFlags::OUT) && !flags.intersects(ENDED) {
            phone.is_connected = true;
            phone.cseq += 1;
            let sent = stream.local_addr().and_then(|local| {
                stream.write_all(register(number, phone.cseq, local, self.registrar).as_bytes())
            });
            if sent.is_err() {
                return self.ended(place);
            }
        }
        let mut is_over = flags.intersects(ENDED);
        loop {
            let mut room = [0; 4_096];
            match stream.read(&mut room) {
                Ok(0) => is_over = true,
                Ok(length) => {
                    phone.received.extend_from_slice(&room[..length]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => is_over = true,
            }
            break;
        }
        while let Some(message) = next_message(&mut phone.received) {
            if message.method().is_some_and(|method| method != "ACK") {
                let answer = Message::response(&message, 200, "OK").with_to_tag("1");
                is_over |= stream.write_all(&answer.to_bytes()).is_err();
            } else if message.status() == Some(200) && message.cseq() == format!("{} REGISTER", phone.cseq) {
                let mut fates = self.shared.fates.lock().unwrap_or_else(PoisonError::into_inner);
                let fate = &mut fates[place];
                fate.is_registered = true;
                if fate.told.is_some() && fate.back.is_none() {
                    fate.back = Some(now());
                }
            }
        }
        if is_over {
            self.ended(place);
        }
    }

    fn ended(&mut self, place: usize) {
        let phone = &mut self.phones[place];
        phone.stream = None;
        let mut fates = self.shared.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let fate = &mut fates[place];
        // Who was not registered was refused: it comes back a little later, so that it does not spin.
        phone.again_at = if fate.is_registered { now() } else { now() + AGAIN_AFTER };
        if fate.is_registered {
            fate.told.get_or_insert_with(now);
        }
        fate.is_registered = false;
    }
}

fn register(number: u32, cseq: u32, local: SocketAddr, registrar: SocketAddr) -> String {
    let domain = match registrar.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!(
        "REGISTER sip:{domain} SIP/2.0\r\n\
         Via: SIP/2.0/TCP {local};rport;branch=z9hG4bK{number}x{cseq}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:user{number}@{domain}>;tag=1\r\n\
         To: <sip:user{number}@{domain}>\r\n\
         Call-ID: stream-{number}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Contact: <sip:user{number}@{local};transport=tcp>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-{number:012}>\";reg-id=1\r\n\
         Supported: outbound\r\n\
         Expires: {EXPIRES}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// Takes a whole message off the front; line ends before it are keepalives.
fn next_message(received: &mut Vec<u8>) -> Option<Message> {
    let start = received.iter().position(|byte| !b"\r\n".contains(byte))?;
    let end = received[start..].windows(4).position(|window| window == b"\r\n\r\n")? + start + 4;
    let head = Message::parse(&received[start..end])?;
    let body = head.header("Content-Length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if received.len() < end + body {
        return None;
    }
    let message = Message::parse(&received[start..end + body]);
    received.drain(..end + body);
    message
}

//! The sockets and the clock of a crowd: one thread that waits for all of them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{Timespec, epoll};
use sim::{Crowd, Effect, Figures, Seat};

use crate::lab::Host;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// A wait for sockets lasts no longer, so that the end of a minute is seen.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Registrations are begun so far apart.
const BETWEEN_REGISTRATIONS: Duration = Duration::from_millis(10);
/// How often calls are judged.
const BETWEEN_JUDGEMENTS: Duration = Duration::from_millis(500);
/// Keys from here on are connections, below it phones.
const FIRST_STREAM_KEY: u64 = 1 << 32;

/// A crowd with sockets.
#[derive(Debug)]
pub struct Sockets {
    crowd: Crowd,
    start: Instant,
    epoll: rustix::fd::OwnedFd,
    datagrams: Vec<UdpSocket>,
    hosts: Vec<Host>,
    streams: BTreeMap<u64, (usize, TcpStream)>,
    effects: Vec<Effect>,
    judged: Instant,
}

impl Sockets {
    /// Opens a socket for each phone, on its host.
    pub fn open(crowd: Crowd, hosts: &[Host], seats: &[Seat]) -> Result<Sockets> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut datagrams = Vec::new();
        let mut host_of_phone = Vec::new();
        for (phone, seat) in seats.iter().enumerate() {
            let host = &hosts[phone % hosts.len()];
            let socket = host.enter(|| UdpSocket::bind(seat.local))?.context(seat.local)?;
            socket.set_nonblocking(true)?;
            watch(&epoll, &socket, phone as u64)?;
            datagrams.push(socket);
            host_of_phone.push(host.clone());
        }
        let now = Instant::now();
        Ok(Sockets {
            crowd,
            start: now,
            epoll,
            datagrams,
            hosts: host_of_phone,
            streams: BTreeMap::new(),
            effects: Vec::new(),
            judged: now,
        })
    }

    /// All phones register, one after the other.
    pub fn register_all(&mut self, limit: Duration) -> Result<()> {
        for phone in 0..self.datagrams.len() {
            let now = self.now();
            self.crowd.register(now, phone, &mut self.effects);
            self.serve(BETWEEN_REGISTRATIONS, 0)?;
        }
        let deadline = Instant::now() + limit;
        while !self.crowd.is_registered() {
            ensure!(Instant::now() < deadline, "not all phones are registered within {limit:?}");
            self.serve(WAIT_MAX, 0)?;
        }
        Ok(())
    }

    /// Serves the phones for so long and lets calls begin.
    pub fn serve(&mut self, length: Duration, calls_a_second: u32) -> Result<()> {
        let start = Instant::now();
        let mut begun = 0;
        while start.elapsed() < length {
            let due = start.elapsed().as_secs_f64() * f64::from(calls_a_second);
            while f64::from(begun) < due {
                begun += 1;
                let now = self.now();
                self.crowd.begin_call(now, &mut self.effects);
            }
            self.step(length.saturating_sub(start.elapsed()))?;
        }
        Ok(())
    }

    /// Serves the phones until no call is left.
    pub fn serve_until_calls_end(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while self.crowd.calls_left() > 0 {
            ensure!(Instant::now() < deadline, "calls are left after {limit:?}");
            self.step(WAIT_MAX)?;
        }
        Ok(())
    }

    /// Gives the crowd's figures and begins them anew.
    pub fn take_figures(&mut self) -> Figures {
        self.crowd.take_figures()
    }

    fn now(&self) -> clock::Instant {
        clock::Instant::START + self.start.elapsed()
    }

    /// Does what is to be done, and waits for more.
    fn step(&mut self, wait_max: Duration) -> Result<()> {
        let now = self.now();
        self.crowd.handle_timeout(now, &mut self.effects);
        if self.judged.elapsed() >= BETWEEN_JUDGEMENTS {
            self.judged = Instant::now();
            self.crowd.judge(now);
        }
        self.act();
        let next = self.crowd.poll_timeout().map_or(WAIT_MAX, |at| at.since(self.now()));
        let wait = next.min(WAIT_MAX).min(wait_max);
        let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let mut events = Vec::with_capacity(256);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events {
            let key = event.data.u64();
            if key >= FIRST_STREAM_KEY {
                self.read_stream(key - FIRST_STREAM_KEY);
            } else {
                self.read_datagrams(key as usize);
            }
            self.act();
        }
        Ok(())
    }

    fn read_datagrams(&mut self, phone: usize) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        // An error is an ICMP of a server that is about to start; the timers of the phone know what to do.
        while let Ok((length, from)) = self.datagrams[phone].recv_from(&mut buffer) {
            let now = self.now();
            self.crowd.handle_datagram(now, phone, from, &buffer[..length], &mut self.effects);
        }
    }

    fn read_stream(&mut self, number: u64) {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let Some((phone, stream)) = self.streams.get_mut(&number) else { return };
            let phone = *phone;
            match stream.read(&mut buffer) {
                Ok(0) => return self.close(number),
                Ok(length) => {
                    let now = self.now();
                    self.crowd.handle_bytes(now, phone, number, &buffer[..length], &mut self.effects);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(number),
            }
        }
    }

    fn close(&mut self, number: u64) {
        if let Some((phone, _)) = self.streams.remove(&number) {
            let now = self.now();
            self.crowd.handle_closed(now, phone, number);
        }
    }

    /// Carries out what the crowd asks, until it asks no more.
    fn act(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    // What the kernel does not take is lost, as it would be on the way.
                    Effect::Send { phone, to, bytes } => drop(self.datagrams[phone].send_to(&bytes, to)),
                    Effect::Open { phone, stream, to } => self.open_stream(phone, stream, to),
                    Effect::Write { stream, bytes } => {
                        let written = self.streams.get_mut(&stream).map(|(_, it)| it.write_all(&bytes));
                        if written.is_some_and(|result| result.is_err()) {
                            self.close(stream);
                        }
                    }
                    Effect::Close { stream } => drop(self.streams.remove(&stream)),
                }
            }
        }
    }

    fn open_stream(&mut self, phone: usize, number: u64, to: std::net::SocketAddr) {
        let opened = self.try_open(phone, to, number);
        let now = self.now();
        match opened {
            Ok(stream) => {
                self.streams.insert(number, (phone, stream));
                self.crowd.handle_opened(now, phone, number, &mut self.effects);
            }
            Err(_) => self.crowd.handle_closed(now, phone, number),
        }
    }

    fn try_open(&self, phone: usize, to: std::net::SocketAddr, number: u64) -> Result<TcpStream> {
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(3));
        let stream = self.hosts[phone].enter(connect)??;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        watch(&self.epoll, &stream, FIRST_STREAM_KEY + number)?;
        Ok(stream)
    }
}

fn watch(epoll: &rustix::fd::OwnedFd, socket: impl AsFd, key: u64) -> Result<()> {
    epoll::add(epoll, socket, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?;
    Ok(())
}

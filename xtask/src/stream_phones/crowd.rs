//! The phones of one host: their sockets and their patience, driven by one thread.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{Timespec, epoll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::device::{Device, Event, next_message};
use super::{Call, Fate, Habits, Loss, Shared};
use crate::chance::Chance;
use crate::lab::observer::now;
use crate::phone::message::Message;

/// So many phones connect for the first time in a second: a start that no server takes for a flood.
const FIRST_A_SECOND: f64 = 2_000.0;
/// Whoever was refused tries again so soon, and a little later by its [`Habits::jitter`].
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a turn waits for news.
const TURN: Duration = Duration::from_millis(5);
/// How long the answer to a keepalive is waited for (RFC 5626 §4.4.1).
const PONG_MAX: Duration = Duration::from_secs(10);
/// A request that nobody answers in this time has failed (RFC 3261 §17.1.2.2, timer F).
const ANSWER_MAX: Duration = Duration::from_secs(32);
/// What of the end of a connection counts as its peer's word.
const ENDED: epoll::EventFlags = epoll::EventFlags::HUP.union(epoll::EventFlags::ERR);

/// The phones of one host.
pub(super) struct Crowd {
    registrar: SocketAddr,
    poll: OwnedFd,
    phones: Vec<Phone>,
    shared: Arc<Shared>,
    habits: Habits,
    began: Duration,
    chance: Chance,
}

struct Phone {
    device: Device,
    stream: Option<TcpStream>,
    is_connected: bool,
    received: Vec<u8>,
    /// When it connects, without a connection.
    again_at: Duration,
    /// When it registers by the connection that it has, if nothing comes of what it has sent.
    register_at: Option<Duration>,
    ping_at: Duration,
    pinged_at: Option<Duration>,
}

impl Crowd {
    pub(super) fn new(
        first: u32,
        count: u32,
        registrar: SocketAddr,
        habits: Habits,
        shared: Arc<Shared>,
    ) -> Result<Crowd> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let began = now();
        let phone = |number: u32| Phone {
            device: Device::new(first + number, registrar, habits.password),
            stream: None,
            is_connected: false,
            received: Vec::new(),
            again_at: began + Duration::from_secs_f64(f64::from(number) / FIRST_A_SECOND),
            register_at: None,
            ping_at: Duration::MAX,
            pinged_at: None,
        };
        let phones = (0..count).map(phone).collect();
        Ok(Crowd { registrar, poll, phones, shared, habits, began, chance: Chance(u64::from(first)) })
    }

    pub(super) fn work(mut self) -> Result<()> {
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
                    self.look(place, looked_at)?;
                }
            }
        }
        Ok(())
    }

    /// What a phone does by itself.
    fn look(&mut self, place: usize, now: Duration) -> Result<()> {
        let phone = &mut self.phones[place];
        if phone.stream.is_none() {
            return if phone.again_at <= now { self.connect(place) } else { Ok(()) };
        }
        if !phone.is_connected {
            return Ok(());
        }
        if phone.pinged_at.is_some_and(|at| at + PONG_MAX <= now) {
            self.ended(place);
        } else if phone.register_at.is_some_and(|at| at <= now) {
            self.register(place);
        } else if phone.ping_at <= now {
            phone.ping_at = now + self.habits.draw_keepalive(&mut self.chance);
            phone.pinged_at.get_or_insert(now);
            self.write(place, b"\r\n\r\n");
        } else {
            self.talk(place);
        }
        Ok(())
    }

    /// Begins or ends the call of a phone that calls.
    fn talk(&mut self, place: usize) {
        if place % 2 == 1 || place >= self.habits.callers_end() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let may_end = shared.hang_up.load(Ordering::Relaxed);
        let may_call = shared.may_call.load(Ordering::Relaxed) && !may_end;
        let mut fates = shared.fates();
        let is_there = fates[place].is_registered && fates[place + 1].is_registered;
        let call = &mut fates[place].call;
        let Some(local) = self.local(place) else { return };
        let device = &mut self.phones[place].device;
        let message = match *call {
            Call::None if is_there && may_call => {
                *call = Call::Begun;
                Some(device.invite(device.number() + 1, local))
            }
            Call::Up if may_end && is_there => {
                *call = Call::Ending;
                device.hang_up(local)
            }
            _ => None,
        };
        drop(fates);
        if let Some(message) = message {
            self.write(place, &message.to_bytes());
        }
    }

    fn connect(&mut self, place: usize) -> Result<()> {
        let family = if self.registrar.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &self.registrar) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(_) => {
                self.phones[place].again_at = now() + AGAIN_AFTER + self.habits.draw_jitter(&mut self.chance);
                return Ok(());
            }
        }
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.poll, socket.as_fd(), epoll::EventData::new_u64(place as u64), flags)?;
        let phone = &mut self.phones[place];
        phone.stream = Some(socket.into());
        phone.is_connected = false;
        phone.pinged_at = None;
        phone.received.clear();
        Ok(())
    }

    fn take(&mut self, place: usize, flags: epoll::EventFlags) {
        let phone = &mut self.phones[place];
        if phone.stream.is_none() {
            return;
        }
        if !phone.is_connected && flags.contains(epoll::EventFlags::OUT) && !flags.intersects(ENDED) {
            phone.is_connected = true;
            phone.ping_at = now() + self.habits.draw_keepalive(&mut self.chance);
            self.register(place);
        }
        let is_over = flags.intersects(ENDED) | self.read(place);
        let Some(local) = self.local(place) else { return self.ended(place) };
        while let Some(message) = next_message(&mut self.phones[place].received) {
            self.handle(place, &message, local);
        }
        if is_over {
            self.ended(place);
        }
    }

    /// Reads what is there; whether the connection has ended.
    fn read(&mut self, place: usize) -> bool {
        let phone = &mut self.phones[place];
        let Some(stream) = &mut phone.stream else { return false };
        loop {
            let mut room = [0; 4_096];
            match stream.read(&mut room) {
                Ok(0) => return true,
                Ok(length) => {
                    phone.pinged_at = None;
                    phone.received.extend_from_slice(&room[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    fn handle(&mut self, place: usize, message: &Message, local: SocketAddr) {
        let phone = &mut self.phones[place];
        let (answer, event) = phone.device.take(message, local);
        if let Some(event) = event {
            let mut fates = self.shared.fates();
            let fate = &mut fates[place];
            match event {
                Event::Registered => {
                    phone.register_at = None;
                    fate.is_registered = true;
                    if fate.lost.is_some() && fate.back.is_none() {
                        fate.back = Some(now());
                    }
                }
                Event::Refused(seconds) => {
                    fate.refusals += 1;
                    phone.register_at = Some(now() + Duration::from_secs(seconds));
                }
                Event::CallIsUp => fate.call = Call::Up,
                Event::CallHasEnded(status) => fate.call = Call::Ended(status),
            }
        }
        if let Some(answer) = answer {
            self.write(place, &answer.to_bytes());
        }
    }

    fn register(&mut self, place: usize) {
        let Some(local) = self.local(place) else { return self.ended(place) };
        let phone = &mut self.phones[place];
        phone.register_at = Some(now() + ANSWER_MAX);
        let request = phone.device.register(local);
        self.write(place, &request.to_bytes());
    }

    fn write(&mut self, place: usize, bytes: &[u8]) {
        // What a phone says fits into the buffer of its socket; whoever can not write learns it by reading too.
        if self.phones[place].stream.as_mut().is_some_and(|stream| stream.write_all(bytes).is_err()) {
            self.ended(place);
        }
    }

    fn local(&self, place: usize) -> Option<SocketAddr> {
        self.phones[place].stream.as_ref()?.local_addr().ok()
    }

    fn ended(&mut self, place: usize) {
        let phone = &mut self.phones[place];
        if phone.stream.take().is_none() {
            return;
        }
        phone.register_at = None;
        let jitter = self.habits.draw_jitter(&mut self.chance);
        let mut fates = self.shared.fates();
        let fate = &mut fates[place];
        // Who was not registered was refused: it comes back a little later, so that it does not spin.
        phone.again_at = now() + jitter + if fate.is_registered { Duration::ZERO } else { AGAIN_AFTER };
        if fate.is_registered && fate.lost.is_none() {
            let by = if phone.pinged_at.is_some() { Loss::Missed } else { Loss::Told };
            fate.lost = Some((now(), by));
        }
        fate.is_registered = false;
    }
}

impl Shared {
    /// Nothing has happened to any of so many.
    pub(super) fn of(count: u32) -> Shared {
        Shared { fates: vec![Fate::default(); count as usize].into(), ..Shared::default() }
    }
}

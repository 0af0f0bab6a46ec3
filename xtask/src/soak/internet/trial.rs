//! The server, its crowd of phones and its attackers, in one internet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use sim::{Crowd, Habits, Seat};

use super::attack::{Attack, Toll};
use super::minute::Minute;
use super::sockets::Sockets;
use crate::lab::{Family, Host, Lab};
use crate::process;
use crate::server::{PASSWORD, Server, Settings};

/// How long a minute is.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The minute of the short form.
pub const SHORT_MINUTE: Duration = Duration::from_secs(8);
/// All phones must be registered within this time, also on a machine that has other work.
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
/// All calls must be judged so long after the last one began.
const CALLS_END_WITHIN: Duration = Duration::from_secs(90);
/// How many phones are on one host, behind one address.
const PHONES_OF_HOST: usize = 50;
/// Every so many phones one uses TCP.
const TCP_EVERY: usize = 10;
/// The last octet of the first host with phones.
const FIRST_HOST: u8 = 21;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    phones: usize,
    calls_a_second: u32,
    talk_max: Duration,
    attack: Attack,
}

impl Scale {
    /// For hours beside other work on a small machine.
    pub const FULL: Scale = Scale {
        phones: 500,
        calls_a_second: 10,
        talk_max: Duration::from_secs(8),
        attack: Attack {
            datagrams_a_second: 3000,
            connections: 500,
            pulse: Duration::from_secs(8),
            pause: Duration::from_secs(17),
            scans_a_second: 20,
        },
    };
    /// For the test command.
    pub const SHORT: Scale = Scale {
        phones: 20,
        calls_a_second: 5,
        talk_max: Duration::from_secs(2),
        attack: Attack {
            datagrams_a_second: 1000,
            connections: 100,
            pulse: Duration::from_millis(700),
            pause: Duration::from_millis(100),
            scans_a_second: 20,
        },
    };
}

/// What a minute brought.
#[derive(Debug)]
pub struct Figures {
    /// In numbers.
    pub minute: Minute,
    /// Who was hurt, and how.
    pub complaints: Vec<String>,
    /// What the server has counted since its start, a line each.
    pub counters: String,
}

/// All of it.
#[derive(Debug)]
pub struct Trial {
    server: Server,
    sockets: Sockets,
    attacker: Host,
    scale: Scale,
    rounds: u64,
}

impl Trial {
    /// Starts the server and registers the phones.
    pub fn begin(lab: &Lab, scale: Scale) -> Result<Trial> {
        // Each phone has a socket, and so has each connection of a flood.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
        // The default: a debug log of a flood would fill the disk.
        let toml = "[log]\nlevel = \"info\"\n".to_owned();
        let mut server = Server::prepare(lab, &Settings { toml, ..Settings::defaults() })?;
        let attacker = Attack::host(lab)?;
        let (hosts, seats) = seats(lab, &server, scale.phones)?;
        let habits = Habits {
            domain: server.domain(Family::V4)?,
            password: PASSWORD.to_owned(),
            expires: Duration::from_secs(120),
            talk_max: scale.talk_max,
            seed: 1,
        };
        let crowd = Crowd::new(&seats, &habits);
        for account in crowd.accounts() {
            server.add_account_at(&account, Family::V4)?;
        }
        server.start_again()?;
        let mut sockets = Sockets::open(crowd, &hosts, &seats)?;
        sockets.register_all(REGISTERED_WITHIN)?;
        Ok(Trial { server, sockets, attacker, scale, rounds: 0 })
    }

    /// Lets calls begin and attackers work for so long.
    pub fn minute(&mut self, length: Duration) -> Result<Figures> {
        let Trial { server, sockets, attacker, scale, rounds } = self;
        let target = std::net::SocketAddr::new(server.host().address(Family::V4)?, 5060);
        let (stop, toll) = (AtomicBool::new(false), Toll::default());
        *rounds += 1;
        let round = *rounds;
        std::thread::scope(|scope| -> Result<()> {
            let scanner = scope.spawn(|| attacker.enter(|| scale.attack.scan(target, &stop, &toll)));
            let flooder = scope.spawn(|| attacker.enter(|| scale.attack.flood(target, round, &stop, &toll)));
            let calls = sockets.serve(length, scale.calls_a_second);
            stop.store(true, Ordering::Relaxed);
            for attack in [scanner, flooder] {
                attack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))??;
            }
            calls
        })?;
        self.figures(&toll)
    }

    /// Lets the calls end that are under way.
    pub fn end(mut self) -> Result<Figures> {
        self.sockets.serve_until_calls_end(CALLS_END_WITHIN)?;
        let figures = self.figures(&Toll::default())?;
        self.server.terminate()?;
        Ok(figures)
    }

    /// Lets everything sleep.
    pub fn pause_while(&mut self, is_paused: impl Fn() -> bool) -> Result<()> {
        self.sockets.serve_until_calls_end(CALLS_END_WITHIN)?;
        self.server.signal(Signal::STOP)?;
        while is_paused() {
            std::thread::sleep(Duration::from_secs(1));
        }
        self.server.signal(Signal::CONT)?;
        self.sockets.register_all(REGISTERED_WITHIN)
    }

    fn figures(&mut self, toll: &Toll) -> Result<Figures> {
        let mut figures = self.sockets.take_figures();
        figures.answer_times.sort_unstable();
        let p99 = figures.answer_times.get(figures.answer_times.len() * 99 / 100);
        let id = self.server.id()?;
        let minute = Minute {
            life: 0,
            number: 0,
            begun: figures.begun,
            ended: figures.ended,
            hurt: figures.hurt,
            registered: figures.registered,
            register_hurt: figures.register_hurt,
            flood: toll.flood.load(Ordering::Relaxed),
            scans: toll.scans.load(Ordering::Relaxed),
            rss_kib: process::memory_kib(id)?,
            fds: std::fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
            ring_p99_ms: p99.map_or(0, |time| time.as_millis() as u64),
        };
        let status = self.server.json(&["status"])?;
        let counters: String = status["counters"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| value.as_u64() != Some(0))
            .map(|(name, value)| format!("{name} {value}\n"))
            .collect();
        Ok(Figures { minute, complaints: figures.complaints, counters })
    }
}

/// The hosts, and a seat on one of them for each phone: UDP and TCP, IPv4 and IPv6.
fn seats(lab: &Lab, server: &Server, phones: usize) -> Result<(Vec<Host>, Vec<Seat>)> {
    let count = phones.div_ceil(PHONES_OF_HOST).max(2);
    ensure!(count < 60, "too many phones");
    let hosts = (0..count)
        .map(|number| lab.host(&format!("phones{number}"), FIRST_HOST + number as u8))
        .collect::<Result<Vec<_>>>()?;
    let seats = (0..phones).map(|phone| {
        let host = &hosts[phone % count];
        // The last host is in the newer internet.
        let family = if phone % count == count - 1 { Family::V6 } else { Family::V4 };
        let transport = match (phone / count) % TCP_EVERY == TCP_EVERY - 1 {
            true => transport::Transport::Tcp,
            false => transport::Transport::Udp,
        };
        let server = std::net::SocketAddr::new(server.host().address(family)?, 5060);
        let local = std::net::SocketAddr::new(host.address(family)?, 5060 + (phone / count) as u16);
        Ok(Seat { local, server, transport })
    });
    let seats = seats.collect::<Result<Vec<_>>>()?;
    Ok((hosts, seats))
}

/// Waits in pieces, so that a stop is heard soon.
pub(super) fn rest(time: Duration, stop: &AtomicBool) {
    let until = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(20)));
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

//! Many phones that register by TCP and stay connected, as one thread for each host.
//!
//! Each has a flow of RFC 5626. When its connection ends it connects again and registers by the new one, and it
//! remembers when it lost the one and when it was registered by the other. It answers each request with 200. Some are in a
//! call with their neighbour.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::chance::Chance;
use crate::lab::Host;
use crate::process;

mod crowd;
mod device;

use crowd::Crowd;

/// What the phones are like.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How long a phone whose connection has ended waits at most before it connects again; each draws its time.
    pub jitter: Duration,
    /// How often it asks by an empty line whether its connection is there, at most; it draws 80 to 100 % of it, as
    /// RFC 5626 §4.4.1 has it.
    pub keepalive: Duration,
    /// What it answers challenges with.
    pub password: Option<&'static str>,
    /// So many calls between two phones there are on each host, once they may call.
    pub calls: u32,
}

impl Default for Habits {
    fn default() -> Habits {
        Habits { jitter: Duration::ZERO, keepalive: Duration::from_secs(120), password: None, calls: 0 }
    }
}

/// How a phone came to know that its connection had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It heard so, and had asked nobody.
    Told,
    /// It had sent a keepalive.
    Missed,
}

/// The call that a phone makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Call {
    /// It makes none.
    #[default]
    None,
    /// It has sent an INVITE.
    Begun,
    /// It was answered.
    Up,
    /// It has sent a BYE.
    Ending,
    /// The final answer to its BYE, or to an INVITE that became no call.
    Ended(u16),
}

/// What has become of a phone since [`StreamPhones::begin`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When its connection ended, and how it knew.
    pub lost: Option<(Duration, Loss)>,
    /// When it was registered by another one.
    pub back: Option<Duration>,
    /// Whether it is registered by a connection that is there.
    pub is_registered: bool,
    /// How often its REGISTER was refused, challenges apart.
    pub refusals: u32,
    /// The call that it makes.
    pub call: Call,
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

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    may_call: AtomicBool,
    hang_up: AtomicBool,
    fates: Mutex<Vec<Fate>>,
}

impl StreamPhones {
    /// Starts so many phones on each host; they begin to register at once.
    pub fn start(hosts: &[(&Host, u32)], registrar: SocketAddr, habits: Habits) -> Result<StreamPhones> {
        let (mut groups, mut first) = (Vec::new(), 0);
        for (host, count) in hosts {
            let shared = Arc::new(Shared::of(*count));
            let crowd = Crowd::new(first, *count, registrar, habits, shared.clone())?;
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

    /// Waits until so many calls are as wanted.
    pub fn wait_for_calls(&self, count: usize, wanted: Call, limit: Duration) -> Result<()> {
        let calls = || self.fates().into_iter().map(|fate| fate.call).filter(|call| *call != Call::None);
        process::wait_until(&format!("{count} calls that are {wanted:?}"), limit, || {
            Ok((calls().filter(|call| *call == wanted).count() >= count).then_some(()))
        })
        .with_context(|| format!("they are {:?}", calls().collect::<Vec<_>>()))
    }

    /// Lets them call.
    pub fn call(&self) {
        for group in &self.groups {
            group.shared.may_call.store(true, Ordering::Relaxed);
        }
    }

    /// Lets whoever has called hang up.
    pub fn hang_up(&self) {
        for group in &self.groups {
            group.shared.hang_up.store(true, Ordering::Relaxed);
        }
    }

    /// What happens from here on counts.
    pub fn begin(&self) {
        for group in &self.groups {
            for fate in group.shared.fates().iter_mut() {
                (fate.lost, fate.back, fate.refusals) = (None, None, 0);
            }
        }
    }

    /// What has become of each.
    pub fn fates(&self) -> Vec<Fate> {
        self.groups.iter().flat_map(|group| group.shared.fates().clone()).collect()
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

impl Shared {
    fn fates(&self) -> MutexGuard<'_, Vec<Fate>> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Habits {
    fn draw_jitter(&self, chance: &mut Chance) -> Duration {
        Duration::from_micros(chance.below(self.jitter.as_micros() as u64 + 1))
    }

    fn draw_keepalive(&self, chance: &mut Chance) -> Duration {
        self.keepalive.mul_f64(0.8 + 0.2 * chance.below(1_000) as f64 / 1_000.0)
    }

    /// The first place of a host's phones that makes and gets no call.
    fn callers_end(&self) -> usize {
        2 * self.calls as usize
    }
}

//! The process that serves metrics: started, watched, started again, and told how the cluster looks.
//!
//! It is a child without rights, because strangers speak HTTP to it. The listening socket is opened here, so that a port that
//! is taken is told to whoever asked for it, and stays open while the child is started again. What the child may ask is one
//! thing, and it is told what was true [`FRESH_FOR`] ago at the most: a child that was taken over by a stranger costs the
//! guardian's thread two answers a second, and learns what `tandem status` shows.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::host::child::{Child, Start, User};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::control::Asker;
use crate::metrics::exporter::{QUESTION_BYTES, reply_to};
use crate::small_thread::spawn;

/// For how long an answer of the guardian stands for the next question.
const FRESH_FOR: Duration = Duration::from_millis(500);
/// The pause before the second start of a child that died young, and the longest one.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A child that lived so long died of something else than its start.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// How the child is started.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// The configuration, for what is logged.
    pub config_file: PathBuf,
    /// Where the engine is spoken to.
    pub control_socket: PathBuf,
    /// As whom it runs.
    pub user: Option<User>,
}

/// The thread that has the child.
#[derive(Debug)]
pub struct Exporter {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

/// Changes where metrics are served.
#[derive(Clone, Debug)]
pub struct Listening(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// Signalled when something else is wanted.
    signal: OwnedFd,
}

#[derive(Debug)]
struct Wanted {
    listener: Option<Arc<TcpListener>>,
    /// Another one for each listener.
    version: u64,
    is_ending: bool,
}

impl Exporter {
    /// Starts the thread. Nothing is served yet.
    pub fn start(recipe: Recipe, asker: Asker) -> io::Result<Self> {
        let keeper = Keeper::new(recipe, asker)?;
        let shared = Arc::clone(&keeper.shared);
        let thread = spawn("exporter", move || keeper.run())?;
        Ok(Self { shared, thread })
    }

    /// What changes where it is served.
    pub fn listening(&self) -> Listening {
        Listening(Arc::clone(&self.shared))
    }

    /// Ends the child.
    pub fn finish(self) {
        self.shared.change(|wanted| wanted.is_ending = true);
        // One that panicked has no child: it ends with the thread.
        let _ = self.thread.join();
    }
}

impl Listening {
    /// Serves there from now on. If the address can not be had nothing changes.
    pub fn at(&self, address: SocketAddr) -> io::Result<()> {
        if self.address() != Some(address) {
            let listener = TcpListener::bind(address)?;
            self.change(Some(Arc::new(listener)));
        }
        Ok(())
    }

    /// Serves nowhere any more.
    pub fn nowhere(&self) {
        if self.address().is_some() {
            self.change(None);
        }
    }

    fn change(&self, listener: Option<Arc<TcpListener>>) {
        self.0.change(|wanted| {
            wanted.listener = listener;
            wanted.version += 1;
        });
    }

    fn address(&self) -> Option<SocketAddr> {
        let wanted = self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        // It is full only when it was signalled and not looked at.
        let _ = rustix::io::write(&self.signal, &1_u64.to_ne_bytes());
    }
}

struct Keeper {
    recipe: Recipe,
    asker: Asker,
    shared: Arc<Shared>,
    /// What the guardian said last.
    latest: Option<(Instant, Option<Vec<u8>>)>,
    /// Ends in a row, each soon after the start.
    deaths: u32,
    /// When the next child may be started.
    next: Instant,
}

/// A child that runs.
struct Running {
    child: Child,
    /// Our end of the way to it.
    way: UnixDatagram,
    since: Instant,
    version: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// To wait until something happens.
    Wait,
    /// To wait for no longer than this: then a child may be started.
    WaitFor(Duration),
    /// The end.
    End,
}

impl Keeper {
    fn new(recipe: Recipe, asker: Asker) -> io::Result<Self> {
        let shared = Shared {
            wanted: Mutex::new(Wanted { listener: None, version: 0, is_ending: false }),
            signal: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        };
        Ok(Self { recipe, asker, shared: Arc::new(shared), latest: None, deaths: 0, next: Instant::now() })
    }

    fn run(mut self) {
        let mut running = None;
        loop {
            match self.tend(&mut running) {
                Then::Wait => self.wait(&mut running, None),
                Then::WaitFor(pause) => self.wait(&mut running, Timespec::try_from(pause).ok()),
                Then::End => return,
            }
        }
    }

    /// Ends the child that is not wanted, and starts the one that is.
    fn tend(&mut self, running: &mut Option<Running>) -> Then {
        let (listener, version, is_ending) = {
            let wanted = self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            (wanted.listener.clone(), wanted.version, wanted.is_ending)
        };
        if is_ending || running.as_ref().is_some_and(|running| running.version != version) {
            running.take().inspect(end);
            self.next = Instant::now();
        }
        if is_ending {
            return Then::End;
        }
        let Some(listener) = listener.filter(|_| running.is_none()) else { return Then::Wait };
        let pause = self.next.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            return Then::WaitFor(pause);
        }
        match self.child(&listener, version) {
            Ok(child) => {
                *running = Some(child);
                Then::Wait
            }
            Err(error) => {
                tracing::error!(%error, "the process that serves metrics can not be started");
                Then::WaitFor(self.died(Duration::ZERO))
            }
        }
    }

    fn child(&self, listener: &TcpListener, version: u64) -> io::Result<Running> {
        let (way, theirs) = UnixDatagram::pair()?;
        way.set_nonblocking(true)?;
        let Recipe { program, config_file, control_socket, user } = self.recipe.clone();
        let arguments = vec![
            "exporter".into(),
            "--config".into(),
            config_file.into(),
            "--engine".into(),
            control_socket.into(),
        ];
        let descriptors = vec![theirs.into(), listener.try_clone()?.into()];
        let child = Start { program, arguments, descriptors, user }.spawn()?;
        let address = listener.local_addr()?;
        tracing::info!(pid = child.pid, %address, "metrics are served");
        Ok(Running { child, way, since: Instant::now(), version })
    }

    /// Waits until something is to be done, and does what the child wants.
    fn wait(&mut self, running: &mut Option<Running>, pause: Option<Timespec>) {
        let mut wanted = vec![PollFd::new(&self.shared.signal, PollFlags::IN)];
        if let Some(Running { child, way, .. }) = running {
            wanted.push(PollFd::new(&child.descriptor, PollFlags::IN));
            wanted.push(PollFd::new(way, PollFlags::IN));
        }
        if poll(&mut wanted, pause.as_ref()).is_err() {
            return;
        }
        let [is_told, has_ended, is_asked] =
            [0, 1, 2].map(|place| wanted.get(place).is_some_and(|it: &PollFd<'_>| !it.revents().is_empty()));
        if is_told {
            // Nothing to read is what another call has read.
            let _ = rustix::io::read(&self.shared.signal, &mut [0; 8]);
        }
        if has_ended && let Some(running) = running.take() {
            let lived = running.since.elapsed();
            tracing::warn!(?lived, "the process that serves metrics has ended; it is started again");
            reap(&running.child);
            self.died(lived);
        } else if is_asked && let Some(running) = running {
            self.answer(&running.way);
        }
    }

    /// Says how long it is until the next one may be started.
    fn died(&mut self, lived: Duration) -> Duration {
        self.deaths = if lived >= FORGIVEN_AFTER { 0 } else { self.deaths.saturating_add(1) };
        let pause = PAUSE_MIN.saturating_mul(1 << self.deaths.saturating_sub(1).min(10)).min(PAUSE_MAX);
        self.next = Instant::now() + pause;
        pause
    }

    fn answer(&mut self, way: &UnixDatagram) {
        let mut question = [0; QUESTION_BYTES + 1];
        let Ok(QUESTION_BYTES) = way.recv(&mut question) else { return };
        if self.latest.as_ref().is_none_or(|(at, _)| at.elapsed() >= FRESH_FOR) {
            let view = self.asker.status().ok().and_then(|view| serde_json::to_vec(&view).ok());
            self.latest = Some((Instant::now(), view));
        }
        let view = self.latest.as_ref().and_then(|(_, view)| view.as_deref());
        // Who does not read it asks again, or is ended.
        let _ = way.send(&reply_to(&question[..QUESTION_BYTES], view));
    }
}

fn end(running: &Running) {
    // It may have ended by itself.
    let _ = pidfd_send_signal(running.child.descriptor.as_fd(), Signal::KILL);
    reap(&running.child);
}

fn reap(child: &Child) {
    // Whoever ignores the ends of its children is told of none.
    let _ = waitid(WaitId::PidFd(child.descriptor.as_fd()), WaitIdOptions::EXITED);
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::net::TcpStream;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use tempfile::TempDir;

    use super::super::inbox::inbox;
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_and_the_one_before_stays() {
        let place = TempDir::new().expect("there is a place for it");
        let exporter = Exporter::start(recipe(place.path()), asker()).expect("a thread can be started");
        let listening = exporter.listening();
        let free = free();
        listening.at(free).expect("it is free");
        assert!(eventually(|| place.path().join("began").exists()), "a child has the socket");
        let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");

        let refused = listening.at(taken.local_addr().expect("bound"));

        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::AddrInUse));
        assert_eq!(listening.address(), Some(free));
        assert!(TcpStream::connect(free).is_ok(), "it is open");
        listening.nowhere();
        assert!(eventually(|| TcpListener::bind(free).is_ok()), "it is closed, in the child too");
        exporter.finish();
    }

    #[test]
    fn where_no_child_is_wanted_nothing_is_waited_for_but_another_wish() {
        let place = TempDir::new().expect("there is a place for it");
        let (mut keeper, mut running) = (keeper(recipe(place.path())), None);
        let listening = Listening(Arc::clone(&keeper.shared));

        assert_eq!(keeper.tend(&mut running), Then::Wait);
        listening.at(free()).expect("it is free");
        keeper.recipe.program = place.path().join("absent");
        assert_eq!(keeper.tend(&mut running), Then::WaitFor(PAUSE_MIN));
        assert!(matches!(keeper.tend(&mut running), Then::WaitFor(_)));
        listening.nowhere();
        assert_eq!(keeper.tend(&mut running), Then::Wait);
    }

    #[test]
    fn a_child_that_dies_young_again_and_again_is_started_ever_later() {
        let place = TempDir::new().expect("there is a place for it");
        let mut keeper = keeper(recipe(place.path()));

        let pauses: Vec<u64> = (0..9).map(|_| keeper.died(Duration::ZERO).as_secs()).collect();

        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(keeper.died(FORGIVEN_AFTER), PAUSE_MIN);
    }

    fn eventually(is_so: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::yield_now();
        }
        true
    }

    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback")
    }

    fn keeper(recipe: Recipe) -> Keeper {
        Keeper::new(recipe, asker()).expect("a descriptor is left")
    }

    fn asker() -> Asker {
        Asker::new(inbox().expect("a descriptor is left").0)
    }

    /// A child that keeps what it has inherited, and leaves a file when it has begun.
    fn recipe(place: &Path) -> Recipe {
        let program = place.join("child");
        std::fs::write(&program, "#!/bin/sh\n: > \"${0%/*}/began\"\nexec sleep 600\n")
            .expect("it can be written");
        std::fs::set_permissions(&program, Permissions::from_mode(0o700)).expect("it is ours");
        Recipe { program, config_file: "none".into(), control_socket: "none".into(), user: None }
    }
}

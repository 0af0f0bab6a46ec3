//! The segments of TCP that the engine has no right to see or send: a thread shows it the handshakes of the virtual
//! addresses, and sends for it the segments that end the connections of a dead node.
//!
//! The engine can ask for no other packet than a bare acknowledgement from a virtual address, and that passes the gate like
//! all else. The thread has ordinary priority: nobody waits for it, and it waits for nobody but its descriptors.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::host::{HandshakeTap, Interface, SEGMENTS_MAX, Segment, SegmentEnd, Tickler};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::small_thread::spawn;

/// Handshakes that wait for an engine which does not read. Who connected before the oldest of them is not told of a takeover.
const WAITING_MAX: usize = 16_384;

/// What could not leave is tried again so soon, because the address is not here yet, or the interface has no room.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// Tries after which a segment is given up: a second. The engine asks for it again in its next round.
const TRIES_MAX: u32 = 200;

/// The thread, and what engines inherit.
pub struct Segments {
    engine: Arc<SegmentEnd>,
    /// Its end is the thread's.
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Segments {
    /// Starts it on this interface. Without one, or without the right to see packets, connections just are not followed.
    pub fn start(interface: Option<&str>, addresses: &[IpAddr]) -> io::Result<Self> {
        let (ours, engine) = SegmentEnd::pair()?;
        let (stop, stopped) = UnixStream::pair()?;
        let opened = interface.map(|interface| open(interface, addresses)).transpose();
        let thread = match opened {
            Ok(Some((tap, tickler))) => {
                let line = Line {
                    tap,
                    tickler,
                    engine: ours,
                    stopped,
                    seen: VecDeque::new(),
                    asked: Vec::new(),
                    tries: 0,
                };
                Some(spawn("segments", move || line.run())?)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!("TCP connections are not followed, and not ended after a takeover: {error}");
                None
            }
        };
        Ok(Self { engine: Arc::new(engine), stop, thread })
    }

    /// What each engine inherits.
    pub fn for_engines(&self) -> Arc<SegmentEnd> {
        Arc::clone(&self.engine)
    }

    /// Ends the thread.
    pub fn finish(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the thread that follows connections had panicked");
        }
    }
}

fn open(interface: &str, addresses: &[IpAddr]) -> anyhow::Result<(HandshakeTap, Tickler)> {
    let interface = Interface::find(interface)?;
    Ok((HandshakeTap::open(&interface, addresses.to_vec())?, Tickler::open(addresses)?))
}

/// What the thread has.
struct Line {
    tap: HandshakeTap,
    tickler: Tickler,
    engine: SegmentEnd,
    stopped: UnixStream,
    /// Handshakes that the engine was not shown yet.
    seen: VecDeque<Segment>,
    /// Segments that are to leave.
    asked: Vec<Segment>,
    /// How often the first of them was tried.
    tries: u32,
}

impl Line {
    fn run(mut self) {
        let retry = Timespec { tv_sec: 0, tv_nsec: RETRY_EVERY.as_nanos() as i64 };
        loop {
            let mut wanted = PollFlags::empty();
            // No more is taken than can leave, so that the engine hears of it by its full end.
            if self.asked.is_empty() {
                wanted |= PollFlags::IN;
            }
            if !self.seen.is_empty() {
                wanted |= PollFlags::OUT;
            }
            let timeout = (!self.asked.is_empty()).then_some(&retry);
            let mut descriptors = [
                PollFd::new(&self.stopped, PollFlags::IN),
                PollFd::new(&self.tap, PollFlags::IN),
                PollFd::new(&self.engine, wanted),
            ];
            match poll(&mut descriptors, timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "connections are not followed any more");
                    return;
                }
            }
            if !descriptors[0].revents().is_empty() {
                return;
            }
            self.show();
            self.send();
        }
    }

    /// Shows the engine what was seen.
    fn show(&mut self) {
        while let Some(segment) = self.tap.next() {
            if self.seen.len() == WAITING_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(segment);
            if self.seen.len() >= SEGMENTS_MAX && !self.pass_on() {
                break;
            }
        }
        while !self.seen.is_empty() && self.pass_on() {}
    }

    /// Whether a message found room.
    fn pass_on(&mut self) -> bool {
        let count = self.engine.send(self.seen.make_contiguous()).unwrap_or(0);
        self.seen.drain(..count);
        count > 0
    }

    /// Sends what the engine asks for, as far as it can leave.
    fn send(&mut self) {
        if self.asked.is_empty() && !self.engine.receive(&mut self.asked).unwrap_or(false) {
            return;
        }
        let mut sent = 0;
        for segment in &self.asked {
            match self.tickler.send(segment) {
                // The address comes at its own pace, and so does room.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::WouldBlock)
                        && self.tries < TRIES_MAX =>
                {
                    self.tries += 1;
                    break;
                }
                Err(error) => tracing::debug!(peer = %segment.remote, %error, "a segment does not leave"),
                Ok(()) => self.tries = 0,
            }
            sent += 1;
        }
        self.asked.drain(..sent);
    }
}

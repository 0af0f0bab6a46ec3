//! The engine's way to its guardian for what only that one may do with segments of TCP: it hears with which sequence
//! numbers connections begin, and lets the segments be sent that end those of a dead node.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::host::{Segment, SegmentEnd};
use clock::WallTime;
use net::{Ends, Handshake, LocalAddr, RemoteAddr, Tickle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::service::Service;
use crate::small_thread::spawn;

/// How soon the thread sees that the server has ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who sends tickles.
pub struct Sequences(pub Arc<SegmentEnd>);

impl net::Tickler for Sequences {
    fn send(&self, tickles: &[Tickle]) -> usize {
        if tickles.is_empty() {
            return 0;
        }
        let segments: Vec<Segment> = tickles.iter().map(segment).collect();
        self.0.send(&segments).unwrap_or_else(|error| {
            tracing::debug!(%error, "the guardian takes no segments");
            0
        })
    }
}

/// Lets the server learn what the guardian sees, on a thread of its own, as long as there is a server.
pub fn follow(segments: Arc<SegmentEnd>, service: &Arc<Service>) -> io::Result<()> {
    let service = Arc::downgrade(service);
    spawn("sequences", move || listen(&segments, &service))?;
    Ok(())
}

fn listen(segments: &SegmentEnd, service: &Weak<Service>) {
    let look_every = Timespec { tv_sec: LOOK_EVERY.as_secs() as i64, tv_nsec: 0 };
    let mut seen = Vec::new();
    loop {
        if let Err(error) = poll(&mut [PollFd::new(segments, PollFlags::IN)], Some(&look_every))
            && error != rustix::io::Errno::INTR
        {
            tracing::error!(%error, "the numbers of connections are not followed any more");
            return;
        }
        let Some(service) = service.upgrade() else { return };
        while let Ok(true) = segments.receive(&mut seen) {}
        if !seen.is_empty() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = WallTime::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
            let handshakes: Vec<Handshake> = seen.drain(..).map(|segment| handshake(&segment, now)).collect();
            service.server.handshakes_seen(&handshakes);
        }
    }
}

fn handshake(segment: &Segment, now: WallTime) -> Handshake {
    let Segment { local, remote, ours, theirs, timestamp } = *segment;
    let ends = Ends { local: LocalAddr(local), remote: RemoteAddr(remote) };
    Handshake { ends, ours, theirs, clock: timestamp.map(|value| Handshake::clock_at(value, now)) }
}

fn segment(tickle: &Tickle) -> Segment {
    let Tickle { ends, sequence, acknowledged, timestamp } = *tickle;
    Segment { local: ends.local.0, remote: ends.remote.0, ours: sequence, theirs: acknowledged, timestamp }
}

//! What the other node is told of this node's connections, and what becomes of its own when it is gone.
//!
//! A connection's sequence numbers are those it began with, which the kernel shows in its SYN-ACK alone, and the bytes
//! that it has carried since, of which the kernel keeps count. They are told when the connection has begun, and again when
//! they have grown by [`TOLD_EVERY_BYTES`]: the other node's segment may be that much behind. Nobody waits for it.
//!
//! Lock order: that of all this, then the peer's own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::copies::{self, ConnectionAt};
use replica::{Fetched, Place, Wanted};
use tokio::net::TcpStream;
use transport::{
    ConnectionId, Ends, Handshake, LocalAddr, OrphanOutput, Orphans, RemoteAddr, Stranded, Tickle,
};

use super::connection::Link;
use crate::clocks;
use crate::copies::Copies;
use crate::edge::Edge;
use crate::mandate::Ownership;
use crate::option;
use crate::tally::Tally;

/// A NAT follows sequence numbers within a window, which no peer has that is smaller than this.
const TOLD_EVERY_BYTES: usize = 4_096;
/// Connections that are told in one turn, four of which are in each second.
const AT_ONCE_MAX: usize = 2_048;
/// Handshakes whose connections were not accepted yet. A flood of forged SYNs pushes out no one who answers within the
/// time in which so many come.
const HANDSHAKES_MAX: usize = 1 << 16;
/// In how many turns the handshake of a connection is waited for.
const TURNS_MAX: u8 = 20;
/// Calls of one connection that are told from each other: enough to know whether there is one.
const CALLS_MAX: usize = 16;

/// Who sends the segments that end the connections of a node that is gone.
pub trait Tickler: Send + Sync {
    /// Takes as many of these as there is room for, and gives how many those are.
    fn send(&self, tickles: &[Tickle]) -> usize;
}

/// How a connection came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Began {
    Accepted,
    Opened,
}

/// All connections as they are told, by this node and to it.
pub(crate) struct Stranding(Mutex<Known>);

struct Known {
    handshakes: Handshakes,
    /// By the number in their id.
    own: BTreeMap<u64, Own>,
    changed: BTreeSet<u64>,
    orphans: Orphans,
}

struct Own {
    id: ConnectionId,
    ends: Ends,
    began: Began,
    /// It is open as long as this entry is there.
    socket: RawFd,
    handshake: Option<Handshake>,
    told: Option<Stranded>,
    /// Hashes of the Call-IDs of its calls.
    calls: BTreeSet<u64>,
    turns: u8,
}

/// The last handshakes, each until its connection is there.
#[derive(Default)]
struct Handshakes {
    by_ends: BTreeMap<Ends, Handshake>,
    /// In the order in which they came, those included that were taken meanwhile.
    order: VecDeque<Ends>,
}

impl Stranding {
    pub(super) fn new(orphans_max: usize) -> Self {
        Self(Mutex::new(Known {
            handshakes: Handshakes::default(),
            own: BTreeMap::new(),
            changed: BTreeSet::new(),
            orphans: Orphans::new(orphans_max),
        }))
    }

    pub(super) fn reload(&self, orphans_max: usize) {
        self.lock().orphans.reload(orphans_max);
    }

    /// Learns with which numbers connections began.
    pub(crate) fn learn(&self, handshakes: &[Handshake]) {
        let mut known = self.lock();
        for handshake in handshakes {
            known.handshakes.put(*handshake);
        }
    }

    /// Tells the other node what has changed since the last turn.
    pub(crate) fn tell(&self, copies: &Copies) {
        if !copies.is_acting() {
            return;
        }
        let mut known = self.lock();
        let Known { handshakes, own, changed, .. } = &mut *known;
        let (mut told, mut later) = (0, Vec::new());
        while told < AT_ONCE_MAX && copies.peer.on_the_way() < AT_ONCE_MAX {
            let Some(number) = changed.pop_first() else { break };
            let Some(connection) = own.get_mut(&number) else { continue };
            if connection.handshake.is_none() {
                connection.handshake = handshakes.take(&connection.ends);
            }
            match connection.stranded() {
                Some(stranded) if connection.told != Some(stranded) => {
                    connection.told = Some(stranded);
                    copies::post_connection(&mut &*copies.peer, connection.id, &stranded);
                    told += 1;
                }
                Some(_) => {}
                None => {
                    connection.turns += 1;
                    if connection.turns < TURNS_MAX {
                        later.push(number);
                    }
                }
            }
        }
        changed.extend(later);
    }

    /// On a standby: the active node tells of a connection.
    pub(crate) fn apply(&self, stranded: Stranded) -> Option<Place> {
        copies::apply_connection(&mut self.lock().orphans, stranded)
    }

    /// On a standby: the active node says that a connection has ended.
    pub(crate) fn withdraw(&self, at: ConnectionAt) {
        // One of this node's own has ended long ago.
        if let ConnectionAt::Orphan(number) = at {
            self.lock().orphans.withdraw(number);
        }
    }

    /// On the active node: a connection as it was told.
    pub(crate) fn fetch(&self, at: ConnectionAt, wanted: Wanted) -> Fetched {
        let known = self.lock();
        let stranded = match at {
            ConnectionAt::Own(number) => known.own.get(&number).and_then(|own| own.told.as_ref()),
            ConnectionAt::Orphan(number) => known.orphans.get(number),
        };
        copies::fetch_connection(stranded, wanted)
    }

    /// How many connections of the other node are known.
    pub(crate) fn orphans(&self) -> usize {
        self.lock().orphans.len()
    }

    /// How many of this node's the other one knows.
    pub(crate) fn told(&self) -> usize {
        self.lock().own.values().filter(|own| own.told.is_some()).count()
    }

    fn begin(&self, own: Own) {
        let mut known = self.lock();
        known.orphans.replaced(&own.ends);
        let number = own.id.number;
        known.changed.insert(number);
        known.own.insert(number, own);
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Own) -> bool) {
        let mut known = self.lock();
        if known.own.get_mut(&number).is_some_and(change) {
            known.changed.insert(number);
        }
    }

    /// Ends an entry; gives what the other node knows of it.
    fn end(&self, number: u64) -> Option<Ends> {
        let mut known = self.lock();
        known.changed.remove(&number);
        let own = known.own.remove(&number)?;
        own.told.map(|told| told.ends)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    /// What is to be told of it; `None` while its handshake was not seen.
    fn stranded(&self) -> Option<Stranded> {
        let Handshake { ours, theirs, clock, .. } = self.handshake?;
        let carried = option::carried(self.socket).ok()?;
        // The kernel counts the SYN among what was acknowledged where it has sent it first.
        let first = match self.began {
            Began::Accepted => 1,
            Began::Opened => 0,
        };
        Some(Stranded {
            ends: self.ends,
            ours: ours.wrapping_add(first).wrapping_add(carried.acknowledged as u32),
            theirs: theirs.wrapping_add(1).wrapping_add(carried.received as u32),
            clock,
            has_call: !self.calls.is_empty(),
        })
    }
}

impl Handshakes {
    fn put(&mut self, handshake: Handshake) {
        if self.by_ends.insert(handshake.ends, handshake).is_none() {
            self.order.push_back(handshake.ends);
        }
        while self.order.len() > HANDSHAKES_MAX {
            let oldest = self.order.pop_front();
            oldest.map(|ends| self.by_ends.remove(&ends));
        }
    }

    fn take(&mut self, ends: &Ends) -> Option<Handshake> {
        self.by_ends.remove(ends)
    }
}

/// Follows one connection while it lasts.
pub(super) struct Followed {
    edge: Arc<Edge>,
    number: u64,
    /// Bytes since it was told last.
    carried: AtomicUsize,
}

impl Followed {
    /// Follows a connection of a virtual address, if there is a node to be told. It is to be dropped before the stream.
    pub(super) fn begin(link: &Link, stream: &TcpStream, began: Began) -> Option<Self> {
        link.edge.copies.get().filter(|_| link.ownership == Ownership::Virtual)?;
        let ends = Ends {
            local: LocalAddr(stream.local_addr().ok()?),
            remote: RemoteAddr(stream.peer_addr().ok()?),
        };
        let own = Own {
            id: link.id,
            ends,
            began,
            socket: stream.as_raw_fd(),
            handshake: None,
            told: None,
            calls: BTreeSet::new(),
            turns: 0,
        };
        link.edge.streams.stranding.begin(own);
        Some(Self { edge: Arc::clone(&link.edge), number: link.id.number, carried: AtomicUsize::new(0) })
    }

    /// It has carried so many bytes more, in either direction.
    pub(super) fn carried(&self, bytes: usize) {
        let before = self.carried.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes >= TOLD_EVERY_BYTES {
            self.carried.store(0, Ordering::Relaxed);
            self.edge.streams.stranding.change(self.number, |_| true);
        }
    }

    /// It has carried this message.
    pub(super) fn carried_message(&self, message: &[u8]) {
        let Some(deed) = deed_of(message) else { return };
        let Some(call_id) = sip::find_call_id(message) else { return };
        let mut hasher = DefaultHasher::new();
        call_id.hash(&mut hasher);
        let call = hasher.finish();
        self.edge.streams.stranding.change(self.number, |own| {
            let had_call = !own.calls.is_empty();
            match deed {
                Deed::Begins if own.calls.len() < CALLS_MAX => drop(own.calls.insert(call)),
                Deed::Begins => {}
                Deed::Ends => drop(own.calls.remove(&call)),
            }
            had_call == own.calls.is_empty()
        });
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let Some(known) = self.edge.streams.stranding.end(self.number) else { return };
        let Some(copies) = self.edge.copies.get() else { return };
        // Of a connection that goes because the lease does, the other node is to know: its peer may not have heard of it.
        if copies.is_acting() && self.edge.mandate.may_receive(Ownership::Virtual, clocks::instant()) {
            copies::forget_connection(&mut &*copies.peer, &known);
        }
    }
}

/// What a message does to the calls of its connection, as far as can be seen without reading it. It says who is told
/// first, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Begins,
    Ends,
}

fn deed_of(message: &[u8]) -> Option<Deed> {
    if message.starts_with(b"INVITE ") {
        return Some(Deed::Begins);
    }
    if message.starts_with(b"BYE ") {
        return Some(Deed::Ends);
    }
    let is_failure = message.starts_with(b"SIP/2.0 ") && message.get(8).is_some_and(|class| *class >= b'3');
    let head = &message[..message.len().min(4_096)];
    let is_of_invite = || head.windows(9).any(|window| window == b" INVITE\r\n");
    (is_failure && is_of_invite()).then_some(Deed::Ends)
}

/// Ends the connections of the node that was active before, whenever this one becomes active. Runs for ever.
pub(crate) async fn tickle(edge: Arc<Edge>, tickler: Arc<dyn Tickler>) {
    let Some(copies) = edge.copies.get() else { return };
    loop {
        copies.became_active.notified().await;
        edge.streams.stranding.lock().orphans.become_active(clocks::instant());
        let mut outputs = Vec::new();
        let mut waiting: VecDeque<Tickle> = VecDeque::new();
        loop {
            if !copies.is_acting() {
                edge.streams.stranding.lock().orphans.stand_by();
                break;
            }
            let next = {
                let mut known = edge.streams.stranding.lock();
                // What found no room goes first.
                if waiting.is_empty() {
                    known.orphans.handle_timeout(clocks::now(), &mut outputs);
                }
                known.orphans.poll_timeout()
            };
            for output in outputs.drain(..) {
                match output {
                    OrphanOutput::Tickle(tickle) => waiting.push_back(tickle),
                    OrphanOutput::Forgotten(ends) => {
                        copies::forget_connection(&mut &*copies.peer, &ends);
                    }
                }
            }
            let sent = tickler.send(waiting.make_contiguous());
            edge.tallies.add_many(Tally::Tickled, sent);
            waiting.drain(..sent.min(waiting.len()));
            let Some(next) = next else { break };
            let pause = if waiting.is_empty() { next.since(clocks::instant()) } else { RETRY };
            tokio::time::sleep(pause.min(LOOK_EVERY)).await;
        }
    }
}

/// When what found no room is tried again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(5);
/// How soon it is seen that the lease is gone.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_begins_by_an_invite_and_ends_by_a_bye_or_a_failure_of_it() {
        let of = |text: &str| deed_of(text.as_bytes());

        assert_eq!(of("INVITE sip:a@b SIP/2.0\r\n"), Some(Deed::Begins));
        assert_eq!(of("BYE sip:a@b SIP/2.0\r\n"), Some(Deed::Ends));
        assert_eq!(of("SIP/2.0 486 Busy\r\nCSeq: 1 INVITE\r\n\r\n"), Some(Deed::Ends));
        assert_eq!(of("SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n"), None);
        assert_eq!(of("SIP/2.0 401 No\r\nCSeq: 1 REGISTER\r\n\r\n"), None);
        assert_eq!(of("REGISTER sip:b SIP/2.0\r\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn handshakes_are_taken_once_and_the_oldest_make_room() {
        let mut handshakes = Handshakes::default();
        for port in 0..=HANDSHAKES_MAX {
            handshakes.put(handshake(port as u32));
        }

        assert_eq!(handshakes.take(&handshake(0).ends), None, "the oldest");
        assert_eq!(handshakes.take(&handshake(1).ends), Some(handshake(1)));
        assert_eq!(handshakes.take(&handshake(1).ends), None);
        for port in 0..1_000 {
            handshakes.put(handshake(port));
        }
        assert!(handshakes.order.len() <= HANDSHAKES_MAX && handshakes.by_ends.len() <= HANDSHAKES_MAX);
    }

    fn handshake(number: u32) -> Handshake {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number >> 8));
        let remote = std::net::SocketAddr::new(address.into(), 1 + (number & 0xff) as u16);
        let local = LocalAddr("192.0.2.10:5060".parse().expect("an address"));
        Handshake { ends: Ends { local, remote: RemoteAddr(remote) }, ours: number, theirs: 1, clock: None }
    }
}

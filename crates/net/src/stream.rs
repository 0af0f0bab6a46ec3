//! The stream side of the edge: TCP listeners, and connections that were accepted or opened.
//!
//! [`Connections`] decides: how many there may be, which one is used again, which one is too slow or idle. Here
//! are the sockets to it: one task accepts for each listener, one task serves each connection, and a queue
//! for each connection takes what is to be written.

mod connection;
mod queue;
mod stranding;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clock::{Instant, Now};
use lease::Epoch;
use routing::bans::{Judgement, SourceNetwork};
use socket2::{SockFilter, SockRef};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tracing::{debug, warn};
use transport::{
    ConnectionCounters, ConnectionId, ConnectionLimits, ConnectionOutput, Connections, Destination, Flow,
    ListenerId, LocalAddr, Progress, RemoteAddr,
};

use self::connection::Link;
use self::queue::{SendQueue, Unqueued};
pub use self::stranding::Tickler;
pub(crate) use self::stranding::tickle;
use self::stranding::{Began, Stranding};
use crate::carrier::{Outgoing, Sender};
use crate::clocks;
use crate::edge::Edge;
use crate::mandate::Ownership;
use crate::tally::Tally;

/// After an error of the accept call, mostly too many open files: trying at once would only burn the processor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long the end waits for peers to take what waits for them.
const FINISH_TIME_MAX: Duration = Duration::from_millis(500);
const FINISH_LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long the ends of connections may take when the node hands over: nobody is served meanwhile.
const HAND_OVER_TIME_MAX: Duration = Duration::from_millis(10);
const HAND_OVER_LOOK_EVERY: Duration = Duration::from_micros(200);

/// A program of the packet filter by which a socket hears nothing.
const NOTHING: SockFilter = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);

pub(crate) struct Streams {
    table: Mutex<Table>,
    /// Whether the listeners of virtual addresses are deaf.
    is_deaf: AtomicBool,
    /// What two nodes know of each other's connections.
    pub(crate) stranding: Stranding,
}

struct Table {
    connections: Connections,
    queues: BTreeMap<ConnectionId, Arc<SendQueue>>,
    listeners: BTreeMap<ListenerId, Listening>,
    /// Connections that a binding depends on, as the partitions said last.
    bound: BTreeSet<ConnectionId>,
    /// Whether there may be connections of virtual addresses that were not cut.
    has_virtual: bool,
    /// The epoch that ends, while no connection is accepted by virtual addresses any more.
    deaf_in: Option<Epoch>,
}

struct Listening {
    local: LocalAddr,
    ownership: Ownership,
    listener: Arc<TcpListener>,
    accepting: AbortHandle,
}

/// By what a message goes.
enum Way {
    There(Arc<SendQueue>),
    /// A connection that is yet to be opened.
    ToOpen(Arc<SendQueue>, ConnectionId, RemoteAddr, LocalAddr),
}

impl Streams {
    pub(crate) fn new(node: u8, boot: u32, limits: ConnectionLimits) -> Self {
        let table = Table {
            connections: Connections::new(node, boot, limits),
            queues: BTreeMap::new(),
            listeners: BTreeMap::new(),
            bound: BTreeSet::new(),
            has_virtual: false,
            deaf_in: None,
        };
        let stranding = Stranding::new(limits.connections_max);
        Self { table: Mutex::new(table), is_deaf: AtomicBool::new(false), stranding }
    }

    /// Accepts on one more listener. Called within the runtime.
    pub(crate) fn listen(&self, edge: &Arc<Edge>, id: ListenerId, local: LocalAddr, listener: TcpListener) {
        let ownership = edge.mandate.ownership(local.0.ip());
        let listener = Arc::new(listener);
        let accepting = accept(Arc::clone(edge), id, ownership, Arc::clone(&listener));
        let accepting = edge.runtime.spawn(accepting).abort_handle();
        self.lock().listeners.insert(id, Listening { local, ownership, listener, accepting });
    }

    /// Whether this listener is served.
    pub(crate) fn is_listening(&self, id: ListenerId) -> bool {
        self.lock().listeners.contains_key(&id)
    }

    /// Ends the listeners that are not wanted, with their connections.
    pub(crate) fn keep_listeners(&self, wanted: impl Fn(ListenerId) -> bool) {
        let mut table = self.lock();
        for (_, gone) in table.listeners.extract_if(.., |id, _| !wanted(*id)) {
            gone.accepting.abort();
        }
        for (id, queue) in &table.queues {
            if !wanted(id.listener) {
                queue.close();
            }
        }
    }

    pub(crate) fn reload(&self, limits: ConnectionLimits) {
        self.lock().connections.reload(limits);
        self.stranding.reload(limits.connections_max);
    }

    /// Queues a message for a connection, which is opened if there is none. Returns who wants to know that it can not
    /// be sent; what fails later is reported then.
    pub(crate) fn send(&self, edge: &Edge, now: Now, outgoing: Outgoing) -> Option<Sender> {
        let Outgoing { to, message, of } = outgoing;
        let way = match self.way(now, to) {
            Ok(way) => way,
            Err(tally) => {
                edge.tallies.add(tally);
                return of;
            }
        };
        let queue = match &way {
            Way::There(queue) | Way::ToOpen(queue, ..) => queue,
        };
        let queued = queue.push(message, of);
        if let Way::ToOpen(queue, id, remote, local) = way {
            match edge.shared() {
                Some(edge) => {
                    let runtime = edge.runtime.clone();
                    let ownership = edge.mandate.ownership(local.0.ip());
                    runtime.spawn(connection::open(Link::new(edge, id, remote, ownership, queue), local));
                }
                None => return of,
            }
        }
        match queued {
            Ok(()) => None,
            Err(Unqueued::Full) => {
                edge.tallies.add(Tally::StreamFull);
                of
            }
            Err(Unqueued::Closed) => {
                edge.tallies.add(Tally::ConnectionGone);
                of
            }
        }
    }

    fn way(&self, now: Now, to: Destination) -> Result<Way, Tally> {
        let mut table = self.lock();
        match to {
            Destination::Flow(Flow::Connection { id, .. }) => {
                table.queues.get(&id).cloned().map(Way::There).ok_or(Tally::ConnectionGone)
            }
            Destination::Flow(Flow::Datagram { .. }) => Err(Tally::ListenerGone),
            Destination::Connect { listener, remote } => {
                let there = table.connections.reuse(listener, remote);
                if let Some(queue) = there.and_then(|id| table.queues.get(&id)) {
                    return Ok(Way::There(Arc::clone(queue)));
                }
                let local = table.listeners.get(&listener).ok_or(Tally::ListenerGone)?.local;
                let id = table
                    .connections
                    .opened(now.instant, listener, remote)
                    .map_err(|_refused| Tally::ConnectionFailed)?;
                let queue = table.add(id);
                Ok(Way::ToOpen(queue, id, remote, local))
            }
        }
    }

    fn accepted(
        &self,
        now: Instant,
        listener: ListenerId,
        remote: RemoteAddr,
    ) -> Option<(ConnectionId, Arc<SendQueue>)> {
        let mut table = self.lock();
        match table.connections.accepted(now, listener, remote) {
            Ok(id) => {
                let queue = table.add(id);
                Some((id, queue))
            }
            Err(refused) => {
                debug!(%remote, ?refused, "connection refused");
                None
            }
        }
    }

    fn established(&self, now: Instant, id: ConnectionId) {
        self.lock().connections.established(now, id);
    }

    fn received(&self, now: Instant, id: ConnectionId, progress: Progress) {
        self.lock().connections.received(now, id, progress);
    }

    fn sent(&self, now: Instant, id: ConnectionId) {
        self.lock().connections.sent(now, id);
    }

    /// Closes all connections with a source.
    pub(crate) fn close_from(&self, source: SourceNetwork) {
        let table = self.lock();
        for (id, queue) in &table.queues {
            let remote = table.connections.remote(*id);
            if remote.is_some_and(|remote| SourceNetwork::of(remote.0.ip()) == source) {
                queue.close();
            }
        }
    }

    /// Cuts all connections of virtual addresses: the active node has them, and what their peers sent last is not known
    /// there. Returns how many messages will not leave.
    pub(crate) fn stand_by(&self) -> usize {
        let mut table = self.lock();
        match std::mem::take(&mut table.has_virtual) {
            true => table.of_virtual_addresses().map(|(_, queue)| queue.cut()).sum(),
            false => 0,
        }
    }

    /// Whether all that was to leave by virtual addresses is written.
    pub(crate) fn is_drained(&self) -> bool {
        self.lock().of_virtual_addresses().all(|(_, queue)| queue.is_empty())
    }

    /// Accepts no more connections by virtual addresses in this epoch, and says so to nobody: who connects tries again, and
    /// reaches the node that is active then. One that was accepted now would be forgotten without a word. Whether that could be
    /// done: some kernels let nobody without rights do it.
    pub(crate) fn turn_deaf(&self, epoch: Epoch) -> bool {
        let mut table = self.lock();
        table.deaf_in = Some(epoch);
        self.is_deaf.store(true, Ordering::Relaxed);
        let mut is_done = true;
        for listener in table.virtual_listeners() {
            if let Err(error) = SockRef::from(listener).attach_filter(&[NOTHING]) {
                warn!(%error, "listeners hear on while this node hands over: who connects in that moment is forgotten");
                is_done = false;
            }
        }
        is_done
    }

    /// This node acts under an epoch: if it is a later one than that for which it turned deaf, connections are accepted again.
    pub(crate) fn hear_in(&self, epoch: Epoch) {
        if !self.is_deaf.load(Ordering::Relaxed) {
            return;
        }
        let mut table = self.lock();
        if table.deaf_in.take_if(|deaf_in| *deaf_in < epoch).is_some() {
            self.is_deaf.store(false, Ordering::Relaxed);
            table.virtual_listeners().for_each(|listener| {
                match SockRef::from(listener).detach_filter() {
                    Ok(()) => {}
                    // None could be attached.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => warn!(%error, "nobody can connect to a listener"),
                }
            });
        }
    }

    /// Ends connections of virtual addresses in order: what waits is written, and then their end. These are as many as there
    /// is time for; the others' peers learn it from the other node.
    pub(crate) fn hand_over(&self) {
        let deadline = clocks::instant() + HAND_OVER_TIME_MAX;
        // Those too that were being accepted.
        let is_left = || {
            let table = self.lock();
            table.of_virtual_addresses().for_each(|(_, queue)| queue.hand_over());
            table.of_virtual_addresses().any(|(_, queue)| queue.is_handing_over())
        };
        while is_left() && clocks::instant() < deadline {
            std::thread::sleep(HAND_OVER_LOOK_EVERY);
        }
    }

    /// A connection's task is over.
    fn ended(&self, link: &Link) {
        {
            let mut table = self.lock();
            table.connections.closed(link.id);
            table.queues.remove(&link.id);
            table.bound.remove(&link.id);
        }
        // Nobody finds the queue any more, so nothing is added behind this.
        for sender in link.queue.abandon() {
            link.edge.report_failed(sender);
        }
        link.edge.report_closed(link.id);
    }

    /// Whether a connection may have to be closed.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.lock().connections.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Closes what is slow or idle.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut closing = Vec::new();
        let mut table = self.lock();
        table.connections.handle_timeout(now, &mut closing);
        for ConnectionOutput::Close(id, reason) in closing {
            debug!(connection = id.number, ?reason, "connection closed");
            if let Some(queue) = table.queues.get(&id) {
                queue.close();
            }
        }
    }

    /// Learns which connections bindings depend on: those may be idle.
    pub(crate) fn keep_bound(&self, now: Instant, bound: BTreeSet<ConnectionId>) {
        let mut table = self.lock();
        let Table { connections, bound: before, .. } = &mut *table;
        for added in bound.difference(before) {
            connections.bound(*added);
        }
        for removed in before.difference(&bound) {
            connections.unbound(now, *removed);
        }
        *before = bound;
    }

    /// Ends everything. What waits to be written still is, if that takes no longer than [`FINISH_TIME_MAX`].
    pub(crate) fn stop(&self) {
        {
            let mut table = self.lock();
            for listening in std::mem::take(&mut table.listeners).into_values() {
                listening.accepting.abort();
            }
            for queue in table.queues.values() {
                queue.finish();
            }
        }
        let deadline = clocks::instant() + FINISH_TIME_MAX;
        while !self.lock().queues.is_empty() && clocks::instant() < deadline {
            std::thread::sleep(FINISH_LOOK_EVERY);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    pub(crate) fn counters(&self) -> ConnectionCounters {
        *self.lock().connections.counters()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn of_virtual_addresses(&self) -> impl Iterator<Item = (&ConnectionId, &Arc<SendQueue>)> {
        let is_virtual = |id: &ConnectionId| {
            self.listeners
                .get(&id.listener)
                .is_some_and(|listening| listening.ownership == Ownership::Virtual)
        };
        self.queues.iter().filter(move |(id, _)| is_virtual(id))
    }

    fn virtual_listeners(&self) -> impl Iterator<Item = &TcpListener> {
        let is_virtual = |listening: &&Listening| listening.ownership == Ownership::Virtual;
        self.listeners.values().filter(is_virtual).map(|listening| &*listening.listener)
    }

    fn add(&mut self, id: ConnectionId) -> Arc<SendQueue> {
        let queue = Arc::new(SendQueue::default());
        let listening = self.listeners.get(&id.listener);
        self.has_virtual |= listening.is_some_and(|listening| listening.ownership == Ownership::Virtual);
        self.queues.insert(id, Arc::clone(&queue));
        queue
    }
}

async fn accept(edge: Arc<Edge>, id: ListenerId, ownership: Ownership, listener: Arc<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                let remote = RemoteAddr(remote);
                let now = clocks::instant();
                if !edge.mandate.may_receive(ownership, now) {
                    edge.tallies.add(Tally::Inactive);
                    connection::cut(&stream);
                    continue;
                }
                if edge.machines.bans.judge_address(now, remote.0.ip()) == Judgement::Banned {
                    edge.tallies.add(Tally::ConnectionBanned);
                    continue;
                }
                let Some((id, queue)) = edge.streams.accepted(now, id, remote) else {
                    continue;
                };
                let link = Link::new(Arc::clone(&edge), id, remote, ownership, queue);
                tokio::spawn(connection::serve(link, stream, Began::Accepted));
            }
            // The peer was gone before its turn came.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            Err(error) => {
                warn!(listener = id.0, %error, "connection not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

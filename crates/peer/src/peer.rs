//! The peer, as the rest of the engine uses it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Instant;
use engine::{ByRole, Outcome, OwnEntry, Owners, PeerCounts, PeerView};
use replica::{
    Capsule, Cause, Epoch, Holdings, Kind, Known, Origin, Place, Posted, Receiver, Sender, SenderOutput,
    Ticket,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::calling;
use crate::identity::Identity;
use crate::listening;
use crate::role::{Active, Aside, Outbox, Role, Standby};
use crate::troubles::Troubles;

/// Where both nodes are, and what this one understands.
#[derive(Clone, Debug)]
pub struct Plan {
    /// This node's place in the configured list.
    pub node: u8,
    /// Its start: random.
    pub incarnation: u64,
    /// Where it listens, one address for each path, and from where it calls by that path.
    pub listen: Vec<SocketAddr>,
    /// Where its peer listens, one address for each path. Nobody else is let in.
    pub peers: Vec<SocketAddr>,
    /// The kinds of capsules that it understands.
    pub known: Vec<Known>,
}

/// What a node begins with: it is a standby.
#[derive(Debug)]
pub struct Start {
    /// The highest epoch that it knows of.
    pub epoch: Epoch,
    /// What it has from its own disk.
    pub own: Vec<OwnEntry>,
}

/// A handle; all clones are one peer. It ends with its runtime.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) identity: Identity,
    pub(crate) owners: Arc<dyn Owners>,
    role: Mutex<Role>,
    /// Held while one frame of the active node is handled and what it wants is carried out, so that no other frame and no
    /// change of the role comes in between. It is taken before [`Self::lock`], and owners work under it.
    turn: Mutex<()>,
    /// Counts the changes of the role: whoever works for an earlier one ends.
    pub(crate) changes: watch::Sender<u64>,
    /// There is something to be written, or to be asked of owners.
    pub(crate) work: Notify,
    /// The sender wants to be called earlier than at `armed`.
    pub(crate) earlier: Notify,
    pub(crate) armed: AtomicU64,
    pub(crate) tallies: Tallies,
    pub(crate) troubles: Troubles,
    pub(crate) connections: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub(crate) called: AtomicU64,
    pub(crate) unreached: AtomicU64,
    pub(crate) not_ours: AtomicU64,
    pub(crate) strangers: AtomicU64,
}

impl Peer {
    /// Listens, as a standby, within a runtime of tokio. An address that can not be listened on is tried again and again,
    /// and shown: the service does not depend on it.
    pub fn start(plan: Plan, identity: Identity, owners: Arc<dyn Owners>, start: Start) -> Self {
        let addresses = plan.listen.clone();
        let peer = Self::start_on(Vec::new(), plan, identity, owners, start);
        for address in addresses {
            tokio::spawn(listening::open_and_run(Arc::clone(&peer.shared), address));
        }
        peer
    }

    /// As [`Peer::start`], on sockets that listen already, and on no others.
    pub fn start_on(
        listeners: Vec<TcpListener>,
        plan: Plan,
        identity: Identity,
        owners: Arc<dyn Owners>,
        start: Start,
    ) -> Self {
        let me = Origin { node: plan.node, incarnation: plan.incarnation };
        let mut holdings = Holdings::new();
        for OwnEntry { kind, key, place } in start.own {
            holdings.restore(&identity.digest, me, kind, &key, place);
        }
        let receiver = Receiver::new(me, identity.digest, &plan.known, start.epoch, holdings);
        let shared = Arc::new(Shared {
            plan,
            identity,
            owners,
            role: Mutex::new(Role::Standby(Box::new(Standby::new(receiver)))),
            turn: Mutex::new(()),
            changes: watch::Sender::new(0),
            work: Notify::new(),
            earlier: Notify::new(),
            armed: AtomicU64::new(u64::MAX),
            tallies: Tallies::default(),
            troubles: Troubles::default(),
            connections: AtomicU64::new(0),
        });
        for listener in listeners {
            tokio::spawn(listening::run(Arc::clone(&shared), listener));
        }
        tokio::spawn(calling::run(Arc::clone(&shared)));
        Self { shared }
    }
}

impl engine::Peer for Peer {
    /// A change that comes when this node is a standby already is one that the active node will undo.
    fn put(&self, capsule: Capsule, place: Place) -> Posted {
        let (kind, key) = (capsule.kind, capsule.key.clone());
        let posted = self.shared.with_sender(|sender, now, out| sender.put(now, capsule, place, out));
        posted.unwrap_or_else(|| self.shared.diverge(kind, &key, Some(place)))
    }

    fn remove(&self, kind: Kind, key: &[u8]) -> Posted {
        let posted = self.shared.with_sender(|sender, now, out| sender.remove(now, kind, key, out));
        posted.unwrap_or_else(|| self.shared.diverge(kind, key, None))
    }

    fn everything(&self) -> Posted {
        self.shared.with_sender(|sender, _, _| sender.everything()).unwrap_or(Posted::nowhere())
    }

    fn wait(&self, waits: &[(Ticket, Posted)]) {
        let is_sender = self.shared.with_sender(|sender, now, out| {
            for &(ticket, posted) in waits {
                sender.wait(now, ticket, posted, out);
            }
        });
        if is_sender.is_none() {
            let alone = |&(ticket, _): &(Ticket, Posted)| (ticket, Outcome::Degraded(Cause::NoPeer));
            self.shared.owners.settled(&waits.iter().map(alone).collect::<Vec<_>>());
        }
    }

    fn become_active(&self, epoch: Epoch) {
        let shared = &self.shared;
        shared.change_role(|holdings| {
            let sender = Sender::new(shared.me(), epoch, shared.identity.digest, holdings);
            Role::Active(Box::new(Active { sender, outbox: Outbox::default(), wanted: Vec::new() }))
        });
    }

    fn raise(&self, epoch: Epoch) {
        let is_open = self.shared.with_sender(|sender, now, out| {
            sender.raise(now, epoch, out);
            sender.is_open()
        });
        if is_open == Some(false) {
            // The peer may have refused the epoch before, and the pause after that be long.
            self.shared.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn become_standby(&self, highest: Epoch) {
        let shared = &self.shared;
        // Whoever waits is told by the sender that ends.
        shared.with_sender(|sender, _, out| sender.disconnected(out));
        shared.change_role(|holdings| {
            let (known, digest) = (&shared.plan.known, shared.identity.digest);
            Role::Standby(Box::new(Standby::new(Receiver::new(
                shared.me(),
                digest,
                known,
                highest,
                holdings,
            ))))
        });
    }

    fn ready(&self) -> u8 {
        match &*self.shared.lock() {
            Role::Active(active) => active.sender.ready(),
            Role::Standby(standby) => standby.receiver.ready(now()),
            Role::Changing => 0,
        }
    }

    fn on_the_way(&self) -> usize {
        match &*self.shared.lock() {
            Role::Active(active) => active.sender.on_the_way(),
            Role::Standby(_) | Role::Changing => 0,
        }
    }

    fn view(&self) -> PeerView {
        let tallies = &self.shared.tallies;
        let count = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let counts = PeerCounts {
            called: count(&tallies.called),
            unreached: count(&tallies.unreached),
            not_ours: count(&tallies.not_ours),
            strangers: count(&tallies.strangers),
        };
        let by_role = match &*self.shared.lock() {
            Role::Active(active) => ByRole::Active(active.sender.view(now())),
            Role::Standby(standby) => ByRole::Standby(standby.receiver.view(now())),
            Role::Changing => unreachable!("the role changes under the lock"),
        };
        PeerView { by_role, counts, troubles: self.shared.troubles.texts() }
    }
}

impl Shared {
    pub(crate) fn me(&self) -> Origin {
        Origin { node: self.plan.node, incarnation: self.plan.incarnation }
    }

    /// Lets `act` use the sender, if this node is active, and does what it wants.
    pub(crate) fn with_sender<R>(
        &self,
        act: impl FnOnce(&mut Sender, Instant, &mut Vec<SenderOutput>) -> R,
    ) -> Option<R> {
        let (mut out, mut aside) = (Vec::new(), Aside::default());
        let (result, due) = {
            let mut role = self.lock();
            let Role::Active(active) = &mut *role else { return None };
            let result = act(&mut active.sender, now(), &mut out);
            if !out.is_empty() {
                active.sort(&mut out, &mut aside);
                self.work.notify_one();
            }
            (result, active.sender.poll_timeout())
        };
        if due.is_some_and(|due| due.as_nanos() < self.armed.load(Ordering::SeqCst)) {
            self.earlier.notify_one();
        }
        if !aside.settled.is_empty() {
            self.owners.settled(&aside.settled);
        }
        if let Some(epoch) = aside.superseded {
            self.owners.superseded(epoch);
        }
        Some(result)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Role> {
        // A machine that panicked may be half changed; its digests show it, and the peer is made equal.
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of who handles a frame.
    pub(crate) fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An owner has changed something that is the active node's to change.
    fn diverge(&self, kind: Kind, key: &[u8], place: Option<Place>) -> Posted {
        match &mut *self.lock() {
            Role::Standby(standby) => standby.receiver.diverged(kind, key, place),
            // It has become active in between: a change that it was not told of differs from what its peer has as well.
            Role::Active(active) => active.sender.diverged(kind, key, place),
            Role::Changing => {}
        }
        Posted::nowhere()
    }

    /// The number of the next connection.
    pub(crate) fn number(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn change_role(&self, make: impl FnOnce(Holdings) -> Role) {
        let _turn = self.take_turn();
        let mut role = self.lock();
        let holdings = std::mem::replace(&mut *role, Role::Changing).into_holdings();
        *role = make(holdings);
        self.changes.send_modify(|changes| *changes += 1);
        self.work.notify_one();
        self.earlier.notify_one();
    }
}

/// The time that also counts while the host is suspended.
pub(crate) fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Counts one.
pub(crate) fn tally(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

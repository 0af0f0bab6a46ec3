//! The other node of a pair, as the machines' keeper sees it: who tells it.
//!
//! Whoever is about to let a shard or partition act under an epoch first lets the peer be active under it ([`Copies::mirror_to_act`]), so
//! that nothing that another node said is applied to one that acts. On the way back the peer stands by as soon as one
//! thread sees that the lease is gone; what one still changes by the proof that it has in hand is marked as
//! different from everything, and the active node undoes it.
//!
//! Lock order: the turn of the peer, a shard or partition, the peer's own lock. No owner changes the peer's role.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use clock::{Instant, Now};
use engine::{CallHolding, Holding, Output, Partition, PartitionOutput, Peer, Records, Shard};
use lease::{ActiveLease, Epoch, LeaseMirror, Tenure};
use replica::{Posted, Ticket};
use routing::Bans;
use tokio::sync::Notify;

use crate::clocks;
use crate::machines::Machines;
use crate::mandate::Mandate;
use crate::seat::Machine;

/// Entries that are fetched, or told, under one lock.
pub(crate) const AT_ONCE_MAX: usize = 64;
/// Changes that nobody waits for are told as long as so few messages are on their way: they must not cost those time for
/// which somebody waits.
const ON_THE_WAY_MAX: usize = 256;

/// How often the lease is looked at again that was another when the peer was to follow: an epoch may be raised between two
/// looks, and is not raised again soon.
const LOOKS_MAX: usize = 3;

/// A partition with the answers that wait for the other node.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) partition: Partition,
    pub(crate) holding: Holding,
    tenure: Tenure,
}

impl Owner {
    pub(crate) fn new(number: u16, partition: Partition) -> Self {
        Self { partition, holding: Holding::new(number), tenure: Tenure::default() }
    }

    /// Sees by which proof it acts: what was held before the node became active is nobody's any more.
    pub(crate) fn enter(&mut self, lease: &ActiveLease<'_>) {
        if self.tenure.enter(lease) != lease::Entry::Same {
            self.holding.stand_by();
        }
    }
}

impl Machine for Owner {
    fn due(&self) -> Option<Instant> {
        self.partition.poll_timeout()
    }

    fn stand_by(&mut self, _now: Now) {
        self.partition.stand_by();
        self.holding.stand_by();
        self.tenure.leave();
    }
}

/// A shard with the messages that wait for the other node.
#[derive(Debug)]
pub(crate) struct ShardOwner {
    pub(crate) shard: Shard,
    pub(crate) holding: CallHolding,
    tenure: Tenure,
}

impl ShardOwner {
    pub(crate) fn new(number: u16, shard: Shard) -> Self {
        Self { shard, holding: CallHolding::new(number), tenure: Tenure::default() }
    }

    /// As [`Owner::enter`].
    pub(crate) fn enter(&mut self, lease: &ActiveLease<'_>) {
        if self.tenure.enter(lease) != lease::Entry::Same {
            self.holding.stand_by();
        }
    }
}

impl Machine for ShardOwner {
    fn due(&self) -> Option<Instant> {
        self.shard.poll_timeout()
    }

    fn stand_by(&mut self, now: Now) {
        self.shard.stand_by(now);
        self.holding.stand_by();
        self.tenure.leave();
    }
}

/// The way to the other node.
pub(crate) struct Copies {
    pub(crate) peer: Arc<dyn Peer>,
    /// Who writes records, and holds those of the other node.
    records: Option<Arc<dyn Records>>,
    /// The epoch under which the peer is active, plus one; 0: it stands by.
    acting: AtomicU64,
    /// Under which epoch the node became active, while the peer is.
    since: Mutex<Option<Epoch>>,
    /// Told when the node has become active.
    pub(crate) became_active: Notify,
}

impl Copies {
    /// A peer that stands by.
    pub(crate) fn new(peer: Arc<dyn Peer>, records: Option<Arc<dyn Records>>) -> Self {
        Self {
            peer,
            records,
            acting: AtomicU64::new(0),
            since: Mutex::new(None),
            became_active: Notify::new(),
        }
    }

    /// What machines may act by, the peer being active under the same epoch. Not to be called with a lock of a machine.
    pub(crate) fn mirror_to_act(&self, mandate: &Mandate, now: Instant) -> LeaseMirror {
        for _ in 0..LOOKS_MAX {
            let mirror = mandate.mirror();
            let Some(epoch) = mirror.active(now).map(|lease| lease.epoch()) else { break };
            if self.follow(mandate, epoch) {
                return mirror;
            }
        }
        LeaseMirror::none()
    }

    /// Whether the peer is active under this epoch, which it becomes if the lease still says so.
    fn follow(&self, mandate: &Mandate, epoch: Epoch) -> bool {
        let mark = mark_of(epoch);
        if self.acting.load(Ordering::Acquire) != mark {
            self.look(mandate);
        }
        self.acting.load(Ordering::Acquire) == mark
    }

    /// Lets the peer stand by if the lease is gone. As [`Self::mirror_to_act`].
    pub(crate) fn stand_by(&self, mandate: &Mandate) {
        if self.acting.load(Ordering::Acquire) != 0 {
            self.look(mandate);
        }
    }

    /// Makes the peer what the lease says at this moment: who waited for the lock may have been told long ago.
    fn look(&self, mandate: &Mandate) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.acting.load(Ordering::Acquire);
        match mandate.epochs(clocks::instant()) {
            Some(epochs) if before != mark_of(epochs.now) => {
                let was_active = *since == Some(epochs.since);
                match was_active {
                    true => self.peer.raise(epochs.now),
                    false => self.become_active(epochs.now),
                }
                *since = Some(epochs.since);
                self.acting.store(mark_of(epochs.now), Ordering::Release);
                if !was_active {
                    self.became_active.notify_one();
                }
            }
            None if before != 0 => {
                *since = None;
                self.acting.store(0, Ordering::Release);
                self.peer.become_standby(Epoch(before - 1));
                if let Some(records) = &self.records {
                    records.stood_by();
                }
            }
            Some(_) | None => {}
        }
    }

    fn become_active(&self, epoch: Epoch) {
        self.peer.become_active(epoch);
        if let Some(records) = &self.records {
            records.became_active();
        }
    }

    pub(crate) fn is_acting(&self) -> bool {
        self.acting.load(Ordering::Acquire) != 0
    }

    /// Tells what has changed of nonces and bans since it was told last, if there is room for it.
    pub(crate) fn tell_of_the_rest(&self, machines: &Machines) {
        if !self.is_acting() {
            return;
        }
        let mut peer = &*self.peer;
        for (seat, number) in machines.partitions.iter().zip(0..) {
            let mut told = AT_ONCE_MAX;
            while told == AT_ONCE_MAX && peer.on_the_way() < ON_THE_WAY_MAX {
                told = seat.with(clocks::now(), |owner, now| {
                    engine::copies::post_nonces(now, &mut owner.partition, number, &mut peer, AT_ONCE_MAX)
                });
            }
        }
        while machines.bans.read(Bans::has_changes) && peer.on_the_way() < ON_THE_WAY_MAX {
            let now = clocks::instant();
            machines.bans.with(|bans| engine::copies::post_bans(now, bans, &mut peer, AT_ONCE_MAX));
        }
    }

    /// Tells what a partition has changed, under its lock. The answers that wait for it are taken out of `out`.
    pub(crate) fn post(
        &self,
        now: Now,
        owner: &mut Owner,
        out: &mut Vec<PartitionOutput>,
        waits: &mut Vec<(Ticket, Posted)>,
    ) {
        let mut peer = &*self.peer;
        engine::copies::post(now, &owner.partition, &mut owner.holding, &mut peer, out, waits);
    }

    /// The same for the calls of a shard, and the messages that wait for them.
    pub(crate) fn post_calls(
        &self,
        now: Now,
        owner: &mut ShardOwner,
        out: &mut Vec<Output>,
        waits: &mut Vec<(Ticket, Posted)>,
    ) {
        let mut peer = &*self.peer;
        engine::copies::post_calls(now, &mut owner.shard, &mut owner.holding, &mut peer, out, waits);
    }
}

fn mark_of(epoch: Epoch) -> u64 {
    epoch.0.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use engine::{Asker, Passage, PeerView};
    use keys::RootKey;
    use replica::{Capsule, Kind, Place};
    use routing::{Answer, Keyring, Registered, Token};

    use super::*;
    use crate::mandate::Lease;
    use crate::test_settings::settings;

    #[test]
    fn what_is_held_is_nobodys_when_the_node_becomes_active_anew() {
        let settings = Arc::new(settings(&["udp:192.0.2.1:5060"]));
        let mut owner = Owner::new(0, Partition::new(settings, Keyring::derive(&RootKey::new([1; 32])), 0));
        let asker = Asker { shard: 0, token: Token(1) };
        let answer = Answer::Registered(Ok(Registered { contacts: Vec::new(), is_outbound: false }));
        let far = |epoch| LeaseMirror::until(Instant::FAR, Epoch(epoch));
        let enter = |owner: &mut Owner, mirror: LeaseMirror| {
            owner.enter(&mirror.active(Instant::START).expect("it is far from its end"));
        };
        enter(&mut owner, far(3));
        let passage = owner.holding.handle_answer(asker, answer, Posted::nowhere);
        assert!(matches!(passage, Passage::Waits(..)), "{passage:?}");

        enter(&mut owner, far(3));
        enter(&mut owner, far(5).held_since(Epoch(3)));
        assert_eq!(owner.holding.len(), 1);

        enter(&mut owner, far(5));
        assert!(owner.holding.is_empty());
    }

    #[test]
    fn a_node_whose_epoch_is_raised_between_two_looks_acts_by_the_higher_one() {
        let far = |epoch| LeaseMirror::until(Instant::FAR, Epoch(epoch)).held_since(Epoch(3));
        let lease = Raised(Mutex::new(VecDeque::from([far(3), far(5)])));
        let mandate = Mandate::new(Arc::new(lease), Default::default());
        let copies = Copies::new(Arc::new(Elsewhere), None);

        assert_eq!(copies.mirror_to_act(&mandate, clocks::instant()), far(5));
    }

    /// What the lease says at each look; the last is said for ever.
    struct Raised(Mutex<VecDeque<LeaseMirror>>);

    impl Lease for Raised {
        fn mirror(&self) -> LeaseMirror {
            let mut looks = self.0.lock().expect("no test panics inside");
            if looks.len() > 1 { looks.pop_front() } else { looks.front().copied() }
                .expect("the last is never taken")
        }

        fn beat_every(&self) -> Option<Duration> {
            None
        }

        fn beat(&self, _lane: usize, _now: Instant) {}

        fn answered(&self, _epoch: Epoch, _at: Instant) {}
    }

    /// Another node that hears nothing.
    struct Elsewhere;

    impl Peer for Elsewhere {
        fn put(&self, _capsule: Capsule, _place: Place) -> Posted {
            Posted::nowhere()
        }

        fn remove(&self, _kind: Kind, _key: &[u8]) -> Posted {
            Posted::nowhere()
        }

        fn everything(&self) -> Posted {
            Posted::nowhere()
        }

        fn wait(&self, _waits: &[(Ticket, Posted)]) {}

        fn become_active(&self, _epoch: Epoch) {}

        fn raise(&self, _epoch: Epoch) {}

        fn become_standby(&self, _highest: Epoch) {}

        fn ready(&self) -> u8 {
            100
        }

        fn on_the_way(&self) -> usize {
            0
        }

        fn view(&self) -> PeerView {
            unreachable!("nobody looks at it")
        }
    }
}

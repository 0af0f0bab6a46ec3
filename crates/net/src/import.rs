//! Taking over bindings that another registrar had, while the server serves, and waiting until the other node has them.

use std::time::{Duration, Instant};

use engine::{PartitionOutput, StoreState};
use routing::StoredBinding;
use routing::account::Imported;
use transport::RemoteAddr;

use crate::clocks;
use crate::edge::Edge;

/// How many messages may be on their way to the other node before more is taken over: they must not cost those time for whom a
/// 200 waits.
const ON_THE_WAY_MAX: usize = 256;
/// How often it is looked whether the other node has everything.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why nothing is taken over: this node stands by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandsBy;

/// Who has what was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// This node, which has no peer, on its disk.
    ThisNode,
    /// This node, which has no peer, in its memory alone: its disk is slow, or can not be written.
    NotYetTheDisk,
    /// Both nodes.
    BothNodes,
    /// The other node is away or has not caught up: it is given everything when it is back.
    NotYetTheOther,
}

/// Takes one over.
pub(crate) fn import(edge: &Edge, stored: StoredBinding) -> Result<Imported, StandsBy> {
    let now = clocks::now();
    let mirror = edge.mirror_to_act(now.instant);
    let lease = mirror.active(now.instant).ok_or(StandsBy)?;
    let (transport, received) = (stored.listener.0, RemoteAddr(stored.received));
    let number = edge.machines.partition_of(&stored.aor);
    let seat = &edge.machines.partitions[usize::from(number)];
    let imported = seat.act(now, |owner, now| {
        owner.enter(&lease);
        let (mut out, mut waits) = (Vec::new(), Vec::new());
        let imported = owner.partition.import(now, &lease, stored, &mut out);
        if let Some(copies) = edge.copies.get() {
            copies.post(now, owner, &mut out, &mut waits);
        }
        // Under the partition's lock, so that the order of changes stays.
        for output in out {
            if let PartitionOutput::Save(change) = output {
                edge.store.save(change);
            }
        }
        imported
    });
    edge.remind_owner(number, seat.due());
    if imported == Imported::Taken {
        edge.machines.bans.with(|bans| bans.handle_binding(now.instant, transport, received));
    }
    Ok(imported)
}

/// Waits until little is on its way to the other node, for so long at most.
pub(crate) fn wait_for_room(edge: &Edge, time: Duration) {
    let until = Instant::now() + time;
    let is_busy = || edge.copies.get().is_some_and(|copies| copies.peer.on_the_way() >= ON_THE_WAY_MAX);
    while is_busy() && Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until the other node has everything, or without one this node's own disk, for so long at most.
pub(crate) fn wait_for_other_node(edge: &Edge, time: Duration) -> HeldBy {
    let until = Instant::now() + time;
    let Some(copies) = edge.copies.get() else {
        return wait_for_disk(|| edge.store.state(), until);
    };
    loop {
        let peer = &copies.peer;
        if peer.ready() == 100 && peer.on_the_way() == 0 {
            return HeldBy::BothNodes;
        }
        if Instant::now() >= until {
            return HeldBy::NotYetTheOther;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Waits until nothing is owed to the disk.
fn wait_for_disk(state: impl Fn() -> StoreState, until: Instant) -> HeldBy {
    loop {
        if state().owed == 0 {
            return HeldBy::ThisNode;
        }
        if Instant::now() >= until {
            return HeldBy::NotYetTheDisk;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_still_owes_at_the_end_of_the_time_does_not_have_it() {
        let state = |owed| StoreState { failing: None, owed, dropped: 0, copy: None };

        assert_eq!(wait_for_disk(|| state(1), Instant::now()), HeldBy::NotYetTheDisk);
        assert_eq!(wait_for_disk(|| state(0), Instant::now()), HeldBy::ThisNode);
    }
}

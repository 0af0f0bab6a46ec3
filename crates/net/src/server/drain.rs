//! The end of an epoch in a planned hand-over: everything that came is answered or told to the other node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clock::Instant;
use tracing::{error, warn};

use crate::alarm::{Event, Turned};
use crate::clocks;
use crate::copies::ShardOwner;

use super::Server;

/// How long a drain waits for others, once nothing more is begun: the other node, the store, the DNS, whoever reads by a
/// stream. One that does not move must not hold up the hand-over.
pub const DRAIN_TIME_MAX: Duration = Duration::from_millis(100);
/// How long a drain waits for threads of its own, which want nothing but a busy host's processor. The lease is renewed
/// meanwhile, and what comes waits at the other node.
pub const DRAIN_TURNS_MAX: Duration = Duration::from_millis(500);
/// How often a drain looks into the sockets again in which something was. Where the gate passes nothing on there is always
/// something.
const DRAIN_EMPTYINGS_MAX: usize = 8;
/// How long a datagram that has passed the gate may take to its socket: the kernel carries it there in one go.
const STRAGGLER_TIME_MAX: Duration = Duration::from_millis(1);
/// How often a drain that waits looks whether it is done.
const DRAIN_LOOK_EVERY: Duration = Duration::from_micros(200);

impl Server {
    /// Ends the present epoch here: takes what waits in the sockets, begins nothing more, finishes what is in hand, and waits
    /// until the other node has all that it was told: [`DRAIN_TIME_MAX`] for others, and [`DRAIN_TURNS_MAX`] for its own
    /// threads. When this returns nothing more is sent from a virtual address before a higher epoch, whatever the lease says.
    /// What the store owes is written behind it.
    pub fn drain(&self) {
        let turns_until = clocks::instant() + DRAIN_TURNS_MAX;
        let is_deaf = self.epoch().is_none_or(|epoch| self.edge.streams.turn_deaf(epoch));
        self.empty_sockets(turns_until);
        let epoch = self.edge.mandate.drain();
        // Before the loops: where packets come from that it sees now is told to the other node by them.
        self.edge.relay.let_workers_turn(turns_until);
        self.finish(turns_until);
        // Whoever is told connects again at once: not to this node. Else all learn it from the other one.
        if is_deaf {
            self.edge.streams.hand_over();
        }
        self.edge.mandate.close(epoch);
        self.look_at_lease();
        self.flush_later();
    }

    /// Has what waits in the sockets taken, until nothing comes any more: what still comes is dropped once nothing is begun.
    fn empty_sockets(&self, deadline: Instant) {
        self.let_loops_turn(deadline);
        for _ in 0..DRAIN_EMPTYINGS_MAX {
            std::thread::sleep(STRAGGLER_TIME_MAX);
            if self.let_loops_turn(deadline) == Turned::Empty {
                break;
            }
        }
    }

    /// Waits until nothing is under way that was begun.
    fn finish(&self, turns_until: Instant) {
        self.let_loops_turn(turns_until);
        let others_until = clocks::instant() + DRAIN_TIME_MAX;
        loop {
            while self.is_busy() && clocks::instant() < others_until {
                std::thread::sleep(DRAIN_LOOK_EVERY);
            }
            // What a loop has just taken out of what was held is in no table, and has left when the loop has turned.
            self.let_loops_turn(turns_until);
            if !self.is_busy() || clocks::instant() >= others_until {
                return;
            }
        }
    }

    /// Waits until each loop has emptied its sockets and done what it had in hand. Says whether one has received something
    /// since it turned last.
    fn let_loops_turn(&self, deadline: Instant) -> Turned {
        let (done, is_done) = mpsc::sync_channel(self.edge.alarms.len());
        for alarm in self.edge.alarms.iter() {
            alarm.deliver(Event::Drain(done.clone()));
        }
        let mut all = Turned::Empty;
        for _ in self.edge.alarms.iter() {
            match is_done.recv_timeout(deadline.since(clocks::instant())) {
                Ok(Turned::Empty) => {}
                Ok(Turned::Received) => all = Turned::Received,
                Err(_) => {
                    warn!("an event loop did not finish what it had in hand before the hand-over");
                    break;
                }
            }
        }
        all
    }

    /// Whether something is in hand, held or on its way: batches, requests that wait for the store or the DNS, messages of
    /// calls, answers, messages for streams, copies.
    fn is_busy(&self) -> bool {
        let (shards, partitions) = (&self.edge.machines.shards, &self.edge.machines.partitions);
        let is_under_way = |owner: &ShardOwner| !owner.holding.is_empty() || owner.shard.has_suspended();
        self.edge.in_hand.load(Ordering::SeqCst) > 0
            || shards.iter().any(|seat| seat.read(is_under_way))
            || partitions.iter().any(|seat| seat.read(|owner| !owner.holding.is_empty()))
            || self.edge.copies.get().is_some_and(|copies| copies.peer.on_the_way() > 0)
            || !self.edge.streams.is_drained()
    }

    /// Writes down what the store owes. Nobody waits for the disk: the other node has it all, and this process goes on.
    fn flush_later(&self) {
        let store = Arc::clone(&self.edge.store);
        let flush = move || {
            if let Err(error) = store.flush() {
                error!(%error, "not everything could be written at the hand-over");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("net-drain".to_owned()).spawn(flush) {
            warn!(%error, "what the store owes is written later");
        }
    }
}

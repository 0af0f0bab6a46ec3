//! All that the threads of the edge share.
//!
//! Event loops and tokio's tasks both feed the machines; what comes back late (the store's answers, the
//! resolver's, failed sends) is left in the inbox of the event loop that owns the machine it is for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use clock::{Instant, Now};
use engine::{Loaded, Output, Prober, Records as CallRecords, Store, take_records};
use lease::{Epoch, LeaseMirror};
use routing::bans::{Ban, Deed, Judgement, Measure};
use routing::gateway::{Service, UnknownGateway};
use routing::overload::Verdict;
use routing::{Answer, Bans, Report, Token};
use sip::Aor;
use tokio::runtime::Handle;
use tracing::info;
use transport::selection::{Query, Records};
use transport::{ConnectionId, Flow, Source};

use crate::alarm::{Alarm, Event};
use crate::carrier::{Carrier, Outgoing, Sender};
use crate::clocks;
use crate::copies::Copies;
use crate::latency::Latencies;
use crate::machines::{Machines, PROBER_LOOP};
use crate::mandate::{Mandate, Ownership};
use crate::overload::Overloads;
use crate::relay::Relay;
use crate::resolver::{Lookup, Resolver, Waiter};
use crate::rtpengine::Rtpengines;
use crate::stream::Streams;
use crate::tally::{Tallies, Tally};
use crate::udp::UdpListeners;

/// Carriers that are kept for tokio's threads. More threads than that make theirs anew.
const CARRIERS_MAX: usize = 64;
/// How long the end waits for carriers to take back our registrations: long enough for a challenge and one
/// retransmission.
const TAKE_BACK_TIME_MAX: Duration = Duration::from_secs(2);
const TAKE_BACK_LOOK_EVERY: Duration = Duration::from_millis(5);
/// The socket that tokio's threads send datagrams by.
const TOKIO_LANE: usize = 0;

pub(crate) struct Edge {
    pub(crate) machines: Machines,
    pub(crate) overloads: Overloads,
    pub(crate) mandate: Arc<Mandate>,
    pub(crate) relay: Relay,
    pub(crate) rtpengines: Arc<Rtpengines>,
    pub(crate) alarms: Arc<[Arc<Alarm>]>,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) latencies: Latencies,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) records: Option<Arc<dyn CallRecords>>,
    /// The other node, if this one has a peer; set once, before anything is served.
    pub(crate) copies: OnceLock<Copies>,
    pub(crate) udp: ArcSwap<UdpListeners>,
    pub(crate) streams: Streams,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) runtime: Handle,
    pub(crate) carriers: Mutex<Vec<Carrier>>,
    /// Batches that tokio's threads have in hand.
    pub(crate) in_hand: AtomicUsize,
    pub(crate) me: Weak<Edge>,
}

impl Edge {
    /// Itself, for a task that outlives the call; `None` at the very end.
    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Gives the records among what a shard wants to who writes them.
    pub(crate) fn write_records(&self, epoch: Epoch, out: &mut Vec<Output>) {
        let Some(records) = &self.records else { return };
        take_records(out).for_each(|news| records.write(epoch, news));
    }

    /// Gives the messages of a stream to their shards, in their order, and carries what follows from them; unless
    /// their source is held.
    pub(crate) fn take_messages(
        &self,
        source: Source,
        ownership: Ownership,
        messages: &[bytes::Bytes],
    ) -> Judgement {
        let now = clocks::now();
        let judgement = self.machines.bans.judge(now.instant, &source.flow);
        match judgement {
            Judgement::Pass => {}
            Judgement::Slow => {
                self.tallies.add_many(Tally::DroppedSlowed, messages.len());
                let flood = Report::of(source.flow, Deed::Flood);
                self.learn(now, &mut vec![flood; messages.len()]);
                return judgement;
            }
            Judgement::Banned => {
                self.tallies.add_many(Tally::DroppedBanned, messages.len());
                return judgement;
            }
        }
        self.with_carrier(|carrier| {
            // Once it is in hand, so that a drain waits for it or it is not begun.
            if !self.mandate.may_receive(ownership, clocks::instant()) {
                self.tallies.add_many(Tally::Inactive, messages.len());
                return;
            }
            self.overloads.look_at_connections(now.instant, &self.runtime);
            for message in messages {
                let shard = self.machines.shard_of(message);
                match self.judge_load(now, &source.flow, message) {
                    Verdict::Admit => {
                        carrier.feed(
                            self,
                            now,
                            ownership,
                            shard,
                            std::iter::once((source, message.as_ref())),
                        );
                    }
                    Verdict::Refuse(refusal) => {
                        let refused = std::iter::once((source, message.as_ref(), refusal));
                        carrier.turn_away(self, now, shard, refused);
                    }
                }
            }
            carrier.settle(self, now, TOKIO_LANE);
        });
        judgement
    }

    fn judge_load(&self, now: Now, flow: &Flow, message: &[u8]) -> Verdict {
        if self.overloads.are_connections_quiet() || self.mandate.epoch(now.instant).is_none() {
            return Verdict::Admit;
        }
        let judge = |bans: &Bans| self.overloads.judge_of_connection(now.instant, bans, flow, message);
        self.machines.bans.read(judge)
    }

    /// Lets the bans learn what sources did; whoever is banned by it is cut off.
    pub(crate) fn learn(&self, now: Now, reports: &mut Vec<Report>) {
        if reports.is_empty() {
            return;
        }
        let mut begun = Vec::new();
        self.machines.bans.learn(now.instant, reports, &mut begun);
        for ban in begun {
            self.enforce(&ban);
        }
    }

    /// Says who is held from now on, and closes its connections if nothing of it is heard.
    pub(crate) fn enforce(&self, ban: &Ban) {
        let seconds = ban.left.as_secs();
        info!(
            source = %ban.source,
            cause = ban.cause.name(),
            seconds,
            number = ban.number,
            "{}; `tandem bans remove {}` lifts it",
            ban.measure.name(),
            ban.source
        );
        if ban.measure == Measure::Banned {
            self.streams.close_from(ban.source);
        }
    }

    /// Takes back the registrations that are not to outlast this server, while its event loops still run.
    pub(crate) fn take_back_registrations(&self) {
        self.with_carrier(|carrier| {
            carrier.note_stop();
            carrier.settle(self, clocks::now(), TOKIO_LANE);
        });
        let is_busy =
            || self.machines.shards.iter().any(|shard| shard.read(|owner| owner.shard.has_own_requests()));
        let deadline = clocks::instant() + TAKE_BACK_TIME_MAX;
        while is_busy() && clocks::instant() < deadline {
            std::thread::sleep(TAKE_BACK_LOOK_EVERY);
        }
    }

    /// Sends a message by a connection. Returns who wants to know that it can not be sent.
    pub(crate) fn send_by_stream(&self, now: Now, outgoing: Outgoing) -> Option<Sender> {
        self.streams.send(self, now, outgoing)
    }

    /// Tells a shard later that its request could not be sent.
    pub(crate) fn report_failed(&self, sender: Sender) {
        self.alarm_of(sender.shard).deliver(Event::SendFailed { shard: sender.shard, key: sender.key });
    }

    /// Tells all partitions that a connection is gone: none knows which bindings came over it but they.
    pub(crate) fn report_closed(&self, id: ConnectionId) {
        for partition in 0..self.machines.partitions.len() as u16 {
            self.alarm_of(partition).deliver(Event::ConnectionClosed { partition, id });
        }
    }

    /// Forgets what is cached of an account, before this returns: the old password is good no longer. An answer of the
    /// store that is under way is known to the partition as older than the change.
    pub(crate) fn forget_account(&self, aor: &Aor) {
        let seat = &self.machines.partitions[usize::from(self.machines.partition_of(aor))];
        seat.with(clocks::now(), |owner, now| owner.partition.handle_account_changed(now, aor));
    }

    /// What shards and partitions may act by: what they change under it can be told from here on. Not to be asked with a lock
    /// of a machine.
    pub(crate) fn mirror_to_act(&self, now: Instant) -> LeaseMirror {
        match self.copies.get() {
            Some(copies) => copies.mirror_to_act(&self.mandate, now),
            None => self.mandate.mirror(),
        }
    }

    /// The lease is gone: the other node is listened to.
    pub(crate) fn stand_by(&self) {
        if let Some(copies) = self.copies.get() {
            copies.stand_by(&self.mandate);
        }
    }

    /// Asks the store for an account on behalf of a partition.
    pub(crate) fn load_account(&self, partition: u16, aor: Aor) {
        let alarm = Arc::clone(self.alarm_of(partition));
        let asked = aor.clone();
        self.store.load_account(
            asked,
            Box::new(move |loaded| alarm.deliver(Event::Loaded { partition, aor, loaded })),
        );
    }

    /// Tells a partition what others have made of an account in the database.
    pub(crate) fn account_is_other(&self, aor: Aor, loaded: Loaded) {
        let partition = self.machines.partition_of(&aor);
        self.alarm_of(partition).deliver(Event::Loaded { partition, aor, loaded });
    }

    /// Asks the store on behalf of a shard where a user is registered who is not here.
    pub(crate) fn find_elsewhere(&self, shard: u16, token: Token, aor: Aor) {
        let alarm = Arc::clone(self.alarm_of(shard));
        let answer = move |found| {
            let answer = Box::new(Answer::Elsewhere(found));
            alarm.deliver(Event::Answered { shard, token, answer });
        };
        self.store.find_elsewhere(aor, Box::new(answer));
    }

    /// Asks the DNS on behalf of a shard, or the prober.
    pub(crate) fn resolve(&self, now: Now, query: Query, waiter: Waiter) -> Lookup {
        let alarms = Arc::clone(&self.alarms);
        let tallies = Arc::clone(&self.tallies);
        let answer = move |waiter: Waiter, records: Records| {
            tallies.add(match records {
                // That a domain has no NAPTR or SRV record is an answer like any other.
                Records::Naptr(_) | Records::Srv(_) | Records::Addresses(_) | Records::None => {
                    Tally::Resolved
                }
                Records::Failed => Tally::ResolveFailed,
            });
            let lane = match waiter {
                Waiter::Shard(shard, _) => usize::from(shard) % alarms.len(),
                Waiter::Prober(_) => PROBER_LOOP,
            };
            alarms[lane].deliver(Event::Resolved { waiter, records });
        };
        self.resolver.resolve(&self.runtime, now.instant, query, waiter, answer)
    }

    /// Wakes the owner of a shard or partition if it would sleep past its deadline.
    pub(crate) fn remind_owner(&self, number: u16, due: Instant) {
        self.alarm_of(number).remind(due);
    }

    /// Wakes the prober's event loop if it would sleep past the prober's deadline.
    pub(crate) fn remind_prober(&self) {
        self.alarms[PROBER_LOOP].remind(self.machines.prober.due());
    }

    /// Takes a gateway out of service, or puts it back.
    pub(crate) fn set_gateway(&self, name: &str, service: Service) -> Result<(), UnknownGateway> {
        let (now, mut out) = (clocks::now(), Vec::new());
        let set = |prober: &mut Prober, now| prober.set_service(now, name, service, &mut out);
        let result = self.machines.prober.with(now, set);
        self.machines.publish(now, &out);
        result
    }

    fn alarm_of(&self, number: u16) -> &Arc<Alarm> {
        &self.alarms[self.machines.owner_of(number)]
    }

    fn with_carrier(&self, work: impl FnOnce(&mut Carrier)) {
        let _in_hand = InHand::begin(&self.in_hand);
        let kept = self.carriers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut carrier = kept.unwrap_or_else(|| Carrier::new(self.machines.shards.len()));
        work(&mut carrier);
        let mut carriers = self.carriers.lock().unwrap_or_else(PoisonError::into_inner);
        if carriers.len() < CARRIERS_MAX {
            carriers.push(carrier);
        }
    }
}

/// A batch that is in hand, until this is dropped: also when its work panics, or each drain would wait for it in vain.
struct InHand<'e>(&'e AtomicUsize);

impl<'e> InHand<'e> {
    fn begin(batches: &'e AtomicUsize) -> Self {
        // Before the batch asks whether it may be begun, in the one order in which a drain says no and then counts.
        batches.fetch_add(1, Ordering::SeqCst);
        Self(batches)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_whose_work_panics_is_in_hand_no_longer() {
        let batches = AtomicUsize::new(0);

        let result = std::panic::catch_unwind(|| {
            let _in_hand = InHand::begin(&batches);
            assert_eq!(batches.load(Ordering::SeqCst), 0, "it is in hand");
        });

        assert!(result.is_err());
        assert_eq!(batches.load(Ordering::SeqCst), 0);
    }
}

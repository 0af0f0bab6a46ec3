//! All shards and partitions of this process, each behind its lock, and who owns which.
//!
//! The event loop `n` of `loops` owns the shards and partitions whose number leaves the rest `n`: it lets their
//! deadlines pass. Messages and answers may come from any thread.

use std::sync::Arc;

use clock::{Instant, Now};
use engine::{OwnEntry, Partition, Prober, ProberOutput, Shard, StoredNonce};
use keys::RootKey;
use routing::account::BindingKey;
use routing::overload::Overload;
use routing::{Keyring, Settings, StoredBinding};
use sip::Aor;
use transport::RemoteAddr;

use crate::bans::SharedBans;
use crate::clocks;
use crate::copies::{Owner, ShardOwner};
use crate::overload::Overloads;
use crate::relay::RelayRules;
use crate::seat::Seat;

/// The event loop that lets the prober's deadlines pass.
pub(crate) const PROBER_LOOP: usize = 0;

#[derive(Debug)]
pub(crate) struct Machines {
    pub(crate) shards: Box<[Seat<ShardOwner>]>,
    pub(crate) partitions: Box<[Seat<Owner>]>,
    pub(crate) prober: Seat<Prober>,
    /// Whom nobody listens to.
    pub(crate) bans: SharedBans,
    keyring: Keyring,
    loops: usize,
}

impl Machines {
    /// One shard and one partition for each event loop.
    pub(crate) fn new(
        now: Now,
        settings: &Arc<Settings>,
        root_key: &RootKey,
        boot: u32,
        loops: usize,
    ) -> Self {
        let keyring = Keyring::derive(root_key);
        let numbers = 0..u16::try_from(loops).expect("LOOPS_MAX is less");
        let shard = |number| {
            let mut shard = Shard::new(Arc::clone(settings), keyring.clone(), number, boot);
            shard.keep_registrations(numbers.end);
            ShardOwner::new(number, shard)
        };
        let partition =
            |number| Owner::new(number, Partition::new(Arc::clone(settings), keyring.clone(), number));
        Self {
            shards: numbers.clone().map(|number| Seat::new(now, shard(number))).collect(),
            partitions: numbers.map(|number| Seat::new(now, partition(number))).collect(),
            prober: Seat::new(now, Prober::new(now, Arc::clone(settings), &keyring)),
            bans: SharedBans::new(settings, &keyring),
            keyring,
            loops,
        }
    }

    /// The overload of one event loop's queue.
    pub(crate) fn overload(&self, now: Instant) -> Overload {
        Overload::new(now, &self.keyring)
    }

    /// What is known of the overload of all queues.
    pub(crate) fn overloads(&self, now: Instant) -> Overloads {
        Overloads::new(now, &self.keyring, self.loops)
    }

    /// The shard of a message.
    pub(crate) fn shard_of(&self, message: &[u8]) -> u16 {
        engine::shard_of(&self.keyring.partition, message, self.shards.len() as u16)
    }

    /// The shard of a call.
    pub(crate) fn shard_of_call(&self, call_id: &[u8]) -> u16 {
        engine::shard_of_call(&self.keyring.partition, call_id, self.shards.len() as u16)
    }

    /// The partition of an address of record.
    pub(crate) fn partition_of(&self, aor: &Aor) -> u16 {
        engine::partition_of(&self.keyring.partition, aor, self.partitions.len() as u16)
    }

    /// Which event loop owns the shard or partition with this number.
    pub(crate) fn owner_of(&self, number: u16) -> usize {
        usize::from(number) % self.loops
    }

    /// The shards, or partitions, of one event loop.
    pub(crate) fn owned_by(&self, event_loop: usize) -> impl Iterator<Item = u16> + use<> {
        (event_loop..self.shards.len()).step_by(self.loops).map(|number| number as u16)
    }

    /// The first deadline of all that an event loop owns.
    pub(crate) fn due(&self, event_loop: usize) -> Instant {
        self.owned_by(event_loop)
            .map(usize::from)
            .map(|number| self.shards[number].due().min(self.partitions[number].due()))
            .chain((event_loop == PROBER_LOOP).then(|| self.prober.due()))
            .min()
            .unwrap_or(Instant::FAR)
    }

    /// Lets all that an event loop owns stand by, unless the lease has come meanwhile.
    pub(crate) fn stand_by(&self, now: Now, event_loop: usize, is_over: impl Fn() -> bool) {
        for number in self.owned_by(event_loop).map(usize::from) {
            self.shards[number].stand_by(now, &is_over);
            self.partitions[number].stand_by(now, &is_over);
        }
        if event_loop == PROBER_LOOP {
            self.prober.stand_by(now, &is_over);
        }
    }

    /// Has media relayed like this from here on.
    pub(crate) fn set_relay(&self, now: Now, rules: &RelayRules) {
        for seat in &self.shards {
            seat.with(now, |owner, now| owner.shard.set_relay(now.instant, rules.settings.clone()));
        }
    }

    /// Gives everybody the new settings, one after the other.
    pub(crate) fn reload(&self, now: Now, settings: &Arc<Settings>) {
        for partition in &self.partitions {
            partition.with(now, |owner, _| owner.partition.reload(Arc::clone(settings)));
        }
        for shard in &self.shards {
            shard.with(now, |owner, _| owner.shard.reload(Arc::clone(settings)));
        }
        self.bans.with(|bans| bans.reload(now.instant, Arc::clone(settings)));
        let mut out = Vec::new();
        self.prober.with(now, |prober, now| prober.reload(now, Arc::clone(settings), &mut out));
        self.publish(now, &out);
    }

    /// Gives every shard the prober's last verdicts.
    pub(crate) fn publish(&self, now: Now, outputs: &[ProberOutput]) {
        for output in outputs {
            if let ProberOutput::Publish(verdicts) = output {
                for shard in &self.shards {
                    shard.with(now, |owner, _| owner.shard.handle_verdicts(Arc::clone(verdicts)));
                }
            }
        }
    }

    /// Puts back what an earlier start had written down; says what of it another node can be told.
    pub(crate) fn restore(
        &self,
        now: Now,
        bindings: Vec<StoredBinding>,
        nonces: Vec<StoredNonce>,
    ) -> Vec<OwnEntry> {
        let mut own = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let (transport, received) = (binding.listener.0, RemoteAddr(binding.received));
            self.bans.with(|bans| bans.handle_binding(now.instant, transport, received));
            let (number, key) = (self.partition_of(&binding.aor), BindingKey::of(&binding));
            let seat = &self.partitions[usize::from(number)];
            let id = seat.with(now, |owner, now| owner.partition.restore(now, binding));
            own.extend(id.map(|id| engine::copies::of_own_disk(number, &key, id)));
        }
        for nonce in nonces {
            let number = usize::from(self.partition_of(&nonce.account));
            let entry = engine::copies::nonce_of_own_disk(number as u16, &nonce);
            let restored =
                self.partitions[number].with(now, |owner, now| owner.partition.restore_nonce(now, nonce));
            own.extend(restored.map(|_| entry));
        }
        own
    }

    /// From here on calls leave records.
    pub(crate) fn keep_records(&self) {
        for seat in &self.shards {
            seat.with(clocks::now(), |owner, _| owner.shard.keep_records());
        }
    }

    /// From here on it is noted what changes beside bindings, for the other node.
    pub(crate) fn note_changes(&self) {
        for seat in &self.shards {
            seat.with(clocks::now(), |owner, _| owner.shard.note_changes());
        }
        for seat in &self.partitions {
            seat.with(clocks::now(), |owner, _| owner.partition.note_nonce_changes());
        }
        self.bans.with(|bans| bans.note_changes());
    }

    /// Whether a thread panicked inside a machine.
    pub(crate) fn is_broken(&self) -> bool {
        self.shards.iter().any(Seat::is_broken)
            || self.partitions.iter().any(Seat::is_broken)
            || self.prober.is_broken()
    }
}

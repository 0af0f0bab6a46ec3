//! One voter: remembers the single grant that it has given for a service.
//!
//! A change is on disk before it is answered: the voter asks the edge to write ([`Output::Keep`]) and answers when the
//! edge says that it is done. A renewal as long as those before changes nothing of what was granted and is answered at
//! once, whatever else is being written. While a grant is being written nobody else gets what is about to be given.
//!
//! Invariant: nobody else is granted the lease before the last grant has run out by this voter's own clock, also across a
//! restart, and no epoch is granted to two holders.

#[cfg(feature = "test-model")]
mod canonical;
mod starts;

use std::time::Duration;

use clock::Instant;

use crate::fault::{self, Fault};
use crate::identity::same_holder;
use crate::{
    Answer, Ask, Epoch, Holder, LEASE_MAX, NodeId, Record, Refusal, RefusalCause, Release, ServiceId,
    Verdict, VoterId, VoterList,
};
use starts::{Clones, Starts};

/// Names one write to the disk; the edge repeats it when the write is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

/// What a voter asks of the edge, to be done in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Write the record and sync it; then call [`Voter::handle_kept`]. Writes are done one after the other.
    Keep(WriteNumber, Record),
    /// Send the answer to the node that asked.
    Answer(NodeId, Answer),
    /// Tell the node, which counts by an older list of voters, of this one.
    Tell(NodeId, VoterList),
    /// Tell the operator.
    Alarm(Alarm),
}

/// What an operator must know of a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// The disk could not be written: this voter grants nothing until it is started again.
    DiskFailed,
    /// Two starts of one node ask in turns: a machine was copied. Neither is granted anything.
    Cloned(NodeId),
}

/// The voter of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Voter {
    service: ServiceId,
    /// As it is on disk once all writes are done.
    record: Record,
    /// As it is on disk for sure.
    kept: Record,
    grant: Option<Grant>,
    /// After a start: until when a grant may be in force that was given before it.
    waits_until: Instant,
    pending: Option<Pending>,
    writing: Vec<(WriteNumber, Record)>,
    writes: u64,
    is_faulty: bool,
    starts: Starts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grant {
    holder: Holder,
    epoch: Epoch,
    until: Instant,
}

/// A question that is answered when the disk has what it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    write: WriteNumber,
    ask: Ask,
}

impl Voter {
    /// A voter that has just started with the record that its disk has.
    ///
    /// It may have granted shortly before, for as long as its longest lease, and waits that long.
    pub fn new(now: Instant, service: ServiceId, record: Record) -> Self {
        let waits_until = if fault::is_planted(Fault::NoRestartWait) { now } else { now + record.longest };
        Self {
            service,
            record,
            kept: record,
            grant: None,
            waits_until,
            pending: None,
            writing: Vec::new(),
            writes: 0,
            is_faulty: false,
            starts: Starts::default(),
        }
    }

    /// This machine may have stood still together with its clock: what was granted may last for longer than the clock says,
    /// and the voter waits as after a start.
    pub fn stood_still(&mut self, now: Instant) {
        self.waits_until = self.waits_until.max(now + self.record.longest);
        self.pending = None;
    }

    /// Who the voter is.
    pub fn id(&self) -> VoterId {
        self.record.voter
    }

    /// The highest epoch that the voter knows as used.
    pub fn highest(&self) -> Epoch {
        self.record.highest()
    }

    /// For how long the voter can grant nothing to `holder`, as far as time and other holders go.
    pub fn barred_for(&self, now: Instant, holder: Holder) -> Duration {
        match self.is_faulty {
            true => LEASE_MAX,
            false => self.barred_for_grant(now, holder).max(self.waits_until - now),
        }
    }

    /// Whom the voter has granted the service, and until when.
    pub fn granted(&self, now: Instant) -> Option<(Holder, Epoch, Instant)> {
        self.grant.filter(|grant| now < grant.until).map(|grant| (grant.holder, grant.epoch, grant.until))
    }

    /// Whether the disk has failed, so that the voter grants nothing.
    pub fn is_faulty(&self) -> bool {
        self.is_faulty
    }

    /// Answers a contender, now or when the disk has the change. The clock is read after the question has arrived.
    pub fn handle_ask(&mut self, now: Instant, ask: Ask, out: &mut Vec<Output>) {
        match self.judge(now, &ask, out) {
            Err(refusal) => out.push(self.answer(&ask, Verdict::Refused(refusal))),
            Ok(record) if record.grants_like(&self.kept) => self.grant(now, &ask, out),
            Ok(record) => {
                if record != self.record || self.pending.is_none() {
                    self.record = record;
                    self.write(out);
                }
                self.pending = Some(Pending { write: WriteNumber(self.writes), ask });
                if fault::is_planted(Fault::AnswerBeforeDisk) {
                    self.pending = None;
                    self.grant(now, &ask, out);
                }
            }
        }
    }

    /// Frees exactly the grant that is named, and closes its epoch.
    pub fn handle_release(&mut self, release: Release, out: &mut Vec<Output>) {
        let is_named = |holder: Holder, epoch: Epoch| {
            (same_holder(holder, release.holder) && epoch == release.epoch)
                || fault::is_planted(Fault::ReleaseOfAnything)
        };
        if self.grant.is_some_and(|grant| is_named(grant.holder, grant.epoch)) {
            self.grant = None;
        }
        if self.pending.is_some_and(|pending| is_named(pending.ask.holder, pending.ask.epoch)) {
            self.pending = None;
        }
        if release.epoch > self.record.closed && !fault::is_planted(Fault::ReleaseClosesNothing) {
            self.record.closed = release.epoch;
            self.write(out);
        }
    }

    /// A write is done, or has failed.
    pub fn handle_kept(&mut self, now: Instant, write: WriteNumber, is_kept: bool, out: &mut Vec<Output>) {
        let Some(at) = self.writing.iter().position(|(number, _)| *number == write) else { return };
        // Writes are done in order: what stood before is done too, or overwritten.
        let record = self.writing[at].1;
        self.writing.drain(..=at);
        if !is_kept {
            self.is_faulty = true;
            self.pending = None;
            out.push(Output::Alarm(Alarm::DiskFailed));
            return;
        }
        self.kept = record;
        if self.is_faulty {
            return;
        }
        if let Some(pending) = self.pending
            && pending.write <= write
        {
            self.pending = None;
            // The epoch may have been closed while the disk was busy.
            match pending.ask.epoch > self.record.closed {
                true => self.grant(now, &pending.ask, out),
                false => out.push(self.refuse_used(&pending.ask)),
            }
        }
    }

    /// Sets an epoch aside for a hand-over: no question is granted it. It is on disk when
    /// [`Self::has_reserved`] says so.
    pub fn reserve(&mut self, epoch: Epoch, out: &mut Vec<Output>) {
        if epoch > self.record.highest() {
            self.record.reserved = epoch;
            self.write(out);
        }
    }

    /// The epoch that was last set aside.
    pub fn reserved(&self) -> Epoch {
        self.record.reserved
    }

    /// Whether the epoch is set aside on disk.
    pub fn has_reserved(&self, epoch: Epoch) -> bool {
        self.kept.reserved == epoch && self.record.reserved == epoch && !self.is_faulty
    }

    /// Gives the epoch that was set aside, without waiting for the disk, which has it as used already.
    ///
    /// `released` is the grant that ends with it: the caller knows that its holder's gate is closed. `None`: the voter
    /// can not give it.
    pub fn grant_reserved(
        &mut self,
        now: Instant,
        released: Release,
        to: Holder,
        epoch: Epoch,
        lease: Duration,
        out: &mut Vec<Output>,
    ) -> Option<Duration> {
        // A longer one than the disk knows would not be waited for after a restart.
        let is_fit = !lease.is_zero() && lease <= self.kept.longest;
        if !self.has_reserved(epoch) || !is_fit {
            return None;
        }
        self.handle_release(released, out);
        if !self.barred_for(now, to).is_zero() || self.record.closed >= epoch {
            return None;
        }
        self.record.epoch = epoch;
        self.record.holder = Some(to);
        self.write(out);
        self.grant = Some(Grant { holder: to, epoch, until: now + lease });
        Some(lease)
    }

    /// The record that would have to be on disk before the question is granted.
    fn judge(&mut self, now: Instant, ask: &Ask, out: &mut Vec<Output>) -> Result<Record, Refusal> {
        let highest = self.record.highest();
        let refuse = |cause, left| Err(Refusal { cause, highest, left });
        if self.is_faulty {
            return refuse(RefusalCause::NotVoting, Duration::ZERO);
        }
        if let Some(cause) = self.record.objection(ask) {
            if self.record.knows_later_list(ask) && cause == RefusalCause::OldList {
                out.push(Output::Tell(ask.holder.node, self.record.list));
            }
            return refuse(cause, Duration::ZERO);
        }
        if self.is_cloned(now, ask, out) {
            return refuse(RefusalCause::Cloned, ask.lease);
        }
        if ask.epoch <= self.record.closed {
            return refuse(RefusalCause::EpochUsed, Duration::ZERO);
        }
        let is_renewal = self.record.is_renewed_by(ask);
        if now < self.waits_until && !is_renewal {
            return refuse(RefusalCause::Restarted, self.waits_until - now);
        }
        let barred = self.barred_for_grant(now, ask.holder);
        if !barred.is_zero() {
            return refuse(RefusalCause::Held, barred);
        }
        if !is_renewal && !self.record.has_unused(ask.epoch) {
            return refuse(RefusalCause::EpochUsed, Duration::ZERO);
        }
        Ok(self.record.granting(ask, self.granted_lease(ask)))
    }

    fn grant(&mut self, now: Instant, ask: &Ask, out: &mut Vec<Output>) {
        let until = now + self.granted_lease(ask);
        // A holder that asks for less counts by what it was granted before until that has run out.
        let before = self.grant.filter(|grant| same_holder(grant.holder, ask.holder));
        let until = before.map_or(until, |before| before.until.max(until));
        self.grant = Some(Grant { holder: ask.holder, epoch: ask.epoch, until });
        out.push(self.answer(ask, Verdict::Granted(ask.lease)));
    }

    fn refuse_used(&self, ask: &Ask) -> Output {
        let refusal =
            Refusal { cause: RefusalCause::EpochUsed, highest: self.record.highest(), left: Duration::ZERO };
        self.answer(ask, Verdict::Refused(refusal))
    }

    fn granted_lease(&self, ask: &Ask) -> Duration {
        if fault::is_planted(Fault::OwnLeaseLength) { ask.lease / 2 } else { ask.lease }
    }

    fn barred_for_grant(&self, now: Instant, holder: Holder) -> Duration {
        let by_grant = match self.grant {
            Some(grant) if !same_holder(grant.holder, holder) => grant.until - now,
            _ => Duration::ZERO,
        };
        let by_pending = match self.pending {
            Some(pending) if !same_holder(pending.ask.holder, holder) => pending.ask.lease,
            _ => Duration::ZERO,
        };
        by_grant.max(by_pending)
    }

    fn is_cloned(&mut self, now: Instant, ask: &Ask, out: &mut Vec<Output>) -> bool {
        let clones = self.starts.heard(now, ask);
        if clones == Clones::Found {
            out.push(Output::Alarm(Alarm::Cloned(ask.holder.node)));
        }
        clones != Clones::None
    }

    fn write(&mut self, out: &mut Vec<Output>) {
        self.writes += 1;
        let write = WriteNumber(self.writes);
        self.writing.push((write, self.record));
        out.push(Output::Keep(write, self.record));
    }

    fn answer(&self, ask: &Ask, verdict: Verdict) -> Output {
        let answer = Answer {
            voter: self.record.voter,
            service: self.service,
            holder: ask.holder,
            number: ask.number,
            epoch: ask.epoch,
            verdict,
        };
        Output::Answer(ask.holder.node, answer)
    }
}

#[cfg(test)]
mod tests;

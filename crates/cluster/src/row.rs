//! A voter whose memory is a row on a server: the third vote of a database or of etcd.
//!
//! The server decides nothing. Each node has such a voter beside it, for itself alone, and all of them write one [`Row`], each
//! write on condition that the row is as it was last seen. Who has the grant renews it by writing; who wants it must have
//! watched the row stand still for the whole lease *by its own clock*, or find it released. No time of the server is used.
//!
//! One operation is under way at a time; its outcome is an input, and one that never came is [`Written::Unknown`]: it may
//! have taken effect, or may yet, and counts for nothing. Then the row is read again, and what is there is gone on from.
//!
//! A server that fails over may come back with an older row. The number of writes tells a row that went back from one that
//! stood still, and the [`History`] tells another server, or another start of one: a watch does not outlast it, and no write
//! meets another one than was seen. So renewals may be lost, if the server before has ended. A lost *take* is worse: the epoch
//! may be used again. That is why takes and releases are [`Durability::Durable`].
//!
//! Invariant: nobody else is granted the lease before whoever was granted it last has stopped counting that vote.

mod form;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clock::Instant;

use crate::fault::{self, Fault};
use crate::identity::same_holder;
use crate::{
    Answer, Ask, Here, Holder, Message, Record, Refusal, RefusalCause, Release, ServiceId, Verdict, VoterId,
};

pub use form::{ROW_TEXT_MAX, RowError};

/// How often a row is looked at that nobody holds, or that this node holds.
const CALM: Duration = Duration::from_millis(100);

/// A row that another one holds is not looked at more often than this, however short its lease.
const POLL_MIN: Duration = Duration::from_millis(10);

/// The pause after an operation that failed at once; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(320);

/// A row that was seen longer ago says nothing of how the server is.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What the server has for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// What a voter must not forget.
    pub record: Record,
    /// For how long the last holder has the grant, from the last write on; zero: it was released.
    pub lease: Duration,
    /// How often the row was written. It grows in every write and is never set back.
    pub writes: u64,
}

impl Row {
    /// The row that is written where there is none.
    fn first(voter: VoterId) -> Self {
        Self { record: Record::first(voter), lease: Duration::ZERO, writes: 1 }
    }

    fn next(&self, record: Record, lease: Duration) -> Self {
        let step = u64::from(!fault::is_planted(Fault::RowWritesUncounted));
        Self { record, lease, writes: self.writes + step }
    }
}

/// Which server answers, and since when: a number that is another one after a failover, a restart or a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History(pub u64);

/// An answer that showed the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The row; `None`: there is none.
    pub row: Option<Row>,
    /// By whom it was shown.
    pub history: History,
}

/// What a write must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Every failover that the operator plans for: on all servers that may come after this one before it is answered.
    Durable,
    /// Nothing: it only shows that the holder is there, and what is lost with it is noticed.
    Renewal,
}

/// A write on condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// What must be there, as a whole. `None`: no row.
    pub before: Option<Row>,
    /// Who must answer.
    pub history: History,
    /// What is there then.
    pub after: Row,
    /// What it must survive.
    pub durability: Durability,
}

impl Change {
    /// Whether a server has what the change is on condition of.
    pub fn fits(&self, row: Option<&Row>, history: History) -> bool {
        let is_row = self.before.as_ref() == row || fault::is_planted(Fault::RowUncompared);
        is_row && (self.history == history || fault::is_planted(Fault::RowHistoryUnchecked))
    }
}

/// What has become of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The server says that it has changed exactly this row.
    Done,
    /// The server says that it has changed nothing.
    Lost,
    /// No answer came, or an error: it may have taken effect, or may yet.
    Unknown,
}

/// What a row voter asks of the edge, to be done in this order.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time; a box would be an allocation for each operation"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Show the row; then [`RowVoter::handle_seen`]. Only an answer of a server that has all writes counts.
    Read,
    /// Write the row in one step, on condition; then [`RowVoter::handle_written`].
    Write(Change),
    /// Tell the node.
    Say(Message),
}

/// The voter of one service on a server, for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowVoter {
    service: ServiceId,
    /// What ids of rows are made of; random.
    chance: u64,
    rows_made: u64,
    /// Who asked last.
    me: Option<Holder>,
    known: Option<Known>,
    /// Who answers, and since when it is known.
    acquainted: Option<(History, Instant)>,
    state: State,
    /// The question that was not answered yet; a later one takes its place.
    pending: Option<(Ask, Instant)>,
    /// What was given back last. It may still have to be written down.
    released: Option<Release>,
    poll_at: Instant,
    pause: Duration,
    /// What is known may be old: nothing is decided before it is read again.
    is_doubtful: bool,
}

/// The row as it was last shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    seen: Seen,
    /// Since when nothing else was shown.
    since: Instant,
    /// When it was shown last.
    at: Instant,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time; a box would be an allocation for each operation"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Reading { sent: Instant },
    Writing { change: Change, ask: Option<Ask> },
}

impl RowVoter {
    /// A voter that has not seen its row yet. `chance` is random, another one at each start.
    pub fn new(now: Instant, service: ServiceId, chance: u64) -> Self {
        Self {
            service,
            chance,
            rows_made: 0,
            me: None,
            known: None,
            acquainted: None,
            state: State::Idle,
            pending: None,
            released: None,
            poll_at: now,
            pause: PAUSE_MIN,
            is_doubtful: true,
        }
    }

    /// The node says something.
    pub fn handle_message(&mut self, now: Instant, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Ask(ask) if ask.service == self.service => {
                self.me = Some(ask.holder);
                self.pending = Some((ask, now));
            }
            Message::Release(release) if release.service == self.service => {
                let is_later = |known: Release| known.holder != release.holder || known.epoch < release.epoch;
                if self.released.is_none_or(is_later) {
                    self.released = Some(release);
                }
                // What was asked before the release is not wanted any more.
                self.pending.take_if(|(ask, _)| ask.epoch <= release.epoch);
            }
            Message::Hello(service) if service == self.service => {
                if let Some(here) = self.here(now) {
                    out.push(Output::Say(Message::Here(here)));
                }
            }
            _ => {}
        }
        self.go_on(now, out);
    }

    /// The server has shown the row, or has not.
    pub fn handle_seen(&mut self, now: Instant, seen: Result<Seen, Unseen>, out: &mut Vec<Output>) {
        let State::Reading { sent } = self.state else { return };
        self.state = State::Idle;
        match seen {
            Ok(seen) => {
                let since = if fault::is_planted(Fault::RowWatchedFromAsking) { sent } else { now };
                self.saw(now, since, seen);
                self.is_doubtful = false;
                self.pause = PAUSE_MIN;
                self.poll_at = now + self.poll_every();
            }
            Err(Unseen) => self.failed(now),
        }
        self.go_on(now, out);
    }

    /// A write has an outcome.
    pub fn handle_written(&mut self, now: Instant, written: Written, out: &mut Vec<Output>) {
        let State::Writing { change, ask } = self.state else { return };
        self.state = State::Idle;
        let counts = written == Written::Done
            || written == Written::Unknown && fault::is_planted(Fault::RowUnknownCounted);
        match written {
            _ if counts => {
                let seen = Seen { row: Some(change.after), history: change.history };
                self.known = Some(Known { seen, since: now, at: now });
                self.pause = PAUSE_MIN;
                self.poll_at = now + self.poll_every();
                if let Some(ask) = ask {
                    // A later question stands on its own.
                    self.pending.take_if(|(pending, _)| pending.number == ask.number);
                    out.push(self.answer(&change.after, &ask, Verdict::Granted(ask.lease)));
                }
            }
            Written::Done | Written::Lost => {
                self.is_doubtful = true;
                self.poll_at = now;
            }
            Written::Unknown => self.failed(now),
        }
        self.go_on(now, out);
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.go_on(now, out);
    }

    /// When [`Self::handle_timeout`] is to be called. While an operation is under way, its outcome comes first.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.state == State::Idle).then_some(self.poll_at)
    }

    /// How long an operation may take before its outcome is unknown: so long that it can still serve the holder.
    pub fn deadline(lease: Duration) -> Duration {
        (lease / 2).clamp(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// How the voter is, if the server has shown the row of late.
    pub fn here(&self, now: Instant) -> Option<Here> {
        let known = self.known.filter(|known| now.since(known.at) < FRESH_FOR)?;
        let row = known.seen.row?;
        let left = (known.since + row.lease) - now;
        let holder = row.record.holder.filter(|_| !left.is_zero());
        Some(Here {
            service: self.service,
            voter: row.record.voter,
            highest: row.record.highest(),
            granted: holder.map(|holder| (holder, left)),
            votes: true,
        })
    }

    /// Does what is to be done next, if nothing is under way.
    fn go_on(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.state != State::Idle {
            return;
        }
        self.pending.take_if(|(ask, since)| now.since(*since) >= ask.lease);
        let is_due = self.poll_at <= now;
        let Some(known) = self.known.filter(|_| !self.is_doubtful) else {
            // A question does not wait for the pause of a server that has failed, but for its answer.
            if is_due {
                self.read(now, out);
            }
            return;
        };
        let is_old = now.since(known.at) >= self.gap_max();
        let is_wanted = self.pending.is_some();
        if is_due || is_old && is_wanted {
            return self.read(now, out);
        }
        let Some(row) = known.seen.row else {
            self.rows_made += 1;
            let first = Row::first(self.fresh_voter());
            return self.write(known, None, first, Durability::Durable, None, out);
        };
        if let Some(free) = self.row_to_release(&row) {
            return self.write(known, Some(row), free, Durability::Durable, None, out);
        }
        let Some((ask, _)) = self.pending else { return };
        match self.judge(now, &known, &row, &ask, out) {
            Ok((next, durability)) => self.write(known, Some(row), next, durability, Some(ask), out),
            Err(refusal) => {
                self.pending = None;
                out.push(self.answer(&row, &ask, Verdict::Refused(refusal)));
            }
        }
    }

    fn read(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.state = State::Reading { sent: now };
        out.push(Output::Read);
    }

    fn write(
        &mut self,
        known: Known,
        before: Option<Row>,
        after: Row,
        durability: Durability,
        ask: Option<Ask>,
        out: &mut Vec<Output>,
    ) {
        let change = Change { before, history: known.seen.history, after, durability };
        self.state = State::Writing { change, ask };
        out.push(Output::Write(change));
    }

    /// The row that has to be there before the question is granted.
    fn judge(
        &self,
        now: Instant,
        known: &Known,
        row: &Row,
        ask: &Ask,
        out: &mut Vec<Output>,
    ) -> Result<(Row, Durability), Refusal> {
        let record = &row.record;
        let refuse = |cause, left| Err(Refusal { cause, highest: record.highest(), left });
        if let Some(cause) = record.objection(ask) {
            if record.knows_later_list(ask) && cause == RefusalCause::OldList {
                out.push(Output::Say(Message::List(self.service, record.list)));
            }
            return refuse(cause, Duration::ZERO);
        }
        if ask.epoch <= record.closed {
            return refuse(RefusalCause::EpochUsed, Duration::ZERO);
        }
        let is_own = record.holder.is_some_and(|holder| same_holder(holder, ask.holder));
        let is_held = !row.lease.is_zero() && !is_own;
        if is_held {
            let longer = ask.lease.max(row.lease);
            let lease = if fault::is_planted(Fault::RowOwnLease) { ask.lease } else { longer };
            let left = (known.since + lease) - now;
            if !left.is_zero() {
                return refuse(RefusalCause::Held, left);
            }
        }
        let is_renewal = record.is_renewed_by(ask) && !row.lease.is_zero();
        // A server that was not there before may have lost what another one was granted. It is waited for as after a start.
        let waits = (self.acquainted_since() + record.longest.max(ask.lease)) - now;
        if !is_renewal && !waits.is_zero() && !fault::is_planted(Fault::RowStrangerTrusted) {
            return refuse(RefusalCause::Restarted, waits);
        }
        if !is_renewal && !record.has_unused(ask.epoch) {
            return refuse(RefusalCause::EpochUsed, Duration::ZERO);
        }
        // A holder that asks for less counts by what it was granted before until that has run out.
        let lease = if is_own { ask.lease.max(row.lease) } else { ask.lease };
        let granting = record.granting(ask, lease);
        let is_mere = is_renewal && lease == row.lease && granting == *record;
        let durability = if is_mere { Durability::Renewal } else { Durability::Durable };
        Ok((row.next(granting, lease), durability))
    }

    /// The row without the grant that was given back, if it still has that.
    fn row_to_release(&self, row: &Row) -> Option<Row> {
        let released = self.released?;
        let is_it = row.record.holder.is_some_and(|holder| same_holder(holder, released.holder))
            && row.record.epoch <= released.epoch
            && !row.lease.is_zero();
        if !is_it {
            return None;
        }
        let closed = row.record.closed.max(released.epoch);
        Some(row.next(Record { closed, ..row.record }, Duration::ZERO))
    }

    fn saw(&mut self, now: Instant, since: Instant, seen: Seen) {
        if self.acquainted.is_none_or(|(history, _)| history != seen.history) {
            self.acquainted = Some((seen.history, now));
        }
        let gap_max = self.gap_max();
        let stands = |known: &Known| known.seen == seen && now.since(known.at) < gap_max;
        let since = self.known.filter(stands).map_or(since, |known| known.since);
        self.known = Some(Known { seen, since, at: now });
    }

    /// Nobody knows what the server did meanwhile: a watch begins anew.
    fn failed(&mut self, now: Instant) {
        if !fault::is_planted(Fault::RowErrorIgnored) {
            self.known = None;
        }
        self.is_doubtful = true;
        self.poll_at = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn poll_every(&self) -> Duration {
        let row = self.known.and_then(|known| known.seen.row);
        match row {
            Some(row) if !row.lease.is_zero() && !self.is_mine(&row) => {
                (row.lease / 20).clamp(POLL_MIN, CALM)
            }
            _ => CALM,
        }
    }

    /// An answer that comes so long after the one before says nothing of what was in between.
    fn gap_max(&self) -> Duration {
        let lease = self.known.and_then(|known| known.seen.row).map_or(Duration::ZERO, |row| row.lease);
        (self.poll_every() * 3).max(lease / 2)
    }

    fn is_mine(&self, row: &Row) -> bool {
        self.me.is_some() && row.record.holder == self.me
    }

    fn acquainted_since(&self) -> Instant {
        self.acquainted.map_or(Instant::FAR, |(_, since)| since)
    }

    fn answer(&self, row: &Row, ask: &Ask, verdict: Verdict) -> Output {
        Output::Say(Message::Answer(Answer {
            voter: row.record.voter,
            service: self.service,
            holder: ask.holder,
            number: ask.number,
            epoch: ask.epoch,
            verdict,
        }))
    }

    /// A row that was made anew has forgotten everything: it is another voter, and does not count until it is accepted.
    fn fresh_voter(&self) -> VoterId {
        let mixed = self.chance ^ self.rows_made.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        VoterId(mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) | 1)
    }
}

/// The server has not shown the row in time, or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen;

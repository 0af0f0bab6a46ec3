//! The list of voters changes through the holder, one seat at a time.
//!
//! First a newcomer is asked like any voter, and nothing else changes, until the voters that there will be are a majority
//! of votes that count: so a change never ends the service. Then the list with the change goes out in every question, and
//! both majorities are needed. When a majority of both has it on disk, the change is settled: the list with the new seats
//! alone goes out, and nobody who counts by an older one finds a majority any more.
//!
//! A holder that finds a change which an earlier one has begun brings it to its end.

use std::time::Duration;

use clock::Instant;

use super::{Contender, Output, State};
use crate::fault::{self, Fault};
use crate::{LeasePlan, Seat};

/// How long the voters that would be left have to vote. Each of them is asked five times in a lease.
pub(super) const CHANGING_MAX: Duration = Duration::from_secs(5);

/// A change that has not begun: it waits for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Changing {
    pub(super) seat: Seat,
    pub(super) since: Instant,
}

impl Changing {
    pub(super) fn until(&self) -> Instant {
        self.since + CHANGING_MAX
    }
}

impl Contender {
    /// Adds a seat to the list of voters, or removes it if it is there. Says whether that can be tried: this node must be
    /// active and keep its own seat, and no other change be under way.
    pub fn change_list(&mut self, now: Instant, seat: Seat, out: &mut Vec<Output>) -> bool {
        let State::Active { epoch, wanted, until, .. } = self.state else { return false };
        // A list without a node that could be active would end the service for good. A holder may find itself without a
        // seat, if it has settled a change that another one had begun: then its own seat is the first that it changes.
        let is_own = |seat: Seat| seat.voter == Some(self.own);
        let is_possible = self.list.changed(seat, epoch).is_some_and(|list| list.seats().any(is_own));
        if !is_possible || self.changing.is_some() || self.giving.is_some() {
            return false;
        }
        self.changing = Some(Changing { seat, since: now });
        self.state = State::Active { epoch, wanted, until, renew_at: now };
        self.handle_timeout(now, out);
        true
    }

    /// Whether no change of the list is under way, and a majority has the list on disk.
    pub fn has_list_settled(&self, now: Instant) -> bool {
        let is_quiet = self.changing.is_none() && self.list.change().is_none();
        is_quiet && self.tally.has_list_on_disk(now, &self.list)
    }

    /// Goes on with a change when the votes allow it.
    pub(super) fn settle_change(&mut self, now: Instant, out: &mut Vec<Output>) {
        let State::Active { epoch, wanted, until, .. } = self.state else { return };
        let next = match self.changing {
            Some(Changing { seat, since }) => {
                // Votes from before do not show that their voters are still there.
                let fresh = since + LeasePlan::counted(self.plan.lease);
                self.list
                    .changed(seat, epoch)
                    .filter(|list| self.tally.deadline(list, epoch) >= fresh.max(now))
            }
            None if self.list.change().is_some() && self.may_settle(now) => self.list.settled(epoch),
            None => None,
        };
        if let Some(next) = next {
            self.list = next;
            self.changing = None;
            self.state = State::Active { epoch, wanted, until, renew_at: now };
            self.handle_timeout(now, out);
        }
    }

    /// Ends the wait for votes that do not come.
    pub(super) fn changing_timeout(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.changing.is_some_and(|changing| changing.until() <= now) {
            self.changing = None;
            out.push(Output::ListUnchanged);
        }
    }

    fn may_settle(&self, now: Instant) -> bool {
        self.tally.has_list_on_disk(now, &self.list) || fault::is_planted(Fault::ChangeUnsettled)
    }
}

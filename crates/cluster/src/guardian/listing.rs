//! Who votes, as an operator wants it: solo, the configured list, a voter that took another one's place.
//!
//! The contender changes one seat at a time; this goes from seat to seat until the list is as it was wanted. What is still
//! to be done is known to the active node alone: if that ends, the change that has begun is settled by the next one, and
//! the operator is told that the rest was not done.

use std::time::Duration;

use clock::Instant;

use super::{Guardian, Output, Refused, Wish};
use crate::{Epoch, MemberId, Seat, VoterId, VoterList};

/// How long all changes may take; each has less.
const LISTING_MAX: Duration = Duration::from_secs(20);

/// The seats that an operator wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    wanted: VoterList,
    since: Instant,
}

impl Listing {
    /// Whether a voter is to get a seat.
    pub(super) fn adds(&self, member: MemberId, voter: VoterId) -> bool {
        self.wanted.has(member, voter)
    }

    /// The seat that is to change next: what is missing is added before anything is removed, and of what is to be removed
    /// those come first that do not vote.
    fn next(&self, list: &VoterList, votes: &[VoterId]) -> Option<Seat> {
        let missing = self.wanted.seats().find(|seat| !list.seats().any(|other| other == *seat));
        let votes = |seat: &Seat| seat.voter.is_some_and(|voter| votes.contains(&voter));
        let mut surplus: Vec<Seat> =
            list.seats().filter(|seat| !self.wanted.seats().any(|other| other == *seat)).collect();
        surplus.sort_by_key(votes);
        missing.or_else(|| surplus.first().copied())
    }
}

impl Guardian {
    /// What the operator wants of the list of voters.
    pub(super) fn wish_list(&mut self, now: Instant, wish: Wish, out: &mut Vec<Output>) {
        match self.begin_listing(now, wish) {
            Ok(()) => {}
            Err(refused) => out.push(Output::ListChanged(Err(refused))),
        }
    }

    fn begin_listing(&mut self, now: Instant, wish: Wish) -> Result<(), Refused> {
        let (on, force) = match wish {
            Wish::Solo { on, force } => (on, force),
            _ => (false, false),
        };
        if self.lease(now).is_none() {
            return if on && force { self.decree(now) } else { Err(Refused::NotActive) };
        }
        if self.listing.is_some() || self.role.wants_relief() {
            return Err(Refused::Busy);
        }
        let list = *self.contender.list();
        let seats: Vec<Seat> = match wish {
            Wish::Accept(id) => {
                let stranger = self.members.get(&id).and_then(|member| member.stranger);
                let voter = Some(stranger.ok_or(Refused::VoterUnknown(id))?);
                let others = list.seats().filter(|seat| seat.member != id);
                others.chain([Seat { member: id, voter }]).collect()
            }
            _ if on => {
                let is_witness = |id: MemberId| self.members.get(&id).is_some_and(|member| member.is_witness);
                let witnesses = list.seats().filter(|seat| is_witness(seat.member) && !force);
                witnesses.chain([Seat { member: self.member, voter: Some(self.voter.id()) }]).collect()
            }
            _ => self.configured_seats(now)?,
        };
        self.listing = Some(Listing { wanted: VoterList::new(list.version(), seats, None), since: now });
        Ok(())
    }

    /// A seat for each member; who has none yet must be there to vote.
    fn configured_seats(&self, now: Instant) -> Result<Vec<Seat>, Refused> {
        let list = self.contender.list();
        let seats = self.members.iter().map(|(id, member)| {
            let seated: Vec<Seat> = list.seats().filter(|seat| seat.member == *id).collect();
            let is_heard = member.heard.is_some_and(|heard| now.since(heard) <= super::HELLO_EVERY * 3);
            let newcomer =
                member.stranger.filter(|_| is_heard).map(|voter| Seat { member: *id, voter: Some(voter) });
            match seated[..] {
                [] => newcomer.map(|seat| vec![seat]).ok_or(Refused::VoterUnknown(*id)),
                _ => Ok(seated),
            }
        });
        Ok(seats.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// This node alone is the list: the operator has seen that all others are off.
    fn decree(&mut self, now: Instant) -> Result<(), Refused> {
        let seat = Seat { member: self.member, voter: Some(self.voter.id()) };
        let epoch = Epoch(self.contender.highest().0 + 1);
        self.contender.saw_epoch(epoch);
        let list = self.contender.list().decreed(seat, epoch).ok_or(Refused::Busy)?;
        self.contender.give_up(&mut self.by_contender);
        self.contender.saw_list(&list);
        self.listing = Some(Listing { wanted: list, since: now });
        Ok(())
    }

    /// Goes on with what was wanted.
    pub(super) fn go_on_listing(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(listing) = self.listing else { return };
        if !self.contender.has_list_settled(now) {
            return;
        }
        let votes: Vec<VoterId> = self.contender.votes(now).collect();
        match listing.next(self.contender.list(), &votes) {
            None => self.end_listing(Ok(()), out),
            Some(seat) => {
                if !self.contender.change_list(now, seat, &mut self.by_contender) {
                    self.end_listing(Err(Refused::Busy), out);
                }
            }
        }
    }

    /// When a change has taken too long.
    pub(super) fn listing_due(&self) -> Option<Instant> {
        self.listing.map(|listing| listing.since + LISTING_MAX)
    }

    pub(super) fn bound_listing(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.listing_due().is_some_and(|due| due <= now) {
            self.end_listing(Err(Refused::NoMajority), out);
        }
    }

    /// What was wanted is done, or can not be done.
    pub(super) fn end_listing(&mut self, result: Result<(), Refused>, out: &mut Vec<Output>) {
        if self.listing.take().is_some() {
            out.push(Output::ListChanged(result));
        }
    }
}

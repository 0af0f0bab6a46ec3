//! The list of voters: who has a seat, under which version, and what is changing.
//!
//! A change adds or removes one seat, and is two versions: under the first one a contender counts a majority of the old
//! *and* of the new seats; when a majority of both has that version on disk, the second one has the new seats alone.
//! A voter refuses a lower version than it has, so whoever counts by an old list finds no majority any more.
//!
//! Invariant: two lists that may be in force at the same time have a majority of some common seats in their count.

use crate::{Epoch, ListVersion, MemberId, VoterId};

/// Voters of one service. Seven survive the loss of three; more only cost datagrams.
pub const SEATS_MAX: usize = 7;

/// One seat: a member, and the voter that may vote from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// On which host.
    pub member: MemberId,
    /// Its voter. `None`: not heard yet; the seat counts for the majority, and nobody can vote from there.
    pub voter: Option<VoterId>,
}

type Seats = [Option<Seat>; SEATS_MAX];

/// A list of voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterList {
    version: ListVersion,
    /// In order, and no seat twice; what is free comes last.
    seats: Seats,
    /// The one seat that the list before has and this one lacks, or the other way round, while both are counted.
    change: Option<Seat>,
}

impl VoterList {
    /// No list yet: that of a voter which nobody has told of one.
    pub const NONE: Self = Self { version: ListVersion(0), seats: [None; SEATS_MAX], change: None };

    /// The first list, of all members of the configuration; their voters are not heard yet.
    pub fn of_members(members: impl IntoIterator<Item = MemberId>) -> Self {
        Self::new(ListVersion::FIRST, members.into_iter().map(|member| Seat { member, voter: None }), None)
    }

    /// A list as it was written down; double seats and those beyond [`SEATS_MAX`] are left out.
    pub fn new(version: ListVersion, seats: impl IntoIterator<Item = Seat>, change: Option<Seat>) -> Self {
        let mut list = Self { version, change, ..Self::NONE };
        for seat in seats {
            if !list.seats().any(|other| other == seat) {
                list.seats = sorted(list.seats, seat);
            }
        }
        list
    }

    /// The version.
    pub fn version(&self) -> ListVersion {
        self.version
    }

    /// The seats.
    pub fn seats(&self) -> impl Iterator<Item = Seat> {
        self.seats.into_iter().flatten()
    }

    /// The seat that is being added or removed.
    pub fn change(&self) -> Option<Seat> {
        self.change
    }

    /// Whether a voter may vote for a member.
    pub fn has(&self, member: MemberId, voter: VoterId) -> bool {
        let seat = Seat { member, voter: Some(voter) };
        self.seats().chain(self.change).any(|other| other == seat)
    }

    /// Whether a member has a seat.
    pub fn has_member(&self, member: MemberId) -> bool {
        self.seats().any(|seat| seat.member == member)
    }

    /// Gives a seat whose voter was not heard its voter.
    pub fn learn(&mut self, member: MemberId, voter: VoterId) {
        let unheard = Seat { member, voter: None };
        for seat in self.seats.iter_mut().chain([&mut self.change]).flatten().filter(|seat| **seat == unheard)
        {
            seat.voter = Some(voter);
        }
    }

    /// The same list, with the voters that the other one knows and this one does not.
    pub fn with_voters_of(mut self, other: &Self) -> Self {
        for seat in other.seats() {
            if let Some(voter) = seat.voter {
                self.learn(seat.member, voter);
            }
        }
        self
    }

    /// Whether the other list of this version names another voter for a member: that voter's disk was emptied, restored,
    /// or replaced since.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.version == other.version
            && self.seats().any(|one| {
                let theirs = || other.seats().filter(|seat| seat.member == one.member);
                one.voter.is_some()
                    && theirs().any(|seat| seat.voter.is_some())
                    && theirs().all(|seat| seat != one)
            })
    }

    /// The list that adds this seat, or removes it if it is there, counting both; made by the holder of `epoch`.
    ///
    /// `None`: another change is under way, there is no room, or nobody would be left.
    pub fn changed(&self, seat: Seat, epoch: Epoch) -> Option<Self> {
        let seats = toggled(self.seats, seat);
        let count = seats.iter().flatten().count();
        let is_possible = self.change.is_none() && seats != self.seats && count > 0;
        is_possible.then_some(Self { version: self.version.next(epoch)?, seats, change: Some(seat) })
    }

    /// The list with its change at an end.
    pub fn settled(&self, epoch: Epoch) -> Option<Self> {
        Some(Self { version: self.version.next(epoch)?, seats: self.seats, change: None })
    }

    /// A list that an operator decrees, because no majority is left that could change it.
    pub fn decreed(&self, seat: Seat, epoch: Epoch) -> Option<Self> {
        Some(Self::new(self.version.next(epoch)?, [seat], None))
    }

    /// All voters that are counted, each once.
    pub fn voters(&self) -> impl Iterator<Item = VoterId> {
        let removed = self.change.filter(|change| !self.seats().any(|seat| seat == *change));
        self.seats().chain(removed).filter_map(|seat| seat.voter)
    }

    /// How many votes make a majority of the seats; of an even number too it is more than half.
    pub fn majority(&self) -> usize {
        majority(&self.seats)
    }

    /// Whether those voters for which it is so are a majority, of the old seats too while the list changes.
    pub fn is_majority(&self, mut is_so: impl FnMut(VoterId) -> bool) -> bool {
        self.counted().all(|seats| {
            let count = seats.iter().flatten().filter(|seat| seat.voter.is_some_and(&mut is_so)).count();
            count >= majority(&seats)
        })
    }

    /// The sets of seats of which a majority is needed, each.
    pub(crate) fn counted(&self) -> impl Iterator<Item = Seats> {
        let before = self.change.map(|change| toggled(self.seats, change));
        [self.seats].into_iter().chain(before)
    }
}

pub(crate) fn majority(seats: &Seats) -> usize {
    seats.iter().flatten().count() / 2 + 1
}

fn toggled(seats: Seats, seat: Seat) -> Seats {
    if !seats.contains(&Some(seat)) {
        return sorted(seats, seat);
    }
    let mut left = [None; SEATS_MAX];
    for (place, kept) in left.iter_mut().zip(seats.into_iter().flatten().filter(|other| *other != seat)) {
        *place = Some(kept);
    }
    left
}

/// With one seat more, if there is room.
fn sorted(mut seats: Seats, seat: Seat) -> Seats {
    if let Some(free) = seats.iter_mut().find(|place| place.is_none()) {
        *free = Some(seat);
    }
    seats.sort_unstable_by_key(|place| (place.is_none(), *place));
    seats
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch(3);

    #[test]
    fn of_an_even_number_of_voters_half_is_no_majority() {
        assert_eq!([1, 2, 3, 4, 5].map(|count| list(1..=count).majority()), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_voter_that_was_never_heard_counts_for_the_majority() {
        let mut list = VoterList::of_members([0, 1, 2].map(MemberId));
        list.learn(MemberId(0), VoterId(1));

        assert_eq!(list.majority(), 2);
        assert!(!list.is_majority(|_| true));
        list.learn(MemberId(2), VoterId(3));
        assert!(list.is_majority(|_| true));
    }

    #[test]
    fn a_seat_is_there_once() {
        let list = VoterList::new(ListVersion(1), [seat(1), seat(1), seat(2)], None);

        assert_eq!(list.seats().collect::<Vec<_>>(), [seat(1), seat(2)]);
    }

    #[test]
    fn while_the_list_changes_both_majorities_are_needed() {
        let removing = list(1..=2).changed(seat(2), EPOCH).expect("a change");
        assert!(!removing.is_majority(|voter| voter == VoterId(1)), "one of the two old ones is no majority");
        assert!(removing.is_majority(|_| true));

        let settled = removing.settled(EPOCH).expect("a version");
        assert!(settled.is_majority(|voter| voter == VoterId(1)));

        let adding = list(1..=3).changed(seat(4), EPOCH).expect("a change");
        let are = |voters: &[u64]| adding.is_majority(|voter| voters.contains(&voter.0));
        assert!(!are(&[1, 2]), "two of the four new ones are no majority");
        assert!(are(&[1, 2, 4]));
        assert!(!are(&[1, 4]));
        assert_eq!(adding.voters().count(), 4);
    }

    #[test]
    fn one_change_at_a_time() {
        let changing = list(1..=3).changed(seat(4), EPOCH).expect("a change");

        assert_eq!(changing.changed(seat(5), EPOCH), None);
        assert_eq!(list(1..=1).changed(seat(1), EPOCH), None, "nobody would be left");
        assert_eq!(list(1..=7).changed(seat(8), EPOCH), None, "there is no room");
    }

    #[test]
    fn two_holders_never_make_the_same_version() {
        let first = list(1..=3);
        let one = first.changed(seat(4), Epoch(5)).expect("a change");
        let other = first.changed(seat(5), Epoch(6)).expect("a change");

        assert!(first.version() < one.version());
        assert!(one.version() < other.version());
        assert!(one.settled(Epoch(5)).expect("a version").version() < other.version());
    }

    #[test]
    fn a_list_with_another_voter_at_the_same_place_contradicts() {
        let known = list(1..=3);
        let mut unheard = VoterList::of_members([1, 2, 3].map(MemberId));
        assert!(!unheard.contradicts(&known) && !known.contradicts(&unheard));
        unheard.learn(MemberId(1), VoterId(9));

        assert!(unheard.contradicts(&known) && known.contradicts(&unheard));
        assert!(!list(1..=4).settled(EPOCH).expect("a version").contradicts(&unheard), "of another version");
    }

    fn seat(number: u64) -> Seat {
        Seat { member: MemberId(number as u8), voter: Some(VoterId(number)) }
    }

    fn list(numbers: std::ops::RangeInclusive<u64>) -> VoterList {
        VoterList::new(ListVersion::FIRST, numbers.map(seat), None)
    }
}

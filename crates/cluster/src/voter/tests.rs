use crate::{Incarnation, ListVersion, MemberId, RequestNumber, Seat};

use super::*;

const LEASE: Duration = Duration::from_millis(500);
const A: Holder = Holder { node: NodeId(0), incarnation: Incarnation(1) };
const B: Holder = Holder { node: NodeId(1), incarnation: Incarnation(2) };

#[test]
fn a_change_is_on_disk_before_it_is_answered() {
    let mut bench = Bench::new();

    bench.ask(A, 1);
    assert!(matches!(bench.out[..], [Output::Keep(..)]));
    bench.keep(true);

    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_renewal_waits_for_no_disk() {
    let mut bench = Bench::granted_to(A);

    bench.ask(A, 1);

    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_renewal_waits_for_nothing_else_that_is_being_written() {
    let mut bench = Bench::granted_to(A);
    bench.voter.reserve(Epoch(7), &mut bench.out);
    bench.out.clear();

    bench.ask(A, 1);

    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_renewal_for_longer_waits_for_the_disk() {
    let mut bench = Bench::granted_to(A);
    let mut ask = bench.question(A, 1);
    ask.lease = LEASE * 2;

    bench.voter.handle_ask(bench.now, ask, &mut bench.out);

    assert!(matches!(bench.out[..], [Output::Keep(..)]));
}

#[test]
fn a_renewal_for_less_takes_nothing_of_what_was_granted_before() {
    let mut bench = Bench::granted_to(A);
    let mut ask = bench.question(A, 1);
    ask.lease = LEASE / 5;
    bench.voter.handle_ask(bench.now, ask, &mut bench.out);
    bench.out.clear();

    bench.now += LEASE / 2;
    bench.ask(B, 2);

    assert_eq!(bench.refusal().left, LEASE / 2, "A counts by what it was granted first");
}

#[test]
fn nobody_else_is_granted_while_a_grant_lasts() {
    let mut bench = Bench::granted_to(A);

    bench.ask(B, 2);

    assert_eq!(bench.refusal().cause, RefusalCause::Held);
    assert_eq!(bench.refusal().left, LEASE);
}

#[test]
fn what_is_being_written_bars_others_already() {
    let mut bench = Bench::new();
    bench.ask(A, 1);
    bench.out.clear();

    bench.ask(B, 2);

    assert_eq!(bench.refusal().cause, RefusalCause::Held);
}

#[test]
fn a_grant_that_has_run_out_makes_room_for_a_higher_epoch_only() {
    let mut bench = Bench::granted_to(A);
    bench.now += LEASE;

    bench.ask(B, 1);
    assert_eq!(bench.refusal().cause, RefusalCause::EpochUsed);
    bench.out.clear();
    bench.ask(B, 2);
    bench.keep(true);

    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_restarted_voter_renews_the_holder_that_its_disk_names_and_nobody_else() {
    let mut bench = Bench::granted_to(A);
    bench.restart();

    bench.ask(B, 2);
    assert_eq!(bench.refusal().cause, RefusalCause::Restarted);
    bench.out.clear();
    bench.ask(A, 1);
    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
    bench.out.clear();
    bench.now += LEASE;
    bench.ask(B, 2);
    bench.keep(true);
    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_voter_that_stood_still_waits_as_after_a_start() {
    let mut bench = Bench::granted_to(A);
    bench.release(A, 1);
    bench.keep(true);
    bench.voter.stood_still(bench.now);

    bench.ask(B, 2);
    assert_eq!((bench.refusal().cause, bench.refusal().left), (RefusalCause::Restarted, LEASE));
    bench.out.clear();
    bench.now += LEASE;
    bench.ask(B, 2);
    bench.keep(true);

    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_question_from_before_it_stood_still_is_not_answered_after() {
    let mut bench = Bench::new();
    bench.ask(A, 1);

    bench.voter.stood_still(bench.now);
    bench.keep(true);

    assert!(!bench.out.iter().any(|output| matches!(output, Output::Answer(..))));
}

#[test]
fn another_start_of_the_holder_is_another_holder() {
    let mut bench = Bench::granted_to(A);

    bench.ask(Holder { incarnation: Incarnation(9), ..A }, 2);

    assert_eq!(bench.refusal().cause, RefusalCause::Held);
}

#[test]
fn a_release_frees_its_own_grant_and_closes_its_epoch() {
    let mut bench = Bench::granted_to(A);
    bench.release(B, 1);
    bench.ask(B, 2);
    assert_eq!(bench.refusal().cause, RefusalCause::Held, "it was not B's to release");
    bench.out.clear();

    bench.release(A, 1);
    bench.keep(true);
    bench.ask(A, 1);
    assert_eq!(bench.refusal().cause, RefusalCause::EpochUsed);
    bench.out.clear();
    bench.ask(B, 2);
    bench.keep(true);
    assert_eq!(bench.verdict(), Verdict::Granted(LEASE));
}

#[test]
fn a_voter_whose_disk_fails_votes_no_more() {
    let mut bench = Bench::granted_to(A);
    bench.now += LEASE;
    bench.ask(B, 2);
    bench.keep(false);
    assert_eq!(bench.out, [Output::Alarm(Alarm::DiskFailed)]);
    bench.out.clear();

    bench.ask(A, 1);

    assert_eq!(bench.refusal().cause, RefusalCause::NotVoting);
}

#[test]
fn an_old_list_of_voters_is_refused() {
    let mut bench = Bench::granted_to(A);
    let mut ask = bench.question(A, 1);
    ask.list = ask.list.changed(seat(4), Epoch(1)).expect("a change");
    bench.voter.handle_ask(bench.now, ask, &mut bench.out);
    assert!(matches!(bench.out[..], [Output::Keep(_, Record { list, .. })] if list == ask.list));
    bench.keep(true);
    assert_eq!(bench.verdict(), Verdict::Granted(LEASE), "after it was written");
    bench.restart();

    bench.ask(A, 1);

    assert_eq!(bench.refusal().cause, RefusalCause::OldList);
    assert!(bench.out.contains(&Output::Tell(A.node, ask.list)));
}

#[test]
fn a_list_with_a_voter_that_took_another_ones_place_is_refused() {
    let mut bench = Bench::granted_to(A);
    let mut ask = bench.question(A, 1);
    ask.list =
        VoterList::new(ListVersion::FIRST, [seat(1), Seat { voter: Some(VoterId(9)), ..seat(2) }], None);

    bench.voter.handle_ask(bench.now, ask, &mut bench.out);

    assert_eq!(bench.refusal().cause, RefusalCause::OldList);
}

#[test]
fn a_lease_that_is_too_long_is_refused() {
    let mut bench = Bench::new();
    for lease in [Duration::ZERO, LEASE_MAX + Duration::from_nanos(1)] {
        let mut ask = bench.question(A, 1);
        ask.lease = lease;
        bench.voter.handle_ask(bench.now, ask, &mut bench.out);
        assert_eq!(bench.refusal().cause, RefusalCause::LeaseUnfit);
        bench.out.clear();
    }
}

#[test]
fn two_machines_with_one_name_are_found_by_their_turns() {
    let mut bench = Bench::new();
    let copy = Holder { incarnation: Incarnation(9), ..A };
    for _ in 0..6 {
        bench.ask(A, 1);
        bench.ask(copy, 1);
    }

    assert!(bench.out.contains(&Output::Alarm(Alarm::Cloned(A.node))));
    bench.out.clear();
    bench.ask(A, 1);
    assert_eq!(bench.refusal().cause, RefusalCause::Cloned);
}

#[test]
fn a_start_that_replaces_another_is_no_copy_though_datagrams_are_late() {
    let mut bench = Bench::new();
    let next = Holder { incarnation: Incarnation(9), ..A };
    let late = bench.question(A, 1);
    bench.ask(A, 1);
    for _ in 0..10 {
        bench.ask(next, 1);
        bench.voter.handle_ask(bench.now, late, &mut bench.out);
    }

    assert!(!bench.out.iter().any(|output| matches!(output, Output::Alarm(_))));
}

fn seat(number: u64) -> Seat {
    Seat { member: MemberId(number as u8), voter: Some(VoterId(number)) }
}

struct Bench {
    now: Instant,
    voter: Voter,
    numbers: u64,
    out: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::START + Duration::from_secs(1);
        let record = Record::first(VoterId(1));
        Self { now, voter: Voter::new(now, ServiceId(0), record), numbers: 0, out: Vec::new() }
    }

    /// Epoch 1 is granted, and on disk.
    fn granted_to(holder: Holder) -> Self {
        let mut bench = Self::new();
        bench.ask(holder, 1);
        bench.keep(true);
        bench.out.clear();
        bench
    }

    fn question(&mut self, holder: Holder, epoch: u64) -> Ask {
        self.numbers += 1;
        Ask {
            service: ServiceId(0),
            holder,
            number: RequestNumber(self.numbers),
            epoch: Epoch(epoch),
            lease: LEASE,
            list: VoterList::new(ListVersion::FIRST, [1, 2, 3].map(seat), None),
        }
    }

    fn ask(&mut self, holder: Holder, epoch: u64) {
        let ask = self.question(holder, epoch);
        self.voter.handle_ask(self.now, ask, &mut self.out);
    }

    fn release(&mut self, holder: Holder, epoch: u64) {
        let release = Release { service: ServiceId(0), holder, epoch: Epoch(epoch) };
        self.voter.handle_release(release, &mut self.out);
    }

    /// The disk has done, or not, what it was asked for.
    fn keep(&mut self, is_kept: bool) {
        for output in std::mem::take(&mut self.out) {
            if let Output::Keep(write, _) = output {
                self.voter.handle_kept(self.now, write, is_kept, &mut self.out);
            }
        }
    }

    fn restart(&mut self) {
        self.voter = Voter::new(self.now, ServiceId(0), self.voter.kept);
    }

    fn verdict(&self) -> Verdict {
        let answer = self.out.iter().rev().find_map(|output| match output {
            Output::Answer(_, answer) => Some(answer.verdict),
            _ => None,
        });
        answer.expect("an answer")
    }

    fn refusal(&self) -> Refusal {
        match self.verdict() {
            Verdict::Refused(refusal) => refusal,
            Verdict::Granted(_) => panic!("a refusal was expected"),
        }
    }
}

use super::*;
use crate::{Epoch, Incarnation, LEASE_MAX, MemberId, NodeId, RequestNumber, Seat, VoterId, VoterList};

const LEASE: Duration = Duration::from_millis(500);
const SERVICE: ServiceId = ServiceId(0);
const ONE: History = History(1);
const A: Holder = Holder { node: NodeId(0), incarnation: Incarnation(1) };
const B: Holder = Holder { node: NodeId(1), incarnation: Incarnation(2) };

#[test]
fn a_row_is_read_as_it_was_written_and_no_changed_digit_goes_unseen() {
    let row = held(A, 7);
    let text = row.to_text();
    assert_eq!((Row::from_text(&text), text.len()), (Ok(row), ROW_TEXT_MAX));
    for place in 0..text.len() {
        let mut bad = text.clone().into_bytes();
        bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
        assert!(Row::from_text(&String::from_utf8(bad).expect("digits")).is_err(), "digit {place}");
    }
    for bad in ["", "00", &text[1..], &text.replace('0', "g"), &text.replace('0', "\u{e9}")] {
        assert!(Row::from_text(bad).is_err(), "{bad}");
    }
    // What reads well and is written otherwise could never be compared with.
    assert_eq!(Row::from_text(&text.to_uppercase()), Err(RowError::Unlikely));
    for unlikely in [Row { lease: LEASE_MAX * 2, ..row }, Row { writes: u64::MAX, ..row }] {
        assert_eq!(Row::from_text(&unlikely.to_text()), Err(RowError::Unlikely));
    }
}

#[test]
fn where_there_is_no_row_one_is_made_that_is_another_voter_each_time() {
    let mut world = World::new();
    world.show(None, ONE);
    let first = world.change();
    assert_eq!((first.before, first.after.writes), (None, 1));
    world.written(Written::Done);

    world.after(CALM);
    world.show(None, ONE);

    assert_ne!(world.change().after.record.voter, first.after.record.voter);
}

#[test]
fn a_row_that_another_one_holds_is_taken_when_it_has_stood_still_for_the_whole_lease() {
    let mut world = World::new();
    let row = held(A, 7);
    world.show(Some(row), ONE);
    world.ask(B, 8);
    assert_eq!(world.refused(), (RefusalCause::Held, LEASE));
    world.stand_still(row, LEASE - Duration::from_millis(25));

    world.ask(B, 8);
    assert_eq!(world.refused().0, RefusalCause::Held);
    world.stand_still(row, Duration::from_millis(25));
    world.ask(B, 9);

    let change = world.change();
    assert_eq!((change.before, change.after.record.holder), (Some(row), Some(B)));
    assert_eq!((change.after.record.epoch, change.after.writes), (Epoch(9), row.writes + 1));
    assert_eq!(change.durability, Durability::Durable);
    assert_eq!(world.said(), [], "it is not granted before it is written");
    world.written(Written::Done);
    assert_eq!(world.granted(), Some(Epoch(9)));
}

#[test]
fn the_watch_begins_anew_with_any_change_error_server_or_silence() {
    let row = held(A, 7);
    let almost = LEASE - Duration::from_millis(25);
    let changed = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        world.show(Some(row), ONE);
        world.stand_still(row, almost);
        change(&mut world);
        world.ask(B, 8);
        world.refused().1
    };
    let renewed = Row { writes: row.writes + 1, ..row };
    let older = Row { writes: row.writes - 1, ..row };

    assert_eq!(changed(&|_| {}), Duration::from_millis(25));
    assert_eq!(changed(&|world| world.show_next(renewed, ONE)), LEASE);
    assert_eq!(changed(&|world| world.show_next(older, ONE)), LEASE, "it went back");
    assert_eq!(changed(&|world| world.show_next(row, History(2))), LEASE, "another server");
    let failed = |world: &mut World| {
        world.after(Duration::from_millis(25));
        world.fail();
        world.after(PAUSE_MIN);
        world.show(Some(row), ONE);
    };
    assert_eq!(changed(&failed), LEASE);
    let silent = |world: &mut World| {
        world.after(LEASE);
        world.show(Some(row), ONE);
    };
    assert_eq!(changed(&silent), LEASE);
}

#[test]
fn a_row_is_watched_from_when_it_was_shown_and_not_from_when_it_was_asked_for() {
    let mut world = World::new();
    world.now += LEASE / 2;
    world.show(Some(held(A, 7)), ONE);

    world.ask(B, 8);

    assert_eq!(world.refused().1, LEASE);
}

#[test]
fn a_write_fits_the_row_and_the_server_that_were_seen_and_no_other() {
    let row = held(A, 7);
    let after = Row { writes: row.writes + 1, ..row };
    let change = Change { before: Some(row), history: ONE, after, durability: Durability::Renewal };

    assert!(change.fits(Some(&row), ONE));
    assert!(!change.fits(Some(&row), History(2)), "another server");
    assert!(!change.fits(Some(&after), ONE), "written meanwhile");
    assert!(!change.fits(None, ONE));
}

#[test]
fn the_longer_one_of_both_leases_is_watched_for() {
    let mut world = World::new();
    world.show(Some(Row { lease: LEASE * 3, ..held(A, 7) }), ONE);

    world.ask(B, 8);

    assert_eq!(world.refused().1, LEASE * 3);
}

#[test]
fn a_renewal_needs_no_watch_and_counts_only_when_the_server_has_it() {
    for (written, is_granted) in [(Written::Done, true), (Written::Lost, false), (Written::Unknown, false)] {
        let mut world = World::new();
        world.show(Some(held(A, 7)), ONE);
        world.ask(A, 7);
        assert_eq!(world.change().durability, Durability::Renewal);

        world.written(written);

        assert_eq!(world.granted().is_some(), is_granted, "{written:?}");
    }
}

#[test]
fn a_write_that_took_effect_unseen_is_gone_on_from() {
    let mut world = World::new();
    world.show(Some(held(A, 7)), ONE);
    world.ask(A, 7);
    let after = world.change().after;
    world.written(Written::Unknown);
    world.after(PAUSE_MIN);
    assert_eq!(world.outputs(), [Output::Read]);

    world.show(Some(after), ONE);

    assert_eq!(world.change().before, Some(after));
    world.written(Written::Done);
    assert_eq!(world.granted(), Some(Epoch(7)));
}

#[test]
fn a_holder_that_asks_for_less_keeps_what_it_was_granted_before() {
    let mut world = World::new();
    world.show(Some(Row { lease: LEASE * 4, ..held(A, 7) }), ONE);

    world.ask(A, 7);

    assert_eq!(world.change().after.lease, LEASE * 4);
}

#[test]
fn a_release_frees_the_named_grant_and_no_other() {
    let release = |holder, epoch| {
        let mut world = World::new();
        world.show(Some(held(A, 7)), ONE);
        world.tell(Message::Release(Release { service: SERVICE, holder, epoch: Epoch(epoch) }));
        world.outputs()
    };
    let [Output::Write(change)] = release(A, 7)[..] else { unreachable!("it is written down") };
    assert_eq!((change.after.lease, change.after.record.closed), (Duration::ZERO, Epoch(7)));
    assert_eq!(change.durability, Durability::Durable);
    assert_eq!(release(A, 6), []);
    assert_eq!(release(B, 7), []);
    assert_eq!(release(Holder { incarnation: Incarnation(9), ..A }, 7), [], "another start of A");
}

#[test]
fn a_released_row_is_taken_at_once_but_not_from_a_server_that_was_not_there_before() {
    let free = Row { lease: Duration::ZERO, ..held(A, 7) };
    let mut world = World::new();
    world.show(Some(free), ONE);
    world.ask(B, 8);
    assert_eq!(world.refused(), (RefusalCause::Restarted, LEASE));
    world.stand_still(free, LEASE);
    world.ask(B, 8);
    assert_eq!(world.change().after.record.epoch, Epoch(8));
}

#[test]
fn a_list_that_the_row_has_a_later_one_of_is_refused_and_told() {
    let later = VoterList::new(crate::ListVersion(9), [seat(0), seat(1)], None);
    let mut row = held(A, 7);
    row.record.list = later;
    let mut world = World::new();
    world.show(Some(row), ONE);

    world.ask(A, 7);

    let said = world.said();
    assert_eq!(said[0], Message::List(SERVICE, later));
    let Message::Answer(Answer { verdict: Verdict::Refused(refusal), .. }) = said[1] else {
        unreachable!("it is refused")
    };
    assert_eq!(refusal.cause, RefusalCause::OldList);
}

#[test]
fn a_server_that_fails_is_asked_ever_more_seldom_and_a_question_does_not_wait_for_ever() {
    let mut world = World::new();
    world.ask(A, 1);
    for pause in [20, 40, 80, 160, 320, 320] {
        world.fail();
        assert_eq!(world.outputs(), [], "not before its time");
        world.after(Duration::from_millis(pause));
        assert_eq!(world.outputs(), [Output::Read]);
    }
    world.show(Some(Row { lease: Duration::ZERO, ..held(B, 0) }), ONE);
    assert_eq!(world.said(), [], "what was asked so long ago serves nobody");
}

/// A voter, its clock, and what it wants.
struct World {
    voter: RowVoter,
    now: Instant,
    out: Vec<Output>,
    asked: u64,
}

impl World {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut this = Self { voter: RowVoter::new(now, SERVICE, 77), now, out: Vec::new(), asked: 0 };
        this.after(Duration::ZERO);
        this
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.voter.handle_timeout(self.now, &mut self.out);
    }

    fn show(&mut self, row: Option<Row>, history: History) {
        assert!(matches!(self.voter.state, State::Reading { .. }), "it wants to see the row");
        self.out.retain(|output| *output != Output::Read);
        self.voter.handle_seen(self.now, Ok(Seen { row, history }), &mut self.out);
    }

    fn show_next(&mut self, row: Row, history: History) {
        self.after(Duration::from_millis(25));
        self.show(Some(row), history);
    }

    /// The row is looked at as often as is wanted, and stands still.
    fn stand_still(&mut self, row: Row, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let due = self.voter.poll_timeout().expect("nothing is under way").min(until);
            self.now = due;
            self.after(Duration::ZERO);
            if self.out.last() == Some(&Output::Read) {
                self.show(Some(row), ONE);
            }
        }
    }

    fn fail(&mut self) {
        self.out.retain(|output| *output != Output::Read);
        self.voter.handle_seen(self.now, Err(Unseen), &mut self.out);
    }

    fn written(&mut self, written: Written) {
        self.voter.handle_written(self.now, written, &mut self.out);
    }

    fn tell(&mut self, message: Message) {
        self.voter.handle_message(self.now, message, &mut self.out);
    }

    fn ask(&mut self, holder: Holder, epoch: u64) {
        self.asked += 1;
        let list = VoterList::new(crate::ListVersion::FIRST, [seat(0), seat(1), seat(2)], None);
        let number = RequestNumber(self.asked);
        self.tell(Message::Ask(Ask {
            service: SERVICE,
            holder,
            number,
            epoch: Epoch(epoch),
            lease: LEASE,
            list,
        }));
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    fn change(&mut self) -> Change {
        match self.outputs()[..] {
            [Output::Write(change)] => change,
            ref other => unreachable!("{other:?} instead of one write"),
        }
    }

    fn said(&mut self) -> Vec<Message> {
        let said = self.outputs().into_iter();
        said.filter_map(|output| if let Output::Say(message) = output { Some(message) } else { None })
            .collect()
    }

    fn granted(&mut self) -> Option<Epoch> {
        self.said().into_iter().find_map(|message| match message {
            Message::Answer(Answer { verdict: Verdict::Granted(_), epoch, .. }) => Some(epoch),
            _ => None,
        })
    }

    fn refused(&mut self) -> (RefusalCause, Duration) {
        let refused = self.said().into_iter().find_map(|message| match message {
            Message::Answer(Answer { verdict: Verdict::Refused(refusal), .. }) => {
                Some((refusal.cause, refusal.left))
            }
            _ => None,
        });
        refused.expect("it refuses")
    }
}

fn held(holder: Holder, epoch: u64) -> Row {
    let record = Record {
        epoch: Epoch(epoch),
        holder: Some(holder),
        longest: LEASE,
        list: VoterList::new(crate::ListVersion::FIRST, [seat(0), seat(1), seat(2)], None),
        ..Record::first(VoterId(3))
    };
    Row { record, lease: LEASE, writes: 40 }
}

fn seat(number: u8) -> Seat {
    Seat { member: MemberId(number), voter: Some(VoterId(u64::from(number) + 1)) }
}

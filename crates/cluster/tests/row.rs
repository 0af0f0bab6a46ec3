//! Two nodes and the server that has the witness's row, in the moments in which one rule of the row voter is all that keeps two
//! votes from counting at once. Chance meets them too seldom.

#[path = "row/story.rs"]
mod story;

use std::time::Duration;

use story::{Failover, Story};

/// What A holds at the beginning.
const EPOCH: u64 = 7;
const NEXT: u64 = 8;

/// What happens.
type Tale = fn(&mut Story);

/// A rule, by the name of the fault that leaves it out, and the tale in which that is seen.
const STORIES: [(&str, Tale); 4] = [
    ("RowWatchedFromAsking", a_look_that_takes_long_shows_a_row_that_was_just_renewed),
    ("RowHistoryUnchecked", a_take_is_under_way_when_a_renewal_is_lost),
    ("RowErrorIgnored", renewals_are_lost_and_the_connection_with_them),
    ("RowStrangerTrusted", a_take_is_lost),
];

#[cfg(not(feature = "test-faults"))]
#[test]
fn no_two_votes_of_a_row_count_at_once() {
    for (rule, tell) in STORIES {
        let told = told(tell);
        assert_eq!(told.doubled(), None, "the story of {rule}");
    }
}

/// One test, because a fault is planted in the whole process.
#[cfg(feature = "test-faults")]
#[test]
fn without_a_rule_of_the_row_its_story_ends_with_two_votes() {
    use cluster::fault::{ALL, plant};

    for (rule, tell) in STORIES {
        let fault =
            ALL.into_iter().find(|fault| format!("{fault:?}") == rule).expect("a fault has that name");
        assert_eq!(told(tell).doubled(), None, "the story of {rule}");
        plant(Some(fault));
        let doubled = told(tell).doubled();
        plant(None);
        assert!(doubled.is_some(), "nothing happens without {rule}");
    }
}

/// Tells a story to its end: A says nothing more, and B asks until it has the row.
fn told(tell: Tale) -> Story {
    let mut story = Story::begin(EPOCH);
    tell(&mut story);
    story.silence_a();
    for _ in 0..500 {
        if story.has_b() {
            return story;
        }
        story.b_asks(NEXT);
        story.run(ms(5));
    }
    unreachable!("B never gets the row: nothing is shown")
}

fn a_look_that_takes_long_shows_a_row_that_was_just_renewed(story: &mut Story) {
    a_renews(story, 10);
    story.slow_next_read_of_b(ms(190));
    story.run(ms(180));
    story.a_asks(EPOCH);
    story.run(ms(30));
}

fn a_take_is_under_way_when_a_renewal_is_lost(story: &mut Story) {
    a_renews(story, 10);
    story.slow_next_write_of_b(ms(50));
    while !story.b_writes() {
        story.b_asks(NEXT);
        story.run(ms(1));
    }
    story.a_asks(EPOCH);
    story.run(ms(5));
    story.fail_over(1, Failover::ToldByHistory);
    story.run(ms(60));
}

fn renewals_are_lost_and_the_connection_with_them(story: &mut Story) {
    a_renews(story, 10);
    story.slow_next_read_of_b(ms(190));
    for _ in 0..2 {
        story.run(ms(80));
        story.a_asks(EPOCH);
        story.run(ms(5));
    }
    story.fail_over(2, Failover::ToldByConnection);
    story.run(ms(30));
}

fn a_take_is_lost(story: &mut Story) {
    story.a_releases(EPOCH);
    // Nobody is a stranger to the server by then.
    story.run(Duration::from_secs(1));
    story.a_asks(NEXT);
    story.run(ms(3));
    story.fail_over(1, Failover::ToldByHistory);
}

fn a_renews(story: &mut Story, times: u32) {
    for _ in 0..times {
        story.a_asks(EPOCH);
        story.run(ms(100));
    }
    story.a_asks(EPOCH);
    // So that B has seen it.
    story.run(ms(30));
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

//! What was heard in one trial.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::{Side, Word};
use crate::lab::tap::longest_gap;
use crate::soak::trials::Outcome;
use crate::soak::trials::event::Event;

/// What was heard by both sides of all calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Calls.
    pub calls: u64,
    /// Calls of which a side heard nothing at the end, or that no BYE could end; in a planned switchover also those of which a
    /// packet was lost.
    pub hurt: u64,
    /// Calls of which a side heard nothing at the end.
    pub silent: u64,
    /// Calls that no BYE could end.
    pub open: u64,
    /// Calls of which a side heard somebody else.
    pub crossed: u64,
    /// Packets that were said and did not arrive, of all sides.
    pub lost: u64,
    /// Packets that arrived later than a phone waits for them.
    pub late: u64,
    /// The longest time for which a side heard nothing, in milliseconds: that of the middle side, and of the worst one.
    pub gap_ms: [u64; 2],
}

/// A phone has given up a packet that is under way for longer.
const LATE: Duration = Duration::from_millis(200);
/// What was said in the last moment may still be on its way.
const UNDER_WAY: Duration = Duration::from_millis(500);

impl Heard {
    /// From what each side heard, neighbours being one call: something happened at `from`, and who is heard after `end` is
    /// heard to the end. `open` says of each call whether it could not be ended.
    pub fn of(sides: &[Side], from: Duration, end: Duration, open: &[bool], event: Event) -> Heard {
        let mut gaps: Vec<u64> = sides.iter().map(|side| side.gap(from, end).as_millis() as u64).collect();
        gaps.sort_unstable();
        let mut heard = Heard {
            gap_ms: [gaps.get(gaps.len() / 2), gaps.last()].map(|gap| gap.copied().unwrap_or_default()),
            late: sides.iter().map(Side::late).sum(),
            ..Heard::default()
        };
        for (number, call) in sides.chunks(2).enumerate() {
            let is_silent = call.iter().any(|side| side.heard.last().is_none_or(|word| word.at <= end));
            let is_crossed = call.iter().any(|side| side.heard.iter().any(|word| word.source != side.other));
            let is_open = open.get(number).copied().unwrap_or_default();
            let lost: u64 = call.iter().map(Side::lost).sum();
            let is_hurt = is_silent || is_crossed || is_open || (lost > 0 && event == Event::Switchover);
            heard.calls += 1;
            heard.hurt += u64::from(is_hurt);
            heard.silent += u64::from(is_silent);
            heard.crossed += u64::from(is_crossed);
            heard.open += u64::from(is_open);
            heard.lost += lost;
        }
        heard
    }
}

impl Side {
    fn gap(&self, from: Duration, to: Duration) -> Duration {
        let times: Vec<Duration> =
            self.heard.iter().map(|word| word.at).filter(|at| (from..=to).contains(at)).collect();
        longest_gap(from, &times, to)
    }

    /// What did not arrive behind the first one that did.
    fn lost(&self) -> u64 {
        let heard: BTreeSet<u16> = self.heard.iter().map(|word| word.number).collect();
        let Some(last) = self.said.last() else { return 0 };
        let first = heard.first().copied().unwrap_or(1);
        let arrives = |number: u16| {
            self.said.get(usize::from(number) - 1).is_none_or(|said| *said + UNDER_WAY > *last)
                || heard.contains(&number)
        };
        (first..=self.said.len() as u16).filter(|number| !arrives(*number)).count() as u64
    }

    fn late(&self) -> u64 {
        let said = |word: &Word| usize::from(word.number).checked_sub(1).and_then(|at| self.said.get(at));
        self.heard.iter().filter(|word| said(word).is_some_and(|said| *said + LATE < word.at)).count() as u64
    }
}

impl Outcome for Heard {
    fn hurt(&self) -> u64 {
        self.hurt
    }

    fn complaints(&self) -> &[String] {
        &[]
    }

    fn json(&self) -> Value {
        let Heard { calls, hurt, silent, open, crossed, lost, late, gap_ms } = self;
        json!({
            "calls": calls, "hurt": hurt, "silent": silent, "open": open, "crossed": crossed, "lost": lost, "late": late,
            "gap_ms": gap_ms[0], "gap_most_ms": gap_ms[1],
        })
    }

    fn read(value: &Value) -> Option<Heard> {
        let number = |name: &str| value[name].as_u64();
        Some(Heard {
            calls: number("calls")?,
            hurt: number("hurt")?,
            silent: number("silent")?,
            open: number("open")?,
            crossed: number("crossed")?,
            lost: number("lost")?,
            late: number("late")?,
            gap_ms: [number("gap_ms")?, number("gap_most_ms")?],
        })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heard { calls, hurt, silent, open, crossed, lost, late, gap_ms: [middle, most] } = self;
        write!(
            out,
            "{hurt} of {calls} talks hurt: {silent} silent at the end, {open} could not be ended, {crossed} heard somebody else; \
             nothing heard for {middle} ms, {most} ms at the longest; {lost} packets lost, {late} late"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const OTHER: u32 = 5;

    /// Packets that were said every 20 ms from 80 ms on, of which these were heard at these times.
    fn side(heard: &[(u32, u16)], said: u16) -> Side {
        let word = |(at, number): &(u32, u16)| Word { at: MS * *at, number: *number, source: OTHER };
        let said = (0..said).map(|number| MS * (80 + 20 * u32::from(number))).collect();
        Side { heard: heard.iter().map(word).collect(), other: OTHER, said }
    }

    fn heard(sides: &[Side], event: Event) -> Heard {
        Heard::of(sides, MS * 100, MS * 1_000, &[false, false], event)
    }

    fn fault() -> Event {
        Event::named("everything killed").expect("an event")
    }

    #[test]
    fn a_call_is_silent_of_which_one_side_hears_nothing_at_the_end() {
        let (to_the_end, not) = (side(&[(90, 1), (1_001, 2)], 2), side(&[(90, 1), (1_000, 2)], 2));

        let found = heard(&[to_the_end.clone(), not, to_the_end.clone(), to_the_end], Event::Switchover);

        assert_eq!((found.calls, found.silent, found.hurt), (2, 1, 1));
    }

    #[test]
    fn what_is_lost_hurts_its_call_once_and_a_switchover_alone() {
        // The packets 4, 5 and 7 to 23 were said long before the last one, and are missing.
        let loses = side(&[(130, 3), (400, 6), (1_001, 48)], 48);
        let good = side(&[(90, 1), (1_001, 2)], 2);
        let sides = [loses.clone(), good.clone(), good.clone(), good];

        let found = heard(&sides, Event::Switchover);

        assert_eq!((found.lost, found.hurt), (19, 1));
        assert_eq!(heard(&sides, fault()).hurt, 0);
        assert_eq!(heard(&[loses], fault()).gap_ms, [600, 600]);
    }

    #[test]
    fn what_comes_too_late_is_not_lost_and_is_told() {
        let found = heard(&[side(&[(90, 1), (300, 2), (301, 3), (1_001, 4)], 4)], Event::Switchover);

        assert_eq!((found.lost, found.late), (0, 1));
    }

    #[test]
    fn who_hears_somebody_else_is_hurt_and_so_is_what_can_not_be_ended() {
        let good = side(&[(90, 1), (1_001, 2)], 2);
        let mut crossed = good.clone();
        crossed.heard[0].source = OTHER + 1;
        let sides = [crossed, good.clone(), good.clone(), good.clone(), good.clone(), good];

        let found = Heard::of(&sides, MS * 100, MS * 1_000, &[true, true, false], fault());

        assert_eq!((found.crossed, found.open, found.hurt), (1, 2, 2));
    }

    #[test]
    fn what_is_written_can_be_read() {
        let found =
            Heard { calls: 1, hurt: 9, silent: 2, open: 3, crossed: 7, lost: 4, late: 8, gap_ms: [5, 6] };

        assert_eq!(Heard::read(&found.json()), Some(found));
        assert_eq!(Heard::read(&json!({ "calls": 1 })), None);
    }
}

//! What was heard in one trial.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::crowd::Side;
use crate::lab::tap::longest_gap;
use crate::soak::trials::Outcome;
use crate::soak::trials::event::Event;

/// What was heard by both sides of all calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Calls.
    pub calls: u64,
    /// Calls of which a side heard nothing at the end.
    pub silent: u64,
    /// Calls that no BYE could end.
    pub open: u64,
    /// Packets that were said and did not arrive, of all sides.
    pub lost: u64,
    /// The longest time for which a side heard nothing, in milliseconds: that of the middle side, and of the worst one.
    pub gap_ms: [u64; 2],
    /// Whether losing a packet hurts.
    loses_none: bool,
}

impl Heard {
    /// From what each side heard, neighbours being one call: something happened at `from`, and who is heard after `end` is
    /// heard to the end.
    pub fn of(sides: &[Side], from: Duration, end: Duration, open: usize, event: Event) -> Heard {
        let mut gaps: Vec<u64> = sides.iter().map(|side| side.gap(from, end).as_millis() as u64).collect();
        gaps.sort_unstable();
        let is_silent = |side: &Side| side.heard.last().is_none_or(|(at, _)| *at <= end);
        Heard {
            calls: sides.len() as u64 / 2,
            silent: sides.chunks(2).filter(|call| call.iter().any(is_silent)).count() as u64,
            open: open as u64,
            lost: sides.iter().map(Side::lost).sum(),
            gap_ms: [gaps.get(gaps.len() / 2), gaps.last()].map(|gap| gap.copied().unwrap_or_default()),
            loses_none: event == Event::Switchover,
        }
    }
}

impl Side {
    fn gap(&self, from: Duration, to: Duration) -> Duration {
        let times: Vec<Duration> =
            self.heard.iter().map(|(at, _)| *at).filter(|at| (from..=to).contains(at)).collect();
        longest_gap(from, &times, to)
    }

    /// What did not arrive behind the first one that did; the last ones may still be on their way.
    fn lost(&self) -> u64 {
        let heard: BTreeSet<u16> = self.heard.iter().map(|(_, number)| *number).collect();
        let Some(first) = heard.first() else { return u64::from(self.last_said) };
        let last = self.last_said.saturating_sub(LAST);
        (*first..=last).filter(|number| !heard.contains(number)).count() as u64
    }
}

/// Packets that may be on their way.
const LAST: u16 = 5;

impl Outcome for Heard {
    fn hurt(&self) -> u64 {
        let lost = if self.loses_none { self.lost.min(self.calls) } else { 0 };
        self.silent.max(self.open).max(lost)
    }

    fn complaints(&self) -> &[String] {
        &[]
    }

    fn json(&self) -> Value {
        let Heard { calls, silent, open, lost, gap_ms, loses_none } = self;
        json!({
            "calls": calls, "silent": silent, "open": open, "lost": lost, "gap_ms": gap_ms[0],
            "gap_most_ms": gap_ms[1], "loses_none": loses_none,
        })
    }

    fn read(value: &Value) -> Option<Heard> {
        let number = |name: &str| value[name].as_u64();
        Some(Heard {
            calls: number("calls")?,
            silent: number("silent")?,
            open: number("open")?,
            lost: number("lost")?,
            gap_ms: [number("gap_ms")?, number("gap_most_ms")?],
            loses_none: value["loses_none"].as_bool()?,
        })
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Heard { calls, silent, open, lost, gap_ms: [middle, most], .. } = self;
        write!(
            out,
            "{silent} of {calls} calls silent at the end, {open} could not be ended; nothing heard for {middle} ms, {most} ms at \
             the longest; {lost} packets lost"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn side(heard: &[(u32, u16)], last_said: u16) -> Side {
        Side { heard: heard.iter().map(|(at, number)| (MS * *at, *number)).collect(), last_said }
    }

    fn heard(sides: &[Side], event: Event) -> Heard {
        Heard::of(sides, MS * 100, MS * 1_000, 0, event)
    }

    #[test]
    fn a_call_is_silent_of_which_one_side_hears_nothing_at_the_end() {
        let (to_the_end, not) = (side(&[(90, 1), (1_001, 2)], 2), side(&[(90, 1), (1_000, 2)], 2));

        let found = heard(&[to_the_end.clone(), not, to_the_end.clone(), to_the_end], Event::Switchover);

        assert_eq!((found.calls, found.silent, found.hurt()), (2, 1, 1));
    }

    #[test]
    fn what_is_lost_hurts_a_switchover_alone() {
        let sides = [side(&[(90, 3), (400, 4), (1_001, 6)], 6 + LAST), side(&[(90, 1), (1_001, 2)], 2)];
        let fault = Event::named("everything killed").expect("an event");

        assert_eq!(heard(&sides, Event::Switchover).lost, 1);
        assert_eq!(heard(&sides, Event::Switchover).hurt(), 1);
        assert_eq!(heard(&sides, fault).hurt(), 0);
        assert_eq!(heard(&sides, fault).gap_ms, [900, 900]);
        assert_eq!(heard(&sides[..1], fault).gap_ms, [600, 600]);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let found = Heard { calls: 1, silent: 2, open: 3, lost: 4, gap_ms: [5, 6], loses_none: true };

        assert_eq!(Heard::read(&found.json()), Some(found));
        assert_eq!(Heard::read(&json!({ "calls": 1 })), None);
    }
}

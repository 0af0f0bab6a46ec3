//! What is done to a call: when the active node is killed, and what goes wrong beside it.
//!
//! Nobody lists the moments: the undisturbed call numbers each input and output of either node, and there is a case for
//! the moment before each number and for the one after it.

use std::fmt;
use std::time::Duration;

/// What phones and server wait before they say something again.
const T1: Duration = Duration::from_millis(500);
/// What is on its way takes a while.
const SLACK: Duration = Duration::from_millis(100);

/// One input or output of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Whether what the same step gives comes next.
    pub(super) is_followed: bool,
}

/// When the active node is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    /// The input is not taken, the output does not leave.
    Before(usize),
    /// It was, and nothing after it.
    After(usize),
}

/// How it dies, and what goes wrong beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// With its host: what is on its way to the other node is lost.
    Power,
    /// Alone: what it has written to the other node still arrives.
    Process,
    /// With its host, and the way to the other node takes longer than anybody waits for it.
    SlowLink,
    /// With its host, and one of the first datagrams of the new node is lost.
    LostDatagram,
    /// With its host, and a datagram of its own is lost that was on its way.
    LostBefore,
    /// With its host, which is started again; when it has everything, the other one dies.
    Back,
    /// Not at all: it hands the service over, and becomes the other one's standby.
    HandOver,
}

impl Trouble {
    pub(super) const ALL: [Self; 7] = [
        Self::Power,
        Self::Process,
        Self::SlowLink,
        Self::LostDatagram,
        Self::LostBefore,
        Self::Back,
        Self::HandOver,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Process => "process",
            Self::SlowLink => "slow",
            Self::LostDatagram => "lost",
            Self::LostBefore => "lost-before",
            Self::Back => "back",
            Self::HandOver => "hand-over",
        }
    }
}

/// One way in which a call is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case(pub(super) Played);

/// See [`Case`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Played {
    /// Nothing is done.
    Undisturbed,
    /// Only the way between the nodes is slow.
    Slow,
    /// This datagram is lost, and no node is killed.
    Lost(usize),
    /// The active node is killed.
    Killed(Moment, Trouble),
}

impl Case {
    /// Nothing is done to the call.
    pub const UNDISTURBED: Self = Self(Played::Undisturbed);

    pub(super) fn is_slow(self) -> bool {
        matches!(self.0, Played::Slow | Played::Killed(_, Trouble::SlowLink))
    }

    /// How much later than undisturbed something may be, but for what it takes by itself: who says something while nobody is
    /// active says it again after T1, and again after twice that if the first repetition comes too early. One that is lost
    /// after that comes again after four times T1.
    pub(super) fn late_max(self) -> Duration {
        let repetitions = match self.0 {
            Played::Undisturbed | Played::Slow => 0,
            Played::Lost(_) => 1,
            Played::Killed(_, Trouble::LostDatagram | Trouble::Back) => 7,
            Played::Killed(..) => 3,
        };
        T1 * repetitions + SLACK
    }

    /// The case of which this is the [`fmt::Display`].
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let first = words.next()?;
        let mut number = || words.next()?.parse().ok();
        let played = match first {
            "undisturbed" => Played::Undisturbed,
            "slow" => Played::Slow,
            "lost" => Played::Lost(number()?),
            "before" | "after" => {
                let number = number()?;
                let moment = if first == "before" { Moment::Before(number) } else { Moment::After(number) };
                let name = words.next()?;
                Played::Killed(moment, Trouble::ALL.into_iter().find(|it| it.name() == name)?)
            }
            _ => return None,
        };
        Some(Self(played))
    }

    /// All ways to kill one of two nodes that had these inputs and outputs, with these troubles.
    pub(super) fn kills(points: &[Point], troubles: &[Trouble]) -> Vec<Self> {
        let moments = points.iter().enumerate().flat_map(|(number, point)| {
            let after = (!point.is_followed).then_some(Moment::After(number));
            std::iter::once(Moment::Before(number)).chain(after)
        });
        let moments: Vec<Moment> = moments.collect();
        // Who hands the service over ends the step before.
        let is_possible = |moment: &Moment, trouble| {
            trouble != Trouble::HandOver || matches!(moment, Moment::After(_) | Moment::Before(0))
        };
        let killed = |trouble| {
            let moments = moments.iter().filter(move |moment| is_possible(moment, trouble));
            moments.map(move |&moment| Self(Played::Killed(moment, trouble)))
        };
        troubles.iter().flat_map(|&trouble| killed(trouble)).collect()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Played::Undisturbed => f.write_str("undisturbed"),
            Played::Slow => f.write_str("slow"),
            Played::Lost(number) => write!(f, "lost:{number}"),
            Played::Killed(Moment::Before(number), trouble) => {
                write!(f, "before:{number}:{}", trouble.name())
            }
            Played::Killed(Moment::After(number), trouble) => write!(f, "after:{number}:{}", trouble.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_has_a_moment_before_it_and_only_the_last_of_a_step_one_after_it() {
        let points = [Point { is_followed: true }, Point { is_followed: false }];

        let kills = Case::kills(&points, &[Trouble::Power]);

        let names: Vec<String> = kills.iter().map(Case::to_string).collect();
        assert_eq!(names, ["before:0:power", "before:1:power", "after:1:power"]);
    }

    #[test]
    fn a_case_is_found_again_by_its_name() {
        let points = [Point { is_followed: false }; 3];
        let mut cases = Case::kills(&points, &Trouble::ALL);
        cases.extend([Case::UNDISTURBED, Case(Played::Slow), Case(Played::Lost(7))]);

        for case in cases {
            assert_eq!(Case::parse(&case.to_string()), Some(case));
        }
        assert_eq!(Case::parse("before:x:power"), None);
    }
}

//! One call, or one registration, that a fault meets in a certain state, and what becomes of it.
//!
//! A probe says what its two ends are to do next, and judges by what they have seen and by nothing else.

use std::fmt;

use serde::Serialize;

use crate::phones::callee::{Attended, Conduct};
use crate::phones::caller::Standing;

/// In which state the fault meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A phone is registered; it is called when somebody answers again.
    Registered,
    /// A call rings; it is answered when somebody answers again.
    Ringing,
    /// A call is talked; it is hung up when somebody answers again.
    Talking,
    /// A call that rings is cancelled at that moment.
    Cancelled,
    /// A call begins at that moment.
    Begun,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on, to its proper end.
    Kept,
    /// It did not: why.
    Lost(String),
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The callee answers.
    Answer,
    /// The caller hangs up.
    CallerHangsUp,
    /// The callee hangs up.
    CalleeHangsUp,
}

/// Who hangs up in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that has called.
    Caller,
    /// The one that was called.
    Callee,
}

/// A probe.
#[derive(Clone, Debug)]
pub struct Probe {
    /// In which state the fault meets it.
    pub state: State,
    /// The place of the phone that calls.
    pub caller: usize,
    /// The place of the phone that is called.
    pub callee: usize,
    /// The call.
    pub call_id: String,
    hangs_up: Side,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Placed,
    Answering,
    HangingUp,
    Over(Outcome),
}

impl State {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 5] = [Self::Registered, Self::Ringing, Self::Talking, Self::Cancelled, Self::Begun];

    /// What the phone that is called does by itself.
    pub fn conduct(self) -> Conduct {
        match self {
            Self::Registered | Self::Talking | Self::Begun => Conduct::Answers,
            Self::Ringing | Self::Cancelled => Conduct::Rings,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Registered => "registered",
            Self::Ringing => "ringing",
            Self::Talking => "talking",
            Self::Cancelled => "being cancelled",
            Self::Begun => "begun meanwhile",
        })
    }
}

impl Probe {
    /// A call that was made.
    pub fn new(state: State, (caller, callee): (usize, usize), call_id: String, hangs_up: Side) -> Self {
        Self { state, caller, callee, call_id, hangs_up, stage: Stage::Placed }
    }

    /// What became of it, when it is over.
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.stage {
            Stage::Over(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Whether it is in the state in which the fault is to meet it; else why it never will be.
    pub fn is_placed(&self, caller: &Standing, callee: Option<Attended>) -> Result<bool, String> {
        if let Standing::Failed(reason) = caller {
            return Err(reason.clone());
        }
        Ok(match self.state {
            State::Talking => matches!(caller, Standing::Up(_)) && callee == Some(Attended::Talking),
            State::Ringing | State::Cancelled => {
                *caller == Standing::Ringing && callee == Some(Attended::Ringing)
            }
            State::Registered | State::Begun => true,
        })
    }

    /// Looks at both ends after the fault, and says what is to be done.
    pub fn go_on(&mut self, caller: &Standing, callee: Option<Attended>) -> Option<Act> {
        if self.outcome().is_some() {
            return None;
        }
        if let Standing::Failed(reason) = caller {
            self.stage = Stage::Over(Outcome::Lost(reason.clone()));
            return None;
        }
        if let Some(Attended::Refused(status)) = callee {
            let reason = format!("the callee's BYE got {} {}", status.0, status.reason_phrase());
            self.stage = Stage::Over(Outcome::Lost(reason));
            return None;
        }
        let is_up = matches!(caller, Standing::Up(_)) && callee == Some(Attended::Talking);
        match (&self.stage, self.state) {
            (Stage::Placed, State::Ringing) if callee == Some(Attended::Ringing) => {
                self.stage = Stage::Answering;
                Some(Act::Answer)
            }
            (Stage::Placed | Stage::Answering, state) if is_up && state != State::Cancelled => {
                self.stage = Stage::HangingUp;
                Some(match self.hangs_up {
                    Side::Caller => Act::CallerHangsUp,
                    Side::Callee => Act::CalleeHangsUp,
                })
            }
            (Stage::HangingUp, _) => {
                let is_over = match self.hangs_up {
                    Side::Caller => callee == Some(Attended::LeftAlone),
                    Side::Callee => callee == Some(Attended::HungUp),
                };
                if is_over && matches!(caller, Standing::Ended(_)) {
                    self.stage = Stage::Over(Outcome::Kept);
                }
                None
            }
            (_, State::Cancelled)
                if *caller == Standing::Cancelled && callee == Some(Attended::Cancelled) =>
            {
                self.stage = Stage::Over(Outcome::Kept);
                None
            }
            _ => None,
        }
    }

    /// There was time enough: what has not come is lost.
    pub fn give_up(&mut self, caller: &Standing, callee: Option<Attended>) {
        if self.outcome().is_none() {
            self.stage = Stage::Over(Outcome::Lost(stuck(self.state, caller, callee)));
        }
    }
}

/// What both ends were seen to be in when the time was over.
fn stuck(state: State, caller: &Standing, callee: Option<Attended>) -> String {
    let caller = match caller {
        Standing::Calling => "the caller has heard nothing",
        Standing::Ringing => "the caller hears it ring",
        Standing::Up(_) => "the caller's call is up",
        Standing::Ended(_) => "the caller's call is over",
        Standing::Cancelling => "the caller waits for the end of what it has cancelled",
        Standing::Cancelled => "the caller has cancelled it",
        Standing::Failed(_) => "the caller's call failed",
    };
    let callee = match callee {
        None if state == State::Registered => "the phone was not reached",
        None => "the callee was not reached",
        Some(Attended::Ringing) => "the callee rings on",
        Some(Attended::Answered) => "the callee's answer is not acknowledged",
        Some(Attended::Talking) => "the callee talks",
        Some(Attended::HangingUp) => "the callee's BYE is not answered",
        Some(Attended::HungUp) => "the callee has hung up",
        Some(Attended::LeftAlone) => "the callee knows that it is over",
        Some(Attended::Cancelled) => "the callee knows that it was cancelled",
        Some(Attended::Refused(_)) => "the callee's BYE was refused",
    };
    format!("{caller}, {callee}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_call_that_rings_is_kept_if_its_answer_and_its_end_reach_both() {
        let mut probe = probe(State::Ringing, Side::Callee);
        assert_eq!(probe.is_placed(&Standing::Ringing, Some(Attended::Ringing)), Ok(true));

        assert_eq!(probe.go_on(&Standing::Ringing, Some(Attended::Ringing)), Some(Act::Answer));
        assert_eq!(probe.go_on(&Standing::Ringing, Some(Attended::Answered)), None);
        assert_eq!(probe.go_on(&UP, Some(Attended::Answered)), None, "the ACK is on its way");
        assert_eq!(probe.go_on(&UP, Some(Attended::Talking)), Some(Act::CalleeHangsUp));
        assert_eq!(probe.go_on(&ENDED, Some(Attended::HangingUp)), None);
        assert_eq!(probe.outcome(), None);
        probe.go_on(&ENDED, Some(Attended::HungUp));

        assert_eq!(probe.outcome(), Some(&Outcome::Kept));
    }

    #[test]
    fn an_answer_that_does_not_reach_the_caller_is_a_lost_call() {
        let mut probe = probe(State::Ringing, Side::Caller);
        probe.go_on(&Standing::Ringing, Some(Attended::Ringing));

        probe.give_up(&Standing::Ringing, Some(Attended::Answered));

        let reason = "the caller hears it ring, the callee's answer is not acknowledged".to_owned();
        assert_eq!(probe.outcome(), Some(&Outcome::Lost(reason)));
    }

    #[test]
    fn a_cancelled_call_is_kept_only_if_the_callee_has_stopped_too() {
        let mut cancelled = probe(State::Cancelled, Side::Caller);
        cancelled.go_on(&Standing::Cancelled, Some(Attended::Ringing));
        assert_eq!(cancelled.outcome(), None);
        let mut rings_on = cancelled.clone();

        cancelled.go_on(&Standing::Cancelled, Some(Attended::Cancelled));
        rings_on.give_up(&Standing::Cancelled, Some(Attended::Ringing));

        assert_eq!(cancelled.outcome(), Some(&Outcome::Kept));
        assert!(matches!(rings_on.outcome(), Some(Outcome::Lost(why)) if why.contains("rings on")));
    }

    #[test]
    fn what_fails_is_lost_with_its_reason_and_what_can_not_begin_is_told() {
        let failed = Standing::Failed("481 Call Does Not Exist".to_owned());
        for state in State::ALL {
            let mut probe = probe(state, Side::Caller);
            assert!(probe.is_placed(&failed, None).is_err());
            probe.go_on(&failed, Some(Attended::Talking));
            assert!(matches!(probe.outcome(), Some(Outcome::Lost(why)) if why.starts_with("481")));
        }
        let mut hung_up = probe(State::Talking, Side::Callee);
        hung_up.go_on(&UP, Some(Attended::Refused(sip::Status(481))));
        assert!(matches!(hung_up.outcome(), Some(Outcome::Lost(why)) if why.contains("BYE got 481")));
    }

    const UP: Standing = Standing::Up(Duration::ZERO);
    const ENDED: Standing = Standing::Ended(Duration::ZERO);

    fn probe(state: State, hangs_up: Side) -> Probe {
        Probe::new(state, (0, 1), "one".to_owned(), hangs_up)
    }
}

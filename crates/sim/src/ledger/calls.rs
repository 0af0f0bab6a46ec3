//! What became of each call, and what should have.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;

use crate::phone::{Answering, Behaviour, CallOrder, Fact, Patience, Role};

/// What a call is expected to come to in a world that does not hurt it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// What its orders say: these phones ring, and answer so.
    Answers(Vec<(usize, Answering)>),
    /// These phones answer so if it comes to that, and it ends.
    InTurn(Vec<(usize, Answering)>),
    /// One of these final statuses, and nobody rings.
    Status(Vec<u16>),
    /// Nothing but that it ends.
    End,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    /// The caller's orders.
    pub(crate) order: CallOrder,
    /// Who calls.
    pub(crate) caller: usize,
    /// When.
    pub(crate) began: Instant,
    /// What should come of it.
    pub(crate) expected: Expected,
    /// What phones said.
    pub(crate) facts: Vec<(Instant, usize, Fact)>,
}

/// All calls, by the script's number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    calls: BTreeMap<u32, CallRecord>,
}

/// Two things that are nearer to each other may come in either order.
const RACE: Duration = Duration::from_millis(1_500);
// RFC 3261 §16.6 item 11: the default of timer C.
const TIMER_C: Duration = Duration::from_secs(190);
// RFC 3261 §17.1.1.2: timer B.
const TIMER_B: Duration = Duration::from_secs(32);

impl Calls {
    /// A call begins.
    pub(crate) fn begin(&mut self, record: CallRecord) {
        self.calls.insert(record.order.number, record);
    }

    /// A phone said something of a call.
    pub(crate) fn note(&mut self, now: Instant, phone: usize, call: u32, fact: Fact) {
        if let Some(record) = self.calls.get_mut(&call) {
            record.facts.push((now, phone, fact));
        }
    }

    /// A phone lost its power: it will never tell how its calls went.
    pub(crate) fn forget_caller(&mut self, now: Instant, phone: usize) {
        for (&call, record) in &mut self.calls {
            if record.caller == phone && record.outcome().is_none() {
                record.facts.push((now, phone, Fact::TimedOut { call }));
            }
        }
    }

    /// One call.
    pub(crate) fn of(&self, number: u32) -> Option<&CallRecord> {
        self.calls.get(&number)
    }

    /// All calls.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &CallRecord> {
        self.calls.values()
    }
}

impl CallRecord {
    /// When the last thing was said of it.
    pub(crate) fn last(&self) -> Instant {
        self.facts.last().map_or(self.began, |(at, ..)| *at)
    }

    /// Everybody who has a part in it.
    pub(crate) fn phones(&self) -> Vec<usize> {
        let mut phones = vec![self.caller];
        phones.extend(self.facts.iter().map(|(_, phone, _)| *phone));
        if let Expected::Answers(answers) = &self.expected {
            phones.extend(answers.iter().map(|(phone, _)| *phone));
        }
        phones.sort_unstable();
        phones.dedup();
        phones
    }

    /// Whether a phone said so.
    pub(crate) fn said(&self, mut is_it: impl FnMut(&Fact) -> bool) -> bool {
        self.facts.iter().any(|(_, _, fact)| is_it(fact))
    }

    /// The final status that the caller got, 200 for a call that was set up, 0 for none.
    pub(crate) fn outcome(&self) -> Option<u16> {
        self.facts.iter().find_map(|(_, _, fact)| match fact {
            Fact::Failed { status, .. } => Some(*status),
            Fact::TimedOut { .. } => Some(0),
            Fact::Established { role: Role::Caller, .. } | Fact::Surplus { crossed_cancel: true, .. } => {
                Some(200)
            }
            _ => None,
        })
    }

    /// The call must have ended for all, whatever the world did.
    pub(crate) fn judge_end(&self) -> Result<(), String> {
        let ends = self.facts.iter().filter(|(_, _, fact)| is_outcome(fact)).count();
        match ends {
            0 => Err("the caller never heard how it ended".to_owned()),
            1 => Ok(()),
            _ => Err(format!("the caller heard {ends} outcomes")),
        }
    }

    /// The call must have gone as its script says: the world did not hurt it.
    pub(crate) fn judge(&self, ring_timeout: Duration) -> Result<(), String> {
        self.judge_end()?;
        let outcome = self.outcome().unwrap_or(0);
        match &self.expected {
            Expected::End | Expected::InTurn(_) => Ok(()),
            Expected::Status(statuses) if statuses.contains(&outcome) && !self.rang() => Ok(()),
            Expected::Status(statuses) => Err(format!("it ended with {outcome} instead of {statuses:?}")),
            Expected::Answers(answers) => {
                let expected = outcomes(&self.order, answers, ring_timeout);
                if !expected.contains(&outcome) {
                    return Err(format!("it ended with {outcome} instead of {expected:?}"));
                }
                self.judge_callees(answers)?;
                if outcome == 200
                    && !self.said(|fact| matches!(fact, Fact::Surplus { crossed_cancel: true, .. }))
                {
                    self.judge_talk()?;
                }
                Ok(())
            }
        }
    }

    fn rang(&self) -> bool {
        self.said(|fact| matches!(fact, Fact::Ringing { .. }))
    }

    /// Each phone that rings hears how it ends, and who should ring does.
    fn judge_callees(&self, answers: &[(usize, Answering)]) -> Result<(), String> {
        if self.said(|fact| matches!(fact, Fact::Forgotten { .. })) {
            return Err("a phone was left ringing".to_owned());
        }
        // A caller that gives up at once may be heard before the call is forked.
        let at_once = self.order.cancel_after.is_some_and(|after| after < RACE);
        for (phone, answering) in answers {
            let said = |is_it: fn(&Fact) -> bool| {
                self.facts.iter().any(|(_, who, fact)| who == phone && is_it(fact))
            };
            if !at_once && !said(|fact| matches!(fact, Fact::Ringing { .. })) {
                return Err(format!("phone {phone} did not ring"));
            }
            let ended = said(|fact| {
                matches!(
                    fact,
                    Fact::Cancelled { .. }
                        | Fact::Refused { .. }
                        | Fact::HungUp { .. }
                        | Fact::HeardHangUp { .. }
                )
            });
            // Who sent nothing can not be cancelled: there is no provisional response to wait for.
            let mute = answering.behaviour == Behaviour::Silence;
            if said(|fact| matches!(fact, Fact::Ringing { .. })) && !ended && !mute {
                return Err(format!("phone {phone} was never told that the call has ended"));
            }
        }
        Ok(())
    }

    /// A call that was set up ends for both sides, by whoever hangs up first.
    fn judge_talk(&self) -> Result<(), String> {
        for role in [Role::Caller, Role::Callee] {
            let up = self.said(|fact| matches!(fact, Fact::Established { role: who, .. } if *who == role));
            if !up {
                return Err(format!("the {role:?} was never told that it is up"));
            }
            let ended = self.said(|fact| match fact {
                Fact::HungUp { role: who, status: 200, .. } | Fact::HeardHangUp { role: who, .. } => {
                    *who == role
                }
                _ => false,
            });
            if !ended {
                return Err(format!("the {role:?} was never told that it has ended"));
            }
        }
        if self.said(|fact| matches!(fact, Fact::NoAck { .. })) {
            return Err("an ACK did not arrive".to_owned());
        }
        if self.said(|fact| matches!(fact, Fact::Reinvited { status, .. } if *status != 200)) {
            return Err("a re-INVITE was not answered 200".to_owned());
        }
        Ok(())
    }
}

fn is_outcome(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::Failed { .. }
            | Fact::TimedOut { .. }
            | Fact::Established { role: Role::Caller, .. }
            | Fact::Surplus { crossed_cancel: true, .. }
    )
}

/// All outcomes that the orders allow.
fn outcomes(order: &CallOrder, answers: &[(usize, Answering)], ring_timeout: Duration) -> Vec<u16> {
    let finals: Vec<(Duration, u16)> =
        answers.iter().map(|(_, answering)| last_word(answering, ring_timeout)).collect();
    // RFC 3261 §16.7: a 2xx or a 6xx ends the fork, else the last one does.
    let decided = finals.iter().filter(|(_, status)| ends_fork(*status)).map(|(at, _)| *at).min();
    let all = finals.iter().map(|(at, _)| *at).max().unwrap_or_default();
    let decided = decided.unwrap_or(all).min(all);
    let mut allowed: Vec<u16> = finals
        .iter()
        .filter(|(at, status)| ends_fork(*status) && *at <= decided + RACE)
        .map(|(_, status)| *status)
        .collect();
    if allowed.is_empty() {
        // RFC 3261 §16.7 item 6: the lowest class of those that came.
        let class = finals.iter().map(|(_, status)| status / 100).min().unwrap_or(4);
        allowed = finals.iter().map(|(_, status)| *status).filter(|status| status / 100 == class).collect();
    }
    match order.cancel_after {
        // It may overtake its own INVITE, and then it cancels nothing.
        Some(cancel) if order.patience == Patience::None && cancel < RACE => {
            allowed.push(487);
            allowed
        }
        Some(cancel) if cancel + RACE < decided => vec![487],
        Some(cancel) if cancel < decided + RACE => {
            allowed.push(487);
            allowed
        }
        _ => allowed,
    }
}

fn ends_fork(status: u16) -> bool {
    matches!(status / 100, 2 | 6)
}

/// When a phone's branch ends if nobody cancels it, and with what.
fn last_word(answering: &Answering, ring_timeout: Duration) -> (Duration, u16) {
    match &answering.behaviour {
        // A redirected caller calls there, and that call is answered.
        Behaviour::Redirect(_) => (Duration::from_secs(1), 200),
        Behaviour::Answer { after, .. } if *after < ring_timeout => (*after, 200),
        Behaviour::Refuse { after, status } if *after < ring_timeout => (*after, *status),
        Behaviour::Answer { .. } | Behaviour::Refuse { .. } | Behaviour::Ring => (ring_timeout, 408),
        Behaviour::Try => (TIMER_C, 408),
        Behaviour::Silence => (TIMER_B, 408),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_or_decline_decides_a_fork_and_else_the_lowest_class() {
        let order = CallOrder::new(1, "sip:b");
        let answer = |seconds| Behaviour::Answer { status: 180, after: Duration::from_secs(seconds) };
        let refuse = |seconds, status| Behaviour::Refuse { status, after: Duration::from_secs(seconds) };

        assert_eq!(of(&order, [answer(5), refuse(1, 486)]), [200]);
        assert_eq!(of(&order, [answer(9), refuse(1, 603)]), [603]);
        assert_eq!(of(&order, [refuse(1, 503), refuse(2, 486)]), [486]);
        assert_eq!(of(&order, [Behaviour::Ring, refuse(2, 486)]), [408, 486]);
        assert_eq!(of(&order, [answer(5), refuse(5, 603)]), [200, 603]);
    }

    #[test]
    fn a_cancel_wins_unless_it_races() {
        let mut order = CallOrder::new(1, "sip:b");
        let answer = || Behaviour::Answer { status: 180, after: Duration::from_secs(5) };
        for (seconds, expected) in [(1, vec![487]), (5, vec![200, 487]), (9, vec![200])] {
            order.cancel_after = Some(Duration::from_secs(seconds));
            assert_eq!(of(&order, [answer()]), expected);
        }
    }

    fn of<const N: usize>(order: &CallOrder, behaviours: [Behaviour; N]) -> Vec<u16> {
        let answers: Vec<_> = behaviours.into_iter().map(Answering::of).enumerate().collect();
        outcomes(order, &answers, Duration::from_secs(30))
    }
}

//! RFC 3261 §16.7: all branches of one request, and the best of their responses.
//!
//! Branches belong to rounds ([`Round`]), which begin one after the other; the best response is that of all
//! rounds together.
//!
//! The context is a value: it remembers and compares, and the transaction user acts. It lives until
//! the server transaction of its request has ended.
//!
//! Invariant: at most one final response that is no 2xx goes upstream, and only when no branch is left
//! that could still bring a 2xx.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::{Name, Status};
use transaction::Kind;

use super::client_branch::{BranchState, Cause, ClientBranch, Phase};
use super::inbound::Inbound;
use super::lead::Plan;
use super::round::{Ending, Onward, ROUNDS_MAX, Round};
use crate::{Account, ForwardReason, Token};

/// Challenges that are merged: more make the response larger than phones take.
pub(super) const CHALLENGES_MAX: usize = 16;

/// A request that was forwarded.
#[derive(Debug)]
pub(super) struct ResponseContext {
    /// The request.
    pub(super) inbound: Inbound,
    /// The branches of all rounds that have begun. A branch keeps its index.
    pub(super) branches: Vec<ClientBranch>,
    /// How far it is.
    pub(super) state: ContextState,
    /// Waits for where a user is that the call is forwarded to.
    pub(super) diversion: Option<Token>,
    /// Whether a gateway was left out because it had as many calls as it may have.
    pub(super) has_full_gateway: bool,
    /// Whether the media relay had no ports for it.
    pub(super) has_no_ports: bool,
    /// The round whose branches are under way.
    pub(super) round: CurrentRound,
    /// The rounds to come.
    pub(super) rounds: VecDeque<Round>,
    /// Whose phones are tried, as long as the account may still forward the call.
    pub(super) account: Option<Arc<Account>>,
    /// Whether one of these phones was given up because it rang too long or said nothing.
    pub(super) is_unanswered: bool,
    /// The best of the responses so far.
    pub(super) best: Option<Candidate>,
    /// All challenges that came.
    pub(super) challenges: Vec<(Name, Vec<u8>)>,
}

/// The round whose branches are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct CurrentRound {
    /// 0 before the first one.
    pub(super) number: u8,
    /// How long each of its branches may ring.
    pub(super) ring_timeout: Option<Duration>,
    /// When the next round begins.
    pub(super) onward: Onward,
    /// Whether all that has come of it lets the next round begin.
    pub(super) goes_on: bool,
}

/// How far a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextState {
    /// Branches may begin.
    Open,
    /// No branch begins any more: a 6xx has come.
    Closing,
    /// No branch begins any more, and the caller hears of no failure but its own CANCEL.
    Cancelled,
    /// A final response went upstream.
    Answered,
}

/// How long a phone may ring, and from when that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ringing {
    /// Something else is tried after it: whoever waits there is not to wait longer because this phone is silent.
    SinceSent(Duration),
    /// Nothing comes after it, so that silence is left to the timers of RFC 3261.
    SinceRinging(Duration),
}

/// A final response that may be the one that goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    /// From a branch, ready to be passed on.
    Received(Status, Bytes),
    /// What a branch without a response counts as.
    Local(Status),
}

impl Candidate {
    /// Its status.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Received(status, _) | Self::Local(status) => *status,
        }
    }

    // RFC 3261 §16.7 item 6: a 6xx before all, then the lowest class; within 4xx first what helps the client to try
    // again. What says only that nobody was there comes last.
    fn rank(&self) -> (u16, u8) {
        let status = self.status();
        let class = if status.class() == 6 { 0 } else { status.class() };
        let within = match status.0 {
            401 | 407 | 415 | 420 | 484 => 0,
            480 | 487 => 2,
            408 | 430 => 3,
            503 => 2,
            _ => 1,
        };
        (class, within)
    }
}

impl ResponseContext {
    /// A context whose rounds have not begun.
    pub(super) fn new(inbound: Inbound, plan: Plan) -> Self {
        let round = CurrentRound { number: 0, ring_timeout: None, onward: Onward::AnyFailure, goes_on: true };
        let mut context = Self {
            inbound,
            branches: Vec::new(),
            state: ContextState::Open,
            diversion: None,
            has_full_gateway: false,
            has_no_ports: false,
            round,
            rounds: VecDeque::new(),
            account: None,
            is_unanswered: false,
            best: None,
            challenges: Vec::new(),
        };
        context.pursue(plan);
        context
    }

    /// What is to be tried when all that was tried has failed. What is too much is left out.
    pub(super) fn pursue(&mut self, plan: Plan) {
        let Plan { mut rounds, account } = plan;
        let forwards = account.as_ref().map(|account| &account.calls.forwards);
        if let Some(forwards) = forwards.filter(|forwards| forwards.no_answer.is_some()) {
            let after = forwards.no_answer_after.unwrap_or(self.inbound.settings.proxy.serial_ring_timeout);
            rounds.iter_mut().for_each(|round| round.ring_timeout = Some(after));
        }
        let begun = usize::from(self.round.number) + self.rounds.len();
        self.rounds.extend(rounds.into_iter().take(ROUNDS_MAX.saturating_sub(begun)));
        self.account = account;
        self.is_unanswered = false;
        self.round.goes_on = true;
        self.state = ContextState::Open;
    }

    /// The account that forwards the call now that its phones have not taken it, and why. It is asked once.
    // Deviation: RFC 3261 §16.7 item 5: after a 6xx nothing is tried any more. Here the user who declined has said where
    // such calls go: what begins is a search of its own.
    pub(super) fn take_diversion(&mut self) -> Option<(Arc<Account>, ForwardReason)> {
        let is_over = match self.state {
            ContextState::Open => self.branches.iter().all(ClientBranch::is_settled),
            ContextState::Closing => self.is_exhausted(),
            ContextState::Cancelled | ContextState::Answered => false,
        };
        if !is_over || self.diversion.is_some() {
            return None;
        }
        let account = self.account.take()?;
        let forwards = &account.calls.forwards;
        let reason = self.reasons().find(|reason| forwards.target(*reason).is_some())?;
        Some((account, reason))
    }

    /// Why the phones have not taken the call, what weighs most first.
    fn reasons(&self) -> impl Iterator<Item = ForwardReason> {
        let status = self.best.as_ref().map(Candidate::status);
        let is_final = status.is_some_and(|status| matches!(status.class(), 3 | 6));
        let unanswered = (self.is_unanswered && !is_final).then_some(ForwardReason::NoAnswer);
        let by_status = match status {
            Some(Status::BUSY_HERE | Status::BUSY_EVERYWHERE | Status::DECLINE) => {
                Some(ForwardReason::UserBusy)
            }
            Some(Status::TEMPORARILY_UNAVAILABLE | Status::FLOW_FAILED) => Some(ForwardReason::Unavailable),
            Some(status) if status.class() == 5 => Some(ForwardReason::Unavailable),
            _ => None,
        };
        [unanswered, by_status].into_iter().flatten()
    }

    /// Begins the next round, if the one before is over and lets it: these branches are to be sent at once.
    // RFC 5393 §5.3.3: the shares of all branches that are under way are together not more than what came. What has no
    // share begins when another ends. A branch that rang out keeps its share until it has ended, so that something is
    // left for those that are to begin meanwhile.
    pub(super) fn begin_round(&mut self) -> Option<Range<usize>> {
        let is_over = self.branches.iter().all(ClientBranch::is_settled);
        if self.state != ContextState::Open || !is_over || !self.round.goes_on {
            return None;
        }
        let Round { aims, ring_timeout, onward } = self.rounds.pop_front()?;
        let number = self.round.number + 1;
        self.round = CurrentRound { number, ring_timeout, onward, goes_on: true };
        let left = self.breadth_left();
        let later = self.rounds.iter().map(|round| round.aims.len()).sum::<usize>()
            + usize::from(self.account.is_some());
        let spare = left.saturating_sub(count(aims.len())).min(count(later));
        let left = left - spare;
        let first = self.branches.len();
        self.branches.extend(aims.into_iter().map(|aim| ClientBranch::new(aim, number)));
        let branches = &mut self.branches[first..];
        let begun = count(branches.len()).min(left);
        if begun == 0 {
            return Some(first..first);
        }
        let (share, rest) = (left / begun, left % begun);
        for (index, branch) in (0..begun).zip(branches) {
            branch.breadth = share + u32::from(index < rest);
        }
        Some(first..first + begun as usize)
    }

    /// How long a branch of the current round may ring, and from when that counts.
    pub(super) fn ringing(&self) -> Ringing {
        let proxy = &self.inbound.settings.proxy;
        let forwards = self.account.as_ref().map(|account| &account.calls.forwards);
        let is_forwarded = forwards.is_some_and(|forwards| forwards.no_answer.is_some());
        let has_next = (!self.rounds.is_empty() || is_forwarded) && self.round.onward == Onward::AnyFailure;
        match (self.round.ring_timeout, has_next) {
            (timeout, true) => Ringing::SinceSent(timeout.unwrap_or(proxy.serial_ring_timeout)),
            (timeout, false) => Ringing::SinceRinging(timeout.unwrap_or(proxy.ring_timeout)),
        }
    }

    /// Whether something else is tried if the current round fails.
    pub(super) fn has_next_round(&self) -> bool {
        self.state == ContextState::Open && !self.rounds.is_empty()
    }

    /// Takes note of how a branch has ended, for the rounds to come.
    pub(super) fn note(&mut self, index: usize, ending: Ending) {
        let is_current = self.branches.get(index).is_some_and(|branch| branch.round == self.round.number);
        // RFC 4320 §4.2: after the time of a request that is no INVITE its client has given up, too.
        let is_late = self.inbound.kind != Kind::Invite && ending == Ending::Failed(Status::REQUEST_TIMEOUT);
        self.is_unanswered |= matches!(ending, Ending::RangOut | Ending::Failed(Status::REQUEST_TIMEOUT));
        if is_current && (is_late || !self.round.onward.allows(ending)) {
            self.round.goes_on = false;
        }
    }

    /// Remembers the outcome of a branch that has ended.
    pub(super) fn offer(&mut self, candidate: Candidate, challenges: Vec<(Name, Vec<u8>)>) {
        let room = CHALLENGES_MAX.saturating_sub(self.challenges.len());
        self.challenges.extend(challenges.into_iter().take(room));
        let is_better = match (self.state, &self.best) {
            (ContextState::Cancelled, Some(Candidate::Received(..))) => false,
            // A phone's own 487 has the tag of the dialog that the caller knows.
            (ContextState::Cancelled, _) => {
                matches!(candidate, Candidate::Received(Status::REQUEST_TERMINATED, _))
            }
            // Of equals the first one stays.
            (_, best) => best.as_ref().is_none_or(|best| candidate.rank() < best.rank()),
        };
        if is_better {
            self.best = Some(candidate);
        }
    }

    /// Whether no branch can bring anything more.
    pub(super) fn is_exhausted(&self) -> bool {
        let has_ended = |branch: &ClientBranch| match branch.state {
            BranchState::Ended => true,
            BranchState::Idle => self.state != ContextState::Open,
            // It was given up: whoever waits is not to wait for it any more. RFC 3261 §9.1: it is cancelled if it speaks.
            BranchState::Sent(ref sent) => sent.phase == Phase::CancelWanted(Cause::TimedOut),
            BranchState::Resolving(..) => false,
        };
        self.diversion.is_none() && self.branches.iter().all(has_ended)
    }

    /// The branch to begin next in the place of one that has ended, with its breadth.
    pub(super) fn next_idle(&mut self) -> Option<usize> {
        if self.state != ContextState::Open {
            return None;
        }
        let index = self.branches.iter().position(|branch| matches!(branch.state, BranchState::Idle))?;
        let left = self.breadth_left();
        if left == 0 {
            return None;
        }
        self.branches[index].breadth = left;
        Some(index)
    }

    fn breadth_left(&self) -> u32 {
        let live = self.branches.iter().filter(|branch| branch.is_live());
        self.inbound.checked.breadth.saturating_sub(live.map(|branch| branch.breadth).sum())
    }

    /// The best of what was offered, once.
    pub(super) fn take_best(&mut self) -> Option<Candidate> {
        self.best.take()
    }

    /// The caller has cancelled.
    // RFC 3261 §9.2, RFC 3261 §15: who cancels waits for a 487 and not for what the phones said before; nothing was sent
    // upstream so far. Only a 2xx that crosses the CANCEL is passed on.
    pub(super) fn cancel(&mut self) {
        self.state = ContextState::Cancelled;
        self.best = Some(Candidate::Local(Status::REQUEST_TERMINATED));
    }

    /// All challenges that came.
    pub(super) fn challenges(&self) -> &[(Name, Vec<u8>)] {
        &self.challenges
    }
}

fn count(branches: usize) -> u32 {
    u32::try_from(branches).unwrap_or(u32::MAX)
}

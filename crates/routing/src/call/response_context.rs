//! RFC 3261 §16.7: all branches of one request, and the best of their responses.
//!
//! The context is a value: it remembers and compares, and the transaction user acts. It lives until
//! the server transaction of its request has ended.
//!
//! Invariant: at most one final response that is no 2xx goes upstream, and only when no branch is left
//! that could still bring a 2xx.

use bytes::Bytes;
use sip::{Name, Status};

use super::client_branch::{BranchState, ClientBranch};
use super::inbound::Inbound;

/// Challenges that are merged: more make the response larger than phones take.
const CHALLENGES_MAX: usize = 16;

/// A request that was forwarded.
#[derive(Debug)]
pub(super) struct ResponseContext {
    /// The request.
    pub(super) inbound: Inbound,
    /// Its branches, those that have not begun included.
    pub(super) branches: Vec<ClientBranch>,
    /// How far it is.
    pub(super) state: ContextState,
    best: Option<Candidate>,
    challenges: Vec<(Name, Vec<u8>)>,
}

/// How far a context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContextState {
    /// Branches may begin.
    Open,
    /// No branch begins any more: the caller has cancelled, or a 6xx has come.
    Closing,
    /// A final response went upstream.
    Answered,
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
    /// A context whose branches have not begun.
    pub(super) fn new(inbound: Inbound, branches: Vec<ClientBranch>) -> Self {
        Self { inbound, branches, state: ContextState::Open, best: None, challenges: Vec::new() }
    }

    /// Remembers the outcome of a branch that has ended.
    pub(super) fn offer(&mut self, candidate: Candidate, challenges: Vec<(Name, Vec<u8>)>) {
        let room = CHALLENGES_MAX.saturating_sub(self.challenges.len());
        self.challenges.extend(challenges.into_iter().take(room));
        // Of equals the first one stays.
        if self.best.as_ref().is_none_or(|best| candidate.rank() < best.rank()) {
            self.best = Some(candidate);
        }
    }

    /// Whether no branch can bring anything more.
    pub(super) fn is_exhausted(&self) -> bool {
        self.branches.iter().all(|branch| match branch.state {
            BranchState::Ended => true,
            BranchState::Idle => self.state != ContextState::Open,
            _ => false,
        })
    }

    /// The branch to begin next in the place of one that has ended, with its breadth.
    pub(super) fn next_idle(&mut self) -> Option<usize> {
        if self.state != ContextState::Open {
            return None;
        }
        let index = self.branches.iter().position(|branch| matches!(branch.state, BranchState::Idle))?;
        let used: u32 =
            self.branches.iter().filter(|branch| branch.is_live()).map(|branch| branch.breadth).sum();
        let left = self.inbound.checked.breadth.saturating_sub(used);
        if left == 0 {
            return None;
        }
        self.branches[index].breadth = left;
        Some(index)
    }

    /// Shares the breadth among the branches that begin at once, and says how many these are.
    // RFC 5393 §5.3.3: the sum of the shares is not more than what came. What has no share begins when another ends.
    pub(super) fn share_breadth(&mut self) -> usize {
        let breadth = self.inbound.checked.breadth;
        let begun = u32::try_from(self.branches.len()).unwrap_or(u32::MAX).min(breadth);
        if begun == 0 {
            return 0;
        }
        let (share, rest) = (breadth / begun, breadth % begun);
        for (index, branch) in (0..begun).zip(&mut self.branches) {
            branch.breadth = share + u32::from(index < rest);
        }
        begun as usize
    }

    /// The best of what was offered, once.
    pub(super) fn take_best(&mut self) -> Option<Candidate> {
        self.best.take()
    }

    /// All challenges that came.
    pub(super) fn challenges(&self) -> &[(Name, Vec<u8>)] {
        &self.challenges
    }
}

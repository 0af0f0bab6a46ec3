//! One branch of a forwarded request: what it aims at, and how far it is.

use std::sync::Arc;

use bytes::Bytes;
use clock::Instant;
use sip::{Aor, Status};
use transaction::ClientKey;
use transport::Destination;

use super::aim::Aim;
use super::media::MediaWay;
use crate::trunk::Proofs;
use crate::{Gateway, Token};

/// One branch.
#[derive(Clone, Debug)]
pub(super) struct ClientBranch {
    /// What it aims at; its hops are those that were not tried yet.
    pub(super) aim: Aim,
    /// Which round it is of.
    pub(super) round: u8,
    /// RFC 5393 §5.3: its share of the breadth.
    pub(super) breadth: u32,
    /// Attempts made.
    pub(super) attempts: u8,
    /// What the last attempt that failed would be answered with.
    pub(super) failure: Status,
    /// What was proved to the carrier that it goes to.
    pub(super) proofs: Proofs,
    /// How far it is.
    pub(super) state: BranchState,
    /// The client transaction of its last attempt.
    pub(super) client: Option<ClientKey>,
    /// Attempts at servers that were silent; they may still speak.
    pub(super) passed_over: Vec<(ClientKey, Sent)>,
    /// The gateway whose outcome nobody has been told of yet.
    pub(super) untold: Option<Arc<Gateway>>,
    /// Whether the call is counted at its gateway, for as long as the branch lives; then the call itself has it.
    pub(super) gateway_calls: GatewayCalls,
    /// Whether its media pass the relay.
    pub(super) media: MediaWay,
    /// The one reminder that is set for it.
    pub(super) reminder_at: Option<Instant>,
}

/// How a branch stands with the limit of its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GatewayCalls {
    /// Nothing was asked, or nothing is limited.
    NotCounted,
    /// The call counts there, under this key, until the branch fails or the call ends.
    Counted(Aor),
}

/// How far a branch is.
#[derive(Clone, Debug)]
pub(super) enum BranchState {
    /// It has not begun.
    Idle,
    /// It waits for the DNS, or for a place at its gateway.
    Resolving(Token),
    /// It was sent.
    Sent(Sent),
    /// It has its final response, or none will come.
    Ended,
}

/// A branch that was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// The branch of its Via.
    pub(super) branch: Bytes,
    /// The request as it left: a CANCEL is made of it.
    pub(super) request: Bytes,
    /// Where it went.
    pub(super) to: Destination,
    /// What has come back.
    pub(super) phase: Phase,
    /// RFC 3261 §16.6 item 11: timer C. `None` for all but INVITE.
    pub(super) timer_c: Option<Instant>,
    /// When it has rung long enough.
    pub(super) ring_until: Option<Instant>,
    /// When a server that was not heard of is passed over.
    pub(super) silent_until: Option<Instant>,
    /// When a gateway has been silent long enough for the next one to be tried.
    pub(super) answer_until: Option<Instant>,
}

/// What has come back on a branch that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing.
    Calling,
    /// A provisional response.
    Proceeding,
    /// Nothing, and as soon as something comes it is cancelled.
    CancelWanted(Cause),
    /// It was cancelled; a branch that never answers that is freed at this time.
    Cancelling(Cause, Instant),
}

/// Why a branch is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The caller sent CANCEL.
    CallerGone,
    /// Another branch was answered by a 2xx.
    Answered,
    /// Another branch was answered by a 6xx.
    Declined,
    /// It rang too long, or timer C fired.
    TimedOut,
}

impl Cause {
    /// The Reason of the CANCEL (RFC 3326), if it tells the phone more than the CANCEL itself.
    pub(super) fn reason(self) -> Option<&'static [u8]> {
        match self {
            // RFC 3326 §3.1: so that the phone shows no missed call.
            Self::Answered => Some(b"SIP;cause=200;text=\"Call completed elsewhere\""),
            Self::Declined => Some(b"SIP;cause=603;text=\"Declined elsewhere\""),
            Self::CallerGone | Self::TimedOut => None,
        }
    }

    /// What a cancelled branch without a final response counts as.
    pub(super) fn outcome(self) -> Status {
        match self {
            Self::CallerGone | Self::Answered | Self::Declined => Status::REQUEST_TERMINATED,
            Self::TimedOut => Status::REQUEST_TIMEOUT,
        }
    }
}

impl ClientBranch {
    /// A branch that has not begun.
    pub(super) fn new(aim: Aim, round: u8) -> Self {
        Self {
            round,
            breadth: 1,
            attempts: 0,
            failure: aim.unreachable,
            untold: aim.leg.as_ref().map(|leg| Arc::clone(&leg.gateway)),
            gateway_calls: GatewayCalls::NotCounted,
            media: MediaWay::Undecided,
            aim,
            proofs: Proofs::default(),
            state: BranchState::Idle,
            reminder_at: None,
            client: None,
            passed_over: Vec::new(),
        }
    }

    /// Its last attempt, while that is under way.
    pub(super) fn sent(&self) -> Option<&Sent> {
        match &self.state {
            BranchState::Sent(sent) => Some(sent),
            BranchState::Idle | BranchState::Resolving(_) | BranchState::Ended => None,
        }
    }

    /// Whether it is under way: it counts against the breadth.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, BranchState::Resolving(..) | BranchState::Sent(_))
    }

    /// Whether the search need not wait for it: it has ended, or it rang out and is being cancelled.
    pub(super) fn is_settled(&self) -> bool {
        match &self.state {
            BranchState::Idle | BranchState::Resolving(..) => false,
            BranchState::Sent(sent) => {
                matches!(
                    sent.phase,
                    Phase::CancelWanted(Cause::TimedOut) | Phase::Cancelling(Cause::TimedOut, _)
                )
            }
            BranchState::Ended => true,
        }
    }

    /// Whether its server was silent for as long as it is waited for while there are others.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.sent().is_some_and(|sent| {
            sent.phase == Phase::Calling && sent.silent_until.is_some_and(|until| until <= now)
        })
    }

    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            BranchState::Sent(sent) => match sent.phase {
                Phase::Cancelling(_, freed_at) => Some(freed_at),
                Phase::Calling => {
                    let Sent { timer_c, ring_until, silent_until, answer_until, .. } = sent;
                    [*timer_c, *ring_until, *silent_until, *answer_until].into_iter().flatten().min()
                }
                _ => [sent.timer_c, sent.ring_until].into_iter().flatten().min(),
            },
            _ => None,
        }
    }
}

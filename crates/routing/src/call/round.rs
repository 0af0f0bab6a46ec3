//! What a request tries, and in what order (RFC 3261 §16.6): rounds, one after the other.
//!
//! A round is a list of aims that are tried at once, as far as the breadth of RFC 5393 goes; the rest of a
//! round begins as others of it end. The next round begins when the round is over without success and its
//! [`Onward`] allows it. A 2xx, a 6xx and the caller's CANCEL end all rounds.
//!
//! Phones of one user are rounds by `q` ([`by_preference`]), the gateways of a route are rounds of one aim
//! each. Where a URI leads, and by what rounds, is said in [`lead`](super::lead) for requests that begin and for
//! those that are forwarded while they are under way.

use std::time::Duration;

use sip::Status;

use super::aim::Aim;
use super::target;
use crate::{Keyring, Target};

/// Rounds of one request. A caller that waits for so many phones or gateways, one after the other, has gone; the
/// rest is not tried.
pub(super) const ROUNDS_MAX: usize = 32;

/// Aims that are tried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    /// What is tried at once.
    pub(super) aims: Vec<Aim>,
    /// How long each of them may ring; `None` is what the settings say.
    pub(super) ring_timeout: Option<Duration>,
    /// When the next round begins, if there is one.
    pub(super) onward: Onward,
}

/// On what condition the next round begins. All branches of a round must meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onward {
    /// Serial forking: whatever failed, short of a 3xx and a 6xx; a phone that rang out too.
    AnyFailure,
    /// The next server for the same call: only where this one was silent, could not be reached, or said 408 or
    /// 5xx. Everything else, and a phone behind it that rings out, is the call's own end.
    Failover,
}

/// How a branch has ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a final response, or what silence and unreachability count as.
    Failed(Status),
    /// It rang, and nobody answered in time.
    RangOut,
}

impl Round {
    /// A round of serial forking.
    pub(super) fn new(aims: Vec<Aim>) -> Self {
        Self { aims, ring_timeout: None, onward: Onward::AnyFailure }
    }

    /// A server that the whole call is handed to.
    pub(super) fn at_server(aim: Aim) -> Self {
        Self { aims: vec![aim], ring_timeout: None, onward: Onward::Failover }
    }
}

impl Onward {
    /// Whether the search goes on after a branch that has ended so.
    pub(super) fn allows(self, ending: Ending) -> bool {
        match (self, ending) {
            // RFC 3261 §16.7 item 5: a 6xx is the last word; and a redirection says where to go on.
            (_, Ending::Failed(status)) if matches!(status.class(), 3 | 6) => false,
            (Self::AnyFailure, _) => true,
            (Self::Failover, Ending::RangOut) => false,
            (Self::Failover, Ending::Failed(status)) => {
                status.class() == 5 || matches!(status, Status::REQUEST_TIMEOUT | Status::FLOW_FAILED)
            }
        }
    }
}

/// The phones of one user: those of equal `q` at once, the preferred ones first.
// RFC 3261 §16.6: sequentially by q. A phone that is registered over several flows has the place of the first.
pub(super) fn by_preference(keyring: &Keyring, mut targets: Vec<Target>) -> Vec<Round> {
    // The order among equals stays.
    targets.sort_by_key(|target| std::cmp::Reverse(target.q));
    let mut rounds: Vec<(u16, Round)> = Vec::new();
    for (q, aim) in target::aims(keyring, targets) {
        match rounds.last_mut() {
            Some((last, round)) if *last == q => round.aims.push(aim),
            _ => rounds.push((q, Round::new(vec![aim]))),
        }
    }
    rounds.into_iter().map(|(_, round)| round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_server_is_for_calls_that_the_first_one_could_not_serve() {
        for (status, goes_on) in
            [(408, true), (430, true), (500, true), (503, true), (404, false), (486, false), (302, false)]
        {
            assert_eq!(Onward::Failover.allows(Ending::Failed(Status(status))), goes_on, "{status}");
        }
        assert!(!Onward::Failover.allows(Ending::RangOut));
        assert!(!Onward::Failover.allows(Ending::Failed(Status(603))));
    }

    #[test]
    fn the_next_phone_is_for_calls_that_nobody_decided() {
        for (status, goes_on) in [(404, true), (486, true), (503, true), (302, false), (600, false)] {
            assert_eq!(Onward::AnyFailure.allows(Ending::Failed(Status(status))), goes_on, "{status}");
        }
        assert!(Onward::AnyFailure.allows(Ending::RangOut));
    }
}

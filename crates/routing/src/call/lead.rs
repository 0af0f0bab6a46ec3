//! Where a URI leads, be it one of ours or elsewhere (RFC 3261 §16.5).
//!
//! [`TransactionUser::lead`] says it for the Request-URI that a request has to go on with, and
//! [`TransactionUser::lead_of`] goes on with what the location knows of a user. Both only find out: whoever asks,
//! for a request that has just been admitted or for one whose phones did not take it, goes on with the [`Lead`].
//!
//! A user whose calls are forwarded leads to where they are forwarded. Invariant: a call is forwarded by a user
//! once at most, and [`DIVERSIONS_MAX`] times in all.

use std::sync::Arc;

use bytes::Bytes;
use sip::{Aor, Method, Status};

use super::aim::{Aim, Size};
use super::inbound::{Inbound, Sender};
use super::proxy::{Resource, resource};
use super::reply::Reply;
use super::round::{self, Round};
use super::suspended::Located as Look;
use super::user::TransactionUser;
use crate::{Account, Count, ForwardReason, ForwardTarget, Located, Question};

/// How often one call is forwarded, by all servers that say so in its Diversion header fields. Each may have its
/// reason; whoever is called in the end can not tell any more why.
pub(super) const DIVERSIONS_MAX: usize = 5;

/// One forwarding of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Diversion {
    /// Whose calls are forwarded.
    pub(super) by: Aor,
    /// Why.
    pub(super) reason: ForwardReason,
}

/// Where something leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// These are to be tried.
    Try(Plan),
    /// The location has to be asked first; then [`TransactionUser::lead_of`] goes on.
    Ask(Aor, Look),
    /// It leads nowhere.
    Refuse(Reply),
}

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// In this order.
    pub(super) rounds: Vec<Round>,
    /// The account whose phones they are, if it has rules for its calls.
    pub(super) account: Option<Arc<Account>>,
}

impl Plan {
    /// Rounds that no account has rules for.
    pub(super) fn of(rounds: Vec<Round>) -> Self {
        Self { rounds, account: None }
    }

    /// Rounds of an account's phones, or of servers that have them: its rules count for both.
    pub(super) fn of_account(mut rounds: Vec<Round>, account: Arc<Account>) -> Self {
        for aim in rounds.iter_mut().flat_map(|round| &mut round.aims) {
            aim.relay = account.calls.relay;
        }
        let account = Some(account).filter(|account| !account.calls.forwards.is_empty());
        Self { rounds, account }
    }
}

impl TransactionUser {
    /// Where the Request-URI leads that a request is to go on with.
    pub(super) fn lead(&mut self, inbound: &Inbound) -> Lead {
        match resource(inbound) {
            Resource::User(aor) => Lead::Ask(aor, Look::ByName),
            // RFC 5627 §6.1: 404 for a GRUU that is not valid.
            Resource::Ourselves | Resource::Nobody => Lead::Refuse(Reply::new(Status::NOT_FOUND)),
            Resource::Number => self.dial(inbound),
            // A listener without digest is open for our own users only: else everybody on its network could send
            // through this server to anywhere. What one of our users forwards goes there in that user's name.
            Resource::Foreign if inbound.sender == Some(Sender::Open) && inbound.diversions.is_empty() => {
                Lead::Refuse(Reply::new(Status::FORBIDDEN))
            }
            Resource::Foreign if Self::is_led_around_routes(inbound) => {
                Lead::Refuse(Reply::new(Status::FORBIDDEN))
            }
            Resource::Foreign if self.is_dialled(inbound) => self.dial(inbound),
            Resource::Foreign => {
                let aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Counts);
                Lead::Try(Plan::of(vec![Round::at_server(aim)]))
            }
        }
    }

    /// Where a user leads of whom the location knows this. A call that the user forwards gets its next Request-URI.
    pub(super) fn lead_of(&mut self, inbound: &mut Inbound, look: Look, found: Located) -> Lead {
        let unavailable = || Lead::Refuse(Reply::new(Status::TEMPORARILY_UNAVAILABLE));
        match (found, look) {
            (Located::Ruled(targets, account), _) => {
                let forwards = &account.calls.forwards;
                let reason = match targets.is_empty() {
                    _ if forwards.always.is_some() => ForwardReason::Unconditional,
                    true => ForwardReason::Unavailable,
                    false => {
                        let rounds = round::by_preference(&self.keyring, targets);
                        return Lead::Try(Plan::of_account(rounds, account));
                    }
                };
                match forwards.target(reason) {
                    Some(target) => self.divert(inbound, &account, reason, target),
                    None => unavailable(),
                }
            }
            (Located::Targets(targets), _) if targets.is_empty() => unavailable(),
            (Located::Targets(targets), _) => {
                Lead::Try(Plan::of(round::by_preference(&self.keyring, targets)))
            }
            (Located::Alias(aor), Look::ByName | Look::Routed) => Lead::Ask(aor, Look::ByAlias),
            // A number that is no account of ours.
            (Located::UnknownAor, Look::ByName) => self.dial(inbound),
            (Located::UnknownAor | Located::Alias(_), _) => Lead::Refuse(Reply::new(Status::NOT_FOUND)),
            (Located::Unavailable, Look::ByName) => self.dial_unasked(inbound),
            (Located::Unavailable, _) => Lead::Refuse(Reply::later(Status::SERVER_INTERNAL_ERROR)),
        }
    }

    /// Where a call leads that an account forwards.
    pub(super) fn divert(
        &mut self,
        inbound: &mut Inbound,
        account: &Account,
        reason: ForwardReason,
        target: &ForwardTarget,
    ) -> Lead {
        let is_repeated = inbound.diversions.iter().any(|diversion| diversion.by == account.aor);
        if is_repeated || inbound.diversions.len() + inbound.diversions_before >= DIVERSIONS_MAX {
            self.counts.add(Count::Loop);
            return Lead::Refuse(Reply::new(Status::LOOP_DETECTED).because("Forwarded Too Often"));
        }
        self.counts.add(Count::Diverted);
        inbound.diversions.push(Diversion { by: account.aor.clone(), reason });
        inbound.routed.request_uri = Bytes::copy_from_slice(target.as_str().as_bytes());
        inbound.routed.gruu = None;
        self.lead(inbound)
    }

    /// What the location is asked for a request: a call goes by the rules of the account that is called, unless it is for
    /// one phone of it.
    pub(super) fn question(inbound: &Inbound, aor: Aor) -> Question {
        if inbound.routed.gruu.is_some() {
            return inbound.routed.where_is(aor);
        }
        let message = inbound.message();
        let is_call = message
            .is_some_and(|request| request.method() == Some(Method::Invite) && request.to_tag().is_none());
        if is_call { Question::Call(aor) } else { Question::Locate(aor) }
    }
}

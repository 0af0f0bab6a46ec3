//! Calls that are forwarded after the phones of a user did not take them, and what tells it (RFC 5806).

use clock::Now;
use transaction::ServerKey;

use super::Output;
use super::inbound::Inbound;
use super::lead::Lead;
use super::response_context::{ContextState, ResponseContext};
use super::suspended::{Located as Look, Sought, Stage};
use super::user::TransactionUser;
use crate::{Count, Located};

impl TransactionUser {
    /// Goes on with where a user forwards a call that none of its phones took. `false`: there is nothing to go on with.
    pub(super) fn divert_unanswered(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some((account, reason)) = context.take_diversion() else { return false };
        let Some(target) = account.calls.forwards.target(reason) else { return false };
        let lead = self.divert(&mut context.inbound, &account, reason, target);
        self.pursue(now, key, context, lead, out)
    }

    /// The location has answered for a user that a call is forwarded to.
    pub(super) fn diversion_located(
        &mut self,
        now: Now,
        key: ServerKey,
        look: Look,
        found: Located,
        out: &mut Vec<Output>,
    ) {
        let Some(mut context) = self.contexts.remove(&key) else { return };
        context.diversion = None;
        // A phone that was given up may have answered meanwhile.
        if matches!(context.state, ContextState::Open | ContextState::Closing) {
            let lead = self.lead_of(&mut context.inbound, look, found);
            self.pursue(now, key, &mut context, lead, out);
        }
        self.settle(now, key, context, out);
    }

    /// Where it leads nowhere, the caller hears what the phones have said.
    fn pursue(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        lead: Lead,
        out: &mut Vec<Output>,
    ) -> bool {
        match lead {
            Lead::Try(plan) => context.pursue(plan),
            Lead::Ask(aor, look) if self.waiting.has_room() => {
                self.seek_diversion(now, key, context, Sought { aor, look }, out);
            }
            Lead::Ask(..) => {
                self.counts.add(Count::Full);
                return false;
            }
            Lead::Refuse(_) => return false,
        }
        true
    }

    /// Asks where the user is that a call is forwarded to. The caller has asked for room.
    pub(super) fn seek_diversion(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        sought: Sought,
        out: &mut Vec<Output>,
    ) {
        let aor = sought.aor.clone();
        let question = Self::question(&context.inbound, aor.clone());
        let token = self.suspend(now, Stage::Diversion(key, sought));
        context.diversion = Some(token);
        out.push(Output::Ask { partition_of: aor, token, question });
    }
}

/// The Diversion values that tell by whom a call was forwarded, the last one first.
// RFC 5806 §4.1: on top of those that came.
pub(super) fn values(inbound: &Inbound) -> impl Iterator<Item = Vec<u8>> {
    inbound.diversions.iter().map(|diversion| {
        format!("<sip:{}>;reason={};counter=1", diversion.by, diversion.reason.as_str()).into_bytes()
    })
}

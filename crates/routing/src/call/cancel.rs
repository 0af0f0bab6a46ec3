//! CANCEL of a request that this server is working on (RFC 3261 §9.2, RFC 3261 §16.10).

use sip::Status;
use transaction::ServerKey;

use super::Output;
use super::client_branch::Cause;
use super::inbound::{Inbound, Turn};
use super::reply::Reply;
use super::response_context::ContextState;
use super::suspended::Stage;
use super::user::TransactionUser;
use crate::Count;

impl TransactionUser {
    /// A CANCEL for the INVITE of `invite`.
    pub(super) fn receive_cancel(&mut self, turn: Turn<'_, '_>, invite: ServerKey, out: &mut Vec<Output>) {
        tracing::debug!(call_id = %Inbound::call_id(turn.request), "cancel");
        if let Some(inbound) = self.waiting.cancel(invite).and_then(Stage::into_inbound) {
            self.changes.note(invite);
            self.confirm(turn, out);
            let Some(request) = inbound.message() else { return };
            let turn = Turn { key: invite, request: &request, ..turn };
            return self.respond(turn, &inbound, &Reply::new(Status::REQUEST_TERMINATED), out);
        }
        let Some(mut context) = self.contexts.remove(&invite) else {
            // RFC 3261 §9.2: nothing to cancel.
            self.counts.add(Count::StrayCancel);
            let reply = Reply::new(Status::CALL_DOES_NOT_EXIST);
            return self.refuse_stateless(turn, &reply, out);
        };
        self.confirm(turn, out);
        if context.state != ContextState::Answered {
            // RFC 3261 §16.10: all that is under way is cancelled; the 487s come from there.
            context.cancel();
            if let Some(token) = context.diversion.take() {
                self.waiting.resume(token);
            }
            self.cancel_branches(turn.now, invite, &mut context, None, Cause::CallerGone, out);
        }
        self.settle(turn.now, invite, context, out);
    }

    fn confirm(&self, turn: Turn<'_, '_>, out: &mut Vec<Output>) {
        let reply = Reply::new(Status::OK);
        let message = reply.write(turn.request, &self.keyring, &self.settings);
        out.push(Output::Respond { key: turn.key, status: reply.status, message });
    }
}

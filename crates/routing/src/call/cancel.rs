//! CANCEL of a request that this server is working on (RFC 3261 §9.2, §16.10).

use clock::Now;
use sip::{Message, Status};
use transaction::ServerKey;

use super::Output;
use super::client_branch::Cause;
use super::inbound::Inbound;
use super::reply::Reply;
use super::response_context::ContextState;
use super::suspended::Stage;
use super::user::TransactionUser;

impl TransactionUser {
    /// A CANCEL for the INVITE of `invite`.
    pub(super) fn receive_cancel(
        &mut self,
        now: Now,
        key: ServerKey,
        invite: ServerKey,
        cancel: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        tracing::debug!(call_id = %Inbound::call_id(cancel), "cancel");
        if let Some(stage) = self.waiting.cancel(invite) {
            self.confirm(key, cancel, out);
            if let Stage::Authenticate(_, inbound, _)
            | Stage::Register(_, inbound)
            | Stage::Locate(_, inbound, _)
            | Stage::Side(_, inbound) = stage
            {
                self.respond(invite, &inbound, &Reply::new(Status::REQUEST_TERMINATED), out);
            }
            return;
        }
        let Some(mut context) = self.contexts.remove(&invite) else {
            // RFC 3261 §9.2: nothing to cancel.
            let reply = Reply::new(Status::CALL_DOES_NOT_EXIST);
            return self.refuse_stateless(key, cancel, &reply, out);
        };
        self.confirm(key, cancel, out);
        if context.state != ContextState::Answered {
            // RFC 3261 §16.10: all that is under way is cancelled; the 487s come from there.
            context.state = ContextState::Closing;
            self.cancel_branches(now, invite, &mut context, None, Cause::CallerGone, out);
        }
        self.settle(now, invite, context, out);
    }

    fn confirm(&self, key: ServerKey, cancel: &Message<'_>, out: &mut Vec<Output>) {
        let reply = Reply::new(Status::OK);
        let message = reply.write(cancel, &self.keyring, &self.settings);
        out.push(Output::Respond { key, status: reply.status, message });
    }
}

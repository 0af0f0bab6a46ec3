//! Challenges of a carrier at which we have an account (RFC 3261 §22.2, RFC 3261 §22.3).
//!
//! They do not go upstream: who called knows nothing of our account. The request is sent again where it was sent, as
//! another attempt of the same branch. A challenge that is not ours to answer goes upstream like any other response.

use sip::{Message, Method, Status};
use transport::{Destination, Flow, Transport};

use super::aim::{Aim, Hop, Size};
use super::client_branch::{BranchState, ClientBranch};
use super::own_request;
use super::response_context::ResponseContext;
use super::user::TransactionUser;
use crate::Count;
use crate::trunk::Unanswered;

/// What becomes of a response on a branch to a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// It is answered: the branch goes on.
    Answered,
    /// It was answered before, and that was not accepted.
    Refused,
    /// It is no challenge, or none for us.
    NotForUs,
}

impl TransactionUser {
    /// Prepares the answer to a challenge.
    pub(super) fn answer_challenge(
        &mut self,
        context: &mut ResponseContext,
        index: usize,
        response: &Message<'_>,
    ) -> Challenge {
        if !matches!(response.status(), Some(Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED)) {
            return Challenge::NotForUs;
        }
        let is_own = own_request::trunk(&context.inbound).is_some();
        let is_in_dialog = context.inbound.message().is_some_and(|request| request.to_tag().is_some());
        let method = response.cseq().map_or(Method::Other(b""), |cseq| cseq.method);
        let ClientBranch { aim, proofs, state, .. } = &mut context.branches[index];
        let Aim { account, cseq_shift, hops, .. } = aim;
        let (Some(trunk), BranchState::Sent(sent)) = (&*account, &*state) else {
            return Challenge::NotForUs;
        };
        match self.trunks.challenged(trunk, proofs, method, response) {
            Ok(()) => {
                self.counts.add(Count::CarrierChallenged);
                // Within a dialog the number can not grow: what follows would have to grow by more than its token says.
                // RFC 3261 §12.2.2: a peer refuses a lower number only.
                if !is_in_dialog {
                    *cseq_shift += 1;
                }
                hops.push_front(hop(sent.to));
                Challenge::Answered
            }
            Err(Unanswered::Refused) => {
                self.counts.add(Count::CarrierRefused);
                if !is_own && self.trunks.doubt(trunk) {
                    tracing::warn!(account = %trunk.name, "the carrier does not accept our name or password");
                }
                // Who registers is told what the carrier said.
                if is_own { Challenge::NotForUs } else { Challenge::Refused }
            }
            Err(Unanswered::NotForUs) => Challenge::NotForUs,
        }
    }
}

/// The same way again.
fn hop(to: Destination) -> Hop {
    match to {
        Destination::Flow(flow @ (Flow::Datagram { .. } | Flow::Connection { .. })) => Hop::Flow(flow),
        Destination::Connect { remote, .. } => Hop::Address(remote, Transport::Tcp, Size::Ignored),
    }
}

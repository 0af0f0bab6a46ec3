//! The limit of calls of a gateway: a branch asks for a place before it is sent, and gives it back when it has failed.
//!
//! All shards send calls to one gateway, so the calls are counted in one place, which is a partition as for the calls
//! of an account. What a branch that was answered holds goes with its call ([`live_calls`](super::live_calls)).

use clock::Now;
use sip::Status;
use transaction::ServerKey;

use super::Output;
use super::branches;
use super::client_branch::{BranchState, GatewayCalls};
use super::inbound::Turn;
use super::response_context::ResponseContext;
use super::suspended::Stage;
use super::user::TransactionUser;
use crate::{Answer, Count, Question};

impl TransactionUser {
    /// Asks for a place at the gateway of a branch, if its calls are limited and it has none yet. Whether it did, or ended
    /// the branch.
    pub(super) fn asks_for_place(
        &mut self,
        turn: Turn<'_, '_>,
        context: &mut ResponseContext,
        index: usize,
        out: &mut Vec<Output>,
    ) -> bool {
        let branch = &mut context.branches[index];
        if branch.gateway_calls != GatewayCalls::NotCounted {
            return false;
        }
        let gateway = branch.aim.leg.as_ref().map(|leg| &leg.gateway);
        let limited = gateway.and_then(|gateway| {
            let max = gateway.calls_max?;
            Some((gateway.calls_key()?, max))
        });
        let Some((gateway, max)) = limited else { return false };
        let Some(call) = self.begun_call(turn.request) else { return false };
        if !self.waiting.has_room() {
            self.counts.add(Count::Full);
            branches::end(context, index, Status::SERVICE_UNAVAILABLE);
            return true;
        }
        let token = self.suspend(turn.now, Stage::Gateway(turn.key, index));
        context.branches[index].state = BranchState::Resolving(token);
        let question = Question::EnterGateway(gateway.clone(), call, max);
        out.push(Output::Ask { partition_of: gateway, token, question });
        true
    }

    /// The gateway of a branch has a place for its call, or none; `None`: nobody has said it in time.
    pub(super) fn place_answered(
        &mut self,
        now: Now,
        key: ServerKey,
        index: usize,
        answer: Option<Answer>,
        out: &mut Vec<Output>,
    ) {
        let Some(mut context) = self.contexts.remove(&key) else { return };
        match answer {
            Some(Answer::AtGateway(gateway, call)) => {
                if self.call_at_gateway(key, &gateway) {
                    context.branches[index].gateway_calls = GatewayCalls::Counted(gateway);
                    self.go_on(now, key, &mut context, index, out);
                } else {
                    self.tell_left(now, gateway, call, out);
                    branches::end(&mut context, index, Status::SERVER_INTERNAL_ERROR);
                }
            }
            Some(_) => {
                self.counts.add(Count::GatewayFull);
                context.has_full_gateway = true;
                branches::end(&mut context, index, Status::SERVICE_UNAVAILABLE);
            }
            None => branches::end(&mut context, index, Status::SERVER_INTERNAL_ERROR),
        }
        self.settle(now, key, context, out);
    }

    /// Gives back the places of the branches that have failed.
    pub(super) fn leave_gateways(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        out: &mut Vec<Output>,
    ) {
        for branch in &mut context.branches {
            if matches!(branch.state, BranchState::Ended)
                && let GatewayCalls::Counted(gateway) =
                    std::mem::replace(&mut branch.gateway_calls, GatewayCalls::NotCounted)
            {
                self.call_left_gateway(now, key, &gateway, out);
            }
        }
    }
}

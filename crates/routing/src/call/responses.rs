//! Responses to what was forwarded, and the one that goes upstream (RFC 3261 §16.7).

use bytes::Bytes;
use clock::Now;
use sip::{Message, Method, Name, StartLine, Status};
use transaction::{ClientKey, Kind, ServerKey};
use transport::Source;

use super::Output;
use super::challenge::Challenge;
use super::client_branch::{BranchState, Cause, GatewayCalls, Phase};
use super::inbound::{Inbound, Sender};
use super::live_calls::{Failed, is_for_an_end};
use super::media::{MediaEnd, MediaWithin};
use super::own_request;
use super::proxy::{Resource, resource};
use super::reply::Reply;
use super::response_context::{Candidate, ContextState, ResponseContext, Ringing};
use super::round::Ending;
use super::user::TransactionUser;
use super::{branches, edge, failover, forward};
use crate::gateway::{Failure, Outcome};
use crate::{CallEnding, Count, Report};

impl TransactionUser {
    /// A response to one of our requests.
    pub(super) fn receive_response(
        &mut self,
        now: Now,
        client: ClientKey,
        source: Source,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) {
        let (Some(status), Ok(cseq)) = (response.status(), response.cseq()) else { return };
        let Some((key, index)) = self.by_client.get(&client).copied() else {
            // RFC 3261 §16.10: the response to a CANCEL is for this proxy alone.
            if cseq.method != Method::Cancel {
                self.counts.add(Count::StrayResponse);
            }
            return;
        };
        let Some(mut context) = self.contexts.remove(&key) else {
            self.counts.add(Count::StrayResponse);
            return;
        };
        tracing::debug!(call_id = %Inbound::call_id(response), status = status.0, branch = index, "response");
        let is_current = context.branches.get(index).is_some_and(|branch| branch.client == Some(client));
        let is_believed = context.inbound.settings.is_peer(source.flow.remote().0.ip());
        let leg = context.branches.get(index).and_then(|branch| branch.aim.leg.as_ref());
        let is_masked = leg.is_some_and(|leg| leg.may_mask());
        let ask = self.ask_of_response((key, &context), (index, client), &source, response);
        let first = out.len();
        if let Some(ask) = &ask
            && let MediaWithin::Fork(..) = ask.within
            && status.is_final()
            && !status.is_success()
        {
            out.push(Output::MediaOver(MediaEnd::Branch(client)));
        }
        if !is_current {
            let copy = forward::response(&context.inbound, response, is_believed, is_masked);
            self.late_response(now, key, &mut context, index, client, response, copy, out);
        } else {
            let branch = &mut context.branches[index];
            if let Some(outcome) = outcome(response, status)
                && (outcome == Outcome::Answered || !branch.aim.has_more())
            {
                branches::tell(branch, outcome, out);
            }
            let copy = || forward::response(&context.inbound, response, is_believed, is_masked);
            if let Some(sent) = context.branches[index].sent() {
                self.note_answer(sent);
            }
            let is_registration =
                context.inbound.sender == Some(Sender::ToRegistrar) && cseq.method == Method::Register;
            if let Some(deed) = edge::judged(&context.inbound, status) {
                out.push(Output::Report(Report::shown(context.inbound.source.flow, deed)));
            }
            if status.is_provisional() {
                let copy = (status != Status::TRYING).then(copy);
                self.provisional(now, key, &mut context, index, status, copy, out);
            } else {
                let copy = match is_registration {
                    true => edge::restore_contacts(&self.keyring, &copy()),
                    false => copy(),
                };
                if is_registration
                    && status.is_success()
                    && let Ok(accepted) = Message::parse(&copy)
                {
                    self.note_registration(now, &context.inbound, &accepted, out);
                }
                self.final_response(now, key, &mut context, index, response, copy, out);
            }
        }
        self.relay_responses(key, ask, |status| !status.is_final() || status.is_success(), &mut out[first..]);
        self.settle(now, key, context, out);
    }

    /// Sends the final response when there is nothing more to wait for, and keeps the context.
    pub(super) fn settle(
        &mut self,
        now: Now,
        key: ServerKey,
        mut context: ResponseContext,
        out: &mut Vec<Output>,
    ) {
        if context.inbound.kind == Kind::Invite {
            self.changes.note(key);
        }
        loop {
            while let Some(index) = context.next_idle() {
                self.go_on(now, key, &mut context, index, out);
            }
            // A round of which nothing could be sent is over at once.
            if let Some(begun) = context.begin_round() {
                for index in begun {
                    self.go_on(now, key, &mut context, index, out);
                }
            } else if !self.divert_unanswered(now, key, &mut context, out) {
                break;
            }
        }
        self.leave_gateways(now, key, &mut context, out);
        if context.state != ContextState::Answered && context.is_exhausted() {
            let before = std::mem::replace(&mut context.state, ContextState::Answered);
            if is_for_an_end(&context.inbound) {
                let status = context.take_best().map(|best| best.status());
                return self.errand_done(now, key, status, out);
            }
            if let Some(trunk) = own_request::trunk(&context.inbound).cloned() {
                return self.conclude_own(now, &trunk, &mut context, out);
            }
            let whose = match (before, &context.best) {
                (ContextState::Cancelled, _) => CallEnding::Cancelled,
                // RFC 3261 §21.4.25: nothing but a CANCEL makes one. It was taken by a node that was lost.
                (_, Some(best)) if best.status() == Status::REQUEST_TERMINATED => CallEnding::Cancelled,
                (_, Some(Candidate::Received(..))) => CallEnding::Refused,
                (_, Some(Candidate::Local(Status::REQUEST_TIMEOUT))) => CallEnding::NoAnswer,
                (_, Some(Candidate::Local(_)) | None) => CallEnding::Turned,
            };
            let first = out.len();
            let is_answered = self.send_best(now, key, &mut context, out);
            let sent = sent_to(key, &out[first..]);
            self.invite_ended(now, key, || failed(whose, sent, &context), out);
            if !is_answered {
                return;
            }
        }
        self.contexts.insert(key, context);
    }

    /// Forgets a context whose server transaction has ended.
    pub(super) fn end_context(&mut self, key: ServerKey, out: &mut Vec<Output>) {
        let Some(context) = self.contexts.remove(&key) else { return };
        let is_invite = context.inbound.kind == Kind::Invite;
        if is_invite {
            self.changes.note(key);
        }
        if let Some(token) = context.diversion {
            self.waiting.resume(token);
        }
        for branch in &context.branches {
            for (client, _) in &branch.passed_over {
                if self.by_client.remove(client).is_some() && is_invite {
                    out.push(Output::Abandon { key: *client });
                }
            }
            match (&branch.state, branch.client) {
                (BranchState::Resolving(token), _) => {
                    self.waiting.resume(*token);
                }
                (BranchState::Sent(_), Some(client)) => {
                    self.by_client.remove(&client);
                    // A request that is no INVITE may still be on its way to other phones.
                    if is_invite {
                        out.push(Output::Abandon { key: client });
                    }
                }
                _ => {}
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are one response and its branch")]
    fn provisional(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        index: usize,
        status: Status,
        copy: Option<Bytes>,
        out: &mut Vec<Output>,
    ) {
        let ringing = context.ringing();
        let timer_c = context.inbound.settings.proxy.timer_c;
        let BranchState::Sent(sent) = &mut context.branches[index].state else { return };
        if copy.is_some() && sent.timer_c.is_some() {
            // RFC 3261 §16.7 item 2: each 101-199 restarts timer C; nothing restarts the time that it may ring.
            sent.timer_c = Some(now.instant + timer_c);
            if let Ringing::SinceRinging(timeout) = ringing {
                sent.ring_until.get_or_insert(now.instant + timeout);
            }
        }
        sent.answer_until = None;
        match sent.phase {
            Phase::Calling => sent.phase = Phase::Proceeding,
            Phase::Proceeding => {}
            Phase::CancelWanted(cause) => {
                // RFC 3261 §9.1: a CANCEL waits for a provisional response.
                sent.phase = Phase::Proceeding;
                self.cancel_branch(now, context, index, cause, out);
            }
            Phase::Cancelling(..) => {}
        }
        self.remind(key, context, index);
        // RFC 3261 §16.7 item 5: a 100 stays here, every other provisional response is passed on at once.
        if let Some(message) = copy
            && context.state != ContextState::Answered
            && !own_request::is_own(&context.inbound)
        {
            out.push(Output::Respond { key, status, message });
        }
    }

    #[expect(clippy::too_many_arguments, reason = "they are one response and its branch")]
    fn final_response(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        index: usize,
        response: &Message<'_>,
        copy: Bytes,
        out: &mut Vec<Output>,
    ) {
        let status = response.status().unwrap_or(Status::SERVER_INTERNAL_ERROR);
        let is_invite = response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        let branch = &mut context.branches[index];
        let phase = match &branch.state {
            BranchState::Sent(sent) => sent.phase,
            // RFC 3261 §16.7 item 5: a 2xx to INVITE is passed on however many came before.
            BranchState::Ended if is_invite && status.is_success() => {
                self.call_answered(now, key, (context, index), response, &copy);
                out.push(Output::Respond { key, status, message: copy });
                return;
            }
            _ => return,
        };
        if status.is_success() && own_request::is_own(&context.inbound) {
            branch.state = BranchState::Ended;
            return context.offer(Candidate::Received(status, copy), Vec::new());
        }
        if status.is_success() {
            branch.state = BranchState::Ended;
            if is_invite {
                branch.gateway_calls = GatewayCalls::NotCounted;
                self.call_answered(now, key, (context, index), response, &copy);
            }
            if let Some(request) = context.inbound.message() {
                self.refreshed_in_dialog(now, &request, response, &copy);
            }
            // One 2xx is enough for every request but INVITE.
            if is_invite || context.state != ContextState::Answered {
                out.push(Output::Respond { key, status, message: copy });
            }
            context.state = ContextState::Answered;
            if is_invite {
                // RFC 3261 §16.7 item 10: the other branches are not needed any more.
                self.cancel_branches(now, key, context, Some(index), Cause::Answered, out);
            }
            return;
        }
        // RFC 3263 §4.3: only one that says for how long it is overloaded is left alone.
        if status == Status::SERVICE_UNAVAILABLE
            && let Some(wish) = failover::retry_after(response)
        {
            self.note_failure(now.instant, branch, Some(wish));
        }
        // RFC 3263 §4.3, RFC 5626 §5.3: a server that is overloaded or a flow that failed is replaced.
        let is_retried = matches!(status, Status::SERVICE_UNAVAILABLE | Status::FLOW_FAILED)
            && matches!(phase, Phase::Calling | Phase::Proceeding)
            && context.state == ContextState::Open
            && branch.aim.has_more();
        if is_retried {
            branch.failure = status;
            return self.go_on(now, key, context, index, out);
        }
        let is_live = matches!(phase, Phase::Calling | Phase::Proceeding);
        let challenge = match context.state {
            ContextState::Open if is_live => self.answer_challenge(context, index, response),
            _ => Challenge::NotForUs,
        };
        let branch = &mut context.branches[index];
        match challenge {
            Challenge::Answered => return self.go_on(now, key, context, index, out),
            Challenge::Refused => {
                branch.state = BranchState::Ended;
                context.note(index, Ending::Failed(Status::BAD_GATEWAY));
                return context.offer(Candidate::Local(Status::BAD_GATEWAY), Vec::new());
            }
            Challenge::NotForUs => {}
        }
        branch.state = BranchState::Ended;
        match phase {
            // RFC 3261 §16.8: what rang too long counts as a 408, whatever it says to the CANCEL.
            Phase::CancelWanted(Cause::TimedOut) | Phase::Cancelling(Cause::TimedOut, _) => {
                context.offer(Candidate::Local(Status::REQUEST_TIMEOUT), Vec::new());
            }
            _ => {
                context.note(index, Ending::Failed(status));
                context.offer(Candidate::Received(status, copy), forward::challenges(response));
            }
        }
        if status.class() == 6 && context.state == ContextState::Open {
            // RFC 3261 §16.7 item 5: a 6xx ends the search, but goes upstream only when all branches have ended.
            context.state = ContextState::Closing;
            if is_invite {
                self.cancel_branches(now, key, context, Some(index), Cause::Declined, out);
            }
        }
    }

    /// Sends the best response. `false`: there is none to send, and the request was forgotten.
    // RFC 3261 §16.7 item 6: the one that says most.
    fn send_best(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        out: &mut Vec<Output>,
    ) -> bool {
        let is_invite = context.inbound.kind == Kind::Invite;
        let first = out.len();
        let best = context.take_best().unwrap_or(Candidate::Local(Status::SERVER_INTERNAL_ERROR));
        self.refused_in_dialog(now, &context.inbound, best.status(), out);
        if best.status() == Status::REQUEST_TIMEOUT && !is_invite {
            // RFC 4320 §4.2: no 408 to a request that is no INVITE: its client has given up by itself.
            out.push(Output::Drop { key });
            return false;
        }
        match best {
            // Here it is about this server: the limits are its own.
            Candidate::Local(Status::SERVICE_UNAVAILABLE) if context.has_full_gateway => {
                let reply = Reply::later(Status::SERVICE_UNAVAILABLE).because("All Gateways Full");
                self.respond_to(key, &context.inbound, &reply, out);
            }
            Candidate::Local(Status::SERVICE_UNAVAILABLE) if context.has_no_ports => {
                let reply = Reply::new(Status::SERVICE_UNAVAILABLE).because("No Media Ports");
                self.respond_to(key, &context.inbound, &reply, out);
            }
            // Only the media relay refuses so here. 305: the description has something that is not understood.
            Candidate::Local(Status::NOT_ACCEPTABLE_HERE) => {
                let warning = format!(
                    "305 {} \"Session description can not be relayed\"",
                    self.agent(&context.inbound)
                );
                let reply = Reply::new(Status::NOT_ACCEPTABLE_HERE).with(Name::Warning, warning);
                self.respond_to(key, &context.inbound, &reply, out);
            }
            // RFC 3261 §16.7 item 6: a 503 is about the server that gave it, not about this one.
            Candidate::Received(Status::SERVICE_UNAVAILABLE, _)
            | Candidate::Local(Status::SERVICE_UNAVAILABLE) => {
                self.respond_to(key, &context.inbound, &Reply::new(Status::SERVER_INTERNAL_ERROR), out);
            }
            // RFC 5626 §7: a 430 tells the proxy of an address of record that one flow of a phone has failed. This is that
            // proxy, and none is left; the caller could do nothing with it.
            Candidate::Received(Status::FLOW_FAILED, _)
                if matches!(resource(&context.inbound), Resource::User(_)) =>
            {
                self.respond_to(key, &context.inbound, &Reply::new(Status::TEMPORARILY_UNAVAILABLE), out);
            }
            Candidate::Local(status) => self.respond_to(key, &context.inbound, &Reply::new(status), out),
            Candidate::Received(status, message) => {
                let message = match status {
                    Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED => {
                        forward::with_challenges(&message, context.challenges())
                    }
                    _ => message,
                };
                out.push(Output::Respond { key, status, message });
            }
        }
        self.relay_refusal(key, &context.inbound, &mut out[first..]);
        true
    }

    /// How this server is called where the request came in.
    fn agent(&self, inbound: &Inbound) -> String {
        let listener = inbound.source.flow.listener();
        inbound.settings.listeners.sent_by(listener).unwrap_or("localhost").to_owned()
    }

    /// Answers the request of a context by itself.
    fn respond_to(&self, key: ServerKey, inbound: &Inbound, reply: &Reply, out: &mut Vec<Output>) {
        let Some(request) = inbound.message() else { return };
        let message = reply.write(&request, &self.keyring, &inbound.settings);
        out.push(Output::Respond { key, status: reply.status, message });
    }
}

/// The response that was just sent to a request.
fn sent_to(request: ServerKey, out: &[Output]) -> Option<Bytes> {
    out.iter().rev().find_map(|output| match output {
        Output::Respond { key, message, .. } if *key == request => Some(message.clone()),
        _ => None,
    })
}

/// What the record of a call says that nobody answered.
fn failed(ending: CallEnding, sent: Option<Bytes>, context: &ResponseContext) -> Failed {
    let line = sent.as_ref().and_then(|bytes| Message::parse(bytes).ok()).map(|sent| sent.start_line());
    let (status, reason) = match line {
        Some(StartLine::Response(line)) => {
            (line.status, Some(String::from_utf8_lossy(line.reason).into_owned()))
        }
        _ => (Status::SERVER_INTERNAL_ERROR, None),
    };
    Failed { ending, status, reason, gateway: Failed::gateway_of(context) }
}

/// What a response says of the gateway that gave it; a 100 says nothing yet.
fn outcome(response: &Message<'_>, status: Status) -> Option<Outcome> {
    match status {
        Status::TRYING => None,
        // RFC 3261 §21.5.4: without Retry-After it is a failure like others.
        Status::SERVICE_UNAVAILABLE => Some(match failover::retry_after(response) {
            Some(time) if !time.is_zero() => Outcome::Busy(time),
            _ => Outcome::Failed(Failure::Refused(status)),
        }),
        Status::REQUEST_TIMEOUT => Some(Outcome::Failed(Failure::Refused(status))),
        _ => Some(Outcome::Answered),
    }
}

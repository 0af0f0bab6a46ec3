//! The branches of a request: how they begin, fail, are answered and end (RFC 3261 §16.6 to RFC 3261 §16.10).

use bytes::Bytes;
use clock::{Instant, Now};
use sip::{Message, Method, Name, Status};
use transaction::{ClientKey, Kind, ServerKey};
use transport::selection::Records;
use transport::{Destination, Transport};

use super::aim::{Absent, Aim, Hop, Outlook, RETURN_WAIT, Size, Step};
use super::client_branch::{BranchState, Cause, ClientBranch, Phase, Sent};
use super::failover;
use super::forward::{self, Attempt, Forwarded};
use super::inbound::{Inbound, Turn};
use super::lead::Plan;
use super::media::MediaWay;
use super::response_context::{Candidate, ContextState, ResponseContext, Ringing};
use super::round::Ending;
use super::suspended::Stage;
use super::user::{Reminder, TransactionUser};
use super::{Output, media, own_request, target};
use crate::gateway::{Failure, Outcome};
use crate::session_name::Anchor;
use crate::{Count, Question, Target, Token};

impl TransactionUser {
    /// Forwards an admitted request: the first of its rounds at once, the others as [`round`](super::round) says.
    pub(super) fn begin(&mut self, turn: Turn<'_, '_>, inbound: Inbound, plan: Plan, out: &mut Vec<Output>) {
        let Turn { now, key, .. } = turn;
        if !self.has_room_for_context() || self.contexts.contains_key(&key) {
            return self.too_many(turn, &inbound, out);
        }
        let mut context = ResponseContext::new(inbound, plan);
        self.counts.add(Count::Forwarded);
        match turn.request.method() {
            _ if own_request::is_own(&context.inbound) => {}
            Some(Method::Invite) if turn.request.to_tag().is_none() => {
                self.call_begins(now, key, turn.request, &context.inbound, None);
            }
            Some(Method::Bye) => {
                self.media_hung_up(&context.inbound, turn.request, out);
                self.hung_up(now, turn.request, out);
            }
            _ => self.request_in_dialog(turn.request),
        }
        for index in context.begin_round().into_iter().flatten() {
            self.advance(turn, &mut context, index, out);
        }
        self.settle(now, key, context, out);
    }

    /// What the DNS said of the name that a branch goes to.
    pub(super) fn branch_resolved(
        &mut self,
        now: Now,
        key: ServerKey,
        index: usize,
        records: Records,
        out: &mut Vec<Output>,
    ) {
        let Some(mut context) = self.contexts.remove(&key) else { return };
        if let Some(branch) = context.branches.get_mut(index)
            && matches!(branch.state, BranchState::Resolving(_))
        {
            branch.aim.handle_records(now.instant, records);
            self.go_on(now, key, &mut context, index, out);
        }
        self.settle(now, key, context, out);
    }

    /// The phone that a branch waits for has registered, or another one of its address of record; or the time is over.
    pub(super) fn branch_returned(
        &mut self,
        now: Now,
        key: ServerKey,
        index: usize,
        (absent, until): (Box<Absent>, Instant),
        targets: &[Target],
        out: &mut Vec<Output>,
    ) {
        let Some(mut context) = self.contexts.remove(&key) else { return };
        if let Some(branch) = context.branches.get_mut(index)
            && matches!(branch.state, BranchState::Resolving(_))
        {
            match target::returned(&self.keyring, &absent, targets) {
                Some(flow) => {
                    branch.aim.hops.push_front(Hop::Flow(flow));
                    self.go_on(now, key, &mut context, index, out);
                }
                None if now.instant < until && self.waiting.has_room() => {
                    let token = self.await_return(now, key, index, (absent, until), out);
                    context.branches[index].state = BranchState::Resolving(token);
                }
                None => self.go_on(now, key, &mut context, index, out),
            }
        }
        self.settle(now, key, context, out);
    }

    fn await_return(
        &mut self,
        now: Now,
        key: ServerKey,
        index: usize,
        (absent, until): (Box<Absent>, Instant),
        out: &mut Vec<Output>,
    ) -> Token {
        let (aor, left) = (absent.binding.aor.clone(), until.since(now.instant));
        let token = self.suspend_for(now, Stage::Return(key, index, absent, until), left);
        out.push(Output::Ask {
            partition_of: aor.clone(),
            token,
            question: Question::AwaitReturn(aor, left),
        });
        token
    }

    /// A branch's request could not be sent.
    pub(super) fn branch_unreachable(&mut self, now: Now, client: ClientKey, out: &mut Vec<Output>) {
        let Some((key, index)) = self.by_client.get(&client) else { return };
        let branch = self.contexts.get(key).and_then(|context| context.branches.get(*index));
        let Some(status) = branch.map(|branch| branch.aim.unreachable) else { return };
        self.branch_failed(now, client, status, out);
    }

    /// A branch's transaction has ended without a final response.
    pub(super) fn branch_failed(
        &mut self,
        now: Now,
        client: ClientKey,
        status: Status,
        out: &mut Vec<Output>,
    ) {
        let Some((key, index)) = self.by_client.get(&client).copied() else { return };
        let Some(mut context) = self.contexts.remove(&key) else { return };
        let is_open = context.state == ContextState::Open;
        if let Some(branch) = context.branches.get_mut(index)
            && branch.client == Some(client)
            && let BranchState::Sent(sent) = &branch.state
        {
            branch.failure = status;
            let phase = sent.phase;
            if phase == Phase::Calling {
                self.note_failure(now.instant, branch, None);
            }
            match phase {
                // RFC 3263 §4.3: what does not answer is replaced by the next server.
                Phase::Calling if is_open => self.go_on(now, key, &mut context, index, out),
                Phase::Calling | Phase::Proceeding => end(&mut context, index, status),
                Phase::CancelWanted(cause) | Phase::Cancelling(cause, _) => {
                    end(&mut context, index, cause.outcome());
                }
            }
        }
        self.settle(now, key, context, out);
    }

    /// A reminder of a branch is due.
    pub(super) fn branch_due(
        &mut self,
        now: Now,
        key: ServerKey,
        index: usize,
        at: Instant,
        out: &mut Vec<Output>,
    ) {
        let Some(mut context) = self.contexts.remove(&key) else { return };
        if let Some(branch) = context.branches.get_mut(index)
            && branch.reminder_at == Some(at)
        {
            branch.reminder_at = None;
            if branch.is_silent(now.instant) {
                self.pass_over(now, key, &mut context, index, out);
            } else if branch.deadline().is_some_and(|deadline| deadline <= now.instant) {
                self.branch_expired(now, &mut context, index, out);
            }
            self.remind(key, &mut context, index);
        }
        self.settle(now, key, context, out);
    }

    /// Cancels the branches that are under way, but `except`.
    pub(super) fn cancel_branches(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        except: Option<usize>,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        for index in 0..context.branches.len() {
            if Some(index) != except {
                self.cancel_branch(now, context, index, cause, out);
                self.remind(key, context, index);
            }
        }
    }

    /// As [`Self::advance`], for a branch that goes on because of something that happened to it.
    pub(super) fn go_on(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        index: usize,
        out: &mut Vec<Output>,
    ) {
        let bytes = context.inbound.bytes.clone();
        match Message::parse(&bytes) {
            Ok(request) => {
                let flow = context.inbound.source.flow;
                self.advance(Turn { now, key, request: &request, flow }, context, index, out);
            }
            Err(_) => end(context, index, Status::SERVER_INTERNAL_ERROR),
        }
    }

    /// Gets a branch on its way by the next hop that can be gone, or ends it.
    fn advance(
        &mut self,
        turn: Turn<'_, '_>,
        context: &mut ResponseContext,
        index: usize,
        out: &mut Vec<Output>,
    ) {
        if self.asks_for_place(turn, context, index, out) {
            return;
        }
        let Turn { now, key, request, .. } = turn;
        let ringing = context.ringing();
        let has_next = context.has_next_round();
        loop {
            let (inbound, branch) = (&context.inbound, &mut context.branches[index]);
            let outlook =
                Outlook { keyring: &self.keyring, inbound, avoided: &self.avoided, now: now.instant };
            match branch.aim.step(outlook) {
                Step::Send(to, transport, size) => {
                    let credentials = self.trunks.credentials(inbound, request, branch);
                    let leaving =
                        self.attempt(inbound, request, branch, (to, transport, size), (key, &credentials));
                    let Some(Leaving { forwarded, to }) = leaving else { continue };
                    let method = request.method().unwrap_or(Method::Other(b""));
                    let client = ClientKey::of(&self.keyring.transaction, &forwarded.branch, method);
                    branch.attempts = branch.attempts.saturating_add(1);
                    // The same request with the same branch is under way: it has come twice, by two ways.
                    if self.by_client.contains_key(&client) {
                        branch.failure = Status::LOOP_DETECTED;
                        continue;
                    }
                    let is_invite = method == Method::Invite;
                    let timer_c = is_invite.then(|| now.instant + inbound.settings.proxy.timer_c);
                    let call_id = Inbound::call_id(request);
                    tracing::debug!(%call_id, to = %to.remote(), attempt = branch.attempts, "forwarded");
                    let ring_until = match ringing {
                        Ringing::SinceSent(timeout) if is_invite => Some(now.instant + timeout),
                        _ => None,
                    };
                    let silent_until =
                        failover::patience(&inbound.settings.timers, Kind::of(method), &branch.aim)
                            .map(|patience| now.instant + patience);
                    if let Some(trunk) = own_request::trunk(inbound) {
                        self.trunks.asked(trunk, to.remote().0.ip());
                    }
                    // The last gateway is left to the timers of RFC 3261: nothing comes after it.
                    let answer_timeout = branch.aim.leg.as_ref().map(|leg| leg.gateway.answer_timeout);
                    let answer_until = answer_timeout.filter(|_| is_invite && has_next);
                    branch.client = Some(client);
                    branch.state = BranchState::Sent(Sent {
                        branch: Bytes::from(forwarded.branch),
                        request: forwarded.bytes.clone(),
                        to,
                        phase: Phase::Calling,
                        timer_c,
                        ring_until,
                        silent_until,
                        answer_until: answer_until.map(|timeout| now.instant + timeout),
                    });
                    self.by_client.insert(client, (key, index));
                    let forward = Output::Forward {
                        key: client,
                        kind: Kind::of(method),
                        of: Some(key),
                        to,
                        request: forwarded.bytes,
                    };
                    let ask = self.ask_of_request((key, inbound), request, branch, (client, &to));
                    out.push(media::passing(ask, forward));
                    self.remind(key, context, index);
                    return;
                }
                Step::Lookup(query, time) => {
                    if !self.waiting.has_room() {
                        self.counts.add(Count::Full);
                        branch.aim.handle_records(now.instant, Records::Failed);
                        continue;
                    }
                    let token = self.suspend_for(now, Stage::Branch(key, index), time);
                    context.branches[index].state = BranchState::Resolving(token);
                    out.push(Output::Resolve { token, query });
                    return;
                }
                Step::Await(absent) => {
                    if !self.waiting.has_room() {
                        self.counts.add(Count::Full);
                        continue;
                    }
                    let until = now.instant + RETURN_WAIT;
                    let token = self.await_return(now, key, index, (absent, until), out);
                    context.branches[index].state = BranchState::Resolving(token);
                    return;
                }
                Step::Exhausted(unfound) => {
                    branch.failure = unfound.unwrap_or(branch.failure);
                    let Some(spare) = branch.aim.spares.pop_front() else {
                        let status = branch.failure;
                        if self.take_back(branch) {
                            self.remind(key, context, index);
                        } else {
                            tell(branch, Outcome::Failed(failure_of(status)), out);
                            end(context, index, status);
                        }
                        return;
                    };
                    // RFC 5626 §7: when one flow of a phone fails, its next one is tried.
                    let spares = std::mem::take(&mut branch.aim.spares);
                    let relay = branch.aim.relay;
                    branch.aim = Aim { spares, relay, ..target::aim(&self.keyring, spare) };
                }
            }
        }
    }

    /// Makes the copy that leaves. A large one for a server goes by TCP first.
    fn attempt(
        &self,
        inbound: &Inbound,
        request: &Message<'_>,
        branch: &mut ClientBranch,
        (to, transport, size): (Destination, Transport, Size),
        (key, credentials): (ServerKey, &[(Name, Vec<u8>)]),
    ) -> Option<Leaving> {
        if branch.media == MediaWay::Undecided {
            branch.media = MediaWay::decide(inbound, request, &branch.aim, &to);
        }
        let is_relayed = branch.media == MediaWay::Relayed;
        let make = |aim: &Aim, to: Destination, transport, number| {
            let anchor = is_relayed.then(|| Anchor::of(key, &inbound.settings.listeners, to.listener()));
            let (round, breadth) = (branch.round, branch.breadth);
            let attempt =
                Attempt { inbound, aim, to, transport, round, number, breadth, credentials, anchor };
            forward::request(&self.keyring, request, &attempt)
        };
        let forwarded = make(&branch.aim, to, transport, branch.attempts)?;
        if size == Size::Ignored {
            return Some(Leaving { forwarded, to });
        }
        // RFC 3261 §18.1.1: by TCP, and by UDP after all where that is refused.
        let sized = transport::transport_for_size(transport, forwarded.bytes.len());
        let Some(fallback) = sized.fallback else { return Some(Leaving { forwarded, to }) };
        let Some(large) = branch.aim.destination(inbound, to.remote(), sized.transport) else {
            return Some(Leaving { forwarded, to });
        };
        let forwarded = make(&branch.aim, large, sized.transport, branch.attempts)?;
        branch.aim.hops.push_front(Hop::Address(to.remote(), fallback, Size::Ignored));
        Some(Leaving { forwarded, to: large })
    }

    /// Cancels a branch that is under way, now or when it has answered.
    pub(super) fn cancel_branch(
        &mut self,
        now: Now,
        context: &mut ResponseContext,
        index: usize,
        cause: Cause,
        out: &mut Vec<Output>,
    ) {
        let freed_at = now.instant + context.inbound.settings.timers.transaction_lifetime();
        let may_wait = media::may_wait(&context.inbound, &context.branches[index]);
        let client = context.branches[index].client.filter(|_| may_wait);
        match &mut context.branches[index].state {
            BranchState::Resolving(token) => {
                let token = *token;
                self.waiting.resume(token);
                end(context, index, cause.outcome());
            }
            BranchState::Sent(sent) => match sent.phase {
                Phase::Calling => {
                    sent.phase = Phase::CancelWanted(cause);
                    sent.ring_until = None;
                    sent.answer_until = None;
                    out.extend(client.map(|key| Output::Withdraw { key }));
                }
                Phase::Proceeding => {
                    sent.phase = Phase::Cancelling(cause, freed_at);
                    self.counts.add(Count::BranchCancelled);
                    self.send_cancel(sent, cause, out);
                }
                Phase::CancelWanted(_) | Phase::Cancelling(..) => {}
            },
            BranchState::Idle | BranchState::Ended => {}
        }
    }

    pub(super) fn send_cancel(&self, sent: &Sent, cause: Cause, out: &mut Vec<Output>) {
        let Ok(invite) = Message::parse(&sent.request) else { return };
        let mut cancel = Vec::with_capacity(512);
        match cause.reason() {
            Some(reason) => sip::cancel_with_reason(&invite, reason, &mut cancel),
            None => sip::cancel_for(&invite, &mut cancel),
        }
        let key = ClientKey::of(&self.keyring.transaction, &sent.branch, Method::Cancel);
        let request = Bytes::from(cancel);
        // RFC 3261 §9.1: where the INVITE went.
        out.push(Output::Forward { key, kind: Kind::NonInvite, of: None, to: sent.to, request });
    }

    /// Timer C, the ring time-out, or the end of the wait for the answer to a CANCEL.
    fn branch_expired(
        &mut self,
        now: Now,
        context: &mut ResponseContext,
        index: usize,
        out: &mut Vec<Output>,
    ) {
        let branch = &mut context.branches[index];
        let BranchState::Sent(sent) = &mut branch.state else { return };
        let has_rung_out = sent.ring_until.is_some_and(|until| until <= now.instant);
        let outcome = match sent.phase {
            Phase::Proceeding => {
                let ending = match has_rung_out {
                    true => Ending::RangOut,
                    false => Ending::Failed(Status::REQUEST_TIMEOUT),
                };
                self.counts.add(Count::RingTimeout);
                context.note(index, ending);
                return self.cancel_branch(now, context, index, Cause::TimedOut, out);
            }
            // It may still speak, and is cancelled then; the next round does not wait for that.
            Phase::Calling if has_rung_out => {
                self.counts.add(Count::RingTimeout);
                context.note(index, Ending::Failed(Status::REQUEST_TIMEOUT));
                return self.cancel_branch(now, context, index, Cause::TimedOut, out);
            }
            // The same for a gateway. RFC 3261 §9.1: it is cancelled as soon as it says something.
            Phase::Calling if sent.answer_until.is_some_and(|until| until <= now.instant) => {
                self.counts.add(Count::GatewaySilent);
                tell(branch, Outcome::Failed(Failure::Silent), out);
                context.note(index, Ending::Failed(Status::REQUEST_TIMEOUT));
                return self.cancel_branch(now, context, index, Cause::TimedOut, out);
            }
            // RFC 3261 §16.8: without any response there is nothing to cancel.
            Phase::Calling => Status::REQUEST_TIMEOUT,
            Phase::CancelWanted(cause) | Phase::Cancelling(cause, _) => cause.outcome(),
        };
        if let Some(client) = branch.client {
            self.by_client.remove(&client);
            out.push(Output::Abandon { key: client });
        }
        end(context, index, outcome);
    }

    /// Sets a reminder for the next deadline of a branch, unless an earlier one is set.
    pub(super) fn remind(&mut self, key: ServerKey, context: &mut ResponseContext, index: usize) {
        let branch = &mut context.branches[index];
        let Some(deadline) = branch.deadline() else { return };
        if branch.reminder_at.is_none_or(|at| deadline < at) {
            branch.reminder_at = Some(deadline);
            self.deadlines.push(deadline, Reminder::Branch(key, index));
        }
    }
}

/// A copy that is ready, and where it goes.
struct Leaving {
    forwarded: Forwarded,
    to: Destination,
}

/// Says once what became of a request to a gateway.
pub(super) fn tell(branch: &mut ClientBranch, outcome: Outcome, out: &mut Vec<Output>) {
    if let Some(gateway) = branch.untold.take() {
        out.push(Output::GatewayOutcome(gateway, outcome));
    }
}

/// What it says of a gateway that a branch could not be sent, or was not answered.
fn failure_of(status: Status) -> Failure {
    match status {
        Status::REQUEST_TIMEOUT => Failure::Silent,
        Status::NOT_FOUND => Failure::NoAddress,
        _ => Failure::Unreachable,
    }
}

pub(super) fn end(context: &mut ResponseContext, index: usize, outcome: Status) {
    context.branches[index].state = BranchState::Ended;
    context.note(index, Ending::Failed(outcome));
    context.offer(Candidate::Local(outcome), Vec::<(Name, Vec<u8>)>::new());
}

//! RFC 3263 §4.3: from a server that fails to the next one, and what is remembered of both.
//!
//! A server that refuses, can not be reached or answers 503 is left at once, and so is one whose transaction has
//! timed out. But 64·T1 are half a minute, in which a caller hangs up. So a server that was not heard of at all
//! is *passed over* much earlier, as long as there is another one: its transaction stays. If it speaks after all, a
//! 2xx is as good as any other, and what merely rings there is cancelled. If all that came after it failed, it is
//! waited for again.

use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use sip::{Message, Name, Status};
use transaction::{ClientKey, Kind, ServerKey, Timers};
use transport::selection::Server;
use transport::{Destination, Flow, Transport};

use super::Output;
use super::aim::Aim;
use super::client_branch::{BranchState, Cause, ClientBranch, GatewayCalls, Phase, Sent};
use super::response_context::{ContextState, ResponseContext};
use super::user::TransactionUser;
use crate::Count;

/// Four INVITEs have left by then. A server that lives has answered the first with a 100 (RFC 3261 §17.2.1).
const INVITE_PATIENCE: u32 = 8;
/// RFC 4320 §4.1: no 100 comes before timer E has reached T2, which is 7·T1; and no CANCEL can call back what was passed
/// over too early, so that a MESSAGE would arrive twice.
const NON_INVITE_PATIENCE: u32 = 16;

/// How long a server is waited for that is silent while there are others.
pub(super) fn patience(timers: &Timers, kind: Kind, aim: &Aim) -> Option<Duration> {
    let times = match kind {
        Kind::Invite => INVITE_PATIENCE,
        Kind::NonInvite => NON_INVITE_PATIENCE,
    };
    aim.has_other_servers().then(|| timers.t1.saturating_mul(times))
}

/// How long the sender of a 503 wishes to be left alone.
// RFC 3261 §20.33: seconds, and perhaps a comment or parameters.
pub(super) fn retry_after(response: &Message<'_>) -> Option<Duration> {
    let value = response.header(Name::RetryAfter)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let seconds = std::str::from_utf8(&value[..digits]).ok()?;
    // A number that is too large to be read means long.
    (!seconds.is_empty()).then(|| Duration::from_secs(seconds.parse().unwrap_or(u64::from(u32::MAX))))
}

impl TransactionUser {
    /// The server that a branch's last attempt went to failed: it was silent, out of reach, or wishes to be left alone.
    pub(super) fn note_failure(
        &mut self,
        now: Instant,
        branch: &ClientBranch,
        retry_after: Option<Duration>,
    ) {
        // Where the DNS named no server there is no other to prefer to this one.
        if let (Some(_), Some(sent)) = (&branch.aim.search, branch.sent()) {
            self.avoided.add(now, server(&sent.to), retry_after);
        }
    }

    /// A response has come from where a request went.
    pub(super) fn note_answer(&mut self, sent: &Sent) {
        if !self.avoided.is_empty() {
            self.avoided.remove(server(&sent.to));
        }
    }

    /// A branch's server was silent for its time: on to the next one.
    pub(super) fn pass_over(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        index: usize,
        out: &mut Vec<Output>,
    ) {
        let is_open = context.state == ContextState::Open;
        let branch = &mut context.branches[index];
        if !is_open || !branch.aim.has_other_servers() {
            // No branch goes on any more: this server is waited for like any other.
            if let BranchState::Sent(sent) = &mut branch.state {
                sent.silent_until = None;
            }
            return;
        }
        self.note_failure(now.instant, branch, None);
        self.counts.add(Count::ServerPassedOver);
        branch.failure = Status::REQUEST_TIMEOUT;
        if let (Some(client), BranchState::Sent(sent)) =
            (branch.client.take(), std::mem::replace(&mut branch.state, BranchState::Idle))
        {
            branch.passed_over.push((client, sent));
        }
        self.go_on(now, key, context, index, out);
    }

    /// Waits again for the last server that was passed over, if its transaction lives. Whether there is one.
    pub(super) fn take_back(&self, branch: &mut ClientBranch) -> bool {
        let is_silent = |(client, sent): &(ClientKey, Sent)| {
            sent.phase == Phase::Calling && self.by_client.contains_key(client)
        };
        // One that is being cancelled stays where its last answer is waited for.
        let Some(position) = branch.passed_over.iter().rposition(is_silent) else { return false };
        let (client, sent) = branch.passed_over.remove(position);
        branch.client = Some(client);
        branch.state = BranchState::Sent(Sent { silent_until: None, ..sent });
        true
    }

    /// A response of a server that was passed over; `copy` is what may go upstream.
    #[expect(clippy::too_many_arguments, reason = "they are one response and its branch")]
    pub(super) fn late_response(
        &mut self,
        now: Now,
        key: ServerKey,
        context: &mut ResponseContext,
        index: usize,
        client: ClientKey,
        response: &Message<'_>,
        copy: Bytes,
        out: &mut Vec<Output>,
    ) {
        let status = response.status().unwrap_or(Status::SERVER_INTERNAL_ERROR);
        let freed_at = now.instant + context.inbound.settings.timers.transaction_lifetime();
        let is_invite = context.inbound.kind == Kind::Invite;
        let Some(branch) = context.branches.get_mut(index) else { return };
        let Some(position) = branch.passed_over.iter().position(|(passed, _)| *passed == client) else {
            return;
        };
        let sent = &mut branch.passed_over[position].1;
        self.note_answer(sent);
        match status.class() {
            // RFC 3261 §9.1: now that something has come it can be cancelled.
            1 if is_invite && sent.phase == Phase::Calling => {
                sent.phase = Phase::Cancelling(Cause::TimedOut, freed_at);
                self.counts.add(Count::BranchCancelled);
                self.send_cancel(sent, Cause::TimedOut, out);
            }
            1 => {}
            // RFC 3261 §16.7 item 5: every 2xx to INVITE is passed on, and one to any other request.
            2 if is_invite || context.state != ContextState::Answered => {
                if is_invite {
                    self.call_answered(now, key, (context, index), response, &copy);
                }
                out.push(Output::Respond { key, status, message: copy });
                context.state = ContextState::Answered;
                if is_invite {
                    context.branches[index].gateway_calls = GatewayCalls::NotCounted;
                    self.cancel_branches(now, key, context, None, Cause::Answered, out);
                }
            }
            2 => {}
            _ => {
                branch.passed_over.remove(position);
            }
        }
    }
}

fn server(to: &Destination) -> Server {
    let transport = match to {
        Destination::Flow(Flow::Datagram { .. }) => Transport::Udp,
        Destination::Flow(Flow::Connection { .. }) | Destination::Connect { .. } => Transport::Tcp,
    };
    Server { remote: to.remote(), transport }
}

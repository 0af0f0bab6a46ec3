//! From the machine to a capsule, and from a capsule to a machine that goes on.

use std::sync::Arc;
use std::time::Duration;

use clock::{Instant, Now, WallTime};
use sip::{Message, Status};
use transaction::ServerKey;

use super::super::Output;
use super::super::branches;
use super::super::inbound::{Inbound, Turn};
use super::super::live_calls::{LiveCall, Parties};
use super::super::response_context::{ContextState, ResponseContext};
use super::super::suspended::{Sought, Stage};
use super::super::user::TransactionUser;
use super::branch::{Next, ReadBranch};
use super::changes::{call_of, is_call};
use super::context::{ReadContext, StoredContext};
use super::live::StoredBegun;
use super::places::{Reader, Writer};
use super::request::{StoredRequest, StoredSought};
use super::{Parts, StoredCall};
use crate::account::Unreadable;
use crate::{CallEnding, CallName, Count, Keyring, Settings};

/// Whether a call could go on where all is there that it names.
pub(super) fn check(parts: &Parts) -> Result<(), Unreadable> {
    let reader = Reader { now: Instant::START, since: Duration::ZERO, settings: None };
    read(parts, reader, ServerKey::from_u128(0), None).map(|_| ())
}

/// What was read of a call, but for its request.
struct Read {
    stage: ReadStage,
    begun: Option<Option<LiveCall>>,
}

/// How far a call is.
enum ReadStage {
    /// Somebody is looked for.
    Seeks(Sought),
    /// The other side of its dialog is looked for.
    SeeksSide,
    /// It was forwarded.
    Forwarded(Box<ReadContext>),
}

fn read(
    parts: &Parts,
    reader: Reader<'_>,
    key: ServerKey,
    search: Option<(&Keyring, &Inbound)>,
) -> Result<Read, Unreadable> {
    let request = parts.request.as_ref().ok_or(Unreadable::Malformed)?;
    request.check(reader)?;
    let stage = match (&parts.sought, parts.seeks_side, &parts.context) {
        (Some(sought), false, None) => ReadStage::Seeks(sought.read()?),
        (None, true, None) => ReadStage::SeeksSide,
        (None, false, Some(context)) => {
            ReadStage::Forwarded(Box::new(context.read(&request.bytes, reader, search)?))
        }
        _ => return Err(Unreadable::Malformed),
    };
    let begun = parts.begun.as_ref().map(|begun| begun.read(reader, key)).transpose()?;
    Ok(Read { stage, begun })
}

impl TransactionUser {
    /// A call under way as another node can go on with it; `None` if there is no such call, or nobody was admitted.
    pub fn stored_call(&self, now: Now, key: ServerKey) -> Option<StoredCall> {
        let begun = self.live.begun_by(key);
        let parts = |inbound: &Inbound| {
            let writer = Writer { now: now.instant, listeners: &inbound.settings.listeners };
            Parts {
                request: Some(StoredRequest::of(inbound, writer)),
                begun: begun.map(|(_, call)| StoredBegun::of(call, writer)),
                ..Parts::default()
            }
        };
        let parts = match self.contexts.get(&key) {
            Some(context) if is_call(&context.inbound) => {
                let writer = Writer { now: now.instant, listeners: &context.inbound.settings.listeners };
                let diversion = context.diversion.and_then(|token| self.waiting.of_token(token));
                let diversion = match diversion {
                    Some(Stage::Diversion(_, sought)) => Some(sought),
                    _ => None,
                };
                let is_live = |client| self.by_client.contains_key(&client);
                let stored = StoredContext::of(context, diversion, writer, &self.keyring, is_live);
                Parts { context: Some(stored), ..parts(&context.inbound) }
            }
            Some(_) => return None,
            None => {
                let stage = self.waiting.of_server(key)?;
                let parts = parts(call_of(stage)?);
                match stage {
                    Stage::Locate(_, _, sought) | Stage::Elsewhere(_, _, sought, _) => {
                        Parts { sought: Some(StoredSought::of(sought)), ..parts }
                    }
                    _ => Parts { seeks_side: true, ..parts },
                }
            }
        };
        StoredCall::of(parts)
    }

    /// Goes on with a call of another node, which was told of `since` ago. What it waits for is asked again; what has run
    /// out meanwhile does so at the next [`Self::handle_timeout`]. A call that is under way here stays as it is.
    pub fn restore_call(
        &mut self,
        now: Now,
        since: Duration,
        key: ServerKey,
        call: StoredCall,
        out: &mut Vec<Output>,
    ) {
        if self.contexts.contains_key(&key) || self.waiting.of_server(key).is_some() {
            return;
        }
        let settings = Arc::clone(&self.settings);
        let reader = Reader { now: now.instant, since, settings: Some(&settings) };
        if self.restore(now, reader, &settings, key, &call.parts, out).is_none() {
            self.counts.add(Count::NotTakenOver);
            self.changes.note(key);
            self.call_lost(now, since, key, &call, out);
        }
    }

    /// Tells what is left of a call of another node, which was told of `since` ago, and that can not go on here.
    pub fn call_lost(
        &self,
        now: Now,
        since: Duration,
        key: ServerKey,
        call: &StoredCall,
        out: &mut Vec<Output>,
    ) {
        let reader = Reader { now: now.instant, since, settings: None };
        let begun = call.parts.begun.as_ref().and_then(|begun| begun.read(reader, key).ok().flatten());
        let Some(begun) = begun.filter(|begun| begun.dialogs.is_empty()) else { return };
        if let Some(Ok(invite)) = call.parts.request.as_ref().map(|it| Message::parse(&it.bytes)) {
            let mut lost = self.as_begun(now, &invite, begun);
            if let Some(name) = self.begun_call(&invite) {
                self.record(now, (name, &mut lost), CallEnding::NodeLost, None, out);
            }
        }
    }

    /// `None` if it can not go on here: its sender can not be reached, or there is no room.
    fn restore(
        &mut self,
        now: Now,
        reader: Reader<'_>,
        settings: &Arc<Settings>,
        key: ServerKey,
        parts: &Parts,
        out: &mut Vec<Output>,
    ) -> Option<()> {
        let request = parts.request.as_ref()?;
        let message = Message::parse(&request.bytes).ok()?;
        let inbound = request.read(reader, settings, &self.keyring, &message).ok()??;
        let Read { stage, begun } = read(parts, reader, key, Some((&self.keyring, &inbound))).ok()?;
        if !self.has_room_for_context() {
            return None;
        }
        self.counts.add(Count::TakenOver);
        if let (Some(call), Some(name)) = (begun, self.begun_call(&message)) {
            let call = call.map(|call| self.as_begun(now, &message, call));
            self.restore_begun(now, key, name, call, out);
        }
        let turn = Turn { now, key, request: &message, flow: inbound.source.flow };
        match stage {
            ReadStage::Seeks(Sought { aor, look }) => self.locate(turn, inbound, aor, look, out),
            ReadStage::SeeksSide => self.seek_side_again(turn, inbound, out),
            ReadStage::Forwarded(context) => self.restore_context(now, key, inbound, *context, out),
        }
        Some(())
    }

    fn restore_context(
        &mut self,
        now: Now,
        key: ServerKey,
        inbound: Inbound,
        read: ReadContext,
        out: &mut Vec<Output>,
    ) {
        let (mut branches, mut nexts) = (Vec::new(), Vec::new());
        for (index, ReadBranch { branch, next, clients }) in read.branches.into_iter().enumerate() {
            branches.push(branch);
            nexts.push(next);
            for client in clients {
                self.by_client.entry(client).or_insert((key, index));
            }
        }
        let mut context = ResponseContext {
            inbound,
            branches,
            state: read.state,
            diversion: None,
            has_full_gateway: read.has_full_gateway,
            has_no_ports: read.has_no_ports,
            round: read.round,
            rounds: read.rounds,
            account: read.account,
            is_unanswered: read.is_unanswered,
            best: read.best,
            challenges: read.challenges,
        };
        if let Some(sought) = read.diversion.filter(|_| self.waiting.has_room()) {
            self.seek_diversion(now, key, &mut context, sought, out);
        }
        for (index, next) in nexts.into_iter().enumerate() {
            match next {
                Next::Stay => self.remind(key, &mut context, index),
                Next::Ask if context.state == ContextState::Open => {
                    self.go_on(now, key, &mut context, index, out);
                }
                Next::Ask | Next::Fail => {
                    branches::end(&mut context, index, Status::SERVICE_UNAVAILABLE);
                }
            }
        }
        self.settle(now, key, context, out);
    }

    /// The partitions that count the call are told of it: what they counted was on the other node.
    fn restore_begun(
        &mut self,
        now: Now,
        key: ServerKey,
        name: CallName,
        call: Option<LiveCall>,
        out: &mut Vec<Output>,
    ) {
        let counted = call.as_ref().map(|call| (call.account.clone(), call.gateways.clone()));
        if call.as_ref().is_some_and(|call| !call.dialogs.is_empty()) {
            // If the other node has told of the INVITE alone.
            self.dialog_changes.note(name);
        }
        if !self.live.restore(name, key, call) {
            return;
        }
        if let Some((account, gateways)) = counted {
            self.tell_it_goes_on(now, name, account, gateways, out);
        }
    }

    /// What a call is of which the INVITE is known.
    fn as_begun(&self, now: Now, invite: &Message<'_>, mut call: LiveCall) -> LiveCall {
        call.parties = Parties::of(invite).map(Box::new);
        let passed = self.settings.proxy.longest_call.saturating_sub(call.ends_at.since(now.instant));
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        call.began = match &call.facts {
            Some(facts) => facts.began(now),
            None => WallTime::from_millis(now.wall.as_millis().saturating_sub(passed)),
        };
        for dialog in &mut call.dialogs {
            dialog.answered = call.began;
        }
        call
    }
}

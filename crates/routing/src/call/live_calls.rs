//! The calls of a shard, from the INVITE that was admitted to the BYE that passes.
//!
//! They are kept to be shown, and to tell the partition of an account with a limit when one of them has ended. A call
//! ends with the final response that is no success, with the BYE that ends the last of its dialogs ([`dialog`] says what
//! else ends one), or at its deadline. After a restart of a single node the calls before it are not known.
//!
//! Another node is told of each call that was answered ([`stored`]), and has it in the same table while it stands by, where
//! nothing ends by itself. When it becomes active it tells the partitions of these calls bit by bit ([`inherit`]).

use std::collections::BTreeSet;

use ahash::RandomState;
use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use hashbrown::HashMap;
use sip::{Aor, Message, Method};
use transaction::ServerKey;

use super::Output;
use super::inbound::Inbound;
use super::response_context::ResponseContext;
use super::suspended::{Stage, fixed_hasher};
use super::user::TransactionUser;
use crate::{CallEnding, CallName, Count, Question};

mod dialog;
mod facts;
mod inherit;
mod parties;
mod stored;
mod upkeep;
mod view;

pub(super) use self::dialog::LiveDialog;
pub(super) use self::facts::{Facts, Failed, StoredFacts};
pub(super) use self::parties::Parties;
pub use self::stored::StoredDialog;
pub(super) use self::upkeep::{Errands, is_for_an_end};
pub use self::view::{CallState, CallView};

/// Calls that a shard knows; others are neither shown nor do they end for a limit. One that rings has about 800 bytes, one
/// that was answered about 1.7 KB, most of them the two Record-Routes: 340 MB where all are there.
const CALLS_MAX: usize = 200_000;
/// Dialogs of one call: phones that answered at once.
pub(super) const DIALOGS_MAX: usize = 8;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LiveCall {
    /// The account whose limit it counts for.
    pub(super) account: Option<Aor>,
    /// The gateways that count it, by their keys.
    pub(super) gateways: Vec<Aor>,
    /// One for each who answered.
    pub(super) dialogs: Vec<LiveDialog>,
    /// The last INVITE that began it: a call that is challenged by somebody behind this server begins anew. `None` if
    /// another node has seen it alone.
    pub(super) invite: Option<ServerKey>,
    /// Who calls whom; `None` if that takes more room than it is worth.
    pub(super) parties: Option<Box<Parties>>,
    /// What its record needs; `None` if it gets none.
    pub(super) facts: Option<Box<Facts>>,
    /// When the first INVITE of it came.
    pub(super) began: WallTime,
    /// When it is taken to have ended.
    pub(super) ends_at: Instant,
}

/// The calls of a shard.
#[derive(Debug)]
pub(super) struct LiveCalls {
    calls: HashMap<CallName, LiveCall, RandomState>,
    by_invite: HashMap<ServerKey, CallName, RandomState>,
    deadlines: BTreeSet<(Instant, CallName)>,
    /// Calls of another node that the partitions of this one have not been told of.
    untold: BTreeSet<CallName>,
    /// When the next of these are told.
    tells_at: Instant,
}

impl LiveCall {
    /// When it, or one of its dialogs, is over unless something happens.
    fn due(&self) -> Instant {
        let sessions = self.dialogs.iter().filter_map(|dialog| dialog.expires_at.or(dialog.check_at));
        sessions.fold(self.ends_at, Instant::min)
    }
}

impl LiveCalls {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            calls: HashMap::with_hasher(fixed_hasher()),
            by_invite: HashMap::with_hasher(fixed_hasher()),
            deadlines: BTreeSet::new(),
            untold: BTreeSet::new(),
            tells_at: Instant::START,
        }
    }

    /// When the next deadline is.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let tells_at = (!self.untold.is_empty()).then_some(self.tells_at);
        self.deadlines.first().map(|(at, _)| *at).into_iter().chain(tells_at).min()
    }

    /// The partitions need not be told of any.
    #[cfg(test)]
    pub(super) fn tell_nobody(&mut self) {
        self.untold.clear();
    }

    /// Takes those of another shard that are not known here.
    #[cfg(test)]
    pub(super) fn adopt(&mut self, other: Self) {
        for (name, call) in other.calls {
            if !self.calls.contains_key(&name) {
                self.deadlines.insert((call.due(), name));
                self.calls.insert(name, call);
            }
        }
        for (invite, name) in other.by_invite {
            self.by_invite.entry(invite).or_insert(name);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// The call that an INVITE has begun and that waits for its final response: its name, and the rest if this is the
    /// last INVITE that has begun it and the call has not ended.
    pub(super) fn begun_by(&self, invite: ServerKey) -> Option<(CallName, Option<&LiveCall>)> {
        let name = *self.by_invite.get(&invite)?;
        Some((name, self.calls.get(&name).filter(|call| call.invite == Some(invite))))
    }

    /// Takes in a call that another node knew, with the INVITE that has begun it. Whether there was room.
    pub(super) fn restore(&mut self, name: CallName, invite: ServerKey, call: Option<LiveCall>) -> bool {
        self.by_invite.insert(invite, name);
        let Some(mut call) = call else { return true };
        if let Some(known) = self.calls.get_mut(&name) {
            // Of its dialogs more was told apart from the INVITE.
            let is_new = |dialog: &LiveDialog| known.dialogs.iter().all(|it| it.tag != dialog.tag);
            let unknown: Vec<LiveDialog> = call.dialogs.drain(..).filter(is_new).collect();
            call.dialogs = std::mem::take(&mut known.dialogs);
            call.dialogs.extend(unknown);
            call.dialogs.truncate(DIALOGS_MAX);
            call.began = call.began.min(known.began);
            call.facts = Facts::either(known.facts.take(), call.facts);
        }
        self.insert(name, call)
    }

    /// Puts a call in the place of what was known of it. Whether there was room.
    fn insert(&mut self, name: CallName, call: LiveCall) -> bool {
        if self.calls.len() >= CALLS_MAX && !self.calls.contains_key(&name) {
            return false;
        }
        if let Some(before) = self.calls.get(&name) {
            self.deadlines.remove(&(before.due(), name));
        }
        self.untold.remove(&name);
        self.deadlines.insert((call.due(), name));
        self.calls.insert(name, call);
        true
    }

    /// Takes a call out.
    fn remove(&mut self, name: CallName) -> Option<LiveCall> {
        let call = self.calls.remove(&name)?;
        self.deadlines.remove(&(call.due(), name));
        self.untold.remove(&name);
        Some(call)
    }

    /// Changes a call that may be over at another time then.
    fn change<T>(&mut self, name: CallName, change: impl FnOnce(&mut LiveCall) -> T) -> Option<T> {
        let call = self.calls.get_mut(&name)?;
        let before = call.due();
        let changed = change(call);
        let after = call.due();
        if before != after {
            self.deadlines.remove(&(before, name));
            self.deadlines.insert((after, name));
        }
        Some(changed)
    }
}

impl TransactionUser {
    /// The name of the call that a request begins; `None` for every other request.
    pub(super) fn begun_call(&self, request: &Message<'_>) -> Option<CallName> {
        let begins = request.method() == Some(Method::Invite) && request.to_tag().is_none();
        let (call_id, tag) = (request.call_id().ok()?, request.from_tag()?);
        begins.then(|| CallName::of(&self.keyring.transaction, call_id, tag))
    }

    /// A call begins with the INVITE of `invite`. `account` is the one whose limit it counts for, if there is one.
    pub(super) fn call_begins(
        &mut self,
        now: Now,
        invite: ServerKey,
        request: &Message<'_>,
        inbound: &Inbound,
        account: Option<Aor>,
    ) {
        let Some(name) = self.begun_call(request) else { return };
        if self.live.calls.len() >= CALLS_MAX && !self.live.calls.contains_key(&name) {
            return;
        }
        let ends_at = now.instant + self.settings.proxy.longest_call;
        let LiveCalls { calls, by_invite, deadlines, .. } = &mut self.live;
        let call = calls.entry(name).or_insert_with(|| {
            deadlines.insert((ends_at, name));
            LiveCall {
                account: None,
                gateways: Vec::new(),
                dialogs: Vec::new(),
                invite: None,
                parties: Parties::of(request).map(Box::new),
                facts: None,
                began: now.wall,
                ends_at,
            }
        });
        call.account = account.or(call.account.take());
        let before = call.invite.replace(invite);
        let wants_facts = match &call.facts {
            Some(known) => known.may_begin_again(invite),
            None => call.dialogs.is_empty(),
        };
        if self.keeps_records
            && wants_facts
            && let Some(facts) = Facts::of(now, invite, request, inbound)
        {
            match &mut call.facts {
                Some(known) => known.begin_again(facts),
                None => call.facts = Some(Box::new(facts)),
            }
        }
        by_invite.insert(invite, name);
        self.note_invite(before);
        self.changes.note(invite);
    }

    /// Somebody answered the INVITE of `invite`, by a branch of its context. `copy` is the response as it goes upstream.
    pub(super) fn call_answered(
        &mut self,
        now: Now,
        invite: ServerKey,
        (context, index): (&ResponseContext, usize),
        response: &Message<'_>,
        copy: &Bytes,
    ) {
        let Some(tag) = response.to_tag() else { return };
        let Some(name) = self.live.by_invite.get(&invite).copied() else { return };
        let begun = self.live.change(name, |call| {
            let is_new =
                call.dialogs.len() < DIALOGS_MAX && call.dialogs.iter().all(|known| *known.tag != *tag);
            is_new.then(|| {
                let mut dialog = LiveDialog::answered(now, tag, (context, index), response, copy);
                dialog.check_at = upkeep::first_check(now.instant, &context.inbound.settings, name);
                if let (Some(facts), Some(status)) = (&mut call.facts, response.status()) {
                    facts.answered(now, tag, status, dialog.gateway.as_deref());
                }
                call.dialogs.push(dialog);
                call.invite
            })
        });
        if let Some(Some(invite)) = begun {
            self.dialog_changes.note(name);
            self.note_invite(invite);
        }
    }

    /// The INVITE of `invite` has its final response, which says this if nobody answered.
    pub(super) fn invite_ended(
        &mut self,
        now: Now,
        invite: ServerKey,
        failed: impl FnOnce() -> Failed,
        out: &mut Vec<Output>,
    ) {
        let Some(name) = self.live.by_invite.remove(&invite) else { return };
        self.changes.note(invite);
        let is_over = |call: &LiveCall| call.dialogs.is_empty() && call.invite == Some(invite);
        if self.live.calls.get(&name).is_some_and(is_over) {
            let failed = failed();
            self.call_ended(now, name, failed.ending, Some(failed), out);
        }
    }

    /// A BYE passes.
    pub(super) fn hung_up(&mut self, now: Now, bye: &Message<'_>, out: &mut Vec<Output>) {
        if let Some((name, index, sender)) = self.sent_by(bye) {
            self.dialog_ended(now, name, index, CallEnding::HungUp(sender), out);
        }
    }

    /// One of the dialogs of a call has ended.
    pub(super) fn dialog_ended(
        &mut self,
        now: Now,
        name: CallName,
        index: usize,
        ending: CallEnding,
        out: &mut Vec<Output>,
    ) {
        let ended = self.live.change(name, |call| {
            let dialog = call.dialogs.remove(index);
            (call.invite, call.dialogs.is_empty(), dialog.tag)
        });
        let Some((invite, is_over, tag)) = ended else { return };
        self.media_ended(name, &tag, out);
        self.note_invite(invite);
        self.dialog_changes.note(name);
        if is_over {
            self.call_ended(now, name, ending, None, out);
        }
    }

    /// A call was counted whose INVITE was cancelled, or waited too long, before that was known.
    pub(super) fn call_never_began(&mut self, now: Now, account: Aor, name: CallName, out: &mut Vec<Output>) {
        if !self.live.calls.contains_key(&name) {
            self.tell_end(now, account, name, out);
        }
    }

    /// Ends the calls and the sessions whose deadline has come.
    // RFC 4028 §8.3: a proxy forgets a session that nobody has refreshed, and sends no BYE.
    pub(super) fn end_overdue_calls(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut checked = 0;
        while let Some(&(at, name)) = self.live.deadlines.first()
            && at <= now.instant
        {
            let Some(call) = self.live.calls.get(&name).filter(|call| now.instant < call.ends_at) else {
                self.call_ended(now, name, CallEnding::TooLong, None, out);
                self.live.deadlines.remove(&(at, name));
                continue;
            };
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
            if let Some(index) = call.dialogs.iter().position(|dialog| is_due(dialog.expires_at)) {
                self.counts.add(Count::SessionExpired);
                self.dialog_ended(now, name, index, CallEnding::SessionExpired, out);
            } else if let Some(index) =
                call.dialogs.iter().position(|it| it.expires_at.is_none() && is_due(it.check_at))
            {
                checked += 1;
                match checked <= upkeep::CHECKED_AT_ONCE {
                    true => self.look_after(now, name, index, out),
                    false => self.look_after_later(now, name, index),
                }
            } else {
                self.call_ended(now, name, CallEnding::TooLong, None, out);
            }
        }
    }

    fn call_ended(
        &mut self,
        now: Now,
        name: CallName,
        ending: CallEnding,
        failed: Option<Failed>,
        out: &mut Vec<Output>,
    ) {
        let Some(mut call) = self.live.remove(name) else { return };
        self.record(now, (name, &mut call), ending, failed, out);
        let LiveCall { account, gateways, invite, dialogs, .. } = call;
        self.note_invite(invite);
        if !dialogs.is_empty() {
            self.dialog_changes.note(name);
        }
        for dialog in dialogs {
            self.media_ended(name, &dialog.tag, out);
        }
        for gateway in gateways {
            self.tell_left(now, gateway, name, out);
        }
        if let Some(account) = account {
            self.tell_end(now, account, name, out);
        }
    }

    fn note_invite(&mut self, invite: Option<ServerKey>) {
        if let Some(invite) = invite {
            self.changes.note(invite);
        }
    }

    /// The call of `invite` counts at a gateway. `false`: it is not known, so that nobody would tell its end.
    pub(super) fn call_at_gateway(&mut self, invite: ServerKey, gateway: &Aor) -> bool {
        let name = self.live.by_invite.get(&invite);
        let Some(call) = name.and_then(|name| self.live.calls.get_mut(name)) else { return false };
        call.gateways.push(gateway.clone());
        let invite = call.invite;
        self.note_invite(invite);
        true
    }

    /// The call of `invite` has failed at a gateway, and goes on elsewhere or ends.
    pub(super) fn call_left_gateway(
        &mut self,
        now: Now,
        invite: ServerKey,
        gateway: &Aor,
        out: &mut Vec<Output>,
    ) {
        let Some(name) = self.live.by_invite.get(&invite).copied() else { return };
        let Some(call) = self.live.calls.get_mut(&name) else { return };
        let Some(place) = call.gateways.iter().position(|known| known == gateway) else { return };
        call.gateways.swap_remove(place);
        // It may be there twice, by two branches, and counts once.
        let is_left = !call.gateways.contains(gateway);
        let (invite, is_up) = (call.invite, !call.dialogs.is_empty());
        self.note_invite(invite);
        if is_up {
            self.dialog_changes.note(name);
        }
        if is_left {
            self.tell_left(now, gateway.clone(), name, out);
        }
    }

    /// A call is not at a gateway any more.
    pub(super) fn tell_left(&mut self, now: Now, gateway: Aor, name: CallName, out: &mut Vec<Output>) {
        // As below.
        if self.waiting.has_room() {
            let token = self.suspend(now, Stage::Noted);
            let question = Question::LeaveGateway(gateway.clone(), name);
            out.push(Output::Ask { partition_of: gateway, token, question });
        }
    }

    fn tell_end(&mut self, now: Now, account: Aor, name: CallName, out: &mut Vec<Output>) {
        // Where nothing may wait the partition ends the call at its own deadline.
        if self.waiting.has_room() {
            let token = self.suspend(now, Stage::Noted);
            let question = Question::CallEnded(account.clone(), name);
            out.push(Output::Ask { partition_of: account, token, question });
        }
    }
}

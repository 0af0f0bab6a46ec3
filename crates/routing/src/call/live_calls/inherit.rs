//! Calls that were answered, and the other node: what it is told, and what it tells.
//!
//! On a standby such calls are in the table like those of an active node, but no partition counts them. When the node becomes
//! active the partitions are told of them, [`TOLD_AT_ONCE`] in one step, so that 50,000 calls do not hold up the messages
//! that come meanwhile. Until all are told a limit may let in a call too many.

use std::time::Duration;

use clock::Now;
use sip::Aor;

use super::super::Output;
use super::super::suspended::Stage;
use super::super::user::TransactionUser;
use super::{LiveCall, LiveCalls, StoredDialog, upkeep};
use crate::{CallName, Question};

/// Calls that partitions are told of in one step; each takes a microsecond.
const TOLD_AT_ONCE: usize = 128;
/// When the rest is told if nothing more may wait.
const AFTER: Duration = Duration::from_millis(50);

impl LiveCalls {
    fn answered(&self) -> Vec<CallName> {
        let is_answered = |name: &CallName| self.calls.get(name).is_some_and(|call| !call.dialogs.is_empty());
        let mut names: Vec<CallName> =
            self.deadlines.iter().map(|(_, name)| *name).filter(is_answered).collect();
        names.sort_unstable();
        names
    }

    /// Another node is active: the calls that were answered are its own, and it has the INVITEs of the others.
    pub(in crate::call) fn stand_by(&mut self) {
        self.by_invite.clear();
        let names: Vec<CallName> = self.deadlines.iter().map(|(_, name)| *name).collect();
        for name in names {
            match self.calls.get_mut(&name) {
                Some(call) if !call.dialogs.is_empty() && call.parties.is_some() => {
                    call.invite = None;
                    self.untold.insert(name);
                }
                _ => drop(self.remove(name)),
            }
        }
    }
}

impl TransactionUser {
    /// Appends the calls that were answered, changed since, or ended since this was asked last, each once and in order. The
    /// first time it is all of them.
    pub fn take_changed_dialogs(&mut self, out: &mut Vec<CallName>) {
        let live = &self.live;
        self.dialog_changes.take(|| live.answered(), out);
    }

    /// The calls that were answered, in order.
    pub fn answered_calls(&self) -> Vec<CallName> {
        self.live.answered()
    }

    /// A call that was answered, for another node; `None` if it has ended.
    pub fn stored_dialog(&self, now: Now, name: CallName) -> Option<StoredDialog> {
        StoredDialog::of(now, self.live.calls.get(&name)?)
    }

    /// On a standby: takes a call that the active node tells of in the place of what was known of it. Whether there is room
    /// for it, and whether it is the one of that name.
    pub fn inherit_dialog(&mut self, now: Now, name: CallName, stored: &StoredDialog) -> bool {
        let is_named_so = stored.name(&self.keyring) == Some(name);
        let mut call = stored.read(now).ok().filter(|_| is_named_so);
        for dialog in call.iter_mut().flat_map(|call| &mut call.dialogs) {
            dialog.check_at = upkeep::first_check(now.instant, &self.settings, name);
        }
        let is_taken = call.is_some_and(|call| self.live.insert(name, call));
        if is_taken {
            self.live.untold.insert(name);
        }
        is_taken
    }

    /// On a standby: lets a call go.
    pub fn disinherit_dialog(&mut self, name: CallName) {
        self.live.remove(name);
    }

    /// How many calls there are that the partitions have not been told of.
    pub fn untold_calls(&self) -> usize {
        self.live.untold.len()
    }

    /// Tells the partitions of some of the calls that were another node's.
    pub(in crate::call) fn tell_inherited(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.live.untold.is_empty() || now.instant < self.live.tells_at {
            return;
        }
        for _ in 0..TOLD_AT_ONCE {
            if !self.waiting.has_room() {
                self.live.tells_at = now.instant + AFTER;
                return;
            }
            let Some(name) = self.live.untold.pop_first() else { return };
            if let Some(LiveCall { account, gateways, .. }) = self.live.calls.get(&name) {
                let (account, gateways) = (account.clone(), gateways.clone());
                self.tell_it_goes_on(now, name, account, gateways, out);
            }
        }
    }

    /// The partitions that count a call are told of it: what they counted was on the other node.
    pub(in crate::call) fn tell_it_goes_on(
        &mut self,
        now: Now,
        name: CallName,
        account: Option<Aor>,
        mut gateways: Vec<Aor>,
        out: &mut Vec<Output>,
    ) {
        gateways.sort();
        gateways.dedup();
        let of_account = account.map(|it| (it.clone(), Question::CallGoesOn(it, name)));
        // Whatever its limit is: the call is there.
        let enter = |it: Aor| (it.clone(), Question::EnterGateway(it, name, u32::MAX));
        for (partition_of, question) in of_account.into_iter().chain(gateways.into_iter().map(enter)) {
            // Where nothing may wait the call counts no more.
            if self.waiting.has_room() {
                let token = self.suspend(now, Stage::Noted);
                out.push(Output::Ask { partition_of, token, question });
            }
        }
    }
}

//! The calls of a shard that were answered, as two nodes share them. They live in the transaction user in both roles.

use clock::Now;
use routing::{CallName, CallView, StoredDialog};

use super::Shard;

impl Shard {
    /// The calls that were answered, changed or ended since this was asked last; none if changes are not noted.
    pub(crate) fn take_changed_dialogs(&mut self) -> Vec<CallName> {
        let mut names = Vec::new();
        if self.calls.is_some() {
            self.user.take_changed_dialogs(&mut names);
        }
        names
    }

    /// A call that was answered, for another node.
    pub fn stored_dialog(&self, now: Now, name: CallName) -> Option<StoredDialog> {
        self.user.stored_dialog(now, name)
    }

    /// The calls that were answered, in order.
    pub fn answered_calls(&self) -> Vec<CallName> {
        self.user.answered_calls()
    }

    /// The calls, at most so many.
    pub fn call_views(&self, now: Now, count_max: usize) -> Vec<CallView> {
        self.user.call_views(now.wall, count_max)
    }

    /// How many calls there are; on a standby, how many of the other node's that were answered.
    pub fn count_of_calls(&self) -> usize {
        self.user.calls()
    }

    /// On a standby: takes a call that the active node tells of. Whether there is room for it.
    pub(crate) fn inherit_dialog(&mut self, now: Now, name: CallName, dialog: &StoredDialog) -> bool {
        if !self.tenure.is_standby() {
            // As for a call that rings.
            self.stand_by(now);
        }
        self.user.inherit_dialog(now, name, dialog)
    }

    /// On a standby: lets a call go.
    pub(crate) fn disinherit_dialog(&mut self, name: CallName) {
        self.user.disinherit_dialog(name);
    }
}

//! Which calls have changed since somebody asked last.

use transaction::ServerKey;

use super::super::inbound::Inbound;
use super::super::suspended::Stage;
use super::super::user::TransactionUser;

/// The calls that have changed or ended. It is emptied after each step, so that it stays as short as one step is.
#[derive(Debug, Default)]
pub(in crate::call) enum Changes<Key = ServerKey> {
    /// Nobody has asked yet: where there is no other node nothing is noted.
    #[default]
    Unasked,
    /// These, some of them more than once.
    Noted(Vec<Key>),
}

impl<Key: Copy + Ord> Changes<Key> {
    /// A call has changed or ended.
    pub(in crate::call) fn note(&mut self, call: Key) {
        if let Self::Noted(calls) = self
            && calls.last() != Some(&call)
        {
            calls.push(call);
        }
    }

    /// All calls are gone, and nobody is to be told.
    pub(in crate::call) fn forget(&mut self) {
        if let Self::Noted(calls) = self {
            calls.clear();
        }
    }

    /// Appends what was noted, each once and in order; the first time that is `all`.
    pub(in crate::call) fn take(&mut self, all: impl FnOnce() -> Vec<Key>, out: &mut Vec<Key>) {
        match self {
            Self::Unasked => {
                *self = Self::Noted(Vec::new());
                out.append(&mut all());
            }
            Self::Noted(calls) => {
                calls.sort_unstable();
                calls.dedup();
                out.append(calls);
            }
        }
    }
}

impl TransactionUser {
    /// Appends the calls that have changed or ended since this was asked last, each once and in order. The first time
    /// it is all of them.
    pub fn take_changed_calls(&mut self, out: &mut Vec<ServerKey>) {
        let mut changes = std::mem::take(&mut self.changes);
        changes.take(|| self.calls_under_way().collect(), out);
        self.changes = changes;
    }

    /// The calls that another node could go on with, in order.
    pub fn calls_under_way(&self) -> impl Iterator<Item = ServerKey> {
        let forwarded = self.contexts.iter().filter(|(_, context)| is_call(&context.inbound));
        let is_sought = |key: &ServerKey| self.waiting.of_server(*key).and_then(call_of).is_some();
        let sought = self.waiting.servers().filter(is_sought);
        let mut calls: Vec<ServerKey> = forwarded.map(|(key, _)| *key).chain(sought).collect();
        calls.sort_unstable();
        calls.into_iter()
    }

    /// What a request waited for, or waits for, has begun or ended.
    pub(in crate::call) fn note_stage(&mut self, stage: &Stage) {
        if let (Some(_), Some(key)) = (call_of(stage), stage.server()) {
            self.changes.note(key);
        }
    }

    /// Something of a context has changed that is still there.
    pub(in crate::call) fn note_context(&mut self, key: ServerKey) {
        if self.contexts.get(&key).is_some_and(|context| is_call(&context.inbound)) {
            self.changes.note(key);
        }
    }
}

/// The request that waits, if it is a call that was admitted.
pub(super) fn call_of(stage: &Stage) -> Option<&Inbound> {
    match stage {
        Stage::Locate(_, inbound, _) | Stage::Elsewhere(_, inbound, ..) | Stage::Side(_, inbound) => {
            Some(&**inbound).filter(|it| is_call(it))
        }
        _ => None,
    }
}

/// Whether a request is an INVITE that was admitted.
pub(super) fn is_call(inbound: &Inbound) -> bool {
    inbound.kind == transaction::Kind::Invite && inbound.sender.is_some()
}

//! Bindings and nonces as copies: what comes from the store or from the active node, and what the other node is told.
//!
//! Nothing here ends a binding because its time is over: a standby waits for the active node to say so.

use clock::Now;
use sip::Aor;
use transport::{LocalAddr, Transport};

use super::super::binding::{Binding, Registration};
use super::super::binding_text::{BindingText, Parts};
use super::super::keepalive::{self, Score};
use super::super::{BindingKey, Change, NonceChange, Output, StoredNonce};
use super::{AccountPartition, Duration};
use crate::call::beside;
use crate::{BindingId, Count, PublishedBinding, StoredBinding};

/// No restored binding lasts longer, unless the operator allows more: the calendar may have been set back. It is
/// not `max_expires`, which may have been lowered after the phone was promised more.
const RESTORED_LEFT_MAX: Duration = Duration::from_secs(24 * 3_600);

impl AccountPartition {
    /// Takes a binding from the store at the start, or from the active node, in the place of one with the same key. Its
    /// connection, if it had one, is gone. Gives its number; `None` if there is no room for it.
    pub fn restore(&mut self, now: Now, stored: StoredBinding) -> Option<BindingId> {
        let parts = Parts {
            contact: &stored.contact,
            call_id: &stored.call_id,
            instance: stored.instance.as_deref(),
            user_agent: stored.user_agent.as_deref(),
            path: &stored.path,
        };
        let text = BindingText::new(&parts);
        let place = self.location.place(stored.listener, &self.settings.listeners);
        let (Some(text), Some(place)) = (text, place) else {
            self.counts.add(Count::Full);
            return None;
        };
        let left_max = RESTORED_LEFT_MAX.max(self.settings.registrar.max_expires);
        let left = stored.expires_at.since(now.wall).min(left_max);
        let registration = Registration {
            text,
            remote: stored.received,
            place,
            connection: None,
            expires_at: now.instant + left,
            granted: None,
            response_hash: stored.response_hash,
            cseq: stored.cseq,
            reg_id: stored.reg_id.filter(|_| stored.instance.is_some()),
            q: stored.q,
            nat: stored.nat,
        };
        let is_same = |binding: &&Binding| binding.registration.has_key_of(&registration);
        if let Some(id) = self.location.of(&stored.aor).iter().find(is_same).map(|binding| binding.id) {
            self.location.remove(id);
        }
        let turn = self.next_turn(now.instant, &stored.aor, &registration);
        let score = Score::new(keepalive::first_turn_after_restart(now.instant, turn));
        let id = self.location.add(&stored.aor, registration, score);
        if id.is_none() {
            self.counts.add(Count::Full);
        }
        id
    }

    /// The binding with this number as it is; `None` if it has ended.
    pub fn stored(&self, now: Now, id: BindingId) -> Option<StoredBinding> {
        let (aor, binding) = self.location.find(id)?;
        binding.is_live(now).then(|| binding.stored(now, aor, self.location.places()))
    }

    /// The binding with this number as servers beside this one are to see it; `None` if it has ended, or if its listener is
    /// not there.
    pub fn published(&self, now: Now, id: BindingId) -> Option<PublishedBinding> {
        let (aor, binding) = self.location.find(id)?;
        self.publish(now, aor, binding)
    }

    /// The same of the rows from `first` on, at most so many; and the first row after them, if there may be more.
    pub fn published_rows(
        &self,
        now: Now,
        first: u32,
        count: u32,
    ) -> (Vec<(BindingId, PublishedBinding)>, Option<u32>) {
        let end = self.location.rows_end();
        let last = first.saturating_add(count).min(end);
        let rows = (first..last).filter_map(|row| self.location.row(row));
        let found = rows
            .flat_map(|(aor, bindings)| bindings.iter().map(move |binding| (aor, binding)))
            .filter_map(|(aor, binding)| Some((binding.id, self.publish(now, aor, binding)?)))
            .collect();
        (found, (last < end).then_some(last))
    }

    fn publish(&self, now: Now, aor: &Aor, binding: &Binding) -> Option<PublishedBinding> {
        let places = self.location.places();
        let target = binding.is_live(now).then(|| binding.target(aor, places))?;
        let path = beside::path_to(&self.keyring, &self.settings.listeners, &target)?;
        Some(PublishedBinding { stored: binding.stored(now, aor, places), path })
    }

    /// Where the server listens.
    pub fn listeners(&self) -> Vec<(Transport, LocalAddr)> {
        self.settings.listeners.iter().map(|listener| (listener.transport, listener.local)).collect()
    }

    /// The number of the binding with this key.
    pub fn number_of(&self, key: &BindingKey) -> Option<BindingId> {
        let bindings = self.location.of(&key.aor).iter();
        bindings.rev().find(|binding| binding.registration.is_of(key)).map(|binding| binding.id)
    }

    /// From here on it is noted which nonces change.
    pub fn note_nonce_changes(&mut self) {
        self.nonces.note_changes();
    }

    /// The nonces that have changed since they were taken last: at most so many.
    pub fn take_nonce_changes(&mut self, now: Now, count: usize) -> Vec<NonceChange> {
        self.nonces.take_changes(now, count)
    }

    /// The nonce with this number as it is; `None` if it has ended.
    pub fn stored_nonce(&self, now: Now, number: u64) -> Option<StoredNonce> {
        self.nonces.find(now, number)
    }

    /// Ends a nonce because the active node says that it has ended.
    pub fn withdraw_nonce(&mut self, number: u64) {
        self.nonces.withdraw(number);
    }

    /// Ends a binding because the active node says that it has ended.
    pub fn withdraw(&mut self, id: BindingId, out: &mut Vec<Output>) {
        if let Some((aor, binding)) = self.location.remove(id) {
            out.push(Output::Save(Change::Remove(binding.registration.key(&aor))));
        }
    }
}

//! Bindings that another registrar had: taken over into a partition that serves.
//!
//! What phones have told this server counts for more than what they told another one before. So a binding that is here stays
//! as it is, and so does a phone that is here under another Contact.

use clock::Now;
use lease::ActiveLease;

use super::binding::Binding;
use super::partition::AccountPartition;
use super::{Change, Output};
use crate::{Count, StoredBinding};

/// What became of a binding that was to be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// It is here.
    Taken,
    /// It was here, or its phone.
    Known,
    /// Its address of record has as many as it may have.
    TooMany,
    /// It is over.
    Ended,
    /// It is longer than a binding may be, or there is no room for one more.
    Full,
}

impl AccountPartition {
    /// Takes a binding that another registrar had, to be written down and told to the other node like one that was registered.
    pub fn import(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        stored: StoredBinding,
        out: &mut Vec<Output>,
    ) -> Imported {
        self.enter(now.instant, lease);
        if stored.expires_at <= now.wall {
            return Imported::Ended;
        }
        let live = || self.location.of(&stored.aor).iter().filter(|binding| binding.is_live(now));
        if live().any(|binding| is_of_one_phone(binding, &stored)) {
            return Imported::Known;
        }
        if live().count() >= self.settings.registrar.contacts_max {
            return Imported::TooMany;
        }
        let Some(id) = self.restore(now, stored) else { return Imported::Full };
        self.counts.add(Count::BindingAdded);
        if let Some((aor, binding)) = self.location.find(id) {
            let stored = binding.stored(now, aor, self.location.places());
            out.push(Output::Save(Change::Put(Box::new(stored))));
        }
        Imported::Taken
    }
}

/// Whether a binding is of the phone that the other registrar had; of its flow, where it has several (RFC 5626 §6).
fn is_of_one_phone(binding: &Binding, stored: &StoredBinding) -> bool {
    let registration = &binding.registration;
    let has_instance = registration
        .text
        .instance()
        .zip(stored.instance.as_deref())
        .is_some_and(|(is, was)| is.eq_ignore_ascii_case(was));
    match (registration.reg_id, stored.reg_id) {
        (Some(is), Some(was)) if has_instance => is == was,
        _ => has_instance || registration.text.contact() == stored.contact,
    }
}

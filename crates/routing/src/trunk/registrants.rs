//! All registrations that one shard keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now};
use keys::Key;
use sip::SipUri;

use super::registrant::{Outcome, Registrant, Standing};
use super::{AtStop, RegistrationView, Trunk};

/// The registrations of one shard, by name.
#[derive(Debug, Default)]
pub(crate) struct Registrants(BTreeMap<Arc<str>, Registrant>);

/// A REGISTER that is to leave.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// For this account.
    pub(crate) trunk: Arc<Trunk>,
    /// All but what depends on the listener.
    pub(crate) request: Bytes,
}

/// What an outcome means to the other shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The carrier will send calls.
    Registered,
    /// The carrier has nothing to do with us.
    Gone,
}

impl Registrants {
    /// Makes all registrations anew as soon as time passes again: another node may have made them meanwhile, and what was
    /// under way is forgotten.
    pub(crate) fn stand_by(&mut self) {
        self.0.values_mut().for_each(Registrant::stand_by);
    }

    /// Keeps those of `trunks` whose Call-ID is ours. One that has not changed is not touched; another is made anew at
    /// once. Gives the names of those that are not kept any more.
    pub(crate) fn assign(
        &mut self,
        key: &Key,
        trunks: &[Arc<Trunk>],
        is_ours: impl Fn(&[u8]) -> bool,
    ) -> Vec<Arc<str>> {
        let mut before = std::mem::take(&mut self.0);
        for trunk in trunks {
            let Some(mut registrant) = Registrant::new(key, trunk) else { continue };
            if !is_ours(registrant.call_id().as_bytes()) {
                continue;
            }
            match before.remove(&trunk.name) {
                Some(same) if same.is_of(trunk) => registrant = same,
                Some(other) => registrant.succeed(&other),
                None => {}
            }
            self.0.insert(Arc::clone(&trunk.name), registrant);
        }
        before.into_keys().collect()
    }

    /// The REGISTERs that are due.
    pub(crate) fn handle_timeout(&mut self, now: Now, key: &Key) -> Vec<Due> {
        let due = |registrant: &mut Registrant| {
            let request = registrant.handle_timeout(now, key)?;
            Some(Due { trunk: Arc::clone(registrant.trunk()), request })
        };
        self.0.values_mut().filter_map(due).collect()
    }

    /// When [`Self::handle_timeout`] has something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.0.values().filter_map(Registrant::poll_timeout).min()
    }

    /// The REGISTERs that take back what is not to stay.
    pub(crate) fn handle_stop(&mut self, now: Now, key: &Key) -> Vec<Due> {
        let removed = |registrant: &mut Registrant| {
            let trunk = Arc::clone(registrant.trunk());
            let at_stop = trunk.registration.as_ref().map(|registration| registration.at_stop);
            let request = registrant.handle_stop(now, key)?;
            (at_stop == Some(AtStop::Remove)).then_some(Due { trunk, request })
        };
        self.0.values_mut().filter_map(removed).collect()
    }

    /// Takes the outcome of an account's REGISTER.
    pub(crate) fn handle_outcome(
        &mut self,
        now: Now,
        key: &Key,
        name: &str,
        outcome: Outcome<'_, '_>,
        is_ours: impl Fn(&SipUri<'_>) -> bool,
    ) -> Option<Change> {
        match self.0.get_mut(name)?.handle_outcome(now, key, outcome, is_ours) {
            Standing::Registered => Some(Change::Registered),
            Standing::Refused => Some(Change::Gone),
            Standing::AsBefore => None,
        }
    }

    /// What the operator sees.
    pub(crate) fn views(&self, now: Instant) -> Vec<RegistrationView> {
        self.0.values().map(|registrant| registrant.view(now)).collect()
    }
}

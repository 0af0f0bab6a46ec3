//! Which bindings the server must know.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;

/// A binding that a phone was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The contact's URI.
    pub(crate) contact: Bytes,
    /// The address of record.
    pub(crate) aor: String,
    /// It is good at least so long.
    pub(crate) until: Instant,
    /// When the phone was told of it last.
    pub(crate) told: Instant,
}

/// The bindings of all phones, by phone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    lost: Vec<(Bytes, Instant)>,
    bound: BTreeMap<usize, Bound>,
}

/// A message is under way no longer.
const UNDER_WAY: Duration = Duration::from_secs(2);

impl Bindings {
    /// A phone was told that it is registered.
    pub(crate) fn told(&mut self, phone: usize, bound: Bound) {
        // The 200 was under way when the server lost what it stood for.
        if self.lost.iter().any(|(contact, until)| *contact == bound.contact && bound.told < *until) {
            return;
        }
        self.bound.insert(phone, bound);
    }

    /// A phone asked for the end of its binding, or has a reason to have lost it.
    pub(crate) fn excuse(&mut self, phone: usize) {
        self.bound.remove(&phone);
    }

    /// The server lost these contacts in a kill; their phones are told when they register again.
    pub(crate) fn excuse_contacts(&mut self, now: Instant, contacts: &[Bytes]) {
        self.lost = contacts.iter().map(|contact| (contact.clone(), now + UNDER_WAY)).collect();
        self.bound.retain(|_, bound| !contacts.contains(&bound.contact));
    }

    /// Whether a phone must be known to the server.
    pub(crate) fn is_bound(&self, phone: usize, now: Instant) -> bool {
        self.bound.get(&phone).is_some_and(|bound| now < bound.until)
    }

    /// All that must be known.
    pub(crate) fn all(&self, now: Instant) -> impl Iterator<Item = (usize, &Bound)> {
        self.bound.iter().filter(move |(_, bound)| now < bound.until).map(|(&phone, bound)| (phone, bound))
    }
}

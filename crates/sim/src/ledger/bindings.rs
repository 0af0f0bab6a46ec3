//! Which bindings the server must know.

use std::collections::BTreeMap;

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
    bound: BTreeMap<usize, Bound>,
}

impl Bindings {
    /// A phone was told that it is registered.
    pub(crate) fn told(&mut self, phone: usize, bound: Bound) {
        self.bound.insert(phone, bound);
    }

    /// A phone asked for the end of its binding, or has a reason to have lost it.
    pub(crate) fn excuse(&mut self, phone: usize) {
        self.bound.remove(&phone);
    }

    /// The server lost these contacts in a kill; their phones are told when they register again.
    pub(crate) fn excuse_contacts(&mut self, contacts: &[Bytes]) {
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

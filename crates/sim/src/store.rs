//! The database as a server sees it: it may be slow, hang or be away, and a kill loses what it had not yet
//! written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use engine::{Change, Loaded, StoredNonce};
use routing::account::BindingKey;
use routing::{Account, Algorithm, ForwardTarget, Forwards, StoredBinding};
use sip::Aor;

use crate::phone;

/// How a database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It answers.
    Up,
    /// It says at once that it can not.
    Away,
    /// It says nothing until it is up again.
    Hanging,
}

/// What is queued is written after this time at the latest: a kill loses no more.
pub(crate) const WRITTEN_AFTER: Duration = Duration::from_millis(100);

/// A database and the queue before it.
#[derive(Debug)]
pub(crate) struct Store {
    accounts: BTreeMap<Aor, Arc<Account>>,
    written: BTreeMap<BindingKey, StoredBinding>,
    queue: VecDeque<(Instant, Change)>,
    nonces: Vec<StoredNonce>,
    condition: Condition,
    hanging: Vec<(u16, Aor)>,
}

impl Store {
    /// A database without accounts.
    pub(crate) fn new() -> Self {
        Self {
            accounts: BTreeMap::new(),
            written: BTreeMap::new(),
            queue: VecDeque::new(),
            nonces: Vec::new(),
            condition: Condition::Up,
            hanging: Vec::new(),
        }
    }

    /// Adds an account, with the hashes of its password.
    pub(crate) fn add_account(&mut self, user: &str, domain: &str, password: &str) {
        let Some(aor) = Aor::parse(&format!("{user}@{domain}")) else { return };
        let secret = format!("{user}:{domain}:{password}");
        let ha1 = vec![
            (Algorithm::Md5, phone::Algorithm::Md5.hash(&secret).into_boxed_str()),
            (Algorithm::Sha256, phone::Algorithm::Sha256.hash(&secret).into_boxed_str()),
        ];
        let account = Account {
            aor: aor.clone(),
            ha1,
            aliases: Vec::new(),
            may_use: Vec::new(),
            calls: Default::default(),
        };
        self.accounts.insert(aor, Arc::new(account));
    }

    /// Sends all calls of an account to another user of its domain.
    pub(crate) fn forward(&mut self, user: &str, domain: &str, to: &str) {
        self.set_forwards(
            user,
            domain,
            Forwards { always: ForwardTarget::parse(to, domain), ..Forwards::default() },
        );
    }

    /// Sends calls of an account elsewhere.
    pub(crate) fn set_forwards(&mut self, user: &str, domain: &str, forwards: Forwards) {
        let account = Aor::parse(&format!("{user}@{domain}")).and_then(|aor| self.accounts.get_mut(&aor));
        if let Some(account) = account {
            Arc::make_mut(account).calls.forwards = forwards;
        }
    }

    /// Adds a binding that was there before the world began.
    pub(crate) fn add_binding(&mut self, binding: StoredBinding) {
        self.written.insert(BindingKey::of(&binding), binding);
    }

    /// Is so from here on; gives the look-ups that hung and can be answered.
    pub(crate) fn set_condition(&mut self, condition: Condition) -> Vec<(u16, Aor)> {
        self.condition = condition;
        if condition == Condition::Hanging { Vec::new() } else { std::mem::take(&mut self.hanging) }
    }

    /// How it is.
    pub(crate) fn condition(&self) -> Condition {
        self.condition
    }

    /// Looks an account up; `None`: it hangs.
    pub(crate) fn look_up(&mut self, partition: u16, aor: &Aor) -> Option<Loaded> {
        match self.condition {
            Condition::Up => Some(self.accounts.get(aor).cloned().map_or(Loaded::NotFound, Loaded::Found)),
            Condition::Away => Some(Loaded::Unavailable),
            Condition::Hanging => {
                self.hanging.push((partition, aor.clone()));
                None
            }
        }
    }

    /// Takes a change into the queue.
    pub(crate) fn save(&mut self, now: Instant, change: Change) {
        self.write_due(now);
        self.queue.push_back((now, change));
    }

    /// The process ended cleanly: all is written.
    pub(crate) fn flush(&mut self, nonces: Vec<StoredNonce>) {
        while let Some((_, change)) = self.queue.pop_front() {
            self.write(change);
        }
        self.nonces = nonces;
        self.hanging.clear();
    }

    /// The process was killed: what was queued a moment ago is lost. Gives the contacts that were lost.
    pub(crate) fn kill(&mut self, now: Instant) -> Vec<Bytes> {
        self.write_due(now);
        self.hanging.clear();
        self.queue
            .drain(..)
            .map(|(_, change)| match change {
                Change::Put(binding) => binding.contact,
                Change::Remove(key) => key.contact,
            })
            .collect()
    }

    /// All bindings, as at a start.
    pub(crate) fn bindings(&self) -> Vec<StoredBinding> {
        self.written.values().cloned().collect()
    }

    /// The nonces of the last clean end.
    pub(crate) fn nonces(&self) -> Vec<StoredNonce> {
        self.nonces.clone()
    }

    fn write_due(&mut self, now: Instant) {
        while let Some((_, change)) = self.queue.pop_front_if(|(at, _)| *at + WRITTEN_AFTER <= now) {
            self.write(change);
        }
    }

    fn write(&mut self, change: Change) {
        match change {
            Change::Put(binding) => {
                self.written.insert(BindingKey::of(&binding), *binding);
            }
            Change::Remove(key) => {
                self.written.remove(&key);
            }
        }
    }
}

//! Our own registrations at carriers: a shard keeps those whose responses come to it.

use clock::Now;
use lease::ActiveLease;
use routing::RegistrationView;

use super::{Output, Shard};
use crate::place::shard_of_call;

impl Shard {
    /// Keeps those of our own registrations whose responses come to this shard, which is one of so many.
    pub fn keep_registrations(&mut self, shards: u16) {
        self.shards = Some(shards);
        self.assign_registrations();
    }

    /// How the registrations stand that this shard keeps.
    pub fn registrations(&self, now: Now) -> Vec<RegistrationView> {
        self.user.registrations(now)
    }

    /// Takes back the registrations that are not to outlast this server, and makes no others.
    pub fn handle_stop(&mut self, now: Now, lease: &ActiveLease<'_>, out: &mut Vec<Output>) {
        self.enter(now, lease);
        self.user.handle_stop(now, lease, &mut self.from_user);
        self.settle(now, lease, out);
    }

    /// Whether a request of our own is under way.
    pub fn has_own_requests(&self) -> bool {
        self.user.has_own_requests()
    }

    pub(super) fn assign_registrations(&mut self) {
        let Some(shards) = self.shards else { return };
        let (key, number) = (&self.keyring.partition, self.number);
        self.user.assign_registrations(|call_id| shard_of_call(key, call_id, shards) == number);
    }
}

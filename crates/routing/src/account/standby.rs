//! A partition whose node stands by, and becomes active again.
//!
//! Bindings stay as they are: what another node keeps up to date meanwhile is for replication to say, and nothing
//! expires here. What was in hand goes: nobody is left who asked, and the calls of a limit ended without a word to us.
//! When the node is active again, bindings that are past their time end, and turns that were another node's are spread.

use clock::Instant;
use lease::{ActiveLease, Entry};
use transport::ConnectionId;

use super::calls::Calls;
use super::partition::AccountPartition;

impl AccountPartition {
    /// Lets go of what is in hand: another node may be active.
    pub fn stand_by(&mut self) {
        self.accounts.forget_waiting(&self.keyring.partition);
        self.calls = Calls::default();
        self.gateway_calls = Calls::default();
        self.tenure.leave();
    }

    /// Takes the news that a connection is gone while another node is active: its bindings stay, without it.
    pub fn lose_connection(&mut self, id: ConnectionId) {
        for binding in self.location.on_connection(id) {
            self.location.change(binding, |binding| binding.registration.connection = None);
        }
    }

    /// Sees under which epoch it is called.
    pub(super) fn enter(&mut self, now: Instant, lease: &ActiveLease<'_>) {
        match self.tenure.enter(lease) {
            Entry::Same => return,
            Entry::Anew => {}
            Entry::Overtaken => {
                self.stand_by();
                self.tenure.enter(lease);
            }
        }
        self.active_since = now;
    }
}

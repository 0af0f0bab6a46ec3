//! A binding's turn: it gets a keepalive, or is taken for dead, or its turn was none of this node's.

use bytes::Bytes;
use clock::{Instant, Now};
use lease::ActiveLease;
use sip::Aor;
use transport::Destination;

use super::Output;
use super::binding::Registration;
use super::keepalive;
use super::partition::AccountPartition;
use crate::{BindingId, Count, Keepalive, KeepaliveMark};

impl AccountPartition {
    /// A binding's turn to get a keepalive.
    pub(super) fn take_turn(
        &mut self,
        now: Now,
        lease: &ActiveLease<'_>,
        id: BindingId,
        out: &mut Vec<Output>,
    ) {
        let nat = &self.settings.nat;
        let Some((aor, binding)) = self.location.find(id) else { return };
        let (due_at, score) = (binding.score.next_at, binding.score);
        let next_at = self.next_turn(now.instant, aor, &binding.registration);
        // After a standstill very many turns are late at once. They are left out: the next ones are spread again.
        let is_late = now.instant.since(due_at) > nat.interval / 2;
        if due_at < self.active_since {
            let next_at = keepalive::first_turn_after_restart(now.instant, next_at);
            self.location.change(id, |binding| {
                binding.score.change_flow();
                binding.score.next_at = next_at;
            });
        } else if next_at == Instant::FAR || is_late {
            self.location.change(id, |binding| binding.score.next_at = next_at);
        } else if nat.keepalive == Keepalive::Options && score.is_dead(nat.failures) {
            self.end(lease, id, Count::BindingDead, out);
        } else {
            self.location.change(id, |binding| binding.score.next_at = next_at);
            self.send_keepalive(lease, id, out);
        }
    }

    fn send_keepalive(&mut self, _lease: &ActiveLease<'_>, id: BindingId, out: &mut Vec<Output>) {
        let Some((_, binding)) = self.location.find(id) else { return };
        let Some(flow) = binding.registration.flow(self.location.places()) else { return };
        let Some(listener) = self.settings.listeners.get(flow.listener()) else { return };
        let message = if self.settings.nat.keepalive == Keepalive::Options {
            let Some(number) = self.location.change(id, |binding| binding.score.send()) else { return };
            let Some((aor, binding)) = self.location.find(id) else { return };
            let options = keepalive::Options {
                mark: KeepaliveMark { partition: self.number, binding: id, number },
                listener,
                flow: &flow,
                aor,
                contact: binding.registration.text.contact(),
            };
            options.write(&self.keyring.keepalive)
        } else {
            Bytes::from_static(keepalive::empty_line(listener.transport))
        };
        self.counts.add(Count::KeepaliveSent);
        out.push(Output::Send { to: Destination::Flow(flow), message });
    }

    pub(super) fn next_turn(&self, now: Instant, aor: &Aor, registration: &Registration) -> Instant {
        let Self { keyring, settings, location, .. } = self;
        keepalive::next_turn(&keyring.keepalive, &settings.nat, location.places(), now, aor, registration)
    }
}

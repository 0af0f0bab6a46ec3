//! A listener's name within branches and tokens, which outlive a restart and its listener numbers.

use keys::Key;
use transport::{Listener, ListenerId, Listeners};

use super::layout::write_address;

/// A keyed hash of a listener's transport and address: the same after a restart and on both nodes.
/// It is found by comparison, never trusted: the MAC around it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenerMark(pub(super) u32);

impl ListenerMark {
    /// The mark of a listener.
    pub(super) fn of(key: &Key, listener: &Listener) -> Self {
        let mut address = Vec::with_capacity(18);
        write_address(listener.local.0, &mut address);
        let mac = key.mac(&[b"listener", listener.transport.uri_name().as_bytes(), &address]);
        Self((mac.short() >> 32) as u32)
    }

    /// The mark of the listener with this number; a mark that fits none if there is no such listener.
    pub(super) fn of_id(key: &Key, listeners: &Listeners, id: ListenerId) -> Self {
        listeners.get(id).map_or(Self(0), |listener| Self::of(key, listener))
    }

    /// The listener that has this mark.
    pub(super) fn find(self, key: &Key, listeners: &Listeners) -> Option<ListenerId> {
        listeners.iter().find(|listener| Self::of(key, listener) == self).map(|listener| listener.id)
    }
}

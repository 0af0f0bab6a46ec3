//! What tells the passages of calls through the media relay apart.

use std::net::IpAddr;

use keys::Key;
use transaction::ServerKey;
use transport::{ListenerId, Listeners};

/// One passage of a call through the media relay: a call that comes by twice is relayed twice, on two sets of ports. So is one
/// that leaves from two addresses, because each of its callees is told the relay's address on its own side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(u64);

/// What the token of a dialog has of its session's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor(pub(crate) u32);

impl Anchor {
    /// That of the session that an INVITE begins when it leaves by this listener.
    pub(crate) fn of(invite: ServerKey, listeners: &Listeners, leaves_by: ListenerId) -> Self {
        let address = listeners.get(leaves_by).map_or(0, |listener| match listener.local.0.ip() {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
            }
        });
        // The key is the output of a hash: whatever is added, another call's is as far away as before.
        Self(invite.as_u128() as u32 ^ address)
    }
}

impl SessionName {
    /// The name with this number, as [`SessionName::as_u64`] gave it on another node.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The name of the session that an INVITE with this Call-ID has begun.
    pub(crate) fn of(key: &Key, call_id: &[u8], anchor: Anchor) -> Self {
        Self(key.mac(&[b"media", call_id, &anchor.0.to_be_bytes()]).short())
    }
}

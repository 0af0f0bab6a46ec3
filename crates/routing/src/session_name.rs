//! What tells the passages of calls through the media relay apart.

use keys::Key;
use transaction::ServerKey;

/// One passage of a call through the media relay: a call that comes by twice is relayed twice, on two sets of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(u64);

/// What the token of a dialog has of its session's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor(pub(crate) u32);

impl Anchor {
    /// That of the session that an INVITE begins.
    pub(crate) const fn of(invite: ServerKey) -> Self {
        Self(invite.as_u128() as u32)
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

//! What tells calls apart.

use keys::Key;

/// A call: a hash of its Call-ID and the tag of its caller, which stay the same in all its requests. The two sides of
/// a call put the tag in different places, so whoever looks for a call of a request tries both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallName(u64);

impl CallName {
    /// The name with this number, as [`CallName::as_u64`] gave it on another node.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The name of the call that `caller_tag` has begun.
    pub(crate) fn of(key: &Key, call_id: &[u8], caller_tag: &[u8]) -> Self {
        Self(key.mac(&[b"call", call_id, caller_tag]).short())
    }
}

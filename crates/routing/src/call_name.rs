//! What tells calls apart.

use keys::Key;

/// A call: a hash of its Call-ID and the tag of its caller, which stay the same in all its requests. The two sides of
/// a call put the tag in different places, so whoever looks for a call of a request tries both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallName(u64);

impl CallName {
    /// The name of the call that `caller_tag` has begun.
    pub(crate) fn of(key: &Key, call_id: &[u8], caller_tag: &[u8]) -> Self {
        Self(key.mac(&[b"call", call_id, caller_tag]).short())
    }
}

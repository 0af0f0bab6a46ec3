//! What tells the passages of calls through the media relay apart.

/// One passage of a call through the media relay: a call that comes by twice is relayed twice, on two sets of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(u64);

impl SessionName {
    /// The name with this number, as [`SessionName::as_u64`] gave it on another node.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

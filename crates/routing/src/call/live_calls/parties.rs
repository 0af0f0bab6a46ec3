//! Who calls whom, as the INVITE says.

use sip::{Message, Name};

/// The longest From, To, Contact or list of routes that is kept of a call. Such a call is counted, and that is all.
pub(super) const TEXT_BYTES_MAX: usize = 2_048;

/// Who calls whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Parties {
    /// The Call-ID.
    pub(in crate::call) call_id: Box<[u8]>,
    /// The value of From, as the caller wrote it.
    pub(in crate::call) from: Box<[u8]>,
    /// The value of To, as the caller wrote it.
    pub(in crate::call) to: Box<[u8]>,
}

impl Parties {
    /// Those of an INVITE.
    pub(in crate::call) fn of(invite: &Message<'_>) -> Option<Self> {
        Some(Self {
            call_id: invite.call_id().ok()?.into(),
            from: text(invite.header(Name::From)?)?,
            to: text(invite.header(Name::To)?)?,
        })
    }
}

/// A text that is not too long to be kept.
pub(super) fn text(value: &[u8]) -> Option<Box<[u8]>> {
    (value.len() <= TEXT_BYTES_MAX).then(|| value.into())
}

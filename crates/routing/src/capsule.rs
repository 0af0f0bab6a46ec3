//! What capsules of all kinds tell in one form.

use sip::Aor;
use transport::Transport;

use crate::account::Unreadable;

/// The transports by their number; the numbers stay.
const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// The number that [`transport`] reads.
pub(crate) fn transport_number(transport: Transport) -> u32 {
    TRANSPORTS.iter().position(|known| *known == transport).map_or(u32::MAX, |number| number as u32)
}

/// A transport by its number.
pub(crate) fn transport(number: u32) -> Result<Transport, Unreadable> {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    TRANSPORTS.get(number).copied().ok_or(Unreadable::UnknownTransport)
}

/// Only the text that this node would write itself: another one would be another address of record.
pub(crate) fn aor(bytes: &[u8], bytes_max: usize) -> Result<Aor, Unreadable> {
    let text = str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)?;
    let aor = Aor::parse(text).filter(|aor| aor.as_str() == text && text.len() <= bytes_max);
    aor.ok_or(Unreadable::Malformed)
}

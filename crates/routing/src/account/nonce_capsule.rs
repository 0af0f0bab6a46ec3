//! The counts that were used with a nonce, as they go to the other node. The nonce is the capsule's key.

use std::time::Duration;

use bytes::Bytes;
use clock::Now;
use prost::Message;

use super::{AOR_BYTES_MAX, StoredNonce, Unreadable};
use crate::capsule;

/// The version of the encoding.
pub const FORMAT: u32 = 1;

/// A time so long is a mistake: no nonce is good for longer, and it must not overflow a clock.
const LEFT_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

#[derive(Clone, PartialEq, Message)]
struct Capsule {
    #[prost(bytes = "bytes", tag = "1")]
    account: Bytes,
    #[prost(uint32, tag = "2")]
    highest: u32,
    #[prost(fixed64, tag = "3")]
    used: u64,
}

impl StoredNonce {
    /// Its bytes for the other node.
    pub fn to_capsule(&self) -> Bytes {
        let account = Bytes::copy_from_slice(self.account.as_str().as_bytes());
        Capsule { account, highest: self.highest, used: self.used }.encode_to_vec().into()
    }

    /// Reads what [`StoredNonce::to_capsule`] wrote on the other node, under this key; `left` is how long it still lasts.
    pub fn from_capsule(now: Now, left: Duration, key: &[u8], bytes: Bytes) -> Result<Self, Unreadable> {
        let Capsule { account, highest, used } = Capsule::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        let nonce = <[u8; 16]>::try_from(key).map_err(|_| Unreadable::Malformed)?;
        let account = capsule::aor(&account, AOR_BYTES_MAX)?;
        Ok(Self { account, nonce, highest, used, expires_at: now.wall + left.min(LEFT_MAX) })
    }
}

#[cfg(test)]
mod tests {
    use clock::{Instant, WallTime};
    use proptest::prelude::*;
    use sip::Aor;

    use super::*;

    #[test]
    fn counts_come_back_with_the_time_left() {
        let there = Now::new(NOW.instant, NOW.wall + Duration::from_secs(3_000));

        let back = StoredNonce::from_capsule(there, LEFT, &[7; 16], stored().to_capsule());

        assert_eq!(back, Ok(StoredNonce { expires_at: there.wall + LEFT, ..stored() }));
    }

    #[test]
    fn what_is_no_nonce_is_refused() {
        let account = |text: &'static str| {
            Capsule { account: Bytes::from_static(text.as_bytes()), highest: 1, used: 1 }.encode_to_vec()
        };
        for (key, bytes) in [
            (&[7; 15][..], stored().to_capsule()),
            (&[7; 16][..], account("no address").into()),
            (&[7; 16][..], account("Bob@EXAMPLE.org").into()),
            (&[7; 16][..], Bytes::from_static(b"\xff")),
        ] {
            assert_eq!(StoredNonce::from_capsule(NOW, LEFT, key, bytes), Err(Unreadable::Malformed));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = StoredNonce::from_capsule(NOW, Duration::MAX, &[0; 16], bytes.into());
        }
    }

    const NOW: Now = Now::new(Instant::from_nanos(5_000_000_000), WallTime::from_millis(1_700_000_000_000));
    const LEFT: Duration = Duration::from_secs(300);

    fn stored() -> StoredNonce {
        StoredNonce {
            account: Aor::parse("bob@example.org").unwrap(),
            nonce: [7; 16],
            highest: 9,
            used: 0b1011,
            expires_at: NOW.wall,
        }
    }
}

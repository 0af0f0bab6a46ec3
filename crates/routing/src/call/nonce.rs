//! Digest nonces without state: the time, a salt, a hash of whom it was sent to, and a MAC that says that this server
//! made them.
//!
//! A nonce is bound to its realm and to no address, so it outlives a change of network, a restart and
//! a takeover. But it tells whether it was sent to the network that it comes from: then its sender is no forger. How
//! often it was used is known where the account is.

use std::time::Duration;

use clock::WallTime;
use keys::Key;
use transport::Flow;

use crate::bans::{Evidence, SourceNetwork};

const PLAIN_BYTES: usize = 8 + 4 + 4;
const MAC_BYTES: usize = 12;

/// How far two nodes' calendars may differ.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// The verdict over a nonce that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This server made it, and it is good for so long.
    Good(Duration, Evidence),
    /// This server made it, too long ago or in a future that is further than the clocks' skew.
    Stale,
    /// Somebody else made it.
    Foreign,
}

/// Appends a nonce for `realm` that is sent to `flow`. `salt` is different each time.
pub(super) fn write(key: &Key, realm: &[u8], flow: &Flow, now: WallTime, salt: u32, out: &mut Vec<u8>) {
    let mut bytes = [0; PLAIN_BYTES + MAC_BYTES];
    bytes[..8].copy_from_slice(&now.as_millis().to_be_bytes());
    bytes[8..12].copy_from_slice(&salt.to_be_bytes());
    bytes[12..16].copy_from_slice(&addressee(key, flow));
    let mac = mac(key, realm, &bytes[..PLAIN_BYTES]);
    bytes[PLAIN_BYTES..].copy_from_slice(&mac.as_bytes()[..MAC_BYTES]);
    keys::base32(&bytes, out);
}

/// Judges a nonce that came by `flow` for `realm`.
pub(super) fn judge(
    key: &Key,
    realm: &[u8],
    flow: &Flow,
    now: WallTime,
    lifetime: Duration,
    nonce: &[u8],
) -> Verdict {
    let mut bytes = Vec::with_capacity(PLAIN_BYTES + MAC_BYTES);
    // The length first: what a stranger sends may be long.
    if nonce.len() > 2 * (PLAIN_BYTES + MAC_BYTES) || !keys::base32_decode(nonce, &mut bytes) {
        return Verdict::Foreign;
    }
    let Some((plain, seal)) = bytes.split_first_chunk::<PLAIN_BYTES>() else { return Verdict::Foreign };
    if seal.len() != MAC_BYTES || !mac(key, realm, plain).verifies(seal) {
        return Verdict::Foreign;
    }
    let Some((millis, rest)) = plain.split_first_chunk() else { return Verdict::Foreign };
    let made = WallTime::from_millis(u64::from_be_bytes(*millis));
    let age = now.since(made);
    if made.since(now) > SKEW_MAX || age > lifetime {
        return Verdict::Stale;
    }
    let is_addressee = rest.ends_with(&addressee(key, flow));
    let evidence = if is_addressee { Evidence::Shown } else { Evidence::of(flow) };
    Verdict::Good(lifetime.saturating_sub(age), evidence)
}

/// What stands for the network that a nonce is sent to.
fn addressee(key: &Key, flow: &Flow) -> [u8; 4] {
    let network = SourceNetwork::of(flow.remote().0.ip());
    let [a, b, c, d, ..] = *key.mac(&[b"addressee", &network.to_bytes()]).as_bytes();
    [a, b, c, d]
}

fn mac(key: &Key, realm: &[u8], plain: &[u8]) -> keys::Mac {
    key.mac(&[b"nonce", &realm.to_ascii_lowercase(), plain])
}

#[cfg(test)]
mod tests {
    use transport::{ConnectionId, ListenerId, RemoteAddr};

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(300);

    #[test]
    fn a_nonce_is_good_for_its_lifetime_and_stale_after_it() {
        let (key, nonce) = made_at(1_000_000);

        assert_eq!(
            judged(&key, b"example.org", at(1_000_000), &nonce),
            Verdict::Good(LIFETIME, Evidence::Shown)
        );
        assert_eq!(
            judged(&key, b"example.org", at(1_299_999), &nonce),
            Verdict::Good(Duration::from_millis(1), Evidence::Shown)
        );
        assert_eq!(judged(&key, b"example.org", at(1_300_001), &nonce), Verdict::Stale);
    }

    #[test]
    fn a_nonce_of_a_node_whose_clock_is_ahead_is_good_within_the_skew() {
        let (key, nonce) = made_at(1_030_000);

        assert_eq!(
            judged(&key, b"example.org", at(1_000_000), &nonce),
            Verdict::Good(LIFETIME, Evidence::Shown)
        );
        assert_eq!(judged(&key, b"example.org", at(999_999), &nonce), Verdict::Stale);
    }

    #[test]
    fn a_nonce_of_another_realm_another_key_or_another_text_is_foreign() {
        let (key, nonce) = made_at(1_000_000);
        let other = keys::RootKey::new([2; 32]).subkey("nonce", 0);
        let mut longer = nonce.clone();
        longer.extend_from_slice(b"AAAA");
        let mut changed = nonce.clone();
        changed[3] ^= 1;

        for (key, realm, nonce) in [
            (&key, &b"example.com"[..], &nonce),
            (&other, b"example.org", &nonce),
            (&key, b"example.org", &longer),
            (&key, b"example.org", &changed),
            (&key, b"example.org", &Vec::new()),
        ] {
            assert_eq!(judged(key, realm, at(1_000_000), nonce), Verdict::Foreign);
        }
    }

    #[test]
    fn a_realm_is_the_same_in_either_case() {
        let (key, nonce) = made_at(1_000_000);

        assert_ne!(judged(&key, b"EXAMPLE.org", at(1_000_000), &nonce), Verdict::Foreign);
    }

    #[test]
    fn a_nonce_is_good_everywhere_but_shows_only_where_it_was_sent_to_who_sends() {
        let (key, nonce) = made_at(1_000_000);
        let evidence = |flow| judge(&key, b"example.org", &flow, at(1_000_000), LIFETIME, &nonce);

        for (flow, expected) in [
            (datagram("192.0.2.7:999"), Evidence::Shown),
            (datagram("[::ffff:192.0.2.7]:5060"), Evidence::Shown),
            (datagram("192.0.2.8:5060"), Evidence::Claimed),
            (datagram("[2001:db8::7]:5060"), Evidence::Claimed),
            (connection("192.0.2.8:5060"), Evidence::Shown),
        ] {
            assert_eq!(evidence(flow), Verdict::Good(LIFETIME, expected), "{flow:?}");
        }
    }

    fn judged(key: &Key, realm: &[u8], now: WallTime, nonce: &[u8]) -> Verdict {
        judge(key, realm, &datagram("192.0.2.7:5060"), now, LIFETIME, nonce)
    }

    fn datagram(remote: &str) -> Flow {
        Flow::Datagram { listener: ListenerId(0), remote: RemoteAddr(remote.parse().unwrap()) }
    }

    fn connection(remote: &str) -> Flow {
        let id = ConnectionId { node: 0, boot: 1, listener: ListenerId(0), number: 1 };
        Flow::Connection { id, remote: RemoteAddr(remote.parse().unwrap()) }
    }

    fn at(millis: u64) -> WallTime {
        WallTime::from_millis(millis)
    }

    fn made_at(millis: u64) -> (Key, Vec<u8>) {
        let key = keys::RootKey::new([1; 32]).subkey("nonce", 0);
        let mut nonce = Vec::new();
        write(&key, b"example.org", &datagram("192.0.2.7:5060"), at(millis), 7, &mut nonce);
        (key, nonce)
    }
}

//! The root key, its subkeys and their MACs.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use siphasher::sip128::SipHasher24;
use smallvec::SmallVec;
use subtle::ConstantTimeEq;

/// The secret of a node or cluster: 32 random bytes.
#[derive(Clone)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// Takes the bytes that were read from the key's file.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key for one purpose. `label` names the purpose and `number` its generation.
    pub fn subkey(&self, label: &str, number: u32) -> Key {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        hmac.update(label.as_bytes());
        hmac.update(&[0]);
        hmac.update(&number.to_be_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hmac.finalize().into_bytes()[..16]);
        Key(key)
    }

    /// A root key for one part of a cluster's software, which tells nothing of this one.
    pub fn derived(&self, label: &str) -> Self {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        hmac.update(label.as_bytes());
        // A subkey has a zero here.
        hmac.update(&[1]);
        Self(hmac.finalize().into_bytes().into())
    }

    /// The secret itself, for handing it to another process of this node.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 32 secret bytes for one purpose, for keys that are made elsewhere.
    pub fn seed(&self, label: &str) -> [u8; 32] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        hmac.update(b"seed");
        hmac.update(&[0]);
        hmac.update(label.as_bytes());
        hmac.finalize().into_bytes().into()
    }
}

/// Prints nothing of the secret.
impl fmt::Debug for RootKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RootKey(..)")
    }
}

/// A key for one purpose.
#[derive(Clone, Copy)]
pub struct Key([u8; 16]);

impl Key {
    /// The MAC over `parts`, each with its length, so that no two lists of parts give the same bytes.
    pub fn mac(&self, parts: &[&[u8]]) -> Mac {
        // One piece is hashed in half the time that many small ones take.
        let mut bytes: SmallVec<[u8; PARTS_INLINE]> = SmallVec::new();
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        Mac(SipHasher24::new_with_key(&self.0).hash(&bytes).as_bytes())
    }
}

/// Bytes that are put together without an allocation: what a message's MACs are made over is shorter.
const PARTS_INLINE: usize = 512;

/// Prints nothing of the secret.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// A message authentication code of 128 bits, or a keyed hash that a stranger can not foresee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 16]);

impl Mac {
    /// All 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first 8 bytes, for hashes and short MACs.
    pub fn short(&self) -> u64 {
        u64::from_be_bytes(self.0[..8].try_into().expect("8 of 16 bytes"))
    }

    /// The whole MAC as a number, for use as a table's key.
    pub fn as_u128(&self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// Whether `bytes` is this MAC or its beginning (at least 8 bytes), in constant time.
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        (8..=16).contains(&bytes.len()) && self.0[..bytes.len()].ct_eq(bytes).into()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use siphasher::sip128::Hasher128;

    use super::*;

    #[test]
    fn two_purposes_and_two_generations_never_share_a_key() {
        let root = RootKey::new([7; 32]);
        let mac = |label, number| root.subkey(label, number).mac(&[b"x"]);

        assert_ne!(mac("nonce", 0), mac("branch", 0));
        assert_ne!(mac("nonce", 0), mac("nonce", 1));
        assert_eq!(mac("nonce", 1), mac("nonce", 1));
    }

    #[test]
    fn a_derived_root_key_is_another_for_each_label_and_the_same_on_each_node() {
        let root = RootKey::new([7; 32]);
        let bytes = |label| *root.derived(label).as_bytes();

        assert_eq!(bytes("engine"), *RootKey::new([7; 32]).derived("engine").as_bytes());
        assert_ne!(bytes("engine"), bytes("link"));
        assert_ne!(bytes("engine"), *root.as_bytes());
        assert_ne!(bytes("engine"), *RootKey::new([8; 32]).derived("engine").as_bytes());
    }

    #[test]
    fn two_purposes_never_share_a_seed_and_a_seed_is_no_subkey() {
        let root = RootKey::new([7; 32]);

        assert_ne!(root.seed("one"), root.seed("other"));
        assert_eq!(root.seed("one"), RootKey::new([7; 32]).seed("one"));
        assert_ne!(root.seed("one"), RootKey::new([8; 32]).seed("one"));
        assert_ne!(root.seed("one")[..16], root.subkey("one", 0).0);
    }

    #[test]
    fn parts_can_not_be_shifted_into_each_other() {
        let key = RootKey::new([7; 32]).subkey("test", 0);

        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(key.mac(&[b"ab"]), key.mac(&[b"ab", b""]));
    }

    #[test]
    fn parts_of_any_length_have_one_mac() {
        let key = RootKey::new([7; 32]).subkey("test", 0);
        let long = [7; 4 * PARTS_INLINE];
        let streamed = |parts: &[&[u8]]| {
            let mut hasher = SipHasher24::new_with_key(&key.0);
            for part in parts {
                hasher.write(&(part.len() as u64).to_le_bytes());
                hasher.write(part);
            }
            Mac(hasher.finish128().as_bytes())
        };

        for parts in [&[&b"ab"[..], b"", b"c"][..], &[&long, b"x"], &[]] {
            assert_eq!(key.mac(parts), streamed(parts));
        }
    }

    #[test]
    fn a_mac_shorter_than_eight_bytes_proves_nothing() {
        let mac = RootKey::new([7; 32]).subkey("test", 0).mac(&[b"x"]);

        assert!(mac.verifies(&mac.as_bytes()[..8]));
        assert!(!mac.verifies(&mac.as_bytes()[..7]));
        assert!(!mac.verifies(b""));
        assert!(!mac.verifies(&[0; 16]));
    }

    #[test]
    fn secrets_do_not_print() {
        let root = RootKey::new([7; 32]);

        assert_eq!(format!("{root:?} {:?}", root.subkey("test", 0)), "RootKey(..) Key(..)");
    }
}

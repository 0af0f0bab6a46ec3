//! Keyed hashes: of a key, of an entry's content, and what both ends must have in common to compare them.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::capsule::{Capsule, Kind};

/// The buckets of one kind. A single wrong entry among a million costs the list of a thousand.
pub const BUCKETS: usize = 1_024;

const BUCKET_SHIFT: u32 = u64::BITS - BUCKETS.ilog2();

/// The secret of all hashes, derived from the cluster's key: who registers can not make two entries meet.
#[derive(Clone, Copy)]
pub struct DigestKey([u8; 16]);

/// Prints nothing of the secret.
impl std::fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DigestKey(..)")
    }
}

impl DigestKey {
    /// Takes the bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Stands for the key and the way of hashing: two ends that differ in it can not compare anything.
    pub(crate) fn parameters(&self) -> u64 {
        let mut hasher = self.hasher(0);
        hasher.write_u64(BUCKETS as u64);
        hasher.finish()
    }

    /// What an entry is called.
    pub(crate) fn name(&self, kind: Kind, key: &[u8]) -> u64 {
        let mut hasher = self.hasher(1);
        hasher.write_u8(kind.0);
        hasher.write(key);
        hasher.finish()
    }

    /// What an entry says, at one version. The time left is not in it: it passes.
    pub(crate) fn stamp(&self, epoch: u64, version: u64, capsule: &Capsule) -> u64 {
        let mut hasher = self.hasher(2);
        hasher.write_u64(epoch);
        hasher.write_u64(version);
        hasher.write_u8(capsule.kind.0);
        hasher.write_u32(capsule.format);
        hasher.write_u64(capsule.key.len() as u64);
        hasher.write(&capsule.key);
        hasher.write(&capsule.bytes);
        hasher.finish()
    }

    /// Stands for an entry of which only this node knows what it says.
    pub(crate) fn own_stamp(&self, node: u8, incarnation: u64, name: u64) -> u64 {
        let mut hasher = self.hasher(3);
        hasher.write_u8(node);
        hasher.write_u64(incarnation);
        hasher.write_u64(name);
        hasher.finish()
    }

    fn hasher(&self, purpose: u8) -> SipHasher24 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write_u8(purpose);
        hasher
    }
}

/// The bucket of a hash.
pub(crate) fn bucket_of(hash: u64) -> usize {
    (hash >> BUCKET_SHIFT) as usize
}

/// The first and the last hash of a bucket.
pub(crate) fn span_of(bucket: usize) -> (u64, u64) {
    let first = (bucket as u64) << BUCKET_SHIFT;
    (first, first | ((1 << BUCKET_SHIFT) - 1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_spans_of_all_buckets_are_all_hashes() {
        let mut next = 0u64;
        for bucket in 0..BUCKETS {
            let (first, last) = span_of(bucket);
            assert_eq!((first, bucket_of(first), bucket_of(last)), (next, bucket, bucket));
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0);
    }

    #[test]
    fn a_stamp_tells_every_part_but_the_time_left() {
        let key = DigestKey::new([7; 16]);
        let capsule = Capsule {
            kind: Kind(1),
            format: 1,
            key: Bytes::from_static(b"ab"),
            bytes: Bytes::from_static(b"c"),
            left: Duration::from_secs(1),
        };
        let stamp = |capsule: &Capsule| key.stamp(1, 1, capsule);
        let is_other = |change: fn(&mut Capsule)| {
            let mut other = capsule.clone();
            change(&mut other);
            stamp(&other) != stamp(&capsule)
        };

        assert!(is_other(|it| it.kind = Kind(2)));
        assert!(is_other(|it| it.format = 2));
        assert!(is_other(|it| (it.key, it.bytes) = (Bytes::from_static(b"a"), Bytes::from_static(b"bc"))));
        assert!(!is_other(|it| it.left = Duration::ZERO));
        assert_ne!(key.stamp(1, 2, &capsule), stamp(&capsule));
        assert_ne!(key.stamp(2, 1, &capsule), stamp(&capsule));
        assert_ne!(DigestKey::new([8; 16]).stamp(1, 1, &capsule), stamp(&capsule));
    }
}

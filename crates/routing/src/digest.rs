//! The arithmetic of digest (RFC 7616 §3.4, RFC 8760), for the side that checks and the side that proves.

use md5::Md5;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512_256};

use crate::Algorithm;

/// The longest digest in hex.
pub(crate) const HEX_BYTES_MAX: usize = 64;

/// A digest as lower-case hex.
#[derive(Clone, Copy)]
pub(crate) struct Hex {
    bytes: [u8; HEX_BYTES_MAX],
    length: usize,
}

impl Hex {
    /// So many zeros as the algorithm gives: the hash of nobody.
    pub(crate) fn zeros<D: Digest>() -> Self {
        Self { bytes: [b'0'; HEX_BYTES_MAX], length: 2 * <D as Digest>::output_size() }
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Hashes the parts with colons between them.
pub(crate) fn hash<D: Digest>(parts: &[&[u8]]) -> Hex {
    let mut digest = D::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    let mut hex = Hex { bytes: [0; HEX_BYTES_MAX], length: 0 };
    for byte in digest.finalize() {
        for half in [byte >> 4, byte & 15] {
            hex.bytes[hex.length] = b"0123456789abcdef"[usize::from(half)];
            hex.length += 1;
        }
    }
    hex
}

impl Algorithm {
    /// The name that it has in SIP (RFC 8760 §2.1).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// As [`hash`], by this algorithm.
    pub(crate) fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => hash::<Md5>(parts),
            Self::Sha256 => hash::<Sha256>(parts),
            Self::Sha512_256 => hash::<Sha512_256>(parts),
        }
    }
}

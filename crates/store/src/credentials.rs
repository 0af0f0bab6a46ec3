//! What is kept of a password: its hash by each digest algorithm.

use md5::Md5;
use routing::Algorithm;
use sha2::{Digest, Sha256, Sha512_256};
use sip::Aor;

/// The three HA1 (RFC 7616 §3.4.2) of one password in one realm, in lower-case hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The realm that is in the hashes.
    pub realm: String,
    /// By MD5.
    pub md5: String,
    /// By SHA-256.
    pub sha256: String,
    /// By SHA-512/256.
    pub sha512_256: String,
}

impl Credentials {
    /// Hashes a password. The digest username is the user part of the address of record.
    pub fn of(aor: &Aor, realm: &str, password: &str) -> Self {
        Self {
            realm: realm.to_owned(),
            md5: ha1::<Md5>(aor, realm, password),
            sha256: ha1::<Sha256>(aor, realm, password),
            sha512_256: ha1::<Sha512_256>(aor, realm, password),
        }
    }

    /// Takes hashes that were made elsewhere; `None` if they are not hex of the right length.
    pub fn from_hashes(realm: String, md5: String, sha256: String, sha512_256: String) -> Option<Self> {
        let credentials = Self { realm, md5, sha256, sha512_256 };
        let is_right = |(algorithm, hash): &(Algorithm, &str)| is_ha1(*algorithm, hash);
        credentials.all().iter().all(is_right).then_some(credentials)
    }

    /// Each hash with its algorithm.
    pub fn all(&self) -> [(Algorithm, &str); 3] {
        [
            (Algorithm::Md5, &self.md5),
            (Algorithm::Sha256, &self.sha256),
            (Algorithm::Sha512_256, &self.sha512_256),
        ]
    }
}

/// Prints nothing that would let somebody log in.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Credentials {{ realm: {:?}, .. }}", self.realm)
    }
}

/// Whether a text is a hash of this algorithm, in lower-case hex.
pub fn is_ha1(algorithm: Algorithm, text: &str) -> bool {
    let length = match algorithm {
        Algorithm::Md5 => 32,
        Algorithm::Sha256 | Algorithm::Sha512_256 => 64,
    };
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

// RFC 7616 §3.4.2: A1 is username:realm:password.
fn ha1<D: Digest>(aor: &Aor, realm: &str, password: &str) -> String {
    let mut digest = D::new();
    for part in [aor.user(), ":", realm, ":", password] {
        digest.update(part.as_bytes());
    }
    let mut text = Vec::new();
    keys::hex(&digest.finalize(), &mut text);
    String::from_utf8(text).expect("hex is ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_those_of_the_standard_example() {
        // RFC 7616 §3.9.1: the user and the password of the example.
        let mufasa = Aor::parse("Mufasa@http-auth.example.org").expect("an address of record");

        let credentials = Credentials::of(&mufasa, "http-auth@example.org", "Circle of Life");

        assert_eq!(credentials.md5, "3d78807defe7de2157e2b0b6573a855f");
        assert_eq!(credentials.sha256, "7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232");
        assert_eq!(credentials.all()[2].1.len(), 64);
    }

    #[test]
    fn text_that_is_no_hash_is_refused() {
        let good = ("a".repeat(32), "b".repeat(64), "c".repeat(64));
        let made = |md5: &str, sha256: &str, sha512_256: &str| {
            Credentials::from_hashes("r".into(), md5.into(), sha256.into(), sha512_256.into())
        };

        assert!(made(&good.0, &good.1, &good.2).is_some());
        assert!(made("", &good.1, &good.2).is_none());
        assert!(made(&good.0, &good.0, &good.2).is_none());
        assert!(made(&good.0, &good.1, &"C".repeat(64)).is_none());
        assert!(made(&good.0, &good.1, &"ß".repeat(32)).is_none());
    }

    #[test]
    fn hashes_do_not_print() {
        let credentials = Credentials::of(&Aor::parse("a@b").expect("an address of record"), "b", "secret");

        assert_eq!(format!("{credentials:?}"), "Credentials { realm: \"b\", .. }");
    }
}

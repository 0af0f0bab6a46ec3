//! A phone's digest, written anew, so that the server's own code is not its judge.

use md5::{Digest as _, Md5};
use routing::Algorithm;
use sha2::Sha256;
use sip::{Credentials, Message, Name};

/// What a phone knows of a realm.
#[derive(Clone, Debug)]
pub(super) struct Nonce {
    realm: String,
    nonce: String,
    algorithm: Algorithm,
    count: u32,
}

/// What credentials are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Right, with the next count.
    Right,
    /// Right, with the count of the one before.
    Repeated,
    /// Of another password.
    Wrong,
    /// Right, in the form without `qop`.
    Old,
    /// Right, with a count far ahead.
    Ahead,
}

impl Nonce {
    /// All challenges of a response.
    pub(super) fn all(response: &Message<'_>) -> Vec<Self> {
        let lines = [Name::WwwAuthenticate, Name::ProxyAuthenticate].map(|name| response.lines(name));
        lines.into_iter().flatten().filter_map(Self::of).collect()
    }

    fn of(line: &[u8]) -> Option<Self> {
        let challenge = Credentials::parse(line).ok()?;
        let text =
            |value: Option<sip::AuthValue<'_>>| Some(String::from_utf8_lossy(value?.as_bytes()).into_owned());
        let algorithm = match text(challenge.algorithm).as_deref() {
            None | Some("MD5") => Algorithm::Md5,
            Some("SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        Some(Self { realm: text(challenge.realm)?, nonce: text(challenge.nonce)?, algorithm, count: 0 })
    }

    /// The value of a line with credentials.
    pub(super) fn credentials(&mut self, kind: Kind, user: &str, method: &str, uri: &str) -> String {
        self.count = match kind {
            Kind::Repeated => self.count.max(1),
            Kind::Ahead => self.count.wrapping_add(200),
            Kind::Right | Kind::Wrong | Kind::Old => self.count.wrapping_add(1),
        };
        let Self { realm, nonce, algorithm, count } = self;
        let ha1 = match kind {
            Kind::Wrong => hash(*algorithm, &format!("{user}:{realm}:guessed")),
            _ => ha1(*algorithm, user, realm),
        };
        let ha2 = hash(*algorithm, &format!("{method}:{uri}"));
        let name = match algorithm {
            Algorithm::Md5 => "MD5",
            _ => "SHA-256",
        };
        let head = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={name}"
        );
        if kind == Kind::Old {
            return format!("{head}, response=\"{}\"", hash(*algorithm, &format!("{ha1}:{nonce}:{ha2}")));
        }
        let response = hash(*algorithm, &format!("{ha1}:{nonce}:{count:08x}:cn:auth:{ha2}"));
        format!("{head}, response=\"{response}\", qop=auth, nc={count:08x}, cnonce=\"cn\"")
    }
}

/// HA1 of a user, whose password is the name twice.
pub(super) fn ha1(algorithm: Algorithm, user: &str, realm: &str) -> String {
    hash(algorithm, &format!("{user}:{realm}:{user}{user}"))
}

fn hash(algorithm: Algorithm, text: &str) -> String {
    let mut hex = Vec::new();
    match algorithm {
        Algorithm::Md5 => keys::hex(&Md5::digest(text), &mut hex),
        _ => keys::hex(&Sha256::digest(text), &mut hex),
    }
    String::from_utf8_lossy(&hex).into_owned()
}

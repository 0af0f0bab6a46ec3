//! A phone's digest credentials: written anew here, so that the server's own code is not its judge.

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use sha2::Sha256;
use sip::Message;

/// The two algorithms that phones know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// The hash in lower-case hex.
    pub(crate) fn hash(self, text: &str) -> String {
        let mut hex = Vec::new();
        match self {
            Self::Md5 => keys::hex(&Md5::digest(text), &mut hex),
            Self::Sha256 => keys::hex(&Sha256::digest(text), &mut hex),
        }
        String::from_utf8_lossy(&hex).into_owned()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }
}

/// Whether a challenge or credentials are for the server itself or for a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// 401.
    Server,
    /// 407.
    Proxy,
}

impl Asker {
    fn credentials_name(self) -> &'static str {
        match self {
            Self::Server => "Authorization",
            Self::Proxy => "Proxy-Authorization",
        }
    }

    fn challenge_name(self) -> &'static [u8] {
        match self {
            Self::Server => b"WWW-Authenticate",
            Self::Proxy => b"Proxy-Authenticate",
        }
    }
}

/// The parts of one challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    parts: BTreeMap<String, String>,
}

impl Challenge {
    /// All challenges of a 401 or 407.
    pub(crate) fn of(asker: Asker, response: &Message<'_>) -> Vec<Self> {
        response
            .headers()
            .filter(|header| header.raw_name.eq_ignore_ascii_case(asker.challenge_name()))
            .filter_map(|header| Self::parse(&String::from_utf8_lossy(header.value)))
            .collect()
    }

    /// The parts of a challenge, or of credentials.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut parts = BTreeMap::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',', '\t', '\r', '\n']).to_ascii_lowercase();
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            parts.insert(name, value.trim().to_owned());
            rest = after;
        }
        Some(Self { parts })
    }

    /// A part's value.
    pub(crate) fn part(&self, name: &str) -> Option<&str> {
        self.parts.get(name).map(String::as_str)
    }

    /// Whether only the nonce was too old.
    pub(crate) fn is_stale(&self) -> bool {
        self.part("stale").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn algorithm(&self) -> Option<Algorithm> {
        match self.part("algorithm") {
            None => Some(Algorithm::Md5),
            Some(name) => [Algorithm::Md5, Algorithm::Sha256]
                .into_iter()
                .find(|one| name.eq_ignore_ascii_case(one.name())),
        }
    }
}

/// What a phone knows of a realm: the nonce it may use again, and how often it did.
#[derive(Clone, Debug)]
pub(crate) struct Realm {
    challenge: Challenge,
    algorithm: Algorithm,
    count: u32,
}

impl Realm {
    /// Takes the challenge whose algorithm the phone likes best; `None`: it knows none of them.
    pub(crate) fn choose(challenges: Vec<Challenge>, liked: &[Algorithm]) -> Option<Self> {
        liked.iter().find_map(|&algorithm| {
            let challenge = challenges.iter().find(|challenge| challenge.algorithm() == Some(algorithm))?;
            Some(Self { challenge: challenge.clone(), algorithm, count: 0 })
        })
    }

    /// The credentials for one request, as a whole header line.
    // RFC 7616 §3.4: the count goes up with each request of one nonce.
    pub(crate) fn credentials(
        &mut self,
        asker: Asker,
        user: &str,
        password: &str,
        method: &str,
        uri: &str,
    ) -> String {
        self.count += 1;
        let part = |name| self.challenge.part(name).unwrap_or_default();
        let (realm, nonce) = (part("realm"), part("nonce"));
        let hash = |text: String| self.algorithm.hash(&text);
        let ha1 = hash(format!("{user}:{realm}:{password}"));
        let ha2 = hash(format!("{method}:{uri}"));
        let mut line = format!(
            "{}: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={}",
            asker.credentials_name(),
            self.algorithm.name(),
        );
        if part("qop").split(',').any(|qop| qop.trim() == "auth") {
            let (count, cnonce) = (format!("{:08x}", self.count), format!("c{}", self.count));
            let response = hash(format!("{ha1}:{nonce}:{count}:{cnonce}:auth:{ha2}"));
            line += &format!(", response=\"{response}\", qop=auth, nc={count}, cnonce=\"{cnonce}\"");
        } else {
            line += &format!(", response=\"{}\"", hash(format!("{ha1}:{nonce}:{ha2}")));
        }
        if let Some(opaque) = self.challenge.part("opaque") {
            line += &format!(", opaque=\"{opaque}\"");
        }
        line + "\r\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1: the example with both algorithms, without the cnonce of its own this file makes.
    #[test]
    fn the_best_liked_algorithm_of_a_challenge_is_taken() {
        let challenges = || {
            ["SHA-256", "MD5"]
                .map(|name| {
                    Challenge::parse(&format!(
                        "Digest realm=\"r\", nonce=\"n,=\", algorithm={name}, qop=\"auth\""
                    ))
                })
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };

        for liked in [Algorithm::Md5, Algorithm::Sha256] {
            let realm = Realm::choose(challenges(), &[liked]).unwrap();
            assert_eq!(realm.algorithm, liked);
            assert_eq!(realm.challenge.part("nonce"), Some("n,="));
        }
        assert!(Realm::choose(challenges(), &[]).is_none());
    }

    /// RFC 2617 §3.5: the hash of the example without quality of protection, computed by hand.
    #[test]
    fn the_old_form_hashes_only_the_three_parts() {
        let challenge = Challenge::parse("Digest realm=\"a\", nonce=\"b\"").unwrap();
        let mut realm = Realm::choose(vec![challenge], &[Algorithm::Md5]).unwrap();

        let line = realm.credentials(Asker::Proxy, "u", "p", "INVITE", "sip:x");

        let ha1 = Algorithm::Md5.hash("u:a:p");
        let ha2 = Algorithm::Md5.hash("INVITE:sip:x");
        assert!(line.starts_with("Proxy-Authorization: Digest "));
        assert!(line.contains(&format!("response=\"{}\"", Algorithm::Md5.hash(&format!("{ha1}:b:{ha2}")))));
        assert!(!line.contains("nc="));
    }

    #[test]
    fn hashes_are_the_known_ones() {
        assert_eq!(Algorithm::Md5.hash(""), "d41d8cd98f00b204e9800998ecf8427e");
        assert!(Algorithm::Sha256.hash("").starts_with("e3b0c44298fc1c149afbf4c8996fb924"));
    }
}

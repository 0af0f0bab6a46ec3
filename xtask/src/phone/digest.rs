//! The client's side of digest, written apart from the server's so that one can show the other wrong.

use md5::{Digest, Md5};
use sha2::Sha256;

/// What a 401 or 407 asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The realm.
    pub realm: String,
    /// The nonce.
    pub nonce: String,
    /// `MD5` or `SHA-256`.
    pub algorithm: String,
    /// Whether `stale=true` came with it.
    pub is_stale: bool,
}

/// Who answers a challenge, and for which request.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The digest user name.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The method of the request.
    pub method: &'a str,
    /// The request URI.
    pub uri: &'a str,
    /// The nonce count.
    pub count: u32,
    /// The client's own nonce.
    pub cnonce: &'a str,
}

impl Challenge {
    /// Reads the value of WWW-Authenticate or Proxy-Authenticate.
    pub fn parse(value: &str) -> Option<Challenge> {
        let parameters = value.trim().strip_prefix("Digest ")?;
        let find = |name: &str| {
            parameters.split(',').find_map(|part| {
                let (n, v) = part.split_once('=')?;
                n.trim().eq_ignore_ascii_case(name).then(|| v.trim().trim_matches('"').to_owned())
            })
        };
        Some(Challenge {
            realm: find("realm")?,
            nonce: find("nonce")?,
            algorithm: find("algorithm").unwrap_or_else(|| "MD5".to_owned()),
            is_stale: find("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    /// The value of Authorization or Proxy-Authorization.
    pub fn answer(&self, answer: Answer<'_>) -> String {
        let Challenge { realm, nonce, algorithm, .. } = self;
        let Answer { user, password, method, uri, count, cnonce } = answer;
        let count = format!("{count:08x}");
        let secret = self.hash(&format!("{user}:{realm}:{password}"));
        let request = self.hash(&format!("{method}:{uri}"));
        let response = self.hash(&format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}"));
        format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}, cnonce=\"{cnonce}\", qop=auth, nc={count}"
        )
    }

    fn hash(&self, text: &str) -> String {
        if self.algorithm.eq_ignore_ascii_case("SHA-256") {
            hex(&Sha256::digest(text))
        } else {
            hex(&Md5::digest(text))
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2617 §3.5: the example.
    #[test]
    fn md5_gives_the_response_of_the_published_example() {
        let challenge = Challenge::parse(
            "Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
             nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"",
        )
        .expect("it is a challenge");

        let value = challenge.answer(Answer {
            user: "Mufasa",
            password: "Circle Of Life",
            method: "GET",
            uri: "/dir/index.html",
            count: 1,
            cnonce: "0a4f113b",
        });

        assert!(value.contains("response=\"6629fae49393a05397450978507c4ef1\""), "{value}");
    }

    #[test]
    fn another_scheme_is_no_challenge() {
        assert_eq!(Challenge::parse("Basic realm=\"x\""), None);
    }
}

//! How a phone proves itself: digest with SHA-256, which Tandem offers first (RFC 7616, RFC 8760).

use sha2::{Digest as _, Sha256};
use sip::{Message, Method, Name, ReceivedChallenge};

use super::message::{Speaker, text};

/// What a server has asked for last.
#[derive(Clone, Debug, Default)]
pub struct Login {
    challenge: Option<Challenge>,
}

#[derive(Clone, Debug)]
struct Challenge {
    /// Where the answer stands.
    name: Name,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    /// How often the nonce was used.
    count: u32,
}

impl Login {
    /// Takes the challenge of a 401 or 407. Gives whether there is one that can be answered.
    pub fn learn(&mut self, response: &Message<'_>) -> bool {
        let asked = [
            (Name::WwwAuthenticate, Name::Authorization),
            (Name::ProxyAuthenticate, Name::ProxyAuthorization),
        ];
        self.challenge = asked.into_iter().find_map(|(asked, name)| {
            let challenges = response.lines(asked).filter_map(|line| ReceivedChallenge::parse(line).ok());
            let ours = challenges.filter(ReceivedChallenge::is_digest).find(|challenge| {
                challenge.algorithm.is_some_and(|algorithm| algorithm.is_ignoring_case(b"SHA-256"))
            })?;
            Some(Challenge {
                name,
                realm: text(ours.realm.map(|realm| realm.as_bytes())),
                nonce: text(ours.nonce.map(|nonce| nonce.as_bytes())),
                opaque: ours.opaque.map(|opaque| text(Some(opaque.as_bytes()))),
                count: 0,
            })
        });
        self.challenge.is_some()
    }

    /// The line that proves a request; nothing before something was asked for.
    pub fn prove(&mut self, speaker: &Speaker, method: Method<'_>, uri: &str) -> Option<(Name, String)> {
        let challenge = self.challenge.as_mut()?;
        challenge.count += 1;
        let Challenge { name, realm, nonce, opaque, count } = challenge;
        let (user, password) = (&speaker.user, &speaker.password);
        let method = String::from_utf8_lossy(method.as_bytes()).into_owned();
        let secret = hash(&format!("{user}:{realm}:{password}"));
        let request = hash(&format!("{method}:{uri}"));
        let cnonce = "0a4f113b";
        // RFC 7616 §3.4.1: the form with qop.
        let proof = hash(&format!("{secret}:{nonce}:{count:08x}:{cnonce}:auth:{request}"));
        let opaque = opaque.as_ref().map_or_else(String::new, |opaque| format!(", opaque=\"{opaque}\""));
        let line = format!(
            "Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{proof}\", \
             algorithm=SHA-256, qop=auth, nc={count:08x}, cnonce=\"{cnonce}\"{opaque}"
        );
        Some((*name, line))
    }
}

fn hash(text: &str) -> String {
    let mut digits = Vec::new();
    keys::hex(&Sha256::digest(text), &mut digits);
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1, with the cnonce that is used here.
    #[test]
    fn a_challenge_is_answered_as_the_standard_has_it() {
        let bytes = b"SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=MD5\r\n\
            WWW-Authenticate: Digest realm=\"http-auth@example.org\", qop=\"auth\", algorithm=SHA-256, \
            nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/q\"\r\n\r\n";
        let speaker =
            Speaker::new("Mufasa", "Circle of Life", "example.org", ([192, 0, 2, 1], 5060).into(), 1);
        let mut login = Login::default();
        assert!(login.prove(&speaker, Method::Options, "/dir").is_none());

        assert!(login.learn(&Message::parse(bytes).expect("it is SIP")));

        let first = login.prove(&speaker, Method::Options, "/dir").expect("it was asked");
        let (name, second) = login.prove(&speaker, Method::Options, "/dir").expect("it was asked");
        assert_eq!(name, Name::Authorization);
        assert!(first.1.contains("nc=00000001") && second.contains("nc=00000002"), "{second}");
        assert!(second.contains("realm=\"http-auth@example.org\"") && second.ends_with("opaque=\"FQhe/q\""));
        assert_eq!(hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn what_can_not_be_answered_is_not() {
        let bytes = b"SIP/2.0 401 No\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n\r\n";

        assert!(!Login::default().learn(&Message::parse(bytes).expect("it is SIP")));
    }
}

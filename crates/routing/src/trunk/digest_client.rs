//! Digest, the side that proves (RFC 7616 §3.4, RFC 8760): answers the challenges of a carrier.
//!
//! A [`DigestClient`] keeps for each realm the last challenge with the count of its nonce, so that later requests
//! bring their credentials along and are not challenged at all. What one request has proved already is kept by the
//! request in its [`Proofs`]: that is what ends the play with a carrier that is content with nothing.
//!
//! A cnonce is derived by the caller, not drawn. One is used as long as its nonce, as the `-sess` algorithms want.
//!
//! Invariant: a request never answers the same nonce of a realm twice, nor a nonce after another one of that realm
//! unless the carrier said that only the nonce was stale; and it answers [`ANSWERS_MAX`] times at most.

use bytes::Bytes;
use sip::{AuthValue, Message, Method, Name, ReceivedChallenge, write_quoted};

use super::login::Login;
use crate::Algorithm;
use crate::digest::Hex;

/// Realms of one carrier: its own, and those of what lies behind it.
const SESSIONS_MAX: usize = 4;
/// Responses with challenges that one request answers: a first one, a stale nonce, and one more realm on the way.
const ANSWERS_MAX: u8 = 3;
/// Challenges of one response that are looked at: two realms with each algorithm.
const CHALLENGES_MAX: usize = 8;
/// No realm, nonce or opaque value is longer: they come back in each request.
const VALUE_BYTES_MAX: usize = 512;

/// What a carrier asked for last, and how often it was proved.
#[derive(Debug, Default)]
pub(crate) struct DigestClient {
    /// The latest challenge last.
    sessions: Vec<Session>,
    /// The realm that was answered first; for a login that names none.
    pinned: Option<Bytes>,
}

/// What one request has proved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proofs {
    /// Responses that were answered.
    pub(crate) answers: u8,
    /// The last answer to each realm.
    pub(crate) proved: Vec<Proof>,
}

/// Why a challenge is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There is none of our realm, or none of a kind that is known.
    NotForUs,
    /// The right answer was given and not accepted: the name or the password is wrong.
    Refused,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The header field that it stood in.
    pub(crate) name: Name,
    /// Whose challenge it was.
    pub(crate) realm: Bytes,
    /// What was proved.
    pub(crate) nonce: Bytes,
    /// Why it was given.
    pub(crate) origin: Origin,
}

/// Why a request had credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It brought them along.
    Unasked,
    /// It was challenged.
    Asked,
}

/// One realm's challenge.
#[derive(Clone, Debug)]
struct Session {
    /// The header field that credentials stand in.
    name: Name,
    realm: Bytes,
    nonce: Bytes,
    opaque: Option<Bytes>,
    /// As the carrier wrote it; `None` if it wrote nothing.
    algorithm_text: Option<Bytes>,
    scheme: Scheme,
    protection: Protection,
    cnonce: Bytes,
    count: u32,
}

/// How hashes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scheme {
    algorithm: Algorithm,
    secret: Secret,
}

/// What HA1 is the hash of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secret {
    /// Username, realm and password.
    Plain,
    /// RFC 7616 §3.4.2 `-sess`: that hash with nonce and cnonce.
    OfSession,
}

/// `qop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    /// The old form.
    None,
    /// `auth`.
    Auth,
}

/// What a response is the hash of, besides the login.
#[derive(Clone, Copy, Debug)]
struct Asked<'a> {
    method: &'a [u8],
    uri: &'a [u8],
    realm: &'a [u8],
    nonce: &'a [u8],
    cnonce: &'a [u8],
    nc: &'a [u8],
}

impl DigestClient {
    /// Takes the challenges of a response. If it is `Ok`, then [`Self::authorize`] answers them; `cnonce` is one that
    /// was not used before.
    pub(crate) fn challenged(
        &mut self,
        login: &Login,
        proofs: &mut Proofs,
        response: &Message<'_>,
        cnonce: &[u8],
    ) -> Result<(), Unanswered> {
        let mut chosen: Vec<(Session, ReceivedChallenge<'_>)> = Vec::new();
        for (name, challenge) in challenges(response).take(CHALLENGES_MAX) {
            let Some(session) = Session::of(name, &challenge, cnonce) else { continue };
            if !self.is_ours(login, &session.realm) {
                continue;
            }
            // RFC 8760 §2.4: the topmost that is known, unless a local policy says else. Ours is: the strongest, so
            // that nobody on the way can choose a weaker one by changing the order. Of equals the topmost.
            match chosen.iter_mut().find(|(other, _)| other.is_for(session.name, &session.realm)) {
                Some(better) if better.0.scheme.algorithm >= session.scheme.algorithm => {}
                Some(worse) => *worse = (session, challenge),
                None => chosen.push((session, challenge)),
            }
        }
        if chosen.is_empty() {
            return Err(Unanswered::NotForUs);
        }
        let is_content = |(session, challenge): &(Session, ReceivedChallenge<'_>)| {
            proofs.allow(session, challenge.is_stale())
        };
        if proofs.answers >= ANSWERS_MAX || !chosen.iter().all(is_content) {
            for (session, _) in &chosen {
                self.sessions.retain(|other| !other.is_for(session.name, &session.realm));
            }
            return Err(Unanswered::Refused);
        }
        proofs.answers += 1;
        for (session, _) in chosen {
            self.pinned.get_or_insert_with(|| session.realm.clone());
            self.sessions.retain(|other| !other.is_for(session.name, &session.realm));
            if self.sessions.len() >= SESSIONS_MAX {
                self.sessions.remove(0);
            }
            self.sessions.push(session);
        }
        Ok(())
    }

    /// The credentials for a request: one line for each realm that is known.
    pub(crate) fn authorize(
        &mut self,
        login: &Login,
        proofs: &mut Proofs,
        method: Method<'_>,
        uri: &[u8],
    ) -> Vec<(Name, Vec<u8>)> {
        // A nonce whose count is used up is of no use.
        self.sessions.retain(|session| session.count < u32::MAX);
        let origin = if proofs.answers == 0 { Origin::Unasked } else { Origin::Asked };
        let mut lines = Vec::with_capacity(self.sessions.len());
        for session in &mut self.sessions {
            session.count += 1;
            lines.push((session.name, session.credentials(login, method, uri)));
            proofs.note(session, origin);
        }
        lines
    }

    /// The realm that is answered for a login that names none.
    pub(crate) fn pinned(&self) -> Option<&Bytes> {
        self.pinned.as_ref()
    }

    /// Answers this realm and no other, for a login that names none.
    pub(crate) fn pin(&mut self, realm: Bytes) {
        self.pinned.get_or_insert(realm);
    }

    fn is_ours(&self, login: &Login, realm: &[u8]) -> bool {
        match (&login.realm, &self.pinned) {
            (Some(wanted), _) => realm.eq_ignore_ascii_case(wanted.as_bytes()),
            // Who is called beyond the carrier could else ask for a hash of the password, and guess at it at leisure.
            (None, Some(pinned)) => realm == pinned,
            (None, None) => true,
        }
    }
}

impl Proofs {
    /// Whether a challenge may be answered.
    fn allow(&self, session: &Session, is_stale: bool) -> bool {
        let before = self.proved.iter().rev().find(|proof| session.is_for(proof.name, &proof.realm));
        match before {
            None => true,
            Some(proof) if proof.nonce == session.nonce => false,
            // RFC 7616 §3.3: without `stale` another nonce says that the answer to the first was wrong. What was
            // brought along unasked may have been too old in the eyes of a carrier that does not say so.
            Some(proof) => is_stale || proof.origin == Origin::Unasked,
        }
    }

    fn note(&mut self, session: &Session, origin: Origin) {
        self.proved.retain(|proof| !session.is_for(proof.name, &proof.realm));
        let Session { name, realm, nonce, .. } = session;
        self.proved.push(Proof { name: *name, realm: realm.clone(), nonce: nonce.clone(), origin });
    }
}

impl Session {
    /// What is to be done for a challenge; `None` for one of a kind that is not known.
    fn of(name: Name, challenge: &ReceivedChallenge<'_>, cnonce: &[u8]) -> Option<Self> {
        let kept = |value: AuthValue<'_>| {
            (value.as_bytes().len() <= VALUE_BYTES_MAX).then(|| Bytes::copy_from_slice(value.as_bytes()))
        };
        Some(Self {
            name,
            realm: kept(challenge.realm?)?,
            nonce: kept(challenge.nonce?)?,
            opaque: match challenge.opaque {
                Some(opaque) => Some(kept(opaque)?),
                None => None,
            },
            scheme: Scheme::of(challenge.algorithm)?,
            algorithm_text: challenge.algorithm.and_then(kept),
            protection: protection(challenge)?,
            cnonce: Bytes::copy_from_slice(cnonce),
            count: 0,
        })
    }

    fn is_for(&self, name: Name, realm: &[u8]) -> bool {
        self.name == name && self.realm == realm
    }

    // RFC 3261 §22.4, RFC 7616 §3.4: which values are quoted and which are not.
    fn credentials(&self, login: &Login, method: Method<'_>, uri: &[u8]) -> Vec<u8> {
        let nc = format!("{:08x}", self.count);
        let response = response(
            self.scheme,
            self.protection,
            login,
            &Asked {
                method: method.as_bytes(),
                uri,
                realm: &self.realm,
                nonce: &self.nonce,
                cnonce: &self.cnonce,
                nc: nc.as_bytes(),
            },
        );
        let mut out = Vec::with_capacity(320);
        out.extend_from_slice(b"Digest username=");
        write_quoted(login.username.as_bytes(), &mut out);
        // As they came between their quotes, escapes and all.
        for (label, value) in [(&b"realm"[..], &self.realm[..]), (b"nonce", &self.nonce), (b"uri", uri)] {
            write_parameter(label, value, &mut out);
        }
        write_parameter(b"response", response.as_bytes(), &mut out);
        if let Some(algorithm) = &self.algorithm_text {
            out.extend_from_slice(b", algorithm=");
            out.extend_from_slice(algorithm);
        }
        if let Some(opaque) = &self.opaque {
            write_parameter(b"opaque", opaque, &mut out);
        }
        if self.protection == Protection::Auth || self.scheme.secret == Secret::OfSession {
            write_parameter(b"cnonce", &self.cnonce, &mut out);
        }
        if self.protection == Protection::Auth {
            out.extend_from_slice(b", qop=auth, nc=");
            out.extend_from_slice(nc.as_bytes());
        }
        out
    }
}

impl Scheme {
    fn of(value: Option<AuthValue<'_>>) -> Option<Self> {
        // RFC 7616 §3.3: MD5 where nothing is said.
        let Some(value) = value else {
            return Some(Self { algorithm: Algorithm::Md5, secret: Secret::Plain });
        };
        let text = value.as_bytes();
        let start = text.len().saturating_sub(SESS.len());
        let (name, secret) = match text.get(start..) {
            Some(end) if end.eq_ignore_ascii_case(SESS) => (&text[..start], Secret::OfSession),
            _ => (text, Secret::Plain),
        };
        [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256]
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.name().as_bytes()))
            .map(|algorithm| Self { algorithm, secret })
    }
}

const SESS: &[u8] = b"-sess";

/// All challenges of a response, with the name of the header field that answers them.
fn challenges<'a>(response: &'a Message<'_>) -> impl Iterator<Item = (Name, ReceivedChallenge<'a>)> {
    // RFC 3261 §22.3: a proxy that forked puts the challenges of both kinds together.
    [(Name::WwwAuthenticate, Name::Authorization), (Name::ProxyAuthenticate, Name::ProxyAuthorization)]
        .into_iter()
        .flat_map(|(asks, answers)| response.lines(asks).map(move |line| (answers, line)))
        .filter_map(|(answers, line)| Some((answers, ReceivedChallenge::parse(line).ok()?)))
        .filter(|(_, challenge)| challenge.is_digest())
}

fn protection(challenge: &ReceivedChallenge<'_>) -> Option<Protection> {
    let Some(mut qops) = challenge.qops() else { return Some(Protection::None) };
    qops.any(|qop| qop.eq_ignore_ascii_case(b"auth")).then_some(Protection::Auth)
}

// RFC 7616 §3.4.1 to RFC 7616 §3.4.3.
fn response(scheme: Scheme, protection: Protection, login: &Login, asked: &Asked<'_>) -> Hex {
    let Scheme { algorithm, secret } = scheme;
    let Asked { method, uri, realm, nonce, cnonce, nc } = *asked;
    let plain = algorithm.hash(&[login.username.as_bytes(), realm, login.password.as_bytes()]);
    let ha1 = match secret {
        Secret::Plain => plain,
        Secret::OfSession => algorithm.hash(&[plain.as_bytes(), nonce, cnonce]),
    };
    let ha2 = algorithm.hash(&[method, uri]);
    match protection {
        Protection::Auth => algorithm.hash(&[ha1.as_bytes(), nonce, nc, cnonce, b"auth", ha2.as_bytes()]),
        Protection::None => algorithm.hash(&[ha1.as_bytes(), nonce, ha2.as_bytes()]),
    }
}

fn write_parameter(label: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b", ");
    out.extend_from_slice(label);
    out.extend_from_slice(b"=\"");
    out.extend_from_slice(value);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use sip::Credentials;

    use super::*;
    use crate::trunk::Password;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    /// RFC 7616 §3.9.1: both examples; the forms with a session, without protection, and SHA-512/256 as Python's
    /// hashlib has them.
    #[test]
    fn the_examples_of_the_standard_come_out() {
        for (algorithm, offered, expected) in [
            (", algorithm=MD5", ", qop=\"auth, auth-int\"", "8ca523f5e9506fed4657c9700eebdbec"),
            ("", ", qop=\"auth\"", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                ", algorithm=SHA-256",
                ", qop=\"auth\"",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
            (", algorithm=MD5-sess", ", qop=\"auth\"", "e783283f46242139c486a698fec7211d"),
            (
                ", algorithm=sha-256-sess",
                ", qop=\"auth\"",
                "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7",
            ),
        ] {
            let line = format!("realm=\"http-auth@example.org\", nonce=\"{NONCE}\"{algorithm}{offered}");
            let login = login("Mufasa", "Circle of Life");

            let (name, credentials) = answer(&login, &line, Method::Other(b"GET"), b"/dir/index.html");

            assert_eq!(name, Name::Authorization);
            assert_eq!(value(&credentials, "response"), expected, "{algorithm}");
        }
        let login = login("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
        let line = "realm=\"api@example.org\", nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", \
                    algorithm=SHA-512-256, qop=\"auth\"";
        let mut client = DigestClient::default();
        let mut proofs = Proofs::default();
        challenge(&mut client, &login, &mut proofs, line, b"NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm").unwrap();
        let lines = client.authorize(&login, &mut proofs, Method::Other(b"GET"), b"/doe.json");
        assert_eq!(
            value(&lines[0].1, "response"),
            "7a4e1192babbba02e91182d2895bfdbf7adafc6e48d4e517ca301974843d840c"
        );
    }

    #[test]
    fn the_old_form_has_neither_count_nor_cnonce() {
        let login = login("alice", "secret");

        let (_, credentials) =
            answer(&login, "realm=\"example.org\", nonce=\"abc\"", Method::Register, b"sip:example.org");

        assert_eq!(value(&credentials, "response"), "3061fe6e1da6caf0930fd7c4cd69e6c7");
        let text = String::from_utf8(credentials).unwrap();
        assert!(!text.contains("nc=") && !text.contains("cnonce") && !text.contains("algorithm"), "{text}");
    }

    #[test]
    fn what_was_asked_comes_back_with_its_quotes() {
        let login = login("trunk", "secret");
        let line = "realm=\"a\\\"b\", nonce=\"n\", opaque=\"o=\", algorithm=SHA-256, qop=\"auth\"";

        let (_, credentials) = answer(&login, line, Method::Invite, b"sip:1@c;x=\"y\"");

        let text = String::from_utf8(credentials).unwrap();
        assert!(
            text.starts_with("Digest username=\"trunk\", realm=\"a\\\"b\", nonce=\"n\", uri=\"sip:1@c"),
            "{text}"
        );
        assert!(text.contains(", algorithm=SHA-256, opaque=\"o=\""), "{text}");
        assert!(text.ends_with(", qop=auth, nc=00000001"), "{text}");
    }

    /// RFC 8760 §2.4: several challenges of one realm are a choice.
    #[test]
    fn the_strongest_algorithm_that_is_known_is_used_whatever_the_order() {
        let login = login("trunk", "secret");
        let offer = |algorithms: &[&str]| {
            let lines: Vec<_> = algorithms
                .iter()
                .map(|it| {
                    format!(
                        "WWW-Authenticate: Digest realm=\"c\", nonce=\"{it}\", algorithm={it}, qop=\"auth\""
                    )
                })
                .collect();
            let mut client = DigestClient::default();
            let mut proofs = Proofs::default();
            let taken = respond(&mut client, &login, &mut proofs, 401, &lines.join("\n"), b"c");
            taken.map(|()| {
                let lines = client.authorize(&login, &mut proofs, Method::Register, b"sip:c");
                assert_eq!(lines.len(), 1);
                value(&lines[0].1, "nonce")
            })
        };

        assert_eq!(offer(&["MD5", "SHA-256", "SHA-512-256"]).unwrap(), "SHA-512-256");
        assert_eq!(offer(&["SHA-512-256", "MD5"]).unwrap(), "SHA-512-256");
        assert_eq!(offer(&["SHA3-256", "MD5", "SHA-1"]).unwrap(), "MD5");
        assert_eq!(offer(&["SHA3-256", "AKAv1-MD5"]), Err(Unanswered::NotForUs));
    }

    #[test]
    fn what_can_not_be_answered_is_not() {
        let login = login("trunk", "secret");
        for line in [
            "realm=\"c\", nonce=\"n\", qop=\"auth-int\"",
            "realm=\"c\", qop=\"auth\"",
            "nonce=\"n\"",
            "realm=\"c\", nonce=\"n",
        ] {
            let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
            assert_eq!(
                challenge(&mut client, &login, &mut proofs, line, b"c"),
                Err(Unanswered::NotForUs),
                "{line}"
            );
        }
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        assert_eq!(
            respond(&mut client, &login, &mut proofs, 401, "WWW-Authenticate: Basic realm=\"c\"", b"c"),
            Err(Unanswered::NotForUs)
        );
        let long = format!("realm=\"c\", nonce=\"{}\"", "n".repeat(VALUE_BYTES_MAX + 1));
        assert_eq!(challenge(&mut client, &login, &mut proofs, &long, b"c"), Err(Unanswered::NotForUs));
    }

    #[test]
    fn a_known_nonce_is_used_again_and_counted() {
        let login = login("trunk", "secret");
        let (mut client, mut first) = (DigestClient::default(), Proofs::default());
        challenge(&mut client, &login, &mut first, "realm=\"c\", nonce=\"n\", qop=\"auth\"", b"c").unwrap();
        client.authorize(&login, &mut first, Method::Invite, b"sip:1@c");

        let mut second = Proofs::default();
        let lines = client.authorize(&login, &mut second, Method::Invite, b"sip:1@c");

        assert_eq!(Credentials::parse(&lines[0].1).unwrap().nonce_count(), Some(2));
    }

    /// RFC 7616 §3.3: `stale` says that the password was right.
    #[test]
    fn a_stale_nonce_is_replaced_and_a_wrong_password_not_tried_again() {
        let login = login("trunk", "secret");
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        let mut ask = |proofs: &mut Proofs, line: &str| {
            let taken = challenge(&mut client, &login, proofs, line, b"c");
            client.authorize(&login, proofs, Method::Invite, b"sip:1@c");
            taken
        };

        assert_eq!(ask(&mut proofs, "realm=\"c\", nonce=\"1\", qop=\"auth\""), Ok(()));
        assert_eq!(ask(&mut proofs, "realm=\"c\", nonce=\"2\", qop=\"auth\", stale=true"), Ok(()));
        assert_eq!(ask(&mut proofs, "realm=\"c\", nonce=\"3\", qop=\"auth\""), Err(Unanswered::Refused));

        let mut proofs = Proofs::default();
        assert_eq!(ask(&mut proofs, "realm=\"c\", nonce=\"4\", qop=\"auth\""), Ok(()));
        assert_eq!(
            ask(&mut proofs, "realm=\"c\", nonce=\"4\", qop=\"auth\", stale=true"),
            Err(Unanswered::Refused)
        );
    }

    #[test]
    fn what_was_brought_along_may_be_refused_once() {
        let login = login("trunk", "secret");
        let (mut client, mut first) = (DigestClient::default(), Proofs::default());
        challenge(&mut client, &login, &mut first, "realm=\"c\", nonce=\"1\"", b"c").unwrap();
        let mut second = Proofs::default();
        client.authorize(&login, &mut second, Method::Invite, b"sip:1@c");

        assert_eq!(challenge(&mut client, &login, &mut second, "realm=\"c\", nonce=\"2\"", b"c"), Ok(()));
        client.authorize(&login, &mut second, Method::Invite, b"sip:1@c");
        assert_eq!(
            challenge(&mut client, &login, &mut second, "realm=\"c\", nonce=\"3\"", b"c"),
            Err(Unanswered::Refused)
        );
        assert!(client.authorize(&login, &mut Proofs::default(), Method::Invite, b"sip:1@c").is_empty());
    }

    #[test]
    fn a_carrier_that_calls_each_nonce_stale_is_answered_a_few_times() {
        let login = login("trunk", "secret");
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        let mut answers = 0;
        while challenge(
            &mut client,
            &login,
            &mut proofs,
            &format!("realm=\"c\", nonce=\"{answers}\", stale=true"),
            b"c",
        )
        .is_ok()
        {
            client.authorize(&login, &mut proofs, Method::Invite, b"sip:1@c");
            answers += 1;
        }

        assert_eq!(answers, ANSWERS_MAX);
    }

    /// RFC 3261 §22.3: a second realm on the way is answered together with the first.
    #[test]
    fn two_realms_are_answered_together() {
        let login = login("trunk", "secret");
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        let lines = "Proxy-Authenticate: Digest realm=\"c\", nonce=\"1\"\nWWW-Authenticate: Digest realm=\"c\", nonce=\"2\"";

        respond(&mut client, &login, &mut proofs, 407, lines, b"c").unwrap();
        let lines = client.authorize(&login, &mut proofs, Method::Invite, b"sip:1@c");

        let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, [Name::Authorization, Name::ProxyAuthorization]);
    }

    #[test]
    fn no_realm_but_ours_is_answered() {
        let named = Login { realm: Some("Carrier".into()), ..login("trunk", "secret") };
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        let mut ask = |login: &Login, line| challenge(&mut client, login, &mut proofs, line, b"c");

        assert_eq!(ask(&named, "realm=\"callee\", nonce=\"1\""), Err(Unanswered::NotForUs));
        assert_eq!(ask(&named, "realm=\"carrier\", nonce=\"1\""), Ok(()));

        let unnamed = login("trunk", "secret");
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        let mut ask = |login: &Login, line| challenge(&mut client, login, &mut proofs, line, b"c");
        assert_eq!(ask(&unnamed, "realm=\"carrier\", nonce=\"1\""), Ok(()));
        assert_eq!(ask(&unnamed, "realm=\"callee\", nonce=\"1\""), Err(Unanswered::NotForUs));
        assert_eq!(client.pinned().unwrap(), "carrier");
    }

    fn login(username: &str, password: &str) -> Login {
        Login { username: username.into(), password: Password::new(password), realm: None }
    }

    fn answer(login: &Login, line: &str, method: Method<'_>, uri: &[u8]) -> (Name, Vec<u8>) {
        let (mut client, mut proofs) = (DigestClient::default(), Proofs::default());
        challenge(&mut client, login, &mut proofs, line, CNONCE.as_bytes()).unwrap();
        client.authorize(login, &mut proofs, method, uri).remove(0)
    }

    fn challenge(
        client: &mut DigestClient,
        login: &Login,
        proofs: &mut Proofs,
        line: &str,
        cnonce: &[u8],
    ) -> Result<(), Unanswered> {
        respond(client, login, proofs, 401, &format!("WWW-Authenticate: Digest {line}"), cnonce)
    }

    fn respond(
        client: &mut DigestClient,
        login: &Login,
        proofs: &mut Proofs,
        status: u16,
        lines: &str,
        cnonce: &[u8],
    ) -> Result<(), Unanswered> {
        let text = format!("SIP/2.0 {status} Who\n{lines}\n\n").replace('\n', "\r\n");
        client.challenged(login, proofs, &Message::parse(text.as_bytes()).unwrap(), cnonce)
    }

    fn value(credentials: &[u8], name: &str) -> String {
        let text = std::str::from_utf8(credentials).unwrap();
        let rest = text.split_once(&format!(" {name}=\"")).expect("a parameter").1;
        rest.split_once('"').unwrap().0.to_owned()
    }
}

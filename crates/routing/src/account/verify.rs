//! Digest: does the response fit what the store knows of the password? (RFC 7616 §3.4, RFC 8760)
//!
//! The store knows HA1, the hash of username, realm and password, so neither of the three is needed
//! here. An unknown account costs the same work as a known one, and hashes are compared in constant
//! time: how long the answer takes tells nobody anything.

use md5::Md5;
use sha2::digest::Digest;
use sha2::{Sha256, Sha512_256};
use subtle::ConstantTimeEq;

use crate::digest::{HEX_BYTES_MAX, Hex, hash};
use crate::{Account, Algorithm, Authenticate};

/// Whether the response was made by somebody who knows the account's password.
pub(super) fn is_right(account: Option<&Account>, authenticate: &Authenticate) -> bool {
    match authenticate.algorithm {
        Algorithm::Md5 => is_right_by::<Md5>(account, authenticate),
        Algorithm::Sha256 => is_right_by::<Sha256>(account, authenticate),
        Algorithm::Sha512_256 => is_right_by::<Sha512_256>(account, authenticate),
    }
}

fn is_right_by<D: Digest>(account: Option<&Account>, authenticate: &Authenticate) -> bool {
    let Some(ha2) = ha2::<D>(authenticate) else { return false };
    let nobody = Hex::zeros::<D>();
    let of_account = account.into_iter().flat_map(|account| &account.ha1);
    let fitting = of_account.filter(|(algorithm, _)| *algorithm == authenticate.algorithm);
    let mut ha1s = fitting.map(|(_, ha1)| ha1.as_bytes()).peekable();
    if ha1s.peek().is_none() {
        std::hint::black_box(fits::<D>(nobody.as_bytes(), &ha2, authenticate));
        return false;
    }
    // One account may have several: the username as user part and as whole address of record.
    ha1s.fold(false, |found, ha1| found | fits::<D>(ha1, &ha2, authenticate))
}

fn fits<D: Digest>(ha1: &[u8], ha2: &Hex, authenticate: &Authenticate) -> bool {
    let nonce = authenticate.nonce.as_ref();
    let expected = match &authenticate.quality {
        Some(quality) => hash::<D>(&[ha1, nonce, &quality.nc, &quality.cnonce, &quality.qop, ha2.as_bytes()]),
        None => hash::<D>(&[ha1, nonce, ha2.as_bytes()]),
    };
    let expected = expected.as_bytes();
    if authenticate.response.len() != expected.len() {
        return false;
    }
    let mut response = [0; HEX_BYTES_MAX];
    let response = &mut response[..expected.len()];
    response.copy_from_slice(&authenticate.response);
    response.make_ascii_lowercase();
    response.ct_eq(expected).into()
}

/// RFC 7616 §3.4.3: A2; `None` for a quality of protection that was not offered, or without what it needs.
fn ha2<D: Digest>(authenticate: &Authenticate) -> Option<Hex> {
    let (method, uri) = (authenticate.method.as_ref(), authenticate.uri.as_ref());
    match &authenticate.quality {
        Some(quality) if quality.qop.eq_ignore_ascii_case(b"auth-int") => {
            Some(hash::<D>(&[method, uri, quality.body_hash.as_ref()?]))
        }
        Some(quality) if !quality.qop.eq_ignore_ascii_case(b"auth") => None,
        _ => Some(hash::<D>(&[method, uri])),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sip::Aor;

    use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

    use super::*;
    use crate::Quality;
    use crate::bans::Evidence;

    #[test]
    /// RFC 7616 §3.9.1: the two examples, with their own nonce.
    fn the_examples_of_the_standard_are_right() {
        let uri = "/dir/index.html";
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let examples = [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, response) in examples {
            let account = account(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
            let mut authenticate = authenticate(algorithm, "GET", uri, nonce, response);
            authenticate.quality = Some(quality("auth", cnonce, None));

            assert!(is_right(Some(&account), &authenticate), "{algorithm:?}");
        }
    }

    #[test]
    /// RFC 7616 §3.4.1: computed apart by `md5sum` and Python's hashlib, the old form without quality of protection.
    fn the_old_form_and_sha_512_256_are_right_as_others_compute_them() {
        let bob = account(Algorithm::Sha512_256, "bob", "biloxi.com", "zanzibar");
        let sha = "24851425a772bae4f3691bd46d974df971f2d5b2ee0eea2f09cdbc4cf0a25d10";
        let alice = account(Algorithm::Md5, "alice", "example.org", "secret");
        let md5 = "3061fe6e1da6caf0930fd7c4cd69e6c7";

        let to_bob = authenticate(Algorithm::Sha512_256, "REGISTER", "sip:biloxi.com", "n", sha);
        let to_alice = authenticate(Algorithm::Md5, "REGISTER", "sip:example.org", "abc", md5);

        assert!(is_right(Some(&bob), &to_bob));
        assert!(is_right(Some(&alice), &to_alice));
        assert!(!is_right(Some(&bob), &to_alice));
    }

    #[test]
    fn whatever_is_changed_the_response_is_wrong() {
        let account = account(Algorithm::Md5, "alice", "example.org", "secret");
        let right = right(&account);
        assert!(is_right(Some(&account), &right));

        let changes: [fn(&mut Authenticate); 8] = [
            |it| it.method = Bytes::from_static(b"INVITE"),
            |it| it.uri = Bytes::from_static(b"sip:example.net"),
            |it| it.nonce = Bytes::from_static(b"other"),
            |it| it.quality = None,
            |it| quality_of(it).nc = Bytes::from_static(b"00000002"),
            |it| quality_of(it).cnonce = Bytes::from_static(b"other"),
            |it| quality_of(it).qop = Bytes::from_static(b"auth-int"),
            |it| it.algorithm = Algorithm::Sha256,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = right.clone();
            change(&mut changed);
            assert!(!is_right(Some(&account), &changed), "change {number}");
        }
    }

    #[test]
    fn a_response_of_another_length_or_no_hex_is_wrong() {
        let account = account(Algorithm::Md5, "alice", "example.org", "secret");
        let right = right(&account);
        let long = [right.response.as_ref(), b"00"].concat();
        let huge = vec![b'a'; 10_000];

        for response in [&right.response[..31], b"", &long, &huge, &[b'g'; 32], &[0xff; 32]] {
            let wrong = Authenticate { response: Bytes::copy_from_slice(response), ..right.clone() };
            assert!(!is_right(Some(&account), &wrong));
        }
    }

    #[test]
    fn a_response_in_upper_case_is_right() {
        let account = account(Algorithm::Md5, "alice", "example.org", "secret");
        let mut right = right(&account);
        right.response = right.response.to_ascii_uppercase().into();

        assert!(is_right(Some(&account), &right));
    }

    #[test]
    fn an_unknown_account_has_no_right_response_not_even_that_of_the_stand_in() {
        let nobody = Account {
            ha1: vec![(Algorithm::Md5, "0".repeat(32).into())],
            ..account(Algorithm::Md5, "alice", "example.org", "secret")
        };
        let right = right(&nobody);

        assert!(is_right(Some(&nobody), &right));
        assert!(!is_right(None, &right));
        assert!(!is_right(Some(&Account { ha1: vec![], ..nobody }), &right));
    }

    #[test]
    fn any_of_several_hashes_of_one_algorithm_will_do() {
        let plain = account(Algorithm::Md5, "alice", "example.org", "secret");
        let whole = account(Algorithm::Md5, "alice@example.org", "example.org", "secret");
        let both = Account { ha1: [plain.ha1.clone(), whole.ha1.clone()].concat(), ..plain.clone() };

        assert!(is_right(Some(&both), &right(&plain)));
        assert!(is_right(Some(&both), &right(&whole)));
        assert!(!is_right(Some(&plain), &right(&whole)));
    }

    #[test]
    /// RFC 7616 §3.4.3: auth-int covers the body.
    fn with_auth_int_the_body_counts() {
        let account = account(Algorithm::Md5, "alice", "example.org", "secret");
        let integrity = quality("auth-int", "c", Some("d41d8cd98f00b204e9800998ecf8427e"));
        let response = response_of::<Md5>(&account, "INVITE", "sip:bob@example.org", "n", Some(&integrity));
        let mut authenticate = authenticate(Algorithm::Md5, "INVITE", "sip:bob@example.org", "n", &response);
        authenticate.quality = Some(integrity);
        assert!(is_right(Some(&account), &authenticate));

        quality_of(&mut authenticate).body_hash = Some(Bytes::from_static(b"00"));
        assert!(!is_right(Some(&account), &authenticate));
        quality_of(&mut authenticate).body_hash = None;
        assert!(!is_right(Some(&account), &authenticate));
    }

    #[test]
    fn a_quality_of_protection_that_was_not_offered_is_wrong() {
        let account = account(Algorithm::Md5, "alice", "example.org", "secret");
        let odd = quality("auth-conf", "c", None);
        let response = response_of::<Md5>(&account, "INVITE", "sip:bob@example.org", "n", Some(&odd));
        let mut authenticate = authenticate(Algorithm::Md5, "INVITE", "sip:bob@example.org", "n", &response);
        authenticate.quality = Some(odd);

        assert!(!is_right(Some(&account), &authenticate));
    }

    fn right(account: &Account) -> Authenticate {
        let quality = quality("auth", "c", None);
        let response = response_of::<Md5>(account, "REGISTER", "sip:example.org", "n", Some(&quality));
        let mut right = authenticate(Algorithm::Md5, "REGISTER", "sip:example.org", "n", &response);
        right.quality = Some(quality);
        right
    }

    /// What a phone computes.
    fn response_of<D: Digest>(
        account: &Account,
        method: &str,
        uri: &str,
        nonce: &str,
        quality: Option<&Quality>,
    ) -> String {
        let hash =
            |text: String| String::from_utf8(hash::<D>(&[text.as_bytes()]).as_bytes().to_vec()).unwrap();
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let ha1 = &account.ha1[0].1;
        match quality {
            None => hash(format!("{ha1}:{nonce}:{}", hash(format!("{method}:{uri}")))),
            Some(quality) => {
                let body =
                    quality.body_hash.as_ref().map_or(String::new(), |body| format!(":{}", text(body)));
                let ha2 = hash(format!("{method}:{uri}{body}"));
                let (nc, cnonce, qop) = (text(&quality.nc), text(&quality.cnonce), text(&quality.qop));
                hash(format!("{ha1}:{nonce}:{nc}:{cnonce}:{qop}:{ha2}"))
            }
        }
    }

    fn account(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> Account {
        let parts = [username.as_bytes(), realm.as_bytes(), password.as_bytes()];
        let ha1 = match algorithm {
            Algorithm::Md5 => hash::<Md5>(&parts),
            Algorithm::Sha256 => hash::<Sha256>(&parts),
            Algorithm::Sha512_256 => hash::<Sha512_256>(&parts),
        };
        let ha1 = String::from_utf8(ha1.as_bytes().to_vec()).unwrap();
        Account {
            aor: Aor::parse("alice@example.org").unwrap(),
            ha1: vec![(algorithm, ha1.into())],
            aliases: vec![],
            may_use: vec![],
            calls: Default::default(),
        }
    }

    fn authenticate(
        algorithm: Algorithm,
        method: &str,
        uri: &str,
        nonce: &str,
        response: &str,
    ) -> Authenticate {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let remote = RemoteAddr("192.0.2.7:5060".parse().unwrap());
        let flow = Flow::Datagram { listener: ListenerId(0), remote };
        Authenticate {
            source: Source { flow, transport: Transport::Udp },
            evidence: Evidence::Shown,
            account: Aor::parse("alice@example.org").unwrap(),
            username: bytes("alice"),
            owns: Aor::parse("alice@example.org").unwrap(),
            method: bytes(method),
            uri: bytes(uri),
            algorithm,
            nonce: bytes(nonce),
            nonce_left: Duration::from_secs(300),
            quality: None,
            response: bytes(response),
            call: None,
        }
    }

    fn quality(qop: &str, cnonce: &str, body_hash: Option<&str>) -> Quality {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Quality {
            qop: bytes(qop),
            nc: bytes("00000001"),
            count: 1,
            cnonce: bytes(cnonce),
            body_hash: body_hash.map(bytes),
        }
    }

    fn quality_of(authenticate: &mut Authenticate) -> &mut Quality {
        authenticate.quality.as_mut().unwrap()
    }
}

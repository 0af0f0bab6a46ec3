//! Single values: URIs, addresses of record, Via, name-addr, credentials, hosts, and the text of keys.

use sip::{
    Aor, CSeq, Challenge, Credentials, Freshness, Host, Method, Name, NameAddr, Params, ReceivedChallenge,
    SipUri, Uri, Via,
};

use crate::is_within;

/// URIs of one input that are compared with each other.
const URIS_MAX: usize = 8;

/// Tries the bytes as every kind of value. Two URIs are compared if a zero byte divides them.
pub fn run(data: &[u8]) {
    let mut halves = data.splitn(2, |&byte| byte == 0);
    let (first, second) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    uris(first, second);
    uri(data);
    via(data);
    address(data);
    credentials(data);
    host(data);
    params(data);
    text(data);
    let _ = CSeq::parse(data).map(|cseq| assert_eq!(Method::from_bytes(cseq.method.as_bytes()), cseq.method));
    let name = Name::from_bytes(data);
    assert!(name == Name::Other || Name::from_bytes(name.canonical()) == name);
}

/// Tries the bytes as URIs alone, divided by zero bytes.
pub fn run_uris(data: &[u8]) {
    let parts: Vec<&[u8]> = data.split(|&byte| byte == 0).take(URIS_MAX).collect();
    for (place, first) in parts.iter().enumerate() {
        uri(first);
        for second in &parts[place..] {
            uris(first, second);
        }
    }
}

fn uris(first: &[u8], second: &[u8]) {
    let (Ok(first), Ok(second)) = (Uri::parse(first), Uri::parse(second)) else { return };
    let is_same = first.equivalent(&second);
    assert_eq!(is_same, second.equivalent(&first), "two URIs are equivalent from one side only");
    if let (true, Some(first), Some(second)) = (is_same, first.as_sip(), second.as_sip()) {
        assert_eq!(Aor::of(first), Aor::of(second), "equivalent URIs have two addresses of record");
    }
}

fn uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(data) else {
        assert!(SipUri::parse(data).is_err());
        return;
    };
    assert!(uri.equivalent(&uri), "a URI is not itself");
    assert!(is_within(data, uri.as_bytes()));
    match uri {
        Uri::Sip(sip) => {
            let parts =
                [sip.user, sip.password, sip.headers, sip.transport(), sip.method(), sip.user_param()];
            assert!(parts.into_iter().flatten().all(|part| is_within(data, part)));
            let _ = (sip.lr(), sip.ttl(), sip.maddr(), transport::next_hop(&sip));
            aor(&sip);
            // It stands within brackets without a change.
            let bracketed = [b"\"x\" <", data, b">;tag=1"].concat();
            if let Ok(address) = NameAddr::parse(&bracketed) {
                assert_eq!((address.uri, address.tag()), (data, Some(&b"1"[..])));
            }
        }
        Uri::Tel(tel) => {
            let _ = (tel.is_global(), tel.digits().count());
        }
        Uri::Other { .. } => {}
    }
}

fn aor(uri: &SipUri<'_>) {
    let Some(aor) = Aor::of(uri) else { return };
    assert_eq!(Aor::parse(aor.as_str()).as_ref(), Some(&aor), "an address of record is not canonical");
    assert_eq!(aor.as_str(), format!("{}@{}", aor.user(), aor.domain()));
    let text = format!("sip:{aor}");
    let again = SipUri::parse(text.as_bytes()).ok().and_then(|uri| Aor::of(&uri));
    assert_eq!(again.as_ref(), Some(&aor), "an address of record is no URI of its own");
}

fn via(data: &[u8]) {
    let Ok(via) = Via::parse(data) else { return };
    assert!(is_within(data, via.as_bytes()) && is_within(data, via.transport));
    for (received, rport) in
        [("192.0.2.7", None), ("2001:db8::7", Some(65_535)), ("::ffff:192.0.2.7", Some(0))]
    {
        let received = received.parse().expect("an address");
        let mut stamped = Vec::new();
        via.write_stamped(received, rport, &mut stamped);
        let after = Via::parse(&stamped).expect("a stamped Via is a Via");
        assert_eq!(after.received(), Some(received), "received is another one");
        assert_eq!(after.rport(), rport.map(Some).or(after.rport()), "rport is another one");
        assert_eq!((after.branch(), after.port), (via.branch(), via.port));
        assert_eq!(after.host, via.host);
        assert_eq!(after.transport, via.transport);
        assert_eq!(after.params.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"received")).count(), 1);
    }
}

fn address(data: &[u8]) {
    let Ok(address) = NameAddr::parse(data) else { return };
    assert!(is_within(data, address.uri) && is_within(data, address.params.as_bytes()));
    assert!(address.q().is_none_or(|q| q <= 1_000), "a preference above one");
    let _ = (address.uri(), address.expires());
    // As a Contact in our own responses it stands in brackets; nothing may break out of them.
    let bracketed = [b"<", address.uri, b">;expires=60"].concat();
    if address.uri().is_ok() {
        let again = NameAddr::parse(&bracketed).expect("a URI in brackets is an address");
        assert_eq!((again.uri, again.expires()), (address.uri, Some(60)), "a URI breaks out of its brackets");
    }
}

fn credentials(data: &[u8]) {
    if let Ok(credentials) = Credentials::parse(data) {
        let values = [
            credentials.username,
            credentials.realm,
            credentials.nonce,
            credentials.uri,
            credentials.response,
        ];
        for value in values.into_iter().flatten() {
            let mut unquoted = Vec::new();
            value.unquote_into(&mut unquoted);
            assert!(value.is(&unquoted) && is_within(data, value.as_bytes()));
            assert!(unquoted.len() <= value.as_bytes().len());
        }
        credentials.nonce_count();
    }
    if let Ok(challenge) = ReceivedChallenge::parse(data) {
        for value in [challenge.realm, challenge.nonce, challenge.opaque].into_iter().flatten() {
            assert!(is_within(data, value.as_bytes()));
        }
        assert!(challenge.qops().is_none_or(|qops| qops.count() <= data.len()));
    }
    // What is quoted comes back, whatever it is, but for controls, which become spaces.
    let plain: Vec<u8> = data.iter().copied().filter(|byte| !byte.is_ascii_control()).collect();
    let mut text = Vec::new();
    Challenge { realm: &plain, nonce: b"n", algorithm: b"MD5", freshness: Freshness::Wrong }.write(&mut text);
    let challenge = Credentials::parse(&text).expect("a challenge has the form of credentials");
    assert!(challenge.realm.is_some_and(|realm| realm.is(&plain)), "a realm does not come back");
    assert!(challenge.nonce.is_some_and(|nonce| nonce.is(b"n")), "a realm breaks out of its quotes");
}

fn host(data: &[u8]) {
    let Ok(host) = Host::parse(data) else { return };
    let mut text = Vec::new();
    host.write_to(&mut text);
    assert_eq!(Host::parse(&text), Ok(host), "a host does not come back");
    assert_eq!(host.to_string().as_bytes(), text);
}

fn params(data: &[u8]) {
    let params = Params::new(data);
    for (name, value) in params.iter() {
        assert!(is_within(data, name) && value.is_none_or(|value| is_within(data, value)));
        assert!(params.has(name), "a parameter is there and is not found");
    }
    assert!(params.iter().count() <= data.len() + 1);
}

fn text(data: &[u8]) {
    let mut decoded = Vec::new();
    if keys::base32_decode(data, &mut decoded) {
        let mut encoded = Vec::new();
        keys::base32(&decoded, &mut encoded);
        assert!(encoded.eq_ignore_ascii_case(data), "two texts stand for the same bytes");
    }
    let mut hex = Vec::new();
    keys::hex(data, &mut hex);
    let mut bytes = vec![0; data.len()];
    assert!(keys::hex_decode(&hex, &mut bytes) && bytes == data);
    if let Ok(text) = str::from_utf8(data)
        && let Some(aor) = Aor::parse(text)
    {
        assert_eq!(Aor::parse(aor.as_str()).as_ref(), Some(&aor), "an address of record is not canonical");
    }
}

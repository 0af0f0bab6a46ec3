//! Who is let in: challenges, credentials, ownership, trusted peers, stateless refusals.

use std::time::Duration;

use sip::{Aor, Message, Name};

use super::scene::*;
use crate::call::Output;
use crate::{Algorithm, Answer, Authenticated, Count, Question, RegisterRefusal, RegisterRight, Registered};

/// RFC 3261 §22.3: a proxy challenges with 407, and RFC 3261 §8.2.7: without keeping state.
#[test]
fn a_stranger_is_challenged_without_state() {
    let mut scene = Scene::new();

    let out = scene.receive(ALICE, &invite("sip:bob@example.org").text());

    assert_eq!(statuses(&out), [407]);
    assert!(is_stateless(&out));
    let lines = lines(&only_response(&out), Name::ProxyAuthenticate);
    assert_eq!(lines.len(), 2);
    assert!(lines[0].contains("algorithm=SHA-256") && lines[0].contains("realm=\"example.org\""));
    assert!(lines[1].contains("algorithm=MD5") && lines[1].contains("qop=\"auth\""));
    assert!(!lines[0].contains("stale"));
    assert_eq!(scene.user.suspended(), 0);
}

/// RFC 3261 §22.2: a registrar challenges with 401.
#[test]
fn a_registration_is_challenged_by_401() {
    let mut scene = Scene::new();

    let out = scene.receive(ALICE, &register().text());

    assert_eq!(statuses(&out), [401]);
    assert!(is_stateless(&out));
    assert_eq!(lines(&only_response(&out), Name::WwwAuthenticate).len(), 2);
}

#[test]
fn a_challenge_does_not_tell_whether_the_user_is_known() {
    let mut scene = Scene::new();
    let ask = |scene: &mut Scene, user: &str| {
        let request = register().to(&format!("<sip:{user}@example.org>"));
        let response = only_response(&scene.receive(STRANGER, &request.text()));
        lines(&response, Name::WwwAuthenticate)
            .iter()
            .map(|line| {
                let (before, nonce) = line.split_once("nonce=\"").unwrap();
                format!("{before}{}", nonce.split_once('"').unwrap().1)
            })
            .collect::<Vec<_>>()
    };

    assert_eq!(ask(&mut scene, "alice"), ask(&mut scene, "nobody"));
}

#[test]
fn each_challenge_has_a_nonce_of_its_own() {
    let mut scene = Scene::new();
    let first = only_response(&scene.receive(ALICE, &register().text()));
    let second = only_response(&scene.receive(ALICE, &register().again().text()));

    assert_ne!(header(&first, Name::WwwAuthenticate), header(&second, Name::WwwAuthenticate));
}

/// RFC 3261 §22.1: ACK and CANCEL are never challenged.
#[test]
fn neither_ack_nor_cancel_is_challenged() {
    let mut scene = Scene::new();

    let ack =
        scene.receive(ALICE, &request("ACK", "sip:bob@example.org").to("<sip:bob@example.org>;tag=x").text());
    let cancel = scene.receive(ALICE, &request("CANCEL", "sip:bob@example.org").text());

    assert_eq!(ack, []);
    assert_eq!(statuses(&cancel), [481]);
}

/// RFC 3261 §8.2.7: an ACK to a response of which nothing is kept ends here.
#[test]
fn the_ack_to_a_stateless_refusal_is_absorbed() {
    let mut scene = Scene::new();
    let refusal = only_response(&scene.receive(ALICE, &invite("sip:bob@example.org").text()));
    let to = header(&refusal, Name::To).unwrap();

    let out = scene.receive(ALICE, &request("ACK", "sip:bob@example.org").to(&to).text());

    assert_eq!(out, []);
    assert_eq!(scene.counts().of(Count::AckAbsorbed), 1);
    assert_eq!(scene.counts().of(Count::NoToken), 0);
}

#[test]
fn an_ack_with_a_made_up_tag_is_not_taken_for_one_to_a_refusal() {
    let mut scene = Scene::new();
    let refusal = only_response(&scene.receive(ALICE, &invite("sip:bob@example.org").text()));
    let to = header(&refusal, Name::To).unwrap();
    let changed = to.replace(&to[to.len() - 4..], "AAAA");

    scene.receive(ALICE, &request("ACK", "sip:bob@example.org").to(&changed).text());
    let mut other_call = request("ACK", "sip:bob@example.org").to(&to);
    other_call.call_id = "call-2".to_owned();
    scene.receive(ALICE, &other_call.text());

    assert_eq!(scene.counts().of(Count::AckAbsorbed), 0);
    assert_eq!(scene.counts().of(Count::NoToken), 2);
}

/// RFC 3261 §8.2.6.2: a retransmission that is answered again gets the same tag.
#[test]
fn a_repeated_refusal_has_the_same_to_tag() {
    let mut scene = Scene::new();
    let text = invite("sip:bob@example.org").text();
    let first = only_response(&scene.receive(ALICE, &text));
    let second = only_response(&scene.receive(ALICE, &text));

    assert_eq!(header(&first, Name::To), header(&second, Name::To));
}

#[test]
fn credentials_are_judged_by_the_partition_of_their_account() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));

    let out = scene.receive(ALICE, &with_credentials(&request, &refusal).text());

    let [Output::Ask { partition_of, question: Question::Authenticate(question), .. }] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!(*partition_of, Aor::parse("alice@example.org").unwrap());
    assert_eq!(question.owns, Aor::parse("alice@example.org").unwrap());
    assert_eq!(question.algorithm, Algorithm::Sha256);
    assert_eq!(question.method, "INVITE");
    assert_eq!(question.nonce_left, Duration::from_secs(300));
    assert_eq!(question.quality.as_ref().unwrap().count, 1);
}

/// RFC 3261 §10.3 step 3: the right to register is that of To, not of From.
#[test]
fn a_registration_must_own_its_to() {
    let mut scene = Scene::new();
    let request = register().to("<sip:bob@example.org>");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));

    let out = scene.receive(ALICE, &with_credentials(&request, &refusal).text());

    let (_, Question::Authenticate(question)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(question.owns, Aor::parse("bob@example.org").unwrap());
    assert_eq!(question.account, Aor::parse("alice@example.org").unwrap());
}

#[test]
fn each_verdict_has_its_answer() {
    for (verdict, status, stale) in [
        (Authenticated::No, 407, false),
        (Authenticated::Stale, 407, true),
        (Authenticated::NotOwner, 403, false),
        (Authenticated::Unavailable, 500, false),
    ] {
        let mut scene = Scene::new();
        let request = invite("sip:bob@example.org");
        let refusal = only_response(&scene.receive(ALICE, &request.text()));
        let (token, _) = only_ask(&scene.receive(ALICE, &with_credentials(&request, &refusal).text()));

        let out = scene.answer(token, Answer::Authenticated(verdict.clone()));

        assert_eq!(statuses(&out), [status], "{verdict:?}");
        assert!(is_stateless(&out));
        let response = only_response(&out);
        let challenge = header(&response, Name::ProxyAuthenticate).unwrap_or_default();
        assert_eq!(challenge.contains("stale=true"), stale);
        assert_eq!(header(&response, Name::RetryAfter).is_some(), status == 500);
    }
}

/// The 200 to it may have been lost with the node that sent it.
#[test]
fn a_register_whose_proof_was_used_is_answered_if_it_is_the_one_that_was_carried_out() {
    for (answer, status, stale) in [
        (Ok(Registered { contacts: vec![], is_outbound: false }), 200, false),
        (Err(RegisterRefusal::NotRepeated), 401, true),
    ] {
        let mut scene = Scene::new();
        let refusal = only_response(&scene.receive(ALICE, &register().text()));
        let proved = with_credentials(&register(), &refusal);
        let (token, _) = only_ask(&scene.receive(ALICE, &proved.text()));

        let out = scene.answer(token, Answer::Authenticated(Authenticated::Stale));
        let (token, Question::Register(wish)) = only_ask(&out) else { panic!("{out:?}") };
        assert_eq!((statuses(&out), wish.right), (vec![], RegisterRight::Repeats));
        let out = scene.answer(token, Answer::Registered(answer));

        assert_eq!(statuses(&out), [status]);
        let challenge = header(&only_response(&out), Name::WwwAuthenticate).unwrap_or_default();
        assert_eq!(challenge.contains("stale=true"), stale);
        assert_eq!(scene.counts().of(Count::StaleNonce), u64::from(stale));
    }
}

/// RFC 3261 §16.2: 100 at once, but only after admission.
#[test]
fn an_invite_gets_its_100_when_it_is_admitted_and_not_before() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let asked = scene.receive(ALICE, &with_credentials(&request, &refusal).text());
    assert_eq!(statuses(&asked), []);

    let out = scene.answer(only_ask(&asked).0, Answer::Authenticated(Authenticated::Yes));

    assert_eq!(statuses(&out), [100]);
    assert_eq!(header(&only_response(&out), Name::To).unwrap(), "<sip:bob@example.org>");
    assert!(matches!(only_ask(&out).1, Question::Call(_)));
}

/// RFC 4320 §4.1: no 100 to a request that is no INVITE.
#[test]
fn no_other_request_gets_a_100() {
    let mut scene = Scene::new();

    let out = scene.send_as_account(ALICE, &request("MESSAGE", "sip:bob@example.org"));

    assert_eq!(statuses(&out), []);
}

#[test]
fn an_old_nonce_is_stale_without_asking_anybody() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    scene.pass(Duration::from_secs(301));

    let out = scene.receive(ALICE, &with_credentials(&request, &refusal).text());

    assert_eq!(statuses(&out), [407]);
    assert!(header(&only_response(&out), Name::ProxyAuthenticate).unwrap().contains("stale=true"));
    assert_eq!(scene.counts().of(Count::StaleNonce), 1);
}

#[test]
fn a_nonce_outlives_a_restart_and_a_change_of_address() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let mut restarted = Scene::new();

    let out = restarted.receive(BOB, &with_credentials(&request, &refusal).text());

    assert!(matches!(only_ask(&out).1, Question::Authenticate(_)));
}

#[test]
fn credentials_that_can_not_be_right_are_challenged_again_without_asking_anybody() {
    let request = invite("sip:bob@example.org");
    for (good, bad) in [
        ("nonce=\"", "nonce=\"x"),
        ("realm=\"example.org\"", "realm=\"example.com\""),
        ("algorithm=SHA-256", "algorithm=SHA-512-256"),
        ("algorithm=SHA-256", "algorithm=MD5-sess"),
        ("qop=auth", "qop=auth-conf"),
        ("nc=00000001", "nc=1"),
        ("nc=00000001, ", ""),
        (", cnonce=\"c\"", ""),
        ("response=\"0123\", ", ""),
        ("username=\"alice\"", "username=\"a b\\\"@c@d\""),
        ("Digest ", "Basic "),
    ] {
        let mut scene = Scene::new();
        let refusal = only_response(&scene.receive(ALICE, &request.text()));
        let line = credentials(&request, &refusal);
        assert!(line.contains(good), "{good}");

        let out = scene.receive(ALICE, &request.clone().header(&line.replacen(good, bad, 1)).again().text());

        assert_eq!(statuses(&out), [407], "{bad}");
    }
}

#[test]
fn right_credentials_count_among_wrong_ones() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let line = credentials(&request, &refusal);
    let foreign = line.replace("example.org", "example.com");

    let out = scene.receive(ALICE, &request.header(&foreign).header(&line).again().text());

    assert!(matches!(only_ask(&out).1, Question::Authenticate(_)));
}

#[test]
fn a_username_may_be_the_whole_address() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let line = credentials(&request, &refusal).replace("\"alice\"", "\"alice@example.org\"");

    let out = scene.receive(ALICE, &request.header(&line).again().text());

    let (_, Question::Authenticate(question)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(question.account, Aor::parse("alice@example.org").unwrap());
}

/// RFC 7616 §3.4.3: auth-int protects the body too.
#[test]
fn the_body_is_hashed_for_auth_int() {
    let mut scene = Scene::new();
    let mut request = request("MESSAGE", "sip:bob@example.org").header("Content-Type: text/plain");
    request.body = "abc".to_owned();
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let line = credentials(&request, &refusal).replace("qop=auth", "qop=auth-int");

    let out = scene.receive(ALICE, &request.header(&line).again().text());

    let (_, Question::Authenticate(question)) = only_ask(&out) else { panic!("{out:?}") };
    let hash = question.quality.unwrap().body_hash.unwrap();
    assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn a_caller_from_elsewhere_is_challenged_too() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").from("<sip:mallory@example.net>;tag=m");

    let out = scene.receive(STRANGER, &request.text());

    assert_eq!(statuses(&out), [407]);
    assert!(header(&only_response(&out), Name::ProxyAuthenticate).unwrap().contains("realm=\"example.org\""));
}

/// RFC 3323 §4.1.1.3: a caller that does not tell its name claims nobody else's.
#[test]
fn an_anonymous_caller_proves_its_account_alone() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").from("<sip:anonymous@anonymous.invalid>;tag=a");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));

    let out = scene.receive(ALICE, &with_credentials(&request, &refusal).text());

    let (_, Question::Authenticate(question)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(question.owns, Aor::parse("alice@example.org").unwrap());
}

#[test]
fn a_from_that_nobody_can_own_is_forbidden() {
    for from in ["<tel:+4930123456>;tag=a", "<sip:example.org>;tag=a", "<mailto:alice@example.org>;tag=a"] {
        let mut scene = Scene::new();

        let out = scene.receive(ALICE, &invite("sip:bob@example.org").from(from).text());

        assert_eq!(statuses(&out), [403], "{from}");
        assert!(is_stateless(&out));
    }
}

#[test]
fn a_trusted_peer_needs_no_digest() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").from("<sip:+4930123@carrier.example>;tag=c");

    let out = scene.receive(CARRIER, &request.text());

    assert_eq!(statuses(&out), [100]);
    assert!(matches!(only_ask(&out).1, Question::Call(_)));
}

#[test]
fn a_listener_without_digest_lets_in_for_our_own_users_alone() {
    let mut scene = Scene::new();
    let own = scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &invite("sip:bob@example.org").text());
    let foreign =
        scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &invite("sip:bob@198.51.100.99").again().text());

    assert!(matches!(only_ask(&own).1, Question::Call(_)));
    assert_eq!(statuses(&foreign), [100, 403]);
    assert_eq!(left(&foreign).len(), 0);
}

#[test]
fn a_registration_on_a_listener_without_digest_goes_straight_to_its_partition() {
    let mut scene = Scene::new();

    let out = scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &register().text());

    assert!(matches!(only_ask(&out).1, Question::Register(_)));
}

#[test]
fn the_realm_can_be_set_for_all_domains() {
    let mut scene = Scene::with(|settings| settings.digest.realm = Some("Our Realm".to_owned()));
    let request = register();
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    assert!(header(&refusal, Name::WwwAuthenticate).unwrap().contains("realm=\"Our Realm\""));

    let out = scene.receive(ALICE, &with_credentials(&request, &refusal).text());

    let (_, Question::Authenticate(question)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(question.account, Aor::parse("alice@example.org").unwrap());
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let run = || {
        let mut scene = Scene::new();
        let mut out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob(), carol()]);
        out.extend(scene.pass(Duration::from_secs(300)));
        out
    };

    assert_eq!(run(), run());
}

fn with_credentials(request: &Request, refusal: &bytes::Bytes) -> Request {
    request.clone().header(&credentials(request, refusal)).again()
}

fn lines(response: &[u8], name: Name) -> Vec<String> {
    let message = Message::parse(response).unwrap();
    message.lines(name).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

/// RFC 8760 §2.4: all algorithms are offered, but to clients that are known to fail at it.
#[test]
fn a_client_that_knows_md5_only_is_offered_nothing_else() {
    let mut scene = Scene::new();
    let offered = |scene: &mut Scene, agent: &str| {
        let out = scene.receive(ALICE, &register().header(&format!("User-Agent: {agent}")).text());
        lines(&only_response(&out), Name::WwwAuthenticate).len()
    };

    assert_eq!(offered(&mut scene, "Yealink SIP-T46S 66.84"), 2);
    assert_eq!(offered(&mut scene, "Baresip v1.0.0 (x86_64/linux)"), 1);
    assert_eq!(offered(&mut scene, "baresip v2.6.0 (x86_64/linux)"), 2);
    assert_eq!(offered(&mut scene, "b"), 2);
}

/// A peer is trusted with calls. Whoever could also register there would take our users' calls with one forged packet.
#[test]
fn a_trusted_peer_does_not_register_without_digest() {
    let mut scene = Scene::new();

    assert_eq!(statuses(&scene.receive(CARRIER, &register().text())), [401]);
}

//! P-Asserted-Identity and Privacy (RFC 3323, RFC 3325).

use sip::Name;

use super::scene::*;

const ASSERTED: &str = "P-Asserted-Identity: <sip:+4930123@carrier.example>";

/// RFC 3325 §5: a trusted peer is believed.
#[test]
fn what_a_trusted_peer_asserts_reaches_our_phones() {
    let there = from_carrier(&[ASSERTED]);

    assert_eq!(values(&there.request, Name::PAssertedIdentity), ["<sip:+4930123@carrier.example>"]);
}

/// RFC 3325 §7: privacy keeps it from those who are not trusted.
#[test]
fn what_a_trusted_peer_asserts_in_private_does_not_reach_our_phones() {
    for privacy in ["Privacy: id", "Privacy: header;id", "Privacy: ID;critical"] {
        assert_eq!(
            header(&from_carrier(&[ASSERTED, privacy]).request, Name::PAssertedIdentity),
            None,
            "{privacy}"
        );
    }
    assert!(header(&from_carrier(&[ASSERTED, "Privacy: header"]).request, Name::PAssertedIdentity).is_some());
}

/// RFC 3325 §5: what others assert is taken out.
#[test]
fn what_a_phone_asserts_is_taken_out() {
    let mut scene = Scene::new();
    let request =
        invite("sip:bob@example.org").header(ASSERTED).header("P-Preferred-Identity: <sip:boss@example.org>");

    let there = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

    assert_eq!(header(&there.request, Name::PAssertedIdentity), None);
    assert_eq!(header(&there.request, Name::PPreferredIdentity), None);
}

/// RFC 3325 §5: what digest has proved is told to trusted peers, and to nobody else.
#[test]
fn a_trusted_peer_is_told_who_calls() {
    let mut scene = Scene::new();
    let request = invite("sip:+4930@198.51.100.200")
        .header("P-Asserted-Identity: <sip:boss@example.org>")
        .header("Privacy: id");
    let there = only_left(&scene.send_as_account(ALICE, &request));
    assert_eq!(values(&there.request, Name::PAssertedIdentity), ["<sip:alice@example.org>"]);

    let elsewhere = only_left(&scene.send_as_account(ALICE, &invite("sip:x@198.51.100.99").again().again()));
    assert_eq!(header(&elsewhere.request, Name::PAssertedIdentity), None);
}

#[test]
fn what_a_phone_asserts_in_a_response_is_taken_out() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));

    let response = only_response(&scene.reply(&there, 180, ASSERTED));

    assert_eq!(header(&response, Name::PAssertedIdentity), None);
}

#[test]
fn what_a_trusted_peer_asserts_in_a_response_goes_on_unless_it_is_private() {
    for (extra, is_there) in [(ASSERTED.to_owned(), true), (format!("{ASSERTED}\nPrivacy: id"), false)] {
        let mut scene = Scene::new();
        let there = only_left(&scene.send_as_account(ALICE, &invite("sip:+4930@198.51.100.200")));

        let response = only_response(&scene.reply(&there, 180, &extra));

        assert_eq!(header(&response, Name::PAssertedIdentity).is_some(), is_there);
    }
}

fn from_carrier(lines: &[&str]) -> Left {
    let mut scene = Scene::new();
    let mut request = invite("sip:bob@example.org").from("<sip:+4930123@carrier.example>;tag=c");
    for line in lines {
        request = request.header(line);
    }
    let (token, _) = only_ask(&scene.receive(CARRIER, &request.text()));
    let located = crate::Located::Targets(vec![bob()]);
    only_left(&scene.answer(token, crate::Answer::Located(located)))
}

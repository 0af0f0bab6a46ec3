//! GRUUs (RFC 5627): told to phones that want them, and followed to that phone alone.

use bytes::Bytes;
use sip::{Aor, Name};

use super::scene::*;
use crate::gruu::{self, Registration};
use crate::{
    Answer, Authenticated, BindingId, Gruus, Keyring, Located, Phone, Question, Registered,
    RegisteredContact, Target,
};

const INSTANCE: &[u8] = b"<urn:uuid:1>";

/// RFC 5627 §5.2: both stand in the Contact of the 200.
#[test]
fn a_phone_that_wants_gruus_is_told_them() {
    let mut scene = Scene::new();
    let request = register()
        .header("Supported: gruu")
        .contact("<sip:alice@192.0.2.101>;+sip.instance=\"<urn:uuid:1>\"");
    let asked = scene.receive_by(udp(OPEN, "10.1.0.9:5060"), &request.text());
    let (token, Question::Register(wish)) = only_ask(&asked) else { panic!("{asked:?}") };
    assert!(wish.gruu);

    let gruus = gruus(&scene.keyring, "alice@example.org");
    let contact = RegisteredContact {
        binding: BindingId(1),
        uri: Bytes::from_static(b"sip:alice@192.0.2.101"),
        expires: 60,
        q: None,
        instance: Some(Bytes::from_static(INSTANCE)),
        reg_id: None,
        gruus: Some(gruus.clone()),
    };
    let registered = Registered { contacts: vec![contact], is_outbound: false };
    let response = only_response(&scene.answer(token, Answer::Registered(Ok(registered))));

    let temporary = String::from_utf8(gruus.temporary.to_vec()).unwrap();
    assert_eq!(
        values(&response, Name::Contact),
        [format!(
            "<sip:alice@192.0.2.101>;expires=60;+sip.instance=\"<urn:uuid:1>\";\
             pub-gruu=\"sip:alice@example.org;gr=urn:uuid:1\";temp-gruu=\"{temporary}\""
        )]
    );
    assert!(values(&response, Name::Supported).contains(&"gruu".to_owned()));
    let plain = scene.receive_by(udp(OPEN, "10.1.0.9:5060"), &register().again().text());
    assert!(matches!(only_ask(&plain), (_, Question::Register(wish)) if !wish.gruu));
}

/// RFC 5627 §5.1: 403, or the address of record would lead to itself.
#[test]
fn a_gruu_can_not_be_bound_to_its_own_address() {
    let keyring = Scene::new().keyring;
    let gruus = gruus(&keyring, "alice@example.org");
    for contact in [&gruus.public, &gruus.temporary] {
        let contact = format!("<{}>", String::from_utf8_lossy(contact));
        let out = Scene::new().receive_by(udp(OPEN, "10.1.0.9:5060"), &register().contact(&contact).text());
        assert_eq!(statuses(&out), [403], "{contact}");
    }
}

/// RFC 5627 §6.1: the question is for the one phone; it is called by its Contact.
#[test]
fn a_call_to_a_gruu_asks_for_that_phone() {
    let keyring = Scene::new().keyring;
    let gruus = gruus(&keyring, "bob@example.org");
    for uri in [&gruus.public, &gruus.temporary] {
        let mut scene = Scene::new();
        let call = invite(&String::from_utf8_lossy(uri));

        let out = scene.send_as_account(ALICE, &call);
        let (token, Question::LocatePhone(aor, phone)) = only_ask(&out) else { panic!("{out:?}") };
        let left = scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));

        assert_eq!(aor.as_str(), "bob@example.org");
        assert!(gruu::is_meant(&keyring.gruu, &phone, INSTANCE, b"series"));
        assert_eq!(request_uri(&only_left(&left).request), "sip:bob@192.0.2.102:5060");
    }
}

#[test]
fn a_gruu_of_an_alias_asks_for_the_same_phone_of_the_account() {
    let mut scene = Scene::new();
    let out = scene.send_as_account(ALICE, &invite("sip:bobby@example.org;gr=urn:uuid:1"));

    let home = Located::Alias(Aor::parse("bob@example.org").unwrap());
    let out = scene.answer(only_ask(&out).0, Answer::Located(home));

    let (_, Question::LocatePhone(aor, phone)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(
        (aor.as_str(), phone),
        ("bob@example.org", Phone::Instance(Bytes::from_static(b"urn:uuid:1")))
    );
}

/// RFC 5627 §6.1: 404 for what is no GRUU of ours, 480 for a phone that is not there.
#[test]
fn what_is_no_gruu_and_who_is_not_there_is_told_apart() {
    for uri in ["sip:bob@example.org;gr", "sip:nonsense@example.org;gr"] {
        let mut scene = Scene::new();
        assert_eq!(statuses(&scene.send_as_account(ALICE, &invite(uri))), [100, 404], "{uri}");
    }
    for (found, status) in [(Located::Targets(Vec::new()), 480), (Located::UnknownAor, 404)] {
        let mut scene = Scene::new();
        let out = scene.send_as_account(ALICE, &invite("sip:bob@example.org;gr=urn:uuid:1"));
        assert_eq!(statuses(&scene.answer(only_ask(&out).0, Answer::Located(found))), [status]);
    }
}

/// RFC 5627 §4.4: whose a temporary one is, only this server knows.
#[test]
fn a_call_from_a_gruu_is_from_the_one_that_it_was_given_to() {
    let keyring = Scene::new().keyring;
    let gruus = gruus(&keyring, "alice@example.org");
    for uri in [&gruus.public, &gruus.temporary] {
        let mut scene = Scene::new();
        let from = format!("<{}>;tag=alice-tag", String::from_utf8_lossy(uri));
        let call = invite("sip:bob@example.org").from(&from);

        let refused = scene.receive(ALICE, &call.text());
        let with = call.clone().header(&credentials(&call, &only_response(&refused)));
        let asked = scene.receive(ALICE, &with.again().text());
        let (token, Question::Authenticate(asked)) = only_ask(&asked) else { panic!("{asked:?}") };
        assert_eq!(asked.owns.as_str(), "alice@example.org");
        let out = scene.answer(token, Answer::Authenticated(Authenticated::Yes));
        assert!(matches!(only_ask(&out), (_, Question::Call(_))));
    }
}

/// A GRUU as Contact: within the dialog the Record-Route leads to the flow, and the phone is sent its own Contact.
#[test]
fn a_phone_with_a_gruu_as_contact_is_found_within_the_dialog() {
    let gruu = "sip:carol@example.org;gr=urn:uuid:1";
    let mut scene = Scene::new();
    let carol = Target { instance: Some(Bytes::from_static(INSTANCE)), ..carol() };
    let out = scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![carol.clone()]);
    let call = only_left(&out);
    let route = values(&call.request, Name::RecordRoute)[0].clone();

    let bye = request("BYE", gruu)
        .to("<sip:carol@example.org>;tag=callee-tag")
        .header(&format!("Route: {route}"))
        .again()
        .again()
        .again();
    let out = scene.receive(ALICE, &bye.text());
    let (token, Question::Locate(_)) = only_ask(&out) else { panic!("{out:?}") };
    let left = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![carol]))));

    assert_eq!(left.to, transport::Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(request_uri(&left.request), "sip:carol@10.9.9.9:5060");
}

/// A phone that has no flow in the token is looked up by its GRUU; its ACK goes to its newest flow.
#[test]
fn a_phone_without_a_flow_is_looked_up_by_its_gruu() {
    let mut scene = Scene::new();
    let call = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    let route = values(&call.request, Name::RecordRoute)[0].clone();
    let within = |method| {
        request(method, "sip:bob@example.org;gr=urn:uuid:1")
            .to("<sip:bob@example.org>;tag=callee-tag")
            .header(&format!("Route: {route}"))
            .again()
            .again()
    };
    let out = scene.receive(ALICE, &within("ACK").text());
    let (token, Question::LocatePhone(..)) = only_ask(&out) else { panic!("{out:?}") };
    let newest_first = vec![bob(), target("sip:bob@192.0.2.103", UDP, "192.0.2.103:5060")];
    let out = scene.answer(token, Answer::Located(Located::Targets(newest_first)));
    assert!(matches!(&out[..], [crate::call::Output::SendStateless { to, .. }]
        if *to == transport::Destination::Flow(datagram(UDP, BOB))));

    let out = scene.receive(ALICE, &within("BYE").again().text());
    assert!(matches!(only_ask(&out), (_, Question::LocatePhone(..))));
}

fn gruus(keyring: &Keyring, aor: &str) -> Gruus {
    let aor = Aor::parse(aor).unwrap();
    let registration = Registration { aor: &aor, instance: INSTANCE, call_id: b"series", cseq: 1 };
    gruu::make(&keyring.gruu, &registration).unwrap()
}

//! REGISTER: what the partition is asked, and how its verdict is said.

use bytes::Bytes;
use sip::Name;

use super::scene::*;
use crate::{
    Answer, Authenticated, BindingId, ContactUpdate, Contacts, Question, Register, RegisterRefusal,
    Registered, RegisteredContact, ServiceRoute,
};

#[test]
fn a_registration_is_asked_with_all_that_it_says() {
    let request = register()
        .contact("<sip:alice@192.0.2.101:5060;x=y>;expires=600;q=0.5;+sip.instance=\"<urn:uuid:1>\"")
        .header("Expires: 300")
        .header("User-Agent: phone/1");

    let wish = wish(&request);

    assert_eq!(wish.aor.as_str(), "alice@example.org");
    assert_eq!(
        wish.contacts,
        Contacts::Update(vec![ContactUpdate {
            uri: Bytes::from_static(b"sip:alice@192.0.2.101:5060;x=y"),
            q: Some(500),
            expires: Some(600),
            instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
            reg_id: None,
        }])
    );
    assert_eq!((wish.expires, wish.cseq), (Some(300), 1));
    assert_eq!(wish.call_id, "call-1@192.0.2.101");
    assert_eq!(wish.user_agent.as_deref(), Some(&b"phone/1"[..]));
    assert_eq!(wish.response_hash, 0);
    assert!(!wish.outbound);
}

/// RFC 3261 §10.2: a REGISTER without Contact asks for the bindings.
#[test]
fn a_registration_without_a_contact_is_a_query() {
    assert_eq!(wish(&register().contact("")).contacts, Contacts::Query);
}

/// RFC 3261 §10.2.2: the star only with Expires 0.
#[test]
fn a_star_removes_all_and_does_nothing_else() {
    assert_eq!(wish(&register().contact("*").header("Expires: 0")).contacts, Contacts::RemoveAll);

    for request in [register().contact("*"), register().contact("*").header("Expires: 60")] {
        let mut scene = Scene::new();
        assert_eq!(statuses(&scene.receive_by(open(), &request.text())), [400]);
    }
}

#[test]
fn a_contact_that_can_not_be_called_is_refused_but_may_be_removed() {
    for contact in [
        "<mailto:alice@example.org>",
        "<tel:+4930123>",
        "<sip:alice@0.0.0.0>",
        "<sip:alice@[::]:5060>",
        "<sip:alice@255.255.255.255>",
        "<sip:alice@239.1.1.1>",
        "<sip:alice@192.0.2.101:0>",
        "<sip:alice@192.0.2.5>",
        "<sip:alice@192.0.2.5:5060;transport=tcp>",
        "<sip:alice@example.org>",
    ] {
        let mut scene = Scene::new();
        let kept = register().contact(contact);
        assert_eq!(statuses(&scene.receive_by(open(), &kept.text())), [400], "{contact}");

        let removed = wish(&register().contact(&format!("{contact};expires=0")));
        assert!(matches!(removed.contacts, Contacts::Update(_)), "{contact}");
    }
}

/// RFC 3261 §10.3 step 2: what is required and not there.
#[test]
fn an_extension_that_the_registrar_lacks_is_refused() {
    let mut scene = Scene::new();

    let out = scene.receive_by(open(), &register().header("Require: outbound, gruu, 100rel").text());

    assert_eq!(statuses(&out), [420]);
    assert_eq!(header(&only_response(&out), Name::Unsupported).unwrap(), "100rel");
}

#[test]
fn nat_is_seen_in_via_and_in_contact_and_not_through_another_proxy() {
    let mut scene = Scene::new();
    let via = "SIP/2.0/UDP 10.1.0.77:5060;branch=z9hG4bK-1";
    let at_home = register().via(via).contact("<sip:alice@10.1.0.77:5060>");
    let ask = |scene: &mut Scene, request: &Request| {
        let (_, Question::Register(wish)) = only_ask(&scene.receive_by(open(), &request.text())) else {
            panic!()
        };
        wish.nat
    };

    assert!(!ask(&mut scene, &at_home));
    assert!(ask(&mut scene, &at_home.clone().via(&via.replace("10.1.0.77", "192.168.1.2"))));
    assert!(ask(&mut scene, &at_home.clone().contact("<sip:alice@192.168.1.2:5060>")));
    assert!(!ask(&mut scene, &at_home.clone().contact("<sip:alice@phone.example>")));
    let relayed = format!("{via}, SIP/2.0/UDP 192.168.1.2;branch=z9hG4bK-2");
    assert!(!ask(&mut scene, &at_home.clone().via(&relayed).contact("<sip:alice@192.168.1.2>")));
}

/// RFC 5626 §6: a flow of the phone's own only with the option tag, and over a first hop that keeps it.
#[test]
fn a_reg_id_counts_only_with_outbound_and_a_first_hop_that_keeps_the_flow() {
    let contact = "<sip:alice@192.0.2.101>;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    let plain = register().contact(contact);
    let outbound = plain.clone().header("Supported: path, outbound");
    let two = "SIP/2.0/UDP 10.1.0.77;branch=z9hG4bK-1, SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK-2";
    let reg_id = |wish: &Register| match &wish.contacts {
        Contacts::Update(updates) => updates[0].reg_id,
        _ => None,
    };

    assert_eq!(reg_id(&wish(&plain)), None);
    let direct = wish(&outbound);
    assert_eq!((reg_id(&direct), direct.outbound), (Some(1), true));
    let by_edge = outbound.clone().via(two).header("Supported: path");
    let by_edge = wish(&by_edge.header("Path: <sip:edge@192.0.2.9;lr;ob>"));
    assert_eq!((reg_id(&by_edge), by_edge.outbound), (Some(1), true));

    let mut scene = Scene::new();
    assert_eq!(statuses(&scene.receive_by(open(), &outbound.clone().via(two).text())), [439]);
    let no_instance = outbound.contact("<sip:alice@192.0.2.101>;reg-id=1");
    assert_eq!(reg_id(&wish(&no_instance)), None);
}

#[test]
fn a_200_has_all_bindings() {
    let mut scene = Scene::new();
    let path = "Path: <sip:p2.example;lr>, <sip:p1.example;lr>";
    let request = register().header("Supported: path").header(path);
    let (token, _) = only_ask(&scene.receive_by(open(), &request.text()));
    let contact = |uri: &'static str, q, reg_id: Option<u32>| RegisteredContact {
        binding: BindingId(1),
        uri: Bytes::from_static(uri.as_bytes()),
        expires: 3_600,
        q,
        instance: reg_id.map(|_| Bytes::from_static(b"<urn:uuid:1>")),
        reg_id,
        gruus: None,
    };
    let contacts =
        vec![contact("sip:a@192.0.2.1", Some(50), None), contact("sip:b@192.0.2.2", None, Some(7))];

    let out = scene.answer(token, Answer::Registered(Ok(Registered { contacts, is_outbound: true })));

    let response = only_response(&out);
    assert_eq!(status(&response), 200);
    assert_eq!(
        values(&response, Name::Contact),
        [
            "<sip:a@192.0.2.1>;expires=3600;q=0.050",
            "<sip:b@192.0.2.2>;expires=3600;+sip.instance=\"<urn:uuid:1>\";reg-id=7",
        ]
    );
    assert_eq!(values(&response, Name::Path), ["<sip:p2.example;lr>", "<sip:p1.example;lr>"]);
    assert_eq!(values(&response, Name::Require), ["outbound"]);
    assert_eq!(values(&response, Name::FlowTimer), ["120"]);
    assert!(header(&response, Name::To).unwrap().contains(";tag="));
}

/// RFC 3327 §5.3: 420 where a proxy added a Path that the phone knows nothing of.
#[test]
fn a_path_is_kept_only_for_a_phone_that_knows_of_it() {
    let path = "Path: <sip:p1.example;lr>";
    let mut scene = Scene::new();
    let refused = only_response(&scene.receive_by(open(), &register().header(path).text()));
    assert_eq!((status(&refused), values(&refused, Name::Unsupported)), (420, vec!["path".to_owned()]));

    for tag in ["Supported: timer, Path", "Require: path"] {
        assert_eq!(wish(&register().header(tag).header(path)).path, [&b"<sip:p1.example;lr>"[..]], "{tag}");
    }
}

/// RFC 3608 §6.3: the route by this server, for whom the operator wants it.
#[test]
fn a_service_route_leads_to_the_listener_that_the_phone_registered_on() {
    let told = |rule, header: &str, source| {
        let mut scene = Scene::with(|settings| settings.registrar.service_route = rule);
        let mut request = register();
        request.headers.extend(header.lines().map(str::to_owned));
        let (token, _) = only_ask(&scene.receive_by(source, &request.text()));
        let contacts = vec![RegisteredContact {
            binding: BindingId(1),
            uri: Bytes::from_static(b"sip:a@192.0.2.1"),
            expires: 60,
            q: None,
            instance: None,
            reg_id: None,
            gruus: None,
        }];
        let out = scene.answer(token, Answer::Registered(Ok(Registered { contacts, is_outbound: false })));
        values(&only_response(&out), Name::ServiceRoute)
    };
    let path = "Supported: path\nPath: <sip:p1.example;lr>";
    let none: [String; 0] = [];

    assert_eq!(told(ServiceRoute::Always, "", open()), ["<sip:10.1.0.5:5060;lr>"]);
    assert_eq!(told(ServiceRoute::WithPath, path, open()), ["<sip:10.1.0.5:5060;lr>"]);
    assert_eq!(told(ServiceRoute::WithPath, "", open()), none);
    assert_eq!(told(ServiceRoute::Off, path, open()), none);
}

/// RFC 3608 §5: a phone that was told puts it into its requests as Route.
#[test]
fn a_request_that_preloads_the_service_route_goes_its_way() {
    let mut scene = Scene::new();
    let call = invite("sip:bob@example.org").header("Route: <sip:192.0.2.5:5060;lr>");

    let left = only_left(&scene.call_as_account(ALICE, &call, vec![bob()]));

    assert_eq!(left.to, transport::Destination::Flow(datagram(UDP, BOB)));
    assert_eq!(values(&left.request, Name::Route).len(), 0);
}

#[test]
fn each_refusal_has_its_response() {
    for (refusal, status) in [
        (RegisterRefusal::IntervalTooBrief { min: 60 }, 423),
        (RegisterRefusal::OutOfOrder, 500),
        (RegisterRefusal::TooManyContacts, 403),
        (RegisterRefusal::Malformed, 400),
        (RegisterRefusal::UnknownAor, 404),
        (RegisterRefusal::Unavailable, 503),
    ] {
        let mut scene = Scene::new();
        let (token, _) = only_ask(&scene.receive_by(open(), &register().text()));

        let out = scene.answer(token, Answer::Registered(Err(refusal)));

        assert_eq!(statuses(&out), [status]);
        let response = only_response(&out);
        assert_eq!(header(&response, Name::MinExpires), (status == 423).then(|| "60".to_owned()));
        assert_eq!(header(&response, Name::RetryAfter).is_some(), status == 503);
    }
}

#[test]
fn an_alias_is_registered_under_its_account() {
    let mut scene = Scene::new();
    let request = register().to("<sip:al@example.org>");
    let refusal = only_response(&scene.receive(ALICE, &request.text()));
    let with = request.clone().header(&credentials(&request, &refusal)).again();
    let (token, _) = only_ask(&scene.receive(ALICE, &with.text()));

    let alias = Authenticated::Alias(sip::Aor::parse("alice@example.org").unwrap());
    let out = scene.answer(token, Answer::Authenticated(alias));

    let (_, Question::Register(wish)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(wish.aor.as_str(), "alice@example.org");
    assert_ne!(wish.response_hash, 0);
}

fn open() -> transport::Source {
    udp(OPEN, "10.1.0.77:5060")
}

fn wish(request: &Request) -> Register {
    let mut scene = Scene::new();
    let out = scene.receive_by(open(), &request.text());
    let (_, Question::Register(wish)) = only_ask(&out) else { panic!("{out:?}") };
    *wish
}

//! What is checked before a request goes anywhere, and where it goes then.

use sip::Name;
use transport::selection::{Query, Records};
use transport::{Destination, RemoteAddr};

use super::scene::*;
use crate::call::Output;
use crate::{Answer, Count, Located, Question};

/// RFC 3261 §11.2: OPTIONS to a server is answered by the server.
#[test]
fn options_for_this_server_are_answered_without_digest() {
    let mut scene = Scene::new();
    for uri in [
        "sip:example.org",
        "sip:192.0.2.5",
        "sip:192.0.2.5:5060",
        "sip:203.0.113.10",
        "sip:[2001:db8::5]:5060",
    ] {
        let request = request("OPTIONS", uri).header("Max-Forwards: 0");

        let out = scene.receive(STRANGER, &request.text());

        assert_eq!(statuses(&out), [200], "{uri}");
        assert!(is_stateless(&out));
        let response = only_response(&out);
        assert!(header(&response, Name::Allow).unwrap().contains("OPTIONS"));
        assert!(header(&response, Name::Accept).is_some());
        assert_eq!(header(&response, Name::Server).unwrap(), "Tandem/test");
    }
}

/// RFC 3261 §8.2.2.3: what is required and not there.
#[test]
fn options_that_require_an_unknown_extension_are_refused() {
    let mut scene = Scene::new();

    let out =
        scene.receive(STRANGER, &request("OPTIONS", "sip:example.org").header("Require: path, magic").text());

    assert_eq!(statuses(&out), [420]);
    assert_eq!(header(&only_response(&out), Name::Unsupported).unwrap(), "magic");
}

/// RFC 3261 §8.2.1: a method that is not allowed here.
#[test]
fn other_requests_for_this_server_are_not_allowed() {
    let mut scene = Scene::new();

    let out = scene.receive(STRANGER, &request("MESSAGE", "sip:example.org").text());

    assert_eq!(statuses(&out), [405]);
    assert_eq!(header(&only_response(&out), Name::Allow).unwrap(), "OPTIONS, REGISTER");
}

#[test]
fn another_port_on_our_address_is_somebody_else() {
    let mut scene = Scene::new();

    let out = scene.send_as_account(ALICE, &invite("sip:bob@192.0.2.5:5090"));

    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, "192.0.2.5:5090")));
}

/// RFC 3261 §16.3 item 2: 416.
#[test]
fn a_scheme_that_is_not_understood_is_refused() {
    let mut scene = Scene::new();
    for uri in ["http:example", "sips:bob@example.org", "mailto:bob@example.org"] {
        let out = scene.receive(ALICE, &invite(uri).to("<sip:bob@example.org>").text());

        assert_eq!(statuses(&out), [416], "{uri}");
    }
}

#[test]
fn a_number_without_a_way_is_not_found() {
    let mut scene = Scene::new();

    let out = scene.send_as_account(ALICE, &invite("tel:+4930123456"));

    assert_eq!(statuses(&out), [100, 404]);
}

/// RFC 3261 §16.3 item 3: 483.
#[test]
fn a_request_that_may_go_no_further_is_refused() {
    let mut scene = Scene::new();
    for method in ["INVITE", "OPTIONS"] {
        let out =
            scene.receive(ALICE, &request(method, "sip:bob@example.org").header("Max-Forwards: 0").text());

        assert_eq!(statuses(&out), [483]);
    }
}

/// RFC 3261 §16.3 item 5: 420.
#[test]
fn an_extension_that_the_proxy_lacks_is_refused() {
    let mut scene = Scene::new();

    let out = scene.receive(ALICE, &invite("sip:bob@example.org").header("Proxy-Require: foo, bar").text());

    assert_eq!(statuses(&out), [420]);
    assert_eq!(header(&only_response(&out), Name::Unsupported).unwrap(), "foo, bar");
}

/// RFC 5393 §5.3.3.1: 440.
#[test]
fn a_request_without_breadth_is_refused() {
    let mut scene = Scene::new();

    let none = scene.receive(ALICE, &invite("sip:bob@example.org").header("Max-Breadth: 0").text());
    let bad = scene.receive(ALICE, &invite("sip:bob@example.org").header("Max-Breadth: many").text());

    assert_eq!(statuses(&none), [440]);
    assert_eq!(statuses(&bad), [400]);
}

/// RFC 3261 §16.3 item 4, RFC 5393 §4.2: what comes back unchanged goes round for ever.
#[test]
fn a_request_that_comes_back_unchanged_is_a_loop() {
    let mut scene = Scene::new();
    let at_ourselves = target("sip:bob@example.org", UDP, "192.0.2.5:5060");
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![at_ourselves]));
    let text = String::from_utf8(there.request.to_vec()).unwrap();

    let out = scene.receive("192.0.2.5:5060", &text.replace("\r\n", "\n"));

    assert_eq!(statuses(&out), [482]);
    assert_eq!(scene.counts().of(Count::Loop), 1);
}

/// RFC 5393 §4.2.2: the same request for another target is a spiral.
#[test]
fn a_request_that_comes_back_for_somebody_else_goes_on() {
    let mut scene = Scene::new();
    let at_ourselves = target("sip:bob@example.org", UDP, "192.0.2.5:5060");
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![at_ourselves]));
    let text = String::from_utf8(there.request.to_vec()).unwrap();
    let spiral = text.replacen("sip:bob@example.org", "sip:carol@example.org", 1);

    let out = scene.receive("192.0.2.5:5060", &spiral.replace("\r\n", "\n"));

    assert_eq!(statuses(&out), [407]);
    assert_eq!(scene.counts().of(Count::Loop), 0);
}

#[test]
fn a_via_that_only_looks_like_ours_is_no_loop() {
    let mut scene = Scene::new();
    let at_ourselves = target("sip:bob@example.org", UDP, "192.0.2.5:5060");
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![at_ourselves]));
    let text = String::from_utf8(there.request.to_vec()).unwrap();
    // Below our Via stands another client's: our branch was not made for it.
    let copied = text.replace("z9hG4bKx-alice-1", "z9hG4bKx-alice-2");
    assert_ne!(copied, text);

    let out = scene.receive("192.0.2.5:5060", &copied.replace("\r\n", "\n"));

    assert_eq!(statuses(&out), [407]);
}

#[test]
fn each_answer_of_the_location_has_its_response() {
    for (located, status) in
        [(Located::UnknownAor, 404), (Located::Targets(Vec::new()), 480), (Located::Unavailable, 500)]
    {
        let mut scene = Scene::new();
        let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:bob@example.org")));

        let out = scene.answer(token, Answer::Located(located));

        assert_eq!(statuses(&out), [status]);
        assert!(!is_stateless(&out));
        assert_eq!(header(&only_response(&out), Name::RetryAfter).is_some(), status == 500);
    }
}

#[test]
fn an_alias_is_located_once_more_and_no_more() {
    let mut scene = Scene::new();
    let (token, _) = only_ask(&scene.send_as_account(ALICE, &invite("sip:robert@example.org")));
    let alias = |name: &str| Answer::Located(Located::Alias(sip::Aor::parse(name).unwrap()));

    let out = scene.answer(token, alias("bob@example.org"));
    let (token, Question::Call(aor)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(aor.as_str(), "bob@example.org");
    let out = scene.answer(token, alias("robert@example.org"));

    assert_eq!(statuses(&out), [404]);
}

#[test]
fn an_account_may_call_elsewhere() {
    let mut scene = Scene::new();

    let by_address = only_left(&scene.send_as_account(ALICE, &invite("sip:x@198.51.100.99:5070")));
    assert_eq!(by_address.to, Destination::Flow(datagram(UDP, "198.51.100.99:5070")));
    assert_eq!(request_uri(&by_address.request), "sip:x@198.51.100.99:5070");

    let out = scene.send_as_account(ALICE, &invite("sip:x@elsewhere.example").again().again());
    let out = no_records(&mut scene, out, 3);
    let Some(Output::Resolve { token, query }) = out.last() else { panic!("{out:?}") };
    assert_eq!(*query, Query::Addresses("elsewhere.example".into()));
    let by_name = only_left(&scene.resolved(*token, Records::Addresses(vec![[198, 51, 100, 98].into()])));
    assert_eq!(by_name.to.remote(), RemoteAddr("198.51.100.98:5060".parse().unwrap()));
}

/// RFC 3263 §4.3: the next address, when one can not be reached.
#[test]
fn the_addresses_of_a_name_are_tried_one_after_the_other() {
    let mut scene = Scene::new();
    let out = scene.send_as_account(ALICE, &invite("sip:x@elsewhere.example:5070"));
    let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };
    let addresses = [[198, 51, 100, 1], [198, 51, 100, 2], [198, 51, 100, 3]];
    let records = Records::Addresses(addresses.map(Into::into).to_vec());
    let first = only_left(&scene.resolved(*token, records));

    let second = only_left(&scene.client_event(first.key, transaction::ClientEvent::Unreachable));
    let third = only_left(&scene.reply(&second, 503, ""));
    let out = scene.client_event(third.key, transaction::ClientEvent::TimedOut);

    let expected = addresses.map(|address| RemoteAddr((address, 5070).into()));
    assert_eq!([first.to, second.to, third.to].map(|to| to.remote()), expected);
    assert_ne!(header(&first.request, Name::Via), header(&second.request, Name::Via));
    assert_eq!(statuses(&out), [408]);
}

#[test]
fn a_name_that_is_not_there_is_not_found_and_one_that_does_not_resolve_is_an_error() {
    for (records, status) in [(Records::None, 404), (Records::Failed, 500)] {
        let mut scene = Scene::new();
        let out = scene.send_as_account(ALICE, &invite("sip:x@elsewhere.example"));
        let out = no_records(&mut scene, out, 3);
        let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };

        assert_eq!(statuses(&scene.resolved(*token, records)), [status]);
    }
}

#[test]
fn no_stranger_gets_through_with_a_route_to_us() {
    for uri in ["sip:+123@198.51.100.99", "sip:bob@example.org"] {
        for route in ["<sip:192.0.2.5;lr>", "<sip:example.org:5060;lr>", "<sip:AAAABBBBCCCC@192.0.2.5;lr>"] {
            let mut scene = Scene::new();
            let initial = invite(uri).header(&format!("Route: {route}"));
            let in_dialog = initial.clone().to("<sip:bob@example.org>;tag=made-up").again();

            assert_eq!(statuses(&scene.receive(STRANGER, &initial.text())), [407], "{route}");
            assert_eq!(statuses(&scene.receive(STRANGER, &in_dialog.text())), [481], "{route}");
        }
    }
}

#[test]
fn no_stranger_gets_through_with_a_foreign_route() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Route: <sip:192.0.2.5;lr>, <sip:198.51.100.99;lr>");

    assert_eq!(statuses(&scene.receive(STRANGER, &request.text())), [407]);
    let open = scene.receive_by(udp(OPEN, "10.1.0.77:5060"), &request.again().text());
    assert_eq!(statuses(&open), [100, 403]);
}

#[test]
fn an_account_may_name_a_route() {
    let mut scene = Scene::new();
    let request =
        invite("sip:x@elsewhere.example").header("Route: <sip:192.0.2.5;lr>, <sip:198.51.100.99;lr>");

    let there = only_left(&scene.send_as_account(ALICE, &request));

    assert_eq!(there.to.remote(), RemoteAddr("198.51.100.99:5060".parse().unwrap()));
    assert_eq!(values(&there.request, Name::Route), ["<sip:198.51.100.99;lr>"]);
    assert_eq!(request_uri(&there.request), "sip:x@elsewhere.example");
}

/// RFC 3261 §16.6 item 6: a strict router finds its own URI in the Request-URI and the target last.
#[test]
fn a_strict_router_gets_the_target_at_the_end_of_route() {
    let mut scene = Scene::new();
    let request = invite("sip:x@elsewhere.example")
        .header("Route: <sip:192.0.2.5;lr>, <sip:198.51.100.99>, <sip:p2.example;lr>");

    let there = only_left(&scene.send_as_account(ALICE, &request));

    assert_eq!(request_uri(&there.request), "sip:198.51.100.99");
    assert_eq!(values(&there.request, Name::Route), ["<sip:p2.example;lr>", "<sip:x@elsewhere.example>"]);
}

/// RFC 3261 §16.4: a maddr that is ours is taken off.
#[test]
fn a_maddr_that_is_ours_is_taken_off() {
    let mut scene = Scene::new();

    let out =
        scene.send_as_account(ALICE, &invite("sip:bob@example.org:5060;maddr=192.0.2.5;transport=udp;x=y"));

    let (_, Question::Call(aor)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(aor.as_str(), "bob@example.org");
}

#[test]
fn a_registration_for_elsewhere_is_proxied_and_one_of_a_foreign_user_is_not_found() {
    let mut scene = Scene::new();
    let elsewhere = register().uri("sip:198.51.100.99");
    let foreign = register().to("<sip:alice@example.net>");

    assert_eq!(statuses(&scene.receive(ALICE, &foreign.text())), [404]);
    assert_eq!(statuses(&scene.receive(ALICE, &elsewhere.text())), [401]);
}

/// RFC 3261 §19.1.1: a Contact may have headers, a Request-URI may not.
#[test]
fn the_headers_of_a_contact_do_not_become_part_of_the_request() {
    let mut scene = Scene::new();
    let bob = target("sip:bob@192.0.2.102:5060;x=y?Route=%3Csip:203.0.113.9%3E", UDP, BOB);

    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob]);

    let left = only_left(&out);
    assert_eq!(request_uri(&left.request), "sip:bob@192.0.2.102:5060;x=y");
    assert_eq!(header(&left.request, Name::Route), None);
}

#[test]
fn nothing_is_sent_to_an_address_that_is_no_host() {
    for host in ["255.255.255.255", "224.0.0.1", "0.0.0.0", "[ff02::1]", "192.0.2.7:0"] {
        let mut scene = Scene::new();

        let out = scene.send_as_account(ALICE, &invite(&format!("sip:bob@{host}")));

        assert!(left(&out).is_empty(), "{host}: {out:?}");
        assert_eq!(statuses(&out), [100, 500], "{host}");
    }
}

#[test]
fn a_request_that_would_grow_beyond_the_limits_is_not_forwarded() {
    let almost_too_many = "X: y\n".repeat(sip::limits::HEADERS_MAX - 12);
    for (lines, is_forwarded) in [(almost_too_many.as_str(), false), ("X: y\n", true)] {
        let mut scene = Scene::new();

        let out = scene.receive(CARRIER, &invite("sip:x@203.0.113.9").header(lines.trim_end()).text());

        assert_eq!(!left(&out).is_empty(), is_forwarded);
        assert_eq!(statuses(&out), if is_forwarded { vec![100] } else { vec![100, 500] });
    }
}

/// The DNS has no records for the next questions; what comes out then.
fn no_records(scene: &mut Scene, mut out: Vec<Output>, questions: usize) -> Vec<Output> {
    for _ in 0..questions {
        let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };
        out = scene.resolved(*token, Records::None);
    }
    out
}

//! Requests within a dialog: relayed by the token alone, to where the other side is now.

use bytes::Bytes;
use sip::Name;
use transaction::ClientEvent;
use transport::{Destination, RemoteAddr};

use super::scene::*;
use crate::call::Output;
use crate::call::aim::RETURN_WAIT;
use crate::{Answer, Count, Located, Question, Target};

/// RFC 3261 §16.12: both sides send through the Record-Route; the From tag says which way.
#[test]
fn requests_of_both_sides_find_the_other_one() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());

    let to_bob = only_left(&scene.receive(ALICE, &call.by_caller("BYE", "sip:bob@192.0.2.102:5060").text()));
    let to_alice =
        only_left(&scene.receive(BOB, &call.by_callee("BYE", "sip:alice@192.0.2.101:5060").text()));

    assert_eq!(to_bob.to, Destination::Flow(datagram(UDP, BOB)));
    assert_eq!(to_alice.to, Destination::Flow(datagram(UDP, ALICE)));
    for left in [&to_bob, &to_alice] {
        assert_eq!(values(&left.request, Name::Route).len(), 0);
        assert_eq!(values(&left.request, Name::RecordRoute).len(), 0);
    }
}

/// RFC 3261 §12.2.1.1: a target that was refreshed is where the Request-URI says.
#[test]
fn a_side_without_nat_is_where_its_present_contact_says() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());

    let moved = only_left(&scene.receive(ALICE, &call.by_caller("BYE", "sip:bob@192.0.2.177:5080").text()));

    assert_eq!(moved.to, Destination::Flow(datagram(UDP, "192.0.2.177:5080")));
}

#[test]
fn a_callee_behind_nat_is_reached_by_its_flow() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), carol());

    let out = scene.receive(ALICE, &call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text());

    let (token, Question::Locate(aor)) = only_ask(&out) else { panic!("{out:?}") };
    assert_eq!(aor.as_str(), "carol@example.org");
    let out = scene.answer(token, Answer::Located(Located::Targets(Vec::new())));
    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, CAROL)));
}

#[test]
fn a_caller_behind_nat_is_reached_by_its_flow() {
    let mut scene = Scene::new();
    let call = established(&mut scene, CAROL, from_carol(), bob());

    let out = scene.receive(BOB, &call.by_callee("BYE", "sip:carol@10.9.9.9:5060").text());
    let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(Vec::new())));

    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, CAROL)));
}

#[test]
fn a_nat_port_that_changed_since_is_taken_from_the_present_binding() {
    let mut scene = Scene::new();
    let call = established(&mut scene, CAROL, from_carol(), bob());
    let moved = "198.51.100.7:31999";

    // Carol's own request comes from the other port, and goes on to Bob.
    let to_bob = only_left(&scene.receive(moved, &call.by_caller("INFO", "sip:bob@192.0.2.102:5060").text()));
    // Bob's goes to where Carol is registered by then.
    let out = scene.receive(BOB, &call.by_callee("BYE", "sip:carol@10.9.9.9:5060").text());
    let present = Target { flow: Some(datagram(UDP, moved)), ..carol() };
    let other = Target {
        flow: Some(datagram(UDP, "198.51.100.8:1")),
        contact: Bytes::from_static(b"sip:carol@10.9.9.8"),
        ..carol()
    };
    let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(vec![other, present])));

    assert_eq!(to_bob.to, Destination::Flow(datagram(UDP, BOB)));
    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, moved)));
}

#[test]
fn another_phone_behind_the_same_nat_or_with_the_same_private_address_is_not_taken_for_the_present_binding() {
    let neighbour = Target {
        contact: Bytes::from_static(b"sip:carol@10.9.9.8:5060"),
        flow: Some(datagram(UDP, "198.51.100.7:31001")),
        ..carol()
    };
    let elsewhere = Target { flow: Some(datagram(UDP, "198.51.100.8:31000")), ..carol() };
    for other in [neighbour, elsewhere] {
        let mut scene = Scene::new();
        let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), carol());

        let out = scene.receive(ALICE, &call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text());
        let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(vec![other])));

        assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, CAROL)));
    }
}

/// RFC 5626 §5.3: a connection is replaced by the phone's present one, found by its instance.
#[test]
fn a_dead_connection_is_replaced_by_the_present_one_of_the_instance() {
    let mut scene = Scene::new();
    let flow = |number| Target {
        flow: Some(connection(number, CAROL)),
        listener: Some(TCP),
        instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
        ..carol()
    };
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), flow(1));
    let bye = call.by_caller("BYE", "sip:carol@10.9.9.9:5060");

    let out = scene.receive(ALICE, &bye.text());
    let stranger = Target { instance: Some(Bytes::from_static(b"<urn:uuid:2>")), ..flow(3) };
    let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(vec![stranger, flow(2)])));

    assert_eq!(only_left(&out).to, Destination::Flow(connection(2, CAROL)));
}

/// RFC 5626 §5.3.1: 430 when there is no flow any more.
#[test]
fn a_dead_connection_without_another_one_is_a_failed_flow() {
    let mut scene = Scene::new();
    let by_tcp = Target { flow: Some(connection(1, CAROL)), listener: Some(TCP), ..carol() };
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), by_tcp);
    let out = scene.receive(ALICE, &call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text());
    let there = only_left(&scene.answer(only_ask(&out).0, Answer::Located(Located::UnknownAor)));
    assert_eq!(there.to, Destination::Flow(connection(1, CAROL)));

    let out = scene.client_event(there.key, ClientEvent::Unreachable);
    assert!(matches!(only_ask(&out).1, Question::AwaitReturn(..)), "it may come back");

    assert_eq!(statuses(&scene.pass(RETURN_WAIT)), [430]);
}

/// A phone that lost its connection with a node comes back by another one; its account may have other phones.
#[test]
fn a_request_waits_for_the_phone_whose_connection_is_gone() {
    for instance in [Some(Bytes::from_static(b"<urn:uuid:1>")), None] {
        let mut scene = Scene::new();
        let flow = |number, remote| Target {
            flow: Some(connection(number, remote)),
            listener: Some(TCP),
            instance: instance.clone(),
            ..carol()
        };
        let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), flow(1, CAROL));
        let out = scene.receive(ALICE, &call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text());
        let gone = Target { flow: None, ..flow(1, CAROL) };
        let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(vec![gone])));
        let out = match left(&out).is_empty() {
            true => out,
            false => scene.client_event(only_left(&out).key, ClientEvent::Unreachable),
        };
        let (token, question) = only_ask(&out);
        assert!(matches!(question, Question::AwaitReturn(_, time) if time == RETURN_WAIT), "{question:?}");

        let other = Target { instance: Some(Bytes::from_static(b"<urn:uuid:2>")), ..flow(3, BOB) };
        let out = scene.answer(token, Answer::Located(Located::Targets(vec![other.clone()])));
        let (token, _) = only_ask(&out);
        let back = flow(4, "198.51.100.7:31001");
        let out = scene.answer(token, Answer::Located(Located::Targets(vec![other, back.clone()])));

        assert_eq!(Some(only_left(&out).to), back.flow.map(Destination::Flow));
    }
}

#[test]
fn a_call_goes_on_after_a_restart_though_listeners_have_other_numbers() {
    let mut scene = Scene::new();
    let on_inside = Target { flow: Some(datagram(INSIDE, CAROL)), listener: Some(INSIDE), ..carol() };
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), on_inside);
    let mut restarted = Scene::with(|settings| {
        let turned = settings.listeners.iter().cloned().map(|mut listener| {
            listener.id = transport::ListenerId(4 - listener.id.0);
            listener
        });
        settings.listeners = std::sync::Arc::new(transport::Listeners::new(turned.collect()));
    });

    let bye = call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text();
    let out = restarted.receive_by(udp(transport::ListenerId(4), ALICE), &bye);
    let out = restarted.answer(only_ask(&out).0, Answer::Located(Located::Unavailable));

    assert_eq!(only_left(&out).to, Destination::Flow(datagram(transport::ListenerId(2), CAROL)));
}

#[test]
fn an_answer_that_never_comes_leaves_what_the_token_says() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), carol());
    scene.receive(ALICE, &call.by_caller("BYE", "sip:carol@10.9.9.9:5060").text());

    let out = scene.pass(std::time::Duration::from_secs(10));

    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, CAROL)));
}

#[test]
fn a_token_is_good_for_its_own_call_alone() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let mut other = call.by_caller("BYE", "sip:bob@192.0.2.102:5060");
    other.call_id = "another-call".to_owned();

    let out = scene.receive(ALICE, &other.text());

    assert_eq!(statuses(&out), [481]);
    assert!(is_stateless(&out));
    assert_eq!(scene.counts().of(Count::NoToken), 1);
}

#[test]
fn a_token_with_tags_of_no_dialog_is_refused() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let request =
        call.by_caller("INVITE", "sip:q@203.0.113.79:5060").from("<sip:boss@example.org>;tag=made-up");

    let out = scene.receive(STRANGER, &request.text());

    assert_eq!(statuses(&out), [481]);
    assert!(left(&out).is_empty());
}

/// Who was called knows the token and both tags, and could send in the caller's name to anywhere.
#[test]
fn a_caller_that_moved_to_another_address_proves_who_it_is() {
    let mut scene = Scene::new();
    let call = established(&mut scene, CAROL, from_carol(), bob());
    let request = call.by_caller("INFO", "sip:q@203.0.113.79:5060");

    let out = scene.receive(STRANGER, &request.text());

    assert_eq!(statuses(&out), [407]);
    assert!(left(&out).is_empty());
}

#[test]
fn a_changed_token_and_a_missing_one_are_refused() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let bye = call.by_caller("BYE", "sip:bob@192.0.2.102:5060");
    let route = bye.headers[0].clone();
    let mut changed = bye.clone();
    // The first letters are the key's number.
    changed.headers[0] =
        format!("{}{}{}", &route[..20], if &route[20..21] == "x" { "y" } else { "x" }, &route[21..]);
    let mut missing = bye.clone();
    missing.headers.clear();

    for request in [changed, missing] {
        let out = scene.receive(ALICE, &request.text());

        assert_eq!(statuses(&out), [481], "{}", request.text());
        assert_eq!(left(&out).len(), 0);
    }
}

#[test]
fn a_token_does_not_let_in_what_begins_a_dialog() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let initial = call.by_caller("INVITE", "sip:x@198.51.100.99").to("<sip:bob@example.org>");

    assert_eq!(statuses(&scene.receive(STRANGER, &initial.text())), [407]);
}

#[test]
fn an_invite_within_a_dialog_gets_its_100_without_digest() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());

    let out = scene.receive(BOB, &call.by_callee("INVITE", "sip:alice@192.0.2.101:5060").text());

    assert_eq!(statuses(&out), [100]);
    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, ALICE)));
}

/// RFC 3261 §16.11: an ACK to a 2xx has no transaction.
#[test]
fn the_ack_to_a_2xx_is_relayed_both_ways_without_state() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:carol@example.org"), carol());

    let out = scene.receive(ALICE, &call.by_caller("ACK", "sip:carol@10.9.9.9:5060").text());
    let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(vec![carol()])));
    let [Output::SendStateless { to, message }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*to, Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(method(message), "ACK");
    assert_eq!(values(message, Name::Via).len(), 2);
    assert_eq!(values(message, Name::Route).len(), 0);

    let out = scene.receive(CAROL, &call.by_callee("ACK", "sip:alice@192.0.2.101:5060").text());
    let [Output::SendStateless { to, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(*to, Destination::Flow(datagram(UDP, ALICE)));
    assert_eq!(scene.user.contexts(), 1, "the INVITE's alone");
}

#[test]
fn a_repeated_ack_has_the_same_branch() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let ack = call.by_caller("ACK", "sip:bob@192.0.2.102:5060").text();

    assert_eq!(scene.receive(ALICE, &ack), scene.receive(ALICE, &ack));
}

#[test]
fn an_ack_without_a_token_goes_nowhere_but_from_a_trusted_peer() {
    let mut scene = Scene::new();
    let ack = request("ACK", "sip:x@198.51.100.99").to("<sip:x@198.51.100.99>;tag=x");

    assert_eq!(scene.receive(STRANGER, &ack.text()), []);
    assert_eq!(scene.counts().of(Count::NoToken), 1);
    let out = scene.receive(CARRIER, &ack.text());
    assert!(matches!(out[..], [Output::SendStateless { .. }]), "{out:?}");
}

#[test]
fn a_trusted_peer_needs_no_token() {
    let mut scene = Scene::new();
    let bye = request("BYE", "sip:x@198.51.100.99").to("<sip:x@198.51.100.99>;tag=x");

    assert_eq!(left(&scene.receive(CARRIER, &bye.text())).len(), 1);
}

/// A gateway that believes this server must not be reached with a dialog that somebody else began.
#[test]
fn a_token_leads_to_a_trusted_peer_only_if_the_dialog_is_with_one() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let out = scene.receive(ALICE, &call.by_caller("INVITE", "sip:+1900@198.51.100.200").text());
    assert_eq!(statuses(&out), [100, 500]);
    assert_eq!(left(&out).len(), 0);
    assert_eq!(scene.receive(ALICE, &call.by_caller("ACK", "sip:+1900@198.51.100.200").text()), []);

    let mut scene = Scene::new();
    let invite = invite("sip:+1900@198.51.100.200");
    let call = Call::of(&only_left(&scene.send_as_account(ALICE, &invite)), &invite);
    assert_eq!(
        left(&scene.receive(ALICE, &call.by_caller("BYE", "sip:+1900@198.51.100.200").text())).len(),
        1
    );
}

/// RFC 5658 §4: both of a double Record-Route are taken off, in either direction.
#[test]
fn both_of_a_double_record_route_are_taken_off() {
    let mut scene = Scene::new();
    let inside = target("sip:bob@10.0.0.50:5060", INSIDE, "10.0.0.50:5060");
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), inside);
    assert_eq!(call.routes.len(), 2);

    let to_bob = only_left(&scene.receive(ALICE, &call.by_caller("BYE", "sip:bob@10.0.0.50:5060").text()));
    let bye = call.by_callee("BYE", "sip:alice@192.0.2.101:5060").text();
    let to_alice = only_left(&scene.receive_by(udp(INSIDE, "10.0.0.50:5060"), &bye));

    assert_eq!(to_bob.to, Destination::Flow(datagram(INSIDE, "10.0.0.50:5060")));
    assert_eq!(to_alice.to, Destination::Flow(datagram(UDP, ALICE)));
    assert_eq!(values(&to_bob.request, Name::Route).len(), 0);
    assert_eq!(values(&to_alice.request, Name::Route).len(), 0);
}

/// RFC 3261 §16.4: a strict router has put our URI into the Request-URI.
#[test]
fn a_request_of_a_strict_router_finds_its_target() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let ours = call.routes[0].trim_matches(['<', '>']).to_owned();
    let mut bye = call.by_caller("BYE", &ours);
    bye.headers = vec!["Route: <sip:bob@192.0.2.102:5060>".to_owned()];

    let there = only_left(&scene.receive(ALICE, &bye.text()));

    assert_eq!(request_uri(&there.request), "sip:bob@192.0.2.102:5060");
    assert_eq!(values(&there.request, Name::Route).len(), 0);
    assert_eq!(there.to, Destination::Flow(datagram(UDP, BOB)));
}

#[test]
fn the_route_beyond_us_is_followed_within_a_dialog() {
    let mut scene = Scene::new();
    let call = established(&mut scene, ALICE, invite("sip:bob@example.org"), bob());
    let bye = call.by_caller("BYE", "sip:bob@192.0.2.102:5060").header("Route: <sip:198.51.100.50;lr>");

    let there = only_left(&scene.receive(ALICE, &bye.text()));

    assert_eq!(there.to.remote(), RemoteAddr("198.51.100.50:5060".parse().unwrap()));
    assert_eq!(values(&there.request, Name::Route), ["<sip:198.51.100.50;lr>"]);
}

/// RFC 6665 §4.3: a NOTIFY is recorded, with the token that its dialog has.
#[test]
fn a_notify_is_recorded_with_the_token_of_its_dialog() {
    let mut scene = Scene::new();
    let subscribe = Request { method: "SUBSCRIBE", ..invite("sip:bob@example.org") };
    let call = established(&mut scene, ALICE, subscribe, bob());

    let there =
        only_left(&scene.receive(BOB, &call.by_callee("NOTIFY", "sip:alice@192.0.2.101:5060").text()));

    assert_eq!(values(&there.request, Name::RecordRoute), call.routes);
}

#[test]
fn a_caller_on_a_connection_is_reached_by_it() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").via("SIP/2.0/TCP 192.0.2.101:5060;branch=z9hG4bK-alice-1");
    let out = scene.call_as_account_by(tcp(5, "192.0.2.101:45000"), &request, vec![bob()]);
    let call = Call::of(&only_left(&out), &request);

    let out = scene.receive(BOB, &call.by_callee("BYE", "sip:alice@192.0.2.101:5060").text());
    let out = scene.answer(only_ask(&out).0, Answer::Located(Located::Targets(Vec::new())));

    assert_eq!(only_left(&out).to, Destination::Flow(connection(5, "192.0.2.101:45000")));
}

struct Call {
    request: Request,
    /// Record-Route as the callee got it, the topmost first.
    routes: Vec<String>,
}

fn established(scene: &mut Scene, from: &str, request: Request, callee: Target) -> Call {
    let there = only_left(&scene.call_as_account(from, &request, vec![callee]));
    scene.reply(&there, 200, "Contact: <sip:callee@192.0.2.102>");
    Call::of(&there, &request)
}

impl Call {
    fn of(there: &Left, request: &Request) -> Self {
        Self { request: request.clone(), routes: values(&there.request, Name::RecordRoute) }
    }

    fn by_caller(&self, method: &'static str, uri: &str) -> Request {
        let to = format!("{};tag=callee-tag", self.request.to);
        let routes = self.routes.iter().rev().cloned().collect::<Vec<_>>().join(", ");
        Request { method, cseq: 10, ..self.request.clone() }
            .uri(uri)
            .to(&to)
            .via("SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK-in-dialog")
            .header(&format!("Route: {routes}"))
    }

    fn by_callee(&self, method: &'static str, uri: &str) -> Request {
        let from = format!("{};tag=callee-tag", self.request.to);
        Request { method, cseq: 20, ..self.request.clone() }
            .uri(uri)
            .from(&from)
            .to(&self.request.from)
            .via("SIP/2.0/UDP 192.0.2.102;branch=z9hG4bK-callee")
            .header(&format!("Route: {}", self.routes.join(", ")))
    }
}

/// Carol's phone, behind NAT, calls Bob.
fn from_carol() -> Request {
    invite("sip:bob@example.org")
        .from("<sip:carol@example.org>;tag=carol-tag")
        .contact("<sip:carol@10.9.9.9:5060>")
        .via("SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bK-carol-1;rport")
}

//! Our own accounts at carriers: registrations, and the calls that come in by them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::{Aor, Message, Name};
use transaction::ClientEvent;
use transport::LocalAddr;

use super::scene::*;
use crate::call::Output;
use crate::call::aim::{Aim, Size};
use crate::call::inbound::{Sender, Turn};
use crate::call::lead::Plan;
use crate::call::round::Round;
use crate::{
    Answer, AtStop, Called, CarrierNews, Count, Located, Login, Password, Question, Registration,
    RegistrationState, RegistrationView, Settings, Trunk,
};

/// Where our carrier is.
const REGISTRAR: &str = "203.0.113.200:5060";

#[test]
fn an_account_is_registered_at_once_and_from_the_listener_it_wants() {
    let mut scene = Scene::with(|settings| {
        settings.trunks = vec![trunk(|registration| {
            registration.listener =
                Some((transport::Transport::Udp, LocalAddr("10.0.0.5:5060".parse().unwrap())));
        })];
    });

    let sent = register(&mut scene);

    assert_eq!(sent.to, transport::Destination::Flow(datagram(INSIDE, REGISTRAR)));
    assert_eq!(request_uri(&sent.request), "sip:203.0.113.200");
    assert_eq!(values(&sent.request, Name::Via).len(), 1, "the one of no hop is gone");
    assert!(
        header(&sent.request, Name::Via).unwrap().starts_with("SIP/2.0/UDP 203.0.113.10:5060;rport;branch=")
    );
    assert_eq!(header(&sent.request, Name::Contact).unwrap(), "<sip:trunk@203.0.113.10:5060>");
    assert_eq!(header(&sent.request, Name::To).unwrap(), "<sip:4930@carrier.example>");
    assert!(header(&sent.request, Name::From).unwrap().starts_with("<sip:4930@carrier.example>;tag="));
    assert_eq!(header(&sent.request, Name::Expires).unwrap(), "600");
    assert_eq!(header(&sent.request, Name::MaxForwards).unwrap(), "70");
    assert_eq!(header(&sent.request, Name::MaxBreadth), None);
    Message::parse(&sent.request).unwrap().validate().unwrap();
    assert_eq!(state(&scene), RegistrationState::Registering);
}

/// RFC 3261 §22.2: with credentials it is another request: another branch and a higher CSeq, all else the same.
#[test]
fn a_challenge_is_answered_and_the_password_never_shown() {
    let mut scene = scene();
    let sent = register(&mut scene);

    let again = only_left(&scene.reply(&sent, 401, CHALLENGE));

    let credentials = header(&again.request, Name::Authorization).unwrap();
    assert!(
        credentials.starts_with("Digest username=\"4930\", realm=\"carrier\", nonce=\"n1\""),
        "{credentials}"
    );
    assert!(credentials.contains("uri=\"sip:203.0.113.200\""), "{credentials}");
    assert!(!String::from_utf8_lossy(&again.request).contains("secret"));
    assert_eq!(cseq(&again.request), cseq(&sent.request) + 1);
    assert_eq!(header(&again.request, Name::CallId), header(&sent.request, Name::CallId));
    assert_ne!(header(&again.request, Name::Via), header(&sent.request, Name::Via));
    assert!(scene.reply(&again, 200, GRANTED).iter().all(|output| matches!(output, Output::Publish(_))));
    assert_eq!(state(&scene), RegistrationState::Registered);
    assert_eq!(scene.counts().of(Count::CarrierChallenged), 1);
    assert_eq!(scene.counts().of(Count::CarrierRegistered), 1);
    assert_eq!(scene.user.contexts(), 0, "nothing is left of it");
}

#[test]
fn a_registration_is_made_anew_before_it_ends_with_the_nonce_that_is_known() {
    let mut scene = registered();
    let before = view(&scene);
    let next = before.next_in.unwrap();
    assert!(next >= Duration::from_secs(84) && next <= Duration::from_secs(102), "{next:?} of 120 seconds");

    assert!(left(&scene.pass(next - Duration::from_secs(1))).is_empty());
    let sent = only_left(&scene.pass(Duration::from_secs(1)));

    assert!(header(&sent.request, Name::Authorization).unwrap().contains("nc=00000002"));
    scene.reply(&sent, 200, GRANTED);
    assert_eq!(state(&scene), RegistrationState::Registered);
}

#[test]
fn a_wrong_password_is_tried_once_and_then_seldom() {
    let mut scene = scene();
    let sent = register(&mut scene);
    let again = only_left(&scene.reply(&sent, 401, CHALLENGE));

    let out = scene.reply(&again, 401, "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n2\"");

    assert!(left(&out).is_empty());
    let view = view(&scene);
    assert_eq!((view.state, view.failures), (RegistrationState::Refused, 1));
    assert_eq!(view.last_answer.unwrap().1, "401 Unauthorized");
    assert!(view.next_in.unwrap() >= Duration::from_secs(150));
    let sent = only_left(&scene.pass(Duration::from_secs(300)));
    assert_eq!(header(&sent.request, Name::Authorization), None, "it begins anew");
}

/// RFC 3261 §10.2.8: the registrar says how short is too short.
#[test]
fn a_registrar_that_wants_more_time_gets_it_at_once() {
    let mut scene = scene();
    let sent = register(&mut scene);

    scene.reply(&sent, 423, "Min-Expires: 1800");
    let again = only_left(&scene.pass(Duration::ZERO));

    assert_eq!(header(&again.request, Name::Expires).unwrap(), "1800");
    assert!(cseq(&again.request) > cseq(&sent.request));
    scene.reply(&again, 423, "Min-Expires: 900");
    assert_eq!(state(&scene), RegistrationState::Refused, "that was not more");
}

#[test]
fn a_carrier_that_is_silent_or_busy_is_asked_again_ever_more_seldom() {
    let mut scene = scene();
    let mut waits = Vec::new();
    let mut sent = register(&mut scene);
    for _ in 0..12 {
        let out = scene.client_event(sent.key, ClientEvent::TimedOut);
        assert!(left(&out).is_empty());
        let wait = view(&scene).next_in.unwrap();
        waits.push(wait.as_secs());
        sent = only_left(&scene.pass(wait));
    }
    assert!(waits[0] >= 4 && waits[0] <= 8, "{waits:?}");
    assert!(waits[11] >= 300 && waits[11] <= 600, "{waits:?}");
    let said = view(&scene);
    assert_eq!(
        (said.state, said.last_answer.unwrap().1.as_str()),
        (RegistrationState::Unreachable, "no answer")
    );

    scene.reply(&sent, 503, "Retry-After: 900 (night)");
    let said = view(&scene);
    assert_eq!(said.next_in, Some(Duration::from_secs(900)));
    assert_eq!(said.last_answer.unwrap().1, "503 Service Unavailable");
}

#[test]
fn a_forbidden_account_is_said_and_tried_seldom() {
    for status in [403, 404, 302, 603] {
        let mut scene = scene();
        let sent = register(&mut scene);

        scene.reply(&sent, status, "");

        let view = view(&scene);
        assert_eq!(view.state, RegistrationState::Refused, "{status}");
        assert!(view.next_in.unwrap() >= Duration::from_secs(150), "{status}");
    }
}

#[test]
fn what_the_carrier_grants_counts_and_not_what_was_wished() {
    for (extra, granted) in [
        ("Contact: <sip:trunk@192.0.2.5:5060>;expires=300", 300),
        ("Contact: <sip:other@192.0.2.9>;expires=30\nContact: <sip:trunk@198.51.100.1>;expires=200", 200),
        ("Contact: <sip:trunk@192.0.2.5:5060>\nExpires: 60", 60),
        ("Expires: 90", 90),
        ("", 600),
        ("Contact: <sip:trunk@192.0.2.5:5060>;expires=4000000000", 86_400),
    ] {
        let mut scene = scene();
        let sent = register(&mut scene);

        scene.reply(&sent, 200, extra);

        assert_eq!(view(&scene).granted_for, Some(Duration::from_secs(granted)), "{extra}");
    }
    let mut scene = scene();
    let sent = register(&mut scene);
    scene.reply(&sent, 200, "Contact: <sip:trunk@192.0.2.5:5060>;expires=0");
    assert_eq!(state(&scene), RegistrationState::Unreachable);
}

#[test]
fn a_restart_goes_on_with_the_call_id_and_a_higher_cseq() {
    let first = register(&mut scene());
    let mut later = scene();
    later.pass(Duration::from_secs(20));
    // The same key, another start.
    let mut restarted = scene();
    restarted.now = later.now;
    restarted.user.reload(Arc::new(settings_with(trunk(|_| {}))));
    restarted.user.assign_registrations(|_| true);

    let second = only_left(&restarted.pass(Duration::ZERO));

    assert_eq!(header(&first.request, Name::CallId), header(&second.request, Name::CallId));
    assert!(cseq(&second.request) > cseq(&first.request) + 3);
}

#[test]
fn a_reload_touches_only_what_has_changed() {
    let mut scene = registered();
    scene.user.reload(Arc::new(settings_with(trunk(|_| {}))));
    scene.user.assign_registrations(|_| true);
    assert!(left(&scene.pass(Duration::from_secs(1))).is_empty());
    assert_eq!(state(&scene), RegistrationState::Registered);

    let mut changed = trunk(|_| {});
    Arc::make_mut(&mut changed).login.password = Password::new("better");
    scene.user.reload(Arc::new(settings_with(changed)));
    scene.user.assign_registrations(|_| true);
    let sent = only_left(&scene.pass(Duration::from_secs(1)));
    assert_eq!(
        header(&sent.request, Name::Authorization),
        None,
        "what was proved with another password is forgotten"
    );

    scene.user.reload(Arc::new(settings()));
    scene.user.assign_registrations(|_| true);
    assert!(scene.user.registrations(scene.now).is_empty());
    assert!(scene.reply(&sent, 200, GRANTED).is_empty(), "nobody is interested");
}

#[test]
fn what_changes_while_a_register_is_under_way_is_registered_after_it() {
    let mut scene = scene();
    let sent = register(&mut scene);
    scene.user.reload(Arc::new(settings_with(trunk(|registration| registration.expires *= 2))));
    scene.user.assign_registrations(|_| true);
    assert!(left(&scene.pass(Duration::from_secs(1))).is_empty());

    scene.reply(&sent, 200, GRANTED);
    let again = only_left(&scene.pass(Duration::ZERO));

    assert_eq!(header(&again.request, Name::Expires).unwrap(), "1200");
    assert!(cseq(&again.request) > cseq(&sent.request));
}

#[test]
fn a_shard_keeps_what_its_call_ids_lead_to() {
    let mut scene = Scene::with(|settings| settings.trunks = vec![trunk(|_| {})]);

    scene.user.assign_registrations(|_| false);

    assert_eq!(scene.user.poll_timeout(), None);
    assert!(scene.user.registrations(scene.now).is_empty());
}

#[test]
fn a_stop_takes_back_what_is_not_to_stay() {
    for (at_stop, taken_back) in [(AtStop::Remove, true), (AtStop::Stay, false)] {
        let mut scene = registered_with(trunk(|registration| registration.at_stop = at_stop));
        let mirror = lease::LeaseMirror::permanent();
        let (lease, mut out) = (mirror.active(scene.now.instant).unwrap(), Vec::new());

        scene.user.handle_stop(scene.now, &lease, &mut out);

        assert_eq!(scene.user.has_own_requests(), taken_back);
        if taken_back {
            let sent = only_left(&out);
            assert_eq!(header(&sent.request, Name::Expires).unwrap(), "0");
            scene.reply(&sent, 200, "");
            assert!(!scene.user.has_own_requests());
        }
        assert!(left(&scene.pass(Duration::from_secs(600))).is_empty(), "nothing follows");
    }
}

#[test]
fn what_a_registrar_taught_is_told_to_every_shard() {
    let mut scene = scene();
    let sent = register(&mut scene);
    let again = only_left(&scene.reply(&sent, 401, CHALLENGE));

    let out = scene.reply(&again, 200, GRANTED);

    let news = CarrierNews {
        trunk: "carrier".into(),
        addresses: ["203.0.113.200".parse().unwrap()].into(),
        realm: Some(Bytes::from_static(b"carrier")),
    };
    assert_eq!(out, [Output::Publish(Arc::new(news))]);
}

#[test]
fn a_call_to_our_contact_is_for_whom_the_operator_named() {
    let mut scene = registered();
    let call = invite("sip:trunk@192.0.2.5:5060")
        .from("<sip:49170@carrier.example>;tag=alice-tag")
        .to("<sip:4930@carrier.example>")
        .header("P-Asserted-Identity: <sip:+49170@carrier.example>");

    let out = scene.receive(REGISTRAR, &call.text());

    assert_eq!(statuses(&out), [100]);
    let (token, question) = only_ask(&out);
    assert_eq!(question, Question::Call(Aor::parse("reception@example.org").unwrap()));
    let sent = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    assert_eq!(
        header(&sent.request, Name::PAssertedIdentity).unwrap(),
        "<sip:+49170@carrier.example>",
        "the carrier knows who calls"
    );
}

#[test]
fn the_number_that_was_dialled_can_say_whom_a_call_is_for() {
    let dialled = |uri: &str, to: &str| {
        let mut by_number = trunk(|_| {});
        Arc::make_mut(&mut by_number).called = Some(Called::Dialled { domain: "example.org".into() });
        let mut scene = registered_with(by_number);
        let out = scene.receive(REGISTRAR, &invite(uri).to(to).text());
        match only_ask(&out).1 {
            Question::Call(aor) => aor.to_string(),
            other => panic!("{other:?}"),
        }
    };

    assert_eq!(dialled("sip:493011@192.0.2.5", "<sip:493012@carrier.example>"), "493011@example.org");
    assert_eq!(dialled("sip:trunk@192.0.2.5", "<sip:493012@carrier.example>"), "493012@example.org");
    assert_eq!(dialled("sip:trunk@192.0.2.5", "<tel:+49-30-13>"), "+493013@example.org");
}

#[test]
fn nobody_else_gets_in_by_a_registration() {
    let refused = |scene: &mut Scene, from: &str, request: &Request| {
        let out = scene.receive(from, &request.text());
        statuses(&out)
    };
    let call = invite("sip:trunk@192.0.2.5:5060");

    let mut scene = registered();
    assert_eq!(refused(&mut scene, STRANGER, &call), [407]);
    let foreign = invite("sip:00900@elsewhere.example").via("SIP/2.0/UDP 203.0.113.200;branch=z9hG4bK-2");
    assert_eq!(refused(&mut scene, REGISTRAR, &foreign), [407], "no call to elsewhere");
    let register = super::scene::register().via("SIP/2.0/UDP 203.0.113.200;branch=z9hG4bK-3");
    assert_eq!(refused(&mut scene, REGISTRAR, &register), [401], "no binding of our users");

    let mut closed = trunk(|_| {});
    Arc::make_mut(&mut closed).called = None;
    assert_eq!(refused(&mut registered_with(closed), REGISTRAR, &call), [407]);
    assert_eq!(refused(&mut super::trunk::scene(), REGISTRAR, &call), [407], "it is not registered yet");
}

#[test]
fn a_carrier_that_refuses_us_has_no_call_let_in() {
    let mut scene = registered();
    let sent = only_left(&scene.pass(view(&scene).next_in.unwrap()));

    let out = scene.reply(&sent, 403, "");

    assert!(matches!(&out[..], [Output::Publish(news)] if news.addresses.is_empty()), "{out:?}");
    learn(&mut scene, &out);
    let out = scene.receive(REGISTRAR, &invite("sip:trunk@192.0.2.5:5060").text());
    assert_eq!(statuses(&out), [407]);
}

/// RFC 3261 §12.2.2: within a dialog the number stays, because those that follow could not grow with it.
#[test]
fn a_carrier_that_asks_in_mid_call_is_answered() {
    let mut scene = registered();
    let call = invite("sip:trunk@192.0.2.5:5060")
        .from("<sip:49170@carrier.example>;tag=alice-tag")
        .contact("<sip:49170@203.0.113.200:5060>");
    let (token, _) = only_ask(&scene.receive(REGISTRAR, &call.text()));
    let sent = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    scene.reply(&sent, 200, "Contact: <sip:bob@192.0.2.102:5060>");
    let bye = in_dialog("BYE", &sent, 7);

    let left = only_left(&scene.receive(BOB, &bye));
    assert_eq!(header(&left.request, Name::ProxyAuthorization), None);
    let out =
        scene.reply(&left, 407, "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"b1\", qop=\"auth\"");

    assert!(responses(&out).is_empty(), "the phone knows nothing of our account");
    let again = only_left(&out);
    assert_eq!((cseq(&left.request), cseq(&again.request)), (7, 7));
    assert_ne!(header(&left.request, Name::Via), header(&again.request, Name::Via));
    let credentials = header(&again.request, Name::ProxyAuthorization).unwrap();
    assert!(credentials.contains("uri=\"sip:49170@203.0.113.200:5060\""), "{credentials}");
    assert_eq!(statuses(&scene.reply(&again, 200, "")), [200]);

    // What follows brings it along.
    let next = only_left(&scene.receive(BOB, &in_dialog("INFO", &sent, 8)));
    assert!(header(&next.request, Name::ProxyAuthorization).unwrap().contains("nc=00000002"));
}

/// A challenge that our account can not answer says nothing to the phone that could not either.
#[test]
fn a_carrier_that_does_not_accept_the_answer_is_a_bad_gateway() {
    let mut scene = registered();
    let call = invite("sip:trunk@192.0.2.5:5060").contact("<sip:49170@203.0.113.200:5060>");
    let (token, _) = only_ask(&scene.receive(REGISTRAR, &call.text()));
    let sent = only_left(&scene.answer(token, Answer::Located(Located::Targets(vec![bob()]))));
    scene.reply(&sent, 200, "Contact: <sip:bob@192.0.2.102:5060>");
    let left = only_left(&scene.receive(BOB, &in_dialog("INFO", &sent, 7)));
    let ask = |nonce: &str| format!("Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"{nonce}\"");
    let again = only_left(&scene.reply(&left, 407, &ask("1")));

    assert_eq!(statuses(&scene.reply(&again, 407, &ask("2"))), [502]);
    assert_eq!(scene.counts().of(Count::CarrierRefused), 1);

    let foreign = only_left(&scene.receive(BOB, &in_dialog("INFO", &sent, 9)));
    let out = scene.reply(&foreign, 401, "WWW-Authenticate: Digest realm=\"callee\", nonce=\"x\"");
    assert_eq!(statuses(&out), [401], "what is not our carrier's goes on to who may know it");
}

/// RFC 3261 §22.2: the number grows with the credentials, and whoever called goes on counting as before.
#[test]
fn a_call_that_is_challenged_goes_on_with_numbers_of_its_own() {
    let mut scene = registered();
    let call = invite("sip:0170@203.0.113.200").contact("<sip:alice@192.0.2.101:5060>");
    let first = only_left(&begin_at_carrier(&mut scene, &call));
    assert_eq!(cseq(&first.request), 1);

    let out =
        scene.reply(&first, 407, "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"i1\", qop=\"auth\"");
    assert!(responses(&out).is_empty(), "who calls knows nothing of our account");
    let second = only_left(&out);
    assert!(
        header(&second.request, Name::ProxyAuthorization).unwrap().contains("uri=\"sip:0170@203.0.113.200\"")
    );
    assert_eq!(header(&second.request, Name::CSeq).unwrap(), "2 INVITE");
    assert_ne!(values(&first.request, Name::RecordRoute), values(&second.request, Name::RecordRoute));

    // Upstream the number is the caller's.
    let reliable = "Require: 100rel\nRSeq: 9\nContact: <sip:0170@203.0.113.200:5060>";
    let ringing = only_response(&scene.reply(&second, 183, reliable));
    assert_eq!(header(&ringing, Name::CSeq).unwrap(), "1 INVITE");
    let prack = of_caller(&second, "PRACK", 2).replace("Max-Forwards", "RAck: 9 1 INVITE\nMax-Forwards");
    let prack = only_left(&scene.receive(ALICE, &prack));
    assert_eq!(header(&prack.request, Name::CSeq).unwrap(), "3 PRACK");
    assert_eq!(header(&prack.request, Name::Rack).unwrap(), "9 2 INVITE");
    let accepted = only_response(&scene.reply(&prack, 200, ""));
    assert_eq!(header(&accepted, Name::CSeq).unwrap(), "2 PRACK");

    let answered = only_response(&scene.reply(&second, 200, "Contact: <sip:0170@203.0.113.200:5060>"));
    assert_eq!(header(&answered, Name::CSeq).unwrap(), "1 INVITE");
    let out = scene.receive(ALICE, &of_caller(&second, "ACK", 1));
    let [Output::SendStateless { message: ack, .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(header(ack, Name::CSeq).unwrap(), "2 ACK");

    // Also where the account was taken out of the configuration since.
    scene.user.reload(Arc::new(settings()));
    let bye = only_left(&scene.receive(ALICE, &of_caller(&second, "BYE", 3)));
    assert_eq!(header(&bye.request, Name::CSeq).unwrap(), "4 BYE");
    let ended = only_response(&scene.reply(&bye, 200, ""));
    assert_eq!(header(&ended, Name::CSeq).unwrap(), "3 BYE");
}

#[test]
fn the_next_call_brings_its_answer_along_and_keeps_its_numbers() {
    let mut scene = registered();
    let first = only_left(&begin_at_carrier(&mut scene, &invite("sip:0170@203.0.113.200")));
    scene.reply(&first, 407, "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"i1\", qop=\"auth\"");

    let other = Request { call_id: "call-2".into(), ..invite("sip:0171@203.0.113.200") };
    let sent =
        only_left(&begin_at_carrier(&mut scene, &other.via("SIP/2.0/UDP 192.0.2.101;branch=z9hG4bKy")));

    assert!(header(&sent.request, Name::ProxyAuthorization).unwrap().contains("nc=00000002"));
    assert_eq!(cseq(&sent.request), 1);
}

/// RFC 3261 §9.1: what was cancelled is not begun again.
#[test]
fn a_call_that_was_cancelled_is_not_sent_again_for_a_challenge() {
    let mut scene = registered();
    let call = invite("sip:0170@203.0.113.200");
    let first = only_left(&begin_at_carrier(&mut scene, &call));
    let cancel = Request { method: "CANCEL", contact: String::new(), ..call };
    assert_eq!(statuses(&scene.receive(ALICE, &cancel.text())), [200]);

    let out = scene.reply(&first, 407, "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"i1\"");

    assert!(left(&out).is_empty(), "{out:?}");
    assert_eq!(responses(&out).len(), 1);
}

/// Forwards a request to the carrier, as a route to a gateway does.
fn begin_at_carrier(scene: &mut Scene, request: &Request) -> Vec<Output> {
    let bytes = Bytes::from(request.text().replace('\n', "\r\n"));
    let message = Message::parse(&bytes).unwrap();
    let key = transaction::ServerKey::of(&scene.keyring.transaction, &message).unwrap();
    let mut inbound = scene.user.inbound(udp(UDP, ALICE), &bytes, &message).unwrap();
    inbound.sender = Some(Sender::Trusted);
    let mut aim = Aim::at_uri(inbound.routed.request_uri.clone(), Size::Counts);
    aim.account = inbound.settings.trunk("carrier").cloned();
    let mut out = Vec::new();
    let turn = Turn { now: scene.now, key, flow: inbound.source.flow, request: &message };
    scene.user.begin(turn, inbound, Plan::of(vec![Round::at_server(aim)]), &mut out);
    out
}

/// A request from the one who called, within the dialog of an INVITE that has left.
fn of_caller(invite: &Left, method: &str, cseq: u32) -> String {
    let line = |name| header(&invite.request, name).unwrap();
    let mut routes = values(&invite.request, Name::RecordRoute);
    routes.reverse();
    let routes: String = routes.iter().map(|route| format!("Route: {route}\n")).collect();
    format!(
        "{method} sip:0170@203.0.113.200:5060 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-{method}-{cseq}\n\
         {routes}Max-Forwards: 70\nFrom: {}\nTo: {};tag=callee-tag\nCall-ID: {}\nCSeq: {cseq} {method}\n\
         Content-Length: 0\n\n",
        line(Name::From),
        line(Name::To),
        line(Name::CallId)
    )
}

/// A request from the one who was called, within the dialog of an INVITE that has left.
fn in_dialog(method: &str, invite: &Left, cseq: u32) -> String {
    let message = Message::parse(&invite.request).unwrap();
    let line = |name| String::from_utf8_lossy(message.header(name).unwrap()).into_owned();
    let routes: String =
        values(&invite.request, Name::RecordRoute).iter().map(|route| format!("Route: {route}\n")).collect();
    format!(
        "{method} sip:49170@203.0.113.200:5060 SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.102:5060;branch=z9hG4bK-{method}-{cseq}\n\
         {routes}Max-Forwards: 70\nFrom: {};tag=callee-tag\nTo: {}\nCall-ID: {}\nCSeq: {cseq} {method}\n\
         Content-Length: 0\n\n",
        line(Name::To),
        line(Name::From),
        line(Name::CallId)
    )
}

const CHALLENGE: &str =
    "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"";
const GRANTED: &str = "Contact: <sip:trunk@192.0.2.5:5060>;expires=120";

fn trunk(change: impl FnOnce(&mut Registration)) -> Arc<Trunk> {
    let mut registration = Registration {
        registrar: "sip:203.0.113.200".into(),
        address: "sip:4930@carrier.example".into(),
        contact_user: "trunk".into(),
        expires: Duration::from_secs(600),
        listener: None,
        proxy: None,
        at_stop: AtStop::Stay,
    };
    change(&mut registration);
    Arc::new(Trunk {
        name: "carrier".into(),
        login: Login { username: "4930".into(), password: Password::new("secret"), realm: None },
        registration: Some(registration),
        called: Some(Called::One(Aor::parse("reception@example.org").unwrap())),
    })
}

fn settings_with(trunk: Arc<Trunk>) -> Settings {
    Settings { trunks: vec![trunk], ..settings() }
}

fn scene() -> Scene {
    Scene::with(|settings| settings.trunks = vec![trunk(|_| {})])
}

/// The first REGISTER.
fn register(scene: &mut Scene) -> Left {
    scene.user.assign_registrations(|_| true);
    assert_eq!(scene.user.poll_timeout(), Some(Instant::START));
    only_left(&scene.pass(Duration::ZERO))
}

fn registered() -> Scene {
    registered_with(trunk(|_| {}))
}

fn registered_with(trunk: Arc<Trunk>) -> Scene {
    let mut scene = Scene::with(|settings| settings.trunks = vec![trunk]);
    let sent = register(&mut scene);
    let again = only_left(&scene.reply(&sent, 401, CHALLENGE));
    let out = scene.reply(&again, 200, GRANTED);
    learn(&mut scene, &out);
    scene
}

fn learn(scene: &mut Scene, out: &[Output]) {
    for output in out {
        if let Output::Publish(news) = output {
            scene.user.handle_news(Arc::clone(news));
        }
    }
}

fn view(scene: &Scene) -> RegistrationView {
    scene.user.registrations(scene.now).remove(0)
}

fn state(scene: &Scene) -> RegistrationState {
    view(scene).state
}

fn cseq(request: &[u8]) -> u32 {
    Message::parse(request).unwrap().cseq().unwrap().number
}

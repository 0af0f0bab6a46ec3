//! Numbers that go to gateways: who may, which way, in what form, and what comes back.

use std::sync::Arc;
use std::time::Duration;

use sip::{Aor, Name, Status};
use transport::Destination;

use super::scene::*;
use crate::call::Output;
use crate::dial_plan::samples::{gateway, route};
use crate::dial_plan::{CallerName, CallerPlace, CallerRules, Goal, HeaderEdits, Rewrite};
use crate::gateway::{Failure, Outcome, Verdict, Verdicts};
use crate::{Answer, CallName, Count, Gateway, Located, Question, Route, Token};

const A: &str = "198.51.100.1:5060";
const B: &str = "198.51.100.2:5060";

#[test]
fn a_number_goes_to_the_gateway_of_its_route_in_the_form_that_both_want() {
    let a = Gateway {
        rewrite: Rewrite { strip: 1, prefix: "9".into() },
        headers: edits(&["x-internal"], &[("X-Trunk", "7")]),
        ..at("a", A)
    };
    let mut out = to(&["00."], &[&a]);
    out.rewrite = Rewrite { strip: 2, prefix: "+".into() };
    out.headers = edits(&[], &[("X-Route", "abroad"), ("X-Shown", "new")]);
    for uri in ["tel:00-49-30-1", "sip:0049301@example.org", "sip:0049301@192.0.2.5;user=phone"] {
        let mut scene = scene(vec![a.clone()], vec![out.clone()]);
        let request =
            invite(uri).header("X-Internal: secret").header("X-Shown: old").header("X-Other: stays");

        let left = only_left(&dial(&mut scene, &request));

        assert_eq!(left.to, Destination::Flow(datagram(UDP, A)), "{uri}");
        assert_eq!(request_uri(&left.request), format!("sip:949301@{A}"));
        let text = String::from_utf8_lossy(&left.request).into_owned();
        for line in ["X-Trunk: 7\r\n", "X-Route: abroad\r\n", "X-Shown: new\r\n", "X-Other: stays\r\n"] {
            assert_eq!(text.matches(line).count(), 1, "{line} {text}");
        }
        assert!(!text.contains("secret") && !text.contains("old"), "{text}");
        assert!(header(&left.request, Name::To).unwrap().contains(uri), "To is nobody's to change");
    }
}

#[test]
fn a_user_of_ours_is_found_before_any_route() {
    let mut scene = scene(vec![at("a", A)], vec![to(&["."], &[&at("a", A)])]);

    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]);

    assert_eq!(request_uri(&only_left(&out).request), "sip:bob@192.0.2.102:5060");
}

#[test]
fn a_number_goes_its_route_while_nobody_can_say_whether_it_is_an_account() {
    for (number, goal, status) in [("110", "a", None), ("1100", "a", Some(500)), ("110", "nobody", Some(500))]
    {
        let mut out = to(&["110"], &[&at("a", A)]);
        if goal == "nobody" {
            out.goal = Goal::Reject(Status::NOT_FOUND);
        }
        let mut scene = scene(vec![at("a", A)], vec![out]);
        let (token, _) =
            only_ask(&scene.send_as_account(ALICE, &invite(&format!("sip:{number}@example.org"))));

        let got = scene.answer(token, Answer::Located(Located::Unavailable));

        match status {
            None => assert_eq!(request_uri(&only_left(&got).request), format!("sip:110@{A}")),
            Some(status) => {
                assert_eq!((left(&got).len(), statuses(&got)), (0, vec![status]), "{number} {goal}")
            }
        }
    }
}

#[test]
fn a_number_that_no_route_fits_is_not_found() {
    let mut scene = scene(vec![at("a", A)], vec![to(&["110"], &[&at("a", A)])]);

    assert_eq!(statuses(&dial(&mut scene, &invite("sip:1100@example.org"))), [404]);
}

#[test]
fn a_route_can_refuse() {
    let mut scene = scene(vec![], vec![route("no", &["0900."], Goal::Reject(Status(603)))]);

    assert_eq!(statuses(&dial(&mut scene, &invite("sip:09001@example.org"))), [603]);
    assert_eq!(scene.counts().of(Count::RouteRefused), 1);
}

/// RFC 3261 §16.7: a failure of the server is not the callee's.
#[test]
fn the_next_gateway_is_tried_where_one_fails_at_the_call_and_not_where_the_call_itself_fails() {
    for (status, goes_on) in
        [(503, true), (500, true), (408, true), (504, true), (404, false), (486, false), (403, false)]
    {
        let mut scene = two_gateways();
        let first = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
        scene.reply(&first, 100, "");

        let out = scene.reply(&first, status, "");

        match goes_on {
            true => {
                assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, B)), "{status}");
                let second = only_left(&out);
                assert_eq!(statuses(&scene.reply(&second, 200, "")), [200]);
            }
            false => assert_eq!((left(&out).len(), statuses(&out)), (0, vec![status]), "{status}"),
        }
        assert_eq!(statuses(&out).len(), usize::from(!goes_on));
    }
}

#[test]
fn a_gateway_that_is_silent_is_given_up_in_time_and_cancelled_if_it_speaks_after_all() {
    let mut scene = two_gateways();
    let first = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
    assert!(left(&scene.pass(Duration::from_millis(3_999))).is_empty());

    let out = scene.pass(Duration::from_millis(1));

    let second = only_left(&out);
    assert_eq!(second.to, Destination::Flow(datagram(UDP, B)));
    assert_eq!(outcomes(&out), [("a".to_owned(), Outcome::Failed(Failure::Silent))]);
    let late = scene.reply(&first, 180, "");
    assert_eq!(method(&only_left(&late).request), "CANCEL");
    // What the callee says at the second one is passed on at once, though the first one has not ended.
    assert_eq!(statuses(&scene.reply(&second, 486, "")), Vec::<u16>::new());
    assert_eq!(statuses(&scene.reply(&first, 487, "")), [486]);
}

#[test]
fn nobody_waits_for_a_gateway_that_was_given_up() {
    let mut scene = two_gateways();
    let _first = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
    let second = only_left(&scene.pass(Duration::from_secs(4)));

    assert_eq!(statuses(&scene.reply(&second, 486, "")), [486]);
}

#[test]
fn a_gateway_that_has_all_its_calls_is_left_out_and_if_all_are_the_caller_is_told() {
    let (mut scene, token, _) = limited();

    let out = scene.answer(token, Answer::GatewayFull);

    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, B)));
    assert_eq!(outcomes(&out), [], "it did nothing wrong");

    let (mut scene, token, _) = all_limited();
    let out = scene.answer(token, Answer::GatewayFull);
    let (token, _) = only_ask(&out);
    let out = scene.answer(token, Answer::GatewayFull);
    let text = String::from_utf8_lossy(&only_response(&out)).into_owned();
    assert!(text.starts_with("SIP/2.0 503 All Gateways Full\r\n") && text.contains("Retry-After"), "{text}");
    assert_eq!(scene.counts().of(Count::GatewayFull), 2);
}

#[test]
fn a_call_has_its_place_at_a_gateway_until_it_fails_there_or_ends() {
    let (mut scene, token, enter) = limited();
    let Question::EnterGateway(gateway, call, 1) = enter.clone() else { panic!("{enter:?}") };
    let first = only_left(&scene.answer(token, Answer::AtGateway(gateway.clone(), call)));
    assert_eq!(first.to, Destination::Flow(datagram(UDP, A)));

    let out = scene.reply(&first, 503, "");
    assert_eq!(gateways_left(&out), [(gateway.clone(), call)], "it goes on at the other one");
    let second = only_left(&out);
    assert_eq!(gateways_left(&scene.reply(&second, 404, "")), []);

    let (mut scene, token, _) = limited();
    let first = only_left(&scene.answer(token, Answer::AtGateway(gateway.clone(), call)));
    assert_eq!(gateways_left(&scene.reply(&first, 180, "")), []);
    assert_eq!(gateways_left(&scene.reply(&first, 200, "")), [], "it is up");
    let out = scene.pass(settings().proxy.longest_call + Duration::from_secs(1));
    assert_eq!(gateways_left(&out), [(gateway.clone(), call)]);

    // Nobody waits for the place any more.
    let (mut scene, token, _) = limited();
    scene.pass(Duration::from_secs(11));
    let out = scene.answer(token, Answer::AtGateway(gateway.clone(), call));
    assert_eq!(gateways_left(&out), [(gateway, call)]);
}

/// RFC 3261 §16.7: a 2xx is passed on whoever sends it.
#[test]
fn a_gateway_that_was_given_up_may_still_answer_the_call() {
    let mut scene = two_gateways();
    let first = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
    let second = only_left(&scene.pass(Duration::from_secs(4)));
    scene.reply(&second, 180, "");

    let out = scene.reply(&first, 200, "");

    assert_eq!(statuses(&out), [200]);
    assert_eq!(left(&out).iter().map(|left| method(&left.request)).collect::<Vec<_>>(), ["CANCEL"]);
}

#[test]
fn the_last_gateway_is_left_to_the_timers_of_the_transaction() {
    let mut scene = scene(vec![at("a", A)], vec![to(&["110"], &[&at("a", A)])]);
    let only = only_left(&dial(&mut scene, &invite("sip:110@example.org")));

    assert_eq!(scene.pass(Duration::from_secs(20)), []);
    assert_eq!(statuses(&scene.reply(&only, 180, "")), [180]);
}

#[test]
fn what_the_prober_thinks_decides_who_is_tried_first_and_who_not_at_all() {
    let mut scene = two_gateways();
    scene.user.handle_verdicts(verdicts(&[("a", Verdict::Doubtful)], 1));
    assert_eq!(only_left(&dial(&mut scene, &invite("sip:110@example.org"))).to.remote().to_string(), B);

    let mut scene = two_gateways();
    scene.user.handle_verdicts(verdicts(&[("a", Verdict::Out), ("b", Verdict::Out)], 1));
    assert_eq!(statuses(&dial(&mut scene, &invite("sip:110@example.org"))), [503]);
}

#[test]
fn the_prober_hears_once_what_became_of_each_request() {
    for (replies, outcome) in [
        (&[(100, ""), (180, ""), (486, "")][..], Outcome::Answered),
        (&[(404, "")], Outcome::Answered),
        (&[(100, ""), (503, "")], Outcome::Failed(Failure::Refused(Status(503)))),
        (&[(503, "Retry-After: 20 (soon)")], Outcome::Busy(Duration::from_secs(20))),
        (&[(503, "Retry-After: 0")], Outcome::Failed(Failure::Refused(Status(503)))),
        (&[(408, "")], Outcome::Failed(Failure::Refused(Status(408)))),
    ] {
        let mut scene = scene(vec![at("a", A)], vec![to(&["110"], &[&at("a", A)])]);
        let only = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
        let mut told = Vec::new();
        for (status, extra) in replies {
            told.extend(outcomes(&scene.reply(&only, *status, extra)));
        }
        assert_eq!(told, [("a".to_owned(), outcome)], "{replies:?}");
    }
    let mut scene = scene(vec![at("a", A)], vec![to(&["110"], &[&at("a", A)])]);
    let only = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
    let out = scene.client_event(only.key, transaction::ClientEvent::TimedOut);
    assert_eq!(outcomes(&out), [("a".to_owned(), Outcome::Failed(Failure::Silent))]);
}

#[test]
fn a_stranger_reaches_no_gateway_by_any_way() {
    let a = Gateway { sources: vec!["198.51.100.1/32".parse().unwrap()], ..at("a", A) };
    let mut in_ = route("in", &[], Goal::User { user: None, domain: "example.org".into() });
    in_.fits.gateways = vec!["a".into()];
    let mut scene = scene(vec![a.clone()], vec![in_, to(&["."], &[&a])]);
    for uri in ["sip:110@example.org", "tel:110", &format!("sip:110@{A}"), "sip:110@198.51.100.1"] {
        for header in
            ["X: 1", "Route: <sip:198.51.100.1;lr>", "Route: <sip:192.0.2.5;lr>, <sip:198.51.100.1;lr>"]
        {
            for from in ["<sip:alice@example.org>;tag=1", "<sip:1@198.51.100.1>;tag=1"] {
                let request = invite(uri).header(header).from(from);
                let out = scene.receive(STRANGER, &request.text());
                assert!(left(&out).is_empty() && is_stateless(&out), "{uri} {header} {out:?}");
            }
        }
    }
}

#[test]
fn a_user_of_ours_reaches_a_gateway_by_a_route_for_that_user_alone() {
    let a = at("a", A);
    let mut out = to(&["."], &[&a]);
    out.fits.callers = vec![CallerName::User(Aor::parse("bob@example.org").unwrap())];
    for (uri, status) in [
        ("sip:110@example.org", 404),
        ("tel:110", 404),
        (&*format!("sip:110@{A}"), 404),
        ("sip:1@198.51.100.1:99", 404),
    ] {
        let mut scene = scene(vec![a.clone()], vec![out.clone()]);
        let got = dial(&mut scene, &invite(uri));
        assert_eq!((left(&got).len(), statuses(&got).last()), (0, Some(&status)), "{uri}");
    }
    // Nor by a Route of her own, nor by a name that leads there.
    let mut scene = scene(vec![a.clone()], vec![out.clone()]);
    let request = invite("sip:110@example.org").header("Route: <sip:198.51.100.1;lr>");
    assert_eq!(statuses(&scene.send_as_account(ALICE, &request)), [100, 403]);
}

#[test]
fn a_name_that_somebody_else_points_at_a_gateway_leads_nowhere() {
    let a = at("a", A);
    let mut scene = scene(vec![a.clone()], vec![]);
    let asked = scene.send_as_account(ALICE, &invite("sip:110@evil.example:5060"));
    let Some(Output::Resolve { token, .. }) = asked.last() else { panic!("{asked:?}") };

    let records = transport::selection::Records::Addresses(vec!["198.51.100.1".parse().unwrap()]);
    let out = scene.resolved(*token, records);

    assert!(left(&out).is_empty(), "{out:?}");
}

#[test]
fn a_listener_without_digest_and_a_trusted_peer_get_out_only_by_a_route_that_names_them() {
    let a = at("a", A);
    let plain = to(&["110"], &[&a]);
    let mut by_source = plain.clone();
    by_source.fits.sources = vec!["198.51.100.200/32".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
    let senders = [udp(UDP, CARRIER), udp(OPEN, "10.1.0.9:5060")];
    for source in senders {
        let request = invite("sip:110@example.org");
        let mut closed = scene(vec![a.clone()], vec![plain.clone()]);
        let asked = closed.receive_by(source, &request.text());
        assert_eq!(statuses(&unknown(&mut closed, &asked)), [404]);

        let mut open = scene(vec![a.clone()], vec![by_source.clone()]);
        let asked = open.receive_by(source, &request.text());
        assert_eq!(only_left(&unknown(&mut open, &asked)).to.remote().to_string(), A);
    }
}

#[test]
fn a_call_of_a_gateway_reaches_the_user_that_its_number_is_and_nobody_abroad() {
    let a = Gateway { sources: vec!["198.51.100.1/32".parse().unwrap()], ..at("a", A) };
    let mut in_ = route("in", &["+4930123XX"], Goal::User { user: None, domain: "example.org".into() });
    in_.fits.gateways = vec!["a".into()];
    in_.rewrite = Rewrite { strip: 8, prefix: "ext".into() };
    let mut scene = scene(vec![a.clone()], vec![in_, to(&["."], &[&a])]);
    let did = invite("sip:+49-30-12342@192.0.2.5:5060").from("<sip:+441@198.51.100.1>;tag=1");

    let asked = scene.receive(A, &did.text());
    let asked = unknown(&mut scene, &asked);
    let (token, question) = only_ask(&asked);
    assert_eq!(question, Question::Call(Aor::parse("ext42@example.org").unwrap()));
    let out = scene.answer(token, Answer::Located(Located::Targets(vec![bob()])));
    assert_eq!(request_uri(&only_left(&out).request), "sip:bob@192.0.2.102:5060");
    assert_eq!(header(&only_left(&out).request, Name::From).unwrap(), "<sip:+441@198.51.100.1>;tag=1");

    // A user that is not there is not looked for a second time.
    let mut scene = two_gateways();
    for uri in ["sip:110@evil.example", "sip:110@192.0.2.5:5099", &format!("sip:110@{B}")] {
        let out = scene.receive(CARRIER, &invite(uri).text());
        assert!(left(&out).is_empty() || !uri.contains(B), "{uri} {out:?}");
    }
}

#[test]
fn a_route_to_a_user_that_is_not_there_ends() {
    let goal = Goal::User { user: Some("nobody".into()), domain: "example.org".into() };
    let mut scene = scene(vec![], vec![route("in", &["."], goal)]);

    let asked = dial(&mut scene, &invite("sip:110@example.org"));
    let out = unknown(&mut scene, &asked);

    assert_eq!(statuses(&out), [404]);
}

#[test]
fn a_gateway_is_told_who_calls_where_it_looks_for_that() {
    let rules = CallerRules {
        rewrite: Rewrite { strip: 0, prefix: "+4930123".into() },
        otherwise: Some("+49301230".into()),
        domain: Some("pbx.example".into()),
        place: CallerPlace::Asserted,
    };
    let pai = Name::PAssertedIdentity;
    for (user, place, name, value) in [
        ("21", CallerPlace::Asserted, pai, "<sip:+493012321@pbx.example>"),
        ("alice", CallerPlace::Asserted, pai, "<sip:+49301230@pbx.example>"),
        ("21", CallerPlace::Preferred, Name::PPreferredIdentity, "<sip:+493012321@pbx.example>"),
        ("21", CallerPlace::From, Name::From, "\"Al\" <sip:+493012321@pbx.example>;tag=alice-tag"),
        ("21", CallerPlace::Nowhere, Name::From, "\"Al\" <sip:21@example.org>;tag=alice-tag"),
    ] {
        let a = Gateway { caller: CallerRules { place, ..rules.clone() }, ..at("a", A) };
        let mut scene = scene(vec![a.clone()], vec![to(&["110"], &[&a])]);
        let request = invite("sip:110@example.org")
            .from(&format!("\"Al\" <sip:{user}@example.org>;tag=alice-tag"))
            .header("P-Asserted-Identity: <sip:liar@example.org>")
            .header("P-Preferred-Identity: <sip:liar@example.org>")
            .header("Remote-Party-ID: <sip:liar@example.org>");

        let left = only_left(&dial(&mut scene, &request));

        assert_eq!(values(&left.request, name), [value], "{user} {place:?}");
        assert!(!String::from_utf8_lossy(&left.request).contains("liar"));
    }
    let a = Gateway { caller: CallerRules { place: CallerPlace::RemoteParty, ..rules }, ..at("a", A) };
    let mut scene = scene(vec![a.clone()], vec![to(&["110"], &[&a])]);
    let left = only_left(&dial(&mut scene, &invite("sip:110@example.org")));
    let text = String::from_utf8_lossy(&left.request).into_owned();
    assert!(
        text.contains(
            "Remote-Party-ID: <sip:+49301230@pbx.example>;party=calling;screen=yes;privacy=off\r\n"
        )
    );
}

#[test]
fn the_number_of_a_route_stands_above_the_gateways_rules() {
    let a = Gateway {
        caller: CallerRules { otherwise: Some("1".into()), ..CallerRules::default() },
        ..at("a", A)
    };
    let mut out = to(&["110"], &[&a]);
    out.caller = Some("+4930999".into());
    let mut scene = scene(vec![a], vec![out]);

    let left = only_left(&dial(&mut scene, &invite("sip:110@example.org")));

    assert_eq!(values(&left.request, Name::PAssertedIdentity), ["<sip:+4930999@example.org>"]);
}

/// RFC 3323 §4.1, RFC 3325 §9.3: who wants privacy is named to the gateway alone, with the wish.
#[test]
fn a_caller_that_wants_privacy_keeps_it() {
    let anonymous = "\"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=alice-tag";
    for (from, header, place) in [
        (anonymous, "X: 1", CallerPlace::Asserted),
        ("<sip:alice@example.org>;tag=alice-tag", "Privacy: id", CallerPlace::Asserted),
        ("<sip:alice@example.org>;tag=alice-tag", "Privacy: id", CallerPlace::From),
        (anonymous, "X: 1", CallerPlace::RemoteParty),
    ] {
        let a = Gateway { caller: CallerRules { place, ..CallerRules::default() }, ..at("a", A) };
        let mut scene = scene(vec![a.clone()], vec![to(&["110"], &[&a])]);

        let left = only_left(&dial(&mut scene, &invite("sip:110@example.org").from(from).header(header)));

        let text = String::from_utf8_lossy(&left.request).into_owned();
        match place {
            CallerPlace::Asserted => {
                assert_eq!(values(&left.request, Name::PAssertedIdentity), ["<sip:alice@example.org>"]);
                assert_eq!(values(&left.request, Name::Privacy), ["id"], "{text}");
            }
            CallerPlace::From => {
                assert_eq!(super::scene::header(&left.request, Name::From).unwrap(), anonymous)
            }
            _ => assert!(text.contains("privacy=full"), "{text}"),
        }
    }
}

/// RFC 3261 §12.2: both sides of a dialog keep the URIs that they know, whatever the other one sees.
#[test]
fn both_sides_of_a_call_with_another_from_keep_their_belief() {
    let caller =
        CallerRules { otherwise: Some("+49301".into()), place: CallerPlace::From, ..CallerRules::default() };
    let a = Gateway { caller, ..at("a", A) };
    let mut scene = scene(vec![a.clone()], vec![to(&["110"], &[&a])]);
    let request = invite("sip:110@example.org");
    let first = only_left(&dial(&mut scene, &request));
    let presented = "\"Alice\" <sip:+49301@example.org>;tag=alice-tag";
    assert_eq!(header(&first.request, Name::From).unwrap(), presented);

    for status in [180, 200] {
        let back = only_response(&scene.reply(&first, status, "Contact: <sip:110@198.51.100.1:5060>"));
        assert_eq!(header(&back, Name::From).unwrap(), request.from);
    }
    let token = values(&first.request, Name::RecordRoute);
    let dialog = |method: &'static str, from: &str, to: &str, uri: &str| Request {
        via: format!("SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK-{method}"),
        ..super::scene::request(method, uri).from(from).to(to).header(&format!("Route: {}", token.join(", ")))
    };

    let callee = "<sip:110@example.org>;tag=callee-tag";
    for method in ["ACK", "BYE"] {
        let text = dialog(method, &request.from, callee, "sip:110@198.51.100.1:5060").text();
        let out = scene.receive(ALICE, &text);
        let sent = sent(&out);
        assert_eq!(
            header(&sent, Name::From).unwrap(),
            "<sip:+49301@example.org>;tag=alice-tag".replace('<', "\"Alice\" <")
        );
        assert_eq!(header(&sent, Name::To).unwrap(), callee);
    }

    let info = dialog("INFO", callee, presented, "sip:alice@192.0.2.101:5060");
    let forwarded = only_left(&scene.receive(A, &info.text()));
    assert_eq!(header(&forwarded.request, Name::To).unwrap(), request.from);
    assert_eq!(header(&forwarded.request, Name::From).unwrap(), callee);
    let back = only_response(&scene.reply(&forwarded, 200, ""));
    assert_eq!(header(&back, Name::To).unwrap(), presented);
    assert_eq!(header(&back, Name::From).unwrap(), callee);
}

/// The one message that has left, with a transaction or without.
fn sent(out: &[Output]) -> bytes::Bytes {
    let found = out.iter().find_map(|output| match output {
        Output::Forward { request, .. } => Some(request.clone()),
        Output::SendStateless { message, .. } => Some(message.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{out:?}"))
}

fn scene(gateways: Vec<Gateway>, routes: Vec<Route>) -> Scene {
    Scene::with(|settings| {
        for gateway in &gateways {
            let peers = gateway
                .sources
                .iter()
                .map(|network| crate::TrustedPeer { network: *network, name: gateway.name.to_string() });
            settings.trusted.extend(peers);
        }
        settings.dial_plan.gateways = gateways.into_iter().map(Arc::new).collect();
        settings.dial_plan.routes = routes.into_iter().map(Arc::new).collect();
    })
}

fn two_gateways() -> Scene {
    let (a, b) = (at("a", A), Gateway { priority: 1, ..at("b", B) });
    scene(vec![a.clone(), b.clone()], vec![to(&["110"], &[&a, &b])])
}

fn at(name: &str, address: &str) -> Gateway {
    Gateway { uri: format!("sip:{address}").into(), ..gateway(name) }
}

fn to(numbers: &[&str], gateways: &[&Gateway]) -> Route {
    let lists = gateways.iter().map(|gateway| vec![Arc::new((*gateway).clone())]).collect();
    route("out", numbers, Goal::Gateways(lists))
}

fn edits(removed: &[&str], set: &[(&str, &str)]) -> HeaderEdits {
    HeaderEdits {
        removed: removed.iter().map(|name| (*name).into()).collect(),
        set: set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    }
}

fn verdicts(marked: &[(&str, Verdict)], version: u64) -> Arc<Verdicts> {
    let marked = marked.iter().map(|(name, verdict)| ((*name).into(), *verdict));
    Arc::new(Verdicts::of_version(version, marked))
}

fn outcomes(out: &[Output]) -> Vec<(String, Outcome)> {
    out.iter()
        .filter_map(|output| match output {
            Output::GatewayOutcome(gateway, outcome) => Some((gateway.name.to_string(), *outcome)),
            _ => None,
        })
        .collect()
}

/// A call of Alice's; whoever is looked for is no account.
fn dial(scene: &mut Scene, request: &Request) -> Vec<Output> {
    let out = scene.send_as_account(ALICE, request);
    match out.iter().any(|output| matches!(output, Output::Ask { .. })) {
        true => unknown(scene, &out),
        false => out,
    }
}

fn unknown(scene: &mut Scene, asked: &[Output]) -> Vec<Output> {
    let (token, question) = only_ask(asked);
    assert!(matches!(question, Question::Call(_)), "{asked:?}");
    scene.answer(token, Answer::Located(Located::UnknownAor))
}

/// A call to two gateways, the first of which may have one call: it has asked for its place.
fn limited() -> (Scene, Token, Question) {
    asking(vec![Gateway { calls_max: Some(1), ..at("a", A) }, at("b", B)])
}

fn all_limited() -> (Scene, Token, Question) {
    let limit = |gateway: Gateway| Gateway { calls_max: Some(1), ..gateway };
    asking(vec![limit(at("a", A)), limit(at("b", B))])
}

fn asking(gateways: Vec<Gateway>) -> (Scene, Token, Question) {
    let out = to(&["110"], &gateways.iter().collect::<Vec<_>>());
    let mut scene = scene(gateways, vec![out]);
    let out = dial(&mut scene, &invite("sip:110@example.org"));
    assert!(left(&out).is_empty(), "{out:?}");
    let (token, question) = only_ask(&out);
    (scene, token, question)
}

fn gateways_left(out: &[Output]) -> Vec<(Aor, CallName)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Ask { question: Question::LeaveGateway(gateway, call), .. } => {
                Some((gateway.clone(), *call))
            }
            _ => None,
        })
        .collect()
}

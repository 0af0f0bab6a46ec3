//! An edge in front of another registrar: what goes to it, and what finds back to the phone.

use bytes::Bytes;
use sip::Name;
use transaction::ClientEvent;
use transport::selection::{Query, Records};
use transport::{Destination, Source};

use super::scene::*;
use crate::bans::Deed;
use crate::call::Output;
use crate::{Authority, Contacts, Count, Edge, EdgeContact, Question, Register, Report};

/// The registrar of pbx.example, behind this server.
const PBX: &str = "192.0.2.20:5060";
/// The registrar of another edge.
const OTHER_PBX: &str = "192.0.2.30:5060";

/// RFC 3327 §5.2, RFC 5626 §5.1: the Path is ours and names the flow; the Contact is the phone's.
#[test]
fn a_registration_goes_to_the_registrar_with_our_path_and_the_phones_contact() {
    let mut scene = scene(EdgeContact::Keep);

    let left = only_left(&scene.receive(CAROL, &registration().text()));

    assert_eq!(left.to, Destination::Flow(datagram(UDP, PBX)));
    assert_eq!(request_uri(&left.request), "sip:pbx.example");
    assert_eq!(values(&left.request, Name::Contact), ["<sip:carol@10.9.9.9:5060>;expires=120"]);
    let path = path(&left);
    assert!(path.starts_with("<sip:") && path.ends_with("@192.0.2.5:5060;lr;ob>"), "{path}");
    assert_eq!(values(&left.request, Name::Supported), ["path"]);
}

/// RFC 5626 §5.1: `ob` is for the phone that is next to us.
#[test]
fn a_registration_by_another_proxy_is_no_flow_of_the_phone() {
    let mut scene = scene(EdgeContact::Keep);
    let request = registration().header("Supported: path").header("Path: <sip:other.example;lr>");
    let text = request.text().replacen("\nMax", "\nVia: SIP/2.0/UDP 10.9.9.9;branch=z9hG4bK-phone\nMax", 1);

    let left = only_left(&scene.receive(CAROL, &text));

    let paths = values(&left.request, Name::Path);
    assert!(paths[0].ends_with("@192.0.2.5:5060;lr>"), "{paths:?}");
    assert_eq!(paths[1], "<sip:other.example;lr>");
    assert_eq!(values(&left.request, Name::Supported), ["path"]);
}

/// RFC 3261 §22.3: the registrar asks for digest, and credentials for it are nobody else's.
#[test]
fn a_challenge_and_its_answer_pass() {
    let mut scene = scene(EdgeContact::Keep);
    let left = only_left(&scene.receive(CAROL, &registration().text()));

    let challenge = "WWW-Authenticate: Digest realm=\"pbx.example\", nonce=\"n\"";
    let refused = only_response(&scene.reply(&left, 401, challenge));
    let line = "Authorization: Digest username=\"carol\", realm=\"example.org\", nonce=\"n\", \
                uri=\"sip:pbx.example\", response=\"0\"";
    let left = only_left(&scene.receive(CAROL, &registration().again().header(line).text()));

    assert_eq!(status(&refused), 401);
    assert!(header(&refused, Name::WwwAuthenticate).is_some());
    assert!(header(&left.request, Name::Authorization).is_some());
    assert_eq!(scene.counts().of(Count::Challenged), 0);
}

#[test]
fn the_verdict_of_the_registrar_is_told_to_the_bans() {
    let mut scene = scene(EdgeContact::Keep);
    for (status, expected) in [
        (401, Some(Deed::Unproven)),
        (403, Some(Deed::Unproven)),
        (200, Some(Deed::Authenticated)),
        (503, None),
        (100, None),
    ] {
        let mut request = registration();
        request.call_id = format!("call-{status}");
        let left = only_left(&scene.receive(CAROL, &request.text()));
        scene.reports.clear();

        scene.reply(&left, status, "");

        let of_carol = |report: &&Report| report.flow == datagram(UDP, CAROL);
        let told: Vec<_> = scene.reports.iter().filter(of_carol).map(|report| report.deed).collect();
        assert_eq!(told.first().copied(), expected, "{status}");
    }
}

#[test]
fn what_the_registrar_accepts_is_noted_for_as_long_as_it_says() {
    let mut scene = scene(EdgeContact::Keep);
    let left = only_left(&scene.receive(CAROL, &registration().text()));

    let others = "Contact: <sip:carol@192.0.2.9>;expires=3000, <sip:carol@10.9.9.9:5060>;expires=77";
    let out = scene.reply(&left, 200, others);

    let noted = noted(&out);
    assert_eq!(noted.authority, Authority::Elsewhere);
    assert_eq!((noted.aor.as_str(), noted.nat), ("carol@pbx.example", true));
    assert_eq!(noted.source.flow, datagram(UDP, CAROL));
    let Contacts::Update(updates) = noted.contacts else { panic!("{noted:?}") };
    assert_eq!(updates.len(), 1);
    assert_eq!((&updates[0].uri[..], updates[0].expires), (&b"sip:carol@10.9.9.9:5060"[..], Some(77)));
    assert_eq!(statuses(&out), [200]);
}

#[test]
fn a_registrar_that_shows_the_contact_in_another_form_is_believed_for_its_shortest_time() {
    for (answer, lasts) in [
        ("Contact: <sip:carol@192.0.2.5:5060>;expires=90, <sip:carol@192.0.2.9>;expires=80", 80),
        ("Expires: 60", 60),
        ("", 0),
    ] {
        let mut scene = scene(EdgeContact::Keep);
        let left = only_left(&scene.receive(CAROL, &registration().text()));

        let noted = noted(&scene.reply(&left, 200, answer));

        let Contacts::Update(updates) = noted.contacts else { panic!("{answer}") };
        assert_eq!(updates[0].expires, Some(lasts), "{answer}");
    }
}

#[test]
fn the_end_of_a_registration_is_noted_and_a_refusal_is_not() {
    for (contact, expires) in [("<sip:carol@10.9.9.9:5060>;expires=0", ""), ("*", "Expires: 0")] {
        let mut scene = scene(EdgeContact::Keep);
        let request = registration().contact(contact).header(expires);
        let text = request.text().replace("\n\nContent", "\nContent");
        let left = only_left(&scene.receive(CAROL, &text));
        let noted = noted(&scene.reply(&left, 200, ""));
        match noted.contacts {
            Contacts::RemoveAll => assert_eq!(contact, "*"),
            Contacts::Update(updates) => assert_eq!(updates[0].expires.or(noted.expires), Some(0)),
            Contacts::Query => panic!("{contact}"),
        }
    }
    let mut scene = scene(EdgeContact::Keep);
    let left = only_left(&scene.receive(CAROL, &registration().text()));
    let out = scene.reply(&left, 403, "");
    assert!(!out.iter().any(|output| matches!(output, Output::Ask { .. })), "{out:?}");
}

/// RFC 3327 §5.4: the registrar's request comes with our Path as Route, and goes down the flow.
#[test]
fn a_request_of_the_registrar_goes_down_the_flow_that_its_route_names() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, udp(UDP, CAROL));

    let left = only_left(&scene.receive(PBX, &from_pbx(&path).text()));

    assert_eq!(left.to, Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(request_uri(&left.request), "sip:carol@10.9.9.9:5060");
    assert_eq!(values(&left.request, Name::Route).len(), 0);
    assert_eq!(values(&left.request, Name::RecordRoute).len(), 1);
}

/// A registrar may also have this server as its outbound proxy.
#[test]
fn a_route_that_names_us_before_the_path_is_taken_off_too() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, udp(UDP, CAROL));

    let request = from_pbx(&format!("<sip:192.0.2.5:5060;lr>, {path}"));
    let left = only_left(&scene.receive(PBX, &request.text()));

    assert_eq!(left.to, Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(values(&left.request, Name::Route).len(), 0);
}

#[test]
fn nobody_else_gets_to_the_phone_by_a_token_that_he_has_copied_or_forged() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, udp(UDP, CAROL));
    for from in [STRANGER, ALICE, OTHER_PBX, CAROL] {
        let out = scene.receive(from, &from_pbx(&path).text());
        assert_eq!((statuses(&out), is_stateless(&out)), (vec![403], true), "{from}");
    }
    assert_eq!(scene.counts().of(Count::FlowRefused), 4);
    // A trusted peer is believed with every edge.
    assert_eq!(left(&scene.receive(CARRIER, &from_pbx(&path).text())).len(), 1);

    let place = path.find('@').unwrap() - 1;
    let mut forged = path.clone().into_bytes();
    forged[place] = if forged[place] == b'a' { b'b' } else { b'a' };
    let forged = String::from_utf8(forged).unwrap();
    // What names the domain goes to the registrar, which judges it; nothing goes to the phone.
    let out = scene.receive(STRANGER, &from_pbx(&forged).again().text());
    assert_eq!(only_left(&out).to, Destination::Flow(datagram(UDP, PBX)));
    let elsewhere = from_pbx(&forged).from("<sip:dave@elsewhere.example>;tag=d").again().again();
    for from in [STRANGER, PBX] {
        assert_eq!(statuses(&scene.receive(from, &elsewhere.text())), [407], "{from}");
    }
}

/// RFC 5626 §5.3.1: 430 where the flow is gone; the Contact is no way around it.
#[test]
fn a_connection_that_is_gone_is_answered_430() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, tcp(7, ALICE));
    let out = scene.receive(PBX, &from_pbx(&path).text());
    let call = only_left(&out);
    assert_eq!(call.to, Destination::Flow(connection(7, ALICE)));

    let out = scene.client_event(call.key, ClientEvent::Unreachable);

    assert_eq!(statuses(&out), [430]);
}

#[test]
fn a_listener_that_is_gone_is_answered_430() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, tcp(7, ALICE));
    let mut settings = settings_with(EdgeContact::Keep);
    let rest = settings.listeners.iter().filter(|listener| listener.id != TCP).cloned().collect();
    settings.listeners = std::sync::Arc::new(transport::Listeners::new(rest));
    scene.user.reload(std::sync::Arc::new(settings));

    assert_eq!(statuses(&scene.receive(PBX, &from_pbx(&path).text())), [100, 430]);
}

#[test]
fn a_call_for_or_from_the_domain_goes_to_the_registrar_and_nobody_is_challenged() {
    let from = "<sip:carol@pbx.example>;tag=carol-tag";
    for (uri, from) in [
        ("sip:dave@pbx.example", from),
        ("sip:dave@PBX.example.", "<sip:x@elsewhere.example>;tag=x"),
        ("sip:dave@elsewhere.example", from),
        ("tel:+4930123456", from),
    ] {
        let mut scene = scene(EdgeContact::Keep);

        let left = only_left(&scene.receive(CAROL, &invite(uri).from(from).text()));

        assert_eq!(left.to, Destination::Flow(datagram(UDP, PBX)), "{uri}");
        assert_eq!(request_uri(&left.request), uri);
        assert_eq!(values(&left.request, Name::Route).len(), 0);
        assert_eq!(values(&left.request, Name::RecordRoute).len(), 1);
    }
}

#[test]
fn what_is_for_our_own_users_does_not_go_to_the_registrar() {
    let mut scene = scene(EdgeContact::Keep);
    let request = invite("sip:bob@example.org").from("<sip:carol@pbx.example>;tag=carol-tag");

    assert_eq!(statuses(&scene.receive(CAROL, &request.text())), [407]);
}

#[test]
fn what_the_registrar_sends_does_not_go_back_to_it() {
    let mut scene = scene(EdgeContact::Keep);
    for uri in ["sip:dave@pbx.example", "sip:dave@elsewhere.example"] {
        let request = invite(uri).from("<sip:carol@pbx.example>;tag=carol-tag");
        assert_eq!(statuses(&scene.receive(PBX, &request.text())), [407], "{uri}");
    }
}

/// RFC 3608 §6.1: the phone puts what it was told as Service-Route into its requests as Route.
#[test]
fn a_route_to_the_registrar_is_followed_and_no_other_one() {
    let from = "<sip:carol@pbx.example>;tag=carol-tag";
    let with = |route: &str| invite("sip:dave@pbx.example").from(from).header(&format!("Route: {route}"));
    let mut scene = scene(EdgeContact::Keep);

    let left =
        only_left(&scene.receive(CAROL, &with("<sip:192.0.2.5;lr>, <sip:orig@192.0.2.20:5060;lr>").text()));

    assert_eq!(left.to, Destination::Flow(datagram(UDP, PBX)));
    assert_eq!(values(&left.request, Name::Route), ["<sip:orig@192.0.2.20:5060;lr>"]);
    for elsewhere in
        ["<sip:203.0.113.99;lr>", "<sip:192.0.2.20:9;lr>", "<sip:192.0.2.20;maddr=203.0.113.9;lr>"]
    {
        let out = scene.receive(CAROL, &with(elsewhere).again().text());
        assert_eq!(statuses(&out), [407], "{elsewhere}");
    }
}

/// This server's own address can be the domain of an edge: phones are often given nothing else.
#[test]
fn our_own_address_can_be_the_domain() {
    let mut scene = Scene::with(|settings| settings.edges = vec![edge("192.0.2.5", PBX, EdgeContact::Keep)]);
    let register = registration().uri("sip:192.0.2.5").to("<sip:carol@192.0.2.5>");
    let call = invite("sip:dave@192.0.2.5:5060").from("<sip:carol@192.0.2.5>;tag=c");
    let line = "Authorization: Digest username=\"carol\", realm=\"192.0.2.5\", nonce=\"n\", uri=\"x\", \
                response=\"0\"";

    for request in [register.header(line), call] {
        let left = only_left(&scene.receive(CAROL, &request.text()));
        assert_eq!(left.to, Destination::Flow(datagram(UDP, PBX)), "{}", request.method);
        assert_eq!(header(&left.request, Name::Authorization).is_some(), request.method == "REGISTER");
    }
    let options = request("OPTIONS", "sip:192.0.2.5").from("<sip:carol@192.0.2.5>;tag=c");
    assert_eq!(statuses(&scene.receive(CAROL, &options.text())), [200]);
}

/// RFC 5658 §4: the phone and the registrar are told each its own side of this server.
#[test]
fn the_registrar_sees_the_address_that_is_set() {
    let mut scene = Scene::with(|settings| {
        let from = Some("10.0.0.5".parse().unwrap());
        settings.edges = vec![Edge { from, ..edge("pbx.example", PBX, EdgeContact::Keep) }];
    });
    let register = only_left(&scene.receive(CAROL, &registration().text()));
    let call = invite("sip:dave@pbx.example").from("<sip:carol@pbx.example>;tag=carol-tag");
    let call = only_left(&scene.receive(CAROL, &call.text()));

    assert_eq!(register.to, Destination::Flow(datagram(INSIDE, PBX)));
    assert!(path(&register).contains("@203.0.113.10:5060;"), "the address that INSIDE advertises");
    assert_eq!(call.to, Destination::Flow(datagram(INSIDE, PBX)));
    assert_eq!(values(&call.request, Name::RecordRoute).len(), 2);

    let down = only_left(&scene.receive_by(udp(INSIDE, PBX), &from_pbx(&path(&register)).text()));
    assert_eq!(down.to, Destination::Flow(datagram(UDP, CAROL)));
}

#[test]
fn a_registrar_that_is_named_is_looked_up() {
    let mut scene = Scene::with(|settings| {
        settings.edges = vec![edge("pbx.example", "registrar.example:5070;transport=tcp", EdgeContact::Keep)];
    });

    let out = scene.receive(CAROL, &registration().text());

    let Some(Output::Resolve { token, query }) = out.last() else { panic!("{out:?}") };
    assert_eq!(*query, Query::Addresses("registrar.example".into()));
    let left = only_left(&scene.resolved(*token, Records::Addresses(vec![[198, 51, 100, 5].into()])));
    let remote = transport::RemoteAddr(([198, 51, 100, 5], 5070).into());
    assert_eq!(left.to, Destination::Connect { listener: TCP, remote });
}

/// The identity that a registrar asserts is believed like that of a trusted peer (RFC 3325 §5), what a phone asserts
/// is not.
#[test]
fn an_identity_is_believed_from_the_registrar_alone() {
    let mut scene = scene(EdgeContact::Keep);
    let path = registered(&mut scene, udp(UDP, CAROL));
    let asserted = "P-Asserted-Identity: <sip:boss@pbx.example>";

    let down = only_left(&scene.receive(PBX, &from_pbx(&path).header(asserted).text()));
    let up = invite("sip:dave@pbx.example")
        .from("<sip:carol@pbx.example>;tag=c")
        .header(asserted)
        .header("P-Preferred-Identity: <sip:carol@pbx.example>");
    let up = only_left(&scene.receive(CAROL, &up.text()));

    assert!(header(&down.request, Name::PAssertedIdentity).is_some());
    assert!(header(&up.request, Name::PAssertedIdentity).is_none());
    assert!(header(&up.request, Name::PPreferredIdentity).is_some());
}

/// RFC 3261 §16.12: both sides of a call find each other by Record-Route, and the phone's NAT does not matter.
#[test]
fn requests_within_the_dialog_pass_both_ways_without_a_challenge() {
    let mut scene = scene(EdgeContact::Keep);
    let call = invite("sip:dave@pbx.example")
        .from("<sip:carol@pbx.example>;tag=alice-tag")
        .contact("<sip:carol@10.9.9.9:5060>")
        .via("SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bK-c;rport");
    let up = only_left(&scene.receive(CAROL, &call.text()));
    let route = values(&up.request, Name::RecordRoute)[0].clone();

    let bye = |uri: &str, from: &str, to: &str| {
        request("BYE", uri).from(from).to(to).contact("").header(&format!("Route: {route}")).again()
    };
    let (carol, dave) = ("<sip:carol@pbx.example>;tag=alice-tag", "<sip:dave@pbx.example>;tag=callee-tag");
    // From another address than before: the registrar judges it.
    let moved = "198.51.100.99:4000";
    let up = scene.receive(moved, &bye("sip:dave@192.0.2.20:5060", carol, dave).text());
    assert_eq!(only_left(&up).to, Destination::Flow(datagram(UDP, PBX)));

    let down = scene.receive(PBX, &bye("sip:carol@10.9.9.9:5060", dave, carol).again().text());
    let (token, Question::Locate(aor)) = only_ask(&down) else { panic!("{down:?}") };
    assert_eq!(aor.as_str(), "carol@pbx.example");
    let found = crate::Located::Targets(vec![crate::Target {
        flow: Some(datagram(UDP, "198.51.100.7:40404")),
        ..carol_binding()
    }]);
    let down = scene.answer(token, crate::Answer::Located(found));
    assert_eq!(only_left(&down).to, Destination::Flow(datagram(UDP, "198.51.100.7:40404")));
}

/// For a registrar that does not know Path.
#[test]
fn a_rewritten_contact_leads_here_and_the_phone_sees_its_own() {
    let mut scene = scene(EdgeContact::Rewrite);
    let contact = "\"Carol\" <sip:carol@10.9.9.9:5060;x=y>;expires=120;q=0.5";
    let register = only_left(&scene.receive(CAROL, &registration().contact(contact).text()));
    let sent = values(&register.request, Name::Contact);
    let token_uri = sent[0].trim_start_matches('<').split_once('>').unwrap().0.to_owned();
    assert!(sent[0].ends_with("@192.0.2.5:5060>;expires=120;q=0.5"), "{sent:?}");
    assert_eq!(values(&register.request, Name::Path).len(), 0);

    let out = scene.reply(&register, 200, &format!("Contact: <{token_uri}>;expires=55, <sip:x@y>;expires=1"));
    let seen = values(&only_response(&out), Name::Contact);
    assert_eq!(seen, ["<sip:carol@10.9.9.9:5060;x=y>;expires=55", "<sip:x@y>;expires=1"]);
    let Contacts::Update(updates) = noted(&out).contacts else { panic!("{out:?}") };
    assert_eq!((&updates[0].uri[..], updates[0].expires), (&b"sip:carol@10.9.9.9:5060;x=y"[..], Some(55)));

    let call = from_pbx("").uri(&token_uri);
    let call = Request { headers: Vec::new(), ..call };
    let left = only_left(&scene.receive(PBX, &call.text()));
    assert_eq!(left.to, Destination::Flow(datagram(UDP, CAROL)));
    assert_eq!(request_uri(&left.request), "sip:carol@10.9.9.9:5060;x=y");
    assert_eq!(statuses(&scene.receive(STRANGER, &call.text())), [403]);
}

#[test]
fn a_contact_that_is_too_long_to_be_rewritten_is_refused() {
    let contact = format!("<sip:carol@10.9.9.9;x={}>", "y".repeat(300));
    let request = registration().contact(&contact);

    let out = scene(EdgeContact::Rewrite).receive(CAROL, &request.text());
    assert_eq!((statuses(&out), is_stateless(&out)), (vec![400], true));
    assert_eq!(left(&scene(EdgeContact::Keep).receive(CAROL, &request.text())).len(), 1);
}

fn settings_with(contact: EdgeContact) -> crate::Settings {
    crate::Settings {
        edges: vec![edge("other.example", OTHER_PBX, EdgeContact::Keep), edge("pbx.example", PBX, contact)],
        ..settings()
    }
}

fn scene(contact: EdgeContact) -> Scene {
    Scene::with(|settings| *settings = settings_with(contact))
}

fn edge(domain: &str, to: &str, contact: EdgeContact) -> Edge {
    Edge { domain: domain.to_owned(), to: format!("sip:{to}"), from: None, contact }
}

/// A REGISTER of Carol's phone, which is behind NAT.
fn registration() -> Request {
    Request {
        uri: "sip:pbx.example".to_owned(),
        from: "<sip:carol@pbx.example>;tag=carol-tag".to_owned(),
        to: "<sip:carol@pbx.example>".to_owned(),
        contact: "<sip:carol@10.9.9.9:5060>;expires=120".to_owned(),
        via: "SIP/2.0/UDP 10.9.9.9:5060;branch=z9hG4bK-carol;rport".to_owned(),
        ..register()
    }
}

/// Carol registers; the Path that the registrar keeps.
fn registered(scene: &mut Scene, source: Source) -> String {
    let left = only_left(&scene.receive_by(source, &registration().text()));
    scene.reply(&left, 200, "Contact: <sip:carol@10.9.9.9:5060>;expires=120");
    path(&left)
}

/// A call from the registrar to Carol.
fn from_pbx(route: &str) -> Request {
    Request {
        call_id: "pbx-call".to_owned(),
        via: "SIP/2.0/UDP 192.0.2.20:5060;branch=z9hG4bK-pbx".to_owned(),
        ..invite("sip:carol@10.9.9.9:5060")
    }
    .from("<sip:dave@pbx.example>;tag=dave-tag")
    .contact("<sip:dave@192.0.2.20:5060>")
    .header(&format!("Route: {route}"))
}

fn path(left: &Left) -> String {
    values(&left.request, Name::Path)[0].clone()
}

fn noted(out: &[Output]) -> Register {
    match only_ask(out) {
        (_, Question::Register(register)) => *register,
        other => panic!("{other:?}"),
    }
}

fn carol_binding() -> crate::Target {
    crate::Target { contact: Bytes::from_static(b"sip:carol@10.9.9.9:5060"), ..carol() }
}

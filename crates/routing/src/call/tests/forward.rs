//! The copy of a request that goes on, and of a response that goes back.

use bytes::Bytes;
use sip::{Message, Name};
use transaction::ClientEvent;
use transport::selection::Records;
use transport::{Destination, RemoteAddr};

use super::scene::*;
use crate::Target;
use crate::call::Output;

#[test]
fn what_a_proxy_need_not_change_is_forwarded_byte_for_byte() {
    let mut scene = Scene::new();
    let mut request = invite("sip:bob@example.org")
        .header("X-Odd  :  some\tvalue ;;, \"x\"")
        .header("s: compact")
        .header("Contact-Not: \u{fc}ml\u{e4}ut");
    request.body = "v=0\nany \u{1}\u{2} body".to_owned();

    let there = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

    let text = String::from_utf8(there.request.to_vec()).unwrap();
    assert!(
        text.contains(
            "\r\nX-Odd  :  some\tvalue ;;, \"x\"\r\ns: compact\r\nContact-Not: \u{fc}ml\u{e4}ut\r\n"
        )
    );
    assert!(text.ends_with("\r\n\r\nv=0\r\nany \u{1}\u{2} body"));
    assert!(text.starts_with(
        "INVITE sip:bob@192.0.2.102:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bK"
    ));
    assert_eq!(
        header(&there.request, Name::From).unwrap(),
        "\"Alice\" <sip:alice@example.org>;tag=alice-tag"
    );
}

/// RFC 3261 §16.6 item 3: one hop less.
#[test]
fn max_forwards_counts_down_and_is_added_where_it_lacks() {
    let mut scene = Scene::new();
    let counted = only_left(&scene.receive(CARRIER, &in_dialog("Max-Forwards: 10")));
    let added = only_left(
        &scene.receive(CARRIER, &in_dialog("").replace("Max-Forwards: 70\n", "").replace("bK-c", "bK-d")),
    );

    assert_eq!(values(&counted.request, Name::MaxForwards), ["9"]);
    assert_eq!(values(&added.request, Name::MaxForwards), ["70"]);
}

/// RFC 5393 §5.3.3: every branch has its share.
#[test]
fn the_breadth_is_shared_among_the_branches() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Max-Breadth: 5");

    let out = scene.call_as_account(ALICE, &request, vec![bob(), carol()]);

    let shares: Vec<_> =
        left(&out).iter().map(|left| header(&left.request, Name::MaxBreadth).unwrap()).collect();
    assert_eq!(shares, ["3", "2"]);
}

/// RFC 5393 §5.3.3.1: what has no share waits for one.
#[test]
fn a_branch_without_breadth_begins_when_another_has_ended() {
    let mut scene = Scene::new();
    let request = invite("sip:bob@example.org").header("Max-Breadth: 1");
    let first = only_left(&scene.call_as_account(ALICE, &request, vec![bob(), carol()]));

    let out = scene.reply(&first, 486, "");

    assert_eq!(statuses(&out), []);
    let second = only_left(&out);
    assert_eq!(request_uri(&second.request), "sip:carol@10.9.9.9:5060");
    assert_eq!(header(&second.request, Name::MaxBreadth).unwrap(), "1");
    assert_eq!(statuses(&scene.reply(&second, 404, "")), [486]);
}

#[test]
fn our_credentials_stay_here_and_foreign_ones_go_on() {
    let mut scene = Scene::new();
    let foreign = "Proxy-Authorization: Digest username=\"a\", realm=\"example.com\", nonce=\"n\", uri=\"u\", response=\"r\"";
    let ours =
        "Authorization: Digest username=\"a\", realm=\"Example.ORG\", nonce=\"n\", uri=\"u\", response=\"r\"";
    let request = invite("sip:bob@example.org").header(foreign).header(ours);

    let there = only_left(&scene.call_as_account(ALICE, &request, vec![bob()]));

    let message = Message::parse(&there.request).unwrap();
    let lines: Vec<_> = message.lines(Name::ProxyAuthorization).collect();
    assert_eq!(lines, [foreign.split_once(": ").unwrap().1.as_bytes()]);
    assert_eq!(message.count(Name::Authorization), 0);
}

/// RFC 3261 §16.6 item 4: one Record-Route, of the listener that is both in and out.
#[test]
fn an_invite_is_recorded_and_a_message_is_not() {
    let mut scene = Scene::new();
    let call = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));
    let message = only_left(&scene.call_as_account(
        ALICE,
        &request("MESSAGE", "sip:bob@example.org").again().again(),
        vec![bob()],
    ));

    let routes = values(&call.request, Name::RecordRoute);
    assert_eq!(routes.len(), 1);
    assert!(routes[0].starts_with("<sip:") && routes[0].ends_with("@192.0.2.5:5060;lr>"), "{routes:?}");
    assert_eq!(values(&message.request, Name::RecordRoute).len(), 0);
}

/// RFC 5658 §4: each side is told the listener that it can reach.
#[test]
fn two_listeners_are_both_recorded_the_callees_on_top() {
    let mut scene = Scene::new();
    let inside = target("sip:bob@10.0.0.50:5060", INSIDE, "10.0.0.50:5060");
    let by_tcp = Target { flow: Some(connection(4, "192.0.2.103:40000")), listener: Some(TCP), ..bob() };

    let out = scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![inside, by_tcp]);

    let [inside, by_tcp] = &left(&out)[..] else { panic!("{out:?}") };
    let routes = values(&inside.request, Name::RecordRoute);
    assert!(routes[0].ends_with("@203.0.113.10:5060;lr>"), "{routes:?}");
    assert!(routes[1].ends_with("@192.0.2.5:5060;lr>"), "{routes:?}");
    assert!(header(&inside.request, Name::Via).unwrap().starts_with("SIP/2.0/UDP 203.0.113.10:5060;"));
    let routes = values(&by_tcp.request, Name::RecordRoute);
    assert!(routes[0].ends_with("@192.0.2.5:5060;transport=tcp;lr>"), "{routes:?}");
    assert!(header(&by_tcp.request, Name::Via).unwrap().starts_with("SIP/2.0/TCP 192.0.2.5:5060;"));
}

/// RFC 3327 §5.4: the Path of a binding becomes Route, and its first value the next hop.
#[test]
fn a_path_becomes_the_route() {
    let mut scene = Scene::new();
    let path = ["<sip:edge@198.51.100.50;lr;ob>", "<sip:core.example;lr>"];
    let behind = Target { path: path.map(|value| Bytes::from_static(value.as_bytes())).to_vec(), ..carol() };

    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![behind]));

    assert_eq!(values(&there.request, Name::Route), path);
    assert_eq!(request_uri(&there.request), "sip:carol@10.9.9.9:5060");
    assert_eq!(there.to, Destination::Flow(datagram(UDP, "198.51.100.50:5060")));
}

#[test]
fn a_phone_behind_nat_is_sent_to_by_its_flow_from_the_listener_that_it_registered_on() {
    let mut scene = Scene::new();
    let carol = Target { flow: Some(datagram(INSIDE, CAROL)), listener: Some(INSIDE), ..carol() };

    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![carol]));

    assert_eq!(there.to, Destination::Flow(datagram(INSIDE, CAROL)));
}

#[test]
fn a_phone_without_nat_is_sent_to_where_its_contact_says() {
    let mut scene = Scene::new();
    let elsewhere = target("sip:bob@192.0.2.150:5070", UDP, BOB);

    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![elsewhere]));

    assert_eq!(there.to, Destination::Flow(datagram(UDP, "192.0.2.150:5070")));
}

#[test]
fn a_phone_behind_nat_whose_connection_is_gone_is_not_available() {
    let mut scene = Scene::new();
    let gone = Target { flow: None, listener: Some(TCP), ..carol() };

    let out = scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![gone]);

    assert_eq!(statuses(&out), [480]);
    assert_eq!(left(&out).len(), 0);
}

#[test]
fn a_connection_that_fails_is_replaced_by_the_contact_unless_there_is_nat() {
    for (nat, hops) in [(false, 1), (true, 0)] {
        let mut scene = Scene::new();
        let contact = Bytes::from_static(b"sip:bob@192.0.2.102:5060;transport=tcp");
        let bob = Target { contact, flow: Some(connection(4, BOB)), listener: Some(TCP), nat, ..bob() };
        let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob]));
        assert_eq!(there.to, Destination::Flow(connection(4, BOB)));

        let out = scene.client_event(there.key, ClientEvent::Unreachable);

        assert_eq!(left(&out).len(), hops);
        match hops {
            0 => assert_eq!(statuses(&out), [480]),
            _ => assert_eq!(only_left(&out).to, Destination::Connect { listener: TCP, remote: remote(BOB) }),
        }
    }
}

/// RFC 5626 §7: one flow of a phone at a time, the next one when it fails.
#[test]
fn several_flows_of_one_phone_are_one_branch() {
    let mut scene = Scene::new();
    let flow = |number, reg_id| Target {
        flow: Some(connection(number, CAROL)),
        listener: Some(TCP),
        instance: Some(Bytes::from_static(b"<urn:uuid:1>")),
        reg_id: Some(reg_id),
        ..carol()
    };
    let out =
        scene.call_as_account(ALICE, &invite("sip:carol@example.org"), vec![flow(1, 1), flow(2, 2), bob()]);
    assert_eq!(left(&out).len(), 2);

    let second = only_left(&scene.client_event(left(&out)[0].key, ClientEvent::Unreachable));
    assert_eq!(second.to, Destination::Flow(connection(2, CAROL)));
}

/// RFC 3261 §18.1.1: a phone's flow keeps its transport, because a NAT has no way for another one.
#[test]
fn a_large_request_to_a_phone_keeps_its_transport() {
    let mut scene = Scene::new();
    for phone in [bob(), carol()] {
        let there = only_left(&scene.call_as_account(ALICE, &large("sip:bob@example.org"), vec![phone]));

        assert!(there.request.len() > 1_500);
        assert!(!there.to.is_reliable());
        scene = Scene::new();
    }
}

/// RFC 3261 §18.1.1: a large request to a server goes by TCP, and by UDP after all if that is refused.
#[test]
fn a_large_request_to_a_server_goes_by_tcp_and_then_by_udp() {
    let mut scene = Scene::new();
    let request = large("sip:x@198.51.100.99");
    let first = only_left(&scene.send_as_account(ALICE, &request));
    assert_eq!(first.to, Destination::Connect { listener: TCP, remote: remote("198.51.100.99:5060") });
    assert!(header(&first.request, Name::Via).unwrap().starts_with("SIP/2.0/TCP"));

    let second = only_left(&scene.client_event(first.key, ClientEvent::Unreachable));

    assert_eq!(second.to, Destination::Flow(datagram(UDP, "198.51.100.99:5060")));
    assert!(header(&second.request, Name::Via).unwrap().starts_with("SIP/2.0/UDP"));
    let out = scene.client_event(second.key, ClientEvent::Unreachable);
    assert_eq!(statuses(&out), [500]);
}

/// RFC 3261 §18.1.1: what the DNS names is a server; a phone that is registered by a name is none.
#[test]
fn a_large_request_to_a_name_goes_by_tcp_unless_it_is_a_phones() {
    let address = Records::Addresses(vec![[198, 51, 100, 99].into()]);
    let mut scene = Scene::new();
    let out = scene.send_as_account(ALICE, &large("sip:x@elsewhere.example:5060"));
    let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };
    assert!(only_left(&scene.resolved(*token, address.clone())).to.is_reliable());

    let mut scene = Scene::new();
    let named = Target { flow: None, ..target("sip:bob@phone.example:5060", UDP, BOB) };
    let out = scene.call_as_account(ALICE, &large("sip:bob@example.org"), vec![named]);
    let Some(Output::Resolve { token, .. }) = out.last() else { panic!("{out:?}") };
    assert!(!only_left(&scene.resolved(*token, address)).to.is_reliable());
}

#[test]
fn a_listener_of_the_right_family_is_found() {
    let mut scene = Scene::new();

    let there = only_left(&scene.send_as_account(ALICE, &invite("sip:x@[2001:db8::99]:5070")));

    assert_eq!(there.to.listener(), UDP6);
    assert!(header(&there.request, Name::Via).unwrap().starts_with("SIP/2.0/UDP [2001:db8::5]:5060;"));
}

#[test]
fn a_next_hop_that_no_listener_reaches_is_an_error() {
    let mut scene = Scene::with(|settings| {
        let only = settings.listeners.iter().filter(|listener| listener.id == UDP).cloned().collect();
        settings.listeners = std::sync::Arc::new(transport::Listeners::new(only));
    });

    let out = scene.send_as_account(ALICE, &invite("sip:x@[2001:db8::99]:5070"));

    assert_eq!(statuses(&out), [100, 500]);
}

/// RFC 3261 §16.7 item 3: our Via is taken off a response, all else stays.
#[test]
fn a_response_goes_back_without_our_via() {
    let mut scene = Scene::new();
    let there = only_left(&scene.call_as_account(ALICE, &invite("sip:bob@example.org"), vec![bob()]));

    let out = scene.reply(&there, 180, "X-Odd:  yes\nContact: <sip:bob@192.0.2.102>");

    let response = only_response(&out);
    assert_eq!(values(&response, Name::Via).len(), 1);
    assert!(values(&response, Name::Via)[0].contains("received=192.0.2.101"));
    let text = String::from_utf8(response.to_vec()).unwrap();
    assert!(text.contains("\r\nX-Odd:  yes\r\n"));
    assert_eq!(values(&response, Name::RecordRoute), values(&there.request, Name::RecordRoute));
}

/// RFC 3261 §20.14: what came in a datagram without Content-Length gets one on a stream.
#[test]
fn a_content_length_is_added_for_a_stream() {
    let mut scene = Scene::new();
    let text = in_dialog("")
        .replace("Content-Length: 0\n", "")
        .replace("sip:x@198.51.100.99", "sip:x@198.51.100.99;transport=tcp");
    let there = only_left(&scene.receive(CARRIER, &text));

    assert!(there.to.is_reliable());
    assert_eq!(values(&there.request, Name::ContentLength), ["0"]);
}

fn large(uri: &str) -> Request {
    let mut request = invite(uri);
    request.body = "a".repeat(1_200);
    request
}

/// A request of the carrier within a dialog: it goes straight on.
fn in_dialog(line: &str) -> String {
    let request = request("MESSAGE", "sip:x@198.51.100.99")
        .to("<sip:x@198.51.100.99>;tag=x")
        .via("SIP/2.0/UDP 198.51.100.200;branch=z9hG4bK-c");
    match line {
        "" => request.text(),
        line => request.header(line).text(),
    }
}

fn remote(text: &str) -> RemoteAddr {
    RemoteAddr(text.parse().unwrap())
}

//! The torture messages of the corpora and other hostile messages, given to a whole engine: what it answers.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod engine;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use engine::{Engine, datagram};
use sip::{Message, Name};

/// What the engine serves that is no registrar of the corpora's.
const DOMAIN: &str = "registrar.example.net";

/// A message of the corpora, with what an element may do with it.
struct Torture {
    name: String,
    bytes: Vec<u8>,
    codes: Vec<String>,
}

/// Each of the messages gets one of the answers that the manifest allows.
#[test]
fn every_message_of_rfc_4475_gets_an_answer_that_is_allowed() {
    assert_eq!(check("rfc4475"), 49);
}

/// The same.
#[test]
fn every_message_of_rfc_5118_gets_an_answer_that_is_allowed() {
    assert_eq!(check("rfc5118"), 12);
}

/// Who is not believed has nothing forwarded, whatever it sends, and one answer at most.
#[test]
fn no_torture_message_of_a_stranger_is_forwarded() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    for (number, torture) in messages("rfc4475").into_iter().chain(messages("rfc5118")).enumerate() {
        let source = datagram(address(number));

        engine.receive(source, &torture.bytes);

        assert!(engine.forwarded().is_empty(), "{}", torture.name);
        assert!(engine.statuses(&source).len() <= 1, "{}", torture.name);
    }
    let held = engine.held();
    assert_eq!((held.clients, held.contexts, held.suspended), (0, 0, 0));
}

/// Of two messages in a datagram the second one is not read.
#[test]
fn of_two_messages_in_a_datagram_one_is_read() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    let two = [request("OPTIONS", "a", ""), request("MESSAGE", "b", "")].concat();

    engine.receive(source, &two);

    assert_eq!(engine.statuses(&source), [200]);
}

#[test]
fn the_largest_datagram_is_answered_and_leaves_nothing() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    let bare = request("INVITE", "large", "X: ").len();
    let large = request("INVITE", "large", &format!("X: {}", "x".repeat(65_535 - bare)));
    assert_eq!(large.len(), 65_535);

    engine.receive(source, &large);

    assert_eq!(engine.statuses(&source), [407]);
    assert!(engine.sent[0].1.len() < 1_000, "a large request has a large answer");
    assert_eq!(engine.held().servers, 0);
}

#[test]
fn headers_without_end_are_refused() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    for (line, count) in [("X: y\r\n", 5_000), ("Route: <sip:192.0.2.1;lr>\r\n", 1_500), (":\r\n", 20_000)] {
        engine.receive(source, &request("INVITE", "bomb", &line.repeat(count)));

        let statuses = engine.statuses(&source);
        assert!(matches!(statuses[..], [400 | 513]), "{line}: {statuses:?}");
    }
}

#[test]
fn a_thousand_vias_and_ten_thousand_parameters_are_read_and_answered() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    let vias = format!("Via: {}\r\n", vec!["SIP/2.0/UDP a;branch=z9hG4bKa"; 1_000].join(", "));
    let params = format!("Contact: <sip:a@b>{}\r\n", ";p=q".repeat(10_000));

    engine.receive(source, &request("INVITE", "vias", &vias));
    assert_eq!(engine.statuses(&source), [407]);
    let response = Message::parse(&engine.sent[0].1).unwrap();
    assert_eq!(response.values(Name::Via).count(), 1_001);

    engine.receive(source, &request("INVITE", "params", &params));
    assert_eq!(engine.statuses(&source), [407]);
}

#[test]
fn zero_bytes_anywhere_do_no_harm() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    let whole = request("INVITE", "zero", "X: y\r\n");
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] = 0;

        engine.receive(source, &bytes);

        assert!(engine.forwarded().is_empty() && engine.statuses(&source).len() <= 1, "{place}");
    }
}

/// A body that is shorter than it should be is refused; one of no length ends with the datagram.
#[test]
fn a_content_length_that_lies_is_refused() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let source = datagram(address(0));
    for (line, status) in [
        ("Content-Length: 1000000\r\n", 400),
        ("Content-Length: 18446744073709551617\r\n", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 0x10\r\n", 400),
        ("Content-Length: 0\r\nl: 5\r\n", 400),
        ("", 407),
    ] {
        engine.receive(source, &request("INVITE", "length", line));

        assert_eq!(engine.statuses(&source), [status], "{line}");
    }
}

/// What comes by a stream without a length is refused, however whole it looks.
#[test]
fn a_stream_message_without_a_length_is_refused() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let id = transport::ConnectionId { node: 0, boot: 1, listener: transport::ListenerId(2), number: 1 };
    let flow = transport::Flow::Connection { id, remote: transport::RemoteAddr(address(0)) };
    let source = transport::Source { flow, transport: transport::Transport::Tcp };

    engine.receive(source, &request("INVITE", "stream", ""));

    assert_eq!(engine.statuses(&source), [400]);
}

#[test]
fn responses_to_nothing_get_no_answer_and_leave_nothing() {
    let mut engine = Engine::new(Some(address(0).ip()), &[DOMAIN]);
    for status in 100..700 {
        for method in ["INVITE", "OPTIONS", "CANCEL"] {
            let response = format!(
                "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKx\r\n\
                 Via: SIP/2.0/UDP 203.0.113.9;branch=z9hG4bKy\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
                 Call-ID: none\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
            );

            engine.receive(datagram(address(0)), response.as_bytes());

            assert!(engine.sent.is_empty(), "{status} to {method}");
        }
    }
    assert_eq!(engine.held().servers + engine.held().clients, 0);
}

/// Gives each message of a folder to an engine of its own: to the registrar of its domain, that wants a proof, or to a
/// proxy that believes the sender. Returns how many there are.
fn check(folder: &str) -> usize {
    let messages = messages(folder);
    for (number, torture) in messages.iter().enumerate() {
        let source = datagram(address(number));
        let mut engine = match torture.bytes.starts_with(b"REGISTER") {
            true => Engine::new(None, &["example.com"]),
            false => Engine::new(Some(source.flow.remote().0.ip()), &[DOMAIN]),
        };

        engine.receive(source, &torture.bytes);

        let (statuses, forwarded) = (engine.statuses(&source), engine.forwarded());
        let answers: Vec<String> = match (&statuses[..], forwarded.len()) {
            ([], 0) => vec!["none".to_owned()],
            ([], _) => vec!["forward".to_owned()],
            (statuses, 0) => statuses.iter().map(u16::to_string).collect(),
            both => panic!("{}: answered and forwarded: {both:?}", torture.name),
        };
        assert_eq!(answers.len(), 1, "{}: {answers:?}", torture.name);
        let is_allowed = torture.codes.contains(&answers[0]);
        assert!(is_allowed, "{}: {answers:?}, allowed is {:?}", torture.name, torture.codes);
        for copy in forwarded {
            let copy = Message::parse(&copy).unwrap();
            assert_eq!(copy.validate(), Ok(()), "{}", torture.name);
        }
    }
    messages.len()
}

fn messages(folder: &str) -> Vec<Torture> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sip/tests/corpora").join(folder);
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let messages = manifest.as_array().unwrap().iter().map(|entry| Torture {
        name: text(&entry["name"]),
        bytes: std::fs::read(folder.join(text(&entry["file"]))).unwrap(),
        codes: entry["codes"].as_array().unwrap().iter().map(text).collect(),
    });
    messages.collect()
}

/// An address for each message, of both families in turn.
fn address(number: usize) -> SocketAddr {
    let number = u8::try_from(number).unwrap();
    let ip: IpAddr = match number % 2 {
        0 => Ipv4Addr::new(198, 51, 100, number).into(),
        _ => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(number)).into(),
    };
    SocketAddr::new(ip, 5060)
}

fn request(method: &str, call: &str, lines: &str) -> Vec<u8> {
    let uri = if method == "OPTIONS" { "sip:registrar.example.net" } else { "sip:bob@registrar.example.net" };
    let lines =
        if lines.is_empty() || lines.ends_with("\r\n") { lines.to_owned() } else { format!("{lines}\r\n") };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.0:5060;branch=z9hG4bK{call}\r\n\
         From: <sip:alice@{DOMAIN}>;tag=1\r\nTo: <{uri}>\r\nCall-ID: {call}\r\nCSeq: 1 {method}\r\n\
         Max-Forwards: 70\r\n{lines}\r\n"
    )
    .into_bytes()
}

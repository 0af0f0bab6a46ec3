//! The torture messages of the corpora and other hostile messages, given to a whole engine: what it answers.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod engine;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use engine::{Engine, datagram};
use sip::{Message, Name};

/// What is answered to each torture message.
const ANSWERS: &str = include_str!("answers.txt");
/// What the engine serves that is no registrar of the corpora's.
const DOMAIN: &str = "registrar.example.net";

/// A message of the corpora, with what an element may do with it.
struct Torture {
    name: String,
    bytes: Vec<u8>,
    codes: Vec<String>,
    to_peer: String,
    to_stranger: String,
}

/// Each of the messages gets the answer that stands in the table, and that the manifest allows.
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

    // There is no room for what a proxy adds.
    assert_eq!(engine.statuses(&source), [513]);
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

/// What comes by a stream without a length is refused, however whole it looks; a length beyond all limits is told from
/// one that is none.
#[test]
fn a_stream_message_that_can_not_be_framed_is_refused() {
    let mut engine = Engine::new(None, &[DOMAIN]);
    let id = transport::ConnectionId { node: 0, boot: 1, listener: transport::ListenerId(2), number: 1 };
    let flow = transport::Flow::Connection { id, remote: transport::RemoteAddr(address(0)) };
    let source = transport::Source { flow, transport: transport::Transport::Tcp };
    for (line, status) in [
        ("", 400),
        ("Content-Length: -1\r\n", 400),
        ("Content-Length: 0\r\nl: 5\r\n", 400),
        ("Content-Length: 1000000\r\n", 513),
        ("Content-Length: 18446744073709551617\r\n", 513),
        ("Content-Length: 0\r\n", 407),
    ] {
        engine.receive(source, &request("INVITE", "stream", line));

        assert_eq!(engine.statuses(&source), [status], "{line}");
    }
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
/// proxy that believes the sender. The answer must be the one of the table, and one that the manifest allows. Returns
/// how many there are.
fn check(folder: &str) -> usize {
    let messages = messages(folder);
    for (number, torture) in messages.iter().enumerate() {
        let source = datagram(address(number));
        let believed = match torture.bytes.starts_with(b"REGISTER") {
            true => Engine::new(None, &["example.com"]),
            false => Engine::new(Some(source.flow.remote().0.ip()), &[DOMAIN]),
        };
        let said = answer(believed, torture, number);
        assert_eq!(said, torture.to_peer, "{}", torture.name);
        assert!(torture.codes.contains(&said), "{}: {said}, allowed is {:?}", torture.name, torture.codes);

        let said = answer(Engine::new(None, &["example.com"]), torture, number);
        assert_eq!(said, torture.to_stranger, "{}", torture.name);
    }
    messages.len()
}

/// What an engine does with a message: a status, `forward` or `none`.
fn answer(mut engine: Engine, torture: &Torture, number: usize) -> String {
    let source = datagram(address(number));

    engine.receive(source, &torture.bytes);

    let (statuses, forwarded) = (engine.statuses(&source), engine.forwarded());
    for copy in &forwarded {
        let copy = Message::parse(copy).unwrap();
        assert_eq!(copy.validate(), Ok(()), "{}", torture.name);
    }
    match (&statuses[..], forwarded.len()) {
        ([], 0) => "none".to_owned(),
        ([], 1) => "forward".to_owned(),
        ([status], 0) => status.to_string(),
        more => panic!("{}: {more:?}", torture.name),
    }
}

fn messages(folder: &str) -> Vec<Torture> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sip/tests/corpora").join(folder);
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let messages = manifest.as_array().unwrap().iter().map(|entry| {
        let name = text(&entry["name"]);
        let line = ANSWERS.lines().find(|line| line.split_whitespace().next() == Some(&name));
        let [to_peer, to_stranger] = match line.unwrap().split_whitespace().collect::<Vec<_>>()[..] {
            [_, to_peer, to_stranger] => [to_peer, to_stranger].map(str::to_owned),
            _ => panic!("{line:?}"),
        };
        Torture {
            bytes: std::fs::read(folder.join(text(&entry["file"]))).unwrap(),
            codes: entry["codes"].as_array().unwrap().iter().map(text).collect(),
            name,
            to_peer,
            to_stranger,
        }
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

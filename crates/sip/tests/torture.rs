//! The torture messages of RFC 4475 and RFC 5118: what the syntax says of each, and that what is forwarded is
//! forwarded byte for byte but for the edits.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use sip::{Contacts, Editor, Malformed, Message, Method, Name, NameAddr, NotSip, Status, Uri};

/// What the syntax says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Parsed, validated, forwarded. What else is wrong with it is for a proxy or registrar to find.
    Valid,
    /// Not right, but no header that anything here reads: forwarded as it came.
    Liberal,
    /// Answered with the status of the problem; a response is dropped.
    Refused(Malformed),
    /// Dropped: nothing can be answered.
    Dropped,
}

use Malformed::*;
use Verdict::*;

const RFC_4475: [(&str, Verdict); 49] = [
    ("wsinv", Valid),
    ("intmeth", Valid),
    ("esc01", Valid),
    ("escnull", Valid),
    ("esc02", Valid),
    ("lwsdisp", Valid),
    ("longreq", Valid),
    ("dblreq", Valid),
    ("semiuri", Valid),
    ("transports", Valid),
    ("mpart01", Valid),
    ("unreason", Valid),
    ("noreason", Valid),
    ("badinv01", Refused(Via)),
    ("clerr", Refused(BodyShort)),
    ("ncl", Refused(ContentLength)),
    ("scalar02", Refused(Header(Name::CSeq))),
    ("scalarlg", Refused(Header(Name::CSeq))),
    ("quotbal", Refused(Header(Name::To))),
    ("ltgtruri", Refused(RequestUri)),
    ("lwsruri", Refused(StartLine)),
    ("lwsstart", Refused(StartLine)),
    ("trws", Refused(StartLine)),
    ("escruri", Refused(RequestUri)),
    // A proxy does not read Date.
    ("baddate", Liberal),
    ("regbadct", Refused(Header(Name::Contact))),
    ("badaspec", Refused(Header(Name::To))),
    // The archive's file has no empty line at its end, which is found first.
    ("baddn", Refused(HeadersUnterminated)),
    ("badvers", Refused(Version)),
    ("mismatch01", Refused(CSeqMethod)),
    ("mismatch02", Refused(CSeqMethod)),
    ("bigcode", Dropped),
    ("badbranch", Refused(Branch)),
    ("insuf", Refused(Missing(Name::From))),
    ("unkscm", Valid),
    ("novelsc", Valid),
    ("unksm2", Valid),
    ("bext01", Valid),
    ("invut", Valid),
    ("regaut01", Valid),
    ("multi01", Refused(Repeated(Name::From))),
    ("mcl01", Refused(Repeated(Name::ContentLength))),
    ("bcast", Valid),
    ("zeromf", Valid),
    ("cparam01", Valid),
    ("cparam02", Valid),
    ("regescrt", Valid),
    ("sdp01", Valid),
    ("inv2543", Valid),
];

const RFC_5118: [(&str, Verdict); 12] = [
    ("ipv6-good", Valid),
    ("ipv6-bad", Refused(RequestUri)),
    ("port-ambiguous", Valid),
    ("port-unambiguous", Valid),
    ("via-received-param-with-delim", Valid),
    ("via-received-param-no-delim", Valid),
    ("ipv6-in-sdp", Valid),
    ("mult-ip-in-header", Valid),
    ("mult-ip-in-sdp", Valid),
    ("ipv4-mapped-ipv6", Valid),
    ("ipv6-bug-abnf-3-colons", Valid),
    ("ipv6-correct-abnf-2-colons", Valid),
];

/// RFC 4475 §3: each message meets its verdict, and none is left out.
#[test]
fn every_message_of_rfc_4475_meets_its_verdict() {
    check("rfc4475", &RFC_4475);
}

/// RFC 5118 §4: each message meets its verdict, and none is left out.
#[test]
fn every_message_of_rfc_5118_meets_its_verdict() {
    check("rfc5118", &RFC_5118);
}

/// RFC 4475 §3.1.2: every refused request can be answered, with 400 or 505 and a reason.
#[test]
fn every_refused_request_can_be_answered() {
    for (name, verdict) in RFC_4475 {
        let Refused(problem) = verdict else { continue };
        let bytes = read("rfc4475", name);
        let (message, _) = Message::parse_lenient(&bytes).unwrap();
        if !message.is_request() {
            continue;
        }
        let status = if problem == Version { Status::VERSION_NOT_SUPPORTED } else { Status::BAD_REQUEST };
        assert_eq!(problem.status(), status, "{name}");

        let mut out = Vec::new();
        sip::ResponseBuilder::new(&message, problem.status())
            .reason(problem.reason())
            .to_tag(b"t")
            .write(&mut out);

        let response = Message::parse(&out).unwrap();
        assert_eq!(response.status(), Some(status), "{name}");
        assert_eq!(response.count(Name::Via), message.count(Name::Via), "{name}");
        assert_eq!(response.count(Name::To), message.count(Name::To).min(1), "{name}");
    }
}

/// RFC 4475 §3.1.1.1: all that is tortuous about the first message is read as it is meant.
#[test]
fn the_short_tortuous_invite_is_read_as_it_is_meant() {
    let bytes = read("rfc4475", "wsinv");
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(message.cseq().unwrap().number, 9);
    assert_eq!(message.from_tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
    assert_eq!(message.header(Name::Subject), Some(&b""[..]));
    assert_eq!(message.header_by_name(b"unknownheaderwithunusualvalue"), Some(&b";;,,;;,;"[..]));
    let vias: Vec<_> = message.vias().map(Result::unwrap).collect();
    let branches: Vec<_> = vias.iter().map(|via| via.branch().unwrap()).collect();
    assert_eq!(branches, [&b"390skdjuw"[..], b"z9hG4bK9ikj8", b"z9hG4bK30239"]);
    assert_eq!(vias[1].transport, b"TCP");
    let Contacts::List(mut contacts) = message.contacts().unwrap() else { panic!("a star") };
    let contact = contacts.next().unwrap();
    assert_eq!((contact.q(), contact.params.has(b"secondparam")), (Some(330), true));
    assert!(contacts.next().is_none());
    assert!(message.routes().next().unwrap().unwrap().uri().unwrap().as_sip().unwrap().lr());
}

/// RFC 4475 §3.1.1.5: neither methods nor header names are unescaped.
#[test]
fn percent_signs_in_tokens_are_no_escapes() {
    let bytes = read("rfc4475", "esc02");
    let message = Message::parse(&bytes).unwrap();

    assert_eq!(message.method(), Some(Method::Other(b"RE%47IST%45R")));
    assert_eq!(message.count(Name::Contact), 2);
}

/// RFC 4475 §3.1.1.8: what follows the body is no part of the message.
#[test]
fn octets_behind_the_body_are_dropped() {
    let bytes = read("rfc4475", "dblreq");
    let message = Message::parse(&bytes).unwrap();

    assert!(message.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
    assert_eq!(message.body(), b"");
    assert_eq!(sip::find_call_id(&bytes), message.call_id().ok());
}

/// RFC 4475 §3.1.1.11: a body of parts with zero bytes is kept bit by bit.
#[test]
fn a_binary_body_is_kept() {
    let bytes = read("rfc4475", "mpart01");
    let message = Message::parse(&bytes).unwrap();

    assert!(message.body().contains(&0));
    assert!(bytes.ends_with(message.body()));
    assert!(message.body().ends_with(b"--7a9cbec02ceef655--\r\n"));
}

/// RFC 4475 §3.3.12 and RFC 4475 §3.3.13: without brackets a parameter is the header's, inside of them it is the URI's.
#[test]
fn contact_parameters_are_told_from_uri_parameters() {
    let (outside, inside) = (read("rfc4475", "cparam01"), read("rfc4475", "cparam02"));

    assert_eq!(first_contact(&Message::parse(&outside).unwrap()).0, b"sip:+19725552222@gw1.example.net");
    assert_eq!(
        first_contact(&Message::parse(&inside).unwrap()).0,
        b"sip:+19725552222@gw1.example.net;unknownparam"
    );
}

/// RFC 4475 §3.1.2.15: an unquoted comma in a display name is an error; found once the file's end is mended.
#[test]
fn an_unquoted_comma_in_a_display_name_is_refused() {
    let bytes = [read("rfc4475", "baddn"), b"\r\n".to_vec()].concat();

    assert_eq!(Message::parse(&bytes).unwrap().validate(), Err(Header(Name::From)));
}

/// RFC 4475 §3.3.3 and RFC 4475 §3.3.4: unknown schemes are syntax, whoever cannot serve them refuses them.
#[test]
fn unknown_schemes_are_kept_whole() {
    let bytes = read("rfc4475", "novelsc");
    let message = Message::parse(&bytes).unwrap();
    assert!(matches!(
        Uri::parse(message.request_uri().unwrap()),
        Ok(Uri::Other { scheme: b"soap.beep", .. })
    ));

    let bytes = read("rfc4475", "unksm2");
    let message = Message::parse(&bytes).unwrap();
    assert!(matches!(message.to().unwrap().uri(), Ok(Uri::Other { scheme: b"isbn", .. })));
}

fn first_contact(message: &Message<'_>) -> (Vec<u8>, Vec<u8>) {
    let Contacts::List(mut contacts) = message.contacts().unwrap() else { panic!("a star") };
    let NameAddr { uri, params, .. } = contacts.next().unwrap();
    (uri.to_vec(), params.as_bytes().to_vec())
}

fn check(folder: &str, verdicts: &[(&str, Verdict)]) {
    let verdicts: BTreeMap<&str, Verdict> = verdicts.iter().copied().collect();
    let files = files(folder);
    assert_eq!(files, verdicts.keys().copied().collect::<Vec<_>>());
    for (name, verdict) in verdicts {
        let bytes = read(folder, name);
        assert_eq!(verdict_of(&bytes), if verdict == Liberal { Valid } else { verdict }, "{name}");
        if matches!(verdict, Valid | Liberal) {
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(written(&Editor::new(&message)), message.bytes(), "{name}");
            check_forwarding(name, &message);
        }
    }
}

fn verdict_of(bytes: &[u8]) -> Verdict {
    match Message::parse_lenient(bytes) {
        Err(NotSip) => Dropped,
        Ok((_, Some(problem))) => {
            assert_eq!(Message::parse(bytes).map(|_| ()), Err(problem));
            Refused(problem)
        }
        Ok((message, None)) => message.validate().map_or_else(Refused, |()| Valid),
    }
}

/// Forwards as a proxy does, and takes each edit back: then all is as it was, byte for byte.
fn check_forwarding(name: &str, message: &Message<'_>) {
    let top_via = message.top_via().unwrap();
    let mut stamped = Vec::new();
    top_via.write_stamped("192.0.2.77".parse().unwrap(), Some(4444), &mut stamped);
    let hops = message.header(Name::MaxForwards);

    let mut editor = Editor::new(message);
    editor.prepend(Name::Via, b"SIP/2.0/UDP p;branch=z9hG4bKp").replace_first(Name::Via, &stamped);
    editor.prepend(Name::RecordRoute, b"<sip:p;lr>").set(Name::MaxForwards, b"69");
    if message.is_request() {
        editor.request_uri(b"sip:new@192.0.2.9");
    }
    let forwarded = written(&editor);

    let forwarded = Message::parse(&forwarded).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    forwarded.validate().unwrap();
    assert_eq!(forwarded.max_forwards(), Ok(Some(69)));
    assert_eq!(forwarded.top_via().unwrap().branch(), Some(&b"z9hG4bKp"[..]));
    assert_eq!(forwarded.vias().nth(1).unwrap().unwrap().rport(), Some(Some(4444)));
    assert_eq!(forwarded.count(Name::Via), message.count(Name::Via) + 1);
    assert_eq!(forwarded.body(), message.body());

    let mut undo = Editor::new(&forwarded);
    undo.remove_first(Name::Via).replace_first(Name::Via, top_via.as_bytes());
    undo.remove_first(Name::RecordRoute);
    match hops {
        Some(hops) => undo.set(Name::MaxForwards, hops),
        None => undo.remove(Name::MaxForwards),
    };
    if let Some(uri) = message.request_uri() {
        undo.request_uri(uri);
    }
    // A value that is written anew loses its folds; everything else is as it came.
    let expected = written(Editor::new(message).replace_first(Name::Via, top_via.as_bytes()));
    assert_eq!(written(&undo).escape_ascii().to_string(), expected.escape_ascii().to_string(), "{name}");
    assert_eq!(expected == message.bytes(), name != "wsinv", "{name}");
}

fn written(editor: &Editor<'_, '_>) -> Vec<u8> {
    let mut out = Vec::new();
    editor.write(&mut out);
    out
}

fn files(folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".dat").map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn read(folder: &str, name: &str) -> Vec<u8> {
    std::fs::read(path(folder).join(format!("{name}.dat"))).unwrap()
}

fn path(folder: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(folder)
}

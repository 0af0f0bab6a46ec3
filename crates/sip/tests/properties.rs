//! What holds for any bytes: nothing panics, nothing is lost, and chunks make no difference.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use proptest::prelude::*;
use sip::{
    Contacts, Credentials, Editor, Framed, Malformed, Message, Name, NameAddr, NotSip, ResponseBuilder,
    Status, Uri,
};

const NAMES: [Name; 12] = [
    Name::Via,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::Contact,
    Name::MaxForwards,
    Name::Route,
    Name::RecordRoute,
    Name::ContentLength,
    Name::Authorization,
    Name::Other,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
    }

    #[test]
    fn any_text_of_sips_own_characters_is_survived(
        text in "(BYE sip:a SIP/2.0\r\n|SIP/2.0 200 OK\r\n)?([VvTtFfMmIiLl]|Via|Route|CSeq|Authorization)?[ \t\r\n:;,<>\"\\\\@?=%/\\[\\]a-z0-9*()]{0,200}"
    ) {
        exercise(text.as_bytes());
    }

    #[test]
    fn mutated_messages_are_survived(message in corpus_message(), changes in changes()) {
        exercise(&mutated(message, &changes));
    }

    #[test]
    fn an_editor_without_edits_gives_the_message_back(message in corpus_message(), changes in changes()) {
        let bytes = mutated(message, &changes);
        if let Ok(message) = Message::parse(&bytes) {
            let mut out = Vec::new();
            Editor::new(&message).write(&mut out);
            prop_assert_eq!(&out[..], message.bytes());
        }
    }

    #[test]
    fn what_is_forwarded_is_a_message_again(message in corpus_message(), changes in changes()) {
        let bytes = mutated(message, &changes);
        let Ok(message) = Message::parse(&bytes) else { return Ok(()) };
        if message.validate().is_err() {
            return Ok(());
        }
        let mut out = Vec::new();
        Editor::new(&message).prepend(Name::Via, b"SIP/2.0/UDP p;branch=z9hG4bKp").set(Name::MaxForwards, b"1").write(&mut out);
        let forwarded = Message::parse(&out).unwrap();
        prop_assert_eq!(forwarded.validate(), Ok(()));
        prop_assert_eq!(forwarded.body(), message.body());
        prop_assert_eq!(forwarded.values(Name::Via).count(), message.values(Name::Via).count() + 1);
        let rest = |message: &Message<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
            let is_kept = |name| !matches!(name, Name::Via | Name::MaxForwards);
            message.headers().filter(|header| is_kept(header.name)).map(|header| (header.raw_name.to_vec(), header.value.to_vec())).collect()
        };
        prop_assert_eq!(rest(&forwarded), rest(&message));
    }

    #[test]
    fn removing_first_values_one_by_one_takes_them_all(message in corpus_message(), count in 0usize..5, from_end in any::<bool>()) {
        let Ok(message) = Message::parse(&message) else { return Ok(()) };
        for name in [Name::Via, Name::Route, Name::Contact, Name::Accept] {
            let before: Vec<&[u8]> = message.values(name).collect();
            let mut editor = Editor::new(&message);
            for _ in 0..count {
                if from_end { editor.remove_last(name) } else { editor.remove_first(name) };
            }
            let mut out = Vec::new();
            editor.write(&mut out);
            let after = Message::parse(&out).unwrap();
            let after: Vec<&[u8]> = after.values(name).collect();
            let removed = count.min(before.len());
            let expected = if from_end { &before[..before.len() - removed] } else { &before[removed..] };
            prop_assert_eq!(&after[..], expected);
        }
    }

    #[test]
    fn framing_does_not_depend_on_chunks(
        messages in proptest::collection::vec(stream_piece(), 1..6),
        cuts in proptest::collection::vec(0usize..400, 0..200),
    ) {
        let stream: Vec<u8> = messages.concat();
        let whole = frames(&[&stream]);
        let mut chunks = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(frames(&chunks), whole);
    }

    #[test]
    fn a_framed_message_can_be_parsed_or_refused_for_its_lines(piece in stream_piece(), changes in changes()) {
        let bytes = mutated(piece, &changes);
        if let Framed::Message { len } = sip::frame_stream(&bytes) {
            let framed = &bytes[..len];
            let (message, problem) = Message::parse_lenient(framed).unwrap();
            prop_assert_eq!(message.bytes().len(), len);
            prop_assert!(!matches!(problem, Some(Malformed::BodyShort | Malformed::ContentLength | Malformed::HeadersUnterminated | Malformed::Repeated(_))), "{:?}", problem);
        }
    }

    #[test]
    fn the_call_id_found_is_the_one_parsed(message in corpus_message(), changes in changes()) {
        let bytes = mutated(message, &changes);
        if let Ok(message) = Message::parse(&bytes) {
            prop_assert_eq!(sip::find_call_id(&bytes), message.header(Name::CallId));
        }
    }

    #[test]
    fn equivalence_of_uris_is_symmetric(a in uri(), b in uri()) {
        let (a, b) = (Uri::parse(a.as_bytes()).unwrap(), Uri::parse(b.as_bytes()).unwrap());
        prop_assert!(a.equivalent(&a));
        prop_assert_eq!(a.equivalent(&b), b.equivalent(&a));
    }

    #[test]
    fn an_address_of_record_is_its_own_canonical_form(user in "[a-zA-Z0-9%;&=+$,?/ü#@-]{1,12}", host in "[a-zA-Z][a-zA-Z0-9.-]{0,8}[a-z]") {
        let user = user.replace('@', "%40");
        let text = format!("sip:{user}@{host}");
        let aor = sip::Aor::of(&sip::SipUri::parse(text.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!(sip::Aor::parse(aor.as_str()), Some(aor.clone()));
        let again = format!("sip:{aor}");
        let again = sip::Aor::of(&sip::SipUri::parse(again.as_bytes()).unwrap()).unwrap();
        prop_assert_eq!(again, aor);
    }
}

/// Calls all that reads.
fn exercise(bytes: &[u8]) {
    let strict = Message::parse(bytes);
    let _ = sip::find_call_id(bytes);
    let _ = sip::frame_stream(bytes);
    for value in bytes.split(|&byte| byte == b'\n') {
        let _ = sip::Via::parse(value);
        let _ = sip::CSeq::parse(value);
        let _ = Credentials::parse(value);
        let _ = sip::Host::parse(value);
        if let Ok(address) = NameAddr::parse(value) {
            let _ = (
                address.tag(),
                address.q(),
                address.expires(),
                address.uri().map(|uri| uri.equivalent(&uri)),
            );
        }
        if let Ok(uri) = sip::SipUri::parse(value) {
            let _ = (uri.lr(), uri.maddr(), uri.ttl(), uri.transport(), sip::Aor::of(&uri));
        }
    }
    let (message, problem) = match Message::parse_lenient(bytes) {
        Ok(read) => read,
        Err(NotSip) => {
            assert!(strict.is_err());
            return;
        }
    };
    assert_eq!(strict.map(|_| ()).err(), problem);
    let _ = message.validate();
    let _ = (message.top_via().map(|via| (via.received(), via.rport(), via.maddr())), message.cseq());
    let _ = (message.from_tag(), message.to_tag(), message.max_forwards(), message.expires());
    let _ = (message.routes().count(), message.record_routes().count(), message.paths().count());
    if let Ok(Contacts::List(contacts)) = message.contacts() {
        assert_eq!(contacts.count(), message.values(Name::Contact).count());
    }
    let mut out = Vec::new();
    let mut editor = Editor::new(&message);
    for name in NAMES {
        editor.prepend(name, b"x").remove_first(name).replace_first(name, b"y").remove_last(name);
    }
    editor.body(Some(b"a/b"), b"body").request_uri(b"sip:x").remove_line(0).write(&mut out);
    let mut editor = Editor::new(&message);
    for name in NAMES {
        editor.set(name, b"x").append(name, b"z");
    }
    editor.ensure_content_length().write(&mut out);
    out.clear();
    ResponseBuilder::new(&message, Status::BAD_REQUEST).to_tag(b"t").copy(Name::RecordRoute).write(&mut out);
    // What answers a malformed message has lines that are well formed in themselves.
    assert!(Message::parse(&out).is_ok(), "{}", out.escape_ascii());
    sip::ack_for(&message, &message, &mut out);
    sip::cancel_for(&message, &mut out);
}

/// What comes out of a stream that arrives in these chunks, read as a connection reads it.
fn frames(chunks: &[&[u8]]) -> Vec<(Framed, Vec<u8>)> {
    let mut buffer = Vec::new();
    let mut out = Vec::new();
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let framed = sip::frame_stream(&buffer);
            match framed {
                Framed::NeedMore => break,
                Framed::Keepalive { len } | Framed::Message { len } => {
                    assert!(len > 0);
                    out.push((framed, buffer.drain(..len).collect()));
                }
                Framed::Broken(_) => {
                    out.push((framed, Vec::new()));
                    return out;
                }
            }
        }
    }
    out
}

fn corpus_message() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(corpus())
}

/// A message as it comes on a stream, or what stands between messages, or something broken.
fn stream_piece() -> impl Strategy<Value = Vec<u8>> {
    let framed: Vec<Vec<u8>> = corpus()
        .into_iter()
        .filter(|bytes| matches!(sip::frame_stream(bytes), Framed::Message { .. }))
        .collect();
    prop_oneof![
        8 => proptest::sample::select(framed),
        2 => Just(b"\r\n\r\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => corpus_message(),
    ]
}

fn corpus() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora");
    let mut paths: Vec<_> = ["rfc4475", "rfc5118"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "dat"))
        .collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Cut(usize, usize),
    Repeat(usize, usize),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = 0usize..4000;
    let byte = prop_oneof![any::<u8>(), proptest::sample::select(b"\r\n\t :;,<>\"\\@?=%/[]*".to_vec())];
    let text = proptest::sample::select(vec![
        &b"\r\n"[..],
        b"\r\n ",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b",",
        b";;",
        b"\"",
        b"<",
        b">",
        b"Content-Length: 3\r\n",
        b"l:",
        b"\xff",
    ]);
    proptest::collection::vec(
        prop_oneof![
            (place.clone(), byte).prop_map(|(at, byte)| Change::Set(at, byte)),
            (place.clone(), text).prop_map(|(at, text)| Change::Insert(at, text.to_vec())),
            (place.clone(), 0usize..80).prop_map(|(at, len)| Change::Cut(at, len)),
            (place, 0usize..80).prop_map(|(at, len)| Change::Repeat(at, len)),
        ],
        0..6,
    )
}

fn mutated(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let range = |at: usize, len: usize| {
            let start = at % (bytes.len() + 1);
            start..(start + len).min(bytes.len())
        };
        match change {
            Change::Set(at, byte) => {
                let at = range(*at, 1);
                bytes[at].fill(*byte);
            }
            Change::Insert(at, text) => {
                let at = range(*at, 0);
                bytes.splice(at, text.iter().copied());
            }
            Change::Cut(at, len) => {
                let at = range(*at, *len);
                bytes.drain(at);
            }
            Change::Repeat(at, len) => {
                let at = range(*at, *len);
                let piece = bytes[at.clone()].to_vec();
                bytes.splice(at.start..at.start, piece);
            }
        }
    }
    bytes
}

fn uri() -> impl Strategy<Value = String> {
    "(sip|sips|SIP):([aA%6][a1]|b:c)?@?".prop_flat_map(|start| {
        let start = if start.ends_with('@') && !start.ends_with(":@") { start } else { start.trim_end_matches('@').split(':').next().unwrap_or("sip").to_owned() + ":" };
        (Just(start), "[hH][oO]?(:506[01])?(;(lr|user=phone|x=[12]|X=1|ttl=1|transport=(udp|UDP|tcp))){0,3}(\\?(a=b|A=B|c=d)(&(a=b|e=f))?)?")
            .prop_map(|(start, rest)| start + &rest)
    })
}

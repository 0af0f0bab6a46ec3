//! One message: all that is read of it, all copies that are made of it, and all that is answered to it.

use std::net::SocketAddr;

use keys::RootKey;
use sip::limits::{HEADERS_MAX, MESSAGE_BYTES_MAX};
use sip::{
    Aor, Contacts, Credentials, Editor, Malformed, Message, Method, Name, NameAddr, ResponseBuilder, Status,
    Uri,
};
use transaction::{ClientKey, ServerKey};
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

use crate::rng::Rng;
use crate::{is_within, number_of};

/// The names that are looked at; every other one is read like `Other`.
const NAMES: [Name; 30] = [
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
    Name::ContentType,
    Name::Expires,
    Name::Authorization,
    Name::ProxyAuthorization,
    Name::WwwAuthenticate,
    Name::ProxyAuthenticate,
    Name::Require,
    Name::ProxyRequire,
    Name::Supported,
    Name::Unsupported,
    Name::Path,
    Name::ServiceRoute,
    Name::Event,
    Name::Privacy,
    Name::PAssertedIdentity,
    Name::PPreferredIdentity,
    Name::MaxBreadth,
    Name::Timestamp,
    Name::Date,
    Name::Other,
];

/// Values for edits, some of them hostile.
const VALUES: [&[u8]; 8] = [
    b"SIP/2.0/UDP p;branch=z9hG4bKp",
    b"<sip:p;lr>",
    b"",
    b"a\r\nX-Injected: b",
    b"a\r\n\r\nb",
    b"\"quoted, and\" <sip:a,b@c>;x=\"y,z\"",
    b",,,",
    b"7",
];

/// Tries the bytes as a datagram.
pub fn run(data: &[u8]) {
    transport::classify(data);
    let found_call_id = sip::find_call_id(data);
    let strict = Message::parse(data);
    let Ok((message, problem)) = Message::parse_lenient(data) else {
        assert!(strict.is_err(), "what is no SIP was parsed");
        return;
    };
    assert_eq!(strict.as_ref().err(), problem.as_ref(), "the two ways to parse do not agree");
    read(&message, data, problem.is_none());
    if problem.is_none()
        && let Ok(call_id) = message.call_id()
    {
        assert_eq!(found_call_id, Some(call_id), "the Call-ID that picks the shard is another one");
    }
    let is_valid = problem.is_none() && message.validate().is_ok();
    if message.is_request() {
        answer(&message, problem.or(message.validate().err()));
    }
    if problem.is_none() {
        copy(&message);
        edit(&message, data);
    }
    if is_valid {
        forward(&message);
        accompany(&message);
        stamp(&message);
    }
}

/// Reads everything that can be read.
fn read(message: &Message<'_>, data: &[u8], is_whole: bool) {
    assert!(is_within(data, message.bytes()) && is_within(data, message.body()));
    assert!(message.headers().len() <= HEADERS_MAX);
    for header in message.headers() {
        assert!(is_within(data, header.raw_name) && is_within(data, header.value));
        let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | b'\r' | b'\n'));
        assert!(!is_blank(header.value.first()) && !is_blank(header.value.last()), "a value is not trimmed");
        // A line that is none keeps its bytes, but has no name.
        if is_whole {
            assert!(message.header_by_name(header.raw_name).is_some());
            assert_eq!(Name::from_bytes(header.raw_name), header.name);
        }
    }
    for name in NAMES {
        assert_eq!(message.lines(name).count(), message.count(name));
        assert_eq!(message.header(name).is_some(), message.count(name) > 0);
        for value in message.values(name) {
            assert!(is_within(data, value) && !value.is_empty());
        }
        for address in message.addresses(name).flatten() {
            read_address(&address);
        }
        for line in message.lines(name) {
            if let Ok(credentials) = Credentials::parse(line) {
                credentials.nonce_count();
            }
        }
    }
    for via in message.vias().flatten() {
        assert!(is_within(data, via.as_bytes()));
        let _ = (via.branch(), via.received(), via.rport(), via.maddr(), via.ttl(), via.has_magic_cookie());
    }
    if let Ok(Contacts::List(list)) = message.contacts() {
        for contact in list {
            assert!(contact.uri().is_ok(), "a Contact without a URI");
            read_address(&contact);
        }
    }
    if let Some(uri) = message.request_uri() {
        read_uri(uri);
    }
    let _ = (message.from_tag(), message.to_tag(), message.cseq(), message.max_forwards(), message.expires());
    let _ = message.status().map(|status| (status.class(), status.reason_phrase(), status.is_final()));
}

fn read_address(address: &NameAddr<'_>) {
    read_uri(address.uri);
    assert!(address.q().is_none_or(|q| q <= 1_000), "a preference above one");
    let _ = (address.tag(), address.expires(), address.params.iter().count());
}

fn read_uri(uri: &[u8]) {
    let Ok(uri) = Uri::parse(uri) else { return };
    assert!(uri.equivalent(&uri), "a URI is not itself");
    if let Some(sip) = uri.as_sip() {
        let _ = (transport::next_hop(sip), sip.maddr(), sip.ttl(), sip.method(), sip.user_param());
        if let Some(aor) = Aor::of(sip) {
            assert_eq!(
                Aor::parse(aor.as_str()).as_ref(),
                Some(&aor),
                "an address of record is not canonical"
            );
        }
    }
}

/// Answers it, as is done with a request that may be broken.
fn answer(request: &Message<'_>, problem: Option<Malformed>) {
    let status = problem.map_or(Status::OK, |problem| problem.status());
    let mut builder = ResponseBuilder::new(request, status);
    if let Some(problem) = problem {
        builder.reason(problem.reason());
    }
    builder.to_tag(b"t").header(Name::Server, b"x\r\ny: z").copy(Name::RecordRoute);
    let bytes = written(|out| builder.write(out));
    if bytes.len() > MESSAGE_BYTES_MAX || request.headers().len() + 3 > HEADERS_MAX {
        return;
    }
    let response = Message::parse(&bytes).expect("a response is a message");
    assert_eq!(response.status(), Some(status));
    // Of very many the last ones share a line.
    let (lines, kept) = (request.count(Name::Via), response.count(Name::Via));
    assert!(kept == lines || (kept >= 128 && kept < lines), "{kept} of {lines}");
    assert_eq!(response.header_by_name(b"y"), None, "a line was injected");
    if problem.is_none() {
        assert_eq!(response.validate(), Ok(()), "a response to a valid request is valid");
        assert_eq!(response.call_id(), request.call_id());
        assert_eq!(response.from_tag(), request.from_tag());
        assert_eq!(response.cseq().map(|cseq| cseq.number), request.cseq().map(|cseq| cseq.number));
        let branch =
            |message: &Message<'_>| message.top_via().ok().and_then(|via| via.branch().map(<[u8]>::to_vec));
        assert_eq!(branch(&response), branch(request));
        // Values that are never closed run into each other where very many lines share one.
        let mut routes = request.values(Name::RecordRoute);
        if routes.all(|route| NameAddr::parse(route).is_ok()) {
            assert_eq!(response.values(Name::RecordRoute).count(), request.values(Name::RecordRoute).count());
        }
    }
}

fn copy(message: &Message<'_>) {
    let bytes = written(|out| Editor::new(message).write(out));
    assert_eq!(bytes, message.bytes(), "a copy without edits differs");
}

/// Edits of any kind leave a message in which all other lines are as they were.
fn edit(message: &Message<'_>, data: &[u8]) {
    let mut rng = Rng::new(number_of(data));
    let (mut editor, mut touched) = (Editor::new(message), Vec::new());
    for _ in 0..1 + rng.below(6) {
        let (name, value) = (rng.pick(&NAMES[..29]), rng.pick(&VALUES));
        match rng.below(10) {
            0 => drop(editor.prepend(name, value)),
            1 => drop(editor.append(name, value)),
            2 => drop(editor.replace_first(name, value)),
            3 => drop(editor.remove_first(name)),
            4 => drop(editor.remove_last(name)),
            5 => drop(editor.remove(name)),
            6 => drop(editor.set(name, value)),
            7 if message.headers().len() > 0 => {
                let index = rng.below(message.headers().len());
                touched.extend(message.headers().nth(index).map(|header| header.name));
                editor.remove_line(index);
            }
            8 => {
                editor.body(Some(b"text/plain"), b"body");
                touched.extend([Name::ContentType, Name::ContentLength]);
            }
            9 => {
                editor.ensure_content_length();
                touched.push(Name::ContentLength);
            }
            _ => {}
        }
        touched.push(name);
    }
    let bytes = written(|out| editor.write(out));
    if bytes.len() > MESSAGE_BYTES_MAX || message.headers().len() + 8 > HEADERS_MAX {
        return;
    }
    // A Content-Length that the edits wrote may be anything.
    let (edited, problem) = Message::parse_lenient(&bytes).expect("an edited message has a start line");
    if !touched.contains(&Name::ContentLength) {
        assert_eq!(problem, None, "an edited message is a message");
        assert_eq!(edited.body(), message.body());
    }
    assert_eq!(
        edited.header_by_name(b"X-Injected").is_some(),
        message.header_by_name(b"X-Injected").is_some()
    );
    let untouched = |message: &Message<'_>| -> Vec<(Vec<u8>, Vec<u8>)> {
        let kept = message.headers().filter(|header| !touched.contains(&header.name));
        kept.map(|header| (header.raw_name.to_vec(), header.value.to_vec())).collect()
    };
    assert_eq!(untouched(&edited), untouched(message), "a line was changed that nobody edited");
}

/// Forwards it as a proxy does.
fn forward(message: &Message<'_>) {
    let mut editor = Editor::new(message);
    editor.set(Name::MaxForwards, b"69").prepend(Name::RecordRoute, b"<sip:p;lr>").remove_first(Name::Route);
    editor.ensure_content_length().prepend(Name::Via, b"SIP/2.0/TCP p;branch=z9hG4bKp");
    if message.is_request() {
        editor.request_uri(b"sip:next@192.0.2.9");
    }
    let bytes = written(|out| editor.write(out));
    if bytes.len() > MESSAGE_BYTES_MAX || message.headers().len() + 4 > HEADERS_MAX {
        return;
    }
    let forwarded = Message::parse(&bytes).expect("what is forwarded is a message");
    assert_eq!(forwarded.validate(), Ok(()), "what is forwarded is valid");
    assert_eq!(forwarded.body(), message.body());
    assert_eq!(forwarded.values(Name::Via).count(), message.values(Name::Via).count() + 1);
    assert_eq!(forwarded.values(Name::Route).count(), message.values(Name::Route).count().saturating_sub(1));
    assert_eq!(sip::find_call_id(&bytes), message.call_id().ok());

    let mut back = Editor::new(&forwarded);
    back.remove_first(Name::Via);
    let bytes = written(|out| back.write(out));
    let back = Message::parse(&bytes).expect("what goes back is a message");
    assert_eq!(back.validate(), Ok(()), "what goes back is valid");
    assert!(back.values(Name::Via).eq(message.values(Name::Via)));
}

/// Makes the ACK and the CANCEL that belong to it.
fn accompany(invite: &Message<'_>) {
    if !invite.is_request() {
        return;
    }
    let busy = written(|out| ResponseBuilder::new(invite, Status::BUSY_HERE).to_tag(b"busy").write(out));
    let Ok(busy) = Message::parse(&busy) else { return };
    let ack = written(|out| sip::ack_for(invite, &busy, out));
    let cancel = written(|out| sip::cancel_with_reason(invite, b"SIP;cause=200\r\nX: y", out));
    for (bytes, method) in [(ack, Method::Ack), (cancel, Method::Cancel)] {
        if bytes.len() > MESSAGE_BYTES_MAX {
            continue;
        }
        let companion = Message::parse(&bytes).expect("an ACK or CANCEL is a message");
        assert_eq!(companion.validate(), Ok(()), "an ACK or CANCEL is valid");
        assert_eq!(companion.method(), Some(method));
        assert_eq!(companion.values(Name::Via).count(), 1);
        assert_eq!(
            companion.top_via().ok().and_then(|via| via.branch()),
            invite.top_via().ok().and_then(|via| via.branch())
        );
        assert_eq!(companion.cseq().map(|cseq| cseq.number), invite.cseq().map(|cseq| cseq.number));
        assert_eq!(companion.values(Name::Route).count(), invite.values(Name::Route).count());
        let key = RootKey::new([1; 32]).subkey("transaction", 0);
        if invite.method() == Some(Method::Invite) {
            let named = match method {
                Method::Ack => ServerKey::of(&key, &companion),
                _ => ServerKey::of_cancelled(&key, &companion),
            };
            let is_new_form = invite.top_via().is_ok_and(|via| via.has_magic_cookie());
            assert!(
                !is_new_form || named == ServerKey::of(&key, invite),
                "an ACK or CANCEL misses its INVITE"
            );
        }
    }
}

/// Marks it with where it came from.
fn stamp(message: &Message<'_>) {
    let key = RootKey::new([1; 32]).subkey("transaction", 0);
    for remote in ["198.51.100.7:31000", "[2001:db8::7]:5060", "[::ffff:192.0.2.1]:65535"] {
        let remote: SocketAddr = remote.parse().expect("an address");
        let flow = Flow::Datagram { listener: ListenerId(0), remote: RemoteAddr(remote) };
        let source = Source { flow, transport: Transport::Udp };
        let once = written(|out| transport::stamp(message, &source, out));
        if once.len() > MESSAGE_BYTES_MAX {
            continue;
        }
        let stamped = Message::parse(&once).expect("a stamped message is a message");
        assert_eq!(stamped.validate(), Ok(()), "a stamped message is valid");
        assert_eq!(stamped.body(), message.body());
        let twice = written(|out| transport::stamp(&stamped, &source, out));
        assert_eq!(twice, once, "a second stamp changes something");
        let (before, after) = (message.top_via().expect("valid"), stamped.top_via().expect("valid"));
        assert_eq!(before.branch(), after.branch());
        assert!(
            after.received().is_none_or(|received| received == remote.ip().to_canonical()),
            "a client's word counts"
        );
        let to = transport::response_destination(&before, &source);
        assert_eq!(
            to,
            transport::response_destination(&after, &source),
            "a stamp changes where responses go"
        );
        assert_eq!(to.remote().0.ip(), remote.ip(), "a response goes to a third host");
        if message.is_request() {
            assert_eq!(ServerKey::of(&key, message), ServerKey::of(&key, &stamped));
        } else {
            assert_eq!(ClientKey::of_response(&key, message), ClientKey::of_response(&key, &stamped));
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

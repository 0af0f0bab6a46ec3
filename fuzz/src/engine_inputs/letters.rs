//! Messages that peers write: by the bytes of a record, and then changed by patches.

use sip::limits::MESSAGE_BYTES_MAX;
use sip::{Contacts, Message, Name, NameAddr, ResponseBuilder, Status};

use super::digest::{Kind, Nonce};
use super::peers::{ALIAS, DOMAIN, ELSEWHERE, PEERS, Peer, USERS};

/// What a peer sends from and is asked with.
const METHODS: [&str; 16] = [
    "INVITE",
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "BYE",
    "ACK",
    "CANCEL",
    "MESSAGE",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "REFER",
    "UPDATE",
    "PRACK",
    "INFO",
    "FOO",
];

const STATUSES: [u16; 32] = [
    200, 180, 486, 183, 100, 407, 401, 302, 503, 603, 404, 408, 430, 480, 481, 487, 491, 500, 202, 600, 699,
    199, 300, 305, 400, 403, 420, 422, 423, 501, 513, 606,
];

/// How the messages of a dialog are asked for.
const IN_DIALOG: [&str; 8] = ["ACK", "BYE", "INVITE", "UPDATE", "INFO", "REFER", "PRACK", "NOTIFY"];

/// Pieces that patches put in.
const PIECES: [&str; 32] = [
    "\r\n",
    "\r\n\r\n",
    "\n",
    " ",
    "\t",
    "\r\n ",
    "\0",
    "\"",
    "<",
    ">",
    ";",
    ",",
    "=",
    "@",
    "%00",
    "?x=y",
    "[",
    "]",
    "::",
    "4294967296",
    "-1",
    "65536",
    ";lr",
    ";tag=x",
    ";rport",
    ";received=192.0.2.9",
    ";maddr=224.0.0.1",
    ";branch=z9hG4bK",
    "Route: <sip:192.0.2.1;lr>\r\n",
    "Content-Length: 70000\r\n",
    "Via: SIP/2.0/UDP 203.0.113.99\r\n",
    "*",
];

/// What a request is made from.
pub(super) struct Wish<'a> {
    pub(super) method: u8,
    pub(super) target: u8,
    pub(super) identity: u8,
    pub(super) way: u8,
    pub(super) ids: u8,
    pub(super) extras: u8,
    pub(super) peer: &'a Peer,
    pub(super) transport: &'static str,
    /// A Contact that somebody was told.
    pub(super) heard_contact: Option<String>,
    /// Record-Route that somebody was told.
    pub(super) heard_routes: Vec<String>,
    /// Marks what is the stranger's own.
    pub(super) mark: &'static str,
}

/// A request out of the blue. `nonce` is the one to answer, if there is one.
pub(super) fn request(wish: &Wish<'_>, nonce: Option<&mut Nonce>) -> Vec<u8> {
    let Wish { peer, mark, .. } = wish;
    let method = METHODS[usize::from(wish.method) % METHODS.len()];
    let user = USERS[usize::from(wish.identity & 7) % USERS.len()];
    let uri =
        if method == "REGISTER" && wish.target & 0x80 == 0 { format!("sip:{DOMAIN}") } else { target(wish) };
    let to = if method == "REGISTER" { format!("sip:{user}@{DOMAIN}") } else { uri.clone() };
    let from = match wish.target >> 5 & 3 {
        3 => "sip:anonymous@anonymous.invalid".to_owned(),
        2 if wish.identity & 8 != 0 => "sip:zoe@foreign.example".to_owned(),
        _ => format!("sip:{user}@{DOMAIN}"),
    };
    let to_tag = if wish.identity & 8 != 0 { ";tag=callee0" } else { "" };
    let (call, branch, number) = (wish.ids & 7, wish.ids >> 3 & 7, 1 + (wish.ids >> 6));
    let mut text = format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{} {};branch=z9hG4bK{mark}-{branch}-{call}-{number}{}\r\n",
        wish.transport,
        peer.own,
        if wish.extras & 1 == 0 { ";rport" } else { "" },
    );
    text += &routes(wish);
    text += &format!(
        "From: <{from}>;tag=caller-{user}\r\nTo: <{to}>{to_tag}\r\nCall-ID: {mark}-call-7f3a9c1e-{call}\r\n\
         CSeq: {number} {method}\r\n"
    );
    text += &contact(wish, user);
    if let Some(value) = credentials(wish, nonce, user, method, &uri) {
        let name = if method == "REGISTER" { "Authorization" } else { "Proxy-Authorization" };
        text += &format!("{name}: {value}\r\n");
    }
    text += extras(wish.extras >> 1);
    text += body(wish.extras >> 1);
    text.into_bytes()
}

fn target(wish: &Wish<'_>) -> String {
    let user = |index: usize| format!("sip:{}@{DOMAIN}", USERS[index]);
    match wish.target & 0x1f {
        number @ 0..5 => user(usize::from(number)),
        5 => format!("sip:{ALIAS}@{DOMAIN}"),
        6 => format!("sip:nobody@{DOMAIN}"),
        7 => format!("sip:{DOMAIN}"),
        8 => "sip:x@foreign.example".to_owned(),
        9 => format!("sip:x@{}", ELSEWHERE[0]),
        10 => "sip:192.0.2.1".to_owned(),
        11 => "sip:bob@192.0.2.1:5060;transport=tcp".to_owned(),
        12 => "tel:+15551234;phone-context=+1".to_owned(),
        13 => format!("sips:bob@{DOMAIN}"),
        14 => format!("sip:bob@{DOMAIN};maddr=192.0.2.1;transport=udp"),
        15 => format!("sip:bob@{DOMAIN};maddr=203.0.113.99"),
        16 => format!("sip:x@{};transport=tcp", ELSEWHERE[1]),
        17 => "sip:x@[2001:db8::50]".to_owned(),
        18 => "sip:x@foreign.example;transport=tcp;lr".to_owned(),
        19 => "sip:%61lice@EXAMPLE.ORG.:5060".to_owned(),
        20 => "sip:10.0.0.5:5080".to_owned(),
        21 => "sip:x@255.255.255.255".to_owned(),
        22 => "sip:x@10.0.0.5:5080".to_owned(),
        23 => "urn:service:sos".to_owned(),
        24 => "sip:x@foreign.example:0".to_owned(),
        25 => format!("sip:{};transport=sctp", PEERS[1].own),
        _ => wish.heard_contact.clone().unwrap_or_else(|| user(1)),
    }
}

fn routes(wish: &Wish<'_>) -> String {
    let ours = "<sip:192.0.2.1;lr>";
    let value = match wish.way >> 4 {
        8 => ours.to_owned(),
        9 => format!("{ours}, <sip:203.0.113.99;lr>"),
        10 => "<sip:foreign.example;lr>".to_owned(),
        11 => "<sip:203.0.113.99>, <sip:x@y>".to_owned(),
        12 => wish.heard_routes.join(", "),
        13 => wish.heard_routes.iter().rev().cloned().collect::<Vec<_>>().join(", "),
        14 => format!("<sip:A_token_of_my_own@192.0.2.1;lr>, {ours}"),
        15 => "\"un<closed".to_owned(),
        _ => return String::new(),
    };
    format!("Route: {value}\r\n")
}

fn contact(wish: &Wish<'_>, user: &str) -> String {
    let own = wish.peer.own;
    match wish.way & 15 {
        0 => format!("Contact: <sip:{user}@{own}>\r\n"),
        1 => format!("Contact: <sip:{user}@{own}>;expires=0\r\n"),
        2 => format!("Contact: <sip:{user}@{own}>;expires=60;q=0.5\r\nExpires: 100\r\n"),
        3 => format!("Contact: <sip:{user}@{own};transport=tcp>;expires=4294967295\r\n"),
        4 => "Contact: *\r\nExpires: 0\r\n".to_owned(),
        5 => format!(
            "Contact: <sip:{user}@{own};ob>;+sip.instance=\"<urn:uuid:0>\";reg-id=1\r\nSupported: outbound, path\r\n"
        ),
        6 => format!(
            "Contact: <sip:{user}@{own};ob>;+sip.instance=\"<urn:uuid:0>\";reg-id=2\r\nSupported: outbound, path\r\n"
        ),
        7 => format!("Contact: <sip:1@{own}>, <sip:2@{own}>, <sip:3@{own}>;q=0.1\r\n"),
        8 => String::new(),
        // Phones that lead back to this server.
        9 => format!("Contact: <sip:bob@{DOMAIN}>\r\n"),
        10 => "Contact: <sip:alice@192.0.2.1>, <sip:bob@192.0.2.1:5060>\r\n".to_owned(),
        11 => "Contact: <sip:x@foreign.example>\r\n".to_owned(),
        12 => format!("Path: <sip:203.0.113.77;lr;ob>\r\nSupported: path\r\nContact: <sip:{user}@{own}>\r\n"),
        13 => format!("Contact: <sip:{user}@{own}>;expires=1\r\n"),
        14 => "Contact: <tel:+1555>, <mailto:a@b>\r\n".to_owned(),
        _ => format!("Contact: <sip:{user}@{own}?Route=%3Csip:a%3E>;q=2.5\r\n"),
    }
}

fn credentials(
    wish: &Wish<'_>,
    nonce: Option<&mut Nonce>,
    user: &str,
    method: &str,
    uri: &str,
) -> Option<String> {
    let kind = match wish.identity >> 4 {
        0..6 => return None,
        6 => return Some("Digest username=\"x\", nonce=\"y\", response=".to_owned()),
        7 => Kind::Wrong,
        8 => Kind::Repeated,
        9 => Kind::Old,
        10 => Kind::Ahead,
        _ => Kind::Right,
    };
    Some(nonce?.credentials(kind, user, method, uri))
}

fn extras(number: u8) -> &'static str {
    match number & 15 {
        0..3 => "Max-Forwards: 70\r\n",
        3 => "Max-Forwards: 0\r\n",
        4 => "",
        5 => "Max-Forwards: 1\r\nMax-Breadth: 1\r\n",
        6 => "Max-Forwards: 4294967295\r\nMax-Breadth: 4294967296\r\n",
        7 => "Proxy-Require: nothing\r\n",
        8 => "Require: nothing\r\nMax-Forwards: 7\r\n",
        9 => "P-Asserted-Identity: <sip:x@y>\r\nPrivacy: id\r\nMax-Forwards: 7\r\n",
        10 => "Session-Expires: 90\r\nSupported: timer\r\nTimestamp: 1\r\nMax-Forwards: 7\r\n",
        11 => "Via: SIP/2.0/UDP 203.0.113.99;branch=z9hG4bKbelow;received=192.0.2.9\r\nMax-Forwards: 7\r\n",
        12 => "Record-Route: <sip:203.0.113.99;lr>\r\nMax-Forwards: 7\r\n",
        13 => "Max-Forwards: 07\r\nMax-Breadth: 0\r\n",
        14 => "Authorization: Basic x\r\nProxy-Authorization: Digest realm=\"other\"\r\nMax-Forwards: 7\r\n",
        _ => "Max-Forwards: 7\r\nP-Preferred-Identity: <sip:x@y>\r\nX: y\r\n",
    }
}

fn body(number: u8) -> &'static str {
    match number >> 4 & 3 {
        0 => "Content-Length: 0\r\n\r\n",
        1 => "Content-Type: application/sdp\r\nContent-Length: 21\r\n\r\nv=0\r\nc=IN IP4 10.9.9.9",
        2 => "l: 3\r\n\r\nabc and more",
        _ => "\r\nabc",
    }
}

/// A response to `request`.
pub(super) fn response(request: &Message<'_>, status: u8, form: u8, own: &str) -> Vec<u8> {
    let status = Status(STATUSES[usize::from(status) % STATUSES.len()]);
    let mut builder = ResponseBuilder::new(request, status);
    builder.to_tag(if form & 3 == 3 { b"callee1" } else { b"callee0" });
    if form & 4 == 0 {
        builder.copy(Name::RecordRoute);
    }
    let contact = match form >> 3 & 3 {
        0 => format!("<sip:callee@{own}>"),
        1 => "<sip:callee@10.9.9.9:5060>".to_owned(),
        2 => "<sip:x@foreign.example;transport=tcp>".to_owned(),
        _ => "\"a\" <sip:alice@example.org>, <sip:b@c>".to_owned(),
    };
    builder.header(Name::Contact, contact.as_bytes());
    match form >> 5 {
        1 => drop(builder.header(Name::RetryAfter, b"5")),
        2 => {
            let challenge = b"Digest realm=\"other\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
            builder.header(Name::ProxyAuthenticate, challenge).header(Name::WwwAuthenticate, challenge);
        }
        3 => drop(builder.body(b"application/sdp", b"v=0\r\nc=IN IP4 10.9.9.9\r\n")),
        4 => drop(builder.header(Name::PAssertedIdentity, b"<sip:x@y>")),
        5 => drop(builder.header(Name::RSeq, b"1").header(Name::Require, b"100rel")),
        _ => {}
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes);
    bytes
}

/// A request within the dialog of a 2xx that the caller heard, or of an INVITE that the callee answered.
pub(super) fn in_dialog(
    heard: &Message<'_>,
    method: u8,
    number: u8,
    sent_by: (&str, &str),
) -> Option<Vec<u8>> {
    let method = IN_DIALOG[usize::from(method) % IN_DIALOG.len()];
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let (from, to) = (text(heard.header(Name::From)?), text(heard.header(Name::To)?));
    let mut routes: Vec<String> = heard.values(Name::RecordRoute).map(text).collect();
    let (from, to) = if heard.is_request() {
        (if heard.to_tag().is_some() { to } else { format!("{to};tag=callee0") }, from)
    } else {
        routes.reverse();
        (from, to)
    };
    let contact = first_contact(heard).unwrap_or_else(|| "sip:gone@192.0.2.250".to_owned());
    let (transport, own) = sent_by;
    let cseq = heard.cseq().ok()?.number;
    let cseq = if method == "ACK" { cseq } else { cseq.wrapping_add(u32::from(number)).max(1) };
    let routes = if routes.is_empty() { String::new() } else { format!("Route: {}\r\n", routes.join(", ")) };
    let call_id = text(heard.call_id().ok()?);
    let text = format!(
        "{method} {contact} SIP/2.0\r\nVia: SIP/2.0/{transport} {own};rport;branch=z9hG4bKdialog-{method}-{number}-{cseq}\r\n\
         {routes}From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n\
         Contact: <sip:me@{own}>\r\nContent-Length: 0\r\n\r\n"
    );
    Some(text.into_bytes())
}

/// The first Contact's URI.
pub(super) fn first_contact(message: &Message<'_>) -> Option<String> {
    match message.contacts().ok()? {
        Contacts::List(mut list) => {
            list.next().map(|NameAddr { uri, .. }| String::from_utf8_lossy(uri).into_owned())
        }
        Contacts::Star => None,
    }
}

/// Changes a message at one place.
pub(super) fn patch(message: &mut Vec<u8>, patch: [u8; 4]) {
    let [high, low, kind, byte] = patch;
    let at = usize::from(u16::from_be_bytes([high, low])) % (message.len() + 1);
    match kind % 7 {
        0 => {
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
        }
        1 => message.insert(at, byte),
        2 => drop(message.drain(at..(at + usize::from(byte % 32)).min(message.len()))),
        3 => drop(message.splice(at..at, PIECES[usize::from(byte) % PIECES.len()].bytes())),
        4 => message.truncate(at),
        5 => {
            // The line that the place is in comes again, often.
            let start = message[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |found| found + 1);
            let end = message[at..]
                .iter()
                .position(|&byte| byte == b'\n')
                .map_or(message.len(), |found| at + found + 1);
            let line = repeated(&message[start..end], 1 + usize::from(byte) * 2);
            message.splice(start..start, line);
        }
        _ => {
            let piece = repeated(&message[at..(at + 8).min(message.len())], 1 + usize::from(byte) * 16);
            message.splice(at..at, piece);
        }
    }
}

/// So often, but no more than fits in a message.
fn repeated(piece: &[u8], times: usize) -> Vec<u8> {
    piece.repeat(times.min(MESSAGE_BYTES_MAX / piece.len().max(1)))
}

//! Single datagrams, each from another address.

use anyhow::{Context, Result, ensure};

use super::{SDP, Siege, head, starts};
use crate::lab::Lab;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "hostile_datagrams_get_the_right_answer_or_none_and_are_counted", run: each },
    Scenario { name: "what_is_too_large_to_be_forwarded_is_refused_at_once", run: too_large },
];

/// A UDP datagram over IPv4 holds no more.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// What is sent, what comes back, and which counter tells of it.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    /// The status, or none.
    answer: Option<u16>,
    counter: &'static str,
}

fn each(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "")?;
    let mut wrong = Vec::new();
    for (number, case) in cases().into_iter().enumerate() {
        let before = siege.counter(case.counter)?;
        let came = siege.exchange(0, &case.bytes).with_context(|| case.name)?;
        let answer = came.first().and_then(|message| message.status());
        if came.len() > 1 || answer != case.answer {
            wrong.push(format!("{}: {:?} instead of {:?}", case.name, starts(&came), case.answer));
        }
        let after = siege.counter(case.counter)?;
        if after != before + 1 {
            wrong.push(format!("{}: {} went from {before} to {after}", case.name, case.counter));
        }
        if number % 8 == 0 {
            siege.is_unhurt().with_context(|| format!("after {}", case.name))?;
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n  "));
    siege.end()
}

/// A phone with an account sends what has no room for the server's Via and Record-Route.
fn too_large(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, "")?;
    let uri = siege.bob.aor();
    let small = siege.alice.request("MESSAGE", &uri).with_body("text/plain", "m".repeat(60_000));
    siege.alice.send(&small)?;
    let challenge = siege.alice.expect_status(&small, 407)?;
    siege.alice.remember(&challenge)?;
    let small = siege.alice.again(&small);
    let small = siege.alice.with_credentials(small);
    siege.alice.send(&small)?;
    let arrived = siege.bob.expect_request("MESSAGE")?;
    ensure!(arrived.body == small.body, "{} bytes of {} arrived", arrived.body.len(), small.body.len());
    siege.bob.reply(&arrived, 200, "OK")?;
    siege.alice.expect_status(&small, 200)?;

    let large = siege.alice.request("MESSAGE", &uri).with_body("text/plain", "m".repeat(64_200));
    let large = siege.alice.with_credentials(large);
    siege.alice.send(&large)?;
    siege.alice.expect_status(&large, 513)?;
    siege.end()
}

fn cases() -> Vec<Case> {
    let mut cases = large();
    cases.extend(broken());
    cases.extend(lengths());
    cases.extend(out_of_place());
    cases
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, answer: Option<u16>, counter: &'static str) -> Case {
    Case { name, bytes: bytes.into(), answer, counter }
}

/// What is larger than anybody needs.
fn large() -> Vec<Case> {
    let invite = |number| head("INVITE", number, "UDP");
    let mut filled = format!("{}X-Filler: ", invite(1));
    filled.push_str(&"f".repeat(DATAGRAM_BYTES_MAX - filled.len() - 4));
    filled.push_str("\r\n\r\n");
    let one_line = vec!["SIP/2.0/UDP a;branch=z9hG4bKa"; 1000].join(", ");
    let parameters = ";p=q".repeat(10_000);
    vec![
        // The `received` that it gets makes it larger than a message may be.
        case("the largest datagram", filled, Some(513), "malformed"),
        case(
            "a thousand Vias in one line",
            format!("{}Via: {one_line}\r\n\r\n", invite(2)),
            Some(407),
            "challenged",
        ),
        case(
            "a thousand Vias in lines of their own",
            format!("{}{}\r\n", invite(3), "Via: SIP/2.0/UDP a;branch=z9hG4bKa\r\n".repeat(1000)),
            Some(513),
            "malformed",
        ),
        case(
            "ten thousand parameters",
            invite(4).replace("<sip:alice@192.0.2.66>", &format!("<sip:alice@192.0.2.66>{parameters}"))
                + "\r\n",
            Some(407),
            "challenged",
        ),
        case(
            "ten thousand parameters in From",
            invite(5).replace(";tag=s5", &format!("{parameters};tag=s5")) + "\r\n",
            Some(407),
            "challenged",
        ),
        case(
            "ten thousand parameters in the Request-URI",
            invite(6).replacen("203.0.113.10 SIP", &format!("203.0.113.10{parameters} SIP"), 1) + "\r\n",
            None,
            "garbage",
        ),
        case(
            "ten thousand header fields",
            format!("{}{}\r\n", invite(7), "A:b\r\n".repeat(10_000)),
            Some(513),
            "malformed",
        ),
        case(
            "empty header names",
            format!("{}{}\r\n", invite(8), ":\r\n".repeat(10_000)),
            Some(400),
            "malformed",
        ),
        case(
            "one header field of 60 KB",
            format!("{}Subject: {}\r\n\r\n", invite(9), "s".repeat(60_000)),
            Some(407),
            "challenged",
        ),
        case(
            "a header field folded for ever",
            format!("{}Subject: a{}\r\n\r\n", invite(10), "\r\n b".repeat(15_000)),
            Some(407),
            "challenged",
        ),
        case(
            "a Call-ID of 60 KB",
            invite(11).replace("stranger-11\r\nCSeq", &format!("{}\r\nCSeq", "c".repeat(60_000))) + "\r\n",
            Some(400),
            "malformed",
        ),
        case(
            "a branch of 60 KB",
            invite(12).replace("z9hG4bK", &format!("z9hG4bK{}", "b".repeat(60_000))) + "\r\n",
            Some(400),
            "malformed",
        ),
        case(
            "a method of 1,000 letters",
            head(&"M".repeat(1000), 13, "UDP") + "\r\n",
            Some(400),
            "malformed",
        ),
    ]
}

/// What is no SIP, or nearly.
fn broken() -> Vec<Case> {
    let options = head("OPTIONS", 20, "UDP");
    vec![
        case("zero bytes", vec![0; 2000], None, "keepalive_received"),
        case("random bytes", (0..=255u8).rev().cycle().take(1200).collect::<Vec<_>>(), None, "garbage"),
        case("65,507 letters", vec![b'A'; DATAGRAM_BYTES_MAX], None, "garbage"),
        case("HTTP", "GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n", None, "garbage"),
        case(
            "SIP in the body of HTTP",
            format!("POST /sip HTTP/1.1\r\nContent-Length: 500\r\n\r\n{options}\r\n"),
            None,
            "garbage",
        ),
        case(
            "a NUL in the method",
            options.replace("OPTIONS sip", "OPT\0ONS sip") + "\r\n",
            None,
            "malformed",
        ),
        case(
            "a NUL in Call-ID",
            options.replace("stranger-20\r\nCSeq", "stran\0ger\r\nCSeq") + "\r\n",
            Some(400),
            "malformed",
        ),
        case(
            "a NUL in an unknown header field",
            format!("{options}X-Nul: a\0b\r\n\r\n"),
            Some(407),
            "challenged",
        ),
        case(
            "another version",
            options.replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia") + "\r\n",
            Some(505),
            "malformed",
        ),
        case("no empty line", options.clone(), Some(400), "malformed"),
        case("no CSeq", options.replace("CSeq: 1 OPTIONS\r\n", "") + "\r\n", Some(400), "malformed"),
        case("no Via", without(&options, "Via"), None, "malformed"),
        case("a line without a colon", format!("{options}nonsense\r\n\r\n"), Some(400), "malformed"),
        case("two different Call-IDs", format!("{options}Call-ID: another\r\n\r\n"), Some(400), "malformed"),
    ]
}

/// Content-Length that lies. RFC 3261 §18.3: what a datagram has behind the body is discarded.
fn lengths() -> Vec<Case> {
    let message = |number, line: &str| format!("{}{line}\r\n\r\n{SDP}", head("INVITE", number, "UDP"));
    vec![
        case("a length of a megabyte", message(40, "Content-Length: 1000000"), Some(400), "malformed"),
        case(
            "a length beyond all numbers",
            message(41, "Content-Length: 99999999999999999999"),
            Some(400),
            "malformed",
        ),
        case("a length that is too short", message(42, "Content-Length: 5"), Some(407), "challenged"),
        case("a length below zero", message(43, "Content-Length: -1"), Some(400), "malformed"),
        case("a length in letters", message(44, "Content-Length: many"), Some(400), "malformed"),
        case("two lengths", message(45, "Content-Length: 5\r\nl: 6"), Some(400), "malformed"),
    ]
}

/// Well formed, but nobody asked for it.
fn out_of_place() -> Vec<Case> {
    let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKnothing\r\n\
         Via: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKvictim\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n\
         Call-ID: nothing\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
    let in_dialog = |method, number| {
        head(method, number, "UDP")
            .replace("To: <sip:bob@203.0.113.10>", "To: <sip:bob@203.0.113.10>;tag=made-up")
            + "\r\n"
    };
    vec![
        case("a response to nothing", response, None, "stray_response"),
        case(
            "a provisional response to nothing",
            response.replace("200 OK", "180 Ringing"),
            None,
            "stray_response",
        ),
        case("a response with a status beyond all", response.replace("200", "4294967301"), None, "malformed"),
        case("CANCEL for nothing", head("CANCEL", 60, "UDP") + "\r\n", Some(481), "stray_cancel"),
        case("ACK for nothing", in_dialog("ACK", 61), None, "no_token"),
        case("BYE for nothing", in_dialog("BYE", 62), Some(481), "no_token"),
        case("PRACK for nothing", in_dialog("PRACK", 63), Some(481), "no_token"),
        case("an unknown method", head("DANCE", 64, "UDP") + "\r\n", Some(407), "challenged"),
        case("MESSAGE", head("MESSAGE", 65, "UDP") + "\r\n", Some(407), "challenged"),
        case("REGISTER", register(), Some(401), "challenged"),
    ]
}

fn register() -> String {
    let uri = "REGISTER sip:203.0.113.10";
    head("REGISTER", 66, "UDP").replace("REGISTER sip:bob@203.0.113.10", uri) + "\r\n"
}

fn without(head: &str, name: &str) -> String {
    let lines = head.split_inclusive("\r\n").filter(|line| !line.starts_with(name));
    lines.collect::<String>() + "\r\n"
}

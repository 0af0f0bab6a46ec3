//! Connections that bring what no honest phone sends, or nothing at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, getrlimit};

use super::{PATIENCE, SDP, Siege, head};
use crate::lab::Lab;
use crate::process;
use crate::scenario::{Scenario, Skipped};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "hostile_streams_get_the_right_answer_and_are_closed", run: each },
    Scenario { name: "a_slow_sender_is_closed_in_time", run: slow },
    Scenario { name: "ten_thousand_silent_connections_hurt_no_call", run: half_open },
];

/// A sender that does not end its message is closed after this time.
const MESSAGE_TIMEOUT: &str = "[sip.tcp]\nmessage_timeout = \"2s\"\n";

/// What ten thousand silent connections may take: a task and two tables' lines each.
const CONNECTIONS_KIB_MAX: u64 = 100 * 1024;

/// What is written, which statuses come back, and whether the connection is closed then.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    answers: &'static [u16],
    counter: &'static str,
}

fn each(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, MESSAGE_TIMEOUT)?;
    for case in cases() {
        let before = siege.counter(case.counter)?;
        let mut stream = connect(&mut siege)?;
        stream.write_all(&case.bytes).with_context(|| case.name)?;
        let came = read_to_end(&mut stream).with_context(|| case.name)?;
        let came = String::from_utf8_lossy(&came);
        let statuses: Vec<u16> =
            came.lines().filter_map(|line| line.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()).collect();
        ensure!(statuses == case.answers, "{}: {statuses:?}", case.name);
        let after = siege.counter(case.counter)?;
        ensure!(after > before, "{}: {} went from {before} to {after}", case.name, case.counter);
        siege.is_unhurt().with_context(|| format!("after {}", case.name))?;
    }
    siege.end()
}

/// In all of them the next message can not be found, so the connection ends.
fn cases() -> Vec<Case> {
    let invite = |number| head("INVITE", number, "TCP");
    let with = |number, line: &str| format!("{}{line}\r\n\r\n{SDP}", invite(number));
    let whole = |number| with(number, &format!("Content-Length: {}", SDP.len()));
    let case = |name, bytes: String, answers, counter| Case { name, bytes: bytes.into(), answers, counter };
    vec![
        case("HTTP", "GET / HTTP/1.1\r\nHost: 203.0.113.10\r\n\r\n".to_owned(), &[], "connection_broken"),
        case(
            "SIP in the body of HTTP",
            format!("POST /sip HTTP/1.1\r\nContent-Length: 900\r\n\r\n{}", whole(1)),
            &[],
            "connection_broken",
        ),
        case("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".to_owned(), &[], "connection_broken"),
        case("a length of a megabyte", with(2, "Content-Length: 1000000"), &[513], "connection_broken"),
        case("a length below zero", with(3, "Content-Length: -1"), &[400], "connection_broken"),
        case("two lengths", with(4, "Content-Length: 5\r\nl: 6"), &[400], "connection_broken"),
        case("no length", with(5, "X-Length: 5"), &[400], "connection_broken"),
        // What is behind a body that was cut off is no start line.
        case("a length that is too short", with(6, "Content-Length: 5"), &[407], "connection_broken"),
        case("a length that is too long", with(7, "Content-Length: 2000"), &[], "connection_slow"),
        case("half a message", invite(8), &[], "connection_slow"),
        case(
            "two messages and half of one",
            [whole(9), whole(10), invite(11)].concat(),
            &[407, 407],
            "connection_slow",
        ),
        case(
            "another version",
            whole(12).replace("SIP/2.0\r\nVia", "SIP/7.0\r\nVia") + "garbage\r\n",
            &[505],
            "connection_broken",
        ),
        case(
            "ten thousand header fields",
            format!("{}{}\r\n", invite(13), "A:b\r\n".repeat(10_000)),
            &[513],
            "connection_broken",
        ),
        case(
            "header fields without end",
            format!("{}{}", invite(14), "A:b\r\n".repeat(20_000)),
            &[],
            "connection_broken",
        ),
        case(
            "a first line without end",
            "INVITE sip:".to_owned() + &"a".repeat(40_000),
            &[],
            "connection_broken",
        ),
        case("nothing but NULs", "\0".repeat(1000), &[], "connection_broken"),
    ]
}

/// One byte a second.
fn slow(lab: &Lab) -> Result<()> {
    let mut siege = Siege::begin(lab, MESSAGE_TIMEOUT)?;
    let before = siege.counter("connection_slow")?;
    let mut stream = connect(&mut siege)?;
    let bytes = head("INVITE", 1, "TCP").into_bytes();
    let start = Instant::now();
    let mut sent = 0;
    for byte in bytes.iter().take(20) {
        // The write after the server has closed fails, or the one after that.
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        siege.is_unhurt()?;
        std::thread::sleep(
            Duration::from_secs(1).saturating_sub(start.elapsed() - Duration::from_secs(sent - 1)),
        );
    }
    ensure!(sent < 20, "a sender of one byte a second was never closed");
    ensure!(siege.counter("connection_slow")? == before + 1, "it was not counted");
    siege.end()
}

/// As many as the server takes, and some more.
fn half_open(lab: &Lab) -> Result<()> {
    const COUNT: usize = 10_000;
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if limit < COUNT as u64 + 500 {
        bail!(Skipped(format!("the limit of open files is {limit}")));
    }
    // All are to be open at once, however long the machine takes for it.
    let mut siege = Siege::begin(lab, "[sip.tcp]\nmessage_timeout = \"1m\"\n")?;
    let before = siege.counter("connection_refused")?;
    let mut held = Vec::new();
    for _ in 0..COUNT {
        held.push(connect(&mut siege)?);
    }
    siege.is_unhurt().context("with all connections open")?;
    process::wait_until("refusal of the last ones", PATIENCE, || {
        Ok((siege.counter("connection_refused")? > before).then_some(()))
    })?;
    let memory = process::memory_kib(siege.server.id()?)?;
    ensure!(memory < siege.memory_kib + CONNECTIONS_KIB_MAX, "the connections take {memory} KiB");
    // Who has an account can not be kept out over UDP.
    siege.alice.register()?;
    drop(held);
    process::wait_until("end of the connections", Duration::from_secs(20), || {
        let status = siege.server.json(&["status"])?;
        // Bob's is left.
        Ok((status["connections"].as_u64() <= Some(1)).then_some(()))
    })?;
    siege.bob.register().context("over the old connection")?;
    siege.is_unhurt()?;
    siege.end_within(CONNECTIONS_KIB_MAX)
}

fn connect(siege: &mut Siege) -> Result<TcpStream> {
    let (local, target) = (SocketAddr::new(siege.stranger(), 0), siege.target()?);
    let stream = siege.strangers.enter(|| connect_from(local, target))??;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn connect_from(local: SocketAddr, target: SocketAddr) -> Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &local)?;
    connect(&socket, &target)?;
    Ok(TcpStream::from(socket))
}

/// What comes until the server closes the connection.
fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut came = Vec::new();
    match stream.read_to_end(&mut came) {
        Ok(_) => Ok(came),
        // It was closed with bytes of ours unread.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(came),
        Err(error) => bail!("the connection stays open: {error}, {}", String::from_utf8_lossy(&came)),
    }
}

//! What keeps a NAT router's translation open: CRLF, STUN, and the server's own OPTIONS.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::lab::router::Router;
use crate::phone::Phone;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_crlf_ping_on_tcp_gets_a_pong", run: crlf },
    Scenario { name: "a_stun_request_on_the_sip_port_gets_the_mapped_address", run: stun },
    Scenario { name: "a_phone_behind_nat_that_answers_no_keepalive_is_dropped", run: dropped },
];

fn crlf(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::tcp(&lab.host("alice", 21)?, "alice", &server)?;
    alice.wire().send(b"\r\n\r\n")?;
    let pong = alice.wire().receive_bytes(Instant::now() + Duration::from_secs(3))?;
    ensure!(pong.as_deref() == Some(b"\r\n"), "the pong was {pong:?}");
    alice.register().map(drop)
}

fn stun(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    // RFC 8489 §5: a Binding request is type, length, magic cookie and transaction id.
    let mut request = vec![0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42];
    request.extend_from_slice(b"twelve bytes");

    alice.wire().send(&request)?;

    let answer = alice.wire().receive_bytes(Instant::now() + Duration::from_secs(3))?;
    let answer = answer.context("no answer")?;
    ensure!(answer.starts_with(&[0x01, 0x01]), "not a success: {answer:02x?}");
    ensure!(answer.get(4..20) == request.get(4..20), "another transaction");
    // RFC 8489 §14.2: the address is XORed with the magic cookie.
    let address = router.address().octets();
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    let xored: Vec<u8> = address.iter().zip(cookie).map(|(a, c)| a ^ c).collect();
    let attribute = answer.windows(4).position(|w| w == [0x00, 0x20, 0x00, 0x08]);
    let attribute = attribute.context("no XOR-MAPPED-ADDRESS")?;
    let found = answer.get(attribute + 8..attribute + 12);
    ensure!(found == Some(xored.as_slice()), "another address: {found:02x?}");
    Ok(())
}

fn dropped(lab: &Lab) -> Result<()> {
    let toml = "[nat]\nkeepalive_interval = \"1s\"\nkeepalive_failures = 2\n".to_owned();
    let settings = Settings { toml, ..Settings::defaults() };
    let server = Server::start(lab, &settings, &["alice", "bob"])?;
    let router = Router::new(lab, "router", 50)?;
    let mut alice = Phone::udp(&router.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&router.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    server.wait_for_bindings(2)?;
    // alice answers each OPTIONS while she looks for something that does not come; bob is mute.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(45) {
        alice.expect_none("a BYE", Duration::from_millis(500), |m| m.method() == Some("BYE"))?;
        if server.json(&["status"])?["bindings"].as_u64() == Some(1) {
            let left = server.json(&["contacts"])?[0]["aor"].clone();
            ensure!(left.as_str().is_some_and(|aor| aor.starts_with("alice@")), "left: {left}");
            return Ok(());
        }
    }
    anyhow::bail!("both bindings are there after {:?}", start.elapsed())
}

//! A long INVITE to a phone on UDP stays on UDP, in fragments: only its own flow leads to a phone.

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::lab::router::Router;
use crate::phone::call::{self, SDP};
use crate::phone::{Phone, message::Message};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "an_invite_of_1500_bytes_reaches_a_phone_on_udp", run: public },
    Scenario { name: "an_invite_of_1500_bytes_reaches_a_phone_on_udp_behind_nat", run: behind_nat },
    Scenario { name: "an_invite_of_9000_bytes_reaches_a_phone_on_udp", run: very_long },
];

fn public(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    arrives(lab, &server, bob, 1500)
}

fn behind_nat(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let router = Router::new(lab, "router", 50)?;
    let bob = Phone::udp(&router.host("bob", 22)?, "bob", &server)?;
    arrives(lab, &server, bob, 1500)
}

fn very_long(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    arrives(lab, &server, bob, 9000)
}

fn arrives(lab: &Lab, server: &Server, mut bob: Phone, bytes: usize) -> Result<()> {
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", server)?;
    bob.register()?;
    let invite = alice.request("INVITE", &bob.aor());
    let invite = padded(invite, bytes);

    let sent = call::invite_with(&mut alice, invite)?;

    let arrived = bob.expect_request("INVITE")?;
    ensure!(arrived.body == sent.body, "the body was changed");
    ensure!(arrived.to_bytes().len() >= bytes, "the INVITE became shorter");
    let via = arrived.header("Via").unwrap_or_default();
    ensure!(via.starts_with("SIP/2.0/UDP"), "the INVITE came by {via}");
    bob.reply(&arrived, 486, "Busy Here")?;
    let busy = alice.expect_status(&sent, 486)?;
    alice.send(&call::acknowledge(&sent, &busy))?;
    bob.expect_request("ACK")?;
    Ok(())
}

/// The message with a body that brings it to this length.
fn padded(message: Message, bytes: usize) -> Message {
    let mut body = SDP.to_owned();
    while message.to_bytes().len() + body.len() < bytes {
        body.push_str("a=x-padding:0123456789012345678901234567890123456789\r\n");
    }
    message.with_body("application/sdp", body)
}

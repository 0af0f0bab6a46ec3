//! SIPp: registration, calls through Record-Route with a re-INVITE, CANCEL.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::Phone;
use crate::phone::wire::Transport;
use crate::process;
use crate::server::{Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "sipp_registers_with_digest", run: registers },
    Scenario { name: "sipp_calls_with_record_route_and_re_invite", run: calls },
    Scenario { name: "sipp_calls_over_tcp_a_phone_on_udp", run: calls_over_tcp },
    Scenario { name: "sipp_calls_over_udp_a_phone_on_tcp", run: calls_a_phone_on_tcp },
    Scenario { name: "sipp_cancels_a_ringing_call", run: cancels },
];

fn registers(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice"])?;
    let phone = lab.host("alice", 21)?;
    Sipp::run(lab, &phone, &server, Flow::udp("register", "alice", ""))?;
    let tcp = Flow { transport: Transport::Tcp, port: 5070, ..Flow::udp("register", "alice", "") };
    Sipp::run(lab, &phone, &server, tcp)
}

fn calls(lab: &Lab) -> Result<()> {
    call_over(lab, Transport::Udp)
}

fn calls_over_tcp(lab: &Lab) -> Result<()> {
    call_over(lab, Transport::Tcp)
}

fn call_over(lab: &Lab, transport: Transport) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob"])?;
    let (alice, bob) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    Sipp::run(lab, &bob, &server, Flow::udp("register", "bob", ""))?;
    let callee = Sipp::start(lab, &bob, &server, Flow::udp("callee", "bob", ""))?;
    let caller = Flow { transport, ..Flow::udp("caller", "alice", "bob") };
    Sipp::run(lab, &alice, &server, caller)?;
    callee.succeed()
}

/// SIPp can not register and be called on one TCP connection, so the callee is written here.
fn calls_a_phone_on_tcp(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob"])?;
    let (alice, bob) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    let mut bob = Phone::tcp(&bob, "bob", &server)?;
    bob.register()?;
    let caller = Sipp::start(lab, &alice, &server, Flow::udp("caller", "alice", "bob"))?;
    let invite = bob.expect_request("INVITE")?;
    bob.reply(&invite, 180, "Ringing")?;
    bob.reply(&invite, 200, "OK")?;
    bob.expect_request("ACK")?;
    let again = bob.expect_request("INVITE").context("the re-INVITE")?;
    bob.reply(&again, 200, "OK")?;
    bob.expect_request("ACK").context("the ACK of the re-INVITE")?;
    let bye = bob.expect_request("BYE")?;
    bob.reply(&bye, 200, "OK")?;
    anyhow::ensure!(invite.body.contains("m=audio"), "the offer was lost");
    caller.succeed()
}

fn cancels(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob"])?;
    let (alice, bob) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    Sipp::run(lab, &bob, &server, Flow::udp("register", "bob", ""))?;
    let callee = Sipp::start(lab, &bob, &server, Flow::udp("callee_is_cancelled", "bob", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_cancels", "alice", "bob"))?;
    callee.succeed()?;
    nothing_is_left(&server)
}

/// Once all timers have run out the server holds no transaction.
fn nothing_is_left(server: &Server) -> Result<()> {
    process::wait_until("end of all transactions", Duration::from_secs(40), || {
        let transactions = &server.json(&["status"])?["transactions"];
        let left = [&transactions["server"], &transactions["client"]];
        Ok(left.iter().all(|count| count.as_u64() == Some(0)).then_some(()))
    })
}

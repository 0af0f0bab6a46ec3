//! A phone that keeps two connections to the server, so that it is reached when one of them dies (RFC 5626).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::message::Message;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_phone_with_two_flows_is_called_by_the_one_that_lives", run: two_flows }];

/// One phone, whichever flow it comes by.
const BOB: &str = "urn:uuid:0d2f6f1c-6a3e-4c0a-9a64-3f6d3b1c9b01";
/// How long a flow waits for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

fn two_flows(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let host = lab.host("bob", 22)?;
    let mut older = Phone::tcp(&host, "bob", &server)?.with_flow(BOB, 1);
    older.register()?;
    let mut newer = Phone::tcp(&host, "bob", &server)?.with_flow(BOB, 2);
    newer.register()?;
    server.wait_for_bindings(2).context("both flows of one instance")?;

    // The newest flow has the call alone, until it says that it failed.
    let invite = call::invite(&mut alice, &newer.aor())?;
    let arrived = expect_call(&mut newer, &invite).context("by the newest flow")?;
    older.expect_none("the same call", SILENCE, is_of(&invite))?;
    newer.reply(&arrived, 430, "Flow Failed")?;
    let arrived = expect_call(&mut older, &invite).context("by the other flow after the 430")?;
    older.reply(&arrived, 486, "Busy Here")?;
    let answer = alice.expect_status(&invite, 486)?;
    alice.send(&call::acknowledge(&invite, &answer))?;

    // A connection dies, and with it the flow.
    drop(newer);
    server.wait_for_bindings(1).context("the flow whose connection ended")?;
    let (mut from_alice, mut from_bob) = call::establish(&mut alice, &mut older)?;
    let info = from_alice.request(&mut alice, "INFO");
    alice.send(&info)?;
    let arrived = older.expect_request("INFO")?;
    older.reply(&arrived, 200, "OK")?;
    alice.expect_status(&info, 200)?;

    // The phone connects again in mid-call: what belongs to the call goes by its new flow.
    let mut again = Phone::tcp(&host, "bob", &server)?.with_flow(BOB, 2);
    again.register()?;
    drop(older);
    server.wait_for_bindings(1)?;
    let info = from_alice.request(&mut alice, "INFO");
    alice.send(&info)?;
    let arrived = again.expect_request("INFO").context("by the flow that came in mid-call")?;
    again.reply(&arrived, 200, "OK")?;
    alice.expect_status(&info, 200)?;
    call::hang_up(&mut again, &mut from_bob, &mut alice)?;

    // No flow is left.
    let aor = again.aor();
    drop(again);
    server.wait_for_bindings(0)?;
    let invite = call::invite(&mut alice, &aor)?;
    let answer = alice.final_response(&invite)?;
    ensure!(answer.status() == Some(480), "{} to a call of a phone without a flow", answer.start);
    alice.send(&call::acknowledge(&invite, &answer))
}

fn is_of(invite: &Message) -> impl Fn(&Message) -> bool + use<> {
    let call_id = invite.call_id().to_owned();
    move |message| message.call_id() == call_id
}

fn expect_call(phone: &mut Phone, invite: &Message) -> Result<Message> {
    let is_of = is_of(invite);
    phone.wait("INVITE", |message| message.method() == Some("INVITE") && is_of(message))
}

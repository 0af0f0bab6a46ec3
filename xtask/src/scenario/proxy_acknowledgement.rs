//! The ACK to our own 407 ends with us.

use std::time::Duration;

use anyhow::Result;

use super::Scenario;
use crate::lab::Lab;
use crate::phone::Phone;
use crate::phone::call::{self, SDP};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario { name: "the_ack_to_a_407_is_absorbed", run: absorbed }];

/// Longer than timer T1, after which something unanswered would come again.
const SILENCE: Duration = Duration::from_millis(1200);

fn absorbed(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    bob.register()?;
    let request = alice.request("INVITE", &bob.aor()).with_body("application/sdp", SDP);
    alice.send(&request)?;
    let challenge = alice.expect_status(&request, 407)?;

    alice.send(&call::acknowledge(&request, &challenge))?;

    alice.expect_none("an answer to the ACK", SILENCE, |message| message.call_id() == request.call_id())?;
    bob.expect_none("the ACK", Duration::from_millis(10), |message| message.call_id() == request.call_id())
}

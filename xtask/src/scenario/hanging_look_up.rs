//! The database takes long to find an account, and meanwhile life goes on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::call;
use crate::phone::message::Message;
use crate::phone::{Phone, call::SDP};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_cancel_during_an_account_look_up_gives_200_and_487", run: cancelled }];

/// How long each look-up takes.
const DELAY: Duration = Duration::from_millis(2500);

fn cancelled(lab: &Lab) -> Result<()> {
    let delay = ("TANDEM_TEST_STORE_DELAY_MS", DELAY.as_millis().to_string());
    let settings = Settings { environment: vec![delay], ..Settings::defaults() };
    let server = Server::start(lab, &settings, &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    // The challenge needs no account, so this INVITE with credentials is the first look-up.
    let request = alice.request("INVITE", &format!("sip:bob@{}", alice.domain));
    let request = request.with_body("application/sdp", SDP);
    let start = Instant::now();
    let sent = call::invite_with(&mut alice, request)?;

    let cancel = call::cancel(&sent);
    alice.send(&cancel)?;

    alice.expect_status(&cancel, 200)?;
    let terminated = alice.expect_status(&sent, 487)?;
    ensure!(start.elapsed() < DELAY, "the answers came only after the look-up");
    alice.send(&call::acknowledge(&sent, &terminated))?;
    alice.expect_none("an answer after the 487", DELAY, |message: &Message| message.answers(&sent))
}

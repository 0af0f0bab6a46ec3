//! Media through the relay: phones that can not reach each other hear each other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::baresip::{Account, Baresip};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::wire::Transport;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario { name: "phones_behind_two_nats_talk", run: behind_two_nats }];

/// Alice's tone.
pub const ALICE_HERTZ: u32 = 440;
/// Bob's tone.
pub const BOB_HERTZ: u32 = 1000;
const TALK: Duration = Duration::from_millis(3_500);
/// The tone must have been heard for this long: the first packets may come before both sides are known.
const HEARD_SECONDS_MIN: f64 = 1.0;

/// Each behind a router of its own, which lets in only what answers something that went out.
fn behind_two_nats(lab: &Lab) -> Result<()> {
    let settings = Settings { toml: "[relay]\nrelay = \"nat\"\n".to_owned(), ..Settings::defaults() };
    let server = Server::start(lab, &settings, &["alice", "bob"])?;
    let alice = Router::new(lab, "router-a", 50)?.host("alice", 21)?;
    let bob = Router::new(lab, "router-b", 51)?.host("bob", 22)?;
    let account = |user, hertz| Account { user, transport: Transport::Udp, family: Family::V4, hertz };
    let mut alice = Baresip::start(lab, &alice, &server, account("alice", ALICE_HERTZ))?;
    let mut bob = Baresip::start(lab, &bob, &server, account("bob", BOB_HERTZ))?;
    alice.wait_until_registered()?;
    bob.wait_until_registered()?;
    alice.dial(&format!("sip:bob@{}", server.domain(Family::V4)?))?;
    alice.wait_until_established()?;
    bob.wait_until_established()?;
    std::thread::sleep(TALK);
    alice.hang_up()?;
    bob.wait_until_closed()?;
    hears(&alice, BOB_HERTZ).context("alice")?;
    hears(&bob, ALICE_HERTZ).context("bob")
}

/// Fails unless the phone has heard this tone.
pub fn hears(phone: &Baresip, hertz: u32) -> Result<()> {
    let seconds = phone.seconds_heard(hertz)?;
    ensure!(seconds >= HEARD_SECONDS_MIN, "heard {hertz} Hz for {seconds} s only");
    Ok(())
}

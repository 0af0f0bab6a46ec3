//! SIPp: an account that may make one call at a time.

use std::time::Duration;

use anyhow::Result;

use super::Scenario;
use crate::lab::{Family, Lab};
use crate::process;
use crate::server::{Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "an_account_makes_one_call_at_a_time_and_the_next_when_it_has_ended",
    run: one_at_a_time,
}];

fn one_at_a_time(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob"])?;
    let (alice, bob) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    Sipp::run(lab, &bob, &server, Flow::udp("register", "bob", ""))?;
    let aor = format!("alice@{}", server.domain(Family::V4)?);
    process::quietly(&mut server.command(&["subscriber", "limit", &aor, "1"]))?;

    let answers = Sipp::start(lab, &bob, &server, Flow::udp("callee_short", "bob", ""))?;
    let talks = Sipp::start(lab, &alice, &server, Flow::udp("caller_talks", "alice", "bob"))?;
    wait_for_calls(&server, 1)?;
    let second = Flow { port: 5070, ..Flow::udp("caller_refused", "alice", "bob") };
    Sipp::run(lab, &alice, &server, second)?;
    talks.succeed()?;
    answers.succeed()?;
    wait_for_calls(&server, 0)?;

    let answers = Sipp::start(lab, &bob, &server, Flow::udp("callee_short", "bob", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller_short", "alice", "bob"))?;
    answers.succeed()
}

/// Waits until so many calls ring or are up.
fn wait_for_calls(server: &Server, count: u64) -> Result<()> {
    process::wait_until(&format!("{count} calls"), Duration::from_secs(10), || {
        let there = server.json(&["status"])?["calls"].as_u64();
        Ok((there == Some(count)).then_some(()))
    })
}

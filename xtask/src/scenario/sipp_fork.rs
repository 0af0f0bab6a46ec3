//! SIPp: one AoR with two phones; one answers, the other gets a CANCEL.

use anyhow::Result;

use super::Scenario;
use crate::lab::Lab;
use crate::server::{Server, Settings};
use crate::sipp::{Flow, Sipp};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "sipp_forks_and_cancels_the_phone_that_did_not_answer", run: forks }];

fn forks(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::md5(), &["alice", "bob"])?;
    let alice = lab.host("alice", 21)?;
    let (desk, kitchen) = (lab.host("desk", 22)?, lab.host("kitchen", 23)?);
    for host in [&desk, &kitchen] {
        Sipp::run(lab, host, &server, Flow::udp("register", "bob", ""))?;
    }
    let answers = Sipp::start(lab, &desk, &server, Flow::udp("callee", "bob", ""))?;
    let rings = Sipp::start(lab, &kitchen, &server, Flow::udp("callee_is_cancelled", "bob", ""))?;
    Sipp::run(lab, &alice, &server, Flow::udp("caller", "alice", "bob"))?;
    answers.succeed()?;
    rings.succeed()
}

//! The server is stopped, or killed, and started again in mid-call.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::{Phone, call};
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_call_can_be_ended_after_the_server_was_stopped", run: stopped },
    Scenario { name: "a_call_can_be_ended_after_the_server_was_killed", run: killed },
    Scenario { name: "bindings_are_there_after_the_server_was_stopped", run: bindings_stopped },
    Scenario { name: "bindings_are_there_after_the_server_was_killed", run: bindings_killed },
    Scenario { name: "a_call_over_tcp_can_be_ended_after_a_restart", run: stopped_tcp },
];

/// A kill loses at most 100 ms of bindings; this is more than that.
const WRITTEN_AFTER: Duration = Duration::from_millis(500);

/// The instance id of bob's phone.
const BOB: &str = "urn:uuid:00000000-0000-1000-8000-000a95a0e128";

#[derive(Clone, Copy, Debug)]
enum End {
    Stop,
    Kill,
}

fn stopped(lab: &Lab) -> Result<()> {
    in_mid_call(lab, End::Stop)
}

fn killed(lab: &Lab) -> Result<()> {
    in_mid_call(lab, End::Kill)
}

fn in_mid_call(lab: &Lab, end: End) -> Result<()> {
    let mut server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    alice.register()?;
    bob.register()?;
    let (mut first, _) = call::establish(&mut alice, &mut bob)?;
    let (_, mut second) = call::establish(&mut alice, &mut bob)?;

    restart(&mut server, end)?;

    call::hang_up(&mut alice, &mut first, &mut bob).context("the caller hangs up")?;
    call::hang_up(&mut bob, &mut second, &mut alice).context("the callee hangs up")?;
    // The nonce of before the restart, with the next count.
    for phone in [&mut alice, &mut bob] {
        let refresh = phone.register_request(600);
        let refresh = phone.with_credentials(refresh);
        phone.send(&refresh)?;
        let answer = phone.final_response(&refresh)?;
        ensure!(answer.status() == Some(200), "the old nonce was answered by {}", answer.start);
    }
    Ok(())
}

fn bindings_stopped(lab: &Lab) -> Result<()> {
    bindings_stay(lab, End::Stop)
}

fn bindings_killed(lab: &Lab) -> Result<()> {
    bindings_stay(lab, End::Kill)
}

fn bindings_stay(lab: &Lab, end: End) -> Result<()> {
    let mut server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let mut bob = Phone::udp(&lab.host("bob", 22)?, "bob", &server)?;
    bob.register()?;

    restart(&mut server, end)?;

    let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;
    call::hang_up(&mut alice, &mut dialog, &mut bob)
}

/// The connections are gone with the process: the phones come back on another one, register, and
/// the call goes on there.
fn stopped_tcp(lab: &Lab) -> Result<()> {
    let mut server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let (alice_host, bob_host) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    let mut alice = Phone::tcp(&alice_host, "alice", &server)?;
    let mut bob = Phone::tcp(&bob_host, "bob", &server)?.with_instance(BOB);
    alice.register()?;
    bob.register()?;
    let (mut dialog, _) = call::establish(&mut alice, &mut bob)?;

    restart(&mut server, End::Stop)?;
    let mut alice = Phone::tcp(&alice_host, "alice", &server)?;
    let mut bob = Phone::tcp(&bob_host, "bob", &server)?.with_instance(BOB);
    alice.register()?;
    bob.register()?;

    call::hang_up(&mut alice, &mut dialog, &mut bob)
}

fn restart(server: &mut Server, end: End) -> Result<()> {
    match end {
        End::Stop => server.terminate()?,
        End::Kill => {
            std::thread::sleep(WRITTEN_AFTER);
            server.kill()?;
        }
    }
    server.start_again()
}

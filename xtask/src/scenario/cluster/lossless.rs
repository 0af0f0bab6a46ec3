//! A planned switchover loses no message: phones that repeat nothing are answered each time, also those that believe no
//! announcement.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::stage::{ADDRESSES, Stage};
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::observer::now;
use crate::lab::pair::{Side, VIP};
use crate::lab::{Host, Lab};
use crate::phone::Phone;
use crate::phone::call::{establish, hang_up};
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_planned_switchover_loses_not_one_message", run: there_and_back }];

/// How often the service goes there and back.
const ROUNDS: usize = 3;
/// How long an answer may take that is not lost: more than any hand-over.
const ANSWERED_AFTER: Duration = Duration::from_secs(3);

fn there_and_back(lab: &Lab) -> Result<()> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    stage.cluster.prepare_accounts(0, &["alice", "bob"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    // The phone believes for ever that the first node has the addresses, and the router from the first move on that the
    // second one has them: each needs what is passed on for half of the time.
    pin(&stage, &stage.pair.phone, Side::A)?;
    let begun = now();

    let is_over = AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let calls = scope.spawn(|| call_on(&stage, &is_over));
        let moved = move_on(&stage);
        is_over.store(true, Ordering::Relaxed);
        let calls = calls.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        moved.and(calls)
    })?;
    ensure!(calls > ROUNDS, "only {calls} calls were made");

    // What is lost is not answered later.
    stage.wait_for_service()?;
    let until = now();
    std::thread::sleep(ANSWERED_AFTER);
    for phone in stage.phones() {
        let lost = phone.unanswered(begun, until);
        let at: Vec<_> = lost.iter().map(|at| at.saturating_sub(begun)).collect();
        ensure!(
            lost.is_empty(),
            "{}: {} requests got no answer, sent after {at:?}",
            phone.name(),
            lost.len()
        );
        let gap = phone.longest_gap(begun, until);
        println!("{}: no request lost in {calls} calls, longest silence {gap:?}", phone.name());
    }
    for side in Side::BOTH {
        let status = stage.cluster.status(&stage.pair, side).context("no status")?;
        let passed_on = status["cluster"]["gate"]["passed_on"].as_u64();
        ensure!(passed_on.is_some_and(|frames| frames > 0), "{} has passed nothing on", side.name());
    }
    stage.end(&["a", "b"].repeat(ROUNDS).into_iter().chain(["a"]).collect::<Vec<_>>())
}

fn move_on(stage: &Stage<'_>) -> Result<()> {
    for round in 0..ROUNDS {
        for from in Side::BOTH {
            stage.cluster.switch_over(&stage.pair, from)?;
            stage.wait_until_served_by(from.other())?;
            stage.wait_until_ready(from)?;
            if round == 0 && from == Side::A {
                pin(stage, &stage.pair.router, Side::B)?;
            }
        }
    }
    Ok(())
}

/// From here on a host believes no announcement.
fn pin(stage: &Stage<'_>, host: &Host, side: Side) -> Result<()> {
    let mac = stage.mac(side).to_string();
    for address in ADDRESSES {
        let address = address.to_string();
        host.ip(&["neigh", "replace", &address, "lladdr", &mac, "dev", "eth0", "nud", "permanent"])?;
    }
    Ok(())
}

/// Registers, calls and hangs up without an end. A message that does not come is an error: nobody repeats one.
fn call_on(stage: &Stage<'_>, is_over: &AtomicBool) -> Result<usize> {
    let domain = VIP.to_string();
    let phone = |user| Phone::at_service(&stage.pair.phone, user, &domain, SocketAddr::from((VIP, 5060)));
    let (mut alice, mut bob) = (phone("alice")?, phone("bob")?);
    let mut calls = 0;
    while !is_over.load(Ordering::Relaxed) {
        bob.register().with_context(|| format!("a REGISTER after {calls} calls"))?;
        let (mut dialog, _) =
            establish(&mut alice, &mut bob).with_context(|| format!("call {calls} does not begin"))?;
        hang_up(&mut alice, &mut dialog, &mut bob).with_context(|| format!("call {calls} does not end"))?;
        calls += 1;
    }
    Ok(calls)
}

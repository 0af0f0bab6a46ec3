//! What a call costs: processor time of the active engine, delay, and bytes on the link and in memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cost::{Link, Server};
use super::load;
use super::work::Setup;
use crate::bench::cpu_time;
use crate::lab::Lab;
use crate::lab::pair::{Pair, Side, VIP};
use crate::phone::Phone;
use crate::phone::call::{SDP, acknowledge};
use crate::phone::message::Message;

/// Addresses of record that are called.
const USERS: u64 = 1_000;
/// Calls of which the processor time is taken.
const CALLS: u64 = 50_000;
/// Calls of which the delays are taken, one after the other.
const DELAYS: usize = 1_000;
/// Calls that ring at once, of which the memory is taken.
const RINGING: u64 = 5_000;

/// Measures one setup.
pub fn measure(lab: &Lab, setup: Setup) -> Result<Value> {
    let busy = load::others()?;
    let pair = Pair::new(lab)?;
    let server = Server::start(lab, &pair, setup)?;
    let link = Link::watch(&pair)?;
    // First, as what the load leaves behind is given back only later.
    let held = ringing(&pair, &server).context("calls that ring")?;
    load::register(&pair, USERS, USERS, || Ok(())).context("registrations")?;
    // The first calls make room for the others.
    load::call(&pair, USERS, CALLS / 10, || Ok(())).context("calls before")?;
    let mut before = (Duration::ZERO, (0, 0), 0);
    let a_second = load::call(&pair, USERS, CALLS, || {
        before = (server.rested()?, link.bytes()?, server.degraded()?);
        Ok(())
    })?;
    let (used, bytes, degraded) = (server.rested()? - before.0, link.bytes()?, server.degraded()? - before.2);
    let delays = delays(&pair).context("delays")?;
    Ok(json!({
        "busy": busy,
        "call_us": used.as_secs_f64() * 1e6 / CALLS as f64,
        "calls_a_second": a_second,
        "link": (bytes.0 - before.1.0) as f64 / CALLS as f64,
        "back": (bytes.1 - before.1.1) as f64 / CALLS as f64,
        "degraded": degraded,
        "trying_ms": delays.trying,
        "ringing_ms": delays.ringing,
        "answer_ms": delays.answer,
        "memory": held.0,
        "memory_of_standby": held.1,
    }))
}

/// Medians at the phones, in milliseconds.
struct Delays {
    /// From the INVITE to its 100, which waits for the other node.
    trying: f64,
    /// From the INVITE to the 180 of a phone that rings at once.
    ringing: f64,
    /// From the phone's answer to the caller's, which waits for the other node.
    answer: f64,
}

/// One call after the other on a server that has nothing else to do.
fn delays(pair: &Pair) -> Result<Delays> {
    let (mut caller, mut callee) = phones(pair)?;
    let (mut trying, mut ringing, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..DELAYS {
        let start = Instant::now();
        let (asked, arrived) = invite(&mut caller, &mut callee)?;
        ringing.push(start.elapsed());
        refuse((&mut caller, &asked), (&mut callee, &arrived))?;
        caller.wait("100", |message| message.answers(&asked))?;

        let start = Instant::now();
        let asked = request(&mut caller, &callee);
        caller.send(&asked)?;
        caller.wait("100", |message| message.answers(&asked) && message.status() == Some(100))?;
        trying.push(start.elapsed());
        let arrived = callee.expect_request("INVITE")?;
        answer.push(refuse((&mut caller, &asked), (&mut callee, &arrived))?);
    }
    Ok(Delays { trying: median(trying), ringing: median(ringing), answer: median(answer) })
}

/// Bytes that a call takes in the active engine, and in the standby's, while it rings.
fn ringing(pair: &Pair, server: &Server) -> Result<(f64, Option<f64>)> {
    let (mut caller, mut callee) = phones(pair)?;
    let standby = match server {
        Server::Cluster(cluster) => cluster.engine(Side::B).ok(),
        Server::Single(_) => None,
    };
    let memory = |id: u32| cpu_time::memory_of_tree(id).map(|bytes| bytes as f64);
    server.rested()?;
    let before = (memory(server.engine()?)?, standby.map(memory).transpose()?);
    let mut calls = Vec::new();
    for _ in 0..RINGING {
        let (asked, arrived) = invite(&mut caller, &mut callee)?;
        caller.wait("100", |message| message.answers(&asked))?;
        calls.push((asked, arrived));
    }
    server.rested()?;
    let each = |before: f64, after: f64| (after - before) / RINGING as f64;
    let of_standby = match (standby, before.1) {
        (Some(id), Some(before)) => Some(each(before, memory(id)?)),
        _ => None,
    };
    let of_active = each(before.0, memory(server.engine()?)?);
    for (asked, arrived) in calls {
        refuse((&mut caller, &asked), (&mut callee, &arrived))?;
    }
    Ok((of_active, of_standby))
}

fn phones(pair: &Pair) -> Result<(Phone, Phone)> {
    let domain = VIP.to_string();
    let phone = |user| Phone::at_service(&pair.phone, user, &domain, SocketAddr::from((VIP, 5060)));
    let (caller, mut callee) = (phone("measuring")?, phone("measured")?);
    // A phone of this name that was there before is called no more.
    let request = callee.register_request(0).with_only("Contact", "*".to_owned());
    callee.send(&request)?;
    callee.expect_status(&request, 200)?;
    callee.register()?;
    Ok((caller, callee))
}

/// A call that rings.
fn invite(caller: &mut Phone, callee: &mut Phone) -> Result<(Message, Message)> {
    let asked = request(caller, callee);
    caller.send(&asked)?;
    let arrived = callee.expect_request("INVITE")?;
    callee.reply(&arrived, 180, "Ringing")?;
    caller.wait("180", |message| message.answers(&asked) && message.status() == Some(180))?;
    Ok((asked, arrived))
}

/// Ends it by the phone's 486; how long that one was on its way.
fn refuse(
    (caller, asked): (&mut Phone, &Message),
    (callee, arrived): (&mut Phone, &Message),
) -> Result<Duration> {
    let start = Instant::now();
    callee.reply(arrived, 486, "Busy Here")?;
    let end = caller.expect_status(asked, 486)?;
    let delay = start.elapsed();
    caller.send(&acknowledge(asked, &end))?;
    callee.expect_request("ACK")?;
    Ok(delay)
}

fn request(caller: &mut Phone, callee: &Phone) -> Message {
    caller.request("INVITE", &callee.aor()).with_body("application/sdp", SDP)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

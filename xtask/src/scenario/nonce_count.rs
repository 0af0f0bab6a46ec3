//! UDP reorders: a nonce count may come late, but never twice.

use anyhow::{Context, Result, ensure};

use super::Scenario;
use crate::lab::Lab;
use crate::phone::Phone;
use crate::phone::digest::Challenge;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "nonce_count_3_before_2_is_accepted", run: out_of_order },
    Scenario { name: "a_replayed_nonce_count_is_refused", run: replayed },
    Scenario { name: "a_made_up_nonce_is_refused", run: made_up },
    Scenario { name: "the_default_offer_is_sha_256_then_md5", run: offer },
];

fn out_of_order(lab: &Lab) -> Result<()> {
    let (_server, mut alice, challenge) = challenged(lab)?;
    for count in [1, 3, 2] {
        ensure!(register(&mut alice, &challenge, count)? == 200, "count {count} was refused");
    }
    Ok(())
}

fn replayed(lab: &Lab) -> Result<()> {
    let (_server, mut alice, challenge) = challenged(lab)?;
    for count in [1, 3] {
        ensure!(register(&mut alice, &challenge, count)? == 200, "count {count} was refused");
    }
    for count in [3, 1] {
        let status = register(&mut alice, &challenge, count)?;
        ensure!(status == 401, "count {count} was used twice and got {status}");
    }
    // The window has kept what was never used.
    ensure!(register(&mut alice, &challenge, 2)? == 200, "count 2 was refused");
    Ok(())
}

fn made_up(lab: &Lab) -> Result<()> {
    let (_server, mut alice, challenge) = challenged(lab)?;
    let made_up = Challenge { nonce: challenge.nonce.chars().rev().collect(), ..challenge };
    let status = register(&mut alice, &made_up, 1)?;
    ensure!(status == 401, "a made-up nonce got {status}");
    Ok(())
}

/// RFC 8760 §2.4: the server's order is its preference, and the phone may take any.
fn offer(lab: &Lab) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let wanted = ["SHA-256", "MD5"];
    for taken in wanted {
        let request = alice.register_request(600);
        alice.send(&request)?;
        let answer = alice.expect_status(&request, 401)?;
        let offers = answer.all("WWW-Authenticate");
        let offers: Vec<_> = offers.into_iter().filter_map(Challenge::parse).collect();
        let names: Vec<_> = offers.iter().map(|challenge| challenge.algorithm.as_str()).collect();
        ensure!(names == wanted, "offered: {names:?}");
        let challenge = offers.iter().find(|challenge| challenge.algorithm == taken);
        let status = register(&mut alice, challenge.context("no such offer")?, 1)?;
        ensure!(status == 200, "{taken} got {status}");
    }
    Ok(())
}

fn challenged(lab: &Lab) -> Result<(Server, Phone, Challenge)> {
    let server = Server::start(lab, &Settings::defaults(), &["alice"])?;
    let mut alice = Phone::udp(&lab.host("alice", 21)?, "alice", &server)?;
    let request = alice.register_request(600);
    alice.send(&request)?;
    let answer = alice.expect_status(&request, 401)?;
    let challenge = alice.remember(&answer)?;
    Ok((server, alice, challenge))
}

/// The status of a REGISTER, next in the series, with this nonce count.
fn register(phone: &mut Phone, challenge: &Challenge, count: u32) -> Result<u16> {
    let request = phone.register_request(600);
    let request = phone.with_count(request, challenge, count);
    phone.send(&request)?;
    phone.final_response(&request)?.status().context("not a response")
}

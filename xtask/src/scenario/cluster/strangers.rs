//! Strangers: one with the same address, and those who speak to the link without the key.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX, has_alarm, is_active, peer_stance};
use crate::lab::Lab;
use crate::lab::observer::{Way, now};
use crate::lab::pair::{Side, VIP};
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_stranger_with_the_same_address_is_an_alarm_and_loses_it_again", run: same_address },
    Scenario { name: "a_node_with_another_key_is_no_member", run: wrong_key },
    Scenario { name: "garbage_and_a_flood_at_the_link_do_no_harm", run: flood },
];

/// The port of the link.
const PORT: u16 = 7950;
/// More than any queue holds.
const FLOOD: usize = 100_000;

fn same_address(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    // Its cable is not one of those that the observer watches.
    let stranger = lab.host("stranger", 66)?;

    let start = now();
    stranger.ip(&["addr", "add", &format!("{VIP}/24"), "dev", "eth0"])?;
    let announcer = || anyhow::Ok(host::Announcer::open(host::Interface::find("eth0")?)?);
    stranger.enter(announcer)??.announce(IpAddr::V4(VIP))?;

    stage.wait_for(Side::A, "an alarm about the stranger", |status| {
        is_active(status) && has_alarm(status, "another host claims")
    })?;
    let mac = stage.pair.a.mac()?;
    stage.observer.wait_for("announcement against the stranger", TIME_MAX, |claim| {
        claim.at > start
            && claim.mac == mac
            && claim.address == IpAddr::V4(VIP)
            && claim.way == Way::ArpRequest
    })?;
    stranger.ip(&["addr", "del", &format!("{VIP}/24"), "dev", "eth0"])?;

    stage.wait_for_service().context("when the stranger is gone")?;
    stage.end(&["a"])
}

fn wrong_key(lab: &Lab) -> Result<()> {
    let mut stage = Stage::begin(lab, &Settings::default())?;
    stage.cluster.kill(Side::B)?;
    stage.cluster.change_key(Side::B)?;

    stage.cluster.start(&stage.pair, Side::B)?;

    stage.wait_for(Side::A, "a wrong key that is counted", |status| {
        counts(status, "wrong key") > 0 && peer_stance(status) == Some("silent")
    })?;
    stage.wait_for_service()?;
    ensure!(stage.spoken() == ["a"], "{:?} spoke", stage.spoken());
    stage.end(&["a"])
}

fn flood(lab: &Lab) -> Result<()> {
    let stage = Stage::begin(lab, &Settings::default())?;
    let epoch = stage.epoch(Side::A)?;
    let stranger = lab.host("stranger", 66)?;
    let socket = stranger.enter(|| UdpSocket::bind((stranger.v4, 0)))??;

    let start = Instant::now();
    for number in 0..FLOOD {
        let to = [&stage.pair.a, &stage.pair.b, &stage.pair.witness][number % 3];
        let bytes = nonsense(number);
        // A queue that is full is what a flood is about.
        let _ = socket.send_to(&bytes, SocketAddr::from((to.v4, PORT)));
        if start.elapsed() > TIME_MAX / 5 {
            break;
        }
    }

    stage.wait_for_service()?;
    let refused = |side| {
        process::wait_until("refusal that is counted", TIME_MAX, || {
            let status = stage.cluster.status(&stage.pair, side).unwrap_or_default();
            let discarded = status["cluster"]["link"]["discarded"].as_array().map_or(0, Vec::len);
            Ok((discarded > 0).then_some(()))
        })
    };
    refused(Side::A)?;
    refused(Side::B)?;
    stage.wait_until_ready(Side::B)?;
    ensure!(stage.epoch(Side::A)? == epoch, "the flood has cost the lease");
    stage.end(&["a"])
}

/// Of every length, and now and then with a beginning as a member's might be.
fn nonsense(number: usize) -> Vec<u8> {
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let length = number % 1400;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(if number.is_multiple_of(4) && bytes.len() < 8 {
            (number >> 8) as u8
        } else {
            state as u8
        });
    }
    bytes
}

fn counts(status: &serde_json::Value, cause: &str) -> u64 {
    let discarded = status["cluster"]["link"]["discarded"].as_array();
    let found = discarded.and_then(|all| all.iter().find(|one| one["cause"] == cause));
    found.and_then(|one| one["count"].as_u64()).unwrap_or(0)
}

//! baresip to baresip: each plays its own tone, and the recording of the other must have it.

use anyhow::{Context, Result, ensure};

use super::{Scenario, Skipped};
use crate::baresip::{Account, Baresip};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::wire::Transport;
use crate::server::{Server, Settings};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "baresip_phones_hear_each_other_over_udp_and_ipv4", run: udp_v4 },
    Scenario { name: "baresip_phones_hear_each_other_over_tcp_and_ipv4", run: tcp_v4 },
    Scenario { name: "baresip_phones_hear_each_other_over_udp_and_ipv6", run: udp_v6 },
    Scenario { name: "baresip_phones_hear_each_other_over_tcp_and_ipv6", run: tcp_v6 },
    Scenario { name: "baresip_behind_nat_calls_over_udp_and_is_heard", run: nat_calls_udp },
    Scenario { name: "baresip_behind_nat_calls_over_tcp_and_is_heard", run: nat_calls_tcp },
    Scenario { name: "baresip_behind_nat_is_called_over_udp_and_is_heard", run: nat_called_udp },
    Scenario { name: "baresip_behind_nat_is_called_over_tcp_and_is_heard", run: nat_called_tcp },
];

/// The tones of alice and bob; neither is a multiple of the other.
const ALICE_HERTZ: u32 = 440;
const BOB_HERTZ: u32 = 1000;
/// The tone must have been heard for this long: the first packets may come before the recording.
const HEARD_SECONDS_MIN: f64 = 1.0;
/// How long they talk.
const TALK: std::time::Duration = std::time::Duration::from_millis(2500);

fn udp_v4(lab: &Lab) -> Result<()> {
    both_hear(lab, Transport::Udp, Family::V4)
}

fn tcp_v4(lab: &Lab) -> Result<()> {
    both_hear(lab, Transport::Tcp, Family::V4)
}

fn udp_v6(lab: &Lab) -> Result<()> {
    both_hear(lab, Transport::Udp, Family::V6)
}

fn tcp_v6(lab: &Lab) -> Result<()> {
    both_hear(lab, Transport::Tcp, Family::V6)
}

fn both_hear(lab: &Lab, transport: Transport, family: Family) -> Result<()> {
    if family == Family::V6 && !std::path::Path::new("/proc/net/if_inet6").exists() {
        return Err(Skipped("the kernel has no IPv6".to_owned()).into());
    }
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let (alice, bob) = (lab.host("alice", 21)?, lab.host("bob", 22)?);
    let account = |user, hertz| Account { user, transport, family, hertz };
    let mut alice = Baresip::start(lab, &alice, &server, account("alice", ALICE_HERTZ))?;
    let mut bob = Baresip::start(lab, &bob, &server, account("bob", BOB_HERTZ))?;
    talk(&mut alice, &mut bob, &format!("sip:bob@{}", server.domain(family)?))?;
    hears(&alice, BOB_HERTZ, ALICE_HERTZ).context("alice")?;
    hears(&bob, ALICE_HERTZ, BOB_HERTZ).context("bob")
}

fn nat_calls_udp(lab: &Lab) -> Result<()> {
    behind_nat(lab, Transport::Udp, Caller::BehindNat)
}

fn nat_calls_tcp(lab: &Lab) -> Result<()> {
    behind_nat(lab, Transport::Tcp, Caller::BehindNat)
}

fn nat_called_udp(lab: &Lab) -> Result<()> {
    behind_nat(lab, Transport::Udp, Caller::Public)
}

fn nat_called_tcp(lab: &Lab) -> Result<()> {
    behind_nat(lab, Transport::Tcp, Caller::Public)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    BehindNat,
    Public,
}

/// alice is behind the router, bob is not. Media goes from phone to phone, and baresip sends it to
/// the address in the other's SDP: bob's is public, so bob hears alice; alice's is private, so
/// what bob sends has nowhere to go.
fn behind_nat(lab: &Lab, transport: Transport, caller: Caller) -> Result<()> {
    let server = Server::start(lab, &Settings::defaults(), &["alice", "bob"])?;
    let router = Router::new(lab, "router", 50)?;
    let (alice, bob) = (router.host("alice", 21)?, lab.host("bob", 22)?);
    let account = |user, hertz| Account { user, transport, family: Family::V4, hertz };
    let mut alice = Baresip::start(lab, &alice, &server, account("alice", ALICE_HERTZ))?;
    let mut bob = Baresip::start(lab, &bob, &server, account("bob", BOB_HERTZ))?;
    let domain = server.domain(Family::V4)?;
    match caller {
        Caller::BehindNat => talk(&mut alice, &mut bob, &format!("sip:bob@{domain}"))?,
        Caller::Public => talk(&mut bob, &mut alice, &format!("sip:alice@{domain}"))?,
    }
    hears(&bob, ALICE_HERTZ, BOB_HERTZ).context("bob")
}

fn talk(caller: &mut Baresip, callee: &mut Baresip, uri: &str) -> Result<()> {
    caller.wait_until_registered()?;
    callee.wait_until_registered()?;
    caller.dial(uri)?;
    caller.wait_until_established()?;
    callee.wait_until_established()?;
    std::thread::sleep(TALK);
    caller.hang_up()?;
    callee.wait_until_closed()
}

fn hears(phone: &Baresip, hertz: u32, own: u32) -> Result<()> {
    let seconds = phone.seconds_heard(hertz)?;
    ensure!(seconds >= HEARD_SECONDS_MIN, "heard {hertz} Hz for {seconds} s only");
    let seconds = phone.seconds_heard(own)?;
    ensure!(seconds == 0.0, "heard its own tone for {seconds} s");
    Ok(())
}

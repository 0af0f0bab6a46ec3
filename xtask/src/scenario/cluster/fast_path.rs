//! The kernel sends on media by itself, and only what it may.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::Stage;
use super::talk::{RELAY, talk};
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::lab::router::Router;
use crate::phone::Phone;
use crate::phone::call::hang_up;
use crate::process;
use crate::scenario::Scenario;
use crate::talker::{Talker, packet};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "media_of_a_talk_go_in_the_kernel_and_a_strangers_do_not", run: in_the_kernel }];

/// Packets of a talk that must go by the kernel alone.
const TALK: u64 = 1_000;
/// A stranger's packets, by their numbers, which no phone of the talk comes to.
const STRANGERS: std::ops::Range<u16> = 60_000..60_050;

fn in_the_kernel(lab: &Lab) -> Result<()> {
    let settings = Settings { toml: RELAY.to_owned(), ..Settings::default() };
    let mut stage = Stage::prepare(lab, &settings)?;
    stage.cluster.prepare_accounts(0, &["carol", "dave"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    let routers = [Router::new(lab, "router-a", 50)?, Router::new(lab, "router-b", 51)?];
    let hosts = [routers[0].host("carol", 23)?, routers[1].host("dave", 24)?];
    let eve = routers[0].host("eve", 25)?;
    let mut talkers = [Talker::open(&hosts[0])?, Talker::open(&hosts[1])?];
    let domain = VIP.to_string();
    let phone = |host, user| Phone::at_service(host, user, &domain, (VIP, 5060).into());
    let mut phones = [phone(&hosts[0], "carol")?, phone(&hosts[1], "dave")?];
    let mut dialog = talk(&mut phones, &mut talkers)?;
    let wait = |what: &str, is_so: &dyn Fn(&Value) -> bool| {
        let mut last = Value::Null;
        process::wait_until(what, TIME_MAX, || {
            last = stage.cluster.control(Side::A)?.status()?;
            Ok(is_so(&last).then(|| last.clone()))
        })
        .with_context(|| format!("{last}"))
    };
    let in_kernel = |status: &Value| status["relay"]["in_kernel"].as_u64();
    let count = |status: &Value, name: &str| status["counters"][name].as_u64().unwrap_or(0);

    let begin = wait("both directions in the kernel", &|status| in_kernel(status) == Some(2))?;
    ensure!(begin["relay"]["no_fast_path"].is_null(), "{}", begin["relay"]);
    let in_kernel_all = |status: &Value| count(status, "relay_in_kernel");
    let by_program = |status: &Value| count(status, "relay_received").wrapping_sub(in_kernel_all(status));
    // What was in a socket when the kernel began comes to the program after it.
    let since = RefCell::new(begin);
    wait("a talk in the kernel of which nothing comes to the program", &|status| {
        if by_program(status) != by_program(&since.borrow()) {
            since.replace(status.clone());
        }
        in_kernel_all(status) >= in_kernel_all(&since.borrow()) + 2 * TALK
    })?;
    let [carol, dave] = &talkers;
    let relay = [dave, carol].map(|talker| talker.heard().last().map(|heard| heard.from));
    let [Some(to_dave), Some(to_carol)] = relay else { anyhow::bail!("nobody heard anything") };

    // Behind the router of one of them, so from the same address, and with the source that the phones have.
    let socket = eve.enter(|| UdpSocket::bind((eve.v4, 0)))??;
    for number in STRANGERS {
        for port in [to_dave.port(), to_carol.port()] {
            socket.send_to(&packet(number), SocketAddr::new(VIP.into(), port))?;
        }
    }
    // What is said behind the stranger's packets is heard behind what became of them.
    let last = [carol.wait_for_next_of(dave, TIME_MAX)?, dave.wait_for_next_of(carol, TIME_MAX)?];
    wait("both directions in the kernel, as before", &|status| in_kernel(status) == Some(2))?;
    for talker in &talkers {
        let strange = talker.heard().into_iter().find(|heard| heard.number >= STRANGERS.start);
        ensure!(strange.is_none(), "a stranger was heard: {strange:?}");
        talker.check_one_source()?;
    }
    check_figures(&stage, last)?;
    let text = process::output(&mut stage.cluster.command(&stage.pair, Side::A, &["status"]))?;
    ensure!(text.contains("media path      the kernel (2 streams)"), "{text}");

    let [carol, dave] = &mut phones;
    hang_up(carol, &mut dialog, dave)?;
    wait("nothing in the kernel", &|status| in_kernel(status) == Some(0))?;
    stage.end(&["a"])
}

/// The operator sees at least as many packets as were heard, none lost, and how they sound.
fn check_figures(stage: &Stage<'_>, heard: [u16; 2]) -> Result<()> {
    let mut calls = Vec::new();
    process::wait_until("figures of what the kernel sent on", TIME_MAX, || {
        calls = stage.calls(Side::A)?;
        let [call] = calls.as_slice() else { return Ok(None) };
        let is_told = |side: &str, heard: u16| {
            let side = &call["media"][0][side];
            // The first ones may have come before the answer.
            side["packets"].as_u64() > Some(u64::from(heard / 2))
                && side["lost"] == 0
                && side["opinion"].is_number()
        };
        Ok((is_told("callee", heard[0]) && is_told("caller", heard[1])).then_some(()))
    })
    .with_context(|| format!("{calls:?}"))
}

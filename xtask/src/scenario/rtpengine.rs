//! Media through rtpengines of Debian: phones hear each other, and an rtpengine that dies takes no call with it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Scenario;
use super::media::{ALICE_HERTZ, BOB_HERTZ, hears};
use crate::baresip::{Account, Baresip};
use crate::lab::router::Router;
use crate::lab::{Family, Lab};
use crate::phone::Phone;
use crate::phone::call::{self, Dialog, hang_up};
use crate::phone::wire::Transport;
use crate::process;
use crate::rtpengine::Rtpengine;
use crate::server::{Server, Settings};
use crate::talker::{Talker, described};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "phones_behind_two_nats_talk_by_an_rtpengine", run: behind_two_nats },
    Scenario { name: "a_call_by_an_rtpengine_that_falls_silent_is_ended", run: falls_silent },
    Scenario { name: "calls_go_by_the_other_rtpengine_when_one_dies", run: one_dies },
];

const TALK: Duration = Duration::from_millis(3_500);
const TIME_MAX: Duration = Duration::from_secs(15);

/// The table that has calls go by these.
pub fn settings_for(rtpengines: &[&Rtpengine]) -> String {
    let places: Vec<String> = rtpengines.iter().map(|it| format!("\"udp://{}\"", it.address())).collect();
    format!("[relay]\nrelay = \"always\"\nrtpengine = [{}]\n", places.join(", "))
}

/// Each behind a router of its own: their descriptions name addresses that lead nowhere.
fn behind_two_nats(lab: &Lab) -> Result<()> {
    let rtpengine = Rtpengine::start(lab, &lab.host("relay-a", 41)?)?;
    let settings = Settings { toml: settings_for(&[&rtpengine]), ..Settings::defaults() };
    let server = Server::start(lab, &settings, &["alice", "bob"])?;
    let told = checked(lab, &server)?;
    ensure!(told.contains(&format!("rtpengine {}, weight 1: it answers", rtpengine.address())), "{told}");
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
    let status = server.json(&["status"])?;
    ensure!(status["rtpengines"][0]["up"] == true && status["relay"]["calls"] == 1, "{status}");
    alice.hang_up()?;
    bob.wait_until_closed()?;
    hears(&alice, BOB_HERTZ).context("alice")?;
    hears(&bob, ALICE_HERTZ).context("bob")?;
    rtpengine.wait_until_empty(TIME_MAX)
}

/// The one that a call goes by is killed in the middle of it.
fn one_dies(lab: &Lab) -> Result<()> {
    let mut rtpengines = [
        Rtpengine::start(lab, &lab.host("relay-a", 41)?)?,
        Rtpengine::start(lab, &lab.host("relay-b", 42)?)?,
    ];
    let toml = settings_for(&[&rtpengines[0], &rtpengines[1]]);
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &["carol", "dave"])?;
    let (carols_host, daves_host) = (lab.host("carol", 21)?, lab.host("dave", 22)?);
    let mut talkers = [Talker::open(&carols_host)?, Talker::open(&daves_host)?];
    let mut carol = Phone::udp(&carols_host, "carol", &server)?;
    let mut dave = Phone::udp(&daves_host, "dave", &server)?;
    dave.register()?;
    let (mut dialog, told) = talk(&mut carol, &mut dave, &mut talkers)?;
    listen(&talkers).context("at first")?;
    let first = which(&server, &rtpengines)?;
    ensure!(is_of(&told, &rtpengines[first]), "carol was told\n{told}");

    rtpengines[first].kill()?;
    // The caller's phone offers its media anew, as one does that hears nothing.
    let told = offer_again(&mut carol, &mut dialog, &mut dave, &mut talkers)?;
    ensure!(is_of(&told, &rtpengines[1 - first]), "carol was told\n{told}");
    listen(&talkers).context("by the other rtpengine")?;
    ensure!(which(&server, &rtpengines)? == 1 - first, "the call has another rtpengine");
    hang_up(&mut carol, &mut dialog, &mut dave)?;
    rtpengines[1 - first].wait_until_empty(TIME_MAX)?;

    wait_for_state(&server, first, false)?;
    let told = checked(lab, &server)?;
    ensure!(told.contains("note: it does not answer"), "{told}");
    // Several, so that both would have some.
    for number in 0..6 {
        let (mut dialog, told) = talk(&mut carol, &mut dave, &mut talkers)?;
        ensure!(is_of(&told, &rtpengines[1 - first]), "call {number}: carol was told\n{told}");
        hang_up(&mut carol, &mut dialog, &mut dave)?;
    }
    rtpengines[1 - first].wait_until_empty(TIME_MAX)?;
    rtpengines[first].start_again(lab)?;
    wait_for_state(&server, first, true)?;
    let status = server.json(&["status"])?;
    let counters = &status["counters"];
    ensure!(counters["media_relay_moved"] == 1 && counters["media_relay_unanswered"] == 0, "{counters}");
    Ok(())
}

/// Both phones are gone without a word: the rtpengine is asked, and counts no packet any more.
fn falls_silent(lab: &Lab) -> Result<()> {
    let rtpengine = Rtpengine::start(lab, &lab.host("relay-a", 41)?)?;
    let toml = settings_for(&[&rtpengine]) + "silence = \"10s\"\n";
    let server = Server::start(lab, &Settings { toml, ..Settings::defaults() }, &["carol", "dave"])?;
    let (carols_host, daves_host) = (lab.host("carol", 21)?, lab.host("dave", 22)?);
    let mut talkers = [Talker::open(&carols_host)?, Talker::open(&daves_host)?];
    let mut carol = Phone::udp(&carols_host, "carol", &server)?;
    let mut dave = Phone::udp(&daves_host, "dave", &server)?;
    dave.register()?;
    talk(&mut carol, &mut dave, &mut talkers)?;
    listen(&talkers)?;
    // It has been looked at often enough while they talked.
    process::wait_until("four looks at a call", 4 * TIME_MAX, || {
        Ok((rtpengine.commands("query")? >= 5).then_some(()))
    })?;
    let status = server.json(&["status"])?;
    ensure!(status["calls"] == 1 && status["counters"]["media_silent"] == 0, "{status}");

    talkers.iter_mut().for_each(Talker::fall_silent);
    process::wait_until("a call that is silent", 4 * TIME_MAX, || {
        Ok((server.json(&["status"])?["counters"]["media_silent"] == 1).then_some(()))
    })?;
    for phone in [&mut carol, &mut dave] {
        let bye = phone.expect_request("BYE")?;
        phone.reply(&bye, 200, "OK")?;
    }
    rtpengine.wait_until_empty(TIME_MAX)
}

/// One of our own phones calls the other one, and both talk; gives what the caller was told of media.
pub fn talk(carol: &mut Phone, dave: &mut Phone, talkers: &mut [Talker; 2]) -> Result<(Dialog, String)> {
    let uri = dave.aor();
    let offer = carol.request("INVITE", &uri).with_body("application/sdp", talkers[0].description());
    let asked = call::invite_with(carol, offer)?;
    let arrived = dave.expect_request("INVITE")?;
    dave.accept(&arrived, &talkers[1].description())?;
    let answered = carol.expect_status(&asked, 200)?;
    let mut dialog = Dialog::of_caller(&asked, &answered)?;
    let ack = dialog.ack(carol);
    carol.send(&ack)?;
    dave.expect_request("ACK")?;
    talkers[1].turn_to(&arrived.body)?;
    talkers[0].turn_to(&answered.body)?;
    Ok((dialog, answered.body))
}

/// The caller sends a re-INVITE, and both talk to whom they are told then.
pub fn offer_again(
    carol: &mut Phone,
    dialog: &mut Dialog,
    dave: &mut Phone,
    talkers: &mut [Talker; 2],
) -> Result<String> {
    let offer = dialog.request(carol, "INVITE").with_body("application/sdp", talkers[0].description());
    carol.send(&offer)?;
    let arrived = dave.expect_request("INVITE").context("the re-INVITE did not arrive")?;
    dave.accept(&arrived, &talkers[1].description())?;
    let answered = carol.expect_status(&offer, 200)?;
    let ack = dialog.ack(carol);
    carol.send(&ack)?;
    dave.expect_request("ACK")?;
    talkers[1].turn_to(&arrived.body)?;
    talkers[0].turn_to(&answered.body)?;
    Ok(answered.body)
}

/// Both hear what the other one says from here on.
pub fn listen([carol, dave]: &[Talker; 2]) -> Result<()> {
    carol.wait_for_next_of(dave, TIME_MAX)?;
    dave.wait_for_next_of(carol, TIME_MAX)?;
    Ok(())
}

/// Whether a description names media at this one.
pub fn is_of(description: &str, rtpengine: &Rtpengine) -> bool {
    described(description).is_some_and(|place| place.ip() == rtpengine.address().ip())
}

/// By which of them the only call goes, as the operator is told.
fn which(server: &Server, rtpengines: &[Rtpengine; 2]) -> Result<usize> {
    let calls = server.json(&["calls"])?;
    let place = |address: &Value| {
        rtpengines.iter().position(|it| address.as_str() == Some(it.address().to_string().as_str()))
    };
    ensure!(calls.as_array().is_some_and(|calls| calls.len() == 1), "{calls}");
    place(&calls[0]["rtpengine"]).with_context(|| format!("{calls}"))
}

/// What `tandem check` says on the server's host.
fn checked(lab: &Lab, server: &Server) -> Result<String> {
    process::output(server.host().command(&lab.binary).arg("check").arg(server.config()))
}

fn wait_for_state(server: &Server, number: usize, is_up: bool) -> Result<()> {
    let mut last = Value::Null;
    process::wait_until("an rtpengine that is up or not", TIME_MAX, || {
        last = server.json(&["status"])?["rtpengines"].take();
        Ok((last[number]["up"] == is_up).then_some(()))
    })
    .with_context(|| format!("{last}"))
}

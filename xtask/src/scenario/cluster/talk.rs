//! Two phones that can not reach each other go on talking while nodes are lost.
//!
//! One talk is baresip's, whose tone must be heard after each loss; one is our own, whose packets are counted. Both pass the
//! relay by the virtual address, by the same ports to the end. How long nothing was heard is measured, and asserted of no
//! loss; but a planned switchover may lose no packet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::Stage;
use crate::baresip::{Account, Baresip};
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::observer::now;
use crate::lab::pair::{Side, VIP};
use crate::lab::router::Router;
use crate::lab::tap::{Tap, longest_gap};
use crate::lab::{Family, Lab};
use crate::phone::call::{self, Dialog, hang_up};
use crate::phone::wire::Transport;
use crate::phone::{Phone, message::Message};
use crate::process;
use crate::scenario::{MEASURED, Scenario};
use crate::talker::Talker;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[Scenario { name: "talk_goes_on_at_takeovers", run: talk_goes_on }];

const ALICE_HERTZ: u32 = 440;
const BOB_HERTZ: u32 = 1000;
/// A tone must be heard for so long after each loss.
const HEARD_SECONDS_MIN: f64 = 0.5;
/// Nothing is lost on the lab's cables.
const OPINION_MIN: f64 = 4.0;
/// What the file has of the relay.
pub const RELAY: &str = "[relay]\nrelay = \"nat\"\n";

fn talk_goes_on(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    scene.lose(Side::A, Fault::AllKilled)?;
    scene.lose(Side::B, Fault::AllFrozen)?;
    scene.lose(Side::A, Fault::CutOff)?;
    scene.switch_over(Side::B)?;
    scene.check_figures(Side::A)?;
    scene.close()
}

/// A pair by which two talks go.
struct Scene<'l> {
    stage: Stage<'l>,
    baresips: [Baresip; 2],
    taps: [Tap; 2],
    invites: [usize; 2],
    phones: [Phone; 2],
    dialog: Dialog,
    talkers: [Talker; 2],
    /// The last number of the other one that each of ours had heard when it was looked last.
    heard: [u16; 2],
}

impl<'l> Scene<'l> {
    fn open(lab: &'l Lab) -> Result<Scene<'l>> {
        let settings = Settings { toml: RELAY.to_owned(), ..Settings::default() };
        let mut stage = Stage::prepare(lab, &settings)?;
        stage.cluster.prepare_accounts(0, &["alice", "bob", "carol", "dave"])?;
        stage.start()?;
        stage.cluster.wait_until_whole(TIME_MAX)?;

        let routers = [Router::new(lab, "router-a", 50)?, Router::new(lab, "router-b", 51)?];
        let [alice, bob] = [routers[0].host("alice", 21)?, routers[1].host("bob", 22)?];
        let [carol, dave] = [routers[0].host("carol", 23)?, routers[1].host("dave", 24)?];
        let taps = [Tap::start(&alice, VIP)?, Tap::start(&bob, VIP)?];
        let domain = VIP.to_string();
        let account = |user, hertz| Account { user, transport: Transport::Udp, family: Family::V4, hertz };
        let alice = Baresip::start_in_domain(lab, &alice, &domain, account("alice", ALICE_HERTZ))?;
        let bob = Baresip::start_in_domain(lab, &bob, &domain, account("bob", BOB_HERTZ))?;
        let mut baresips = [alice, bob];
        for phone in &mut baresips {
            phone.wait_until_registered()?;
        }
        baresips[0].dial(&format!("sip:bob@{domain}"))?;
        for phone in &mut baresips {
            phone.wait_until_established()?;
        }
        let mut talkers = [Talker::open(&carol)?, Talker::open(&dave)?];
        let phone = |host, user| Phone::at_service(host, user, &domain, (VIP, 5060).into());
        let mut phones = [phone(&carol, "carol")?, phone(&dave, "dave")?];
        let dialog = talk(&mut phones, &mut talkers)?;
        let invites = [taps[0].invites(), taps[1].invites()];
        let mut scene = Scene { stage, baresips, taps, invites, phones, dialog, talkers, heard: [0; 2] };
        scene.listen().context("before anything happened")?;
        Ok(scene)
    }

    /// Something happens to the node that serves.
    fn lose(&mut self, side: Side, fault: Fault) -> Result<()> {
        let (from, before) = (now(), self.heard);
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        let wound = cluster.hurt(lab, pair, side, fault)?;
        self.stage.wait_until_served_by(side.other())?;
        self.listen().with_context(|| format!("{} of {}", fault.name(), side.name()))?;
        self.tell(fault.name(), from, before);
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        cluster.heal(lab, pair, wound)?;
        let active = self.stage.cluster.wait_until_whole(TIME_MAX)?;
        ensure!(active == side.other(), "{} is active", active.name());
        self.listen().with_context(|| format!("{} is back after: {}", side.name(), fault.name()))
    }

    /// The operator moves the service: no packet may be lost.
    fn switch_over(&mut self, side: Side) -> Result<()> {
        let (from, before) = (now(), self.heard);
        self.stage.cluster.switch_over(&self.stage.pair, side)?;
        self.stage.wait_until_served_by(side.other())?;
        self.listen().context("after a switchover")?;
        self.tell("switchover", from, before);
        for ((talker, first), last) in self.talkers.iter().zip(before).zip(self.heard) {
            let missed = talker.missed(first, last);
            ensure!(missed.is_empty(), "a switchover lost the packets {missed:?} of {first} to {last}");
        }
        Ok(())
    }

    /// Waits until all four hear what is said from here on.
    fn listen(&mut self) -> Result<()> {
        let hears = [(0, BOB_HERTZ, "alice"), (1, ALICE_HERTZ, "bob")];
        let mut wanted = [0.0; 2];
        for (number, hertz, _) in hears {
            wanted[number] = self.baresips[number].seconds_heard(hertz)? + HEARD_SECONDS_MIN;
        }
        let [carol, dave] = &self.talkers;
        self.heard = [carol.wait_for_next_of(dave, TIME_MAX)?, dave.wait_for_next_of(carol, TIME_MAX)?];
        for (number, hertz, name) in hears {
            let phone = &self.baresips[number];
            process::wait_until(&format!("tone of {hertz} Hz at {name}"), TIME_MAX, || {
                Ok((phone.seconds_heard(hertz)? >= wanted[number]).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Says for how long nothing was heard, and what was lost.
    fn tell(&self, what: &str, from: Duration, before: [u16; 2]) {
        let to = now();
        let [alice, bob] = [0, 1].map(|number| self.taps[number].longest_gap(from, to).as_millis());
        let ours = [0, 1].map(|number| {
            let talker = &self.talkers[number];
            let times: Vec<Duration> =
                talker.heard().iter().map(|heard| heard.at).filter(|at| (from..=to).contains(at)).collect();
            let lost = talker.missed(before[number], self.heard[number]).len();
            (longest_gap(from, &times, to).as_millis(), lost)
        });
        let [(carol, carol_lost), (dave, dave_lost)] = ours;
        println!(
            "{MEASURED}{what}: baresip heard nothing for {alice} and {bob} ms at the longest; our own phones for \
             {carol} and {dave} ms, and {carol_lost} and {dave_lost} packets were lost"
        );
    }

    /// The operator sees both talks on the node that has them, how they sound, and the ports that they have.
    fn check_figures(&self, side: Side) -> Result<()> {
        let mut calls = Vec::new();
        let is_told = |call: &Value| {
            let media = &call["media"];
            let is_good = |side: &Value| {
                side["packets"].as_u64() > Some(0)
                    && side["lost"] == 0
                    && side["from"].is_string()
                    && side["opinion"].as_f64().is_some_and(|opinion| opinion > OPINION_MIN)
            };
            media.as_array().is_some_and(|media| media.len() == 1)
                && is_good(&media[0]["caller"])
                && is_good(&media[0]["callee"])
        };
        process::wait_until("two talks with their figures", TIME_MAX, || {
            calls = self.stage.calls(side)?;
            Ok((calls.len() == 2 && calls.iter().all(is_told)).then_some(()))
        })
        .with_context(|| format!("{calls:?}"))?;
        let status = self.stage.cluster.control(side)?.status()?;
        let relay = &status["relay"];
        ensure!(relay["calls"] == 2 && relay["ports_used"] == 8, "the status has {relay}");
        ensure!(relay["in_kernel"] == 4, "the kernel does not send on all: {relay}");
        Ok(())
    }

    /// Both talks end, and it was one talk all the time.
    fn close(mut self) -> Result<()> {
        for (number, tap) in self.taps.iter().enumerate() {
            let (ports, invites) = (tap.ports(), tap.invites());
            ensure!(ports.len() == 1, "media came from the ports {ports:?}");
            let before = self.invites[number];
            ensure!(before > 0 && invites == before, "{} INVITEs more than {before}", invites - before);
        }
        self.talkers.iter().try_for_each(Talker::check_one_source)?;
        let [alice, bob] = &mut self.baresips;
        alice.hang_up()?;
        bob.wait_until_closed()?;
        let [carol, dave] = &mut self.phones;
        hang_up(carol, &mut self.dialog, dave)?;
        self.stage.end(&["a", "b", "a", "b", "a"])
    }
}

/// One of our own phones calls the other one, and both talk.
pub fn talk(phones: &mut [Phone; 2], talkers: &mut [Talker; 2]) -> Result<Dialog> {
    let ([carol, dave], [carols, daves]) = (phones, talkers);
    dave.register()?;
    let uri = dave.aor();
    let offer = carol.request("INVITE", &uri).with_body("application/sdp", carols.description());
    let asked = call::invite_with(carol, offer)?;
    let arrived = dave.expect_request("INVITE")?;
    dave.accept(&arrived, &daves.description())?;
    let answered = carol.expect_status(&asked, 200)?;
    let mut dialog = Dialog::of_caller(&asked, &answered)?;
    let ack: Message = dialog.ack(carol);
    carol.send(&ack)?;
    dave.expect_request("ACK")?;
    daves.talk_to(&arrived.body)?;
    carols.talk_to(&answered.body)?;
    Ok(dialog)
}

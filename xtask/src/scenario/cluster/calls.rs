//! Calls that ring go on at the node that takes over.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::Stage;
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::phone::Phone;
use crate::phone::call::{self, Dialog, acknowledge, cancel, hang_up};
use crate::phone::message::Message;
use crate::scenario::Scenario;

/// RFC 6026 §7.1: 32 s after its 2xx an INVITE has ended; and some time to tell.
const INVITE_TIME_MAX: Duration = Duration::from_secs(45);

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "what_rings_is_answered_or_cancelled_after_its_node_was_killed", run: killed },
    Scenario { name: "what_rings_is_answered_or_cancelled_after_its_node_was_frozen", run: frozen },
    Scenario { name: "what_rings_is_answered_or_cancelled_after_the_service_was_moved", run: moved },
    Scenario { name: "a_call_that_is_up_counts_for_its_limit_after_its_node_was_killed", run: counted },
];

fn killed(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    for (side, fault) in [(Side::A, Fault::EngineKilled), (Side::B, Fault::AllKilled)] {
        scene.lose(side, fault)?;
    }
    scene.stage.end(&["a", "b", "a"])
}

fn frozen(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    scene.lose(Side::A, Fault::AllFrozen)?;
    scene.stage.end(&["a", "b"])
}

fn moved(lab: &Lab) -> Result<()> {
    let mut scene = Scene::open(lab)?;
    let ringing = scene.ring()?;
    scene.stage.cluster.switch_over(&scene.stage.pair, Side::A)?;
    scene.stage.wait_until_served_by(Side::B)?;
    scene.finish(ringing)?;
    scene.stage.end(&["a", "b"])
}

/// Alice may make one call at a time. The one that she has is on both nodes, whichever of them is killed; the first time so
/// late that nothing else tells of it.
fn counted(lab: &Lab) -> Result<()> {
    let mut scene =
        Scene::open_with(lab, &Settings { sip: "calls_per_account = 1".to_owned(), ..Settings::default() })?;
    for (side, fault) in [(Side::A, Fault::EngineKilled), (Side::B, Fault::AllKilled)] {
        let ([alice, _], [bob, dave]) = (&mut scene.callers, &mut scene.callees);
        let (mut dialog, _) = call::establish(alice, bob)?;
        if side == Side::A {
            let is_told_alone = |status: &Value| {
                let kinds = &status["replica"]["kinds"];
                kinds["invites"]["here"] == 0 && kinds["calls"]["here"] == 1
            };
            scene.stage.wait_for_engine(side, "the end of the INVITE", INVITE_TIME_MAX, is_told_alone)?;
        }
        let Stage { lab, pair, cluster, .. } = &mut scene.stage;
        let wound = cluster.hurt(lab, pair, side, fault)?;
        scene.stage.wait_until_served_by(side.other())?;

        let shown = scene.stage.calls(side.other())?;
        ensure!(shown.len() == 1 && shown[0]["state"] == "up", "{}: {shown:?}", fault.name());
        let refused = call::invite(alice, &dave.aor())?;
        let answer = alice.expect_status(&refused, 403).context("a second call")?;
        alice.send(&acknowledge(&refused, &answer))?;

        hang_up(alice, &mut dialog, bob)?;
        let (mut next, _) = call::establish(alice, dave).context("the next call")?;
        hang_up(alice, &mut next, dave)?;
        let Stage { lab, pair, cluster, .. } = &mut scene.stage;
        cluster.heal(lab, pair, wound)?;
        scene.stage.cluster.wait_until_whole(TIME_MAX)?;
        for side in [Side::A, Side::B] {
            let left = scene.stage.calls(side)?;
            ensure!(left.is_empty(), "{}: {left:?}", side.name());
        }
    }
    scene.stage.end(&["a", "b", "a"])
}

/// A pair with two who call and two who are called.
struct Scene<'l> {
    stage: Stage<'l>,
    callers: [Phone; 2],
    callees: [Phone; 2],
}

/// Two calls that ring: each INVITE as it was sent, and as it arrived.
type Ringing = [(Message, Message); 2];

impl<'l> Scene<'l> {
    fn open(lab: &'l Lab) -> Result<Scene<'l>> {
        Scene::open_with(lab, &Settings::default())
    }

    fn open_with(lab: &'l Lab, settings: &Settings) -> Result<Scene<'l>> {
        let mut stage = Stage::prepare(lab, settings)?;
        stage.cluster.prepare_accounts(0, &["alice", "bob", "carol", "dave"])?;
        stage.start()?;
        stage.cluster.wait_until_whole(TIME_MAX)?;
        let domain = VIP.to_string();
        let phone = |user| Phone::at_service(&stage.pair.phone, user, &domain, SocketAddr::from((VIP, 5060)));
        let (callers, mut callees) = ([phone("alice")?, phone("carol")?], [phone("bob")?, phone("dave")?]);
        for callee in &mut callees {
            callee.register()?;
        }
        Ok(Scene { stage, callers, callees })
    }

    /// Something happens to the node that serves while two phones ring.
    fn lose(&mut self, side: Side, fault: Fault) -> Result<()> {
        let ringing = self.ring()?;
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        let wound = cluster.hurt(lab, pair, side, fault)?;
        self.stage.wait_until_served_by(side.other())?;
        self.finish(ringing).with_context(|| format!("{}: {}", side.name(), fault.name()))?;
        let Stage { lab, pair, cluster, .. } = &mut self.stage;
        cluster.heal(lab, pair, wound)?;
        let active = self.stage.cluster.wait_until_whole(TIME_MAX)?;
        ensure!(active == side.other(), "{} is active", active.name());
        Ok(())
    }

    fn ring(&mut self) -> Result<Ringing> {
        let [one, other] = &mut self.callers;
        let [first, second] = &mut self.callees;
        Ok([ring(one, first)?, ring(other, second)?])
    }

    /// One call is answered and hung up, the other one is cancelled.
    fn finish(&mut self, ringing: Ringing) -> Result<()> {
        let ([alice, carol], [bob, dave]) = (&mut self.callers, &mut self.callees);
        let [(asked, arrived), (unwanted, ringing)] = ringing;

        let answer = bob.reply(&arrived, 200, "OK")?;
        let answered = alice.expect_status(&asked, 200).context("the answer of a phone that rang")?;
        let mut dialog = Dialog::of_caller(&asked, &answered)?;
        let ack = dialog.ack(alice);
        alice.send(&ack)?;
        bob.expect_request("ACK")?;
        let mut callee = Dialog::of_callee(&arrived, &answer)?;
        hang_up(bob, &mut callee, alice)?;

        let cancelling = cancel(&unwanted);
        carol.send(&cancelling)?;
        carol.expect_status(&cancelling, 200).context("the answer to a CANCEL")?;
        let cancelled = dave.expect_request("CANCEL").context("a phone that rings for nobody")?;
        dave.reply(&cancelled, 200, "OK")?;
        dave.reply(&ringing, 487, "Request Terminated")?;
        let ended = carol.expect_status(&unwanted, 487)?;
        carol.send(&acknowledge(&unwanted, &ended))?;
        dave.expect_request("ACK")?;
        Ok(())
    }
}

fn ring(caller: &mut Phone, callee: &mut Phone) -> Result<(Message, Message)> {
    let asked = call::invite(caller, &callee.aor())?;
    // A node that has just taken over says the INVITE of the call before once more.
    let is_of_this_call = |message: &Message| {
        message.method() == Some("INVITE") && message.header("Call-ID") == asked.header("Call-ID")
    };
    let arrived = callee.wait("INVITE", is_of_this_call)?;
    callee.reply(&arrived, 180, "Ringing")?;
    caller.wait("180", |message| message.answers(&asked) && message.status() == Some(180))?;
    Ok((asked, arrived))
}

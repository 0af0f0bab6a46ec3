//! What phones change in mid-talk, behind routers that give each flow a random port and forget it early: a hold, another port.
//!
//! The talk is held, the routers forget its flows meanwhile, and it is resumed; then its caller says that its media are at
//! another port; then the node is lost. Each packet has a number, and after each change both must hear what is said from there
//! on.

use std::time::Duration;

use anyhow::{Context, Result};

use super::stage::Stage;
use super::talk::{RELAY, talk};
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::lab::router::Router;
use crate::phone::Phone;
use crate::phone::call::{Dialog, hang_up};
use crate::scenario::Scenario;
use crate::talker::{Talker, described};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "talk_goes_on_after_a_hold_and_at_another_port", run: hold_and_move }];

/// How long many routers remember a flow of UDP.
const REMEMBERED: Duration = Duration::from_secs(30);
/// Where the caller's media are in the end.
const MOVED_TO: u16 = 40_100;

fn hold_and_move(lab: &Lab) -> Result<()> {
    let settings = Settings { toml: RELAY.to_owned(), ..Settings::default() };
    let mut stage = Stage::prepare(lab, &settings)?;
    stage.cluster.prepare_accounts(0, &["carol", "dave"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    let routers = [Router::new(lab, "router-a", 50)?, Router::new(lab, "router-b", 51)?];
    for router in &routers {
        router.be_forgetful(REMEMBERED)?;
    }
    let hosts = [routers[0].host("carol", 23)?, routers[1].host("dave", 24)?];
    let domain = VIP.to_string();
    let phone = |host, user| Phone::at_service(host, user, &domain, (VIP, 5060).into());
    let mut phones = [phone(&hosts[0], "carol")?, phone(&hosts[1], "dave")?];
    let mut talkers = [Talker::open(&hosts[0])?, Talker::open(&hosts[1])?];
    let mut dialog = talk(&mut phones, &mut talkers)?;
    listen(&talkers).context("at the start")?;

    let relay = offer(&mut phones, &mut dialog, &talkers, "a=inactive\r\n")?;
    talkers.iter_mut().for_each(Talker::fall_silent);
    for (router, description) in routers.iter().zip(&relay) {
        let port = described(description).context("the relay named no port")?.port();
        router.forget_flows_to(port)?;
    }
    resume(&mut phones, &mut dialog, &mut talkers)?;
    listen(&talkers).context("after the hold")?;

    talkers[0].move_to(&hosts[0], MOVED_TO)?;
    resume(&mut phones, &mut dialog, &mut talkers)?;
    listen(&talkers).context("at another port")?;

    let Stage { lab, pair, cluster, .. } = &mut stage;
    let wound = cluster.hurt(lab, pair, Side::A, Fault::AllKilled)?;
    stage.wait_until_served_by(Side::B)?;
    listen(&talkers).context("after the loss of a node")?;
    talkers.iter().try_for_each(Talker::check_one_source)?;
    let Stage { lab, pair, cluster, .. } = &mut stage;
    cluster.heal(lab, pair, wound)?;
    let [carol, dave] = &mut phones;
    hang_up(carol, &mut dialog, dave)?;
    stage.end(&["a", "b"])
}

/// Waits until each hears what the other one says from here on.
fn listen([carol, dave]: &[Talker; 2]) -> Result<()> {
    carol.wait_for_next_of(dave, TIME_MAX)?;
    dave.wait_for_next_of(carol, TIME_MAX)?;
    Ok(())
}

/// Both talk, from where they are.
fn resume(phones: &mut [Phone; 2], dialog: &mut Dialog, talkers: &mut [Talker; 2]) -> Result<()> {
    let relay = offer(phones, dialog, talkers, "")?;
    for (talker, description) in talkers.iter_mut().zip(relay) {
        talker.turn_to(&description)?;
    }
    Ok(())
}

/// The caller sends an INVITE within the call, with this line about its media, and the callee agrees. Gives what each of them
/// is told of the relay.
fn offer(
    phones: &mut [Phone; 2],
    dialog: &mut Dialog,
    talkers: &[Talker; 2],
    line: &str,
) -> Result<[String; 2]> {
    let ([carol, dave], [carols, daves]) = (phones, talkers);
    let described = |talker: &Talker| format!("{}{line}", talker.description());
    let offer = dialog.request(carol, "INVITE").with_body("application/sdp", described(carols));
    carol.send(&offer)?;
    let arrived = dave.expect_request("INVITE").context("the new offer did not arrive")?;
    dave.accept(&arrived, &described(daves))?;
    let answered = carol.expect_status(&offer, 200)?;
    let ack = dialog.ack(carol);
    carol.send(&ack)?;
    dave.expect_request("ACK")?;
    Ok([answered.body, arrived.body])
}

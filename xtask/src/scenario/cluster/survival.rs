//! What was acknowledged is at the node that takes over, whatever happened to the other one.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::office::Office;
use super::stage::Stage;
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX, peer_stance};
use crate::lab::pair::{Side, VIP};
use crate::lab::{Host, Lab};
use crate::phone::Phone;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a_thousand_phones_stay_registered_when_a_node_is_killed", run: killed },
    Scenario { name: "a_thousand_phones_stay_registered_when_a_node_is_frozen", run: frozen },
    Scenario { name: "a_thousand_phones_stay_registered_when_cables_are_cut", run: cables },
    Scenario { name: "a_thousand_phones_stay_registered_when_the_service_is_moved", run: planned },
    Scenario { name: "a_phone_whose_200_died_with_its_node_gets_it_from_the_other_one", run: before_the_200 },
];

fn killed(lab: &Lab) -> Result<()> {
    let mut office = Office::open(lab)?;
    office.lose(Side::A, Fault::EngineKilled)?;
    office.lose(Side::B, Fault::GuardianKilled)?;
    office.lose(Side::A, Fault::AllKilled)?;
    office.close(&["a", "b", "a", "b"])
}

fn frozen(lab: &Lab) -> Result<()> {
    let mut office = Office::open(lab)?;
    office.lose(Side::A, Fault::EngineFrozen)?;
    office.lose(Side::B, Fault::GuardianFrozen)?;
    office.lose(Side::A, Fault::AllFrozen)?;
    office.close(&["a", "b", "a", "b"])
}

fn cables(lab: &Lab) -> Result<()> {
    let mut office = Office::open(lab)?;
    office.lose(Side::A, Fault::CableOut)?;
    office.lose(Side::B, Fault::Muted)?;
    office.lose(Side::A, Fault::Deafened)?;
    office.close(&["a", "b", "a", "b"])
}

fn planned(lab: &Lab) -> Result<()> {
    let mut office = Office::open(lab)?;
    office.stage.cluster.switch_over(&office.stage.pair, Side::A)?;
    office.stage.wait_until_served_by(Side::B)?;
    office.check(Side::B).context("after a switchover")?;
    office.wait_until_whole(Side::B)?;

    // The nodes do not hear each other: b goes on alone, and a has all of it when they do again.
    let stage = &office.stage;
    lab.cut_between(&stage.cable(Side::A), &stage.cable(Side::B))?;
    for side in Side::BOTH {
        stage.wait_for(side, "a silent peer", |status| peer_stance(status) == Some("silent"))?;
    }
    office.check(Side::B).context("while the nodes are cut from each other")?;
    lab.heal()?;
    office.wait_until_whole(Side::B)?;

    office.stage.cluster.terminate(Side::B)?;
    office.stage.wait_until_served_by(Side::A)?;
    office.check(Side::A).context("after a SIGTERM")?;
    office.stage.cluster.start(&office.stage.pair, Side::B)?;
    office.wait_until_whole(Side::A)?;
    office.close(&["a", "b", "a"])
}

/// The binding is at both nodes and its 200 is dropped on its way out; then everything of the node is killed.
fn before_the_200(lab: &Lab) -> Result<()> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    stage.cluster.prepare_accounts(0, &["alice"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;
    let vip = SocketAddr::from((VIP, 5060));
    let mut alice = Phone::at_service(&stage.pair.phone, "alice", &VIP.to_string(), vip)?;
    let first = alice.register_request(600);
    alice.send(&first)?;
    let challenge = alice.expect_status(&first, 401)?;
    alice.remember(&challenge)?;

    let drop = Dropped::begin(&stage.pair.a, alice.local())?;
    let request = alice.register_request(600);
    let request = alice.with_credentials(request);
    alice.send(&request)?;
    process::wait_until("200 that is dropped", TIME_MAX, || Ok((drop.count()? > 0).then_some(())))?;
    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    let engine = || stage.cluster.control(Side::B);
    let aor = format!("alice@{VIP}");
    let held = engine()?.contacts(Some(&aor))?;
    ensure!(held.len() == 1, "the other node has {held:?} before the phone sends again");
    // RFC 3261 §17.1.2.2: without an answer it sends the same bytes again.
    alice.send(&request)?;
    let answer = alice.expect_status(&request, 200)?;
    let contact = answer.header("Contact").unwrap_or_default();
    ensure!(contact.contains(&alice.contact()), "the 200 has {contact:?}");
    let held = engine()?.contacts(Some(&aor))?;
    ensure!(held.len() == 1, "the binding is there {} times: {held:?}", held.len());
    stage.end(&["a", "b"])
}

/// What leaves a host for a phone and is dropped before the cable.
struct Dropped<'h> {
    host: &'h Host,
}

impl Dropped<'_> {
    fn begin(host: &Host, phone: SocketAddr) -> Result<Dropped<'_>> {
        let rules = format!(
            "add table ip dropped\n\
             add chain ip dropped out {{ type filter hook output priority 0; policy accept; }}\n\
             add rule ip dropped out ip daddr {} udp dport {} counter drop\n",
            phone.ip(),
            phone.port()
        );
        process::quietly_with_input(host.command("nft").args(["-f", "-"]), &rules)?;
        Ok(Dropped { host })
    }

    /// How many datagrams so far.
    fn count(&self) -> Result<u64> {
        let text = process::output(self.host.command("nft").args(["list", "table", "ip", "dropped"]))?;
        let (_, rest) = text.split_once("counter packets ").context("no counter")?;
        Ok(rest.split(' ').next().unwrap_or_default().parse()?)
    }
}

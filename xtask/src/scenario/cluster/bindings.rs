//! Who has registered is reached by whichever node is active, and registers no more than before.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::stage::Stage;
use crate::cluster::{Settings, TIME_MAX, state_directory};
use crate::control::Control;
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::phone::Phone;
use crate::phone::call;
use crate::process;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "phones_are_reached_without_registering_again_when_the_host_is_killed", run: killed },
    Scenario { name: "phones_are_reached_without_registering_again_after_a_switchover", run: moved },
    Scenario { name: "a_used_nonce_count_and_a_ban_outlive_the_node", run: nonces_and_bans },
    Scenario { name: "bindings_outlive_both_nodes_one_after_the_other", run: one_after_the_other },
];

fn killed(lab: &Lab) -> Result<()> {
    let (mut stage, mut alice, mut bob) = registered(lab)?;
    // The 200 to this one may have been lost with the node.
    let last = alice.register_request(600);
    let last = alice.with_credentials(last);
    alice.send(&last)?;
    alice.expect_status(&last, 200)?;

    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    has_contacts(Side::B, &[&alice, &bob])?;
    is_told(&stage, Side::B, &json!({ "bindings": 2, "ready": 100 }))?;
    alice.send(&last)?;
    alice.expect_status(&last, 200)?;
    calls_and_refreshes(&mut alice, &mut bob)?;
    stage.end(&["a", "b"])
}

fn moved(lab: &Lab) -> Result<()> {
    let (stage, mut alice, mut bob) = registered(lab)?;

    stage.cluster.switch_over(&stage.pair, Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    has_contacts(Side::B, &[&alice, &bob])?;
    calls_and_refreshes(&mut alice, &mut bob)?;
    // And the other way round: what was changed meanwhile is on the first node too.
    stage.wait_until_ready(Side::A)?;
    stage.cluster.switch_over(&stage.pair, Side::B)?;
    stage.wait_until_served_by(Side::A)?;
    has_contacts(Side::A, &[&alice, &bob])?;
    calls_and_refreshes(&mut alice, &mut bob)?;
    stage.end(&["a", "b", "a"])
}

fn nonces_and_bans(lab: &Lab) -> Result<()> {
    let (mut stage, mut alice, bob) = registered(lab)?;
    let first = alice.register_request(600);
    alice.send(&first)?;
    let refusal = alice.expect_status(&first, 401)?;
    let challenge = alice.remember(&refusal)?;
    for count in [1, 3] {
        let request = alice.register_request(600);
        let request = alice.with_count(request, &challenge, count);
        alice.send(&request)?;
        alice.expect_status(&request, 200)?;
    }
    let ban = &["bans", "add", "192.0.2.66", "--for", "10m"];
    process::quietly(&mut stage.cluster.command(&stage.pair, Side::A, ban))?;
    stage.wait_for(Side::B, "the nonces and the ban", |status| {
        let kinds = &status["server"]["replica"]["kinds"];
        ["nonces", "bans"].iter().all(|kind| {
            let (here, there) = (&kinds[*kind]["here"], &kinds[*kind]["there"]);
            here == there && here.as_u64() > Some(0)
        })
    })?;

    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;

    let bans = process::output(&mut stage.cluster.command(&stage.pair, Side::B, &["bans", "list"]))?;
    ensure!(bans.contains("192.0.2.66"), "the ban is forgotten: {bans}");
    // Whoever has seen a count used sends another request with it.
    for (count, status) in [(3, 401), (1, 401), (2, 200), (4, 200)] {
        let request = alice.register_request(600);
        let request = alice.with_count(request, &challenge, count);
        alice.send(&request)?;
        alice.expect_status(&request, status).with_context(|| format!("count {count}"))?;
    }
    has_contacts(Side::B, &[&alice, &bob])?;
    stage.end(&["a", "b"])
}

/// A node that comes back with nothing but its old disk is made equal before it is relied on.
fn one_after_the_other(lab: &Lab) -> Result<()> {
    let (mut stage, mut alice, mut bob) = registered(lab)?;
    stage.cluster.kill(Side::A)?;
    stage.wait_until_served_by(Side::B)?;
    // What the first node does not know, and what it must not bring back.
    let gone = bob.register_request(0);
    let gone = bob.with_credentials(gone);
    bob.send(&gone)?;
    bob.expect_status(&gone, 200)?;

    stage.cluster.start(&stage.pair, Side::A)?;
    stage.wait_until_ready(Side::A)?;
    has_contacts(Side::A, &[&alice])?;
    stage.cluster.kill(Side::B)?;
    stage.wait_until_served_by(Side::A)?;

    has_contacts(Side::A, &[&alice])?;
    bob.register()?;
    calls_and_refreshes(&mut bob, &mut alice)?;
    stage.end(&["a", "b", "a"])
}

/// A pair at whose first node two phones have registered, one beside it and one behind the router.
fn registered(lab: &Lab) -> Result<(Stage<'_>, Phone, Phone)> {
    let mut stage = Stage::prepare(lab, &Settings::default())?;
    stage.cluster.prepare_accounts(0, &["alice", "bob"])?;
    stage.start()?;
    let domain = VIP.to_string();
    let mut alice = Phone::at_service(&stage.pair.phone, "alice", &domain, (VIP, 5060).into())?;
    let mut bob = Phone::at_service(&stage.pair.far, "bob", &domain, (VIP, 5060).into())?;
    alice.register()?;
    bob.register()?;
    stage.wait_for(Side::A, "a standby that has the same", |status| {
        let replica = &status["server"]["replica"];
        replica["ready"] == 100 && replica["kinds"]["bindings"]["there"] == 2
    })?;
    has_contacts(Side::B, &[&alice, &bob])?;
    Ok((stage, alice, bob))
}

/// Waits for the report of a node that the other one fell silent, which must say that this was kept.
fn is_told(stage: &Stage<'_>, side: Side, kept: &Value) -> Result<()> {
    let report = process::wait_until("report of the takeover", TIME_MAX, || {
        let reports = stage.cluster.reports(&stage.pair, side)?;
        Ok(reports.into_iter().rfind(|report| report["event"] == "peer_silent"))
    })?;
    ensure!(report["kept"] == *kept, "{} tells {report}, and not that {kept} was kept", side.name());
    Ok(())
}

/// Fails unless a node has the contacts of exactly these phones.
fn has_contacts(side: Side, phones: &[&Phone]) -> Result<()> {
    let contacts = Control::of_engine(&state_directory(side.name()))?.contacts(None)?;
    let found: Vec<&str> = contacts.iter().map(|contact| contact.contact.as_str()).collect();
    let wanted: Vec<String> = phones.iter().map(|phone| phone.contact()).collect();
    ensure!(found == wanted, "{} has {found:?}, and not {wanted:?}", side.name());
    Ok(())
}

/// A call that is ended, and a refresh by the nonce that the phone has.
fn calls_and_refreshes(caller: &mut Phone, callee: &mut Phone) -> Result<()> {
    let (mut dialog, _) = call::establish(caller, callee)?;
    call::hang_up(caller, &mut dialog, callee)?;
    let refresh = callee.register_request(600);
    let refresh = callee.with_credentials(refresh);
    callee.send(&refresh)?;
    callee.expect_status(&refresh, 200)?;
    Ok(())
}

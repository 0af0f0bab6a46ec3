//! The observer on the switch can fail a scenario: it finds what a pair of others does when it is cut in two.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::keepalived::{Adverts, Node, Script};
use crate::lab::Lab;
use crate::lab::observer::{Observer, check, contested, now};
use crate::lab::pair::{Pair, Side, VIP};
use crate::lab::prober::Prober;
use crate::scenario::Scenario;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "the_observer_finds_two_nodes_that_answer_for_one_address", run: two_that_answer }];

/// How long anything may take.
const TIME_MAX: Duration = Duration::from_secs(15);
/// Each is asked a hundred times a second, so this is many frames of both.
const TOGETHER: Duration = Duration::from_millis(300);

/// Keepalived, cut from its peer, while the phones reach both.
fn two_that_answer(lab: &Lab) -> Result<()> {
    let pair = Pair::new(lab)?;
    let observer = Observer::start(lab, &[IpAddr::V4(VIP)])?;
    let mut a = Node::start(lab, &pair, Side::A, Adverts::Tenth, Script::Answers)?;
    a.wait_for_role("MASTER")?;
    let mut b = Node::start(lab, &pair, Side::B, Adverts::Tenth, Script::Answers)?;
    b.wait_for_role("BACKUP")?;
    let _prober = Prober::start(&pair.prober, &[IpAddr::V4(VIP)])?;
    let (mac_a, mac_b) = (pair.a.mac()?, pair.b.mac()?);
    observer.wait_for("answer of a", TIME_MAX, |claim| claim.mac == mac_a)?;
    let names = BTreeMap::from([(mac_a, "a"), (mac_b, "b")]);
    check(&observer.claims(), observer.begun(), &names, &["a"]).context("before the cut")?;

    lab.cut_between(&pair.a.cable(), &pair.b.cable())?;
    let first = observer.wait_for("answer of b", TIME_MAX, |claim| claim.mac == mac_b)?;
    observer.wait_for("later answer of b", TIME_MAX, |claim| {
        claim.mac == mac_b && claim.at > first.at + TOGETHER
    })?;

    let begun = observer.begun();
    let claims = observer.stop()?;
    let verdict = check(&claims, begun, &names, &["a", "b"]);
    ensure!(verdict.is_err(), "both answered, and the observer found nothing");
    ensure!(contested(&claims) >= TOGETHER / 2, "both answered for {:?} only", contested(&claims));
    ensure!(now() > first.at, "the observer has another clock");
    Ok(())
}

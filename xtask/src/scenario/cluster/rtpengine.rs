//! The active node dies while calls go by rtpengines: the other one goes on with the same ones.

use anyhow::{Context, Result, ensure};

use super::stage::Stage;
use crate::cluster::fault::Fault;
use crate::cluster::{Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP};
use crate::phone::Phone;
use crate::phone::call::hang_up;
use crate::rtpengine::Rtpengine;
use crate::scenario::Scenario;
use crate::scenario::rtpengine::{is_of, listen, offer_again, settings_for, talk};
use crate::talker::Talker;

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] =
    &[Scenario { name: "a_takeover_goes_on_with_the_same_rtpengine", run: same_rtpengine }];

fn same_rtpengine(lab: &Lab) -> Result<()> {
    let rtpengines = [
        Rtpengine::start(lab, &lab.host("relay-a", 41)?)?,
        Rtpengine::start(lab, &lab.host("relay-b", 42)?)?,
    ];
    let toml = settings_for(&[&rtpengines[0], &rtpengines[1]]);
    let mut stage = Stage::prepare(lab, &Settings { toml, ..Settings::default() })?;
    stage.cluster.prepare_accounts(0, &["carol", "dave"])?;
    stage.start()?;
    stage.cluster.wait_until_whole(TIME_MAX)?;

    let (carols_host, daves_host) = (lab.host("carol", 23)?, lab.host("dave", 24)?);
    let mut talkers = [Talker::open(&carols_host)?, Talker::open(&daves_host)?];
    let phone = |host, user| Phone::at_service(host, user, &VIP.to_string(), (VIP, 5060).into());
    let (mut carol, mut dave) = (phone(&carols_host, "carol")?, phone(&daves_host, "dave")?);
    dave.register()?;
    let (mut dialog, told) = talk(&mut carol, &mut dave, &mut talkers)?;
    let first = rtpengines.iter().position(|it| is_of(&told, it)).context("neither is named")?;
    listen(&talkers).context("before anything happened")?;

    let Stage { lab, pair, cluster, .. } = &mut stage;
    cluster.hurt(lab, pair, Side::A, Fault::AllKilled)?;
    stage.wait_until_served_by(Side::B)?;
    listen(&talkers).context("after the takeover")?;
    let calls = stage.calls(Side::B)?;
    let expected = rtpengines[first].address().to_string();
    ensure!(calls.len() == 1 && calls[0]["rtpengine"] == expected.as_str(), "{calls:?}");

    let again = offer_again(&mut carol, &mut dialog, &mut dave, &mut talkers)?;
    ensure!(is_of(&again, &rtpengines[first]), "carol was told\n{again}");
    listen(&talkers).context("after the re-INVITE")?;
    let (offers, others) = (rtpengines[first].commands("offer")?, rtpengines[1 - first].commands("offer")?);
    ensure!((offers, others) == (2, 0), "there were {offers} and {others} offers");
    hang_up(&mut carol, &mut dialog, &mut dave)?;
    rtpengines[first].wait_until_empty(TIME_MAX).context("after the BYE")?;
    ensure!(rtpengines[first].commands("delete")? == 1, "the end was not told once");
    stage.end(&["a", "b"])
}

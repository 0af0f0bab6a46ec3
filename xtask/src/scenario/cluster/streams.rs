//! Phones that are connected by TCP when their node is lost, some behind a NAT that looks at sequence numbers.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::stage::Stage;
use crate::cluster::fault::Fault;
use crate::cluster::{Digest, Settings, TIME_MAX};
use crate::lab::Lab;
use crate::lab::pair::{Side, VIP, VIP_V6};
use crate::lab::router::Router;
use crate::phone::Phone;
use crate::process;
use crate::scenario::Scenario;
use crate::stream_phones::{Habits, StreamPhones};

/// The scenarios of this file.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "phones_on_tcp_are_told_at_once_when_their_node_is_cut_off", run: cut_off },
    Scenario { name: "phones_on_tcp_are_told_at_once_when_their_node_is_killed", run: killed },
    Scenario { name: "phones_on_tcp_are_back_after_a_planned_switchover", run: planned },
];

/// On the phones' own host, and as many behind the NAT.
const PHONES: u32 = 10;
const ALL: usize = 2 * PHONES as usize;

fn cut_off(lab: &Lab) -> Result<()> {
    // Nobody hears of the dead node's connections but from the one that takes over.
    lose(lab, Some(Fault::CutOff))
}

fn killed(lab: &Lab) -> Result<()> {
    lose(lab, Some(Fault::AllKilled))
}

fn planned(lab: &Lab) -> Result<()> {
    lose(lab, None)
}

fn lose(lab: &Lab, fault: Option<Fault>) -> Result<()> {
    let settings = Settings { digest: Digest::Off, ..Settings::default() };
    let mut stage = Stage::begin(lab, &settings)?;
    let router = Router::new(lab, "home", 50)?;
    let inside = router.host("inside", 10)?;
    let near = stage.pair.phone.clone();
    let phones =
        StreamPhones::start(&[(&near, PHONES), (&inside, PHONES)], (VIP, 5060).into(), Habits::default())?;
    let v6 = StreamPhones::start(&[(&near, 1)], SocketAddr::from((VIP_V6, 5060)), Habits::default())?;
    phones.wait_for(ALL, TIME_MAX)?;
    v6.wait_for(1, TIME_MAX)?;
    let told = |status: &Value| status["connections_known"].as_u64() == Some(ALL as u64 + 1);
    stage.wait_for_engine(Side::B, "knowing all connections", TIME_MAX, told)?;
    for phones in [&phones, &v6] {
        phones.begin();
    }

    match fault {
        Some(fault) => drop(stage.cluster.hurt(lab, &stage.pair, Side::A, fault)?),
        None => stage.cluster.switch_over(&stage.pair, Side::A)?,
    }

    stage.wait_until_served_by(Side::B)?;
    for (phones, count) in [(&phones, ALL), (&v6, 1)] {
        process::wait_until("return of all phones", TIME_MAX, || {
            let back = phones.fates().iter().filter(|fate| fate.back.is_some()).count();
            Ok((back == count).then_some(()))
        })
        .with_context(|| format!("{:?}", phones.fates()))?;
    }
    // One of each side of the NAT is reached by its new connection.
    let mut caller = Phone::at_service(&stage.pair.far, "caller", &VIP.to_string(), (VIP, 5060).into())?;
    for number in [0, PHONES] {
        let request = caller.request("OPTIONS", &format!("sip:user{number}@{VIP}"));
        caller.send(&request)?;
        let answer = caller.final_response(&request)?;
        ensure!(answer.status() == Some(200), "user{number}: {}", answer.start);
    }
    Ok(())
}

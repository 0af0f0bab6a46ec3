//! How soon phones on TCP are back when their node is lost, a quarter of them behind one NAT that follows sequence numbers.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::load;
use super::work::Loss;
use crate::cluster::fault::Fault;
use crate::cluster::{self, Cluster};
use crate::lab::Lab;
use crate::lab::asker::Asker;
use crate::lab::observer::now;
use crate::lab::pair::{Pair, Side, VIP};
use crate::lab::router::Router;
use crate::phone::Phone;
use crate::process;
use crate::server::PASSWORD;
use crate::stream_phones::{self, Call, Fate, Habits, StreamPhones};

/// So many phones on a host of the nodes' own network, and so many behind one address.
pub const DIRECT: u32 = 7_500;
/// See [`DIRECT`].
pub const BEHIND_NAT: u32 = 2_500;
/// So many calls there are among the phones of each host.
pub const CALLS: u32 = 50;
/// What the phones are like.
pub const HABITS: Habits = Habits {
    jitter: Duration::from_millis(200),
    keepalive: Duration::from_secs(120),
    password: Some(PASSWORD),
    calls: CALLS,
};
/// Everything must be done within this time: a phone that nobody tells of its loss asks within two minutes.
const LIMIT: Duration = Duration::from_secs(200);
/// How often a phone on UDP asks whether anybody answers.
const EVERY: Duration = Duration::from_millis(20);

/// Measures it.
pub fn measure(lab: &Lab, loss: Loss) -> Result<Value> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let busy = load::others()?;
    let pair = Pair::new(lab)?;
    let router = Router::new(lab, "home", 50)?;
    let inside = router.host("inside", 10)?;
    let all = DIRECT + BEHIND_NAT;
    let mut cluster = Cluster::prepare(lab, &pair, &settings())?;
    cluster.prepare_accounts(all, &["caller"])?;
    cluster.start_all(&pair)?;
    let hosts = [(&pair.phone, DIRECT), (&inside, BEHIND_NAT)];
    let phones = StreamPhones::start(&hosts, (VIP, 5060).into(), HABITS)?;
    phones.wait_for(all as usize, LIMIT)?;
    // While so many come at once a busy server lets no call begin.
    phones.call();
    phones.wait_for_calls(2 * CALLS as usize, Call::Up, LIMIT)?;
    known(&cluster, Side::B, all)?;

    let asker = Asker::start(&pair.far, IpAddr::V4(VIP), EVERY)?;
    asker.wait_for(20, now(), LIMIT)?;
    phones.begin();
    let start = now();
    match loss {
        Loss::Killed => drop(cluster.hurt(lab, &pair, Side::A, Fault::AllKilled)?),
        Loss::CutOff => drop(cluster.hurt(lab, &pair, Side::A, Fault::CutOff)?),
        Loss::Planned => cluster.switch_over(&pair, Side::A)?,
    }
    let back = || phones.fates().iter().filter(|fate| fate.back.is_some()).count();
    process::wait_until("return of all phones", LIMIT, || Ok((back() == all as usize).then_some(())))
        .with_context(|| format!("{} are back", back()))?;
    let fates = phones.fates();
    let end = now();
    cluster.wait_until_active(Side::B, LIMIT)?;
    let status = cluster.control(Side::B)?.status()?;
    ensure!(phones.registered() == all as usize, "some have lost their second connection too");

    let (reached, asked_for) = reach(&pair, all)?;
    phones.hang_up();
    let ended = phones.wait_for_calls(2 * CALLS as usize, Call::Ended(200), LIMIT);
    let calls = phones.fates().iter().filter(|fate| fate.call == Call::Ended(200)).count();
    if let Err(error) = ended {
        println!("  {error:#}");
    }
    let mut figures = figures(&fates, start)?;
    figures["busy"] = json!(busy);
    figures["gap_ms"] = json!(milliseconds(asker.longest_gap(start, end)));
    figures["reached"] = json!(reached);
    figures["reach_s"] = json!(asked_for.as_secs_f64());
    figures["calls_ended"] = json!(calls);
    figures["tickled"] = status["tallies"]["tickled"].clone();
    Ok(figures)
}

/// As many connections as there are phones, and as many from one address as are behind the NAT; all else as it comes.
fn settings() -> cluster::Settings {
    cluster::Settings {
        log_level: "info",
        sip: "[sip.tcp]\nconnections_max = 20000\nconnections_per_source_max = 10000\n".to_owned(),
        // Thousands of direct phones share one host here, which is nobody's office.
        never: &["198.51.100.0/24", "203.0.113.21/32"],
        ..cluster::Settings::default()
    }
}

/// Waits until a node knows so many connections of the other one.
fn known(cluster: &Cluster, side: Side, count: u32) -> Result<()> {
    let mut known = Value::Null;
    process::wait_until("knowledge of all connections", LIMIT, || {
        known = cluster.control(side)?.status()?["connections_known"].clone();
        Ok((known.as_u64() >= Some(u64::from(count))).then_some(()))
    })
    .with_context(|| format!("{known} of {count} are known"))
}

/// Asks each phone through the virtual address; gives how many answered, and how long that took.
fn reach(pair: &Pair, count: u32) -> Result<(u32, Duration)> {
    let mut caller = Phone::at_service(&pair.far, "caller", &VIP.to_string(), (VIP, 5060).into())?;
    caller.register()?;
    let (start, mut reached) = (now(), 0);
    for number in 0..count {
        let uri = format!("sip:user{number}@{VIP}");
        let mut request = caller.request("OPTIONS", &uri);
        request = caller.with_credentials(request);
        caller.send(&request)?;
        let mut answer = caller.final_response(&request)?;
        if matches!(answer.status(), Some(401 | 407)) {
            caller.remember(&answer)?;
            let again = caller.again(&request);
            let again = caller.with_credentials(again);
            caller.send(&again)?;
            answer = caller.final_response(&again)?;
        }
        match answer.status() {
            Some(200) => reached += 1,
            _ => println!("  user{number}: {}", answer.start),
        }
    }
    Ok((reached, now().saturating_sub(start)))
}

/// When which part of the phones had lost its connection and had another one, in milliseconds from the loss of the node.
fn figures(fates: &[Fate], start: Duration) -> Result<Value> {
    let since = |at: Duration| milliseconds(at.saturating_sub(start));
    let mut figures = json!({});
    let (direct, behind) = fates.split_at(DIRECT as usize);
    let callers = |phones: &[Fate]| phones[..2 * CALLS as usize].to_vec();
    let in_call = [callers(direct), callers(behind)].concat();
    for (name, phones) in [("all", fates), ("direct", direct), ("nat", behind), ("call", &in_call)] {
        let mut lost: Vec<f64> = phones.iter().filter_map(|fate| Some(since(fate.lost?.0))).collect();
        let mut back: Vec<f64> = phones.iter().filter_map(|fate| fate.back.map(since)).collect();
        ensure!(back.len() == phones.len(), "{} of {} {name} are back", back.len(), phones.len());
        lost.sort_by(f64::total_cmp);
        back.sort_by(f64::total_cmp);
        for (part, times) in [("lost", &lost), ("back", &back)] {
            for percent in [50, 99, 100] {
                figures[format!("{name}_{part}_{percent}_ms")] = json!(share(times, percent));
            }
        }
    }
    let missed = |fate: &&Fate| fate.lost.is_some_and(|(_, by)| by == stream_phones::Loss::Missed);
    figures["missed"] = json!(fates.iter().filter(missed).count());
    figures["refusals"] = json!(fates.iter().map(|fate| fate.refusals).sum::<u32>());
    Ok(figures)
}

/// When so many percent of sorted times were over.
fn share(times: &[f64], percent: usize) -> Option<f64> {
    let place = (times.len() * percent).div_ceil(100);
    times.get(place.checked_sub(1)?).copied()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_over_when_that_many_are() {
        let times: Vec<f64> = (1..=200).map(f64::from).collect();

        assert_eq!(
            [50, 99, 100].map(|percent| share(&times, percent)),
            [Some(100.0), Some(198.0), Some(200.0)]
        );
        assert_eq!(share(&[], 50), None);
    }
}

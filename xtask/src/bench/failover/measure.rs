//! One figure: a lab, a pair, a fault, and what the phones and the observer saw.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::contestant::{Contestant, Servers, freeze, kill};
use super::fault::{Fault, SPLIT};
use super::figures::Outcome;
use crate::lab::Lab;
use crate::lab::asker::Asker;
use crate::lab::observer::{Claim, Mac, Observer, contested, now};
use crate::lab::pair::{Pair, Side, VIP};
use crate::lab::prober::Prober;
use crate::process;

/// How often a phone asks.
const EVERY: Duration = Duration::from_millis(5);
/// The service is there when so many requests were answered. The longest gap among them counts.
const ANSWERS: usize = 100;
/// No takeover takes longer.
const TAKEOVER_MAX: Duration = Duration::from_secs(20);
/// What a phone sent up to here may still be answered by what has just been killed.
const AFTERGLOW: Duration = Duration::from_millis(30);
/// How long an address that nobody serves is watched.
const REMAINS_MAX: Duration = Duration::from_secs(8);
/// After so long without a word nobody speaks any more.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a healed pair is watched.
const HEALED: Duration = Duration::from_secs(3);

/// What the figure is measured in.
struct Stage<'l> {
    lab: &'l Lab,
    pair: Pair,
    servers: Servers,
    observer: Observer,
    phones: [Asker; 2],
    active: Side,
    /// The hardware address of the active node.
    mac: Mac,
    _prober: Prober,
}

/// Measures it. `repeat` moves the fault within a second.
pub fn measure(lab: &Lab, contestant: Contestant, fault: Fault, repeat: usize) -> Result<Outcome> {
    let stage = begin(lab, contestant)?;
    // The timers of both are not to be hit always at the same place: 0.37 s and 1 s have no common step.
    std::thread::sleep(Duration::from_millis(200 + repeat as u64 * 370 % 1000));
    let start = now();
    match fault {
        Fault::Split => stage.split(start),
        Fault::Killed => stage.killed(start),
        _ => stage.gap(start, fault),
    }
}

fn begin(lab: &Lab, contestant: Contestant) -> Result<Stage<'_>> {
    let pair = Pair::new(lab)?;
    let watched = [IpAddr::V4(VIP)];
    let observer = Observer::start(lab, &watched)?;
    let servers = Servers::start(lab, &pair, contestant)?;
    let prober = Prober::start(&pair.prober, &watched)?;
    let phones = [Asker::start(&pair.phone, watched[0], EVERY)?, Asker::start(&pair.far, watched[0], EVERY)?];
    let start = now();
    for phone in &phones {
        phone.wait_for(ANSWERS, start, TAKEOVER_MAX).context("before the fault")?;
    }
    let last = observer.claims().last().copied().context("nobody speaks for the address")?;
    let active = pair.owner(last.mac)?.context("a stranger speaks for the address")?;
    Ok(Stage { lab, pair, servers, observer, phones, active, mac: last.mac, _prober: prober })
}

impl Stage<'_> {
    /// The longest time without an answer.
    fn gap(self, start: Duration, fault: Fault) -> Result<Outcome> {
        let (active, cable) = (self.active, self.pair.node(self.active).cable());
        match fault {
            Fault::EngineKilled => kill(&self.servers.engine(active)?)?,
            Fault::HostDead => {
                // Nobody may say good-bye: keepalived would, when its parent dies a moment before it.
                let all = self.servers.all(active)?;
                freeze(&all)?;
                self.lab.pull(&cable)?;
                kill(&all)?;
            }
            Fault::CutOff => self.lab.cut_off(&cable)?,
            Fault::Frozen => freeze(&self.servers.all(active)?)?,
            Fault::Switchover => {
                self.servers.switch_over(&self.pair, active)?;
                let is_other = |claim: &Claim| claim.at > start && claim.mac != self.mac;
                self.observer.wait_for("word of the other node", TAKEOVER_MAX, is_other)?;
            }
            Fault::Split | Fault::Killed => {}
        }
        let from = now() + AFTERGLOW;
        let mut gap = Duration::ZERO;
        for phone in &self.phones {
            let end = phone.wait_for(ANSWERS, from, TAKEOVER_MAX).context("after the fault")?;
            gap = gap.max(phone.longest_gap(start, end));
        }
        let claims = self.observer.stop()?;
        Ok(Outcome { time: gap, is_open: false, both: contested(&claims) })
    }

    /// How long both speak while they do not hear each other, and whether that ends with the cut.
    fn split(self, start: Duration) -> Result<Outcome> {
        let (a, b) = (self.pair.node(Side::A).cable(), self.pair.node(Side::B).cable());
        self.lab.cut_between(&a, &b)?;
        std::thread::sleep(SPLIT);
        self.lab.heal()?;
        std::thread::sleep(HEALED);
        let end = now();
        let claims = self.observer.stop()?;
        ensure!(claims.iter().any(|claim| claim.at > start), "nobody spoke for the address");
        let late: Vec<Claim> = claims.iter().filter(|claim| claim.at + SILENCE > end).copied().collect();
        let is_answered = self
            .phones
            .iter()
            .all(|phone| phone.answers().last().is_some_and(|answer| answer.at + SILENCE > end));
        let both = contested(&claims);
        Ok(Outcome { time: both, is_open: !contested(&late).is_zero() || !is_answered, both })
    }

    /// How long the address of a node without any process is still spoken for.
    fn killed(self, start: Duration) -> Result<Outcome> {
        let all = self.servers.all(self.active)?;
        freeze(&all)?;
        kill(&all)?;
        let last_word = || {
            let claims = self.observer.claims();
            claims.iter().filter(|claim| claim.mac == self.mac).map(|claim| claim.at).max().unwrap_or(start)
        };
        let (last, is_open) = process::wait_until("end", TAKEOVER_MAX, || {
            let (last, now) = (last_word(), now());
            let is_open = now > start + REMAINS_MAX;
            Ok((is_open || now > last + SILENCE).then_some((last, is_open)))
        })?;
        let claims = self.observer.stop()?;
        Ok(Outcome { time: last.saturating_sub(start), is_open, both: contested(&claims) })
    }
}

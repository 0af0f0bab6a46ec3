//! A pair, phones that register, and one fault after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::record::{Kill, Victim};
use crate::chance::Chance;
use crate::cluster::fault::Fault;
use crate::cluster::{Cluster, Settings};
use crate::lab::Lab;
use crate::lab::observer::now;
use crate::lab::pair::{Pair, Side, VIP};
use crate::registrants::ledger::{Entry, Verdict};
use crate::registrants::{Counts, Plan, Registrants};

/// The phones come round so often; 100,000 register 500 times a second.
const ROUND: Duration = Duration::from_secs(200);
/// And faster while they register for the first time.
const FIRST_ROUND: Duration = Duration::from_secs(50);
/// Fewer than this in a second are too few to see a takeover by.
const PACE_MIN: u32 = 50;
/// All phones must be registered within this time, also on a machine that has other work.
const REGISTERED_WITHIN: Duration = Duration::from_secs(300);
/// No takeover, and no start with all bindings, takes longer.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest time from a whole pair to the next fault.
const MOMENT_MAX: Duration = Duration::from_millis(1_500);
/// So many answers are a service.
const ANSWERS: usize = 50;
/// Promises that are this old when a fault comes are compared after each one.
const RECENT: Duration = Duration::from_secs(2);
/// And so many others.
const OTHERS: u64 = 200;
/// After each so many faults all bindings are compared.
const FULL_EVERY: u64 = 10;
/// One of so many faults hits the standby.
const STANDBY_ONE_IN: u64 = 10;

/// The faults, each as often as the others.
const FAULTS: [Fault; 8] = [
    Fault::EngineKilled,
    Fault::GuardianKilled,
    Fault::AllKilled,
    Fault::CableOut,
    Fault::CutOff,
    Fault::EngineFrozen,
    Fault::GuardianFrozen,
    Fault::AllFrozen,
];

/// All of it.
#[derive(Debug)]
pub struct Trial<'l> {
    lab: &'l Lab,
    pair: Pair,
    cluster: Cluster,
    registrants: Registrants,
    life: u64,
    seen: Counts,
    epoch: u64,
    /// When the account of the fault before was closed.
    closed_at: Duration,
    /// What each engine has counted when it was asked last, by its process.
    counted: BTreeMap<u64, BTreeMap<String, u64>>,
}

impl<'l> Trial<'l> {
    /// Starts the pair and registers the phones.
    pub fn begin(lab: &'l Lab, phones: u32, life: u64) -> Result<Trial<'l>> {
        let pair = Pair::new(lab)?;
        let settings = Settings {
            log_level: "info",
            // A nonce is not to run out: a 401 is then one that a takeover has brought.
            toml: "[auth]\nalgorithms = [\"MD5\"]\nnonce_lifetime = \"1d\"\n".to_owned(),
            ..Settings::default()
        };
        let mut cluster = Cluster::prepare(lab, &pair, &settings)?;
        println!("{phones} accounts");
        cluster.prepare_accounts(phones, &[])?;
        cluster.start_all(&pair)?;
        let plan = Plan {
            phones,
            domain: VIP.to_string(),
            registrar: (VIP, 5060).into(),
            expires: Duration::from_secs(3600),
            removal_one_in: 20,
            seed: life,
        };
        let registrants = Registrants::start(&pair.phone, &plan)?;
        println!("{phones} phones register");
        registrants.register_all(pace(phones, FIRST_ROUND), REGISTERED_WITHIN)?;
        registrants.take_complaints();
        let seen = registrants.counts();
        registrants.set_pace(pace(phones, ROUND));
        let epoch = epoch(&cluster, Side::A)?;
        Ok(Trial {
            lab,
            pair,
            cluster,
            registrants,
            life,
            seen,
            epoch,
            closed_at: now(),
            counted: BTreeMap::new(),
        })
    }

    /// Lets phones and nodes rest.
    pub fn rest_while(&self, is_paused: impl Fn() -> bool) -> Result<()> {
        self.registrants.set_pace(0);
        self.registrants.wait_for_answers(LIMIT)?;
        while is_paused() {
            std::thread::sleep(Duration::from_secs(1));
        }
        self.registrants.set_pace(pace(self.registrants.plan().phones, ROUND));
        Ok(())
    }

    /// A fault at a moment that the number draws, and what came of it; complaints are in words.
    pub fn kill(&mut self, number: u64) -> Result<(Kill, Vec<String>)> {
        let active = self.cluster.wait_until_whole(LIMIT).context("before the fault")?;
        self.count_degraded(active)?;
        let mut chance = Chance(number);
        let fault = FAULTS[chance.below(FAULTS.len() as u64) as usize];
        let victim = if chance.below(STANDBY_ONE_IN) == 0 { Victim::Standby } else { Victim::Active };
        std::thread::sleep(Duration::from_millis(chance.below(MOMENT_MAX.as_millis() as u64)));
        let mut degraded = self.count_degraded(active)?;
        let degraded_when_whole: u64 = degraded.values().sum();

        let (side, holder) = match victim {
            Victim::Active => (active, active.other()),
            Victim::Standby => (active.other(), active),
        };
        self.registrants.begin_gap();
        let (start, at) = (Instant::now(), now());
        let wound = self.cluster.hurt(self.lab, &self.pair, side, fault)?;
        self.cluster.wait_until_active(holder, LIMIT)?;
        self.registrants.wait_for_service(ANSWERS, LIMIT)?;
        let gap = self.registrants.longest_gap();
        let is_full = number.is_multiple_of(FULL_EVERY);
        let verdict = self.audit(holder, at, is_full, &mut chance)?;
        self.cluster.heal(self.lab, &self.pair, wound)?;
        let whole = self.whole()?;
        let back = start.elapsed();
        let (active, epoch) = self.settle(whole)?;
        for (cause, count) in self.count_degraded(active)? {
            *degraded.entry(cause).or_default() += count;
        }

        let epochs = epoch.saturating_sub(self.epoch);
        self.epoch += epochs;
        let counts = self.registrants.counts();
        let before = std::mem::replace(&mut self.seen, counts);
        let hurt = |it: &Counts| it.refused + it.unanswered + it.wrong;
        let again = counts.challenged_again - before.challenged_again;
        let closed_at = std::mem::replace(&mut self.closed_at, now());
        let lapses = self.cluster.lapses(&self.pair, side.other(), closed_at..self.closed_at)?
            + self.cluster.lapses(&self.pair, side, closed_at..at)?;
        // A node that has lost the lease and got it again knows the nonce count and not the REGISTER that was under way.
        let asked_again = if lapses > 0 { again } else { 0 };
        // Which of them they are is not told: no more than there were can be lost.
        let lost_degraded = verdict.broken().min(degraded_when_whole);
        let complaints = [verdict.told.clone(), self.registrants.take_complaints()].concat();
        let kill = Kill {
            number,
            life: self.life,
            fault,
            victim,
            gap,
            back,
            accepted: counts.registered + counts.removed - before.registered - before.removed,
            compared: verdict.compared,
            lost: verdict.broken() - lost_degraded,
            lost_degraded,
            is_full,
            hurt: hurt(&counts) - hurt(&before) + again - asked_again,
            epochs,
            lapses,
            asked_again,
            degraded,
            degraded_when_whole,
        };
        Ok((kill, complaints))
    }

    /// The node that serves, when both are well, and its epoch.
    fn whole(&self) -> Result<(Side, u64)> {
        let active = self.cluster.wait_until_whole(LIMIT).context("after the fault")?;
        Ok((active, epoch(&self.cluster, active)?))
    }

    /// Lets a fault come to its end: what it has done to a phone may show only when the phone sends again.
    fn settle(&self, mut whole: (Side, u64)) -> Result<(Side, u64)> {
        loop {
            self.registrants.wait_for_answers(LIMIT)?;
            let before = std::mem::replace(&mut whole, self.whole()?);
            if whole == before {
                return Ok(whole);
            }
        }
    }

    fn audit(&self, holder: Side, at: Duration, is_full: bool, chance: &mut Chance) -> Result<Verdict> {
        let mut engine = self.cluster.control(holder)?;
        if is_full {
            return self.registrants.audit_all(&mut engine);
        }
        let entries = self.registrants.entries();
        let is_recent = |entry: &Entry| entry.at + RECENT > at;
        let recent = entries.iter().zip(0..).filter(|(entry, _)| is_recent(entry)).map(|(_, phone)| phone);
        let others = (0..OTHERS).map(|_| chance.below(self.registrants.plan().phones.into()) as u32);
        let mut phones: Vec<u32> = recent.chain(others).collect();
        phones.sort_unstable();
        phones.dedup();
        self.registrants.audit(&mut engine, &phones)
    }

    /// What a node has counted as degraded since it was asked last, by cause.
    fn count_degraded(&mut self, side: Side) -> Result<BTreeMap<String, u64>> {
        let status = self.cluster.control(side)?.status()?;
        let process = status["pid"].as_u64().context("the engine does not name its process")?;
        let counted = degraded(&status);
        let before = self.counted.insert(process, counted.clone()).unwrap_or_default();
        let new = |(cause, count): (String, u64)| {
            let count = count.saturating_sub(before.get(&cause).copied().unwrap_or(0));
            (count > 0).then_some((cause, count))
        };
        Ok(counted.into_iter().filter_map(new).collect())
    }
}

/// How many register in a second.
fn pace(phones: u32, round: Duration) -> u32 {
    (phones / round.as_secs() as u32).max(PACE_MIN)
}

/// The epoch under which a node is active.
fn epoch(cluster: &Cluster, active: Side) -> Result<u64> {
    let view = cluster.view(active).context("the guardian does not answer")?;
    view["cluster"]["epoch"].as_u64().context("no epoch in the status")
}

/// What an engine has counted as degraded, by cause.
pub fn degraded(status: &serde_json::Value) -> BTreeMap<String, u64> {
    let counters = status["counters"].as_object().into_iter().flatten();
    let named = |(name, count): (&String, &serde_json::Value)| {
        let cause = name.strip_prefix("degraded_")?;
        Some((cause.to_owned(), count.as_u64()?))
    };
    counters.filter_map(named).collect()
}

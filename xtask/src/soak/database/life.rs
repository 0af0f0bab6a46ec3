//! One life of a pair and its database: all troubles, each for its share of the time, and the closing of the books.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::record::{Life, Outage};
use super::trouble::{Change, Trouble};
use crate::cluster::fault::Fault;
use crate::lab::Lab;
use crate::outage::{LIMIT, Load, Replica, Site};
use crate::process;

/// How often it is looked what is owed.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long everything may take to be written after a trouble, on a busy machine.
const WRITTEN_WITHIN: Duration = Duration::from_secs(240);
/// All phones must be registered within this time.
const REGISTERED_WITHIN: Duration = Duration::from_secs(180);
/// So long each answer takes: far longer than is waited for, and later shorter.
const VERY_SLOW: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(300);
/// How long a database that is killed again and again runs, and does not.
const RUNS_FOR: Duration = Duration::from_millis(1_500);

/// All of it.
pub fn live(lab: &Lab, load: Load, length: Duration) -> Result<Life> {
    let troubles = Trouble::of(load.product);
    let replica = if troubles.contains(&Trouble::Moved) { Replica::One } else { Replica::None };
    let mut site = Site::start(lab, load, replica)?;
    site.registrants.register_all(load.registers, REGISTERED_WITHIN)?;
    site.registrants.set_pace(load.registers);
    let (start, calls_before) = (Instant::now(), site.calls_begun());
    let registered =
        |site: &Site<'_>| site.registrants.counts().registered + site.registrants.counts().removed;
    let registers_before = registered(&site);
    let mut outages = Vec::new();
    for trouble in troubles {
        let outage = undergo(&mut site, *trouble, length / troubles.len() as u32)
            .with_context(|| format!("while the database was {}", trouble.name()))?;
        println!("{}", outage.line());
        outages.push(outage);
    }
    let took = start.elapsed();
    let (calls, registers) = (site.calls_begun() - calls_before, registered(&site) - registers_before);
    let killed = outages.iter().filter(|it| it.trouble.change() != Change::Switchover).count() as u64;
    let books = site.close()?;
    let mut faults = books.faults(killed);
    if books.refused() > 0 {
        faults.push(format!("REGISTERs: {:?}; {}", books.registers, books.complaints.join("; ")));
    }
    Ok(Life {
        number: load.seed,
        took,
        registers,
        calls,
        hurt: books.calls.hurt(),
        bindings: books.bindings,
        records: books.records,
        unrecorded: books.unrecorded,
        outages,
        faults,
    })
}

/// One trouble, with a change of nodes in the middle of it, until everything is written again.
fn undergo(site: &mut Site<'_>, trouble: Trouble, length: Duration) -> Result<Outage> {
    let begun = Instant::now();
    let (mut bindings, mut calls) = (0, 0);
    let mut look = |site: &Site<'_>| {
        let owed = site.owed();
        bindings = owed.bindings.max(bindings);
        calls = owed.calls.max(calls);
    };
    begin(site, trouble)?;
    let (mut is_changed, mut ended_itself) = (false, 0);
    while begun.elapsed() < length {
        if !is_changed && begun.elapsed() >= length / 2 {
            is_changed = true;
            change(site, trouble.change())?;
            if trouble == Trouble::Slow {
                site.way.set(SLOW);
            }
        }
        go_on(site, trouble, &mut ended_itself)?;
        look(site);
        std::thread::sleep(LOOK_EVERY);
    }
    end(site, trouble)?;
    let (outage, mended) = (begun.elapsed(), Instant::now());
    process::wait_until("everything written", WRITTEN_WITHIN, || {
        look(site);
        Ok(site.is_written().then_some(()))
    })
    .with_context(|| format!("{:?}", site.owed()))?;
    let written_after = mended.elapsed();
    Ok(Outage { trouble, outage, bindings, calls, written_after, ended_itself })
}

fn begin(site: &mut Site<'_>, trouble: Trouble) -> Result<()> {
    match trouble {
        Trouble::Stopped | Trouble::Moved => site.database.kill(),
        Trouble::CutOff => site.way_host.cut_off(),
        Trouble::Slow => {
            site.way.set(VERY_SLOW);
            Ok(())
        }
        Trouble::Full => site.database.fill_disk(),
        Trouble::Restarted => Ok(()),
    }
}

fn go_on(site: &mut Site<'_>, trouble: Trouble, ended_itself: &mut u64) -> Result<()> {
    match trouble {
        Trouble::Full => {
            // What it removes of its own makes room. One that has no room for its log ends itself.
            site.database.fill_disk()?;
            if site.database.is_running() && !site.database.has_not_ended()? {
                *ended_itself += 1;
                site.database.kill()?;
            }
        }
        Trouble::Restarted => {
            if site.database.is_running() {
                site.database.kill()?;
            } else {
                site.database.start_again()?;
            }
            std::thread::sleep(RUNS_FOR);
        }
        Trouble::Stopped | Trouble::CutOff | Trouble::Slow | Trouble::Moved => {}
    }
    Ok(())
}

fn end(site: &mut Site<'_>, trouble: Trouble) -> Result<()> {
    match trouble {
        Trouble::Stopped => site.database.start_again(),
        Trouble::CutOff => site.way_host.end_cut(),
        Trouble::Slow => {
            site.way.set(Duration::ZERO);
            Ok(())
        }
        Trouble::Full => {
            site.database.make_room()?;
            if !site.database.is_running() {
                site.database.start_again()?;
            }
            Ok(())
        }
        Trouble::Restarted => {
            if !site.database.is_running() {
                site.database.start_again()?;
            }
            Ok(())
        }
        Trouble::Moved => {
            let replica = site.replica.take().context("there is no replica")?;
            replica.promote()?;
            site.database = replica;
            Ok(())
        }
    }
}

/// The other node becomes active, and the pair whole again.
fn change(site: &mut Site<'_>, change: Change) -> Result<()> {
    let active = site.cluster.wait_until_whole(LIMIT).context("before the change")?;
    let hurt = |site: &mut Site<'_>, fault| {
        let wound = site.cluster.hurt(site.lab, &site.pair, active, fault)?;
        site.cluster.wait_until_active(active.other(), LIMIT)?;
        site.cluster.heal(site.lab, &site.pair, wound)
    };
    match change {
        Change::Killed => hurt(site, Fault::AllKilled)?,
        Change::CableOut => hurt(site, Fault::CableOut)?,
        Change::Switchover => {
            site.cluster.switch_over(&site.pair, active)?;
            site.cluster.wait_until_active(active.other(), LIMIT)?;
        }
    }
    site.cluster.wait_until_whole(LIMIT).context("after the change").map(drop)
}

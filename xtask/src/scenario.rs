//! What the real program must do with real phones, one scenario each.
//!
//! The test command starts each scenario as a process of its own in namespaces of its own (see
//! `lab`), two at a time, and ends it when it takes too long. All have the same addresses.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::lab::{self, Lab};
use crate::process::{self, Running};
use crate::standstill;

mod account;
mod attack;
mod baresip_call;
mod beside;
mod call_limit;
mod carrier;
pub(crate) mod cluster;
mod command_line;
mod demo;
mod disk_faults;
mod dispatcher;
mod edge;
mod first_run;
mod forwarding;
mod fragmented_invite;
mod gateway;
mod gruu;
mod hanging_look_up;
mod hostile;
mod identity;
mod internet;
mod keepalive;
mod media;
mod media_attack;
mod media_records;
mod nat_port_change;
mod nonce_count;
mod open_relay;
mod other_domains;
mod passed_through;
mod path;
mod proxy_acknowledgement;
mod restart;
mod rtpengine;
mod several_flows;
mod sipp_call;
mod sipp_fork;

/// No scenario takes longer than this; the slowest needs 20 s on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(90);
/// How many run at once: they wait most of the time.
const AT_ONCE: usize = 3;
/// The exit status by which a scenario says that the machine can not run it.
const SKIPPED: u8 = 77;
/// How often one is run in all, if the machine stood still each time that it failed.
const RUNS_MAX: usize = 3;
/// So many that failed get a second try when all others have ended. More of them are no accident.
const SECOND_TRIES_MAX: usize = 2;
/// The room in the last lines for what one said, which those who keep only the end of the output still see.
const REASON_MAX: usize = 1_500;
/// How a line begins that a scenario wants to be shown also when it has passed.
const MEASURED: &str = "measured: ";
/// How much of each log is shown after a failure.
const TAIL_LINES: usize = 25;

/// One scenario.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence that can be false, with `_` for spaces.
    pub name: &'static str,
    /// The deed.
    pub run: fn(&Lab) -> Result<()>,
}

/// The machine lacks what a scenario needs; the text says what.
#[derive(Debug)]
pub struct Skipped(pub String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

/// How many scenarios ended in which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Did what they promise.
    pub passed: usize,
    /// Did not.
    pub failed: usize,
    /// Could not be run.
    pub skipped: usize,
    /// What is to be read at the very end: why one failed, also where it passed at its second try.
    pub remarks: Vec<String>,
}

impl Tally {
    /// One has failed, and this is why.
    pub fn fail(&mut self, name: &str, reason: &str) {
        self.failed += 1;
        self.remarks.push(format!("{name} FAILED: {}", shortened(reason)));
    }
}

fn shortened(reason: &str) -> &str {
    let end = reason.char_indices().nth(REASON_MAX).map_or(reason.len(), |(end, _)| end);
    &reason[..end]
}

/// Where to find the program and keep the logs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The program under test.
    pub binary: PathBuf,
    /// The folder in which each scenario gets one.
    pub dir: PathBuf,
}

/// All scenarios in the order of the files.
pub fn all() -> Vec<Scenario> {
    [
        first_run::SCENARIOS,
        demo::SCENARIOS,
        forwarding::SCENARIOS,
        command_line::SCENARIOS,
        account::SCENARIOS,
        attack::SCENARIOS,
        sipp_call::SCENARIOS,
        sipp_fork::SCENARIOS,
        baresip_call::SCENARIOS,
        media::SCENARIOS,
        media_attack::SCENARIOS,
        media_records::SCENARIOS,
        rtpengine::SCENARIOS,
        call_limit::SCENARIOS,
        restart::SCENARIOS,
        nat_port_change::SCENARIOS,
        fragmented_invite::SCENARIOS,
        open_relay::SCENARIOS,
        identity::SCENARIOS,
        proxy_acknowledgement::SCENARIOS,
        hanging_look_up::SCENARIOS,
        other_domains::SCENARIOS,
        passed_through::SCENARIOS,
        several_flows::SCENARIOS,
        nonce_count::SCENARIOS,
        keepalive::SCENARIOS,
        gateway::SCENARIOS,
        dispatcher::SCENARIOS,
        internet::SCENARIOS,
        disk_faults::SCENARIOS,
        edge::SCENARIOS,
        beside::SCENARIOS,
        gruu::SCENARIOS,
        path::SCENARIOS,
        hostile::datagrams::SCENARIOS,
        hostile::order::SCENARIOS,
        hostile::registrations::SCENARIOS,
        hostile::streams::SCENARIOS,
        hostile::torture::SCENARIOS,
        carrier::SCENARIOS,
        cluster::observed::SCENARIOS,
        cluster::bindings::SCENARIOS,
        cluster::killed::SCENARIOS,
        cluster::drill::SCENARIOS,
        cluster::metrics::SCENARIOS,
        cluster::frozen::SCENARIOS,
        cluster::full_disk::SCENARIOS,
        cluster::cables::SCENARIOS,
        cluster::call_rows::SCENARIOS,
        cluster::lost_node::SCENARIOS,
        cluster::calls::SCENARIOS,
        cluster::load::SCENARIOS,
        cluster::location::SCENARIOS,
        cluster::moved_primary::SCENARIOS,
        cluster::witness::SCENARIOS,
        cluster::row_witness::SCENARIOS,
        cluster::lease_row::SCENARIOS,
        cluster::start::SCENARIOS,
        cluster::planned::SCENARIOS,
        cluster::lossless::SCENARIOS,
        cluster::strangers::SCENARIOS,
        cluster::fallback::SCENARIOS,
        cluster::streams::SCENARIOS,
        cluster::survival::SCENARIOS,
        cluster::talk::SCENARIOS,
        cluster::talk_changes::SCENARIOS,
        cluster::fast_path::SCENARIOS,
        cluster::rtpengine::SCENARIOS,
    ]
    .concat()
}

/// Runs those whose name contains `filter` and prints a line for each.
///
/// They share the machine with each other and with whatever its host does, so a few that failed get a second try alone. One
/// that passes then counts as passed, and why it failed at first stands in the remarks: it may be a race of the program.
pub fn run_all(filter: &str, place: &Place) -> Result<Tally> {
    let mut chosen: VecDeque<_> = all().into();
    chosen.retain(|scenario| scenario.name.contains(filter));
    let waiting = Mutex::new(chosen);
    let tally = Mutex::new(Tally::default());
    let failed = Mutex::new(Vec::new());
    let watch = standstill::Watch::begin();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(scenario) = next(&waiting) {
                    let start = Instant::now();
                    let end = undisturbed(&scenario, place, &watch);
                    let reason = report(&scenario, place, start.elapsed(), end, &mut lock(&tally));
                    if let Some(reason) = reason {
                        lock(&failed).push((scenario, reason));
                    }
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let again = failed.len() <= SECOND_TRIES_MAX;
    for (scenario, reason) in failed {
        if again {
            try_again(&scenario, &reason, place, &watch, &mut tally);
        } else {
            tally.fail(scenario.name, &reason);
        }
    }
    Ok(tally)
}

/// Runs one alone that has failed before, for this reason.
fn try_again(scenario: &Scenario, reason: &str, place: &Place, watch: &standstill::Watch, tally: &mut Tally) {
    let name = scenario.name;
    println!("scenario {name} ... a second try, alone");
    // What the first try left is all there is to find its cause.
    let (dir, first) = (place.dir.join(name), place.dir.join(format!("{name}.first")));
    let _ = fs::remove_dir_all(&first);
    let _ = fs::rename(dir, first);
    let start = Instant::now();
    let end = undisturbed(scenario, place, watch);
    match report(scenario, place, start.elapsed(), end, tally) {
        None => {
            tally.remarks.push(format!("{name} passed at its second try; the first: {}", shortened(reason)))
        }
        Some(second) => {
            tally.fail(name, &format!("{}\nand before that: {}", shortened(&second), shortened(reason)))
        }
    }
}

/// Lets go of the lock at once, so that the others can take theirs.
fn next(waiting: &Mutex<VecDeque<Scenario>>) -> Option<Scenario> {
    lock(waiting).pop_front()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one scenario, and anew if it failed while the machine stood still.
fn undisturbed(scenario: &Scenario, place: &Place, watch: &standstill::Watch) -> Result<()> {
    for _ in 1..RUNS_MAX {
        let begin = Instant::now();
        let end = isolated(scenario, place);
        let Err(error) = &end else { return end };
        let pause = watch.longest_since(begin);
        let Some(pause) = pause.filter(|_| !error.is::<Skipped>()) else { return end };
        println!(
            "scenario {} ... once more: the machine stood still for {} ms, and it said\n  {error:#}",
            scenario.name,
            pause.as_millis()
        );
    }
    isolated(scenario, place)
}

/// Runs one scenario as process 1 of its own namespaces.
fn isolated(scenario: &Scenario, place: &Place) -> Result<()> {
    let dir = place.dir.join(scenario.name);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut command = lab::alone();
    command.arg(std::env::current_exe()?).arg("scenario").arg(scenario.name);
    command.arg(&dir).arg(&place.binary);
    let mut running = Running::start(&mut command, &dir.join("scenario.log"))?;
    let status = running.wait(TIME_MAX)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(SKIPPED) => bail!(Skipped(running.log().trim().to_owned())),
        Some(_) => bail!("{}", running.log().trim()),
        None => bail!("ended by signal {:?}", status.signal()),
    }
}

/// What the process started by [`isolated`] does; gives its exit status.
pub fn run_here(name: &str, dir: &Path, binary: &Path) -> Result<u8> {
    let scenario = all().into_iter().find(|scenario| scenario.name == name);
    let scenario = scenario.with_context(|| format!("no scenario is called {name}"))?;
    let lab = Lab::new(dir, binary)?;
    match (scenario.run)(&lab) {
        Ok(()) => Ok(0),
        Err(error) => match error.downcast_ref::<Skipped>() {
            Some(reason) => {
                println!("{reason}");
                Ok(SKIPPED)
            }
            None => {
                println!("{error:#}");
                Ok(1)
            }
        },
    }
}

/// Says how one ended, and gives the reason for which it failed; that is not in the tally yet.
fn report(
    scenario: &Scenario,
    place: &Place,
    time: Duration,
    end: Result<()>,
    tally: &mut Tally,
) -> Option<String> {
    let dir = place.dir.join(scenario.name);
    let seconds = time.as_secs_f32();
    let name = scenario.name;
    match end {
        Ok(()) => {
            tally.passed += 1;
            println!("scenario {name} ... ok ({seconds:.1} s)");
            let said = process::read_lossy(&dir.join("scenario.log"));
            said.lines().filter(|line| line.starts_with(MEASURED)).for_each(|line| println!("  {line}"));
            // What is left after a success is of no use; if it stays, the next run removes it.
            let _ = fs::remove_dir_all(dir);
            None
        }
        Err(error) if error.is::<Skipped>() => {
            tally.skipped += 1;
            println!("scenario {name} ... skipped: {error}");
            None
        }
        Err(error) => {
            let reason = format!("{error:#}");
            println!("scenario {name} ... FAILED ({seconds:.1} s)\n  {reason}");
            show_logs(&dir);
            Some(reason)
        }
    }
}

fn show_logs(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut logs: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    // What the scenario itself said stands above.
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.retain(|path| !path.ends_with("scenario.log"));
    logs.sort();
    println!("  logs in {}", dir.display());
    for log in logs {
        let text = process::read_lossy(&log);
        println!("  --- the end of {}", log.display());
        for line in process::tail(&text, TAIL_LINES).lines() {
            println!("  {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_said_is_cut_between_characters() {
        let mut tally = Tally::default();

        tally.fail("one", &"ß".repeat(2 * REASON_MAX));

        assert_eq!(tally.failed, 1);
        assert_eq!(tally.remarks, [format!("one FAILED: {}", "ß".repeat(REASON_MAX))]);
    }

    #[test]
    fn no_two_scenarios_have_one_name() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), count);
    }
}

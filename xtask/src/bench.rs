//! `cargo xtask bench`: processor time per registration and per call, Tandem beside Kamailio.
//!
//! Both servers serve the same load in turn, several times in one run, on one core, with the load
//! on another. What counts is the processor time of the server's processes, kernel included, so
//! neither the speed of the load nor idle time has a part in it.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};

use crate::packages::{self, Consent};
use crate::{lab, process, workspace};

mod contestant;
mod cpu_time;
mod load;
mod report;

use contestant::{Contestant, Kind};
use load::Work;
use report::{Measurement, Series};

/// How often each server does each work.
const REPEATS: usize = 5;

/// Builds the server, and measures in namespaces of its own.
pub fn run(consent: Consent) -> Result<ExitCode> {
    packages::ensure_installed(packages::FOR_BENCH, &[], consent)?;
    let cores = std::thread::available_parallelism()?.get();
    ensure!(cores >= 2, "this needs two cores, one for the server and one for the load");
    process::loudly(&mut workspace::cargo(&["build", "--release", "-p", "tandem"]))?;
    let binary = workspace::target().join("release/tandem");
    let dir = workspace::target().join("bench");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    let mut command = lab::alone();
    command.arg(std::env::current_exe()?).arg("bench-here").arg(&dir).arg(&binary);
    process::loudly(&mut command)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures; the process is alone in its namespaces.
pub fn run_here(dir: &Path, binary: &Path) -> Result<ExitCode> {
    ensure!(std::process::id() == 1, "a benchmark must be the first process of its namespaces");
    prepare()?;
    let mut series: Vec<Series> = Vec::new();
    for work in Work::ALL {
        for kind in Kind::ALL {
            series.push(Series { work, kind, measurements: Vec::new() });
        }
    }
    for repeat in 1..=REPEATS {
        for one in &mut series {
            let measurement = measure(one.kind, one.work, dir, binary)
                .with_context(|| format!("{} with {}", one.work.name(), one.kind.name()))?;
            println!(
                "{repeat} of {REPEATS}: {}, {}: {:.1} µs",
                one.work.name(),
                one.kind.name(),
                measurement.microseconds
            );
            one.measurements.push(measurement);
        }
    }
    let page = report::page(&series, binary)?;
    let place = workspace::root().join("bench/RESULTS.md");
    fs::write(&place, &page).with_context(|| place.display().to_string())?;
    println!("\n{page}\nwritten to {}", place.display());
    Ok(ExitCode::SUCCESS)
}

fn prepare() -> Result<()> {
    for line in [
        "mount -t tmpfs tmpfs /run",
        "ip link set lo up",
        "ip addr add 10.0.0.1/32 dev lo",
        "ip addr add 10.0.0.2/32 dev lo",
    ] {
        let mut words = line.split(' ');
        let Some(program) = words.next() else { bail!("an empty command") };
        process::quietly(Command::new(program).args(words))?;
    }
    Ok(())
}

fn measure(kind: Kind, work: Work, dir: &Path, binary: &Path) -> Result<Measurement> {
    let contestant = Contestant::start(kind, dir, binary)?;
    work.prepare(dir)?;
    let before = cpu_time::of_tree(contestant.id())?;
    let done = work.run(dir)?;
    let after = cpu_time::of_tree(contestant.id())?;
    contestant.stop()?;
    let used = after.checked_sub(before).context("the server was restarted")?;
    Ok(Measurement { microseconds: used.as_secs_f64() * 1e6 / done as f64 })
}

//! The long simulations, in pieces, so that they can be stopped and go on: the world of one node, that of a pair, and talk.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::{checked, process, workspace};

/// How many seeds make a soak.
const SEEDS: u64 = 100_000;
/// How many are run before the progress is written down.
const SEEDS_AT_ONCE: u64 = 500;

/// Which world is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// One node, its phones and the world around them.
    Single,
    /// Two nodes and a witness.
    Pair,
    /// Two phones that talk through the media relay.
    Talk,
}

impl World {
    /// What the simulation's program is called with.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Single => &[],
            Self::Pair => &["--pair"],
            Self::Talk => &["--talk"],
        }
    }

    fn progress_file(self) -> PathBuf {
        let name = match self {
            Self::Single => "soak.txt",
            Self::Pair => "soak-pair.txt",
            Self::Talk => "soak-talk-worlds.txt",
        };
        workspace::target().join(name)
    }
}

/// Runs the seeds that are left. The first seed that fails ends it and is run again next time.
pub fn run(world: World) -> Result<ExitCode> {
    println!("The simulation with {SEEDS} seeds.");
    let place = world.progress_file();
    let mut next = read_progress(&fs::read_to_string(&place).unwrap_or_default());
    if next >= SEEDS {
        println!("{} says that all is done; remove it to begin again.", place.display());
        return Ok(ExitCode::SUCCESS);
    }
    checked::build()?;
    let start = Instant::now();
    let first = next;
    while next < SEEDS {
        let count = SEEDS_AT_ONCE.min(SEEDS - next);
        let (from, seeds) = (next.to_string(), count.to_string());
        let words = ["--start", &from, "--seeds", &seeds];
        let said = process::output(Command::new(checked::program("sim")).args(words).args(world.words()))
            .with_context(|| format!("one of the {count} seeds from {next} on failed"))?;
        next += count;
        fs::create_dir_all(workspace::target())?;
        fs::write(&place, format!("{next}\n{}\n", process::tail(&said, 60)))?;
        let rate = (next - first) as f64 / start.elapsed().as_secs_f64();
        let left = (SEEDS - next) as f64 / rate / 60.0;
        println!("{next} of {SEEDS} seeds passed, {rate:.0} a second, {left:.0} minutes left");
    }
    println!("all {SEEDS} seeds passed; the last report is in {}", place.display());
    Ok(ExitCode::SUCCESS)
}

/// The first line is the next seed; a file that says nothing begins again.
fn read_progress(text: &str) -> u64 {
    text.lines().next().and_then(|line| line.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_world_goes_on_where_it_was_itself() {
        for (one, other) in
            [(World::Single, World::Pair), (World::Pair, World::Talk), (World::Single, World::Talk)]
        {
            assert_ne!(one.progress_file(), other.progress_file());
            assert_ne!(one.words(), other.words());
        }
    }

    #[test]
    fn a_soak_goes_on_where_it_was_stopped() {
        assert_eq!(read_progress("1500\nlast report\n"), 1500);
        assert_eq!(read_progress(""), 0);
        assert_eq!(read_progress("broken"), 0);
    }
}

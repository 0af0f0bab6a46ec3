//! `cargo xtask soak`: what takes hours. Each part can be stopped, and goes on where it was.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

mod calls;
pub mod database;
pub mod fuzz;
pub mod internet;
pub mod lease;
pub mod long_talk;
pub mod pair;
mod talk;
mod trials;
mod worlds;

use calls::UnderCalls;
use talk::UnderTalk;
use worlds::World;

/// Runs the part that the words after `soak` name; without a word the simulated worlds.
pub fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        [] | ["worlds"] => worlds::run(World::Single),
        ["pair-worlds"] => worlds::run(World::Pair),
        ["talk-worlds"] => worlds::run(World::Talk),
        ["fuzz"] => fuzz::run(None),
        ["fuzz", "--at-once", count] => fuzz::run(Some(count.parse().context("--at-once is a number")?)),
        ["internet", options @ ..] => internet::run(&internet::Options::parse(options)?),
        ["lease"] => lease::run(),
        ["calls", options @ ..] => trials::run::<UnderCalls>(options),
        ["talk", options @ ..] => trials::run::<UnderTalk>(options),
        ["long-talk", options @ ..] => long_talk::run(options),
        ["database", options @ ..] => database::run(&database::Options::parse(options)?),
        ["pair", options @ ..] => pair::run(&pair::Options::parse(options)?),
        [unknown, ..] => {
            bail!(
                "{unknown} is no soak: worlds, pair-worlds, talk-worlds, internet, fuzz, lease, pair, calls, talk, long-talk, database"
            )
        }
    }
}

/// One life of a pair, in namespaces of its own.
pub fn run_trials_here(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["calls", rest @ ..] => trials::run_here::<UnderCalls>(rest),
        ["talk", rest @ ..] => trials::run_here::<UnderTalk>(rest),
        _ => bail!("no such soak"),
    }
}

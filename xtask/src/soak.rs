//! `cargo xtask soak`: what takes hours. Each part can be stopped, and goes on where it was.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

pub mod calls;
pub mod fuzz;
pub mod internet;
pub mod lease;
pub mod pair;
mod worlds;

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
        ["calls", options @ ..] => calls::run(&calls::Options::parse(options)?),
        ["pair", options @ ..] => pair::run(&pair::Options::parse(options)?),
        [unknown, ..] => {
            bail!(
                "{unknown} is no soak: worlds, pair-worlds, talk-worlds, internet, fuzz, lease, pair, calls"
            )
        }
    }
}

//! What is built with debug assertions and fast all the same: the simulations, their planted faults and the fuzz targets.
//!
//! All of it is one selection of packages and features, so that the crates below are compiled once.

use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Result, anyhow};

use crate::{process, workspace};

/// One selection for every command here: another one would compile the crates below anew.
const SELECTION: &[&str] =
    &["--profile", "checked", "-p", "fuzz", "-p", "sim", "-p", "replica", "--features", "sim/test-faults"];

/// Builds the programs.
pub fn build() -> Result<()> {
    process::loudly(&mut workspace::cargo(&[&["build"], SELECTION].concat()))
}

/// Where [`build`] puts one.
pub fn program(name: &str) -> PathBuf {
    workspace::target().join("checked").join(name)
}

/// Runs the simulation with `words`.
pub fn simulate(words: &[&str]) -> Result<()> {
    build()?;
    process::loudly(Command::new(program("sim")).args(words))
}

/// Every planted fault of the replica and of what joins it to calls and lease must be found.
///
/// A fault is planted in a whole process, so each has one thread; two processes share the tests.
pub fn planted_faults() -> Result<()> {
    let test = |words: &[&str]| workspace::cargo(&[&["test"], SELECTION, words].concat());
    process::loudly(&mut test(&["--no-run", "--test", "world", "--test", "planted"]))?;
    let alone = ["--", "--test-threads", "1", "--nocapture"];
    let some = &["--test", "planted"][..];
    let mut joins = test(&[some, &alone, &["who_joins"]].concat());
    let mut others = test(&[some, &alone, &["--skip", "who_joins"]].concat());
    let mut world = test(&["--test", "world", "--", "--test-threads", "1"]);
    thread::scope(|scope| {
        let other =
            scope.spawn(move || process::loudly(&mut others).and_then(|()| process::loudly(&mut world)));
        let first = process::loudly(&mut joins);
        other.join().map_err(|_| anyhow!("the thread of the other tests panicked"))?.and(first)
    })
}

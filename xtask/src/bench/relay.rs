//! `cargo xtask bench relay`: processor time for each RTP packet that is relayed, and the most sessions that one core bears, Tandem
//! beside rtpengine and a bare forwarder in C.
//!
//! What a relay costs is mostly the kernel's work, and half of that is done before a socket has the packet. So the cable to the
//! server has a thread of its own for what arrives ([`cable`]), and that thread's time counts too; else a relay inside the kernel
//! would look free.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::pair::load::others;
use crate::{process, workspace};

mod cable;
pub mod contestant;
mod ng;
mod node;
mod page;
mod talk;

use cable::Cable;
use contestant::{Contestant, Kind, SESSIONS_MAX};
pub use page::page;
use talk::{Heard, Programs};

/// Processor time is measured with so many sessions.
const SESSIONS: [usize; 3] = [200, 400, 800];
/// A step on the way to the most sessions, and how near it is come to.
const STEP: f64 = 1.25;
const NEAR: f64 = 0.04;
/// So often a number of sessions is tried before it counts as too many: whoever else works on this machine may have been in the way.
const TRIES: usize = 3;

/// Builds the programs in C.
pub fn build(dir: &Path) -> Result<()> {
    for (program, source) in [("media_load", "media_load.c"), ("relay", "relay.c")] {
        let source = workspace::root().join("bench/floor").join(source);
        let mut command = Command::new("cc");
        process::loudly(command.args(["-O2", "-Wall", "-o"]).arg(dir.join(program)).arg(source))?;
    }
    Ok(())
}

/// Measures one contestant; the process has a mount and a network namespace of its own. `dir` lies where [`build`] was told to build.
pub fn measure(kind: Kind, dir: &Path, binary: &Path) -> Result<Value> {
    let built = dir.parent().context("a folder in that of the bench")?;
    let programs = Programs {
        talk: built.join("media_load"),
        floor: built.join("relay"),
        tandem: binary.to_path_buf(),
        dir: dir.to_path_buf(),
    };
    let busy = others()?;
    let cable = Cable::new()?;
    let mut contestant = Contestant::start(kind, &cable, &programs)?;
    let mut figures = Map::new();
    figures.insert("busy".to_owned(), json!(busy));
    let mut fits = 0;
    for sessions in SESSIONS {
        let heard = bears(&mut contestant, &cable, &programs, sessions)?;
        for (name, value) in [
            ("us", heard.microseconds()),
            ("receive_us", heard.receive_microseconds()),
            ("median_us", heard.median_us),
            ("p99_us", heard.p99_us),
            ("lost_per_mille", heard.lost_per_mille()),
        ] {
            figures.insert(format!("{name}_{sessions}"), json!(value));
        }
        if heard.is_good() {
            fits = sessions;
        }
    }
    let most = most(fits, |sessions| Ok(bears(&mut contestant, &cable, &programs, sessions)?.is_good()))?;
    figures.insert("most".to_owned(), json!(most));
    contestant.stop()?;
    Ok(Value::Object(figures))
}

/// The best of some tries; the first good one is good enough.
fn bears(contestant: &mut Contestant, cable: &Cable, programs: &Programs, sessions: usize) -> Result<Heard> {
    contestant.grow(sessions)?;
    let table = contestant.table(sessions);
    let mut best: Option<Heard> = None;
    for _ in 0..TRIES {
        let heard = talk::talk(cable, contestant, programs, &table)?;
        let in_kernel = contestant.in_kernel()?;
        let told = in_kernel.map(|it| format!(", {it} directions in the kernel")).unwrap_or_default();
        println!("  {sessions} sessions: {heard}{told}");
        let is_whole = in_kernel.is_none_or(|directions| directions >= 2 * sessions as u64);
        ensure!(is_whole, "the kernel has {in_kernel:?} directions of {sessions} sessions");
        if heard.is_good() {
            return Ok(heard);
        }
        if best.as_ref().is_none_or(|best| heard.lost_per_mille() < best.lost_per_mille()) {
            best = Some(heard);
        }
    }
    best.context("no try was made")
}

/// The most sessions that are borne, from a number that is.
fn most(fits: usize, mut is_borne: impl FnMut(usize) -> Result<bool>) -> Result<usize> {
    ensure!(fits > 0, "it does not even bear {} sessions", SESSIONS[0]);
    let (mut fits, mut fails) = (fits, None);
    loop {
        let next = match fails {
            None => ((fits as f64 * STEP) as usize).min(SESSIONS_MAX),
            Some(fails) => fits.midpoint(fails),
        };
        let is_near = fails.is_some_and(|fails: usize| (fails - fits) as f64 <= fits as f64 * NEAR);
        if fits == SESSIONS_MAX || is_near {
            return Ok(fits);
        }
        if is_borne(next)? {
            fits = next;
        } else {
            fails = Some(next);
        }
    }
}

/// The start of a command line that puts what follows into a mount and a network namespace of its own. Processes are shared with the
/// machine: the kernel's threads, whose time counts, are seen from nowhere else.
pub fn beside_kernel_threads() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net"]);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// A file of a contestant.
fn write(programs: &Programs, name: &str, text: &str) -> Result<PathBuf> {
    let path = programs.dir.join(name);
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_sessions_are_found_nearly() {
        let found = most(200, |sessions| Ok(sessions <= 1234)).expect("found");

        assert!((1186..=1234).contains(&found), "{found}");
        assert_eq!(most(800, |_| Ok(true)).expect("found"), SESSIONS_MAX);
        assert!(most(0, |_| Ok(true)).is_err());
    }
}

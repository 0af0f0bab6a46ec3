//! `tandem demo`: a pair, a witness and phones inside one machine, and what happens to them when something breaks.
//!
//! Everything is real but the distance: the nodes are this very program as guardian and engine, each on a host that is a
//! network namespace, and the phones speak SIP by the switch between them. The process that shows it leaves the machine's
//! own networks and mounts first ([`host::lab`]), also without root. So nothing has to be removed: what it started dies with
//! it, and the rest with the last of them.

mod deed;
mod home_router;
mod ink;
mod node;
mod picture;
mod refusal;
mod screen;
mod stage;
mod takeover;
mod town;
mod viewer;
mod watch;

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::{Result, bail};
use host::Signals;
use host::lab::seclude;

use screen::Screen;
use stage::{Over, Stage};
use viewer::Viewer;

/// Where all files are: in memory, seen by nobody else, gone at the end.
const PLACE: &str = "/run";

/// What whoever watches has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// To press keys.
    ByKeys,
    /// Nothing.
    ByItself,
}

/// Shows it until its end, or until somebody has seen enough.
pub fn demo(course: Course) -> Result<()> {
    // Before the first thread: each has the mask of the one that started it.
    let signals = Signals::take()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let is_root = rustix::process::geteuid().is_root();
    seclude(Path::new(PLACE)).map_err(|refusal| refusal::explained(&refusal, is_root))?;
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    let viewer = if is_terminal {
        Viewer::Picture { screen: Screen::take()?, said: Vec::new() }
    } else {
        Viewer::Lines
    };
    let mut stage = Stage::build(Path::new(PLACE), viewer, signals)?;
    let played = stage.begin().and_then(|()| match course {
        Course::ByKeys if is_terminal => stage.play_by_keys(),
        Course::ByKeys | Course::ByItself => stage.play_all(),
    });
    // The terminal is as before when they are printed: what was seen stays to be read.
    Viewer::Lines.say(stage.end());
    outcome(played, is_terminal)
}

/// Who watches may have seen enough; who reads its end may not be told that all went well.
fn outcome(played: Result<(), Over>, is_watched: bool) -> Result<()> {
    match played {
        Ok(()) => Ok(()),
        Err(Over::Quit) if is_watched => Ok(()),
        Err(Over::Quit) => bail!("the demo was ended before all had happened"),
        Err(Over::Failed(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_that_is_broken_off_has_succeeded_only_for_who_watches() {
        assert!(outcome(Err(Over::Quit), true).is_ok());
        assert!(outcome(Err(Over::Quit), false).is_err());
        assert!(outcome(Ok(()), false).is_ok());
    }
}

//! What a drill does to the node that is active.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::parse_duration;

/// How long something stands still if nobody says so: longer than the lease, shorter than what a supervisor waits for.
const FREEZE: Duration = Duration::from_secs(2);

/// How long a link is cut if nobody says so.
const CUT: Duration = Duration::from_secs(5);

/// Longer is no drill: a supervisor has acted before, and calls run into their own limits.
const TIME_MAX: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The service is handed over, as planned.
    Switchover,
    /// kill -9 of the engine.
    KillEngine,
    /// kill -9 of guardian and engine.
    KillNode,
    /// The engine stands still for a time.
    FreezeEngine(Duration),
    /// Guardian and engine stand still for a time.
    FreezeNode(Duration),
    /// No frame passes the interface of the service for a time.
    CutLink(Duration),
}

impl Fault {
    /// What is done to this node.
    pub fn title(self, node: &str) -> String {
        match self {
            Self::Switchover => format!("a planned switchover from {node}"),
            Self::KillEngine => format!("kill -9 of the engine of {node}"),
            Self::KillNode => format!("kill -9 of guardian and engine of {node}"),
            Self::FreezeEngine(time) => format!("the engine of {node} stands still for {time:?}"),
            Self::FreezeNode(time) => format!("guardian and engine of {node} stand still for {time:?}"),
            Self::CutLink(time) => format!("no frame passes the service's interface of {node} for {time:?}"),
        }
    }

    /// How it is undone.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Switchover => "nothing is broken by it",
            Self::KillEngine => "the guardian starts another one by itself",
            Self::KillNode => "its supervisor starts it again, or the command of --restart",
            Self::FreezeEngine(_) | Self::FreezeNode(_) => {
                "they go on when the time is over or the drill ends, if nobody has replaced them before"
            }
            Self::CutLink(_) => "the kernel itself ends it when the time is over",
        }
    }

    /// For how long it lasts by itself.
    pub fn time(self) -> Duration {
        match self {
            Self::Switchover | Self::KillEngine | Self::KillNode => Duration::ZERO,
            Self::FreezeEngine(time) | Self::FreezeNode(time) | Self::CutLink(time) => time,
        }
    }

    /// Whether it takes a hand on the node that it is done to.
    pub fn needs_hand(self) -> bool {
        self != Self::Switchover
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switchover => formatter.write_str("switchover"),
            Self::KillEngine => formatter.write_str("kill-engine"),
            Self::KillNode => formatter.write_str("kill-node"),
            Self::FreezeEngine(time) => write!(formatter, "freeze-engine={time:?}"),
            Self::FreezeNode(time) => write!(formatter, "freeze-node={time:?}"),
            Self::CutLink(time) => write!(formatter, "cut-link={time:?}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, time) = match text.split_once('=') {
            None => (text, None),
            Some((name, time)) => {
                let read = parse_duration(time).filter(|time| !time.is_zero() && *time <= TIME_MAX);
                let seconds = TIME_MAX.as_secs();
                let wrong = || format!("`{time}` is no time up to {seconds}s: write 2s or 500ms");
                (name, Some(read.ok_or_else(wrong)?))
            }
        };
        match (name, time) {
            ("switchover", None) => Ok(Self::Switchover),
            ("kill-engine", None) => Ok(Self::KillEngine),
            ("kill-node", None) => Ok(Self::KillNode),
            ("freeze-engine", time) => Ok(Self::FreezeEngine(time.unwrap_or(FREEZE))),
            ("freeze-node", time) => Ok(Self::FreezeNode(time.unwrap_or(FREEZE))),
            ("cut-link", time) => Ok(Self::CutLink(time.unwrap_or(CUT))),
            ("switchover" | "kill-engine" | "kill-node", Some(_)) => Err(format!("{name} has no time")),
            _ => Err("the faults are switchover, kill-engine, kill-node, freeze-engine[=TIME], freeze-node[=TIME] and \
                      cut-link[=TIME]"
                .to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_by_its_name_and_its_time_is_bounded() {
        let read = |text: &str| text.parse::<Fault>();

        assert_eq!(read("freeze-engine=500ms"), Ok(Fault::FreezeEngine(Duration::from_millis(500))));
        assert_eq!(read("cut-link"), Ok(Fault::CutLink(CUT)));
        for text in ["switchover", "kill-engine", "kill-node", "freeze-node=2s"] {
            assert_eq!(read(text).map(|fault| fault.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["cut-link=61s", "cut-link=0s", "cut-link=x", "kill-engine=2s", "pull"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

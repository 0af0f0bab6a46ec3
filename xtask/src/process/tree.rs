//! A process and its descendants, as `/proc` shows them.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

/// A process that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    parent: u32,
    /// `utime` and `stime`, in ticks.
    pub ticks: u64,
}

/// A process and all below it, with the root first.
pub fn of(root: u32) -> Result<BTreeMap<u32, Process>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        all.insert(id, read_stat(&text).with_context(|| format!("/proc/{id}/stat: {text}"))?);
    }
    let below: Vec<u32> = all.keys().copied().filter(|id| is_below(*id, root, &all)).collect();
    all.retain(|id, _| below.contains(id));
    Ok(all)
}

/// The direct children of a process.
pub fn children(parent: u32) -> Result<Vec<u32>> {
    Ok(of(parent)?.iter().filter(|(_, process)| process.parent == parent).map(|(id, _)| *id).collect())
}

/// Sends a signal to all of them, parents before children, so that none is missed by starting another.
pub fn signal(ids: impl IntoIterator<Item = u32>, signal: Signal) -> Result<()> {
    for id in ids {
        let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else { continue };
        match kill_process(pid, signal) {
            // It has ended with its parent.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error).context("a signal was refused"),
        }
    }
    Ok(())
}

/// Whether a process runs: one that has ended and whose end nobody has asked for yet does not.
pub fn is_alive(id: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Reads `/proc/ID/stat`. The name in brackets may have spaces and brackets in it.
fn read_stat(text: &str) -> Option<Process> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let user: u64 = fields.nth(9)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Process { parent, ticks: user + system })
}

fn is_below(mut id: u32, root: u32, all: &BTreeMap<u32, Process>) -> bool {
    while id != root {
        match all.get(&id) {
            Some(process) if process.parent != 0 => id = process.parent,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1 2 3";

    #[test]
    fn parent_and_times_are_found_behind_a_strange_name() {
        assert_eq!(read_stat(STAT), Some(Process { parent: 7, ticks: 200 }));
    }

    #[test]
    fn only_descendants_are_below() {
        let process = |parent| Process { parent, ticks: 0 };
        let all = BTreeMap::from([(1, process(0)), (5, process(1)), (6, process(5)), (7, process(1))]);

        let below: Vec<u32> = all.keys().copied().filter(|id| is_below(*id, 5, &all)).collect();

        assert_eq!(below, [5, 6]);
    }
}

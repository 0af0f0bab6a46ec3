//! What was done to a node, and how it is undone.

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cut;
use crate::control::client::Client;
use crate::drill::fault::Fault;
use crate::guardian::view::ClusterView;

/// How long a supervisor has for a node that was killed, before it is told to start it.
const SUPERVISOR_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the node may take after that.
const START_TIME_MAX: Duration = Duration::from_secs(20);

/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// All that was done and is not undone.
#[derive(Debug, Default)]
pub struct Wounds {
    frozen: Vec<Frozen>,
    killed: Option<Restart>,
    is_cut: bool,
}

/// Processes that stand still.
#[derive(Debug)]
struct Frozen {
    processes: Vec<OwnedFd>,
    until: Instant,
}

/// How a node is started that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// By systemd, which does so by itself.
    Unit(String),
    /// By a command of the operator.
    Command(String),
}

impl Wounds {
    /// Does something to this node. Whatever is to be undone is written down before it is done.
    pub fn hurt(
        &mut self,
        now: Instant,
        fault: Fault,
        view: &ClusterView,
        restart: Result<Restart, String>,
    ) -> Result<()> {
        match fault {
            Fault::Switchover => bail!("a switchover hurts nobody"),
            Fault::KillEngine => Ok(pidfd_send_signal(engine(view)?, Signal::KILL)?),
            Fault::KillNode => {
                let (guardian, engine) = (guardian(view)?, engine(view)?);
                self.killed = Some(restart.map_err(|why| anyhow!(why))?);
                pidfd_send_signal(guardian, Signal::KILL)?;
                // It dies with its guardian, and may have done so.
                let _ = pidfd_send_signal(engine, Signal::KILL);
                Ok(())
            }
            Fault::FreezeEngine(time) => self.freeze(now, vec![engine(view)?], time),
            Fault::FreezeNode(time) => self.freeze(now, vec![guardian(view)?, engine(view)?], time),
            Fault::CutLink(time) => {
                let interface = view.interface.as_deref().context("the guardian tells no interface")?;
                self.is_cut = true;
                cut::cut(interface, time)
            }
        }
    }

    fn freeze(&mut self, now: Instant, processes: Vec<OwnedFd>, time: Duration) -> Result<()> {
        self.frozen.push(Frozen { processes, until: now + time });
        for process in self.frozen.iter().flat_map(|frozen| &frozen.processes) {
            pidfd_send_signal(process, Signal::STOP)?;
        }
        Ok(())
    }

    /// Lets those go on whose time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.frozen.retain(|frozen| {
            let is_over = now >= frozen.until;
            if is_over {
                frozen.thaw();
            }
            !is_over
        });
    }

    /// Undoes everything. `guardian` is where the node's guardian answers when it is there.
    pub fn heal(&mut self, guardian: &Path) -> Result<()> {
        for frozen in self.frozen.drain(..) {
            frozen.thaw();
        }
        let mended = if std::mem::take(&mut self.is_cut) { cut::mend() } else { Ok(()) };
        let started = match self.killed.take() {
            Some(restart) => restart.see_to_it(guardian),
            None => Ok(()),
        };
        mended.and(started)
    }
}

impl Frozen {
    fn thaw(&self) {
        for process in &self.processes {
            // One that its guardian has killed meanwhile needs nothing.
            let _ = pidfd_send_signal(process, Signal::CONT);
        }
    }
}

impl Restart {
    /// By who has started this guardian, if that one starts it again.
    pub fn by_supervisor(guardian: u32) -> Result<Self, String> {
        let mend = "name a command that starts it: --restart COMMAND";
        let groups = fs::read_to_string(format!("/proc/{guardian}/cgroup")).unwrap_or_default();
        let unit = unit_of(&groups).ok_or_else(|| format!("it is not a service of systemd; {mend}"))?;
        let shown = Command::new("systemctl").args(["show", "-p", "Restart", "--value", &unit]).output();
        let shown = shown.map_err(|error| format!("systemctl can not be asked: {error}; {mend}"))?;
        let rule = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
        match rule.as_str() {
            "always" | "on-failure" | "on-abnormal" | "on-abort" => Ok(Self::Unit(unit)),
            other => Err(format!("{unit} has Restart={other}, so that nobody would start it again; {mend}")),
        }
    }

    fn see_to_it(&self, guardian: &Path) -> Result<()> {
        match self {
            Self::Unit(unit) => {
                if is_up(guardian, SUPERVISOR_TIME_MAX) {
                    return Ok(());
                }
                let status = Command::new("systemctl").args(["start", unit]).status()?;
                ensure!(status.success(), "`systemctl start {unit}` ended with {status}");
            }
            Self::Command(command) => {
                let mut shell = Command::new("/bin/sh");
                host::unblock_signals(&mut shell);
                // What it starts is to outlive this process and its terminal.
                shell.args(["-c", command]).process_group(0);
                shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                shell.spawn().with_context(|| format!("`{command}` can not be run"))?;
            }
        }
        ensure!(
            is_up(guardian, START_TIME_MAX),
            "{self} was done, and the guardian does not answer: START IT BY HAND"
        );
        Ok(())
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(formatter, "systemd ({unit})"),
            Self::Command(command) => write!(formatter, "`{command}`"),
        }
    }
}

fn is_up(guardian: &Path, limit: Duration) -> bool {
    let begin = Instant::now();
    loop {
        if matches!(Client::open_within(guardian, LOOK_AGAIN), Ok(Some(_))) {
            return true;
        }
        if begin.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The service that a process belongs to.
fn unit_of(groups: &str) -> Option<String> {
    let parts = groups.lines().filter_map(|line| line.rsplit('/').next());
    parts.into_iter().find(|part| part.ends_with(".service")).map(str::to_owned)
}

fn guardian(view: &ClusterView) -> Result<OwnedFd> {
    process(view.pid).context("its guardian")
}

/// The engine, which must be the guardian's child: a number may mean another process by now.
fn engine(view: &ClusterView) -> Result<OwnedFd> {
    let pid = view.engine.pid.context("it has no engine now")?;
    let engine = process(pid).context("its engine")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
    ensure!(parent == Some(view.pid), "process {pid} is not the engine of guardian {}", view.pid);
    Ok(engine)
}

fn process(pid: u32) -> Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("has no number")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guardian::view::EngineView;

    #[test]
    fn the_service_of_a_process_is_found_in_its_groups() {
        assert_eq!(unit_of("0::/system.slice/tandem.service\n").as_deref(), Some("tandem.service"));
        assert_eq!(unit_of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }

    #[test]
    fn what_stands_still_goes_on_when_its_time_is_over_or_all_is_healed() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("it is there");
        let view = ClusterView {
            pid: std::process::id(),
            engine: EngineView { pid: Some(child.id()), ..EngineView::default() },
            ..ClusterView::default()
        };
        let (now, time) = (Instant::now(), Duration::from_secs(5));
        let mut wounds = Wounds::default();
        let none = || Err(String::new());

        wounds.hurt(now, Fault::FreezeEngine(time), &view, none()).expect("it may");
        await_state(child.id(), 'T');
        wounds.handle_timeout(now + time / 2);
        assert_eq!(wounds.frozen.len(), 1, "its time is not over");
        wounds.handle_timeout(now + time);
        await_state(child.id(), 'S');
        wounds.hurt(now, Fault::FreezeEngine(time), &view, none()).expect("it may");
        await_state(child.id(), 'T');
        wounds.heal(Path::new("/nowhere")).expect("it can be undone");
        await_state(child.id(), 'S');

        let stranger = ClusterView { pid: 1, ..view.clone() };
        assert!(wounds.hurt(now, Fault::KillEngine, &stranger, none()).is_err(), "it is not its child");
        wounds.hurt(now, Fault::KillEngine, &view, none()).expect("it may");
        assert!(!child.wait().expect("it is ours").success());
    }

    #[test]
    fn a_node_that_nobody_would_start_again_is_not_killed() {
        let mut child = Command::new("sleep").arg("600").spawn().expect("it is there");
        let view = ClusterView {
            pid: std::process::id(),
            engine: EngineView { pid: Some(child.id()), ..EngineView::default() },
            ..ClusterView::default()
        };

        let killed = Wounds::default().hurt(Instant::now(), Fault::KillNode, &view, Err("no".to_owned()));

        assert!(killed.is_err());
        child.kill().expect("it lives");
        child.wait().expect("it is ours");
    }

    /// Waits until the kernel says so.
    fn await_state(pid: u32, wanted: char) {
        let begin = Instant::now();
        loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if state == Some(wanted) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{state:?} and not {wanted}");
            std::thread::yield_now();
        }
    }
}

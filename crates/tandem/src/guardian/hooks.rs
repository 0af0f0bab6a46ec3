//! The operator's commands at a change of role: run one at a time, in order, on a thread of their own.
//!
//! The guardian's thread only puts an event into a queue. An `active` or `standby` that has not begun when the next one
//! comes is left out: what counts is what the node is, and a slow hook must not run through a past that is over. A fault is
//! never left out for a change of role. Each has a limit of time, after which it is killed with all that it has started.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::errand::{Ending, Errand};
use super::halt::Halt;
use super::inbox::{Inward, Sender};
use crate::config::cluster::Hooks as Commands;
use crate::outbox::{self, Outbox, Taking};

/// Events on the way to the thread: a node that changes its role so often while one hook runs has other worries.
const SENT_MAX: usize = 64;

/// Events that wait for their turn: one change of role, and some faults.
const WAITING_MAX: usize = 8;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// This node has become active.
    Active,
    /// It is active no more, or has started.
    Standby,
    /// Something is wrong with it.
    Fault,
}

impl Occasion {
    /// As `TANDEM_EVENT` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Fault => "fault",
        }
    }
}

/// An occasion with what a hook is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What has happened.
    pub occasion: Occasion,
    /// Under which epoch.
    pub epoch: u64,
    /// Why.
    pub reason: String,
}

/// How the last run of a hook ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookResult {
    /// Which hook.
    pub occasion: Occasion,
    /// What went wrong; `Ok`: nothing.
    pub result: Result<(), String>,
}

/// What the hooks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The commands.
    pub commands: Commands,
    /// The limit of each run.
    pub limit: Duration,
    /// This node's name.
    pub node: String,
    /// Where the virtual addresses are.
    pub interface: Option<String>,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
}

/// The thread that runs hooks, as it is told of events.
#[derive(Debug)]
pub struct Hooks {
    events: Outbox<Event>,
    halt: Arc<Halt>,
    thread: JoinHandle<()>,
}

impl Hooks {
    /// Starts the thread; how a hook ended is told to the inbox.
    pub fn start(plan: Plan, inbox: Sender) -> io::Result<Self> {
        let halt = Arc::new(Halt::default());
        let runner = Runner { plan, inbox, halt: Arc::clone(&halt) };
        let (events, thread) = outbox::start("hooks", SENT_MAX, move |told| runner.run(&told))?;
        Ok(Self { events, halt, thread })
    }

    /// Hooks that are played: whoever hears an event runs nothing.
    #[cfg(test)]
    pub fn play(mut hear: impl FnMut(Event) + Send + 'static) -> Self {
        let run = move |told: Taking<Event>| std::iter::from_fn(|| told.next().ok()).for_each(&mut hear);
        let (events, thread) = outbox::start("hooks", SENT_MAX, run).expect("a thread can be started");
        Self { events, halt: Arc::default(), thread }
    }

    /// Something has happened. It never waits.
    pub fn tell(&self, event: Event) {
        if self.events.give(event).is_err() {
            tracing::error!("a hook is left out: too many wait");
        }
    }

    /// Runs what waits, each within its limit, and ends.
    pub fn finish(self) {
        drop(self.events);
        // One that panicked runs nothing any more.
        let _ = self.thread.join();
    }

    /// Ends without running what waits; what runs is killed.
    pub fn abandon(self) {
        self.halt.set();
        self.finish();
    }
}

struct Runner {
    plan: Plan,
    inbox: Sender,
    halt: Arc<Halt>,
}

impl Runner {
    fn run(&self, told: &Taking<Event>) {
        let mut waiting = Waiting::default();
        let mut is_open = true;
        while !self.halt.is_set() {
            match told.next_now() {
                Ok(Some(event)) => {
                    waiting.push(event);
                    continue;
                }
                Ok(None) => {}
                Err(outbox::Ended) => is_open = false,
            }
            if let Some(event) = waiting.pop() {
                self.serve(&event);
            } else if !is_open {
                return;
            } else if let Ok(event) = told.next() {
                waiting.push(event);
            }
        }
    }

    fn serve(&self, event: &Event) {
        let occasion = event.occasion;
        let command = match occasion {
            Occasion::Active => &self.plan.commands.on_active,
            Occasion::Standby => &self.plan.commands.on_standby,
            Occasion::Fault => &self.plan.commands.on_fault,
        };
        if command.is_empty() {
            return;
        }
        let environment = self.plan.environment(event);
        let outcome = Errand { command, environment: &environment, limit: self.plan.limit }.run(&self.halt);
        let took_ms = outcome.took.as_millis();
        let result = match outcome.is_success() {
            true => {
                tracing::info!(event = occasion.name(), epoch = event.epoch, took_ms, "a hook has run");
                Ok(())
            }
            false => {
                tracing::error!(event = occasion.name(), epoch = event.epoch, took_ms, %outcome, "a hook has failed");
                Err(outcome.to_string())
            }
        };
        if outcome.ending != Ending::GivenUp {
            let result = HookResult { occasion, result };
            // Without a guardian nobody asks for its result.
            let _ = self.inbox.send(Inward::Hook(result));
        }
    }
}

impl Plan {
    fn environment(&self, event: &Event) -> [(&'static str, String); 7] {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        [
            ("TANDEM_EVENT", event.occasion.name().to_owned()),
            ("TANDEM_SERVICE", "0".to_owned()),
            ("TANDEM_EPOCH", event.epoch.to_string()),
            ("TANDEM_REASON", event.reason.replace('\0', " ")),
            ("TANDEM_ADDRESSES", addresses.join(" ")),
            ("TANDEM_INTERFACE", self.interface.clone().unwrap_or_default()),
            ("TANDEM_NODE", self.node.clone()),
        ]
    }
}

/// Events that have not begun.
#[derive(Debug, Default)]
struct Waiting(VecDeque<Event>);

impl Waiting {
    fn push(&mut self, event: Event) {
        if event.occasion != Occasion::Fault {
            self.0.retain(|other| other.occasion == Occasion::Fault);
        }
        // Of many faults the later ones say what the first did.
        if self.0.len() < WAITING_MAX || event.occasion != Occasion::Fault {
            self.0.push_back(event);
        }
    }

    fn pop(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::super::inbox::{Inbox, inbox};
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_hook_is_told_what_has_happened_and_how_it_ended_is_told() {
        let place = tempfile::tempdir().expect("a place");
        let script =
            format!("env | grep TANDEM | sort > {}/told; echo bad luck; exit 7", place.path().display());
        let (hooks, inbox) = started(&script, LONG);

        hooks.tell(event(Occasion::Active, 4));
        let result = next(&inbox);
        hooks.finish();

        assert_eq!(result.occasion, Occasion::Active);
        assert_eq!(result.result, Err("status 7: bad luck".to_owned()));
        assert_eq!(
            read(&place.path().join("told")),
            "TANDEM_ADDRESSES=192.0.2.9 2001:db8::9\nTANDEM_EPOCH=4\nTANDEM_EVENT=active\nTANDEM_INTERFACE=eth0\n\
             TANDEM_NODE=a\nTANDEM_REASON=the peer is silent\nTANDEM_SERVICE=0\n"
        );
    }

    #[test]
    fn while_one_runs_only_the_last_change_of_role_waits_and_every_fault() {
        let place = tempfile::tempdir().expect("a place");
        let (begun, log) = (place.path().join("begun"), place.path().join("log"));
        // The first one tells that it has begun, and goes on when it may.
        let script = format!(
            "echo $TANDEM_EVENT $TANDEM_EPOCH >> {log}; if [ $TANDEM_EPOCH = 1 ]; then mkfifo {go}; : > {begun}; read x < {go}; fi",
            log = log.display(),
            begun = begun.display(),
            go = place.path().join("go").display(),
        );
        let (hooks, inbox) = started(&script, LONG);
        hooks.tell(event(Occasion::Active, 1));
        while !begun.exists() {
            std::thread::yield_now();
        }
        for (occasion, epoch) in
            [(Occasion::Standby, 2), (Occasion::Fault, 3), (Occasion::Active, 4), (Occasion::Standby, 5)]
        {
            hooks.tell(event(occasion, epoch));
        }
        std::fs::write(place.path().join("go"), "go\n").expect("it is read");
        hooks.finish();

        assert_eq!(read(&log), "active 1\nfault 3\nstandby 5\n");
        assert!(next(&inbox).result.is_ok());
    }

    #[test]
    fn one_that_is_late_is_killed_and_the_next_one_runs() {
        let script = "if [ $TANDEM_EVENT = active ]; then sleep 600; fi";
        let (hooks, inbox) = started(script, Duration::from_millis(100));

        hooks.tell(event(Occasion::Active, 1));
        let late = next(&inbox);
        hooks.tell(event(Occasion::Standby, 1));
        let next = next(&inbox);
        hooks.finish();

        assert!(late.result.is_err_and(|reason| reason.contains("not done within 100ms")));
        assert_eq!((next.occasion, next.result), (Occasion::Standby, Ok(())));
    }

    #[test]
    fn an_abandoned_hook_is_killed_and_what_waits_is_not_run() {
        let place = tempfile::tempdir().expect("a place");
        let (begun, log) = (place.path().join("begun"), place.path().join("log"));
        let script = format!("echo $TANDEM_EPOCH >> {}; : > {}; sleep 600", log.display(), begun.display());
        let (hooks, inbox) = started(&script, LONG);
        hooks.tell(event(Occasion::Active, 1));
        hooks.tell(event(Occasion::Fault, 2));
        while !begun.exists() {
            std::thread::yield_now();
        }

        hooks.abandon();

        assert_eq!(read(&log), "1\n");
        let mut taken = Vec::new();
        inbox.take(1, &mut taken);
        assert!(taken.is_empty(), "neither its limit nor its end was waited for: {taken:?}");
    }

    #[test]
    fn many_faults_leave_room_for_a_change_of_role() {
        let mut waiting = Waiting::default();
        for epoch in 0..100 {
            waiting.push(event(Occasion::Fault, epoch));
        }
        waiting.push(event(Occasion::Standby, 100));

        assert_eq!(waiting.0.len(), WAITING_MAX + 1);
        assert_eq!(waiting.0.back().map(|event| event.occasion), Some(Occasion::Standby));
    }

    fn started(script: &str, limit: Duration) -> (Hooks, Inbox) {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let plan = Plan {
            commands: Commands { on_active: command.clone(), on_standby: command.clone(), on_fault: command },
            limit,
            node: "a".to_owned(),
            interface: Some("eth0".to_owned()),
            addresses: ["192.0.2.9", "2001:db8::9"].map(|text| text.parse().expect("an address")).to_vec(),
        };
        let (sender, inbox) = inbox().expect("a descriptor is left");
        (Hooks::start(plan, sender).expect("it starts"), inbox)
    }

    fn event(occasion: Occasion, epoch: u64) -> Event {
        Event { occasion, epoch, reason: "the peer is silent".to_owned() }
    }

    fn next(inbox: &Inbox) -> HookResult {
        let mut taken = Vec::new();
        while taken.is_empty() {
            ::host::wait_readable(&[inbox.as_fd()], LONG).expect("it waits");
            inbox.take(1, &mut taken);
        }
        match taken.pop() {
            Some(Inward::Hook(result)) => result,
            other => unreachable!("hooks do not say {other:?}"),
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("it was written")
    }
}

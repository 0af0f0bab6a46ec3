//! The health checks: each on a thread of its own, which may block, and tells the guardian's inbox what it finds.
//!
//! None of them decides: how often a check must fail before it counts is told with each result, and what follows is the
//! pure guardian's. Checks from a virtual address are made only while the node is active; a standby asks from its own
//! address or from none.

mod command;
mod disk;
mod engine;
mod network;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use cluster::guardian::Input;
use cluster::health::{Check, Patience};

use super::halt::Halt;
use super::inbox::{Inward, Sender};
use super::standing::Standing;
use crate::config::cluster::{CheckCommand, GatewayCheck};
use crate::small_thread;

pub use engine::EngineAt;

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// This node's name.
    pub node: String,
    /// Where the virtual addresses are; `None`: Tandem adds none, and there is no carrier or gateway to check.
    pub interface: Option<String>,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// Which gateways must answer.
    pub gateways: Vec<GatewayCheck>,
    /// The operator's own checks.
    pub commands: Vec<CheckCommand>,
    /// The guardian's directory, which must be writable.
    pub directory: PathBuf,
    /// Where the engine can be asked.
    pub engine: EngineAt,
}

/// The checks, as long as this is not dropped.
#[derive(Debug)]
pub struct Checks {
    halt: Arc<Halt>,
    threads: Vec<JoinHandle<()>>,
}

impl Checks {
    /// Starts all checks of a plan.
    pub fn start(plan: &Plan, standing: &Arc<Standing>, inbox: &Sender) -> io::Result<Self> {
        let halt = Arc::new(Halt::default());
        let mut this = Self { halt: Arc::clone(&halt), threads: Vec::new() };
        let told = || Told { inbox: inbox.clone(), halt: Arc::clone(&halt) };
        if let Some(interface) = &plan.interface {
            let (network, told) = (network::Network::new(interface, plan, Arc::clone(standing)), told());
            this.spawn("check-network", move || network.run(&told))?;
        }
        let (file, to) = (plan.directory.join("probe"), told());
        this.spawn("check-disk", move || disk::run(&file, &to))?;
        let (at, its, to) = (plan.engine.clone(), Arc::clone(standing), told());
        this.spawn("check-engine", move || engine::run(&at, &its, &to))?;
        for check in &plan.commands {
            let (check, node, to) = (check.clone(), plan.node.clone(), told());
            let its = Arc::clone(standing);
            this.spawn("check-command", move || command::run(&check, &node, &its, &to))?;
        }
        Ok(this)
    }

    /// Ends them and waits until none of them runs. One whose disk does not move is not waited for by its own thread.
    pub fn finish(mut self) {
        self.halt.set();
        for thread in self.threads.drain(..) {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }

    fn spawn(&mut self, name: &str, what: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.threads.push(small_thread::spawn(name, what)?);
        Ok(())
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.halt.set();
    }
}

/// To whom a check tells what it finds, and how long it is wanted.
#[derive(Debug)]
struct Told {
    inbox: Sender,
    halt: Arc<Halt>,
}

impl Told {
    fn result(&self, check: Check, patience: Patience, result: Result<(), String>) {
        self.input(Input::Checked(check, patience, result.map_err(String::into_boxed_str)));
    }

    /// A check that is made no more.
    fn unchecked(&self, check: Check) {
        self.input(Input::Unchecked(check));
    }

    fn input(&self, input: Input) {
        // After a reload others speak for the same checks.
        if !self.halt.is_set() && self.inbox.send(Inward::Cluster(input)).is_err() {
            self.halt.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::super::inbox::{Inbox, inbox};
    use super::*;

    /// Hears what checks tell.
    pub struct Heard {
        sender: Sender,
        inbox: Inbox,
        halt: Arc<Halt>,
        waiting: Vec<Inward>,
    }

    pub fn hear() -> Heard {
        let (sender, inbox) = inbox().expect("a descriptor is left");
        Heard { sender, inbox, halt: Arc::default(), waiting: Vec::new() }
    }

    impl Heard {
        pub fn told(&self) -> Told {
            Told { inbox: self.sender.clone(), halt: Arc::clone(&self.halt) }
        }

        /// What comes next, if anything is there.
        pub fn next(&mut self) -> Option<Input> {
            if self.waiting.is_empty() {
                self.inbox.take(16, &mut self.waiting);
                self.waiting.reverse();
            }
            self.waiting.pop().map(|inward| match inward {
                Inward::Cluster(input) => input,
                other => unreachable!("checks do not say {other:?}"),
            })
        }

        /// Waits for the next result of a check.
        pub fn next_result(&mut self) -> (Check, Result<(), String>) {
            loop {
                match self.next() {
                    Some(Input::Checked(check, _, result)) => return (check, result.map_err(String::from)),
                    Some(_) => {}
                    None => ::host::wait_readable(&[self.inbox.as_fd()], Duration::from_secs(60))
                        .expect("it waits"),
                }
            }
        }

        /// Ends the check's thread.
        pub fn end(&self, thread: JoinHandle<()>) {
            self.halt.set();
            thread.join().expect("it does not panic");
        }
    }

    #[test]
    fn every_check_of_a_plan_tells_what_it_finds() {
        let place = tempfile::tempdir().expect("a place");
        let mut heard = hear();
        let command = |name: &str, script: &str| CheckCommand {
            name: name.to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            interval: Duration::from_secs(600),
            timeout: Duration::from_secs(60),
            failures: 3,
        };
        let plan = Plan {
            node: "a".to_owned(),
            interface: Some("no-such-if".to_owned()),
            addresses: Vec::new(),
            gateways: vec![GatewayCheck::Default],
            commands: vec![
                command("good", "test $TANDEM_NODE$TANDEM_ROLE$TANDEM_CHECK = astandbygood"),
                command("bad", "echo upstream is away; exit 4"),
            ],
            directory: place.path().to_owned(),
            engine: EngineAt {
                virtual_listener: None,
                own_listener: None,
                control_socket: place.path().join("none"),
            },
        };
        let standing = Arc::new(Standing::default());
        standing.engine_ready(true);

        let checks = Checks::start(&plan, &standing, &heard.sender).expect("they start");
        let mut found = std::collections::BTreeMap::new();
        while found.len() < 5 {
            let (check, result) = heard.next_result();
            found.insert(check.to_string(), result.err().unwrap_or_default());
        }
        checks.finish();

        assert!(found["carrier of no-such-if"].contains("no interface no-such-if"));
        assert_eq!((&*found["disk"], &*found["check good"]), ("", ""));
        assert_eq!(found["check bad"], "status 4: upstream is away");
        assert!(found["engine"].contains("control socket"), "{found:?}");
    }
}

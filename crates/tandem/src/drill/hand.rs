//! A drill's hand on a node: it breaks what it is told to, and undoes it whatever becomes of the drill.
//!
//! It is a process of its own, because the drill may be interrupted, lose its terminal or be killed. Then its standard input
//! ends, and it undoes everything before it ends too. What lasts for a time ends by this process's own clock, and what cuts
//! the link by the kernel's, so that it needs no word of anybody.

pub mod cut;
pub mod wound;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use host::Signals;
use serde::Serialize;
use serde_json::Value;

use super::words::{Asked, Deed, Hello, LINE_BYTES_MAX, Said, network};
use crate::config::Place;
use crate::config::{Cluster, Config};
use crate::control::client::Client;
use crate::guardian::keeper::REPORTS;
use crate::guardian::question::Question;
use crate::guardian::view::ClusterView;
use crate::service::node_name;
use crate::small_thread::spawn;
use crate::state_directory::StateDirectory;
use wound::{Restart, Wounds};

/// How often signals and the ends of wounds are looked for.
const TICK: Duration = Duration::from_millis(20);

/// A guardian answers from memory.
const STATUS_TIME_MAX: Duration = Duration::from_millis(500);

/// Questions that wait.
const ASKED_MAX: usize = 64;

/// Reports of one drill.
const REPORTS_MAX: usize = 256;

/// Serves a drill by standard input and output until that ends.
pub fn serve(config: &Config, state: StateDirectory, restart: Option<String>) -> Result<()> {
    // Before the first thread: each has the mask of the one that started it.
    let signals = Signals::take()?;
    let cluster =
        config.cluster.as_ref().context("the configuration has no [cluster]: there is no pair to drill")?;
    let mut hand = Hand { socket: state.guardian_socket(), state, wounds: Wounds::default(), restart };
    let view = hand.view().context("the guardian of this node does not answer")?;
    say(0, Ok(serde_json::to_value(hand.hello(config, cluster, &view)?)?));
    let asked = asked()?;
    loop {
        match asked.recv_timeout(TICK) {
            Ok(Asked { number, what }) => hand.answer(number, what),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        hand.wounds.handle_timeout(Instant::now());
        if signals.next().is_some() {
            break;
        }
    }
    hand.wounds.heal(&hand.socket)
}

struct Hand {
    socket: PathBuf,
    state: StateDirectory,
    wounds: Wounds,
    restart: Option<String>,
}

impl Hand {
    fn hello(&self, config: &Config, cluster: &Cluster, view: &ClusterView) -> Result<Hello> {
        let node = node_name(config);
        let me = cluster.nodes.iter().find(|it| it.name.eq_ignore_ascii_case(&node));
        let servers = config.sip.listen.iter().filter_map(|listen| match listen.place {
            Place::At(at) if listen.transport == transport::Transport::Udp => Some(at),
            _ => None,
        });
        Ok(Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: view.node.clone(),
            network: network(),
            servers: servers.filter(|at| cluster.addresses.contains(&at.ip())).collect(),
            virtual_addresses: cluster.addresses.clone(),
            paths: me.map(|me| me.paths.iter().map(|path| path.ip()).collect()).unwrap_or_default(),
            restart: self.restart_of(view).map(|restart| restart.to_string()),
        })
    }

    fn restart_of(&self, view: &ClusterView) -> Result<Restart, String> {
        match &self.restart {
            Some(command) => Ok(Restart::Command(command.clone())),
            None => Restart::by_supervisor(view.pid),
        }
    }

    fn view(&self) -> Result<ClusterView> {
        let client = Client::open_within(&self.socket, STATUS_TIME_MAX)?;
        client.context("nobody listens at its socket")?.ask(&Question::ClusterStatus {})
    }

    fn answer(&mut self, number: u64, what: Deed) {
        match what {
            Deed::Status => say(number, told(self.view())),
            Deed::Reports { after } => say(number, told(self.reports(after))),
            Deed::Heal => say(number, told(self.wounds.heal(&self.socket))),
            Deed::Hurt(super::fault::Fault::Switchover) => {
                let socket = self.socket.clone();
                // It takes as long as it takes, and the drill wants to look meanwhile.
                let asked = spawn("switchover", move || say(number, told(hand_over(&socket))));
                if let Err(error) = asked {
                    say(number, Err(error.to_string()));
                }
            }
            Deed::Hurt(fault) => {
                let done = self.view().and_then(|view| {
                    let restart = self.restart_of(&view);
                    self.wounds.hurt(Instant::now(), fault, &view, restart)
                });
                say(number, told(done));
            }
        }
    }

    /// As the guardian wrote them: another version may read them.
    fn reports(&self, after: u64) -> Result<Vec<Value>> {
        let file = self.state.guardian().join(REPORTS);
        let file = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        let reports = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let is_later = |report: &Value| report["epoch"].as_u64().is_some_and(|epoch| epoch > after);
        Ok(reports.filter(is_later).take(REPORTS_MAX).collect())
    }
}

fn hand_over(guardian: &std::path::Path) -> Result<()> {
    let mut guardian = Client::open(guardian)?.context("the guardian does not answer")?;
    guardian.ask_for_items(&Question::Switchover { force: false }, |_: ClusterView| Ok(()))
}

/// What the drill asks; it ends with standard input.
fn asked() -> Result<Receiver<Asked>> {
    let (sender, receiver) = sync_channel(ASKED_MAX);
    spawn("asked", move || {
        let mut input = BufReader::new(std::io::stdin().lock());
        loop {
            let mut line = String::new();
            let read = input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
            if read.is_err() || line.is_empty() {
                return;
            }
            // What can not be understood was written by nobody who could be answered.
            let Ok(asked) = serde_json::from_str(&line) else { return };
            if sender.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn told<T: Serialize>(result: Result<T>) -> Result<Value, String> {
    let value = result.and_then(|value| Ok(serde_json::to_value(value)?));
    value.map_err(|error| format!("{error:#}"))
}

fn say(number: u64, answer: Result<Value, String>) {
    let Ok(mut line) = serde_json::to_vec(&Said { number, answer }) else { return };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    // Whoever does not read any more has ended, and standard input tells that too.
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// What stops a drill at a node before it begins.
pub fn check(hello: &Hello, fault: super::fault::Fault, network: &str) -> Result<()> {
    use super::fault::Fault;
    match (fault, &hello.restart) {
        (Fault::KillNode, Err(why)) => bail!("kill-node: {}: {why}", hello.node),
        (Fault::CutLink(_), _) if hello.network == network => bail!(
            "cut-link: the phones of the drill are on {} too and would be cut off with it; run the drill on a third host, \
             with --hand for each node",
            hello.node
        ),
        _ => Ok(()),
    }
}

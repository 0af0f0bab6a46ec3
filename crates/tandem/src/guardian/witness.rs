//! `tandem witness`: a voter alone, on a third host. It needs no right, and any number of addresses.
//!
//! It is a loop as the guardian's is, and much smaller: what members ask is answered when the disk has it. Two copies of a
//! witness would be one voter that votes twice; the lock on its directory keeps the second one out on one host.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::host::{Signal, Signals};
use anyhow::{Context, Result, bail};
use clock::{Instant, Now};
use cluster::link::Link;
use cluster::{MemberId, NodeId, ServiceId, VoterAlarm, Witness, WitnessOutput};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::control::Asker;
use super::inbox::{Inbox, Inward, inbox};
use super::keeper::Keeper;
use super::links::{Heard, Links, Place, Reached};
use super::memory::{Memory, chance, voter_text};
use super::notify::Notifier;
use super::poll::{Poll, Source, now};
use super::question::Question;
use super::start::privileges;
use super::view::{GrantView, LinkView, PathView, WITNESS_SILENCE_MAX_MS, millis};
use super::vigil::Vigil;
use crate::control::server::Control;

/// Datagrams of one socket in one turn.
const DATAGRAMS_PER_TURN: usize = 32;

/// What is taken from the inbox in one turn.
const INWARD_PER_TURN: usize = 32;

/// What a witness needs to know.
pub struct WitnessStart {
    /// What seals the link.
    pub key: [u8; 32],
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// The nodes in their order: the name and the addresses of each.
    pub nodes: Vec<(String, Vec<SocketAddr>)>,
    /// Where its memory is.
    pub directory: PathBuf,
}

/// Votes until a signal ends it, without signals for ever, and says at this socket how it is.
pub fn run(start: WitnessStart, socket: &Path, signals: Option<Signals>) -> Result<()> {
    let WitnessStart { key, listen, nodes, directory } = start;
    let memory = Memory::open(&directory)?;
    let record = memory.record()?;
    let at = now();
    let me = MemberId(u8::try_from(nodes.len()).context("there are more nodes than a cluster may have")?);
    let ids: Vec<NodeId> = (0..me.0).map(NodeId).collect();
    let poll = Poll::new()?;
    let (sender, inbox) = inbox()?;
    let keeper = Keeper::start(memory.directory(), memory.directory(), sender.clone())?;
    let control =
        Control::open(socket, Arc::new(Asker::new(sender))).with_context(|| socket.display().to_string())?;
    let mut chances = [0; 32];
    getrandom::fill(&mut chances).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let link = Link::new(at.instant, me, (0..me.0).map(MemberId), key, chance()?, chances);
    let others: Vec<Place> = ids
        .iter()
        .zip(&nodes)
        .map(|(id, (_, addresses))| Place {
            member: MemberId(id.0),
            addresses: addresses.clone(),
            reached: Reached::FromEach,
        })
        .collect();
    let links = Links::open(at.instant, link, &listen, &others, &poll);
    // What could not be had was logged.
    let _ = privileges();
    poll.add(&inbox, Source::Inbox)?;
    if let Some(signals) = &signals {
        poll.add(signals, Source::Signals)?;
    }
    let names: Vec<String> = nodes.into_iter().map(|(name, _)| name).collect();
    tracing::info!(
        voter = voter_text(record.voter),
        epoch = record.highest().0,
        listen = ?listen,
        nodes = names.join(", "),
        directory = %directory.display(),
        "the witness votes"
    );
    let mut this = WitnessLoop {
        witness: Witness::new(at.instant, ServiceId(0), ids, record),
        links,
        keeper,
        poll,
        inbox,
        signals,
        started: at.instant,
        names,
        notifier: Notifier::from_environment(at.instant),
        vigil: Vigil::begin(),
        out: Vec::new(),
    };
    this.notifier.tell("READY=1\nSTATUS=voting");
    this.run()?;
    tracing::info!("stopped");
    drop(control);
    drop(this.inbox);
    this.keeper.finish();
    drop(memory);
    Ok(())
}

/// What an operator is shown of a witness, as it crosses the control socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessView {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Its identity, which is on its disk.
    pub voter: String,
    /// Whether it can vote: its disk has not failed.
    pub is_able: bool,
    /// The highest epoch that it knows of.
    pub epoch: u64,
    /// Whom it has granted the service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub granted: Option<GrantView>,
    /// The ways to the nodes.
    pub paths: Vec<PathView>,
    /// The link.
    pub link: LinkView,
}

struct WitnessLoop {
    witness: Witness,
    links: Links,
    keeper: Keeper,
    poll: Poll,
    inbox: Inbox,
    signals: Option<Signals>,
    started: Instant,
    /// Of the nodes, in their order.
    names: Vec<String>,
    notifier: Notifier,
    vigil: Vigil,
    out: Vec<WitnessOutput>,
}

impl WitnessLoop {
    fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            let until = self.links.poll_timeout().min(self.notifier.poll_timeout());
            self.poll.wait(until, &mut ready)?;
            if let Some(what) = self.vigil.look() {
                tracing::error!(
                    "{what}; this witness grants nothing for the longest lease that it has granted"
                );
                self.witness.stood_still(now().instant);
            }
            for source in &ready {
                match source {
                    Source::Link(place) => self.receive(*place),
                    Source::Inbox => self.hear(),
                    Source::Signals => {
                        while let Some(signal) = self.signals.as_ref().and_then(Signals::next) {
                            if signal == Signal::End {
                                self.notifier.tell("STOPPING=1");
                                return Ok(());
                            }
                        }
                    }
                    _ => {}
                }
            }
            let at = now().instant;
            self.links.handle_timeout(at, &self.poll);
            self.notifier.turn(at);
        }
    }

    fn receive(&mut self, place: u32) {
        for _ in 0..DATAGRAMS_PER_TURN {
            match self.links.receive(place) {
                Heard::Message(at, from, _, message) => {
                    self.witness.handle_message(at.instant, from, message, &mut self.out);
                    self.carry(at);
                }
                Heard::Other => {}
                Heard::Nothing => return,
            }
        }
    }

    fn hear(&mut self) {
        let mut inward = Vec::new();
        self.inbox.take(INWARD_PER_TURN, &mut inward);
        for inward in inward {
            let at = now();
            match inward {
                Inward::Kept(number, is_kept) => {
                    self.witness.handle_kept(at.instant, number, is_kept, &mut self.out);
                    self.carry(at);
                }
                Inward::Question(question, reply) => {
                    // Who asked may be gone.
                    let _ = reply.try_send(self.answer(at.instant, question));
                }
                _ => {}
            }
        }
    }

    fn answer(&self, at: Instant, question: Question) -> Result<Value, String> {
        if question != (Question::ClusterStatus {}) {
            return Err("this host is the witness: it has a vote and nothing else; ask a node".to_owned());
        }
        let here = self.witness.here(at);
        let paths = self.links.paths(at).map(|path| {
            let to = self.name(NodeId(path.member.0));
            PathView::new(path, to, WITNESS_SILENCE_MAX_MS)
        });
        let view = WitnessView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: at.since(self.started).as_secs(),
            voter: voter_text(here.voter),
            is_able: here.votes,
            epoch: here.highest.0,
            granted: here.granted.map(|(holder, left)| GrantView {
                node: self.name(holder.node),
                epoch: None,
                left_ms: millis(left),
            }),
            paths: paths.collect(),
            link: LinkView::of(&self.links),
        };
        serde_json::to_value(view).map_err(|error| error.to_string())
    }

    fn name(&self, node: NodeId) -> String {
        let name = self.names.get(usize::from(node.0));
        name.cloned().unwrap_or_else(|| format!("node {}", node.0))
    }

    fn carry(&mut self, at: Now) {
        for output in std::mem::take(&mut self.out) {
            match output {
                WitnessOutput::Send(to, message) => self.links.send(at.instant, to, &message),
                WitnessOutput::Keep(number, record) => {
                    if self.keeper.keep(number, record).is_err() {
                        // What follows from it is an alarm alone.
                        self.witness.handle_kept(at.instant, number, false, &mut self.out);
                    }
                }
                WitnessOutput::Alarm(VoterAlarm::DiskFailed) => {
                    tracing::error!(
                        "the disk has failed: this witness does not vote until it is started again"
                    );
                }
                WitnessOutput::Alarm(VoterAlarm::Cloned(NodeId(node))) => {
                    tracing::error!(node, "two hosts are alive as one node: a machine was copied");
                }
            }
        }
    }
}

/// Reads `NAME=ADDRESS,ADDRESS`, where an address may have a port.
pub fn node_of(text: &str, port: u16) -> Result<(String, Vec<SocketAddr>)> {
    let Some((name, addresses)) = text.split_once('=') else {
        bail!(
            "`{text}` is no node: write NAME=ADDRESS, with all addresses of the node's paths, separated by commas"
        )
    };
    let addresses = addresses.split(',').map(|address| address_of(address, port)).collect::<Result<_>>()?;
    Ok((name.to_owned(), addresses))
}

/// Reads an address with a port, or without.
pub fn address_of(text: &str, port: u16) -> Result<SocketAddr> {
    let with_port = text.parse::<SocketAddr>();
    with_port
        .or_else(|_| {
            text.trim_matches(['[', ']']).parse::<IpAddr>().map(|address| SocketAddr::new(address, port))
        })
        .with_context(|| {
            format!("`{text}` is no address: write 192.0.2.1, 192.0.2.1:7950 or [2001:db8::1]:7950")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_with_its_addresses_and_maybe_their_ports() {
        let (name, addresses) =
            node_of("a=192.0.2.1,[2001:db8::1]:99,2001:db8::2", 7950).expect("it is right");

        let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        assert_eq!(
            (&*name, texts),
            ("a", vec!["192.0.2.1:7950".into(), "[2001:db8::1]:99".into(), "[2001:db8::2]:7950".into()])
        );
        assert!(node_of("192.0.2.1", 7950).is_err());
        assert!(node_of("a=", 7950).is_err());
    }
}

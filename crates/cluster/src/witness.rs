//! The witness: a voter alone, on a third host.

use clock::Instant;

use crate::{
    Here, MemberId, Message, NodeId, Record, Release, ServiceId, Voter, VoterAlarm, VoterOutput, WriteNumber,
};

/// What a witness asks of the edge, to be done in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Seal it and send it over every path to the member.
    Send(MemberId, Message),
    /// Write the record and sync it, not on this thread; then [`Witness::handle_kept`].
    Keep(WriteNumber, Record),
    /// Something that an operator must know.
    Alarm(VoterAlarm),
}

/// A voter without a node.
#[derive(Debug)]
pub struct Witness {
    service: ServiceId,
    voter: Voter,
    nodes: Vec<NodeId>,
    by_voter: Vec<VoterOutput>,
}

impl Witness {
    /// A witness that has just started with the record that its disk has. `nodes` are those of the configuration.
    pub fn new(now: Instant, service: ServiceId, nodes: Vec<NodeId>, record: Record) -> Self {
        Self { service, voter: Voter::new(now, service, record), nodes, by_voter: Vec::new() }
    }

    /// A member says something. It was proved that it is that member.
    pub fn handle_message(&mut self, now: Instant, from: MemberId, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Ask(ask) if ask.service == self.service => {
                self.voter.handle_ask(now, ask, &mut self.by_voter);
            }
            Message::Release(release @ Release { service, .. }) if service == self.service => {
                self.voter.handle_release(release, &mut self.by_voter);
            }
            Message::Hello(service) if service == self.service => {
                out.push(Output::Send(from, Message::Here(self.here(now))));
            }
            _ => {}
        }
        self.carry(out);
    }

    /// A write of the record is done, or has failed.
    pub fn handle_kept(&mut self, now: Instant, write: WriteNumber, is_kept: bool, out: &mut Vec<Output>) {
        self.voter.handle_kept(now, write, is_kept, &mut self.by_voter);
        self.carry(out);
    }

    /// This machine may have stood still together with its clock.
    pub fn stood_still(&mut self, now: Instant) {
        self.voter.stood_still(now);
    }

    /// How it is.
    pub fn here(&self, now: Instant) -> Here {
        Here {
            service: self.service,
            voter: self.voter.id(),
            highest: self.voter.highest(),
            granted: self.voter.granted(now).map(|(holder, _, until)| (holder, until.since(now))),
            votes: !self.voter.is_faulty(),
        }
    }

    fn carry(&mut self, out: &mut Vec<Output>) {
        for output in std::mem::take(&mut self.by_voter) {
            match output {
                VoterOutput::Keep(write, record) => out.push(Output::Keep(write, record)),
                VoterOutput::Alarm(alarm) => out.push(Output::Alarm(alarm)),
                VoterOutput::Answer(node, answer) => self.send(node, Message::Answer(answer), out),
                VoterOutput::Tell(node, list) => self.send(node, Message::List(self.service, list), out),
            }
        }
    }

    fn send(&self, to: NodeId, message: Message, out: &mut Vec<Output>) {
        if let Some(place) = self.nodes.iter().position(|other| *other == to) {
            out.push(Output::Send(MemberId(place as u8), message));
        }
    }
}

//! What an operator is shown.

use std::time::Duration;

use clock::Instant;

use super::{Engine, Guardian};
use crate::heartbeat::{Heartbeat, Stance};
use crate::{Epoch, Here, Holder, MemberId, NodeId, Role, VoterId};

/// How a guardian sees itself and the others.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub me: Holder,
    /// What it is.
    pub role: Role,
    /// What it tells others that it is.
    pub stance: Stance,
    /// The epoch in force and how long the lease lasts, if this node is active.
    pub lease: Option<(Epoch, Duration)>,
    /// The highest epoch that was seen.
    pub highest: Epoch,
    /// How many votes count, and how many are needed.
    pub votes: (usize, usize),
    /// How its engine is.
    pub engine: Engine,
    /// How much of the state it holds, 0 to 100.
    pub ready: u8,
    /// Each check with the reason why it fails, or none.
    pub checks: Vec<(String, Option<String>)>,
    /// Until when it does not want the service after giving it up for its health.
    pub paused_for: Option<Duration>,
    /// Whom its voter has granted the service.
    pub granted: Option<(Holder, Epoch, Duration)>,
    /// The other nodes.
    pub peers: Vec<PeerView>,
    /// All voters.
    pub members: Vec<MemberView>,
}

/// Another node.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Which.
    pub node: NodeId,
    /// Whether it is heard now.
    pub is_heard: bool,
    /// How long ago it was heard; `None`: never.
    pub silent_for: Option<Duration>,
    /// What it last said.
    pub said: Option<Heartbeat>,
}

/// A voter.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Which.
    pub member: MemberId,
    /// Whether it is a witness.
    pub is_witness: bool,
    /// Its voter, if it was ever heard.
    pub voter: Option<VoterId>,
    /// Another voter that speaks for it and does not count.
    pub stranger: Option<VoterId>,
    /// How long ago it was heard.
    pub silent_for: Option<Duration>,
    /// Whether its vote counts for this node now.
    pub votes: bool,
    /// What a witness said of itself.
    pub here: Option<Here>,
}

impl Guardian {
    /// What an operator is shown.
    pub fn view(&self, now: Instant) -> View {
        let votes: Vec<VoterId> = self.contender.votes(now).collect();
        View {
            me: self.me,
            role: self.contender.role(),
            stance: self.stance(now),
            lease: self.lease(now).map(|(epoch, until)| (epoch, until.since(now))),
            highest: self.contender.highest(),
            votes: (votes.len(), self.contender.seats().majority()),
            engine: self.engine,
            ready: self.ready,
            checks: self
                .health
                .checks()
                .map(|(check, reason)| (check.to_string(), reason.map(str::to_owned)))
                .collect(),
            paused_for: self.health.paused_until(now).map(|until| until.since(now)),
            granted: self.voter.granted(now).map(|(holder, epoch, until)| (holder, epoch, until.since(now))),
            peers: self
                .peers
                .iter()
                .map(|peer| PeerView {
                    node: peer.node(),
                    is_heard: peer.is_heard(now),
                    silent_for: peer.silent_for(now),
                    said: peer.last_said().copied(),
                })
                .collect(),
            members: self
                .members
                .iter()
                .map(|(id, member)| MemberView {
                    member: *id,
                    is_witness: member.is_witness,
                    voter: member.voter,
                    stranger: member.stranger,
                    silent_for: member.heard.map(|heard| now.since(heard)),
                    votes: member.voter.is_some_and(|voter| votes.contains(&voter)),
                    here: member.here,
                })
                .collect(),
        }
    }
}

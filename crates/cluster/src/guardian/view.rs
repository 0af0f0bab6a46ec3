//! What an operator is shown.

use std::time::Duration;

use clock::Instant;

use super::{Engine, Guardian, Settings};
use crate::heartbeat::{Heartbeat, Stance};
use crate::{Epoch, Here, Holder, ListVersion, MemberId, NodeId, Role, Seat, VoterId};

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
    /// What is wrong with it: 0 is nothing, more is worse.
    pub ailment: u8,
    /// How much of the state it holds, 0 to 100.
    pub ready: u8,
    /// Each check with the reason why it fails, or none.
    pub checks: Vec<(String, Option<String>)>,
    /// Until when it does not want the service after giving it up for its health.
    pub paused_for: Option<Duration>,
    /// Whom its voter has granted the service.
    pub granted: Option<(Holder, Epoch, Duration)>,
    /// The list of voters in force.
    pub list: ListView,
    /// The settings in force.
    pub settings: Settings,
    /// The other nodes.
    pub peers: Vec<PeerView>,
    /// All voters.
    pub members: Vec<MemberView>,
}

/// The list of voters that a node counts by.
#[derive(Clone, Debug)]
pub struct ListView {
    /// Its version.
    pub version: ListVersion,
    /// The seat that is being added or removed.
    pub change: Option<Seat>,
    /// Configured members without a seat: `solo`, or a configuration that was changed since.
    pub unseated: Vec<MemberId>,
    /// Members with a seat that are not configured any more.
    pub surplus: Vec<MemberId>,
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
    /// The voter that has its seat, if it was ever heard.
    pub voter: Option<VoterId>,
    /// Whether it has a seat: whether its vote would count.
    pub is_seated: bool,
    /// A voter that speaks for it and does not count.
    pub stranger: Option<VoterId>,
    /// How long ago it was heard.
    pub silent_for: Option<Duration>,
    /// Whether its vote counts for this node now.
    pub votes: bool,
    /// What a witness said of itself.
    pub here: Option<Here>,
}

impl Guardian {
    /// If nobody is known to be active: how long ago another node was last heard; zero if none ever was.
    pub fn nobody_active(&self, now: Instant) -> Option<Duration> {
        let is_known = self.lease(now).is_some() || self.peers.iter().any(|peer| peer.is_active(now));
        let silence = self.peers.iter().filter_map(|peer| peer.silent_for(now)).min();
        (!is_known).then(|| silence.unwrap_or_default())
    }

    /// The highest epoch that was seen anywhere.
    pub fn highest(&self) -> Epoch {
        self.contender.highest()
    }

    /// How much of the state this node holds, 0 to 100.
    pub fn ready(&self) -> u8 {
        self.ready
    }

    /// What an operator is shown.
    pub fn view(&self, now: Instant) -> View {
        let votes: Vec<VoterId> = self.contender.votes(now).collect();
        let list = *self.contender.list();
        let listed = |id: MemberId| list.seats().filter(move |seat| seat.member == id);
        View {
            me: self.me,
            role: self.contender.role(),
            stance: self.stance(now),
            lease: self.lease(now).map(|(epoch, until)| (epoch, until.since(now))),
            highest: self.contender.highest(),
            votes: (votes.len(), list.majority()),
            engine: self.engine,
            ailment: self.health.ailment(),
            ready: self.ready,
            checks: self
                .health
                .checks()
                .map(|(check, reason)| (check.to_string(), reason.map(str::to_owned)))
                .collect(),
            paused_for: self.health.paused_until(now).map(|until| until.since(now)),
            granted: self.voter.granted(now).map(|(holder, epoch, until)| (holder, epoch, until.since(now))),
            list: ListView {
                version: list.version(),
                change: list.change(),
                unseated: self.members.keys().copied().filter(|id| !list.has_member(*id)).collect(),
                surplus: list
                    .seats()
                    .map(|seat| seat.member)
                    .filter(|id| !self.members.contains_key(id))
                    .collect(),
            },
            settings: self.settings.clone(),
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
                    voter: listed(*id).find_map(|seat| seat.voter),
                    is_seated: list.has_member(*id),
                    stranger: member.stranger,
                    silent_for: member.heard.map(|heard| now.since(heard)),
                    votes: listed(*id).any(|seat| seat.voter.is_some_and(|voter| votes.contains(&voter))),
                    here: member.here,
                })
                .collect(),
        }
    }
}

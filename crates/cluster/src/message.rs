//! What holders and voters say to each other.

use std::time::Duration;

use crate::heartbeat::Heartbeat;
use crate::{Epoch, Holder, ListVersion, RequestNumber, ServiceId, VoterId, VoterList};

/// What members say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// To a voter.
    Ask(Ask),
    /// From a voter.
    Answer(Answer),
    /// To a voter, and to the other nodes, which need not wait any more.
    Release(Release),
    /// From node to node.
    Heartbeat(Heartbeat),
    /// To the active node.
    HandoverAsk(HandoverAsk),
    /// From the node that was active.
    HandoverAnswer(HandoverAnswer),
    /// To a witness: who are you?
    Hello(ServiceId),
    /// From a witness.
    Here(Here),
    /// To a node that counts by an older list of voters.
    List(ServiceId, VoterList),
}

impl Message {
    /// Which service it is about.
    pub fn service(&self) -> ServiceId {
        match self {
            Self::Ask(ask) => ask.service,
            Self::Answer(answer) => answer.service,
            Self::Release(release) => release.service,
            Self::Heartbeat(heartbeat) => heartbeat.service,
            Self::HandoverAsk(ask) => ask.service,
            Self::HandoverAnswer(answer) => answer.service,
            Self::Hello(service) | Self::List(service, _) => *service,
            Self::Here(here) => here.service,
        }
    }
}

/// How a voter is that says nothing by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Here {
    /// For which service.
    pub service: ServiceId,
    /// Who it is.
    pub voter: VoterId,
    /// The highest epoch that it knows.
    pub highest: Epoch,
    /// Whom it has granted the service, and for how long still.
    pub granted: Option<(Holder, Duration)>,
    /// Whether it votes; a voter whose disk failed does not.
    pub votes: bool,
}

/// A contender asks a voter to grant or renew the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ask {
    /// For which service.
    pub service: ServiceId,
    /// For whom.
    pub holder: Holder,
    /// Repeated by the answer.
    pub number: RequestNumber,
    /// Under which epoch.
    pub epoch: Epoch,
    /// For how long, by the voter's own clock.
    pub lease: Duration,
    /// The list of voters that the contender counts by.
    pub list: VoterList,
}

/// A voter's answer. It counts only for the question whose number it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Answer {
    /// Who answers.
    pub voter: VoterId,
    /// As asked.
    pub service: ServiceId,
    /// As asked.
    pub holder: Holder,
    /// As asked.
    pub number: RequestNumber,
    /// As asked.
    pub epoch: Epoch,
    /// What the voter decided.
    pub verdict: Verdict,
}

/// What a voter decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nobody else is granted the lease for this long.
    Granted(Duration),
    /// Nothing has changed.
    Refused(Refusal),
}

/// Why a voter refused, and when asking again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Refusal {
    /// Why.
    pub cause: RefusalCause,
    /// The highest epoch that the voter knows as used.
    pub highest: Epoch,
    /// How long the voter will still grant to nobody else.
    pub left: Duration,
}

/// Why a voter refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCause {
    /// Another holder has the grant.
    Held,
    /// The epoch was granted, reserved or closed before.
    EpochUsed,
    /// The voter started less than its longest lease ago.
    Restarted,
    /// The contender counts by an old list of voters, or by one that names a voter which this one does not know.
    OldList,
    /// The lease asked for is zero or longer than [`crate::LEASE_MAX`].
    LeaseUnfit,
    /// The voter can not write to its disk.
    NotVoting,
    /// Two starts of one node are alive at once: a copied machine.
    Cloned,
}

/// A holder gives back exactly one grant, and closes its epoch for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// For which service.
    pub service: ServiceId,
    /// Whose grant.
    pub holder: Holder,
    /// Of which epoch.
    pub epoch: Epoch,
}

/// A standby asks the active node to hand the service over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandoverAsk {
    /// Which service.
    pub service: ServiceId,
    /// Who wants it.
    pub to: Holder,
    /// Repeated by the answer.
    pub number: RequestNumber,
    /// The epoch that is in force.
    pub epoch: Epoch,
    /// The epoch that is wanted; the standby's voter has set it aside.
    pub next: Epoch,
    /// The lease that the standby wants.
    pub lease: Duration,
    /// The version of the list of voters that the standby counts by.
    pub list: ListVersion,
}

/// The one message of a planned hand-over: the old holder's gate is closed, its epoch released, its own vote given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandoverAnswer {
    /// Which service.
    pub service: ServiceId,
    /// The voter of the old holder, whose vote this is.
    pub voter: VoterId,
    /// The old holder.
    pub from: Holder,
    /// The new one.
    pub to: Holder,
    /// As asked.
    pub number: RequestNumber,
    /// The epoch that has ended.
    pub epoch: Epoch,
    /// The epoch that begins.
    pub next: Epoch,
    /// For how long the old holder's voter grants.
    pub lease: Duration,
}

//! What the machine is told of a message, and what it says to it.

use std::net::IpAddr;

use crate::body::{Body, Unreadable};
use crate::ports::NoPorts;
use crate::sdp::Malformed;

/// One of the two ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who sent the first INVITE.
    Caller,
    /// Who got it.
    Callee,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// Names one of the copies in which the first INVITE went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(pub u64);

/// Names the dialog by the callee's tag: one INVITE may lead to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// Where a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// The first INVITE, or its refusal, on this branch.
    Branch(Branch),
    /// A response to the first INVITE: it makes a dialog.
    Fork(Branch, Tag),
    /// Anything inside a dialog.
    Dialog(Tag),
}

/// A request that may carry an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// INVITE, the first one or a later one.
    Invite,
    /// UPDATE (RFC 3311).
    Update,
    /// PRACK (RFC 3262).
    Prack,
}

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request(Method),
    /// ACK.
    Ack,
    /// 101 to 199 to an INVITE, with or without `Require: 100rel`.
    Provisional {
        /// Whether a PRACK follows.
        is_reliable: bool,
    },
    /// A 2xx.
    Accepted(Method),
    /// 300 to 699.
    Refused(Method),
}

/// A message on its way through the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind,
    /// Who sent it.
    pub from: Side,
    /// Where it belongs.
    pub within: Within,
    /// The number in its CSeq.
    pub cseq: u32,
    /// Its body; empty if it has none.
    pub body: Body<'a>,
    /// The address that it came from.
    pub source: IpAddr,
    /// Whether its sender sits behind a NAT.
    pub is_behind_nat: bool,
}

/// What a session description is in the exchange (RFC 3264 §4, RFC 6337 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It proposes.
    Offer,
    /// It agrees, perhaps only for early media.
    Answer,
    /// It repeats what was said, or comes when nothing is to be said.
    Neither,
}

/// Why a description goes on without the relay's addresses in it, or is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanchored {
    /// The body can not be looked into.
    Body(Unreadable),
    /// The description can not be read.
    Description(Malformed),
    /// There are no ports.
    Ports(NoPorts),
    /// What it answers went on without the relay's addresses.
    Offer,
    /// It belongs to a dialog that is not known.
    Dialog,
    /// The call has more forks or open offers than anybody's.
    TooMany,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has no session description and goes on as it is.
    NoDescription,
    /// It goes on with this body; its length is the caller's to tell.
    Rewritten {
        /// What the description is.
        role: Role,
        /// The whole body.
        body: Vec<u8>,
    },
    /// It goes on as it is, and media do not come here.
    PassedOn(Unanchored),
    /// It is refused, with 488 for what can not be read and with 503 where there are no ports.
    Refused(Unanchored),
}

/// What becomes of what can not be relayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Broken {
    /// It goes on as it is: the phones may understand each other.
    #[default]
    PassOn,
    /// A request is refused (488). A response or an ACK can not be, and goes on.
    Refuse,
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Descriptions that went on with the relay's addresses.
    pub rewritten: u64,
    /// Descriptions that went on as they were.
    pub passed_on: u64,
    /// Requests refused because of what they say.
    pub refused: u64,
    /// Requests refused, or descriptions passed on, because there were no ports.
    pub no_ports: u64,
}

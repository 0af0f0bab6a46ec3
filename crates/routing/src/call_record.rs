//! The record of a call: what is left of it when it has ended.

use std::time::Duration;

use clock::WallTime;
use sip::Status;

/// One call that was admitted and has ended.
///
/// All its times are reckoned from its beginning, so that they fit each other whatever becomes of the calendar meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRecord {
    /// Tells calls apart. It is derived from the INVITE, so that two nodes that both write a record of one call write the
    /// same number.
    pub id: u128,
    /// The Call-ID.
    pub call_id: String,
    /// The tag of who called.
    pub from_tag: String,
    /// The tag of who answered first; empty if nobody did.
    pub to_tag: String,
    /// Who called, as From says: an address of record, or the URI if that is none.
    pub caller: String,
    /// Who was called, as To says.
    pub callee: String,
    /// The Request-URI of the INVITE.
    pub request_uri: String,
    /// By what right the INVITE was admitted.
    pub right: Right,
    /// The account that has proved itself, or the trusted peer or the registration at a carrier that the call came from.
    pub account: Option<String>,
    /// Where the INVITE came from.
    pub source: String,
    /// The gateway that the call came from.
    pub gateway_in: Option<String>,
    /// The gateway that has answered; of a call that nobody answered the last one that was tried.
    pub gateway_out: Option<String>,
    /// When the INVITE came.
    pub started: WallTime,
    /// How long after that somebody answered.
    pub answered_after: Option<Duration>,
    /// How long after its beginning the call has ended.
    pub ended_after: Duration,
    /// How.
    pub ending: CallEnding,
    /// The final response to the INVITE; of a call that was answered the first 2xx.
    pub status: Status,
    /// Its reason phrase.
    pub reason: String,
}

/// By what right a call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The password of an account.
    Digest,
    /// The address of a trusted peer or a gateway.
    Trusted,
    /// It came by a listener that asks nobody.
    Open,
    /// The registrar behind this edge has judged it.
    Registrar,
    /// That registrar has sent it to a phone.
    Flow,
    /// The address of a carrier that this server is registered at.
    Carrier,
}

/// Who a call is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Who has sent the INVITE.
    Caller,
    /// Who it was for.
    Callee,
    /// This server.
    Server,
}

/// How a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnding {
    /// One of the two has sent a BYE.
    HungUp(Party),
    /// The caller has given up before anybody answered.
    Cancelled,
    /// Somebody else has said no.
    Refused,
    /// This server has said no: there is no such user, no way to one, no room, or a limit.
    Turned,
    /// Nobody answered in time, or nothing that was tried said anything.
    NoAnswer,
    /// Nobody has refreshed the session (RFC 4028).
    SessionExpired,
    /// No media came.
    Silent,
    /// It was as long as a call may be.
    TooLong,
    /// One of the phones does not know it any more.
    Lost,
    /// It rang when its node was lost, and the other one could not go on with it.
    NodeLost,
}

impl CallRecord {
    /// When somebody answered.
    pub fn answered(&self) -> Option<WallTime> {
        self.answered_after.map(|after| self.started + after)
    }

    /// When it ended.
    pub fn ended(&self) -> WallTime {
        self.started + self.ended_after
    }

    /// How long the two could talk.
    pub fn talk(&self) -> Duration {
        self.answered_after.map_or(Duration::ZERO, |after| self.ended_after.saturating_sub(after))
    }
}

impl Right {
    /// All of them, by their numbers in what is told to another node, which stay.
    pub const ALL: [Self; 6] =
        [Self::Digest, Self::Trusted, Self::Open, Self::Registrar, Self::Flow, Self::Carrier];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Trusted => "trusted",
            Self::Open => "open",
            Self::Registrar => "registrar",
            Self::Flow => "flow",
            Self::Carrier => "carrier",
        }
    }
}

impl CallEnding {
    /// Who has ended the call.
    pub const fn by(self) -> Party {
        match self {
            Self::HungUp(party) => party,
            Self::Cancelled => Party::Caller,
            Self::Refused => Party::Callee,
            Self::Turned
            | Self::NoAnswer
            | Self::SessionExpired
            | Self::Silent
            | Self::TooLong
            | Self::Lost
            | Self::NodeLost => Party::Server,
        }
    }

    /// Why, in one word.
    pub const fn why(self) -> &'static str {
        match self {
            Self::HungUp(_) => "bye",
            Self::Cancelled => "cancel",
            Self::Refused => "refused",
            Self::Turned => "turned_away",
            Self::NoAnswer => "no_answer",
            Self::SessionExpired => "session_expired",
            Self::Silent => "media_silence",
            Self::TooLong => "limit",
            Self::Lost => "lost",
            Self::NodeLost => "node_lost",
        }
    }
}

impl Party {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
            Self::Server => "server",
        }
    }
}

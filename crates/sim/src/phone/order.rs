//! What a phone is told to do, and what it says happened.

use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;

use crate::stream::StreamId;

/// A call that a phone is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallOrder {
    /// The script's number of the call, which all its messages carry.
    pub(crate) number: u32,
    /// The URI to call.
    pub(crate) target: String,
    /// Give up so long after the INVITE unless it was answered before.
    pub(crate) cancel_after: Option<Duration>,
    /// Whether the CANCEL waits for a provisional response, as RFC 3261 §9.1 has it.
    pub(crate) patience: Patience,
    /// Hang up so long after the answer.
    pub(crate) hang_up_after: Option<Duration>,
    /// Change the session so long after the answer.
    pub(crate) reinvite_after: Option<Duration>,
    /// Change it by an UPDATE so long after the answer.
    pub(crate) update_after: Option<Duration>,
    /// Blow the INVITE up to this size.
    pub(crate) bytes_min: usize,
    /// Where the caller's session stands.
    pub(crate) offer: Offer,
    /// Whether provisional responses may ask for a PRACK.
    pub(crate) provisional: Provisional,
    /// Send the callee elsewhere.
    pub(crate) refer: Option<Refer>,
}

impl CallOrder {
    /// A call that the caller ends after five seconds.
    pub(crate) fn new(number: u32, target: impl Into<String>) -> Self {
        Self {
            number,
            target: target.into(),
            cancel_after: None,
            patience: Patience::Waits,
            hang_up_after: Some(Duration::from_secs(5)),
            reinvite_after: None,
            update_after: None,
            bytes_min: 0,
            offer: Offer::InInvite,
            provisional: Provisional::Plain,
            refer: None,
        }
    }
}

/// Which request of the caller carries its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The INVITE: it offers.
    InInvite,
    /// The ACK: the callee offers in its 200.
    InAck,
}

/// How the callee may ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provisional {
    /// As ever.
    Plain,
    // RFC 3262 §3: the caller supports 100rel, so the callee repeats its 180 until the PRACK.
    /// Until it was heard.
    Reliable,
}

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refer {
    /// So long after the answer.
    pub(crate) after: Duration,
    /// Whom the callee is to call. That call's number is the next one.
    pub(crate) target: String,
}

/// When a caller that gives up sends its CANCEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// After a provisional response.
    Waits,
    /// At once, as many phones do.
    None,
}

/// What a phone does with a call that comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answering {
    /// The answer.
    pub(crate) behaviour: Behaviour,
    /// Hang up so long after the answer.
    pub(crate) hang_up_after: Option<Duration>,
    /// Answer a change of the session so long after it came.
    pub(crate) changes_after: Option<Duration>,
}

impl Answering {
    /// Rings for a second, then answers, and waits for the other side to hang up.
    pub(crate) const PROMPT: Self = Self {
        behaviour: Behaviour::Answer { status: 180, after: Duration::from_secs(1) },
        hang_up_after: None,
        changes_after: None,
    };

    /// With this behaviour, and waiting for the other side to hang up.
    pub(crate) const fn of(behaviour: Behaviour) -> Self {
        Self { behaviour, hang_up_after: None, changes_after: None }
    }
}

/// How a phone answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Sends this provisional status, and 200 later.
    Answer {
        /// 180 or 183.
        status: u16,
        /// So long after the INVITE.
        after: Duration,
    },
    /// Sends 180 and this final status later.
    Refuse {
        /// 300-699.
        status: u16,
        /// So long after the INVITE.
        after: Duration,
    },
    /// Sends 302 with this Contact.
    Redirect(String),
    /// Sends 180 and never more.
    Ring,
    /// Sends 100 and never more.
    Try,
    /// Sends nothing at all.
    Silence,
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Sent the INVITE.
    Caller,
    /// Got it.
    Callee,
}

/// What a phone says happened. Calls have the script's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A REGISTER was answered 200, and its binding is among those listed.
    Registered {
        /// The contact's URI.
        contact: String,
        /// When the REGISTER was sent first.
        sent: Instant,
        /// For how long, as the server says.
        expires: Duration,
    },
    /// A REGISTER with Expires 0 was answered 200.
    Unregistered,
    /// A REGISTER was refused for good.
    RegisterRefused(u16),
    /// A REGISTER was not answered.
    RegisterTimedOut,
    /// A request was challenged.
    Challenged {
        /// Of the request.
        method: &'static str,
        /// Whether its dialog was there already.
        in_dialog: bool,
        /// Whether only its nonce was too old.
        stale: bool,
        /// Whether it carried credentials.
        had_credentials: bool,
    },
    /// A request with credentials of a nonce used before was accepted.
    NonceReused,
    /// The caller heard a provisional response other than 100.
    Progress { call: u32 },
    /// The caller got a final response other than 2xx.
    Failed { call: u32, status: u16 },
    /// The caller got no final response.
    TimedOut { call: u32 },
    /// The caller follows a 302.
    Redirected { call: u32 },
    /// The phone rings.
    Ringing { call: u32, bytes: usize },
    /// The callee answered 2xx.
    Answered { call: u32 },
    /// The callee was cancelled.
    Cancelled { call: u32 },
    /// The callee rang for ever and was not told that the call has ended.
    Forgotten { call: u32 },
    /// The callee sent its own final response other than 2xx.
    Refused { call: u32 },
    /// The call is up: the caller has the 2xx, or the callee the ACK.
    Established { call: u32, role: Role },
    /// The caller got a 2xx that it does not want, and hangs up.
    Surplus { call: u32, crossed_cancel: bool },
    /// No ACK came for a 2xx.
    NoAck { call: u32 },
    /// A re-INVITE was answered.
    Reinvited { call: u32, status: u16 },
    /// Our BYE was answered, or not (0).
    HungUp { call: u32, role: Role, status: u16 },
    /// The other side hung up.
    HeardHangUp { call: u32, role: Role },
    /// A PRACK, REFER, NOTIFY or UPDATE of ours was answered, or not (0).
    Within { call: u32, role: Role, method: &'static str, status: u16 },
    /// One came.
    HeardWithin { call: u32, role: Role, method: &'static str },
    /// A keepalive was answered.
    KeepaliveAnswered,
    /// Our ping on a connection was answered.
    Ponged,
    /// Our STUN request was answered with this address.
    Mapped(SocketAddr),
    /// An answer to an OPTIONS.
    OptionsAnswered(u16),
    /// Something that no correct server does.
    Unexpected(String),
}

/// What a phone asks of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send a datagram.
    Datagram { to: SocketAddr, bytes: Vec<u8> },
    /// Open a connection; the phone is told which by `handle_opening` at once.
    Open { to: SocketAddr },
    /// Write to a connection.
    Write { stream: StreamId, bytes: Vec<u8> },
    /// Close a connection.
    Close { stream: StreamId },
    /// Tell the world.
    Fact(Fact),
}

impl Fact {
    /// The call that it is about.
    pub(crate) fn call(&self) -> Option<u32> {
        match self {
            Self::Progress { call }
            | Self::Failed { call, .. }
            | Self::TimedOut { call }
            | Self::Redirected { call }
            | Self::Ringing { call, .. }
            | Self::Answered { call }
            | Self::Cancelled { call }
            | Self::Forgotten { call }
            | Self::Refused { call }
            | Self::Established { call, .. }
            | Self::Surplus { call, .. }
            | Self::NoAck { call }
            | Self::Reinvited { call, .. }
            | Self::HungUp { call, .. }
            | Self::HeardHangUp { call, .. }
            | Self::Within { call, .. }
            | Self::HeardWithin { call, .. } => Some(*call),
            _ => None,
        }
    }
}

impl Answering {
    /// How long it waits before its last word; zero if it says none.
    pub(crate) fn after(&self) -> Duration {
        match self.behaviour {
            Behaviour::Answer { after, .. } | Behaviour::Refuse { after, .. } => after,
            _ => Duration::ZERO,
        }
    }
}

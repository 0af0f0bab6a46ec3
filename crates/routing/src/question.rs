//! What a call shard asks an account partition, and what it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::Aor;
use transport::{Source, Transport};

use crate::bans::Evidence;
use crate::{Account, Algorithm, Anchoring, BindingId, CallName, Gruus, Phone, Target};

/// Names a suspended request in its shard. It is never used twice in one boot; an answer with a token
/// that is not waited for is discarded and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Asked of the partition that owns an address of record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is the request from whom its credentials say? Asked of the partition of [`Authenticate::account`].
    Authenticate(Box<Authenticate>),
    /// Change or list the bindings; the sender's right to do so was checked before.
    Register(Box<Register>),
    /// Where can this address of record be reached?
    Locate(Aor),
    /// Where is a call for this address of record to go? As [`Question::Locate`], with what its account wants.
    Call(Aor),
    /// Where can this one phone of it be reached? Its flows come newest first.
    LocatePhone(Aor, Phone),
    /// Where can this address of record be reached, as soon as one of its phones registers? Only that is answered, until this
    /// time from now.
    AwaitReturn(Aor, Duration),
    /// A call that counted for the limit of this account has ended.
    CallEnded(Aor, CallName),
    /// A call that began at another node counts for the limit of this account, whatever that is.
    CallGoesOn(Aor, CallName),
    /// May a gateway, by its [`calls_key`](crate::Gateway::calls_key), have this call beside at most so many others?
    EnterGateway(Aor, CallName, u32),
    /// A call is not at this gateway any more.
    LeaveGateway(Aor, CallName),
}

/// Told to the shard that asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Authenticate`].
    Authenticated(Authenticated),
    /// To [`Question::Register`].
    Registered(Result<Registered, RegisterRefusal>),
    /// To [`Question::EnterGateway`]: it has the call, and its end is to be told by [`Question::LeaveGateway`].
    AtGateway(Aor, CallName),
    /// To [`Question::EnterGateway`]: it has as many as it may have.
    GatewayFull,
    /// To [`Question::CallEnded`], [`Question::CallGoesOn`] and [`Question::LeaveGateway`].
    Noted,
    /// To [`Question::Locate`], [`Question::Call`], [`Question::LocatePhone`] and [`Question::AwaitReturn`].
    Located(Located),
    /// To [`Output::FindElsewhere`](crate::call::Output::FindElsewhere): servers beside this one that the user is registered at.
    Elsewhere(Vec<(Transport, SocketAddr)>),
}

/// Credentials of our realm, whose nonce this server made (its MAC was verified), and what they must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticate {
    /// Where the request came from.
    pub source: Source,
    /// Whether the nonce shows that its sender is there.
    pub evidence: Evidence,
    /// The account: user part of the digest username, and the domain.
    pub account: Aor,
    /// The digest username as sent, unquoted: HA1 is checked for the account, this goes to the logs.
    pub username: Bytes,
    /// The address of record that the account must own: To of a REGISTER, From of all else.
    pub owns: Aor,
    /// The request's method.
    pub method: Bytes,
    /// The digest's `uri`, unquoted, byte for byte.
    pub uri: Bytes,
    /// The digest's algorithm.
    pub algorithm: Algorithm,
    /// The nonce, unquoted.
    pub nonce: Bytes,
    /// Until when the nonce is good: the shard refused one that is too old already.
    pub nonce_left: Duration,
    /// `qop`, `nc` and `cnonce`; `None` is the old form without quality of protection.
    pub quality: Option<Quality>,
    /// The digest's `response`, hex.
    pub response: Bytes,
    /// The call that the request begins.
    pub call: Option<CallName>,
}

/// RFC 7616 §3.4: the part of the credentials that only `qop` has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quality {
    /// `auth` or `auth-int`, as sent.
    pub qop: Bytes,
    /// The eight hex digits as sent.
    pub nc: Bytes,
    /// Its value.
    pub count: u32,
    /// The client's nonce.
    pub cnonce: Bytes,
    /// For `auth-int`: the body's hash in lower-case hex by the digest's algorithm.
    pub body_hash: Option<Bytes>,
}

/// The verdict over credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticated {
    /// They are right, and the account owns what it must.
    Yes,
    /// They are right, and what the account must own is another name of it. A REGISTER is for this address
    /// of record instead: there the bindings of all its names are kept. Else it is as good as `Yes`.
    Alias(Aor),
    /// The account is unknown or the response is wrong: challenge again.
    No,
    /// It was not checked, because too many were wrong before: no answer.
    Slowed,
    /// They are right, but the account has begun too many calls just now, or has as many as it may have: 403.
    TooManyCalls,
    /// The response is right but the nonce was used up, or the nonce was sent to somebody else and is not believed here:
    /// challenge with `stale=true`.
    Stale,
    /// The response is right, but the account owns neither this address of record nor may it use it: 403.
    NotOwner,
    /// The call counts for the limit of the account: its end is to be told by [`Question::CallEnded`].
    Counted {
        /// All else.
        verdict: Box<Authenticated>,
        /// The account, as it was asked for.
        account: Aor,
        /// The call.
        call: CallName,
    },
    /// A call whose account has a rule of its own for media.
    Ruled {
        /// All else.
        verdict: Box<Authenticated>,
        /// Whether its media pass the relay.
        relay: Anchoring,
    },
    /// The store could not be asked: 500 with Retry-After.
    Unavailable,
}

/// Who decides over a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// This registrar.
    Here,
    /// The registrar behind this edge, which has accepted it: it is noted as it was accepted.
    Elsewhere,
}

/// A REGISTER that passed digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Who decides.
    pub authority: Authority,
    /// To, canonical.
    pub aor: Aor,
    /// Where the request came from.
    pub source: Source,
    /// What it wants.
    pub contacts: Contacts,
    /// The `Expires` header field.
    pub expires: Option<u32>,
    /// The `Path` values, topmost first.
    pub path: Vec<Bytes>,
    /// Call-ID.
    pub call_id: Bytes,
    /// The number in CSeq.
    pub cseq: u32,
    /// `User-Agent`.
    pub user_agent: Option<Bytes>,
    /// Whether the phone sits behind NAT.
    pub nat: bool,
    /// Whether RFC 5626 is in force: the phone supports `outbound`, and so does its first hop, be it this
    /// server or the first proxy in the Path. Without it `reg-id` is ignored.
    pub outbound: bool,
    /// Whether the phone wants to be told its GRUUs.
    pub gruu: bool,
    /// Hash of the digest `response`, 0 without one.
    pub response_hash: u64,
    /// What its right to be carried out is.
    pub right: RegisterRight,
}

/// What the right of a REGISTER is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterRight {
    /// Its sender has proved itself for this request.
    Proved,
    /// Its proof was used before. It is answered only if it is that very request, which was carried out by this node before
    /// a restart, or by another one: the 200 to it may be lost.
    Repeats,
}

/// The Contact header fields of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts {
    /// None: a query.
    Query,
    /// `*` with `Expires: 0`.
    RemoveAll,
    /// One or more.
    Update(Vec<ContactUpdate>),
}

/// One Contact of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactUpdate {
    /// The URI, byte for byte.
    pub uri: Bytes,
    /// In thousandths.
    pub q: Option<u16>,
    /// In seconds.
    pub expires: Option<u32>,
    /// RFC 5626 `+sip.instance`, without quotes.
    pub instance: Option<Bytes>,
    /// RFC 5626 `reg-id`.
    pub reg_id: Option<u32>,
}

/// The bindings after a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// All of the address of record, in the order of their registration.
    pub contacts: Vec<RegisteredContact>,
    /// Whether a binding of this request is an RFC 5626 flow: `Require: outbound` and `Flow-Timer` go out.
    pub is_outbound: bool,
}

/// One binding in a 200 to REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredContact {
    /// The binding.
    pub binding: BindingId,
    /// The URI, byte for byte.
    pub uri: Bytes,
    /// Seconds left.
    pub expires: u32,
    /// In thousandths.
    pub q: Option<u16>,
    /// RFC 5626 `+sip.instance`, without quotes.
    pub instance: Option<Bytes>,
    /// RFC 5626 `reg-id`.
    pub reg_id: Option<u32>,
    /// Its GRUUs, if it wants them and has an instance.
    pub gruus: Option<Gruus>,
}

/// Why a REGISTER changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterRefusal {
    /// 423 with Min-Expires.
    IntervalTooBrief {
        /// In seconds.
        min: u32,
    },
    /// Out of order (RFC 3261 §10.3 step 6 and 7): 500.
    OutOfOrder,
    /// It is not the request that it would have to be, see [`RegisterRight::Repeats`]: it is challenged.
    NotRepeated,
    /// More contacts than one address of record may have: 403.
    TooManyContacts,
    /// A contact that is no URI or is too long for a binding, more than one contact with a `reg-id` among
    /// them (RFC 5626 §6), or `*` without `Expires: 0`: 400.
    Malformed,
    /// No such account: 404.
    UnknownAor,
    /// The partition is full, or the store can not be asked: 503.
    Unavailable,
}

/// Where an address of record can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// By these, best `q` first; empty: known, but nowhere registered (480).
    Targets(Vec<Target>),
    /// The same, for a call to an account that has rules for its calls.
    Ruled(Vec<Target>, Arc<Account>),
    /// It is another name of this address of record, which knows the targets: locate that one, once.
    Alias(Aor),
    /// There is no such account (404).
    UnknownAor,
    /// The store could not be asked (500).
    Unavailable,
}

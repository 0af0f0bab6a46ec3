//! What is known of an address of record: the account, and its bindings as others see them.

use std::net::SocketAddr;

use bytes::Bytes;
use clock::WallTime;
use sip::Aor;
use transport::{ListenerId, LocalAddr, Transport};

use crate::{Algorithm, Anchoring, Forwards};

/// A subscriber as the store has it. It holds hashes and never a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its address of record; the digest username is the user part, the whole text is accepted too.
    pub aor: Aor,
    /// HA1 (RFC 7616 §3.4.2) in lower-case hex for each algorithm that the store has.
    pub ha1: Vec<(Algorithm, Box<str>)>,
    /// Addresses of record that are this account under another name: it registers and calls as them.
    pub aliases: Vec<Aor>,
    /// Addresses of record that it may also call and register as.
    pub may_use: Vec<Aor>,
    /// What becomes of its calls.
    pub calls: CallRules,
}

/// What an operator has set for the calls of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRules {
    /// Where they go instead.
    pub forwards: Forwards,
    /// How many it may make at a time; `None`: as the settings say.
    pub limit: Option<u32>,
    /// Whether the media of calls from it and to it pass the relay; `None`: as the settings say.
    pub relay: Option<Anchoring>,
}

impl CallRules {
    /// Whether calls to the account are like those to any other.
    pub fn is_default(&self) -> bool {
        self.forwards.is_empty() && self.relay.is_none()
    }
}

/// One binding within its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingId(pub u64);

/// Where one binding of an address of record can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address of record.
    pub aor: Aor,
    /// The URI that was registered: it becomes the Request-URI.
    pub contact: Bytes,
    /// RFC 3327 §5.3: the Path values, topmost first; they become Route.
    pub path: Vec<Bytes>,
    /// The flow it was registered over, if that flow can still be used.
    pub flow: Option<transport::Flow>,
    /// The listener it registered on; it sends to it whatever the flow's state.
    pub listener: Option<ListenerId>,
    /// Whether the phone sits behind NAT: only its flow reaches it.
    pub nat: bool,
    /// Preference in thousandths (RFC 3261 §20.10), 1000 where none was given.
    pub q: u16,
    /// RFC 5626 `+sip.instance`, without quotes.
    pub instance: Option<Bytes>,
    /// RFC 5626 `reg-id`.
    pub reg_id: Option<u32>,
}

/// A binding as servers beside this one are to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedBinding {
    /// As it is written down.
    pub stored: StoredBinding,
    /// The Path value that leads to the phone by way of this server; before those of the phone's own Path.
    pub path: Bytes,
}

/// A binding as it is written down. Listeners are named by what they are, because their numbers do not
/// survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBinding {
    /// The address of record.
    pub aor: Aor,
    /// The URI that was registered.
    pub contact: Bytes,
    /// Transport and address of the listener it registered on.
    pub listener: (Transport, LocalAddr),
    /// The address it was seen to come from.
    pub received: SocketAddr,
    /// The Path values, topmost first.
    pub path: Vec<Bytes>,
    /// RFC 5626 `+sip.instance`, without quotes.
    pub instance: Option<Bytes>,
    /// RFC 5626 `reg-id`.
    pub reg_id: Option<u32>,
    /// Preference in thousandths, if one was given.
    pub q: Option<u16>,
    /// Call-ID of the last REGISTER.
    pub call_id: Bytes,
    /// CSeq number of the last REGISTER.
    pub cseq: u32,
    /// `User-Agent` of the last REGISTER.
    pub user_agent: Option<Bytes>,
    /// Whether the phone sits behind NAT.
    pub nat: bool,
    /// What makes a repeated REGISTER a retransmission: a hash of its digest `response`, 0 without one.
    pub response_hash: u64,
    /// When it ends.
    pub expires_at: WallTime,
}

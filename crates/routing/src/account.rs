//! The account side of routing: all that belongs to an address of record.
//!
//! An [`AccountPartition`] owns the addresses of record that hash to it: their bindings (RFC 3261
//! §10), the accounts it was told of, the counts of the digest nonces they used (RFC 7616 §3.4), and
//! the keepalives that hold their NAT mappings open. It is asked by call shards and answers by
//! [`Output::Answer`], at once where memory knows the answer, else when the store has been asked.
//!
//! The parts, each of which knows nothing of the others: `accounts` remembers what the store said and
//! who waits for it; `verify` computes digests; `nonce_counts` tells a used nonce count from an
//! unused one; `failures` slows down who guesses, and `call_rate` who calls too often; `location` holds bindings; `registrar` decides over a REGISTER; `keepalive` writes the
//! requests and keeps score. `partition` lets them work together.

mod accounts;
mod aor_table;
mod binding;
mod binding_capsule;
mod binding_text;
mod cache;
mod call_rate;
mod calls;
mod failures;
mod import;
mod keepalive;
mod location;
mod nonce_capsule;
mod nonce_counts;
mod partition;
mod places;
mod preference;
mod registrar;
mod returns;
#[cfg(test)]
mod scenarios;
mod standby;
mod turn;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::WallTime;
use sip::Aor;
use transport::{Destination, LocalAddr, Transport};

use crate::{Account, Answer, Report, StoredBinding, Token};

pub use binding_capsule::{FORMAT as BINDING_FORMAT, Unreadable};
pub use failures::SlowedName;
pub use import::Imported;
pub use nonce_capsule::FORMAT as NONCE_FORMAT;
pub use nonce_counts::NonceChange;
pub use partition::AccountPartition;

/// No longer address of record is looked up or registered: who sends one is not one of ours.
const AOR_BYTES_MAX: usize = 512;

/// What a partition wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give the answer to the shard that asked.
    Answer {
        /// Who asked.
        asker: Asker,
        /// What it is told.
        answer: Answer,
    },
    /// Ask the store for the account of an address of record, or for the one that has it as an alias.
    /// It is asked once however many wait; [`AccountPartition::handle_account`] takes the reply.
    LoadAccount(Aor),
    /// Write a change down. The order of one address of record's changes matters.
    Save(Change),
    /// Send a keepalive. If it can not be sent, it is as if it was not answered.
    Send {
        /// Where; always a flow that is there.
        to: Destination,
        /// The whole message.
        message: Bytes,
    },
    /// Tell the bans what a source did.
    Report(Report),
}

/// A request that waits in a call shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// The shard.
    pub shard: u16,
    /// The request in it.
    pub token: Token,
}

/// What the store said about an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// This account has the address of record, as its own or as an alias.
    Found(Arc<Account>),
    /// The store could not be asked, but this account had it when it could.
    Kept(Arc<Account>),
    /// No account has it.
    NotFound,
    /// The store could not be asked.
    Unavailable,
}

/// A change of the bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The binding is new, or replaces the one with the same [`BindingKey`].
    Put(Box<StoredBinding>),
    /// The binding has ended.
    Remove(BindingKey),
}

/// What tells two stored bindings apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    /// The address of record.
    pub aor: Aor,
    /// The URI that was registered, byte for byte.
    pub contact: Bytes,
    /// `+sip.instance` and `reg-id` of an RFC 5626 flow: a phone may register one URI over several flows.
    /// Absent for every other binding, also where the phone sent an instance.
    pub flow: Option<(Bytes, u32)>,
}

/// The counts that were used with one nonce, as they are written down. They belong to the partition of
/// `account`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNonce {
    /// The account that used the nonce.
    pub account: Aor,
    /// Stands for the nonce.
    pub nonce: [u8; 16],
    /// The highest count that was used.
    pub highest: u32,
    /// Which counts were used: bit `n` stands for `highest - n`.
    pub used: u64,
    /// When the nonce ends.
    pub expires_at: WallTime,
}

/// A binding as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingView {
    /// The address of record.
    pub aor: Aor,
    /// The URI that was registered.
    pub contact: Bytes,
    /// The address it was seen to come from.
    pub received: SocketAddr,
    /// The listener it registered on.
    pub listener: (Transport, LocalAddr),
    /// Whether that listener is there and, for a connection, still open.
    pub is_reachable: bool,
    /// How long it still lasts.
    pub expires: Duration,
    /// Preference in thousandths, if one was given.
    pub q: Option<u16>,
    /// RFC 5626 `+sip.instance`, without quotes.
    pub instance: Option<Bytes>,
    /// RFC 5626 `reg-id`.
    pub reg_id: Option<u32>,
    /// The Path values, topmost first.
    pub path: Vec<Bytes>,
    /// `User-Agent` of the last REGISTER.
    pub user_agent: Option<Bytes>,
    /// Whether the phone sits behind NAT.
    pub nat: bool,
}

impl BindingKey {
    /// The key of a stored binding.
    pub fn of(binding: &StoredBinding) -> Self {
        let flow = binding.reg_id.map(|reg_id| (binding.instance.clone().unwrap_or_default(), reg_id));
        Self { aor: binding.aor.clone(), contact: binding.contact.clone(), flow }
    }
}

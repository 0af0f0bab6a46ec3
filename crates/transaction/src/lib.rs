//! The transaction layer: the four machines of RFC 3261 §17, with the corrections of RFC 6026 and
//! RFC 4320, and the table that holds them.
//!
//! A *server transaction* stands for one request that came in: it absorbs the request's
//! retransmissions, repeats the response that was given last, and sees to it that a final response
//! to an INVITE is acknowledged. A *client transaction* stands for one request that was sent: it
//! repeats the request until there is a response, gives each response to the transaction user once,
//! and acknowledges a final response to an INVITE that is not a 2xx.
//!
//! [`Transactions`] holds all of one call shard. It never looks into a message further than the
//! [`ServerKey`] or [`ClientKey`] by which it is found; what is sent are bytes that the transaction
//! user made, and `D` is where they go: carried, never understood. The exception is the ACK to a
//! final response other than 2xx, which is made here, as RFC 3261 §17.1.1.3 has it.
//!
//! | machine | file | timers |
//! |---|---|---|
//! | INVITE client | `invite_client.rs` | A, B, D, M |
//! | non-INVITE client | `non_invite_client.rs` | E, F, K |
//! | INVITE server | `invite_server.rs` | G, H, I, L |
//! | non-INVITE server | `non_invite_server.rs` | J, and the end of a request that nobody answers |
//!
//! Invariant: each transaction that was begun ends, except an INVITE server transaction in
//! Proceeding and an INVITE client transaction in Proceeding: how long a phone may ring is the
//! transaction user's to say. Its last word is `Terminated`, said once, unless the transaction user
//! itself ended it.
//!
//! Each can be stored and restored elsewhere ([`StoredServer`], [`StoredClient`]); which of them have changed is noted if
//! somebody wants to know ([`Transactions::note_changes`]).
//!
//! Invariant: a transaction has at most one alarm, so that the memory of the timers is bounded by
//! the number of transactions.

mod alarms;
mod changes;
mod client;
mod counters;
mod invite_client;
mod invite_server;
mod key;
mod non_invite_client;
mod non_invite_server;
mod output;
#[cfg(test)]
mod script;
mod server;
mod stored;
mod table;
mod timers;
mod transactions;

pub use counters::Counters;
pub use key::{ClientKey, ServerKey};
pub use output::{ClientEvent, Disposition, Output, ResponseDisposition, ServerEvent};
pub use server::{Arrival, Progress};
pub use stored::{ClientState, Repeat, ServerState, StoredClient, StoredServer};
pub use table::Full;
pub use timers::Timers;
pub use transactions::{Kind, Limits, NoTransaction, Transactions};

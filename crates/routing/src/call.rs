//! The transaction user of a call shard: it decides what becomes of each request (RFC 3261 §10, RFC 3261 §16).
//!
//! A request passes stages: it is checked ([`validation`]), its Route is read ([`route`]), it is admitted
//! ([`admission`]: digest, a trusted peer, or the token of a dialog), aimed ([`target`]) and forwarded
//! ([`forward`]) in one or more [`round`]s of branches, whose responses meet in a [`response_context`]. A stage that
//! must wait for an account, a location or a name suspends the request ([`suspended`]) and returns; the
//! answer takes it up again from the request's own bytes.
//!
//! Before admission nothing is promised: refusals keep no state, and their To tag is derived so that the
//! ACK is known again. After admission an INVITE gets its 100.
//!
//! Invariant: what a stranger sends leaves this server only for a phone of our own domains, and only if
//! the stranger proved to be one of our users; or within a dialog whose token this server sealed.

mod admission;
mod aim;
pub(crate) mod beside;
mod branch;
mod branches;
mod cancel;
mod carrier_call;
mod challenge;
mod client_branch;
mod date;
mod dial;
mod dialog;
mod dialog_token;
mod diversion;
mod edge;
mod elsewhere;
mod failover;
mod flow_token;
mod forward;
mod gateway_calls;
mod inbound;
mod layout;
mod lead;
mod leg;
mod listener_mark;
mod live_calls;
mod mask;
mod media;
mod nat;
mod nonce;
mod orphan;
mod output;
mod own;
mod own_request;
mod proxy;
mod record_route;
mod register;
mod reply;
mod response_context;
mod responses;
mod round;
mod route;
pub(crate) mod seal;
mod search;
mod session;
mod standby;
mod stored;
mod suspended;
mod tag;
mod target;
mod trunks;
mod turned_away;
mod user;
mod validation;

#[cfg(test)]
mod tests;

pub use live_calls::{CallState, CallView, StoredDialog};
pub use media::{Anchoring, MediaAsk, MediaEnd, MediaRefusal, MediaSide, MediaWithin, RelayRules};
pub use output::Output;
pub use own::is_own;
pub use standby::Readiness;
pub use stored::StoredCall;
pub use user::TransactionUser;

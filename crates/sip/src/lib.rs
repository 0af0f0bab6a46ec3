//! SIP's syntax: bytes to messages and back (RFC 3261 §7, RFC 3261 §19, RFC 3261 §20, RFC 3261 §25). It knows
//! neither time nor sockets, and no rule of a transaction, a registrar or a proxy.
//!
//! A [`Message`] borrows the bytes it came in. Framing finds the lines and their names, typed values are read when
//! they are asked for, and an [`Editor`] copies all that is not edited byte for byte. So a header that nobody here
//! knows keeps its bytes and its place, whatever they are: UTF-8, Latin-1, folds, odd spacing.
//!
//! Nothing here allocates, but a [`Aor`], which is owned, an editor whose new text is long, and the caller's buffer.
//! All is linear in the bytes of the message, and every limit is in [`limits`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod aor;
mod auth;
mod call_id;
mod cseq;
mod editor;
mod error;
mod grammar;
mod host;
pub mod limits;
mod lines;
mod message;
mod method;
mod name;
mod name_addr;
mod params;
mod request;
mod response;
mod status;
mod stream;
mod uri;
mod via;
mod write;

pub use aor::Aor;
pub use auth::{AuthValue, Challenge, Credentials, Freshness, ReceivedChallenge, write_quoted};
pub use call_id::find_call_id;
pub use cseq::CSeq;
pub use editor::Editor;
pub use error::{Malformed, NotSip};
pub use host::Host;
pub use message::{ContactList, Contacts, Header, Message, RequestLine, StartLine, StatusLine};
pub use method::{Method, MethodName};
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::Params;
pub use request::{RequestBuilder, ack_for, cancel_for, cancel_with_reason};
pub use response::ResponseBuilder;
pub use status::Status;
pub use stream::{Framed, frame_stream, is_idle};
pub use uri::{SipUri, TelUri, Uri};
pub use via::{MAGIC_COOKIE, Via};

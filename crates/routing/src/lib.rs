//! Registrar (RFC 3261 §10), proxy (RFC 3261 §16), NAT traversal and digest authentication.
//!
//! Two machines share no state. [`TransactionUser`] belongs to a call shard and owns what belongs to
//! a call: response contexts and suspended requests. [`AccountPartition`] owns what belongs to an
//! address of record: bindings, cached accounts, nonce counts, keepalives. The first asks the second
//! by [`Question`] and gets an [`Answer`], perhaps much later: while it waits, the request is
//! suspended and nothing blocks.

pub mod account;
pub mod bans;
pub mod call;
pub mod dial_plan;
pub mod gateway;
pub mod overload;

mod binding;
mod call_name;
mod call_record;
mod capsule;
mod count;
mod digest;
mod forwards;
mod gruu;
mod keepalive_mark;
mod keyring;
mod question;
mod session_name;
mod settings;
mod trunk;

pub use account::AccountPartition;
pub use bans::{Admission, Bans, Report};
pub use binding::{Account, BindingId, CallRules, PublishedBinding, StoredBinding, Target};
pub use call::{
    Anchoring, CallState, CallView, MediaAsk, MediaEnd, MediaRefusal, MediaSide, MediaWithin, Readiness,
    RelayRules, StoredCall, StoredDialog, TransactionUser, is_own,
};
pub use call_name::CallName;
pub use call_record::{CallEnding, CallRecord, Party, Right};
pub use count::{Count, Counts};
pub use dial_plan::{DialPlan, Gateway, Route};
pub use forwards::{ForwardReason, ForwardTarget, Forwards};
pub use gruu::{Gruus, Phone};
pub use keepalive_mark::KeepaliveMark;
pub use keyring::Keyring;
pub use question::{
    Answer, Authenticate, Authenticated, Authority, ContactUpdate, Contacts, Located, Quality, Question,
    Register, RegisterRefusal, RegisterRight, Registered, RegisteredContact, Token,
};
pub use session_name::SessionName;
pub use settings::{
    Algorithm, Digest, Edge, EdgeContact, Keepalive, Nat, Proxy, Registrar, ServiceRoute, SessionTimers,
    Settings, TrustedPeer,
};
pub use trunk::{
    AtStop, Called, CarrierNews, Login, Password, Registration, RegistrationState, RegistrationView, Trunk,
};

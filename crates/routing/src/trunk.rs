//! Our own accounts at carriers: this server as the client of somebody else's registrar and proxy.
//!
//! A [`Trunk`] is what the operator set. A [`Registrant`](registrant::Registrant) keeps it registered, by REGISTERs
//! that the transaction user sends for it like any other request; a [`DigestClient`](digest_client::DigestClient)
//! answers what the carrier asks, of those and of the calls that go there. Each registration belongs to the one
//! shard that its Call-ID leads to, because that is where its responses arrive; what the others must know of it
//! they are told by [`CarrierNews`].

mod account;
mod digest_client;
mod login;
mod news;
mod register;
mod registrant;
mod registrants;
mod view;

pub use account::{AtStop, Called, Registration, Trunk};
pub(crate) use digest_client::{DigestClient, Origin, Proof, Proofs, Unanswered};
pub use login::{Login, Password};
pub use news::CarrierNews;
pub(crate) use register::contact;
pub(crate) use registrant::Outcome;
pub(crate) use registrants::{Change, Due, Registrants};
pub use view::{RegistrationState, RegistrationView};

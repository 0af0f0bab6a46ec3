//! One of our accounts at carriers, as the operator set it.

use std::sync::Arc;
use std::time::Duration;

use sip::Aor;
use transport::{LocalAddr, Transport};

use super::Login;

/// An account at a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// What the operator calls it. It has one of its own.
    pub name: Arc<str>,
    /// What proves that we are its owner.
    pub login: Login,
    /// How it is registered; `None` where the carrier knows our address, and only asks for digest.
    pub registration: Option<Registration>,
    /// Whom the carrier's calls are for; `None` lets none in.
    pub called: Option<Called>,
}

/// How an account is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The Request-URI of the REGISTER.
    pub registrar: String,
    /// The URI that is registered, in From and To.
    pub address: String,
    /// The user of our Contact.
    pub contact_user: String,
    /// How long it is wished to last.
    pub expires: Duration,
    /// The listener by which it leaves; `None`: any that can.
    pub listener: Option<(Transport, LocalAddr)>,
    /// The URI of a proxy that it goes through.
    pub proxy: Option<String>,
    /// What becomes of it when the server stops.
    pub at_stop: AtStop,
}

/// What becomes of a registration when the server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStop {
    /// It runs out by itself, so that a restart goes unnoticed.
    Stay,
    /// It is taken back.
    Remove,
}

/// Whom a carrier's calls are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Called {
    /// All of them for this address of record.
    One(Aor),
    /// For whoever has the number that was dialled as user of this domain.
    Dialled {
        /// In lower case.
        domain: String,
    },
}

impl Called {
    /// The address of record for a number that was dialled.
    pub(crate) fn by(&self, number: &str) -> Option<Aor> {
        match self {
            Self::One(aor) => Some(aor.clone()),
            Self::Dialled { domain } => Aor::parse(&format!("{number}@{domain}")),
        }
    }
}

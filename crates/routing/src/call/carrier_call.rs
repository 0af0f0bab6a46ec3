//! Calls that come in from a carrier at which we are registered.
//!
//! A carrier calls our Contact, or the number that was dialled at our address. It is known by the address that our
//! REGISTERs went to: that is worth a call to the account that the operator named, and nothing else.

use std::sync::Arc;

use sip::{Aor, Message, Uri};

use super::inbound::Inbound;
use super::proxy::Resource;
use super::user::TransactionUser;
use crate::Trunk;

/// Whose call it is, and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarrierCall {
    /// Our account at the carrier.
    pub(super) trunk: Arc<Trunk>,
    /// Whom it is for.
    pub(super) called: Aor,
}

impl TransactionUser {
    /// Finds out whether a request that begins something is a carrier's for one of us.
    pub(super) fn carrier_call(
        &self,
        inbound: &Inbound,
        request: &Message<'_>,
        resource: &Resource,
    ) -> Option<CarrierCall> {
        let Resource::User(target) = resource else { return None };
        let address = inbound.source.flow.remote().0.ip();
        let trunk = self.trunks.carrier_at(&inbound.settings, address, target.user())?;
        let is_contact = trunk
            .registration
            .as_ref()
            .is_some_and(|registration| registration.contact_user.eq_ignore_ascii_case(target.user()));
        // A trusted peer finds its way by itself, but for what only our registration names.
        if !is_contact && inbound.settings.trusted_peer(address).is_some() {
            return None;
        }
        let dialled = if is_contact { dialled(request) } else { None };
        let number = dialled.as_ref().map_or(target.user(), Aor::user);
        let called = trunk.called.as_ref()?.by(number)?;
        Some(CarrierCall { trunk: Arc::clone(trunk), called })
    }
}

/// Whom the caller dialled: where the Request-URI is our Contact, only To tells.
fn dialled(request: &Message<'_>) -> Option<Aor> {
    match request.to().ok()?.uri().ok()? {
        Uri::Sip(uri) => Aor::of(&uri),
        Uri::Tel(tel) => {
            let digits: Vec<u8> = tel.digits().collect();
            Aor::parse(&format!("{}@tel.invalid", String::from_utf8_lossy(&digits)))
        }
        Uri::Other { .. } => None,
    }
}

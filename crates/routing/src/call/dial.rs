//! Requests that are for none of our users: the dial plan says where they go.
//!
//! The plan is asked for `tel:` URIs, for users of our domains that are no account, and for what is for another
//! server if a route names that server's domain. Each gateway of a route is one round, so that the next one is
//! tried where one fails at the call.

use std::sync::Arc;

use sip::{Aor, SipUri, Status, Uri};

use super::aim::{Aim, Size};
use super::inbound::{Inbound, Sender};
use super::lead::{Lead, Plan};
use super::leg::Leg;
use super::own::is_own;
use super::reply::Reply;
use super::round::Round;
use super::suspended::Located as Look;
use super::user::TransactionUser;
use crate::dial_plan::{self, Call, Dialled, Goal, Origin};
use crate::{Count, Gateway, Route};

impl TransactionUser {
    /// Where the dial plan leads; where it says nothing there is nobody of that name.
    pub(super) fn dial(&mut self, inbound: &Inbound) -> Lead {
        let lead = self.dialled(inbound);
        match &lead {
            Some(Lead::Try(_)) => self.counts.add(Count::RoutedToGateway),
            Some(Lead::Refuse(_)) => self.counts.add(Count::RouteRefused),
            Some(Lead::Ask(..)) | None => {}
        }
        lead.unwrap_or_else(|| Lead::Refuse(Reply::new(Status::NOT_FOUND)))
    }

    /// The same for somebody who may be an account, as long as nobody can say: who has no phone here. A route goes on to a
    /// gateway; where none does, the answer has to wait for the store.
    pub(super) fn dial_unasked(&mut self, inbound: &Inbound) -> Lead {
        match self.dialled(inbound) {
            Some(lead @ Lead::Try(_)) => {
                self.counts.add(Count::RoutedToGateway);
                lead
            }
            _ => Lead::Refuse(Reply::later(Status::SERVER_INTERNAL_ERROR)),
        }
    }

    /// Whether a request for another server is the dial plan's: a route names that server's domain, or the server is one
    /// of the gateways, to which nothing but a route leads, or the request comes from a gateway, which gets nowhere else.
    pub(super) fn is_dialled(&self, inbound: &Inbound) -> bool {
        let plan = &inbound.settings.dial_plan;
        if plan.gateways.is_empty() && plan.routes.is_empty() || inbound.routed.next.is_some() {
            return false;
        }
        names_gateway(inbound, &inbound.routed.request_uri)
            || matches!(origin(inbound), Some(Origin::Gateway(_)))
            || self.dialled(inbound).is_some()
    }

    /// Whether a Route of the sender's own leads where only the dial plan leads.
    pub(super) fn is_led_around_routes(inbound: &Inbound) -> bool {
        let Some(next) = &inbound.routed.next else { return false };
        names_gateway(inbound, next) || matches!(origin(inbound), Some(Origin::Gateway(_)))
    }

    /// Where the dial plan leads a request; `None` where no route fits.
    fn dialled(&self, inbound: &Inbound) -> Option<Lead> {
        let settings = &inbound.settings;
        let uri = Uri::parse(&inbound.routed.request_uri).ok()?;
        let dialled = Dialled::of(&uri)?;
        let listener = settings.listeners.get(inbound.source.flow.listener())?;
        let call = Call {
            dialled: &dialled,
            is_own: uri.as_sip().is_none_or(|uri| is_own(settings, uri)),
            listener: (listener.transport, listener.local.0),
            source: inbound.source.flow.remote().0.ip(),
            origin: origin(inbound)?,
        };
        let route = settings.dial_plan.find(&call)?;
        tracing::debug!(route = %route.name, number = %dialled.number, "routed");
        let number = route.rewrite.apply(&dialled.number);
        Some(match &route.goal {
            Goal::Reject(status) => Lead::Refuse(Reply::new(*status)),
            Goal::User { user, domain } => {
                let user = user.as_deref().unwrap_or(&number);
                match Aor::parse(&format!("{user}@{domain}")) {
                    Some(aor) => Lead::Ask(aor, Look::Routed),
                    None => Lead::Refuse(Reply::new(Status::NOT_FOUND)),
                }
            }
            Goal::Gateways(lists) => {
                let message = inbound.message();
                let call_id = message.as_ref().and_then(|message| message.call_id().ok()).unwrap_or_default();
                let ordered = dial_plan::order(&self.keyring.branch, call_id, lists, &self.verdicts);
                match ordered.is_empty() {
                    // Every gateway of the route is taken out of service.
                    true => Lead::Refuse(Reply::later(Status::SERVICE_UNAVAILABLE)),
                    false => {
                        let aims = ordered.into_iter().map(|gateway| aim(inbound, route, gateway, &number));
                        Lead::Try(Plan::of(aims.map(Round::at_server).collect()))
                    }
                }
            }
        })
    }
}

fn names_gateway(inbound: &Inbound, uri: &[u8]) -> bool {
    let named = |uri: &SipUri<'_>| {
        let plan = &inbound.settings.dial_plan;
        plan.is_gateway(&uri.host) || uri.maddr().is_some_and(|maddr| plan.is_gateway(&maddr))
    };
    SipUri::parse(uri).is_ok_and(|uri| named(&uri))
}

/// Who sent a request, for the dial plan; `None` for what belongs to a dialog. What a user of ours forwards goes on in
/// that user's name.
fn origin(inbound: &Inbound) -> Option<Origin<'_>> {
    if let Some(diversion) = inbound.diversions.last() {
        return Some(Origin::User(&diversion.by));
    }
    match inbound.sender.as_ref()? {
        Sender::Account { account, .. } => Some(Origin::User(account)),
        Sender::Trusted => {
            let gateway = inbound.settings.dial_plan.gateway_at(inbound.source.flow.remote().0.ip());
            Some(gateway.map_or(Origin::Believed, |gateway| Origin::Gateway(&gateway.name)))
        }
        Sender::Open => Some(Origin::Believed),
        Sender::Carrier(trunk) => {
            let is_at = |gateway: &&Arc<Gateway>| gateway.registration.as_deref() == Some(&*trunk.name);
            let gateway = inbound.settings.dial_plan.gateways.iter().find(is_at);
            Some(gateway.map_or(Origin::Believed, |gateway| Origin::Gateway(&gateway.name)))
        }
        Sender::Dialog | Sender::ToRegistrar | Sender::ByFlow | Sender::Ourselves(_) | Sender::ForAnEnd => {
            None
        }
    }
}

/// The aim at a number behind a gateway.
fn aim(inbound: &Inbound, route: &Arc<Route>, gateway: Arc<Gateway>, number: &str) -> Aim {
    let via = gateway.via.and_then(|via| via.find(&inbound.settings.listeners));
    let mut aim = Aim::at_uri(gateway.number_uri(number), Size::Counts);
    aim.listener = via;
    let trunk = gateway.registration.as_deref().and_then(|name| inbound.settings.trunk(name));
    aim.account = trunk.cloned();
    aim.leg = Some(Arc::new(Leg { gateway, route: Arc::clone(route) }));
    aim
}

//! A node that is not active, as somebody sees it who asks it by an address of its own.
//!
//! On the virtual address it is silent; on others it says that it is a standby, so that a monitor can ask it and a phone
//! that was set to the wrong address is not left without an answer. It keeps nothing of what it is asked, and a request
//! that is repeated is answered again.

use bytes::Bytes;
use clock::{Deadlines, Now};
use hashbrown::HashMap;
use sip::{Message, Method, Status};
use transport::Source;

use super::Output;
use super::proxy::{Resource, resource};
use super::reply::Reply;
use super::suspended::fixed_hasher;
use super::target;
use super::user::TransactionUser;
use crate::bans::Deed;
use crate::{Count, Report};

/// Whether this node could become active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It could.
    Ready,
    /// It could not take over what the active node has.
    NotReady,
}

impl TransactionUser {
    /// Forgets what was in hand: another node may be active. What is known of carriers, gateways and dead servers stays.
    pub fn stand_by(&mut self) {
        self.waiting.forget_all();
        self.contexts = HashMap::with_hasher(fixed_hasher());
        self.by_client = HashMap::with_hasher(fixed_hasher());
        self.deadlines = Deadlines::default();
        self.live.stand_by();
        self.errands.forget();
        self.changes.forget();
        self.dialog_changes.forget();
        self.trunks.registrants.stand_by();
    }

    /// Answers a request, which was validated and whose top Via is stamped, as a node that is not active. It came by an
    /// address of this node's own, and the answer goes back there.
    pub fn answer_as_standby(
        &mut self,
        now: Now,
        source: Source,
        request: Bytes,
        readiness: Readiness,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(&request) else { return self.counts.add(Count::Malformed) };
        // RFC 3261 §17.1.1.3: an ACK has no response.
        if message.method() == Some(Method::Ack) {
            return;
        }
        let Ok(via) = message.top_via() else { return self.counts.add(Count::Malformed) };
        if let Some(evidence) = self.scanner(now, &source, &message) {
            self.counts.add(Count::Scanner);
            return out.push(Output::Report(Report { flow: source.flow, evidence, deed: Deed::Scanner }));
        }
        let is_for_ourselves = message.method() == Some(Method::Options)
            && self
                .inbound(source, &request, &message)
                .is_ok_and(|inbound| resource(&inbound) == Resource::Ourselves);
        // RFC 3261 §21.5.4: a client may try elsewhere, and here again after a while.
        let reply = match readiness {
            Readiness::Ready if is_for_ourselves => target::for_ourselves(&message),
            Readiness::NotReady if is_for_ourselves => {
                Reply::later(Status::SERVICE_UNAVAILABLE).because("Standby Not Ready")
            }
            Readiness::Ready | Readiness::NotReady => {
                Reply::later(Status::SERVICE_UNAVAILABLE).because("Standby")
            }
        };
        self.counts.add(Count::AnsweredAsStandby);
        let to = transport::response_destination(&via, &source);
        let message = reply.write(&message, &self.keyring, &self.settings);
        out.push(Output::SendStateless { to, message });
    }
}

//! A request that is refused because more comes than can be handled: it is answered from itself.

use bytes::Bytes;
use clock::Now;
use sip::{Message, Name, Status};
use transport::Source;

use super::Output;
use super::reply::Reply;
use super::user::TransactionUser;
use crate::Count;
use crate::overload::Rejection;

impl TransactionUser {
    /// Refuses a request, which was validated and whose top Via is stamped, and keeps nothing of it. It proves nothing
    /// against its sender.
    pub fn turn_away(
        &mut self,
        _now: Now,
        source: Source,
        request: &Bytes,
        refusal: Rejection,
        out: &mut Vec<Output>,
    ) {
        let Ok(message) = Message::parse(request) else { return self.counts.add(Count::Malformed) };
        let Ok(via) = message.top_via() else { return self.counts.add(Count::Malformed) };
        // RFC 3261 §21.5.4: overloaded for the moment; RFC 3261 §20.33: when the sender may come back.
        let mut reply = Reply::new(Status::SERVICE_UNAVAILABLE).because("Overloaded");
        if let Some(seconds) = refusal.retry_after {
            reply = reply.with(Name::RetryAfter, seconds.to_string());
        }
        self.counts.add(refusal.class.count());
        let to = transport::response_destination(&via, &source);
        let message = reply.write(&message, &self.keyring, &self.settings);
        out.push(Output::SendStateless { to, message });
    }
}

//! How a phone sends its requests: with credentials where it knows a nonce, and again where it is asked.

use bytes::Bytes;
use clock::Instant;
use sip::{Message, Method};
use transaction::{ClientKey, Kind};

use super::caller::CallerCall;
use super::digest::Realm;
use super::message::Outgoing;
use super::order::{Fact, Output};
use super::{ATTEMPTS_MAX, Asker, Challenge, Pending, Phone, Purpose, Setup, Way};

impl Phone {
    /// Sends the request again with credentials, if that makes sense.
    pub(super) fn handle_challenge(
        &mut self,
        now: Instant,
        key: ClientKey,
        asker: Asker,
        response: &Message<'_>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(pending) = self.pending.get(&key) else { return false };
        let challenges = Challenge::of(asker, response);
        let stale = challenges.iter().any(Challenge::is_stale);
        out.push(Output::Fact(Fact::Challenged {
            method: pending.request.method,
            in_dialog: pending.request.to.contains(";tag="),
            stale,
            had_credentials: !pending.request.credentials.is_empty(),
        }));
        let Some(realm) = Realm::choose(challenges, &self.setup.liked) else { return false };
        if let Purpose::Invite(call) = pending.purpose
            && self.callers.get(&call).is_some_and(CallerCall::is_given_up)
        {
            return false;
        }
        let wrong = !pending.request.credentials.is_empty() && !stale && !pending.used_again;
        if wrong || pending.attempts >= ATTEMPTS_MAX {
            return false;
        }
        let Some(pending) = self.pending.remove(&key) else { return false };
        self.realms.insert(self.setup.domain.clone(), realm);
        let mut request = pending.request;
        request.cseq += 1;
        self.registration.took(&pending.purpose, request.cseq);
        request.credentials = self.credentials(asker, &request);
        self.send_again(now, pending.purpose, request, pending.way, (pending.attempts + 1, false), out);
        true
    }

    /// Credentials for a request, from what is known of the realm.
    pub(super) fn credentials(&mut self, asker: Asker, request: &Outgoing) -> String {
        let Setup { user, password, .. } = &self.setup;
        self.realms.get_mut(&self.setup.domain).map_or_else(String::new, |realm| {
            realm.credentials(asker, user, password, request.method, &request.uri)
        })
    }

    /// A request outside of any dialog.
    pub(super) fn fresh(&mut self, method: &'static str, uri: String, to: Option<&str>) -> Outgoing {
        self.made += 1;
        let Setup { user, domain, server, .. } = &self.setup;
        let own = format!("<sip:{user}@{domain}>");
        let routes = if self.setup.preloads { vec![format!("<sip:{server};lr>")] } else { Vec::new() };
        Outgoing {
            method,
            uri,
            routes,
            from: format!("{own};tag={}-{}", self.name(), self.made),
            to: to.map_or(own, str::to_owned),
            call_id: format!("{user}-{}@{}", self.made, self.setup.local.ip()),
            cseq: 1,
            lines: String::new(),
            credentials: String::new(),
            body: String::new(),
        }
    }

    /// Sends a request for the first time, with credentials where a nonce is known.
    pub(super) fn send_request(
        &mut self,
        now: Instant,
        purpose: Purpose,
        mut request: Outgoing,
        way: Way,
        out: &mut Vec<Output>,
    ) -> ClientKey {
        let asker = match purpose {
            Purpose::Register | Purpose::Unregister => Some(Asker::Server),
            Purpose::Invite(_) => Some(Asker::Proxy),
            _ => None,
        };
        if let Some(asker) = asker {
            request.credentials = self.credentials(asker, &request);
        }
        let used_again = !request.credentials.is_empty();
        self.send_again(now, purpose, request, way, (0, used_again), out)
    }

    pub(super) fn send_again(
        &mut self,
        now: Instant,
        purpose: Purpose,
        request: Outgoing,
        way: Way,
        (attempts, used_again): (u32, bool),
        _out: &mut Vec<Output>,
    ) -> ClientKey {
        self.made += 1;
        let branch = format!("z9hG4bK-{}-{}", self.name(), self.made);
        let via = self.via(&branch);
        let method = Method::from_bytes(request.method.as_bytes());
        let key = ClientKey::of(&self.key, branch.as_bytes(), method);
        let bytes = Bytes::from(request.render(&via));
        let kind = if method == Method::Invite { Kind::Invite } else { Kind::NonInvite };
        let reliable = self.setup.transport.is_reliable();
        self.caller_sends(&purpose, key, &request, &via);
        self.pending.insert(key, Pending { purpose, request, way, attempts, used_again });
        // A full table shows as a request that times out.
        let _ =
            self.transactions.begin_client(now, key, kind, bytes, way, reliable, &mut self.from_transactions);
        key
    }
}

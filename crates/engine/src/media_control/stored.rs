//! A session on its way between two nodes.

use std::collections::BTreeSet;

use bytes::Bytes;
use clock::Instant;
use media::offer_answer::{Call, Output as MediaOutput, Side};
use media::ports::Ports;
use prost::Message as _;
use routing::account::Unreadable;
use routing::{CallName, SessionName};
use sip::limits::CALL_ID_BYTES_MAX;

use super::{Elsewhere, MediaControl, RelayOrder, SESSIONS_MAX, Session};

/// Larger calls are not told: [`Call::from_bytes`] reads no larger ones, nor would the link between two nodes carry them.
const CALL_BYTES_MAX: usize = 160 << 10;
/// The same with what stands beside the call.
const BYTES_MAX: usize = 168 << 10;

/// A session as the other node can go on with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredSession {
    pub(crate) call_id: Bytes,
    name: CallName,
    call: Bytes,
    elsewhere: Option<Elsewhere>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(bytes = "bytes", tag = "1")]
    call_id: Bytes,
    #[prost(fixed64, tag = "2")]
    name: u64,
    #[prost(bytes = "bytes", tag = "3")]
    call: Bytes,
    /// A node that does not know this finds ports that are not its own, and lets the session go.
    #[prost(message, optional, tag = "4")]
    elsewhere: Option<StoredElsewhere>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredElsewhere {
    #[prost(bytes = "bytes", tag = "1")]
    call_id: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    caller_tag: Bytes,
    /// Empty: it was not offered yet.
    #[prost(string, tag = "3")]
    node: String,
}

impl StoredElsewhere {
    fn of(elsewhere: Elsewhere) -> Self {
        let node = elsewhere.node.map(|node| node.to_string()).unwrap_or_default();
        Self { call_id: elsewhere.call_id, caller_tag: elsewhere.caller_tag, node }
    }

    fn read(self) -> Result<Elsewhere, Unreadable> {
        let node = match self.node.as_str() {
            "" => None,
            node => Some(node.parse().map_err(|_| Unreadable::Malformed)?),
        };
        Ok(Elsewhere {
            call_id: self.call_id,
            caller_tag: self.caller_tag,
            node,
            is_asked: node.is_some(),
            heard: None,
        })
    }
}

impl StoredSession {
    /// Its bytes for the other node.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let Self { call_id, name, call, elsewhere } = self.clone();
        let elsewhere = elsewhere.map(StoredElsewhere::of);
        Parts { call_id, name: name.as_u64(), call, elsewhere }.encode_to_vec().into()
    }

    /// Reads what [`StoredSession::to_bytes`] wrote on the other node.
    pub(crate) fn from_bytes(bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.len() > BYTES_MAX {
            return Err(Unreadable::Malformed);
        }
        let Parts { call_id, name, call, elsewhere } =
            Parts::decode(bytes).map_err(|_| Unreadable::Malformed)?;
        if call_id.is_empty() || call_id.len() > CALL_ID_BYTES_MAX {
            return Err(Unreadable::Malformed);
        }
        Call::from_bytes(Instant::START, call.clone()).map_err(|_| Unreadable::Malformed)?;
        let elsewhere = elsewhere.map(StoredElsewhere::read).transpose()?;
        Ok(Self { call_id, name: CallName::from_u64(name), call, elsewhere })
    }
}

impl MediaControl {
    /// The sessions that have begun, changed or ended since this was asked last, but for those that have ended and that the
    /// other node never heard of.
    pub(crate) fn take_changed(&mut self) -> Vec<SessionName> {
        let mut changed: Vec<SessionName> = std::mem::take(&mut self.changed).into_iter().collect();
        changed.retain(|name| self.sessions.contains_key(name) || self.told.contains(name));
        changed
    }

    /// A session for the other node; `None` if it is not there, or too large to be told.
    pub(crate) fn stored(&mut self, now: Instant, name: SessionName) -> Option<StoredSession> {
        self.told.remove(&name);
        let session = self.sessions.get(&name)?;
        let call = session.call.to_bytes(now);
        if call.len() > CALL_BYTES_MAX {
            self.counts.too_large += 1;
            return None;
        }
        self.told.insert(name);
        let (call_id, elsewhere) = (session.call_id.clone(), session.elsewhere.clone());
        Some(StoredSession { call_id, name: session.name, call, elsewhere })
    }

    /// All sessions, in order.
    pub(crate) fn names(&self) -> Vec<SessionName> {
        self.sessions.keys().copied().collect()
    }

    /// On a standby: takes a session of the active node. Whether there is room for it.
    pub(crate) fn inherit(&mut self, now: Instant, name: SessionName, stored: &StoredSession) -> bool {
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(&name) {
            return false;
        }
        // It was read once when it came.
        let Ok(call) = Call::from_bytes(now, stored.call.clone()) else { return false };
        let known = self.sessions.get(&name);
        let held_before = known.is_none_or(|session| session.holds);
        let before = known.filter(|session| session.elsewhere.is_none());
        let before = before.map(|session| session.call.ports()).unwrap_or_default();
        let after = if stored.elsewhere.is_none() { call.ports() } else { Default::default() };
        let faces = call.faces();
        let bind = |(side, ports): &(Side, Ports)| MediaOutput::Bind(*side, *ports);
        let unbind = |(side, ports): &(Side, Ports)| MediaOutput::Unbind(*side, *ports);
        let orders = after.difference(&before).map(bind).chain(before.difference(&after).map(unbind));
        self.orders.extend(orders.map(|output| RelayOrder { session: name, faces, output }));
        self.detach(name);
        let branches: Vec<_> = call.branches().collect();
        for branch in &branches {
            self.by_branch.insert(*branch, name);
        }
        self.by_call.insert((stored.name, name));
        let holds = held_before && self.hold(now, &before, &after);
        let (call_id, elsewhere) = (stored.call_id.clone(), stored.elsewhere.clone());
        let session = Session { call, name: stored.name, call_id, branches, holds, elsewhere };
        self.sessions.insert(name, session);
        self.told.insert(name);
        true
    }

    /// On a standby: lets a session go.
    pub(crate) fn disinherit(&mut self, name: SessionName) {
        self.forget(name);
        self.told.remove(&name);
    }

    /// Takes the ports that a session has come to have, and lets go of the others. Whether it has all of them; else it has none.
    fn hold(
        &mut self,
        now: Instant,
        before: &BTreeSet<(Side, Ports)>,
        after: &BTreeSet<(Side, Ports)>,
    ) -> bool {
        before.difference(after).for_each(|(_, ports)| self.pool.put_back(*ports));
        let mut held: Vec<Ports> = before.intersection(after).map(|(_, ports)| *ports).collect();
        for (_, ports) in after.difference(before) {
            if self.pool.claim(now, *ports).is_err() {
                held.into_iter().for_each(|ports| self.pool.put_back(ports));
                return false;
            }
            held.push(*ports);
        }
        true
    }

    fn detach(&mut self, name: SessionName) {
        let Some(session) = self.sessions.get(&name) else { return };
        self.by_call.remove(&(session.name, name));
        for branch in &session.branches {
            self.by_branch.remove(branch);
        }
    }
}

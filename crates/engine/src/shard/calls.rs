//! The calls of a shard as two nodes share them: those that the other node is told of while this one is active, and those
//! that it was told of while it stands by.
//!
//! A call is told of from the moment that its INVITE has been answered by its transaction, which begins with the 100, until
//! nothing of it is left. On a standby nothing of it lives: bytes wait for the node to become active. Then a call is gone on
//! with when a message comes that may be of it, and some more each time that the shard is called by the clock, so that
//! nobody waits for all of them.
//!
//! Invariant: what is told, or was told, is what the other node was told, so that a node has the same calls in both roles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use sip::{MethodName, Status};
use transaction::{
    ClientEvent, ClientKey, Output as TransactionOutput, ServerKey, ServerState, StoredServer,
};
use transport::Destination;

use super::{Output, Settled, Shard};
use crate::call_capsule::{CallCapsule, Way};

/// Calls that a standby keeps for one shard: as many as an active one has. With 4 KB each they take 0.8 GB; who has less
/// memory has fewer calls.
const INHERITED_MAX: usize = 200_000;

/// Calls that are gone on with at a time: it takes a millisecond.
const AT_ONCE_MAX: usize = 64;

/// What a shard knows of its calls for the other node.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// By their numbers: what the other node was told of.
    told: BTreeMap<u64, Told>,
    /// Whose a client transaction is.
    of_client: BTreeMap<ClientKey, ServerKey>,
    /// By their numbers: what this node was told of, and does not go on with yet.
    inherited: BTreeMap<u64, Inherited>,
    /// The same by what their Call-IDs hash to.
    by_call_id: BTreeSet<(u64, u64)>,
    /// What has changed beside what the machines say: what could not be gone on with, for one.
    pending: Vec<ServerKey>,
    /// Whose the next messages of the transactions are.
    speaks: Option<Speaker>,
    /// The request whose next answer names ports of the relay that the other node does not know.
    names_ports: Option<ServerKey>,
    /// The CANCEL that was taken last, and the INVITE that it is for.
    cancel: Option<(ServerKey, ServerKey)>,
    /// Buffers, empty between two steps.
    changed: (Vec<ServerKey>, Vec<ClientKey>),
}

#[derive(Debug)]
struct Told {
    key: ServerKey,
    clients: Vec<ClientKey>,
}

#[derive(Debug)]
struct Inherited {
    key: ServerKey,
    bytes: Bytes,
    came: Instant,
    call_id: u64,
    /// Whether the other node was told of it as it was then, so that its times are too long there.
    is_old_there: bool,
}

/// Whose messages come next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speaker {
    call: ServerKey,
    waits: Waits,
    /// Whether requests wait too.
    of_requests: bool,
    /// The request that the first of them settles.
    pub(super) settled: Option<Settled>,
}

/// What a message of a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// That the other node holds the call as it is after this step: who gets the message stops repeating something.
    UntilHeld,
    /// Only for messages of the same call that wait already.
    BehindOthers,
}

/// A call, ready for the other node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallBytes {
    /// It says whose shard the call is.
    pub call_id: Bytes,
    /// The capsule.
    pub bytes: Bytes,
}

/// The number of a call with its shard. A key is a keyed hash, so that nobody can aim at another's number.
pub(crate) const fn number_of(key: ServerKey) -> u64 {
    key.as_u128() as u64
}

impl Calls {
    fn keep(&mut self, number: u64, call: Inherited) {
        self.by_call_id.insert((call.call_id, number));
        self.inherited.insert(number, call);
    }

    fn let_go(&mut self, number: u64) -> Option<Inherited> {
        let call = self.inherited.remove(&number)?;
        self.by_call_id.remove(&(call.call_id, number));
        Some(call)
    }
}

impl Shard {
    /// From here on calls leave records, see [`crate::take_records`].
    pub fn keep_records(&mut self) {
        self.user.keep_records();
        self.media.keep_figures();
    }

    /// From here on it is noted which calls have changed, and messages for which the other node has to hold a call are
    /// told apart. To be called before the shard has any.
    pub fn note_changes(&mut self) {
        if self.calls.is_none() {
            self.calls = Some(Box::default());
            self.media.note_changes();
            self.transactions.note_changes();
            // The first time that it is asked it says all, and notes what changes from there on.
            self.user.take_changed_calls(&mut Vec::new());
            self.user.take_changed_dialogs(&mut Vec::new());
        }
    }

    /// Appends the calls that have begun, changed or ended since the last call, each once and in order. It is to be called
    /// after each step if changes are noted.
    pub fn take_changed_calls(&mut self, out: &mut Vec<ServerKey>) {
        let Some(calls) = &mut self.calls else { return };
        let (changed, clients) = &mut calls.changed;
        self.user.take_changed_calls(changed);
        self.transactions.take_changes(changed, clients);
        changed.extend(clients.drain(..).filter_map(|client| calls.of_client.get(&client)));
        changed.append(&mut calls.pending);
        changed.sort_unstable();
        changed.dedup();
        out.append(changed);
    }

    /// A call as another node can go on with it; `None` if there is no such call.
    pub fn call_capsule(&self, now: Now, key: ServerKey) -> Option<CallBytes> {
        let capsule = self.capsule(now, key)?;
        Some(CallBytes { bytes: capsule.to_bytes(), call_id: capsule.call_id })
    }

    /// The same, because the other node is about to be told of it.
    pub(crate) fn tell(&mut self, now: Now, key: ServerKey) -> Option<CallBytes> {
        let capsule = self.capsule(now, key)?;
        self.note_told(key, capsule.clients.iter().map(|(client, ..)| *client).collect());
        Some(CallBytes { bytes: capsule.to_bytes(), call_id: capsule.call_id })
    }

    /// The other node is told that a call has ended; whether it knew of it.
    pub(crate) fn untell(&mut self, key: ServerKey) -> bool {
        let Some(calls) = &mut self.calls else { return false };
        let Some(told) = calls.told.remove(&number_of(key)) else { return false };
        for client in &told.clients {
            calls.of_client.remove(client);
        }
        true
    }

    /// On a standby: takes a call of the active node, which was read once, to go on with it when this node becomes active.
    /// Gives its number; `None` if there is no room for it.
    pub(crate) fn inherit(&mut self, now: Now, key: ServerKey, call_id: &[u8], bytes: Bytes) -> Option<u64> {
        if !self.tenure.is_standby() {
            // The lease is gone, and nobody has told this shard.
            self.stand_by(now);
        }
        let call_id = self.hash(call_id);
        let calls = self.calls.get_or_insert_default();
        let number = number_of(key);
        if calls.inherited.len() >= INHERITED_MAX && !calls.inherited.contains_key(&number) {
            return None;
        }
        calls.keep(number, Inherited { key, bytes, came: now.instant, call_id, is_old_there: false });
        Some(number)
    }

    fn hash(&self, call_id: &[u8]) -> u64 {
        self.keyring.partition.mac(&[call_id]).short()
    }

    /// On a standby: lets a call go.
    pub fn disinherit(&mut self, number: u64) {
        if let Some(calls) = &mut self.calls {
            calls.let_go(number);
        }
    }

    /// The call with this number for the other node, which lacks it.
    pub fn fetch(&mut self, now: Now, number: u64) -> Option<(ServerKey, CallBytes)> {
        if let Some(inherited) = self.calls.as_mut().and_then(|calls| calls.inherited.get_mut(&number)) {
            let call_id = CallCapsule::from_bytes(inherited.bytes.clone()).ok()?.call_id;
            inherited.is_old_there = true;
            return Some((inherited.key, CallBytes { call_id, bytes: inherited.bytes.clone() }));
        }
        let key = self.calls.as_ref()?.told.get(&number)?.key;
        Some((key, self.call_capsule(now, key)?))
    }

    /// How many calls wait for this node to become active.
    pub(super) fn inherited(&self) -> usize {
        self.calls.as_ref().map_or(0, |calls| calls.inherited.len())
    }

    /// What the other node was told of is kept as if this node had been told of it.
    pub(super) fn bequeath(&mut self, now: Now) {
        let Some(calls) = &mut self.calls else { return };
        let told = std::mem::take(&mut calls.told);
        calls.of_client.clear();
        (calls.speaks, calls.cancel) = (None, None);
        for (number, Told { key, .. }) in told {
            let Some(CallBytes { call_id, bytes }) = self.call_capsule(now, key) else { continue };
            let call_id = self.hash(&call_id);
            if let Some(calls) = &mut self.calls {
                let came = now.instant;
                calls.keep(number, Inherited { key, bytes, came, call_id, is_old_there: false });
            }
        }
    }

    /// What was noted of calls that are forgotten is of no use.
    pub(super) fn forget_changes(&mut self) {
        if self.calls.is_some() {
            self.transactions.take_changes(&mut Vec::new(), &mut Vec::new());
            self.user.take_changed_calls(&mut Vec::new());
            self.user.take_changed_dialogs(&mut Vec::new());
        }
    }

    /// Whether there are calls to go on with.
    pub(super) fn has_inherited(&self) -> bool {
        self.calls.as_ref().is_some_and(|calls| !calls.inherited.is_empty())
    }

    /// Goes on with some of the calls that the other node had.
    pub(super) fn take_over_some(&mut self, now: Now) {
        let Some(calls) = &mut self.calls else { return };
        let numbers = calls.inherited.keys().copied().take(AT_ONCE_MAX).collect();
        self.take_over(now, numbers);
    }

    /// The same with those that have this Call-ID.
    pub(super) fn take_over_with(&mut self, now: Now, call_id: &[u8]) {
        let hash = self.hash(call_id);
        let Some(calls) = &mut self.calls else { return };
        let of_call_id = calls.by_call_id.range((hash, 0)..=(hash, u64::MAX));
        let numbers = of_call_id.map(|&(_, number)| number).collect();
        self.take_over(now, numbers);
    }

    fn take_over(&mut self, now: Now, numbers: Vec<u64>) {
        if numbers.is_empty() {
            return;
        }
        // Other calls may have changed in the same step.
        let mut pending = Vec::new();
        self.take_changed_calls(&mut pending);
        for number in numbers {
            let inherited = self.calls.as_mut().and_then(|calls| calls.let_go(number));
            let Some(Inherited { key, bytes, came, is_old_there, .. }) = inherited else { continue };
            pending.extend(is_old_there.then_some(key));
            // It was read once when it came.
            if let Ok(capsule) = CallCapsule::from_bytes(bytes) {
                self.take_over_call(now, now.instant.since(came), key, capsule);
            }
        }
        // The other node, if it is there, has had them like this. What could not be gone on with is among the changes.
        self.transactions.take_changes(&mut Vec::new(), &mut Vec::new());
        let mut changed = Vec::new();
        self.user.take_changed_calls(&mut changed);
        for key in changed {
            if self.user.stored_call(now, key).is_none() {
                self.give_up(now, key);
            }
            pending.push(key);
        }
        if let Some(calls) = &mut self.calls {
            calls.pending.append(&mut pending);
        }
    }

    /// Nobody will answer a call that was restored in vain, and no phone is listened to for it.
    fn give_up(&mut self, now: Now, key: ServerKey) {
        if self.transactions.stored_server(now.instant, key).is_some_and(is_proceeding) {
            self.transactions.end_server(key);
        }
        let told = self.calls.as_ref().and_then(|calls| calls.told.get(&number_of(key)));
        for client in told.iter().flat_map(|told| &told.clients) {
            self.transactions.abandon_client(*client);
        }
    }

    fn take_over_call(&mut self, now: Now, since: Duration, key: ServerKey, capsule: CallCapsule) {
        let CallCapsule { call, server, clients, .. } = capsule;
        let told: Vec<ClientKey> = clients.iter().map(|(client, ..)| *client).collect();
        self.note_told(key, told.clone());
        let (stored, way) = server;
        let to = way.destination(&self.listeners);
        let restored =
            to.map(|to| self.transactions.restore_server(now.instant, key, stored.aged(since), to));
        if !matches!(restored, Some(Ok(()))) {
            if let Some(calls) = &mut self.calls {
                calls.pending.push(key);
            }
            if let Some(call) = call {
                self.user.call_lost(now, since, key, &call, &mut self.from_user);
            }
            return;
        }
        let mut unreachable = Vec::new();
        for (client, stored, way) in clients {
            let to = way.destination(&self.listeners).filter(|_| way.outlives_its_node());
            let restored =
                to.map(|to| self.transactions.restore_client(now.instant, client, stored.aged(since), to));
            if !matches!(restored, Some(Ok(()))) {
                unreachable.push(client);
            }
        }
        if let Some(call) = call {
            // A branch that is on its way without a transaction waited for its media's relay.
            let waited: Vec<_> = call.clients().filter(|client| !told.contains(client)).collect();
            self.user.restore_call(now, since, key, call, &mut self.from_user);
            for client in waited {
                // Whoever was asked has said nothing to this node.
                self.media.handle_branch_ended(now.instant, client);
                if !self.user.send_again(client, &mut self.from_user) {
                    unreachable.push(client);
                }
            }
        }
        for client in unreachable {
            for event in [ClientEvent::Unreachable, ClientEvent::Terminated] {
                self.from_transactions.push(TransactionOutput::Client(client, event));
            }
        }
    }

    fn note_told(&mut self, key: ServerKey, clients: Vec<ClientKey>) {
        let Some(calls) = &mut self.calls else { return };
        let told = calls.told.entry(number_of(key)).or_insert(Told { key, clients: Vec::new() });
        if told.clients != clients {
            for client in &told.clients {
                calls.of_client.remove(client);
            }
            calls.of_client.extend(clients.iter().map(|client| (*client, key)));
            told.clients = clients;
        }
    }

    fn capsule(&self, now: Now, key: ServerKey) -> Option<CallCapsule> {
        let call = self.user.stored_call(now, key);
        let server = self.transactions.stored_server(now.instant, key)?;
        let call_id = match &call {
            Some(call) => Bytes::copy_from_slice(call.call_id()),
            None => Bytes::copy_from_slice(sip::find_call_id(answer(&server)?)?),
        };
        let way = |to: Option<&Destination>| to.and_then(|to| Way::of(&self.listeners, to));
        let server = (server, way(self.transactions.server_destination(key))?);
        let clients = call.iter().flat_map(|call| call.clients()).filter_map(|client| {
            let stored = self.transactions.stored_client(now.instant, client)?;
            Some((client, stored, way(self.transactions.client_destination(client))?))
        });
        let clients = clients.collect();
        Some(CallCapsule { call_id, server, clients, call })
    }
}

/// Which messages wait for what.
impl Shard {
    /// The user answers a request. Gives what is settled back if that does not wait for anything.
    pub(super) fn answers(
        &mut self,
        key: ServerKey,
        status: Status,
        settled: Option<Settled>,
    ) -> Option<Settled> {
        let Some(calls) = &mut self.calls else { return settled };
        let names_ports = std::mem::take(&mut calls.names_ports) == Some(key);
        let of_cancel = calls.cancel.filter(|(cancel, _)| *cancel == key).map(|(_, invite)| invite);
        let waits = match status {
            Status::TRYING => Waits::UntilHeld,
            status if status.is_final() => Waits::UntilHeld,
            _ if names_ports => Waits::UntilHeld,
            // The INVITE may be repeated until one of them arrives.
            _ => Waits::BehindOthers,
        };
        let method = self.transactions.server_method(key);
        // The other node has to know that a call has ended before the sender of a BYE stops repeating it.
        let is_held = method == Some(MethodName::Invite)
            || method == Some(MethodName::Bye) && status.is_final()
            || names_ports;
        let call = of_cancel.or(is_held.then_some(key));
        calls.speaks = call.map(|call| Speaker { call, waits, of_requests: false, settled });
        settled.filter(|_| call.is_none())
    }

    /// A request was repeated, and its answer is.
    pub(super) fn repeats(&mut self, key: ServerKey) {
        if let Some(calls) = &mut self.calls
            && calls.told.contains_key(&number_of(key))
        {
            let waits = Waits::BehindOthers;
            calls.speaks = Some(Speaker { call: key, waits, of_requests: false, settled: None });
        }
    }

    /// A response has come to a request of ours, which may be acknowledged.
    pub(super) fn acknowledges(&mut self, client: ClientKey, waits: Waits) {
        if let Some(calls) = &mut self.calls {
            let call = calls.of_client.get(&client).copied();
            calls.speaks = call.map(|call| Speaker { call, waits, of_requests: false, settled: None });
        }
    }

    /// The next request, which goes on for `call`, names ports that only this node knows so far.
    pub(super) fn announces(&mut self, call: ServerKey) {
        if let Some(calls) = &mut self.calls {
            let waits = Waits::UntilHeld;
            calls.speaks = Some(Speaker { call, waits, of_requests: true, settled: None });
        }
    }

    /// The next answer to `key` names such ports.
    pub(super) fn answers_with_ports(&mut self, key: ServerKey) {
        if let Some(calls) = &mut self.calls {
            calls.names_ports = Some(key);
        }
    }

    /// A CANCEL has come for an INVITE.
    pub(super) fn cancels(&mut self, cancel: ServerKey, invite: ServerKey) {
        if let Some(calls) = &mut self.calls {
            calls.cancel = Some((cancel, invite));
        }
    }

    /// Whose the messages are that the transactions send now, once.
    pub(super) fn take_speaker(&mut self) -> Option<Speaker> {
        self.calls.as_mut()?.speaks.take()
    }
}

impl Output {
    /// A message of a transaction; of a call whose messages may have to wait if there is one.
    pub(super) fn of_transaction(
        speaker: Option<&mut Speaker>,
        to: Destination,
        message: Bytes,
        of: Option<ClientKey>,
    ) -> Self {
        match speaker.filter(|speaker| of.is_none() || speaker.of_requests) {
            Some(speaker) => {
                let Speaker { call, waits, .. } = *speaker;
                Self::SendWhenHeld { call, to, message, of, waits, settled: speaker.settled.take() }
            }
            None => Self::Send { to, message, of },
        }
    }
}

/// The final answer of an INVITE that is repeated until it is acknowledged.
fn answer(server: &StoredServer) -> Option<&Bytes> {
    match &server.state {
        ServerState::InviteCompleted { response, .. } => Some(response),
        _ => None,
    }
}

fn is_proceeding(server: StoredServer) -> bool {
    matches!(server.state, ServerState::InviteProceeding { .. })
}

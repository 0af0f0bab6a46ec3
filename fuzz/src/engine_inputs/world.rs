//! The engine, run as the edge runs it, and what is around it: the store, DNS, connections, and what peers heard.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::{Asker, Change, Loaded, Output, Partition, PartitionOutput, Shard};
use keys::RootKey;
use lease::{ActiveLease, LeaseMirror};
use routing::account::BindingKey;
use routing::{Answer, BindingId, KeepaliveMark, Keyring, Located, Settings, StoredBinding, Token};
use sip::{Aor, Message};
use transaction::ClientKey;
use transport::selection::{Query, Records};
use transport::{
    ConnectionId, Destination, Flow, Frame, Framer, FramingError, ListenerId, RemoteAddr, Source, Transport,
};

use super::checks::{Checks, Held, Sender};
use super::digest::Nonce;
use super::peers::{self, ELSEWHERE, TCP};

const SHARDS: u16 = 2;
const PARTITIONS: u16 = 2;

/// When the engine starts.
const CALENDAR: WallTime = WallTime::from_millis(1_700_000_000_000);

/// What peers remember of what they heard and said.
const REMEMBERED_MAX: usize = 16;

/// Messages that one input may cause; more is a storm.
const MESSAGES_MAX: usize = 20_000;

/// Turns of the clock at one instant; more is a timer that does not move.
const TURNS_MAX: usize = 1_000;

/// What is carried between the parts.
enum Work {
    FromShard(u16, Output),
    FromPartition(u16, PartitionOutput),
    SendFailed(u16, ClientKey),
}

/// What somebody heard or said. What they send goes by `by`.
#[derive(Clone)]
pub(super) struct Heard {
    pub(super) by: Source,
    pub(super) bytes: Bytes,
}

struct Line {
    remote: RemoteAddr,
    framer: Framer,
}

/// The engine and its surroundings.
pub(super) struct World {
    settings: Arc<Settings>,
    keyring: Keyring,
    boot: u32,
    shards: Vec<Shard>,
    partitions: Vec<Partition>,
    now: Now,
    work: VecDeque<Work>,
    /// What the engine sent to itself.
    own: VecDeque<Heard>,
    lines: BTreeMap<ConnectionId, Line>,
    connections: u64,
    stored: BTreeMap<BindingKey, StoredBinding>,
    checks: Checks,
    messages: usize,
    trace: u64,
    /// Look-ups of accounts that have no reply yet.
    pub(super) loads: VecDeque<(u16, Aor)>,
    /// Look-ups of names that have no reply yet.
    pub(super) lookups: VecDeque<(u16, Token, Query)>,
    /// What was sent by a client transaction.
    pub(super) sent: VecDeque<(u16, ClientKey)>,
    /// Requests that peers heard.
    pub(super) requests: VecDeque<Heard>,
    /// Responses that peers heard.
    pub(super) responses: VecDeque<Heard>,
    /// Requests that peers said.
    pub(super) said: VecDeque<Heard>,
    /// Challenges that peers heard.
    pub(super) nonces: VecDeque<Nonce>,
    /// Whether the store replies at once.
    pub(super) has_store: bool,
    /// Whether names are resolved at once.
    pub(super) has_names: bool,
    /// Whether a connection that the engine opens is accepted.
    pub(super) is_accepting: bool,
}

impl World {
    /// An engine that has just started.
    pub(super) fn new() -> Self {
        let settings = peers::settings(0);
        let keyring = Keyring::derive(&RootKey::new([7; 32]));
        Self {
            shards: shards(&settings, &keyring, 1),
            partitions: partitions(&settings, &keyring),
            settings,
            keyring,
            boot: 1,
            now: Now::new(Instant::START, CALENDAR),
            work: VecDeque::new(),
            own: VecDeque::new(),
            lines: BTreeMap::new(),
            connections: 0,
            stored: BTreeMap::new(),
            checks: Checks::default(),
            messages: 0,
            trace: 0,
            loads: VecDeque::new(),
            lookups: VecDeque::new(),
            sent: VecDeque::new(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            said: VecDeque::new(),
            nonces: VecDeque::new(),
            has_store: true,
            has_names: true,
            is_accepting: true,
        }
    }

    /// A number that stands for all that left.
    pub(super) fn trace(&self) -> u64 {
        self.trace
    }

    /// A message comes from outside.
    pub(super) fn receive(&mut self, by: Source, bytes: &[u8], sender: Sender) {
        remember(&mut self.said, Heard { by, bytes: Bytes::copy_from_slice(bytes) });
        self.take_message(by, bytes, sender);
        self.end_step();
    }

    /// A datagram comes to a listener that may be gone; what is no SIP ends at the edge.
    pub(super) fn receive_datagram(&mut self, by: Source, datagram: &[u8], sender: Sender) {
        if self.settings.listeners.get(by.flow.listener()).is_some()
            && transport::classify(datagram) == transport::Classified::Message
        {
            self.receive(by, datagram, sender);
        }
    }

    /// Bytes come by a connection.
    pub(super) fn receive_stream(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        let by = source_of(id, line.remote);
        line.framer.push(self.now.instant, bytes);
        while let Some(line) = self.lines.get_mut(&id) {
            match line.framer.next() {
                Ok(Some(Frame::Message(message))) => self.receive(by, &message, Sender::Anybody),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => return,
                Err(error) => {
                    if let FramingError::Unframable { head, .. } = error {
                        self.receive(by, &head, Sender::Anybody);
                    }
                    self.close(id);
                }
            }
        }
    }

    /// A peer opens a connection.
    pub(super) fn open(&mut self, remote: SocketAddr) -> ConnectionId {
        self.connections += 1;
        let id = ConnectionId { node: 0, boot: self.boot, listener: TCP, number: self.connections };
        self.lines.insert(id, Line { remote: RemoteAddr(remote), framer: Framer::new() });
        id
    }

    /// The open connection of a number in a program.
    pub(super) fn connection(&self, number: u8) -> Option<(ConnectionId, Source)> {
        let index = usize::from(number) % self.lines.len().max(1);
        self.lines.iter().nth(index).map(|(&id, line)| (id, source_of(id, line.remote)))
    }

    /// A connection ends.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.lines.remove(&id);
        self.with_partitions(|partition, now, lease, out| {
            partition.handle_connection_closed(now, lease, id, out)
        });
        self.end_step();
    }

    /// The store replies.
    pub(super) fn load(&mut self, number: u16, aor: &Aor, loaded: Loaded) {
        self.checks.begin();
        self.with_partition(number, |partition, now, lease, out| {
            partition.handle_account(now, lease, aor, loaded, out);
        });
        self.end_step();
    }

    /// DNS replies.
    pub(super) fn resolve(&mut self, shard: u16, token: Token, records: Records) {
        self.checks.begin();
        self.with_shard(shard, |shard, now, lease, out| {
            shard.handle_resolved(now, lease, token, records, out)
        });
        self.end_step();
    }

    /// A message of a client transaction could not be sent after all.
    pub(super) fn fail(&mut self, shard: u16, key: ClientKey) {
        self.checks.begin();
        self.with_shard(shard, |shard, now, lease, out| shard.handle_send_failed(now, lease, key, out));
        self.end_step();
    }

    /// Somebody changed an account.
    pub(super) fn change_account(&mut self, aor: &Aor) {
        let number = self.partition_of(aor);
        let now = self.now;
        self.partitions[usize::from(number)].handle_account_changed(now, aor);
    }

    /// The operator changed the settings.
    pub(super) fn reload(&mut self, number: u8) {
        self.settings = peers::settings(number);
        for shard in &mut self.shards {
            shard.reload(self.settings.clone());
        }
        for partition in &mut self.partitions {
            partition.reload(self.settings.clone());
        }
    }

    /// The program stops cleanly and starts again.
    pub(super) fn restart(&mut self) {
        let nonces: Vec<_> =
            self.partitions.iter().flat_map(|partition| partition.stored_nonces(self.now)).collect();
        self.boot += 1;
        self.shards = shards(&self.settings, &self.keyring, self.boot);
        self.partitions = partitions(&self.settings, &self.keyring);
        for line in std::mem::take(&mut self.lines).into_keys() {
            debug_assert!(line.boot < self.boot);
        }
        self.loads.clear();
        self.lookups.clear();
        self.sent.clear();
        for binding in self.stored.values().cloned().collect::<Vec<_>>() {
            let number = self.partition_of(&binding.aor);
            self.partitions[usize::from(number)].restore(self.now, binding);
        }
        for nonce in nonces {
            let number = self.partition_of(&nonce.account);
            self.partitions[usize::from(number)].restore_nonce(self.now, nonce);
        }
    }

    /// What nobody asked for comes: answers with tokens that are made up, or that were used before.
    pub(super) fn mislead(&mut self, shard: u16, number: u64) {
        self.checks.begin();
        let token = Token(number);
        self.with_shard(shard, |shard, now, lease, out| {
            let answer = Answer::Located(Located::Targets(Vec::new()));
            shard.handle_answer(now, lease, token, answer, out);
            shard.handle_resolved(now, lease, token, Records::None, out);
        });
        let mark = KeepaliveMark { partition: shard, binding: BindingId(number), number: number as u32 };
        let now = self.now;
        for partition in &mut self.partitions {
            partition.handle_keepalive_answered(now, mark, &mut Vec::new());
        }
        self.end_step();
    }

    /// The calendar is set so far from where it began; the clock goes on. It stays near, because what is restored
    /// after a restart ends by the calendar.
    pub(super) fn set_calendar(&mut self, seconds: i64) {
        let right = CALENDAR + self.now.instant.since(Instant::START);
        let wall = right.as_millis().saturating_add_signed((seconds / 16).saturating_mul(1_000));
        self.now.wall = WallTime::from_millis(wall);
    }

    /// Nobody answers any more.
    pub(super) fn fall_silent(&mut self) {
        (self.has_store, self.has_names, self.is_accepting) = (false, false, false);
    }

    /// Time passes.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now.instant + duration;
        let mut turns = 0;
        while let Some(next) = self.poll_timeout().filter(|&next| next <= end) {
            if next > self.now.instant {
                self.set_now(next);
                turns = 0;
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "time stands still");
            self.checks.begin();
            self.take_turn();
            self.end_step();
        }
        self.set_now(end);
    }

    /// Nothing is left of any call.
    pub(super) fn check_no_calls(&self) {
        assert_eq!(self.held(), Held::default(), "something is left of calls that have ended long ago");
    }

    /// Nothing is left of any registration.
    pub(super) fn check_no_bindings(&self) {
        let bindings: usize = self.partitions.iter().map(Partition::binding_count).sum();
        assert_eq!(bindings, 0, "bindings are left that have ended long ago");
        assert!(self.boot > 1 || self.stored.is_empty(), "the store was not told that bindings ended");
        assert_eq!(self.poll_timeout(), None, "nothing is left, but something is waited for");
    }

    fn set_now(&mut self, instant: Instant) {
        let passed = instant.since(self.now.instant);
        self.now = Now::new(instant, self.now.wall + passed);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let shards = self.shards.iter().filter_map(Shard::poll_timeout);
        shards.chain(self.partitions.iter().filter_map(Partition::poll_timeout)).min()
    }

    fn take_turn(&mut self) {
        let now = self.now.instant;
        for number in 0..SHARDS {
            if self.shards[usize::from(number)].poll_timeout().is_some_and(|at| at <= now) {
                self.with_shard(number, |shard, now, lease, out| shard.handle_timeout(now, lease, out));
            }
        }
        for number in 0..PARTITIONS {
            if self.partitions[usize::from(number)].poll_timeout().is_some_and(|at| at <= now) {
                self.with_partition(number, |partition, now, lease, out| {
                    partition.handle_timeout(now, lease, out)
                });
            }
        }
    }

    fn take_message(&mut self, by: Source, bytes: &[u8], sender: Sender) {
        self.checks.arrives(&by, bytes);
        let before = self.held();
        let number = engine::shard_of(&self.keyring.transaction, bytes, SHARDS);
        self.with_shard(number, |shard, now, lease, out| shard.handle_message(now, lease, by, bytes, out));
        self.settle();
        if sender == Sender::Stranger {
            self.checks.after_stranger(bytes, before, self.held());
        }
    }

    /// Carries what is to be carried, also what the engine has sent to itself.
    fn end_step(&mut self) {
        self.settle();
        while let Some(Heard { by, bytes }) = self.own.pop_front() {
            self.take_message(by, &bytes, Sender::Anybody);
        }
        self.messages = 0;
        self.checks.check_held(self.held());
    }

    fn settle(&mut self) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::FromShard(shard, output) => self.carry_shard(shard, output),
                Work::FromPartition(partition, output) => self.carry_partition(partition, output),
                Work::SendFailed(shard, key) => {
                    self.with_shard(shard, |shard, now, lease, out| {
                        shard.handle_send_failed(now, lease, key, out)
                    });
                }
            }
        }
    }

    fn carry_shard(&mut self, shard: u16, output: Output) {
        match output {
            Output::Send { to, message, of } => self.send(to, message, of.map(|key| (shard, key))),
            // Nothing waits: there is no other node.
            Output::SendWhenHeld { to, message, .. } => self.send(to, message, None),
            Output::Ask { partition_of, token, question } => {
                let number = self.partition_of(&partition_of);
                let asker = Asker { shard, token };
                self.with_partition(number, |partition, now, lease, out| {
                    partition.handle_question(now, lease, asker, question, out);
                });
            }
            Output::FindElsewhere { .. } => unreachable!("no table is shared"),
            Output::Resolve { token, query } => {
                assert!(!query.name().is_empty(), "an empty name is looked up");
                if self.has_names {
                    let records = match query {
                        Query::Naptr(_) | Query::Srv(_) => Records::None,
                        Query::Addresses(_) => {
                            Records::Addresses(ELSEWHERE.map(|text| peers::address(text).ip()).to_vec())
                        }
                    };
                    self.with_shard(shard, |shard, now, lease, out| {
                        shard.handle_resolved(now, lease, token, records, out);
                    });
                } else {
                    remember(&mut self.lookups, (shard, token, query));
                }
            }
            Output::Publish(_) => unreachable!("there is no account of our own"),
            // Who is heard is not the engine's affair: here everything is.
            Output::Report(_) | Output::Settled(_) => {}
            Output::KeepaliveAnswered(mark) => {
                assert!(mark.partition < PARTITIONS, "a keepalive of a partition that is not there");
                self.with_partition(mark.partition, |partition, now, _, out| {
                    partition.handle_keepalive_answered(now, mark, out);
                });
            }
            // No gateway is configured.
            Output::ProbeAnswered(..) | Output::GatewayOutcome(..) | Output::Record(_) => {}
        }
    }

    fn carry_partition(&mut self, number: u16, output: PartitionOutput) {
        match output {
            PartitionOutput::Answer { asker, answer } => {
                self.with_shard(asker.shard, |shard, now, lease, out| {
                    shard.handle_answer(now, lease, asker.token, answer, out);
                });
            }
            PartitionOutput::LoadAccount(aor) if self.has_store => {
                let loaded = loaded(&aor);
                self.with_partition(number, |partition, now, lease, out| {
                    partition.handle_account(now, lease, &aor, loaded, out);
                });
            }
            PartitionOutput::LoadAccount(aor) => remember(&mut self.loads, (number, aor)),
            PartitionOutput::Save(Change::Put(binding)) => {
                self.stored.insert(BindingKey::of(&binding), *binding);
            }
            PartitionOutput::Save(Change::Remove(key)) => {
                self.stored.remove(&key);
            }
            PartitionOutput::Send { to, message } => self.send(to, message, None),
            PartitionOutput::Report(_) => {}
        }
    }

    fn send(&mut self, to: Destination, message: Bytes, of: Option<(u16, ClientKey)>) {
        self.messages += 1;
        assert!(self.messages < MESSAGES_MAX, "one input caused a storm");
        self.checks_leaves(&to, &message);
        let listeners = self.settings.listeners.clone();
        let Some(listener) = listeners.get(to.listener()) else { return self.fail_later(of) };
        let by = match to {
            Destination::Flow(Flow::Datagram { remote, .. }) => {
                if let Some(own) = listeners.find(Transport::Udp, transport::LocalAddr(remote.0)) {
                    let flow = Flow::Datagram { listener: own, remote: RemoteAddr(listener.local.0) };
                    self.own
                        .push_back(Heard { by: Source { flow, transport: Transport::Udp }, bytes: message });
                    return;
                }
                Source { flow: Flow::Datagram { listener: listener.id, remote }, transport: Transport::Udp }
            }
            Destination::Flow(Flow::Connection { id, remote }) => {
                if !self.lines.contains_key(&id) {
                    return self.fail_later(of);
                }
                source_of(id, remote)
            }
            Destination::Connect { listener, remote } => match self.connect(listener, remote) {
                Some(id) => source_of(id, remote),
                None => return self.fail_later(of),
            },
        };
        if let Some(of) = of {
            remember(&mut self.sent, of);
        }
        self.hear(by, message);
    }

    fn checks_leaves(&mut self, to: &Destination, message: &Bytes) {
        let mut hash = self.trace ^ u64::from(to.listener().0);
        for chunk in message.chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(eight)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        self.trace = hash;
        self.checks.leaves(&self.settings.listeners, to, message);
    }

    fn hear(&mut self, by: Source, bytes: Bytes) {
        let Ok(message) = Message::parse(&bytes) else { return };
        let is_stranger = by.flow.remote().0 == peers::address(peers::PEERS[peers::STRANGER].remote);
        if message.is_request() {
            remember(&mut self.requests, Heard { by, bytes });
        } else if !is_stranger {
            for nonce in Nonce::all(&message) {
                self.nonces.push_front(nonce);
            }
            self.nonces.truncate(6);
            remember(&mut self.responses, Heard { by, bytes });
        }
    }

    /// The connection to a peer: the one that is there, or another that the peer accepts.
    fn connect(&mut self, listener: ListenerId, remote: RemoteAddr) -> Option<ConnectionId> {
        let is_there = |(id, line): &(&ConnectionId, &Line)| id.listener == listener && line.remote == remote;
        let found = self.lines.iter().find(is_there).map(|(&id, _)| id);
        let is_own = self.settings.listeners.find(Transport::Tcp, transport::LocalAddr(remote.0)).is_some();
        found.or_else(|| (self.is_accepting && !is_own).then(|| self.open(remote.0)))
    }

    fn fail_later(&mut self, of: Option<(u16, ClientKey)>) {
        if let Some((shard, key)) = of {
            self.work.push_back(Work::SendFailed(shard, key));
        }
    }

    fn with_shard(
        &mut self,
        number: u16,
        act: impl FnOnce(&mut Shard, Now, &ActiveLease<'_>, &mut Vec<Output>),
    ) {
        let (mirror, mut out) = (LeaseMirror::permanent(), Vec::new());
        let lease = mirror.active(self.now.instant).expect("a permanent lease");
        act(&mut self.shards[usize::from(number % SHARDS)], self.now, &lease, &mut out);
        self.work.extend(out.into_iter().map(|output| Work::FromShard(number, output)));
    }

    fn with_partition(
        &mut self,
        number: u16,
        act: impl FnOnce(&mut Partition, Now, &ActiveLease<'_>, &mut Vec<PartitionOutput>),
    ) {
        let (mirror, mut out) = (LeaseMirror::permanent(), Vec::new());
        let lease = mirror.active(self.now.instant).expect("a permanent lease");
        act(&mut self.partitions[usize::from(number)], self.now, &lease, &mut out);
        self.work.extend(out.into_iter().map(|output| Work::FromPartition(number, output)));
    }

    fn with_partitions(
        &mut self,
        act: impl Fn(&mut Partition, Now, &ActiveLease<'_>, &mut Vec<PartitionOutput>),
    ) {
        for number in 0..PARTITIONS {
            self.with_partition(number, &act);
        }
    }

    fn held(&self) -> Held {
        self.shards.iter().map(Shard::counts).fold(Held::default(), |held, counts| Held {
            servers: held.servers + counts.servers,
            clients: held.clients + counts.clients,
            suspended: held.suspended + counts.suspended,
            contexts: held.contexts + counts.contexts,
        })
    }

    fn partition_of(&self, aor: &Aor) -> u16 {
        engine::partition_of(&self.keyring.partition, aor, PARTITIONS)
    }
}

/// What a store that works says of an address of record.
pub(super) fn loaded(aor: &Aor) -> Loaded {
    peers::account(aor).map_or(Loaded::NotFound, Loaded::Found)
}

fn shards(settings: &Arc<Settings>, keyring: &Keyring, boot: u32) -> Vec<Shard> {
    (0..SHARDS).map(|number| Shard::new(settings.clone(), keyring.clone(), number, boot)).collect()
}

fn partitions(settings: &Arc<Settings>, keyring: &Keyring) -> Vec<Partition> {
    (0..PARTITIONS).map(|number| Partition::new(settings.clone(), keyring.clone(), number)).collect()
}

fn source_of(id: ConnectionId, remote: RemoteAddr) -> Source {
    Source { flow: Flow::Connection { id, remote }, transport: Transport::Tcp }
}

/// The last one comes first.
fn remember<T>(all: &mut VecDeque<T>, one: T) {
    all.push_front(one);
    all.truncate(REMEMBERED_MAX);
}

//! The server: the engine that ships, run as the edge runs it, in one thread and without sockets.
//!
//! Shards and partitions exchange their questions and answers in one batch until all are quiet. What
//! leaves for the world is appended to the caller's buffer.
//!
//! Invariant: between two inputs no work waits inside the node.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now};
use engine::{Asker, Change, Loaded, Partition, PartitionOutput, Prober, ProberOutput, Shard, StoredNonce};
use keys::RootKey;
use lease::{ActiveLease, LeaseMirror};
use routing::account::BindingKey;
use routing::bans::{BanCounts, Deed, Judgement};
use routing::{Answer, Bans, BindingId, CallRecord, Counts, Keyring, Report, Settings, StoredBinding, Token};
use sip::Aor;
use transaction::ClientKey;
use transport::selection::{Query, Records};
use transport::{
    Classified, ConnectionId, ConnectionLimits, Connections, Flow, Frame, Framer, FramingError, Listener,
    ListenerId, LocalAddr, PONG, Progress, RemoteAddr, Source, Transport, classify,
};

use crate::pair::fault::{self, Fault};
use crate::stream::StreamId;

mod copies;
mod lines;

use copies::Copies;
pub(crate) use copies::{FromPeer, PeerOutput, Truth, digest_key};
use lines::Line;

/// What a node wants of the world.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a datagram from this own address.
    Datagram { from: SocketAddr, to: SocketAddr, bytes: Bytes },
    /// Open a connection; the node is told which by `handle_opening` at once.
    Open { connection: ConnectionId, from: SocketAddr, to: SocketAddr },
    /// Write to a connection.
    Write { stream: StreamId, bytes: Bytes },
    /// Close a connection.
    Close { stream: StreamId },
    /// Look an account up.
    Load { partition: u16, aor: Aor },
    /// Write a change down.
    Save(Change),
    /// Ask the DNS.
    Resolve { shard: u16, token: Token, query: Query },
    /// Something on the way to the other node.
    Peer(PeerOutput),
}

/// How many of each kind of partition there are.
pub(crate) const SHARDS: u16 = 2;
/// How many account partitions there are.
pub(crate) const PARTITIONS: u16 = 2;

#[derive(Debug)]
enum Work {
    FromShard(u16, engine::Output),
    FromPartition(u16, PartitionOutput),
    FromProber(ProberOutput),
    SendFailed(u16, ClientKey),
}

/// One start of the server.
#[derive(Debug)]
pub(crate) struct Node {
    settings: Arc<Settings>,
    keyring: Keyring,
    shards: Vec<Shard>,
    partitions: Vec<Partition>,
    prober: Prober,
    bans: Bans,
    connections: Connections,
    lines: BTreeMap<ConnectionId, Line>,
    by_stream: BTreeMap<StreamId, ConnectionId>,
    work: VecDeque<Work>,
    lease: LeaseMirror,
    /// The way to the other node, if there is one.
    copies: Option<Box<Copies>>,
    dropped: Dropped,
    /// What is left of calls, and nobody has taken yet.
    records: Vec<CallRecord>,
}

/// Datagrams, messages and connections that were not heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Their source was banned.
    pub(crate) banned: u64,
    /// Its rate was used up.
    pub(crate) slowed: u64,
}

/// What a node holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Transactions of both kinds.
    pub(crate) transactions: usize,
    /// Requests that wait for an answer.
    pub(crate) suspended: usize,
    /// Requests being proxied.
    pub(crate) contexts: usize,
}

impl Node {
    /// A server that has just started. `boot` differs at each start.
    pub(crate) fn start(now: Now, settings: Arc<Settings>, root: &RootKey, boot: u32) -> Self {
        let mut keyring = Keyring::derive(root);
        if fault::is_planted(Fault::NonceOfOneNode) {
            keyring.nonce = root.subkey("nonce", 1 + boot % 2);
        }
        let shard = |number| {
            let mut shard = Shard::new(settings.clone(), keyring.clone(), number, boot);
            shard.keep_registrations(SHARDS);
            shard.keep_records();
            shard
        };
        let shards = (0..SHARDS).map(shard).collect();
        let partitions =
            (0..PARTITIONS).map(|number| Partition::new(settings.clone(), keyring.clone(), number)).collect();
        Self {
            prober: Prober::new(now, settings.clone(), &keyring),
            bans: Bans::new(settings.clone(), &keyring),
            settings,
            keyring,
            shards,
            partitions,
            connections: Connections::new(0, boot, ConnectionLimits::default()),
            lines: BTreeMap::new(),
            by_stream: BTreeMap::new(),
            work: VecDeque::new(),
            lease: LeaseMirror::permanent(),
            copies: None,
            dropped: Dropped::default(),
            records: Vec::new(),
        }
    }

    /// What is left of calls that have ended since this was asked last.
    pub(crate) fn take_records(&mut self) -> Vec<CallRecord> {
        std::mem::take(&mut self.records)
    }

    /// Sees the lease as its guardian has written it.
    pub(crate) fn set_lease(&mut self, lease: LeaseMirror) {
        self.lease = lease;
    }

    /// Whether it may act now.
    pub(crate) fn is_active(&self, now: Now) -> bool {
        self.lease.active(now.instant).is_some()
    }

    /// Is told to look at the lease: all machines act, or stand by.
    pub(crate) fn look_at_lease(&mut self, now: Now, out: &mut Vec<Output>) {
        match self.lease.active(now.instant).is_some() {
            true => self.wake(now, |_| true),
            false => self.stand_by(now),
        }
        self.settle(now, out);
    }

    fn stand_by(&mut self, now: Now) {
        self.shards.iter_mut().for_each(|shard| shard.stand_by(now));
        if !fault::is_planted(Fault::StandbyExpires) {
            self.partitions.iter_mut().for_each(Partition::stand_by);
        }
        self.prober.stand_by();
        self.work.clear();
    }

    /// Takes what the store kept from an earlier start. Gives the bindings' numbers.
    pub(crate) fn restore(
        &mut self,
        now: Now,
        bindings: Vec<StoredBinding>,
        nonces: Vec<StoredNonce>,
    ) -> Vec<(u16, BindingKey, BindingId)> {
        let mut restored = Vec::new();
        for binding in bindings {
            self.bans.handle_binding(now.instant, binding.listener.0, RemoteAddr(binding.received));
            let (number, key) = (self.partition_of(&binding.aor), BindingKey::of(&binding));
            let partition = self.partitions.get_mut(usize::from(number));
            let id = partition.and_then(|partition| partition.restore(now, binding));
            restored.extend(id.map(|id| (number, key, id)));
        }
        for nonce in nonces {
            let partition = self.partition_of(&nonce.account);
            if let Some(partition) = self.partitions.get_mut(usize::from(partition)) {
                partition.restore_nonce(now, nonce);
            }
        }
        restored
    }

    /// What a clean stop writes down.
    pub(crate) fn nonces(&self, now: Now) -> Vec<StoredNonce> {
        self.partitions.iter().flat_map(|partition| partition.stored_nonces(now)).collect()
    }

    /// The streams that end with the process.
    pub(crate) fn streams(&self) -> Vec<StreamId> {
        self.by_stream.keys().copied().collect()
    }

    /// Contacts that are bound to an address of record.
    pub(crate) fn contacts(&self, now: Now, aor: &Aor) -> Vec<Bytes> {
        self.partitions
            .iter()
            .flat_map(|partition| partition.bindings(Some(aor), now))
            .map(|binding| binding.contact.clone())
            .collect()
    }

    /// What it holds.
    pub(crate) fn held(&self) -> Held {
        self.shards.iter().map(Shard::counts).fold(Held::default(), |held, counts| Held {
            transactions: held.transactions + counts.servers + counts.clients,
            suspended: held.suspended + counts.suspended,
            contexts: held.contexts + counts.contexts,
        })
    }

    /// How many calls it has as the active one, ringing ones included.
    pub(crate) fn calls(&self) -> usize {
        self.shards.iter().map(|shard| shard.counts().calls).sum()
    }

    /// What it did not hear.
    pub(crate) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// How many sources it banned and restrained.
    pub(crate) fn ban_counts(&self) -> &BanCounts {
        self.bans.counts()
    }

    /// What has happened in it.
    pub(crate) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for shard in &self.shards {
            all.merge(&shard.counts().counts);
        }
        for partition in &self.partitions {
            all.merge(partition.counts());
        }
        all
    }

    /// Takes a datagram that came to an own address.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Now,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        let Some(listener) = self.settings.listeners.find(Transport::Udp, LocalAddr(local)) else { return };
        let flow = Flow::Datagram { listener, remote: RemoteAddr(remote) };
        let judgement = self.bans.judge(now.instant, &flow);
        if judgement == Judgement::Banned {
            self.dropped.banned += 1;
            return;
        }
        match classify(bytes) {
            Classified::Message if judgement == Judgement::Slow => self.dropped.slowed += 1,
            Classified::Message => {
                self.take_message(now, Source { flow, transport: Transport::Udp }, bytes);
            }
            Classified::Stun => {
                let mut answer = Vec::new();
                if stun::answer(bytes, remote, &mut answer) {
                    out.push(Output::Datagram { from: local, to: remote, bytes: answer.into() });
                }
            }
            Classified::Keepalive | Classified::Garbage => {}
        }
        self.settle(now, out);
    }

    /// Somebody connects; `false` refuses it.
    pub(crate) fn handle_accepted(
        &mut self,
        now: Now,
        stream: StreamId,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> bool {
        let Some(listener) = self.settings.listeners.find(Transport::Tcp, LocalAddr(local)) else {
            return false;
        };
        if self.bans.judge_address(now.instant, remote.ip()) == Judgement::Banned {
            self.dropped.banned += 1;
            return false;
        }
        let Ok(id) = self.connections.accepted(now.instant, listener, RemoteAddr(remote)) else {
            return false;
        };
        self.lines.insert(
            id,
            Line { stream: Some(stream), is_up: true, framer: Framer::new(), waiting: Vec::new() },
        );
        self.by_stream.insert(stream, id);
        true
    }

    /// Is told which stream its connection became.
    pub(crate) fn handle_opening(&mut self, connection: ConnectionId, stream: StreamId) {
        if let Some(line) = self.lines.get_mut(&connection) {
            line.stream = Some(stream);
            self.by_stream.insert(stream, connection);
        }
    }

    /// A connection that it opened is up.
    pub(crate) fn handle_opened(&mut self, now: Now, stream: StreamId, out: &mut Vec<Output>) {
        let Some(&id) = self.by_stream.get(&stream) else { return };
        self.connections.established(now.instant, id);
        if let Some(line) = self.lines.get_mut(&id) {
            line.is_up = true;
            for (bytes, _) in std::mem::take(&mut line.waiting) {
                out.push(Output::Write { stream, bytes });
            }
        }
    }

    /// A connection is gone or was refused.
    pub(crate) fn handle_closed(&mut self, now: Now, stream: StreamId, out: &mut Vec<Output>) {
        if let Some(&id) = self.by_stream.get(&stream) {
            self.connections.closed(id);
            self.forget(now, id);
        }
        self.settle(now, out);
    }

    /// Takes bytes of a connection.
    pub(crate) fn handle_bytes(&mut self, now: Now, stream: StreamId, bytes: &[u8], out: &mut Vec<Output>) {
        let Some(&id) = self.by_stream.get(&stream) else { return };
        let Some(remote) = self.connections.remote(id) else { return };
        let source = Source { flow: Flow::Connection { id, remote }, transport: Transport::Tcp };
        let Some(line) = self.lines.get_mut(&id) else { return };
        let judgement = self.bans.judge(now.instant, &source.flow);
        if judgement == Judgement::Banned {
            self.dropped.banned += 1;
            self.connections.closed(id);
            self.forget(now, id);
            out.push(Output::Close { stream });
            return self.settle(now, out);
        }
        line.framer.push(now.instant, bytes);
        // A message may close its own connection.
        while let Some(line) = self.lines.get_mut(&id) {
            match line.framer.next() {
                Ok(Some(Frame::Message(_))) if judgement == Judgement::Slow => {
                    self.dropped.slowed += 1;
                    self.report(now, Report::of(source.flow, Deed::Flood));
                }
                Ok(Some(Frame::Message(message))) => self.take_message(now, source, &message),
                Ok(Some(Frame::Ping)) => {
                    out.push(Output::Write { stream, bytes: Bytes::from_static(PONG) });
                }
                Ok(Some(Frame::Pong)) => {}
                Ok(None) => {
                    let progress = Progress::of(line.framer.partial_since());
                    self.connections.received(now.instant, id, progress);
                    break;
                }
                Err(problem) => {
                    if let FramingError::Unframable { head, .. } = problem {
                        self.take_message(now, source, &head);
                        self.settle(now, out);
                    }
                    self.connections.closed(id);
                    self.forget(now, id);
                    out.push(Output::Close { stream });
                    break;
                }
            }
            self.settle(now, out);
        }
        self.settle(now, out);
    }

    /// Takes the store's reply.
    pub(crate) fn handle_account(
        &mut self,
        now: Now,
        number: u16,
        aor: &Aor,
        loaded: Loaded,
        out: &mut Vec<Output>,
    ) {
        self.step_partition(now, number, |partition, lease, out| {
            partition.handle_account(now, lease, aor, loaded, out);
        });
        self.settle(now, out);
    }

    /// Takes the resolver's answer.
    pub(crate) fn handle_resolved(
        &mut self,
        now: Now,
        shard: u16,
        token: Token,
        records: Records,
        out: &mut Vec<Output>,
    ) {
        self.step_shard(now, shard, |shard, lease, out| {
            shard.handle_resolved(now, lease, token, records, out);
        });
        self.settle(now, out);
    }

    /// Lets time pass.
    pub(crate) fn handle_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        self.wake_copies(now, out);
        if !self.is_active(now) && !fault::is_planted(Fault::StandbyExpires) {
            self.stand_by(now);
            return self.settle(now, out);
        }
        self.wake(now, |due| due.is_some_and(|at| at <= now.instant));
        let mut closed = Vec::new();
        self.connections.handle_timeout(now.instant, &mut closed);
        for transport::ConnectionOutput::Close(id, _) in closed {
            if let Some(stream) = self.lines.get(&id).and_then(|line| line.stream) {
                out.push(Output::Close { stream });
            }
            self.forget(now, id);
        }
        self.settle(now, out);
    }

    /// Lets time pass for the machines that are to be called.
    fn wake(&mut self, now: Now, is_due: impl Fn(Option<Instant>) -> bool) {
        for number in 0..SHARDS {
            if self.shards.get(usize::from(number)).is_some_and(|it| is_due(it.poll_timeout())) {
                self.step_shard(now, number, |shard, lease, out| shard.handle_timeout(now, lease, out));
            }
        }
        for number in 0..PARTITIONS {
            if self.partitions.get(usize::from(number)).is_some_and(|it| is_due(it.poll_timeout())) {
                self.step_partition(now, number, |partition, lease, out| {
                    partition.handle_timeout(now, lease, out);
                });
            }
        }
        if let Some(lease) = self.lease.active(now.instant)
            && is_due(self.prober.poll_timeout())
        {
            let mut outputs = Vec::new();
            self.prober.handle_timeout(now, &lease, &mut outputs);
            self.work.extend(outputs.into_iter().map(Work::FromProber));
        }
    }

    /// Lets a partition take a step, and tells the other node what it has changed. Without the lease nothing happens.
    fn step_partition(
        &mut self,
        now: Now,
        number: u16,
        step: impl FnOnce(&mut Partition, &ActiveLease<'_>, &mut Vec<PartitionOutput>),
    ) {
        let forged = LeaseMirror::permanent();
        let mirror = if fault::is_planted(Fault::StandbyExpires) { &forged } else { &self.lease };
        let (Some(lease), Some(partition)) =
            (mirror.active(now.instant), self.partitions.get_mut(usize::from(number)))
        else {
            return;
        };
        let mut outputs = Vec::new();
        step(partition, &lease, &mut outputs);
        if let Some(copies) = &mut self.copies {
            copies.post(now, number, partition, &mut outputs);
        }
        self.work.extend(outputs.into_iter().map(|output| Work::FromPartition(number, output)));
    }

    /// Lets a shard take a step, and tells the other node which calls it has changed. Without the lease nothing happens.
    fn step_shard(
        &mut self,
        now: Now,
        number: u16,
        step: impl FnOnce(&mut Shard, &ActiveLease<'_>, &mut Vec<engine::Output>),
    ) {
        let (Some(lease), Some(shard)) =
            (self.lease.active(now.instant), self.shards.get_mut(usize::from(number)))
        else {
            return;
        };
        let mut outputs = Vec::new();
        step(shard, &lease, &mut outputs);
        self.records.extend(engine::take_records(&mut outputs).filter_map(|news| match news {
            engine::RecordNews::Ended(record, _) => Some(*record),
            engine::RecordNews::Media(..) => None,
        }));
        if let Some(copies) = &mut self.copies {
            copies.post_calls(now, number, shard, &mut outputs);
        }
        self.work.extend(outputs.into_iter().map(|output| Work::FromShard(number, output)));
    }

    /// Takes back what it has registered at carriers, as at its end.
    pub(crate) fn leave_carriers(&mut self, now: Now, out: &mut Vec<Output>) {
        for number in 0..SHARDS {
            self.step_shard(now, number, |shard, lease, out| shard.handle_stop(now, lease, out));
        }
        self.settle(now, out);
    }

    /// When [`Node::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let shards = self.shards.iter().filter_map(Shard::poll_timeout);
        let partitions = self.partitions.iter().filter_map(Partition::poll_timeout);
        let copies = self.copies.as_ref().and_then(|copies| copies.poll_timeout());
        let others = [self.prober.poll_timeout(), self.connections.poll_timeout(), copies];
        shards.chain(partitions).chain(others.into_iter().flatten()).min()
    }

    fn take_message(&mut self, now: Now, source: Source, bytes: &[u8]) {
        let number = engine::shard_of(&self.keyring.partition, bytes, SHARDS);
        self.step_shard(now, number, |shard, lease, out| {
            shard.handle_message(now, lease, source, bytes, out)
        });
    }

    /// Carries outputs between shards, partitions, connections and the other node until all are quiet.
    fn settle(&mut self, now: Now, out: &mut Vec<Output>) {
        self.settle_work(now, out);
        while let Some(output) = self.copies.as_mut().and_then(|copies| copies.next_output()) {
            self.carry_sender(now, output, out);
            self.settle_work(now, out);
        }
    }

    fn settle_work(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(work) = self.work.pop_front() {
            match work {
                Work::FromShard(shard, output) => self.carry_shard(now, shard, output, out),
                Work::FromPartition(partition, output) => self.carry_partition(now, partition, output, out),
                Work::FromProber(output) => self.carry_prober(now, output, out),
                Work::SendFailed(shard, key) => {
                    self.step_shard(now, shard, |shard, lease, out| {
                        shard.handle_send_failed(now, lease, key, out);
                    });
                }
            }
        }
    }

    fn carry_shard(&mut self, now: Now, shard: u16, output: engine::Output, out: &mut Vec<Output>) {
        match output {
            engine::Output::Send { to, message, of } => {
                self.send(now, to, message, of.map(|key| (shard, key)), out);
            }
            engine::Output::SendWhenHeld { to, message, of, .. } => {
                self.send(now, to, message, of.map(|key| (shard, key)), out);
            }
            engine::Output::Ask { partition_of, token, question } => {
                let number = self.partition_of(&partition_of);
                self.step_partition(now, number, |partition, lease, out| {
                    partition.handle_question(now, lease, Asker { shard, token }, question, out);
                });
            }
            engine::Output::Report(report) => self.report(now, report),
            // No table is shared here.
            engine::Output::FindElsewhere { .. } => {}
            engine::Output::Resolve { token, query } => {
                out.push(Output::Resolve { shard, token, query });
            }
            engine::Output::Publish(news) => {
                for shard in &mut self.shards {
                    shard.handle_news(Arc::clone(&news));
                }
            }
            engine::Output::KeepaliveAnswered(mark) => {
                let mut outputs = Vec::new();
                if let Some(partition) = self.partitions.get_mut(usize::from(mark.partition)) {
                    partition.handle_keepalive_answered(now, mark, &mut outputs);
                }
                self.work
                    .extend(outputs.into_iter().map(|output| Work::FromPartition(mark.partition, output)));
            }
            engine::Output::ProbeAnswered(mark, status) => {
                let Some(lease) = self.lease.active(now.instant) else { return };
                let mut outputs = Vec::new();
                self.prober.handle_answered(now, &lease, mark, status, &mut outputs);
                self.work.extend(outputs.into_iter().map(Work::FromProber));
            }
            engine::Output::Settled(_) | engine::Output::Record(_) => {}
            engine::Output::GatewayOutcome(gateway, outcome) => {
                let mut outputs = Vec::new();
                self.prober.handle_outcome(now, &gateway.name, outcome, &mut outputs);
                self.work.extend(outputs.into_iter().map(Work::FromProber));
            }
        }
    }

    fn carry_prober(&mut self, now: Now, output: ProberOutput, out: &mut Vec<Output>) {
        match output {
            ProberOutput::Send { to, message } => self.send(now, to, message, None, out),
            ProberOutput::Publish(verdicts) => {
                for shard in &mut self.shards {
                    shard.handle_verdicts(Arc::clone(&verdicts));
                }
            }
            // The simulated gateways have addresses and no names.
            ProberOutput::Resolve { .. } => {}
        }
    }

    fn carry_partition(&mut self, now: Now, partition: u16, output: PartitionOutput, out: &mut Vec<Output>) {
        match output {
            PartitionOutput::Answer { asker, answer } => self.answer(now, asker, answer),
            PartitionOutput::LoadAccount(aor) => out.push(Output::Load { partition, aor }),
            PartitionOutput::Save(change) => out.push(Output::Save(change)),
            PartitionOutput::Send { to, message } => self.send(now, to, message, None, out),
            PartitionOutput::Report(report) => self.report(now, report),
        }
    }

    fn answer(&mut self, now: Now, asker: Asker, answer: Answer) {
        self.step_shard(now, asker.shard, |shard, lease, out| {
            shard.handle_answer(now, lease, asker.token, answer, out);
        });
    }

    /// A banned source's connections end when the next piece of them comes.
    fn report(&mut self, now: Now, report: Report) {
        self.bans.handle_report(now.instant, &report, &mut Vec::new());
    }

    fn local(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.settings.listeners.get(listener).map(|listener: &Listener| listener.local.0)
    }

    fn partition_of(&self, aor: &Aor) -> u16 {
        engine::partition_of(&self.keyring.partition, aor, PARTITIONS)
    }
}

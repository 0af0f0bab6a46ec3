//! Carries values between shards, partitions, the prober and the world until nothing is left to carry.
//!
//! A shard's question goes to its partition and the answer back to the shard, in the same batch. What is
//! for the store, the resolver or a socket leaves. Each step takes one lock, lets one machine work through all
//! that waits for it, and lets go before the next lock is taken.
//!
//! The rounds need no limit: an answer ends the wait that its question began, and a request has few waits.

use std::sync::Arc;

use bytes::Bytes;
use clock::Now;
use engine::{
    Asker, Holding, Loaded, Output, Partition, PartitionOutput, Prober, ProberOutput, RelayEvent, Settled,
    Shard, shard_of_owner,
};
use lease::ActiveLease;
use media::ng::Answer as RelayAnswer;
use replica::{Posted, Ticket};
use routing::gateway::{GatewayMark, Outcome, ProbeMark};
use routing::overload::Rejection;
use routing::{Answer, CarrierNews, Gateway, KeepaliveMark, Question, Report, Token};
use sip::{Aor, Status};
use transaction::ClientKey;
use transport::selection::{Query, Records};
use transport::{ConnectionId, Destination, Flow, Source};

use crate::alarm::Event;
use crate::clocks;
use crate::copies::{Owner, ShardOwner};
use crate::edge::Edge;
use crate::machines::{Machines, PROBER_LOOP};
use crate::mandate::Ownership;
use crate::resolver::{Lookup, Waiter};
use crate::rtpengine::Waiter as RelayWaiter;
use crate::seat::{Machine, Seat};
use crate::tally::Tally;
use crate::udp::{Datagram, send_all};

/// What waits for a shard.
#[derive(Debug)]
enum ToShard {
    Answer(Token, Answer),
    Resolved(Token, Records),
    Refused(Flow, Bytes),
    SendFailed(ClientKey),
    News(Arc<CarrierNews>),
    Relayed(RelayEvent),
    RelayAnswered(Box<RelayAnswer<RelayWaiter>>),
    Settled(Ticket),
    Timeout,
    Stop,
}

/// What waits for a partition.
#[derive(Debug)]
enum ToPartition {
    Question(Asker, Question),
    KeepaliveAnswered(KeepaliveMark),
    Loaded(Aor, Loaded),
    ConnectionClosed(ConnectionId),
    Settled(Ticket),
    Timeout,
}

/// What waits for the prober.
#[derive(Debug)]
enum ToProber {
    Answered(ProbeMark, Status),
    Outcome(Arc<Gateway>, Outcome),
    Resolved(GatewayMark, Records),
    Timeout,
}

/// A message on its way to a connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: Destination,
    pub(crate) message: Bytes,
    pub(crate) of: Option<Sender>,
}

/// The client transaction that wants to know if its request could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) shard: u16,
    pub(crate) key: ClientKey,
}

/// The buffers of one thread's, or one connection's, work. They are empty between two uses.
#[derive(Debug, Default)]
pub(crate) struct Carrier {
    shards: Vec<Vec<ToShard>>,
    partitions: Vec<Vec<ToPartition>>,
    prober: Vec<ToProber>,
    from_shard: Vec<Output>,
    from_partition: Vec<PartitionOutput>,
    from_prober: Vec<ProberOutput>,
    /// Whose answers wait for the other node.
    waits: Vec<(Ticket, Posted)>,
    /// In the order in which they leave.
    posts: Vec<Post>,
    datagrams: Vec<Datagram>,
    failed: Vec<Sender>,
    reports: Vec<Report>,
    /// What was settled in this batch.
    settled: Vec<Settled>,
}

/// A message that leaves.
#[derive(Debug)]
enum Post {
    Datagram(Datagram),
    Stream(Outgoing),
}

impl Carrier {
    pub(crate) fn new(machines: usize) -> Self {
        Self {
            shards: std::iter::repeat_with(Vec::new).take(machines).collect(),
            partitions: std::iter::repeat_with(Vec::new).take(machines).collect(),
            ..Self::default()
        }
    }

    /// Gives messages to the shard that they belong to. While the node is not active they are answered from themselves if
    /// they came by an address of its own.
    pub(crate) fn feed<'m>(
        &mut self,
        edge: &Edge,
        now: Now,
        ownership: Ownership,
        shard: u16,
        messages: impl Iterator<Item = (Source, &'m [u8])>,
    ) {
        if ownership == Ownership::Own && edge.mandate.epoch(now.instant).is_none() {
            return self.feed_as_standby(edge, now, shard, messages);
        }
        self.step_shard(edge, now, shard, |owner, now, lease, out| {
            for (source, message) in messages {
                owner.shard.handle_message(now, lease, source, message, out);
            }
        });
    }

    /// Has the shard that they belong to refuse requests, because more comes than can be handled.
    pub(crate) fn turn_away<'m>(
        &mut self,
        edge: &Edge,
        now: Now,
        shard: u16,
        messages: impl Iterator<Item = (Source, &'m [u8], Rejection)>,
    ) {
        self.step_shard(edge, now, shard, |owner, now, lease, out| {
            for (source, message, refusal) in messages {
                owner.shard.turn_away(now, lease, source, message, refusal, out);
            }
        });
    }

    fn feed_as_standby<'m>(
        &mut self,
        edge: &Edge,
        now: Now,
        number: u16,
        messages: impl Iterator<Item = (Source, &'m [u8])>,
    ) {
        let seat = &edge.machines.shards[usize::from(number)];
        let (readiness, out) = (edge.mandate.readiness(), &mut self.from_shard);
        seat.with(now, |owner, now| {
            for (source, message) in messages {
                owner.shard.handle_as_standby(now, source, message, readiness, out);
            }
            edge.relay.take_orders(number, None, &mut owner.shard);
        });
        self.sort_shard_outputs(edge, now, number);
    }

    /// Notes what another thread has left.
    pub(crate) fn note(&mut self, event: Event) {
        match event {
            Event::Loaded { partition, aor, loaded } => {
                self.hold_for_partition(partition, ToPartition::Loaded(aor, loaded));
            }
            Event::Answered { shard, token, answer } => {
                self.hold_for_shard(shard, ToShard::Answer(token, *answer));
            }
            Event::ConnectionClosed { partition, id } => {
                self.hold_for_partition(partition, ToPartition::ConnectionClosed(id));
            }
            Event::Refused { shard, flow, quote } => {
                self.hold_for_shard(shard, ToShard::Refused(flow, quote))
            }
            Event::Relayed { shard, event } => self.hold_for_shard(shard, ToShard::Relayed(event)),
            Event::RelayAnswered(answer) => {
                self.hold_for_shard(answer.waiter.0, ToShard::RelayAnswered(answer));
            }
            Event::Resolved { waiter, records } => self.hold_records(waiter, records),
            Event::Settled(tickets) => {
                for ticket in tickets {
                    let owner = Holding::owner_of(ticket);
                    match shard_of_owner(owner) {
                        Some(shard) => self.hold_for_shard(shard, ToShard::Settled(ticket)),
                        None => self.hold_for_partition(owner, ToPartition::Settled(ticket)),
                    }
                }
            }
            Event::SendFailed { shard, key } => self.hold_for_shard(shard, ToShard::SendFailed(key)),
            Event::ListenersChanged | Event::Look | Event::Drain(_) | Event::Stop => {
                unreachable!("the event loop keeps these to itself")
            }
        }
    }

    /// Notes that the server is about to stop.
    pub(crate) fn note_stop(&mut self) {
        for inputs in &mut self.shards {
            inputs.push(ToShard::Stop);
        }
    }

    /// Notes that the node is active anew: each machine of an event loop is to look what it has missed.
    pub(crate) fn note_activation(&mut self, edge: &Edge, event_loop: usize) {
        for number in edge.machines.owned_by(event_loop) {
            self.hold_for_shard(number, ToShard::Timeout);
            self.hold_for_partition(number, ToPartition::Timeout);
        }
        if event_loop == PROBER_LOOP {
            self.prober.push(ToProber::Timeout);
        }
    }

    /// Notes which machines of an event loop have a deadline that is due.
    pub(crate) fn note_due(&mut self, edge: &Edge, now: Now, event_loop: usize) {
        let Machines { shards, partitions, prober, .. } = &edge.machines;
        for number in edge.machines.owned_by(event_loop) {
            if is_due(&shards[usize::from(number)], now) {
                self.hold_for_shard(number, ToShard::Timeout);
            }
            if is_due(&partitions[usize::from(number)], now) {
                self.hold_for_partition(number, ToPartition::Timeout);
            }
        }
        if event_loop == PROBER_LOOP && is_due(prober, now) {
            self.prober.push(ToProber::Timeout);
        }
    }

    fn hold_records(&mut self, waiter: Waiter, records: Records) {
        match waiter {
            Waiter::Shard(shard, token) => self.hold_for_shard(shard, ToShard::Resolved(token, records)),
            Waiter::Prober(gateway) => self.prober.push(ToProber::Resolved(gateway, records)),
        }
    }

    /// Carries until nothing is left, then sends. `lane` says which of a listener's sockets.
    pub(crate) fn settle(&mut self, edge: &Edge, now: Now, lane: usize) {
        loop {
            while self.carry(edge, now) {}
            self.send(edge, now, lane);
            if !self.settled.is_empty() {
                edge.latencies.note(clocks::instant(), self.settled.drain(..));
            }
            if self.failed.is_empty() {
                edge.learn(now, &mut self.reports);
                return;
            }
            for sender in std::mem::take(&mut self.failed) {
                self.hold_for_shard(sender.shard, ToShard::SendFailed(sender.key));
            }
        }
    }

    /// Sends what waits, in its order: another thread may handle the answer to a request before this one has sent the
    /// next message, and a 100 must not come behind the 200.
    fn send(&mut self, edge: &Edge, now: Now, lane: usize) {
        if self.posts.is_empty() {
            return;
        }
        let listeners = edge.udp.load();
        for post in self.posts.drain(..) {
            match post {
                Post::Datagram(datagram) => self.datagrams.push(datagram),
                Post::Stream(outgoing) => {
                    send_all(edge, &listeners, lane, &mut self.datagrams, &mut self.failed);
                    self.failed.extend(edge.send_by_stream(now, outgoing));
                }
            }
        }
        send_all(edge, &listeners, lane, &mut self.datagrams, &mut self.failed);
    }

    /// One round: everything that waits for a partition, then everything that waits for a shard.
    fn carry(&mut self, edge: &Edge, now: Now) -> bool {
        let mut carried = false;
        for number in 0..self.partitions.len() {
            if !self.partitions[number].is_empty() {
                carried = true;
                let mut inputs = std::mem::take(&mut self.partitions[number]);
                self.step_partition(edge, now, number as u16, &mut inputs);
                self.partitions[number] = put_back(inputs, &mut self.partitions[number]);
            }
        }
        for number in 0..self.shards.len() {
            if !self.shards[number].is_empty() {
                carried = true;
                let mut inputs = std::mem::take(&mut self.shards[number]);
                self.step_shard(edge, now, number as u16, |owner, now, lease, out| {
                    for input in inputs.drain(..) {
                        match input {
                            ToShard::Settled(ticket) => {
                                let (messages, settled) = owner.holding.handle_settled(ticket);
                                let send = |(to, message, of)| Output::Send { to, message, of };
                                out.extend(messages.into_iter().map(send));
                                out.extend(settled.into_iter().map(Output::Settled));
                            }
                            input => give_shard(&mut owner.shard, now, lease, input, out),
                        }
                    }
                });
                // Without the lease nothing has taken them, and they are of no use later.
                inputs.clear();
                self.shards[number] = put_back(inputs, &mut self.shards[number]);
            }
        }
        if !self.prober.is_empty() {
            carried = true;
            let mut inputs = std::mem::take(&mut self.prober);
            self.step_prober(edge, now, &mut inputs);
            self.prober = put_back(inputs, &mut self.prober);
        }
        carried
    }

    fn step_shard(
        &mut self,
        edge: &Edge,
        now: Now,
        number: u16,
        act: impl FnOnce(&mut ShardOwner, Now, &ActiveLease<'_>, &mut Vec<Output>),
    ) {
        let seat = &edge.machines.shards[usize::from(number)];
        let mirror = edge.mirror_to_act(now.instant);
        let Some(lease) = mirror.active(now.instant) else {
            edge.tallies.add(Tally::Inactive);
            return seat.stand_by(now, || edge.mandate.is_standby());
        };
        let (out, waits) = (&mut self.from_shard, &mut self.waits);
        seat.act(now, |owner, now| {
            owner.enter(&lease);
            act(owner, now, &lease, out);
            edge.write_records(lease.epoch(), out);
            if let Some(copies) = edge.copies.get() {
                copies.post_calls(now, owner, out, waits);
            }
            // Under the lock, so that a session's orders come in their order, and before the messages that name its ports.
            edge.relay.take_orders(number, Some(lease.since()), &mut owner.shard);
            edge.rtpengines.take_questions(number, &mut owner.shard);
        });
        edge.remind_owner(number, seat.due());
        self.wait_for_other_node(edge);
        self.sort_shard_outputs(edge, now, number);
    }

    fn sort_shard_outputs(&mut self, edge: &Edge, now: Now, shard: u16) {
        let mut outputs = std::mem::take(&mut self.from_shard);
        for output in outputs.drain(..) {
            match output {
                Output::Send { to, message, of } => {
                    self.post(to, message, of.map(|key| Sender { shard, key }));
                }
                Output::SendWhenHeld { to, message, of, settled, .. } => {
                    debug_assert!(false, "a shard that notes changes has what it posts looked at");
                    self.post(to, message, of.map(|key| Sender { shard, key }));
                    self.settled.extend(settled);
                }
                Output::Ask { partition_of, token, question } => {
                    let partition = edge.machines.partition_of(&partition_of);
                    self.hold_for_partition(
                        partition,
                        ToPartition::Question(Asker { shard, token }, question),
                    );
                }
                Output::Publish(news) => {
                    for number in 0..edge.machines.shards.len() as u16 {
                        self.hold_for_shard(number, ToShard::News(Arc::clone(&news)));
                    }
                }
                Output::FindElsewhere { token, aor } => edge.find_elsewhere(shard, token, aor),
                Output::Resolve { token, query } => {
                    self.resolve(edge, now, query, Waiter::Shard(shard, token));
                }
                Output::KeepaliveAnswered(mark) => {
                    self.hold_for_partition(mark.partition, ToPartition::KeepaliveAnswered(mark));
                }
                Output::Report(report) => self.reports.push(report),
                Output::Settled(settled) => self.settled.push(settled),
                // Nobody wants them here.
                Output::Record(_) => {}
                Output::ProbeAnswered(mark, status) => self.prober.push(ToProber::Answered(mark, status)),
                Output::GatewayOutcome(gateway, outcome) => {
                    self.prober.push(ToProber::Outcome(gateway, outcome));
                }
            }
        }
        self.from_shard = outputs;
    }

    fn resolve(&mut self, edge: &Edge, now: Now, query: Query, waiter: Waiter) {
        match edge.resolve(now, query, waiter) {
            Lookup::Known(records) => self.hold_records(waiter, records),
            Lookup::UnderWay => {}
            Lookup::Refused => {
                edge.tallies.add(Tally::ResolveRefused);
                self.hold_records(waiter, Records::Failed);
            }
        }
    }

    fn step_prober(&mut self, edge: &Edge, now: Now, inputs: &mut Vec<ToProber>) {
        let mirror = edge.mandate.mirror();
        let Some(lease) = mirror.active(now.instant) else {
            edge.tallies.add_many(Tally::Inactive, inputs.len());
            inputs.clear();
            return edge.machines.prober.stand_by(now, || edge.mandate.is_standby());
        };
        let out = &mut self.from_prober;
        edge.machines.prober.act(now, |prober, now| {
            for input in inputs.drain(..) {
                give_prober(prober, now, &lease, input, out);
            }
        });
        edge.remind_prober();
        let mut outputs = std::mem::take(&mut self.from_prober);
        edge.machines.publish(now, &outputs);
        for output in outputs.drain(..) {
            match output {
                ProberOutput::Send { to, message } => self.post(to, message, None),
                ProberOutput::Resolve { gateway, query } => {
                    self.resolve(edge, now, query, Waiter::Prober(gateway));
                }
                ProberOutput::Publish(_) => {}
            }
        }
        self.from_prober = outputs;
    }

    fn step_partition(&mut self, edge: &Edge, now: Now, number: u16, inputs: &mut Vec<ToPartition>) {
        let seat = &edge.machines.partitions[usize::from(number)];
        let mirror = edge.mirror_to_act(now.instant);
        let Some(lease) = mirror.active(now.instant) else {
            edge.tallies.add_many(Tally::Inactive, inputs.len());
            return stand_by(edge, seat, now, inputs);
        };
        let (out, waits) = (&mut self.from_partition, &mut self.waits);
        seat.act(now, |owner, now| {
            owner.enter(&lease);
            let mut settled = Vec::new();
            for input in inputs.drain(..) {
                match input {
                    ToPartition::Settled(ticket) => settled.extend(owner.holding.handle_settled(ticket)),
                    input => give_partition(&mut owner.partition, now, &lease, input, out),
                }
            }
            if let Some(copies) = edge.copies.get() {
                copies.post(now, owner, out, waits);
            }
            // Behind what is held, or they would be held once more.
            out.extend(settled.into_iter().map(|(asker, answer)| PartitionOutput::Answer { asker, answer }));
            // Under the partition's lock, or another thread could put a later change of the same address of
            // record before this one. The store only queues it.
            for output in out.extract_if(.., |output| matches!(output, PartitionOutput::Save(_))) {
                if let PartitionOutput::Save(change) = output {
                    edge.store.save(change);
                }
            }
        });
        edge.remind_owner(number, seat.due());
        self.wait_for_other_node(edge);
        self.sort_partition_outputs(edge, number);
    }

    fn wait_for_other_node(&mut self, edge: &Edge) {
        if let Some(copies) = edge.copies.get().filter(|_| !self.waits.is_empty()) {
            copies.peer.wait(&self.waits);
            self.waits.clear();
        }
    }

    fn sort_partition_outputs(&mut self, edge: &Edge, partition: u16) {
        let mut outputs = std::mem::take(&mut self.from_partition);
        for output in outputs.drain(..) {
            match output {
                PartitionOutput::Answer { asker, answer } => {
                    self.hold_for_shard(asker.shard, ToShard::Answer(asker.token, answer));
                }
                PartitionOutput::LoadAccount(aor) => edge.load_account(partition, aor),
                PartitionOutput::Save(change) => edge.store.save(change),
                PartitionOutput::Send { to, message } => self.post(to, message, None),
                PartitionOutput::Report(report) => self.reports.push(report),
            }
        }
        self.from_partition = outputs;
    }

    fn post(&mut self, to: Destination, message: Bytes, of: Option<Sender>) {
        match to {
            Destination::Flow(Flow::Datagram { listener, remote }) => {
                self.posts.push(Post::Datagram(Datagram { listener, remote: remote.0, message, of }));
            }
            to => self.posts.push(Post::Stream(Outgoing { to, message, of })),
        }
    }

    fn hold_for_shard(&mut self, number: u16, input: ToShard) {
        // A number that came over the network may be that of an earlier start with more machines.
        if let Some(inputs) = self.shards.get_mut(usize::from(number)) {
            inputs.push(input);
        }
    }

    fn hold_for_partition(&mut self, number: u16, input: ToPartition) {
        if let Some(inputs) = self.partitions.get_mut(usize::from(number)) {
            inputs.push(input);
        }
    }
}

/// Whether a machine is to be called. One that another thread has let stand by has no deadline, and would not learn that
/// the lease is here again.
fn is_due<M: Machine>(seat: &Seat<M>, now: Now) -> bool {
    seat.due() <= now.instant || seat.is_standing_by()
}

/// A partition without the lease forgets which connections are gone, and hears of nothing else.
fn stand_by(edge: &Edge, seat: &Seat<Owner>, now: Now, inputs: &mut Vec<ToPartition>) {
    seat.stand_by(now, || edge.mandate.is_standby());
    for input in inputs.drain(..) {
        if let ToPartition::ConnectionClosed(id) = input {
            seat.with(now, |owner, _| owner.partition.lose_connection(id));
        }
    }
}

/// Keeps the emptied buffer and what was pushed in the meantime.
fn put_back<T>(mut emptied: Vec<T>, pushed: &mut Vec<T>) -> Vec<T> {
    emptied.append(pushed);
    emptied
}

fn give_shard(shard: &mut Shard, now: Now, lease: &ActiveLease<'_>, input: ToShard, out: &mut Vec<Output>) {
    match input {
        ToShard::Answer(token, answer) => shard.handle_answer(now, lease, token, answer, out),
        ToShard::Resolved(token, records) => shard.handle_resolved(now, lease, token, records, out),
        ToShard::Refused(flow, quote) => shard.handle_refused(now, lease, flow, &quote, out),
        ToShard::SendFailed(key) => shard.handle_send_failed(now, lease, key, out),
        ToShard::News(news) => shard.handle_news(news),
        ToShard::Relayed(event) => shard.handle_relay_event(now, lease, event, out),
        ToShard::RelayAnswered(answer) => {
            let RelayAnswer { waiter: (_, token), node, result } = *answer;
            shard.handle_relay_reply(now, lease, token, node, result, out);
        }
        ToShard::Settled(_) => unreachable!("its messages are held beside the shard"),
        ToShard::Timeout => shard.handle_timeout(now, lease, out),
        ToShard::Stop => shard.handle_stop(now, lease, out),
    }
}

fn give_prober(
    prober: &mut Prober,
    now: Now,
    lease: &ActiveLease<'_>,
    input: ToProber,
    out: &mut Vec<ProberOutput>,
) {
    match input {
        ToProber::Answered(mark, status) => prober.handle_answered(now, lease, mark, status, out),
        ToProber::Outcome(gateway, outcome) => prober.handle_outcome(now, &gateway.name, outcome, out),
        ToProber::Resolved(gateway, records) => prober.handle_resolved(now, lease, gateway, records, out),
        ToProber::Timeout => prober.handle_timeout(now, lease, out),
    }
}

fn give_partition(
    partition: &mut Partition,
    now: Now,
    lease: &ActiveLease<'_>,
    input: ToPartition,
    out: &mut Vec<PartitionOutput>,
) {
    match input {
        ToPartition::Question(asker, question) => partition.handle_question(now, lease, asker, question, out),
        ToPartition::KeepaliveAnswered(mark) => partition.handle_keepalive_answered(now, mark, out),
        ToPartition::Loaded(aor, loaded) => partition.handle_account(now, lease, &aor, loaded, out),
        ToPartition::ConnectionClosed(id) => partition.handle_connection_closed(now, lease, id, out),
        ToPartition::Settled(_) => unreachable!("its answer is held beside the partition"),
        ToPartition::Timeout => partition.handle_timeout(now, lease, out),
    }
}

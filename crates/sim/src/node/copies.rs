//! A node's way to the other one: which of the replica's two machines its role wants, and what it tells and is told.
//!
//! What becomes of changes and capsules is for [`engine::copies`] and for the replica's machines to say. Here stands only what
//! the edge does: frames out of bytes, the change of the role, and whose partition is meant.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::{Instant, Now};
use engine::copies::{self, CALL, Entry, KNOWN, OwnerOf, Replica};
use engine::{CallHolding, Holding, Partition, PartitionOutput, Shard, Waits, shard_of_owner};
use replica::{
    Capsule, Cause, CloseCause, ConnectionNumber, Deframer, DigestKey, Epoch, Fetched, Holdings, Kind,
    Origin, Place, Posted, Receiver, ReceiverOutput, Sender, SenderOutput, Ticket, Wanted, turn_away,
};
use routing::StoredBinding;
use routing::account::BindingKey;
use sip::Aor;
use transport::LocalAddr;

use super::{Node, Output, PARTITIONS, SHARDS, Work};
use crate::calls;
use crate::cast::FIRST;
use crate::pair::fault::{self, Fault};

/// What comes from the way to the other node.
#[derive(Clone, Debug)]
pub(crate) enum FromPeer {
    /// The connection that this node called for is there.
    Connected(u64),
    /// A connection is gone.
    Disconnected(u64),
    /// Bytes of a connection.
    Bytes(u64, Bytes),
    /// Owners are asked at last.
    Fetch(Vec<Wanted>),
}

/// What a node wants of the way to the other one, and what happened on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerOutput {
    /// Write this to a connection.
    Send(u64, Bytes),
    /// Close a connection, for this reason if it is not the change of the role.
    Close(u64, Option<CloseCause>),
    /// Owners are to be asked: [`FromPeer::Fetch`].
    Fetch(Vec<Wanted>),
    /// What follows up to [`PeerOutput::Settled`] is what had waited for the other node, with why it may not hold it.
    Settling(Option<Cause>),
    /// See there.
    Settled,
    /// The other node says that it has everything.
    Agreed,
    /// The other node was given an entry.
    Applied,
    /// Its owner had no room for an entry, or could not read it.
    Refused,
    /// An entry was ended because the active node said so.
    Withdrawn,
    /// The other node knows of a higher epoch.
    Superseded(Epoch),
    /// Somebody called who has no business here.
    TurnedAway,
}

/// What a node holds, as somebody sees it who may look into all nodes at once.
pub(crate) type Truth = BTreeMap<(String, Bytes), StoredBinding>;

/// The way to the other node.
#[derive(Debug)]
pub(crate) struct Copies {
    me: Origin,
    key: DigestKey,
    role: Role,
    holdings: Vec<Holding>,
    call_holdings: Vec<CallHolding>,
    /// The connection that the sender speaks over.
    called: Option<u64>,
    deframers: BTreeMap<u64, Deframer>,
    out: Vec<SenderOutput>,
    agreed: u64,
    /// A planted fault: the receiver of an active node.
    shadow: Option<Receiver>,
}

#[derive(Debug)]
enum Role {
    Active(Sender),
    Standby(Receiver),
}

/// The sender as the partitions use it.
struct Teller<'a> {
    now: Instant,
    role: &'a mut Role,
    out: &'a mut Vec<SenderOutput>,
}

impl Replica for Teller<'_> {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        match self.role {
            Role::Active(sender) if fault::is_planted(Fault::ChangeNotTold) => sender.everything(),
            Role::Active(sender) => sender.put(self.now, capsule, place, self.out),
            Role::Standby(receiver) => {
                receiver.diverged(capsule.kind, &capsule.key, Some(place));
                Posted::nowhere()
            }
        }
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        match self.role {
            Role::Active(sender) if fault::is_planted(Fault::EndNotTold) => sender.everything(),
            Role::Active(sender) => sender.remove(self.now, kind, key, self.out),
            Role::Standby(receiver) => {
                receiver.diverged(kind, key, None);
                Posted::nowhere()
            }
        }
    }

    fn everything(&mut self) -> Posted {
        match self.role {
            Role::Active(sender) => sender.everything(),
            Role::Standby(_) => Posted::nowhere(),
        }
    }
}

impl Copies {
    /// The way of a node that has just started, with what its disk had.
    pub(crate) fn new(me: Origin, key: DigestKey, highest: Epoch, holdings: Holdings) -> Self {
        Self {
            me,
            key,
            role: Role::Standby(Receiver::new(me, key, &KNOWN, highest, holdings)),
            holdings: (0..PARTITIONS).map(Holding::new).collect(),
            call_holdings: (0..SHARDS).map(CallHolding::new).collect(),
            called: None,
            deframers: BTreeMap::new(),
            out: Vec::new(),
            agreed: 0,
            shadow: None,
        }
    }

    /// Tells the other node what a step of a partition has changed, and keeps back the answers that wait for it.
    pub(super) fn post(
        &mut self,
        now: Now,
        number: u16,
        partition: &Partition,
        outputs: &mut Vec<PartitionOutput>,
    ) {
        let Some(holding) = self.holdings.get_mut(usize::from(number)) else { return };
        let mut waits = Vec::new();
        let mut teller = Teller { now: now.instant, role: &mut self.role, out: &mut self.out };
        copies::post(now, partition, holding, &mut teller, outputs, &mut waits);
        let is_change = outputs.iter().any(|output| matches!(output, PartitionOutput::Save(_)));
        self.wait(now, waits, is_change);
    }

    /// The same for the calls of a shard, and the messages that wait for them.
    pub(super) fn post_calls(
        &mut self,
        now: Now,
        number: u16,
        shard: &mut Shard,
        outputs: &mut Vec<engine::Output>,
    ) {
        let Some(holding) = self.call_holdings.get_mut(usize::from(number)) else { return };
        outputs.iter_mut().for_each(hasten);
        let mut waits = Vec::new();
        let mut teller = Teller { now: now.instant, role: &mut self.role, out: &mut self.out };
        copies::post_calls(now, shard, holding, &mut teller, outputs, &mut waits);
        self.wait(now, waits, true);
    }

    fn wait(&mut self, now: Now, waits: Vec<(Ticket, Posted)>, is_change: bool) {
        for (ticket, posted) in waits {
            match &mut self.role {
                Role::Active(_) if fault::is_planted(Fault::AnswerNotHeld) => {
                    self.out.push(SenderOutput::Held(ticket));
                }
                Role::Active(_) if !is_change && fault::is_planted(Fault::RepetitionNotHeld) => {
                    self.out.push(SenderOutput::Held(ticket));
                }
                Role::Active(sender) => sender.wait(now.instant, ticket, posted, &mut self.out),
                Role::Standby(_) => self.out.push(SenderOutput::Degraded(ticket, Cause::NoPeer)),
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.role {
            Role::Active(sender) => sender.poll_timeout(),
            Role::Standby(receiver) => receiver.poll_timeout(),
        }
    }

    /// The next thing that the sender wants.
    pub(super) fn next_output(&mut self) -> Option<SenderOutput> {
        (!self.out.is_empty()).then(|| self.out.remove(0))
    }

    fn settle_ticket(&mut self, ticket: Ticket) -> Option<(engine::Asker, routing::Answer)> {
        self.holdings.get_mut(usize::from(Holding::owner_of(ticket)))?.handle_settled(ticket)
    }
}

impl Node {
    /// Gets a way to the other node. What it has from its own disk is in `restored`.
    pub(crate) fn join(
        &mut self,
        me: Origin,
        highest: Epoch,
        restored: &[(u16, BindingKey, routing::BindingId)],
    ) {
        let key = digest_key();
        let mut holdings = Holdings::new();
        for (number, stored, id) in restored {
            let own = copies::of_own_disk(*number, stored, *id);
            holdings.restore(&key, me, own.kind, &own.key, own.place);
        }
        self.copies = Some(Box::new(Copies::new(me, key, highest, holdings)));
        self.shards.iter_mut().for_each(Shard::note_changes);
    }

    /// It is active under this epoch from here on, as its guardian orders.
    pub(crate) fn become_active(&mut self, now: Now, epoch: Epoch, out: &mut Vec<Output>) {
        if let Some(copies) = &mut self.copies {
            let mut holdings = Holdings::new();
            if fault::is_planted(Fault::ActiveApplies)
                && let Role::Standby(receiver) = copies.take_role()
            {
                holdings = receiver.holdings().clone();
                copies.shadow = Some(receiver);
            } else {
                for &connection in copies.deframers.keys() {
                    out.push(Output::Peer(PeerOutput::Close(connection, None)));
                }
                copies.leave();
                match copies.take_role() {
                    _ if fault::is_planted(Fault::HoldingsForgotten) => {}
                    Role::Active(sender) => holdings = sender.into_holdings(),
                    Role::Standby(receiver) => holdings = receiver.into_holdings(),
                }
            }
            copies.role = Role::Active(Sender::new(copies.me, epoch, copies.key, holdings));
            copies.agreed = 0;
        }
        self.look_at_lease(now, out);
    }

    /// Its guardian has raised the epoch, and nobody else was active meanwhile.
    pub(crate) fn raise(&mut self, now: Now, epoch: Epoch, out: &mut Vec<Output>) {
        if let Some(copies) = &mut self.copies
            && let Role::Active(sender) = &mut copies.role
        {
            sender.raise(now.instant, epoch, &mut copies.out);
        }
        self.look_at_lease(now, out);
    }

    /// It is a standby from here on, as its guardian orders, and hears nobody under a lower epoch than this.
    pub(crate) fn become_standby(&mut self, now: Now, highest: Epoch, out: &mut Vec<Output>) {
        self.stand_by(now);
        if let Some(copies) = &mut self.copies {
            out.extend(copies.called.map(|connection| Output::Peer(PeerOutput::Close(connection, None))));
            if let Role::Active(sender) = &mut copies.role {
                sender.disconnected(&mut copies.out);
            }
            copies.leave();
            let holdings = match copies.take_role() {
                Role::Active(sender) => sender.into_holdings(),
                Role::Standby(receiver) => receiver.into_holdings(),
            };
            copies.role = Role::Standby(Receiver::new(copies.me, copies.key, &KNOWN, highest, holdings));
        }
        self.settle(now, out);
    }

    /// Takes what comes from the way to the other node.
    pub(crate) fn handle_peer(&mut self, now: Now, what: FromPeer, out: &mut Vec<Output>) {
        match what {
            FromPeer::Connected(connection) => {
                if let Some(copies) = &mut self.copies
                    && let Role::Active(sender) = &mut copies.role
                {
                    copies.called = Some(connection);
                    copies.deframers.insert(connection, Deframer::new());
                    sender.connected(now.instant, &mut copies.out);
                }
            }
            FromPeer::Disconnected(connection) => self.lose(connection),
            FromPeer::Bytes(connection, bytes) => self.hear_peer(now, connection, &bytes, out),
            FromPeer::Fetch(wanted) => {
                let fetched = wanted.into_iter().map(|wanted| self.fetch(now, wanted)).collect();
                if let Some(copies) = &mut self.copies
                    && let Role::Active(sender) = &mut copies.role
                {
                    sender.fetched(now.instant, fetched, &mut copies.out);
                }
            }
        }
        self.settle(now, out);
    }

    /// Lets time pass for the way to the other node.
    pub(super) fn wake_copies(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(copies) = &mut self.copies else { return };
        if copies.poll_timeout().is_none_or(|at| at > now.instant) {
            return;
        }
        match &mut copies.role {
            Role::Active(sender) => sender.handle_timeout(now.instant, &mut copies.out),
            Role::Standby(receiver) => {
                let mut outputs = Vec::new();
                receiver.handle_timeout(now.instant, &mut outputs);
                self.carry_receiver(now, outputs, out);
            }
        }
    }

    /// Does what the sender wants.
    pub(super) fn carry_sender(&mut self, now: Now, output: SenderOutput, out: &mut Vec<Output>) {
        let Some(copies) = &mut self.copies else { return };
        match output {
            SenderOutput::Send(bytes) => {
                out.extend(copies.called.map(|connection| Output::Peer(PeerOutput::Send(connection, bytes))));
            }
            SenderOutput::Held(ticket) => self.let_go(now, ticket, None, out),
            SenderOutput::Degraded(ticket, cause) => self.let_go(now, ticket, Some(cause), out),
            SenderOutput::Fetch(wanted) => out.push(Output::Peer(PeerOutput::Fetch(wanted))),
            SenderOutput::Close(cause) => {
                if let Some(connection) = copies.called.take() {
                    copies.deframers.remove(&connection);
                    out.push(Output::Peer(PeerOutput::Close(connection, Some(cause))));
                }
            }
            SenderOutput::Superseded(epoch) => out.push(Output::Peer(PeerOutput::Superseded(epoch))),
        }
    }

    /// The answer that waited for a ticket goes on.
    fn let_go(&mut self, now: Now, ticket: Ticket, cause: Option<Cause>, out: &mut Vec<Output>) {
        if let Some(shard) = shard_of_owner(Holding::owner_of(ticket)) {
            return self.let_messages_go(now, shard, ticket, cause, out);
        }
        let answer = self.copies.as_mut().and_then(|copies| copies.settle_ticket(ticket));
        let Some((asker, answer)) = answer else { return };
        out.push(Output::Peer(PeerOutput::Settling(cause)));
        let waiting = std::mem::take(&mut self.work);
        self.answer(now, asker, answer);
        self.settle_work(now, out);
        self.work = waiting;
        out.push(Output::Peer(PeerOutput::Settled));
    }

    /// Messages of a call that waited for a ticket leave.
    fn let_messages_go(
        &mut self,
        now: Now,
        shard: u16,
        ticket: Ticket,
        cause: Option<Cause>,
        out: &mut Vec<Output>,
    ) {
        let holding = self.copies.as_mut().and_then(|it| it.call_holdings.get_mut(usize::from(shard)));
        let (messages, _) = holding.map(|holding| holding.handle_settled(ticket)).unwrap_or_default();
        if messages.is_empty() || !self.is_active(now) {
            return;
        }
        out.push(Output::Peer(PeerOutput::Settling(cause)));
        for (to, message, of) in messages {
            self.send(now, to, message, of.map(|key| (shard, key)), out);
        }
        out.push(Output::Peer(PeerOutput::Settled));
    }

    fn lose(&mut self, connection: u64) {
        let Some(copies) = &mut self.copies else { return };
        copies.deframers.remove(&connection);
        match &mut copies.role {
            Role::Active(sender) if copies.called == Some(connection) => {
                copies.called = None;
                sender.disconnected(&mut copies.out);
            }
            Role::Active(_) => {}
            Role::Standby(receiver) => receiver.disconnected(ConnectionNumber(connection)),
        }
    }

    fn hear_peer(&mut self, now: Now, connection: u64, bytes: &Bytes, out: &mut Vec<Output>) {
        let Some(copies) = &mut self.copies else { return };
        if let Role::Active(sender) = &copies.role
            && copies.called != Some(connection)
            && copies.shadow.is_none()
        {
            let bytes = turn_away(copies.me, sender.epoch());
            out.push(Output::Peer(PeerOutput::Send(connection, bytes)));
            out.push(Output::Peer(PeerOutput::Close(connection, None)));
            out.push(Output::Peer(PeerOutput::TurnedAway));
            return;
        }
        copies.deframers.entry(connection).or_default().push(bytes);
        loop {
            let Some(copies) = &mut self.copies else { return };
            let Some(deframer) = copies.deframers.get_mut(&connection) else { return };
            let frame = deframer.next_frame();
            match &mut copies.role {
                Role::Active(sender) if copies.called == Some(connection) => {
                    match frame {
                        Ok(Some(frame)) => sender.handle_frame(now.instant, frame, &mut copies.out),
                        Ok(None) => return,
                        Err(error) => sender.handle_broken(error, &mut copies.out),
                    }
                    let agreed = sender.counts().agreed;
                    let is_more = agreed > std::mem::replace(&mut copies.agreed, agreed);
                    self.settle(now, out);
                    out.extend(is_more.then_some(Output::Peer(PeerOutput::Agreed)));
                }
                Role::Active(_) | Role::Standby(_) => {
                    let Some(receiver) = copies.receiver() else { return };
                    let mut outputs = Vec::new();
                    match frame {
                        Ok(Some(frame)) => {
                            let number = ConnectionNumber(connection);
                            receiver.handle_frame(now.instant, number, frame, &mut outputs);
                        }
                        Ok(None) => {
                            receiver.acknowledge(&mut outputs);
                            return self.carry_receiver(now, outputs, out);
                        }
                        Err(error) => {
                            receiver.handle_broken(ConnectionNumber(connection), error, &mut outputs)
                        }
                    }
                    self.carry_receiver(now, outputs, out);
                }
            }
        }
    }

    /// Does what the receiver wants.
    fn carry_receiver(&mut self, now: Now, outputs: Vec<ReceiverOutput>, out: &mut Vec<Output>) {
        for output in outputs {
            match output {
                ReceiverOutput::Send(connection, bytes) => {
                    out.push(Output::Peer(PeerOutput::Send(connection.0, bytes)));
                }
                ReceiverOutput::Apply(apply) => {
                    let place = self.apply(now, apply.capsule);
                    let Some(copies) = &mut self.copies else { return };
                    let Some(receiver) = copies.receiver() else { return };
                    match place {
                        Some(place) => {
                            receiver.placed(apply.name, place);
                            out.push(Output::Peer(PeerOutput::Applied));
                        }
                        None => {
                            receiver.refused(apply.name);
                            out.push(Output::Peer(PeerOutput::Refused));
                        }
                    }
                }
                ReceiverOutput::Remove(kind, place) => {
                    if let Some(shard) = shard_of_owner(place.owner) {
                        if let Some(shard) = self.shards.get_mut(usize::from(shard)) {
                            copies::remove_call(shard, kind, place);
                        }
                        continue;
                    }
                    let mut outputs = Vec::new();
                    if let Some(partition) = self.partitions.get_mut(usize::from(place.owner)) {
                        copies::remove(partition, kind, place, &mut outputs);
                    }
                    if !outputs.is_empty() {
                        out.push(Output::Peer(PeerOutput::Withdrawn));
                    }
                    self.work
                        .extend(outputs.into_iter().map(|output| Work::FromPartition(place.owner, output)));
                }
                ReceiverOutput::Close(connection, cause) => {
                    if let Some(copies) = &mut self.copies {
                        copies.deframers.remove(&connection.0);
                    }
                    out.push(Output::Peer(PeerOutput::Close(connection.0, Some(cause))));
                }
            }
        }
        self.settle_work(now, out);
    }

    fn apply(&mut self, now: Now, capsule: Capsule) -> Option<Place> {
        let capsule = match capsule.kind {
            CALL => Capsule { bytes: calls::fault::spoil(capsule.bytes), ..capsule },
            _ => capsule,
        };
        let entry = match spoil(now, copies::read(now, capsule).ok()?) {
            Entry::Call(call) => {
                let number = engine::shard_of_call(&self.keyring.partition, &call.call_id, SHARDS);
                let shard = self.shards.get_mut(usize::from(number))?;
                return copies::apply_call(now, shard, number, call);
            }
            Entry::Dialog(dialog) => {
                let number = engine::shard_of_call(&self.keyring.partition, dialog.call_id(), SHARDS);
                let shard = self.shards.get_mut(usize::from(number))?;
                return copies::apply_dialog(now, shard, number, &dialog);
            }
            Entry::Media(media) => {
                let number = engine::shard_of_call(&self.keyring.partition, media.call_id(), SHARDS);
                let shard = self.shards.get_mut(usize::from(number))?;
                return copies::apply_media(now, shard, number, &media);
            }
            entry => entry,
        };
        // Nonces and bans are not told in this world.
        let OwnerOf::Partition(aor) = entry.owner() else { return None };
        let number = self.partition_of(aor);
        let mut outputs = Vec::new();
        let partition = self.partitions.get_mut(usize::from(number))?;
        let place = copies::apply(now, partition, number, entry, &mut outputs);
        self.work.extend(outputs.into_iter().map(|output| Work::FromPartition(number, output)));
        place
    }

    fn fetch(&mut self, now: Now, wanted: Wanted) -> Fetched {
        if let Some(shard) = shard_of_owner(wanted.place.owner) {
            return match self.shards.get_mut(usize::from(shard)) {
                Some(shard) => copies::fetch_call(now, shard, wanted),
                None => Fetched { wanted, capsule: None },
            };
        }
        match self.partitions.get(usize::from(wanted.place.owner)) {
            Some(partition) => copies::fetch(now, partition, wanted),
            None => Fetched { wanted, capsule: None },
        }
    }

    /// Whether the other node is being told, and over which connection.
    pub(crate) fn is_sending(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| matches!(copies.role, Role::Active(_)))
    }

    /// Whether it wants a connection to the other node.
    pub(crate) fn wants_connection(&self) -> bool {
        self.is_sending() && self.copies.as_ref().is_some_and(|copies| copies.called.is_none())
    }

    /// How much of everything the standby has, as far as this node knows: 0 to 100.
    pub(crate) fn ready(&self, now: Now) -> u8 {
        match self.copies.as_ref().map(|copies| &copies.role) {
            Some(Role::Active(sender)) => sender.ready(),
            Some(Role::Standby(receiver)) => receiver.ready(now.instant),
            None => 0,
        }
    }

    /// Frames that the other node has not acknowledged.
    pub(crate) fn lag(&self, now: Now) -> usize {
        match self.copies.as_ref().map(|copies| &copies.role) {
            Some(Role::Active(sender)) => sender.view(now.instant).lag.messages,
            _ => 0,
        }
    }

    /// What is held, as the digests see it: for each kind the count and the sum.
    pub(crate) fn digests(&self) -> Vec<(Kind, u64, u64)> {
        let Some(copies) = &self.copies else { return Vec::new() };
        let holdings = match &copies.role {
            Role::Active(sender) => sender.holdings(),
            Role::Standby(receiver) => receiver.holdings(),
        };
        KNOWN.iter().map(|it| (it.kind, holdings.count(it.kind), holdings.sum(it.kind))).collect()
    }

    /// How many answers wait for the other node.
    pub(crate) fn held_answers(&self) -> usize {
        self.copies.as_ref().map_or(0, |copies| {
            let answers = copies.holdings.iter().map(Holding::len);
            answers.chain(copies.call_holdings.iter().map(CallHolding::len)).sum()
        })
    }

    /// How many bindings it has, ended ones included.
    pub(crate) fn binding_count(&self) -> usize {
        self.partitions.iter().map(Partition::binding_count).sum()
    }

    /// All bindings of these addresses of record that have not ended.
    pub(crate) fn truth(&self, now: Now, aors: &[Aor]) -> Truth {
        let mut truth = Truth::new();
        for aor in aors {
            let Some(partition) = self.partitions.get(usize::from(self.partition_of(aor))) else { continue };
            for view in partition.bindings(Some(aor), now) {
                let flow = view.reg_id.map(|reg_id| (view.instance.clone().unwrap_or_default(), reg_id));
                let key = BindingKey { aor: aor.clone(), contact: view.contact.clone(), flow };
                if let Some(stored) = partition.number_of(&key).and_then(|id| partition.stored(now, id)) {
                    truth.insert((aor.as_str().to_owned(), view.contact), stored);
                }
            }
        }
        truth
    }
}

impl Copies {
    /// What was on its way under the role that ends.
    fn leave(&mut self) {
        self.called = None;
        self.shadow = None;
        self.deframers.clear();
        self.holdings.iter_mut().for_each(Holding::stand_by);
        self.call_holdings.iter_mut().for_each(CallHolding::stand_by);
    }

    fn take_role(&mut self) -> Role {
        let none = Receiver::new(self.me, self.key, &KNOWN, Epoch(0), Holdings::new());
        std::mem::replace(&mut self.role, Role::Standby(none))
    }

    /// Who takes what the other node tells.
    fn receiver(&mut self) -> Option<&mut Receiver> {
        match &mut self.role {
            Role::Standby(receiver) => Some(receiver),
            Role::Active(_) => self.shadow.as_mut(),
        }
    }
}

/// A message of a call does not wait where a fault is planted.
fn hasten(output: &mut engine::Output) {
    if let engine::Output::SendWhenHeld { to, message, waits: Waits::UntilHeld, .. } = output
        && calls::fault::lets_pass(message)
    {
        *output = engine::Output::Send { to: *to, message: message.clone(), of: None };
    }
}

/// An entry as it is applied where a fault is planted.
fn spoil(now: Now, entry: Entry) -> Entry {
    let Entry::Binding(mut stored) = entry else { return entry };
    if fault::is_planted(Fault::KeepaliveForgotten) {
        stored.nat = false;
    }
    if fault::is_planted(Fault::ListenerForgotten) {
        stored.listener.1 = LocalAddr(FIRST);
    }
    if fault::is_planted(Fault::EndsEarlier) {
        stored.expires_at = now.wall + stored.left(now.wall) / 2;
    }
    Entry::Binding(stored)
}

/// Both nodes hash with the cluster's key.
pub(crate) fn digest_key() -> DigestKey {
    DigestKey::new([7; 16])
}

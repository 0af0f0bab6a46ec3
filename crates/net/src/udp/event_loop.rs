//! One event loop: one thread with a socket of its own for each UDP listener.
//!
//! It sleeps until a datagram comes, another thread wakes it, or a deadline of its own shards and partitions
//! is due. Then it takes a batch of datagrams, gives each to its shard, whoever owns that, carries what the
//! machines exchange, and sends a batch. What needs no shard is done here: STUN is answered and keepalives
//! are swallowed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now};
use lease::Epoch;
use routing::bans::Judgement;
use routing::overload::{Change, Overload, Queue, Rejection, Verdict};
use rustix::event::{Timespec, epoll};
use tracing::{error, trace};
use transport::{Classified, Flow, ListenerId, RemoteAddr, Source, Transport};

use super::batch::{BATCH_MAX, ReceiveBatch};
use super::refusals::{self, Refusal};
use super::{Datagram, UdpListener, UdpListeners, send_all};
use crate::alarm::{Alarm, Event, Turned};
use crate::carrier::Carrier;
use crate::clocks;
use crate::early::Early;
use crate::edge::Edge;
use crate::mandate::Ownership;
use crate::tally::Tally;

/// The longest sleep: the heartbeat goes on without traffic.
const SLEEP_MAX: Duration = Duration::from_millis(500);
/// Sockets that are told of in one wake-up; the rest follow in the next.
const READY_MAX: usize = 64;
/// Batches that a drain takes from one socket: more than the kernel keeps for it in a short queue, and an end for a long one.
const DRAIN_BATCHES_MAX: usize = 64;
/// How long what came before the lease is kept: longer than a hand-over takes, and no longer than whoever sent it waits for an
/// answer.
const EARLY_FOR: Duration = Duration::from_secs(2);
/// So many are kept: what a saturated node receives in the time that a hand-over takes.
const EARLY_MAX: usize = 4_096;
/// The loop that cuts connections when the lease is over.
const STREAMS_LOOP: usize = 0;
/// The alarm's number in epoll; listeners have theirs plus one.
const ALARM: u64 = 0;

pub(crate) struct EventLoop {
    edge: Arc<Edge>,
    lane: usize,
    epoll: OwnedFd,
    listeners: BTreeMap<ListenerId, Arc<UdpListener>>,
    carrier: Carrier,
    batch: ReceiveBatch,
    answers: Vec<Datagram>,
    answer: Vec<u8>,
    events: Vec<Event>,
    judgements: [Judgement; BATCH_MAX],
    /// Whether more comes than this loop can handle.
    overload: Overload,
    /// What became of the sockets in this round.
    queue: Queue,
    load_changes: Vec<Change>,
    /// Which requests of a batch are refused for it.
    rejections: [Option<Rejection>; BATCH_MAX],
    /// What came before the lease.
    early: Early<ListenerId>,
    /// Under which epoch the node became active in whose time this loop's machines act.
    since: Option<Epoch>,
    /// Who waits until what is in hand is done.
    waiting: Vec<SyncSender<Turned>>,
    /// What has come for a virtual address since somebody waited so.
    turned: Turned,
}

impl EventLoop {
    /// The loop number `lane`; it serves the listeners that are there.
    pub(crate) fn new(edge: Arc<Edge>, lane: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            edge.alarms[lane].descriptor(),
            epoll::EventData::new_u64(ALARM),
            epoll::EventFlags::IN,
        )?;
        let carrier = Carrier::new(edge.machines.shards.len());
        let overload = edge.machines.overload(clocks::instant());
        let mut event_loop = Self {
            edge,
            lane,
            epoll,
            listeners: BTreeMap::new(),
            carrier,
            batch: ReceiveBatch::new(),
            answers: Vec::new(),
            answer: Vec::new(),
            events: Vec::new(),
            judgements: [Judgement::Pass; BATCH_MAX],
            overload,
            queue: Queue::Drained,
            load_changes: Vec::new(),
            rejections: [None; BATCH_MAX],
            early: Early::new(EARLY_FOR, EARLY_MAX),
            since: None,
            waiting: Vec::new(),
            turned: Turned::Empty,
        };
        event_loop.take_listeners()?;
        Ok(event_loop)
    }

    /// Runs until [`Event::Stop`].
    pub(crate) fn run(mut self) {
        let mut ready = Vec::with_capacity(READY_MAX);
        loop {
            if let Err(error) = self.sleep(&mut ready) {
                // Nothing that this loop does can make epoll fail; if it does, the watchdog sees the silence.
                error!(%error, "an event loop can not wait for its sockets");
                return;
            }
            let now = clocks::instant();
            self.alarm().awake(now);
            self.edge.mandate.beat(self.lane, now);
            for event in ready.drain(..) {
                match event.data.u64() {
                    ALARM => {
                        if !self.take_events() {
                            return;
                        }
                    }
                    number => {
                        let listener = ListenerId((number - 1) as u16);
                        let flags = event.flags;
                        if flags.contains(epoll::EventFlags::ERR) {
                            self.take_refusals(listener);
                        }
                        self.receive(listener);
                    }
                }
            }
            self.let_time_pass();
            if !self.waiting.is_empty() {
                self.empty_sockets();
                let turned = std::mem::replace(&mut self.turned, Turned::Empty);
                for waiting in self.waiting.drain(..) {
                    // Who has waited too long is not there any more.
                    let _ = waiting.try_send(turned);
                }
            }
        }
    }

    /// Lets the deadlines of this loop's machines pass, or lets them stand by if the lease is over.
    fn let_time_pass(&mut self) {
        let now = clocks::now();
        let epochs = self.edge.mandate.epochs(now.instant);
        let since = epochs.map(|epochs| epochs.since);
        // Another node may have been active in between, also if this loop never saw the lease away; and it may have seen
        // nothing of a short time as active in which others have taken connections.
        let is_over = since.is_none() || self.since.is_some_and(|before| Some(before) != since);
        if is_over && self.lane == STREAMS_LOOP {
            let withheld = self.edge.streams.stand_by();
            self.edge.tallies.add_many(Tally::Withheld, withheld);
        }
        if let Some(epochs) = epochs.filter(|_| self.lane == STREAMS_LOOP) {
            self.edge.streams.hear_in(epochs.now);
        }
        match since {
            Some(_) if since != self.since => {
                self.carrier.note_activation(&self.edge, self.lane);
                self.overload.handle_takeover(now.instant);
                self.edge.overloads.note_takeover(now.instant);
                self.handle_early();
            }
            Some(_) => self.carrier.note_due(&self.edge, now, self.lane),
            None => {
                self.edge.stand_by();
                self.edge.machines.stand_by(now, self.lane, || self.edge.mandate.is_standby());
                if self.since.is_some() {
                    for number in self.edge.machines.owned_by(self.lane) {
                        let seat = &self.edge.machines.shards[usize::from(number)];
                        seat.with(now, |owner, _| {
                            self.edge.relay.take_orders(number, None, &mut owner.shard)
                        });
                    }
                }
            }
        }
        self.since = since;
        self.carrier.settle(&self.edge, now, self.lane);
    }

    /// Learns whether the last round has emptied the sockets.
    fn note_load(&mut self, now: Instant) {
        let queue = std::mem::replace(&mut self.queue, Queue::Drained);
        let was_quiet = self.overload.is_quiet();
        self.overload.handle_queue(now, queue, &mut self.load_changes);
        if !was_quiet || !self.overload.is_quiet() || !self.load_changes.is_empty() {
            self.edge.overloads.note(now, self.lane, &self.overload, &mut self.load_changes);
        }
    }

    fn alarm(&self) -> &Alarm {
        &self.edge.alarms[self.lane]
    }

    fn sleep(&mut self, ready: &mut Vec<epoll::Event>) -> io::Result<()> {
        if self.queue == Queue::Standing {
            self.wait(ready, &time_left(Instant::START, Instant::START))?;
            // The batch may have been all that was there.
            if ready.iter().all(|event| event.data.u64() == ALARM) {
                self.queue = Queue::Drained;
            }
        }
        let now = clocks::instant();
        self.note_load(now);
        if !ready.is_empty() {
            return Ok(());
        }
        let longest = now + self.edge.mandate.beat_every().unwrap_or(SLEEP_MAX);
        let until = self.edge.machines.due(self.lane).min(longest);
        self.alarm().fall_asleep(until);
        // A deadline that came between the first look and the promise to wake at `until`.
        let until = self.edge.machines.due(self.lane).min(until);
        self.wait(ready, &time_left(now, until))
    }

    fn wait(&self, ready: &mut Vec<epoll::Event>, time: &Timespec) -> io::Result<()> {
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), Some(time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what other threads have left; `false` ends the loop.
    fn take_events(&mut self) -> bool {
        self.alarm().silence();
        let mut events = std::mem::take(&mut self.events);
        self.edge.alarms[self.lane].take(&mut events);
        for event in events.drain(..) {
            match event {
                Event::Stop => return false,
                Event::Look => {}
                Event::Drain(waiting) => self.waiting.push(waiting),
                Event::ListenersChanged => {
                    if let Err(error) = self.take_listeners() {
                        error!(%error, "an event loop can not serve a new listener");
                    }
                }
                event => self.carrier.note(event),
            }
        }
        self.events = events;
        true
    }

    /// Serves the listeners of the last reload and leaves the others alone.
    fn take_listeners(&mut self) -> io::Result<()> {
        let wanted: Arc<UdpListeners> = self.edge.udp.load_full();
        let stays = |listener: &Arc<UdpListener>| {
            wanted.get(&listener.id).is_some_and(|other| Arc::ptr_eq(listener, other))
        };
        for (_, gone) in self.listeners.extract_if(.., |_, listener| !stays(listener)) {
            epoll::delete(&self.epoll, gone.lane(self.lane))?;
        }
        for (id, listener) in wanted.iter() {
            if !self.listeners.contains_key(id) {
                let data = epoll::EventData::new_u64(u64::from(id.0) + 1);
                epoll::add(&self.epoll, listener.lane(self.lane), data, epoll::EventFlags::IN)?;
                self.listeners.insert(*id, Arc::clone(listener));
            }
        }
        Ok(())
    }

    /// Takes what waits in the sockets: the last chance before a hand-over.
    fn empty_sockets(&mut self) {
        for id in self.listeners.keys().copied().collect::<Vec<_>>() {
            for _ in 0..DRAIN_BATCHES_MAX {
                if self.receive(id) == 0 {
                    break;
                }
            }
        }
    }

    /// Handles what one socket has, at most a batch; says how many datagrams that were.
    fn receive(&mut self, id: ListenerId) -> usize {
        let Some(listener) = self.listeners.get(&id) else { return 0 };
        let ownership = listener.ownership;
        // An error is one of the network that the kernel passes on, or a listener that was just taken away; if
        // there is more, epoll tells again.
        let Ok(count) = self.batch.receive(listener.lane(self.lane)) else { return 0 };
        let now = clocks::now();
        self.edge.tallies.add_many(Tally::DatagramReceived, count);
        if ownership == Ownership::Virtual && count > 0 {
            self.turned = Turned::Received;
        }
        // The gate keeps this away from a standby; what comes all the same is for the active node.
        if !self.edge.mandate.may_receive(ownership, now.instant) {
            self.edge.tallies.add_many(Tally::Inactive, count);
            self.keep_early(now.instant, id, count);
            return count;
        }
        self.handle_batch(now, id, ownership, count);
        count
    }

    /// Keeps what came to a node without the lease. What comes behind the end of an epoch is nobody's.
    fn keep_early(&mut self, now: Instant, listener: ListenerId, count: usize) {
        if self.edge.mandate.is_over() {
            return;
        }
        for (datagram, remote) in (0..count).filter_map(|number| self.batch.datagram(number)) {
            self.early.keep(now, listener, remote, datagram);
        }
    }

    /// Handles what came before the lease.
    fn handle_early(&mut self) {
        self.early.forget_old(clocks::instant());
        while !self.early.is_empty() {
            let now = clocks::now();
            if !self.edge.mandate.may_receive(Ownership::Virtual, now.instant) {
                return;
            }
            let taken = self.early.take_first(BATCH_MAX);
            let Some(listener) = taken.first().and_then(|first| self.listeners.get(&first.place)) else {
                continue;
            };
            let (id, ownership) = (listener.id, listener.ownership);
            let count = self.batch.take(taken.iter().map(|it| (it.remote, &it.bytes[..])));
            self.edge.tallies.add_many(Tally::Early, count);
            self.handle_batch(now, id, ownership, count);
        }
    }

    /// Handles the datagrams of the batch that is in hand.
    fn handle_batch(&mut self, now: Now, id: ListenerId, ownership: Ownership, count: usize) {
        self.judge(now, id, count);
        let mut shard_of = [None; BATCH_MAX];
        for (number, shard) in shard_of.iter_mut().enumerate().take(count) {
            *shard = self.sort(id, number);
        }
        if !self.answers.is_empty() {
            send_all(&self.edge, &self.listeners, self.lane, &mut self.answers, &mut Vec::new());
        }
        // What is dropped at once is no load that a refusal could lighten.
        if count == BATCH_MAX && shard_of.iter().flatten().count() > BATCH_MAX / 2 {
            self.queue = Queue::Standing;
        }
        self.judge_load(now, id, &shard_of[..count]);
        self.feed(now, id, ownership, &shard_of[..count]);
        self.carrier.settle(&self.edge, now, self.lane);
    }

    /// Tells the shards whose requests were refused. More errors than a batch wait for the next round.
    fn take_refusals(&mut self, listener: ListenerId) {
        let Some(socket) = self.listeners.get(&listener) else { return };
        let socket = socket.lane(self.lane);
        for refusal in std::iter::from_fn(|| refusals::take(socket)).take(BATCH_MAX) {
            let Refusal::Unreachable(remote, quote) = refusal else { continue };
            self.edge.tallies.add(Tally::DatagramUnreachable);
            let flow = Flow::Datagram { listener, remote: RemoteAddr(remote) };
            // The quote seldom reaches the Call-ID, which would say whose it is.
            let quote = Bytes::from(quote);
            for shard in 0..self.edge.machines.shards.len() as u16 {
                self.carrier.note(Event::Refused { shard, flow, quote: quote.clone() });
            }
        }
    }

    /// Judges whom the datagrams of a batch come from.
    fn judge(&mut self, now: Now, listener: ListenerId, count: usize) {
        let bans = &self.edge.machines.bans;
        self.judgements = [Judgement::Pass; BATCH_MAX];
        if bans.is_quiet(now.instant) {
            return;
        }
        let batch = &self.batch;
        let judged = self.judgements.iter_mut().take(count).enumerate();
        bans.judge_all(
            now.instant,
            judged.filter_map(|(number, judgement)| {
                let (_, remote) = batch.datagram(number)?;
                Some((Flow::Datagram { listener, remote: RemoteAddr(remote) }, judgement))
            }),
        );
    }

    /// Judges which requests of a batch are refused because more comes than can be handled.
    fn judge_load(&mut self, now: Now, listener: ListenerId, shard_of: &[Option<u16>]) {
        self.rejections = [None; BATCH_MAX];
        if self.overload.is_quiet() || self.since.is_none() {
            return;
        }
        let (batch, overload) = (&self.batch, &self.overload);
        self.edge.machines.bans.read(|bans| {
            for (number, rejection) in self.rejections.iter_mut().enumerate().take(shard_of.len()) {
                let Some((datagram, remote)) = batch.datagram(number).filter(|_| shard_of[number].is_some())
                else {
                    continue;
                };
                let flow = Flow::Datagram { listener, remote: RemoteAddr(remote) };
                if let Verdict::Refuse(refused) = overload.judge(now.instant, bans, &flow, datagram) {
                    *rejection = Some(refused);
                }
            }
        });
    }

    /// Says which shard a datagram is for; what is for none is done at once.
    fn sort(&mut self, listener: ListenerId, number: usize) -> Option<u16> {
        let (datagram, remote) = self.batch.datagram(number)?;
        let judgement = self.judgements[number];
        if judgement == Judgement::Banned {
            self.edge.tallies.add(Tally::DroppedBanned);
            return None;
        }
        match transport::classify(datagram) {
            Classified::Message if judgement == Judgement::Slow => {
                self.edge.tallies.add(Tally::DroppedSlowed);
            }
            Classified::Message => {
                trace!(listener = listener.0, %remote, bytes = datagram.len(), "received");
                return Some(self.edge.machines.shard_of(datagram));
            }
            Classified::Keepalive => self.edge.tallies.add(Tally::KeepaliveReceived),
            Classified::Stun => {
                self.answer.clear();
                if stun::answer(datagram, remote, &mut self.answer) {
                    self.edge.tallies.add(Tally::StunAnswered);
                    let message = Bytes::copy_from_slice(&self.answer);
                    self.answers.push(Datagram { listener, remote, message, of: None });
                }
            }
            Classified::Garbage => self.edge.tallies.add(Tally::Garbage),
        }
        None
    }

    /// Gives a batch to its shards, each lock taken once.
    fn feed(&mut self, now: Now, listener: ListenerId, ownership: Ownership, shard_of: &[Option<u16>]) {
        for shard in 0..self.edge.machines.shards.len() as u16 {
            if !shard_of.contains(&Some(shard)) {
                continue;
            }
            let (batch, rejections) = (&self.batch, &self.rejections);
            let messages = shard_of.iter().enumerate().filter(|(_, of)| **of == Some(shard));
            let messages = messages.filter_map(|(number, _)| {
                let (datagram, remote) = batch.datagram(number)?;
                let flow = Flow::Datagram { listener, remote: RemoteAddr(remote) };
                Some((Source { flow, transport: Transport::Udp }, datagram, rejections[number]))
            });
            let admitted = messages.clone().filter(|(.., rejection)| rejection.is_none());
            let admitted = admitted.map(|(source, datagram, _)| (source, datagram));
            self.carrier.feed(&self.edge, now, ownership, shard, admitted);
            if !self.overload.is_quiet() && self.rejections.iter().any(Option::is_some) {
                let refused = messages.filter_map(|(source, datagram, it)| Some((source, datagram, it?)));
                self.carrier.turn_away(&self.edge, now, shard, refused);
            }
        }
    }
}

/// What epoll is to wait for. Whole milliseconds, rounded up: waking early would only find nothing due.
fn time_left(now: Instant, until: Instant) -> Timespec {
    let milliseconds = until.since(now).as_nanos().div_ceil(1_000_000) as i64;
    Timespec { tv_sec: milliseconds / 1_000, tv_nsec: milliseconds % 1_000 * 1_000_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_does_not_wake_before_its_deadline() {
        let due = Instant::START + Duration::from_nanos(1);

        assert_eq!(time_left(Instant::START, due), Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
        assert_eq!(time_left(due, Instant::START), Timespec { tv_sec: 0, tv_nsec: 0 });
    }
}

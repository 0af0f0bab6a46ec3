//! One worker: one thread with the sockets and streams of some calls.
//!
//! It sleeps until a packet comes, an order comes, or a second is over. From each socket that has something it takes a few packets and
//! sends them on at once: who floods one port takes no more of its time than a call that is used as it should be, because the kernel tells
//! of the others before it tells of that one again. Nothing is allocated for a packet.
//!
//! A socket whose side is found and can not move until the signalling speaks again is connected to it, which spares the kernel a search
//! for each packet. Then the kernel itself keeps strangers out. It is let go before anything is changed that it serves.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use clock::Instant;
use engine::{RelayEvent, RelayOrder, RelayReport};
use lease::Epoch;
use media::latch::Latched;
use media::offer_answer::{Leg, Output, Plan, Side, StreamId};
use media::ports::Ports;
use media::sdp::Carriage;
use media::stream::{Discard, Forward, Port, Stream};
use rustix::event::{Timespec, epoll};
use tracing::{debug, error, warn};

use super::inbox::Given;
use super::kernel::Kernel;
use super::sockets::{MediaSocket, Served, Sockets};
use super::streams::{LegSockets, RelayedStream, Streams};
use super::{Desk, RelayRules, Tell};
use crate::clocks;
use crate::early::Early;
use crate::mandate::{Leave, Mandate};
use crate::socket;
use crate::tally::{Tallies, Tally};
use crate::udp::batch::{self, ReceiveBatch};

/// Packets of one socket in its turn when there is much to do. A call sends 50 in a second; more at once is a burst after a pause, or a
/// flood.
const PER_TURN_MAX: usize = 16;
/// Sockets that are told of in one wake-up; the rest follow in the next.
pub(super) const READY_MAX: usize = 64;
/// How often silence is looked for and figures are told.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How often a send is tried again whose error may be one of an earlier packet.
const SEND_AGAIN_MAX: u32 = 2;
/// Complaints about ports that can not be bound, each second.
const COMPLAINTS_MAX: u32 = 5;
/// Turns of all sockets that have something, before a hand-over: a flood must not hold it up.
const DRAIN_TURNS_MAX: usize = 256;
/// How long a packet is kept that came before its streams: longer than a hand-over takes. Phones play nothing that is later.
const EARLY_FOR: Duration = Duration::from_secs(1);
/// So many are kept: what thousands of calls send in the time that a hand-over takes.
const EARLY_MAX: usize = 8_192;
/// The inbox's number in epoll; sockets have theirs plus one.
const INBOX: u64 = 0;

pub(super) struct Worker {
    desk: Arc<Desk>,
    rules: RelayRules,
    mandate: Arc<Mandate>,
    tallies: Arc<Tallies>,
    tell: Tell,
    epoll: OwnedFd,
    sockets: Sockets,
    streams: Streams,
    kernel: Kernel,
    /// Streams and sides of which a packet goes on that the kernel could send on.
    offers: Vec<(usize, Side)>,
    /// Under which epoch the node became active in whose time the streams began.
    since: Option<Epoch>,
    /// Until when what comes to a port without a stream may be of one that is not told of yet.
    settled_at: Instant,
    early: Early<SocketAddr>,
    batch: ReceiveBatch,
    leaving: Vec<Leaving>,
    given: Vec<Given>,
    /// Who waits until the sockets are empty.
    waiting: Vec<SyncSender<()>>,
    sweep_at: Instant,
    complaints: u32,
}

/// A packet of the batch that goes on.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// The number of the socket that it leaves by.
    by: usize,
    to: SocketAddr,
    /// Its number in the batch.
    packet: usize,
}

impl Worker {
    pub(super) fn new(
        desk: Arc<Desk>,
        rules: RelayRules,
        mandate: Arc<Mandate>,
        tallies: Arc<Tallies>,
        tell: Tell,
        kernel: Kernel,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let inbox = epoll::EventData::new_u64(INBOX);
        epoll::add(&epoll, desk.inbox.descriptor(), inbox, epoll::EventFlags::IN)?;
        Ok(Self {
            desk,
            rules,
            mandate,
            tallies,
            tell,
            epoll,
            sockets: Sockets::default(),
            streams: Streams::default(),
            kernel,
            offers: Vec::with_capacity(PER_TURN_MAX),
            since: None,
            settled_at: Instant::START,
            early: Early::new(EARLY_FOR, EARLY_MAX),
            batch: ReceiveBatch::new(),
            leaving: Vec::with_capacity(PER_TURN_MAX),
            given: Vec::new(),
            waiting: Vec::new(),
            sweep_at: clocks::instant() + SWEEP_EVERY,
            complaints: 0,
        })
    }

    /// Runs until it is to stop.
    pub(super) fn run(mut self) {
        let mut ready = Vec::with_capacity(READY_MAX);
        while !self.desk.inbox.is_to_stop() {
            if let Err(error) = self.turn(&mut ready) {
                // Nothing that is done here can make epoll fail; if it does, the watchdog sees the silence.
                error!(%error, "a worker of the media relay can not wait for its sockets");
                break;
            }
        }
        self.take_all_back();
    }

    /// Waits until something comes, or a second is over, and does what is to be done.
    pub(super) fn turn(&mut self, ready: &mut Vec<epoll::Event>) -> io::Result<()> {
        let left = self.sweep_at.since(clocks::instant());
        self.sleep(ready, left)?;
        let now = clocks::instant();
        self.desk.inbox.beat(now);
        // A call has one packet, and to ask for a second one costs as much as epoll's next word. Who is behind finds more of them.
        let is_behind = ready.len() >= READY_MAX;
        for event in ready.drain(..) {
            match event.data.u64() {
                INBOX => self.take_orders(now),
                number if is_behind => self.receive::<PER_TURN_MAX>((number - 1) as usize),
                number => self.receive::<1>((number - 1) as usize),
            }
        }
        if !self.waiting.is_empty() {
            self.empty_sockets(ready);
        }
        if self.sweep_at <= now {
            self.sweep_at = now + SWEEP_EVERY;
            self.early.forget_old(now);
            self.follow_lease(now);
            self.sweep(now);
        }
        Ok(())
    }

    /// The kernel sends on nothing more.
    fn take_all_back(&mut self) {
        let Self { streams, kernel, .. } = self;
        streams.iter_mut().for_each(|relayed| kernel.take_back(relayed));
    }

    /// Takes what waits in the sockets, the last chance before a hand-over, and tells those who wait for it.
    fn empty_sockets(&mut self, ready: &mut Vec<epoll::Event>) {
        for _ in 0..DRAIN_TURNS_MAX {
            if self.sleep(ready, Duration::ZERO).is_err() {
                break;
            }
            let sockets = ready.drain(..).map(|event| event.data.u64()).filter(|number| *number != INBOX);
            let sockets: Vec<u64> = sockets.collect();
            sockets.iter().for_each(|number| self.receive::<PER_TURN_MAX>((number - 1) as usize));
            if sockets.is_empty() {
                break;
            }
        }
        for waiting in self.waiting.drain(..) {
            // Who has waited too long is not there any more.
            let _ = waiting.try_send(());
        }
    }

    fn sleep(&self, ready: &mut Vec<epoll::Event>, time: Duration) -> io::Result<()> {
        let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(ready), Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn take_orders(&mut self, now: Instant) {
        let mut given = std::mem::take(&mut self.given);
        self.desk.inbox.take(&mut given);
        // Behind the orders: who gave them saw this epoch or an earlier one.
        self.follow_lease(now);
        for given in given.drain(..) {
            match given {
                Given::Order { shard, since, order } => self.obey(now, shard, since, *order),
                Given::Rules(rules) => {
                    self.kernel.turn(rules.fast_path);
                    // What goes on is given anew, by the new rules.
                    self.take_all_back();
                    self.rules = rules;
                }
                Given::Drain(waiting) => self.waiting.push(waiting),
            }
        }
        self.given = given;
        self.handle_early(now);
    }

    /// Ends all streams if another node may have been active: theirs are told anew. Ports stay.
    fn follow_lease(&mut self, now: Instant) {
        let since = self.mandate.epochs(now).map(|epochs| epochs.since);
        if since != self.since {
            self.since = since;
            self.settled_at = now + EARLY_FOR;
            self.take_all_back();
            self.streams.clear();
            self.sockets.forget_all();
            self.desk.board().clear();
        }
    }

    fn obey(&mut self, now: Instant, shard: u16, since: Option<Epoch>, order: RelayOrder) {
        let RelayOrder { session, faces, output } = order;
        match output {
            Output::Bind(side, ports) => {
                for port in all_ports(ports) {
                    self.bind(session, SocketAddr::new(faces.towards(side).local, port));
                }
            }
            Output::Unbind(side, ports) => {
                for port in all_ports(ports) {
                    let number = self.sockets.at(SocketAddr::new(faces.towards(side).local, port));
                    let is_its =
                        |number: &usize| self.sockets.get(*number).is_some_and(|it| it.session == session);
                    if let Some(number) = number.filter(is_its) {
                        self.detach(number);
                        // Closing takes it out of epoll too.
                        self.sockets.remove(number);
                    }
                }
            }
            // Those of an earlier time as active are nobody's.
            Output::Start(..) | Output::Change(..) if since.is_none() || since != self.since => {}
            Output::Start(id, plan) => {
                self.forget(session, id);
                self.begin(now, shard, session, id, &plan);
            }
            Output::Change(id, plan) => match self.streams.number_of(session, id) {
                Some(number) => self.change(now, number, &plan),
                None => self.begin(now, shard, session, id, &plan),
            },
            Output::End(id) => {
                self.hear_out(session, id);
                if let Some(ended) = self.forget(session, id) {
                    let report = RelayReport::Figures(ended.stream.figures());
                    (self.tell)(ended.shard, RelayEvent { session, stream: id, report });
                }
            }
        }
    }

    fn bind(&mut self, session: engine::SessionName, local: SocketAddr) {
        if let Some(number) = self.sockets.at(local) {
            // The session of before is over, and its end was never told.
            if self.sockets.get(number).is_some_and(|it| it.session != session) {
                self.detach(number);
                self.sockets.hand_over(number, session);
            }
            return;
        }
        let ownership = self.mandate.ownership(local.ip());
        let opened = socket::open_media(local, self.rules.dscp << 2).and_then(|socket| {
            let number = self.sockets.insert(MediaSocket::new(socket, local, ownership, session));
            let socket = &self.sockets.get(number).ok_or(io::ErrorKind::NotFound)?.socket;
            let data = epoll::EventData::new_u64(number as u64 + 1);
            epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN).map_err(|error| {
                self.sockets.remove(number);
                error.into()
            })
        });
        if let Err(error) = opened {
            self.tallies.add(Tally::RelayNotBound);
            self.complaints += 1;
            if self.complaints <= COMPLAINTS_MAX {
                warn!(%local, %error, "a port of the media relay can not be bound: a call has no sound on it");
            }
        }
    }

    fn begin(&mut self, now: Instant, shard: u16, session: engine::SessionName, id: StreamId, plan: &Plan) {
        let stream = Stream::new(now, plan, self.rules.policy, self.rules.silence);
        let (caller, callee) = (self.leg(plan.carriage, &plan.caller), self.leg(plan.carriage, &plan.callee));
        let number = self.streams.insert(RelayedStream {
            session,
            id,
            shard,
            stream,
            caller,
            callee,
            holds: Default::default(),
        });
        self.serve(number, Side::Caller, caller);
        self.serve(number, Side::Callee, callee);
        debug!(session = session.as_u64(), ?id, "a stream begins");
    }

    fn change(&mut self, now: Instant, number: usize, plan: &Plan) {
        let (caller, callee) = (self.leg(plan.carriage, &plan.caller), self.leg(plan.carriage, &plan.callee));
        let Some(relayed) = self.streams.get_mut(number) else { return };
        self.kernel.take_back(relayed);
        relayed.stream.handle_change(now, plan);
        let before = relayed.sockets();
        (relayed.caller, relayed.callee) = (caller, callee);
        for socket in before {
            self.sockets.forget(socket, number);
        }
        self.serve(number, Side::Caller, caller);
        self.serve(number, Side::Callee, callee);
    }

    /// Takes a socket from the streams that have it.
    fn detach(&mut self, socket: usize) {
        let Some(from) = self.sockets.get(socket) else { return };
        for served in &from.served {
            if let Some(relayed) = self.streams.get_mut(served.stream) {
                self.kernel.take_back(relayed);
                relayed.let_go(socket);
            }
        }
    }

    /// The sockets of a leg.
    fn leg(&self, carriage: Carriage, leg: &Leg) -> LegSockets {
        let next = leg.local.port().checked_add(1).filter(|_| carriage.has_rtcp());
        LegSockets {
            media: self.sockets.at(leg.local),
            rtcp: next.and_then(|port| self.sockets.at(SocketAddr::new(leg.local.ip(), port))),
        }
    }

    fn serve(&mut self, stream: usize, side: Side, leg: LegSockets) {
        for (socket, port) in [(leg.media, Port::Media), (leg.rtcp, Port::Rtcp)] {
            if let Some(socket) = socket {
                self.sockets.serve(socket, Served { stream, side, port });
                self.part(socket);
            }
        }
    }

    /// What comes to a port of several streams is to be looked at.
    fn part(&mut self, socket: usize) {
        let served = self.sockets.get(socket).map(|it| &it.served[..]).unwrap_or_default();
        if served.len() > 1 {
            for served in served {
                if let Some(relayed) = self.streams.get_mut(served.stream) {
                    self.kernel.take_back(relayed);
                }
            }
        }
    }

    /// Takes what a stream's sockets have, before it ends: who hung up has sent it before, and it counts.
    fn hear_out(&mut self, session: engine::SessionName, id: StreamId) {
        let number = self.streams.number_of(session, id);
        let Some(relayed) = number.and_then(|number| self.streams.get_mut(number)) else { return };
        relayed.sockets().for_each(|socket| self.receive::<PER_TURN_MAX>(socket));
    }

    fn forget(&mut self, session: engine::SessionName, id: StreamId) -> Option<RelayedStream> {
        let number = self.streams.number_of(session, id)?;
        let mut relayed = self.streams.remove(number)?;
        self.kernel.take_back(&mut relayed);
        for socket in relayed.sockets() {
            self.sockets.forget(socket, number);
        }
        self.desk.board().remove(&(session, id));
        Some(relayed)
    }

    /// Looks for silence, and tells figures.
    fn sweep(&mut self, now: Instant) {
        self.complaints = 0;
        if self.streams.is_empty() {
            return;
        }
        let numbers: Vec<usize> = self.streams.numbers().collect();
        for number in numbers {
            let Some(relayed) = self.streams.get_mut(number) else { continue };
            self.kernel.look(now, relayed);
            if !relayed.stream.handle_timeout(now) {
                continue;
            }
            let (shard, session, id) = (relayed.shard, relayed.session, relayed.id);
            // A dialog is silent when the last of its streams is.
            let mut others = self.streams.of_dialog(session, id.dialog);
            if others.all(|other| other.stream.poll_timeout().is_none()) {
                (self.tell)(shard, RelayEvent { session, stream: id, report: RelayReport::Silent });
            }
        }
        let mut board = self.desk.board();
        for relayed in self.streams.iter() {
            board.insert((relayed.session, relayed.id), relayed.stream.figures());
        }
    }

    /// Takes what a socket has, at most so many packets, and sends it on.
    fn receive<const SOME: usize>(&mut self, number: usize) {
        let Some(from) = self.sockets.get(number) else { return };
        // What the kernel tells of an earlier packet is taken with this; if there is more, epoll tells again.
        let Ok(count) = self.batch.receive_some::<SOME>(from.socket.as_fd()) else { return };
        self.tallies.add_many(Tally::RelayReceived, count);
        let now = clocks::instant();
        let since = self.mandate.epochs(now).map(|epochs| epochs.since);
        if since != self.since {
            self.follow_lease(now);
        }
        if since.is_none() {
            // The gate keeps this away from a standby, but for one that is about to take over.
            self.tallies.add_many(Tally::RelayInactive, count);
            if !self.mandate.is_over() {
                self.keep(now, number, count);
            }
            return;
        }
        if self.sockets.get(number).is_some_and(|from| from.served.is_empty()) {
            self.tallies.add_many(Tally::RelayEarly, count);
            if now < self.settled_at {
                self.keep(now, number, count);
            }
            return;
        }
        self.forward(now, number, count);
        if let Some(served) = self.sockets.hear(number, count) {
            self.connect(now, number, served);
        }
    }

    /// Connects a socket whose side can be nowhere else.
    fn connect(&mut self, now: Instant, number: usize, served: Served) {
        let stream = self.streams.get_mut(served.stream).map(|relayed| &relayed.stream);
        let Some(peer) = stream.and_then(|stream| stream.settled(now, served.side)) else { return };
        if let Err(error) = self.sockets.connect(number, peer) {
            // It goes on as it is, and is looked at again.
            debug!(%error, "a port of the media relay is not connected to its phone");
        }
    }

    /// Keeps what has come to a port.
    fn keep(&mut self, now: Instant, number: usize, count: usize) {
        let Some(local) = self.sockets.get(number).map(|from| from.local) else { return };
        for (bytes, source) in (0..count).filter_map(|packet| self.batch.datagram(packet)) {
            self.early.keep(now, local, source, bytes);
        }
    }

    /// Sends on what came before it was known where to.
    fn handle_early(&mut self, now: Instant) {
        if self.early.is_empty() || self.since.is_none() {
            return;
        }
        let number_of = |local| {
            let number = self.sockets.at(local)?;
            self.sockets.get(number).filter(|it| !it.served.is_empty()).map(|_| number)
        };
        self.early.forget_old(now);
        for packet in self.early.take_served(|local| number_of(local).is_some()) {
            let Some(number) = self.sockets.at(packet.place) else { continue };
            let count = self.batch.take(std::iter::once((packet.remote, &packet.bytes[..])));
            // As of then, so that the wait does not count as jitter. The stream may have begun a moment later; it does not mind.
            self.forward(packet.came, number, count);
        }
    }

    /// Sends on the packets of the batch, which have come to this socket.
    fn forward(&mut self, now: Instant, number: usize, count: usize) {
        let Some(from) = self.sockets.get(number) else { return };
        self.leaving.clear();
        for packet in 0..count {
            let Some((bytes, source)) = self.batch.datagram(packet) else { continue };
            forward(
                &mut self.streams,
                &from.served,
                Arrived { now, source, bytes, packet },
                &mut Onward { leaving: &mut self.leaving, offers: &mut self.offers },
                &self.kernel,
                &self.tallies,
                &self.tell,
            );
        }
        self.send();
        // Behind the packet itself, which so is not overtaken.
        for (stream, side) in self.offers.drain(..) {
            if let Some(relayed) = self.streams.get_mut(stream)
                && self.kernel.wants(now, relayed, side)
            {
                self.kernel.offer(now, relayed, side, &self.sockets, self.rules.dscp);
            }
        }
    }

    /// Sends what leaves, in one call for each run that leaves by one socket.
    fn send(&mut self) {
        let mut again = 0;
        let mut rest = &self.leaving[..];
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|it| it.by == first.by).count();
            let Some(by) = self.sockets.get(first.by) else {
                self.tallies.add_many(Tally::RelayDropped, run);
                rest = &rest[run..];
                continue;
            };
            // By the clock of this moment: what was received under the lease may be late.
            if self.mandate.may_send(by.ownership) == Leave::Never {
                self.tallies.add_many(Tally::RelayInactive, run);
                rest = &rest[run..];
                continue;
            }
            let packets =
                rest[..run].iter().filter_map(|it| Some((by.to(it.to), self.batch.datagram(it.packet)?.0)));
            let socket = by.socket.as_fd();
            let sent = match run {
                1 => batch::send_some::<1>(socket, packets),
                _ => batch::send_some::<PER_TURN_MAX>(socket, packets),
            };
            match sent {
                Ok(sent) => {
                    self.tallies.add_many(Tally::RelaySent, sent);
                    rest = &rest[sent.clamp(1, run)..];
                    again = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It may be the error of an earlier packet, which the kernel tells to whoever sends next.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock && again < SEND_AGAIN_MAX => {
                    again += 1
                }
                Err(_) => {
                    self.tallies.add(Tally::RelayDropped);
                    rest = &rest[1..];
                    again = 0;
                }
            }
        }
    }
}

/// A packet that has come.
struct Arrived<'b> {
    now: Instant,
    source: SocketAddr,
    bytes: &'b [u8],
    packet: usize,
}

/// What goes on.
struct Onward<'w> {
    leaving: &'w mut Vec<Leaving>,
    offers: &'w mut Vec<(usize, Side)>,
}

/// Asks the streams of a port, one after the other, whose packet this is.
fn forward(
    streams: &mut Streams,
    served: &[Served],
    arrived: Arrived<'_>,
    onward: &mut Onward<'_>,
    kernel: &Kernel,
    tallies: &Tallies,
    tell: &Tell,
) {
    let Arrived { now, source, bytes, packet } = arrived;
    let mut dropped = Tally::RelayStranger;
    for &Served { stream, side, port } in served {
        let Some(relayed) = streams.get_mut(stream) else { continue };
        kernel.hear_before(now, relayed, side, source);
        match relayed.stream.handle_packet(now, side, port, source, bytes) {
            Forward::Send { port, to, latched } => {
                if latched.is_some() {
                    kernel.take_back(relayed);
                }
                tell_latched(relayed, side, latched, tell);
                match relayed.towards(side.other(), port) {
                    Some(by) => onward.leaving.push(Leaving { by, to, packet }),
                    None => tallies.add(Tally::RelayDropped),
                }
                if kernel.wants(now, relayed, side) {
                    onward.offers.push((stream, side));
                }
                return;
            }
            Forward::Drop(Discard::Stranger, _) => dropped = Tally::RelayStranger,
            Forward::Drop(Discard::Noise, _) => dropped = Tally::RelayNoise,
            Forward::Drop(Discard::NoTarget, latched) => {
                if latched.is_some() {
                    kernel.take_back(relayed);
                }
                tell_latched(relayed, side, latched, tell);
                return tallies.add(Tally::RelayNoTarget);
            }
        }
    }
    tallies.add(dropped);
}

fn tell_latched(relayed: &RelayedStream, side: Side, latched: Option<Latched>, tell: &Tell) {
    if let Some(latched) = latched {
        let report = RelayReport::Latched(side, latched);
        tell(relayed.shard, RelayEvent { session: relayed.session, stream: relayed.id, report });
    }
}

fn all_ports(ports: Ports) -> impl Iterator<Item = u16> {
    (0..2 * ports.pairs()).map(move |step| ports.rtp() + step)
}

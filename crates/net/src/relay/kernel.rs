//! Streams that the kernel sends on: which ones it has, and what it counts.
//!
//! A worker sends a packet on itself, and behind it gives the way that it went to the kernel, which from there on sends on
//! RTP with the same ends; all else goes on coming to the worker. Whatever is said of a stream, and each move of a latch,
//! takes the stream back, and the next packet gives it again.
//!
//! Invariant: what the kernel has is exactly what [`Hold::Kernel`] says, as long as this process lives; whoever comes after it
//! begins by taking all back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clock::Instant;
use media::figures::Carried;
use media::offer_answer::Side;
use tracing::debug;

use super::sockets::Sockets;
use super::streams::RelayedStream;
use crate::mandate::Ownership;
use crate::tally::{Tallies, Tally};

/// What the kernel refused is not offered again before this, and the way of what it took is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// So long is taken for one offer on the whole: it costs some system calls, and after a takeover all streams come at once.
const OFFER_EVERY: Duration = Duration::from_micros(250);
/// So many may be made at once after a time with fewer.
const OFFERS_MAX: u32 = 64;

/// Both ends of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketEnds {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes to.
    pub to: SocketAddr,
}

/// How a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelWay<'a> {
    /// The ends with which its packets leave, of the same family.
    pub leaves: PacketEnds,
    /// The class of packets, from 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// Clock rates in hertz by payload type.
    pub clock_rates: &'a [(u8, u32)],
}

/// The kernel's part of the relay. Nothing here waits for anybody.
pub trait KernelPath: Send + Sync {
    /// Has the kernel send on what comes with these ends, going on with what was counted. It refuses what leaves this host by
    /// a way that it can not take.
    fn set(&self, came: PacketEnds, way: &KernelWay<'_>, carried: &Carried) -> io::Result<()>;
    /// Whether packets with these ends still leave by the way that [`Self::set`] found.
    fn is_right(&self, leaves: PacketEnds) -> bool;
    /// What was counted of a stream that the kernel has.
    fn carried(&self, came: PacketEnds) -> Option<Carried>;
    /// As [`Self::carried`], and the kernel has it no more.
    fn take_back(&self, came: PacketEnds) -> Option<Carried>;
}

/// Who sends on one side's RTP.
#[derive(Debug, Default)]
pub(super) enum Hold {
    /// The worker, until the next packet.
    #[default]
    Worker,
    /// The worker, until then.
    Refused(Instant),
    /// The kernel.
    Kernel(Box<Held>),
}

/// A direction that the kernel has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    came: PacketEnds,
    leaves: PacketEnds,
    /// When its way is looked at.
    look_at: Instant,
}

/// The kernel, as one worker has it.
pub(super) struct Kernel {
    path: Option<Arc<dyn KernelPath>>,
    is_on: bool,
    tallies: Arc<Tallies>,
    /// How many streams it has of all workers, each side apart.
    count: Arc<AtomicUsize>,
    /// How many offers may be made, and since when more are earned.
    credit: u32,
    earned_at: Instant,
}

impl Kernel {
    pub(super) fn new(
        path: Option<Arc<dyn KernelPath>>,
        is_on: bool,
        tallies: Arc<Tallies>,
        count: Arc<AtomicUsize>,
    ) -> Self {
        Self { path, is_on, tallies, count, credit: OFFERS_MAX, earned_at: Instant::START }
    }

    /// Whether it is given anything from now on.
    pub(super) fn turn(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// Whether a stream of which a packet has gone on is to be offered.
    pub(super) fn wants(&self, now: Instant, relayed: &RelayedStream, side: Side) -> bool {
        self.path.is_some()
            && self.is_on
            && match relayed.hold(side) {
                Hold::Worker => true,
                Hold::Refused(until) => *until <= now,
                Hold::Kernel(_) => false,
            }
    }

    /// Gives it what comes from a side, if it can have that. What there is no time for is offered with a later packet.
    pub(super) fn offer(
        &mut self,
        now: Instant,
        relayed: &mut RelayedStream,
        side: Side,
        sockets: &Sockets,
        dscp: u8,
    ) {
        let ends = ends(relayed, side, sockets);
        // What it can never have takes no time from what it can.
        if ends.is_some() && !self.has_time(now) {
            return;
        }
        let Some(path) = &self.path else { return };
        let hold = match ends {
            None => Hold::Refused(now + AGAIN_AFTER),
            Some((came, leaves)) => {
                let carried = relayed.stream.lend(side);
                let way = KernelWay { leaves, dscp, clock_rates: relayed.stream.clock_rates() };
                match path.set(came, &way, &carried) {
                    Ok(()) => {
                        self.count.fetch_add(1, Ordering::Relaxed);
                        Hold::Kernel(Box::new(Held { came, leaves, look_at: next_look(now, came) }))
                    }
                    Err(error) => {
                        debug!(?came, ?leaves, %error, "the kernel does not send this stream on");
                        relayed.stream.take_back(side, Some(&carried));
                        Hold::Refused(now + AGAIN_AFTER)
                    }
                }
            }
        };
        relayed.set_hold(side, hold);
    }

    /// Takes back both sides of a stream, with what was counted.
    pub(super) fn take_back(&self, relayed: &mut RelayedStream) {
        for side in [Side::Caller, Side::Callee] {
            self.take_back_side(relayed, side);
        }
    }

    fn take_back_side(&self, relayed: &mut RelayedStream, side: Side) {
        let hold = relayed.set_hold(side, Hold::Worker);
        let (Hold::Kernel(held), Some(path)) = (hold, &self.path) else { return };
        let carried = path.take_back(held.came);
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.add(relayed.stream.take_back(side, carried.as_ref()));
    }

    /// Takes its word on a stream, and looks whether it may keep that.
    pub(super) fn look(&self, now: Instant, relayed: &mut RelayedStream) {
        let Some(path) = &self.path else { return };
        for side in [Side::Caller, Side::Callee] {
            let Hold::Kernel(held) = relayed.hold(side) else { continue };
            let Held { came, leaves, look_at } = **held;
            let is_due = look_at <= now;
            match path.carried(came) {
                Some(carried) if !is_due || path.is_right(leaves) => {
                    self.add(relayed.stream.handle_carried(side, &carried));
                    if is_due {
                        let held = Held { came, leaves, look_at: next_look(now, came) };
                        relayed.set_hold(side, Hold::Kernel(Box::new(held)));
                    }
                }
                _ => self.take_back_side(relayed, side),
            }
        }
    }

    /// A packet has come to a port of a side from elsewhere than what the kernel sends on. A latch that may move then is told
    /// first when its side was heard last.
    pub(super) fn hear_before(
        &self,
        now: Instant,
        relayed: &mut RelayedStream,
        side: Side,
        source: SocketAddr,
    ) {
        if let Hold::Kernel(held) = relayed.hold(side)
            && held.came.from != source
            && relayed.stream.may_be_left(now, side)
        {
            self.look(now, relayed);
        }
    }

    fn has_time(&mut self, now: Instant) -> bool {
        let earned = now.since(self.earned_at).as_nanos() / OFFER_EVERY.as_nanos();
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.credit = self.credit.saturating_add(earned).min(OFFERS_MAX);
            self.earned_at = now;
        }
        let has_time = self.credit > 0;
        self.credit -= u32::from(has_time);
        has_time
    }

    fn add(&self, packets: u64) {
        let packets = usize::try_from(packets).unwrap_or(usize::MAX);
        for tally in [Tally::RelayReceived, Tally::RelaySent, Tally::RelayInKernel] {
            self.tallies.add_many(tally, packets);
        }
    }
}

/// When the way of a stream is looked at again: not of all at the same time that were given at the same time.
fn next_look(now: Instant, came: PacketEnds) -> Instant {
    now + AGAIN_AFTER + Duration::from_secs(u64::from(came.to.port() / 2 % 30))
}

/// With which ends a side's packets come and leave, if the kernel may have them: by virtual addresses, which the gate watches, and
/// by a port that no other stream has.
fn ends(relayed: &RelayedStream, side: Side, sockets: &Sockets) -> Option<(PacketEnds, PacketEnds)> {
    use media::stream::Port;
    let (source, target) = relayed.stream.way(side)?;
    let socket = |side| sockets.get(relayed.towards(side, Port::Media)?);
    let (inward, outward) = (socket(side)?, socket(side.other())?);
    let is_fit = inward.ownership == Ownership::Virtual
        && outward.ownership == Ownership::Virtual
        && inward.served.len() == 1
        && source.is_ipv4() == target.is_ipv4();
    is_fit.then_some((
        PacketEnds { from: source, to: inward.local },
        PacketEnds { from: outward.local, to: target },
    ))
}

//! The relay of one call as a node has it: its offers and answers, its ports, and the streams behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use media::latch::{Latched, Policy};
use media::offer_answer::{
    Branch, Broken, Call, Face, Faces, Leg, Message, Output, Plan, Side, StreamId, Tag, Terms, Verdict,
};
use media::ports::Pool;
use media::sdp::Origin;
use media::stream::{Forward, Port, Stream};

/// The address that both nodes share.
pub(super) const SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 100));
/// The ports of the relay.
pub(super) const PORTS: (u16, u16) = (30_000, 30_031);
/// Nothing heard for so long ends a call.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// What becomes of a datagram that came to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// It leaves by this address of the relay.
    On { from: SocketAddr, to: SocketAddr },
    /// It goes nowhere.
    Dropped,
}

/// The relay of a node that is active.
#[derive(Debug)]
pub(super) struct Node {
    call: Call,
    pool: Pool,
    streams: BTreeMap<StreamId, (Stream, Plan)>,
    bound: BTreeMap<SocketAddr, Side>,
    /// Whether the other node has to be told of something that the signalling did not say.
    has_latched: bool,
}

impl Node {
    /// A node that knows of no call.
    pub(super) fn new(seed: u64) -> Self {
        let face = Face { local: SERVICE, named: SERVICE };
        let faces = Faces { caller: face, callee: face };
        let terms = Terms { faces, broken: Broken::PassOn, origin: Origin::Kept };
        Self::with(Call::new(terms), seed)
    }

    /// A node that goes on with what the other one has told.
    pub(super) fn take_over(now: Instant, capsule: Bytes, seed: u64) -> Result<Self, String> {
        let call = Call::from_bytes(now, capsule).map_err(|malformed| format!("{malformed:?}"))?;
        let mut node = Self::with(call, seed);
        node.call.claim(now, &mut node.pool).map_err(|taken| format!("{taken:?}"))?;
        let mut out = Vec::new();
        node.call.handle_takeover(&mut out);
        node.obey(now, out);
        Ok(node)
    }

    fn with(call: Call, seed: u64) -> Self {
        let pool = Pool::new(PORTS.0, PORTS.1, seed);
        Self { call, pool, streams: BTreeMap::new(), bound: BTreeMap::new(), has_latched: false }
    }

    /// What the other node is told.
    pub(super) fn capsule(&self, now: Instant) -> Bytes {
        self.call.to_bytes(now)
    }

    /// A message passes; gives the body with which it goes on.
    pub(super) fn handle_message(&mut self, now: Instant, message: &Message<'_>) -> Result<Vec<u8>, String> {
        let mut out = Vec::new();
        let verdict = self.call.handle(now, message, &mut self.pool, &mut out);
        self.obey(now, out);
        match verdict {
            Verdict::Rewritten { body, .. } => Ok(body),
            Verdict::NoDescription => Ok(Vec::new()),
            other => Err(format!("{other:?}")),
        }
    }

    /// The transaction of a copy of the INVITE is over.
    pub(super) fn handle_branch_ended(&mut self, now: Instant, branch: Branch) {
        let mut out = Vec::new();
        self.call.handle_branch_ended(now, branch, &mut self.pool, &mut out);
        self.obey(now, out);
    }

    /// The dialog has ended.
    pub(super) fn handle_dialog_ended(&mut self, now: Instant, tag: Tag) {
        let mut out = Vec::new();
        self.call.handle_dialog_ended(now, tag, &mut self.pool, &mut out);
        self.obey(now, out);
    }

    /// A datagram has come.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) -> Passed {
        let found = self.streams.iter_mut().find_map(|(id, (stream, plan))| {
            let (side, port) = place(plan, to)?;
            Some((*id, stream, plan, side, port))
        });
        let Some((id, stream, plan, side, port)) = found else { return Passed::Dropped };
        let (passed, latched) = match stream.handle_packet(now, side, port, from, bytes) {
            Forward::Send { port, to, latched } => {
                (Passed::On { from: address(plan.leg(side.other()), port), to }, latched)
            }
            Forward::Drop(_, latched) => (Passed::Dropped, latched),
        };
        if let Some(latched) = latched {
            self.call.handle_latched(id, side, latched);
            self.has_latched = true;
        }
        passed
    }

    /// Whether a latch has moved since this was asked last.
    pub(super) fn take_latched(&mut self) -> bool {
        std::mem::take(&mut self.has_latched)
    }

    /// Lets time pass; whether nothing has come for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let silent = self.streams.values_mut().map(|(stream, _)| stream.handle_timeout(now));
        silent.fold(false, |any, is_silent| any | is_silent)
    }

    /// Where a side is latched on to.
    pub(super) fn latched(&self, side: Side) -> Option<Latched> {
        self.streams.values().find_map(|(stream, _)| stream.latched(side))
    }

    /// How many ports it has bound, and how many pairs are taken.
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bound.len(), self.pool.held())
    }

    fn obey(&mut self, now: Instant, orders: Vec<Output>) {
        for order in orders {
            match order {
                Output::Bind(side, ports) => {
                    for port in [ports.rtp(), ports.rtcp()] {
                        self.bound.insert(SocketAddr::new(SERVICE, port), side);
                    }
                }
                Output::Unbind(_, ports) => {
                    for port in [ports.rtp(), ports.rtcp()] {
                        self.bound.remove(&SocketAddr::new(SERVICE, port));
                    }
                }
                Output::Start(id, plan) => {
                    let stream = Stream::new(now, &plan, Policy::default(), SILENCE);
                    self.streams.insert(id, (stream, plan));
                }
                Output::Change(id, plan) => match self.streams.get_mut(&id) {
                    Some((stream, known)) => {
                        stream.handle_change(now, &plan);
                        *known = plan;
                    }
                    None => {
                        let stream = Stream::new(now, &plan, Policy::default(), SILENCE);
                        self.streams.insert(id, (stream, plan));
                    }
                },
                Output::End(id) => {
                    self.streams.remove(&id);
                }
            }
        }
    }
}

/// Which side's port this is.
fn place(plan: &Plan, to: SocketAddr) -> Option<(Side, Port)> {
    let places =
        [Side::Caller, Side::Callee].into_iter().flat_map(|side| [(side, Port::Media), (side, Port::Rtcp)]);
    places.into_iter().find(|&(side, port)| address(plan.leg(side), port) == to)
}

fn address(leg: &Leg, port: Port) -> SocketAddr {
    let step = u16::from(port == Port::Rtcp);
    SocketAddr::new(leg.local.ip(), leg.local.port() + step)
}

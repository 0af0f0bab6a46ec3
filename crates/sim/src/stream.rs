//! Connections between hosts: reliable, ordered streams of bytes that arrive in pieces of any size.
//!
//! A connection has two ends. What one end writes arrives at the other in order, cut anywhere. A
//! *broken* connection is one whose NAT has forgotten it: nothing arrives, and who writes learns of it
//! only when the system gives up.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clock::Instant;

use crate::network::Network;
use crate::rng::Rng;

/// A connection in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(pub(crate) u64);

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Who opened it.
    Opener,
    /// Who was listening.
    Listener,
}

impl End {
    /// The end that is not this one.
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Opener => Self::Listener,
            Self::Listener => Self::Opener,
        }
    }
}

/// What happens at an end, at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Somebody wants to connect; only at the listening end.
    Syn,
    /// The connection is up; only at the opening end.
    Opened,
    /// Nobody listens there; only at the opening end.
    Refused,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The other end is gone, or the system gave up.
    Closed,
}

/// A system that writes to a host that does not answer gives up after this time.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(8);
/// The largest piece.
const PIECE_BYTES_MAX: usize = 1_400;

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The opener's own address.
    pub(crate) opener: SocketAddr,
    /// The opener's address as the listener sees it.
    pub(crate) opener_seen: SocketAddr,
    /// The listener's address.
    pub(crate) listener: SocketAddr,
    state: State,
    last: [Instant; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Broken,
    Closed,
}

/// What happens when, at which end of which connection.
pub(crate) type Arrivals = Vec<(Instant, StreamId, End, Arrival)>;

/// All connections.
#[derive(Debug)]
pub(crate) struct Streams {
    rng: Rng,
    next: u64,
    streams: BTreeMap<StreamId, Stream>,
}

impl Streams {
    /// No connections.
    pub(crate) fn new(rng: Rng) -> Self {
        Self { rng, next: 0, streams: BTreeMap::new() }
    }

    /// Begins a connection; the SYN is the first arrival.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        network: &mut Network,
        (opener, opener_seen, listener): (SocketAddr, SocketAddr, SocketAddr),
        out: &mut Arrivals,
    ) -> StreamId {
        let id = StreamId(self.next);
        self.next += 1;
        let stream = Stream { opener, opener_seen, listener, state: State::Open, last: [now; 2] };
        self.streams.insert(id, stream);
        self.arrive(now, network, id, End::Listener, Arrival::Syn, out);
        id
    }

    /// The listener takes the connection, or refuses it.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        network: &mut Network,
        id: StreamId,
        taken: bool,
        out: &mut Arrivals,
    ) {
        let arrival = if taken { Arrival::Opened } else { Arrival::Refused };
        self.arrive(now, network, id, End::Opener, arrival, out);
        if !taken {
            self.end(id);
        }
    }

    /// One end writes.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        network: &mut Network,
        (id, from): (StreamId, End),
        mut bytes: &[u8],
        out: &mut Arrivals,
    ) {
        match self.streams.get(&id).map(|stream| stream.state) {
            None | Some(State::Closed) => out.push((now, id, from, Arrival::Closed)),
            Some(State::Broken) => out.push((now + GIVE_UP, id, from, Arrival::Closed)),
            Some(State::Open) => {
                while !bytes.is_empty() {
                    let most = bytes.len().min(PIECE_BYTES_MAX);
                    // Most pieces are whole, some are cut anywhere.
                    let length = if self.rng.chance(700) { most } else { 1 + self.rng.index(most) };
                    let (piece, rest) = bytes.split_at(length);
                    self.arrive(now, network, id, from.other(), Arrival::Bytes(piece.to_vec()), out);
                    bytes = rest;
                }
            }
        }
    }

    /// One end closes; what it wrote before still arrives.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        network: &mut Network,
        (id, from): (StreamId, End),
        out: &mut Arrivals,
    ) {
        if self.streams.get(&id).is_some_and(|stream| stream.state == State::Open) {
            self.arrive(now, network, id, from.other(), Arrival::Closed, out);
        }
        self.end(id);
    }

    /// A NAT has forgotten the connections of this host, or the host lost its power.
    pub(crate) fn break_of(&mut self, host: IpAddr) {
        for stream in self.streams.values_mut() {
            if (stream.opener.ip() == host || stream.listener.ip() == host) && stream.state == State::Open {
                stream.state = State::Broken;
            }
        }
    }

    /// The connection, if it ever was.
    pub(crate) fn of(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Whether what was sent before still arrives.
    pub(crate) fn is_broken(&self, id: StreamId) -> bool {
        self.streams.get(&id).is_none_or(|stream| stream.state == State::Broken)
    }

    fn end(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.state = State::Closed;
        }
    }

    /// Invariant: arrivals at one end keep their order.
    fn arrive(
        &mut self,
        now: Instant,
        network: &mut Network,
        id: StreamId,
        at: End,
        arrival: Arrival,
        out: &mut Arrivals,
    ) {
        let delay = network.stream_delay();
        if let Some(stream) = self.streams.get_mut(&id) {
            let last = &mut stream.last[usize::from(at == End::Listener)];
            *last = (*last).max(now + delay);
            out.push((*last, id, at, arrival));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Conditions;

    #[test]
    fn bytes_arrive_whole_and_in_order_however_they_are_cut() {
        let (mut streams, mut network, mut out) = begun();
        let id = open(&mut streams, &mut network, &mut out);
        let sent: Vec<u8> = (0..20_000u32).map(|number| number as u8).collect();
        for piece in sent.chunks(3_000) {
            streams.write(Instant::START, &mut network, (id, End::Opener), piece, &mut out);
        }

        out.sort_by_key(|(at, ..)| *at);
        let arrived: Vec<u8> = out
            .into_iter()
            .filter_map(|(_, _, end, arrival)| match arrival {
                Arrival::Bytes(bytes) if end == End::Listener => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect();

        assert_eq!(arrived, sent);
    }

    #[test]
    fn who_writes_to_a_closed_connection_learns_of_it_at_once_and_to_a_broken_one_later() {
        let (mut streams, mut network, mut out) = begun();
        let closed = open(&mut streams, &mut network, &mut out);
        let addresses = (address(3), address(3), address(2));
        let broken = streams.open(Instant::START, &mut network, addresses, &mut out);
        streams.close(Instant::START, &mut network, (closed, End::Listener), &mut out);
        streams.break_of(address(3).ip());
        out.clear();

        streams.write(Instant::START, &mut network, (closed, End::Opener), b"x", &mut out);
        assert_eq!(out, [(Instant::START, closed, End::Opener, Arrival::Closed)]);

        out.clear();
        streams.write(Instant::START, &mut network, (broken, End::Listener), b"x", &mut out);
        assert_eq!(out, [(Instant::START + GIVE_UP, broken, End::Listener, Arrival::Closed)]);
    }

    fn begun() -> (Streams, Network, Arrivals) {
        (Streams::new(Rng::new(1)), Network::new(Rng::new(2), Conditions::BAD), Vec::new())
    }

    fn open(streams: &mut Streams, network: &mut Network, out: &mut Arrivals) -> StreamId {
        streams.open(Instant::START, network, (address(1), address(1), address(2)), out)
    }

    fn address(host: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], 5060))
    }
}

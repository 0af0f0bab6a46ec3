//! Connections between the two engines: streams that keep their order, are slow, stand still, and break. What is lost on the way
//! is only late, as long as the way is there at all.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;

use super::{Event, Happening, NODES, World};
use crate::node::FromPeer;

/// What may be on its way: the window of the sender, and what little stands outside of it.
const BYTES_MAX: usize = 5 << 20;
/// A system sends again what was not acknowledged.
const AGAIN_AFTER: Duration = Duration::from_millis(40);

/// Who was connected a moment ago waits before it calls again.
const PAUSE: Duration = Duration::from_millis(50);

/// One connection. Direction 0 leads away from who called.
#[derive(Debug)]
pub(super) struct Link {
    caller: usize,
    /// The engines that it connects.
    boots: [u64; NODES],
    ways: [Line; 2],
    pub(super) stalled_until: Instant,
}

#[derive(Debug, Default)]
struct Line {
    pieces: VecDeque<(Instant, Piece)>,
    bytes: usize,
    last: Option<Instant>,
    /// Nothing more is put in, or is heard of it.
    is_over: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    End,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something may have arrived by this way.
    Arrive(usize),
    /// An end learns that it is gone: the engine of this start on this host.
    Lost(usize, u64),
}

impl Link {
    fn host_at(&self, way: usize) -> usize {
        if way == 0 { 1 - self.caller } else { self.caller }
    }

    fn way_from(&self, host: usize) -> usize {
        usize::from(host != self.caller)
    }
}

impl World {
    /// An engine that has something to say calls its peer.
    pub(super) fn call_peer(&mut self, host: usize, boot: u64) {
        let peer = 1 - host;
        if let Some(engine) = &mut self.hosts[host].engine
            && !engine.node.wants_connection()
        {
            engine.is_calling = false;
            return;
        }
        let is_reachable = !self.is_cut(host, peer) && self.hosts[peer].engine_frozen <= self.now;
        let Some(peer_boot) = self.hosts[peer].engine.as_ref().filter(|_| is_reachable).map(|it| it.boot)
        else {
            let after = self.rng.between(Duration::from_millis(50), Duration::from_millis(1_000));
            return self.later(after, Happening::Call { host, boot });
        };
        if let Some(engine) = &mut self.hosts[host].engine {
            engine.is_calling = false;
            engine.rests_until = self.now + PAUSE;
        }
        self.linked += 1;
        let link = self.linked;
        let mut boots = [boot; NODES];
        boots[peer] = peer_boot;
        let ways = [Line::default(), Line::default()];
        self.links.insert(link, Link { caller: host, boots, ways, stalled_until: self.now });
        self.count(Event::Connected);
        self.trace.add(self.now, format_args!("link {link} of engine {host} is there"), b"");
        self.with_engine(host, |node, now, out| node.handle_peer(now, FromPeer::Connected(link), out));
    }

    /// An engine writes to a connection.
    pub(super) fn send_peer(&mut self, host: usize, link: u64, bytes: Bytes) {
        let slow = if self.now < self.link_slow_until { self.link_slow } else { Duration::ZERO };
        let late = self.weather.is_stormy() && self.rng.chance(20);
        let after = self.rng.between(Duration::from_micros(40), Duration::from_micros(450))
            + self.rng.between(Duration::ZERO, slow)
            + if late { AGAIN_AFTER * 5 } else { Duration::ZERO };
        let cut = self.rng.index(bytes.len() + 1);
        let in_two = self.rng.chance(100);
        let Some(connection) = self.links.get_mut(&link) else { return };
        let way = connection.way_from(host);
        let line = &mut connection.ways[way];
        if line.is_over {
            return;
        }
        let at = (self.now + after).max(line.last.unwrap_or(self.now));
        line.last = Some(at);
        line.bytes += bytes.len();
        let is_too_much = line.bytes > BYTES_MAX;
        let pieces = if in_two { vec![bytes.slice(..cut), bytes.slice(cut..)] } else { vec![bytes] };
        line.pieces.extend(pieces.into_iter().map(|piece| (at, Piece::Bytes(piece))));
        if is_too_much {
            self.breach("what is on its way to the peer is bounded", format!("link {link}"));
        }
        self.at(at, Happening::Link { link, step: Step::Arrive(way) });
    }

    /// An engine closes a connection; what it wrote before still arrives.
    pub(super) fn close_peer(&mut self, host: usize, link: u64) {
        let Some(connection) = self.links.get_mut(&link) else { return };
        let way = connection.way_from(host);
        connection.ways[1 - way] = Line { is_over: true, ..Line::default() };
        let line = &mut connection.ways[way];
        if std::mem::replace(&mut line.is_over, true) {
            return;
        }
        let at = line.last.unwrap_or(self.now).max(self.now + Duration::from_micros(50));
        line.pieces.push_back((at, Piece::End));
        self.at(at, Happening::Link { link, step: Step::Arrive(way) });
    }

    /// All connections of an engine end with it; its kernel says so.
    pub(super) fn close_links_of(&mut self, host: usize) {
        let links: Vec<u64> = self.links.keys().copied().collect();
        links.into_iter().for_each(|link| self.close_peer(host, link));
    }

    /// A connection breaks: nothing arrives any more, and the ends learn it one after the other.
    pub(super) fn break_links(&mut self) -> bool {
        let links: Vec<u64> = self.links.keys().copied().collect();
        for &link in &links {
            let Some(connection) = self.links.remove(&link) else { continue };
            for host in 0..NODES {
                let after = self.rng.between(Duration::ZERO, Duration::from_millis(300));
                let step = Step::Lost(host, connection.boots[host]);
                self.later(after, Happening::Link { link, step });
            }
        }
        !links.is_empty()
    }

    pub(super) fn stall_links(&mut self, time: Duration) {
        for connection in self.links.values_mut() {
            connection.stalled_until = self.now + time;
        }
    }

    pub(super) fn step_link(&mut self, link: u64, step: Step) {
        let way = match step {
            Step::Lost(host, boot) if self.is_engine(host, boot) => {
                let thaws = self.hosts[host].engine_frozen;
                return match thaws > self.now {
                    true => self.at(thaws, Happening::Link { link, step }),
                    false => self.lose_link(host, link),
                };
            }
            Step::Lost(..) => return,
            Step::Arrive(way) => way,
        };
        let Some(connection) = self.links.get(&link) else { return };
        let host = connection.host_at(way);
        if !self.is_engine(host, connection.boots[host]) {
            // A kernel without the process says that the connection is gone.
            let step = Step::Lost(1 - host, connection.boots[1 - host]);
            self.links.remove(&link);
            return self.later(AGAIN_AFTER, Happening::Link { link, step });
        }
        let is_cut = self.is_cut(host, 1 - host);
        let thaws = connection.stalled_until.max(self.hosts[host].engine_frozen);
        if is_cut || thaws > self.now {
            let at = thaws.max(self.now + if is_cut { AGAIN_AFTER } else { Duration::ZERO });
            return self.at(at, Happening::Link { link, step });
        }
        while let Some(line) = self.links.get_mut(&link).map(|connection| &mut connection.ways[way]) {
            match line.pieces.pop_front_if(|(at, _)| *at <= self.now) {
                Some((_, Piece::Bytes(bytes))) => {
                    line.bytes -= bytes.len().min(line.bytes);
                    let what = FromPeer::Bytes(link, bytes);
                    self.with_engine(host, |node, now, out| node.handle_peer(now, what, out));
                }
                Some((_, Piece::End)) => {
                    self.links.remove(&link);
                    self.lose_link(host, link);
                }
                None => return,
            }
        }
    }

    fn lose_link(&mut self, host: usize, link: u64) {
        self.with_engine(host, |node, now, out| node.handle_peer(now, FromPeer::Disconnected(link), out));
    }

    /// A stream needs both directions.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one, other)) || self.cut.contains(&(other, one))
    }
}

//! What the machines want: it goes on its way, to the database or to the names.

use std::net::SocketAddr;

use crate::cast::{local_of, public_of};
use crate::events::Event;
use crate::stream::StreamId;
use crate::{node, phone};

use super::{Happening, Host, LOOK_UP, World};

impl World {
    /// Does what a phone wants.
    pub(super) fn carry_phone(&mut self, number: usize, out: Vec<phone::Output>) {
        for output in out {
            match output {
                phone::Output::Datagram { to, bytes } => {
                    let inside = self.residents[number].phone.setup().local;
                    let from = match self.residents[number].nat {
                        Some(nat) => self.nats[nat].outbound(self.now, inside, to),
                        None => inside,
                    };
                    self.transmit(from, to, bytes);
                }
                phone::Output::Open { to } => self.open_from_phone(number, to),
                phone::Output::Write { stream, bytes } => {
                    if let Some(end) = self.end_of(stream, Host::Phone(number)) {
                        self.stream(|streams, network, now, out| {
                            streams.write(now, network, (stream, end), &bytes, out)
                        });
                    }
                }
                phone::Output::Close { stream } => self.close(stream, Host::Phone(number)),
                phone::Output::Fact(fact) => self.fact(number, fact),
            }
        }
    }

    pub(super) fn open_from_phone(&mut self, number: usize, to: SocketAddr) {
        self.opened = self.opened.wrapping_add(1);
        let inside =
            SocketAddr::new(self.residents[number].phone.setup().local.ip(), 40_000 + self.opened % 20_000);
        let seen = match self.residents[number].nat {
            Some(nat) => self.nats[nat].outbound(self.now, inside, to),
            None => inside,
        };
        let hosts = [Host::Phone(number), if local_of(to).is_some() { Host::Node } else { Host::Stranger }];
        let id = self.open((inside, seen, to), hosts);
        self.residents[number].phone.handle_opening(id);
    }

    pub(super) fn open(
        &mut self,
        addresses: (SocketAddr, SocketAddr, SocketAddr),
        hosts: [Host; 2],
    ) -> StreamId {
        let mut arrivals = Vec::new();
        let id = self.streams.open(self.now, &mut self.network, addresses, &mut arrivals);
        self.ends.insert(id, hosts);
        self.queue_arrivals(arrivals);
        id
    }

    /// Does what the server wants.
    pub(super) fn carry_node(&mut self, out: Vec<node::Output>) {
        for output in out {
            match output {
                node::Output::Datagram { from, to, bytes } => {
                    if !stun::is_stun(&bytes) && bytes.len() > 4 {
                        self.watch.sent(self.now, self.cause, to, &bytes, &mut self.events);
                    }
                    self.transmit(public_of(from), to, bytes.to_vec());
                }
                node::Output::Open { connection, from, to } => {
                    self.events.add(Event::ConnectionOpened);
                    let from = public_of(from);
                    let phone = self
                        .residents
                        .iter()
                        .position(|resident| resident.nat.is_none() && resident.phone.setup().local == to);
                    let listener = phone.map_or(Host::Stranger, Host::Phone);
                    let id = self.open((from, from, to), [Host::Node, listener]);
                    self.node.handle_opening(connection, id);
                    if phone.is_none() {
                        self.stream(|streams, network, now, out| {
                            streams.answer(now, network, id, false, out)
                        });
                    }
                }
                node::Output::Write { stream, bytes } => {
                    if bytes.len() > 4 {
                        let peer = self.peer_of_node(stream);
                        self.watch.sent(self.now, self.cause, peer, &bytes, &mut self.events);
                    }
                    if let Some(end) = self.end_of(stream, Host::Node) {
                        self.stream(|streams, network, now, out| {
                            streams.write(now, network, (stream, end), &bytes, out)
                        });
                    }
                }
                node::Output::Close { stream } => self.close(stream, Host::Node),
                // It has no other node.
                node::Output::Peer(_) => {}
                node::Output::Load { partition, aor } => {
                    let happening = Happening::Account { boot: self.boot, partition, aor };
                    self.later(self.now + LOOK_UP, happening);
                }
                node::Output::Save(change) => {
                    self.trace.add(self.now, format_args!("saved {change:?}"), b"");
                    self.store.save(self.now, change);
                }
                node::Output::Resolve { shard, token, query } => {
                    let (after, records) = crate::dns::resolve(self.resolver, &query, &mut self.events);
                    self.later(
                        self.now + after,
                        Happening::Resolved { boot: self.boot, shard, token, records },
                    );
                }
            }
        }
    }
}

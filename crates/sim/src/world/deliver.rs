//! What arrives: at the server, at a phone, at the neighbour, or nowhere.

use std::net::SocketAddr;

use sip::Aor;

use crate::cast::{self, local_of};
use crate::elsewhere;
use crate::events::Event;
use crate::stream::{self, Arrival, End, StreamId};
use crate::watch::Cause;

use super::{Happening, Host, Listens, World};

impl World {
    /// A datagram comes to an address of the world.
    pub(super) fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.trace.add(self.now, format_args!("{from} > {to}"), bytes);
        if let Some(local) = local_of(to) {
            if !self.is_down {
                self.deliver_node(from, local, bytes);
            }
        } else if to == self.neighbour.address {
            if let Some((next, bytes)) = self.neighbour.forward(bytes, cast::DOMAIN) {
                self.transmit(to, next, bytes);
            }
        } else if elsewhere::is_at(to) {
            if to == cast::REGISTRAR && bytes.starts_with(b"SIP/2.0 200 ") {
                self.events.add(Event::PathFollowed);
            }
            for bytes in elsewhere::hear(self.now, to, bytes) {
                self.transmit(to, from, bytes);
            }
        } else if let Some(number) = self.inside(to, from) {
            let mut out = Vec::new();
            self.residents[number].phone.handle_datagram(self.now, from, bytes, &mut out);
            self.carry_phone(number, out);
        }
    }

    pub(super) fn deliver_node(&mut self, from: SocketAddr, local: SocketAddr, bytes: &[u8]) {
        self.cause = self.watch.received(self.now, from, bytes, &mut self.events);
        let is_up = self.store.condition() == crate::store::Condition::Up;
        if !self.cause.is_strange && is_up {
            self.stranger.overhear(self.now, bytes);
        }
        let suspended = self.node.held().suspended;
        let (now, mut out) = (self.clocks(), Vec::new());
        self.node.handle_datagram(now, local, from, bytes, &mut out);
        if bytes.starts_with(b"CANCEL ") && self.node.held().suspended < suspended {
            self.events.add(Event::SuspendedCancelled);
        }
        self.carry_node(out);
    }

    /// Which phone a datagram from `from` to this outside address reaches.
    pub(super) fn inside(&mut self, to: SocketAddr, from: SocketAddr) -> Option<usize> {
        if let Some(nat) = self.nats.iter_mut().find(|nat| nat.outside() == to.ip()) {
            let inside = nat.inbound(self.now, to.port(), from);
            if inside.is_none() {
                self.events.add(Event::NatDropped);
            }
            let inside = inside?;
            return self.residents.iter().position(|resident| resident.phone.setup().local == inside);
        }
        self.residents
            .iter()
            .position(|resident| resident.nat.is_none() && resident.phone.setup().local == to)
    }

    pub(super) fn deliver_stream(&mut self, id: StreamId, end: End, arrival: Arrival) {
        let Some(&hosts) = self.ends.get(&id) else { return };
        let host = hosts[usize::from(end == End::Listener)];
        let bytes: &[u8] = if let Arrival::Bytes(bytes) = &arrival { bytes } else { b"" };
        let kind = match &arrival {
            Arrival::Bytes(_) => "bytes",
            Arrival::Syn => "SYN",
            Arrival::Opened => "opened",
            Arrival::Refused => "refused",
            Arrival::Closed => "closed",
        };
        self.trace.add(self.now, format_args!("stream {} at {host:?}: {kind}", id.0), bytes);
        if self.streams.is_broken(id) && !matches!(arrival, Arrival::Closed) {
            if matches!(arrival, Arrival::Syn | Arrival::Opened) {
                // Who opens learns only from his system's patience.
                let closed = Happening::Stream { id, end: End::Opener, arrival: Arrival::Closed };
                self.later(self.now + stream::GIVE_UP, closed);
            }
            return;
        }
        match host {
            Host::Node if self.is_down => self.refuse_by_dead(id, &arrival),
            Host::Node => self.deliver_stream_to_node(id, arrival),
            Host::Phone(number) => self.deliver_stream_to_phone(id, number, arrival),
            Host::Stranger => {}
        }
    }

    pub(super) fn refuse_by_dead(&mut self, id: StreamId, arrival: &Arrival) {
        if *arrival == Arrival::Syn {
            self.stream(|streams, network, now, out| streams.answer(now, network, id, false, out));
        }
    }

    pub(super) fn deliver_stream_to_node(&mut self, id: StreamId, arrival: Arrival) {
        let Some((remote, local)) = self.streams.of(id).map(|stream| (stream.opener_seen, stream.listener))
        else {
            return;
        };
        let (now, mut out) = (self.clocks(), Vec::new());
        self.cause = Cause::default();
        match arrival {
            Arrival::Syn => {
                let taken =
                    local_of(local).is_some_and(|local| self.node.handle_accepted(now, id, local, remote));
                self.stream(|streams, network, now, out| streams.answer(now, network, id, taken, out));
            }
            Arrival::Opened => self.node.handle_opened(now, id, &mut out),
            Arrival::Refused | Arrival::Closed => self.node.handle_closed(now, id, &mut out),
            Arrival::Bytes(bytes) => {
                let peer = self.peer_of_node(id);
                self.watch_stream(peer, &bytes);
                self.node.handle_bytes(now, id, &bytes, &mut out);
            }
        }
        self.carry_node(out);
    }

    pub(super) fn deliver_stream_to_phone(&mut self, id: StreamId, number: usize, arrival: Arrival) {
        let mut out = Vec::new();
        let listens = self.residents[number].listens;
        let phone = &mut self.residents[number].phone;
        match arrival {
            Arrival::Syn => {
                let taken = listens == Listens::Both && phone.handle_accepted(id);
                self.stream(|streams, network, now, out| streams.answer(now, network, id, taken, out));
            }
            Arrival::Opened => phone.handle_opened(id, &mut out),
            Arrival::Refused | Arrival::Closed => phone.handle_closed(self.now, id),
            Arrival::Bytes(bytes) => phone.handle_bytes(self.now, id, &bytes, &mut out),
        }
        self.carry_phone(number, out);
    }

    /// The other side of a connection of the server.
    pub(super) fn peer_of_node(&self, id: StreamId) -> SocketAddr {
        let node_opened = self.ends.get(&id).is_some_and(|hosts| hosts[0] == Host::Node);
        self.streams
            .of(id)
            .map_or(cast::VICTIM, |stream| if node_opened { stream.listener } else { stream.opener_seen })
    }

    pub(super) fn reply_account(&mut self, boot: u32, partition: u16, aor: Aor) {
        if boot != self.boot || self.is_down {
            return;
        }
        let Some(loaded) = self.store.look_up(partition, &aor) else {
            self.events.add(Event::StoreHung);
            return;
        };
        if loaded == engine::Loaded::Unavailable {
            self.events.add(Event::StoreOutage);
        }
        self.trace.add(
            self.now,
            format_args!("account of {aor}: {}", matches!(loaded, engine::Loaded::Found(_))),
            b"",
        );
        self.cause = Cause::default();
        let (now, mut out) = (self.clocks(), Vec::new());
        self.node.handle_account(now, partition, &aor, loaded, &mut out);
        self.carry_node(out);
    }

    /// What the server gets by a connection comes in pieces; the watch sees whole messages only.
    pub(super) fn watch_stream(&mut self, remote: SocketAddr, piece: &[u8]) {
        for bytes in self.watch.frame(remote, piece) {
            let cause = self.watch.received(self.now, remote, &bytes, &mut self.events);
            self.cause = Cause { is_again: false, ..cause };
        }
    }
}

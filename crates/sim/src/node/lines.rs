//! A node's connections to phones and neighbours: what is sent by which of them, and what becomes of it when one is gone.

use bytes::Bytes;
use clock::Now;
use transaction::ClientKey;
use transport::{ConnectionId, Destination, Flow, Framer, ListenerId, RemoteAddr};

use super::{Node, Output, PARTITIONS, Work};
use crate::stream::StreamId;

/// A connection's bytes, both ways.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) stream: Option<StreamId>,
    pub(super) is_up: bool,
    pub(super) framer: Framer,
    pub(super) waiting: Vec<(Bytes, Option<(u16, ClientKey)>)>,
}

impl Node {
    pub(super) fn send(
        &mut self,
        now: Now,
        to: Destination,
        bytes: Bytes,
        of: Option<(u16, ClientKey)>,
        out: &mut Vec<Output>,
    ) {
        match to {
            Destination::Flow(Flow::Datagram { listener, remote }) => match self.local(listener) {
                Some(from) => out.push(Output::Datagram { from, to: remote.0, bytes }),
                None => self.failed(of),
            },
            Destination::Flow(Flow::Connection { id, .. }) => self.write(now, id, bytes, of, out),
            Destination::Connect { listener, remote } => match self.connections.reuse(listener, remote) {
                Some(id) => self.write(now, id, bytes, of, out),
                None => self.open(now, listener, remote, (bytes, of), out),
            },
        }
    }

    fn write(
        &mut self,
        now: Now,
        id: ConnectionId,
        bytes: Bytes,
        of: Option<(u16, ClientKey)>,
        out: &mut Vec<Output>,
    ) {
        match self.lines.get_mut(&id) {
            None => self.failed(of),
            Some(Line { stream: Some(stream), is_up: true, .. }) => {
                self.connections.sent(now.instant, id);
                out.push(Output::Write { stream: *stream, bytes });
            }
            Some(line) => line.waiting.push((bytes, of)),
        }
    }

    fn open(
        &mut self,
        now: Now,
        listener: ListenerId,
        remote: RemoteAddr,
        first: (Bytes, Option<(u16, ClientKey)>),
        out: &mut Vec<Output>,
    ) {
        match (self.local(listener), self.connections.opened(now.instant, listener, remote)) {
            (Some(from), Ok(connection)) => {
                let line = Line { stream: None, is_up: false, framer: Framer::new(), waiting: vec![first] };
                self.lines.insert(connection, line);
                out.push(Output::Open { connection, from, to: remote.0 });
            }
            _ => self.failed(first.1),
        }
    }

    fn failed(&mut self, of: Option<(u16, ClientKey)>) {
        if let Some((shard, key)) = of {
            self.work.push_back(Work::SendFailed(shard, key));
        }
    }

    /// A connection is gone: what waited for it could not be sent, and no binding has it any more.
    pub(super) fn forget(&mut self, now: Now, id: ConnectionId) {
        if let Some(line) = self.lines.remove(&id) {
            if let Some(stream) = line.stream {
                self.by_stream.remove(&stream);
            }
            for (_, of) in line.waiting {
                self.failed(of);
            }
        }
        let is_active = self.is_active(now);
        for number in 0..PARTITIONS {
            if !is_active && let Some(partition) = self.partitions.get_mut(usize::from(number)) {
                partition.lose_connection(id);
            }
            self.step_partition(now, number, |partition, lease, out| {
                partition.handle_connection_closed(now, lease, id, out);
            });
        }
    }
}

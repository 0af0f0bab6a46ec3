//! Addresses, ways and times: told by what they are, found again where they are read.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use clock::Instant;
use sip::{Aor, Status};
use transport::{
    ConnectionId, Destination, Flow, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport,
};

use super::super::layout::{self, write_address};
use super::LEFT_MAX;
use crate::account::Unreadable;
pub(super) use crate::capsule::{transport, transport_number};
use crate::{Settings, capsule};

/// The longest address of record that is taken.
const AOR_BYTES_MAX: usize = 1_024;

/// What writing looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writer<'a> {
    pub(super) now: Instant,
    pub(super) listeners: &'a Listeners,
}

/// What reading looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) now: Instant,
    /// How long ago it was written.
    pub(super) since: Duration,
    /// `None` where only the form is checked: then every listener is there, and nothing else.
    pub(super) settings: Option<&'a Settings>,
}

/// A way to a peer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredFlow {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) listener: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) remote: Bytes,
    #[prost(message, optional, tag = "3")]
    pub(super) connection: Option<StoredConnection>,
}

/// What tells a connection from others of its listener.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredConnection {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(fixed32, tag = "2")]
    boot: u32,
    #[prost(uint64, tag = "3")]
    number: u64,
}

/// Where a message goes.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredDestination {
    #[prost(message, optional, tag = "1")]
    flow: Option<StoredFlow>,
    /// Whether a connection is opened to there if there is none.
    #[prost(bool, tag = "2")]
    connects: bool,
}

impl Writer<'_> {
    /// Empty for a listener that is not there.
    pub(super) fn listener(&self, id: ListenerId) -> Bytes {
        let Some(listener) = self.listeners.get(id) else { return Bytes::new() };
        let mut bytes = vec![transport_number(listener.transport) as u8];
        write_address(listener.local.0, &mut bytes);
        bytes.into()
    }

    pub(super) fn flow(&self, flow: Flow) -> StoredFlow {
        let connection = match flow {
            Flow::Datagram { .. } => None,
            Flow::Connection { id: ConnectionId { node, boot, number, .. }, .. } => {
                Some(StoredConnection { node: node.into(), boot, number })
            }
        };
        let (listener, remote) = (self.listener(flow.listener()), address(flow.remote()));
        StoredFlow { listener, remote, connection }
    }

    pub(super) fn destination(&self, to: Destination) -> StoredDestination {
        match to {
            Destination::Flow(flow) => StoredDestination { flow: Some(self.flow(flow)), connects: false },
            Destination::Connect { listener, remote } => StoredDestination {
                flow: Some(self.flow(Flow::Datagram { listener, remote })),
                connects: true,
            },
        }
    }

    pub(super) fn left(&self, at: Instant) -> u64 {
        micros(at.since(self.now))
    }
}

impl Reader<'_> {
    /// `None` for a listener that is not there.
    pub(super) fn listener(&self, bytes: &Bytes) -> Result<Option<(ListenerId, Transport)>, Unreadable> {
        let Some((&number, rest)) = bytes.split_first() else { return Ok(None) };
        let transport = transport(number.into())?;
        let local = LocalAddr(read_socket(rest)?);
        let Some(settings) = self.settings else { return Ok(Some((ListenerId(0), transport))) };
        Ok(settings.listeners.find(transport, local).map(|id| (id, transport)))
    }

    /// `None` for a way whose listener is not there.
    pub(super) fn flow(&self, stored: &StoredFlow) -> Result<Option<Flow>, Unreadable> {
        let remote = read_address(&stored.remote)?;
        let listener = self.listener(&stored.listener)?;
        let connection = match &stored.connection {
            Some(StoredConnection { node, boot, number }) => {
                Some((u8::try_from(*node).map_err(|_| Unreadable::Malformed)?, *boot, *number))
            }
            None => None,
        };
        let Some((listener, transport)) = listener else { return Ok(None) };
        match (connection, transport) {
            (None, Transport::Udp) => Ok(Some(Flow::Datagram { listener, remote })),
            (Some((node, boot, number)), Transport::Tcp) => {
                Ok(Some(Flow::Connection { id: ConnectionId { node, boot, listener, number }, remote }))
            }
            _ => Err(Unreadable::Malformed),
        }
    }

    /// As [`Self::flow`].
    pub(super) fn destination(&self, stored: &StoredDestination) -> Result<Option<Destination>, Unreadable> {
        let flow = stored.flow.as_ref().ok_or(Unreadable::Malformed)?;
        if !stored.connects {
            return Ok(self.flow(flow)?.map(Destination::Flow));
        }
        let remote = read_address(&flow.remote)?;
        match self.listener(&flow.listener)? {
            Some((listener, Transport::Tcp)) => Ok(Some(Destination::Connect { listener, remote })),
            Some((_, Transport::Udp)) => Err(Unreadable::Malformed),
            None => Ok(None),
        }
    }

    /// As [`Self::flow`]. A request whose listener is gone is answered by another one that reaches its sender.
    pub(super) fn source(&self, stored: &StoredFlow) -> Result<Option<Source>, Unreadable> {
        if let Some(flow) = self.flow(stored)? {
            let transport = if flow.is_reliable() { Transport::Tcp } else { Transport::Udp };
            return Ok(Some(Source { flow, transport }));
        }
        let remote = read_address(&stored.remote)?;
        let listener = match (self.settings, &stored.connection) {
            (Some(settings), None) => settings.listeners.any_for(Transport::Udp, remote, None),
            _ => None,
        };
        let flow = |listener| Flow::Datagram { listener, remote };
        Ok(listener.map(|listener| Source { flow: flow(listener), transport: Transport::Udp }))
    }

    /// When a time left is over.
    pub(super) fn at(&self, left: u64) -> Instant {
        self.now + duration(left).saturating_sub(self.since)
    }
}

/// A duration in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The same back. None is longer than [`LEFT_MAX`].
pub(super) fn duration(micros: u64) -> Duration {
    Duration::from_micros(micros).min(LEFT_MAX)
}

pub(super) fn address(remote: RemoteAddr) -> Bytes {
    let mut bytes = Vec::with_capacity(18);
    write_address(remote.0, &mut bytes);
    bytes.into()
}

pub(super) fn read_address(bytes: &[u8]) -> Result<RemoteAddr, Unreadable> {
    read_socket(bytes).map(RemoteAddr)
}

pub(super) fn aor(bytes: &[u8]) -> Result<Aor, Unreadable> {
    capsule::aor(bytes, AOR_BYTES_MAX)
}

pub(super) fn write_aor(aor: &Aor) -> Bytes {
    Bytes::copy_from_slice(aor.as_str().as_bytes())
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)
}

/// A status that a final response, or what counts as one, can have.
pub(super) fn final_status(number: u32) -> Result<Status, Unreadable> {
    match u16::try_from(number) {
        Ok(number @ 200..=699) => Ok(Status(number)),
        _ => Err(Unreadable::Malformed),
    }
}

/// One of these, by its number; the numbers stay.
pub(super) fn one_of<T: Copy>(all: &[T], number: u32) -> Result<T, Unreadable> {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    all.get(number).copied().ok_or(Unreadable::Malformed)
}

/// The number that [`one_of`] reads.
pub(super) fn number_of<T: PartialEq>(all: &[T], it: &T) -> u32 {
    all.iter().position(|known| known == it).map_or(u32::MAX, |number| number as u32)
}

fn read_socket(bytes: &[u8]) -> Result<SocketAddr, Unreadable> {
    let mut reader = layout::Reader(bytes);
    let address = match bytes.len() {
        6 => reader.address_v4(),
        18 => reader.address_v6(),
        _ => None,
    };
    address.ok_or(Unreadable::Malformed)
}

//! What a branch aims at.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use transport::selection::{Remainder, RemainingHost, SERVERS_MAX, Server, Wanted};

use super::super::aim::{Aim, Hop, Size};
use super::super::dialog_token::{BindingName, Standing};
use super::super::inbound::Inbound;
use super::super::leg::Leg;
use super::super::search::{Rest, Search};
use super::places::{
    Reader, StoredFlow, Writer, address, aor, duration, final_status, micros, number_of, one_of,
    read_address, text, transport, transport_number, write_aor,
};
use super::request::{TEXT_BYTES_MAX, read_rule, rule_number, uri};
use super::{at_most, bounded};
use crate::account::Unreadable;
use crate::{Keyring, Target};

/// Ways of one branch: a flow, what its Contact leads to, and what was put before them.
const HOPS_MAX: usize = 64;
/// Flows of one phone.
const SPARES_MAX: usize = 64;
/// Values of Path.
const PATH_MAX: usize = 64;
/// Names that the DNS gave to one search.
const NAMES_MAX: usize = 512;
/// Bytes of a name of the DNS.
const NAME_BYTES_MAX: usize = 512;
/// The highest preference, in thousandths.
const Q_MAX: u16 = 1_000;
/// Challenges of a carrier raise the number in CSeq, each by one; there are three at most.
const CSEQ_SHIFT_MAX: u32 = 16;

/// The standings by their numbers, which stay.
const STANDINGS: [Standing; 3] = [Standing::Plain, Standing::BehindNat, Standing::Peer];

/// One aim.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredAim {
    #[prost(bytes = "bytes", tag = "1")]
    request_uri: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    path: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    hops: Vec<StoredHop>,
    #[prost(message, optional, tag = "4")]
    search: Option<StoredSearch>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    listener: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    binding: Option<Bytes>,
    #[prost(fixed32, optional, tag = "7")]
    instance: Option<u32>,
    #[prost(message, optional, tag = "8")]
    flow: Option<StoredFlow>,
    #[prost(bytes = "bytes", optional, tag = "9")]
    account: Option<Bytes>,
    #[prost(uint32, tag = "10")]
    cseq_shift: u32,
    #[prost(uint32, tag = "11")]
    standing: u32,
    #[prost(uint32, tag = "12")]
    unreachable: u32,
    #[prost(message, repeated, tag = "13")]
    spares: Vec<StoredTarget>,
    #[prost(message, optional, tag = "14")]
    leg: Option<StoredLeg>,
    /// As in [`StoredRequest`](super::request::StoredRequest).
    #[prost(uint32, tag = "15")]
    relay: u32,
}

/// One way.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredHop {
    /// 0 flow, 1 the Request-URI or Route, 2 a URI, 3 an address.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(message, optional, tag = "2")]
    flow: Option<StoredFlow>,
    #[prost(bytes = "bytes", tag = "3")]
    to: Bytes,
    #[prost(uint32, tag = "4")]
    transport: u32,
    #[prost(bool, tag = "5")]
    size_ignored: bool,
}

/// A search for servers.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredSearch {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(uint32, optional, tag = "2")]
    port: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    transport: Option<u32>,
    #[prost(bool, tag = "4")]
    size_ignored: bool,
    #[prost(bool, tag = "5")]
    is_at_start: bool,
    #[prost(bool, tag = "6")]
    falls_back: bool,
    #[prost(message, repeated, tag = "7")]
    services: Vec<StoredHost>,
    #[prost(message, repeated, tag = "8")]
    hosts: Vec<StoredHost>,
    #[prost(message, repeated, tag = "9")]
    ready: Vec<StoredServer>,
    #[prost(message, repeated, tag = "10")]
    named: Vec<StoredServer>,
    #[prost(uint32, tag = "11")]
    queries: u32,
    #[prost(bool, tag = "12")]
    dns_failed: bool,
    #[prost(message, repeated, tag = "13")]
    postponed: Vec<StoredServer>,
    #[prost(uint64, tag = "14")]
    time_left: u64,
}

/// A name that has still to be looked up.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredHost {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(uint32, tag = "3")]
    transport: u32,
}

/// A server.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredServer {
    #[prost(bytes = "bytes", tag = "1")]
    remote: Bytes,
    #[prost(uint32, tag = "2")]
    transport: u32,
}

/// Another binding of the same phone. Its field 1 was a number that only the sender could use, and stays unused.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredTarget {
    #[prost(bytes = "bytes", tag = "2")]
    aor: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    contact: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    path: Vec<Bytes>,
    #[prost(message, optional, tag = "5")]
    flow: Option<StoredFlow>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    listener: Option<Bytes>,
    #[prost(bool, tag = "7")]
    nat: bool,
    #[prost(uint32, tag = "8")]
    q: u32,
    #[prost(bytes = "bytes", optional, tag = "9")]
    instance: Option<Bytes>,
    #[prost(uint32, optional, tag = "10")]
    reg_id: Option<u32>,
}

/// A gateway and the route to it, by name.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredLeg {
    #[prost(bytes = "bytes", tag = "1")]
    gateway: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    route: Bytes,
}

impl StoredAim {
    pub(super) fn of(aim: &Aim, writer: Writer<'_>) -> Self {
        let name = |name: &str| Bytes::copy_from_slice(name.as_bytes());
        Self {
            request_uri: aim.request_uri.clone(),
            path: aim.path.clone(),
            hops: aim.hops.iter().filter_map(|hop| StoredHop::of(hop, writer)).collect(),
            search: aim.search.as_ref().map(|search| StoredSearch::of(search, writer)),
            listener: aim.listener.map(|listener| writer.listener(listener)),
            binding: aim.binding.as_ref().map(|binding| write_aor(&binding.aor)),
            instance: aim.binding.as_ref().and_then(|binding| binding.instance),
            flow: aim.flow.map(|flow| writer.flow(flow)),
            account: aim.account.as_ref().map(|trunk| name(&trunk.name)),
            cseq_shift: aim.cseq_shift.into(),
            standing: number_of(&STANDINGS, &aim.standing),
            unreachable: aim.unreachable.0.into(),
            spares: aim.spares.iter().map(|target| StoredTarget::of(target, writer)).collect(),
            leg: aim
                .leg
                .as_ref()
                .map(|leg| StoredLeg { gateway: name(&leg.gateway.name), route: name(&leg.route.name) }),
            relay: rule_number(aim.relay),
        }
    }

    /// An aim whose gateway, or our account there, is not in force any more has no way left.
    pub(super) fn read(
        &self,
        reader: Reader<'_>,
        search: Option<(&Keyring, &Inbound)>,
    ) -> Result<Aim, Unreadable> {
        uri(&self.request_uri)?;
        at_most(&self.hops, HOPS_MAX)?;
        at_most(&self.spares, SPARES_MAX)?;
        path(&self.path)?;
        if self.cseq_shift > CSEQ_SHIFT_MAX {
            return Err(Unreadable::Malformed);
        }
        let mut hops = VecDeque::with_capacity(self.hops.len());
        for hop in &self.hops {
            hops.extend(hop.read(reader)?);
        }
        let rest = self.search.as_ref().map(StoredSearch::read).transpose()?;
        let binding = match &self.binding {
            Some(bytes) => Some(BindingName { aor: aor(bytes)?, instance: self.instance }),
            None => None,
        };
        let flow = self.flow.as_ref().map(|flow| reader.flow(flow)).transpose()?.flatten();
        let account = self.account.as_ref().map(|name| text(name)).transpose()?;
        let trunk = account.and_then(|name| reader.settings?.trunk(name)).cloned();
        let leg = self.leg.as_ref().map(|leg| leg.read(reader)).transpose()?;
        let is_gone = account.is_some() && trunk.is_none() || matches!(leg, Some(None));
        let mut spares = self.spares.iter().map(|it| it.read(reader)).collect::<Result<VecDeque<_>, _>>()?;
        let mut search = search.zip(rest).map(|((keyring, inbound), (wanted, rest))| {
            Box::new(Search::resume(keyring, inbound, wanted, rest))
        });
        if is_gone {
            hops.clear();
            spares.clear();
            search = None;
        }
        Ok(Aim {
            request_uri: self.request_uri.clone(),
            path: self.path.clone(),
            hops,
            search,
            listener: listener(reader, self.listener.as_ref())?,
            binding,
            flow,
            account: trunk,
            cseq_shift: self.cseq_shift as u8,
            standing: one_of(&STANDINGS, self.standing)?,
            unreachable: final_status(self.unreachable)?,
            spares,
            leg: leg.flatten(),
            relay: read_rule(self.relay),
        })
    }
}

impl StoredHop {
    /// `None` for a way that another node finds by itself when the ones before it fail.
    fn of(hop: &Hop, writer: Writer<'_>) -> Option<Self> {
        let base = |kind, size| Self {
            kind,
            flow: None,
            to: Bytes::new(),
            transport: 0,
            size_ignored: size == Size::Ignored,
        };
        Some(match hop {
            Hop::Flow(flow) => Self { flow: Some(writer.flow(*flow)), ..base(0, Size::Counts) },
            Hop::Uri(size) => base(1, *size),
            Hop::Server(uri, size) => Self { to: uri.clone(), ..base(2, *size) },
            Hop::Address(remote, transport, size) => {
                Self { to: address(*remote), transport: transport_number(*transport), ..base(3, *size) }
            }
            Hop::Return(_) => return None,
        })
    }

    /// `None` for a way whose listener is gone.
    fn read(&self, reader: Reader<'_>) -> Result<Option<Hop>, Unreadable> {
        let size = size(self.size_ignored);
        Ok(match self.kind {
            0 => reader.flow(self.flow.as_ref().ok_or(Unreadable::Malformed)?)?.map(Hop::Flow),
            1 => Some(Hop::Uri(size)),
            2 => {
                uri(&self.to)?;
                Some(Hop::Server(self.to.clone(), size))
            }
            3 => Some(Hop::Address(read_address(&self.to)?, transport(self.transport)?, size)),
            _ => return Err(Unreadable::Malformed),
        })
    }
}

impl StoredSearch {
    fn of(search: &Search, writer: Writer<'_>) -> Self {
        let Wanted { name, port, transport } = search.wanted();
        let Rest { size, remainder, postponed, time_left } = search.rest(writer.now);
        let host = |name: &str, port: u16, transport| StoredHost {
            name: Bytes::copy_from_slice(name.as_bytes()),
            port: port.into(),
            transport: transport_number(transport),
        };
        Self {
            name: Bytes::copy_from_slice(name.as_bytes()),
            port: port.map(u32::from),
            transport: transport.map(transport_number),
            size_ignored: size == Size::Ignored,
            is_at_start: remainder.is_at_start,
            falls_back: remainder.falls_back,
            services: remainder.services.iter().map(|(name, it)| host(name, 0, *it)).collect(),
            hosts: remainder.hosts.iter().map(|it| host(&it.name, it.port, it.transport)).collect(),
            ready: remainder.ready.iter().map(StoredServer::of).collect(),
            named: remainder.named.iter().map(StoredServer::of).collect(),
            queries: remainder.queries as u32,
            dns_failed: remainder.dns_failed,
            postponed: postponed.iter().map(StoredServer::of).collect(),
            time_left: micros(time_left),
        }
    }

    fn read(&self) -> Result<(Wanted, Rest), Unreadable> {
        at_most(&self.services, NAMES_MAX)?;
        at_most(&self.hosts, NAMES_MAX)?;
        at_most(&self.ready, NAMES_MAX)?;
        at_most(&self.named, SERVERS_MAX)?;
        at_most(&self.postponed, NAMES_MAX)?;
        let servers =
            |list: &[StoredServer]| list.iter().map(StoredServer::read).collect::<Result<Vec<_>, _>>();
        let wanted = Wanted {
            name: name(&self.name)?,
            port: self.port.map(port).transpose()?,
            transport: self.transport.map(transport).transpose()?,
        };
        let service = |it: &StoredHost| Ok((name(&it.name)?, transport(it.transport)?));
        let host = |it: &StoredHost| {
            let (name, transport) = service(it)?;
            Ok(RemainingHost { name, port: port(it.port)?, transport })
        };
        let remainder = Remainder {
            is_at_start: self.is_at_start,
            falls_back: self.falls_back,
            services: self.services.iter().map(service).collect::<Result<_, Unreadable>>()?,
            hosts: self.hosts.iter().map(host).collect::<Result<_, Unreadable>>()?,
            ready: servers(&self.ready)?,
            named: servers(&self.named)?,
            queries: usize::try_from(self.queries).unwrap_or(usize::MAX),
            dns_failed: self.dns_failed,
        };
        let postponed = servers(&self.postponed)?;
        let (size, time_left) = (size(self.size_ignored), duration(self.time_left));
        Ok((wanted, Rest { size, remainder, postponed: postponed.into(), time_left }))
    }
}

impl StoredServer {
    fn of(server: &Server) -> Self {
        Self { remote: address(server.remote), transport: transport_number(server.transport) }
    }

    fn read(&self) -> Result<Server, Unreadable> {
        Ok(Server { remote: read_address(&self.remote)?, transport: transport(self.transport)? })
    }
}

impl StoredTarget {
    fn of(target: &Target, writer: Writer<'_>) -> Self {
        Self {
            aor: write_aor(&target.aor),
            contact: target.contact.clone(),
            path: target.path.clone(),
            flow: target.flow.map(|flow| writer.flow(flow)),
            listener: target.listener.map(|listener| writer.listener(listener)),
            nat: target.nat,
            q: target.q.into(),
            instance: target.instance.clone(),
            reg_id: target.reg_id,
        }
    }

    fn read(&self, reader: Reader<'_>) -> Result<Target, Unreadable> {
        uri(&self.contact)?;
        path(&self.path)?;
        Ok(Target {
            aor: aor(&self.aor)?,
            contact: self.contact.clone(),
            path: self.path.clone(),
            flow: self.flow.as_ref().map(|flow| reader.flow(flow)).transpose()?.flatten(),
            listener: listener(reader, self.listener.as_ref())?,
            nat: self.nat,
            q: u16::try_from(self.q).ok().filter(|q| *q <= Q_MAX).ok_or(Unreadable::Malformed)?,
            instance: self.instance.clone(),
            reg_id: self.reg_id,
        })
    }
}

impl StoredLeg {
    /// `None` if either is gone.
    fn read(&self, reader: Reader<'_>) -> Result<Option<Arc<Leg>>, Unreadable> {
        let (gateway, route) = (text(&self.gateway)?, text(&self.route)?);
        let plan = reader.settings.map(|settings| &settings.dial_plan);
        let found = plan.and_then(|plan| {
            let route = plan.routes.iter().find(|known| *known.name == *route)?;
            Some(Leg { gateway: Arc::clone(plan.gateway(gateway)?), route: Arc::clone(route) })
        });
        Ok(found.map(Arc::new))
    }
}

fn size(is_ignored: bool) -> Size {
    if is_ignored { Size::Ignored } else { Size::Counts }
}

fn name(bytes: &[u8]) -> Result<Box<str>, Unreadable> {
    bounded(bytes, NAME_BYTES_MAX)?;
    text(bytes).map(Box::from)
}

fn port(number: u32) -> Result<u16, Unreadable> {
    u16::try_from(number).map_err(|_| Unreadable::Malformed)
}

/// A listener that is gone is as none.
fn listener(reader: Reader<'_>, bytes: Option<&Bytes>) -> Result<Option<transport::ListenerId>, Unreadable> {
    let found = bytes.map(|bytes| reader.listener(bytes)).transpose()?.flatten();
    Ok(found.map(|(id, _)| id))
}

fn path(values: &[Bytes]) -> Result<(), Unreadable> {
    at_most(values, PATH_MAX)?;
    values.iter().try_for_each(|value| bounded(value, TEXT_BYTES_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_preference_above_one_is_refused() {
        let reader = Reader { now: clock::Instant::START, since: Duration::ZERO, settings: None };
        let read = |q| {
            let stored = StoredTarget {
                aor: Bytes::from_static(b"bob@example.org"),
                contact: Bytes::from_static(b"sip:bob@192.0.2.7"),
                q,
                ..StoredTarget::default()
            };
            stored.read(reader).map(|target| target.q)
        };

        assert_eq!(read(1_000), Ok(1_000));
        assert_eq!(read(1_001), Err(Unreadable::Malformed));
    }
}

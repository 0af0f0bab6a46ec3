//! The parts of a call's capsule, and what they stand for.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::Malformed;
use crate::latch::Wanted;
use crate::offer_answer::dialog::{self, Request as OpenRequest};
use crate::offer_answer::message::{Broken, Method, Side};
use crate::offer_answer::plan::{self, Agreement, Face, Faces};
use crate::offer_answer::side::{self, SideLine};
use crate::ports::{PAIRS_MAX, Ports};
use crate::sdp::{Carriage, MEDIA_MAX, Origin};

/// Clock rates of one line: no line tells more.
const CLOCK_RATES_MAX: usize = 32;

/// By their number; the numbers stay.
const METHODS: [Method; 3] = [Method::Invite, Method::Update, Method::Prack];
/// By their number; the numbers stay.
const CARRIAGES: [Carriage; 4] = [Carriage::Rtp, Carriage::SecureRtp, Carriage::Datagrams, Carriage::Foreign];

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Address {
    /// 4 or 16 of them.
    #[prost(bytes = "bytes", tag = "1")]
    ip: Bytes,
    #[prost(uint32, tag = "2")]
    port: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Terms {
    #[prost(bytes = "bytes", tag = "1")]
    caller_local: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    caller_named: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    callee_local: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    callee_named: Bytes,
    #[prost(bool, tag = "5")]
    refuses_broken: bool,
    #[prost(bool, tag = "6")]
    replaces_origin: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(bool, tag = "1")]
    is_callees: bool,
    #[prost(uint32, tag = "2")]
    method: u32,
    #[prost(uint32, tag = "3")]
    cseq: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Invite {
    #[prost(message, optional, tag = "1")]
    request: Option<Request>,
    #[prost(bool, tag = "2")]
    has_offer: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Open {
    #[prost(bool, tag = "1")]
    is_callees: bool,
    #[prost(message, optional, tag = "2")]
    request: Option<Request>,
    #[prost(message, optional, tag = "3")]
    offer: Option<SideMedia>,
    #[prost(message, optional, tag = "4")]
    early: Option<SideMedia>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Settled {
    #[prost(bool, tag = "1")]
    is_callees: bool,
    #[prost(message, optional, tag = "2")]
    request: Option<Request>,
    #[prost(bool, tag = "3")]
    is_unanchored: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Legs {
    /// 0 for a line without ports.
    #[prost(uint32, tag = "1")]
    caller: u32,
    #[prost(uint32, tag = "2")]
    caller_pairs: u32,
    #[prost(uint32, tag = "3")]
    callee: u32,
    #[prost(uint32, tag = "4")]
    callee_pairs: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SideMedia {
    #[prost(message, repeated, tag = "1")]
    lines: Vec<Line>,
    #[prost(bytes = "bytes", tag = "2")]
    source: Bytes,
    #[prost(bool, tag = "3")]
    is_behind_nat: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(uint32, tag = "1")]
    carriage: u32,
    #[prost(uint32, tag = "2")]
    ports: u32,
    #[prost(message, optional, tag = "3")]
    wanted: Option<Address>,
    /// Without an address: whether it wants something, and nobody knows where.
    #[prost(bool, tag = "4")]
    is_unknown: bool,
    #[prost(message, optional, tag = "5")]
    rtcp: Option<Address>,
    #[prost(bool, tag = "6")]
    is_muxed: bool,
    #[prost(bool, tag = "7")]
    sends: bool,
    /// Payload type and rate in turn.
    #[prost(uint32, repeated, tag = "8")]
    clock_rates: Vec<u32>,
}

impl Address {
    pub(super) fn of(address: SocketAddr) -> Self {
        Self { ip: ip(address.ip()), port: address.port().into() }
    }

    pub(super) fn read(self) -> Result<SocketAddr, Malformed> {
        let port = u16::try_from(self.port).ok().filter(|port| *port != 0).ok_or(Malformed)?;
        Ok(SocketAddr::new(read_ip(&self.ip)?, port))
    }
}

impl Terms {
    pub(super) fn of(terms: &crate::offer_answer::Terms) -> Self {
        let Faces { caller, callee } = terms.faces;
        Self {
            caller_local: ip(caller.local),
            caller_named: ip(caller.named),
            callee_local: ip(callee.local),
            callee_named: ip(callee.named),
            refuses_broken: terms.broken == Broken::Refuse,
            replaces_origin: terms.origin == Origin::Replaced,
        }
    }

    pub(super) fn read(self) -> Result<crate::offer_answer::Terms, Malformed> {
        let face = |local: &Bytes, named: &Bytes| -> Result<Face, Malformed> {
            Ok(Face { local: read_ip(local)?, named: read_ip(named)? })
        };
        Ok(crate::offer_answer::Terms {
            faces: Faces {
                caller: face(&self.caller_local, &self.caller_named)?,
                callee: face(&self.callee_local, &self.callee_named)?,
            },
            broken: if self.refuses_broken { Broken::Refuse } else { Broken::PassOn },
            origin: if self.replaces_origin { Origin::Replaced } else { Origin::Kept },
        })
    }
}

impl Request {
    fn of(request: OpenRequest) -> Self {
        let method = METHODS.iter().position(|method| *method == request.method).unwrap_or_default();
        Self { is_callees: request.by == Side::Callee, method: method as u32, cseq: request.cseq }
    }

    fn read(self) -> Result<OpenRequest, Malformed> {
        let method = usize::try_from(self.method).ok().and_then(|method| METHODS.get(method));
        Ok(OpenRequest { by: side(self.is_callees), method: *method.ok_or(Malformed)?, cseq: self.cseq })
    }
}

impl Invite {
    pub(super) fn of(invite: dialog::Invite) -> Self {
        Self { request: Some(Request::of(invite.request)), has_offer: invite.has_offer }
    }

    pub(super) fn read(self) -> Result<dialog::Invite, Malformed> {
        let request = self.request.ok_or(Malformed)?.read()?;
        Ok(dialog::Invite { request, has_offer: self.has_offer })
    }
}

impl Open {
    pub(super) fn of(open: &dialog::Open) -> Self {
        Self {
            is_callees: open.by == Side::Callee,
            request: Some(Request::of(open.request)),
            offer: open.offer.as_ref().map(SideMedia::of),
            early: open.early.as_ref().map(SideMedia::of),
        }
    }

    pub(super) fn read(self) -> Result<dialog::Open, Malformed> {
        Ok(dialog::Open {
            by: side(self.is_callees),
            request: self.request.ok_or(Malformed)?.read()?,
            offer: self.offer.map(SideMedia::read).transpose()?,
            early: self.early.map(SideMedia::read).transpose()?,
        })
    }
}

impl Settled {
    pub(super) fn of(settled: dialog::Settled) -> Self {
        Self {
            is_callees: settled.by == Side::Callee,
            request: Some(Request::of(settled.request)),
            is_unanchored: settled.is_unanchored,
        }
    }

    pub(super) fn read(self) -> Result<dialog::Settled, Malformed> {
        Ok(dialog::Settled {
            by: side(self.is_callees),
            request: self.request.ok_or(Malformed)?.read()?,
            is_unanchored: self.is_unanchored,
        })
    }
}

impl Legs {
    pub(super) fn of(legs: &Option<plan::Legs>) -> Self {
        legs.map(|plan::Legs { caller, callee }| Self {
            caller: caller.rtp().into(),
            caller_pairs: caller.pairs().into(),
            callee: callee.rtp().into(),
            callee_pairs: callee.pairs().into(),
        })
        .unwrap_or_default()
    }

    pub(super) fn read(self) -> Result<Option<plan::Legs>, Malformed> {
        if self == Self::default() {
            return Ok(None);
        }
        let ports = |first: u32, pairs: u32| {
            let (first, pairs) = (u16::try_from(first).ok()?, u16::try_from(pairs).ok()?);
            Ports::new(first, pairs)
        };
        let caller = ports(self.caller, self.caller_pairs).ok_or(Malformed)?;
        let callee = ports(self.callee, self.callee_pairs).ok_or(Malformed)?;
        Ok(Some(plan::Legs { caller, callee }))
    }
}

impl SideMedia {
    pub(super) fn of(media: &side::SideMedia) -> Self {
        Self {
            lines: media.lines.iter().map(Line::of).collect(),
            source: ip(media.source),
            is_behind_nat: media.is_behind_nat,
        }
    }

    pub(super) fn read(self) -> Result<side::SideMedia, Malformed> {
        if self.lines.len() > MEDIA_MAX {
            return Err(Malformed);
        }
        Ok(side::SideMedia {
            lines: self.lines.into_iter().map(Line::read).collect::<Result<_, _>>()?,
            source: read_ip(&self.source)?,
            is_behind_nat: self.is_behind_nat,
        })
    }
}

impl Line {
    fn of(line: &SideLine) -> Self {
        let carriage = CARRIAGES.iter().position(|carriage| *carriage == line.carriage).unwrap_or_default();
        Self {
            carriage: carriage as u32,
            ports: line.ports.into(),
            wanted: match line.wanted {
                Wanted::At(address) => Some(Address::of(address)),
                Wanted::Nowhere | Wanted::Unknown => None,
            },
            is_unknown: line.wanted == Wanted::Unknown,
            rtcp: line.rtcp.map(Address::of),
            is_muxed: line.is_muxed,
            sends: line.sends,
            clock_rates: line
                .clock_rates
                .iter()
                .flat_map(|(payload, rate)| [(*payload).into(), *rate])
                .collect(),
        }
    }

    fn read(self) -> Result<SideLine, Malformed> {
        let carriage = usize::try_from(self.carriage).ok().and_then(|carriage| CARRIAGES.get(carriage));
        let ports = u16::try_from(self.ports).ok().filter(|ports| *ports <= PAIRS_MAX).ok_or(Malformed)?;
        if self.clock_rates.len() > 2 * CLOCK_RATES_MAX || !self.clock_rates.len().is_multiple_of(2) {
            return Err(Malformed);
        }
        let rate = |pair: &[u32]| match *pair {
            [payload @ 0..128, rate] if rate > 0 => Ok((payload as u8, rate)),
            _ => Err(Malformed),
        };
        Ok(SideLine {
            carriage: *carriage.ok_or(Malformed)?,
            ports,
            wanted: match (self.wanted, self.is_unknown) {
                (Some(address), false) => Wanted::At(address.read()?),
                (None, true) => Wanted::Unknown,
                (None, false) => Wanted::Nowhere,
                (Some(_), true) => return Err(Malformed),
            },
            rtcp: self.rtcp.map(Address::read).transpose()?,
            is_muxed: self.is_muxed,
            sends: self.sends,
            clock_rates: self.clock_rates.chunks(2).map(rate).collect::<Result<_, _>>()?,
        })
    }
}

pub(super) fn read_agreement(
    caller: Option<SideMedia>,
    callee: Option<SideMedia>,
) -> Result<Option<Agreement>, Malformed> {
    match (caller, callee) {
        (Some(caller), Some(callee)) => {
            Ok(Some(Agreement { caller: caller.read()?, callee: callee.read()? }))
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(Malformed),
    }
}

pub(super) fn side(is_callee: bool) -> Side {
    if is_callee { Side::Callee } else { Side::Caller }
}

fn ip(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    }
}

fn read_ip(bytes: &[u8]) -> Result<IpAddr, Malformed> {
    match bytes.len() {
        4 => Ok(<[u8; 4]>::try_from(bytes).map_err(|_| Malformed)?.into()),
        16 => Ok(<[u8; 16]>::try_from(bytes).map_err(|_| Malformed)?.into()),
        _ => Err(Malformed),
    }
}

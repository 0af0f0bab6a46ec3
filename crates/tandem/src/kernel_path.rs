//! The relay's fast path on this node: what the workers of the relay give goes into the map that the guardian has handed over.
//!
//! The program in the kernel sends out by the interface of the gate alone; what would leave by another one, or stay on this host, is
//! not given to it.

use std::io;
use std::net::IpAddr;

use ::host::{Ends, Heard, Interface, KernelRelay, RATES_MAX, Way, interface_towards};
use anyhow::{Context, Result};
use clock::Instant;
use media::figures::{Carried, Source};
use net::{KernelWay, PacketEnds};

use crate::config::Cluster;
use crate::host;

/// Stands before the number that would confirm a new beginning.
const HAS_RESTART: u32 = 0x1_0000;

/// What the workers give to.
#[derive(Debug)]
pub struct KernelPath {
    relay: KernelRelay,
    /// The gate's.
    interface: u32,
}

impl KernelPath {
    /// The kernel has nothing of an engine of before when this returns. `Err` says why there is none.
    pub fn open(
        relay: Result<KernelRelay, String>,
        cluster: &Cluster,
        node_name: &str,
    ) -> Result<Self, String> {
        let relay = relay?;
        let opened = || {
            relay.clear().context("streams of before can not be taken back")?;
            let here = cluster.here(node_name, &host::interfaces()?);
            let name =
                here.ok().and_then(|here| here.interface).context("the gate's interface is not known")?;
            Ok(Interface::find(&name)?.index)
        };
        let interface = opened().map_err(|error: anyhow::Error| format!("{error:#}"))?;
        Ok(Self { relay, interface })
    }

    fn is_by_the_gate(&self, from: IpAddr, to: IpAddr) -> io::Result<bool> {
        Ok(interface_towards(from, to)? == Some(self.interface))
    }
}

impl net::KernelPath for KernelPath {
    fn set(&self, came: PacketEnds, way: &KernelWay<'_>, carried: &Carried) -> io::Result<()> {
        let PacketEnds { from, to } = way.leaves;
        if !self.is_by_the_gate(from.ip(), to.ip())? {
            return Err(io::Error::other("it does not leave by the gate's interface"));
        }
        let mut rates = [(0, 0); RATES_MAX];
        rates.iter_mut().zip(way.clock_rates).for_each(|(room, rate)| *room = *rate);
        let way = Way { leaves: ends(way.leaves), tos: way.dscp << 2, rates };
        self.relay.set(ends(came), &way, heard(carried))
    }

    fn is_right(&self, leaves: PacketEnds) -> bool {
        self.is_by_the_gate(leaves.from.ip(), leaves.to.ip()).unwrap_or(false)
    }

    fn carried(&self, came: PacketEnds) -> Option<Carried> {
        told(came, self.relay.heard(ends(came)))
    }

    fn take_back(&self, came: PacketEnds) -> Option<Carried> {
        told(came, self.relay.take_back(ends(came)))
    }
}

fn told(came: PacketEnds, heard: io::Result<Option<Heard>>) -> Option<Carried> {
    heard
        .unwrap_or_else(|error| {
            tracing::warn!(?came, %error, "the kernel does not tell of a stream");
            None
        })
        .map(carried)
}

fn ends(PacketEnds { from, to }: PacketEnds) -> Ends {
    Ends { from, to }
}

fn heard(carried: &Carried) -> Heard {
    let Carried { packets, octets, lost_before, source, .. } = *carried;
    let begin = Heard { packets, octets, lost_before, ..Heard::default() };
    let Some(source) = source else { return begin };
    let (transit_payload, transit) = source.transit.unwrap_or_default();
    Heard {
        received: source.received,
        cycles: source.cycles,
        ssrc: source.ssrc,
        transit,
        jitter: source.jitter,
        rate: source.rate,
        restart: source.restart.map_or(0, |number| HAS_RESTART | u32::from(number)),
        base: source.base,
        highest: source.highest,
        has_source: 1,
        has_transit: u8::from(source.transit.is_some()),
        transit_payload,
        ..begin
    }
}

fn carried(heard: Heard) -> Carried {
    let source = Source {
        ssrc: heard.ssrc,
        base: heard.base,
        highest: heard.highest,
        cycles: heard.cycles,
        received: heard.received,
        restart: (heard.restart >= HAS_RESTART).then_some(heard.restart as u16),
        transit: (heard.has_transit == 1).then_some((heard.transit_payload, heard.transit)),
        jitter: heard.jitter,
        rate: heard.rate,
    };
    Carried {
        packets: heard.packets,
        octets: heard.octets,
        lost_before: heard.lost_before,
        heard_at: (heard.at != 0).then_some(Instant::from_nanos(heard.at)),
        source: (heard.has_source == 1).then_some(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_comes_back_as_it_was_given() {
        let source = Source {
            ssrc: 7,
            base: 1,
            highest: 2,
            cycles: 3,
            received: 4,
            restart: Some(0),
            transit: Some((8, 5)),
            jitter: 6,
            rate: 8_000,
        };
        for source in [None, Some(source), Some(Source { restart: None, transit: None, ..source })] {
            let given = Carried { packets: 10, octets: 11, lost_before: 12, heard_at: None, source };

            assert_eq!(carried(heard(&given)), given);
        }
    }
}

//! What one side has said of its media, as far as a relay needs it.

use std::net::{IpAddr, SocketAddr};

use crate::latch::{Expected, Wanted};
use crate::sdp::{Address, Carriage, Description, Media};

/// One side's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SideMedia {
    pub(super) lines: Vec<SideLine>,
    /// Where the message came from that it was in.
    pub(super) source: IpAddr,
    pub(super) is_behind_nat: bool,
}

/// One media line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SideLine {
    pub(super) carriage: Carriage,
    /// 0 for a line that is not wanted.
    pub(super) ports: u16,
    pub(super) wanted: Wanted,
    pub(super) rtcp: Option<SocketAddr>,
    pub(super) is_muxed: bool,
    pub(super) sends: bool,
    pub(super) clock_rates: Vec<(u8, u32)>,
}

impl SideMedia {
    pub(super) fn of(description: &Description<'_>, source: IpAddr, is_behind_nat: bool) -> Self {
        Self { lines: description.media().iter().map(SideLine::of).collect(), source, is_behind_nat }
    }

    /// What is to be expected of its line, on the port of media and on that of RTCP. `pair` counts ports in a row.
    pub(super) fn expected(&self, line: &SideLine, pair: u16) -> (Expected, Expected) {
        let place =
            |wanted| Expected { wanted, signalling: Some(self.source), is_behind_nat: self.is_behind_nat };
        let step = if line.carriage.has_rtcp() { 2 * pair } else { pair };
        let shift = |address: SocketAddr| {
            address.port().checked_add(step).map(|port| SocketAddr::new(address.ip(), port))
        };
        let shifted = |address| shift(address).map_or(Wanted::Unknown, Wanted::At);
        let media = match line.wanted {
            Wanted::At(address) => shifted(address),
            other => other,
        };
        let rtcp = match (line.wanted, line.rtcp) {
            (Wanted::Nowhere, _) => Wanted::Nowhere,
            (_, None) => Wanted::Unknown,
            (_, Some(address)) => shifted(address),
        };
        (place(media), place(rtcp))
    }
}

impl SideLine {
    fn of(media: &Media) -> Self {
        Self {
            carriage: media.carriage(),
            ports: if media.is_relayed() { media.ports() } else { 0 },
            wanted: match (media.media_address(), media.address()) {
                (Some(address), _) => Wanted::At(address),
                (None, Address::Name) if media.port() != 0 => Wanted::Unknown,
                (None, _) => Wanted::Nowhere,
            },
            rtcp: media.rtcp_address(),
            is_muxed: media.is_muxed(),
            sends: media.port() != 0 && media.direction().sends(),
            clock_rates: media.clock_rates().to_vec(),
        }
    }
}

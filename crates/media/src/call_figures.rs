//! How the media of a whole call went: what all its streams come to.

use std::time::Duration;

use crate::stream::{SideFigures, StreamFigures};

/// All streams of a call together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFigures {
    /// What came from the caller.
    pub caller: SideSums,
    /// What came from the callee.
    pub callee: SideSums,
}

/// What came from one side: what can be counted is the sum over its streams, what is measured is the worst of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideSums {
    /// Packets.
    pub packets: u64,
    /// Bytes of datagrams.
    pub octets: u64,
    /// Packets that were sent, by their numbers, and did not come.
    pub lost: u64,
    /// The longest jitter at the end of a stream; `None` if nothing has come.
    pub jitter: Option<Duration>,
    /// The longest time there and back; `None` while no report has told.
    pub round_trip: Option<Duration>,
    /// The worst opinion, in hundredths; `None` if nothing has come.
    pub opinion: Option<u16>,
}

impl CallFigures {
    /// One more stream has ended like this.
    pub fn add(&mut self, stream: &StreamFigures) {
        self.caller.add(&stream.caller);
        self.callee.add(&stream.callee);
    }
}

impl SideSums {
    fn add(&mut self, side: &SideFigures) {
        let received = &side.received;
        self.packets = self.packets.saturating_add(received.packets);
        self.octets = self.octets.saturating_add(received.octets);
        self.lost = self.lost.saturating_add(received.lost);
        self.jitter = self.jitter.max((received.packets > 0).then_some(received.jitter));
        self.round_trip = self.round_trip.max(side.round_trip);
        self.opinion = match (self.opinion, side.opinion()) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    #[test]
    fn what_is_counted_is_summed_and_of_what_is_measured_the_worst_stays() {
        let milli = Duration::from_millis;
        let side = |packets, lost, jitter, round_trip| SideFigures {
            received: Figures { packets, octets: packets * 172, lost, jitter: milli(jitter) },
            round_trip,
            source: None,
        };
        let (voice, video) = (side(100, 1, 4, None), side(900, 99, 2, Some(milli(80))));
        let mut call = CallFigures::default();
        for caller in [voice, side(0, 0, 0, None), video] {
            call.add(&StreamFigures { caller, ..StreamFigures::default() });
        }

        assert_eq!(
            call.caller,
            SideSums {
                packets: 1_000,
                octets: 172_000,
                lost: 100,
                jitter: Some(milli(4)),
                round_trip: Some(milli(80)),
                opinion: video.opinion(),
            }
        );
        assert!(video.opinion() < voice.opinion());
        assert_eq!(call.callee, SideSums::default(), "nothing came, so nothing is known of it");
    }
}

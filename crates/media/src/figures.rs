//! How well packets arrive: loss, jitter, the time there and back, and what a listener would say.
//!
//! All numbers are whole, so that the same packets give the same figures on every machine.

use std::collections::VecDeque;
use std::time::Duration;

use clock::Instant;

use crate::packet::{RtpHeader, word};

/// RFC 3550 §A.1: a gap of so many is a new beginning rather than loss.
const DROPOUT_MAX: u16 = 3_000;
/// RFC 3550 §A.1: so many too late are out of order rather than a new beginning.
const MISORDER_MAX: u16 = 100;
/// Sender reports that are remembered until their answer comes; they come every five seconds.
const REPORTS_MAX: usize = 4;
/// Parts of one RTCP compound that are looked at.
const PARTS_MAX: usize = 16;
/// A longer way there and back is a mistake.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// What arrives from one side.
#[derive(Clone, Debug, Default)]
pub struct Reception {
    source: Option<Source>,
    /// What sources before the present one have lost.
    lost_before: u64,
    packets: u64,
    octets: u64,
    lent: Option<Lent>,
}

/// What happens here while another forwarder counts.
#[derive(Clone, Copy, Debug)]
struct Lent {
    /// What its word was last, in packets and bytes.
    packets: u64,
    octets: u64,
    /// Packets that came here all the same, and that it so takes for lost.
    beside: u64,
}

/// All that was counted, for another forwarder that goes on with it: the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Packets.
    pub packets: u64,
    /// Bytes of datagrams.
    pub octets: u64,
    /// Packets that sources before the present one have lost.
    pub lost_before: u64,
    /// When the last packet came to the other forwarder, if one has.
    pub heard_at: Option<Instant>,
    /// The source that is counted.
    pub source: Option<Source>,
}

/// The source that is counted, in the words of RFC 3550 §A.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub ssrc: u32,
    /// The first number.
    pub base: u16,
    /// The highest number.
    pub highest: u16,
    /// How often the number went round.
    pub cycles: u64,
    /// Packets.
    pub received: u64,
    /// The number that would confirm a new beginning.
    pub restart: Option<u16>,
    /// Of the last packet: its payload type, and its arrival less its time stamp, in units of the latter.
    pub transit: Option<(u8, u32)>,
    /// In sixteenths of a unit of the time stamp.
    pub jitter: u32,
    /// The clock rate in hertz; 0: not known yet.
    pub rate: u32,
}

/// What arrived, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Packets.
    pub packets: u64,
    /// Bytes of datagrams.
    pub octets: u64,
    /// Packets that were sent, by their numbers, and did not come.
    pub lost: u64,
    /// The jitter of the last packets (RFC 3550 §6.4.1).
    pub jitter: Duration,
}

impl Figures {
    /// Lost packets in a thousand that were sent.
    pub fn lost_per_mille(&self) -> u16 {
        let sent = self.packets + self.lost;
        (self.lost * 1_000).checked_div(sent).unwrap_or(0) as u16
    }
}

impl Reception {
    /// Counts a packet of RTP; `rate` is its payload type's clock rate, if that is known.
    pub fn handle_packet(&mut self, now: Instant, header: RtpHeader, octets: usize, rate: Option<u32>) {
        self.packets += 1;
        self.octets += octets as u64;
        if let Some(lent) = &mut self.lent {
            lent.beside += 1;
            return;
        }
        match &mut self.source {
            Some(source) if source.ssrc == header.ssrc => {
                if source.count(header.sequence) {
                    source.measure(now, header, rate);
                } else {
                    self.restart(now, header, rate);
                }
            }
            _ => self.restart(now, header, rate),
        }
    }

    /// What arrived until now.
    pub fn figures(&self) -> Figures {
        let (lost, jitter) =
            self.source.map_or((0, Duration::ZERO), |source| (source.lost(), source.jitter()));
        let lost = lost.saturating_sub(self.lent.map_or(0, |lent| lent.beside));
        Figures { packets: self.packets, octets: self.octets, lost: self.lost_before + lost, jitter }
    }

    /// Has another forwarder go on counting, which gives its word by [`Self::handle_carried`] until [`Self::take_back`].
    pub fn lend(&mut self) -> Carried {
        let Self { source, lost_before, packets, octets, .. } = *self;
        self.lent = Some(Lent { packets, octets, beside: 0 });
        Carried { packets, octets, lost_before, heard_at: None, source }
    }

    /// The other forwarder has counted so far. Gives how many packets came to it since its last word.
    pub fn handle_carried(&mut self, carried: &Carried) -> u64 {
        let Some(lent) = &mut self.lent else { return 0 };
        let packets = carried.packets.saturating_sub(lent.packets);
        self.packets += packets;
        self.octets += carried.octets.saturating_sub(lent.octets);
        (lent.packets, lent.octets) = (carried.packets, carried.octets);
        (self.source, self.lost_before) = (carried.source, carried.lost_before);
        packets
    }

    /// Goes on counting here, with the other forwarder's last word; `None`: it has none, and what came to it since is no loss.
    pub fn take_back(&mut self, carried: Option<&Carried>) -> u64 {
        let packets = carried.map_or(0, |carried| self.handle_carried(carried));
        let Some(lent) = self.lent.take() else { return 0 };
        match &mut self.source {
            Some(source) if carried.is_some() => source.received += lent.beside,
            source => self.lost_before += source.take().map_or(0, |it| it.lost().saturating_sub(lent.beside)),
        }
        packets
    }

    fn restart(&mut self, now: Instant, header: RtpHeader, rate: Option<u32>) {
        if let Some(source) = self.source {
            self.lost_before += source.lost();
        }
        let mut source = Source {
            ssrc: header.ssrc,
            base: header.sequence,
            highest: header.sequence,
            cycles: 0,
            received: 1,
            restart: None,
            transit: None,
            jitter: 0,
            rate: 0,
        };
        source.measure(now, header, rate);
        self.source = Some(source);
    }
}

impl Source {
    /// Whether the number goes on from the last ones; if not, the count begins anew.
    // RFC 3550 §A.1.
    fn count(&mut self, sequence: u16) -> bool {
        let step = sequence.wrapping_sub(self.highest);
        if step < DROPOUT_MAX {
            if sequence < self.highest {
                self.cycles += 1;
            }
            self.highest = sequence;
            self.restart = None;
        } else if step <= u16::MAX - MISORDER_MAX {
            if self.restart == Some(sequence) {
                return false;
            }
            self.restart = Some(sequence.wrapping_add(1));
            return true;
        }
        self.received += 1;
        true
    }

    /// RFC 3550 §A.3.
    fn lost(&self) -> u64 {
        let highest = self.cycles * 65_536 + u64::from(self.highest);
        (highest + 1).saturating_sub(u64::from(self.base)).saturating_sub(self.received)
    }

    /// RFC 3550 §A.8.
    fn measure(&mut self, now: Instant, header: RtpHeader, rate: Option<u32>) {
        let Some(rate) = rate.or_else(|| known_rate(header.payload)) else { return };
        let arrival = (u128::from(now.as_nanos()) * u128::from(rate) / 1_000_000_000) as u32;
        let transit = arrival.wrapping_sub(header.timestamp);
        if let Some((payload, before)) = self.transit
            && payload == header.payload
        {
            let difference = transit.wrapping_sub(before) as i32;
            // One jump of the clock, as after a pause, is no jitter.
            let difference = difference.unsigned_abs().min(rate);
            self.jitter = self.jitter.saturating_add(difference) - ((self.jitter + 8) >> 4).min(self.jitter);
        }
        self.transit = Some((header.payload, transit));
        self.rate = rate;
    }

    fn jitter(&self) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(u64::from(self.jitter >> 4) * 1_000_000_000 / u64::from(self.rate))
    }
}

/// Clock rates of payload types that need no `a=rtpmap` (RFC 3551 §6).
fn known_rate(payload: u8) -> Option<u32> {
    Some(match payload {
        0 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 13 | 15 | 18 => 8_000,
        6 => 16_000,
        10 | 11 => 44_100,
        16 => 11_025,
        17 => 22_050,
        14 | 25 | 26 | 28 | 31 | 32 | 33 | 34 => 90_000,
        _ => return None,
    })
}

/// How long packets take from the relay to one side and back, from the reports that pass.
///
/// A sender report that goes to the side is remembered by its time; the side's report about it names that time and how
/// long it was kept.
#[derive(Clone, Debug, Default)]
pub struct RoundTrip {
    /// The source, the middle of its time stamp, and when it passed.
    sent: VecDeque<(u32, u32, Instant)>,
    last: Option<Duration>,
    lost_fraction: Option<u8>,
}

impl RoundTrip {
    /// A compound goes to the side.
    pub fn handle_sent(&mut self, now: Instant, compound: &[u8]) {
        for part in parts(compound) {
            // RFC 3550 §6.4.1: 200 is a sender report.
            if let (200, Some(ssrc), Some(high), Some(low)) =
                (part[1], word(part, 4), word(part, 8), word(part, 12))
            {
                if self.sent.len() == REPORTS_MAX {
                    self.sent.pop_front();
                }
                self.sent.push_back((ssrc, (high << 16) | (low >> 16), now));
            }
        }
    }

    /// A compound comes from the side.
    pub fn handle_received(&mut self, now: Instant, compound: &[u8]) {
        for part in parts(compound) {
            let first = match part[1] {
                200 => 28,
                201 => 8,
                _ => continue,
            };
            let blocks = usize::from(part[0] & 0x1f);
            for block in part.get(first..).unwrap_or_default().chunks_exact(24).take(blocks) {
                self.handle_block(now, block);
            }
        }
    }

    /// The last one that was measured.
    pub fn last(&self) -> Option<Duration> {
        self.last
    }

    /// What the side last said that it lost, in 256 parts.
    pub fn lost_fraction(&self) -> Option<u8> {
        self.lost_fraction
    }

    // RFC 3550 §6.4.1: DLSR is in 65536 parts of a second.
    fn handle_block(&mut self, now: Instant, block: &[u8]) {
        let (Some(ssrc), Some(last), Some(delay)) = (word(block, 0), word(block, 16), word(block, 20)) else {
            return;
        };
        self.lost_fraction = Some(block[4]);
        let is_it = |(source, time, _): &&(u32, u32, Instant)| *source == ssrc && *time == last && last != 0;
        let Some((_, _, passed)) = self.sent.iter().find(is_it) else { return };
        let kept = Duration::from_nanos(u64::from(delay) * 1_000_000_000 / 65_536);
        // The side's clock is not ours: a little less than nothing is nothing.
        let round_trip = now.since(*passed).saturating_sub(kept);
        if round_trip <= ROUND_TRIP_MAX {
            self.last = Some(round_trip);
        }
    }
}

/// The parts of a compound, each with at least its header.
fn parts(compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let length = 4 * (usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])) + 1);
        let part = rest.get(..length)?;
        rest = &rest[length..];
        Some(part)
    })
    .take(PARTS_MAX)
}

/// What a listener would say of it, from 100 to 441: a mean opinion score in hundredths.
///
/// It is an estimate by the E-model's usual short cut: delay and loss lower a rating of 93.2.
// Deviation: ITU-T G.107 has factors of each codec, which a relay does not look at.
pub fn opinion(round_trip: Duration, jitter: Duration, lost_per_mille: u16) -> u16 {
    let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX).min(10_000);
    // One way, twice the jitter for the buffer, and 10 ms for the codec.
    let delay = millis(round_trip) / 2 + 2 * millis(jitter) + 10;
    let by_delay = if delay < 160 { delay * 25 } else { (delay - 120) * 100 };
    let by_loss = i64::from(lost_per_mille.min(1_000)) * 250;
    let rating = (93_200 - by_delay - by_loss).clamp(0, 93_200);
    let curve = 7 * rating * (rating - 60_000) / 1_000 * (100_000 - rating) / 10_000_000_000;
    u16::try_from((100 + 35 * rating / 10_000 + curve).max(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);

    #[test]
    fn what_is_missing_is_lost_and_what_comes_late_is_not() {
        let mut reception = Reception::default();
        for sequence in [10, 11, 13, 12, 15, 16] {
            packet(&mut reception, sequence, 1);
        }

        assert_eq!(reception.figures().packets, 6);
        assert_eq!(reception.figures().lost, 1);
        assert_eq!(reception.figures().lost_per_mille(), 142);
    }

    #[test]
    fn the_number_goes_round() {
        let mut reception = Reception::default();
        for sequence in [65_533, 65_534, 0, 1] {
            packet(&mut reception, sequence, 1);
        }

        assert_eq!(reception.figures().lost, 1);
    }

    #[test]
    fn another_source_or_a_new_beginning_is_no_loss() {
        let mut reception = Reception::default();
        for (sequence, ssrc) in [(1, 1), (3, 1), (40_000, 2), (40_001, 2), (5, 2), (6, 2), (7, 2)] {
            packet(&mut reception, sequence, ssrc);
        }

        assert_eq!(reception.figures().lost, 1);
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_has() {
        let jitter = |uneven: u64| {
            let mut reception = Reception::default();
            for number in 0..400u16 {
                let late = Duration::from_millis(if number % 2 == 0 { 0 } else { uneven });
                let at = NOW + Duration::from_millis(20) * u32::from(number) + late;
                let header = header(number, 1);
                reception.handle_packet(at, header, 172, None);
            }
            reception.figures().jitter
        };

        assert_eq!(jitter(0), Duration::ZERO);
        // Each gap is 10 ms too long or too short.
        assert!((9..=10).contains(&jitter(10).as_millis()), "{:?}", jitter(10));
    }

    #[test]
    fn the_time_there_and_back_is_that_of_a_report_less_what_it_was_kept() {
        let mut round_trip = RoundTrip::default();
        let time = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
        let sender = [&[0x80, 200, 0, 6, 0, 0, 0, 9], &time[..], &[0; 12]].concat();
        round_trip.handle_sent(NOW, &sender);
        let report = |ssrc: u8, kept: u32| {
            let block =
                [&[0, 0, 0, ssrc, 25, 0, 0, 0], &[0; 8][..], &[0x33, 0x44, 0x55, 0x66], &kept.to_be_bytes()];
            [&[0x81, 201, 0, 7, 0, 0, 0, 5], &block.concat()[..]].concat()
        };

        round_trip.handle_received(NOW + Duration::from_millis(580), &report(8, 32_768));
        assert_eq!(round_trip.last(), None, "it is about another source");
        round_trip.handle_received(NOW + Duration::from_millis(580), &report(9, 32_768));
        assert_eq!(round_trip.last(), Some(Duration::from_millis(80)));
        assert_eq!(round_trip.lost_fraction(), Some(25));
        round_trip.handle_received(NOW + Duration::from_millis(580), &report(9, u32::MAX));
        assert_eq!(round_trip.last(), Some(Duration::ZERO), "its clock is not ours");
    }

    #[test]
    fn opinions_fall_with_delay_and_loss() {
        let milli = Duration::from_millis;

        assert_eq!(opinion(milli(0), milli(0), 0), 440);
        assert!((430..440).contains(&opinion(milli(100), milli(5), 0)));
        assert!((370..430).contains(&opinion(milli(200), milli(10), 30)));
        assert!((100..200).contains(&opinion(milli(400), milli(30), 250)));
        assert_eq!(opinion(Duration::MAX, Duration::MAX, u16::MAX), 100);
    }

    #[test]
    fn another_forwarder_goes_on_counting_and_what_comes_beside_is_not_lost() {
        let mut reception = Reception::default();
        [10, 11, 13].into_iter().for_each(|number| packet(&mut reception, number, 1));
        let mut carried = reception.lend();
        assert_eq!((carried.packets, carried.source.map(|it| it.highest)), (3, Some(13)));

        // It hears 14, 15 and 17 to 19; 16 comes here.
        packet(&mut reception, 16, 1);
        carried.packets += 5;
        carried.octets += 5 * 172;
        let source = carried.source.as_mut().expect("one was heard");
        (source.highest, source.received) = (19, 8);
        assert_eq!(reception.handle_carried(&carried), 5);
        assert_eq!(reception.handle_carried(&carried), 0, "the same word");
        assert_eq!((reception.figures().packets, reception.figures().octets), (9, 9 * 172));
        assert_eq!(reception.figures().lost, 1);

        carried.packets += 1;
        let source = carried.source.as_mut().expect("one was heard");
        (source.highest, source.received) = (20, 9);
        assert_eq!(reception.take_back(Some(&carried)), 1);
        packet(&mut reception, 22, 1);
        assert_eq!((reception.figures().packets, reception.figures().lost), (11, 2));
        assert_eq!(reception.take_back(Some(&carried)), 0, "it was taken back");
    }

    #[test]
    fn what_came_to_a_forwarder_that_has_no_word_is_no_loss() {
        let mut reception = Reception::default();
        [10, 12].into_iter().for_each(|number| packet(&mut reception, number, 1));
        reception.lend();

        assert_eq!(reception.take_back(None), 0);
        packet(&mut reception, 500, 1);
        assert_eq!((reception.figures().packets, reception.figures().lost), (3, 1));
    }

    proptest! {
        #[test]
        fn any_packets_and_reports_are_counted(
            packets in prop::collection::vec((any::<u16>(), any::<u32>(), 0u8..128, 0u32..3, any::<u32>()), 0..200),
            compound in prop::collection::vec(any::<u8>(), 0..200),
            worse: u16,
        ) {
            let mut reception = Reception::default();
            let mut now = NOW;
            for &(sequence, timestamp, payload, ssrc, rate) in &packets {
                now += Duration::from_micros(u64::from(timestamp >> 12));
                let header = RtpHeader { payload, sequence, timestamp, ssrc };
                reception.handle_packet(now, header, 100, Some(rate).filter(|rate| *rate > 0));
            }
            prop_assert_eq!(reception.figures().packets, packets.len() as u64);
            prop_assert!(reception.figures().lost_per_mille() <= 1_000);
            let mut round_trip = RoundTrip::default();
            round_trip.handle_sent(now, &compound);
            round_trip.handle_received(now, &compound);
            let (time, less) = (Duration::from_millis(u64::from(worse)), worse / 70);
            prop_assert!(opinion(time, time, less) <= opinion(Duration::ZERO, Duration::ZERO, 0));
            prop_assert!((100..=441).contains(&opinion(time, time, less)));
        }
    }

    fn packet(reception: &mut Reception, sequence: u16, ssrc: u32) {
        reception.handle_packet(NOW, header(sequence, ssrc), 172, None);
    }

    fn header(sequence: u16, ssrc: u32) -> RtpHeader {
        RtpHeader { payload: 8, sequence, timestamp: u32::from(sequence) * 160, ssrc }
    }
}

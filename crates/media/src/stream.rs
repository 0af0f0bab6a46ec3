//! One stream of media between two sides, as the forwarder of packets has it.
//!
//! It is told each datagram with the side and port that it came to, and says where it goes: to the other side, or
//! nowhere, and why. It keeps the latches, the figures, and the time of silence; it never makes a packet of its own.
//!
//! Invariant: a datagram that is not from the latched place of its side goes nowhere and changes nothing but a count.

use std::net::SocketAddr;
use std::time::Duration;

use clock::Instant;

use crate::figures::{Carried, Figures, Reception, RoundTrip, opinion};
use crate::latch::{Arrival, Latch, Latched, Policy, StoredLatch, Wanted};
use crate::offer_answer::{Leg, Plan, Side};
use crate::packet::Packet;
use crate::sdp::Carriage;

/// The port of a pair that a datagram came to or leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// The even one: media, and RTCP where both share a port.
    Media,
    /// The next one.
    Rtcp,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// It leaves by this port of the other side's leg.
    Send {
        /// The port of the relay.
        port: Port,
        /// Where to.
        to: SocketAddr,
        /// Whether its own side has just been latched on to, which the other node is to be told.
        latched: Option<Latched>,
    },
    /// It goes nowhere. Its own side may have been latched on to all the same.
    Drop(Discard, Option<Latched>),
}

/// Why a datagram goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Discard {
    /// It comes from elsewhere.
    Stranger,
    /// It is nothing that media go by here: a keepalive, or noise.
    Noise,
    /// The other side wants nothing, or nobody knows where it is.
    NoTarget,
}

/// How often what was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards {
    /// [`Discard::Stranger`].
    pub strangers: u64,
    /// [`Discard::Noise`].
    pub noise: u64,
    /// [`Discard::NoTarget`].
    pub no_target: u64,
}

/// How a stream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFigures {
    /// What comes from the caller.
    pub caller: SideFigures,
    /// What comes from the callee.
    pub callee: SideFigures,
    /// What was dropped.
    pub discards: Discards,
}

/// How one side of a stream does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideFigures {
    /// What has come from it.
    pub received: Figures,
    /// How long packets take to it and back; `None` while no report has told.
    pub round_trip: Option<Duration>,
    /// Where its packets come from.
    pub source: Option<SocketAddr>,
}

impl SideFigures {
    /// What a listener would say of what comes from it, in hundredths of a mean opinion score; `None` if nothing has come.
    pub fn opinion(&self) -> Option<u16> {
        let Figures { packets, jitter, .. } = self.received;
        let round_trip = self.round_trip.unwrap_or_default();
        (packets > 0).then(|| opinion(round_trip, jitter, self.received.lost_per_mille()))
    }
}

/// One stream.
#[derive(Clone, Debug)]
pub struct Stream {
    carriage: Carriage,
    is_muxed: bool,
    clock_rates: Vec<(u8, u32)>,
    caller: End,
    callee: End,
    silence_max: Duration,
    heard_at: Instant,
    has_told_silence: bool,
    discards: Discards,
}

/// One side of it.
#[derive(Clone, Debug)]
struct End {
    media: Latch,
    rtcp: Latch,
    /// Whether its silence means something.
    sends: bool,
    wants: bool,
    reception: Reception,
    round_trip: RoundTrip,
}

impl Stream {
    /// A stream that begins or, on another node, goes on. It is silent after `silence_max` without a packet of either side.
    pub fn new(now: Instant, plan: &Plan, policy: Policy, silence_max: Duration) -> Self {
        Self {
            carriage: plan.carriage,
            is_muxed: plan.is_muxed,
            clock_rates: plan.clock_rates.clone(),
            caller: End::new(now, plan, &plan.caller, policy),
            callee: End::new(now, plan, &plan.callee, policy),
            silence_max,
            heard_at: now,
            has_told_silence: false,
            discards: Discards::default(),
        }
    }

    /// The signalling has spoken of it.
    pub fn handle_change(&mut self, now: Instant, plan: &Plan) {
        self.carriage = plan.carriage;
        self.is_muxed = plan.is_muxed;
        self.clock_rates.clone_from(&plan.clock_rates);
        self.caller.change(plan, &plan.caller);
        self.callee.change(plan, &plan.callee);
        // Who comes back from hold has the whole time again.
        self.heard_at = now;
        self.has_told_silence = false;
    }

    /// A datagram has come to a port of `side`'s leg.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        port: Port,
        source: SocketAddr,
        bytes: &[u8],
    ) -> Forward {
        let packet = Packet::read(bytes);
        if !self.carries(port, &packet, bytes) {
            self.discards.noise += 1;
            return Forward::Drop(Discard::Noise, None);
        }
        let is_rtcp = matches!(packet, Packet::Rtcp(_)) && self.carriage.has_rtcp();
        let (own, other) = match side {
            Side::Caller => (&mut self.caller, &mut self.callee),
            Side::Callee => (&mut self.callee, &mut self.caller),
        };
        let latch = match port {
            Port::Media => &mut own.media,
            Port::Rtcp => &mut own.rtcp,
        };
        let latched = match latch.handle_packet(now, source, packet.ssrc()) {
            Arrival::Stranger => {
                self.discards.strangers += 1;
                return Forward::Drop(Discard::Stranger, None);
            }
            Arrival::Expected => None,
            // Only the port of media is told of: RTCP finds its place again by itself.
            Arrival::Latched => latch.latched().filter(|_| port == Port::Media),
        };
        self.heard_at = now;
        self.has_told_silence = false;
        if let Packet::Rtp(header) = packet {
            let rate = self.clock_rates.iter().find(|(payload, _)| *payload == header.payload);
            own.reception.handle_packet(now, header, bytes.len(), rate.map(|(_, rate)| *rate));
        }
        if is_rtcp && self.carriage == Carriage::Rtp {
            own.round_trip.handle_received(now, bytes);
            other.round_trip.handle_sent(now, bytes);
        }
        let (port, to) = match is_rtcp && !self.is_muxed {
            true => (Port::Rtcp, other.rtcp.target()),
            false => (Port::Media, other.media.target()),
        };
        match to {
            Some(to) => Forward::Send { port, to, latched },
            None => {
                self.discards.no_target += 1;
                Forward::Drop(Discard::NoTarget, latched)
            }
        }
    }

    /// When it will have been silent for too long; `None` while nobody is to send, or it was told.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_sent = |from: &End, to: &End| from.sends && to.wants;
        let is_to_sound = is_sent(&self.caller, &self.callee) || is_sent(&self.callee, &self.caller);
        (is_to_sound && !self.has_told_silence).then_some(self.heard_at + self.silence_max)
    }

    /// Lets time pass; whether it has just become silent, which is said once.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let is_silent = self.poll_timeout().is_some_and(|at| at <= now);
        self.has_told_silence |= is_silent;
        is_silent
    }

    /// How it does until now.
    pub fn figures(&self) -> StreamFigures {
        let side = |end: &End| SideFigures {
            received: end.reception.figures(),
            round_trip: end.round_trip.last(),
            source: end.media.latched().map(|latched| latched.source),
        };
        StreamFigures { caller: side(&self.caller), callee: side(&self.callee), discards: self.discards }
    }

    /// From where to where a side's media go, as long as nothing is said and nobody moves; `None`: each packet is to be looked
    /// at, or there is nowhere to go. RTP alone is meant, and all else that comes to the port is not.
    pub fn way(&self, side: Side) -> Option<(SocketAddr, SocketAddr)> {
        let is_rtp = matches!(self.carriage, Carriage::Rtp | Carriage::SecureRtp);
        let (own, other) = (self.end(side), self.end(side.other()));
        if own.media.is_in_doubt() || other.media.is_in_doubt() {
            return None;
        }
        let source = own.media.latched().filter(|_| is_rtp)?.source;
        Some((source, other.media.target()?))
    }

    /// Clock rates in hertz by payload type, as the descriptions have them.
    pub fn clock_rates(&self) -> &[(u8, u32)] {
        &self.clock_rates
    }

    /// Has another forwarder send on what comes from a side, see [`Reception::lend`].
    pub fn lend(&mut self, side: Side) -> Carried {
        self.end_mut(side).reception.lend()
    }

    /// The other forwarder has sent on so far. Gives how many packets those are since its last word.
    pub fn handle_carried(&mut self, side: Side, carried: &Carried) -> u64 {
        self.hear(side, carried);
        self.end_mut(side).reception.handle_carried(carried)
    }

    /// The other forwarder sends on no more; this was its last word.
    pub fn take_back(&mut self, side: Side, carried: Option<&Carried>) -> u64 {
        if let Some(carried) = carried {
            self.hear(side, carried);
        }
        self.end_mut(side).reception.take_back(carried)
    }

    /// Whether the next packet from elsewhere can only be judged with the other forwarder's word.
    pub fn may_be_left(&self, now: Instant, side: Side) -> bool {
        self.end(side).media.may_be_left(now)
    }

    fn hear(&mut self, side: Side, carried: &Carried) {
        let Some(at) = carried.heard_at else { return };
        self.end_mut(side).media.handle_heard(at, carried.source.map(|source| source.ssrc));
        if at > self.heard_at {
            self.heard_at = at;
            self.has_told_silence = false;
        }
    }

    /// Where a side's media come from.
    pub fn latched(&self, side: Side) -> Option<Latched> {
        self.end(side).media.latched()
    }

    /// Where a side's media come from, if nothing but the signalling can change that.
    pub fn settled(&self, now: Instant, side: Side) -> Option<SocketAddr> {
        self.end(side).media.settled(now)
    }

    fn end(&self, side: Side) -> &End {
        match side {
            Side::Caller => &self.caller,
            Side::Callee => &self.callee,
        }
    }

    fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Caller => &mut self.caller,
            Side::Callee => &mut self.callee,
        }
    }

    /// Whether a datagram belongs on a port.
    fn carries(&self, port: Port, packet: &Packet<'_>, bytes: &[u8]) -> bool {
        match (self.carriage, port) {
            (Carriage::Rtp | Carriage::SecureRtp, Port::Media) => {
                matches!(packet, Packet::Rtp(_) | Packet::Rtcp(_) | Packet::Dtls | Packet::Zrtp)
            }
            // RFC 5764 §5.1.1: each port has a handshake of its own.
            (Carriage::Rtp | Carriage::SecureRtp, Port::Rtcp) => {
                matches!(packet, Packet::Rtcp(_) | Packet::Dtls)
            }
            (Carriage::Datagrams, Port::Media) => !bytes.is_empty(),
            (Carriage::Datagrams, Port::Rtcp) | (Carriage::Foreign, _) => false,
        }
    }
}

impl End {
    fn new(now: Instant, plan: &Plan, leg: &Leg, policy: Policy) -> Self {
        let window_left = (plan.signalled_at + policy.window).since(now);
        let latch =
            |expected, latched| Latch::restore(policy, now, expected, StoredLatch { latched, window_left });
        // Where RTCP came from is not told to another node: there it shows its place once more.
        let mut end = Self {
            media: latch(leg.media, leg.latched),
            rtcp: latch(leg.rtcp, None),
            sends: leg.sends,
            wants: leg.media.wanted != Wanted::Nowhere,
            reception: Reception::default(),
            round_trip: RoundTrip::default(),
        };
        if leg.latched.is_some() {
            end.rtcp.handle_signalled(now, leg.rtcp);
        }
        end
    }

    fn change(&mut self, plan: &Plan, leg: &Leg) {
        self.media.handle_signalled(plan.signalled_at, leg.media);
        self.rtcp.handle_signalled(plan.signalled_at, leg.rtcp);
        self.sends = leg.sends;
        self.wants = leg.media.wanted != Wanted::Nowhere;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latch::Expected;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
    const SILENCE: Duration = Duration::from_secs(60);
    const PHONE: &str = "203.0.113.7:4000";

    #[test]
    fn media_flow_between_a_phone_behind_nat_and_one_that_is_not() {
        let mut stream = stream(plan());

        assert_eq!(from_callee(&mut stream, &rtp(1)), Forward::Drop(Discard::NoTarget, Some(callee_latch())));
        let latched = Latched { source: at(PHONE), ssrc: Some(7) };
        assert_eq!(
            from_caller(&mut stream, &rtp(1)),
            Forward::Send { port: Port::Media, to: at("198.51.100.20:6000"), latched: Some(latched) }
        );
        assert_eq!(
            from_callee(&mut stream, &rtp(2)),
            Forward::Send { port: Port::Media, to: at(PHONE), latched: None }
        );
        assert_eq!(stream.figures().callee.received.packets, 2);
        assert_eq!(stream.figures().caller.source, Some(at(PHONE)));
    }

    #[test]
    fn a_strangers_packet_goes_nowhere_and_is_counted() {
        let mut stream = stream(plan());
        let stranger = stream.handle_packet(NOW, Side::Caller, Port::Media, at("192.0.2.66:1"), &rtp(1));

        assert_eq!(stranger, Forward::Drop(Discard::Stranger, None));
        assert_eq!(stream.figures().discards.strangers, 1);
        assert_eq!(stream.figures().caller, SideFigures::default());
    }

    #[test]
    fn a_side_that_sent_nothing_has_no_opinion_and_loss_makes_a_worse_one() {
        let mut figures = SideFigures::default();
        assert_eq!(figures.opinion(), None);

        figures.received.packets = 100;
        assert!(figures.opinion() > Some(430));
        figures.received.lost = 20;
        assert!(figures.opinion() < Some(350));
    }

    #[test]
    fn noise_latches_nothing() {
        let mut stream = stream(plan());
        for noise in [&b""[..], b"\0\x01\0\0", b"\r\n\r\n", &[0xff; 40]] {
            assert_eq!(from_caller(&mut stream, noise), Forward::Drop(Discard::Noise, None));
        }

        assert_eq!(stream.latched(Side::Caller), None);
    }

    #[test]
    fn rtcp_goes_beside_media_or_on_their_port() {
        let rtcp = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let port_of = |plan: Plan, port: Port| {
            let mut stream = stream(plan);
            match stream.handle_packet(NOW, Side::Caller, port, at(PHONE), &rtcp) {
                Forward::Send { port, to, .. } => (port, to.port()),
                other => panic!("{other:?}"),
            }
        };

        assert_eq!(port_of(plan(), Port::Rtcp), (Port::Rtcp, 6_001));
        assert_eq!(port_of(Plan { is_muxed: true, ..plan() }, Port::Media), (Port::Media, 6_000));
    }

    #[test]
    fn handshakes_and_fax_pass_where_they_belong() {
        let sends = |carriage: Carriage, bytes: &[u8]| {
            let mut stream = stream(Plan { carriage, ..plan() });
            matches!(from_caller(&mut stream, bytes), Forward::Send { .. })
        };

        assert!(sends(Carriage::SecureRtp, &[22, 254, 253, 0]));
        assert!(sends(Carriage::Datagrams, &[0, 1, 2]));
        assert!(!sends(Carriage::Rtp, &[0, 1, 2]));
    }

    #[test]
    fn silence_is_said_once_and_again_after_sound() {
        let mut stream = stream(plan());
        assert_eq!(stream.poll_timeout(), Some(NOW + SILENCE));
        assert!(stream.handle_timeout(NOW + SILENCE));
        assert!(!stream.handle_timeout(NOW + SILENCE * 2));

        let source = at("198.51.100.20:6000");
        stream.handle_packet(NOW + Duration::from_secs(1), Side::Callee, Port::Media, source, &rtp(1));
        assert_eq!(stream.poll_timeout(), Some(NOW + Duration::from_secs(1) + SILENCE));
    }

    #[test]
    fn a_call_on_hold_may_be_silent() {
        let mut held = plan();
        held.caller.sends = false;
        held.callee.sends = false;
        let mut stream = stream(held);
        assert_eq!(stream.poll_timeout(), None);
        assert!(!stream.handle_timeout(NOW + SILENCE * 9));

        stream.handle_change(NOW + SILENCE * 9, &plan());
        assert_eq!(stream.poll_timeout(), Some(NOW + SILENCE * 10));
    }

    #[test]
    fn nobody_else_forwards_for_a_side_that_says_it_moves_until_it_is_known_where_it_is() {
        let mut stream = stream(plan());
        from_caller(&mut stream, &rtp(1));
        from_callee(&mut stream, &rtp(1));
        assert!(stream.way(Side::Caller).is_some() && stream.way(Side::Callee).is_some());

        let mut moved = plan();
        moved.callee.media.wanted = Wanted::At(at("198.51.100.20:7000"));
        stream.handle_change(NOW, &moved);
        assert_eq!((stream.way(Side::Caller), stream.way(Side::Callee)), (None, None));

        // It stays where it was.
        let later = NOW + Duration::from_secs(1);
        stream.handle_packet(later, Side::Callee, Port::Media, at("198.51.100.20:6000"), &rtp(2));
        assert!(stream.way(Side::Caller).is_some() && stream.way(Side::Callee).is_some());
    }

    #[test]
    fn another_node_relays_the_next_packet() {
        let mut told = plan();
        told.caller.latched = Some(Latched { source: at(PHONE), ssrc: Some(7) });
        told.signalled_at = Instant::START;
        let mut stream = stream(told);

        assert_eq!(
            from_callee(&mut stream, &rtp(1)),
            Forward::Drop(Discard::Stranger, None),
            "its place was never told and its window is over"
        );
        assert!(matches!(from_caller(&mut stream, &rtp(1)), Forward::Send { latched: None, .. }));
    }

    fn stream(plan: Plan) -> Stream {
        Stream::new(NOW, &plan, Policy::default(), SILENCE)
    }

    fn plan() -> Plan {
        let leg = |local: &str, wanted: &str, rtcp: &str, signalling: &str, is_behind_nat: bool| {
            let expected = |address: &str| Expected {
                wanted: Wanted::At(at(address)),
                signalling: Some(signalling.parse().unwrap()),
                is_behind_nat,
            };
            Leg {
                local: at(local),
                media: expected(wanted),
                rtcp: expected(rtcp),
                sends: true,
                latched: None,
            }
        };
        Plan {
            carriage: Carriage::Rtp,
            is_muxed: false,
            caller: leg("192.0.2.1:30000", "192.168.1.7:5000", "192.168.1.7:5001", "203.0.113.7", true),
            callee: leg(
                "192.0.2.1:30002",
                "198.51.100.20:6000",
                "198.51.100.20:6001",
                "198.51.100.20",
                false,
            ),
            clock_rates: Vec::new(),
            signalled_at: NOW,
        }
    }

    fn from_caller(stream: &mut Stream, bytes: &[u8]) -> Forward {
        stream.handle_packet(NOW, Side::Caller, Port::Media, at(PHONE), bytes)
    }

    fn from_callee(stream: &mut Stream, bytes: &[u8]) -> Forward {
        stream.handle_packet(NOW, Side::Callee, Port::Media, at("198.51.100.20:6000"), bytes)
    }

    fn callee_latch() -> Latched {
        Latched { source: at("198.51.100.20:6000"), ssrc: Some(7) }
    }

    fn rtp(sequence: u8) -> Vec<u8> {
        vec![0x80, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 7]
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }
}

//! The calls that are played: who takes part, what he is told to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use routing::{ForwardTarget, Forwards, Keepalive, Settings};
use transport::Transport;

use crate::cast::{DOMAIN, FIRST, FOREIGN_DOMAIN, FOREIGNER, password_of};
use crate::nat::{Dependence, Nat, Refresh};
use crate::phone::{Algorithm, Answering, Behaviour, CallOrder, Offer, Provisional, Refer, Setup, TIMERS};

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It rings, is answered, and the caller hangs up.
    Plain,
    /// The same, but the callee hangs up.
    CalleeEnds,
    /// Three phones ring, one answers.
    Forked,
    /// The same, and the caller hangs up before the nodes have changed roles.
    Brief,
    /// The preferred phone refuses, the next one answers, a third one never rings.
    Serial,
    /// The preferred phone does not answer in time, the next one does.
    SerialUnanswered,
    /// The caller gives up while two phones ring.
    Cancelled,
    /// Nobody answers.
    TimedOut,
    /// The callee is busy.
    Busy,
    /// One of three phones declines for all.
    Declined,
    /// The session is changed in mid-call.
    Reinvited,
    /// The callee rings until it was heard.
    Pracked,
    /// The callee is sent elsewhere.
    Referred,
    /// The callee offers the session.
    LateOffer,
    /// Both are behind routers.
    BehindNat,
    /// All that the caller sends comes three times.
    Repeated,
    /// The first gateway refuses, the next one answers.
    GatewayFails,
    /// The first gateway says nothing, the next one answers.
    GatewaySilent,
    /// The callee is busy, and its calls go to another user then.
    ForwardedBusy,
    /// The callee does not answer, and its calls go to another user then.
    ForwardedUnanswered,
    /// The callee is found by the DNS, which names a dead server before.
    ByName,
    /// The session is changed in mid-call, and the callee thinks about it.
    Thoughtful,
    /// It is changed by an UPDATE.
    Updated,
    /// The callee loses its power in mid-call, and the caller waits to be told.
    Abandoned,
    /// Both lose it, and no phone knows of the call any more.
    Forgotten,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 25] = [
        Self::Plain,
        Self::CalleeEnds,
        Self::Forked,
        Self::Brief,
        Self::Serial,
        Self::SerialUnanswered,
        Self::Cancelled,
        Self::TimedOut,
        Self::Busy,
        Self::Declined,
        Self::Reinvited,
        Self::Pracked,
        Self::Referred,
        Self::LateOffer,
        Self::BehindNat,
        Self::Repeated,
        Self::GatewayFails,
        Self::GatewaySilent,
        Self::ForwardedBusy,
        Self::ForwardedUnanswered,
        Self::ByName,
        Self::Thoughtful,
        Self::Updated,
        Self::Abandoned,
        Self::Forgotten,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::CalleeEnds => "callee-ends",
            Self::Forked => "forked",
            Self::Brief => "brief",
            Self::Serial => "serial",
            Self::SerialUnanswered => "serial-unanswered",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Busy => "busy",
            Self::Declined => "declined",
            Self::Reinvited => "re-invite",
            Self::Pracked => "prack",
            Self::Referred => "refer",
            Self::LateOffer => "late-offer",
            Self::BehindNat => "nat",
            Self::Repeated => "repeated",
            Self::GatewayFails => "gateway",
            Self::GatewaySilent => "gateway-silent",
            Self::ForwardedBusy => "forwarded-busy",
            Self::ForwardedUnanswered => "forwarded-unanswered",
            Self::ByName => "by-name",
            Self::Thoughtful => "re-invite-slow",
            Self::Updated => "update",
            Self::Abandoned => "abandoned",
            Self::Forgotten => "forgotten",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A phone of a call.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) setup: Setup,
    pub(super) nat: Option<usize>,
    pub(super) answering: Answering,
    /// Whether it is an account's, which registers.
    pub(super) registers: bool,
}

/// What is played.
#[derive(Clone, Debug)]
pub(super) struct Play {
    /// The first one calls.
    pub(super) members: Vec<Member>,
    pub(super) order: CallOrder,
    /// When the caller's datagrams come again.
    pub(super) again_after: &'static [Duration],
    /// Whether what is told of the progress is repeated until it was heard.
    pub(super) is_progress_heard: bool,
    /// Whether a callee may hear of the call's end before it has the ACK.
    pub(super) may_end_unacknowledged: bool,
    /// The members that lose their power [`POWER_LASTS`] after they were in the call.
    pub(super) mortals: &'static [usize],
    /// How much later than undisturbed the call may end, because the node that takes over asks when it is its turn.
    pub(super) asked_late: Duration,
}

/// The number of the call; that of a transfer is the next one.
pub(super) const NUMBER: u32 = 1;
/// When all comes again that a repeating caller sends: soon, and after a takeover.
const AGAIN_AFTER: &[Duration] = &[Duration::from_millis(40), Duration::from_millis(620)];
/// How long a phone of a call that nobody ends has power.
pub(super) const POWER_LASTS: Duration = Duration::from_secs(3);
/// When the sides of such a call are asked whether they are there.
const CHECK: Duration = Duration::from_secs(20);
/// Asked up to a quarter of that later, and silent for 64·T1.
const CHECKED_IN: Duration = Duration::from_secs(20 + 5 + 32);
/// Long enough for a 200 to be repeated until its ACK arrives, of which one was lost with its node and one after it.
const HANG_UP_AFTER: Duration = Duration::from_secs(9);
/// The gateways, in their order.
const GATEWAYS: [SocketAddr; 2] = [at(198, 51, 100, 31), at(198, 51, 100, 32)];
/// How long a branch may ring.
const RING_TIMEOUT: Duration = Duration::from_secs(25);
/// The same where others are tried after it.
const SERIAL_RING_TIMEOUT: Duration = Duration::from_secs(10);

impl Play {
    pub(super) fn of(kind: Kind) -> Self {
        let answers =
            |seconds| Answering::of(Behaviour::Answer { status: 180, after: Duration::from_secs(seconds) });
        let refuses =
            |status| Answering::of(Behaviour::Refuse { status, after: Duration::from_millis(1_500) });
        let rings = Answering::of(Behaviour::Ring);
        let mut order = CallOrder::new(NUMBER, format!("sip:bob@{DOMAIN}"));
        order.hang_up_after = Some(HANG_UP_AFTER);
        let mut bobs = vec![(None, answers(2))];
        match kind {
            Kind::Plain | Kind::BehindNat | Kind::Repeated => {}
            Kind::CalleeEnds => {
                order.hang_up_after = None;
                bobs = vec![(None, Answering { hang_up_after: Some(HANG_UP_AFTER), ..answers(2) })];
            }
            Kind::Forked => bobs = vec![(None, rings.clone()), (None, answers(3)), (None, rings)],
            Kind::Brief => {
                order.hang_up_after = Some(Duration::from_millis(300));
                bobs = vec![(None, rings.clone()), (None, answers(3)), (None, rings)];
            }
            Kind::Serial => {
                bobs = vec![(Some("1.0"), refuses(480)), (Some("0.5"), answers(2)), (Some("0.2"), rings)];
            }
            Kind::SerialUnanswered => bobs = vec![(Some("1.0"), rings), (Some("0.5"), answers(2))],
            Kind::Cancelled => {
                order.cancel_after = Some(Duration::from_secs(3));
                bobs = vec![(None, rings.clone()), (None, rings)];
            }
            Kind::TimedOut => bobs = vec![(None, rings)],
            Kind::Busy => bobs = vec![(None, refuses(486))],
            Kind::Declined => bobs = vec![(None, rings.clone()), (None, refuses(603)), (None, rings)],
            Kind::Reinvited => order.reinvite_after = Some(Duration::from_secs(1)),
            Kind::Pracked => order.provisional = Provisional::Reliable,
            Kind::Referred => {
                let target = format!("sip:carol@{DOMAIN}");
                order.refer = Some(Refer { after: Duration::from_secs(1), target });
                order.hang_up_after = Some(HANG_UP_AFTER * 2);
            }
            Kind::LateOffer => order.offer = Offer::InAck,
            Kind::GatewayFails | Kind::GatewaySilent => {
                order.target = format!("sip:030123@{DOMAIN}");
                bobs.clear();
            }
            Kind::ForwardedBusy => bobs = vec![(None, refuses(486))],
            Kind::ForwardedUnanswered => bobs = vec![(None, rings)],
            Kind::ByName => {
                order.target = format!("sip:zoe@{FOREIGN_DOMAIN}");
                bobs.clear();
            }
            Kind::Thoughtful => {
                order.reinvite_after = Some(Duration::from_secs(1));
                let changes_after = Some(Duration::from_millis(1_200));
                bobs = vec![(None, Answering { changes_after, ..answers(2) })];
            }
            Kind::Updated => order.update_after = Some(Duration::from_secs(1)),
            Kind::Abandoned | Kind::Forgotten => order.hang_up_after = None,
        }
        let mortals: &[usize] = match kind {
            Kind::Abandoned => &[1],
            Kind::Forgotten => &[0, 1],
            _ => &[],
        };
        let nats = match kind {
            Kind::BehindNat => [Some(0), Some(1)],
            _ => [None, None],
        };
        let mut members = vec![member("alice", 1, nats[0], None, answers(2))];
        for (place, (q, answering)) in (2..).zip(bobs) {
            members.push(member("bob", place, nats[1], q, answering));
        }
        match kind {
            Kind::Referred | Kind::ForwardedBusy | Kind::ForwardedUnanswered => {
                members.push(member("carol", 9, None, None, answers(1)));
            }
            Kind::GatewayFails | Kind::GatewaySilent => {
                let first =
                    if kind == Kind::GatewayFails { refuses(503) } else { Answering::of(Behaviour::Silence) };
                members.push(stranger("gateway", GATEWAYS[0], DOMAIN, first));
                members.push(stranger("gateway", GATEWAYS[1], DOMAIN, answers(2)));
            }
            Kind::ByName => members.push(stranger("zoe", FOREIGNER, FOREIGN_DOMAIN, answers(2))),
            _ => {}
        }
        let again_after = if kind == Kind::Repeated { AGAIN_AFTER } else { &[] };
        Self {
            members,
            order,
            again_after,
            is_progress_heard: kind == Kind::Pracked,
            may_end_unacknowledged: kind == Kind::Brief,
            mortals,
            asked_late: if mortals.is_empty() { Duration::ZERO } else { CHECKED_IN },
        }
    }
}

/// Where calls to an account of this kind of call go if it does not take them.
pub(super) fn forwards(kind: Kind) -> Option<(&'static str, Forwards)> {
    let target = ForwardTarget::parse("carol", DOMAIN);
    let forwards = match kind {
        Kind::ForwardedBusy => Forwards { busy: target, ..Forwards::default() },
        Kind::ForwardedUnanswered => {
            let no_answer_after = Some(Duration::from_secs(6));
            Forwards { no_answer: target, no_answer_after, ..Forwards::default() }
        }
        _ => return None,
    };
    Some(("bob", forwards))
}

/// A phone that has no account here.
fn stranger(user: &str, local: SocketAddr, domain: &str, answering: Answering) -> Member {
    let mut member = member(user, 0, None, None, answering);
    member.setup.domain = domain.to_owned();
    member.setup.local = local;
    Member { registers: false, ..member }
}

fn member(
    user: &str,
    place: u8,
    nat: Option<usize>,
    q: Option<&'static str>,
    answering: Answering,
) -> Member {
    let local = match nat {
        Some(nat) => at(10, 1 + nat as u8, 0, place),
        None => at(198, 51, 100, place),
    };
    let setup = Setup {
        user: user.to_owned(),
        domain: DOMAIN.to_owned(),
        password: password_of(user),
        local,
        server: FIRST,
        transport: Transport::Udp,
        liked: vec![Algorithm::Md5],
        instance: false,
        strict: false,
        q,
        preloads: false,
        expires: Duration::from_secs(3_600),
    };
    Member { setup, nat, answering, registers: true }
}

/// The routers, of the two most usual kinds.
pub(super) fn nats() -> Vec<Nat> {
    let nat =
        |host, kinds| Nat::new(at(192, 0, 2, host).ip(), kinds, Refresh::FromInside, Duration::from_secs(60));
    vec![
        nat(1, (Dependence::EndpointIndependent, Dependence::AddressAndPortDependent)),
        nat(2, (Dependence::AddressAndPortDependent, Dependence::AddressAndPortDependent)),
    ]
}

/// What both nodes are set to.
pub(super) fn settings(kind: Kind) -> Arc<Settings> {
    let mut settings = crate::cast::defaults();
    settings.proxy.long_call_check = matches!(kind, Kind::Abandoned | Kind::Forgotten).then_some(CHECK);
    settings.timers = TIMERS;
    settings.nat.keepalive = Keepalive::Options;
    settings.nat.interval = Duration::from_secs(25);
    settings.proxy.ring_timeout = RING_TIMEOUT;
    settings.proxy.serial_ring_timeout = SERIAL_RING_TIMEOUT;
    let gateway = |(name, address)| crate::cast::gateway(name, address, Some(9), None);
    let gateways = [("first", GATEWAYS[0]), ("second", GATEWAYS[1])];
    settings.dial_plan = crate::cast::numbers_by(gateways.map(gateway).into());
    Arc::new(settings)
}

const fn at(a: u8, b: u8, c: u8, d: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), 5060)
}

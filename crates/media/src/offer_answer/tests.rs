//! Calls as they go, told message by message.

mod another_node;
mod by_others;
mod exchanges;
mod forks;
mod refusals;

use std::time::Duration;

use super::*;
use crate::body::Body;
use crate::latch::Wanted;

const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
const BRANCH: Branch = Branch(1);
const TAG: Tag = Tag(1);
const EARLY: Kind = Kind::Provisional { is_reliable: false };
const RELIABLE: Kind = Kind::Provisional { is_reliable: true };
const INVITE: Kind = Kind::Request(Method::Invite);
const UPDATE: Kind = Kind::Request(Method::Update);
const PRACK: Kind = Kind::Request(Method::Prack);
const OK: Kind = Kind::Accepted(Method::Invite);

/// A call with the relay between.
struct Relayed {
    call: Call,
    pool: Pool,
    now: Instant,
    out: Vec<Output>,
}

impl Relayed {
    fn new() -> Self {
        Self::with_ports(30_000, 30_999)
    }

    fn with_ports(first: u16, last: u16) -> Self {
        let face = |address: &str| Face { local: address.parse().unwrap(), named: address.parse().unwrap() };
        let faces = Faces { caller: face("192.0.2.1"), callee: face("2001:db8::1") };
        let terms = Terms { faces, broken: Broken::PassOn, origin: Origin::Kept };
        Self { call: Call::new(terms), pool: Pool::new(first, last, 7), now: NOW, out: Vec::new() }
    }

    fn refusing(mut self) -> Self {
        self.call.terms.broken = Broken::Refuse;
        self
    }

    fn tell(&mut self, from: Side, within: Within, kind: Kind, cseq: u32, body: &str) -> Verdict {
        self.out.clear();
        let source = match from {
            Side::Caller => "198.51.100.10",
            Side::Callee => "198.51.100.20",
        };
        let message = Message {
            kind,
            from,
            within,
            cseq,
            body: Body {
                content_type: (!body.is_empty()).then_some(&b"application/sdp"[..]),
                bytes: body.as_bytes(),
                ..Body::default()
            },
            source: source.parse().unwrap(),
            is_behind_nat: from == Side::Caller,
        };
        self.call.handle(self.now, &message, &mut self.pool, &mut self.out)
    }

    /// The role, and the ports that the other side is told.
    #[track_caller]
    fn told(&mut self, from: Side, within: Within, kind: Kind, cseq: u32, body: &str) -> (Role, Vec<u16>) {
        match self.tell(from, within, kind, cseq, body) {
            Verdict::Rewritten { role, body } => (role, ports_in(&body)),
            other => panic!("{other:?}"),
        }
    }

    fn caller(&mut self, kind: Kind, cseq: u32, body: &str) -> (Role, Vec<u16>) {
        self.told(Side::Caller, Within::Dialog(TAG), kind, cseq, body)
    }

    fn callee(&mut self, kind: Kind, cseq: u32, body: &str) -> (Role, Vec<u16>) {
        self.told(Side::Callee, Within::Dialog(TAG), kind, cseq, body)
    }

    fn first_invite(&mut self, body: &str) -> (Role, Vec<u16>) {
        self.told(Side::Caller, Within::Branch(BRANCH), INVITE, 1, body)
    }

    fn response(&mut self, kind: Kind, body: &str) -> (Role, Vec<u16>) {
        self.told(Side::Callee, Within::Fork(BRANCH, TAG), kind, 1, body)
    }

    /// A call that is up: what was told to callee and caller.
    fn established(&mut self) -> (Vec<u16>, Vec<u16>) {
        let (_, to_callee) = self.first_invite(&sdp(&[5_000]));
        let (_, to_caller) = self.response(OK, &sdp(&[6_000]));
        assert_eq!(self.tell(Side::Caller, Within::Dialog(TAG), Kind::Ack, 1, ""), Verdict::NoDescription);
        self.call.handle_branch_ended(self.now, BRANCH, &mut self.pool, &mut self.out);
        (to_callee, to_caller)
    }

    /// Where the only stream of a dialog sends for each side.
    fn wanted(&self, tag: Tag) -> Option<(Wanted, Wanted)> {
        let streams = self.call.streams();
        let plan = streams.get(&StreamId { dialog: tag, line: 0, pair: 0 })?;
        Some((plan.caller.media.wanted, plan.callee.media.wanted))
    }

    fn used(&self) -> usize {
        self.pool.held()
    }
}

/// A description with media lines at these ports of `10.0.0.9`.
fn sdp(ports: &[u16]) -> String {
    let lines: String = ports.iter().map(|port| format!("m=audio {port} RTP/AVP 0\r\n")).collect();
    format!("v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n{lines}")
}

fn at(port: u16) -> Wanted {
    Wanted::At(format!("10.0.0.9:{port}").parse().unwrap())
}

fn ports_in(body: &[u8]) -> Vec<u16> {
    Description::read(body).unwrap().media().iter().map(crate::sdp::Media::port).collect()
}

//! One node or two whose calls pass rtpengines, which the test plays.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::copies::{self, Entry, Replica};
use engine::{CallHolding, Output, QuestionToken, RelaySettings, Shard};
use lease::{Epoch, LeaseMirror};
use media::ng::{Ask, Command, Failure, Reply};
use media::offer_answer::{Broken, Face};
use media::ports::PortRange;
use media::sdp::Origin;
use replica::{Capsule, Kind, Place, Posted};
use routing::{Anchoring, Answer, Located, Target, Token};
use sip::Aor;

use crate::call::*;

pub type Asked = Ask<QuestionToken>;

pub const SILENCE: Duration = Duration::from_secs(40);

pub const ONE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 2223);
pub const TWO: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 8)), 2223);

pub struct World {
    pub now: Now,
    pub epoch: u64,
    pub nodes: Vec<(Shard, CallHolding)>,
    pub acts: usize,
    pub is_pair: bool,
    pub told: Told,
    pub asked: Vec<Asked>,
    pub last_invite: Bytes,
    /// What left only when the other node held its call.
    pub held: Vec<Bytes>,
    /// What partitions were asked.
    pub tokens: Vec<Token>,
}

#[derive(Default)]
pub struct Told {
    pub capsules: BTreeMap<(u8, Bytes), Capsule>,
    pub places: BTreeMap<(u8, Bytes), Place>,
}

impl Replica for &mut Told {
    fn put(&mut self, capsule: Capsule, place: Place) -> Posted {
        let key = (capsule.kind.0, capsule.key.clone());
        self.places.insert(key.clone(), place);
        self.capsules.insert(key, capsule);
        Posted::nowhere()
    }

    fn remove(&mut self, kind: Kind, key: &[u8]) -> Posted {
        let key = (kind.0, Bytes::copy_from_slice(key));
        self.capsules.remove(&key);
        self.places.remove(&key);
        Posted::nowhere()
    }

    fn everything(&mut self) -> Posted {
        Posted::nowhere()
    }
}

impl World {
    pub fn new(broken: Broken) -> Self {
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        let face = Face {
            local: "192.0.2.1".parse().expect("an address"),
            named: "192.0.2.1".parse().expect("an address"),
        };
        let settings = Arc::new(RelaySettings {
            ports: PortRange::new(30_000, 39_999),
            faces: vec![face],
            broken,
            origin: Origin::Kept,
            is_elsewhere: true,
            silence: Some(SILENCE),
        });
        let node = |_| {
            let mut shard = shard(Anchoring::Always);
            shard.set_relay(now.instant, Some(Arc::clone(&settings)));
            (shard, CallHolding::new(0))
        };
        Self {
            now,
            epoch: 3,
            nodes: (0..2).map(node).collect(),
            acts: 0,
            is_pair: false,
            told: Told::default(),
            asked: Vec::new(),
            last_invite: Bytes::new(),
            held: Vec::new(),
            tokens: Vec::new(),
        }
    }

    pub fn pair() -> Self {
        let mut world = Self { is_pair: true, ..Self::new(Broken::PassOn) };
        for (shard, _) in &mut world.nodes {
            shard.note_changes();
            shard.stand_by(world.now);
        }
        world
    }

    pub fn shard(&self) -> &Shard {
        &self.nodes[self.acts].0
    }

    /// An INVITE that has left.
    pub fn begin(&mut self) -> Bytes {
        self.receive(CALLER, &invite("call-1"));
        let offer = self.sole_question();
        self.last_invite = sole(self.answer(&offer, ONE, done(4_000)));
        self.last_invite.clone()
    }

    /// A call that is up.
    pub fn established(&mut self) -> Bytes {
        let forwarded = self.begin();
        self.receive(CALLEE, &response(&forwarded, "200 OK", "b", ANSWER));
        let answer = self.sole_question();
        assert_eq!(self.answer(&answer, ONE, done(4_002)).len(), 1);
        self.receive(CALLER, &within("ACK", 1, &forwarded, ""));
        forwarded
    }

    pub fn receive(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.step(|shard, now, lease, out| {
            shard.handle_message(now, lease, source(from), text.as_bytes(), out)
        })
    }

    pub fn answer(&mut self, asked: &Asked, node: SocketAddr, reply: Reply) -> Vec<Sent> {
        self.reply(asked, Some(node), Ok(reply))
    }

    pub fn reply(
        &mut self,
        asked: &Asked,
        node: Option<SocketAddr>,
        result: Result<Reply, Failure>,
    ) -> Vec<Sent> {
        let token = asked.waiter.expect("somebody waits");
        self.step(|shard, now, lease, out| shard.handle_relay_reply(now, lease, token, node, result, out))
    }

    /// A partition says where an address of record is.
    pub fn locate(&mut self, contacts: &[&str]) -> Vec<Sent> {
        let token = self.tokens.pop().expect("somebody is looked for");
        let located = Located::Targets(contacts.iter().map(|contact| target(contact)).collect());
        self.step(|shard, now, lease, out| {
            shard.handle_answer(now, lease, token, Answer::Located(located), out)
        })
    }

    pub fn pass(&mut self, time: Duration) -> Vec<Sent> {
        self.now = Now::new(self.now.instant + time, self.now.wall + time);
        self.step(|shard, now, lease, out| shard.handle_timeout(now, lease, out))
    }

    /// What leaves, but for 100; the other node holds at once what it is told.
    pub fn step(
        &mut self,
        act: impl FnOnce(&mut Shard, Now, &lease::ActiveLease<'_>, &mut Vec<Output>),
    ) -> Vec<Sent> {
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(self.epoch));
        let lease = mirror.active(self.now.instant).expect("it is far from its end");
        let (shard, holding) = &mut self.nodes[self.acts];
        let (mut out, mut waits) = (Vec::new(), Vec::new());
        act(shard, self.now, &lease, &mut out);
        if self.is_pair {
            copies::post_calls(self.now, shard, holding, &mut &mut self.told, &mut out, &mut waits);
        }
        shard.take_relay_questions(&mut self.asked);
        let mut orders = Vec::new();
        shard.take_relay_orders(&mut orders);
        assert!(orders.is_empty(), "no port is bound here: {orders:?}");
        let mut sent = Vec::new();
        for output in out {
            match output {
                Output::Send { to, message, .. } => sent.push((to, message)),
                Output::Ask { token, .. } => self.tokens.push(token),
                _ => {}
            }
        }
        for (ticket, _) in waits {
            let (messages, _) = holding.handle_settled(ticket);
            self.held.extend(messages.iter().map(|(_, message, _)| message.clone()));
            sent.extend(messages.into_iter().map(|(to, message, _)| (to, message)));
        }
        without_100(sent)
    }

    /// Time passes until it is asked how the only call does; gives what leaves because of the answer.
    pub fn look(&mut self, result: Result<Reply, Failure>) -> Vec<Sent> {
        self.pass(SILENCE / 4);
        let query = self.sole_question();
        assert!(matches!(query.command, Command::Query { .. }) && query.node == Some(ONE));
        self.reply(&query, Some(ONE), result)
    }

    pub fn questions(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.asked)
    }

    #[track_caller]
    pub fn sole_question(&mut self) -> Asked {
        let mut asked = self.questions();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    pub fn copy_to_standby(&mut self) {
        let shard = &mut self.nodes[1 - self.acts].0;
        for (key, capsule) in &self.told.capsules {
            let place = match copies::read(self.now, capsule.clone()).expect("it can be read") {
                Entry::Call(call) => copies::apply_call(self.now, shard, 0, call),
                Entry::Dialog(dialog) => copies::apply_dialog(self.now, shard, 0, &dialog),
                Entry::Media(media) => copies::apply_media(self.now, shard, 0, &media),
                _ => unreachable!("it is of a call"),
            };
            assert_eq!(place, Some(self.told.places[key]));
        }
    }

    /// The active node dies, and the other one takes over.
    pub fn fail_over(&mut self) -> Vec<Sent> {
        self.copy_to_standby();
        let (dead, holding) = &mut self.nodes[self.acts];
        dead.stand_by(self.now);
        holding.stand_by();
        self.acts = 1 - self.acts;
        self.epoch += 2;
        let sent = self.pass(Duration::from_millis(1));
        assert_eq!(self.shard().counts().media.not_taken_over, 0);
        sent
    }

    /// The active node loses the lease and gets it back.
    pub fn stand_by_and_return(&mut self) {
        let now = self.now;
        self.nodes[self.acts].0.stand_by(now);
        self.epoch += 2;
        self.pass(Duration::from_millis(1));
    }
}

pub fn described(asked: &Asked) -> &media::ng::Described {
    match &asked.command {
        Command::Offer(described) | Command::Answer(described) => described,
        other => unreachable!("{other:?}"),
    }
}

/// How many packets it has counted.
pub fn counted(packets: u64) -> Result<Reply, Failure> {
    Ok(Reply::Done { sdp: None, packets: Some(packets) })
}

/// What an rtpengine would say: its address and a port.
pub fn done(port: u16) -> Reply {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 203.0.113.77\r\ns=-\r\nc=IN IP4 203.0.113.77\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
    );
    Reply::Done { sdp: Some(sdp.into()), packets: None }
}

fn target(contact: &str) -> Target {
    Target {
        aor: Aor::parse("bob@example.org").expect("an address of record"),
        contact: Bytes::copy_from_slice(contact.as_bytes()),
        path: Vec::new(),
        flow: None,
        listener: None,
        nat: false,
        q: 1_000,
        instance: None,
        reg_id: None,
    }
}

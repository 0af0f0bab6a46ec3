//! A whole engine without a world around it: a shard, a partition, a store that replies at once and a DNS that knows
//! every name.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::{Asker, Loaded, Output, Partition, PartitionOutput, Shard, ShardCounts};
use keys::RootKey;
use lease::{ActiveLease, LeaseMirror};
use routing::overload::Rejection;
use routing::{Account, Keyring, Settings, TrustedPeer};
use sip::Message;
use transport::selection::{Query, Records};
use transport::{
    Destination, Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport,
};

/// Where the names of other domains lead.
pub const ELSEWHERE: &str = "203.0.113.50:5060";

/// The engine with what it has sent.
pub struct Engine {
    shard: Shard,
    partition: Partition,
    mirror: LeaseMirror,
    /// All that was sent for the last message.
    pub sent: Vec<(Destination, Bytes)>,
}

impl Engine {
    /// An engine that believes who sends from `trusted`, if anybody does, and serves these domains.
    pub fn new(trusted: Option<IpAddr>, domains: &[&str]) -> Self {
        let settings = Arc::new(settings(trusted, domains));
        let keyring = Keyring::derive(&RootKey::new([5; 32]));
        Self {
            shard: Shard::new(settings.clone(), keyring.clone(), 0, 1),
            partition: Partition::new(settings, keyring, 0),
            mirror: LeaseMirror::permanent(),
            sent: Vec::new(),
        }
    }

    /// Gives it a message.
    pub fn receive(&mut self, source: Source, bytes: &[u8]) {
        self.act(|shard, lease, out| shard.handle_message(now(), lease, source, bytes, out));
    }

    /// Tells it of an error of the network that quotes the beginning of a datagram.
    #[allow(dead_code, reason = "not every test that includes this file sends errors")]
    pub fn refuse(&mut self, flow: Flow, quote: &[u8]) {
        self.act(|shard, lease, out| shard.handle_refused(now(), lease, flow, quote, out));
    }

    /// Lets it refuse a message because more comes than can be handled; all that is sent for it is in `sent` then.
    #[allow(dead_code, reason = "not every test that includes this file is about overload")]
    pub fn turn_away(&mut self, source: Source, bytes: &[u8], rejection: Rejection) {
        self.act(|shard, lease, out| shard.turn_away(now(), lease, source, bytes, rejection, out));
    }

    fn act(&mut self, act: impl FnOnce(&mut Shard, &ActiveLease<'_>, &mut Vec<Output>)) {
        let lease = self.mirror.active(now().instant).expect("a permanent lease");
        let mut out = Vec::new();
        self.sent.clear();
        act(&mut self.shard, &lease, &mut out);
        let mut work = VecDeque::from(out);
        while let Some(output) = work.pop_front() {
            let mut out = Vec::new();
            match output {
                Output::Send { to, message, .. } => self.sent.push((to, message)),
                Output::FindElsewhere { .. } => unreachable!("no table is shared"),
                Output::Resolve { token, query } => {
                    let records = match query {
                        Query::Naptr(_) | Query::Srv(_) => Records::None,
                        Query::Addresses(_) => {
                            let address: SocketAddr = ELSEWHERE.parse().expect("an address");
                            Records::Addresses(vec![address.ip()])
                        }
                    };
                    self.shard.handle_resolved(now(), &lease, token, records, &mut out);
                }
                Output::Ask { token, question, .. } => {
                    let mut answers = Vec::new();
                    let asker = Asker { shard: 0, token };
                    self.partition.handle_question(now(), &lease, asker, question, &mut answers);
                    let mut answers = VecDeque::from(answers);
                    while let Some(answer) = answers.pop_front() {
                        match answer {
                            PartitionOutput::Answer { asker, answer } => {
                                self.shard.handle_answer(now(), &lease, asker.token, answer, &mut out);
                            }
                            PartitionOutput::LoadAccount(aor) => {
                                let account = Account {
                                    aor: aor.clone(),
                                    ha1: vec![],
                                    aliases: vec![],
                                    may_use: vec![],
                                    calls: Default::default(),
                                };
                                let (loaded, mut more) = (Loaded::Found(Arc::new(account)), Vec::new());
                                self.partition.handle_account(now(), &lease, &aor, loaded, &mut more);
                                answers.extend(more);
                            }
                            PartitionOutput::Save(_)
                            | PartitionOutput::Send { .. }
                            | PartitionOutput::Report(_) => {}
                        }
                    }
                }
                Output::SendWhenHeld { .. } => unreachable!("there is no other node"),
                Output::Publish(_)
                | Output::KeepaliveAnswered(_)
                | Output::Report(_)
                | Output::Settled(_)
                | Output::Record(_)
                | Output::ProbeAnswered(..)
                | Output::GatewayOutcome(..) => {}
            }
            work.extend(out);
        }
    }

    /// What it holds.
    pub fn held(&self) -> ShardCounts {
        self.shard.counts()
    }

    /// The statuses that were sent back to `source`, but 100; fails for any other response.
    pub fn statuses(&self, source: &Source) -> Vec<u16> {
        let responses = self.sent.iter().filter_map(|(to, bytes)| {
            let (response, _) = Message::parse_lenient(bytes).expect("what is sent is SIP");
            let status = response.status()?;
            assert_eq!(to.remote().0.ip(), source.flow.remote().0.ip(), "a response to a third host");
            assert_eq!(to.listener(), source.flow.listener(), "a response by another listener");
            Some(status.0)
        });
        responses.filter(|&status| status != 100).collect()
    }

    /// The requests that were sent on.
    pub fn forwarded(&self) -> Vec<Bytes> {
        let is_request =
            |bytes: &Bytes| Message::parse_lenient(bytes).is_ok_and(|(message, _)| message.is_request());
        self.sent.iter().map(|(_, bytes)| bytes.clone()).filter(is_request).collect()
    }
}

/// A datagram from this address.
pub fn datagram(remote: SocketAddr) -> Source {
    let listener = ListenerId(if remote.is_ipv4() { 0 } else { 1 });
    Source { flow: Flow::Datagram { listener, remote: RemoteAddr(remote) }, transport: Transport::Udp }
}

fn now() -> Now {
    Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000))
}

fn settings(trusted: Option<IpAddr>, domains: &[&str]) -> Settings {
    let listener = |id, local: &str| Listener {
        id: ListenerId(id),
        transport: Transport::Udp,
        local: LocalAddr(local.parse().expect("an address")),
        advertise: None,
        digest: true,
    };
    let tcp = Listener { transport: Transport::Tcp, ..listener(2, "192.0.2.1:5060") };
    let listeners = vec![listener(0, "192.0.2.1:5060"), listener(1, "[2001:db8::1]:5060"), tcp];
    Settings {
        listeners: Arc::new(Listeners::new(listeners)),
        domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
        trusted: trusted
            .map(|address| TrustedPeer { network: address.into(), name: "peer".to_owned() })
            .into_iter()
            .collect(),
        ..Settings::default()
    }
}

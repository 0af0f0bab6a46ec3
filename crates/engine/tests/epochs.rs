//! A shard whose node is active, is not, and is again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::{Output, Readiness, Shard};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use routing::{Keyring, Settings, TrustedPeer};
use sip::Message;
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

#[path = "testbed/settings.rs"]
mod testbed;

#[test]
fn a_request_under_way_is_repeated_in_its_epoch_though_the_lease_was_away_meanwhile() {
    let mut world = World::new();
    world.forward();

    let repeated = world.pass(3, Duration::from_secs(2));

    assert!(repeated > 0);
    assert_eq!(world.shard.counts().clients, 1);
}

/// Nobody said "stand by": the message was late, or the guardian hung.
#[test]
fn in_another_epoch_nothing_of_the_one_before_is_repeated_or_answered() {
    let mut world = World::new();
    let request = world.forward();

    assert_eq!(world.pass(5, Duration::from_secs(40)), 0);
    let counts = world.shard.counts();
    assert_eq!((counts.servers, counts.clients, counts.contexts, counts.suspended), (0, 0, 0, 0));
    // For 32 seconds what a node before this one has sent is answered by the response alone.
    assert_eq!(world.pass(5, Duration::from_secs(33)), 0);
    assert_eq!(world.receive(5, CALLEE, &ok(&request)), [] as [Bytes; 0], "a stray");
}

#[test]
fn what_is_under_way_goes_on_when_its_holder_raises_the_epoch() {
    let mut world = World::new();
    let request = world.forward();

    world.raise(5);

    assert!(world.pass(5, Duration::from_secs(2)) > 0, "it is repeated");
    assert_eq!(world.receive(5, CALLEE, &ok(&request)).len(), 1, "it is answered");
}

#[test]
fn a_shard_that_stands_by_has_no_deadline_and_answers_from_the_request_alone() {
    let mut world = World::new();
    world.forward();
    world.shard.stand_by(world.now);
    assert_eq!(world.shard.poll_timeout(), None);

    let mut out = Vec::new();
    let request = options("sip:192.0.2.1:5060", "probe");
    for _ in 0..2 {
        world.shard.handle_as_standby(
            world.now,
            source(PEER),
            request.as_bytes(),
            Readiness::Ready,
            &mut out,
        );
    }
    world.shard.handle_as_standby(world.now, source(PEER), b"SIP/2.0 rubbish", Readiness::Ready, &mut out);

    let sent = messages(out);
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|message| message.starts_with(b"SIP/2.0 200 ")));
    assert_eq!(sent[0], sent[1]);
    assert_eq!((world.shard.counts().servers, world.shard.poll_timeout()), (0, None));
}

const PEER: &str = "198.51.100.66:5060";
const CALLEE: &str = "198.51.100.77:5060";

struct World {
    shard: Shard,
    now: Now,
    /// Under which epoch the node became active, if it has raised its epoch since.
    since: Option<Epoch>,
}

impl World {
    fn new() -> Self {
        let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
        Self { shard: shard(), now, since: None }
    }

    /// Lets a request be forwarded in epoch 3, which nobody answers; gives it as it left.
    fn forward(&mut self) -> Bytes {
        let sent = self.receive(3, PEER, &options(&format!("sip:bob@{CALLEE}"), "a"));
        assert_eq!(self.shard.counts().clients, 1);
        sent.into_iter().find(|message| message.starts_with(b"OPTIONS ")).expect("it is forwarded")
    }

    /// The node that acts in epoch 3 has this one from here on, and was active all the time.
    fn raise(&mut self, epoch: u64) {
        assert!(epoch > 3);
        self.since = Some(Epoch(3));
    }

    fn mirror(&self, epoch: u64) -> LeaseMirror {
        let mirror = LeaseMirror::until(Instant::FAR, Epoch(epoch));
        self.since.map_or(mirror, |since| mirror.held_since(since))
    }

    fn receive(&mut self, epoch: u64, from: &str, text: &str) -> Vec<Bytes> {
        let mirror = self.mirror(epoch);
        let lease = mirror.active(self.now.instant).expect("it is far from its end");
        let mut out = Vec::new();
        self.shard.handle_message(self.now, &lease, source(from), text.as_bytes(), &mut out);
        messages(out)
    }

    /// Time passes without the lease, and then it is here in this epoch; how many messages leave.
    fn pass(&mut self, epoch: u64, time: Duration) -> usize {
        self.now = Now::new(self.now.instant + time, self.now.wall + time);
        let mirror = self.mirror(epoch);
        let lease = mirror.active(self.now.instant).expect("it is far from its end");
        let mut out = Vec::new();
        self.shard.handle_timeout(self.now, &lease, &mut out);
        messages(out).len()
    }
}

fn messages(out: Vec<Output>) -> Vec<Bytes> {
    let message = |output| match output {
        Output::Send { message, .. } => Some(message),
        _ => None,
    };
    out.into_iter().filter_map(message).collect()
}

fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().expect("an address"));
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

fn options(uri: &str, name: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};rport;branch=z9hG4bK{name}\r\n\
         From: <sip:peer@{PEER}>;tag=f\r\nTo: <{uri}>\r\nCall-ID: {name}\r\nCSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The 200 of who got the request.
fn ok(request: &Bytes) -> String {
    let message = Message::parse(request).expect("a request");
    assert!(message.is_request());
    let text = String::from_utf8(request.to_vec()).expect("it is text");
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = text.lines().filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let lines: Vec<String> = lines.map(|line| format!("{line}\r\n")).collect();
    format!("SIP/2.0 200 OK\r\n{}Content-Length: 0\r\n\r\n", lines.concat())
}

fn shard() -> Shard {
    let trusted =
        TrustedPeer { network: "198.51.100.66/32".parse().expect("a network"), name: "peer".to_owned() };
    let settings = Settings { trusted: vec![trusted], ..testbed::settings() };
    Shard::new(Arc::new(settings), Keyring::derive(&RootKey::new([5; 32])), 0, 1)
}

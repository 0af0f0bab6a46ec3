//! What a takeover costs with many ringing calls in one shard: how long its steps take until all are gone on with.
//!
//! `cargo run --release -p engine --example takeover_cost`

#![expect(clippy::unwrap_used, reason = "a measurement may stop at the first surprise")]

use std::sync::Arc;
use std::time::{Duration, Instant as Watch};

use bytes::Bytes;
use clock::{Instant, Now, WallTime};
use engine::copies::{self, Entry, Replica};
use engine::{CallHolding, Output, Shard};
use keys::RootKey;
use lease::{ActiveLease, Epoch, LeaseMirror};
use replica::{Capsule, Kind, Place, Posted};
use routing::{Keyring, Settings, TrustedPeer};
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

#[path = "../tests/testbed/settings.rs"]
mod testbed;

const SIZES: [u32; 3] = [100, 1_000, 5_000];
const CALLER: &str = "198.51.100.66:5060";
const CALLEE: &str = "198.51.100.77:5060";

fn main() {
    println!(
        "{:>7}  {:>10}  {:>10}  {:>10}  {:>10}  {:>7}  {:>12}",
        "calls", "bytes each", "told us", "taken us", "first ms", "steps", "longest ms"
    );
    for size in SIZES {
        measure(size);
    }
}

fn measure(calls: u32) {
    let now = Now::new(Instant::START, WallTime::from_millis(1_700_000_000_000));
    let (mut active, mut standby) = (shard(), shard());
    for shard in [&mut active, &mut standby] {
        shard.note_changes();
        shard.stand_by(now);
    }
    let mut told = Told(Vec::new());
    let mut holding = CallHolding::new(0);
    let watch = Watch::now();
    for number in 0..calls {
        let out = under_lease(now, 3, |lease, out| {
            active.handle_message(now, lease, source(CALLER), invite(number).as_bytes(), out);
            copies::post_calls(now, &mut active, &mut holding, &mut &mut told, out, &mut Vec::new());
        });
        let is_invite = |output: &Output| matches!(output, Output::Send { message, .. } if message.starts_with(b"INVITE"));
        let Some(Output::Send { message, .. }) = out.into_iter().find(is_invite) else {
            unreachable!("no INVITE left")
        };
        under_lease(now, 3, |lease, out| {
            active.handle_message(now, lease, source(CALLEE), ringing(&message).as_bytes(), out);
            // Only the last state of a call is taken below.
            told.0.pop();
            copies::post_calls(now, &mut active, &mut holding, &mut &mut told, out, &mut Vec::new());
        });
    }
    let telling = watch.elapsed();
    let bytes: usize = told.0.iter().map(|capsule| capsule.bytes.len()).sum();
    let watch = Watch::now();
    for capsule in told.0 {
        let Ok(Entry::Call(call)) = copies::read(now, capsule) else { unreachable!("it is no call") };
        copies::apply_call(now, &mut standby, 0, call).unwrap();
    }
    let taking = watch.elapsed();

    let (mut steps, mut first, mut longest) = (0, Duration::ZERO, Duration::ZERO);
    while steps == 0 || standby.counts().inherited > 0 {
        let watch = Watch::now();
        let out = under_lease(now, 5, |lease, out| standby.handle_timeout(now, lease, out));
        let took = watch.elapsed();
        drop(out);
        first = if steps == 0 { took } else { first };
        (steps, longest) = (steps + 1, longest.max(took));
    }
    assert_eq!(standby.counts().contexts, calls as usize);
    println!(
        "{calls:>7}  {:>10}  {:>10.1}  {:>10.1}  {:>10.1}  {steps:>7}  {:>12.1}",
        bytes / calls as usize,
        telling.as_secs_f64() * 1e6 / f64::from(calls),
        taking.as_secs_f64() * 1e6 / f64::from(calls),
        first.as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3,
    );
}

fn under_lease(now: Now, epoch: u64, act: impl FnOnce(&ActiveLease<'_>, &mut Vec<Output>)) -> Vec<Output> {
    let mirror = LeaseMirror::until(Instant::FAR, Epoch(epoch));
    let mut out = Vec::new();
    act(&mirror.active(now.instant).unwrap(), &mut out);
    out
}

/// What was told.
struct Told(Vec<Capsule>);

impl Replica for &mut Told {
    fn put(&mut self, capsule: Capsule, _: Place) -> Posted {
        self.0.push(capsule);
        Posted::nowhere()
    }

    fn remove(&mut self, _: Kind, _: &[u8]) -> Posted {
        Posted::nowhere()
    }

    fn everything(&mut self) -> Posted {
        Posted::nowhere()
    }
}

fn shard() -> Shard {
    let trusted = TrustedPeer { network: "198.51.100.66/32".parse().unwrap(), name: "peer".to_owned() };
    let settings = Settings { trusted: vec![trusted], ..testbed::settings() };
    Shard::new(Arc::new(settings), Keyring::derive(&RootKey::new([5; 32])), 0, 1)
}

fn source(remote: &str) -> Source {
    let remote = RemoteAddr(remote.parse().unwrap());
    Source { flow: Flow::Datagram { listener: ListenerId(0), remote }, transport: Transport::Udp }
}

fn invite(number: u32) -> String {
    let body = format!(
        "v=0\r\no=- {number} 1 IN IP4 198.51.100.66\r\ns=-\r\nc=IN IP4 198.51.100.66\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP 8 0 101\r\n{}a=rtpmap:101 telephone-event/8000\r\n",
        "a=rtpmap:8 PCMA/8000\r\n".repeat(10)
    );
    format!(
        "INVITE sip:bob@{CALLEE} SIP/2.0\r\nVia: SIP/2.0/UDP {CALLER};rport;branch=z9hG4bKcall{number}\r\n\
         From: <sip:peer@{CALLER}>;tag=f{number}\r\nTo: <sip:bob@{CALLEE}>\r\nCall-ID: call-{number}@198.51.100.66\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:peer@{CALLER}>\r\nMax-Forwards: 70\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, REFER, NOTIFY\r\nUser-Agent: a phone of some maker\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ringing(request: &Bytes) -> String {
    let text = str::from_utf8(request).unwrap();
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:", "Record-Route:"];
    let lines: String = text
        .lines()
        .filter(|line| copied.iter().any(|name| line.starts_with(name)))
        .map(|line| if line.starts_with("To:") { format!("{line};tag=b\r\n") } else { format!("{line}\r\n") })
        .collect();
    format!("SIP/2.0 180 Ringing\r\n{lines}Contact: <sip:bob@{CALLEE}>\r\nContent-Length: 0\r\n\r\n")
}

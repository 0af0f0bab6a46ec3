//! What strangers cost: `cargo run --release -p engine --example stranger_cost`.
//!
//! The time for one packet of a banned source, of a slowed one, of somebody else while others are held; for learning
//! what a stranger did; and for the stateless 401 that an unproven REGISTER gets. Without sockets.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use clock::{Instant, Now, WallTime};
use engine::{Report, Shard};
use keys::RootKey;
use lease::LeaseMirror;
use routing::Keyring;
use routing::bans::{Bans, Deed};
use transport::{Flow, ListenerId, RemoteAddr, Source, Transport};

#[path = "../tests/testbed/settings.rs"]
mod testbed;

const ROUNDS: u32 = 1_000_000;
/// Sources that are banned besides.
const BANNED: u32 = 10_000;

fn main() {
    let settings = Arc::new(testbed::settings());
    let keyring = Keyring::derive(&RootKey::new([1; 32]));
    let mut bans = Bans::new(Arc::clone(&settings), &keyring);
    let now = Instant::START + Duration::from_secs(1);
    for number in 0..BANNED {
        let address = Ipv4Addr::from(0x0a00_0000 + number).into();
        bans.ban(now, address, Duration::from_secs(3_600)).expect("it is not excepted");
    }
    let mut begun = Vec::new();
    for _ in 0..2_000 {
        bans.handle_report(now, &Report::of(datagram(0xc0a8_0001), Deed::Unproven), &mut begun);
    }

    measure("a packet of a banned source is dropped", |_| {
        black_box(bans.judge(now, &datagram(0x0a00_0007)));
    });
    measure("a packet of a slowed source is dropped", |_| {
        black_box(bans.judge(now, &datagram(0xc0a8_0001)));
    });
    measure("a packet of somebody else passes while others are held", |_| {
        black_box(bans.judge(now, &datagram(0xc633_6401)));
    });
    measure("it is learnt that a source proved nothing", |_| {
        bans.handle_report(now, &Report::of(datagram(0xc633_6402), Deed::Unproven), &mut begun);
    });
    measure("the same of ever another source", |round| {
        bans.handle_report(now, &Report::of(datagram(round), Deed::Unproven), &mut begun);
    });
    measure("a phone is as good as it was", |_| {
        black_box(bans.is_news(now, &Report::shown(datagram(0xc633_6403), Deed::Answered)));
    });

    let mut shard = Shard::new(settings, keyring, 0, 1);
    let mirror = LeaseMirror::permanent();
    let lease = mirror.active(now).expect("a permanent lease");
    let now = Now::new(now, WallTime::from_millis(1_700_000_000_000));
    let source = Source { flow: datagram(0xc633_6404), transport: Transport::Udp };
    let mut out = Vec::new();
    measure("an unproven REGISTER gets its 401", |round| {
        out.clear();
        shard.handle_message(now, &lease, source, register(round).as_bytes(), &mut out);
        black_box(&out);
    });
}

fn measure(what: &str, mut act: impl FnMut(u32)) {
    let begun = Clock::now();
    for round in 0..ROUNDS {
        act(round);
    }
    let nanoseconds = begun.elapsed().as_nanos() / u128::from(ROUNDS);
    println!("{nanoseconds:6} ns  {what}");
}

fn datagram(address: u32) -> Flow {
    let remote = RemoteAddr(SocketAddr::from((Ipv4Addr::from(address), 5060)));
    Flow::Datagram { listener: ListenerId(0), remote }
}

fn register(number: u32) -> String {
    format!(
        "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.4;rport;branch=z9hG4bK{number}\r\n\
         From: <sip:alice@example.org>;tag=f\r\nTo: <sip:alice@example.org>\r\nCall-ID: c{number}\r\n\
         CSeq: 1 REGISTER\r\nContact: <sip:alice@198.51.100.4>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
}

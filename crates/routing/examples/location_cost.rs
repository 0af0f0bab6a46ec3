//! What bindings cost: bytes each, and nanoseconds for each request, at several sizes.
//!
//! `cargo run --release -p routing --example location_cost`

#![expect(clippy::unwrap_used, reason = "a measurement may stop at the first surprise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use clock::{Now, WallTime};
use lease::LeaseMirror;
use routing::account::{Asker, Output};
use routing::{
    AccountPartition, Authority, ContactUpdate, Contacts, Keyring, Question, Register, Settings, Token,
};
use sip::Aor;
use transport::{Flow, Listener, ListenerId, Listeners, LocalAddr, RemoteAddr, Source, Transport};

const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
/// As many as are received at once.
const BATCH: usize = 16;
const LISTENER: ListenerId = ListenerId(0);

struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only a number is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        USED.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What glibc takes for a block: 8 bytes of its own, in steps of 16, at least 32.
fn rounded(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    println!(
        "{:>9}  {:>14}  {:>9}  {:>9}  {:>9}",
        "bindings", "bytes each", "first ns", "again ns", "locate ns"
    );
    for size in SIZES {
        measure(size);
    }
}

fn measure(size: u32) {
    let before = USED.load(Ordering::Relaxed);
    let keyring = Keyring::derive(&keys::RootKey::new([1; 32]));
    let mut partition = AccountPartition::new(Arc::new(settings()), keyring, 0);
    let first = register_all(&mut partition, size, 1);
    let bytes = (USED.load(Ordering::Relaxed) - before) / size as usize;
    let again = register_all(&mut partition, size, 2);
    let locate = time(&mut partition, size, |number| Question::Locate(aor(number)));
    println!("{size:>9}  {bytes:>14}  {first:>9}  {again:>9}  {locate:>9}");
}

fn register_all(partition: &mut AccountPartition, size: u32, cseq: u32) -> u128 {
    time(partition, size, |number| Question::Register(Box::new(register(number, cseq))))
}

/// Nanoseconds for each question, without the making of it; the median of thousands, so that what else the machine
/// does counts little.
fn time(partition: &mut AccountPartition, size: u32, question: impl Fn(u32) -> Question) -> u128 {
    let mirror = LeaseMirror::permanent();
    let now = Now::new(clock::Instant::from_nanos(1), WallTime::from_millis(1_800_000_000_000));
    let lease = mirror.active(now.instant).unwrap();
    let mut out = Vec::new();
    let mut spent = Vec::new();
    // A step that is prime to the size: neighbours in memory are not neighbours in time.
    for numbers in (0..size)
        .map(|number| (u64::from(number) * 7_919 % u64::from(size)) as u32)
        .collect::<Vec<_>>()
        .chunks(BATCH)
    {
        let questions: Vec<_> = numbers.iter().map(|&number| question(number)).collect();
        let start = Instant::now();
        for question in questions {
            let asker = Asker { shard: 0, token: Token(0) };
            partition.handle_question(now, &lease, asker, question, &mut out);
        }
        spent.push(start.elapsed().as_nanos() / BATCH as u128);
        assert!(out.iter().any(|output| matches!(output, Output::Answer { .. })));
        out.clear();
    }
    spent.sort_unstable();
    spent[spent.len() / 2]
}

/// A phone behind NAT with texts as long as those of real ones.
fn register(number: u32, cseq: u32) -> Register {
    let remote = RemoteAddr(([192, 0, 2, 7], 5060).into());
    let contact = ContactUpdate {
        uri: Bytes::from(format!("sip:user{number:07}@192.168.178.{}:5060;transport=udp;ob", number % 250)),
        q: None,
        expires: Some(3_600),
        instance: Some(Bytes::from(format!("<urn:uuid:00000000-0000-1000-8000-0000{number:08x}>"))),
        reg_id: None,
    };
    Register {
        authority: Authority::Here,
        aor: aor(number),
        source: Source { flow: Flow::Datagram { listener: LISTENER, remote }, transport: Transport::Udp },
        contacts: Contacts::Update(vec![contact]),
        expires: None,
        path: vec![],
        call_id: Bytes::from(format!("{number:08x}-1f2e3d4c5b6a79880@192.168.178.20")),
        cseq,
        user_agent: Some(Bytes::from_static(b"Vendor Phone T46S 66.86.0.15 001565a1b2c3")),
        nat: true,
        outbound: false,
        gruu: false,
        response_hash: 1,
        right: routing::RegisterRight::Proved,
    }
}

fn aor(number: u32) -> Aor {
    Aor::parse(&format!("user{number:07}@example.org")).unwrap()
}

fn settings() -> Settings {
    let listener = Listener {
        id: LISTENER,
        transport: Transport::Udp,
        local: LocalAddr(([10, 0, 0, 1], 5060).into()),
        advertise: None,
        digest: true,
    };
    Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        ..Settings::default()
    }
}

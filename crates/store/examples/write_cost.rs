//! How much processor time one binding takes to be written, queue and disk together.

use std::time::Instant;

use bytes::Bytes;
use clock::WallTime;
use engine::{Change, Store};
use routing::StoredBinding;
use sip::Aor;
use store::SqliteStore;
use transport::{LocalAddr, Transport};

const BINDINGS: u64 = 20_000;
const ROUNDS: u64 = 5;

fn main() {
    let directory = tempfile::TempDir::new().expect("there is a place for it");
    let store = SqliteStore::open(&directory.path().join("tandem.sqlite")).expect("it can be opened");
    for round in 0..ROUNDS {
        let (wall, used) = (Instant::now(), processor_time());
        // Phones refresh in no order.
        for place in 0..BINDINGS {
            let number = place * 7_919 % BINDINGS;
            store.save(Change::Put(Box::new(binding(number, round))));
        }
        store.flush().expect("the disk is good");
        println!(
            "round {round}: {:.2} µs of processor time, {:.2} µs of wall time for each binding",
            (processor_time() - used) / BINDINGS as f64 * 1e6,
            wall.elapsed().as_secs_f64() / BINDINGS as f64 * 1e6
        );
    }
}

fn binding(number: u64, round: u64) -> StoredBinding {
    StoredBinding {
        aor: Aor::parse(&format!("user{number}@example.org")).expect("an address of record"),
        contact: Bytes::from(format!("sip:user{number}@10.1.2.3:5060;transport=udp")),
        listener: (Transport::Udp, LocalAddr(([192, 0, 2, 5], 5060).into())),
        received: ([198, 51, 100, 9], 40_000).into(),
        path: Vec::new(),
        instance: None,
        reg_id: None,
        q: None,
        call_id: Bytes::from(format!("a84b4c76e66710-{number}@pc33.example.org")),
        cseq: u32::try_from(round).unwrap_or(u32::MAX),
        user_agent: Some(Bytes::from_static(b"phone/1.0")),
        nat: true,
        response_hash: number,
        expires_at: WallTime::from_millis(4_000_000_000_000 + round),
    }
}

/// Seconds that all threads of this process have used.
fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

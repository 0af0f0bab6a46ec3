//! What one request costs: `cargo run --release -p sip --example cost`. Prints nanoseconds (the best and the middle
//! of many rounds) and allocations for each step, and exits with an error when the budget is missed.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../tests/support/counting_allocator.rs"]
mod counting_allocator;
#[path = "../tests/support/proxy_work.rs"]
mod proxy_work;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use counting_allocator::allocations;
use proxy_work::{INVITE, forward, read};
use sip::{Message, ResponseBuilder, Status};

const ROUNDS: usize = 1_001;
const REQUESTS: u32 = 200;

/// Frame, working set and forward, in nanoseconds.
const BUDGET: f64 = 1_000.0;

fn main() -> ExitCode {
    let (mut scratch, mut out) = (Vec::with_capacity(256), Vec::with_capacity(4096));
    println!(
        "INVITE of {} bytes, {} header lines",
        INVITE.len(),
        Message::parse(INVITE).unwrap().headers().len()
    );

    measure("frame", || {
        black_box(Message::parse(black_box(INVITE)).unwrap());
    });
    measure("frame + validate", || {
        let message = Message::parse(black_box(INVITE)).unwrap();
        message.validate().unwrap();
        black_box(&message);
    });
    measure("frame + working set", || {
        black_box(read(&Message::parse(black_box(INVITE)).unwrap()));
    });
    let whole = measure("frame + working set + forward", || {
        let message = Message::parse(black_box(INVITE)).unwrap();
        let (top_via, sum) = read(&message);
        black_box(sum);
        out.clear();
        forward(&message, &top_via, &mut scratch, &mut out);
        black_box(&out);
    });
    measure("the same + validate", || {
        let message = Message::parse(black_box(INVITE)).unwrap();
        message.validate().unwrap();
        let (top_via, sum) = read(&message);
        black_box(sum);
        out.clear();
        forward(&message, &top_via, &mut scratch, &mut out);
        black_box(&out);
    });
    measure("frame + response", || {
        let message = Message::parse(black_box(INVITE)).unwrap();
        out.clear();
        ResponseBuilder::new(&message, Status::RINGING).to_tag(b"0123456789abcdef").write(&mut out);
        black_box(&out);
    });
    measure("find Call-ID", || {
        black_box(sip::find_call_id(black_box(INVITE)));
    });
    if whole.nanoseconds <= BUDGET && whole.allocations == 0 {
        ExitCode::SUCCESS
    } else {
        eprintln!("over the budget of {BUDGET} ns and no allocation");
        ExitCode::FAILURE
    }
}

struct Cost {
    nanoseconds: f64,
    allocations: u64,
}

fn measure(what: &str, mut work: impl FnMut()) -> Cost {
    for _ in 0..REQUESTS {
        work();
    }
    let before = allocations();
    work();
    let allocations = allocations() - before;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..REQUESTS {
                work();
            }
            start.elapsed().as_nanos() as f64 / f64::from(REQUESTS)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "{what:32} {:7.0} ns, middle {:7.0} ns, {allocations} allocations",
        rounds[0],
        rounds[ROUNDS / 2]
    );
    Cost { nanoseconds: rounds[0], allocations }
}

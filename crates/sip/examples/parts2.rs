#![allow(missing_docs, clippy::unwrap_used)]
#[path = "../tests/support/proxy_work.rs"]
mod proxy_work;
use proxy_work::INVITE;
use std::hint::black_box;
use sip::*;
fn main() {
    let mut out = Vec::with_capacity(4096); let mut scratch = Vec::with_capacity(400);
    for _ in 0..1000 {
        let m = Message::parse(black_box(INVITE)).unwrap();
        let (via, sum) = proxy_work::read(&m); black_box(sum);
        out.clear();
        proxy_work::forward(&m, &via, &mut scratch, &mut out);
        black_box(&out);
    }
}

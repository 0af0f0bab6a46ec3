//! No allocation for a request that a proxy reads and forwards.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/counting_allocator.rs"]
mod counting_allocator;
#[path = "support/proxy_work.rs"]
mod proxy_work;

use std::hint::black_box;

use counting_allocator::allocations;
use proxy_work::{INVITE, forward, read};
use sip::{Message, Name, ResponseBuilder, Status};

#[test]
fn framing_reading_and_forwarding_allocate_nothing_once_buffers_are_warm() {
    let (mut scratch, mut out) = (Vec::with_capacity(256), Vec::with_capacity(4096));

    let before = allocations();
    let message = Message::parse(black_box(INVITE)).unwrap();
    message.validate().unwrap();
    let (top_via, sum) = read(&message);
    black_box(sum);
    black_box(sip::find_call_id(INVITE));
    black_box(sip::frame_stream(INVITE));
    forward(&message, &top_via, &mut scratch, &mut out);
    let after = allocations();

    assert_eq!(after - before, 0);
    Message::parse(&out).unwrap().validate().unwrap();
}

#[test]
fn a_response_allocates_nothing_once_its_buffer_is_warm() {
    let message = Message::parse(INVITE).unwrap();
    let mut out = Vec::with_capacity(4096);

    let before = allocations();
    ResponseBuilder::new(&message, Status::RINGING)
        .to_tag(b"0123456789abcdef")
        .header(Name::Server, b"server")
        .copy(Name::RecordRoute)
        .write(&mut out);
    let after = allocations();

    assert_eq!(after - before, 0);
}

#[test]
fn the_allocator_of_this_test_does_count() {
    let before = allocations();
    black_box(Vec::<u8>::with_capacity(black_box(10)));
    assert_eq!(allocations() - before, 1);
}

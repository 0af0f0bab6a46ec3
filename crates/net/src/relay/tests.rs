mod bench;
mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use engine::RelayReport;
use lease::{Epoch, LeaseMirror};
use media::latch::Latched;
use media::offer_answer::{Output, Side, Tag};

use self::bench::{Bench, Phone, SETTLED, STREAM, TestCall, order_of, receive, rtp, wait_for};
use super::*;
use crate::counting_allocator::allocations;
use crate::mandate::Lease;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(600);

#[test]
fn two_phones_talk_and_each_is_latched_on_to() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);

    // The caller's description leads nowhere, so it gets nothing until it is heard.
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    assert_eq!(call.callee.receive(), (rtp(1, 7), call.ports_of_callee[0]));
    call.callee.send(&call.ports_of_callee, &rtp(2, 8));
    assert_eq!(call.caller.receive(), (rtp(2, 8), call.ports_of_caller[0]));

    let latched = |side, phone: &Phone, ssrc| {
        RelayReport::Latched(side, Latched { source: phone.at(), ssrc: Some(ssrc) })
    };
    assert_eq!(bench.report(), latched(Side::Caller, &call.caller, 7));
    assert_eq!(bench.report(), latched(Side::Callee, &call.callee, 8));
}

#[test]
fn reports_go_beside_media() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    let report = [0x80, 201, 0, 1, 0, 0, 0, 7];

    call.callee.rtcp.send_to(&report, call.ports_of_callee[1]).expect("loopback");
    bench.until("relay_no_target", 1);
    call.caller.rtcp.send_to(&report, call.ports_of_caller[1]).expect("loopback");
    assert_eq!(receive(&call.callee.rtcp), (report.to_vec(), call.ports_of_callee[1]));
    call.callee.rtcp.send_to(&report, call.ports_of_callee[1]).expect("loopback");
    assert_eq!(receive(&call.caller.rtcp), (report.to_vec(), call.ports_of_caller[1]));
}

#[test]
fn one_side_may_speak_ipv4_and_the_other_ipv6() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "::1");
    bench.begin(&call);

    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    assert_eq!(call.callee.receive(), (rtp(1, 7), call.ports_of_callee[0]));
    call.callee.send(&call.ports_of_callee, &rtp(2, 8));
    assert_eq!(call.caller.receive(), (rtp(2, 8), call.ports_of_caller[0]));
    assert!(call.ports_of_callee[0].is_ipv6());
}

#[test]
fn a_strangers_packets_move_nothing_and_are_counted() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    let elsewhere = Phone::new("127.0.0.2");
    elsewhere.send(&call.ports_of_caller, &rtp(1, 66));
    bench.until("relay_stranger", 1);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    assert_eq!(call.callee.receive().0, rtp(1, 7), "nothing came before it");

    // Once latched, not even one behind the same address.
    let neighbour = Phone::new("127.0.0.1");
    neighbour.send(&call.ports_of_caller, &rtp(2, 66));
    elsewhere.send(&call.ports_of_caller, &rtp(3, 66));
    bench.until("relay_stranger", 3);
    call.callee.send(&call.ports_of_callee, &rtp(2, 8));
    assert_eq!(call.caller.receive().0, rtp(2, 8));
    call.caller.send(&call.ports_of_caller, &rtp(4, 7));
    assert_eq!(call.callee.receive().0, rtp(4, 7), "nothing came before it");

    bench.order(&call, Output::End(STREAM));
    let figures = bench.figures();
    assert_eq!((figures.discards.strangers, figures.caller.received.packets), (3, 2));
}

#[test]
fn the_kernel_keeps_strangers_from_a_port_whose_phone_is_found() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    bench.settle(&call);

    let neighbour = Phone::new("127.0.0.1");
    neighbour.media.connect(call.ports_of_caller[0]).expect("loopback");
    wait_for(|| neighbour.media.send(&rtp(1, 66)).is_err().then_some(()));
    bench.talk(&call, 100);
    assert_eq!(bench.count("relay_stranger"), 0);
}

#[test]
fn a_phone_that_moves_is_heard_once_the_signalling_has_spoken() {
    let bench = Bench::new(SILENCE);
    let mut call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    bench.settle(&call);

    bench.order(&call, Output::Change(STREAM, call.plan()));
    bench.pause();
    call.caller = Arc::new(Phone::new("127.0.0.1"));
    bench.talk(&call, 100);
}

#[test]
fn a_phone_that_is_away_for_a_moment_misses_nothing_afterwards() {
    let bench = Bench::new(SILENCE);
    let mut call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    bench.settle(&call);

    let place = call.caller.at();
    call.caller = Arc::new(Phone::new("127.0.0.1"));
    let held = bench.hold();
    call.callee.send(&call.ports_of_callee, &rtp(1, 8));
    held.reached();
    // Its host answers that nobody is there, which the kernel tells with the next packet.
    (2..=3).for_each(|number| call.callee.send(&call.ports_of_callee, &rtp(number, 8)));
    drop(held);
    bench.until("relay_sent", 2 * SETTLED + 3);
    let back = UdpSocket::bind(place).expect("it was its own");
    back.set_read_timeout(Some(PATIENCE)).expect("an option");
    for number in 10..13 {
        call.callee.send(&call.ports_of_callee, &rtp(number, 8));
        assert_eq!(receive(&back), (rtp(number, 8), call.ports_of_caller[0]));
    }
}

#[test]
fn what_comes_before_the_answer_is_read_and_dropped_without_a_word() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.bind(&call);
    bench.pause();

    call.caller.media.connect(call.ports_of_caller[0]).expect("loopback");
    call.caller.media.send(&rtp(1, 7)).expect("loopback");
    bench.until("relay_early", 1);
    // A port that nobody had would have answered, and this send would be told of it.
    call.caller.media.send(&rtp(2, 7)).expect("nothing was refused");
    bench.until("relay_early", 2);
}

#[test]
fn the_end_of_a_call_closes_its_ports() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    bench.pause();
    let places: Vec<SocketAddr> = call.ports_of_caller.iter().chain(&call.ports_of_callee).copied().collect();
    assert!(places.iter().all(|place| UdpSocket::bind(place).is_err()));

    bench.order(&call, Output::End(STREAM));
    bench.order(&call, Output::Unbind(Side::Caller, call.pair_of_caller));
    bench.order(&call, Output::Unbind(Side::Callee, call.pair_of_callee));
    assert_eq!(bench.figures(), StreamFigures::default());
    bench.pause();

    for place in places {
        UdpSocket::bind(place).expect("it is free");
    }
}

#[test]
fn a_port_that_another_has_is_counted_and_the_call_goes_on_without_it() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    let _theirs = UdpSocket::bind(call.ports_of_callee[1]).expect("it is free");
    bench.begin(&call);
    bench.until("relay_not_bound", 1);

    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    assert_eq!(call.callee.receive().0, rtp(1, 7));
}

#[test]
fn a_node_that_is_not_active_relays_nothing_and_keeps_its_ports() {
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    call.callee.receive();

    bench.lease(LeaseMirror::none());
    call.caller.send(&call.ports_of_caller, &rtp(2, 7));
    bench.until("relay_inactive", 1);
    // Bound while it stands by, as a copy of the other node's call says; its stream would be a mistake.
    let copied = bench.call(2, "127.0.0.1", "127.0.0.1");
    bench.bind(&copied);
    bench.lease(LeaseMirror::until(Instant::FAR, Epoch(9)));
    bench.relay.order(0, Some(Epoch(3)), order_of(&call, Output::Start(STREAM, call.plan())));
    bench.pause();
    call.caller.send(&call.ports_of_caller, &rtp(3, 7));
    bench.until("relay_early", 1);

    bench.take_over(&copied, Epoch(9));
    copied.caller.send(&copied.ports_of_caller, &rtp(4, 7));
    assert_eq!(copied.callee.receive().0, rtp(4, 7));
}

#[test]
fn what_comes_while_the_service_moves_here_goes_on_when_its_call_is_known() {
    let bench = Bench::new(SILENCE);
    bench.lease(LeaseMirror::none());
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.bind(&call);
    bench.pause();
    call.caller.send(&call.ports_of_caller, &rtp(1, 7));
    bench.until("relay_inactive", 1);

    bench.lease(LeaseMirror::until(Instant::FAR, Epoch(9)));
    call.caller.send(&call.ports_of_caller, &rtp(2, 7));
    bench.until("relay_early", 1);
    bench.take_over(&call, Epoch(9));
    bench.pause();
    call.caller.send(&call.ports_of_caller, &rtp(3, 7));

    for number in 1..=3 {
        assert_eq!(call.callee.receive(), (rtp(number, 7), call.ports_of_callee[0]));
    }
}

#[test]
fn what_has_come_leaves_before_a_hand_over() {
    const CALLS: u64 = 8;
    const PACKETS: u8 = 200;
    let bench = Bench::new(SILENCE);
    let calls: Vec<TestCall> = (0..CALLS).map(|name| bench.call(name, "127.0.0.1", "127.0.0.1")).collect();
    calls.iter().for_each(|call| bench.begin(call));
    bench.pause();

    let held = bench.hold();
    calls[0].caller.send(&calls[0].ports_of_caller, &rtp(0, 7));
    held.reached();
    for call in &calls {
        (1..=PACKETS).for_each(|number| call.caller.send(&call.ports_of_caller, &rtp(number, 7)));
    }
    let sent = std::thread::scope(|scope| {
        let turn = scope.spawn(|| {
            bench.relay.let_workers_turn(clocks::instant() + PATIENCE);
            bench.tallies.iter().find(|(name, _)| *name == "relay_sent").map(|(_, sent)| sent)
        });
        wait_for(|| (!bench.relay.desks[0].inbox.is_empty()).then_some(()));
        drop(held);
        turn.join().expect("it ends")
    });

    assert_eq!(sent, Some(1 + CALLS * u64::from(PACKETS)));
}

#[test]
fn a_flooded_port_keeps_no_other_call_waiting() {
    let bench = Bench::new(SILENCE);
    let mut flooded = bench.call(1, "127.0.0.1", "127.0.0.1");
    let quiet = bench.call(2, "127.0.0.1", "127.0.0.1");
    // Both calls go to one phone, which so sees the order in which they are served.
    flooded.callee = quiet.callee.clone();
    bench.begin(&flooded);
    bench.begin(&quiet);
    bench.pause();

    let held = bench.hold();
    // It takes the worker to where it is held.
    flooded.caller.send(&flooded.ports_of_caller, &rtp(0, 1));
    held.reached();
    for number in 1..200 {
        flooded.caller.send(&flooded.ports_of_caller, &rtp(number, 1));
    }
    quiet.caller.send(&quiet.ports_of_caller, &rtp(1, 2));
    drop(held);

    let before =
        std::iter::from_fn(|| Some(quiet.callee.receive().0)).take_while(|it| *it != rtp(1, 2)).count();
    assert!(before <= 48, "{before} packets of the flood came first");
}

#[test]
fn two_dialogs_of_one_fork_share_the_port_towards_the_callee() {
    let bench = Bench::new(SILENCE);
    let first = bench.call(1, "127.0.0.1", "127.0.0.1");
    let mut second = bench.call(1, "127.0.0.1", "127.0.0.2");
    second.ports_of_callee = first.ports_of_callee;
    second.pair_of_callee = first.pair_of_callee;
    bench.begin(&first);
    bench.order(&second, Output::Bind(Side::Caller, second.pair_of_caller));
    let other = StreamId { dialog: Tag(2), ..STREAM };
    let mut plan = second.plan();
    plan.callee.local = first.ports_of_callee[0];
    bench.order(&second, Output::Start(other, plan));
    first.caller.send(&first.ports_of_caller, &rtp(1, 1));
    first.callee.receive();
    second.caller.send(&second.ports_of_caller, &rtp(1, 2));
    second.callee.receive();

    first.callee.send(&first.ports_of_callee, &rtp(9, 3));
    assert_eq!(first.caller.receive().0, rtp(9, 3));
    second.callee.send(&first.ports_of_callee, &rtp(9, 4));
    assert_eq!(second.caller.receive().0, rtp(9, 4));
}

#[test]
fn a_dialog_of_a_fork_is_heard_at_the_port_of_one_that_talks_already() {
    let bench = Bench::new(SILENCE);
    let first = bench.call(1, "127.0.0.1", "127.0.0.1");
    let mut second = bench.call(1, "127.0.0.1", "127.0.0.2");
    bench.begin(&first);
    bench.settle(&first);
    second.ports_of_callee = first.ports_of_callee;
    second.pair_of_callee = first.pair_of_callee;
    bench.order(&second, Output::Bind(Side::Caller, second.pair_of_caller));
    let mut plan = second.plan();
    plan.callee.local = first.ports_of_callee[0];
    bench.order(&second, Output::Start(StreamId { dialog: Tag(2), ..STREAM }, plan));
    bench.pause();

    for number in 100..140 {
        bench.talk(&first, number);
        bench.talk(&second, number);
    }
}

#[test]
fn who_is_active_again_hears_the_phones_that_the_port_has_then() {
    let bench = Bench::new(SILENCE);
    let mut call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);
    bench.settle(&call);

    bench.lease(LeaseMirror::none());
    call.caller = Arc::new(Phone::new("127.0.0.2"));
    call.callee = Arc::new(Phone::new("127.0.0.2"));
    bench.lease(LeaseMirror::until(Instant::FAR, Epoch(9)));
    bench.take_over(&call, Epoch(9));
    bench.pause();

    bench.talk(&call, 100);
}

#[test]
fn nothing_is_allocated_for_a_packet() {
    const PACKETS: u64 = 1_000;
    let bench = Bench::new(SILENCE);
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    let desk = Arc::new(Desk {
        inbox: Inbox::new(clocks::instant()).expect("a descriptor"),
        board: Mutex::default(),
    });
    let tell: Tell = Arc::new(|_, _| ());
    let mandate = Mandate::new(Arc::clone(&bench.lease) as Arc<dyn Lease>, BTreeSet::new());
    let (mandate, tallies) = (Arc::new(mandate), Arc::new(Tallies::default()));
    let mut worker = {
        let kernel = Kernel::new(None, true, Arc::clone(&tallies), Arc::default());
        Worker::new(Arc::clone(&desk), RelayRules::default(), mandate, Arc::clone(&tallies), tell, kernel)
    }
    .expect("epoll");
    for output in [
        Output::Bind(Side::Caller, call.pair_of_caller),
        Output::Bind(Side::Callee, call.pair_of_callee),
        Output::Start(STREAM, call.plan()),
    ] {
        let order = Box::new(order_of(&call, output));
        desk.inbox
            .put(inbox::Given::Order { shard: 0, since: Some(Epoch(3)), order })
            .expect("there is room");
    }
    let mut ready = Vec::with_capacity(worker::READY_MAX);
    worker.turn(&mut ready).expect("epoll waits");

    let packet = rtp(1, 7);
    let mut before = 0;
    for number in 0..=PACKETS {
        call.caller.send(&call.ports_of_caller, &packet);
        worker.turn(&mut ready).expect("epoll waits");
        // The first one is latched on to, which is told.
        if number == 0 {
            before = allocations();
        }
    }

    let sent = tallies.iter().find(|(name, _)| *name == "relay_sent").map(|(_, sent)| sent);
    assert_eq!(sent, Some(PACKETS + 1));
    // Some are for what is done every second.
    assert!(allocations() - before < PACKETS / 10, "{} allocations", allocations() - before);
}

#[test]
fn silence_is_told_and_figures_are_on_the_board() {
    let bench = Bench::new(Duration::from_millis(1));
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.begin(&call);

    let report = bench.report();
    assert_eq!(report, RelayReport::Silent);
    let board = wait_for(|| Some(bench.relay.figures()).filter(|board| !board.is_empty()));
    assert_eq!(board.keys().copied().collect::<Vec<_>>(), [(call.session, STREAM)]);
    bench.order(&call, Output::End(STREAM));
    bench.figures();
    assert!(bench.relay.figures().is_empty());
}

#[test]
fn a_dialog_is_silent_when_all_its_streams_are() {
    let bench = Bench::new(Duration::from_millis(1));
    let call = bench.call(1, "127.0.0.1", "127.0.0.1");
    bench.bind(&call);
    for line in [0, 1, 2] {
        let mut plan = call.plan();
        // The last one is on hold.
        plan.caller.sends = line < 2;
        plan.callee.sends = line < 2;
        bench.order(&call, Output::Start(StreamId { line, ..STREAM }, plan));
    }

    assert_eq!(bench.report(), RelayReport::Silent);
    bench.order(&call, Output::End(STREAM));
    assert!(matches!(bench.report(), RelayReport::Figures(_)), "it is said once");
}

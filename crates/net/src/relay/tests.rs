mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine::RelayReport;
use lease::{Epoch, LeaseMirror};
use media::latch::{Expected, Latched, Wanted};
use media::offer_answer::{Face, Faces, Leg, Output, Plan, Side, Tag};
use media::ports::Ports;
use media::sdp::Carriage;

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

/// Packets of each phone after which its port is connected to it.
const SETTLED: u64 = 16;

const STREAM: StreamId = StreamId { dialog: Tag(1), line: 0, pair: 0 };

/// A relay with one worker.
struct Bench {
    relay: Relay,
    tallies: Arc<Tallies>,
    events: Receiver<RelayEvent>,
    lease: Arc<Given>,
}

impl Bench {
    fn new(silence: Duration) -> Self {
        Self::with_kernel(silence, Err("there is none".to_owned()))
    }

    fn with_kernel(silence: Duration, kernel: Result<Arc<dyn KernelPath>, String>) -> Self {
        let (told, events) = channel();
        let lease = Arc::new(Given::default());
        // All of 127.0.0.0/8 stands for the virtual addresses.
        let virtual_addresses = BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let mandate = Arc::new(Mandate::new(Arc::clone(&lease) as Arc<dyn Lease>, virtual_addresses));
        let tallies = Arc::new(Tallies::default());
        let rules = RelayRules { silence, ..RelayRules::default() };
        let told = Mutex::new(told);
        let tell: Tell = Arc::new(move |_, event| {
            let _ = told.lock().expect("no test panics inside").send(event);
        });
        let relay = Relay::start(1, &rules, &mandate, &tallies, &tell, kernel).expect("a thread");
        Self { relay, tallies, events, lease }
    }

    fn call(&self, session: u64, caller: &str, callee: &str) -> TestCall {
        let (pair_of_caller, ports_of_caller) = free_ports(caller);
        let (pair_of_callee, ports_of_callee) = free_ports(callee);
        TestCall {
            session: SessionName::from_u64(session),
            caller: Arc::new(Phone::new(caller)),
            callee: Arc::new(Phone::new(callee)),
            pair_of_caller,
            pair_of_callee,
            ports_of_caller,
            ports_of_callee,
        }
    }

    fn bind(&self, call: &TestCall) {
        self.order(call, Output::Bind(Side::Caller, call.pair_of_caller));
        self.order(call, Output::Bind(Side::Callee, call.pair_of_callee));
    }

    fn begin(&self, call: &TestCall) {
        self.bind(call);
        self.order(call, Output::Start(STREAM, call.plan()));
        self.pause();
    }

    /// Each phone says one thing, which the other one hears.
    fn talk(&self, call: &TestCall, number: u8) {
        call.caller.send(&call.ports_of_caller, &rtp(number, 7));
        assert_eq!(call.callee.receive(), (rtp(number, 7), call.ports_of_callee[0]));
        call.callee.send(&call.ports_of_callee, &rtp(number, 8));
        assert_eq!(call.caller.receive(), (rtp(number, 8), call.ports_of_caller[0]));
    }

    /// Lets both phones talk until their ports are connected to them.
    fn settle(&self, call: &TestCall) {
        (0..SETTLED).for_each(|number| self.talk(call, number as u8));
        self.pause();
    }

    fn count(&self, name: &str) -> u64 {
        self.tallies.iter().find(|(it, _)| *it == name).expect("it is counted").1
    }

    fn take_over(&self, call: &TestCall, since: Epoch) {
        for output in [
            Output::Bind(Side::Caller, call.pair_of_caller),
            Output::Bind(Side::Callee, call.pair_of_callee),
            Output::Start(STREAM, call.plan()),
        ] {
            self.relay.order(0, Some(since), order_of(call, output));
        }
    }

    fn order(&self, call: &TestCall, output: Output) {
        self.relay.order(0, Some(Epoch(3)), order_of(call, output));
    }

    /// Waits until all orders are carried out.
    fn pause(&self) {
        wait_for(|| self.relay.desks[0].inbox.is_empty().then_some(()));
        let beat = clocks::instant();
        self.relay.desks[0].inbox.wake();
        wait_for(|| (self.relay.silent_for(clocks::instant()) < clocks::instant().since(beat)).then_some(()));
    }

    fn lease(&self, mirror: LeaseMirror) {
        *self.lease.mirror.lock().expect("no test panics inside") = mirror;
        self.relay.look_at_lease();
        self.pause();
    }

    /// Holds the worker at its next look at the lease.
    fn hold(&self) -> Held<'_> {
        let before = self.lease.looks();
        Held { lease: &self.lease, before, _mirror: self.lease.mirror.lock().expect("no test panics inside") }
    }

    fn until(&self, name: &str, count: u64) {
        wait_for(|| {
            let counts: BTreeMap<_, _> = self.tallies.iter().collect();
            (counts[name] == count).then_some(())
        });
    }

    fn report(&self) -> RelayReport {
        self.events.recv_timeout(PATIENCE).expect("something is told").report
    }

    fn figures(&self) -> StreamFigures {
        loop {
            if let RelayReport::Figures(figures) = self.report() {
                return figures;
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.relay.stop();
    }
}

struct Held<'l> {
    lease: &'l Given,
    before: u16,
    _mirror: std::sync::MutexGuard<'l, LeaseMirror>,
}

impl Held<'_> {
    fn reached(&self) {
        wait_for(|| (self.lease.looks() != self.before).then_some(()));
    }
}

struct TestCall {
    session: SessionName,
    caller: Arc<Phone>,
    callee: Arc<Phone>,
    pair_of_caller: Ports,
    pair_of_callee: Ports,
    ports_of_caller: [SocketAddr; 2],
    ports_of_callee: [SocketAddr; 2],
}

impl TestCall {
    /// The caller sits behind a NAT.
    fn plan(&self) -> Plan {
        let leg = |phone: &Phone, local: SocketAddr, is_behind_nat: bool| {
            let place = |at: SocketAddr| match is_behind_nat {
                true => SocketAddr::from(([192, 168, 1, 7], at.port())),
                false => at,
            };
            let expected = |socket: &UdpSocket| Expected {
                wanted: Wanted::At(place(socket.local_addr().expect("bound"))),
                signalling: Some(phone.at().ip()),
                is_behind_nat,
            };
            let (media, rtcp) = (expected(&phone.media), expected(&phone.rtcp));
            Leg { local, media, rtcp, sends: true, latched: None }
        };
        Plan {
            carriage: Carriage::Rtp,
            is_muxed: false,
            caller: leg(&self.caller, self.ports_of_caller[0], true),
            callee: leg(&self.callee, self.ports_of_callee[0], false),
            clock_rates: Vec::new(),
            signalled_at: clocks::instant(),
        }
    }
}

fn order_of(call: &TestCall, output: Output) -> RelayOrder {
    let face = |place: SocketAddr| Face { local: place.ip(), named: place.ip() };
    let faces = Faces { caller: face(call.ports_of_caller[0]), callee: face(call.ports_of_callee[0]) };
    RelayOrder { session: call.session, faces, output }
}

struct Phone {
    media: UdpSocket,
    rtcp: UdpSocket,
}

impl Phone {
    fn new(address: &str) -> Self {
        let socket = || {
            let address: IpAddr = address.parse().expect("an address");
            let socket = UdpSocket::bind((address, 0)).expect("loopback");
            socket.set_read_timeout(Some(PATIENCE)).expect("an option");
            socket
        };
        Self { media: socket(), rtcp: socket() }
    }

    fn at(&self) -> SocketAddr {
        self.media.local_addr().expect("bound")
    }

    fn send(&self, ports: &[SocketAddr; 2], packet: &[u8]) {
        self.media.send_to(packet, ports[0]).expect("loopback");
    }

    fn receive(&self) -> (Vec<u8>, SocketAddr) {
        receive(&self.media)
    }
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut room = [0; 1_500];
    let (length, source) = socket.recv_from(&mut room).expect("something comes");
    (room[..length].to_vec(), source)
}

fn rtp(sequence: u8, ssrc: u8) -> Vec<u8> {
    [&[0x80, 0, 0, sequence, 0, 0, 0, sequence, 0, 0, 0, ssrc][..], &[0xd5; 160]].concat()
}

/// An even port and the next one, both free. Tests run at the same time, so each has a range of its own.
fn free_ports(address: &str) -> (Ports, [SocketAddr; 2]) {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let address: IpAddr = address.parse().expect("an address");
    loop {
        let first = NEXT.fetch_add(2, Ordering::Relaxed);
        let places = [SocketAddr::new(address, first), SocketAddr::new(address, first + 1)];
        if places.iter().all(|place| UdpSocket::bind(place).is_ok()) {
            return (Ports::new(first, 1).expect("it is even"), places);
        }
    }
}

fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it does not happen");
        std::thread::yield_now();
    }
}

struct Given {
    mirror: Mutex<LeaseMirror>,
    looks: AtomicU16,
}

impl Given {
    fn looks(&self) -> u16 {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Default for Given {
    fn default() -> Self {
        Self { mirror: Mutex::new(LeaseMirror::until(Instant::FAR, Epoch(3))), looks: AtomicU16::new(0) }
    }
}

impl Lease for Given {
    fn mirror(&self) -> LeaseMirror {
        self.looks.fetch_add(1, Ordering::SeqCst);
        *self.mirror.lock().expect("no test panics inside")
    }

    fn beat_every(&self) -> Option<Duration> {
        None
    }

    fn beat(&self, _lane: usize, _now: Instant) {}

    fn answered(&self, _epoch: Epoch, _at: Instant) {}
}

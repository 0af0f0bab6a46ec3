//! One worker of the relay, with calls between sockets of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine::RelayReport;
use lease::{Epoch, LeaseMirror};
use media::latch::{Expected, Wanted};
use media::offer_answer::{Face, Faces, Leg, Output, Plan, Side, Tag};
use media::ports::Ports;
use media::sdp::Carriage;

use super::PATIENCE;
use crate::mandate::Lease;
use crate::relay::*;

/// Packets of each phone after which its port is connected to it.
pub(super) const SETTLED: u64 = 16;

pub(super) const STREAM: StreamId = StreamId { dialog: Tag(1), line: 0, pair: 0 };

/// A relay with one worker.
pub(super) struct Bench {
    pub(super) relay: Relay,
    pub(super) tallies: Arc<Tallies>,
    pub(super) events: Receiver<RelayEvent>,
    pub(super) lease: Arc<Given>,
}

impl Bench {
    pub(super) fn new(silence: Duration) -> Self {
        Self::with_kernel(silence, Err("there is none".to_owned()))
    }

    pub(super) fn with_kernel(silence: Duration, kernel: Result<Arc<dyn KernelPath>, String>) -> Self {
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

    pub(super) fn call(&self, session: u64, caller: &str, callee: &str) -> TestCall {
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

    pub(super) fn bind(&self, call: &TestCall) {
        self.order(call, Output::Bind(Side::Caller, call.pair_of_caller));
        self.order(call, Output::Bind(Side::Callee, call.pair_of_callee));
    }

    pub(super) fn begin(&self, call: &TestCall) {
        self.bind(call);
        self.order(call, Output::Start(STREAM, call.plan()));
        self.pause();
    }

    /// Each phone says one thing, which the other one hears.
    pub(super) fn talk(&self, call: &TestCall, number: u8) {
        call.caller.send(&call.ports_of_caller, &rtp(number, 7));
        assert_eq!(call.callee.receive(), (rtp(number, 7), call.ports_of_callee[0]));
        call.callee.send(&call.ports_of_callee, &rtp(number, 8));
        assert_eq!(call.caller.receive(), (rtp(number, 8), call.ports_of_caller[0]));
    }

    /// Lets both phones talk until their ports are connected to them.
    pub(super) fn settle(&self, call: &TestCall) {
        (0..SETTLED).for_each(|number| self.talk(call, number as u8));
        self.pause();
    }

    pub(super) fn count(&self, name: &str) -> u64 {
        self.tallies.iter().find(|(it, _)| *it == name).expect("it is counted").1
    }

    pub(super) fn take_over(&self, call: &TestCall, since: Epoch) {
        for output in [
            Output::Bind(Side::Caller, call.pair_of_caller),
            Output::Bind(Side::Callee, call.pair_of_callee),
            Output::Start(STREAM, call.plan()),
        ] {
            self.relay.order(0, Some(since), order_of(call, output));
        }
    }

    pub(super) fn order(&self, call: &TestCall, output: Output) {
        self.relay.order(0, Some(Epoch(3)), order_of(call, output));
    }

    /// Waits until all orders are carried out.
    pub(super) fn pause(&self) {
        wait_for(|| self.relay.desks[0].inbox.is_empty().then_some(()));
        let beat = clocks::instant();
        self.relay.desks[0].inbox.wake();
        wait_for(|| (self.relay.silent_for(clocks::instant()) < clocks::instant().since(beat)).then_some(()));
    }

    pub(super) fn lease(&self, mirror: LeaseMirror) {
        *self.lease.mirror.lock().expect("no test panics inside") = mirror;
        self.relay.look_at_lease();
        self.pause();
    }

    /// Holds the worker at its next look at the lease.
    pub(super) fn hold(&self) -> Held<'_> {
        let before = self.lease.looks();
        Held { lease: &self.lease, before, _mirror: self.lease.mirror.lock().expect("no test panics inside") }
    }

    pub(super) fn until(&self, name: &str, count: u64) {
        wait_for(|| {
            let counts: BTreeMap<_, _> = self.tallies.iter().collect();
            (counts[name] == count).then_some(())
        });
    }

    pub(super) fn report(&self) -> RelayReport {
        self.events.recv_timeout(PATIENCE).expect("something is told").report
    }

    pub(super) fn figures(&self) -> StreamFigures {
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

pub(super) struct Held<'l> {
    pub(super) lease: &'l Given,
    pub(super) before: u16,
    pub(super) _mirror: std::sync::MutexGuard<'l, LeaseMirror>,
}

impl Held<'_> {
    pub(super) fn reached(&self) {
        wait_for(|| (self.lease.looks() != self.before).then_some(()));
    }
}

pub(super) struct TestCall {
    pub(super) session: SessionName,
    pub(super) caller: Arc<Phone>,
    pub(super) callee: Arc<Phone>,
    pub(super) pair_of_caller: Ports,
    pub(super) pair_of_callee: Ports,
    pub(super) ports_of_caller: [SocketAddr; 2],
    pub(super) ports_of_callee: [SocketAddr; 2],
}

impl TestCall {
    /// The caller sits behind a NAT.
    pub(super) fn plan(&self) -> Plan {
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

pub(super) fn order_of(call: &TestCall, output: Output) -> RelayOrder {
    let face = |place: SocketAddr| Face { local: place.ip(), named: place.ip() };
    let faces = Faces { caller: face(call.ports_of_caller[0]), callee: face(call.ports_of_callee[0]) };
    RelayOrder { session: call.session, faces, output }
}

pub(super) struct Phone {
    pub(super) media: UdpSocket,
    pub(super) rtcp: UdpSocket,
}

impl Phone {
    pub(super) fn new(address: &str) -> Self {
        let socket = || {
            let address: IpAddr = address.parse().expect("an address");
            let socket = UdpSocket::bind((address, 0)).expect("loopback");
            socket.set_read_timeout(Some(PATIENCE)).expect("an option");
            socket
        };
        Self { media: socket(), rtcp: socket() }
    }

    pub(super) fn at(&self) -> SocketAddr {
        self.media.local_addr().expect("bound")
    }

    pub(super) fn send(&self, ports: &[SocketAddr; 2], packet: &[u8]) {
        self.media.send_to(packet, ports[0]).expect("loopback");
    }

    pub(super) fn receive(&self) -> (Vec<u8>, SocketAddr) {
        receive(&self.media)
    }
}

pub(super) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut room = [0; 1_500];
    let (length, source) = socket.recv_from(&mut room).expect("something comes");
    (room[..length].to_vec(), source)
}

pub(super) fn rtp(sequence: u8, ssrc: u8) -> Vec<u8> {
    [&[0x80, 0, 0, sequence, 0, 0, 0, sequence, 0, 0, 0, ssrc][..], &[0xd5; 160]].concat()
}

/// An even port and the next one, both free. Tests run at the same time, so each has a range of its own.
pub(super) fn free_ports(address: &str) -> (Ports, [SocketAddr; 2]) {
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

pub(super) fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(std::time::Instant::now() < deadline, "it does not happen");
        std::thread::yield_now();
    }
}

pub(super) struct Given {
    pub(super) mirror: Mutex<LeaseMirror>,
    pub(super) looks: AtomicU16,
}

impl Given {
    pub(super) fn looks(&self) -> u16 {
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

//! A server whose lease comes and goes, on a virtual address and on one of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ::lease::{Epoch, LeaseMirror};
use clock::{Instant, WallTime};
use engine::{Change, Loaded, Store, StoreError, StoreState, StoredNonce};
use net::{ConnectionLimits, Lease, Readiness, Server, Start};
use routing::{Settings, StoredBinding};
use sip::Aor;
use socket2::{Domain, Socket, Type};
use transport::Transport;

use crate::lifetime::stored;
use crate::outbound::ok;
use crate::testbed::{
    MemoryStore, TcpPhone, UdpPhone, counted, eventually, options, own_host, register, root_key, settings,
};

#[test]
fn a_standby_is_silent_on_the_virtual_address() {
    let node = Node::start(2);
    let phone = UdpPhone::new(node.host);
    let stun = *b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.";

    node.ask(&phone, "a");
    phone.send(node.service, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    phone.send(node.service, &stun);
    TcpPhone::of(TcpStream::connect(node.service).expect("the kernel takes it")).expect_end();

    eventually("all four came", || node.count("inactive") == 4);
    expect_nothing(&phone);
    assert_eq!(node.count("datagram_sent"), 0);
    assert_eq!(node.server.status().bindings, 0);
    node.stop();
}

#[test]
fn a_standby_says_on_its_own_address_whether_it_is_ready_and_refuses_the_rest() {
    let node = Node::start(2);
    let phone = UdpPhone::new(node.host);
    let ask = options(&format!("sip:{}", node.own), "UDP", phone.address(), "a");

    phone.send(node.own, ask.as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 200 "));

    node.server.set_readiness(Readiness::NotReady);
    phone.send(node.own, ask.as_bytes());
    let unready = phone.receive_text();
    assert!(unready.starts_with("SIP/2.0 503 ") && unready.contains("\r\nRetry-After: "), "{unready}");
    phone.send(node.own, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    assert!(phone.receive_text().starts_with("SIP/2.0 503 "));

    let mut stream = TcpPhone::connect(node.own);
    let ask = options("sip:bob@example.org", "TCP", stream.address(), "b");
    stream.send(ask.as_bytes());
    assert!(stream.receive_text().starts_with("SIP/2.0 503 "));

    assert_eq!(node.count("answered_as_standby"), 4);
    assert_eq!(node.count("server_transaction"), 0, "nothing is kept");
    node.stop();
}

#[test]
fn whoever_becomes_active_answers_and_is_silent_again_when_the_lease_is_over() {
    let node = Node::start(2);
    let phone = UdpPhone::new(node.host);
    for (epoch, name) in [(3, "a"), (5, "b")] {
        node.become_active(epoch);
        assert_eq!(node.server.epoch(), Some(Epoch(epoch)));
        if node.count("inactive") > 0 {
            assert!(phone.receive_text().contains("Call-ID: early"), "it came a moment before the lease");
        }
        node.ask(&phone, name);
        let answer = phone.receive_text();
        assert!(
            answer.starts_with("SIP/2.0 200 ") && answer.contains(&format!("Call-ID: {name}")),
            "{answer}"
        );

        node.lose_lease();
        let before = node.count("inactive");
        node.ask(&phone, "early");
        eventually("it came", || node.count("inactive") > before);
        expect_nothing(&phone);
    }
    assert_eq!(node.count("early"), 1);

    assert_eq!(*node.lease.answered.lock().expect("no test panics inside"), [Epoch(3), Epoch(5)]);
    assert_eq!(node.count("withheld_without_lease"), 0);
    node.stop();
}

#[test]
fn a_lease_ends_at_its_deadline_though_nobody_says_so() {
    let node = Node::start(2);
    let phone = UdpPhone::new(node.host);
    node.lease.give(LeaseMirror::until(boot_time() + Duration::from_millis(200), Epoch(3)));

    let mut number = 0;
    while node.server.epoch().is_some() {
        number += 1;
        node.ask(&phone, &format!("ask-{number}"));
        eventually("it came", || node.count("datagram_received") == number);
    }
    take_what_is_here(&phone);
    let sent = node.count("datagram_sent");
    node.ask(&phone, "late");
    eventually("it came too", || node.count("datagram_received") == number + 1);

    expect_nothing(&phone);
    assert_eq!(node.count("datagram_sent"), sent);
    node.stop();
}

/// What was worked out under the lease and not yet sent.
#[test]
fn an_answer_that_is_ready_when_the_lease_ends_does_not_leave_by_udp() {
    let (node, saves) = Node::start_interrupted(1);
    let phone = UdpPhone::new(node.host);
    node.become_active(3);
    phone.send(node.service, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    let first = saves.next();

    // The only loop stands in the middle of a batch: these two are in the next one.
    node.ask(&phone, "never");
    phone.send(node.service, register("bob", "UDP", phone.address(), 1, "").as_bytes());
    first.goes_on();
    assert!(phone.receive_text().contains("Call-ID: register-alice"));
    let second = saves.next();
    node.lease.give(LeaseMirror::none());
    second.goes_on();

    eventually("it is withheld", || node.count("withheld_without_lease") == 1);
    expect_nothing(&phone);
    node.stop();
}

#[test]
fn an_answer_that_is_ready_when_the_lease_ends_does_not_leave_by_tcp() {
    let (node, saves) = Node::start_interrupted(1);
    let mut phone = TcpPhone::connect(node.service);
    phone.expect_end();
    node.become_active(3);
    let mut phone = TcpPhone::connect(node.service);

    let ask = |name| options(&format!("sip:{}", node.service), "TCP", phone.address(), name);
    let register = register("alice", "TCP", phone.address(), 1, "");
    let asked = [ask("never"), ask("nor-this"), ask("nor-that"), register].concat();
    phone.send(asked.as_bytes());
    let save = saves.next();
    node.lease.give(LeaseMirror::none());
    save.goes_on();

    expect_end_without_a_word(&mut phone);
    // The loop may cut the connection before the answers are queued for it.
    let withheld = || node.count("withheld_without_lease") + node.count("connection_gone");
    eventually("each is counted", || withheld() == 3);
    node.stop();
}

#[test]
fn connections_of_the_virtual_address_are_cut_and_those_of_an_own_one_stay() {
    let node = Node::start(2);
    node.become_active(3);
    let (mut cut, mut stays) = (TcpPhone::connect(node.service), TcpPhone::connect(node.own));
    for (phone, address) in [(&mut cut, node.service), (&mut stays, node.own)] {
        phone.send(options(&format!("sip:{address}"), "TCP", phone.address(), "a").as_bytes());
        assert!(phone.receive_text().starts_with("SIP/2.0 200 "));
    }

    node.lose_lease();

    expect_end_without_a_word(&mut cut);
    stays.send(options(&format!("sip:{}", node.own), "TCP", stays.address(), "b").as_bytes());
    assert!(stays.receive_text().starts_with("SIP/2.0 200 "));
    assert_eq!(node.count("answered_as_standby"), 1);
    node.stop();
}

#[test]
fn a_request_under_way_is_forgotten_with_the_lease_and_never_repeated() {
    const T1: Duration = Duration::from_millis(25);
    let node = Node::start_with_t1(T1);
    let (phone, callee) = (UdpPhone::new(node.host), UdpPhone::new(node.host));
    node.become_active(3);
    let uri = format!("sip:bob@{}", callee.address());
    phone.send(node.service, options(&uri, "UDP", phone.address(), "a").as_bytes());
    callee.receive_text();
    assert_eq!(node.server.status().client_transactions, 1);

    node.lose_lease();
    eventually("it is forgotten", || node.server.status().client_transactions == 0);
    // A slow host may have repeated it in the first epoch.
    let repeated = node.count("retransmitted");
    take_what_is_here(&callee);
    node.become_active(5);

    // It would be repeated within T1.
    let begin = boot_time();
    for number in 0.. {
        let name = format!("b-{number}.");
        node.ask(&phone, &name);
        assert!(phone.receive_text().contains(&format!("Call-ID: {name}")));
        if boot_time().since(begin) > 2 * T1 {
            break;
        }
    }
    assert_eq!(node.count("retransmitted"), repeated);
    expect_nothing(&callee);
    node.stop();
}

/// The node that comes back knows a higher epoch, and the one that goes on raises its own.
#[test]
fn what_is_under_way_goes_on_when_the_epoch_is_raised() {
    let node = Node::start(2);
    let (phone, callee) = (UdpPhone::new(node.host), UdpPhone::new(node.host));
    node.become_active(3);
    let mut stays = TcpPhone::connect(node.service);
    let uri = format!("sip:bob@{}", callee.address());
    phone.send(node.service, options(&uri, "UDP", phone.address(), "a").as_bytes());
    let asked = callee.receive_text();

    node.raise_epoch(5, 3);

    assert_eq!(node.server.epoch(), Some(Epoch(5)));
    callee.send(node.service, ok(&asked).as_bytes());
    // While the callee was silent the request may have been repeated.
    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("Call-ID: a\r\n"), "{answer}");
    stays.send(options(&format!("sip:{}", node.service), "TCP", stays.address(), "b").as_bytes());
    assert!(stays.receive_text().starts_with("SIP/2.0 200 "));
    node.stop();
}

#[test]
fn bindings_run_out_when_the_node_is_active_and_not_before() {
    let store = MemoryStore::default();
    let alice = Aor::parse("alice@example.org").expect("an address of record");
    let (host, other) = (own_host(), own_host());
    let past =
        StoredBinding { expires_at: WallTime::from_millis(1), ..stored(&alice, SocketAddr::new(host, 5060)) };
    store.bindings.lock().expect("no test panics inside").push(past);
    let store = Arc::new(store);
    let node = Node::with(2, (host, other), Arc::clone(&store) as Arc<dyn Store>);
    let phone = UdpPhone::new(host);
    phone.send(node.own, options(&format!("sip:{}", node.own), "UDP", phone.address(), "a").as_bytes());
    phone.receive_text();
    assert_eq!(*store.changes.lock().expect("no test panics inside"), []);

    node.become_active(3);

    let has_ended =
        || matches!(store.changes.lock().expect("no test panics inside")[..], [Change::Remove(_)]);
    eventually("it has ended", has_ended);
    node.stop();
}

#[test]
fn a_drained_node_acts_no_more_in_its_epoch_and_does_in_the_next() {
    let store = Arc::new(MemoryStore::default());
    let node = Node::with(2, (own_host(), own_host()), Arc::clone(&store) as Arc<dyn Store>);
    let phone = UdpPhone::new(node.host);
    node.become_active(3);
    node.ask(&phone, "a");
    phone.receive_text();

    node.server.drain();

    eventually("the disk has all", || store.is_flushed.load(Ordering::Relaxed));
    assert_eq!(node.server.epoch(), None, "whatever the lease says");
    node.ask(&phone, "nobody");
    eventually("it came", || node.count("inactive") > 0);
    expect_nothing(&phone);
    node.become_active(4);
    node.ask(&phone, "b");
    assert!(phone.receive_text().contains("Call-ID: b"));
    node.stop();
}

#[test]
fn connections_end_behind_their_last_answer_when_the_node_hands_over() {
    // On a busy host a farewell may take longer than its limit; then another node is tried.
    assert!((0..20).any(|_| is_ended_in_order()), "no connection ended in order");
}

/// Says whether all connections have ended so.
fn is_ended_in_order() -> bool {
    let node = Node::start(2);
    node.become_active(3);
    let mut phones: Vec<TcpPhone> = (0..20).map(|_| TcpPhone::connect(node.service)).collect();
    for (number, phone) in phones.iter_mut().enumerate() {
        let uri = format!("sip:{}", node.service);
        phone.send(options(&uri, "TCP", phone.address(), &format!("first-{number}")).as_bytes());
        phone.receive_text();
        phone.send(options(&uri, "TCP", phone.address(), &format!("last-{number}")).as_bytes());
    }

    node.server.drain();

    let is_in_order = phones.iter_mut().enumerate().all(|(number, phone)| {
        let words = phone.receive_to_the_end();
        words.is_some_and(|words| words.contains(&format!("Call-ID: last-{number}")))
    });
    eventually("they are gone", || node.server.status().connections == 0);
    node.stop();
    is_in_order
}

#[test]
fn who_connects_in_a_hand_over_is_served_by_whoever_is_active_next() {
    let node = Node::start(2);
    node.become_active(3);
    node.server.drain();
    // Accepted it would be forgotten without a word.
    let accepted = TcpStream::connect_timeout(&node.service, Duration::from_millis(50));
    assert!(accepted.is_err_and(|error| error.kind() == ErrorKind::TimedOut));
    let socket = Socket::new(Domain::for_address(node.service), Type::STREAM, None).expect("a socket");
    socket.set_nonblocking(true).expect("an option");
    let under_way = socket.connect(&node.service.into());
    assert!(under_way.is_err_and(|error| error.raw_os_error() == Some(libc::EINPROGRESS)));
    socket.set_nonblocking(false).expect("an option");

    // Here it is this node again.
    node.become_active(4);

    let mut phone = TcpPhone::of(socket.into());
    phone.send(options(&format!("sip:{}", node.service), "TCP", phone.address(), "served").as_bytes());
    assert!(phone.receive_text().contains("Call-ID: served"));
    node.stop();
}

/// The loop stands in the middle of a batch when the drain begins, for longer than others are waited for, and all of this
/// waits in its socket.
#[test]
fn what_waits_in_the_sockets_when_a_drain_begins_is_answered() {
    // On a busy host a drain may take longer than its limit; then another node is tried.
    assert!((0..20).any(|_| is_answered_in_a_drain()), "no drain ended before its limit");
}

/// Says whether the drain has ended before its limit.
fn is_answered_in_a_drain() -> bool {
    const WAITING: usize = 100;
    let (node, saves) = Node::start_interrupted(1);
    let phone = UdpPhone::new(node.host);
    node.become_active(3);
    phone.send(node.service, register("alice", "UDP", phone.address(), 1, "").as_bytes());
    let first = saves.next();
    for number in 0..WAITING {
        node.ask(&phone, &format!("waiting-{number}"));
    }

    let took = std::thread::scope(|scope| {
        let drain = scope.spawn(|| {
            let begun = std::time::Instant::now();
            node.server.drain();
            begun.elapsed()
        });
        let begun = std::time::Instant::now();
        while begun.elapsed() <= net::DRAIN_TIME_MAX {
            std::thread::yield_now();
        }
        first.goes_on();
        drain.join().expect("it does not panic")
    });

    if took >= net::DRAIN_TURNS_MAX {
        node.stop();
        return false;
    }
    assert!(phone.receive_text().contains("Call-ID: register-alice"));
    for number in 0..WAITING {
        assert!(phone.receive_text().contains(&format!("Call-ID: waiting-{number}")));
    }
    assert_eq!(node.count("inactive"), 0);
    node.stop();
    true
}

#[test]
fn what_waits_for_the_store_when_a_drain_begins_is_answered() {
    // As above.
    assert!((0..20).any(|_| is_waited_for_in_a_drain()), "no drain ended before its limit");
}

/// Says whether the drain has ended before its limit.
fn is_waited_for_in_a_drain() -> bool {
    let (node, saves) = Node::start_interrupted(1);
    let (phone, other) = (UdpPhone::new(node.host), UdpPhone::new(node.host));
    node.become_active(3);
    let ask = options("sip:nobody@example.org", "UDP", phone.address(), "waits");
    phone.send(node.service, ask.as_bytes());
    let load = saves.next();

    let took = std::thread::scope(|scope| {
        let drain = scope.spawn(|| {
            let begun = std::time::Instant::now();
            node.server.drain();
            begun.elapsed()
        });
        eventually("nothing is begun any more", || {
            node.ask(&other, "probe");
            node.count("inactive") > 0
        });
        load.goes_on();
        drain.join().expect("it does not panic")
    });

    if took >= net::DRAIN_TIME_MAX {
        node.stop();
        return false;
    }
    let answer = phone.receive_text();
    assert!(answer.starts_with("SIP/2.0 4") && answer.contains("Call-ID: waits\r\n"), "{answer}");
    node.stop();
    true
}

#[test]
fn every_thread_shows_that_it_is_awake_also_without_traffic() {
    const LOOPS: usize = 2;
    let node = Node::start(LOOPS);
    let seen = || node.lease.beats.lock().expect("no test panics inside").clone();
    let all = |beats: &BTreeMap<usize, Instant>| (0..=LOOPS).all(|lane| beats.contains_key(&lane));

    eventually("each has shown itself", || all(&seen()));
    let before = seen();
    eventually("and again", || before.iter().all(|(lane, at)| seen().get(lane).is_some_and(|now| now > at)));
    node.stop();
}

/// A node with a virtual address and one of its own, both on loopback.
struct Node {
    server: Server,
    lease: Arc<Given>,
    host: IpAddr,
    service: SocketAddr,
    own: SocketAddr,
}

impl Node {
    fn start(threads: usize) -> Self {
        Self::with(threads, (own_host(), own_host()), Arc::new(MemoryStore::default()))
    }

    /// One that repeats its requests after `t1`.
    fn start_with_t1(t1: Duration) -> Self {
        let timers = transaction::Timers { t1, ..transaction::Timers::default() };
        Self::with_timers(2, (own_host(), own_host()), Arc::new(MemoryStore::default()), timers)
    }

    /// One whose store stops at each change and each question until the test lets it go on.
    fn start_interrupted(threads: usize) -> (Self, Saves) {
        let (saving, saves) = mpsc::channel();
        let store = Interrupted { inner: Arc::default(), saving: Mutex::new(saving) };
        (Self::with(threads, (own_host(), own_host()), Arc::new(store)), Saves(saves))
    }

    fn with(threads: usize, hosts: (IpAddr, IpAddr), store: Arc<dyn Store>) -> Self {
        Self::with_timers(threads, hosts, store, transaction::Timers::default())
    }

    fn with_timers(
        threads: usize,
        (service, own): (IpAddr, IpAddr),
        store: Arc<dyn Store>,
        timers: transaction::Timers,
    ) -> Self {
        let lease = Arc::new(Given::default());
        let (host, service, own) = (service, SocketAddr::new(service, 5060), SocketAddr::new(own, 5060));
        let listeners = [service, own].map(|address| [(Transport::Udp, address), (Transport::Tcp, address)]);
        let server = Server::start(Start {
            settings: Arc::new(Settings { timers, ..settings(&listeners.concat()) }),
            connection_limits: ConnectionLimits::default(),
            root_key: root_key(),
            node: 0,
            boot: 1,
            threads,
            store,
            lease: Arc::clone(&lease) as Arc<dyn Lease>,
            virtual_addresses: BTreeSet::from([service.ip()]),
            peer: None,
            tickler: None,
            relay: net::RelayRules::default(),
            kernel_path: Err("there is none".to_owned()),
            records: None,
        });
        Self { server: server.expect("a server"), lease, host, service, own }
    }

    fn become_active(&self, epoch: u64) {
        self.lease.give(LeaseMirror::until(Instant::FAR, Epoch(epoch)));
        self.server.look_at_lease();
    }

    fn raise_epoch(&self, epoch: u64, since: u64) {
        self.lease.give(LeaseMirror::until(Instant::FAR, Epoch(epoch)).held_since(Epoch(since)));
        self.server.look_at_lease();
    }

    fn lose_lease(&self) {
        self.lease.give(LeaseMirror::none());
        self.server.look_at_lease();
    }

    fn ask(&self, phone: &UdpPhone, name: &str) {
        let ask = options(&format!("sip:{}", self.service), "UDP", phone.address(), name);
        phone.send(self.service, ask.as_bytes());
    }

    fn count(&self, name: &str) -> u64 {
        counted(&self.server, name)
    }

    fn stop(self) {
        self.server.stop().expect("a clean end");
    }
}

/// A lease that the test gives and takes.
struct Given {
    mirror: Mutex<LeaseMirror>,
    beats: Mutex<BTreeMap<usize, Instant>>,
    answered: Mutex<Vec<Epoch>>,
}

impl Default for Given {
    fn default() -> Self {
        Self { mirror: Mutex::new(LeaseMirror::none()), beats: Mutex::default(), answered: Mutex::default() }
    }
}

impl Given {
    fn give(&self, mirror: LeaseMirror) {
        *self.mirror.lock().expect("no test panics inside") = mirror;
    }
}

impl Lease for Given {
    fn mirror(&self) -> LeaseMirror {
        *self.mirror.lock().expect("no test panics inside")
    }

    fn beat_every(&self) -> Option<Duration> {
        Some(Duration::from_millis(50))
    }

    fn beat(&self, lane: usize, now: Instant) {
        self.beats.lock().expect("no test panics inside").insert(lane, now);
    }

    fn answered(&self, epoch: Epoch, _at: Instant) {
        self.answered.lock().expect("no test panics inside").push(epoch);
    }
}

/// The changes that a store stands at.
struct Saves(mpsc::Receiver<mpsc::Sender<()>>);

/// One of them.
struct Save(mpsc::Sender<()>);

impl Saves {
    fn next(&self) -> Save {
        Save(self.0.recv_timeout(crate::testbed::PATIENCE).expect("something is saved in time"))
    }
}

impl Save {
    fn goes_on(self) {
        self.0.send(()).expect("the store waits");
    }
}

struct Interrupted {
    inner: Arc<MemoryStore>,
    saving: Mutex<mpsc::Sender<mpsc::Sender<()>>>,
}

impl Interrupted {
    /// Tells the test, and gives what says that it lets it go on.
    fn interrupt(&self) -> impl FnOnce() + Send + use<> {
        let (go_on, goes_on) = mpsc::channel();
        self.saving.lock().expect("no test panics inside").send(go_on).expect("the test is there");
        move || goes_on.recv_timeout(crate::testbed::PATIENCE).expect("the test lets it go on")
    }
}

impl Store for Interrupted {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        // Nobody waits for the answer but the question.
        let (wait, inner) = (self.interrupt(), Arc::clone(&self.inner));
        std::thread::spawn(move || {
            wait();
            inner.load_account(aor, reply);
        });
    }

    fn save(&self, change: Change) {
        self.interrupt()();
        self.inner.save(change);
    }

    fn save_nonces(&self, nonces: Vec<StoredNonce>) {
        self.inner.save_nonces(nonces);
    }

    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        self.inner.bindings()
    }

    fn nonces(&self) -> Result<Vec<StoredNonce>, StoreError> {
        self.inner.nonces()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn state(&self) -> StoreState {
        self.inner.state()
    }
}

fn take_what_is_here(phone: &UdpPhone) {
    phone.0.set_nonblocking(true).expect("an option");
    while phone.0.recv(&mut [0; 2_000]).is_ok() {}
    phone.0.set_nonblocking(false).expect("an option");
}

fn expect_nothing(phone: &UdpPhone) {
    phone.0.set_nonblocking(true).expect("an option");
    let received = phone.0.recv(&mut [0; 2_000]);
    assert_eq!(received.expect_err("nothing was to come").kind(), ErrorKind::WouldBlock);
    phone.0.set_nonblocking(false).expect("an option");
}

fn expect_end_without_a_word(phone: &mut TcpPhone) {
    use std::io::Read;
    let read = phone.0.read(&mut [0; 100]);
    let error = read.expect_err("it was ended like any other (0), or something was said");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// The clock of the lease.
fn boot_time() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Instant::from_nanos(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

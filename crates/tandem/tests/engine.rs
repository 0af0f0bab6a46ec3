//! The engine of a cluster's node, started as its guardian starts it; the test is the guardian.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use host::child::{Child, Start};
use host::{
    GuardianEnd, KEY_BYTES, Order, Reloaded, Report, SegmentEnd, SharedLease, SharedPage, boot_time,
    key_pipe, pair, reason_pipe,
};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tempfile::TempDir;

/// What a test waits at most for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn an_engine_serves_under_the_lease_of_its_guardian_and_ends_when_it_is_told() {
    let mut engine = Engine::start();
    let phone = Phone::new();

    // A standby: it is there, and silent where another node is active.
    phone.ask(engine.own, "a");
    assert!(phone.hears().starts_with("SIP/2.0 200 "));
    phone.ask(engine.service, "early");
    phone.hears_only_own(&engine);

    engine.page.set_lease(lease(3));
    engine.order(Order::Active(3));
    let answer = phone.hears();
    assert!(answer.contains("Call-ID: early\r\n"), "what came before the lease is handled first: {answer}");
    phone.ask(engine.service, "c");
    let answer = phone.hears();
    assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains("Call-ID: c\r\n"), "{answer}");
    let answered = engine.report();
    assert!(matches!(answered, Report::Answered { epoch: 3, at } if at <= boot_time()), "{answered:?}");

    engine.order(Order::Drain);
    assert_eq!(engine.report(), Report::Drained);
    phone.ask(engine.service, "nobody");
    engine.page.clear_lease();
    engine.order(Order::Standby);
    phone.hears_only_own(&engine);

    engine.page.set_lease(lease(4));
    engine.order(Order::Active(4));
    phone.ask(engine.service, "e");
    // What came in the hand-over may have been read before it was over, or behind that.
    let answer =
        [phone.hears()].into_iter().find(|it| !it.contains("nobody")).unwrap_or_else(|| phone.hears());
    assert!(answer.contains("Call-ID: e\r\n"), "{answer}");
    assert!(matches!(engine.report(), Report::Answered { epoch: 4, .. }));

    engine.order(Order::Stop);
    assert_eq!(engine.ends(), Some(0));
}

#[test]
fn a_standby_that_has_heard_of_no_active_node_has_nothing_and_the_active_node_has_all() {
    let mut engine = Engine::start();
    let share = |engine: &Engine| engine.next(|report| matches!(report, Report::Ready(_)));
    assert_eq!(share(&engine), Report::Ready(0));

    engine.page.set_lease(lease(3));
    engine.order(Order::Active(3));

    assert_eq!(share(&engine), Report::Ready(100));
}

#[test]
fn an_engine_says_how_many_registrations_it_has() {
    let engine = Engine::start();

    let said = engine.next(|report| matches!(report, Report::Bindings(_)));

    assert_eq!(said, Report::Bindings(0));
}

#[test]
fn what_was_degraded_is_told_before_the_hand_over_goes_on() {
    let mut engine = Engine::start();
    engine.add_subscriber("alice");
    engine.page.set_lease(lease(3));
    engine.order(Order::Active(3));
    let phone = Phone::new();

    phone.register(engine.service, "alice");
    let answer = phone.hears();
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    engine.order(Order::Drain);

    let said = engine.next(|report| matches!(report, Report::Degraded { .. } | Report::Drained));
    assert!(matches!(said, Report::Degraded { count: 1, .. }), "{said:?}");
}

#[test]
fn an_engine_reads_its_configuration_again_and_keeps_the_old_one_if_that_is_wrong() {
    let engine = Engine::start();
    let file = engine.place.path().join("tandem.toml");
    let right = std::fs::read_to_string(&file).expect("it is there");

    engine.order(Order::Reload);
    assert_eq!(engine.report(), Report::Reloaded(Reloaded::Taken));
    std::fs::write(&file, right + "\nrubbish").expect("it can be written");
    engine.order(Order::Reload);
    assert_eq!(engine.report(), Report::Reloaded(Reloaded::Refused));

    let phone = Phone::new();
    phone.ask(engine.own, "a");
    assert!(phone.hears().starts_with("SIP/2.0 200 "));
}

#[test]
fn an_engine_outlives_signals_to_all_processes_of_a_node_but_not_its_guardian() {
    let mut engine = Engine::start();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(engine.pid(), signal).expect("it is ours");
    }
    let phone = Phone::new();
    phone.ask(engine.own, "a");
    assert!(phone.hears().starts_with("SIP/2.0 200 "));

    engine.guardian = None;
    assert_eq!(engine.ends(), Some(0));
}

#[test]
fn every_thread_of_an_engine_shows_that_it_is_awake() {
    let engine = Engine::start();
    let deadline = Instant::now() + PATIENCE;
    let mut oldest = engine.page.oldest_beat();
    let mut grown = 0;
    while grown < 3 {
        assert!(Instant::now() < deadline, "a thread shows nothing");
        let now = engine.page.oldest_beat();
        grown += u32::from(now > oldest);
        oldest = now;
        std::thread::yield_now();
    }
}

#[test]
fn nobody_starts_an_engine_by_hand() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["engine", "--config", "/nowhere"])
        .output()
        .expect("the program is built");

    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("started by `tandem run`"), "{text}");
}

struct Engine {
    guardian: Option<GuardianEnd>,
    page: SharedPage,
    child: Child,
    place: TempDir,
    service: SocketAddr,
    own: SocketAddr,
    has_ended: bool,
}

impl Engine {
    /// Starts one and waits until it serves.
    fn start() -> Self {
        let place = TempDir::new().expect("there is a place for it");
        let [service, own] = [10, 1].map(address);
        let file = place.path().join("tandem.toml");
        std::fs::write(&file, text(&place, service, own)).expect("it can be written");
        let (guardian, pair) = pair().expect("a pair");
        let (page, page_descriptor) = SharedPage::create().expect("a page");
        let key = key_pipe(&[7; KEY_BYTES]).expect("a pipe");
        // Nobody reads of connections here.
        let (_, segments) = SegmentEnd::pair().expect("a pair");
        let segments = segments.for_child().expect("a descriptor");
        let relay = reason_pipe("there is no gate").expect("a pipe");
        let child = Start {
            program: env!("CARGO_BIN_EXE_tandem").into(),
            arguments: vec!["engine".into(), "--config".into(), file.into()],
            descriptors: vec![pair, page_descriptor, key, segments, relay],
            user: None,
        };
        let child = child.spawn().expect("the program is built");
        let guardian = Some(guardian);
        let engine = Self { guardian, page, child, place, service, own, has_ended: false };
        assert_eq!(engine.report(), Report::Serving);
        engine
    }

    fn add_subscriber(&self, user: &str) {
        let name = format!("{user}@{}", self.service.ip());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["subscriber", "add", &name, "--password-stdin", "--config"])
            .arg(self.place.path().join("tandem.toml"))
            .stdin(Stdio::piped())
            .spawn()
            .expect("the program is built");
        let mut password = command.stdin.take().expect("it is piped");
        password.write_all(b"secret of a test\n").expect("it reads");
        drop(password);
        assert!(command.wait().expect("it ends").success());
    }

    fn order(&self, order: Order) {
        self.end().send(order).expect("it reads");
    }

    /// What it says next; how much it has it says at any time.
    fn report(&self) -> Report {
        let is_of_state = |report: &Report| {
            matches!(report, Report::Ready(_) | Report::Bindings(_) | Report::Degraded { .. })
        };
        self.next(|report| !is_of_state(report))
    }

    fn next(&self, is_wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(report) = self.end().receive().expect("it is alive").filter(&is_wanted) {
                return report;
            }
            assert!(Instant::now() < deadline, "it says nothing");
            std::thread::yield_now();
        }
    }

    fn end(&self) -> &GuardianEnd {
        self.guardian.as_ref().expect("the test has not dropped it")
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.pid as i32).expect("a number")
    }

    /// Waits for its end; with which status.
    fn ends(&mut self) -> Option<i32> {
        let mut wanted = [PollFd::new(&self.child.descriptor, PollFlags::IN)];
        let patience = PATIENCE.try_into().expect("it is short");
        assert_eq!(poll(&mut wanted, Some(&patience)).expect("it is open"), 1, "it does not end");
        let ended = waitpid(Some(self.pid()), WaitOptions::empty()).expect("it is ours");
        self.has_ended = true;
        ended.and_then(|(_, status)| status.exit_status())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = kill_process(self.pid(), Signal::KILL);
            let _ = waitpid(Some(self.pid()), WaitOptions::empty());
        }
    }
}

/// An address that no other test has.
fn address(last: u8) -> SocketAddr {
    static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let turn = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let host = Ipv4Addr::new(127, high | 0x40, low, turn.wrapping_mul(16).wrapping_add(last));
    SocketAddr::new(host.into(), 5060)
}

fn text(place: &TempDir, service: SocketAddr, own: SocketAddr) -> String {
    format!(
        "[node]\nname = 'a'\nthreads = 1\nstate_directory = '{}'\n\
         [sip]\nlisten = ['udp://{service} digest off', 'udp://{own}']\n\
         [cluster]\nkey = '/nowhere/key'\naddresses = ['{}']\n\
         [[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n\
         [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n",
        place.path().display(),
        service.ip(),
    )
}

struct Phone(UdpSocket);

impl Phone {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self(socket)
    }

    fn ask(&self, to: SocketAddr, name: &str) {
        let from = self.0.local_addr().expect("bound");
        let ask = format!(
            "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK{name}\r\n\
             From: <sip:probe@{from}>;tag=1\r\nTo: <sip:{to}>\r\nCall-ID: {name}\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.send_to(ask.as_bytes(), to).expect("loopback");
    }

    fn register(&self, to: SocketAddr, user: &str) {
        let (from, domain) = (self.0.local_addr().expect("bound"), to.ip());
        let ask = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK{user}\r\n\
             From: <sip:{user}@{domain}>;tag=1\r\nTo: <sip:{user}@{domain}>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\n\
             Contact: <sip:{user}@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.send_to(ask.as_bytes(), to).expect("loopback");
    }

    /// Whatever was asked of the virtual address before has no answer: there is one event loop, and no socket has two turns
    /// while another one waits.
    fn hears_only_own(&self, engine: &Engine) {
        for name in ["one", "two"] {
            self.ask(engine.own, name);
            let answer = self.hears();
            assert!(answer.contains(&format!("Call-ID: {name}\r\n")), "{answer}");
        }
    }

    fn hears(&self) -> String {
        let mut room = [0; 2_000];
        let length = self.0.recv(&mut room).expect("something comes in time");
        String::from_utf8_lossy(&room[..length]).into_owned()
    }
}

/// A lease that does not end while the test runs.
fn lease(epoch: u64) -> SharedLease {
    SharedLease { epoch, since: epoch, deadline: boot_time() + Duration::from_secs(3_600) }
}

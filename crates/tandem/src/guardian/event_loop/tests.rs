//! Two guardians and a witness, with true sockets on the loopback interface, true disks and true processes; only what needs
//! rights is played.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ::host::{Inheritance, Order, PairError, Report as Said, boot_time};
use cluster::guardian::{Settings, Start};
use cluster::link::Link;
use cluster::{Epoch, HardwareAddress, Holder, LeasePlan, NodeId, ServiceId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::engine_process::Recipe;
use super::super::hands::{Closing, Hand, HandsView};
use super::super::hooks::{Event, Occasion};
use super::super::inbox::{self, inbox};
use super::super::keeper::REPORTS;
use super::super::links::{Place, Reached};
use super::super::memory::{Memory, incarnation};
use super::super::question::Question;
use super::super::report::Report;
use super::super::witness::{self, WitnessStart};
use super::*;
use crate::config::{Cluster, Config};

/// Longer than anything takes on a host that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long, because such a host keeps a node waiting.
const LEASE: Duration = Duration::from_secs(3);

#[test]
fn one_of_two_becomes_active_and_the_other_when_that_ends() {
    let mut pair = Pair::start();
    let first = pair.next_active();

    pair.stop(first);
    let second = pair.next_active();

    assert_ne!(first, second);
    let reports = pair.end();
    let phases = |node: usize| reports[node].iter().flat_map(|report| &report.phases).map(|end| end.phase);
    assert!(
        phases(first).any(|phase| phase == Phase::Majority)
            && phases(second).any(|phase| phase == Phase::Majority)
    );
}

#[test]
fn a_gate_that_does_not_open_is_a_fault_and_no_phase() {
    for is_stuck in [false, true] {
        let mut pair = Pair::with_gates(is_stuck);
        let first = pair.next_active();
        pair.wait_for_both_engines();

        pair.stop(first);
        let events = pair.events_until_active(1 - first);

        let is_gate = |event: &Event| event.reason == "the gate: it is stuck";
        let is_fault = |event: &&Event| event.occasion == Occasion::Fault && is_gate(event);
        assert_eq!(events.iter().filter(is_fault).count() > 0, is_stuck, "{events:?}");
        let reports = pair.end().concat();
        let takeovers: Vec<_> = reports.iter().filter(|report| !report.phases.is_empty()).collect();
        assert!(takeovers.len() >= 2);
        for report in takeovers {
            let is_told = report.phases.iter().any(|end| end.phase == Phase::Gate);
            assert_eq!(is_told, !is_stuck, "{report:?}");
        }
    }
}

#[test]
fn a_node_whose_engine_dies_gives_the_service_to_the_other_one() {
    let mut pair = Pair::start();
    let first = pair.next_active();
    pair.wait_for_both_engines();

    pair.kill_engine(first);

    assert_ne!(pair.next_active(), first);
    pair.end();
}

#[test]
fn an_engine_that_is_started_again_holds_nothing_until_it_says_so() {
    let mut pair = Pair::start();
    let standby = 1 - pair.next_active();
    pair.wait_for_both_engines();
    while pair.ready(standby) != 100 {
        std::thread::yield_now();
    }
    let pid = pair.engine_pid(standby).expect("it has an engine");

    pair.kill_engine_once(standby);
    // The second one never says how much it has.
    while pair.serving(standby).is_none_or(|serving| serving == pid) {
        std::thread::yield_now();
    }

    assert_eq!(pair.ready(standby), 0);
    pair.end();
}

/// The engine of the tests above: this very program is started as one. It is ready at its first start alone.
#[test]
#[ignore = "it is the engine of other tests, and has nothing to do without a guardian"]
fn an_engine() {
    let Ok(Inheritance { pair, page, .. }) = Inheritance::take() else { return };
    let _ = pair.send(Said::Serving);
    let program = std::env::args_os().next().expect("it has a name");
    if std::fs::File::create_new(Path::new(&program).with_extension("began")).is_ok() {
        let _ = pair.send(Said::Ready(100));
    }
    loop {
        page.beat(0, boot_time());
        match pair.receive() {
            Ok(Some(Order::Active(epoch))) => drop(pair.send(Said::Answered { epoch, at: boot_time() })),
            Ok(Some(Order::Drain)) => drop(pair.send(Said::Drained)),
            Ok(Some(Order::Stop)) | Err(PairError::Ended) => std::process::exit(0),
            Ok(Some(_)) => {}
            Ok(None) => {
                let beat_every = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
                let _ = poll(&mut [PollFd::new(&pair, PollFlags::IN)], Some(&beat_every));
            }
            Err(error) => unreachable!("{error}"),
        }
    }
}

/// Two nodes and what they tell.
struct Pair {
    nodes: Vec<Node>,
    events: Receiver<(usize, Event)>,
    gates: Arc<Mutex<Gates>>,
    place: tempfile::TempDir,
}

struct Node {
    sender: inbox::Sender,
    thread: JoinHandle<()>,
}

impl Pair {
    fn start() -> Self {
        Self::with_gates(false)
    }

    fn with_gates(is_stuck: bool) -> Self {
        let place = tempfile::TempDir::new().expect("there is a place for it");
        let port = UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("a port is free")
            .port();
        let at = move |host: u8| SocketAddr::new(IpAddr::from([127, 0, 0, host]), port);
        let witness = WitnessStart {
            key: KEY,
            listen: vec![at(3)],
            nodes: vec![("a".to_owned(), vec![at(1)]), ("b".to_owned(), vec![at(2)])],
            directory: place.path().join("witness"),
        };
        let socket = place.path().join("witness.sock");
        std::thread::spawn(move || {
            witness::run(witness, &socket, None).expect("it votes until the process ends")
        });
        let gates = Arc::new(Mutex::new(Gates::default()));
        let (events, heard) = channel();
        let nodes = (0..2_usize)
            .map(|me| {
                let (sender, inbox) = inbox().expect("a descriptor is left");
                let (directory, gates) = (place.path().join(me.to_string()), Arc::clone(&gates));
                let events = events.clone();
                let hooks = Hooks::play(move |event| drop(events.send((me, event))));
                let their = sender.clone();
                let thread = std::thread::spawn(move || {
                    let paths = [at(1), at(2), at(3)];
                    run_node(
                        me,
                        &paths,
                        &directory,
                        PlayedHands::new(me, is_stuck, gates),
                        their,
                        inbox,
                        hooks,
                    );
                });
                Node { sender, thread }
            })
            .collect();
        Self { nodes, events: heard, gates, place }
    }

    /// Waits until a node becomes active.
    fn next_active(&mut self) -> usize {
        loop {
            let (node, event) = self.events.recv_timeout(PATIENCE).expect("a node becomes active");
            if matches!(event, Event { occasion: Occasion::Active, .. }) {
                return node;
            }
        }
    }

    /// What is told until then, and once more after that.
    fn events_until_active(&mut self, wanted: usize) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let (node, event) = self.events.recv_timeout(PATIENCE).expect("a node becomes active");
            let is_it = (node, event.occasion) == (wanted, Occasion::Active);
            events.push(event);
            if is_it {
                return events;
            }
        }
    }

    fn wait_for_both_engines(&self) {
        for node in 0..2 {
            while self.engine_pid(node).is_none() {
                std::thread::yield_now();
            }
        }
        // The one that stands by has told the other that it could take over.
        let is_fit = || {
            let picture = [0, 1].map(|node| self.ask(node));
            let is_able =
                |node: &serde_json::Value| node["stance"] == "standby" || node["stance"] == "active";
            let nodes = picture.iter().filter_map(|picture| picture["nodes"].as_array()).flatten();
            nodes.filter(|node| is_able(node)).count() == 4
        };
        while !is_fit() {
            std::thread::yield_now();
        }
    }

    fn stop(&self, node: usize) {
        let wish = Inward::Cluster(Input::Wish(Wish::Stop));
        self.nodes[node].sender.send(wish).expect("the node is there");
    }

    /// For good: its program is gone too, or it would be back before the other node has heard of it.
    fn kill_engine(&self, node: usize) {
        std::fs::remove_file(program(&self.place.path().join(node.to_string()))).expect("it is there");
        self.kill_engine_once(node);
    }

    fn kill_engine_once(&self, node: usize) {
        let pid = self.engine_pid(node).and_then(rustix::process::Pid::from_raw).expect("it has an engine");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is there");
    }

    fn engine_pid(&self, node: usize) -> Option<i32> {
        self.ask(node)["engine"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
    }

    /// The engine of a node, if it serves.
    fn serving(&self, node: usize) -> Option<i32> {
        let view = self.ask(node);
        let pid = view["engine"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|_| view["engine"]["state"] == "ready")
    }

    /// How much of the state a node says that it holds.
    fn ready(&self, node: usize) -> u64 {
        self.ask(node)["nodes"][node]["ready"].as_u64().expect("it says so")
    }

    fn ask(&self, node: usize) -> serde_json::Value {
        let (reply, answer) = sync_channel(1);
        let question = Inward::Question(Question::ClusterStatus {}, reply);
        self.nodes[node].sender.send(question).expect("the node is there");
        answer.recv_timeout(PATIENCE).expect("it answers").expect("it can be answered")
    }

    /// Stops both and gives their reports.
    fn end(self) -> Vec<Vec<Report>> {
        for node in &self.nodes {
            // One that has ended is what is wanted.
            let _ = node.sender.send(Inward::Cluster(Input::Wish(Wish::Stop)));
        }
        for node in self.nodes {
            node.thread.join().expect("it does not panic");
        }
        assert_eq!(self.gates.lock().expect("nobody panicked").overlaps, 0);
        let reports = |node: usize| {
            let text = std::fs::read_to_string(self.place.path().join(node.to_string()).join(REPORTS));
            text.unwrap_or_default().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        vec![reports(0), reports(1)]
    }
}

const KEY: [u8; 32] = [7; 32];

fn run_node(
    me: usize,
    paths: &[SocketAddr; 3],
    directory: &Path,
    hands: PlayedHands,
    sender: inbox::Sender,
    inbox: Inbox,
    hooks: Hooks,
) {
    let memory = Memory::open(directory).expect("it is free");
    let own = std::env::current_exe().expect("it is known");
    std::os::unix::fs::symlink(own, program(directory)).expect("the place is new");
    let record = memory.record().expect("it can be made");
    let at = now().instant;
    let poll = Poll::new().expect("a descriptor is left");
    let ids = [0, 1, 2].map(MemberId);
    let link = Link::new(at, ids[me], ids, KEY, me as u64 + 1, [me as u8; 32]);
    let others: Vec<Place> = ids
        .into_iter()
        .zip(paths)
        .filter(|(id, _)| *id != ids[me])
        .map(|(member, path)| Place { member, addresses: vec![*path], reached: Reached::InOrder })
        .collect();
    let links = Links::open(at, link, &[paths[me]], &others, &poll);
    let recipe = Recipe {
        program: program(directory),
        arguments: ["guardian::event_loop::tests::an_engine", "--exact", "--ignored"]
            .map(Into::into)
            .to_vec(),
        user: None,
        key: [0; 32],
        segments: std::sync::Arc::new(::host::SegmentEnd::pair().expect("a pair").1),
        relay: Err("there is no gate".to_owned()),
        silence_max: PATIENCE,
    };
    let start = Start {
        service: ServiceId(0),
        me: Holder { node: NodeId(me as u8), incarnation: incarnation().expect("there is chance") },
        nodes: vec![NodeId(0), NodeId(1)],
        has_witness: true,
        known: BTreeMap::new(),
        record,
        settings: Settings { plan: LeasePlan { lease: LEASE }, preferred: None, digest: 0 },
    };
    let parts = Parts {
        guardian: Guardian::new(at, start),
        known: BTreeMap::new(),
        links,
        row: None,
        hands: Box::new(hands),
        engine: EngineProcess::new(at, recipe, sender.clone()).expect("a thread can be started"),
        keeper: Keeper::start(memory.directory(), memory.directory(), sender.clone())
            .expect("a thread can be started"),
        poll,
        inbox,
        signals: None,
        watch: None,
        hooks,
        reload: Reload::new(sender, || Err("it has no file".to_owned())),
        standing: Arc::default(),
        about: About { cluster: cluster(), me, interface: None, no_priority: None, no_locked_memory: None },
        notifier: Notifier::from_environment(at),
    };
    let (Parts { keeper, inbox, .. }, _) =
        EventLoop::new(parts).and_then(EventLoop::run).expect("it can wait");
    drop(inbox);
    keeper.finish();
}

/// The engine's program, in a node's directory.
fn program(directory: &Path) -> PathBuf {
    directory.join("engine")
}

/// What `status` shows is the only thing that is taken of it.
fn cluster() -> Cluster {
    let text = "[cluster]\naddresses = ['192.0.2.10']\n[[cluster.node]]\nname = 'a'\npaths = ['192.0.2.1']\n\
                [[cluster.node]]\nname = 'b'\npaths = ['192.0.2.2']\n";
    let config = Config::parse(Path::new("a.toml"), text).expect("it is right");
    config.cluster.expect("it has one")
}

/// Until when the gate of each node is open, as its kernel would have it.
#[derive(Debug)]
struct Gates {
    until: [Instant; 2],
    overlaps: usize,
}

impl Default for Gates {
    fn default() -> Self {
        Self { until: [Instant::START; 2], overlaps: 0 }
    }
}

#[derive(Debug)]
struct PlayedHands {
    me: usize,
    /// The gate does not open.
    is_stuck: bool,
    gates: Arc<Mutex<Gates>>,
    untold: Vec<(Deed, Instant)>,
}

impl PlayedHands {
    fn new(me: usize, is_stuck: bool, gates: Arc<Mutex<Gates>>) -> Self {
        Self { me, is_stuck, gates, untold: Vec::new() }
    }
}

impl Hands for PlayedHands {
    fn open_gate(&mut self, _: Epoch, until: Instant) {
        let at = now().instant;
        if self.is_stuck {
            return self.untold.push((Deed::Failed(Hand::Gate, "it is stuck".to_owned()), at));
        }
        self.untold.push((Deed::GateOpened, at));
        let mut gates = self.gates.lock().expect("nobody panicked");
        if gates.until[1 - self.me] > now().instant {
            gates.overlaps += 1;
        }
        gates.until[self.me] = until;
    }

    fn close_gate(&mut self, _: Epoch) -> Closing {
        self.gates.lock().expect("nobody panicked").until[self.me] = Instant::START;
        Closing::Done
    }

    fn admit(&mut self, _: Instant) {
        self.untold.push((Deed::Held, now().instant));
    }

    fn turn_away(&mut self) {}
    fn pass_on(&mut self, _: HardwareAddress, _: Instant) {}

    fn admits_at(&self) -> Option<HardwareAddress> {
        None
    }

    fn hold_addresses(&mut self) {}
    fn drop_addresses(&mut self) {}
    fn announce(&mut self) {}

    fn done_at_once(&mut self, into: &mut Vec<(Deed, Instant)>) {
        into.append(&mut self.untold);
    }

    fn done(&mut self, _: &Deed) {}

    fn view(&self) -> HandsView {
        HandsView::default()
    }

    fn finish(self: Box<Self>) {}
}

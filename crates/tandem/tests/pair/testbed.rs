//! Two servers whose leases tests give and take, a wire between them that can be stalled, and a phone.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::{Change, Loaded, PeerView, Store, StoreError, StoreState, StoredNonce};
use keys::RootKey;
use lease::{Epoch, LeaseMirror};
use net::{ConnectionLimits, Lease, Server};
use peer::{Identity, Peer, Plan};
use routing::{Settings, StoredBinding, TrustedPeer};
use sip::Aor;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

/// Far more than anything here takes, also on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

/// Event loops: two, so that answers cross from one to the other's partitions.
const THREADS: usize = 2;

pub struct Node {
    pub server: Server,
    pub store: Arc<MemoryStore>,
    lease: Arc<Given>,
    service: SocketAddr,
}

pub struct Pair {
    pub a: Node,
    pub b: Node,
    pub wire: Wire,
}

impl Pair {
    /// The first one is active, and both have the same.
    pub fn equal() -> Self {
        Self::with_disk(Vec::new())
    }

    /// As [`Self::equal`]; the second one has begun with this on its disk.
    pub fn with_disk(stored: Vec<StoredBinding>) -> Self {
        let [to_a, to_b] = [free_port(), free_port()];
        let wire = Wire::to(to_b);
        let store = MemoryStore { bindings: Mutex::new(stored), ..MemoryStore::default() };
        let hosts = [own_host(), own_host()];
        let a = Node::start(0, vec![to_a], vec![wire.address], MemoryStore::default(), hosts);
        let [host_a, host_b] = hosts;
        let b = Node::start(1, vec![to_b], vec![to_a], store, [host_b, host_a]);
        a.become_active(3);
        eventually("both are equal", || a.peer_ready() == 100);
        Self { a, b, wire }
    }
}

impl Node {
    /// One whose other node is nowhere.
    pub fn alone() -> Self {
        let node =
            Self::start(0, vec![free_port()], vec![free_port()], MemoryStore::default(), [own_host(); 2]);
        node.become_active(1);
        eventually("it has tried", || !node.view().troubles.is_empty());
        node
    }

    fn start(
        node: u8,
        listen: Vec<SocketAddr>,
        peers: Vec<SocketAddr>,
        store: MemoryStore,
        // Of the service, as it has it, and as the other node has it.
        [host, other]: [IpAddr; 2],
    ) -> Self {
        let (lease, store) = (Arc::new(Given::default()), Arc::new(store));
        let service = SocketAddr::new(host, 5060);
        let root_key = || RootKey::new([7; 32]);
        let server = Server::start(net::Start {
            settings: Arc::new(settings(service)),
            connection_limits: ConnectionLimits::default(),
            root_key: root_key(),
            node,
            boot: 1,
            threads: THREADS,
            store: Arc::clone(&store) as Arc<dyn Store>,
            lease: Arc::clone(&lease) as Arc<dyn Lease>,
            virtual_addresses: BTreeSet::from([host, other]),
            tickler: None,
            relay: net::RelayRules::default(),
            kernel_path: Err("there is none".to_owned()),
            records: None,
            peer: Some(Box::new(move |owners, own| {
                let known = engine::copies::KNOWN.to_vec();
                let plan = Plan { node, incarnation: u64::from(node) + 1, listen, peers, known };
                let identity = Identity::derive(&root_key())?;
                Ok(Arc::new(Peer::start(plan, identity, owners, peer::Start { epoch: Epoch(0), own })))
            })),
        });
        Self { server: server.expect("a server"), store, lease, service }
    }

    pub fn become_active(&self, epoch: u64) {
        self.lease.give(LeaseMirror::until(clock::Instant::FAR, Epoch(epoch)));
        self.server.look_at_lease();
    }

    pub fn lose_lease(&self) {
        self.lease.give(LeaseMirror::none());
        self.server.look_at_lease();
    }

    /// It takes over from another node, which ends as if it were killed: nobody is told. Two hosts have one virtual
    /// address; here this node gets the other one's when that has let go of it.
    pub fn take_over(&self, killed: &Self, epoch: u64) {
        killed.server.stop().expect("the store is in memory");
        let reloaded = self.server.reload(
            &settings(killed.service),
            ConnectionLimits::default(),
            net::RelayRules::default(),
        );
        reloaded.expect("the address is free");
        self.become_active(epoch);
    }

    pub fn contacts(&self, user: &str) -> Vec<String> {
        let contacts = self.server.contacts(Some(&aor(user)));
        contacts.iter().map(|it| String::from_utf8_lossy(&it.contact).into_owned()).collect()
    }

    pub fn count(&self, name: &str) -> u64 {
        self.server.status().counters.get(name).copied().expect("a counter of this name")
    }

    /// Answers that left though the other node may not hold what they stand for.
    pub fn degraded(&self) -> u64 {
        let counters = self.server.status().counters;
        counters.iter().filter(|(name, _)| name.starts_with("degraded_")).map(|(_, figure)| figure).sum()
    }

    pub fn view(&self) -> PeerView {
        self.server.status().peer.expect("it has one")
    }

    fn peer_ready(&self) -> u8 {
        match self.view().by_role {
            engine::ByRole::Active(view) => view.ready,
            engine::ByRole::Standby(_) => 0,
        }
    }
}

/// A phone that speaks UDP.
pub struct Phone(UdpSocket);

impl Phone {
    pub fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// A request without a body, whose branch, tag and Call-ID are of this name.
    pub fn request(&self, method: &str, uri: &str, name: &str) -> String {
        let from = self.address();
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};rport;branch=z9hG4bK{name}\r\n\
             From: <sip:phone@{from}>;tag={name}\r\nTo: <{uri}>\r\nCall-ID: {name}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:phone@{from}>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        )
    }

    pub fn say(&self, node: &Node, text: &str) {
        self.0.send_to(text.as_bytes(), node.service).expect("loopback");
    }

    /// Waits for a message that begins like this; others are passed over.
    pub fn hear(&self, beginning: &str) -> String {
        loop {
            let message = self.receive();
            if message.starts_with(beginning) {
                return message;
            }
        }
    }

    /// Registers, and gives the answer.
    pub fn register(&self, node: &Node, user: &str, cseq: u32) -> String {
        self.send_register(node, user, cseq);
        self.receive()
    }

    pub fn send_register(&self, node: &Node, user: &str, cseq: u32) {
        self.send(node, user, cseq, 600);
    }

    pub fn unregister(&self, node: &Node, user: &str, cseq: u32) -> String {
        self.send(node, user, cseq, 0);
        self.receive()
    }

    pub fn contact(&self, user: &str) -> String {
        format!("sip:{user}@{}", self.0.local_addr().expect("it is bound"))
    }

    fn send(&self, node: &Node, user: &str, cseq: u32, expires: u32) {
        let (contact, from) = (self.contact(user), self.0.local_addr().expect("it is bound"));
        let text = format!(
            "REGISTER sip:example.org SIP/2.0\r\n\
             Via: SIP/2.0/UDP {from};rport;branch=z9hG4bK{user}{cseq}\r\n\
             From: <sip:{user}@example.org>;tag=1\r\n\
             To: <sip:{user}@example.org>\r\n\
             Call-ID: register-{user}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <{contact}>;expires={expires}\r\n\
             Max-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.0.send_to(text.as_bytes(), node.service).expect("loopback");
    }

    pub fn receive(&self) -> String {
        let mut room = vec![0; 65_535];
        let (length, _) = self.0.recv_from(&mut room).expect("something comes in time");
        String::from_utf8_lossy(&room[..length]).into_owned()
    }
}

/// A wire to a node, which can be stalled: what is sent over it then arrives when it is healed.
pub struct Wire {
    pub address: SocketAddr,
    is_stalled: Arc<AtomicBool>,
}

impl Wire {
    fn to(end: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let is_stalled = Arc::new(AtomicBool::new(false));
        let known = Arc::clone(&is_stalled);
        std::thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let Ok(to) = TcpStream::connect(end) else { continue };
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (from, to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
                    let known = Arc::clone(&known);
                    std::thread::spawn(move || carry(from, to, &known));
                }
            }
        });
        Self { address, is_stalled }
    }

    pub fn stall(&self) {
        self.is_stalled.store(true, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.is_stalled.store(false, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_stalled: &AtomicBool) {
    let _ = to.set_nodelay(true);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(length) if length > 0 => length,
            _ => break,
        };
        while is_stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}

/// A lease that the test gives and takes.
struct Given(Mutex<LeaseMirror>);

impl Default for Given {
    fn default() -> Self {
        Self(Mutex::new(LeaseMirror::none()))
    }
}

impl Given {
    fn give(&self, mirror: LeaseMirror) {
        *self.0.lock().expect("no test panics inside") = mirror;
    }
}

impl Lease for Given {
    fn mirror(&self) -> LeaseMirror {
        *self.0.lock().expect("no test panics inside")
    }

    fn beat_every(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }

    fn beat(&self, _lane: usize, _now: clock::Instant) {}

    fn answered(&self, _epoch: Epoch, _at: clock::Instant) {}
}

/// A store that remembers what it was told.
#[derive(Default)]
pub struct MemoryStore {
    bindings: Mutex<Vec<StoredBinding>>,
    changes: Mutex<Vec<Change>>,
    loads: AtomicU64,
}

impl MemoryStore {
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().expect("no test panics inside").clone()
    }
}

impl Store for MemoryStore {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let account = routing::Account {
            aor,
            ha1: Vec::new(),
            aliases: Vec::new(),
            may_use: Vec::new(),
            calls: Default::default(),
        };
        reply(Loaded::Found(Arc::new(account)));
    }

    fn save(&self, change: Change) {
        self.changes.lock().expect("no test panics inside").push(change);
    }

    fn save_nonces(&self, _nonces: Vec<StoredNonce>) {}

    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        Ok(self.bindings.lock().expect("no test panics inside").clone())
    }

    fn nonces(&self) -> Result<Vec<StoredNonce>, StoreError> {
        Ok(Vec::new())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn state(&self) -> StoreState {
        StoreState { failing: None, owed: 0, dropped: 0, copy: None }
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn aor(user: &str) -> Aor {
    Aor::parse(&format!("{user}@example.org")).expect("an address of record")
}

fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    listener.local_addr().expect("it is bound")
}

/// An address that no other test of this or another process has.
fn own_host() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// Whoever is on the loopback interface is trusted.
fn settings(service: SocketAddr) -> Settings {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr(service),
        advertise: None,
        digest: false,
    };
    let trusted =
        TrustedPeer { network: "127.0.0.0/8".parse().expect("a network"), name: "loopback".to_owned() };
    Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::from(["example.org".to_owned()]),
        server: None,
        timers: transaction::Timers::default(),
        proxy: routing::Proxy::default(),
        registrar: routing::Registrar::default(),
        digest: routing::Digest::default(),
        nat: routing::Nat::default(),
        relay: Default::default(),
        edges: Vec::new(),
        is_location_published: false,
        location_peers: Default::default(),
        trunks: Vec::new(),
        trusted: vec![trusted],
        admission: Default::default(),
        dial_plan: routing::DialPlan::default(),
    }
}

//! A server to talk to, phones to talk with, and a store in memory.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::{Change, Loaded, Store, StoreError, StoreState, StoredNonce};
use keys::RootKey;
use net::{ConnectionLimits, Server, Start, StartError};
use routing::{Settings, StoredBinding, TrustedPeer};
use sip::Aor;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

/// What a test waits at most for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Event loops: two, so that messages cross from one to the other's shards.
const THREADS: usize = 2;

/// An address that no other test of this or another process has.
pub(crate) fn own_host() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// A port of this address that nobody has.
pub(crate) fn free_port(host: IpAddr) -> SocketAddr {
    UdpSocket::bind((host, 0)).and_then(|socket| socket.local_addr()).expect("loopback")
}

pub(crate) fn listener(transport: Transport, local: SocketAddr) -> Listener {
    // Numbers are the server's.
    Listener { id: ListenerId(0), transport, local: LocalAddr(local), advertise: None, digest: false }
}

/// Settings with these listeners. Whoever is on the loopback interface is trusted.
pub(crate) fn settings(listeners: &[(Transport, SocketAddr)]) -> Settings {
    let listeners = listeners.iter().zip(0..).map(|((transport, local), number)| Listener {
        id: ListenerId(number),
        ..listener(*transport, *local)
    });
    let trusted =
        TrustedPeer { network: "127.0.0.0/8".parse().expect("a network"), name: "loopback".to_owned() };
    Settings {
        listeners: Arc::new(Listeners::new(listeners.collect())),
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

pub(crate) fn start_with(
    listeners: &[(Transport, SocketAddr)],
    connection_limits: ConnectionLimits,
    store: Arc<MemoryStore>,
) -> Result<Server, StartError> {
    Server::start(Start {
        settings: Arc::new(settings(listeners)),
        connection_limits,
        root_key: root_key(),
        node: 0,
        boot: 1,
        threads: THREADS,
        store,
        lease: Arc::new(net::Permanent),
        virtual_addresses: Default::default(),
        tickler: None,
        relay: net::RelayRules::default(),
        kernel_path: Err("there is none".to_owned()),
        records: None,
        peer: None,
    })
}

pub(crate) fn root_key() -> RootKey {
    RootKey::new([7; 32])
}

pub(crate) fn start(listeners: &[(Transport, SocketAddr)]) -> Server {
    start_with(listeners, ConnectionLimits::default(), Arc::default()).expect("a server")
}

/// How often `name` was counted.
pub(crate) fn counted(server: &Server, name: &str) -> u64 {
    server.status().counters.get(name).copied().expect("a counter of this name")
}

/// A store that remembers what it was told, and knows every account.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) bindings: Mutex<Vec<StoredBinding>>,
    pub(crate) changes: Mutex<Vec<Change>>,
    pub(crate) looked_up: Mutex<Vec<Aor>>,
    pub(crate) is_flushed: AtomicBool,
}

impl Store for MemoryStore {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        self.looked_up.lock().expect("no test panics inside").push(aor.clone());
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
        self.is_flushed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn state(&self) -> StoreState {
        StoreState { failing: None, owed: 0, dropped: 0, copy: None }
    }
}

/// An OPTIONS request, named by its Call-ID.
pub(crate) fn options(uri: &str, transport: &str, from: SocketAddr, call_id: &str) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {from};rport;branch=z9hG4bK{call_id}\r\n\
         From: <sip:probe@{from}>;tag=1\r\n\
         To: <{uri}>\r\n\
         Call-ID: {call_id}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// A REGISTER of `sip:user@example.org` with a contact at the phone's own address.
pub(crate) fn register(user: &str, transport: &str, from: SocketAddr, cseq: u32, more: &str) -> String {
    let parameter = transport.to_ascii_lowercase();
    format!(
        "REGISTER sip:example.org SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {from};rport;branch=z9hG4bK{user}{cseq}\r\n\
         From: <sip:{user}@example.org>;tag=1\r\n\
         To: <sip:{user}@example.org>\r\n\
         Call-ID: register-{user}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         Contact: <sip:{user}@{from};transport={parameter}>\r\n\
         Max-Forwards: 70\r\n\
         {more}Content-Length: 0\r\n\r\n"
    )
}

/// A phone that speaks UDP.
pub(crate) struct UdpPhone(pub(crate) UdpSocket);

impl UdpPhone {
    pub(crate) fn new(host: IpAddr) -> Self {
        let socket = UdpSocket::bind((host, 0)).expect("loopback");
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    pub(crate) fn send(&self, to: SocketAddr, message: &[u8]) {
        self.0.send_to(message, to).expect("loopback");
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut room = vec![0; 65_535];
        let (length, _) = self.0.recv_from(&mut room).expect("something comes in time");
        room.truncate(length);
        room
    }

    pub(crate) fn receive_text(&self) -> String {
        String::from_utf8(self.receive()).expect("SIP is text here")
    }
}

/// A phone that speaks TCP.
pub(crate) struct TcpPhone(pub(crate) TcpStream);

impl TcpPhone {
    pub(crate) fn connect(to: SocketAddr) -> Self {
        Self::of(TcpStream::connect(to).expect("it listens"))
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        Self(stream)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("bound")
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        self.0.write_all(message).expect("the connection is there");
    }

    /// One message without a body.
    pub(crate) fn receive_text(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).expect("something comes in time");
            text.extend_from_slice(&byte);
        }
        String::from_utf8(text).expect("SIP is text here")
    }

    pub(crate) fn receive_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut room = vec![0; count];
        self.0.read_exact(&mut room).expect("something comes in time");
        room
    }

    /// Reads until the server has ended the connection in order; `None` if it was reset.
    pub(crate) fn receive_to_the_end(&mut self) -> Option<String> {
        let mut text = String::new();
        match self.0.read_to_string(&mut text) {
            Ok(_) => Some(text),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it was not ended");
                None
            }
        }
    }

    /// Waits until the server ends the connection.
    pub(crate) fn expect_end(&mut self) {
        let mut room = [0; 1_024];
        loop {
            match self.0.read(&mut room) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionReset,
                        "the connection was not ended"
                    );
                    return;
                }
            }
        }
    }
}

/// Takes the next connection.
pub(crate) fn accept(listener: &TcpListener) -> (TcpPhone, SocketAddr) {
    listener.set_nonblocking(true).expect("an option");
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false).expect("an option");
                return (TcpPhone::of(stream), from);
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                assert!(std::time::Instant::now() < deadline, "no connection came");
                std::thread::yield_now();
            }
        }
    }
}

/// Waits until `is_so` holds: for what the server shows nobody at once.
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

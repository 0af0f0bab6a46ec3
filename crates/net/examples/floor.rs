//! What the edge costs for each datagram: processor time of one event loop, by kind of datagram.
//!
//! ```text
//! cargo run --release -p net --example floor
//! ```
//!
//! A keepalive is received and swallowed, a STUN request is answered by the loop itself, and an OPTIONS goes
//! through a shard. The load comes from another thread with so many datagrams under way.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use engine::{Change, Loaded, Store, StoreError, StoreState, StoredNonce};
use keys::RootKey;
use net::{ConnectionLimits, Server, Start};
use routing::{Settings, StoredBinding};
use sip::Aor;
use transport::{Listener, ListenerId, Listeners, LocalAddr, Transport};

const DATAGRAMS: usize = 200_000;
const UNDER_WAY: usize = 32;
const ROUNDS: usize = 5;
const SERVER: &str = "127.0.0.1:15060";

fn main() -> Result<(), Box<dyn Error>> {
    let server = start()?;
    wait_for_answer()?;
    println!("{:>12} {:>12} {:>12}", "", "best µs", "median µs");
    for kind in [Kind::Keepalive, Kind::Stun, Kind::Options] {
        let mut costs: Vec<f64> = Vec::new();
        for round in 0..ROUNDS {
            costs.push(measure(kind, round)?);
        }
        costs.sort_by(f64::total_cmp);
        println!("{:>12} {:>12.2} {:>12.2}", format!("{kind:?}"), costs[0], costs[ROUNDS / 2]);
    }
    server.stop()?;
    Ok(())
}

/// The event loop runs once it has answered.
fn wait_for_answer() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.", SERVER)?;
    socket.recv(&mut [0; 2_048])?;
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Keepalive,
    Stun,
    Options,
}

/// Microseconds of the event loop for each datagram.
fn measure(kind: Kind, round: usize) -> Result<f64, Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(SERVER)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let from = socket.local_addr()?;
    let before = loop_time()?;
    let mut room = [0; 2_048];
    let mut answered = 0;
    for number in 0..DATAGRAMS {
        match kind {
            Kind::Keepalive => socket.send(b"\r\n\r\n")?,
            Kind::Stun => socket.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42transaction.")?,
            Kind::Options => socket.send(options(from, round, number).as_bytes())?,
        };
        if kind != Kind::Keepalive && number >= UNDER_WAY {
            answered += usize::from(socket.recv(&mut room).is_ok());
        }
    }
    while kind != Kind::Keepalive && socket.recv(&mut room).is_ok() {
        answered += 1;
    }
    if kind == Kind::Keepalive {
        // The rest is taken within a moment; what is then still to come is nothing against the whole.
        std::thread::sleep(Duration::from_millis(50));
    } else if answered < DATAGRAMS {
        println!("{kind:?}: {} of {DATAGRAMS} not answered", DATAGRAMS - answered);
    }
    Ok((loop_time()? - before).as_secs_f64() * 1e6 / DATAGRAMS as f64)
}

/// Processor time of the event loop so far.
fn loop_time() -> Result<Duration, Box<dyn Error>> {
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if fs::read_to_string(task.join("comm"))?.trim() == "net-udp-0" {
            let figures = fs::read_to_string(task.join("schedstat"))?;
            let nanoseconds = figures.split(' ').next().ok_or("no figures")?.parse()?;
            return Ok(Duration::from_nanos(nanoseconds));
        }
    }
    Err("there is no event loop".into())
}

fn options(from: SocketAddr, round: usize, number: usize) -> String {
    format!(
        "OPTIONS sip:{SERVER} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};rport;branch=z9hG4bK{round}-{number}\r\n\
         From: <sip:probe@{SERVER}>;tag=1\r\n\
         To: <sip:{SERVER}>\r\n\
         Call-ID: floor-{round}-{number}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

fn start() -> Result<Server, Box<dyn Error>> {
    let listener = Listener {
        id: ListenerId(0),
        transport: Transport::Udp,
        local: LocalAddr(SERVER.parse()?),
        advertise: None,
        digest: false,
    };
    let settings = Settings {
        listeners: Arc::new(Listeners::new(vec![listener])),
        domains: BTreeSet::new(),
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
        trusted: Vec::new(),
        admission: Default::default(),
        dial_plan: routing::DialPlan::default(),
    };
    Ok(Server::start(Start {
        settings: Arc::new(settings),
        connection_limits: ConnectionLimits::default(),
        root_key: RootKey::new([7; 32]),
        node: 0,
        boot: 1,
        threads: 1,
        store: Arc::new(NoStore),
        lease: Arc::new(net::Permanent),
        virtual_addresses: Default::default(),
        peer: None,
        tickler: None,
        relay: net::RelayRules::default(),
        kernel_path: Err("there is none".to_owned()),
        records: None,
    })?)
}

struct NoStore;

impl Store for NoStore {
    fn load_account(&self, _aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        reply(Loaded::NotFound);
    }
    fn save(&self, _change: Change) {}
    fn save_nonces(&self, _nonces: Vec<StoredNonce>) {}
    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        Ok(Vec::new())
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

//! Two nodes with tables of texts, and a wire between them that can be cut.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{Outcome, Owners, Peer as _, PeerCounts};
use keys::RootKey;
use peer::{Identity, Peer, Plan, Start};
use replica::{Apply, Capsule, Epoch, Fetched, Kind, Known, Place, Ticket, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const KIND: Kind = Kind(1);

/// Far more than anything here takes, also on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Node {
    pub peer: Peer,
    pub plan: Plan,
    pub address: SocketAddr,
    table: Arc<Table>,
    identity: Identity,
    tickets: AtomicU64,
}

#[derive(Default)]
struct Table {
    rows: Mutex<BTreeMap<u64, (Bytes, Bytes)>>,
    settled: Mutex<BTreeMap<Ticket, Outcome>>,
    superseded: Mutex<Option<Epoch>>,
    given: AtomicU64,
    is_held_up: AtomicBool,
    is_at_work: AtomicBool,
}

impl Table {
    fn put(&self, key: Bytes, content: Bytes) -> Place {
        let number = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        let mut rows = self.rows.lock().unwrap();
        rows.retain(|_, (other, _)| *other != key);
        rows.insert(number, (key, content));
        Place { owner: 0, number }
    }
}

impl Owners for Table {
    fn apply(&self, apply: Apply) -> Option<Place> {
        self.is_at_work.store(true, Ordering::SeqCst);
        if self.is_held_up.load(Ordering::SeqCst) {
            // Another thread looks after the runtime's clock and sockets meanwhile.
            tokio::task::block_in_place(|| {
                while self.is_held_up.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let place = self.put(apply.capsule.key, apply.capsule.bytes);
        self.is_at_work.store(false, Ordering::SeqCst);
        Some(place)
    }

    fn remove(&self, _kind: Kind, place: Place) {
        self.rows.lock().unwrap().remove(&place.number);
    }

    fn fetch(&self, wanted: Vec<Wanted>) -> Vec<Fetched> {
        let rows = self.rows.lock().unwrap();
        let fetch = |wanted: Wanted| {
            let row = rows.get(&wanted.place.number);
            let capsule = row.map(|(key, content)| Capsule {
                kind: KIND,
                format: 1,
                key: key.clone(),
                bytes: content.clone(),
                left: Duration::from_secs(60),
            });
            Fetched { wanted, capsule }
        };
        wanted.into_iter().map(fetch).collect()
    }

    fn settled(&self, settled: &[(Ticket, Outcome)]) {
        for &(ticket, outcome) in settled {
            let before = self.settled.lock().unwrap().insert(ticket, outcome);
            assert_eq!(before, None, "a wait ends once");
        }
    }

    fn superseded(&self, epoch: Epoch) {
        *self.superseded.lock().unwrap() = Some(epoch);
    }
}

/// Two standbys that know where the other one is, with the keys of these numbers.
pub async fn nodes(keys: [u8; 2]) -> [Node; 2] {
    let [one, other] =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let node = |number: usize, listener| {
        let plan = Plan {
            node: number as u8,
            incarnation: 100 + number as u64,
            listen: vec![],
            peers: vec![addresses[1 - number]],
            known: vec![Known { kind: KIND, format_max: 1 }],
        };
        let identity = Identity::derive(&RootKey::new([keys[number]; 32])).unwrap();
        let table = Arc::new(Table::default());
        let start = Start { epoch: Epoch(0), own: Vec::new() };
        let peer = Peer::start_on(
            vec![listener],
            plan.clone(),
            identity.clone(),
            Arc::<Table>::clone(&table),
            start,
        );
        Node { peer, plan, address: addresses[number], table, identity, tickets: AtomicU64::new(1_000) }
    };
    [node(0, one), node(1, other)]
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn capsule(key: &str, content: &str) -> Capsule {
    Capsule {
        kind: KIND,
        format: 1,
        key: Bytes::copy_from_slice(key.as_bytes()),
        bytes: Bytes::copy_from_slice(content.as_bytes()),
        left: Duration::from_secs(60),
    }
}

impl Node {
    /// Lets the owner come to no end with what it is given, or lets it go on.
    pub fn hold_owner_up(&self, is_held_up: bool) {
        self.table.is_held_up.store(is_held_up, Ordering::SeqCst);
    }

    /// Whether the owner has been given something and is not done with it.
    pub fn is_owner_at_work(&self) -> bool {
        self.table.is_at_work.load(Ordering::SeqCst)
    }

    /// The same node with another plan, which listens nowhere.
    pub fn start_again(&mut self, plan: Plan) {
        let start = Start { epoch: Epoch(0), own: Vec::new() };
        let (identity, table) = (self.identity.clone(), Arc::<Table>::clone(&self.table));
        self.peer = Peer::start_on(vec![], plan.clone(), identity, table, start);
        self.plan = plan;
    }

    pub fn put(&self, key: &str, content: &str) {
        let _ = self.put_posted(key, content);
    }

    pub fn remove(&self, key: &str) {
        let _ = self.peer.remove(KIND, key.as_bytes());
    }

    pub fn put_and_wait(&self, key: &str, content: &str) -> Ticket {
        let posted = self.put_posted(key, content);
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        self.peer.wait(&[(ticket, posted)]);
        ticket
    }

    pub async fn wait_for_put(&self, key: &str, content: &str) -> Outcome {
        self.outcome(self.put_and_wait(key, content)).await
    }

    /// On a busy host a wait may end late; then it is put again.
    pub async fn put_until_held(&self, key: &str, content: &str) -> Outcome {
        let begun = Instant::now();
        loop {
            let outcome = self.wait_for_put(key, content).await;
            if outcome == Outcome::Held || begun.elapsed() > PATIENCE {
                return outcome;
            }
        }
    }

    pub async fn outcome(&self, ticket: Ticket) -> Outcome {
        until("the end of a wait", || self.table.settled.lock().unwrap().contains_key(&ticket)).await;
        self.table.settled.lock().unwrap()[&ticket]
    }

    pub fn content(&self, key: &str) -> Option<String> {
        let rows = self.table.rows.lock().unwrap();
        let row = rows.values().find(|(other, _)| other == key.as_bytes());
        row.map(|(_, content)| String::from_utf8_lossy(content).into_owned())
    }

    pub fn len(&self) -> usize {
        self.table.rows.lock().unwrap().len()
    }

    pub fn superseded(&self) -> Option<Epoch> {
        *self.table.superseded.lock().unwrap()
    }

    pub fn counts(&self) -> PeerCounts {
        self.peer.view().counts
    }

    fn put_posted(&self, key: &str, content: &str) -> replica::Posted {
        let capsule = capsule(key, content);
        let place = self.table.put(capsule.key.clone(), capsule.bytes.clone());
        self.peer.put(capsule, place)
    }
}

/// A wire that one node's calls to the other go through.
pub struct Wire {
    state: Arc<AtomicU8>,
}

const WHOLE: u8 = 0;
const CUT: u8 = 1;
const STALLED: u8 = 2;

impl Wire {
    pub async fn between(caller: &mut Node, called: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, to) = (listener.local_addr().unwrap(), called.address);
        let state = Arc::new(AtomicU8::new(WHOLE));
        let known = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                if known.load(Ordering::SeqCst) != CUT
                    && let Ok(to) = TcpStream::connect(to).await
                {
                    let (one, other) = (from.into_split(), to.into_split());
                    tokio::spawn(carry(one.0, other.1, Arc::clone(&known)));
                    tokio::spawn(carry(other.0, one.1, Arc::clone(&known)));
                }
            }
        });
        caller.start_again(Plan { peers: vec![address], ..caller.plan.clone() });
        Self { state }
    }

    pub fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    pub fn stall(&self) {
        self.state.store(STALLED, Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.state.store(WHOLE, Ordering::SeqCst);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    state: Arc<AtomicU8>,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut held = 0;
    loop {
        match state.load(Ordering::SeqCst) {
            CUT => return,
            STALLED => tokio::time::sleep(Duration::from_millis(1)).await,
            _ if held > 0 => {
                if to.write_all(&buffer[..held]).await.is_err() {
                    return;
                }
                held = 0;
            }
            _ => match tokio::time::timeout(Duration::from_millis(5), from.read(&mut buffer)).await {
                Ok(Ok(length)) if length > 0 => held = length,
                Ok(_) => return,
                Err(_) => {}
            },
        }
    }
}

//! A world: server, phones, routers, network, database and names, in one thread, with virtual time.
//!
//! All that happens stands in one queue, by time and then by the order in which it was caused. The
//! world takes the next happening, or lets the machine act that wants to be woken first, and puts what
//! comes of it back into the queue. Nothing else moves time. So the same seed gives the same bytes.

mod acts;
mod carry;
mod deliver;
mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clock::{Instant, Now, WallTime};
use keys::RootKey;
use routing::Settings;
use sip::Aor;
use transport::selection::Records;

use crate::cast::{self, Cast};
use crate::dns::Resolver;
use crate::events::Events;
use crate::ledger::{Bindings, Calls, Disturbances};
use crate::nat::Nat;
use crate::neighbour::Neighbour;
use crate::network::{Conditions, Network};
use crate::node::Node;
use crate::phone::{self, Phone};
use crate::rng::Rng;
use crate::store::Store;
use crate::stranger::Stranger;
use crate::stream::{Arrival, Arrivals, End, StreamId, Streams};
use crate::trace::Trace;
use crate::watch::{Cause, Watch};

pub(crate) use acts::Action;

/// Who has an end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Node,
    Phone(usize),
    Stranger,
}

/// What happens at a time.
#[derive(Debug)]
enum Happening {
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream {
        id: StreamId,
        end: End,
        arrival: Arrival,
    },
    /// The store's reply to this start of the server.
    Account {
        boot: u32,
        partition: u16,
        aor: Aor,
    },
    /// The resolver's answer to this start of the server.
    Resolved {
        boot: u32,
        shard: u16,
        token: routing::Token,
        records: Records,
    },
    Act(Action),
    /// The books are compared with what is.
    Audit,
}

/// A phone and where it stands.
#[derive(Debug)]
struct Resident {
    phone: Phone,
    nat: Option<usize>,
    listens: Listens,
}

/// Where a phone in the open listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listens {
    /// For datagrams and connections.
    Both,
    /// For datagrams only.
    UdpOnly,
}

/// What a scenario looks at: what phones said, and every datagram when it was sent.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// Who said what, and when.
    pub(crate) facts: Vec<(Instant, usize, phone::Fact)>,
    /// From where, to where, and what.
    pub(crate) datagrams: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Datagrams from this address are kept back until they are sent again by the scenario.
    pub(crate) holds: Option<SocketAddr>,
}

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Happening>,
    at_this_instant: u32,
    network: Network,
    streams: Streams,
    ends: BTreeMap<StreamId, [Host; 2]>,
    nats: Vec<Nat>,
    residents: Vec<Resident>,
    neighbour: Neighbour,
    stranger: Stranger,
    settings: Arc<Settings>,
    root: RootKey,
    boot: u32,
    node: Node,
    is_down: bool,
    store: Store,
    resolver: Resolver,
    cause: Cause,
    excused_dead: u64,
    opened: u16,
    is_over: bool,
    /// What a scenario looks at.
    pub(crate) tap: Option<Tap>,
    /// How often what happened.
    pub(crate) events: Events,
    /// What happened.
    pub(crate) trace: Trace,
    /// Rules of the wire.
    pub(crate) watch: Watch,
    /// The bindings that ought to be.
    pub(crate) bindings: Bindings,
    /// The calls.
    pub(crate) calls: Calls,
    /// Who was hurt when.
    pub(crate) disturbances: Disturbances,
}

/// The calendar at the start of every world.
const BEGAN: WallTime = WallTime::from_millis(1_800_000_000_000);
/// A machine that wants to be woken more often at one instant will never stop.
const WAKES_MAX: u32 = 20_000;
/// The books are compared so often.
const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// How long the database takes for an account.
const LOOK_UP: Duration = Duration::from_millis(3);

impl World {
    /// A world at its beginning.
    pub(crate) fn new(
        mut rng: Rng,
        cast: Cast,
        settings: Settings,
        conditions: Conditions,
        shown: bool,
    ) -> Self {
        let settings = Arc::new(settings);
        let root = RootKey::new(std::array::from_fn(|_| rng.next() as u8));
        let mut store = Store::new();
        for (user, password) in cast::accounts() {
            store.add_account(user, cast::DOMAIN, &password);
        }
        store.forward(cast::FORWARDED, cast::DOMAIN, "alice");
        for binding in cast::bindings_of_old(BEGAN + Duration::from_secs(1 << 20)) {
            store.add_binding(binding);
        }
        let mut friends: BTreeSet<_> = cast.nats.iter().map(Nat::outside).collect();
        // Where the route set of a spiral names the server twice in a row it sends to itself.
        friends.extend(
            [cast::NEIGHBOUR, cast::DEAD_SERVER, cast::FIRST, cast::SECOND, cast::SIXTH, cast::ADVERTISED]
                .map(|own| own.ip()),
        );
        friends.extend([cast::REGISTRAR, cast::CARRIER, cast::FAILING_GATEWAY].map(|server| server.ip()));
        let open = cast.members.iter().filter(|member| member.nat.is_none());
        friends.extend(open.map(|member| member.setup.local.ip()));
        let residents = cast
            .members
            .into_iter()
            .map(|member| Resident {
                phone: Phone::new(member.setup),
                nat: member.nat,
                listens: Listens::Both,
            })
            .collect();
        let began = Instant::START + Duration::from_secs(1);
        let mut world = Self {
            now: began,
            sequence: 0,
            queue: BTreeMap::new(),
            at_this_instant: 0,
            network: Network::new(rng.branch("network"), conditions),
            streams: Streams::new(rng.branch("streams")),
            ends: BTreeMap::new(),
            nats: cast.nats,
            residents,
            neighbour: cast.neighbour,
            stranger: Stranger::new(rng.branch("stranger")),
            node: Node::start(Now::new(began, BEGAN), settings.clone(), &root, 1),
            settings,
            root,
            boot: 1,
            is_down: false,
            store,
            resolver: Resolver::Up,
            cause: Cause::default(),
            excused_dead: 0,
            opened: 0,
            is_over: false,
            tap: None,
            events: Events::default(),
            trace: Trace::new(shown),
            watch: Watch::new(friends),
            bindings: Bindings::default(),
            calls: Calls::default(),
            disturbances: Disturbances::default(),
        };
        let now = world.clocks();
        world.node.restore(now, world.store.bindings(), world.store.nonces());
        world.later(world.now + AUDIT_EVERY, Happening::Audit);
        world
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Both clocks.
    pub(crate) fn clocks(&self) -> Now {
        Now::new(self.now, BEGAN + self.now.since(Instant::START))
    }

    /// The server.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// A phone of the cast.
    pub(crate) fn phone(&self, number: usize) -> &Phone {
        &self.residents[number].phone
    }

    /// A phone that listens on UDP only.
    pub(crate) fn refuses_connections(&mut self, number: usize) {
        self.residents[number].listens = Listens::UdpOnly;
    }

    /// Lets something be done at a later time.
    pub(crate) fn plan(&mut self, at: Instant, action: Action) {
        self.later(at, Happening::Act(action));
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(crate) fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Lets time pass until then.
    pub(crate) fn run_until(&mut self, until: Instant) {
        while !self.is_over && self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Takes the next happening up to `until`; `false`: there is none.
    fn step(&mut self, until: Instant) -> bool {
        let queued = self.queue.first_key_value().map(|(&(at, _), _)| at);
        let node = if self.is_down { None } else { self.node.poll_timeout() };
        let phone = self
            .residents
            .iter()
            .enumerate()
            .filter_map(|(number, resident)| Some((resident.phone.poll_timeout()?, number)))
            .min();
        let next = [queued, node, phone.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(next) = next.filter(|&next| next <= until) else { return false };
        self.move_to(next);
        if queued.is_some_and(|at| at <= self.now) {
            if let Some((_, happening)) = self.queue.pop_first() {
                self.happen(happening);
            }
        } else if node.is_some_and(|at| at <= self.now) {
            self.cause = Cause::default();
            self.trace.add(self.now, format_args!("the server wakes"), b"");
            let mut out = Vec::new();
            let now = self.clocks();
            self.node.handle_timeout(now, &mut out);
            self.carry_node(out);
        } else if let Some((_, number)) = phone {
            let mut out = Vec::new();
            self.residents[number].phone.handle_timeout(self.now, &mut out);
            self.carry_phone(number, out);
        }
        true
    }

    /// A machine that says again and again that its time has come, and does nothing, stops the world.
    fn move_to(&mut self, next: Instant) {
        if next > self.now {
            self.now = next;
            self.at_this_instant = 0;
        }
        self.at_this_instant += 1;
        if self.at_this_instant > WAKES_MAX {
            self.watch.breach(
                self.now,
                "every machine comes to rest",
                format!("{:?}", self.node.poll_timeout()),
            );
            self.is_over = true;
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
            Happening::Stream { id, end, arrival } => self.deliver_stream(id, end, arrival),
            Happening::Account { boot, partition, aor } => self.reply_account(boot, partition, aor),
            Happening::Resolved { boot, shard, token, records } => {
                if boot == self.boot && !self.is_down {
                    self.trace.add(self.now, format_args!("resolved {records:?}"), b"");
                    self.cause = Cause::default();
                    let (now, mut out) = (self.clocks(), Vec::new());
                    self.node.handle_resolved(now, shard, token, records, &mut out);
                    self.carry_node(out);
                }
            }
            Happening::Act(action) => self.act(action),
            Happening::Audit => {
                self.audit();
                self.later(self.now + AUDIT_EVERY, Happening::Audit);
            }
        }
    }

    /// Sends a datagram on its way.
    pub(crate) fn transmit(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if let Some(tap) = &mut self.tap {
            tap.datagrams.push((from, to, bytes.clone()));
            if tap.holds == Some(from) {
                return;
            }
        }
        let mut arrivals = self.network.carry(self.now, from.ip(), to.ip(), &mut self.events);
        while let Some(at) = arrivals.pop() {
            self.later(at, Happening::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    fn close(&mut self, id: StreamId, host: Host) {
        if let Some(end) = self.end_of(id, host) {
            self.stream(|streams, network, now, out| streams.close(now, network, (id, end), out));
        }
    }

    fn stream(&mut self, act: impl FnOnce(&mut Streams, &mut Network, Instant, &mut Arrivals)) {
        let mut arrivals = Vec::new();
        act(&mut self.streams, &mut self.network, self.now, &mut arrivals);
        self.queue_arrivals(arrivals);
    }

    fn queue_arrivals(&mut self, arrivals: Arrivals) {
        for (at, id, end, arrival) in arrivals {
            self.later(at, Happening::Stream { id, end, arrival });
        }
    }

    fn end_of(&self, id: StreamId, host: Host) -> Option<End> {
        let hosts = self.ends.get(&id)?;
        match hosts.iter().position(|one| *one == host)? {
            0 => Some(End::Opener),
            _ => Some(End::Listener),
        }
    }

    fn later(&mut self, at: Instant, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }
}

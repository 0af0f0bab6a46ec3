//! A running server: its start, its reload, its end, and the questions that the operator asks.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use engine::{OwnEntry, Owners, Peer, Readiness, Records, SlowedName, Store, StoreError, Traffic};
use keys::RootKey;
use lease::Epoch;
use media::stream::StreamFigures;
use routing::account::{BindingView, Imported};
use routing::bans::{Ban, NeverBanned, SourceNetwork};
use routing::gateway::{GatewayView, Service, UnknownGateway};
use routing::{CallView, Gateway, RegistrationView, Settings, StoredBinding};
use sip::Aor;
use tokio::runtime::Runtime;
use tracing::{info, warn};
use transport::{ConnectionLimits, Handshake, Listener, ListenerId, Transport};

use crate::alarm::{Alarm, Event};
use crate::clocks;
use crate::copies::{Copies, Owner};
use crate::edge::Edge;
use crate::import::{self, HeldBy, StandsBy};
use crate::latency::Latencies;
use crate::machines::Machines;
use crate::mandate::{Lease, Mandate};
use crate::numbering::{Exhausted, Numbering};
use crate::owners::EdgeOwners;
use crate::published::EdgePublished;
use crate::relay::{self, KernelPath, Relay, RelayPath, RelayRules, Tell};
use crate::resolver::Resolver;
use crate::rtpengine::{Rtpengines, TellAnswer};
use crate::seat::Seat;
use crate::socket::{self, BindError};
use crate::status::{CallStatus, Held, ListenerStatus, Status};
use crate::stream::{self, Streams, Tickler};
use crate::tally::Tallies;
use crate::udp::{EventLoop, UdpListener, UdpListeners};
use crate::upkeep::{self, Pulse};

mod drain;

pub use drain::{DRAIN_TIME_MAX, DRAIN_TURNS_MAX};

/// Event loops of one server: one for each core of the largest hosts.
const THREADS_MAX: usize = 256;
/// A loop wakes each half second; one that has not for so long hangs.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Threads for streams, timers and the resolver.
const TOKIO_THREADS_MAX: usize = 4;

/// What a server is started with.
pub struct Start {
    /// The settings. Listeners get numbers of the server's own, see [`Server::settings`].
    pub settings: Arc<Settings>,
    /// Limits of stream connections.
    pub connection_limits: ConnectionLimits,
    /// The node's or cluster's secret.
    pub root_key: RootKey,
    /// Which node of the cluster this is; 0 for a node without a peer.
    pub node: u8,
    /// A number that no other start of this node had.
    pub boot: u32,
    /// Event loops; 0 means one for each core.
    pub threads: usize,
    /// The database.
    pub store: Arc<dyn Store>,
    /// The lease: [`Permanent`](crate::Permanent) for a node without a peer.
    pub lease: Arc<dyn Lease>,
    /// The addresses that whoever is active has. On all others this node answers in any case.
    pub virtual_addresses: BTreeSet<IpAddr>,
    /// Opens the way to the other node, which holds what is acknowledged here; `None`: there is none.
    pub peer: Option<OpenPeer>,
    /// Who ends the connections of the other node when it is gone; `None`: nobody.
    pub tickler: Option<Arc<dyn Tickler>>,
    /// How media are relayed.
    pub relay: RelayRules,
    /// What sends on packets of media in the kernel, or why there is nothing that does.
    pub kernel_path: Result<Arc<dyn KernelPath>, String>,
    /// Where the records of calls go; `None`: nowhere.
    pub records: Option<Arc<dyn Records>>,
}

/// Opens the way to the other node: called once, within the server's runtime, with the owners of all entries and what they
/// have from their own disk.
pub type OpenPeer =
    Box<dyn FnOnce(Arc<dyn Owners>, Vec<OwnEntry>) -> Result<Arc<dyn Peer>, PeerError> + Send>;

/// Why there is no way to the other node.
pub type PeerError = Box<dyn std::error::Error + Send + Sync>;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's socket could not be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// What was written down could not be read.
    #[error("bindings can not be restored: {0}")]
    Restore(#[from] StoreError),
    /// The way to the other node can not be opened.
    #[error("the other node can not be told anything: {0}")]
    Peer(PeerError),
    /// The host has no thread or descriptor left.
    #[error("no thread or descriptor could be had: {0}")]
    Resources(#[from] io::Error),
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// A new listener's socket could not be made.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// So many different listeners were served since the start that there are no numbers left: restart.
    #[error("too many different listeners since the start; restart the server")]
    ListenersExhausted,
    /// The server was stopped.
    #[error("the server is stopped")]
    Stopped,
}

/// A running server. It ends with [`Server::stop`], or without a word when it is dropped with its process.
pub struct Server {
    edge: Arc<Edge>,
    pulse: Arc<Pulse>,
    served: Mutex<Served>,
}

/// What only the operator's calls touch.
struct Served {
    numbering: Numbering,
    settings: Arc<Settings>,
    threads: Vec<JoinHandle<()>>,
    /// `None` once stopped.
    runtime: Option<Runtime>,
}

/// Sockets that are open and served by nobody yet.
struct Opened {
    udp: UdpListeners,
    tcp: Vec<(Listener, std::net::TcpListener)>,
}

impl Server {
    /// Opens all sockets, restores what the store has, and serves. Blocks until then.
    pub fn start(start: Start) -> Result<Self, StartError> {
        let loops = match start.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let loops = loops.min(THREADS_MAX);
        let mut numbering = Numbering::default();
        let settings =
            numbering.apply(&start.settings).expect("a first start has all numbers, LISTENERS_MAX is less");
        socket::allow_descriptors();
        let mandate = Arc::new(Mandate::new(start.lease, start.virtual_addresses));
        let opened = open(&settings, &mandate, loops, |_| None, |_| false)?;

        let now = clocks::now();
        let machines = Machines::new(now, &settings, &start.root_key, start.boot, loops);
        machines.set_relay(now, &start.relay);
        let own = machines.restore(now, start.store.bindings()?, start.store.nonces()?);

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(loops.min(TOKIO_THREADS_MAX))
            .thread_name("net-tokio")
            .enable_all()
            .build()?;
        let alarms: Arc<[Arc<Alarm>]> =
            (0..loops).map(|_| Alarm::new(now.instant).map(Arc::new)).collect::<io::Result<_>>()?;
        let tallies = Arc::new(Tallies::default());
        let inboxes = Arc::clone(&alarms);
        let tell: Tell = Arc::new(move |shard, event| {
            inboxes[usize::from(shard) % inboxes.len()].deliver(Event::Relayed { shard, event });
        });
        let relay = Relay::start(loops, &start.relay, &mandate, &tallies, &tell, start.kernel_path)?;
        let inboxes = Arc::clone(&alarms);
        let tell: TellAnswer = Arc::new(move |answer| {
            inboxes[usize::from(answer.waiter.0) % inboxes.len()]
                .deliver(Event::RelayAnswered(Box::new(answer)));
        });
        let rtpengines = Rtpengines::new(random_number(), Arc::clone(&mandate), tell);
        rtpengines.reload(runtime.handle(), &start.relay.rtpengines);
        let edge = Arc::new_cyclic(|me| Edge {
            overloads: machines.overloads(now.instant),
            machines,
            mandate,
            relay,
            rtpengines,
            alarms,
            tallies,
            latencies: Latencies::default(),
            store: start.store,
            records: start.records,
            copies: OnceLock::new(),
            udp: ArcSwap::from_pointee(opened.udp),
            streams: Streams::new(start.node, start.boot, start.connection_limits),
            resolver: Arc::new(Resolver::new()),
            runtime: runtime.handle().clone(),
            carriers: Mutex::default(),
            in_hand: AtomicUsize::new(0),
            me: me.clone(),
        });

        edge.store.attach(Arc::new(EdgePublished(Arc::downgrade(&edge))));
        let told = Arc::downgrade(&edge);
        edge.store.watch(Arc::new(move |aor, loaded| {
            if let Some(edge) = told.upgrade() {
                edge.account_is_other(aor, loaded);
            }
        }));
        if edge.records.is_some() {
            edge.machines.keep_records();
        }
        if let Some(open) = start.peer {
            let _within = edge.runtime.enter();
            edge.machines.note_changes();
            let peer = open(Arc::new(EdgeOwners(Arc::downgrade(&edge))), own).map_err(StartError::Peer)?;
            if let Some(records) = &edge.records {
                records.attach(Arc::clone(&peer));
            }
            if edge.copies.set(Copies::new(peer, edge.records.clone())).is_err() {
                unreachable!("a server has one peer, and it is set here");
            }
        }

        let event_loops =
            (0..loops).map(|lane| EventLoop::new(Arc::clone(&edge), lane)).collect::<io::Result<Vec<_>>>()?;
        let mut threads = Vec::with_capacity(loops);
        for (lane, event_loop) in event_loops.into_iter().enumerate() {
            let builder = std::thread::Builder::new().name(format!("net-udp-{lane}"));
            threads.push(builder.spawn(move || event_loop.run())?);
        }
        listen(&edge, opened.tcp)?;
        let pulse = Arc::new(Pulse::new(now.instant));
        runtime.spawn(upkeep::run(Arc::clone(&edge), Arc::clone(&pulse)));
        if let Some(every) = edge.mandate.beat_every() {
            runtime.spawn(upkeep::beat(Arc::clone(&edge), loops, every));
        }
        if let Some(tickler) = start.tickler {
            runtime.spawn(stream::tickle(Arc::clone(&edge), tickler));
        }
        info!(listeners = settings.listeners.len(), threads = loops, "serving");
        let served = Served { numbering, settings, threads, runtime: Some(runtime) };
        Ok(Self { edge, pulse, served: Mutex::new(served) })
    }

    /// The settings in force, with the numbers that listeners have here.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.served().settings)
    }

    /// Takes other settings. Listeners that stay are not touched; if one that is new can not be opened, nothing
    /// changes at all.
    pub fn reload(
        &self,
        settings: &Settings,
        limits: ConnectionLimits,
        relay: RelayRules,
    ) -> Result<(), ReloadError> {
        let mut served = self.served();
        if served.runtime.is_none() {
            return Err(ReloadError::Stopped);
        }
        let settings =
            served.numbering.apply(settings).map_err(|Exhausted| ReloadError::ListenersExhausted)?;
        let udp = self.edge.udp.load_full();
        let opened = open(
            &settings,
            &self.edge.mandate,
            self.edge.alarms.len(),
            |id| udp.get(&id).cloned(),
            |id| self.edge.streams.is_listening(id),
        )?;
        let now = clocks::now();
        // First the sockets that are new, so that whatever the machines then send has one; last those that are gone.
        let mut both = UdpListeners::clone(&udp);
        both.extend(opened.udp.clone());
        self.edge.udp.store(Arc::new(both));
        listen(&self.edge, opened.tcp).map_err(|reason| {
            // Only a runtime that has ended refuses a socket that the kernel has given.
            warn!(%reason, "a listener is not served");
            ReloadError::Stopped
        })?;
        self.edge.streams.reload(limits);
        self.edge.relay.reload(&relay);
        self.edge.rtpengines.reload(&self.edge.runtime, &relay.rtpengines);
        self.edge.machines.set_relay(now, &relay);
        self.edge.machines.reload(now, &settings);
        self.edge.udp.store(Arc::new(opened.udp));
        self.edge.streams.keep_listeners(|id| settings.listeners.get(id).is_some());
        self.edge.resolver.reload();
        for alarm in self.edge.alarms.iter() {
            alarm.deliver(Event::ListenersChanged);
        }
        info!(listeners = settings.listeners.len(), "reloaded");
        served.settings = settings;
        Ok(())
    }

    /// How the server is.
    pub fn status(&self) -> Status {
        let settings = self.settings();
        let machines = &self.edge.machines;
        let mut counters: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut count = |figures: &mut dyn Iterator<Item = (&'static str, u64)>| {
            for (name, figure) in figures {
                *counters.entry(name).or_default() += figure;
            }
        };
        let mut status = Status {
            listeners: settings.listeners.iter().map(|listener| self.listener_status(listener)).collect(),
            counters: BTreeMap::new(),
            traffic: Traffic::default(),
            latencies: self.edge.latencies.all(),
            server_transactions: 0,
            client_transactions: 0,
            suspended: 0,
            contexts: 0,
            calls: 0,
            inherited: 0,
            media_sessions: 0,
            media_pairs_used: 0,
            rtpengines: self.edge.rtpengines.view(),
            connections_told: self.edge.streams.stranding.told(),
            connections_known: self.edge.streams.stranding.orphans(),
            bindings: 0,
            accounts: 0,
            connections: self.edge.streams.len(),
            held: machines.bans.read(|bans| bans.held(clocks::instant())),
            overload: self.edge.overloads.status(clocks::instant()),
            store: self.edge.store.state(),
            publication: self.edge.store.publication(),
            peer: self.edge.copies.get().map(|copies| copies.peer.view()),
        };
        for shard in &machines.shards {
            let shard = shard.read(|owner| owner.shard.counts());
            status.server_transactions += shard.servers;
            status.client_transactions += shard.clients;
            status.suspended += shard.suspended;
            status.contexts += shard.contexts;
            status.calls += shard.calls;
            status.inherited += shard.inherited;
            status.media_sessions += shard.media.sessions;
            status.media_pairs_used += shard.media.pairs_used;
            status.traffic.merge(&shard.traffic);
            count(&mut shard.counts.iter());
            count(&mut shard.transactions.iter());
            count(&mut shard.media.iter());
        }
        for partition in &machines.partitions {
            partition.read(|Owner { partition, .. }| {
                status.bindings += partition.binding_count();
                status.accounts += partition.account_count();
                count(&mut partition.counts().iter());
            });
        }
        count(&mut self.edge.tallies.iter());
        machines.bans.read(|bans| count(&mut bans.counts().iter()));
        let streams = self.edge.streams.counters();
        let udp = self.edge.udp.load();
        count(
            &mut [
                ("connection_accepted", streams.accepted),
                ("connection_opened", streams.opened),
                ("connection_refused", streams.refused),
                ("connection_refused_by_source", streams.refused_by_source),
                ("connection_not_established", streams.not_established),
                ("connection_slow", streams.slow),
                ("connection_idle", streams.idle),
                ("datagram_dropped_by_kernel", udp.values().map(|listener| listener.dropped()).sum()),
            ]
            .into_iter(),
        );
        status.counters = counters;
        status
    }

    /// Learns with which sequence numbers connections began.
    pub fn handshakes_seen(&self, handshakes: &[Handshake]) {
        self.edge.streams.stranding.learn(handshakes);
    }

    /// How many bindings there are.
    pub fn bindings(&self) -> usize {
        self.edge
            .machines
            .partitions
            .iter()
            .map(|partition| partition.read(|owner| owner.partition.binding_count()))
            .sum()
    }

    /// What the edge itself has counted, by name; no lock is taken.
    pub fn tallies(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.edge.tallies.iter()
    }

    /// The bindings of one address of record, or of all, in the order of the addresses of record.
    pub fn contacts(&self, aor: Option<&Aor>) -> Vec<BindingView> {
        let now = clocks::now();
        let machines = &self.edge.machines;
        let partitions = match aor {
            Some(aor) => {
                let number = usize::from(machines.partition_of(aor));
                &machines.partitions[number..=number]
            }
            None => &machines.partitions,
        };
        let mut bindings: Vec<BindingView> = Vec::new();
        for partition in partitions {
            bindings.extend(partition.read(|owner| owner.partition.bindings(aor, now)));
        }
        // Stable: the bindings of one address of record stay in the order of their registration.
        bindings.sort_by(|one, other| one.aor.cmp(&other.aor));
        bindings
    }

    /// Takes over bindings that another registrar had, each as far as it is not here; says what became of each. Blocks while
    /// much is on its way to the other node, for so long at most.
    pub fn import(&self, bindings: Vec<StoredBinding>, time: Duration) -> Result<Vec<Imported>, StandsBy> {
        import::wait_for_room(&self.edge, time);
        bindings.into_iter().map(|binding| import::import(&self.edge, binding)).collect()
    }

    /// Waits until the other node has all that this one has, for so long at most. Blocks.
    pub fn wait_for_other_node(&self, time: Duration) -> HeldBy {
        import::wait_for_other_node(&self.edge, time)
    }

    /// How our own registrations at carriers stand, by name.
    pub fn registrations(&self) -> Vec<RegistrationView> {
        let now = clocks::now();
        let shards = self.edge.machines.shards.iter();
        let mut views: Vec<_> =
            shards.flat_map(|shard| shard.read(|owner| owner.shard.registrations(now))).collect();
        views.sort_by(|one, other| one.name.cmp(&other.name));
        views
    }

    /// The calls, at most so many, those that began first first; and how many there are.
    pub fn calls(&self, count_max: usize) -> (Vec<CallStatus>, usize) {
        let now = clocks::now();
        let (mut calls, mut count) = (Vec::new(), 0);
        for shard in &self.edge.machines.shards {
            shard.read(|owner| {
                let views = owner.shard.call_views(now, count_max);
                let rtpengine = |session| (session, owner.shard.rtpengine_of(session));
                let sessions = |name| owner.shard.media_sessions_of(name).map(rtpengine).collect::<Vec<_>>();
                calls.extend(views.into_iter().map(|view| (sessions(view.name), view)));
                count += owner.shard.count_of_calls();
            });
        }
        calls.sort_by(|(_, one): &(_, CallView), (_, other)| {
            other.age.cmp(&one.age).then_with(|| one.call_id.cmp(&other.call_id))
        });
        calls.truncate(count_max);
        let board = self.edge.relay.figures();
        let streams = |sessions: Vec<_>| -> Vec<StreamFigures> {
            sessions.into_iter().flat_map(|session| relay::of_session(&board, session)).collect()
        };
        let calls = calls.into_iter().map(|(sessions, view)| {
            let (sessions, rtpengine): (Vec<_>, Vec<_>) = sessions.into_iter().unzip();
            let rtpengine = rtpengine.into_iter().flatten().next();
            CallStatus { view, streams: streams(sessions), rtpengine }
        });
        (calls.collect(), count)
    }

    /// Who sends packets of media on.
    pub fn relay_path(&self) -> RelayPath {
        self.edge.relay.path()
    }

    /// Who is held now.
    pub fn held(&self) -> Held {
        let now = clocks::now();
        let machines = &self.edge.machines;
        let sources = machines.bans.read(|bans| bans.list(now.instant));
        let slowed = |seat: &Seat<Owner>| seat.read(|owner| owner.partition.slowed_names(now));
        let mut names: Vec<SlowedName> = machines.partitions.iter().flat_map(slowed).collect();
        names.sort();
        Held { sources, names }
    }

    /// Bans a source and closes its connections.
    pub fn ban(&self, address: IpAddr, lasts: Duration) -> Result<Ban, NeverBanned> {
        let now = clocks::instant();
        let ban = self.edge.machines.bans.with(|bans| bans.ban(now, address, lasts))?;
        self.edge.enforce(&ban);
        Ok(ban)
    }

    /// Lifts what holds a source, or all, and forgets its wrong passwords; returns who was held.
    pub fn lift(&self, source: Option<SourceNetwork>) -> Held {
        let now = clocks::now();
        let mut held = self.held();
        held.sources.retain(|ban| source.is_none_or(|source| ban.source == source));
        held.names.retain(|name| source.is_none_or(|source| name.source == source));
        let machines = &self.edge.machines;
        machines.bans.with(|bans| match source {
            Some(source) => drop(bans.remove(now.instant, source)),
            None => drop(bans.remove_all(now.instant)),
        });
        for partition in &machines.partitions {
            partition.with(now, |owner, _| owner.partition.forgive(source));
        }
        held
    }

    /// The gateways, in the order of the configuration.
    pub fn gateways(&self) -> Vec<GatewayView> {
        self.edge.machines.prober.read(|prober| prober.gateways(clocks::instant()))
    }

    /// How many calls a gateway has, of those that count for its limit.
    pub fn gateway_calls(&self, gateway: &Gateway) -> usize {
        let Some(key) = gateway.calls_key() else { return 0 };
        let machines = &self.edge.machines;
        let partition = &machines.partitions[usize::from(machines.partition_of(&key))];
        partition.read(|owner| owner.partition.gateway_calls(clocks::instant(), &key))
    }

    /// Takes a gateway out of service, or puts it back: calls that it has go on.
    pub fn set_gateway(&self, name: &str, service: Service) -> Result<(), UnknownGateway> {
        self.edge.set_gateway(name, service)
    }

    /// Forgets what is cached of an account that was changed in the store. When this returns the old one is not used any
    /// more.
    pub fn account_changed(&self, aor: Aor) {
        self.edge.forget_account(&aor);
    }

    /// Under which epoch this node acts; `None`: it stands by.
    pub fn epoch(&self) -> Option<Epoch> {
        self.edge.mandate.epoch(clocks::instant())
    }

    /// The lease may be another: every thread looks at it at once.
    pub fn look_at_lease(&self) {
        for alarm in self.edge.alarms.iter() {
            alarm.deliver(Event::Look);
        }
        self.edge.relay.look_at_lease();
        self.edge.rtpengines.look_at_lease();
    }

    /// Says whether this node could become active, to those who ask it while it stands by.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.edge.mandate.set_readiness(readiness);
    }

    /// How much of what the active node has is here, from 0 to 100; 100 on the active node itself, and without a peer.
    pub fn share(&self) -> u8 {
        match self.edge.copies.get() {
            Some(copies) if self.epoch().is_none() => copies.peer.ready(),
            Some(_) | None => 100,
        }
    }

    /// Whether every thread is awake at least each few seconds and none has panicked. For a watchdog.
    pub fn is_alive(&self) -> bool {
        let now = clocks::instant();
        let awake = self.edge.alarms.iter().all(|alarm| alarm.silent_for(now) < SILENCE_MAX);
        let running = self.served().threads.iter().all(|thread| !thread.is_finished());
        let relays = self.edge.relay.silent_for(now) < SILENCE_MAX;
        awake
            && running
            && relays
            && self.pulse.silent_for(now) < SILENCE_MAX
            && !self.edge.machines.is_broken()
    }

    /// Takes back registrations that are not to stay, stops receiving, closes all sockets, and waits until the store has written all. Doing it twice is no error.
    pub fn stop(&self) -> Result<(), StoreError> {
        let mut served = self.served();
        let Some(runtime) = served.runtime.take() else { return Ok(()) };
        // In a cluster the next active node goes on with them.
        if self.edge.mandate.is_permanent() {
            self.edge.take_back_registrations();
        }
        for alarm in self.edge.alarms.iter() {
            alarm.deliver(Event::Stop);
        }
        for thread in served.threads.drain(..) {
            if thread.join().is_err() {
                warn!("an event loop had panicked");
            }
        }
        self.edge.relay.stop();
        self.edge.rtpengines.stop();
        self.edge.streams.stop();
        // Not a wait: the caller may be a task of another runtime.
        runtime.shutdown_background();
        self.edge.udp.store(Arc::default());
        upkeep::save_nonces(&self.edge);
        self.edge.store.flush()
    }

    fn listener_status(&self, listener: &Listener) -> ListenerStatus {
        let udp = self.edge.udp.load();
        ListenerStatus {
            id: listener.id,
            transport: listener.transport,
            local: listener.local,
            advertise: listener.advertise.clone(),
            digest: listener.digest,
            dropped_by_kernel: udp.get(&listener.id).map_or(0, |udp| udp.dropped()),
        }
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens what is not there yet.
fn open(
    settings: &Settings,
    mandate: &Mandate,
    loops: usize,
    udp_there: impl Fn(ListenerId) -> Option<Arc<UdpListener>>,
    is_tcp_there: impl Fn(ListenerId) -> bool,
) -> Result<Opened, BindError> {
    let mut opened = Opened { udp: UdpListeners::new(), tcp: Vec::new() };
    for listener in settings.listeners.iter() {
        match listener.transport {
            Transport::Udp => {
                let udp = match udp_there(listener.id) {
                    Some(there) => there,
                    None => {
                        let ownership = mandate.ownership(listener.local.0.ip());
                        let sockets = socket::open_udp(listener.local, loops)?;
                        Arc::new(UdpListener::new(listener.id, ownership, sockets))
                    }
                };
                opened.udp.insert(listener.id, udp);
            }
            Transport::Tcp if is_tcp_there(listener.id) => {}
            Transport::Tcp => opened.tcp.push((listener.clone(), socket::open_tcp(listener.local)?)),
        }
    }
    Ok(opened)
}

/// A number that no other start has: cookies of rtpengines are made of it.
fn random_number() -> u64 {
    // The standard library seeds it by the kernel's randomness.
    RandomState::new().build_hasher().finish()
}

fn listen(edge: &Arc<Edge>, opened: Vec<(Listener, std::net::TcpListener)>) -> io::Result<()> {
    let _within = edge.runtime.enter();
    for (listener, socket) in opened {
        let socket = tokio::net::TcpListener::from_std(socket)?;
        edge.streams.listen(edge, listener.id, listener.local, socket);
    }
    Ok(())
}

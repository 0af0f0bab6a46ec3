//! A server that serves: what `tandem run` of a single node and the engine of a cluster's node have in common.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use keys::RootKey;
use routing::Settings;
use store::{RecordFiles, Subscribers};

use crate::config::Config;
use crate::control::server::Control;
use crate::database::Database;
use crate::logs::Logs;
use crate::replica::Pair;
use crate::service::{Metrics, Service, node_name};
use crate::state_directory::{Lock, StateDirectory};
use crate::tables::Tables;
use crate::{host, port_owner, records};

/// What a server is started with.
pub struct Start {
    /// When the program began.
    pub started: Instant,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// What it says.
    pub config: Config,
    /// The running log.
    pub logs: Logs,
    /// Whether others could take its place.
    pub part: Part,
}

/// Whether a server is alone.
pub enum Part {
    /// It is; its secret is its own.
    Alone,
    /// It is a node of a cluster.
    Member(Member),
}

/// A node of a cluster.
pub struct Member {
    /// The place of this node.
    pub place: u8,
    /// What all nodes derive from the cluster's key.
    pub root_key: RootKey,
    /// The lease.
    pub lease: Arc<dyn net::Lease>,
    /// Whoever is active has these.
    pub virtual_addresses: BTreeSet<IpAddr>,
    /// Where both nodes are, if there are two.
    pub pair: Option<Pair>,
    /// Who ends the connections of the other node when it is gone.
    pub tickler: Option<Arc<dyn net::Tickler>>,
    /// What sends on packets of media in the kernel, or why there is nothing that does.
    pub kernel_path: Result<Arc<dyn net::KernelPath>, String>,
}

/// A server that serves, and all that it holds.
pub struct Serving {
    /// The server with what its operator may ask.
    pub service: Arc<Service>,
    /// Where its state is.
    pub state: StateDirectory,
    /// What is served.
    pub settings: Arc<Settings>,
    control: Control,
    lock: Lock,
}

impl Serving {
    /// Opens everything and serves.
    pub fn begin(start: Start) -> Result<Self> {
        let Start { started, config_file, config, logs, part } = start;
        // All that is made below is for this user alone.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let state = StateDirectory::of(&config)?;
        state.create()?;
        let lock = state.lock()?;
        let metrics = match &part {
            Part::Alone => Metrics::Here(None),
            Part::Member(_) => Metrics::Elsewhere,
        };
        let database = Database::of(&config, &state)?;
        let tables = Tables::of(&config, &state)?;
        let mut settings = config.compile(&host::addresses()?)?;
        let taken = tables.as_ref().map_or(0, |tables| tables.version());
        for remark in tables.iter().flat_map(|tables| tables.add_to(&mut settings, &config)) {
            tracing::warn!("{remark}");
        }
        let settings = Arc::new(settings);
        let records = records::start(&config, &state).context("records")?;
        let server =
            start_server(&config, &state, &lock, &database, Arc::clone(&settings), records.clone(), part)?;
        look_at_realms(&database, config.digest.realm.clone());
        warn_of_digest_off(&settings);
        let node = node_name(&config);
        let service = Arc::new_cyclic(|me| Service {
            metrics: Mutex::new(metrics),
            me: me.clone(),
            server,
            database,
            tables,
            config_file,
            config: Mutex::new(config),
            records,
            logs,
            started,
        });
        let control = Control::open(&state.control_socket(), Arc::clone(&service))
            .with_context(|| state.control_socket().display().to_string())?;
        service.start_metrics();
        if let Some(tables) = service.tables.clone() {
            tables.follow(Arc::downgrade(&service), taken);
        }
        tracing::info!(
            node,
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            listeners = %listeners_text(&settings),
            state_directory = %state.path().display(),
            "ready"
        );
        Ok(Self { service, state, settings, control, lock })
    }

    /// Ends it: all that is owed is written when this returns.
    pub fn end(self) -> Result<()> {
        let Self { service, control, lock, .. } = self;
        tracing::info!("stopping");
        drop(control);
        service.stop_metrics();
        let stopped = service.server.stop().context("not everything could be written before the end");
        if let Some(records) = &service.records {
            records.stop().context("not all records of calls could be written before the end")?;
        }
        stopped?;
        tracing::info!("stopped");
        drop(lock);
        Ok(())
    }
}

fn start_server(
    config: &Config,
    state: &StateDirectory,
    lock: &Lock,
    database: &Database,
    settings: Arc<Settings>,
    records: Option<Arc<RecordFiles>>,
    part: Part,
) -> Result<net::Server> {
    let Member { place, root_key, lease, virtual_addresses, pair, tickler, kernel_path } = match part {
        Part::Member(member) => member,
        Part::Alone => Member {
            place: 0,
            root_key: state.root_key(lock)?,
            lease: Arc::new(net::Permanent),
            virtual_addresses: BTreeSet::new(),
            pair: None,
            tickler: None,
            kernel_path: Err("that is for virtual addresses, behind the gate of a cluster's node".to_owned()),
        },
    };
    let boot = state.next_boot(lock)?;
    let store = database.store()?;
    let peer = pair.map(|pair| pair.opener(&root_key)).transpose()?;
    let relay = config.relay.rules(&settings.listeners);
    let start = net::Start {
        settings,
        connection_limits: config.tcp,
        root_key,
        node: place,
        boot,
        threads: config.node.threads,
        store,
        lease,
        virtual_addresses,
        peer,
        tickler,
        relay,
        kernel_path,
        records: records.map(|records| records as Arc<dyn engine::Records>),
    };
    net::Server::start(start).map_err(|error| match error {
        net::StartError::Bind(error) => anyhow!(port_owner::explain(&error)),
        other => anyhow!(other),
    })
}

/// A server may be away, and nobody waits for it: it is asked by a thread.
fn look_at_realms(database: &Database, realm: Option<String>) {
    let Ok(subscribers) = database.subscribers() else { return };
    match database {
        Database::File(_) => warn_of_realm(&subscribers, realm.as_deref()),
        Database::Server(..) => {
            let look = move || warn_of_realm(&subscribers, realm.as_deref());
            if let Err(error) = std::thread::Builder::new().name("store-realms".to_owned()).spawn(look) {
                tracing::debug!(%error, "the realms of the accounts were not looked at");
            }
        }
    }
}

/// Hashes hold the realm: with another one every password is wrong, and nobody would know why.
fn warn_of_realm(subscribers: &Subscribers, realm: Option<&str>) {
    if let Ok(number @ 1..) = subscribers.count_of_other_realms(realm) {
        tracing::warn!(
            subscribers = number,
            "the passwords of some subscribers were made for another realm and do not work: set auth.realm to what it \
             was, or give them new ones by `tandem subscriber password`"
        );
    }
}

fn warn_of_digest_off(settings: &Settings) {
    for listener in settings.listeners.iter().filter(|listener| !listener.digest) {
        tracing::warn!(
            listener = %format_args!("{}:{}", listener.transport, listener.local),
            "DIGEST IS OFF: whoever reaches this listener can register and call as anybody"
        );
    }
}

fn listeners_text(settings: &Settings) -> String {
    let names: Vec<String> = settings
        .listeners
        .iter()
        .map(|listener| format!("{}:{}", listener.transport, listener.local))
        .collect();
    names.join(" ")
}

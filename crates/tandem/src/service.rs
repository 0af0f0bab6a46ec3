//! The running server as the operator sees it: answers the control socket, and reloads.

mod import;
mod views;

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use routing::gateway::{GatewayView, Service as GatewayService, UnknownGateway};
use serde_json::Value;
use sip::{Aor, Host};
use store::{Credentials, NewSubscriber, RecordFiles, Subscriber, SubscriberError, Subscribers};

use crate::config::{Config, Log, Node};
use crate::control::server::Answer;
use crate::control::{
    AnswersView, ForwardChange, Hashes, MetricsView, RelayRule, RelayView, Request, StatusView,
    SubscriberView, TransactionsView,
};
use crate::database::Database;
use crate::forwards;
use crate::gateway_row::gateway_row;
use crate::host;
use crate::logs::Logs;
use crate::metrics::http::HttpServer;
use crate::metrics::process::ProcessFigures;
use crate::metrics::{Figures, Gathered, Part as MetricsPart};
use crate::port_owner;
use crate::records;
use crate::replica;
use crate::tables::Tables;
use views::{
    call_view, contact_view, held_views, kernel_drops, latency_view, listener_view, overload_view,
    publication_view, registration_view, rtpengine_view, source_view, store_view,
};

/// Calls that are shown at most: more are no reading, and each thread stands still for as long as its own are told.
const CALLS_SHOWN_MAX: usize = 10_000;

/// A running server with all that its operator may ask of it.
pub struct Service {
    /// The server.
    pub server: net::Server,
    /// Where the accounts are.
    pub database: Database,
    /// Tables of domains, peers and gateways that are read.
    pub tables: Option<Arc<Tables>>,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// The configuration in force.
    pub config: Mutex<Config>,
    /// Who writes the records of calls; `None`: nobody.
    pub records: Option<Arc<RecordFiles>>,
    /// What is logged.
    pub logs: Logs,
    /// When it began.
    pub started: Instant,
    /// Who serves its metrics.
    pub metrics: Mutex<Metrics>,
    /// Itself.
    pub me: Weak<Service>,
}

/// Who serves the metrics of a server.
#[derive(Debug)]
pub enum Metrics {
    /// It does, or nobody.
    Here(Option<HttpServer>),
    /// A process of its own, which the guardian has.
    Elsewhere,
}

impl Service {
    /// Reads the configuration again. A bad one changes nothing. Returns remarks for the operator.
    pub fn reload(&self) -> Result<Vec<String>, String> {
        let reloaded = self.try_reload();
        match &reloaded {
            Ok(remarks) => {
                for remark in remarks {
                    tracing::warn!("{remark}");
                }
            }
            Err(error) => {
                for line in error.lines().filter(|line| !line.is_empty()) {
                    tracing::error!("{line}");
                }
                tracing::error!("the configuration was not taken; nothing was changed");
            }
        }
        reloaded
    }

    fn try_reload(&self) -> Result<Vec<String>, String> {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Config::load(self.config_file.as_deref()).map_err(|error| error.to_string())?;
        let mut remarks = needing_restart(&config, &new);
        let metrics = self.open_metrics(&new)?;
        remarks.extend(self.take(&new)?);
        if let Some(metrics) = metrics {
            *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
        }
        self.logs.set_level(new.log.level);
        *config = new;
        Ok(remarks)
    }

    /// Takes what the tables of the database say beside the configuration in force.
    pub fn take_tables(&self) -> Result<(), String> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        for remark in self.take(&config)? {
            tracing::warn!("{remark}");
        }
        Ok(())
    }

    /// Has the server go by a configuration and the tables; gives where they say different things.
    fn take(&self, config: &Config) -> Result<Vec<String>, String> {
        let addresses =
            host::addresses().map_err(|error| format!("the host's addresses can not be read: {error}"))?;
        let mut settings = config.compile(&addresses).map_err(|error| error.to_string())?;
        // The database is taken at the next start; until then its rows are written as before.
        let before = self.server.settings();
        settings.is_location_published = before.is_location_published;
        settings.location_peers.clone_from(&before.location_peers);
        let remarks = self.tables.iter().flat_map(|tables| tables.add_to(&mut settings, config)).collect();
        let relay = config.relay.rules(&settings.listeners);
        self.server.reload(&settings, config.tcp, relay).map_err(|error| match error {
            net::ReloadError::Bind(error) => port_owner::explain(&error),
            other => other.to_string(),
        })?;
        Ok(remarks)
    }

    /// Serves metrics where the configuration says; `None`: as before.
    fn open_metrics(&self, config: &Config) -> Result<Option<Metrics>, String> {
        let before = match &*self.metrics.lock().unwrap_or_else(PoisonError::into_inner) {
            Metrics::Elsewhere => return Ok(None),
            Metrics::Here(server) => server.as_ref().map(HttpServer::address),
        };
        let Some(address) = config.metrics.listen else { return Ok(Some(Metrics::Here(None))) };
        if before == Some(address) {
            return Ok(None);
        }
        let me = self.me.clone();
        let gathered = Gathered::by(move || me.upgrade().map_or_else(Figures::default, |me| me.figures()));
        let listener =
            TcpListener::bind(address).map_err(|error| port_owner::explain_metrics(address, &error))?;
        let server = HttpServer::start(listener, Arc::new(move |form| gathered.figures().write(form)))
            .map_err(|error| format!("metrics can not be served: {error}"))?;
        tracing::info!(%address, "metrics are served");
        Ok(Some(Metrics::Here(Some(server))))
    }

    /// Serves metrics from the start, if that is wanted. Calls are more than figures: a port that is taken ends nothing.
    pub fn start_metrics(&self) {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.open_metrics(&config) {
            Ok(Some(metrics)) => *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics,
            Ok(None) => {}
            Err(error) => tracing::error!("{error}; then `tandem reload`"),
        }
    }

    /// Serves no metrics any more.
    pub fn stop_metrics(&self) {
        *self.metrics.lock().unwrap_or_else(PoisonError::into_inner) = Metrics::Here(None);
    }

    fn figures(&self) -> Figures {
        let pid = std::process::id();
        let processes = ProcessFigures::of(pid).map(|figures| ("engine", figures));
        Figures {
            part: MetricsPart::Alone,
            server: Some(self.measured()),
            processes: processes.into_iter().collect(),
        }
    }

    fn measured(&self) -> MetricsView {
        let status = self.server.status();
        let view = self.status_of(&status);
        let gateways = self.server.gateways();
        let row = |gateway: &GatewayView| gateway_row(gateway, self.server.gateway_calls(&gateway.gateway));
        MetricsView {
            status: view,
            requests: status.traffic.requests().map(|(method, it)| (method.name().to_owned(), it)).collect(),
            answers: status
                .traffic
                .answers()
                .map(|(method, class, count)| AnswersView { method: method.name().to_owned(), class, count })
                .collect(),
            latencies: status.latencies.iter().map(latency_view).collect(),
            kernel_drops: status.listeners.iter().filter_map(kernel_drops).collect(),
            gateways: gateways.iter().map(row).collect(),
            registrations: self.server.registrations().into_iter().map(registration_view).collect(),
        }
    }

    fn status(&self) -> StatusView {
        self.status_of(&self.server.status())
    }

    fn status_of(&self, status: &net::Status) -> StatusView {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StatusView {
            state: "running".to_owned(),
            node: node_name(&config),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            listeners: status.listeners.iter().map(listener_view).collect(),
            domains: self.server.settings().domains.iter().cloned().collect(),
            tables: self.tables.as_ref().map(|tables| tables.view()),
            edges: config.edges.into_iter().map(|edge| (edge.domain, edge.to)).collect(),
            bindings: status.bindings,
            accounts_cached: status.accounts,
            transactions: TransactionsView {
                server: status.server_transactions,
                client: status.client_transactions,
            },
            suspended: status.suspended,
            forwarding: status.contexts,
            calls: status.calls,
            calls_known: status.inherited,
            relay: config.relay.is_on().then(|| {
                let net::RelayPath { in_kernel, why_not } = self.server.relay_path();
                RelayView {
                    calls: status.media_sessions,
                    ports_used: 2 * status.media_pairs_used,
                    ports: config.relay.count_of_ports() as usize,
                    in_kernel,
                    no_fast_path: why_not,
                }
            }),
            rtpengines: status.rtpengines.iter().map(rtpengine_view).collect(),
            connections: status.connections,
            connections_told: status.connections_told,
            connections_known: status.connections_known,
            held: status.held,
            overload: status.overload.map(overload_view),
            replica: status.peer.as_ref().map(|peer| replica::view(peer, &status.counters)),
            counters: status.counters.iter().map(|(name, figure)| ((*name).to_owned(), *figure)).collect(),
            store: store_view(&status.store),
            publication: status.publication.as_ref().map(publication_view),
            records: self.records.as_ref().map(|records| records::view(&records.state())),
        }
    }

    fn set_gateway(&self, name: &str, in_service: bool) -> Result<Value, String> {
        let service = if in_service { GatewayService::In } else { GatewayService::Out };
        self.server.set_gateway(name, service).map_err(|UnknownGateway| {
            let gateways = self.server.gateways();
            let names: Vec<&str> = gateways.iter().map(|view| &*view.gateway.name).collect();
            match names.as_slice() {
                [] => "there is no [[gateway]] in the configuration".to_owned(),
                names => format!("`{name}` is no gateway; there are {}", names.join(", ")),
            }
        })?;
        tracing::info!(gateway = name, in_service, "the operator changed a gateway's service");
        Ok(Value::Null)
    }

    fn realm(&self) -> Option<String> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).digest.realm.clone()
    }

    fn subscribers(&self) -> Result<Subscribers, String> {
        self.database.subscribers().map_err(|error| error.to_string())
    }

    fn add(
        &self,
        aor: &str,
        hashes: Hashes,
        aliases: &[String],
        may_use: &[String],
    ) -> Result<Value, String> {
        let names = |names: &[String]| names.iter().map(|name| read_aor(name)).collect::<Result<Vec<_>, _>>();
        let new = NewSubscriber {
            aor: read_aor(aor)?,
            credentials: read_credentials(hashes)?,
            aliases: names(aliases)?,
            may_use: names(may_use)?,
        };
        self.subscribers()?.add(&new).map_err(told)?;
        let remarks: Vec<String> =
            std::iter::once(&new.aor).chain(&new.aliases).filter_map(|name| self.remark(name)).collect();
        for name in std::iter::once(new.aor).chain(new.aliases) {
            self.server.account_changed(name);
        }
        value(remarks)
    }

    /// What is odd about a name.
    fn remark(&self, name: &Aor) -> Option<String> {
        (!self.serves(name)).then(|| {
            format!(
                "{0} is no domain of this server: write it into sip.domains and `tandem reload`",
                name.domain()
            )
        })
    }

    fn serves(&self, aor: &Aor) -> bool {
        Host::parse(aor.domain().as_bytes()).is_ok_and(|host| self.server.settings().is_own_domain(&host))
    }

    fn set_password(&self, aor: &str, hashes: Hashes) -> Result<Value, String> {
        let aor = read_aor(aor)?;
        let mut subscribers = self.subscribers()?;
        subscribers.set_credentials(&aor, &read_credentials(hashes)?).map_err(told)?;
        self.changed(&subscribers, &aor)
    }

    fn add_alias(&self, aor: &str, alias: &str) -> Result<Value, String> {
        let (aor, alias) = (read_aor(aor)?, read_aor(alias)?);
        let mut subscribers = self.subscribers()?;
        subscribers.add_alias(&aor, &alias).map_err(told)?;
        let remark = self.remark(&alias);
        self.changed(&subscribers, &aor)?;
        value(Vec::from_iter(remark))
    }

    fn remove_alias(&self, alias: &str) -> Result<Value, String> {
        let alias = read_aor(alias)?;
        let mut subscribers = self.subscribers()?;
        let owner = subscribers.remove_alias(&alias).map_err(told)?;
        self.server.account_changed(alias);
        self.changed(&subscribers, &owner)?;
        value(owner.to_string())
    }

    fn set_limit(&self, aor: &str, limit: Option<u32>) -> Result<Value, String> {
        let aor = read_aor(aor)?;
        let mut subscribers = self.subscribers()?;
        subscribers.set_limit(&aor, limit).map_err(told)?;
        self.changed(&subscribers, &aor)
    }

    fn set_relay(&self, aor: &str, rule: Option<RelayRule>) -> Result<Value, String> {
        let aor = read_aor(aor)?;
        let mut subscribers = self.subscribers()?;
        subscribers.set_relay(&aor, rule.map(Into::into)).map_err(told)?;
        self.changed(&subscribers, &aor)?;
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        value(Vec::from_iter(rule.and_then(|rule| config.relay.remark_on(rule.into()))))
    }

    fn forward(&self, aor: &str, change: &ForwardChange) -> Result<Value, String> {
        let aor = read_aor(aor)?;
        let change = forwards::Change::read(&aor, change)?;
        let mut subscribers = self.subscribers()?;
        subscribers.change_forwards(&aor, |forwards| change.apply(forwards)).map_err(told)?;
        self.changed(&subscribers, &aor)
    }

    /// The server is to read an account again.
    fn changed(&self, subscribers: &Subscribers, aor: &Aor) -> Result<Value, String> {
        for name in subscribers.names(aor).map_err(|error| error.to_string())? {
            self.server.account_changed(name);
        }
        Ok(Value::Null)
    }

    fn remove(&self, aor: &str) -> Result<Value, String> {
        let aor = read_aor(aor)?;
        let aliases = self.subscribers()?.remove(&aor).map_err(told)?;
        for name in std::iter::once(aor).chain(aliases) {
            self.server.account_changed(name);
        }
        Ok(Value::Null)
    }
}

impl Answer for Service {
    type Request = Request;

    fn answer(
        &self,
        request: Request,
        item: &mut dyn FnMut(Value) -> io::Result<()>,
    ) -> Result<Value, String> {
        match request {
            Request::Status {} => value(self.status()),
            Request::Metrics {} => value(self.measured()),
            Request::Contacts { aor } => {
                let aor = aor.map(|aor| read_aor(&aor)).transpose()?;
                for binding in self.server.contacts(aor.as_ref()) {
                    item(value(contact_view(&binding))?).map_err(gone)?;
                }
                Ok(Value::Null)
            }
            Request::Calls { count_max } => {
                let (calls, count) = self.server.calls(count_max.min(CALLS_SHOWN_MAX));
                for call in calls {
                    item(value(call_view(call))?).map_err(gone)?;
                }
                value(count)
            }
            Request::Registrations {} => {
                for registration in self.server.registrations() {
                    item(value(registration_view(registration))?).map_err(gone)?;
                }
                Ok(Value::Null)
            }
            Request::Bans {} => {
                for held in held_views(&self.server.held()) {
                    item(value(held)?).map_err(gone)?;
                }
                Ok(Value::Null)
            }
            Request::BanAdd { address, seconds } => {
                let ban = self.server.ban(address, Duration::from_secs(seconds)).map_err(|net::NeverBanned| {
                    format!("{address} is never banned: see admission.never and [[trusted]]; loopback never is")
                })?;
                value(source_view(&ban))
            }
            Request::BanRemove { address } => {
                let source = address.map(|text| read_source(&text)).transpose()?;
                for held in held_views(&self.server.lift(source)) {
                    item(value(held)?).map_err(gone)?;
                }
                Ok(Value::Null)
            }
            Request::Gateways {} => {
                for gateway in self.server.gateways() {
                    let calls = self.server.gateway_calls(&gateway.gateway);
                    item(value(gateway_row(&gateway, calls))?).map_err(gone)?;
                }
                Ok(Value::Null)
            }
            Request::GatewayService { name, in_service } => self.set_gateway(&name, in_service),
            Request::Reload {} => value(self.reload()?),
            Request::Realm {} => value(self.realm()),
            Request::SubscriberAdd { aor, hashes, aliases, may_use } => {
                self.add(&aor, hashes, &aliases, &may_use)
            }
            Request::SubscriberPassword { aor, hashes } => self.set_password(&aor, hashes),
            Request::AliasAdd { aor, alias } => self.add_alias(&aor, &alias),
            Request::AliasRemove { alias } => self.remove_alias(&alias),
            Request::SubscriberLimit { aor, limit } => self.set_limit(&aor, limit),
            Request::SubscriberRelay { aor, rule } => self.set_relay(&aor, rule),
            Request::SubscriberForward { aor, change } => self.forward(&aor, &change),
            Request::SubscriberRemove { aor } => self.remove(&aor),
            Request::Import(wish) => self.import(&wish, item),
            Request::SubscriberList { domain } => {
                let mut ended = Ok(());
                let listed = self.subscribers()?.list(domain.as_deref(), |subscriber| {
                    ended = value(subscriber_view(subscriber))
                        .and_then(|subscriber| item(subscriber).map_err(gone));
                    ended.is_ok()
                });
                listed.map_err(|error| error.to_string()).and(ended).map(|()| Value::Null)
            }
        }
    }
}

/// Rounded up: what has not ended has a second left.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn read_source(text: &str) -> Result<net::SourceNetwork, String> {
    net::SourceNetwork::parse(text).ok_or_else(|| {
        format!("`{text}` is no address: write one as `tandem bans list` shows it, such as 203.0.113.9")
    })
}

/// Reads an address of record from the command line.
pub fn read_aor(text: &str) -> Result<Aor, String> {
    Aor::parse(text).ok_or_else(|| {
        format!("`{text}` is no address of record: write USER@DOMAIN, such as alice@example.org or alice@192.0.2.5")
    })
}

/// What the control socket carries of a password.
pub fn hashes_of(credentials: &Credentials) -> Hashes {
    Hashes {
        realm: credentials.realm.clone(),
        md5: credentials.md5.clone(),
        sha256: credentials.sha256.clone(),
        sha512_256: credentials.sha512_256.clone(),
    }
}

/// An account as it is shown.
pub fn subscriber_view(subscriber: Subscriber) -> SubscriberView {
    let names = |names: Vec<Aor>| names.iter().map(ToString::to_string).collect();
    SubscriberView {
        aor: subscriber.aor.to_string(),
        realm: subscriber.realm,
        aliases: names(subscriber.aliases),
        may_use: names(subscriber.may_use),
        forwards: forwards::view(&subscriber.forwards),
        limit: subscriber.limit,
        relay: subscriber.relay.map(Into::into),
    }
}

/// The name of this node in logs and status.
pub fn node_name(config: &Config) -> String {
    if config.node.name.is_empty() { host::name() } else { config.node.name.clone() }
}

/// What of a changed configuration is not in force until a restart.
fn needing_restart(old: &Config, new: &Config) -> Vec<String> {
    let Node { name: _, state_directory, threads, user } = &old.node;
    let Log { level: _, format } = old.log;
    let changed = [
        ("node.state_directory", *state_directory != new.node.state_directory),
        ("node.threads", *threads != new.node.threads),
        ("node.user", *user != new.node.user),
        ("log.format", format != new.log.format),
        ("database", old.database != new.database),
        ("records", old.records != new.records),
    ];
    changed
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| format!("{key} has changed: it is taken at the next start"))
        .collect()
}

fn read_credentials(hashes: Hashes) -> Result<Credentials, String> {
    let Hashes { realm, md5, sha256, sha512_256 } = hashes;
    Credentials::from_hashes(realm, md5, sha256, sha512_256)
        .ok_or_else(|| "the hashes can not be right".to_owned())
}

fn value(view: impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(view).map_err(|error| error.to_string())
}

fn told(error: SubscriberError) -> String {
    error.to_string()
}

fn gone(error: io::Error) -> String {
    format!("the client went away: {error}")
}

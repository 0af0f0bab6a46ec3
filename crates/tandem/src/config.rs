//! The configuration: a TOML file, read with every mistake reported at once.
//!
//! [`fields`] is the table of all keys. [`reader`] walks the file by it, [`reference`] prints it, and
//! [`Config::default`] is what its defaults say. [`compile`] makes of a [`Config`] and the host's
//! addresses what the engine takes.

pub mod cluster;
pub mod compile;
mod dial_plan;
mod duration;
mod fields;
mod listen;
mod problem;
mod reader;
mod reference;
mod registration;
pub mod relay;
mod suggest;
mod value;

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use net::ConnectionLimits;
use routing::{Admission, DialPlan, Digest, Edge, EdgeContact, Nat, Proxy, Registrar, Trunk, TrustedPeer};
use toml::de::DeValue;
use transport::Transport;

pub use cluster::Cluster;
pub use dial_plan::{place_name, set_of};
pub use duration::{parse_duration, write_duration};
pub use listen::{DigestRule, Listen, Place};
pub use problem::Problems;
pub use reference::reference;

use crate::database;
use crate::database::Location;
use crate::records::{InDatabase, Records};
use cluster::Unfit;
use fields::SECTIONS;
use reader::Reading;
use relay::Relay;
use value::Value;

/// Bytes of a file: a thousand trusted peers fit ten times.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where the file is looked for when none is named.
pub const FILE_DEFAULT: &str = "/etc/tandem/tandem.toml";

/// What the operator wrote, with defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[node]`
    pub node: Node,
    /// `[sip]`
    pub sip: Sip,
    /// `[sip.tcp]`
    pub tcp: ConnectionLimits,
    /// `[registrar]`
    pub registrar: Registrar,
    /// `[auth]`
    pub digest: Digest,
    /// `[nat]`
    pub nat: Nat,
    /// `[[trusted]]`
    pub trusted: Vec<TrustedPeer>,
    /// `[[edge]]`
    pub edges: Vec<Edge>,
    /// `[[registration]]`
    pub trunks: Vec<Arc<Trunk>>,
    /// `[relay]`
    pub relay: Relay,
    /// `[admission]`
    pub admission: Admission,
    /// `[[gateway]]` and `[[route]]`; gateways that stand for a set of destinations are in it as they are written.
    pub dial_plan: DialPlan,
    /// `[database]`
    pub database: database::Server,
    /// `[records]`
    pub records: Records,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[log]`
    pub log: Log,
    /// `[cluster]`; `None`: this server is alone.
    pub cluster: Option<Cluster>,
}

/// This host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Empty: the host's name.
    pub name: String,
    /// `None`: by the environment.
    pub state_directory: Option<PathBuf>,
    /// 0: one for each core.
    pub threads: usize,
    /// Whom the engine of a cluster's node runs as; `None`: as the guardian, without rights.
    pub user: Option<String>,
}

/// Where and how SIP is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sip {
    /// Where.
    pub listen: Vec<Listen>,
    /// In lower case.
    pub domains: Vec<String>,
    /// The `Server` header field.
    pub server: Option<String>,
    /// Rules of the proxy.
    pub proxy: Proxy,
    /// RFC 3261 §17 T1.
    pub timer_t1: Duration,
    /// RFC 3261 §17 T2.
    pub timer_t2: Duration,
    /// RFC 3261 §17 T4.
    pub timer_t4: Duration,
}

/// What Prometheus is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// From this level on.
    pub level: LogLevel,
    /// As what.
    pub format: LogFormat,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A promise is broken.
    Error,
    /// Worth waking somebody.
    Warn,
    /// Changes of role and configuration.
    Info,
    /// Each transaction.
    Debug,
    /// Each packet.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// A `[[trusted]]` that is being read.
#[derive(Clone, Debug, Default)]
pub struct TrustedDraft {
    network: Option<IpNet>,
    name: String,
}

/// An `[[edge]]` that is being read.
#[derive(Clone, Debug)]
pub struct EdgeDraft {
    domain: Option<String>,
    to: Option<String>,
    from: Option<IpAddr>,
    contact: EdgeContact,
}

impl Default for EdgeDraft {
    fn default() -> Self {
        Self { domain: None, to: None, from: None, contact: EdgeContact::Keep }
    }
}

/// The configuration can not be used.
#[derive(Debug)]
pub enum ConfigError {
    /// The file can not be read.
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It has mistakes.
    Wrong(Problems),
}

impl Config {
    /// Reads the named file; without a name the usual one if it is there, else the defaults.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        match file {
            Some(file) => Self::read(file),
            None if Path::new(FILE_DEFAULT).exists() => Self::read(Path::new(FILE_DEFAULT)),
            None => Ok(Self::default()),
        }
    }

    /// Reads a file.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text =
            read_text(file).map_err(|error| ConfigError::Unreadable { file: file.to_owned(), error })?;
        Self::parse(file, &text).map_err(ConfigError::Wrong)
    }

    /// Reads a text; `file` is its name in messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let mut config = Self::default();
        let mut reading = Reading::new(text);
        reading.read(&mut config);
        config.check(&mut reading);
        if reading.problems.is_empty() { Ok(config) } else { Err(Problems::new(file, reading.problems)) }
    }

    /// Says where in the file the values stand that do not fit this host.
    pub fn unfit(file: &Path, unfit: Vec<Unfit>) -> ConfigError {
        let text = match read_text(file) {
            Ok(text) => text,
            Err(error) => return ConfigError::Unreadable { file: file.to_owned(), error },
        };
        let mut reading = Reading::new(&text);
        reading.read(&mut Self::default());
        // The file was right when it was read before.
        reading.problems.clear();
        for Unfit { key, what, mend } in unfit {
            reading.conflict(key, what, mend);
        }
        ConfigError::Wrong(Problems::new(file, reading.problems))
    }

    fn check_metrics(&self, reading: &mut Reading<'_>) {
        let Some(at) = self.metrics.listen else { return };
        let is_taken = |listen: &&Listen| {
            let place = match listen.place {
                Place::At(local) => local,
                Place::EveryAddress { port } => SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port),
            };
            listen.transport == Transport::Tcp && share(at, place)
        };
        if let Some(listen) = self.sip.listen.iter().find(is_taken) {
            let what = format!("is where SIP is served: sip.listen has {}", listen.name());
            reading.conflict("metrics.listen", what, "write another port: \"127.0.0.1:9760\"");
        }
        let is_virtual = |cluster: &Cluster| cluster.addresses.contains(&at.ip());
        if self.cluster.as_ref().is_some_and(is_virtual) {
            let what = "is a virtual address, which a standby does not have";
            reading.conflict(
                "metrics.listen",
                what,
                "write an address of this node's own, or \"127.0.0.1:9760\"",
            );
        }
    }

    /// Finds values that are right alone but not together.
    fn check(&mut self, reading: &mut Reading<'_>) {
        let Registrar { min_expires, max_expires, default_expires, .. } = self.registrar;
        if min_expires > max_expires {
            let key = if reading.has("registrar.min_expires") {
                "registrar.min_expires"
            } else {
                "registrar.max_expires"
            };
            let what = format!(
                "leaves nothing to wish: min_expires is \"{}\" and max_expires \"{}\"",
                write_duration(min_expires),
                write_duration(max_expires)
            );
            reading.conflict(key, what, "write a min_expires that is not above max_expires");
        } else if !reading.has("registrar.default_expires") {
            self.registrar.default_expires = default_expires.clamp(min_expires, max_expires);
        } else if !(min_expires..=max_expires).contains(&default_expires) {
            let mend = format!(
                "write a duration from \"{}\" to \"{}\", which are min_expires and max_expires, or leave it out",
                write_duration(min_expires),
                write_duration(max_expires)
            );
            reading.conflict("registrar.default_expires", "is not between min_expires and max_expires", mend);
        }
        if self.sip.timer_t1 > self.sip.timer_t2 {
            let key = if reading.has("sip.timer_t1") { "sip.timer_t1" } else { "sip.timer_t2" };
            reading.conflict(
                key,
                "conflicts: timer_t1 is above timer_t2",
                "write a timer_t1 that is not above timer_t2",
            );
        }
        if self.admission.ban > self.admission.ban_max {
            let key = if reading.has("admission.ban") { "admission.ban" } else { "admission.ban_max" };
            reading.conflict(key, "conflicts: ban is above ban_max", "write a ban that is not above ban_max");
        }
        if self.tcp.connections_per_source_max > self.tcp.connections_max
            && reading.has("sip.tcp.connections_per_source_max")
        {
            let mend = format!("write at most {}, which is connections_max", self.tcp.connections_max);
            reading.conflict("sip.tcp.connections_per_source_max", "is above connections_max", mend);
        }
        self.check_metrics(reading);
        if self.records.database == InDatabase::Written && self.database.url.is_none() {
            let mend = "write database.url, or records.files = true for files alone";
            reading.conflict("records.database", "has no database: [database] names none", mend);
        }
        let lists = &self.database.lists;
        let of_tables = [
            ("database.location", self.database.location != Location::Off),
            ("database.time_zone", !self.database.time_zone.is_empty()),
            ("database.domain", lists.domains),
            ("database.address_groups", !lists.groups.is_empty()),
            ("database.trusted", lists.trusted),
            ("database.dispatcher", lists.dispatcher),
        ];
        let wanted = of_tables.into_iter().filter(|(_, is_wanted)| *is_wanted);
        for (key, _) in wanted.filter(|_| self.database.url.is_none()) {
            let mend = "write database.url, or take this line away";
            reading.conflict(key, "is of a table, and [database] names no server", mend);
        }
        self.relay.check(self, reading);
        for edge in &self.edges {
            if self.sip.domains.contains(&edge.domain) {
                let what = format!("names {}, which is one of sip.domains", edge.domain);
                let mend = "name each domain in one of them: here if another registrar has its accounts";
                reading.conflict("edge.domain", what, mend);
            }
        }
        for edge in &self.edges {
            let Some(from) = edge.from else { continue };
            let is_served = |listen: &Listen| match listen.place {
                Place::EveryAddress { .. } => true,
                Place::At(local) => local.ip().to_canonical() == from.to_canonical(),
            };
            if !self.sip.listen.iter().any(is_served) {
                let mend = format!("name it in sip.listen too: \"udp://{from}:5060\"");
                reading.conflict("edge.from", format!("is {from}, where SIP is not served"), mend);
            }
        }
        for (at, listen) in self.sip.listen.iter().enumerate() {
            let twin = self.sip.listen[..at]
                .iter()
                .find(|other| other.transport == listen.transport && other.place == listen.place);
            if twin.is_some() {
                let what = format!("names {} twice", listen.name());
                reading.conflict("sip.listen", what, "name each listener once");
            }
        }
    }
}

/// Whether a socket at the one place keeps another socket from the other.
fn share(one: SocketAddr, other: SocketAddr) -> bool {
    let (one_ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && (one_ip == other_ip || one_ip.is_unspecified() || other_ip.is_unspecified())
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = std::fs::File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        let reason = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}

impl Default for Config {
    fn default() -> Self {
        let mut config = Self {
            node: Node::default(),
            sip: Sip::default(),
            tcp: ConnectionLimits::default(),
            registrar: Registrar::default(),
            digest: Digest::default(),
            nat: Nat::default(),
            trusted: Vec::new(),
            edges: Vec::new(),
            trunks: Vec::new(),
            relay: Relay::default(),
            admission: Admission::default(),
            dial_plan: DialPlan::default(),
            database: database::Server::default(),
            records: Records::default(),
            metrics: Metrics::default(),
            log: Log { level: LogLevel::Info, format: LogFormat::Text },
            cluster: None,
        };
        for field in SECTIONS.iter().flat_map(|section| section.fields) {
            let value = DeValue::parse(field.default).expect("a test reads every default");
            (field.set)(&mut config, &Value::new(&value)).expect("a test reads every default");
        }
        config
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(formatter, "{}: {error}", file.display()),
            Self::Wrong(problems) => problems.fmt(formatter),
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;

//! A witness whose memory is a row on a server: `cluster.witness` that names etcd or a database.

use std::path::PathBuf;

use store::{HostPlace, Product, ServerUrl, Tls};

use super::super::problem::Wrong;
use super::super::value::Value;

/// The port of etcd's clients.
const ETCD_PORT: u16 = 2379;

/// The servers that have the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowWitness {
    /// A key of etcd.
    Etcd(EtcdServers),
    /// A row of a database.
    Database(DatabaseServer),
}

/// A cluster of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdServers {
    /// Each by its name or address, and its port. Never empty.
    pub servers: Vec<(String, u16)>,
    /// As whom they are spoken to; empty: nobody in particular.
    pub user: String,
    /// The file that has the user's password.
    pub password_file: Option<PathBuf>,
    /// The file with the certificates that are believed; with it the servers are spoken to by TLS.
    pub ca_file: Option<PathBuf>,
}

/// PostgreSQL or MySQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseServer {
    /// Where, and as whom.
    pub url: ServerUrl,
    /// The file with the password; `None`: it is in the URL, or there is none.
    pub password_file: Option<PathBuf>,
    /// How the way to it is kept secret.
    pub tls: Tls,
    /// Whose signatures count.
    pub authorities: Option<PathBuf>,
    /// By what the file names it.
    pub named_by: NamedBy,
}

/// By what a database is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `[database]`, which has the accounts too.
    Database,
    /// `cluster.witness` alone.
    Witness,
}

impl RowWitness {
    /// How an operator names what it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Database(DatabaseServer { url, .. }) => match url.product {
                Product::Postgres => "PostgreSQL",
                Product::MySql => "MySQL",
            },
        }
    }
}

/// A host of a database on which a witness is none, by what it is.
pub fn host_that_dies_with_a_node(
    url: &ServerUrl,
    owner_of: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    url.hosts.iter().find_map(|host| match host {
        host if host.is_this_host() => Some("node itself".to_owned()),
        HostPlace::Network(name, _) => owner_of(name),
        HostPlace::Socket(_) => None,
    })
}

/// Reads `postgres://user@host,host/database`.
pub fn read_url(value: &Value<'_>) -> Result<ServerUrl, Wrong> {
    let url = ServerUrl::parse(value.text()?).map_err(|bad| value.wrong(bad.what, bad.mend))?;
    if url.password.is_some() {
        let mend = "leave it out here; write it alone into a file and name that in witness_password_file";
        return Err(value.wrong("has a password in it, which everybody would see", mend));
    }
    Ok(url)
}

/// One server, as an entry of the list names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdServer {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
}

impl EtcdServer {
    /// Reads `etcd://user@host:port`.
    pub(super) fn read(value: &Value<'_>, rest: &str) -> Result<Self, Wrong> {
        const FORM: &str =
            "write \"etcd://10.0.0.5:2379\", or \"etcd://tandem@etcd1.example.org:2379\" with a user";
        let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        if user.contains(':') {
            let mend = "leave it out here; write it alone into a file and name that in witness_password_file";
            return Err(value.wrong("has a password in it, which everybody would see", mend));
        }
        let place = place.trim_end_matches('/');
        let is_ipv6 = place.starts_with('[');
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !is_ipv6 || host.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (host, port.ok_or_else(|| value.wrong("has no port that can be read", FORM))?)
            }
            _ => (place, ETCD_PORT),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_address = host.parse::<std::net::IpAddr>().is_ok();
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_');
        if host.is_empty() || !is_address && (is_ipv6 || !host.chars().all(is_letter)) {
            return Err(value.wrong("has no host that can be read", FORM));
        }
        let is_plain = |letter: char| letter.is_ascii_graphic() && letter != '/';
        if !user.chars().all(is_plain) {
            return Err(value.wrong("has a user that can not be read", FORM));
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), port })
    }
}

//! Where the accounts are: in the file of this server, or on a database server that `[database]` names.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use engine::{Store, StoreError};
use store::{
    BadUrl, LocationSettings, ServerSettings, ServerStore, ServerUrl, SqliteStore, Subscribers, Tls,
    WantedLists,
};

use crate::config::Config;
use crate::state_directory::StateDirectory;

/// Bytes of a file with a password.
const PASSWORD_BYTES_MAX: usize = 4_096;
/// What connecting to a database that no configuration names, and each statement, may take.
const TIMEOUT_ELSEWHERE: Duration = Duration::from_secs(5);

/// `[database]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Where; `None`: accounts are in this server's own file.
    pub url: Option<ServerUrl>,
    /// The file with the password; `None`: it is in the URL, or there is none.
    pub password_file: Option<PathBuf>,
    /// How the way to it is kept secret.
    pub tls: Tls,
    /// Whose signatures count.
    pub authorities: Option<PathBuf>,
    /// What connecting, and each statement, may take.
    pub timeout: Duration,
    /// Tables of domains, peers and gateways that are read.
    pub lists: WantedLists,
    /// Whether bindings are published in the table `location`.
    pub location: Location,
    /// The servers that do so: phones of theirs are called by way of them.
    pub location_peers: BTreeSet<IpAddr>,
    /// The time zone of its dates; empty: this host's.
    pub time_zone: String,
}

/// What becomes of the table `location`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Location {
    /// Nothing.
    #[default]
    Off,
    /// It is Tandem's own: it has what is registered here.
    Own,
    /// Servers beside this one write it too, each its own phones.
    Shared,
}

/// Where the accounts are.
#[derive(Clone, Debug)]
pub enum Database {
    /// In this file.
    File(PathBuf),
    /// On a server, with this file for what belongs to this node alone.
    Server(Box<ServerSettings>, PathBuf),
}

impl Database {
    /// What the configuration says, with the files that it names.
    pub fn of(config: &Config, state: &StateDirectory) -> Result<Self> {
        Ok(match server(config)? {
            None => Self::File(state.database()),
            Some(settings) => Self::Server(Box::new(settings), state.database()),
        })
    }

    /// The store of a server that serves.
    pub fn store(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::File(file) => Arc::new(SqliteStore::open(file)?),
            Self::Server(settings, file) => Arc::new(ServerStore::open((**settings).clone(), file)?),
        })
    }

    /// The accounts.
    pub fn subscribers(&self) -> Result<Subscribers, StoreError> {
        match self {
            Self::File(file) => Subscribers::open(file),
            Self::Server(settings, _) => Subscribers::on_server((**settings).clone()),
        }
    }
}

/// The server that the configuration names, if it names one.
pub fn server(config: &Config) -> Result<Option<ServerSettings>> {
    let Server { url, password_file, tls, authorities, timeout, location, time_zone, .. } = &config.database;
    let Some(url) = url.clone() else { return Ok(None) };
    let password = password_file.as_deref().map(read_password).transpose()?;
    if let Some(file) = authorities {
        // Else a missing file would be told as if the server's certificate were wrong.
        std::fs::metadata(file)
            .with_context(|| format!("database.ca: {} can not be read", file.display()))?;
    }
    Ok(Some(ServerSettings {
        url,
        password,
        tls: *tls,
        authorities: authorities.clone(),
        deadline: *timeout,
        realm: config.digest.realm.clone(),
        location: (*location != Location::Off).then(|| LocationSettings {
            is_shared: *location == Location::Shared,
            ..location_settings(time_zone)
        }),
    }))
}

/// How times stand in the table `location`; the name of a time zone may be empty.
pub fn location_settings(time_zone: &str) -> LocationSettings {
    let time_zone = Some(time_zone.to_owned()).filter(|name| !name.is_empty());
    LocationSettings { time_zone, is_shared: false }
}

/// A database that only its URL names, with a password beside it.
pub fn server_at(url: &str, password: Option<String>) -> Result<ServerSettings, String> {
    let url = ServerUrl::parse(url).map_err(|BadUrl { what, mend }| format!("the URL {what}: {mend}"))?;
    Ok(ServerSettings {
        url,
        password,
        tls: Tls::default(),
        authorities: None,
        deadline: TIMEOUT_ELSEWHERE,
        realm: None,
        location: None,
    })
}

/// The first line of a file.
pub fn read_password(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("the password's file {} can not be read", file.display()))?;
    ensure!(
        text.len() <= PASSWORD_BYTES_MAX,
        "the password's file {} is longer than {PASSWORD_BYTES_MAX} bytes: it has nothing but the password",
        file.display()
    );
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

//! Adding, changing, listing and removing accounts, wherever they are.

use std::fmt;
use std::path::Path;

use engine::StoreError;
use routing::{Anchoring, Forwards};
use sip::Aor;

use crate::credentials::Credentials;
use crate::names::NAMES_MAX;
use crate::server::address::ServerSettings;
use crate::server::subscribers::OnServer;
use in_file::InFile;
pub use in_file::relay_rules;

mod in_file;

/// The accounts of a database, beside a running server or without one.
#[derive(Debug)]
pub enum Subscribers {
    /// In a file.
    File(Box<InFile>),
    /// On a database server.
    Server(Box<OnServer>),
}

/// An account to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSubscriber {
    /// Its address of record.
    pub aor: Aor,
    /// What it proves itself by.
    pub credentials: Credentials,
    /// Other names of it.
    pub aliases: Vec<Aor>,
    /// Addresses of record of others that it may use.
    pub may_use: Vec<Aor>,
}

/// An account as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Its address of record.
    pub aor: Aor,
    /// The realm that its hashes were made for.
    pub realm: String,
    /// Other names of it.
    pub aliases: Vec<Aor>,
    /// Addresses of record of others that it may use.
    pub may_use: Vec<Aor>,
    /// Where its calls are forwarded.
    pub forwards: Forwards,
    /// How many calls it may make at a time, if the configuration does not say it.
    pub limit: Option<u32>,
    /// Whether the media of its calls pass the relay, if the configuration does not say it.
    pub relay: Option<Anchoring>,
}

/// An account could not be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriberError {
    /// There is such an account, or another one has this name as an alias.
    Exists(Aor),
    /// There is no such account.
    Unknown(Aor),
    /// No account has this name as an alias.
    NoAlias(Aor),
    /// More names than one account may have.
    TooManyNames,
    /// The database failed.
    Store(StoreError),
}

impl Subscribers {
    /// Opens the database in a file, and makes it if it is not there.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        Ok(Self::File(Box::new(InFile::open(file)?)))
    }

    /// The accounts of a database server, which is not asked yet.
    pub fn on_server(settings: ServerSettings) -> Result<Self, StoreError> {
        Ok(Self::Server(Box::new(OnServer::new(settings)?)))
    }

    /// Adds an account.
    pub fn add(&mut self, new: &NewSubscriber) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.add(new),
            Self::Server(server) => server.add(new),
        }
    }

    /// Gives an account another password.
    pub fn set_credentials(&mut self, aor: &Aor, credentials: &Credentials) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.set_credentials(aor, credentials),
            Self::Server(server) => server.set_credentials(aor, credentials),
        }
    }

    /// Changes how many calls an account may make at a time.
    pub fn set_limit(&mut self, aor: &Aor, limit: Option<u32>) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.set_limit(aor, limit),
            Self::Server(server) => server.set_limit(aor, limit),
        }
    }

    /// Changes whether the media of an account's calls pass the relay.
    pub fn set_relay(&mut self, aor: &Aor, rule: Option<Anchoring>) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.set_relay(aor, rule),
            Self::Server(server) => server.set_relay(aor, rule),
        }
    }

    /// Gives an account one more name.
    pub fn add_alias(&mut self, aor: &Aor, alias: &Aor) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.add_alias(aor, alias),
            Self::Server(server) => server.add_alias(aor, alias),
        }
    }

    /// Takes a name away from the account that has it as an alias, and says which that was.
    pub fn remove_alias(&mut self, alias: &Aor) -> Result<Aor, SubscriberError> {
        match self {
            Self::File(file) => file.remove_alias(alias),
            Self::Server(server) => server.remove_alias(alias),
        }
    }

    /// Changes where the calls of an account are forwarded.
    pub fn change_forwards(
        &mut self,
        aor: &Aor,
        change: impl FnOnce(&mut Forwards),
    ) -> Result<(), SubscriberError> {
        match self {
            Self::File(file) => file.change_forwards(aor, change),
            Self::Server(server) => server.change_forwards(aor, change),
        }
    }

    /// Takes an account away with its aliases and rights, also the rights of others to use it. Returns
    /// the aliases it had.
    pub fn remove(&mut self, aor: &Aor) -> Result<Vec<Aor>, SubscriberError> {
        match self {
            Self::File(file) => file.remove(aor),
            Self::Server(server) => server.remove(aor),
        }
    }

    /// The names of an account: its own and its aliases; empty if there is none.
    pub fn names(&self, aor: &Aor) -> Result<Vec<Aor>, StoreError> {
        match self {
            Self::File(file) => file.names(aor),
            Self::Server(server) => server.names(aor),
        }
    }

    /// Gives each account, in order, to `take`, until it says `false`.
    pub fn list(&self, domain: Option<&str>, take: impl FnMut(Subscriber) -> bool) -> Result<(), StoreError> {
        match self {
            Self::File(file) => file.list(domain, take),
            Self::Server(server) => server.list(domain, take),
        }
    }

    /// How many accounts there are.
    pub fn count(&self) -> Result<u64, StoreError> {
        match self {
            Self::File(file) => file.count(),
            Self::Server(server) => server.count(),
        }
    }

    /// How many accounts have hashes that can not be right: made for another realm than `realm`, or
    /// without one, for another than their domain.
    pub fn count_of_other_realms(&self, realm: Option<&str>) -> Result<u64, StoreError> {
        match self {
            Self::File(file) => file.count_of_other_realms(realm),
            Self::Server(server) => server.count_of_other_realms(realm),
        }
    }
}

impl fmt::Display for SubscriberError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(aor) => {
                write!(
                    formatter,
                    "{aor} exists; `tandem subscriber password {aor}` gives it another password"
                )
            }
            Self::Unknown(aor) => {
                write!(formatter, "there is no subscriber {aor}; `tandem subscriber list` shows all")
            }
            Self::NoAlias(alias) => {
                write!(formatter, "{alias} is nobody's alias; `tandem subscriber list` shows all")
            }
            Self::TooManyNames => write!(formatter, "one subscriber may have at most {NAMES_MAX} names"),
            Self::Store(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for SubscriberError {}

impl From<StoreError> for SubscriberError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

//! A server that has a row, of any kind.

use std::time::Duration;

use anyhow::Result;
use cluster::row::{Change, Seen, Written};

use super::database::Database;
use super::etcd::Etcd;
use super::password;
use crate::config::cluster::RowWitness;

/// What is wrong with a server, in words, with the mend where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble(pub String);

impl Trouble {
    pub(super) fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }

    pub(super) fn silent(deadline: Duration) -> Self {
        Self(format!("no answer within {} ms", deadline.as_millis()))
    }
}

/// One connection to one of the servers at a time.
#[derive(Debug)]
pub enum Server {
    /// A key of etcd.
    Etcd(Box<Etcd>),
    /// A row of PostgreSQL or MySQL.
    Database(Box<Database>),
}

impl Server {
    /// A server that is not connected to yet. `name` tells the rows of clusters apart.
    pub fn new(row: &RowWitness, name: &str, lease: Duration) -> Result<Self> {
        match row {
            RowWitness::Etcd(servers) => {
                let password = servers.password_file.as_deref().map(password::read).transpose()?;
                Ok(Self::Etcd(Box::new(Etcd::new(servers, password, name)?)))
            }
            RowWitness::Database(server) => Ok(Self::Database(Box::new(Database::new(server, name, lease)?))),
        }
    }

    /// Which one is spoken to, or was last.
    pub fn address(&self) -> String {
        match self {
            Self::Etcd(etcd) => etcd.address(),
            Self::Database(database) => database.address(),
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        match self {
            Self::Etcd(etcd) => etcd.is_connected(),
            Self::Database(database) => database.is_connected(),
        }
    }

    /// Forgets the connection; the next one is to the next server.
    pub fn disconnect(&mut self) {
        match self {
            Self::Etcd(etcd) => etcd.disconnect(),
            Self::Database(database) => database.disconnect(),
        }
    }

    /// Connects if it must, and shows the row as all acknowledged writes have made it.
    pub async fn read(&mut self) -> Result<Seen, Trouble> {
        match self {
            Self::Etcd(etcd) => etcd.read().await,
            Self::Database(database) => database.read().await,
        }
    }

    /// Writes in one step, on condition. An error is a write of which nobody knows whether it has taken effect.
    pub async fn write(&mut self, change: &Change) -> Result<Written, Trouble> {
        match self {
            Self::Etcd(etcd) => etcd.write(change).await,
            Self::Database(database) => database.write(change).await,
        }
    }

    /// What an operator should know of how it is set up.
    pub async fn remarks(&mut self) -> Vec<String> {
        match self {
            Self::Etcd(etcd) => etcd.remarks().await,
            Self::Database(database) => database.remarks().await,
        }
    }
}

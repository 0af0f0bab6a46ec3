//! The row in a table of PostgreSQL or MySQL.
//!
//! What is written, and by what statement, is [`store::LeaseRow`]'s; here is what of a row's text, and what of the way there.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Result, bail};
use cluster::row::{self, Change, History, Row, RowVoter, Seen, Written};
use engine::StoreError;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;
use store::{Durability, LeaseRow, Outcome, RowChange, ServerSettings};

use super::CONNECT_MAX;
use super::password;
use super::server::Trouble;
use crate::config::cluster::{DatabaseServer, NamedBy};
use crate::database::read_password;

/// The server, and the row.
#[derive(Debug)]
pub struct Database {
    row: LeaseRow,
    named_by: NamedBy,
    patience: Duration,
}

impl Database {
    /// A server that is not connected to yet. `name` tells the rows of clusters apart.
    pub fn new(server: &DatabaseServer, name: &str, lease: Duration) -> Result<Self> {
        let settings = settings(server)?;
        // The server gives up first, so that nothing is left to take effect when nobody waits for it any more.
        let patience = RowVoter::deadline(lease) * 4 / 5;
        Ok(Self { row: LeaseRow::new(settings, name, patience), named_by: server.named_by, patience })
    }

    /// Which host is spoken to, or was last.
    pub fn address(&self) -> String {
        self.row.place().to_owned()
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        self.row.is_connected()
    }

    /// Forgets the connection.
    pub fn disconnect(&mut self) {
        self.row.disconnect();
    }

    /// Connects if it must, and shows the row as the primary has it.
    pub async fn read(&mut self) -> Result<Seen, Trouble> {
        let was_connected = self.row.is_connected();
        let seen = self.row.read().await.map_err(|error| self.told(error))?;
        if !was_connected {
            limit_unacknowledged(self.patience);
        }
        let row = seen.text.map(|text| Row::from_text(&text)).transpose().map_err(|error| {
            Trouble(format!(
                "its row in tandem_lease is {error}; with both nodes stopped DELETE it, then `tandem cluster accept witness`"
            ))
        })?;
        Ok(Seen { row, history: History(seen.history) })
    }

    /// Writes the row if the one before is there.
    pub async fn write(&mut self, change: &Change) -> Result<Written, Trouble> {
        let before = change.before.map(|row| row.to_text());
        let after = change.after.to_text();
        let change = RowChange {
            before: before.as_deref(),
            history: change.history.0,
            after: &after,
            durability: match change.durability {
                row::Durability::Durable => Durability::Durable,
                row::Durability::Renewal => Durability::Renewal,
            },
        };
        match self.row.write(change).await {
            Ok(Outcome::Done) => Ok(Written::Done),
            Ok(Outcome::Lost) => Ok(Written::Lost),
            Err(error) => Err(self.told(error)),
        }
    }

    /// What an operator should know of how it is set up.
    pub async fn remarks(&mut self) -> Vec<String> {
        match self.row.remarks().await {
            Ok(remarks) => {
                let place = self.row.place();
                remarks.iter().map(|remark| format!("the database at {place}: {remark}")).collect()
            }
            Err(error) => vec![self.told(error).0],
        }
    }

    fn told(&self, error: StoreError) -> Trouble {
        let mut reason = error.reason;
        if self.named_by == NamedBy::Witness {
            // The mend is in another table than the accounts'.
            for (of_accounts, of_witness) in [
                ("database.url", "cluster.witness"),
                ("database.password_file", "cluster.witness_password_file"),
                ("database.ca", "cluster.witness_ca"),
            ] {
                reason = reason.replace(of_accounts, of_witness);
            }
        }
        Trouble(reason)
    }
}

/// How the server is spoken to, with the files that the configuration names.
pub fn settings(server: &DatabaseServer) -> Result<ServerSettings> {
    let password = match (&server.password_file, server.named_by) {
        (None, _) => None,
        (Some(file), NamedBy::Database) => Some(read_password(file)?),
        (Some(file), NamedBy::Witness) => Some(password::read(file)?.to_string()),
    };
    if let Some(file) = server.authorities.as_ref().filter(|file| !file.is_file()) {
        bail!(
            "{} has to have the certificates by which the server is believed, and is no file",
            file.display()
        );
    }
    // So that each host has its turn before the first connection is given up.
    let hosts = u32::try_from(server.url.hosts.len()).unwrap_or(u32::MAX).saturating_add(1);
    Ok(ServerSettings {
        url: server.url.clone(),
        password,
        tls: server.tls,
        authorities: server.authorities.clone(),
        deadline: CONNECT_MAX / hosts,
        realm: None,
        location: None,
    })
}

/// What the server has not acknowledged for so long is not sent again. A statement that is stuck in this host's kernel would
/// else come there when its connection is long forgotten.
///
/// The library that has the socket does not give it away. This process has no others that are TCP.
fn limit_unacknowledged(limit: Duration) {
    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else { return };
    let Ok(directory) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers = directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers {
        // A kernel that refuses leaves its own limit, and the row is compared whole whenever a statement comes.
        if let Ok(socket) = pidfd_getfd(own.as_fd(), number, PidfdGetfdFlags::empty()) {
            let _ = SockRef::from(&socket).set_tcp_user_timeout(Some(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_that_somebody_else_has_gets_its_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let stream = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");

        limit_unacknowledged(Duration::from_millis(200));

        let limit = SockRef::from(&stream).tcp_user_timeout().expect("it can be asked");
        assert_eq!(limit, Some(Duration::from_millis(200)));
    }
}

//! Adding, changing, listing and removing accounts in a file.

use std::path::Path;

use engine::StoreError;
use routing::{Anchoring, Forwards};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use sip::Aor;

use crate::credentials::Credentials;
use crate::database::Place;
use crate::names::{NAMES_MAX, aliases, may_use};
use crate::row;
use crate::subscribers::{NewSubscriber, Subscriber, SubscriberError};
use crate::{forwards, relay_rule};

/// How many accounts of a file have a rule for the media relay, which is not that none of their calls goes by it. The file
/// is only read; `None` if it is not there, or can not be read.
pub fn relay_rules(file: &Path) -> Option<u64> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let sql = "SELECT count(*) FROM subscriber WHERE relay IN ('nat', 'always')";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).ok().and_then(|count| u64::try_from(count).ok())
}

/// The accounts of a file. A running server may use it too.
#[derive(Debug)]
pub struct InFile {
    place: Place,
    connection: Connection,
}

impl InFile {
    /// Opens the database, and makes it if it is not there.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let place = Place::new(file);
        let connection = place.open()?;
        Ok(Self { place, connection })
    }

    /// Adds an account.
    pub fn add(&mut self, new: &NewSubscriber) -> Result<(), SubscriberError> {
        if new.aliases.len().max(new.may_use.len()) > NAMES_MAX as usize {
            return Err(SubscriberError::TooManyNames);
        }
        self.change(|connection| {
            for name in std::iter::once(&new.aor).chain(&new.aliases) {
                if is_taken(connection, name)? {
                    return Ok(Err(SubscriberError::Exists(name.clone())));
                }
            }
            let Credentials { realm, md5, sha256, sha512_256 } = &new.credentials;
            let (user, domain) = (new.aor.user(), new.aor.domain());
            connection.execute(
                "INSERT INTO subscriber (username, domain, realm, ha1, ha1_sha256, ha1_sha512t256) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![user, domain, realm, md5, sha256, sha512_256],
            )?;
            for alias in &new.aliases {
                insert_alias(connection, &new.aor, alias)?;
            }
            for other in &new.may_use {
                connection.execute(
                    "INSERT OR REPLACE INTO may_use (username, domain, uri_username, uri_domain) \
                     VALUES (?1, ?2, ?3, ?4)",
                    [user, domain, other.user(), other.domain()],
                )?;
            }
            Ok(Ok(()))
        })
    }

    /// Gives an account another password.
    pub fn set_credentials(&mut self, aor: &Aor, credentials: &Credentials) -> Result<(), SubscriberError> {
        self.change(|connection| {
            let Credentials { realm, md5, sha256, sha512_256 } = credentials;
            let changed = connection.execute(
                "UPDATE subscriber SET realm = ?3, ha1 = ?4, ha1_sha256 = ?5, ha1_sha512t256 = ?6 \
                 WHERE username = ?1 AND domain = ?2",
                params![aor.user(), aor.domain(), realm, md5, sha256, sha512_256],
            )?;
            Ok(if changed == 0 { Err(SubscriberError::Unknown(aor.clone())) } else { Ok(()) })
        })
    }

    /// Changes how many calls an account may make at a time.
    pub fn set_limit(&mut self, aor: &Aor, limit: Option<u32>) -> Result<(), SubscriberError> {
        self.change(|connection| {
            let changed = connection.execute(
                "UPDATE subscriber SET calls_max = ?3 WHERE username = ?1 AND domain = ?2",
                params![aor.user(), aor.domain(), limit],
            )?;
            Ok(if changed == 0 { Err(SubscriberError::Unknown(aor.clone())) } else { Ok(()) })
        })
    }

    /// Changes whether the media of an account's calls pass the relay.
    pub fn set_relay(&mut self, aor: &Aor, rule: Option<Anchoring>) -> Result<(), SubscriberError> {
        self.change(|connection| {
            let changed = connection.execute(
                "UPDATE subscriber SET relay = ?3 WHERE username = ?1 AND domain = ?2",
                params![aor.user(), aor.domain(), rule.map(relay_rule::word)],
            )?;
            Ok(if changed == 0 { Err(SubscriberError::Unknown(aor.clone())) } else { Ok(()) })
        })
    }

    /// Gives an account one more name.
    pub fn add_alias(&mut self, aor: &Aor, alias: &Aor) -> Result<(), SubscriberError> {
        self.change(|connection| {
            if !is_subscriber(connection, aor)? {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            if is_taken(connection, alias)? {
                return Ok(Err(SubscriberError::Exists(alias.clone())));
            }
            if aliases(connection, aor)?.len() >= NAMES_MAX as usize {
                return Ok(Err(SubscriberError::TooManyNames));
            }
            insert_alias(connection, aor, alias).map(Ok)
        })
    }

    /// Takes a name away from the account that has it as an alias, and says which that was.
    pub fn remove_alias(&mut self, alias: &Aor) -> Result<Aor, SubscriberError> {
        self.change(|connection| {
            let of = [alias.user(), alias.domain()];
            let owner = connection
                .query_row(
                    "SELECT username, domain FROM dbaliases WHERE alias_username = ?1 AND alias_domain = ?2",
                    of,
                    |found| Ok(row::aor(found, 0, 1)),
                )
                .optional()?
                .flatten();
            let Some(owner) = owner else { return Ok(Err(SubscriberError::NoAlias(alias.clone()))) };
            connection
                .execute("DELETE FROM dbaliases WHERE alias_username = ?1 AND alias_domain = ?2", of)?;
            Ok(Ok(owner))
        })
    }

    /// Changes where the calls of an account are forwarded.
    pub fn change_forwards(
        &mut self,
        aor: &Aor,
        change: impl FnOnce(&mut Forwards),
    ) -> Result<(), SubscriberError> {
        self.change(|connection| {
            if !is_subscriber(connection, aor)? {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            let mut forwards = forwards::read(connection, aor)?;
            change(&mut forwards);
            forwards::write(connection, aor, &forwards).map(Ok)
        })
    }

    /// Takes an account away with its aliases and rights, also the rights of others to use it. Returns
    /// the aliases it had.
    pub fn remove(&mut self, aor: &Aor) -> Result<Vec<Aor>, SubscriberError> {
        self.change(|connection| {
            let of = [aor.user(), aor.domain()];
            let removed = connection.execute("DELETE FROM subscriber WHERE username = ?1 AND domain = ?2", of)?;
            if removed == 0 {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            let aliases = aliases(connection, aor)?;
            forwards::remove(connection, aor)?;
            connection.execute("DELETE FROM dbaliases WHERE username = ?1 AND domain = ?2", of)?;
            connection.execute(
                "DELETE FROM may_use WHERE username = ?1 AND domain = ?2 OR uri_username = ?1 AND uri_domain = ?2",
                of,
            )?;
            Ok(Ok(aliases))
        })
    }

    /// The names of an account: its own and its aliases; empty if there is none.
    pub fn names(&self, aor: &Aor) -> Result<Vec<Aor>, StoreError> {
        let query = || -> rusqlite::Result<Vec<Aor>> {
            if !is_subscriber(&self.connection, aor)? {
                return Ok(Vec::new());
            }
            let mut names = vec![aor.clone()];
            names.extend(aliases(&self.connection, aor)?);
            Ok(names)
        };
        query().map_err(|error| self.place.failed(&error))
    }

    /// Gives each account, in order, to `take`, until it says `false`.
    pub fn list(
        &self,
        domain: Option<&str>,
        mut take: impl FnMut(Subscriber) -> bool,
    ) -> Result<(), StoreError> {
        let mut query = || -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare(
                "SELECT username, domain, realm, calls_max, relay FROM subscriber WHERE ?1 IS NULL OR domain = ?1 \
                 ORDER BY domain, username",
            )?;
            let mut rows = statement.query([domain])?;
            while let Some(found) = rows.next()? {
                let Some(aor) = row::aor(found, 0, 1) else { continue };
                let aliases = aliases(&self.connection, &aor)?;
                let may_use = may_use(&self.connection, &aor)?;
                let forwards = forwards::read(&self.connection, &aor)?;
                let (realm, limit) = (found.get(2)?, found.get(3)?);
                let relay: Option<String> = found.get(4)?;
                let relay = relay.and_then(|word| relay_rule::read(&aor, &word));
                if !take(Subscriber { aor, realm, aliases, may_use, forwards, limit, relay }) {
                    break;
                }
            }
            Ok(())
        };
        query().map_err(|error| self.place.failed(&error))
    }

    /// How many accounts there are.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.count_where("1", "")
    }

    /// How many accounts have hashes that can not be right: made for another realm than `realm`, or
    /// without one, for another than their domain.
    pub fn count_of_other_realms(&self, realm: Option<&str>) -> Result<u64, StoreError> {
        match realm {
            Some(realm) => self.count_where("realm <> ?1", realm),
            None => self.count_where("realm <> domain AND ?1 = ''", ""),
        }
    }

    fn count_where(&self, condition: &str, value: &str) -> Result<u64, StoreError> {
        let query = format!("SELECT count(*) FROM subscriber WHERE {condition}");
        let parameters = [value];
        let parameters = if query.contains("?1") { &parameters[..] } else { &[] };
        self.connection
            .query_row(&query, rusqlite::params_from_iter(parameters), |found| found.get::<_, i64>(0))
            .map(|number| u64::try_from(number).unwrap_or(0))
            .map_err(|error| self.place.failed(&error))
    }

    fn change<T>(
        &mut self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<Result<T, SubscriberError>>,
    ) -> Result<T, SubscriberError> {
        let failed = |error: rusqlite::Error| SubscriberError::Store(self.place.failed(&error));
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let value = change(&transaction).map_err(failed)??;
        transaction.commit().map_err(failed)?;
        Ok(value)
    }
}

fn is_subscriber(connection: &Connection, aor: &Aor) -> rusqlite::Result<bool> {
    connection
        .query_row(
            "SELECT 1 FROM subscriber WHERE username = ?1 AND domain = ?2",
            [aor.user(), aor.domain()],
            |_| Ok(()),
        )
        .optional()
        .map(|found| found.is_some())
}

fn insert_alias(connection: &Connection, aor: &Aor, alias: &Aor) -> rusqlite::Result<()> {
    connection
        .execute(
            "INSERT OR REPLACE INTO dbaliases (alias_username, alias_domain, username, domain) \
             VALUES (?1, ?2, ?3, ?4)",
            [alias.user(), alias.domain(), aor.user(), aor.domain()],
        )
        .map(|_| ())
}

/// Whether a name is that of an account or an alias of one.
fn is_taken(connection: &Connection, name: &Aor) -> rusqlite::Result<bool> {
    let is_alias = connection
        .query_row(
            "SELECT 1 FROM dbaliases WHERE alias_username = ?1 AND alias_domain = ?2",
            [name.user(), name.domain()],
            |_| Ok(()),
        )
        .optional()?
        .is_some();
    Ok(is_alias || is_subscriber(connection, name)?)
}

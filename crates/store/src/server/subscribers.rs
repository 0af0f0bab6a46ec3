//! Adding, changing, listing and removing accounts on a server.

use engine::StoreError;
use routing::{Anchoring, Forwards};
use sip::Aor;
use tokio::runtime::Runtime;

use super::accounts::{aliases, aor, forwards, may_use, owner, relay};
use super::address::ServerSettings;
use super::link::Value;
use super::session::{Access, Session};
use super::tables::Tables;
use crate::credentials::Credentials;
use crate::names::NAMES_MAX;
use crate::relay_rule;
use crate::subscribers::{NewSubscriber, Subscriber, SubscriberError};

/// The accounts of a server's database. Each call connects anew: they are rare, and a server that moved is found.
#[derive(Debug)]
pub struct OnServer {
    runtime: Runtime,
    settings: ServerSettings,
}

/// A change that was looked at, and may be refused.
type Changed<T> = Result<Result<T, SubscriberError>, StoreError>;

impl OnServer {
    /// The accounts of a server. It is not asked yet.
    pub fn new(settings: ServerSettings) -> Result<Self, StoreError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                StoreError {
                    place: settings.url.to_string(),
                    reason: format!("no runtime for its connection: {error}"),
                }
            })?;
        Ok(Self { runtime, settings })
    }

    /// Adds an account.
    pub fn add(&self, new: &NewSubscriber) -> Result<(), SubscriberError> {
        if new.aliases.len().max(new.may_use.len()) > NAMES_MAX as usize {
            return Err(SubscriberError::TooManyNames);
        }
        self.change(async |session| {
            for name in std::iter::once(&new.aor).chain(&new.aliases) {
                if is_taken(session, name).await? {
                    return Ok(Err(SubscriberError::Exists(name.clone())));
                }
            }
            insert(session, new).await?;
            for alias in &new.aliases {
                insert_alias(session, &new.aor, alias).await?;
            }
            if !new.may_use.is_empty() {
                need(session, "tandem_may_use", "addresses that an account may use")?;
            }
            for other in &new.may_use {
                let (user, domain) = (new.aor.user(), new.aor.domain());
                let values = [user, domain, other.user(), other.domain()].map(Value::Text);
                session.run("DELETE FROM tandem_may_use WHERE username = ? AND domain = ? AND uri_username = ? AND uri_domain = ?", &values).await?;
                session.run("INSERT INTO tandem_may_use (username, domain, uri_username, uri_domain) VALUES (?, ?, ?, ?)", &values).await?;
            }
            Ok(Ok(()))
        })
    }

    /// Gives an account another password.
    pub fn set_credentials(&self, aor: &Aor, credentials: &Credentials) -> Result<(), SubscriberError> {
        self.change(async |session| {
            let columns = hash_columns(&session.tables, credentials);
            let assignments: Vec<String> =
                columns.iter().map(|(column, _)| format!("{column} = ?")).collect();
            let sql = format!(
                "UPDATE subscriber SET {} WHERE {} AND {}",
                assignments.join(", "),
                session.tables.is("subscriber", "username"),
                session.tables.is("subscriber", "domain"),
            );
            let mut values: Vec<Value<'_>> = columns.iter().map(|(_, value)| Value::Text(value)).collect();
            values.extend([Value::Text(aor.user()), Value::Text(aor.domain())]);
            known(session.run(&sql, &values).await?, aor)
        })
    }

    /// Changes how many calls an account may make at a time.
    pub fn set_limit(&self, aor: &Aor, limit: Option<u32>) -> Result<(), SubscriberError> {
        self.change(async |session| {
            if !session.tables.has("subscriber", "calls_max") {
                return Err(missing(
                    session,
                    "a limit of calls needs the column calls_max INT of subscriber",
                ));
            }
            let sql = format!(
                "UPDATE subscriber SET calls_max = ? WHERE {} AND {}",
                session.tables.is("subscriber", "username"),
                session.tables.is("subscriber", "domain"),
            );
            let values =
                [Value::Number(limit.map(i64::from)), Value::Text(aor.user()), Value::Text(aor.domain())];
            known(session.run(&sql, &values).await?, aor)
        })
    }

    /// Changes whether the media of an account's calls pass the relay.
    pub fn set_relay(&self, aor: &Aor, rule: Option<Anchoring>) -> Result<(), SubscriberError> {
        self.change(async |session| {
            if !is_subscriber(session, aor).await? {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            need(session, "tandem_relay", "rules for the media relay")?;
            let of = [Value::Text(aor.user()), Value::Text(aor.domain())];
            session.run("DELETE FROM tandem_relay WHERE username = ? AND domain = ?", &of).await?;
            if let Some(rule) = rule {
                let values = [of[0], of[1], Value::Text(relay_rule::word(rule))];
                let sql = "INSERT INTO tandem_relay (username, domain, rule) VALUES (?, ?, ?)";
                session.run(sql, &values).await?;
            }
            Ok(Ok(()))
        })
    }

    /// Gives an account one more name.
    pub fn add_alias(&self, aor: &Aor, alias: &Aor) -> Result<(), SubscriberError> {
        self.change(async |session| {
            if !is_subscriber(session, aor).await? {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            if is_taken(session, alias).await? {
                return Ok(Err(SubscriberError::Exists(alias.clone())));
            }
            if aliases(session, aor).await?.len() >= NAMES_MAX as usize {
                return Ok(Err(SubscriberError::TooManyNames));
            }
            insert_alias(session, aor, alias).await.map(Ok)
        })
    }

    /// Takes a name away from the account that has it as an alias, and says which that was.
    pub fn remove_alias(&self, alias: &Aor) -> Result<Aor, SubscriberError> {
        self.change(async |session| {
            let Some(owner) = owner(session, alias).await? else {
                return Ok(Err(SubscriberError::NoAlias(alias.clone())));
            };
            let sql = format!(
                "DELETE FROM dbaliases WHERE {} AND {}",
                session.tables.is("dbaliases", "alias_username"),
                session.tables.is("dbaliases", "alias_domain"),
            );
            session.run(&sql, &[Value::Text(alias.user()), Value::Text(alias.domain())]).await?;
            Ok(Ok(owner))
        })
    }

    /// Changes where the calls of an account are forwarded.
    pub fn change_forwards(
        &self,
        aor: &Aor,
        change: impl FnOnce(&mut Forwards),
    ) -> Result<(), SubscriberError> {
        self.change(async |session| {
            if !is_subscriber(session, aor).await? {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            need(session, "tandem_forward", "forwards")?;
            let mut wanted = forwards(session, aor).await?;
            change(&mut wanted);
            write_forwards(session, aor, &wanted).await.map(Ok)
        })
    }

    /// Takes an account away with its aliases and rights, also the rights of others to use it. Returns the aliases it
    /// had.
    pub fn remove(&self, aor: &Aor) -> Result<Vec<Aor>, SubscriberError> {
        self.change(async |session| {
            let aliases = aliases(session, aor).await?;
            let of = [Value::Text(aor.user()), Value::Text(aor.domain())];
            let from = |tables: &Tables, table: &str, columns: [&str; 2]| {
                let [user, domain] = columns.map(|column| tables.is(table, column));
                format!("DELETE FROM {table} WHERE {user} AND {domain}")
            };
            let names = ["username", "domain"];
            let sql = from(&session.tables, "subscriber", names);
            if session.run(&sql, &of).await? == 0 {
                return Ok(Err(SubscriberError::Unknown(aor.clone())));
            }
            let rest = [
                ("dbaliases", names),
                ("tandem_forward", names),
                ("tandem_relay", names),
                ("tandem_may_use", names),
                ("tandem_may_use", ["uri_username", "uri_domain"]),
            ];
            for (table, columns) in rest {
                if session.tables.has_table(table) {
                    let sql = from(&session.tables, table, columns);
                    session.run(&sql, &of).await?;
                }
            }
            Ok(Ok(aliases))
        })
    }

    /// The names of an account: its own and its aliases; empty if there is none.
    pub fn names(&self, aor: &Aor) -> Result<Vec<Aor>, StoreError> {
        self.read(async |session| {
            if !is_subscriber(session, aor).await? {
                return Ok(Vec::new());
            }
            let mut names = vec![aor.clone()];
            names.extend(aliases(session, aor).await?);
            Ok(names)
        })
    }

    /// Gives each account, in order, to `take`, until it says `false`.
    pub fn list(
        &self,
        only: Option<&str>,
        mut take: impl FnMut(Subscriber) -> bool,
    ) -> Result<(), StoreError> {
        self.read(async |session| {
            // By pages, so that a million accounts need no memory; by name, which has an index.
            let mut last: Option<(String, String)> = None;
            loop {
                let page = page(session, only, last.as_ref()).await?;
                let Some(end) = page.last() else { return Ok(()) };
                last = Some((end.text(0).to_owned(), end.text(1).to_owned()));
                for row in page {
                    let Some(aor) = aor(&row, 0) else { continue };
                    let aliases = aliases(session, &aor).await?;
                    let may_use = may_use(session, &aor).await?;
                    let forwards = forwards(session, &aor).await?;
                    let realm = match row.text(2) {
                        "" => aor.domain().to_owned(),
                        realm => realm.to_owned(),
                    };
                    let limit = row.number(3);
                    let relay = relay(session, &aor).await?;
                    if !take(Subscriber { aor, realm, aliases, may_use, forwards, limit, relay }) {
                        return Ok(());
                    }
                }
            }
        })
    }

    /// How many accounts there are.
    pub fn count(&self) -> Result<u64, StoreError> {
        self.count_where("1 = 1", &[])
    }

    /// How many accounts have hashes that can not be right, as far as the table says for which realm they are.
    pub fn count_of_other_realms(&self, realm: Option<&str>) -> Result<u64, StoreError> {
        match realm {
            Some(realm) => self.count_where("realm <> ? AND realm <> ''", &[Value::Text(realm)]),
            None => self.count_where("realm <> domain AND realm <> ''", &[]),
        }
    }

    fn count_where(&self, condition: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.read(async |session| {
            if condition.contains("realm") && !session.tables.has("subscriber", "realm") {
                return Ok(0);
            }
            let count = session.product().text("count(*)");
            let sql = format!("SELECT {count} FROM subscriber WHERE {condition}");
            Ok(session.rows(&sql, values).await?.first().and_then(|row| row.number(0)).unwrap_or(0))
        })
    }

    fn read<T>(
        &self,
        read: impl AsyncFnOnce(&mut Session) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(async {
            let mut session = Session::open(&self.settings).await?;
            read(&mut session).await
        })
    }

    /// In one transaction, which is kept only if nothing was refused.
    fn change<T>(&self, change: impl AsyncFnOnce(&mut Session) -> Changed<T>) -> Result<T, SubscriberError> {
        self.runtime.block_on(async {
            let mut session = Session::open(&self.settings).await?;
            if session.access == Access::ReadOnly {
                let reason =
                    "it can only be read: name the primary in database.url, beside the others".to_owned();
                return Err(StoreError { place: session.place, reason }.into());
            }
            session.begin().await?;
            let value = change(&mut session).await??;
            session.commit().await?;
            Ok(value)
        })
    }
}

/// Accounts of one page of the list.
const PAGE: usize = 500;

async fn page(
    session: &mut Session,
    only: Option<&str>,
    last: Option<&(String, String)>,
) -> Result<Vec<super::link::Row>, StoreError> {
    let tables = &session.tables;
    let columns = ["username", "domain", "realm", "calls_max"].map(|it| tables.text("subscriber", it));
    let (mut conditions, mut values) = (vec!["1 = 1".to_owned()], Vec::new());
    if let Some(domain) = only {
        conditions.push(tables.is("subscriber", "domain"));
        values.push(Value::Text(domain));
    }
    if let Some((user, domain)) = last {
        conditions.push("(domain > ? OR domain = ? AND username > ?)".to_owned());
        values.extend([domain, domain, user].map(|it| Value::Text(it)));
    }
    let sql = format!(
        "SELECT {} FROM subscriber WHERE {} ORDER BY domain, username LIMIT {PAGE}",
        columns.join(", "),
        conditions.join(" AND "),
    );
    session.rows(&sql, &values).await
}

/// The hashes for the columns that the table has.
fn hash_columns(tables: &Tables, credentials: &Credentials) -> Vec<(&'static str, String)> {
    let Credentials { realm, md5, sha256, sha512_256 } = credentials;
    [
        ("ha1", md5),
        ("ha1_sha256", sha256),
        ("ha1_sha512t256", sha512_256),
        ("realm", realm),
        // What was readable, or belonged to the old password, would go on letting somebody in.
        ("ha1b", &String::new()),
        ("password", &String::new()),
    ]
    .into_iter()
    .filter(|(column, _)| tables.has("subscriber", column))
    .map(|(column, value)| (column, value.clone()))
    .collect()
}

async fn insert(session: &mut Session, new: &NewSubscriber) -> Result<(), StoreError> {
    let mut columns = vec![("username", new.aor.user().to_owned()), ("domain", new.aor.domain().to_owned())];
    columns.extend(hash_columns(&session.tables, &new.credentials));
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<Value<'_>> = columns.iter().map(|(_, value)| Value::Text(value)).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let sql = format!("INSERT INTO subscriber ({}) VALUES ({places})", names.join(", "));
    session.run(&sql, &values).await.map(|_| ())
}

async fn insert_alias(session: &mut Session, aor: &Aor, alias: &Aor) -> Result<(), StoreError> {
    need(session, "dbaliases", "aliases")?;
    let values = [alias.user(), alias.domain(), aor.user(), aor.domain()].map(Value::Text);
    let sql = "INSERT INTO dbaliases (alias_username, alias_domain, username, domain) VALUES (?, ?, ?, ?)";
    session.run(sql, &values).await.map(|_| ())
}

async fn write_forwards(session: &mut Session, aor: &Aor, forwards: &Forwards) -> Result<(), StoreError> {
    let (user, domain) = (Value::Text(aor.user()), Value::Text(aor.domain()));
    session.run("DELETE FROM tandem_forward WHERE username = ? AND domain = ?", &[user, domain]).await?;
    for (kind, target, after) in crate::forwards::rows(forwards) {
        let values = [user, domain, Value::Text(kind), Value::Text(target.as_str()), Value::Number(after)];
        let sql = "INSERT INTO tandem_forward (username, domain, kind, uri, after_ms) VALUES (?, ?, ?, ?, ?)";
        session.run(sql, &values).await?;
    }
    Ok(())
}

async fn is_subscriber(session: &mut Session, name: &Aor) -> Result<bool, StoreError> {
    let tables = &session.tables;
    let sql = format!(
        "SELECT '1' FROM subscriber WHERE {} AND {}",
        tables.is("subscriber", "username"),
        tables.is("subscriber", "domain"),
    );
    let rows = session.rows(&sql, &[Value::Text(name.user()), Value::Text(name.domain())]).await?;
    Ok(!rows.is_empty())
}

/// Whether a name is that of an account or an alias of one.
async fn is_taken(session: &mut Session, name: &Aor) -> Result<bool, StoreError> {
    Ok(owner(session, name).await?.is_some() || is_subscriber(session, name).await?)
}

fn known(met: u64, aor: &Aor) -> Changed<()> {
    Ok(if met == 0 { Err(SubscriberError::Unknown(aor.clone())) } else { Ok(()) })
}

fn need(session: &Session, table: &str, what: &str) -> Result<(), StoreError> {
    if session.tables.has_table(table) {
        return Ok(());
    }
    Err(missing(session, &format!("{what} need the table {table}, as docs/database.md shows it")))
}

fn missing(session: &Session, what: &str) -> StoreError {
    StoreError { place: session.place.clone(), reason: what.to_owned() }
}

//! Reading an account, whoever made the tables.

use std::collections::{BTreeMap, BTreeSet};

use engine::StoreError;
use routing::{Account, Algorithm, Anchoring, CallRules, Forwards};
use sip::Aor;

use super::link::{Row, Value};
use super::session::Session;
use super::tables::{Dialect, Tables};
use crate::credentials::{Credentials, is_ha1};
use crate::names::NAMES_MAX;
use crate::relay_rule;

/// The account that has this address of record, as its own or as an alias. `realm` is for passwords that the table
/// keeps readable.
pub async fn find(
    session: &mut Session,
    aor: &Aor,
    realm: Option<&str>,
) -> Result<Option<Account>, StoreError> {
    let mut found = find_own(session, std::slice::from_ref(aor), realm).await?;
    if found.is_empty() {
        let Some(own) = owner(session, aor).await? else { return Ok(None) };
        found = find_own(session, &[own], realm).await?;
    }
    let account = found.pop();
    if let Some(Account { aor, ha1, .. }) = &account
        && ha1.is_empty()
    {
        tracing::warn!(account = %aor, "an account without a hash or a password in the database can not prove itself");
    }
    Ok(account)
}

/// The accounts that have these addresses of record as their own, in no order. Those that are not there are left out.
pub async fn find_own(
    session: &mut Session,
    names: &[Aor],
    realm: Option<&str>,
) -> Result<Vec<Account>, StoreError> {
    let mut accounts = subscribers(session, names, realm).await?;
    let found: Vec<Aor> = accounts.keys().cloned().collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    for (own, alias) in names_of(session, "dbaliases", ["alias_username", "alias_domain"], &found).await? {
        accounts.entry(own).and_modify(|account| account.aliases.push(alias));
    }
    for (own, other) in names_of(session, "tandem_may_use", ["uri_username", "uri_domain"], &found).await? {
        accounts.entry(own).and_modify(|account| account.may_use.push(other));
    }
    for (own, forwards) in forwards_of(session, &found).await? {
        accounts.entry(own).and_modify(|account| account.calls.forwards = forwards);
    }
    for (own, rule) in relays_of(session, &found).await? {
        accounts.entry(own).and_modify(|account| account.calls.relay = Some(rule));
    }
    let sorted = |mut names: Vec<Aor>| {
        names.sort();
        names.dedup();
        names.truncate(NAMES_MAX as usize);
        names
    };
    let whole = |account: Account| Account {
        aliases: sorted(account.aliases),
        may_use: sorted(account.may_use),
        ..account
    };
    Ok(accounts.into_values().map(whole).collect())
}

async fn subscribers(
    session: &mut Session,
    names: &[Aor],
    realm: Option<&str>,
) -> Result<BTreeMap<Aor, Account>, StoreError> {
    let tables = &session.tables;
    let columns =
        ["username", "domain", "ha1", "ha1b", "ha1_sha256", "ha1_sha512t256", "password", "calls_max"]
            .map(|column| tables.text("subscriber", column));
    let (condition, values) = one_of(tables, "subscriber", names);
    let query = format!("SELECT {} FROM subscriber WHERE {condition}", columns.join(", "));
    let dialect = tables.dialect;
    let rows = session.rows(&query, &values).await?;
    let names = names.iter().collect();
    let mut accounts = BTreeMap::new();
    for row in &rows {
        let Some(aor) = named(row, 0, &names) else { continue };
        let account = Account {
            ha1: hashes(dialect, row, &aor, realm),
            aliases: Vec::new(),
            may_use: Vec::new(),
            calls: CallRules { limit: row.number(7), ..CallRules::default() },
            aor: aor.clone(),
        };
        // The first of two rows that differ in the case of the domain's letters.
        accounts.entry(aor).or_insert(account);
    }
    Ok(accounts)
}

/// The hashes of a row of `subscriber`.
fn hashes(dialect: Dialect, row: &Row, aor: &Aor, realm: Option<&str>) -> Vec<(Algorithm, Box<str>)> {
    let mut hashes = Vec::new();
    for (column, algorithm) in
        [(2, None), (3, None), (4, Some(Algorithm::Sha256)), (5, Some(Algorithm::Sha512_256))]
    {
        hashes.extend(hash(dialect, row.text(column), algorithm));
    }
    let password = row.text(6);
    if hashes.is_empty() && !password.is_empty() {
        let made = Credentials::of(aor, realm.unwrap_or(aor.domain()), password);
        hashes.extend(made.all().map(|(algorithm, hash)| (algorithm, hash.into())));
    }
    hashes
}

/// The condition that a row is one of these, and its values. The columns are `username` and `domain`.
fn one_of<'a>(tables: &Tables, table: &str, names: &'a [Aor]) -> (String, Vec<Value<'a>>) {
    let mut domains: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        domains.entry(name.domain()).or_default().push(name.user());
    }
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for (domain, users) in domains {
        let places = vec![tables.place(table, "username"); users.len()].join(", ");
        conditions.push(format!("({} AND username IN ({places}))", tables.is(table, "domain")));
        values.push(Value::Text(domain));
        values.extend(users.into_iter().map(Value::Text));
    }
    (conditions.join(" OR "), values)
}

/// Which of the names stands in two columns.
// A server may find what differs in the case of its letters, and the user part is not the same then.
fn named(row: &Row, first: usize, names: &BTreeSet<&Aor>) -> Option<Aor> {
    let found = aor(row, first)?;
    (row.text(first).trim_end() == found.user() && names.contains(&found)).then_some(found)
}

/// A hash of a column. Those of Kamailio have the algorithm of its configuration, which their length tells.
fn hash(dialect: Dialect, text: &str, algorithm: Option<Algorithm>) -> Option<(Algorithm, Box<str>)> {
    let text = text.trim_end().to_ascii_lowercase();
    let algorithm = match (algorithm, dialect, text.len()) {
        (Some(algorithm), _, _) => algorithm,
        (None, Dialect::Kamailio, 64) => Algorithm::Sha256,
        (None, _, _) => Algorithm::Md5,
    };
    is_ha1(algorithm, &text).then(|| (algorithm, text.into_boxed_str()))
}

/// The account that has this name as an alias.
pub async fn owner(session: &mut Session, alias: &Aor) -> Result<Option<Aor>, StoreError> {
    let tables = &session.tables;
    if !tables.has_table("dbaliases") {
        return Ok(None);
    }
    let columns = ["alias_username", "alias_domain", "username", "domain"].map(|it| tables.product.text(it));
    let query = format!(
        "SELECT {} FROM dbaliases WHERE {} AND {}",
        columns.join(", "),
        tables.is("dbaliases", "alias_username"),
        tables.is("dbaliases", "alias_domain"),
    );
    let rows = session.rows(&query, &[Value::Text(alias.user()), Value::Text(alias.domain())]).await?;
    Ok(rows.iter().find(|row| is_this(row, alias, 0)).and_then(|row| aor(row, 2)))
}

/// Other names of an account.
pub async fn aliases(session: &mut Session, account: &Aor) -> Result<Vec<Aor>, StoreError> {
    let accounts = std::slice::from_ref(account);
    let names = names_of(session, "dbaliases", ["alias_username", "alias_domain"], accounts).await?;
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// Addresses of record of others that an account may use.
pub async fn may_use(session: &mut Session, account: &Aor) -> Result<Vec<Aor>, StoreError> {
    let accounts = std::slice::from_ref(account);
    let names = names_of(session, "tandem_may_use", ["uri_username", "uri_domain"], accounts).await?;
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

/// Names that belong to accounts, behind the account.
async fn names_of(
    session: &mut Session,
    table: &str,
    columns: [&str; 2],
    accounts: &[Aor],
) -> Result<Vec<(Aor, Aor)>, StoreError> {
    let tables = &session.tables;
    if !tables.has_table(table) {
        return Ok(Vec::new());
    }
    let [first, second] = columns;
    let (condition, values) = one_of(tables, table, accounts);
    let query = format!(
        "SELECT {}, {}, {}, {} FROM {table} WHERE {condition} ORDER BY {first}, {second} LIMIT {}",
        tables.product.text(first),
        tables.product.text(second),
        tables.product.text("username"),
        tables.product.text("domain"),
        NAMES_MAX as usize * accounts.len().max(10),
    );
    let rows = session.rows(&query, &values).await?;
    let accounts = accounts.iter().collect();
    Ok(rows.iter().filter_map(|row| Some((named(row, 2, &accounts)?, aor(row, 0)?))).collect())
}

/// Where the calls of an account are forwarded.
pub async fn forwards(session: &mut Session, account: &Aor) -> Result<Forwards, StoreError> {
    let found = forwards_of(session, std::slice::from_ref(account)).await?;
    Ok(found.into_values().next().unwrap_or_default())
}

async fn forwards_of(session: &mut Session, accounts: &[Aor]) -> Result<BTreeMap<Aor, Forwards>, StoreError> {
    let tables = &session.tables;
    let mut forwards = BTreeMap::new();
    if !tables.has_table("tandem_forward") {
        return Ok(forwards);
    }
    let columns = ["kind", "uri", "after_ms", "username", "domain"].map(|it| tables.product.text(it));
    let (condition, values) = one_of(tables, "tandem_forward", accounts);
    let query = format!("SELECT {} FROM tandem_forward WHERE {condition}", columns.join(", "));
    let rows = session.rows(&query, &values).await?;
    let accounts = accounts.iter().collect();
    for row in rows {
        let Some(account) = named(&row, 3, &accounts) else { continue };
        let of_account = forwards.entry(account.clone()).or_default();
        crate::forwards::take_row(of_account, &account, (row.text(0), row.text(1), row.number(2)));
    }
    Ok(forwards)
}

/// What an account says of the media relay.
pub async fn relay(session: &mut Session, account: &Aor) -> Result<Option<Anchoring>, StoreError> {
    let found = relays_of(session, std::slice::from_ref(account)).await?;
    Ok(found.into_values().next())
}

async fn relays_of(session: &mut Session, accounts: &[Aor]) -> Result<BTreeMap<Aor, Anchoring>, StoreError> {
    let tables = &session.tables;
    if !tables.has_table("tandem_relay") {
        return Ok(BTreeMap::new());
    }
    let columns = ["rule", "username", "domain"].map(|it| tables.product.text(it));
    let (condition, values) = one_of(tables, "tandem_relay", accounts);
    let query = format!("SELECT {} FROM tandem_relay WHERE {condition}", columns.join(", "));
    let rows = session.rows(&query, &values).await?;
    let accounts = accounts.iter().collect();
    let rule = |row: &Row| {
        let account = named(row, 1, &accounts)?;
        let rule = relay_rule::read(&account, row.text(0))?;
        Some((account, rule))
    };
    Ok(rows.iter().filter_map(rule).collect())
}

/// The address of record in two columns.
pub fn aor(row: &Row, first: usize) -> Option<Aor> {
    Aor::parse(&format!("{}@{}", row.text(first).trim_end(), row.text(first + 1).trim_end()))
}

fn is_this(row: &Row, aor: &Aor, first: usize) -> bool {
    row.text(first).trim_end() == aor.user()
        && row.text(first + 1).trim_end().eq_ignore_ascii_case(aor.domain())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_kamailio_hash_tells_its_algorithm() {
        let (short, long) = ("A".repeat(32), "b".repeat(64));

        let algorithm = |dialect, text: &str| hash(dialect, text, None).map(|(algorithm, _)| algorithm);

        assert_eq!(algorithm(Dialect::Kamailio, &long), Some(Algorithm::Sha256));
        assert_eq!(algorithm(Dialect::OpenSips, &long), None);
        for dialect in [Dialect::Kamailio, Dialect::OpenSips] {
            let found = hash(dialect, &format!("{short}   "), None);
            assert_eq!(found, Some((Algorithm::Md5, "a".repeat(32).into_boxed_str())));
            assert_eq!(hash(dialect, "", None), None);
        }
        assert_eq!(
            hash(Dialect::OpenSips, &long, Some(Algorithm::Sha512_256)).map(|it| it.0),
            Some(Algorithm::Sha512_256)
        );
    }
}

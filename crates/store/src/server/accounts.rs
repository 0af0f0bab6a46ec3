//! Reading an account, whoever made the tables.

use engine::StoreError;
use routing::{Account, Algorithm, CallRules, Forwards};
use sip::Aor;

use super::link::{Row, Value};
use super::session::Session;
use super::tables::Dialect;
use crate::credentials::{Credentials, is_ha1};
use crate::names::NAMES_MAX;

/// The account that has this address of record, as its own or as an alias. `realm` is for passwords that the table
/// keeps readable.
pub async fn find(
    session: &mut Session,
    aor: &Aor,
    realm: Option<&str>,
) -> Result<Option<Account>, StoreError> {
    let (own, hashes, limit) = match subscriber(session, aor, realm).await? {
        Some((hashes, limit)) => (aor.clone(), hashes, limit),
        None => {
            let Some(own) = owner(session, aor).await? else { return Ok(None) };
            let Some((hashes, limit)) = subscriber(session, &own, realm).await? else { return Ok(None) };
            (own, hashes, limit)
        }
    };
    let aliases = aliases(session, &own).await?;
    let may_use = may_use(session, &own).await?;
    let calls = CallRules { forwards: forwards(session, &own).await?, limit };
    Ok(Some(Account { aor: own, ha1: hashes, aliases, may_use, calls }))
}

type Hashes = Vec<(Algorithm, Box<str>)>;

async fn subscriber(
    session: &mut Session,
    aor: &Aor,
    realm: Option<&str>,
) -> Result<Option<(Hashes, Option<u32>)>, StoreError> {
    let tables = &session.tables;
    let columns =
        ["username", "domain", "ha1", "ha1b", "ha1_sha256", "ha1_sha512t256", "password", "calls_max"]
            .map(|column| tables.text("subscriber", column));
    let query = format!(
        "SELECT {} FROM subscriber WHERE {} AND {}",
        columns.join(", "),
        tables.is("subscriber", "username"),
        tables.is("subscriber", "domain"),
    );
    let dialect = tables.dialect;
    let rows = session.rows(&query, &[Value::Text(aor.user()), Value::Text(aor.domain())]).await?;
    // A server may find what differs in the case of its letters, and the user part is not the same then.
    let Some(row) = rows.iter().find(|row| is_this(row, aor, 0)) else { return Ok(None) };
    let mut hashes = Hashes::new();
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
    if hashes.is_empty() {
        tracing::warn!(account = %aor, "an account without a hash or a password in the database can not prove itself");
    }
    Ok(Some((hashes, row.number(7))))
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
    names(session, "dbaliases", ["alias_username", "alias_domain"], account).await
}

/// Addresses of record of others that an account may use.
pub async fn may_use(session: &mut Session, account: &Aor) -> Result<Vec<Aor>, StoreError> {
    names(session, "tandem_may_use", ["uri_username", "uri_domain"], account).await
}

async fn names(
    session: &mut Session,
    table: &str,
    columns: [&str; 2],
    account: &Aor,
) -> Result<Vec<Aor>, StoreError> {
    let tables = &session.tables;
    if !tables.has_table(table) {
        return Ok(Vec::new());
    }
    let [first, second] = columns;
    let query = format!(
        "SELECT {}, {}, {}, {} FROM {table} WHERE {} AND {} ORDER BY {first}, {second} LIMIT {NAMES_MAX}",
        tables.product.text(first),
        tables.product.text(second),
        tables.product.text("username"),
        tables.product.text("domain"),
        tables.is(table, "username"),
        tables.is(table, "domain"),
    );
    let rows = session.rows(&query, &[Value::Text(account.user()), Value::Text(account.domain())]).await?;
    Ok(rows.iter().filter(|row| is_this(row, account, 2)).filter_map(|row| aor(row, 0)).collect())
}

/// Where the calls of an account are forwarded.
pub async fn forwards(session: &mut Session, account: &Aor) -> Result<Forwards, StoreError> {
    let tables = &session.tables;
    let mut forwards = Forwards::default();
    if !tables.has_table("tandem_forward") {
        return Ok(forwards);
    }
    let columns = ["kind", "uri", "after_ms"].map(|it| tables.product.text(it));
    let query =
        format!("SELECT {} FROM tandem_forward WHERE username = ? AND domain = ?", columns.join(", "));
    for row in session.rows(&query, &[Value::Text(account.user()), Value::Text(account.domain())]).await? {
        crate::forwards::take_row(&mut forwards, account, (row.text(0), row.text(1), row.number(2)));
    }
    Ok(forwards)
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

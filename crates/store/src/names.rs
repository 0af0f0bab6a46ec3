//! The names that go with an account: its aliases, and the addresses of record that it may use.

use rusqlite::{Connection, params};
use sip::Aor;

use crate::row;

/// Names of one kind that one account may have: all of them are in memory while it is cached.
pub const NAMES_MAX: u32 = 1_000;

/// Other names of an account.
pub fn aliases(connection: &Connection, account: &Aor) -> rusqlite::Result<Vec<Aor>> {
    names(
        connection,
        "SELECT alias_username, alias_domain FROM dbaliases WHERE username = ?1 AND domain = ?2 \
         ORDER BY alias_username, alias_domain LIMIT ?3",
        account,
    )
}

/// Addresses of record of others that an account may use.
pub fn may_use(connection: &Connection, account: &Aor) -> rusqlite::Result<Vec<Aor>> {
    names(
        connection,
        "SELECT uri_username, uri_domain FROM may_use WHERE username = ?1 AND domain = ?2 \
         ORDER BY uri_username, uri_domain LIMIT ?3",
        account,
    )
}

fn names(connection: &Connection, query: &str, account: &Aor) -> rusqlite::Result<Vec<Aor>> {
    let mut statement = connection.prepare_cached(query)?;
    let mut rows = statement.query(params![account.user(), account.domain(), NAMES_MAX])?;
    let mut names = Vec::new();
    while let Some(found) = rows.next()? {
        names.extend(row::aor(found, 0, 1));
    }
    Ok(names)
}

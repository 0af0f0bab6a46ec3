//! The tables, and how an older file becomes a present one.
//!
//! They are shaped like the tables that operators know: `subscriber`, `dbaliases` and `location`. The end of a binding
//! that was only refreshed since its row was written stands in `refreshed` instead. `account_copy` has what a server
//! said of its accounts.

use rusqlite::Connection;

use engine::StoreError;

use crate::database::Place;

/// Marks the file as one of ours (`PRAGMA application_id`): "Tndm".
const APPLICATION_ID: i64 = 0x546e_646d;

/// Step `n` makes version `n + 1` of version `n`. Steps are only ever added.
const STEPS: &[&str] = &[
    "
    CREATE TABLE subscriber (
        id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        realm TEXT NOT NULL,
        ha1 TEXT NOT NULL,
        ha1_sha256 TEXT NOT NULL,
        ha1_sha512t256 TEXT NOT NULL,
        UNIQUE (username, domain)
    );
    CREATE TABLE dbaliases (
        alias_username TEXT NOT NULL,
        alias_domain TEXT NOT NULL,
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        PRIMARY KEY (alias_username, alias_domain)
    ) WITHOUT ROWID;
    CREATE INDEX dbaliases_of ON dbaliases (username, domain);
    CREATE TABLE may_use (
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        uri_username TEXT NOT NULL,
        uri_domain TEXT NOT NULL,
        PRIMARY KEY (username, domain, uri_username, uri_domain)
    ) WITHOUT ROWID;
    CREATE TABLE location (
        contact_id INTEGER PRIMARY KEY,
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        contact NOT NULL,
        received TEXT NOT NULL,
        socket TEXT NOT NULL,
        path,
        expires INTEGER NOT NULL,
        q REAL,
        callid NOT NULL,
        cseq INTEGER NOT NULL,
        user_agent,
        sip_instance,
        reg_id INTEGER,
        nat INTEGER NOT NULL,
        response_hash INTEGER NOT NULL,
        last_modified INTEGER NOT NULL
    );
    CREATE TABLE nonce (
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        nonce BLOB NOT NULL,
        highest INTEGER NOT NULL,
        used INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (username, domain, nonce)
    ) WITHOUT ROWID;
",
    "
    CREATE TABLE forward (
        username TEXT NOT NULL,
        domain TEXT NOT NULL,
        kind TEXT NOT NULL,
        uri TEXT NOT NULL,
        after_ms INTEGER,
        PRIMARY KEY (username, domain, kind)
    ) WITHOUT ROWID;
",
    "
    ALTER TABLE location ADD COLUMN written INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE batch (number INTEGER NOT NULL);
    INSERT INTO batch (number) VALUES (0);
    CREATE TABLE refreshed (
        batch INTEGER PRIMARY KEY,
        expires INTEGER NOT NULL,
        bindings BLOB NOT NULL
    );
    CREATE INDEX refreshed_expires ON refreshed (expires);
",
    "ALTER TABLE subscriber ADD COLUMN calls_max INTEGER;",
    "
    CREATE TABLE account_copy (name TEXT PRIMARY KEY, account TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE account_copies (confirmed_ms INTEGER NOT NULL);
",
    "ALTER TABLE subscriber ADD COLUMN relay TEXT;",
];

/// Brings the file to the present version, or says why that can not be.
pub fn migrate(connection: &mut Connection, place: &Place) -> Result<(), StoreError> {
    let version = version(connection, place)?;
    if version > STEPS.len() {
        return Err(place.error(format!(
            "it was made by a newer release (its version is {version}, this release knows {}): start that release, \
             or move the file away to begin with an empty database",
            STEPS.len()
        )));
    }
    if version == STEPS.len() {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(|error| place.failed(&error))?;
    // Another process may have done it since the version was read.
    let begun = self::version(&transaction, place)?;
    for (step, number) in STEPS.iter().zip(1i64..).skip(begun) {
        transaction
            .execute_batch(step)
            .and_then(|()| transaction.pragma_update(None, "user_version", number))
            .map_err(|error| place.failed(&error))?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .and_then(|()| transaction.commit())
        .map_err(|error| place.failed(&error))
}

/// The version of the file; 0 for an empty one. A file of another program is refused.
fn version(connection: &Connection, place: &Place) -> Result<usize, StoreError> {
    let number = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(|error| place.failed(&error))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| place.failed(&error))?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(place.error("it is the database of another program: name another state directory"));
    }
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

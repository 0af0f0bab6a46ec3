//! Counts of nonces that are in use, in the table `nonce`.

use clock::WallTime;
use engine::StoredNonce;
use rusqlite::{Connection, Row, params};

use crate::bindings::Rows;
use crate::row;

const PUT: &str = "INSERT OR REPLACE INTO nonce (username, domain, nonce, highest, used, expires_ms) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const ALL: &str = "SELECT username, domain, nonce, highest, used, expires_ms FROM nonce WHERE expires_ms > ?1 \
     ORDER BY username, domain, nonce";

/// Writes one nonce's counts.
pub fn write(connection: &Connection, nonce: &StoredNonce) -> rusqlite::Result<()> {
    connection.prepare_cached(PUT)?.execute(params![
        nonce.account.user(),
        nonce.account.domain(),
        nonce.nonce,
        nonce.highest,
        nonce.used.cast_signed(),
        milliseconds(nonce.expires_at),
    ])?;
    Ok(())
}

/// All nonces that are still good.
pub fn read(connection: &Connection, now: WallTime) -> rusqlite::Result<Rows<StoredNonce>> {
    let mut statement = connection.prepare(ALL)?;
    let mut rows = statement.query([milliseconds(now)])?;
    let mut found = Rows { good: Vec::new(), bad: 0 };
    while let Some(row) = rows.next()? {
        match nonce(row) {
            Some(nonce) => found.good.push(nonce),
            None => found.bad += 1,
        }
    }
    Ok(found)
}

/// Takes away what has ended.
pub fn remove_ended(connection: &Connection, now: WallTime) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM nonce WHERE expires_ms <= ?1")?
        .execute([milliseconds(now)])
        .map(|_| ())
}

fn nonce(row: &Row<'_>) -> Option<StoredNonce> {
    Some(StoredNonce {
        account: row::aor(row, 0, 1)?,
        nonce: row.get(2).ok()?,
        highest: row::number(row, 3)?,
        used: row.get::<_, i64>(4).ok()?.cast_unsigned(),
        expires_at: WallTime::from_millis(row::number(row, 5)?),
    })
}

fn milliseconds(time: WallTime) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

//! Refreshes of bindings, written as a log beside the table `location`.
//!
//! Nearly every REGISTER only says that a binding goes on: its row would get another end, CSeq and hash, and each row is a
//! page of its own to write. So a refresh is 28 bytes in the table `refreshed`, which has one row for each batch. A
//! row of the log is taken away when all in it has ended: by then each of these bindings was refreshed again or is gone.
//!
//! Each batch has a number. A row of `location` knows in which batch it was written, and the refreshes of later batches
//! count.
//!
//! Invariant: a refresh is logged only if the row that it belongs to was written by this process, or an earlier write of
//! it succeeded, since the database was opened; and each row is written whole again after a few refreshes. So
//! a row that was lost, with the file or to a full disk, comes back by itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use clock::WallTime;
use routing::StoredBinding;
use rusqlite::{Connection, params};

/// After so many refreshes the row itself is written.
const REFRESHES_MAX: u8 = 15;
/// Bytes of one refresh: row, end, hash and CSeq.
const ENTRY_BYTES: usize = 28;

/// What is in the table `location`, as far as this process has written it.
#[derive(Debug, Default)]
pub struct KnownRows {
    rows: HashMap<i64, Known>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Of all that a refresh does not change.
    fingerprint: u32,
    refreshes: u8,
}

/// Refreshes of one batch.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// When the last of them ends, in seconds since 1970.
    expires: i64,
}

/// What the log says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// The batch it stands in.
    pub batch: i64,
    /// The end, in seconds since 1970.
    pub expires: i64,
    /// The CSeq of the REGISTER.
    pub cseq: u32,
    /// The hash of its proof.
    pub response_hash: u64,
}

impl KnownRows {
    /// Whether the row is there and says all that is to be said but for the refresh, so that this can be logged.
    pub fn takes_refresh(&mut self, row: i64, binding: &StoredBinding) -> bool {
        let fingerprint = self.fingerprint(binding);
        match self.rows.get_mut(&row) {
            Some(known) if known.fingerprint == fingerprint && known.refreshes < REFRESHES_MAX => {
                known.refreshes += 1;
                true
            }
            _ => false,
        }
    }

    /// The row is written. Rows that were written together are not written together again.
    pub fn wrote(&mut self, row: i64, binding: &StoredBinding) {
        let fingerprint = self.fingerprint(binding);
        let again = self.rows.contains_key(&row);
        let refreshes = if again { 0 } else { (row & i64::from(REFRESHES_MAX)) as u8 };
        self.rows.insert(row, Known { fingerprint, refreshes });
    }

    /// The row is gone.
    pub fn removed(&mut self, row: i64) {
        self.rows.remove(&row);
    }

    /// Nobody knows what is in the table.
    pub fn forget(&mut self) {
        self.rows.clear();
    }

    fn fingerprint(&self, binding: &StoredBinding) -> u32 {
        let StoredBinding {
            aor: _,
            contact,
            listener,
            received,
            path,
            instance,
            reg_id,
            q,
            call_id,
            cseq: _,
            user_agent,
            nat,
            response_hash: _,
            expires_at: _,
        } = binding;
        let rest = (instance, reg_id, q, call_id, user_agent, nat);
        self.hasher.hash_one((contact, listener, received, path, rest)) as u32
    }
}

impl Batch {
    /// Adds one.
    pub fn push(&mut self, row: i64, expires: i64, cseq: u32, response_hash: u64) {
        self.bytes.extend_from_slice(&row.to_le_bytes());
        self.bytes.extend_from_slice(&expires.to_le_bytes());
        self.bytes.extend_from_slice(&response_hash.to_le_bytes());
        self.bytes.extend_from_slice(&cseq.to_le_bytes());
        self.expires = self.expires.max(expires);
    }

    /// Writes them, if there are any, and takes away what has ended.
    pub fn write(&self, connection: &Connection, batch: i64, now: WallTime) -> rusqlite::Result<()> {
        if !self.bytes.is_empty() {
            connection
                .prepare_cached("INSERT INTO refreshed (batch, expires, bindings) VALUES (?1, ?2, ?3)")?
                .execute(params![batch, self.expires, self.bytes])?;
        }
        connection
            .prepare_cached("DELETE FROM refreshed WHERE expires <= ?1")?
            .execute([now.as_secs().cast_signed()])?;
        Ok(())
    }
}

/// The number of a batch that is about to be written.
pub fn next_batch(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("UPDATE batch SET number = number + 1 RETURNING number")?
        .query_row([], |row| row.get(0))
}

/// The last refresh of each row, and how many rows of the log can not be read.
pub fn read(connection: &Connection) -> rusqlite::Result<(HashMap<i64, Refresh>, usize)> {
    let mut statement = connection.prepare("SELECT batch, bindings FROM refreshed ORDER BY batch")?;
    let mut rows = statement.query([])?;
    let (mut last, mut bad) = (HashMap::new(), 0);
    while let Some(row) = rows.next()? {
        let batch: i64 = row.get(0)?;
        let Some(bytes) = row.get_ref(1)?.as_blob().ok().filter(|it| it.len().is_multiple_of(ENTRY_BYTES))
        else {
            bad += 1;
            continue;
        };
        for entry in bytes.chunks_exact(ENTRY_BYTES) {
            let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().expect("8 bytes"));
            let cseq = u32::from_le_bytes(entry[24..].try_into().expect("4 bytes"));
            let refresh =
                Refresh { batch, expires: number(8).cast_signed(), response_hash: number(16), cseq };
            last.insert(number(0).cast_signed(), refresh);
        }
    }
    Ok((last, bad))
}

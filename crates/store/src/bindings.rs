//! Bindings in the table `location`.

use std::collections::HashMap;

use bytes::Bytes;
use clock::WallTime;
use engine::Change;
use routing::StoredBinding;
use routing::account::BindingKey;
use rusqlite::{Connection, Row, params};
use sha2::{Digest, Sha256};

use crate::refreshes::{self, KnownRows, Refresh};
use crate::row::{self, Octets};

/// A row that is written again leaves most often the size of the row as it is, so that one page is all that is written.
const PUT: &str = "INSERT INTO location (contact_id, username, domain, contact, received, socket, path, expires, q, \
     callid, cseq, user_agent, sip_instance, reg_id, nat, response_hash, last_modified, written) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
     ON CONFLICT (contact_id) DO UPDATE SET username = ?2, domain = ?3, contact = ?4, received = ?5, socket = ?6, \
     path = ?7, expires = ?8, q = ?9, callid = ?10, cseq = ?11, user_agent = ?12, sip_instance = ?13, reg_id = ?14, \
     nat = ?15, response_hash = ?16, last_modified = ?17, written = ?18";
const REMOVE: &str = "DELETE FROM location WHERE contact_id = ?1";
const ALL: &str = "SELECT username, domain, contact, received, socket, path, expires, q, callid, cseq, user_agent, \
     sip_instance, reg_id, nat, response_hash, contact_id, written FROM location \
     ORDER BY username, domain, last_modified, contact_id";

/// Milliseconds of a second: the table has seconds, as operators know it.
const SECOND_MS: u64 = 1_000;

/// What a table held.
#[derive(Debug, PartialEq, Eq)]
pub struct Rows<T> {
    /// The rows that can be read.
    pub good: Vec<T>,
    /// How many can not.
    pub bad: usize,
}

/// What becomes of the changes of one batch.
pub struct Writing<'c> {
    /// The transaction.
    pub connection: &'c Connection,
    /// What is in the table.
    pub known: &'c mut KnownRows,
    /// Changes that need no row.
    pub refreshes: refreshes::Batch,
    /// The number of the batch.
    pub batch: i64,
    /// The calendar.
    pub now: WallTime,
}

impl Writing<'_> {
    /// Writes one change, or keeps it for the log of refreshes.
    pub fn write(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::Put(binding) => {
                let row = contact_id(&BindingKey::of(binding));
                if self.known.takes_refresh(row, binding) {
                    self.refreshes.push(row, end(binding), binding.cseq, binding.response_hash);
                    return Ok(());
                }
                put(self.connection, row, binding, self.batch, self.now)?;
                self.known.wrote(row, binding);
            }
            Change::Remove(key) => {
                let row = contact_id(key);
                self.connection.prepare_cached(REMOVE)?.execute([row])?;
                self.known.removed(row);
            }
        }
        Ok(())
    }
}

/// All bindings that have not ended.
pub fn read(connection: &Connection, now: WallTime) -> rusqlite::Result<Rows<StoredBinding>> {
    let (refreshes, bad) = refreshes::read(connection)?;
    let mut statement = connection.prepare(ALL)?;
    let mut rows = statement.query([])?;
    let mut found = Rows { good: Vec::new(), bad };
    while let Some(row) = rows.next()? {
        match binding(row).and_then(|binding| refreshed(row, binding, &refreshes)) {
            Some(binding) if binding.expires_at.as_secs() > now.as_secs() => found.good.push(binding),
            Some(_) => {}
            None => found.bad += 1,
        }
    }
    Ok(found)
}

/// Takes away what ended while nobody looked.
pub fn remove_ended(connection: &Connection, now: WallTime) -> rusqlite::Result<()> {
    let (refreshes, _) = refreshes::read(connection)?;
    let now = column_number(now.as_secs());
    let mut statement = connection.prepare("SELECT contact_id, written FROM location WHERE expires <= ?1")?;
    let ended: Vec<(i64, i64)> =
        statement.query_map([now], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<rusqlite::Result<_>>()?;
    let goes_on = |id: i64, written: i64| {
        refreshes.get(&id).is_some_and(|refresh| refresh.batch > written && refresh.expires > now)
    };
    for (id, _) in ended.into_iter().filter(|(id, written)| !goes_on(*id, *written)) {
        connection.prepare_cached(REMOVE)?.execute([id])?;
    }
    Ok(())
}

/// The binding of a row as the log left it.
fn refreshed(
    row: &Row<'_>,
    binding: StoredBinding,
    refreshes: &HashMap<i64, Refresh>,
) -> Option<StoredBinding> {
    let (id, written): (i64, i64) = (row.get(15).ok()?, row.get(16).ok()?);
    let Some(refresh) = refreshes.get(&id).filter(|refresh| refresh.batch > written) else {
        return Some(binding);
    };
    let Refresh { expires, cseq, response_hash, .. } = *refresh;
    let expires_at = WallTime::from_millis(u64::try_from(expires).ok()?.checked_mul(SECOND_MS)?);
    Some(StoredBinding { expires_at, cseq, response_hash, ..binding })
}

/// When a binding ends, in the table's seconds.
fn end(binding: &StoredBinding) -> i64 {
    column_number(binding.expires_at.as_millis().div_ceil(SECOND_MS))
}

fn put(
    connection: &Connection,
    row: i64,
    binding: &StoredBinding,
    batch: i64,
    now: WallTime,
) -> rusqlite::Result<()> {
    connection.prepare_cached(PUT)?.execute(params![
        row,
        binding.aor.user(),
        binding.aor.domain(),
        Octets(&binding.contact),
        row::write_received(binding.received),
        row::write_socket(binding.listener),
        (!binding.path.is_empty()).then(|| write_path(&binding.path)).as_deref().map(Octets),
        end(binding),
        binding.q.map(|q| f64::from(q) / 1_000.0),
        Octets(&binding.call_id),
        binding.cseq,
        binding.user_agent.as_deref().map(Octets),
        binding.instance.as_deref().map(Octets),
        binding.reg_id,
        binding.nat,
        binding.response_hash.cast_signed(),
        column_number(now.as_secs()),
        batch,
    ])?;
    Ok(())
}

fn binding(row: &Row<'_>) -> Option<StoredBinding> {
    let text = |column: usize| row.get_ref(column).ok()?.as_str().ok();
    let q = match row.get::<_, Option<f64>>(7).ok()? {
        Some(q) if (0.0..=1.0).contains(&q) => Some((q * 1_000.0).round() as u16),
        Some(_) => return None,
        None => None,
    };
    let reg_id = match row.get::<_, Option<i64>>(12).ok()? {
        Some(number) => Some(u32::try_from(number).ok()?),
        None => None,
    };
    Some(StoredBinding {
        aor: row::aor(row, 0, 1)?,
        contact: row::octets(row, 2)?,
        listener: row::read_socket(text(4)?)?,
        received: row::read_received(text(3)?)?,
        path: row::optional_octets(row, 5)?.map_or_else(Vec::new, |path| read_path(&path)),
        instance: row::optional_octets(row, 11)?,
        reg_id,
        q,
        call_id: row::octets(row, 8)?,
        cseq: row::number(row, 9)?,
        user_agent: row::optional_octets(row, 10)?,
        nat: row.get(13).ok()?,
        response_hash: row.get::<_, i64>(14).ok()?.cast_unsigned(),
        expires_at: WallTime::from_millis(row::number::<u64>(row, 6)?.checked_mul(SECOND_MS)?),
    })
}

/// The row of a binding. An index over its key would cost more than all else. A cryptographic hash, so that
/// nobody can make a contact whose row is another's.
pub fn contact_id(key: &BindingKey) -> i64 {
    let mut digest = Sha256::new();
    let (instance, reg_id) = match &key.flow {
        Some((instance, reg_id)) => (&instance[..], i64::from(*reg_id)),
        None => (&[][..], -1),
    };
    for part in [key.aor.as_str().as_bytes(), &key.contact, instance] {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        digest.update(part);
    }
    digest.update(reg_id.to_le_bytes());
    let first = *digest.finalize().first_chunk().expect("32 bytes have a first 8");
    i64::from_be_bytes(first)
}

/// One value on a line. A line break within a value is a fold, which means no more than a space.
fn write_path(path: &[Bytes]) -> Vec<u8> {
    let mut text = Vec::new();
    for value in path {
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend(value.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    }
    text
}

fn read_path(text: &[u8]) -> Vec<Bytes> {
    text.split(|&byte| byte == b'\n').filter(|value| !value.is_empty()).map(Bytes::copy_from_slice).collect()
}

fn column_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

//! Opening the file, and what its errors mean.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use engine::StoreError;

use crate::schema;

/// How long one connection waits for another's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a page, of a file that is made. Bindings change one here and one there, and each change writes
/// its whole page twice.
const PAGE_BYTES: i64 = 1_024;
/// Pages in the write-ahead log before they are moved to the file.
const LOG_PAGES_MAX: i64 = 16_000;
/// Kilobytes of pages that a connection remembers; a negative number tells SQLite that they are kilobytes.
const CACHE: i64 = -16_000;
/// Bytes that the write-ahead log keeps on disk after a checkpoint.
const LOG_BYTES_MAX: i64 = 64 << 20;

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

/// A connection that only reads.
#[derive(Debug)]
pub enum Reading {
    /// It sees what others write.
    Live(Connection),
    /// The disk can not be written: it sees the file as it was when it was opened.
    Frozen(Connection),
}

impl std::ops::Deref for Reading {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Live(connection) | Self::Frozen(connection) => connection,
        }
    }
}

/// Which file it is, however it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Place {
    /// The database in this file.
    pub fn new(file: &Path) -> Self {
        Self(file.to_owned())
    }

    /// Opens the file for reading and writing, makes it if it is not there, and brings it to the
    /// present version.
    pub fn open(&self) -> Result<Connection, StoreError> {
        let mut connection = self.connect()?;
        schema::migrate(&mut connection, self)?;
        Ok(connection)
    }

    /// Opens the file again, for reading and writing, while the server runs. A file that is not there is not made: it
    /// would hide that all accounts are gone.
    pub fn open_again(&self) -> Result<Connection, StoreError> {
        match self.identity() {
            Some(_) => self.open(),
            None => Err(self.missing()),
        }
    }

    /// Which file stands in the place, if one does.
    pub fn identity(&self) -> Option<Identity> {
        let metadata = std::fs::metadata(&self.0).ok()?;
        Some(Identity { device: metadata.dev(), inode: metadata.ino() })
    }

    /// The error of a file that was removed while the server runs.
    pub fn missing(&self) -> StoreError {
        self.error(
            "the file was removed while the server runs; put it or a backup of it back, or stop the server to begin \
             with an empty one",
        )
    }

    /// Parts with a file that no longer stands in the place. What its write-ahead log holds is moved into it, so that
    /// it is whole when it is put back, and the log is removed: SQLite would take it for that of another file.
    pub fn part_with(&self, connection: Connection) {
        let merged = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        drop(connection);
        for ending in ["-wal", "-shm"] {
            let mut name = self.0.clone().into_os_string();
            name.push(ending);
            if merged.is_ok() {
                // It may be gone as well.
                let _ = std::fs::remove_file(name);
            }
        }
    }

    /// Opens a file that [`Place::open`] has made. Nothing is written.
    pub fn open_to_read(&self) -> Result<Reading, StoreError> {
        match self.connect() {
            Ok(connection) => {
                connection.pragma_update(None, "query_only", true).map_err(|error| self.failed(&error))?;
                Ok(Reading::Live(connection))
            }
            Err(error) => {
                self.open_as_it_is().map_or(Err(error), |connection| Ok(Reading::Frozen(connection)))
            }
        }
    }

    /// Opens a file on a disk that can not be written at all, not even for the locks. A log that is not
    /// merged into the file would be overlooked that way, so there must be none.
    fn open_as_it_is(&self) -> Option<Connection> {
        let mut log = self.0.clone().into_os_string();
        log.push("-wal");
        if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
            return None;
        }
        let mut name = String::from("file:");
        for byte in self.0.as_os_str().as_encoded_bytes() {
            match byte {
                b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                    name.push(char::from(*byte))
                }
                _ => name.push_str(&format!("%{byte:02x}")),
            }
        }
        name.push_str("?immutable=1");
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(name, flags).ok()
    }

    /// Moves what stands in the write-ahead log to the file, so that the file alone is a whole copy.
    pub fn merge_log(&self) {
        let merged = self.connect().and_then(|connection| {
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(|error| self.failed(&error))
        });
        // The log is as good as the file, and is merged at the next start.
        if let Err(error) = merged {
            tracing::debug!(%error, "the write-ahead log was not merged");
        }
    }

    /// Whether the file is a good database that can only be read.
    pub fn is_readable_only(&self) -> bool {
        let has_tables = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM subscriber", [], |_| Ok(())).is_ok()
        };
        match self.open_to_read() {
            Err(_) => false,
            Ok(Reading::Frozen(connection)) => has_tables(&connection),
            Ok(Reading::Live(connection)) => {
                let written = connection.pragma_update(None, "query_only", false).and_then(|()| {
                    connection.execute_batch("BEGIN IMMEDIATE; CREATE TABLE probe (x); ROLLBACK")
                });
                has_tables(&connection) && written.is_err_and(|error| is_unwritable(&error))
            }
        }
    }

    fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0, flags).map_err(|error| self.failed(&error))?;
        self.prepare(&connection).map_err(|error| self.failed(&error))?;
        Ok(connection)
    }

    fn prepare(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        // In this mode readers never wait for a writer. A file that can not be written keeps the mode it has.
        match connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())) {
            Err(error) if !is_unwritable(&error) => return Err(error),
            _ => {}
        }
        // A killed process loses nothing that was committed; a host without power loses the last moment.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
        connection.pragma_update_and_check(None, "wal_autocheckpoint", LOG_PAGES_MAX, |_| Ok(()))?;
        connection.pragma_update(None, "cache_size", CACHE)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)
    }

    /// The error of this database with a reason of ours.
    pub fn error(&self, reason: impl Into<String>) -> StoreError {
        StoreError { place: self.0.display().to_string(), reason: reason.into() }
    }

    /// What SQLite said, and what can be done about it.
    pub fn failed(&self, error: &rusqlite::Error) -> StoreError {
        let mend = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                ": the file is damaged; stop the server, restore a backup of the file, or move it away to begin with \
                 an empty database"
            }
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                ": the file or its directory can not be written; give both to the user that runs the server"
            }
            Some(ErrorCode::DiskFull) => ": the disk is full; make room, and writing goes on by itself",
            Some(ErrorCode::CannotOpen) => {
                ": the file can not be opened; see that its directory is there and writable"
            }
            Some(ErrorCode::SystemIoFailure) => ": the disk failed",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ": another program holds the database"
            }
            _ => "",
        };
        self.error(format!("{error}{mend}"))
    }
}

/// Whether the file can be read but not written.
fn is_unwritable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::ReadOnly | ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::DatabaseBusy
        )
    )
}

/// Whether only one row is at fault, so that others can still be written.
pub fn is_fault_of_row(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
    )
}

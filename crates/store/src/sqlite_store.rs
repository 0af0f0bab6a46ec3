//! The two threads as one store.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use engine::{Change, Loaded, Store, StoreError, StoreState, StoredNonce};
use routing::StoredBinding;
use rusqlite::Connection;
use sip::Aor;

use crate::bindings::{self, Rows};
use crate::database::Place;
use crate::lookups::{Lookups, lookups};
use crate::nonces;
use crate::writer::{Backlog, wall_now};

/// The embedded database of a running server.
#[derive(Debug)]
pub struct SqliteStore {
    place: Place,
    backlog: Arc<Backlog>,
    /// `None` only while it is dropped: then nobody can ask, which ends the reader.
    lookups: Option<Lookups>,
    threads: Vec<JoinHandle<()>>,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and starts the threads. A file that can be read but
    /// not written is taken: its state is failing until it can be written.
    pub fn open(file: &Path) -> Result<Self, StoreError> {
        let place = Place::new(file);
        let connection = match place.open() {
            Ok(connection) => Some(connection),
            Err(error) if place.is_readable_only() => {
                tracing::error!(%error, "the database can not be written; it is tried again");
                None
            }
            Err(error) => return Err(error),
        };
        let backlog = Backlog::new(place.clone());
        let (lookups, reader) = lookups(place.clone(), test_delay());
        let no_thread = |error: io::Error| place.error(format!("no thread for it could be started: {error}"));
        let writer = {
            let backlog = Arc::clone(&backlog);
            std::thread::Builder::new()
                .name("store-write".to_owned())
                .spawn(move || backlog.run(connection))
                .map_err(no_thread)?
        };
        let reader = std::thread::Builder::new()
            .name("store-read".to_owned())
            .spawn(move || reader.run())
            .map_err(no_thread)?;
        Ok(Self { place, backlog, lookups: Some(lookups), threads: vec![writer, reader] })
    }

    fn rows<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Rows<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.place.open_to_read()?;
        let rows = read(&connection).map_err(|error| self.place.failed(&error))?;
        if rows.bad > 0 {
            tracing::warn!(rows = rows.bad, "rows of the database can not be read and are skipped");
        }
        Ok(rows.good)
    }
}

impl Store for SqliteStore {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        match &self.lookups {
            Some(lookups) => lookups.ask(aor, reply),
            None => reply(Loaded::Unavailable),
        }
    }

    fn save(&self, change: Change) {
        self.backlog.add(change);
    }

    fn save_nonces(&self, nonces: Vec<StoredNonce>) {
        self.backlog.add_nonces(nonces);
    }

    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        self.rows(|connection| bindings::read(connection, wall_now()))
    }

    fn nonces(&self) -> Result<Vec<StoredNonce>, StoreError> {
        self.rows(|connection| nonces::read(connection, wall_now()))
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.backlog.flush()?;
        self.place.merge_log();
        Ok(())
    }

    fn state(&self) -> StoreState {
        let writer = self.backlog.writer_state();
        let failing = writer.failing.or_else(|| self.lookups.as_ref().and_then(Lookups::failing));
        StoreState { failing, owed: writer.owed, dropped: writer.dropped, copy: None }
    }
}

/// Ends the threads. What is queued and was not flushed is lost, as if the process were killed.
impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.backlog.stop();
        self.lookups = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// How long each look-up is made to take.
fn test_delay() -> Duration {
    if !cfg!(feature = "test-faults") {
        return Duration::ZERO;
    }
    let milliseconds = std::env::var("TANDEM_TEST_STORE_DELAY_MS").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(milliseconds.unwrap_or(0))
}

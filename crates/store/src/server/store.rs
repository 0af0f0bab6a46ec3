//! A server's accounts and this node's own file as one store.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use engine::{Change, Loaded, Publication, Published, Store, StoreError, StoreState, StoredNonce};
use routing::StoredBinding;
use sip::Aor;

use super::address::ServerSettings;
use super::location::Location;
use super::lookups::{Lookups, lookups};
use crate::sqlite_store::SqliteStore;

/// Accounts of a database server; bindings and nonces in a file of this node, as without a server.
#[derive(Debug)]
pub struct ServerStore {
    local: SqliteStore,
    /// `None`: bindings are not published.
    location: Option<Location>,
    /// `None` only while it is dropped: then nobody can ask, which ends the reader.
    lookups: Option<Lookups>,
    reader: Option<JoinHandle<()>>,
}

impl ServerStore {
    /// Opens the file and starts the threads. A server that is away is waited for: its state is failing until then.
    pub fn open(settings: ServerSettings, file: &Path) -> Result<Self, StoreError> {
        let local = SqliteStore::open(file)?;
        let place = settings.url.to_string();
        let location = settings.location.is_some().then(|| Location::new(settings.clone()));
        let (lookups, reader) = lookups(settings);
        let reader =
            std::thread::Builder::new().name("store-server".to_owned()).spawn(move || reader.run()).map_err(
                |error| StoreError { place, reason: format!("no thread for it could be started: {error}") },
            )?;
        Ok(Self { local, location, lookups: Some(lookups), reader: Some(reader) })
    }
}

impl Store for ServerStore {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        match &self.lookups {
            Some(lookups) => lookups.ask(aor, reply),
            None => reply(Loaded::Unavailable),
        }
    }

    fn save(&self, change: Change) {
        if let Some(location) = &self.location {
            location.note(&change);
        }
        self.local.save(change);
    }

    fn save_nonces(&self, nonces: Vec<StoredNonce>) {
        self.local.save_nonces(nonces);
    }

    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        self.local.bindings()
    }

    fn nonces(&self) -> Result<Vec<StoredNonce>, StoreError> {
        self.local.nonces()
    }

    fn flush(&self) -> Result<(), StoreError> {
        let local = self.local.flush();
        if let Some(location) = &self.location {
            location.flush();
        }
        local
    }

    fn attach(&self, published: Arc<dyn Published>) {
        if let Some(location) = &self.location {
            location.attach(published);
        }
    }

    fn publication(&self) -> Option<Publication> {
        self.location.as_ref().map(Location::publication)
    }

    fn state(&self) -> StoreState {
        let local = self.local.state();
        let failing = self.lookups.as_ref().and_then(Lookups::failing);
        StoreState { failing: failing.or(local.failing), ..local }
    }
}

impl Drop for ServerStore {
    fn drop(&mut self) {
        self.lookups = None;
        if let Some(reader) = self.reader.take() {
            // A thread that panicked has said so.
            let _ = reader.join();
        }
    }
}

//! A server's accounts and this node's own file as one store.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use engine::{
    Change, Elsewhere, Loaded, News, Publication, Published, Store, StoreError, StoreState, StoredNonce,
};
use routing::StoredBinding;
use sip::Aor;

use super::address::ServerSettings;
use super::copies::AccountCopies;
use super::elsewhere::{ElsewhereLookups, elsewhere};
use super::location::Location;
use super::lookups::{Lookups, lookups};
use crate::database::Place;
use crate::sqlite_store::SqliteStore;

/// Accounts of a database server, and copies of those that were used; bindings and nonces in a file of this node, as
/// without a server.
#[derive(Debug)]
pub struct ServerStore {
    local: SqliteStore,
    /// `None`: bindings are not published.
    location: Option<Location>,
    /// `None` only while it is dropped: then nobody can ask, which ends the reader.
    lookups: Option<Lookups>,
    copies: Arc<AccountCopies>,
    reader: Option<JoinHandle<()>>,
    copyist: Option<JoinHandle<()>>,
    /// `None`: no table is shared, or all is dropped.
    elsewhere: Option<ElsewhereLookups>,
    seeker: Option<JoinHandle<()>>,
}

impl ServerStore {
    /// Opens the file and starts the threads. A server that is away is waited for: its state is failing until then.
    pub fn open(settings: ServerSettings, file: &Path) -> Result<Self, StoreError> {
        let local = SqliteStore::open(file)?;
        let place = settings.url.to_string();
        let location = settings.location.is_some().then(|| Location::new(settings.clone()));
        let copies = AccountCopies::new(Place::new(file));
        let is_shared = settings.location.as_ref().is_some_and(|location| location.is_shared);
        let (elsewhere, seeker) = is_shared.then(|| elsewhere(settings.clone())).unzip();
        let (lookups, reader) = lookups(settings, Arc::clone(&copies));
        let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| StoreError {
                place: place.clone(),
                reason: format!("no thread for it could be started: {error}"),
            })
        };
        let reader = thread("store-server", Box::new(move || reader.run()))?;
        let working = Arc::clone(&copies);
        let copyist = thread("store-copies", Box::new(move || working.run()))?;
        let seeker = match seeker {
            Some(seeker) => Some(thread("store-elsewhere", Box::new(move || seeker.run()))?),
            None => None,
        };
        Ok(Self {
            local,
            location,
            lookups: Some(lookups),
            copies,
            reader: Some(reader),
            copyist: Some(copyist),
            elsewhere,
            seeker,
        })
    }
}

impl Store for ServerStore {
    fn load_account(&self, aor: Aor, reply: Box<dyn FnOnce(Loaded) + Send>) {
        match &self.lookups {
            Some(lookups) => lookups.ask(aor, reply),
            None => reply(Loaded::Unavailable),
        }
    }

    fn find_elsewhere(&self, aor: Aor, reply: Box<dyn FnOnce(Elsewhere) + Send>) {
        match &self.elsewhere {
            Some(elsewhere) => elsewhere.ask(aor, reply),
            None => reply(Vec::new()),
        }
    }

    fn watch(&self, news: News) {
        self.copies.watch(news);
    }

    fn save(&self, change: Change) {
        if let Some(location) = &self.location {
            location.note(&change);
        }
        // Also on a node that stands by: it is to know whom it will serve.
        if let Change::Put(binding) = &change {
            self.copies.want(&binding.aor);
        }
        self.local.save(change);
    }

    fn save_nonces(&self, nonces: Vec<StoredNonce>) {
        self.local.save_nonces(nonces);
    }

    fn bindings(&self) -> Result<Vec<StoredBinding>, StoreError> {
        let bindings = self.local.bindings()?;
        bindings.iter().for_each(|binding| self.copies.want(&binding.aor));
        Ok(bindings)
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
        let copy = self.copies.copy_state(failing.is_some());
        StoreState { failing: failing.or(local.failing), copy: Some(copy), ..local }
    }
}

impl Drop for ServerStore {
    fn drop(&mut self) {
        (self.lookups, self.elsewhere) = (None, None);
        // What the reader has learnt is written before the end.
        for thread in [self.reader.take(), self.copyist.take(), self.seeker.take()].into_iter().flatten() {
            // A thread that panicked has said so.
            let _ = thread.join();
            self.copies.stop();
        }
    }
}

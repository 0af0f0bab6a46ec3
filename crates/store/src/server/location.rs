//! Publishing bindings in a table that servers beside this one read: written behind, by the active node alone.
//!
//! Memory is the truth, and each node's own file is what it starts with. What is kept here are the keys of bindings that have
//! changed ([`Owed`]); a thread looks each up and writes it as it is by then, many in one transaction that begins with the
//! epoch row ([`epoch`](super::epoch)). When a node becomes active, when a connection was lost, when another host of
//! the database is met, and when too much was owed to be remembered, the whole table is compared with memory
//! ([`Comparison`]). So whatever dies, nothing that was acknowledged is missing in the end, and nothing that has ended stays.
//!
//! The table is Tandem's own: a row that belongs to no binding is removed. What was there before is imported first, or
//! declined ([`import`], [`decision`]). Or it is shared: then a row is Tandem's whose socket is one of this server's, or whose id only
//! Tandem writes, and all others are left alone.

mod comparison;
pub mod decision;
pub mod found;
pub mod import;
mod owed;
pub mod row;
pub mod shape;
pub mod table;
pub mod writer;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Change, Comparison as Outcome, Publication, PublicationWork, Published, StoreError};
use jiff::tz::TimeZone;
use routing::account::BindingKey;
use tokio::sync::Notify;

use super::address::{LocationSettings, ServerSettings};
use super::session::Session;
use super::tables::Unfit;
use decision::Claim;
use owed::{Noted, Owed};
use shape::Shape;
use table::SqlTable;
use writer::Writer;

/// How long a clean stop waits for the table. What is not written then is found by the next comparison.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// The publication of a server's bindings.
#[derive(Debug)]
pub struct Location {
    settings: Arc<ServerSettings>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and its callers tell each other.
#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    /// There is work, or the end.
    wake: Notify,
    /// A try ended.
    tried: Condvar,
}

#[derive(Debug, Default)]
struct State {
    owed: Owed,
    /// Bindings of the transaction that is under way.
    under_way: usize,
    /// The set was given up: the table is to be compared.
    is_given_up: bool,
    work: PublicationWork,
    failing: Option<(StoreError, Instant)>,
    written: u64,
    removed: u64,
    refused: u64,
    comparisons: u64,
    last: Option<(Outcome, Instant)>,
    is_stopping: bool,
    is_hurried: bool,
}

impl Location {
    /// Nothing is done until there is something to publish.
    pub fn new(settings: ServerSettings) -> Self {
        Self { settings: Arc::new(settings), shared: Arc::default(), thread: Mutex::default() }
    }

    /// Begins to publish.
    pub fn attach(&self, published: Arc<dyn Published>) {
        let (settings, shared) = (Arc::clone(&self.settings), Arc::clone(&self.shared));
        let is_shared = settings.location.as_ref().is_some_and(|location| location.is_shared);
        let writer: Writer<SqlTable> = Writer::new(settings, is_shared, shared, published);
        let thread =
            std::thread::Builder::new().name("store-location".to_owned()).spawn(move || writer.run());
        match thread {
            Ok(thread) => {
                *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
            }
            Err(error) => self.shared.failed(StoreError {
                place: self.settings.url.to_string(),
                reason: format!("no thread for it could be started: {error}"),
            }),
        }
    }

    /// Notes that a binding has changed. Costs no more than that; on a standby nothing.
    pub fn note(&self, change: &Change) {
        self.shared.note(change);
    }

    /// How it stands.
    pub fn publication(&self) -> Publication {
        self.shared.publication()
    }

    /// Waits a little until all that is owed is written. A database that is away is not waited for.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let mut state = self.shared.state();
        state.is_hurried = true;
        self.shared.wake.notify_one();
        while state.work != PublicationWork::None
            && state.failing.is_none()
            && (!state.owed.is_empty() || state.under_way > 0)
        {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.shared.tried.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_hurried = false;
    }
}

impl Drop for Location {
    fn drop(&mut self) {
        self.shared.state().is_stopping = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Notes that a binding has changed.
    pub fn note(&self, change: &Change) {
        let mut state = self.state();
        if state.work == PublicationWork::None {
            return;
        }
        let key = match change {
            Change::Put(binding) => BindingKey::of(binding),
            Change::Remove(key) => key.clone(),
        };
        let was_empty = state.owed.is_empty();
        state.is_given_up |= state.owed.note(key) == Noted::GivenUp;
        drop(state);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// How it stands.
    pub fn publication(&self) -> Publication {
        let state = self.state();
        Publication {
            work: state.work,
            failing: state.failing.as_ref().map(|(error, since)| (error.clone(), since.elapsed())),
            owed: state.owed.len() + state.under_way,
            written: state.written,
            removed: state.removed,
            refused: state.refused,
            comparisons: state.comparisons,
            last: state.last.as_ref().map(|(last, at)| Outcome { ago: at.elapsed(), ..last.clone() }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: StoreError) {
        let mut state = self.state();
        let since = match &state.failing {
            Some((before, since)) => {
                if *before != error {
                    tracing::warn!(%error, "bindings can not be written to the database");
                }
                *since
            }
            None => {
                let owed = state.owed.len();
                tracing::error!(%error, owed, "bindings can not be written to the database; it is tried again");
                Instant::now()
            }
        };
        state.failing = Some((error, since));
        self.tried.notify_all();
    }

    fn succeeded(&self) {
        let mut state = self.state();
        if let Some((_, since)) = state.failing.take() {
            let (owed, away_s) = (state.owed.len(), since.elapsed().as_secs());
            tracing::info!(owed, away_s, "bindings can be written to the database again");
        }
        self.tried.notify_all();
    }
}

/// What keeps bindings from being published in a database; empty if nothing does.
pub async fn obstacles(
    session: &mut Session,
    settings: &LocationSettings,
) -> Result<Vec<String>, StoreError> {
    let zone = match zone(settings) {
        Ok(zone) => zone,
        Err(reason) => return Ok(vec![reason]),
    };
    let shape = match Shape::of(&session.tables, &zone) {
        Ok(shape) => shape,
        Err(unfit) => return Ok(unfit.iter().map(Unfit::to_string).collect()),
    };
    let mut obstacles = Vec::new();
    if session.rows(&shape.unique_query(), &[]).await?.is_empty() {
        obstacles.push(no_index(&shape));
    }
    for (table, rights) in [
        ("location", &["SELECT", "INSERT", "UPDATE", "DELETE"][..]),
        ("tandem_epoch", &["SELECT", "INSERT", "UPDATE"][..]),
    ] {
        let missing = session.missing_rights(table, rights).await?;
        if !missing.is_empty() {
            obstacles.push(format!(
                "this user lacks {} on the table {table}: grant it, as docs/database.md shows",
                missing.join(", ")
            ));
        }
    }
    Ok(obstacles)
}

/// How many rows others wrote in a table that is to be Tandem's, if nobody has decided about them.
pub async fn rows_before(session: &mut Session, settings: &LocationSettings) -> Result<u64, StoreError> {
    let Ok(zone) = zone(settings) else { return Ok(0) };
    let Ok(shape) = Shape::of(&session.tables, &zone) else { return Ok(0) };
    if settings.is_shared || decision::is_decided(session, &Claim::Whole).await? {
        Ok(0)
    } else {
        decision::rows_of_others(session, &shape, &Claim::Whole).await
    }
}

fn no_index(shape: &Shape) -> String {
    format!(
        "the table location has no unique index over {0} alone: make one, as the schema files of its version do",
        shape.id_column()
    )
}

pub fn zone(settings: &LocationSettings) -> Result<TimeZone, String> {
    let Some(name) = &settings.time_zone else {
        return Ok(TimeZone::try_system().unwrap_or(TimeZone::UTC));
    };
    TimeZone::get(name).map_err(|_| {
        format!("database.time_zone: this host knows no time zone `{name}`: write one as Europe/Berlin, or install tzdata")
    })
}

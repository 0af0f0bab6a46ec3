//! The thread that writes behind.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clock::WallTime;
use engine::{Change, StoreError, StoredNonce};
use rusqlite::{Connection, TransactionBehavior};

use crate::bindings::Writing;
use crate::database::{Identity, Place, is_fault_of_row};
use crate::queue::{Batch, Queue};
use crate::refreshes::{self, KnownRows};
use crate::{bindings, nonces};

/// How long changes are gathered before they are written. A process that is killed loses this, the time
/// of one transaction, and no more: together well below 100 ms.
const GATHER: Duration = Duration::from_millis(20);
/// Changes of one transaction: it takes about 10 ms.
const BATCH_MAX: usize = 2_000;
/// How soon a write that failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The interval of tries while nothing helps.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often ended nonces are taken away.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// How long a clean stop waits for the disk.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// The queue and what its two sides tell each other.
#[derive(Debug)]
pub struct Backlog {
    place: Place,
    state: Mutex<State>,
    /// There is work, or a reason to do it at once.
    wake: Condvar,
    /// A try ended.
    tried: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// Changes and nonces of the transaction that is under way.
    under_way: usize,
    failing: Option<StoreError>,
    /// Counts tries that began.
    tries: u64,
    /// Which of them failed last.
    last_failed: u64,
    /// How many callers wait for an empty queue.
    hurried: usize,
    is_stopping: bool,
}

/// Which ended rows are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tidy {
    Nothing,
    Nonces,
    /// Bindings that end are taken away as they do: only at the start are there some that ended unseen.
    All,
}

/// What state the writing is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterState {
    /// What is wrong.
    pub failing: Option<StoreError>,
    /// Changes that are not written.
    pub owed: usize,
    /// Changes that will never be.
    pub dropped: u64,
}

impl Backlog {
    /// An empty queue for a database.
    pub fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, state: Mutex::default(), wake: Condvar::new(), tried: Condvar::new() })
    }

    /// Queues a change.
    pub fn add(&self, change: Change) {
        let mut state = self.state();
        let was_empty = state.queue.is_empty();
        state.queue.add(change);
        let is_full_batch = state.queue.len() == BATCH_MAX;
        drop(state);
        // To wake the writer costs the caller more than the change does, and while it gathers it needs no waking.
        if was_empty || is_full_batch {
            self.wake.notify_one();
        }
    }

    /// Queues the counts of nonces.
    pub fn add_nonces(&self, nonces: Vec<StoredNonce>) {
        let mut state = self.state();
        for nonce in nonces {
            state.queue.add_nonce(nonce);
        }
        self.wake.notify_one();
    }

    /// How the writing goes.
    pub fn writer_state(&self) -> WriterState {
        let state = self.state();
        WriterState {
            failing: state.failing.clone(),
            owed: state.queue.len() + state.under_way,
            dropped: state.queue.dropped(),
        }
    }

    /// Waits until everything that is queued is written, or a try that began after this call fails. One that was under
    /// way may have met what is mended since.
    pub fn flush(&self) -> Result<(), StoreError> {
        let deadline = Instant::now() + FLUSH_MAX;
        let mut state = self.state();
        let before = state.tries;
        state.hurried += 1;
        self.wake.notify_one();
        let result = loop {
            if state.queue.is_empty() && state.under_way == 0 {
                break Ok(());
            }
            if state.last_failed > before {
                break Err(state
                    .failing
                    .clone()
                    .unwrap_or_else(|| self.place.error("it could not be written")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(self.place.error("the disk was too slow to write everything before the stop"));
            }
            state = self.tried.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        state.hurried -= 1;
        result
    }

    /// Ends the thread. What is queued stays unwritten.
    pub fn stop(&self) {
        self.state().is_stopping = true;
        self.wake.notify_one();
    }

    /// The thread's work: returns when it is stopped. `connection` is absent if the file could not be
    /// opened to write; it is then tried again.
    pub fn run(&self, connection: Option<Connection>) {
        let identity = self.place.identity();
        let mut connection = connection.zip(identity);
        let mut retry = RETRY_MIN;
        let mut tidied: Option<Instant> = None;
        let mut known = KnownRows::default();
        while let Some(batch) = self.next_batch() {
            let tidy = match tidied {
                None => Tidy::All,
                Some(tidied) if tidied.elapsed() >= TIDY_INTERVAL => Tidy::Nonces,
                Some(_) => Tidy::Nothing,
            };
            match self.write(&mut connection, &mut known, &batch, tidy) {
                Ok(refused) => {
                    retry = RETRY_MIN;
                    if tidy != Tidy::Nothing {
                        tidied = Some(Instant::now());
                    }
                    self.succeeded(refused);
                }
                Err(error) => {
                    connection = None;
                    known.forget();
                    self.failed(batch, error);
                    self.pause(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Waits for work and gathers some; `None` at the stop.
    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.state();
        while state.queue.is_empty() && !state.is_stopping {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let gathered = Instant::now() + GATHER;
        while !state.is_stopping && state.hurried == 0 && state.queue.len() < BATCH_MAX {
            let left = gathered.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_stopping {
            return None;
        }
        let batch = state.queue.take(BATCH_MAX);
        state.tries += 1;
        state.under_way = batch.changes.len() + batch.nonces.len();
        Some(batch)
    }

    /// Writes a batch in one transaction; returns how many rows were refused for good.
    fn write(
        &self,
        opened: &mut Option<(Connection, Identity)>,
        known: &mut KnownRows,
        batch: &Batch,
        tidy: Tidy,
    ) -> Result<u64, StoreError> {
        let identity = self.place.identity();
        // What is written to a file that was removed is lost without a word.
        if let Some((gone, _)) = opened.take_if(|(_, opened)| Some(*opened) != identity) {
            self.place.part_with(gone);
        }
        let connection = match opened {
            Some((connection, _)) => connection,
            None => {
                known.forget();
                let connection = self.place.open_again()?;
                let identity = self.place.identity().ok_or_else(|| self.place.missing())?;
                &mut opened.insert((connection, identity)).0
            }
        };
        write_batch(connection, known, batch, tidy).map_err(|error| self.place.failed(&error))
    }

    fn succeeded(&self, refused: u64) {
        let mut state = self.state();
        state.under_way = 0;
        state.queue.count_refused(refused);
        if state.failing.take().is_some() {
            tracing::info!(owed = state.queue.len(), "the database can be written again");
        }
        self.tried.notify_all();
    }

    fn failed(&self, batch: Batch, error: StoreError) {
        let mut state = self.state();
        state.queue.put_back(batch);
        state.under_way = 0;
        state.last_failed = state.tries;
        if state.failing.as_ref() != Some(&error) {
            tracing::error!(%error, owed = state.queue.len(), "the database can not be written; it is tried again");
        }
        state.failing = Some(error);
        self.tried.notify_all();
    }

    /// Lets time pass, unless somebody is in a hurry.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut state = self.state();
        while !state.is_stopping && state.hurried == 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_batch(
    connection: &mut Connection,
    known: &mut KnownRows,
    batch: &Batch,
    tidy: Tidy,
) -> rusqlite::Result<u64> {
    let now = wall_now();
    let mut refused = 0;
    let mut check = |written: rusqlite::Result<()>| match written {
        Err(error) if is_fault_of_row(&error) => {
            tracing::warn!(%error, "a row was refused by the database");
            refused += 1;
            Ok(())
        }
        other => other,
    };
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !batch.changes.is_empty() {
        let number = refreshes::next_batch(&transaction)?;
        let refreshes = refreshes::Batch::default();
        let mut writing = Writing { connection: &transaction, known, refreshes, batch: number, now };
        for (_, change) in &batch.changes {
            check(writing.write(change))?;
        }
        writing.refreshes.write(&transaction, number, now)?;
    }
    for nonce in &batch.nonces {
        check(nonces::write(&transaction, nonce))?;
    }
    if tidy == Tidy::All {
        bindings::remove_ended(&transaction, now)?;
    }
    if tidy != Tidy::Nothing {
        nonces::remove_ended(&transaction, now)?;
    }
    transaction.commit()?;
    Ok(refused)
}

/// The calendar, for what is compared with it in the tables.
pub fn wall_now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

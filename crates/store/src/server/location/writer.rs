//! The thread that writes bindings to the table.

use std::sync::Arc;
use std::time::Duration;

use engine::{PublicationWork, Published, StoreError};
use lease::Epoch;
use routing::account::BindingKey;
// Tests let an hour pass in a moment.
use tokio::time::{Instant, timeout};

use super::Shared;
use super::comparison::{Comparison, Stage};
use super::decision::Claim;
use super::row::{NoPlace, OwnRow, id_of, own_row};
use super::table::Table;
use crate::server::session::Fault;
use crate::writer::wall_now;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How soon a node notices that it became active, or stands by.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bindings of one transaction.
const BATCH_MAX: usize = 512;
/// Pages of bindings that are read before the thread sleeps for a moment: SIP comes first, most of all after a takeover.
const PAGES_AT_ONCE: usize = 4;
const BREATH: Duration = Duration::from_millis(2);
/// How soon a write that failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The interval of tries while nothing helps.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Threads that resolve names of hosts: the system's resolver can not be given up.
const RESOLVING_MAX: usize = 2;

/// The thread's side.
pub struct Writer<T: Table> {
    server: Arc<T::Server>,
    /// Whether servers beside this one write the table too.
    is_shared: bool,
    shared: Arc<Shared>,
    published: Arc<dyn Published>,
    /// Under which epoch it writes.
    epoch: Option<Epoch>,
    open: Option<T>,
    /// The host that was written last.
    place: Option<String>,
    comparison: Option<Comparison>,
    is_comparison_wanted: bool,
    /// So many bindings are to be written one by one, to find the one that the table can not take.
    one_by_one: usize,
    retry: Duration,
}

impl<T: Table> Writer<T> {
    /// One that has done nothing yet.
    pub fn new(
        server: Arc<T::Server>,
        is_shared: bool,
        shared: Arc<Shared>,
        published: Arc<dyn Published>,
    ) -> Self {
        Self {
            server,
            is_shared,
            shared,
            published,
            epoch: None,
            open: None,
            place: None,
            comparison: None,
            is_comparison_wanted: false,
            one_by_one: 0,
            retry: RETRY_MIN,
        }
    }

    /// The thread's work: returns when it is stopped.
    pub fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVING_MAX)
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.work());
                // A name that is being resolved would hold up the end.
                runtime.shutdown_background();
            }
            Err(error) => self.shared.failed(StoreError {
                place: T::name(&self.server),
                reason: format!("no runtime for its connection: {error}"),
            }),
        }
    }

    /// The same, on the runtime of who calls it.
    pub async fn work(&mut self) {
        while !self.shared.state().is_stopping {
            let Some(epoch) = self.published.epoch() else {
                self.stand_by();
                self.wait(LOOK_EVERY).await;
                continue;
            };
            if self.epoch != Some(epoch) {
                self.become_active(epoch);
            }
            if std::mem::take(&mut self.shared.state().is_given_up) {
                self.compare_again();
            }
            if !self.has_work() {
                self.wait(LOOK_EVERY).await;
                continue;
            }
            self.gather().await;
            match self.step(epoch).await {
                Ok(()) => {
                    self.retry = RETRY_MIN;
                    self.shared.succeeded();
                }
                Err(error) => self.fail(error).await,
            }
        }
    }

    fn stand_by(&mut self) {
        if self.epoch.take().is_none() {
            return;
        }
        (self.open, self.comparison, self.is_comparison_wanted) = (None, None, false);
        let mut state = self.shared.state();
        state.work = PublicationWork::None;
        state.owed.clear();
        state.failing = None;
        drop(state);
        self.shared.tried.notify_all();
    }

    fn become_active(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
        let mut state = self.shared.state();
        // From here on changes are noted, and what changed before is found by the comparison.
        state.work = PublicationWork::Comparing;
        drop(state);
        self.compare_again();
    }

    fn compare_again(&mut self) {
        (self.comparison, self.is_comparison_wanted) = (None, true);
        self.shared.state().work = PublicationWork::Comparing;
    }

    fn has_work(&self) -> bool {
        self.is_comparison_wanted || self.comparison.is_some() || !self.shared.state().owed.is_empty()
    }

    /// Waits for work, for so long at most.
    async fn wait(&self, time: Duration) {
        // That nothing has come is no error.
        let _ = timeout(time, self.shared.wake.notified()).await;
    }

    async fn gather(&self) {
        let until = Instant::now() + GATHER;
        while self.comparison.is_none() && !self.is_comparison_wanted {
            let is_enough = {
                let state = self.shared.state();
                state.owed.len() >= BATCH_MAX || state.is_hurried || state.is_stopping
            };
            let left = until.saturating_duration_since(Instant::now());
            if is_enough || left.is_zero() {
                return;
            }
            self.wait(left).await;
        }
    }

    /// Writes what is owed, and does a part of the comparison.
    async fn step(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        if self.open.is_none() {
            self.open(epoch).await?;
        }
        if !self.shared.state().owed.is_empty() {
            self.write_owed(epoch).await?;
        }
        if self.is_comparison_wanted {
            // Before the table is read: whoever was active before may write nothing behind that.
            if let Some(table) = &mut self.open {
                table.enter(epoch).await?;
            }
            self.is_comparison_wanted = false;
            self.comparison = Some(Comparison::begin());
        }
        self.compare(epoch).await
    }

    async fn open(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let table = T::open(&self.server, &self.claim(), epoch).await?;
        if self.place.replace(table.place().to_owned()).is_some_and(|before| before != table.place()) {
            self.compare_again();
        }
        self.open = Some(table);
        Ok(())
    }

    async fn write_owed(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let max = if self.one_by_one > 0 { 1 } else { BATCH_MAX };
        let keys = {
            let mut state = self.shared.state();
            let keys = state.owed.take(max);
            state.under_way = keys.len();
            keys
        };
        let written = self.write(epoch, &keys).await;
        let mut state = self.shared.state();
        state.under_way = 0;
        match written {
            Ok(Batch { rows, gone, refused }) => {
                state.written += rows;
                state.removed += gone;
                state.refused += refused;
                self.one_by_one = self.one_by_one.saturating_sub(1);
                Ok(())
            }
            Err(error) => {
                let fault = self.open.as_ref().map_or(Fault::Server, Table::fault);
                if fault == Fault::Row && keys.len() == 1 {
                    state.refused += 1;
                    drop(state);
                    tracing::warn!(%error, "a binding was refused by the database");
                    self.one_by_one = self.one_by_one.saturating_sub(1);
                    self.open = None;
                    return Ok(());
                }
                if fault == Fault::Row {
                    self.one_by_one = keys.len();
                }
                state.owed.put_back(keys);
                drop(state);
                if fault == Fault::Server {
                    return Err(error);
                }
                tracing::debug!(%error, "a transaction is tried again");
                self.open = None;
                Ok(())
            }
        }
    }

    /// One transaction: bindings that are there are written, others removed.
    async fn write(&mut self, epoch: Epoch, keys: &[BindingKey]) -> Result<Batch, StoreError> {
        let Some(table) = &mut self.open else { return Ok(Batch::default()) };
        let shape = &*table.shape();
        let (mut rows, mut gone, mut refused) = (Vec::new(), Vec::new(), 0);
        for (key, found) in keys.iter().zip(self.published.with_keys(keys)) {
            let Some((place, published)) = found else {
                gone.push(id_of(shape, key));
                continue;
            };
            match own_row(shape, &published, wall_now()) {
                Ok(row) => rows.push((row, place)),
                Err(NoPlace(field)) => {
                    tracing::warn!(?field, "the table location has no place for a binding; it is left out");
                    refused += 1;
                    // What it said before is true no longer.
                    gone.push(id_of(shape, key));
                }
            }
        }
        // Two in one statement are refused.
        rows.sort_by_key(|(row, _)| row.id);
        rows.dedup_by_key(|(row, _)| row.id);
        let written: Vec<&OwnRow> = rows.iter().map(|(row, _)| row).collect();
        table.change(epoch, &gone, &written).await?;
        if let Some(comparison) = &mut self.comparison {
            for (row, place) in &rows {
                comparison.wrote(shape, row, *place);
            }
            for id in &gone {
                comparison.removed(*id);
            }
        }
        Ok(Batch { rows: rows.len() as u64, gone: gone.len() as u64, refused })
    }

    fn claim(&self) -> Claim {
        if self.is_shared { Claim::Sockets(self.published.listeners()) } else { Claim::Whole }
    }

    async fn compare(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let claim = self.claim();
        let (Some(comparison), Some(table)) = (&mut self.comparison, &mut self.open) else { return Ok(()) };
        let shape = &*table.shape();
        match comparison.stage() {
            Stage::Bindings(_) => {
                for _ in 0..PAGES_AT_ONCE {
                    comparison.read_bindings(shape, &*self.published, wall_now());
                }
                tokio::time::sleep(BREATH).await;
            }
            Stage::Table(behind) => {
                let page = table.page(behind).await?;
                let strangers = comparison.take_page(shape, &page, |row| claim.has(shape, row));
                if strangers.is_empty() {
                    return Ok(());
                }
                table.remove(epoch, &strangers).await?;
                self.shared.state().removed += strangers.len() as u64;
            }
            Stage::Rest => {
                if self.shared.state().owed.len() >= BATCH_MAX {
                    return Ok(());
                }
                let rest = comparison.take_rest(&*self.published, BATCH_MAX);
                let mut state = self.shared.state();
                if rest.is_empty() {
                    state.work = PublicationWork::Writing;
                    state.comparisons += 1;
                    let outcome = comparison.outcome();
                    tracing::info!(
                        rows = outcome.rows,
                        differing = outcome.differing,
                        strange = outcome.strange,
                        milliseconds = outcome.took.as_millis(),
                        "the table location says what is registered"
                    );
                    state.last = Some((outcome, Instant::now().into_std()));
                    drop(state);
                    self.comparison = None;
                    return Ok(());
                }
                for key in rest {
                    state.is_given_up |= state.owed.note(key) == super::Noted::GivenUp;
                }
            }
        }
        Ok(())
    }

    async fn fail(&mut self, error: StoreError) {
        // Nobody knows what a server has lost that was away.
        self.open = None;
        self.compare_again();
        self.shared.failed(error);
        let until = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(RETRY_MAX);
        while self.published.epoch() == self.epoch && !self.shared.state().is_stopping {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_EVERY)).await;
        }
    }
}

#[derive(Default)]
struct Batch {
    rows: u64,
    gone: u64,
    refused: u64,
}

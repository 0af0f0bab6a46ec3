//! The thread that writes bindings to the table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{PublicationWork, Published, StoreError};
use lease::Epoch;
use routing::account::BindingKey;
use tokio::time::timeout;

use super::comparison::{Comparison, Stage};
use super::decision::{self, Claim, must_be_decided, read_page};
use super::row::{NoPlace, id_of, own_row};
use super::shape::{RowId, Shape};
use super::{Shared, no_index, zone};
use crate::server::address::{LocationSettings, ServerSettings};
use crate::server::epoch::{self, Standing};
use crate::server::link::Value;
use crate::server::session::{Access, Fault, Session};
use crate::server::tables::Unfit;
use crate::writer::wall_now;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How soon a node notices that it became active, or stands by.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bindings of one transaction.
const BATCH_MAX: usize = 512;
/// Rows of one statement, so that a server has few to prepare.
const ROWS: [usize; 4] = [128, 32, 8, 1];
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
pub struct Writer {
    settings: Arc<ServerSettings>,
    shared: Arc<Shared>,
    published: Arc<dyn Published>,
    /// Under which epoch it writes.
    epoch: Option<Epoch>,
    open: Option<Open>,
    /// The host that was written last.
    place: Option<String>,
    comparison: Option<Comparison>,
    is_comparison_wanted: bool,
    /// So many bindings are to be written one by one, to find the one that the table can not take.
    one_by_one: usize,
    retry: Duration,
}

/// A connection with what is known of the table.
struct Open {
    session: Session,
    shape: Shape,
}

impl Writer {
    /// One that has done nothing yet.
    pub fn new(settings: Arc<ServerSettings>, shared: Arc<Shared>, published: Arc<dyn Published>) -> Self {
        Self {
            settings,
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
                place: self.settings.url.to_string(),
                reason: format!("no runtime for its connection: {error}"),
            }),
        }
    }

    async fn work(&mut self) {
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
            if let Some(Open { session, .. }) = &mut self.open {
                session.begin().await?;
                enter(session, epoch).await?;
                session.commit().await?;
            }
            self.is_comparison_wanted = false;
            self.comparison = Some(Comparison::begin());
        }
        self.compare(epoch).await
    }

    async fn open(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let mut session = Session::open(&self.settings).await?;
        let refused = |reason: String| StoreError { place: session.place.clone(), reason };
        if session.access == Access::ReadOnly {
            return Err(refused(
                "it can only be read: name the primary in database.url, beside the others".to_owned(),
            ));
        }
        let without = LocationSettings { time_zone: None, is_shared: false };
        let settings = self.settings.location.as_ref().unwrap_or(&without);
        let zone = zone(settings).map_err(refused)?;
        let shape = Shape::of(&session.tables, &zone).map_err(|unfit| refused(Unfit::text(&unfit)))?;
        if session.rows(&shape.unique_query(), &[]).await?.is_empty() {
            return Err(StoreError { place: session.place.clone(), reason: no_index(&shape) });
        }
        let claim = self.claim();
        must_be_decided(&mut session, &shape, &claim).await?;
        // Before anything is written: by its rows alone nobody can tell that a table is not another server's.
        decision::decide(&mut session, &claim, epoch).await?;
        if self.place.replace(session.place.clone()).is_some_and(|before| before != session.place) {
            self.compare_again();
        }
        self.open = Some(Open { session, shape });
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
                let fault = self.open.as_ref().map_or(Fault::Server, |open| open.session.fault);
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
        let Some(Open { session, shape }) = &mut self.open else { return Ok(Batch::default()) };
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
        session.begin().await?;
        enter(session, epoch).await?;
        remove(session, shape, &gone).await?;
        for part in parts(&rows) {
            let values: Vec<Value<'_>> =
                part.iter().flat_map(|(row, _)| row.values.iter().map(|text| text.value())).collect();
            session.run(&shape.writing(part.len()), &values).await?;
        }
        session.commit().await?;
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
        match &self.settings.location {
            Some(location) if location.is_shared => Claim::Sockets(self.published.listeners()),
            _ => Claim::Whole,
        }
    }

    async fn compare(&mut self, epoch: Epoch) -> Result<(), StoreError> {
        let claim = self.claim();
        let (Some(comparison), Some(Open { session, shape })) = (&mut self.comparison, &mut self.open) else {
            return Ok(());
        };
        match comparison.stage() {
            Stage::Bindings(_) => {
                for _ in 0..PAGES_AT_ONCE {
                    comparison.read_bindings(shape, &*self.published, wall_now());
                }
                tokio::time::sleep(BREATH).await;
            }
            Stage::Table(behind) => {
                let page = read_page(session, shape, behind).await?;
                let strangers = comparison.take_page(shape, &page, |row| claim.has(shape, row));
                if strangers.is_empty() {
                    return Ok(());
                }
                session.begin().await?;
                enter(session, epoch).await?;
                for part in parts(&strangers) {
                    let values: Vec<Value<'_>> =
                        part.iter().map(|number| Value::Number(Some(*number))).collect();
                    session.run(&shape.removal(shape.page_column(), part.len()), &values).await?;
                }
                session.commit().await?;
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
                    state.last = Some((outcome, Instant::now()));
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

async fn enter(session: &mut Session, epoch: Epoch) -> Result<(), StoreError> {
    let standing = epoch::enter(session, epoch::Writer::Location, epoch).await.inspect_err(|_| {
        // No binding is to blame for this row.
        if session.fault == Fault::Row {
            session.fault = Fault::Other;
        }
    });
    match standing? {
        Standing::Ours => Ok(()),
        Standing::Overtaken(highest) => Err(epoch::overtaken(session, highest, epoch)),
    }
}

async fn remove(session: &mut Session, shape: &Shape, ids: &[RowId]) -> Result<(), StoreError> {
    let ids: Vec<_> = ids.iter().map(|id| id.text()).collect();
    for part in parts(&ids) {
        let values: Vec<Value<'_>> = part.iter().map(|text| text.value()).collect();
        session.run(&shape.removal(shape.id_column(), part.len()), &values).await?;
    }
    Ok(())
}

/// In parts of few lengths.
fn parts<T>(mut all: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = ROWS.into_iter().find(|length| *length <= all.len())?;
        let (part, rest) = all.split_at(length);
        all = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_written_in_parts_of_few_lengths() {
        for count in [0, 1, 7, 8, 200, 513] {
            let all: Vec<usize> = (0..count).collect();

            assert_eq!(parts(&all).flatten().copied().collect::<Vec<_>>(), all);
            assert!(parts(&all).all(|part| ROWS.contains(&part.len())));
        }
    }
}

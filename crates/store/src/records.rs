//! Records of calls, as lines of JSON in files.
//!
//! A thread of its own takes records from a bounded queue and appends them, as many at a time as there are. A disk that is
//! full or gone stops nobody: the queue keeps what it has room for, the state says what is wrong, and writing is tried again
//! until it succeeds. What finds no room is lost and counted.
//!
//! A record is in a file, though perhaps not on the disk, as soon as the thread has been scheduled: a process that is killed
//! loses those of its last milliseconds. What a loss of power takes, the [`Sync`] says.

mod aside;
mod bounds;
mod calendar;
mod held;
mod journal;
mod line;
mod owed;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{CallMedia, EndedMedia, Peer, RecordNews, Records, StoreError};
use lease::Epoch;
use routing::CallRecord;

pub use self::aside::Aside;
pub use self::bounds::Bounds;
pub use self::calendar::{sql_time, utc};
pub use self::held::Held;
pub use self::line::{Line, LineMedia};
pub use self::owed::{Entry, Owed, Place, Said};

use self::journal::Journal;
use crate::server::records::writer::{CallDatabase, CallDatabaseState, CallWriter};
use crate::writer::wall_now;

/// Records that wait. With a kilobyte each they take 100 MB, and are those of 1,000 seconds at 100 calls each second.
const WAITING_MAX: usize = 100_000;
/// How long a record waits for the figures of its media, and so those behind it: they are a matter of milliseconds.
const MEDIA_WAIT_MAX: Duration = Duration::from_secs(1);
/// Records that are written at a time.
const BATCH_MAX: usize = 1_000;
/// About the bytes of a line.
const LINE_BYTES: usize = 1_024;
/// How soon a write that failed is tried again.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The interval of tries while nothing helps.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often what was written is forced to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long a clean stop waits for the disk.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Where records are written, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// In this directory.
    pub directory: PathBuf,
    /// A file of so many bytes is followed by another one, and so is that of a day.
    pub file_bytes_max: u64,
    /// So many files stay.
    pub files_max: usize,
    /// What a loss of power may take.
    pub sync: Sync,
    /// The name of this node.
    pub node: String,
    /// Where they are written besides; `None`: nowhere.
    pub database: Option<CallDatabase>,
}

/// When what was written is forced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before anything else is written.
    Always,
    /// Each second.
    #[default]
    Second,
    /// When the kernel likes.
    Never,
}

/// How the writing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordState {
    /// What is wrong, if it fails.
    pub failing: Option<StoreError>,
    /// Records that were written since the start.
    pub written: u64,
    /// Records that are not yet written.
    pub waiting: usize,
    /// Records that found no room and will never be written.
    pub lost: u64,
    /// How the writing to the database goes; `None`: nothing is written there.
    pub database: Option<CallDatabaseState>,
}

/// Writes records until it is dropped.
#[derive(Debug)]
pub struct RecordFiles {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    database: Option<CallWriter>,
}

#[derive(Debug)]
struct Shared {
    settings: RecordSettings,
    bounds: Arc<Bounds>,
    /// What the other node of a pair owes too.
    held: Arc<Held>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Of those whose media are awaited: what was told meanwhile.
    media: HashMap<u128, Option<Option<CallMedia>>>,
    /// Those that are being written.
    under_way: usize,
    written: u64,
    lost: u64,
    failing: Option<StoreError>,
    /// When the end is not waited for any more.
    stops: Option<Instant>,
}

impl RecordFiles {
    /// Makes the directory if it is not there, and starts the threads.
    pub fn start(settings: RecordSettings) -> Result<Self, StoreError> {
        let directory = settings.directory.clone();
        let wrong = |reason: std::io::Error| StoreError {
            place: directory.display().to_string(),
            reason: reason.to_string(),
        };
        std::fs::create_dir_all(&settings.directory).map_err(&wrong)?;
        let database = settings.database.clone();
        let bounds = Arc::new(match database {
            Some(_) => Bounds::with_reader(),
            None => Bounds::without_reader(),
        });
        let held = Arc::new(Held::default());
        let start =
            |database| CallWriter::start(database, directory.clone(), Arc::clone(&bounds), Arc::clone(&held));
        let database = database.map(start).transpose().map_err(&wrong)?;
        let shared =
            Arc::new(Shared { settings, bounds, held, queue: Mutex::default(), wake: Condvar::new() });
        let writer = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store-records".to_owned())
            .spawn(move || writer.run())
            .map_err(&wrong)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), database })
    }

    /// How the writing goes.
    pub fn state(&self) -> RecordState {
        let queue = self.shared.queue();
        RecordState {
            failing: queue.failing.clone(),
            written: queue.written,
            waiting: queue.waiting.len() + queue.under_way,
            lost: queue.lost,
            database: self
                .database
                .as_ref()
                .map(|database| CallDatabaseState { alone: self.shared.held.beyond(), ..database.state() }),
        }
    }

    /// Writes what waits and ends the threads. Blocks, for some thirteen seconds at most.
    ///
    /// # Errors
    ///
    /// The files could not take all of it. What the database could not take is in the files, and no error.
    pub fn stop(&self) -> Result<(), StoreError> {
        let written = self.stop_files();
        if let Some(database) = &self.database {
            database.stop();
        }
        written
    }

    fn stop_files(&self) -> Result<(), StoreError> {
        self.shared.queue().stops = Some(Instant::now() + STOP_MAX);
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            return Err(self.shared.wrong("the thread that writes has failed".to_owned()));
        }
        let queue = self.shared.queue();
        match (queue.waiting.len(), &queue.failing) {
            (0, _) => Ok(()),
            (_, Some(failing)) => Err(failing.clone()),
            (_, None) => Err(self.shared.wrong("the disk was too slow to write everything".to_owned())),
        }
    }
}

impl Drop for RecordFiles {
    fn drop(&mut self) {
        // Who wants to know of a failure has stopped it before.
        let _ = self.stop();
    }
}

impl Records for RecordFiles {
    fn write(&self, epoch: Epoch, news: RecordNews) {
        let mut queue = self.shared.queue();
        let is_wanted = match news {
            RecordNews::Ended(..) if queue.waiting.len() >= WAITING_MAX => {
                queue.lost += 1;
                false
            }
            RecordNews::Ended(record, media) => {
                let (media, until) = match media {
                    EndedMedia::Told(media) => (media, None),
                    EndedMedia::Awaited => {
                        queue.media.insert(record.id, None);
                        (None, Some(Instant::now() + MEDIA_WAIT_MAX))
                    }
                };
                self.shared.owe(epoch, &record, media.as_ref());
                let ended = Ended::Here { epoch, record, media, is_changed: false };
                queue.waiting.push_back(Waiting { ended, until });
                queue.waiting.len() == 1 && queue.under_way == 0
            }
            // The record may have been written without it.
            RecordNews::Media(id, media) => queue.media.get_mut(&id).is_some_and(|told| {
                *told = Some(media);
                true
            }),
        };
        drop(queue);
        if is_wanted {
            self.shared.wake.notify_all();
        }
    }

    fn attach(&self, peer: Arc<dyn Peer>) {
        if self.shared.settings.database.is_some() {
            self.shared.held.attach(peer);
            self.shared.bounds.wake();
        }
    }

    fn hold(&self, id: u128, line: Bytes) -> bool {
        self.shared.held.hold(id, line)
    }

    fn let_go(&self, number: u64) {
        self.shared.held.let_go(number);
    }

    fn fetch(&self, number: u64) -> Option<(u128, Bytes)> {
        self.shared.held.fetch(number)
    }

    fn became_active(&self) {
        let lines = self.shared.held.became_active();
        if lines.is_empty() || self.shared.settings.database.is_none() {
            return;
        }
        tracing::info!(
            records = lines.len(),
            "records that the other node owed to the database are owed here now"
        );
        // They are in memory already, and bounded there.
        let waiting = lines.into_iter().map(|line| Waiting { ended: Ended::Elsewhere(line), until: None });
        self.shared.queue().waiting.extend(waiting);
        self.shared.wake.notify_all();
    }

    fn stood_by(&self) {
        self.shared.held.stood_by();
    }
}

impl Shared {
    fn run(&self) {
        let mut journal = Journal::new(self.settings.clone(), Arc::clone(&self.bounds));
        let mut retry = RETRY_MIN;
        let mut synced = Instant::now();
        loop {
            let is_owed = journal.is_dirty() && self.settings.sync != Sync::Never;
            let sync_in = is_owed.then(|| (synced + SYNC_EVERY).saturating_duration_since(Instant::now()));
            let tried = match self.next_batch(sync_in) {
                Next::Batch(mut batch) => {
                    batch.iter_mut().for_each(|ended| self.owe_changed(ended));
                    let tried = journal.append(wall_now(), &bytes_of(&batch, &self.settings.node));
                    self.wrote(batch, tried.is_ok());
                    tried
                }
                Next::Sync => Ok(()),
                Next::Stop => break,
            };
            let is_due = match self.settings.sync {
                Sync::Always => true,
                Sync::Second => synced.elapsed() >= SYNC_EVERY,
                Sync::Never => false,
            };
            let tried = tried.and_then(|()| match is_due {
                true => {
                    synced = Instant::now();
                    journal.sync()
                }
                false => Ok(()),
            });
            self.tried(tried.as_ref().err());
            match tried {
                Ok(()) => retry = RETRY_MIN,
                Err(_) => {
                    self.pause(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
        }
        if self.settings.sync != Sync::Never
            && let Err(error) = journal.sync()
        {
            tracing::warn!(%error, "the last records may not be on the disk");
        }
    }

    /// The other node is to owe a record too.
    fn owe(&self, epoch: Epoch, record: &CallRecord, media: Option<&CallMedia>) {
        if self.held.is_attached() {
            let mut line = Vec::with_capacity(LINE_BYTES);
            Line::of(record, media, &self.settings.node, epoch).write(&mut line);
            self.held.owe(record.id, Bytes::from(line));
        }
    }

    /// The same if it has figures now that it had not when it was told.
    fn owe_changed(&self, ended: &mut Ended) {
        if let Ended::Here { epoch, record, media, is_changed } = ended
            && std::mem::take(is_changed)
        {
            self.owe(*epoch, record, media.as_ref());
        }
    }

    /// Waits for records, or until what was written is to be forced to the disk.
    fn next_batch(&self, sync_in: Option<Duration>) -> Next {
        let sync_at = sync_in.map(|left| Instant::now() + left);
        let mut queue = self.queue();
        loop {
            if let Some(stops) = queue.stops
                && (queue.waiting.is_empty() || stops <= Instant::now())
            {
                return Next::Stop;
            }
            let batch = queue.take_ready(Instant::now());
            if !batch.is_empty() {
                queue.under_way = batch.len();
                return Next::Batch(batch);
            }
            if sync_at.is_some_and(|at| at <= Instant::now()) {
                return Next::Sync;
            }
            let first_until = queue.waiting.front().and_then(|first| first.until);
            queue = match sync_at.into_iter().chain(first_until).min() {
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = at.saturating_duration_since(Instant::now());
                    self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// A batch was written, or waits again.
    fn wrote(&self, batch: Vec<Ended>, is_written: bool) {
        let mut queue = self.queue();
        queue.under_way = 0;
        if is_written {
            queue.written += batch.len() as u64;
        } else {
            for ended in batch.into_iter().rev() {
                queue.waiting.push_front(Waiting { ended, until: None });
            }
        }
    }

    fn tried(&self, error: Option<&std::io::Error>) {
        let mut queue = self.queue();
        let Some(error) = error else {
            if queue.failing.take().is_some() {
                tracing::info!("records of calls can be written again");
            }
            return;
        };
        let error = self.wrong(error.to_string());
        if queue.failing.as_ref() != Some(&error) {
            let waiting = queue.waiting.len();
            tracing::error!(%error, waiting, "records of calls can not be written; it is tried again");
        }
        queue.failing = Some(error);
    }

    /// Lets time pass, unless the end has come: then once more is tried, and again.
    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut queue = self.queue();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let is_stopped = queue.stops.is_some_and(|stops| stops <= Instant::now());
            if left.is_zero() || is_stopped {
                return;
            }
            queue = self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn wrong(&self, reason: String) -> StoreError {
        StoreError { place: self.settings.directory.display().to_string(), reason }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread does next.
enum Next {
    Batch(Vec<Ended>),
    Sync,
    Stop,
}

/// A call that ended.
#[derive(Debug)]
enum Ended {
    /// At this node.
    Here {
        /// Under which epoch.
        epoch: Epoch,
        record: Box<CallRecord>,
        media: Option<CallMedia>,
        /// Whether its media were told after itself.
        is_changed: bool,
    },
    /// At the other node: what it has written of it.
    Elsewhere(Bytes),
}

/// One that is not written yet.
#[derive(Debug)]
struct Waiting {
    ended: Ended,
    /// How long its media are waited for.
    until: Option<Instant>,
}

impl Queue {
    /// Takes the next ones that wait for nothing any more, in their order.
    fn take_ready(&mut self, now: Instant) -> Vec<Ended> {
        let mut batch = Vec::new();
        while batch.len() < BATCH_MAX
            && let Some(mut next) = self.waiting.pop_front()
        {
            if let (Some(until), Ended::Here { record, media, is_changed, .. }) =
                (next.until, &mut next.ended)
            {
                let id = record.id;
                let told = self.media.get(&id).copied().flatten();
                if told.is_none() && now < until {
                    self.waiting.push_front(next);
                    break;
                }
                self.media.remove(&id);
                *media = told.flatten();
                *is_changed = media.is_some();
            }
            batch.push(next.ended);
        }
        batch
    }
}

fn bytes_of(batch: &[Ended], node: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(batch.len() * LINE_BYTES);
    for ended in batch {
        match ended {
            Ended::Here { epoch, record, media, .. } => {
                Line::of(record, media.as_ref(), node, *epoch).write(&mut bytes);
            }
            Ended::Elsewhere(line) => bytes.extend_from_slice(line),
        }
    }
    bytes
}

#[cfg(test)]
mod tests;

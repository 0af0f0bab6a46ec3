//! The thread that writes records to the database.
//!
//! It takes lines from the files from the cursor on, as many as a batch has, and moves the cursor behind what is written. What
//! is in the way of a batch halves the next one, until one line is alone with it: if that is to blame itself it goes into
//! Tandem's own table alone, or aside, and does not hold up the others.
//!
//! Whenever it has connected it offers the last lines again: a server that took the place of another may not have had the last
//! moments of that one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clock::WallTime;
use engine::StoreError;

use super::batch::{CallSession, End, Failure, Into};
use super::shape::{ExtraColumn, Others};
use crate::records::{Aside, Bounds, Entry, Held, Line, Owed, Place, Said};
use crate::server::address::ServerSettings;
use crate::server::fault::Blame;
use crate::writer::wall_now;

/// Records of one transaction.
const BATCH_MAX: usize = 200;
/// How long a batch is waited for that is not full: so that ten calls a second are not ten transactions.
const GATHER: Duration = Duration::from_millis(100);
/// Records of before the start that the other node is told of at a time.
const ADOPTED_AT_ONCE: usize = 1_000;
/// How soon it is tried again.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// The interval of tries while nothing helps.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often another one may be in the way of a batch in a row before it is looked at line by line.
const CHANCES_MAX: u32 = 10;
/// A server that is slow holds up nobody here.
const DEADLINE_MIN: Duration = Duration::from_secs(15);
/// What is offered again after each connecting, at most: 4,000 records or so.
const AGAIN_BYTES: u64 = 4 << 20;
/// And not what is older: its rows may have been taken away on purpose.
const AGAIN_AGE_MAX: Duration = Duration::from_secs(3_600);
/// How long a clean stop waits for the server. What is not written then is at the next start.
const STOP_MAX: Duration = Duration::from_secs(3);
/// So many lines that were put aside are logged; the others are counted.
const ASIDE_TOLD_MAX: u64 = 100;
/// Threads that resolve names of hosts: the system's resolver can not be given up.
const RESOLVING_MAX: usize = 2;

/// Where records are written besides the files.
#[derive(Clone, PartialEq, Eq)]
pub struct CallDatabase {
    /// Where, and as whom.
    pub server: ServerSettings,
    /// Whether `acc`, `missed_calls` and `acc_cdrs` are written too.
    pub others: Others,
    /// Further columns of theirs.
    pub extra: Vec<ExtraColumn>,
    /// The file that says how far the files are written.
    pub cursor: PathBuf,
    /// What becomes of files that are written.
    pub files: WrittenFiles,
}

/// What becomes of files whose records are in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenFiles {
    /// They stay, as many as are wanted.
    Stay,
    /// They were only for this.
    Go,
}

/// How the writing goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallDatabaseState {
    /// What is wrong, if it fails.
    pub failing: Option<StoreError>,
    /// For how long it has failed.
    pub away: Duration,
    /// Records that this node has in its files and not yet in the database.
    pub owed: u64,
    /// How long ago the oldest of these ended.
    pub oldest: Duration,
    /// Records that were written since the start.
    pub written: u64,
    /// Those of which something was longer than its column, or of characters that this has not.
    pub cut: u64,
    /// Lines that the database did not take. They are in a file of their own.
    pub aside: u64,
    /// Records that the other node does not owe too, because it would be too many.
    pub alone: u64,
}

/// Writes until it is dropped.
#[derive(Debug)]
pub struct CallWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    bounds: Arc<Bounds>,
    is_stopping: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    told: CallDatabaseState,
    failing_since: Option<Instant>,
    oldest: Option<WallTime>,
}

/// The thread's own.
struct Work {
    settings: CallDatabase,
    shared: Arc<Shared>,
    owed: Owed,
    aside: Aside,
    held: Arc<Held>,
    /// How far the other node was told of what stood in the files at the start.
    adopted: Adopted,
    session: Option<CallSession>,
    /// Whether the session has done something, so that its failure may be that of an old connection alone.
    connection: Connection,
    batch_max: usize,
    chances: u32,
    retry: Duration,
}

/// Something keeps it from going on; it is tried again.
#[derive(Debug)]
enum Obstacle {
    Disk(std::io::Error),
    Server(StoreError),
}

impl From<std::io::Error> for Obstacle {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl CallWriter {
    /// Starts the thread. A server that is away is waited for.
    pub fn start(
        mut settings: CallDatabase,
        directory: PathBuf,
        bounds: Arc<Bounds>,
        held: Arc<Held>,
    ) -> std::io::Result<Self> {
        settings.server.deadline = settings.server.deadline.max(DEADLINE_MIN);
        let shared = Arc::new(Shared {
            bounds: Arc::clone(&bounds),
            is_stopping: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let others = Arc::clone(&shared);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(RESOLVING_MAX)
                .build();
            let work = Work {
                owed: Owed::open(&directory, &settings.cursor, bounds),
                aside: Aside::in_directory(&directory),
                held,
                adopted: Adopted::To(None),
                settings,
                shared: others,
                session: None,
                connection: Connection::New,
                batch_max: BATCH_MAX,
                chances: 0,
                retry: RETRY_MIN,
            };
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(work.run());
                    // A name that is being resolved would hold up the end.
                    runtime.shutdown_background();
                }
                Err(error) => work.shared.note(Some(StoreError {
                    place: work.settings.server.url.to_string(),
                    reason: format!("no runtime for its connection: {error}"),
                })),
            }
        };
        let thread = std::thread::Builder::new().name("store-calls".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// How the writing goes.
    pub fn state(&self) -> CallDatabaseState {
        let state = self.shared.state();
        let mut told = state.told.clone();
        told.away = state.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        told.oldest = state.oldest.map_or(Duration::ZERO, |ended| wall_now().since(ended));
        told
    }

    /// Writes what is owed, if the server takes it within a few seconds, and ends the thread.
    pub fn stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.shared.bounds.wake();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for CallWriter {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    async fn run(self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.serve() => {}
            () = shared.stopped_for(STOP_MAX) => {}
        }
        let owed = shared.state().told.owed;
        if owed > 0 {
            tracing::info!(
                owed,
                "records are not yet in the database; they are in the files, and written after the next start"
            );
        }
    }

    async fn serve(mut self) {
        loop {
            let done = self.step().await;
            if let Err(Obstacle::Server(_)) = &done {
                self.session = None;
                // A server ends connections on which nothing was said for long: only a new one tells whether it is away.
                if std::mem::replace(&mut self.connection, Connection::New) == Connection::Used {
                    continue;
                }
            }
            self.look();
            let is_stopping = self.shared.is_stopping();
            match done {
                Ok(More::Perhaps) => self.retry = RETRY_MIN,
                Ok(More::Nothing) if is_stopping => return,
                Ok(More::Nothing) => {
                    self.connection = Connection::Used;
                    self.shared.note(None);
                    self.shared.bounds.more().await;
                    self.shared.pause(GATHER).await;
                }
                Err(_) if is_stopping => return,
                Err(obstacle) => {
                    self.shared.note(Some(self.explain(obstacle)));
                    self.shared.pause(self.retry).await;
                    self.retry = (self.retry * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// One batch.
    async fn step(&mut self) -> Result<More, Obstacle> {
        self.adopt()?;
        if self.session.is_none() {
            let mut session = CallSession::open(&self.settings).await.map_err(Obstacle::Server)?;
            self.offer_again(&mut session).await?;
            for note in &session.tables.notes {
                tracing::warn!(database = %session.place, "records: {note}");
            }
            self.session = Some(session);
        }
        let entries = self.owed.next(self.batch_max)?;
        let Some(last) = entries.last() else { return Ok(More::Nothing) };
        let (last, number) = (last.end, entries.len() as u64);
        let lines = lines_of(&entries);
        if !lines.is_empty() {
            match self.write(&lines).await? {
                Next::Written => {}
                Next::Again => return Ok(More::Perhaps),
            }
        }
        for entry in &entries {
            if let Said::Nothing(bytes) = &entry.said {
                self.put_aside(bytes, "it is no record")?;
            }
        }
        self.owed.advance(last, number)?;
        self.held.written(&lines);
        if self.settings.files == WrittenFiles::Go {
            self.owed.remove_written()?;
        }
        self.shared.note(None);
        Ok(More::Perhaps)
    }

    /// What stood in the files at the start is owed by the other node too, once there is one.
    fn adopt(&mut self) -> Result<(), Obstacle> {
        while let Adopted::To(place) = self.adopted
            && self.held.is_attached()
        {
            let entries = self.owed.lines_from(place.max(self.owed.at()), ADOPTED_AT_ONCE)?;
            self.held.adopt(&lines_of(&entries));
            self.adopted = match entries.last() {
                Some(last) => Adopted::To(Some(last.end)),
                None => Adopted::All,
            };
        }
        Ok(())
    }

    async fn write(&mut self, lines: &[&Line]) -> Result<Next, Obstacle> {
        match self.attempt(lines, Into::All).await {
            Ok(()) => {
                self.chances = 0;
                self.connection = Connection::Used;
                self.batch_max = (self.batch_max * 2).min(BATCH_MAX);
                Ok(Next::Written)
            }
            Err(failure) => match (failure.blame, lines) {
                (Blame::Server, _) => {
                    // What is too much for a slow server may go in smaller pieces.
                    self.batch_max = (self.batch_max / 2).max(1);
                    Err(Obstacle::Server(self.wrong(failure.reason)))
                }
                (Blame::Chance, _) if self.chances < CHANCES_MAX => {
                    self.chances += 1;
                    Ok(Next::Again)
                }
                (_, [line]) => {
                    self.give_up(line, &failure.reason).await?;
                    self.chances = 0;
                    Ok(Next::Written)
                }
                _ => {
                    self.batch_max = (lines.len() / 2).max(1);
                    Ok(Next::Again)
                }
            },
        }
    }

    async fn attempt(&mut self, lines: &[&Line], into: Into) -> Result<(), Failure> {
        let gone = Failure { blame: Blame::Server, reason: "the connection is gone".to_owned() };
        let session = self.session.as_mut().ok_or(gone)?;
        let written = session.write(lines, into, End::Keep).await?;
        let mut state = self.shared.state();
        state.told.written += written.new;
        state.told.cut += written.cut;
        Ok(())
    }

    /// A call that the tables do not take for its own sake: Tandem's own may, and the line stays for somebody to look at.
    async fn give_up(&mut self, line: &Line, reason: &str) -> Result<(), Obstacle> {
        let own = self.attempt(&[line], Into::Own).await;
        // Whoever stands in the way will be gone: the line waits for that.
        if let Err(Failure { blame: Blame::Server | Blame::Chance, reason }) = own {
            return Err(Obstacle::Server(self.wrong(reason)));
        }
        let mut bytes = Vec::new();
        line.write(&mut bytes);
        self.put_aside(&bytes, reason)
    }

    fn put_aside(&self, bytes: &[u8], reason: &str) -> Result<(), Obstacle> {
        self.aside.add(bytes)?;
        let mut state = self.shared.state();
        state.told.aside += 1;
        // If it is all of them the log need not have each.
        if state.told.aside <= ASIDE_TOLD_MAX {
            let file = self.aside.path().display();
            tracing::error!(%file, reason, "a record can not be in the database as it is; it was put aside");
        }
        Ok(())
    }

    /// The last lines before the cursor, for a server that may not have them.
    async fn offer_again(&self, session: &mut CallSession) -> Result<(), Obstacle> {
        let (Some(end), mut from) = (self.owed.at(), self.owed.before_cursor(AGAIN_BYTES)?) else {
            return Ok(());
        };
        let now = wall_now();
        while from.is_some_and(|from| from < end) {
            let mut entries = self.owed.lines_from(from, BATCH_MAX)?;
            entries.retain(|entry| entry.end <= end);
            let Some(last) = entries.last() else { break };
            from = Some(last.end);
            let lines: Vec<&Line> = lines_of(&entries)
                .into_iter()
                .filter(|line| now.since(line.ended()) <= AGAIN_AGE_MAX)
                .collect();
            if lines.is_empty() {
                continue;
            }
            let offered = session.write(&lines, Into::All, End::Keep).await;
            let missed = match offered {
                Ok(written) => written.new,
                // One of them was put aside before.
                Err(Failure { blame: Blame::Row | Blame::Chance, .. }) => {
                    let mut missed = 0;
                    for line in lines {
                        match session.write(&[line], Into::All, End::Keep).await {
                            Ok(written) => missed += written.new,
                            Err(Failure { blame: Blame::Row | Blame::Chance, .. }) => {}
                            Err(failure) => return Err(Obstacle::Server(self.wrong(failure.reason))),
                        }
                    }
                    missed
                }
                Err(failure) => return Err(Obstacle::Server(self.wrong(failure.reason))),
            };
            if missed > 0 {
                tracing::warn!(missed, database = %session.place, "the database had lost records that it had said it has; they were written again");
            }
        }
        Ok(())
    }

    /// How much is owed, for those who look.
    fn look(&mut self) {
        let owed = self.owed.count();
        let oldest = self.owed.next(1).ok().and_then(|entries| entries.into_iter().next());
        let mut state = self.shared.state();
        if let Ok(owed) = owed {
            state.told.owed = owed;
        }
        state.oldest = match oldest.map(|entry| entry.said) {
            Some(Said::Record(line)) => Some(line.ended()),
            _ => None,
        };
    }

    fn explain(&self, obstacle: Obstacle) -> StoreError {
        match obstacle {
            Obstacle::Server(error) => error,
            Obstacle::Disk(error) => StoreError {
                place: self.settings.cursor.display().to_string(),
                reason: format!("the files of records, or how far they are written: {error}"),
            },
        }
    }

    fn wrong(&self, reason: String) -> StoreError {
        let place = self.session.as_ref().map(|session| session.place.clone());
        StoreError { place: place.unwrap_or_else(|| self.settings.server.url.to_string()), reason }
    }
}

/// How far the other node was told of what stood in the files at the start.
enum Adopted {
    To(Option<Place>),
    All,
}

/// Whether something was done by a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    New,
    Used,
}

/// Whether there may be something to do.
enum More {
    Perhaps,
    Nothing,
}

/// What becomes of a batch.
enum Next {
    Written,
    Again,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Until so much time has passed after the order to stop.
    async fn stopped_for(&self, time: Duration) {
        // A flag that is looked at: who is waited for by it may be waiting himself.
        while !self.is_stopping() {
            tokio::time::sleep(GATHER).await;
        }
        tokio::time::sleep(time).await;
    }

    /// Lets time pass, unless the end has come.
    async fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end && !self.is_stopping() {
            tokio::time::sleep(GATHER.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    fn note(&self, error: Option<StoreError>) {
        let mut state = self.state();
        match (&state.told.failing, &error) {
            (before, Some(error)) if before.as_ref() != Some(error) => {
                let owed = state.told.owed;
                tracing::error!(%error, owed, "records of calls can not be written to the database; it is tried again");
            }
            (Some(_), None) => {
                let away = state.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
                let (away_ms, owed) = (away.as_millis() as u64, state.told.owed);
                tracing::info!(away_ms, owed, "records of calls can be written to the database again");
            }
            _ => {}
        }
        state.failing_since = match &error {
            Some(_) => state.failing_since.or_else(|| Some(Instant::now())),
            None => None,
        };
        state.told.failing = error;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lines_of(entries: &[Entry]) -> Vec<&Line> {
    entries
        .iter()
        .filter_map(|entry| match &entry.said {
            Said::Record(line) => Some(&**line),
            Said::Nothing(_) => None,
        })
        .collect()
}

impl std::fmt::Debug for CallDatabase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "CallDatabase({})", self.server.url)
    }
}

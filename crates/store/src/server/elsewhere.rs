//! Looking up in a shared `location` at which servers beside this one somebody is registered.
//!
//! A thread of its own answers, by one connection, so that no other look-up waits for these. What was found, or not, is
//! believed for a second. While the table can not be read nothing is known, and who asks is told so at once. Whatever
//! hangs, each is answered in the time of its own: a connection that does not answer is given up for a new one.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use engine::{Elsewhere, StoreError};
use sip::Aor;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use transport::Transport;

use super::address::ServerSettings;
use super::link::Value;
use super::location::shape::{Field, Shape};
use super::location::zone;
use super::session::Session;
use super::tables::{Content, Unfit};
use crate::row;
use crate::writer::wall_now;

/// Look-ups that wait: a server in the LAN answers some thousands in a second.
const WAITING_MAX: usize = 4_000;
/// What one look-up may take from when it was asked for: a call goes on without after three seconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// What a connection that is open may take: then there is time for a new one.
const OPEN_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Answers that are remembered.
const REMEMBERED_MAX: usize = 20_000;
/// Rows of one address of record that are read.
const ROWS_MAX: usize = 32;
/// How long nobody asks a server that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// Threads that resolve names of hosts: the system's resolver can not be given up.
const RESOLVING_MAX: usize = 2;

/// Who is told.
pub type Reply = Box<dyn FnOnce(Elsewhere) + Send>;

/// The side that asks.
#[derive(Debug)]
pub struct ElsewhereLookups(Sender<Lookup>);

/// The side that reads.
pub struct ElsewhereReader {
    queue: Receiver<Lookup>,
    table: SharedTable,
}

/// The table, and what was found in it.
struct SharedTable {
    settings: ServerSettings,
    open: Option<(Session, Shape)>,
    known: BTreeMap<Aor, (Elsewhere, Instant)>,
    pause_until: Option<Instant>,
}

struct Lookup {
    aor: Aor,
    reply: Reply,
    asked: Instant,
}

/// Both sides.
pub fn elsewhere(settings: ServerSettings) -> (ElsewhereLookups, ElsewhereReader) {
    let (sender, queue) = channel(WAITING_MAX);
    let table = SharedTable { settings, open: None, known: BTreeMap::new(), pause_until: None };
    (ElsewhereLookups(sender), ElsewhereReader { queue, table })
}

impl ElsewhereLookups {
    /// Asks. What can not be known is nothing.
    pub fn ask(&self, aor: Aor, reply: Reply) {
        let lookup = Lookup { aor, reply, asked: Instant::now() };
        if let Err(TrySendError::Full(lookup) | TrySendError::Closed(lookup)) = self.0.try_send(lookup) {
            (lookup.reply)(Vec::new());
        }
    }
}

impl ElsewhereReader {
    /// The thread's work: returns when nobody can ask any more.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVING_MAX)
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(answer(self.queue, self.table));
                // A name that is being resolved would hold up the end.
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "nobody looks for phones at servers beside this one"),
        }
    }
}

/// Answers one after the other, and those that wait for too long with nothing. All have the same time, so the first of
/// them is the first whose time is over.
async fn answer(mut queue: Receiver<Lookup>, mut table: SharedTable) {
    let mut waiting: VecDeque<Lookup> = VecDeque::new();
    loop {
        let next = match waiting.pop_front() {
            Some(next) => Some(next),
            None => queue.recv().await,
        };
        let Some(Lookup { aor, reply, asked }) = next else { return };
        let mut find = pin!(table.find(&aor, asked));
        let mut asking = Some((reply, asked));
        loop {
            let first = asking.as_ref().map(|(_, asked)| *asked).or(waiting.front().map(|it| it.asked));
            let until = first.map(|asked| tokio::time::Instant::from(asked + ANSWERED_WITHIN));
            tokio::select! {
                found = &mut find => {
                    if let Some((reply, _)) = asking {
                        reply(found);
                    }
                    break;
                }
                Some(lookup) = queue.recv(), if waiting.len() < WAITING_MAX => waiting.push_back(lookup),
                () = tokio::time::sleep_until(until.unwrap_or_else(tokio::time::Instant::now)),
                    if until.is_some() =>
                {
                    let late = asking.take().map(|(reply, _)| reply);
                    if let Some(reply) = late.or_else(|| waiting.pop_front().map(|it| it.reply)) {
                        reply(Vec::new());
                    }
                }
            }
        }
    }
}

impl SharedTable {
    async fn find(&mut self, aor: &Aor, asked: Instant) -> Elsewhere {
        let now = Instant::now();
        if let Some((found, at)) = self.known.get(aor)
            && now.duration_since(*at) < BELIEVED
        {
            return found.clone();
        }
        // Who asked would wait for too long behind others.
        let is_late = now.duration_since(asked) > ANSWERED_WITHIN;
        if is_late || self.pause_until.is_some_and(|until| now < until) {
            return Vec::new();
        }
        match self.read(aor).await {
            Ok(found) => {
                self.pause_until = None;
                self.remember(aor, &found);
                found
            }
            Err(error) => {
                tracing::warn!(%error, "phones at servers beside this one can not be looked for");
                self.open = None;
                self.pause_until = Some(Instant::now() + PAUSE);
                Vec::new()
            }
        }
    }

    fn remember(&mut self, aor: &Aor, found: &Elsewhere) {
        let now = Instant::now();
        if self.known.len() >= REMEMBERED_MAX {
            self.known.retain(|_, (_, at)| now.duration_since(*at) < BELIEVED);
        }
        if self.known.len() < REMEMBERED_MAX {
            self.known.insert(aor.clone(), (found.clone(), now));
        }
    }

    /// By the connection that is open; if that one was lost, by a new one.
    async fn read(&mut self, aor: &Aor) -> Result<Elsewhere, StoreError> {
        if let Some((mut session, shape)) = self.open.take()
            && let Ok(Ok(found)) =
                tokio::time::timeout(OPEN_ANSWERS_WITHIN, query(&mut session, &shape, aor)).await
        {
            self.open = Some((session, shape));
            return Ok(found);
        }
        let mut session = Session::open(&self.settings).await?;
        let refused = |reason: String| StoreError { place: session.place.clone(), reason };
        let zone =
            self.settings.location.as_ref().map_or(Ok(jiff::tz::TimeZone::UTC), zone).map_err(refused)?;
        let shape = Shape::to_read(&session.tables, &zone).map_err(|unfit| refused(Unfit::text(&unfit)))?;
        let found = query(&mut session, &shape, aor).await?;
        self.open = Some((session, shape));
        Ok(found)
    }
}

async fn query(session: &mut Session, shape: &Shape, aor: &Aor) -> Result<Elsewhere, StoreError> {
    let tables = &session.tables;
    let expires = shape.fields().find(|(field, _)| *field == Field::Expires);
    // Else those that have expired would take the place of those that have not. 0 is without an end.
    let order = match expires.map(|(_, column)| column.content) {
        Some(Content::Number) => {
            "ORDER BY CASE WHEN location.expires = 0 THEN 0 ELSE 1 END, location.expires DESC"
        }
        Some(Content::Time) => "ORDER BY location.expires DESC",
        _ => "",
    };
    let sql = format!(
        "SELECT {}, {} FROM location WHERE {} AND (domain IS NULL OR domain = '' OR {}) {order} LIMIT {ROWS_MAX}",
        session.product().text("socket"),
        session.product().text("expires"),
        tables.is("location", "username"),
        tables.is("location", "domain"),
    );
    let rows = session.rows(&sql, &[Value::Text(aor.user()), Value::Text(aor.domain())]).await?;
    let now = i64::try_from(wall_now().as_secs()).unwrap_or(i64::MAX);
    let is_live = |text: &str| {
        let at = expires.and_then(|(_, column)| shape.read_time(column.content, text));
        // 0 is without an end.
        at.is_some_and(|at| at == 0 || at > now)
    };
    let mut found: Vec<(Transport, SocketAddr)> = rows
        .iter()
        .filter(|row| is_live(row.text(1)))
        .filter_map(|row| row::read_socket(row.text(0).trim()))
        .map(|(transport, local)| (transport, local.0))
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Lookup({})", self.aor)
    }
}

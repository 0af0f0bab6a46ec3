//! The thread that reads accounts for those who wait for them.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::{Loaded, StoreError};
use routing::{Account, Algorithm, CallRules};
use rusqlite::{Connection, OptionalExtension};
use sip::Aor;

use crate::credentials::is_ha1;
use crate::database::{Identity, Place, Reading};
use crate::{forwards, names, relay_rule};

/// Look-ups that wait: a second's work.
const LOOKUPS_MAX: usize = 20_000;
/// How often a database that failed is tried while nobody asks.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

const BY_AOR: &str = "SELECT username, domain, ha1, ha1_sha256, ha1_sha512t256, calls_max, relay FROM subscriber \
     WHERE username = ?1 AND domain = ?2";
const BY_ALIAS: &str = "SELECT subscriber.username, subscriber.domain, ha1, ha1_sha256, ha1_sha512t256, calls_max, relay \
     FROM dbaliases JOIN subscriber ON subscriber.username = dbaliases.username \
     AND subscriber.domain = dbaliases.domain WHERE alias_username = ?1 AND alias_domain = ?2";
/// Who waits for an account.
pub type Reply = Box<dyn FnOnce(Loaded) + Send>;

/// The side that asks.
#[derive(Debug)]
pub struct Lookups {
    queue: SyncSender<Lookup>,
    failing: Arc<Mutex<Option<StoreError>>>,
}

/// The side that reads.
#[derive(Debug)]
pub struct Reader {
    place: Place,
    connection: Option<(Reading, Option<Identity>)>,
    queue: Receiver<Lookup>,
    failing: Arc<Mutex<Option<StoreError>>>,
    delay: Duration,
}

struct Lookup {
    aor: Aor,
    reply: Reply,
    asked: Instant,
}

/// Both sides of the look-ups of a database. `delay` is how long each takes at least.
pub fn lookups(place: Place, delay: Duration) -> (Lookups, Reader) {
    let (sender, receiver) = sync_channel(LOOKUPS_MAX);
    let failing = Arc::new(Mutex::new(None));
    let reader = Reader { place, connection: None, queue: receiver, failing: Arc::clone(&failing), delay };
    (Lookups { queue: sender, failing }, reader)
}

impl Lookups {
    /// Asks for an account. The answer comes from another thread, or at once if too many wait.
    pub fn ask(&self, aor: Aor, reply: Reply) {
        let lookup = Lookup { aor, reply, asked: Instant::now() };
        if let Err(TrySendError::Full(lookup) | TrySendError::Disconnected(lookup)) =
            self.queue.try_send(lookup)
        {
            (lookup.reply)(Loaded::Unavailable);
        }
    }

    /// What is wrong with reading.
    pub fn failing(&self) -> Option<StoreError> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Reader {
    /// The thread's work: returns when nobody can ask any more.
    pub fn run(mut self) {
        loop {
            let lookup = if self.is_failing() {
                match self.queue.recv_timeout(PROBE_INTERVAL) {
                    Ok(lookup) => lookup,
                    Err(RecvTimeoutError::Timeout) => {
                        self.probe();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match self.queue.recv() {
                    Ok(lookup) => lookup,
                    Err(_) => return,
                }
            };
            let missing = self.delay.saturating_sub(lookup.asked.elapsed());
            if !missing.is_zero() {
                std::thread::sleep(missing);
            }
            let loaded = match self.read(|connection| find(connection, &lookup.aor)) {
                Ok(Some(account)) => Loaded::Found(Arc::new(account)),
                Ok(None) => Loaded::NotFound,
                Err(_) => Loaded::Unavailable,
            };
            (lookup.reply)(loaded);
        }
    }

    fn probe(&mut self) {
        // Its outcome is the state that it leaves.
        let _ = self.read(|connection| {
            connection.query_row("SELECT 1 FROM subscriber LIMIT 1", [], |_| Ok(())).optional()
        });
    }

    fn read<T>(&mut self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let identity = self.place.identity();
        let is_same = |opened: &Option<Identity>| identity.is_none() || *opened == identity;
        let opened = match self.connection.take() {
            // A file that was removed can still be read here; one that took its place is read instead.
            Some((connection, opened)) if is_same(&opened) => Ok((connection, opened)),
            // To open it would make an empty one.
            _ if identity.is_none() => Err(self.place.missing()),
            _ => self.place.open_to_read().map(|connection| (connection, identity)),
        };
        let result = opened.and_then(|(connection, identity)| {
            let value = read(&connection).map_err(|error| self.place.failed(&error))?;
            if matches!(connection, Reading::Live(_)) {
                self.connection = Some((connection, identity));
            }
            Ok(value)
        });
        let error = result.as_ref().err().cloned();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*failing, &error) {
            (None, Some(error)) => tracing::error!(%error, "accounts can not be read from the database"),
            (Some(_), None) => tracing::info!("accounts can be read from the database again"),
            _ => {}
        }
        *failing = error;
        result
    }

    fn is_failing(&self) -> bool {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// The account that has this address of record, as its own or as an alias.
pub fn find(connection: &Connection, aor: &Aor) -> rusqlite::Result<Option<Account>> {
    for query in [BY_AOR, BY_ALIAS] {
        let mut statement = connection.prepare_cached(query)?;
        let mut rows = statement.query([aor.user(), aor.domain()])?;
        let Some(found) = rows.next()? else { continue };
        let (username, domain): (String, String) = (found.get(0)?, found.get(1)?);
        let Some(own) = Aor::parse(&format!("{username}@{domain}")) else {
            tracing::warn!("a subscriber whose name is no address of record was skipped");
            continue;
        };
        let hashes: [(Algorithm, String); 3] = [
            (Algorithm::Md5, found.get(2)?),
            (Algorithm::Sha256, found.get(3)?),
            (Algorithm::Sha512_256, found.get(4)?),
        ];
        let ha1 = hashes
            .into_iter()
            .filter(|(algorithm, hash)| is_ha1(*algorithm, hash))
            .map(|(algorithm, hash)| (algorithm, hash.into_boxed_str()))
            .collect();
        let aliases = names::aliases(connection, &own)?;
        let may_use = names::may_use(connection, &own)?;
        let relay: Option<String> = found.get(6)?;
        let calls = CallRules {
            forwards: forwards::read(connection, &own)?,
            limit: found.get(5)?,
            relay: relay.and_then(|word| relay_rule::read(&own, &word)),
        };
        return Ok(Some(Account { aor: own, ha1, aliases, may_use, calls }));
    }
    Ok(None)
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Lookup({})", self.aor)
    }
}

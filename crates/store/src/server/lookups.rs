//! The thread that reads accounts from a server for those who wait for them.
//!
//! A few connections serve one queue. One more looks each second whether accounts can be read; while they can not, who
//! asks is answered by what is remembered, so that no queue of the dead grows and no deadline is waited for again and
//! again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::{Loaded, StoreError};
use routing::Account;
use sip::Aor;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TrySendError};
use tokio::task::JoinSet;

use super::accounts::find;
use super::address::ServerSettings;
use super::comparison::compare;
use super::copies::AccountCopies;
use super::session::Session;
use super::shortcomings::shortcomings;
use crate::lookups::Reply;
use crate::writer::wall_now;

/// Look-ups that wait: a few seconds' work.
const LOOKUPS_MAX: usize = 20_000;
/// Connections that read: a server in the LAN answers each within a millisecond.
const CONNECTIONS: usize = 4;
/// How often the server is looked at.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How many looks lie between two at its clock and its character set.
const LOOKS_BETWEEN: u32 = 60;
/// Threads that resolve names of hosts: the system's resolver can not be given up.
const RESOLVING_MAX: usize = 8;
/// Nobody's name: to look for it takes the same rights as to look for anybody.
const NOBODY: &str = "nobody@tandem.invalid";

/// The side that asks.
#[derive(Debug)]
pub struct Lookups {
    queue: Sender<Lookup>,
    health: Arc<Health>,
    copies: Arc<AccountCopies>,
}

/// The side that reads.
#[derive(Debug)]
pub struct Reader {
    settings: Arc<ServerSettings>,
    queue: Arc<tokio::sync::Mutex<Receiver<Lookup>>>,
    health: Arc<Health>,
    copies: Arc<AccountCopies>,
}

/// Whether accounts can be read.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<StoreError>>);

struct Lookup {
    aor: Aor,
    reply: Reply,
    asked: Instant,
}

/// Both sides of the look-ups of a server.
pub fn lookups(settings: ServerSettings, copies: Arc<AccountCopies>) -> (Lookups, Reader) {
    let (sender, receiver) = channel(LOOKUPS_MAX);
    let health = Arc::new(Health::default());
    let reader = Reader {
        settings: Arc::new(settings),
        queue: Arc::new(tokio::sync::Mutex::new(receiver)),
        health: Arc::clone(&health),
        copies: Arc::clone(&copies),
    };
    (Lookups { queue: sender, health, copies }, reader)
}

impl Lookups {
    /// Asks for an account. The answer comes from another thread, or at once if it can not be had.
    pub fn ask(&self, aor: Aor, reply: Reply) {
        if self.health.failing().is_some() {
            return self.copies.ask(aor, reply);
        }
        let lookup = Lookup { aor, reply, asked: Instant::now() };
        if let Err(TrySendError::Full(lookup) | TrySendError::Closed(lookup)) = self.queue.try_send(lookup) {
            self.copies.ask(lookup.aor, lookup.reply);
        }
    }

    /// What is wrong with reading.
    pub fn failing(&self) -> Option<StoreError> {
        self.health.failing()
    }
}

impl Reader {
    /// The thread's work: returns when nobody can ask any more.
    pub fn run(self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(RESOLVING_MAX)
            .build();
        match runtime {
            Ok(runtime) => {
                runtime.block_on(self.serve());
                // A name that is being resolved would hold up the end.
                runtime.shutdown_background();
            }
            Err(error) => self.health.note(Some(StoreError {
                place: self.settings.url.to_string(),
                reason: format!("no runtime for its connections: {error}"),
            })),
        }
    }

    async fn serve(self) {
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (settings, queue) = (Arc::clone(&self.settings), Arc::clone(&self.queue));
            workers.spawn(work(settings, queue, Arc::clone(&self.health), Arc::clone(&self.copies)));
        }
        let all_ended = async { while workers.join_next().await.is_some() {} };
        tokio::select! {
            () = all_ended => {}
            () = probe(&self.settings, &self.health) => {}
            () = compare(&self.settings, &self.copies, &self.health) => {}
        }
    }
}

async fn work(
    settings: Arc<ServerSettings>,
    queue: Arc<tokio::sync::Mutex<Receiver<Lookup>>>,
    health: Arc<Health>,
    copies: Arc<AccountCopies>,
) {
    let mut session = None;
    loop {
        let Some(lookup) = queue.lock().await.recv().await else { return };
        let Lookup { aor, reply, asked } = lookup;
        // Who asked has given up, or will before an answer comes.
        let is_late = asked.elapsed() > settings.deadline;
        if is_late || health.failing().is_some() {
            copies.ask(aor, reply);
            continue;
        }
        match read(&settings, &mut session, &aor).await {
            Ok(Some(account)) => {
                let account = Arc::new(account);
                copies.learn(&aor, &account);
                reply(Loaded::Found(account));
            }
            Ok(None) => {
                copies.unlearn(&aor);
                reply(Loaded::NotFound);
            }
            Err(error) => {
                health.note(Some(error));
                copies.ask(aor, reply);
            }
        }
    }
}

async fn probe(settings: &ServerSettings, health: &Health) {
    let nobody = Aor::parse(NOBODY).expect("it is an address of record");
    let (mut session, mut told, mut looks) = (None, Vec::new(), 0);
    let mut interval = tokio::time::interval(PROBE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        health.note(read(settings, &mut session, &nobody).await.err());
        let Some(open) = &mut session else { continue };
        if looks == 0 {
            match shortcomings(open, wall_now).await {
                Ok(found) => {
                    tell(&found, &told);
                    told = found;
                }
                // A session of which a statement failed is not used again; accounts can be read all the same.
                Err(error) => {
                    tracing::debug!(%error, "the database's clock and character set were not looked at");
                    session = None;
                }
            }
        }
        looks = (looks + 1) % LOOKS_BETWEEN;
    }
}

/// What is new, and what is over. A clock that runs away is told once, whatever it shows by then.
fn tell(found: &[String], told: &[String]) {
    let kind = |text: &String| text.split(" is ").next().unwrap_or_default().to_owned();
    let has = |list: &[String], text: &String| list.iter().any(|it| kind(it) == kind(text));
    for what in found.iter().filter(|it| !has(told, it)) {
        tracing::warn!("the database: {what}");
    }
    for what in told.iter().filter(|it| !has(found, it)) {
        tracing::info!("the database, no longer: {what}");
    }
}

/// Reads by a connection that is open; if that one was lost, by a new one.
async fn read(
    settings: &ServerSettings,
    kept: &mut Option<Session>,
    aor: &Aor,
) -> Result<Option<Account>, StoreError> {
    if let Some(mut session) = kept.take()
        && let Ok(account) = find(&mut session, aor, settings.realm.as_deref()).await
    {
        *kept = Some(session);
        return Ok(account);
    }
    let mut session = Session::open(settings).await?;
    let account = find(&mut session, aor, settings.realm.as_deref()).await?;
    *kept = Some(session);
    Ok(account)
}

impl Health {
    /// What is wrong with reading.
    pub fn failing(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, error: Option<StoreError>) {
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*failing, &error) {
            (None, Some(error)) => tracing::error!(%error, "accounts can not be read from the database"),
            (Some(_), None) => tracing::info!("accounts can be read from the database again"),
            _ => {}
        }
        *failing = error;
    }
}

impl std::fmt::Debug for Lookup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Lookup({})", self.aor)
    }
}

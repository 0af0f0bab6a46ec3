//! What this node remembers of a server's accounts over its own restarts, and who hears that one was changed.
//!
//! Memory has the name of each account that was used, with a fingerprint of what the server said of it; the node's file has
//! the rest. What the server says is compared with the fingerprint: a difference is written behind, and told to those that
//! serve the account. While the server can not be asked, the file answers.
//!
//! Invariant: what waits to be written is found before what the file has, and is let go of only when it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use clock::WallTime;
use engine::{CopyState, Loaded, News, StoreError};
use routing::Account;
use rusqlite::{Connection, TransactionBehavior};
use sip::Aor;

use crate::copies::{self, AccountCopy};
use crate::database::{Identity, Place, Reading};
use crate::lookups::Reply;
use crate::writer::wall_now;

/// Accounts that are remembered: about 400 bytes of memory and 600 of the file for each.
pub const ACCOUNTS_MAX: usize = 500_000;
/// Copies that wait to be written, with half a kilobyte each.
const WRITES_MAX: usize = 50_000;
/// Copies of one transaction.
const BATCH_MAX: usize = 1_000;
/// Look-ups that wait for the file.
const ASKED_MAX: usize = 20_000;
/// How long copies are gathered before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// How soon a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is written down that all is the same as on the server.
const CONFIRM_INTERVAL: Duration = Duration::from_secs(30);

/// The copies of one node.
pub struct AccountCopies {
    place: Place,
    state: Mutex<State>,
    wake: Condvar,
    news: OnceLock<News>,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<Aor, Known>,
    /// Whose an alias is. Never iterated.
    owners: HashMap<Aor, Aor>,
    /// Names that phones are registered under, of which the server was not asked.
    wanted: BTreeSet<Aor>,
    /// What the file lacks; `None`: what it has too much.
    writes: BTreeMap<Aor, Option<AccountCopy>>,
    asked: VecDeque<(Aor, Reply)>,
    write_at: Option<Instant>,
    /// Where room is looked for.
    hand: Option<Aor>,
    confirmed: Option<WallTime>,
    /// What of that the file lacks.
    to_confirm: Option<WallTime>,
    written_at: Option<WallTime>,
    is_read: bool,
    is_failing: bool,
    is_stopping: bool,
}

#[derive(Debug)]
struct Known {
    fingerprint: u64,
    aliases: Box<[Aor]>,
    /// Since room was looked for last.
    was_used: bool,
}

/// Who is to hear what.
type Told = Vec<(Aor, Loaded)>;

impl AccountCopies {
    /// The copies in the file of a node. [`Self::run`] reads them.
    pub fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, state: Mutex::default(), wake: Condvar::new(), news: OnceLock::new() })
    }

    /// Tells `news` of changes from here on.
    pub fn watch(&self, news: News) {
        // A store has one server that serves from it.
        let _ = self.news.set(news);
    }

    /// Answers from what is remembered.
    pub fn ask(&self, aor: Aor, reply: Reply) {
        let mut state = self.state();
        let is_there = !state.is_read || state.own(&aor).is_some();
        if is_there && state.asked.len() < ASKED_MAX && !state.is_stopping {
            state.asked.push_back((aor, reply));
            drop(state);
            self.wake.notify_one();
        } else {
            drop(state);
            reply(Loaded::Unavailable);
        }
    }

    /// Takes what the server said of an account that somebody asked for by this name.
    pub fn learn(&self, asked: &Aor, account: &Arc<Account>) {
        let mut told = Told::new();
        let mut state = self.state();
        state.wanted.remove(asked);
        state.learn(account, &mut told);
        if let Some(known) = state.accounts.get_mut(&account.aor) {
            known.was_used = true;
        }
        drop(state);
        told.retain(|(name, _)| name != asked);
        self.tell(told);
    }

    /// Takes that the server knows no account by this name.
    pub fn unlearn(&self, name: &Aor) {
        let mut told = Told::new();
        let mut state = self.state();
        state.wanted.remove(name);
        state.unlearn(name, &mut told);
        drop(state);
        told.retain(|(it, _)| it != name);
        self.tell(told);
    }

    /// Wants the account of a name to be remembered, because a phone is registered under it.
    pub fn want(&self, name: &Aor) {
        let mut state = self.state();
        let own = state.own(name).cloned();
        if let Some(known) = own.and_then(|own| state.accounts.get_mut(&own)) {
            known.was_used = true;
        } else if state.wanted.len() < ACCOUNTS_MAX {
            state.wanted.insert(name.clone());
        }
    }

    /// Takes some names that are wanted and not known.
    pub fn take_wanted(&self, max: usize) -> Vec<Aor> {
        let mut state = self.state();
        if !state.is_read {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(name) = state.wanted.pop_first() else { break };
            if state.own(&name).is_none() {
                taken.push(name);
            }
        }
        taken
    }

    /// The names of accounts that come after one, in their order; `None` until the file was read.
    pub fn after(&self, name: Option<&Aor>, max: usize) -> Option<Vec<Aor>> {
        let state = self.state();
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let names = state.accounts.range::<Aor, _>((from, Bound::Unbounded)).map(|(name, _)| name.clone());
        state.is_read.then(|| names.take(max).collect())
    }

    /// Takes what the server said of those that were asked for by their own names.
    pub fn settle(&self, asked: &[Aor], found: Vec<Account>) {
        let mut told = Told::new();
        let mut state = self.state();
        let there: BTreeSet<&Aor> = found.iter().map(|account| &account.aor).collect();
        for gone in asked.iter().filter(|name| !there.contains(name)) {
            state.unlearn(gone, &mut told);
        }
        drop(there);
        for account in found {
            state.learn(&Arc::new(account), &mut told);
        }
        drop(state);
        self.tell(told);
    }

    /// All that is remembered was the same as on the server at this time.
    pub fn confirm(&self, at: WallTime) {
        let mut state = self.state();
        let is_due = state.written_at.is_none_or(|before| at.since(before) >= CONFIRM_INTERVAL);
        state.confirmed = Some(at);
        if is_due {
            state.to_confirm = Some(at);
            state.write_soon();
            self.wake.notify_one();
        }
    }

    /// How the copy is.
    pub fn copy_state(&self, is_serving: bool) -> CopyState {
        let state = self.state();
        CopyState {
            accounts: state.accounts.len(),
            age: state.confirmed.map(|at| wall_now().since(at)),
            is_serving,
        }
    }

    /// Ends the thread; what waits is written before.
    pub fn stop(&self) {
        self.state().is_stopping = true;
        self.wake.notify_one();
    }

    /// The thread's work: reads the file, answers and writes; returns when it is stopped.
    pub fn run(&self) {
        self.read();
        let mut reading = None;
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let is_due = state.write_at.is_some_and(|at| at <= now || state.is_stopping);
            if !state.asked.is_empty() {
                let asked: Vec<_> = state.asked.drain(..).collect();
                drop(state);
                for (aor, reply) in asked {
                    reply(self.answer(&mut reading, &aor));
                }
                state = self.state();
            } else if is_due {
                drop(state);
                let is_written = self.write();
                state = self.state();
                if state.is_stopping && !is_written {
                    return;
                }
            } else if state.is_stopping {
                return;
            } else {
                state = match state.write_at {
                    Some(at) => {
                        let wait = at.saturating_duration_since(now);
                        self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                };
            }
        }
    }

    fn read(&self) {
        let read = self.place.open_to_read().and_then(|connection| {
            let copies = copies::all(&connection).and_then(|all| Ok((all, copies::confirmed(&connection)?)));
            copies.map_err(|error| self.place.failed(&error))
        });
        let mut state = self.state();
        match read {
            Ok((all, confirmed)) => {
                for (own, copy) in all.into_iter().take(ACCOUNTS_MAX) {
                    if !state.accounts.contains_key(&own)
                        && let Some(account) = copy.account(&own)
                    {
                        state.insert(&account, copy.fingerprint);
                    }
                }
                state.confirmed = state.confirmed.or(confirmed);
            }
            Err(error) => tracing::error!(%error, "the copy of the accounts can not be read"),
        }
        state.is_read = true;
    }

    fn answer(&self, reading: &mut Option<(Reading, Option<Identity>)>, aor: &Aor) -> Loaded {
        let state = self.state();
        let Some(own) = state.own(aor).cloned() else { return Loaded::Unavailable };
        let waiting = state.writes.get(&own).cloned();
        drop(state);
        let copy = match waiting {
            Some(copy) => Ok(copy),
            None => self.find(reading, &own),
        };
        match copy {
            Ok(copy) => copy
                .and_then(|copy| copy.account(&own))
                .map_or(Loaded::Unavailable, |account| Loaded::Kept(Arc::new(account))),
            Err(error) => {
                tracing::debug!(%error, "the copy of an account can not be read");
                Loaded::Unavailable
            }
        }
    }

    fn find(
        &self,
        reading: &mut Option<(Reading, Option<Identity>)>,
        own: &Aor,
    ) -> Result<Option<AccountCopy>, StoreError> {
        let identity = self.place.identity();
        // A file that took the place of another one is read instead of it.
        if let Some((connection, opened)) = reading
            && *opened == identity
            && let Ok(copy) = copies::find(connection, own)
        {
            return Ok(copy);
        }
        *reading = None;
        let connection = self.place.open_to_read()?;
        let copy = copies::find(&connection, own).map_err(|error| self.place.failed(&error))?;
        *reading = Some((connection, identity));
        Ok(copy)
    }

    /// Writes what waits; whether it could.
    fn write(&self) -> bool {
        let state = self.state();
        let batch: Vec<_> =
            state.writes.iter().take(BATCH_MAX).map(|(own, copy)| (own.clone(), copy.clone())).collect();
        let confirmed = state.to_confirm;
        drop(state);
        let result = self.place.open_again().and_then(|mut connection| {
            write_batch(&mut connection, &batch, confirmed).map_err(|error| self.place.failed(&error))
        });
        let mut state = self.state();
        match result {
            Ok(()) => {
                for (own, written) in &batch {
                    if state.writes.get(own) == Some(written) {
                        state.writes.remove(own);
                    }
                }
                state.written_at = confirmed.or(state.written_at);
                if state.to_confirm == confirmed {
                    state.to_confirm = None;
                }
                let is_done = state.writes.is_empty() && state.to_confirm.is_none();
                state.write_at = (!is_done).then(Instant::now);
                if std::mem::take(&mut state.is_failing) {
                    tracing::info!("copies of accounts can be written again");
                }
                true
            }
            Err(error) => {
                state.write_at = Some(Instant::now() + RETRY);
                if !std::mem::replace(&mut state.is_failing, true) {
                    tracing::error!(%error, "copies of accounts can not be written; it is tried again");
                }
                false
            }
        }
    }

    /// Has what was learnt written, and told to those who serve it.
    fn tell(&self, told: Told) {
        self.wake.notify_one();
        let Some(news) = self.news.get() else { return };
        for (name, loaded) in told {
            news(name, loaded);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The account that has a name as its own or as an alias.
    fn own(&self, name: &Aor) -> Option<&Aor> {
        self.accounts.get_key_value(name).map(|(own, _)| own).or_else(|| self.owners.get(name))
    }

    fn learn(&mut self, account: &Arc<Account>, told: &mut Told) {
        let copy = AccountCopy::of(account);
        let own = &account.aor;
        if self.accounts.get(own).is_some_and(|known| known.fingerprint == copy.fingerprint) {
            return;
        }
        if let Some(before) = self.remove(own) {
            let names = account.aliases.iter().chain([own]);
            told.extend(names.map(|name| (name.clone(), Loaded::Found(Arc::clone(account)))));
            let lost = before.aliases.iter().filter(|name| !account.aliases.contains(name));
            // An account that has got the name is told of by itself.
            let lost = lost.filter(|name| !self.owners.contains_key(*name));
            told.extend(lost.map(|name| (name.clone(), Loaded::NotFound)));
        }
        if self.accounts.len() >= ACCOUNTS_MAX {
            self.make_room();
        }
        // What can not be written now is learnt when it is asked for again.
        if self.writes.len() < WRITES_MAX || self.writes.contains_key(own) {
            self.insert(account, copy.fingerprint);
            self.writes.insert(own.clone(), Some(copy));
            self.write_soon();
        }
    }

    fn unlearn(&mut self, own: &Aor, told: &mut Told) {
        if let Some(before) = self.forget(own) {
            let lost = before.aliases.iter().filter(|name| !self.owners.contains_key(*name)).chain([own]);
            told.extend(lost.map(|name| (name.clone(), Loaded::NotFound)));
        }
    }

    fn insert(&mut self, account: &Account, fingerprint: u64) {
        let own = &account.aor;
        self.owners.extend(account.aliases.iter().map(|alias| (alias.clone(), own.clone())));
        let aliases = account.aliases.clone().into_boxed_slice();
        self.accounts.insert(own.clone(), Known { fingerprint, aliases, was_used: true });
    }

    /// Takes an account out of memory.
    fn remove(&mut self, own: &Aor) -> Option<Known> {
        let before = self.accounts.remove(own)?;
        for alias in &before.aliases {
            if self.owners.get(alias) == Some(own) {
                self.owners.remove(alias);
            }
        }
        Some(before)
    }

    /// Takes an account out of memory and file.
    fn forget(&mut self, own: &Aor) -> Option<Known> {
        let before = self.remove(own)?;
        self.writes.insert(own.clone(), None);
        self.write_soon();
        Some(before)
    }

    /// Forgets one that was not used for long: the first that was not since the hand passed it last.
    fn make_room(&mut self) {
        // After one round nobody counts as used.
        for _ in 0..=2 * ACCOUNTS_MAX {
            let from = self.hand.take().map_or(Bound::Unbounded, Bound::Excluded);
            let Some((own, known)) = self.accounts.range_mut::<Aor, _>((from, Bound::Unbounded)).next()
            else {
                continue;
            };
            let own = own.clone();
            let was_used = std::mem::take(&mut known.was_used);
            self.hand = Some(own.clone());
            if !was_used {
                self.forget(&own);
                return;
            }
        }
    }

    fn write_soon(&mut self) {
        self.write_at.get_or_insert_with(|| Instant::now() + GATHER);
    }
}

fn write_batch(
    connection: &mut Connection,
    batch: &[(Aor, Option<AccountCopy>)],
    confirmed: Option<WallTime>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (own, copy) in batch {
        match copy {
            Some(copy) => copies::write(&transaction, own, copy)?,
            None => copies::remove(&transaction, own)?,
        }
    }
    if let Some(at) = confirmed {
        copies::confirm(&transaction, at)?;
    }
    transaction.commit()
}

impl std::fmt::Debug for AccountCopies {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AccountCopies({:?})", self.place)
    }
}

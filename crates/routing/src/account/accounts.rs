//! What the store said about accounts, and who waits for it to say more.
//!
//! A known account is used at once, whatever its age, so the service goes on while the store is away;
//! an old one is asked for again in the background. That there is no account is believed for a short
//! time only, and kept apart, so that strangers who try names can not drive out those who exist. One
//! address of record is asked for once, however many wait.
//!
//! Invariant: everything that waits ends, by the store's word or by the time limit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clock::Instant;
use keys::Key;
use sip::Aor;

use super::aor_table::AorTable;
use super::cache::Cache;
use super::{AOR_BYTES_MAX, Asker, Loaded};
use crate::{Account, Authenticate};

/// Accounts that are remembered in one partition; about 600 bytes each.
const ACCOUNTS_MAX: usize = 1 << 17;
/// Names without an account that are remembered; about 100 bytes each.
const UNKNOWN_MAX: usize = 1 << 14;
/// Look-ups that the store may owe.
const LOADS_MAX: usize = 4_096;
/// Requests that may wait for the store, in all and for one account.
const WAITERS_MAX: usize = 16_384;
const WAITERS_OF_ONE_MAX: usize = 64;

/// Older knowledge is used, and asked for again. What this server changes itself is known at once.
const REFRESH_AGE: Duration = Duration::from_secs(300);
/// A wrong password is not believed to be wrong if the account is older than this: it may have been changed in
/// the database by somebody else.
const RECHECK_AGE: Duration = Duration::from_secs(5);
/// How long it is believed that there is no such account.
const UNKNOWN_AGE: Duration = Duration::from_secs(10);
/// How soon the store is asked again after it failed to refresh an account.
const RETRY_AGE: Duration = Duration::from_secs(10);
/// How long a call whose phones are known waits for what their account wants. Then it rings: while the database hangs,
/// calls go on.
const RULES_TIME_MAX: Duration = Duration::from_secs(1);
/// Longer than any request waits; then the store is taken to have forgotten.
const LOAD_TIME_MAX: Duration = Duration::from_secs(30);

/// What is known of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// It exists.
    Known(Known),
    /// It does not exist.
    Unknown,
    /// The store is to be asked.
    Nothing,
}

/// An account that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What the store said.
    pub account: Arc<Account>,
    /// Whether that was so long ago that a wrong password should be checked again.
    pub is_old: bool,
    /// Whether the store should be asked again in any case.
    pub is_due: bool,
}

/// A request that waits for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    /// Who gets the answer.
    pub asker: Asker,
    /// What it wants to know.
    pub wants: Wants,
}

/// What a request wants to know of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Whether the credentials are right.
    Verdict(Box<Authenticate>),
    /// Whether it exists.
    Existence,
    /// Whether it exists, and what it wants of a call.
    Call,
    /// What it wants of a call that its phones could take without that.
    Rules,
}

/// What becomes of a wish to ask the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The store is to be asked.
    First,
    /// It has been asked.
    Already,
    /// Too many wait; this one does not.
    Full,
}

/// What follows from the store's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// These wait no more.
    Wake(Vec<Waiter>),
    /// The account was changed after the store had looked: it is to be asked again.
    AskAgain,
}

/// The accounts of a partition.
#[derive(Debug)]
pub(super) struct Accounts {
    known: Cache<Entry>,
    unknown: Cache<Instant>,
    loads: AorTable<Load>,
    deadlines: BTreeSet<(Instant, u32)>,
    waiters: usize,
}

#[derive(Debug)]
struct Entry {
    account: Arc<Account>,
    /// From then on a wrong password is checked again.
    old_at: Instant,
    due_at: Instant,
}

#[derive(Debug)]
struct Load {
    waiters: Vec<Waiter>,
    gives_up_at: Instant,
    /// When those that wait for rules go on without; `None` while there are none.
    hurries_at: Option<Instant>,
    is_outdated: bool,
}

impl Accounts {
    /// Knows nothing.
    pub(super) fn new(key: &Key) -> Self {
        Self {
            known: Cache::new(key, ACCOUNTS_MAX),
            unknown: Cache::new(key, UNKNOWN_MAX),
            loads: AorTable::new(key),
            deadlines: BTreeSet::new(),
            waiters: 0,
        }
    }

    /// What is known of an account.
    pub(super) fn find(&mut self, now: Instant, aor: &Aor) -> Knowledge {
        if let Some(entry) = self.known.find(aor) {
            return Knowledge::Known(Known {
                account: Arc::clone(&entry.account),
                is_old: now >= entry.old_at,
                is_due: now >= entry.due_at,
            });
        }
        if aor.as_str().len() > AOR_BYTES_MAX {
            return Knowledge::Unknown;
        }
        match self.unknown.find(aor) {
            Some(until) if now < *until => Knowledge::Unknown,
            _ => Knowledge::Nothing,
        }
    }

    /// Wants the store to be asked, without waiting for it.
    pub(super) fn refresh(&mut self, now: Instant, aor: &Aor) -> Asked {
        match self.loads.find(aor) {
            Some(_) => Asked::Already,
            None if self.loads.len() >= LOADS_MAX => Asked::Full,
            None => self.ask(now, aor, Vec::new()),
        }
    }

    /// Wants the store to be asked, and waits for it.
    pub(super) fn wait(&mut self, now: Instant, aor: &Aor, waiter: Waiter) -> Asked {
        if self.waiters >= WAITERS_MAX {
            return Asked::Full;
        }
        let Some(row) = self.loads.find(aor) else {
            if self.loads.len() >= LOADS_MAX {
                return Asked::Full;
            }
            self.waiters += 1;
            return self.ask(now, aor, vec![waiter]);
        };
        match self.loads.at_mut(row) {
            Some((_, load)) if load.waiters.len() < WAITERS_OF_ONE_MAX => {
                load.waiters.push(waiter);
                self.waiters += 1;
                self.hurry(now, row);
                Asked::Already
            }
            _ => Asked::Full,
        }
    }

    /// Takes the store's word; gives those that waited for it.
    pub(super) fn loaded(&mut self, now: Instant, aor: &Aor, loaded: &Loaded) -> Settled {
        let row = self.loads.find(aor);
        let outdated = row.and_then(|row| self.loads.at_mut(row)).filter(|(_, load)| load.is_outdated);
        if let Some((_, load)) = outdated {
            if !load.waiters.is_empty() {
                load.is_outdated = false;
                return Settled::AskAgain;
            }
        } else {
            self.learn(now, aor, loaded);
        }
        Settled::Wake(row.map_or_else(Vec::new, |row| self.end(row)))
    }

    /// Forgets an account that was changed, and its other names.
    pub(super) fn forget(&mut self, aor: &Aor) {
        self.unknown.remove(aor);
        if let Some(entry) = self.known.remove(aor) {
            for name in entry.account.aliases.iter().chain([&entry.account.aor]) {
                self.known.remove(name);
            }
        }
        if let Some((_, load)) = self.loads.find(aor).and_then(|row| self.loads.at_mut(row)) {
            load.is_outdated = true;
        }
    }

    /// Nobody waits any more, and nothing is believed of names without an account. Accounts are remembered: they serve
    /// while the store is away.
    pub(super) fn forget_waiting(&mut self, key: &Key) {
        self.unknown = Cache::new(key, UNKNOWN_MAX);
        self.loads = AorTable::new(key);
        self.deadlines.clear();
        self.waiters = 0;
    }

    /// Those for whom the store was waited for too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<(Aor, Vec<Waiter>)> {
        let mut given_up = Vec::new();
        while let Some(&(at, row)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, row));
            let Some((aor, load)) = self.loads.at_mut(row) else { continue };
            let aor = aor.clone();
            if load.gives_up_at > at {
                load.hurries_at = None;
                let impatient = |waiter: &mut Waiter| waiter.wants == Wants::Rules;
                let waiters: Vec<Waiter> = load.waiters.extract_if(.., impatient).collect();
                self.waiters -= waiters.len();
                given_up.push((aor, waiters));
            } else {
                given_up.push((aor, self.end(row)));
            }
        }
        given_up
    }

    /// When somebody will have waited too long.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// How many accounts are remembered.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    fn ask(&mut self, now: Instant, aor: &Aor, waiters: Vec<Waiter>) -> Asked {
        let gives_up_at = now + LOAD_TIME_MAX;
        let row = self
            .loads
            .insert(aor.clone(), Load { waiters, gives_up_at, hurries_at: None, is_outdated: false });
        self.deadlines.insert((gives_up_at, row));
        self.hurry(now, row);
        Asked::First
    }

    /// Sets the deadline of those that wait for rules, if there are any and it is not set.
    fn hurry(&mut self, now: Instant, row: u32) {
        let Some((_, load)) = self.loads.at_mut(row) else { return };
        if load.hurries_at.is_none() && load.waiters.iter().any(|waiter| waiter.wants == Wants::Rules) {
            let at = now + RULES_TIME_MAX;
            load.hurries_at = Some(at);
            self.deadlines.insert((at, row));
        }
    }

    fn end(&mut self, row: u32) -> Vec<Waiter> {
        let Some((_, load)) = self.loads.remove(row) else { return Vec::new() };
        self.deadlines.remove(&(load.gives_up_at, row));
        if let Some(at) = load.hurries_at {
            self.deadlines.remove(&(at, row));
        }
        self.waiters -= load.waiters.len();
        load.waiters
    }

    fn learn(&mut self, now: Instant, aor: &Aor, loaded: &Loaded) {
        match loaded {
            Loaded::Found(account) => {
                let account = Arc::clone(account);
                self.unknown.remove(aor);
                let entry = Entry { account, old_at: now + RECHECK_AGE, due_at: now + REFRESH_AGE };
                self.known.insert(aor.clone(), entry);
            }
            // What is remembered is at least as young.
            Loaded::Kept(account) if self.known.find(aor).is_none() => {
                let entry = Entry { account: Arc::clone(account), old_at: now, due_at: now + RETRY_AGE };
                self.unknown.remove(aor);
                self.known.insert(aor.clone(), entry);
            }
            Loaded::NotFound => {
                self.known.remove(aor);
                self.unknown.insert(aor.clone(), now + UNKNOWN_AGE);
            }
            Loaded::Kept(_) | Loaded::Unavailable => {
                if let Some(entry) = self.known.find(aor) {
                    entry.due_at = now + RETRY_AGE;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    #[test]
    fn one_account_is_asked_for_once_however_many_wait() {
        let mut accounts = accounts();

        assert_eq!(accounts.wait(at(0), &aor(1), waiter(1)), Asked::First);
        assert_eq!(accounts.wait(at(0), &aor(1), waiter(2)), Asked::Already);
        assert_eq!(accounts.refresh(at(0), &aor(1)), Asked::Already);
        assert_eq!(accounts.wait(at(0), &aor(2), waiter(3)), Asked::First);
        assert_eq!(accounts.loaded(at(1), &aor(1), &found(1)), Settled::Wake(vec![waiter(1), waiter(2)]));
        assert_eq!(accounts.loaded(at(1), &aor(1), &found(1)), Settled::Wake(vec![]));
    }

    #[test]
    fn an_old_account_is_used_and_due_to_be_asked_for() {
        let mut accounts = accounts();
        accounts.loaded(at(0), &aor(1), &found(1));

        let ages = [0, 5, 300].map(|seconds| match accounts.find(at(seconds), &aor(1)) {
            Knowledge::Known(known) => (known.is_old, known.is_due),
            other => panic!("{other:?}"),
        });

        assert_eq!(ages, [(false, false), (true, false), (true, true)]);
    }

    #[test]
    fn a_store_that_fails_makes_no_account_unknown_and_is_asked_again_later() {
        let mut accounts = accounts();
        accounts.loaded(at(0), &aor(1), &found(1));
        accounts.refresh(at(300), &aor(1));

        accounts.loaded(at(300), &aor(1), &Loaded::Unavailable);

        let is_due = |accounts: &mut Accounts, seconds| {
            matches!(accounts.find(at(seconds), &aor(1)), Knowledge::Known(Known { is_due: true, .. }))
        };
        assert!(!is_due(&mut accounts, 309));
        assert!(is_due(&mut accounts, 310));
        assert!(matches!(accounts.find(at(1 << 30), &aor(1)), Knowledge::Known(_)));
    }

    #[test]
    fn an_account_that_was_kept_serves_until_the_store_says_more_and_takes_no_place_of_a_younger_one() {
        let mut accounts = accounts();
        accounts.loaded(at(0), &aor(1), &kept(1));

        let known = |accounts: &mut Accounts, seconds, number| match accounts.find(at(seconds), &aor(number))
        {
            Knowledge::Known(known) => (known.account.calls.limit, known.is_old, known.is_due),
            other => panic!("{other:?}"),
        };
        assert_eq!(known(&mut accounts, 0, 1), (Some(7), true, false));
        assert_eq!(known(&mut accounts, 10, 1), (Some(7), true, true));
        accounts.loaded(at(10), &aor(1), &found(1));
        accounts.loaded(at(11), &aor(1), &kept(1));
        assert_eq!(known(&mut accounts, 12, 1), (None, false, false));
        accounts.loaded(at(13), &aor(1), &Loaded::NotFound);
        assert_eq!(accounts.find(at(13), &aor(1)), Knowledge::Unknown);
    }

    #[test]
    fn that_there_is_no_account_is_believed_for_ten_seconds() {
        let mut accounts = accounts();
        accounts.loaded(at(0), &aor(1), &found(1));
        accounts.loaded(at(1), &aor(1), &Loaded::NotFound);

        assert_eq!(accounts.find(at(10), &aor(1)), Knowledge::Unknown);
        assert_eq!(accounts.find(at(11), &aor(1)), Knowledge::Nothing);
    }

    #[test]
    fn names_that_do_not_exist_drive_out_no_account() {
        let mut accounts = accounts();
        accounts.loaded(at(0), &aor(1), &found(1));

        for number in 2..UNKNOWN_MAX as u32 + 1_000 {
            accounts.loaded(at(0), &aor(number), &Loaded::NotFound);
        }

        assert!(matches!(accounts.find(at(0), &aor(1)), Knowledge::Known(_)));
        assert_eq!(accounts.unknown.len(), UNKNOWN_MAX);
    }

    #[test]
    fn what_the_store_read_before_a_change_is_not_believed() {
        let mut accounts = accounts();
        accounts.wait(at(0), &aor(1), waiter(1));
        accounts.forget(&aor(1));

        assert_eq!(accounts.loaded(at(1), &aor(1), &found(1)), Settled::AskAgain);
        assert_eq!(accounts.find(at(1), &aor(1)), Knowledge::Nothing);
        assert_eq!(accounts.loaded(at(2), &aor(1), &found(1)), Settled::Wake(vec![waiter(1)]));
        assert!(matches!(accounts.find(at(2), &aor(1)), Knowledge::Known(_)));
    }

    #[test]
    fn a_changed_account_is_forgotten_under_all_its_names() {
        let mut accounts = accounts();
        let account = Arc::new(Account { aliases: vec![aor(7)], ..account(1) });
        accounts.loaded(at(0), &aor(1), &Loaded::Found(Arc::clone(&account)));
        accounts.loaded(at(0), &aor(7), &Loaded::Found(account));

        accounts.forget(&aor(1));

        assert_eq!(accounts.find(at(0), &aor(1)), Knowledge::Nothing);
        assert_eq!(accounts.find(at(0), &aor(7)), Knowledge::Nothing);
    }

    #[test]
    fn who_waits_too_long_is_given_up_and_asked_for_anew() {
        let mut accounts = accounts();
        accounts.wait(at(0), &aor(1), waiter(1));

        assert_eq!(accounts.poll_timeout(), Some(at(30)));
        assert_eq!(accounts.handle_timeout(at(29)), []);
        assert_eq!(accounts.handle_timeout(at(30)), [(aor(1), vec![waiter(1)])]);
        assert_eq!(accounts.poll_timeout(), None);
        assert_eq!(accounts.wait(at(31), &aor(1), waiter(2)), Asked::First);
    }

    #[test]
    fn a_call_waits_a_second_for_its_rules_and_others_wait_on() {
        let mut accounts = accounts();
        let impatient = Waiter { wants: Wants::Rules, ..waiter(2) };
        accounts.wait(at(0), &aor(1), waiter(1));
        accounts.wait(at(5), &aor(1), impatient.clone());

        assert_eq!(accounts.poll_timeout(), Some(at(6)));
        assert_eq!(accounts.handle_timeout(at(6)), [(aor(1), vec![impatient.clone()])]);
        assert_eq!(accounts.poll_timeout(), Some(at(30)));
        accounts.wait(at(7), &aor(1), impatient.clone());
        assert_eq!(accounts.loaded(at(7), &aor(1), &found(1)), Settled::Wake(vec![waiter(1), impatient]));
        assert_eq!(accounts.poll_timeout(), None);
        assert_eq!(accounts.waiters, 0);
    }

    #[test]
    fn too_many_waiters_are_refused_for_one_account_and_in_all() {
        let mut accounts = accounts();
        for number in 0..WAITERS_OF_ONE_MAX as u64 {
            assert_ne!(accounts.wait(at(0), &aor(1), waiter(number)), Asked::Full);
        }
        assert_eq!(accounts.wait(at(0), &aor(1), waiter(99)), Asked::Full);

        for number in 2..=LOADS_MAX as u32 {
            assert_eq!(accounts.wait(at(0), &aor(number), waiter(1)), Asked::First);
        }
        assert_eq!(accounts.wait(at(0), &aor(0), waiter(1)), Asked::Full);
        assert_eq!(accounts.refresh(at(0), &aor(0)), Asked::Full);

        accounts.handle_timeout(at(30));
        assert_eq!(accounts.waiters, 0);
        assert_eq!(accounts.wait(at(30), &aor(0), waiter(1)), Asked::First);
    }

    fn accounts() -> Accounts {
        Accounts::new(&keys::RootKey::new([1; 32]).subkey("test", 0))
    }

    fn found(number: u32) -> Loaded {
        Loaded::Found(Arc::new(account(number)))
    }

    fn kept(number: u32) -> Loaded {
        let calls = crate::CallRules { limit: Some(7), ..Default::default() };
        Loaded::Kept(Arc::new(Account { calls, ..account(number) }))
    }

    fn account(number: u32) -> Account {
        Account { aor: aor(number), ha1: vec![], aliases: vec![], may_use: vec![], calls: Default::default() }
    }

    fn waiter(number: u64) -> Waiter {
        Waiter { asker: Asker { shard: 0, token: Token(number) }, wants: Wants::Existence }
    }

    fn aor(number: u32) -> Aor {
        Aor::parse(&format!("user{number}@example.org")).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}

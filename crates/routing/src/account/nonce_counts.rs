//! Which counts of a nonce were used (RFC 7616 §3.4, `nc`), so that a replayed request is refused
//! (RFC 7616 §5.5).
//!
//! Nonces are stateless; only one that was used with a right password stands here, so strangers can
//! not fill the table. Datagrams overtake each other, therefore the 64 counts up to the highest
//! are told apart one by one; what is older counts as used.
//!
//! Another node may be told what changes: [`NonceCounts::take_changes`] gives it in pieces, long after the request, so
//! that a request costs a note and no more. What that node tells is joined with what is known here.
//!
//! Invariant: a count that was accepted is not accepted again while the nonce lives, also when the
//! table overflows: then the nonces that end first go, and a nonce that ends no later than one that
//! went is taken for used up. A phone that meets this gets a fresh nonce and goes on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clock::{Deadlines, Instant, Now};
use keys::Key;
use sip::Aor;

use super::StoredNonce;

/// Nonces in use in one partition; about 150 bytes each. Phones that register once a minute with a nonce of
/// five minutes need one each.
const NONCES_MAX: usize = 1 << 18;

/// Kept longer than the nonce's life, because the shards count that by a calendar that may be moved.
const SLACK: Duration = Duration::from_secs(30);

/// How many counts are told apart.
const WINDOW: u32 = u64::BITS;

/// What a nonce count is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It was not used before; it is used from here on.
    First,
    /// It was used, or nobody knows.
    Used,
}

/// What has become of a nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NonceChange {
    /// It is in use with these counts.
    Put(StoredNonce),
    /// It has ended.
    Remove([u8; 16]),
}

/// The nonces in use.
#[derive(Debug)]
pub(super) struct NonceCounts {
    key: Key,
    /// Whose counts have changed since they were taken; absent if nobody takes them.
    notes: Option<VecDeque<[u8; 16]>>,
    nonces: BTreeMap<[u8; 16], Nonce>,
    ends: Deadlines<[u8; 16]>,
    forgotten_until: Instant,
    nonces_max: usize,
}

#[derive(Debug)]
struct Nonce {
    account: Aor,
    counts: Window,
    ends_at: Instant,
    /// Whether it stands among the notes.
    is_noted: bool,
}

/// The highest count and the 63 below it: bit `n` stands for `highest - n`.
#[derive(Clone, Copy, Debug)]
struct Window {
    highest: u32,
    used: u64,
}

impl NonceCounts {
    /// No nonce is in use.
    pub(super) fn new(key: &Key) -> Self {
        Self {
            key: *key,
            notes: None,
            nonces: BTreeMap::new(),
            ends: Deadlines::default(),
            forgotten_until: Instant::START,
            nonces_max: NONCES_MAX,
        }
    }

    /// Uses a nonce with a right password. `count` is `None` for the old form without counts: it uses the
    /// nonce up. `left` is how long the nonce is good.
    pub(super) fn use_count(
        &mut self,
        now: Instant,
        account: &Aor,
        nonce: &[u8],
        count: Option<u32>,
        left: Duration,
    ) -> Use {
        let id = self.id(account, nonce);
        if let Some(known) = self.nonces.get_mut(&id) {
            let used = match count {
                Some(count) => known.counts.use_count(count),
                None => Use::Used,
            };
            if used == Use::First {
                self.note(id);
            }
            return used;
        }
        let ends_at = now + left + SLACK;
        if ends_at <= self.forgotten_until || count == Some(0) {
            return Use::Used;
        }
        let counts = count.map_or(Window::FULL, Window::new);
        self.add(id, Nonce { account: account.clone(), counts, ends_at, is_noted: false });
        self.note(id);
        Use::First
    }

    /// Whether an account has used a nonce with a right password.
    pub(super) fn is_known(&self, account: &Aor, nonce: &[u8]) -> bool {
        self.nonces.contains_key(&self.id(account, nonce))
    }

    /// Takes a nonce that was in use before the restart, or on another node: what either knows as used is used. Gives
    /// its number; `None` if it has ended.
    pub(super) fn restore(&mut self, now: Now, stored: StoredNonce) -> Option<u64> {
        let left = stored.expires_at.since(now.wall);
        if left.is_zero() {
            return None;
        }
        let counts = Window { highest: stored.highest, used: stored.used };
        match self.nonces.get_mut(&stored.nonce) {
            Some(known) => known.counts = known.counts.joined(counts),
            None => {
                let (account, ends_at) = (stored.account, now.instant + left);
                self.add(stored.nonce, Nonce { account, counts, ends_at, is_noted: false });
            }
        }
        Some(number_of(stored.nonce))
    }

    /// From here on it is noted what changes.
    pub(super) fn note_changes(&mut self) {
        self.notes.get_or_insert_default();
    }

    /// What has changed since it was taken last, in the order in which it did: at most so many.
    pub(super) fn take_changes(&mut self, now: Now, count: usize) -> Vec<NonceChange> {
        let Some(notes) = &mut self.notes else { return Vec::new() };
        let taken: Vec<[u8; 16]> = notes.drain(..count.min(notes.len())).collect();
        let change = |nonce: [u8; 16]| match self.nonces.get_mut(&nonce) {
            Some(known) => {
                known.is_noted = false;
                NonceChange::Put(known.stored(now, nonce))
            }
            None => NonceChange::Remove(nonce),
        };
        taken.into_iter().map(change).collect()
    }

    /// The nonce with this number, as it is.
    pub(super) fn find(&self, now: Now, number: u64) -> Option<StoredNonce> {
        let (&nonce, known) = self.by_number(number)?;
        (known.ends_at > now.instant).then(|| known.stored(now, nonce))
    }

    /// Ends the nonce with this number, because the active node says that it has ended.
    pub(super) fn withdraw(&mut self, number: u64) {
        // Its deadline stays and finds nothing.
        if let Some(nonce) = self.by_number(number).map(|(&nonce, _)| nonce) {
            self.nonces.remove(&nonce);
        }
    }

    fn by_number(&self, number: u64) -> Option<(&[u8; 16], &Nonce)> {
        let mut first = [0; 16];
        first[..8].copy_from_slice(&number.to_be_bytes());
        self.nonces.range(first..).next().filter(|(nonce, _)| number_of(**nonce) == number)
    }

    /// Notes of changes that nobody has taken: all nonces there can be, and as many that have ended.
    fn notes_max(&self) -> usize {
        2 * self.nonces_max
    }

    fn note(&mut self, nonce: [u8; 16]) {
        let notes_max = self.notes_max();
        let Some(notes) = self.notes.as_mut().filter(|notes| notes.len() < notes_max) else { return };
        let is_noted =
            self.nonces.get_mut(&nonce).is_some_and(|known| std::mem::replace(&mut known.is_noted, true));
        if !is_noted {
            notes.push_back(nonce);
        }
    }

    /// All nonces in use, in the order of their ids.
    pub(super) fn stored(&self, now: Now) -> Vec<StoredNonce> {
        self.nonces.iter().map(|(&nonce, known)| known.stored(now, nonce)).collect()
    }

    /// Forgets what has ended.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.ends.pop_due(now) {
            self.end(id);
        }
    }

    /// When the next nonce ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ends.next()
    }

    fn id(&self, account: &Aor, nonce: &[u8]) -> [u8; 16] {
        *self.key.mac(&[b"nonce count", account.as_str().as_bytes(), nonce]).as_bytes()
    }

    /// Whether it was there.
    fn end(&mut self, id: [u8; 16]) -> bool {
        let Some(ended) = self.nonces.remove(&id) else { return false };
        let notes_max = self.notes_max();
        if let Some(notes) = self.notes.as_mut().filter(|notes| !ended.is_noted && notes.len() < notes_max) {
            notes.push_back(id);
        }
        true
    }

    fn add(&mut self, id: [u8; 16], nonce: Nonce) {
        if self.nonces.len() >= self.nonces_max {
            // Each nonce has a deadline; that of one which was withdrawn finds nothing.
            while let Some((ends_at, first)) = self.ends.pop_due(Instant::FAR) {
                self.forgotten_until = self.forgotten_until.max(ends_at);
                if self.end(first) {
                    break;
                }
            }
        }
        self.ends.push(nonce.ends_at, id);
        self.nonces.insert(id, nonce);
    }
}

impl Nonce {
    fn stored(&self, now: Now, nonce: [u8; 16]) -> StoredNonce {
        StoredNonce {
            account: self.account.clone(),
            nonce,
            highest: self.counts.highest,
            used: self.counts.used,
            expires_at: now.wall + self.ends_at.since(now.instant),
        }
    }
}

impl StoredNonce {
    /// Its number in its partition.
    pub fn number(&self) -> u64 {
        number_of(self.nonce)
    }
}

/// What a nonce is known by where a number is wanted: the first half of a MAC, which no two nonces in use have in common.
fn number_of(nonce: [u8; 16]) -> u64 {
    let [first @ .., _, _, _, _, _, _, _, _] = nonce;
    u64::from_be_bytes(first)
}

impl Window {
    /// Every count is used.
    const FULL: Self = Self { highest: u32::MAX, used: u64::MAX };

    const fn new(first: u32) -> Self {
        Self { highest: first, used: 1 }
    }

    /// What was used by either.
    fn joined(self, other: Self) -> Self {
        let (high, low) = if self.highest >= other.highest { (self, other) } else { (other, self) };
        let behind = high.highest - low.highest;
        let used = if behind < WINDOW { low.used << behind } else { 0 };
        Self { highest: high.highest, used: high.used | used }
    }

    fn use_count(&mut self, count: u32) -> Use {
        if count > self.highest {
            let ahead = count - self.highest;
            self.used = if ahead < WINDOW { self.used << ahead } else { 0 };
            self.used |= 1;
            self.highest = count;
            return Use::First;
        }
        let behind = self.highest - count;
        if count == 0 || behind >= WINDOW || self.used & 1 << behind != 0 {
            return Use::Used;
        }
        self.used |= 1 << behind;
        Use::First
    }
}

#[cfg(test)]
mod tests {
    use clock::WallTime;

    use super::*;

    #[test]
    fn counts_that_overtook_each_other_are_each_good_once() {
        let mut counts = counts();

        let uses = [1, 3, 2, 2, 3, 1].map(|count| use_count(&mut counts, b"n", count));

        assert_eq!(uses, [Use::First, Use::First, Use::First, Use::Used, Use::Used, Use::Used]);
    }

    #[test]
    fn changes_are_taken_once_in_their_order_and_none_is_noted_where_nobody_takes_them() {
        let mut counts = counts();
        use_count(&mut counts, b"before", 1);
        assert_eq!(counts.take_changes(NOW, 9), []);
        counts.note_changes();
        for (nonce, count) in [(&b"a"[..], 1), (b"b", 1), (b"a", 2), (b"a", 2)] {
            use_count(&mut counts, nonce, count);
        }

        let first = counts.take_changes(NOW, 1);
        let rest = counts.take_changes(NOW, 9);

        assert!(matches!(&first[..], [NonceChange::Put(a)] if a.highest == 2), "{first:?}");
        assert!(matches!(&rest[..], [NonceChange::Put(b)] if b.highest == 1), "{rest:?}");
        assert_eq!(counts.take_changes(NOW, 9), []);
    }

    #[test]
    fn a_change_that_found_no_room_among_the_notes_does_not_silence_the_next_ones() {
        let mut counts = counts();
        counts.nonces_max = 2;
        counts.note_changes();
        for (seconds, nonce) in [b"a", b"b", b"c", b"d", b"e"].into_iter().enumerate() {
            let at = AT + Duration::from_secs(seconds as u64);
            assert_eq!(counts.use_count(at, &aor("alice"), nonce, Some(1), LIFE), Use::First);
        }
        assert_eq!(counts.take_changes(NOW, 9).len(), 4);

        use_count(&mut counts, b"e", 2);

        let taken = counts.take_changes(NOW, 9);
        assert!(matches!(&taken[..], [NonceChange::Put(e)] if e.highest == 2), "{taken:?}");
    }

    #[test]
    fn the_end_of_a_nonce_is_a_change() {
        let mut counts = counts();
        counts.note_changes();
        use_count(&mut counts, b"a", 1);
        let taken = counts.take_changes(NOW, 9);
        let [NonceChange::Put(put)] = &taken[..] else { panic!("{taken:?}") };

        counts.handle_timeout(AT + LIFE + SLACK);

        assert_eq!(counts.take_changes(NOW, 9), [NonceChange::Remove(put.nonce)]);
    }

    #[test]
    fn what_another_node_knows_as_used_is_used_and_so_is_what_this_one_knows() {
        let (mut one, mut other) = (counts(), counts());
        for (counts, used) in [(&mut one, [1, 3, 70]), (&mut other, [2, 5, 68])] {
            for count in used {
                use_count(counts, b"n", count);
            }
        }

        let stored = one.stored(NOW).remove(0);
        let number = other.restore(NOW, stored.clone()).unwrap();

        assert_eq!(other.find(NOW, number).map(|it| (it.nonce, it.highest)), Some((stored.nonce, 70)));
        for used in [70, 68, 1, 2, 3] {
            assert_eq!(use_count(&mut other, b"n", used), Use::Used, "{used}");
        }
        assert_eq!(use_count(&mut other, b"n", 69), Use::First);
        other.withdraw(number);
        assert_eq!(other.find(NOW, number), None);
    }

    #[test]
    fn a_nonce_that_was_withdrawn_leaves_a_deadline_that_pushes_nothing_out() {
        let mut counts = counts();
        counts.nonces_max = 2;
        for nonce in [&b"a"[..], b"b"] {
            use_count(&mut counts, nonce, 1);
        }
        let first = number_of(counts.stored(NOW)[0].nonce);
        counts.withdraw(first);
        for nonce in [&b"c"[..], b"d", b"e"] {
            use_count(&mut counts, nonce, 1);
        }

        assert_eq!(counts.stored(NOW).len(), 2);
    }

    #[test]
    fn a_count_of_64_behind_the_highest_is_used() {
        let mut counts = counts();
        use_count(&mut counts, b"n", 100);

        assert_eq!(use_count(&mut counts, b"n", 37), Use::First);
        assert_eq!(use_count(&mut counts, b"n", 36), Use::Used);
    }

    #[test]
    fn a_leap_beyond_the_window_leaves_nothing_used_behind_it_but_what_it_passed() {
        let mut counts = counts();
        use_count(&mut counts, b"n", 1);
        use_count(&mut counts, b"n", 1_000);

        assert_eq!(use_count(&mut counts, b"n", 1), Use::Used);
        assert_eq!(use_count(&mut counts, b"n", 999), Use::First);
        assert_eq!(use_count(&mut counts, b"n", 1_000), Use::Used);
    }

    #[test]
    fn every_single_count_is_accepted_once_in_any_order_within_the_window() {
        let mut counts = counts();
        for block in 0..10 {
            for count in (1..=60).rev() {
                assert_eq!(use_count(&mut counts, b"n", 60 * block + count), Use::First);
            }
            for count in 1..=60 {
                assert_eq!(use_count(&mut counts, b"n", 60 * block + count), Use::Used);
            }
        }
    }

    #[test]
    fn a_count_of_zero_and_the_highest_number_do_no_harm() {
        let mut counts = counts();

        assert_eq!(use_count(&mut counts, b"n", 0), Use::Used);
        assert_eq!(use_count(&mut counts, b"n", u32::MAX), Use::First);
        assert_eq!(use_count(&mut counts, b"n", u32::MAX), Use::Used);
        assert_eq!(use_count(&mut counts, b"n", 0), Use::Used);
    }

    #[test]
    fn a_nonce_without_counts_is_good_once_and_never_with_counts_again() {
        let mut counts = counts();
        let plain = |counts: &mut NonceCounts| counts.use_count(AT, &aor("alice"), b"n", None, LIFE);

        assert_eq!(plain(&mut counts), Use::First);
        assert_eq!(plain(&mut counts), Use::Used);
        assert_eq!(use_count(&mut counts, b"n", 1), Use::Used);
        assert_eq!(use_count(&mut counts, b"n", u32::MAX), Use::Used);

        use_count(&mut counts, b"m", 1);
        assert_eq!(counts.use_count(AT, &aor("alice"), b"m", None, LIFE), Use::Used);
    }

    #[test]
    fn two_accounts_may_use_one_nonce() {
        let mut counts = counts();

        assert_eq!(counts.use_count(AT, &aor("alice"), b"n", Some(1), LIFE), Use::First);
        assert_eq!(counts.use_count(AT, &aor("bob"), b"n", Some(1), LIFE), Use::First);
    }

    #[test]
    fn a_used_count_stays_used_until_the_nonce_has_ended() {
        let mut counts = counts();
        use_count(&mut counts, b"n", 1);

        counts.handle_timeout(AT + LIFE);
        assert_eq!(counts.use_count(AT + LIFE, &aor("alice"), b"n", Some(1), Duration::ZERO), Use::Used);

        counts.handle_timeout(AT + LIFE + SLACK);
        assert_eq!(counts.poll_timeout(), None);
        assert!(counts.nonces.is_empty());
    }

    #[test]
    fn an_overflow_forgets_no_use() {
        let mut counts = counts();
        counts.nonces_max = 2;
        for (seconds, nonce) in [b"0", b"1", b"2"].into_iter().enumerate() {
            let at = AT + Duration::from_secs(seconds as u64);
            assert_eq!(counts.use_count(at, &aor("alice"), nonce, Some(1), LIFE), Use::First);
        }
        let later = AT + Duration::from_secs(3);
        let left = LIFE - Duration::from_secs(3);

        assert_eq!(counts.nonces.len(), 2);
        assert_eq!(counts.use_count(later, &aor("alice"), b"0", Some(1), left), Use::Used);
        assert_eq!(counts.use_count(later, &aor("alice"), b"1", Some(2), left), Use::First);
        assert_eq!(counts.use_count(later, &aor("alice"), b"new", Some(1), LIFE), Use::First);
    }

    #[test]
    fn an_old_nonce_goes_on_with_the_next_count_after_a_restart() {
        let now = Now::new(AT, WallTime::from_millis(1_000_000));
        let mut before = counts();
        for count in [1, 2, 4] {
            use_count(&mut before, b"n", count);
        }
        let mut after = counts();
        for stored in before.stored(now) {
            after.restore(now, stored);
        }

        assert_eq!(use_count(&mut after, b"n", 4), Use::Used);
        assert_eq!(use_count(&mut after, b"n", 3), Use::First);
        assert_eq!(use_count(&mut after, b"n", 5), Use::First);
        assert_eq!(after.poll_timeout(), before.poll_timeout());
    }

    #[test]
    fn a_stored_nonce_that_has_ended_is_not_restored() {
        let now = Now::new(AT, WallTime::from_millis(1_000_000));
        let mut before = counts();
        use_count(&mut before, b"n", 1);
        let mut after = counts();

        for stored in before.stored(now) {
            after.restore(Now::new(AT, now.wall + LIFE + SLACK), stored);
        }

        assert!(after.nonces.is_empty());
    }

    const NOW: Now = Now::new(AT, WallTime::from_millis(1_700_000_000_000));
    const AT: Instant = Instant::from_nanos(1_000_000_000);
    const LIFE: Duration = Duration::from_secs(300);

    fn counts() -> NonceCounts {
        NonceCounts::new(&keys::RootKey::new([1; 32]).subkey("test", 0))
    }

    fn use_count(counts: &mut NonceCounts, nonce: &[u8], count: u32) -> Use {
        counts.use_count(AT, &aor("alice"), nonce, Some(count), LIFE)
    }

    fn aor(user: &str) -> Aor {
        Aor::parse(&format!("{user}@example.org")).unwrap()
    }
}

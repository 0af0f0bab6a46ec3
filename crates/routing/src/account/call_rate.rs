//! How many calls an account begins: a stolen password is worth what it can call before somebody notices.

use clock::Instant;
use sip::Aor;

use crate::bans::{Bucket, Rate, Table};

/// Accounts that call, in one partition; about 200 bytes each. One that is forgotten has its whole rate again.
const ACCOUNTS_MAX: usize = 1 << 14;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// It may begin.
    Granted,
    /// The account has begun too many just now, for the first time since it had its whole rate.
    SpentNow,
    /// The same, and it was told before.
    Spent,
}

/// The calls of one partition's accounts.
#[derive(Debug)]
pub(super) struct CallRates {
    accounts: Table<Aor, Calls>,
}

#[derive(Clone, Copy, Debug)]
struct Calls {
    bucket: Bucket,
    is_spent: bool,
}

impl CallRates {
    /// Nobody has called.
    pub(super) fn new() -> Self {
        Self { accounts: Table::new(ACCOUNTS_MAX) }
    }

    /// An account begins a call; `per_minute` of them are granted, 0: all.
    pub(super) fn begin(&mut self, now: Instant, per_minute: u32, account: &Aor) -> Allowance {
        if per_minute == 0 {
            return Allowance::Granted;
        }
        let rate = Rate::per_minute(per_minute);
        let fresh = Calls { bucket: Bucket::full(now), is_spent: false };
        let calls = self.accounts.touch(account.clone(), || fresh);
        if calls.bucket.is_full(now) {
            calls.is_spent = false;
        }
        if !calls.bucket.is_empty(rate, now) {
            calls.bucket.take(rate, now, 1);
            return Allowance::Granted;
        }
        if std::mem::replace(&mut calls.is_spent, true) { Allowance::Spent } else { Allowance::SpentNow }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_stolen_password_calls_at_the_rate_and_is_told_of_once() {
        let mut rates = CallRates::new();
        let granted = |rates: &mut CallRates, now| {
            let calls = (0..1_000).map(|_| rates.begin(now, 60, &aor("alice"))).collect::<Vec<_>>();
            let of = |wanted| calls.iter().filter(|allowance| **allowance == wanted).count();
            (of(Allowance::Granted), of(Allowance::SpentNow))
        };

        assert_eq!(granted(&mut rates, at(0)), (60, 1));
        assert_eq!(granted(&mut rates, at(10)), (10, 0));
        assert_eq!(rates.begin(at(10), 60, &aor("bob")), Allowance::Granted);
        assert_eq!(granted(&mut rates, at(1_000)), (60, 1));
    }

    #[test]
    fn without_a_limit_all_are_granted_and_nothing_is_kept() {
        let mut rates = CallRates::new();

        assert!((0..10_000).all(|_| rates.begin(at(0), 0, &aor("alice")) == Allowance::Granted));
        assert!(rates.accounts.is_empty());
    }

    fn aor(user: &str) -> Aor {
        Aor::parse(&format!("{user}@example.org")).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}

//! The calls of each account, or of each gateway, that has a limit for them.
//!
//! There is no counter that could drift: what is counted are the entries, one for each call, and each of them goes
//! when its call ends, or at its deadline if nobody says so.

use std::collections::BTreeMap;

use clock::Instant;
use sip::Aor;

use crate::{Answer, CallName};

/// Calls of one partition; about 150 bytes each. Where there are more, no account has room for another one.
const CALLS_MAX: usize = 1 << 18;

/// The calls of a partition's accounts.
#[derive(Debug, Default)]
pub(super) struct Calls {
    by_account: BTreeMap<Aor, BTreeMap<CallName, Instant>>,
    count: usize,
}

impl Calls {
    /// Takes a call of an account in, unless it has `max` others. `until` is when it is taken to have ended.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        account: &Aor,
        call: CallName,
        max: u32,
        until: Instant,
    ) -> bool {
        if self.count >= CALLS_MAX {
            self.purge(now);
        }
        let has_room = self.count < CALLS_MAX;
        let calls = self.by_account.entry(account.clone()).or_default();
        let before = calls.len();
        calls.retain(|_, until| now < *until);
        // The same call again: a request that was repeated with other credentials.
        let is_admitted = calls.contains_key(&call)
            || has_room && u32::try_from(calls.len()).is_ok_and(|count| count < max);
        if is_admitted {
            calls.insert(call, until);
        }
        self.count = self.count + calls.len() - before;
        if calls.is_empty() {
            self.by_account.remove(account);
        }
        is_admitted
    }

    /// As [`Self::admit`], for a call that a gateway is to be given.
    pub(super) fn enter_gateway(
        &mut self,
        now: Instant,
        gateway: Aor,
        call: CallName,
        max: u32,
        until: Instant,
    ) -> Answer {
        match self.admit(now, &gateway, call, max, until) {
            true => Answer::AtGateway(gateway, call),
            false => Answer::GatewayFull,
        }
    }

    /// How many calls an account has.
    pub(super) fn count_of(&self, now: Instant, account: &Aor) -> usize {
        let calls = self.by_account.get(account).into_iter().flat_map(BTreeMap::values);
        calls.filter(|until| now < **until).count()
    }

    /// A call has ended.
    pub(super) fn leave(&mut self, account: &Aor, call: CallName) {
        let Some(calls) = self.by_account.get_mut(account) else { return };
        if calls.remove(&call).is_some() {
            self.count -= 1;
        }
        if calls.is_empty() {
            self.by_account.remove(account);
        }
    }

    fn purge(&mut self, now: Instant) {
        self.by_account.retain(|_, calls| {
            calls.retain(|_, until| now < *until);
            !calls.is_empty()
        });
        self.count = self.by_account.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_account_has_no_more_calls_than_its_limit_until_one_ends() {
        let mut calls = Calls::default();
        assert!(calls.admit(at(0), &alice(), call(1), 2, at(100)));
        assert!(calls.admit(at(1), &alice(), call(2), 2, at(100)));
        assert!(!calls.admit(at(2), &alice(), call(3), 2, at(100)));
        assert!(calls.admit(at(2), &alice(), call(1), 2, at(100)), "it is the same call");

        assert_eq!(calls.count_of(at(2), &alice()), 2);
        calls.leave(&alice(), call(2));
        calls.leave(&alice(), call(2));
        assert_eq!((calls.count_of(at(2), &alice()), calls.count_of(at(100), &alice())), (1, 0));

        assert!(calls.admit(at(3), &alice(), call(3), 2, at(100)));
        assert!(!calls.admit(at(3), &alice(), call(4), 2, at(100)));
    }

    #[test]
    fn a_call_whose_end_nobody_told_ends_at_its_deadline() {
        let mut calls = Calls::default();
        calls.admit(at(0), &alice(), call(1), 1, at(100));

        assert!(!calls.admit(at(99), &alice(), call(2), 1, at(200)));
        assert!(calls.admit(at(100), &alice(), call(2), 1, at(200)));
    }

    #[test]
    fn nothing_is_kept_of_accounts_without_calls() {
        let mut calls = Calls::default();
        calls.admit(at(0), &alice(), call(1), 1, at(100));
        calls.leave(&alice(), call(1));
        assert!(!calls.admit(at(0), &alice(), call(1), 0, at(100)));

        assert!(calls.by_account.is_empty());
        assert_eq!(calls.count, 0);
    }

    fn call(number: u8) -> CallName {
        CallName::of(&keys::RootKey::new([1; 32]).subkey("test", 0), &[number], b"tag")
    }

    fn alice() -> Aor {
        Aor::parse("alice@example.org").unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::START + Duration::from_secs(seconds)
    }
}

//! What each phone was promised, and whether a server keeps it.
//!
//! A promise is a 200 that has come. A REGISTER that is under way promises nothing, but it may have been carried out, so
//! that what it would change is not judged.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::Contact;

/// A server counts whole seconds and rounds down, and so does who reads them.
const ROUNDING: Duration = Duration::from_secs(2);
/// So many findings are told.
const TOLD_MAX: usize = 8;

/// The last 200 that a phone got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// None so far.
    #[default]
    Nothing,
    /// It is registered for a time that began between the first sending of its REGISTER and the 200.
    Bound {
        /// When it was first sent, since 1970.
        from: Duration,
        /// For how long.
        granted: Duration,
    },
    /// It is not registered any more.
    Gone {
        /// When its REGISTER was first sent, since 1970.
        from: Duration,
    },
}

/// One phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it was promised.
    pub promise: Promise,
    /// When the promise came, since 1970.
    pub at: Duration,
    /// REGISTERs that it has begun and that register it.
    pub registers: u32,
    /// REGISTERs that it has begun and that end its registration.
    pub removals: u32,
    /// Whether one that registers it was begun after the last promise.
    pub is_registering: bool,
    /// Whether one that ends its registration was begun after the last promise.
    pub is_leaving: bool,
}

/// What a comparison has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Promises that were compared.
    pub compared: u64,
    /// Promises that could not be judged, because what is under way may have changed it.
    pub open: u64,
    /// Bindings that were promised and are not there, or are those of an earlier promise.
    pub lost: u64,
    /// Bindings that are there although their end was promised.
    pub risen: u64,
    /// Bindings that are there more than once, or of nobody.
    pub strange: u64,
    /// Whose promises were not kept.
    pub victims: Vec<u32>,
    /// The first findings in words.
    pub told: Vec<String>,
}

impl Verdict {
    /// How many promises are not kept.
    pub fn broken(&self) -> u64 {
        self.lost + self.risen + self.strange
    }

    fn tell(&mut self, phone: u32, text: String) {
        self.victims.push(phone);
        if self.told.len() < TOLD_MAX {
            self.told.push(text);
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<'a> {
    /// The phones' entries before the bindings were read.
    pub before: &'a [Entry],
    /// And after.
    pub after: &'a [Entry],
    /// When the reading began and ended, since 1970.
    pub read: (Duration, Duration),
}

impl Comparison<'_> {
    /// Compares these phones with all bindings of theirs that a server has.
    pub fn judge(&self, phones: impl IntoIterator<Item = u32>, bindings: &[Contact]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut there: BTreeMap<u32, Vec<&Contact>> = BTreeMap::new();
        for binding in bindings {
            match number(&binding.aor) {
                Some(phone) => there.entry(phone).or_default().push(binding),
                None => {
                    verdict.strange += 1;
                    verdict.told.push(format!("a binding of nobody: {binding:?}"));
                }
            }
        }
        for phone in phones {
            let found = there.get(&phone).map_or(&[][..], Vec::as_slice);
            self.judge_one(phone, found, &mut verdict);
        }
        verdict
    }

    fn judge_one(&self, phone: u32, found: &[&Contact], verdict: &mut Verdict) {
        let (before, after) = (self.before[phone as usize], self.after[phone as usize]);
        if found.len() > 1 {
            verdict.strange += 1;
            verdict.tell(phone, format!("phone {phone} has more than one binding: {found:?}"));
        }
        let may_be_gone = before.is_leaving || after.removals != before.removals;
        let may_be_there = before.is_registering || after.registers != before.registers;
        match (before.promise, found.first()) {
            (Promise::Nothing, _) => {}
            (Promise::Bound { from, granted }, Some(binding)) => {
                verdict.compared += 1;
                let least = (from + granted).saturating_sub(self.read.1 + ROUNDING);
                let most = (before.at + granted + ROUNDING).saturating_sub(self.read.0);
                // Another end is the one of an earlier promise: the last one was lost. A refresh that is under way may have
                // been granted less time, or more.
                let is_another = binding.expires < least || binding.expires > most;
                if is_another && !may_be_there {
                    verdict.lost += 1;
                    let what = format!("phone {phone} has {:?} left: {before:?}", binding.expires);
                    verdict.tell(phone, format!("{what}, between {least:?} and {most:?} were promised"));
                }
            }
            (Promise::Bound { from, granted }, None) if from + granted < self.read.1 + ROUNDING => {
                verdict.open += 1;
            }
            (Promise::Bound { .. }, None) if may_be_gone => verdict.open += 1,
            (Promise::Bound { .. }, None) => {
                verdict.compared += 1;
                verdict.lost += 1;
                verdict.tell(phone, format!("phone {phone} has no binding: {before:?}"));
            }
            (Promise::Gone { .. }, None) => verdict.compared += 1,
            (Promise::Gone { .. }, Some(_)) if may_be_there => verdict.open += 1,
            (Promise::Gone { .. }, Some(binding)) => {
                verdict.compared += 1;
                verdict.risen += 1;
                verdict
                    .tell(phone, format!("phone {phone} has ended its registration: {before:?} {binding:?}"));
            }
        }
    }
}

/// The number of a phone in its address of record.
pub fn number(aor: &str) -> Option<u32> {
    aor.strip_prefix("user")?.split_once('@')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_binding_that_is_there_for_as_long_as_was_granted_is_kept() {
        let entry = bound(100);

        assert_eq!(judge(entry, entry, &[contact(3597)]).broken(), 0);
        assert_eq!(judge(entry, entry, &[contact(3597)]).compared, 1);
    }

    #[test]
    fn a_binding_that_is_not_there_or_is_an_older_one_is_lost() {
        let entry = bound(100);

        assert_eq!(judge(entry, entry, &[]).lost, 1);
        assert_eq!(judge(entry, entry, &[contact(3400)]).lost, 1);
        // What was granted before may end later.
        assert_eq!(judge(entry, entry, &[contact(3650)]).lost, 1);
    }

    #[test]
    fn a_refresh_that_is_under_way_may_have_been_done() {
        let entry = bound(100);
        let begun = Entry { registers: 1, ..entry };

        assert_eq!(judge(entry, begun, &[contact(3650)]).broken(), 0);
        assert_eq!(judge(entry, begun, &[contact(3400)]).broken(), 0);
        assert_eq!(judge(entry, begun, &[]).lost, 1);
    }

    #[test]
    fn what_has_run_out_need_not_be_there() {
        let entry =
            Entry { promise: Promise::Bound { from: SECOND, granted: SECOND * 100 }, ..Entry::default() };

        assert_eq!(judge(entry, entry, &[]).broken(), 0);
    }

    #[test]
    fn what_is_under_way_is_not_judged() {
        let entry = bound(100);
        let leaving = Entry { is_leaving: true, ..entry };
        let begun = Entry { removals: 1, ..entry };

        assert_eq!(judge(leaving, leaving, &[]), Verdict { open: 1, ..Verdict::default() });
        assert_eq!(judge(entry, begun, &[]), Verdict { open: 1, ..Verdict::default() });
    }

    #[test]
    fn an_end_that_was_promised_is_one() {
        let gone = Entry { promise: Promise::Gone { from: SECOND * 100 }, ..Entry::default() };
        let registering = Entry { is_registering: true, ..gone };

        assert_eq!(judge(gone, gone, &[]).broken(), 0);
        assert_eq!(judge(gone, gone, &[contact(3500)]).risen, 1);
        assert_eq!(judge(registering, registering, &[contact(3500)]).open, 1);
    }

    #[test]
    fn a_second_binding_and_one_of_nobody_are_strange() {
        let entry = bound(100);
        let nobody = Contact { aor: "alice@example.org".to_owned(), ..contact(3600) };

        assert_eq!(judge(entry, entry, &[contact(3600), contact(3600)]).strange, 1);
        assert_eq!(judge(entry, entry, &[contact(3600), nobody]).strange, 1);
    }

    fn judge(before: Entry, after: Entry, bindings: &[Contact]) -> Verdict {
        let read = (SECOND * 102, SECOND * 103);
        Comparison { before: &[before], after: &[after], read }.judge([0], bindings)
    }

    fn bound(from: u32) -> Entry {
        let promise = Promise::Bound { from: SECOND * from, granted: HOUR };
        Entry { promise, at: SECOND * from, ..Entry::default() }
    }

    fn contact(seconds: u32) -> Contact {
        Contact {
            aor: "user0@example.org".to_owned(),
            contact: "sip:user0@203.0.113.21:5070".to_owned(),
            received: "udp:203.0.113.21:5070".to_owned(),
            expires: SECOND * seconds,
        }
    }
}

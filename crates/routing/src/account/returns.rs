//! Who waits for a phone to register again.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::Instant;
use sip::Aor;

use super::Asker;

/// Requests that wait in one partition. Whoever finds no room, or is pushed out, is not answered, and gives up by its own
/// time limit.
const WAITING_MAX: usize = 16_384;

/// Those who wait, by the address of record whose phone they want.
#[derive(Debug, Default)]
pub(super) struct Returns {
    by_aor: BTreeMap<Aor, Vec<(Asker, Instant)>>,
    count: usize,
}

impl Returns {
    /// Lets somebody wait for as long as this.
    pub(super) fn wait(&mut self, now: Instant, aor: Aor, asker: Asker, time: Duration) {
        if self.count >= WAITING_MAX {
            self.forget_late(now);
        }
        if self.count < WAITING_MAX {
            self.count += 1;
            self.by_aor.entry(aor).or_default().push((asker, now + time));
        }
    }

    /// Takes out all who wait for a phone of this address of record.
    pub(super) fn take(&mut self, aor: &Aor) -> Vec<Asker> {
        let waiting = self.by_aor.remove(aor).unwrap_or_default();
        self.count -= waiting.len();
        waiting.into_iter().map(|(asker, _)| asker).collect()
    }

    fn forget_late(&mut self, now: Instant) {
        self.by_aor.retain(|_, waiting| {
            waiting.retain(|(_, until)| *until > now);
            !waiting.is_empty()
        });
        self.count = self.by_aor.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    #[test]
    fn who_waits_is_found_once_and_makes_room_when_the_time_is_over() {
        let (mut returns, second) = (Returns::default(), Duration::from_secs(1));
        let aor =
            |number: usize| Aor::parse(&format!("user{number}@example.org")).expect("an address of record");
        let asker = |number: usize| Asker { shard: 0, token: Token(number as u64) };
        for number in 0..WAITING_MAX {
            returns.wait(Instant::START, aor(number), asker(number), second);
        }

        returns.wait(Instant::START, aor(0), asker(WAITING_MAX), second);
        assert_eq!(returns.take(&aor(0)), [asker(0)], "there was no room for a second one");
        assert_eq!(returns.take(&aor(0)), []);

        returns.wait(Instant::START, aor(0), asker(0), second);
        returns.wait(Instant::START + second, aor(1), asker(7), second);
        assert_eq!(returns.take(&aor(1)), [asker(7)], "the others are late");
    }
}

//! When the virtual addresses are announced: at once, then with back-off for a minute, then as a refresh; and anew when
//! somebody else claims one (RFC 5227 §2.4, RFC 4861 §7.2.6).

use std::time::Duration;

use clock::Instant;

/// When announcements follow the first one. The first may be lost, or a switch may still be learning.
const FIRST: [u64; 9] = [50, 150, 400, 1_000, 2_500, 6_000, 15_000, 30_000, 60_000];

/// How often a neighbour that has lost its entry is reminded.
const REFRESH_EVERY: Duration = Duration::from_secs(60);

/// RFC 5227 §2.4: a conflict is answered at most so often, or two hosts would announce against each other for ever.
const DEFENCE_EVERY: Duration = Duration::from_millis(200);

/// The announcements of one tenure.
#[derive(Clone, Debug)]
pub struct Announcing {
    began: Instant,
    /// How many of [`FIRST`] are done.
    done: usize,
    next: Instant,
    defended: Option<Instant>,
}

impl Announcing {
    /// Begins; the first announcement is due at once.
    pub fn new(now: Instant) -> Self {
        Self { began: now, done: 0, next: now, defended: None }
    }

    /// Whether an announcement is due; then it is to be sent.
    pub fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.next = match FIRST.get(self.done) {
            Some(after) => (self.began + Duration::from_millis(*after)).max(now + Duration::from_millis(10)),
            None => now + REFRESH_EVERY,
        };
        self.done = self.done.saturating_add(1);
        true
    }

    /// When the next one is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Somebody else claims an address: announce anew, as at the beginning, unless that was done just now. Says whether.
    pub fn conflict(&mut self, now: Instant) -> bool {
        if self.defended.is_some_and(|at| now.since(at) < DEFENCE_EVERY) {
            return false;
        }
        *self = Self { defended: Some(now), ..Self::new(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_announcements_are_made_in_the_first_minute_and_then_one_each_minute() {
        let mut announcing = Announcing::new(Instant::START);
        let mut times = Vec::new();
        while times.len() < 12 {
            let now = announcing.due();
            assert!(announcing.is_due(now));
            times.push(now.since(Instant::START).as_millis() as u64);
        }

        assert_eq!(times, [0, 50, 150, 400, 1_000, 2_500, 6_000, 15_000, 30_000, 60_000, 120_000, 180_000]);
    }

    #[test]
    fn a_claim_by_somebody_else_is_answered_at_once_but_not_without_end() {
        let mut announcing = Announcing::new(Instant::START);
        let later = Instant::START + Duration::from_secs(300);
        while announcing.due() <= later {
            let due = announcing.due();
            announcing.is_due(due);
        }

        assert!(announcing.conflict(later));
        assert!(announcing.is_due(later));
        assert!(!announcing.conflict(later + Duration::from_millis(20)));
        assert!(!announcing.is_due(later + Duration::from_millis(20)), "it was answered just now");
    }
}

//! Which of the last datagrams of a session have come.

/// Datagrams that may come out of order: half a second of heartbeats and votes, and much more.
const WIDTH: u64 = 128;

/// The last [`WIDTH`] numbers of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// One more than the highest number that came.
    next: u64,
    /// The lowest bit is the highest number.
    seen: u128,
}

impl Window {
    /// Whether nothing can be said of this number any more.
    pub(super) fn is_too_old(&self, number: u64) -> bool {
        self.next > WIDTH && number < self.next - WIDTH
    }

    /// Notes a number that was proved; `false` if it came before.
    pub(super) fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            let shift = number - self.next + 1;
            self.seen = if shift >= WIDTH { 0 } else { self.seen << shift };
            self.seen |= 1;
            self.next = number.saturating_add(1);
            return true;
        }
        let back = self.next - 1 - number;
        if back >= WIDTH {
            return false;
        }
        let bit = 1_u128 << back;
        let is_first = self.seen & bit == 0;
        self.seen |= bit;
        is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_taken_once_in_any_order() {
        let mut window = Window::default();
        for number in [0, 3, 1, 2, 200, 150, 100, 74] {
            assert!(!window.is_too_old(number) && window.take(number), "{number}");
            assert!(!window.take(number), "{number} again");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_refused() {
        let mut window = Window::default();
        window.take(1_000);

        assert!(window.is_too_old(1_000 - WIDTH));
        assert!(!window.is_too_old(1_001 - WIDTH));
        assert!(!window.take(1_000 - WIDTH));
    }

    #[test]
    fn a_jump_forgets_what_was_before() {
        let mut window = Window::default();
        window.take(5);
        window.take(5 + WIDTH);

        assert!(window.is_too_old(5));
        assert!(window.take(6));
    }
}

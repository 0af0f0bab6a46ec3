//! How threads are told to end, also those that sleep.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A sign that is set once. Whoever waits for a time wakes when it is set.
#[derive(Debug, Default)]
pub struct Halt {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Halt {
    /// Sets the sign.
    pub fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long, or until it is set; whether it is.
    pub fn is_set_within(&self, time: Duration) -> bool {
        let guard = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(guard, time, |is_set| !*is_set);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_sleeps_wakes_when_it_is_set() {
        let halt = Arc::new(Halt::default());
        let sleeper = Arc::clone(&halt);
        let sleeping = std::thread::spawn(move || sleeper.is_set_within(Duration::from_secs(600)));

        halt.set();

        assert!(sleeping.join().expect("it does not panic"));
        assert!(!Halt::default().is_set_within(Duration::ZERO));
    }
}
